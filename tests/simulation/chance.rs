//! Seeded chance: what a run does depends on its seed alone.

use std::cell::Cell;
use std::ops::Range;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use vestibule::secret::Random;

/// SplitMix64: small, and good enough to choose what goes wrong next.
fn next(state: u64) -> (u64, u64) {
    let state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut value = state;
    value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (state, value ^ (value >> 31))
}

/// The dice of one run; clones share them.
#[derive(Clone)]
pub(crate) struct Dice(Rc<Cell<u64>>);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(Rc::new(Cell::new(seed)))
    }

    pub(crate) fn below(&self, bound: u64) -> u64 {
        let (state, value) = next(self.0.get());
        self.0.set(state);
        value % bound
    }

    /// Whether something happens that has so many chances in a hundred.
    pub(crate) fn happens(&self, percent: u64) -> bool {
        self.below(100) < percent
    }

    pub(crate) fn millis(&self, range: Range<u64>) -> Duration {
        Duration::from_millis(range.start + self.below(range.end - range.start))
    }
}

/// Randomness for the gateway: another stream of the same seed, shared between threads by type only.
pub(crate) struct SeededRandom(AtomicU64);

impl SeededRandom {
    pub(crate) fn new(seed: u64) -> Self {
        Self(AtomicU64::new(seed ^ 0x5eed))
    }
}

impl Random for SeededRandom {
    fn fill(&self, buffer: &mut [u8]) {
        for byte in buffer {
            let (state, value) = next(self.0.load(Ordering::Relaxed));
            self.0.store(state, Ordering::Relaxed);
            *byte = value.to_le_bytes()[0];
        }
    }
}
