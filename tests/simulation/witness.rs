//! The invariants of DESIGN section 5, each in one place, held against everything that a life does.
//!
//! The witness sees what no replica sees: what the authorization server has issued, what lies in the store, what each
//! replica sends and what each answer carries. The first broken invariant is kept until the world looks.

mod facts;
mod told;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use http::StatusCode;
use tokio::time::Instant;
use vestibule::ledger::DEAF;
use vestibule::ledger::protocol::{EndReason, Ending};
use vestibule::session::SessionId;

use self::facts::Facts;

/// Beyond [`DEAF`] an ending may travel for so long until a token is on its way.
const TRAVEL: Duration = Duration::from_secs(1);

/// What a failover has lost is told again, and who holds a lease that it has lost is done, within this time.
const UNTIL_REASSERTED: Duration = Duration::from_secs(90);

/// What has become of the successor of a refresh token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// Its answer is on its way.
    Travelling,
    /// A replica has it. `commit_failed`: the store has refused it so far.
    Received { commit_failed: bool },
    /// A cookie that carries it has been presented, before it could be committed.
    Shown,
    /// It is in the ledger.
    Committed,
    /// A failover has dropped it from the ledger.
    Forgotten,
    /// Nobody will ever have it.
    Lost,
}

#[derive(Debug)]
struct Rotation {
    /// The number of the token that was spent, and of the one that came of it.
    spent: u64,
    successor: u64,
    /// The replica that asked.
    asker: u64,
    fate: Fate,
}

#[derive(Debug, Default)]
struct Family {
    rotations: Vec<Rotation>,
    /// Something has happened that may cost the session, by no fault of ours.
    excuse: Option<&'static str>,
    /// When a failover has last lost a write of its session: leases among them, so that two may refresh at once.
    failed_over: Option<Instant>,
    dead: bool,
}

#[derive(Debug, Default)]
struct Seen {
    family: u64,
    /// The newest generation in the store, with all moments at which it grew, and which one is settled since when.
    newest: Vec<(Instant, u64)>,
    settled: Option<(Instant, u64)>,
    /// The number of the refresh token of each generation.
    numbers: BTreeMap<u64, u64>,
    /// Somebody has asked for its end, for these reasons.
    asked_to_end: Vec<EndReason>,
    /// Since when its end is acknowledged.
    ended: Option<Instant>,
    /// The end is in the store.
    stored_end: Option<EndReason>,
    /// The oldest generation that a thief has presented.
    stolen: Option<u64>,
}

#[derive(Default)]
struct State {
    broken: Option<String>,
    families: BTreeMap<u64, Family>,
    sessions: BTreeMap<SessionId, Seen>,
    /// The last token that was refused, by family and replica.
    refused: BTreeMap<(u64, u64), u64>,
    dead: BTreeSet<u64>,
    /// Of which a failover has lost something before anybody could be told of them.
    rolled_back: BTreeSet<SessionId>,
    /// Clocks are so wrong that a token may be used after its time.
    clocks_are_wrong: bool,
}

#[derive(Default)]
pub(crate) struct Witness(Mutex<State>);

impl Family {
    fn has_just_failed_over(&self) -> bool {
        self.failed_over.is_some_and(|at| at.elapsed() < UNTIL_REASSERTED)
    }
}

impl State {
    fn broken(&mut self, invariant: &str, how: &str) {
        self.broken.get_or_insert_with(|| format!("invariant {invariant} is broken: {how}"));
    }

    fn family_of(&mut self, session: SessionId) -> Option<&mut Family> {
        let family = self.sessions.get(&session)?.family;
        self.families.get_mut(&family)
    }

    fn is_excused(&self, family: u64) -> bool {
        self.families.get(&family).is_none_or(|family| family.excuse.is_some())
    }

    fn session_of(&self, family: u64) -> Option<&Seen> {
        self.sessions.values().find(|seen| seen.family == family)
    }
}

/// What the invariants say.
impl Witness {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// (a) A refresh token is never sent after a successor was received and committed, nor while one may be on its way.
    pub(crate) fn a_spent_token_is_never_sent(&self, family: u64, number: u64) {
        let mut state = self.state();
        let found = state.families.entry(family).or_default();
        if found.has_just_failed_over() {
            return;
        }
        let spent = found.rotations.iter().find(|it| {
            it.spent == number
                && match it.fate {
                    Fate::Travelling | Fate::Received { .. } | Fate::Shown | Fate::Committed => true,
                    Fate::Forgotten | Fate::Lost => false,
                }
        });
        if let Some(rotation) = spent {
            let how = format!("token {number} of family {family} is sent although it has been spent: {rotation:?}");
            state.broken("(a)", &how);
        }
    }

    /// (a), the other half: what is used is committed first, or could not be.
    pub(crate) fn what_is_used_is_committed(&self, family: u64, number: u64) {
        let mut state = self.state();
        let early = state.families.get(&family).filter(|family| !family.has_just_failed_over()).is_some_and(|family| {
            let received = Fate::Received { commit_failed: false };
            family.rotations.iter().any(|it| it.successor == number && it.fate == received)
        });
        if early {
            state.broken("(a)", &format!("token {number} of family {family} is used before it is committed"));
        }
    }

    /// (b) Cookies never go back: the head of an answer never carries a cookie older than what the whole world could know,
    /// nor one of a session that has ended.
    pub(crate) fn a_cookie_never_goes_back(&self, session: SessionId, generation: u64) {
        let mut state = self.state();
        let Some(seen) = state.sessions.get(&session) else { return };
        let known = seen.newest.iter().rev().find(|(at, _)| at.elapsed() > DEAF + TRAVEL).map_or(0, |it| it.1);
        // A failover may have taken it back since.
        let newest = seen.newest.last().map_or(0, |it| it.1).min(known);
        let late = seen.ended.is_some_and(|at| at.elapsed() > DEAF + TRAVEL);
        if generation < newest {
            state.broken("(b)", &format!("a cookie of generation {generation} leaves while {newest} is long known"));
        } else if late {
            state.broken("(b)", "a cookie of a session leaves long after its end");
        }
    }

    /// (c) After an ending is acknowledged no replica forwards a token beyond the bound.
    pub(crate) fn an_ended_session_is_not_used(&self, family: u64) {
        let mut state = self.state();
        let ended = state.session_of(family).and_then(|seen| seen.ended);
        if let Some(late) = ended.map(|at| at.elapsed()).filter(|since| *since > DEAF + TRAVEL) {
            state.broken("(c)", &format!("a token of family {family} is used {late:?} after its end"));
        }
    }

    /// (d) While the family lives and the ledger survives, every cookie that is not older than a settled generation is
    /// served: nobody is told to sign in again.
    pub(crate) fn who_is_signed_in_is_served(
        &self,
        shown: Option<SessionId>,
        status: StatusCode,
        forwarded: bool,
        may_wait: bool,
    ) {
        let mut state = self.state();
        let over = shown.is_none_or(|session| {
            let Some(seen) = state.sessions.get(&session) else { return true };
            !seen.asked_to_end.is_empty() || seen.stored_end.is_some() || state.is_excused(seen.family)
        });
        let fits = match status {
            StatusCode::OK => true,
            StatusCode::SERVICE_UNAVAILABLE => may_wait,
            StatusCode::UNAUTHORIZED => over || (forwarded && state.clocks_are_wrong),
            _ => false,
        };
        if !fits {
            let by = if forwarded { "by the upstream" } else { "here" };
            state.broken("(d)", &format!("{status}, answered {by}, for a session that lives"));
        }
    }

    /// (e) A temporary failure never ends a session: each ending in the store has a cause that may end one.
    fn an_ending_has_a_cause(&self, session: SessionId, ending: Ending) {
        let mut state = self.state();
        let Some(seen) = state.sessions.get(&session) else { return };
        let settled = seen.settled.map_or(0, |it| it.1);
        let newest = seen.newest.last().map_or(1, |it| it.1);
        let caused = match ending.reason {
            EndReason::Logout | EndReason::Replaced | EndReason::IssuerLogout => {
                seen.asked_to_end.contains(&ending.reason)
            }
            EndReason::Replayed => seen.stolen.is_some_and(|stolen| stolen < settled),
            // Only for the token of the newest generation, and only if a token was lost by no fault of ours.
            EndReason::Refused => {
                // By an answer to this replica, or by several that said less: to any of them, then.
                let refused =
                    state.refused.iter().filter(|((family, _), _)| *family == seen.family).map(|it| it.1).max();
                let newer = seen.numbers.get(&newest).zip(refused).is_some_and(|(newest, refused)| refused < newest);
                let dead = !seen.asked_to_end.is_empty() || state.is_excused(seen.family);
                refused.is_some() && !newer && dead
            }
            EndReason::Idle | EndReason::Expired | EndReason::Administrator => false,
        };
        if !caused {
            state.broken("(e)", &format!("the session ends without a cause: {ending:?}, settled {settled}"));
        }
    }

    /// (b) in the ledger: the highest generation wins, and an ending stays.
    fn a_record_never_goes_back(&self, session: SessionId, before: Facts, after: Facts) {
        if after.newest < before.newest || after.settled < before.settled {
            let how = format!("the record of {session:?} went from {before:?} to {after:?}");
            self.state().broken("(b)", &how);
        }
        if before.ending.is_some() && after.ending.is_none() {
            self.state().broken("(c)", &format!("the ending of {session:?} is gone from its record"));
        }
    }
}
