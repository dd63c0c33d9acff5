//! The modules of `fapi2-security-profile-final-client-test-plan` that say something about a client without PAR and
//! sender-constrained tokens. Success is a call of the API with the new token.

use serde_json::{Value, json};

use super::{accepted, refused, replace, sign_with_rsa, site, site_with, stopped};
use crate::issuer::{Document, Endpoint};
use crate::support::site::Site;

/// An issuer whose ID tokens say this instead is not believed.
async fn claim_refused(name: &'static str, value: Value) {
    let site = site().await;
    replace(&site.issuer, Document::IdToken, &[(name, value)]);
    refused(&site).await;
    site.stop().await;
}

fn now(site: &Site) -> u64 {
    vestibule::clock::Clock::now(&*site.clock).as_secs()
}

#[tokio::test]
async fn fapi2_client_test_discovery_issuer_mismatch() {
    // CS-F-02, FAPI-5.3.3.1-11
    let site = site_with(|issuer| {
        replace(issuer, Document::Metadata, &[("issuer", format!("{}/", issuer.url()).into())]);
    })
    .await;
    stopped(&site, 503).await;
    assert_eq!(site.issuer.script().calls(Endpoint::Authorize), 0);
    site.stop().await;
}

#[tokio::test]
async fn fapi2_client_test_invalid_iss() {
    // CS-F-03
    claim_refused("iss", json!("https://another.example/")).await;
}

#[tokio::test]
async fn fapi2_client_test_invalid_aud() {
    // CS-F-04
    claim_refused("aud", json!("another-client")).await;
}

#[tokio::test]
async fn fapi2_client_test_invalid_secondary_aud() {
    // CS-F-05, OIDC-3.1.3.7-03
    claim_refused("aud", json!(["spa-bff", "another-client"])).await;
}

#[tokio::test]
async fn fapi2_client_test_invalid_null_alg() {
    // CS-F-06, FAPI-5.4.1-01
    let site = site().await;
    replace(&site.issuer, Document::IdTokenHeader, &[("alg", "none".into())]);
    refused(&site).await;
    site.stop().await;
}

#[tokio::test]
async fn fapi2_client_test_invalid_alternate_alg() {
    // CS-F-07, FAPI-5.4.1-01: RS256 with a published key, at a server that announces PS256.
    let site = site_with(|issuer| {
        sign_with_rsa(issuer, "PS256");
        let key = issuer.rsa_key("RS256").unwrap();
        issuer.script().edit(Document::Keys, move |set| set["keys"].as_array_mut().unwrap().push(key.clone()));
        replace(issuer, Document::IdTokenHeader, &[("alg", "RS256".into()), ("kid", "rsa".into())]);
    })
    .await;
    refused(&site).await;
    site.stop().await;
}

#[tokio::test]
async fn fapi2_client_test_happy_path_ps256() {
    // CS-F-01 in part, CS-FH-06: the other side of the module before, with decoys of the same name.
    let site = site_with(|issuer| {
        sign_with_rsa(issuer, "PS256");
        let key = issuer.rsa_key("PS256").unwrap();
        issuer.script().edit(Document::Keys, move |set| {
            let keys = set["keys"].as_array_mut().unwrap();
            let mut decoy = keys[0].clone();
            decoy["kid"] = "rsa".into();
            let mut encryption = key.clone();
            encryption["use"] = "enc".into();
            keys.extend([decoy, encryption, key.clone()]);
        });
    })
    .await;
    accepted(&site).await;
    site.stop().await;
}

#[tokio::test]
async fn fapi2_client_test_invalid_expired_exp() {
    // CS-F-08, OIDC-3.1.3.7-08: more than five minutes ago.
    let site = site().await;
    let past = now(&site) - 301;
    replace(&site.issuer, Document::IdToken, &[("exp", past.into())]);
    refused(&site).await;
    site.stop().await;
}

#[tokio::test]
async fn fapi2_client_test_invalid_missing_exp() {
    // CS-F-09, OIDC-3.1.3.7-08
    claim_refused("exp", Value::Null).await;
}

#[tokio::test]
async fn fapi2_client_test_invalid_missing_aud() {
    // CS-F-10
    claim_refused("aud", Value::Null).await;
}

#[tokio::test]
async fn fapi2_client_test_invalid_missing_iss() {
    // CS-F-11
    claim_refused("iss", Value::Null).await;
}

#[tokio::test]
async fn fapi2_client_test_valid_aud_as_array() {
    // CS-F-12, OIDC-3.1.3.7-03
    let site = site().await;
    replace(&site.issuer, Document::IdToken, &[("aud", json!(["spa-bff"]))]);
    accepted(&site).await;
    site.stop().await;
}

#[tokio::test]
async fn fapi2_client_test_invalid_nonce() {
    // CS-F-13
    claim_refused("nonce", json!("another")).await;
}

#[tokio::test]
async fn fapi2_client_test_invalid_missing_nonce() {
    // CS-F-14, OIDC-3.1.3.7-10
    claim_refused("nonce", Value::Null).await;
}

/// An authorization response that says this instead makes no call of the token endpoint.
async fn response_refused(name: &'static str, value: Value, status: u16) {
    let site = site().await;
    replace(&site.issuer, Document::AuthorizationResponse, &[(name, value)]);
    let page = stopped(&site, status).await;
    assert!(!page.text().contains("took too long"), "{name}: nobody was slow: {}", page.text());
    site.stop().await;
}

#[tokio::test]
async fn fapi2_client_test_invalid_authorization_response_iss() {
    // CS-F-15, ISS-2.4-01, FAPI-5.3.3.2-05
    response_refused("iss", json!("https://another.example"), 502).await;
}

#[tokio::test]
async fn fapi2_client_test_remove_authorization_response_iss() {
    // CS-F-16, ISS-2.4-03
    response_refused("iss", Value::Null, 502).await;
}

#[tokio::test]
async fn fapi2_client_test_ensure_authorization_response_with_invalid_state_fails() {
    // CS-F-17: it belongs to no login of this browser, which is led on without any call.
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
async fn fapi2_client_test_ensure_authorization_response_with_invalid_missing_state_fails() {
    // CS-F-18
    response_refused("state", Value::Null, 400).await;
}

#[tokio::test]
async fn fapi2_client_test_token_endpoint_response_without_expires_in() {
    // CS-F-19, O2-5.1-02
    let site = site().await;
    replace(&site.issuer, Document::TokenResponse, &[("expires_in", Value::Null)]);
    accepted(&site).await;
    site.stop().await;
}

#[tokio::test]
async fn fapi2_client_test_token_type_case_insensitivity() {
    // CS-F-20, O2-7.1-01
    let site = site().await;
    replace(&site.issuer, Document::TokenResponse, &[("token_type", "bEARER".into())]);
    accepted(&site).await;
    site.stop().await;
}
