//! Who we are at the authorization server, and how we show it.

use std::time::Duration;

use http::{HeaderValue, Method, header};
use serde_json::{Map, Value};
use url::form_urlencoded;

use super::client_key::ClientKeys;
use super::dpop::{ProofAlgorithm, ProofKey};
use super::endpoint::Endpoint;
use super::metadata::AuthorizationServerMetadata;
use super::provider::Offline;
use super::requests::{OfflineAccess, RequestOptions};
use super::values::{ClientId, ClientSecret};
use crate::clock::Timestamp;
use crate::secret::Random;

/// Our registration at one authorization server.
#[derive(Clone, Debug)]
pub struct Client {
    /// The name that the server knows us by.
    pub id: ClientId,
    /// How we show that it is us.
    pub authentication: ClientAuthentication,
    /// What is signed with here, if anything is: published at our own address for the server to read.
    pub keys: Option<ClientKeys>,
    /// Whether connections to the server show a certificate. Then the endpoints that check one are used where the server
    /// has any (RFC 8705 section 5).
    pub mutual_tls: bool,
    /// Whether tokens are bound to a key of their session (DPoP, RFC 9449). Tokens that are not are then refused.
    pub dpop: bool,
    /// Where the browser comes back to. It comes from configuration, never from a request, and is sent letter by letter.
    pub redirect_uri: String,
    /// What the server speaks.
    pub protocol: Protocol,
    /// Whether a login also asks the UserInfo endpoint who somebody is (OpenID Connect Core section 5.3).
    pub userinfo: bool,
    /// How logins are asked for.
    pub requests: RequestOptions,
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

/// How a client authenticates wherever it asks the server itself: for tokens, for their revocation, for a login that it
/// lodges beforehand. A server holds a client to the one method that it registered.
#[derive(Clone, Debug)]
pub enum ClientAuthentication {
    /// HTTP Basic (`client_secret_basic`, RFC 6749 section 2.3.1).
    Basic(ClientSecret),
    /// In the form (`client_secret_post`).
    Post(ClientSecret),
    /// By a signed assertion (`private_key_jwt`, RFC 7523 section 2.2), a new one for every request.
    PrivateKeyJwt(Assertion),
    /// By the certificate of the connection (`tls_client_auth` and `self_signed_tls_client_auth`, RFC 8705 section 2).
    /// The two look the same from here.
    Certificate,
    /// Not at all: whoever knows the client's name may use it (`none`).
    None,
}

/// What a client's assertions are made of.
#[derive(Clone, Debug)]
pub struct Assertion {
    /// What signs them.
    pub keys: ClientKeys,
    /// Whom they are for.
    pub audience: Audience,
    /// What they say they are (`typ`).
    pub kind: AssertionKind,
}

/// Whom an assertion is for. An audience that other servers accept too lets one of them use it elsewhere.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Audience {
    /// The issuer (the update of RFC 7523, FAPI 2.0 section 5.3.3.1).
    #[default]
    Issuer,
    /// The token endpoint, as older servers want it (OpenID Connect Core section 9).
    TokenEndpoint,
}

/// What an assertion says it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AssertionKind {
    /// `JWT`. Some servers refuse any other.
    #[default]
    Jwt,
    /// `client-authentication+jwt`, as the update of RFC 7523 has it. Some servers refuse any other.
    ClientAuthentication,
}

/// What makes a proof of who we are good once and now.
#[derive(Clone, Copy)]
pub struct Proofs<'a> {
    /// The present moment.
    pub now: Timestamp,
    /// Unguessable bytes.
    pub random: &'a dyn Random,
}

/// How an assertion is called in a form (RFC 7523 section 2.2).
const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
/// An assertion is good from this long before it is made until as long after: the server's clock may be behind ours or
/// ahead. Some servers take none that is good for more than a minute.
const HALF_A_LIFE: Duration = Duration::from_secs(30);

/// The scope that makes a request one of OpenID Connect.
pub(super) const OPENID: &str = "openid";
/// The scope that many servers want to see before they issue a refresh token.
pub(super) const OFFLINE_ACCESS: &str = "offline_access";
/// What is asked for where the server announces it: who somebody is, and refreshing.
const USUAL: [&str; 3] = ["profile", "email", OFFLINE_ACCESS];

impl Client {
    /// The scopes that a login asks for: the configured ones, or else `profile`, `email` and `offline_access` where the
    /// server announces them or, the last, as its product is known to need it; with OpenID Connect `openid` comes first in
    /// any case (OpenID Connect Core section 3.1.2.1).
    pub fn requested_scopes(&self, metadata: &AuthorizationServerMetadata) -> Vec<String> {
        let usual = || {
            let known = metadata.scopes_supported.iter().flatten();
            let mut scopes: Vec<String> = known.filter(|it| USUAL.contains(&it.as_str())).cloned().collect();
            if let Some(offline) = self.asks_offline_access(metadata) {
                scopes.retain(|it| it != OFFLINE_ACCESS);
                scopes.extend(offline.then(|| OFFLINE_ACCESS.to_owned()));
            }
            scopes
        };
        let mut scopes: Vec<String> = self.scopes.clone().unwrap_or_else(usual);
        if self.protocol == Protocol::OpenIdConnect && !scopes.iter().any(|it| it == OPENID) {
            scopes.insert(0, OPENID.to_owned());
        }
        scopes
    }

    /// Whether `offline_access` is asked for; none where what the server announces decides.
    fn asks_offline_access(&self, metadata: &AuthorizationServerMetadata) -> Option<bool> {
        let wanted = || match metadata.provider?.offline {
            Offline::Announced => None,
            Offline::Needed(_) => Some(true),
            Offline::Unwanted(_) => Some(false),
        };
        match self.requests.offline_access {
            OfflineAccess::Auto => wanted(),
            OfflineAccess::Always => Some(true),
            OfflineAccess::Never => Some(false),
        }
    }

    /// The scope parameter of a login that asks for `more` besides, and for all that later tokens need.
    pub(super) fn scope(&self, metadata: &AuthorizationServerMetadata, more: Option<&str>) -> String {
        let mut scopes = self.requested_scopes(metadata);
        let later = self.requests.later.iter().flat_map(|it| &it.scopes).map(String::as_str);
        for scope in later.chain(more.into_iter().flat_map(str::split_ascii_whitespace)) {
            if !scopes.iter().any(|it| it == scope) {
                scopes.push(scope.to_owned());
            }
        }
        scopes.join(" ")
    }

    /// A new key to bind tokens of this server to, if they are to be bound.
    pub fn new_proof_key(&self, metadata: &AuthorizationServerMetadata, random: &dyn Random) -> Option<ProofKey> {
        let announced = metadata.dpop_signing_alg_values_supported.as_deref();
        // A server without one that fits has been refused when its metadata was read.
        let algorithm = self.dpop.then(|| ProofAlgorithm::among(announced).unwrap_or_default());
        algorithm.map(|algorithm| ProofKey::generate(algorithm, random))
    }

    /// A form that is sent to `endpoint` with our authentication, by exactly one method (RFC 6749 section 2.3).
    ///
    /// No field may be empty or occur twice: some servers refuse the request (RFC 6749 section 3.2).
    pub(super) fn form(
        &self,
        metadata: &AuthorizationServerMetadata,
        endpoint: &Endpoint,
        fields: &[(&str, &str)],
        proofs: &Proofs<'_>,
    ) -> http::Request<Vec<u8>> {
        let mut form = form_urlencoded::Serializer::new(String::new());
        form.extend_pairs(fields.iter().filter(|(_, value)| !value.is_empty()));
        let is_named = fields.iter().any(|(name, _)| *name == "client_id");
        let (name_us, authorization) = match &self.authentication {
            ClientAuthentication::Basic(secret) => (false, Some(self.basic(secret))),
            ClientAuthentication::Post(_)
            | ClientAuthentication::PrivateKeyJwt(_)
            | ClientAuthentication::Certificate
            | ClientAuthentication::None => (!is_named, None),
        };
        if name_us {
            form.append_pair("client_id", self.id.as_str());
        }
        match &self.authentication {
            ClientAuthentication::Post(secret) => {
                form.append_pair("client_secret", secret.expose());
            }
            ClientAuthentication::PrivateKeyJwt(assertion) => {
                form.append_pair("client_assertion_type", ASSERTION_TYPE)
                    .append_pair("client_assertion", &self.assertion(assertion, metadata, proofs));
            }
            ClientAuthentication::Basic(_) | ClientAuthentication::Certificate | ClientAuthentication::None => {}
        }
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

    /// The endpoint to use: its alias, if we show a certificate and it has one (RFC 8705 section 5).
    pub(super) fn door<'m>(&self, endpoint: &'m Endpoint, alias: Option<&'m Endpoint>) -> &'m Endpoint {
        alias.filter(|_| self.mutual_tls).unwrap_or(endpoint)
    }

    /// Says to one server, once, who we are (RFC 7523 section 3).
    fn assertion(&self, assertion: &Assertion, metadata: &AuthorizationServerMetadata, proofs: &Proofs<'_>) -> String {
        let audience = match assertion.audience {
            Audience::Issuer => metadata.issuer.as_str(),
            Audience::TokenEndpoint => metadata.token_endpoint.as_str(),
        };
        let kind = match assertion.kind {
            AssertionKind::Jwt => "JWT",
            AssertionKind::ClientAuthentication => "client-authentication+jwt",
        };
        let (issued, expires) = (proofs.now - HALF_A_LIFE, proofs.now + HALF_A_LIFE);
        let claims: [(&str, Value); 6] = [
            ("iss", self.id.as_str().into()),
            ("sub", self.id.as_str().into()),
            ("aud", audience.into()),
            ("jti", proofs.random.token().into()),
            ("iat", issued.as_secs().into()),
            ("exp", expires.as_secs().into()),
        ];
        let claims: Map<String, Value> = claims.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        assertion.keys.sign(kind, metadata.token_endpoint_auth_signing_alg_values_supported.as_deref(), &claims)
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
    use crate::oauth::client_key::tests::{ED25519, P256, keys, opened};
    use crate::oauth::endpoint::PlainHttp;
    use crate::oauth::testing::{Dice, NOW, client, fields, metadata, proofs};

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
        let request = client.form(&metadata(), &endpoint(), &[("grant_type", "x")], &proofs());
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
        let request = client.form(&metadata(), &endpoint(), &[("grant_type", "x"), ("empty", "")], &proofs());
        assert_eq!(request.headers().get(header::AUTHORIZATION), None);
        assert_eq!(request.body(), b"grant_type=x&client_id=app&client_secret=s%26%3D");
        assert_eq!(request.uri(), "https://as.test/token?tenant=1");
        assert_eq!(request.method(), Method::POST);
        assert_eq!(request.headers()[header::CONTENT_TYPE], "application/x-www-form-urlencoded");
        assert_eq!(request.headers()[header::ACCEPT], "application/json");
    }

    fn signing(audience: Audience, kind: AssertionKind) -> Client {
        let assertion = Assertion { keys: keys(P256, &[ED25519]), audience, kind };
        Client { authentication: ClientAuthentication::PrivateKeyJwt(assertion), ..client() }
    }

    /// The fields of a request but the first, and the assertion among them.
    fn asserted(request: &http::Request<Vec<u8>>) -> (Vec<(String, String)>, Value, Value) {
        let mut fields = fields(request);
        let (name, assertion) = fields.pop().expect("has fields");
        assert_eq!(name, "client_assertion");
        let (header, claims) = opened(&assertion);
        fields.remove(0);
        (fields, header, claims)
    }

    #[test]
    fn an_assertion_is_for_the_issuer_and_good_for_a_minute_around_now() {
        // CAJ-01, CAJ-02, CAJ-03, CAJ-06, O2-2.3-01, O21-2.4-01, FAPI-5.3.3.1-05, CS-FH-02
        let client = signing(Audience::Issuer, AssertionKind::Jwt);
        let request = client.form(&metadata(), &endpoint(), &[("grant_type", "x")], &proofs());
        assert_eq!(request.headers().get(header::AUTHORIZATION), None);
        let (fields, header, claims) = asserted(&request);
        let expected = [("client_id", "app"), ("client_assertion_type", ASSERTION_TYPE)];
        assert_eq!(fields, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
        assert_eq!((&header["typ"], &header["alg"]), (&"JWT".into(), &"ES256".into()));
        let now = NOW.as_secs();
        assert_eq!((claims["iss"].as_str(), claims["sub"].as_str()), (Some("app"), Some("app")));
        assert_eq!(claims["aud"], "https://as.test");
        assert_eq!((claims["iat"].as_u64(), claims["exp"].as_u64()), (Some(now - 30), Some(now + 30)));
        assert_eq!(claims["jti"].as_str().map(str::len), Some(43));
    }

    #[test]
    fn every_request_has_an_assertion_of_its_own() {
        // CAJ-01, CAJ-04
        let (client, dice) = (signing(Audience::Issuer, AssertionKind::Jwt), Dice::default());
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..1000 {
            let proofs = Proofs { now: NOW, random: &dice };
            let request = client.form(&metadata(), &endpoint(), &[("grant_type", "x")], &proofs);
            let (_, _, claims) = asserted(&request);
            assert!(seen.insert(claims["jti"].as_str().expect("is text").to_owned()), "repeats");
        }
    }

    #[test]
    fn older_and_newer_servers_get_the_audience_and_the_type_that_they_want() {
        // CAJ-03
        let mut metadata = metadata();
        metadata.token_endpoint =
            Endpoint::parse("https://AS.test:443/token", PlainHttp::LoopbackOnly).expect("is an endpoint");
        let client = signing(Audience::TokenEndpoint, AssertionKind::ClientAuthentication);
        let (_, header, claims) = asserted(&client.form(&metadata, &endpoint(), &[("grant_type", "x")], &proofs()));
        // Letter by letter: that is how servers compare it.
        assert_eq!(claims["aud"], "https://AS.test:443/token");
        assert_eq!(header["typ"], "client-authentication+jwt");
    }

    #[test]
    fn a_certificate_and_an_open_client_only_name_themselves() {
        // MTLS-2-01, O2-2.3-01
        for authentication in [ClientAuthentication::Certificate, ClientAuthentication::None] {
            let client = Client { authentication, ..client() };
            let request = client.form(&metadata(), &endpoint(), &[("grant_type", "x")], &proofs());
            assert_eq!(request.headers().get(header::AUTHORIZATION), None);
            assert_eq!(request.body(), b"grant_type=x&client_id=app");
            let request = client.form(&metadata(), &endpoint(), &[("client_id", "app")], &proofs());
            assert_eq!(request.body(), b"client_id=app");
        }
    }

    #[test]
    fn an_alias_is_used_by_those_who_show_a_certificate_and_only_where_there_is_one() {
        // MTLS-5-01, CS-FH-05, FAPI-5.3.3.1-07
        let alias = Endpoint::parse("https://mtls.as.test/token", PlainHttp::LoopbackOnly).expect("is an endpoint");
        let showing = Client { mutual_tls: true, ..client() };
        let door = |client: &Client, alias| client.door(&endpoint(), alias).as_str().to_owned();
        assert_eq!(door(&showing, Some(&alias)), "https://mtls.as.test/token");
        assert_eq!(door(&showing, None), "https://as.test/token?tenant=1");
        assert_eq!(door(&client(), Some(&alias)), "https://as.test/token?tenant=1");
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
