//! How a session is ended from here. All of it runs beside the request that wants it: whoever hangs up stops nothing.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use super::{Broker, Resolved};
use crate::ledger::StoreError;
use crate::ledger::protocol::{End, EndReason, Ending, Finished, TakeRevocation, Taken};
use crate::ledger::tombstone::Tombstone;
use crate::oauth::LogoutStyle;
use crate::session::{Carried, Handle, Session, SessionId};

/// A session that is over.
#[derive(Clone, Debug)]
pub struct Ended {
    /// How and when it ended.
    pub ending: Ending,
    /// The newest of it that is known.
    pub newest: Arc<Session>,
}

/// When the tokens of a session that has ended are revoked at the authorization server.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Revocation {
    /// At once.
    Now,
    /// Once the browser is back from the authorization server's own logout, or after this long if it does not come back;
    /// at once where there is no such logout.
    AfterLogout(LogoutStyle, Duration),
    /// They are left to expire.
    Never,
}

/// The ledger is told again after this long.
const AGAIN: Duration = Duration::from_secs(1);

impl Broker {
    /// Ends `session` and has its tokens revoked, unless a refresh is on its way, which revokes what it brings. Returns
    /// when both are done.
    ///
    /// # Errors
    /// If the ledger cannot be asked. Nothing has ended then.
    pub async fn end(self: &Arc<Self>, session: Arc<Session>, reason: EndReason) -> Result<Ended, StoreError> {
        self.end_and_revoke(session, reason, Revocation::Now).await
    }

    /// As [`end`](Self::end), with its tokens revoked when `revocation` says.
    ///
    /// # Errors
    /// If the ledger cannot be asked. Nothing has ended then.
    pub async fn end_and_revoke(
        self: &Arc<Self>,
        session: Arc<Session>,
        reason: EndReason,
        revocation: Revocation,
    ) -> Result<Ended, StoreError> {
        let (sender, ended) = oneshot::channel();
        let broker = Arc::clone(self);
        self.seams.tasks.spawn(async move {
            let ended = broker.end_here(&session, reason, revocation).await;
            // Whoever asked may be gone.
            sender.send(ended).ok();
        });
        ended.await.unwrap_or_else(|_| Err(StoreError::Unreachable("the process is ending".to_owned())))
    }

    async fn end_here(
        self: &Arc<Self>,
        session: &Arc<Session>,
        reason: EndReason,
        revocation: Revocation,
    ) -> Result<Ended, StoreError> {
        let end = End { reason, generation: session.generation, keep_until: session.ends };
        let finished = self.seams.ledger.apply(session.id, &end).await?;
        self.opened.forget(session.id);
        let (ending, newer, in_flight) = match finished {
            Finished::Now { ending, newer, in_flight } => (ending, newer, in_flight),
            Finished::Before(ending) => {
                self.revoke_on_sight(ending, session.handle(), Some(session));
                return Ok(Ended { ending, newest: Arc::clone(session) });
            }
        };
        tracing::info!(target: "audit", event = "session.ended", reason = reason.name());
        let newer = newer.and_then(|body| self.open(&session.handle(), &body));
        // The token of a replayed cookie is superseded, and a superseded token is never sent anywhere.
        let revocable = newer.as_ref().or((reason != EndReason::Replayed).then_some(session));
        if let Some(revocable) = revocable.filter(|_| !in_flight) {
            match revocation {
                Revocation::AfterLogout(style, wait) if self.has_logout(style).await => {
                    self.revoke_when_back(Arc::clone(revocable), wait);
                }
                Revocation::Now | Revocation::AfterLogout(..) => self.seams.revoke_now(&self.client, revocable).await,
                Revocation::Never => {}
            }
        }
        Ok(Ended { ending, newest: newer.unwrap_or_else(|| Arc::clone(session)) })
    }

    /// Somebody has shown a cookie of a session that is over. Has its tokens revoked if that was left to whoever sees one:
    /// the newest that the ledger holds for it, or what is at hand.
    pub fn revoke_on_sight(self: &Arc<Self>, ending: Ending, handle: Handle, at_hand: Option<&Arc<Session>>) {
        if !ending.revoke_on_sight {
            return;
        }
        let (broker, at_hand) = (Arc::clone(self), at_hand.cloned());
        self.seams.tasks.spawn(async move {
            let take = TakeRevocation { generation: at_hand.as_ref().map_or(0, |session| session.generation) };
            match broker.seams.ledger.apply(handle.id, &take).await {
                Ok(Taken::Yes(body)) => {
                    // A superseded token is never sent anywhere.
                    let at_hand = at_hand.filter(|session| session.generation >= ending.newest);
                    let newest = body.and_then(|body| broker.open(&handle, &body)).or(at_hand);
                    broker.opened.forget(handle.id);
                    if let Some(newest) = newest {
                        broker.seams.revoke_now(&broker.client, &newest).await;
                    }
                }
                Ok(Taken::No) => {}
                Err(error) => tracing::warn!(%error, "tokens of an ended session are revoked when it is next seen"),
            }
        });
    }

    /// A session whose kind has been ended as a whole: from now on it is one that has ended.
    pub(super) async fn buried(
        self: &Arc<Self>,
        session: Arc<Session>,
        tombstone: Tombstone,
    ) -> Result<Resolved, StoreError> {
        let ended = self.end(session, tombstone.reason).await?;
        Ok(Resolved::Ended(ended.ending, None))
    }

    /// Ends a session although the ledger cannot be told now: this process takes it for ended at once, what is at hand of
    /// it is revoked if `revokes`, and the ledger is told as soon as it listens. Returns what is at hand.
    ///
    /// It does not wait for the browser: until the ledger is told, another replica may still use a copy.
    pub fn end_later(self: &Arc<Self>, carried: Carried, reason: EndReason, revokes: bool) -> Option<Arc<Session>> {
        let at = self.seams.clock.now();
        let (handle, session) = match carried {
            Carried::Body(session) => (session.handle(), Some(Arc::new(*session))),
            Carried::Handle(handle) => {
                let session = self.opened.get(handle.id, 0);
                (handle, session)
            }
        };
        self.opened.forget(handle.id);
        let ending = Ending { reason, at, newest: handle.generation, revoke_on_sight: false };
        self.seams.ledger.end_here(handle.id, ending, handle.ends);
        if let Some(session) = session.as_ref().filter(|_| revokes) {
            self.seams.revoke(&self.client, session);
        }
        let end = End { reason, generation: handle.generation, keep_until: handle.ends };
        self.insist(handle.id, end, Some(handle));
        session
    }

    /// Goes on telling the ledger that a session is over until it listens. What turns out to be newer than what was at hand
    /// is revoked, if somebody holds the right to open it.
    pub fn insist(self: &Arc<Self>, id: SessionId, end: End, handle: Option<Handle>) {
        let broker = Arc::clone(self);
        self.seams.tasks.spawn(async move {
            while broker.seams.clock.now() < end.keep_until {
                match broker.seams.ledger.apply(id, &end).await {
                    Ok(finished) => {
                        tracing::info!(target: "audit", event = "session.ended", reason = end.reason.name());
                        if let (Finished::Now { newer: Some(body), in_flight: false, .. }, Some(handle)) =
                            (finished, handle)
                            && let Some(newest) = broker.open(&handle, &body)
                        {
                            broker.seams.revoke_now(&broker.client, &newest).await;
                        }
                        return;
                    }
                    // Never long: once the ledger can be asked again, this has to hold everywhere as soon as any ending.
                    Err(_) => tokio::time::sleep(AGAIN).await,
                }
            }
        });
    }
}
