//! Ring 4: Pingora, and nothing but Pingora. The hooks in the order in which a request meets them, each a few lines.

mod body;
mod follow;
mod frames;
mod guard;
mod hesitant;
mod local;
mod peer;
mod streams;
mod wire;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::StatusCode;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::proxy::{FailToProxy, ProxyHttp, Session};
use pingora::upstreams::peer::HttpPeer;
use pingora::{BError, Error, ErrorSource, ErrorType, ImmutStr, Result, RetryType};

use self::body::RequestBody;
use self::follow::Length;
pub use self::guard::{Connections, Guard, Limits};
pub use self::peer::Peers;
pub use self::streams::Streams;
use crate::gateway::{Decision, Failure, Forwarding, Gateway, NoBody, Peer, Verdict};

/// The proxy engine's side of the gateway.
#[derive(Debug)]
pub struct Shell {
    gateway: Arc<Gateway>,
    peers: Arc<Peers>,
    limits: Limits,
}

/// What is known of one request while it is served.
#[derive(Debug)]
pub struct RequestContext {
    started: tokio::time::Instant,
    forwarding: Option<Box<Forwarding>>,
    /// How many addresses of the upstream have been tried.
    attempts: usize,
    body_bytes: u64,
    /// The answer goes on, nobody knows for how long, and does not follow its session yet.
    unfollowed: bool,
}

/// The upstream's answer calls for one more attempt. Only our own code makes this error.
const REPEAT: ErrorType = ErrorType::Custom("RepeatWithNewerCredentials");
/// Something else is answered in place of the upstream's answer. Only our own code makes this error.
const REPLACE: ErrorType = ErrorType::Custom("AnswerReplaced");
/// The request body is larger than the limit.
const TOO_LARGE: ErrorType = ErrorType::Custom("RequestBodyTooLarge");
/// How long a browser's connection may be idle between two requests, and how long a request's head may take.
const KEEP_ALIVE: Duration = Duration::from_secs(60);
/// An answer of unknown length that goes on for so long is taken for a stream.
const LONG: Duration = Duration::from_secs(5);
/// A stream that was upgraded is quiet for as long as it likes.
const STREAM_IDLE: Duration = Duration::from_secs(24 * 3600);

impl Shell {
    /// A shell around `gateway`, whose upstreams are found through `peers`.
    pub const fn new(gateway: Arc<Gateway>, peers: Arc<Peers>, limits: Limits) -> Self {
        Self { gateway, peers, limits }
    }
}

#[async_trait]
impl ProxyHttp for Shell {
    type CTX = RequestContext;

    fn new_ctx(&self) -> RequestContext {
        let started = tokio::time::Instant::now();
        RequestContext { started, forwarding: None, attempts: 0, body_bytes: 0, unfollowed: false }
    }

    fn init_downstream_modules(&self, _modules: &mut pingora::modules::http::HttpModules) {
        // None: compressing answers that mix secrets with reflected input invites BREACH, and buffers event streams.
    }

    async fn early_request_filter(&self, session: &mut Session, _ctx: &mut RequestContext) -> Result<()> {
        guard::head_arrived();
        if session.get_keepalive().is_some() {
            // Without this a connection that has had one request may stay idle for ever.
            session.set_keepalive(Some(KEEP_ALIVE.as_secs()));
        }
        Ok(())
    }

    async fn request_filter(&self, session: &mut Session, ctx: &mut RequestContext) -> Result<bool> {
        if let Some(refusal) = self.limits.refusal(session.req_header()) {
            let answer = self.gateway.refused(&refusal, session.req_header());
            return local::respond(session, answer).await.map(|()| true);
        }
        let address = session.client_addr().and_then(|address| address.as_inet()).map(std::net::SocketAddr::ip);
        // Only in tests without a socket is there no address.
        let peer = Peer { address: address.unwrap_or(std::net::IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED)) };
        let decision = if session.as_downstream_mut().is_body_done() {
            self.gateway.decide(session.req_header(), peer, &mut NoBody).await
        } else {
            // The engine keeps the head where it reads the body from, so the head is lent out as a copy.
            let head = session.req_header().as_owned_parts();
            self.gateway.decide(&head, peer, &mut RequestBody::of(session)).await
        };
        match decision {
            Decision::Respond(answer) => local::respond(session, answer).await.map(|()| true),
            Decision::Events(events) => local::stream(session, *events).await.map(|()| true),
            Decision::Forward(forwarding) => {
                if follow::is_stream(session.req_header()) {
                    session.set_read_timeout(Some(STREAM_IDLE));
                    follow::begin(&forwarding, session.req_header());
                }
                ctx.forwarding = Some(forwarding);
                Ok(false)
            }
        }
    }

    async fn upstream_peer(&self, session: &mut Session, ctx: &mut RequestContext) -> Result<Box<HttpPeer>> {
        let forwarding = ctx.forwarding.as_ref().ok_or_else(undecided)?;
        let mut peer = self.peers.select(forwarding.upstream(), ctx.attempts).await?;
        if follow::is_stream(session.req_header()) {
            peer.options.read_timeout = None;
        }
        if session.is_upgrade_req() {
            self.peers.prepare_upgrade(&mut peer, forwarding.upstream());
        }
        Ok(Box::new(peer))
    }

    async fn upstream_request_filter(
        &self,
        _session: &mut Session,
        request: &mut RequestHeader,
        ctx: &mut RequestContext,
    ) -> Result<()> {
        // The engine shows us the body again with each attempt.
        ctx.body_bytes = 0;
        let edits = ctx.forwarding.as_mut().ok_or_else(undecided)?.attempt();
        for name in edits.remove {
            request.remove_header(name);
        }
        for (name, value) in edits.set {
            request.insert_header(name, value)?;
        }
        request.set_uri(http::Uri::from(edits.target.clone()));
        Ok(())
    }

    async fn request_body_filter(
        &self,
        _session: &mut Session,
        body: &mut Option<Bytes>,
        _end_of_stream: bool,
        ctx: &mut RequestContext,
    ) -> Result<()> {
        ctx.body_bytes += body.as_ref().map_or(0, |chunk| chunk.len() as u64);
        if ctx.body_bytes > self.limits.max_body_bytes {
            return Error::e_explain(TOO_LARGE, "the request body is larger than server.max_body_bytes");
        }
        Ok(())
    }

    async fn upstream_response_filter(
        &self,
        session: &mut Session,
        response: &mut ResponseHeader,
        ctx: &mut RequestContext,
    ) -> Result<()> {
        let Some(forwarding) = &mut ctx.forwarding else { return Ok(()) };
        match forwarding.answered(response.status, &response.headers).await {
            Verdict::Repeat | Verdict::RepeatOrReplace if !session.as_ref().retry_buffer_truncated() => {
                let mut error = Error::explain(REPEAT, "with a newer token, or a newer proof of it");
                error.retry = RetryType::Decided(true);
                Err(error)
            }
            Verdict::Replace | Verdict::RepeatOrReplace => {
                Error::e_explain(REPLACE, "the upstream's answer is not passed on")
            }
            Verdict::Repeat | Verdict::Pass => Ok(()),
        }
    }

    async fn response_filter(
        &self,
        session: &mut Session,
        response: &mut ResponseHeader,
        ctx: &mut RequestContext,
    ) -> Result<()> {
        let interim = response.status.is_informational() && response.status != StatusCode::SWITCHING_PROTOCOLS;
        let Some(forwarding) = ctx.forwarding.as_ref().filter(|_| !interim) else { return Ok(()) };
        match Length::of(session.req_header(), response) {
            Length::Stream => follow::begin(forwarding, session.req_header()),
            Length::Unknown => ctx.unfollowed = forwarding.has_session(),
            Length::Finite => {}
        }
        follow::answered(session.req_header(), response);
        let edits = forwarding.depart(session.req_header(), &response.headers);
        for name in edits.remove {
            response.remove_header(&name);
        }
        for (name, value) in edits.set {
            response.insert_header(name, value)?;
        }
        for (name, value) in edits.append {
            response.append_header(name, value)?;
        }
        Ok(())
    }

    fn response_body_filter(
        &self,
        session: &mut Session,
        _body: &mut Option<Bytes>,
        end_of_stream: bool,
        ctx: &mut RequestContext,
    ) -> Result<Option<Duration>> {
        if ctx.unfollowed
            && !end_of_stream
            && ctx.started.elapsed() >= LONG
            && let Some(forwarding) = &ctx.forwarding
        {
            ctx.unfollowed = false;
            follow::begin(forwarding, session.req_header());
        }
        Ok(None)
    }

    async fn response_trailer_filter(
        &self,
        _session: &mut Session,
        trailers: &mut http::HeaderMap,
        ctx: &mut RequestContext,
    ) -> Result<Option<Bytes>> {
        for name in ctx.forwarding.as_ref().map(|it| it.unsaid(trailers)).unwrap_or_default() {
            trailers.remove(name);
        }
        Ok(None)
    }

    fn fail_to_connect(
        &self,
        _session: &mut Session,
        _peer: &HttpPeer,
        ctx: &mut RequestContext,
        mut error: BError,
    ) -> BError {
        // Nothing was sent yet, so the next address of the upstream may be tried, whatever the method.
        ctx.attempts += 1;
        let more = ctx.forwarding.as_ref().is_some_and(|it| ctx.attempts < self.peers.count(it.upstream()));
        error.set_retry(more);
        error
    }

    fn error_while_proxy(
        &self,
        _peer: &HttpPeer,
        session: &mut Session,
        mut error: BError,
        _ctx: &mut RequestContext,
        client_reused: bool,
    ) -> BError {
        if error.etype == REPEAT || error.etype == REPLACE {
            return error;
        }
        // A proxy must not repeat what is not idempotent (RFC 9110 section 9.2.2), unless the upstream says that it has not
        // begun with it: a refused stream, or one that a GOAWAY leaves out (RFC 9113 section 8.7).
        let untouched = error.etype == ErrorType::H2Error && matches!(error.retry, RetryType::Decided(true));
        let may_repeat = untouched || session.req_header().method.is_idempotent();
        if !may_repeat || session.as_ref().retry_buffer_truncated() {
            error.set_retry(false);
        } else {
            error.retry.decide_reuse(client_reused);
        }
        error
    }

    async fn fail_to_proxy(&self, session: &mut Session, error: &Error, ctx: &mut RequestContext) -> FailToProxy {
        let gone = FailToProxy { error_code: 0, can_reuse_downstream: false };
        let failure = match (&error.etype, &error.esource) {
            (etype, _) if *etype == TOO_LARGE => Failure::BodyTooLarge,
            (etype, _) if *etype == REPLACE => Failure::Replaced,
            (
                ErrorType::ReadTimedout | ErrorType::WriteTimedout | ErrorType::ConnectTimedout,
                ErrorSource::Upstream,
            ) => Failure::TimedOut,
            (_, ErrorSource::Upstream) => Failure::Unreachable,
            // It still listens: the engine has looked at its request once more, and refuses it.
            (ErrorType::InvalidHTTPHeader, ErrorSource::Downstream) => Failure::Malformed,
            // The browser has left; there is nobody to answer.
            (_, ErrorSource::Downstream) => return gone,
            (_, ErrorSource::Internal | ErrorSource::Unset) => Failure::Internal,
        };
        if session.response_written().is_some() {
            return gone;
        }
        if failure != Failure::Replaced {
            tracing::warn!(cause = %cause(error), ?failure, "a request cannot be forwarded");
        }
        let Some(forwarding) = &ctx.forwarding else { return gone };
        let answer = forwarding.failed(session.req_header(), failure);
        let error_code = answer.status().as_u16();
        match local::respond(session, answer).await {
            Ok(()) => FailToProxy { error_code, can_reuse_downstream: false },
            Err(_) => gone,
        }
    }

    async fn logging(&self, session: &mut Session, error: Option<&Error>, ctx: &mut RequestContext) {
        guard::request_done();
        follow::end();
        let request = session.req_header();
        tracing::info!(
            target: "access",
            method = request.method.as_str(),
            path = request.uri.path(),
            status = session.response_written().map_or(0, |response| response.status.as_u16()),
            milliseconds = u64::try_from(ctx.started.elapsed().as_millis()).unwrap_or(u64::MAX),
            session = ctx.forwarding.as_ref().is_some_and(|it| it.has_session()),
            error = error.map(|error| tracing::field::display(cause(error))),
        );
    }

    /// The engine's own words for a request hold its query; ours must not: a callback's query is a code.
    fn request_summary(&self, session: &Session, _ctx: &RequestContext) -> String {
        format!("{} {}", session.req_header().method, session.req_header().uri.path())
    }

    fn suppress_error_log(&self, _session: &Session, _ctx: &RequestContext, error: &Error) -> bool {
        // Told by `fail_to_proxy` already, or of no interest: a browser that leaves is no error.
        matches!(error.esource, ErrorSource::Downstream | ErrorSource::Upstream)
    }
}

/// What went wrong, without the request: the engine's own rendering may hold header fields.
fn cause(error: &Error) -> String {
    let context = error.context.as_ref().map_or("", ImmutStr::as_str);
    format!("{} {context}", error.etype.as_str()).trim_end().to_owned()
}

fn undecided() -> BError {
    Error::explain(ErrorType::InternalError, "a request was forwarded that was not decided")
}
