//! A listener of its own for those who run the proxy: whether it lives, whether it is ready, who is signed in.
//!
//! `GET /health/live` is 200 as long as the process answers. `GET /health/ready` is 200 when requests can be served, and
//! 503 with the reasons when not: a balancer then chooses another replica. Neither tells anything about anybody, so no
//! credentials are asked for.
//!
//! All else is guarded ([`guard`]). `GET /sessions` lists sessions, where `admin.sessions` keeps a list of them. They are
//! ended by `DELETE /sessions/{id}` or `POST /sessions/{id}/end` one by one, by `POST /subjects/end?subject=…` all of one
//! subject, by `POST /sessions/end?confirm=all` all.

mod answer;
pub mod guard;
mod health;
mod sessions;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{Method, Request, StatusCode};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::json;
use tokio::net::TcpListener;

use self::answer::{Answer, Refusal};
use self::guard::Guard;
pub use self::health::Health;
use crate::gateway::roster::Roster;
use crate::secret::Secret;
use crate::tasks::Tasks;

/// What is configured for administrators.
#[derive(Clone, Debug)]
pub struct AdminSettings {
    /// Where to listen.
    pub listen: SocketAddr,
    /// What a request has to carry, health checks aside. Without one only a loopback address is listened on.
    pub token: Option<Secret<String>>,
    /// Whether a list of sessions is kept.
    pub sessions: bool,
}

/// All that this listener tells of and acts on.
#[derive(Debug)]
pub struct Admin {
    health: Health,
    roster: Arc<Roster>,
    guard: Guard,
}

impl Admin {
    /// An admin for a listener at `address`, which needs `token` if there is one.
    pub const fn new(health: Health, roster: Arc<Roster>, address: SocketAddr, token: Option<Secret<String>>) -> Self {
        Self { health, roster, guard: Guard::new(address, token) }
    }
}

/// A request has to be there within this time.
const PATIENCE: Duration = Duration::from_secs(10);
/// After a connection could not be taken (no descriptors left, for instance), the next is tried this much later.
const PAUSE: Duration = Duration::from_millis(100);

/// Answers on `listener`, for ever. Connections run in `tasks`.
pub async fn serve(listener: TcpListener, admin: Arc<Admin>, tasks: Arc<Tasks>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        let admin = Arc::clone(&admin);
        tasks.spawn(async move {
            let service = service_fn(move |request| {
                let admin = Arc::clone(&admin);
                async move { Ok::<_, Infallible>(answer(request, &admin).await) }
            });
            let mut connection = http1::Builder::new();
            connection.timer(TokioTimer::new()).header_read_timeout(PATIENCE).keep_alive(false);
            if let Err(error) = connection.serve_connection(TokioIo::new(stream), service).await {
                tracing::debug!(%error, "a connection of the admin listener broke");
            }
        });
    }
}

async fn answer<B>(request: Request<B>, admin: &Admin) -> Answer {
    // Nothing here has a body.
    let (request, _) = request.into_parts();
    let reads = matches!(request.method, Method::GET | Method::HEAD);
    match request.uri.path() {
        "/health/live" | "/health/ready" if !reads => Refusal::Method("GET, HEAD").answer(),
        "/health/live" => answer::ok(&json!({ "live": true })),
        "/health/ready" => {
            let readiness = admin.health.readiness().await;
            let status = if readiness.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
            answer::json(status, &json!(readiness))
        }
        _ => {
            let served = match admin.guard.admit(&request) {
                Ok(who) => sessions::serve(&admin.roster, &request, who).await,
                Err(refusal) => {
                    tracing::warn!(?refusal, "a request to the listener for administrators is refused");
                    Err(refusal)
                }
            };
            served.unwrap_or_else(|refusal| refusal.answer())
        }
    }
}
