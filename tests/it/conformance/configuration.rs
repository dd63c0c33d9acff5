//! Plan `oidcc-client-config-certification-test-plan`, profile "Config RP": 6 modules, of which
//! `oidcc_client_test_idtoken_sig_none` is one of the Basic plan too.

use std::net::TcpListener;
use std::sync::Arc;

use vestibule::clock::SystemClock;

use super::{accepted, login, replace, site, site_with, stopped};
use crate::issuer::{Document, Endpoint, Issuer, Options};
use crate::support::browser::{Browser, Initiator};
use crate::support::site::{Ground, Texts};

#[tokio::test]
async fn oidcc_client_test_discovery_openid_config() {
    // CS-C-01, CS-D-03, CS-H-03, DISC-4.1-01: the suite's issuer ends in a slash, and it is compared letter by letter.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://localhost:{}", listener.local_addr().unwrap().port());
    let redirect_uris = vec![format!("{url}/bff/callback")];
    let issuer = Issuer::start(Options { redirect_uris, ..Options::default() }).await.unwrap();
    let identifier = format!("{}/", issuer.url());
    replace(&issuer, Document::Metadata, &[("issuer", identifier.as_str().into())]);
    replace(&issuer, Document::IdToken, &[("iss", identifier.as_str().into())]);
    replace(&issuer, Document::AuthorizationResponse, &[("iss", identifier.as_str().into())]);
    crate::support::plain_client();
    let ground = Ground {
        listener,
        url: &url,
        issuer: &identifier,
        client_id: "spa-bff",
        client_secret: "canary-s3cret:%+& ü/=",
        api: "http://127.0.0.1:9",
        files: "dist",
        clock: Arc::new(SystemClock::default()),
    };
    let vestibule = ground.build(&Texts { client: "userinfo = true", ..Texts::default() }).await;
    let page = Browser::new().follow(&format!("{url}/bff/login")).await;
    assert_eq!((page.status, page.url.as_str()), (200, format!("{url}/").as_str()), "{}", page.text());
    let asked = issuer.script().calls(Endpoint::Discovery);
    assert!(asked >= 1, "it is asked where a slash is taken off");
    assert_eq!(issuer.script().calls(Endpoint::Userinfo), 1);
    vestibule.stop().await;
}

#[tokio::test]
async fn oidcc_client_test_discovery_jwks_uri_keys() {
    // CS-C-02, CS-D-04: the address is different every time, and is asked as it is.
    let run = base64_simd::URL_SAFE_NO_PAD.encode_to_string(std::process::id().to_string());
    let jwks_query = run.clone();
    let site = site_with(move |issuer| {
        let uri = format!("{}/jwks?run={jwks_query}", issuer.url());
        replace(issuer, Document::Metadata, &[("jwks_uri", uri.into())]);
    })
    .await;
    accepted(&site).await;
    let asked = site.issuer.script().requests_to(Endpoint::Jwks);
    assert!(!asked.is_empty() && asked.iter().all(|request| request.query.get("run") == Some(run.as_str())));
    site.stop().await;
}

#[tokio::test]
async fn oidcc_client_test_discovery_issuer_mismatch() {
    // CS-C-03, CS-D-05, DISC-4.3-01
    let site = site_with(|issuer| {
        replace(issuer, Document::Metadata, &[("issuer", format!("{}x", issuer.url()).into())]);
    })
    .await;
    stopped(&site, 503).await;
    assert_eq!(site.issuer.script().calls(Endpoint::Authorize), 0);
    assert!(site.issuer.script().calls(Endpoint::Discovery) > 0);
    site.stop().await;
}

#[tokio::test]
async fn oidcc_client_test_signing_key_rotation_just_before_signing() {
    // CS-C-05, CS-D-10, OIDC-10.1.1-01
    let site = site().await;
    site.issuer.script().until_calls(Endpoint::Jwks, 1).await;
    let browser = Browser::new();
    let away = browser.navigate(&site.at("/bff/login")).await;
    let back = browser.navigate(away.location().unwrap().as_str()).await;
    // The known keys are those of before.
    site.issuer.rotate_keys().unwrap();
    let home = browser.navigate(back.location().unwrap().as_str()).started_by(Initiator::CrossSite).await;
    assert_eq!((home.status, home.header("location")), (303, Some("/")), "{}", home.text());
    assert_eq!(site.call(&browser).await.status, 200);
    assert!(site.issuer.script().calls(Endpoint::Jwks) >= 2);
    site.stop().await;
}

#[tokio::test]
async fn oidcc_client_test_signing_key_rotation() {
    // CS-C-06, CS-D-11, CS-H-09, OIDC-10.1.1-01
    let site = site().await;
    // The keys of the start are on their way before anybody needs them.
    site.issuer.script().until_calls(Endpoint::Jwks, 1).await;
    accepted(&site).await;
    let fetched = site.issuer.script().calls(Endpoint::Jwks);
    site.issuer.rotate_keys().unwrap();
    accepted(&site).await;
    assert_eq!(site.issuer.script().calls(Endpoint::Jwks), fetched + 1, "the keys are fetched once more");
    accepted(&site).await;
    assert_eq!(site.issuer.script().calls(Endpoint::Jwks), fetched + 1, "and then they are known");
    site.stop().await;
}

#[tokio::test]
async fn a_flood_of_unknown_keys_makes_few_requests_for_keys() {
    // OIDC-10.1.1-01
    let site = site().await;
    accepted(&site).await;
    let (fetched, before) = (site.issuer.script().calls(Endpoint::Jwks), tokio::time::Instant::now());
    replace(&site.issuer, Document::IdTokenHeader, &[("kid", "nobody's".into())]);
    for _ in 0..12 {
        assert_eq!(login(&site).await.1.status, 502);
    }
    // One a second at most, however slow this machine is.
    let most = before.elapsed().as_secs() as usize + 1;
    let asked = site.issuer.script().calls(Endpoint::Jwks) - fetched;
    assert!((1..=most).contains(&asked), "{asked} of at most {most}");
    site.stop().await;
}
