//! The deterministic simulation: the real gateway, broker and ledger, in virtual time, against a browser that keeps its
//! cookies last write wins, an authorization server of strict rotation and reuse detection, and a store that fails.
//!
//! `VESTIBULE_SEED=7` replays one schedule, `VESTIBULE_SCHEDULES=100000` runs more of them.

#[cfg(test)]
mod browser;
#[cfg(test)]
mod chance;
#[cfg(test)]
mod issuer;
#[cfg(test)]
mod store;
#[cfg(test)]
mod world;

#[cfg(test)]
mod tests {
    use super::world::{Faults, World};

    /// So many schedules run by default, per kind of trouble.
    const SCHEDULES: u64 = 400;

    fn schedules() -> Vec<u64> {
        let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
        match number("VESTIBULE_SEED") {
            Some(seed) => vec![seed],
            None => (0..number("VESTIBULE_SCHEDULES").unwrap_or(SCHEDULES)).collect(),
        }
    }

    fn run(faults: Faults) {
        if std::env::var("VESTIBULE_SEED").is_ok() {
            // One story is worth reading.
            tracing_subscriber::fmt()
                .with_writer(std::io::stderr)
                .without_time()
                .with_max_level(tracing::Level::DEBUG)
                .try_init()
                .ok();
        }
        for seed in schedules() {
            World::live(seed, faults);
        }
    }

    #[test]
    fn a_browser_that_aborts_and_loses_answers_stays_signed_in() {
        run(Faults { browser: true, ..Faults::default() });
    }

    #[test]
    fn an_authorization_server_that_is_slow_or_down_ends_no_session() {
        run(Faults { browser: true, issuer: true, ..Faults::default() });
    }

    #[test]
    fn a_store_that_fails_before_or_after_writing_ends_no_session() {
        run(Faults { browser: true, issuer: true, store: true, ..Faults::default() });
    }

    #[test]
    fn a_logout_beside_running_requests_and_refreshes_is_final() {
        run(Faults { browser: true, issuer: true, logout: true, ..Faults::default() });
    }

    #[test]
    fn one_seed_is_one_story() {
        let faults = Faults { browser: true, issuer: true, store: true, ..Faults::default() };
        assert_eq!(World::live(42, faults), World::live(42, faults));
    }
}
