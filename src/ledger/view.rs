//! Each replica's bounded local memory of the sessions in use here, so that a request with a good token asks nobody.
//!
//! A session is *known* once its record was read after this replica began to hear of the others' writes: from then on
//! everything that happens to it is heard of. A gap in the news makes all sessions unknown again, and so does not being
//! used here for a while: then it is forgotten, and its next request asks the ledger once.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use super::Key;
use super::protocol::{Change, Ending};
use super::tombstone::{Lineage, Tombstone};
use super::watches::{Watch, Watches};
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
    /// This replica knows too little: ask the ledger.
    Unknown,
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

/// A moment of this process, in seconds since some time long before it began. No step of the wall clock moves it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(u32);

/// When processes begin. Zero stands for no moment at all.
const BEGINNING: u64 = 1 << 30;

impl Moment {
    /// The moment that lies `uptime` after the process began.
    pub fn new(uptime: Duration) -> Self {
        Self(u32::try_from(uptime.as_secs().saturating_add(BEGINNING)).unwrap_or(u32::MAX))
    }

    fn since(self, earlier: Self) -> Duration {
        Duration::from_secs(self.0.saturating_sub(earlier.0).into())
    }

    fn before(self, by: Duration) -> Self {
        Self(self.0.saturating_sub(u32::try_from(by.as_secs()).unwrap_or(u32::MAX)).max(1))
    }

    const fn is_set(self) -> bool {
        self.0 > 0
    }
}

/// What has moved, by session.
#[derive(Debug)]
pub struct View {
    shards: [RwLock<Shard>; SHARDS],
    /// Which stretch of unbroken news this is. Sessions that were read in an earlier one are unknown.
    stretch: AtomicU32,
    tombstones: RwLock<HashMap<Key, Tombstone>>,
    /// How many there are: mostly none, and then no request looks.
    buried: AtomicUsize,
    watches: Arc<Watches>,
}

#[derive(Debug, Default)]
struct Shard {
    sessions: HashMap<SessionId, Moved, BuildHasherDefault<IdHasher>>,
    /// Beside the table, because most sessions have not ended.
    endings: HashMap<SessionId, Ending, BuildHasherDefault<IdHasher>>,
}

/// One session. A million of them are held, so every byte is counted: 32 with the id before it.
#[derive(Debug, Default)]
struct Moved {
    newest: u64,
    /// The stretch of news in which the record was read.
    known: u32,
    /// When the ledger last heard from this replica that the newest generation was presented.
    shown: Moment,
    /// The last use here that was noted, for the idle limit; and the last that slid it.
    used: Moment,
    slid: Moment,
    /// In seconds since 1970, rounded up.
    keep_until: u32,
    settled: bool,
    ended: bool,
}

const SHARDS: usize = 16;
/// A session that is not used here for so long is forgotten. A use is noted at most once a minute.
const REST: Duration = Duration::from_secs(600);

impl Default for View {
    fn default() -> Self {
        Self {
            shards: std::array::from_fn(|_| RwLock::default()),
            stretch: AtomicU32::new(1),
            tombstones: RwLock::default(),
            buried: AtomicUsize::new(0),
            watches: Arc::default(),
        }
    }
}

impl View {
    /// How `generation` of `session` stands.
    pub fn standing(&self, session: SessionId, generation: u64) -> Standing {
        let shard = self.shard(session).read().unwrap_or_else(PoisonError::into_inner);
        let Some(moved) = shard.sessions.get(&session) else { return Standing::Unknown };
        if moved.ended
            && let Some(ending) = shard.endings.get(&session)
        {
            return Standing::Ended(*ending);
        }
        if moved.known != self.stretch() {
            Standing::Unknown
        } else if generation < moved.newest {
            Standing::Behind
        } else {
            Standing::Current
        }
    }

    /// The newest generation that was heard of; zero if none.
    pub fn newest(&self, session: SessionId) -> u64 {
        self.read(session, |moved| moved.map_or(0, |moved| moved.newest))
    }

    /// The tombstone that covers a session of this lineage. Only a known session can rely on hearing of it here.
    pub fn tombstone(&self, lineage: impl FnOnce() -> Lineage) -> Option<Tombstone> {
        if self.buried.load(Ordering::Acquire) == 0 {
            return None;
        }
        let lineage = lineage();
        let tombstones = self.tombstones.read().unwrap_or_else(PoisonError::into_inner);
        let mut found = lineage.keys().filter_map(|key| tombstones.get(&key));
        found.find(|tombstone| lineage.issued_at <= tombstone.issued_until).copied()
    }

    /// The present stretch of unbroken news.
    pub fn stretch(&self) -> u32 {
        self.stretch.load(Ordering::Acquire)
    }

    /// Something may have been missed: every session has to be asked for again.
    pub fn forget_what_is_known(&self) {
        self.stretch.fetch_add(1, Ordering::AcqRel);
        self.watches.stir_all();
    }

    /// Watches for whatever is heard of `session`, which is of this lineage, and for gaps in the news.
    pub fn watch(&self, session: SessionId, lineage: &Lineage) -> Watch {
        self.watches.watch(lineage.keys().chain([Key::Session(session)]))
    }

    /// `session` is about to be read: whatever is heard of it from now on has to be remembered.
    pub fn expect(&self, session: SessionId, now: Moment) {
        self.write(session, |moved| {
            if !moved.used.is_set() {
                moved.used = now;
            }
        });
    }

    /// All that is stored of `session` was read during `stretch`, and after it was [expected](Self::expect). By what its
    /// cookie says, it has not been used for `unused`.
    pub fn know(&self, session: SessionId, stretch: u32, unused: Duration, keep_until: Timestamp, now: Moment) {
        let mut shard = self.shard(session).write().unwrap_or_else(PoisonError::into_inner);
        // If it was forgotten meanwhile, something may have been missed: the next request reads it again.
        if let Some(moved) = shard.sessions.get_mut(&session) {
            if moved.known == 0 {
                moved.used = now.before(unused);
            }
            moved.known = stretch;
            moved.keep(keep_until);
        }
    }

    /// Takes a change in, from this replica's own writes or from another's. Of a session that is not in use here nothing
    /// is remembered.
    pub fn hear(&self, session: SessionId, change: Change, keep_until: Timestamp) {
        self.remember(session, change, keep_until);
        self.watches.stir(&Key::Session(session));
    }

    fn remember(&self, session: SessionId, change: Change, keep_until: Timestamp) {
        let mut shard = self.shard(session).write().unwrap_or_else(PoisonError::into_inner);
        let Shard { sessions, endings } = &mut *shard;
        let Some(moved) = sessions.get_mut(&session) else { return };
        moved.keep(keep_until);
        match change {
            Change::Advanced(generation) if generation > moved.newest => {
                *moved = Moved { newest: generation, shown: Moment::default(), settled: false, ..*moved };
            }
            Change::Settled(generation) if generation >= moved.newest => moved.settled = true,
            Change::Advanced(_) | Change::Settled(_) => {}
            Change::Ended(ending) => {
                moved.ended = true;
                endings.entry(session).or_insert(ending);
            }
        }
    }

    /// Takes a tombstone in.
    pub fn bury(&self, key: Key, tombstone: Tombstone) {
        let mut tombstones = self.tombstones.write().unwrap_or_else(PoisonError::into_inner);
        tombstones.entry(key).and_modify(|known| *known = known.merged(tombstone)).or_insert(tombstone);
        self.buried.store(tombstones.len(), Ordering::Release);
        drop(tombstones);
        self.watches.stir(&key);
    }

    /// A request has presented `generation`. Until that is settled the ledger has to hear of it: the first time, and again
    /// when the settling time has passed. Sessions that never moved need no settling.
    pub fn presented(&self, session: SessionId, generation: u64, settle: Duration, now: Moment) -> Note {
        let due = |moved: &Moved| {
            moved.newest > 0
                && !moved.settled
                && !moved.ended
                && generation >= moved.newest
                && (generation > moved.newest || !moved.shown.is_set() || now.since(moved.shown) >= settle)
        };
        if !self.read(session, |moved| moved.is_some_and(due)) {
            return Note::None;
        }
        self.write(session, |moved| {
            if !due(moved) {
                return Note::None;
            }
            moved.shown = now;
            Note::Presented
        })
    }

    /// How long ago this replica last noted a use of the session, if it ever did.
    pub fn unseen_for(&self, session: SessionId, now: Moment) -> Option<Duration> {
        self.read(session, |moved| moved.map(|moved| now.since(moved.used)))
    }

    /// The session is in use here, although no request says so.
    pub fn touch(&self, session: SessionId, now: Moment) {
        self.write(session, |moved| moved.used = now);
    }

    /// Whether this request shall slide the idle limit of a session whose cookie knows of no use for `unused`:
    /// once per `interval` and session.
    ///
    /// The caller that is told so has to deliver the re-sealed cookie; until the interval has passed no other is asked.
    pub fn slide(
        &self,
        session: SessionId,
        unused: Duration,
        interval: Duration,
        keep_until: Timestamp,
        now: Moment,
    ) -> bool {
        let due = |moved: &Moved| !moved.slid.is_set() || now.since(moved.slid) >= interval;
        unused >= interval
            && self.read(session, |moved| moved.is_some_and(due))
            && self.write(session, |moved| {
                let due = due(moved);
                if due {
                    moved.slid = now;
                    moved.used = now;
                    moved.keep(keep_until);
                }
                due
            })
    }

    /// Forgets sessions that are over by their limit or have not been used here lately.
    pub fn sweep(&self, now: Timestamp, uptime: Moment) {
        for shard in &self.shards {
            let mut shard = shard.write().unwrap_or_else(PoisonError::into_inner);
            let Shard { sessions, endings } = &mut *shard;
            sessions.retain(|session, moved| {
                let is_in_use = uptime.since(moved.used) < REST || self.watches.has(&Key::Session(*session));
                is_in_use && Timestamp::from_secs(moved.keep_until.into()) > now
            });
            endings.retain(|session, _| sessions.contains_key(session));
            sessions.shrink_to_fit();
            endings.shrink_to_fit();
        }
        let mut tombstones = self.tombstones.write().unwrap_or_else(PoisonError::into_inner);
        tombstones.retain(|_, tombstone| tombstone.keep_until > now);
        self.buried.store(tombstones.len(), Ordering::Release);
    }

    fn read<T>(&self, session: SessionId, look: impl FnOnce(Option<&Moved>) -> T) -> T {
        look(self.shard(session).read().unwrap_or_else(PoisonError::into_inner).sessions.get(&session))
    }

    fn write<T>(&self, session: SessionId, change: impl FnOnce(&mut Moved) -> T) -> T {
        let mut shard = self.shard(session).write().unwrap_or_else(PoisonError::into_inner);
        change(shard.sessions.entry(session).or_default())
    }

    #[expect(clippy::indexing_slicing, reason = "the last byte of an id modulo the number of shards")]
    fn shard(&self, session: SessionId) -> &RwLock<Shard> {
        let [.., last] = session.as_bytes();
        &self.shards[usize::from(*last) % SHARDS]
    }
}

impl Moved {
    fn keep(&mut self, until: Timestamp) {
        let seconds = (until + Duration::from_millis(999)).as_secs();
        self.keep_until = self.keep_until.max(u32::try_from(seconds).unwrap_or(u32::MAX));
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

    fn at(seconds: u64) -> Moment {
        Moment::new(Duration::from_secs(seconds))
    }

    fn session() -> SessionId {
        SessionId::from_bytes([7; 16])
    }

    fn knowing() -> View {
        let view = View::default();
        view.expect(session(), at(0));
        view.know(session(), view.stretch(), Duration::ZERO, LIMIT, at(0));
        view
    }

    #[test]
    fn a_session_costs_forty_eight_bytes() {
        assert_eq!(size_of::<(SessionId, Moved)>(), 48);
    }

    #[test]
    fn a_session_is_asked_for_once_and_again_after_a_gap() {
        let view = View::default();
        assert_eq!(view.standing(session(), 3), Standing::Unknown);
        view.expect(session(), at(0));
        assert_eq!(view.standing(session(), 3), Standing::Unknown);
        view.know(session(), view.stretch(), Duration::ZERO, LIMIT, at(0));
        assert_eq!(view.standing(session(), 3), Standing::Current);
        view.forget_what_is_known();
        assert_eq!(view.standing(session(), 3), Standing::Unknown);
        // What was read before the gap says nothing about after it.
        view.know(session(), view.stretch() - 1, Duration::ZERO, LIMIT, at(0));
        assert_eq!(view.standing(session(), 3), Standing::Unknown);
    }

    #[test]
    fn presenting_the_newest_generation_is_noted_until_it_is_settled() {
        let view = knowing();
        view.hear(session(), Change::Advanced(2), LIMIT);
        assert_eq!(view.standing(session(), 1), Standing::Behind);
        let note = |generation, second| view.presented(session(), generation, SETTLE, at(second));
        assert_eq!(note(1, 0), Note::None);
        assert_eq!(note(2, 1), Note::Presented);
        assert_eq!(note(2, 2), Note::None);
        // The second showing settles it, unless an older cookie has turned up meanwhile.
        assert_eq!(note(2, 61), Note::Presented);
        assert_eq!(note(2, 99), Note::None);
        assert_eq!(note(2, 121), Note::Presented);
        view.hear(session(), Change::Settled(2), LIMIT);
        assert_eq!(note(2, 999), Note::None);
        view.hear(session(), Change::Advanced(3), LIMIT);
        assert_eq!(note(3, 999), Note::Presented);
    }

    #[test]
    fn an_ending_stays_through_gaps_until_nobody_can_present_the_session() {
        let view = knowing();
        let ended = Timestamp::from_secs(100);
        let ending = Ending { reason: EndReason::Logout, at: ended, newest: 9, revoke_on_sight: false };
        view.hear(session(), Change::Ended(ending), LIMIT);
        view.hear(session(), Change::Advanced(9), LIMIT);
        view.hear(session(), Change::Ended(Ending { reason: EndReason::Idle, ..ending }), LIMIT);
        view.forget_what_is_known();
        assert_eq!(view.standing(session(), 9), Standing::Ended(ending));
        view.sweep(LIMIT, at(0));
        assert_eq!(view.standing(session(), 9), Standing::Unknown);
    }

    #[test]
    fn what_is_heard_while_a_session_is_being_read_is_not_missed() {
        let view = View::default();
        view.expect(session(), at(0));
        view.hear(session(), Change::Advanced(2), LIMIT);
        view.know(session(), view.stretch(), Duration::ZERO, LIMIT, at(0));
        assert_eq!(view.standing(session(), 1), Standing::Behind);
    }

    #[test]
    fn a_session_that_is_not_in_use_here_costs_nothing_and_is_read_again() {
        let view = View::default();
        view.hear(session(), Change::Advanced(2), LIMIT);
        assert_eq!((view.standing(session(), 2), view.newest(session())), (Standing::Unknown, 0));

        let view = knowing();
        view.sweep(Timestamp::default(), at(599));
        assert_eq!(view.standing(session(), 2), Standing::Current);
        view.sweep(Timestamp::default(), at(600));
        assert_eq!(view.standing(session(), 2), Standing::Unknown);
        // Forgotten while it was being read: what was heard meanwhile is not known.
        view.know(session(), view.stretch(), Duration::ZERO, LIMIT, at(600));
        assert_eq!(view.standing(session(), 2), Standing::Unknown);
    }

    #[test]
    fn a_tombstone_covers_what_was_issued_until_its_moment() {
        let view = View::default();
        let (ada, sid) = (Key::subject("https://as.test", "ada"), Key::issuer_session("https://as.test", "s1"));
        let everyone = Key::everyone("https://as.test");
        let lineage = |issued_at| Lineage {
            subject: Some(ada),
            any_tenant: None,
            issuer_session: Some(sid),
            everyone,
            issued_at: Timestamp::from_secs(issued_at),
        };
        assert_eq!(view.tombstone(|| lineage(1)), None);
        let tombstone =
            Tombstone { reason: EndReason::Logout, issued_until: Timestamp::from_secs(50), keep_until: LIMIT };
        view.bury(sid, tombstone);
        assert_eq!(view.tombstone(|| lineage(50)), Some(tombstone));
        assert_eq!(view.tombstone(|| lineage(51)), None);
        view.sweep(LIMIT, at(0));
        assert_eq!(view.tombstone(|| lineage(50)), None);
        view.bury(everyone, tombstone);
        assert_eq!(view.tombstone(|| lineage(50)), Some(tombstone));
    }

    #[test]
    fn reading_a_session_is_not_using_it() {
        let view = View::default();
        view.expect(session(), at(0));
        view.know(session(), view.stretch(), Duration::from_secs(3000), LIMIT, at(0));
        assert_eq!(view.unseen_for(session(), at(5)), Some(Duration::from_secs(3005)));
        // Read again after a gap: what was noted here meanwhile counts, whatever the cookie says.
        assert!(view.slide(session(), SETTLE, SETTLE, LIMIT, at(10)));
        view.forget_what_is_known();
        view.expect(session(), at(20));
        view.know(session(), view.stretch(), Duration::from_secs(3000), LIMIT, at(20));
        assert_eq!(view.unseen_for(session(), at(20)), Some(Duration::from_secs(10)));
    }

    #[test]
    fn one_request_an_interval_slides_the_idle_limit() {
        let view = knowing();
        let slide = |second| view.slide(session(), Duration::from_secs(second), SETTLE, LIMIT, at(second));
        assert!(!slide(59));
        assert!(slide(60));
        assert!(!slide(61));
        assert_eq!(view.unseen_for(session(), at(75)), Some(Duration::from_secs(15)));
        // The re-sealed cookie did not arrive: another request is asked a minute later.
        assert!(slide(120));
    }
}
