//! What reaches the browser, whatever the API says.

use http::Method;

use super::{OURS, call_with, cookies_of, send};
use crate::issuer::act::Act;
use crate::support::raw::Answer;
use crate::support::site::{Plan, Site, TOKEN_SECONDS};

#[tokio::test]
async fn an_api_cannot_set_cookies_of_our_names() {
    // CK-18, CK-20, CK-21
    let site = Site::start().await;
    let browser = site.signed_in().await;
    let kept = ["theme=dark; Path=/", "vestibulex=1", "other=vestibule=2; HttpOnly"];
    let lines = [
        "vestibule=evil; Path=/",
        "Vestibule=evil",
        "vestibule-1=evil",
        "VESTIBULE-2=evil",
        " vestibule =evil",
        "=vestibule=evil",
        "vestibule",
        "vestibule; Max-Age=0",
        "vestibule-login-0123456789abcdef=evil",
        "\tvestibule-login-x=evil",
    ];
    let act = || lines.iter().chain(&kept).fold(Act::instead(200, ""), |act, line| act.header("set-cookie", line));
    site.api.next(act());
    let answer = call_with(&site, &cookies_of(&browser)).await;
    assert_eq!(answer.headers("set-cookie").collect::<Vec<_>>(), kept);

    // Beside a cookie of our own there is one line for each name.
    site.pass(TOKEN_SECONDS);
    site.api.next(act());
    let answer = call_with(&site, &cookies_of(&browser)).await;
    let lines: Vec<&str> = answer.headers("set-cookie").collect();
    assert_eq!(lines.len(), kept.len() + 1, "{lines:?}");
    assert_eq!(lines.iter().filter(|line| line.starts_with("vestibule=")).count(), 1);
    assert!(lines.iter().all(|line| !line.contains("evil")));
}

#[tokio::test]
async fn an_api_that_sends_the_token_back_in_a_field_is_stopped() {
    // BBA-6.1-03, BT-2-02
    let site = Site::start().await;
    let browser = site.signed_in().await;
    site.call(&browser).await;
    let token = site.api.requests().pop().unwrap().bearer().unwrap().to_owned();
    site.api.next(
        Act::instead(200, "")
            .header("authorization", &format!("Bearer {token}"))
            .header("x-debug", &format!("got {token}!"))
            .header("location", &format!("/x?access_token={token}"))
            .header("cache-control", &format!("max-age=9, x={token}"))
            .header("set-cookie", &format!("t={token}"))
            .header("set-cookie", "vestibule=evil")
            .header("set-cookie", "theme=dark")
            .header("x-kept", "1"),
    );
    let answer = call_with(&site, &cookies_of(&browser)).await;
    assert_eq!((answer.status, answer.header("x-kept")), (200, Some("1")));
    assert!(!answer.head.contains(&token), "{}", answer.head.replace(&token, "<the token>"));
    assert!(answer.header("cache-control").unwrap().contains("private"));
}

#[tokio::test]
async fn a_challenge_that_would_open_a_dialog_is_taken_off() {
    // BT-3-02
    let site = Site::start().await;
    let cookies = cookies_of(&site.signed_in().await);
    let challenges = [
        ("Basic realm=\"api\"", None),
        ("basic realm=\"api\"", None),
        ("Digest realm=\"api\", nonce=\"n\"", None),
        ("Negotiate", None),
        ("Bearer realm=\"a\", Basic realm=\"b\"", None),
        ("DPoP algs=\"ES256\"", None),
        ("Bearer error=\"invalid_token\"", Some("Bearer error=\"invalid_token\"")),
    ];
    for (challenge, expected) in challenges {
        site.api.next(Act::instead(401, "").header("www-authenticate", challenge));
        let answer = call_with(&site, &cookies).await;
        assert_eq!((answer.status, answer.header("www-authenticate")), (401, expected), "{challenge}");
    }
    site.api.next(Act::instead(401, "").header("www-authenticate", "Bearer").header("www-authenticate", "Basic"));
    assert_eq!(call_with(&site, &cookies).await.header("www-authenticate"), None);
}

#[tokio::test]
async fn shared_caches_are_kept_away_from_what_belongs_to_one_person() {
    // CACHE-02, CK-19
    let site = Site::start().await;
    let cookies = cookies_of(&site.signed_in().await);
    let cases = [
        (None, "private"),
        (Some("public, max-age=600"), "private, max-age=600"),
        (Some("s-maxage=600, max-age=5"), "private, max-age=5"),
        (Some("PUBLIC"), "private"),
        (Some("no-store"), "no-store"),
        (Some("private, max-age=1"), "private, max-age=1"),
    ];
    for (said, expected) in cases {
        let act = Act::instead(200, "");
        site.api.next(match said {
            Some(said) => act.header("cache-control", said),
            None => act,
        });
        let answer = call_with(&site, &cookies).await;
        assert_eq!(answer.headers("cache-control").collect::<Vec<_>>(), [expected], "{said:?}");
    }
}

fn is_safe_to_show(answer: &Answer, what: &str) {
    assert_eq!(answer.header("cache-control"), Some("no-store"), "{what}");
    assert_eq!(answer.header("x-content-type-options"), Some("nosniff"), "{what}");
    assert_eq!(answer.header("referrer-policy"), Some("no-referrer"), "{what}");
    assert_eq!(answer.header("cross-origin-opener-policy"), Some("same-origin"), "{what}");
    let policy = answer.header("content-security-policy").unwrap();
    for part in ["default-src 'none'", "frame-ancestors 'none'", "base-uri 'none'"] {
        assert!(policy.contains(part), "{what}: {policy}");
    }
    assert_eq!(answer.header("server"), None, "{what}");
}

#[tokio::test]
async fn nothing_that_is_answered_here_is_stored_framed_or_sniffed() {
    // CACHE-01, HDR-01, ASVS-14.3.2
    let more = "[[route]]\npath = \"/app/\"\nupstream = \"{api}\"\nauth = \"page\"".to_owned();
    let site = Site::planned(Plan { more, ..Plan::default() }).await;
    let cookie = format!("Cookie: {}", cookies_of(&site.signed_in().await));
    let page = ["Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: document", "Sec-Fetch-Site: none"];
    let lines = [
        "GET /bff/login",
        "GET /bff/login?prompt=evil",
        "POST /bff/login",
        "GET /bff/callback",
        "GET /bff/callback?code=x&state=y",
        "GET /bff/callback?resume=0",
        "GET /bff/callback?resume=9",
        "GET /bff/user",
        "GET /bff/user?anonymous=200",
        "GET /bff/session",
        "GET /bff/logout",
        "POST /bff/logout",
        "GET /bff/nothing",
        "GET /bff",
        "GET /app/x",
        "GET /api/x",
        "GET /a//b",
        "PROPFIND /api/x",
        "OPTIONS /api/x",
    ];
    for line in lines {
        for fields in [&[][..], &[OURS], &page] {
            let fields: Vec<&str> = fields.iter().copied().chain(["Content-Length: 0"]).collect();
            is_safe_to_show(&send(&site, line, &fields).await, &format!("{line} {fields:?}"));
        }
    }
    for line in ["GET /bff/user", "GET /bff/session", "GET /bff/login", "GET /bff/callback?resume=0"] {
        is_safe_to_show(
            &send(&site, line, &page.iter().copied().chain([cookie.as_str()]).collect::<Vec<_>>()).await,
            line,
        );
    }
    site.api.pause().await;
    is_safe_to_show(&send(&site, "GET /api/x", &[OURS, &cookie]).await, "a dead upstream");
    is_safe_to_show(&send(&site, "POST /bff/logout", &[OURS, &cookie, "Content-Length: 0"]).await, "a logout");
}

#[tokio::test]
async fn an_interim_answer_carries_no_cookie_of_an_api() {
    // CK-18, CK-20: what an API says of itself is taken off in every answer.
    let site = Site::start().await;
    let browser = site.signed_in().await;
    site.api.next(Act::instead(200, "").header("server", "api/1.0").header("set-cookie", "vestibule=evil"));
    let page = browser.fetch(Method::GET, &site.at("/api/orders")).await;
    assert_eq!((page.header("server"), page.set_cookies().len()), (None, 0));
}
