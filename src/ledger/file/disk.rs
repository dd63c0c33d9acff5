//! The file itself: where it lies, who may read it, whether it is whole, and who holds it.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use redb::{Builder, Database, DatabaseError, StorageError};

use super::records::{self, Tally, Trouble};

/// Why a ledger cannot be kept in a file.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The path leads to something else.
    #[error("ledger.path: {0} is not a folder; name one, or a path where one can be made")]
    NotAFolder(PathBuf),
    /// Everybody may change what lies in the folder.
    #[error(
        "ledger.path: everybody may write to {0} (mode {1:o}), and so replace the ledger; name a folder below it, which is then made for vestibule alone, or chmod o-w it"
    )]
    FolderForAll(PathBuf, u32),
    /// Everybody may read or change the file.
    #[error("ledger.path: {0} is open to everybody (mode {1:o}); chmod 600 it")]
    FileForAll(PathBuf, u32),
    /// This user may not.
    #[error(
        "ledger.path: {path} belongs to user {owner} and has mode {mode:o}, so that it cannot be used ({source}); chown it to the user that vestibule runs as"
    )]
    Forbidden {
        /// What belongs to somebody else.
        path: PathBuf,
        /// The number of its owner.
        owner: u32,
        /// Its permissions.
        mode: u32,
        /// What the system said.
        source: io::Error,
    },
    /// The disk refuses.
    #[error("ledger.path: {0} cannot be used ({1}); name a folder on a disk that can be written to and has room")]
    Disk(PathBuf, String),
    /// There is no room.
    #[error("ledger.path: the disk of {0} is full ({1}); make room on it")]
    NoRoom(PathBuf, String),
    /// The file does not hold what was written to it.
    #[error(
        "ledger.path: {0} is damaged ({1}); restore the disk's contents, or stop vestibule, move the file away and start again: it is then forgotten which sessions have ended (their copied cookies work again until their limit), and people whose last refresh did not reach their browser have to sign in again"
    )]
    Damaged(PathBuf, String),
    /// Another version has written it.
    #[error(
        "ledger.path: {0} was written by another version of vestibule (format {1}, this one reads {now}); run that version, or stop vestibule, move the file away and start again: it is then forgotten which sessions have ended, and people whose last refresh did not reach their browser have to sign in again",
        now = records::FORMAT_NOW
    )]
    Format(PathBuf, u64),
    /// The system gives no thread.
    #[error("ledger.path: no thread can be started for {0} ({1}); raise the limit of processes")]
    Thread(PathBuf, io::Error),
}

/// Why the file was not opened.
#[derive(Debug)]
pub(super) enum Refusal {
    /// Another process holds it.
    Held,
    /// It cannot be used.
    Error(OpenError),
}

/// An open file, whole and held by this process.
pub(super) struct Opened {
    pub(super) database: Database,
    pub(super) tally: Tally,
}

/// Opens an existing file: by its path, or, in tests, over a disk that fails on command.
pub(super) type Open = Box<dyn Fn(Builder, &Path) -> Result<Database, DatabaseError> + Send>;

/// The place of the file.
pub(super) struct Disk {
    path: PathBuf,
    open: Open,
}

/// The database would take a gigabyte for its cache. Ours is read rarely, and the system caches the file as well.
const CACHE_BYTES: usize = 8 << 20;
/// Smaller files are not worth the work of compacting them.
const COMPACT_FROM: u64 = 16 << 20;

impl Disk {
    /// Makes sure of the folder and of who may read the file, if there is one already.
    pub(super) fn new(folder: &Path) -> Result<Self, OpenError> {
        Self::with(folder, Box::new(|builder, path| builder.open(path)))
    }

    pub(super) fn with(folder: &Path, open: Open) -> Result<Self, OpenError> {
        if folder.symlink_metadata().is_err() {
            DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(|error| cannot(folder, error))?;
        }
        let found = folder.metadata().map_err(|error| cannot(folder, error))?;
        if !found.is_dir() {
            return Err(OpenError::NotAFolder(folder.to_owned()));
        }
        if found.mode() & 0o002 != 0 {
            return Err(OpenError::FolderForAll(folder.to_owned(), found.mode() & 0o7777));
        }
        Ok(Self { path: folder.join("ledger.redb"), open })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Opens the file, makes it if there is none, and reads it once to see that it is whole.
    ///
    /// The database panics here and there over a damaged file; to the caller that is damage like any other.
    pub(super) fn open(&self) -> Result<Opened, Refusal> {
        catch_unwind(AssertUnwindSafe(|| {
            if !fs::exists(&self.path).map_err(|error| Refusal::Error(cannot(&self.path, error)))? {
                self.create()?;
            }
            self.open_existing()
        }))
        .unwrap_or_else(|_| Err(Refusal::Error(OpenError::Damaged(self.path.clone(), "reading it failed".to_owned()))))
    }

    fn open_existing(&self) -> Result<Opened, Refusal> {
        let found = self.path.metadata().map_err(|error| Refusal::Error(cannot(&self.path, error)))?;
        // Its group may: volumes of containers are shared by group. What lies in it is sealed.
        if found.mode() & 0o007 != 0 {
            return Err(Refusal::Error(OpenError::FileForAll(self.path.clone(), found.mode() & 0o7777)));
        }
        let repaired = Arc::new(AtomicBool::new(false));
        let (mut builder, note) = (Builder::new(), repaired.clone());
        builder.set_cache_size(CACHE_BYTES).set_repair_callback(move |_| note.store(true, Ordering::Relaxed));
        let mut database = (self.open)(builder, &self.path).map_err(|error| self.refusal(error))?;
        // After a kill the database has read and checked everything already.
        if !repaired.load(Ordering::Relaxed) {
            let sound = database.check_integrity().map_err(|error| self.refusal(error))?;
            repaired.store(!sound, Ordering::Relaxed);
        }
        if repaired.load(Ordering::Relaxed) {
            tracing::warn!(path = %self.path.display(), "the ledger was not closed properly: it was checked and repaired");
        }
        match records::format(&database).map_err(|trouble| self.trouble(trouble))? {
            Some(records::FORMAT_NOW) => {}
            Some(other) => return Err(Refusal::Error(OpenError::Format(self.path.clone(), other))),
            None => return Err(self.damage("it holds no ledger")),
        }
        let tally = records::count(&database).map_err(|trouble| self.trouble(trouble))?;
        self.compact(&mut database)?;
        Ok(Opened { database, tally })
    }

    /// Gives room back to the disk if most of the file is free.
    fn compact(&self, database: &mut Database) -> Result<(), Refusal> {
        let length = self.path.metadata().map_or(0, |found| found.len());
        if length >= COMPACT_FROM {
            let used = records::used_bytes(database).map_err(|trouble| self.trouble(trouble))?;
            if used < length / 4 {
                database.compact().map_err(|error| self.trouble(error.into()))?;
            }
        }
        Ok(())
    }

    /// Makes the file under another name first, so that an empty one is never a new one: it has lost its contents.
    fn create(&self) -> Result<(), Refusal> {
        let draft = self.path.with_extension("redb.new");
        let failed = |error| Refusal::Error(cannot(&self.path, error));
        let make = || {
            let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&draft);
            // A draft that a kill has left half done holds nothing, and is done anew.
            Builder::new().create_file(file.map_err(failed)?).map_err(|error| self.refusal(error))
        };
        let database = match make() {
            Err(Refusal::Error(OpenError::Damaged(..))) => {
                fs::remove_file(&draft).map_err(failed)?;
                make()?
            }
            made => made?,
        };
        // Whoever holds the draft's lock and finds no file is alone.
        if fs::exists(&self.path).map_err(failed)? {
            return fs::remove_file(&draft).map_err(failed);
        }
        if records::format(&database).map_err(|trouble| self.trouble(trouble))?.is_none() {
            records::create(&database).map_err(|trouble| self.trouble(trouble))?;
        }
        fs::rename(&draft, &self.path).map_err(failed)?;
        // A file's name is on the disk only when its folder is, and a new folder's when the folder around it is. That
        // one may be closed to us; then it was not we who made ours.
        let sync = |folder: &Path| File::open(folder).and_then(|folder| folder.sync_all());
        if let Some(folder) = self.path.parent() {
            sync(folder).map_err(failed)?;
            folder.canonicalize().ok().and_then(|folder| sync(folder.parent()?).ok());
        }
        tracing::info!(path = %self.path.display(), "a new ledger was made");
        Ok(())
    }

    fn refusal(&self, error: DatabaseError) -> Refusal {
        if matches!(error, DatabaseError::DatabaseAlreadyOpen) {
            return Refusal::Held;
        }
        if let DatabaseError::UpgradeRequired(version) = error {
            return self.damage(&format!("its database has the older format {version}"));
        }
        if let DatabaseError::Storage(StorageError::Io(error)) = error {
            let closed = matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem);
            return if closed { Refusal::Error(cannot(&self.path, error)) } else { self.trouble(error.into()) };
        }
        self.trouble(error.into())
    }

    fn trouble(&self, trouble: Trouble) -> Refusal {
        Refusal::Error(self.error(trouble))
    }

    pub(super) fn error(&self, trouble: Trouble) -> OpenError {
        let path = self.path.clone();
        match trouble {
            Trouble::NoRoom(found) => OpenError::NoRoom(path, found),
            Trouble::Disk(found) => OpenError::Disk(path, found),
            Trouble::Damage(found) => OpenError::Damaged(path, found),
        }
    }

    fn damage(&self, found: &str) -> Refusal {
        self.trouble(Trouble::Damage(found.to_owned()))
    }
}

/// What the system's refusal means for `path`.
pub(super) fn cannot(path: &Path, source: io::Error) -> OpenError {
    // What exists and is closed to us names its owner, be it the file or the folder around it.
    let closed = path.ancestors().find_map(|path| Some((path.to_owned(), path.metadata().ok()?)));
    match (source.kind(), closed) {
        (io::ErrorKind::PermissionDenied, Some((path, found))) => {
            OpenError::Forbidden { path, owner: found.uid(), mode: found.permissions().mode() & 0o7777, source }
        }
        (io::ErrorKind::NotADirectory | io::ErrorKind::AlreadyExists, _) => OpenError::NotAFolder(path.to_owned()),
        (io::ErrorKind::StorageFull, _) => OpenError::NoRoom(path.to_owned(), source.to_string()),
        _ => OpenError::Disk(path.to_owned(), source.to_string()),
    }
}
