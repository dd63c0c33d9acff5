//! The composition root: configuration in, a running server out. Everything is built here, once.

mod report;

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

use self::report::IssuerReport;
pub use self::report::{LookError, look};
use crate::admin::{self, Admin, AdminSettings, Health};
use crate::clock::{Clock, SystemClock};
use crate::config::{Config, CookieSettings, LedgerSettings, TargetSettings};
use crate::gateway::files::{Files, FilesError};
use crate::gateway::roster::{Roster, RosterPolicy};
use crate::gateway::route::{Route, RouteTable, Target};
use crate::gateway::{Gateway, Seams, Settings};
use crate::identity::Identity;
use crate::issuer::{HttpIssuer, TransportError};
use crate::ledger::file::{FileStore, OpenError};
use crate::ledger::memory::MemoryStore;
use crate::ledger::redis::{RedisSettings, RedisSettingsError, RedisStore};
use crate::ledger::{Ledger, Store};
use crate::oauth::ResponseMode;
use crate::proxy::{Connections, Guard, Peers, Shell, Streams};
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
    /// The address for administrators cannot be listened on.
    #[error("admin.listen: {0} cannot be listened on ({1}); choose a free address, or end what holds it")]
    Admin(SocketAddr, std::io::Error),
    /// The ledger's file cannot be used.
    #[error(transparent)]
    LedgerFile(#[from] OpenError),
    /// The ledger's servers cannot be used.
    #[error("ledger: {0}")]
    LedgerServers(RedisSettingsError),
    /// The files of a route cannot be read.
    #[error("route.files: {0}")]
    Files(FilesError),
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
    admin: Option<SocketAddr>,
    shutdown: watch::Sender<bool>,
    connections: Arc<Connections>,
    /// Detached work of requests: drained before the end.
    tasks: Arc<Tasks>,
    /// Work that never ends by itself: dropped at the end.
    service: Tasks,
    /// Closed at the very end, so that a successor need not repair it.
    file: Option<Arc<FileStore>>,
    drain: Duration,
}

/// The ledger's store, and by what it has to be looked after.
struct Opened {
    store: Arc<dyn Store>,
    file: Option<Arc<FileStore>>,
    redis: Option<Arc<RedisStore>>,
}

/// Servers are asked this often whether they can be trusted with a ledger.
const LOOK: Duration = Duration::from_secs(30);

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
        let issuer =
            HttpIssuer::new(config.authority.clone(), config.issuer_ca.as_deref(), config.issuer_identity.as_ref());
        let issuer = Arc::new(issuer?);
        let Opened { store, file, redis } = open_ledger(&config.ledger, &clock)?;
        let ledger = Arc::new(Ledger::new(store, Arc::clone(&clock)));
        let routes = open_routes(&config, &service).await?;
        let peers = Arc::new(Peers::find(routes.upstreams()).await);
        for identity in identities(&config) {
            service.spawn(async move { identity.keep_renewed().await });
        }
        let seams = Seams {
            clock: Arc::clone(&clock),
            random: random(),
            tasks: Arc::clone(&tasks),
            ledger: Arc::clone(&ledger),
            server: Arc::clone(&issuer) as Arc<_>,
            nonces: Arc::default(),
            signers: Arc::default(),
        };
        let (limits, drain, wanted) = (config.limits, config.drain, config.admin.clone());
        let issuer_report = IssuerReport::new(&config);
        let (gateway, public_url) = gateway(config, routes, seams);
        let admin = match wanted {
            None => None,
            Some(wanted) => {
                let health = Health::new(Arc::clone(&ledger), Arc::clone(&issuer) as Arc<_>);
                Some(open_admin(wanted, health, gateway.roster(), &service).await?)
            }
        };

        let engine = http_proxy(&engine_conf(), Shell::new(gateway, Arc::clone(&peers), limits));
        let guard = Guard::new(Streams::new(engine, limits), limits);
        let connections = guard.connections();
        let (shutdown, watched) = watch::channel(false);
        let mut listening = Service::new("vestibule".to_owned(), guard);
        let bound = address.to_string();
        listening.add_tcp(&bound);
        let mut fds = Fds::new();
        fds.add(bound, listener.into_raw_fd());
        let fds: ListenFds = Arc::new(fds.into());
        service.spawn(async move { listening.start_service(Some(fds), watched, 1).await });

        service.spawn(async move { issuer.keep_fresh(|metadata| issuer_report.log(metadata)).await });
        service.spawn(async move { peers.keep_found().await });
        if let Some(redis) = redis {
            service.spawn(async move { watch_redis(&redis).await });
        }
        let follower = Arc::clone(&ledger);
        service.spawn(async move { follower.follow().await });
        service.spawn(async move {
            loop {
                tokio::time::sleep(Duration::from_secs(60)).await;
                ledger.sweep(clock.now());
            }
        });
        tracing::info!(%address, %public_url, "ready");
        Ok(Running { address, admin, shutdown, connections, tasks, service, file, drain })
    }
}

impl Running {
    /// The address that is listened on.
    pub const fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// The address for administrators, if there is one.
    pub const fn admin_addr(&self) -> Option<SocketAddr> {
        self.admin
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
        if let Some(file) = self.file
            && !file.close().await
        {
            tracing::warn!("the ledger's file was not closed in time; whoever opens it next has to repair it");
        }
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
    let vault = match config.client.requests.response_mode {
        ResponseMode::Query => vault,
        ResponseMode::FormPost => vault.for_posted_logins(),
    };
    let settings = Settings {
        public_url: config.public_url.clone(),
        prefix: config.prefix,
        client: Arc::new(config.client),
        session: config.session,
        refresh: config.refresh,
        routes,
        cross_origin: config.cross_origin,
        trusted_proxies: config.trusted_proxies,
        transport: config.transport,
        logout: config.logout,
        roster: RosterPolicy {
            kept: config.admin.is_some_and(|admin| admin.sessions),
            issuer: config.authority.issuer,
        },
    };
    (Gateway::new(seams, settings, vault), config.public_url)
}

async fn open_admin(
    wanted: AdminSettings,
    health: Health,
    roster: Arc<Roster>,
    service: &Tasks,
) -> Result<SocketAddr, StartError> {
    let cannot = |error| StartError::Admin(wanted.listen, error);
    let listener = tokio::net::TcpListener::bind(wanted.listen).await.map_err(cannot)?;
    let address = listener.local_addr().map_err(cannot)?;
    let (connections, admin) = (Arc::new(Tasks::default()), Admin::new(health, roster, address, wanted.token));
    service.spawn(async move { admin::serve(listener, Arc::new(admin), connections).await });
    Ok(address)
}

fn open_ledger(settings: &LedgerSettings, clock: &Arc<dyn Clock>) -> Result<Opened, StartError> {
    Ok(match settings {
        LedgerSettings::Memory { max_bytes } => {
            Opened { store: Arc::new(MemoryStore::new(Arc::clone(clock), *max_bytes)), file: None, redis: None }
        }
        LedgerSettings::File { folder, max_bytes } => {
            let file = Arc::new(FileStore::open(folder, Arc::clone(clock), *max_bytes)?);
            Opened { store: Arc::clone(&file) as Arc<_>, file: Some(file), redis: None }
        }
        LedgerSettings::Redis(settings) => {
            let redis = Arc::new(RedisStore::new(RedisSettings::clone(settings)).map_err(StartError::LedgerServers)?);
            Opened { store: Arc::clone(&redis) as Arc<_>, file: None, redis: Some(redis) }
        }
    })
}

/// Tells what the ledger's servers are, and whenever that changes: a server that evicts or forgets has to be known.
async fn watch_redis(redis: &RedisStore) {
    let mut told = None;
    loop {
        let found = redis.check().await.map_err(|error| error.to_string());
        if told.as_ref() != Some(&found) {
            match &found {
                Ok(servers) => {
                    for server in servers {
                        tracing::info!(server = %server.node, version = server.version, replicas = server.replicas, "the ledger answers");
                        if !server.durable {
                            tracing::warn!(
                                server = %server.node,
                                "this server keeps nothing over a restart: sessions that were ended then work again, and \
                                 those in the ledger are lost; write `appendonly yes` there"
                            );
                        }
                    }
                }
                Err(error) => tracing::error!(error, "the ledger cannot be used; requests that need it get 503"),
            }
            told = Some(found);
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// The certificates that are shown, each once.
fn identities(config: &Config) -> Vec<Identity> {
    let of_routes = config.routes.iter().filter_map(|route| match &route.target {
        TargetSettings::Upstream(upstream) => upstream.identity.clone(),
        TargetSettings::Files { .. } => None,
    });
    let mut found: Vec<Identity> = Vec::new();
    for identity in config.issuer_identity.clone().into_iter().chain(of_routes) {
        if !found.contains(&identity) {
            found.push(identity);
        }
    }
    found
}

/// Reads the files of the routes that serve some, and keeps them up to date.
async fn open_routes(config: &Config, service: &Tasks) -> Result<RouteTable, StartError> {
    let mut routes = Vec::new();
    for route in &config.routes {
        let target = match &route.target {
            TargetSettings::Upstream(upstream) => Target::Upstream(Arc::clone(upstream)),
            TargetSettings::Files { folder, max_bytes } => {
                let files = Arc::new(Files::open(folder, *max_bytes).await.map_err(StartError::Files)?);
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
            token: route.token.clone(),
        });
    }
    Ok(RouteTable::new(routes))
}
