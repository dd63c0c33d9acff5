//! The ledger: what the proxy itself must remember, because cookies arrive late, twice and out of order.
//!
//! [`Ledger`] is one concrete type over a [`Store`]: load a record, [`protocol::step`] it, swap it, again if it moved
//! meanwhile. So the rules exist once, and a store knows none of them. It knows no token either: bodies are sealed
//! under a key that needs the cookie's secret.

#[cfg(test)]
mod contract;
pub mod memory;
pub mod protocol;
pub mod view;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use self::protocol::{Change, Operation, Record};
use self::view::View;
use crate::clock::Timestamp;
use crate::session::SessionId;

/// What a record is filed under.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Key {
    /// One session.
    Session(SessionId),
    /// One thing that may be used once, by its SHA-256: the state of a login.
    Once([u8; 32]),
}

/// A record as a store holds it.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// Its bytes, if there is one.
    pub bytes: Option<Vec<u8>>,
    /// What [`Store::swap`] compares; zero if there is none.
    pub version: u64,
    /// The store's own clock, so that replicas need not agree on theirs.
    pub now: Timestamp,
}

/// A record to be stored.
#[derive(Clone, Debug)]
pub struct Write {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// After this moment it may be forgotten.
    pub keep_until: Timestamp,
    /// What the other replicas have to hear.
    pub change: Option<(SessionId, Change)>,
}

/// What came of a [`Store::swap`].
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Swapped {
    /// The record is stored.
    Done,
    /// Somebody else stored one first; nothing has changed.
    Moved,
}

/// Why a store could not do what it was asked to. Nothing is known about whether a write took place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// It cannot be reached, or did not answer in time.
    #[error("the ledger cannot be reached: {0}")]
    Unreachable(String),
    /// There is no room for another record.
    #[error("the ledger is full ({0} bytes)")]
    Full(usize),
    /// A record cannot be read.
    #[error("the ledger holds a record that cannot be read")]
    Corrupt,
}

/// A back end of the ledger. It compares and swaps bytes and knows no rule.
#[async_trait]
pub trait Store: Send + Sync {
    /// The record under `key`.
    ///
    /// # Errors
    /// If the store cannot be asked.
    async fn load(&self, key: Key) -> Result<Loaded, StoreError>;

    /// Puts `write` in place of the record under `key`, if that still has `version`.
    ///
    /// # Errors
    /// If the store cannot be asked, or does not know whether it has written.
    async fn swap(&self, key: Key, version: u64, write: Write) -> Result<Swapped, StoreError>;
}

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
            let change = after.change_since(&before).map(|change| (session, change));
            let stored = if after == before {
                Swapped::Done
            } else {
                let write = Write { bytes: encode(&after), keep_until: after.keep_until(), change };
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
        let write = Write { bytes: encode(&None::<Vec<u8>>), keep_until, change: None };
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
            let write = Write { bytes: encode(&Some(&result)), keep_until, change: None };
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
