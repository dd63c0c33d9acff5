//! A model authorization server: every refresh rotates, and what becomes of a spent token depends on its temper. It is
//! slow, fails, lies, and loses answers after it has decided, as the trouble of a run demands.

mod families;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use ring::signature::{Ed25519KeyPair, KeyPair};
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use url::form_urlencoded;
use vestibule::clock::Clock;
use vestibule::gateway::{AuthorizationServer, SendError, Unavailable};
use vestibule::oauth::{Authority, AuthorizationServerMetadata, Issuer, JwkSet};

use self::families::{Families, Refreshed, family_and_number};
use super::chance::Dice;
use super::clock::Wall;
use super::life::Life;
use super::trouble::{Home, Reuse, Trouble};
use super::witness::Witness;

/// What is the same in all lives, made once.
pub(crate) struct Published {
    metadata: Arc<AuthorizationServerMetadata>,
    keys: Arc<JwkSet>,
    signer: EncodingKey,
}

impl Published {
    pub(crate) fn new() -> Self {
        let document = json!({
            "issuer": "https://as.test",
            "authorization_endpoint": "https://as.test/authorize",
            "token_endpoint": "https://as.test/token",
            "revocation_endpoint": "https://as.test/revoke",
            "jwks_uri": "https://as.test/jwks",
            "id_token_signing_alg_values_supported": ["EdDSA"],
        });
        let response = |body: Value| Response::new(Bytes::from(body.to_string()));
        let authority = Authority::new(Issuer::new("https://as.test".to_owned()));
        let metadata = AuthorizationServerMetadata::read(&authority, &response(document)).unwrap();
        // Signatures by this scheme are the same each time, as everything else here is.
        let pair = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
        let public = base64_simd::URL_SAFE_NO_PAD.encode_to_string(pair.public_key().as_ref());
        let keys = json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "x": public}]});
        // PKCS #8 of an Ed25519 key is this prefix and the seed (RFC 8410 section 7).
        let prefix = [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
        Self {
            metadata: Arc::new(metadata),
            keys: Arc::new(JwkSet::read(&response(keys)).unwrap()),
            signer: EncodingKey::from_ed_der(&[&prefix[..], &[7; 32]].concat()),
        }
    }
}

pub(crate) struct ModelIssuer {
    published: Arc<Published>,
    wall: Wall,
    dice: Dice,
    lifetime: Duration,
    trouble: Trouble,
    witness: Arc<Witness>,
    state: Mutex<State>,
    /// What it works on, whether or not the one who asked still waits.
    work: Mutex<JoinSet<()>>,
}

struct State {
    families: Families,
    /// The nonce of a login, by its code.
    nonces: HashMap<String, String>,
    /// Whether anything of its trouble happens now.
    troubled: bool,
    /// Until when it rejects the client itself.
    rejects_client: Option<Instant>,
    /// Answers in a row that say nothing, by family. Three would be taken for an ending.
    vague: HashMap<u64, u32>,
}

/// What happens to an answer after the server has decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Loss {
    None,
    /// The front door answers instead.
    ServerError,
    /// A page instead of tokens.
    Page,
    /// The connection is cut.
    Cut,
}

/// What the server does with one refresh request.
enum Plan {
    /// It is answered without a look at it.
    Instead(Result<Response<Bytes>, SendError>),
    /// After these times before and after it has decided.
    Decide(Duration, Duration, Loss),
}

impl ModelIssuer {
    pub(crate) fn new(
        published: &Arc<Published>,
        wall: Wall,
        dice: Dice,
        lifetime: Duration,
        trouble: Trouble,
        witness: Arc<Witness>,
    ) -> Arc<Self> {
        let reuse = if trouble.hidden || trouble.failover {
            dice.pick(&[Reuse::Strict, Reuse::Lenient, Reuse::Grace])
        } else {
            Reuse::Strict
        };
        let state = State {
            families: Families::new(reuse, Arc::clone(&witness)),
            nonces: HashMap::new(),
            troubled: false,
            rejects_client: None,
            vague: HashMap::new(),
        };
        let (published, state) = (Arc::clone(published), Mutex::new(state));
        Arc::new(Self { published, wall, dice, lifetime, trouble, witness, state, work: Mutex::default() })
    }

    /// A person signs in: the code that the browser brings back for this `nonce`, and the family that it will begin.
    pub(crate) fn authorize(&self, nonce: &str) -> (String, u64) {
        let mut state = self.state();
        let family = state.families.begin();
        let code = format!("code-{family}");
        state.nonces.insert(code.clone(), nonce.to_owned());
        (code, family)
    }

    /// Trouble begins, or is over.
    pub(crate) fn be_troubled(&self, troubled: bool) {
        let mut state = self.state();
        state.troubled = troubled;
        state.rejects_client = None;
    }

    /// The family and number of an access token, and whether an API would take it now.
    pub(crate) fn look_at(&self, token: &str) -> Option<(u64, u64, bool)> {
        let (family, number) = family_and_number(token)?;
        let good = self.state().families.takes(family, number, self.wall.now());
        Some((family, number, good))
    }

    pub(crate) fn refreshes(&self) -> u64 {
        self.state().families.refreshes
    }

    /// Whether the family lives.
    pub(crate) fn lives(&self, family: u64) -> bool {
        self.state().families.lives(family)
    }

    /// How many families live.
    pub(crate) fn living(&self) -> usize {
        self.state().families.living()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// What it will do with a refresh of this family.
    fn plan(&self, family: Option<u64>) -> Plan {
        let mut state = self.state();
        let dice = &self.dice;
        let at_once = Plan::Decide(Duration::ZERO, Duration::ZERO, Loss::None);
        if !state.troubled {
            return at_once;
        }
        if self.trouble.hidden && dice.happens(12) {
            let loss = dice.pick(&[Loss::ServerError, Loss::Page, Loss::Cut, Loss::None]);
            // Without a loss the answer comes when nobody waits for it any more.
            let after = if loss == Loss::None { Duration::from_secs(61) } else { dice.millis(0..1_000) };
            return Plan::Decide(dice.millis(0..1_000), after, loss);
        }
        let slow = self.trouble.issuer || self.trouble.logout || self.trouble.burial;
        if slow && dice.happens(30) {
            // A token that is dead on arrival is no use to anybody, so answers travel for less than it lives.
            let travels = u64::try_from(self.lifetime.as_millis() / 2).unwrap().min(9_000);
            return Plan::Decide(dice.millis(0..9_000), dice.millis(0..travels), Loss::None);
        }
        if !self.trouble.issuer {
            return at_once;
        }
        if state.rejects_client.is_some_and(|until| until > Instant::now()) {
            return Plan::Instead(Ok(answer(StatusCode::UNAUTHORIZED, &json!({"error": "invalid_client"}))));
        }
        let vague = state.vague.entry(family.unwrap_or(0)).or_default();
        let instead = match dice.below(20) {
            0 => Err(SendError::NotSent("down".to_owned())),
            1 => Ok(answer(StatusCode::TOO_MANY_REQUESTS, &json!({}))),
            2 => Ok(answer(StatusCode::SERVICE_UNAVAILABLE, &json!({}))),
            3 if *vague < 2 => {
                *vague += 1;
                let mut empty = Response::new(Bytes::new());
                *empty.status_mut() = StatusCode::BAD_REQUEST;
                Ok(empty)
            }
            4 => {
                state.rejects_client = Some(Instant::now() + dice.millis(1_000..15_000));
                Ok(answer(StatusCode::UNAUTHORIZED, &json!({"error": "invalid_client"})))
            }
            5 => Err(SendError::Unknown("cut before it arrived".to_owned())),
            _ => return at_once,
        };
        Plan::Instead(instead)
    }

    /// The answer to a refresh, and which rotation it carries.
    fn refresh(&self, token: &str, asker: u64) -> (Response<Bytes>, Option<(u64, u64)>) {
        let mut state = self.state();
        match state.families.refresh(token, asker, self.wall.now(), self.lifetime) {
            Refreshed::Rotated(family, number) => {
                state.vague.remove(&family);
                (self.tokens(family, number, None), Some((family, number)))
            }
            Refreshed::Refused => (refused(), None),
        }
    }

    fn tokens(&self, family: u64, number: u64, nonce: Option<&str>) -> Response<Bytes> {
        let now = self.wall.now();
        let grown = if self.trouble.home == Home::Growing { usize::try_from(number).unwrap() * 150 } else { 0 };
        let mut body = json!({
            "access_token": format!("at-{family}-{number}-{}", "x".repeat(grown.min(3_000))),
            "refresh_token": format!("rt-{family}-{number}"),
            "token_type": "Bearer",
            "expires_in": self.lifetime.as_secs(),
        });
        if let Some(nonce) = nonce {
            let claims = json!({
                "iss": "https://as.test", "aud": "client", "sub": "ada", "nonce": nonce,
                "iat": now.as_secs(), "exp": now.as_secs() + 300,
            });
            body["id_token"] = encode(&Header::new(Algorithm::EdDSA), &claims, &self.published.signer).unwrap().into();
        }
        answer(StatusCode::OK, &body)
    }

    fn serve_other(&self, path: &str, form: &HashMap<String, String>) -> Response<Bytes> {
        let text = |name: &str| form.get(name).map(String::as_str).unwrap_or_default();
        if path == "/revoke" {
            self.state().families.revoke(text("token"));
            return answer(StatusCode::OK, &json!({}));
        }
        let Some(nonce) = self.state().nonces.remove(text("code")) else { return refused() };
        let (family, _) = family_and_number(&format!("{}-0", text("code"))).unwrap();
        let number = self.state().families.issue(family, self.wall.now() + self.lifetime);
        self.tokens(family, number, Some(&nonce))
    }

    fn work_on(&self, work: impl Future<Output = ()> + Send + 'static) {
        let mut all = self.work.lock().unwrap();
        while all.try_join_next().is_some() {}
        all.spawn(work);
    }

    /// The answer to `request` as `life` asks, and which rotation it carries.
    async fn serve(
        self: &Arc<Self>,
        life: &Arc<Life>,
        request: Request<Vec<u8>>,
        deadline: Duration,
    ) -> (Result<Response<Bytes>, SendError>, Option<(u64, u64)>) {
        let form: HashMap<String, String> = form_urlencoded::parse(request.body()).into_owned().collect();
        if form.get("grant_type").is_none_or(|grant| grant != "refresh_token") {
            return (Ok(self.serve_other(request.uri().path(), &form)), None);
        }
        let token = form["refresh_token"].clone();
        let family = family_and_number(&token).map(|it| it.0);
        let (before, after, loss) = match self.plan(family) {
            Plan::Instead(answer) => return (answer, None),
            Plan::Decide(before, after, loss) => (before, after, loss),
        };
        let (sender, receiver) = oneshot::channel();
        let (issuer, asker) = (Arc::clone(self), life.id);
        self.work_on(async move {
            sleep(before).await;
            let (response, rotation) = issuer.refresh(&token, asker);
            sleep(after).await;
            let lost = rotation.filter(|_| loss != Loss::None);
            let answer = match loss {
                Loss::None => Ok(response),
                Loss::ServerError => Ok(answer(StatusCode::INTERNAL_SERVER_ERROR, &json!({}))),
                Loss::Page => Ok(Response::new(Bytes::from_static(b"<!doctype html><title>Sorry</title>"))),
                Loss::Cut => Err(SendError::Unknown("cut".to_owned())),
            };
            let missed = sender.send((answer, rotation.filter(|_| loss == Loss::None))).is_err();
            if let Some((family, number)) = lost.or(rotation.filter(|_| missed)) {
                issuer.witness.lost(family, number);
            }
        });
        match timeout(deadline, receiver).await {
            Ok(Ok((answer, rotation))) => (answer, rotation),
            Ok(Err(_)) | Err(_) => {
                self.witness.gave_up(family.unwrap_or(0), life.id);
                (Err(SendError::TimedOut), None)
            }
        }
    }
}

/// One replica's line to the server.
pub(crate) struct IssuerLine {
    pub(crate) issuer: Arc<ModelIssuer>,
    pub(crate) life: Arc<Life>,
}

#[async_trait]
impl AuthorizationServer for IssuerLine {
    async fn metadata(&self) -> Result<Arc<AuthorizationServerMetadata>, Unavailable> {
        Ok(Arc::clone(&self.issuer.published.metadata))
    }

    async fn keys(&self, _anew: bool) -> Result<Arc<JwkSet>, Unavailable> {
        Ok(Arc::clone(&self.issuer.published.keys))
    }

    fn certificate(&self) -> Option<[u8; 32]> {
        None
    }

    async fn send(&self, request: Request<Vec<u8>>, deadline: Duration) -> Result<Response<Bytes>, SendError> {
        let asked = self.issuer.wall.now();
        tracing::debug!(replica = self.life.id, %asked, path = request.uri().path(), "asks the server");
        self.life.step().await;
        let (answer, rotation) = self.issuer.serve(&self.life, request, deadline).await;
        self.life.step().await;
        if let Some((family, number)) = rotation {
            self.issuer.witness.received(family, number);
        }
        answer
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
