//! Over means over.

mod revocation;
mod way;

use std::time::Duration;

use http::Method;
use tokio::time::{Instant, sleep, timeout};

use crate::issuer::Endpoint;
use crate::issuer::act::{Act, Hold};
use crate::support::browser::{Browser, Initiator};
use crate::support::site::{Site, TOKEN_SECONDS};
use crate::support::{PATIENCE, beside};

/// Waits until the issuer has no live tokens.
async fn until_revoked(site: &Site) {
    let deadline = Instant::now() + PATIENCE;
    while site.issuer.families_alive() > 0 {
        assert!(Instant::now() < deadline, "tokens live on");
        sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_logout_ends_the_session_everywhere() {
    // BBA-6.1-15, REV-2.1-01, REV-2.1-02, RIL-2-01, RIL-2-04, RIL-R-01, ASVS-7.4.1
    let site = Site::start().await;
    let browser = site.signed_in().await;
    let copy = Browser::new();
    copy.restore(browser.cookies());
    let out = browser.fetch(Method::POST, &site.at("/bff/logout")).await;
    assert_eq!(out.status, 200, "{}", out.text());
    // A script is not told the ID token: it sends the browser to us, and we send it on.
    assert_eq!(out.json()["redirect"], site.at("/bff/logout"));
    let onward = browser.navigate(&site.at("/bff/logout")).started_by(Initiator::SameOrigin).await;
    let redirect = onward.location().unwrap();
    assert!(redirect.as_str().starts_with(&format!("{}/end-session?", site.issuer.url())), "{redirect}");
    let query: Vec<String> = redirect.query_pairs().map(|(name, _)| name.into_owned()).collect();
    assert_eq!(query, ["client_id", "id_token_hint", "post_logout_redirect_uri", "state"]);
    // Its tokens live until the browser has been there: nobody can use them, and some issuers take their revocation for
    // the end of their own session.
    assert_eq!(site.issuer.script().calls(Endpoint::Revoke), 0);
    let end = browser.follow(redirect.as_str()).await;
    assert_eq!((end.status, end.url.as_str()), (200, site.at("/").as_str()));
    assert!(browser.cookies().names("localhost").is_empty());
    timeout(PATIENCE, site.issuer.script().until_calls(Endpoint::Revoke, 2)).await.unwrap();

    let revoked: Vec<String> = site
        .issuer
        .script()
        .requests_to(Endpoint::Revoke)
        .iter()
        .map(|request| request.form.get("token_type_hint").unwrap().to_owned())
        .collect();
    assert_eq!(revoked, ["refresh_token", "access_token"]);
    until_revoked(&site).await;
    let calls = site.api.calls();
    let replayed = site.call(&copy).await;
    assert_eq!((replayed.status, replayed.json()["reason"].as_str()), (401, Some("logout")));
    assert_eq!(copy.fetch(Method::GET, &site.at("/bff/user")).await.status, 401);
    assert_eq!(site.api.calls(), calls);
    site.stop().await;
}

#[tokio::test]
async fn a_form_of_the_page_is_redirected() {
    // BCP-4.12-01
    let site = Site::start().await;
    let browser = site.signed_in().await;
    let out = browser.submit(&site.at("/bff/logout"), &[]).await;
    assert_eq!(out.status, 303);
    assert!(out.location().unwrap().as_str().starts_with(site.issuer.url()));
    assert_eq!(out.header("cache-control"), Some("no-store"));
    // Signed out already: nothing to do, and no error either.
    let again = browser.submit(&site.at("/bff/logout"), &[]).await;
    assert_eq!((again.status, again.header("location")), (303, Some(site.at("/").as_str())));
}

#[tokio::test]
async fn other_sites_cannot_sign_anybody_out() {
    // RIL-2-06, FM-10
    let site = Site::start().await;
    let browser = site.signed_in().await;
    let url = site.at("/bff/logout");
    for initiator in [Initiator::CrossSite, Initiator::SameSite] {
        assert_eq!(browser.submit(&url, &[]).started_by(initiator).await.status, 403);
        assert_eq!(browser.fetch(Method::POST, &url).started_by(initiator).await.status, 403);
        assert_eq!(browser.navigate(&url).started_by(initiator).await.status, 405);
    }
    assert_eq!(browser.navigate(&url).await.header("allow"), Some("POST"));
    assert_eq!(site.call(&browser).await.status, 200);
}

#[tokio::test]
async fn a_logout_beats_a_refresh_that_is_on_its_way() {
    // REV-R-01, BCL-2.7-04
    let site = Site::start().await;
    let browser = site.signed_in().await;
    site.pass(TOKEN_SECONDS);
    let hold = Hold::default();
    site.issuer.script().next(Endpoint::Token, Act::usual().wait_then(&hold));
    let call = {
        let request = browser.fetch(Method::GET, &site.at("/api/orders"));
        beside(request)
    };
    hold.arrived().await;
    assert_eq!(browser.fetch(Method::POST, &site.at("/bff/logout")).await.status, 200);
    hold.release();
    let late = call.await.unwrap();
    assert_eq!(late.status, 401, "{}", late.text());
    // What landed late was revoked, and nobody is signed in.
    timeout(PATIENCE, site.issuer.script().until_calls(Endpoint::Revoke, 2)).await.unwrap();
    assert_eq!(site.issuer.families_alive(), 0);
    assert_eq!(site.issuer.reuses(), 0);
    assert_eq!(site.call(&browser).await.status, 401);
}

#[tokio::test]
async fn a_revocation_that_fails_does_not_keep_anybody_signed_in() {
    // REV-2.2.1-01
    let site = Site::start().await;
    let browser = site.signed_in().await;
    let copy = Browser::new();
    copy.restore(browser.cookies());
    site.issuer.pause().await;
    assert_eq!(browser.fetch(Method::POST, &site.at("/bff/logout")).await.status, 200);
    assert_eq!(site.call(&copy).await.status, 401);
}
