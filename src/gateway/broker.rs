//! The broker: refreshes access tokens so that a refresh token is spent once and a session is never lost by accident.
//!
//! One flight per session, detached from the request that started it. Its result is committed to the ledger before
//! anything else is tried with it, and handed to all who wait. What a failure means is decided here, after the ledger
//! was read again; only a verdict ends a session.

mod denials;
mod ending;
mod farewell;
mod flight;
mod resolve;
mod verdict;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use self::denials::Denials;
pub use self::ending::{Ended, Revocation};
use self::farewell::Farewells;
pub use self::resolve::Resolved;
use super::Seams;
use super::health::Health;
use super::opened::Opened;
use super::route::Errand;
use crate::clock::Timestamp;
use crate::ledger::Key;
use crate::ledger::protocol::{Ending, Newest};
use crate::oauth::{Client, Issuer, TargetId};
use crate::session::vault::Vault;
use crate::session::{Session, SessionId};

/// How refreshing is done.
#[derive(Clone, Debug)]
pub struct RefreshPolicy {
    /// The longest that a request waits for a refresh.
    pub wait: Duration,
    /// How long after its first showing a generation is settled by being shown again.
    pub settle: Duration,
    /// While the ledger cannot be asked, sessions are used as their cookies know them, also those that have ended since.
    pub stale_endings: bool,
}

/// What a flight has come to.
#[derive(Clone, Debug)]
pub enum Landing {
    /// There is a newer session, by a refresh of this replica or of another. How fresh its token is has to be looked at.
    Advanced(Arc<Session>),
    /// The session is over.
    Ended(Ending),
    /// Not now, and not before that moment. The session is as it was.
    Unavailable(Timestamp),
    /// The authorization server gives no token for this API. The session is as it was.
    Denied(TargetId),
}

/// Where a flight will leave its landing.
pub type Slot = watch::Receiver<Option<Landing>>;

/// All refreshing of one site in one process.
pub struct Broker {
    seams: Seams,
    vault: Arc<Vault>,
    client: Arc<Client>,
    policy: RefreshPolicy,
    issuer: Issuer,
    /// Made once: requests look it up.
    everyone: Key,
    health: Health,
    flights: Mutex<HashMap<SessionId, Flight>>,
    /// Bodies of the ledger.
    opened: Opened,
    farewells: Farewells,
    denials: Denials,
}

struct Flight {
    generation: u64,
    slot: Slot,
}

/// Above this many remembered flights, those that have nothing to say any more are forgotten.
const CROWD: usize = 1024;

/// After a failure nobody rests for longer than this.
const LONGEST_REST: Duration = Duration::from_secs(60);

impl fmt::Debug for Broker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Broker").field("policy", &self.policy).finish_non_exhaustive()
    }
}

impl Broker {
    /// A broker that refreshes as `client` of `issuer`, as that is configured.
    pub fn new(seams: Seams, vault: Arc<Vault>, client: Arc<Client>, policy: RefreshPolicy, issuer: Issuer) -> Self {
        Self {
            seams,
            vault,
            client,
            policy,
            everyone: Key::everyone(issuer.as_str()),
            issuer,
            health: Health::default(),
            flights: Mutex::default(),
            opened: Opened::default(),
            farewells: Farewells::default(),
            denials: Denials::default(),
        }
    }

    /// What is known of the authorization server's health.
    pub const fn health(&self) -> &Health {
        &self.health
    }

    /// How long after its first showing a generation is settled by being shown again.
    pub const fn settle(&self) -> Duration {
        self.policy.settle
    }

    /// Sees to it that a flight is under way for `session`, and says where the result will be. There is one at a time, as
    /// there is one refresh token: whoever finds another's looks again, when it has landed, at what is still missing.
    pub fn depart(self: &Arc<Self>, session: &Session, errand: Errand) -> Slot {
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
            broker.fly(&session, &errand, &sender).await;
            broker.arrive(&session);
        });
        slot
    }

    /// Whether the authorization server has said a moment ago that `session` gets no token for this API.
    pub fn is_denied(&self, session: SessionId, target: TargetId) -> bool {
        self.denials.is_denied(session, target, self.seams.clock.now())
    }

    /// Waits for a flight, as long as a request may wait that has `waited` already.
    pub async fn arrival(&self, mut slot: Slot, waited: Duration) -> Landing {
        let patience = self.policy.wait.saturating_sub(waited);
        match tokio::time::timeout(patience, slot.wait_for(Option::is_some)).await {
            Ok(Ok(landing)) => landing.clone(),
            // Too slow, or the flight was dropped: it is tried again by whoever comes next.
            Ok(Err(_)) | Err(_) => None,
        }
        .unwrap_or_else(|| Landing::Unavailable(self.seams.clock.now() + Duration::from_secs(1)))
    }

    /// The landing for a session that the ledger has moved on from, if that settles the matter.
    fn landing_of(&self, session: &Session, newest: Newest) -> Landing {
        // Whoever holds the newer cookie goes on; this one has nothing to spend.
        let nothing = || Landing::Unavailable(self.seams.clock.now() + Duration::from_secs(1));
        match newest {
            Newest::Superseded(Some(body)) => {
                self.open(&session.handle(), &body).map_or_else(nothing, Landing::Advanced)
            }
            Newest::Ended(ending) => Landing::Ended(ending),
            Newest::Current | Newest::Superseded(None) | Newest::Replayed => nothing(),
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
            // A rest that seems longer than any was noted before the clock was set back.
            Some(Landing::Unavailable(until)) => *until > now && until.until(now) <= LONGEST_REST,
            Some(Landing::Advanced(_) | Landing::Ended(_) | Landing::Denied(_)) => false,
        }
    }
}
