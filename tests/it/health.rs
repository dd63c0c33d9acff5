//! What a balancer is told: whether the process lives, and whether it is ready.

use serde_json::{Value, json};

use crate::support::plain_client;
use crate::support::site::{Plan, Site};

const ADMIN: &str = "[admin]\nlisten = \"127.0.0.1:0\"";

async fn get(site: &Site, path: &str) -> (u16, Value) {
    let url = format!("http://{}{path}", site.admin().unwrap());
    let response = plain_client().get(url).send().await.unwrap();
    let status = response.status().as_u16();
    (status, serde_json::from_slice(&response.bytes().await.unwrap()).unwrap())
}

#[tokio::test]
async fn who_can_serve_is_ready_and_says_what_it_stands_on() {
    let site = Site::planned(Plan { more: ADMIN.to_owned(), ..Plan::default() }).await;
    site.signed_in().await;
    assert_eq!(get(&site, "/health/live").await, (200, json!({ "live": true })));
    let ready = json!({ "ready": true, "ledger": "ok", "issuer": "ok" });
    assert_eq!(get(&site, "/health/ready").await, (200, ready.clone()));
    // An issuer that is down after it was heard of is no reason to send people elsewhere: it is down there too.
    site.issuer.pause().await;
    assert_eq!(get(&site, "/health/ready").await, (200, ready));
    site.stop().await;
}

#[tokio::test]
async fn health_is_all_that_is_told_and_it_is_told_nowhere_else() {
    let site = Site::planned(Plan { more: ADMIN.to_owned(), ..Plan::default() }).await;
    assert_eq!(get(&site, "/").await.0, 404);
    assert_eq!(get(&site, "/bff/user").await.0, 404);
    let address = site.admin().unwrap();
    let posted = plain_client().post(format!("http://{address}/health/ready")).send().await.unwrap();
    assert_eq!((posted.status().as_u16(), posted.headers()["allow"].to_str().unwrap()), (405, "GET, HEAD"));
    let elsewhere = plain_client().get(site.at("/health/live")).send().await.unwrap();
    // There the path is the app's.
    assert_eq!(elsewhere.headers()["content-type"], "text/html; charset=utf-8");
    site.stop().await;
}
