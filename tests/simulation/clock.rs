//! Wall clocks that go with tokio's virtual time, each as wrong as its owner's is.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use tokio::time::Instant;
use vestibule::clock::{Clock, Timestamp};

pub(crate) struct Wall {
    start: Instant,
    /// How far it is ahead of the truth, in milliseconds.
    ahead: AtomicI64,
}

impl Wall {
    pub(crate) fn new(start: Instant) -> Self {
        Self { start, ahead: AtomicI64::new(0) }
    }

    /// Sets the clock ahead of the truth, or behind it.
    pub(crate) fn set_ahead(&self, millis: i64) {
        self.ahead.store(millis, Ordering::Relaxed);
    }
}

impl Clock for Wall {
    fn now(&self) -> Timestamp {
        let since = i64::try_from(self.start.elapsed().as_millis()).unwrap();
        let millis = 1_800_000_000_000 + since + self.ahead.load(Ordering::Relaxed);
        Timestamp::from_millis(millis.unsigned_abs())
    }

    fn uptime(&self) -> Duration {
        self.start.elapsed()
    }
}
