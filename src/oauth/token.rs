//! Token responses and refresh requests (RFC 6749 sections 5 and 6).

use std::time::Duration;

use bytes::Bytes;
use http::header::RETRY_AFTER;
use http::{Request, Response, StatusCode};

use super::client::Client;
use super::error::{Error, printable};
use super::id_token::{self, OriginalIdentity};
use super::json;
use super::jwks::JwkSet;
use super::metadata::AuthorizationServerMetadata;
use super::values::{AccessToken, RawIdToken, RefreshToken};
use crate::clock::Timestamp;

/// What a token request has brought.
#[derive(Debug)]
pub struct TokenSet {
    /// For API calls.
    pub access_token: AccessToken,
    /// How long it lives, if the server says.
    pub expires_in: Option<Duration>,
    /// For the next refresh. Absent in a refresh: the old one stays good.
    pub refresh_token: Option<RefreshToken>,
    /// Not verified yet.
    pub id_token: Option<RawIdToken>,
    /// What was granted, where the server says.
    pub scope: Option<String>,
    /// How long refreshing will go on, where the server says.
    pub refresh_expires_in: Option<Duration>,
}

impl TokenSet {
    /// Reads the answer of a token endpoint.
    ///
    /// # Errors
    /// If the server refused, or answered with something that is no token response.
    pub fn read(response: &Response<Bytes>) -> Result<Self, Error> {
        if response.status() != StatusCode::OK {
            return Err(refusal(response));
        }
        let body = json::object(response.body(), "the token response")?;
        let secret = |name: &'static str| -> Result<Option<String>, Error> {
            Ok(json::text(&body, name)?.filter(|text| !text.is_empty()).map(str::to_owned))
        };
        let access_token = secret("access_token")?.ok_or_else(|| Error::misbehaved("access_token is missing"))?;
        if !access_token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(Error::misbehaved("access_token holds characters that no header field can carry"));
        }
        // Plain OAuth servers have been seen to leave it out; what they mean is Bearer.
        if json::text(&body, "token_type")?.is_some_and(|kind| !kind.eq_ignore_ascii_case("bearer")) {
            return Err(Error::misbehaved("token_type is not Bearer"));
        }
        Ok(Self {
            access_token: AccessToken::new(access_token),
            expires_in: json::seconds(&body, "expires_in")?,
            refresh_token: secret("refresh_token")?.map(RefreshToken::new),
            id_token: secret("id_token")?.map(RawIdToken::new),
            scope: secret("scope")?,
            refresh_expires_in: json::seconds(&body, "refresh_expires_in")?.filter(|it| !it.is_zero()),
        })
    }
}

/// An answer that is not 200.
fn refusal(response: &Response<Bytes>) -> Error {
    let retry_after = response
        .headers()
        .get(RETRY_AFTER)
        .and_then(|value| value.to_str().ok()?.trim().parse().ok())
        .map(Duration::from_secs);
    let code = json::object(response.body(), "the error response")
        .ok()
        .and_then(|body| json::text(&body, "error").ok().flatten().map(printable));
    Error::IssuerRefused {
        error: code.unwrap_or_else(|| "no error code".to_owned()),
        status: response.status().as_u16(),
        retry_after,
    }
}

/// The refresh request. It never names a scope: at many servers a narrower one would stick.
pub fn refresh_request(
    client: &Client,
    metadata: &AuthorizationServerMetadata,
    refresh_token: &RefreshToken,
) -> Request<Vec<u8>> {
    let fields = [("grant_type", "refresh_token"), ("refresh_token", refresh_token.expose())];
    client.post(&metadata.token_endpoint, &fields)
}

/// Checks the ID token of a refresh, if there is one: it must speak of the same person, the same login and us
/// (OpenID Connect Core section 12.2).
///
/// # Errors
/// If it does not, or cannot be verified.
pub fn check_refreshed(
    original: &OriginalIdentity,
    tokens: &TokenSet,
    client: &Client,
    metadata: &AuthorizationServerMetadata,
    keys: &JwkSet,
    now: Timestamp,
) -> Result<(), Error> {
    let Some(token) = &tokens.id_token else { return Ok(()) };
    let fresh = id_token::verify(token, &tokens.access_token, client, metadata, keys, now)?;
    if metadata.issuer != original.issuer || fresh.subject != original.subject {
        return Err(Error::misbehaved("the refreshed ID token speaks of somebody else"));
    }
    if fresh.nonce.is_some_and(|nonce| nonce != original.nonce) {
        return Err(Error::misbehaved("the refreshed ID token's nonce is not that of the login"));
    }
    match (fresh.auth_time, original.auth_time) {
        (Some(now), Some(then)) if now != then => {
            Err(Error::misbehaved("the refreshed ID token's auth_time is not that of the login"))
        }
        (_, _) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::oauth::Verdict;

    fn read(status: u16, body: impl Into<Bytes>) -> Result<TokenSet, Error> {
        let mut response = Response::new(body.into());
        *response.status_mut() = StatusCode::from_u16(status).expect("a status");
        TokenSet::read(&response)
    }

    #[test]
    fn what_servers_vary_is_understood() {
        // O2-5.1-01, O2-5.1-02, O2-5.1-03
        let tokens = |body: serde_json::Value| read(200, body.to_string()).expect("reads");
        let lifetime = |value: serde_json::Value| tokens(json!({"access_token": "a", "expires_in": value})).expires_in;
        assert_eq!(lifetime(json!("3600")), Some(Duration::from_secs(3600)));
        assert_eq!(lifetime(json!(0)), Some(Duration::ZERO));
        assert_eq!(lifetime(json!(-1)), Some(Duration::ZERO));
        assert_eq!(lifetime(json!(1e12)), Some(Duration::from_secs(315_360_000)));
        assert_eq!(lifetime(json!(null)), None);
        let whole = tokens(json!({"access_token": "a", "token_type": "bEARER", "refresh_token": "r", "foo": [1]}));
        assert_eq!(whole.refresh_token, Some(RefreshToken::new("r".to_owned())));
        assert_eq!(tokens(json!({"access_token": "a", "refresh_token": ""})).refresh_token, None);
    }

    #[test]
    fn what_is_no_token_response_is_named() {
        for (body, named) in [
            (r#"{"token_type":"Bearer"}"#, "access_token"),
            (r#"{"access_token":7}"#, "access_token"),
            (r#"{"access_token":"a\nb"}"#, "access_token"),
            (r#"{"access_token":"a","token_type":"mac"}"#, "token_type"),
            (r#"{"access_token":"a","expires_in":"soon"}"#, "expires_in"),
            (r#"{"access_token":"a","refresh_token":{}}"#, "refresh_token"),
            (r#"{"access_token":"a","access_token":"b"}"#, "token response"),
            ("<html>", "token response"),
            ("", "token response"),
        ] {
            let error = read(200, body).expect_err(body);
            assert!(error.to_string().contains(named), "{error}");
            assert_eq!(error.verdict(), Verdict::Transient { retry_after: None });
        }
    }

    #[test]
    fn refusals_keep_their_code_and_nothing_else() {
        let error = read(400, r#"{"error":"invalid_grant","error_description":"SELECT canary"}"#).expect_err("refused");
        assert_eq!(error.verdict(), Verdict::InvalidGrant);
        assert!(!error.to_string().contains("canary"), "{error}");
        assert_eq!(read(400, "").expect_err("refused").verdict(), Verdict::Undetermined);
        assert_eq!(read(302, "").expect_err("refused").verdict(), Verdict::Undetermined);
        assert_eq!(read(503, "<html>").expect_err("refused").verdict(), Verdict::Transient { retry_after: None });
    }

    proptest! {
        #[test]
        fn reading_an_answer_never_panics(status in 100u16..999, body in proptest::collection::vec(any::<u8>(), 0..200)) {
            drop(read(status, body));
        }
    }
}
