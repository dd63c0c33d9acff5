//! Requests that another site makes the browser send.

use super::{OURS, call_with, cookies_of, send};
use crate::issuer::act::Act;
use crate::support::raw::Answer;
use crate::support::site::{Plan, Site};

/// An origin that may call.
const FRIEND: &str = "https://friend.example";

/// Origins that are not this site's, however near.
fn foreign_origins(site: &Site) -> Vec<String> {
    let port = site.address.port();
    let mut origins = vec![
        "https://evil.example".to_owned(),
        "null".to_owned(),
        format!("{}.evil.example", site.url),
        format!("http://evil-localhost:{port}"),
        format!("http://localhost.evil.example:{port}"),
        format!("https://localhost:{port}"),
        "http://localhost".to_owned(),
        format!("http://localhost:{}", port ^ 1),
        format!("http://LOCALHOST:{port}"),
        format!("http://127.0.0.1:{port}"),
        format!("{}/", site.url),
        format!("{0}, {0}", site.url),
        String::new(),
    ];
    origins.push(format!("{FRIEND}.evil.example"));
    origins
}

fn cors_fields(answer: &Answer) -> Vec<&str> {
    answer.head.lines().filter(|line| line.to_ascii_lowercase().starts_with("access-control-")).collect()
}

fn with_cors(more: &str) -> Plan {
    Plan { more: format!("[cors]\norigins = [\"{FRIEND}\"]\n{more}"), ..Plan::default() }
}

#[tokio::test]
async fn no_call_of_another_site_reaches_the_api() {
    // BBA-6.1-24, BBA-6.1-25, BBA-6.1-26, FM-01, FM-02, FM-06, CORS-04
    let site = Site::start().await;
    let cookie = format!("Cookie: {}", cookies_of(&site.signed_in().await));
    let mut proofs: Vec<Vec<String>> = vec![
        vec![],
        vec!["Accept: x-csrf".to_owned(), "Content-Type: text/plain".to_owned()],
        vec!["Sec-Fetch-Site: same-origin".to_owned(), "Sec-Fetch-Site: cross-site".to_owned()],
        vec!["Sec-Fetch-Site: same-origin, cross-site".to_owned()],
        vec![format!("Referer: {}/", site.url)],
    ];
    for origin in foreign_origins(&site) {
        proofs.push(vec![format!("Origin: {origin}")]);
        proofs.push(vec![format!("Origin: {origin}"), "Sec-Fetch-Site: cross-site".to_owned(), "X-CSRF: 1".to_owned()]);
        proofs.push(vec![format!("Origin: {origin}"), OURS.to_owned()]);
        proofs.push(vec![format!("Origin: {}", site.url), format!("Origin: {origin}")]);
    }
    for value in ["same-site", "cross-site", "none", "", "SAME-ORIGIN"] {
        proofs.push(vec![format!("Sec-Fetch-Site: {value}")]);
    }
    for method in ["GET", "POST", "PUT", "DELETE", "PATCH"] {
        for proof in &proofs {
            let mut fields: Vec<&str> = proof.iter().map(String::as_str).collect();
            fields.extend([cookie.as_str(), "Content-Length: 0"]);
            let answer = send(&site, &format!("{method} /api/orders"), &fields).await;
            assert_eq!((answer.status, site.api.calls()), (403, 0), "{method} {proof:?}");
            assert_eq!((cors_fields(&answer), answer.header("set-cookie")), (vec![], None), "{method} {proof:?}");
        }
    }
}

#[tokio::test]
async fn no_form_of_another_site_reaches_the_api() {
    // BBA-6.1-24, FM-06
    let site = Site::start().await;
    let cookie = format!("Cookie: {}", cookies_of(&site.signed_in().await));
    for media_type in
        ["application/x-www-form-urlencoded", "multipart/form-data; boundary=b", "text/plain", "application/json"]
    {
        for from in ["cross-site", "same-site"] {
            let line = format!(
                "POST /api/orders HTTP/1.1\r\nHost: localhost\r\n{cookie}\r\nContent-Type: {media_type}\r\n\
                 Sec-Fetch-Site: {from}\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: document\r\n\
                 Origin: https://evil.example\r\nContent-Length: 3\r\n\r\na=b"
            );
            let answer = crate::support::raw::exchange(site.address, line.as_bytes()).await.unwrap();
            assert_eq!((answer.status, site.api.calls()), (403, 0), "{media_type}");
        }
    }
}

#[tokio::test]
async fn a_navigation_or_frame_of_an_api_route_is_refused() {
    // FM-03, FM-04
    let site = Site::start().await;
    let cookie = format!("Cookie: {}", cookies_of(&site.signed_in().await));
    for (from, mode, destination) in [
        ("none", "navigate", "document"),
        ("cross-site", "navigate", "document"),
        ("cross-site", "navigate", "iframe"),
        ("cross-site", "no-cors", "image"),
        ("same-site", "no-cors", "script"),
    ] {
        let fields = [("Site", from), ("Mode", mode), ("Dest", destination)]
            .map(|(name, value)| format!("Sec-Fetch-{name}: {value}"));
        let fields: Vec<&str> = fields.iter().map(String::as_str).chain([cookie.as_str()]).collect();
        let answer = send(&site, "GET /api/orders", &fields).await;
        assert_eq!((answer.status, site.api.calls()), (403, 0), "{from} {mode} {destination}");
    }
}

#[tokio::test]
async fn a_preflight_of_another_site_is_granted_nothing() {
    // BBA-6.1-27, CORS-01, CORS-03, CORS-04
    for plan in [Plan::default(), with_cors("")] {
        let site = Site::planned(plan).await;
        let cookie = format!("Cookie: {}", cookies_of(&site.signed_in().await));
        for origin in foreign_origins(&site).into_iter().chain([site.url.clone()]) {
            let origin = format!("Origin: {origin}");
            let fields = [
                origin.as_str(),
                &cookie,
                "Access-Control-Request-Method: PUT",
                "Access-Control-Request-Headers: x-csrf",
            ];
            for path in ["/api/orders", "/bff/user", "/bff/logout", "/"] {
                let answer = send(&site, &format!("OPTIONS {path}"), &fields).await;
                assert_eq!((answer.status, site.api.calls()), (405, 0), "{origin} {path}");
                assert_eq!(cors_fields(&answer), Vec::<&str>::new(), "{origin} {path}");
            }
        }
    }
}

#[tokio::test]
async fn an_origin_on_the_list_may_call_and_read_and_no_other() {
    // CORS-01, CORS-02, CORS-03
    let site = Site::planned(with_cors("")).await;
    let cookie = format!("Cookie: {}", cookies_of(&site.signed_in().await));
    let friend = format!("Origin: {FRIEND}");
    let preflight = ["Access-Control-Request-Method: PUT", "Access-Control-Request-Headers: x-csrf", &friend];
    let granted = send(&site, "OPTIONS /api/orders", &preflight).await;
    assert_eq!((granted.status, granted.header("access-control-allow-origin")), (204, Some(FRIEND)));
    assert_eq!(granted.header("access-control-allow-credentials"), Some("true"));
    assert_eq!(granted.header("vary"), Some("Origin"));
    assert_eq!(site.api.calls(), 0);

    let called = send(&site, "GET /api/orders", &[&friend, &cookie, "Sec-Fetch-Site: cross-site"]).await;
    assert_eq!((called.status, called.header("access-control-allow-origin")), (200, Some(FRIEND)));
    assert!(called.headers("vary").any(|it| it == "Origin"));
    let own = send(&site, "GET /api/orders", &[OURS, &cookie]).await;
    assert_eq!((own.status, cors_fields(&own)), (200, vec![]));
    assert!(own.headers("vary").any(|it| it == "Origin"), "whether or not one was named");
    site.api.pause().await;
    let failed = send(&site, "GET /api/orders", &[&friend, &cookie, "Sec-Fetch-Site: cross-site"]).await;
    assert_eq!((failed.status, failed.header("access-control-allow-origin")), (502, Some(FRIEND)));
}

#[tokio::test]
async fn an_origin_on_the_list_can_read_why_it_is_refused() {
    // CORS-02: a script that cannot read a 401 cannot tell it from an outage.
    let site = Site::planned(with_cors("")).await;
    let friend = format!("Origin: {FRIEND}");
    for (path, status) in [("/api/orders", 401), ("/bff/user", 401), ("/api/a%2fb", 400)] {
        let answer = send(&site, &format!("GET {path}"), &[&friend, "Sec-Fetch-Site: cross-site"]).await;
        assert_eq!((answer.status, answer.header("access-control-allow-origin")), (status, Some(FRIEND)), "{path}");
        let other = send(&site, &format!("GET {path}"), &["Origin: https://evil.example"]).await;
        assert_eq!((other.status, cors_fields(&other)), (status, vec![]), "{path}");
        assert!(other.headers("vary").any(|it| it == "Origin"), "{path}");
    }
}

#[tokio::test]
async fn what_the_api_says_about_other_origins_is_taken_off() {
    // BBA-6.1-28
    let site = Site::start().await;
    let cookies = cookies_of(&site.signed_in().await);
    site.api.next(
        Act::instead(200, "")
            .header("access-control-allow-origin", "*")
            .header("access-control-allow-credentials", "true")
            .header("access-control-allow-methods", "*")
            .header("access-control-allow-headers", "*")
            .header("access-control-expose-headers", "*")
            .header("access-control-max-age", "9")
            .header("access-control-allow-private-network", "true"),
    );
    let answer = call_with(&site, &cookies).await;
    assert_eq!((answer.status, cors_fields(&answer)), (200, vec![]));
}

#[tokio::test]
async fn a_site_can_demand_the_header_of_every_call() {
    // BBA-6.1-26
    // Before all tables, because the key stands in none.
    let site = Site::planned(Plan { top: "csrf = \"header\"".to_owned(), ..Plan::default() }).await;
    let cookie = format!("Cookie: {}", cookies_of(&site.signed_in().await));
    for method in ["GET", "HEAD", "POST", "DELETE"] {
        let line = format!("{method} /api/orders");
        let host = site.url.strip_prefix("http://").unwrap();
        let mut connection = crate::support::raw::Connection::open(site.address).await.unwrap();
        let text = format!("{line} HTTP/1.1\r\nHost: {host}\r\n{OURS}\r\n{cookie}\r\nContent-Length: 0\r\n\r\n");
        connection.send(text.as_bytes()).await.unwrap();
        let answer = if method == "HEAD" { connection.answer_to_head().await } else { connection.answer().await };
        assert_eq!((answer.unwrap().status, site.api.calls()), (403, 0), "{method}");
    }
    let out = send(&site, "POST /bff/logout", &[OURS, &cookie, "Content-Length: 0"]).await;
    assert_eq!(out.status, 403);
    assert_eq!(send(&site, "GET /api/orders", &[OURS, &cookie, "X-CSRF: 1"]).await.status, 200);
}

#[tokio::test]
async fn a_web_socket_of_another_site_is_refused() {
    // FM-08, FM-07, ASVS-4.4.2
    let site = Site::start().await;
    let cookie = format!("Cookie: {}", cookies_of(&site.signed_in().await));
    let handshake = [
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
    ];
    let origins = foreign_origins(&site).into_iter().map(|origin| Some(format!("Origin: {origin}")));
    for origin in origins.chain([None]) {
        let mut fields = vec![cookie.as_str(), OURS, "X-CSRF: 1"];
        fields.extend(handshake);
        fields.extend(origin.as_deref());
        let answer = send(&site, "GET /api/socket", &fields).await;
        assert_eq!((answer.status, site.api.calls()), (403, 0), "{origin:?}");
    }
}
