//! What is known of the authorization server's health: when to leave it alone, and whether its verdicts count.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::clock::Timestamp;

/// Shared by all refreshes against one authorization server.
#[derive(Debug, Default)]
pub struct Health(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// Failures in a row, over all sessions.
    failures: u32,
    /// Nobody asks before this moment.
    closed_until: Timestamp,
    /// These client credentials have had a success since they were loaded.
    proven: bool,
    /// The server has rejected the credentials themselves; one probe at a time finds out when it takes them again.
    rejected: bool,
    /// The minute in which verdicts are counted, how many refreshes it has seen and how many refusals.
    minute: Timestamp,
    answers: u32,
    refusals: u32,
}

/// Whether the server may be asked.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    /// It may.
    Open,
    /// It may not, for that much longer.
    Closed(Duration),
    /// It has rejected our credentials: a harmless request first.
    Probe,
}

/// Whether a refusal of a refresh token is to be believed.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weight {
    /// It is a verdict.
    Verdict,
    /// The credentials have never worked here, or refusals come in masses: something else is wrong.
    Doubtful,
}

/// After so many failures in a row the server is left alone.
const TOLERATED: u32 = 5;
const MINUTE: Duration = Duration::from_secs(60);
/// Refusals are a mass when there are more than this many within a minute, and they are a fifth of all answers.
const MASS: u32 = 5;
/// How long a probe may take before another may be sent.
const PROBE: Duration = Duration::from_secs(10);

impl Health {
    /// Whether the server may be asked at `now`.
    pub fn gate(&self, now: Timestamp) -> Gate {
        self.with(|state| {
            let closed = state.closed_until.until(now);
            // It is never closed for longer than a minute: what seems to be was noted before the clock was set back.
            if closed > Duration::ZERO && closed <= MINUTE {
                return Gate::Closed(closed);
            }
            if state.rejected {
                state.closed_until = now + PROBE;
                return Gate::Probe;
            }
            if state.failures >= TOLERATED {
                // Half open: this one finds out, the others wait for what it finds.
                state.closed_until = now + backoff(state.failures - TOLERATED, 0);
            }
            Gate::Open
        })
    }

    /// The server has answered as it should.
    pub fn succeeded(&self, now: Timestamp) {
        self.with(|state| {
            state.count(now);
            *state = State { proven: true, ..*state };
            state.failures = 0;
            state.closed_until = Timestamp::default();
            state.rejected = false;
        });
    }

    /// The server did not answer, or answered that it cannot; `wait` is how long it asked to be left alone.
    pub fn failed(&self, wait: Option<Duration>, now: Timestamp) {
        self.with(|state| {
            state.failures = state.failures.saturating_add(1);
            if let Some(wait) = wait {
                state.closed_until = now + wait.min(MINUTE);
            } else if state.failures >= TOLERATED {
                state.closed_until = now + backoff(state.failures - TOLERATED, 0);
            }
        });
    }

    /// The server has rejected the client's credentials.
    pub fn rejected(&self, now: Timestamp) {
        self.with(|state| {
            state.rejected = true;
            state.closed_until = now + PROBE;
        });
    }

    /// The server has taken the client's credentials, in a login or a probe.
    pub fn accepted(&self) {
        self.with(|state| {
            state.proven = true;
            state.rejected = false;
            state.closed_until = Timestamp::default();
        });
    }

    /// The server has refused a refresh token: how much that weighs.
    pub fn refused(&self, now: Timestamp) -> Weight {
        self.with(|state| {
            state.count(now);
            state.failures = 0;
            state.refusals += 1;
            let mass = state.refusals > MASS && state.refusals * 5 >= state.answers;
            if state.proven && !mass { Weight::Verdict } else { Weight::Doubtful }
        })
    }

    fn with<T>(&self, look: impl FnOnce(&mut State) -> T) -> T {
        look(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl State {
    fn count(&mut self, now: Timestamp) {
        if now.since(self.minute) >= MINUTE {
            (self.minute, self.answers, self.refusals) = (now, 0, 0);
        }
        self.answers += 1;
    }
}

/// How long to wait after the given number of `failures` before: half a second, doubled each time, at most eight
/// seconds, and up to a quarter less by `jitter`, so that those who failed together do not return together.
pub fn backoff(failures: u32, jitter: u8) -> Duration {
    let full = Duration::from_millis(500 << failures.min(4));
    full - full * u32::from(jitter) / 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_secs(1_000 + seconds)
    }

    #[test]
    fn a_server_that_fails_is_left_alone_and_tried_one_at_a_time() {
        // O2-5.2-02
        let health = Health::default();
        for _ in 0..TOLERATED {
            assert_eq!(health.gate(at(0)), Gate::Open);
            health.failed(None, at(0));
        }
        assert!(matches!(health.gate(at(0)), Gate::Closed(_)));
        assert_eq!(health.gate(at(1)), Gate::Open);
        assert!(matches!(health.gate(at(1)), Gate::Closed(_)));
        health.succeeded(at(1));
        assert_eq!(health.gate(at(1)), Gate::Open);
    }

    #[test]
    fn a_server_that_asks_for_rest_gets_it() {
        let health = Health::default();
        health.failed(Some(Duration::from_secs(7)), at(0));
        assert_eq!(health.gate(at(0)), Gate::Closed(Duration::from_secs(7)));
        assert_eq!(health.gate(at(7)), Gate::Open);
        health.failed(Some(Duration::from_secs(9_999)), at(10));
        assert_eq!(health.gate(at(10)), Gate::Closed(Duration::from_secs(60)));
    }

    #[test]
    fn a_clock_that_is_set_back_keeps_no_gate_closed() {
        let health = Health::default();
        health.failed(Some(Duration::from_secs(7)), at(3_600));
        assert_eq!(health.gate(at(0)), Gate::Open);
    }

    #[test]
    fn rejected_credentials_are_probed_and_not_used() {
        let health = Health::default();
        health.rejected(at(0));
        assert!(matches!(health.gate(at(5)), Gate::Closed(_)));
        assert_eq!(health.gate(at(10)), Gate::Probe);
        assert!(matches!(health.gate(at(11)), Gate::Closed(_)));
        health.accepted();
        assert_eq!(health.gate(at(11)), Gate::Open);
    }

    #[test]
    fn a_refusal_counts_only_when_the_credentials_are_known_good_and_refusals_are_rare() {
        let health = Health::default();
        assert_eq!(health.refused(at(0)), Weight::Doubtful);
        health.accepted();
        assert_eq!(health.refused(at(1)), Weight::Verdict);
        for _ in 0..MASS {
            let _earlier = health.refused(at(2));
        }
        assert_eq!(health.refused(at(3)), Weight::Doubtful);
        // A minute later nothing of it is left.
        assert_eq!(health.refused(at(100)), Weight::Verdict);
        // Among many good answers a few refusals are what they say.
        for _ in 0..100 {
            health.succeeded(at(101));
        }
        for _ in 0..MASS {
            assert_eq!(health.refused(at(102)), Weight::Verdict);
        }
    }

    #[test]
    fn waiting_grows_and_stays_bounded() {
        assert_eq!(backoff(0, 0), Duration::from_millis(500));
        assert_eq!(backoff(2, 0), Duration::from_secs(2));
        assert_eq!(backoff(99, 0), Duration::from_secs(8));
        assert!(backoff(99, 255) > Duration::from_secs(6));
    }
}
