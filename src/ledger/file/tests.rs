use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::future::poll_fn;
use std::io;
use std::ops::Bound;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex};
use std::task::Poll;

use redb::backends::FileBackend;
use redb::{BackendError, StorageBackend};
use tempfile::TempDir;
use tokio::task::JoinSet;

use super::super::contract;
use super::*;
use crate::clock::{ManualClock, SystemClock, Timestamp};

const LIMIT: Timestamp = Timestamp::from_secs(4_000_000_000);
const ROOM: usize = 1 << 30;
/// How long anything may take that is not itself the subject of a test.
const LONG: Duration = Duration::from_secs(60);

fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder")
}

fn open(folder: &TempDir) -> FileStore {
    FileStore::open(folder.path(), Arc::new(SystemClock::default()), ROOM).expect("opens")
}

fn file(folder: &TempDir) -> PathBuf {
    folder.path().join("ledger.redb")
}

/// The `n`-th key, all of them spread over the file.
fn key(n: u64) -> Key {
    let mut hash = [0; 32];
    hash[..8].copy_from_slice(&n.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    Key::Once(hash)
}

fn write(bytes: impl Into<Vec<u8>>) -> Write {
    Write { bytes: bytes.into(), keep_until: LIMIT, news: None }
}

/// A body of the `n`-th record that no other has.
fn body(n: u64, length: usize) -> Vec<u8> {
    n.to_le_bytes().into_iter().cycle().take(length).collect()
}

/// Asks for a thing, and does not wait for it.
async fn ask<T>(thing: &mut (impl Future<Output = T> + Unpin)) {
    poll_fn(|context| Poll::Ready(std::pin::Pin::new(&mut *thing).poll(context).is_ready())).await;
}

/// Stores `records` bodies beside one another.
async fn fill(store: &Arc<FileStore>, records: std::ops::Range<u64>, length: usize) {
    let mut writers = JoinSet::new();
    for n in records {
        if writers.len() == 64 {
            writers.join_next().await.expect("one").expect("ends");
        }
        let store = store.clone();
        writers.spawn(async move {
            assert_eq!(store.swap(key(n), 0, write(body(n, length))).await, Ok(Swapped::Done));
        });
    }
    writers.join_all().await;
}

async fn until<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let deadline = tokio::time::Instant::now() + LONG;
    while !holds().await {
        assert!(tokio::time::Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn it_keeps_the_contract_of_a_store() {
    let folders = Mutex::new(Vec::new());
    contract::check(|| {
        let folder = folder();
        let store = Arc::new(open(&folder));
        folders.lock().expect("no panic").push(folder);
        store
    })
    .await;
}

#[tokio::test]
async fn what_was_acknowledged_is_there_after_a_restart_and_versions_go_on() {
    let folder = folder();
    let store = open(&folder);
    assert_eq!(store.swap(key(1), 0, write("one")).await, Ok(Swapped::Done));
    assert_eq!(store.swap(key(2), 0, write("two")).await, Ok(Swapped::Done));
    let two = store.load(key(2)).await.expect("loads").version;
    assert!(store.close().await);
    assert!(matches!(store.load(key(1)).await, Err(StoreError::Unreachable(_))));

    let store = open(&folder);
    let loaded = store.load(key(1)).await.expect("loads");
    assert_eq!(loaded.bytes, Some(b"one".to_vec()));
    assert_eq!(store.swap(key(3), 0, write("three")).await, Ok(Swapped::Done));
    assert!(store.load(key(3)).await.expect("loads").version > two);
    assert_eq!(store.swap(key(1), loaded.version, write("one again")).await, Ok(Swapped::Done));
    assert_eq!(store.swap(key(1), loaded.version, write("late")).await, Ok(Swapped::Moved));
}

/// The record that had the highest version is gone without a trace; its version does not come back.
#[tokio::test]
async fn versions_survive_the_records_that_had_them() {
    let folder = folder();
    let clock = Arc::new(ManualClock::new(Timestamp::from_secs(1_000)));
    let store = FileStore::open(folder.path(), clock.clone(), ROOM).expect("opens");
    let short = Write { keep_until: Timestamp::from_secs(1_010), ..write("short") };
    assert_eq!(store.swap(key(1), 0, short).await, Ok(Swapped::Done));
    let first = store.load(key(1)).await.expect("loads").version;
    clock.set(Timestamp::from_secs(1_010));
    assert_eq!(store.load(key(1)).await.expect("loads").bytes, None);
    assert!(store.close().await);

    let disk = Disk::new(folder.path()).expect("a folder");
    let count = || disk.open().map(|opened| opened.tally).expect("opens");
    assert_ne!(count().bytes, 0);
    let store = FileStore::open(folder.path(), clock, ROOM).expect("opens");
    assert_eq!(store.swap(key(2), 0, write("other")).await, Ok(Swapped::Done));
    assert!(store.close().await);
    // One record of 5 bytes, 24 bytes before them, 160 beside.
    assert_eq!(count().bytes, 189);

    let store = open(&folder);
    assert_eq!(store.swap(key(1), 0, write("long")).await, Ok(Swapped::Done));
    assert!(store.load(key(1)).await.expect("loads").version > first);
}

#[tokio::test]
async fn expired_records_go_without_a_write_that_chases_them() {
    let folder = folder();
    let clock = Arc::new(ManualClock::new(Timestamp::from_secs(1_000)));
    let patience = Patience { idle: Duration::from_millis(20), ..PATIENCE };
    let disk = Disk::new(folder.path()).expect("a folder");
    let store = Arc::new(FileStore::start(disk, clock.clone(), ROOM, patience).expect("opens"));
    fill(&store, 0..1_500, 100).await;
    clock.set(LIMIT);
    let copy = self::folder();
    until("all are gone", || async {
        // A copy that is taken at a bad moment is opened like a file after a kill, or refused.
        fs::copy(file(&folder), file(&copy)).expect("copies");
        Disk::new(copy.path()).expect("a folder").open().is_ok_and(|opened| opened.tally.bytes == 0)
    })
    .await;
}

#[tokio::test]
async fn live_records_are_bounded_and_what_expires_makes_room() {
    let folder = folder();
    let clock = Arc::new(ManualClock::new(Timestamp::from_secs(1_000)));
    let store = FileStore::open(folder.path(), clock.clone(), 700).expect("opens");
    let write = |keep_until| Write { keep_until: Timestamp::from_secs(keep_until), ..write([7; 100]) };
    assert_eq!(store.swap(key(1), 0, write(1_010)).await, Ok(Swapped::Done));
    assert_eq!(store.swap(key(2), 0, write(1_020)).await, Ok(Swapped::Done));
    let full = Err(StoreError::Full("ledger.max_bytes is 700; raise it".to_owned()));
    assert_eq!(store.swap(key(3), 0, write(1_020)).await, full);
    assert_eq!(store.load(key(3)).await.expect("loads").bytes, None);
    // Whoever has a record may go on with it.
    let version = store.load(key(2)).await.expect("loads").version;
    assert_eq!(store.swap(key(2), version, write(1_020)).await, Ok(Swapped::Done));
    clock.set(Timestamp::from_secs(1_010));
    assert_eq!(store.swap(key(3), 0, write(1_020)).await, Ok(Swapped::Done));
    assert_eq!(store.swap(key(1), 0, write(1_020)).await, full);
    assert!(store.close().await);
    let store = FileStore::open(folder.path(), clock, 700).expect("opens");
    assert_eq!(store.swap(key(1), 0, write(1_020)).await, full);
}

#[tokio::test]
async fn the_file_stays_small_however_often_records_are_replaced() {
    const RECORDS: u64 = 2_000;
    let folder = folder();
    let store = Arc::new(open(&folder));
    let mut writers = JoinSet::new();
    for writer in 0..200 {
        let store = store.clone();
        writers.spawn(async move {
            for round in 0..1_000 {
                let key = key((writer + 200 * round) % RECORDS);
                let version = store.load(key).await.expect("loads").version;
                assert_eq!(store.swap(key, version, write(body(round, 1_000))).await, Ok(Swapped::Done));
            }
        });
    }
    writers.join_all().await;
    let live = RECORDS * 1_200;
    let length = fs::metadata(file(&folder)).expect("there").len();
    assert!(length < 6 * live, "{length} bytes for {live} live ones");
}

#[tokio::test]
async fn a_file_that_is_mostly_free_is_compacted_when_it_is_opened() {
    let folder = folder();
    let clock = Arc::new(ManualClock::new(Timestamp::from_secs(1_000)));
    let store = Arc::new(FileStore::open(folder.path(), clock.clone(), ROOM).expect("opens"));
    fill(&store, 0..5_000, 5_000).await;
    let full = fs::metadata(file(&folder)).expect("there").len();
    clock.set(LIMIT);
    for n in 0..20 {
        let later = Write { keep_until: LIMIT + LONG, ..write(body(n, 100)) };
        assert_eq!(store.swap(key(n), 0, later).await, Ok(Swapped::Done));
    }
    assert!(store.close().await);
    let store = FileStore::open(folder.path(), clock, ROOM).expect("opens");
    let length = fs::metadata(file(&folder)).expect("there").len();
    assert!(length < full / 4, "{length} of {full} bytes");
    for n in 0..20 {
        assert_eq!(store.load(key(n)).await.expect("loads").bytes, Some(body(n, 100)));
    }
}

#[tokio::test]
async fn a_successor_starts_at_once_and_its_operations_wait_for_the_file() {
    let folder = folder();
    let first = open(&folder);
    assert_eq!(first.swap(key(1), 0, write("one")).await, Ok(Swapped::Done));
    let second = open(&folder);
    let third = open(&folder);
    let mut waiting = Box::pin(second.load(key(1)));
    assert!(tokio::time::timeout(Duration::from_millis(300), &mut waiting).await.is_err());
    assert_eq!(first.swap(key(2), 0, write("two")).await, Ok(Swapped::Done));
    // One that is given up while it waits is in nobody's way.
    assert!(third.close().await);
    drop(first);
    assert_eq!(waiting.await.expect("loads").bytes, Some(b"one".to_vec()));
    assert_eq!(second.load(key(2)).await.expect("loads").bytes, Some(b"two".to_vec()));
}

#[tokio::test]
async fn waiting_for_a_file_that_another_process_keeps_ends_with_its_name() {
    let folder = folder();
    let _first = open(&folder);
    let patience = Patience { call: Duration::from_millis(50), ..PATIENCE };
    let disk = Disk::new(folder.path()).expect("a folder");
    let second = FileStore::start(disk, Arc::new(SystemClock::default()), ROOM, patience).expect("opens");
    let error = second.load(key(1)).await.expect_err("held").to_string();
    assert!(error.contains(&format!("another process holds {}", file(&folder).display())), "{error}");
    let error = second.swap(key(1), 0, write("one")).await.expect_err("held").to_string();
    assert!(error.contains("another process holds"), "{error}");
}

#[tokio::test]
async fn dropping_the_store_writes_what_is_queued_and_frees_the_file() {
    let folder = folder();
    let store = open(&folder);
    let mut writing: Vec<_> = (0..200).map(|n| store.swap(key(n), 0, write("queued"))).collect();
    for swap in &mut writing {
        ask(swap).await;
    }
    drop(writing);
    drop(store);
    let store = open(&folder);
    for n in 0..200 {
        assert_eq!(store.load(key(n)).await.expect("loads").bytes, Some(b"queued".to_vec()), "{n}");
    }
}

#[test]
fn folder_and_file_are_for_their_owner_alone() {
    let folder = folder();
    let below = folder.path().join("a/ledger");
    let _store = FileStore::open(&below, Arc::new(SystemClock::default()), ROOM).expect("opens");
    let mode = |path: &Path| fs::metadata(path).expect("there").mode() & 0o777;
    assert_eq!((mode(&below), mode(&below.join("ledger.redb"))), (0o700, 0o600));
    let left: Vec<_> = fs::read_dir(&below).expect("reads").map(|entry| entry.expect("reads").file_name()).collect();
    assert_eq!(left, ["ledger.redb"]);
}

#[tokio::test]
async fn a_file_that_a_kill_left_half_made_is_made_anew() {
    let folder = folder();
    let draft = folder.path().join("ledger.redb.new");
    for half in [&b""[..], b"redb", &[7; 9_000]] {
        fs::write(&draft, half).expect("writes");
        fs::set_permissions(&draft, fs::Permissions::from_mode(0o600)).expect("chmod");
        let store = open(&folder);
        assert_eq!(store.load(key(1)).await.expect("loads").bytes, None);
        assert!(!draft.exists());
        assert!(store.close().await);
        fs::remove_file(file(&folder)).expect("removes");
    }
    // And one that was ready but for its name is taken as it is.
    drop(Disk::new(folder.path()).expect("a folder").open().map(|opened| opened.tally));
    fs::rename(file(&folder), &draft).expect("renames");
    assert!(open(&folder).close().await);
    assert!(file(&folder).exists() && !draft.exists());
}

/// What `FileStore::open` says to `folder`.
fn refusal(folder: &Path) -> String {
    FileStore::open(folder, Arc::new(SystemClock::default()), ROOM).expect_err("refused").to_string()
}

#[test]
fn a_place_that_will_not_do_is_named_with_a_remedy() {
    let folder = folder();
    let chmod = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("chmod");
    let plain = folder.path().join("plain");
    fs::write(&plain, "").expect("writes");
    assert_eq!(
        refusal(&plain),
        format!("ledger.path: {} is not a folder; name one, or a path where one can be made", plain.display())
    );
    let found = refusal(&plain.join("below"));
    assert!(found.contains("plain/below is not a folder"), "{found}");
    chmod(folder.path(), 0o777);
    let found = refusal(folder.path());
    assert!(found.contains("everybody may write to") && found.contains("(mode 777)"), "{found}");
    chmod(folder.path(), 0o755);
    drop(open(&folder));
    chmod(&file(&folder), 0o644);
    let found = refusal(folder.path());
    assert!(found.contains("ledger.redb is open to everybody (mode 644); chmod 600 it"), "{found}");
    // Said by the system to users that are not root.
    let found = disk::cannot(&file(&folder), io::ErrorKind::PermissionDenied.into()).to_string();
    let owner = fs::metadata(file(&folder)).expect("there").uid();
    assert!(found.contains(&format!("ledger.redb belongs to user {owner} and has mode 644")), "{found}");
    assert!(found.contains("chown it to the user that vestibule runs as"), "{found}");
    // Volumes of containers are given to a group when they are mounted.
    chmod(&file(&folder), 0o660);
    drop(open(&folder));
}

#[test]
fn a_file_that_is_no_ledger_or_a_newer_one_is_refused_and_left_alone() {
    let folder = folder();
    let is_refused = |contents: &[u8], words: &str| {
        OpenOptions::new().create(true).write(true).truncate(true).open(file(&folder)).expect("opens");
        fs::set_permissions(file(&folder), fs::Permissions::from_mode(0o600)).expect("chmod");
        fs::write(file(&folder), contents).expect("writes");
        let found = refusal(folder.path());
        assert!(found.contains(&file(&folder).display().to_string()) && found.contains(words), "{found}");
        assert!(found.contains("stop vestibule, move the file away and start again"), "{found}");
        contents == fs::read(file(&folder)).expect("reads")
    };
    assert!(is_refused(b"", "is damaged"));
    assert!(is_refused(b"rEdb", "is damaged"));
    assert!(is_refused(&[0; 1 << 16], "is damaged"));
    let other = self::folder();
    drop(redb::Database::create(other.path().join("other")).expect("creates"));
    is_refused(&fs::read(other.path().join("other")).expect("reads"), "it holds no ledger");
    let newer = redb::Database::create(other.path().join("newer")).expect("creates");
    let transaction = newer.begin_write().expect("begins");
    let numbers = redb::TableDefinition::<&str, u64>::new("numbers");
    transaction.open_table(numbers).expect("opens").insert("format", 2).expect("inserts");
    transaction.commit().expect("commits");
    drop(newer);
    is_refused(&fs::read(other.path().join("newer")).expect("reads"), "format 2, this one reads 1");
}

/// Numbers that look random and are the same in each run.
struct Seeded(u64);

impl Seeded {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % end
    }
}

/// Spoils `contents` in one of the ways in which disks and people do.
fn spoil(contents: &mut Vec<u8>, seed: u64) -> String {
    let mut random = Seeded(seed);
    let pages = contents.len() as u64 / 4096;
    if seed.is_multiple_of(4) {
        let length = random.below(contents.len() as u64);
        contents.truncate(usize::try_from(length).expect("fits"));
        return format!("truncated to {length}");
    }
    // The first page is the header; half of the time it is among them.
    let spoilt: Vec<_> =
        (0..=random.below(4)).map(|_| random.below(if seed.is_multiple_of(2) { pages } else { 2 })).collect();
    for page in &spoilt {
        let start = usize::try_from(page * 4096 + random.below(4096)).expect("fits");
        let length = usize::try_from(random.below(4096)).expect("fits").min(contents.len() - start);
        for byte in &mut contents[start..start + length] {
            *byte = if seed.is_multiple_of(3) { 0 } else { u8::try_from(random.below(256)).expect("fits") };
        }
    }
    format!("pages {spoilt:?}")
}

/// Opens a spoilt copy of a file in which each of `records` has had the body of its number, first once and then twice as
/// long: nothing else may come out of it.
async fn a_spoilt_file_is_refused_or_right(contents: &[u8], records: u64, seeds: std::ops::Range<u64>) -> (u32, u32) {
    let (mut refused, mut right) = (0, 0);
    for seed in seeds {
        let folder = folder();
        let mut contents = contents.to_vec();
        let how = spoil(&mut contents, seed);
        fs::write(file(&folder), contents).expect("writes");
        fs::set_permissions(file(&folder), fs::Permissions::from_mode(0o600)).expect("chmod");
        match FileStore::open(folder.path(), Arc::new(SystemClock::default()), ROOM) {
            Err(error) => {
                let words = error.to_string();
                assert!(words.contains(&file(&folder).display().to_string()), "seed {seed}, {how}: {words}");
                assert!(words.contains("move the file away"), "seed {seed}, {how}: {words}");
                refused += 1;
            }
            Ok(store) => {
                for n in 0..records {
                    if let Ok(loaded) = store.load(key(n)).await {
                        let found = loaded.bytes.unwrap_or_else(|| panic!("seed {seed}, {how}: record {n} is gone"));
                        assert!(found == body(n, 300) || found == body(n, 600), "seed {seed}, {how}: record {n}");
                    }
                }
                assert!(store.close().await, "seed {seed}, {how}");
                right += 1;
            }
        }
    }
    (refused, right)
}

async fn twice_written(folder: &TempDir, records: u64) -> Arc<FileStore> {
    let store = Arc::new(open(folder));
    fill(&store, 0..records, 300).await;
    for n in 0..records {
        let version = store.load(key(n)).await.expect("loads").version;
        assert_eq!(store.swap(key(n), version, write(body(n, 600))).await, Ok(Swapped::Done));
    }
    store
}

#[tokio::test]
async fn a_spoilt_file_is_refused_by_name_and_never_believed() {
    let folder = folder();
    let store = twice_written(&folder, 100).await;
    let as_after_a_kill = fs::read(file(&folder)).expect("reads");
    assert!(store.close().await);
    let contents = fs::read(file(&folder)).expect("reads");
    for (contents, seeds) in [(contents, 0..300), (as_after_a_kill, 300..600)] {
        let (refused, right) = a_spoilt_file_is_refused_or_right(&contents, 100, seeds).await;
        eprintln!("{refused} refused, {right} right");
        assert!(refused > 50, "only {refused} were refused");
    }
}

#[test]
fn a_record_in_which_anything_has_changed_is_no_record() {
    let key = records::key(key(1));
    let stored = records::Record { version: 7, keep_until: LIMIT, bytes: b"body" }.encode(&key);
    let intact = records::Record::decode(&key, &stored).expect("intact");
    assert_eq!((intact.version, intact.keep_until, intact.bytes), (7, LIMIT, &b"body"[..]));
    assert!(records::Record::decode(&records::key(self::key(2)), &stored).is_none());
    for bit in 0..stored.len() * 8 {
        let mut changed = stored.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        assert!(records::Record::decode(&key, &changed).is_none(), "bit {bit}");
        assert!(records::Record::decode(&key, &stored[..bit / 8]).is_none(), "{} bytes", bit / 8);
    }
}

/// Overwrites pages below a running store whose cache is too small to hide it.
#[tokio::test]
async fn a_file_that_is_spoilt_below_a_running_store_costs_answers_and_no_more() {
    const RECORDS: u64 = 4_000;
    let folder = folder();
    let patience = Patience { call: Duration::from_secs(20), ..PATIENCE };
    let disk = Disk::new(folder.path()).expect("a folder");
    let store = Arc::new(FileStore::start(disk, Arc::new(SystemClock::default()), ROOM, patience).expect("opens"));
    fill(&store, 0..RECORDS, 8_000).await;
    let below = OpenOptions::new().write(true).open(file(&folder)).expect("opens");
    let pages = below.metadata().expect("there").len() / 4096;
    let mut random = Seeded(1);
    for _ in 0..pages / 20 {
        let page: Vec<_> = (0..4096).map(|_| u8::try_from(random.below(256)).expect("fits")).collect();
        below.write_all_at(&page, (1 + random.below(pages - 1)) * 4096).expect("writes");
    }
    let mut failed = 0;
    for n in 0..RECORDS {
        match store.load(key(n)).await {
            Ok(loaded) => assert_eq!(loaded.bytes, Some(body(n, 8_000)), "record {n}"),
            Err(_) => failed += 1,
        }
    }
    eprintln!("{failed} of {RECORDS} could not be read");
    assert!(failed > 0);
    for n in 0..50 {
        if let Ok(swapped) = store.swap(key(n), 0, write("new")).await {
            assert_eq!(swapped, Swapped::Moved, "record {n}");
        }
    }
    assert!(store.close().await);
}

/// A disk that is full, or hangs, when it is told to.
#[derive(Debug, Default)]
struct Mood {
    full: AtomicBool,
    syncs: AtomicU64,
    hangs: Mutex<bool>,
    better: Condvar,
}

impl Mood {
    fn hang(&self, hangs: bool) {
        *self.hangs.lock().expect("no panic") = hangs;
        self.better.notify_all();
    }

    fn full(&self, full: bool) {
        self.full.store(full, Ordering::SeqCst);
    }

    fn check(&self) -> io::Result<()> {
        if self.full.load(Ordering::SeqCst) { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }
}

#[derive(Debug)]
struct MoodyDisk(FileBackend, Arc<Mood>);

impl StorageBackend for MoodyDisk {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.1.check()?;
        self.0.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.1.syncs.fetch_add(1, Ordering::SeqCst);
        drop(self.1.better.wait_while(self.1.hangs.lock().expect("no panic"), |hangs| *hangs).expect("no panic"));
        self.0.sync_data()
    }

    /// Pages that are there can be written over; beyond the first few, none is on a disk that is full.
    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        if offset > 0 {
            self.1.check()?;
        }
        self.0.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.0.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.0.try_lock_range(start, end)
    }

    fn try_lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.0.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.0.lock_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.0.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.0.query_lock_range(start, end)
    }
}

fn moody(folder: &TempDir, patience: Patience) -> (Arc<Mood>, Arc<FileStore>) {
    let mood = Arc::new(Mood::default());
    let given = mood.clone();
    let open = move |builder: redb::Builder, path: &Path| {
        let file = File::options().read(true).write(true).open(path)?;
        builder.create_with_backend(MoodyDisk(FileBackend::new(file)?, given.clone()))
    };
    let disk = Disk::with(folder.path(), Box::new(open)).expect("a folder");
    (mood, Arc::new(FileStore::start(disk, Arc::new(SystemClock::default()), ROOM, patience).expect("opens")))
}

#[tokio::test]
async fn a_full_disk_refuses_writes_until_there_is_room_again() {
    let folder = folder();
    let (mood, store) = moody(&folder, Patience { failed: Duration::from_millis(20), ..PATIENCE });
    fill(&store, 0..500, 500).await;
    let mut acknowledged: BTreeMap<u64, Vec<u8>> = (0..500).map(|n| (n, body(n, 500))).collect();
    for round in 0..3 {
        mood.full(true);
        for n in 1_000..1_010 {
            let refused = store.swap(key(n), 0, write("no room")).await;
            let Err(StoreError::Full(words)) = refused else { panic!("{refused:?}") };
            assert!(words.contains(&file(&folder).display().to_string()) && words.contains("make room"), "{words}");
        }
        until("what is there can be read", || async {
            store.load(key(7)).await.is_ok_and(|loaded| loaded.bytes == Some(body(7, 500)))
        })
        .await;
        mood.full(false);
        let n = 2_000 + round;
        until("there is room again", || async { store.swap(key(n), 0, write("room")).await == Ok(Swapped::Done) })
            .await;
        acknowledged.insert(n, b"room".to_vec());
    }
    assert!(store.close().await);
    let store = open(&folder);
    for (n, body) in acknowledged {
        assert_eq!(store.load(key(n)).await.expect("loads").bytes, Some(body), "{n}");
    }
}

#[tokio::test]
async fn a_disk_that_hangs_holds_up_nobody_for_longer_than_the_deadline() {
    let folder = folder();
    let (mood, store) = moody(&folder, Patience { call: Duration::from_millis(200), ..PATIENCE });
    assert_eq!(store.swap(key(1), 0, write("one")).await, Ok(Swapped::Done));
    mood.hang(true);
    let refused = store.swap(key(2), 0, write("two")).await;
    let Err(StoreError::Unreachable(words)) = refused else { panic!("{refused:?}") };
    assert!(words.contains("did not answer") && words.contains("see whether its disk hangs"), "{words}");
    // What is committed can be read meanwhile.
    assert_eq!(store.load(key(1)).await.expect("loads").bytes, Some(b"one".to_vec()));
    // The queue is bounded, and says so.
    let mut callers = JoinSet::new();
    for n in 0..2 * QUEUE as u64 {
        let store = store.clone();
        callers.spawn(async move { store.swap(key(3 + n), 0, write("more")).await });
    }
    let refused = callers.join_all().await;
    let words: Vec<_> = refused.into_iter().map(|refused| refused.expect_err("hangs").to_string()).collect();
    assert!(words.iter().any(|words| words.contains("operations wait for")));
    mood.hang(false);
    until("it answers again", || async { store.swap(key(0), 0, write("zero")).await.is_ok() }).await;
}

#[tokio::test]
async fn what_gathers_during_a_commit_is_committed_together() {
    let folder = folder();
    let (mood, store) = moody(&folder, PATIENCE);
    assert_eq!(store.swap(key(0), 0, write("before")).await, Ok(Swapped::Done));
    mood.hang(true);
    let mut writing: Vec<_> = (1..=200).map(|n| store.swap(key(n), 0, write("together"))).collect();
    for swap in &mut writing {
        ask(swap).await;
    }
    let before = mood.syncs.load(Ordering::SeqCst);
    mood.hang(false);
    for swap in writing {
        assert_eq!(swap.await, Ok(Swapped::Done));
    }
    let syncs = mood.syncs.load(Ordering::SeqCst) - before;
    assert!(syncs <= 4, "{syncs} syncs for 200 records");
}

/// Prints what this machine's disk gives.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures the disk; tests/run does it"]
async fn a_hundred_writers_get_more_done_than_one() {
    async fn work(store: &FileStore, writer: u64, rounds: u64) {
        for round in 0..rounds {
            for _ in ["claim", "commit"] {
                let key = key(writer * 1_000_000 + round);
                let version = store.load(key).await.expect("loads").version;
                assert_eq!(store.swap(key, version, write(body(round, 2_000))).await, Ok(Swapped::Done));
            }
        }
    }
    let folder = folder();
    let store = Arc::new(open(&folder));
    let begun = tokio::time::Instant::now();
    work(&store, 0, 200).await;
    let alone = 200.0 / begun.elapsed().as_secs_f64();
    let begun = tokio::time::Instant::now();
    let mut writers = JoinSet::new();
    for writer in 1..=100 {
        let store = store.clone();
        writers.spawn(async move { work(&store, writer, 50).await });
    }
    writers.join_all().await;
    let together = 5_000.0 / begun.elapsed().as_secs_f64();
    assert!(store.close().await);
    let begun = tokio::time::Instant::now();
    drop(open(&folder));
    let length = fs::metadata(file(&folder)).expect("there").len() >> 20;
    eprintln!("opened {length} MiB in {:?}", begun.elapsed());
    eprintln!("claim and commit: {:.2} ms alone, {together:.0} a second by 100 writers", 1_000.0 / alone);
    assert!(together > alone, "{together} against {alone}");
}
