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

/// Ends the session on behalf of somebody who has no cookie of it. Nobody here can open its body, so that stays where it
/// is, and whoever sees a cookie next has the tokens revoked.
#[derive(Clone, Copy, Debug)]
pub struct EndFromOutside {
    /// Why.
    pub reason: EndReason,
    /// The session's absolute limit.
    pub keep_until: Timestamp,
}

impl Operation for EndFromOutside {
    type Reply = Finished;

    fn apply(&self, record: &mut Record, now: Timestamp) -> Finished {
        record.keep_until = record.keep_until.max(self.keep_until);
        if let Some(ending) = record.ending {
            return Finished::Before(ending);
        }
        let in_flight = record.lease.is_some_and(|lease| lease.until > now);
        if in_flight {
            record.body = None;
        }
        let ending = Ending { reason: self.reason, at: now, newest: record.newest, revoke_on_sight: !in_flight };
        record.ending = Some(ending);
        Finished::Now { ending, newer: None, in_flight }
    }
}

/// Takes over the revocation that an ending has left to whoever sees the newest token.
#[derive(Clone, Copy, Debug)]
pub struct TakeRevocation {
    /// The generation that the caller holds; zero if none.
    pub generation: u64,
}

/// What came of a [`TakeRevocation`].
#[must_use]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It is for this caller to do: with this body, sealed, or with what the caller holds.
    Yes(Option<Vec<u8>>),
    /// There is nothing to do, another has taken it, or neither the caller nor the ledger has the newest token.
    No,
}

impl Operation for TakeRevocation {
    type Reply = Taken;

    fn apply(&self, record: &mut Record, _now: Timestamp) -> Taken {
        match &mut record.ending {
            Some(ending) if ending.revoke_on_sight && (record.body.is_some() || self.generation >= ending.newest) => {
                ending.revoke_on_sight = false;
                Taken::Yes(record.body.take())
            }
            Some(_) | None => Taken::No,
        }
    }
}
