//! ID tokens: signature by the library, claims by us, because time is an argument here (OpenID Connect Core 3.1.3.7).

use std::str::FromStr;
use std::time::Duration;

use jsonwebtoken::{Algorithm, Header, decode_header};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256, Sha384, Sha512};

use super::client::Client;
use super::error::Error;
use super::json;
use super::jwks::JwkSet;
use super::metadata::AuthorizationServerMetadata;
use super::values::{AccessToken, Issuer, Nonce, RawIdToken};
use crate::clock::Timestamp;
use crate::secret::constant_time_eq;

/// Who an ID token spoke of at the login; a refreshed one must speak of the same (section 12.2).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OriginalIdentity {
    /// The issuer.
    pub issuer: Issuer,
    /// The person, within that issuer.
    pub subject: String,
    /// When the person authenticated, if it was said.
    pub auth_time: Option<Timestamp>,
    /// The nonce of the login.
    pub nonce: Nonce,
}

/// The claims of an ID token whose signature, issuer, audience and times are good.
#[derive(Debug)]
pub(super) struct VerifiedClaims {
    pub(super) subject: String,
    pub(super) issued_at: Timestamp,
    pub(super) auth_time: Option<Timestamp>,
    pub(super) nonce: Option<Nonce>,
    pub(super) acr: Option<String>,
    pub(super) sid: Option<String>,
    pub(super) all: Map<String, Value>,
}

/// Longer tokens are refused unread, in bytes.
const MAX_LEN: usize = 64 * 1024;
/// A token that was issued longer ago than this did not come from the request that was just made.
const OLDEST: Duration = Duration::from_secs(86_400);

/// Verifies an ID token, all but the rules that depend on the occasion (nonce, `max_age`, `acr`).
pub(super) fn verify(
    token: &RawIdToken,
    access_token: &AccessToken,
    client: &Client,
    metadata: &AuthorizationServerMetadata,
    keys: &JwkSet,
    now: Timestamp,
) -> Result<VerifiedClaims, Error> {
    let (algorithm, claims) = signed_claims(token, metadata, keys)?;
    let wrong = |what: &'static str| Error::misbehaved(format!("the ID token's {what}"));

    if json::text(&claims, "iss")? != Some(metadata.issuer.as_str()) {
        return Err(wrong("iss is not the issuer"));
    }
    check_audience(&claims, client)?;
    let skew = client.clock_skew;
    let expires = time(&claims, "exp")?.ok_or_else(|| wrong("exp is missing"))?;
    if expires + skew <= now {
        return Err(wrong("exp has passed; check the clocks"));
    }
    let issued_at = time(&claims, "iat")?.ok_or_else(|| wrong("iat is missing"))?;
    if issued_at > now + skew {
        return Err(wrong("iat lies in the future; check the clocks"));
    }
    if now.since(issued_at) > OLDEST {
        return Err(wrong("iat lies too far back"));
    }
    if time(&claims, "nbf")?.is_some_and(|not_before| not_before > now + skew) {
        return Err(wrong("nbf lies in the future; check the clocks"));
    }
    let subject = json::text(&claims, "sub")?.unwrap_or_default();
    if subject.is_empty() || subject.len() > 255 || !subject.is_ascii() {
        return Err(wrong("sub is missing, or not 1 to 255 ASCII characters"));
    }
    if let Some(stated) = json::text(&claims, "at_hash")?
        && !constant_time_eq(stated.as_bytes(), half_hash(algorithm, access_token.expose()).as_bytes())
    {
        return Err(wrong("at_hash is not that of the access token"));
    }
    let owned = |name| json::text(&claims, name).map(|text| text.map(str::to_owned));
    Ok(VerifiedClaims {
        subject: subject.to_owned(),
        issued_at,
        auth_time: time(&claims, "auth_time")?,
        nonce: owned("nonce")?.map(Nonce::new),
        acr: owned("acr")?,
        sid: owned("sid")?,
        all: claims,
    })
}

/// The payload of a token that one of `keys` has signed.
fn signed_claims(
    token: &RawIdToken,
    metadata: &AuthorizationServerMetadata,
    keys: &JwkSet,
) -> Result<(Algorithm, Map<String, Value>), Error> {
    let text = token.expose();
    if text.len() > MAX_LEN {
        return Err(Error::misbehaved("the ID token is larger than 64 KiB"));
    }
    let wrong = |what: &'static str| Error::misbehaved(format!("the ID token {what}"));
    let (message, signature) = text.rsplit_once('.').ok_or_else(|| wrong("is not a compact JWT"))?;
    let (head, payload) = message.split_once('.').ok_or_else(|| wrong("is not a compact JWT"))?;
    let decode = |part: &str| base64_simd::URL_SAFE_NO_PAD.decode_to_vec(part).ok();
    // Read once more by us, because a member that stands there twice means different things to different readers.
    json::object(&decode(head).ok_or_else(|| wrong("is not base64url"))?, "the ID token's head")?;
    let header: Header = decode_header(text).map_err(|_| wrong("is signed in a way that is not supported"))?;
    check_header(&header, metadata)?;
    if !keys.verifies(header.kid.as_deref(), header.alg, message, signature) {
        return Err(Error::UnknownKey);
    }
    let payload = decode(payload).ok_or_else(|| wrong("is not base64url"))?;
    Ok((header.alg, json::object(&payload, "the ID token's payload")?))
}

fn check_header(header: &Header, metadata: &AuthorizationServerMetadata) -> Result<(), Error> {
    const ASYMMETRIC: [Algorithm; 9] = [
        Algorithm::RS256,
        Algorithm::RS384,
        Algorithm::RS512,
        Algorithm::PS256,
        Algorithm::PS384,
        Algorithm::PS512,
        Algorithm::ES256,
        Algorithm::ES384,
        Algorithm::EdDSA,
    ];
    let announced = |name: &String| Algorithm::from_str(name).is_ok_and(|it| it == header.alg);
    if !ASYMMETRIC.contains(&header.alg) || !metadata.id_token_signing_alg_values_supported.iter().any(announced) {
        return Err(Error::misbehaved("the ID token is signed with an algorithm that the metadata does not announce"));
    }
    if header.crit.is_some() {
        return Err(Error::misbehaved("the ID token's crit names extensions that are not understood"));
    }
    if header.typ.as_deref().is_some_and(|typ| !typ.eq_ignore_ascii_case("JWT")) {
        return Err(Error::misbehaved("the ID token's typ is that of another kind of token"));
    }
    Ok(())
}

/// We are the audience, alone; and the party that it was issued to, if one is named.
fn check_audience(claims: &Map<String, Value>, client: &Client) -> Result<(), Error> {
    let us = |value: &Value| value.as_str() == Some(client.id.as_str());
    let fits = match claims.get("aud") {
        Some(Value::Array(all)) => !all.is_empty() && all.iter().all(us),
        Some(one) => us(one),
        None => false,
    };
    if !fits {
        return Err(Error::misbehaved("the ID token's aud is not this client alone"));
    }
    if json::text(claims, "azp")?.is_some_and(|party| party != client.id.as_str()) {
        return Err(Error::misbehaved("the ID token's azp is another client"));
    }
    Ok(())
}

/// A NumericDate (RFC 7519 section 2); fractions are dropped.
fn time(claims: &Map<String, Value>, name: &'static str) -> Result<Option<Timestamp>, Error> {
    match claims.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => match value.as_u64().or_else(|| value.as_f64().map(|seconds| seconds.max(0.0) as u64)) {
            Some(seconds) => Ok(Some(Timestamp::from_secs(seconds))),
            None => Err(Error::misbehaved(format!("the ID token's {name} is not a number"))),
        },
    }
}

/// The left half of the hash that goes with the signature (section 3.1.3.6).
fn half_hash(algorithm: Algorithm, token: &str) -> String {
    let digest: Vec<u8> = match algorithm {
        Algorithm::RS384 | Algorithm::PS384 | Algorithm::ES384 => Sha384::digest(token).to_vec(),
        Algorithm::RS512 | Algorithm::PS512 | Algorithm::EdDSA => Sha512::digest(token).to_vec(),
        #[expect(clippy::wildcard_enum_match_arm, reason = "the enum is not exhaustive; the others are refused before")]
        _ => Sha256::digest(token).to_vec(),
    };
    let half = digest.get(..digest.len() / 2).unwrap_or_default();
    base64_simd::URL_SAFE_NO_PAD.encode_to_string(half)
}

#[cfg(test)]
pub(super) mod tests;
