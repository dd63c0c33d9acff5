//! Watches over one session while something of it is open: a stream that has to be cut when the session ends, a page
//! that wants to hear of it.
//!
//! News wakes a vigil at once. Besides, it looks at the clock once a second: limits pass and news stays away without a
//! sound. Nothing it does asks the network while the session is known here.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::Gateway;
use super::admission::Passport;
use super::broker::Resolved;
use crate::clock::Timestamp;
use crate::ledger::protocol::{EndReason, Used};
use crate::ledger::tombstone::Lineage;
use crate::ledger::view::Standing;
use crate::ledger::{DEAF, StoreError, Watch};
use crate::session::{Carried, Session};

/// Whether what is open counts as a use of its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    /// It does: the session does not become idle meanwhile.
    Counts,
    /// It does not: it only listens.
    Listens,
}

/// What a vigil has seen.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sign {
    /// The session was refreshed, or used here: its limits may have moved.
    Moved,
    /// It is over. Nothing follows.
    Over(Over),
}

/// How a session is over for what is open.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    /// It has ended.
    Ended(EndReason),
    /// Nobody here knows: the ledger cannot be asked, or the session may have been used on another replica, of which only
    /// its cookie tells. The next request will tell.
    Unsure,
}

/// Watches over one session, for as long as something of it is open.
pub struct Vigil {
    gateway: Arc<Gateway>,
    session: Arc<Session>,
    /// The newest generation that is known, also where its body is the browser's alone.
    generation: u64,
    lineage: Lineage,
    watch: Watch,
    usage: Use,
    /// The last use before the vigil began, by what the request's cookie said.
    last_seen: Timestamp,
    /// For how long the session was unused when last looked at.
    unused: Duration,
    /// When, by uptime, its use was last noted: here, and in the ledger.
    touched: Option<Duration>,
    noted: Option<Duration>,
    /// Since when, by uptime, the ledger has not answered.
    unanswered: Option<Duration>,
}

/// How often a vigil looks at the clock.
const TICK: Duration = Duration::from_secs(1);
/// How often what is open is noted as a use, here.
const TOUCH: Duration = Duration::from_secs(30);
/// How often at most it is noted in the ledger, for other replicas.
const NOTE: Duration = Duration::from_secs(60);

impl fmt::Debug for Vigil {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vigil").field("session", &self.session).field("usage", &self.usage).finish_non_exhaustive()
    }
}

impl Gateway {
    /// A vigil over the session of a request that was admitted.
    pub(super) fn vigil(self: &Arc<Self>, passport: &Passport, usage: Use) -> Vigil {
        let session = passport.newest();
        let lineage = self.broker.lineage_of(&session);
        Vigil {
            // It watches before it looks for the first time, so that nothing falls in between.
            watch: self.seams.ledger.watch(session.id, &lineage),
            gateway: Arc::clone(self),
            last_seen: self.seams.clock.now() - passport.unused,
            unused: passport.unused,
            generation: session.generation,
            session,
            lineage,
            usage,
            touched: None,
            noted: None,
            unanswered: None,
        }
    }
}

impl Vigil {
    /// The newest of the session that is known.
    pub const fn session(&self) -> &Arc<Session> {
        &self.session
    }

    /// For how long the session has not been used, as far as this replica knows.
    pub const fn unused(&self) -> Duration {
        self.unused
    }

    /// Waits until the session is over. Dropping the future loses nothing.
    pub async fn over(&mut self) -> Over {
        loop {
            match self.next().await {
                Sign::Moved => {}
                Sign::Over(over) => return over,
            }
        }
    }

    /// Waits until something happens to the session. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Sign {
        loop {
            if let Some(sign) = self.look().await {
                return sign;
            }
            // Either way it is time to look.
            tokio::time::timeout(TICK, self.watch.stirred()).await.ok();
        }
    }

    async fn look(&mut self) -> Option<Sign> {
        let moved = match self.catch_up().await {
            Ok(Ok(moved)) => {
                self.unanswered = None;
                moved
            }
            Ok(Err(reason)) => return Some(Sign::Over(Over::Ended(reason))),
            Err(_) => {
                let ledger = &self.gateway.seams.ledger;
                let uptime = self.gateway.seams.clock.uptime();
                let since = *self.unanswered.get_or_insert(uptime);
                // While news is heard, an answer may only be late: many ask at once after a gap.
                if !ledger.is_live() || uptime.saturating_sub(since) >= DEAF {
                    return Some(Sign::Over(Over::Unsure));
                }
                false
            }
        };
        if self.usage == Use::Counts {
            self.touch();
        }
        let now = self.gateway.seams.clock.now();
        let unused = self.gateway.unused(&self.session, now.since(self.last_seen.max(self.session.last_seen)));
        let used = unused < std::mem::replace(&mut self.unused, unused);
        if let Some((reason, _)) = self.gateway.limit_reached(&self.session, unused, now) {
            let elsewhere = reason == EndReason::Idle && self.gateway.seams.ledger.is_shared();
            return Some(Sign::Over(if elsewhere { Over::Unsure } else { Over::Ended(reason) }));
        }
        (moved || used).then_some(Sign::Moved)
    }

    /// Follows the session to its newest generation; says whether there was one, or why it has ended.
    async fn catch_up(&mut self) -> Result<Result<bool, EndReason>, StoreError> {
        let ledger = &self.gateway.seams.ledger;
        let is_known = ledger.standing(self.session.id, self.generation) == Standing::Current;
        if is_known && ledger.tombstone(|| self.lineage.clone()).is_none() {
            return Ok(Ok(false));
        }
        let carried = Carried::Body(Box::new(Session::clone(&self.session)));
        match self.gateway.broker.resolve(carried).await? {
            Resolved::Live(newest) => self.session = newest,
            Resolved::Ended(ending, _) => return Ok(Err(ending.reason)),
            // What was presented when this began may be old by now. That is no replay: nobody presents it.
            Resolved::Replayed(_) | Resolved::Missing => {}
        }
        let newest = self.session.generation.max(ledger.newest(self.session.id));
        Ok(Ok(newest > std::mem::replace(&mut self.generation, newest)))
    }

    /// What is open counts as a use of the session: here, and now and then in the ledger, for other replicas.
    fn touch(&mut self) {
        let seams = &self.gateway.seams;
        let uptime = seams.clock.uptime();
        let due = |last: Option<Duration>, every| last.is_none_or(|last| uptime.saturating_sub(last) >= every);
        if due(self.touched, TOUCH) {
            self.touched = Some(uptime);
            seams.ledger.touch(self.session.id);
        }
        // The first is left to the request that opened the stream: it is a use itself.
        let interval = NOTE.max(self.gateway.settings.session.idle / 4);
        if due(Some(*self.noted.get_or_insert(uptime)), interval) {
            self.noted = Some(uptime);
            let (ledger, id) = (Arc::clone(&seams.ledger), self.session.id);
            let used = Used { keep_until: self.session.ends };
            self.gateway.detach(async move {
                if let Err(error) = ledger.apply(id, &used).await {
                    tracing::debug!(%error, "an open stream is noted as a use later");
                }
            });
        }
    }
}
