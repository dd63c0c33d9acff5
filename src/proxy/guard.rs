//! What the engine leaves unbounded: how many connections there are, how long a head may take, how long one may be idle,
//! how large a head may be.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use http::header::{CONTENT_LENGTH, COOKIE, HOST};
use pingora::apps::ServerApp;
use pingora::http::RequestHeader;
use pingora::protocols::Stream;
use pingora::server::ShutdownWatch;
use tokio::sync::{Semaphore, watch};

use super::wire::Wire;
use super::{KEEP_ALIVE, follow};
use crate::gateway::reply::Refusal;

/// What a connection and a request may cost.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections of browsers at a time.
    pub connections: usize,
    /// Bytes of a request's body.
    pub max_body_bytes: u64,
    /// Whether HTTP/2 is understood beside HTTP/1.1, without TLS (RFC 9113 section 3.3).
    pub http2: bool,
}

/// Bytes of a request's head: names, values and what separates them.
pub(super) const MAX_HEAD: u32 = 32 * 1024;
/// Bytes of a request target.
const MAX_TARGET: usize = 8 * 1024;
/// Cookies of a request: browsers keep far fewer for one host.
const MAX_COOKIES: usize = 200;

impl Limits {
    /// The refusal of a request whose head is larger than we read, or whose framing servers disagree about.
    pub(super) fn refusal(&self, request: &RequestHeader) -> Option<Refusal> {
        let target = request.uri.path_and_query().map_or(0, |target| target.as_str().len());
        let fields: usize =
            request.headers.iter().map(|(name, value)| name.as_str().len() + value.as_bytes().len() + 4).sum();
        let pairs = |value: &http::HeaderValue| value.as_bytes().split(|byte| *byte == b';').count();
        let cookies: usize = request.headers.get_all(COOKIE).iter().map(pairs).sum();
        if target > MAX_TARGET || target + fields > MAX_HEAD as usize || cookies > MAX_COOKIES {
            return Some(Refusal::HeadTooLarge);
        }
        let lengths: Vec<_> = request.headers.get_all(CONTENT_LENGTH).iter().collect();
        let length = match lengths.as_slice() {
            [] => 0,
            [one] => match one.to_str().ok().and_then(|text| text.parse::<u64>().ok()) {
                Some(length) => length,
                None => return Some(Refusal::BadRequest("a Content-Length that is no number")),
            },
            _ => return Some(Refusal::BadRequest("more than one Content-Length")),
        };
        if length > self.max_body_bytes {
            return Some(Refusal::BodyTooLarge);
        }
        // What is neither a path nor a whole address (RFC 9112 section 3.2) the engine reads as some path of its own making.
        let raw = request.raw_path();
        if !raw.starts_with(b"/") && request.uri.scheme().is_none() {
            return Some(Refusal::BadRequest("a target that is no path"));
        }
        // HTTP/2 carries the authority in the target instead (RFC 9113 section 8.3.1).
        if !request.headers.contains_key(HOST) && request.uri.authority().is_none() {
            return Some(Refusal::BadRequest("no Host"));
        }
        None
    }
}

/// Serves connections within the limits, and knows when the last one is gone.
pub struct Guard<A> {
    inner: Arc<A>,
    connections: Arc<Connections>,
}

/// The connections of browsers that are open now.
#[derive(Debug)]
pub struct Connections {
    free: Semaphore,
    all: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// For the head of a request.
    Waiting,
    /// A request.
    Serving,
    /// Somebody who only listens, and comes again when the connection is closed.
    Listening,
}

tokio::task_local! {
    /// The phase of the connection that this task serves.
    static PHASE: watch::Sender<Phase>;
}

/// The head of a request has arrived: from now on other limits hold.
pub(super) fn head_arrived() {
    set(Phase::Serving);
}

/// From now on nothing is lost if the connection is closed.
pub(super) fn only_listened_to() {
    set(Phase::Listening);
}

/// The request has been answered: the next head is waited for.
pub(super) fn request_done() {
    set(Phase::Waiting);
}

fn set(phase: Phase) {
    if PHASE.try_with(|sender| sender.send_replace(phase)).is_err() {
        tracing::trace!("a request outside of a guarded connection");
    }
}

impl<A> Guard<A> {
    /// Guards `inner`.
    pub fn new(inner: A, limits: Limits) -> Self {
        let all = u32::try_from(limits.connections).unwrap_or(u32::MAX >> 3);
        let connections = Arc::new(Connections { free: Semaphore::new(all as usize), all });
        Self { inner: Arc::new(inner), connections }
    }

    /// The open connections.
    pub fn connections(&self) -> Arc<Connections> {
        Arc::clone(&self.connections)
    }
}

impl Connections {
    /// Waits until none is left, or until `deadline` has passed; returns whether none is left.
    pub async fn gone(&self, deadline: Duration) -> bool {
        tokio::time::timeout(deadline, self.free.acquire_many(self.all)).await.is_ok()
    }
}

#[async_trait]
impl<A: ServerApp + Send + Sync + 'static> ServerApp for Guard<A> {
    async fn process_new(self: &Arc<Self>, stream: Stream, shutdown: &ShutdownWatch) -> Option<Stream> {
        let Ok(_permit) = self.connections.free.try_acquire() else {
            tracing::warn!("a connection is refused: server.connections are open already");
            return None;
        };
        let (phase, watched) = watch::channel(Phase::Waiting);
        let (wire, line) = Wire::new(stream);
        let serving = self.inner.process_new(Box::new(wire), shutdown);
        let serving = PHASE.scope(phase, follow::serve(serving, Some(line), shutdown.clone()));
        tokio::select! {
            biased;
            reusable = serving => reusable,
            () = overdue(watched, shutdown.clone()) => None,
        }
    }

    async fn cleanup(&self) {
        self.inner.cleanup().await;
    }
}

/// Serves one stream of an HTTP/2 connection. Its head is there already; it ends with the server if it is only listened
/// to.
pub(super) async fn stream<T>(serving: impl Future<Output = Option<T>>, shutdown: ShutdownWatch) -> Option<T> {
    let (phase, mut watched) = watch::channel(Phase::Serving);
    let stopping = async move {
        if watched.wait_for(|phase| *phase == Phase::Listening).await.is_ok() {
            overdue(watched, shutdown).await;
        } else {
            std::future::pending().await
        }
    };
    tokio::select! {
        biased;
        done = PHASE.scope(phase, serving) => done,
        () = stopping => None,
    }
}

/// Returns when a head has been waited for too long, or the server is to stop and nothing is being served.
async fn overdue(mut phase: watch::Receiver<Phase>, mut shutdown: ShutdownWatch) {
    while phase.wait_for(|phase| *phase != Phase::Serving).await.is_ok() {
        let waits = *phase.borrow() == Phase::Waiting;
        let stopping = async { drop(shutdown.wait_for(|stopping| *stopping).await) };
        tokio::select! {
            biased;
            changed = phase.changed() => if changed.is_err() {
                break;
            },
            () = stopping => return,
            () = tokio::time::sleep(KEEP_ALIVE), if waits => return,
        }
    }
    // The connection is done, and with it the other branch.
    std::future::pending().await
}
