//! The ledger in Redis or Valkey: for several replicas of the proxy, and for what has to outlive a machine.
//!
//! It needs Redis 6.2 or later, or any Valkey, and `noeviction`: an ending that was evicted would revive the session.
//! A server that would evict is not used, and the operations say why. The commands: AUTH, SELECT, INFO, EVALSHA, EVAL,
//! XREAD, XRANGE, WAIT; SENTINEL; CLUSTER SLOTS, ASKING; and in scripts GET, SET, TIME, XADD, XREVRANGE, PEXPIRE.
//!
//! Replication is asynchronous: a failover may lose the latest writes. Where there are replicas, a write that others
//! have to hear of waits for one of them, for a moment; it is not refused if none answers.

mod connection;
mod failure;
mod keys;
mod news;
mod places;
mod script;
mod servers;
mod settings;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;

pub use self::connection::Server;
use self::keys::Bucket;
use self::script::Call;
use self::servers::{Lane, Servers};
pub use self::settings::{Mode, Node, RedisSettings, RedisSettingsError, Tls};
use super::{Changes, Heard, Key, Loaded, Position, Store, StoreError, Swapped, Write};

/// A store in Redis or Valkey.
///
/// Connections are made when they are needed and again when they break: a server that is not there yet, or not there
/// for a while, makes operations fail and nothing else.
pub struct RedisStore(Arc<Servers>);

impl RedisStore {
    /// A store on these servers. Nothing is asked of them yet.
    ///
    /// # Errors
    /// If the settings contradict each other, or name a file that cannot be read.
    pub fn new(settings: RedisSettings) -> Result<Self, RedisSettingsError> {
        Servers::new(settings).map(Arc::new).map(Self)
    }

    /// Asks all servers that hold records for what they say of themselves.
    ///
    /// The same is asked on every new connection. This call finds out before somebody waits, and when the settings of
    /// a server are changed while it runs.
    ///
    /// # Errors
    /// If one of them cannot be reached, or must not be used: then the store does not use it either.
    pub async fn check(&self) -> Result<Vec<Server>, StoreError> {
        self.0.check().await
    }

    fn prefix(&self) -> &str {
        &self.0.settings.prefix
    }
}

impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStore").field("settings", &self.0.settings).finish_non_exhaustive()
    }
}

#[async_trait]
impl Store for RedisStore {
    async fn load(&self, key: Key) -> Result<Loaded, StoreError> {
        let call = Call::load(self.prefix(), key);
        script::loaded(self.0.run(Bucket::of(key), Lane::Ask, &call).await?)
    }

    async fn swap(&self, key: Key, version: u64, write: Write) -> Result<Swapped, StoreError> {
        let lane = if write.news.is_some() { Lane::Tell } else { Lane::Ask };
        let call = Call::swap(self.prefix(), key, version, write);
        script::swapped(&self.0.run(Bucket::of(key), lane, &call).await?)
    }

    fn changes(&self) -> Option<&dyn Changes> {
        Some(self)
    }
}

#[async_trait]
impl Changes for RedisStore {
    /// Own writes are heard too. One listener per store: two would wait for each other.
    async fn after(&self, position: Option<&Position>) -> Result<Heard, StoreError> {
        news::after(&self.0, position).await
    }
}

#[cfg(test)]
mod tests;
