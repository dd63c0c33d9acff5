//! Logout tokens: which are believed (OpenID Connect Back-Channel Logout section 2.6).

use std::fmt;

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::client::Client;
use super::error::Error;
use super::jwks::JwkSet;
use super::jwt::{Jwt, Rules};
use super::metadata::AuthorizationServerMetadata;
use super::tenants::Tid;
use super::values::Issuer;
use crate::clock::Timestamp;

/// The word of the authorization server that sessions are over, after every check. Only [`verify`](Self::verify) makes
/// one.
///
/// It names a person, a session at the issuer, or both, and it names nothing else: with a session it means that one,
/// without one it means all sessions of the person (section 2.7).
#[derive(Clone, PartialEq, Eq)]
pub struct LogoutToken {
    issuer: Issuer,
    subject: Option<String>,
    issuer_session: Option<String>,
    issued_at: Timestamp,
    refused_from: Timestamp,
    jti: String,
}

/// The member of `events` that makes a token a logout token (section 2.4).
const EVENT: &str = "http://schemas.openid.net/event/backchannel-logout";
const NAME: &str = "logout token";

impl LogoutToken {
    /// Reads and checks a token as it was received. What it is called in its header (`typ`) must not be another kind;
    /// with `strict_typ` it must be `logout+jwt`, which many servers do not send yet (section 2.4).
    ///
    /// # Errors
    /// [`Error::UnknownKey`] if no key verifies the signature; [`Error::IssuerMisbehaved`] with what is wrong. Anybody can
    /// send a bad token, so before the signature is verified the fault need not be the issuer's.
    pub fn verify(
        raw: &str,
        client: &Client,
        metadata: &AuthorizationServerMetadata,
        keys: &JwkSet,
        strict_typ: bool,
        now: Timestamp,
    ) -> Result<Self, Error> {
        let kinds: &[_] = if strict_typ { &[Some("logout+jwt")] } else { &[Some("logout+jwt"), Some("JWT"), None] };
        let token = Jwt::verify(raw, &Rules { name: NAME, kinds, tid: Tid::IfThere, client, metadata, keys, now })?;
        let subject = token.subject()?;
        let claims = &token.claims;
        let issuer_session = claims.text("sid")?.map(str::to_owned);
        if subject.is_none() && issuer_session.is_none() {
            return Err(claims.fault("sub", "is absent, and so is sid: it names no session").into());
        }
        // A security event token of another kind is no logout token (RFC 8417 section 2.2), nor is an ID token.
        if !claims.value("events").and_then(|events| events.get(EVENT)).is_some_and(Value::is_object) {
            return Err(claims.fault("events", "does not hold the logout event").into());
        }
        if claims.value("nonce").is_some() {
            return Err(claims.fault("nonce", "is there, as only an ID token has it").into());
        }
        Ok(Self {
            issuer: token.issuer.clone(),
            jti: claims.required_text("jti")?.to_owned(),
            subject,
            issuer_session,
            issued_at: token.issued_at,
            refused_from: token.refused_from,
        })
    }

    /// The issuer that says so: where the server has tenants, that of one of them.
    pub const fn issuer(&self) -> &Issuer {
        &self.issuer
    }

    /// The person (`sub`), if it names one.
    pub fn subject(&self) -> Option<&str> {
        self.subject.as_deref()
    }

    /// The session at the issuer (`sid`), if it names one.
    pub fn issuer_session(&self) -> Option<&str> {
        self.issuer_session.as_deref()
    }

    /// When it was issued, by the issuer's clock.
    pub const fn issued_at(&self) -> Timestamp {
        self.issued_at
    }

    /// From when on it is refused, whatever it claims: its name need not be remembered for longer.
    pub const fn refused_from(&self) -> Timestamp {
        self.refused_from
    }

    /// Its name (`jti`), which no other token of this issuer has.
    pub fn jti(&self) -> &str {
        &self.jti
    }

    /// A hash of its name and its issuer, which nothing else that is remembered by a hash shares.
    pub fn fingerprint(&self) -> [u8; 32] {
        // Each text with its length, so that the border between them cannot be moved.
        let mut hash = Sha256::new();
        for text in [NAME, self.issuer.as_str(), &self.jti] {
            hash.update(u64::try_from(text.len()).unwrap_or(u64::MAX).to_be_bytes());
            hash.update(text);
        }
        hash.finalize().into()
    }
}

/// Whom it speaks of is not for the log.
impl fmt::Debug for LogoutToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogoutToken")
            .field("names_subject", &self.subject.is_some())
            .field("names_issuer_session", &self.issuer_session.is_some())
            .field("issued_at", &self.issued_at)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
