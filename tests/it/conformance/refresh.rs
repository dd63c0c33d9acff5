//! Plan `oidcc-client-refreshtoken-test-plan`: 3 modules; and the rest of what OpenID Connect Core section 12.2 asks of a
//! refreshed ID token.

use serde_json::{Value, json};

use super::{accepted, bend, given_back, replace, site};
use crate::issuer::Document;
use crate::support::browser::Browser;
use crate::support::site::{Site, TOKEN_SECONDS};

/// Refreshes the tokens of `browser`, whose session must survive it. Returns the token that the API then gets.
async fn refreshed(site: &Site, browser: &Browser) -> String {
    let before = site.issuer.refreshes();
    site.pass(TOKEN_SECONDS);
    let page = site.call(browser).await;
    assert_eq!((page.status, site.issuer.refreshes()), (200, before + 1), "{}", page.text());
    site.api.requests().pop().unwrap().bearer().unwrap().to_owned()
}

/// A refreshed ID token that says this instead ends the session: no token of that answer is used, and all are given back.
async fn ends_the_session(name: &'static str, value: impl Fn(&Site) -> Value) {
    let site = site().await;
    let browser = accepted(&site).await;
    let calls = site.api.calls();
    replace(&site.issuer, Document::IdToken, &[(name, value(&site))]);
    site.pass(TOKEN_SECONDS);
    let page = site.call(&browser).await;
    assert_eq!((page.status, page.json()["reason"].as_str()), (401, Some("refused")), "{name}: {}", page.text());
    assert_eq!(site.api.calls(), calls, "{name}: nothing reaches the API");
    assert_eq!(site.issuer.refreshes(), 1);
    given_back(&site).await;
    site.issuer.script().restore(Document::IdToken);
    assert_eq!(site.call(&browser).await.status, 401, "{name}: over is over");
    site.stop().await;
}

#[tokio::test]
async fn oidcc_client_test_refresh_token() {
    // CS-RT-01, OIDC-12.2-07
    let site = site().await;
    let browser = accepted(&site).await;
    let first = site.api.requests().pop().unwrap().bearer().unwrap().to_owned();
    let second = refreshed(&site, &browser).await;
    let third = refreshed(&site, &browser).await;
    assert!(first != second && second != third);
    // A server need not send an ID token again.
    replace(&site.issuer, Document::TokenResponse, &[("id_token", Value::Null)]);
    refreshed(&site, &browser).await;
    assert_eq!(site.issuer.reuses(), 0);
    site.stop().await;
}

#[tokio::test]
async fn oidcc_client_test_refresh_token_invalid_issuer() {
    // CS-RT-02, OIDC-12.2-01
    ends_the_session("iss", |site| format!("{}x", site.issuer.url()).into()).await;
}

#[tokio::test]
async fn oidcc_client_test_refresh_token_invalid_sub() {
    // CS-RT-03, OIDC-12.2-02
    ends_the_session("sub", |_| "grace".into()).await;
}

#[tokio::test]
async fn a_refreshed_id_token_for_another_audience_ends_the_session() {
    // OIDC-12.2-03
    ends_the_session("aud", |_| "another-client".into()).await;
    ends_the_session("aud", |_| json!(["spa-bff", "another-client"])).await;
}

#[tokio::test]
async fn a_refreshed_id_token_of_a_later_authentication_ends_the_session() {
    // OIDC-12.2-04
    ends_the_session("auth_time", |site| (vestibule::clock::Clock::now(&*site.clock).as_secs() + TOKEN_SECONDS).into())
        .await;
}

#[tokio::test]
async fn a_refreshed_id_token_of_another_login_ends_the_session() {
    // OIDC-12.2-05
    ends_the_session("nonce", |_| "foreign".into()).await;
}

#[tokio::test]
async fn a_refreshed_id_token_of_another_party_ends_the_session() {
    // OIDC-12.2-06
    ends_the_session("azp", |_| "another-client".into()).await;
}

#[tokio::test]
async fn a_refreshed_id_token_that_is_too_old_or_from_the_future_ends_the_session() {
    // OIDC-12.2-04, OIDC-12.2-08
    ends_the_session("exp", |site| vestibule::clock::Clock::now(&*site.clock).as_secs().into()).await;
    ends_the_session("iat", |site| (vestibule::clock::Clock::now(&*site.clock).as_secs() + 3600).into()).await;
}

#[tokio::test]
async fn a_refreshed_id_token_may_say_less_and_write_its_audience_otherwise() {
    // OIDC-12.2-03, OIDC-12.2-04, OIDC-12.2-05
    let site = site().await;
    let browser = accepted(&site).await;
    let lesser = [("aud", json!(["spa-bff"])), ("nonce", Value::Null), ("auth_time", Value::Null)];
    replace(&site.issuer, Document::IdToken, &lesser);
    refreshed(&site, &browser).await;
    site.stop().await;
}

#[tokio::test]
async fn a_refreshed_id_token_with_a_bad_signature_is_not_believed_and_costs_no_session() {
    // OIDC-12.2-08: keys may lag behind a rotation, and the tokens beside it are the only ones left.
    let site = site().await;
    let browser = accepted(&site).await;
    let first = id_tokens(&site).remove(0);
    site.issuer.script().forge(bend);
    refreshed(&site, &browser).await;
    let out = browser.submit(&site.at("/bff/logout"), &[]).await.location().unwrap();
    let hint = out.query_pairs().find(|(name, _)| name == "id_token_hint").unwrap().1.into_owned();
    assert_eq!(hint, first, "the ID token of the login is still the one that is known");
    assert!(id_tokens(&site).len() > 1);
    site.stop().await;
}

fn id_tokens(site: &Site) -> Vec<String> {
    site.issuer.canaries().into_iter().filter(|text| text.matches('.').count() == 2).collect()
}
