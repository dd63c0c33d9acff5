//! The same plan with `fapi_client_type=plain_oauth`: a server that says nothing of the person.

use serde_json::{Value, json};

use super::super::{replace, stopped};
use super::{is_conformant, response_refused, site_of};
use crate::issuer::{Document, Endpoint, Issuer};
use crate::support::browser::Browser;
use crate::support::site::Site;

async fn site() -> Site {
    site_with(|_| {}).await
}

async fn site_with(before: impl FnOnce(&Issuer) + Send + 'static) -> Site {
    site_of("protocol = \"oauth\"\nscopes = [\"profile\"]", before).await
}

/// The login succeeds, and the API gets its token.
async fn accepted(site: &Site) -> Browser {
    let browser = site.signed_in().await;
    let called = site.call(&browser).await;
    assert_eq!((called.status, site.api.calls()), (200, 1), "{}", called.text());
    browser
}

#[tokio::test]
async fn fapi2_client_test_plain_oauth_happy_path() {
    // CS-F-01 but for DPoP, CS-FH-01, CS-FH-02
    let site = site().await;
    accepted(&site).await;
    is_conformant(&site);
    let lodged = site.issuer.script().requests_to(Endpoint::Push).remove(0);
    assert_eq!((lodged.form.get("scope"), lodged.form.get("nonce")), (Some("profile"), None));
    site.stop().await;
}

#[tokio::test]
async fn fapi2_client_test_plain_oauth_discovery_issuer_mismatch() {
    // CS-F-02, FAPI-5.3.3.1-11
    let site = site_with(|issuer| {
        replace(issuer, Document::Metadata, &[("issuer", format!("{}/", issuer.url()).into())]);
    })
    .await;
    stopped(&site, 503).await;
    let script = site.issuer.script();
    assert_eq!((script.calls(Endpoint::Push), script.calls(Endpoint::Authorize)), (0, 0));
    site.stop().await;
}

#[tokio::test]
async fn fapi2_client_test_plain_oauth_invalid_authorization_response_iss() {
    // CS-F-15, ISS-2.4-01, FAPI-5.3.3.2-05
    response_refused(site().await, "iss", json!("https://another.example"), 502).await;
}

#[tokio::test]
async fn fapi2_client_test_plain_oauth_remove_authorization_response_iss() {
    // CS-F-16, ISS-2.4-03
    response_refused(site().await, "iss", Value::Null, 502).await;
}

#[tokio::test]
async fn fapi2_client_test_plain_oauth_ensure_authorization_response_with_invalid_state_fails() {
    // CS-F-17
    let site = site().await;
    site.issuer.script().edit(Document::AuthorizationResponse, |answer| {
        let altered = format!("{}x", answer["state"].as_str().unwrap());
        answer.insert("state".to_owned(), altered.into());
    });
    let page = stopped(&site, 200).await;
    assert!(page.text().contains("/bff/callback?resume="), "{}", page.text());
    site.stop().await;
}

#[tokio::test]
async fn fapi2_client_test_plain_oauth_ensure_authorization_response_with_invalid_missing_state_fails() {
    // CS-F-18
    response_refused(site().await, "state", Value::Null, 400).await;
}

#[tokio::test]
async fn fapi2_client_test_plain_oauth_token_endpoint_response_without_expires_in() {
    // CS-F-19, O2-5.1-02
    let site = site().await;
    replace(&site.issuer, Document::TokenResponse, &[("expires_in", Value::Null)]);
    accepted(&site).await;
    site.stop().await;
}

#[tokio::test]
async fn fapi2_client_test_plain_oauth_token_type_case_insensitivity() {
    // CS-F-20, O2-7.1-01
    let site = site().await;
    replace(&site.issuer, Document::TokenResponse, &[("token_type", "bEARER".into())]);
    accepted(&site).await;
    site.stop().await;
}
