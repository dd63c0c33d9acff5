//! The rules of the ledger as a pure state machine: what one session's [`Record`] becomes when something happens.
//!
//! Nothing here waits, stores or reads a clock; `now` is the store's, and what comes and goes are spans of time, so that
//! replicas need not agree on theirs. [`step`] is the whole interface; the ledger calls it between a load and
//! a swap, the simulation and the exhaustive exploration call it directly. All changes are monotone: the highest
//! generation wins, an ending stays, so that replays and reorderings of writes cannot undo anything.

mod body;
mod ending;
mod newest;
mod refresh;
#[cfg(test)]
mod tests;
mod usage;

use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use self::body::{Deposit, Fetch, Fetched, Reassert};
pub use self::ending::{End, EndFromOutside, Finished, Refuse, TakeRevocation, Taken};
pub use self::newest::{Latest, Newest, Presented};
pub use self::refresh::{Claim, Claimed, Commit, Committed, Outcome, Release, Released, Renew, Renewed};
pub use self::usage::{LastUse, Used};
use crate::clock::Timestamp;

/// What the ledger remembers of one session: only what a cookie cannot carry.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Record {
    /// The newest generation known. Zero: nothing is known yet, the cookie is trusted.
    newest: u64,
    /// The newest generation that is settled: cookies older than it can only be replays.
    settled: u64,
    /// When the browser first presented the newest generation, or later, when an older one was last presented.
    shown: Option<Timestamp>,
    /// The newest body, sealed, until its generation is settled; to the end if it is resident.
    body: Option<Vec<u8>>,
    /// The body lies here and nowhere else: the cookie is only a handle on it.
    resident: bool,
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
    /// When something open last counted as a use of the session. Zero: never.
    used: Timestamp,
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
    /// Until when an answer to what its holder may have sent can come.
    answer_due: Timestamp,
    /// When somebody first found it lapsed. Its holder may live all the same: the clock can have been set.
    doubted: Option<Timestamp>,
}

/// A lease that has lapsed is given away only if its holder does not renew it within this time: twice the interval at
/// which leases are renewed, so that a step of the clock takes no lease from one who is alive.
pub const GRACE: Duration = Duration::from_secs(10);
/// Whether older cookies are still about is noted once in this time.
const NOTED: Duration = Duration::from_secs(5);
/// No lease, rest or pending answer ends later than this from now. One that seems to was noted before the clock was set
/// back.
const HORIZON: Duration = Duration::from_secs(60);

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
    /// The issuer has said that the person signed out there.
    IssuerLogout,
    /// An administrator has ended it.
    Administrator,
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
            Self::IssuerLogout => "issuer_logout",
            Self::Administrator => "administrator",
        }
    }
}

impl Record {
    /// How and when the session ended, if it has.
    pub const fn ending(&self) -> Option<Ending> {
        self.ending
    }

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
            resident: self.resident,
            settled: self.settled,
            fence: self.fence,
            used: self.used,
            keep_until: self.keep_until,
            ..Self::default()
        };
    }

    /// The lease that holds at `now`, or is not proven to have lapsed.
    fn holder(&self, now: Timestamp) -> Option<Lease> {
        self.lease.filter(|lease| lease.until > now || lease.doubted.is_none_or(|since| now.since(since) < GRACE))
    }

    /// An older generation than the newest was presented: its cookie is still about, so the newest is settled later. Noted
    /// now and then only, because it is a write.
    fn show_older(&mut self, now: Timestamp) {
        if self.shown.is_some_and(|since| now.since(since) >= NOTED) {
            self.shown = Some(now);
        }
    }

    /// Whether the newest body is needed: no browser is known to have it.
    const fn keeps_body(&self) -> bool {
        self.resident || self.settled < self.newest
    }

    /// Brings moments that lie further ahead than any can into reach: the clock was set back since they were noted.
    fn settle_clock(&mut self, now: Timestamp) {
        let reach = |moment: &mut Timestamp| *moment = (*moment).min(now + HORIZON);
        if let Some(lease) = &mut self.lease {
            reach(&mut lease.until);
            reach(&mut lease.answer_due);
            lease.doubted = lease.doubted.map(|since| since.min(now));
        }
        self.sent.iter_mut().for_each(reach);
        reach(&mut self.not_before);
        self.shown = self.shown.map(|since| since.min(now));
        self.undetermined_at = self.undetermined_at.min(now);
        self.used = self.used.min(now);
    }

    fn standing_of(&self, generation: u64) -> Newest {
        if let Some(ending) = self.ending {
            Newest::Ended(ending)
        } else if generation >= self.newest {
            Newest::Current
        } else if generation < self.settled && !self.resident {
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
    record.settle_clock(now);
    let reply = operation.apply(&mut record, now);
    (record, reply)
}
