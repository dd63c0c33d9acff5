//! The UserInfo endpoint: what it is asked, and which of its answers are believed (OpenID Connect Core section 5.3).

use std::fmt;

use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use serde_json::{Map, Value};

use super::client::{Client, Protocol};
use super::document::Document;
use super::dpop::TokenScheme;
use super::error::{Error, Misbehaviour};
use super::id_token::PROTOCOL_CLAIMS;
use super::jwks::JwkSet;
use super::jwt::{Rules, SignedClaims, examine_validity};
use super::metadata::AuthorizationServerMetadata;
use super::tenants::Tid;
use super::values::AccessToken;
use crate::clock::Timestamp;

/// What the UserInfo endpoint says of somebody. Whom it means is not established before
/// [`VerifiedLogin::joined_by`](super::VerifiedLogin::joined_by).
pub struct UserInfo(Document);

const NAME: &str = "UserInfo response";

/// What only an ID token can say: the endpoint knows the access token and not the login that it came from.
const OF_THE_LOGIN: [&str; 4] = ["auth_time", "acr", "amr", "sid"];

/// The request for what is known of the person, with the access token in the header by this `scheme`; none if the client
/// does not ask.
///
/// # Errors
/// [`Error::IssuerMisbehaved`] if the client asks and the server names no such endpoint.
pub fn userinfo_request(
    client: &Client,
    metadata: &AuthorizationServerMetadata,
    access_token: &AccessToken,
    scheme: TokenScheme,
) -> Result<Option<http::Request<Vec<u8>>>, Error> {
    if !client.userinfo || client.protocol == Protocol::OAuth {
        return Ok(None);
    }
    let endpoint = metadata.userinfo_endpoint.as_ref().ok_or_else(|| {
        Misbehaviour::from("metadata: userinfo_endpoint is absent; set issuer.userinfo = false to do without it")
    })?;
    let presented = scheme.presented(access_token);
    let presented = presented.ok_or_else(|| Misbehaviour::from("token response: access_token fits into no header"))?;
    let mut request = endpoint.get();
    let headers = request.headers_mut();
    headers.insert(header::ACCEPT, HeaderValue::from_static("application/json, application/jwt;q=0.9"));
    headers.insert(header::AUTHORIZATION, presented);
    Ok(Some(request))
}

impl UserInfo {
    /// Reads an answer: a JSON object, or a signed JWT if it is called one (section 5.3.2).
    ///
    /// # Errors
    /// [`Error::UnknownKey`] if no key verifies a signature; [`Error::IssuerMisbehaved`] with what is wrong.
    pub fn read(
        response: &http::Response<Bytes>,
        client: &Client,
        metadata: &AuthorizationServerMetadata,
        keys: &JwkSet,
        now: Timestamp,
    ) -> Result<Self, Error> {
        if response.status() != StatusCode::OK {
            return Err(Misbehaviour::from(format!("{NAME}: status {}, not 200", response.status().as_u16())).into());
        }
        if !is_jwt(response) {
            return Ok(Self(Document::read(NAME, response.body())?));
        }
        let raw = std::str::from_utf8(response.body().trim_ascii());
        let raw = raw.map_err(|_| Misbehaviour::from(format!("{NAME}: not a signed token in compact form")))?;
        let announced = metadata.userinfo_signing_alg_values_supported.as_ref();
        let announced = announced.unwrap_or(&metadata.id_token_signing_alg_values_supported);
        let kinds = [None, Some("JWT")];
        let rules = Rules { name: NAME, kinds: &kinds, tid: Tid::IfThere, client, metadata, keys, now };
        let SignedClaims { claims, .. } = SignedClaims::verify(raw, announced, &rules)?;
        examine_validity(&claims, client.clock_skew, now)?;
        Ok(Self(claims))
    }

    /// What it says of the person, if that person is `subject`.
    pub(super) fn claims_of(self, subject: Option<&str>) -> Result<Map<String, Value>, Misbehaviour> {
        if Some(self.0.required_text("sub")?) != subject {
            return Err(self.0.fault("sub", "is not that of the ID token"));
        }
        let mut claims = self.0.into_members();
        claims.retain(|name, value| {
            let name = name.as_str();
            !value.is_null() && !PROTOCOL_CLAIMS.contains(&name) && !OF_THE_LOGIN.contains(&name)
        });
        Ok(claims)
    }
}

/// Of whom it speaks is not for the log.
impl fmt::Debug for UserInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UserInfo").finish_non_exhaustive()
    }
}

fn is_jwt(response: &http::Response<Bytes>) -> bool {
    let content_type = response.headers().get(header::CONTENT_TYPE).and_then(|it| it.to_str().ok()).unwrap_or_default();
    let essence = content_type.split(';').next().unwrap_or_default();
    essence.trim().eq_ignore_ascii_case("application/jwt")
}

#[cfg(test)]
mod tests;
