//! Paths and methods by which a rule might be walked around.

use super::{OURS, cookies_of, send};
use crate::support::raw::Connection;
use crate::support::site::{Plan, Site};

/// A public route beside the protected one, to the same API.
fn with_public_route() -> Plan {
    let more = "[[route]]\npath = \"/public/\"\nupstream = \"{api}\"\nauth = \"none\"".to_owned();
    Plan { more, ..Plan::default() }
}

#[tokio::test]
async fn no_spelling_of_a_path_leads_around_a_rule() {
    // HTTP-23, BBA-6.1-31
    let site = Site::planned(with_public_route()).await;
    let ambiguous = [
        "/public/..%2fapi/x",
        "/public/../api/x",
        "/public/%2e%2e/api/x",
        "/public/.%2E/api/x",
        "/public/..;/api/x",
        "/public/..;x=1/api/x",
        "/public/..%5capi/x",
        "/public/..\\api/x",
        "//api/x",
        "/public//api/x",
        "/public/./x",
        "/public/x%00",
        "/public/x%0d%0aX:%201",
        "/public/x%09",
        "/public/%2fapi",
        "/public/x%",
        "/public/x%zz",
        "/public/x%2",
        "/public/x%7f",
        "/%2e%2e/api/x",
        "/public/..",
        "/public/.",
    ];
    for path in ambiguous {
        let answer = send(&site, &format!("GET {path}"), &[OURS]).await;
        assert_eq!((answer.status, site.api.calls()), (400, 0), "{path}");
    }
    // These are read in one way only, and the rule of the route holds.
    for path in [
        "/api/x",
        "/%61pi/x",
        "/%61%70%69/%78",
        "/api/x?/public/",
        "/api/x%3f",
        "/api/x%23",
        "/api/..a",
        "/api/;x",
        "/api/%252e%252e/x",
    ] {
        let answer = send(&site, &format!("GET {path}"), &[OURS]).await;
        assert_eq!((answer.status, site.api.calls()), (401, 0), "{path}");
    }
    // What is no route of the API's is none of it: the files answer.
    for path in ["/API/x", "/api;x", "/api.", "/api%20/x", "/apis"] {
        send(&site, &format!("GET {path}"), &[OURS]).await;
        assert_eq!(site.api.calls(), 0, "{path}");
    }
}

#[tokio::test]
async fn the_path_that_was_judged_is_the_path_that_is_forwarded() {
    // HTTP-23
    let site = Site::planned(with_public_route()).await;
    let paths = [
        ("/public/x", "/public/x"),
        ("/%70ublic/%78", "/public/x"),
        ("/public/a%20b?q=%2e%2e/..", "/public/a%20b?q=%2e%2e/.."),
        ("/public/%c3%a4", "/public/%C3%A4"),
        ("/public/%25%32%65", "/public/%252e"),
        ("/public/x%3fy%23z", "/public/x%3Fy%23z"),
        ("/public/a;b=c", "/public/a;b=c"),
        // A fragment is no part of a target; it is dropped before anything is decided.
        ("/public/x#/../api", "/public/x"),
    ];
    for (sent, seen) in paths {
        send(&site, &format!("GET {sent}"), &[]).await;
        assert_eq!(site.api.requests().pop().unwrap().target, seen, "{sent}");
    }
}

#[tokio::test]
async fn other_forms_of_a_target_lead_around_no_rule_either() {
    // HTTP-23, HTTP-24
    let site = Site::planned(with_public_route()).await;
    let api = site.api.url();
    let targets = [
        format!("{}/api/x", site.url),
        format!("{api}/api/x"),
        "http://evil.example/api/x".to_owned(),
        "*".to_owned(),
        "api/x".to_owned(),
        "localhost:8080".to_owned(),
        " /api/x".to_owned(),
    ];
    for target in targets {
        let answer = send(&site, &format!("GET {target}"), &[OURS]).await;
        assert!((400..500).contains(&answer.status), "{target}: {}", answer.status);
        assert_eq!(site.api.calls(), 0, "{target}");
    }
}

#[tokio::test]
async fn methods_that_nobody_serves_are_refused() {
    // HTTP-04, HTTP-25
    let site = Site::planned(with_public_route()).await;
    let cookie = format!("Cookie: {}", cookies_of(&site.signed_in().await));
    for method in ["TRACE", "TRACK", "PROPFIND", "DEBUG", "get", "LOCK", "X"] {
        for path in ["/api/x", "/public/x", "/", "/bff/user", "/bff/login"] {
            let answer = send(&site, &format!("{method} {path}"), &[OURS, &cookie, "Max-Forwards: 0"]).await;
            assert!(matches!(answer.status, 400 | 405), "{method} {path}: {}", answer.status);
            assert!(!String::from_utf8_lossy(&answer.body).contains(&cookie), "{method} echoes");
        }
    }
    // The connection may also be closed: nothing is tunnelled.
    for target in ["api.example:443", "/api/x"] {
        let mut connection = Connection::open(site.address).await.unwrap();
        let text = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n{cookie}\r\n\r\n");
        connection.send(text.as_bytes()).await.unwrap();
        if let Ok(answer) = connection.answer().await {
            assert!(matches!(answer.status, 400 | 405), "{target}: {}", answer.status);
        }
    }
    assert_eq!(site.api.calls(), 0);
}

#[tokio::test]
async fn a_route_lets_through_the_methods_that_it_lists() {
    // HTTP-25, ASVS-4.1.4
    let more = "[[route]]\npath = \"/api/read/\"\nupstream = \"{api}\"\nauth = \"api\"\nmethods = [\"GET\"]".to_owned();
    let site = Site::planned(Plan { more, ..Plan::default() }).await;
    let cookie = format!("Cookie: {}", cookies_of(&site.signed_in().await));
    for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"] {
        let fields = [OURS, &cookie, "Content-Length: 0"];
        let answer = send(&site, &format!("{method} /api/read/x"), &fields).await;
        assert_eq!((answer.status, answer.header("allow"), site.api.calls()), (405, Some("GET"), 0), "{method}");
    }
    let fields =
        [OURS, &cookie, "X-HTTP-Method-Override: DELETE", "X-HTTP-Method: DELETE", "X-Method-Override: DELETE"];
    assert_eq!(send(&site, "GET /api/read/x", &fields).await.status, 200);
    let seen = site.api.requests().pop().unwrap();
    assert_eq!(seen.method, "GET");
    assert!(seen.headers.keys().all(|name| !name.as_str().contains("method")), "{seen:?}");
    assert_eq!(send(&site, "POST /api/x", &[OURS, &cookie, "Content-Length: 0"]).await.status, 200);
}
