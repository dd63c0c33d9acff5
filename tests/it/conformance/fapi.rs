//! The modules of `fapi2-security-profile-final-client-test-plan` with `private_key_jwt` that say something about a client
//! without DPoP. Success is a call of the API with the new token. The client is held to the profile, and lodges its logins
//! at a server that demands it.
//!
//! With `fapi_client_type=plain_oauth` there are no ID tokens, and the modules about them do not apply; the rest is played
//! for both kinds of client, the other in [`plain`].

mod plain;

use http::Method;
use serde_json::{Map, Value, json};

use super::{accepted, refused, replace, sign_with_rsa, stopped};
use crate::issuer::options::Announce;
use crate::issuer::{Document, Endpoint, Issuer, Options, Proof, Pushed, Received};
use crate::support::authority::{Issued, key};
use crate::support::browser::{Browser, Initiator, Page};
use crate::support::plain_client;
use crate::support::site::{Plan, Site, TOKEN_SECONDS};

/// A site whose client is held to FAPI 2.0, with an issuer that `before` has prepared.
async fn site_with(before: impl FnOnce(&Issuer) + Send + 'static) -> Site {
    site_of("userinfo = true", before).await
}

async fn site() -> Site {
    site_with(|_| {}).await
}

async fn site_of(client: &str, before: impl FnOnce(&Issuer) + Send + 'static) -> Site {
    let Issued { certificate, key: certificate_key } = Issued::by_itself("spa-bff");
    let announce = Announce { pushed: Pushed::Required, bound_tokens: true, ..Announce::default() };
    let site = Site::planned(Plan {
        issuer: Options { proof: Proof::Assertion, announce, ..Options::default() },
        credentials: "security_profile = \"fapi2\"\n\
                      client_auth = \"private_key_jwt\"\nclient_keys = [{ file = \"client-key.pem\" }]\n\
                      mtls = { certificate = \"client.pem\", key = { file = \"client.key\" } }"
            .to_owned(),
        beside: vec![
            ("client-key.pem".to_owned(), key(&rcgen::PKCS_ECDSA_P256_SHA256)),
            ("client.pem".to_owned(), certificate),
            ("client.key".to_owned(), certificate_key),
        ],
        client: client.to_owned(),
        session: "same_site = \"strict\"".to_owned(),
        more: "[[route]]\npath = \"/page/\"\nupstream = \"{api}\"\nauth = \"page\"".to_owned(),
        before: Some(Box::new(before)),
        ..Plan::default()
    })
    .await;
    let published = plain_client().get(site.at("/bff/jwks.json")).send().await.unwrap().text().await.unwrap();
    site.issuer.register_client_keys(&serde_json::from_str(&published).unwrap());
    site
}

/// An issuer whose ID tokens say this instead is not believed.
async fn claim_refused(name: &'static str, value: Value) {
    let site = site().await;
    replace(&site.issuer, Document::IdToken, &[(name, value)]);
    refused(&site).await;
    site.stop().await;
}

fn now(site: &Site) -> u64 {
    vestibule::clock::Clock::now(&*site.clock).as_secs()
}

fn names(page: &Page) -> Vec<String> {
    page.location().unwrap().query_pairs().map(|(name, _)| name.into_owned()).collect()
}

/// Header and claims of the assertion in a form.
fn assertion(request: &Received) -> [Value; 2] {
    let token = request.form.get("client_assertion").expect("is asserted");
    let part = |index: usize| {
        let text = token.split('.').nth(index).unwrap();
        serde_json::from_slice(&base64_simd::URL_SAFE_NO_PAD.decode_to_vec(text).unwrap()).unwrap()
    };
    [part(0), part(1)]
}

/// What the suite looks at in the course of the happy path.
fn is_conformant(site: &Site) {
    let script = site.issuer.script();
    for asked in script.requests_to(Endpoint::Authorize) {
        // CS-FH-01
        let names: Vec<&str> = asked.query.iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["client_id", "request_uri"]);
    }
    let (pushed, tokens) = (script.requests_to(Endpoint::Push), script.requests_to(Endpoint::Token));
    assert!(!pushed.is_empty() && !tokens.is_empty());
    let mut ids = std::collections::BTreeSet::new();
    for request in pushed.iter().chain(&tokens) {
        // CS-FH-02, CS-FH-07
        let [header, claims] = assertion(request);
        assert_eq!((&header["alg"], &claims["aud"]), (&json!("ES256"), &json!(site.issuer.url())));
        let lifetime = claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap();
        assert!(lifetime <= 60, "{lifetime}");
        assert!(ids.insert(claims["jti"].as_str().unwrap().to_owned()), "no assertion is used twice");
    }
    for lodged in &pushed {
        assert_eq!(lodged.form.get("code_challenge_method"), Some("S256"));
        assert!(lodged.form.get("nonce").is_none_or(|nonce| nonce.len() <= 64));
        assert_eq!(lodged.form.get("request_uri"), None);
    }
}

#[tokio::test]
async fn fapi2_client_test_happy_path() {
    // CS-F-01 but for DPoP, CS-FH-01, CS-FH-02, CS-FH-07
    let site = site().await;
    accepted(&site).await;
    is_conformant(&site);
    let calls = site.issuer.script().requests();
    let way: Vec<Endpoint> = calls.iter().map(|it| it.endpoint).filter(|it| *it != Endpoint::Discovery).collect();
    let at = |endpoint| way.iter().position(|it| *it == endpoint).unwrap();
    assert!(at(Endpoint::Push) < at(Endpoint::Authorize) && at(Endpoint::Authorize) < at(Endpoint::Token));
    assert!(site.api.requests().iter().all(|request| request.bearer().is_some()), "the token is in the header");
    site.stop().await;
}

#[tokio::test]
async fn fapi2_client_refresh_token_test() {
    // CS-F-24 in part, FAPI-5.3.3.1-06: two refreshes, the first with a new refresh token. What makes them due here is the
    // tokens' age, and not an API that refuses them.
    let site = site().await;
    let browser = accepted(&site).await;
    let mut bearers = vec![site.api.requests().pop().unwrap().bearer().unwrap().to_owned()];
    for round in 1..=2 {
        site.pass(TOKEN_SECONDS);
        assert_eq!((site.call(&browser).await.status, site.issuer.refreshes()), (200, round));
        bearers.push(site.api.requests().pop().unwrap().bearer().unwrap().to_owned());
    }
    bearers.dedup();
    assert_eq!((bearers.len(), site.issuer.reuses()), (3, 0));
    is_conformant(&site);
    site.stop().await;
}

#[tokio::test]
async fn every_login_has_a_request_uri_of_its_own_and_none_is_tried_again() {
    // PAR-4-01, CS-FH-01
    let site = site().await;
    for _ in 0..2 {
        let away = Browser::new().navigate(&site.at("/bff/login")).await;
        assert_eq!(names(&away), ["client_id", "request_uri"]);
        assert_eq!(Browser::new().follow(away.location().unwrap().as_str()).await.url.path(), "/bff/callback");
        // What the server has forgotten it says itself; nothing leads the browser in a circle.
        assert_eq!(Browser::new().navigate(away.location().unwrap().as_str()).await.status, 400);
    }
    assert_eq!(site.issuer.script().calls(Endpoint::Push), 2);
    site.stop().await;
}

#[tokio::test]
async fn a_login_that_another_site_leads_to_starts_by_the_persons_click() {
    // FAPI-5.3.3.1-12, TPI-4-04
    let site = site().await;
    let start = site.at("/bff/login?return_to=/orders&login_hint=ada");
    for initiator in [Initiator::CrossSite, Initiator::SameSite] {
        let browser = Browser::new();
        let page = browser.navigate(&start).started_by(initiator).await;
        assert_eq!((page.status, page.location(), page.set_cookies().len()), (200, None, 0), "{}", page.text());
        let link = "<a href=\"/bff/login?return_to=/orders&amp;login_hint=ada\">Sign in</a>";
        assert!(page.text().contains(link), "{}", page.text());
        // It goes on by nothing but a click.
        assert!(!page.text().contains("http-equiv") && !page.text().contains("<script"), "{}", page.text());
        let policy = page.header("content-security-policy").unwrap();
        assert!(policy.contains("frame-ancestors 'none'"), "{policy}");
        let seen = site.issuer.script().requests();
        assert!(seen.iter().all(|it| matches!(it.endpoint, Endpoint::Discovery | Endpoint::Jwks)), "{seen:?}");
    }
    // The click, an address that is typed or bookmarked, and a browser that does not say.
    let typed = || Browser::new().navigate(&start);
    let ways = [typed().started_by(Initiator::SameOrigin), typed(), typed().without("sec-fetch-site")];
    for (number, request) in ways.into_iter().enumerate() {
        let away = request.await;
        assert_eq!(names(&away), ["client_id", "request_uri"]);
        assert_eq!(site.issuer.script().calls(Endpoint::Push), number + 1);
    }
    // Scripts and frames get what they get without the profile.
    let framed = Browser::new().fetch(Method::GET, &start).started_by(Initiator::CrossSite).await;
    assert_eq!(framed.status, 400, "{}", framed.text());
    site.stop().await;
}

#[tokio::test]
async fn no_way_around_by_our_own_pages_starts_a_login_without_a_click() {
    // FAPI-5.3.3.1-12
    let site = site().await;
    let browser = Browser::new();
    let callback = site.at("/bff/callback?state=a0&code=x");
    let bounce = browser.navigate(&callback).started_by(Initiator::CrossSite).await;
    let resumed = browser.navigate(&site.at("/bff/callback?resume=0")).started_by(Initiator::SameOrigin).await;
    let page = browser.navigate(&site.at("/page/1")).started_by(Initiator::CrossSite).await;
    assert!(bounce.text().contains("resume=0"), "{}", bounce.text());
    for asking in [resumed, page] {
        assert_eq!((asking.status, asking.location(), asking.set_cookies().len()), (200, None, 0), "{}", asking.text());
        assert!(asking.text().contains(">Sign in</a>"), "{}", asking.text());
        assert!(!asking.text().contains("http-equiv"), "{}", asking.text());
    }
    assert_eq!(site.issuer.script().calls(Endpoint::Push), 0);
    site.stop().await;
}

#[tokio::test]
async fn an_issuer_that_cannot_be_held_to_fapi_is_named_with_what_it_lacks() {
    // FAPI-5.3.3.1-01, FAPI-5.3.3.2-02, FAPI-5.4.1-01
    let lacking: [fn(&mut Map<String, Value>); 3] = [
        |metadata| drop(metadata.remove("pushed_authorization_request_endpoint")),
        |metadata| drop(metadata.remove("tls_client_certificate_bound_access_tokens")),
        |metadata| drop(metadata.insert("id_token_signing_alg_values_supported".to_owned(), json!(["RS256"]))),
    ];
    for lack in lacking {
        let site = site_with(move |issuer| issuer.script().edit(Document::Metadata, lack)).await;
        assert_eq!(Browser::new().navigate(&site.at("/bff/login")).await.status, 503);
        site.stop().await;
    }
}

#[tokio::test]
async fn without_the_profile_a_link_of_another_site_starts_a_login() {
    // TPI-4-04
    let site = Site::start().await;
    let away = Browser::new().navigate(&site.at("/bff/login")).started_by(Initiator::CrossSite).await;
    assert!(away.location().is_some(), "{}", away.text());
    site.stop().await;
}

#[tokio::test]
async fn a_client_held_to_fapi_refuses_rs256_from_a_server_that_announces_it() {
    // FAPI-5.4.1-01
    let site = site_with(|issuer| {
        sign_with_rsa(issuer, "RS256");
        let announced = ("id_token_signing_alg_values_supported", json!(["RS256", "ES256"]));
        replace(issuer, Document::Metadata, &[announced]);
    });
    let site = site.await;
    refused(&site).await;
    site.stop().await;
}

#[tokio::test]
async fn a_missing_iss_is_a_failure_where_it_was_never_announced() {
    // FAPI-5.3.2.2-I, CS-F-16
    let site = site_with(|issuer| {
        let announced = "authorization_response_iss_parameter_supported";
        replace(issuer, Document::Metadata, &[(announced, Value::Null)]);
        replace(issuer, Document::AuthorizationResponse, &[("iss", Value::Null)]);
    })
    .await;
    stopped(&site, 502).await;
    site.stop().await;
}

#[tokio::test]
async fn a_server_without_a_place_to_lodge_logins_gets_none() {
    // FAPI-5.3.3.2-02
    let site = site_with(|issuer| {
        let members = ["pushed_authorization_request_endpoint", "require_pushed_authorization_requests"];
        replace(issuer, Document::Metadata, &members.map(|name| (name, Value::Null)));
    })
    .await;
    stopped(&site, 503).await;
    assert_eq!(site.issuer.script().calls(Endpoint::Authorize), 0);
    site.stop().await;
}

#[tokio::test]
async fn fapi2_client_test_discovery_issuer_mismatch() {
    // CS-F-02, FAPI-5.3.3.1-11
    let site = site_with(|issuer| {
        replace(issuer, Document::Metadata, &[("issuer", format!("{}/", issuer.url()).into())]);
    })
    .await;
    stopped(&site, 503).await;
    let script = site.issuer.script();
    assert_eq!((script.calls(Endpoint::Push), script.calls(Endpoint::Authorize)), (0, 0));
    site.stop().await;
}

#[tokio::test]
async fn fapi2_client_test_invalid_iss() {
    // CS-F-03
    claim_refused("iss", json!("https://another.example/")).await;
}

#[tokio::test]
async fn fapi2_client_test_invalid_aud() {
    // CS-F-04
    claim_refused("aud", json!("another-client")).await;
}

#[tokio::test]
async fn fapi2_client_test_invalid_secondary_aud() {
    // CS-F-05, OIDC-3.1.3.7-03
    claim_refused("aud", json!(["spa-bff", "another-client"])).await;
}

#[tokio::test]
async fn fapi2_client_test_invalid_null_alg() {
    // CS-F-06, FAPI-5.4.1-01
    let site = site().await;
    replace(&site.issuer, Document::IdTokenHeader, &[("alg", "none".into())]);
    refused(&site).await;
    site.stop().await;
}

#[tokio::test]
async fn fapi2_client_test_invalid_alternate_alg() {
    // CS-F-07, FAPI-5.4.1-01: RS256 with a published key, at a server that announces PS256.
    let site = site_with(|issuer| {
        sign_with_rsa(issuer, "PS256");
        let key = issuer.rsa_key("RS256").unwrap();
        issuer.script().edit(Document::Keys, move |set| set["keys"].as_array_mut().unwrap().push(key.clone()));
        replace(issuer, Document::IdTokenHeader, &[("alg", "RS256".into()), ("kid", "rsa".into())]);
    })
    .await;
    refused(&site).await;
    site.stop().await;
}

#[tokio::test]
async fn fapi2_client_test_happy_path_ps256() {
    // CS-F-01 in part, CS-FH-06: the other side of the module before, with decoys of the same name.
    let site = site_with(|issuer| {
        sign_with_rsa(issuer, "PS256");
        let key = issuer.rsa_key("PS256").unwrap();
        issuer.script().edit(Document::Keys, move |set| {
            let keys = set["keys"].as_array_mut().unwrap();
            let mut decoy = keys[0].clone();
            decoy["kid"] = "rsa".into();
            let mut encryption = key.clone();
            encryption["use"] = "enc".into();
            keys.extend([decoy, encryption, key.clone()]);
        });
    })
    .await;
    accepted(&site).await;
    site.stop().await;
}

#[tokio::test]
async fn fapi2_client_test_invalid_expired_exp() {
    // CS-F-08, OIDC-3.1.3.7-08: more than five minutes ago.
    let site = site().await;
    let past = now(&site) - 301;
    replace(&site.issuer, Document::IdToken, &[("exp", past.into())]);
    refused(&site).await;
    site.stop().await;
}

#[tokio::test]
async fn fapi2_client_test_invalid_missing_exp() {
    // CS-F-09, OIDC-3.1.3.7-08
    claim_refused("exp", Value::Null).await;
}

#[tokio::test]
async fn fapi2_client_test_invalid_missing_aud() {
    // CS-F-10
    claim_refused("aud", Value::Null).await;
}

#[tokio::test]
async fn fapi2_client_test_invalid_missing_iss() {
    // CS-F-11
    claim_refused("iss", Value::Null).await;
}

#[tokio::test]
async fn fapi2_client_test_valid_aud_as_array() {
    // CS-F-12, OIDC-3.1.3.7-03
    let site = site().await;
    replace(&site.issuer, Document::IdToken, &[("aud", json!(["spa-bff"]))]);
    accepted(&site).await;
    site.stop().await;
}

#[tokio::test]
async fn fapi2_client_test_invalid_nonce() {
    // CS-F-13
    claim_refused("nonce", json!("another")).await;
}

#[tokio::test]
async fn fapi2_client_test_invalid_missing_nonce() {
    // CS-F-14, OIDC-3.1.3.7-10
    claim_refused("nonce", Value::Null).await;
}

/// An authorization response that says this instead makes no call of the token endpoint.
async fn response_refused(site: Site, name: &'static str, value: Value, status: u16) {
    replace(&site.issuer, Document::AuthorizationResponse, &[(name, value)]);
    let page = stopped(&site, status).await;
    assert!(!page.text().contains("took too long"), "{name}: nobody was slow: {}", page.text());
    site.stop().await;
}

#[tokio::test]
async fn fapi2_client_test_invalid_authorization_response_iss() {
    // CS-F-15, ISS-2.4-01, FAPI-5.3.3.2-05
    response_refused(site().await, "iss", json!("https://another.example"), 502).await;
}

#[tokio::test]
async fn fapi2_client_test_remove_authorization_response_iss() {
    // CS-F-16, ISS-2.4-03
    response_refused(site().await, "iss", Value::Null, 502).await;
}

#[tokio::test]
async fn fapi2_client_test_ensure_authorization_response_with_invalid_state_fails() {
    // CS-F-17: it belongs to no login of this browser, which is led on without any call.
    let site = site().await;
    site.issuer.script().edit(Document::AuthorizationResponse, |answer| {
        let altered = format!("{}x", answer["state"].as_str().unwrap());
        answer.insert("state".to_owned(), altered.into());
    });
    let page = stopped(&site, 200).await;
    assert!(page.text().contains("/bff/callback?resume="), "{}", page.text());
    site.stop().await;
}

#[tokio::test]
async fn fapi2_client_test_ensure_authorization_response_with_invalid_missing_state_fails() {
    // CS-F-18
    response_refused(site().await, "state", Value::Null, 400).await;
}

#[tokio::test]
async fn fapi2_client_test_token_endpoint_response_without_expires_in() {
    // CS-F-19, O2-5.1-02
    let site = site().await;
    replace(&site.issuer, Document::TokenResponse, &[("expires_in", Value::Null)]);
    accepted(&site).await;
    site.stop().await;
}

#[tokio::test]
async fn fapi2_client_test_token_type_case_insensitivity() {
    // CS-F-20, O2-7.1-01
    let site = site().await;
    replace(&site.issuer, Document::TokenResponse, &[("token_type", "bEARER".into())]);
    accepted(&site).await;
    site.stop().await;
}
