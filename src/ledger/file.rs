//! The ledger in a file of this machine: what is acknowledged is on the disk, and survives a kill and a restart.
//!
//! One process has the file at a time. A successor that starts while its predecessor still drains listens at once; only
//! what needs the ledger waits until the file is free.
//!
//! Two threads stand between the runtime and the disk. The writer commits everything that has gathered while the last
//! commit was on its way as one transaction: a sync of the disk costs the same for one record as for a hundred. The
//! reader answers from the last commit and so waits for no sync. It is one thread and not the runtime's pool for
//! blocking work, because a disk that hangs would fill that pool, and others need it.

mod disk;
mod records;
mod threads;

use std::fmt;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, SyncSender, TrySendError};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{oneshot, watch};

use self::disk::Disk;
pub use self::disk::OpenError;
use self::threads::{Job, Load, Reader, Shared, Swap, Writer};
use super::{Key, Loaded, Store, StoreError, Swapped, Write};
use crate::clock::Clock;

/// A store in one file, bounded by bytes. Nothing is evicted before its time: when it is full, writes are refused and
/// sessions live on with the tokens they have.
pub struct FileStore {
    path: PathBuf,
    deadline: Duration,
    shared: Arc<Shared>,
    /// Gone once the store is closed.
    queues: RwLock<Option<Queues>>,
    /// Its other end is dropped when the file is released.
    released: watch::Receiver<()>,
}

#[derive(Clone)]
struct Queues {
    jobs: SyncSender<Job>,
    loads: SyncSender<Load>,
}

/// How a store waits.
#[derive(Clone, Copy, Debug)]
struct Patience {
    /// No call takes longer.
    call: Duration,
    /// Between two attempts to open a file that another process holds.
    held: Duration,
    /// After a write that failed, before the next is tried.
    failed: Duration,
    /// Without writes, expired records are looked for this often.
    idle: Duration,
}

const PATIENCE: Patience = Patience {
    call: Duration::from_secs(10),
    held: Duration::from_millis(100),
    failed: Duration::from_secs(1),
    idle: Duration::from_secs(60),
};

/// So many operations may wait for the disk. Each holds a record, and a disk that hangs shall not fill the memory.
const QUEUE: usize = 4096;

impl FileStore {
    /// Opens `ledger.redb` in `folder`, which is made if it is missing. What is live in it may take `max_bytes`.
    ///
    /// If another process holds the file, this succeeds all the same: operations wait until it is free, each for ten
    /// seconds at most. It blocks for as long as the disk needs to read the file once.
    ///
    /// # Errors
    /// If the file cannot be used: the error names it and the way out.
    pub fn open(folder: &Path, clock: Arc<dyn Clock>, max_bytes: usize) -> Result<Self, OpenError> {
        Self::start(Disk::new(folder)?, clock, max_bytes, PATIENCE)
    }

    fn start(disk: Disk, clock: Arc<dyn Clock>, max_bytes: usize, patience: Patience) -> Result<Self, OpenError> {
        let path = disk.path().to_owned();
        let shared = Arc::new(Shared::default());
        let (jobs, job_queue) = mpsc::sync_channel(QUEUE);
        let (loads, load_queue) = mpsc::sync_channel(QUEUE);
        let (release, released) = watch::channel(());
        let (first, opened) = mpsc::sync_channel(1);
        let reader = Reader {
            path: path.clone(),
            shared: shared.clone(),
            loads: load_queue,
            jobs: jobs.clone(),
            clock: clock.clone(),
        };
        let writer =
            Writer { disk, shared: shared.clone(), jobs: job_queue, clock, max_bytes: max_bytes as u64, patience };
        let thread = |name: &str| std::thread::Builder::new().name(name.to_owned());
        let starting = |error| OpenError::Thread(path.clone(), error);
        thread("ledger-writer").spawn(move || writer.run(&first, release)).map_err(starting)?;
        thread("ledger-reader").spawn(move || reader.run()).map_err(starting)?;
        let store =
            Self { path, deadline: patience.call, shared, queues: RwLock::new(Some(Queues { jobs, loads })), released };
        match opened.recv() {
            Ok(Ok(())) => Ok(store),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(OpenError::Damaged(store.path.clone(), "reading it failed".to_owned())),
        }
    }

    /// Takes no more operations, waits until those on their way are written and the file is released for a successor.
    ///
    /// Returns whether that was done in time. Dropping the store does the same without waiting.
    pub async fn close(&self) -> bool {
        self.end();
        let mut released = self.released.clone();
        let released = async { while released.changed().await.is_ok() {} };
        tokio::time::timeout(self.deadline, released).await.is_ok()
    }

    fn end(&self) {
        self.queues.write().unwrap_or_else(PoisonError::into_inner).take();
        self.shared.end();
    }

    fn queues(&self) -> Result<Queues, StoreError> {
        let queues = self.queues.read().unwrap_or_else(PoisonError::into_inner).clone();
        queues.ok_or_else(|| StoreError::Unreachable(format!("{} is closed", self.path.display())))
    }

    /// Waits for an answer until `deadline`, and says why if there is none.
    async fn answer<T>(
        &self,
        deadline: tokio::time::Instant,
        answer: impl Future<Output = Result<Result<T, StoreError>, oneshot::error::RecvError>>,
    ) -> Result<T, StoreError> {
        let path = self.path.display();
        if let Ok(Ok(answered)) = tokio::time::timeout_at(deadline, answer).await {
            return answered;
        }
        Err(StoreError::Unreachable(if self.shared.is_ending() {
            format!("{path} was closed meanwhile")
        } else if self.shared.is_held() {
            format!("another process holds {path}; end it, or give this one a ledger.path of its own")
        } else {
            format!("{path} did not answer within {} s; see whether its disk hangs", self.deadline.as_secs())
        }))
    }

    fn enqueue<T>(&self, queue: &SyncSender<T>, item: T) -> Result<(), StoreError> {
        let path = self.path.display();
        queue.try_send(item).map_err(|error| {
            StoreError::Unreachable(match error {
                TrySendError::Full(_) => {
                    format!("{QUEUE} operations wait for {path} already; see whether its disk hangs")
                }
                TrySendError::Disconnected(_) => format!("{path} is closed"),
            })
        })
    }
}

impl fmt::Debug for FileStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileStore").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Drop for FileStore {
    fn drop(&mut self) {
        self.end();
    }
}

#[async_trait]
impl Store for FileStore {
    async fn load(&self, key: Key) -> Result<Loaded, StoreError> {
        let (answer, answered) = oneshot::channel();
        let deadline = tokio::time::Instant::now() + self.deadline;
        self.enqueue(&self.queues()?.loads, Load { key: records::key(key), deadline, answer })?;
        self.answer(deadline, answered).await
    }

    async fn swap(&self, key: Key, version: u64, write: Write) -> Result<Swapped, StoreError> {
        let (answer, answered) = oneshot::channel();
        let deadline = tokio::time::Instant::now() + self.deadline;
        let swap = Swap {
            key: records::key(key),
            version,
            bytes: write.bytes,
            keep_until: write.keep_until,
            deadline,
            answer,
        };
        self.enqueue(&self.queues()?.jobs, Job::Swap(swap))?;
        self.answer(deadline, answered).await
    }
}

#[cfg(test)]
mod tests;
