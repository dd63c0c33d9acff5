//! What reaches the API, and what does not.

use super::{OURS, cookies_of, send};
use crate::api::Received;
use crate::support::raw;
use crate::support::site::{Plan, Site};

/// The request that reached the API last.
fn last(site: &Site) -> Received {
    site.api.requests().pop().unwrap()
}

#[tokio::test]
async fn our_cookies_never_reach_the_api_and_others_do_byte_for_byte() {
    // BBA-6.1-08, CK-12, HTTP-18
    let site = Site::start().await;
    let browser = site.signed_in().await;
    let session = cookies_of(&browser);
    let login = "vestibule-login-0123456789abcdef=x";
    let near = "Vestibule=a; VESTIBULE-1=b; vestibule-9=c; vestibule-17=d; \"vestibule\"=e; vestibule =f; vestibule-LOGIN-x=g; vestibule";
    let fields = [
        format!("Cookie: a=\"1, 2\"; {session};; b=c=d"),
        format!("cookie: {login}; {near}"),
        "COOKIE: e=%20; =f; g".to_owned(),
    ];
    let lines: Vec<&str> = fields.iter().map(String::as_str).chain([OURS]).collect();
    let answer = send(&site, "GET /api/orders", &lines).await;
    assert_eq!(answer.status, 200);
    assert_eq!(last(&site).values("cookie"), ["a=\"1, 2\"; b=c=d; e=%20; =f; g"]);

    // Bytes that are no text travel unchanged.
    let host = site.url.strip_prefix("http://").unwrap();
    let mut request =
        format!("GET /api/orders HTTP/1.1\r\nHost: {host}\r\n{OURS}\r\nCookie: {session}; n=").into_bytes();
    request.extend(b"\xe4\xff\x80\r\n\r\n");
    raw::exchange(site.address, &request).await.unwrap();
    assert_eq!(last(&site).headers["cookie"].as_bytes(), b"n=\xe4\xff\x80");

    let only_ours = format!("Cookie: {session}");
    send(&site, "GET /api/orders", &[OURS, &only_ours, "Cookie_: x", "Cookie-: y"]).await;
    assert_eq!(last(&site).values("cookie"), Vec::<String>::new());
}

#[tokio::test]
async fn our_cookies_do_not_reach_public_routes_either() {
    // BBA-6.1-08, BT-2-02
    let more = "[[route]]\npath = \"/open/\"\nupstream = \"{api}\"\nauth = \"none\"".to_owned();
    let site = Site::planned(Plan { more, ..Plan::default() }).await;
    let cookie = format!("Cookie: {}; theme=dark", cookies_of(&site.signed_in().await));
    send(&site, "GET /open/x", &[&cookie, "Authorization: Bearer forged", "X-Forwarded-User: root"]).await;
    let seen = last(&site);
    assert_eq!((seen.values("cookie"), seen.bearer()), (vec!["theme=dark".to_owned()], None));
    assert_eq!(seen.values("x-forwarded-user"), Vec::<String>::new());
}

#[tokio::test]
async fn what_a_browser_claims_about_itself_never_reaches_the_api() {
    // BCP-4.13-01, HTTP-22, HTTP-24, BT-2-02, ASVS-4.1.3
    let site = Site::start().await;
    let cookie = format!("Cookie: {}", cookies_of(&site.signed_in().await));
    let names = [
        "Authorization",
        "AUTHORIZATION",
        "Proxy-Authorization",
        "Proxy_Authorization",
        "DPoP",
        "dpop",
        "X-Forwarded-For",
        "X_Forwarded_For",
        "x-forwarded_for",
        "X-Forwarded-Host",
        "X-Forwarded-Proto",
        "X-Forwarded-Port",
        "X-Forwarded-User",
        "X_FORWARDED_USER",
        "X-Forwarded-Email",
        "X-Forwarded-Groups",
        "X-Forwarded-Uri",
        "X-Forwarded-Access-Token",
        "X-Forwarded-Client-Cert",
        "X-Forwarded-Prefix",
        "Forwarded",
        "FORWARDED",
        "Client-Cert",
        "Client_Cert",
        "Client-Cert-Chain",
        "SSL-Client-Cert",
        "X-SSL-Client-DN",
        "X-Real-IP",
        "X_Real_IP",
        "True-Client-IP",
        "CF-Connecting-IP",
        "X-Client-IP",
        "X-Original-URL",
        "X_Original_URL",
        "X-Rewrite-URL",
        "X-Original-Host",
        "X-HTTP-Method-Override",
        "X-HTTP-Method",
        "X-Method-Override",
        "X-Remote-User",
        "Remote-User",
        "Remote_User",
        "X-User",
        "X-Authenticated-User",
        "X-Auth-Request-User",
        "X-Auth-Request-Access-Token",
        "Via",
    ];
    for name in names {
        let (once, again) = (format!("{name}: canary-one"), format!("{}: canary-two", name.to_ascii_lowercase()));
        let answer = send(&site, "GET /api/orders", &[OURS, &cookie, &once, &again, &once]).await;
        assert_eq!(answer.status, 200, "{name}");
        let seen = last(&site);
        for (field, value) in &seen.headers {
            assert!(!value.as_bytes().windows(6).any(|part| part == b"canary"), "{name} arrived as {field}");
        }
        assert_eq!(seen.values("authorization").len(), 1, "{name}");
        assert!(site.issuer.active(seen.bearer().unwrap()).is_some(), "{name}");
    }
}

#[tokio::test]
async fn a_connection_field_cannot_take_away_what_is_put_on() {
    // HTTP-01
    let site = Site::start().await;
    let cookie = format!("Cookie: {}; keep=me", cookies_of(&site.signed_in().await));
    let connection = "Connection: authorization, cookie, forwarded, via, te, x-mine";
    let answer =
        send(&site, "GET /api/orders", &[OURS, &cookie, connection, "X-Mine: 1", "TE: trailers", "Keep-Alive: x"])
            .await;
    assert_eq!(answer.status, 200);
    let seen = last(&site);
    assert!(site.issuer.active(seen.bearer().unwrap()).is_some());
    assert_eq!(seen.values("x-forwarded-for"), ["127.0.0.1"]);
    assert_eq!(seen.values("host"), [site.api.url().strip_prefix("http://").unwrap()]);
    assert_eq!((seen.values("via").len(), seen.values("forwarded").len()), (1, 1));
    for gone in ["x-mine", "keep-alive", "te"] {
        assert_eq!(seen.values(gone), Vec::<String>::new(), "{gone}");
    }
    assert!(seen.values("connection").iter().all(|value| !value.contains("x-mine")), "{:?}", seen.values("connection"));
}

#[tokio::test]
async fn the_proxy_says_who_called_and_that_it_stood_between() {
    // HTTP-03, HTTP-22
    let site = Site::start().await;
    let browser = site.signed_in().await;
    site.call(&browser).await;
    let (seen, host) = (last(&site), site.url.strip_prefix("http://").unwrap());
    assert_eq!(seen.values("via"), ["1.1 vestibule"]);
    assert_eq!(seen.values("x-forwarded-for"), ["127.0.0.1"]);
    assert_eq!(
        (seen.values("x-forwarded-proto"), seen.values("x-forwarded-host")),
        (vec!["http".to_owned()], vec![host.to_owned()])
    );
    assert_eq!(seen.values("forwarded"), [format!("for=127.0.0.1;host=\"{host}\";proto=http")]);
}

#[tokio::test]
async fn only_proxies_on_the_list_are_believed_about_who_called() {
    // HTTP-22, ASVS-15.3.4
    let chains = [
        ("", "198.51.100.7", "127.0.0.1"),
        ("127.0.0.0/8", "198.51.100.7", "198.51.100.7, 127.0.0.1"),
        ("127.0.0.0/8", "203.0.113.9, 198.51.100.7", "198.51.100.7, 127.0.0.1"),
        ("127.0.0.0/8", "203.0.113.9, 127.0.0.2", "203.0.113.9, 127.0.0.2, 127.0.0.1"),
        ("127.0.0.0/8", "2001:db8::1", "2001:db8::1, 127.0.0.1"),
        ("127.0.0.0/8", "203.0.113.9, evil", "127.0.0.1"),
        ("10.0.0.0/8", "198.51.100.7", "127.0.0.1"),
    ];
    for (trusted, said, expected) in chains {
        let server = if trusted.is_empty() { String::new() } else { format!("trusted_proxies = [\"{trusted}\"]") };
        let site = Site::planned(Plan { server, ..Plan::default() }).await;
        let cookie = format!("Cookie: {}", cookies_of(&site.signed_in().await));
        send(&site, "GET /api/orders", &[OURS, &cookie, &format!("X-Forwarded-For: {said}")]).await;
        assert_eq!(last(&site).values("x-forwarded-for"), [expected], "{said} by {trusted:?}");
    }
}

#[tokio::test]
async fn a_connection_field_that_names_what_it_must_not_is_refused_with_an_answer() {
    // HTTP-01
    let site = Site::start().await;
    let cookie = format!("Cookie: {}", cookies_of(&site.signed_in().await));
    let many = (0..20).map(|index| format!("x-{index}")).collect::<Vec<_>>().join(", ");
    for named in ["host", "x-forwarded-for", ":authority", "\"authorization\"", &many] {
        let answer = send(&site, "GET /api/orders", &[OURS, &cookie, &format!("Connection: {named}")]).await;
        assert_eq!((answer.status, site.api.calls()), (400, 0), "{named}");
        assert!(String::from_utf8_lossy(&answer.body).contains("bad-request"), "{named}");
    }
}
