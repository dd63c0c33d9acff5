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
    /// The bytes of records that are not short.
    long: HashMap<Key, Box<[u8]>>,
    /// The last version that was given to a record; none is given twice, so that nobody takes a new record for an old one.
    version: u64,
    swept: Timestamp,
}

/// A record. That of a settled session is short and lies here; a million of them are held, so every byte is counted.
struct Stored {
    version: u64,
    /// In seconds since 1970, rounded up.
    keep_until: u32,
    /// Beyond [`SHORT`] the bytes lie elsewhere.
    length: u8,
    bytes: [u8; SHORT],
}

const SHARDS: usize = 16;
const SHORT: usize = 27;
/// What a record costs beside its long bytes: its place in a table that is as empty as it gets.
const OVERHEAD: usize = 128;
/// A shard is looked through this often for records whose time is over.
const SWEEP: Duration = Duration::from_secs(60);

impl Stored {
    fn lives(&self, now: Timestamp) -> bool {
        Timestamp::from_secs(self.keep_until.into()) > now
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
            Key::Once([.., last])
            | Key::Subject([.., last])
            | Key::IssuerSession([.., last])
            | Key::Everyone([.., last])
            | Key::Roster([.., last])
            | Key::Directory([.., last]) => last,
        };
        self.shards[usize::from(last) % SHARDS].lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sweep(&self, shard: &mut Shard, now: Timestamp) {
        let Shard { sessions, others, long, .. } = shard;
        let mut freed = 0;
        let mut keep = |key: Key, stored: &Stored| {
            let lives = stored.lives(now);
            if !lives {
                freed += OVERHEAD + long.remove(&key).map_or(0, |bytes| bytes.len());
            }
            lives
        };
        sessions.retain(|id, stored| keep(Key::Session(*id), stored));
        others.retain(|key, stored| keep(*key, stored));
        sessions.shrink_to(sessions.len() * 2);
        others.shrink_to(others.len() * 2);
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
        let stored = shard.get(key).filter(|stored| stored.lives(now));
        Ok(Loaded {
            bytes: stored.map(|stored| shard.bytes(key, stored).to_vec()),
            version: stored.map_or(0, |stored| stored.version),
            now,
        })
    }

    async fn swap(&self, key: Key, version: u64, write: Write) -> Result<Swapped, StoreError> {
        let now = self.clock.now();
        let mut shard = self.shard(key);
        let wanted = cost(write.bytes.len());
        let taken = || self.bytes.load(Ordering::Relaxed);
        // The clock may have been set back since the last time.
        if taken() + wanted > self.max_bytes || now.since(shard.swept) >= SWEEP || now < shard.swept {
            self.sweep(&mut shard, now);
        }
        let present = shard.get(key);
        if present.filter(|stored| stored.lives(now)).map_or(0, |stored| stored.version) != version {
            return Ok(Swapped::Moved);
        }
        let freed = present.map_or(0, |stored| cost(shard.bytes(key, stored).len()));
        // What takes no more room than it frees is written in any case: an ending, above all.
        if wanted > freed && taken() + wanted - freed > self.max_bytes {
            return Err(StoreError::Full(format!("ledger.max_bytes is {}", self.max_bytes)));
        }
        self.bytes.fetch_add(wanted, Ordering::Relaxed);
        self.bytes.fetch_sub(freed, Ordering::Relaxed);
        shard.put(key, write);
        Ok(Swapped::Done)
    }
}

const fn cost(length: usize) -> usize {
    if length > SHORT { OVERHEAD + length } else { OVERHEAD }
}

impl Shard {
    fn get(&self, key: Key) -> Option<&Stored> {
        match key {
            Key::Session(id) => self.sessions.get(&id),
            Key::Once(_)
            | Key::Subject(_)
            | Key::IssuerSession(_)
            | Key::Everyone(_)
            | Key::Roster(_)
            | Key::Directory(_) => self.others.get(&key),
        }
    }

    fn bytes<'a>(&'a self, key: Key, stored: &'a Stored) -> &'a [u8] {
        let long = || self.long.get(&key).map(AsRef::as_ref);
        stored.bytes.get(..usize::from(stored.length)).or_else(long).unwrap_or_default()
    }

    fn put(&mut self, key: Key, write: Write) {
        self.version += 1;
        let seconds = (write.keep_until + Duration::from_millis(999)).as_secs();
        let keep_until = u32::try_from(seconds).unwrap_or(u32::MAX);
        let mut stored = Stored { version: self.version, keep_until, length: u8::MAX, bytes: [0; SHORT] };
        match (stored.bytes.get_mut(..write.bytes.len()), u8::try_from(write.bytes.len())) {
            (Some(place), Ok(length)) => {
                place.copy_from_slice(&write.bytes);
                stored.length = length;
                self.long.remove(&key);
            }
            _ => drop(self.long.insert(key, write.bytes.into_boxed_slice())),
        }
        match key {
            Key::Session(id) => drop(self.sessions.insert(id, stored)),
            Key::Once(_)
            | Key::Subject(_)
            | Key::IssuerSession(_)
            | Key::Everyone(_)
            | Key::Roster(_)
            | Key::Directory(_) => drop(self.others.insert(key, stored)),
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
    fn a_settled_session_costs_fifty_six_bytes() {
        assert_eq!(size_of::<(SessionId, Stored)>(), 56);
    }

    #[tokio::test]
    async fn short_and_long_records_come_back_as_they_went() {
        let (_, store) = store(1 << 20);
        let key = Key::Session(SessionId::from_bytes([3; 16]));
        for length in [0, 300, SHORT, SHORT + 1, SHORT - 1, 255, 256, 1] {
            let version = store.load(key).await.expect("loads").version;
            assert_eq!(store.swap(key, version, write(length, 2_000)).await, Ok(Swapped::Done));
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
        assert_eq!(store.swap(key, 0, write(170, 2_000)).await, Ok(Swapped::Done));
        let version = store.load(key).await.expect("loads").version;
        assert_eq!(store.swap(key, version, write(20, 2_000)).await, Ok(Swapped::Done));
    }
}
