//! A model authorization server: every refresh rotates, a spent token kills the family, and nothing is forgiven.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use ring::signature::{Ed25519KeyPair, KeyPair};
use serde_json::{Value, json};
use url::form_urlencoded;
use vestibule::clock::{Clock, Timestamp};
use vestibule::gateway::{AuthorizationServer, SendError, Unavailable};
use vestibule::oauth::{AuthorizationServerMetadata, Issuer, JwkSet, PlainHttp};

/// What the server does with one token request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mood {
    /// Answers, after these times before and after it has decided.
    Answer(Duration, Duration),
    /// Cannot be reached.
    Refuse,
    /// Says 429 without having done anything.
    Busy,
}

pub(crate) struct ModelIssuer {
    clock: Arc<dyn Clock>,
    metadata: Arc<AuthorizationServerMetadata>,
    keys: Arc<JwkSet>,
    signer: EncodingKey,
    lifetime: Duration,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    moods: Vec<Mood>,
    nonces: HashMap<String, String>,
    /// The one refresh token that is good, by family.
    good: HashMap<u64, String>,
    /// Access tokens and when they expire.
    access: HashMap<String, (u64, Timestamp)>,
    issued: u64,
    refreshes: u64,
    reuses: u64,
}

impl ModelIssuer {
    pub(crate) fn new(clock: Arc<dyn Clock>, lifetime: Duration) -> Arc<Self> {
        let document = json!({
            "issuer": "https://as.test",
            "authorization_endpoint": "https://as.test/authorize",
            "token_endpoint": "https://as.test/token",
            "revocation_endpoint": "https://as.test/revoke",
            "jwks_uri": "https://as.test/jwks",
            "id_token_signing_alg_values_supported": ["EdDSA"],
        });
        let response = |body: Value| Response::new(Bytes::from(body.to_string()));
        let issuer = Issuer::new("https://as.test".to_owned());
        let metadata =
            AuthorizationServerMetadata::read(&issuer, PlainHttp::LoopbackOnly, &response(document)).unwrap();
        // Signatures by this scheme are the same each time, as everything else here is.
        let pair = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
        let public = base64_simd::URL_SAFE_NO_PAD.encode_to_string(pair.public_key().as_ref());
        let keys = json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "x": public}]});
        // PKCS #8 of an Ed25519 key is this prefix and the seed (RFC 8410 section 7).
        let prefix = [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
        Arc::new(Self {
            clock,
            metadata: Arc::new(metadata),
            keys: Arc::new(JwkSet::read(&response(keys)).unwrap()),
            signer: EncodingKey::from_ed_der(&[&prefix[..], &[7; 32]].concat()),
            lifetime,
            state: Mutex::default(),
        })
    }

    /// A person signs in: the code that the browser brings back for this `nonce`.
    pub(crate) fn authorize(&self, nonce: &str) -> String {
        let mut state = self.state();
        state.issued += 1;
        let code = format!("code-{}", state.issued);
        state.nonces.insert(code.clone(), nonce.to_owned());
        code
    }

    /// What the next token requests meet; afterwards it answers at once.
    pub(crate) fn will(&self, mood: Mood) {
        self.state().moods.push(mood);
    }

    /// Whether an API would take this token now.
    pub(crate) fn takes(&self, token: &str) -> bool {
        let now = self.clock.now();
        let state = self.state();
        state.access.get(token).is_some_and(|(family, expires)| now < *expires && state.good.contains_key(family))
    }

    pub(crate) fn refreshes(&self) -> u64 {
        self.state().refreshes
    }

    /// How often a spent refresh token was presented.
    pub(crate) fn reuses(&self) -> u64 {
        self.state().reuses
    }

    /// How many families of tokens live.
    pub(crate) fn families(&self) -> usize {
        self.state().good.len()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn decide(&self, path: &str, form: &HashMap<String, String>) -> Response<Bytes> {
        let text = |name: &str| form.get(name).cloned().unwrap_or_default();
        if path == "/revoke" {
            let mut state = self.state();
            let token = text("token");
            state.good.retain(|_, good| *good != token);
            return answer(StatusCode::OK, &json!({}));
        }
        match text("grant_type").as_str() {
            "authorization_code" => {
                let Some(nonce) = self.state().nonces.remove(&text("code")) else { return refused() };
                let family = self.state().issued;
                self.issue(family, Some(&nonce))
            }
            "refresh_token" => {
                let token = text("refresh_token");
                let family = token.split('-').nth(1).and_then(|text| text.parse::<u64>().ok());
                let Some(family) = family else { return refused() };
                let mut state = self.state();
                match state.good.get(&family) {
                    Some(good) if *good == token => {
                        state.refreshes += 1;
                        drop(state);
                        self.issue(family, None)
                    }
                    Some(_) => {
                        state.reuses += 1;
                        state.good.remove(&family);
                        refused()
                    }
                    None => refused(),
                }
            }
            _ => answer(StatusCode::BAD_REQUEST, &json!({"error": "unsupported_grant_type"})),
        }
    }

    fn issue(&self, family: u64, nonce: Option<&str>) -> Response<Bytes> {
        let now = self.clock.now();
        let mut state = self.state();
        state.issued += 1;
        let (access, refresh) = (format!("at-{family}-{}", state.issued), format!("rt-{family}-{}", state.issued));
        state.access.insert(access.clone(), (family, now + self.lifetime));
        state.good.insert(family, refresh.clone());
        let mut body = json!({
            "access_token": access,
            "refresh_token": refresh,
            "token_type": "Bearer",
            "expires_in": self.lifetime.as_secs(),
        });
        if let Some(nonce) = nonce {
            let claims = json!({
                "iss": "https://as.test", "aud": "client", "sub": "ada", "nonce": nonce,
                "iat": now.as_secs(), "exp": now.as_secs() + 300,
            });
            body["id_token"] = encode(&Header::new(Algorithm::EdDSA), &claims, &self.signer).unwrap().into();
        }
        answer(StatusCode::OK, &body)
    }
}

#[async_trait]
impl AuthorizationServer for ModelIssuer {
    async fn metadata(&self) -> Result<Arc<AuthorizationServerMetadata>, Unavailable> {
        Ok(Arc::clone(&self.metadata))
    }

    async fn keys(&self, _anew: bool) -> Result<Arc<JwkSet>, Unavailable> {
        Ok(Arc::clone(&self.keys))
    }

    async fn send(&self, request: Request<Vec<u8>>, deadline: Duration) -> Result<Response<Bytes>, SendError> {
        let form: HashMap<String, String> = form_urlencoded::parse(request.body()).into_owned().collect();
        let mood = if form.get("grant_type").is_some_and(|grant| grant == "refresh_token") {
            self.state().moods.pop()
        } else {
            None
        };
        match mood.unwrap_or(Mood::Answer(Duration::ZERO, Duration::ZERO)) {
            Mood::Refuse => Err(SendError::NotSent("down".to_owned())),
            Mood::Busy => Ok(answer(StatusCode::TOO_MANY_REQUESTS, &json!({}))),
            Mood::Answer(before, after) => {
                let work = async {
                    tokio::time::sleep(before).await;
                    let response = self.decide(request.uri().path(), &form);
                    tokio::time::sleep(after).await;
                    response
                };
                tokio::time::timeout(deadline, work).await.map_err(|_| SendError::TimedOut)
            }
        }
    }
}

fn answer(status: StatusCode, body: &Value) -> Response<Bytes> {
    let mut response = Response::new(Bytes::from(body.to_string()));
    *response.status_mut() = status;
    response
}

fn refused() -> Response<Bytes> {
    answer(StatusCode::BAD_REQUEST, &json!({"error": "invalid_grant"}))
}
