//! The broker: refreshes access tokens so that a refresh token is spent once and a session is never lost by accident.
//!
//! One flight per session, detached from the request that started it. Its result is committed to the ledger before
//! anything else is tried with it, and handed to all who wait. What a failure means is decided here, after the ledger
//! was read again; only a verdict ends a session.

mod flight;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use super::Seams;
use super::health::Health;
use crate::clock::Timestamp;
use crate::ledger::StoreError;
use crate::ledger::protocol::{End, EndReason, Ending, Finished, Latest, Newest};
use crate::oauth::Client;
use crate::session::vault::Vault;
use crate::session::{Session, SessionId};

/// How refreshing is done.
#[derive(Clone, Debug)]
pub struct RefreshPolicy {
    /// The longest that a request waits for a refresh.
    pub wait: Duration,
    /// How long after its first showing a generation is settled by being shown again.
    pub settle: Duration,
}

/// What a flight has come to.
#[derive(Clone, Debug)]
pub enum Landing {
    /// There is a newer session, with a token that has just been obtained.
    Advanced(Arc<Session>),
    /// There is a newer session in the ledger already. How fresh its token is has to be looked at.
    Found(Arc<Session>),
    /// The session is over.
    Ended(Ending),
    /// Not now, and not before that moment. The session is as it was.
    Unavailable(Timestamp),
}

/// Where a flight will leave its landing.
pub type Slot = watch::Receiver<Option<Landing>>;

/// What the ledger knows beyond a presented cookie.
#[must_use]
#[derive(Clone, Debug)]
pub enum Resolved {
    /// The presented one is the newest.
    Current,
    /// This one is.
    Newer(Arc<Session>),
    /// There is a newer one, but its body is gone: only the browser has it.
    Outdated,
    /// It is a replay of an old cookie.
    Replayed,
    /// The session is over.
    Ended(Ending),
}

/// What an ending leaves to do.
#[derive(Clone, Debug)]
pub struct Ended {
    /// The newest session that is known.
    pub newest: Arc<Session>,
    /// A refresh is on its way and revokes what it brings, or the session was over before.
    pub revoked_elsewhere: bool,
}

/// All refreshing of one site in one process.
pub struct Broker {
    seams: Seams,
    vault: Arc<Vault>,
    client: Arc<Client>,
    policy: RefreshPolicy,
    health: Health,
    flights: Mutex<HashMap<SessionId, Flight>>,
}

struct Flight {
    generation: u64,
    slot: Slot,
}

/// Above this many remembered flights, those that have nothing to say any more are forgotten.
const CROWD: usize = 1024;

impl fmt::Debug for Broker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Broker").field("policy", &self.policy).finish_non_exhaustive()
    }
}

impl Broker {
    /// A broker that refreshes as `client`.
    pub fn new(seams: Seams, vault: Arc<Vault>, client: Arc<Client>, policy: RefreshPolicy) -> Self {
        Self { seams, vault, client, policy, health: Health::default(), flights: Mutex::default() }
    }

    /// What is known of the authorization server's health.
    pub const fn health(&self) -> &Health {
        &self.health
    }

    /// How long after its first showing a generation is settled by being shown again.
    pub const fn settle(&self) -> Duration {
        self.policy.settle
    }

    /// Sees to it that `session` is being refreshed, and says where the result will be.
    pub fn depart(self: &Arc<Self>, session: &Session) -> Slot {
        let now = self.seams.clock.now();
        let mut flights = self.flights.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(flight) = flights.get(&session.id)
            && flight.generation >= session.generation
            && flight.is_worth_joining(now)
        {
            return flight.slot.clone();
        }
        if flights.len() >= CROWD {
            flights.retain(|_, flight| flight.is_worth_joining(now));
        }
        let (sender, slot) = watch::channel(None);
        flights.insert(session.id, Flight { generation: session.generation, slot: slot.clone() });
        drop(flights);
        let (broker, session) = (Arc::clone(self), session.clone());
        self.seams.tasks.spawn(async move {
            broker.fly(&session, &sender).await;
            broker.arrive(&session);
        });
        slot
    }

    /// Waits for a flight, as long as a request may wait.
    pub async fn arrival(&self, mut slot: Slot) -> Landing {
        match tokio::time::timeout(self.policy.wait, slot.wait_for(Option::is_some)).await {
            Ok(Ok(landing)) => landing.clone(),
            // Too slow, or the flight was dropped: it is tried again by whoever comes next.
            Ok(Err(_)) | Err(_) => None,
        }
        .unwrap_or_else(|| Landing::Unavailable(self.seams.clock.now() + Duration::from_secs(1)))
    }

    /// Asks the ledger what has become of `session` since its cookie was sealed.
    ///
    /// # Errors
    /// If the ledger cannot be asked.
    pub async fn resolve(&self, session: &Session) -> Result<Resolved, StoreError> {
        let newest = self.seams.ledger.apply(session.id, &Latest { generation: session.generation }).await?;
        Ok(self.read(session, newest))
    }

    /// Ends `session`, and says what is left to revoke: the newest session that is known, unless somebody else is seeing
    /// to it.
    ///
    /// # Errors
    /// If the ledger cannot be asked. Nothing has ended then.
    pub async fn end(&self, session: &Session, reason: EndReason) -> Result<Ended, StoreError> {
        let end = End { reason, generation: session.generation, only_if_newest: false, keep_until: session.ends };
        let finished = self.seams.ledger.apply(session.id, &end).await?;
        tracing::info!(target: "audit", event = "session.ended", reason = reason.name());
        let opened = |body: Option<Vec<u8>>| {
            let newer = body.and_then(|body| self.vault.open_body(session, &body, self.seams.clock.now()));
            Arc::new(newer.unwrap_or_else(|| session.clone()))
        };
        Ok(match finished {
            Finished::Now { newer, in_flight } => Ended { newest: opened(newer), revoked_elsewhere: in_flight },
            Finished::Newer(newer) => Ended { newest: opened(newer), revoked_elsewhere: false },
            Finished::Before(_) => Ended { newest: opened(None), revoked_elsewhere: true },
        })
    }

    fn read(&self, session: &Session, newest: Newest) -> Resolved {
        match newest {
            Newest::Current => Resolved::Current,
            Newest::Replayed => Resolved::Replayed,
            Newest::Ended(ending) => Resolved::Ended(ending),
            Newest::Superseded(None) => Resolved::Outdated,
            Newest::Superseded(Some(body)) => self
                .vault
                .open_body(session, &body, self.seams.clock.now())
                .map_or(Resolved::Outdated, |newer| Resolved::Newer(Arc::new(newer))),
        }
    }

    /// The landing for a session that the ledger has moved on from, if that settles the matter.
    fn landing_of(&self, session: &Session, newest: Newest) -> Landing {
        match self.read(session, newest) {
            Resolved::Newer(newer) => Landing::Found(newer),
            Resolved::Ended(ending) => Landing::Ended(ending),
            // Whoever holds the newer cookie goes on; this one has nothing to spend.
            Resolved::Current | Resolved::Outdated | Resolved::Replayed => {
                Landing::Unavailable(self.seams.clock.now() + Duration::from_secs(1))
            }
        }
    }

    /// A flight that brought something is in the ledger now, for latecomers to find; one that failed is remembered, so
    /// that requests do not try again before its time.
    fn arrive(&self, session: &Session) {
        let mut flights = self.flights.lock().unwrap_or_else(PoisonError::into_inner);
        let done = flights.get(&session.id).is_some_and(|flight| {
            flight.generation == session.generation && !matches!(&*flight.slot.borrow(), Some(Landing::Unavailable(_)))
        });
        if done {
            flights.remove(&session.id);
        }
    }
}

impl Flight {
    /// A flight that is on its way, or has failed so recently that trying again is too early.
    fn is_worth_joining(&self, now: Timestamp) -> bool {
        match &*self.slot.borrow() {
            None => self.slot.has_changed().is_ok(),
            Some(Landing::Unavailable(until)) => *until > now,
            Some(Landing::Advanced(_) | Landing::Found(_) | Landing::Ended(_)) => false,
        }
    }
}
