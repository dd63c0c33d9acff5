//! gRPC through a route, over HTTP/2 from end to end; and what HTTP/2 on the listener changes for others: nothing.

use std::time::Duration;

use h2::Reason;
use http::{Method, Version};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use crate::support::beside;
use crate::support::grpc::{Channel, HOLD, OWN, QUIET, Service};
use crate::support::live::{Live, Socket};
use crate::support::raw::{Connection, exchange};
use crate::support::site::{Plan, Site};

/// What begins every HTTP/2 connection (RFC 9113 section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A site that understands HTTP/2, and a service behind it: `/calls/` needs a session, `/public/` never looks.
async fn site() -> (Site, Service) {
    planned("").await
}

async fn planned(server: &str) -> (Site, Service) {
    let service = Service::start().await;
    let more = service.route("/calls/", "api", "read_timeout = 1") + &service.route("/public/", "none", "");
    let server = format!("http2 = true\n{server}");
    (Site::planned(Plan { more, server, ..Plan::default() }).await, service)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_passes_with_its_trailers_and_carries_the_token() {
    // CK-23, HTTP-18, BBA-6.1-08, BCP-4.13-01
    let (site, service) = site().await;
    let browser = site.signed_in().await;
    let mut channel = Channel::open(site.address).await;
    let fields = [OWN, ("cookie", "theme=dark"), ("cookie", "lang=de"), ("authorization", "Bearer forged")];
    let mut call = channel.call("/calls/shop.Orders/Say", &browser, &fields).await;
    call.say("hello", true);
    let (head, mut messages, _) = call.answered().await.unwrap();
    assert_eq!((head.status.as_u16(), head.version), (200, Version::HTTP_2));
    assert_eq!(head.headers["content-type"], "application/grpc");
    assert_eq!(messages.next().await.unwrap().as_deref(), Some("hello"));
    assert_eq!(messages.trailers().await["grpc-status"], "0");

    let seen = service.seen();
    let [seen] = seen.as_slice() else { panic!("{seen:?}") };
    assert_eq!(seen.version, Version::HTTP_2);
    assert_eq!(seen.uri.to_string(), format!("http://{}/calls/shop.Orders/Say", service.authority()));
    let values = |name| seen.headers.get_all(name).iter().map(|it| it.to_str().unwrap()).collect::<Vec<_>>();
    assert!(matches!(values("authorization")[..], [one] if one.starts_with("Bearer ") && one != "Bearer forged"));
    assert_eq!(values("cookie"), ["theme=dark; lang=de"]);
    assert_eq!(values("te"), ["trailers"]);
    assert_eq!(values("via"), ["2 vestibule"]);
    assert_eq!(values("x-forwarded-host"), [site.url.strip_prefix("http://").unwrap()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn both_sides_of_a_call_talk_at_once() {
    let (site, _service) = site().await;
    let browser = site.signed_in().await;
    let mut channel = Channel::open(site.address).await;
    let mut call = channel.call("/calls/shop.Orders/Talk", &browser, &[OWN]).await;
    call.say("one", false);
    let (_, mut messages, mut sending) = call.answered().await.unwrap();
    assert_eq!(messages.next().await.unwrap().as_deref(), Some("one"));
    // The answer to the first is here before the second is said.
    sending.send_data(b"\0\0\0\0\x03two"[..].into(), true).unwrap();
    assert_eq!(messages.next().await.unwrap().as_deref(), Some("two"));
    assert_eq!(messages.trailers().await["grpc-status"], "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_a_session_resets_its_streams_and_leaves_the_connection_to_the_others() {
    // FM-08
    let (site, service) = site().await;
    let (browser, other) = (site.signed_in().await, site.signed_in().await);
    let mut channel = Channel::open(site.address).await;
    let (_, mut ended, _sending) =
        channel.call("/calls/shop.Orders/Listen", &browser, &[OWN]).await.answered().await.unwrap();
    let (_, mut left, _sending) =
        channel.call("/calls/shop.Orders/Listen", &other, &[OWN]).await.answered().await.unwrap();
    assert_eq!(ended.next().await.unwrap().as_deref(), Some("tick"));
    service.until_open(2).await;

    assert_eq!(browser.fetch(Method::POST, &site.at("/bff/logout")).await.status, 200);
    let error = ended.broken().await;
    assert!(error.is_remote() && error.is_reset(), "{error:?}");
    assert_eq!(error.reason(), Some(Reason::CANCEL));
    service.until_open(1).await;

    for _ in 0..20 {
        assert_eq!(left.next().await.unwrap().as_deref(), Some("tick"));
    }
    assert_eq!(channel.call("/calls/shop.Orders/Say", &browser, &[OWN]).await.status().await, 401);
    let mut call = channel.call("/calls/shop.Orders/Say", &other, &[OWN]).await;
    call.say("still here", true);
    let (_, mut messages, _) = call.answered().await.unwrap();
    assert_eq!(messages.next().await.unwrap().as_deref(), Some("still here"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_with_the_cookie_needs_the_same_proof_as_any_other() {
    // BBA-6.1-24, FM-01
    let (site, service) = site().await;
    let browser = site.signed_in().await;
    let mut channel = Channel::open(site.address).await;
    let foreign: [&[(&str, &str)]; 4] = [
        &[],
        &[("sec-fetch-site", "cross-site")],
        &[("origin", "https://evil.example")],
        &[("origin", "https://evil.example"), ("x-grpc-web", "1"), ("x-csrf", "1")],
    ];
    for fields in foreign {
        assert_eq!(channel.call("/calls/shop.Orders/Say", &browser, fields).await.status().await, 403, "{fields:?}");
    }
    let nobody = crate::support::browser::Browser::new();
    assert_eq!(channel.call("/calls/shop.Orders/Say", &nobody, &[OWN]).await.status().await, 401);
    assert!(service.seen().is_empty());
    let mut call = channel.call("/calls/shop.Orders/Say", &browser, &[("x-csrf", "1")]).await;
    call.say("hello", true);
    assert_eq!(call.status().await, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_gives_up_one_call_cancels_that_one_upstream() {
    let (site, service) = site().await;
    let browser = site.signed_in().await;
    let mut channel = Channel::open(site.address).await;
    let given_up = channel.call("/calls/shop.Orders/Listen", &browser, &[OWN]).await.answered().await.unwrap();
    let (_, mut left, _sending) =
        channel.call("/calls/shop.Orders/Listen", &browser, &[OWN]).await.answered().await.unwrap();
    service.until_open(2).await;
    drop(given_up);
    service.until_open(1).await;
    assert_eq!(left.next().await.unwrap().as_deref(), Some("tick"));
    drop(channel);
    service.until_open(0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_the_upstream_has_not_begun_with_is_made_again() {
    // RFC 9113 section 8.7: a POST as well.
    let (site, service) = site().await;
    let browser = site.signed_in().await;
    let mut channel = Channel::open(site.address).await;
    let mut call = channel.call("/calls/shop.Orders/Refuse", &browser, &[OWN]).await;
    call.say("hello", true);
    let (head, mut messages, _) = call.answered().await.unwrap();
    assert_eq!(head.status, 200);
    assert_eq!(messages.next().await.unwrap().as_deref(), Some("hello"));
    assert_eq!(messages.trailers().await["grpc-status"], "0");
    assert_eq!(service.seen().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_web_socket_goes_over_http_1_where_the_route_speaks_http_2() {
    let live = Live::start().await;
    let more = format!("{}http2 = true", live.route("/live/", "api"));
    let site = Site::planned(Plan { more, server: "http2 = true".to_owned(), ..Plan::default() }).await;
    let browser = site.signed_in().await;
    let mut socket = Socket::open(site.address, Some(&site.url), "/live/echo", &browser).await.unwrap();
    socket.echoes("hello").await;
}

#[tokio::test]
async fn a_call_may_be_quiet_for_longer_than_a_head_may_take() {
    let (site, _service) = site().await;
    let browser = site.signed_in().await;
    let mut channel = Channel::open(site.address).await;
    let call = channel.call("/calls/shop.Orders/Hold", &browser, &[OWN]).await;
    let (_, mut messages, _sending) = call.answered().await.unwrap();
    assert_eq!(messages.next().await.unwrap().as_deref(), Some("before"));
    // Time that nobody waits through: it is turned on whenever nothing else can happen.
    tokio::time::pause();
    tokio::time::sleep(HOLD + Duration::from_secs(1)).await;
    tokio::time::resume();
    assert_eq!(messages.next().await.unwrap().as_deref(), Some("after"));
    assert_eq!(messages.trailers().await["grpc-status"], "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quiet_call_outlasts_the_read_timeout() {
    let (site, _service) = site().await;
    let browser = site.signed_in().await;
    let mut channel = Channel::open(site.address).await;
    let call = channel.call("/calls/shop.Orders/Quiet", &browser, &[OWN]).await;
    let (_, mut messages, _sending) = call.answered().await.unwrap();
    assert_eq!(messages.next().await.unwrap().as_deref(), Some("before"));
    // The route's read_timeout is one second.
    assert!(QUIET > Duration::from_secs(1));
    assert_eq!(messages.next().await.unwrap().as_deref(), Some("after"));
    assert_eq!(messages.trailers().await["grpc-status"], "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn trailers_do_not_tell_the_browser_the_token() {
    // BBA-6.1-03
    let (site, service) = site().await;
    let browser = site.signed_in().await;
    let mut channel = Channel::open(site.address).await;
    let call = channel.call("/calls/shop.Orders/Leak", &browser, &[OWN]).await;
    let (_, mut messages, _sending) = call.answered().await.unwrap();
    let trailers = messages.trailers().await;
    assert_eq!(trailers["grpc-status"], "0");
    assert!(!trailers.contains_key("grpc-message"), "{trailers:?}");
    assert!(service.seen()[0].headers.contains_key("authorization"));
}

#[tokio::test(flavor = "multi_thread")]
async fn all_connections_together_carry_no_more_requests_than_there_may_be_connections() {
    let (site, service) = planned("connections = 12").await;
    let nobody = crate::support::browser::Browser::new();
    let mut channel = Channel::open(site.address).await;
    let mut calls = Vec::new();
    for _ in 0..12 {
        calls.push(channel.call("/public/shop.Orders/Listen", &nobody, &[]).await.answered().await.unwrap());
    }
    let refused = channel.call("/public/shop.Orders/Listen", &nobody, &[]).await.answered().await.err().unwrap();
    assert!(refused.is_remote() && refused.is_reset(), "{refused:?}");
    service.until_open(12).await;
    drop(calls.pop());
    service.until_open(11).await;
    // The task of the call that was given up ends a moment after the upstream has heard of it.
    let deadline = Instant::now() + crate::support::PATIENCE;
    while let Err(error) = channel.call("/public/shop.Orders/Listen", &nobody, &[]).await.answered().await {
        assert!(Instant::now() < deadline, "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn http_1_goes_on_beside_http_2_on_the_same_listener_and_to_the_same_service() {
    let (site, service) = site().await;
    let browser = site.signed_in().await;
    assert_eq!(site.call(&browser).await.status, 200);
    let page = browser.fetch(Method::GET, &site.at("/calls/plain")).await;
    assert_eq!((page.status, service.seen()[0].version), (200, Version::HTTP_2));
    // Shorter than the preface that HTTP/2 is known by.
    let short = b"GET / HTTP/1.0\r\n\r\n";
    assert!(short.len() < PREFACE.len());
    assert_eq!(exchange(site.address, short).await.unwrap().status, 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_ends_what_is_only_listened_to_and_then_the_connection() {
    let (site, _service) = site().await;
    let browser = site.signed_in().await;
    let mut channel = Channel::open(site.address).await;
    let (head, messages, _sending) = channel.listen("/bff/session", &browser).await.answered().await.unwrap();
    assert_eq!(head.status, 200);
    let since = Instant::now();
    let stopping = beside(site.stop());
    let error = messages.broken().await;
    assert!(error.is_remote() && error.is_reset(), "{error:?}");
    channel.closed().await;
    stopping.await.unwrap();
    // Thirty seconds is what requests in flight are given.
    assert!(since.elapsed() < Duration::from_secs(25), "{:?}", since.elapsed());
}

#[tokio::test]
async fn who_begins_a_preface_and_says_nothing_more_is_dropped() {
    let (site, _service) = site().await;
    tokio::time::pause();
    for beginning in [&PREFACE[..3], &PREFACE[..20]] {
        let since = Instant::now();
        let mut socket = TcpStream::connect(site.address).await.unwrap();
        socket.write_all(beginning).await.unwrap();
        let mut answer = Vec::new();
        let read = timeout(Duration::from_secs(3600), socket.read_to_end(&mut answer)).await.expect("it is kept open");
        assert!(read.is_err() || answer.is_empty(), "{answer:?}");
        assert!(since.elapsed() >= Duration::from_secs(59), "{:?}", since.elapsed());
    }
}

#[tokio::test]
async fn without_http2_the_preface_is_refused() {
    let site = Site::start().await;
    let mut connection = Connection::open(site.address).await.unwrap();
    connection.send(PREFACE).await.unwrap();
    let answer = connection.rest().await.unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 400 "), "{}", String::from_utf8_lossy(&answer));
}
