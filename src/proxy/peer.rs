//! Where upstreams are: their addresses, looked up beside the requests, and how they are connected to.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use pingora::upstreams::peer::HttpPeer;
use pingora::utils::tls::{CertKey, WrappedX509, parse_x509};
use pingora::{Error, ErrorType, Result};
use url::Host;

use super::hesitant::Hesitantly;
use crate::gateway::route::Upstream;
use crate::identity::{Identity, Shown};

/// The upstreams of a site, and their addresses.
#[derive(Debug)]
pub struct Peers {
    known: HashMap<Arc<Upstream>, Known>,
    /// Handshakes of WebSockets so far.
    upgrades: AtomicU64,
}

#[derive(Debug)]
struct Known {
    upstream: Arc<Upstream>,
    /// What tells connections to it from those to others.
    group: u64,
    /// Its roots of trust, as the engine takes them.
    roots: Option<Arc<[WrappedX509]>>,
    /// What it is shown, as the engine takes it.
    certificate: ArcSwapOption<Certificate>,
    /// The last good answer of the resolver.
    addresses: ArcSwap<Vec<SocketAddr>>,
}

/// A certificate and its key, as the engine takes them.
#[derive(Debug)]
struct Certificate {
    of: Arc<Shown>,
    pair: Arc<CertKey>,
}

/// How often names are looked up again.
const LOOK_UP: Duration = Duration::from_secs(10);
/// Below the five seconds after which Node.js closes an idle connection: a request that is not idempotent must not meet
/// a connection that is just being closed.
const IDLE: Duration = Duration::from_secs(4);
/// Requests at a time on one HTTP/2 connection: what RFC 9113 section 6.5.2 recommends that servers allow at the least.
const STREAMS: usize = 100;

impl Peers {
    /// Looks every upstream up once. One that cannot be found yet is looked up again later.
    #[expect(
        clippy::mutable_key_type,
        reason = "a certificate that is shown counts by where it is kept, which never changes"
    )]
    pub async fn find(upstreams: Vec<Arc<Upstream>>) -> Self {
        let mut all = HashMap::new();
        for upstream in upstreams {
            let known = Known::new(&upstream);
            known.look_up().await;
            all.insert(upstream, known);
        }
        Self { known: all, upgrades: AtomicU64::new(0) }
    }

    /// Keeps the addresses of named upstreams up to date, for ever.
    pub async fn keep_found(&self) {
        loop {
            tokio::time::sleep(LOOK_UP).await;
            for known in self.known.values() {
                known.look_up().await;
            }
        }
    }

    /// The `attempt`-th address of `upstream`, and how to connect to it.
    pub(super) async fn select(&self, upstream: &Upstream, attempt: usize) -> Result<HttpPeer> {
        let unknown = || Error::explain(ErrorType::ConnectNoRoute, "the upstream's name is not known to the resolver");
        let known = self.known.get(upstream).ok_or_else(unknown)?;
        if known.addresses.load().is_empty() {
            known.look_up().await;
        }
        let addresses = known.addresses.load();
        let address = addresses.get(attempt % addresses.len().max(1)).ok_or_else(|| unknown().into_up())?;
        let tls = upstream.url.scheme() == "https";
        let mut peer = HttpPeer::new(*address, tls, upstream.url.host_str().unwrap_or_default().to_owned());
        peer.group_key = known.group;
        peer.options.ca = known.roots.clone();
        if let Some(identity) = &upstream.identity {
            let certificate = known.certificate(identity);
            // A connection shows what it was made with. The engine tells certificates apart by serial numbers alone, which
            // two that issue them may both have given.
            peer.group_key = hash_of(&(known.group, certificate.of.thumbprint()));
            peer.client_cert_key = Some(Arc::clone(&certificate.pair));
        }
        peer.options.connection_timeout = Some(upstream.connect_timeout);
        peer.options.total_connection_timeout = Some(upstream.connect_timeout * 2);
        peer.options.read_timeout = Some(upstream.read_timeout);
        peer.options.write_timeout = Some(upstream.read_timeout);
        peer.options.idle_timeout = Some(IDLE);
        if upstream.http2 {
            // Without TLS there is nothing to agree on it with.
            peer.options.set_http_version(2, if tls { 1 } else { 2 });
            peer.options.max_h2_streams = STREAMS;
        }
        Ok(peer)
    }

    /// Makes `peer`, at `upstream`, fit for the handshake of a WebSocket: on a connection of its own.
    pub(super) fn prepare_upgrade(&self, peer: &mut HttpPeer, upstream: &Upstream) {
        // HTTP/2 knows no `Upgrade` (RFC 9113 section 8.6), and the engine would take it out.
        peer.options.set_http_version(1, 1);
        peer.options.custom_l4 = Some(Arc::new(Hesitantly(upstream.connect_timeout)));
        peer.group_key = hash_of(&(peer.group_key, self.upgrades.fetch_add(1, Ordering::Relaxed)));
    }

    /// How many addresses `upstream` has.
    pub(super) fn count(&self, upstream: &Upstream) -> usize {
        self.known.get(upstream).map_or(0, |known| known.addresses.load().len())
    }
}

fn hash_of(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

impl Known {
    fn new(upstream: &Arc<Upstream>) -> Self {
        let roots = upstream.trust.as_ref().map(|trust| {
            trust.roots().iter().map(|root| WrappedX509::new(root.clone(), parse_x509)).collect::<Vec<_>>().into()
        });
        Self {
            upstream: Arc::clone(upstream),
            // Connections to different upstreams are never shared, even where they have one address; nor are those to one
            // that is trusted for different reasons.
            group: hash_of(&(upstream.url.as_str(), &upstream.trust)),
            roots,
            certificate: ArcSwapOption::empty(),
            addresses: ArcSwap::default(),
        }
    }

    /// What is shown now; made for the engine when it is new.
    fn certificate(&self, identity: &Identity) -> Arc<Certificate> {
        let shown = identity.shown();
        if let Some(made) = &*self.certificate.load()
            && Arc::ptr_eq(&made.of, &shown)
        {
            return Arc::clone(made);
        }
        let chain = shown.chain().iter().map(|certificate| certificate.to_vec()).collect();
        let pair = Arc::new(CertKey::new(chain, shown.key().to_vec()));
        let made = Arc::new(Certificate { of: shown, pair });
        self.certificate.store(Some(Arc::clone(&made)));
        made
    }

    async fn look_up(&self) {
        let port = self.upstream.url.port_or_known_default().unwrap_or(80);
        let found: Vec<SocketAddr> = match self.upstream.url.host() {
            Some(Host::Ipv4(address)) => vec![SocketAddr::from((address, port))],
            Some(Host::Ipv6(address)) => vec![SocketAddr::from((address, port))],
            Some(Host::Domain(name)) => match tokio::net::lookup_host((name, port)).await {
                Ok(addresses) => addresses.collect(),
                Err(error) => {
                    tracing::warn!(name, %error, "an upstream's name cannot be looked up; known addresses stay in use");
                    return;
                }
            },
            None => Vec::new(),
        };
        if !found.is_empty() && **self.addresses.load() != found {
            self.addresses.store(Arc::new(found));
        }
    }
}
