//! ID tokens: which are believed (OpenID Connect Core section 3.1.3.7).

use std::time::Duration;

use serde_json::{Map, Value};

use super::client::Client;
use super::document::Document;
use super::error::{Error, Misbehaviour, presentable};
use super::jwks::JwkSet;
use super::jws::{Algorithm, Jws};
use super::metadata::AuthorizationServerMetadata;
use super::values::{AccessToken, Nonce, RawIdToken};
use crate::clock::Timestamp;
use crate::secret::constant_time_eq;

/// An ID token whose signature, issuer, audience and times are in order. What it is compared with beyond that differs
/// between a login and a refresh.
pub(super) struct IdToken {
    claims: Document,
    subject: String,
    issued_at: Timestamp,
    auth_time: Option<Timestamp>,
    nonce: Option<Nonce>,
}

/// An ID token is issued when it is asked for; one that is older was kept somewhere.
const MAX_AGE: Duration = Duration::from_secs(24 * 3600);
/// A server's clock may be ahead by this much even if less is configured: `iat` alone makes nothing valid.
const MAX_AHEAD: Duration = Duration::from_secs(600);
/// The longest `sub` (OpenID Connect Core section 2), in ASCII characters.
const MAX_SUBJECT: usize = 255;
/// The claims that speak to the protocol and not of the person.
const PROTOCOL_CLAIMS: [&str; 12] =
    ["iss", "sub", "aud", "azp", "exp", "nbf", "iat", "nonce", "at_hash", "c_hash", "s_hash", "jti"];

impl IdToken {
    /// Makes every check that logins and refreshes share. The signature comes first: nothing else is read before.
    ///
    /// # Errors
    /// [`Error::UnknownKey`] if no key verifies the signature; [`Error::IssuerMisbehaved`] with what is wrong.
    pub(super) fn verify(
        raw: &RawIdToken,
        access_token: &AccessToken,
        client: &Client,
        metadata: &AuthorizationServerMetadata,
        keys: &JwkSet,
        now: Timestamp,
    ) -> Result<Self, Error> {
        let jws = Jws::parse("ID token", raw.expose())?;
        // Logout tokens, access tokens and the like are no ID tokens (RFC 8725 section 3.11).
        if !jws.kind().is_none_or(|kind| kind.eq_ignore_ascii_case("JWT")) {
            return Err(Misbehaviour::from("ID token: typ is not JWT").into());
        }
        if !metadata
            .id_token_signing_alg_values_supported
            .iter()
            .any(|it| Algorithm::named(it) == Some(jws.algorithm()))
        {
            return Err(Misbehaviour::from("ID token: alg is none of those that the metadata announces").into());
        }
        let claims = Document::read("ID token", &jws.verify(keys)?)?;
        if claims.required_text("iss")? != metadata.issuer.as_str() {
            return Err(claims.fault("iss", "is another issuer").into());
        }
        examine_audience(&claims, client)?;
        let issued_at = examine_times(&claims, client.clock_skew, now)?;
        examine_access_token_hash(&claims, jws.algorithm(), access_token)?;
        let subject = claims.required_text("sub")?.to_owned();
        if subject.len() > MAX_SUBJECT || !subject.is_ascii() {
            return Err(claims.fault("sub", "is not 1 to 255 ASCII characters").into());
        }
        let auth_time = claims.moment("auth_time")?;
        let nonce = claims.text("nonce")?.map(|it| Nonce::new(it.to_owned()));
        Ok(Self { claims, subject, issued_at, auth_time, nonce })
    }

    pub(super) fn subject(&self) -> &str {
        &self.subject
    }

    pub(super) const fn issued_at(&self) -> Timestamp {
        self.issued_at
    }

    pub(super) const fn auth_time(&self) -> Option<Timestamp> {
        self.auth_time
    }

    pub(super) const fn nonce(&self) -> Option<&Nonce> {
        self.nonce.as_ref()
    }

    pub(super) fn text(&self, claim: &str) -> Result<Option<String>, Misbehaviour> {
        Ok(self.claims.text(claim)?.map(str::to_owned))
    }

    pub(super) fn fault(&self, claim: &str, what: &str) -> Misbehaviour {
        self.claims.fault(claim, what)
    }

    /// What it says of the person.
    pub(super) fn into_claims(self) -> Map<String, Value> {
        let mut claims = self.claims.into_members();
        claims.retain(|name, _| !PROTOCOL_CLAIMS.contains(&name.as_str()));
        claims
    }
}

/// Steps 3 to 5: for us, and for nobody whom we do not trust.
fn examine_audience(claims: &Document, client: &Client) -> Result<(), Misbehaviour> {
    let audience = claims.texts("aud")?.ok_or_else(|| claims.fault("aud", "is absent"))?;
    let us = client.id.as_str();
    if !audience.iter().any(|it| it == us) {
        return Err(claims.fault("aud", "does not name this client"));
    }
    if let Some(stranger) = audience.iter().find(|it| *it != us && !client.trusted_audiences.contains(it)) {
        let what = format!("also names {:?}, which is not among the trusted audiences", presentable(stranger));
        return Err(claims.fault("aud", &what));
    }
    match claims.text("azp")? {
        Some(azp) if azp != us => Err(claims.fault("azp", "is another client")),
        Some(_) | None => Ok(()),
    }
}

/// Steps 9 and 10, and `nbf` (RFC 7519 section 4.1.5). Returns `iat`.
fn examine_times(claims: &Document, skew: Duration, now: Timestamp) -> Result<Timestamp, Misbehaviour> {
    if now >= claims.required_moment("exp")? + skew {
        return Err(claims.fault("exp", "has passed; compare this machine's clock"));
    }
    if claims.moment("nbf")?.is_some_and(|it| it > now + skew) {
        return Err(claims.fault("nbf", "lies in the future; compare this machine's clock"));
    }
    let issued_at = claims.required_moment("iat")?;
    if issued_at > now + skew.max(MAX_AHEAD) {
        return Err(claims.fault("iat", "lies in the future; compare this machine's clock"));
    }
    if now.since(issued_at) > MAX_AGE {
        return Err(claims.fault("iat", "is more than a day ago"));
    }
    Ok(issued_at)
}

/// Section 3.1.3.8: the access token is the one that came with this ID token.
fn examine_access_token_hash(
    claims: &Document,
    algorithm: Algorithm,
    access_token: &AccessToken,
) -> Result<(), Misbehaviour> {
    match claims.text("at_hash")? {
        Some(hash) if !constant_time_eq(hash.as_bytes(), algorithm.half_hash(access_token.expose()).as_bytes()) => {
            Err(claims.fault("at_hash", "is not that of the access token"))
        }
        Some(_) | None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
