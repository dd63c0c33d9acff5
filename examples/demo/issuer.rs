//! A small OpenID provider that is real where it matters: the authorization code flow with PKCE, rotation of refresh
//! tokens with reuse detection, revocation, sign-out. The demo signs in with it, and the integration tests include this
//! file by its path.
//!
//! What a test wants of it beyond that is on stage: [`Issuer::script`] changes the next answers, [`Issuer::pause`] is an
//! outage, the counters say what happened, and [`Issuer::canaries`] lists every secret that must not turn up anywhere
//! else.

#![expect(unreachable_pub, reason = "public to the programs that include this file as a module")]

// The files are named because this one may be included by path, and then a bare `mod` would look beside it.
#[path = "issuer/act.rs"]
pub mod act;
#[path = "issuer/authorize.rs"]
mod authorize;
#[path = "issuer/backchannel.rs"]
mod backchannel;
#[path = "issuer/book.rs"]
mod book;
#[path = "issuer/logout.rs"]
mod logout;
#[path = "issuer/message.rs"]
mod message;
#[path = "issuer/options.rs"]
pub mod options;
#[path = "issuer/pages.rs"]
mod pages;
#[path = "issuer/possession.rs"]
pub mod possession;
#[path = "issuer/proof.rs"]
mod proof;
#[path = "issuer/script.rs"]
mod script;
#[path = "issuer/serving.rs"]
pub mod serving;
#[path = "issuer/signing.rs"]
mod signing;
#[cfg(test)]
#[path = "issuer/tests.rs"]
mod tests;
#[path = "issuer/token.rs"]
mod token;

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::{ConnectInfo, Request};
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::{Map, Value, json};
use vestibule::clock::Clock;

pub use self::backchannel::Told;
pub use self::book::{Rotation, User};
pub use self::message::{Endpoint, Fields, Received};
pub use self::options::{Login, Options, Pushed};
pub use self::proof::Proof;
pub use self::script::{Document, Script};
pub use self::token::CERTIFICATE;

use self::book::{Book, Terms};
use self::message::{bare, json_reply, refusal};
use self::possession::{Described, Fault, Judge, Nonces};
use self::serving::{Scissors, Serving, lock};
use self::signing::Keys;

/// A running issuer. Dropping it stops it.
pub struct Issuer {
    inner: Arc<Inner>,
    serving: Serving,
}

impl Issuer {
    /// Starts it on the present runtime.
    ///
    /// # Errors
    ///
    /// The port cannot be had, or the operating system gives no random bytes.
    pub async fn start(options: Options) -> io::Result<Self> {
        let terms =
            Terms { access: options.access_token_ttl, refresh: options.refresh_token_ttl, rotation: options.rotation };
        let (book, keys) = (Book::open(terms)?, Keys::generate()?);
        let mut made = None;
        let serving = Serving::start(options.port, |address| {
            let url = format!("http://{}:{}", options.host, address.port());
            let inner = Arc::new(Inner::new(options, url, book, keys));
            made = Some(Arc::clone(&inner));
            Router::new().fallback(move |link: ConnectInfo<Scissors>, request: Request| serve(inner, link, request))
        });
        let serving = serving.await?;
        let inner = made.ok_or_else(|| io::Error::other("the server was started without its state"))?;
        Ok(Self { inner, serving })
    }

    /// The issuer identifier, without a slash at the end.
    pub fn url(&self) -> &str {
        &self.inner.url
    }

    /// An outage: closes the port and cuts every connection. What the issuer knows survives.
    pub async fn pause(&self) {
        self.serving.pause().await;
    }

    /// Ends the outage, on the same port.
    ///
    /// # Errors
    ///
    /// Somebody else has taken the port meanwhile.
    pub async fn resume(&self) -> io::Result<()> {
        self.serving.resume().await
    }

    /// Stops it and returns when nobody listens any more.
    pub async fn stop(self) {
        self.serving.pause().await;
    }

    /// Registers a client's addresses, for when they are known only after the start.
    pub fn register(&self, redirect_uri: &str, post_logout_redirect_uri: &str) {
        lock(&self.inner.redirect_uris).push(redirect_uri.to_owned());
        lock(&self.inner.post_logout_redirect_uris).push(post_logout_redirect_uri.to_owned());
    }

    /// Registers the keys that the client signs its assertions with: the content of its JWK set.
    pub fn register_client_keys(&self, set: &Value) {
        *lock(&self.inner.client_keys) = set.get("keys").cloned().unwrap_or_default();
    }

    /// Registers where the client is told that a sign-in is over (OpenID Connect Back-Channel Logout). From now on signing
    /// out here tells it.
    pub fn register_backchannel_logout(&self, uri: &str) {
        *lock(&self.inner.backchannel_logout_uri) = Some(uri.to_owned());
    }

    /// Registers the client's page that the issuer's page loads in a frame when somebody signs out here (OpenID Connect
    /// Front-Channel Logout).
    pub fn register_frontchannel_logout(&self, uri: &str) {
        *lock(&self.inner.frontchannel_logout_uri) = Some(uri.to_owned());
    }

    /// The claims of a good logout token for these, with a `jti` of its own.
    pub fn logout_claims(&self, sub: Option<&str>, sid: Option<&str>) -> Map<String, Value> {
        backchannel::claims(&self.inner, sub, sid)
    }

    /// Sends a logout token, good or bad, to the client's address.
    ///
    /// # Errors
    ///
    /// No address is registered, or no answer came.
    pub async fn tell(&self, token: &str) -> io::Result<Told> {
        backchannel::tell(&self.inner, token).await
    }

    /// What the client answered when signing out here told it, in this order; `None` for no answer.
    pub fn told(&self) -> Vec<Option<Told>> {
        lock(&self.inner.told).clone()
    }

    /// Changes how people sign in from now on.
    pub fn set_login(&self, login: Login) {
        *lock(&self.inner.login) = login;
    }

    /// Changes how long the access tokens live that are issued from now on.
    pub fn set_access_token_ttl(&self, lifetime: Duration) {
        lock(&self.inner.book).set_access_lifetime(lifetime);
    }

    /// What an access token is for: the resource or audience that it was asked for, or nothing in particular.
    pub fn target(&self, token: &str) -> Option<String> {
        lock(&self.inner.book).target(token).map(str::to_owned)
    }

    /// The stage directions.
    pub fn script(&self) -> &Script {
        &self.inner.script
    }

    /// Signs with a new key from now on; the previous one stays published, older ones do not.
    ///
    /// # Errors
    ///
    /// The operating system gives no random bytes.
    pub fn rotate_keys(&self) -> io::Result<()> {
        lock(&self.inner.keys).rotate()
    }

    /// Any JWT, signed with the issuer's key: logout tokens, and tokens that are wrong on purpose.
    ///
    /// # Errors
    ///
    /// The operating system gives no random bytes.
    pub fn sign(&self, typ: &str, claims: &Map<String, Value>) -> io::Result<String> {
        lock(&self.inner.keys).sign(typ, claims)
    }

    /// Any JWT under any header, signed as its `alg` says: `none` with nothing, `HS256` with the client's secret.
    ///
    /// # Errors
    ///
    /// The operating system gives no random bytes.
    pub fn sign_under(&self, header: &Map<String, Value>, claims: &Map<String, Value>) -> io::Result<String> {
        lock(&self.inner.keys).sign_under(header, claims, self.inner.options.client_secret.expose())
    }

    /// The public half of the key that signs where a token's header is made to say `RS256` or `PS256`. It is named `rsa`,
    /// and published only where it is put among the keys.
    ///
    /// # Errors
    ///
    /// The key cannot be read.
    pub fn rsa_key(&self, alg: &str) -> io::Result<Value> {
        signing::rsa_key(alg)
    }

    /// The `sid` of the newest sign-in that a client was given tokens for.
    pub fn newest_sid(&self) -> Option<String> {
        lock(&self.inner.book).newest_sid().map(str::to_owned)
    }

    /// Whose good access token this is: the `sub`, or nobody's.
    pub fn active(&self, token: &str) -> Option<&'static str> {
        self.introspection().active(token)
    }

    /// The judge of the proofs at its token endpoint and where logins are lodged.
    pub fn proofs(&self) -> &Judge {
        &self.inner.proofs
    }

    /// The judge of the proofs at its userinfo endpoint.
    pub fn userinfo_proofs(&self) -> &Judge {
        &self.inner.userinfo_proofs
    }

    /// A handle for APIs that have to judge access tokens.
    pub fn introspection(&self) -> Introspection {
        Introspection(Arc::clone(&self.inner))
    }

    /// Revokes every token, as an administrator would.
    pub fn revoke_all(&self) {
        lock(&self.inner.book).revoke_all();
    }

    /// Every ID token that was issued, in order.
    pub fn id_tokens(&self) -> Vec<String> {
        lock(&self.inner.id_tokens).clone()
    }

    /// Refreshes that succeeded.
    pub fn refreshes(&self) -> usize {
        lock(&self.inner.book).refreshes()
    }

    /// How often a spent refresh token was presented, at whichever endpoint. A careful client keeps this at 0.
    pub fn reuses(&self) -> usize {
        lock(&self.inner.book).reuses()
    }

    /// Calls of the token endpoint, whatever came of them.
    pub fn token_calls(&self) -> usize {
        self.inner.script.calls(Endpoint::Token)
    }

    /// Token families that have not been revoked.
    pub fn families_alive(&self) -> usize {
        lock(&self.inner.book).families_alive()
    }

    /// Every secret there has been: codes, access tokens, refresh tokens, ID tokens, the client's secret. A test may
    /// search for them where they must not be.
    pub fn canaries(&self) -> Vec<String> {
        let mut all: Vec<String> = lock(&self.inner.book).secrets().cloned().collect();
        all.extend(lock(&self.inner.id_tokens).iter().cloned());
        all.push(self.inner.options.client_secret.expose().clone());
        all
    }
}

/// Tells which access tokens are good.
#[derive(Clone)]
pub struct Introspection(Arc<Inner>);

impl Introspection {
    /// Whose good access token this is: the `sub`, or nobody's.
    pub fn active(&self, token: &str) -> Option<&'static str> {
        lock(&self.0.book).active(token, self.0.clock.now()).map(|grant| grant.by.user.sub())
    }

    /// The thumbprint of the certificate that a token is bound to (`cnf`, RFC 8705 section 3.2).
    pub fn bound_to(&self, token: &str) -> Option<String> {
        lock(&self.0.book).bound_to(token).map(str::to_owned)
    }

    /// The thumbprint of the key that this good access token is bound to, if it is (`cnf`, RFC 9449 section 6.2).
    pub fn key(&self, token: &str) -> Option<String> {
        lock(&self.0.book).active(token, self.0.clock.now())?.key.clone()
    }
}

struct Inner {
    url: String,
    clock: Arc<dyn Clock>,
    book: Mutex<Book>,
    keys: Mutex<Keys>,
    id_tokens: Mutex<Vec<String>>,
    login: Mutex<Login>,
    redirect_uris: Mutex<Vec<String>>,
    post_logout_redirect_uris: Mutex<Vec<String>>,
    backchannel_logout_uri: Mutex<Option<String>>,
    frontchannel_logout_uri: Mutex<Option<String>>,
    client_keys: Mutex<Value>,
    /// Authorization requests that have been pushed and not been used.
    pushed: Mutex<HashMap<String, Fields>>,
    /// The names of the assertions that were taken: none is taken twice.
    assertions: Mutex<BTreeSet<String>>,
    /// The sign-ins that have ended and of which the client has not been told yet.
    untold: Mutex<Vec<Map<String, Value>>>,
    told: Mutex<Vec<Option<Told>>>,
    proofs: Judge,
    userinfo_proofs: Judge,
    script: Script,
    options: Options,
}

impl Inner {
    fn new(options: Options, url: String, book: Book, keys: Keys) -> Self {
        Self {
            url,
            clock: Arc::clone(&options.clock),
            book: Mutex::new(book),
            keys: Mutex::new(keys),
            id_tokens: Mutex::default(),
            login: Mutex::new(options.login),
            redirect_uris: Mutex::new(options.redirect_uris.clone()),
            post_logout_redirect_uris: Mutex::new(options.post_logout_redirect_uris.clone()),
            backchannel_logout_uri: Mutex::default(),
            frontchannel_logout_uri: Mutex::default(),
            client_keys: Mutex::default(),
            pushed: Mutex::default(),
            assertions: Mutex::default(),
            untold: Mutex::default(),
            told: Mutex::default(),
            proofs: Judge::new("issuer", options.dpop.unwrap_or(Nonces::None), Arc::clone(&options.clock)),
            userinfo_proofs: Judge::new("userinfo", options.dpop.unwrap_or(Nonces::None), Arc::clone(&options.clock)),
            script: Script::default(),
            options,
        }
    }

    fn process(&self, request: &Received) -> Response {
        match request.endpoint {
            Endpoint::Discovery => self.document(Document::Metadata, self.metadata()),
            Endpoint::Jwks => self.document(Document::Keys, lock(&self.keys).published()),
            Endpoint::Authorize => authorize::authorize(self, request),
            Endpoint::Token => self.proven(request, |key| token::token(self, request, key)),
            Endpoint::Revoke => token::revoke(self, request),
            Endpoint::Push => self.proven(request, |key| authorize::push(self, request, key)),
            Endpoint::EndSession => logout::end_session(self, request),
            Endpoint::Userinfo => token::userinfo(self, request),
        }
    }

    /// Does the work for whoever has proved a key, where clients have to (RFC 9449 sections 5 and 10.1).
    fn proven(&self, request: &Received, work: impl FnOnce(Option<&str>) -> Response) -> Response {
        if self.options.dpop.is_none() {
            return work(None);
        }
        let url = format!("{}{}", self.url, request.endpoint.path());
        let described = Described { method: request.method.as_str(), url: &url, token: None };
        let judged = self.proofs.judge(&request.headers, &described);
        let mut answer = match &judged {
            Ok(key) => work(Some(key)),
            Err(Fault::Nonce) => refusal(StatusCode::BAD_REQUEST, "use_dpop_nonce", "another nonce is wanted"),
            Err(Fault::Proof(why)) => refusal(StatusCode::BAD_REQUEST, "invalid_dpop_proof", why),
        };
        self.proofs.tell(&judged, &mut answer);
        answer
    }

    fn document(&self, document: Document, mut content: Map<String, Value>) -> Response {
        self.script.edited(document, &mut content);
        json_reply(StatusCode::OK, content)
    }

    /// OpenID Connect Discovery section 3.
    fn metadata(&self) -> Map<String, Value> {
        let at = |endpoint: Endpoint| json!(format!("{}{}", self.url, endpoint.path()));
        let announce = self.options.announce;
        let ways = json!(self.options.proof.methods());
        let mut metadata = Map::new();
        let mut state = |name: &str, value: Value| metadata.insert(name.to_owned(), value);
        state("issuer", json!(self.url));
        state("authorization_endpoint", at(Endpoint::Authorize));
        state("token_endpoint", at(Endpoint::Token));
        state("userinfo_endpoint", at(Endpoint::Userinfo));
        state("jwks_uri", at(Endpoint::Jwks));
        state("response_types_supported", json!(["code"]));
        state("response_modes_supported", json!(["query", "form_post"]));
        state("grant_types_supported", json!(["authorization_code", "refresh_token"]));
        state("subject_types_supported", json!(["public"]));
        state("id_token_signing_alg_values_supported", json!(["ES256"]));
        state("token_endpoint_auth_methods_supported", ways.clone());
        state("code_challenge_methods_supported", json!(["S256"]));
        state("scopes_supported", json!(["openid", "profile", "email", "offline_access"]));
        state("prompt_values_supported", json!(["none", "login", "select_account"]));
        state("authorization_response_iss_parameter_supported", json!(announce.issuer_parameter));
        if announce.bound_tokens {
            state("tls_client_certificate_bound_access_tokens", json!(true));
        }
        if self.options.dpop.is_some() {
            state("dpop_signing_alg_values_supported", json!(["ES256", "EdDSA"]));
        }
        if announce.end_session {
            state("end_session_endpoint", at(Endpoint::EndSession));
            state("backchannel_logout_supported", json!(true));
            state("backchannel_logout_session_supported", json!(true));
            state("frontchannel_logout_supported", json!(true));
            state("frontchannel_logout_session_supported", json!(true));
        }
        if announce.revocation {
            state("revocation_endpoint", at(Endpoint::Revoke));
            state("revocation_endpoint_auth_methods_supported", ways);
        }
        if announce.pushed != Pushed::No {
            state("pushed_authorization_request_endpoint", at(Endpoint::Push));
            state("require_pushed_authorization_requests", json!(announce.pushed == Pushed::Required));
        }
        metadata
    }

    fn is_offered(&self, endpoint: Endpoint) -> bool {
        match endpoint {
            Endpoint::Revoke => self.options.announce.revocation,
            Endpoint::Push => self.options.announce.pushed != Pushed::No,
            Endpoint::EndSession => self.options.announce.end_session,
            Endpoint::Discovery | Endpoint::Jwks | Endpoint::Authorize | Endpoint::Token | Endpoint::Userinfo => true,
        }
    }
}

async fn serve(inner: Arc<Inner>, ConnectInfo(scissors): ConnectInfo<Scissors>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let found = Endpoint::at(head.uri.path()).filter(|endpoint| inner.is_offered(*endpoint));
    let Some(endpoint) = found else { return bare(StatusCode::NOT_FOUND) };
    if !endpoint.methods().contains(&head.method) {
        return bare(StatusCode::METHOD_NOT_ALLOWED);
    }
    let Ok(body) = axum::body::to_bytes(body, 64 * 1024).await else { return bare(StatusCode::PAYLOAD_TOO_LARGE) };
    let query = Fields::parse(head.uri.query().unwrap_or_default().as_bytes());
    let received = Received { endpoint, method: head.method, query, form: Fields::parse(&body), headers: head.headers };
    // The act is taken before the arrival is told, so that a test that has seen the arrival knows it to be taken.
    let act = inner.script.take(endpoint);
    inner.script.note(received.clone());
    if endpoint == Endpoint::Token {
        tokio::time::sleep(inner.options.token_delay).await;
    }
    let answer = act.play(&scissors, || inner.process(&received)).await;
    // Before the answer, so that whoever has it knows that the client has been told.
    backchannel::tell_the_rest(&inner).await;
    answer
}
