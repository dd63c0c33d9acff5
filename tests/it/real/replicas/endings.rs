//! What ends at one replica is over at the other: how soon, and what happens while the ledger cannot be asked.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::support::PATIENCE;
use crate::support::browser::{Browser, Page};
use crate::support::fleet::{BRIEFLY, Fleet, PLACES, Plan, at, lasting_redis, retry_after, times};
use crate::support::live::{End, Events, Live, Socket};
use crate::support::redis::RedisServer;

/// An ending reaches every replica within this.
const BOUND: Duration = Duration::from_secs(5);
const ENDINGS: usize = 30;

fn copy_of(browser: &Browser) -> Browser {
    let copy = Browser::new();
    copy.restore(browser.cookies());
    copy
}

fn reason(page: &Page) -> (u16, String) {
    let reason = (page.status == 401).then(|| page.json()["reason"].as_str().unwrap_or_default().to_owned());
    (page.status, reason.unwrap_or_default())
}

/// A browser whose session both replicas know.
async fn known(fleet: &Fleet) -> Browser {
    let browser = fleet.signed_in().await;
    for index in [0, 1, 0, 1] {
        assert_eq!(fleet.call(index, &browser).await.status, 200);
    }
    browser
}

/// How long the second replica goes on to take the copied cookie, from now on. A 401 without a reason is the API's, which
/// was asked with a token that is revoked already.
async fn until_refused(fleet: &Fleet, copy: &Browser, wanted: &str) -> Duration {
    let since = Instant::now();
    loop {
        let page = fleet.call(1, copy).await;
        if reason(&page) == (401, wanted.to_owned()) {
            return since.elapsed();
        }
        assert!([200, 503].contains(&page.status) || reason(&page) == (401, String::new()), "{}", page.text());
        assert!(since.elapsed() < BOUND, "after {:?} the copied cookie still gets {}", since.elapsed(), page.status);
    }
}

/// Prints the median and the maximum.
fn report(what: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    let (median, last) = (times[times.len() / 2], times.last().unwrap());
    println!("{what}: median {} ms, at most {} ms of {}", median.as_millis(), last.as_millis(), times.len());
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server: run ./tests/run"]
async fn a_copied_cookie_is_refused_at_the_other_replica_soon_after_a_logout() {
    for session in PLACES {
        let redis = RedisServer::start(&[]);
        let fleet = Fleet::start(Plan { ledger: &at(&redis), session, ..Plan::default() }).await;
        let mut times = Vec::new();
        for _ in 0..ENDINGS {
            let browser = known(&fleet).await;
            let copy = copy_of(&browser);
            let out = fleet.log_out(0, &browser).await;
            assert_eq!((out.status, &out.json()["pending"]), (200, &false.into()), "{}", out.text());
            times.push(until_refused(&fleet, &copy, "logout").await);
            let calls = fleet.api.calls();
            assert_eq!(reason(&fleet.call(0, &copy).await), (401, "logout".to_owned()));
            assert_eq!(fleet.api.calls(), calls);
        }
        report(&format!("endings by logout, {session}"), times);
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server: run ./tests/run"]
async fn what_the_issuer_ends_by_way_of_one_replica_is_over_at_the_other() {
    // BCL-2.7-01
    for session in PLACES {
        let redis = RedisServer::start(&[]);
        let fleet = Fleet::start(Plan { ledger: &at(&redis), session, ..Plan::default() }).await;
        fleet.issuer.register_backchannel_logout(&fleet.replicas.get(0).at("/bff/backchannel-logout"));
        let mut times = Vec::new();
        for _ in 0..ENDINGS {
            let browser = known(&fleet).await;
            let sid = fleet.issuer.newest_sid().unwrap();
            let token = fleet.issuer.sign("logout+jwt", &fleet.issuer.logout_claims(None, Some(&sid))).unwrap();
            assert_eq!(fleet.issuer.tell(&token).await.unwrap().status, 200);
            times.push(until_refused(&fleet, &copy_of(&browser), "issuer_logout").await);
            assert_eq!(reason(&fleet.call(0, &browser).await), (401, "issuer_logout".to_owned()));
        }
        report(&format!("endings by back-channel logout, {session}"), times);
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server: run ./tests/run"]
async fn what_a_page_of_the_issuer_ends_by_way_of_one_replica_is_over_at_the_other() {
    // FCL-2-03
    for session in PLACES {
        let redis = RedisServer::start(&[]);
        let more = "[logout]\nfront_channel = \"on\"";
        let fleet = Fleet::start(Plan { ledger: &at(&redis), session, more, ..Plan::default() }).await;
        let mut times = Vec::new();
        for _ in 0..ENDINGS {
            let browser = known(&fleet).await;
            let mut ours: url::Url = fleet.replicas.get(0).at("/bff/frontchannel-logout").parse().unwrap();
            let sid = fleet.issuer.newest_sid().unwrap();
            ours.query_pairs_mut().append_pair("iss", fleet.issuer.url()).append_pair("sid", &sid);
            assert_eq!(Browser::new().navigate(ours.as_str()).await.status, 200);
            times.push(until_refused(&fleet, &copy_of(&browser), "issuer_logout").await);
            assert_eq!(reason(&fleet.call(0, &browser).await), (401, "issuer_logout".to_owned()));
        }
        report(&format!("endings by front-channel logout, {session}"), times);
    }
}

/// What the second replica answers while Redis hangs: until when it serves, in time since then.
async fn served_until(fleet: &Fleet, browser: &Browser, watched: Duration) -> Duration {
    let cut = Instant::now();
    let (mut last, mut refused_from) = (Duration::ZERO, None);
    while cut.elapsed() < watched {
        let asked = cut.elapsed();
        let page = fleet.call(1, browser).await;
        if page.status == 200 {
            last = asked;
        } else {
            retry_after(&page);
            let calls = *refused_from.get_or_insert(fleet.api.calls());
            assert_eq!(fleet.api.calls(), calls, "nothing is forwarded any more");
        }
        sleep(Duration::from_millis(20)).await;
    }
    last
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server: run ./tests/run"]
async fn a_replica_that_is_cut_off_serves_for_five_seconds_at_most_and_keeps_the_session() {
    let run = async |session| {
        let redis = lasting_redis();
        let fleet = Fleet::start(Plan { ledger: &at(&redis), session, ..Plan::default() }).await;
        fleet.issuer.register_backchannel_logout(&fleet.replicas.get(0).at("/bff/backchannel-logout"));
        let browser = known(&fleet).await;
        redis.signal("STOP");
        let last = served_until(&fleet, &browser, BOUND + Duration::from_secs(3)).await;
        println!("cut off, {session}: the last request was served {} ms after", last.as_millis());
        assert!(last > Duration::from_secs(2), "short interruptions are not noticed: {last:?}");
        assert!(last < BOUND + Duration::from_millis(300), "{last:?}");
        let unready = fleet.replicas.get(1).readiness().await.unwrap();
        assert_eq!(unready.status, 503, "{unready:?}");
        // The issuer is told that it has not been heard, so that it may say it again.
        let sid = fleet.issuer.newest_sid().unwrap();
        let token = fleet.issuer.sign("logout+jwt", &fleet.issuer.logout_claims(None, Some(&sid))).unwrap();
        assert_eq!(fleet.issuer.tell(&token).await.unwrap().status, 400);
        redis.signal("CONT");
        let back = Instant::now();
        while fleet.call(1, &browser).await.status != 200 {
            assert!(back.elapsed() < PATIENCE);
        }
        println!("cut off, {session}: served again {} ms after the end", back.elapsed().as_millis());
        fleet.replicas.get(1).until_ready().await;
        fleet.assert_unharmed(&browser, 0).await;
    };
    tokio::join!(run(PLACES[0]), run(PLACES[1]));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server: run ./tests/run"]
async fn with_stale_endings_a_replica_that_is_cut_off_serves_on() {
    let run = async |session| {
        let redis = lasting_redis();
        let more = "[insecure]\nstale_endings = true";
        let fleet = Fleet::start(Plan { ledger: &at(&redis), session, more, ..Plan::default() }).await;
        let browser = known(&fleet).await;
        redis.signal("STOP");
        let cut = Instant::now();
        while cut.elapsed() < BOUND + Duration::from_secs(3) {
            let page = fleet.call(1, &browser).await;
            assert_eq!(page.status, 200, "{} after {:?}", page.text(), cut.elapsed());
            sleep(Duration::from_millis(20)).await;
        }
        redis.signal("CONT");
        fleet.replicas.get(1).until_ready().await;
        fleet.assert_unharmed(&browser, 0).await;
    };
    tokio::join!(run(PLACES[0]), run(PLACES[1]));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server: run ./tests/run"]
async fn a_logout_while_the_ledger_hangs_is_pending_and_then_holds_everywhere() {
    let run = async |session, hung: Duration| {
        let redis = lasting_redis();
        let fleet = Fleet::start(Plan { ledger: &at(&redis), session, ..Plan::default() }).await;
        let browser = known(&fleet).await;
        let copy = copy_of(&browser);
        redis.signal("STOP");
        let cut = Instant::now();
        let out = fleet.log_out(0, &browser).await;
        assert_eq!((out.status, &out.json()["pending"]), (200, &true.into()), "{}", out.text());
        assert!(out.set_cookies().iter().any(|cookie| cookie.starts_with("vestibule=;")), "{:?}", out.set_cookies());
        let revoked = Instant::now();
        while fleet.issuer.families_alive() > 0 {
            assert!(revoked.elapsed() < PATIENCE, "the tokens are revoked at the issuer, which can be reached");
            sleep(Duration::from_millis(10)).await;
        }
        // The replica that was told takes it for ended at once.
        assert_eq!(reason(&fleet.call(0, &copy).await), (401, "logout".to_owned()));
        sleep(hung.saturating_sub(cut.elapsed())).await;
        redis.signal("CONT");
        let refused = until_refused(&fleet, &copy, "logout").await;
        println!("logout during a cut of {hung:?}, {session}: refused {} ms after its end", refused.as_millis());
    };
    let long = Duration::from_secs(13);
    tokio::join!(run(PLACES[0], Duration::ZERO), run(PLACES[0], long), run(PLACES[1], long));
}

/// A fleet with an upstream whose answers do not end, a WebSocket and events of one session by way of the second
/// replica, and a WebSocket of another session there.
async fn streaming(redis: &RedisServer, session: &str) -> (Fleet, Live, Browser, Socket, Events, Socket) {
    let live = Live::start().await;
    let more = live.route("/live/", "api");
    let fleet = Fleet::start(Plan { ledger: &at(redis), session, more: &more, ..Plan::default() }).await;
    let (browser, other) = (known(&fleet).await, known(&fleet).await);
    let address = fleet.replicas.get(1).address();
    let open = async |browser: &Browser| {
        let mut socket = Socket::open(address, Some(&fleet.replicas.url), "/live/echo", browser).await.unwrap();
        socket.echoes("hello").await;
        socket
    };
    let (socket, others) = (open(&browser).await, open(&other).await);
    let mut events = Events::open(address, "/live/events", &browser).await.unwrap();
    events.event().await;
    (fleet, live, browser, socket, events, others)
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server: run ./tests/run"]
async fn streams_at_the_other_replica_are_cut_soon_after_a_logout() {
    for session in PLACES {
        let redis = RedisServer::start(&[]);
        let (fleet, live, browser, socket, events, mut others) = streaming(&redis, session).await;
        let out = fleet.log_out(0, &browser).await;
        assert_eq!((out.status, &out.json()["pending"]), (200, &false.into()), "{}", out.text());
        let since = Instant::now();
        assert_eq!(socket.end().await, End::Closed(4401, "logout".to_owned()));
        assert!(!events.rest().await.1);
        assert!(since.elapsed() < BOUND, "{:?}", since.elapsed());
        for path in ["/live/echo", "/live/events"] {
            let told = |line: &&str| line.contains(path) && line.contains("cut") && line.contains("logout");
            let said = fleet.replicas.get(1).until_said(|said| said.lines().any(|line| told(&line))).await;
            assert_eq!(said.lines().filter(told).count(), 1, "{said}");
        }
        println!("streams cut by a logout elsewhere, {session}: after {} ms", since.elapsed().as_millis());
        live.until_open(1).await;
        others.echoes("still here").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server: run ./tests/run"]
async fn streams_at_a_replica_that_is_cut_off_are_told_to_come_back() {
    for session in PLACES {
        let redis = lasting_redis();
        let (_fleet, live, _browser, socket, events, others) = streaming(&redis, session).await;
        redis.signal("STOP");
        let since = Instant::now();
        for socket in [socket, others] {
            assert_eq!(socket.end().await, End::Closed(1013, "unsure".to_owned()));
        }
        assert!(!events.rest().await.1);
        let after = since.elapsed();
        assert!(after > Duration::from_secs(2), "short interruptions are not noticed: {after:?}");
        // News is missed for five seconds at most, and a second may pass until that is seen; the rest is the machine's.
        assert!(after < BOUND + Duration::from_secs(10), "{after:?}");
        println!("streams at a replica that is cut off, {session}: told after {} ms", after.as_millis());
        live.until_open(0).await;
        redis.signal("CONT");
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server: run ./tests/run"]
async fn a_copied_cookie_is_refused_at_the_other_replica_after_a_new_login_and_after_a_refusal_of_the_issuer() {
    // ASVS-7.2.4, STEP-R-02, BBA-6.1-13
    let run = async |session| {
        let redis = RedisServer::start(&[]);
        let fleet = Fleet::start(Plan { ledger: &at(&redis), session, ..Plan::default() }).await;
        let browser = known(&fleet).await;
        let copy = copy_of(&browser);
        let again = browser.navigate(&fleet.replicas.at("/bff/login?prompt=login")).header("connection", "close");
        assert_eq!(again.follow().await.status, 200);
        until_refused(&fleet, &copy, "replaced").await;

        fleet.issuer.set_access_token_ttl(BRIEFLY);
        let browser = known(&fleet).await;
        let copy = copy_of(&browser);
        fleet.issuer.revoke_all();
        fleet.until_spent(&browser).await;
        // The API has been told already; the session ends with the verdict on its refresh token.
        assert_eq!(reason(&fleet.call(0, &browser).await), (401, "refused".to_owned()));
        until_refused(&fleet, &copy, "refused").await;
    };
    tokio::join!(run(PLACES[0]), run(PLACES[1]));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server: run ./tests/run"]
async fn a_replayed_cookie_ends_the_session_at_the_other_replica_too() {
    let redis = RedisServer::start(&[]);
    let more = "[refresh]\nsettle = \"1s\"";
    let fleet = Fleet::start(Plan { ledger: &at(&redis), more, ..Plan::default() }).await;
    fleet.issuer.set_access_token_ttl(BRIEFLY);
    let browser = known(&fleet).await;
    let old = copy_of(&browser);
    let deadline = Instant::now() + PATIENCE;
    // Each generation is shown, and shown again a second later; older ones are not seen any more.
    while times(&fleet.replicas, &browser).await["generation"].as_u64() < Some(3) {
        assert!(Instant::now() < deadline, "it is not refreshed");
        fleet.call(0, &browser).await;
        sleep(Duration::from_millis(300)).await;
    }
    let copy = copy_of(&browser);
    assert_eq!(fleet.call(1, &copy).await.status, 200);
    assert_eq!(reason(&fleet.call(0, &old).await), (401, "replayed".to_owned()));
    until_refused(&fleet, &copy, "replayed").await;
}
