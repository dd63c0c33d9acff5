//! Signing out at `oidc-provider` too, which checks the hint, the address and hands the state back.

use std::sync::Arc;

use http::Method;
use tokio::time::{Duration, Instant, sleep};

use super::site::{Place, RealSite};
use crate::support::PATIENCE;
use crate::support::browser::Browser;
use crate::support::op::{OidcProvider, Options};
use crate::support::site::Texts;

/// Signs out by the form of a page, follows every redirect, and returns where that ends and the way there.
async fn sign_out(site: &RealSite, browser: &Browser) -> (String, Vec<String>) {
    let page = browser.submit(&site.at("/bff/logout?return_to=/%3Fgoodbye"), &[]).follow().await;
    assert_eq!(page.status, 200, "{}: {}", page.url, page.text());
    (page.url.to_string(), page.visited.iter().map(|url| url.path().to_owned()).collect())
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs node and oidc-provider: run ./tests/run"]
async fn a_logout_goes_by_way_of_the_server_and_ends_where_the_page_wanted() {
    // RIL-2-01, RIL-2-02, RIL-2-05
    let site = RealSite::start().await;
    let browser = site.signed_in().await;
    let (copy, token) = (Browser::new(), site.api.tokens().pop().unwrap());
    copy.restore(browser.cookies());
    let (end, way) = sign_out(&site, &browser).await;
    assert_eq!(end, site.at("/?goodbye"));
    assert_eq!(way.first().map(String::as_str), Some("/bff/logout"));
    assert_eq!(way[way.len() - 2..], ["/bff/logout/return", "/"]);
    assert!(way.iter().any(|path| path == "/session/end"), "{way:?}");
    assert!(browser.cookies().names("localhost").is_empty());
    assert_eq!(copy.fetch(Method::GET, &site.at("/api/orders")).await.status, 401);
    assert!(!site.provider.is_active(&token).await);
    let stats = site.provider.stats().await;
    assert_eq!((stats.grants_revoked, stats.reuse_detected, stats.refusals), (1, 0, vec![]));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs node and oidc-provider: run ./tests/run"]
async fn somebody_who_stays_signed_in_at_the_server_is_signed_out_here() {
    // RIL-2-04
    let site = RealSite::with(|options| options.decline_logout = true).await;
    let browser = site.signed_in().await;
    let (copy, token) = (Browser::new(), site.api.tokens().pop().unwrap());
    copy.restore(browser.cookies());
    assert_eq!(sign_out(&site, &browser).await.0, site.at("/?goodbye"));
    assert!(browser.cookies().names("127.0.0.1").iter().any(|name| name.starts_with("_session")), "still known there");
    assert_eq!(copy.fetch(Method::GET, &site.at("/api/orders")).await.status, 401);
    let deadline = Instant::now() + PATIENCE;
    while site.provider.is_active(&token).await {
        assert!(Instant::now() < deadline, "the tokens live on");
        sleep(Duration::from_millis(25)).await;
    }
    assert_eq!(site.provider.stats().await.refusals, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs node and oidc-provider: run ./tests/run"]
async fn a_logout_at_the_server_ends_the_session_here_without_the_browsers_help() {
    // BCL-2.5-01, BCL-2.6-01, BCL-2.7-01
    let place = Place::find().await;
    let mut options = Options::new(&place.url);
    options.backchannel_logout_uri = Some(format!("{}/bff/backchannel-logout", place.url));
    let provider = Arc::new(OidcProvider::start(&options).await);
    let site = RealSite::at_place(place, &options, provider, &Texts::default()).await;
    let browser = site.signed_in().await;
    site.until_expired(&browser).await;
    assert_eq!(browser.fetch(Method::GET, &site.at("/api/orders")).await.status, 200);
    site.assert_unharmed(&browser).await;
    // Somebody else of the same name, in another browser, is not meant.
    let other = site.signed_in().await;

    // The person signs out there, and never comes here.
    let out = browser.follow(&format!("{}/session/end", site.provider.issuer())).await;
    assert_eq!(out.status, 200, "{}: {}", out.url, out.text());
    assert!(out.visited.iter().all(|url| !url.as_str().starts_with(&site.at("/"))), "{:?}", out.visited);
    let deadline = Instant::now() + PATIENCE;
    loop {
        let stats = site.provider.stats().await;
        assert_eq!((stats.backchannel_failed, stats.refusals.len()), (0, 0), "{stats:?}");
        if stats.backchannel_ok == 1 {
            break;
        }
        assert!(Instant::now() < deadline, "no logout token was taken: {stats:?}");
        sleep(Duration::from_millis(25)).await;
    }
    let calls = site.api.tokens().len();
    let left = browser.fetch(Method::GET, &site.at("/api/orders")).await;
    assert_eq!((left.status, left.json()["reason"].as_str()), (401, Some("issuer_logout")), "{}", left.text());
    assert_eq!(site.api.tokens().len(), calls, "the API is not asked");
    assert_eq!(other.fetch(Method::GET, &site.at("/api/orders")).await.status, 200);
}
