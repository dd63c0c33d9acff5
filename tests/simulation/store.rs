//! A store that two replicas share, and that fails on command, before or after it has done what it was asked to.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use vestibule::clock::Clock;
use vestibule::ledger::memory::MemoryStore;
use vestibule::ledger::{Changes, Heard, Key, Loaded, Position, Store, StoreError, Swapped, Write};
use vestibule::secret::Random;

use super::chance::SeededRandom;

pub(crate) struct FaultyStore {
    inner: MemoryStore,
    news: Mutex<Vec<Vec<u8>>>,
    written: tokio::sync::Notify,
    random: SeededRandom,
    /// So many calls in a hundred fail.
    percent: AtomicU64,
}

impl FaultyStore {
    pub(crate) fn new(clock: Arc<dyn Clock>, seed: u64) -> Self {
        Self {
            inner: MemoryStore::new(clock, 1 << 24),
            news: Mutex::default(),
            written: tokio::sync::Notify::new(),
            random: SeededRandom::new(seed ^ 0x0057_03e5),
            percent: AtomicU64::new(0),
        }
    }

    pub(crate) fn fail(&self, percent: u64) {
        self.percent.store(percent, Ordering::Relaxed);
    }

    /// Takes some time, so that others come in between, and then perhaps fails.
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
        let news = write.news.clone();
        let swapped = self.inner.swap(key, version, write).await?;
        if swapped == Swapped::Done {
            self.news.lock().unwrap().extend(news);
            self.written.notify_waiters();
        }
        // Written, and the answer lost.
        self.trouble().await?;
        Ok(swapped)
    }

    fn changes(&self) -> Option<&dyn Changes> {
        Some(self)
    }
}

#[async_trait]
impl Changes for FaultyStore {
    async fn after(&self, position: Option<&Position>) -> Result<Heard, StoreError> {
        self.trouble().await?;
        let from = position.map(|Position(bytes)| usize::from_be_bytes(bytes.as_slice().try_into().unwrap()));
        let heard = |from: Option<usize>| {
            let news = self.news.lock().unwrap();
            let position = Position(news.len().to_be_bytes().to_vec());
            Heard { news: news[from.unwrap_or(news.len())..].to_vec(), position, gap: from.is_none() }
        };
        if from.is_none() {
            return Ok(heard(None));
        }
        let written = self.written.notified();
        let now = heard(from);
        if !now.news.is_empty() {
            return Ok(now);
        }
        tokio::time::timeout(Duration::from_secs(1), written).await.ok();
        self.trouble().await?;
        Ok(heard(from))
    }
}
