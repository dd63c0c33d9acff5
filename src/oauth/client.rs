//! Who we are at the authorization server, and how we show it.

use std::time::Duration;

use http::{HeaderValue, Method, header};
use url::form_urlencoded;

use super::endpoint::Endpoint;
use super::metadata::AuthorizationServerMetadata;
use super::values::{ClientId, ClientSecret};

/// Our registration at one authorization server.
#[derive(Clone, Debug)]
pub struct Client {
    /// The name that the server knows us by.
    pub id: ClientId,
    /// How we show that it is us.
    pub authentication: ClientAuthentication,
    /// Where the browser comes back to. It comes from configuration, never from a request, and is sent letter by letter.
    pub redirect_uri: String,
    /// What the server speaks.
    pub protocol: Protocol,
    /// Whether a login also asks the UserInfo endpoint who somebody is (OpenID Connect Core section 5.3).
    pub userinfo: bool,
    /// The scopes to ask for; none means those that a login and refreshing need, see [`requested_scopes`].
    ///
    /// [`requested_scopes`]: Self::requested_scopes
    pub scopes: Option<Vec<String>>,
    /// Further parameters of the authorization request, such as `audience`. They never replace one of the protocol.
    pub extra_params: Vec<(String, String)>,
    /// Audiences besides ourselves that an ID token may name (OpenID Connect Core section 3.1.3.7, step 3).
    pub trusted_audiences: Vec<String>,
    /// How far the server's clock may be from ours.
    pub clock_skew: Duration,
}

/// What an authorization server speaks.
#[must_use]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    /// It says in a signed ID token who has logged in.
    #[default]
    OpenIdConnect,
    /// It issues tokens and says nothing about the person: possession of a token is no identity (RFC 6749 section 10.16).
    OAuth,
}

/// How a client authenticates at the token endpoint. A server holds a client to the one method that it registered.
#[derive(Clone, Debug)]
pub enum ClientAuthentication {
    /// HTTP Basic (`client_secret_basic`, RFC 6749 section 2.3.1).
    Basic(ClientSecret),
    /// In the form (`client_secret_post`).
    Post(ClientSecret),
}

/// The scope that makes a request one of OpenID Connect.
pub(super) const OPENID: &str = "openid";
/// The scope that many servers want to see before they issue a refresh token.
pub(super) const OFFLINE_ACCESS: &str = "offline_access";
/// What is asked for where the server announces it: who somebody is, and refreshing.
const USUAL: [&str; 3] = ["profile", "email", OFFLINE_ACCESS];

impl Client {
    /// The scopes that a login asks for: the configured ones, or else `profile`, `email` and `offline_access` where the
    /// server announces them; with OpenID Connect `openid` comes first in any case (OpenID Connect Core section 3.1.2.1).
    pub fn requested_scopes(&self, metadata: &AuthorizationServerMetadata) -> Vec<String> {
        let announced = || {
            let known = metadata.scopes_supported.iter().flatten();
            known.filter(|it| USUAL.contains(&it.as_str())).cloned().collect()
        };
        let mut scopes: Vec<String> = self.scopes.clone().unwrap_or_else(announced);
        if self.protocol == Protocol::OpenIdConnect && !scopes.iter().any(|it| it == OPENID) {
            scopes.insert(0, OPENID.to_owned());
        }
        scopes
    }

    /// The scope parameter of a login that asks for `more` besides.
    pub(super) fn scope(&self, metadata: &AuthorizationServerMetadata, more: Option<&str>) -> String {
        let mut scopes = self.requested_scopes(metadata);
        for scope in more.into_iter().flat_map(str::split_ascii_whitespace) {
            if !scopes.iter().any(|it| it == scope) {
                scopes.push(scope.to_owned());
            }
        }
        scopes.join(" ")
    }

    /// A form that is sent to `endpoint` with our authentication, by exactly one method (RFC 6749 section 2.3).
    ///
    /// No field may be empty or occur twice: some servers refuse the request (RFC 6749 section 3.2).
    pub(super) fn form(&self, endpoint: &Endpoint, fields: &[(&str, &str)]) -> http::Request<Vec<u8>> {
        let mut form = form_urlencoded::Serializer::new(String::new());
        form.extend_pairs(fields.iter().filter(|(_, value)| !value.is_empty()));
        let authorization = match &self.authentication {
            ClientAuthentication::Basic(secret) => Some(self.basic(secret)),
            ClientAuthentication::Post(secret) => {
                form.append_pair("client_id", self.id.as_str()).append_pair("client_secret", secret.expose());
                None
            }
        };
        let mut request = http::Request::new(form.finish().into_bytes());
        *request.method_mut() = Method::POST;
        *request.uri_mut() = endpoint.uri().clone();
        let headers = request.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
        headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        if let Some(authorization) = authorization {
            headers.insert(header::AUTHORIZATION, authorization);
        }
        request
    }

    fn basic(&self, secret: &ClientSecret) -> HeaderValue {
        // Each half is form-urlencoded before they are joined, so that a colon in the id cannot move the border.
        let encode = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
        let pair = format!("{}:{}", encode(self.id.as_str()), encode(secret.expose()));
        let text = format!("Basic {}", base64_simd::STANDARD.encode_to_string(pair));
        // Base64 is always a header value; an empty one would be refused by the server, not believed.
        let mut value = HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static(""));
        value.set_sensitive(true);
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oauth::endpoint::PlainHttp;
    use crate::oauth::testing::{client, fields, metadata};

    fn endpoint() -> Endpoint {
        Endpoint::parse("https://as.test/token?tenant=1", PlainHttp::LoopbackOnly).expect("is an endpoint")
    }

    #[test]
    fn basic_encodes_both_halves_and_the_body_says_nothing() {
        // O2-2.3-01, O2-2.3.1-01
        let client = Client {
            id: ClientId::new("a:b".into()),
            authentication: ClientAuthentication::Basic(ClientSecret::new("s:%+& é".into())),
            ..client()
        };
        let request = client.form(&endpoint(), &[("grant_type", "x")]);
        let value = request.headers()[header::AUTHORIZATION].clone();
        assert!(value.is_sensitive());
        let encoded = value.to_str().expect("is text").strip_prefix("Basic ").expect("is basic").to_owned();
        let pair = base64_simd::STANDARD.decode_to_vec(encoded).expect("is base64");
        assert_eq!(pair, b"a%3Ab:s%3A%25%2B%26+%C3%A9");
        assert_eq!(fields(&request), [("grant_type".to_owned(), "x".to_owned())]);
    }

    #[test]
    fn post_puts_the_secret_into_the_form_and_nothing_into_the_header() {
        // O2-2.3-01, O2-2.3.1-02, O2-3.2-01, O21-3.2-01
        let client = Client { authentication: ClientAuthentication::Post(ClientSecret::new("s&=".into())), ..client() };
        let request = client.form(&endpoint(), &[("grant_type", "x"), ("empty", "")]);
        assert_eq!(request.headers().get(header::AUTHORIZATION), None);
        assert_eq!(request.body(), b"grant_type=x&client_id=app&client_secret=s%26%3D");
        assert_eq!(request.uri(), "https://as.test/token?tenant=1");
        assert_eq!(request.method(), Method::POST);
        assert_eq!(request.headers()[header::CONTENT_TYPE], "application/x-www-form-urlencoded");
        assert_eq!(request.headers()[header::ACCEPT], "application/json");
    }

    #[test]
    fn scopes_are_the_usual_ones_that_are_announced_unless_they_are_configured() {
        // OIDC-3.1.2.1-01, BCP-2.3-01
        let silent = metadata();
        let mut announcing = metadata();
        announcing.scopes_supported =
            Some(vec!["openid".into(), "email".into(), "offline_access".into(), "everything".into()]);
        let scopes = |protocol, configured: Option<&[&str]>, metadata| {
            let scopes = configured.map(|it| it.iter().map(|&it| it.to_owned()).collect());
            Client { protocol, scopes, ..client() }.requested_scopes(metadata).join(" ")
        };
        assert_eq!(scopes(Protocol::OpenIdConnect, None, &silent), "openid");
        assert_eq!(scopes(Protocol::OpenIdConnect, None, &announcing), "openid email offline_access");
        assert_eq!(scopes(Protocol::OpenIdConnect, Some(&["api"]), &announcing), "openid api");
        assert_eq!(scopes(Protocol::OpenIdConnect, Some(&["api", "openid"]), &announcing), "api openid");
        assert_eq!(scopes(Protocol::OAuth, None, &silent), "");
        assert_eq!(scopes(Protocol::OAuth, Some(&["api"]), &announcing), "api");
    }

    #[test]
    fn a_client_prints_no_secret() {
        // BCP-4.9-01
        let client =
            Client { authentication: ClientAuthentication::Post(ClientSecret::new("canary".into())), ..client() };
        assert!(!format!("{client:?}").contains("canary"));
    }
}
