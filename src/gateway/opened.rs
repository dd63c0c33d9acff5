//! Sessions of the ledger that this process has opened, so that a request with a handle asks nobody.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use crate::session::{Session, SessionId};

/// A bounded memory of opened sessions. Whoever takes one out has to know that it is still the newest.
#[derive(Default)]
pub(super) struct Opened {
    shards: [Mutex<Shard>; SHARDS],
}

/// Two generations of entries: when the young ones have filled their half, they become the old, and the old are
/// forgotten. What is used becomes young again.
#[derive(Default)]
struct Shard {
    young: HashMap<SessionId, Arc<Session>>,
    young_bytes: usize,
    old: HashMap<SessionId, Arc<Session>>,
}

const SHARDS: usize = 16;
/// The most that all of it takes, in bytes, roughly.
const MOST: usize = 32 << 20;

impl fmt::Debug for Opened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opened").finish_non_exhaustive()
    }
}

impl Opened {
    /// The session, if it is here and at least as new as `generation`.
    pub(super) fn get(&self, id: SessionId, generation: u64) -> Option<Arc<Session>> {
        let mut shard = self.shard(id);
        if let Some(session) = shard.young.get(&id) {
            return (session.generation >= generation).then(|| Arc::clone(session));
        }
        let session = shard.old.remove(&id)?;
        shard.put(Arc::clone(&session));
        (session.generation >= generation).then_some(session)
    }

    /// Keeps `session`, unless a newer one is here.
    pub(super) fn put(&self, session: &Arc<Session>) {
        let mut shard = self.shard(session.id);
        let newer = |known: &Arc<Session>| known.generation > session.generation;
        if !shard.young.get(&session.id).is_some_and(newer) {
            shard.put(Arc::clone(session));
        }
    }

    /// Forgets a session that is over.
    pub(super) fn forget(&self, id: SessionId) {
        let mut shard = self.shard(id);
        shard.old.remove(&id);
        if let Some(session) = shard.young.remove(&id) {
            shard.young_bytes = shard.young_bytes.saturating_sub(session.size());
        }
    }

    #[expect(clippy::indexing_slicing, reason = "the last byte of an id modulo the number of shards")]
    fn shard(&self, id: SessionId) -> std::sync::MutexGuard<'_, Shard> {
        let [.., last] = id.as_bytes();
        self.shards[usize::from(*last) % SHARDS].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shard {
    fn put(&mut self, session: Arc<Session>) {
        let size = session.size();
        if self.young_bytes + size > MOST / SHARDS / 2 {
            self.old = std::mem::take(&mut self.young);
            self.young_bytes = 0;
        }
        self.young_bytes += size;
        if let Some(replaced) = self.young.insert(session.id, session) {
            self.young_bytes = self.young_bytes.saturating_sub(replaced.size());
        }
    }
}
