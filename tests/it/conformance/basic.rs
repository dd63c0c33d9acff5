//! Plan `oidcc-client-basic-certification-test-plan`, profile "Basic RP": 14 modules.

use http::Method;
use serde_json::{Value, json};

use super::{
    accepted, bend, ended, login, refused, replace, shown_to_userinfo, sign_with_rsa, site, site_of, site_with,
};
use crate::issuer::options::Announce;
use crate::issuer::{Document, Endpoint, Options};

#[tokio::test]
async fn oidcc_client_test() {
    // CS-B-01, CS-H-04, CS-H-05, CS-H-06, CS-H-07, CS-H-08: the suite announces neither PKCE nor `iss`, and says not
    // how long a token lives.
    let announce = Announce { issuer_parameter: false, ..Announce::default() };
    let site = site_of(Options { announce, ..Options::default() }, |issuer| {
        replace(issuer, Document::Metadata, &[("code_challenge_methods_supported", Value::Null)]);
        replace(issuer, Document::TokenResponse, &[("expires_in", Value::Null)]);
    })
    .await;
    accepted(&site).await;
    let requests = site.issuer.script().requests();
    let seen = |endpoint| requests.iter().find(|request| request.endpoint == endpoint).unwrap();
    let authorize = &seen(Endpoint::Authorize).query;
    assert_eq!(authorize.get("code_challenge_method"), Some("S256"));
    assert!(authorize.get("scope").unwrap().split(' ').any(|scope| scope == "openid"));
    assert!(authorize.get("nonce").is_some() && authorize.get("state").is_some());
    let form = &seen(Endpoint::Token).form;
    assert_eq!(form.get("redirect_uri"), authorize.get("redirect_uri"));
    assert_eq!(form.get("code_verifier").unwrap().len(), 43);
    site.stop().await;
}

#[tokio::test]
async fn oidcc_client_test_invalid_iss() {
    // CS-B-02, OIDC-3.1.3.7-02
    for change in ["x", "/"] {
        let site = site().await;
        let wrong = format!("{}{change}", site.issuer.url());
        replace(&site.issuer, Document::IdToken, &[("iss", wrong.into())]);
        refused(&site).await;
        site.stop().await;
    }
}

#[tokio::test]
async fn oidcc_client_test_missing_sub() {
    // CS-B-03, OIDC-3.1.3.7-13
    let site = site().await;
    replace(&site.issuer, Document::IdToken, &[("sub", Value::Null)]);
    refused(&site).await;
    site.stop().await;
}

#[tokio::test]
async fn oidcc_client_test_invalid_aud() {
    // CS-B-04, OIDC-3.1.3.7-03
    let site = site().await;
    replace(&site.issuer, Document::IdToken, &[("aud", "another-client".into())]);
    refused(&site).await;
    site.stop().await;
}

#[tokio::test]
async fn oidcc_client_test_missing_iat() {
    // CS-B-05, OIDC-3.1.3.7-09
    let site = site().await;
    replace(&site.issuer, Document::IdToken, &[("iat", Value::Null)]);
    refused(&site).await;
    site.stop().await;
}

#[tokio::test]
async fn oidcc_client_test_kid_absent_single_jwks() {
    // CS-B-06, OIDC-10.1-02
    let site = site().await;
    replace(&site.issuer, Document::IdTokenHeader, &[("kid", Value::Null)]);
    accepted(&site).await;
    site.stop().await;
}

#[tokio::test]
async fn oidcc_client_test_kid_absent_multiple_jwks() {
    // CS-B-07, CS-H-13, OIDC-10.1-02: all keys that suit are tried, the right one last.
    let site = site_with(|issuer| {
        sign_with_rsa(issuer, "RS256");
        replace(issuer, Document::IdTokenHeader, &[("alg", "RS256".into()), ("kid", Value::Null)]);
        let right = issuer.rsa_key("RS256").unwrap();
        issuer.script().edit(Document::Keys, move |set| {
            let decoys = ["a", "b"].map(|kid| {
                let material = vec![kid.as_bytes()[0] | 0x81; 256];
                let mut decoy = right.clone();
                decoy["kid"] = kid.into();
                decoy["n"] = base64_simd::URL_SAFE_NO_PAD.encode_to_string(material).into();
                decoy
            });
            set["keys"].as_array_mut().unwrap().extend(decoys.into_iter().chain([right.clone()]));
        });
    })
    .await;
    accepted(&site).await;
    site.stop().await;
}

#[tokio::test]
async fn oidcc_client_test_idtoken_sig_rs256() {
    // CS-B-08, OIDC-3.1.3.7-06
    let site = site_with(|issuer| sign_with_rsa(issuer, "RS256")).await;
    accepted(&site).await;
    site.stop().await;
}

#[tokio::test]
async fn oidcc_client_test_idtoken_sig_none() {
    // CS-B-09, CS-C-04, CS-D-09, CS-H-13, OIDC-3.1.3.7-06: even where the metadata announces it.
    let site = site_with(|issuer| {
        replace(issuer, Document::Metadata, &[("id_token_signing_alg_values_supported", json!(["ES256", "none"]))]);
        replace(issuer, Document::IdTokenHeader, &[("alg", "none".into()), ("kid", Value::Null)]);
    })
    .await;
    refused(&site).await;
    site.stop().await;
}

#[tokio::test]
async fn oidcc_client_test_invalid_sig_rs256() {
    // CS-B-10, OIDC-3.1.3.7-05
    let site = site_with(|issuer| sign_with_rsa(issuer, "RS256")).await;
    site.issuer.script().forge(bend);
    refused(&site).await;
    site.stop().await;
}

#[tokio::test]
async fn oidcc_client_test_userinfo_invalid_sub() {
    // CS-B-11, CS-H-14, OIDC-5.3.2-01
    let site = site().await;
    replace(&site.issuer, Document::Userinfo, &[("sub", "grace".into())]);
    let (browser, page) = login(&site).await;
    ended(&site, &browser, &page).await;
    assert_eq!(shown_to_userinfo(&site).len(), 1);
    site.stop().await;
}

#[tokio::test]
async fn oidcc_client_test_nonce_invalid() {
    // CS-B-12, OIDC-3.1.3.7-10
    let site = site().await;
    site.issuer.script().edit(Document::IdToken, |claims| {
        let altered = format!("{}x", claims["nonce"].as_str().unwrap());
        claims.insert("nonce".to_owned(), altered.into());
    });
    refused(&site).await;
    site.stop().await;
}

#[tokio::test]
async fn oidcc_client_test_scope_userinfo_claims() {
    // CS-B-13: what the ID token does not say and the endpoint does is shown to the app.
    let site = site().await;
    replace(&site.issuer, Document::IdToken, &[("name", Value::Null), ("email", Value::Null)]);
    let browser = accepted(&site).await;
    let asked = site.issuer.script().requests_to(Endpoint::Authorize).pop().unwrap();
    let scopes: Vec<_> = asked.query.get("scope").unwrap().split(' ').collect();
    assert!(["openid", "profile", "email"].iter().all(|scope| scopes.contains(scope)), "{scopes:?}");
    let user = browser.fetch(Method::GET, &site.at("/bff/user")).await.json();
    assert_eq!(
        (&user["claims"]["name"], &user["claims"]["email"]),
        (&"Ada Lovelace".into(), &"ada@example.org".into())
    );
    assert_eq!(user["claims"]["sub"], "ada");
    site.stop().await;
}

#[tokio::test]
async fn oidcc_client_test_client_secret_basic() {
    // CS-B-14, OIDC-9-01: in the header, by the encoding of RFC 6749, and nowhere else.
    let site = site().await;
    accepted(&site).await;
    let asked = site.issuer.script().requests_to(Endpoint::Token).pop().unwrap();
    assert!(asked.header(http::header::AUTHORIZATION).unwrap().starts_with("Basic "));
    assert!(asked.form.get("client_secret").is_none());
    site.stop().await;
}
