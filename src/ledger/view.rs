//! Each replica's bounded local memory of what has moved, so that a request with a good token asks nobody.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use super::protocol::{Change, Ending};
use crate::clock::Timestamp;
use crate::session::SessionId;

/// How a presented cookie stands to what this replica has heard.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Nothing newer is known.
    Current,
    /// There is a newer generation: ask the ledger for it.
    Behind,
    /// The session is over.
    Ended(Ending),
}

/// What a request that presented the newest generation has to have noted in the ledger.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Note {
    /// Nothing.
    None,
    /// That it was presented: for the first time, or again after the settling time.
    Presented,
}

/// What has moved, by session. A session that never moved costs nothing here.
#[derive(Debug, Default)]
pub struct View {
    shards: [RwLock<Shard>; SHARDS],
}

type Shard = HashMap<SessionId, Moved, BuildHasherDefault<IdHasher>>;

#[derive(Debug, Default)]
struct Moved {
    newest: u64,
    settled: bool,
    /// When this replica first saw the newest generation presented, and whether a second sight was noted.
    shown: Option<Timestamp>,
    noted_twice: bool,
    ending: Option<Ending>,
    /// The last request that touched the session here, for the idle limit.
    last_seen: Timestamp,
    keep_until: Timestamp,
}

const SHARDS: usize = 16;

impl View {
    /// How `generation` of `session` stands.
    pub fn standing(&self, session: SessionId, generation: u64) -> Standing {
        self.read(session, |moved| match moved {
            Some(Moved { ending: Some(ending), .. }) => Standing::Ended(*ending),
            Some(moved) if generation < moved.newest => Standing::Behind,
            Some(_) | None => Standing::Current,
        })
    }

    /// When the session was last seen by this replica; the epoch if never.
    pub fn last_seen(&self, session: SessionId) -> Timestamp {
        self.read(session, |moved| moved.map_or_else(Timestamp::default, |moved| moved.last_seen))
    }

    /// Takes a change in, from this replica's own writes or from another's.
    pub fn hear(&self, session: SessionId, change: Change, keep_until: Timestamp) {
        self.write(session, |moved| {
            moved.keep_until = moved.keep_until.max(keep_until);
            match change {
                Change::Advanced(generation) if generation > moved.newest => {
                    *moved = Moved {
                        newest: generation,
                        ending: moved.ending,
                        last_seen: moved.last_seen,
                        keep_until: moved.keep_until,
                        ..Moved::default()
                    };
                }
                Change::Settled(generation) if generation >= moved.newest => moved.settled = true,
                Change::Advanced(_) | Change::Settled(_) => {}
                Change::Ended(ending) => moved.ending = moved.ending.or(Some(ending)),
            }
        });
    }

    /// A request has presented `generation`: at most twice per generation the ledger has to hear of it.
    ///
    /// Sessions that never moved need no settling and are not entered.
    pub fn presented(&self, session: SessionId, generation: u64, settle: Duration, now: Timestamp) -> Note {
        let due = |moved: &Moved| {
            !moved.settled
                && moved.ending.is_none()
                && match moved.shown {
                    _ if generation > moved.newest => true,
                    _ if generation < moved.newest => false,
                    None => true,
                    Some(first) => !moved.noted_twice && now.since(first) >= settle,
                }
        };
        if !self.read(session, |moved| moved.is_some_and(due)) {
            return Note::None;
        }
        self.write(session, |moved| {
            if !due(moved) {
                return Note::None;
            }
            if moved.shown.is_some() {
                moved.noted_twice = true;
            } else {
                moved.shown = Some(now);
            }
            Note::Presented
        })
    }

    /// Whether this request shall slide the idle limit of a session whose cookie says that it was last seen at `seen`:
    /// once per `interval` and session.
    ///
    /// The caller that is told so has to deliver the re-sealed cookie; until the interval has passed no other is asked.
    pub fn slide(
        &self,
        session: SessionId,
        seen: Timestamp,
        interval: Duration,
        keep_until: Timestamp,
        now: Timestamp,
    ) -> bool {
        let due = |last_seen: Timestamp| now.since(last_seen.max(seen)) >= interval;
        due(self.last_seen(session))
            && self.write(session, |moved| {
                let due = due(moved.last_seen);
                if due {
                    moved.last_seen = now;
                    moved.keep_until = moved.keep_until.max(keep_until);
                }
                due
            })
    }

    /// Forgets what nobody can present any more.
    pub fn sweep(&self, now: Timestamp) {
        for shard in &self.shards {
            let mut shard = shard.write().unwrap_or_else(PoisonError::into_inner);
            shard.retain(|_, moved| moved.keep_until > now);
            shard.shrink_to_fit();
        }
    }

    /// Whether nothing has moved yet.
    #[cfg(test)]
    fn is_empty(&self) -> bool {
        self.shards.iter().all(|shard| shard.read().is_ok_and(|shard| shard.is_empty()))
    }

    fn read<T>(&self, session: SessionId, look: impl FnOnce(Option<&Moved>) -> T) -> T {
        look(self.shard(session).read().unwrap_or_else(PoisonError::into_inner).get(&session))
    }

    fn write<T>(&self, session: SessionId, change: impl FnOnce(&mut Moved) -> T) -> T {
        change(self.shard(session).write().unwrap_or_else(PoisonError::into_inner).entry(session).or_default())
    }

    #[expect(clippy::indexing_slicing, reason = "the last byte of an id modulo the number of shards")]
    fn shard(&self, session: SessionId) -> &RwLock<Shard> {
        let [.., last] = session.as_bytes();
        &self.shards[usize::from(*last) % SHARDS]
    }
}

/// Session ids are random already; eight of their bytes are as good a hash as any.
#[derive(Debug, Default)]
struct IdHasher(u64);

impl Hasher for IdHasher {
    fn write(&mut self, bytes: &[u8]) {
        for (slot, byte) in bytes.iter().rev().take(8).enumerate() {
            self.0 ^= u64::from(*byte) << (8 * slot);
        }
    }

    fn write_usize(&mut self, _length: usize) {}

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::super::protocol::EndReason;
    use super::*;

    const SETTLE: Duration = Duration::from_secs(60);
    const LIMIT: Timestamp = Timestamp::from_secs(1_000);

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_secs(100 + seconds)
    }

    fn session() -> SessionId {
        SessionId::from_bytes([7; 16])
    }

    #[test]
    fn a_session_that_never_moved_is_trusted_and_costs_nothing() {
        let view = View::default();
        assert_eq!(view.standing(session(), 3), Standing::Current);
        assert_eq!(view.presented(session(), 3, SETTLE, at(0)), Note::None);
        assert!(view.is_empty());
    }

    #[test]
    fn presenting_the_newest_generation_is_noted_twice_and_no_more() {
        let view = View::default();
        view.hear(session(), Change::Advanced(2), LIMIT);
        assert_eq!(view.standing(session(), 1), Standing::Behind);
        let note = |generation, second| view.presented(session(), generation, SETTLE, at(second));
        assert_eq!(note(1, 0), Note::None);
        assert_eq!(note(2, 1), Note::Presented);
        assert_eq!(note(2, 2), Note::None);
        assert_eq!(note(2, 61), Note::Presented);
        assert_eq!(note(2, 99), Note::None);
        view.hear(session(), Change::Advanced(3), LIMIT);
        assert_eq!(note(3, 100), Note::Presented);
    }

    #[test]
    fn an_ending_stays() {
        let view = View::default();
        let ending = Ending { reason: EndReason::Logout, at: at(0), newest: 9, revoke_on_sight: false };
        view.hear(session(), Change::Ended(ending), LIMIT);
        view.hear(session(), Change::Advanced(9), LIMIT);
        view.hear(session(), Change::Ended(Ending { reason: EndReason::Idle, ..ending }), LIMIT);
        assert_eq!(view.standing(session(), 9), Standing::Ended(ending));
        view.sweep(LIMIT);
        assert!(view.is_empty());
    }

    #[test]
    fn one_request_an_interval_slides_the_idle_limit() {
        let view = View::default();
        let slide = |second| view.slide(session(), at(0), SETTLE, LIMIT, at(second));
        assert!(!slide(59));
        assert!(view.is_empty());
        assert!(slide(60));
        assert!(!slide(61));
        assert_eq!(view.last_seen(session()), at(60));
    }
}
