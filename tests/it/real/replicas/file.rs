//! One process with its ledger in a file: killed under load, damaged, full, and followed by a successor. It needs no other
//! program, so these tests always run.

use std::sync::Arc;
use std::time::Duration;

use http::Method;
use tokio::task::JoinSet;
use tokio::time::Instant;
use vestibule::clock::{SystemClock, Timestamp};
use vestibule::ledger::file::FileStore;
use vestibule::ledger::{Key, Store, StoreError, Swapped, Write};

use crate::issuer::act::{Act, Hold};
use crate::support::browser::Browser;
use crate::support::fleet::{Fleet, PLACES, Plan, persistent, retry_after};
use crate::support::{PATIENCE, beside};

const IN_A_FILE: &str = "path = \"ledger\"";

fn plan(session: &'static str) -> Plan<'static> {
    Plan { number: 1, ledger: IN_A_FILE, session, ..Plan::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_is_killed_under_load_keeps_every_session_and_every_ending() {
    let run = async |session| {
        const BROWSERS: usize = 4;
        // Revocations that wait for a browser to come back from the issuer are lost with the process.
        let more = "[logout]\norder = \"before\"";
        let mut fleet = Fleet::start(Plan { more, ..plan(session) }).await;
        let mut ended: Vec<Browser> = Vec::new();
        for round in 1..=3 {
            let mut browsers = Vec::new();
            for _ in 0..BROWSERS {
                browsers.push(fleet.briefly_signed_in().await);
            }
            let gone = fleet.briefly_signed_in().await;
            let copy = Browser::new();
            copy.restore(gone.cookies());
            fleet.until_spent(&gone).await;
            // Every session is refreshed, and one is ended.
            let mut calls = JoinSet::new();
            let call = |browser: &Browser| persistent(browser.clone(), fleet.replicas.at("/api/orders"), PATIENCE);
            for browser in &browsers {
                calls.spawn(call(browser));
                calls.spawn(call(browser));
            }
            let out = fleet.log_out(0, &gone).await;
            assert_eq!((out.status, &out.json()["pending"]), (200, &false.into()), "{}", out.text());
            ended.push(copy);
            calls.join_all().await;
            // Load that goes on over the kill, and needs no refresh meanwhile.
            let mut calls = JoinSet::new();
            for browser in browsers.iter().cycle().take(40) {
                calls.spawn(call(browser));
            }
            let first = calls.join_next().await.unwrap();
            first.unwrap();
            fleet.replicas.get_mut(0).kill().await;
            fleet.replicas.get_mut(0).launch();
            calls.join_all().await;
            fleet.replicas.get(0).until_ready().await;
            for copy in &ended {
                let page = fleet.call(0, copy).await;
                assert_eq!((page.status, page.json()["reason"].as_str()), (401, Some("logout")));
            }
            for browser in &browsers {
                let page = browser.fetch(Method::GET, &fleet.replicas.at("/bff/user")).await;
                assert_eq!(page.status, 200, "{}", page.text());
            }
            assert_eq!(fleet.issuer.reuses(), 0);
            assert_eq!(fleet.issuer.families_alive(), round * BROWSERS);
        }
    };
    tokio::join!(run(PLACES[0]), run(PLACES[1]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_file_is_refused_by_name_with_the_way_out_and_left_as_it_is() {
    let mut fleet = Fleet::start(plan(PLACES[0])).await;
    fleet.signed_in().await;
    fleet.replicas.get_mut(0).stop().await;
    let path = fleet.replicas.folder().join("ledger/ledger.redb");
    let sound = std::fs::read(&path).unwrap();
    let overwritten = |from: usize, to: usize| {
        let mut bytes = sound.clone();
        bytes[from..to].fill(0xa5);
        bytes
    };
    let half = sound.len() / 2;
    for damaged in [overwritten(0, 4096), overwritten(4096, sound.len()), sound[..half].to_vec(), Vec::new()] {
        // As it was, its permissions too.
        std::fs::write(&path, &damaged).unwrap();
        fleet.replicas.get_mut(0).launch();
        let (status, said) = fleet.replicas.get_mut(0).exit().await;
        assert_eq!(status.code(), Some(1), "{said}");
        assert!(said.contains(&format!("{} is damaged", path.display())), "{said}");
        assert!(said.contains("move the file away and start again"), "{said}");
        assert_eq!(said.matches("ledger.path").count(), 1, "it is said once: {said}");
        assert!(std::fs::read(&path).unwrap() == damaged, "the file was changed");
    }
    std::fs::remove_file(&path).unwrap();
    fleet.replicas.get_mut(0).launch();
    fleet.replicas.get(0).until_ready().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_file_serves_good_tokens_refuses_refreshes_and_loses_nothing() {
    // Good for as long as the file is filled and the process starts again, on a slow machine too.
    const LIFETIME: Duration = Duration::from_secs(25);
    const SMALL: usize = 1 << 20;
    let run = async |session| {
        let ledger = "path = \"ledger\"\nmax_bytes = \"1MiB\"";
        let mut fleet = Fleet::start(Plan { ledger, ..plan(session) }).await;
        fleet.issuer.set_access_token_ttl(LIFETIME);
        let browser = fleet.signed_in().await;
        assert_eq!(fleet.call(0, &browser).await.status, 200);
        fleet.replicas.get_mut(0).stop().await;
        let store = FileStore::open(&fleet.replicas.folder().join("ledger"), Arc::new(SystemClock::default()), SMALL);
        let store = store.unwrap();
        fill(&store).await;
        assert!(store.close().await);
        fleet.replicas.get_mut(0).launch();
        fleet.replicas.get(0).until_ready().await;
        assert_eq!(fleet.issuer.refreshes(), 0);
        let page = fleet.call(0, &browser).await;
        assert_eq!(page.status, 200, "{}", page.text());
        fleet.until_spent(&browser).await;
        for _ in 0..3 {
            retry_after(&fleet.call(0, &browser).await);
        }
        // It says what to raise.
        fleet.replicas.get(0).until_said(|said| said.contains("max_bytes")).await;
        // With room, everything goes on.
        fleet.replicas.get_mut(0).stop().await;
        fleet.replicas.get(0).edit("1MiB", "2MiB");
        fleet.replicas.get_mut(0).launch();
        fleet.replicas.get(0).until_ready().await;
        fleet.persist(&browser).await;
        fleet.assert_unharmed(&browser, 1).await;
    };
    tokio::join!(run(PLACES[0]), run(PLACES[1]));
}

/// Fills the store to its last byte: by large records, by small ones, and by one that grows.
async fn fill(store: &FileStore) {
    let key = |number: u64| {
        let mut hash = [0xff; 32];
        hash[..8].copy_from_slice(&number.to_le_bytes());
        Key::Once(hash)
    };
    let write = async |number, size| {
        let version = store.load(key(number)).await.unwrap().version;
        let write = Write { bytes: vec![0; size], keep_until: Timestamp::from_secs(4_000_000_000), news: None };
        match store.swap(key(number), version, write).await {
            Ok(Swapped::Done) => true,
            Err(StoreError::Full(_)) => false,
            other => panic!("{other:?}"),
        }
    };
    let mut number = 0;
    for size in [50_000, 1_000, 50] {
        while write(number, size).await {
            number += 1;
        }
    }
    let mut size = 50_001;
    while write(0, size).await {
        size += 1;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_successor_listens_at_once_and_serves_when_its_predecessor_has_drained() {
    for session in PLACES {
        let mut fleet = Fleet::prepare(Plan { number: 2, ..plan(session) }).await;
        fleet.replicas.get_mut(0).launch();
        fleet.replicas.get(0).until_ready().await;
        let browser = fleet.signed_in().await;
        let hold = Hold::default();
        fleet.api.next(Act::usual().wait_first(&hold));
        let open = beside(browser.fetch(Method::GET, &fleet.replicas.get(0).at("/api/orders")));
        hold.arrived().await;
        fleet.replicas.get(0).signal("TERM");

        fleet.replicas.get_mut(1).launch();
        let unready = fleet.replicas.get(1).until("waiting", |readiness| readiness.status == 503).await;
        assert!(fleet.replicas.get(1).is_live().await);
        let page = Browser::new().navigate(&fleet.replicas.get(1).at("/")).await;
        assert_eq!(page.status, 200, "what needs no ledger is served: {}", page.text());
        let waiting = beside(browser.fetch(Method::GET, &fleet.replicas.get(1).at("/api/orders")));
        let asked = Instant::now();
        assert_eq!(fleet.api.calls(), 1, "it waits for the ledger: {unready:?}");

        hold.release();
        assert_eq!(open.await.unwrap().status, 200, "the predecessor finishes what it has begun");
        let (status, said) = fleet.replicas.get_mut(0).exit().await;
        assert!(status.success(), "{said}");
        let page = waiting.await.unwrap();
        assert_eq!(page.status, 200, "{}", page.text());
        println!("handed over, {session}: the request waited {} ms", asked.elapsed().as_millis());
        fleet.replicas.get(1).until_ready().await;
        fleet.assert_unharmed(&browser, 0).await;
    }
}
