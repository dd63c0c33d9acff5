//! What the issuer has ended is over here too: every copy of the cookie, wherever the tokens lie.

use http::Method;

use crate::issuer::Endpoint;
use crate::issuer::act::{Act, Hold};
use crate::support::browser::{Browser, Page};
use crate::support::site::{Plan, Site, TOKEN_SECONDS};
use crate::support::{PATIENCE, beside};

async fn sites() -> [Site; 2] {
    let place = |tokens: &str| Plan { session: format!("tokens = \"{tokens}\""), ..Plan::default() };
    let sites = [Site::planned(place("cookie")).await, Site::planned(place("ledger")).await];
    for site in &sites {
        site.issuer.register_backchannel_logout(&site.at("/bff/backchannel-logout"));
    }
    sites
}

/// The issuer tells that this is over; its answer is 200.
async fn over(site: &Site, sub: Option<&str>, sid: Option<&str>) {
    let token = site.issuer.sign("logout+jwt", &site.issuer.logout_claims(sub, sid)).unwrap();
    assert_eq!(site.issuer.tell(&token).await.unwrap().status, 200);
}

fn outcome(page: &Page) -> (u16, Option<String>) {
    let reason = (page.status == 401).then(|| page.json()["reason"].as_str().unwrap_or_default().to_owned());
    (page.status, reason)
}

fn issuer_logout() -> (u16, Option<String>) {
    (401, Some("issuer_logout".to_owned()))
}

#[tokio::test]
async fn a_logout_token_with_a_sid_ends_that_session_and_no_other() {
    // BCL-2.7-01, BCL-2.7-02
    for site in sites().await {
        let (first, copy) = (site.signed_in().await, Browser::new());
        copy.restore(first.cookies());
        let sid = site.issuer.newest_sid().unwrap();
        let other = site.signed_in().await;
        over(&site, Some("ada"), Some(&sid)).await;
        for browser in [&first, &copy] {
            assert_eq!(outcome(&site.call(browser).await), issuer_logout());
            assert_eq!(outcome(&browser.fetch(Method::GET, &site.at("/bff/user")).await), issuer_logout());
        }
        assert_eq!(site.call(&other).await.status, 200);
        // Its tokens are revoked when it is met; those of the other live.
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while site.issuer.families_alive() > 1 {
            assert!(tokio::time::Instant::now() < deadline, "the tokens of the ended session live on");
            tokio::task::yield_now().await;
        }
        site.stop().await;
    }
}

#[tokio::test]
async fn a_logout_token_with_a_sub_alone_ends_all_sessions_of_that_person_but_none_that_begins_later() {
    // BCL-2.7-02
    for site in sites().await {
        let browsers = [site.signed_in().await, site.signed_in().await];
        assert_eq!(site.call(&browsers[0]).await.status, 200);
        over(&site, Some("grace"), None).await;
        assert_eq!(site.call(&browsers[0]).await.status, 200);
        over(&site, Some("ada"), None).await;
        for browser in &browsers {
            assert_eq!(outcome(&site.call(browser).await), issuer_logout());
        }
        site.pass(1);
        let later = site.signed_in().await;
        assert_eq!(site.call(&later).await.status, 200);
        site.stop().await;
    }
}

#[tokio::test]
async fn a_logout_that_arrives_during_a_refresh_wins_and_what_lands_late_is_revoked() {
    // BCL-2.7-04, REV-R-01
    for site in sites().await {
        let browser = site.signed_in().await;
        site.pass(TOKEN_SECONDS);
        let hold = Hold::default();
        site.issuer.script().next(Endpoint::Token, Act::usual().wait_first(&hold));
        let call = beside(browser.fetch(Method::GET, &site.at("/api/orders")));
        hold.arrived().await;
        over(&site, None, Some(&site.issuer.newest_sid().unwrap())).await;
        hold.release();
        assert_eq!(outcome(&call.await.unwrap()), issuer_logout());
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while site.issuer.families_alive() > 0 {
            assert!(tokio::time::Instant::now() < deadline, "the tokens that landed late live on");
            tokio::task::yield_now().await;
        }
        assert_eq!((site.issuer.refreshes(), site.issuer.reuses()), (1, 0));
        site.stop().await;
    }
}
