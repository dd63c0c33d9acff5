//! A relay between a browser and a server, or several in turn: it remembers what the browser receives, and breaks
//! connections on demand.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::canary;

/// A running relay. Dropping it closes every connection through it.
///
/// It records bytes as they are on the wire, so a test that searches them must not let the server compress.
pub(crate) struct Recorder {
    address: SocketAddr,
    shared: Arc<Mutex<Shared>>,
    _connections: JoinSet<()>,
}

#[derive(Default)]
struct Shared {
    received: Vec<u8>,
    cuts: u32,
    delay: Duration,
}

impl Recorder {
    /// Relays from a free port of 127.0.0.1 to `target`.
    pub(crate) async fn start(target: SocketAddr) -> Self {
        Self::start_before(vec![target]).await
    }

    /// Relays to each of `targets` in turn, one connection after the other. One that refuses is passed over, as a
    /// balancer does.
    pub(crate) async fn start_before(targets: Vec<SocketAddr>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::default();
        let mut connections = JoinSet::new();
        connections.spawn(accept(listener, targets, Arc::clone(&shared)));
        Self { address, shared, _connections: connections }
    }

    /// Where the relay listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Everything that clients have received so far, all connections together.
    pub(crate) fn received(&self) -> Vec<u8> {
        self.shared.lock().unwrap().received.clone()
    }

    /// The form in which `needle` was ever received; none if it never was.
    pub(crate) fn received_contains(&self, needle: &str) -> Option<&'static str> {
        canary::form_found(&self.shared.lock().unwrap().received, needle)
    }

    /// Closes the connection in place of the next `n` answers, when the server's first bytes arrive: the request has
    /// then been carried out.
    pub(crate) fn cut(&self, n: u32) {
        self.shared.lock().unwrap().cuts = n;
    }

    /// From now on holds back every piece of an answer for so long.
    pub(crate) fn delay(&self, by: Duration) {
        self.shared.lock().unwrap().delay = by;
    }
}

async fn accept(listener: TcpListener, mut targets: Vec<SocketAddr>, shared: Arc<Mutex<Shared>>) {
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        let (shared, in_turn) = (Arc::clone(&shared), targets.clone());
        targets.rotate_left(1);
        connections.spawn(async move {
            // Where no server is there, the connection is closed, as it would be without the relay.
            for target in in_turn {
                if let Ok(server) = TcpStream::connect(target).await {
                    relay(client, server, &shared).await.ok();
                    break;
                }
            }
        });
    }
}

async fn relay(client: TcpStream, server: TcpStream, shared: &Mutex<Shared>) -> std::io::Result<()> {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let upwards = async {
        tokio::io::copy(&mut from_client, &mut to_server).await?;
        to_server.shutdown().await?;
        // A client that has said all may still listen.
        std::future::pending().await
    };
    let downwards = async {
        let mut buffer = vec![0; 16 * 1024];
        loop {
            let length = from_server.read(&mut buffer).await?;
            let piece = &buffer[..length];
            let delay = {
                let mut shared = shared.lock().unwrap();
                if piece.is_empty() || shared.cuts > 0 {
                    shared.cuts = shared.cuts.saturating_sub(u32::from(!piece.is_empty()));
                    return Ok(());
                }
                shared.received.extend(piece);
                shared.delay
            };
            tokio::time::sleep(delay).await;
            to_client.write_all(piece).await?;
        }
    };
    tokio::select! {
        biased;
        result = downwards => result,
        result = upwards => result,
    }
}

mod tests {
    use std::time::Duration;

    use tokio::net::TcpListener;

    use super::Recorder;
    use crate::support::raw;

    const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";

    /// A server that counts its requests and answers each with the count and a canary.
    async fn counting() -> (tokio::task::JoinSet<()>, std::net::SocketAddr) {
        let count = std::sync::Arc::new(std::sync::atomic::AtomicU32::new(1));
        let answer = move || {
            let number = count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            async move { format!("answer {number} with-a-canary") }
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut server = tokio::task::JoinSet::new();
        let router = axum::Router::new().fallback(answer);
        server.spawn(async move { axum::serve(listener, router).await.unwrap() });
        (server, address)
    }

    #[tokio::test]
    async fn answers_pass_and_are_remembered() {
        let (_server, address) = counting().await;
        let recorder = Recorder::start(address).await;
        recorder.delay(Duration::from_millis(1));
        let answer = raw::exchange(recorder.address(), REQUEST).await.unwrap();
        assert_eq!(answer.body, b"answer 1 with-a-canary");
        assert_eq!(recorder.received_contains("with-a-canary"), Some("plain"));
        assert!(recorder.received().starts_with(b"HTTP/1.1 200 OK\r\n"));
    }

    #[tokio::test]
    async fn servers_take_turns_and_one_that_refuses_is_passed_over() {
        let (one, other) = (counting().await, counting().await);
        let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let recorder = Recorder::start_before(vec![one.1, nobody, other.1]).await;
        let mut bodies = Vec::new();
        for _ in 0..6 {
            let answer = raw::exchange(recorder.address(), REQUEST).await.unwrap();
            bodies.push(String::from_utf8(answer.body).unwrap());
        }
        let each: Vec<_> = bodies.iter().map(|body| body.split(' ').nth(1).unwrap()).collect();
        // First, second (for the one that refuses), second, and once more.
        assert_eq!(each, ["1", "1", "2", "2", "3", "4"]);
    }

    #[tokio::test]
    async fn a_cut_answer_belongs_to_a_request_that_was_carried_out() {
        let (_server, address) = counting().await;
        let recorder = Recorder::start(address).await;
        recorder.cut(1);
        assert!(raw::exchange(recorder.address(), REQUEST).await.is_err());
        let answer = raw::exchange(recorder.address(), REQUEST).await.unwrap();
        assert_eq!(answer.body, b"answer 2 with-a-canary");
        assert!(!recorder.received().windows(8).any(|bytes| bytes == b"answer 1"));
    }
}
