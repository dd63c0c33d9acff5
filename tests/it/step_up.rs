//! An API that demands a stronger login, or more scope.

use http::Method;
use serde_json::json;

use crate::issuer::act::Act;
use crate::issuer::{Document, Endpoint, Login, User};
use crate::support::browser::{Browser, Page};
use crate::support::site::{Plan, Site};

const STRONGER: &str = r#"Bearer error="insufficient_user_authentication", acr_values="gold", max_age="300""#;

/// The answer of an API that refuses once, with this challenge.
async fn refused(site: &Site, browser: &Browser, status: u16, challenge: &str) -> Page {
    site.api.next(Act::instead(status, "not yet").header("www-authenticate", challenge));
    site.call(browser).await
}

/// Every login from now on is of this class.
fn log_in_as(site: &Site, acr: &'static str) {
    let clock = std::sync::Arc::clone(&site.clock);
    site.issuer.script().edit(Document::IdToken, move |claims| {
        claims.insert("acr".to_owned(), json!(acr));
        claims.insert("auth_time".to_owned(), json!(vestibule::clock::Clock::now(&*clock).as_secs()));
    });
}

#[tokio::test]
async fn a_demand_for_a_stronger_login_says_where_to_go_and_the_session_keeps_both_levels() {
    // STEP-4-01, STEP-6-01, STEP-R-02
    let site = Site::start().await;
    log_in_as(&site, "silver");
    let browser = site.signed_in().await;
    let before = browser.cookies();
    let calls = site.issuer.token_calls();

    let page = refused(&site, &browser, 401, STRONGER).await;
    let body = page.json();
    assert_eq!((page.status, body["type"].as_str()), (401, Some("urn:vestibule:problem:step-up")));
    assert_eq!((body["acr_values"].as_str(), body["max_age"].as_u64()), (Some("gold"), Some(300)));
    assert!(body.get("reason").is_none(), "the session has not ended: {body}");
    assert!(!page.header("www-authenticate").unwrap().contains("Bearer"));
    assert_eq!(site.issuer.token_calls(), calls, "no refresh would help");
    assert_eq!(site.call(&browser).await.status, 200, "the session goes on as it is");

    site.pass(100);
    log_in_as(&site, "gold");
    let login = format!("{}&return_to=/", body["login"].as_str().unwrap());
    let away = browser.navigate(&site.at(&login)).await.location().unwrap();
    let asked: Vec<_> = away.query_pairs().filter(|(name, _)| name == "acr_values" || name == "max_age").collect();
    assert_eq!(asked, [("max_age".into(), "300".into()), ("acr_values".into(), "gold".into())]);
    assert_eq!(browser.follow(away.as_str()).await.status, 200);
    let user = browser.fetch(Method::GET, &site.at("/bff/user")).await.json();
    assert_eq!(user["levels"], json!([{ "acr": "gold", "age": 0 }, { "acr": "silver", "age": 100 }]));

    let copy = Browser::new();
    copy.restore(before);
    assert_eq!(site.call(&copy).await.json()["reason"], "replaced");
}

#[tokio::test]
async fn a_login_that_does_not_reach_the_level_ends_on_a_page() {
    // STEP-5-01
    let site = Site::start().await;
    log_in_as(&site, "silver");
    let browser = site.signed_in().await;
    let body = refused(&site, &browser, 401, STRONGER).await.json();
    let page = browser.follow(&site.at(body["login"].as_str().unwrap())).await;
    assert_eq!(page.status, 502, "{}", page.text());
    assert_eq!(site.call(&browser).await.status, 200, "the earlier session goes on");
    let away = browser.navigate(&site.at(body["login"].as_str().unwrap())).await.location().unwrap();
    let state = away.query_pairs().find(|(name, _)| name == "state").unwrap().1;
    let refused = [("error", "unmet_authentication_requirements"), ("state", &state), ("iss", site.issuer.url())];
    let callback = url::Url::parse_with_params(&site.at("/bff/callback"), refused).unwrap();
    let page = browser.navigate(callback.as_str()).await;
    assert_eq!(page.status, 403);
    assert!(page.text().contains("unmet_authentication_requirements"), "{}", page.text());
    assert_eq!(site.call(&browser).await.status, 200);
}

#[tokio::test]
async fn another_person_inherits_no_level() {
    let site = Site::start().await;
    log_in_as(&site, "gold");
    let browser = site.signed_in().await;
    log_in_as(&site, "silver");
    site.issuer.set_login(Login::Automatic(User::Grace));
    browser.follow(&site.at("/bff/login?prompt=login")).await;
    let user = browser.fetch(Method::GET, &site.at("/bff/user")).await.json();
    assert_eq!(user["levels"], json!([{ "acr": "silver", "age": 0 }]));
}

#[tokio::test]
async fn more_scope_is_asked_for_only_by_the_session_that_an_api_demanded_it_of() {
    // BT-3.1-02, STEP-R-01
    let site = Site::start().await;
    let browser = site.signed_in().await;
    let challenge = r#"Bearer error="insufficient_scope", scope="orders:write""#;
    let page = refused(&site, &browser, 403, challenge).await;
    let body = page.json();
    assert_eq!((page.status, body["type"].as_str()), (403, Some("urn:vestibule:problem:insufficient-scope")));
    assert_eq!(body["scope"], "orders:write");
    let login = site.at(body["login"].as_str().unwrap());
    let scope = |page: &Page| {
        let away = page.location().unwrap();
        away.query_pairs().find(|(name, _)| name == "scope").unwrap().1.into_owned()
    };
    assert!(scope(&browser.navigate(&login).await).ends_with(" orders:write"));
    for (other, login) in [
        (Browser::new(), login.clone()),
        (site.signed_in().await, login.clone()),
        (browser, site.at("/bff/login?scope=orders:write&demand=orders:write")),
    ] {
        assert!(!scope(&other.navigate(&login).await).contains("orders"), "{login}");
    }
}

#[tokio::test]
async fn a_person_on_a_page_gets_a_page_with_the_way_onward() {
    let plan = Plan {
        more: "[[route]]\npath = \"/app/\"\nupstream = \"{api}\"\nauth = \"page\"".to_owned(),
        ..Plan::default()
    };
    let site = Site::planned(plan).await;
    let browser = site.signed_in().await;
    site.api.next(Act::instead(401, "").header("www-authenticate", STRONGER));
    let page = browser.navigate(&site.at("/app/orders?x=1")).await;
    assert_eq!(page.status, 401);
    let link = "/bff/login?acr_values=gold&amp;max_age=300&amp;return_to=%2Fapp%2Forders%3Fx%3D1";
    assert!(page.text().contains(link), "{}", page.text());
    // Without a demand an answer is passed on as it is.
    site.api.next(Act::instead(403, "no").header("www-authenticate", "Bearer error=\"invalid_token\""));
    let page = site.call(&browser).await;
    assert_eq!((page.status, page.text().as_str()), (403, "no"));
    assert_eq!(site.issuer.script().calls(Endpoint::Token), 1);
}
