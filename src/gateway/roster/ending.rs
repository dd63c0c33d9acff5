//! How administrators end sessions: one, all of a subject, or all. It runs beside the request that wants it: whoever hangs up
//! stops nothing.

use std::future::Future;
use std::sync::Arc;

use tokio::sync::oneshot;

use super::Roster;
use super::handle::{Cursor, SessionHandle};
use super::listing::{Listed, in_order};
use super::lists::Sheet;
use crate::clock::Timestamp;
use crate::ledger::protocol::{EndFromOutside, EndReason, Finished};
use crate::ledger::tombstone::Tombstone;
use crate::ledger::{Key, StoreError};

/// What came of ending one session.
#[must_use]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum One {
    /// It is over from now on.
    Now {
        /// Whose it was.
        subject: String,
    },
    /// It was over already.
    Before {
        /// Whose it was.
        subject: String,
        /// Why it was over.
        reason: EndReason,
    },
    /// It is not listed: it is over by its limit, or never was.
    Unknown,
}

/// Why nothing can be said about sessions: the ledger did not take it, or the process is ending. It may be repeated.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(transparent)]
pub struct OutOfReach(#[from] pub StoreError);

/// So many sessions are looked at together.
const CHUNK: usize = 1000;

impl Roster {
    /// Ends one session. Its tokens are revoked when its cookie is next seen.
    ///
    /// # Errors
    /// If the ledger cannot be asked. It may have ended all the same.
    pub async fn end(self: &Arc<Self>, handle: SessionHandle) -> Result<One, OutOfReach> {
        let roster = Arc::clone(self);
        self.beside(async move {
            let sheet: Sheet = roster.read(Key::Roster(handle.sheet)).await?;
            let now = roster.seams.clock.now();
            let line = sheet.lines.iter().find(|line| line.id == handle.id && line.ends > now);
            let Some(line) = line.cloned() else { return Ok(One::Unknown) };
            let subject = sheet.subject;
            let known = roster.with_endings(vec![(handle.sheet, subject.clone(), line.clone())]).await?;
            let known = known.into_iter().find_map(|listed| listed.over);
            // It is ended in any case: that nobody seems to have used it is no ending yet.
            let finished = roster.end_listed(&handle, line.ends).await?;
            Ok(match (finished, known) {
                (Finished::Before(ending), _) => One::Before { subject, reason: ending.reason },
                (Finished::Now { .. }, Some(over)) => One::Before { subject, reason: over.reason },
                (Finished::Now { .. }, None) => One::Now { subject },
            })
        })
        .await
    }

    /// Ends all sessions of `subject`, listed or not. Says how many of those that are listed were not over before; none if
    /// no list is kept.
    ///
    /// # Errors
    /// If the ledger cannot be asked. Some or all may have ended all the same.
    pub async fn end_subject(self: &Arc<Self>, subject: String) -> Result<Option<usize>, OutOfReach> {
        let roster = Arc::clone(self);
        self.beside(async move {
            let found = roster.lines_of(vec![subject.clone()], None).await?;
            let listed = roster.with_endings(found).await?;
            let key = Key::subject(roster.policy.issuer.as_str(), &subject);
            roster.bury(key, newest(&listed)).await?;
            let alive = listed.iter().filter(|listed| listed.over.is_none()).count();
            // The tombstone would end each when it is seen; so the other replicas hear of each at once.
            let ends = listed.into_iter().map(|listed| {
                let roster = Arc::clone(&roster);
                async move { roster.end_listed(&listed.handle, listed.ends).await }
            });
            in_order(ends.collect()).await?;
            Ok(roster.is_kept().then_some(alive))
        })
        .await
    }

    /// Ends all sessions of the issuer, listed or not. Says how many of those that are listed were not over before; none if
    /// no list is kept.
    ///
    /// # Errors
    /// If the ledger cannot be asked. Some or all may have ended all the same.
    pub async fn end_all(self: &Arc<Self>) -> Result<Option<usize>, OutOfReach> {
        let roster = Arc::clone(self);
        self.beside(async move {
            let key = Key::everyone(roster.policy.issuer.as_str());
            let before = roster.seams.ledger.tombstone_under(key).await?;
            // At once; how many there were is counted afterwards.
            roster.bury(key, None).await?;
            if !roster.is_kept() {
                return Ok(None);
            }
            let (mut alive, mut latest, mut after): (_, _, Option<Cursor>) = (0, None, None);
            loop {
                let page = roster.list(None, CHUNK, after).await?;
                let was_over = |listed: &Listed| match (listed.over, before) {
                    (None, _) => false,
                    // What this very tombstone covers was not over before, unless an earlier one covered it.
                    (Some(over), before) if over.at.is_none() && over.reason == EndReason::Administrator => {
                        before.is_some_and(|before| listed.issued_at <= before.issued_until)
                    }
                    (Some(_), _) => true,
                };
                alive += page.sessions.iter().filter(|listed| !was_over(listed)).count();
                latest = latest.max(newest(&page.sessions));
                after = page.next;
                if after.is_none() {
                    break;
                }
            }
            if latest.is_some_and(|latest| latest > roster.seams.clock.now()) {
                roster.bury(key, latest).await?;
            }
            Ok(Some(alive))
        })
        .await
    }

    async fn end_listed(&self, handle: &SessionHandle, ends: Timestamp) -> Result<Finished, StoreError> {
        let end = EndFromOutside { reason: EndReason::Administrator, keep_until: ends };
        self.seams.ledger.apply(handle.id, &end).await
    }

    /// Ends everything under `key` that was established until now. That is compared with the issuer's clock: what is listed
    /// tells how far that is ahead, and where nothing is listed it may be as far ahead as any ID token is accepted.
    async fn bury(&self, key: Key, newest: Option<Timestamp>) -> Result<(), StoreError> {
        let now = self.seams.clock.now();
        let now_there = if self.is_kept() { now } else { now + self.clock_skew };
        let tombstone = Tombstone {
            reason: EndReason::Administrator,
            issued_until: newest.map_or(now_there, |newest| newest.max(now_there)),
            keep_until: now + self.longest + self.clock_skew,
        };
        self.seams.ledger.bury(key, tombstone).await
    }

    async fn beside<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, StoreError>> + Send + 'static,
    ) -> Result<T, OutOfReach> {
        let (sender, done) = oneshot::channel();
        self.seams.tasks.spawn(async move {
            // Whoever asked may be gone.
            sender.send(work.await).ok();
        });
        let ended = || StoreError::Unreachable("the process is ending".to_owned());
        Ok(done.await.unwrap_or_else(|_| Err(ended()))?)
    }
}

fn newest(listed: &[Listed]) -> Option<Timestamp> {
    listed.iter().map(|listed| listed.issued_at).max()
}
