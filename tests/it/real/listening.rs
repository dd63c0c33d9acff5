//! Pages that hear what happens to their session, in a real Chromium: several tabs, a pop-up, the way back.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use fantoccini::Locator;
use fantoccini::wd::WindowHandle;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};
use vestibule::clock::{Clock, ManualClock, SystemClock};

use super::page::Stage;
use crate::support::PATIENCE;
use crate::support::site::Texts;

/// Everything that the page hears is noted in `heard`.
const LISTEN: &str = "const { onSessionEvent, onSessionChange } = await import('/bff/client.js');
     window.heard = [];
     window.changes = [];
     onSessionEvent(({ type, reason, seconds }) => heard.push([type, reason ?? null, seconds ?? null]));
     onSessionChange((user, reason) => changes.push([user?.claims.sub ?? null, reason]));
     return document.visibilityState;";

/// A stage whose time is turned by hand, and a first tab in which Ada has signed in and listens.
async fn signed_in() -> (Stage, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::new(SystemClock::default().now()));
    let stage = Stage::start_with(Arc::clone(&clock) as Arc<_>, Duration::from_secs(300), &Texts::default()).await;
    stage.issuer.register_backchannel_logout(&stage.at("/bff/backchannel-logout"));
    stage.chromium.goto(&stage.at("/")).await;
    stage.sign_in().await;
    stage.chromium.script(LISTEN).await;
    (stage, clock)
}

/// Waits until `expression` holds in the page.
async fn until(stage: &Stage, expression: &str) {
    let deadline = Instant::now() + PATIENCE;
    while stage.chromium.script(&format!("return Boolean({expression})")).await != json!(true) {
        let heard = stage.chromium.script("return [window.heard, window.changes, location.href]").await;
        assert!(Instant::now() < deadline, "not {expression}, but {heard}");
        sleep(Duration::from_millis(50)).await;
    }
}

async fn switch(stage: &Stage, window: &WindowHandle) {
    stage.chromium.client().switch_to_window(window.clone()).await.unwrap();
}

/// A second tab of the same app, which listens too. The first and the second.
async fn second_tab(stage: &Stage) -> [WindowHandle; 2] {
    let client = stage.chromium.client();
    let first = client.window().await.unwrap();
    let second = client.new_window(true).await.unwrap().handle;
    switch(stage, &second).await;
    stage.chromium.goto(&stage.at("/")).await;
    stage.shows("#who", "Ada").await;
    stage.chromium.script(LISTEN).await;
    [first, second]
}

/// A field that holds what nobody wants to type again, and a button that signs in in a pop-up.
async fn form(stage: &Stage) {
    stage
        .chromium
        .script(
            "const { login } = await import('/bff/client.js');
             document.body.innerHTML = '<input id=draft autofocus><button id=again></button>';
             window.options = { popup: true };
             document.getElementById('again').onclick = async () => {
                 window.result = await login(window.options).then((user) => user.claims.sub, String);
             };",
        )
        .await;
    let field = stage.chromium.client().find(Locator::Css("#draft")).await.unwrap();
    field.send_keys("a long letter").await.unwrap();
}

async fn draft(stage: &Stage) -> Value {
    stage.chromium.script("return document.getElementById('draft').value").await
}

/// Waits until there are so many windows.
async fn windows(stage: &Stage, count: usize) -> HashSet<String> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let windows = stage.chromium.client().windows().await.unwrap();
        if windows.len() == count {
            return windows.into_iter().map(String::from).collect();
        }
        assert!(Instant::now() < deadline, "{} windows, and not {count}", windows.len());
        sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs chromium and chromedriver: run ./tests/run"]
async fn two_tabs_hear_of_every_warning_and_a_logout_in_one_reaches_the_other_with_its_reason() {
    let (stage, clock) = signed_in().await;
    let [first, second] = second_tab(&stage).await;
    let warned =
        "heard.length && heard.at(-1)[0] === 'expiring' && heard.at(-1)[1] === 'idle' && heard.at(-1)[2] <= 60";
    clock.advance(Duration::from_secs(3600 - 50));
    for tab in [&first, &second] {
        switch(&stage, tab).await;
        until(&stage, warned).await;
    }
    // A call in one of them is a use, and both hear that the end has moved.
    stage.chromium.script("await (await import('/bff/client.js')).fetch('/api/orders')").await;
    for tab in [&first, &second] {
        switch(&stage, tab).await;
        until(&stage, "['session', 'extended'].includes(heard.at(-1)[0])").await;
    }

    switch(&stage, &first).await;
    stage.click("#sign-out").await;
    // The other hears it while nobody looks at it: what it asks itself, once the cookie is gone, has no reason.
    stage.shows("#who", "Nobody").await;
    switch(&stage, &second).await;
    until(&stage, "changes.length").await;
    let heard = stage.chromium.script("return [changes, heard.at(-1)]").await;
    assert_eq!(heard, json!([[[null, "logout"]], ["ended", "logout", null]]));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs chromium and chromedriver: run ./tests/run"]
async fn the_issuers_logout_reaches_the_open_page_and_nothing_goes_in_circles_afterwards() {
    // BCL-2.7-01
    let (stage, _clock) = signed_in().await;
    // Beside the module's own, a plain EventSource of the page, which connects again by itself.
    stage
        .chromium
        .script(
            "window.states = [];
             window.raw = new EventSource('/bff/session');
             raw.onerror = () => states.push(raw.readyState);
             await new Promise((go) => raw.addEventListener('session', go));",
        )
        .await;
    let sid = stage.issuer.newest_sid().unwrap();
    let token = stage.issuer.sign("logout+jwt", &stage.issuer.logout_claims(Some("ada"), Some(&sid))).unwrap();
    assert_eq!(stage.issuer.tell(&token).await.unwrap().status, 200);
    until(&stage, "changes.length").await;
    // Whether the module had connected before or after it was listened to is left open.
    let heard = stage.chromium.script("return [changes, heard.filter(([type]) => type !== 'session')]").await;
    assert_eq!(heard, json!([[[null, "issuer_logout"]], [["ended", "issuer_logout", null]]]));
    // The stream's end is an error, the 401 of the next try is final.
    until(&stage, "raw.readyState === EventSource.CLOSED").await;
    assert_eq!(stage.chromium.script("return states").await, json!([0, 2]));
    // No request is made any more: the browser's own list of them stands still, for longer than anybody waits to retry.
    let settled = "const count = () => performance.getEntriesByType('resource').filter(({ name }) => /bff.(session|user)/.test(name)).length;
         let last = count();
         for (let quiet = 0; quiet < 80; quiet++) {
             await new Promise((go) => setTimeout(go, 100));
             if (count() !== last) [quiet, last] = [0, count()];
         }
         return last;";
    let requests = stage.chromium.script(settled).await;
    assert!(requests.as_u64().is_some_and(|count| count < 20), "{requests}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs chromium and chromedriver: run ./tests/run"]
async fn a_login_in_a_pop_up_loses_nothing_that_was_typed() {
    // BBA-6.3-02, CK-06
    let (stage, clock) = signed_in().await;
    let client = stage.chromium.client();
    form(&stage).await;
    clock.advance(Duration::from_secs(3601));
    until(&stage, "changes.length").await;
    assert_eq!(stage.chromium.script("return changes").await, json!([[null, "idle"]]));

    // The issuer still knows Ada, so nothing has to be typed there either.
    stage.click("#again").await;
    until(&stage, "window.result").await;
    assert_eq!(
        stage.chromium.script("return [result, changes]").await,
        json!(["ada", [[null, "idle"], ["ada", null]]])
    );
    windows(&stage, 1).await;
    assert_eq!(draft(&stage).await, "a long letter");
    assert_eq!(client.current_url().await.unwrap().as_str(), stage.at("/"));
    let answer = "return (await (await import('/bff/client.js')).fetch('/api/orders')).status";
    assert_eq!(stage.chromium.script(answer).await, json!(200));

    // Somebody else, while the session lives: the page is told who it is now.
    stage.chromium.script("window.result = null; window.options = { popup: true, prompt: 'login' };").await;
    let own = client.window().await.unwrap();
    stage.click("#again").await;
    let popup = windows(&stage, 2).await.into_iter().find(|it| *it != String::from(own.clone())).unwrap();
    switch(&stage, &popup.try_into().unwrap()).await;
    stage.click("button[value=grace]").await;
    windows(&stage, 1).await;
    switch(&stage, &own).await;
    until(&stage, "window.result").await;
    assert_eq!(stage.chromium.script("return [result, changes.at(-1)]").await, json!(["grace", ["grace", null]]));
    assert_eq!(draft(&stage).await, "a long letter");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs chromium and chromedriver: run ./tests/run"]
async fn a_page_from_the_back_forward_cache_asks_anew() {
    let (stage, _clock) = signed_in().await;
    stage
        .chromium
        .script("window.kept = true; addEventListener('pageshow', ({ persisted }) => (window.persisted = persisted));")
        .await;
    stage.chromium.goto(&stage.at("/icon.svg")).await;
    let sid = stage.issuer.newest_sid().unwrap();
    let token = stage.issuer.sign("logout+jwt", &stage.issuer.logout_claims(Some("ada"), Some(&sid))).unwrap();
    assert_eq!(stage.issuer.tell(&token).await.unwrap().status, 200);
    stage.chromium.client().back().await.unwrap();
    stage.shows("#who", "Nobody").await;
    // An open stream or a held lock would have kept the page out of the cache.
    assert_eq!(stage.chromium.script("return [window.kept, window.persisted]").await, json!([true, true]));
    assert_eq!(stage.chromium.script("return changes").await, json!([[null, "issuer_logout"]]));
}
