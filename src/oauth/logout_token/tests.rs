use std::time::Duration;

use serde_json::json;

use super::*;
use crate::oauth::testing::{Key, NOW, client, encode, metadata};

/// The claims of a good logout token, issued [`NOW`].
fn claims() -> Value {
    let now = NOW.as_secs();
    json!({
        "iss": "https://as.test", "aud": "app", "iat": now, "exp": now + 120, "jti": "j1",
        "sub": "alice", "sid": "s1", "events": { EVENT: {} },
    })
}

fn header(typ: Option<&str>) -> Value {
    let mut header = json!({ "alg": "ES256", "kid": "k" });
    if let Some(typ) = typ {
        header["typ"] = typ.into();
    }
    header
}

fn judge_text(header: &Value, claims: &str, client: &Client, strict_typ: bool) -> Result<LogoutToken, Error> {
    let key = Key::es256();
    let keys = JwkSet::of(&[key.jwk("k", None)]);
    LogoutToken::verify(&key.sign_text(header, claims), client, &metadata(), &keys, strict_typ, NOW)
}

/// The judgement on a token with these changes.
fn judge(change: impl FnOnce(&mut Value)) -> Result<LogoutToken, Error> {
    let mut claims = claims();
    change(&mut claims);
    judge_text(&header(Some("logout+jwt")), &claims.to_string(), &client(), false)
}

fn accepted(change: impl FnOnce(&mut Value)) -> LogoutToken {
    judge(change).unwrap_or_else(|error| panic!("{error}"))
}

fn refused(words: &str, change: impl FnOnce(&mut Value)) {
    let error = judge(change).expect_err("is refused").to_string();
    assert!(error.contains(&format!("logout token: {words}")), "{error}");
}

/// Seconds from the present moment of these tests.
fn at(offset: i64) -> Value {
    NOW.as_secs().checked_add_signed(offset).expect("is a time").into()
}

#[test]
fn a_good_token_says_whose_sessions_are_over() {
    // BCL-2.6-04, CS-L-04
    let token = accepted(|claims| claims["claim_of_a_later_day"] = json!([1]));
    assert_eq!((token.subject(), token.issuer_session()), (Some("alice"), Some("s1")));
    assert_eq!((token.issuer().as_str(), token.jti()), ("https://as.test", "j1"));
    assert_eq!(token.issued_at(), NOW);
}

#[test]
fn it_names_a_person_or_a_session_or_both() {
    // BCL-2.6-05
    let without = |member: &'static str| accepted(move |claims| claims[member] = Value::Null);
    assert_eq!((without("sub").subject(), without("sub").issuer_session()), (None, Some("s1")));
    assert_eq!((without("sid").subject(), without("sid").issuer_session()), (Some("alice"), None));
    for nothing in [Value::Null, "".into()] {
        refused("sub is absent, and so is sid", |claims| {
            claims["sub"] = nothing.clone();
            claims["sid"] = nothing;
        });
    }
    // What is there in a form that cannot be compared is not taken for absent: the token would mean more than it says.
    refused("sid is not a string", |claims| claims["sid"] = 7.into());
    refused("sub is not a string", |claims| claims["sub"] = json!(["alice"]));
    refused("sub is not 1 to 255 ASCII characters", |claims| claims["sub"] = "x".repeat(256).into());
}

#[test]
fn the_logout_event_is_an_object_among_the_events() {
    // BCL-2.6-06, BCL-4-01
    accepted(|claims| claims["events"]["https://schemas.openid.net/secevent/other"] = json!({}));
    accepted(|claims| claims["events"][EVENT]["more"] = 1.into());
    let other = "https://schemas.openid.net/secevent/risc/event-type/account-disabled";
    for events in [
        Value::Null,
        json!({}),
        json!({ other: {} }),
        json!({ EVENT: null }),
        json!({ EVENT: true }),
        json!({ EVENT: "" }),
        json!({ EVENT: [] }),
        json!([EVENT]),
        json!(EVENT),
        json!({ EVENT.replacen("http:", "https:", 1): {} }),
        json!({ format!("{EVENT}/"): {} }),
    ] {
        refused("events does not hold the logout event", |claims| claims["events"] = events);
    }
}

#[test]
fn a_nonce_makes_it_an_id_token_whatever_its_value() {
    // BCL-2.6-07
    for nonce in [json!("n"), json!(""), json!(7), json!([])] {
        refused("nonce is there", |claims| claims["nonce"] = nonce);
    }
}

#[test]
fn issuer_and_audience_are_those_of_an_id_token() {
    // BCL-2.6-04
    for issuer in ["https://as.test/", "https://AS.test", "https://other.test"] {
        refused("iss is another issuer", |claims| claims["iss"] = issuer.into());
    }
    refused("iss is absent", |claims| claims["iss"] = Value::Null);
    refused("aud is absent", |claims| claims["aud"] = Value::Null);
    refused("aud does not name this client", |claims| claims["aud"] = "other".into());
    refused("aud also names \"api\"", |claims| claims["aud"] = json!(["app", "api"]));
    accepted(|claims| claims["aud"] = json!(["app"]));
    let trusting = Client { trusted_audiences: vec!["api".into()], ..client() };
    let mut claims = claims();
    claims["aud"] = json!(["api", "app"]);
    assert!(judge_text(&header(None), &claims.to_string(), &trusting, false).is_ok());
}

#[test]
fn its_times_are_there_and_near() {
    // BCL-2.6-04
    accepted(|claims| claims["exp"] = at(-59));
    refused("exp has passed", |claims| claims["exp"] = at(-60));
    refused("exp is absent", |claims| claims["exp"] = Value::Null);
    refused("exp is not a time", |claims| claims["exp"] = "1900000000".into());
    refused("iat is absent", |claims| claims["iat"] = Value::Null);
    refused("iat lies in the future", |claims| claims["iat"] = at(3600));
    refused("nbf lies in the future", |claims| claims["nbf"] = at(61));
    accepted(|claims| claims["iat"] = at(1 - 24 * 3600));
    refused("iat is more than a day ago", |claims| claims["iat"] = at(-24 * 3600));
}

#[test]
fn its_name_is_remembered_for_a_day_at_most_and_as_long_as_it_is_good() {
    // BCL-2.6-08
    assert_eq!(accepted(|_| {}).refused_from(), NOW + Duration::from_secs(120 + 60));
    let endless = accepted(|claims| claims["exp"] = 99_999_999_999_u64.into());
    assert_eq!(endless.refused_from(), NOW + Duration::from_secs(24 * 3600));
    refused("jti is absent", |claims| claims["jti"] = Value::Null);
    refused("jti is absent", |claims| claims["jti"] = "".into());
    refused("jti is not a string", |claims| claims["jti"] = 1.into());
}

#[test]
fn two_tokens_share_a_fingerprint_only_if_they_share_their_name() {
    // BCL-2.6-08
    let named = |jti: &'static str| accepted(move |claims| claims["jti"] = jti.into()).fingerprint();
    let otherwise = accepted(|claims| claims["sid"] = "s2".into());
    assert_eq!(named("j1"), otherwise.fingerprint());
    assert_ne!(named("j1"), named("j2"));
    // The ledger remembers the states of logins in the same way.
    assert_ne!(named("j1"), <[u8; 32]>::from(Sha256::digest("j1")));
}

#[test]
fn it_may_call_itself_a_logout_token_or_a_jwt_or_nothing_and_nothing_else() {
    // BCL-4-01, ATJ-R-01, CS-L-04
    let judge = |typ, strict| judge_text(&header(typ), &claims().to_string(), &client(), strict);
    for typ in [Some("logout+jwt"), Some("LOGOUT+JWT"), Some("JWT"), Some("jwt"), None] {
        assert!(judge(typ, false).is_ok(), "{typ:?}");
    }
    for typ in ["at+jwt", "secevent+jwt", "dpop+jwt", "oauth-authz-req+jwt", "JOSE"] {
        let error = judge(Some(typ), false).expect_err("is refused").to_string();
        assert!(error.contains("logout token: typ is not logout+jwt or JWT"), "{error}");
    }
}

#[test]
fn strictly_it_calls_itself_a_logout_token() {
    // ASVS-10.5.5, BCL-4-01
    let judge = |typ| judge_text(&header(typ), &claims().to_string(), &client(), true);
    assert!(judge(Some("logout+jwt")).is_ok());
    for typ in [Some("JWT"), None, Some("at+jwt")] {
        let error = judge(typ).expect_err("is refused").to_string();
        assert!(error.contains("logout token: typ is not logout+jwt"), "{typ:?}: {error}");
    }
}

#[test]
fn an_id_token_is_no_logout_token() {
    // BCL-4-01
    let claims = crate::oauth::testing::claims("n").to_string();
    for typ in [None, Some("JWT")] {
        assert!(judge_text(&header(typ), &claims, &client(), false).is_err(), "{typ:?}");
    }
}

#[test]
fn the_signature_must_be_that_of_a_known_key() {
    // BCL-2.6-02
    let (key, other) = (Key::es256(), Key::es256());
    let keys = JwkSet::of(&[key.jwk("k", None)]);
    let verify = |raw: &str| LogoutToken::verify(raw, &client(), &metadata(), &keys, false, NOW);
    assert!(verify(&key.sign(&header(None), &claims())).is_ok());
    assert_eq!(verify(&other.sign(&header(None), &claims())), Err(Error::UnknownKey));
    let brought = json!({ "alg": "ES256", "jwk": other.jwk("k", None) });
    assert_eq!(verify(&other.sign(&brought, &claims())), Err(Error::UnknownKey));
    let bent = key.sign(&header(None), &claims()).replacen(&encode(&claims()), &encode(&json!({ "sub": "bob" })), 1);
    assert_eq!(verify(&bent), Err(Error::UnknownKey));
}

#[test]
fn the_algorithm_is_one_of_those_for_id_tokens_and_never_none() {
    // BCL-2.6-03, CS-L-05
    for alg in ["none", "HS256"] {
        let raw = format!("{}.{}.", encode(&json!({ "alg": alg })), encode(&claims()));
        let mut metadata = metadata();
        metadata.id_token_signing_alg_values_supported = vec![alg.to_owned(), "ES256".to_owned()];
        let error = LogoutToken::verify(&raw, &client(), &metadata, &JwkSet::default(), false, NOW);
        assert!(error.expect_err("is refused").to_string().contains("alg is none that is accepted"), "{alg}");
    }
    let key = Key::es384();
    let keys = JwkSet::of(&[key.jwk("k", None)]);
    let raw = key.sign(&json!({ "alg": "ES384" }), &claims());
    let error = LogoutToken::verify(&raw, &client(), &metadata(), &keys, false, NOW).expect_err("is refused");
    assert!(error.to_string().contains("alg is none of those that the metadata announces"), "{error}");
}

#[test]
fn what_is_encrypted_enormous_or_says_a_thing_twice_is_refused() {
    // BCL-2.6-01, BCL-R-01, OIDC-2-02
    let verify = |raw: &str| {
        let result = LogoutToken::verify(raw, &client(), &metadata(), &JwkSet::default(), false, NOW);
        result.expect_err("is refused").to_string()
    };
    assert!(verify("a.b.c.d.e").contains("encrypted"));
    assert!(verify(&"x".repeat(70_000)).contains("longer than 64 KiB"));
    let doubled = claims().to_string().replacen('{', r#"{"sub":"bob","#, 1);
    let error = judge_text(&header(None), &doubled, &client(), false).expect_err("is refused").to_string();
    assert!(error.contains("sub occurs more than once"), "{error}");
}

#[test]
fn whom_it_speaks_of_is_not_printed() {
    let printed = format!("{:?}", accepted(|_| {}));
    assert!(!printed.contains("alice") && !printed.contains("s1"), "{printed}");
}
