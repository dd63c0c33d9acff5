//! A store that the replicas share. Each has its own line to it, which is slow, fails before or after the store has done
//! what it was asked to, or is cut; the store itself fails over and forgets what it has acknowledged last.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};
use vestibule::clock::Clock;
use vestibule::ledger::protocol::Record;
use vestibule::ledger::{Changes, Heard, Key, Loaded, Position, Store, StoreError, Swapped, Write};

use super::chance::Dice;
use super::clock::Wall;
use super::life::Life;
use super::witness::Witness;

pub(crate) struct SharedStore {
    pub(crate) wall: Wall,
    witness: Arc<Witness>,
    state: Mutex<State>,
    written: Notify,
    /// So many calls in a hundred fail, and are slow.
    percent: AtomicU64,
}

#[derive(Default)]
struct State {
    records: BTreeMap<Key, Stored>,
    /// None is given twice.
    version: u64,
    /// What each write replaced, for a failover to undo.
    log: Vec<(Instant, Key, Option<Stored>)>,
    news: Vec<(Instant, Vec<u8>)>,
    /// Counts failovers: a position of an earlier one is no longer understood.
    era: u64,
}

#[derive(Clone)]
struct Stored {
    bytes: Vec<u8>,
    version: u64,
}

impl SharedStore {
    pub(crate) fn new(wall: Wall, witness: Arc<Witness>) -> Arc<Self> {
        let (state, written, percent) = (Mutex::default(), Notify::new(), AtomicU64::new(0));
        Arc::new(Self { wall, witness, state, written, percent })
    }

    pub(crate) fn fail(&self, percent: u64) {
        self.percent.store(percent, Ordering::Relaxed);
    }

    /// Another takes over that has not got the writes of the last moments.
    pub(crate) fn fail_over(&self, lag: Duration) {
        let mut state = self.state();
        let mut touched = BTreeMap::new();
        while let Some((_, key, before)) = state.log.pop_if(|(at, _, _)| at.elapsed() < lag) {
            match before.clone() {
                Some(before) => state.records.insert(key, before),
                None => state.records.remove(&key),
            };
            touched.insert(key, before);
        }
        state.news.retain(|(at, _)| at.elapsed() >= lag);
        state.era += 1;
        drop(state);
        for (key, before) in touched {
            if let Key::Session(session) = key {
                self.witness.rolled_back(session, before.as_ref().map(|it| it.bytes.as_slice()));
            }
        }
        self.written.notify_waiters();
    }

    fn swap(&self, key: Key, version: u64, write: Write, writer: u64) -> Swapped {
        let mut state = self.state();
        let before = state.records.get(&key).cloned();
        if before.as_ref().map_or(0, |it| it.version) != version {
            return Swapped::Moved;
        }
        state.version += 1;
        let stored = Stored { bytes: write.bytes.clone(), version: state.version };
        state.records.insert(key, stored);
        state.news.extend(write.news.map(|news| (Instant::now(), news)));
        let record: Option<Record> = postcard::from_bytes(&write.bytes).ok();
        tracing::debug!(replica = writer, now = %self.wall.now(), ?record, "written");
        let replaced = before.as_ref().map(|it| it.bytes.clone());
        state.log.push((Instant::now(), key, before));
        drop(state);
        if let Key::Session(session) = key {
            self.witness.stored(session, replaced.as_deref(), &write.bytes);
        }
        self.written.notify_waiters();
        Swapped::Done
    }

    fn heard(&self, from: Option<[u64; 2]>) -> Heard {
        let state = self.state();
        let end = [state.era, state.news.len() as u64];
        let from = from.filter(|[era, _]| *era == state.era).map(|[_, at]| usize::try_from(at).unwrap());
        let news = state.news[from.unwrap_or(state.news.len())..].iter().map(|(_, news)| news.clone()).collect();
        Heard { news, position: Position(end.map(u64::to_be_bytes).concat()), gap: from.is_none() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

/// One replica's line to the store.
pub(crate) struct Line {
    pub(crate) store: Arc<SharedStore>,
    pub(crate) dice: Dice,
    pub(crate) life: Arc<Life>,
    /// Until when nothing gets through.
    pub(crate) cut: Arc<Mutex<Option<Instant>>>,
}

/// Without news an answer to [`Changes::after`] comes after this time.
const PATIENCE: Duration = Duration::from_secs(2);

impl Line {
    /// One way between replica and store: it takes some time, so that others come in between, and may lead nowhere.
    async fn travel(&self) -> Result<(), StoreError> {
        let failed = |why: &str| Err(StoreError::Unreachable(why.to_owned()));
        if self.cut.lock().unwrap().is_some_and(|until| until > Instant::now()) {
            sleep(self.dice.millis(1..1_500)).await;
            return failed("cut off");
        }
        let percent = self.store.percent.load(Ordering::Relaxed);
        if self.dice.happens(percent) {
            sleep(self.dice.millis(100..2_000)).await;
        } else if self.dice.happens(60) {
            sleep(self.dice.millis(1..8)).await;
        }
        if self.dice.happens(percent) { failed("simulated") } else { Ok(()) }
    }

    /// A call to the store and back. A process may crash on either way.
    async fn call<T>(&self, key: Key, work: impl FnOnce() -> T) -> Result<T, StoreError> {
        self.life.step().await;
        let called = async {
            self.travel().await?;
            let done = work();
            // Done, and the answer may be lost.
            self.life.step().await;
            self.travel().await.map(|()| done)
        }
        .await;
        if let (Err(_), Key::Session(session)) = (&called, key) {
            self.store.witness.store_failed(session, self.life.id);
        }
        self.life.step().await;
        called
    }
}

#[async_trait]
impl Store for Line {
    async fn load(&self, key: Key) -> Result<Loaded, StoreError> {
        let load = || {
            let stored = self.store.state().records.get(&key).cloned();
            let version = stored.as_ref().map_or(0, |it| it.version);
            Loaded { bytes: stored.map(|it| it.bytes), version, now: self.store.wall.now() }
        };
        self.call(key, load).await
    }

    async fn swap(&self, key: Key, version: u64, write: Write) -> Result<Swapped, StoreError> {
        self.call(key, || self.store.swap(key, version, write, self.life.id)).await
    }

    fn changes(&self) -> Option<&dyn Changes> {
        Some(self)
    }
}

#[async_trait]
impl Changes for Line {
    async fn after(&self, position: Option<&Position>) -> Result<Heard, StoreError> {
        self.travel().await?;
        let from = position
            .map(|Position(bytes)| [0, 8].map(|at: usize| u64::from_be_bytes(bytes[at..at + 8].try_into().unwrap())));
        let written = self.store.written.notified();
        let now = self.store.heard(from);
        if now.gap || !now.news.is_empty() {
            return Ok(now);
        }
        timeout(PATIENCE, written).await.ok();
        self.travel().await?;
        Ok(self.store.heard(from))
    }
}
