//! Seeded chance: what a run does depends on its seed alone.

use std::ops::Range;
use std::sync::Arc;
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

/// The dice of one run; clones share them. One thread rolls them, in an order that the seed decides.
#[derive(Clone)]
pub(crate) struct Dice(Arc<AtomicU64>);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        // Seeds that follow each other must not begin alike.
        Self(Arc::new(AtomicU64::new(next(seed).1)))
    }

    pub(crate) fn below(&self, bound: u64) -> u64 {
        let (state, value) = next(self.0.load(Ordering::Relaxed));
        self.0.store(state, Ordering::Relaxed);
        value % bound
    }

    /// Whether something happens that has so many chances in a hundred.
    pub(crate) fn happens(&self, percent: u64) -> bool {
        self.below(100) < percent
    }

    pub(crate) fn millis(&self, range: Range<u64>) -> Duration {
        Duration::from_millis(range.start + self.below(range.end - range.start))
    }

    /// One of them.
    pub(crate) fn pick<T: Copy>(&self, from: &[T]) -> T {
        from[usize::try_from(self.below(from.len() as u64)).unwrap()]
    }
}

/// Randomness for the gateway: another stream of the same seed, shared between threads by type only.
pub(crate) struct SeededRandom(AtomicU64);

impl SeededRandom {
    pub(crate) fn new(seed: u64) -> Self {
        Self(AtomicU64::new(next(seed ^ 0x5eed).1))
    }
}

impl Random for SeededRandom {
    fn fill(&self, buffer: &mut [u8]) {
        for chunk in buffer.chunks_mut(8) {
            let (state, value) = next(self.0.load(Ordering::Relaxed));
            self.0.store(state, Ordering::Relaxed);
            chunk.copy_from_slice(&value.to_le_bytes()[..chunk.len()]);
        }
    }
}
