//! Records that the ledger keeps for others and cannot read, and what it tells of sessions that are not in use here.

use super::protocol::{Ending, Record};
use super::tombstone::Tombstone;
use super::{Key, Ledger, StoreError, Write, decode};
use crate::clock::Timestamp;
use crate::session::SessionId;

impl Ledger {
    /// The sealed bytes under `key`, if there are any.
    ///
    /// # Errors
    /// If the store cannot be asked.
    pub async fn read(&self, key: Key) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.store.load(key).await?.bytes)
    }

    /// Puts in place of the sealed bytes under `key` what `change` makes of them at the store's time, until the moment that
    /// it names; nothing if it says so. It is asked again if somebody came in between.
    ///
    /// # Errors
    /// If the store fails. It may have been written all the same.
    pub async fn amend(
        &self,
        key: Key,
        change: impl Fn(Option<&[u8]>, Timestamp) -> Option<(Vec<u8>, Timestamp)> + Send + Sync,
    ) -> Result<(), StoreError> {
        self.rewrite(key, |loaded| {
            let written = change(loaded.bytes.as_deref(), loaded.now);
            Ok((written.map(|(bytes, keep_until)| Write { bytes, keep_until, news: None }), ()))
        })
        .await
    }

    /// How a session ended by itself, if it has. Tombstones may cover it beside.
    ///
    /// # Errors
    /// If the store cannot be asked.
    pub async fn ending(&self, session: SessionId) -> Result<Option<Ending>, StoreError> {
        let loaded = self.store.load(Key::Session(session)).await?;
        Ok(decode::<Record>(loaded.bytes.as_deref())?.ending())
    }

    /// The tombstone under `key`, if there is one.
    ///
    /// # Errors
    /// If the store cannot be asked.
    pub async fn tombstone_under(&self, key: Key) -> Result<Option<Tombstone>, StoreError> {
        let loaded = self.store.load(key).await?;
        decode(loaded.bytes.as_deref())
    }
}
