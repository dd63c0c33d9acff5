//! Requests as they arrive at the issuer, and the shapes of its answers.

use std::fmt;

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::Response;
use serde_json::{Map, Value, json};
use url::{Url, form_urlencoded};

/// What the issuer offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Endpoint {
    /// `GET /.well-known/openid-configuration`
    Discovery,
    /// `GET /jwks`
    Jwks,
    /// `GET` and `POST /authorize`
    Authorize,
    /// `POST /token`
    Token,
    /// `POST /revoke`
    Revoke,
    /// `POST /par`
    Push,
    /// `GET` and `POST /end-session`
    EndSession,
    /// `GET` and `POST /userinfo`
    Userinfo,
}

impl Endpoint {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Discovery,
        Self::Jwks,
        Self::Authorize,
        Self::Token,
        Self::Revoke,
        Self::Push,
        Self::EndSession,
        Self::Userinfo,
    ];

    /// Its path below the issuer's URL.
    pub const fn path(self) -> &'static str {
        match self {
            Self::Discovery => "/.well-known/openid-configuration",
            Self::Jwks => "/jwks",
            Self::Authorize => "/authorize",
            Self::Token => "/token",
            Self::Revoke => "/revoke",
            Self::Push => "/par",
            Self::EndSession => "/end-session",
            Self::Userinfo => "/userinfo",
        }
    }

    pub(super) fn at(path: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|endpoint| endpoint.path() == path)
    }

    pub(super) const fn methods(self) -> &'static [Method] {
        match self {
            Self::Discovery | Self::Jwks => &[Method::GET],
            Self::Token | Self::Revoke | Self::Push => &[Method::POST],
            Self::Authorize | Self::EndSession | Self::Userinfo => &[Method::GET, Method::POST],
        }
    }
}

/// One request. It prints the names of its fields and none of their values.
#[derive(Clone)]
pub struct Received {
    /// Where it came in.
    pub endpoint: Endpoint,
    /// How.
    pub method: Method,
    /// The query's fields.
    pub query: Fields,
    /// The body's fields, if it was a form.
    pub form: Fields,
    /// Every header field.
    pub headers: HeaderMap,
}

impl Received {
    /// The value of a header field, if it is there and text.
    pub fn header(&self, name: header::HeaderName) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The credential behind this scheme in `Authorization`.
    pub(super) fn credential(&self, scheme: &str) -> Option<&str> {
        let (found, credential) = self.header(header::AUTHORIZATION)?.split_once(' ')?;
        found.eq_ignore_ascii_case(scheme).then_some(credential)
    }
}

impl fmt::Debug for Received {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} query {:?} form {:?}", self.method, self.endpoint.path(), self.query, self.form)
    }
}

/// Decoded form fields, in their order. It prints names only.
#[derive(Clone, Default)]
pub struct Fields(Vec<(String, String)>);

impl Fields {
    pub(super) fn parse(encoded: &[u8]) -> Self {
        Self(form_urlencoded::parse(encoded).into_owned().collect())
    }

    /// The first value under this name. Empty ones count as absent (RFC 6749 section 3.1).
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(found, _)| found == name)
            .map(|(_, value)| value.as_str())
            .filter(|value| !value.is_empty())
    }

    /// The first name that comes twice. RFC 8707 section 2 lets `resource` do so.
    pub(super) fn repeated(&self) -> Option<&str> {
        let mut names = self.names().filter(|name| *name != "resource");
        std::iter::from_fn(|| names.next().map(|name| (name, names.clone())))
            .find_map(|(name, mut rest)| rest.any(|other| other == name).then_some(name))
    }

    /// The names that there are, with their values.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// All but those with these names.
    pub(super) fn without(&self, names: &[&str]) -> Self {
        Self(self.0.iter().filter(|(name, _)| !names.contains(&name.as_str())).cloned().collect())
    }

    pub(super) fn encoded(&self) -> String {
        form_urlencoded::Serializer::new(String::new()).extend_pairs(&self.0).finish()
    }

    fn names(&self) -> impl Iterator<Item = &str> + Clone {
        self.0.iter().map(|(name, _)| name.as_str())
    }
}

impl fmt::Debug for Fields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.names()).finish()
    }
}

/// A JSON answer that nobody may keep.
pub(super) fn json_reply(status: StatusCode, body: Map<String, Value>) -> Response {
    reply(status, "application/json", Value::Object(body).to_string())
}

/// An error answer of the token and revocation endpoints (RFC 6749 section 5.2).
pub(super) fn refusal(status: StatusCode, error: &str, description: &str) -> Response {
    let body = [("error", json!(error)), ("error_description", json!(description))];
    json_reply(status, body.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}

/// Says how a client may prove who it is, or what it may do.
pub(super) fn challenge(mut response: Response, with: &'static str) -> Response {
    response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(with));
    response
}

/// A page for a person.
pub(super) fn page_reply(status: StatusCode, html: String) -> Response {
    let mut response = reply(status, "text/html; charset=utf-8", html);
    let policy = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'";
    response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy));
    // Not `no-referrer`: that would make the browser post the form with `Origin: null`.
    response.headers_mut().insert(header::REFERRER_POLICY, HeaderValue::from_static("same-origin"));
    response
}

/// A page for a person with a page of somebody else in a frame.
pub(super) fn framing_reply(html: String, frame: &Url) -> Response {
    let mut response = page_reply(StatusCode::OK, html);
    let origin = frame.origin().ascii_serialization();
    let policy = format!("default-src 'none'; style-src 'unsafe-inline'; frame-src {origin}; base-uri 'none'");
    if let Ok(policy) = HeaderValue::try_from(policy) {
        response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    response
}

/// Sends the browser on. 303, so that a posted form is never posted again elsewhere (RFC 9700 section 4.12).
pub(super) fn see_other(url: &Url) -> Response {
    let mut response = reply(StatusCode::SEE_OTHER, "text/plain", String::new());
    // A `Url` consists of ASCII without control characters.
    if let Ok(location) = HeaderValue::from_str(url.as_str()) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    response
}

/// An answer without more to say.
pub(super) fn bare(status: StatusCode) -> Response {
    reply(status, "text/plain", String::new())
}

fn reply(status: StatusCode, media_type: &'static str, body: String) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
