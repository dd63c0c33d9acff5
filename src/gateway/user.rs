//! `GET /bff/user` and `GET /bff/session`: who is signed in, and for how long. Never a token, never a slide.

use std::time::Duration;

use http::request::Parts;
use serde_json::{Value, json};

use super::Gateway;
use super::admission::{Absence, Admission, Passport};
use super::cross_origin::{Cleared, Missing};
use super::reply::{self, Answer, Refusal};
use super::route::Access;
use crate::session::Session;

impl Gateway {
    pub(super) async fn user(&self, request: &Parts) -> Answer {
        let anonymous = request.uri.query().is_some_and(|query| query.split('&').any(|it| it == "anonymous=200"));
        self.about(request, anonymous, |gateway, passport| {
            let mut claims = passport.session.identity.claims();
            // With plain OAuth nobody says who it is.
            if let Some(subject) = &passport.session.identity.original.subject {
                claims.insert("sub".to_owned(), subject.clone().into());
            }
            json!({ "claims": claims, "levels": gateway.levels(passport), "session": gateway.times(&passport.newest(), passport.unused) })
        })
        .await
    }

    pub(super) async fn session(&self, request: &Parts) -> Answer {
        self.about(request, false, |gateway, passport| gateway.times(&passport.newest(), passport.unused)).await
    }

    async fn about(&self, request: &Parts, anonymous: bool, tell: impl Fn(&Self, &Passport) -> Value) -> Answer {
        let prefix = &self.settings.prefix;
        let cleared = self.settings.cross_origin.clear(request, Access::Optional);
        let mut answer = match self.who(request, cleared).await {
            Admission::Admitted(passport) => reply::json(&tell(self, &passport), request),
            Admission::Nobody(_) if anonymous => reply::json(&Value::Null, request),
            Admission::Nobody(absence) => Refusal::NoSession(absence.reason).answer(request, prefix),
            Admission::Refused(refusal) => refusal.answer(request, prefix),
        };
        answer.headers_mut().extend(self.cors(&request.headers));
        answer
    }

    /// How the person has authenticated, and how many seconds ago.
    fn levels(&self, passport: &Passport) -> Value {
        let now = self.seams.clock.now();
        let levels = &passport.session.identity.levels;
        levels.iter().map(|level| json!({ "acr": level.acr, "age": now.since(level.at).as_secs() })).collect()
    }

    /// Whose request it is, as far as it may be told.
    pub(super) async fn who(&self, request: &Parts, cleared: Result<Cleared, Missing>) -> Admission {
        match cleared {
            Ok(_) => self.identify(&request.headers).await,
            // Whoever shows no cookie is nobody, wherever the request comes from.
            Err(_) if !self.vault.is_presented(&request.headers) => Admission::Nobody(Absence::default()),
            Err(missing) => Admission::Refused(Refusal::CrossSite(missing)),
        }
    }

    /// Whole seconds until each end of a session that is `unused` for so long. A refresh or a request may move the first
    /// and the last.
    pub(super) fn times(&self, session: &Session, unused: Duration) -> Value {
        let now = self.seams.clock.now();
        let idle_ends_in = self.settings.session.idle.saturating_sub(unused);
        json!({
            "idle_ends_in": idle_ends_in.min(session.expires().until(now)).as_secs(),
            "ends_in": session.expires().until(now).as_secs(),
            "token_expires_in": session.grant.access.expires.map(|expires| expires.until(now).as_secs()),
            "generation": session.generation,
        })
    }
}
