use bytes::Bytes;
use http::Response;
use jsonwebtoken::{EncodingKey, Header, encode};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use serde_json::json;

use super::super::client::tests::client;
use super::super::metadata::tests::metadata;
use super::super::{Verdict, login};
use super::*;

const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);

/// A signing key of a server, and the key that it publishes.
struct Signer {
    key: EncodingKey,
    public: Value,
}

impl Signer {
    fn new(kid: &str) -> Self {
        let random = SystemRandom::new();
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).expect("a key");
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref(), &random).expect("a key");
        let (x, y) = pair.public_key().as_ref()[1..].split_at(32);
        let text = |bytes: &[u8]| base64_simd::URL_SAFE_NO_PAD.encode_to_string(bytes);
        Self {
            key: EncodingKey::from_ec_der(pkcs8.as_ref()),
            public: json!({"kty": "EC", "crv": "P-256", "kid": kid, "use": "sig", "x": text(x), "y": text(y)}),
        }
    }

    fn sign(&self, header: &Header, claims: &Value) -> RawIdToken {
        RawIdToken::new(encode(header, claims, &self.key).expect("signs"))
    }
}

fn header(kid: Option<&str>) -> Header {
    Header { kid: kid.map(str::to_owned), ..Header::new(Algorithm::ES256) }
}

fn keys(published: &[Value]) -> JwkSet {
    JwkSet::read(&Response::new(Bytes::from(json!({ "keys": published }).to_string()))).expect("a key set")
}

fn access_token() -> AccessToken {
    AccessToken::new("access".to_owned())
}

fn claims() -> Value {
    json!({
        "iss": "https://as.test",
        "aud": "spa bff",
        "sub": "ada",
        "iat": NOW.as_secs(),
        "exp": NOW.as_secs() + 300,
        "nonce": "n",
        "at_hash": half_hash(Algorithm::ES256, "access"),
    })
}

/// The outcome for the usual claims with one of them changed.
fn verify_with(change: impl FnOnce(&mut Value)) -> Result<VerifiedClaims, Error> {
    let signer = Signer::new("k1");
    let mut claims = claims();
    change(&mut claims);
    let token = signer.sign(&header(Some("k1")), &claims);
    verify(&token, &access_token(), &client(), &metadata(), &keys(&[signer.public]), NOW)
}

#[test]
fn a_good_token_is_accepted_and_its_audience_may_be_a_list_of_one() {
    let verified = verify_with(|_| {}).expect("accepted");
    assert_eq!(verified.subject, "ada");
    assert_eq!(verified.nonce, Some(Nonce::new("n".to_owned())));
    assert!(verify_with(|claims| claims["aud"] = json!(["spa bff"])).is_ok());
    assert!(verify_with(|claims| claims["azp"] = json!("spa bff")).is_ok());
}

#[test]
fn every_claim_that_is_wrong_is_refused_and_named() {
    // OIDC-3.1.3.7-02..04, -08, -09, -13; OIDC-3.1.3.8-01; OIDC-2-02
    let now = NOW.as_secs();
    for (claim, value) in [
        ("iss", json!("https://as.test/")),
        ("iss", json!("https://AS.test")),
        ("iss", Value::Null),
        ("aud", json!("another")),
        ("aud", json!(["spa bff", "another"])),
        ("aud", json!([])),
        ("aud", Value::Null),
        ("azp", json!("another")),
        ("exp", json!(now - 360)),
        ("exp", json!("soon")),
        ("exp", Value::Null),
        ("iat", json!(now + 3_600)),
        ("iat", json!(now - 7 * 86_400)),
        ("iat", Value::Null),
        ("nbf", json!(now + 3_600)),
        ("sub", Value::Null),
        ("sub", json!("")),
        ("sub", json!(7)),
        ("sub", json!("x".repeat(300))),
        ("sub", json!("é")),
        ("at_hash", json!("AAAAAAAAAAAAAAAAAAAAAA")),
        ("at_hash", json!(1)),
    ] {
        let error = verify_with(|claims| claims[claim] = value.clone()).expect_err(claim);
        assert!(matches!(&error, Error::IssuerMisbehaved(what) if what.contains(claim)), "{claim} {value}: {error}");
        assert!(!error.to_string().contains("ada"), "{error}");
        assert_eq!(error.verdict(), Verdict::Transient { retry_after: None });
    }
}

#[test]
fn clocks_may_differ_by_the_skew_and_no_more() {
    let now = NOW.as_secs();
    assert!(verify_with(|claims| claims["exp"] = json!(now - 59)).is_ok());
    assert!(verify_with(|claims| claims["exp"] = json!(now - 60)).is_err());
    assert!(verify_with(|claims| claims["iat"] = json!(now + 60)).is_ok());
    assert!(verify_with(|claims| claims["iat"] = json!(now + 61)).is_err());
}

#[test]
fn a_signature_that_no_key_has_made_asks_for_fresh_keys() {
    // OIDC-3.1.3.7-05, OIDC-10.1.1-01
    let (signer, stranger) = (Signer::new("k1"), Signer::new("k1"));
    let token = signer.sign(&header(Some("k1")), &claims());
    let verify = |token: &RawIdToken, set: &[Value]| {
        verify(token, &access_token(), &client(), &metadata(), &keys(set), NOW).map(|_| ())
    };
    assert_eq!(verify(&token, &[stranger.public.clone()]), Err(Error::UnknownKey));
    assert_eq!(verify(&token, &[]), Err(Error::UnknownKey));
    let (message, signature) = token.expose().rsplit_once('.').expect("a JWT");
    for broken in [format!("{message}."), format!("{message}.{}", signature.replace(&signature[..2], "AA"))] {
        assert_eq!(verify(&RawIdToken::new(broken), &[signer.public.clone()]), Err(Error::UnknownKey));
    }
    assert!(verify(&token, &[signer.public]).is_ok());
}

#[test]
fn the_key_is_chosen_by_type_and_use_and_not_by_name_alone() {
    // OIDC-10.1-01, OIDC-10.1-02, FAPI-5.4.3-01
    let signer = Signer::new("k1");
    let decoys = [
        json!({"kty": "RSA", "kid": "k1", "n": "AQAB", "e": "AQAB"}),
        json!({"kty": "oct", "kid": "k1", "k": "AAAA"}),
        json!({"kty": "made-up", "kid": "k1"}),
        json!("not even an object"),
    ];
    let mut set = decoys.to_vec();
    set.push(signer.public.clone());
    let verify = |kid: Option<&str>, set: &[Value]| {
        let token = signer.sign(&header(kid), &claims());
        verify(&token, &access_token(), &client(), &metadata(), &keys(set), NOW).is_ok()
    };
    assert!(verify(Some("k1"), &set));
    assert!(verify(None, &set));
    assert!(verify(None, &[Signer::new("k0").public, signer.public.clone()]));
    assert!(!verify(Some("k2"), &set));
    let mut for_encryption = signer.public.clone();
    for_encryption["use"] = json!("enc");
    assert!(!verify(Some("k1"), &[for_encryption]));
    let mut of_another_algorithm = signer.public.clone();
    of_another_algorithm["alg"] = json!("ES384");
    assert!(!verify(Some("k1"), &[of_another_algorithm]));
}

#[test]
fn no_algorithm_is_taken_but_those_announced_and_never_a_symmetric_one() {
    // OIDC-3.1.3.7-06; HS256 and none are even announced by this server.
    let signer = Signer::new("k1");
    let verify = |token: RawIdToken, algorithms: &[&str]| {
        let mut metadata = metadata();
        metadata.id_token_signing_alg_values_supported = algorithms.iter().map(|it| (*it).to_owned()).collect();
        verify(&token, &access_token(), &client(), &metadata, &keys(&[signer.public.clone()]), NOW).map(|_| ())
    };
    assert!(verify(signer.sign(&header(None), &claims()), &["ES256"]).is_ok());
    assert!(matches!(verify(signer.sign(&header(None), &claims()), &["RS256"]), Err(Error::IssuerMisbehaved(_))));

    let public = signer.public.to_string();
    let forged = encode(&Header::new(Algorithm::HS256), &claims(), &EncodingKey::from_secret(public.as_bytes()));
    let forged = RawIdToken::new(forged.expect("signs"));
    assert!(matches!(verify(forged, &["HS256", "ES256"]), Err(Error::IssuerMisbehaved(_))));

    let part = |value: Value| base64_simd::URL_SAFE_NO_PAD.encode_to_string(value.to_string());
    for none in ["none", "None", "NONE"] {
        let unsigned = RawIdToken::new(format!("{}.{}.", part(json!({"alg": none})), part(claims())));
        assert!(matches!(verify(unsigned, &["none", "ES256"]), Err(Error::IssuerMisbehaved(_))), "{none}");
    }
}

#[test]
fn other_kinds_of_tokens_and_unknown_extensions_are_refused() {
    // OIDC-2-01, OIDC-2-03, ATJ-R-01
    let signer = Signer::new("k1");
    let verify = |header: &Header| {
        let token = signer.sign(header, &claims());
        verify(&token, &access_token(), &client(), &metadata(), &keys(&[signer.public.clone()]), NOW).map(|_| ())
    };
    for typ in ["at+jwt", "logout+jwt", "dpop+jwt", "oauth-authz-req+jwt"] {
        let other = Header { typ: Some(typ.to_owned()), ..header(None) };
        assert!(matches!(verify(&other), Err(Error::IssuerMisbehaved(_))), "{typ}");
    }
    assert!(verify(&Header { typ: None, ..header(None) }).is_ok());
    assert!(verify(&Header { jku: Some("https://evil.test".to_owned()), ..header(None) }).is_ok());
    let critical = Header { crit: Some(vec!["x".to_owned()]), ..header(None) };
    assert!(matches!(verify(&critical), Err(Error::IssuerMisbehaved(_))));
}

#[test]
fn a_payload_that_says_something_twice_is_refused() {
    // OIDC-2-02, JWTB section 3.14
    let signer = Signer::new("k1");
    let part = |text: &str| base64_simd::URL_SAFE_NO_PAD.encode_to_string(text);
    let twice = claims().to_string().replacen('{', r#"{"aud":"another","#, 1);
    let message = format!("{}.{}", part(r#"{"alg":"ES256"}"#), part(&twice));
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &signer.key, Algorithm::ES256).expect("signs");
    let token = RawIdToken::new(format!("{message}.{signature}"));
    let verified = verify(&token, &access_token(), &client(), &metadata(), &keys(&[signer.public]), NOW);
    assert!(matches!(verified, Err(Error::IssuerMisbehaved(what)) if what.contains("distinct")));
}

#[test]
fn garbage_is_refused_without_a_panic() {
    for garbage in ["", ".", "..", "...", "a.b.c", "é.é.é", "e30.e30.e30", &"x".repeat(100_000)] {
        let token = RawIdToken::new(garbage.to_owned());
        assert!(verify(&token, &access_token(), &client(), &metadata(), &keys(&[]), NOW).is_err(), "{garbage:.20}");
    }
}

mod whole_logins {
    use super::login::{LoginTransaction, VerifiedLogin};
    use super::*;
    use crate::oauth::{
        AuthorizationResponse, AuthorizationServerMetadata, LoginWishes, State, TokenSet, check_refreshed,
    };
    use crate::secret::Random;

    struct Counter;

    impl Random for Counter {
        fn fill(&self, buffer: &mut [u8]) {
            buffer.iter_mut().zip(7..).for_each(|(byte, value)| *byte = value);
        }
    }

    fn begin(wishes: &LoginWishes) -> (LoginTransaction, url::Url) {
        let state = State::new("the-state".to_owned());
        LoginTransaction::begin(&client(), &metadata(), wishes, state, &Counter, NOW)
    }

    fn respond(query: &str) -> AuthorizationResponse {
        AuthorizationResponse::parse(query).expect("parses")
    }

    fn tokens(signer: &Signer, claims: &Value) -> TokenSet {
        let id_token = signer.sign(&header(None), claims);
        let body = json!({"access_token": "access", "token_type": "Bearer", "id_token": id_token.expose()});
        TokenSet::read(&Response::new(Bytes::from(body.to_string()))).expect("reads")
    }

    /// The whole login with the claims that `change` makes of the good ones.
    fn finish(wishes: &LoginWishes, change: impl FnOnce(&mut Value)) -> Result<VerifiedLogin, Error> {
        let signer = Signer::new("k1");
        let (transaction, url) = begin(wishes);
        let nonce = url.query_pairs().find(|(name, _)| name == "nonce").expect("a nonce").1.into_owned();
        let response = respond("code=c&state=the-state&iss=https://as.test");
        let redemption = transaction.accept(response, &metadata(), NOW)?;
        let (request, pending) = redemption.token_request(&client(), &metadata());
        let form = String::from_utf8(request.into_body()).expect("text");
        assert!(form.starts_with("grant_type=authorization_code&code=c&redirect_uri=https%3A%2F%2Fapp.test%2Fbff"));
        let mut claims = claims();
        claims["nonce"] = nonce.into();
        change(&mut claims);
        pending.finish(&client(), &metadata(), &tokens(&signer, &claims), &keys(&[signer.public.clone()]), NOW)
    }

    #[test]
    fn the_request_says_each_thing_once_and_nobody_can_replace_it() {
        // O2-4.1.1-01, PKCE-4.3-01, OIDC-3.1.2.1-01, OIDC-3.1.2.1-04, OIDC-11-01, O21-3.2-01
        let (_, url) = begin(&LoginWishes { login_hint: Some("ada & co".to_owned()), ..LoginWishes::default() });
        let pairs: Vec<(String, String)> = url.query_pairs().into_owned().collect();
        let get = |name: &str| {
            let all: Vec<_> = pairs.iter().filter(|(it, _)| it == name).map(|(_, value)| value.as_str()).collect();
            assert!(all.len() <= 1, "{name} stands there {} times", all.len());
            all.first().copied()
        };
        assert_eq!(get("p"), Some("policy"));
        assert_eq!(get("response_type"), Some("code"));
        assert_eq!(get("client_id"), Some("spa bff"));
        assert_eq!(get("scope"), Some("openid profile offline_access"));
        assert_eq!(get("state"), Some("the-state"));
        assert_eq!(get("code_challenge_method"), Some("S256"));
        assert_eq!(get("code_challenge").map(str::len), Some(43));
        assert_eq!(get("nonce").map(str::len), Some(43));
        assert_eq!(get("prompt"), Some("consent"));
        assert_eq!(get("audience"), Some("api"));
        assert_eq!(get("login_hint"), Some("ada & co"));
        assert_eq!(get("response_mode"), None);
    }

    #[test]
    fn a_login_that_is_right_in_everything_succeeds() {
        let login = finish(&LoginWishes::default(), |claims| claims["sid"] = json!("s1")).expect("succeeds");
        assert_eq!(login.original().subject, "ada");
        assert_eq!(login.sid(), Some("s1"));
    }

    #[test]
    fn the_nonce_and_the_age_of_the_authentication_are_checked() {
        // OIDC-3.1.3.7-10, -12
        let wishes = LoginWishes { max_age: Some(60), ..LoginWishes::default() };
        for nonce in [Value::Null, json!("another"), json!("")] {
            assert!(finish(&LoginWishes::default(), |claims| claims["nonce"] = nonce).is_err());
        }
        assert!(finish(&wishes, |_| {}).is_err());
        assert!(finish(&wishes, |claims| claims["auth_time"] = json!(NOW.as_secs() - 60)).is_ok());
        assert!(finish(&wishes, |claims| claims["auth_time"] = json!(NOW.as_secs() - 121)).is_err());
    }

    #[test]
    fn only_the_response_to_this_login_from_this_issuer_is_accepted() {
        // ISS-2.4-01..04, BCP-2.1-02, OIDC-3.1.2.6-01
        let accept = |query: &str, metadata: &AuthorizationServerMetadata, later: u64| {
            let now = NOW + Duration::from_secs(later);
            begin(&LoginWishes::default()).0.accept(respond(query), metadata, now).map(|_| ())
        };
        let announced = metadata();
        let mut silent = metadata();
        silent.authorization_response_iss_parameter_supported = false;
        assert_eq!(accept("code=c&state=the-state", &silent, 0), Ok(()));
        assert_eq!(accept("code=c&state=the-state&iss=https://as.test", &silent, 900), Ok(()));
        let refused = |query: &str, metadata, later| accept(query, metadata, later).expect_err(query);
        assert!(matches!(refused("code=c&state=other&iss=https://as.test", &announced, 0), Error::Callback(_)));
        assert!(matches!(refused("code=c&state=the-state&iss=https://as.test", &announced, 901), Error::Callback(_)));
        assert!(matches!(refused("code=c&state=the-state", &announced, 0), Error::IssuerMisbehaved(_)));
        for near in
            ["https://as.test/", "https://AS.test", "https://as.test:443", "http://as.test", "https://as.tes%2574"]
        {
            let query = format!("code=c&state=the-state&iss={near}");
            assert!(matches!(refused(&query, &silent, 0), Error::IssuerMisbehaved(_)), "{near}");
            // An error is not believed either, unless it comes from there.
            let query = format!("error=access_denied&state=the-state&iss={near}");
            assert!(matches!(refused(&query, &silent, 0), Error::IssuerMisbehaved(_)), "{near}");
        }
        let denied = refused("error=access_denied&state=the-state&iss=https://as.test", &announced, 0);
        assert!(matches!(denied, Error::IssuerRefused { error, .. } if error == "access_denied"));
    }

    #[test]
    fn a_refreshed_id_token_speaks_of_the_same_login() {
        // OIDC-12.2-01..08
        let signer = Signer::new("k1");
        let then = Timestamp::from_secs(NOW.as_secs() - 100);
        let original = OriginalIdentity {
            issuer: metadata().issuer,
            subject: "ada".to_owned(),
            auth_time: Some(then),
            nonce: Nonce::new("n".to_owned()),
        };
        let check = |change: &dyn Fn(&mut Value)| {
            let mut claims = claims();
            change(&mut claims);
            let tokens = tokens(&signer, &claims);
            check_refreshed(&original, &tokens, &client(), &metadata(), &keys(&[signer.public.clone()]), NOW)
        };
        assert_eq!(check(&|_| {}), Ok(()));
        assert_eq!(check(&|claims| claims["nonce"] = Value::Null), Ok(()));
        assert_eq!(check(&|claims| claims["auth_time"] = json!(then.as_secs())), Ok(()));
        assert!(check(&|claims| claims["sub"] = json!("grace")).is_err());
        assert!(check(&|claims| claims["nonce"] = json!("other")).is_err());
        assert!(check(&|claims| claims["aud"] = json!("another")).is_err());
        assert!(check(&|claims| claims["iss"] = json!("https://other.test")).is_err());
        assert!(check(&|claims| claims["auth_time"] = json!(NOW.as_secs())).is_err());
    }
}
