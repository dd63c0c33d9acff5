//! What a browser does in a world: requests, from their cookies to the arrival of their answers, if they arrive.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use http::header::{AUTHORIZATION, LOCATION, SET_COOKIE};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, StatusCode};
use tokio::time::sleep;
use url::Url;
use vestibule::clock::Clock;
use vestibule::gateway::{Decision, Forwarding, NoBody, Peer, Verdict};
use vestibule::ledger::protocol::EndReason;
use vestibule::session::vault::Found;
use vestibule::session::{Carried, SessionId};

use super::browser::Browser;
use super::clock::Wall;
use super::replica::Replica;
use super::world::World;

/// The head of an answer as it leaves.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    /// It came from the upstream.
    forwarded: bool,
}

const PEER: Peer = Peer { address: IpAddr::V4(Ipv4Addr::LOCALHOST) };

impl World {
    /// One call of a script, from its cookies to the arrival of its answer, if it arrives.
    pub(super) async fn call(&self, jar: &Browser) {
        let other = self.trouble.apis && self.dice.happens(50);
        let request = jar.fetch("GET", if other { "/bills/1" } else { "/api/orders" });
        let shown = self.opened(&request.headers).map(|it| it.0);
        let troubled = self.trouble.browser;
        let patience =
            if troubled && self.dice.happens(15) { self.dice.millis(0..3_000) } else { Duration::from_secs(3_600) };
        let (travel, upstream) = (self.dice.millis(0..2_500), self.dice.millis(0..4_000));
        let network = self.dice.millis(0..2_500);
        let lost = troubled && self.dice.happens(10);
        let which = self.dice.below(2);
        // The cookies are those of the departure, and much may happen until they arrive.
        let journey = async {
            sleep(travel).await;
            self.serve(which, &request, upstream).await
        };
        // A browser that gives up drops the request wherever it is; a replica that crashes drops it too.
        let Ok(Some(answer)) = tokio::time::timeout(patience, journey).await else { return };
        self.judge(shown, &answer);
        sleep(network).await;
        if !lost {
            self.arrive(jar, &answer);
        }
    }

    /// The shell's part: decide, attempt, answer, depart. None if the replica crashes meanwhile.
    pub(super) async fn serve(&self, which: u64, request: &Parts, upstream: Duration) -> Option<Answer> {
        let replica = self.replica(which);
        let answer = replica.life.survive(self.pass(&replica, request, upstream)).await?;
        if let Some((session, generation)) = self.set_by(request, &answer.headers) {
            self.site.witness.a_cookie_never_goes_back(session, generation);
        }
        Some(answer)
    }

    async fn pass(&self, replica: &Replica, request: &Parts, upstream: Duration) -> Answer {
        let mut forwarding = match replica.gateway.decide(request, PEER, &mut NoBody).await {
            Decision::Respond(answer) => {
                tracing::debug!(status = answer.status().as_u16(), body = ?answer.body(), "answered here");
                return Answer { status: answer.status(), headers: answer.headers().clone(), forwarded: false };
            }
            Decision::Events(events) => {
                let head = events.head();
                return Answer { status: head.status(), headers: head.headers().clone(), forwarded: false };
            }
            Decision::Forward(forwarding) => forwarding,
        };
        loop {
            let taken = self.upstream_takes(&mut forwarding);
            sleep(upstream).await;
            let status = if taken { StatusCode::OK } else { StatusCode::UNAUTHORIZED };
            if forwarding.answered(status, &HeaderMap::new()).await == Verdict::Pass {
                let edits = forwarding.depart(request, &HeaderMap::new());
                let headers = edits.append.into_iter().filter(|(name, _)| *name == SET_COOKIE).collect();
                return Answer { status, headers, forwarded: true };
            }
        }
    }

    fn upstream_takes(&self, forwarding: &mut Forwarding) -> bool {
        let edits = forwarding.attempt();
        let bearer = edits.set.iter().find(|(name, _)| *name == AUTHORIZATION).map(|(_, value)| value);
        let token = bearer.and_then(|value: &HeaderValue| value.to_str().ok()?.strip_prefix("Bearer "));
        let seen = token.and_then(|token| self.site.issuer.look_at(token));
        tracing::debug!(?seen, "attempted");
        let Some((family, number, taken)) = seen else { return false };
        self.site.witness.what_is_used_is_committed(family, number);
        self.site.witness.an_ended_session_is_not_used(family);
        taken
    }

    fn judge(&self, shown: Option<SessionId>, answer: &Answer) {
        let millis = u64::try_from(self.start.elapsed().as_millis()).unwrap();
        self.answers.borrow_mut().push((millis, answer.status.as_u16()));
        // Endings make requests wait, too, where they catch up with a refresh.
        let ends = self.trouble.logout || self.trouble.burial || self.trouble.relogin || self.trouble.thief;
        let may_wait = self.trouble.delays() || ends;
        self.site.witness.who_is_signed_in_is_served(shown, answer.status, answer.forwarded, may_wait);
    }

    /// An answer arrives, and the last one wins, whatever it carries.
    pub(super) fn arrive(&self, jar: &Browser, answer: &Answer) {
        jar.obey(&answer.headers);
        if let (Some((mine, _)), Some((now, _))) = (self.mine.get(), self.opened(&jar.cookies())) {
            // No server can help it: the older answer had left before.
            self.overtaken.set(now != mine);
        }
    }

    /// Signs in, perhaps although it is signed in already.
    pub(super) async fn sign_in(&self, jar: &Browser) {
        let which = self.dice.below(2);
        let request = jar.navigate("/bff/login");
        let replaced = self.opened(&request.headers).map(|it| it.0);
        let Some(away) = self.serve(which, &request, Duration::ZERO).await else { return };
        if away.status != StatusCode::SEE_OTHER {
            return assert!(self.trouble.delays(), "a login starts with {}", away.status);
        }
        self.arrive(jar, &away);
        let url: Url = away.headers[LOCATION].to_str().unwrap().parse().unwrap();
        let parameter = |name: &str| url.query_pairs().find(|(it, _)| it == name).unwrap().1.into_owned();
        let (code, family) = self.site.issuer.authorize(&parameter("nonce"));
        if replaced.is_some() {
            sleep(self.dice.millis(0..5_000)).await;
        }
        if let Some(replaced) = replaced {
            self.site.witness.asked_to_end(replaced, EndReason::Replaced);
        }
        let back = jar.navigate(&format!("/bff/callback?code={code}&state={}", parameter("state")));
        let Some(home) = self.serve(self.dice.below(2), &back, Duration::ZERO).await else { return };
        let Some((session, _)) = self.set_by(&back, &home.headers).filter(|_| home.headers.contains_key(LOCATION))
        else {
            return assert!(self.trouble.delays(), "a login ends with {}", home.status);
        };
        self.site.witness.signed_in(session, family, 1);
        // An end that the ledger did not take is not acknowledged by anything that the browser is told.
        if let Some(replaced) = replaced.filter(|_| !self.trouble.ledger()) {
            self.site.witness.end_acknowledged(replaced);
        }
        self.mine.set(Some((session, family)));
        sleep(self.dice.millis(0..500)).await;
        self.arrive(jar, &home);
    }

    pub(super) async fn sign_out(&self) {
        let request = self.browser.fetch("POST", "/bff/logout");
        let Some((session, _)) = self.opened(&request.headers) else { return };
        self.site.witness.asked_to_end(session, EndReason::Logout);
        if !self.trouble.thief && !self.trouble.relogin {
            // Another tool of the same person goes on with what it copied.
            *self.thief.borrow_mut() = Some(self.browser.copied());
        }
        let which = self.dice.below(2);
        let replica = self.replica(which);
        let decided = replica.life.survive(replica.gateway.decide(&request, PEER, &mut NoBody)).await;
        let Some(Decision::Respond(answer)) = decided else { return };
        let told = std::str::from_utf8(answer.body()).unwrap_or_default();
        if answer.status() == StatusCode::OK && told.contains("\"pending\":false") {
            self.site.witness.end_acknowledged(session);
        }
        self.browser.obey(answer.headers());
        // Whoever signs out takes a login along that was finished meanwhile.
        self.overtaken.set(self.mine.get().is_some_and(|(mine, _)| mine != session));
    }

    /// Somebody takes a copy of the cookies, and uses it once in a while.
    pub(super) async fn steal(&self) {
        let taken = self.thief.borrow().clone();
        let Some(jar) = taken else {
            *self.thief.borrow_mut() = Some(self.browser.copied());
            return;
        };
        if !self.dice.happens(30) {
            return;
        }
        let request = jar.fetch("GET", "/api/orders");
        let Some((session, generation)) = self.opened(&request.headers) else { return };
        let is_old = self.site.witness.stolen(session, generation);
        let Some(answer) = self.serve(self.dice.below(2), &request, Duration::ZERO).await else { return };
        assert!(!(is_old && answer.status == StatusCode::OK), "a cookie older than a settled one was served");
    }

    /// What a `Cookie` field carries: the session and its generation.
    pub(super) fn opened(&self, headers: &HeaderMap) -> Option<(SessionId, u64)> {
        match self.vault.open(headers, Wall::new(self.start).now()) {
            Found::Session { carried: Carried::Body(session), .. } => Some((session.id, session.generation)),
            Found::Session { carried: Carried::Handle(handle), .. } => Some((handle.id, handle.generation)),
            Found::Nothing | Found::Garbage | Found::Foreign => None,
        }
    }

    /// What the cookies of an answer to `request` carry, if it sets a session's.
    fn set_by(&self, request: &Parts, headers: &HeaderMap) -> Option<(SessionId, u64)> {
        if !headers.contains_key(SET_COOKIE) {
            return None;
        }
        let jar = Browser::presenting(&request.headers);
        let before = jar.cookies();
        jar.obey(headers);
        let after = jar.cookies();
        (before != after).then(|| self.opened(&after)).flatten().filter(|_| sets_session(headers))
    }
}

/// Whether a session's cookie is among those that are set, and not only a login's.
fn sets_session(headers: &HeaderMap) -> bool {
    let lines = headers.get_all(SET_COOKIE).iter().filter_map(|line| line.to_str().ok());
    lines.into_iter().any(|line| line.starts_with("__Host-Http-vestibule=") && !line.contains("Max-Age=0"))
}
