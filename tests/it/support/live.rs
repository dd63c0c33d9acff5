//! An upstream whose answers do not end, and clients that listen to them: WebSockets by a library that is not ours,
//! server-sent events byte by byte.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};
use tokio_tungstenite::tungstenite::protocol::frame::{Frame, FrameHeader};
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, accept_async, client_async};

use super::PATIENCE;
use super::browser::Browser;
use super::jar::Reach;

/// An upstream that goes on until somebody leaves. What it does is in the last part of the path:
///
/// - `flood`: a WebSocket that sends large messages without a pause, each of one repeated byte;
/// - `halves`: one that sends half a frame and then nothing;
/// - `close`: one that says goodbye itself, when it is told anything;
/// - upgrades to anything else: one that repeats what it is told;
/// - `refuse`: 404, whatever is asked;
/// - `lines`: lines, without a media type of streams and without a length;
/// - `download`: a length that it announces and takes its time for;
/// - anything else: an event now and then.
pub(crate) struct Live {
    pub(crate) address: SocketAddr,
    open: Arc<AtomicUsize>,
    _serving: JoinSet<()>,
}

/// The bytes of one message of a flood.
pub(crate) const FLOOD: usize = 700_000;
/// Between two events.
const PAUSE: Duration = Duration::from_millis(20);
/// The bytes of a download, and into how many pieces it is cut.
pub(crate) const DOWNLOAD: usize = 50_000;
const PIECES: usize = 50;

impl Live {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let open = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&open);
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            let mut each = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                while each.try_join_next().is_some() {}
                let counter = Arc::clone(&counter);
                each.spawn(async move {
                    counter.fetch_add(1, Ordering::SeqCst);
                    serve(stream).await;
                    counter.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        Self { address, open, _serving: serving }
    }

    /// A route to it.
    pub(crate) fn route(&self, path: &str, auth: &str) -> String {
        format!("[[route]]\npath = \"{path}\"\nupstream = \"http://{}\"\nauth = \"{auth}\"\n", self.address)
    }

    /// How many of its answers go on.
    pub(crate) fn open(&self) -> usize {
        self.open.load(Ordering::SeqCst)
    }

    /// Waits until only so many go on.
    pub(crate) async fn until_open(&self, wanted: usize) {
        let deadline = Instant::now() + PATIENCE;
        while self.open() != wanted {
            assert!(Instant::now() < deadline, "{} of the upstream's answers go on, and not {wanted}", self.open());
            sleep(Duration::from_millis(5)).await;
        }
    }
}

/// Serves one request, to the end that the other side makes.
async fn serve(stream: TcpStream) {
    let Some((path, upgrade)) = peek(&stream).await else { return };
    let doing = path.rsplit('/').next().unwrap_or_default();
    match (doing, upgrade) {
        ("refuse", _) => {
            let mut stream = BufReader::new(stream);
            if head_of(&mut stream).await.is_some() {
                let answer = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
                stream.get_mut().write_all(answer).await.ok();
            }
        }
        (_, true) => {
            let Ok(socket) = accept_async(stream).await else { return };
            // Whatever breaks it: it is over.
            talk(doing, socket).await.ok();
        }
        (_, false) => {
            let mut stream = BufReader::new(stream);
            if head_of(&mut stream).await.is_some() {
                answer(doing, stream.into_inner()).await.ok();
            }
        }
    }
}

async fn talk(doing: &str, mut socket: WebSocketStream<TcpStream>) -> Result<(), Error> {
    match doing {
        "flood" => {
            // Fragments, so that control frames may come between them.
            for byte in (b'a'..=b'z').cycle() {
                let first = Frame::message(vec![byte; FLOOD / 2], OpCode::Data(Data::Binary), false);
                let rest = Frame::message(vec![byte; FLOOD / 2], OpCode::Data(Data::Continue), true);
                socket.send(Message::Frame(first)).await?;
                socket.send(Message::Frame(rest)).await?;
            }
        }
        "halves" => {
            let mut header = Vec::new();
            FrameHeader::default().format(1000, &mut header)?;
            socket.get_mut().write_all(&[&header[..], &[b'h'; 500]].concat()).await?;
            while socket.get_mut().read(&mut [0; 64]).await? > 0 {}
        }
        "close" => {
            let _told = socket.next().await;
            socket.close(None).await?;
            while socket.next().await.is_some() {}
        }
        _ => {
            while let Some(message) = socket.next().await {
                let message = message?;
                if message.is_text() {
                    socket.send(message).await?;
                }
            }
        }
    }
    Ok(())
}

async fn answer(doing: &str, mut stream: TcpStream) -> std::io::Result<()> {
    if doing == "download" {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {DOWNLOAD}\r\n\r\n");
        stream.write_all(head.as_bytes()).await?;
        for _ in 0..PIECES {
            stream.write_all(&[b'd'; DOWNLOAD / PIECES]).await?;
            sleep(PAUSE).await;
        }
        return Ok(());
    }
    let kind = if doing == "lines" { "text/plain" } else { "text/event-stream" };
    let head = format!("HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nTransfer-Encoding: chunked\r\n\r\n");
    stream.write_all(head.as_bytes()).await?;
    let mut left = [0; 16];
    loop {
        stream.write_all(b"9\r\ndata: x\n\n\r\n").await?;
        // Nothing more is said to us: what can be read is the end.
        if let Ok(read) = timeout(PAUSE, stream.read(&mut left)).await {
            read?;
            return Ok(());
        }
    }
}

/// The path of the request, and whether it asks for an upgrade, without taking it from the stream.
async fn peek(stream: &TcpStream) -> Option<(String, bool)> {
    let mut bytes = vec![0; 64 * 1024];
    loop {
        let length = stream.peek(&mut bytes).await.ok().filter(|length| *length > 0)?;
        let head = String::from_utf8_lossy(&bytes[..length]).to_ascii_lowercase();
        if head.contains("\r\n\r\n") {
            let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
            return Some((path, head.contains("\r\nupgrade: websocket")));
        }
        sleep(Duration::from_millis(1)).await;
    }
}

async fn head_of(stream: &mut BufReader<TcpStream>) -> Option<String> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if stream.read_line(&mut head).await.ok()? == 0 {
            return None;
        }
    }
    Some(head)
}

/// A WebSocket of a page.
pub(crate) struct Socket(WebSocketStream<TcpStream>);

/// How a stream came to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// With a Close frame.
    Closed(u16, String),
    /// With one that holds no code.
    Nameless,
    /// Without one.
    Broken,
}

/// `browser`'s cookies, as it sends them to the site that is at `address` under the name of localhost.
fn cookies(browser: &Browser) -> Option<String> {
    browser.cookies().header("localhost", Reach::SameSite)
}

impl Socket {
    /// Opens one to `address`, as the page of `browser` at `origin` does.
    ///
    /// # Errors
    ///
    /// The status code with which the handshake was answered.
    pub(crate) async fn open(
        address: SocketAddr,
        origin: Option<&str>,
        path: &str,
        browser: &Browser,
    ) -> Result<Self, u16> {
        let host = format!("localhost:{}", address.port());
        let mut request = http::Request::get(format!("ws://{host}{path}"))
            .header("host", &host)
            .header("connection", "Upgrade")
            .header("upgrade", "websocket")
            .header("sec-websocket-version", "13")
            .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
        for (name, value) in [("origin", origin.map(str::to_owned)), ("cookie", cookies(browser))] {
            if let Some(value) = value {
                request = request.header(name, value);
            }
        }
        let stream = TcpStream::connect(address).await.unwrap();
        let shaken = timeout(PATIENCE, client_async(request.body(()).unwrap(), stream)).await.unwrap();
        match shaken {
            Ok((socket, _)) => Ok(Self(socket)),
            Err(Error::Http(answer)) => Err(answer.status().as_u16()),
            Err(error) => panic!("{path}: {error}"),
        }
    }

    /// Says something.
    pub(crate) async fn say(&mut self, text: &str) {
        self.0.send(Message::text(text)).await.unwrap();
    }

    /// Says something, and hears it again.
    pub(crate) async fn echoes(&mut self, text: &str) {
        self.say(text).await;
        let answer = timeout(PATIENCE, self.0.next()).await.unwrap().unwrap().unwrap();
        assert_eq!(answer, Message::text(text));
    }

    /// What is heard next, if it is not a message but the end.
    pub(crate) async fn ended(&mut self) -> Option<End> {
        match timeout(PATIENCE, self.0.next()).await.unwrap() {
            Some(Ok(Message::Close(Some(frame)))) => {
                Some(End::Closed(frame.code.into(), frame.reason.as_str().to_owned()))
            }
            Some(Ok(Message::Close(None))) => Some(End::Nameless),
            Some(Ok(_)) => None,
            Some(Err(_)) | None => Some(End::Broken),
        }
    }

    /// The next message.
    pub(crate) async fn message(&mut self) -> Message {
        timeout(PATIENCE, self.0.next()).await.unwrap().unwrap().unwrap()
    }

    /// Everything that is still to come: the messages, and how it ends. Panics at what is no WebSocket frame.
    pub(crate) async fn rest(mut self) -> (Vec<Message>, End) {
        let mut messages = Vec::new();
        let reading = async {
            loop {
                match self.0.next().await {
                    Some(Ok(Message::Close(Some(frame)))) => {
                        // The library answers it; nothing comes after it.
                        while let Some(Ok(_)) = self.0.next().await {}
                        return End::Closed(frame.code.into(), frame.reason.as_str().to_owned());
                    }
                    Some(Ok(Message::Close(None))) => {
                        while let Some(Ok(_)) = self.0.next().await {}
                        return End::Nameless;
                    }
                    Some(Ok(message)) => messages.push(message),
                    Some(Err(error @ (Error::Capacity(_) | Error::Utf8(_)))) => panic!("{error}"),
                    Some(Err(Error::Protocol(error)))
                        if error.to_string() != "Connection reset without closing handshake" =>
                    {
                        panic!("{error}")
                    }
                    Some(Err(_)) | None => return End::Broken,
                }
            }
        };
        let end = timeout(PATIENCE, reading).await.expect("it goes on");
        (messages, end)
    }

    /// How it ends.
    pub(crate) async fn end(self) -> End {
        self.rest().await.1
    }
}

/// An answer that does not end, over HTTP/1.1.
pub(crate) struct Events(BufReader<TcpStream>);

impl Events {
    /// Asks for `path`, as an `EventSource` of the page does.
    ///
    /// # Errors
    ///
    /// The status code, if it is not 200.
    pub(crate) async fn open(address: SocketAddr, path: &str, browser: &Browser) -> Result<Self, u16> {
        Self::ask(address, path, browser, "text/event-stream").await
    }

    /// As [`open`](Self::open), for another media type.
    ///
    /// # Errors
    ///
    /// As there.
    pub(crate) async fn ask(address: SocketAddr, path: &str, browser: &Browser, accept: &str) -> Result<Self, u16> {
        let cookie = cookies(browser).map(|cookies| format!("Cookie: {cookies}\r\n")).unwrap_or_default();
        Self::send(address, path, &format!("Sec-Fetch-Site: same-origin\r\nAccept: {accept}\r\n{cookie}"), "200").await
    }

    /// The bytes of a WebSocket of `browser`'s page at `origin`, as they come.
    ///
    /// # Errors
    ///
    /// The status code, if it is not 101.
    pub(crate) async fn upgraded(
        address: SocketAddr,
        origin: &str,
        path: &str,
        browser: &Browser,
    ) -> Result<Self, u16> {
        let cookies = cookies(browser).unwrap_or_default();
        let fields = format!(
            "Origin: {origin}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nCookie: {cookies}\r\n"
        );
        Self::send(address, path, &fields, "101").await
    }

    async fn send(address: SocketAddr, path: &str, fields: &str, wanted: &str) -> Result<Self, u16> {
        let head = format!("GET {path} HTTP/1.1\r\nHost: localhost:{}\r\n{fields}\r\n", address.port());
        let mut stream = BufReader::new(TcpStream::connect(address).await.unwrap());
        stream.get_mut().write_all(head.as_bytes()).await.unwrap();
        let head = timeout(PATIENCE, head_of(&mut stream)).await.unwrap().unwrap();
        match head.split(' ').nth(1).unwrap() {
            status if status == wanted => Ok(Self(stream)),
            status => Err(status.parse().unwrap()),
        }
    }

    /// Waits for the next event.
    pub(crate) async fn event(&mut self) {
        let mut line = String::new();
        while !line.starts_with("data: ") {
            line.clear();
            assert_ne!(timeout(PATIENCE, self.0.read_line(&mut line)).await.unwrap().unwrap(), 0, "it is over");
        }
    }

    /// What is still to come, up to the connection's end. Whether it is whole: a chunked body has a last chunk.
    pub(crate) async fn rest(mut self) -> (Vec<u8>, bool) {
        let mut rest = Vec::new();
        // However it ends.
        drop(timeout(PATIENCE, self.0.read_to_end(&mut rest)).await.expect("it goes on"));
        let whole = rest.ends_with(b"0\r\n\r\n");
        (rest, whole)
    }

    /// Exactly so many bytes.
    pub(crate) async fn bytes(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        timeout(PATIENCE, self.0.read_exact(&mut bytes)).await.unwrap().unwrap();
        bytes
    }
}
