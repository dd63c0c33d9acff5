//! Stage directions for a server under test: what its next answers shall be, and what has been asked of it.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::Response;
use hyper::body::Frame;
use tokio::sync::{Notify, watch};

use super::serving::{Scissors, lock};

/// How one request is to be answered.
///
/// ```ignore
/// Act::usual().wait_first(&hold)                          // as always, but only when the test says so
/// Act::instead(503, "busy").header("retry-after", "2")    // not processed at all
/// Act::instead(502, "").processed()                       // the work is done, its result lost behind an error
/// Act::cut().processed()                                  // the work is done, the connection dies before the answer
/// ```
#[derive(Debug)]
#[must_use = "an act does nothing until it is put on a queue"]
pub struct Act {
    first: Option<Wait>,
    work: Work,
    then: Option<Wait>,
    reply: Reply,
}

impl Act {
    /// Processed and answered as without a script.
    pub const fn usual() -> Self {
        Self { first: None, work: Work::Done, then: None, reply: Reply::Own }
    }

    /// Not processed; answered with this instead. A status outside 100 to 999 becomes 500.
    pub fn instead(status: u16, body: impl Into<String>) -> Self {
        Self::answer(status, Body::from(body.into()))
    }

    /// Not processed; answered with these bytes instead, whatever they are. The status is as in
    /// [`instead`](Self::instead).
    pub fn bytes(status: u16, body: Vec<u8>) -> Self {
        Self::answer(status, Body::from(body))
    }

    /// Not processed; answered with 200 and a body that comes in pieces, with a pause behind each. A field
    /// `content-length` that says more than the pieces have leaves the body cut short.
    pub fn pieces(pieces: Vec<Vec<u8>>, pause: Duration) -> Self {
        let pieces = pieces.into_iter().map(Bytes::from).collect();
        Self::answer(200, Body::new(Drip { pieces, pause, rest: None }))
    }

    fn answer(status: u16, body: Body) -> Self {
        let mut response = Response::new(body);
        *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Self { first: None, work: Work::Skipped, then: None, reply: Reply::Other(response) }
    }

    /// Not processed; the connection ends without an answer.
    pub const fn cut() -> Self {
        Self { first: None, work: Work::Skipped, then: None, reply: Reply::None }
    }

    /// Adds a header field to an answer made by [`instead`](Self::instead); elsewhere, or where the field is not
    /// one that HTTP allows, nothing changes.
    pub fn header(mut self, name: &'static str, value: &str) -> Self {
        if let (Reply::Other(response), Ok(value)) = (&mut self.reply, HeaderValue::from_str(value)) {
            response.headers_mut().append(HeaderName::from_static(name), value);
        }
        self
    }

    /// The request is processed with all its effects, whatever is then answered.
    pub const fn processed(mut self) -> Self {
        self.work = Work::Done;
        self
    }

    /// Waits before the request is processed. A caller who leaves during the wait has no effect.
    pub fn wait_first(mut self, wait: impl Into<Wait>) -> Self {
        self.first = Some(wait.into());
        self
    }

    /// Waits after the request was processed, before the answer.
    pub fn wait_then(mut self, wait: impl Into<Wait>) -> Self {
        self.then = Some(wait.into());
        self
    }

    /// Plays the act: `process` does the work, `scissors` hold the caller's connection.
    pub async fn play(self, scissors: &Scissors, process: impl FnOnce() -> Response) -> Response {
        if let Some(wait) = self.first {
            wait.over().await;
        }
        let own = match self.work {
            Work::Done => process(),
            Work::Skipped => Response::default(),
        };
        if let Some(wait) = self.then {
            wait.over().await;
        }
        match self.reply {
            Reply::Own => own,
            Reply::Other(response) => response,
            Reply::None => {
                // A cut connection takes no bytes, so whatever is returned is never sent.
                scissors.cut();
                Response::default()
            }
        }
    }
}

/// What an [`Act`] waits for.
#[derive(Debug)]
pub enum Wait {
    /// A time to pass.
    For(Duration),
    /// The test to release it.
    Until(Hold),
}

impl Wait {
    async fn over(self) {
        match self {
            Self::For(time) => tokio::time::sleep(time).await,
            Self::Until(hold) => {
                hold.0.arrived.notify_one();
                hold.0.released.notified().await;
            }
        }
    }
}

impl From<Duration> for Wait {
    fn from(time: Duration) -> Self {
        Self::For(time)
    }
}

impl From<&Hold> for Wait {
    fn from(hold: &Hold) -> Self {
        Self::Until(hold.clone())
    }
}

/// Holds one request back until it is released, so that a test can order events without sleeping.
#[derive(Clone, Debug, Default)]
pub struct Hold(Arc<HoldState>);

impl Hold {
    /// Returns when the request has come as far as the hold.
    pub async fn arrived(&self) {
        self.0.arrived.notified().await;
    }

    /// Lets it go on; also in advance.
    pub fn release(&self) {
        self.0.released.notify_one();
    }
}

/// The acts that are to come, first in, first out.
#[derive(Debug, Default)]
pub struct Queue(Mutex<VecDeque<Act>>);

impl Queue {
    /// Appends an act.
    pub fn push(&self, act: Act) {
        lock(&self.0).push_back(act);
    }

    /// Takes the next act; [`Act::usual`] if none is left.
    pub fn next(&self) -> Act {
        lock(&self.0).pop_front().unwrap_or(Act::usual())
    }

    /// Forgets the acts that have not been played.
    pub fn clear(&self) {
        lock(&self.0).clear();
    }
}

/// Everything that arrived, in the order of arrival.
#[derive(Debug)]
pub struct Record<T> {
    entries: Mutex<Vec<T>>,
    length: watch::Sender<usize>,
}

impl<T> Default for Record<T> {
    fn default() -> Self {
        Self { entries: Mutex::default(), length: watch::Sender::new(0) }
    }
}

impl<T: Clone> Record<T> {
    /// Adds an entry.
    pub fn push(&self, entry: T) {
        let mut entries = lock(&self.entries);
        entries.push(entry);
        self.length.send_replace(entries.len());
    }

    /// A copy of all entries.
    pub fn all(&self) -> Vec<T> {
        lock(&self.entries).clone()
    }

    /// How many entries `choose` accepts.
    pub fn count(&self, choose: impl Fn(&T) -> bool) -> usize {
        lock(&self.entries).iter().filter(|entry| choose(entry)).count()
    }

    /// Returns when `choose` accepts at least `number` entries.
    pub async fn until(&self, number: usize, choose: impl Fn(&T) -> bool) {
        let mut length = self.length.subscribe();
        while self.count(&choose) < number {
            // The sender lives as long as `self`, so this cannot fail.
            if length.changed().await.is_err() {
                return;
            }
        }
    }
}

/// A body that comes in pieces.
struct Drip {
    pieces: VecDeque<Bytes>,
    pause: Duration,
    rest: Option<Pin<Box<tokio::time::Sleep>>>,
}

impl HttpBody for Drip {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if let Some(rest) = &mut self.rest {
            ready!(rest.as_mut().poll(context));
        }
        let piece = self.pieces.pop_front();
        self.rest = piece.as_ref().map(|_| Box::pin(tokio::time::sleep(self.pause)));
        Poll::Ready(piece.map(|piece| Ok(Frame::data(piece))))
    }
}

#[derive(Debug)]
enum Work {
    Done,
    Skipped,
}

#[derive(Debug)]
enum Reply {
    Own,
    Other(Response),
    None,
}

#[derive(Debug, Default)]
struct HoldState {
    arrived: Notify,
    released: Notify,
}
