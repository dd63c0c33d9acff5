//! A listener of its own for those who run the proxy: whether it lives, and whether it is ready.
//!
//! `GET /health/live` is 200 as long as the process answers. `GET /health/ready` is 200 when requests can be served, and
//! 503 with the reasons when not: a balancer then chooses another replica. Neither tells anything about anybody, so no
//! credentials are asked for.

mod health;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;

pub use self::health::Health;
use crate::tasks::Tasks;

/// A request has to be there within this time.
const PATIENCE: Duration = Duration::from_secs(10);
/// After a connection could not be taken (no descriptors left, for instance), the next is tried this much later.
const PAUSE: Duration = Duration::from_millis(100);

/// Answers on `listener`, for ever. Connections run in `tasks`.
pub async fn serve(listener: TcpListener, health: Arc<Health>, tasks: Arc<Tasks>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        let health = Arc::clone(&health);
        tasks.spawn(async move {
            let service = service_fn(move |request| {
                let health = Arc::clone(&health);
                async move { Ok::<_, Infallible>(answer(&request, &health).await) }
            });
            let mut connection = http1::Builder::new();
            connection.timer(TokioTimer::new()).header_read_timeout(PATIENCE).keep_alive(false);
            if let Err(error) = connection.serve_connection(TokioIo::new(stream), service).await {
                tracing::debug!(%error, "a connection of the admin listener broke");
            }
        });
    }
}

async fn answer<B>(request: &Request<B>, health: &Health) -> Response<Full<Bytes>> {
    let (status, text) = match request.uri().path() {
        "/health/live" | "/health/ready" if !matches!(*request.method(), Method::GET | Method::HEAD) => {
            let mut refused = json(StatusCode::METHOD_NOT_ALLOWED, "{}".to_owned());
            refused.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return refused;
        }
        "/health/live" => (StatusCode::OK, r#"{"live":true}"#.to_owned()),
        "/health/ready" => {
            let readiness = health.readiness().await;
            let status = if readiness.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
            (status, serde_json::to_string(&readiness).unwrap_or_default())
        }
        _ => (StatusCode::NOT_FOUND, r#"{"known":["/health/live","/health/ready"]}"#.to_owned()),
    };
    json(status, text)
}

fn json(status: StatusCode, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
