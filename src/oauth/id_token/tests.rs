use serde_json::json;

use super::*;
use crate::oauth::testing::{Key, NOW, claims, client, encode, metadata};

/// The judgement on a token of these claims and this header.
fn judge(header: &Value, change: impl FnOnce(&mut Value)) -> Result<IdToken, Error> {
    let mut claims = claims("n");
    change(&mut claims);
    judge_text(header, &claims.to_string(), &client())
}

fn judge_text(header: &Value, claims: &str, client: &Client) -> Result<IdToken, Error> {
    let key = Key::es256();
    let raw = RawIdToken::new(key.sign_text(header, claims));
    let keys = JwkSet::of(&[key.jwk("k", None)]);
    IdToken::verify(&raw, &AccessToken::new("a1".into()), client, &metadata(), &keys, NOW)
}

fn es256() -> Value {
    json!({ "alg": "ES256", "kid": "k" })
}

fn accepted(change: impl FnOnce(&mut Value)) {
    if let Err(error) = judge(&es256(), change) {
        panic!("{error}");
    }
}

fn refused(words: &str, change: impl FnOnce(&mut Value)) {
    let error = judge(&es256(), change).err().expect("is refused").to_string();
    assert!(error.contains(words), "{error}");
}

/// Seconds from the present moment of these tests.
fn at(offset: i64) -> Value {
    NOW.as_secs().checked_add_signed(offset).expect("is a time").into()
}

#[test]
fn a_good_token_is_believed_and_claims_that_nobody_knows_are_ignored() {
    // OIDC-2-01
    accepted(|_| {});
    accepted(|claims| claims["_claim_sources"] = json!({ "x": { "endpoint": "http://10.0.0.1/" } }));
}

#[test]
fn the_issuer_is_compared_letter_by_letter() {
    // OIDC-3.1.3.7-02, ISS-R-01
    for issuer in ["https://as.test/", "https://AS.test", "https://as.testx", "as.test"] {
        refused("iss is another issuer", |claims| claims["iss"] = issuer.into());
    }
    refused("iss is absent", |claims| claims["iss"] = Value::Null);
    refused("iss is not a string", |claims| claims["iss"] = json!(["https://as.test"]));
}

#[test]
fn the_audience_is_this_client_and_nobody_whom_it_does_not_trust() {
    // OIDC-3.1.3.7-03, OIDC-3.1.3.7-04
    accepted(|claims| claims["aud"] = json!(["app"]));
    accepted(|claims| claims["azp"] = "app".into());
    refused("aud is absent", |claims| claims["aud"] = Value::Null);
    refused("aud does not name this client", |claims| claims["aud"] = "other".into());
    refused("aud does not name this client", |claims| claims["aud"] = json!([]));
    refused("aud does not name this client", |claims| claims["aud"] = "App".into());
    refused("aud is not a list", |claims| claims["aud"] = 7.into());
    refused("aud also names \"api\"", |claims| claims["aud"] = json!(["app", "api"]));
    refused("azp is another client", |claims| claims["azp"] = "other".into());
    let trusting = Client { trusted_audiences: vec!["api".into()], ..client() };
    let mut claims = claims("n");
    claims["aud"] = json!(["api", "app"]);
    assert!(judge_text(&es256(), &claims.to_string(), &trusting).is_ok());
    claims["azp"] = "api".into();
    assert!(judge_text(&es256(), &claims.to_string(), &trusting).is_err());
}

#[test]
fn the_signature_must_be_that_of_a_known_key() {
    // OIDC-3.1.3.7-05
    let raw = RawIdToken::new(Key::es256().sign(&es256(), &claims("n")));
    let keys = JwkSet::of(&[Key::es256().jwk("k", None)]);
    let verify = |raw: &RawIdToken| {
        IdToken::verify(raw, &AccessToken::new("a1".into()), &client(), &metadata(), &keys, NOW).err()
    };
    assert_eq!(verify(&raw), Some(Error::UnknownKey));
    let unsigned = RawIdToken::new(format!("{}.{}.", encode(&es256()), encode(&claims("n"))));
    assert_eq!(verify(&unsigned), Some(Error::UnknownKey));
}

#[test]
fn only_algorithms_that_the_metadata_announces_are_accepted() {
    // OIDC-3.1.3.7-06, OIDC-3.1.3.7-07
    let verify = |key: &Key, header: &Value, announced: &[&str]| {
        let mut metadata = metadata();
        metadata.id_token_signing_alg_values_supported = announced.iter().map(|&it| it.to_owned()).collect();
        let raw = RawIdToken::new(key.sign(header, &claims("n")));
        let keys = JwkSet::of(&[key.jwk("k", None)]);
        IdToken::verify(&raw, &AccessToken::new("a1".into()), &client(), &metadata, &keys, NOW)
    };
    for (key, alg) in Key::all() {
        let header = json!({ "alg": alg });
        assert!(verify(&key, &header, &["HS256", alg]).is_ok(), "{alg}");
        assert!(verify(&key, &header, &["none", "HS256"]).is_err(), "{alg}");
    }
    assert!(verify(&Key::ed25519(), &json!({ "alg": "Ed25519" }), &["EdDSA"]).is_ok());
    assert!(verify(&Key::es256(), &es256(), &["RS256"]).is_err());
    for alg in ["none", "HS256"] {
        assert!(verify(&Key::es256(), &json!({ "alg": alg }), &["none", "HS256", "ES256"]).is_err(), "{alg}");
    }
}

#[test]
fn a_token_lives_until_exp_and_from_nbf() {
    // OIDC-3.1.3.7-08, OIDC-2-02
    accepted(|claims| claims["exp"] = at(-59));
    accepted(|claims| claims["exp"] = json!(1_800_000_000.5));
    accepted(|claims| claims["exp"] = 9_999_999_999_u64.into());
    accepted(|claims| claims["exp"] = json!(1e300));
    refused("exp has passed", |claims| claims["exp"] = at(-60));
    refused("exp has passed", |claims| claims["exp"] = at(-360));
    refused("exp is absent", |claims| claims["exp"] = Value::Null);
    refused("exp is not a time", |claims| claims["exp"] = "1900000000".into());
    accepted(|claims| claims["nbf"] = at(60));
    refused("nbf lies in the future", |claims| claims["nbf"] = at(61));
}

#[test]
fn iat_is_there_and_near() {
    // OIDC-3.1.3.7-09
    accepted(|claims| claims["iat"] = at(-3600));
    accepted(|claims| claims["iat"] = at(600));
    refused("iat is absent", |claims| claims["iat"] = Value::Null);
    refused("iat is more than a day ago", |claims| claims["iat"] = at(-7 * 24 * 3600));
    refused("iat lies in the future", |claims| claims["iat"] = at(3600));
}

#[test]
fn the_subject_is_a_short_text() {
    // OIDC-3.1.3.7-13
    accepted(|claims| claims["sub"] = "x".repeat(255).into());
    for subject in [json!(null), json!(""), json!(7), json!("x".repeat(256)), json!("ä")] {
        refused("sub", |claims| claims["sub"] = subject);
    }
}

#[test]
fn at_hash_is_checked_where_it_is_there_with_the_hash_of_the_algorithm() {
    // OIDC-3.1.3.8-01
    for (key, alg) in Key::all() {
        let mut metadata = metadata();
        metadata.id_token_signing_alg_values_supported = vec![alg.to_owned()];
        let mut claims = claims("n");
        claims["at_hash"] = Algorithm::named(alg).expect("is known").half_hash("a1").into();
        let raw = RawIdToken::new(key.sign(&json!({ "alg": alg }), &claims));
        let keys = JwkSet::of(&[key.jwk("k", None)]);
        let verify = |access_token: &str| {
            IdToken::verify(&raw, &AccessToken::new(access_token.into()), &client(), &metadata, &keys, NOW)
        };
        assert!(verify("a1").is_ok(), "{alg}");
        let error = verify("a2").err().expect("is refused").to_string();
        assert!(error.contains("at_hash is not that of the access token"), "{alg}: {error}");
    }
    refused("at_hash", |claims| claims["at_hash"] = "AAAAAAAAAAAAAAAAAAAAAA".into());
    refused("at_hash", |claims| claims["at_hash"] = 7.into());
}

#[test]
fn the_half_hash_is_that_of_the_specification() {
    // OIDC-3.1.3.8-01: the example of OpenID Connect Core appendix A.3
    let token = "jHkWEdUXMU1BwAsC4vtUsZwnNvTIxEl0z9K3vx5KF0Y";
    assert_eq!(Algorithm::Rs256.half_hash(token), "77QmUPtjPfzWtF2AnpK9RQ");
}

#[test]
fn other_kinds_of_tokens_are_no_id_tokens() {
    // OIDC-2-03
    for kind in ["JWT", "jwt"] {
        assert!(judge(&json!({ "alg": "ES256", "typ": kind }), |_| {}).is_ok(), "{kind}");
    }
    for kind in ["at+jwt", "logout+jwt", "dpop+jwt", "oauth-authz-req+jwt", "application/at+jwt"] {
        let error = judge(&json!({ "alg": "ES256", "typ": kind }), |_| {}).err().expect("is refused").to_string();
        assert!(error.contains("typ is not JWT"), "{kind}: {error}");
    }
}

#[test]
fn doubled_claims_are_refused() {
    // OIDC-2-02
    let doubled = claims("n").to_string().replacen('{', r#"{"aud":"other","#, 1);
    let error = judge_text(&es256(), &doubled, &client()).err().expect("is refused").to_string();
    assert!(error.contains("aud occurs more than once"), "{error}");
}

#[test]
fn a_key_that_the_token_brings_along_is_not_used() {
    // OIDC-2-01, ASVS-9.1.3
    let (key, forger) = (Key::es256(), Key::es256());
    let header = json!({ "alg": "ES256", "jwk": forger.jwk("k", None), "jku": "http://127.0.0.1:1/", "x5c": ["AA"] });
    let raw = RawIdToken::new(forger.sign(&header, &claims("n")));
    let keys = JwkSet::of(&[key.jwk("k", None)]);
    let result = IdToken::verify(&raw, &AccessToken::new("a1".into()), &client(), &metadata(), &keys, NOW);
    assert_eq!(result.err(), Some(Error::UnknownKey));
}

#[test]
fn encrypted_and_enormous_tokens_are_refused_by_name() {
    // OIDC-3.1.3.7-01
    let keys = JwkSet::default();
    for (raw, words) in [("a.b.c.d.e".to_owned(), "encrypted"), ("x".repeat(70_000), "longer than 64 KiB")] {
        let raw = RawIdToken::new(raw);
        let result = IdToken::verify(&raw, &AccessToken::new("a1".into()), &client(), &metadata(), &keys, NOW);
        let error = result.err().expect("is refused").to_string();
        assert!(error.contains(words), "{error}");
    }
}
