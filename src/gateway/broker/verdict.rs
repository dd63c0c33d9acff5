//! What the authorization server's answer to a flight means, and what follows from it. Only here may a session end because of
//! the authorization server.

use std::sync::Arc;
use std::time::Duration;

use super::super::SendError;
use super::super::health::Weight;
use super::super::route::Errand;
use super::flight::{DEADLINE, Flown, Right, UNDETERMINED_APART};
use super::{Broker, Landing};
use crate::clock::Timestamp;
use crate::ledger::protocol::{EndReason, Ending, Newest, Outcome, Refuse, Release};
use crate::oauth::{self, AuthorizationServerMetadata, Protocol, TokenSet, TokenTarget, Verdict};
use crate::session::{Asked, Session};

/// So many answers that are neither success nor verdict end the session.
const UNDETERMINED_LIMIT: u32 = 3;

impl Broker {
    /// What an answer means. Only here may a session end because of the authorization server.
    pub(super) async fn judge(
        &self,
        session: &Session,
        right: Right,
        errand: &Errand,
        metadata: &AuthorizationServerMetadata,
        answer: Result<http::Response<bytes::Bytes>, SendError>,
        asked: Asked,
    ) -> Flown {
        let now = self.seams.clock.now();
        let response = match answer {
            Ok(response) => response,
            Err(error) if errand.is_exchange() => {
                tracing::warn!(%error, "the authorization server did not answer an exchange; the session is kept");
                return self.rest(session, right, errand, Outcome::NotSpent).await;
            }
            Err(error) => {
                tracing::warn!(%error, "the authorization server did not answer a refresh; the session is kept");
                self.health.failed(None, now);
                let outcome = match error {
                    SendError::NotSent(_) => Outcome::NotSpent,
                    SendError::TimedOut => Outcome::Unknown(Duration::ZERO),
                    // The connection is gone, but what was sent may still be worked on.
                    SendError::Unknown(_) => Outcome::Unknown((asked.at + DEADLINE).until(now)),
                };
                return self.rest(session, right, errand, outcome).await;
            }
        };
        let error = match TokenSet::read(&response, session.scheme()) {
            Ok(tokens) => {
                self.health.succeeded(now);
                return self.verify(session, right, errand, metadata, tokens, asked).await;
            }
            Err(error) => error,
        };
        if let Errand::Fetch(target) = errand
            && target.is_denied_by(&error)
        {
            return self.deny(session, right, target, &error.to_string()).await;
        }
        tracing::warn!(%error, status = response.status().as_u16(), "the authorization server did not refresh a token");
        if errand.is_exchange() {
            // It spends nothing, and says nothing of the refresh token or of how other sessions are refreshed.
            return self.rest(session, right, errand, Outcome::NotSpent).await;
        }
        if let (Verdict::InvalidGrant, Errand::Fetch(target)) = (error.verdict(), errand) {
            return self.ask_plainly(session, right, target, metadata).await;
        }
        match error.verdict() {
            Verdict::InvalidGrant => match self.health.refused(now) {
                Weight::Verdict => self.conclude(session, right, errand).await,
                Weight::Doubtful => {
                    tracing::error!(
                        "refusals of refresh tokens are doubted: the client credentials have not worked since they \
                         were loaded, or too many sessions are refused at once; check client_id and client_secret"
                    );
                    self.undetermined(session, right, errand).await
                }
            },
            Verdict::ClientRejected => {
                tracing::error!(
                    "the authorization server rejects the client credentials; refreshing pauses until it takes them: \
                     check issuer.client_id and issuer.client_secret"
                );
                self.health.rejected(now);
                self.rest(session, right, errand, Outcome::NotSpent).await
            }
            Verdict::Transient { retry_after } => {
                self.health.failed(retry_after, now);
                // An error behind the front door may hide a rotation; one at the door does not.
                let may_hide_rotation = response.status().is_server_error() || response.status().is_success();
                let outcome = if may_hide_rotation { Outcome::Unknown(Duration::ZERO) } else { Outcome::NotSpent };
                self.rest(session, right, errand, outcome).await
            }
            Verdict::Undetermined => self.undetermined(session, right, errand).await,
        }
    }

    /// New tokens are there. An ID token among them must speak of the same person (OpenID Connect Core section 12.2).
    async fn verify(
        &self,
        session: &Session,
        right: Right,
        errand: &Errand,
        metadata: &AuthorizationServerMetadata,
        mut tokens: TokenSet,
        asked: Asked,
    ) -> Flown {
        if self.client.protocol == Protocol::OAuth || errand.is_exchange() {
            // Nobody has asked for one, and nobody looks at it.
            tokens.id_token = None;
        }
        if tokens.id_token.is_some()
            && let Err(error) = self.check_refreshed(session, metadata, &tokens).await
        {
            match error {
                // Without keys nothing can be said about it; the tokens are rotated and must not be lost.
                oauth::Error::UnknownKey => {
                    tracing::warn!("a refreshed ID token cannot be verified and is dropped; the earlier one is kept");
                    tokens.id_token = None;
                }
                oauth::Error::Callback(_) | oauth::Error::IssuerRefused { .. } | oauth::Error::IssuerMisbehaved(_) => {
                    tracing::error!(%error, "a refresh brought an ID token that is not this session's");
                    self.seams.revoke_tokens(&self.client, tokens.refresh_token, tokens.access_token);
                    let flown = self.conclude(session, right, errand).await;
                    if matches!(flown, Flown::Landed(Landing::Ended(_))) {
                        self.seams.revoke(&self.client, session);
                    }
                    return flown;
                }
            }
        }
        let now = self.seams.clock.now();
        let newer = match errand {
            Errand::Refresh => session.renewed(tokens, asked, now),
            Errand::Fetch(target) => session.widened(target, tokens, asked, now),
        };
        Flown::Refreshed { newer: Arc::new(self.vault.place(newer)), fence: right.fence }
    }

    async fn check_refreshed(
        &self,
        session: &Session,
        metadata: &AuthorizationServerMetadata,
        tokens: &TokenSet,
    ) -> Result<(), oauth::Error> {
        let original = &session.identity.original;
        self.seams
            .with_keys(|keys| {
                oauth::check_refreshed(original, tokens, &self.client, metadata, keys, self.seams.clock.now())
            })
            .await
    }

    /// The refresh token was refused: the session is over, unless the ledger has moved on meanwhile.
    async fn conclude(&self, session: &Session, right: Right, errand: &Errand) -> Flown {
        let refuse = Refuse { generation: session.generation, keep_until: session.ends };
        match self.seams.ledger.apply(session.id, &refuse).await {
            Ok(newest) => {
                if matches!(newest, Newest::Ended(Ending { reason: EndReason::Refused, .. })) {
                    tracing::info!(target: "audit", event = "session.ended", reason = EndReason::Refused.name());
                }
                Flown::Landed(self.landing_of(session, newest))
            }
            Err(error) => {
                tracing::warn!(%error, "the end of a session cannot be noted; it is kept");
                self.rest(session, right, errand, Outcome::NotSpent).await
            }
        }
    }

    /// A refresh token was refused when it was asked for one API. Some servers say so of the API alone (Entra ID, where a consent
    /// is missing), so it is asked once more for nothing in particular, and only that is a judgement.
    async fn ask_plainly(
        &self,
        session: &Session,
        right: Right,
        target: &TokenTarget,
        metadata: &AuthorizationServerMetadata,
    ) -> Flown {
        let Some(request) = self.request(session, &Errand::Refresh, metadata) else {
            return self.rest(session, right, &Errand::Refresh, Outcome::NotSpent).await;
        };
        let asked = self.seams.asked(metadata);
        let answer = self.seams.ask(session.proof_key.as_ref(), DEADLINE, request);
        let answer = self.holding(session, right, answer).await;
        let flown = Box::pin(self.judge(session, right, &Errand::Refresh, metadata, answer, asked)).await;
        if matches!(flown, Flown::Refreshed { .. }) {
            // The refresh token is good, so that it was the API. Nothing else shows that.
            self.denials.note(session.id, target.id(), self.seams.clock.now());
        }
        flown
    }

    /// There is no token for one API. Nothing is said about the session, and nothing keeps it from asking for others.
    pub(super) async fn deny(&self, session: &Session, right: Right, target: &TokenTarget, why: &str) -> Flown {
        let (wanted, means) = (target.wanted(), target.means());
        tracing::error!(
            ?wanted,
            ?means,
            why,
            "the authorization server gives no token for a route: check route.token, and what it grants this client"
        );
        self.denials.note(session.id, target.id(), self.seams.clock.now());
        match self.give_back(session, right, Outcome::Denied, Duration::ZERO).await {
            Flown::Landed(Landing::Unavailable(_)) => Flown::Landed(Landing::Denied(target.id())),
            flown @ (Flown::Landed(_) | Flown::Refreshed { .. }) => flown,
        }
    }

    /// Neither success nor verdict. It counts only once the access token has been used to its end.
    async fn undetermined(&self, session: &Session, right: Right, errand: &Errand) -> Flown {
        let now = self.seams.clock.now();
        if session.usable_until() > now {
            return self.rest(session, right, errand, Outcome::NotSpent).await;
        }
        let release = Release {
            fence: right.fence,
            outcome: Outcome::Undetermined(UNDETERMINED_APART),
            rest: self.pause(right.failures),
        };
        match self.seams.ledger.apply(session.id, &release).await {
            Ok(released) if released.undetermined >= UNDETERMINED_LIMIT => self.conclude(session, right, errand).await,
            Ok(_) | Err(_) => Flown::Landed(Landing::Unavailable(now + release.rest)),
        }
    }

    /// Gives the right back after a failure, with a pause that grows with their number.
    pub(super) async fn rest(&self, session: &Session, right: Right, errand: &Errand, outcome: Outcome) -> Flown {
        let mut rest = self.pause(right.failures);
        if let Outcome::Unknown(answer_due) = outcome {
            rest = rest.max(answer_due.max(unneeded(session, errand, self.seams.clock.now())).min(DEADLINE));
        }
        self.give_back(session, right, outcome, rest).await
    }

    pub(super) async fn give_back(&self, session: &Session, right: Right, outcome: Outcome, rest: Duration) -> Flown {
        let release = Release { fence: right.fence, outcome, rest };
        match self.seams.ledger.apply(session.id, &release).await {
            // Whoever ended the session left its token to this flight, and it was not spent.
            Ok(released) if released.ended && matches!(outcome, Outcome::NotSpent | Outcome::Denied) => {
                self.seams.revoke(&self.client, session);
            }
            Ok(_) => {}
            // The lease runs out by itself.
            Err(error) => tracing::warn!(%error, "a refresh lease cannot be given back"),
        }
        Flown::Landed(Landing::Unavailable(self.seams.clock.now() + rest))
    }
}

/// For how long nobody needs what may cost the session: while its access token can be used. That one API waits is no reason to
/// risk all others. What spends nothing risks nothing.
pub(super) fn unneeded(session: &Session, errand: &Errand, now: Timestamp) -> Duration {
    if errand.is_exchange() { Duration::ZERO } else { session.usable_until().until(now) }
}
