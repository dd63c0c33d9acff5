//! gRPC at both ends of the proxy, frame by frame: HTTP/2 in clear text, messages with their prefix of five bytes, and
//! trailers.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use h2::client::{ResponseFuture, SendRequest};
use h2::server::SendResponse;
use h2::{RecvStream, SendStream};
use http::request::Parts;
use http::{HeaderMap, Request, Response, Version};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::PATIENCE;
use super::browser::Browser;
use super::jar::Reach;

/// An upstream that speaks HTTP/2 and nothing else. What it does is in the last part of the path:
///
/// - `Listen`: a message now and then, until somebody leaves;
/// - `Quiet`: one message, nothing for three seconds, and another one;
/// - `Hold`: the same with minutes, for tests that turn time themselves;
/// - `Refuse`: nothing at first, and from the second time on what it is told;
/// - `Leak`: trailers that say what the call was authorised with;
/// - anything else: what it is told, message by message.
pub(crate) struct Service {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Parts>>>,
    open: Arc<AtomicUsize>,
    _serving: JoinSet<()>,
}

/// Between two messages.
const PAUSE: Duration = Duration::from_millis(20);
/// How long a quiet call is quiet.
pub(crate) const QUIET: Duration = Duration::from_secs(3);
pub(crate) const HOLD: Duration = Duration::from_secs(150);

impl Service {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (seen, open) = (Arc::<Mutex<Vec<_>>>::default(), Arc::<AtomicUsize>::default());
        let (heads, counter) = (Arc::clone(&seen), Arc::clone(&open));
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            let mut each = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                each.spawn(serve(stream, Arc::clone(&heads), Arc::clone(&counter)));
            }
        });
        Self { address, seen, open, _serving: serving }
    }

    /// A route to it, with further `lines`.
    pub(crate) fn route(&self, path: &str, auth: &str, lines: &str) -> String {
        let Self { address, .. } = self;
        format!(
            "[[route]]\npath = \"{path}\"\nupstream = \"http://{address}\"\nauth = \"{auth}\"\nhttp2 = true\n{lines}\n"
        )
    }

    /// The heads of the calls that have come.
    pub(crate) fn seen(&self) -> Vec<Parts> {
        self.seen.lock().unwrap().clone()
    }

    /// Its own address, as a request's authority.
    pub(crate) fn authority(&self) -> String {
        self.address.to_string()
    }

    /// Waits until only so many calls go on.
    pub(crate) async fn until_open(&self, wanted: usize) {
        let deadline = Instant::now() + PATIENCE;
        while self.open.load(Ordering::SeqCst) != wanted {
            assert!(Instant::now() < deadline, "{:?} calls go on, and not {wanted}", self.open);
            sleep(Duration::from_millis(5)).await;
        }
    }
}

async fn serve(stream: TcpStream, seen: Arc<Mutex<Vec<Parts>>>, open: Arc<AtomicUsize>) {
    // The proxy may leave at any time.
    let Ok(mut connection) = h2::server::handshake(stream).await else { return };
    let mut calls = JoinSet::new();
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        let (parts, body) = request.into_parts();
        let before = seen.lock().unwrap().iter().any(|one| one.uri == parts.uri);
        seen.lock().unwrap().push(parts.clone());
        if parts.uri.path().ends_with("/Refuse") && !before {
            respond.send_reset(h2::Reason::REFUSED_STREAM);
            continue;
        }
        let open = Arc::clone(&open);
        calls.spawn(async move {
            open.fetch_add(1, Ordering::SeqCst);
            // However it ends.
            answer(&parts, Messages::new(body), respond).await.ok();
            open.fetch_sub(1, Ordering::SeqCst);
        });
    }
}

async fn answer(request: &Parts, mut told: Messages, mut respond: SendResponse<Bytes>) -> Result<(), h2::Error> {
    let head = Response::builder().header("content-type", "application/grpc").body(()).unwrap();
    let mut sending = respond.send_response(head, false)?;
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", "0".parse().unwrap());
    match request.uri.path().rsplit('/').next().unwrap_or_default() {
        "Listen" => loop {
            sending.send_data(message("tick"), false)?;
            let left = std::future::poll_fn(|cx| sending.poll_reset(cx));
            if timeout(PAUSE, left).await.is_ok() {
                return Ok(());
            }
        },
        doing @ ("Quiet" | "Hold") => {
            sending.send_data(message("before"), false)?;
            sleep(if doing == "Quiet" { QUIET } else { HOLD }).await;
            sending.send_data(message("after"), false)?;
        }
        "Leak" => {
            trailers.insert("grpc-message", request.headers["authorization"].clone());
        }
        _ => {
            while let Some(text) = told.next().await? {
                sending.send_data(message(&text), false)?;
            }
        }
    }
    sending.send_trailers(trailers)
}

/// `text` as one message: not compressed, its length, itself.
fn message(text: &str) -> Bytes {
    let length = u32::try_from(text.len()).unwrap();
    [&[0], &length.to_be_bytes()[..], text.as_bytes()].concat().into()
}

/// The messages of one side of a call.
pub(crate) struct Messages {
    body: RecvStream,
    read: BytesMut,
}

impl Messages {
    fn new(body: RecvStream) -> Self {
        Self { body, read: BytesMut::new() }
    }

    /// The next one; none if there are no more.
    ///
    /// # Errors
    ///
    /// The stream was reset, or its connection is gone.
    pub(crate) async fn next(&mut self) -> Result<Option<String>, h2::Error> {
        loop {
            if let Some(prefix) = self.read.first_chunk::<5>() {
                let length = u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]) as usize;
                if self.read.len() >= 5 + length {
                    self.read.advance(5);
                    return Ok(Some(String::from_utf8(self.read.split_to(length).to_vec()).unwrap()));
                }
            }
            let Some(data) = timeout(PATIENCE, self.body.data()).await.expect("nothing comes") else { return Ok(None) };
            let data = data?;
            self.body.flow_control().release_capacity(data.len())?;
            self.read.extend_from_slice(&data);
        }
    }

    /// The trailers, once there are no more messages.
    pub(crate) async fn trailers(&mut self) -> HeaderMap {
        assert_eq!(self.next().await.unwrap(), None);
        timeout(PATIENCE, self.body.trailers()).await.unwrap().unwrap().expect("trailers")
    }

    /// Why it ends before its time.
    pub(crate) async fn broken(mut self) -> h2::Error {
        loop {
            match self.next().await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("it ends in good order"),
                Err(error) => return error,
            }
        }
    }
}

/// One connection of a client, for any number of calls.
pub(crate) struct Channel {
    requests: SendRequest<Bytes>,
    authority: String,
    driving: JoinSet<()>,
}

/// A call that has been made.
pub(crate) struct Call {
    answer: ResponseFuture,
    sending: SendStream<Bytes>,
}

/// What a call of the app's own page says of itself.
pub(crate) const OWN: (&str, &str) = ("sec-fetch-site", "same-origin");

impl Channel {
    /// Connects to `address`, which is known by the name of localhost.
    pub(crate) async fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        let (requests, connection) = h2::client::handshake(stream).await.unwrap();
        let mut driving = JoinSet::new();
        driving.spawn(async move { drop(connection.await) });
        Self { requests, authority: format!("localhost:{}", address.port()), driving }
    }

    /// Calls `path` with `browser`'s cookies, each in a field of its own as HTTP/2 allows, and further `fields`.
    pub(crate) async fn call(&mut self, path: &str, browser: &Browser, fields: &[(&str, &str)]) -> Call {
        let mut request = Request::post(format!("http://{}{path}", self.authority)).version(Version::HTTP_2);
        for (name, value) in [("content-type", "application/grpc"), ("te", "trailers")].iter().chain(fields) {
            request = request.header(*name, *value);
        }
        for cookie in browser.cookies().header("localhost", Reach::SameSite).iter().flat_map(|it| it.split("; ")) {
            request = request.header("cookie", cookie);
        }
        self.send(request.body(()).unwrap(), false).await
    }

    /// Asks for `path` with `browser`'s cookies, as an `EventSource` does.
    pub(crate) async fn listen(&mut self, path: &str, browser: &Browser) -> Call {
        let cookies = browser.cookies().header("localhost", Reach::SameSite).unwrap_or_default();
        let request = Request::get(format!("http://{}{path}", self.authority)).version(Version::HTTP_2);
        let request = request.header("accept", "text/event-stream").header(OWN.0, OWN.1).header("cookie", cookies);
        self.send(request.body(()).unwrap(), true).await
    }

    async fn send(&mut self, request: Request<()>, end: bool) -> Call {
        let ready = timeout(PATIENCE, self.requests.clone().ready()).await.expect("no more streams are allowed");
        let (answer, sending) = ready.unwrap().send_request(request, end).unwrap();
        Call { answer, sending }
    }

    /// Waits until the server has closed the connection.
    pub(crate) async fn closed(mut self) {
        timeout(PATIENCE, self.driving.join_next()).await.expect("it is open").unwrap().unwrap();
    }
}

impl Call {
    /// Says `text`, and whether that is all.
    pub(crate) fn say(&mut self, text: &str, end: bool) {
        self.sending.send_data(message(text), end).unwrap();
    }

    /// The head of the answer, and its messages. The call goes on while its own side is kept.
    ///
    /// # Errors
    ///
    /// The stream was reset.
    pub(crate) async fn answered(self) -> Result<(http::response::Parts, Messages, SendStream<Bytes>), h2::Error> {
        let answer = timeout(PATIENCE, self.answer).await.expect("no answer")?;
        let (parts, body) = answer.into_parts();
        Ok((parts, Messages::new(body), self.sending))
    }

    /// The status of the answer, after which the call is given up.
    pub(crate) async fn status(self) -> u16 {
        self.answered().await.unwrap().0.status.as_u16()
    }
}
