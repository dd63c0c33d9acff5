//! From what a cookie carries to the newest session that can be had.

use std::sync::Arc;

use super::Broker;
use crate::ledger::protocol::{Deposit, Ending, Fetch, Fetched, Latest, Newest};
use crate::ledger::tombstone::Lineage;
use crate::ledger::view::Standing;
use crate::ledger::{Key, StoreError};
use crate::session::{Carried, Handle, Placement, Session};

/// What a presented cookie amounts to, by all that the ledger knows.
#[must_use]
#[derive(Clone, Debug)]
pub enum Resolved {
    /// The newest session that can be had.
    Live(Arc<Session>),
    /// A replay of an old cookie, with what it holds.
    Replayed(Box<Session>),
    /// A body that should lie in the ledger, and does not.
    Missing,
    /// The session is over. With what is at hand of it.
    Ended(Ending, Option<Arc<Session>>),
}

impl Broker {
    /// Finds the newest session that belongs to a presented cookie. Asks nobody if this process knows it.
    ///
    /// # Errors
    /// If the ledger has to be asked and cannot be.
    pub async fn resolve(self: &Arc<Self>, carried: Carried) -> Result<Resolved, StoreError> {
        let resolved = match carried {
            Carried::Body(session) => {
                let resolved = self.catch_up(session).await?;
                if let Resolved::Ended(ending, Some(session)) = &resolved {
                    self.revoke_on_sight(*ending, session.handle(), Some(session));
                }
                resolved
            }
            Carried::Handle(handle) => {
                let resolved = self.fetch(&handle).await?;
                if let Resolved::Ended(ending, session) = &resolved {
                    self.revoke_on_sight(*ending, handle, session.as_ref());
                }
                resolved
            }
        };
        if let Resolved::Live(session) = &resolved
            && let Some(tombstone) = self.seams.ledger.tombstone(|| self.lineage_of(session))
        {
            return self.buried(Arc::clone(session), tombstone).await;
        }
        Ok(resolved)
    }

    /// From a session in a cookie to the newest of it.
    async fn catch_up(&self, session: Box<Session>) -> Result<Resolved, StoreError> {
        let ledger = &self.seams.ledger;
        match ledger.standing(session.id, session.generation) {
            Standing::Current => return Ok(Resolved::Live(Arc::new(*session))),
            Standing::Ended(ending) => return Ok(Resolved::Ended(ending, Some(Arc::new(*session)))),
            Standing::Behind | Standing::Unknown => {}
        }
        let lineage = || self.lineage_of(&session);
        match ledger
            .meet(
                session.id,
                &Latest { generation: session.generation },
                |_| Some(lineage()),
                session.last_seen,
                session.ends,
            )
            .await
        {
            Ok(Newest::Current) => Ok(Resolved::Live(Arc::new(*session))),
            Ok(Newest::Replayed) => Ok(Resolved::Replayed(session)),
            Ok(Newest::Ended(ending)) => Ok(Resolved::Ended(ending, Some(Arc::new(*session)))),
            // Without its body the newer one is the browser's alone.
            Ok(Newest::Superseded(body)) => Ok(Resolved::Live(
                body.and_then(|body| self.open(&session.handle(), &body)).unwrap_or_else(|| Arc::new(*session)),
            )),
            Err(error) if self.policy.stale_endings => {
                tracing::error!(%error, "the ledger cannot be asked; insecure.stale_endings uses the session all the same");
                Ok(Resolved::Live(Arc::new(*session)))
            }
            Err(error) => Err(error),
        }
    }

    /// From a handle to the body that it stands for.
    async fn fetch(&self, handle: &Handle) -> Result<Resolved, StoreError> {
        let ledger = &self.seams.ledger;
        let opened = |generation| self.opened.get(handle.id, generation);
        match ledger.standing(handle.id, handle.generation) {
            Standing::Ended(ending) => return Ok(Resolved::Ended(ending, opened(0))),
            Standing::Current | Standing::Behind => {
                if let Some(session) = opened(ledger.newest(handle.id)) {
                    return Ok(Resolved::Live(session));
                }
            }
            Standing::Unknown => {}
        }
        let mut fetched = None;
        let lineage = |reply: &Fetched| {
            fetched = match reply {
                Fetched::Body(body) => self.open(handle, body),
                Fetched::Missing | Fetched::Ended(_) => None,
            };
            fetched.as_deref().map(|session| self.lineage_of(session))
        };
        match ledger.meet(handle.id, &Fetch, lineage, handle.last_seen, handle.ends).await {
            // A body that does not open was sealed with a key that this process has not loaded yet.
            Ok(Fetched::Body(_)) => fetched.map(Resolved::Live).ok_or(StoreError::Corrupt),
            Ok(Fetched::Missing) => Ok(Resolved::Missing),
            Ok(Fetched::Ended(ending)) => Ok(Resolved::Ended(ending, opened(0))),
            Err(error) => match opened(0).filter(|_| self.policy.stale_endings) {
                Some(session) => Ok(Resolved::Live(session)),
                None => Err(error),
            },
        }
    }

    /// Lays the body of a new session down in the ledger.
    ///
    /// # Errors
    /// If the ledger cannot be asked. The body may lie there all the same, and nobody has the secret that opens it.
    pub async fn deposit(&self, session: &Session) -> Result<(), StoreError> {
        let body = self.vault.seal_body(session, &*self.seams.random, self.seams.clock.now());
        let deposit = Deposit { generation: session.generation, body, keep_until: session.ends };
        self.seams.ledger.apply(session.id, &deposit).await
    }

    /// Opens a body of the ledger, and keeps it at hand if that is where it lives.
    pub(super) fn open(&self, handle: &Handle, body: &[u8]) -> Option<Arc<Session>> {
        let session = self.vault.open_body(handle.id, handle.secret(), body, self.seams.clock.now()).map(Arc::new)?;
        self.keep(&session);
        Some(session)
    }

    pub(super) fn keep(&self, session: &Arc<Session>) {
        if session.placement == Placement::Ledger {
            self.opened.put(session);
        }
    }

    /// By what a session can be ended together with others.
    pub(in super::super) fn lineage_of(&self, session: &Session) -> Lineage {
        let original = &session.identity.original;
        let issuer = original.issuer.as_str();
        let subject = |issuer| original.subject.as_deref().map(|subject| Key::subject(issuer, subject));
        Lineage {
            subject: subject(issuer),
            any_tenant: if original.issuer == self.issuer { None } else { subject(self.issuer.as_str()) },
            issuer_session: session.identity.issuer_session.as_deref().map(|sid| Key::issuer_session(issuer, sid)),
            everyone: self.everyone,
            issued_at: session.identity.issued_at,
        }
    }
}
