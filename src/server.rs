//! The composition root: configuration in, a running server out. Everything is built here, once.

use std::net::{SocketAddr, TcpListener};
use std::os::fd::IntoRawFd;
use std::sync::Arc;
use std::time::Duration;

use pingora::proxy::http_proxy;
use pingora::server::configuration::ServerConf;
use pingora::server::{Fds, ListenFds};
use pingora::services::Service as _;
use pingora::services::listening::Service;
use tokio::sync::watch;

use crate::clock::{Clock, SystemClock};
use crate::config::{Config, CookieSettings, LedgerSettings, TargetSettings};
use crate::gateway::files::{Files, FilesError};
use crate::gateway::route::{Route, RouteTable, Target, Upstream};
use crate::gateway::{Gateway, Seams, Settings};
use crate::issuer::{HttpIssuer, TransportError};
use crate::ledger::Ledger;
use crate::ledger::memory::MemoryStore;
use crate::proxy::{Connections, Guard, Peers, Shell};
use crate::secret::Random;
use crate::session::keyring::Sealer;
use crate::session::vault::Vault;
use crate::tasks::Tasks;

/// Why a server cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address cannot be listened on.
    #[error("server.listen: {0} cannot be listened on ({1}); choose a free address, or end what holds it")]
    Listen(SocketAddr, std::io::Error),
    /// The issuer cannot be spoken to.
    #[error(transparent)]
    Issuer(#[from] TransportError),
    /// The files of a route cannot be read.
    #[error("route.files: {0}")]
    Files(#[from] FilesError),
    /// The runtime cannot be made.
    #[error("the runtime cannot be started: {0}")]
    Runtime(std::io::Error),
}

/// A server that is configured and not started yet.
pub struct Server {
    config: Config,
    clock: Arc<dyn Clock>,
}

/// A server that runs, until it is [stopped](Self::stop) or dropped.
pub struct Running {
    address: SocketAddr,
    shutdown: watch::Sender<bool>,
    connections: Arc<Connections>,
    /// Detached work of requests: drained before the end.
    tasks: Arc<Tasks>,
    /// Work that never ends by itself: dropped at the end.
    service: Tasks,
    drain: Duration,
}

/// The operating system's random numbers.
struct SystemRandom;

impl Random for SystemRandom {
    #[expect(
        clippy::expect_used,
        reason = "without random numbers nothing here is safe; the kernel has them since boot"
    )]
    fn fill(&self, buffer: &mut [u8]) {
        getrandom::fill(buffer).expect("the operating system has random numbers");
    }
}

/// The operating system's random numbers.
pub fn random() -> Arc<dyn Random> {
    Arc::new(SystemRandom)
}

/// Runs a server until the process is told to end.
///
/// # Errors
/// If it cannot start.
pub fn run(config: Config) -> Result<(), StartError> {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    if let Some(workers) = config.workers {
        runtime.worker_threads(workers);
    }
    runtime.enable_all().build().map_err(StartError::Runtime)?.block_on(async {
        let running = Server::build(config).start().await?;
        told_to_end().await;
        tracing::info!("stopping: no new connections; requests in flight are finished");
        running.stop().await;
        Ok(())
    })
}

async fn told_to_end() {
    use tokio::signal::unix::{SignalKind, signal};
    let open = |kind| signal(kind).ok();
    let (Some(mut terminate), Some(mut interrupt), Some(mut hangup)) =
        (open(SignalKind::terminate()), open(SignalKind::interrupt()), open(SignalKind::hangup()))
    else {
        return std::future::pending().await;
    };
    loop {
        tokio::select! {
            biased;
            _ = terminate.recv() => return,
            _ = interrupt.recv() => return,
            _ = hangup.recv() => tracing::warn!("SIGHUP changes nothing: restart the process to read its configuration anew"),
        }
    }
}

impl Server {
    /// A server with this configuration. Nothing is opened yet.
    pub fn build(config: Config) -> Self {
        Self { config, clock: Arc::new(SystemClock::default()) }
    }

    /// The same server with another clock: to rehearse what hours bring.
    #[must_use]
    pub fn with_clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Opens the listener and starts serving. It must be called within a tokio runtime.
    ///
    /// The issuer need not be reachable: it is asked in the background until it answers.
    ///
    /// # Errors
    /// If the address cannot be listened on, or files cannot be read.
    pub async fn start(self) -> Result<Running, StartError> {
        let wanted = self.config.listen;
        let listener = TcpListener::bind(wanted).map_err(|error| StartError::Listen(wanted, error))?;
        self.start_on(listener).await
    }

    /// Starts serving on a listener that is open already: one that systemd has handed over, or whose port had to be known
    /// before. It must be called within a tokio runtime.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub async fn start_on(self, listener: TcpListener) -> Result<Running, StartError> {
        let Self { config, clock } = self;
        for warning in &config.warnings {
            tracing::warn!("{warning}");
        }
        let address = listener.set_nonblocking(true).and_then(|()| listener.local_addr());
        let address = address.map_err(|error| StartError::Listen(config.listen, error))?;

        let (tasks, service) = (Arc::new(Tasks::default()), Tasks::default());
        let issuer = Arc::new(HttpIssuer::new(config.issuer.clone(), config.plain_http, config.issuer_ca.as_deref())?);
        let store = match config.ledger {
            LedgerSettings::Memory { max_bytes } => Arc::new(MemoryStore::new(Arc::clone(&clock), max_bytes)),
        };
        let ledger = Arc::new(Ledger::new(store, Arc::clone(&clock)));
        let routes = open_routes(&config, &service).await?;
        let peers = Arc::new(Peers::find(routes.upstreams()).await);
        let seams = Seams {
            clock: Arc::clone(&clock),
            random: random(),
            tasks: Arc::clone(&tasks),
            ledger: Arc::clone(&ledger),
            server: Arc::clone(&issuer) as Arc<_>,
        };
        let (limits, drain) = (config.limits, config.drain);
        let (gateway, public_url) = gateway(config, routes, seams);

        let engine = http_proxy(&engine_conf(), Shell::new(gateway, Arc::clone(&peers), limits));
        let guard = Guard::new(engine, limits);
        let connections = guard.connections();
        let (shutdown, watched) = watch::channel(false);
        let mut listening = Service::new("vestibule".to_owned(), guard);
        let bound = address.to_string();
        listening.add_tcp(&bound);
        let mut fds = Fds::new();
        fds.add(bound, listener.into_raw_fd());
        let fds: ListenFds = Arc::new(fds.into());
        service.spawn(async move { listening.start_service(Some(fds), watched, 1).await });

        service.spawn(async move { issuer.keep_fresh().await });
        service.spawn(async move { peers.keep_found().await });
        service.spawn(async move {
            loop {
                tokio::time::sleep(Duration::from_secs(60)).await;
                ledger.sweep(clock.now());
            }
        });
        tracing::info!(%address, %public_url, "ready");
        Ok(Running { address, shutdown, connections, tasks, service, drain })
    }
}

impl Running {
    /// The address that is listened on.
    pub const fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Takes no new connections, waits for requests in flight and for detached work, and ends.
    pub async fn stop(self) {
        self.shutdown.send_replace(true);
        if !self.connections.gone(self.drain).await {
            tracing::warn!("some requests were still being served when the time for draining was over");
        }
        if !self.tasks.drain(self.drain).await {
            tracing::warn!("some refreshes were still on their way when the time for draining was over");
        }
        drop(self.service);
    }
}

fn engine_conf() -> Arc<ServerConf> {
    // Two attempts more than the first: another address of the upstream, or a newer token.
    Arc::new(ServerConf { max_retries: 3, upstream_keepalive_pool_size: 512, ..ServerConf::default() })
}

/// The gateway of the one site that is configured.
fn gateway(config: Config, routes: RouteTable, seams: Seams) -> (Arc<Gateway>, url::Url) {
    let origin = config.public_url.origin().ascii_serialization();
    let sealer = Sealer::new(config.keys, &origin, config.client.id.as_str());
    let CookieSettings { names, same_site, placement, max_bytes } = config.cookies;
    let vault = Vault::new(sealer, names, same_site, placement, max_bytes);
    let settings = Settings {
        public_url: config.public_url.clone(),
        prefix: config.prefix,
        client: Arc::new(config.client),
        session: config.session,
        refresh: config.refresh,
        routes,
        cross_origin: config.cross_origin,
        trusted_proxies: config.trusted_proxies,
        after_logout: config.after_logout,
        strict_logout_typ: config.strict_logout_typ,
    };
    (Gateway::new(seams, settings, vault), config.public_url)
}

/// Reads the files of the routes that serve some, and keeps them up to date.
async fn open_routes(config: &Config, service: &Tasks) -> Result<RouteTable, StartError> {
    let mut routes = Vec::new();
    for route in &config.routes {
        let target = match &route.target {
            TargetSettings::Upstream { url, connect_timeout, read_timeout } => Target::Upstream(Arc::new(Upstream {
                url: url.clone(),
                connect_timeout: *connect_timeout,
                read_timeout: *read_timeout,
            })),
            TargetSettings::Files { folder, max_bytes } => {
                let files = Arc::new(Files::open(folder, *max_bytes).await?);
                let watched = Arc::clone(&files);
                service.spawn(async move {
                    loop {
                        tokio::time::sleep(Duration::from_secs(2)).await;
                        if let Err(error) = watched.refresh().await {
                            tracing::warn!(%error, "changed files cannot be read; the earlier ones are served on");
                        }
                    }
                });
                Target::Files(files)
            }
        };
        routes.push(Route {
            path: route.path.clone(),
            access: route.access,
            target,
            methods: route.methods.clone(),
            strip_prefix: route.strip_prefix,
        });
    }
    Ok(RouteTable::new(routes))
}
