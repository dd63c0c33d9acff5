//! Plans `oidcc-client-rp-initiated-logout-rp-basic` (3 modules) and `oidcc-client-back-channel-logout-rp-basic` (8): the
//! client signs out first, and the issuer tells it while it is there.

use serde_json::{Map, Value, json};
use url::Url;

use super::{accepted, site};
use crate::issuer::{Document, Endpoint, Told};
use crate::support::browser::Browser;
use crate::support::site::Site;

/// A site whose issuer tells the client that a sign-in is over, with a token that `change` has changed.
async fn telling(change: impl Fn(&mut Map<String, Value>) + Send + Sync + 'static) -> Site {
    let site = site().await;
    site.issuer.register_backchannel_logout(&site.at("/bff/backchannel-logout"));
    site.issuer.script().edit(Document::LogoutToken, change);
    site
}

/// Signs out here; returns where the browser is sent.
async fn sign_out(site: &Site, browser: &Browser) -> Url {
    let out = browser.submit(&site.at("/bff/logout"), &[]).await;
    assert_eq!(out.status, 303, "{}", out.text());
    out.location().unwrap()
}

/// Signs in and out again, over the issuer and back. Returns what the issuer was answered when it told us.
async fn signed_in_and_out(site: &Site) -> Told {
    let browser = accepted(site).await;
    let away = sign_out(site, &browser).await;
    let end = browser.follow(away.as_str()).await;
    assert_eq!((end.status, end.url.path()), (200, "/"), "{}", end.text());
    assert_eq!(site.call(&browser).await.status, 401);
    site.issuer.told().pop().unwrap().unwrap()
}

/// A wrong logout token gets exactly 400, although the session is over already.
async fn refused(change: impl Fn(&mut Map<String, Value>) + Send + Sync + 'static) {
    let site = telling(change).await;
    let told = signed_in_and_out(&site).await;
    assert_eq!((told.status, told.cache_control.as_deref()), (400, Some("no-store")), "{}", told.body);
    site.stop().await;
}

/// The same for a token under another header.
async fn refused_under(header: &[(&str, &str)]) {
    let site = telling(|_| {}).await;
    signed_in_and_out(&site).await;
    let header = header.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect();
    let claims = site.issuer.logout_claims(Some("ada"), Some("sid-1"));
    let told = site.issuer.tell(&site.issuer.sign_under(&header, &claims).unwrap()).await.unwrap();
    assert_eq!(told.status, 400, "{}", told.body);
    site.stop().await;
}

fn set(name: &'static str, value: Value) -> impl Fn(&mut Map<String, Value>) + Send + Sync {
    move |claims| drop(claims.insert(name.to_owned(), value.clone()))
}

#[tokio::test]
async fn oidcc_client_test_rp_init_logout() {
    // CS-L-01, RIL-2-01, RIL-2-02
    let site = telling(|_| {}).await;
    let browser = accepted(&site).await;
    let away = sign_out(&site, &browser).await;
    let end = browser.follow(away.as_str()).await;
    assert_eq!((end.status, end.url.as_str()), (200, site.at("/").as_str()));
    let asked = site.issuer.script().requests_to(Endpoint::EndSession).pop().unwrap();
    let hint = asked.query.get("id_token_hint").unwrap().to_owned();
    assert!(site.issuer.canaries().contains(&hint), "byte for byte an ID token that was issued");
    let back = site.at("/bff/logout/return");
    assert_eq!(asked.query.get("post_logout_redirect_uri"), Some(back.as_str()));
    assert_eq!(site.issuer.told().len(), 1, "the back channel is used too");
    site.stop().await;
}

/// The issuer sends the browser back with this query.
async fn comes_back_with(query: &str) {
    let site = telling(|_| {}).await;
    let browser = accepted(&site).await;
    let away = sign_out(&site, &browser).await;
    browser.navigate(away.as_str()).await;
    let page = browser.follow(&site.at(&format!("/bff/logout/return{query}"))).await;
    assert_eq!((page.status, page.url.path()), (200, "/"), "{}", page.text());
    assert_eq!(site.call(&browser).await.status, 401);
    site.stop().await;
}

#[tokio::test]
async fn oidcc_client_test_rp_init_logout_other_state() {
    // CS-L-02, RIL-3-01
    comes_back_with("?state=something_INVALID").await;
}

#[tokio::test]
async fn oidcc_client_test_rp_init_logout_no_state() {
    // CS-L-03, RIL-3-01
    comes_back_with("").await;
}

#[tokio::test]
async fn oidcc_client_test_rp_backchannel_rpinitlogout() {
    // CS-L-04, BCL-2.8-01, BCL-2.8-03: with a claim that nobody knows.
    let site = telling(set("unknown", json!({ "a": 1 }))).await;
    let told = signed_in_and_out(&site).await;
    assert_eq!((told.status, told.cache_control.as_deref()), (200, Some("no-store")), "{}", told.body);
    site.stop().await;
}

#[tokio::test]
async fn oidcc_client_test_rp_backchannel_rpinitlogout_alg_none() {
    // CS-L-05
    refused_under(&[("alg", "none")]).await;
}

#[tokio::test]
async fn oidcc_client_test_rp_backchannel_rpinitlogout_no_event() {
    // CS-L-06
    refused(|claims| drop(claims.remove("events"))).await;
}

#[tokio::test]
async fn oidcc_client_test_rp_backchannel_rpinitlogout_with_nonce() {
    // CS-L-07
    refused(set("nonce", json!("n"))).await;
}

#[tokio::test]
async fn oidcc_client_test_rp_backchannel_rpinitlogout_wrong_alg() {
    // CS-L-08
    refused_under(&[("alg", "RS256"), ("kid", "rsa")]).await;
}

#[tokio::test]
async fn oidcc_client_test_rp_backchannel_rpinitlogout_wrong_aud() {
    // CS-L-09
    refused(set("aud", json!("another-client"))).await;
}

#[tokio::test]
async fn oidcc_client_test_rp_backchannel_rpinitlogout_wrong_event() {
    // CS-L-10
    refused(set("events", json!({ "http://schemas.openid.net/event/other": {} }))).await;
}

#[tokio::test]
async fn oidcc_client_test_rp_backchannel_rpinitlogout_wrong_iss() {
    // CS-L-11
    refused(set("iss", json!("https://another.example"))).await;
}
