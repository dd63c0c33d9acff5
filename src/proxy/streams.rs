//! HTTP/2 before the engine: each stream of a connection is served by a task of its own, and is bounded, followed and cut
//! by itself.

use std::sync::Arc;

use async_trait::async_trait;
use pingora::apps::{HttpServerApp, HttpServerOptions, ReusedHttpStream};
use pingora::protocols::http::ServerSession;
use pingora::protocols::http::v2::server::{H2Options, default_h2_options};
use pingora::server::ShutdownWatch;
use tokio::sync::Semaphore;

use super::{KEEP_ALIVE, Limits, follow, guard};

/// Serves requests through `A`, the streams of HTTP/2 as well where it is on.
pub struct Streams<A> {
    inner: Arc<A>,
    options: HttpServerOptions,
    /// Streams that may be opened yet, on all connections.
    free: Semaphore,
}

/// Streams at a time on one connection (RFC 9113 section 6.5.2).
const AT_A_TIME: u32 = 100;

impl<A> Streams<A> {
    /// Serves through `inner`.
    pub fn new(inner: A, limits: Limits) -> Self {
        let mut options = HttpServerOptions::default();
        options.h2c = limits.http2;
        options.h2_idle_timeout = Some(KEEP_ALIVE);
        // With HTTP/1.1 there are never more requests than connections. So it is here: else one connection would count
        // for a hundred.
        Self { inner: Arc::new(inner), options, free: Semaphore::new(limits.connections) }
    }
}

#[async_trait]
impl<A: HttpServerApp + Send + Sync + 'static> HttpServerApp for Streams<A> {
    async fn process_new_http(
        self: &Arc<Self>,
        session: ServerSession,
        shutdown: &ShutdownWatch,
    ) -> Option<ReusedHttpStream> {
        if !session.is_http2() {
            return self.inner.process_new_http(session, shutdown).await;
        }
        let Ok(_permit) = self.free.try_acquire() else {
            tracing::warn!("a stream of HTTP/2 is reset: server.connections requests are being served already");
            return None;
        };
        let serving = self.inner.process_new_http(session, shutdown);
        guard::stream(follow::serve(serving, None, shutdown.clone()), shutdown.clone()).await
    }

    fn h2_options(&self) -> Option<H2Options> {
        // The engine asks for this once the preface is there, on the connection's own task: what is idle from now on is up
        // to `h2_idle_timeout`.
        guard::head_arrived();
        let mut options = default_h2_options();
        options.max_concurrent_streams(AT_A_TIME).max_header_list_size(guard::MAX_HEAD);
        Some(options)
    }

    fn server_options(&self) -> Option<&HttpServerOptions> {
        Some(&self.options)
    }

    async fn http_cleanup(&self) {
        self.inner.http_cleanup().await;
    }
}
