//! What the tests of this ring share: a client, a server's word, and keys that another implementation signs with.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use ring::rand::SystemRandom;
use ring::signature::{self, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RsaKeyPair};
use serde_json::{Value, json};

use super::authorization::{AuthorizationResponse, LoginWishes};
use super::client::{Client, ClientAuthentication, Proofs, Protocol};
use super::dpop::TokenScheme;
use super::endpoint::{Endpoint, PlainHttp};
use super::jwks::JwkSet;
use super::login::{CodeRedemption, LoginTransaction, PendingLogin};
use super::metadata::{AuthorizationServerMetadata, EndpointAliases};
use super::requests::RequestOptions;
use super::token::TokenSet;
use super::values::{ClientId, ClientSecret, Issuer, State};
use crate::clock::Timestamp;
use crate::secret::Random;

/// The present moment of these tests.
pub(super) const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);

/// Chance that falls the same way every time, but never twice the same.
#[derive(Default)]
pub(super) struct Dice(AtomicU64);

impl Random for Dice {
    fn fill(&self, buffer: &mut [u8]) {
        for chunk in buffer.chunks_mut(8) {
            let number = self.0.fetch_add(1, Ordering::Relaxed).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes();
            chunk.copy_from_slice(&number[..chunk.len()]);
        }
    }
}

/// Chance that is always the same.
struct Same;

impl Random for Same {
    fn fill(&self, buffer: &mut [u8]) {
        Dice::default().fill(buffer);
    }
}

/// Proofs made [`NOW`].
pub(super) fn proofs() -> Proofs<'static> {
    Proofs { now: NOW, random: &Same }
}

pub(super) fn client() -> Client {
    Client {
        id: ClientId::new("app".into()),
        authentication: ClientAuthentication::Basic(ClientSecret::new("secret".into())),
        keys: None,
        mutual_tls: false,
        dpop: false,
        requests: RequestOptions::default(),
        redirect_uri: "https://app.test/bff/callback".into(),
        protocol: Protocol::OpenIdConnect,
        userinfo: false,
        scopes: None,
        extra_params: Vec::new(),
        trusted_audiences: Vec::new(),
        clock_skew: Duration::from_secs(60),
    }
}

pub(super) fn metadata() -> AuthorizationServerMetadata {
    let endpoint = |text| Endpoint::parse(text, PlainHttp::LoopbackOnly).expect("is an endpoint");
    AuthorizationServerMetadata {
        issuer: Issuer::new("https://as.test".into()),
        tenants: None,
        provider: None,
        authorization_endpoint: endpoint("https://as.test/authorize"),
        token_endpoint: endpoint("https://as.test/token"),
        jwks_uri: Some(endpoint("https://as.test/jwks")),
        revocation_endpoint: None,
        pushed_authorization_request_endpoint: None,
        require_pushed_authorization_requests: false,
        require_signed_request_object: false,
        request_object_signing_alg_values_supported: None,
        end_session_endpoint: None,
        userinfo_endpoint: None,
        scopes_supported: None,
        code_challenge_methods_supported: None,
        token_endpoint_auth_methods_supported: vec!["client_secret_basic".into()],
        token_endpoint_auth_signing_alg_values_supported: None,
        mtls_endpoint_aliases: EndpointAliases::default(),
        id_token_signing_alg_values_supported: vec!["ES256".into()],
        userinfo_signing_alg_values_supported: None,
        dpop_signing_alg_values_supported: None,
        grant_types_supported: vec!["authorization_code".into()],
        tls_client_certificate_bound_access_tokens: false,
        authorization_response_iss_parameter_supported: false,
    }
}

pub(super) fn answer(status: u16, body: &str) -> http::Response<Bytes> {
    let mut response = http::Response::new(Bytes::copy_from_slice(body.as_bytes()));
    *response.status_mut() = http::StatusCode::from_u16(status).expect("is a status");
    response
}

/// The form that a request carries.
pub(super) fn fields(request: &http::Request<Vec<u8>>) -> Vec<(String, String)> {
    url::form_urlencoded::parse(request.body()).into_owned().collect()
}

/// A login on its way: its state is `s`.
pub(super) fn begin(client: &Client, wishes: &LoginWishes) -> (LoginTransaction, url::Url) {
    let (transaction, asked) = LoginTransaction::begin(
        client,
        &metadata(),
        wishes,
        State::new("s".into()),
        &Proofs { now: NOW, random: &Dice::default() },
    );
    (transaction, asked.url())
}

/// A login whose code has come.
pub(super) fn redemption(client: &Client, wishes: &LoginWishes) -> (CodeRedemption, String) {
    let (transaction, url) = begin(client, wishes);
    let nonce = url.query_pairs().find(|(name, _)| name == "nonce").map(|(_, it)| it.into_owned()).unwrap_or_default();
    let response = AuthorizationResponse::parse("code=c1&state=s").expect("parses");
    (transaction.accept(response, client, &metadata(), NOW).expect("is accepted"), nonce)
}

/// A login whose code has been sent, and its nonce.
pub(super) fn pending(client: &Client, wishes: &LoginWishes) -> (PendingLogin, String) {
    let (redemption, nonce) = redemption(client, wishes);
    (redemption.redeem().1, nonce)
}

/// The claims of a good ID token, issued [`NOW`].
pub(super) fn claims(nonce: &str) -> Value {
    let now = NOW.as_secs();
    json!({ "iss": "https://as.test", "aud": "app", "sub": "alice", "iat": now, "exp": now + 300, "nonce": nonce })
}

/// Tokens as the token endpoint issues them, with this ID token.
pub(super) fn tokens(id_token: Option<&str>) -> TokenSet {
    let mut body = json!({ "access_token": "a1", "token_type": "Bearer", "refresh_token": "r1", "expires_in": 60 });
    body["id_token"] = id_token.into();
    TokenSet::read(&answer(200, &body.to_string()), TokenScheme::Bearer).expect("reads")
}

impl JwkSet {
    pub(super) fn of(keys: &[Value]) -> Self {
        Self::read(&answer(200, &json!({ "keys": keys }).to_string())).expect("reads")
    }
}

/// JSON as a part of a token.
pub(super) fn encode(value: &Value) -> String {
    base64url(value.to_string())
}

/// A key that signs with *ring*, which is not what the ring under test verifies with.
pub(super) enum Key {
    Rsa(RsaKeyPair),
    Es256(EcdsaKeyPair),
    Es384(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

impl Key {
    /// One that was made with `openssl genpkey` for these tests and guards nothing.
    pub(super) fn rsa() -> Self {
        let text: String =
            include_str!("fixtures/rsa-2048.pem").lines().filter(|line| !line.starts_with('-')).collect();
        let der = base64_simd::STANDARD.decode_to_vec(text).expect("is base64");
        Self::Rsa(RsaKeyPair::from_pkcs8(&der).expect("is a key"))
    }

    pub(super) fn es256() -> Self {
        Self::Es256(ecdsa(&signature::ECDSA_P256_SHA256_FIXED_SIGNING))
    }

    pub(super) fn es384() -> Self {
        Self::Es384(ecdsa(&signature::ECDSA_P384_SHA384_FIXED_SIGNING))
    }

    pub(super) fn ed25519() -> Self {
        let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).expect("makes a key");
        Self::Ed25519(Ed25519KeyPair::from_pkcs8(document.as_ref()).expect("is a key"))
    }

    /// A key for every algorithm.
    pub(super) fn all() -> Vec<(Self, &'static str)> {
        let rsa = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"].map(|alg| (Self::rsa(), alg));
        let others = [(Self::es256(), "ES256"), (Self::es384(), "ES384"), (Self::ed25519(), "EdDSA")];
        rsa.into_iter().chain(others).collect()
    }

    /// The public half, under this name and for this algorithm.
    pub(super) fn jwk(&self, id: &str, alg: Option<&str>) -> Value {
        let mut jwk = match self {
            Self::Rsa(pair) => {
                let public: ring::rsa::PublicKeyComponents<Vec<u8>> = pair.public().into();
                json!({ "kty": "RSA", "n": base64url(public.n), "e": base64url(public.e) })
            }
            Self::Es256(pair) => point("P-256", pair),
            Self::Es384(pair) => point("P-384", pair),
            Self::Ed25519(pair) => json!({ "kty": "OKP", "crv": "Ed25519", "x": base64url(pair.public_key()) }),
        };
        jwk["kid"] = id.into();
        if let Some(alg) = alg {
            jwk["alg"] = alg.into();
        }
        jwk
    }

    /// A signed token; an RSA key signs as the header's `alg` says.
    pub(super) fn sign(&self, header: &Value, payload: &Value) -> String {
        self.sign_text(header, &payload.to_string())
    }

    /// The same for a payload that is not made of unique members.
    pub(super) fn sign_text(&self, header: &Value, payload: &str) -> String {
        let signed = format!("{}.{}", encode(header), base64url(payload));
        let random = SystemRandom::new();
        let signature = match self {
            Self::Rsa(pair) => {
                let padding: &dyn signature::RsaEncoding = match header["alg"].as_str() {
                    Some("RS384") => &signature::RSA_PKCS1_SHA384,
                    Some("RS512") => &signature::RSA_PKCS1_SHA512,
                    Some("PS256") => &signature::RSA_PSS_SHA256,
                    Some("PS384") => &signature::RSA_PSS_SHA384,
                    Some("PS512") => &signature::RSA_PSS_SHA512,
                    _ => &signature::RSA_PKCS1_SHA256,
                };
                let mut signature = vec![0; pair.public().modulus_len()];
                pair.sign(padding, &random, signed.as_bytes(), &mut signature).expect("signs");
                signature
            }
            Self::Es256(pair) | Self::Es384(pair) => {
                pair.sign(&random, signed.as_bytes()).expect("signs").as_ref().to_vec()
            }
            Self::Ed25519(pair) => pair.sign(signed.as_bytes()).as_ref().to_vec(),
        };
        format!("{signed}.{}", base64url(signature))
    }
}

fn ecdsa(algorithm: &'static signature::EcdsaSigningAlgorithm) -> EcdsaKeyPair {
    let random = SystemRandom::new();
    let document = EcdsaKeyPair::generate_pkcs8(algorithm, &random).expect("makes a key");
    EcdsaKeyPair::from_pkcs8(algorithm, document.as_ref(), &random).expect("is a key")
}

fn point(curve: &str, pair: &EcdsaKeyPair) -> Value {
    let (x, y) = pair.public_key().as_ref()[1..].split_at(pair.public_key().as_ref().len() / 2);
    json!({ "kty": "EC", "crv": curve, "x": base64url(x), "y": base64url(y) })
}

fn base64url(bytes: impl AsRef<[u8]>) -> String {
    base64_simd::URL_SAFE_NO_PAD.encode_to_string(bytes)
}
