//! One flight: from the claim to the commit, and what each answer on the way means.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::sleep;

use super::super::SendError;
use super::super::health::{Gate, Weight, backoff};
use super::super::route::Errand;
use super::{Broker, Landing, Resolved};
use crate::clock::Timestamp;
use crate::ledger::protocol::{
    Claim, Claimed, Commit, Committed, EndReason, Ending, Newest, Outcome, Refuse, Release, Renew, Renewed,
};
use crate::oauth::{
    self, AuthorizationServerMetadata, Means, Proofs, Protocol, TokenScheme, TokenSet, TokenTarget, Verdict,
};
use crate::session::{Asked, Placement, Session};

/// A lease holds this long without renewal; it is renewed in thirds of that.
const LEASE: Duration = Duration::from_secs(15);
/// How long the authorization server may take for one refresh.
const DEADLINE: Duration = Duration::from_secs(60);
/// How often the ledger is asked whether another replica has finished.
const POLL: Duration = Duration::from_millis(100);
/// Answers that are neither success nor verdict count when they lie this far apart; this many end the session.
const UNDETERMINED_APART: Duration = Duration::from_secs(10);
const UNDETERMINED_LIMIT: u32 = 3;

impl Broker {
    /// Flies, and leaves what comes of it in `landing`.
    pub(super) async fn fly(
        self: &Arc<Self>,
        session: &Session,
        errand: &Errand,
        landing: &watch::Sender<Option<Landing>>,
    ) {
        match self.refresh(session, errand).await {
            Flown::Landed(landed) => {
                landing.send_replace(Some(landed));
            }
            Flown::Refreshed { newer, fence } => self.commit(session, newer, fence, landing).await,
        }
    }

    /// From the claim to the tokens.
    async fn refresh(&self, session: &Session, errand: &Errand) -> Flown {
        let right = match self.claim(session).await {
            Ok(won) => won,
            Err(landing) => return Flown::Landed(landing),
        };
        let now = self.seams.clock.now();
        if let Some(answer_due) = right.sent_before {
            // The token may be spent already, and a second sending could look like theft. It waits until the first
            // answer can no longer come, and for as long as it is not needed.
            let rest = answer_due.max(unneeded(session, errand, now)).min(DEADLINE);
            if rest > Duration::ZERO {
                return self.give_back(session, right, Outcome::NotSpent, rest).await;
            }
        }
        match self.health.gate(now) {
            Gate::Open => {}
            Gate::Closed(rest) => return self.give_back(session, right, Outcome::NotSpent, rest).await,
            Gate::Probe => {
                if !self.probe().await {
                    return self.give_back(session, right, Outcome::NotSpent, UNDETERMINED_APART).await;
                }
            }
        }
        let Ok(metadata) = self.seams.server.metadata().await else {
            return self.rest(session, right, errand, Outcome::NotSpent).await;
        };
        let Some(request) = self.request(session, errand, &metadata) else {
            return match errand {
                Errand::Refresh => self.rest(session, right, errand, Outcome::NotSpent).await,
                Errand::Fetch(target) => self.deny(session, right, target, "there is no refresh token").await,
            };
        };
        let asked = self.seams.asked(&metadata);
        let answer = self.seams.ask(session.proof_key.as_ref(), DEADLINE, request);
        let answer = self.holding(session, right, answer).await;
        self.judge(session, right, errand, &metadata, answer, asked).await
    }

    /// What the authorization server is asked; nothing without a refresh token, where that is what is spent.
    fn request<'r>(
        &'r self,
        session: &'r Session,
        errand: &'r Errand,
        metadata: &'r AuthorizationServerMetadata,
    ) -> Option<Build<'r>> {
        let (client, grant) = (&*self.client, &session.grant);
        if let Errand::Fetch(target) = errand
            && target.means() == Means::Exchange
        {
            let subject = &grant.access.token;
            return Some(Box::new(move |proofs| target.exchange_request(client, metadata, subject, proofs)));
        }
        let token = grant.refresh_token.as_ref()?;
        Some(match errand {
            Errand::Fetch(target) => Box::new(move |proofs| target.refresh_request(client, metadata, token, proofs)),
            Errand::Refresh => Box::new(move |proofs| oauth::refresh_request(client, metadata, token, proofs)),
        })
    }

    /// The right to spend the refresh token, or what came of it elsewhere.
    async fn claim(&self, session: &Session) -> Result<Right, Landing> {
        let claim =
            Claim { generation: session.generation, lease: LEASE, deadline: DEADLINE, keep_until: session.ends };
        loop {
            match self.seams.ledger.apply(session.id, &claim).await {
                Ok(Claimed::Won { fence, sent_before, failures }) => return Ok(Right { fence, sent_before, failures }),
                Ok(Claimed::Busy(_)) => sleep(POLL).await,
                Ok(Claimed::Resting(rest)) => return Err(Landing::Unavailable(self.seams.clock.now() + rest)),
                Ok(Claimed::Moved(newest)) => return Err(self.landing_of(session, newest)),
                Err(error) => {
                    tracing::warn!(%error, "a refresh cannot be claimed; the session is kept");
                    return Err(Landing::Unavailable(self.seams.clock.now() + Duration::from_secs(1)));
                }
            }
        }
    }

    /// Waits for the answer and renews the lease for as long as it takes.
    async fn holding(
        &self,
        session: &Session,
        right: Right,
        answer: impl Future<Output = Result<http::Response<bytes::Bytes>, SendError>>,
    ) -> Result<http::Response<bytes::Bytes>, SendError> {
        let renewal = async {
            loop {
                sleep(LEASE / 3).await;
                // A lost lease changes nothing here: the commit is judged by generation.
                match self.seams.ledger.apply(session.id, &Renew { fence: right.fence, lease: LEASE }).await {
                    Ok(Renewed::Held | Renewed::Lost) => {}
                    Err(error) => tracing::warn!(%error, "a refresh lease cannot be renewed"),
                }
            }
        };
        tokio::select! {
            biased;
            answer = answer => answer,
            () = renewal => Err(SendError::Unknown("the lease ended".to_owned())),
        }
    }

    /// What an answer means. Only here may a session end because of the authorization server.
    async fn judge(
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
        if self.client.protocol == Protocol::OAuth {
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
                    let stranger = session.renewed(tokens, asked, self.seams.clock.now());
                    self.seams.revoke(&self.client, &stranger);
                    return self.conclude(session, right, errand).await;
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

    /// Makes the newer session the newest, and hands it out. If the ledger fails, those who wait get it all the same:
    /// the browser is then the second copy, while this goes on trying.
    async fn commit(
        self: &Arc<Self>,
        session: &Session,
        newer: Arc<Session>,
        fence: u64,
        landing: &watch::Sender<Option<Landing>>,
    ) {
        let body = self.vault.seal_body(&newer, &*self.seams.random, self.seams.clock.now());
        let resident = newer.placement == Placement::Ledger;
        let commit = Commit { fence, from: session.generation, body, resident, keep_until: newer.ends };
        let mut failures = 0;
        loop {
            match self.seams.ledger.apply(session.id, &commit).await {
                Ok(Committed::Done) => {
                    tracing::info!(target: "audit", event = "session.refreshed", generation = newer.generation);
                    landing.send_replace(Some(self.unless_buried(newer).await));
                    return;
                }
                Ok(Committed::Moved(newest)) => {
                    let landed = self.landing_of(session, newest);
                    if matches!(landed, Landing::Ended(_)) {
                        // The session ended while this was on its way: what arrived late is revoked (REV-R-01).
                        self.seams.revoke(&self.client, &newer);
                    }
                    landing.send_replace(Some(landed));
                    return;
                }
                Err(error) => {
                    tracing::error!(%error, "a refreshed session cannot be committed yet; it is kept and tried again");
                    landing.send_replace(Some(Landing::Advanced(Arc::clone(&newer))));
                    if self.seams.clock.now() >= newer.ends {
                        return;
                    }
                    sleep(self.pause(failures)).await;
                    failures += 1;
                }
            }
        }
    }

    /// What was committed, unless all sessions of its kind have been ended while it was on its way. The session's own
    /// ending cannot have been missed: the commit would not have been taken.
    async fn unless_buried(self: &Arc<Self>, newer: Arc<Session>) -> Landing {
        self.keep(&newer);
        match self.seams.ledger.exhume(&self.lineage_of(&newer)).await {
            Ok(Some(tombstone)) => match self.buried(Arc::clone(&newer), tombstone).await {
                Ok(Resolved::Ended(ending, _)) => Landing::Ended(ending),
                // It is met again by the next request.
                Ok(Resolved::Live(_) | Resolved::Replayed(_) | Resolved::Missing) | Err(_) => Landing::Advanced(newer),
            },
            Ok(None) => Landing::Advanced(newer),
            Err(error) => {
                tracing::warn!(%error, "whether a refreshed session has been ended meanwhile is not known; it is heard of later");
                Landing::Advanced(newer)
            }
        }
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

    /// There is no token for one API. Nothing is said about the session, and nothing keeps it from asking for others.
    async fn deny(&self, session: &Session, right: Right, target: &TokenTarget, why: &str) -> Flown {
        let (wanted, means) = (target.wanted(), target.means());
        tracing::error!(
            ?wanted,
            ?means,
            why,
            "the authorization server gives no token for a route: check route.token, and what it grants this client"
        );
        self.denials.note(session.id, target.id(), self.seams.clock.now());
        match self.give_back(session, right, Outcome::NotSpent, Duration::ZERO).await {
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
    async fn rest(&self, session: &Session, right: Right, errand: &Errand, outcome: Outcome) -> Flown {
        let mut rest = self.pause(right.failures);
        if let Outcome::Unknown(answer_due) = outcome {
            rest = rest.max(answer_due.max(unneeded(session, errand, self.seams.clock.now())).min(DEADLINE));
        }
        self.give_back(session, right, outcome, rest).await
    }

    async fn give_back(&self, session: &Session, right: Right, outcome: Outcome, rest: Duration) -> Flown {
        let release = Release { fence: right.fence, outcome, rest };
        match self.seams.ledger.apply(session.id, &release).await {
            // Whoever ended the session left its token to this flight, and it was not spent.
            Ok(released) if released.ended && outcome == Outcome::NotSpent => self.seams.revoke(&self.client, session),
            Ok(_) => {}
            // The lease runs out by itself.
            Err(error) => tracing::warn!(%error, "a refresh lease cannot be given back"),
        }
        Flown::Landed(Landing::Unavailable(self.seams.clock.now() + rest))
    }

    /// Asks with a token that never existed: an answer about the token shows that the credentials are taken.
    async fn probe(&self) -> bool {
        let Ok(metadata) = self.seams.server.metadata().await else { return false };
        let nobody = oauth::RefreshToken::new("probe".to_owned());
        let key = self.client.new_proof_key(&metadata, &*self.seams.random);
        let request = |proofs: &Proofs<'_>| oauth::refresh_request(&self.client, &metadata, &nobody, proofs);
        let Ok(response) = self.seams.ask(key.as_ref(), DEADLINE, request).await else { return false };
        let accepted = match TokenSet::read(&response, TokenScheme::of(key.as_ref())) {
            Ok(_) => true,
            Err(error) => matches!(error.verdict(), Verdict::InvalidGrant),
        };
        if accepted {
            self.health.accepted();
        }
        accepted
    }

    fn pause(&self, failures: u32) -> Duration {
        let [jitter] = self.seams.random.bytes();
        backoff(failures, jitter)
    }
}

/// For how long nobody needs what is asked for: while the access token can be used. A token that an API waits for is needed
/// now.
fn unneeded(session: &Session, errand: &Errand, now: Timestamp) -> Duration {
    match errand {
        Errand::Refresh => session.usable_until().until(now),
        Errand::Fetch(_) => Duration::ZERO,
    }
}

/// The right to spend one refresh token, as the ledger gave it.
#[derive(Clone, Copy)]
struct Right {
    fence: u64,
    sent_before: Option<Duration>,
    failures: u32,
}

/// Makes a request, with what is good only once.
type Build<'r> = Box<dyn Fn(&Proofs<'_>) -> http::Request<Vec<u8>> + Send + 'r>;

/// What a flight has brought, before it is committed.
enum Flown {
    Landed(Landing),
    Refreshed { newer: Arc<Session>, fence: u64 },
}
