//! ID tokens: which are believed (OpenID Connect Core section 3.1.3.7).

use serde_json::{Map, Value};

use super::client::Client;
use super::document::Document;
use super::error::{Error, Misbehaviour};
use super::jwks::JwkSet;
use super::jws::Algorithm;
use super::jwt::{Jwt, Rules};
use super::metadata::AuthorizationServerMetadata;
use super::tenants::Tid;
use super::values::{AccessToken, Issuer, Nonce, RawIdToken};
use crate::clock::Timestamp;
use crate::secret::constant_time_eq;

/// An ID token whose signature, issuer, audience and times are in order. What it is compared with beyond that differs
/// between a login and a refresh.
pub(super) struct IdToken {
    claims: Document,
    issuer: Issuer,
    subject: String,
    issued_at: Timestamp,
    auth_time: Option<Timestamp>,
    nonce: Option<Nonce>,
}

/// The claims that speak to the protocol and not of the person; and those that say where others are to be fetched, which
/// nobody does here and which may hold a token (OpenID Connect Core section 5.6.2).
pub(super) const PROTOCOL_CLAIMS: [&str; 14] = [
    "iss",
    "sub",
    "aud",
    "azp",
    "exp",
    "nbf",
    "iat",
    "nonce",
    "at_hash",
    "c_hash",
    "s_hash",
    "jti",
    "_claim_names",
    "_claim_sources",
];

impl IdToken {
    /// Makes every check that logins and refreshes share.
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
        let kinds = [None, Some("JWT")];
        let rules = Rules { name: "ID token", kinds: &kinds, tid: Tid::Required, client, metadata, keys, now };
        let token = Jwt::verify(raw.expose(), &rules)?;
        let subject = token.subject()?.ok_or_else(|| token.claims.fault("sub", "is absent"))?;
        let Jwt { claims, issuer, algorithm, issued_at, .. } = token;
        examine_access_token_hash(&claims, algorithm, access_token)?;
        let auth_time = claims.moment("auth_time")?;
        let nonce = claims.text("nonce")?.map(|it| Nonce::new(it.to_owned()));
        Ok(Self { claims, issuer, subject, issued_at, auth_time, nonce })
    }

    /// Whose it is: the server's own issuer, or that of one tenant.
    pub(super) const fn issuer(&self) -> &Issuer {
        &self.issuer
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
