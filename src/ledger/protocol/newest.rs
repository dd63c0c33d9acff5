//! What has become of a session since a cookie was sealed, and that a cookie was seen.

use std::time::Duration;

use super::{Ending, Operation, Record};
use crate::clock::Timestamp;

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

    fn apply(&self, record: &mut Record, now: Timestamp) -> Newest {
        let standing = record.standing_of(self.generation);
        if matches!(standing, Newest::Superseded(_)) {
            record.show_older(now);
        }
        standing
    }
}

/// The browser has presented `generation`.
#[derive(Clone, Copy, Debug)]
pub struct Presented {
    /// The generation that the cookie carries.
    pub generation: u64,
    /// A generation is settled by being shown again this long after its first showing, if no older one was shown within
    /// that time.
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
        if record.settled == record.newest {
            return;
        }
        match record.shown {
            None => record.shown = Some(now),
            Some(first) if now.since(first) >= self.settle => {
                record.settled = record.newest;
                record.shown = None;
                record.body = record.body.take().filter(|_| record.keeps_body());
            }
            Some(_) => {}
        }
    }
}
