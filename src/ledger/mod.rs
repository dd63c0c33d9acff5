//! The ledger: what the proxy itself must remember, because cookies arrive late, twice and out of order.
//!
//! [`Ledger`] is one concrete type over a [`Store`]: load a record, [`protocol::step`] it, swap it, again if it moved
//! meanwhile. So the rules exist once, and a store knows none of them. It knows no token either: bodies are sealed
//! under a key that needs the cookie's secret.
//!
//! Where several processes share a store, each [follows](Ledger::follow) the news of the others into its [`View`]. A
//! request of a session that this process knows asks nobody; what ends elsewhere is heard of within [`DEAF`], or the
//! ledger is asked for each request.

#[cfg(test)]
mod contract;
pub mod file;
pub mod memory;
pub mod protocol;
mod recent;
pub mod redis;
mod registry;
mod sealed;
mod store;
pub mod tombstone;
pub mod view;
mod watches;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use self::protocol::{Change, LastUse, Operation, Reassert, Record};
use self::recent::{Lately, Recent};
pub use self::store::{Changes, Heard, Key, Loaded, Position, Store, StoreError, Swapped, Write};
use self::tombstone::{Lineage, Tombstone};
use self::view::{Moment, Note, Standing, View};
pub use self::watches::Watch;
use crate::clock::{Clock, Timestamp};
use crate::session::SessionId;

/// What came of [`Ledger::first_use`].
#[must_use]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FirstUse {
    /// Nobody has used it before.
    Yes,
    /// It has been used. The result, if the first user has left one.
    No(Option<Vec<u8>>),
}

/// What one process tells the others.
#[derive(Serialize, Deserialize)]
enum News {
    Moved(SessionId, Change, Timestamp),
    Buried(Key, Tombstone),
}

/// The rules over a store, and this replica's view of what has moved.
pub struct Ledger {
    store: Arc<dyn Store>,
    view: View,
    /// What this process has written, in case a shared store loses it.
    recent: Recent,
    clock: Arc<dyn Clock>,
    /// Until when the news were complete: milliseconds of uptime, and one. Zero: nothing was heard yet.
    heard: AtomicU64,
}

/// Who has not heard of the others for longer than this knows nothing for certain: the bound on endings.
pub const DEAF: Duration = Duration::from_secs(5);
/// After news could not be had, they are asked for again after this long.
const RETRY: Duration = Duration::from_millis(250);

impl fmt::Debug for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ledger").field("shared", &self.store.changes().is_some()).finish_non_exhaustive()
    }
}

impl Ledger {
    /// A ledger over `store`. If that is shared, somebody has to [follow](Self::follow) it.
    pub fn new(store: Arc<dyn Store>, clock: Arc<dyn Clock>) -> Self {
        Self { store, view: View::default(), recent: Recent::default(), clock, heard: AtomicU64::new(0) }
    }

    /// How `generation` of `session` stands. It asks nobody.
    pub fn standing(&self, session: SessionId, generation: u64) -> Standing {
        match self.view.standing(session, generation) {
            ended @ Standing::Ended(_) => ended,
            Standing::Current | Standing::Behind if !self.is_live() => Standing::Unknown,
            standing @ (Standing::Current | Standing::Behind | Standing::Unknown) => standing,
        }
    }

    /// The tombstone that covers a known session of this lineage. It asks nobody.
    pub fn tombstone(&self, lineage: impl FnOnce() -> Lineage) -> Option<Tombstone> {
        self.view.tombstone(lineage)
    }

    /// Watches for whatever is heard of `session`, which is of this lineage.
    pub fn watch(&self, session: SessionId, lineage: &Lineage) -> Watch {
        self.view.watch(session, lineage)
    }

    /// Whether other processes use the same store.
    pub fn is_shared(&self) -> bool {
        self.store.changes().is_some()
    }

    /// Whether the news of the others are complete up to [`DEAF`] ago.
    pub fn is_live(&self) -> bool {
        let heard = self.heard.load(Ordering::Acquire);
        let deaf_from = Duration::from_millis(heard) + DEAF;
        !self.is_shared() || (heard > 0 && self.clock.uptime() <= deaf_from)
    }

    /// Asks whether the store can be reached.
    ///
    /// # Errors
    /// If it cannot.
    pub async fn check(&self) -> Result<(), StoreError> {
        self.store.load(Key::Once([0; 32])).await.map(drop)
    }

    /// Applies `operation` to the record of `session`.
    ///
    /// # Errors
    /// If the store fails. The operation may have been applied all the same; all operations may be repeated.
    pub async fn apply<O: Operation + Sync>(&self, session: SessionId, operation: &O) -> Result<O::Reply, StoreError> {
        let stepped = self.rewrite(Key::Session(session), |loaded| {
            let before: Record = decode(loaded.bytes.as_deref())?;
            let (after, reply) = protocol::step(before.clone(), operation, loaded.now);
            let write = (after != before).then(|| {
                let keep_until = after.keep_until();
                let change = after.change_since(&before);
                let news = change.map(|change| encode(&News::Moved(session, change, keep_until)));
                Write { bytes: encode(&after), keep_until, news }
            });
            Ok((write, (before, after, reply)))
        });
        let (before, after, reply) = stepped.await?;
        // All of it, not the change alone: an earlier write may have been done and its answer lost.
        for change in after.state() {
            self.view.hear(session, change, after.keep_until());
        }
        if self.is_shared() && after.change_since(&before).is_some() {
            self.recent.note(session, after, self.clock.uptime());
        }
        Ok(reply)
    }

    /// Loads the record under `key` and puts in its place what `change` makes of it, if anything, again if somebody came in
    /// between. Returns what `change` says beside.
    async fn rewrite<T>(
        &self,
        key: Key,
        change: impl Fn(&Loaded) -> Result<(Option<Write>, T), StoreError>,
    ) -> Result<T, StoreError> {
        loop {
            let loaded = self.store.load(key).await?;
            let (write, said) = change(&loaded)?;
            let swapped = match write {
                Some(write) => self.store.swap(key, loaded.version, write).await?,
                None => Swapped::Done,
            };
            match swapped {
                Swapped::Done => return Ok(said),
                Swapped::Moved => {}
            }
        }
    }

    /// Applies `operation` like [`apply`](Self::apply), and reads the tombstones that may cover the session, whose lineage
    /// the reply may be needed for. From now on this process hears of everything that happens to the session, which its
    /// cookie says was used at `last_seen`.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn meet<O: Operation + Sync>(
        &self,
        session: SessionId,
        operation: &O,
        lineage: impl FnOnce(&O::Reply) -> Option<Lineage> + Send,
        last_seen: Timestamp,
        keep_until: Timestamp,
    ) -> Result<O::Reply, StoreError>
    where
        O::Reply: Send,
    {
        // Whatever is written from here on is heard of in this stretch, or a gap ends it.
        let stretch = self.view.stretch();
        self.view.expect(session, self.now());
        let reply = self.apply(session, operation).await?;
        if let Some(lineage) = lineage(&reply) {
            self.exhume(&lineage).await?;
        }
        let unused = self.clock.now().since(last_seen);
        self.view.know(session, stretch, unused, keep_until, self.now());
        Ok(reply)
    }

    /// Asks for the tombstone that covers a session of this lineage.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn exhume(&self, lineage: &Lineage) -> Result<Option<Tombstone>, StoreError> {
        for key in lineage.keys() {
            let loaded = self.store.load(key).await?;
            if let Some(tombstone) = decode::<Option<Tombstone>>(loaded.bytes.as_deref())? {
                self.view.bury(key, tombstone);
            }
        }
        Ok(self.view.tombstone(|| lineage.clone()))
    }

    /// Ends all sessions under `key` that `tombstone` covers: none of them is used beyond [`DEAF`] from now.
    ///
    /// # Errors
    /// If the store fails. They may have ended all the same.
    pub async fn bury(&self, key: Key, tombstone: Tombstone) -> Result<(), StoreError> {
        let buried = self.rewrite(key, |loaded| {
            let before: Option<Tombstone> = decode(loaded.bytes.as_deref())?;
            let after = before.map_or(tombstone, |before| before.merged(tombstone));
            let write = (before != Some(after)).then(|| {
                let news = Some(encode(&News::Buried(key, after)));
                Write { bytes: encode(&Some(after)), keep_until: after.keep_until, news }
            });
            Ok((write, after))
        });
        let after = buried.await?;
        self.view.bury(key, after);
        if self.is_shared() {
            self.recent.note_tombstone(key, after, self.clock.uptime());
        }
        Ok(())
    }

    /// Notes that the thing named by `hash` is used, until `keep_until`.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn first_use(&self, hash: [u8; 32], keep_until: Timestamp) -> Result<FirstUse, StoreError> {
        let key = Key::Once(hash);
        let loaded = self.store.load(key).await?;
        if let Some(bytes) = loaded.bytes {
            return Ok(FirstUse::No(decode(Some(&bytes))?));
        }
        let write = Write { bytes: encode(&None::<Vec<u8>>), keep_until, news: None };
        Ok(match self.store.swap(key, 0, write).await? {
            Swapped::Done => FirstUse::Yes,
            Swapped::Moved => FirstUse::No(None),
        })
    }

    /// Leaves the result of the first use for those who come later.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn leave(&self, hash: [u8; 32], result: Vec<u8>, keep_until: Timestamp) -> Result<(), StoreError> {
        let bytes = encode(&Some(result));
        self.rewrite(Key::Once(hash), |_| Ok((Some(Write { bytes: bytes.clone(), keep_until, news: None }), ()))).await
    }

    /// The session is over as far as this process is concerned, although the store could not be told yet.
    pub fn end_here(&self, session: SessionId, ending: protocol::Ending, keep_until: Timestamp) {
        self.view.expect(session, self.now());
        self.view.hear(session, Change::Ended(ending), keep_until);
    }

    /// The newest generation that was heard of; zero if none.
    pub fn newest(&self, session: SessionId) -> u64 {
        self.view.newest(session)
    }

    /// What has to be noted of a request that presented `generation`.
    pub fn presented(&self, session: SessionId, generation: u64, settle: Duration) -> Note {
        self.view.presented(session, generation, settle, self.now())
    }

    /// How long ago this process last noted a use of the session, if it ever did. No step of the wall clock changes it.
    pub fn unseen_for(&self, session: SessionId) -> Option<Duration> {
        self.view.unseen_for(session, self.now())
    }

    /// How long ago something open last counted as a use of the session, on any replica, if ever.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn last_use(&self, session: SessionId) -> Result<Option<Duration>, StoreError> {
        self.apply(session, &LastUse).await
    }

    /// The session is in use here, although no request says so.
    pub fn touch(&self, session: SessionId) {
        self.view.touch(session, self.now());
    }

    /// Whether this request shall slide the idle limit: see [`View::slide`].
    pub fn slide(&self, session: SessionId, unused: Duration, interval: Duration, keep_until: Timestamp) -> bool {
        self.view.slide(session, unused, interval, keep_until, self.now())
    }

    /// Forgets sessions that are over by their limit or have not been used here lately.
    pub fn sweep(&self, now: Timestamp) {
        self.view.sweep(now, self.now());
    }

    /// Hears what other processes write to the same store, for ever. Returns at once if there are none.
    pub async fn follow(&self) {
        let Some(changes) = self.store.changes() else { return };
        let mut position = None;
        let mut deaf = false;
        loop {
            // News are complete up to the moment when they were asked for, however long the answer travelled.
            let asked = u64::try_from(self.clock.uptime().as_millis()).unwrap_or(u64::MAX);
            match changes.after(position.as_ref()).await {
                Ok(heard) => {
                    self.hear(&heard);
                    self.heard.fetch_max(asked.saturating_add(1), Ordering::AcqRel);
                    if deaf {
                        tracing::info!("the ledger's news are heard again");
                    }
                    // What was written just before may have been lost with the connection: a Redis that takes over from
                    // another may not have got it. Nothing is lost by saying it twice.
                    deaf = (deaf || heard.gap) && !self.reassert().await;
                    position = Some(heard.position);
                }
                Err(error) => {
                    if !deaf {
                        tracing::warn!(
                            %error,
                            "the ledger's news cannot be heard; from {} s on it is asked for each request",
                            DEAF.as_secs()
                        );
                    }
                    deaf = true;
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }

    fn hear(&self, heard: &Heard) {
        if heard.gap {
            self.view.forget_what_is_known();
        }
        for news in &heard.news {
            match postcard::from_bytes(news) {
                Ok(News::Moved(session, change, keep_until)) => self.view.hear(session, change, keep_until),
                Ok(News::Buried(key, tombstone)) => self.view.bury(key, tombstone),
                Err(_) => {
                    tracing::warn!("the ledger's news hold something that this release cannot read");
                    self.view.forget_what_is_known();
                }
            }
        }
    }

    /// Writes once more what this process has written lately. Says whether all of it could be.
    async fn reassert(&self) -> bool {
        for written in self.recent.all(self.clock.uptime()) {
            let stored = match written {
                Lately::Session(session, record) => self.apply(session, &Reassert(*record)).await,
                Lately::Tombstone(key, tombstone) => self.bury(key, tombstone).await,
            };
            if stored.is_err() {
                return false;
            }
        }
        true
    }

    fn now(&self) -> Moment {
        Moment::new(self.clock.uptime())
    }
}

fn decode<T: Default + for<'de> Deserialize<'de>>(bytes: Option<&[u8]>) -> Result<T, StoreError> {
    bytes.map_or_else(|| Ok(T::default()), |bytes| postcard::from_bytes(bytes).map_err(|_| StoreError::Corrupt))
}

fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    // Serialising plain data into a growing buffer cannot fail; an empty record would read as corrupt, never as absent.
    postcard::to_stdvec(value).unwrap_or_default()
}
