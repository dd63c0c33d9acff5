//! Connections that stay open: WebSockets and server-sent events, with the token and without buffering.

mod endings;
mod grpc;
mod many;

use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

use crate::support::beside;
use crate::support::jar::Reach;
use crate::support::raw::Connection;
use crate::support::site::{Plan, Site};

/// An upstream that speaks by hand, and a site that forwards `/live/` to it.
async fn site_with_a_raw_upstream() -> (Site, TcpListener) {
    let upstream = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = upstream.local_addr().unwrap();
    let more = format!("[[route]]\npath = \"/live/\"\nupstream = \"http://{address}\"\nauth = \"api\"");
    (Site::planned(Plan { more, ..Plan::default() }).await, upstream)
}

async fn head_of(stream: &mut BufReader<TcpStream>) -> String {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert_ne!(stream.read_line(&mut head).await.unwrap(), 0, "{head}");
    }
    head
}

/// The head of a GET with the cookies of a browser that has signed in.
async fn request(site: &Site, fields: &str) -> String {
    let browser = site.signed_in().await;
    let cookies = browser.cookies().header("localhost", Reach::SameSite).unwrap();
    let host = site.url.strip_prefix("http://").unwrap();
    format!("GET /live/feed HTTP/1.1\r\nHost: {host}\r\nCookie: {cookies}\r\n{fields}\r\n\r\n")
}

#[tokio::test]
async fn a_web_socket_carries_the_token_and_then_bytes_both_ways() {
    // FM-08, HTTP-19
    let (site, upstream) = site_with_a_raw_upstream().await;
    let url = site.url.clone();
    let fields = format!(
        "Origin: {url}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
    );
    let head = request(&site, &fields).await;
    let serving = beside(async move {
        let mut stream = BufReader::new(upstream.accept().await.unwrap().0);
        let head = head_of(&mut stream).await;
        let answer = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
        stream.get_mut().write_all(answer.as_bytes()).await.unwrap();
        let mut frame = [0; 5];
        stream.read_exact(&mut frame).await.unwrap();
        stream.get_mut().write_all(&frame).await.unwrap();
        head
    });
    let mut connection = Connection::open(site.address).await.unwrap();
    connection.send(head.as_bytes()).await.unwrap();
    assert_eq!(connection.answer().await.unwrap().status, 101);
    connection.send(b"hello").await.unwrap();
    let seen = serving.await.unwrap();
    assert_eq!(connection.rest().await.unwrap(), b"hello");
    let seen = seen.to_ascii_lowercase();
    assert!(seen.contains("authorization: bearer ") && seen.contains("upgrade: websocket"), "{seen}");
    assert!(!seen.contains("vestibule="), "{seen}");
}

#[tokio::test]
async fn server_sent_events_arrive_one_by_one() {
    let (site, upstream) = site_with_a_raw_upstream().await;
    let head = request(&site, "Sec-Fetch-Site: same-origin\r\nAccept: text/event-stream").await;
    let (go_on, told) = oneshot::channel::<()>();
    let serving = beside(async move {
        let mut stream = BufReader::new(upstream.accept().await.unwrap().0);
        head_of(&mut stream).await;
        let start = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n\
                     9\r\ndata: 1\n\n\r\n";
        stream.get_mut().write_all(start.as_bytes()).await.unwrap();
        told.await.unwrap();
        stream.get_mut().write_all(b"9\r\ndata: 2\n\n\r\n0\r\n\r\n").await.unwrap();
    });
    let mut socket = BufReader::new(TcpStream::connect(site.address).await.unwrap());
    socket.get_mut().write_all(head.as_bytes()).await.unwrap();
    let mut received = head_of(&mut socket).await;
    assert!(received.starts_with("HTTP/1.1 200"), "{received}");
    // The first event is here while the upstream still holds the second back.
    while !received.contains("data: 1") {
        assert_ne!(socket.read_line(&mut received).await.unwrap(), 0, "{received}");
    }
    go_on.send(()).unwrap();
    while !received.contains("data: 2") {
        assert_ne!(socket.read_line(&mut received).await.unwrap(), 0, "{received}");
    }
    serving.await.unwrap();
}

#[tokio::test]
async fn an_upstream_that_does_not_answer_in_time_is_a_504() {
    let upstream = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = upstream.local_addr().unwrap();
    let more =
        format!("[[route]]\npath = \"/live/\"\nupstream = \"http://{address}\"\nauth = \"api\"\nread_timeout = 1");
    let site = Site::planned(Plan { more, ..Plan::default() }).await;
    let browser = site.signed_in().await;
    let page = browser.fetch(http::Method::GET, &site.at("/live/x")).await;
    assert_eq!(page.status, 504, "{}", page.text());
}

#[tokio::test]
async fn stopping_finishes_what_is_being_served_and_closes_what_is_idle() {
    let (site, upstream) = site_with_a_raw_upstream().await;
    let head = request(&site, "Sec-Fetch-Site: same-origin").await;
    let mut idle = Connection::open(site.address).await.unwrap();
    let mut busy = Connection::open(site.address).await.unwrap();
    busy.send(head.as_bytes()).await.unwrap();
    let mut stream = BufReader::new(upstream.accept().await.unwrap().0);
    head_of(&mut stream).await;
    let stopping = beside(site.stop());
    assert_eq!(idle.rest().await.unwrap(), b"");
    stream.get_mut().write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.unwrap();
    assert_eq!(busy.answer().await.unwrap().body, b"ok");
    tokio::time::timeout(Duration::from_secs(20), stopping).await.unwrap().unwrap();
}
