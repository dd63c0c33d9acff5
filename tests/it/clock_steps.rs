//! The wall clock is set, in either direction: a step, in which no time passes. Nobody who is using the app notices.

use std::time::Duration;

use crate::support::PATIENCE;
use crate::support::browser::Browser;
use crate::support::site::{Plan, Site, TOKEN_SECONDS};
use vestibule::clock::Clock;

const HOUR: Duration = Duration::from_secs(60 * 60);

/// The clock is set; the issuer, whose clock is another, sees it step too, which only makes it stricter.
fn step_forward(site: &Site) {
    site.clock.set(site.clock.now() + HOUR);
}

fn step_back(site: &Site) {
    site.clock.set(site.clock.now() - HOUR);
}

async fn goes_on(site: &Site, browser: &Browser) {
    let page = site.call(browser).await;
    assert_eq!(page.status, 200, "{}", page.text());
}

/// Calls until one more refresh has happened, which may be beside a call.
async fn until_refreshed(site: &Site, browser: &Browser, number: usize) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while site.issuer.refreshes() < number {
        goes_on(site, browser).await;
        assert!(tokio::time::Instant::now() < deadline, "{} refreshes", site.issuer.refreshes());
    }
}

#[tokio::test]
async fn sessions_in_use_outlive_a_clock_that_steps_by_an_hour_either_way() {
    // The idle limit is an hour, so that by the clock alone they were idle for longer.
    for session in ["tokens = \"cookie\"", "tokens = \"ledger\""] {
        for steps in [[step_forward, step_back], [step_back, step_forward]] {
            let site = Site::planned(Plan { session: session.to_owned(), ..Plan::default() }).await;
            let browser = site.signed_in().await;
            goes_on(&site, &browser).await;
            let mut refreshes = 0;
            for step in steps {
                site.pass(60);
                goes_on(&site, &browser).await;
                step(&site);
                goes_on(&site, &browser).await;
                for _ in 0..3 {
                    site.pass(TOKEN_SECONDS);
                    refreshes = site.issuer.refreshes() + 1;
                    until_refreshed(&site, &browser, refreshes).await;
                }
            }
            goes_on(&site, &browser).await;
            assert!(refreshes >= 6, "{refreshes}");
            assert_eq!((site.issuer.reuses(), site.issuer.families_alive()), (0, 1), "{session}");
            site.stop().await;
        }
    }
}
