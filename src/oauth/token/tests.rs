use proptest::prelude::*;
use serde_json::json;

use http::header;

use super::*;
use crate::oauth::authorization::LoginWishes;
use crate::oauth::error::Verdict;
use crate::oauth::testing::{Key, NOW, answer, begin, claims, client, fields, metadata, proofs, tokens};

fn read(change: impl FnOnce(&mut Value)) -> Result<TokenSet, Error> {
    let mut body = json!({ "access_token": "a1", "token_type": "Bearer" });
    change(&mut body);
    TokenSet::read(&answer(200, &body.to_string()), TokenScheme::Bearer)
}

fn refused(words: &str, change: impl FnOnce(&mut Value)) {
    let error = read(change).expect_err("is refused");
    assert!(error.to_string().contains(words), "{error}");
    assert_eq!(error.verdict(), Verdict::Transient { retry_after: None });
}

fn verdict(status: u16, body: &str, headers: &[(&'static str, &'static str)]) -> Verdict {
    let mut response = answer(status, body);
    for (name, value) in headers {
        response.headers_mut().insert(*name, http::HeaderValue::from_static(value));
    }
    TokenSet::read(&response, TokenScheme::Bearer).expect_err("is no success").verdict()
}

#[test]
fn tokens_are_read_and_members_that_nobody_knows_are_ignored() {
    // O2-4.1.2-01, O2-5.1-04
    let tokens = read(|body| {
        body["refresh_token"] = "r1".into();
        body["id_token"] = "a.b.c".into();
        body["expires_in"] = 300.into();
        body["scope"] = "api openid".into();
        body["refresh_expires_in"] = 1800.into();
        body["created_at"] = 1.into();
    })
    .expect("reads");
    assert_eq!(tokens.access_token, AccessToken::new("a1".into()));
    assert_eq!(tokens.refresh_token, Some(RefreshToken::new("r1".into())));
    assert_eq!(tokens.id_token, Some(RawIdToken::new("a.b.c".into())));
    assert_eq!(tokens.expires_in, Some(Duration::from_secs(300)));
    assert_eq!(tokens.scope.as_deref(), Some("api openid"));
    assert_eq!(tokens.refresh_expires_in, Some(Duration::from_secs(1800)));
}

#[test]
fn a_bare_access_token_is_enough() {
    // O2-5.1-02, O2-6-02
    let tokens =
        TokenSet::read(&answer(200, r#"{"access_token":"a1","refresh_token":"","scope":[]}"#), TokenScheme::Bearer)
            .expect("reads");
    assert_eq!(
        (tokens.expires_in, tokens.refresh_token, tokens.id_token, tokens.scope, tokens.refresh_expires_in),
        (None, None, None, None, None)
    );
}

#[test]
fn only_bearer_tokens_are_used_whatever_the_case() {
    // O2-5.1-01
    assert!(read(|body| body["token_type"] = "bEARER".into()).is_ok());
    for kind in [json!("mac"), json!("DPoP"), json!("bearer "), json!("N_A")] {
        refused("token_type is not Bearer", |body| body["token_type"] = kind);
    }
    refused("token_type is not a string", |body| body["token_type"] = 1.into());
}

#[test]
fn lifetimes_are_believed_as_far_as_they_can_be_meant() {
    // O2-5.1-03, RTX-01
    for (text, expected) in [
        (json!(3600), Some(3600)),
        (json!("3600"), Some(3600)),
        (json!(3599.9), Some(3599)),
        (json!(0), None),
        (json!("0"), None),
        (json!(-1), None),
        (json!(1e12), Some(MAX_LIFETIME.as_secs())),
        (json!(1e300), Some(MAX_LIFETIME.as_secs())),
        (json!("soon"), None),
        (json!({}), None),
        (json!(null), None),
    ] {
        let tokens = read(|body| body["expires_in"] = text.clone()).expect("reads");
        assert_eq!(tokens.expires_in, expected.map(Duration::from_secs), "{text}");
    }
    let tokens = read(|body| body["refresh_token_expires_in"] = 7.into()).expect("reads");
    assert_eq!(tokens.refresh_expires_in, Some(Duration::from_secs(7)));
}

#[test]
fn what_is_wrong_is_named() {
    // O2-5.2-01
    refused("access_token is absent", |body| body["access_token"] = Value::Null);
    refused("access_token is not a string", |body| body["access_token"] = 7.into());
    refused("no header can carry", |body| body["access_token"] = "a\r\nb".into());
    refused("no header can carry", |body| body["access_token"] = "a b".into());
    refused("refresh_token is not a string", |body| body["refresh_token"] = json!({}));
    refused("id_token is not a string", |body| body["id_token"] = true.into());
    let doubled =
        TokenSet::read(&answer(200, r#"{"access_token":"canary","access_token":"canary"}"#), TokenScheme::Bearer);
    let error = doubled.expect_err("is refused").to_string();
    assert!(error.contains("access_token occurs more than once") && !error.contains("canary"), "{error}");
}

#[test]
fn tokens_may_be_of_any_size() {
    // O2-5.1-05
    assert!(read(|body| body["access_token"] = "x".repeat(32 * 1024).into()).is_ok());
}

#[test]
fn trouble_that_passes_is_no_judgement() {
    // O2-5.2-01
    let transient = Verdict::Transient { retry_after: None };
    let html = "<!DOCTYPE html><title>Bad gateway</title>";
    for status in [200, 400, 401, 403, 404, 500, 502] {
        assert_eq!(verdict(status, html, &[]), transient, "{status}");
        assert_eq!(verdict(status, "Oops", &[("content-type", "Text/HTML; charset=x")]), transient, "{status}");
    }
    for status in [408, 425, 429, 500, 501, 502, 503, 504] {
        assert_eq!(verdict(status, r#"{"error":"invalid_grant"}"#, &[]), transient, "{status}");
        assert_eq!(verdict(status, "", &[]), transient, "{status}");
    }
    for (status, body) in [(200, ""), (200, "{"), (200, "[]"), (204, ""), (302, ""), (206, "{}")] {
        assert_eq!(verdict(status, body, &[]), transient, "{status} {body}");
    }
    assert_eq!(verdict(401, "", &[("www-authenticate", "Basic realm=x")]), transient);
    assert_eq!(verdict(401, r#"{"error":"not_yet_valid"}"#, &[]), transient);
    assert_eq!(verdict(403, r#"{"error":"invalid_code"}"#, &[]), transient);
}

#[test]
fn a_server_that_asks_for_patience_gets_it_within_reason() {
    // O2-5.2-02
    let wait = |value| verdict(503, "", &[("retry-after", value)]);
    assert_eq!(wait("7"), Verdict::Transient { retry_after: Some(Duration::from_secs(7)) });
    assert_eq!(wait("99999999"), Verdict::Transient { retry_after: Some(Duration::from_secs(3600)) });
    assert_eq!(wait("-1"), Verdict::Transient { retry_after: None });
    assert_eq!(wait("Fri, 31 Dec 1999 23:59:59 GMT"), Verdict::Transient { retry_after: None });
}

#[test]
fn refusals_are_told_apart() {
    // O2-5.2-01
    for status in [200, 400, 401, 403] {
        assert_eq!(verdict(status, r#"{"error":"invalid_grant"}"#, &[]), Verdict::InvalidGrant, "{status}");
    }
    for body in [r#"{"error":"invalid_client"}"#, r#"{"error":"unauthorized_client"}"#] {
        assert_eq!(verdict(401, body, &[]), Verdict::ClientRejected);
        assert_eq!(verdict(400, body, &[]), Verdict::ClientRejected);
    }
    for (status, body) in [
        (400, ""),
        (400, "{}"),
        (400, "NotFound"),
        (404, "NotFound"),
        (404, r#"{"error":"invalid_request"}"#),
        (400, r#"{"error":7}"#),
        (200, r#"{"error":"bad_refresh_token"}"#),
    ] {
        assert_eq!(verdict(status, body, &[]), Verdict::Undetermined, "{status} {body}");
    }
    // Frameworks give even an empty body a type.
    assert_eq!(verdict(400, "", &[("content-type", "text/html")]), Verdict::Undetermined);
}

#[test]
fn a_refusal_shows_its_code_and_hides_its_description() {
    let body = r#"{"error":"invalid_\u001bgrant","error_description":"SELECT * FROM tokens"}"#;
    let error = TokenSet::read(&answer(400, body), TokenScheme::Bearer).expect_err("is refused");
    assert_eq!(error.verdict(), Verdict::InvalidGrant);
    assert!(!error.to_string().contains("SELECT"), "{error}");
    assert!(matches!(error, Error::IssuerRefused { description: Some(text), .. } if text == "SELECT * FROM tokens"));
}

#[test]
fn a_refresh_is_authenticated_and_asks_for_no_scope() {
    // O2-6-01, OIDC-12.1-01
    let client = Client { scopes: Some(vec!["api".into()]), ..client() };
    let request = refresh_request(&client, &metadata(), &RefreshToken::new("r1".into()), &proofs());
    let expected =
        [("grant_type", "refresh_token"), ("refresh_token", "r1")].map(|(a, b)| (a.to_owned(), b.to_owned()));
    assert_eq!(fields(&request), expected);
    assert!(request.headers()[header::AUTHORIZATION].is_sensitive());
}

fn original() -> OriginalIdentity {
    OriginalIdentity {
        issuer: Issuer::new("https://as.test".into()),
        subject: Some("alice".into()),
        auth_time: Some(Timestamp::from_secs(NOW.as_secs() - 100)),
        nonce: Some(Nonce::new("n".into())),
    }
}

/// The judgement on a refresh that brought an ID token with these claims.
fn refreshed(original: &OriginalIdentity, change: impl FnOnce(&mut Value)) -> Result<(), Error> {
    let key = Key::es256();
    let mut claims = claims("n");
    change(&mut claims);
    let tokens = tokens(Some(&key.sign(&json!({ "alg": "ES256" }), &claims)));
    check_refreshed(original, &tokens, &client(), &metadata(), &JwkSet::of(&[key.jwk("k", None)]), NOW)
}

#[test]
fn a_refresh_without_an_id_token_is_normal() {
    // OIDC-12.2-07
    assert_eq!(check_refreshed(&original(), &tokens(None), &client(), &metadata(), &JwkSet::default(), NOW), Ok(()));
}

#[test]
fn a_refreshed_id_token_speaks_of_the_same_login() {
    // OIDC-12.2-01 to -06
    let same = |change: fn(&mut Value)| refreshed(&original(), change);
    assert_eq!(same(|_| {}), Ok(()));
    assert_eq!(same(|claims| claims["nonce"] = Value::Null), Ok(()));
    assert_eq!(same(|claims| claims["aud"] = json!(["app"])), Ok(()));
    assert_eq!(same(|claims| claims["auth_time"] = (NOW.as_secs() - 100).into()), Ok(()));
    for (claim, value) in [
        ("iss", json!("https://as.test/")),
        ("sub", json!("mallory")),
        ("aud", json!("other")),
        ("aud", json!(["app", "other"])),
        ("auth_time", json!(NOW.as_secs() - 50)),
        ("nonce", json!("foreign")),
        ("azp", json!("other")),
        ("iat", json!(NOW.as_secs() + 3600)),
        ("exp", json!(NOW.as_secs() - 600)),
    ] {
        let error = refreshed(&original(), |claims| claims[claim] = value).expect_err("is refused");
        assert!(error.to_string().contains(&format!("ID token: {claim} ")), "{claim}: {error}");
    }
}

#[test]
fn what_the_login_did_not_say_a_refresh_may_add_except_a_nonce() {
    // OIDC-12.2-04, OIDC-12.2-05
    let original = OriginalIdentity { auth_time: None, nonce: None, ..original() };
    let added = refreshed(&original, |claims| {
        claims["auth_time"] = NOW.as_secs().into();
        claims["nonce"] = Value::Null;
    });
    assert_eq!(added, Ok(()));
    assert!(refreshed(&original, |_| {}).is_err());
}

#[test]
fn a_refreshed_id_token_is_verified_like_the_first() {
    // OIDC-12.2-08
    let tokens = tokens(Some(&Key::es256().sign(&json!({ "alg": "ES256" }), &claims("n"))));
    let keys = JwkSet::of(&[Key::es256().jwk("k", None)]);
    let result = check_refreshed(&original(), &tokens, &client(), &metadata(), &keys, NOW);
    assert_eq!(result, Err(Error::UnknownKey));
}

#[test]
fn a_refresh_at_another_issuer_is_not_of_this_login() {
    // OIDC-12.2-01
    let other = OriginalIdentity { issuer: Issuer::new("https://as2.test".into()), ..original() };
    assert!(refreshed(&other, |_| {}).is_err());
}

#[test]
fn an_identity_survives_being_sealed() {
    let bytes = postcard::to_stdvec(&original()).expect("serialises");
    assert_eq!(postcard::from_bytes::<OriginalIdentity>(&bytes).expect("reads"), original());
}

#[test]
fn plain_oauth_compares_no_identity() {
    let oauth = Client { protocol: Protocol::OAuth, ..client() };
    let (_, url) = begin(&oauth, &LoginWishes::default());
    assert!(!url.as_str().contains("nonce"));
    let tokens = tokens(Some("not.even.one"));
    assert_eq!(check_refreshed(&original(), &tokens, &oauth, &metadata(), &JwkSet::default(), NOW), Ok(()));
}

proptest! {
    #[test]
    fn no_answer_makes_the_reader_panic(
        status in 200_u16..600,
        body in proptest::collection::vec(any::<u8>(), 0..200),
        content_type in proptest::option::of("[ -~]{0,20}"),
    ) {
        let mut response = answer(status, "");
        *response.body_mut() = Bytes::from(body);
        if let Some(value) = content_type.and_then(|it| http::HeaderValue::from_str(&it).ok()) {
            response.headers_mut().insert(header::CONTENT_TYPE, value);
        }
        drop(TokenSet::read(&response, TokenScheme::Bearer));
    }

    #[test]
    fn no_json_makes_the_reader_panic(
        members in proptest::collection::vec(
            ("(access_token|token_type|expires_in|refresh_token|id_token|scope|error)",
             "(null|true|-1|0|1e999|7|\"x\"|\"Bearer\"|\\[\\]|\\[1\\]|\\{\\}|\"\\\\u0000\")"), 0..8),
    ) {
        let text = members.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect::<Vec<_>>().join(",");
        drop(TokenSet::read(&answer(200, &format!("{{{text}}}")), TokenScheme::Bearer));
    }
}
