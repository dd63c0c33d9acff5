//! The owned set of detached work: refresh flights, code redemptions, notes to the ledger.

use std::future::Future;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;

/// Work that outlives the request that started it, but not the replica.
///
/// One per replica. Dropping it drops all that runs in it: that is what a crash looks like from inside, and the
/// simulation uses it as one. [`drain`](Self::drain) is the orderly end.
#[derive(Debug, Default)]
pub struct Tasks {
    set: Mutex<JoinSet<()>>,
    /// Whether the end has come.
    closing: watch::Sender<bool>,
}

impl Tasks {
    /// Starts `work` beside everything else. It must be called within a tokio runtime.
    pub fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        let mut set = self.set.lock().unwrap_or_else(PoisonError::into_inner);
        // What has ended is forgotten as we go, so the set stays as small as the work in flight.
        while set.try_join_next().is_some() {}
        set.spawn(work);
    }

    /// Returns when the replica is about to end: what has only been put off is to be done now.
    pub fn closing(&self) -> impl Future<Output = ()> + Send + 'static {
        let mut closing = self.closing.subscribe();
        async move {
            // An error says that the set is gone, and this work with it.
            closing.wait_for(|closing| *closing).await.ok();
        }
    }

    /// Waits until everything that runs now has ended, or until `deadline` has passed; what then still runs is dropped.
    /// With a deadline of zero nothing is told to hurry: that is a crash.
    ///
    /// Returns whether everything ended by itself.
    pub async fn drain(&self, deadline: Duration) -> bool {
        let mut set = std::mem::take(&mut *self.set.lock().unwrap_or_else(PoisonError::into_inner));
        self.closing.send_replace(!deadline.is_zero());
        tokio::time::timeout(deadline, async { while set.join_next().await.is_some() {} }).await.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn draining_waits_for_the_work_but_not_for_ever() {
        let tasks = Tasks::default();
        tasks.spawn(tokio::time::sleep(Duration::from_secs(5)));
        assert!(tasks.drain(Duration::from_secs(10)).await);
        tasks.spawn(std::future::pending());
        assert!(!tasks.drain(Duration::from_secs(10)).await);
    }

    #[tokio::test(start_paused = true)]
    async fn draining_hurries_what_was_put_off() {
        let tasks = Tasks::default();
        let (sender, mut done) = tokio::sync::mpsc::unbounded_channel();
        let closing = tasks.closing();
        tasks.spawn(async move {
            closing.await;
            sender.send(()).unwrap();
        });
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(done.try_recv().is_err());
        assert!(tasks.drain(Duration::from_secs(10)).await);
        assert_eq!(done.recv().await, Some(()));
    }

    #[tokio::test]
    async fn dropping_the_set_drops_the_work() {
        let (sender, receiver) = tokio::sync::oneshot::channel::<()>();
        let tasks = Tasks::default();
        tasks.spawn(async move {
            let _held = sender;
            std::future::pending().await
        });
        drop(tasks);
        assert!(receiver.await.is_err());
    }
}
