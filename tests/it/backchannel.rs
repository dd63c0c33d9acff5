//! The issuer says that a session is over (OpenID Connect Back-Channel Logout 1.0): what is refused, and how.

use std::net::TcpListener;
use std::sync::Arc;

use base64_simd::URL_SAFE_NO_PAD;
use http::Method;
use serde_json::{Map, Value, json};
use tokio::time::{Duration, Instant, sleep};
use url::form_urlencoded;
use vestibule::clock::SystemClock;

use crate::issuer::{Endpoint, Issuer, Options, Told};
use crate::support::browser::Initiator;
use crate::support::raw::{Answer, Connection, exchange};
use crate::support::site::{Ground, Plan, Site, Texts};
use crate::support::{PATIENCE, plain_client};

const PATH: &str = "/bff/backchannel-logout";
const FORM: &str = "application/x-www-form-urlencoded";

/// A site whose issuer knows where to send logout tokens.
async fn site() -> Site {
    let site = Site::start().await;
    site.issuer.register_backchannel_logout(&site.at(PATH));
    site
}

/// A form with this token.
fn form(token: &str) -> String {
    form_urlencoded::Serializer::new(String::new()).append_pair("logout_token", token).finish()
}

/// A request with this body and these fields, framed by its length.
fn post(fields: &str, body: &str) -> String {
    format!("POST {PATH} HTTP/1.1\r\nHost: localhost\r\n{fields}Content-Length: {}\r\n\r\n{body}", body.len())
}

/// The same as the issuer would send it.
fn form_post(body: &str) -> String {
    post(&format!("Content-Type: {FORM}\r\n"), body)
}

async fn send(site: &Site, request: &str) -> Answer {
    exchange(site.address, request.as_bytes()).await.unwrap()
}

/// A good token, with the given changes.
fn token(site: &Site, typ: &str, change: impl FnOnce(&mut Map<String, Value>)) -> String {
    let mut claims = site.issuer.logout_claims(Some("ada"), Some("sid-1"));
    change(&mut claims);
    site.issuer.sign(typ, &claims).unwrap()
}

/// It is exactly 400, with a reason that the issuer can log.
fn is_refused(answer: &Answer, reason: &str) {
    let text = String::from_utf8_lossy(&answer.body);
    assert_eq!((answer.status, answer.header("cache-control")), (400, Some("no-store")), "{reason}: {text}");
    assert_eq!(answer.header("content-type"), Some("application/json"), "{reason}");
    let body: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(body["error"], "invalid_request", "{reason}: {text}");
    assert!(body["error_description"].as_str().unwrap().contains(reason), "{reason}: {text}");
    assert_eq!(answer.header("set-cookie"), None);
}

fn is_done(answer: &Answer) {
    let text = String::from_utf8_lossy(&answer.body);
    assert_eq!((answer.status, answer.header("cache-control")), (200, Some("no-store")), "{text}");
    assert_eq!((text.as_ref(), answer.header("set-cookie")), ("", None));
}

#[tokio::test]
async fn a_session_that_nobody_knows_is_over_already() {
    // BCL-2.5-01, BCL-2.6-05, BCL-2.6-09, BCL-2.8-01, BCL-2.8-03, BCL-4-01
    let site = site().await;
    for typ in ["logout+jwt", "JWT"] {
        for absent in ["sid", "sub", "neither"] {
            let token = token(&site, typ, |claims| drop(claims.remove(absent)));
            let told = site.issuer.tell(&token).await.unwrap();
            let done = Told { status: 200, cache_control: Some("no-store".to_owned()), body: String::new() };
            assert_eq!(told, done, "{typ} without {absent}");
        }
    }
    site.stop().await;
}

#[tokio::test]
async fn the_token_is_the_only_proof_that_is_asked_for() {
    // BCL-2.5-01, FM-03
    let site = site().await;
    let fresh = || form(&token(&site, "logout+jwt", |_| {}));
    is_done(&send(&site, &form_post(&format!("color=red&{}&color=blue", fresh()))).await);
    for fields in [
        "Content-Type: Application/X-WWW-Form-URLencoded ; charset=utf-8\r\n".to_owned(),
        format!("Content-Type: {FORM}\r\nOrigin: https://evil.example\r\nSec-Fetch-Site: cross-site\r\n"),
        format!("Content-Type: {FORM}\r\nOrigin: null\r\nSec-Fetch-Mode: navigate\r\nAccept: text/html\r\n"),
        format!("Content-Type: {FORM}\r\nCookie: vestibule=garbage; vestibule-1=garbage\r\n"),
    ] {
        is_done(&send(&site, &post(&fields, &fresh())).await);
    }
    site.stop().await;
}

#[tokio::test]
async fn a_token_that_is_wrong_gets_400_and_the_reason() {
    // BCL-2.6-04, BCL-2.6-05, BCL-2.6-06, BCL-2.6-07, BCL-2.8-02, BCL-2.8-03
    let site = site().await;
    let now = site.issuer.logout_claims(None, None)["iat"].as_u64().unwrap();
    let other_event = json!({ "https://schemas.openid.net/secevent/caep/event-type/session-revoked": {} });
    let event = "http://schemas.openid.net/event/backchannel-logout";
    let wrong: Vec<(&str, Value, &str)> = vec![
        ("iss", json!(format!("{}/", site.issuer.url())), "iss is another issuer"),
        ("iss", Value::Null, "iss is absent"),
        ("aud", json!("another-client"), "aud does not name this client"),
        ("aud", json!(["spa-bff", "another-client"]), "aud also names 'another-client'"),
        ("aud", Value::Null, "aud is absent"),
        ("exp", json!(now - 61), "exp has passed"),
        ("exp", Value::Null, "exp is absent"),
        ("iat", json!(now - 2 * 24 * 3600), "iat is more than a day ago"),
        ("iat", json!(now + 3600), "iat lies in the future"),
        ("iat", Value::Null, "iat is absent"),
        ("jti", Value::Null, "jti is absent"),
        ("sub", json!(7), "sub is not a string"),
        ("sid", json!(["sid-1"]), "sid is not a string"),
        ("events", Value::Null, "events does not hold the logout event"),
        ("events", other_event, "events does not hold the logout event"),
        ("events", json!({ event: true }), "events does not hold the logout event"),
        ("nonce", json!("n"), "nonce is there"),
    ];
    for (claim, value, reason) in wrong {
        let token = token(&site, "logout+jwt", |claims| drop(claims.insert(claim.to_owned(), value)));
        is_refused(&send(&site, &form_post(&form(&token))).await, reason);
    }
    let nameless = token(&site, "JWT", |claims| claims.retain(|name, _| name != "sub" && name != "sid"));
    is_refused(&send(&site, &form_post(&form(&nameless))).await, "sub is absent, and so is sid");
    site.stop().await;
}

#[tokio::test]
async fn other_tokens_of_the_issuer_are_no_logout_tokens() {
    // BCL-4-01, ATJ-R-01
    let site = site().await;
    for typ in ["at+jwt", "secevent+jwt", "dpop+jwt"] {
        let token = token(&site, typ, |_| {});
        is_refused(&send(&site, &form_post(&form(&token))).await, "typ is not logout+jwt or JWT");
    }
    // A real ID token, as the issuer made it for a login.
    site.signed_in().await;
    let id_tokens: Vec<String> =
        site.issuer.canaries().into_iter().filter(|text| text.matches('.').count() == 2).collect();
    assert_eq!(id_tokens.len(), 1);
    is_refused(&send(&site, &form_post(&form(&id_tokens[0]))).await, "events does not hold the logout event");
    site.stop().await;
}

#[tokio::test]
async fn strictly_only_logout_jwt_is_a_logout_token() {
    // ASVS-10.5.5, BCL-4-01
    let site = Site::planned(Plan { more: "[logout]\nstrict_typ = true".to_owned(), ..Plan::default() }).await;
    is_refused(&send(&site, &form_post(&form(&token(&site, "JWT", |_| {})))).await, "typ is not logout+jwt");
    is_done(&send(&site, &form_post(&form(&token(&site, "logout+jwt", |_| {})))).await);
    site.stop().await;
}

#[tokio::test]
async fn what_is_not_signed_by_the_issuer_gets_400() {
    // BCL-2.6-02, BCL-2.6-03, CS-L-05
    let site = site().await;
    let good = token(&site, "logout+jwt", |_| {});
    let [_, payload, signature] = good.split('.').collect::<Vec<_>>()[..] else { panic!("{good}") };
    let header = |alg: &str| URL_SAFE_NO_PAD.encode_to_string(json!({ "alg": alg }).to_string());
    for alg in ["none", "None", "HS256"] {
        for signature in ["", signature] {
            let forged = format!("{}.{payload}.{signature}", header(alg));
            is_refused(&send(&site, &form_post(&form(&forged))).await, "alg is none that is accepted");
        }
    }
    let renamed = format!("{}.{payload}.{signature}", header("RS256"));
    is_refused(&send(&site, &form_post(&form(&renamed))).await, "alg is none of those that the metadata announces");
    let flipped = if signature.starts_with('A') { 'B' } else { 'A' };
    let bent = good.replace(signature, &format!("{flipped}{}", &signature[1..]));
    is_refused(&send(&site, &form_post(&form(&bent))).await, "no known key");
    for garbage in ["x", "a.b", "a.b.c", "a.b.c.d.e", "{}", "\u{0}", "ä"] {
        assert_eq!(send(&site, &form_post(&form(garbage))).await.status, 400, "{garbage:?}");
    }
    // It was a good one, and none of this has spoiled it.
    is_done(&send(&site, &form_post(&form(&good))).await);
    site.stop().await;
}

#[tokio::test]
async fn what_is_no_form_with_one_token_gets_400() {
    // BCL-2.5-01, BCL-2.8-02
    let site = site().await;
    let good = token(&site, "logout+jwt", |_| {});
    let body = form(&good);
    let json_body = json!({ "logout_token": good }).to_string();
    let not_a_form = "the body is not application/x-www-form-urlencoded";
    for (fields, body) in [
        ("Content-Type: application/json\r\n", &json_body),
        ("Content-Type: multipart/form-data; boundary=b\r\n", &body),
        ("Content-Type: application/x-www-form-urlencoded-not\r\n", &body),
        ("Content-Type: text/plain\r\nContent-Type: application/x-www-form-urlencoded\r\n", &body),
        ("", &body),
    ] {
        is_refused(&send(&site, &post(fields, body)).await, not_a_form);
    }
    for body in [String::new(), "logout_token".to_owned(), "logout_token=".to_owned(), form("").replace('_', "-")] {
        is_refused(&send(&site, &form_post(&body)).await, "there is no logout_token in the form");
    }
    let in_the_query = form_post("a=b").replacen(PATH, &format!("{PATH}?{body}"), 1);
    is_refused(&send(&site, &in_the_query).await, "there is no logout_token in the form");
    is_refused(&send(&site, &form_post(&format!("{body}&{body}"))).await, "there is more than one logout_token");
    let bodiless = format!("POST {PATH} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {FORM}\r\n\r\n");
    is_refused(&send(&site, &bodiless).await, "there is no logout_token in the form");
    for method in ["GET", "PUT", "DELETE"] {
        let answer = send(&site, &form_post(&body).replacen("POST", method, 1)).await;
        assert_eq!((answer.status, answer.header("allow")), (405, Some("POST")), "{method}");
    }
    is_done(&send(&site, &form_post(&body)).await);
    site.stop().await;
}

#[tokio::test]
async fn sixty_four_kib_are_read_and_not_a_byte_more() {
    // BCL-R-01, ASVS-2.4.1
    let site = site().await;
    let padded = |size: usize| {
        let start = format!("{}&padding=", form(&token(&site, "logout+jwt", |_| {})));
        let padding = "x".repeat(size - start.len());
        start + &padding
    };
    let chunked = |body: &str| {
        let head = format!("POST {PATH} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {FORM}\r\n");
        format!("{head}Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n", body.len())
    };
    let most = 64 * 1024;
    is_done(&send(&site, &form_post(&padded(most))).await);
    is_done(&send(&site, &chunked(&padded(most))).await);
    let too_large = "the body is larger than the limit";
    is_refused(&send(&site, &form_post(&padded(most + 1))).await, too_large);
    is_refused(&send(&site, &chunked(&padded(most + 1))).await, too_large);
    // Nobody has to send a megabyte to learn that it is too much.
    let announced = form_post("").replacen("Content-Length: 0", "Content-Length: 1000000", 1);
    is_refused(&send(&site, &announced).await, too_large);
    site.stop().await;
}

#[tokio::test]
async fn a_body_that_breaks_off_or_does_not_come_gets_400_and_the_connection_ends() {
    // BCL-R-01, BCL-2.8-02
    let site = site().await;
    let whole = form_post(&form(&token(&site, "logout+jwt", |_| {})));
    let half = &whole.as_bytes()[..whole.len() - 10];

    let mut broken = Connection::open(site.address).await.unwrap();
    broken.send(half).await.unwrap();
    broken.finish().await.unwrap();
    is_refused(&broken.answer().await.unwrap(), "the body broke off");
    assert_eq!(broken.rest().await.unwrap(), b"");

    let mut slow = Connection::open(site.address).await.unwrap();
    slow.send(half).await.unwrap();
    is_refused(&slow.answer().await.unwrap(), "the body did not come in time");
    assert_eq!(slow.rest().await.unwrap(), b"");
    site.stop().await;
}

#[tokio::test]
async fn one_connection_brings_several_tokens() {
    let site = site().await;
    let fresh = || form(&token(&site, "logout+jwt", |_| {}));
    let mut connection = Connection::open(site.address).await.unwrap();
    for _ in 0..3 {
        connection.send(form_post(&fresh()).as_bytes()).await.unwrap();
        is_done(&connection.answer().await.unwrap());
        connection.send(form_post("logout_token=bad").as_bytes()).await.unwrap();
        is_refused(&connection.answer().await.unwrap(), "not a signed token");
    }
    // A careful client asks before it sends the body.
    let body = fresh();
    let asking = post(&format!("Content-Type: {FORM}\r\nExpect: 100-continue\r\n"), &body);
    connection.send(asking.strip_suffix(&body).unwrap().as_bytes()).await.unwrap();
    assert_eq!(connection.answer().await.unwrap().status, 100);
    connection.send(body.as_bytes()).await.unwrap();
    is_done(&connection.answer().await.unwrap());
    // And after all that the connection serves other requests.
    connection.send(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    assert_eq!(connection.answer().await.unwrap().status, 200);
    site.stop().await;
}

#[tokio::test]
async fn a_repeated_token_is_served_like_the_first_one() {
    // BCL-2.6-08
    let site = site().await;
    let same = token(&site, "logout+jwt", |_| {});
    for _ in 0..3 {
        assert_eq!(site.issuer.tell(&same).await.unwrap().status, 200);
    }
    // It is not served for longer than it is good.
    site.pass(120 + 61);
    assert_eq!(site.issuer.tell(&same).await.unwrap().status, 400);
    site.stop().await;
}

#[tokio::test]
async fn a_key_that_is_not_known_yet_is_fetched_but_not_as_often_as_tokens_come() {
    // BCL-2.6-02, BCL-R-01, OIDC-10.1.1-01
    let site = site().await;
    until_told(&site.issuer, &token(&site, "JWT", |_| {})).await;
    site.issuer.rotate_keys().unwrap();
    let (before, started) = (site.issuer.script().calls(Endpoint::Jwks), Instant::now());
    until_told(&site.issuer, &token(&site, "JWT", |_| {})).await;
    // Tokens that nobody has signed cannot make it ask as often as they come.
    let signed = token(&site, "JWT", |_| {});
    let forged = format!("{}.{}", signed.rsplit_once('.').unwrap().0, "A".repeat(86));
    for _ in 0..50 {
        assert_eq!(site.issuer.tell(&forged).await.unwrap().status, 400);
    }
    let asked = site.issuer.script().calls(Endpoint::Jwks) - before;
    let seconds = usize::try_from(started.elapsed().as_secs()).unwrap();
    assert!((1..=seconds + 2).contains(&asked), "{asked} fetches in {seconds} seconds");
    site.stop().await;
}

/// Sends a good token until it is taken: keys are not fetched twice within a second.
async fn until_told(issuer: &Issuer, token: &str) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let told = issuer.tell(token).await.unwrap();
        if told.status == 200 {
            return;
        }
        assert!(Instant::now() < deadline, "{told:?}");
        sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_key_that_cannot_be_fetched_now_gets_400_and_the_token_can_be_sent_again() {
    // BCL-2.8-02
    let site = site().await;
    until_told(&site.issuer, &token(&site, "JWT", |_| {})).await;
    site.issuer.rotate_keys().unwrap();
    let new = token(&site, "logout+jwt", |_| {});
    site.issuer.pause().await;
    is_refused(&send(&site, &form_post(&form(&new))).await, "no known key");
    site.issuer.resume().await.unwrap();
    until_told(&site.issuer, &new).await;
    site.stop().await;
}

#[tokio::test]
async fn an_issuer_that_has_never_been_heard_of_gets_400_and_can_try_again() {
    // BCL-2.8-02
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let url = format!("http://localhost:{}", address.port());
    let issuer = Issuer::start(Options::default()).await.unwrap();
    issuer.register_backchannel_logout(&format!("{url}{PATH}"));
    issuer.pause().await;
    let client_secret = Options::default().client_secret;
    let ground = Ground {
        listener,
        url: &url,
        issuer: issuer.url(),
        client_id: "spa-bff",
        client_secret: client_secret.expose(),
        api: "http://127.0.0.1:9",
        files: "dist",
        clock: Arc::new(SystemClock::default()),
    };
    let vestibule = ground.build(&Texts::default()).await;
    let token = issuer.sign("logout+jwt", &issuer.logout_claims(None, Some("sid-1"))).unwrap();
    let told = issuer.tell(&token).await.unwrap();
    assert_eq!((told.status, told.cache_control.as_deref()), (400, Some("no-store")));
    let body: Value = serde_json::from_str(&told.body).unwrap();
    assert_eq!(body["error"], "temporarily_unavailable");
    issuer.resume().await.unwrap();
    until_told(&issuer, &token).await;
    vestibule.stop().await;
}

#[tokio::test]
async fn a_refused_token_ends_nothing() {
    let site = site().await;
    let browser = site.signed_in().await;
    let sid = site.issuer.newest_sid().unwrap();
    for (typ, claim) in [("at+jwt", "x"), ("logout+jwt", "nonce")] {
        let mut claims = site.issuer.logout_claims(Some("ada"), Some(&sid));
        claims.insert(claim.to_owned(), json!("1"));
        let told = site.issuer.tell(&site.issuer.sign(typ, &claims).unwrap()).await.unwrap();
        assert_eq!(told.status, 400);
    }
    assert_eq!(site.call(&browser).await.status, 200);
    site.stop().await;
}

#[tokio::test]
async fn a_logout_that_began_here_comes_back_from_the_issuer_and_succeeds() {
    // BCL-2.6-09, CS-L-04
    let site = site().await;
    let browser = site.signed_in().await;
    assert_eq!(browser.fetch(Method::POST, &site.at("/bff/logout")).await.status, 200);
    let end = browser.navigate(&site.at("/bff/logout")).started_by(Initiator::SameOrigin).follow().await;
    assert_eq!((end.status, end.url.as_str()), (200, site.at("/").as_str()));
    let done = Told { status: 200, cache_control: Some("no-store".to_owned()), body: String::new() };
    assert_eq!(site.issuer.told(), [Some(done)]);
    site.stop().await;
}

#[tokio::test]
async fn a_body_that_no_endpoint_reads_is_forwarded_whole() {
    // The body's reader is at hand for every request, and takes nothing from those that are forwarded.
    let site = site().await;
    let browser = site.signed_in().await;
    let body = "x".repeat(100_000);
    let page = browser.fetch(Method::POST, &site.at("/api/orders")).body(FORM, body.clone()).await;
    assert_eq!(page.status, 200, "{}", page.text());
    let arrived = site.api.requests();
    assert_eq!(arrived.last().unwrap().body.len(), body.len());
    // Nor does it hold up a request that has no session.
    let stranger = plain_client().post(site.at("/api/orders")).body("x").send().await.unwrap();
    assert_eq!(stranger.status().as_u16(), 401);
    site.stop().await;
}
