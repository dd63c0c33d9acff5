//! What the integration tests stand on: a browser, its rivals on the wire, and real programs started for one test.

pub(crate) mod authority;
pub(crate) mod browser;
pub(crate) mod canary;
pub(crate) mod chromium;
pub(crate) mod fleet;
pub(crate) mod gate;
pub(crate) mod grpc;
pub(crate) mod jar;
pub(crate) mod live;
pub(crate) mod log;
pub(crate) mod op;
pub(crate) mod posted;
pub(crate) mod process;
pub(crate) mod raw;
pub(crate) mod recorder;
pub(crate) mod redis;
pub(crate) mod replica;
pub(crate) mod site;
pub(crate) mod source;
pub(crate) mod tls_front;

use std::time::Duration;

/// How long anything may take that is not itself the subject of a test: generous, because two cores run many tests.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Whether so many refreshes are what calls may cost that met a spent token and went on until now: one, and another each time
/// that a token of this lifetime has become due since. On a machine that keeps up that is exactly one.
pub(crate) fn is_one_refresh(refreshes: u32, since: tokio::time::Instant, lifetime: Duration) -> bool {
    let more = since.elapsed().as_millis() / (lifetime.as_millis() * 2 / 3);
    (1..=1 + more).contains(&u128::from(refreshes))
}

/// An HTTP client that does nothing by itself: no redirects, no cookies, no proxy from the environment.
pub(crate) fn plain_client() -> reqwest::Client {
    // Each test may be the first or the hundredth to say so.
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        rustls::crypto::ring::default_provider().install_default().ok();
    }
    reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).no_proxy().build().unwrap()
}

/// Starts a request beside the test, as a browser has several on their way at once.
#[expect(clippy::disallowed_methods, reason = "a browser is no part of a replica's detached work")]
pub(crate) fn beside<R: IntoFuture<IntoFuture: Send + 'static, Output: Send + 'static>>(
    request: R,
) -> tokio::task::JoinHandle<R::Output> {
    tokio::spawn(request.into_future())
}
