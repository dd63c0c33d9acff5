//! Uses of a session that no cookie can tell of: a stream that is open sends none.

use std::time::Duration;

use super::{Operation, Record};
use crate::clock::Timestamp;

/// Something of the session is open, which counts as a use.
#[derive(Clone, Copy, Debug)]
pub struct Used {
    /// The session's absolute limit.
    pub keep_until: Timestamp,
}

impl Operation for Used {
    type Reply = ();

    fn apply(&self, record: &mut Record, now: Timestamp) {
        record.keep_until = record.keep_until.max(self.keep_until);
        record.used = record.used.max(now);
    }
}

/// Asks how long ago the last such use was, if there was any.
#[derive(Clone, Copy, Debug)]
pub struct LastUse;

impl Operation for LastUse {
    type Reply = Option<Duration>;

    fn apply(&self, record: &mut Record, now: Timestamp) -> Option<Duration> {
        (record.used > Timestamp::default()).then(|| now.since(record.used))
    }
}
