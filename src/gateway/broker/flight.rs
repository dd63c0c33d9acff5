//! One flight: from the claim to the commit.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::sleep;

use super::super::SendError;
use super::super::health::{Gate, backoff};
use super::super::route::Errand;
use super::verdict::unneeded;
use super::{Broker, Landing, Resolved};
use crate::ledger::protocol::{Claim, Claimed, Commit, Committed, Outcome, Renew, Renewed};
use crate::oauth::{self, AuthorizationServerMetadata, Means, Proofs, TokenScheme, TokenSet, Verdict};
use crate::session::{Placement, Session};

/// A lease holds this long without renewal; it is renewed in thirds of that.
const LEASE: Duration = Duration::from_secs(15);
/// How long the authorization server may take for one refresh.
pub(super) const DEADLINE: Duration = Duration::from_secs(60);
/// How often the ledger is asked whether another replica has finished.
const POLL: Duration = Duration::from_millis(100);
/// Answers that are neither success nor verdict count when they lie this far apart.
pub(super) const UNDETERMINED_APART: Duration = Duration::from_secs(10);

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
            Flown::Refreshed { newer, fence } => {
                self.commit(session, newer, fence, errand.is_exchange(), landing).await
            }
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
    pub(super) fn request<'r>(
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
    pub(super) async fn holding(
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

    /// Makes the newer session the newest, and hands it out. If the ledger fails, those who wait get it all the same:
    /// the browser is then the second copy, while this goes on trying.
    async fn commit(
        self: &Arc<Self>,
        session: &Session,
        newer: Arc<Session>,
        fence: u64,
        unspent: bool,
        landing: &watch::Sender<Option<Landing>>,
    ) {
        let body = self.vault.seal_body(&newer, &*self.seams.random, self.seams.clock.now());
        let resident = newer.placement == Placement::Ledger;
        let commit = Commit { fence, from: session.generation, unspent, body, resident, keep_until: newer.ends };
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
                Err(error) if unspent => {
                    // It can be had again, and until then nobody shall have what others do not know of.
                    tracing::warn!(%error, "an exchanged token cannot be committed; it is dropped");
                    let again = self.seams.clock.now() + self.pause(failures);
                    landing.send_replace(Some(Landing::Unavailable(again)));
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

    pub(super) fn pause(&self, failures: u32) -> Duration {
        let [jitter] = self.seams.random.bytes();
        backoff(failures, jitter)
    }
}

/// The right to spend one refresh token, as the ledger gave it.
#[derive(Clone, Copy)]
pub(super) struct Right {
    pub(super) fence: u64,
    pub(super) sent_before: Option<Duration>,
    pub(super) failures: u32,
}

/// Makes a request, with what is good only once.
pub(super) type Build<'r> = Box<dyn Fn(&Proofs<'_>) -> http::Request<Vec<u8>> + Send + 'r>;

/// What a flight has brought, before it is committed.
pub(super) enum Flown {
    Landed(Landing),
    Refreshed { newer: Arc<Session>, fence: u64 },
}
