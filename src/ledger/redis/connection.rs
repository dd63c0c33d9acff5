//! One connection to one server, and what that server says of itself.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Cmd, Pipeline, RedisConnectionInfo, RedisError, RedisResult, Value};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::{AbortHandle, JoinSet};
use tokio_rustls::TlsConnector;

use super::super::StoreError;
use super::failure::{describe, not_connected, unreachable};
use super::settings::Node;

/// A connection that many tasks may use at once. It is closed when it is dropped.
pub(super) struct Connection {
    /// The server.
    pub(super) node: Node,
    /// What the server has said of its replicas.
    pub(super) replicas: Mutex<Replicas>,
    redis: MultiplexedConnection,
    driver: AbortHandle,
    given_up: AtomicBool,
    _owned: JoinSet<()>,
}

/// Whether replicas can be waited for, as far as is known.
pub(super) struct Replicas {
    /// Whether a write shall wait for one of them.
    pub(super) present: bool,
    /// When the server is to be asked again.
    pub(super) look_again: tokio::time::Instant,
}

/// How often a server is asked for its replicas.
pub(super) const LOOK: Duration = Duration::from_secs(10);

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

impl Connection {
    /// Connects and signs in. It sets no limit of time.
    pub(super) async fn open(
        node: &Node,
        tls: Option<&TlsConnector>,
        login: &RedisConnectionInfo,
    ) -> Result<Self, StoreError> {
        let failed = |error| not_connected(node, &error);
        let tcp = TcpStream::connect((node.host.as_str(), node.port)).await.map_err(failed)?;
        // Without it small commands wait for the answer to the one before.
        tcp.set_nodelay(true).map_err(failed)?;
        let stream: Box<dyn Stream> = match tls {
            None => Box::new(tcp),
            Some(tls) => {
                let name = ServerName::try_from(node.host.clone())
                    .map_err(|_| unreachable(node, "no certificate can be valid for this host name"))?;
                let error = |error| unreachable(node, &format!("TLS failed ({error}); check ledger.ca_file"));
                Box::new(tls.connect(name, tcp).await.map_err(error)?)
            }
        };
        // Each operation has a limit of its own.
        let config = AsyncConnectionConfig::new().set_response_timeout(None);
        let (redis, driver) = MultiplexedConnection::new_with_config(login, stream, config)
            .await
            .map_err(|error| describe(node, &error))?;
        let mut owned = JoinSet::new();
        let driver = owned.spawn(driver);
        let replicas = Mutex::new(Replicas { present: false, look_again: tokio::time::Instant::now() + LOOK });
        Ok(Self { node: node.clone(), replicas, redis, driver, given_up: AtomicBool::default(), _owned: owned })
    }

    /// Whether it can be used, as far as is known.
    pub(super) fn is_open(&self) -> bool {
        !self.driver.is_finished() && !self.given_up.load(Ordering::Relaxed)
    }

    /// Takes it out of use. It is closed when those who still wait for an answer have had their time.
    pub(super) fn give_up(&self) {
        self.given_up.store(true, Ordering::Relaxed);
    }

    /// One command and its answer.
    pub(super) async fn command(&self, command: &Cmd) -> RedisResult<Value> {
        self.redis.clone().send_packed_command(command).await?.extract_error()
    }

    /// Several commands in one round trip, and the answer or error of each.
    pub(super) async fn pipeline(&self, pipeline: &Pipeline) -> RedisResult<Vec<Value>> {
        self.redis.clone().send_packed_commands(pipeline, 0, pipeline.len()).await
    }

    /// What the server says of itself.
    pub(super) async fn info(&self) -> Result<Server, StoreError> {
        let answer = self.command(&redis::cmd("INFO")).await.map_err(|error| describe(&self.node, &error))?;
        let text: String = redis::from_redis_value(answer).map_err(|error| {
            let error: RedisError = error.into();
            describe(&self.node, &error)
        })?;
        Server::read(&self.node, &text)
    }
}

/// A server that the store can use, as it describes itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Where it is.
    pub node: Node,
    /// Its version. Valkey tells the version of Redis that it is compatible with.
    pub version: String,
    /// The replicas that are connected to it.
    pub replicas: u64,
    /// Whether it writes each change to its disk (`appendonly`): without that a restart may forget the latest.
    pub durable: bool,
    /// Whether it is a node of a cluster.
    pub(super) cluster: bool,
}

impl Server {
    fn read(node: &Node, info: &str) -> Result<Self, StoreError> {
        let refuse = |text: &str| Err(unreachable(node, text));
        let field = |name| field(info, name).unwrap_or_default();
        let version = field("redis_version").to_owned();
        let mut parts = version.split('.').map(|part| part.parse::<u32>().unwrap_or_default());
        if (parts.next(), parts.next()) < (Some(6), Some(2)) {
            return refuse(&format!("it is version {version:?}; Redis 6.2 or Valkey is needed"));
        }
        if field("role") != "master" {
            return refuse("it is a replica and takes no writes; name the master, or its sentinels");
        }
        let policy = field("maxmemory_policy");
        if field("maxmemory") != "0" && policy != "noeviction" {
            return refuse(&format!(
                "its maxmemory-policy is {policy:?}, with which it would forget sessions that have ended when its \
                 memory is full; set it: CONFIG SET maxmemory-policy noeviction"
            ));
        }
        Ok(Self {
            node: node.clone(),
            version,
            replicas: connected_replicas(info),
            durable: field("aof_enabled") == "1",
            cluster: field("cluster_enabled") == "1",
        })
    }
}

/// How many replicas `INFO replication` tells of.
pub(super) fn connected_replicas(info: &str) -> u64 {
    field(info, "connected_slaves").and_then(|number| number.parse().ok()).unwrap_or_default()
}

fn field<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(change: (&str, &str)) -> Result<Server, StoreError> {
        let info = "# Server\r\nredis_version:7.0.15\r\n# Memory\r\nmaxmemory:1048576\r\n\
                    maxmemory_policy:noeviction\r\naof_enabled:1\r\nrole:master\r\nconnected_slaves:2\r\ncluster_enabled:0\r\n";
        let node = Node { host: "redis".to_owned(), port: 6379 };
        Server::read(&node, &info.replace(change.0, change.1))
    }

    #[test]
    fn a_server_is_known_by_what_it_says() {
        let server = read(("", "")).expect("can be used");
        assert_eq!((server.replicas, server.durable, server.cluster), (2, true, false));
        assert!(
            read(("maxmemory:1048576\r\nmaxmemory_policy:noeviction", "maxmemory:0\r\nmaxmemory_policy:allkeys-lru"))
                .is_ok()
        );
    }

    #[test]
    fn a_server_that_would_lose_or_refuse_records_is_not_used() {
        let refused = |old, new| read((old, new)).expect_err("cannot be used").to_string();
        assert!(refused("7.0.15", "6.0.16").contains("it is version \"6.0.16\""));
        assert!(refused("noeviction", "volatile-ttl").contains("CONFIG SET maxmemory-policy noeviction"));
        assert!(refused("role:master", "role:slave").contains("name the master"));
    }
}
