//! The owned set of detached work: refresh flights, code redemptions, notes to the ledger.

use std::future::Future;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::task::JoinSet;

/// Work that outlives the request that started it, but not the replica.
///
/// One per replica. Dropping it drops all that runs in it: that is what a crash looks like from inside, and the
/// simulation uses it as one. [`drain`](Self::drain) is the orderly end.
#[derive(Debug, Default)]
pub struct Tasks(Mutex<JoinSet<()>>);

impl Tasks {
    /// Starts `work` beside everything else. It must be called within a tokio runtime.
    pub fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        let mut set = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // What has ended is forgotten as we go, so the set stays as small as the work in flight.
        while set.try_join_next().is_some() {}
        set.spawn(work);
    }

    /// Waits until everything that runs now has ended, or until `deadline` has passed; what then still runs is dropped.
    ///
    /// Returns whether everything ended by itself.
    pub async fn drain(&self, deadline: Duration) -> bool {
        let mut set = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
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
