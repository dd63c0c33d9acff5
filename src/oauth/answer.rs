//! Answers of the endpoints that a client asks by itself: what refuses, and what is trouble.

use std::time::Duration;

use bytes::Bytes;
use http::{StatusCode, header};

use super::document::Document;
use super::error::{Error, Misbehaviour, presentable};

/// The longest pause that a server can ask for.
const MAX_RETRY_AFTER: u64 = 3600;

/// What an answer says if it is none of the `good` ones; faults call it `name`.
pub(super) fn refusal(name: &'static str, good: &[StatusCode], response: &http::Response<Bytes>) -> Option<Error> {
    let (status, body) = (response.status(), response.body());
    let trouble = |what: &str| {
        let what = format!("{name}: status {}, {what}", status.as_u16());
        Some(Misbehaviour::from(what).retry_after(retry_after(response)).into())
    };
    if is_html(response) {
        return trouble("an HTML page");
    }
    let passing = [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_EARLY, StatusCode::TOO_MANY_REQUESTS];
    if status.is_server_error() || passing.contains(&status) {
        return trouble("trouble that passes");
    }
    if !status.is_client_error() && !good.contains(&status) {
        return trouble("neither success nor a refusal");
    }
    let document = Document::read(name, body).ok();
    let text = |member| document.as_ref().and_then(|it| it.text(member).ok().flatten()).map(presentable);
    // Some servers refuse with status 200, and some without saying why.
    let error = text("error").or_else(|| status.is_client_error().then(|| Error::UNSPECIFIED.to_owned()))?;
    Some(Error::IssuerRefused { error, description: text("error_description"), status: Some(status.as_u16()) })
}

/// A page for people: some gateway's, not that of the endpoint. An empty body is no page, whatever its type.
fn is_html(response: &http::Response<Bytes>) -> bool {
    let body = response.body().trim_ascii_start();
    let declared = response
        .headers()
        .get(header::CONTENT_TYPE)
        .and_then(|it| it.to_str().ok())
        .is_some_and(|it| it.trim_start().to_ascii_lowercase().starts_with("text/html"));
    body.starts_with(b"<") || declared && !body.is_empty() && !body.starts_with(b"{")
}

/// The pause in seconds that the server asks for (RFC 9110 section 10.2.3); a date is not read.
fn retry_after(response: &http::Response<Bytes>) -> Option<Duration> {
    let text = response.headers().get(header::RETRY_AFTER)?.to_str().ok()?;
    let seconds: u64 = text.trim().parse().ok()?;
    Some(Duration::from_secs(seconds.min(MAX_RETRY_AFTER)))
}
