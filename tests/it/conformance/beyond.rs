//! What the suite cannot see (CS-H-15): claims that it never bends, and what a login asked for.

use http::Method;
use serde_json::{Value, json};

use super::{accepted, ended, login, login_with, refused, replace, shown_to_userinfo, site, site_of};
use crate::issuer::act::Act;
use crate::issuer::options::Announce;
use crate::issuer::{Document, Endpoint, Options};
use crate::support::browser::Browser;
use crate::support::site::{Plan, Site};

fn now(site: &Site) -> u64 {
    vestibule::clock::Clock::now(&*site.clock).as_secs()
}

/// One claim, and what its value is made of: the present moment in seconds.
type Lie = (&'static str, fn(u64) -> Value);

#[tokio::test]
async fn an_id_token_with_one_wrong_claim_signs_nobody_in() {
    // OIDC-3.1.3.7-02, -03, -04, -08, -09, -10, -13, OIDC-3.1.3.8-01, OIDC-2-02
    let lies: [Lie; 24] = [
        ("iss", |_| json!(["http://127.0.0.1"])),
        ("aud", |_| json!([])),
        ("aud", |_| json!("")),
        ("aud", |_| json!(["another-client"])),
        ("aud", |_| json!({ "spa-bff": true })),
        ("azp", |_| json!("another-client")),
        ("azp", |_| json!(["spa-bff"])),
        ("exp", |now| json!(now - 61)),
        ("exp", |now| json!((now + 300).to_string())),
        ("exp", |_| json!(-1)),
        ("exp", |_| json!(0)),
        ("nbf", |now| json!(now + 120)),
        ("nbf", |_| json!("soon")),
        ("iat", |now| json!(now + 3600)),
        ("iat", |now| json!(now - 7 * 24 * 3600)),
        ("iat", |now| json!(now.to_string())),
        ("nonce", |_| json!("")),
        ("nonce", |_| json!(7)),
        ("sub", |_| json!("")),
        ("sub", |_| json!(7)),
        ("sub", |_| json!("a".repeat(300))),
        ("sub", |_| json!("ädä")),
        ("at_hash", |_| json!("AAAAAAAAAAAAAAAAAAAAAA")),
        ("at_hash", |_| json!(7)),
    ];
    let site = site().await;
    for (calls, (name, value)) in lies.into_iter().enumerate() {
        replace(&site.issuer, Document::IdToken, &[(name, value(now(&site)))]);
        let (browser, page) = login(&site).await;
        let value = value(now(&site));
        assert_eq!((page.status, page.url.path()), (502, "/bff/callback"), "{name}: {value}");
        assert!(browser.cookies().names("localhost").is_empty(), "{name}: {value}");
        assert_eq!((site.issuer.token_calls(), shown_to_userinfo(&site).len()), (calls + 1, 0), "{name}: {value}");
    }
    super::given_back(&site).await;
    site.issuer.script().restore(Document::IdToken);
    accepted(&site).await;
    site.stop().await;
}

#[tokio::test]
async fn an_id_token_that_is_unusual_but_right_signs_somebody_in() {
    // OIDC-3.1.3.7-03, -04, -08, OIDC-2-01, OIDC-3.1.3.8-01
    let truths: [Lie; 8] = [
        ("aud", |_| json!(["spa-bff"])),
        ("azp", |_| json!("spa-bff")),
        ("exp", |now| json!(now + 10 * 365 * 24 * 3600)),
        ("exp", |now| json!(now as f64 + 300.5)),
        ("nbf", |now| json!(now)),
        ("iat", |now| json!(now + 30)),
        ("at_hash", |_| Value::Null),
        ("unknown", |_| json!({ "deep": [1, { "er": null }] })),
    ];
    let site = site().await;
    for (name, value) in truths {
        replace(&site.issuer, Document::IdToken, &[(name, value(now(&site)))]);
        accepted(&site).await;
    }
    site.stop().await;
}

#[tokio::test]
async fn a_token_of_another_kind_is_no_id_token() {
    // OIDC-2-03, OIDC-2-01
    let headers = [
        ("typ", json!("at+jwt")),
        ("typ", json!("logout+jwt")),
        ("typ", json!("dpop+jwt")),
        ("typ", json!("oauth-authz-req+jwt")),
        ("typ", json!(7)),
        ("crit", json!(["x"])),
        ("alg", json!("none")),
        ("alg", json!("None")),
        ("alg", json!("HS256")),
        ("alg", json!("ES384")),
        ("alg", Value::Null),
        ("kid", json!("nobody's")),
        ("kid", json!(7)),
    ];
    let site = site().await;
    for (name, value) in headers {
        let shown = format!("{name}: {value}");
        replace(&site.issuer, Document::IdTokenHeader, &[(name, value)]);
        let (browser, page) = login(&site).await;
        assert_eq!((page.status, browser.cookies().names("localhost").len()), (502, 0), "{shown}");
    }
    assert_eq!(shown_to_userinfo(&site).len(), 0);
    super::given_back(&site).await;
    replace(&site.issuer, Document::IdTokenHeader, &[("typ", Value::Null)]);
    accepted(&site).await;
    site.stop().await;
}

#[tokio::test]
async fn a_key_that_the_token_brings_along_is_neither_fetched_nor_trusted() {
    // OIDC-2-01, ASVS-9.1.3
    let site = site().await;
    let url = format!("{}/keys", site.api.url());
    let key = site.issuer.rsa_key("RS256").unwrap();
    let brought = [("jku", json!(url)), ("x5u", json!(url)), ("jwk", key), ("kid", json!("nobody's"))];
    replace(&site.issuer, Document::IdTokenHeader, &brought);
    refused(&site).await;
    assert_eq!(site.api.calls(), 0, "nobody asks there for keys");
    site.stop().await;
}

#[tokio::test]
async fn a_login_with_max_age_needs_to_know_when_somebody_authenticated() {
    // OIDC-3.1.3.7-12
    let site = site().await;
    let ago = |seconds| json!(now(&site) - seconds);
    for (auth_time, fine) in
        [(ago(0), true), (ago(159), true), (ago(400), false), (Value::Null, false), (json!("x"), false)]
    {
        let shown = auth_time.to_string();
        replace(&site.issuer, Document::IdToken, &[("auth_time", auth_time)]);
        let (_, page) = login_with(&site, "?max_age=100").await;
        assert_eq!(page.status, if fine { 200 } else { 502 }, "{shown}: {}", page.text());
    }
    // Without max_age nobody asks for it.
    replace(&site.issuer, Document::IdToken, &[("auth_time", Value::Null)]);
    accepted(&site).await;
    let asked = site.issuer.script().requests_to(Endpoint::Authorize);
    assert_eq!(asked[0].query.get("max_age"), Some("100"));
    site.stop().await;
}

#[tokio::test]
async fn a_login_with_acr_values_is_held_to_them() {
    // OIDC-3.1.3.7-11
    let site = site().await;
    for (acr, fine) in [(json!("gold"), true), (json!("silver"), true), (json!("bronze"), false), (Value::Null, false)]
    {
        let shown = acr.to_string();
        replace(&site.issuer, Document::IdToken, &[("acr", acr)]);
        let (_, page) = login_with(&site, "?acr_values=gold%20silver").await;
        assert_eq!(page.status, if fine { 200 } else { 502 }, "{shown}: {}", page.text());
    }
    site.stop().await;
}

#[tokio::test]
async fn an_iss_that_was_not_announced_is_compared_all_the_same() {
    // ISS-2.4-01, CS-H-04
    let announce = Announce { issuer_parameter: false, ..Announce::default() };
    let site = site_of(Options { announce, ..Options::default() }, |_| {}).await;
    accepted(&site).await;
    replace(&site.issuer, Document::AuthorizationResponse, &[("iss", "https://another.example".into())]);
    let (_, page) = login(&site).await;
    assert_eq!((page.status, site.issuer.token_calls()), (502, 1), "{}", page.text());
    site.stop().await;
}

#[tokio::test]
async fn userinfo_that_speaks_of_nobody_or_cannot_be_had_fails_the_login() {
    // OIDC-5.3.2-01
    let acts = [
        Act::instead(200, "{}"),
        Act::instead(200, r#"{"name":"Ada"}"#),
        Act::instead(200, r#"{"sub":null}"#),
        Act::instead(200, r#"{"sub":"ADA"}"#),
        Act::instead(401, ""),
        Act::instead(403, "{}"),
        Act::instead(500, ""),
        Act::cut(),
    ];
    for act in acts {
        let site = site().await;
        site.issuer.script().next(Endpoint::Userinfo, act);
        let (browser, page) = login(&site).await;
        ended(&site, &browser, &page).await;
        assert_eq!(shown_to_userinfo(&site).len(), 1);
        site.stop().await;
    }
}

#[tokio::test]
async fn userinfo_cannot_say_what_only_the_id_token_can() {
    // OIDC-5.3.2-01
    let site = site().await;
    replace(&site.issuer, Document::IdToken, &[("acr", "low".into())]);
    let forged =
        [("acr", json!("high")), ("sid", json!("forged")), ("nonce", json!("n")), ("name", json!("Ada, newer"))];
    replace(&site.issuer, Document::Userinfo, &forged);
    let browser = accepted(&site).await;
    let user = browser.fetch(Method::GET, &site.at("/bff/user")).await;
    assert_eq!(user.json()["claims"]["name"], "Ada, newer");
    assert!(!user.text().contains("high") && !user.text().contains("forged"), "{}", user.text());
    site.stop().await;
}

#[tokio::test]
async fn without_the_setting_nobody_asks_the_userinfo_endpoint() {
    let site = Site::start().await;
    site.signed_in().await;
    assert_eq!(shown_to_userinfo(&site).len(), 0);
    site.stop().await;
}

#[tokio::test]
async fn an_issuer_without_the_endpoint_that_is_to_be_asked_signs_nobody_in() {
    let site = super::site_with(|issuer| {
        replace(issuer, Document::Metadata, &[("userinfo_endpoint", Value::Null)]);
    })
    .await;
    let (browser, page) = login(&site).await;
    ended(&site, &browser, &page).await;
    site.stop().await;
}

#[tokio::test]
async fn a_server_that_speaks_plain_oauth_opens_sessions_that_say_nothing_of_persons() {
    // OIDC-3.1.2.1-01, O2-10.16-01: no openid, no nonce that is asked for, no keys, no ID token; and one that comes all
    // the same is not looked at.
    let plan = Plan {
        client: "protocol = \"oauth\"\nscopes = [\"profile\"]".to_owned(),
        more: "[logout]\norder = \"before\"".to_owned(),
        before: Some(Box::new(|issuer| replace(issuer, Document::Metadata, &[("jwks_uri", Value::Null)]))),
        ..Plan::default()
    };
    let site = Site::planned(plan).await;
    replace(&site.issuer, Document::TokenResponse, &[("id_token", "not.even.one".into())]);
    let browser: Browser = site.signed_in().await;
    assert_eq!(site.call(&browser).await.status, 200);
    let user = browser.fetch(Method::GET, &site.at("/bff/user")).await.json();
    assert_eq!(user["claims"], json!({}));
    let asked = site.issuer.script().requests_to(Endpoint::Authorize).pop().unwrap();
    assert_eq!((asked.query.get("scope"), asked.query.get("nonce")), (Some("profile"), None));
    assert_eq!(site.issuer.script().calls(Endpoint::Jwks), 0);
    site.pass(crate::support::site::TOKEN_SECONDS);
    assert_eq!((site.call(&browser).await.status, site.issuer.refreshes()), (200, 1));
    let out = browser.submit(&site.at("/bff/logout"), &[]).await;
    assert!(!out.header("location").unwrap_or_default().contains("id_token_hint"), "{:?}", out.location());
    super::given_back(&site).await;
    site.stop().await;
}

#[tokio::test]
async fn metadata_without_keys_is_not_enough_for_openid_connect() {
    // DISC-3-01
    let site = super::site_with(|issuer| replace(issuer, Document::Metadata, &[("jwks_uri", Value::Null)])).await;
    super::stopped(&site, 503).await;
    assert_eq!(site.issuer.script().calls(Endpoint::Authorize), 0);
    site.stop().await;
}

#[tokio::test]
async fn an_api_that_refuses_a_call_causes_no_refresh() {
    // BT-3.1-02, STEP-6-01, ATJ-6-01: whatever it says of the token, its life is what the issuer said.
    let site = Site::start().await;
    let browser = site.signed_in().await;
    let challenges = [
        "Bearer error=\"insufficient_scope\", scope=\"more\"",
        "Bearer error=\"insufficient_user_authentication\", acr_values=\"gold\", max_age=\"1\"",
        "Bearer error=\"invalid_token\"",
        "Basic realm=\"other\"",
    ];
    for challenge in challenges {
        for status in [401, 403] {
            site.api.next(Act::instead(status, "no").header("www-authenticate", challenge));
            let page = site.call(&browser).await;
            // A demand that a login can meet becomes an answer that says where to go.
            let demand = challenge.contains("insufficient");
            assert_eq!(page.text() != "no", demand, "{challenge}");
            assert!([401, 403].contains(&page.status) && (demand || page.status == status), "{challenge}");
        }
    }
    assert_eq!((site.issuer.token_calls(), site.issuer.families_alive()), (1, 1));
    assert_eq!(site.call(&browser).await.status, 200);
    site.stop().await;
}

#[tokio::test]
async fn a_session_that_nobody_uses_asks_the_issuer_for_nothing() {
    // BCP-4.14-06: a refresh keeps a session alive at the issuer, and looking is not using.
    let plan = Plan { session: "idle = \"12h\"".to_owned(), ..Plan::default() };
    let site = Site::planned(plan).await;
    let browser = site.signed_in().await;
    for _ in 0..5 {
        site.pass(crate::support::site::TOKEN_SECONDS);
        assert_eq!(browser.fetch(Method::GET, &site.at("/bff/session")).await.status, 200);
        assert_eq!(browser.fetch(Method::GET, &site.at("/bff/user")).await.status, 200);
    }
    assert_eq!(site.issuer.token_calls(), 1);
    assert_eq!((site.call(&browser).await.status, site.issuer.refreshes()), (200, 1));
    site.stop().await;
}
