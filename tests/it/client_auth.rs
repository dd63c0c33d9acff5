//! How Vestibule shows the issuer who it is: by a signature, by a certificate, by its name alone.

mod mutual_tls;

use http::Method;
use serde_json::{Value, json};

use crate::issuer::act::Act;
use crate::issuer::{Endpoint, Fields, Options, Proof};
use crate::support::authority::key;
use crate::support::plain_client;
use crate::support::site::{Plan, Site, TOKEN_SECONDS};

fn p256() -> String {
    key(&rcgen::PKCS_ECDSA_P256_SHA256)
}

/// A site whose client signs with `keys`, and whose issuer knows what is published of them.
async fn signing(keys: &[String], client: &str) -> Site {
    let names: Vec<String> = (0..keys.len()).map(|index| format!("client-{index}.pem")).collect();
    let files: Vec<String> = names.iter().map(|name| format!("{{ file = \"{name}\" }}")).collect();
    let site = Site::planned(Plan {
        issuer: Options { proof: Proof::Assertion, ..Options::default() },
        credentials: format!("client_auth = \"private_key_jwt\"\nclient_keys = [{}]", files.join(", ")),
        beside: names.into_iter().zip(keys.iter().cloned()).collect(),
        client: client.to_owned(),
        more: "[logout]\norder = \"before\"".to_owned(),
        ..Plan::default()
    })
    .await;
    site.issuer.register_client_keys(&published(&site).await);
    site
}

async fn published(site: &Site) -> Value {
    let response = plain_client().get(site.at("/bff/jwks.json")).send().await.unwrap();
    assert_eq!(response.status(), 200);
    serde_json::from_str(&response.text().await.unwrap()).unwrap()
}

/// Header and claims of the assertion in a form.
fn assertion(form: &Fields) -> (Value, Value) {
    let token = form.get("client_assertion").expect("is asserted");
    let part = |index: usize| {
        let text = token.split('.').nth(index).unwrap();
        serde_json::from_slice(&base64_simd::URL_SAFE_NO_PAD.decode_to_vec(text).unwrap()).unwrap()
    };
    (part(0), part(1))
}

#[tokio::test]
async fn a_client_that_signs_logs_in_refreshes_and_revokes_without_a_secret() {
    // CAJ-01..04, O2-2.3-01, O2-2.3.1-02
    let site = signing(&[p256()], "").await;
    let browser = site.signed_in().await;
    site.pass(TOKEN_SECONDS + 10);
    assert_eq!(site.call(&browser).await.status, 200);
    assert_eq!(browser.fetch(Method::POST, &site.at("/bff/logout")).await.status, 200);
    assert_eq!(site.issuer.families_alive(), 0, "it was revoked");

    let requests =
        [site.issuer.script().requests_to(Endpoint::Token), site.issuer.script().requests_to(Endpoint::Revoke)];
    let requests = requests.concat();
    assert_eq!(requests.len(), 4, "{requests:?}");
    let mut names = std::collections::BTreeSet::new();
    for request in &requests {
        assert!(!request.headers.contains_key("authorization") && request.form.get("client_secret").is_none());
        let (header, claims) = assertion(&request.form);
        assert_eq!((&header["alg"], &header["typ"]), (&json!("ES256"), &json!("JWT")));
        assert_eq!((&claims["iss"], &claims["sub"]), (&json!("spa-bff"), &json!("spa-bff")));
        // One string, whatever the endpoint.
        assert_eq!(claims["aud"], site.issuer.url());
        let lifetime = claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap();
        assert_eq!(lifetime, 60);
        names.insert(claims["jti"].as_str().unwrap().to_owned());
    }
    assert_eq!(names.len(), 4, "each has an assertion of its own");
}

#[tokio::test]
async fn a_refresh_that_is_repeated_asserts_anew() {
    // CAJ-04
    let site = signing(&[key(&rcgen::PKCS_ED25519)], "").await;
    let browser = site.signed_in().await;
    site.pass(TOKEN_SECONDS + 10);
    site.issuer.script().next(Endpoint::Token, Act::instead(429, "").header("retry-after", "1"));
    assert_eq!(site.call(&browser).await.status, 503);
    site.pass(30);
    assert_eq!(site.call(&browser).await.status, 200);
    let refreshes = site.issuer.script().requests_to(Endpoint::Token).split_off(1);
    let names: Vec<Value> = refreshes.iter().map(|request| assertion(&request.form).1["jti"].clone()).collect();
    assert_eq!(names.len(), 2, "{refreshes:?}");
    assert_ne!(names[0], names[1]);
}

#[tokio::test]
async fn all_keys_are_published_for_an_hour_and_the_first_signs() {
    // CAJ-05
    let (old, new) = (p256(), key(&rcgen::PKCS_ED25519));
    let before = signing(&[old.clone(), new.clone()], "").await;
    let set = published(&before).await;
    before.signed_in().await;
    // The issuer has read the set while the new key was second, and reads it no more.
    let after = signing(&[new, old], "").await;
    after.issuer.register_client_keys(&set);
    after.signed_in().await;

    let signer = |site: &Site| assertion(&site.issuer.script().requests_to(Endpoint::Token)[0].form).0["kid"].clone();
    let ids: Vec<Value> = set["keys"].as_array().unwrap().iter().map(|key| key["kid"].clone()).collect();
    assert_eq!([signer(&before), signer(&after)], ids[..]);
    let response = plain_client().get(before.at("/bff/jwks.json")).send().await.unwrap();
    assert_eq!(response.headers()["cache-control"], "public, max-age=3600");
    assert_eq!(response.headers()["content-type"], "application/json");
    for key in set["keys"].as_array().unwrap() {
        assert!(key.get("d").is_none() && key["kid"].as_str().unwrap().len() == 43, "{key}");
    }
}

#[tokio::test]
async fn a_key_that_the_issuer_does_not_know_ends_on_a_page_and_no_session_comes_of_it() {
    // CAJ-05, O2-5.2-01
    let site = signing(&[p256()], "").await;
    site.issuer.register_client_keys(&json!({ "keys": [] }));
    let browser = crate::support::browser::Browser::new();
    let page = browser.follow(&site.at("/bff/login")).await;
    assert_eq!(page.status, 403, "{}", page.text());
    assert!(page.text().contains("invalid_client"), "{}", page.text());
    assert_eq!(browser.fetch(Method::GET, &site.at("/bff/user")).await.status, 401);
}

#[tokio::test]
async fn an_older_issuer_gets_the_audience_and_a_newer_one_the_type_that_it_wants() {
    // CAJ-03
    let client = "assertion_audience = \"token_endpoint\"\nassertion_typ = \"client-authentication+jwt\"";
    let site = signing(&[p256()], client).await;
    // This issuer is not an older one: it refuses.
    assert_eq!(crate::support::browser::Browser::new().follow(&site.at("/bff/login")).await.status, 403);
    let (header, claims) = assertion(&site.issuer.script().requests_to(Endpoint::Token)[0].form);
    assert_eq!(claims["aud"], format!("{}/token", site.issuer.url()));
    assert_eq!(header["typ"], "client-authentication+jwt");
}

#[tokio::test]
async fn without_keys_nothing_is_published() {
    let site = Site::start().await;
    assert_eq!(plain_client().get(site.at("/bff/jwks.json")).send().await.unwrap().status(), 404);
}

#[tokio::test]
async fn an_open_client_sends_its_name_and_nothing_else() {
    // O2-2.3-01
    let site = Site::planned(Plan {
        issuer: Options { proof: Proof::Certificate, ..Options::default() },
        credentials: "client_auth = \"none\"".to_owned(),
        ..Plan::default()
    })
    .await;
    site.signed_in().await;
    let request = site.issuer.script().requests_to(Endpoint::Token).remove(0);
    assert_eq!(request.form.get("client_id"), Some("spa-bff"));
    assert!(!request.headers.contains_key("authorization"));
    for field in ["client_secret", "client_assertion", "client_assertion_type"] {
        assert_eq!(request.form.get(field), None, "{field}");
    }
}
