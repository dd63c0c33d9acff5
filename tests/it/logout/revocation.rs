//! When the tokens of a session that is over are revoked at the issuer.

use http::Method;
use tokio::time::timeout;

use super::until_revoked;
use crate::issuer::Endpoint;
use crate::support::PATIENCE;
use crate::support::site::{Plan, Site};

async fn site(logout: &str) -> Site {
    Site::planned(Plan { more: format!("[logout]\n{logout}"), ..Plan::default() }).await
}

/// What the issuer was asked, in this order.
fn asked(site: &Site) -> Vec<Endpoint> {
    let all = site.issuer.script().requests().into_iter().map(|request| request.endpoint);
    all.filter(|endpoint| matches!(endpoint, Endpoint::EndSession | Endpoint::Revoke)).collect()
}

#[tokio::test]
async fn the_browser_goes_first_and_the_tokens_follow_when_it_is_back() {
    // RIL-2-01, REV-2.1-01
    let site = site("revoke_after = \"10m\"").await;
    let browser = site.signed_in().await;
    browser.submit(&site.at("/bff/logout"), &[]).follow().await;
    timeout(PATIENCE, site.issuer.script().until_calls(Endpoint::Revoke, 2)).await.unwrap();
    until_revoked(&site).await;
    assert_eq!(asked(&site), [Endpoint::EndSession, Endpoint::Revoke, Endpoint::Revoke]);
    assert_eq!(site.issuer.reuses(), 0);
    site.stop().await;
}

#[tokio::test]
async fn a_browser_that_does_not_come_back_is_not_waited_for_long() {
    // RIL-2-04, REV-2.1-01
    let site = site("revoke_after = 1").await;
    let browser = site.signed_in().await;
    // A script that does not go where it is told.
    assert_eq!(browser.fetch(Method::POST, &site.at("/bff/logout")).await.status, 200);
    timeout(PATIENCE, site.issuer.script().until_calls(Endpoint::Revoke, 2)).await.unwrap();
    assert_eq!(asked(&site), [Endpoint::Revoke, Endpoint::Revoke]);
    site.stop().await;
}

#[tokio::test]
async fn a_process_that_ends_revokes_before() {
    // REV-2.1-01
    let Site { issuer, vestibule, url, .. } = {
        let site = site("revoke_after = \"10m\"").await;
        let browser = site.signed_in().await;
        assert_eq!(browser.fetch(Method::POST, &site.at("/bff/logout")).await.status, 200);
        assert_eq!(site.issuer.families_alive(), 1);
        site
    };
    timeout(PATIENCE, vestibule.stop()).await.expect(&url);
    assert_eq!((issuer.script().calls(Endpoint::Revoke), issuer.families_alive()), (2, 0));
}

#[tokio::test]
async fn with_order_before_the_tokens_are_revoked_before_the_browser_leaves() {
    // REV-2.1-01
    let site = site("order = \"before\"").await;
    let browser = site.signed_in().await;
    assert_eq!(browser.submit(&site.at("/bff/logout"), &[]).await.status, 303);
    assert_eq!((asked(&site).len(), site.issuer.families_alive()), (2, 0));
    site.stop().await;
}

#[tokio::test]
async fn with_revoke_off_nothing_is_revoked_and_the_session_is_over() {
    // RIL-2-04
    let site = site("revoke = false\norder = \"before\"").await;
    let browser = site.signed_in().await;
    let cookies = browser.cookies();
    browser.submit(&site.at("/bff/logout"), &[]).follow().await;
    browser.restore(cookies);
    assert_eq!(site.call(&browser).await.status, 401);
    assert_eq!((asked(&site), site.issuer.families_alive()), (vec![Endpoint::EndSession], 1));
    site.stop().await;
}
