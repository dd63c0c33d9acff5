//! One of two replicas is killed, at three moments of a refresh, and started again.

use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::issuer::Endpoint;
use crate::issuer::act::{Act, Hold};
use crate::support::PATIENCE;
use crate::support::browser::Browser;
use crate::support::fleet::{Fleet, PLACES, Persisted, Plan, at, lasting_redis, persistent};

const BURST: usize = 20;

fn burst(fleet: &Fleet, browser: &Browser, patience: Duration) -> JoinSet<Persisted> {
    let mut calls = JoinSet::new();
    for _ in 0..BURST {
        calls.spawn(persistent(browser.clone(), fleet.replicas.at("/api/orders"), patience));
    }
    calls
}

fn broken(calls: &[Persisted]) -> u32 {
    calls.iter().map(|call| call.broken).sum()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server: run ./tests/run"]
async fn a_replica_that_is_killed_between_refreshes_costs_its_requests_a_second_attempt() {
    for session in PLACES {
        let redis = lasting_redis();
        let mut fleet = Fleet::start(Plan { ledger: &at(&redis), session, ..Plan::default() }).await;
        let browser = fleet.signed_in().await;
        // One request is certainly at the replica that is killed: the API holds its answer.
        let hold = Hold::default();
        fleet.api.next(Act::usual().wait_first(&hold));
        let held = browser.fetch(http::Method::GET, &fleet.replicas.get(0).at("/api/orders")).open();
        let held = crate::support::beside(held);
        hold.arrived().await;
        let calls = burst(&fleet, &browser, PATIENCE);
        fleet.replicas.get_mut(0).kill().await;
        assert!(held.await.unwrap().is_err(), "its connection breaks");
        hold.release();
        calls.join_all().await;
        assert_eq!(fleet.call(1, &browser).await.status, 200);
        fleet.replicas.get_mut(0).launch();
        fleet.replicas.get(0).until_ready().await;
        assert_eq!(fleet.call(0, &browser).await.status, 200);
        fleet.assert_unharmed(&browser, 0).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server: run ./tests/run"]
async fn a_replica_that_is_killed_after_the_commit_leaves_the_refresh_to_the_other() {
    // BCP-4.14-04
    for session in PLACES {
        let redis = lasting_redis();
        let mut fleet = Fleet::start(Plan { ledger: &at(&redis), session, ..Plan::default() }).await;
        let browser = fleet.briefly_signed_in().await;
        fleet.until_spent(&browser).await;
        // The API has got the new token, so that it is committed; no answer has left.
        let hold = Hold::default();
        fleet.api.next(Act::usual().wait_first(&hold));
        let held = browser.fetch(http::Method::GET, &fleet.replicas.get(0).at("/api/orders")).open();
        let held = crate::support::beside(held);
        hold.arrived().await;
        fleet.replicas.get_mut(0).kill().await;
        assert!(held.await.unwrap().is_err(), "its connection breaks");
        hold.release();
        let calls = burst(&fleet, &browser, PATIENCE).join_all().await;
        assert_eq!(calls, [Persisted::default(); BURST], "the balancer passes over the one that is gone");
        fleet.replicas.get_mut(0).launch();
        fleet.replicas.get(0).until_ready().await;
        burst(&fleet, &browser, PATIENCE).join_all().await;
        fleet.assert_unharmed(&browser, 1).await;
    }
}

/// Nobody but the dead replica knows whether its request has arrived. The other waits until no answer to it can come any
/// more (a minute) and then tries once. Had the issuer rotated, that would be the one loss that cannot be prevented.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server: run ./tests/run"]
async fn a_replica_that_is_killed_while_its_refresh_waits_at_the_issuer_delays_the_next_and_ends_nothing() {
    let run = async |session| {
        let redis = lasting_redis();
        let mut fleet = Fleet::start(Plan { ledger: &at(&redis), session, ..Plan::default() }).await;
        let browser = fleet.briefly_signed_in().await;
        fleet.until_spent(&browser).await;
        let hold = Hold::default();
        fleet.issuer.script().next(Endpoint::Token, Act::cut().wait_first(&hold));
        let first = browser.fetch(http::Method::GET, &fleet.replicas.get(0).at("/api/orders")).open();
        let first = crate::support::beside(first);
        hold.arrived().await;
        let calls = burst(&fleet, &browser, Duration::from_secs(100));
        fleet.replicas.get_mut(0).kill().await;
        let killed = Instant::now();
        assert!(first.await.unwrap().is_err(), "its connection breaks");
        hold.release();
        fleet.replicas.get_mut(0).launch();
        fleet.replicas.get(0).until_ready().await;
        let calls = calls.join_all().await;
        println!(
            "killed in mid-refresh, {session}: all served {} ms after, {} connections broken",
            killed.elapsed().as_millis(),
            broken(&calls)
        );
        assert!(calls.iter().all(|call| call.later > 0), "{calls:?}");
        assert!(killed.elapsed() > Duration::from_secs(50), "the token was sent again too early");
        fleet.assert_unharmed(&browser, 1).await;
    };
    tokio::join!(run(PLACES[0]), run(PLACES[1]));
}
