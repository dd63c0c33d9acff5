//! The keys that an authorization server signs with (RFC 7517).

use bytes::Bytes;
use http::StatusCode;
use jsonwebtoken::DecodingKey;
use serde_json::Value;

use super::document::Document;
use super::endpoint::Endpoint;
use super::error::{Error, Misbehaviour};
use super::jws::{Algorithm, KeyKind};

/// The keys that an authorization server signs with, as far as they can be used here. The default is none.
#[derive(Clone, Debug, Default)]
pub struct JwkSet {
    keys: Vec<SigningKey>,
}

/// A key that signatures are verified with.
#[derive(Clone, Debug)]
pub(super) struct SigningKey {
    id: Option<String>,
    kind: KeyKind,
    /// The one algorithm that the key is for, if it says.
    algorithm: Option<Algorithm>,
    /// The issuer that it is for, if it says: servers with tenants have keys that not all of them may use.
    issuer: Option<String>,
    material: DecodingKey,
}

/// More keys than this are not looked at.
const MAX_KEYS: usize = 100;
/// The RSA moduli that are taken, in bytes: 2048 bits are the least that RFC 7518 section 3.3 allows, and 4096 the most
/// that the verifier takes.
const RSA_BYTES: std::ops::RangeInclusive<usize> = 256..=512;

impl JwkSet {
    /// The request for the keys.
    pub fn request(jwks_uri: &Endpoint) -> http::Request<Vec<u8>> {
        jwks_uri.get()
    }

    /// Reads the keys. One that is not understood, or not for signatures, is passed over and spoils no other.
    ///
    /// # Errors
    /// If the answer is not exactly 200, not a key set, or has no key of use: it then replaces no earlier one.
    pub fn read(response: &http::Response<Bytes>) -> Result<Self, Error> {
        if response.status() != StatusCode::OK {
            return Err(Misbehaviour::from(format!("keys: status {}, not 200", response.status().as_u16())).into());
        }
        let document = Document::read("keys", response.body())?;
        let Some(Value::Array(items)) = document.value("keys") else {
            return Err(document.fault("keys", "is not a list").into());
        };
        let keys: Vec<SigningKey> = items.iter().take(MAX_KEYS).filter_map(SigningKey::read).collect();
        if keys.is_empty() {
            return Err(document.fault("keys", "holds no key that can verify a signature").into());
        }
        Ok(Self { keys })
    }

    /// The keys that may have made a signature, likeliest first: those of the name that the token gives, then those
    /// without a name (OpenID Connect Core section 10.1).
    pub(super) fn suitable(&self, algorithm: Algorithm, id: Option<&str>) -> impl Iterator<Item = &SigningKey> {
        let suits =
            move |key: &&SigningKey| key.kind == algorithm.key_kind() && key.algorithm.is_none_or(|it| it == algorithm);
        let named = self.keys.iter().filter(move |key| key.id.is_some() && (id.is_none() || key.id.as_deref() == id));
        let nameless = self.keys.iter().filter(|key| key.id.is_none());
        named.chain(nameless).filter(suits)
    }
}

impl SigningKey {
    pub(super) const fn material(&self) -> &DecodingKey {
        &self.material
    }

    /// The issuer that it is for, if it says.
    pub(super) fn issuer(&self) -> Option<&str> {
        self.issuer.as_deref()
    }

    fn read(jwk: &Value) -> Option<Self> {
        let text = |member: &str| jwk.get(member).and_then(Value::as_str);
        let verifies = |operations: &Value| {
            operations.as_array().is_some_and(|it| it.iter().any(|operation| operation.as_str() == Some("verify")))
        };
        if text("use").is_some_and(|it| it != "sig") || jwk.get("key_ops").is_some_and(|it| !verifies(it)) {
            return None;
        }
        // The verifier takes lengths on trust and panics where they are wrong, so they are measured here.
        let length = |member: &str| {
            text(member).and_then(|it| base64_simd::URL_SAFE_NO_PAD.decode_to_vec(it).ok()).map(|it| it.len())
        };
        let (kind, material) = match (text("kty")?, text("crv")) {
            ("RSA", _) if length("n").is_some_and(|it| RSA_BYTES.contains(&it)) => {
                (KeyKind::Rsa, DecodingKey::from_rsa_components(text("n")?, text("e")?))
            }
            ("EC", Some("P-256")) if length("x") == Some(32) && length("y") == Some(32) => {
                (KeyKind::P256, DecodingKey::from_ec_components(text("x")?, text("y")?))
            }
            ("EC", Some("P-384")) if length("x") == Some(48) && length("y") == Some(48) => {
                (KeyKind::P384, DecodingKey::from_ec_components(text("x")?, text("y")?))
            }
            ("OKP", Some("Ed25519")) if length("x") == Some(32) => {
                (KeyKind::Ed25519, DecodingKey::from_ed_components(text("x")?))
            }
            _ => return None,
        };
        let algorithm = match text("alg") {
            None => None,
            Some(name) => Some(Algorithm::named(name)?),
        };
        let owned = |member: &str| text(member).map(str::to_owned);
        Some(Self { id: owned("kid"), kind, algorithm, issuer: owned("issuer"), material: material.ok()? })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::oauth::jws::Jws;
    use crate::oauth::testing::{Key, answer};

    /// Whether the keys verify a token that `key` signed and that names `id`.
    fn verifies(keys: &[Value], key: &Key, alg: &str, id: Option<&str>) -> bool {
        let mut header = json!({ "alg": alg });
        if let Some(id) = id {
            header["kid"] = id.into();
        }
        let token = key.sign(&header, &json!({}));
        Jws::parse("ID token", &token).expect("parses").verify(&JwkSet::of(keys)).is_ok()
    }

    #[test]
    fn keys_that_are_not_understood_spoil_no_other() {
        let key = Key::es256();
        let keys = [
            json!(null),
            json!("text"),
            json!({}),
            json!({ "kty": "oct", "k": "c2VjcmV0", "alg": "HS256" }),
            json!({ "kty": "EC", "crv": "P-521", "x": "AA", "y": "AA" }),
            json!({ "kty": "EC", "crv": "P-256", "x": 7, "y": [] }),
            json!({ "kty": "OKP", "crv": "Ed25519", "x": "AAAA" }),
            json!({ "kty": "OKP", "crv": "X25519", "x": "AAAA" }),
            json!({ "kty": "RSA", "n": "AQAB", "e": "AQAB" }),
            json!({ "kty": "ML-DSA", "pub": "AAAA" }),
            key.jwk("k", None),
        ];
        assert!(verifies(&keys, &key, "ES256", Some("k")));
        assert_eq!(JwkSet::of(&keys).keys.len(), 1);
    }

    #[test]
    fn decoys_with_the_same_name_are_passed_over() {
        // OIDC-10.1-01, FAPI-5.4.3-01, CS-FH-06
        let (key, other) = (Key::es256(), Key::es256());
        let mut encryption = other.jwk("k", None);
        encryption["use"] = "enc".into();
        let mut signing_only = other.jwk("k", None);
        signing_only["key_ops"] = json!(["sign"]);
        let decoys = [
            Key::rsa().jwk("k", Some("RS256")),
            Key::es384().jwk("k", None),
            Key::ed25519().jwk("k", None),
            encryption,
            signing_only,
            other.jwk("k", Some("ES384")),
            key.jwk("k", Some("ES256")),
        ];
        assert!(verifies(&decoys, &key, "ES256", Some("k")));
        let without_the_key: Vec<Value> = decoys[..6].to_vec();
        assert!(!verifies(&without_the_key, &other, "ES256", Some("k")));
    }

    #[test]
    fn an_rsa_key_is_for_the_algorithm_that_it_declares() {
        // OIDC-10.1-01
        let key = Key::rsa();
        assert!(verifies(&[key.jwk("k", Some("PS256"))], &key, "PS256", Some("k")));
        assert!(!verifies(&[key.jwk("k", Some("PS256"))], &key, "RS256", Some("k")));
        let bystander = Key::es256().jwk("other", None);
        assert!(!verifies(&[key.jwk("k", Some("RSA-OAEP")), bystander], &key, "RS256", Some("k")));
    }

    #[test]
    fn a_token_without_a_key_name_is_tried_against_all_suitable_keys() {
        // OIDC-10.1-02
        let key = Key::es256();
        assert!(verifies(&[key.jwk("a", None)], &key, "ES256", None));
        let others: Vec<Value> = (0..7).map(|_| Key::es256().jwk("o", None)).collect();
        assert!(verifies(&[others.clone(), vec![key.jwk("a", None)]].concat(), &key, "ES256", None));
        // ... but not against a heap of them.
        let heap = [others, vec![Key::es256().jwk("o", None), key.jwk("a", None)]].concat();
        assert!(!verifies(&heap, &key, "ES256", None));
    }

    #[test]
    fn a_key_without_a_name_may_be_any_but_another_name_is_another_key() {
        // OIDC-10.1-01
        let key = Key::es256();
        let mut nameless = key.jwk("k", None);
        nameless.as_object_mut().expect("is an object").remove("kid");
        assert!(verifies(&[nameless], &key, "ES256", Some("k")));
        assert!(!verifies(&[key.jwk("other", None)], &key, "ES256", Some("k")));
    }

    #[test]
    fn an_answer_without_a_key_of_use_is_no_key_set() {
        // ASM-C-02
        for (status, body) in [(200, r#"{"keys":[]}"#), (200, "{}"), (200, "[]"), (404, "{}"), (302, r#"{"keys":[]}"#)]
        {
            assert!(matches!(JwkSet::read(&answer(status, body)), Err(Error::IssuerMisbehaved(_))), "{status} {body}");
        }
    }

    /// Material of lengths that are right, nearly right and wrong.
    fn material() -> impl Strategy<Value = String> {
        proptest::sample::select(vec![0_usize, 1, 31, 32, 33, 48, 255, 256, 512, 513])
            .prop_flat_map(|length| proptest::collection::vec(any::<u8>(), length))
            .prop_map(|bytes| base64_simd::URL_SAFE_NO_PAD.encode_to_string(bytes))
    }

    #[test]
    fn no_key_material_makes_verification_panic() {
        let tokens = Key::all().into_iter().map(|(key, alg)| key.sign(&json!({ "alg": alg }), &json!({})));
        let tokens: Vec<String> = tokens.collect();
        let kinds = proptest::sample::select(vec![
            ("RSA", ""),
            ("EC", "P-256"),
            ("EC", "P-384"),
            ("EC", "Ed25519"),
            ("OKP", "Ed25519"),
            ("OKP", "P-256"),
        ]);
        let exponents = prop_oneof![Just("AQAB".to_owned()), material()];
        proptest!(|((kty, crv) in kinds, x in material(), y in material(), n in material(), e in exponents)| {
            let set = json!({ "keys": [{ "kty": kty, "crv": crv, "x": x, "y": y, "n": n, "e": e }] });
            let keys = JwkSet::read(&answer(200, &set.to_string())).unwrap_or_default();
            for token in &tokens {
                prop_assert!(Jws::parse("ID token", token).expect("parses").verify(&keys).is_err());
            }
        });
    }
}
