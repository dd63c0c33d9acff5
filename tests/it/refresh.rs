//! Refreshing, as a browser sees it: it does not.

use std::time::Duration;

use http::Method;
use tokio::time::{sleep, timeout};

use crate::issuer::act::{Act, Hold};
use crate::issuer::{Endpoint, Options, Rotation};
use crate::support::browser::{Browser, Page};
use crate::support::site::{Plan, Site, TOKEN_SECONDS};
use crate::support::{PATIENCE, beside};

/// So many calls of one browser at once.
async fn burst(site: &Site, browser: &Browser, number: usize) -> Vec<Page> {
    let calls: Vec<_> = (0..number)
        .map(|_| {
            let request = browser.fetch(Method::GET, &site.at("/api/orders"));
            beside(request)
        })
        .collect();
    let mut pages = Vec::new();
    for call in calls {
        pages.push(call.await.unwrap());
    }
    pages
}

async fn generation(site: &Site, browser: &Browser) -> u64 {
    browser.fetch(Method::GET, &site.at("/bff/session")).await.json()["generation"].as_u64().unwrap()
}

#[tokio::test]
async fn twenty_calls_after_expiry_make_one_refresh_and_all_succeed() {
    // BCP-4.14-02, BBA-6.1-10, O2-6-02
    let site = Site::start().await;
    let browser = site.signed_in().await;
    for round in 1..=5 {
        site.pass(TOKEN_SECONDS);
        let pages = burst(&site, &browser, 20).await;
        assert!(
            pages.iter().all(|page| page.status == 200),
            "{:?}",
            pages.iter().map(|it| it.status).collect::<Vec<_>>()
        );
        assert_eq!(site.issuer.refreshes(), round);
        assert_eq!(generation(&site, &browser).await, round as u64 + 1);
    }
    assert_eq!((site.issuer.reuses(), site.issuer.families_alive()), (0, 1));
    assert_eq!(site.api.calls(), 100);
}

#[tokio::test]
async fn a_token_that_is_still_good_is_used_while_its_successor_is_fetched_beside() {
    // BBA-6.1-11: waiting is rare.
    let site = Site::start().await;
    let browser = site.signed_in().await;
    site.pass(TOKEN_SECONDS - 30);
    let hold = Hold::default();
    site.issuer.script().next(Endpoint::Token, Act::usual().wait_first(&hold));
    assert_eq!(site.call(&browser).await.status, 200);
    hold.arrived().await;
    assert!(burst(&site, &browser, 5).await.iter().all(|page| page.status == 200));
    hold.release();
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while generation(&site, &browser).await == 1 {
        assert!(tokio::time::Instant::now() < deadline);
        tokio::task::yield_now().await;
    }
    let next = site.call(&browser).await;
    assert_eq!((next.status, next.set_cookies().len()), (200, 1));
    assert_eq!(site.issuer.refreshes(), 1);
    let bearers: std::collections::BTreeSet<_> =
        site.api.requests().iter().filter_map(|request| request.bearer().map(str::to_owned)).collect();
    assert_eq!(bearers.len(), 2);
}

#[tokio::test]
async fn nothing_is_set_when_nothing_changed() {
    let site = Site::start().await;
    let browser = site.signed_in().await;
    for _ in 0..3 {
        assert!(site.call(&browser).await.set_cookies().is_empty());
    }
    assert_eq!(site.issuer.token_calls(), 1);
}

#[tokio::test]
async fn a_browser_that_hangs_up_during_the_refresh_loses_nothing() {
    // BCP-4.14-03
    let site = Site::start().await;
    let browser = site.signed_in().await;
    site.pass(TOKEN_SECONDS);
    let hold = Hold::default();
    site.issuer.script().next(Endpoint::Token, Act::usual().wait_first(&hold));
    let request = browser.fetch(Method::GET, &site.at("/api/orders"));
    let call = beside(request);
    hold.arrived().await;
    call.abort();
    hold.release();
    assert_eq!(site.call(&browser).await.status, 200);
    assert_eq!((site.issuer.refreshes(), site.issuer.reuses()), (1, 0));
}

#[tokio::test]
async fn a_lost_answer_leaves_the_old_cookie_good() {
    // BCP-4.14-04, CK-22
    let site = Site::start().await;
    let browser = site.signed_in().await;
    let old = browser.cookies();
    site.pass(TOKEN_SECONDS);
    assert_eq!(site.call(&browser).await.set_cookies().len(), 1);
    let newer = browser.cookies();
    for wait in [0, 3, 30] {
        // The answer with the newer cookie never arrived, or an older one arrived after it.
        browser.restore(old.clone());
        site.pass(wait);
        let page = site.call(&browser).await;
        assert_eq!((page.status, page.set_cookies().len()), (200, 1), "{}", page.text());
    }
    browser.restore(newer);
    assert_eq!(site.call(&browser).await.status, 200);
    assert_eq!((site.issuer.refreshes(), site.issuer.reuses()), (1, 0));
}

#[tokio::test]
async fn a_cookie_older_than_a_settled_one_is_a_replay_and_ends_the_session() {
    // CRY-07
    let site = Site::start().await;
    let browser = site.signed_in().await;
    let stolen = browser.cookies();
    site.pass(TOKEN_SECONDS);
    assert_eq!(site.call(&browser).await.status, 200);
    // The newer cookie is presented, and again a minute later: the older one has no business any more.
    let deadline = tokio::time::Instant::now() + PATIENCE;
    let thief = Browser::new();
    loop {
        site.pass(61);
        assert_eq!(site.call(&browser).await.status, 200);
        thief.restore(stolen.clone());
        let replayed = site.call(&thief).await;
        if replayed.status == 401 {
            assert_eq!(replayed.json()["reason"], "replayed");
            break;
        }
        assert!(tokio::time::Instant::now() < deadline, "the newer generation was never settled");
    }
    let owner = site.call(&browser).await;
    assert_eq!((owner.status, owner.json()["reason"].as_str()), (401, Some("replayed")));
    // Revoked on sight: the newest token was with the browser alone.
    timeout(PATIENCE, site.issuer.script().until_calls(Endpoint::Revoke, 1)).await.unwrap();
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while site.issuer.families_alive() > 0 {
        assert!(tokio::time::Instant::now() < deadline);
        tokio::task::yield_now().await;
    }
    assert_eq!(site.issuer.reuses(), 0);
}

#[tokio::test]
async fn the_rotated_cookie_arrives_although_the_upstream_is_down() {
    // BCP-4.14-03, CK-19
    let site = Site::start().await;
    let browser = site.signed_in().await;
    site.pass(TOKEN_SECONDS);
    site.api.pause().await;
    let failed = site.call(&browser).await;
    assert_eq!((failed.status, failed.set_cookies().len()), (502, 1), "{}", failed.text());
    assert_eq!(failed.header("content-type"), Some("application/problem+json"));
    assert!(failed.header("cache-control").unwrap().contains("no-store"));
    site.api.resume().await.unwrap();
    assert_eq!(generation(&site, &browser).await, 2);
    assert_eq!(site.call(&browser).await.status, 200);
    assert_eq!((site.issuer.refreshes(), site.issuer.reuses()), (1, 0));
}

#[tokio::test]
async fn an_issuer_that_is_down_costs_nothing_while_the_token_is_good_and_503_afterwards() {
    // O2-5.2-01, ASVS-16.5.2
    let site = Site::start().await;
    let browser = site.signed_in().await;
    site.issuer.pause().await;
    site.pass(TOKEN_SECONDS - 30);
    assert_eq!(site.call(&browser).await.status, 200);
    site.pass(30);
    let down = site.call(&browser).await;
    assert_eq!(down.status, 503, "{}", down.text());
    let wait: u64 = down.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=60).contains(&wait), "{wait}");
    assert!(down.set_cookies().is_empty());
    site.issuer.resume().await.unwrap();
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        site.pass(5);
        let page = site.call(&browser).await;
        if page.status == 200 {
            break;
        }
        assert_eq!(page.status, 503, "{}", page.text());
        assert!(tokio::time::Instant::now() < deadline, "the session did not go on");
    }
    assert_eq!((site.issuer.reuses(), site.issuer.families_alive()), (0, 1));
}

#[tokio::test]
async fn temporary_trouble_at_the_token_endpoint_ends_no_session() {
    // O2-5.2-01
    for (status, body) in [
        (500, "<html>oops</html>"),
        (503, "{}"),
        (429, "{}"),
        (408, ""),
        (401, r#"{"error":"invalid_client"}"#),
        (403, ""),
        (400, ""),
        (404, "NotFound"),
        (200, "<html>login</html>"),
        (302, ""),
    ] {
        let site = Site::start().await;
        let browser = site.signed_in().await;
        site.pass(TOKEN_SECONDS);
        site.issuer.script().next(Endpoint::Token, Act::instead(status, body));
        let refused = site.call(&browser).await;
        assert_eq!((refused.status, refused.set_cookies().len()), (503, 0), "{status}");
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            site.pass(20);
            let page = site.call(&browser).await;
            if page.status == 200 {
                break;
            }
            assert_eq!(page.status, 503, "{status}: {}", page.text());
            assert!(tokio::time::Instant::now() < deadline, "{status}: the session did not go on");
        }
        assert_eq!(site.issuer.reuses(), 0, "{status}");
    }
}

#[tokio::test]
async fn a_token_that_expires_on_its_way_costs_no_401() {
    // BT-3.1-01
    let site = Site::start().await;
    let browser = site.signed_in().await;
    site.pass(TOKEN_SECONDS - 20);
    let (refresh, api) = (Hold::default(), Hold::default());
    site.issuer.script().next(Endpoint::Token, Act::usual().wait_first(&refresh));
    site.api.next(Act::usual().wait_first(&api));
    let mut call = beside(browser.fetch(Method::GET, &site.at("/api/orders")));
    refresh.arrived().await;
    api.arrived().await;
    // It left with a good token, whose successor is on its way.
    site.pass(20);
    api.release();
    assert!(timeout(Duration::from_millis(300), &mut call).await.is_err(), "it waits for the successor");
    refresh.release();
    assert_eq!(call.await.unwrap().status, 200);
    assert_eq!((site.issuer.refreshes(), site.issuer.reuses(), site.api.calls()), (1, 0, 2));
    // A good token that the API does not take is no reason to ask for another.
    let calls = site.issuer.token_calls();
    site.api.next(Act::instead(401, "no"));
    assert_eq!(site.call(&browser).await.status, 401);
    assert_eq!(site.issuer.token_calls(), calls);
}

#[tokio::test]
async fn a_dead_refresh_token_ends_the_session_once_and_without_a_storm() {
    // BBA-6.1-13, BCP-4.14-05
    let site = Site::start().await;
    let browser = site.signed_in().await;
    site.issuer.revoke_all();
    site.pass(TOKEN_SECONDS);
    let calls = site.issuer.token_calls();
    let pages = burst(&site, &browser, 10).await;
    assert!(pages.iter().all(|page| page.status == 401 && page.json()["reason"] == "refused"));
    assert_eq!(site.issuer.token_calls(), calls + 1);
    assert_eq!(site.call(&browser).await.status, 401);
    assert_eq!(site.issuer.token_calls(), calls + 1);
    // A minute later no newer cookie can be on its way, and the old one is tidied away.
    site.pass(61);
    assert!(site.call(&browser).await.set_cookies()[0].contains("Max-Age=0"));
}

#[tokio::test]
async fn refresh_tokens_that_do_not_rotate_are_kept() {
    // O2-6-02, FAPI-5.3.3.1-06
    let options = Options { rotation: Rotation::Never, ..Options::default() };
    let site = Site::planned(Plan { issuer: options, ..Plan::default() }).await;
    let browser = site.signed_in().await;
    for round in 1..=5 {
        site.pass(TOKEN_SECONDS);
        assert!(burst(&site, &browser, 5).await.iter().all(|page| page.status == 200));
        assert_eq!(site.issuer.refreshes(), round);
    }
}

#[tokio::test]
async fn slow_refreshes_are_waited_for_and_then_given_up_without_harm() {
    let site = Site::planned(Plan { refresh: "wait = 1".to_owned(), ..Plan::default() }).await;
    let browser = site.signed_in().await;
    site.pass(TOKEN_SECONDS);
    let hold = Hold::default();
    site.issuer.script().next(Endpoint::Token, Act::usual().wait_first(&hold));
    let given_up = site.call(&browser).await;
    assert_eq!((given_up.status, given_up.header("retry-after")), (503, Some("1")));
    // The flight goes on, and whoever comes next finds what it brought.
    hold.release();
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while site.call(&browser).await.status != 200 {
        assert!(tokio::time::Instant::now() < deadline);
    }
    assert_eq!((site.issuer.refreshes(), site.issuer.reuses()), (1, 0));
}

#[tokio::test]
async fn a_refreshed_id_token_of_somebody_else_ends_the_session() {
    // OIDC-12.2-02, CS-RT-03
    let site = Site::start().await;
    let browser = site.signed_in().await;
    site.issuer.script().edit(crate::issuer::Document::IdToken, |claims| {
        claims.insert("sub".to_owned(), "mallory".into());
    });
    site.pass(TOKEN_SECONDS);
    let calls = site.api.calls();
    assert_eq!(site.call(&browser).await.status, 401);
    assert_eq!(site.api.calls(), calls, "the new access token is not used");
}

#[tokio::test]
async fn idle_and_absolute_limits_hold_and_looking_is_not_using() {
    // ASVS-7.3, BCP-4.14-07
    let plan = Plan { session: "idle = 600\nabsolute = 3600".to_owned(), ..Plan::default() };
    let site = Site::planned(plan).await;
    let browser = site.signed_in().await;
    for _ in 0..5 {
        site.pass(500);
        assert_eq!(site.call(&browser).await.status, 200, "used, so it goes on");
    }
    site.pass(400);
    assert_eq!(browser.fetch(Method::GET, &site.at("/bff/session")).await.status, 200);
    site.pass(250);
    let idle = site.call(&browser).await;
    assert_eq!((idle.status, idle.json()["reason"].as_str()), (401, Some("idle")));

    let busy = site.signed_in().await;
    for _ in 0..7 {
        site.pass(500);
        assert_eq!(site.call(&busy).await.status, 200);
    }
    site.pass(101);
    let over = site.call(&busy).await;
    assert_eq!((over.status, over.json()["reason"].as_str()), (401, Some("expired")));
}

#[tokio::test]
async fn a_session_without_a_refresh_token_ends_with_its_access_token() {
    let site = Site::start().await;
    site.issuer.script().edit(crate::issuer::Document::TokenResponse, |answer| {
        answer.remove("refresh_token");
    });
    let browser = site.signed_in().await;
    assert_eq!(site.call(&browser).await.status, 200);
    site.pass(TOKEN_SECONDS);
    let over = site.call(&browser).await;
    assert_eq!((over.status, over.json()["reason"].as_str()), (401, Some("expired")));
}

#[tokio::test]
async fn a_refresh_that_takes_time_beside_the_request_holds_nobody_up() {
    let site = Site::start().await;
    let browser = site.signed_in().await;
    site.pass(TOKEN_SECONDS - 30);
    let hold = Hold::default();
    site.issuer.script().next(Endpoint::Token, Act::usual().wait_first(&hold));
    for _ in 0..10 {
        assert_eq!(site.call(&browser).await.status, 200);
    }
    hold.arrived().await;
    assert_eq!(site.issuer.refreshes(), 0);
    hold.release();
    sleep(Duration::ZERO).await;
}
