//! The life of one process: every step of its work may be the last.

use std::future::{Future, pending, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::Poll;

use tokio::sync::Notify;

use super::witness::Witness;

pub(crate) struct Life {
    /// Of this process, never given twice.
    pub(crate) id: u64,
    /// It ends after so many steps; zero: it does not.
    steps: AtomicU64,
    over: AtomicBool,
    ended: Notify,
    witness: Arc<Witness>,
}

impl Life {
    pub(crate) fn new(id: u64, witness: Arc<Witness>) -> Arc<Self> {
        Arc::new(Self { id, steps: AtomicU64::new(0), over: AtomicBool::new(false), ended: Notify::new(), witness })
    }

    /// It crashes after so many steps.
    pub(crate) fn end_after(&self, steps: u64) {
        self.steps.store(steps, Ordering::Relaxed);
    }

    pub(crate) fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    /// One step: a call that leaves the process, or arrives, or a request that wakes up. A process that has crashed gets
    /// no further.
    pub(crate) async fn step(&self) {
        if self.is_last() {
            pending().await
        }
    }

    /// Does `work` unless the process crashes meanwhile; whoever waits for the answer gets none then.
    pub(crate) async fn survive<F: Future>(&self, work: F) -> Option<F::Output> {
        let (mut work, mut ended) = (pin!(work), pin!(self.ended.notified()));
        poll_fn(|context| {
            if ended.as_mut().poll(context).is_ready() || self.is_last() {
                return Poll::Ready(None);
            }
            let done = work.as_mut().poll(context);
            if self.is_over() { Poll::Ready(None) } else { done.map(Some) }
        })
        .await
    }

    fn is_last(&self) -> bool {
        let steps = self.steps.load(Ordering::Relaxed);
        self.steps.store(steps.saturating_sub(1), Ordering::Relaxed);
        if steps == 1 {
            self.over.store(true, Ordering::Relaxed);
            self.witness.crashed(self.id);
            self.ended.notify_waiters();
        }
        self.is_over()
    }
}
