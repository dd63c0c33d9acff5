//! The ledger in memory: for trying out and for tests. A restart forgets it.
//!
//! What is forgotten then: endings (a copied cookie of a session that was signed out works again until its limit),
//! and bodies that no browser has acknowledged (a browser that lost the answer to a refresh has to sign in again).

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;

use super::{Key, Loaded, Store, StoreError, Swapped, Write};
use crate::clock::{Clock, Timestamp};
use crate::session::SessionId;

/// A store in this process's memory, bounded by bytes. Nothing is evicted before its time: when it is full, writes
/// are refused and sessions live on with the tokens they have.
pub struct MemoryStore {
    clock: Arc<dyn Clock>,
    max_bytes: usize,
    bytes: AtomicUsize,
    shards: [Mutex<Shard>; SHARDS],
}

#[derive(Default)]
struct Shard {
    /// Apart from the rest, because there are many and their keys are short.
    sessions: HashMap<SessionId, Stored>,
    others: HashMap<Key, Stored>,
    /// The last version that was given to a record; none is given twice, so that nobody takes a new record for an old one.
    version: u64,
    swept: Timestamp,
}

struct Stored {
    version: u64,
    keep_until: Timestamp,
    bytes: Bytes,
}

/// The record of a settled session is short. It is kept without an allocation of its own.
enum Bytes {
    Short { length: u8, bytes: [u8; SHORT] },
    Long(Box<[u8]>),
}

const SHARDS: usize = 16;
const SHORT: usize = 30;
/// What a record costs beside its own bytes if those are long: its place in a table that is as empty as it gets.
const OVERHEAD: usize = 144;
/// A shard is looked through this often for records whose time is over.
const SWEEP: Duration = Duration::from_secs(60);

impl Bytes {
    fn new(bytes: Vec<u8>) -> Self {
        let mut short = [0; SHORT];
        match (short.get_mut(..bytes.len()), u8::try_from(bytes.len())) {
            (Some(place), Ok(length)) => {
                place.copy_from_slice(&bytes);
                Self::Short { length, bytes: short }
            }
            _ => Self::Long(bytes.into_boxed_slice()),
        }
    }

    fn as_slice(&self) -> &[u8] {
        match self {
            Self::Short { length, bytes } => bytes.get(..usize::from(*length)).unwrap_or_default(),
            Self::Long(bytes) => bytes,
        }
    }

    fn cost(&self) -> usize {
        match self {
            Self::Short { .. } => OVERHEAD,
            Self::Long(bytes) => OVERHEAD + bytes.len(),
        }
    }
}

impl MemoryStore {
    /// An empty store that holds `max_bytes` at most.
    pub fn new(clock: Arc<dyn Clock>, max_bytes: usize) -> Self {
        Self { clock, max_bytes, bytes: AtomicUsize::new(0), shards: std::array::from_fn(|_| Mutex::default()) }
    }

    #[expect(clippy::indexing_slicing, reason = "a byte modulo the number of shards")]
    fn shard(&self, key: Key) -> MutexGuard<'_, Shard> {
        let last = match key {
            Key::Session(id) => {
                let [.., last] = *id.as_bytes();
                last
            }
            Key::Once([.., last]) | Key::Subject([.., last]) | Key::IssuerSession([.., last]) => last,
        };
        self.shards[usize::from(last) % SHARDS].lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sweep(&self, shard: &mut Shard, now: Timestamp) {
        let mut freed = 0;
        let mut lives = |stored: &Stored| {
            let lives = stored.keep_until > now;
            freed += if lives { 0 } else { stored.bytes.cost() };
            lives
        };
        shard.sessions.retain(|_, stored| lives(stored));
        shard.others.retain(|_, stored| lives(stored));
        shard.sessions.shrink_to(shard.sessions.len() * 2);
        shard.others.shrink_to(shard.others.len() * 2);
        shard.swept = now;
        self.bytes.fetch_sub(freed, Ordering::Relaxed);
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
        let shard = self.shard(key);
        let stored = shard.get(key).filter(|stored| stored.keep_until > now);
        Ok(Loaded {
            bytes: stored.map(|stored| stored.bytes.as_slice().to_vec()),
            version: stored.map_or(0, |stored| stored.version),
            now,
        })
    }

    async fn swap(&self, key: Key, version: u64, write: Write) -> Result<Swapped, StoreError> {
        let now = self.clock.now();
        let mut shard = self.shard(key);
        let bytes = Bytes::new(write.bytes);
        // The clock may have been set back since the last time.
        let full = self.bytes.load(Ordering::Relaxed) + bytes.cost() > self.max_bytes;
        if full || now.since(shard.swept) >= SWEEP || now < shard.swept {
            self.sweep(&mut shard, now);
        }
        let present = shard.get(key);
        if present.filter(|stored| stored.keep_until > now).map_or(0, |stored| stored.version) != version {
            return Ok(Swapped::Moved);
        }
        let (freed, wanted) = (present.map_or(0, |stored| stored.bytes.cost()), bytes.cost());
        let room = |taken: usize| taken - freed + wanted <= self.max_bytes;
        // What takes no more room than it frees is written in any case: an ending, above all.
        if wanted > freed && !room(self.bytes.load(Ordering::Relaxed)) {
            return Err(StoreError::Full(format!("ledger.max_bytes is {}", self.max_bytes)));
        }
        self.bytes.fetch_add(wanted, Ordering::Relaxed);
        self.bytes.fetch_sub(freed, Ordering::Relaxed);
        shard.version += 1;
        let stored = Stored { bytes, version: shard.version, keep_until: write.keep_until };
        shard.put(key, stored);
        Ok(Swapped::Done)
    }
}

impl Shard {
    fn get(&self, key: Key) -> Option<&Stored> {
        match key {
            Key::Session(id) => self.sessions.get(&id),
            Key::Once(_) | Key::Subject(_) | Key::IssuerSession(_) => self.others.get(&key),
        }
    }

    fn put(&mut self, key: Key, stored: Stored) {
        match key {
            Key::Session(id) => drop(self.sessions.insert(id, stored)),
            Key::Once(_) | Key::Subject(_) | Key::IssuerSession(_) => drop(self.others.insert(key, stored)),
        }
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

    fn write(length: usize, keep_until: u64) -> Write {
        Write { bytes: vec![7; length], keep_until: Timestamp::from_secs(keep_until), news: None }
    }

    #[tokio::test]
    async fn it_keeps_the_contract_of_a_store() {
        contract::check(|| Arc::new(store(1 << 20).1)).await;
    }

    #[test]
    fn a_settled_session_costs_sixty_four_bytes() {
        assert_eq!(size_of::<(SessionId, Stored)>(), 64);
    }

    #[tokio::test]
    async fn short_and_long_records_come_back_as_they_went() {
        let (_, store) = store(1 << 20);
        for length in [0, 1, SHORT - 1, SHORT, SHORT + 1, 300] {
            let key = Key::Session(SessionId::from_bytes([length as u8; 16]));
            assert_eq!(store.swap(key, 0, write(length, 2_000)).await, Ok(Swapped::Done));
            assert_eq!(store.load(key).await.expect("loads").bytes, Some(vec![7; length]));
        }
    }

    #[tokio::test]
    async fn what_has_had_its_time_is_gone_and_its_room_free() {
        let (clock, store) = store(300);
        let [first, second] = [Key::Once([1; 32]), Key::Once([17; 32])];
        assert_eq!(store.swap(first, 0, write(100, 1_010)).await, Ok(Swapped::Done));
        let full = StoreError::Full("ledger.max_bytes is 300".to_owned());
        assert_eq!(store.swap(second, 0, write(100, 1_099)).await, Err(full));
        clock.set(Timestamp::from_secs(1_010));
        assert_eq!(store.load(first).await.expect("loads").bytes, None);
        assert_eq!(store.swap(second, 0, write(100, 1_099)).await, Ok(Swapped::Done));
    }

    #[tokio::test]
    async fn what_shrinks_is_written_although_all_is_full() {
        let (_, store) = store(300);
        let key = Key::Once([1; 32]);
        assert_eq!(store.swap(key, 0, write(156, 2_000)).await, Ok(Swapped::Done));
        let version = store.load(key).await.expect("loads").version;
        assert_eq!(store.swap(key, version, write(20, 2_000)).await, Ok(Swapped::Done));
    }
}
