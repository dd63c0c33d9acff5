//! Signing in, refreshing and revoking at `oidc-provider` without a secret, with logins that are lodged and signed.

use std::sync::Arc;

use http::Method;
use serde_json::Value;
use sha2::{Digest, Sha256};
use tokio::time::timeout;

use super::site::{Place, RealSite};
use crate::support::authority::{Authority, Issued, der, key};
use crate::support::browser::Browser;
use crate::support::op::{AccessTokens, OidcProvider, Options, Rotation, ServerTls};
use crate::support::site::Texts;
use crate::support::{PATIENCE, plain_client};

/// Nobody follows the way to the server's own logout here.
const REVOKED_AT_ONCE: &str = "[logout]\norder = \"before\"";

/// Signs in, refreshes once, signs out, and sees that the server has nothing to complain about.
async fn lives_and_ends(site: &RealSite) {
    let before = site.provider.stats().await;
    let browser = site.signed_in().await;
    site.until_expired(&browser).await;
    assert_eq!(browser.fetch(Method::GET, &site.at("/api/orders")).await.status, 200);
    let stats = site.provider.stats().await;
    assert!(stats.refresh_grants_ok > before.refresh_grants_ok, "{stats:?}");
    assert_eq!(
        (stats.refresh_grants_failed, stats.reuse_detected, stats.grants_revoked),
        (0, 0, before.grants_revoked)
    );
    let out = browser.fetch(Method::POST, &site.at("/bff/logout")).await;
    assert_eq!(out.status, 200, "{}", out.text());
    let revoked = async {
        while site.provider.stats().await.grants_revoked == stats.grants_revoked {
            tokio::time::sleep(std::time::Duration::from_millis(25)).await;
        }
    };
    timeout(PATIENCE, revoked).await.unwrap();
    // It does not revoke access tokens that are JWTs, and says so.
    let mut refusals = site.provider.stats().await.refusals;
    refusals.retain(|refusal| refusal != "revocation.error: unsupported_token_type: ");
    assert_eq!(refusals, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs node and oidc-provider: run ./tests/run"]
async fn a_client_signs_and_changes_its_key_without_a_pause() {
    // CAJ-01..05, PAR-2.1-01, PAR-4-02, PAR-5-01, ISS-2.4-03
    let (old, new) = (key(&rcgen::PKCS_ECDSA_P256_SHA256), key(&rcgen::PKCS_ED25519));
    let files = [("old.pem".to_owned(), old), ("new.pem".to_owned(), new)];
    let client = "require_iss = true";
    let texts = |credentials: &'static str| Texts {
        credentials,
        beside: &files,
        client,
        more: REVOKED_AT_ONCE,
        ..Texts::default()
    };
    let (before, after) = (Place::find().await, Place::find().await);
    let mut options = Options::new(&before.url);
    options.redirect_uris.push(format!("{}/bff/callback", after.url));
    options.post_logout_redirect_uris.push(format!("{}/bff/logout/return", after.url));
    options.client_authentication = "private_key_jwt";
    options.require_pushed = true;
    // The server reads the keys once, while the new one is second, and may keep them for an hour.
    options.jwks_uri = Some(format!("{}/bff/jwks.json", before.url.replace("http://", "https://")));
    let provider = Arc::new(OidcProvider::start(&options).await);

    let credentials =
        "client_auth = \"private_key_jwt\"\nclient_keys = [{ file = \"old.pem\" }, { file = \"new.pem\" }]";
    let one = RealSite::at_place(before, &options, Arc::clone(&provider), &texts(credentials)).await;
    let away = Browser::new().navigate(&one.at("/bff/login")).await;
    let url = away.location().unwrap();
    let names: Vec<String> = url.query_pairs().map(|(name, _)| name.into_owned()).collect();
    assert_eq!(names, ["client_id", "request_uri"]);
    lives_and_ends(&one).await;

    let credentials =
        "client_auth = \"private_key_jwt\"\nclient_keys = [{ file = \"new.pem\" }, { file = \"old.pem\" }]";
    let other = RealSite::at_place(after, &options, provider, &texts(credentials)).await;
    lives_and_ends(&other).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs node and oidc-provider: run ./tests/run"]
async fn logins_are_signed_by_way_of_the_browser_and_inside_a_push() {
    // JAR-4-01, JAR-4-02, JAR-5-01, JAR-10.5-01, PAR-3-01
    let files = [("key.pem".to_owned(), key(&rcgen::PKCS_ECDSA_P256_SHA256))];
    for (client, required, names) in [
        ("jar = true\npar = \"never\"", false, ["client_id", "request"]),
        ("par = \"never\"", true, ["client_id", "request"]),
        ("jar = true", true, ["client_id", "request_uri"]),
    ] {
        let client = format!("client_keys = [{{ file = \"key.pem\" }}]\n{client}");
        let texts = Texts { client: &client, beside: &files, more: REVOKED_AT_ONCE, ..Texts::default() };
        let place = Place::find().await;
        let mut options = Options::new(&place.url);
        options.require_signed = required;
        options.jwks_uri = Some(format!("{}/bff/jwks.json", place.url.replace("http://", "https://")));
        let provider = Arc::new(OidcProvider::start(&options).await);
        let site = RealSite::at_place(place, &options, provider, &texts).await;
        let away = Browser::new().navigate(&site.at("/bff/login?max_age=60")).await;
        let url = away.location().unwrap_or_else(|| panic!("{}", away.text()));
        assert_eq!(url.query_pairs().map(|(name, _)| name.into_owned()).collect::<Vec<_>>(), names);
        let browser = Browser::new();
        let page = browser.follow(&site.at("/bff/login?max_age=60")).await;
        assert_eq!((page.status, page.url.as_str()), (200, site.at("/").as_str()), "{}", page.text());
        lives_and_ends(&site).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs node and oidc-provider: run ./tests/run"]
async fn a_client_with_a_secret_lodges_its_logins_whether_it_must_or_may() {
    // PAR-2.1-01, PAR-4-02, PAR-5-01, ISS-2.4-03
    for (required, client, way) in [
        (false, "", "client_secret_basic"),
        (true, "require_iss = true", "client_secret_basic"),
        (true, "par = \"always\"\nclient_auth = \"post\"", "client_secret_post"),
    ] {
        let texts = Texts { client, more: REVOKED_AT_ONCE, ..Texts::default() };
        let change = |options: &mut Options| {
            options.require_pushed = required;
            options.client_authentication = way;
        };
        let site = RealSite::told(change, &texts).await;
        let away = Browser::new().navigate(&site.at("/bff/login")).await;
        let url = away.location().unwrap_or_else(|| panic!("{}", away.text()));
        let names: Vec<String> = url.query_pairs().map(|(name, _)| name.into_owned()).collect();
        assert_eq!(names, ["client_id", "request_uri"]);
        lives_and_ends(&site).await;
    }
}

/// Made with `openssl genrsa 2048` for the tests; it guards nothing.
const RSA: &str = include_str!("../../../../src/oauth/fixtures/rsa-2048.pem");

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs node and oidc-provider: run ./tests/run"]
async fn an_rsa_key_signs_by_ps256() {
    // CAJ-05, FAPI-5.4.1-01
    let files = [("key.pem".to_owned(), RSA.to_owned())];
    let credentials = "client_auth = \"private_key_jwt\"\nclient_keys = [{ file = \"key.pem\" }]";
    let texts = Texts { credentials, beside: &files, more: REVOKED_AT_ONCE, ..Texts::default() };
    let place = Place::find().await;
    let mut options = Options::new(&place.url);
    options.client_authentication = "private_key_jwt";
    options.client_signs_by = Some("PS256");
    options.jwks_uri = Some(format!("{}/bff/jwks.json", place.url.replace("http://", "https://")));
    let provider = Arc::new(OidcProvider::start(&options).await);
    lives_and_ends(&RealSite::at_place(place, &options, provider, &texts).await).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs node and oidc-provider: run ./tests/run"]
async fn a_client_held_to_fapi_lives_with_a_server_held_to_it() {
    // FAPI-5.3.3.1-01, FAPI-5.3.3.1-02, FAPI-5.3.3.1-05..07, FAPI-5.3.3.2-02, FAPI-5.3.3.2-05, FAPI-5.4.1-01
    let (authority, key) = (Authority::new(), key(&rcgen::PKCS_ECDSA_P256_SHA256));
    let client = authority.issue("spa-bff.test");
    let files = [
        ("key.pem".to_owned(), key),
        ("client.pem".to_owned(), client.certificate.clone()),
        ("client.key".to_owned(), client.key.clone()),
        ("ca.pem".to_owned(), authority.certificate.clone()),
    ];
    let credentials = "security_profile = \"fapi2\"\n\
                       client_auth = \"private_key_jwt\"\nclient_keys = [{ file = \"key.pem\" }]\nca_file = \"ca.pem\"\n\
                       mtls = { certificate = \"client.pem\", key = { file = \"client.key\" } }";
    let texts = Texts { credentials, beside: &files, more: REVOKED_AT_ONCE, ..Texts::default() };
    let place = Place::find().await;
    let mut options = Options::new(&place.url);
    let Issued { certificate, key } = authority.issue("localhost");
    options.tls = Some(ServerTls { certificate, key, ca: authority.certificate.clone() });
    options.fapi = true;
    options.require_pushed = true;
    options.rotation = Rotation::Never;
    options.client_authentication = "private_key_jwt";
    options.jwks_uri = Some(format!("{}/bff/jwks.json", place.url.replace("http://", "https://")));
    let provider = Arc::new(OidcProvider::start(&options).await);
    let site = RealSite::at_place(place, &options, provider, &texts).await;
    let browser = site.signed_in().await;
    let thumbprint = base64_simd::URL_SAFE_NO_PAD.encode_to_string(Sha256::digest(der(&client.certificate)));
    let first = site.api.tokens().pop().unwrap();
    assert_eq!(site.provider.bound_to(&first).await.as_ref(), Some(&thumbprint));
    site.until_expired(&browser).await;
    assert_eq!(browser.fetch(Method::GET, &site.at("/api/orders")).await.status, 200);
    let second = site.api.tokens().pop().unwrap();
    assert_ne!(first, second);
    assert_eq!(site.provider.bound_to(&second).await, Some(thumbprint));
    lives_and_ends(&site).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs node and oidc-provider: run ./tests/run"]
async fn tokens_are_for_the_resource_that_is_configured_also_after_a_refresh() {
    // RI-2-01, RI-2.1-01
    let resource = "https://api.example.test/orders";
    let client = format!("resource = [\"{resource}\"]");
    let texts = Texts { client: &client, more: REVOKED_AT_ONCE, ..Texts::default() };
    let site = RealSite::told(|options| options.access_tokens = AccessTokens::Jwt, &texts).await;
    lives_and_ends(&site).await;
    let tokens = site.api.tokens();
    assert!(tokens.len() >= 2, "{}", tokens.len());
    for token in tokens {
        assert_eq!(audience_of(&token), resource);
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs node and oidc-provider: run ./tests/run"]
async fn two_apis_get_tokens_with_their_own_audience() {
    // RI-2.1-01, BBA-9-01
    let routes = r#"
        [[route]]
        path = "/orders/"
        upstream = "{api}"
        auth = "api"
        token = { resource = "https://orders.test/" }
        [[route]]
        path = "/bills/"
        upstream = "{api}"
        auth = "api"
        token = { resource = "https://bills.test/" }
    "#;
    let client = "resource = [\"https://api.test/\"]";
    let texts = Texts { more: routes, client, ..Texts::default() };
    let change = |options: &mut Options| {
        options.access_tokens = AccessTokens::Jwt;
        options.access_token_seconds = 300;
    };
    let site = RealSite::told(change, &texts).await;
    let browser = site.signed_in().await;
    for (path, audience, refreshes) in [
        ("/api/orders", "https://api.test/", 0),
        ("/orders/1", "https://orders.test/", 1),
        ("/bills/1", "https://bills.test/", 2),
        ("/orders/2", "https://orders.test/", 2),
    ] {
        let page = browser.fetch(Method::GET, &site.at(path)).await;
        assert_eq!(page.status, 200, "{path}: {}", page.text());
        assert_eq!(audience_of(&site.api.tokens().pop().unwrap()), audience);
        assert_eq!(site.refreshes().await, refreshes, "{path}");
    }
    site.assert_unharmed(&browser).await;
}

fn audience_of(token: &str) -> Value {
    let claims = token.split('.').nth(1).unwrap();
    let claims = base64_simd::URL_SAFE_NO_PAD.decode_to_vec(claims).unwrap();
    serde_json::from_slice::<Value>(&claims).unwrap()["aud"].clone()
}

/// A site whose client shows `client` to a server that checks certificates against `authority`.
async fn with_certificate(way: &'static str, authority: &Authority, client: &Issued) -> RealSite {
    let files = [
        ("client.pem".to_owned(), client.certificate.clone()),
        ("client.key".to_owned(), client.key.clone()),
        ("ca.pem".to_owned(), authority.certificate.clone()),
    ];
    let credentials = format!(
        "client_auth = \"{way}\"\nca_file = \"ca.pem\"\n\
         mtls = {{ certificate = \"client.pem\", key = {{ file = \"client.key\" }} }}"
    );
    let texts = Texts { credentials: &credentials, beside: &files, more: REVOKED_AT_ONCE, ..Texts::default() };
    let change = |options: &mut Options| {
        let Issued { certificate, key } = authority.issue("localhost");
        options.tls = Some(ServerTls { certificate, key, ca: authority.certificate.clone() });
        options.client_authentication = way;
        options.require_pushed = true;
        match way {
            "tls_client_auth" => options.client_certificate_name = Some("spa-bff.test".to_owned()),
            _ => options.client_certificate = Some(client.certificate.clone()),
        }
    };
    RealSite::told(change, &texts).await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs node and oidc-provider: run ./tests/run"]
async fn a_certificate_that_the_server_trusts_is_proof_enough() {
    // MTLS-2-01, MTLS-5-01
    let authority = Authority::new();
    let client = authority.issue("spa-bff.test");
    lives_and_ends(&with_certificate("tls_client_auth", &authority, &client).await).await;

    let other = authority.issue("another.test");
    let site = with_certificate("tls_client_auth", &authority, &other).await;
    let page = Browser::new().follow(&site.at("/bff/login")).await;
    assert_eq!((page.status, page.text().contains("invalid_client")), (403, true), "{}", page.text());
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs node and oidc-provider: run ./tests/run"]
async fn a_certificate_that_the_client_has_signed_itself_is_proof_where_it_is_registered() {
    // MTLS-2-01, MTLS-5-01
    let client = Issued::by_itself("spa-bff.test");
    lives_and_ends(&with_certificate("self_signed_tls_client_auth", &Authority::new(), &client).await).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs node and oidc-provider: run ./tests/run"]
async fn an_answer_that_the_servers_page_posts_finishes_a_login() {
    // FP-01, FP-03
    let place = Place::find().await;
    let (url, public) = (place.url.clone(), place.url.replace("http://", "https://"));
    let options = Options::new(&public);
    let provider = Arc::new(OidcProvider::start(&options).await);
    let texts = Texts { client: "response_mode = \"form_post\"", more: REVOKED_AT_ONCE, ..Texts::default() };
    let site = RealSite::behind_tls(place, &options, provider, &texts).await;
    let away = plain_client().get(format!("{url}/bff/login?return_to=/orders")).send().await.unwrap();
    let cookie = away.headers()["set-cookie"].to_str().unwrap().split(';').next().unwrap().to_owned();
    let page = Browser::new().follow(away.headers()["location"].to_str().unwrap()).await;
    let text = page.text();
    assert!(text.contains(&format!("action=\"{public}/bff/callback\"")), "{text}");
    let fields = text.split("<input type=\"hidden\" name=\"").skip(1).map(|field| {
        let (name, rest) = field.split_once("\" value=\"").unwrap();
        (name, rest.split_once('"').unwrap().0)
    });
    let form = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
    let answer = plain_client()
        .post(format!("{url}/bff/callback"))
        .header("cookie", cookie)
        .header("content-type", "application/x-www-form-urlencoded")
        .header("sec-fetch-site", "cross-site")
        .header("sec-fetch-mode", "navigate")
        .header("sec-fetch-dest", "document")
        .body(form)
        .send()
        .await
        .unwrap();
    assert_eq!((answer.status().as_u16(), answer.headers()["location"].to_str().unwrap()), (303, "/orders"));
    let mut cookie = session_cookie(&answer).expect("somebody is signed in");

    let ask = async |method: Method, path: &str, cookie: &str| {
        let request = plain_client().request(method, format!("{url}{path}")).header("cookie", cookie);
        request.header("sec-fetch-site", "same-origin").header("sec-fetch-mode", "cors").send().await.unwrap()
    };
    assert_eq!(ask(Method::GET, "/api/orders", &cookie).await.status(), 200);
    let expired = async {
        loop {
            let times = ask(Method::GET, "/bff/session", &cookie).await.text().await.unwrap();
            if serde_json::from_str::<Value>(&times).unwrap()["token_expires_in"] == 0 {
                // Whole seconds are told; what is told as none may still be nearly one.
                return tokio::time::sleep(std::time::Duration::from_secs(1)).await;
            }
            tokio::time::sleep(std::time::Duration::from_millis(25)).await;
        }
    };
    timeout(PATIENCE, expired).await.unwrap();
    let refreshed = ask(Method::GET, "/api/orders", &cookie).await;
    assert_eq!(refreshed.status(), 200);
    assert!(site.provider.stats().await.refresh_grants_ok >= 1);
    cookie = session_cookie(&refreshed).expect("the refreshed session");
    assert_eq!(ask(Method::POST, "/bff/logout", &cookie).await.status(), 200);
    assert_eq!(ask(Method::GET, "/api/orders", &cookie).await.status(), 401);
    assert_eq!(site.provider.stats().await.refusals, [""; 0]);
}

/// The name and value of the session's cookie, if an answer sets it.
fn session_cookie(answer: &reqwest::Response) -> Option<String> {
    let lines = answer.headers().get_all("set-cookie").iter().map(|line| line.to_str().unwrap());
    let pairs = lines.filter_map(|line| line.split(';').next());
    pairs.filter(|pair| pair.starts_with("__Host-Http-vestibule=")).map(str::to_owned).next()
}
