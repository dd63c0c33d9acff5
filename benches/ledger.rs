//! A million settled sessions in the memory ledger: bytes per session, and what its operations cost.
//!
//! `cargo bench --bench ledger`. Bytes are those of the whole process, as the kernel counts them.

#![expect(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::panic,
    reason = "a bench measures time, and ends where something is wrong"
)]

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use vestibule::clock::{Clock, ManualClock, Timestamp};
use vestibule::ledger::memory::MemoryStore;
use vestibule::ledger::protocol::{Claim, Claimed, Commit, End, EndReason, Latest, Presented};
use vestibule::ledger::tombstone::{Lineage, Tombstone};
use vestibule::ledger::{Key, Ledger};
use vestibule::session::SessionId;

const SESSIONS: u64 = 1_000_000;
const SETTLE: Duration = Duration::from_secs(60);
/// A sealed body of usual size.
const BODY: usize = 2_500;

fn session(number: u64) -> SessionId {
    // As random as real ids are, and the same in every run.
    let mixed =
        |salt: u64| (number ^ salt).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29).wrapping_mul(0xbf58_476d);
    let mut id = [0; 16];
    let (left, right) = id.split_at_mut(8);
    left.copy_from_slice(&mixed(1).to_le_bytes());
    right.copy_from_slice(&mixed(2).to_be_bytes());
    SessionId::from_bytes(id)
}

/// Resident memory of this process, in bytes.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse::<usize>().ok());
    kib.unwrap_or_default() * 1024
}

fn tell(what: &str, took: Duration) {
    let nanos = took.as_nanos() / u128::from(SESSIONS);
    println!("  {what:<58} {nanos:>6} ns");
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let clock = Arc::new(ManualClock::new(Timestamp::from_secs(1_800_000_000)));
    let limit = clock.now() + Duration::from_secs(30 * 86_400);
    let ledger =
        Ledger::new(Arc::new(MemoryStore::new(Arc::clone(&clock) as Arc<_>, 1 << 30)), Arc::clone(&clock) as Arc<_>);
    let before = resident();
    println!("{SESSIONS} sessions, each: refreshed once, shown, shown again, settled");

    let claim =
        Claim { generation: 1, lease: Duration::from_secs(15), deadline: Duration::from_secs(60), keep_until: limit };
    let presented = Presented { generation: 2, settle: SETTLE, keep_until: limit };
    let (mut refreshing, mut showing) = (Duration::ZERO, Duration::ZERO);
    // In batches, so that no more bodies lie there at once than are unsettled in a busy minute.
    for batch in 0..SESSIONS / 1_000 {
        let numbers = batch * 1_000..(batch + 1) * 1_000;
        let started = Instant::now();
        for number in numbers.clone() {
            let Ok(Claimed::Won { fence, .. }) = ledger.apply(session(number), &claim).await else { panic!("not won") };
            let commit =
                Commit { fence, from: 1, unspent: false, body: vec![7; BODY], resident: false, keep_until: limit };
            let _committed = black_box(ledger.apply(session(number), &commit).await.expect("commits"));
        }
        refreshing += started.elapsed();
        let started = Instant::now();
        for number in numbers.clone() {
            ledger.apply(session(number), &presented).await.expect("is noted");
        }
        clock.advance(SETTLE);
        for number in numbers {
            ledger.apply(session(number), &presented).await.expect("is noted");
        }
        showing += started.elapsed();
    }
    let stored = resident().saturating_sub(before);
    println!("  store: {} bytes per session", stored / SESSIONS as usize);
    tell("claim and commit of a refresh", refreshing);
    tell("two sights of the new cookie", showing);

    let started = Instant::now();
    for number in 0..SESSIONS {
        let met = ledger.meet(session(number), &Latest { generation: 2 }, |_| None, clock.now(), limit).await;
        let _newest = black_box(met.expect("is met"));
    }
    tell("first request of a session that this process does not know", started.elapsed());
    let viewed = resident().saturating_sub(before + stored);
    println!("  view: {} bytes per session in use", viewed / SESSIONS as usize);

    let started = Instant::now();
    for number in 0..SESSIONS {
        let _standing = black_box(ledger.standing(session(number), 2));
    }
    tell("every further request: how does it stand?", started.elapsed());

    // What a request makes of its session to see whether a tombstone covers it.
    let everyone = Key::everyone("https://as.test");
    let lineage = || Lineage {
        subject: Some(Key::subject("https://as.test", "ada")),
        any_tenant: None,
        issuer_session: Some(Key::issuer_session("https://as.test", "s1")),
        everyone,
        issued_at: limit,
    };
    let started = Instant::now();
    for number in SESSIONS..2 * SESSIONS {
        let latest = Latest { generation: 1 };
        let met = ledger.meet(session(number), &latest, |_| Some(lineage()), clock.now(), limit).await;
        let _newest = black_box(met.expect("is met"));
    }
    tell("first request of another, and tombstones of its kind", started.elapsed());
    let search = |what| {
        let started = Instant::now();
        for _ in 0..SESSIONS {
            let _tombstone = black_box(ledger.tombstone(lineage));
        }
        tell(what, started.elapsed());
    };
    search("every request: is there a tombstone? There is none at all");
    let buried = Tombstone { reason: EndReason::IssuerLogout, issued_until: clock.now(), keep_until: limit };
    ledger.bury(Key::subject("https://as.test", "bob"), buried).await.expect("is buried");
    search("every request: is there a tombstone? There is one of others");

    let started = Instant::now();
    let end = End { reason: EndReason::Logout, generation: 2, keep_until: limit };
    for number in 0..SESSIONS / 10 {
        let _finished = black_box(ledger.apply(session(number), &end).await.expect("ends"));
    }
    println!("  {:<58} {:>6} ns", "an ending", started.elapsed().as_nanos() / u128::from(SESSIONS / 10));
}
