//! What stands in the file: records by key, the order in which they expire, and a few numbers.

use std::{fmt, io};

use redb::{Database, ReadableDatabase, ReadableTable, Table, TableDefinition, WriteTransaction};
use sha2::{Digest, Sha256};

use super::super::{Key, Loaded, StoreError, Swapped};
use super::threads::Swap;
use crate::clock::Timestamp;

/// Key to check, version, expiry, bytes.
const RECORDS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("records");
/// Expiry and key.
const EXPIRIES: TableDefinition<'_, &[u8], ()> = TableDefinition::new("expiries");
const NUMBERS: TableDefinition<'_, &str, u64> = TableDefinition::new("numbers");

/// The number under which the layout of the tables is noted, and the layout that this program writes and reads.
const FORMAT: &str = "format";
pub(super) const FORMAT_NOW: u64 = 1;
/// The last version that was given to a record; none is given twice, so that nobody takes a new record for an old one.
const VERSION: &str = "version";

/// What a record costs beside its own bytes: key, version, expiry and their share of two trees.
const OVERHEAD: u64 = 160;
/// So many expired records are removed with each commit, besides those that make room: more than a commit brings, and
/// few enough that nobody waits for them.
const REMOVED_AT_ONCE: usize = 512;

/// Why the database could not do what it was asked to.
#[derive(Clone, Debug)]
pub(super) enum Trouble {
    /// The disk is full.
    NoRoom(String),
    /// The disk failed.
    Disk(String),
    /// The file does not hold what was written to it.
    Damage(String),
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::NoRoom(found) | Self::Disk(found) | Self::Damage(found)) = self;
        f.write_str(found)
    }
}

impl<E: Into<redb::Error>> From<E> for Trouble {
    fn from(error: E) -> Self {
        use io::ErrorKind;
        let error = error.into();
        let kind = if let redb::Error::Io(error) = &error { Some(error.kind()) } else { None };
        if matches!(kind, Some(ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge)) {
            Self::NoRoom(error.to_string())
        } else if matches!(kind, Some(ErrorKind::UnexpectedEof | ErrorKind::InvalidData | ErrorKind::InvalidInput)) {
            Self::Damage(error.to_string())
        } else if kind.is_some() || matches!(error, redb::Error::PreviousIo) {
            Self::Disk(error.to_string())
        } else {
            Self::Damage(error.to_string())
        }
    }
}

/// What is counted along with the records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    /// The last version that was given.
    pub(super) version: u64,
    /// What the records take, with their overhead.
    pub(super) bytes: u64,
}

/// The key as it stands in the file: a byte for its kind and its id or hash.
pub(super) fn key(key: Key) -> Vec<u8> {
    let (kind, rest): (u8, &[u8]) = match &key {
        Key::Session(id) => (1, id.as_bytes()),
        Key::Once(hash) => (2, hash),
        Key::Subject(hash) => (3, hash),
        Key::IssuerSession(hash) => (4, hash),
        Key::Everyone(hash) => (5, hash),
        Key::Roster(hash) => (6, hash),
        Key::Directory(hash) => (7, hash),
    };
    [&[kind], rest].concat()
}

/// Makes the tables of a new file.
pub(super) fn create(database: &Database) -> Result<(), Trouble> {
    let transaction = database.begin_write()?;
    transaction.open_table(RECORDS)?;
    transaction.open_table(EXPIRIES)?;
    transaction.open_table(NUMBERS)?.insert(FORMAT, FORMAT_NOW)?;
    transaction.commit()?;
    Ok(())
}

/// The number of the format in which the tables are; none if the file is not ours.
pub(super) fn format(database: &Database) -> Result<Option<u64>, Trouble> {
    let transaction = database.begin_read()?;
    match transaction.open_table(NUMBERS) {
        Ok(numbers) => Ok(numbers.get(FORMAT)?.map(|number| number.value())),
        Err(redb::TableError::TableDoesNotExist(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Counts what there is.
pub(super) fn count(database: &Database) -> Result<Tally, Trouble> {
    let transaction = database.begin_read()?;
    let version = transaction.open_table(NUMBERS)?.get(VERSION)?.map_or(0, |version| version.value());
    let mut bytes = 0;
    for record in transaction.open_table(RECORDS)?.iter()? {
        bytes += record?.1.value().len() as u64 + OVERHEAD;
    }
    Ok(Tally { version, bytes })
}

/// What the file would take without what is free in it.
pub(super) fn used_bytes(database: &Database) -> Result<u64, Trouble> {
    let transaction = database.begin_write()?;
    let stats = transaction.stats()?;
    transaction.abort()?;
    Ok(stats.allocated_pages() * stats.page_size() as u64)
}

/// The record under `key`. One that cannot be read is told apart from a database that cannot.
pub(super) fn load(database: &Database, key: &[u8], now: Timestamp) -> Result<Result<Loaded, StoreError>, Trouble> {
    let transaction = database.begin_read()?;
    let found = transaction.open_table(RECORDS)?.get(key)?;
    let Some(found) = found else { return Ok(Ok(Loaded { bytes: None, version: 0, now })) };
    Ok(match Record::decode(key, found.value()) {
        None => Err(StoreError::Corrupt),
        Some(record) if record.keep_until <= now => Ok(Loaded { bytes: None, version: 0, now }),
        Some(record) => Ok(Loaded { bytes: Some(record.bytes.to_vec()), version: record.version, now }),
    })
}

/// Applies all of `swaps` in one transaction, which is on the disk when this returns, and removes some of what has expired.
pub(super) fn apply(
    database: &Database,
    swaps: &[Swap],
    tally: &mut Tally,
    max_bytes: u64,
    now: Timestamp,
) -> Result<Vec<Result<Swapped, StoreError>>, Trouble> {
    let transaction = database.begin_write()?;
    let before = *tally;
    let mut open = Open::new(&transaction, before, max_bytes, now)?;
    let answers = swaps.iter().map(|swap| open.swap(swap)).collect::<Result<_, _>>()?;
    open.remove_expired(REMOVED_AT_ONCE)?;
    let after = open.tally;
    if after == before {
        drop(open);
        transaction.abort()?;
    } else {
        open.numbers.insert(VERSION, after.version)?;
        drop(open);
        transaction.commit()?;
        *tally = after;
    }
    Ok(answers)
}

/// The tables within one transaction.
struct Open<'t> {
    records: Table<'t, &'static [u8], &'static [u8]>,
    expiries: Table<'t, &'static [u8], ()>,
    numbers: Table<'t, &'static str, u64>,
    tally: Tally,
    max_bytes: u64,
    now: Timestamp,
}

impl<'t> Open<'t> {
    fn new(transaction: &'t WriteTransaction, tally: Tally, max_bytes: u64, now: Timestamp) -> Result<Self, Trouble> {
        Ok(Self {
            records: transaction.open_table(RECORDS)?,
            expiries: transaction.open_table(EXPIRIES)?,
            numbers: transaction.open_table(NUMBERS)?,
            tally,
            max_bytes,
            now,
        })
    }

    fn swap(&mut self, swap: &Swap) -> Result<Result<Swapped, StoreError>, Trouble> {
        let present = match self.records.get(swap.key.as_slice())? {
            None => None,
            Some(found) => match Record::decode(&swap.key, found.value()) {
                None => return Ok(Err(StoreError::Corrupt)),
                Some(record) => Some((record.version, record.keep_until, found.value().len() as u64)),
            },
        };
        let live = present.filter(|(_, keep_until, _)| *keep_until > self.now);
        if live.map_or(0, |(version, ..)| version) != swap.version {
            return Ok(Ok(Swapped::Moved));
        }
        if let Some((_, keep_until, length)) = present {
            self.tally.bytes = self.tally.bytes.saturating_sub(length + OVERHEAD);
            self.expiries.remove(expiry(keep_until, &swap.key).as_slice())?;
        }
        let released = present.map_or(0, |(_, _, length)| length + OVERHEAD);
        let record = Record { version: self.tally.version + 1, keep_until: swap.keep_until, bytes: &swap.bytes }
            .encode(&swap.key);
        let wanted = record.len() as u64 + OVERHEAD;
        while wanted > released && self.tally.bytes + wanted > self.max_bytes {
            if self.remove_expired(REMOVED_AT_ONCE)? == 0 {
                if let Some((_, keep_until, _)) = present {
                    self.expiries.insert(expiry(keep_until, &swap.key).as_slice(), ())?;
                }
                self.tally.bytes += released;
                return Ok(Err(StoreError::Full(format!("ledger.max_bytes is {}; raise it", self.max_bytes))));
            }
        }
        self.records.insert(swap.key.as_slice(), record.as_slice())?;
        self.expiries.insert(expiry(swap.keep_until, &swap.key).as_slice(), ())?;
        self.tally.version += 1;
        self.tally.bytes += wanted;
        Ok(Ok(Swapped::Done))
    }

    /// Removes at most so many records whose time is over, and returns how many.
    fn remove_expired(&mut self, at_most: usize) -> Result<usize, Trouble> {
        let end = expiry(self.now, &[u8::MAX; KEY_BYTES]);
        let mut expired = Vec::new();
        for entry in self.expiries.range::<&[u8]>(..=end.as_slice())?.take(at_most) {
            expired.push(entry?.0.value().to_vec());
        }
        for entry in &expired {
            self.expiries.remove(entry.as_slice())?;
            let key = entry.get(8..).unwrap_or_default();
            if let Some(removed) = self.records.remove(key)? {
                self.tally.bytes = self.tally.bytes.saturating_sub(removed.value().len() as u64 + OVERHEAD);
            }
        }
        Ok(expired.len())
    }
}

/// The longest key.
const KEY_BYTES: usize = 33;

fn expiry(keep_until: Timestamp, key: &[u8]) -> Vec<u8> {
    [&keep_until.as_millis().to_be_bytes(), key].concat()
}

/// A record as it is stored.
pub(super) struct Record<'a> {
    pub(super) version: u64,
    pub(super) keep_until: Timestamp,
    pub(super) bytes: &'a [u8],
}

impl<'a> Record<'a> {
    pub(super) fn encode(&self, key: &[u8]) -> Vec<u8> {
        let rest = [&self.version.to_be_bytes()[..], &self.keep_until.as_millis().to_be_bytes(), self.bytes].concat();
        [&check(key, &rest)[..], &rest].concat()
    }

    /// Nothing, if it is not what was stored under `key`.
    pub(super) fn decode(key: &[u8], stored: &'a [u8]) -> Option<Self> {
        let (found, rest) = stored.split_first_chunk::<8>()?;
        let (version, after) = rest.split_first_chunk::<8>()?;
        let (keep_until, bytes) = after.split_first_chunk::<8>()?;
        (*found == check(key, rest)).then(|| Self {
            version: u64::from_be_bytes(*version),
            keep_until: Timestamp::from_millis(u64::from_be_bytes(*keep_until)),
            bytes,
        })
    }
}

/// The database checks its pages when it is opened, not when it reads them later, and a record that a failing disk has
/// changed might still look like one: an ending, or a generation that no browser can reach.
fn check(key: &[u8], rest: &[u8]) -> [u8; 8] {
    let hash: [u8; 32] = Sha256::new().chain_update(key).chain_update(rest).finalize().into();
    let [a, b, c, d, e, f, g, h, ..] = hash;
    [a, b, c, d, e, f, g, h]
}
