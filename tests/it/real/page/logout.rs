//! Logouts in a real Chromium: what its policies allow decides whether they work.

use std::time::Duration;

use axum::Router;
use axum::response::Html;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::Stage;
use crate::issuer::{Document, Endpoint};
use crate::support::PATIENCE;
use crate::support::site::Texts;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs chromium and chromedriver: run ./tests/run"]
async fn an_id_token_of_twelve_kilobytes_reaches_the_issuer_in_a_form_that_sends_itself() {
    // RIL-2-03, RIL-2-01
    let stage = Stage::with(&Texts { session: "tokens = \"ledger\"", ..Texts::default() }).await;
    let padding = "x".repeat(9_000);
    stage.issuer.script().edit(Document::IdToken, move |claims| drop(claims.insert("padding".into(), json!(padding))));
    stage.chromium.goto(&stage.at("/")).await;
    stage.sign_in().await;
    stage.click("#sign-out").await;
    timeout(PATIENCE, stage.issuer.script().until_calls(Endpoint::EndSession, 1)).await.unwrap();
    stage.shows("#who", "Nobody").await;
    assert_eq!(stage.address().await, stage.at("/"), "it has come back by redirects that follow the form");
    let asked = stage.issuer.script().requests_to(Endpoint::EndSession).pop().unwrap();
    let hint = asked.form.get("id_token_hint").unwrap();
    assert_eq!((asked.method.as_str(), hint.len() > 12_000), ("POST", true));
    let origin = asked.header(http::header::ORIGIN);
    assert_eq!(origin, Some(stage.url.as_str()), "a server that looks at it is told the truth");
    assert_eq!(stage.chromium.client().get_all_cookies().await.unwrap().len(), 0);
    let revoked = async {
        while stage.issuer.families_alive() > 0 {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, revoked).await.unwrap();
}

/// Serves one page, on another port of the issuer's host: to browsers that is another origin.
async fn elsewhere(html: String) -> (JoinSet<()>, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let mut server = JoinSet::new();
    let router = Router::new().fallback(move || async move { Html(html) });
    server.spawn(async move { axum::serve(listener, router).await.unwrap() });
    (server, url)
}

/// The title of the document in the first frame of the page. A document that the browser refuses to show has another.
async fn framed_title(stage: &Stage) -> String {
    let client = stage.chromium.client();
    let found = async {
        loop {
            if client.enter_frame(0).await.is_ok() {
                let state =
                    client.execute("return [document.readyState, location.href, document.title]", Vec::new()).await;
                client.enter_parent_frame().await.unwrap();
                match state {
                    Ok(state) if state[0] == "complete" && state[1] != "about:blank" => {
                        return state[2].as_str().unwrap_or_default().to_owned();
                    }
                    // A page of errors may let nobody look into it.
                    Err(_) => return "an error".to_owned(),
                    Ok(_) => {}
                }
            }
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, found).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs chromium and chromedriver: run ./tests/run"]
async fn a_frame_on_the_issuers_page_ends_a_session_whose_cookie_it_does_not_get() {
    // FCL-2-02, FCL-2-03
    let texts =
        Texts { session: "same_site = \"strict\"", more: "[logout]\nfront_channel = \"on\"", ..Texts::default() };
    let stage = Stage::with(&texts).await;
    stage.issuer.register_frontchannel_logout(&stage.at("/bff/frontchannel-logout"));
    stage.chromium.goto(&stage.at("/")).await;
    stage.sign_in().await;
    let sid = stage.issuer.newest_sid().unwrap();

    // A page of another origin may ask for it, but the browser does not show it there.
    let ours = format!("{}?iss={}&sid=unknown", stage.at("/bff/frontchannel-logout"), stage.issuer.url());
    let (_server, other) = elsewhere(format!("<!doctype html><iframe src=\"{ours}\"></iframe>")).await;
    stage.chromium.goto(&other).await;
    assert_ne!(framed_title(&stage).await, "Logout");
    stage.chromium.goto(&stage.at("/")).await;
    stage.shows("#who", "Ada").await;

    // The person signs out at the issuer, by way of its own page, without us.
    stage
        .chromium
        .goto(&format!(
            "{}/end-session?post_logout_redirect_uri={}",
            stage.issuer.url(),
            stage.at("/bff/logout/return")
        ))
        .await;
    stage.click("button[value=yes]").await;
    stage.shows("h1", "You are signed out").await;
    assert_eq!(framed_title(&stage).await, "Logout");
    let received = String::from_utf8_lossy(&stage.recorder.received()).into_owned();
    assert_eq!(received.matches("<title>Logout</title>").count(), 2, "{sid}");

    // The cookie is still in the browser, and worth nothing.
    stage.chromium.goto(&stage.at("/")).await;
    stage.shows("#who", "Nobody").await;
    let calls = stage.api.calls();
    let left = stage
        .chromium
        .script("const it = await fetch('/api/orders'); return [it.status, (await it.json()).reason]")
        .await;
    assert_eq!((left, stage.api.calls()), (json!([401, "issuer_logout"]), calls));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs chromium and chromedriver: run ./tests/run"]
async fn no_image_link_frame_or_form_of_another_site_signs_anybody_out() {
    // RIL-2-06, FCL-2-05
    let texts = Texts { session: "same_site = \"lax\"", more: "[logout]\nfront_channel = \"on\"", ..Texts::default() };
    let stage = Stage::with(&texts).await;
    stage.chromium.goto(&stage.at("/")).await;
    stage.sign_in().await;
    let (out, back, framed) =
        (stage.at("/bff/logout"), stage.at("/bff/logout/return?state=x"), stage.at("/bff/frontchannel-logout"));
    let tricks = [
        format!("<img src=\"{out}\"><img src=\"{back}\"><img src=\"{framed}\"><h1>done</h1>"),
        format!("<iframe src=\"{out}\"></iframe><iframe src=\"{framed}\"></iframe><h1>done</h1>"),
        format!("<form method=post action=\"{out}\"></form><script>document.forms[0].submit()</script>"),
        format!("<script>fetch('{out}', {{ method: 'POST', mode: 'no-cors', credentials: 'include' }})</script>"),
        format!("<script>location.assign('{out}')</script>"),
        format!("<script>location.assign('{back}')</script>"),
    ];
    for trick in tricks {
        let answered = |received: &[u8]| String::from_utf8_lossy(received).matches("\r\ndate: ").count();
        let before = answered(&stage.recorder.received().to_ascii_lowercase());
        let (_server, other) = elsewhere(format!("<!doctype html>{trick}")).await;
        stage.chromium.goto(&other).await;
        let arrived = async {
            while answered(&stage.recorder.received().to_ascii_lowercase()) == before {
                sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(PATIENCE, arrived).await.unwrap_or_else(|_| panic!("nothing arrives of {trick}"));
        stage.chromium.goto(&stage.at("/")).await;
        stage.shows("#who", "Ada").await;
        let still =
            stage.chromium.script("return (await fetch('/api/orders', { headers: { 'x-csrf': '1' } })).status").await;
        assert_eq!(still, json!(200), "{trick}");
    }
    assert_eq!(stage.issuer.script().calls(Endpoint::EndSession) + stage.issuer.script().calls(Endpoint::Revoke), 0);
}
