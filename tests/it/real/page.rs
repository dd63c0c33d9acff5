//! The demo's page in a real Chromium, against the demo's issuer and API, in real time. Everything that the browser gets
//! from Vestibule is recorded.

mod form_post;
mod logout;

use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use fantoccini::Locator;
use serde_json::json;
use tokio::time::{sleep, timeout};
use vestibule::clock::{Clock, SystemClock};

use crate::api::{Api, Guard};
use crate::issuer::{Endpoint, Issuer, Login, Options};
use crate::support::PATIENCE;
use crate::support::canary::form_found;
use crate::support::chromium::Chromium;
use crate::support::live::Live;
use crate::support::recorder::Recorder;
use crate::support::site::{Ground, Texts, Vestibule};
use crate::support::tls_front::TlsFront;

/// The running parts.
pub(super) struct Stage {
    url: String,
    pub(super) issuer: Issuer,
    api: Api,
    recorder: Recorder,
    _front: Option<TlsFront>,
    pub(super) chromium: Chromium,
    _vestibule: Vestibule,
}

impl Stage {
    async fn start() -> Self {
        Self::with(&Texts::default()).await
    }

    /// The same with lines put into the configuration.
    async fn with(texts: &Texts<'_>) -> Self {
        Self::start_with(Arc::new(SystemClock::default()), Duration::from_secs(5), texts).await
    }

    /// The same by https: TLS ends in front of Vestibule.
    async fn behind_tls(texts: &Texts<'_>) -> Self {
        Self::planned(Arc::new(SystemClock::default()), Duration::from_secs(5), texts, true).await
    }

    /// The stage at the time of `clock`, where access tokens live for so long.
    pub(super) async fn start_with(clock: Arc<dyn Clock>, access_token_ttl: Duration, texts: &Texts<'_>) -> Self {
        Self::planned(clock, access_token_ttl, texts, false).await
    }

    async fn planned(
        clock: Arc<dyn Clock>,
        access_token_ttl: Duration,
        texts: &Texts<'_>,
        is_behind_tls: bool,
    ) -> Self {
        let chromium = Chromium::start().await;
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let recorder = Recorder::start(listener.local_addr().unwrap()).await;
        // To the browser the issuer is another site, as in real life: it is 127.0.0.1.
        let front = if is_behind_tls { Some(TlsFront::start(recorder.address()).await) } else { None };
        let url = match &front {
            Some(front) => format!("https://localhost:{}", front.address().port()),
            None => format!("http://localhost:{}", recorder.address().port()),
        };
        let options = Options {
            redirect_uris: vec![format!("{url}/bff/callback")],
            post_logout_redirect_uris: vec![format!("{url}/bff/logout/return")],
            access_token_ttl,
            clock: Arc::clone(&clock),
            login: Login::Page,
            ..Options::default()
        };
        let client_secret = options.client_secret.expose().clone();
        let issuer = Issuer::start(options).await.unwrap();
        let api = Api::start(0, Guard::Bearer(issuer.introspection())).await.unwrap();
        let ground = Ground {
            listener,
            url: &url,
            issuer: issuer.url(),
            client_id: "spa-bff",
            client_secret: &client_secret,
            api: &api.url(),
            files: concat!(env!("CARGO_MANIFEST_DIR"), "/examples/demo/spa"),
            clock,
        };
        let vestibule = ground.build(texts).await;
        Self { url, issuer, api, recorder, _front: front, chromium, _vestibule: vestibule }
    }

    pub(super) fn at(&self, path: &str) -> String {
        format!("{}{path}", self.url)
    }

    /// Signs in as a person does: a button, a form on another site, and back.
    pub(super) async fn sign_in(&self) {
        self.click("#sign-in").await;
        self.click("button[value=ada]").await;
        self.shows("#who", "Ada").await;
        assert_eq!(self.address().await, self.at("/"), "no code and no state stay in the address bar");
    }

    pub(super) async fn click(&self, css: &str) {
        let appears = async {
            loop {
                // Hidden until the page knows who is there, and gone again when another page is on its way.
                if let Ok(element) = self.chromium.client().find(Locator::Css(css)).await
                    && element.is_displayed().await.unwrap_or(false)
                    && element.click().await.is_ok()
                {
                    break;
                }
                sleep(Duration::from_millis(20)).await;
            }
        };
        let clicked = timeout(PATIENCE, appears).await;
        assert!(clicked.is_ok(), "no {css} to click at {}", self.address().await);
    }

    /// Waits until an element's text contains `wanted`.
    pub(super) async fn shows(&self, css: &str, wanted: &str) {
        let mut shown = String::new();
        let appears = async {
            while !shown.contains(wanted) {
                if let Ok(element) = self.chromium.client().find(Locator::Css(css)).await {
                    shown = element.text().await.unwrap_or_default();
                }
                sleep(Duration::from_millis(20)).await;
            }
        };
        let found = timeout(PATIENCE, appears).await;
        assert!(found.is_ok(), "{css} shows {shown:?} and not {wanted:?} at {}", self.address().await);
    }

    async fn address(&self) -> String {
        self.chromium.client().current_url().await.unwrap().into()
    }

    /// No secret of the issuer but those that `allowed` names is in what the browser got from Vestibule, and none at all
    /// where a script can look (BBA-6.1-03).
    async fn assert_no_secret(&self, allowed: impl Fn(&str) -> bool) {
        let within_reach = self
            .chromium
            .script(
                "const { look } = await import('/witness.js');
                 const places = (await look()).filter(({ name }) => name !== 'Answers to this page');
                 return places.map(({ text }) => text).join('\\n')
                     + JSON.stringify([location.href, document.cookie, localStorage, sessionStorage, history.state])
                     + document.documentElement.outerHTML;",
            )
            .await;
        let within_reach = within_reach.as_str().unwrap();
        assert!(within_reach.contains(&self.url), "it is this page that was searched");
        let canaries = self.issuer.canaries();
        assert!(canaries.len() > 5, "there are secrets to look for");
        for canary in &canaries {
            assert_eq!(form_found(within_reach.as_bytes(), canary), None, "within reach of scripts: {canary}");
            if !allowed(canary) {
                assert_eq!(self.recorder.received_contains(canary), None, "received by the browser: {canary}");
            }
        }
    }
}

/// What the browser is told at logout: `id_token_hint` (OpenID Connect RP-Initiated Logout section 2).
fn is_id_token(canary: &str) -> bool {
    canary.starts_with("eyJ")
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs chromium and chromedriver: run ./tests/run"]
async fn a_person_signs_in_works_on_and_signs_out_without_ever_holding_a_token() {
    // BBA-6.1-03, BBA-6.1-07, BBA-6.1-18, BBA-6.1-36, BCP-4.14-02, CK-06
    let stage = Stage::start().await;
    let client = stage.chromium.client();
    stage.chromium.goto(&stage.at("/")).await;
    stage.shows("#who", "Nobody").await;
    stage.sign_in().await;
    stage.click("#call").await;
    stage.shows("#call-summary", "200: the API knows").await;

    // A call every tenth of a second over two expiries: nobody on the page notices.
    let called = stage.chromium.script(
        "const { fetch: call } = await import('/bff/client.js');
         const generation = async () => (await (await fetch('/bff/session', { headers: { 'x-csrf': '1' } })).json()).generation;
         const statuses = new Set();
         for (const goal = await generation() + 2; await generation() < goal;) {
             statuses.add((await call('/api/orders')).status);
             await new Promise((go) => setTimeout(go, 100));
         }
         return [...statuses];",
    );
    assert_eq!(timeout(PATIENCE, called).await.unwrap(), json!([200]));
    // And silence until the token is over, then twenty calls at once. What is told as no second may still be nearly one.
    let silence = stage.chromium.script(
        "const wait = (time) => new Promise((go) => setTimeout(go, time));
         const left = async () => (await (await fetch('/bff/session', { headers: { 'x-csrf': '1' } })).json()).token_expires_in;
         while (await left() > 0) await wait(50);
         await wait(1000);",
    );
    timeout(PATIENCE, silence).await.unwrap();
    let refreshes = stage.issuer.refreshes();
    assert!(refreshes >= 2, "{refreshes}");
    stage.issuer.set_access_token_ttl(Duration::from_secs(300));
    stage.click("#burst").await;
    stage.shows("#burst-summary", "200 × 20").await;
    assert_eq!((stage.issuer.refreshes(), stage.issuer.reuses()), (refreshes + 1, 0));

    // Another tab is signed in without asking, and stays so when it is loaded again.
    let first = client.window().await.unwrap();
    let second = client.new_window(true).await.unwrap().handle;
    client.switch_to_window(second.clone()).await.unwrap();
    stage.chromium.goto(&stage.at("/")).await;
    stage.shows("#who", "Ada").await;
    client.refresh().await.unwrap();
    stage.shows("#who", "Ada").await;
    stage.assert_no_secret(|_| false).await;

    client.switch_to_window(first).await.unwrap();
    stage.click("#sign-out").await;
    stage.shows("#who", "Nobody").await;
    assert_eq!(stage.address().await, stage.at("/"));
    // The tokens are revoked once the browser is back.
    let revoked = async {
        while stage.issuer.families_alive() > 0 {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, revoked).await.unwrap();
    client.switch_to_window(second).await.unwrap();
    stage.shows("#who", "Nobody").await;
    assert_eq!(client.get_all_cookies().await.unwrap().len(), 0);
    let calls = stage.api.calls();
    let left = stage.chromium.script("return [document.cookie, (await fetch('/api/orders')).status]").await;
    assert_eq!((left, stage.api.calls()), (json!(["", 401]), calls));
    stage.assert_no_secret(is_id_token).await;
    let received = String::from_utf8_lossy(&stage.recorder.received()).into_owned();
    assert_eq!(received.matches("id_token_hint=").count(), 1, "told once, on the way to the issuer");
    assert_eq!(stage.issuer.reuses(), 0);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs chromium and chromedriver: run ./tests/run"]
async fn going_back_to_a_finished_login_leads_into_the_app() {
    // BBA-6.1-07: the callback is cross-site here, so the session's Strict cookie does not come with it.
    let stage = Stage::start().await;
    stage.chromium.goto(&stage.at("/")).await;
    stage.sign_in().await;
    let redeemed = stage.issuer.token_calls();

    // The page before the app is the issuer's, which knows the person by now and sends the browser on, with another code
    // for a login that is over.
    let asked = stage.issuer.script().calls(Endpoint::Authorize);
    stage.chromium.client().back().await.unwrap();
    stage.issuer.script().until_calls(Endpoint::Authorize, asked + 1).await;
    stage.shows("#who", "Ada").await;
    assert_eq!(stage.address().await, stage.at("/"));

    // The same callback once more, as a bookmark.
    let asked = stage.issuer.script().requests_to(Endpoint::Authorize).pop().unwrap();
    let state = asked.query.get("state").unwrap().to_owned();
    let code = stage.issuer.canaries().into_iter().find(|canary| canary.starts_with("code-")).unwrap();
    let mut callback: url::Url = stage.at("/bff/callback").parse().unwrap();
    callback.query_pairs_mut().extend_pairs([("code", &*code), ("state", &state), ("iss", stage.issuer.url())]);
    stage.chromium.goto(callback.as_str()).await;
    stage.shows("#who", "Ada").await;
    assert_eq!(stage.address().await, stage.at("/"));

    assert_eq!(stage.issuer.token_calls(), redeemed, "nothing was redeemed again");
    assert_eq!(stage.issuer.families_alive(), 1);
    stage.assert_no_secret(|_| false).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs chromium and chromedriver: run ./tests/run"]
async fn a_page_is_told_why_its_web_socket_is_over_and_its_event_source_stops() {
    let live = Live::start().await;
    let stage = Stage::with(&Texts { more: &live.route("/live/", "api"), ..Texts::default() }).await;
    stage.chromium.goto(&stage.at("/")).await;
    stage.sign_in().await;
    let told = stage.chromium.script(
        "const socket = new WebSocket(`ws://${location.host}/live/echo`);
         const happens = (target, what) => new Promise((go) => target.addEventListener(what, go, { once: true }));
         await happens(socket, 'open');
         socket.send('hello');
         const echoed = (await happens(socket, 'message')).data;
         const source = new EventSource('/live/events');
         await happens(source, 'message');
         const closed = happens(socket, 'close');
         const out = await fetch('/bff/logout', { method: 'POST', headers: { 'x-csrf': '1' } });
         const { code, reason, wasClean } = await closed;
         // It asks once more by itself, and is told that there is no session any more.
         while (source.readyState !== EventSource.CLOSED) await new Promise((go) => setTimeout(go, 50));
         return [echoed, out.status, code, reason, wasClean];",
    );
    let told = timeout(PATIENCE, told).await.unwrap();
    assert_eq!(told, json!(["hello", 200, 4401, "logout", true]));
    live.until_open(0).await;
}
