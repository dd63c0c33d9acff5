//! How a login is asked for: lodged beforehand, for which resources, and with the answer in a form.

use http::Method;
use serde_json::json;

use crate::issuer::act::Act;
use crate::issuer::options::Announce;
use crate::issuer::{Document, Endpoint, Options, Pushed, Received};
use crate::support::browser::{Browser, Page};
use crate::support::plain_client;
use crate::support::posted::{FORM, Posted};
use crate::support::site::{Plan, Site, TOKEN_SECONDS};

async fn site(pushed: Pushed, client: &str) -> Site {
    let announce = Announce { pushed, ..Announce::default() };
    let plan =
        Plan { issuer: Options { announce, ..Options::default() }, client: client.to_owned(), ..Plan::default() };
    Site::planned(plan).await
}

fn names(page: &Page) -> Vec<String> {
    page.location().unwrap().query_pairs().map(|(name, _)| name.into_owned()).collect()
}

fn pushes(site: &Site) -> Vec<Received> {
    site.issuer.script().requests_to(Endpoint::Push)
}

#[tokio::test]
async fn a_login_is_lodged_first_and_the_browser_carries_a_reference() {
    // PAR-2.1-01, PAR-4-02, PAR-5-01
    for pushed in [Pushed::Offered, Pushed::Required] {
        let site = site(pushed, "").await;
        let browser = Browser::new();
        let away = browser.navigate(&site.at("/bff/login?login_hint=ada")).await;
        assert_eq!(names(&away), ["client_id", "request_uri"]);
        let lodged = pushes(&site).remove(0);
        assert!(lodged.headers.contains_key("authorization"), "the client has shown who it is");
        let lodged: Vec<&str> = lodged.form.iter().map(|(name, _)| name).collect();
        for name in
            ["response_type", "client_id", "redirect_uri", "scope", "state", "nonce", "code_challenge", "login_hint"]
        {
            assert!(lodged.contains(&name), "{name}: {lodged:?}");
        }
        let page = browser.follow(away.location().unwrap().as_str()).await;
        assert_eq!(page.url.as_str(), site.at("/"), "{}", page.text());
        assert_eq!(site.call(&browser).await.status, 200);
    }
}

#[tokio::test]
async fn a_login_without_a_question_says_who_is_meant_where_no_browser_sees_it() {
    // OIDC-3.1.2.1-08, FAPI-5.3.3.2-06, BBA-6.1-03
    for pushed in [Pushed::Required, Pushed::No] {
        let site = site(pushed, "").await;
        let browser = site.signed_in().await;
        let answer = browser.navigate(&site.at("/bff/login?prompt=none")).await;
        assert!(!names(&answer).contains(&"id_token_hint".to_owned()));
        for token in site.issuer.id_tokens() {
            assert_eq!(browser.received_contains(&token), None);
        }
        if pushed == Pushed::Required {
            let said = pushes(&site).pop().unwrap();
            assert_eq!(
                (said.form.get("prompt"), said.form.get("id_token_hint")),
                (Some("none"), site.issuer.id_tokens().last().map(String::as_str))
            );
        }
        // It ends well: the same person is there again.
        let page = browser.follow(answer.location().unwrap().as_str()).await;
        assert_eq!(page.url.as_str(), site.at("/"), "{}", page.text());
    }
    // Nobody is meant by a login that asks, or by one that nobody was signed in before.
    let site = site(Pushed::Required, "").await;
    Browser::new().navigate(&site.at("/bff/login?prompt=none")).await;
    site.signed_in().await.navigate(&site.at("/bff/login")).await;
    assert!(pushes(&site).iter().all(|push| push.form.get("id_token_hint").is_none()));
}

#[tokio::test]
async fn every_login_is_lodged_anew() {
    // PAR-4-01
    let site = site(Pushed::Required, "").await;
    let browser = Browser::new();
    let mut references = std::collections::BTreeSet::new();
    for _ in 0..2 {
        let away = browser.navigate(&site.at("/bff/login")).await;
        let url = away.location().unwrap();
        references.insert(url.query_pairs().find(|(name, _)| name == "request_uri").unwrap().1.into_owned());
    }
    assert_eq!((references.len(), pushes(&site).len()), (2, 2));
}

#[tokio::test]
async fn trouble_with_a_push_is_got_round_only_where_pushing_is_an_offer() {
    // PAR-2.3-01
    let troubles = || {
        [
            (Act::instead(500, ""), 502),
            (Act::instead(404, ""), 502),
            (Act::instead(405, "<html>"), 502),
            (Act::instead(413, ""), 502),
            (Act::instead(429, ""), 502),
            (Act::instead(201, "{}"), 502),
            (Act::cut(), 503),
        ]
    };
    let offering = site(Pushed::Offered, "").await;
    let (demanding, always) = (site(Pushed::Required, "").await, site(Pushed::Offered, "par = \"always\"").await);
    for (act, _) in troubles() {
        let told = format!("{act:?}");
        offering.issuer.script().next(Endpoint::Push, act);
        let browser = Browser::new();
        let page = browser.follow(&offering.at("/bff/login")).await;
        assert_eq!((page.status, page.url.as_str()), (200, offering.at("/").as_str()), "{told}: {}", page.text());
    }
    for site in [demanding, always] {
        for (act, status) in troubles() {
            let told = format!("{act:?}");
            site.issuer.script().next(Endpoint::Push, act);
            let page = Browser::new().navigate(&site.at("/bff/login")).await;
            assert_eq!((page.status, page.set_cookies().len()), (status, 0), "{told}: {}", page.text());
            assert!(!page.text().contains("code_challenge"), "nothing of the request is shown");
        }
        assert_eq!(site.issuer.script().calls(Endpoint::Authorize), 0);
    }
}

#[tokio::test]
async fn a_login_that_the_issuer_refuses_to_lodge_ends_on_a_page_that_says_so() {
    // PAR-2.3-01
    for pushed in [Pushed::Offered, Pushed::Required] {
        let site = site(pushed, "").await;
        for (status, error) in [(400, "invalid_request"), (401, "invalid_client")] {
            let body = json!({ "error": error, "error_description": "not for people" }).to_string();
            site.issuer.script().next(Endpoint::Push, Act::instead(status, body));
            let page = Browser::new().navigate(&site.at("/bff/login")).await;
            assert_eq!((page.status, page.location()), (403, None), "{}", page.text());
            assert!(page.text().contains(error) && !page.text().contains("not for people"), "{}", page.text());
        }
    }
}

#[tokio::test]
async fn an_issuer_without_the_endpoint_fails_a_login_that_is_always_lodged_and_one_with_it_can_be_spared() {
    let without = site(Pushed::No, "par = \"always\"").await;
    assert_eq!(Browser::new().navigate(&without.at("/bff/login")).await.status, 502);
    let spared = site(Pushed::Offered, "par = \"never\"").await;
    spared.signed_in().await;
    assert_eq!(pushes(&spared).len(), 0);
}

#[tokio::test]
async fn resources_are_asked_for_at_the_login_and_at_every_token_request() {
    // RI-2.1-01
    let client = "resource = [\"https://api.test/a\", \"urn:b\"]\naudience = \"api\"\n\
                  claims_request = '{\"id_token\":{\"acr\":null}}'";
    let site = site(Pushed::Offered, client).await;
    let page = Browser::new().navigate(&site.at("/bff/login")).await;
    assert_eq!(page.status, 303, "{}", page.text());
    let values = |request: &Received, wanted: &str| -> Vec<String> {
        request.form.iter().filter(|(name, _)| *name == wanted).map(|(_, value)| value.to_owned()).collect()
    };
    let lodged = pushes(&site).remove(0);
    assert_eq!(values(&lodged, "resource"), ["https://api.test/a", "urn:b"]);
    assert_eq!(values(&lodged, "audience"), ["api"]);
    assert_eq!(values(&lodged, "claims"), [r#"{"id_token":{"acr":null}}"#]);

    let one = self::site(Pushed::No, "resource = [\"https://api.test/a\"]").await;
    let browser = one.signed_in().await;
    one.pass(TOKEN_SECONDS + 10);
    assert_eq!(one.call(&browser).await.status, 200);
    let requests = one.issuer.script().requests_to(Endpoint::Token);
    assert_eq!(requests.len(), 2);
    assert!(requests.iter().all(|request| values(request, "resource") == ["https://api.test/a"]));
}

#[tokio::test]
async fn a_resource_that_is_refused_ends_no_session() {
    // RI-2-02
    let site = site(Pushed::No, "resource = [\"https://api.test/a\"]").await;
    let browser = site.signed_in().await;
    for _ in 0..4 {
        site.pass(TOKEN_SECONDS + 60);
        let refusal = Act::instead(400, r#"{"error":"invalid_target"}"#);
        site.issuer.script().next(Endpoint::Token, refusal);
        assert_eq!(site.call(&browser).await.status, 503);
    }
    site.pass(TOKEN_SECONDS + 60);
    assert_eq!(site.call(&browser).await.status, 200);
}

#[tokio::test]
async fn an_answer_without_iss_can_be_refused_although_the_metadata_promises_none() {
    // ISS-2.4-03
    for (client, status) in [("", 200), ("require_iss = true", 502)] {
        let announce = Announce { issuer_parameter: false, ..Announce::default() };
        let plan =
            Plan { issuer: Options { announce, ..Options::default() }, client: client.to_owned(), ..Plan::default() };
        let site = Site::planned(plan).await;
        let page = Browser::new().follow(&site.at("/bff/login")).await;
        assert_eq!(page.status, status, "{}", page.text());
        assert_eq!(site.issuer.token_calls(), usize::from(client.is_empty()));
    }
    let announced = site(Pushed::No, "require_iss = true").await;
    announced.signed_in().await;
}

#[tokio::test]
async fn a_server_that_demands_signatures_is_not_asked_without_one() {
    // JAR-10.5-01
    let plan = Plan::default();
    let site = Site::prepared(plan, async |issuer| {
        issuer.script().edit(Document::Metadata, |metadata| {
            metadata.insert("require_signed_request_object".to_owned(), json!(true));
        });
    })
    .await;
    let page = Browser::new().navigate(&site.at("/bff/login")).await;
    assert_eq!((page.status, page.location()), (502, None), "{}", page.text());
}

/// A login whose answer comes in a form.
async fn posted() -> Posted {
    let plan = Plan { client: "response_mode = \"form_post\"".to_owned(), behind_tls: true, ..Plan::default() };
    Posted::begin(Site::planned(plan).await, "?return_to=/orders").await
}

#[tokio::test]
async fn an_answer_in_a_form_finishes_the_login() {
    // FP-01, FP-03
    let login = posted().await;
    let request = login.site.issuer.script().requests_to(Endpoint::Authorize).remove(0);
    assert_eq!(request.query.get("response_mode"), Some("form_post"));
    let answer = login.request("/bff/callback").header("content-type", FORM).body(login.form()).send().await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.headers()["location"].to_str().unwrap()), (303, "/orders"));
    let lines: Vec<&str> = answer.headers().get_all("set-cookie").iter().map(|line| line.to_str().unwrap()).collect();
    let session = lines.iter().find(|line| line.starts_with("__Host-Http-vestibule=")).unwrap();
    assert!(session.contains("; SameSite=Strict; Secure; "), "{session}");
    let cookie = session.split(';').next().unwrap().to_owned();
    let user = plain_client().get(login.site.at("/bff/user")).header("cookie", cookie);
    let user = user.header("sec-fetch-site", "same-origin").send().await.unwrap();
    assert!(user.text().await.unwrap().contains("Ada Lovelace"));
    // The same once more, as after "back" and "send again": the result is the same, and the code is not sent again.
    let again = login.request("/bff/callback").header("content-type", FORM).body(login.form()).send().await.unwrap();
    assert_eq!((again.status().as_u16(), login.site.issuer.token_calls()), (303, 1));
}

#[tokio::test]
async fn a_form_without_the_cookie_of_its_login_concludes_nothing() {
    // FP-01: neither that nobody is signed in nor that somebody is, and no code is sent.
    let login = posted().await;
    let answer = login.request("/bff/callback").header("cookie", "").header("content-type", FORM);
    let answer = plain_client().execute({
        let mut request = answer.body(login.form()).build().unwrap();
        request.headers_mut().remove("cookie");
        request
    });
    let answer = answer.await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.headers().get("set-cookie")), (200, None));
    let page = answer.text().await.unwrap();
    assert!(page.contains("/bff/callback?resume=0"), "{page}");
    assert_eq!(login.site.issuer.token_calls(), 0);
}

#[tokio::test]
async fn what_is_no_posted_answer_is_refused_and_uses_nothing_up() {
    // FP-02
    let login = posted().await;
    let form = login.form();
    let post = |path: &str, kind: &'static str, body: String| {
        let request = login.request(path).header("content-type", kind).body(body);
        async move {
            let answer = request.send().await.unwrap();
            let kind = answer.headers()["content-type"].to_str().unwrap().to_owned();
            let status = answer.status().as_u16();
            assert!(status == 303 || kind.starts_with("text/html"), "a person sees it: {kind}");
            status
        }
    };
    assert_eq!(post("/bff/callback", "application/json", form.clone()).await, 400);
    assert_eq!(post("/bff/callback", "text/plain", form.clone()).await, 400);
    assert_eq!(post("/bff/callback?state=s", FORM, form.clone()).await, 400);
    assert_eq!(post(&format!("/bff/callback?{form}"), FORM, String::new()).await, 400);
    assert_eq!(post("/bff/callback", FORM, format!("{form}&x={}", "x".repeat(64 * 1024))).await, 413);
    assert_eq!(post("/bff/callback", FORM, String::new()).await, 400);
    assert_eq!(post("/bff/callback", FORM, format!("{form}&code=b")).await, 400);
    let with_body = plain_client().get(login.site.at(&format!("/bff/callback?{form}"))).header("cookie", &login.cookie);
    assert_eq!(with_body.body("x").send().await.unwrap().status(), 400);
    let mut framed = login.request("/bff/callback").header("content-type", FORM).body(form.clone()).build().unwrap();
    framed.headers_mut().insert("sec-fetch-dest", "iframe".parse().unwrap());
    assert_eq!(plain_client().execute(framed).await.unwrap().status(), 400);
    assert_eq!(login.site.issuer.token_calls(), 0);
    assert_eq!(post("/bff/callback", FORM, form).await, 303);
}

#[tokio::test]
async fn a_form_is_no_answer_where_none_was_asked_for() {
    let site = Site::start().await;
    let page = Browser::new().submit(&site.at("/bff/callback"), &[("code", "c"), ("state", "s")]).await;
    assert_eq!((page.status, page.header("allow")), (405, Some("GET, HEAD")));
    assert_eq!(Browser::new().fetch(Method::GET, &site.at("/bff/user")).await.status, 401);
}
