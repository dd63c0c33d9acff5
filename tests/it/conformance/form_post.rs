//! Plan `oidcc-client-formpost-basic-certification-test-plan`, profile "Form Post RP": the 14 modules of "Basic RP" with
//! `response_mode=form_post`. `real::page::form_post` plays the first of them with a browser that posts across sites.

use serde_json::{Value, json};

use super::{bend, given_back, replace, shown_to_userinfo, sign_with_rsa};
use crate::issuer::{Document, Endpoint, Issuer};
use crate::support::plain_client;
use crate::support::posted::{FORM, Posted};
use crate::support::site::{Plan, Site};

/// A login that comes back in a form from an issuer that `before` has prepared.
async fn begun(before: impl FnOnce(&Issuer) + Send + 'static) -> Posted {
    let client = "response_mode = \"form_post\"\nuserinfo = true".to_owned();
    let plan = Plan { client, behind_tls: true, before: Some(Box::new(before)), ..Plan::default() };
    Posted::begin(Site::planned(plan).await, "").await
}

/// How it ends: the status, where it leads, and the session's cookie.
async fn ends(login: &Posted) -> (u16, Option<String>, Option<String>) {
    assert!(login.fields.iter().any(|(name, _)| name == "code"), "the answer came in the form");
    let answer = login.request("/bff/callback").header("content-type", FORM).body(login.form()).send().await.unwrap();
    let lines = answer.headers().get_all("set-cookie").iter().map(|line| line.to_str().unwrap().to_owned());
    let session = lines.into_iter().find(|line| line.starts_with("__Host-Http-vestibule="));
    let location = answer.headers().get("location").map(|it| it.to_str().unwrap().to_owned());
    (answer.status().as_u16(), location, session.map(|line| line.split(';').next().unwrap().to_owned()))
}

/// The login succeeds: it has asked the UserInfo endpoint, and the API gets the same token.
async fn accepted(before: impl FnOnce(&Issuer) + Send + 'static) -> (Posted, String) {
    let login = begun(before).await;
    let (status, location, session) = ends(&login).await;
    assert_eq!((status, location.as_deref()), (303, Some("/")));
    let session = session.expect("there is a session");
    let call = plain_client().get(login.site.at("/api/orders")).header("cookie", &session);
    let called = call.header("sec-fetch-site", "same-origin").send().await.unwrap();
    assert_eq!((called.status().as_u16(), login.site.api.calls()), (200, 1));
    let bearer = login.site.api.requests().pop().unwrap().bearer().unwrap().to_owned();
    assert_eq!(shown_to_userinfo(&login.site), [format!("Bearer {bearer}")]);
    (login, session)
}

/// The login fails after its code was redeemed: nobody is signed in, and the tokens are given back.
async fn refused(asked: usize, before: impl FnOnce(&Issuer) + Send + 'static) {
    let login = begun(before).await;
    let (status, location, session) = ends(&login).await;
    assert_eq!((status, location, session), (502, None, None));
    assert_eq!((login.site.issuer.token_calls(), shown_to_userinfo(&login.site).len()), (1, asked));
    given_back(&login.site).await;
}

/// The ID token says something else, or does not say something.
fn claim(name: &'static str, value: Value) -> impl FnOnce(&Issuer) + Send + 'static {
    move |issuer| replace(issuer, Document::IdToken, &[(name, value)])
}

#[tokio::test]
async fn form_post_oidcc_client_test() {
    // CS-FP, CS-B-01, FP-01
    let (login, _) = accepted(|_| {}).await;
    let asked = login.site.issuer.script().requests_to(Endpoint::Authorize).remove(0);
    assert_eq!(asked.query.get("response_mode"), Some("form_post"));
}

#[tokio::test]
async fn form_post_oidcc_client_test_invalid_iss() {
    // CS-FP, CS-B-02
    refused(0, |issuer| replace(issuer, Document::IdToken, &[("iss", format!("{}/", issuer.url()).into())])).await;
}

#[tokio::test]
async fn form_post_oidcc_client_test_missing_sub() {
    // CS-FP, CS-B-03
    refused(0, claim("sub", Value::Null)).await;
}

#[tokio::test]
async fn form_post_oidcc_client_test_invalid_aud() {
    // CS-FP, CS-B-04
    refused(0, claim("aud", "another-client".into())).await;
}

#[tokio::test]
async fn form_post_oidcc_client_test_missing_iat() {
    // CS-FP, CS-B-05
    refused(0, claim("iat", Value::Null)).await;
}

#[tokio::test]
async fn form_post_oidcc_client_test_kid_absent_single_jwks() {
    // CS-FP, CS-B-06
    accepted(|issuer| replace(issuer, Document::IdTokenHeader, &[("kid", Value::Null)])).await;
}

#[tokio::test]
async fn form_post_oidcc_client_test_kid_absent_multiple_jwks() {
    // CS-FP, CS-B-07
    accepted(|issuer| {
        sign_with_rsa(issuer, "RS256");
        replace(issuer, Document::IdTokenHeader, &[("alg", "RS256".into()), ("kid", Value::Null)]);
        let right = issuer.rsa_key("RS256").unwrap();
        issuer.script().edit(Document::Keys, move |set| {
            let mut decoy = right.clone();
            decoy["kid"] = "decoy".into();
            decoy["n"] = base64_simd::URL_SAFE_NO_PAD.encode_to_string([0x81; 256]).into();
            set["keys"].as_array_mut().unwrap().extend([decoy, right.clone()]);
        });
    })
    .await;
}

#[tokio::test]
async fn form_post_oidcc_client_test_idtoken_sig_rs256() {
    // CS-FP, CS-B-08
    accepted(|issuer| sign_with_rsa(issuer, "RS256")).await;
}

#[tokio::test]
async fn form_post_oidcc_client_test_idtoken_sig_none() {
    // CS-FP, CS-B-09
    refused(0, |issuer| {
        replace(issuer, Document::Metadata, &[("id_token_signing_alg_values_supported", json!(["ES256", "none"]))]);
        replace(issuer, Document::IdTokenHeader, &[("alg", "none".into()), ("kid", Value::Null)]);
    })
    .await;
}

#[tokio::test]
async fn form_post_oidcc_client_test_invalid_sig_rs256() {
    // CS-FP, CS-B-10
    refused(0, |issuer| {
        sign_with_rsa(issuer, "RS256");
        issuer.script().forge(bend);
    })
    .await;
}

#[tokio::test]
async fn form_post_oidcc_client_test_userinfo_invalid_sub() {
    // CS-FP, CS-B-11
    refused(1, |issuer| replace(issuer, Document::Userinfo, &[("sub", "grace".into())])).await;
}

#[tokio::test]
async fn form_post_oidcc_client_test_nonce_invalid() {
    // CS-FP, CS-B-12
    refused(0, |issuer| {
        issuer.script().edit(Document::IdToken, |claims| {
            let altered = format!("{}x", claims["nonce"].as_str().unwrap());
            claims.insert("nonce".to_owned(), altered.into());
        });
    })
    .await;
}

#[tokio::test]
async fn form_post_oidcc_client_test_scope_userinfo_claims() {
    // CS-FP, CS-B-13
    let nothing = [("name", Value::Null), ("email", Value::Null)];
    let (login, session) = accepted(move |issuer| replace(issuer, Document::IdToken, &nothing)).await;
    let user = plain_client().get(login.site.at("/bff/user")).header("cookie", session);
    let user = user.header("sec-fetch-site", "same-origin").send().await.unwrap().text().await.unwrap();
    assert!(user.contains("Ada Lovelace") && user.contains("ada@example.org"), "{user}");
}

#[tokio::test]
async fn form_post_oidcc_client_test_client_secret_basic() {
    // CS-FP, CS-B-14
    let (login, _) = accepted(|_| {}).await;
    let asked = login.site.issuer.script().requests_to(Endpoint::Token).pop().unwrap();
    assert!(asked.header(http::header::AUTHORIZATION).unwrap().starts_with("Basic "));
    assert!(asked.form.get("client_secret").is_none());
}
