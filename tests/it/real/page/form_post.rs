//! Answers that come in a form, in a real Chromium over TLS: which cookies travel with a post from another site is the
//! browser's to decide.

use fantoccini::Locator;
use fantoccini::cookies::Cookie;
use serde_json::json;

use super::Stage;
use crate::issuer::Endpoint;
use crate::support::site::Texts;

/// A page that needs a session, and shows what the API says of it.
const PAGE: &str = "[[route]]\npath = \"/orders\"\nupstream = \"{api}\"\nauth = \"page\"";

/// The cookies of the site as the browser has them, by name and by when it sends them to a page of another site.
async fn cookies(stage: &Stage) -> Vec<(String, String)> {
    let all = stage.chromium.client().get_all_cookies().await.unwrap();
    let same_site = |cookie: &Cookie<'_>| cookie.same_site().map(|it| it.to_string()).unwrap_or_default();
    all.iter().map(|cookie| (cookie.name().to_owned(), same_site(cookie))).collect()
}

/// Signs in with an answer in a form, from the app and from a page that needs a session, and works on.
async fn signs_in(same_site: &str) {
    let session = format!("same_site = \"{}\"", same_site.to_lowercase());
    let texts = Texts { client: "response_mode = \"form_post\"", session: &session, more: PAGE, ..Texts::default() };
    let stage = Stage::behind_tls(&texts).await;
    stage.chromium.goto(&stage.at("/")).await;
    stage.shows("#who", "Nobody").await;
    stage.click("#sign-in").await;
    // The browser shows the cookies of the page that it is on, and that is the issuer's: what was sent says what the
    // login's own is like.
    stage.chromium.client().wait().for_element(Locator::Css("button[value=ada]")).await.unwrap();
    let sent = String::from_utf8_lossy(&stage.recorder.received()).into_owned();
    let login = sent.lines().find(|line| line.contains("SameSite=None")).expect("the login has a cookie");
    assert!(login.contains("; Secure; ") && login.contains("; HttpOnly"), "{login}");
    stage.click("button[value=ada]").await;
    stage.click("button.loud").await;
    stage.shows("#who", "Ada").await;
    assert_eq!(stage.address().await, stage.at("/"));
    let asked = stage.issuer.script().requests_to(Endpoint::Authorize).remove(0);
    assert_eq!(asked.query.get("response_mode"), Some("form_post"));
    assert_eq!((stage.issuer.token_calls(), stage.issuer.families_alive()), (1, 1));
    // The session's cookie is not for other sites. That of the login is kept for a minute, for who goes back and sends the
    // form once more.
    let (logins, held): (Vec<_>, Vec<_>) =
        cookies(&stage).await.into_iter().partition(|(name, _)| name.starts_with("__Host-Http-vestibule-login-"));
    assert_eq!(held, [("__Host-Http-vestibule".to_owned(), same_site.to_owned())]);
    assert!(logins.iter().all(|(_, when)| when == "None"), "{logins:?}");
    stage.click("#call").await;
    stage.shows("#call-summary", "200: the API knows").await;
    let out = stage
        .chromium
        .script("return (await fetch('/bff/logout', { method: 'POST', headers: { 'x-csrf': '1' } })).status");
    assert_eq!(out.await, json!(200));

    // The page is asked for first, and shown in the end, although the answer was sent by another site.
    stage.chromium.goto(&stage.at("/orders")).await;
    // The issuer still knows who this is and asks nothing; its answer waits for a click.
    stage.click("button.loud").await;
    stage.shows("body", "\"subject\"").await;
    assert_eq!(stage.address().await, stage.at("/orders"));
    stage.assert_no_code_in_the_history().await;
}

impl Stage {
    /// No code was ever in an address, where histories and logs would keep it (OAuth 2.0 Form Post Response Mode).
    async fn assert_no_code_in_the_history(&self) {
        let received = String::from_utf8_lossy(&self.recorder.received()).into_owned();
        for code in self.issuer.canaries().iter().filter(|canary| canary.starts_with("code-")) {
            assert!(!received.contains(code.as_str()), "{code}");
        }
        let address = self.address().await;
        assert!(!address.contains("code"), "{address}");
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs chromium and chromedriver: run ./tests/run"]
async fn a_form_from_the_issuer_signs_in_where_the_session_cookie_is_strict() {
    // FP-01, FP-03, CK-06
    signs_in("Strict").await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs chromium and chromedriver: run ./tests/run"]
async fn a_form_from_the_issuer_signs_in_where_the_session_cookie_is_lax() {
    // FP-01, FP-03, CK-06
    signs_in("Lax").await;
}
