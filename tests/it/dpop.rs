//! Tokens that are bound to a key of their session (DPoP, RFC 9449): towards the issuer, and towards APIs.
//!
//! Issuer and API judge every proof by themselves: type, key, method, address, token, moment, nonce, and that no proof
//! comes twice. What they find wrong besides a nonce fails a test.

use http::Method;
use serde_json::{Value, json};

use crate::issuer::act::Act;
use crate::issuer::options::Announce;
use crate::issuer::possession::Nonces;
use crate::issuer::{Document, Endpoint, Options, Proof, Pushed};
use crate::support::browser::{Browser, Page};
use crate::support::site::{Plan, Site, TOKEN_SECONDS};

/// A site whose tokens are bound.
fn plan(issuer: Nonces, api: Nonces) -> Plan {
    Plan {
        issuer: Options { dpop: Some(issuer), ..Options::default() },
        client: "dpop = true\nuserinfo = true".to_owned(),
        proofs: Some((api, None)),
        ..Plan::default()
    }
}

/// Nobody has found anything wrong with a proof, and no refresh token was spent twice.
fn unharmed(site: &Site) {
    let none: [&str; 0] = [];
    assert_eq!(site.issuer.proofs().faults(), none);
    assert_eq!(site.issuer.userinfo_proofs().faults(), none);
    assert_eq!(site.api.proofs().unwrap().faults(), none);
    assert_eq!(site.issuer.reuses(), 0);
}

/// How often the issuer, its UserInfo endpoint and the API wanted another nonce.
fn stale(site: &Site) -> (usize, usize, usize) {
    (site.issuer.proofs().stale(), site.issuer.userinfo_proofs().stale(), site.api.proofs().unwrap().stale())
}

/// The claims of the proofs that the API got, in their order.
fn shown_to_api(site: &Site) -> Vec<Value> {
    let claims = |proof: &String| {
        let part = proof.split('.').nth(1).unwrap();
        serde_json::from_slice(&base64_simd::URL_SAFE_NO_PAD.decode_to_vec(part).unwrap()).unwrap()
    };
    site.api.requests().iter().flat_map(|request| request.values("dpop")).map(|proof| claims(&proof)).collect()
}

async fn refreshed(site: &Site, browser: &Browser) {
    let before = site.issuer.refreshes();
    site.pass(TOKEN_SECONDS + 10);
    let page = site.call(browser).await;
    assert_eq!((page.status, site.issuer.refreshes()), (200, before + 1), "{}", page.text());
}

#[tokio::test]
async fn each_session_has_one_key_that_proves_every_request_for_and_with_its_tokens() {
    // DPOP-4.2-01, DPOP-4.2-02, DPOP-5-01, DPOP-7.1-01, DPOP-R-02, DPOP-11-01, CS-FH-03
    let site = Site::planned(plan(Nonces::None, Nonces::None)).await;
    for number in 1..=2 {
        let browser = site.signed_in().await;
        for _ in 0..2 {
            assert_eq!(site.call(&browser).await.status, 200);
            refreshed(&site, &browser).await;
        }
        let keys = site.issuer.proofs().keys();
        assert_eq!(keys.len(), number, "a login has a key of its own, and a refresh none");
        assert_eq!((&site.api.proofs().unwrap().keys(), &site.issuer.userinfo_proofs().keys()), (&keys, &keys));
    }
    for request in site.api.requests() {
        assert!(request.values("authorization")[0].starts_with("DPoP "), "{request:?}");
    }
    unharmed(&site);
}

#[tokio::test]
async fn a_key_is_kept_with_its_session_wherever_that_lies() {
    for session in ["tokens = \"cookie\"", "tokens = \"ledger\""] {
        let ledger = "backend = \"file\"\npath = \"ledger\"".to_owned();
        let plan = Plan { session: session.to_owned(), ledger, ..plan(Nonces::None, Nonces::Silent) };
        let site = Site::planned(plan).await;
        let browser = site.signed_in().await;
        let site = site.restarted().await;
        assert_eq!(site.call(&browser).await.status, 200);
        refreshed(&site, &browser).await;
        assert_eq!(site.issuer.proofs().keys().len(), 1);
        unharmed(&site);
        site.stop().await;
    }
}

#[tokio::test]
async fn nonces_that_change_unannounced_cost_one_more_request_each_time() {
    // DPOP-8-01, DPOP-9-01, DPOP-9-02, FAPI-5.3.3.1-08, CS-FH-04
    let site = Site::planned(plan(Nonces::Silent, Nonces::Silent)).await;
    let browser = site.signed_in().await;
    assert_eq!((site.issuer.token_calls(), stale(&site)), (2, (1, 1, 0)));
    for round in 1..=3 {
        refreshed(&site, &browser).await;
        assert_eq!((site.issuer.token_calls(), stale(&site)), (2 + 2 * round, (1 + round, 1, round)));
    }
    let post = browser.fetch(Method::POST, &site.at("/api/orders")).body("application/json", "{\"a\":1}").await;
    assert_eq!((post.status, post.json()["body_bytes"].as_u64()), (200, Some(7)), "{}", post.text());
    unharmed(&site);
}

#[tokio::test]
async fn nonces_that_are_announced_cost_nothing() {
    // DPOP-8.2-01
    let site = Site::planned(plan(Nonces::Announced, Nonces::Announced)).await;
    let browser = site.signed_in().await;
    for _ in 0..3 {
        refreshed(&site, &browser).await;
    }
    assert_eq!((site.issuer.token_calls(), stale(&site)), (2 + 3, (1, 1, 1)), "the first of each alone");
    unharmed(&site);
}

#[tokio::test]
async fn a_server_that_wants_another_nonce_for_ever_is_asked_twice_and_ends_no_session() {
    // DPOP-8-01, DPOP-9-01
    let site = Site::planned(plan(Nonces::Fixed, Nonces::Fixed)).await;
    let browser = site.signed_in().await;
    let never = || Act::instead(400, r#"{"error":"use_dpop_nonce"}"#).header("dpop-nonce", "issuer-nonce-x");
    let calls = site.issuer.token_calls();
    for _ in 0..2 {
        site.issuer.script().next(Endpoint::Token, never());
    }
    site.pass(TOKEN_SECONDS + 10);
    let page = site.call(&browser).await;
    assert_eq!((page.status, site.issuer.token_calls()), (503, calls + 2), "{}", page.text());
    let wait: u64 = page.header("retry-after").unwrap().parse().unwrap();
    site.pass(wait + 1);
    assert_eq!(site.call(&browser).await.status, 200, "the refresh token was not spent");

    let want = || Act::instead(401, "").header("www-authenticate", "DPoP error=\"use_dpop_nonce\"");
    let calls = site.api.calls();
    for _ in 0..2 {
        site.api.next(want().header("dpop-nonce", "api-nonce-x"));
    }
    let page = site.call(&browser).await;
    assert_eq!(
        (page.status, site.api.calls()),
        (503, calls + 2),
        "a 401 would send the person to a login: {}",
        page.text()
    );
    assert_eq!(page.json()["type"], "urn:vestibule:problem:send-again");
    assert_eq!(site.call(&browser).await.status, 200);
    unharmed(&site);
}

#[tokio::test]
async fn a_body_that_is_sent_twice_is_counted_once() {
    // DPOP-9-03
    let site =
        Site::planned(Plan { server: "max_body_bytes = 40000".to_owned(), ..plan(Nonces::Fixed, Nonces::Fixed) }).await;
    let browser = site.signed_in().await;
    let post = browser.fetch(Method::POST, &site.at("/api/orders")).body("text/plain", vec![b'a'; 30_000]).await;
    assert_eq!((post.status, site.api.calls()), (200, 2), "{}", post.text());
}

#[tokio::test]
async fn a_large_body_is_never_sent_twice_and_its_sender_is_told_to_send_it_again() {
    // DPOP-9-03
    let site = Site::planned(plan(Nonces::Fixed, Nonces::Fixed)).await;
    let browser = site.signed_in().await;
    assert_eq!(site.call(&browser).await.status, 200);
    let put = async || {
        let body = vec![b'a'; 10 << 20];
        browser.fetch(Method::PUT, &site.at("/api/orders")).body("application/octet-stream", body).await
    };
    let (page, calls) = (put().await, site.api.calls());
    assert_eq!((page.status, page.json()["body_bytes"].as_u64()), (200, Some(10 << 20)), "the nonce is known");
    site.api.proofs().unwrap().renew();
    let page = put().await;
    assert_eq!((page.status, site.api.calls()), (503, calls + 1), "{}", page.text());
    assert_eq!(page.json()["type"], "urn:vestibule:problem:send-again");
    assert_eq!(page.header("retry-after"), Some("1"));
    assert_eq!((put().await.status, site.api.calls()), (200, calls + 2), "now the newer one is");
    // What fits into the buffer is sent once more by itself, whatever its method.
    site.api.proofs().unwrap().renew();
    let post = browser.fetch(Method::POST, &site.at("/api/orders")).body("text/plain", vec![b'a'; 30_000]).await;
    assert_eq!((post.status, post.json()["body_bytes"].as_u64()), (200, Some(30_000)), "{}", post.text());
    assert_eq!(site.api.calls(), calls + 4);
    unharmed(&site);
}

#[tokio::test]
async fn every_attempt_has_a_proof_of_its_own() {
    // DPOP-7.3-01, DPOP-4.3-01
    let site = Site::planned(plan(Nonces::None, Nonces::None)).await;
    let browser = site.signed_in().await;
    // The first call leaves a connection behind, and a request that dies on such a one is sent on another.
    assert_eq!(site.call(&browser).await.status, 200);
    site.api.next(Act::cut());
    let call = browser.fetch(Method::GET, &site.at("/api/orders?page=2")).header("dpop", "e30.e30.e30").await;
    assert_eq!(call.status, 200, "{}", call.text());
    let proofs = shown_to_api(&site);
    assert_eq!(proofs.len(), 3, "one for each attempt, and none of the browser's");
    assert_ne!(proofs[1]["jti"], proofs[2]["jti"]);
    assert_eq!((&proofs[1]["htu"], &proofs[2]["htu"]), (&proofs[2]["htu"], &proofs[0]["htu"]));
    unharmed(&site);
}

#[tokio::test]
async fn a_proof_names_the_address_that_the_api_goes_by() {
    // DPOP-4.2-03
    let more = "[[route]]\npath = \"/v2/\"\nupstream = \"{api}/inner\"\nauth = \"api\"\nstrip_prefix = true";
    let site = Site::planned(Plan { more: more.to_owned(), ..plan(Nonces::None, Nonces::None) }).await;
    let browser = site.signed_in().await;
    let page = browser.fetch(Method::GET, &site.at("/v2/orders?page=2")).await;
    assert_eq!((page.status, page.json()["path"].as_str()), (200, Some("/inner/orders")), "{}", page.text());
    assert_eq!(shown_to_api(&site)[0]["htu"], format!("{}/inner/orders", site.api.url()));
    unharmed(&site);

    // Behind a proxy of its own, which the test is spared: only the name differs.
    let more = "[[route]]\npath = \"/v2/\"\nupstream = \"{api}/inner\"\nauth = \"api\"\nstrip_prefix = true\n\
                dpop_url = \"https://api.example.com/inner\"";
    let proofs = Some((Nonces::Silent, Some("https://api.example.com")));
    let site = Site::planned(Plan { more: more.to_owned(), proofs, ..plan(Nonces::None, Nonces::None) }).await;
    let browser = site.signed_in().await;
    for _ in 0..2 {
        let page = browser.fetch(Method::GET, &site.at("/v2/orders?page=2")).await;
        assert_eq!(page.status, 200, "{}", page.text());
    }
    assert_eq!(shown_to_api(&site)[0]["htu"], "https://api.example.com/inner/orders");
    unharmed(&site);
}

#[tokio::test]
async fn an_api_that_knows_bearer_tokens_alone_gets_them_by_configuration_alone() {
    // DPOP-7.2-01
    let more = "[[route]]\npath = \"/old/\"\nupstream = \"{api}\"\nauth = \"api\"\ntoken_scheme = \"Bearer\"";
    let site = Site::planned(Plan { more: more.to_owned(), ..plan(Nonces::None, Nonces::None) }).await;
    let browser = site.signed_in().await;
    browser.fetch(Method::GET, &site.at("/old/orders")).await;
    let old = site.api.requests().pop().unwrap();
    assert!(old.bearer().is_some() && old.values("dpop").is_empty(), "{old:?}");

    // A challenge changes nothing.
    site.api.next(Act::instead(401, "").header("www-authenticate", "Bearer realm=\"api\""));
    assert_eq!(site.call(&browser).await.status, 401);
    assert_eq!(site.call(&browser).await.status, 200);
    let asked = site.api.requests();
    assert!(asked.iter().skip(1).all(|request| request.bearer().is_none()), "{asked:?}");
    unharmed(&site);
}

#[tokio::test]
async fn the_browser_sees_no_nonce_and_no_challenge_for_a_proof() {
    // DPOP-R-01
    let site = Site::planned(plan(Nonces::Fixed, Nonces::Fixed)).await;
    let browser = site.signed_in().await;
    let clean = |page: &Page| {
        let challenge = page.header("www-authenticate").unwrap_or_default().to_ascii_lowercase();
        assert!(page.header("dpop-nonce").is_none() && !challenge.contains("dpop"), "{challenge}");
    };
    clean(&site.call(&browser).await);
    for challenge in
        ["DPoP error=\"invalid_token\", algs=\"ES256\"", "dpop", "Bearer, DPoP algs=\"ES256\"", "Bearer realm=\"a\""]
    {
        let refusal = Act::instead(401, "no").header("www-authenticate", challenge).header("dpop-nonce", "api-nonce-0");
        site.api.next(refusal);
        let page = site.call(&browser).await;
        assert_eq!((page.status, page.text().as_str()), (401, "no"), "{challenge}");
        clean(&page);
    }
    unharmed(&site);
}

#[tokio::test]
async fn tokens_that_are_not_bound_sign_nobody_in() {
    // DPOP-5-02
    let site = Site::planned(plan(Nonces::None, Nonces::None)).await;
    let script = site.issuer.script();
    script.edit(Document::TokenResponse, |body| drop(body.insert("token_type".to_owned(), json!("Bearer"))));
    let page = Browser::new().follow(&site.at("/bff/login")).await;
    assert_eq!((page.status, page.url.path()), (502, "/bff/callback"), "{}", page.text());
    script.edit(Document::TokenResponse, |body| drop(body.insert("token_type".to_owned(), json!("dPoP"))));
    let browser = site.signed_in().await;
    assert_eq!(site.call(&browser).await.status, 200);
    unharmed(&site);
}

#[tokio::test]
async fn an_issuer_whose_algorithms_are_none_of_ours_is_told_of_before_anybody_signs_in() {
    // DPOP-5.1-01
    let only = |algs: &'static [&'static str]| Plan {
        before: Some(Box::new(move |issuer| {
            let edit = move |metadata: &mut serde_json::Map<_, _>| {
                metadata.insert("dpop_signing_alg_values_supported".to_owned(), json!(algs));
            };
            issuer.script().edit(Document::Metadata, edit);
        })),
        ..plan(Nonces::None, Nonces::None)
    };
    let site = Site::planned(only(&["PS256"])).await;
    let page = Browser::new().navigate(&site.at("/bff/login")).await;
    assert_eq!((page.status, site.issuer.script().calls(Endpoint::Authorize)), (503, 0), "{}", page.text());

    let site = Site::planned(only(&["PS256", "EdDSA"])).await;
    let browser = site.signed_in().await;
    assert_eq!(site.call(&browser).await.status, 200);
    unharmed(&site);
}

#[tokio::test]
async fn fapi2_client_test_happy_path_with_dpop() {
    // CS-F-01, CS-FH-03, CS-FH-04, DPOP-10-01: lodged beforehand, by a client that signs, with nonces that change unannounced.
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap().serialize_pem();
    let plan = plan(Nonces::Silent, Nonces::Silent);
    let announce = Announce { pushed: Pushed::Required, ..Announce::default() };
    let site = Site::planned(Plan {
        issuer: Options { announce, proof: Proof::Assertion, ..plan.issuer },
        credentials: "client_auth = \"private_key_jwt\"\nclient_keys = [{ file = \"client.pem\" }]".to_owned(),
        beside: vec![("client.pem".to_owned(), key)],
        ..plan
    })
    .await;
    let published = browser_free(&site.at("/bff/jwks.json")).await;
    site.issuer.register_client_keys(&published);
    let browser = site.signed_in().await;
    assert_eq!(site.call(&browser).await.status, 200);
    refreshed(&site, &browser).await;
    let lodged = site.issuer.script().requests_to(Endpoint::Push);
    assert_eq!(lodged.len(), 2, "once more with the nonce");
    let keys = site.issuer.proofs().keys();
    assert!(lodged.iter().all(|it| it.form.get("dpop_jkt").is_some_and(|jkt| keys.contains(jkt))));
    let assertion = |index: usize| lodged[index].form.get("client_assertion").unwrap().to_owned();
    assert_ne!(assertion(0), assertion(1), "all that is good once was made anew");
    unharmed(&site);
}

async fn browser_free(url: &str) -> Value {
    serde_json::from_str(&crate::support::plain_client().get(url).send().await.unwrap().text().await.unwrap()).unwrap()
}
