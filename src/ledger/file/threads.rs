//! The two threads that stand between the runtime and the disk.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use redb::Database;
use tokio::sync::{oneshot, watch};

use super::super::{Loaded, StoreError, Swapped};
use super::Patience;
use super::disk::{Disk, OpenError, Opened, Refusal};
use super::records::{self, Tally, Trouble};
use crate::clock::{Clock, Timestamp};

/// A record to be replaced, and who waits for the answer.
#[derive(Debug)]
pub(super) struct Swap {
    pub(super) key: Vec<u8>,
    pub(super) version: u64,
    pub(super) bytes: Vec<u8>,
    pub(super) keep_until: Timestamp,
    /// After this moment nobody waits for it.
    pub(super) deadline: tokio::time::Instant,
    pub(super) answer: oneshot::Sender<Result<Swapped, StoreError>>,
}

/// A record to be read, and who waits for it.
#[derive(Debug)]
pub(super) struct Load {
    pub(super) key: Vec<u8>,
    pub(super) deadline: tokio::time::Instant,
    pub(super) answer: oneshot::Sender<Result<Loaded, StoreError>>,
}

/// What the writer is asked for.
#[derive(Debug)]
pub(super) enum Job {
    Swap(Swap),
    /// The reader has met trouble with this database. After an error of the disk it serves nobody until it is opened anew.
    Reopen(Weak<Database>, Trouble),
}

/// So many swaps are committed together at most.
const BATCH: usize = 256;
/// A file that cannot be used is tried again after pauses that grow to this.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// What the threads and the store know of each other.
#[derive(Default)]
pub(super) struct Shared {
    status: Mutex<Status>,
    changed: Condvar,
}

#[derive(Default)]
struct Status {
    state: State,
    ending: bool,
}

#[derive(Default)]
enum State {
    /// It is being opened.
    #[default]
    Opening,
    /// Another process has it.
    Held,
    Open(Arc<Database>),
    Failed(StoreError),
}

impl Shared {
    /// Whether another process has the file.
    pub(super) fn is_held(&self) -> bool {
        matches!(self.lock().state, State::Held)
    }

    /// Whether the store is closed, or about to be.
    pub(super) fn is_ending(&self) -> bool {
        self.lock().ending
    }

    /// Nothing more will be asked: whoever waits for the file need not.
    pub(super) fn end(&self) {
        self.lock().ending = true;
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Status> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, state: State) {
        self.lock().state = state;
        self.changed.notify_all();
    }

    /// Waits for so long, or for the end. Returns whether it has come.
    fn pause(&self, pause: Duration) -> bool {
        let waiting = self.changed.wait_timeout_while(self.lock(), pause, |status| !status.ending);
        waiting.unwrap_or_else(PoisonError::into_inner).0.ending
    }

    /// The database, once it is open; nothing if that was not until `deadline`.
    fn database(&self, deadline: tokio::time::Instant) -> Option<Result<Arc<Database>, StoreError>> {
        let patience = deadline.saturating_duration_since(tokio::time::Instant::now());
        let waiting = self.changed.wait_timeout_while(self.lock(), patience, |status| {
            !status.ending && matches!(status.state, State::Opening | State::Held)
        });
        match &waiting.unwrap_or_else(PoisonError::into_inner).0.state {
            State::Open(database) => Some(Ok(database.clone())),
            State::Failed(error) => Some(Err(error.clone())),
            State::Opening | State::Held => None,
        }
    }
}

/// Answers loads from the last commit.
pub(super) struct Reader {
    pub(super) path: PathBuf,
    pub(super) shared: Arc<Shared>,
    pub(super) loads: Receiver<Load>,
    pub(super) jobs: SyncSender<Job>,
    pub(super) clock: Arc<dyn Clock>,
}

impl Reader {
    /// Runs until the store is closed.
    pub(super) fn run(self) {
        let mut corrupt = false;
        for load in &self.loads {
            if load.answer.is_closed() || is_past(load.deadline) {
                continue;
            }
            let Some(database) = self.shared.database(load.deadline) else { continue };
            let answer = database.and_then(|database| self.load(&database, &load.key));
            if matches!(answer, Err(StoreError::Corrupt)) && !corrupt {
                corrupt = true;
                tracing::error!("a record of the ledger cannot be read: check the disk; a restart says more");
            }
            load.answer.send(answer).ok();
        }
    }

    fn load(&self, database: &Arc<Database>, key: &[u8]) -> Result<Loaded, StoreError> {
        let loaded = sheltered(|| records::load(database, key, self.clock.now()));
        loaded.unwrap_or_else(|trouble| {
            let path = self.path.display();
            let error = StoreError::Unreachable(format!("{path} cannot be read ({trouble}); it is opened anew"));
            // If there is no room for the job, there are swaps, which meet the same trouble.
            self.jobs.try_send(Job::Reopen(Arc::downgrade(database), trouble)).ok();
            Err(error)
        })
    }
}

/// Holds the file, and commits swaps.
pub(super) struct Writer {
    pub(super) disk: Disk,
    pub(super) shared: Arc<Shared>,
    pub(super) jobs: Receiver<Job>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) max_bytes: u64,
    pub(super) patience: Patience,
}

/// Why the writer stopped serving.
enum End {
    Closed,
    Failed(Trouble),
}

/// What the last failure still means.
#[derive(Default)]
struct Illness {
    /// Writes are refused with this, until then: each failure costs a check of the whole file.
    refusal: Option<(tokio::time::Instant, StoreError)>,
    /// It was logged, and so its end will be.
    logged: bool,
}

impl Writer {
    /// Runs until the store is closed. `opened` hears how the first attempt to open the file ended, except that a file
    /// which another process holds is waited for. `_released` is dropped once the file is.
    pub(super) fn run(self, opened: &SyncSender<Result<(), OpenError>>, _released: watch::Sender<()>) {
        let path = self.disk.path().to_owned();
        let path = path.display();
        let (mut first, mut held, mut illness, mut pause) = (true, false, Illness::default(), self.patience.failed);
        loop {
            let attempt = self.disk.open();
            match attempt {
                Err(Refusal::Error(error)) if first => {
                    opened.send(Err(error)).ok();
                    return;
                }
                Err(Refusal::Held) => {
                    if !held {
                        tracing::info!(%path, "another process holds the ledger: what needs it waits until that has ended");
                    }
                    held = true;
                    self.shared.set(State::Held);
                    if first {
                        opened.send(Ok(())).ok();
                    }
                    if self.shared.pause(self.patience.held) {
                        return;
                    }
                }
                Err(Refusal::Error(error)) => {
                    if !illness.logged {
                        illness.logged = true;
                        tracing::error!(%error, "the ledger cannot be opened; it is tried again");
                    }
                    let error = store_error(&error);
                    self.shared.set(State::Failed(error.clone()));
                    if self.refuse(&error, pause) {
                        return;
                    }
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
                Ok(Opened { database, tally }) => {
                    if held {
                        tracing::info!(%path, "the ledger is free and this process's now");
                    }
                    (held, pause) = (false, self.patience.failed);
                    let database = Arc::new(database);
                    self.shared.set(State::Open(database.clone()));
                    if first {
                        opened.send(Ok(())).ok();
                    }
                    let end = self.serve(&database, tally, &mut illness);
                    self.shared.set(State::Opening);
                    release(database);
                    let End::Failed(trouble) = end else { return };
                    self.fall_ill(trouble, &mut illness);
                }
            }
            first = false;
        }
    }

    /// Commits what is asked for, until the store is closed or the database has failed.
    fn serve(&self, database: &Arc<Database>, mut tally: Tally, illness: &mut Illness) -> End {
        let mut more_expired = true;
        loop {
            let patience = if more_expired { Duration::ZERO } else { self.patience.idle };
            let (mut swaps, mut trouble) = (Vec::new(), None);
            let mut next = self.jobs.recv_timeout(patience);
            if matches!(next, Err(RecvTimeoutError::Disconnected)) {
                return End::Closed;
            }
            while let Ok(job) = next {
                match job {
                    Job::Swap(swap) => swaps.push(swap),
                    // It may be about one that has been opened anew meanwhile.
                    Job::Reopen(old, met) if std::ptr::eq(old.as_ptr(), Arc::as_ptr(database)) => trouble = Some(met),
                    Job::Reopen(..) => {}
                }
                if swaps.len() == BATCH || trouble.is_some() {
                    break;
                }
                next = self.jobs.recv_timeout(Duration::ZERO);
            }
            swaps.retain(|swap| !is_past(swap.deadline));
            if let Some((until, error)) = &illness.refusal
                && trouble.is_none()
                && !is_past(*until)
            {
                refuse_all(swaps, error);
                more_expired = false;
                continue;
            }
            let before = tally;
            let idle = swaps.is_empty();
            let applied = trouble.map_or_else(
                || sheltered(|| records::apply(database, &swaps, &mut tally, self.max_bytes, self.clock.now())),
                Err,
            );
            match applied {
                Ok(answers) => {
                    for (swap, answer) in swaps.into_iter().zip(answers) {
                        swap.answer.send(answer).ok();
                    }
                    if tally != before && std::mem::take(illness).logged {
                        tracing::info!(path = %self.disk.path().display(), "the ledger can be written again");
                    }
                }
                Err(trouble) => {
                    let error = store_error(&self.disk.error(trouble.clone()));
                    refuse_all(swaps, &error);
                    return End::Failed(trouble);
                }
            }
            more_expired = idle && tally != before;
        }
    }

    fn fall_ill(&self, trouble: Trouble, illness: &mut Illness) {
        let error = self.disk.error(trouble);
        if !illness.logged {
            tracing::error!(%error, "the ledger failed; it is opened anew. Sessions live on with the tokens they have");
        }
        let until = tokio::time::Instant::now() + self.patience.failed;
        *illness = Illness { refusal: Some((until, store_error(&error))), logged: true };
    }

    /// Answers everything with `error` for so long. Returns whether the store was closed.
    fn refuse(&self, error: &StoreError, pause: Duration) -> bool {
        let until = tokio::time::Instant::now() + pause;
        loop {
            match self.jobs.recv_timeout(until.saturating_duration_since(tokio::time::Instant::now())) {
                Ok(Job::Swap(swap)) => refuse_all(vec![swap], error),
                Ok(Job::Reopen(..)) => {}
                Err(RecvTimeoutError::Timeout) => return false,
                Err(RecvTimeoutError::Disconnected) => return true,
            }
        }
    }
}

fn refuse_all(swaps: Vec<Swap>, error: &StoreError) {
    for swap in swaps {
        swap.answer.send(Err(error.clone())).ok();
    }
}

/// Closes the database as soon as the reader has let go of it.
fn release(database: Arc<Database>) {
    while Arc::strong_count(&database) > 1 {
        std::thread::sleep(Duration::from_millis(1));
    }
    sheltered(|| {
        drop(database);
        Ok(())
    })
    .ok();
}

/// The database panics here and there over a damaged file. That is damage like any other, and ends no thread.
pub(super) fn sheltered<T>(work: impl FnOnce() -> Result<T, Trouble>) -> Result<T, Trouble> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| Err(Trouble::Damage("reading it failed".to_owned())))
}

fn store_error(error: &OpenError) -> StoreError {
    if matches!(error, OpenError::NoRoom(..)) {
        StoreError::Full(error.to_string())
    } else {
        StoreError::Unreachable(error.to_string())
    }
}

fn is_past(moment: tokio::time::Instant) -> bool {
    moment <= tokio::time::Instant::now()
}
