//! Those who wait for something to happen to a session, because something of it is open: a stream, a page that listens.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::Key;

/// Who waits, by what they wait for.
#[derive(Debug, Default)]
pub(super) struct Watches {
    waiting: Mutex<Waiting>,
    /// How many watch: mostly none, and then news stir nobody.
    count: AtomicUsize,
}

#[derive(Debug, Default)]
struct Waiting {
    by_key: HashMap<Key, BTreeMap<u64, Arc<Notify>>>,
    last_number: u64,
}

/// Waits for news of some keys, until it is dropped.
#[derive(Debug)]
pub struct Watch {
    watches: Arc<Watches>,
    keys: Vec<Key>,
    number: u64,
    stirred: Arc<Notify>,
}

impl Watch {
    /// Returns once there was news of its keys since it last returned. What the news was has to be looked up; there may
    /// have been none after all.
    pub async fn stirred(&self) {
        self.stirred.notified().await;
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut waiting = self.watches.lock();
        for key in &self.keys {
            if let Some(watching) = waiting.by_key.get_mut(key) {
                watching.remove(&self.number);
                if watching.is_empty() {
                    waiting.by_key.remove(key);
                }
            }
        }
        self.watches.count.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Watches {
    /// Watches for news of `keys`.
    pub(super) fn watch(self: &Arc<Self>, keys: impl IntoIterator<Item = Key>) -> Watch {
        let (keys, stirred) = (keys.into_iter().collect::<Vec<_>>(), Arc::new(Notify::new()));
        let mut waiting = self.lock();
        waiting.last_number += 1;
        let number = waiting.last_number;
        for key in &keys {
            waiting.by_key.entry(*key).or_default().insert(number, Arc::clone(&stirred));
        }
        self.count.fetch_add(1, Ordering::AcqRel);
        drop(waiting);
        Watch { watches: Arc::clone(self), keys, number, stirred }
    }

    /// There is news of `key`.
    pub(super) fn stir(&self, key: &Key) {
        if self.count.load(Ordering::Acquire) > 0
            && let Some(watching) = self.lock().by_key.get(key)
        {
            watching.values().for_each(|stirred| stirred.notify_one());
        }
    }

    /// There may be news of anything.
    pub(super) fn stir_all(&self) {
        for watching in self.lock().by_key.values() {
            watching.values().for_each(|stirred| stirred.notify_one());
        }
    }

    /// Whether anybody watches `key`.
    pub(super) fn has(&self, key: &Key) -> bool {
        self.count.load(Ordering::Acquire) > 0 && self.lock().by_key.contains_key(key)
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Waker};

    use super::*;

    fn has_heard(watch: &Watch) -> bool {
        pin!(watch.stirred()).poll(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    #[test]
    fn news_stir_those_who_watch_their_key_and_nobody_else() {
        let watches = Arc::new(Watches::default());
        let (ada, bob) = (Key::subject("https://as.test", "ada"), Key::subject("https://as.test", "bob"));
        let (first, second) = (watches.watch([ada, Key::Once([1; 32])]), watches.watch([bob]));
        assert!(!has_heard(&first));
        watches.stir(&ada);
        assert!(has_heard(&first) && !has_heard(&second));
        watches.stir_all();
        assert!(has_heard(&first) && has_heard(&second));
    }

    #[test]
    fn news_before_the_waiting_is_not_missed_and_comes_once() {
        let watches = Arc::new(Watches::default());
        let key = Key::Once([1; 32]);
        let watch = watches.watch([key]);
        watches.stir(&key);
        watches.stir(&key);
        assert!(has_heard(&watch));
        assert!(!has_heard(&watch));
    }

    #[test]
    fn who_is_gone_leaves_nothing_behind() {
        let watches = Arc::new(Watches::default());
        let key = Key::Once([1; 32]);
        let (first, second) = (watches.watch([key]), watches.watch([key]));
        drop(first);
        assert!(watches.has(&key));
        drop(second);
        assert!(!watches.has(&key) && watches.lock().by_key.is_empty());
    }
}
