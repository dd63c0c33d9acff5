//! The rules of the ledger as a pure state machine: what one session's [`Record`] becomes when something happens.
//!
//! Nothing here waits, stores or reads a clock; `now` is the store's, and what comes and goes are spans of time, so that
//! replicas need not agree on theirs. [`step`] is the whole interface; the ledger calls it between a load and
//! a swap, the simulation and the exhaustive exploration call it directly. All changes are monotone: the highest
//! generation wins, an ending stays, so that replays and reorderings of writes cannot undo anything.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;

/// What the ledger remembers of one session: only what a cookie cannot carry.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Record {
    /// The newest generation known. Zero: nothing is known yet, the cookie is trusted.
    newest: u64,
    /// The newest generation that is settled: cookies older than it can only be replays.
    settled: u64,
    /// When the browser first presented the newest generation.
    shown: Option<Timestamp>,
    /// The newest body, sealed, until its generation is settled.
    body: Option<Vec<u8>>,
    /// Who is refreshing.
    lease: Option<Lease>,
    /// The last fence that was handed out.
    fence: u64,
    /// The fence whose commit made the newest generation, so that a repeated commit is recognised.
    committed_by: u64,
    /// The refresh token of the newest generation may have been sent, and its answer may come until this moment.
    sent: Option<Timestamp>,
    /// No refresh before this moment: the back-off after a failure.
    not_before: Timestamp,
    /// Failures in a row, for the back-off.
    failures: u32,
    /// Answers that were neither success nor verdict, and when the last one was counted.
    undetermined: u32,
    undetermined_at: Timestamp,
    /// The end of the session, if it has ended.
    ending: Option<Ending>,
    /// Until when this record must be kept: the session's absolute limit.
    keep_until: Timestamp,
}

/// The right to spend one refresh token, until it runs out or is given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct Lease {
    fence: u64,
    until: Timestamp,
}

/// How and when a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Ending {
    /// Why.
    pub reason: EndReason,
    /// When, by the ledger's clock.
    pub at: Timestamp,
    /// The newest generation when it ended. A token of an older one is never sent anywhere.
    pub newest: u64,
    /// The newest token was not at hand when the session ended: whoever sees it next has it revoked.
    pub revoke_on_sight: bool,
}

/// Why a session ended. The list is closed: nothing else ends one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndReason {
    /// The person signed out.
    Logout,
    /// The same browser signed in again.
    Replaced,
    /// Nothing was asked for longer than the idle limit.
    Idle,
    /// The absolute limit has passed.
    Expired,
    /// The authorization server refused the newest refresh token.
    Refused,
    /// A cookie was presented that is older than a settled one.
    Replayed,
}

impl EndReason {
    /// The stable name, for problem bodies, logs and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Logout => "logout",
            Self::Replaced => "replaced",
            Self::Idle => "idle",
            Self::Expired => "expired",
            Self::Refused => "refused",
            Self::Replayed => "replayed",
        }
    }
}

impl Record {
    /// Until when the record must be kept.
    pub const fn keep_until(&self) -> Timestamp {
        self.keep_until
    }

    /// What other replicas have to hear when this record has taken the place of `before`.
    pub fn change_since(&self, before: &Self) -> Option<Change> {
        if let Some(ending) = self.ending
            && before.ending.is_none()
        {
            return Some(Change::Ended(ending));
        }
        if self.newest > before.newest {
            return Some(Change::Advanced(self.newest));
        }
        (self.settled > before.settled).then_some(Change::Settled(self.settled))
    }

    /// What a replica that has heard of nothing would have to hear.
    pub fn state(&self) -> impl Iterator<Item = Change> + use<> {
        let advanced = (self.newest > 0).then_some(Change::Advanced(self.newest));
        let settled = (self.settled > 0).then_some(Change::Settled(self.settled));
        advanced.into_iter().chain(settled).chain(self.ending.map(Change::Ended))
    }

    /// A cookie that unsealed is proof of its generation, even if the ledger has forgotten it.
    fn raise(&mut self, generation: u64) {
        if generation > self.newest {
            self.advance(generation, None);
        }
    }

    fn advance(&mut self, generation: u64, body: Option<Vec<u8>>) {
        *self = Self {
            newest: generation,
            body,
            settled: self.settled,
            fence: self.fence,
            keep_until: self.keep_until,
            ..Self::default()
        };
    }

    /// The lease that holds at `now`.
    fn holder(&self, now: Timestamp) -> Option<Lease> {
        self.lease.filter(|lease| lease.until > now)
    }

    fn standing_of(&self, generation: u64) -> Newest {
        if let Some(ending) = self.ending {
            Newest::Ended(ending)
        } else if generation >= self.newest {
            Newest::Current
        } else if generation < self.settled {
            Newest::Replayed
        } else {
            Newest::Superseded(self.body.clone())
        }
    }
}

/// What moved in a session, as the other replicas hear it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change {
    /// There is a newer generation.
    Advanced(u64),
    /// The generation is settled, its body forgotten.
    Settled(u64),
    /// The session is over.
    Ended(Ending),
}

/// Something that happens to a session.
pub trait Operation {
    /// What the one who asked is told.
    type Reply;

    /// Changes `record` as the operation demands at `now`, and says what came of it.
    fn apply(&self, record: &mut Record, now: Timestamp) -> Self::Reply;
}

/// One step of the state machine: what `record` becomes, and the reply.
pub fn step<O: Operation>(mut record: Record, operation: &O, now: Timestamp) -> (Record, O::Reply) {
    let reply = operation.apply(&mut record, now);
    (record, reply)
}

/// Asks for the right to spend the refresh token of `generation`.
#[derive(Clone, Debug)]
pub struct Claim {
    /// The generation whose token is to be spent.
    pub generation: u64,
    /// How long the right holds without renewal.
    pub lease: Duration,
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
    /// Somebody else holds it for that much longer.
    Busy(Duration),
    /// Not for that much longer: the last attempt failed.
    Resting(Duration),
    /// It is not the newest generation, or the session is over.
    Moved(Newest),
}

impl Operation for Claim {
    type Reply = Claimed;

    fn apply(&self, record: &mut Record, now: Timestamp) -> Claimed {
        record.keep_until = record.keep_until.max(self.keep_until);
        match record.standing_of(self.generation) {
            Newest::Current => {}
            moved @ (Newest::Ended(_) | Newest::Replayed | Newest::Superseded(_)) => return Claimed::Moved(moved),
        }
        record.raise(self.generation);
        if let Some(holder) = record.holder(now) {
            return Claimed::Busy(holder.until.until(now));
        }
        if record.not_before > now {
            return Claimed::Resting(record.not_before.until(now));
        }
        if let Some(lapsed) = record.lease.take() {
            // Its holder is gone, but what it sent may still be on its way.
            record.sent = record.sent.max(Some(lapsed.until));
        }
        record.fence += 1;
        record.lease = Some(Lease { fence: record.fence, until: now + self.lease });
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
    /// The new body, sealed.
    pub body: Vec<u8>,
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
        // Judged by generation and not by lease: a real successor that comes late is still the only one.
        match record.standing_of(self.from) {
            Newest::Current => {}
            moved @ (Newest::Ended(_) | Newest::Replayed | Newest::Superseded(_)) => return Committed::Moved(moved),
        }
        record.advance(self.from + 1, Some(self.body.clone()));
        record.committed_by = self.fence;
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
            record.failures = record.failures.saturating_add(1);
            record.not_before = now + self.rest;
            match self.outcome {
                Outcome::NotSpent => {}
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

/// Asks what has become of a session since `generation`.
#[derive(Clone, Copy, Debug)]
pub struct Latest {
    /// The generation that the cookie carries.
    pub generation: u64,
}

/// How a presented generation stands to the newest one.
#[must_use]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Newest {
    /// It is the newest that the ledger knows of.
    Current,
    /// There is a newer one. Without a body the ledger knows that it exists, and no more.
    Superseded(Option<Vec<u8>>),
    /// It is older than a settled one: a copy of a cookie that the browser itself no longer has.
    Replayed,
    /// The session is over.
    Ended(Ending),
}

impl Operation for Latest {
    type Reply = Newest;

    fn apply(&self, record: &mut Record, _now: Timestamp) -> Newest {
        record.standing_of(self.generation)
    }
}

/// The browser has presented `generation`.
#[derive(Clone, Copy, Debug)]
pub struct Presented {
    /// The generation that the cookie carries.
    pub generation: u64,
    /// How long after its first showing a generation is settled by being shown again.
    pub settle: Duration,
    /// The session's absolute limit.
    pub keep_until: Timestamp,
}

impl Operation for Presented {
    type Reply = ();

    fn apply(&self, record: &mut Record, now: Timestamp) {
        if record.ending.is_some() || self.generation < record.newest {
            return;
        }
        record.keep_until = record.keep_until.max(self.keep_until);
        record.raise(self.generation);
        match record.shown {
            None => record.shown = Some(now),
            Some(first) if now.since(first) >= self.settle => {
                record.settled = record.newest;
                record.body = None;
            }
            Some(_) => {}
        }
    }
}

/// Ends the session.
#[derive(Clone, Copy, Debug)]
pub struct End {
    /// Why.
    pub reason: EndReason,
    /// The generation that the one who ends it holds; zero if none.
    pub generation: u64,
    /// End it only if `generation` is the newest: a verdict on one token says nothing about its successor.
    pub only_if_newest: bool,
    /// The session's absolute limit.
    pub keep_until: Timestamp,
}

/// What came of an [`End`].
#[must_use]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finished {
    /// It is over from now on.
    Now {
        /// The newest body, where it is newer than the one at hand.
        newer: Option<Vec<u8>>,
        /// Who revokes its tokens: somebody who is refreshing finds out with the commit and revokes what is newest then,
        /// because the token at hand may be spent by now.
        in_flight: bool,
    },
    /// It was over already.
    Before(Ending),
    /// It goes on: there is a newer generation, and its body unless that is settled.
    Newer(Option<Vec<u8>>),
}

impl Operation for End {
    type Reply = Finished;

    fn apply(&self, record: &mut Record, now: Timestamp) -> Finished {
        record.keep_until = record.keep_until.max(self.keep_until);
        if let Some(ending) = record.ending {
            return Finished::Before(ending);
        }
        let newer = self.generation < record.newest;
        if newer && self.only_if_newest {
            return Finished::Newer(record.body.clone());
        }
        let body = record.body.take().filter(|_| newer);
        let in_flight = record.holder(now).is_some();
        let revoke_on_sight = newer && body.is_none() && !in_flight;
        let newest = record.newest.max(self.generation);
        record.ending = Some(Ending { reason: self.reason, at: now, newest, revoke_on_sight });
        Finished::Now { newer: body, in_flight }
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

#[cfg(test)]
mod tests;
