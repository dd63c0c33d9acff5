//! What all answers of our own have in common.

use bytes::Bytes;
use http::header::{
    CACHE_CONTROL, CONTENT_LENGTH, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use http::request::Parts;
use http::{HeaderName, HeaderValue, Method, Response, StatusCode};

use super::super::pages::Page;
use super::Answer;

/// Not stored, not sniffed, not framed, no referrer (HDR-01, CACHE-01).
const FIXED: [(HeaderName, &str); 6] = [
    (CACHE_CONTROL, "no-store"),
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (REFERRER_POLICY, "no-referrer"),
    (CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'; base-uri 'none'"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];

pub(super) fn page(status: StatusCode, page: &Page) -> Answer {
    let mut answer = own(status, "text/html; charset=utf-8", page.render().into());
    if let Ok(policy) = HeaderValue::try_from(page.content_security_policy()) {
        answer.headers_mut().insert(CONTENT_SECURITY_POLICY, policy);
    }
    answer
}

/// What all answers of our own have in common: not stored, not sniffed, not framed, no referrer (HDR-01, CACHE-01).
pub fn own(status: StatusCode, media_type: &'static str, body: Bytes) -> Answer {
    let mut answer = Response::new(body);
    *answer.status_mut() = status;
    let length = HeaderValue::from(answer.body().len());
    let headers = answer.headers_mut();
    headers.insert(CONTENT_LENGTH, length);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    headers.extend(FIXED.map(|(name, value)| (name, HeaderValue::from_static(value))));
    answer
}

/// A HEAD request gets the fields of the GET, its length included, and no body.
pub(super) fn without_body_for_head(mut answer: Answer, request: &Parts) -> Answer {
    if request.method == Method::HEAD {
        *answer.body_mut() = Bytes::new();
    }
    answer
}
