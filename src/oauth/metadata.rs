//! What an authorization server says of itself (RFC 8414, OpenID Connect Discovery 1.0).

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use url::{Host, Url};

use super::client::get;
use super::error::Error;
use super::json;
use super::values::Issuer;

/// Metadata that was fetched from the issuer and found acceptable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthorizationServerMetadata {
    /// Identical to the configured issuer.
    pub issuer: Issuer,
    /// Where people sign in.
    pub authorization_endpoint: Url,
    /// Where codes and refresh tokens are redeemed.
    pub token_endpoint: Url,
    /// Where the signing keys are.
    pub jwks_uri: Option<Url>,
    /// Where tokens are revoked (RFC 7009).
    pub revocation_endpoint: Option<Url>,
    /// Where the issuer's own session ends (OpenID Connect RP-Initiated Logout 1.0).
    pub end_session_endpoint: Option<Url>,
    /// The scopes that it knows; empty if it does not say.
    pub scopes_supported: Vec<String>,
    /// The algorithms that it signs ID tokens with; RS256 if it does not say.
    pub id_token_signing_alg_values_supported: Vec<String>,
    /// Whether it sends `iss` in every authorization response (RFC 9207 section 3).
    pub authorization_response_iss_parameter_supported: bool,
}

/// Whether an issuer outside of this machine may be spoken to without TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlainHttp {
    /// It may not. Loopback addresses may always.
    Refused,
    /// It may: the operator said so.
    Allowed,
}

impl PlainHttp {
    /// Whether `url` may be spoken to.
    pub fn permits(self, url: &Url) -> bool {
        match url.scheme() {
            "https" => true,
            "http" => self == Self::Allowed || is_loopback(url),
            _ => false,
        }
    }
}

/// Whether `url` names this very machine.
fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

impl AuthorizationServerMetadata {
    /// The request for the document of `issuer` (OpenID Connect Discovery section 4.1).
    ///
    /// # Errors
    /// If the issuer is no URL.
    pub fn request(issuer: &Issuer) -> Result<Request<Vec<u8>>, Error> {
        let base = issuer.as_str().strip_suffix('/').unwrap_or(issuer.as_str());
        let url = format!("{base}/.well-known/openid-configuration");
        let url: Url = url.parse().map_err(|_| Error::misbehaved("the issuer is not a URL"))?;
        Ok(get(&url))
    }

    /// Reads the document. Nothing of it is used unless it speaks of exactly this `issuer` (section 4.3).
    ///
    /// # Errors
    /// If it is not acceptable; the error names the member.
    pub fn read(issuer: &Issuer, plain_http: PlainHttp, response: &Response<Bytes>) -> Result<Self, Error> {
        if response.status() != StatusCode::OK {
            return Err(Error::misbehaved(format!("its metadata came with status {}", response.status().as_u16())));
        }
        let document = json::object(response.body(), "its metadata")?;
        let stated =
            json::text(&document, "issuer")?.ok_or_else(|| Error::misbehaved("its metadata names no issuer"))?;
        if stated != issuer.as_str() {
            let stated: String = stated.chars().filter(char::is_ascii_graphic).take(200).collect();
            return Err(Error::misbehaved(format!(
                "its metadata names the issuer {stated:?}, configured is {:?}; they must be the same to the letter",
                issuer.as_str()
            )));
        }
        let optional = |name: &'static str| -> Result<Option<Url>, Error> {
            let Some(text) = json::text(&document, name)? else { return Ok(None) };
            let url: Url = text.parse().map_err(|_| Error::misbehaved(format!("{name} is not a URL")))?;
            if !plain_http.permits(&url) {
                return Err(Error::misbehaved(format!("{name} is not https")));
            }
            Ok(Some(url))
        };
        let required = |name| optional(name)?.ok_or_else(|| Error::misbehaved(format!("{name} is missing")));
        Ok(Self {
            issuer: issuer.clone(),
            authorization_endpoint: required("authorization_endpoint")?,
            token_endpoint: required("token_endpoint")?,
            jwks_uri: optional("jwks_uri")?,
            revocation_endpoint: optional("revocation_endpoint")?,
            end_session_endpoint: optional("end_session_endpoint")?,
            scopes_supported: json::texts(&document, "scopes_supported")?.unwrap_or_default(),
            id_token_signing_alg_values_supported: json::texts(&document, "id_token_signing_alg_values_supported")?
                .unwrap_or_else(|| vec!["RS256".to_owned()]),
            authorization_response_iss_parameter_supported: document
                .get("authorization_response_iss_parameter_supported")
                .is_some_and(|flag| flag == true),
        })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// The metadata of a server that has everything.
    pub(in crate::oauth) fn metadata() -> AuthorizationServerMetadata {
        read("https://as.test", &document()).expect("acceptable")
    }

    fn document() -> Value {
        json!({
            "issuer": "https://as.test",
            "authorization_endpoint": "https://as.test/authorize?p=policy",
            "token_endpoint": "https://as.test/token",
            "jwks_uri": "https://as.test/jwks",
            "revocation_endpoint": "https://as.test/revoke",
            "end_session_endpoint": "https://as.test/end?x=1",
            "scopes_supported": ["openid", "profile", "offline_access"],
            "id_token_signing_alg_values_supported": ["ES256", "RS256", "HS256", "none"],
            "authorization_response_iss_parameter_supported": true,
        })
    }

    fn read(issuer: &str, document: &Value) -> Result<AuthorizationServerMetadata, Error> {
        let response = Response::new(Bytes::from(document.to_string()));
        AuthorizationServerMetadata::read(&Issuer::new(issuer.to_owned()), PlainHttp::Refused, &response)
    }

    #[test]
    fn the_document_is_where_discovery_says() {
        // DISC-4.1-01
        for (issuer, url) in [
            ("https://as.test", "https://as.test/.well-known/openid-configuration"),
            ("https://as.test/", "https://as.test/.well-known/openid-configuration"),
            ("https://as.test/a/b", "https://as.test/a/b/.well-known/openid-configuration"),
            ("https://as.test/a/", "https://as.test/a/.well-known/openid-configuration"),
        ] {
            let request = AuthorizationServerMetadata::request(&Issuer::new(issuer.to_owned())).expect("a request");
            assert_eq!(request.uri(), url);
        }
    }

    #[test]
    fn another_issuer_is_refused_however_near_it_is() {
        // DISC-4.3-01, ISS-R-01
        for near in ["https://as.test/", "https://AS.test", "https://as.test:443", "https://as.test.x"] {
            let mut document = document();
            document["issuer"] = near.into();
            assert!(read("https://as.test", &document).is_err(), "{near}");
            assert!(read(near, &document).is_ok(), "{near}");
        }
    }

    #[test]
    fn what_is_missing_wrong_or_insecure_is_named() {
        // DISC-3-01, ASM-2-02
        for (member, value) in [
            ("token_endpoint", Value::Null),
            ("token_endpoint", json!("http://as.test/token")),
            ("authorization_endpoint", json!(7)),
            ("jwks_uri", json!("not a url")),
            ("end_session_endpoint", json!("javascript:alert(1)")),
            ("scopes_supported", json!("openid")),
        ] {
            let mut document = document();
            document[member] = value;
            let error = read("https://as.test", &document).expect_err(member);
            assert!(error.to_string().contains(member), "{error}");
        }
    }

    #[test]
    fn anything_but_an_object_with_status_200_is_refused() {
        // ASM-3.1-01
        let issuer = Issuer::new("https://as.test".to_owned());
        for (status, body) in [(200, "<html>"), (200, "[]"), (204, ""), (302, "{}"), (500, "{}")] {
            let mut response = Response::new(Bytes::from(body));
            *response.status_mut() = StatusCode::from_u16(status).expect("a status");
            let read = AuthorizationServerMetadata::read(&issuer, PlainHttp::Refused, &response);
            assert!(read.is_err(), "{status} {body}");
        }
    }

    #[test]
    fn a_minimal_document_gets_the_defaults() {
        // ASM-2-01
        let document = json!({
            "issuer": "http://localhost:9",
            "authorization_endpoint": "http://localhost:9/a",
            "token_endpoint": "http://127.0.0.1:9/t",
        });
        let metadata = read("http://localhost:9", &document).expect("acceptable");
        assert_eq!(metadata.id_token_signing_alg_values_supported, ["RS256"]);
        assert!(!metadata.authorization_response_iss_parameter_supported);
    }
}
