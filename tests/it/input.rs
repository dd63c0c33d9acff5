//! Bytes that no browser sends. The answer is a clear 4xx, or the end of the connection where HTTP itself is broken; and
//! afterwards everything works as before.

use http::Method;

use crate::issuer::act::Act;
use crate::issuer::{Endpoint, Login};
use crate::support::browser::{Browser, Initiator};
use crate::support::jar::Reach;
use crate::support::log::Log;
use crate::support::raw::{Answer, Connection};
use crate::support::site::{Plan, Site, TOKEN_SECONDS};

/// Sends bytes on a connection of their own. No answer: the connection was closed without one.
async fn answer_to(site: &Site, bytes: &[u8]) -> Option<Answer> {
    let mut connection = Connection::open(site.address).await.unwrap();
    // A server that refuses early may close before it has read everything.
    connection.send(bytes).await.ok();
    match connection.answer().await {
        Ok(answer) => Some(answer),
        Err(error) => {
            assert_ne!(error.kind(), std::io::ErrorKind::TimedOut, "neither an answer nor an end");
            None
        }
    }
}

/// A whole request with this line and these fields.
fn request(site: &Site, line: &str, fields: &str) -> Vec<u8> {
    let host = site.url.strip_prefix("http://").unwrap();
    format!("{line} HTTP/1.1\r\nHost: {host}\r\nSec-Fetch-Site: same-origin\r\n{fields}\r\n").into_bytes()
}

/// The session that was opened before all this.
async fn still_works(site: &Site, browser: &Browser) {
    assert_eq!(site.call(browser).await.status, 200);
    assert_eq!(browser.fetch(Method::GET, &site.at("/bff/user")).await.status, 200);
    assert_eq!(site.issuer.families_alive(), 1);
}

#[tokio::test]
async fn what_is_no_http_ends_the_connection_or_gets_400() {
    let site = Site::start().await;
    let browser = site.signed_in().await;
    let noise: Vec<u8> = (0..4096_u32).map(|index| (index.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let broken: [&[u8]; 16] = [
        b"\r\n\r\n\r\n",
        b"hello\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET /api/x\r\n\r\n",
        b"GET /api/x HTTP/9.9\r\nHost: a\r\n\r\n",
        b"GET /api/x HTTP/1.1 x\r\nHost: a\r\n\r\n",
        b"GET  /api/x  HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /api/x HTTP/1.1\r\nHost: a\r\nno colon\r\n\r\n",
        b"GET /api/x HTTP/1.1\r\nHost: a\r\n: no name\r\n\r\n",
        b"GET /api/x HTTP/1.1\r\nHost : a\r\n\r\n",
        b"GET /api/x HTTP/1.1\r\n Host: a\r\n\r\n",
        b"GET /api/x HTTP/1.1\r\nHost: a\r\nX: a\x00b\r\n\r\n",
        b"GET /api/x\x00 HTTP/1.1\r\nHost: a\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 a TLS greeting \r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        &noise,
    ];
    for bytes in broken {
        let mut connection = Connection::open(site.address).await.unwrap();
        connection.send(bytes).await.ok();
        // The end of what is sent: a server may otherwise wait for the rest of a head.
        connection.finish().await.ok();
        let seen = connection.answer().await.ok().map(|answer| answer.status);
        assert!(
            seen.is_none_or(|status| (400..500).contains(&status)),
            "{:?}: {seen:?}",
            String::from_utf8_lossy(bytes)
        );
    }
    assert_eq!(site.api.calls(), 0);
    still_works(&site, &browser).await;
}

#[tokio::test]
async fn heads_that_are_too_large_are_refused() {
    // CK-12, ASVS-4.2.5
    let site = Site::start().await;
    let browser = site.signed_in().await;
    let large = "x".repeat(100 * 1024);
    let many: String = (0..5000).map(|index| format!("c{index}=v; ")).collect();
    let ours: String = (0..2000).map(|index| format!("vestibule-login-{index:016x}=v; ")).collect();
    let fields: String = (0..3000).map(|index| format!("X-{index}: v\r\n")).collect();
    let requests = [
        request(&site, "GET /api/x", &format!("Cookie: vestibule={large}\r\n")),
        request(&site, "GET /api/x", &format!("Cookie: other={large}\r\n")),
        request(&site, "GET /api/x", &format!("Cookie: {many}\r\n")),
        request(&site, "GET /bff/login", &format!("Cookie: {ours}\r\n")),
        request(&site, "GET /api/x", &"Cookie: a=b\r\n".repeat(1000)),
        request(&site, "GET /api/x", &fields),
        request(&site, "GET /api/x", &format!("X: {large}\r\n")),
        request(&site, &format!("GET /api/{large}"), ""),
        request(&site, &format!("GET /api/x?{large}"), ""),
        request(&site, &format!("GET /api/x?{}", &large[..10_000]), ""),
        request(&site, &format!("GET /bff/callback?code={}&state=x", &large[..9000]), ""),
        request(&site, &format!("{} /api/x", &large[..9000]), ""),
    ];
    for (index, bytes) in requests.iter().enumerate() {
        let seen = answer_to(&site, bytes).await.map(|answer| answer.status);
        assert!(seen.is_none_or(|status| matches!(status, 400 | 405 | 414 | 431)), "{index}: {seen:?}");
    }
    assert_eq!(site.api.calls(), 0);
    still_works(&site, &browser).await;
}

#[tokio::test]
async fn bodies_whose_end_is_disputed_are_not_passed_on() {
    // HTTP-13, HTTP-14, ASVS-4.2.1
    let site = Site::start().await;
    let browser = site.signed_in().await;
    let cookie = browser.cookies().header("localhost", Reach::SameSite).unwrap();
    let framings = [
        "Content-Length: 6\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 6",
        "Content-Length: 5\r\nContent-Length: 6",
        "Content-Length: 5, 6",
        "Content-Length: +5",
        "Content-Length: -1",
        "Content-Length: 0x5",
        "Content-Length: 99999999999999999999999",
        "Content-Length: five",
        "Transfer-Encoding: chunked, identity",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
        "Transfer-Encoding : chunked",
    ];
    for framing in framings {
        let before = site.api.calls();
        let head = request(&site, "POST /api/x", &format!("Cookie: {cookie}\r\n{framing}\r\n"));
        let bytes = [head.as_slice(), b"0\r\n\r\nGET /api/smuggled HTTP/1.1\r\nHost: a\r\n\r\n"].concat();
        let seen = answer_to(&site, &bytes).await.map(|answer| answer.status);
        if seen == Some(200) {
            // Where the two meet, the length may be dropped; then the body is what the chunks say: nothing.
            assert!(framing.contains("chunked") && framing.contains("Content-Length"), "{framing}");
            let passed = site.api.requests().pop().unwrap();
            assert_eq!((site.api.calls(), passed.body.len()), (before + 1, 0), "{framing}");
            assert!(passed.values("content-length").iter().all(|length| length == "0"), "{framing}");
        } else {
            assert!(seen.is_none_or(|status| (400..500).contains(&status)), "{framing}: {seen:?}");
            assert_eq!(site.api.calls(), before, "{framing}");
        }
    }
    assert!(site.api.requests().iter().all(|request| request.target == "/api/x"));
    still_works(&site, &browser).await;
}

#[tokio::test]
async fn broken_chunks_never_become_a_whole_request() {
    let site = Site::start().await;
    let browser = site.signed_in().await;
    let cookie = browser.cookies().header("localhost", Reach::SameSite).unwrap();
    let bodies: [&[u8]; 6] = [
        b"zz\r\nhello\r\n0\r\n\r\n",
        b"5\r\nhelloworld\r\n0\r\n\r\n",
        b"-1\r\n\r\n",
        b"ffffffffffffffffff\r\n",
        b"5\r\nhel",
        b"\r\n\r\n",
    ];
    for body in bodies {
        for path in ["/api/x", "/bff/logout"] {
            let head = request(&site, &format!("POST {path}"), "Transfer-Encoding: chunked\r\n");
            let with_cookie =
                request(&site, &format!("POST {path}"), &format!("Cookie: {cookie}\r\nTransfer-Encoding: chunked\r\n"));
            for head in if path == "/api/x" { [&head, &with_cookie] } else { [&head, &head] } {
                let mut connection = Connection::open(site.address).await.unwrap();
                connection.send(&[head.as_slice(), body].concat()).await.ok();
                connection.finish().await.ok();
                let seen = connection.answer().await.ok().map(|answer| answer.status);
                let fine = if path == "/api/x" { 400..505 } else { 200..500 };
                assert!(
                    seen.is_none_or(|status| fine.contains(&status)),
                    "{path} {:?}: {seen:?}",
                    String::from_utf8_lossy(body)
                );
            }
        }
    }
    assert!(site.api.requests().iter().all(|request| request.body != b"hello"));
    still_works(&site, &browser).await;
}

#[tokio::test]
async fn a_request_without_one_host_is_refused() {
    // HTTP-08
    let site = Site::start().await;
    let browser = site.signed_in().await;
    for fields in ["", "Host:\r\n", "Host: a\r\nHost: b\r\n", "Host: a b\r\n", "Host: a/b\r\n", "Host: a@b\r\n"] {
        let bytes = format!("GET /bff/user HTTP/1.1\r\nSec-Fetch-Site: same-origin\r\n{fields}\r\n");
        let seen = answer_to(&site, bytes.as_bytes()).await.map(|answer| answer.status);
        assert!(seen.is_none_or(|status| (400..500).contains(&status)), "{fields:?}: {seen:?}");
        let login = format!("GET /bff/login HTTP/1.1\r\n{fields}\r\n");
        if let Some(answer) = answer_to(&site, login.as_bytes()).await {
            let location = answer.header("location").unwrap_or(&site.url);
            assert!(location.starts_with(&site.url), "{fields:?}: {location}");
        }
    }
    still_works(&site, &browser).await;
}

#[tokio::test]
async fn bytes_that_are_no_text_break_nothing() {
    // OWS-14, CK-12
    let site = Site::start().await;
    let browser = site.signed_in().await;
    let host = site.url.strip_prefix("http://").unwrap();
    let strange: [&[u8]; 4] = [b"\xff\xfe\x80", b"\xc3\x28", b"\xed\xa0\x80", b"\xf0\x9f\x8d\xaa"];
    for bytes in strange {
        for field in [
            "Cookie: vestibule=",
            "Cookie: ",
            "Origin: ",
            "Sec-Fetch-Site: ",
            "Accept: ",
            "X-Forwarded-For: ",
            "Authorization: ",
        ] {
            for path in ["/api/x", "/bff/user", "/bff/callback?code=a&state=b"] {
                let head = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n{field}");
                let seen = answer_to(&site, &[head.as_bytes(), bytes, b"\r\n\r\n"].concat()).await;
                let status = seen.map(|answer| answer.status);
                assert!(status.is_none_or(|it| it == 200 || (400..500).contains(&it)), "{field} {path}: {status:?}");
            }
        }
        for target in ["/bff/login?return_to=/", "/bff/callback?state=", "/bff/user?", "/api/", "/"] {
            let line = [b"GET ", target.as_bytes(), bytes].concat();
            let rest = format!(" HTTP/1.1\r\nHost: {host}\r\n\r\n");
            let status =
                answer_to(&site, &[line.as_slice(), rest.as_bytes()].concat()).await.map(|answer| answer.status);
            assert!(status.is_none_or(|it| it < 500), "{target}: {status:?}");
        }
    }
    assert_eq!(site.api.calls(), 0);
    still_works(&site, &browser).await;
}

#[tokio::test]
async fn parameters_that_are_missing_or_contradict_each_other_get_a_clear_answer() {
    // O2-3.1-02, OIDC-3.1.2.1-06
    let site = Site::start().await;
    let browser = site.signed_in().await;
    let refused = [
        ("/bff/callback", 400),
        ("/bff/callback?", 400),
        ("/bff/callback?code=a", 400),
        ("/bff/callback?state=b", 400),
        ("/bff/callback?code=a&error=b&state=c", 400),
        ("/bff/callback?code=a&code=b&state=c", 400),
        ("/bff/callback?state=a&state=b&code=c", 400),
        ("/bff/callback?resume=", 303),
        ("/bff/callback?resume=99999999999", 303),
        ("/bff/callback?resume=1&code=x", 303),
        ("/bff/login?prompt=none+login", 400),
        ("/bff/login?prompt=evil", 400),
        ("/bff/login?max_age=-1", 400),
        ("/bff/login?max_age=soon", 400),
        ("/bff/login?max_age=99999999999999999999999", 400),
        ("/bff/login?acr_values=%00", 400),
        ("/bff/login?attempt=-1", 303),
        ("/bff/user?anonymous=200&anonymous=401", 200),
        ("/bff/session?%zz", 200),
        ("/bff/unknown", 404),
        ("/bff/", 404),
        ("/bff/login/", 404),
    ];
    for (target, status) in refused {
        let page = browser.navigate(&site.at(target)).await;
        assert_eq!(page.status, status, "{target}: {}", page.text());
    }
    let long = browser.navigate(&site.at(&format!("/bff/login?login_hint={}", "x".repeat(600)))).await;
    assert_eq!((long.status, long.set_cookies().len()), (400, 0));
    let form = [("state", "a"), ("state", "b"), ("code", "c")];
    for target in ["/bff/callback", "/bff/login", "/bff/user", "/bff/session"] {
        let page = browser.submit(&site.at(target), &form).await;
        assert_eq!((page.status, page.header("allow")), (405, Some("GET, HEAD")), "{target}");
    }
    assert_eq!(site.issuer.token_calls(), 1);
    still_works(&site, &browser).await;
}

#[tokio::test]
async fn a_body_beyond_the_limit_is_refused_however_it_is_framed() {
    // BBA-6.1-32
    let site = Site::planned(Plan { server: "max_body_bytes = 1000".to_owned(), ..Plan::default() }).await;
    let browser = site.signed_in().await;
    let page = browser.fetch(Method::POST, &site.at("/api/x")).body("text/plain", vec![b'x'; 1001]).await;
    assert_eq!((page.status, site.api.calls()), (413, 0));
    let cookie = browser.cookies().header("localhost", Reach::SameSite).unwrap();
    let head = request(&site, "POST /api/x", &format!("Cookie: {cookie}\r\nTransfer-Encoding: chunked\r\n"));
    let body = format!("{:x}\r\n{}\r\n0\r\n\r\n", 1001, "x".repeat(1001));
    let answer = answer_to(&site, &[head.as_slice(), body.as_bytes()].concat()).await;
    assert_eq!(answer.map(|answer| answer.status), Some(413));
    assert!(site.api.requests().iter().all(|request| request.body.len() < 1001));
    still_works(&site, &browser).await;
}

#[test]
fn no_log_line_contains_a_secret() {
    // BCP-4.9-01, ASVS-16.2.5
    let log = Log::default();
    let secrets = log.hears(eventful_life());
    let said = log.text();
    for event in ["login.started", "login.succeeded", "login.failed", "session.ended", "a request cannot be forwarded"]
    {
        assert!(said.contains(event), "{event}: {said}");
    }
    assert!(secrets.len() > 10);
    for secret in secrets {
        assert_eq!(crate::support::canary::form_found(said.as_bytes(), &secret), None, "{secret}");
    }
}

/// A login, a refresh, a logout and failures of every kind. Returns everything that must not be logged.
async fn eventful_life() -> Vec<String> {
    let site = Site::start().await;
    let browser = Browser::new();
    let mut secrets = Vec::new();
    let mut keep = |browser: &Browser| {
        let jar = browser.cookies();
        secrets.extend(jar.names("localhost").iter().map(|name| jar.value("localhost", name).unwrap().to_owned()));
    };
    let away = browser.navigate(&site.at("/bff/login?login_hint=hint-of-ada-lovelace")).await;
    keep(&browser);
    let callback = browser.navigate(away.location().unwrap().as_str()).await.location().unwrap();
    let state = callback.query_pairs().find(|(name, _)| name == "state").unwrap().1.into_owned();
    // In another jar, then in the right one, then again.
    Browser::new().navigate(callback.as_str()).started_by(Initiator::CrossSite).await;
    for _ in 0..2 {
        browser.navigate(callback.as_str()).started_by(Initiator::CrossSite).await;
    }
    keep(&browser);
    assert_eq!(site.call(&browser).await.status, 200);
    site.pass(TOKEN_SECONDS);
    assert_eq!(site.call(&browser).await.status, 200);
    keep(&browser);
    assert_eq!(site.issuer.refreshes(), 1);
    // A token that comes back, a refresh that fails in several ways, a dead API.
    let token = site.api.requests().pop().unwrap().bearer().unwrap().to_owned();
    site.api.next(Act::instead(200, "").header("x-echo", &token).header("set-cookie", "vestibule=canary-cookie"));
    site.call(&browser).await;
    for act in [
        Act::cut(),
        Act::instead(500, "canary-of-the-issuer"),
        Act::instead(400, "{\"error\":\"canary-of-the-issuer\"}"),
    ] {
        site.pass(TOKEN_SECONDS * 2);
        site.issuer.script().next(Endpoint::Token, act);
        site.call(&browser).await;
    }
    site.pass(TOKEN_SECONDS * 2);
    site.call(&browser).await;
    keep(&browser);
    let fresh = site.signed_in().await;
    keep(&fresh);
    site.api.pause().await;
    assert_eq!(site.call(&fresh).await.status, 502);
    fresh.fetch(Method::GET, &site.at("/api/x?access_token=canary-in-a-query")).await;
    // Garbage, another site, a broken path, a refused login.
    let garbled = Browser::new();
    let mut jar = fresh.cookies();
    let changed = format!("{}AAAA", jar.value("localhost", "vestibule").unwrap());
    jar.put("localhost", "vestibule", &changed);
    garbled.restore(jar);
    site.call(&garbled).await;
    fresh.fetch(Method::POST, &site.at("/api/x")).started_by(Initiator::CrossSite).await;
    fresh.fetch(Method::GET, &site.at("/bff/callback?code=canary-in-a-query&state=canary-in-a-query")).await;
    assert_eq!(fresh.fetch(Method::POST, &site.at("/bff/logout")).await.status, 200);
    site.issuer.set_login(Login::Page);
    Browser::new().follow(&site.at("/bff/login?prompt=none")).await;
    secrets.extend(["canary-in-a-query", "canary-cookie", "hint-of-ada-lovelace"].map(str::to_owned));
    secrets.push(state);
    secrets.extend(site.issuer.canaries());
    site.stop().await;
    secrets
}
