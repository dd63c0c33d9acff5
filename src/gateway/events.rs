//! `GET /bff/session` with `Accept: text/event-stream`: what happens to the session, as it happens (server-sent events,
//! WHATWG HTML section 9.2).
//!
//! | event | data | when |
//! |---|---|---|
//! | `session` | as the JSON answer | at once |
//! | `expiring` | `reason` (`idle`, `absolute`), `seconds` | once, `session.warn` before an end |
//! | `extended` | as the JSON answer | the session was used or refreshed |
//! | `ended` | `reason` | the last one |
//!
//! Listening is no use of the session: it slides nothing. Whoever connects again without a session gets 401, and an
//! `EventSource` then stops.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::ACCEPT;
use http::request::Parts;
use http::{HeaderMap, Method};
use serde_json::{Value, json};

use super::admission::Admission;
use super::reply::{self, Answer, Refusal};
use super::vigil::{Over, Sign, Use, Vigil};
use super::{Decision, Gateway};
use crate::session::SessionId;

/// An event stream of one page. The shell writes what it yields, each piece at once.
pub struct Events {
    gateway: Arc<Gateway>,
    vigil: Vigil,
    head: Answer,
    first: Option<Bytes>,
    /// Of which end the page has been warned.
    warned: Option<Limit>,
    opened: tokio::time::Instant,
    /// When something was last written.
    written: tokio::time::Instant,
    over: bool,
    _place: Place,
}

/// The event streams that are open, by session.
#[derive(Debug, Default)]
pub(super) struct Streams(Mutex<HashMap<SessionId, usize>>);

/// One of them.
#[derive(Debug)]
struct Place {
    streams: Arc<Streams>,
    session: SessionId,
}

/// What ends a session by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Limit {
    Idle,
    Absolute,
}

/// Event streams of one session at a time. One browser needs one: its tabs share it.
const MOST: usize = 20;
/// How often limits are looked at.
const TICK: Duration = Duration::from_secs(1);
/// After so much silence a comment is written, so that proxies on the way keep the connection.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Where uses on other replicas are not heard of, a stream near the idle limit lives only for so long: the cookie that the
/// page brings when it connects again tells of them.
const FRESH: Duration = Duration::from_secs(10);
/// After how long a page connects again: so much and up to twice that, so that not all come back at once.
const RETRY: u16 = 2000;

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events").field("vigil", &self.vigil).field("warned", &self.warned).finish_non_exhaustive()
    }
}

/// Whether a request asks for events.
pub(super) fn are_wanted(request: &Parts) -> bool {
    let events = |value: &http::HeaderValue| value.to_str().is_ok_and(|text| text.contains("text/event-stream"));
    request.method == Method::GET && request.headers.get_all(ACCEPT).iter().any(events)
}

impl Gateway {
    /// Opens an event stream, or says why there is none.
    pub(super) async fn session_events(self: &Arc<Self>, request: &Parts) -> Decision {
        let cleared = self.settings.cross_origin.clear_events(request);
        let refusal = match self.who(request, cleared).await {
            Admission::Admitted(passport) => match self.streams.enter(passport.session.id) {
                Some(place) => {
                    let mut head = reply::event_stream();
                    head.headers_mut().extend(self.cors(&request.headers));
                    let vigil = self.vigil(&passport, Use::Listens);
                    let warned = Limit::last_told(&request.headers);
                    return Decision::Events(Box::new(Events::new(Arc::clone(self), vigil, head, warned, place)));
                }
                None => Refusal::TooManyStreams,
            },
            Admission::Nobody(absence) => Refusal::NoSession(absence.reason),
            Admission::Refused(refusal) => refusal,
        };
        self.refuse(&refusal, request)
    }
}

impl Events {
    fn new(gateway: Arc<Gateway>, vigil: Vigil, head: Answer, warned: Option<Limit>, place: Place) -> Self {
        let jitter = u16::from_ne_bytes(gateway.seams.random.bytes()) % RETRY;
        let now = tokio::time::Instant::now();
        let mut events =
            Self { gateway, vigil, head, first: None, warned, opened: now, written: now, over: false, _place: place };
        let mut first = format!("retry: {}\n\n{}", RETRY + jitter, events.write("session", &events.times()));
        first.extend(events.judge(false));
        events.first = Some(first.into());
        events
    }

    /// The head of the answer; its body is to come.
    pub const fn head(&self) -> &Answer {
        &self.head
    }

    pub(super) const fn head_mut(&mut self) -> &mut Answer {
        &mut self.head
    }

    /// Waits for the next piece of the body; none at its end. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<Bytes> {
        if let Some(first) = self.first.take() {
            return Some(first);
        }
        while !self.over {
            let moved = match tokio::time::timeout(TICK, self.vigil.next()).await {
                Ok(Sign::Over(Over::Ended(reason))) => {
                    self.over = true;
                    return Some(self.write("ended", &json!({ "reason": reason.name() })).into());
                }
                // The page connects again, and is then told what can be told.
                Ok(Sign::Over(Over::Unsure)) => break,
                Ok(Sign::Moved) => true,
                Err(_) => false,
            };
            if self.is_stale() {
                break;
            }
            let silent = self.written.elapsed() >= KEEP_ALIVE;
            if let Some(text) = self.judge(moved).or_else(|| silent.then(|| ": still here\n\n".to_owned())) {
                self.written = tokio::time::Instant::now();
                return Some(text.into());
            }
        }
        self.over = true;
        None
    }

    /// What has to be said of the limits, after they may have `moved`.
    fn judge(&mut self, moved: bool) -> Option<String> {
        let near = self.near();
        if let Some((limit, left)) = near
            && self.warned != Some(limit)
        {
            self.warned = Some(limit);
            return Some(self.write("expiring", &json!({ "reason": limit.name(), "seconds": left.as_secs() })));
        }
        let relieved = near.is_none() && self.warned.take().is_some();
        // Whoever was warned of an end that still stands is not told otherwise.
        (relieved || (moved && near.is_none())).then(|| self.write("extended", &self.times()))
    }

    /// The end that is so near that the page is warned, and how long it is until then.
    fn near(&self) -> Option<(Limit, Duration)> {
        let policy = &self.gateway.settings.session;
        let idle = policy.idle.saturating_sub(self.vigil.unused());
        let absolute = self.vigil.session().expires().until(self.gateway.seams.clock.now());
        let first = if absolute <= idle {
            (Limit::Absolute, absolute, policy.absolute)
        } else {
            (Limit::Idle, idle, policy.idle)
        };
        let (limit, left, whole) = first;
        (left <= policy.warn.min(whole / 5)).then_some((limit, left))
    }

    /// Whether the session seems to become idle, and may have been used where it is not heard of.
    fn is_stale(&self) -> bool {
        self.gateway.seams.ledger.is_shared()
            && self.opened.elapsed() >= FRESH
            && self.near().is_some_and(|(limit, _)| limit == Limit::Idle)
    }

    fn times(&self) -> Value {
        self.gateway.times(self.vigil.session(), self.vigil.unused())
    }

    /// One event. Its id comes back with the page when it connects again, and says what the page was told.
    fn write(&self, event: &str, data: &Value) -> String {
        let id = self.warned.map_or("", Limit::name);
        format!("id: {id}\nevent: {event}\ndata: {data}\n\n")
    }
}

impl Limit {
    const fn name(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Absolute => "absolute",
        }
    }

    /// Of what a page that connects again was warned before.
    fn last_told(headers: &HeaderMap) -> Option<Self> {
        let id = headers.get("last-event-id")?;
        [Self::Idle, Self::Absolute].into_iter().find(|limit| limit.name().as_bytes() == id.as_bytes())
    }
}

impl Streams {
    /// A place for one more stream of `session`, unless it has too many.
    fn enter(self: &Arc<Self>, session: SessionId) -> Option<Place> {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = open.entry(session).or_default();
        (*count < MOST).then(|| {
            *count += 1;
            Place { streams: Arc::clone(self), session }
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.streams.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = open.get_mut(&self.session) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.session);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_has_a_bounded_number_of_streams_and_none_is_forgotten() {
        let streams = Arc::new(Streams::default());
        let (one, other) = (SessionId::from_bytes([1; 16]), SessionId::from_bytes([2; 16]));
        let mut places: Vec<_> = (0..MOST).filter_map(|_| streams.enter(one)).collect();
        assert_eq!(places.len(), MOST);
        assert!(streams.enter(one).is_none());
        assert!(streams.enter(other).is_some(), "another session has its own");
        places.pop();
        assert!(streams.enter(one).is_some());
        drop(places);
        assert!(streams.0.lock().expect("not poisoned").is_empty());
    }
}
