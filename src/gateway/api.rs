//! A request on its way to an upstream: what it carries there, and what its answer carries back.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, HOST, WWW_AUTHENTICATE};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};

use super::admission::Passport;
use super::broker::Resolved;
use super::cross_origin::Cleared;
use super::headers::{self, DownstreamEdits, FieldEdits};
use super::presenting::Shown;
use super::reply::{Answer, Refusal};
use super::route::{CanonicalPath, Route, RouteToken, Upstream, authority};
use super::vigil::{Use, Vigil};
use super::{Gateway, Peer, attach};
use crate::ledger::view::Standing;
use crate::oauth::{StepUp, TokenScheme};
use crate::session::cookies::SetCookies;
use crate::session::{Carried, Freshness, Session};

/// The gateway's live handle on one forwarded request.
#[derive(Debug)]
pub struct Forwarding {
    gateway: Arc<Gateway>,
    /// Nobody can make a forwarding without it.
    _cleared: Cleared,
    upstream: Arc<Upstream>,
    target: PathAndQuery,
    method: Method,
    /// What proofs call the target; empty where none is made.
    proven_target: String,
    fields: FieldEdits,
    passport: Option<Passport>,
    /// Which token of the session it carries.
    token: RouteToken,
    /// The session whose token the last attempt carried.
    used: Option<Arc<Session>>,
    /// Whether it has been sent twice because of its token, and because of its proof.
    repeated: bool,
    proven_anew: bool,
    /// The nonce that the upstream has demanded for this very request.
    demanded_nonce: Option<Arc<str>>,
    /// What is answered in place of the upstream's answer.
    instead: Option<Refusal>,
}

/// What one attempt changes in the request.
#[derive(Debug)]
pub struct UpstreamEdits<'a> {
    /// The target that replaces the request's.
    pub target: &'a PathAndQuery,
    /// Fields to remove, before anything is set.
    pub remove: &'a [HeaderName],
    /// Fields to set, each in place of all of that name.
    pub set: Vec<(HeaderName, HeaderValue)>,
}

/// What becomes of an upstream's answer.
#[must_use]
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It goes to the browser.
    Pass,
    /// The request is sent once more.
    Repeat,
    /// The same, whatever its method, for it was not worked on. If what was sent of its body is gone, something else is
    /// answered in its place.
    RepeatOrReplace,
    /// Something else is answered in its place: [`Failure::Replaced`].
    Replace,
}

/// Why there is no answer to forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The upstream cannot be reached, or broke off.
    Unreachable,
    /// It did not answer in time.
    TimedOut,
    /// The browser sent more than the limit.
    BodyTooLarge,
    /// The engine does not forward such header fields.
    Malformed,
    /// There is one, and something else is answered in its place.
    Replaced,
    /// Something of ours is broken.
    Internal,
}

impl Forwarding {
    #[expect(clippy::too_many_arguments, reason = "all that was decided about the request, once, by one caller")]
    pub(super) fn new(
        gateway: Arc<Gateway>,
        cleared: Cleared,
        route: &Route,
        upstream: &Arc<Upstream>,
        path: &CanonicalPath,
        request: &Parts,
        peer: Peer,
        passport: Option<Passport>,
    ) -> Self {
        let is_bound = |it: &Passport| upstream.scheme_for(&it.session) == TokenScheme::DPoP;
        let proven = passport.as_ref().is_some_and(is_bound).then(|| upstream.proven_target(route, path));
        let path = path.forwarded_by(route, upstream);
        let target = match request.uri.query() {
            Some(query) => format!("{path}?{query}"),
            None => path,
        };
        let fields = headers::for_upstream(request, peer, &gateway.settings, gateway.vault.names());
        Self {
            // A canonical path and a query that was parsed before make a target; the root stands in for the impossible.
            target: PathAndQuery::try_from(target).unwrap_or_else(|_| PathAndQuery::from_static("/")),
            method: request.method.clone(),
            proven_target: proven.unwrap_or_default(),
            gateway,
            _cleared: cleared,
            upstream: Arc::clone(upstream),
            fields,
            passport,
            token: route.token.clone(),
            used: None,
            repeated: false,
            proven_anew: false,
            demanded_nonce: None,
            instead: None,
        }
    }

    /// Where the request goes.
    pub const fn upstream(&self) -> &Arc<Upstream> {
        &self.upstream
    }

    /// Whether the request carries a session's token.
    pub const fn has_session(&self) -> bool {
        self.passport.is_some()
    }

    /// Watches over the session of the request, for which its answer counts as a use while it goes on; none without a
    /// session.
    pub fn vigil(&self) -> Option<Vigil> {
        self.passport.as_ref().map(|passport| self.gateway.vigil(passport, Use::Counts))
    }

    /// What the next attempt changes in the request: called once for each.
    pub fn attempt(&mut self) -> UpstreamEdits<'_> {
        let mut set = self.fields.set.clone();
        if let Ok(host) = HeaderValue::from_str(authority(&self.upstream.url)) {
            set.push((HOST, host));
        }
        if let Some(passport) = &self.passport {
            let session = passport.newest();
            if let Some(held) = self.token.carried_by(&session) {
                let shown = Shown {
                    upstream: &self.upstream,
                    method: &self.method,
                    target: &self.proven_target,
                    nonce: self.demanded_nonce.as_deref(),
                };
                set.extend(self.gateway.presented(&session, &held.token, &shown));
            }
            self.used = Some(session);
        }
        UpstreamEdits { target: &self.target, remove: &self.fields.remove, set }
    }

    /// What becomes of the upstream's answer. A 401 for a token that has been replaced meanwhile is worth one more try,
    /// if the request is safe to repeat (RFC 9110 section 9.2.2), and so is one for a proof without the newest nonce in any
    /// case; a demand for a stronger login becomes an answer that says where to go.
    pub async fn answered(&mut self, status: StatusCode, fields: &HeaderMap) -> Verdict {
        if self.shows_proof()
            && let Some(nonce) = self.gateway.demanded_nonce(&self.upstream, status, fields)
        {
            return self.prove_anew(nonce);
        }
        match self.try_newer_token(status).await {
            Verdict::Pass => {}
            other @ (Verdict::Repeat | Verdict::RepeatOrReplace | Verdict::Replace) => return other,
        }
        let demand = self.used.as_ref().and_then(|used| Some((used, StepUp::read(status, fields)?)));
        match demand {
            // No refresh would help: neither changes on renewal (RFC 9470 section 6.1).
            Some((used, wanted)) if self.would_help(&wanted) => {
                self.instead = Some(self.gateway.step_up(wanted, used));
                Verdict::Replace
            }
            Some(_) | None => Verdict::Pass,
        }
    }

    /// Whether a login could give the token what it lacks. The scopes of a route's own are those of the configuration.
    fn would_help(&self, wanted: &StepUp) -> bool {
        match (&self.token, wanted) {
            (RouteToken::None, _) => false,
            (RouteToken::Own(target), StepUp::Scope(_)) => target.wanted().scopes.is_empty(),
            (RouteToken::Own(_), StepUp::Authentication { .. }) | (RouteToken::Session, _) => true,
        }
    }

    /// Whether the last attempt carried a proof.
    fn shows_proof(&self) -> bool {
        self.used.as_ref().is_some_and(|used| {
            self.token.carried_by(used).is_some() && self.upstream.scheme_for(used) == TokenScheme::DPoP
        })
    }

    /// The upstream has not worked on the request, because its proof has not the newest nonce (RFC 9449 section 9). Once it is
    /// made anew; a server that then wants another one yet might want one for ever. Its 401 would say that the person has to
    /// sign in, which would not help.
    fn prove_anew(&mut self, nonce: Arc<str>) -> Verdict {
        self.demanded_nonce = Some(nonce);
        self.instead = Some(Refusal::SendAgain);
        let again = !std::mem::replace(&mut self.proven_anew, true);
        if again { Verdict::RepeatOrReplace } else { Verdict::Replace }
    }

    async fn try_newer_token(&mut self, status: StatusCode) -> Verdict {
        if status != StatusCode::UNAUTHORIZED || self.repeated || !self.method.is_safe() {
            return Verdict::Pass;
        }
        let (Some(passport), Some(used)) = (&self.passport, &self.used) else { return Verdict::Pass };
        let Some(newer) = self.newer_than(used, passport).await else { return Verdict::Pass };
        if let Some(passport) = &mut self.passport {
            passport.session = newer;
        }
        self.repeated = true;
        Verdict::Repeat
    }

    /// The session with another token than the one that was `used`, if there is one or will be in a moment.
    async fn newer_than(&self, used: &Arc<Session>, passport: &Passport) -> Option<Arc<Session>> {
        let refused = self.token.carried_by(used)?;
        let is_newer = |session: &Session| self.token.carried_by(session).is_some_and(|it| it.token != refused.token);
        let newest = passport.newest();
        let ledger = &self.gateway.seams.ledger;
        if is_newer(&newest) || ledger.standing(newest.id, newest.generation) == Standing::Behind {
            // Whatever has been fetched since, the session may have ended since, too.
            let carried = Carried::Body(Box::new(Session::clone(&newest)));
            match self.gateway.broker.resolve(carried).await {
                Ok(Resolved::Live(newer)) if is_newer(&newer) => return Some(newer),
                Ok(Resolved::Live(_)) => {}
                Ok(_) | Err(_) => return None,
            }
        }
        // It may have expired on its way, or be so near to it that a server which counts whole seconds takes it for expired.
        // Then it is being refreshed beside the request in any case, and that is worth waiting for.
        match self.gateway.freshness(&self.token, used, self.gateway.seams.clock.now()) {
            (Freshness::Good, _) => None,
            (Freshness::Due | Freshness::Spent, errand) => {
                let newer = self.gateway.successor(&newest, errand, Duration::ZERO).await.ok()?;
                is_newer(&newer).then_some(newer)
            }
        }
    }

    /// What the head of the final answer to `request` changes on its way to the browser. It alone decides about
    /// `Set-Cookie`, at the moment when the head leaves; not for interim answers.
    pub fn depart(&self, request: &Parts, fields: &HeaderMap) -> DownstreamEdits {
        let mut edits = headers::for_browser(fields, self.gateway.vault.names(), self.held());
        let cookies = self.cookies(request);
        if self.passport.is_some() {
            let caching = if edits.remove.contains(&CACHE_CONTROL) {
                Some(HeaderValue::from_static("private"))
            } else {
                headers::private_caching(fields)
            };
            edits.set.extend(caching.map(|value| (CACHE_CONTROL, value)));
            if fields.get_all(WWW_AUTHENTICATE).iter().any(|challenge| !headers::harmless_challenge(challenge)) {
                edits.remove.push(WWW_AUTHENTICATE);
            }
        }
        self.gateway.settings.transport.put_among(fields, &mut edits);
        edits.set_cookies(cookies);
        edits.append.extend(self.gateway.cors(&request.headers));
        edits
    }

    /// The fields that an upstream may not say to the browser after the body of its answer (RFC 9110 section 6.5).
    pub fn unsaid(&self, trailers: &HeaderMap) -> Vec<HeaderName> {
        headers::for_browser(trailers, self.gateway.vault.names(), self.held()).remove
    }

    /// The access token that was sent along.
    fn held(&self) -> Option<&[u8]> {
        Some(self.token.carried_by(self.used.as_ref()?)?.token.expose().as_bytes())
    }

    /// The answer to `request` when there is none to forward. It carries the same cookies: a rotated token must not be lost with a
    /// failed upstream.
    pub fn failed(&self, request: &Parts, failure: Failure) -> http::Response<Bytes> {
        let refusal = match failure {
            Failure::Unreachable => Refusal::UpstreamFailed,
            Failure::TimedOut => Refusal::UpstreamTimeout,
            Failure::BodyTooLarge => Refusal::BodyTooLarge,
            Failure::Malformed => {
                Refusal::BadRequest("header fields that are not forwarded, such as a Connection that names Host")
            }
            Failure::Replaced => self.instead.clone().unwrap_or(Refusal::Internal),
            Failure::Internal => Refusal::Internal,
        };
        let mut answer: Answer = self.gateway.refused(&refusal, request);
        attach(answer.headers_mut(), self.cookies(request));
        answer
    }

    fn cookies(&self, request: &Parts) -> SetCookies {
        match &self.passport {
            Some(passport) => self.gateway.cookies_of(passport, &request.headers),
            None => self.gateway.set_cookies(),
        }
    }
}
