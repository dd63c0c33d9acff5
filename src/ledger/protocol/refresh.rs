//! The right to spend a refresh token, and what is done with it.

use std::time::Duration;

use super::{Lease, Newest, Operation, Record};
use crate::clock::Timestamp;

/// Asks for the right to spend the refresh token of `generation`.
#[derive(Clone, Debug)]
pub struct Claim {
    /// The generation whose token is to be spent.
    pub generation: u64,
    /// How long the right holds without renewal.
    pub lease: Duration,
    /// How long the answer to what will be sent may take.
    pub deadline: Duration,
    /// The session's absolute limit.
    pub keep_until: Timestamp,
}

/// What came of a [`Claim`].
#[must_use]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claimed {
    /// The right is given.
    Won {
        /// Names this right in [`Renew`], [`Commit`] and [`Release`].
        fence: u64,
        /// An earlier holder may have sent the token already; how long an answer to that may still come.
        sent_before: Option<Duration>,
        /// Attempts in a row that have failed for this generation.
        failures: u32,
    },
    /// Somebody else holds it for that much longer. Zero: it has lapsed, and whether its holder is gone is being found out.
    Busy(Duration),
    /// Not for that much longer: the last attempt failed.
    Resting(Duration),
    /// It is not the newest generation, or the session is over.
    Moved(Newest),
}

/// When a claim that comes before its commit may be repeated.
const AGAIN: Duration = Duration::from_secs(1);

impl Operation for Claim {
    type Reply = Claimed;

    fn apply(&self, record: &mut Record, now: Timestamp) -> Claimed {
        record.keep_until = record.keep_until.max(self.keep_until);
        match record.standing_of(self.generation) {
            Newest::Current => {}
            moved @ (Newest::Ended(_) | Newest::Replayed | Newest::Superseded(_)) => {
                record.show_older(now);
                return Claimed::Moved(moved);
            }
        }
        if record.resident && self.generation > record.newest {
            // The body that is claimed for has not got here yet, and the one that lies here is the only other: whoever has
            // the newer goes on committing it.
            return Claimed::Resting(AGAIN);
        }
        record.raise(self.generation);
        if let Some(holder) = record.holder(now) {
            if let Some(lease) = record.lease.as_mut().filter(|lease| lease.until <= now) {
                lease.doubted = lease.doubted.or(Some(now));
            }
            return Claimed::Busy(holder.until.until(now));
        }
        if record.not_before > now {
            return Claimed::Resting(record.not_before.until(now));
        }
        if let Some(lapsed) = record.lease.take() {
            // Its holder is gone, but what it sent may still be on its way.
            record.sent = record.sent.max(Some(lapsed.answer_due));
        }
        record.fence += 1;
        let (until, answer_due) = (now + self.lease, now + self.deadline);
        record.lease = Some(Lease { fence: record.fence, until, answer_due, doubted: None });
        Claimed::Won {
            fence: record.fence,
            sent_before: record.sent.map(|it| it.until(now)),
            failures: record.failures,
        }
    }
}

/// Prolongs a lease while a slow authorization server is waited for.
#[derive(Clone, Copy, Debug)]
pub struct Renew {
    /// The right that was given.
    pub fence: u64,
    /// How long it shall hold from now.
    pub lease: Duration,
}

/// What came of a [`Renew`].
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renewed {
    /// The right holds on.
    Held,
    /// It has gone to somebody else, or there is nothing left to refresh.
    Lost,
}

impl Operation for Renew {
    type Reply = Renewed;

    fn apply(&self, record: &mut Record, now: Timestamp) -> Renewed {
        match &mut record.lease {
            Some(lease) if lease.fence == self.fence && record.ending.is_none() => {
                lease.until = lease.until.max(now + self.lease);
                lease.doubted = None;
                Renewed::Held
            }
            Some(_) | None => Renewed::Lost,
        }
    }
}

/// Makes a refreshed body the newest one.
#[derive(Clone, Debug)]
pub struct Commit {
    /// The right under which it was refreshed.
    pub fence: u64,
    /// The generation that was refreshed; the body has the next one.
    pub from: u64,
    /// The refresh token was not spent for it: the body has that of `from`, and is worth nothing if somebody else has had the
    /// right to spend it meanwhile.
    pub unspent: bool,
    /// The new body, sealed.
    pub body: Vec<u8>,
    /// The body lies in the ledger from now on, until the session ends.
    pub resident: bool,
    /// The session's absolute limit.
    pub keep_until: Timestamp,
}

/// What came of a [`Commit`].
#[must_use]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Committed {
    /// It is the newest now.
    Done,
    /// Another successor is already there, or the session is over.
    Moved(Newest),
}

impl Operation for Commit {
    type Reply = Committed;

    fn apply(&self, record: &mut Record, _now: Timestamp) -> Committed {
        record.keep_until = record.keep_until.max(self.keep_until);
        if record.ending.is_none() && record.newest == self.from + 1 && record.committed_by == self.fence {
            return Committed::Done;
        }
        if self.unspent && record.ending.is_none() && record.fence != self.fence {
            return Committed::Moved(record.standing_of(self.from));
        }
        // A cookie that was handed out while the store failed was quicker, and has raised the record to the generation of
        // this body. Without the body, older cookies would be left with nothing.
        if record.ending.is_none() && record.newest == self.from + 1 && record.committed_by == 0 {
            record.committed_by = self.fence;
            record.resident |= self.resident;
            record.body = record.keeps_body().then(|| self.body.clone());
            return Committed::Done;
        }
        // Judged by generation and not by lease: a real successor that comes late is still the only one.
        match record.standing_of(self.from) {
            Newest::Current => {}
            moved @ (Newest::Ended(_) | Newest::Replayed | Newest::Superseded(_)) => return Committed::Moved(moved),
        }
        record.advance(self.from + 1, Some(self.body.clone()));
        record.committed_by = self.fence;
        record.resident |= self.resident;
        Committed::Done
    }
}

/// Gives a right back without a new body.
#[derive(Clone, Copy, Debug)]
pub struct Release {
    /// The right that was given.
    pub fence: u64,
    /// What became of the attempt.
    pub outcome: Outcome,
    /// No refresh for this long.
    pub rest: Duration,
}

/// What became of an attempt that brought no new token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The token was not sent, or the server has said that it did nothing: it may be tried again freely.
    NotSpent,
    /// The server gives no token for one API, and did nothing. Nothing is said about any other attempt.
    Denied,
    /// The token was sent and nobody knows what became of it; an answer may come for this much longer.
    Unknown(Duration),
    /// The server answered with something that is neither success nor verdict. Counted if the last one lies at least
    /// this far back.
    Undetermined(Duration),
}

/// What the record counts after a [`Release`].
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Released {
    /// Failures in a row of this generation.
    pub failures: u32,
    /// Answers in a row that were neither success nor verdict.
    pub undetermined: u32,
    /// The session has ended meanwhile: an unspent token is left for this caller to revoke.
    pub ended: bool,
}

impl Operation for Release {
    type Reply = Released;

    fn apply(&self, record: &mut Record, now: Timestamp) -> Released {
        if record.lease.is_some_and(|lease| lease.fence == self.fence) {
            record.lease = None;
            if self.outcome != Outcome::Denied {
                record.failures = record.failures.saturating_add(1);
            }
            record.not_before = now + self.rest;
            match self.outcome {
                Outcome::NotSpent | Outcome::Denied => {}
                Outcome::Unknown(pending) => record.sent = record.sent.max(Some(now + pending)),
                Outcome::Undetermined(apart) => {
                    if record.undetermined == 0 || now.since(record.undetermined_at) >= apart {
                        record.undetermined += 1;
                        record.undetermined_at = now;
                    }
                }
            }
        }
        Released { failures: record.failures, undetermined: record.undetermined, ended: record.ending.is_some() }
    }
}
