//! What plan `oidcc-client-test-plan` has beyond the others. Not played: `userinfo_bearer_body`, for the token goes in the
//! header; hybrid and implicit modules; `mtls_endpoint_aliases`; WebFinger, dynamic registration and `request_uri`.

use http::Method;
use serde_json::{Value, json};

use super::{accepted, bend, ended, login, refused, replace, shown_to_userinfo, site, site_with};
use crate::issuer::act::Act;
use crate::issuer::{Document, Endpoint};
use crate::support::site::Site;

#[tokio::test]
async fn oidcc_client_test_missing_aud() {
    // CS-A-01, OIDC-3.1.3.7-03
    let site = site().await;
    replace(&site.issuer, Document::IdToken, &[("aud", Value::Null)]);
    refused(&site).await;
    site.stop().await;
}

#[tokio::test]
async fn oidcc_client_test_userinfo_bearer_header() {
    // CS-A-02, CS-H-08, OIDC-5.3.1-01, BT-2-01
    let site = site().await;
    accepted(&site).await;
    let asked = site.issuer.script().requests_to(Endpoint::Userinfo).pop().unwrap();
    assert_eq!(asked.method, Method::GET);
    assert!(asked.query.get("access_token").is_none() && asked.form.get("access_token").is_none());
    site.stop().await;
}

#[tokio::test]
async fn oidcc_client_test_invalid_sig_hs256() {
    // CS-A-07, OIDC-3.1.3.7-06, OIDC-3.1.3.7-07: symmetric signatures are not accepted at all, right or wrong.
    for right in [false, true] {
        let site = site_with(|issuer| {
            let announced = json!(["ES256", "HS256"]);
            replace(issuer, Document::Metadata, &[("id_token_signing_alg_values_supported", announced)]);
            replace(issuer, Document::IdTokenHeader, &[("alg", "HS256".into()), ("kid", Value::Null)]);
        })
        .await;
        if !right {
            site.issuer.script().forge(bend);
        }
        refused(&site).await;
        site.stop().await;
    }
}

#[tokio::test]
async fn oidcc_client_test_invalid_sig_es256() {
    // CS-A-08, OIDC-3.1.3.7-05
    let site = site().await;
    site.issuer.script().forge(bend);
    refused(&site).await;
    site.stop().await;
}

#[tokio::test]
async fn oidcc_client_test_aggregated_claims() {
    // CS-A-09
    let site = site().await;
    let sources = json!({ "src1": { "JWT": "e30.e30.e30" } });
    let claims = [("_claim_names", json!({ "address": "src1" })), ("_claim_sources", sources)];
    replace(&site.issuer, Document::Userinfo, &claims);
    accepted(&site).await;
    site.stop().await;
}

#[tokio::test]
async fn oidcc_client_test_distributed_claims() {
    // CS-A-10, OIDC-5.6.2-01: the flow completes, and the endpoint that the claim names is not called.
    let site = site().await;
    let sources = json!({ "src1": { "endpoint": site.api.url(), "access_token": "canary-of-the-source" } });
    let claims = [("_claim_names", json!({ "address": "src1" })), ("_claim_sources", sources)];
    replace(&site.issuer, Document::Userinfo, &claims);
    let browser = accepted(&site).await;
    let user = browser.fetch(Method::GET, &site.at("/bff/user")).await;
    assert!(!user.text().contains("_claim") && !user.text().contains("canary"), "{}", user.text());
    assert_eq!(site.api.calls(), 1, "the call of the app and no other");
    site.stop().await;
}

/// The next answer of the UserInfo endpoint is a JWT with these changes.
fn sign_userinfo(site: &Site, alg: &str, changes: &[(&str, Value)]) -> Act {
    let mut claims = serde_json::Map::new();
    let base = [("iss", json!(site.issuer.url())), ("aud", json!("spa-bff")), ("sub", json!("ada"))];
    for (name, value) in base.iter().chain([&("name", json!("Ada, signed"))]).chain(changes) {
        claims.insert((*name).to_owned(), value.clone());
    }
    let kid = if alg == "RS256" { Some("rsa") } else { None };
    let header = [("alg", Some(alg)), ("kid", kid)];
    let header = header.into_iter().filter_map(|(name, value)| Some((name.to_owned(), json!(value?)))).collect();
    let token = site.issuer.sign_under(&header, &claims).unwrap();
    Act::instead(200, token).header("content-type", "application/jwt")
}

#[tokio::test]
async fn oidcc_client_test_userinfo_signed() {
    // CS-D-12, OIDC-5.3.2-02
    let site = site_with(|issuer| super::sign_with_rsa(issuer, "RS256")).await;
    site.issuer.script().next(Endpoint::Userinfo, sign_userinfo(&site, "RS256", &[]));
    let browser = accepted(&site).await;
    let user = browser.fetch(Method::GET, &site.at("/bff/user")).await.json();
    assert_eq!(user["claims"]["name"], "Ada, signed");
    site.stop().await;
}

#[tokio::test]
async fn a_signed_userinfo_answer_that_is_wrong_fails_the_login() {
    // OIDC-5.3.2-01, OIDC-5.3.2-02
    let wrong: [(&str, &str, Value); 7] = [
        ("ES256", "iss", json!("https://another.example")),
        ("ES256", "iss", Value::Null),
        ("ES256", "aud", json!("another-client")),
        ("ES256", "sub", json!("grace")),
        ("ES256", "sub", Value::Null),
        ("none", "name", json!("Ada")),
        ("HS256", "name", json!("Ada")),
    ];
    for (alg, name, value) in wrong {
        let site = site().await;
        site.issuer.script().next(Endpoint::Userinfo, sign_userinfo(&site, alg, &[(name, value)]));
        let (browser, page) = login(&site).await;
        ended(&site, &browser, &page).await;
        assert_eq!(shown_to_userinfo(&site).len(), 1);
        site.stop().await;
    }
}
