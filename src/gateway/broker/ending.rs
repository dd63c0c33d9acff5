//! How a session is ended from here, and what that leaves to do.

use std::sync::Arc;

use super::{Broker, Resolved};
use crate::ledger::StoreError;
use crate::ledger::protocol::{End, EndReason, Ending, Finished};
use crate::ledger::tombstone::Tombstone;
use crate::session::{Carried, Session};

/// What an ending leaves to do.
#[derive(Clone, Debug)]
pub struct Ended {
    /// How and when it ended.
    pub ending: Ending,
    /// The newest session that is known.
    pub newest: Arc<Session>,
    /// A refresh is on its way and revokes what it brings, or the session was over before.
    pub revoked_elsewhere: bool,
}

impl Broker {
    /// A session whose kind has been ended as a whole: from now on it is one that has ended.
    pub(super) async fn buried(&self, session: &Arc<Session>, tombstone: Tombstone) -> Result<Resolved, StoreError> {
        let ended = self.end(session, tombstone.reason).await?;
        if !ended.revoked_elsewhere {
            self.seams.revoke(&self.client, &ended.newest);
        }
        Ok(Resolved::Ended(ended.ending, None))
    }

    /// Ends `session`, and says what is left to revoke: the newest session that is known, unless somebody else is seeing
    /// to it.
    ///
    /// # Errors
    /// If the ledger cannot be asked. Nothing has ended then.
    pub async fn end(&self, session: &Arc<Session>, reason: EndReason) -> Result<Ended, StoreError> {
        let end = End { reason, generation: session.generation, keep_until: session.ends };
        let finished = self.seams.ledger.apply(session.id, &end).await?;
        let newest = |body: Option<Vec<u8>>| {
            body.and_then(|body| self.open(&session.handle(), &body)).unwrap_or_else(|| Arc::clone(session))
        };
        let ended = match finished {
            Finished::Now { ending, newer, in_flight } => {
                tracing::info!(target: "audit", event = "session.ended", reason = reason.name());
                Ended { ending, newest: newest(newer), revoked_elsewhere: in_flight }
            }
            Finished::Before(ending) => Ended { ending, newest: Arc::clone(session), revoked_elsewhere: true },
        };
        self.opened.forget(session.id);
        Ok(ended)
    }

    /// Ends a session although the ledger cannot be told now: this process takes it for ended at once, and goes on telling
    /// the ledger until it listens. Returns what is at hand of it.
    pub fn end_later(self: &Arc<Self>, carried: Carried, reason: EndReason) -> Option<Arc<Session>> {
        let (id, ends, at) = (carried.id(), carried.ends(), self.seams.clock.now());
        let (generation, session) = match carried {
            Carried::Body(session) => (session.generation, Some(Arc::new(*session))),
            Carried::Handle(handle) => (handle.generation, self.opened.get(id, 0)),
        };
        self.opened.forget(id);
        self.seams.ledger.end_here(id, Ending { reason, at, newest: generation, revoke_on_sight: false }, ends);
        let end = End { reason, generation, keep_until: ends };
        let (broker, held) = (Arc::clone(self), session.clone());
        self.seams.tasks.spawn(async move {
            let mut failures = 0;
            while broker.seams.clock.now() < ends {
                if let Ok(finished) = broker.seams.ledger.apply(id, &end).await {
                    if let (Finished::Now { newer: Some(body), in_flight: false, .. }, Some(held)) = (finished, held)
                        && let Some(newest) = broker.open(&held.handle(), &body)
                    {
                        broker.seams.revoke(&broker.client, &newest);
                    }
                    return;
                }
                tokio::time::sleep(broker.pause(failures)).await;
                failures += 1;
            }
        });
        session
    }
}
