//! Streams follow their session: whatever ends it cuts them, and only them.

use http::Method;
use tokio::time::{Duration, Instant, sleep};
use tokio_tungstenite::tungstenite::Message;

use crate::issuer::{Login, User};
use crate::support::PATIENCE;
use crate::support::browser::Browser;
use crate::support::live::{DOWNLOAD, End, Events, FLOOD, Live, Socket};
use crate::support::site::{Plan, Site, TOKEN_SECONDS};

/// A site with routes to an upstream whose answers do not end: `/live/` needs a session, `/open/` takes one if there is
/// one, `/page/` sends to the login without one, `/public/` never looks.
async fn site() -> (Site, Live) {
    let live = Live::start().await;
    let routes = [("/live/", "api"), ("/open/", "optional"), ("/page/", "page"), ("/public/", "none")];
    let more = routes.map(|(path, auth)| live.route(path, auth)).concat();
    // What is waited for here must not be the ceiling of an issuer that takes its time.
    let site = Site::planned(Plan { more, session: "absolute = \"2h\"".to_owned(), ..Plan::default() }).await;
    site.issuer.register_backchannel_logout(&site.at("/bff/backchannel-logout"));
    (site, live)
}

async fn socket(site: &Site, path: &str, browser: &Browser) -> Socket {
    Socket::open(site.address, Some(&site.url), path, browser).await.unwrap()
}

fn copy_of(browser: &Browser) -> Browser {
    let copy = Browser::new();
    copy.restore(browser.cookies());
    copy
}

/// What ends the session of `browser`, in another tab or elsewhere.
async fn act(site: &Site, browser: &Browser, reason: &str) {
    match reason {
        "logout" => {
            assert_eq!(browser.fetch(Method::POST, &site.at("/bff/logout")).await.status, 200);
        }
        "issuer_logout" => {
            let sid = site.issuer.newest_sid().unwrap();
            let token = site.issuer.sign("logout+jwt", &site.issuer.logout_claims(None, Some(&sid))).unwrap();
            assert_eq!(site.issuer.tell(&token).await.unwrap().status, 200);
        }
        "replaced" => {
            site.issuer.set_login(Login::Automatic(User::Grace));
            browser.follow(&site.at("/bff/login?prompt=login")).await;
        }
        "expired" => site.pass(2 * 3600),
        "refused" => {
            site.issuer.revoke_all();
            site.pass(TOKEN_SECONDS);
            assert_eq!(site.call(browser).await.status, 401);
        }
        "replayed" => {
            let stolen = browser.cookies();
            let deadline = Instant::now() + PATIENCE;
            site.pass(TOKEN_SECONDS);
            site.call(browser).await;
            loop {
                site.pass(61);
                site.call(browser).await;
                let thief = Browser::new();
                thief.restore(stolen.clone());
                if site.call(&thief).await.status == 401 {
                    break;
                }
                assert!(Instant::now() < deadline, "no replay was noticed");
            }
        }
        other => panic!("{other}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_stream_is_a_use_also_for_who_knows_only_the_cookie_and_the_ledger() {
    let live = Live::start().await;
    let more = live.route("/live/", "api");
    let folder = tempfile::tempdir().unwrap();
    let ledger = format!("path = {:?}", folder.path());
    let site = Site::planned(Plan { more, ledger, session: "idle = \"1h\"".to_owned(), ..Plan::default() }).await;
    let browser = site.signed_in().await;
    let (cookies, stream) = (browser.cookies(), socket(&site, "/live/echo", &browser).await);
    site.pass(50 * 60);
    // The stream notes its use within a second or two, here and in the ledger.
    let deadline = Instant::now() + PATIENCE;
    loop {
        let times = browser.fetch(Method::GET, &site.at("/bff/session")).await.json();
        if times["idle_ends_in"].as_u64() > Some(3500) {
            break;
        }
        assert!(Instant::now() < deadline, "{times}");
        sleep(Duration::from_millis(50)).await;
    }
    drop(stream);
    let site = site.restarted().await;
    // The cookie is as old as the login, 80 minutes; the stream was open 30 minutes ago.
    site.pass(30 * 60);
    browser.restore(cookies.clone());
    let times = browser.fetch(Method::GET, &site.at("/bff/session")).await;
    assert_eq!(times.status, 200, "{}", times.text());
    site.pass(31 * 60);
    browser.restore(cookies);
    let refused = site.call(&browser).await;
    assert_eq!((refused.status, refused.json()["reason"].as_str()), (401, Some("idle")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_web_socket_is_closed_with_4401_and_the_reason_whatever_ends_its_session() {
    for reason in ["logout", "issuer_logout", "replaced", "expired", "refused", "replayed"] {
        let (site, live) = site().await;
        let browser = site.signed_in().await;
        let mut followed = socket(&site, "/live/echo", &browser).await;
        followed.echoes("before").await;
        let mut quiet = socket(&site, "/open/echo", &browser).await;
        quiet.echoes("before").await;
        act(&site, &browser, reason).await;
        assert_eq!(followed.end().await, End::Closed(4401, reason.to_owned()));
        assert_eq!(quiet.end().await, End::Closed(4401, reason.to_owned()));
        live.until_open(0).await;
        site.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn server_sent_events_break_off_whatever_ends_their_session() {
    for reason in ["logout", "issuer_logout", "replaced", "expired", "refused", "replayed"] {
        let (site, live) = site().await;
        let browser = site.signed_in().await;
        let mut events = Events::open(site.address, "/live/events", &browser).await.unwrap();
        events.event().await;
        let cookies = copy_of(&browser);
        act(&site, &browser, reason).await;
        let (rest, whole) = events.rest().await;
        assert!(!whole, "{reason}: nobody takes what was cut for the end: {}", String::from_utf8_lossy(&rest));
        live.until_open(0).await;
        // An EventSource asks again by itself, and is told to stop: it does not come back after anything but 200.
        assert_eq!(Events::open(site.address, "/live/events", &cookies).await.err(), Some(401), "{reason}");
        site.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_of_others_and_of_nobody_are_left_alone() {
    let (site, live) = site().await;
    let (browser, other, nobody) = (site.signed_in().await, site.signed_in().await, Browser::new());
    let followed = socket(&site, "/live/echo", &browser).await;
    // A public route does not look at who is there.
    let mut left = Vec::new();
    for (path, browser) in
        [("/live/echo", &other), ("/open/echo", &other), ("/open/echo", &nobody), ("/public/echo", &browser)]
    {
        left.push(socket(&site, path, browser).await);
    }
    let mut events = Events::open(site.address, "/open/events", &nobody).await.unwrap();
    act(&site, &browser, "logout").await;
    assert_eq!(followed.end().await, End::Closed(4401, "logout".to_owned()));
    live.until_open(left.len() + 1).await;
    for socket in &mut left {
        socket.echoes("still here").await;
    }
    events.event().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_stream_keeps_its_session_in_use() {
    let live = Live::start().await;
    let plan = Plan { more: live.route("/live/", "api"), session: "idle = \"10m\"".to_owned(), ..Plan::default() };
    let site = Site::planned(plan).await;
    let (browser, idle) = (site.signed_in().await, site.signed_in().await);
    let mut followed = socket(&site, "/live/echo", &browser).await;
    for _ in 0..6 {
        site.pass(290);
        // The stream is looked at once a second.
        sleep(Duration::from_millis(1500)).await;
        followed.echoes("still here").await;
    }
    assert_eq!(site.call(&browser).await.status, 200);
    let over = site.call(&idle).await;
    assert_eq!((over.status, over.json()["reason"].as_str()), (401, Some("idle")));
}

#[tokio::test(flavor = "multi_thread")]
async fn no_frame_is_ever_cut_in_the_middle() {
    let (site, live) = site().await;
    for round in 0..8 {
        let browser = site.signed_in().await;
        let mut flood = socket(&site, "/live/flood", &browser).await;
        for _ in 0..=round {
            assert_eq!(flood.message().await.len(), FLOOD);
        }
        let (rest, ()) = tokio::join!(flood.rest(), act(&site, &browser, "logout"));
        let (messages, end) = rest;
        assert_eq!(end, End::Closed(4401, "logout".to_owned()), "round {round}");
        for message in messages {
            let Message::Binary(bytes) = message else { panic!("{message:?}") };
            assert!(bytes.len() == FLOOD && bytes.iter().all(|byte| *byte == bytes[0]), "round {round}");
        }
        live.until_open(0).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frame_that_does_not_end_is_not_ended_by_us() {
    let (site, live) = site().await;
    let browser = site.signed_in().await;
    let mut halves = Events::upgraded(site.address, &site.url, "/live/halves", &browser).await.unwrap();
    // Two bytes and two of length, and half of what they announce.
    assert_eq!(halves.bytes(504).await[4..], [b'h'; 500]);
    act(&site, &browser, "logout").await;
    assert_eq!(halves.rest().await.0, b"");
    live.until_open(0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_upstream_closes_is_closed_once_and_in_its_own_words() {
    let (site, live) = site().await;
    let browser = site.signed_in().await;
    let mut closing = socket(&site, "/live/close", &browser).await;
    closing.say("goodbye").await;
    let (_, end) = closing.rest().await;
    assert_eq!(end, End::Nameless);
    live.until_open(0).await;
    assert_eq!(site.call(&browser).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_read_cannot_hold_what_is_over() {
    let (site, live) = site().await;
    let browser = site.signed_in().await;
    let _stuck = socket(&site, "/live/flood", &browser).await;
    let _deaf = Events::open(site.address, "/live/events", &browser).await.unwrap();
    live.until_open(2).await;
    act(&site, &browser, "logout").await;
    live.until_open(0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_without_length_that_goes_on_is_a_stream_and_a_download_is_none() {
    let (site, live) = site().await;
    let browser = site.signed_in().await;
    let mut lines = Events::ask(site.address, "/live/lines", &browser, "*/*").await.unwrap();
    lines.event().await;
    let mut download = Events::ask(site.address, "/live/download", &browser, "*/*").await.unwrap();
    assert_eq!(download.bytes(10).await, [b'd'; 10]);
    act(&site, &browser, "logout").await;
    // One who has been promised a length gets it.
    assert_eq!(download.bytes(DOWNLOAD - 10).await.len(), DOWNLOAD - 10);
    let (_, whole) = lines.rest().await;
    assert!(!whole);
    live.until_open(0).await;
}

#[tokio::test]
async fn a_handshake_without_a_session_or_from_elsewhere_is_refused_and_never_redirected() {
    // FM-08, ASVS-4.4.2
    let (site, live) = site().await;
    let browser = site.signed_in().await;
    let open = async |origin: Option<&str>, path: &str, browser: &Browser| {
        Socket::open(site.address, origin, path, browser).await.err()
    };
    let nobody = Browser::new();
    for path in ["/live/echo", "/page/echo"] {
        assert_eq!(open(Some(&site.url), path, &nobody).await, Some(401), "{path}");
        for origin in [None, Some("https://evil.example"), Some("null"), Some("http://localhost")] {
            assert_eq!(open(origin, path, &browser).await, Some(403), "{path} from {origin:?}");
        }
        assert_eq!(open(Some(&site.url), path, &browser).await, None, "{path}");
    }
    assert_eq!(open(Some("https://evil.example"), "/open/echo", &browser).await, Some(403));
    // What the upstream says of a handshake is the upstream's.
    assert_eq!(open(Some(&site.url), "/live/refuse", &browser).await, Some(404));
    live.until_open(0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_tells_every_web_socket_to_come_back_and_does_not_wait_for_them() {
    let (site, live) = site().await;
    let browser = site.signed_in().await;
    let mut sockets = Vec::new();
    for (path, browser) in [("/live/echo", &browser), ("/live/flood", &browser), ("/public/echo", &Browser::new())] {
        sockets.push(socket(&site, path, browser).await);
    }
    let since = Instant::now();
    let stopping = crate::support::beside(site.stop());
    for socket in sockets {
        assert_eq!(socket.end().await, End::Closed(1012, "restart".to_owned()));
    }
    stopping.await.unwrap();
    // Thirty seconds is what requests in flight are given.
    assert!(since.elapsed() < Duration::from_secs(25), "{:?}", since.elapsed());
    live.until_open(0).await;
}
