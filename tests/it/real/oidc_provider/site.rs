//! A Vestibule in this process between a browser, `oidc-provider`, and an API that asks the latter about each token. Time
//! is the real one.

use std::net::TcpListener;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use http::Method;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use vestibule::clock::SystemClock;

use crate::issuer::possession::{self, Described, Fault, Nonces};
use crate::support::PATIENCE;
use crate::support::browser::Browser;
use crate::support::op::{OidcProvider, Options};
use crate::support::recorder::Recorder;
use crate::support::site::{Ground, Texts, Vestibule};

/// So many calls are made at once.
pub(in crate::real) const BURST: usize = 20;

/// The running parts.
pub(super) struct RealSite {
    url: String,
    pub(super) options: Options,
    pub(super) provider: Arc<OidcProvider>,
    pub(super) api: TokenApi,
    /// What stands between the browser and Vestibule.
    pub(super) recorder: Recorder,
    /// How many refreshes there had been when somebody last signed in.
    before: AtomicU32,
    _vestibule: Vestibule,
}

/// Where a Vestibule will listen, behind a recorder.
pub(super) struct Place {
    listener: TcpListener,
    recorder: Recorder,
    /// The address that browsers use.
    pub(super) url: String,
}

impl Place {
    pub(super) async fn find() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let recorder = Recorder::start(listener.local_addr().unwrap()).await;
        let url = format!("http://localhost:{}", recorder.address().port());
        Self { listener, recorder, url }
    }
}

impl RealSite {
    /// The strictest server: rotation, no grace, tokens that live for five seconds.
    pub(super) async fn start() -> Self {
        Self::with(|_| {}).await
    }

    /// The same with changed options.
    pub(super) async fn with(change: impl FnOnce(&mut Options)) -> Self {
        Self::told(change, &Texts::default()).await
    }

    /// The same with further lines in the configuration.
    pub(super) async fn told(change: impl FnOnce(&mut Options), texts: &Texts<'_>) -> Self {
        let place = Place::find().await;
        let mut options = Options::new(&place.url);
        change(&mut options);
        let provider = Arc::new(OidcProvider::start(&options).await);
        Self::at_place(place, &options, provider, texts).await
    }

    /// The same, where people are said to come by https: TLS would end before it.
    pub(super) async fn behind_tls(
        mut place: Place,
        options: &Options,
        provider: Arc<OidcProvider>,
        texts: &Texts<'_>,
    ) -> Self {
        place.url = place.url.replace("http://", "https://");
        Self::at_place(place, options, provider, texts).await
    }

    /// A Vestibule at its place, for a server that runs already.
    pub(super) async fn at_place(
        place: Place,
        options: &Options,
        provider: Arc<OidcProvider>,
        texts: &Texts<'_>,
    ) -> Self {
        let Place { listener, recorder, url } = place;
        let options = options.clone();
        let api = TokenApi::start(Arc::clone(&provider)).await;
        let ground = Ground {
            listener,
            url: &url,
            issuer: provider.issuer(),
            client_id: &options.client_id,
            client_secret: &options.client_secret,
            api: &api.url,
            files: "dist",
            clock: Arc::new(SystemClock::default()),
        };
        let vestibule = ground.build(texts).await;
        Self { url, options, provider, api, recorder, before: AtomicU32::new(0), _vestibule: vestibule }
    }

    pub(super) fn at(&self, path: &str) -> String {
        format!("{}{path}", self.url)
    }

    /// A browser that has signed in and called the API once.
    pub(super) async fn signed_in(&self) -> Browser {
        self.before.store(self.refreshes().await, Ordering::Relaxed);
        let browser = Browser::new();
        let page = browser.follow(&self.at("/bff/login")).await;
        assert_eq!((page.status, page.url.as_str()), (200, self.at("/").as_str()), "{}", page.text());
        assert_eq!(browser.fetch(Method::GET, &self.at("/api/orders")).await.status, 200);
        browser
    }

    /// The statuses of many calls at once, from one jar.
    pub(super) async fn burst(&self, browser: &Browser) -> Vec<u16> {
        let mut calls = JoinSet::new();
        for _ in 0..BURST {
            let call = browser.fetch(Method::GET, &self.at("/api/orders"));
            calls.spawn(async move { call.await.status });
        }
        calls.join_all().await
    }

    pub(super) async fn generation(&self, browser: &Browser) -> u64 {
        self.times(browser).await["generation"].as_u64().unwrap()
    }

    /// How often a refresh token was spent.
    pub(super) async fn refreshes(&self) -> u32 {
        self.provider.stats().await.refresh_grants_ok
    }

    /// How long an access token lives.
    pub(super) const fn lifetime(&self) -> Duration {
        Duration::from_secs(self.options.access_token_seconds)
    }

    /// Each refresh has become a generation of the session of this browser, which is the only one that is used since.
    pub(super) async fn until_generation_counts_refreshes(&self, browser: &Browser) {
        let before = self.before.load(Ordering::Relaxed);
        let counted = async {
            while self.generation(browser).await != u64::from(self.refreshes().await - before) + 1 {
                sleep(Duration::from_millis(25)).await;
            }
        };
        timeout(PATIENCE, counted).await.expect("a refresh was lost, or a generation came of none");
    }

    /// Waits until the access token that the API got last is over, for the server and for Vestibule.
    pub(super) async fn until_expired(&self, browser: &Browser) {
        // What is on its way beside an earlier request would be taken for the refresh of the next.
        self.until_generation_counts_refreshes(browser).await;
        let token = self.api.tokens().pop().unwrap();
        let expired = async {
            while self.times(browser).await["token_expires_in"] != 0 {
                sleep(Duration::from_millis(25)).await;
            }
            // Whole seconds are told: what is told as none may still be nearly one, and that is waited for.
            let zero = Instant::now();
            while self.provider.is_active(&token).await || zero.elapsed() < Duration::from_secs(1) {
                sleep(Duration::from_millis(25)).await;
            }
        };
        timeout(PATIENCE, expired).await.unwrap();
    }

    /// The session goes on, the server has nothing to complain about, and the browser has seen no token (BBA-6.1-03).
    pub(super) async fn assert_unharmed(&self, browser: &Browser) {
        assert_eq!(browser.fetch(Method::GET, &self.at("/bff/user")).await.json()["claims"]["sub"], "ada");
        let stats = self.provider.stats().await;
        assert_eq!((stats.refresh_grants_failed, stats.reuse_detected, stats.grants_revoked), (0, 0, 0), "{stats:?}");
        assert_eq!(stats.refusals, [""; 0]);
        for token in self.provider.issued().await {
            assert_eq!(browser.received_contains(&token), None);
            assert_eq!(self.recorder.received_contains(&token), None);
        }
    }

    async fn times(&self, browser: &Browser) -> serde_json::Value {
        browser.fetch(Method::GET, &self.at("/bff/session")).await.json()
    }
}

/// An API that answers whoever brings a token that the authorization server calls good at this moment.
pub(in crate::real) struct TokenApi {
    pub(in crate::real) url: String,
    tokens: Arc<Mutex<Vec<String>>>,
    /// Judges the proofs of tokens that come with some.
    pub(in crate::real) proofs: Arc<possession::Judge>,
    _server: JoinSet<()>,
}

#[derive(Clone)]
struct Judge {
    provider: Arc<OidcProvider>,
    tokens: Arc<Mutex<Vec<String>>>,
    proofs: Arc<possession::Judge>,
}

impl TokenApi {
    pub(in crate::real) async fn start(provider: Arc<OidcProvider>) -> Self {
        let tokens = Arc::<Mutex<Vec<_>>>::default();
        let clock = Arc::new(SystemClock::default());
        let proofs = Arc::new(possession::Judge::new("api", Nonces::Fixed, clock));
        let judge = Judge { provider, tokens: Arc::clone(&tokens), proofs: Arc::clone(&proofs) };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new().fallback(answer).with_state(judge);
        let mut server = JoinSet::new();
        server.spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url, tokens, proofs, _server: server }
    }

    /// The token of every call so far.
    pub(in crate::real) fn tokens(&self) -> Vec<String> {
        self.tokens.lock().unwrap().clone()
    }
}

async fn answer(State(judge): State<Judge>, request: Request) -> Response {
    let headers = request.headers();
    let credentials = headers.get("authorization").and_then(|value| value.to_str().ok()?.split_once(' '));
    let Some((scheme, token)) = credentials else { return StatusCode::BAD_REQUEST.into_response() };
    let key = judge.provider.key_of(token).await;
    let proven = match (scheme, &key) {
        ("Bearer", None) => true,
        ("DPoP", Some(key)) => {
            let host = headers.get("host").and_then(|value| value.to_str().ok()).unwrap_or_default();
            let url = format!("http://{host}{}", request.uri().path());
            let described = Described { method: request.method().as_str(), url: &url, token: Some(token) };
            let judged = judge.proofs.judge(headers, &described);
            if judged == Err(Fault::Nonce) {
                let challenge = [("www-authenticate", "DPoP error=\"use_dpop_nonce\"")];
                let mut refused = (StatusCode::UNAUTHORIZED, challenge).into_response();
                judge.proofs.tell(&judged, &mut refused);
                return refused;
            }
            judged.as_ref() == Ok(key)
        }
        _ => false,
    };
    judge.tokens.lock().unwrap().push(token.to_owned());
    let is_good = proven && judge.provider.is_active(token).await;
    if is_good { StatusCode::OK.into_response() } else { StatusCode::UNAUTHORIZED.into_response() }
}
