//! What the store in Redis has to be told.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::roots::RootsError;
use crate::secret::Secret;

/// Where the servers are, and how to talk to them.
#[derive(Clone, Debug)]
pub struct RedisSettings {
    /// The server; the sentinels; or some of the cluster's nodes, from which the others are learned.
    pub nodes: Vec<Node>,
    /// How the servers work together.
    pub mode: Mode,
    /// TLS to servers and sentinels, if they are to be reached through it.
    pub tls: Option<Tls>,
    /// The user; without one a password is that of the default user.
    pub username: Option<String>,
    /// The user's password.
    pub password: Option<Secret<String>>,
    /// The number of the database; a cluster has only the first, 0.
    pub database: u16,
    /// What all keys begin with.
    pub prefix: String,
    /// How long one operation may take, connecting included.
    pub timeout: Duration,
}

impl RedisSettings {
    /// How one server at `node` is reached, with everything else at its default.
    pub fn single(node: Node) -> Self {
        Self {
            nodes: vec![node],
            mode: Mode::Single,
            tls: None,
            username: None,
            password: None,
            database: 0,
            prefix: "vestibule".to_owned(),
            timeout: Duration::from_secs(1),
        }
    }
}

/// How the servers work together.
#[derive(Clone, Debug)]
pub enum Mode {
    /// One server, or one address behind which somebody else cares for failover.
    Single,
    /// Sentinels know which server is the master.
    Sentinel {
        /// The name by which they know it.
        master: String,
        /// The user at the sentinels themselves.
        username: Option<String>,
        /// That user's password.
        password: Option<Secret<String>>,
    },
    /// Redis Cluster.
    Cluster,
}

/// TLS to the servers. Their certificates must be valid for the host by which they are reached.
#[derive(Clone, Debug, Default)]
pub struct Tls {
    /// PEM certificates that are trusted besides the system's.
    pub ca_file: Option<PathBuf>,
}

/// The address of a server.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Node {
    /// A name or an IP address, an IPv6 address without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// Settings with which no store can be made.
#[derive(Debug, thiserror::Error)]
pub enum RedisSettingsError {
    /// There is no address.
    #[error("no server is named")]
    NoNode,
    /// There are several addresses of one server.
    #[error("{0} servers are named, but neither sentinels nor a cluster: name one server, or say which they are")]
    SeveralNodes(usize),
    /// A cluster has no further databases.
    #[error("database {0} is named, but a cluster has only database 0")]
    Database(u16),
    /// TLS cannot be set up.
    #[error("ledger.ca_file: {0}")]
    Tls(#[from] RootsError),
}
