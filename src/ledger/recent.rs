//! What this process has written to a shared store lately, to be written once more if the store may have lost it.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::Key;
use super::protocol::Record;
use super::tombstone::Tombstone;
use crate::session::SessionId;

/// By uptime; bounded in time and in number.
#[derive(Default)]
pub(super) struct Recent(Mutex<Written>);

#[derive(Default)]
struct Written {
    sessions: BTreeMap<SessionId, (Duration, Record)>,
    tombstones: BTreeMap<Key, (Duration, Tombstone)>,
    swept: Option<Duration>,
}

/// One thing that was written.
pub(super) enum Lately {
    Session(SessionId, Box<Record>),
    Tombstone(Key, Tombstone),
}

/// A failover takes some ten seconds until it is noticed, and as long until it is done.
const REMEMBERED: Duration = Duration::from_secs(60);
/// At most so many of each kind. Beyond that a failover may lose the rest: of a refresh the browser has a copy.
const MOST: usize = 10_000;

impl Recent {
    pub(super) fn note(&self, session: SessionId, record: Record, now: Duration) {
        let mut written = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        written.sweep(now);
        if written.sessions.len() < MOST {
            written.sessions.insert(session, (now, record));
        }
    }

    pub(super) fn note_tombstone(&self, key: Key, tombstone: Tombstone, now: Duration) {
        let mut written = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        written.sweep(now);
        if written.tombstones.len() < MOST {
            written.tombstones.insert(key, (now, tombstone));
        }
    }

    /// What was written within the time that is remembered.
    pub(super) fn all(&self, now: Duration) -> Vec<Lately> {
        let mut written = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        written.swept = None;
        written.sweep(now);
        let sessions = written.sessions.iter().map(|(id, (_, record))| Lately::Session(*id, Box::new(record.clone())));
        let tombstones = written.tombstones.iter().map(|(key, (_, tombstone))| Lately::Tombstone(*key, *tombstone));
        sessions.chain(tombstones).collect()
    }
}

impl Written {
    /// Forgets what is too old, once in a while.
    fn sweep(&mut self, now: Duration) {
        if self.swept.is_some_and(|swept| now.saturating_sub(swept) < REMEMBERED / 10) {
            return;
        }
        self.swept = Some(now);
        self.sessions.retain(|_, (written, _)| now.saturating_sub(*written) < REMEMBERED);
        self.tombstones.retain(|_, (written, _)| now.saturating_sub(*written) < REMEMBERED);
    }
}
