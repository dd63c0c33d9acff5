use std::collections::BTreeSet;

use jsonwebtoken::DecodingKey;
use serde_json::{Value, json};

use super::*;
use crate::oauth::SecurityProfile;
use crate::oauth::client_key::tests::opened;
use crate::oauth::testing::{Dice, NOW, answer, client, metadata};
use crate::secret::Random;

const BOTH: [ProofAlgorithm; 2] = [ProofAlgorithm::Es256, ProofAlgorithm::EdDsa];

fn signer(algorithm: ProofAlgorithm) -> ProofSigner {
    ProofKey::generate(algorithm, &Dice::default()).prepare().expect("is a key")
}

fn sign(signer: &ProofSigner, target: &str, token: Option<&AccessToken>, nonce: Option<&str>, dice: &Dice) -> String {
    let proof = Proof { method: &Method::POST, target, access_token: token, nonce, now: NOW, random: dice };
    signer.sign(&proof).expect("signs").to_str().expect("is text").to_owned()
}

#[test]
fn a_proof_names_its_type_and_the_public_half_of_the_key_that_signed_it() {
    // DPOP-4.2-01, CS-FH-03
    for (algorithm, name, members) in
        [(BOTH[0], "ES256", vec!["crv", "kty", "x", "y"]), (BOTH[1], "EdDSA", vec!["crv", "kty", "x"])]
    {
        let token = sign(&signer(algorithm), "https://as.test/token", None, None, &Dice::default());
        let (header, _) = opened(&token);
        assert_eq!((&header["typ"], &header["alg"]), (&json!("dpop+jwt"), &json!(name)));
        assert_eq!(header.as_object().map(serde_json::Map::len), Some(3));
        let jwk = &header["jwk"];
        assert_eq!(jwk.as_object().expect("is an object").keys().collect::<Vec<_>>(), members);

        // What signs is ring; what verifies is another implementation, which is given the header's key.
        let public: Jwk = serde_json::from_value(jwk.clone()).expect("is a JWK");
        let key = DecodingKey::from_jwk(&public).expect("is a key");
        let (signed, signature) = token.rsplit_once('.').expect("has parts");
        let alg = if name == "ES256" { jsonwebtoken::Algorithm::ES256 } else { jsonwebtoken::Algorithm::EdDSA };
        let verifies =
            |text: &str| jsonwebtoken::crypto::verify(signature, text.as_bytes(), &key, alg).expect("is read");
        assert!(verifies(signed));
        assert!(!verifies(&format!("{signed}A")));
        let thumbprint = public.thumbprint(jsonwebtoken::jwk::ThumbprintHash::SHA256).expect("has one");
        assert_eq!(signer(algorithm).thumbprint(), thumbprint);
    }
}

#[test]
fn a_proof_says_what_it_is_for_and_no_more() {
    // DPOP-4.2-02, DPOP-11-01, CS-FH-03
    let (signer, dice) = (signer(ProofAlgorithm::Es256), Dice::default());
    let (_, claims) = opened(&sign(&signer, "https://as.test/token?tenant=1#f", None, None, &dice));
    let jti = claims["jti"].as_str().expect("is text").to_owned();
    assert_eq!(jti.len(), 22);
    assert_eq!(
        claims,
        json!({ "jti": jti, "htm": "POST", "htu": "https://as.test/token", "iat": NOW.as_secs() }),
        "no ath and no nonce where there is none"
    );
    let token = AccessToken::new("Kz~8mXK1EalYznwH-LC-1fBAo.4Ljp~zsPE_NeO.gxU".into());
    let (_, claims) = opened(&sign(&signer, "https://api.test/a%20b/?x=1", Some(&token), Some("n1"), &dice));
    assert_eq!(claims["htu"], "https://api.test/a%20b/");
    // The example of RFC 9449 section 7.1.
    assert_eq!(claims["ath"], "fUHyO2r2Z3DZ53EsNrWBb0xWXoaNy59IiKCAqksmQEo");
    assert_eq!(claims["nonce"], "n1");
    assert_eq!(claims.as_object().map(serde_json::Map::len), Some(6));
}

#[test]
fn no_two_proofs_are_the_same() {
    // DPOP-4.2-02, DPOP-7.3-01
    let (signer, dice) = (signer(ProofAlgorithm::Es256), Dice::default());
    let names: BTreeSet<String> = (0..1000)
        .map(|_| opened(&sign(&signer, "https://as.test/token", None, None, &dice)).1["jti"].to_string())
        .collect();
    assert_eq!(names.len(), 1000);
}

#[test]
fn a_request_gets_one_proof_of_itself() {
    // DPOP-4.3-01, DPOP-5-01
    let signer = signer(ProofAlgorithm::EdDsa);
    let mut request = http::Request::new(Vec::new());
    *request.method_mut() = Method::POST;
    *request.uri_mut() = "https://as.test:8443/token?tenant=1".parse().expect("is a URI");
    for nonce in [None, Some("n1")] {
        signer.prove(&mut request, None, nonce, NOW, &Dice::default()).expect("signs");
        let mut fields = request.headers().get_all("dpop").iter();
        let (_, claims) = opened(fields.next().and_then(|it| it.to_str().ok()).expect("is there"));
        assert_eq!(
            (claims["htm"].as_str(), claims["htu"].as_str()),
            (Some("POST"), Some("https://as.test:8443/token"))
        );
        assert_eq!(claims["nonce"].as_str(), nonce);
        assert!(fields.next().is_none());
    }
}

#[test]
fn a_bound_token_is_shown_as_one() {
    // DPOP-7.1-01
    let (signer, token) = (signer(ProofAlgorithm::Es256), AccessToken::new("a1".into()));
    let random = Dice::default();
    let proof = |access_token| Proof {
        method: &Method::GET,
        target: "https://api.test/",
        access_token,
        nonce: None,
        now: NOW,
        random: &random,
    };
    let [(name, value), (proof_name, _)] = bound_fields(&signer, &proof(Some(&token))).expect("has fields");
    assert_eq!((name.as_str(), value.to_str().ok(), proof_name.as_str()), ("authorization", Some("DPoP a1"), "dpop"));
    assert!(value.is_sensitive());
    assert!(bound_fields(&signer, &proof(None)).is_none());
}

#[test]
fn the_thumbprint_is_that_of_the_specification() {
    // DPOP-10-01; the example of RFC 9449 sections 4.1 and 6.1
    let jwk = PublicKey {
        crv: "P-256",
        kty: "EC",
        x: "l8tFrhx-34tV3hRICRDY9zCkDlpBhF42UQUfWVAWBFs".into(),
        y: Some("9VE4jf_Ok_o64zbTTlcuNJajHmt6v9TDVrU0CdvGRDA".into()),
    };
    let text = serde_json::to_string(&jwk).expect("is written");
    let thumbprint = base64_simd::URL_SAFE_NO_PAD.encode_to_string(Sha256::digest(text));
    assert_eq!(thumbprint, "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I");
}

/// Chance that comes to the order of the curve, to zero, and then to something else.
struct Unlucky(std::sync::atomic::AtomicUsize);

impl Random for Unlucky {
    fn fill(&self, buffer: &mut [u8]) {
        match self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed) {
            0 => buffer.copy_from_slice(&ORDER),
            1 => buffer.fill(0),
            2 => buffer.fill(0xff),
            _ => buffer.fill(7),
        }
    }
}

#[test]
fn a_key_is_a_number_below_the_order_of_the_curve() {
    let key = ProofKey::generate(ProofAlgorithm::Es256, &Unlucky(0.into()));
    assert_eq!(key.secret.expose(), &[7; 32]);
    assert!(key.prepare().is_ok());
    let largest = {
        let mut bytes = ORDER;
        bytes[31] -= 1;
        ProofKey { algorithm: ProofAlgorithm::Es256, secret: Secret::new(bytes) }
    };
    assert!(largest.prepare().is_ok());
    for bytes in [ORDER, [0; 32], [0xff; 32]] {
        let none = ProofKey { algorithm: ProofAlgorithm::Es256, secret: Secret::new(bytes) };
        assert!(none.prepare().is_err());
    }
}

#[test]
fn a_key_is_sealed_as_its_bytes_and_prints_none_of_them() {
    // DPOP-R-02
    for algorithm in BOTH {
        let key = ProofKey::generate(algorithm, &Dice::default());
        let bytes = postcard::to_extend(&key, Vec::new()).expect("is written");
        assert_eq!(bytes.len(), 33);
        assert_eq!(postcard::from_bytes::<ProofKey>(&bytes), Ok(key.clone()));
        assert_eq!(format!("{key:?}"), format!("ProofKey {{ algorithm: {algorithm:?}, .. }}"));
        let printed = format!("{:?}", key.prepare().expect("is a key"));
        assert!(printed.starts_with("ProofSigner { thumbprint: "), "{printed}");
    }
    let dice = Dice::default();
    let (one, other) = (ProofKey::generate(BOTH[0], &dice), ProofKey::generate(BOTH[0], &dice));
    assert_ne!(one, other, "each login has a key of its own");
}

#[test]
fn the_algorithm_is_one_that_the_server_takes() {
    // DPOP-5.1-01
    let among = |announced: &[&str]| {
        let announced: Vec<String> = announced.iter().map(|&it| it.to_owned()).collect();
        ProofAlgorithm::among(Some(&announced))
    };
    assert_eq!(ProofAlgorithm::among(None), Some(ProofAlgorithm::Es256));
    assert_eq!(among(&["PS256", "EdDSA", "ES256"]), Some(ProofAlgorithm::Es256));
    assert_eq!(among(&["PS256", "EdDSA"]), Some(ProofAlgorithm::EdDsa));
    assert_eq!(among(&["Ed25519"]), Some(ProofAlgorithm::EdDsa));
    assert_eq!(among(&["PS256", "RS256"]), None);
    assert_eq!(among(&[]), None);

    let mut metadata = metadata();
    metadata.dpop_signing_alg_values_supported = Some(vec!["PS256".into(), "RS256".into()]);
    let protocol = crate::oauth::Protocol::OpenIdConnect;
    assert_eq!(metadata.suits(protocol, false, SecurityProfile::None), Ok(()));
    let fault = metadata.suits(protocol, true, SecurityProfile::None).expect_err("does not suit").to_string();
    assert!(fault.contains(r#"is "PS256 RS256""#) && fault.contains("issuer.dpop = false"), "{fault}");
    metadata.dpop_signing_alg_values_supported = Some(vec!["EdDSA".into()]);
    let key = crate::oauth::Client { dpop: true, ..client() }.new_proof_key(&metadata, &Dice::default());
    assert_eq!(key.map(|key| key.algorithm), Some(ProofAlgorithm::EdDsa));
    assert!(client().new_proof_key(&metadata, &Dice::default()).is_none());
}

fn fields(pairs: &[(&str, &str)]) -> HeaderMap {
    let mut fields = HeaderMap::new();
    for (name, value) in pairs {
        let name: HeaderName = name.parse().expect("is a name");
        fields.append(name, HeaderValue::from_str(value).expect("is a value"));
    }
    fields
}

#[test]
fn a_nonce_is_taken_over_only_where_it_fits_into_a_proof() {
    // DPOP-8.2-01
    assert_eq!(nonce_in(&fields(&[("dpop-nonce", "eyJ7S_zG.eyJH0-Z")])), Some("eyJ7S_zG.eyJH0-Z"));
    for bad in ["", "a b", "a\"b", "a\\b", "ü", &"x".repeat(1025)] {
        assert_eq!(nonce_in(&fields(&[("dpop-nonce", bad)])), None, "{bad}");
    }
    assert_eq!(nonce_in(&fields(&[("dpop-nonce", "a"), ("dpop-nonce", "b")])), None);
    assert_eq!(nonce_in(&HeaderMap::new()), None);
}

#[test]
fn a_resource_server_demands_a_nonce_in_a_challenge_of_any_case() {
    // DPOP-9-01
    let demands = |status: u16, challenges: &[&str]| {
        let pairs: Vec<_> = challenges.iter().map(|&it| ("www-authenticate", it)).collect();
        resource_demands_nonce(StatusCode::from_u16(status).expect("is a status"), &fields(&pairs))
    };
    for challenge in [
        r#"DPoP error="use_dpop_nonce", error_description="needs a nonce""#,
        r#"dPoP error="use_dpop_nonce""#,
        r#"dpop algs="ES256 PS256", ERROR=use_dpop_nonce"#,
        r#"Bearer realm="a", DPoP algs="ES256", error="use_dpop_nonce""#,
    ] {
        assert!(demands(401, &[challenge]), "{challenge}");
        assert!(demands(401, &["Basic realm=\"x\"", challenge]), "{challenge}");
        assert!(!demands(400, &[challenge]) && !demands(200, &[challenge]), "{challenge}");
    }
    for challenge in [
        r#"DPoP error="invalid_token""#,
        r#"Bearer error="use_dpop_nonce""#,
        r#"DPoP realm="error=use_dpop_nonce""#,
        "DPoP",
        "",
        "\"",
    ] {
        assert!(!demands(401, &[challenge]), "{challenge}");
    }
}

#[test]
fn an_authorization_server_demands_a_nonce_by_an_error_of_either_status() {
    // DPOP-8-01
    let body = r#"{"error":"use_dpop_nonce","error_description":"needs a nonce"}"#;
    assert!(server_demands_nonce(&answer(400, body)));
    assert!(server_demands_nonce(&answer(401, body)));
    let mut challenged = answer(401, "");
    challenged.headers_mut().extend(fields(&[("www-authenticate", "DPoP error=\"use_dpop_nonce\"")]));
    assert!(server_demands_nonce(&challenged));
    for (status, body) in [
        (200, body),
        (403, body),
        (500, body),
        (400, r#"{"error":"invalid_grant"}"#),
        (400, r#"{"error":["use_dpop_nonce"]}"#),
        (400, "use_dpop_nonce"),
        (400, ""),
    ] {
        assert!(!server_demands_nonce(&answer(status, body)), "{status} {body}");
    }
}

#[test]
fn a_demand_for_a_nonce_says_nothing_about_a_refresh_token() {
    // DPOP-8-01, DPOP-5-02
    use crate::oauth::{TokenSet, Verdict};
    for error in ["use_dpop_nonce", "invalid_dpop_proof"] {
        let refused = TokenSet::read(&answer(400, &format!(r#"{{"error":"{error}"}}"#)), TokenScheme::DPoP);
        assert_eq!(refused.expect_err("is refused").verdict(), Verdict::Transient { retry_after: None });
    }
}

#[test]
fn tokens_of_the_other_kind_are_discarded() {
    // DPOP-5-02
    use crate::oauth::TokenSet;
    let read = |kind: &str, scheme| {
        let body = json!({ "access_token": "canary", "token_type": kind });
        TokenSet::read(&answer(200, &body.to_string()), scheme)
    };
    for kind in ["DPoP", "dPoP", "dpop", "DPOP"] {
        assert!(read(kind, TokenScheme::DPoP).is_ok(), "{kind}");
        assert!(read(kind, TokenScheme::Bearer).is_err(), "{kind}");
    }
    for kind in ["Bearer", "bearer", "mac", "N_A"] {
        let fault = read(kind, TokenScheme::DPoP).expect_err("is refused").to_string();
        assert!(fault.contains("token_type is not DPoP; have the issuer bind") && !fault.contains("canary"), "{fault}");
    }
    let untold: Value = json!({ "access_token": "canary" });
    assert!(TokenSet::read(&answer(200, &untold.to_string()), TokenScheme::DPoP).is_err());
}

#[test]
fn a_login_binds_its_code_to_the_key_that_redeems_it() {
    // DPOP-10-01, DPOP-5-01
    use crate::oauth::authorization::LoginWishes;
    use crate::oauth::testing::begin;
    let bound = crate::oauth::Client { dpop: true, ..client() };
    let (transaction, url) = begin(&bound, &LoginWishes::default());
    let jkt: Vec<_> = url.query_pairs().filter(|(name, _)| name == "dpop_jkt").collect();
    let key = transaction.proof_key().cloned().expect("has a key");
    let signer = key.prepare().expect("is a key");
    assert_eq!(jkt.iter().map(|(_, jkt)| &**jkt).collect::<Vec<_>>(), [signer.thumbprint()]);
    let response = crate::oauth::AuthorizationResponse::parse("code=c1&state=s").expect("parses");
    let redemption = transaction.accept(response, &bound, &metadata(), NOW).expect("is accepted");
    assert_eq!(redemption.redeem().0.proof_key(), Some(&key));

    let (transaction, url) = begin(&client(), &LoginWishes::default());
    assert!(transaction.proof_key().is_none() && !url.as_str().contains("dpop"));
    let smuggled = crate::oauth::Client { extra_params: vec![("dpop_jkt".into(), "x".into())], ..bound };
    let (_, url) = begin(&smuggled, &LoginWishes::default());
    assert!(!url.as_str().contains("dpop_jkt=x"));
}
