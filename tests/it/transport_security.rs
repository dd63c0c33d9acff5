//! `Strict-Transport-Security`: with every answer of an https site, exactly once, and never over http.

use http::Method;

use crate::issuer::act::Act;
use crate::support::plain_client;
use crate::support::raw::{self, Answer};
use crate::support::site::{Plan, Site};

const POLICY: &str = "max-age=31536000";
const OPEN: &str = "[[route]]\npath = \"/open/\"\nupstream = \"{api}\"\nauth = \"none\"";

/// A site that people reach by https, with these lines under `[server]`.
async fn site(server: &str) -> Site {
    let (server, more) = (server.to_owned(), OPEN.to_owned());
    Site::planned(Plan { behind_tls: true, server, more, ..Plan::default() }).await
}

fn policies(answer: &Answer) -> Vec<&str> {
    answer.headers("strict-transport-security").collect()
}

/// What the TLS server in front would pass on.
async fn send(site: &Site, line: &str, fields: &str) -> Answer {
    let host = site.url.strip_prefix("http://").unwrap();
    let text = format!("{line} HTTP/1.1\r\nHost: {host}\r\n{fields}\r\n");
    raw::exchange(site.address, text.as_bytes()).await.unwrap_or_else(|error| panic!("{line}: {error}"))
}

/// The cookie of a session. A browser would send it by https alone, so its part is done by hand.
async fn session(site: &Site) -> String {
    let client = plain_client();
    let text = |response: &reqwest::Response, name: &str| response.headers()[name].to_str().unwrap().to_owned();
    let pair = |line: String| line.split(';').next().unwrap().to_owned();
    let away = client.get(site.at("/bff/login")).send().await.unwrap();
    let login = pair(text(&away, "set-cookie"));
    let back = client.get(text(&away, "location")).send().await.unwrap();
    let callback = text(&back, "location").replace("https://", "http://");
    let done = client.get(callback).header("cookie", login).send().await.unwrap();
    let lines = done.headers().get_all("set-cookie").iter().map(|line| line.to_str().unwrap().to_owned());
    lines.map(pair).find(|pair| pair.starts_with("__Host-Http-vestibule=") && pair.len() > 100).expect("a session")
}

#[tokio::test]
async fn every_answer_of_an_https_site_says_so_once() {
    // HSTS-01, FAPI-5.2.3-01, ASVS-3.4.1
    let site = site("hsts = true").await;
    let cookie = format!("Cookie: {}\r\nSec-Fetch-Site: same-origin\r\n", session(&site).await);
    let huge = format!("X-Huge: {}\r\n", "x".repeat(200_000));
    for (line, fields, status) in [
        ("GET /", "", 200),
        ("GET /gone.js", "", 404),
        ("GET /a//b", "", 400),
        ("GET /bff/login", "", 303),
        ("GET /bff/user", "", 401),
        ("GET /bff/user", &*cookie, 200),
        ("GET /api/x", "", 401),
        ("GET /api/x", &cookie, 200),
        ("PROPFIND /api/x", "", 405),
        ("GET /open/x", "", 401),
        ("GET /", &huge, 431),
    ] {
        let answer = send(&site, line, fields).await;
        assert_eq!((answer.status, policies(&answer)), (status, vec![POLICY]), "{line} {}", answer.head);
    }
    // Events have no end.
    let mut listening = raw::Connection::open(site.address).await.unwrap();
    let host = site.url.strip_prefix("http://").unwrap();
    let line = format!("GET /bff/session HTTP/1.1\r\nHost: {host}\r\nAccept: text/event-stream\r\n{cookie}\r\n");
    listening.send(line.as_bytes()).await.unwrap();
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        head.push_str(&listening.line().await.unwrap());
    }
    assert!(head.starts_with("HTTP/1.1 200 ") && head.contains("text/event-stream"), "{head}");
    assert_eq!(
        head.to_ascii_lowercase().matches("strict-transport-security: max-age=31536000\r\n").count(),
        1,
        "{head}"
    );

    // What an upstream says of it is replaced, however often it says it.
    let act = || {
        let act = Act::instead(200, "").header("strict-transport-security", "max-age=0");
        act.header("strict-transport-security", "max-age=1; includeSubDomains")
    };
    for line in ["GET /open/x", "GET /api/x"] {
        site.api.next(act());
        assert_eq!(policies(&send(&site, line, &cookie).await), [POLICY], "{line}");
    }
    site.api.pause().await;
    let answer = send(&site, "GET /open/x", "").await;
    assert_eq!((answer.status, policies(&answer)), (502, vec![POLICY]));
}

#[tokio::test]
async fn the_policy_is_what_the_file_says() {
    let words = "max-age=63072000; includeSubDomains; preload";
    let site = site(&format!("hsts = \"{words}\"")).await;
    assert_eq!(policies(&send(&site, "GET /", "").await), [words]);
}

#[tokio::test]
async fn where_the_site_says_nothing_its_upstreams_may() {
    // On a developer's machine it is said by no default: browsers would apply it to every port of localhost.
    for server in ["", "hsts = false"] {
        let site = site(server).await;
        assert_eq!(policies(&send(&site, "GET /", "").await), Vec::<&str>::new());
        site.api.next(Act::instead(200, "").header("strict-transport-security", "max-age=7"));
        assert_eq!(policies(&send(&site, "GET /open/x", "").await), ["max-age=7"]);
    }
}

#[tokio::test]
async fn over_http_nobody_says_it() {
    // HSTS-02
    let site = Site::planned(Plan { more: OPEN.to_owned(), ..Plan::default() }).await;
    let browser = site.signed_in().await;
    for (line, path) in [("GET /", "/"), ("GET /bff/user", "/bff/user"), ("GET /open/x", "/open/x")] {
        site.api.next(Act::instead(200, "").header("strict-transport-security", "max-age=7"));
        assert_eq!(policies(&send(&site, line, "").await), Vec::<&str>::new(), "{line}");
        let page = browser.fetch(Method::GET, &site.at(path)).await;
        assert_eq!(page.header("strict-transport-security"), None, "{path}");
    }
}
