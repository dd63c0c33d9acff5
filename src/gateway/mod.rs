//! Ring 3: decides what happens to a request. It speaks plain `http` types and knows no proxy engine.
//!
//! Five calls are its whole interface with the shell: [`Gateway::decide`], and on the [`Forwarding`] that may come of
//! it [`attempt`](Forwarding::attempt), [`answered`](Forwarding::answered), [`depart`](Forwarding::depart) and
//! [`failed`](Forwarding::failed). What the shell refuses before it asks is said by
//! [`Gateway::refused`].

pub mod admission;
pub mod api;
mod ask;
mod backchannel;
mod body;
pub mod broker;
mod callback;
mod circles;
mod client;
pub mod cross_origin;
mod events;
pub mod files;
mod frontchannel;
pub mod headers;
pub mod health;
mod jwks;
mod login;
pub mod logout;
mod nonces;
mod opened;
mod pages;
mod presenting;
pub mod reply;
pub mod return_to;
pub mod roster;
pub mod route;
mod signers;
mod step_up;
mod user;
mod vigil;

use std::fmt;
use std::future::Future;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::header::{ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_ORIGIN, CACHE_CONTROL, VARY};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use ipnet::IpNet;
use url::Url;

use self::admission::{Admission, Passport};
pub use self::api::{Failure, Forwarding, UpstreamEdits, Verdict};
pub use self::body::{Body, BodyError, NoBody};
use self::broker::{Broker, RefreshPolicy};
use self::callback::Redemptions;
use self::cross_origin::{CrossOrigin, Missing};
pub use self::events::Events;
use self::events::Streams;
pub use self::headers::DownstreamEdits;
use self::headers::{TransportSecurity, attach};
use self::logout::{FrontChannel, LogoutSettings};
pub use self::nonces::{Nonces, Part};
use self::reply::{Answer, Refusal};
use self::roster::{Roster, RosterPolicy};
use self::route::{Access, CanonicalPath, Route, RouteTable, Target};
pub use self::signers::Signers;
pub use self::vigil::{Over, Sign, Vigil};
use crate::clock::Clock;
use crate::ledger::Ledger;
use crate::oauth::{
    self, AccessToken, AuthorizationServerMetadata, Client, JwkSet, Proofs, RefreshToken, ResponseMode, TokenHint,
};
use crate::secret::Random;
use crate::session::vault::Vault;
use crate::session::{Asked, Session, SessionPolicy};
use crate::tasks::Tasks;

/// The authorization server, as seen from here.
#[async_trait]
pub trait AuthorizationServer: Send + Sync {
    /// What it says of itself; the last good answer, while a newer one cannot be had.
    ///
    /// # Errors
    /// If there has been no good answer yet.
    async fn metadata(&self) -> Result<Arc<AuthorizationServerMetadata>, Unavailable>;

    /// Its signing keys. `anew`: fetched again, because the known ones do not fit; at a limited rate.
    ///
    /// # Errors
    /// If there are none to be had.
    async fn keys(&self, anew: bool) -> Result<Arc<JwkSet>, Unavailable>;

    /// The thumbprint of the certificate that it is shown now where it asks for one; none if there is none to show.
    fn certificate(&self) -> Option<[u8; 32]>;

    /// Sends one request and reads the whole answer, within `deadline`.
    ///
    /// # Errors
    /// If there is no answer; says whether the request may have been seen.
    async fn send(
        &self,
        request: http::Request<Vec<u8>>,
        deadline: Duration,
    ) -> Result<http::Response<Bytes>, SendError>;
}

/// The authorization server has not been heard of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the authorization server cannot be asked right now")]
pub struct Unavailable;

/// Why a request to the authorization server has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// It was never written: it may be sent again freely.
    #[error("it could not be reached: {0}")]
    NotSent(String),
    /// It was written, and the time for the answer is over.
    #[error("it did not answer in time")]
    TimedOut,
    /// It was written, perhaps, and what came back is no answer that can be used: the connection broke, or a limit was
    /// passed.
    #[error("there is no usable answer: {0}")]
    Unknown(String),
}

/// What every part of the gateway is handed: time, chance, detached work, memory and the authorization server.
#[derive(Clone)]
pub struct Seams {
    /// Wall-clock time.
    pub clock: Arc<dyn Clock>,
    /// Unguessable bytes.
    pub random: Arc<dyn Random>,
    /// Where work runs that outlives its request.
    pub tasks: Arc<Tasks>,
    /// What the proxy itself remembers.
    pub ledger: Arc<Ledger>,
    /// The authorization server.
    pub server: Arc<dyn AuthorizationServer>,
    /// What servers want to see in proofs of possession.
    pub nonces: Arc<Nonces>,
    /// What signs those proofs.
    pub signers: Arc<Signers>,
}

impl fmt::Debug for Seams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Seams").finish_non_exhaustive()
    }
}

/// How long revoking all tokens of a session may take: nobody waits for it but a logout.
const REVOCATION: Duration = Duration::from_secs(10);

impl Seams {
    /// Has the tokens of `session` revoked, beside everything else.
    pub fn revoke(&self, client: &Arc<Client>, session: &Session) {
        let (seams, client, session) = (self.clone(), Arc::clone(client), session.clone());
        self.tasks.spawn(async move { seams.revoke_now(&client, &session).await });
    }

    /// Has tokens revoked that no session came of, beside everything else.
    fn revoke_tokens(&self, client: &Arc<Client>, refresh: Option<RefreshToken>, access: AccessToken) {
        let (seams, client) = (self.clone(), Arc::clone(client));
        self.tasks.spawn(async move { seams.revoke_all(&client, refresh.as_ref(), [&access].into_iter()).await });
    }

    /// Has the tokens of `session` revoked.
    async fn revoke_now(&self, client: &Client, session: &Session) {
        self.revoke_all(client, session.grant.refresh_token.as_ref(), session.grant.access_tokens()).await;
    }

    /// First the refresh token, then the access tokens (RFC 7009 section 2.1).
    async fn revoke_all<'t>(
        &self,
        client: &Client,
        refresh: Option<&'t RefreshToken>,
        access: impl Iterator<Item = &'t AccessToken> + Send,
    ) {
        let Ok(metadata) = self.server.metadata().await else {
            tracing::warn!("tokens cannot be revoked: the authorization server is not known yet");
            return;
        };
        let refresh = refresh.map(|it| (TokenHint::RefreshToken, it.expose()));
        let access = access.map(|it| (TokenHint::AccessToken, it.expose()));
        let began = self.clock.uptime();
        for (hint, token) in refresh.into_iter().chain(access) {
            let left = REVOCATION.saturating_sub(self.clock.uptime().saturating_sub(began));
            let Some(request) = oauth::revocation_request(client, &metadata, hint, token, &self.proofs()) else {
                return;
            };
            match self.server.send(request, left).await {
                Ok(response) if response.status().is_success() => {}
                Ok(response) => {
                    tracing::warn!(status = response.status().as_u16(), ?hint, "a token was not revoked");
                }
                Err(error) => tracing::warn!(%error, ?hint, "a token was not revoked"),
            }
        }
    }

    /// How tokens are asked for that are asked for now: when, and with which certificate (RFC 8705 section 3).
    fn asked(&self, metadata: &AuthorizationServerMetadata) -> Asked {
        let binds = metadata.tls_client_certificate_bound_access_tokens;
        Asked { at: self.clock.now(), certificate: binds.then(|| self.server.certificate()).flatten() }
    }

    /// What makes the next request to the authorization server one of its own.
    fn proofs(&self) -> Proofs<'_> {
        Proofs { now: self.clock.now(), random: &*self.random }
    }

    /// Runs `check` with the signing keys, once more with fresh ones if the known ones do not fit.
    async fn with_keys<T>(&self, check: impl Fn(&JwkSet) -> Result<T, oauth::Error>) -> Result<T, oauth::Error> {
        let known = self.server.keys(false).await.map_err(|_| oauth::Error::UnknownKey)?;
        match check(&known) {
            Err(oauth::Error::UnknownKey) => {
                let fresh = self.server.keys(true).await.map_err(|_| oauth::Error::UnknownKey)?;
                check(&fresh)
            }
            verdict => verdict,
        }
    }
}

/// Who sent a request, as far as the connection tells.
#[derive(Clone, Copy, Debug)]
pub struct Peer {
    /// The address at the other end of the connection.
    pub address: IpAddr,
}

/// What happens to a request.
#[must_use]
#[derive(Debug)]
pub enum Decision {
    /// It is answered here.
    Respond(Answer),
    /// It is answered here, by what is to happen.
    Events(Box<Events>),
    /// It is forwarded.
    Forward(Box<Forwarding>),
}

/// The settings of a gateway.
#[derive(Debug)]
pub struct Settings {
    /// The address that people use, without path.
    pub public_url: Url,
    /// The path that our own endpoints begin with, without final slash.
    pub prefix: String,
    /// As whom we speak to the authorization server.
    pub client: Arc<Client>,
    /// How long sessions live.
    pub session: SessionPolicy,
    /// How tokens are refreshed.
    pub refresh: RefreshPolicy,
    /// Where requests go.
    pub routes: RouteTable,
    /// The defence against other sites.
    pub cross_origin: CrossOrigin,
    /// Proxies before us whose forwarding fields are believed.
    pub trusted_proxies: Vec<IpNet>,
    /// What browsers are told about https.
    pub transport: TransportSecurity,
    /// How sessions are ended.
    pub logout: LogoutSettings,
    /// What administrators are told of sessions.
    pub roster: RosterPolicy,
}

/// Decides about every request of one site.
#[derive(Debug)]
pub struct Gateway {
    seams: Seams,
    settings: Settings,
    vault: Arc<Vault>,
    broker: Arc<Broker>,
    redemptions: Redemptions,
    roster: Arc<Roster>,
    streams: Arc<Streams>,
    /// The module that pages import, as it is served.
    client: Bytes,
}

impl Gateway {
    /// A gateway with these settings and seams; `vault` opens and seals its sessions.
    pub fn new(seams: Seams, settings: Settings, vault: Vault) -> Arc<Self> {
        let vault = Arc::new(vault);
        let (client, refresh) = (Arc::clone(&settings.client), settings.refresh.clone());
        let broker = Broker::new(seams.clone(), Arc::clone(&vault), client, refresh, settings.roster.issuer.clone());
        let site = settings.public_url.origin().ascii_serialization();
        let by = &settings.client;
        let roster = Arc::new(Roster::new(
            seams.clone(),
            Arc::clone(&vault),
            settings.roster.clone(),
            &settings.session,
            (&site, by.id.as_str(), by.clock_skew),
        ));
        Arc::new(Self {
            seams,
            settings,
            vault,
            broker: Arc::new(broker),
            redemptions: Redemptions::default(),
            roster,
            streams: Arc::default(),
            client: client::served().into(),
        })
    }

    /// Who is signed in, for administrators.
    pub fn roster(&self) -> Arc<Roster> {
        Arc::clone(&self.roster)
    }

    /// Decides what happens to a request. Its body is read only where the decision is to answer it here.
    pub async fn decide(self: &Arc<Self>, request: &Parts, peer: Peer, body: &mut dyn Body) -> Decision {
        let mut decision = self.judge(request, peer, body).await;
        match &mut decision {
            Decision::Respond(answer) => self.settings.transport.put_on(answer.headers_mut()),
            Decision::Events(events) => self.settings.transport.put_on(events.head_mut().headers_mut()),
            Decision::Forward(_) => {}
        }
        decision
    }

    /// The answer to a request that is not served, for reasons that the shell may have found.
    pub fn refused(&self, refusal: &Refusal, request: &Parts) -> Answer {
        let mut answer = refusal.answer(request, &self.settings.prefix);
        answer.headers_mut().extend(self.cors(&request.headers));
        self.settings.transport.put_on(answer.headers_mut());
        answer
    }

    async fn judge(self: &Arc<Self>, request: &Parts, peer: Peer, body: &mut dyn Body) -> Decision {
        let path = match CanonicalPath::parse(request.uri.path()) {
            Ok(path) => path,
            Err(ambiguous) => return self.refuse(&Refusal::BadRequest(ambiguous.0), request),
        };
        if let Some(endpoint) = path.as_str().strip_prefix(&self.settings.prefix)
            && (endpoint.is_empty() || endpoint.starts_with('/'))
        {
            if endpoint == "/session" && events::are_wanted(request) {
                return self.session_events(request).await;
            }
            return Decision::Respond(self.endpoint(endpoint, request, body).await);
        }
        let Some(route) = self.settings.routes.find(&path) else {
            return self.refuse(&Refusal::NoRoute, request);
        };
        if let Some(preflight) = self.preflight(request, route) {
            return Decision::Respond(preflight);
        }
        if !route.methods.contains(&request.method) {
            return self.refuse(&Refusal::Method(route.methods.clone()), request);
        }
        let cleared = match self.settings.cross_origin.clear(request, route.access) {
            Ok(cleared) => cleared,
            Err(missing) => return self.refuse(&self.unproven(missing, request), request),
        };
        let passport = if route.access == Access::Public {
            None
        } else {
            match self.admit(request, &route.token).await {
                Admission::Admitted(passport) => Some(passport),
                Admission::Nobody(_) if route.access == Access::Optional => None,
                Admission::Nobody(absence) => return Decision::Respond(self.turn_away(request, route, &absence)),
                Admission::Refused(refusal) => return self.refuse(&refusal, request),
            }
        };
        match &route.target {
            Target::Files(files) => {
                let served = files.current().find(&path, request);
                let answer = reply::file(served, request, &self.settings.prefix);
                Decision::Respond(self.accompany(answer, passport.as_ref(), request))
            }
            Target::Upstream(upstream) => Decision::Forward(Box::new(Forwarding::new(
                Arc::clone(self),
                cleared,
                route,
                upstream,
                &path,
                request,
                peer,
                passport,
            ))),
        }
    }

    /// Our own endpoints.
    async fn endpoint(self: &Arc<Self>, endpoint: &str, request: &Parts, body: &mut dyn Body) -> Answer {
        let allowed: &[Method] = match endpoint {
            "/login" | "/user" | "/session" | "/popup" | "/client.js" | "/jwks.json" => &[Method::GET, Method::HEAD],
            "/callback" if self.settings.client.requests.response_mode == ResponseMode::FormPost => {
                &[Method::POST, Method::GET, Method::HEAD]
            }
            "/callback" => &[Method::GET, Method::HEAD],
            "/logout" => &[Method::POST, Method::GET],
            "/logout/return" => &[Method::GET],
            "/frontchannel-logout" if self.settings.logout.front_channel != FrontChannel::Off => &[Method::GET],
            "/backchannel-logout" => &[Method::POST],
            _ => return Refusal::NoRoute.answer(request, &self.settings.prefix),
        };
        if !allowed.contains(&request.method) {
            return Refusal::Method(allowed.to_vec()).answer(request, &self.settings.prefix);
        }
        match endpoint {
            "/login" => self.login(request).await,
            "/callback" if request.method == Method::POST => self.posted_callback(request, body).await,
            "/callback" => self.callback(request).await,
            "/user" => self.user(request).await,
            "/session" => self.session(request).await,
            "/logout" if request.method == Method::GET => self.resume_logout(request).await,
            "/logout" => self.logout(request, body).await,
            "/logout/return" => self.return_from_logout(request),
            "/frontchannel-logout" => self.frontchannel_logout(request).await,
            "/backchannel-logout" => self.backchannel_logout(request, body).await,
            "/jwks.json" => self.client_keys(request),
            "/popup" => reply::landing(&client::landing(), request),
            _ => reply::script(self.client.clone(), request),
        }
    }

    /// The answer to a preflight. The upstream never sees one: what other origins may do is decided here.
    fn preflight(&self, request: &Parts, route: &Route) -> Option<Answer> {
        let asks = request.method == Method::OPTIONS && request.headers.contains_key("access-control-request-method");
        (asks && route.access != Access::Public).then(|| match self.settings.cross_origin.foreign(&request.headers) {
            Some(_) => reply::preflight(self.cors(&request.headers), request),
            None => Refusal::Method(route.methods.clone()).answer(request, &self.settings.prefix),
        })
    }

    /// The fields that let scripts of an allowed foreign origin read an answer; none unless some are allowed.
    fn cors(&self, headers: &HeaderMap) -> Vec<(HeaderName, HeaderValue)> {
        let rule = &self.settings.cross_origin;
        let vary = rule.varies().then(|| (VARY, HeaderValue::from_static("Origin")));
        let allowed = rule.foreign(headers).map(|origin| {
            [
                (ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone()),
                (ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true")),
            ]
        });
        vary.into_iter().chain(allowed.into_iter().flatten()).collect()
    }

    /// What a request without proof of its origin is told. Without a session cookie there is nothing to defend, and that
    /// the session is missing is the more helpful answer.
    fn unproven(&self, missing: Missing, request: &Parts) -> Refusal {
        if self.vault.is_presented(&request.headers) { Refusal::CrossSite(missing) } else { Refusal::NoSession(None) }
    }

    fn refuse(&self, refusal: &Refusal, request: &Parts) -> Decision {
        Decision::Respond(self.refused(refusal, request))
    }

    /// Puts what the session's cookies need on an answer of our own.
    fn accompany(&self, mut answer: Answer, passport: Option<&Passport>, request: &Parts) -> Answer {
        if let Some(passport) = passport {
            let cookies = self.cookies_of(passport, &request.headers);
            attach(answer.headers_mut(), cookies);
            // A file that only those who are signed in may see is no file for shared caches (CACHE-02).
            if let Some(private) = headers::private_caching(answer.headers()) {
                answer.headers_mut().insert(CACHE_CONTROL, private);
            }
        }
        answer
    }

    /// Starts work that outlives the request.
    fn detach(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.seams.tasks.spawn(work);
    }
}
