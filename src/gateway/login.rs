//! `GET /bff/login`: starts a login.

use std::time::Duration;

use http::request::Parts;
use serde::{Deserialize, Serialize};
use url::Url;

use super::admission::Admission;
use super::cross_origin::{is_from_elsewhere, is_speculative, is_sub_resource};
use super::reply::{Answer, LoginFailure, Refusal};
use super::return_to::{ReturnTo, target_of};
use super::route::authority;
use super::{Gateway, attach, reply};
use crate::oauth::{
    AuthorizationRequest, AuthorizationServerMetadata, Issuer, LoginTransaction, LoginWishes, OriginalIdentity,
    ProofKey, Proofs, Pushing, State,
};
use crate::session::{Level, Session, SessionId};

/// A login that is on its way: what its cookie seals.
#[derive(Serialize, Deserialize)]
pub(super) struct PendingLogin {
    /// The protocol's part.
    pub(super) transaction: LoginTransaction,
    /// Where it leads back to.
    pub(super) return_to: String,
    /// The session of this browser that it will replace.
    pub(super) replaces: Option<SessionId>,
    /// Whose it is, and how and when that person has authenticated so far.
    pub(super) before: Option<Before>,
}

/// What is known of the person who is signed in when a login starts.
#[derive(Serialize, Deserialize)]
pub(super) struct Before {
    /// Of which issuer.
    pub(super) issuer: Issuer,
    /// Who it is, unique within the issuer.
    pub(super) subject: String,
    /// How and when that person has authenticated.
    pub(super) levels: Vec<Level>,
}

impl Before {
    fn of(session: &Session) -> Option<Self> {
        let identity = &session.identity;
        let original = &identity.original;
        Some(Self {
            issuer: original.issuer.clone(),
            subject: original.subject.clone()?,
            levels: identity.levels.clone(),
        })
    }

    /// Whether it is the same person.
    pub(super) fn is(&self, other: &OriginalIdentity) -> bool {
        self.issuer == other.issuer && other.subject.as_deref() == Some(self.subject.as_str())
    }
}

/// How long the authorization server may take to lodge a login: the person waits.
const LODGING: Duration = Duration::from_secs(5);
/// A longer parameter is refused, not shortened.
const MAX_PARAMETER: usize = 512;
/// So many logins may start anew by themselves before a page explains what may be wrong.
pub(super) const MAX_ATTEMPTS: u8 = 1;
/// The parameter that says that a login was sent to the right host name already.
const SENT_HOME: &str = "sent_home";

impl Gateway {
    pub(super) async fn login(&self, request: &Parts) -> Answer {
        let prefix = &self.settings.prefix;
        if is_speculative(&request.headers) || is_sub_resource(request) {
            return Refusal::NotANavigation.answer(request, prefix);
        }
        let mut wishes = match Wishes::parse(request.uri.query().unwrap_or_default()) {
            Ok(wishes) => wishes,
            Err(what) => return Refusal::BadRequest(what).answer(request, prefix),
        };
        match self.sent_home(request) {
            Some(home) if !wishes.sent_home => return home,
            Some(_) => tracing::warn!(
                "logins arrive under another host than server.public_url, even those that were sent there: a proxy in \
                 front changes the Host header; have it pass on what the browser sent"
            ),
            None => {}
        }
        if self.settings.client.requests.profile.asks_before_login() && is_from_elsewhere(&request.headers) {
            // A browser that does not say where it comes from cannot be told apart after the page either.
            return reply::ask_before_login(target_of(request), request);
        }
        let Ok(metadata) = self.seams.server.metadata().await else {
            tracing::error!("a login cannot start: the issuer's metadata is not known yet; see earlier messages");
            return Refusal::IssuerUnavailable(Duration::from_secs(2)).answer(request, prefix);
        };
        let present = match self.identify(&request.headers).await {
            Admission::Admitted(passport) => Some(passport.session),
            Admission::Refused(_) => None,
            Admission::Nobody(absence) => {
                // Whoever asks once more by hand gets one more round.
                if let Some(cause) = self.circle(request, &absence).filter(|_| wishes.attempt == 0) {
                    tracing::warn!(
                        ?cause,
                        "a login would go in circles: the browser does not send the session's cookie"
                    );
                    return Refusal::LoginFailed(cause).answer(request, prefix);
                }
                None
            }
        };
        let replaces = present.as_ref().map(|session| session.id);
        let before = present.as_deref().and_then(Before::of);
        wishes.login.more_scope = wishes.demand.as_deref().and_then(|it| self.demanded_scope(it, replaces));
        if wishes.login.prompt.as_deref() == Some("none") {
            // Who asks without a question means whoever is signed in, not whoever sits at the issuer by now.
            wishes.login.id_token_hint = present.as_ref().and_then(|session| session.grant.id_token.clone());
        }
        let now = self.seams.clock.now();
        let random = &*self.seams.random;
        // How often this login has started anew travels in the state, which survives where cookies do not.
        let state = State::new(format!("{}{}", random.token(), wishes.attempt));
        let (transaction, asked) = LoginTransaction::begin(
            &self.settings.client,
            &metadata,
            &wishes.login,
            state.clone(),
            &self.seams.proofs(),
        );
        let return_to = wishes
            .return_to
            .and_then(|wanted| ReturnTo::parse(&wanted, &self.settings.public_url))
            .unwrap_or_else(ReturnTo::root);
        let pending = PendingLogin { transaction, return_to: return_to.as_str().to_owned(), replaces, before };
        let mut cookies = self.set_cookies();
        let stored = self.vault.store_login(state.as_str(), &pending, &request.headers, &mut cookies, random, now);
        if let Err(error) = stored {
            tracing::warn!(%error, "a login cannot be kept in a cookie");
            return Refusal::BadRequest("parameters that are too long together").answer(request, prefix);
        }
        let url = match self.lodge(&asked, &metadata, pending.transaction.proof_key()).await {
            Ok(url) => url,
            Err(refusal) => return refusal.answer(request, prefix),
        };
        tracing::info!(target: "audit", event = "login.started");
        let mut answer = reply::redirect(url.as_str());
        attach(answer.headers_mut(), cookies);
        answer
    }

    /// Where the browser goes: to the server with a reference to what is lodged there, or with the request itself.
    ///
    /// What fails is got round only where the server offers to take logins beforehand and does not demand it. A no is a
    /// no: the browser would only carry it there once more.
    async fn lodge(
        &self,
        asked: &AuthorizationRequest,
        metadata: &AuthorizationServerMetadata,
        key: Option<&ProofKey>,
    ) -> Result<Url, Refusal> {
        let client = &self.settings.client;
        if metadata.require_signed_request_object && client.keys.is_none() {
            tracing::error!("the issuer demands signed authorization requests: list a key in issuer.client_keys");
            return Err(Refusal::LoginFailed(LoginFailure::Misbehaved));
        }
        let pushing = client.pushing(metadata);
        if pushing == Pushing::No {
            return Ok(asked.url());
        }
        let Some(place) = asked.place(client, metadata) else {
            tracing::error!(
                "logins are to be lodged at the issuer, but it has no place for that: change issuer.par, or the \
                 issuer.security_profile that demands it"
            );
            return Err(Refusal::LoginFailed(LoginFailure::Misbehaved));
        };
        let request = |proofs: &Proofs<'_>| asked.push(client, metadata, place, proofs);
        let (failure, is_a_no) = match self.seams.ask(key, LODGING, request).await {
            Ok(response) => match asked.pushed(client, &response) {
                Ok(url) => {
                    self.broker.health().accepted();
                    return Ok(url);
                }
                Err(error) => {
                    tracing::warn!(%error, status = response.status().as_u16(), "a login cannot be lodged");
                    let is_a_no = error.is_a_no();
                    let failure = if is_a_no { LoginFailure::of(&error) } else { LoginFailure::Misbehaved };
                    (Refusal::LoginFailed(failure), is_a_no)
                }
            },
            Err(error) => {
                tracing::warn!(%error, "a login cannot be lodged");
                (Refusal::IssuerUnavailable(Duration::from_secs(2)), false)
            }
        };
        if pushing == Pushing::Required || is_a_no {
            tracing::info!(target: "audit", event = "login.failed", reason = ?failure);
            return Err(failure);
        }
        tracing::warn!("the browser carries the login itself, which this issuer allows");
        Ok(asked.url())
    }

    /// Where a login starts that leads back to `return_to`.
    pub(super) fn login_url(&self, return_to: &ReturnTo, attempt: u8) -> String {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        query.append_pair("return_to", return_to.as_str());
        if attempt > 0 {
            query.append_pair("attempt", &attempt.to_string());
        }
        format!("{}/login?{}", self.settings.prefix, query.finish())
    }

    /// A login that starts under another host name would leave its cookie there: it is sent to the right one first. Once:
    /// behind a proxy that changes the name it would go in circles.
    fn sent_home(&self, request: &Parts) -> Option<Answer> {
        let public = &self.settings.public_url;
        let asked = request
            .headers
            .get(http::header::HOST)
            .and_then(|value| value.to_str().ok())
            .or_else(|| request.uri.authority().map(http::uri::Authority::as_str))?;
        (!asked.eq_ignore_ascii_case(authority(public))).then(|| {
            let target = target_of(request);
            let separator = if target.contains('?') { '&' } else { '?' };
            let home = public.origin().ascii_serialization();
            reply::redirect(&format!("{home}{target}{separator}{SENT_HOME}=1"))
        })
    }
}

/// How often a login has started anew, as its `state` says.
pub(super) fn attempt_of(state: &str) -> u8 {
    state.bytes().last().filter(u8::is_ascii_digit).map_or(MAX_ATTEMPTS, |digit| digit - b'0')
}

/// What a caller may wish; everything else in the query is dropped (OIDC-3.1.2.1-05, -06).
#[derive(Default)]
struct Wishes {
    login: LoginWishes,
    return_to: Option<String>,
    demand: Option<String>,
    attempt: u8,
    sent_home: bool,
}

impl Wishes {
    fn parse(query: &str) -> Result<Self, &'static str> {
        let mut wishes = Self::default();
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
            if name == SENT_HOME {
                wishes.sent_home = true;
                continue;
            }
            let known = matches!(
                &*name,
                "return_to" | "demand" | "prompt" | "max_age" | "acr_values" | "login_hint" | "ui_locales" | "attempt"
            );
            if !known || value.is_empty() {
                continue;
            }
            if name == "return_to" {
                wishes.return_to = Some(value.into_owned());
                continue;
            }
            if name == "demand" {
                wishes.demand = Some(value.into_owned());
                continue;
            }
            if value.len() > MAX_PARAMETER || value.chars().any(char::is_control) {
                return Err("a parameter that is too long or has control characters");
            }
            match &*name {
                "prompt" => {
                    let mut prompts = value.split(' ').filter(|it| !it.is_empty());
                    if prompts.clone().any(|it| it == "none") && prompts.clone().count() > 1 {
                        return Err("prompt=none together with other prompts");
                    }
                    if !prompts.all(|it| matches!(it, "none" | "login" | "consent" | "select_account" | "create")) {
                        return Err("an unknown prompt");
                    }
                    wishes.login.prompt = Some(value.into_owned());
                }
                "max_age" => wishes.login.max_age = Some(value.parse().map_err(|_| "a max_age that is no number")?),
                "acr_values" => wishes.login.acr_values = Some(value.into_owned()),
                "login_hint" => wishes.login.login_hint = Some(value.into_owned()),
                "ui_locales" => wishes.login.ui_locales = Some(value.into_owned()),
                _ => wishes.attempt = value.parse().map_or(MAX_ATTEMPTS, |it: u8| it.min(MAX_ATTEMPTS)),
            }
        }
        Ok(wishes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_on_the_list_is_passed_on() {
        // OIDC-3.1.2.1-06, STEP-R-01
        let wishes = Wishes::parse("prompt=login&client_id=evil&redirect_uri=x&scope=all&state=s&max_age=60&foo=1")
            .map_err(str::to_owned)
            .expect("parses");
        assert_eq!(wishes.login.prompt.as_deref(), Some("login"));
        assert_eq!(wishes.login.max_age, Some(60));
        assert_eq!((wishes.login.login_hint, wishes.return_to, wishes.attempt), (None, None, 0));
        for query in ["prompt=none+login", "prompt=evil", "max_age=-1", "max_age=x", "acr_values=%00"] {
            assert!(Wishes::parse(query).is_err(), "{query}");
        }
        assert!(Wishes::parse(&format!("login_hint={}", "x".repeat(10_000))).is_err());
    }

    #[test]
    fn the_attempt_is_read_back_from_the_state() {
        assert_eq!(attempt_of("abc0"), 0);
        assert_eq!(attempt_of("abc1"), 1);
        assert_eq!(attempt_of("abc"), MAX_ATTEMPTS);
        assert_eq!(attempt_of(""), MAX_ATTEMPTS);
        assert!(Wishes::parse("attempt=9").is_ok_and(|wishes| wishes.attempt == MAX_ATTEMPTS));
    }
}
