//! Administrators of several replicas: what is listed and ended at one holds at the other.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::admin::{Admin, copy_of};
use crate::issuer::{Login, User};
use crate::support::PATIENCE;
use crate::support::browser::Browser;
use crate::support::canary::form_found;
use crate::support::fleet::{Fleet, PLACES, Plan, at, lasting_redis, signed_in};
use crate::support::redis::RedisServer;

/// An ending reaches every replica within this.
const BOUND: Duration = Duration::from_secs(5);

fn admin(fleet: &Fleet, index: usize) -> Admin {
    Admin::at(fleet.replicas.get(index).admin())
}

/// How long replica `index` goes on to take the cookie. Until then it serves, or the API refuses a token that is revoked.
async fn until_refused(fleet: &Fleet, index: usize, copy: &Browser) -> Duration {
    let since = Instant::now();
    loop {
        let page = fleet.call(index, copy).await;
        if page.status == 401 && page.json()["reason"] == "administrator" {
            let calls = fleet.api.calls();
            assert_eq!(fleet.call(index, copy).await.status, 401);
            assert_eq!(fleet.api.calls(), calls);
            return since.elapsed();
        }
        assert!([200, 401, 503].contains(&page.status), "{}", page.text());
        assert!(since.elapsed() < BOUND, "after {:?} the copied cookie still gets {}", since.elapsed(), page.status);
    }
}

/// The log of a replica, and what it may not hold.
fn assert_discreet(fleet: &Fleet, index: usize) -> String {
    let log = fleet.replicas.get(index).output();
    for canary in fleet.issuer.canaries() {
        assert_eq!(form_found(log.as_bytes(), &canary), None);
    }
    assert!(!log.contains("grace"), "{log}");
    log
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server: run ./tests/run"]
async fn each_kind_of_ending_holds_at_the_other_replica_for_a_copied_cookie() {
    // ASVS-7.4.2, 7.4.5
    for session in PLACES {
        let redis = RedisServer::start(&[]);
        let fleet = Fleet::start(Plan { ledger: &at(&redis), session, ..Plan::default() }).await;
        fleet.issuer.set_login(Login::Automatic(User::Grace));
        let (near, far) = (admin(&fleet, 0), admin(&fleet, 1));
        for (number, kind) in [(1, "one"), (2, "subject"), (3, "all")] {
            let browser = fleet.signed_in().await;
            let copy = copy_of(&browser);
            for index in [0, 1, 0, 1] {
                assert_eq!(fleet.call(index, &browser).await.status, 200);
            }
            let listed = far.sessions("&subject=grace", number).await;
            assert_eq!(listed[0]["ended"], json!(null));
            let id = listed[0]["id"].as_str().unwrap();
            let (status, answer) = match kind {
                "one" => near.delete(&format!("/sessions/{id}")).await,
                "subject" => near.post("/subjects/end?subject=grace").await,
                _ => near.post("/sessions/end?confirm=all").await,
            };
            assert_eq!((status, &answer["ended"], &answer["noted"]), (200, &json!(1), &json!(true)), "{answer}");
            let took = until_refused(&fleet, 1, &copy).await;
            println!("ended by an administrator, {kind}, {session}: refused there after {} ms", took.as_millis());
            until_refused(&fleet, 0, &copy).await;
            assert_eq!(far.sessions("&subject=grace", number).await[0]["ended"]["reason"], "administrator");
            let revoked = Instant::now();
            while fleet.issuer.families_alive() > 0 {
                assert!(revoked.elapsed() < PATIENCE, "the tokens are revoked once the cookie was seen");
                sleep(Duration::from_millis(10)).await;
            }
            // ID tokens tell whole seconds: the next one has to be newer than the ending.
            sleep(Duration::from_millis(1_100)).await;
        }
        for index in [0, 1] {
            let last = ["admin.all_ended", "admin.listed"][index];
            fleet.replicas.get(index).until_said(|said| said.contains(last)).await;
            let log = assert_discreet(&fleet, index);
            for event in ["admin.session_ended", "admin.subject_ended", "admin.all_ended"] {
                assert_eq!(log.contains(event), index == 0, "{event}: {log}");
            }
            assert_eq!(log.contains("admin.listed"), index == 1, "{log}");
            assert!(log.contains("who=\"loopback\""), "{log}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server: run ./tests/run"]
async fn logins_of_one_subject_at_once_at_two_replicas_are_all_listed_and_the_store_tells_no_name() {
    const LOGINS: usize = 24;
    let redis = RedisServer::start(&[]);
    let fleet = Fleet::start(Plan { ledger: &at(&redis), ..Plan::default() }).await;
    fleet.issuer.set_login(Login::Automatic(User::Grace));
    let mut logins = JoinSet::new();
    for _ in 0..LOGINS {
        let login = fleet.replicas.at("/bff/login");
        // Each connection goes to the next replica.
        logins.spawn(async move {
            let browser = Browser::new();
            let page = browser.navigate(&login).header("connection", "close").follow().await;
            assert_eq!(page.status, 200, "{}", page.text());
        });
    }
    logins.join_all().await;
    let mut told = Vec::new();
    for index in [0, 1] {
        let sessions = admin(&fleet, index).sessions("", LOGINS).await;
        told.push(sessions.iter().map(|told| told["id"].as_str().unwrap().to_owned()).collect::<BTreeSet<_>>());
    }
    assert_eq!(told[0].len(), LOGINS);
    assert_eq!(told[0], told[1]);
    let keys: Vec<String> = redis.ask(&["KEYS", "*"]);
    assert!(keys.iter().any(|key| key.contains(":r:")) && keys.iter().any(|key| key.contains(":d:")), "{keys:?}");
    for key in keys {
        let stored: Vec<u8> = redis.try_ask::<Vec<u8>>(&["DUMP", &key]).unwrap();
        for name in [&b"grace"[..], b"Grace", b"localhost"] {
            assert!(!stored.windows(name.len()).any(|window| window == name), "{key}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server: run ./tests/run"]
async fn while_the_ledger_hangs_nothing_is_claimed_to_be_ended() {
    let redis = lasting_redis();
    let fleet = Fleet::start(Plan { ledger: &at(&redis), ..Plan::default() }).await;
    let browser = fleet.signed_in().await;
    let near = admin(&fleet, 0);
    let listed = near.sessions("", 1).await;
    let id = listed[0]["id"].as_str().unwrap().to_owned();
    redis.signal("STOP");
    for path in [format!("/sessions/{id}/end"), "/subjects/end?subject=ada".into(), "/sessions/end?confirm=all".into()]
    {
        let (status, refused) = near.post(&path).await;
        assert_eq!((status, &refused["type"]), (503, &"urn:vestibule:problem:ledger-unavailable".into()), "{path}");
        assert!(refused.get("ended").is_none() && refused.get("noted").is_none(), "{refused}");
    }
    redis.signal("CONT");
    fleet.replicas.get(0).until_ready().await;
    // It may be repeated, and then it holds.
    let deadline = Instant::now() + PATIENCE;
    while near.post(&format!("/sessions/{id}/end")).await.0 != 200 {
        assert!(Instant::now() < deadline);
        sleep(Duration::from_millis(50)).await;
    }
    until_refused(&fleet, 1, &copy_of(&browser)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_with_a_file_keeps_the_list_and_the_endings() {
    for session in PLACES {
        let plan = Plan { number: 1, ledger: "path = \"ledger\"", session, ..Plan::default() };
        let mut fleet = Fleet::start(plan).await;
        let (kept, gone) = (signed_in(&fleet.replicas).await, signed_in(&fleet.replicas).await);
        let near = admin(&fleet, 0);
        let before = near.sessions("", 2).await;
        // Which of the two is whose is found by ending one.
        let id = before[0]["id"].as_str().unwrap();
        assert_eq!(near.delete(&format!("/sessions/{id}")).await.0, 200);
        let replica = fleet.replicas.get_mut(0);
        replica.kill().await;
        replica.launch();
        replica.until_ready().await;
        let after = near.sessions("", 2).await;
        assert_eq!(
            after.iter().map(|told| &told["id"]).collect::<Vec<_>>(),
            before.iter().map(|told| &told["id"]).collect::<Vec<_>>()
        );
        assert_eq!((&after[0]["ended"]["reason"], &after[1]["ended"]), (&json!("administrator"), &json!(null)));
        let mut statuses = [fleet.call(0, &kept).await.status, fleet.call(0, &gone).await.status];
        statuses.sort_unstable();
        assert_eq!(statuses, [200, 401]);
        assert_eq!(near.post("/subjects/end?subject=ada").await.1["ended"], 1);
        fleet.replicas.get_mut(0).kill().await;
        fleet.replicas.get_mut(0).launch();
        fleet.replicas.get(0).until_ready().await;
        for browser in [&kept, &gone] {
            until_refused(&fleet, 0, browser).await;
        }
    }
}
