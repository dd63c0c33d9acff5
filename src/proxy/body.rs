//! The body of a request, for the endpoint that reads it.

use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use http::Version;
use http::header::{CONTENT_LENGTH, EXPECT};
use pingora::proxy::Session;

use crate::gateway::{Body, BodyError};

/// How long a body may take: those that are read here are small, and the engine itself waits for ever between two
/// pieces of one that comes over HTTP/2.
const TIME: Duration = Duration::from_secs(5);

/// The body of the request that `Session` serves.
pub(super) struct RequestBody<'a>(&'a mut Session);

impl<'a> RequestBody<'a> {
    pub(super) const fn of(session: &'a mut Session) -> Self {
        Self(session)
    }

    async fn collect(&mut self, limit: usize) -> Result<Bytes, BodyError> {
        let head = self.0.req_header();
        let announced = head.headers.get(CONTENT_LENGTH).and_then(|it| it.to_str().ok()?.parse::<u64>().ok());
        if announced.is_some_and(|length| length > limit as u64) {
            return Err(BodyError::TooLarge);
        }
        let waits = head.version == Version::HTTP_11
            && head.headers.get(EXPECT).is_some_and(|it| it.as_bytes().eq_ignore_ascii_case(b"100-continue"));
        let downstream = self.0.as_downstream_mut();
        if waits {
            let keep_alive = downstream.get_keepalive();
            downstream.write_continue_response().await.map_err(|_| BodyError::Broken)?;
            // The engine takes this interim response for one that comes before its request is read, and gives up the
            // connection.
            downstream.set_keepalive(keep_alive);
        }
        let mut body = BytesMut::new();
        while let Some(chunk) = downstream.read_request_body().await.map_err(|_| BodyError::Broken)? {
            if body.len() + chunk.len() > limit {
                return Err(BodyError::TooLarge);
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body.freeze())
    }
}

#[async_trait]
impl Body for RequestBody<'_> {
    async fn read(&mut self, limit: usize) -> Result<Bytes, BodyError> {
        let outcome = tokio::time::timeout(TIME, self.collect(limit)).await.unwrap_or(Err(BodyError::TooSlow));
        if outcome.is_err() {
            // Where the next request would begin is not known for certain any more.
            self.0.set_keepalive(None);
        }
        outcome
    }
}
