//! Streams follow their session: what is still being sent when it ends is cut.
//!
//! A WebSocket is told why, with a Close frame. Anything else just breaks off: HTTP/1.1 closes the connection, HTTP/2
//! resets the one stream; so nobody takes half an answer for a whole one. A request that is no stream costs nothing.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE, HeaderName, UPGRADE};
use http::{HeaderMap, Method};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::server::ShutdownWatch;

use super::wire::Line;
use crate::gateway::{Forwarding, Over};

/// Why a stream is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cut {
    /// Its session is over.
    Over(Over),
    /// The server is to stop.
    Stopping,
}

impl Cut {
    /// The code of the Close frame: 4401 is ours, after HTTP's 401 (RFC 6455 section 7.4.2); the others are registered
    /// with IANA.
    const fn code(self) -> u16 {
        match self {
            Self::Over(Over::Ended(_)) => 4401,
            Self::Over(Over::Unsure) => 1013,
            Self::Stopping => 1012,
        }
    }

    /// The reason in it: what a problem body calls the end of the session.
    const fn reason(self) -> &'static str {
        match self {
            Self::Over(Over::Ended(reason)) => reason.name(),
            Self::Over(Over::Unsure) => "unsure",
            Self::Stopping => "restart",
        }
    }
}

/// What is known of the request that is being served, where its stream is followed.
struct Followed {
    ending: Ending,
    /// Whether `ending` has been polled, and so wakes us.
    begun: bool,
    method: Method,
    path: String,
    status: u16,
    session: bool,
    since: tokio::time::Instant,
}

type Ending = Pin<Box<dyn Future<Output = Cut> + Send>>;

/// What the hooks of a request can reach.
struct Place {
    /// The connection, where it is this request's alone.
    line: Option<Arc<Line>>,
    shutdown: ShutdownWatch,
    followed: RefCell<Option<Followed>>,
}

tokio::task_local! {
    /// Of the connection that this task serves; with HTTP/2, of the one stream.
    static PLACE: Place;
}

/// How long a frame that is open may take to end.
const FRAME: Duration = Duration::from_secs(1);

/// Media types of answers that are streams by their nature.
const STREAMS: [&str; 9] = [
    "text/event-stream",
    "application/grpc",
    "application/grpc-web",
    "application/grpc-web-text",
    "application/connect",
    "application/x-ndjson",
    "application/jsonl",
    "application/json-seq",
    "multipart/x-mixed-replace",
];

/// Media types of calls whose answers may be streams, and quiet for long: gRPC, gRPC-Web, Connect.
const CALLS: [&str; 4] =
    ["application/grpc", "application/grpc-web", "application/grpc-web-text", "application/connect"];

/// What an answer's head says of how long it goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Length {
    /// To an end that is known, or it is there already.
    Finite,
    /// Nobody knows: most such answers are over soon.
    Unknown,
    /// As long as somebody listens.
    Stream,
}

impl Length {
    /// Of the answer with this head.
    pub(super) fn of(request: &RequestHeader, response: &ResponseHeader) -> Self {
        let status = response.status.as_u16();
        if status == 101 {
            Self::Stream
        } else if response.headers.contains_key(CONTENT_LENGTH)
            || request.method == Method::HEAD
            || matches!(status, 100..=199 | 204 | 304)
        {
            Self::Finite
        } else if names(&response.headers, &CONTENT_TYPE, &STREAMS) {
            Self::Stream
        } else {
            Self::Unknown
        }
    }
}

/// Whether the request asks for a stream, which may be silent for long: a WebSocket, server-sent events or gRPC.
pub(super) fn is_stream(request: &RequestHeader) -> bool {
    request.headers.contains_key(UPGRADE)
        || names(&request.headers, &ACCEPT, &["text/event-stream"])
        || names(&request.headers, &CONTENT_TYPE, &CALLS)
}

/// Whether a field holds one of these media types, or one that goes on with `+` or `;`.
fn names(fields: &HeaderMap, name: &HeaderName, types: &[&str]) -> bool {
    let is = |one: &str, wanted: &str| {
        let begins = one.get(..wanted.len()).is_some_and(|start| start.eq_ignore_ascii_case(wanted));
        begins && one.get(wanted.len()..).is_some_and(|rest| rest.is_empty() || rest.starts_with([';', '+', ' ']))
    };
    let listed = |value: &http::HeaderValue| {
        let text = value.to_str().unwrap_or_default();
        text.split(',').map(str::trim).any(|one| types.iter().any(|wanted| is(one, wanted)))
    };
    fields.get_all(name).iter().any(listed)
}

/// From now on the answer to `request` ends with the session that it is `forwarding` for, if there is one.
pub(super) fn begin(forwarding: &Forwarding, request: &RequestHeader) {
    with(|place| {
        let mut followed = place.followed.borrow_mut();
        if followed.is_none()
            && let Some(mut vigil) = forwarding.vigil()
        {
            let ending = Box::pin(async move { Cut::Over(vigil.over().await) });
            *followed = Some(Followed::new(ending, request, true));
        }
    });
}

/// The head of the final answer is about to leave. A connection that it turns into a WebSocket also ends with the server.
pub(super) fn answered(request: &RequestHeader, response: &ResponseHeader) {
    let status = response.status.as_u16();
    with(|place| {
        let mut followed = place.followed.borrow_mut();
        if let (101, Some(line)) = (status, &place.line) {
            line.upgrade();
            let mut shutdown = place.shutdown.clone();
            let stopping = async move {
                drop(shutdown.wait_for(|stopping| *stopping).await);
                Cut::Stopping
            };
            *followed = Some(match followed.take() {
                Some(Followed { ending, method, path, status, session, since, .. }) => {
                    let ending: Ending = Box::pin(async move {
                        tokio::select! { biased; cut = ending => cut, cut = stopping => cut }
                    });
                    Followed { ending, begun: false, method, path, status, session, since }
                }
                None => Followed::new(Box::pin(stopping), request, false),
            });
        }
        if let Some(followed) = &mut *followed {
            followed.status = status;
        }
    });
}

/// The request has been answered.
pub(super) fn end() {
    with(|place| drop(place.followed.take()));
}

fn with(act: impl FnOnce(&Place)) {
    if PLACE.try_with(act).is_err() {
        tracing::trace!("a request outside of a guarded connection");
    }
}

impl Followed {
    fn new(ending: Ending, request: &RequestHeader, session: bool) -> Self {
        Self {
            ending,
            begun: false,
            method: request.method.clone(),
            path: request.uri.path().to_owned(),
            status: 0,
            session,
            since: tokio::time::Instant::now(),
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Cut> {
        self.begun = true;
        self.ending.as_mut().poll(cx)
    }

    /// The line that the hooks write for a request that comes to its own end.
    fn log(&self, cut: Cut) {
        tracing::info!(
            target: "access",
            method = self.method.as_str(),
            path = self.path,
            status = self.status,
            milliseconds = u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX),
            session = self.session,
            cut = cut.reason(),
        );
    }
}

/// Serves a connection, or one stream of it, and cuts it when what the hooks have it follow is over.
///
/// `line` is the connection where it carries one request at a time.
pub(super) async fn serve<T>(
    serving: impl Future<Output = Option<T>>,
    line: Option<Arc<Line>>,
    shutdown: ShutdownWatch,
) -> Option<T> {
    let place = Place { line: line.clone(), shutdown, followed: RefCell::default() };
    let served = async move {
        let cut = {
            let mut serving = pin!(serving);
            let cut = match poll_fn(|cx| turn(serving.as_mut(), cx)).await {
                Turn::Done(done) => return done,
                Turn::Cut(cut) => cut,
            };
            if let Some(line) = &line
                && line.close()
            {
                let frame_ends = poll_fn(|cx| {
                    let over = line.between_frames() || serving.as_mut().poll(cx).is_ready() || line.between_frames();
                    if over { Poll::Ready(()) } else { Poll::Pending }
                });
                tokio::time::timeout(FRAME, frame_ends).await.ok();
            }
            cut
            // The request ends here, with its connection to the upstream.
        };
        if let Some(line) = &line {
            line.say(cut.code(), cut.reason()).await;
        }
        None
    };
    PLACE.scope(place, served).await
}

enum Turn<T> {
    Done(T),
    Cut(Cut),
}

/// One turn of a request. The ending comes first: a flood would use up all that a task may do in one go, and leave none
/// for whoever comes second.
fn turn<T>(serving: Pin<&mut impl Future<Output = T>>, cx: &mut Context<'_>) -> Poll<Turn<T>> {
    if let Some(cut) = cut(cx, true) {
        return Poll::Ready(Turn::Cut(cut));
    }
    if let Poll::Ready(done) = serving.poll(cx) {
        return Poll::Ready(Turn::Done(done));
    }
    match cut(cx, false) {
        Some(cut) => Poll::Ready(Turn::Cut(cut)),
        None => Poll::Pending,
    }
}

/// Looks whether what is followed is over: only if it was looked at before, or only if never.
fn cut(cx: &mut Context<'_>, before: bool) -> Option<Cut> {
    PLACE.with(|place| {
        let mut place = place.followed.borrow_mut();
        let followed = place.as_mut().filter(|followed| followed.begun == before)?;
        match followed.poll(cx) {
            Poll::Ready(cut) => {
                followed.log(cut);
                Some(cut)
            }
            Poll::Pending => None,
        }
    })
}

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::*;

    fn request(method: &str, fields: &[(&'static str, &str)]) -> RequestHeader {
        let mut request = RequestHeader::build(method, b"/a", None).unwrap();
        for (name, value) in fields {
            request.append_header(*name, *value).unwrap();
        }
        request
    }

    #[test]
    fn requests_for_streams_are_known_by_their_fields() {
        let streams: [&[(&'static str, &str)]; 9] = [
            &[("upgrade", "websocket")],
            &[("accept", "text/event-stream")],
            &[("accept", "application/json, text/event-stream;q=0.9")],
            &[("accept", "application/json"), ("accept", "Text/Event-Stream")],
            &[("content-type", "application/grpc")],
            &[("content-type", "application/grpc+proto")],
            &[("content-type", "application/grpc-web+proto")],
            &[("content-type", "application/grpc-web-text")],
            &[("content-type", "application/connect+json")],
        ];
        for fields in streams {
            assert!(is_stream(&request("GET", fields)), "{fields:?}");
        }
        let plain: [&[(&'static str, &str)]; 4] = [
            &[],
            &[("accept", "text/event-streams")],
            &[("accept", "*/*")],
            &[("content-type", "application/grpcish")],
        ];
        for fields in plain {
            assert!(!is_stream(&request("GET", fields)), "{fields:?}");
        }
    }

    #[test]
    fn an_answers_head_tells_how_long_it_may_go_on() {
        let length = |method: &str, status: u16, fields: &[(&'static str, &str)]| {
            let mut response = ResponseHeader::build(StatusCode::from_u16(status).unwrap(), None).unwrap();
            for (name, value) in fields {
                response.append_header(*name, *value).unwrap();
            }
            Length::of(&request(method, &[]), &response)
        };
        assert_eq!(length("GET", 101, &[]), Length::Stream);
        for kind in STREAMS {
            assert_eq!(length("GET", 200, &[("content-type", kind)]), Length::Stream);
        }
        assert_eq!(length("GET", 200, &[("content-type", "text/event-stream; charset=utf-8")]), Length::Stream);
        assert_eq!(length("GET", 200, &[("content-type", "application/json")]), Length::Unknown);
        assert_eq!(length("GET", 200, &[("content-length", "2")]), Length::Finite);
        assert_eq!(
            length("GET", 200, &[("content-length", "2"), ("content-type", "text/event-stream")]),
            Length::Finite
        );
        assert_eq!(length("HEAD", 200, &[]), Length::Finite);
        assert_eq!(length("GET", 304, &[]), Length::Finite);
    }

    #[tokio::test]
    async fn a_flood_does_not_hide_the_end() {
        let (_sender, shutdown) = tokio::sync::watch::channel(false);
        let flood = async {
            let ending = async {
                tokio::time::sleep(Duration::from_millis(20)).await;
                Cut::Over(Over::Unsure)
            };
            with(|place| {
                *place.followed.borrow_mut() = Some(Followed::new(Box::pin(ending), &request("GET", &[]), true));
            });
            loop {
                // Ready at once, until the task has used up its turn.
                tokio::task::coop::consume_budget().await;
            }
        };
        let served: Option<()> = serve(flood, None, shutdown).await;
        assert_eq!(served, None);
    }
}
