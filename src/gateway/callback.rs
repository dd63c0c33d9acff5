//! `GET /bff/callback`, or `POST` where the response comes in a form: finishes a login. For people it is idempotent: used, expired, bookmarked, opened in a second
//! tab or by the back button, it leads on.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::request::Parts;
use http::{HeaderMap, Method};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::sync::watch;

use super::admission::Admission;
use super::backchannel::is_form;
use super::body::{Body, BodyError};
use super::cross_origin::{is_speculative, is_sub_resource};
use super::login::{Before, MAX_ATTEMPTS, PendingLogin, attempt_of};
use super::reply::{Answer, LoginFailure, Refusal};
use super::return_to::ReturnTo;
use super::{Gateway, attach, reply};
use crate::clock::Timestamp;
use crate::ledger::protocol::{End, EndReason};
use crate::ledger::{FirstUse, StoreError};
use crate::oauth::{
    self, AuthorizationResponse, AuthorizationServerMetadata, CodeRedemption, Error, JwkSet, LoginTransaction, Proofs,
    Protocol, TokenScheme, TokenSet, UserInfo, VerifiedLogin,
};
use crate::session::{Placement, Session};

/// The redemptions on their way in this process, by hash of their state.
pub(super) type Redemptions = Mutex<HashMap<[u8; 32], watch::Receiver<Option<Outcome>>>>;

/// What a redemption has come to, for the first callback and its repeats.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Outcome {
    /// A session.
    Established(Box<Session>),
    /// None.
    Failed(LoginFailure),
}

/// How long the result of a redemption is kept for repeats of its callback.
const KEPT: Duration = Duration::from_secs(60);
/// How long a callback waits for a redemption, its own or that of an earlier connection.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long the authorization server may take to redeem a code.
const DEADLINE: Duration = Duration::from_secs(20);
/// How long the UserInfo endpoint may take: with the code before it, less than a callback waits.
const USERINFO: Duration = Duration::from_secs(8);
/// The longest form that is read, in bytes: more than any authorization response that is taken.
const MAX_FORM: usize = 32 * 1024;

impl Gateway {
    pub(super) async fn callback(self: &Arc<Self>, request: &Parts) -> Answer {
        let prefix = &self.settings.prefix;
        if is_speculative(&request.headers) || is_sub_resource(request) {
            // A prefetch must not use up the login that the person is about to finish.
            return Refusal::NotANavigation.answer(request, prefix);
        }
        if has_body(&request.headers) {
            return Refusal::BadRequest("a body, which no redirect has").answer(request, prefix);
        }
        let query = request.uri.query().unwrap_or_default();
        if let Some(attempt) = query.strip_prefix("resume=") {
            return self.resume(request, attempt).await;
        }
        self.answered(request, query).await
    }

    /// The same response in a form that the browser posts (OAuth 2.0 Form Post Response Mode).
    ///
    /// Strict and Lax cookies do not come with it, because another site's page sends it: nothing here looks at the session,
    /// and the transaction's cookie is one that comes along.
    pub(super) async fn posted_callback(self: &Arc<Self>, request: &Parts, body: &mut dyn Body) -> Answer {
        let prefix = &self.settings.prefix;
        // From here on it is what a redirect would be: a person goes to a page.
        let mut arrived = request.clone();
        arrived.method = Method::GET;
        let refuse = |refusal: Refusal| refusal.answer(&arrived, prefix);
        if is_speculative(&arrived.headers) || is_sub_resource(&arrived) {
            return refuse(Refusal::NotANavigation);
        }
        if request.uri.query().is_some() {
            return refuse(Refusal::BadRequest("parameters in its address, although they belong into the form"));
        }
        if !is_form(&request.headers) {
            return refuse(Refusal::BadRequest("a body that is no form"));
        }
        let form = match body.read(MAX_FORM).await {
            Ok(form) => form,
            Err(BodyError::TooLarge) => return refuse(Refusal::BodyTooLarge),
            Err(BodyError::Broken | BodyError::TooSlow) => {
                return refuse(Refusal::BadRequest("a body that did not come whole"));
            }
        };
        match std::str::from_utf8(&form) {
            Ok(form) => self.answered(&arrived, form).await,
            Err(_) => refuse(Refusal::BadRequest("a body that is no form")),
        }
    }

    /// The authorization server has answered with these parameters.
    async fn answered(self: &Arc<Self>, request: &Parts, parameters: &str) -> Answer {
        let prefix = &self.settings.prefix;
        let response = match AuthorizationResponse::parse(parameters) {
            Ok(response) => response,
            Err(error) => {
                tracing::info!(%error, "a callback cannot be read");
                return Refusal::BadRequest("parameters that no sign-in service sends").answer(request, prefix);
            }
        };
        let state = response.state().as_str().to_owned();
        let now = self.seams.clock.now();
        let Some(login) = self.vault.open_login::<PendingLogin>(&state, &request.headers, now) else {
            // Not started here, or finished before: nothing of the response is believed, no token call is made, nothing ends.
            tracing::info!("a callback came without its transaction cookie");
            return reply::bounce(&format!("{prefix}/callback?resume={}", attempt_of(&state)));
        };
        let PendingLogin { transaction, return_to, replaces, before } = login;
        match self.redeem(&state, transaction, before, response).await {
            Outcome::Failed(failure) => self.login_failed(request, &state, failure),
            Outcome::Established(session) => {
                let mut cookies = self.set_cookies();
                let random = &*self.seams.random;
                if let Err(error) = self.vault.store(&session, &request.headers, &mut cookies, random, now) {
                    tracing::error!(%error, "a session cookie cannot be written");
                    self.seams.revoke(&self.settings.client, &session);
                    return self.login_failed(request, &state, LoginFailure::Misbehaved);
                }
                self.roster.enter(&session, &request.headers);
                if let Some(replaced) = replaces {
                    self.replace(replaced, session.ends).await;
                }
                self.note_landing(&session, request, &mut cookies);
                self.vault.retire_login(&state, &mut cookies);
                let mut answer = reply::redirect(&return_to);
                attach(answer.headers_mut(), cookies);
                answer
            }
        }
    }

    /// The second half of a callback without its cookie, now as a navigation that this site has started, so that
    /// Strict cookies come along: into the app if there is a session, else one fresh start, else a page that explains.
    async fn resume(&self, request: &Parts, attempt: &str) -> Answer {
        match self.identify(&request.headers).await {
            Admission::Admitted(_) => reply::redirect("/"),
            Admission::Refused(refusal) => refusal.answer(request, &self.settings.prefix),
            Admission::Nobody(_) => match attempt.parse::<u8>() {
                Ok(attempt) if attempt < MAX_ATTEMPTS => {
                    let login = self.login_url(&ReturnTo::root(), attempt + 1);
                    // Another site may have led to the callback, and this request is one of our own page.
                    match self.settings.client.requests.profile.asks_before_login() {
                        true => reply::ask_before_login(&login, request),
                        false => reply::redirect(&login),
                    }
                }
                Ok(_) | Err(_) => {
                    let cause = self.unrecognised(request);
                    tracing::warn!(
                        ?cause,
                        "a login came back without its cookie twice: cookies are blocked, or the site is open under \
                         another address than server.public_url"
                    );
                    Refusal::LoginFailed(cause).answer(request, &self.settings.prefix)
                }
            },
        }
    }

    fn login_failed(&self, request: &Parts, state: &str, failure: LoginFailure) -> Answer {
        tracing::info!(target: "audit", event = "login.failed", reason = ?failure);
        let mut answer = Refusal::LoginFailed(failure).answer(request, &self.settings.prefix);
        let mut cookies = self.set_cookies();
        self.vault.retire_login(state, &mut cookies);
        attach(answer.headers_mut(), cookies);
        answer
    }

    /// Redeems the code once, however often its callback is called: whoever comes later waits for the same result.
    async fn redeem(
        self: &Arc<Self>,
        state: &str,
        transaction: LoginTransaction,
        before: Option<Before>,
        response: AuthorizationResponse,
    ) -> Outcome {
        let hash: [u8; 32] = Sha256::digest(state.as_bytes()).into();
        let mut slot = {
            let mut redemptions = self.redemptions.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(slot) = redemptions.get(&hash) {
                slot.clone()
            } else {
                let (sender, slot) = watch::channel(None);
                redemptions.insert(hash, slot.clone());
                let (gateway, state) = (Arc::clone(self), state.to_owned());
                self.detach(async move {
                    let outcome = gateway.first_or_result(&state, hash, transaction, before, response).await;
                    sender.send_replace(Some(outcome));
                    gateway.redemptions.lock().unwrap_or_else(PoisonError::into_inner).remove(&hash);
                });
                slot
            }
        };
        match tokio::time::timeout(PATIENCE, slot.wait_for(Option::is_some)).await {
            Ok(Ok(outcome)) => outcome.clone(),
            Ok(Err(_)) | Err(_) => None,
        }
        .unwrap_or(Outcome::Failed(LoginFailure::Misbehaved))
    }

    async fn first_or_result(
        &self,
        state: &str,
        hash: [u8; 32],
        transaction: LoginTransaction,
        before: Option<Before>,
        response: AuthorizationResponse,
    ) -> Outcome {
        let started = self.seams.clock.now();
        match self.seams.ledger.first_use(hash, started + LoginTransaction::LIFETIME).await {
            Ok(FirstUse::Yes) => {}
            Ok(FirstUse::No(Some(result))) => {
                return self.result(state, &result);
            }
            Ok(FirstUse::No(None)) => return self.result_of_another(state, hash, started).await,
            Err(error) => {
                tracing::error!(%error, "a login cannot be finished");
                return Outcome::Failed(LoginFailure::LedgerUnavailable);
            }
        }
        let outcome = self.finish(transaction, before, response).await.unwrap_or_else(|error| {
            tracing::warn!(%error, "a login did not succeed");
            Outcome::Failed(LoginFailure::of(&error))
        });
        let now = self.seams.clock.now();
        let sealed = self.vault.seal_result(state, &outcome, &*self.seams.random, now);
        if let Err(error) = self.seams.ledger.leave(hash, sealed, now + KEPT).await {
            tracing::warn!(%error, "the result of a login is not kept for repeats of its callback");
        }
        outcome
    }

    /// Another replica redeems this code: its result appears in the ledger.
    async fn result_of_another(&self, state: &str, hash: [u8; 32], started: Timestamp) -> Outcome {
        while self.seams.clock.now().since(started) < PATIENCE {
            tokio::time::sleep(Duration::from_millis(100)).await;
            let until = started + LoginTransaction::LIFETIME;
            if let Ok(FirstUse::No(Some(result))) = self.seams.ledger.first_use(hash, until).await {
                return self.result(state, &result);
            }
        }
        Outcome::Failed(LoginFailure::Misbehaved)
    }

    fn result(&self, state: &str, sealed: &[u8]) -> Outcome {
        self.vault
            .open_result(state, sealed, self.seams.clock.now())
            .unwrap_or(Outcome::Failed(LoginFailure::Misbehaved))
    }

    /// From the authorization response to the session. Each step consumes the one before.
    async fn finish(
        &self,
        transaction: LoginTransaction,
        before: Option<Before>,
        response: AuthorizationResponse,
    ) -> Result<Outcome, Error> {
        let unavailable = |_| Error::IssuerMisbehaved("nothing can be asked of it right now".into());
        let metadata = self.seams.server.metadata().await.map_err(unavailable)?;
        let redemption: CodeRedemption =
            transaction.accept(response, &self.settings.client, &metadata, self.seams.clock.now())?;
        let (grant, pending) = redemption.redeem();
        let asked = self.seams.asked(&metadata);
        let request = |proofs: &Proofs<'_>| grant.request(&self.settings.client, &metadata, proofs);
        let answer = self.seams.ask(grant.proof_key(), DEADLINE, request).await.map_err(|error| {
            tracing::warn!(%error, "a code cannot be redeemed");
            Error::IssuerMisbehaved("it did not answer the token request".into())
        })?;
        let mut tokens = TokenSet::read(&answer, TokenScheme::of(grant.proof_key()))?;
        self.broker.health().accepted();
        let verified = match self.verify(&pending, &metadata, &tokens).await {
            Ok(verified) => verified,
            Err(error) => {
                // Nobody will use them: they are no good for anybody else either.
                self.seams.revoke_tokens(&self.settings.client, tokens.refresh_token, tokens.access_token);
                return Err(error);
            }
        };
        if self.settings.client.protocol == Protocol::OAuth {
            // Nobody has looked at it.
            tokens.id_token = None;
        }
        let random = &*self.seams.random;
        let now = self.seams.clock.now();
        let mut session = Session::establish(verified, tokens, &self.settings.session, random, asked, now);
        if let Some(before) = before.filter(|it| it.is(&session.identity.original)) {
            session.identity.remember(before.levels);
        }
        let session = self.vault.place(session);
        if let Err(error) = self.lay_down(&session).await {
            tracing::error!(%error, "a session cannot be laid down in the ledger");
            self.seams.revoke(&self.settings.client, &session);
            return Ok(Outcome::Failed(LoginFailure::LedgerUnavailable));
        }
        tracing::info!(
            target: "audit",
            event = "login.succeeded",
            refreshable = session.grant.refresh_token.is_some(),
        );
        Ok(Outcome::Established(Box::new(session)))
    }

    /// Lays down in the ledger what has to be there of a new session.
    async fn lay_down(&self, session: &Session) -> Result<(), StoreError> {
        self.register_for_front_channel(session).await?;
        match session.placement {
            Placement::Ledger => self.broker.deposit(session).await,
            Placement::Cookie => Ok(()),
        }
    }

    /// Who has logged in: what the ID token says, and the UserInfo endpoint if it is to be asked.
    async fn verify(
        &self,
        pending: &oauth::PendingLogin,
        metadata: &AuthorizationServerMetadata,
        tokens: &TokenSet,
    ) -> Result<VerifiedLogin, Error> {
        let (client, now) = (&self.settings.client, self.seams.clock.now());
        let finish = |keys: &JwkSet| pending.finish(client, metadata, tokens, keys, now);
        let verified = match client.protocol {
            // There is nothing to verify, and perhaps there are no keys.
            Protocol::OAuth => finish(&JwkSet::default()),
            Protocol::OpenIdConnect => self.seams.with_keys(finish).await,
        }?;
        let (token, key) = (&tokens.access_token, verified.proof_key());
        let Some(request) = oauth::userinfo_request(client, metadata, token, TokenScheme::of(key))? else {
            return Ok(verified);
        };
        let again = |_: &Proofs<'_>| request.clone();
        let answer = self.seams.ask_showing(Some(token), key, USERINFO, again).await.map_err(|error| {
            tracing::warn!(%error, "the UserInfo endpoint cannot be asked");
            Error::IssuerMisbehaved("it did not answer the UserInfo request".into())
        })?;
        let info = self.seams.with_keys(|keys| UserInfo::read(&answer, client, metadata, keys, now)).await?;
        verified.joined_by(info)
    }

    /// Ends the session that this browser had before. Its tokens are not revoked: at many servers that would end the
    /// issuer's own session, and the new login with it.
    async fn replace(&self, replaced: crate::session::SessionId, keep_until: Timestamp) {
        let end = End { reason: EndReason::Replaced, generation: u64::MAX, keep_until };
        match self.seams.ledger.apply(replaced, &end).await {
            Ok(_) => tracing::info!(target: "audit", event = "session.ended", reason = EndReason::Replaced.name()),
            Err(error) => {
                tracing::error!(%error, "a replaced session cannot be ended yet; it is tried again until it can");
                self.broker.insist(replaced, end, None);
            }
        }
    }
}

/// Whether a request says that it has a body.
fn has_body(headers: &HeaderMap) -> bool {
    let length = headers.get(CONTENT_LENGTH).is_some_and(|length| length.as_bytes() != b"0");
    length || headers.contains_key(TRANSFER_ENCODING)
}
