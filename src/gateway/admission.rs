//! From the cookies of a request to the session that it may use, or to the reason why it may use none.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use http::request::Parts;

use super::broker::{Landing, Resolved, Slot};
use super::cross_origin::{is_from_elsewhere, is_navigation};
use super::reply::{Answer, Refusal};
use super::return_to::{ReturnTo, target_of};
use super::route::{Access, Errand, Route, RouteToken};
use super::{Gateway, attach, reply};
use crate::clock::Timestamp;
use crate::ledger::StoreError;
use crate::ledger::protocol::{EndReason, Ending, Presented};
use crate::ledger::view::{Note, Standing};
use crate::session::cookies::SetCookies;
use crate::session::vault::Found;
use crate::session::{Carried, Freshness, Present, Session};

/// What a request's cookies amount to.
#[must_use]
#[derive(Debug)]
pub enum Admission {
    /// A session that lives, with a token that may be used.
    Admitted(Passport),
    /// No session.
    Nobody(Absence),
    /// There is one, but it cannot be used right now. It is kept.
    Refused(Refusal),
}

/// A request that carries no session that lives.
#[derive(Clone, Copy, Debug, Default)]
pub struct Absence {
    /// Why the session that it carried has ended.
    pub reason: Option<EndReason>,
    /// Whether its cookie may be deleted: it is garbage, or it ended so long ago that no newer one can be on its way.
    pub retire: bool,
}

/// A session in use by one request, and what may have to be said about it when the answer leaves.
#[derive(Debug)]
pub struct Passport {
    /// The session in use: the newest that was known when the request was decided.
    pub session: Arc<Session>,
    /// The generation of the body that the browser presented; none if it presented a handle on one.
    presented: Option<u64>,
    /// For how long the session had not been used.
    pub unused: Duration,
    /// For how long by what its cookie says, which does not know of streams that are open.
    cookie_age: Duration,
    /// A refresh that is on its way beside the request.
    slot: Option<Slot>,
    /// Its cookie is sealed with a key that is on its way out.
    reseal: bool,
    decided: Timestamp,
}

/// An ended session's cookie is deleted only this long after the end: a late answer must not delete a newer login's.
const LINGER: Duration = Duration::from_secs(60);
/// An answer that takes longer than this from its decision carries no cookie: too much may have happened.
const STALE: Duration = Duration::from_secs(30);
/// A request follows a session that moves on so many times, each time by a refresh that another request has made; and once
/// more for each route that may be fetching a token of its own.
const MAX_STEPS: usize = 3;
/// The idle limit slides at most this often.
const SLIDE: Duration = Duration::from_secs(60);

impl Passport {
    /// The newest session that this request knows of, its own flight's landing included.
    pub fn newest(&self) -> Arc<Session> {
        let landed = self.slot.as_ref().and_then(|slot| match &*slot.borrow() {
            Some(Landing::Advanced(newer)) => Some(Arc::clone(newer)),
            Some(Landing::Ended(_) | Landing::Unavailable(_) | Landing::Denied(_)) | None => None,
        });
        landed.filter(|newer| newer.generation > self.session.generation).unwrap_or_else(|| Arc::clone(&self.session))
    }
}

impl Gateway {
    /// Finds the session of a request and a token of it that is good to use. The hot path: a good token asks nobody.
    pub(super) async fn admit(&self, request: &Parts, token: &RouteToken) -> Admission {
        match self.identify(&request.headers).await {
            Admission::Admitted(passport) => self.freshen(passport, token).await,
            absent @ (Admission::Nobody(_) | Admission::Refused(_)) => absent,
        }
    }

    /// Finds the session of a request, whatever its access token is like.
    pub(super) async fn identify(&self, headers: &HeaderMap) -> Admission {
        let now = self.seams.clock.now();
        let (carried, reseal) = match self.vault.open(headers, now) {
            Found::Nothing => return Admission::Nobody(Absence::default()),
            Found::Foreign => {
                tracing::warn!(
                    "a session was sealed with a key that is not among session.keys, or by a newer release; it is left \
                     alone: give all replicas the same keys"
                );
                return Admission::Nobody(Absence::default());
            }
            Found::Garbage => {
                tracing::info!("a session cookie is damaged, incomplete or forged; it is retired");
                return Admission::Nobody(Absence { reason: None, retire: true });
            }
            Found::Session { carried, reseal } => (carried, reseal),
        };
        let last_seen = carried.last_seen();
        let presented = match &carried {
            Carried::Body(session) => Some(session.generation),
            Carried::Handle(_) => None,
        };
        let session = match self.broker.resolve(carried).await {
            Ok(Resolved::Live(session)) => session,
            Ok(Resolved::Replayed(session)) => return self.replayed(Arc::new(*session)).await,
            Ok(Resolved::Ended(ending, _)) => return ended(ending, now),
            Ok(Resolved::Missing) => {
                tracing::error!(
                    "the body of a session is not in the ledger, which has lost it; its browser has to sign in again"
                );
                return Admission::Nobody(Absence::default());
            }
            Err(error) => return ledger_unavailable(&error),
        };
        let cookie_age = now.since(last_seen.max(session.last_seen));
        let mut unused = self.unused(&session, cookie_age);
        if unused >= self.settings.session.idle {
            // Unless something of it was open on another replica, which only the ledger knows.
            match self.seams.ledger.last_use(session.id).await {
                Ok(last) => unused = last.map_or(unused, |last| unused.min(last)),
                Err(error) => return ledger_unavailable(&error),
            }
        }
        if let Some((reason, since)) = self.limit_reached(&session, unused, now) {
            return Admission::Nobody(Absence { reason: Some(reason), retire: since >= LINGER });
        }
        if let Some(generation) = presented {
            self.note_presented(&session, generation);
        }
        Admission::Admitted(Passport { session, presented, unused, cookie_age, slot: None, reseal, decided: now })
    }

    /// Sees to it that the token that will be carried is good: refreshes beside the request when it is time, waits when it
    /// is late.
    async fn freshen(&self, mut passport: Passport, token: &RouteToken) -> Admission {
        let began = self.seams.clock.uptime();
        for _ in 0..MAX_STEPS + self.settings.routes.own_tokens() {
            let now = self.seams.clock.now();
            match self.freshness(token, &passport.session, now) {
                (Freshness::Good, _) => return Admission::Admitted(passport),
                (Freshness::Due, errand) => {
                    if !self.is_denied(&passport.session, &errand) {
                        passport.slot = Some(self.broker.depart(&passport.session, errand));
                    }
                    return Admission::Admitted(passport);
                }
                (Freshness::Spent, errand) => {
                    let waited = self.seams.clock.uptime().saturating_sub(began);
                    passport.session = match self.successor(&passport.session, errand, waited).await {
                        Ok(newer) => newer,
                        Err(refused) => return *refused,
                    };
                    passport.decided = self.seams.clock.now();
                    // Whoever has waited for a token uses it, however slow its server is.
                    if token.carried_by(&passport.session).is_some_and(|it| it.has_just_come(passport.decided)) {
                        return Admission::Admitted(passport);
                    }
                }
            }
        }
        Admission::Refused(Refusal::IssuerUnavailable(Duration::from_secs(1)))
    }

    /// How the token that will be carried stands in `session`, and what is to be done if that is not well.
    pub(super) fn freshness(&self, token: &RouteToken, session: &Session, now: Timestamp) -> (Freshness, Errand) {
        let present =
            Present { now, ahead: self.settings.session.ahead, certificate: &|| self.seams.server.certificate() };
        token.freshness(session, &present)
    }

    fn is_denied(&self, session: &Session, errand: &Errand) -> bool {
        match errand {
            Errand::Refresh => false,
            Errand::Fetch(target) => self.broker.is_denied(session.id, target.id()),
        }
    }

    /// Waits for the next landing of a session, for a request that has `waited` already, and asks once more how its result
    /// stands: meanwhile the session may have ended, or moved on. It may be the landing of another's errand.
    pub(super) async fn successor(
        &self,
        session: &Arc<Session>,
        errand: Errand,
        waited: Duration,
    ) -> Result<Arc<Session>, Box<Admission>> {
        if self.is_denied(session, &errand) {
            return Err(Box::new(Admission::Refused(Refusal::NoTokenForRoute)));
        }
        let slot = self.broker.depart(session, errand);
        let newer = match self.broker.arrival(slot, waited).await {
            // If it was ours, that is known by now.
            Landing::Denied(_) => return Ok(Arc::clone(session)),
            Landing::Advanced(newer) => newer,
            Landing::Ended(ending) => {
                self.broker.revoke_on_sight(ending, session.handle(), Some(session));
                return Err(Box::new(ended(ending, self.seams.clock.now())));
            }
            Landing::Unavailable(until) => {
                let rest = until.until(self.seams.clock.now());
                return Err(Box::new(Admission::Refused(Refusal::IssuerUnavailable(rest))));
            }
        };
        match self.broker.resolve(Carried::Body(Box::new(Session::clone(&newer)))).await {
            Ok(Resolved::Live(newest)) => Ok(newest),
            Ok(Resolved::Ended(ending, _)) => Err(Box::new(ended(ending, self.seams.clock.now()))),
            Ok(Resolved::Replayed(_) | Resolved::Missing) => Ok(newer),
            Err(error) => Err(Box::new(ledger_unavailable(&error))),
        }
    }

    /// The cookies that an answer to this request has to carry, decided at the moment when its head leaves.
    ///
    /// Never older than the newest generation known, never for a session that has ended, never long after the decision.
    pub(super) fn cookies_of(&self, passport: &Passport, headers: &HeaderMap) -> SetCookies {
        let now = self.seams.clock.now();
        let mut cookies = self.set_cookies();
        let newest = passport.newest();
        let ledger = &self.seams.ledger;
        if now.since(passport.decided) > STALE || ledger.standing(newest.id, newest.generation) != Standing::Current {
            return cookies;
        }
        let advanced = passport.presented.is_some_and(|presented| newest.generation > presented);
        let slides = || ledger.slide(newest.id, passport.cookie_age, SLIDE, newest.ends);
        if advanced || passport.reseal || slides() {
            self.roster.seen(&newest, passport.cookie_age, headers);
            let seen = newest.seen(now);
            if let Err(error) = self.vault.store(&seen, headers, &mut cookies, &*self.seams.random, now) {
                tracing::error!(%error, "a session cookie cannot be written; the earlier one goes on");
            }
        }
        cookies
    }

    /// The answer to a request that needs a session and carries none.
    pub(super) fn turn_away(&self, request: &Parts, route: &Route, absence: &Absence) -> Answer {
        let target = target_of(request);
        let mut answer = if route.access == Access::Page && is_navigation(request) {
            if self.vault.is_strict() && is_from_elsewhere(&request.headers) {
                // A Strict cookie does not come along from elsewhere; once the page itself goes on, it does (CK-06). Where
                // nobody may be made to sign in by another site, a person has to make it go on.
                match self.settings.client.requests.profile.asks_before_login() {
                    true => reply::ask_before_login(target, request),
                    false => reply::bounce(target),
                }
            } else {
                let back = ReturnTo::parse(target, &self.settings.public_url).unwrap_or_else(ReturnTo::root);
                reply::redirect(&self.login_url(&back, 0))
            }
        } else {
            Refusal::NoSession(absence.reason).answer(request, &self.settings.prefix)
        };
        answer.headers_mut().extend(self.cors(&request.headers));
        let mut cookies = self.set_cookies();
        if absence.retire {
            self.vault.retire(&request.headers, &mut cookies);
        }
        attach(answer.headers_mut(), cookies);
        answer
    }

    /// An empty set of cookies of this site.
    pub(super) fn set_cookies(&self) -> SetCookies {
        SetCookies::new(self.vault.names())
    }

    /// For how long a session was not used: by what its cookies say, or by what this process has seen since, whichever
    /// is less. A step of the clock changes the first and not the second.
    pub(super) fn unused(&self, session: &Session, cookie_age: Duration) -> Duration {
        self.seams.ledger.unseen_for(session.id).map_or(cookie_age, |unseen| unseen.min(cookie_age))
    }

    /// The limit that a session has reached, and how long ago.
    pub(super) fn limit_reached(
        &self,
        session: &Session,
        unused: Duration,
        now: Timestamp,
    ) -> Option<(EndReason, Duration)> {
        let end = session.expires();
        if now >= end {
            return Some((EndReason::Expired, now.since(end)));
        }
        unused.checked_sub(self.settings.session.idle).map(|since| (EndReason::Idle, since))
    }

    /// The newest generation was presented: the ledger hears of it beside the request, at most twice.
    fn note_presented(&self, session: &Session, generation: u64) {
        let settle = self.broker.settle();
        match self.seams.ledger.presented(session.id, generation, settle) {
            Note::None => {}
            Note::Presented => {
                let (ledger, id) = (Arc::clone(&self.seams.ledger), session.id);
                let presented = Presented { generation, settle, keep_until: session.ends };
                self.detach(async move {
                    if let Err(error) = ledger.apply(id, &presented).await {
                        tracing::debug!(%error, "a generation is settled later");
                    }
                });
            }
        }
    }

    /// A cookie that the browser itself no longer has: somebody holds a copy. The session ends, whoever it was.
    async fn replayed(&self, session: Arc<Session>) -> Admission {
        tracing::warn!(target: "audit", event = "session.replayed", generation = session.generation);
        match self.broker.end(session, EndReason::Replayed).await {
            Ok(_) => Admission::Nobody(Absence { reason: Some(EndReason::Replayed), retire: false }),
            Err(error) => ledger_unavailable(&error),
        }
    }
}

/// What a request of a session that is over amounts to.
fn ended(ending: Ending, now: Timestamp) -> Admission {
    let retire = ending.reason != EndReason::Replaced && now.since(ending.at) >= LINGER;
    Admission::Nobody(Absence { reason: Some(ending.reason), retire })
}

fn ledger_unavailable(error: &StoreError) -> Admission {
    tracing::error!(%error, "the ledger cannot be asked; the request is refused and the session kept");
    Admission::Refused(Refusal::LedgerUnavailable)
}
