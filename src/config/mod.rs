//! The configuration: a TOML file in, the rings' own settings out.
//!
//! `file.rs` mirrors what the file may say, `rules.rs` turns it into a [`Config`], and what is wrong with it comes back
//! as [`Problems`], all at once. Loading reads the file, the secrets that it points to and the environment; it opens no
//! socket.

mod admin;
mod credentials;
mod file;
mod issuer;
mod ledger;
mod logout;
mod problem;
mod profile;
mod reader;
mod requests;
mod routes;
mod rules;
mod security_profile;
mod session;
mod value;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use http::Method;
use ipnet::IpNet;
use url::Url;

use self::problem::{Flaw, quoted};
pub use self::problem::{Problem, Problems};
pub use self::profile::{practice, values};
use crate::admin::AdminSettings;
use crate::gateway::broker::RefreshPolicy;
use crate::gateway::cross_origin::CrossOrigin;
use crate::gateway::headers::TransportSecurity;
use crate::gateway::logout::LogoutSettings;
use crate::gateway::route::{Access, RouteToken, Upstream};
use crate::identity::Identity;
use crate::ledger::redis::RedisSettings;
use crate::oauth::{Authority, Client};
use crate::proxy::Limits;
use crate::session::cookies::{CookieNames, SameSite};
use crate::session::keyring::KeyRing;
use crate::session::{Placement, SessionPolicy};
use crate::telemetry::LogSettings;

/// A configuration that holds together. It prints no secret.
#[derive(Debug)]
pub struct Config {
    /// Where to listen.
    pub listen: SocketAddr,
    /// The address that people use: scheme, host and port.
    pub public_url: Url,
    /// The path that our own endpoints begin with, without final slash.
    pub prefix: String,
    /// Proxies before us whose forwarding fields are believed.
    pub trusted_proxies: Vec<IpNet>,
    /// What browsers are told about https.
    pub transport: TransportSecurity,
    /// What connections and requests may cost.
    pub limits: Limits,
    /// How long requests in flight and refreshes may take once the process is told to end.
    pub drain: Duration,
    /// Threads that serve; none means one per core.
    pub workers: Option<usize>,
    /// The issuer, letter by letter as the file has it, and how it is reached.
    pub authority: Authority,
    /// A file with further roots of trust (PEM), for the issuer's certificate.
    pub issuer_ca: Option<PathBuf>,
    /// What is shown to the issuer where it asks for a certificate.
    pub issuer_identity: Option<Identity>,
    /// As whom we speak to the issuer.
    pub client: Client,
    /// What seals the cookies.
    pub keys: KeyRing,
    /// The session's cookies.
    pub cookies: CookieSettings,
    /// How long sessions live and what they keep.
    pub session: SessionPolicy,
    /// How tokens are refreshed.
    pub refresh: RefreshPolicy,
    /// Where the proxy keeps what it has to remember itself.
    pub ledger: LedgerSettings,
    /// The listener for administrators, if there is one.
    pub admin: Option<AdminSettings>,
    /// Where requests go, in the order of the file. At least one.
    pub routes: Vec<RouteSettings>,
    /// The defence against other sites.
    pub cross_origin: CrossOrigin,
    /// How sessions are ended.
    pub logout: LogoutSettings,
    /// What is logged.
    pub log: LogSettings,
    /// What is allowed but should be known: to be logged at every start.
    pub warnings: Vec<String>,
}

/// The session's cookies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CookieSettings {
    /// What they are called.
    pub names: CookieNames,
    /// When browsers send them with requests that other sites start.
    pub same_site: SameSite,
    /// Where the bodies of sessions lie.
    pub placement: Placement,
    /// The most that they may take, in bytes over all chunks; larger sessions lie in the ledger.
    pub max_bytes: usize,
}

/// Where the proxy keeps what it has to remember itself.
#[derive(Clone, Debug)]
pub enum LedgerSettings {
    /// In a file of this machine, for one process at a time.
    File {
        /// The folder that it lies in.
        folder: PathBuf,
        /// The most that what is live in it may take, in bytes.
        max_bytes: usize,
    },
    /// In Redis or Valkey, for several processes.
    Redis(Box<RedisSettings>),
    /// In this process. A restart forgets it.
    Memory {
        /// The most that it may take, in bytes.
        max_bytes: usize,
    },
}

/// One entry of the route table, before anything is opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteSettings {
    /// The path that it begins with.
    pub path: String,
    /// Who may use it.
    pub access: Access,
    /// The methods that it lets through.
    pub methods: Vec<Method>,
    /// Whether `path` is taken off before a request is forwarded.
    pub strip_prefix: bool,
    /// Which token its requests carry.
    pub token: RouteToken,
    /// Where it leads.
    pub target: TargetSettings,
}

/// Where a route leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TargetSettings {
    /// To another server.
    Upstream(Arc<Upstream>),
    /// To files.
    Files {
        /// The folder that they lie in.
        folder: PathBuf,
        /// The most that they may take in memory, in bytes.
        max_bytes: u64,
    },
}

impl Config {
    /// Reads a configuration. Relative paths in it begin at `base`, and `env` looks variables up.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn from_toml(text: &str, base: &Path, env: impl Fn(&str) -> Option<String>) -> Result<Self, Problems> {
        let (raw, findings) = file::RawConfig::read(text)?;
        rules::apply(raw, findings, base, &env)
    }

    /// Reads the configuration file at `path`, with this process's environment. Relative paths in it begin at its folder.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn load(path: &Path) -> Result<Self, Problems> {
        let text = std::fs::read_to_string(path).map_err(|error| {
            let remedy = "name the file with --config FILE, and let this process read it";
            let flaw = Flaw::new(format!("{} cannot be read ({error})", quoted(&path.to_string_lossy())), remedy);
            Problems(vec![flaw.at("--config")])
        })?;
        let base = path.parent().unwrap_or(Path::new(""));
        Self::from_toml(&text, base, |name| std::env::var(name).ok())
    }

    /// Every key that a configuration may have, with its table: `server.listen`, `route.path`, `csrf`.
    pub fn keys() -> BTreeSet<String> {
        file::known_keys()
    }
}
