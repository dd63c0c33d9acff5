//! What the witness is told by the world, the store and the authorization server.

use tokio::time::Instant;
use vestibule::ledger::DEAF;
use vestibule::ledger::protocol::EndReason;
use vestibule::session::SessionId;

use super::facts::Facts;
use super::{Fate, Rotation, TRAVEL, Witness};

/// What the witness is told.
impl Witness {
    /// What has been broken, if anything.
    pub(crate) fn verdict(&self) -> Option<String> {
        self.state().broken.clone()
    }

    pub(crate) fn signed_in(&self, session: SessionId, family: u64, number: u64) {
        let mut state = self.state();
        let lost = state.rolled_back.contains(&session);
        let excuse = lost.then_some("a failover lost the login");
        state.families.entry(family).or_default().excuse = excuse;
        let seen = state.sessions.entry(session).or_default();
        seen.family = family;
        seen.numbers.insert(1, number);
    }

    /// From now on the session may be over.
    pub(crate) fn asked_to_end(&self, session: SessionId, reason: EndReason) {
        if let Some(seen) = self.state().sessions.get_mut(&session) {
            seen.asked_to_end.push(reason);
        }
    }

    /// From now on it must be.
    pub(crate) fn end_acknowledged(&self, session: SessionId) {
        let mut state = self.state();
        let failed_over = state.family_of(session).is_some_and(|family| family.failed_over.is_some());
        // What a failover has lost before it was acknowledged waits for being told again.
        if let Some(seen) = state.sessions.get_mut(&session).filter(|seen| !failed_over || seen.stored_end.is_some()) {
            seen.ended.get_or_insert_with(Instant::now);
        }
    }

    /// A thief presents a cookie of the session. Whether it is older than one that has been settled for long.
    pub(crate) fn stolen(&self, session: SessionId, generation: u64) -> bool {
        let mut state = self.state();
        let Some(seen) = state.sessions.get_mut(&session) else { return false };
        seen.stolen = Some(seen.stolen.map_or(generation, |it| it.min(generation)));
        seen.settled.is_some_and(|(at, settled)| generation < settled && at.elapsed() > DEAF + TRAVEL)
    }

    pub(crate) fn set_clocks_wrong(&self, wrong: bool) {
        self.state().clocks_are_wrong = wrong;
    }

    pub(crate) fn rotated(&self, family: u64, spent: u64, successor: u64, asker: u64) {
        let mut state = self.state();
        let fate = if state.dead.contains(&asker) { Fate::Lost } else { Fate::Travelling };
        let family = state.families.entry(family).or_default();
        if fate == Fate::Lost {
            family.excuse = Some("a crash hid a rotation");
        }
        family.rotations.push(Rotation { spent, successor, asker, fate });
    }

    pub(crate) fn received(&self, family: u64, successor: u64) {
        let mut state = self.state();
        let rotations = &mut state.families.entry(family).or_default().rotations;
        for it in rotations.iter_mut().filter(|it| it.successor == successor && it.fate == Fate::Travelling) {
            it.fate = Fate::Received { commit_failed: false };
        }
    }

    /// The answer with this successor reaches nobody.
    pub(crate) fn lost(&self, family: u64, successor: u64) {
        let mut state = self.state();
        let family = state.families.entry(family).or_default();
        for it in family.rotations.iter_mut().filter(|it| it.successor == successor && it.fate == Fate::Travelling) {
            it.fate = Fate::Lost;
            family.excuse = Some("an answer was lost after the rotation");
        }
    }

    /// The one who asked waits no longer: what is on its way to it reaches nobody.
    pub(crate) fn gave_up(&self, family: u64, asker: u64) {
        let mut state = self.state();
        let family = state.families.entry(family).or_default();
        for it in family.rotations.iter_mut().filter(|it| it.asker == asker && it.fate == Fate::Travelling) {
            it.fate = Fate::Lost;
            family.excuse = Some("an answer came when nobody waited for it any more");
        }
    }

    pub(crate) fn refused(&self, family: u64, number: u64, asker: u64) {
        self.state().refused.insert((family, asker), number);
    }

    pub(crate) fn died(&self, family: u64) {
        self.state().families.entry(family).or_default().dead = true;
    }

    /// A replica is gone, and what it had not committed with it.
    pub(crate) fn crashed(&self, replica: u64) {
        let mut state = self.state();
        state.dead.insert(replica);
        for family in state.families.values_mut() {
            for it in family.rotations.iter_mut().filter(|it| it.asker == replica) {
                match it.fate {
                    Fate::Travelling | Fate::Received { .. } | Fate::Shown => {
                        it.fate = Fate::Lost;
                        family.excuse = Some("a crash between the answer and the commit");
                    }
                    Fate::Committed | Fate::Forgotten | Fate::Lost => {}
                }
            }
        }
    }

    /// The store has failed this replica.
    pub(crate) fn store_failed(&self, session: SessionId, replica: u64) {
        let mut state = self.state();
        let Some(family) = state.family_of(session) else { return };
        for it in family.rotations.iter_mut().filter(|it| it.asker == replica) {
            if it.fate == (Fate::Received { commit_failed: false }) {
                it.fate = Fate::Received { commit_failed: true };
            }
        }
    }

    /// A record has taken the place of another.
    pub(crate) fn stored(&self, session: SessionId, before: Option<&[u8]>, after: &[u8]) {
        let (before, after) = (Facts::of(before), Facts::of(Some(after)));
        self.a_record_never_goes_back(session, before, after);
        if let Some(ending) = after.ending.filter(|_| before.ending.is_none()) {
            self.an_ending_has_a_cause(session, ending);
        }
        let mut state = self.state();
        let Some(seen) = state.sessions.get_mut(&session) else { return };
        if after.ending.is_some() {
            seen.stored_end = after.ending.map(|it| it.reason);
        }
        if after.settled > before.settled {
            seen.settled = Some((Instant::now(), after.settled));
        }
        if after.newest > before.newest {
            seen.newest.push((Instant::now(), after.newest));
        } else if before.has_body || !after.has_body {
            return;
        }
        let (family, known) = (seen.family, seen.numbers.get(&after.newest).copied());
        let rotations = &mut state.families.entry(family).or_default().rotations;
        let mut newest = known;
        for it in rotations.iter_mut() {
            match it.fate {
                Fate::Received { .. } | Fate::Shown => newest = newest.max(Some(it.successor)),
                Fate::Forgotten if Some(it.successor) <= known => {}
                Fate::Travelling | Fate::Committed | Fate::Forgotten | Fate::Lost => continue,
            }
            it.fate = if after.has_body { Fate::Committed } else { Fate::Shown };
        }
        if let (Some(number), Some(seen)) = (newest, state.sessions.get_mut(&session)) {
            seen.numbers.insert(after.newest, number);
        }
    }

    /// A failover has put an earlier record back.
    pub(crate) fn rolled_back(&self, session: SessionId, to: Option<&[u8]>) {
        let facts = Facts::of(to);
        let mut state = self.state();
        state.rolled_back.insert(session);
        let Some(seen) = state.sessions.get_mut(&session) else { return };
        seen.newest.push((Instant::now(), facts.newest));
        if facts.ending.is_none() {
            // Until it is told again.
            seen.ended = None;
            seen.stored_end = None;
        }
        if seen.settled.is_some_and(|(_, settled)| settled > facts.settled) {
            seen.settled = Some((Instant::now(), facts.settled));
        }
        let (family, number) = (seen.family, seen.numbers.get(&facts.newest.max(1)).copied());
        let family = state.families.entry(family).or_default();
        family.excuse = Some("a failover lost an acknowledged write");
        family.failed_over = Some(Instant::now());
        for it in family.rotations.iter_mut().filter(|it| Some(it.successor) > number) {
            if it.fate == Fate::Committed {
                it.fate = Fate::Forgotten;
            }
        }
    }

    /// Whether the session lives, as far as can be demanded; none if nothing can be demanded any more.
    pub(crate) fn must_live(&self, session: SessionId) -> Option<bool> {
        let state = self.state();
        let seen = state.sessions.get(&session)?;
        if seen.ended.is_some() || seen.stored_end.is_some() {
            return Some(false);
        }
        // Who asked for its end and was never answered may have it or not.
        (seen.asked_to_end.is_empty() && !state.is_excused(seen.family)).then_some(true)
    }

    /// Whether an excuse was needed, and whether the family died for it.
    pub(crate) fn losses(&self) -> (u64, u64) {
        let state = self.state();
        let excused = state.families.values().filter(|it| it.excuse.is_some());
        (excused.clone().count() as u64, excused.filter(|it| it.dead).count() as u64)
    }
}
