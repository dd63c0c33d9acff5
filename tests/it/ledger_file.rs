//! The ledger's file survives what no process is asked about: a kill in the middle of its work.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use tokio::process::Command;
use tokio::task::JoinSet;
use vestibule::clock::{SystemClock, Timestamp};
use vestibule::ledger::file::FileStore;
use vestibule::ledger::{Key, Store, Swapped, Write};
use vestibule::session::SessionId;

use crate::support::PATIENCE;
use crate::support::process::Process;

const FOLDER: &str = "VESTIBULE_TEST_LEDGER";
const WRITERS: u8 = 40;

/// Five lives of one file, each ended by SIGKILL under load.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_that_was_acknowledged_is_lost_by_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let mut acknowledged = BTreeMap::new();
    for wanted in [300, 1, 2_000, 700, 1_500] {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "ledger_file::writers_that_are_killed", "--ignored", "--nocapture"]);
        command.env(FOLDER, folder.path());
        let mut process = Process::start(command);
        let mut seen = 0;
        process
            .line(PATIENCE, |line| {
                seen += usize::from(acknowledgement(line).is_some());
                (seen == wanted).then_some(())
            })
            .await;
        // A successor that stands ready has the file when the kill has freed it.
        let store = open(folder.path());
        process.signal("KILL");
        assert_eq!(process.exit(PATIENCE).await.code(), None, "it was killed");

        for (writer, round) in process.output().lines().filter_map(acknowledgement) {
            let last: &mut u64 = acknowledged.entry(writer).or_default();
            assert!(round > *last, "{writer} began anew with {round} after {last}");
            *last = round;
        }
        for (writer, round) in &acknowledged {
            // The one after the last acknowledged may have been written too.
            let found = stored(&store, newest(*writer)).await;
            assert!(found == *round || found == round + 1, "{writer}: {found} instead of {round}");
            for round in 1..=*round {
                assert_eq!(stored(&store, each(*writer, round)).await, round, "{writer}");
            }
        }
        assert!(store.close().await);
    }
    assert!(acknowledged.len() > usize::from(WRITERS / 2), "few writers got to write: {acknowledged:?}");
}

/// Not a test by itself: what the one above starts and kills.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "started by nothing_that_was_acknowledged_is_lost_by_a_kill"]
async fn writers_that_are_killed() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let store = Arc::new(open(Path::new(&folder)));
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let store = store.clone();
        writers.spawn(async move {
            loop {
                let loaded = store.load(newest(writer)).await.unwrap();
                let round = loaded.bytes.map_or(0, |bytes| number(&bytes)) + 1;
                // Left over from the last life, if that ended between the two.
                let version = store.load(each(writer, round)).await.unwrap().version;
                assert_eq!(store.swap(each(writer, round), version, write(round)).await, Ok(Swapped::Done));
                assert_eq!(store.swap(newest(writer), loaded.version, write(round)).await, Ok(Swapped::Done));
                println!("acknowledged {writer} {round}.");
            }
        });
    }
    writers.join_next().await.unwrap().unwrap();
}

/// A line that the kill has cut short lacks its full stop, and the first stands behind the test's own name.
fn acknowledgement(line: &str) -> Option<(u8, u64)> {
    let (_, acknowledged) = line.split_once("acknowledged ")?;
    let (writer, round) = acknowledged.strip_suffix('.')?.split_once(' ')?;
    Some((writer.parse().unwrap(), round.parse().unwrap()))
}

fn open(folder: &Path) -> FileStore {
    FileStore::open(folder, Arc::new(SystemClock::default()), 1 << 30).unwrap()
}

fn newest(writer: u8) -> Key {
    Key::Session(SessionId::from_bytes([writer; 16]))
}

fn each(writer: u8, round: u64) -> Key {
    let mut hash = [writer; 32];
    hash[..8].copy_from_slice(&round.to_le_bytes());
    Key::Once(hash)
}

fn write(round: u64) -> Write {
    let bytes = round.to_le_bytes().repeat(50);
    Write { bytes, keep_until: Timestamp::from_secs(4_000_000_000), news: None }
}

fn number(bytes: &[u8]) -> u64 {
    assert_eq!(bytes.len(), 400);
    let (numbers, _) = bytes.as_chunks::<8>();
    assert!(numbers.iter().all(|number| *number == numbers[0]), "torn: {bytes:?}");
    u64::from_le_bytes(numbers[0])
}

async fn stored(store: &FileStore, key: Key) -> u64 {
    number(&store.load(key).await.unwrap().bytes.unwrap_or_else(|| panic!("{key:?} is gone")))
}
