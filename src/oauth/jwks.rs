//! The authorization server's signing keys (RFC 7517), and which of them may have signed a token.

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, crypto};
use serde_json::Value;
use url::Url;

use super::client::get;
use super::error::Error;
use super::json;

/// A set of public keys.
#[derive(Clone, Debug, Default)]
pub struct JwkSet(Vec<Jwk>);

/// More keys than this are not tried on one signature.
const MAX_TRIED: usize = 8;

impl JwkSet {
    /// The request for the document at `uri`.
    pub fn request(uri: &Url) -> Request<Vec<u8>> {
        get(uri)
    }

    /// Reads the document, key by key: one of a type that we do not know does not spoil the others.
    ///
    /// # Errors
    /// If it is no key set.
    pub fn read(response: &Response<Bytes>) -> Result<Self, Error> {
        if response.status() != StatusCode::OK {
            return Err(Error::misbehaved(format!("its keys came with status {}", response.status().as_u16())));
        }
        let document = json::object(response.body(), "its key set")?;
        let Some(Value::Array(keys)) = document.get("keys") else {
            return Err(Error::misbehaved("its key set has no list of keys"));
        };
        Ok(Self(keys.iter().filter_map(|key| serde_json::from_value(key.clone()).ok()).collect()))
    }

    /// Whether one of these keys has made `signature` over `message`.
    pub(super) fn verifies(&self, kid: Option<&str>, alg: Algorithm, message: &str, signature: &str) -> bool {
        self.0.iter().filter(|key| fits(key, kid, alg)).take(MAX_TRIED).any(|key| {
            DecodingKey::from_jwk(key)
                .and_then(|key| crypto::verify(signature, message.as_bytes(), &key, alg))
                .is_ok_and(|valid| valid)
        })
    }
}

/// Chosen by `kid`, and by type, use, algorithm and curve, because several keys may share a `kid` (RFC 7517 section 4.5).
fn fits(key: &Jwk, kid: Option<&str>, alg: Algorithm) -> bool {
    let common = &key.common;
    let named = match (kid, &common.key_id) {
        (Some(wanted), Some(present)) => wanted == present,
        (Some(_) | None, _) => true,
    };
    let signs = matches!(common.public_key_use, None | Some(PublicKeyUse::Signature));
    let of_algorithm = common.key_algorithm.is_none_or(|it| it == KeyAlgorithm::from(alg));
    named && signs && of_algorithm && of_type(&key.algorithm, alg)
}

fn of_type(parameters: &AlgorithmParameters, alg: Algorithm) -> bool {
    match parameters {
        AlgorithmParameters::RSA(_) => matches!(
            alg,
            Algorithm::RS256
                | Algorithm::RS384
                | Algorithm::RS512
                | Algorithm::PS256
                | Algorithm::PS384
                | Algorithm::PS512
        ),
        AlgorithmParameters::EllipticCurve(it) => matches!(
            (&it.curve, alg),
            (EllipticCurve::P256, Algorithm::ES256) | (EllipticCurve::P384, Algorithm::ES384)
        ),
        AlgorithmParameters::OctetKeyPair(it) => it.curve == EllipticCurve::Ed25519 && alg == Algorithm::EdDSA,
        AlgorithmParameters::OctetKey(_) | AlgorithmParameters::Other(_) => false,
        #[expect(clippy::wildcard_enum_match_arm, reason = "the enum is not exhaustive")]
        _ => false,
    }
}
