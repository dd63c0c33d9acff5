//! Answers of our own, written to the browser.

use std::time::Duration;

use bytes::Bytes;
use http::header::TRANSFER_ENCODING;
use http::{Response, Version};
use pingora::Result;
use pingora::http::ResponseHeader;
use pingora::proxy::Session;

use super::{follow, guard};
use crate::gateway::Events;

/// How much of a body that nobody wants is read before the answer, so that the connection can be used again.
const DRAIN_BYTES: usize = 64 * 1024;
const DRAIN_TIME: Duration = Duration::from_secs(2);

/// Writes `answer`, after the request's body is out of the way.
pub(super) async fn respond(session: &mut Session, answer: Response<Bytes>) -> Result<()> {
    // What a call has still to say may take as long as the call. With HTTP/2 it is in nobody's way.
    let is_call = session.req_header().version == Version::HTTP_2 && follow::is_stream(session.req_header());
    if is_call || session.as_downstream_mut().is_body_done() || drain(session).await {
        // The connection may go on.
    } else {
        session.set_keepalive(None);
    }
    let (parts, body) = answer.into_parts();
    let head = ResponseHeader::from(parts);
    let end = body.is_empty();
    session.write_response_header(Box::new(head), end).await?;
    if end { Ok(()) } else { session.write_response_body(Some(body), true).await }
}

/// Writes events as they come, until there are no more or the browser has left.
pub(super) async fn stream(session: &mut Session, mut events: Events) -> Result<()> {
    if !session.as_downstream_mut().is_body_done() && !drain(session).await {
        session.set_keepalive(None);
    }
    let mut head = ResponseHeader::from(events.head().clone().into_parts().0);
    if session.req_header().version == Version::HTTP_11 {
        head.insert_header(TRANSFER_ENCODING, "chunked")?;
    } else {
        // Where there are no chunks, the body ends with the connection.
        session.set_keepalive(None);
    }
    session.write_response_header(Box::new(head), false).await?;
    guard::only_listened_to();
    loop {
        let event = tokio::select! {
            biased;
            event = events.next() => event,
            // Nothing comes from a browser that listens but its end.
            _ = session.as_downstream_mut().read_body_or_idle(true) => {
                session.set_keepalive(None);
                return Ok(());
            }
        };
        match event {
            Some(text) => session.write_response_body(Some(text), false).await?,
            None => return session.write_response_body(None, true).await,
        }
    }
}

/// Whether the whole body has been read.
async fn drain(session: &mut Session) -> bool {
    let reading = async {
        let mut read = 0;
        loop {
            match session.as_downstream_mut().read_request_body().await {
                Ok(Some(chunk)) => read += chunk.len(),
                Ok(None) => return true,
                Err(_) => return false,
            }
            if read > DRAIN_BYTES {
                return false;
            }
        }
    };
    tokio::time::timeout(DRAIN_TIME, reading).await.unwrap_or(false)
}
