//! The ledger: what the proxy itself must remember, because cookies arrive late, twice and out of order.
//!
//! [`Ledger`] is one concrete type over a [`Store`]: load a record, [`protocol::step`] it, swap it, again if it moved
//! meanwhile. So the rules exist once, and a store knows none of them. It knows no token either: bodies are sealed
//! under a key that needs the cookie's secret.

#[cfg(test)]
mod contract;
pub mod memory;
pub mod protocol;
mod store;
pub mod view;

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use self::protocol::{Operation, Record};
pub use self::store::{Changes, Heard, Key, Loaded, Position, Store, StoreError, Swapped, Write};
use self::view::View;
use crate::clock::Timestamp;
use crate::session::SessionId;

/// What came of [`Ledger::first_use`].
#[must_use]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FirstUse {
    /// Nobody has used it before.
    Yes,
    /// It has been used. The result, if the first user has left one.
    No(Option<Vec<u8>>),
}

/// The rules over a store, and this replica's view of what has moved.
pub struct Ledger {
    store: Arc<dyn Store>,
    view: View,
}

impl fmt::Debug for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ledger").field("view", &self.view).finish_non_exhaustive()
    }
}

impl Ledger {
    /// A ledger over `store`.
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self { store, view: View::default() }
    }

    /// What this replica has heard of.
    pub const fn view(&self) -> &View {
        &self.view
    }

    /// Applies `operation` to the record of `session`.
    ///
    /// # Errors
    /// If the store fails. The operation may have been applied all the same; all operations may be repeated.
    pub async fn apply<O: Operation + Sync>(&self, session: SessionId, operation: &O) -> Result<O::Reply, StoreError> {
        let key = Key::Session(session);
        loop {
            let loaded = self.store.load(key).await?;
            let before: Record = decode(loaded.bytes.as_deref())?;
            let (after, reply) = protocol::step(before.clone(), operation, loaded.now);
            let stored = if after == before {
                Swapped::Done
            } else {
                let write = Write { bytes: encode(&after), keep_until: after.keep_until(), news: None };
                self.store.swap(key, loaded.version, write).await?
            };
            match stored {
                Swapped::Moved => {}
                Swapped::Done => {
                    // All of it, not the change alone: an earlier write may have been done and its answer lost.
                    for change in after.state() {
                        self.view.hear(session, change, after.keep_until());
                    }
                    return Ok(reply);
                }
            }
        }
    }

    /// Notes that the thing named by `hash` is used, until `keep_until`.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn first_use(&self, hash: [u8; 32], keep_until: Timestamp) -> Result<FirstUse, StoreError> {
        let key = Key::Once(hash);
        let loaded = self.store.load(key).await?;
        if let Some(bytes) = loaded.bytes {
            return Ok(FirstUse::No(decode(Some(&bytes))?));
        }
        let write = Write { bytes: encode(&None::<Vec<u8>>), keep_until, news: None };
        Ok(match self.store.swap(key, 0, write).await? {
            Swapped::Done => FirstUse::Yes,
            Swapped::Moved => FirstUse::No(None),
        })
    }

    /// Leaves the result of the first use for those who come later.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn leave(&self, hash: [u8; 32], result: Vec<u8>, keep_until: Timestamp) -> Result<(), StoreError> {
        let key = Key::Once(hash);
        loop {
            let loaded = self.store.load(key).await?;
            let write = Write { bytes: encode(&Some(&result)), keep_until, news: None };
            match self.store.swap(key, loaded.version, write).await? {
                Swapped::Done => return Ok(()),
                Swapped::Moved => {}
            }
        }
    }
}

fn decode<T: Default + for<'de> Deserialize<'de>>(bytes: Option<&[u8]>) -> Result<T, StoreError> {
    bytes.map_or_else(|| Ok(T::default()), |bytes| postcard::from_bytes(bytes).map_err(|_| StoreError::Corrupt))
}

fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    // Serialising plain data into a growing buffer cannot fail; an empty record would read as corrupt, never as absent.
    postcard::to_stdvec(value).unwrap_or_default()
}
