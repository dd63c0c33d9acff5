//! The ledger in memory: for trying out and for tests. A restart forgets it.
//!
//! What is forgotten then: endings (a copied cookie of a session that was signed out works again until its limit),
//! and bodies that no browser has acknowledged (a browser that lost the answer to a refresh has to sign in again).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;

use super::{Key, Loaded, Store, StoreError, Swapped, Write};
use crate::clock::{Clock, Timestamp};

/// A store in this process's memory, bounded by bytes. Nothing is evicted before its time: when it is full, writes
/// are refused and sessions live on with the tokens they have.
pub struct MemoryStore {
    clock: Arc<dyn Clock>,
    max_bytes: usize,
    records: Mutex<Records>,
}

#[derive(Default)]
struct Records {
    by_key: BTreeMap<Key, Stored>,
    by_expiry: BTreeSet<(Timestamp, Key)>,
    bytes: usize,
    /// The last version that was given to a record; none is given twice, so that nobody takes a new record for an old one.
    version: u64,
}

struct Stored {
    bytes: Vec<u8>,
    version: u64,
    keep_until: Timestamp,
}

/// What a record costs beside its own bytes: key, version, expiry and their share of two trees.
const OVERHEAD: usize = 160;

impl MemoryStore {
    /// An empty store that holds `max_bytes` at most.
    pub fn new(clock: Arc<dyn Clock>, max_bytes: usize) -> Self {
        Self { clock, max_bytes, records: Mutex::default() }
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore").field("max_bytes", &self.max_bytes).finish_non_exhaustive()
    }
}

#[async_trait]
impl Store for MemoryStore {
    async fn load(&self, key: Key) -> Result<Loaded, StoreError> {
        let now = self.clock.now();
        let records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        let stored = records.by_key.get(&key).filter(|stored| stored.keep_until > now);
        Ok(Loaded {
            bytes: stored.map(|stored| stored.bytes.clone()),
            version: stored.map_or(0, |stored| stored.version),
            now,
        })
    }

    async fn swap(&self, key: Key, version: u64, write: Write) -> Result<Swapped, StoreError> {
        let now = self.clock.now();
        let mut records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        records.forget(now);
        let present = records.by_key.get(&key).map_or(0, |stored| stored.version);
        if present != version {
            return Ok(Swapped::Moved);
        }
        let released = records.by_key.get(&key).map_or(0, |stored| stored.bytes.len() + OVERHEAD);
        let wanted = records.bytes - released + write.bytes.len() + OVERHEAD;
        if wanted > self.max_bytes && wanted > records.bytes {
            return Err(StoreError::Full(format!("ledger.max_bytes is {}", self.max_bytes)));
        }
        records.remove(key);
        records.version += 1;
        let stored = Stored { bytes: write.bytes, version: records.version, keep_until: write.keep_until };
        records.insert(key, stored);
        Ok(Swapped::Done)
    }
}

impl Records {
    fn forget(&mut self, now: Timestamp) {
        while let Some((_, key)) = self.by_expiry.first().filter(|(keep_until, _)| *keep_until <= now).copied() {
            self.remove(key);
        }
    }

    fn remove(&mut self, key: Key) {
        if let Some(stored) = self.by_key.remove(&key) {
            self.by_expiry.remove(&(stored.keep_until, key));
            self.bytes -= stored.bytes.len() + OVERHEAD;
        }
    }

    fn insert(&mut self, key: Key, stored: Stored) {
        self.bytes += stored.bytes.len() + OVERHEAD;
        self.by_expiry.insert((stored.keep_until, key));
        self.by_key.insert(key, stored);
    }
}

#[cfg(test)]
mod tests {
    use super::super::contract;
    use super::*;
    use crate::clock::ManualClock;

    fn store(max_bytes: usize) -> (Arc<ManualClock>, MemoryStore) {
        let clock = Arc::new(ManualClock::new(Timestamp::from_secs(1_000)));
        (clock.clone(), MemoryStore::new(clock, max_bytes))
    }

    #[tokio::test]
    async fn it_keeps_the_contract_of_a_store() {
        contract::check(|| Arc::new(store(1 << 20).1)).await;
    }

    #[tokio::test]
    async fn what_has_had_its_time_is_gone_and_its_room_free() {
        let (clock, store) = store(300);
        let write = |byte, keep_until| Write {
            bytes: vec![byte; 100],
            keep_until: Timestamp::from_secs(keep_until),
            news: None,
        };
        assert_eq!(store.swap(Key::Once([1; 32]), 0, write(1, 1_010)).await, Ok(Swapped::Done));
        assert_eq!(
            store.swap(Key::Once([2; 32]), 0, write(2, 1_020)).await,
            Err(StoreError::Full("ledger.max_bytes is 300".to_owned()))
        );
        clock.set(Timestamp::from_secs(1_010));
        assert_eq!(store.load(Key::Once([1; 32])).await.expect("loads").bytes, None);
        assert_eq!(store.swap(Key::Once([2; 32]), 0, write(2, 1_020)).await, Ok(Swapped::Done));
    }
}
