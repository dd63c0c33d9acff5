//! A store that fails on command, before or after it has done what it was asked to.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use vestibule::clock::Clock;
use vestibule::ledger::memory::MemoryStore;
use vestibule::ledger::{Key, Loaded, Store, StoreError, Swapped, Write};
use vestibule::secret::Random;

use super::chance::SeededRandom;

pub(crate) struct FaultyStore {
    inner: MemoryStore,
    random: SeededRandom,
    /// How many operations in a hundred fail.
    percent: AtomicU64,
}

impl FaultyStore {
    pub(crate) fn new(clock: Arc<dyn Clock>, seed: u64) -> Self {
        let (inner, random) = (MemoryStore::new(clock, 1 << 24), SeededRandom::new(seed ^ 0x0057_03e5));
        Self { inner, random, percent: AtomicU64::new(0) }
    }

    pub(crate) fn fail(&self, percent: u64) {
        self.percent.store(percent, Ordering::Relaxed);
    }

    /// Takes some time, and then perhaps fails.
    async fn trouble(&self) -> Result<(), StoreError> {
        let mut bytes = [0; 2];
        self.random.fill(&mut bytes);
        let [time, luck] = bytes;
        tokio::time::sleep(Duration::from_millis(u64::from(time % 8))).await;
        if u64::from(luck) * 100 / 256 < self.percent.load(Ordering::Relaxed) {
            Err(StoreError::Unreachable("simulated".to_owned()))
        } else {
            Ok(())
        }
    }
}

#[async_trait]
impl Store for FaultyStore {
    async fn load(&self, key: Key) -> Result<Loaded, StoreError> {
        self.trouble().await?;
        self.inner.load(key).await
    }

    async fn swap(&self, key: Key, version: u64, write: Write) -> Result<Swapped, StoreError> {
        self.trouble().await?;
        let swapped = self.inner.swap(key, version, write).await?;
        // Written, and the answer lost.
        self.trouble().await?;
        Ok(swapped)
    }
}
