//! How a session ends.

use super::{EndReason, Ending, Newest, Operation, Record};
use crate::clock::Timestamp;

/// Ends the session.
#[derive(Clone, Copy, Debug)]
pub struct End {
    /// Why.
    pub reason: EndReason,
    /// The generation that the one who ends it holds; zero if none.
    pub generation: u64,
    /// The session's absolute limit.
    pub keep_until: Timestamp,
}

/// What came of an [`End`].
#[must_use]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finished {
    /// It is over from now on.
    Now {
        /// How it ended.
        ending: Ending,
        /// The newest body, where it is newer than the one at hand.
        newer: Option<Vec<u8>>,
        /// Who revokes its tokens: somebody who is refreshing finds out with the commit and revokes what is newest then,
        /// because the token at hand may be spent by now.
        in_flight: bool,
    },
    /// It was over already.
    Before(Ending),
}

impl Operation for End {
    type Reply = Finished;

    fn apply(&self, record: &mut Record, now: Timestamp) -> Finished {
        record.keep_until = record.keep_until.max(self.keep_until);
        if let Some(ending) = record.ending {
            return Finished::Before(ending);
        }
        let is_newer = self.generation < record.newest;
        let newer = record.body.take().filter(|_| is_newer);
        let in_flight = record.lease.is_some_and(|lease| lease.until > now);
        let revoke_on_sight = is_newer && newer.is_none() && !in_flight;
        let newest = record.newest.max(self.generation);
        let ending = Ending { reason: self.reason, at: now, newest, revoke_on_sight };
        record.ending = Some(ending);
        Finished::Now { ending, newer, in_flight }
    }
}

/// Ends the session because the authorization server has refused its refresh token. A verdict on one token says nothing
/// about its successor.
#[derive(Clone, Copy, Debug)]
pub struct Refuse {
    /// The generation whose token was refused.
    pub generation: u64,
    /// The session's absolute limit.
    pub keep_until: Timestamp,
}

impl Operation for Refuse {
    type Reply = Newest;

    fn apply(&self, record: &mut Record, now: Timestamp) -> Newest {
        match record.standing_of(self.generation) {
            Newest::Current => {
                let end = End { reason: EndReason::Refused, generation: self.generation, keep_until: self.keep_until };
                match end.apply(record, now) {
                    Finished::Now { ending, .. } | Finished::Before(ending) => Newest::Ended(ending),
                }
            }
            moved @ (Newest::Superseded(_) | Newest::Replayed | Newest::Ended(_)) => moved,
        }
    }
}

/// Takes over the revocation that an ending has left to whoever sees the newest token.
#[derive(Clone, Copy, Debug)]
pub struct TakeRevocation;

/// What came of a [`TakeRevocation`].
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It is for this caller to do.
    Yes,
    /// There is nothing to do, or another has taken it.
    No,
}

impl Operation for TakeRevocation {
    type Reply = Taken;

    fn apply(&self, record: &mut Record, _now: Timestamp) -> Taken {
        let marked = record.ending.as_mut().is_some_and(|ending| std::mem::take(&mut ending.revoke_on_sight));
        if marked { Taken::Yes } else { Taken::No }
    }
}
