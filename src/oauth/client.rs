//! As whom we speak to the authorization server.

use std::time::Duration;

use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderValue, Method, Request};
use url::Url;
use url::form_urlencoded::{Serializer, byte_serialize};

use super::metadata::AuthorizationServerMetadata;
use super::values::{ClientId, ClientSecret};

/// The registered client.
#[derive(Clone, Debug)]
pub struct Client {
    /// Its identifier.
    pub id: ClientId,
    /// How it proves to be itself.
    pub authentication: ClientAuthentication,
    /// Where authorization responses are sent to, exactly as registered.
    pub redirect_uri: String,
    /// What it asks for.
    pub scopes: Scopes,
    /// Further parameters of the authorization request. They cannot replace those of the protocol.
    pub extra_params: Vec<(String, String)>,
    /// By how much the authorization server's clock may differ from ours.
    pub clock_skew: Duration,
}

/// How a client authenticates. One method in each request (RFC 6749 section 2.3).
#[derive(Clone, Debug)]
pub enum ClientAuthentication {
    /// `client_secret_basic`.
    Basic(ClientSecret),
    /// `client_secret_post`.
    Post(ClientSecret),
}

/// The scopes that a login asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scopes {
    /// `openid profile email`, and `offline_access` where the server announces it.
    Usual,
    /// These, as they are.
    Exactly(Vec<String>),
}

impl Client {
    /// The scopes that a login asks this server for.
    pub fn requested_scopes(&self, metadata: &AuthorizationServerMetadata) -> Vec<String> {
        match &self.scopes {
            Scopes::Exactly(scopes) => scopes.clone(),
            Scopes::Usual => {
                let announced = |scope: &str| metadata.scopes_supported.iter().any(|it| it == scope);
                // A server that announces its scopes may refuse others; one that does not knows the usual ones.
                let known = |scope: &&str| metadata.scopes_supported.is_empty() || announced(scope);
                let mut scopes = vec!["openid".to_owned()];
                scopes.extend(["profile", "email"].into_iter().filter(known).map(str::to_owned));
                scopes.extend(announced("offline_access").then(|| "offline_access".to_owned()));
                scopes
            }
        }
    }

    /// A form posted to `endpoint` by this client, authenticated (RFC 6749 sections 2.3 and 3.2).
    pub(super) fn post(&self, endpoint: &Url, fields: &[(&str, &str)]) -> Request<Vec<u8>> {
        let mut form = Serializer::new(String::new());
        form.extend_pairs(fields);
        let mut authorization = None;
        match &self.authentication {
            ClientAuthentication::Basic(secret) => {
                // Both are form-encoded before they are joined (RFC 6749 section 2.3.1).
                let encode = |text: &str| byte_serialize(text.as_bytes()).collect::<String>();
                let pair = format!("{}:{}", encode(self.id.as_str()), encode(secret.expose()));
                let value = format!("Basic {}", base64_simd::STANDARD.encode_to_string(pair));
                authorization = HeaderValue::try_from(value).ok();
            }
            ClientAuthentication::Post(secret) => {
                form.append_pair("client_id", self.id.as_str());
                form.append_pair("client_secret", secret.expose());
            }
        }
        let mut request = get(endpoint);
        *request.method_mut() = Method::POST;
        *request.body_mut() = form.finish().into_bytes();
        let headers = request.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
        if let Some(mut value) = authorization {
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        request
    }
}

/// A plain request for the document at `url`.
pub(super) fn get(url: &Url) -> Request<Vec<u8>> {
    let mut request = Request::new(Vec::new());
    // Every URL of these schemes is a URI; the empty default would be refused when sent, never misdirected.
    *request.uri_mut() = url.as_str().parse().unwrap_or_default();
    request.headers_mut().insert(ACCEPT, HeaderValue::from_static("application/json"));
    request
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A client whose secret holds every character that is hard to carry.
    pub(in crate::oauth) fn client() -> Client {
        Client {
            id: ClientId::new("spa bff".to_owned()),
            authentication: ClientAuthentication::Basic(ClientSecret::new("s:%+& é".to_owned())),
            redirect_uri: "https://app.test/bff/callback".to_owned(),
            scopes: Scopes::Usual,
            extra_params: vec![("audience".to_owned(), "api".to_owned()), ("state".to_owned(), "evil".to_owned())],
            clock_skew: Duration::from_secs(60),
        }
    }

    #[test]
    fn basic_credentials_are_form_encoded_first_and_stay_out_of_the_body() {
        // O2-2.3.1-01, O2-2.3-01, O2-3.2-01
        let endpoint = "https://as.test/token?tenant=1".parse().expect("a URL");
        let request = client().post(&endpoint, &[("grant_type", "refresh_token")]);
        assert_eq!(request.uri(), "https://as.test/token?tenant=1");
        assert_eq!(request.body(), b"grant_type=refresh_token");
        let value = request.headers()[AUTHORIZATION].to_str().expect("text").to_owned();
        let pair = base64_simd::STANDARD.decode_to_vec(value.strip_prefix("Basic ").expect("Basic")).expect("base64");
        assert_eq!(String::from_utf8_lossy(&pair), "spa+bff:s%3A%25%2B%26+%C3%A9");
        assert!(!format!("{request:?}").contains(&value), "the header is marked sensitive");
    }

    #[test]
    fn posted_credentials_stay_out_of_the_head() {
        let mut client = client();
        client.authentication = ClientAuthentication::Post(ClientSecret::new("s&s".to_owned()));
        let request = client.post(&"https://as.test/token".parse().expect("a URL"), &[]);
        assert_eq!(request.body(), b"client_id=spa+bff&client_secret=s%26s");
        assert!(!request.headers().contains_key(AUTHORIZATION));
    }
}
