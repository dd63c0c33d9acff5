//! What the module that pages import is served, and what it is served with.

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_LENGTH};
use http::request::Parts;
use http::{HeaderValue, StatusCode};

use super::{Answer, own, page, without_body_for_head};
use crate::gateway::pages::Page;

/// The module.
pub(in super::super) fn script(text: Bytes, request: &Parts) -> Answer {
    let mut answer = own(StatusCode::OK, "text/javascript; charset=utf-8", text);
    answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    without_body_for_head(answer, request)
}

/// The last page of a login in a pop-up.
pub(in super::super) fn landing(landing: &Page, request: &Parts) -> Answer {
    without_body_for_head(page(StatusCode::OK, landing), request)
}

/// The head of an event stream, whose length nobody knows.
pub(in super::super) fn event_stream() -> Answer {
    let mut answer = own(StatusCode::OK, "text/event-stream", Bytes::new());
    answer.headers_mut().remove(CONTENT_LENGTH);
    // nginx holds answers back otherwise.
    answer.headers_mut().insert("x-accel-buffering", HeaderValue::from_static("no"));
    answer
}
