//! Which server has a bucket: asked of the sentinels, or of the cluster's nodes.

use std::sync::Arc;

use redis::{RedisConnectionInfo, Value};
use tokio::task::JoinSet;

use super::super::StoreError;
use super::connection::Connection;
use super::failure::{describe, unreachable};
use super::keys::Bucket;
use super::servers::{Places, Servers};
use super::settings::{Mode, Node};
use crate::secret::Secret;

impl Servers {
    /// Asks those who know.
    pub(super) async fn find_places(self: &Arc<Self>) -> Result<Places, StoreError> {
        let everywhere = |node: &Node| Bucket::all().map(|_| node.clone()).collect();
        match &self.settings.mode {
            Mode::Single => Ok(self.settings.nodes.first().map(everywhere).unwrap_or_default()),
            Mode::Sentinel { .. } | Mode::Cluster => {
                let mut asked = JoinSet::new();
                for node in &self.settings.nodes {
                    let (servers, node) = (Arc::clone(self), node.clone());
                    asked.spawn(async move {
                        match &servers.settings.mode {
                            Mode::Cluster => servers.ask_cluster(&node).await,
                            Mode::Single | Mode::Sentinel { .. } => {
                                servers.ask_sentinel(&node).await.map(|master| vec![master; Bucket::all().count()])
                            }
                        }
                    });
                }
                // The first that knows is as good as any: a server that is no master is found out when connecting.
                let mut failures = Vec::new();
                while let Some(answer) = asked.join_next().await {
                    match answer {
                        Ok(Ok(places)) => return Ok(places),
                        Ok(Err(StoreError::Unreachable(text))) => failures.push(text),
                        Ok(Err(error)) => return Err(error),
                        Err(_) => {}
                    }
                }
                failures.sort();
                Err(StoreError::Unreachable(failures.join("; ")))
            }
        }
    }

    async fn ask_sentinel(&self, node: &Node) -> Result<Node, StoreError> {
        let Mode::Sentinel { master, username, password } = &self.settings.mode else {
            return Err(unreachable(node, "it is no sentinel"));
        };
        let login = login(username.as_deref(), password.as_ref());
        let sentinel = Connection::open(node, self.tls.as_ref(), &login).await.map_err(of_sentinel)?;
        let mut question = redis::cmd("SENTINEL");
        question.arg("get-master-addr-by-name").arg(master);
        let answer = sentinel.command(&question).await.map_err(|error| of_sentinel(describe(node, &error)))?;
        match redis::from_redis_value::<Option<(String, u16)>>(answer) {
            Ok(Some((host, port))) => Ok(Node { host, port }),
            Ok(None) => Err(unreachable(node, &format!("this sentinel knows no master {master:?}"))),
            Err(_) => Err(unreachable(node, "its answer about the master cannot be read; is it a sentinel?")),
        }
    }

    /// The node of each bucket, by what one node of the cluster knows.
    async fn ask_cluster(&self, node: &Node) -> Result<Places, StoreError> {
        let connection = self.open(node).await?;
        let answer =
            connection.command(redis::cmd("CLUSTER").arg("SLOTS")).await.map_err(|error| describe(node, &error))?;
        let ranges: Vec<Vec<Value>> = redis::from_redis_value(answer)
            .map_err(|_| unreachable(node, "its answer about the cluster's slots cannot be read"))?;
        let ranges: Vec<_> = ranges.iter().filter_map(|range| slot_range(node, range)).collect();
        let place = |bucket: Bucket| {
            let slot = bucket.slot();
            let range = ranges.iter().find(|(first, last, _)| (*first..=*last).contains(&slot));
            let unserved = || unreachable(node, &format!("no node of the cluster serves slot {slot}"));
            range.map(|(_, _, node)| node.clone()).ok_or_else(unserved)
        };
        Bucket::all().map(place).collect()
    }

    /// The servers of the settings.
    pub(super) fn named(&self) -> String {
        self.settings.nodes.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    }
}

/// First and last slot and the master of a line of `CLUSTER SLOTS`. A node that knows no name for itself leaves it out.
fn slot_range(asked: &Node, range: &[Value]) -> Option<(u16, u16, Node)> {
    let [first, last, Value::Array(master), ..] = range else { return None };
    let [host, port, ..] = master.as_slice() else { return None };
    let number = |value: &Value| redis::from_redis_value_ref::<u16>(value).ok();
    let host = redis::from_redis_value_ref::<Option<String>>(host).ok()?;
    let host = host.filter(|host| !host.is_empty() && host != "?").unwrap_or_else(|| asked.host.clone());
    Some((number(first)?, number(last)?, Node { host, port: number(port)? }))
}

/// The sentinels have users of their own.
fn of_sentinel(error: StoreError) -> StoreError {
    match error {
        StoreError::Unreachable(text) => StoreError::Unreachable(
            text.replace("ledger.password", "ledger.sentinel_password")
                .replace("ledger.username", "ledger.sentinel_username"),
        ),
        StoreError::Full(_) | StoreError::Corrupt => error,
    }
}

/// Who signs in on a connection.
pub(super) fn login(username: Option<&str>, password: Option<&Secret<String>>) -> RedisConnectionInfo {
    // CLIENT SETINFO is younger than the oldest servers that we support.
    let mut login = RedisConnectionInfo::default().set_skip_set_lib_name();
    if let Some(username) = username {
        login = login.set_username(username);
    }
    if let Some(password) = password {
        login = login.set_password(password.expose());
    }
    login
}
