//! Routes with tokens of their own, from the one refresh token or in exchange for the access token of the session.

use std::time::Duration;

use http::Method;
use tokio::task::JoinSet;

use crate::issuer::act::Act;
use crate::issuer::{Document, Endpoint, Options};
use crate::support::browser::{Browser, Page};
use crate::support::site::{Plan, Site, TOKEN_SECONDS};

const ORDERS: &str = "https://orders.test/";
const BILLS: &str = "https://bills.test/";

const ROUTES: &str = r#"
    [[route]]
    path = "/orders/"
    upstream = "{api}"
    auth = "api"
    token = { resource = "https://orders.test/", scopes = ["orders:read"] }
    [[route]]
    path = "/bills/"
    upstream = "{api}"
    auth = "api"
    token = { resource = "https://bills.test/" }
    [[route]]
    path = "/reports/"
    upstream = "{api}"
    auth = "api"
    token = { audience = "reports", exchange = true }
    [[route]]
    path = "/plain/"
    upstream = "{api}"
    auth = "api"
    token = { send = false }
"#;

async fn site(session: &str) -> Site {
    let (session, more) = (session.to_owned(), ROUTES.to_owned());
    Site::planned(Plan { session, more, ..Plan::default() }).await
}

async fn call(site: &Site, browser: &Browser, path: &str) -> Page {
    browser.fetch(Method::GET, &site.at(path)).await
}

async fn assert_served(site: &Site, browser: &Browser, path: &str) {
    let page = call(site, browser, path).await;
    assert_eq!(page.status, 200, "{path}: {}", page.text());
}

/// What the token of the last call of the API was asked for.
fn target(site: &Site) -> String {
    let call = site.api.requests().pop().unwrap();
    let [token] = &call.values("authorization")[..] else { panic!("one token") };
    site.issuer.target(token.strip_prefix("Bearer ").unwrap()).unwrap()
}

/// The fields of the last request to the token endpoint that say what is wanted.
fn asked(site: &Site) -> Vec<(String, String)> {
    let form = site.issuer.script().requests_to(Endpoint::Token).pop().unwrap().form;
    let telling = |name: &str| ["grant_type", "resource", "audience", "scope"].contains(&name);
    form.iter().filter(|(name, _)| telling(name)).map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

const EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";

#[tokio::test]
async fn each_api_gets_a_token_of_its_own_when_it_is_first_called() {
    // BBA-9-01, RI-2.1-01, BCP-4.10-02
    for session in ["tokens = \"cookie\"", "tokens = \"ledger\""] {
        let site = site(session).await;
        let browser = Browser::new();
        let away = browser.navigate(&site.at("/bff/login")).await.location().unwrap();
        let query: Vec<_> = away.query_pairs().into_owned().collect();
        let resources: Vec<_> = query.iter().filter(|(name, _)| name == "resource").map(|(_, value)| value).collect();
        assert_eq!(resources, [ORDERS, BILLS], "a login asks for all that will be wanted");
        assert!(query.iter().any(|(name, value)| name == "scope" && value.ends_with(" orders:read")), "{query:?}");
        assert_eq!(browser.follow(away.as_str()).await.status, 200);
        let calls = || site.issuer.token_calls();
        assert_eq!(calls(), 1, "nothing is asked for before it is needed");

        assert_served(&site, &browser, "/api/orders").await;
        assert_eq!((target(&site).as_str(), calls()), ("", 1));

        assert_served(&site, &browser, "/orders/1").await;
        assert_eq!((target(&site).as_str(), calls()), (ORDERS, 2));
        let refresh = [("grant_type", "refresh_token"), ("resource", ORDERS), ("scope", "orders:read")];
        assert_eq!(asked(&site), pairs(&refresh));

        assert_served(&site, &browser, "/reports/1").await;
        assert_eq!((target(&site).as_str(), calls()), ("reports", 3));
        assert_eq!(asked(&site), pairs(&[("grant_type", EXCHANGE), ("audience", "reports")]));

        for (path, wanted) in [("/orders/2", ORDERS), ("/reports/2", "reports"), ("/api/2", "")] {
            assert_served(&site, &browser, path).await;
            assert_eq!((target(&site).as_str(), calls()), (wanted, 3), "{path}: it is kept");
        }
        call(&site, &browser, "/plain/1").await;
        assert_eq!(site.api.requests().pop().unwrap().values("authorization"), [""; 0]);
        assert_eq!((site.issuer.refreshes(), site.issuer.reuses()), (1, 0));
        for canary in site.issuer.canaries().iter().filter(|canary| !canary.starts_with("code-")) {
            assert_eq!(browser.received_contains(canary), None);
        }
    }
}

#[tokio::test]
async fn each_token_lives_its_own_life() {
    let site = site("").await;
    let browser = site.signed_in().await;
    site.issuer.set_access_token_ttl(Duration::from_secs(60));
    assert_served(&site, &browser, "/orders/1").await;
    site.issuer.set_access_token_ttl(Duration::from_secs(TOKEN_SECONDS));
    site.pass(61);
    assert_served(&site, &browser, "/api/1").await;
    assert_eq!(site.issuer.refreshes(), 1, "the session's own is good");
    assert_served(&site, &browser, "/orders/2").await;
    assert_eq!((site.issuer.refreshes(), target(&site).as_str()), (2, ORDERS), "it was over, and is there again");

    site.pass(TOKEN_SECONDS - 61);
    assert_served(&site, &browser, "/api/2").await;
    assert_eq!(asked(&site), pairs(&[("grant_type", "refresh_token")]));
    let refreshes = site.issuer.refreshes();
    assert_served(&site, &browser, "/orders/3").await;
    assert_eq!(site.issuer.refreshes(), refreshes, "it has not been touched");
    assert_eq!(site.issuer.reuses(), 0);
}

#[tokio::test]
async fn what_is_spent_is_refreshed_before_it_is_exchanged() {
    let site = site("").await;
    let browser = site.signed_in().await;
    site.pass(TOKEN_SECONDS + 1);
    assert_served(&site, &browser, "/reports/1").await;
    assert_eq!((site.issuer.token_calls(), site.issuer.refreshes()), (3, 1));
    assert_eq!(target(&site), "reports");
}

#[tokio::test(flavor = "multi_thread")]
async fn forty_calls_of_four_apis_at_once_spend_each_refresh_token_once() {
    // RI-2.1-01, BCP-4.14-02
    for session in ["tokens = \"cookie\"", "tokens = \"ledger\""] {
        let site = site(session).await;
        let browser = site.signed_in().await;
        for round in 1..=3 {
            // Everything is over, and all is called for at once.
            site.pass(TOKEN_SECONDS + 1);
            let mut calls = JoinSet::new();
            for path in ["/orders/", "/bills/", "/reports/", "/api/"].iter().cycle().take(40) {
                calls.spawn(browser.fetch(Method::GET, &site.at(path)).into_future());
            }
            let statuses: Vec<_> = calls.join_all().await.iter().map(|page| page.status).collect();
            assert_eq!(statuses, [200; 40], "round {round}");
            assert_eq!((site.issuer.refreshes(), site.issuer.reuses()), (3 * round, 0), "{session}, round {round}");
            assert_eq!(site.issuer.token_calls(), 1 + 4 * round, "and one exchange");
        }
    }
}

#[tokio::test]
async fn an_api_that_no_token_is_given_for_is_refused_alone_and_asked_for_again_after_a_minute() {
    // RI-2-02
    let cases = [
        ("/orders/", "invalid_target"),
        ("/orders/", "invalid_scope"),
        ("/reports/", "invalid_target"),
        ("/reports/", "invalid_grant"),
        ("/reports/", "unauthorized_client"),
        // As Keycloak says of an audience that it does not know.
        ("/reports/", "invalid_client"),
        // As Entra ID says where a consent is missing. It is asked once more for nothing in particular.
        ("/orders/", "invalid_grant"),
    ];
    for (path, error) in cases {
        let site = site("").await;
        let browser = site.signed_in().await;
        site.issuer.script().next(Endpoint::Token, Act::instead(400, format!("{{\"error\":\"{error}\"}}")));
        let asked = if (path, error) == ("/orders/", "invalid_grant") { 3 } else { 2 };
        for _ in 0..2 {
            let page = call(&site, &browser, path).await;
            assert_eq!((page.status, page.json()["type"].as_str()), (502, Some("urn:vestibule:problem:no-token")));
            assert_eq!(site.issuer.token_calls(), asked, "{path} {error}: it is not asked for again at once");
        }
        assert_served(&site, &browser, "/api/1").await;
        assert_served(&site, &browser, "/bills/1").await;
        site.pass(61);
        assert_served(&site, &browser, path).await;
        assert_eq!(site.issuer.reuses(), 0);
    }
}

#[tokio::test]
async fn a_refresh_token_that_is_refused_for_one_api_ends_the_session() {
    let site = site("").await;
    let browser = site.signed_in().await;
    assert_served(&site, &browser, "/api/1").await;
    site.issuer.revoke_all();
    let page = call(&site, &browser, "/orders/1").await;
    assert_eq!((page.status, page.json()["reason"].as_str()), (401, Some("refused")), "{}", page.text());
}

#[tokio::test]
async fn trouble_of_the_server_is_a_503_and_no_denial() {
    // What hides a rotation, perhaps, is not tried again while the session's own token can be used.
    for (path, status, rest) in [("/orders/1", 503, TOKEN_SECONDS), ("/orders/1", 429, 2), ("/reports/1", 503, 2)] {
        let site = site("").await;
        let browser = site.signed_in().await;
        let trouble = Act::instead(status, "{\"error\":\"temporarily_unavailable\"}");
        site.issuer.script().next(Endpoint::Token, trouble);
        let page = call(&site, &browser, path).await;
        assert_eq!(page.status, 503, "{path}: {}", page.text());
        assert!(page.header("retry-after").is_some());
        assert_served(&site, &browser, "/api/1").await;
        site.pass(rest);
        assert_served(&site, &browser, path).await;
        assert_eq!(site.issuer.reuses(), 0);
    }
}

#[tokio::test]
async fn an_exchange_that_fails_keeps_nobody_from_refreshing() {
    let site = site("").await;
    let (one, other) = (site.signed_in().await, site.signed_in().await);
    for _ in 0..8 {
        site.issuer.script().next(Endpoint::Token, Act::instead(500, "broken"));
        assert_eq!(call(&site, &one, "/reports/1").await.status, 503);
        site.pass(9);
    }
    assert_served(&site, &other, "/orders/1").await;
    site.pass(TOKEN_SECONDS);
    for browser in [&one, &other] {
        assert_served(&site, browser, "/api/1").await;
    }
    assert_eq!(site.issuer.reuses(), 0);
}

#[tokio::test]
async fn an_id_token_that_comes_with_an_exchange_is_nobodys_business() {
    let site = site("").await;
    let browser = site.signed_in().await;
    site.issuer.script().edit(Document::IdToken, |claims| drop(claims.insert("sub".to_owned(), "pairwise".into())));
    assert_served(&site, &browser, "/reports/1").await;
    assert_served(&site, &browser, "/api/1").await;
}

#[tokio::test]
async fn a_demand_for_scope_that_a_login_cannot_meet_is_passed_on() {
    // STEP-4-01
    let site = site("").await;
    let browser = site.signed_in().await;
    let demand = r#"Bearer error="insufficient_scope", scope="orders:write""#;
    for (path, kind) in
        [("/orders/1", None), ("/plain/1", None), ("/bills/1", Some("urn:vestibule:problem:insufficient-scope"))]
    {
        site.api.next(Act::instead(403, "{}").header("www-authenticate", demand));
        let page = call(&site, &browser, path).await;
        assert_eq!((page.status, page.json()["type"].as_str()), (403, kind), "{path}: {}", page.text());
    }
}

#[tokio::test]
async fn a_401_of_an_api_is_no_reason_to_repeat_a_call_because_another_api_has_got_a_token() {
    // BT-3.1-01
    let site = site("").await;
    let browser = site.signed_in().await;
    assert_served(&site, &browser, "/orders/1").await;
    let old = Browser::new();
    old.restore(browser.cookies());
    assert_served(&site, &browser, "/bills/1").await;
    site.api.next(Act::instead(401, "no"));
    let calls = site.api.calls();
    assert_eq!(call(&site, &old, "/orders/2").await.status, 401);
    assert_eq!(site.api.calls(), calls + 1);
}

#[tokio::test]
async fn a_logout_revokes_every_token_of_the_session() {
    // REV-2.1-01
    let (issuer, more) = (Options::default(), format!("{ROUTES}\n[logout]\norder = \"before\""));
    let site = Site::planned(Plan { issuer, more, ..Plan::default() }).await;
    let browser = site.signed_in().await;
    for path in ["/api/1", "/orders/1", "/bills/1", "/reports/1"] {
        assert_served(&site, &browser, path).await;
    }
    let tokens: Vec<_> = site.api.requests().iter().flat_map(|call| call.values("authorization")).collect();
    assert_eq!(tokens.len(), 4);
    let out = browser.fetch(Method::POST, &site.at("/bff/logout")).header("origin", &site.url).await;
    assert_eq!(out.status, 200, "{}", out.text());
    site.issuer.script().until_calls(Endpoint::Revoke, 5).await;
    let revoked: Vec<_> = site.issuer.script().requests_to(Endpoint::Revoke).into_iter().map(|it| it.form).collect();
    for token in tokens {
        let token = token.strip_prefix("Bearer ").unwrap();
        assert!(revoked.iter().any(|form| form.get("token") == Some(token)), "one of them is left");
    }
}
