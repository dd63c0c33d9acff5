//! What a back end of the ledger has to do: compare and swap bytes, and pass on what others have written.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::session::SessionId;

/// What a record is filed under.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Key {
    /// One session.
    Session(SessionId),
    /// One thing that may be used once, by its SHA-256: the state of a login.
    Once([u8; 32]),
    /// All sessions of one subject of one issuer, by a SHA-256 over both.
    Subject([u8; 32]),
    /// All sessions that belong to one session at the issuer (`sid`), by a SHA-256 over both.
    IssuerSession([u8; 32]),
    /// All sessions of one issuer, by a SHA-256 over it.
    Everyone([u8; 32]),
    /// The list of one subject's sessions, for administrators, by a SHA-256 over site and subject.
    Roster([u8; 32]),
    /// A part of the list of subjects, for administrators, by a SHA-256 over site and number.
    Directory([u8; 32]),
}

/// A record as a store holds it.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// Its bytes, if there is one whose time is not over.
    pub bytes: Option<Vec<u8>>,
    /// What [`Store::swap`] compares; zero if there is none. It never comes back after a record was replaced.
    pub version: u64,
    /// The store's own clock, so that replicas need not agree on theirs.
    pub now: Timestamp,
}

/// A record to be stored.
#[derive(Clone, Debug)]
pub struct Write {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// After this moment, by the store's clock, it may be forgotten, and not before.
    pub keep_until: Timestamp,
    /// What other processes have to hear: passed on with the write, or not at all. Bytes that a store need not understand.
    pub news: Option<Vec<u8>>,
}

/// What came of a [`Store::swap`].
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Swapped {
    /// The record is stored, as safely as this store can.
    Done,
    /// Somebody else stored one first; nothing has changed.
    Moved,
}

/// Why a store could not do what it was asked to. Nothing is known about whether a write took place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// It cannot be reached, or did not answer in time.
    #[error("the ledger cannot be reached: {0}")]
    Unreachable(String),
    /// There is no room for another record.
    #[error("the ledger is full: {0}")]
    Full(String),
    /// A record cannot be read.
    #[error("the ledger holds a record that cannot be read")]
    Corrupt,
}

/// A back end of the ledger. It compares and swaps bytes and knows no rule. All its calls end within seconds.
#[async_trait]
pub trait Store: Send + Sync {
    /// The record under `key`.
    ///
    /// # Errors
    /// If the store cannot be asked.
    async fn load(&self, key: Key) -> Result<Loaded, StoreError>;

    /// Puts `write` in place of the record under `key`, if that still has `version`. A record whose time is over counts
    /// as none.
    ///
    /// # Errors
    /// If the store cannot be asked, or does not know whether it has written.
    async fn swap(&self, key: Key, version: u64, write: Write) -> Result<Swapped, StoreError>;

    /// The news of other processes; none if all writes pass through this one.
    fn changes(&self) -> Option<&dyn Changes> {
        None
    }
}

/// A place in the news of a store. Only the store understands it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position(pub Vec<u8>);

/// What has been written, here or by others, since some position.
#[derive(Clone, Debug)]
pub struct Heard {
    /// The [`news`](Write::news) of each write, in the order of writing for each key.
    pub news: Vec<Vec<u8>>,
    /// Where to go on.
    pub position: Position,
    /// Something before `news` may be missing: the store has forgotten it, or lost it, or was not asked for it.
    pub gap: bool,
}

/// The news of a store that several processes share.
#[async_trait]
pub trait Changes: Send + Sync {
    /// What was written after `position`. Waits for it, about a second at most: an empty answer says that nothing was
    /// written until then. Without a position it answers at once, with the present end and a gap before it.
    ///
    /// # Errors
    /// If the store cannot be asked. The position is still good then.
    async fn after(&self, position: Option<&Position>) -> Result<Heard, StoreError>;
}
