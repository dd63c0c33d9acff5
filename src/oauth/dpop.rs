//! Proof of possession (DPoP, RFC 9449): the key that a session's tokens are bound to, and the proofs that it signs.
//!
//! A stolen token is then good for nobody who has not stolen the key too, and the key never leaves this machine unsealed.
//! Proofs are signed by *ring*: it is in the tree below rustls, and signs several times as fast as what `jsonwebtoken` does
//! (`benches/dpop.rs`).

use std::fmt;

use http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use jsonwebtoken::EncodingKey;
use jsonwebtoken::jwk::{AlgorithmParameters, Jwk};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::document::Document;
use super::values::AccessToken;
use crate::clock::Timestamp;
use crate::secret::{Random, Secret};

/// How an access token is presented, and so what kind it is (RFC 6749 section 7.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TokenScheme {
    /// Whoever has it may use it (RFC 6750).
    #[default]
    Bearer,
    /// Whoever has the key may use it (RFC 9449 section 5).
    DPoP,
}

impl TokenScheme {
    /// Its name in `Authorization` and `token_type`, which are compared without regard to case.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bearer => "Bearer",
            Self::DPoP => "DPoP",
        }
    }

    /// How tokens are presented that are bound to `key`, or to none.
    pub const fn of(key: Option<&ProofKey>) -> Self {
        match key {
            Some(_) => Self::DPoP,
            None => Self::Bearer,
        }
    }

    /// The `Authorization` field that presents `token`; none if the token fits into no field.
    pub fn presented(self, token: &AccessToken) -> Option<HeaderValue> {
        let mut value = HeaderValue::try_from(format!("{} {}", self.name(), token.expose())).ok()?;
        value.set_sensitive(true);
        Some(value)
    }
}

/// An algorithm that proofs are signed by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ProofAlgorithm {
    /// ECDSA over P-256, which every server takes.
    #[default]
    Es256,
    /// Ed25519, for servers that take it and not the other.
    EdDsa,
}

impl ProofAlgorithm {
    /// The algorithm to use with a server that `announces` these (`dpop_signing_alg_values_supported`, section 5.1); none if
    /// there is none that both know. A server that announces nothing is taken to know the usual one.
    pub fn among(announced: Option<&[String]>) -> Option<Self> {
        let Some(announced) = announced else { return Some(Self::Es256) };
        let has = |wanted: &str| announced.iter().any(|it| it == wanted);
        if has("ES256") {
            Some(Self::Es256)
        } else if has("EdDSA") || has("Ed25519") {
            Some(Self::EdDsa)
        } else {
            None
        }
    }
}

/// The private key that the tokens of one session are bound to. It prints nothing of itself.
///
/// It is sealed with the session as its 32 bytes. To sign it has to be [prepared](Self::prepare).
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProofKey {
    algorithm: ProofAlgorithm,
    secret: Secret<[u8; 32]>,
}

/// The order of P-256 (SEC 2 section 2.4.2): private keys are numbers from 1 to below it.
const ORDER: [u8; 32] = [
    0xff, 0xff, 0xff, 0xff, 0x00, 0x00, 0x00, 0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, //
    0xbc, 0xe6, 0xfa, 0xad, 0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
];
/// What stands before the 32 bytes of a P-256 key in PKCS #8 (RFC 5208, RFC 5915), without the public half.
const PKCS8_P256: &[u8] = &[
    0x30, 0x41, 0x02, 0x01, 0x00, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a,
    0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x04, 0x27, 0x30, 0x25, 0x02, 0x01, 0x01, 0x04, 0x20,
];

impl ProofKey {
    /// A new key for proofs by `algorithm`.
    pub fn generate(algorithm: ProofAlgorithm, random: &dyn Random) -> Self {
        let secret = loop {
            let secret = random.bytes::<32>();
            let is_key = match algorithm {
                // Numbers out of range are drawn again, so that all keys are equally likely (FIPS 186-5 appendix A.2.2).
                ProofAlgorithm::Es256 => secret != [0; 32] && secret < ORDER,
                ProofAlgorithm::EdDsa => true,
            };
            if is_key {
                break secret;
            }
        };
        Self { algorithm, secret: Secret::new(secret) }
    }

    /// The key in the form that signs. This takes several times as long as signing, so the result is worth keeping.
    ///
    /// # Errors
    /// If the bytes are no key: not for one that was [generated](Self::generate).
    pub fn prepare(&self) -> Result<ProofSigner, InvalidProofKey> {
        let secret = self.secret.expose();
        let (pair, alg, jwk) = match self.algorithm {
            ProofAlgorithm::Es256 => {
                let document = Zeroizing::new([PKCS8_P256, secret.as_slice()].concat());
                let key = EncodingKey::from_ec_der(&document);
                let public = Jwk::from_encoding_key(&key, jsonwebtoken::Algorithm::ES256);
                let AlgorithmParameters::EllipticCurve(point) = public.map_err(|_| InvalidProofKey)?.algorithm else {
                    return Err(InvalidProofKey);
                };
                let decode = |part: &str| base64_simd::URL_SAFE_NO_PAD.decode_to_vec(part).map_err(|_| InvalidProofKey);
                let uncompressed = [vec![4], decode(&point.x)?, decode(&point.y)?].concat();
                let pair = EcdsaKeyPair::from_private_key_and_public_key(
                    &ECDSA_P256_SHA256_FIXED_SIGNING,
                    secret,
                    &uncompressed,
                    &SystemRandom::new(),
                );
                let pair = Pair::Es256(pair.map_err(|_| InvalidProofKey)?, SystemRandom::new());
                let jwk = PublicKey { crv: "P-256", kty: "EC", x: point.x, y: Some(point.y) };
                (pair, "ES256", jwk)
            }
            ProofAlgorithm::EdDsa => {
                let pair = Ed25519KeyPair::from_seed_unchecked(secret).map_err(|_| InvalidProofKey)?;
                let x = base64_simd::URL_SAFE_NO_PAD.encode_to_string(pair.public_key());
                (Pair::EdDsa(pair), "EdDSA", PublicKey { crv: "Ed25519", kty: "OKP", x, y: None })
            }
        };
        // Members in the order of their names, as a thumbprint has them (RFC 7638 section 3).
        let text = serde_json::to_string(&jwk).map_err(|_| InvalidProofKey)?;
        let header = format!(r#"{{"typ":"{TYPE}","alg":"{alg}","jwk":{text}}}"#);
        Ok(ProofSigner {
            pair,
            header: base64_simd::URL_SAFE_NO_PAD.encode_to_string(header),
            thumbprint: base64_simd::URL_SAFE_NO_PAD.encode_to_string(Sha256::digest(text)),
        })
    }
}

impl fmt::Debug for ProofKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProofKey").field("algorithm", &self.algorithm).finish_non_exhaustive()
    }
}

/// The bytes are no private key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the bytes are no key that proofs are signed with")]
pub struct InvalidProofKey;

/// A [`ProofKey`] that is ready to sign.
pub struct ProofSigner {
    pair: Pair,
    /// The header of every proof, encoded.
    header: String,
    thumbprint: String,
}

enum Pair {
    /// Its signatures hold a number that nobody may guess; *ring* takes it from the operating system alone, and mixes key and
    /// message into it.
    Es256(EcdsaKeyPair, SystemRandom),
    EdDsa(Ed25519KeyPair),
}

/// The public half (RFC 7517), with nothing that a thumbprint does not have.
#[derive(Serialize)]
struct PublicKey {
    crv: &'static str,
    kty: &'static str,
    x: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    y: Option<String>,
}

/// What a proof says (section 4.2).
#[derive(Serialize)]
struct Claims<'a> {
    jti: &'a str,
    htm: &'a str,
    htu: &'a str,
    iat: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    ath: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    nonce: Option<&'a str>,
}

/// What one proof is to show.
#[derive(Clone, Copy)]
pub struct Proof<'a> {
    /// The method of the request.
    pub method: &'a Method,
    /// Its target, absolute, as the server that gets it sees it. Query and fragment are left off.
    pub target: &'a str,
    /// The access token that the request carries; none at the authorization server's own endpoints.
    pub access_token: Option<&'a AccessToken>,
    /// The newest nonce of that server.
    pub nonce: Option<&'a str>,
    /// The present moment: no proof is made beforehand (section 11.2).
    pub now: Timestamp,
    /// Unguessable bytes, for the name of the proof.
    pub random: &'a dyn Random,
}

/// What a proof says it is (section 4.2).
const TYPE: &str = "dpop+jwt";
/// The field that a proof travels in.
const PROOF: HeaderName = HeaderName::from_static("dpop");
/// The field that a server's nonce comes in (section 8.1).
const NONCE: HeaderName = HeaderName::from_static("dpop-nonce");
/// The error by which a server demands a nonce (sections 8 and 9).
const USE_NONCE: &str = "use_dpop_nonce";
/// A longer nonce is not taken, in bytes: it would go into every request.
const MAX_NONCE: usize = 1024;

impl ProofSigner {
    /// The thumbprint of the key, by which servers know it (RFC 7638; `jkt`, RFC 9449 section 6.1).
    pub fn thumbprint(&self) -> &str {
        &self.thumbprint
    }

    /// A proof as the value of the `DPoP` field, good for one request.
    ///
    /// # Errors
    /// If the operating system has no random bytes for the signature.
    pub fn sign(&self, proof: &Proof<'_>) -> Result<HeaderValue, InvalidProofKey> {
        let target = proof.target.split(['?', '#']).next().unwrap_or_default();
        // 128 random bits (section 4.2 asks for 96 at the least).
        let jti = base64_simd::URL_SAFE_NO_PAD.encode_to_string(proof.random.bytes::<16>());
        let hashed =
            |token: &AccessToken| base64_simd::URL_SAFE_NO_PAD.encode_to_string(Sha256::digest(token.expose()));
        let claims = Claims {
            jti: &jti,
            htm: proof.method.as_str(),
            htu: target,
            iat: proof.now.as_secs(),
            ath: proof.access_token.map(hashed),
            nonce: proof.nonce,
        };
        let claims = serde_json::to_vec(&claims).map_err(|_| InvalidProofKey)?;
        let mut token = String::with_capacity(self.header.len() + claims.len() * 4 / 3 + 96);
        token.push_str(&self.header);
        token.push('.');
        base64_simd::URL_SAFE_NO_PAD.encode_append(&claims, &mut token);
        let signature = match &self.pair {
            Pair::Es256(pair, random) => pair.sign(random, token.as_bytes()).map_err(|_| InvalidProofKey)?,
            Pair::EdDsa(pair) => pair.sign(token.as_bytes()),
        };
        token.push('.');
        base64_simd::URL_SAFE_NO_PAD.encode_append(signature.as_ref(), &mut token);
        HeaderValue::try_from(token).map_err(|_| InvalidProofKey)
    }

    /// Puts a proof on `request`, whose target is absolute; with `access_token`, of that one too. The proof takes the place of
    /// any other.
    ///
    /// # Errors
    /// As [`sign`](Self::sign).
    pub fn prove(
        &self,
        request: &mut http::Request<Vec<u8>>,
        access_token: Option<&AccessToken>,
        nonce: Option<&str>,
        now: Timestamp,
        random: &dyn Random,
    ) -> Result<(), InvalidProofKey> {
        let target = request.uri().to_string();
        let proof = Proof { method: request.method(), target: &target, access_token, nonce, now, random };
        let proof = self.sign(&proof)?;
        request.headers_mut().insert(PROOF, proof);
        Ok(())
    }
}

impl fmt::Debug for ProofSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProofSigner").field("thumbprint", &self.thumbprint).finish_non_exhaustive()
    }
}

/// The fields that present `token` with a proof of its key to the server at `proof.target`; none if there is no proof.
pub fn bound_fields(signer: &ProofSigner, proof: &Proof<'_>) -> Option<[(HeaderName, HeaderValue); 2]> {
    let presented = TokenScheme::DPoP.presented(proof.access_token?)?;
    Some([(AUTHORIZATION, presented), (PROOF, signer.sign(proof).ok()?)])
}

/// The nonce that an answer brings, whatever its status (section 8.2); none that could not go into a proof.
pub fn nonce_in(fields: &HeaderMap) -> Option<&str> {
    let mut all = fields.get_all(NONCE).iter();
    let nonce = all.next()?.to_str().ok()?;
    // NQCHAR of RFC 6749 appendix A, as section 8.1 has it.
    let fits = |byte: u8| matches!(byte, 0x21 | 0x23..=0x5b | 0x5d..=0x7e);
    let usable = !nonce.is_empty() && nonce.len() <= MAX_NONCE && nonce.bytes().all(fits);
    (usable && all.next().is_none()).then_some(nonce)
}

/// Whether a resource server refuses a request because its proof has not the nonce that it wants (section 9).
pub fn resource_demands_nonce(status: StatusCode, fields: &HeaderMap) -> bool {
    status == StatusCode::UNAUTHORIZED && challenges_for_nonce(fields)
}

/// Whether the authorization server does (section 8). Some say so in the body, some in a challenge.
pub fn server_demands_nonce(response: &http::Response<bytes::Bytes>) -> bool {
    match response.status() {
        StatusCode::BAD_REQUEST | StatusCode::UNAUTHORIZED => {
            let document = Document::read("refusal", response.body()).ok();
            let said = document.as_ref().and_then(|it| it.text("error").ok().flatten());
            said == Some(USE_NONCE) || challenges_for_nonce(response.headers())
        }
        _ => false,
    }
}

fn challenges_for_nonce(fields: &HeaderMap) -> bool {
    let texts = fields.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
    let mut challenges = texts.flat_map(|text| http_auth::ChallengeParser::new(text).map_while(Result::ok));
    challenges.any(|challenge| {
        challenge.scheme.eq_ignore_ascii_case(TokenScheme::DPoP.name())
            && challenge
                .params
                .iter()
                .any(|(name, value)| name.eq_ignore_ascii_case("error") && value.to_unescaped() == USE_NONCE)
    })
}

#[cfg(test)]
mod tests;
