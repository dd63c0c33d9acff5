//! Session events: what a page hears without asking, and what it costs the session, which is nothing.

use std::time::Duration;

use http::Method;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout};

use crate::support::PATIENCE;
use crate::support::browser::{Browser, Incoming, Initiator};
use crate::support::jar::Reach;
use crate::support::raw::{Connection, exchange};
use crate::support::redis::RedisServer;
use crate::support::site::{Plan, Site, TOKEN_SECONDS};

const HOUR: u64 = 3600;

/// An event stream, read event by event.
struct Page {
    incoming: Incoming,
    text: String,
}

impl Page {
    /// Opens the stream of a browser that has a session, and hears how that stands.
    async fn open(site: &Site, browser: &Browser) -> Self {
        let mut page = Self::open_again(site, browser, "").await;
        let (event, times) = page.next().await.unwrap();
        assert_eq!((event.as_str(), &times["generation"].is_u64()), ("session", &true), "{times}");
        page
    }

    /// Opens the stream as an `EventSource` does that has last seen this id.
    async fn open_again(site: &Site, browser: &Browser, id: &str) -> Self {
        let request = browser.fetch(Method::GET, &site.at("/bff/session")).header("accept", "text/event-stream");
        let incoming = request.header("last-event-id", id).open().await.unwrap();
        assert_eq!(incoming.status(), 200);
        Self { incoming, text: String::new() }
    }

    /// The next event with its data; none at the stream's end.
    async fn next(&mut self) -> Option<(String, Value)> {
        loop {
            if let Some((block, rest)) = self.text.split_once("\n\n") {
                let block = block.to_owned();
                self.text = rest.to_owned();
                let field = |name: &str| block.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
                if let (Some(event), Some(data)) = (field("event:"), field("data:")) {
                    return Some((event.to_owned(), serde_json::from_str(data).unwrap()));
                }
                continue;
            }
            let chunk = timeout(PATIENCE, self.incoming.chunk()).await.expect("an event or the end").unwrap()?;
            self.text.push_str(std::str::from_utf8(&chunk).unwrap());
        }
    }

    /// The next event has to be this one; its data.
    async fn hears(&mut self, wanted: &str) -> Value {
        let (event, data) = self.next().await.unwrap_or_else(|| panic!("the end, and not {wanted}"));
        assert_eq!(event, wanted, "{data}");
        data
    }

    /// The session is over, and so is the stream.
    async fn hears_the_end(&mut self, reason: &str) {
        assert_eq!(self.hears("ended").await, json!({ "reason": reason }));
        assert_eq!(self.next().await, None);
    }
}

/// The head of a request for events by hand.
async fn by_hand(site: &Site, version: &str) -> String {
    let cookies = site.signed_in().await.cookies().header("localhost", Reach::SameSite).unwrap();
    let host = site.url.strip_prefix("http://").unwrap();
    format!(
        "GET /bff/session {version}\r\nHost: {host}\r\nCookie: {cookies}\r\nSec-Fetch-Site: same-origin\r\n\
         Accept: text/event-stream\r\n\r\n"
    )
}

async fn status(site: &Site, browser: &Browser) -> u16 {
    let request = browser.fetch(Method::GET, &site.at("/bff/session")).header("accept", "text/event-stream");
    request.open().await.unwrap().status()
}

#[tokio::test]
async fn a_stream_says_at_once_how_the_session_stands_and_when_to_come_again() {
    // CACHE-01, HDR-01
    let site = Site::start().await;
    let mut connection = Connection::open(site.address).await.unwrap();
    connection.send(by_hand(&site, "HTTP/1.1").await.as_bytes()).await.unwrap();
    let mut got = String::new();
    let arrives = async {
        while !(got.contains("\r\n\r\n") && got.contains("event: session") && got.ends_with("\n\n\r\n")) {
            got.push_str(&connection.line().await.unwrap());
        }
    };
    timeout(PATIENCE, arrives).await.unwrap();
    let (head, body) = got.split_once("\r\n\r\n").unwrap();
    let head = head.to_ascii_lowercase();
    for field in [
        "content-type: text/event-stream",
        "cache-control: no-store",
        "transfer-encoding: chunked",
        "x-accel-buffering: no",
    ] {
        assert!(head.contains(field), "{field}: {head}");
    }
    assert!(!head.contains("content-length") && !head.contains("set-cookie"), "{head}");
    let retry: u32 = body.lines().find_map(|line| line.strip_prefix("retry: ")).unwrap().trim().parse().unwrap();
    assert!((2000..4000).contains(&retry), "{retry}");
    assert!(body.contains("\"idle_ends_in\":3600"), "{body}");
    site.stop().await;
}

#[tokio::test]
async fn who_has_no_session_is_told_so_and_no_other_site_is_told_anything() {
    // FM-01, FM-02
    let site = Site::start().await;
    let nobody = Browser::new();
    let request = nobody.fetch(Method::GET, &site.at("/bff/session")).header("accept", "text/event-stream");
    let refused = request.await;
    assert_eq!((refused.status, refused.json()["reason"].clone()), (401, Value::Null));

    let browser = site.signed_in().await;
    let request = |initiator| {
        let request = browser.fetch(Method::GET, &site.at("/bff/session")).header("accept", "text/event-stream");
        let cookies = browser.cookies().header("localhost", Reach::SameSite).unwrap();
        request.started_by(initiator).header("cookie", &cookies)
    };
    assert_eq!(request(Initiator::CrossSite).await.status, 403);
    assert_eq!(request(Initiator::SameSite).await.status, 403);
    // Who does not say that it wants events gets the JSON as ever.
    let plain = browser.fetch(Method::GET, &site.at("/bff/session")).await;
    assert_eq!(plain.json()["generation"], 1);
    site.stop().await;
}

#[tokio::test]
async fn events_are_to_be_had_where_the_header_is_demanded_that_no_event_source_can_send() {
    let site = Site::planned(Plan { top: "csrf = \"header\"".to_owned(), ..Plan::default() }).await;
    let browser = site.signed_in().await;
    assert_eq!(browser.fetch(Method::GET, &site.at("/bff/session")).await.status, 403);
    Page::open(&site, &browser).await;
    site.stop().await;
}

#[tokio::test]
async fn every_page_hears_of_a_logout_and_who_comes_again_is_refused() {
    // BBA-6.1-15
    let site = Site::start().await;
    let browser = site.signed_in().await;
    let other = site.signed_in().await;
    let mut pages = [Page::open(&site, &browser).await, Page::open(&site, &browser).await];
    let mut others = Page::open(&site, &other).await;
    let copy = Browser::new();
    copy.restore(browser.cookies());
    assert_eq!(browser.fetch(Method::POST, &site.at("/bff/logout")).await.status, 200);
    for page in &mut pages {
        page.hears_the_end("logout").await;
    }
    assert_eq!(status(&site, &copy).await, 401);
    // The other one's is still open, and hears its own.
    assert_eq!(other.fetch(Method::POST, &site.at("/bff/logout")).await.status, 200);
    others.hears_the_end("logout").await;
    site.stop().await;
}

#[tokio::test]
async fn a_page_hears_of_the_issuers_logout_and_of_a_login_that_replaces_its_session() {
    // BCL-2.7-01
    let site = Site::start().await;
    site.issuer.register_backchannel_logout(&site.at("/bff/backchannel-logout"));
    let browser = site.signed_in().await;
    let mut replaced = Page::open(&site, &browser).await;
    browser.follow(&site.at("/bff/login")).await;
    replaced.hears_the_end("replaced").await;

    let mut page = Page::open(&site, &browser).await;
    let sid = site.issuer.newest_sid().unwrap();
    let token = site.issuer.sign("logout+jwt", &site.issuer.logout_claims(Some("ada"), Some(&sid))).unwrap();
    assert_eq!(site.issuer.tell(&token).await.unwrap().status, 200);
    page.hears_the_end("issuer_logout").await;
    site.stop().await;
}

#[tokio::test]
async fn listening_keeps_no_session_alive_and_a_use_is_heard_of() {
    let site = Site::start().await;
    let browser = site.signed_in().await;
    let mut page = Page::open(&site, &browser).await;
    site.pass(HOUR - 50);
    let warning = page.hears("expiring").await;
    assert_eq!(warning["reason"], "idle");
    assert!(warning["seconds"].as_u64().is_some_and(|left| (1..=50).contains(&left)), "{warning}");

    // Asking for the session, in either form, is no use of it; a call of the API is.
    assert_eq!(browser.fetch(Method::GET, &site.at("/bff/session")).await.status, 200);
    let mut second = Page::open(&site, &browser).await;
    second.hears("expiring").await;
    assert_eq!(site.call(&browser).await.status, 200);
    for page in [&mut page, &mut second] {
        let times = page.hears("extended").await;
        assert!(times["idle_ends_in"].as_u64().unwrap() > HOUR - 100, "{times}");
    }

    site.pass(HOUR - 30);
    for page in [&mut page, &mut second] {
        // The call had its token refreshed, which is news of its own, before or after that of its use.
        let mut heard = page.next().await.unwrap();
        if heard.0 == "extended" {
            heard = page.next().await.unwrap();
        }
        assert_eq!((heard.0.as_str(), &heard.1["reason"]), ("expiring", &json!("idle")));
    }
    site.pass(30);
    for page in [&mut page, &mut second] {
        page.hears_the_end("idle").await;
    }
    assert_eq!(status(&site, &browser).await, 401);
    site.stop().await;
}

#[tokio::test]
async fn a_page_is_warned_of_the_absolute_limit_and_a_use_does_not_call_that_off() {
    let session = "idle = \"50m\"\nabsolute = \"1h\"\nwarn = \"5m\"".to_owned();
    let site = Site::planned(Plan { session, ..Plan::default() }).await;
    let browser = site.signed_in().await;
    let mut page = Page::open(&site, &browser).await;
    site.pass(30 * 60);
    assert_eq!(site.call(&browser).await.status, 200);
    page.hears("extended").await;
    site.pass(26 * 60);
    let mut warning = page.next().await.unwrap();
    if warning.0 == "extended" {
        warning = page.next().await.unwrap();
    }
    assert_eq!((warning.0.as_str(), &warning.1["reason"]), ("expiring", &json!("absolute")));
    assert_eq!(site.call(&browser).await.status, 200);
    site.pass(4 * 60);
    page.hears_the_end("expired").await;
    site.stop().await;
}

#[tokio::test]
async fn who_was_warned_is_not_warned_again_and_hears_what_happened_meanwhile() {
    let site = Site::start().await;
    let browser = site.signed_in().await;
    site.pass(HOUR - 50);
    let mut fresh = Page::open(&site, &browser).await;
    fresh.hears("expiring").await;
    // The connection broke, and was made again: nothing new. After a use there is.
    let mut again = Page::open_again(&site, &browser, "idle").await;
    again.hears("session").await;
    assert_eq!(site.call(&browser).await.status, 200);
    again.hears("extended").await;
    let mut late = Page::open_again(&site, &browser, "idle").await;
    late.hears("session").await;
    late.hears("extended").await;
    site.stop().await;
}

#[tokio::test]
#[ignore = "needs redis-server: run ./tests/run"]
async fn where_uses_elsewhere_are_not_heard_of_a_stream_near_the_idle_limit_is_opened_anew() {
    let redis = RedisServer::start(&[]);
    let ledger = format!("backend = \"redis\"\nurl = \"redis://127.0.0.1:{}\"", redis.port());
    let site = Site::planned(Plan { ledger, ..Plan::default() }).await;
    let browser = site.signed_in().await;
    let mut page = Page::open(&site, &browser).await;
    site.pass(HOUR - 50);
    page.hears("expiring").await;
    assert_eq!(page.next().await, None, "the browser brings its newest cookie when it connects again");
    let mut again = Page::open_again(&site, &browser, "idle").await;
    again.hears("session").await;
    assert_eq!(again.next().await, None, "it was warned already");
    assert_eq!(site.call(&browser).await.status, 200);
    let mut relieved = Page::open_again(&site, &browser, "idle").await;
    relieved.hears("session").await;
    relieved.hears("extended").await;
    site.stop().await;
}

#[tokio::test]
async fn a_refresh_is_heard_of() {
    let site = Site::start().await;
    let browser = site.signed_in().await;
    let mut page = Page::open(&site, &browser).await;
    site.pass(TOKEN_SECONDS - 30);
    assert_eq!(site.call(&browser).await.status, 200);
    let mut generation = page.hears("extended").await["generation"].clone();
    if generation == 1 {
        // The use came first.
        generation = page.hears("extended").await["generation"].clone();
    }
    assert_eq!(generation, 2);
    site.stop().await;
}

#[tokio::test]
async fn a_session_has_so_many_streams_and_a_page_that_leaves_makes_room() {
    let site = Site::start().await;
    let browser = site.signed_in().await;
    let mut pages = Vec::new();
    for _ in 0..20 {
        pages.push(Page::open(&site, &browser).await);
    }
    let request = browser.fetch(Method::GET, &site.at("/bff/session")).header("accept", "text/event-stream");
    let refused = request.await;
    assert_eq!(
        (refused.status, refused.json()["type"].clone()),
        (429, json!("urn:vestibule:problem:too-many-streams"))
    );
    assert_eq!(status(&site, &site.signed_in().await).await, 200, "another session has its own");
    drop(pages.pop());
    let deadline = Instant::now() + PATIENCE;
    while status(&site, &browser).await != 200 {
        assert!(Instant::now() < deadline, "a page has left, and still takes its place");
        sleep(Duration::from_millis(50)).await;
    }
    site.stop().await;
}

#[tokio::test]
async fn silence_is_broken_so_that_nothing_on_the_way_takes_the_stream_for_dead() {
    let site = Site::start().await;
    let mut connection = Connection::open(site.address).await.unwrap();
    connection.send(by_hand(&site, "HTTP/1.1").await.as_bytes()).await.unwrap();
    let comment = async { while !connection.line().await.unwrap().starts_with(':') {} };
    timeout(2 * PATIENCE, comment).await.expect("a comment");
    site.stop().await;
}

#[tokio::test]
async fn who_knows_no_chunks_gets_none() {
    let site = Site::start().await;
    let browser = site.signed_in().await;
    let cookies = browser.cookies().header("localhost", Reach::SameSite).unwrap();
    let head = by_hand(&site, "HTTP/1.0").await;
    let (start, rest) = head.split_once("Cookie: ").unwrap();
    let head = format!("{start}Cookie: {cookies}{}", &rest[rest.find("\r\n").unwrap()..]);
    let mut connection = Connection::open(site.address).await.unwrap();
    connection.send(head.as_bytes()).await.unwrap();
    assert_eq!(browser.fetch(Method::POST, &site.at("/bff/logout")).await.status, 200);
    // Whichever came first: the stream ends with the session, or there was none left to listen to.
    let got = String::from_utf8(connection.rest().await.unwrap()).unwrap();
    assert!(!got.to_ascii_lowercase().contains("transfer-encoding"), "{got}");
    assert!(got.contains("\nevent: ended\ndata: {\"reason\":\"logout\"}\n\n") || got.contains(" 401 "), "{got}");
    site.stop().await;
}

#[tokio::test]
async fn a_head_request_opens_no_stream() {
    let site = Site::start().await;
    let head = by_hand(&site, "HTTP/1.1").await.replacen("GET", "HEAD", 1);
    let mut connection = Connection::open(site.address).await.unwrap();
    connection.send(head.as_bytes()).await.unwrap();
    let answer = connection.answer_to_head().await.unwrap();
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/json")));
    site.stop().await;
}

#[tokio::test]
async fn pages_that_listen_do_not_keep_a_server_from_stopping() {
    let site = Site::start().await;
    let mut page = Page::open(&site, &site.signed_in().await).await;
    // Requests in flight would have 30 s.
    timeout(Duration::from_secs(25), site.stop()).await.expect("stopped");
    assert!(timeout(PATIENCE, page.incoming.chunk()).await.is_ok(), "the stream is cut");
}

#[tokio::test]
async fn the_landing_page_of_a_pop_up_runs_its_own_script_and_no_other() {
    let site = Site::start().await;
    let answer = exchange(site.address, b"GET /bff/popup HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    assert_eq!((answer.status, answer.header("cache-control")), (200, Some("no-store")));
    let html = String::from_utf8(answer.body.clone()).unwrap();
    assert!(html.contains("You may close this window"), "{html}");
    let (_, script) = html.split_once("<script>").unwrap();
    let (script, _) = script.split_once("</script>").unwrap();
    let hash = {
        use sha2::{Digest, Sha256};
        base64_simd::STANDARD.encode_to_string(Sha256::digest(script.as_bytes()))
    };
    let policy = answer.header("content-security-policy").unwrap();
    assert!(policy.contains(&format!("script-src 'sha256-{hash}';")), "{policy}");
    assert!(policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"), "{policy}");
    assert!(!policy.contains("unsafe"), "{policy}");
    site.stop().await;
}

#[tokio::test]
#[ignore = "needs node: run ./tests/run"]
async fn the_module_as_it_is_served_passes_the_tests_of_its_source() {
    let site = Site::start().await;
    let served = Browser::new().fetch(Method::GET, &site.at("/bff/client.js")).await;
    assert_eq!(served.status, 200);
    assert!(served.body.len() < 4096, "{} bytes", served.body.len());
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("client.js");
    std::fs::write(&file, &served.body).unwrap();
    let run = tokio::process::Command::new("node")
        .args(["--test", "tests/client.test.mjs"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env("CLIENT_JS", &file)
        .kill_on_drop(true)
        .output();
    let run = timeout(4 * PATIENCE, run).await.expect("node ends").unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stdout));
    site.stop().await;
}
