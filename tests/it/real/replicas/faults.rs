//! Redis that is not there, comes back, or refuses; a replica with other keys than the rest.

use std::time::Duration;

use http::Method;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::issuer::Endpoint;
use crate::issuer::act::{Act, Hold};
use crate::support::PATIENCE;
use crate::support::browser::Browser;
use crate::support::fleet::{Fleet, PLACES, Persisted, Plan, at, attempt, lasting_redis, persistent, retry_after};
use crate::support::redis::RedisServer;

const BURST: usize = 20;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server: run ./tests/run"]
async fn a_redis_that_is_restarted_in_mid_refresh_signs_nobody_out() {
    let run = async |session| {
        let mut redis = lasting_redis();
        let fleet = Fleet::start(Plan { ledger: &at(&redis), session, ..Plan::default() }).await;
        for round in 1..=3 {
            let browser = fleet.briefly_signed_in().await;
            fleet.until_spent(&browser).await;
            let hold = Hold::default();
            fleet.issuer.script().next(Endpoint::Token, Act::usual().wait_first(&hold));
            let mut calls = JoinSet::new();
            for _ in 0..BURST {
                calls.spawn(persistent(browser.clone(), fleet.replicas.at("/api/orders"), PATIENCE));
            }
            hold.arrived().await;
            redis.kill();
            hold.release();
            // Whoever waits at the other replica cannot be told what has come of it.
            let deadline = Instant::now() + PATIENCE;
            while attempt(&browser, &fleet.replicas.at("/api/orders")).await.is_none_or(|page| {
                let refused = page.status != 200;
                refused.then(|| retry_after(&page));
                !refused
            }) {
                assert!(Instant::now() < deadline, "nobody notices that the ledger is away");
            }
            redis.start_again();
            let persisted = calls.join_all().await;
            assert!(persisted.iter().all(|call| call.broken == 0), "{persisted:?}");
            for index in 0..2 {
                fleet.replicas.get(index).until_ready().await;
            }
            // Who has failed meanwhile rests for a moment more; from then on nobody is told to wait.
            for _ in 0..2 {
                fleet.persist(&browser).await;
            }
            for _ in 0..BURST {
                assert_eq!(fleet.persist(&browser).await, Persisted::default());
            }
            fleet.assert_unharmed(&browser, round).await;
        }
    };
    tokio::join!(run(PLACES[0]), run(PLACES[1]));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server: run ./tests/run"]
async fn a_redis_that_is_restarted_while_tokens_are_good_is_not_noticed() {
    for session in PLACES {
        let mut redis = lasting_redis();
        let fleet = Fleet::start(Plan { ledger: &at(&redis), session, ..Plan::default() }).await;
        let browser = fleet.signed_in().await;
        for index in [0, 1] {
            assert_eq!(fleet.call(index, &browser).await.status, 200);
        }
        redis.kill();
        let away = Instant::now();
        while away.elapsed() < Duration::from_secs(2) {
            for index in [0, 1] {
                let page = fleet.call(index, &browser).await;
                assert_eq!(page.status, 200, "{}", page.text());
            }
        }
        redis.start_again();
        let back = Instant::now();
        while back.elapsed() < Duration::from_secs(6) {
            for index in [0, 1] {
                let page = fleet.call(index, &browser).await;
                assert_eq!(page.status, 200, "{} {:?} after the restart", page.text(), back.elapsed());
            }
        }
        fleet.assert_unharmed(&browser, 0).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server: run ./tests/run"]
async fn without_redis_it_starts_says_so_and_becomes_ready_when_redis_comes() {
    let mut redis = lasting_redis();
    let mut fleet = Fleet::prepare(Plan { number: 1, ledger: &at(&redis), ..Plan::default() }).await;
    redis.kill();
    fleet.replicas.get_mut(0).launch();
    let replica = fleet.replicas.get(0);
    let unready = replica.until("refused", |readiness| readiness.ledger.contains("refused")).await;
    assert_eq!(unready.status, 503);
    assert!(unready.ledger.contains(&format!("127.0.0.1:{}: connection refused", redis.port())), "{unready:?}");
    assert!(replica.is_live().await);
    replica.until_said(|said| said.contains("the ledger cannot be used")).await;
    assert_eq!(Browser::new().navigate(&fleet.replicas.at("/")).await.status, 200, "what is public is served");
    redis.start_again();
    replica.until_ready().await;
    let browser = fleet.signed_in().await;
    assert_eq!(fleet.call(0, &browser).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server: run ./tests/run"]
async fn a_wrong_password_is_told_with_the_key_to_check_and_printed_nowhere() {
    let redis = RedisServer::start(&["requirepass correct-horse"]);
    let ledger = format!("{}\npassword = {{ file = \"redis_password\" }}", at(&redis));
    let mut fleet = Fleet::prepare(Plan { number: 1, ledger: &ledger, ..Plan::default() }).await;
    std::fs::write(fleet.replicas.folder().join("redis_password"), "battery-staple\n").unwrap();
    fleet.replicas.get_mut(0).launch();
    let unready =
        fleet.replicas.get(0).until("refused", |readiness| readiness.ledger.contains("ledger.password")).await;
    assert_eq!(unready.status, 503);
    fleet.replicas.get(0).until_said(|said| said.contains("check ledger.password and ledger.username")).await;
    fleet.replicas.get(0).signal("TERM");
    let (_, said) = fleet.replicas.get_mut(0).exit().await;
    for password in ["battery-staple", "correct-horse"] {
        assert!(!said.contains(password) && !unready.ledger.contains(password), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server: run ./tests/run"]
async fn a_replica_with_other_keys_refuses_a_session_and_leaves_it_alone() {
    for session in PLACES {
        let redis = RedisServer::start(&[]);
        let mut fleet = Fleet::prepare(Plan { ledger: &at(&redis), session, ..Plan::default() }).await;
        fleet.replicas.give_another_key(1);
        fleet.replicas.start().await;
        let browser = Browser::new();
        // The whole login by way of the first replica: what it seals the other cannot open.
        let mut page = browser.navigate(&fleet.replicas.get(0).at("/bff/login")).await;
        while let Some(next) = page.location() {
            let next = next.as_str().replace(&fleet.replicas.url, &fleet.replicas.get(0).at(""));
            page = browser.navigate(&next).await;
        }
        assert_eq!(fleet.call(0, &browser).await.status, 200);
        let before = browser.cookies().names("localhost").join(" ");
        let foreign = fleet.call(1, &browser).await;
        assert_eq!((foreign.status, foreign.set_cookies().len()), (401, 0), "{}", foreign.text());
        let user = browser.fetch(Method::GET, &fleet.replicas.get(1).at("/bff/user")).await;
        assert_eq!((user.status, user.set_cookies().len()), (401, 0), "{}", user.text());
        assert_eq!(browser.cookies().names("localhost").join(" "), before);
        assert_eq!(fleet.call(0, &browser).await.status, 200);
        fleet.replicas.get(1).until_said(|said| said.contains("give all replicas the same keys")).await;
    }
}
