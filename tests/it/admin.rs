//! What administrators are told of sessions, how they end them, and who is let in to do so.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};

use http::Method;
use serde_json::{Value, json};
use tokio::time::{Duration, Instant, sleep};

use crate::issuer::{Document, Login, User};
use crate::support::browser::{Browser, Page};
use crate::support::canary::form_found;
use crate::support::raw::{Answer, exchange};
use crate::support::site::{Plan, Site, TOKEN_SECONDS};
use crate::support::{PATIENCE, beside, plain_client};

const LISTED: &str = "[admin]\nlisten = \"127.0.0.1:0\"\nsessions = true";
const UNLISTED: &str = "[admin]\nlisten = \"127.0.0.1:0\"";
const PLACES: [&str; 2] = ["tokens = \"cookie\"", "tokens = \"ledger\""];
const FIREFOX: &str = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0";
const TOKEN: &str = "ADMIN-token-0123456789-abcdefghij";

/// What an administrator holds: the address, and everything that was answered.
pub(crate) struct Admin {
    address: SocketAddr,
    heard: std::sync::Mutex<Vec<u8>>,
}

impl Admin {
    pub(crate) fn at(address: SocketAddr) -> Self {
        Self { address, heard: std::sync::Mutex::default() }
    }

    async fn ask(&self, method: Method, path: &str) -> (u16, Value) {
        let answer = plain_client().request(method, format!("http://{}{path}", self.address)).send().await.unwrap();
        let (status, fields) = (answer.status().as_u16(), answer.headers().clone());
        let media_type = if status < 400 { "application/json" } else { "application/problem+json" };
        for (name, value) in
            [("content-type", media_type), ("cache-control", "no-store"), ("x-content-type-options", "nosniff")]
        {
            assert_eq!(fields.get(name).map(|it| it.as_bytes()), Some(value.as_bytes()), "{path}");
        }
        let body = answer.bytes().await.unwrap();
        let mut heard = self.heard.lock().unwrap();
        heard.extend(format!("{fields:?}").as_bytes());
        heard.extend(&body);
        (status, serde_json::from_slice(&body).unwrap())
    }

    pub(crate) async fn get(&self, path: &str) -> Value {
        let (status, body) = self.ask(Method::GET, path).await;
        assert_eq!(status, 200, "{path}: {body}");
        body
    }

    pub(crate) async fn post(&self, path: &str) -> (u16, Value) {
        self.ask(Method::POST, path).await
    }

    pub(crate) async fn delete(&self, path: &str) -> (u16, Value) {
        self.ask(Method::DELETE, path).await
    }

    /// The sessions, once there are so many. They are entered beside the login.
    pub(crate) async fn sessions(&self, query: &str, number: usize) -> Vec<Value> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let body = self.get(&format!("/sessions?limit=1000{query}")).await;
            let sessions = body["sessions"].as_array().unwrap().clone();
            if sessions.len() == number {
                return sessions;
            }
            assert!(Instant::now() < deadline, "{} sessions are listed, not {number}: {body}", sessions.len());
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Whether any answer held this text, in any form.
    pub(crate) fn has_heard(&self, needle: &str) -> Option<&'static str> {
        form_found(&self.heard.lock().unwrap(), needle)
    }
}

async fn site(session: &str, more: &str) -> (Site, Admin) {
    let plan = Plan { session: session.to_owned(), more: more.to_owned(), ..Plan::default() };
    let site = Site::planned(plan).await;
    let address = SocketAddr::from(([127, 0, 0, 1], site.admin().unwrap().port()));
    (site, Admin::at(address))
}

async fn signed_in_as(site: &Site, user: User) -> Browser {
    site.issuer.set_login(Login::Automatic(user));
    site.signed_in().await
}

pub(crate) fn copy_of(browser: &Browser) -> Browser {
    let copy = Browser::new();
    copy.restore(browser.cookies());
    copy
}

fn outcome(page: &Page) -> (u16, Option<String>) {
    (page.status, page.json()["reason"].as_str().map(str::to_owned))
}

fn ended() -> (u16, Option<String>) {
    (401, Some("administrator".to_owned()))
}

/// A copied cookie is refused, nothing is forwarded for it, and its tokens are revoked now that they have been seen.
async fn is_over(site: &Site, copy: &Browser, alive: usize) {
    let calls = site.api.calls();
    assert_eq!(outcome(&site.call(copy).await), ended());
    assert_eq!(outcome(&copy.fetch(Method::GET, &site.at("/bff/user")).await), ended());
    assert_eq!(site.api.calls(), calls);
    let deadline = Instant::now() + PATIENCE;
    while site.issuer.families_alive() > alive {
        assert!(Instant::now() < deadline, "its tokens are not revoked");
        sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn who_is_signed_in_is_listed_without_any_token() {
    let (site, admin) = site("", LISTED).await;
    let browser = Browser::new();
    let landed = browser.navigate(&site.at("/bff/login")).header("user-agent", FIREFOX).follow().await;
    assert_eq!(landed.status, 200);
    let since = site.issuer.logout_claims(None, None)["iat"].as_u64().unwrap();
    let sessions = admin.sessions("", 1).await;
    let told = &sessions[0];
    assert_eq!(
        (&told["subject"], &told["issuer_session"], &told["ended"]),
        (&"ada".into(), &true.into(), &Value::Null)
    );
    assert_eq!((&told["browser"], &told["system"]), (&"Firefox".into(), &"Linux".into()));
    assert_eq!((&told["since"], &told["last_seen"]), (&since.into(), &since.into()));
    assert_eq!(told["ends"], since + 12 * 3600);
    assert_eq!(told.as_object().unwrap().len(), 9, "{told}");

    let grace = signed_in_as(&site, User::Grace).await;
    assert_eq!(site.call(&grace).await.status, 200);
    assert_eq!(admin.sessions("", 2).await.len(), 2);
    let of_grace = admin.sessions("&subject=grace", 1).await;
    assert_eq!((&of_grace[0]["subject"], &of_grace[0]["browser"]), (&"grace".into(), &Value::Null));
    assert_eq!(admin.sessions("&subject=ada", 1).await[0]["id"], told["id"]);
    assert_eq!(admin.sessions("&subject=nobody", 0).await, Vec::<Value>::new());
    for canary in site.issuer.canaries() {
        assert_eq!(admin.has_heard(&canary), None);
    }
    for cookie in landed.set_cookies() {
        let value = cookie.split_once('=').unwrap().1.split(';').next().unwrap();
        assert!(value.len() < 8 || admin.has_heard(value).is_none(), "{cookie}");
    }
    site.stop().await;
}

#[tokio::test]
async fn what_names_a_session_to_administrators_opens_nothing() {
    for place in PLACES {
        let (site, admin) = site(place, LISTED).await;
        let browser = site.signed_in().await;
        let id = admin.sessions("", 1).await[0]["id"].as_str().unwrap().to_owned();
        for name in browser.cookies().names("localhost") {
            let forged = Browser::new();
            let asked = forged.fetch(Method::GET, &site.at("/api/orders")).header("cookie", &format!("{name}={id}"));
            assert_eq!(outcome(&asked.await), (401, None), "{name}");
        }
        assert_eq!(site.call(&browser).await.status, 200);
        site.stop().await;
    }
}

#[tokio::test]
async fn one_session_is_ended_and_the_others_live() {
    for place in PLACES {
        let (site, admin) = site(place, LISTED).await;
        let kept = site.signed_in().await;
        let stays = admin.sessions("", 1).await[0]["id"].clone();
        site.pass(2);
        let gone = site.signed_in().await;
        let copy = copy_of(&gone);
        assert_eq!(site.call(&gone).await.status, 200);
        let sessions = admin.sessions("", 2).await;
        // The newest comes first.
        assert_eq!(sessions[1]["id"], stays);
        let path = format!("/sessions/{}", sessions[0]["id"].as_str().unwrap());
        let now = json!({ "subject": "ada", "ended": 1, "reason": "administrator", "noted": true });
        assert_eq!(admin.delete(&path).await, (200, now));
        is_over(&site, &copy, 1).await;
        is_over(&site, &gone, 1).await;
        assert_eq!(site.call(&kept).await.status, 200);
        let again = json!({ "subject": "ada", "ended": 0, "reason": "administrator", "noted": true });
        assert_eq!(admin.post(&format!("{path}/end")).await, (200, again));
        let sessions = admin.sessions("", 2).await;
        assert_eq!(sessions[0]["ended"]["reason"], "administrator");
        assert_eq!(sessions[1]["ended"], Value::Null);
        site.stop().await;
    }
}

#[tokio::test]
async fn all_sessions_of_a_subject_are_ended_and_others_live() {
    // ASVS-7.4.2, 7.4.5
    for place in PLACES {
        let (site, admin) = site(place, LISTED).await;
        let gone = [site.signed_in().await, site.signed_in().await];
        let grace = signed_in_as(&site, User::Grace).await;
        admin.sessions("", 3).await;
        let copies = gone.each_ref().map(copy_of);
        assert_eq!(site.call(&gone[0]).await.status, 200);
        let now = json!({ "subject": "ada", "ended": 2, "noted": true });
        assert_eq!(admin.post("/subjects/end?subject=ada").await, (200, now));
        for (alive, copy) in [2, 1].into_iter().zip(&copies) {
            is_over(&site, copy, alive).await;
        }
        assert_eq!(site.call(&grace).await.status, 200);
        let again = json!({ "subject": "ada", "ended": 0, "noted": true });
        assert_eq!(admin.post("/subjects/end?subject=ada").await, (200, again));
        // Who signs in later is let in.
        site.pass(2);
        let back = signed_in_as(&site, User::Ada).await;
        assert_eq!(site.call(&back).await.status, 200);
        site.stop().await;
    }
}

#[tokio::test]
async fn everybodys_sessions_are_ended_when_that_is_confirmed() {
    // ASVS-7.4.5
    for place in PLACES {
        let (site, admin) = site(place, LISTED).await;
        let (ada, grace) = (site.signed_in().await, signed_in_as(&site, User::Grace).await);
        let copies = [copy_of(&ada), copy_of(&grace)];
        admin.sessions("", 2).await;
        for path in ["/sessions/end", "/sessions/end?confirm=yes", "/sessions/end?confirm=all&subject=ada"] {
            let (status, refused) = admin.post(path).await;
            assert_eq!((status, &refused["type"]), (400, &"urn:vestibule:problem:admin-parameter".into()));
        }
        assert_eq!(site.call(&ada).await.status, 200);
        assert_eq!(admin.post("/sessions/end?confirm=all").await, (200, json!({ "ended": 2, "noted": true })));
        for (alive, copy) in [1, 0].into_iter().zip(&copies) {
            is_over(&site, copy, alive).await;
        }
        assert_eq!(admin.post("/sessions/end?confirm=all").await, (200, json!({ "ended": 0, "noted": true })));
        site.pass(2);
        let back = site.signed_in().await;
        assert_eq!(site.call(&back).await.status, 200);
        assert_eq!(admin.post("/sessions/end?confirm=all").await, (200, json!({ "ended": 1, "noted": true })));
        site.stop().await;
    }
}

#[tokio::test]
async fn sessions_are_ended_without_a_list_too() {
    for place in PLACES {
        let (site, admin) = site(place, UNLISTED).await;
        let (ada, grace) = (site.signed_in().await, signed_in_as(&site, User::Grace).await);
        let (status, refused) = admin.ask(Method::GET, "/sessions").await;
        assert_eq!((status, &refused["type"]), (404, &"urn:vestibule:problem:admin-not-kept".into()));
        let now = json!({ "subject": "ada", "ended": null, "noted": true });
        assert_eq!(admin.post("/subjects/end?subject=ada").await, (200, now));
        is_over(&site, &ada, 1).await;
        assert_eq!(site.call(&grace).await.status, 200);
        assert_eq!(admin.post("/sessions/end?confirm=all").await, (200, json!({ "ended": null, "noted": true })));
        is_over(&site, &grace, 0).await;
        site.stop().await;
    }
}

#[tokio::test]
async fn an_ending_meets_a_session_that_has_just_been_refreshed() {
    // The newer body lies in the ledger, and the browser shows the older cookie: the newer tokens are revoked.
    for place in PLACES {
        let (site, admin) = site(place, LISTED).await;
        let browser = site.signed_in().await;
        let older = copy_of(&browser);
        site.pass(TOKEN_SECONDS);
        assert_eq!(site.call(&browser).await.status, 200);
        assert_eq!(site.issuer.refreshes(), 1);
        let id = admin.sessions("", 1).await[0]["id"].as_str().unwrap().to_owned();
        assert_eq!(admin.delete(&format!("/sessions/{id}")).await.0, 200);
        is_over(&site, &older, 0).await;
        is_over(&site, &browser, 0).await;
        assert_eq!((site.issuer.refreshes(), site.issuer.reuses()), (1, 0));
        site.stop().await;
    }
}

#[tokio::test]
async fn a_listed_session_says_when_it_was_seen_and_why_it_is_over() {
    for place in PLACES {
        let (site, admin) = site(place, LISTED).await;
        let browser = site.signed_in().await;
        let start = admin.sessions("", 1).await[0]["since"].as_u64().unwrap();
        for minute in 1..=20_u64 {
            site.pass(60);
            assert_eq!(site.call(&browser).await.status, 200);
            let (now, deadline) = (start + minute * 60, Instant::now() + PATIENCE);
            // It is noted beside the request.
            while admin.sessions("", 1).await[0]["last_seen"].as_u64().unwrap() + 300 < now {
                assert!(Instant::now() < deadline, "after {minute} minutes the last use is older than it may be");
                sleep(Duration::from_millis(20)).await;
            }
        }
        // Nobody uses it any more. It is not told before it is sure.
        site.pass(3600);
        assert_eq!(admin.sessions("", 1).await[0]["ended"], Value::Null);
        site.pass(300);
        assert_eq!(admin.sessions("", 1).await[0]["ended"]["reason"], "idle");

        let out = site.signed_in().await;
        admin.sessions("", 2).await;
        assert_eq!(out.fetch(Method::POST, &site.at("/bff/logout")).await.status, 200);
        assert_eq!(admin.sessions("", 2).await[0]["ended"]["reason"], "logout");
        // Whoever is over by the limit is no longer listed.
        site.pass(12 * 3600);
        admin.sessions("", 0).await;
        site.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_sessions_are_listed_by_pages_each_once() {
    const EACH: usize = 125;
    let (site, admin) = site("", LISTED).await;
    let number = AtomicUsize::new(0);
    site.issuer.script().edit(Document::IdToken, move |claims| {
        // Three sessions each.
        let subject = format!("user-{}", number.fetch_add(1, Ordering::Relaxed) / 3);
        claims.insert("sub".to_owned(), subject.into());
    });
    let logins: Vec<_> = (0..8)
        .map(|_| {
            let login = site.at("/bff/login");
            beside(async move {
                for _ in 0..EACH {
                    assert_eq!(Browser::new().follow(&login).await.status, 200);
                }
            })
        })
        .collect();
    for login in logins {
        login.await.unwrap();
    }
    admin.sessions("", 1000).await;
    for limit in [300, 999] {
        let (mut ids, mut after, mut pages) = (BTreeSet::new(), String::new(), 0);
        loop {
            let page = admin.get(&format!("/sessions?limit={limit}{after}")).await;
            let sessions = page["sessions"].as_array().unwrap();
            ids.extend(sessions.iter().map(|told| told["id"].as_str().unwrap().to_owned()));
            pages += 1;
            match page["next"].as_str() {
                Some(next) => {
                    assert_eq!(sessions.len(), limit);
                    after = format!("&after={next}");
                }
                None => break,
            }
        }
        assert_eq!((ids.len(), pages), (1000, 1000_usize.div_ceil(limit)));
    }
    assert_eq!(admin.get("/sessions").await["sessions"].as_array().unwrap().len(), 100);
    assert_eq!(admin.sessions("&subject=user-7", 3).await.len(), 3);
    assert_eq!(admin.post("/sessions/end?confirm=all").await.1, json!({ "ended": 1000, "noted": true }));
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_one_subject_the_newest_two_hundred_are_listed_and_all_are_ended() {
    let (site, admin) = site("", LISTED).await;
    let first = site.signed_in().await;
    admin.sessions("", 1).await;
    site.pass(1);
    for _ in 0..200 {
        assert_eq!(Browser::new().follow(&site.at("/bff/login")).await.status, 200);
    }
    let deadline = Instant::now() + PATIENCE;
    loop {
        let sessions = admin.sessions("&subject=ada", 200).await;
        let since: BTreeSet<u64> = sessions.iter().map(|told| told["since"].as_u64().unwrap()).collect();
        if since.len() == 1 {
            break;
        }
        assert!(Instant::now() < deadline, "the oldest is still listed: {since:?}");
        sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(site.call(&first).await.status, 200);
    assert_eq!(admin.post("/subjects/end?subject=ada").await.1["ended"], 200);
    is_over(&site, &first, 200).await;
    site.stop().await;
}

async fn raw(site: &Site, line: &str, fields: &str) -> Answer {
    let port = site.admin().unwrap().port();
    let request = format!("{line} HTTP/1.1\r\n{}\r\n\r\n", fields.replace("{port}", &port.to_string()).trim_end());
    exchange(SocketAddr::from(([127, 0, 0, 1], port)), request.as_bytes()).await.unwrap()
}

#[tokio::test]
async fn pages_of_other_sites_reach_nothing_on_loopback() {
    let (site, admin) = site("", LISTED).await;
    let browser = site.signed_in().await;
    let id = admin.sessions("", 1).await[0]["id"].as_str().unwrap().to_owned();
    let lines = ["GET /sessions", "POST /sessions/end?confirm=all", "POST /subjects/end?subject=ada", "GET /nothing"];
    let one = [format!("DELETE /sessions/{id}"), format!("POST /sessions/{id}/end")];
    for line in lines.into_iter().chain(one.iter().map(String::as_str)) {
        for fields in [
            // The name of a page's own host that was rebound to 127.0.0.1.
            "Host: evil.example:{port}",
            "Host: evil.example:{port}\r\nOrigin: http://evil.example:{port}\r\nSec-Fetch-Site: same-origin",
            "Host: 127.0.0.1.evil.example",
            "Host: 10.0.0.1:{port}",
            // A page of elsewhere, or of another port of this machine.
            "Host: 127.0.0.1:{port}\r\nOrigin: https://evil.example\r\nSec-Fetch-Site: cross-site",
            "Host: 127.0.0.1:{port}\r\nOrigin: http://localhost:3000\r\nSec-Fetch-Site: same-site",
            "Host: 127.0.0.1:{port}\r\nOrigin: null",
            "Host: 127.0.0.1:{port}\r\nSec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: no-cors",
        ] {
            let answer = raw(&site, line, fields).await;
            let body: Value = serde_json::from_slice(&answer.body).unwrap();
            assert_eq!(
                (answer.status, &body["title"]),
                (403, &"This request may come from another site's page".into()),
                "{line} {fields}"
            );
            assert_eq!(answer.header("access-control-allow-origin"), None);
        }
    }
    // Reading never ends anything.
    for line in ["GET /sessions/end?confirm=all", "GET /subjects/end?subject=ada", "PUT /sessions/end?confirm=all"] {
        assert_eq!(raw(&site, line, "Host: localhost").await.status, 405, "{line}");
    }
    for method in ["GET", "PUT", "PATCH", "OPTIONS", "POST"] {
        assert_eq!(raw(&site, &format!("{method} /sessions/{id}"), "Host: localhost").await.status, 405, "{method}");
    }
    assert_eq!(site.call(&browser).await.status, 200);
    // A person who types the address is let in.
    let typed = "Host: 127.0.0.1:{port}\r\nSec-Fetch-Site: none\r\nSec-Fetch-Mode: navigate";
    assert_eq!(raw(&site, "GET /sessions", typed).await.status, 200);
    site.stop().await;
}

#[tokio::test]
async fn where_there_is_a_token_only_health_is_told_without_it() {
    for listen in ["0.0.0.0:0", "127.0.0.1:0"] {
        let more = format!(
            "[admin]\nlisten = \"{listen}\"\nsessions = true\ntoken = \"{TOKEN}\"\n[insecure]\ninline_secrets = true"
        );
        let (site, _) = site("", &more).await;
        let browser = site.signed_in().await;
        for path in ["/health/live", "/health/ready"] {
            assert_eq!(raw(&site, &format!("GET {path}"), "Host: any.example").await.status, 200, "{path}");
        }
        let right = format!("Host: localhost\r\nAuthorization: Bearer {TOKEN}");
        let lines =
            ["GET /sessions", "POST /sessions/end?confirm=all", "POST /subjects/end?subject=ada", "GET /", "PUT /x"];
        for line in lines {
            let answer = raw(&site, line, "Host: localhost").await;
            let challenge = "Bearer realm=\"vestibule admin\"";
            assert_eq!((answer.status, answer.header("www-authenticate")), (401, Some(challenge)), "{line}");
            for wrong in [&TOKEN[1..], &format!("{TOKEN}x"), "", &TOKEN.to_lowercase()] {
                let fields = format!("Host: localhost\r\nAuthorization: Bearer {wrong}");
                let answer = raw(&site, line, &fields).await;
                let challenge = "Bearer realm=\"vestibule admin\", error=\"invalid_token\"";
                assert_eq!((answer.status, answer.header("www-authenticate")), (401, Some(challenge)), "{line}");
                assert_eq!(form_found(&answer.body, TOKEN), None);
            }
        }
        assert_eq!(site.call(&browser).await.status, 200);
        assert_eq!(raw(&site, "GET /sessions", &right).await.status, 200);
        assert_eq!(raw(&site, "GET /", &right).await.status, 404);
        // With the token too, no page of another site.
        let cross = format!("{right}\r\nOrigin: https://evil.example");
        assert_eq!(raw(&site, "POST /sessions/end?confirm=all", &cross).await.status, 403);
        assert_eq!(raw(&site, "POST /subjects/end?subject=ada", &right).await.status, 200);
        assert_eq!(outcome(&site.call(&browser).await), ended());
        site.stop().await;
    }
}

#[tokio::test]
async fn a_parameter_that_is_wrong_ends_nothing_and_lists_nothing() {
    let (site, admin) = site("", LISTED).await;
    let browser = site.signed_in().await;
    admin.sessions("", 1).await;
    for path in [
        "/sessions?sujbect=ada",
        "/sessions?limit=0",
        "/sessions?limit=1001",
        "/sessions?limit=ten",
        "/sessions?after=x",
        "/sessions?subject=ada&subject=grace",
    ] {
        let (status, refused) = admin.ask(Method::GET, path).await;
        assert_eq!((status, &refused["type"]), (400, &"urn:vestibule:problem:admin-parameter".into()), "{path}");
    }
    for path in ["/subjects/end", "/subjects/end?subject=", "/subjects/end?sub=ada", "/subjects/end?subject=a&all=1"] {
        assert_eq!(admin.post(path).await.0, 400, "{path}");
    }
    let unknown = "A".repeat(64);
    for path in ["/sessions/x".to_owned(), format!("/sessions/{unknown}"), "/sessions/a%2Fb".to_owned()] {
        assert_eq!(admin.delete(&path).await.0, 404, "{path}");
    }
    for path in ["/sessions/", "/sessions/a/b/end", "/sessions//end", "/subjects", "/Sessions"] {
        assert_eq!(admin.post(path).await.0, 404, "{path}");
    }
    assert_eq!(site.call(&browser).await.status, 200);
    site.stop().await;
}
