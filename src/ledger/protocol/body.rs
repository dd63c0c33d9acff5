//! Bodies that lie in the ledger, and writing down again what a store may have lost.

use super::{Ending, Operation, Record};
use crate::clock::Timestamp;

/// Lays the body of a new session down: from here on it lies in the ledger, until the session ends.
#[derive(Clone, Debug)]
pub struct Deposit {
    /// The generation of the body.
    pub generation: u64,
    /// The body, sealed.
    pub body: Vec<u8>,
    /// The session's absolute limit.
    pub keep_until: Timestamp,
}

impl Operation for Deposit {
    type Reply = ();

    fn apply(&self, record: &mut Record, _now: Timestamp) {
        record.keep_until = record.keep_until.max(self.keep_until);
        record.resident = true;
        record.raise(self.generation);
        if self.generation == record.newest && record.ending.is_none() {
            record.body = record.body.take().or_else(|| Some(self.body.clone()));
        }
    }
}

/// Asks for the newest body, by a cookie that has none.
#[derive(Clone, Copy, Debug)]
pub struct Fetch;

/// What came of a [`Fetch`].
#[must_use]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fetched {
    /// The newest body, sealed.
    Body(Vec<u8>),
    /// There is none: the ledger has lost it.
    Missing,
    /// The session is over.
    Ended(Ending),
}

impl Operation for Fetch {
    type Reply = Fetched;

    fn apply(&self, record: &mut Record, _now: Timestamp) -> Fetched {
        match (record.ending, &record.body) {
            (Some(ending), _) => Fetched::Ended(ending),
            (None, Some(body)) => Fetched::Body(body.clone()),
            (None, None) => Fetched::Missing,
        }
    }
}

/// Writes down once more what was written before: the store may have lost it, as a failover of Redis can.
#[derive(Clone, Debug)]
pub struct Reassert(pub Record);

impl Operation for Reassert {
    type Reply = ();

    fn apply(&self, record: &mut Record, _now: Timestamp) {
        let known = &self.0;
        let ending = record.ending.or(known.ending);
        record.keep_until = record.keep_until.max(known.keep_until);
        record.resident |= known.resident;
        record.settled = record.settled.max(known.settled);
        record.fence = record.fence.max(known.fence);
        record.used = record.used.max(known.used);
        if known.newest > record.newest {
            record.advance(known.newest, known.body.clone());
            record.committed_by = known.committed_by;
        } else if known.newest == record.newest && record.keeps_body() {
            record.body = record.body.take().or_else(|| known.body.clone());
        }
        record.ending = ending;
        // A body that was left for whoever sees a cookie of the session goes with its mark.
        if ending.is_some_and(|ending| !ending.revoke_on_sight) {
            record.body = None;
        }
    }
}
