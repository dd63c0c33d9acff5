use serde_json::json;

use super::*;
use crate::oauth::authorization::LoginWishes;
use crate::oauth::login::VerifiedLogin;
use crate::oauth::testing::{Key, NOW, answer, claims, client, metadata, pending, tokens};

fn asking() -> Client {
    Client { userinfo: true, ..client() }
}

/// An answer with this type.
fn typed(content_type: &str, body: &str) -> http::Response<Bytes> {
    let mut response = answer(200, body);
    response.headers_mut().insert(header::CONTENT_TYPE, content_type.parse().expect("is a header"));
    response
}

fn read(response: &http::Response<Bytes>, keys: &JwkSet) -> Result<UserInfo, Error> {
    UserInfo::read(response, &client(), &metadata(), keys, NOW)
}

/// A login of alice, whose ID token says this besides.
fn login(besides: &Value) -> VerifiedLogin {
    let key = Key::es256();
    let (pending, nonce) = pending(&client(), &LoginWishes::default());
    let mut claims = claims(&nonce);
    claims.as_object_mut().expect("is an object").extend(besides.as_object().expect("is an object").clone());
    let token = key.sign(&json!({ "alg": "ES256", "kid": "k" }), &claims);
    let keys = JwkSet::of(&[key.jwk("k", None)]);
    pending.finish(&client(), &metadata(), &tokens(Some(&token)), &keys, NOW).expect("is verified")
}

#[test]
fn the_token_goes_in_the_header_by_get_and_only_if_the_client_asks() {
    // OIDC-5.3.1-01
    let token = AccessToken::new("a1".into());
    let endpoint = crate::oauth::Endpoint::parse("https://as.test/me", crate::oauth::PlainHttp::LoopbackOnly);
    let with = AuthorizationServerMetadata { userinfo_endpoint: endpoint.ok(), ..metadata() };
    let request = userinfo_request(&asking(), &with, &token, TokenScheme::Bearer).expect("is fine").expect("asks");
    assert_eq!((request.method(), request.uri().to_string().as_str()), (&http::Method::GET, "https://as.test/me"));
    assert_eq!(request.headers()[header::AUTHORIZATION], "Bearer a1");
    assert!(request.headers()[header::AUTHORIZATION].is_sensitive());
    assert!(userinfo_request(&client(), &with, &token, TokenScheme::Bearer).expect("is fine").is_none());
    let plain = Client { protocol: Protocol::OAuth, ..asking() };
    assert!(userinfo_request(&plain, &with, &token, TokenScheme::Bearer).expect("is fine").is_none());
    let fault =
        userinfo_request(&asking(), &metadata(), &token, TokenScheme::Bearer).expect_err("is a fault").to_string();
    assert!(fault.contains("userinfo_endpoint is absent") && fault.contains("issuer.userinfo"), "{fault}");
}

#[test]
fn its_claims_join_those_of_the_id_token_and_replace_none_of_the_protocol() {
    // OIDC-5.3.2-01, OIDC-5.6.2-01
    let body = json!({
        "sub": "alice", "name": "Alice", "email": "a@b.test", "sid": "forged", "acr": "high", "auth_time": 1,
        "nonce": "n", "nickname": null, "_claim_names": { "x": "s" }, "_claim_sources": { "s": { "access_token": "t" } },
    });
    let info = read(&answer(200, &body.to_string()), &JwkSet::default()).expect("reads");
    let joined =
        login(&json!({ "sid": "s1", "acr": "low", "name": "Old" })).joined_by(info).expect("is the same person");
    let expected = json!({ "sid": "s1", "acr": "low", "name": "Alice", "email": "a@b.test" });
    assert_eq!(Value::Object(joined.claims().clone()), expected);
    assert_eq!((joined.subject(), joined.sid(), joined.acr()), (Some("alice"), Some("s1"), Some("low")));
}

#[test]
fn somebody_elses_claims_are_not_used() {
    // OIDC-5.3.2-01, CS-B-11
    let cases = [
        (r#"{"sub":"bob","name":"Bob"}"#, "sub is not that of the ID token"),
        (r#"{"sub":"Alice"}"#, "sub is not that of the ID token"),
        (r#"{"name":"Bob"}"#, "sub is absent"),
        (r#"{"sub":null}"#, "sub is absent"),
        (r#"{"sub":["alice"]}"#, "sub is not a string"),
    ];
    for (body, fault) in cases {
        let info = read(&answer(200, body), &JwkSet::default()).expect("reads");
        let error = login(&json!({})).joined_by(info).expect_err("is refused");
        assert_eq!(error.to_string(), format!("the authorization server misbehaves: {NAME}: {fault}"));
    }
    for (status, body) in [(401, "{}"), (500, "{}"), (204, ""), (200, ""), (200, "[]"), (200, "<html>")] {
        assert!(read(&answer(status, body), &JwkSet::default()).is_err(), "{status} {body}");
    }
    let twice = read(&answer(200, r#"{"sub":"alice","sub":"bob"}"#), &JwkSet::default()).expect_err("is refused");
    assert!(twice.to_string().contains("sub occurs more than once"), "{twice}");
}

#[test]
fn a_signed_answer_counts_if_signature_issuer_audience_and_times_hold() {
    // OIDC-5.3.2-02, CS-D-12
    let (key, other) = (Key::es256(), Key::es256());
    let keys = JwkSet::of(&[key.jwk("k", None)]);
    let header = json!({ "alg": "ES256", "kid": "k" });
    let good = json!({ "iss": "https://as.test", "aud": "app", "sub": "alice", "name": "Alice" });
    let with = |name: &str, value: Value| {
        let mut claims = good.clone();
        claims[name] = value;
        claims
    };
    let jwt = |token: &str| typed("Application/JWT; charset=utf-8", token);
    let info = read(&jwt(&key.sign(&header, &good)), &keys).expect("reads");
    assert_eq!(login(&json!({})).joined_by(info).expect("is alice").claims()["name"], "Alice");

    let past = NOW.as_secs() - 600;
    let faults = [
        (with("iss", "https://other.test".into()), "iss is another issuer"),
        (with("iss", Value::Null), "iss is absent"),
        (with("aud", "other".into()), "aud does not name this client"),
        (with("aud", Value::Null), "aud is absent"),
        (with("exp", past.into()), "exp has passed"),
        (with("nbf", (past + 1200).into()), "nbf lies in the future"),
    ];
    for (claims, fault) in faults {
        let error = read(&jwt(&key.sign(&header, &claims)), &keys).expect_err("is refused").to_string();
        assert!(error.contains(NAME) && error.contains(fault), "{error}");
    }
    assert_eq!(read(&jwt(&other.sign(&header, &good)), &keys).expect_err("is refused"), Error::UnknownKey);
    let unsigned = format!("{}.{}.", crate::oauth::testing::encode(&json!({ "alg": "none" })), "e30");
    assert!(read(&jwt(&unsigned), &keys).is_err());
    let token = key.sign(&json!({ "alg": "ES256", "kid": "k", "typ": "at+jwt" }), &good);
    assert!(read(&jwt(&token), &keys).is_err(), "another kind of token");
}

#[test]
fn what_an_answer_is_called_decides_how_it_is_read() {
    // OIDC-5.3.2-02
    let key = Key::es256();
    let keys = JwkSet::of(&[key.jwk("k", None)]);
    let claims = json!({ "iss": "https://as.test", "aud": "app", "sub": "alice" });
    let token = key.sign(&json!({ "alg": "ES256", "kid": "k" }), &claims);
    assert!(read(&typed("application/json", &token), &keys).is_err());
    assert!(read(&typed("application/jwt", &claims.to_string()), &keys).is_err());
    let announcing =
        AuthorizationServerMetadata { userinfo_signing_alg_values_supported: Some(vec!["RS256".into()]), ..metadata() };
    let answer = typed("application/jwt", &token);
    let error = UserInfo::read(&answer, &client(), &announcing, &keys, NOW).expect_err("is refused").to_string();
    assert!(error.contains("alg is none of those that the metadata announces"), "{error}");
}
