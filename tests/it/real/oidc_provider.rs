//! Against `oidc-provider`: refresh tokens are good once, a second use kills the grant without grace, access tokens live
//! for seconds, and the API asks the server itself which of them are good.

mod client_auth;
mod dpop;
mod logout;
pub(super) mod site;

use std::time::Duration;

use http::Method;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use self::site::{BURST, RealSite};
use crate::support::op::{Options, Rotation};
use crate::support::{PATIENCE, is_one_refresh, plain_client};

/// So many times the token expires and everybody calls. The token endpoint takes `delay`.
async fn rounds(site: &RealSite, number: u32, delay: Duration) {
    site.provider.delay(u64::try_from(delay.as_millis()).unwrap(), 0).await;
    let browser = site.signed_in().await;
    for round in 1..=number {
        site.until_expired(&browser).await;
        let (before, since) = (site.refreshes().await, Instant::now() + delay);
        assert_eq!(site.burst(&browser).await, [200; BURST], "round {round}");
        let refreshes = site.refreshes().await - before;
        assert!(is_one_refresh(refreshes, since, site.lifetime()), "round {round}: {refreshes}");
    }
    site.until_generation_counts_refreshes(&browser).await;
    site.assert_unharmed(&browser).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs node and oidc-provider: run ./tests/run"]
async fn two_hundred_calls_over_ten_expiries_all_succeed_with_ten_refreshes() {
    // BCP-4.14-02, BBA-6.1-10, O2-6-02
    rounds(&RealSite::start().await, 10, Duration::ZERO).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs node and oidc-provider: run ./tests/run"]
async fn a_slow_token_endpoint_is_waited_for_and_asked_once() {
    // BCP-4.14-02
    let delayed = async |milliseconds| {
        rounds(&RealSite::start().await, 3, Duration::from_millis(milliseconds)).await;
    };
    tokio::join!(delayed(100), delayed(2_500), delayed(6_000));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs node and oidc-provider: run ./tests/run"]
async fn refresh_tokens_that_stay_the_same_are_used_again() {
    // O2-6-02, FAPI-5.3.3.1-06
    let site = RealSite::with(|options| options.rotation = Rotation::Never).await;
    rounds(&site, 3, Duration::ZERO).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs node and oidc-provider: run ./tests/run"]
async fn a_browser_that_hangs_up_during_a_refresh_stays_signed_in() {
    // BCP-4.14-03
    let site = RealSite::start().await;
    let browser = site.signed_in().await;
    site.provider.delay(150, 150).await;
    for round in 1..=3 {
        site.until_expired(&browser).await;
        let (before, since) = (site.refreshes().await, Instant::now());
        let call = browser.fetch(Method::GET, &site.at("/api/orders"));
        assert!(timeout(Duration::from_millis(100), call.open()).await.is_err(), "the refresh takes longer");
        assert_eq!(site.burst(&browser).await, [200; BURST], "round {round}");
        let refreshes = site.refreshes().await - before;
        assert!(is_one_refresh(refreshes, since, site.lifetime()), "round {round}: {refreshes}");
    }
    site.assert_unharmed(&browser).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs node and oidc-provider: run ./tests/run"]
async fn a_refreshing_answer_that_is_lost_leaves_the_old_cookie_good() {
    // BCP-4.14-04, CK-22
    // Long enough that within the three seconds nothing becomes due again, on a machine that keeps up.
    let site = RealSite::with(|options| options.access_token_seconds = 8).await;
    let browser = site.signed_in().await;
    for round in 1..=2 {
        let old = browser.cookies();
        site.until_expired(&browser).await;
        let (before, since) = (site.refreshes().await, Instant::now());
        site.recorder.cut(1);
        assert!(browser.fetch(Method::GET, &site.at("/api/orders")).open().await.is_err(), "the answer is lost");
        let lost = Instant::now();
        for wait in [200, 3_000] {
            browser.restore(old.clone());
            sleep_until(lost + Duration::from_millis(wait)).await;
            let page = browser.fetch(Method::GET, &site.at("/api/orders")).await;
            assert_eq!((page.status, page.set_cookies().len()), (200, 1), "after {wait} ms: {}", page.text());
        }
        let refreshes = site.refreshes().await - before;
        assert!(is_one_refresh(refreshes, since, site.lifetime()), "round {round}: {refreshes}");
    }
    site.assert_unharmed(&browser).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs node and oidc-provider: run ./tests/run"]
async fn an_outage_is_not_noticed_while_the_token_is_good_and_is_no_end_afterwards() {
    // O2-5.2-01, ASVS-16.5.2
    let site = RealSite::start().await;
    let browser = site.signed_in().await;
    assert_eq!(site.burst(&browser).await, [200; BURST]);
    site.provider.down().await;
    assert_eq!(site.burst(&browser).await, [200; BURST]);

    site.until_expired(&browser).await;
    let down = browser.fetch(Method::GET, &site.at("/api/orders")).await;
    assert_eq!(down.status, 503, "{}", down.text());
    let wait: u64 = down.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=60).contains(&wait), "{wait}");
    assert!(down.set_cookies().is_empty());

    site.provider.up().await;
    let back = async {
        loop {
            let page = browser.fetch(Method::GET, &site.at("/api/orders")).await;
            if page.status == 200 {
                break;
            }
            assert_eq!(page.status, 503, "{}", page.text());
            let wait: u64 = page.header("retry-after").unwrap().parse().unwrap();
            sleep(Duration::from_secs(wait)).await;
        }
    };
    timeout(PATIENCE, back).await.unwrap();
    site.until_generation_counts_refreshes(&browser).await;
    site.assert_unharmed(&browser).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs node and oidc-provider: run ./tests/run"]
async fn a_logout_ends_the_session_here_and_there() {
    // BBA-6.1-15, REV-2.1-01, RIL-2-01, RIL-2-04
    let site = RealSite::start().await;
    let browser = site.signed_in().await;
    site.until_expired(&browser).await;
    assert_eq!(site.burst(&browser).await, [200; BURST]);
    let copy = crate::support::browser::Browser::new();
    copy.restore(browser.cookies());
    let tokens = site.provider.issued().await;
    assert!(any_active(&site, &tokens).await, "somebody is signed in");
    site.assert_unharmed(&browser).await;

    let out = browser.fetch(Method::POST, &site.at("/bff/logout")).await;
    assert_eq!(out.status, 200, "{}", out.text());
    let redirect = out.json()["redirect"].as_str().unwrap().to_owned();
    let end = browser.follow(&redirect).await;
    let at_the_issuer = format!("{}/session/end?", site.provider.issuer());
    assert!(end.visited.iter().any(|url| url.as_str().starts_with(&at_the_issuer)), "{:?}", end.visited);
    assert_eq!((end.status, end.url.as_str()), (200, site.at("/").as_str()), "{}", end.text());

    assert!(!any_active(&site, &tokens).await, "neither an access token nor a refresh token outlives the logout");
    let calls = site.api.tokens().len();
    let replayed = copy.fetch(Method::GET, &site.at("/api/orders")).await;
    assert_eq!((replayed.status, replayed.json()["reason"].as_str()), (401, Some("logout")));
    assert_eq!(copy.fetch(Method::GET, &site.at("/bff/user")).await.status, 401);
    assert_eq!(site.api.tokens().len(), calls, "the API is not asked");
    let stats = site.provider.stats().await;
    assert_eq!((stats.reuse_detected, stats.refusals.len()), (0, 0), "{stats:?}");
}

/// Whether the server would still take one of these tokens, be it for access or for refreshing (RFC 7662).
async fn any_active(site: &RealSite, tokens: &[String]) -> bool {
    let Options { client_id, client_secret, .. } = &site.options;
    let part = |text: &str| url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
    let pair = base64_simd::STANDARD.encode_to_string(format!("{}:{}", part(client_id), part(client_secret)));
    // ID tokens have dots; nobody takes one for anything but a hint.
    for token in tokens.iter().filter(|token| !token.contains('.')) {
        let response = plain_client()
            .post(format!("{}/token/introspection", site.provider.issuer()))
            .header("authorization", format!("Basic {pair}"))
            .header("content-type", "application/x-www-form-urlencoded")
            .body(format!("token={}", part(token)))
            .send()
            .await
            .unwrap();
        let answer: serde_json::Value = serde_json::from_str(&response.text().await.unwrap()).unwrap();
        if answer["active"].as_bool().unwrap_or_else(|| panic!("{answer}")) {
            return true;
        }
    }
    false
}
