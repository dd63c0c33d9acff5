//! The way to the authorization server and back (OpenID Connect RP-Initiated Logout 1.0).

use http::Method;
use serde_json::json;
use url::Url;

use crate::issuer::options::Announce;
use crate::issuer::{Document, Endpoint, Options, Received};
use crate::support::browser::{Browser, Initiator, Page};
use crate::support::site::{Plan, Site};

const RETURN: &str = "/bff/logout/return";

async fn site(logout: &str) -> Site {
    Site::planned(Plan { more: format!("[logout]\n{logout}"), ..Plan::default() }).await
}

/// A site whose sessions lie in the ledger, and whose ID tokens have some 12 kB.
async fn heavy(logout: &str) -> Site {
    let session = "tokens = \"ledger\"".to_owned();
    let site = Site::planned(Plan { more: format!("[logout]\n{logout}"), session, ..Plan::default() }).await;
    let padding = "x".repeat(9_000);
    site.issuer.script().edit(Document::IdToken, move |claims| {
        claims.insert("padding".to_owned(), json!(padding));
    });
    site
}

fn parameter(url: &Url, name: &str) -> Option<String> {
    url.query_pairs().find(|(found, _)| found == name).map(|(_, value)| value.into_owned())
}

/// The ID token that the issuer made last.
fn id_token(site: &Site) -> String {
    site.issuer.canaries().into_iter().rfind(|canary| canary.starts_with("eyJ")).unwrap()
}

/// The last request that asked the issuer to end its session.
fn asked(site: &Site) -> Received {
    site.issuer.script().requests_to(Endpoint::EndSession).pop().unwrap()
}

/// Where the form on a page goes, and what is in it.
fn form_of(page: &Page) -> (String, Vec<(String, String)>) {
    let html = page.text();
    let between = |text: &str, start: &str| text.split_once(start).unwrap().1.split_once('"').unwrap().0.to_owned();
    let fields = html.split("<input ").skip(1).map(|input| (between(input, "name=\""), between(input, "value=\"")));
    (between(&html, "action=\""), fields.collect())
}

/// Presses the button of such a page, which is on our site and leads to another.
async fn press(browser: &Browser, page: &Page) -> Page {
    let (action, fields) = form_of(page);
    let fields: Vec<_> = fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    browser.submit(&action, &fields).started_by(Initiator::CrossSite).follow().await
}

#[tokio::test]
async fn where_the_page_wants_to_go_next_is_reached_and_never_told_to_the_issuer() {
    // RIL-2-01, RIL-2-02
    let site = Site::start().await;
    for (query, fields) in [
        ("?return_to=/%3Fgoodbye%3D1", vec![]),
        ("", vec![("return_to", "/?goodbye=1")]),
        ("?return_to=/elsewhere", vec![("return_to", "/?goodbye=1")]),
    ] {
        let browser = site.signed_in().await;
        let out = browser.submit(&site.at(&format!("/bff/logout{query}")), &fields).await;
        let away = out.location().unwrap();
        assert_eq!(parameter(&away, "post_logout_redirect_uri"), Some(site.at(RETURN)));
        assert_eq!(parameter(&away, "client_id").as_deref(), Some("spa-bff"));
        assert_eq!(parameter(&away, "id_token_hint"), Some(id_token(&site)));
        assert!(!away.as_str().contains("goodbye"), "{away}");
        let end = browser.navigate(away.as_str()).started_by(Initiator::SameOrigin).follow().await;
        assert_eq!((end.status, end.url.as_str()), (200, site.at("/?goodbye=1").as_str()));
        assert!(browser.cookies().names("localhost").is_empty(), "{:?}", browser.cookies().names("localhost"));
    }
    site.stop().await;
}

#[tokio::test]
async fn a_script_says_where_the_page_wants_to_go_too() {
    // RIL-2-02
    let site = Site::start().await;
    let browser = site.signed_in().await;
    let out = browser.fetch(Method::POST, &site.at("/bff/logout?return_to=/%3Fgoodbye")).await;
    assert_eq!(out.json()["redirect"], site.at("/bff/logout"));
    let end = browser.navigate(&site.at("/bff/logout")).started_by(Initiator::SameOrigin).follow().await;
    assert_eq!(end.url.as_str(), site.at("/?goodbye"));
    assert!(browser.cookies().names("localhost").is_empty());
    site.stop().await;
}

#[tokio::test]
async fn nothing_in_a_request_changes_the_address_that_is_registered() {
    // RIL-2-02, BCP-2.1-01
    let site = Site::start().await;
    let evil = "https://e.test/";
    for wanted in [evil, "//e.test", "/\\e.test", "javascript:alert(1)"] {
        let browser = site.signed_in().await;
        let fields = [("post_logout_redirect_uri", evil), ("state", "mine"), ("return_to", wanted)];
        let out = browser.submit(&site.at(&format!("/bff/logout?post_logout_redirect_uri={evil}")), &fields).await;
        let away = out.location().unwrap();
        assert_eq!(parameter(&away, "post_logout_redirect_uri"), Some(site.at(RETURN)), "{wanted}");
        assert!(!away.as_str().contains("e.test") && !away.as_str().contains("mine"), "{away}");
        assert_eq!(browser.follow(away.as_str()).await.url.as_str(), site.at("/"), "{wanted}");
    }
    site.stop().await;
}

#[tokio::test]
async fn a_hint_that_has_expired_is_sent_all_the_same() {
    // RIL-2-01
    let site = Site::start().await;
    let browser = site.signed_in().await;
    let issued = id_token(&site);
    site.issuer.script().edit(Document::TokenResponse, |answer| drop(answer.remove("id_token")));
    for _ in 0..5 {
        site.pass(45 * 60);
        assert_eq!(site.call(&browser).await.status, 200);
    }
    let out = browser.submit(&site.at("/bff/logout"), &[]).await;
    assert_eq!(parameter(&out.location().unwrap(), "id_token_hint"), Some(issued));
    site.stop().await;
}

#[tokio::test]
async fn the_session_is_over_although_the_browser_never_arrives_at_the_issuer() {
    // RIL-2-04
    let site = Site::start().await;
    let (browser, copy) = (site.signed_in().await, Browser::new());
    copy.restore(browser.cookies());
    assert_eq!(browser.submit(&site.at("/bff/logout"), &[]).await.status, 303);
    for browser in [&browser, &copy] {
        assert_eq!(site.call(browser).await.status, 401);
    }
    assert_eq!(site.issuer.script().calls(Endpoint::EndSession), 0);
    site.stop().await;
}

#[tokio::test]
async fn a_return_with_no_state_or_a_wrong_one_leads_to_the_usual_page() {
    // RIL-2-05
    let site = site("after = \"/?bye\"").await;
    let usual = site.at("/?bye");
    let browser = site.signed_in().await;
    let away = browser.submit(&site.at("/bff/logout?return_to=/wanted"), &[]).await.location().unwrap();
    let state = parameter(&away, "state").unwrap();
    let come_back = async |browser: &Browser, query: &str| {
        let request = browser.navigate(&site.at(&format!("{RETURN}{query}"))).started_by(Initiator::CrossSite);
        let page = request.await;
        assert_eq!((page.status, page.header("cache-control")), (303, Some("no-store")), "{query}: {}", page.text());
        page.location().unwrap().to_string()
    };
    for query in
        ["", "?state=", "?state=other", "?state=logout", &format!("?state={state}&state={state}"), "?state=%00&x=1"]
    {
        assert_eq!(come_back(&browser, query).await, usual, "{query}");
    }
    // None of these has used it up, and in another browser it is worth nothing.
    let right = format!("?state={state}");
    assert_eq!(come_back(&Browser::new(), &right).await, usual);
    assert_eq!(site.issuer.script().calls(Endpoint::Revoke), 0);
    assert_eq!(come_back(&browser, &right).await, site.at("/wanted"));
    // Back button, reload: it is used.
    assert_eq!(come_back(&browser, &right).await, usual);

    // It is no login either, whoever tries.
    let browser = site.signed_in().await;
    let away = browser.submit(&site.at("/bff/logout?return_to=/wanted"), &[]).await.location().unwrap();
    let state = parameter(&away, "state").unwrap();
    let redeemed = site.issuer.token_calls();
    let callback = site.at(&format!("/bff/callback?code=c&state={state}"));
    let page = browser.navigate(&callback).started_by(Initiator::CrossSite).await;
    assert_eq!((page.status, page.set_cookies().len(), site.issuer.token_calls()), (200, 0, redeemed));
    assert_eq!(come_back(&browser, &format!("?state={state}")).await, site.at("/wanted"));
    site.stop().await;
}

#[tokio::test]
async fn a_return_is_no_way_to_sign_anybody_out() {
    // RIL-2-05, RIL-2-06
    let site = Site::start().await;
    let browser = site.signed_in().await;
    for initiator in [Initiator::CrossSite, Initiator::SameOrigin, Initiator::Person] {
        browser.navigate(&site.at(&format!("{RETURN}?state=x"))).started_by(initiator).await;
        assert_eq!(site.call(&browser).await.status, 200);
    }
    site.stop().await;
}

#[tokio::test]
async fn an_id_token_of_twelve_kilobytes_goes_in_a_form() {
    // RIL-2-03
    let site = heavy("").await;
    for by_script in [false, true] {
        let browser = site.signed_in().await;
        let hint = id_token(&site);
        assert!(hint.len() > 12_000, "{}", hint.len());
        let page = if by_script {
            let out = browser.fetch(Method::POST, &site.at("/bff/logout?return_to=/%3Fgoodbye")).await;
            assert_eq!(out.json()["redirect"], site.at("/bff/logout"));
            assert!(out.set_cookies().iter().all(|cookie| cookie.len() < 1_000), "it lies in no cookie");
            browser.navigate(&site.at("/bff/logout")).started_by(Initiator::SameOrigin).await
        } else {
            browser.submit(&site.at("/bff/logout?return_to=/%3Fgoodbye"), &[]).await
        };
        assert_eq!((page.status, page.header("cache-control")), (200, Some("no-store")));
        let policy = page.header("content-security-policy").unwrap();
        let form_action = format!("form-action {} 'self'", site.issuer.url());
        assert!(policy.starts_with("default-src 'none'; ") && policy.ends_with(&form_action), "{policy}");
        assert!(!policy.contains("unsafe"), "{policy}");
        let end = press(&browser, &page).await;
        assert_eq!((end.status, end.url.as_str()), (200, site.at("/?goodbye").as_str()), "{}", end.text());
        let asked = asked(&site);
        assert_eq!((asked.method.as_str(), asked.form.get("id_token_hint")), ("POST", Some(hint.as_str())));
        assert!(asked.query.get("id_token_hint").is_none());
        assert_eq!(asked.form.get("post_logout_redirect_uri"), Some(site.at(RETURN).as_str()));
        assert!(browser.cookies().names("localhost").is_empty());
    }
    site.stop().await;
}

#[tokio::test]
async fn an_id_token_that_a_cookie_could_not_keep_is_missing_and_the_logout_works() {
    // RIL-2-03
    let site = Site::start().await;
    let padding = "x".repeat(9_000);
    site.issuer
        .script()
        .edit(Document::IdToken, move |claims| drop(claims.insert("padding".to_owned(), json!(padding))));
    let browser = site.signed_in().await;
    let away = browser.submit(&site.at("/bff/logout"), &[]).await.location().unwrap();
    assert_eq!(parameter(&away, "id_token_hint"), None);
    assert_eq!(parameter(&away, "client_id").as_deref(), Some("spa-bff"));
    assert_eq!(site.call(&browser).await.status, 401);
    site.stop().await;
}

#[tokio::test]
async fn a_form_can_be_had_always_and_the_hint_can_be_left_out() {
    // RIL-2-03
    let site = site("method = \"post\"\nid_token_hint = false").await;
    let browser = site.signed_in().await;
    let (action, fields) = form_of(&browser.submit(&site.at("/bff/logout"), &[]).await);
    assert_eq!(action, format!("{}/end-session", site.issuer.url()));
    let names: Vec<_> = fields.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["client_id", "post_logout_redirect_uri", "state"]);
    site.stop().await;
}

#[tokio::test]
async fn a_server_that_has_no_logout_gets_its_tokens_back_and_the_page_goes_where_it_wanted() {
    // RIL-2-07
    let announce = Announce { end_session: false, ..Announce::default() };
    let issuer = Options { announce, ..Options::default() };
    let site = Site::planned(Plan { issuer, ..Plan::default() }).await;
    let browser = site.signed_in().await;
    let out = browser.submit(&site.at("/bff/logout?return_to=/%3Fgoodbye"), &[]).await;
    assert_eq!((out.status, out.header("location")), (303, Some(site.at("/?goodbye").as_str())));
    assert!(browser.cookies().names("localhost").is_empty());
    // No browser will come back, so nothing is waited for.
    assert_eq!((site.issuer.script().calls(Endpoint::Revoke), site.issuer.families_alive()), (2, 0));
    let browser = site.signed_in().await;
    let out = browser.fetch(Method::POST, &site.at("/bff/logout")).await;
    assert_eq!(out.json()["redirect"], site.at("/"));
    assert_eq!(site.issuer.families_alive(), 0);
    site.stop().await;
}

#[tokio::test]
async fn cognito_and_auth0_are_told_in_their_own_words_and_lead_back_without_a_state() {
    // RIL-2-07
    for (style, path, back) in [("cognito", "/logout", "logout_uri"), ("auth0", "/v2/logout", "returnTo")] {
        let announce = Announce { end_session: false, ..Announce::default() };
        let issuer = Options { announce, ..Options::default() };
        let more = format!("[logout]\nstyle = \"{style}\"");
        let site = Site::planned(Plan { issuer, more, ..Plan::default() }).await;
        let browser = site.signed_in().await;
        let away = browser.submit(&site.at("/bff/logout?return_to=/%3Fgoodbye"), &[]).await.location().unwrap();
        assert!(away.as_str().starts_with(&format!("{}{path}?", site.issuer.url())), "{away}");
        let pairs: Vec<_> = away.query_pairs().into_owned().collect();
        let expected = [("client_id", "spa-bff"), (back, &site.at(RETURN))];
        assert_eq!(pairs, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
        // The browser's own sealed cookie says where; a state that nobody sent is not believed.
        let come_back = async |query: &str| {
            let request = browser.navigate(&site.at(&format!("{RETURN}{query}"))).started_by(Initiator::CrossSite);
            request.await.location().unwrap().to_string()
        };
        assert_eq!(come_back("?state=x").await, site.at("/"));
        assert_eq!(come_back("").await, site.at("/?goodbye"));
        assert_eq!(come_back("").await, site.at("/"));
        super::until_revoked(&site).await;
        site.stop().await;
    }
}

#[tokio::test]
async fn the_issuer_is_told_whom_and_in_which_language_where_that_is_configured() {
    // RIL-2-08
    let site = site("logout_hint = \"login_hint\"").await;
    site.issuer.script().edit(Document::IdToken, |claims| drop(claims.insert("login_hint".to_owned(), json!("O.ada"))));
    let browser = site.signed_in().await;
    let away = browser.submit(&site.at("/bff/logout?ui_locales=de%20en"), &[]).await.location().unwrap();
    assert_eq!(parameter(&away, "logout_hint").as_deref(), Some("O.ada"));
    assert_eq!(parameter(&away, "ui_locales").as_deref(), Some("de en"));
    let user = site.signed_in().await.fetch(Method::GET, &site.at("/bff/user")).await.json();
    assert_eq!(user["claims"].get("login_hint"), None, "it is no claim that scripts see");
    site.stop().await;

    let site = Site::start().await;
    let browser = site.signed_in().await;
    let away = browser.submit(&site.at("/bff/logout"), &[]).await.location().unwrap();
    assert_eq!((parameter(&away, "logout_hint"), parameter(&away, "ui_locales")), (None, None));
    site.stop().await;
}

#[tokio::test]
async fn the_answer_takes_every_cookie_away_and_what_else_is_configured() {
    // RIL-R-01, OWS-12
    let site = site("clear_site_data = [\"cache\", \"storage\"]").await;
    // Large enough for several cookies.
    let padding = "x".repeat(2_000);
    site.issuer
        .script()
        .edit(Document::IdToken, move |claims| drop(claims.insert("padding".to_owned(), json!(padding))));
    let browser = site.signed_in().await;
    let cookies = browser.cookies();
    let held = cookies.names("localhost");
    assert!(held.len() > 1, "{held:?}");
    let out = browser.fetch(Method::POST, &site.at("/bff/logout")).await;
    assert_eq!(out.header("cache-control"), Some("no-store"));
    assert_eq!(out.header("clear-site-data"), Some("\"cache\", \"storage\""));
    for name in held {
        // What notes that a login has just succeeded is a cookie of logins, which are Lax.
        let same_site = if name.contains("-login-") { "Lax" } else { "Strict" };
        let gone = format!(
            "{name}=; HttpOnly; SameSite={same_site}; Path=/; Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT"
        );
        assert!(out.set_cookies().contains(&gone.as_str()), "{:?}", out.set_cookies());
    }
    browser.navigate(&site.at("/bff/logout")).started_by(Initiator::SameOrigin).follow().await;
    assert!(browser.cookies().names("localhost").is_empty());
    // Too long for the cookie in which the way waited, and short enough for an address.
    let (asked, hint) = (asked(&site), id_token(&site));
    assert!((3_000..4_096).contains(&hint.len()), "{}", hint.len());
    assert_eq!((asked.method.as_str(), asked.query.get("id_token_hint")), ("GET", Some(hint.as_str())));
    site.stop().await;
}
