//! Sessions whose body lies in the ledger: by choice, or because they have outgrown the cookie.

use http::Method;
use serde_json::json;
use tokio::time::{Instant, timeout};

use crate::issuer::{Document, Endpoint};
use crate::support::browser::{Browser, Initiator, Page};
use crate::support::jar::Jar;
use crate::support::site::{Plan, Site, TOKEN_SECONDS};
use crate::support::{PATIENCE, beside};

const HERE: &str = "localhost";

async fn site_with_ledger_tokens() -> Site {
    Site::planned(Plan { session: "tokens = \"ledger\"".to_owned(), ..Plan::default() }).await
}

/// All bytes of session cookies that the browser holds.
fn cookie_bytes(jar: &Jar) -> usize {
    jar.names(HERE).iter().filter_map(|name| jar.value(HERE, name)).map(str::len).sum()
}

async fn reason(page: &Page) -> (u16, Option<String>) {
    (page.status, page.json()["reason"].as_str().map(str::to_owned))
}

#[tokio::test]
async fn a_handle_is_small_and_does_not_change_when_the_session_is_refreshed() {
    let site = site_with_ledger_tokens().await;
    let browser = site.signed_in().await;
    let handle = browser.cookies();
    assert!(cookie_bytes(&handle) < 256, "{} bytes", cookie_bytes(&handle));
    for round in 1..=3 {
        site.pass(TOKEN_SECONDS);
        let calls: Vec<_> = (0..10).map(|_| beside(browser.fetch(Method::GET, &site.at("/api/orders")))).collect();
        for call in calls {
            assert_eq!(call.await.unwrap().status, 200);
        }
        assert_eq!(site.issuer.refreshes(), round);
    }
    // The idle limit has slid, which is all that a new cookie tells; the first one is as good.
    let other = Browser::new();
    other.restore(handle);
    assert_eq!(site.call(&other).await.status, 200);
    assert_eq!((site.issuer.refreshes(), site.issuer.reuses()), (3, 0));
}

#[tokio::test]
async fn nothing_is_set_within_a_minute_not_even_by_a_refresh() {
    let site = site_with_ledger_tokens().await;
    site.issuer.script().edit(Document::TokenResponse, |answer| {
        answer.insert("expires_in".to_owned(), json!(20));
    });
    let browser = site.signed_in().await;
    for _ in 0..2 {
        site.pass(20);
        let page = site.call(&browser).await;
        assert_eq!((page.status, page.set_cookies().len()), (200, 0));
    }
    assert_eq!(site.issuer.refreshes(), 2);
}

#[tokio::test]
async fn a_copied_handle_is_over_with_the_session() {
    let site = site_with_ledger_tokens().await;
    let browser = site.signed_in().await;
    let copy = browser.cookies();
    assert_eq!(site.call(&browser).await.status, 200);
    assert_eq!(browser.fetch(Method::POST, &site.at("/bff/logout")).await.status, 200);
    let thief = Browser::new();
    thief.restore(copy);
    assert_eq!(reason(&site.call(&thief).await).await, (401, Some("logout".to_owned())));
    // The tokens are revoked once the browser has been at the issuer.
    browser.navigate(&site.at("/bff/logout")).started_by(Initiator::SameOrigin).follow().await;
    timeout(PATIENCE, site.issuer.script().until_calls(Endpoint::Revoke, 1)).await.unwrap();
    let deadline = Instant::now() + PATIENCE;
    while site.issuer.families_alive() > 0 {
        assert!(Instant::now() < deadline, "the tokens live on");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_handle_ends_when_it_is_not_used() {
    let site = site_with_ledger_tokens().await;
    let browser = site.signed_in().await;
    for _ in 0..3 {
        site.pass(50 * 60);
        assert_eq!(site.call(&browser).await.status, 200);
    }
    site.pass(61 * 60);
    assert_eq!(reason(&site.call(&browser).await).await, (401, Some("idle".to_owned())));
}

#[tokio::test]
async fn a_session_that_outgrows_its_cookie_moves_and_older_cookies_of_it_still_work() {
    let site = Site::start().await;
    site.issuer.script().edit(Document::IdToken, |claims| {
        claims.remove("at_hash");
    });
    let browser = site.signed_in().await;
    let whole = browser.cookies();
    assert!(cookie_bytes(&whole) > 512);
    site.issuer.script().edit(Document::TokenResponse, |answer| {
        answer.insert("access_token".to_owned(), json!("t".repeat(20_000)));
    });
    site.pass(TOKEN_SECONDS);
    let deadline = Instant::now() + PATIENCE;
    while cookie_bytes(&browser.cookies()) > 256 {
        site.call(&browser).await;
        assert!(Instant::now() < deadline, "the session has not moved");
    }
    assert_eq!(site.api.requests().last().unwrap().bearer().map(str::len), Some(20_000));
    // The answer with the handle was lost: the earlier cookie leads to the same session, now and long after.
    let other = Browser::new();
    for wait in [0, 61, 61] {
        site.pass(wait);
        site.call(&browser).await;
        other.restore(whole.clone());
        assert_eq!(other.fetch(Method::GET, &site.at("/bff/session")).await.status, 200);
        let page = site.call(&other).await;
        assert!(!page.set_cookies().is_empty(), "the handle is handed out again");
        assert!(cookie_bytes(&other.cookies()) < 256);
    }
    // What has moved stays there, also when it would fit again.
    site.issuer.script().edit(Document::TokenResponse, |answer| {
        answer.insert("access_token".to_owned(), json!("short"));
    });
    site.pass(TOKEN_SECONDS);
    site.call(&browser).await;
    assert!(cookie_bytes(&browser.cookies()) < 256);
    assert_eq!(site.issuer.reuses(), 0);
}
