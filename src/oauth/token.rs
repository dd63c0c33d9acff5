//! The token endpoint: what it answers, and how it is asked for fresh tokens.

use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::answer::refusal;
use super::client::{Client, Proofs, Protocol};
use super::document::{Document, seconds};
use super::dpop::TokenScheme;
use super::error::Error;
use super::id_token::IdToken;
use super::jwks::JwkSet;
use super::metadata::AuthorizationServerMetadata;
use super::values::{AccessToken, Issuer, Nonce, RawIdToken, RefreshToken};
use crate::clock::Timestamp;

/// What the token endpoint has issued (RFC 6749 section 5.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenSet {
    /// What API calls carry: a token that fits into a header.
    pub access_token: AccessToken,
    /// How long it lives; none if the server does not say, or says nothing that can be meant.
    pub expires_in: Option<Duration>,
    /// The next refresh token; none leaves the one before in force.
    pub refresh_token: Option<RefreshToken>,
    /// Who has logged in. Not verified yet.
    pub id_token: Option<RawIdToken>,
    /// The scope that was granted; none means what was asked for.
    pub scope: Option<String>,
    /// How long the refresh token lives, at servers that say so; at some this is an idle time that each refresh renews.
    pub refresh_expires_in: Option<Duration>,
}

/// A longer lifetime is cut to this: more is a slip of the server, and sums of it would overflow.
const MAX_LIFETIME: Duration = Duration::from_secs(365 * 24 * 3600);

impl TokenSet {
    /// Reads an answer of the token endpoint whose tokens are to be of this `scheme`. Those of another are discarded: a token
    /// that is not bound where it has to be is good for whoever finds it (RFC 9449 section 5).
    ///
    /// What only informs is read with leniency, because a refusal here would lose tokens that may be the only ones left:
    /// an unreadable lifetime or scope counts as none, and an absent `token_type` as Bearer, which plain OAuth servers
    /// leave out.
    ///
    /// # Errors
    /// [`Error::IssuerRefused`] if the server says no, [`Error::IssuerMisbehaved`] if it is in trouble or its answer is
    /// malformed; [`Error::verdict`] tells what that means for a refresh token.
    pub fn read(response: &http::Response<Bytes>, scheme: TokenScheme) -> Result<Self, Error> {
        if let Some(error) = refusal("token response", &[StatusCode::OK], response) {
            return Err(error);
        }
        let document = Document::read("token response", response.body())?;
        let access_token = document.required_text("access_token")?;
        if !access_token.bytes().all(|it| it.is_ascii_graphic()) {
            return Err(document.fault("access_token", "holds characters that no header can carry").into());
        }
        let is = |scheme: TokenScheme, kind: &str| kind.eq_ignore_ascii_case(scheme.name());
        match (scheme, document.text("token_type")?) {
            (TokenScheme::Bearer, Some(kind)) if !is(TokenScheme::Bearer, kind) => {
                return Err(document.fault("token_type", "is not Bearer").into());
            }
            (TokenScheme::DPoP, kind) if !kind.is_some_and(|kind| is(TokenScheme::DPoP, kind)) => {
                let what = "is not DPoP; have the issuer bind this client's tokens, or set issuer.dpop = false";
                return Err(document.fault("token_type", what).into());
            }
            (TokenScheme::Bearer | TokenScheme::DPoP, _) => {}
        }
        let lifetime = |member| document.value(member).and_then(lifetime);
        Ok(Self {
            access_token: AccessToken::new(access_token.to_owned()),
            expires_in: lifetime("expires_in"),
            refresh_token: document.text("refresh_token")?.map(|it| RefreshToken::new(it.to_owned())),
            id_token: document.text("id_token")?.map(|it| RawIdToken::new(it.to_owned())),
            scope: document.texts("scope").unwrap_or_default().map(|it| it.join(" ")).filter(|it| !it.is_empty()),
            refresh_expires_in: lifetime("refresh_expires_in").or_else(|| lifetime("refresh_token_expires_in")),
        })
    }
}

/// A request to the token endpoint.
pub(super) fn token_request(
    client: &Client,
    metadata: &AuthorizationServerMetadata,
    fields: &[(&str, &str)],
    proofs: &Proofs<'_>,
) -> http::Request<Vec<u8>> {
    let endpoint = client.door(&metadata.token_endpoint, metadata.mtls_endpoint_aliases.token_endpoint.as_ref());
    client.form(metadata, endpoint, fields, proofs)
}

/// The same for what API calls usually carry: a token for the configured resources (RFC 8707 section 2.2).
pub(super) fn usual_token_request(
    client: &Client,
    metadata: &AuthorizationServerMetadata,
    fields: &[(&str, &str)],
    proofs: &Proofs<'_>,
) -> http::Request<Vec<u8>> {
    let resources = client.requests.resources.iter().map(|resource| ("resource", resource.as_str()));
    let fields: Vec<_> = fields.iter().copied().chain(resources).collect();
    token_request(client, metadata, &fields, proofs)
}

/// The request for fresh tokens (RFC 6749 section 6).
///
/// It never names a scope: at many servers a narrower one would stick.
pub fn refresh_request(
    client: &Client,
    metadata: &AuthorizationServerMetadata,
    refresh_token: &RefreshToken,
    proofs: &Proofs<'_>,
) -> http::Request<Vec<u8>> {
    let fields = [("grant_type", "refresh_token"), ("refresh_token", refresh_token.expose())];
    usual_token_request(client, metadata, &fields, proofs)
}

/// Who logged in, as the ID token of the login said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OriginalIdentity {
    /// The issuer: where the server has tenants, that of one of them.
    pub issuer: Issuer,
    /// The person, unique within the issuer; none with plain OAuth, which says nothing of persons.
    pub subject: Option<String>,
    /// When the person authenticated, if the server said.
    pub auth_time: Option<Timestamp>,
    /// The nonce of the login.
    pub nonce: Option<Nonce>,
}

/// Checks that refreshed tokens speak of the same person (OpenID Connect Core section 12.2).
///
/// That there is no ID token among them is normal.
///
/// # Errors
/// [`Error::UnknownKey`] if no key verifies the ID token; [`Error::IssuerMisbehaved`] with the claim that differs.
pub fn check_refreshed(
    original: &OriginalIdentity,
    tokens: &TokenSet,
    client: &Client,
    metadata: &AuthorizationServerMetadata,
    keys: &JwkSet,
    now: Timestamp,
) -> Result<(), Error> {
    let Some(raw) = tokens.id_token.as_ref().filter(|_| client.protocol == Protocol::OpenIdConnect) else {
        return Ok(());
    };
    let token = IdToken::verify(raw, &tokens.access_token, client, metadata, keys, now)?;
    let differs = |claim| Err(token.fault(claim, "is not that of the login").into());
    if *token.issuer() != original.issuer {
        return differs("iss");
    }
    if original.subject.as_deref() != Some(token.subject()) {
        return differs("sub");
    }
    if original.auth_time.is_some() && token.auth_time().is_some_and(|it| Some(it) != original.auth_time) {
        return differs("auth_time");
    }
    if token.nonce().is_some_and(|it| Some(it) != original.nonce.as_ref()) {
        return differs("nonce");
    }
    Ok(())
}

/// A lifetime as a number or as its text. Zero and less is what servers say that mean "none" or "unknown".
fn lifetime(value: &Value) -> Option<Duration> {
    let seconds = value.as_str().map_or_else(|| seconds(value), |text| text.trim().parse().ok())?;
    (seconds > 0).then(|| Duration::from_secs(seconds).min(MAX_LIFETIME))
}

#[cfg(test)]
mod tests;
