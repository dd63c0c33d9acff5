//! The contract of a store, on a real server. What needs no knowledge of the contract is in `tests/it/ledger_redis.rs`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use self::server::RedisServer;
use super::super::contract;
use super::*;

#[expect(dead_code, reason = "the integration tests use the rest")]
#[path = "../../../tests/it/support/redis.rs"]
mod server;

fn settings(server: &RedisServer, prefix: &str) -> RedisSettings {
    let node = Node { host: "127.0.0.1".to_owned(), port: server.port() };
    RedisSettings { prefix: prefix.to_owned(), ..RedisSettings::single(node) }
}

/// Valkey has what Redis 7.2 had; of these commands and options nothing is younger than Redis 6.2.
const COMMANDS: [&str; 11] =
    ["EVAL", "EVALSHA", "GET", "INFO", "PEXPIRE", "SET", "TIME", "XADD", "XRANGE", "XREAD", "XREVRANGE"];

#[tokio::test]
#[ignore = "needs redis-server: run ./tests/run"]
async fn it_keeps_the_contract_of_a_store_with_commands_that_all_servers_know() {
    let server = RedisServer::start(&[]);
    let monitor = server.monitor();
    let stores = AtomicU32::new(0);
    let fresh = || {
        let prefix = format!("test{}", stores.fetch_add(1, Ordering::Relaxed));
        Arc::new(RedisStore::new(settings(&server, &prefix)).expect("is well set"))
    };
    contract::check(fresh).await;
    let (a, b) = (settings(&server, "shared"), settings(&server, "shared"));
    let store = |settings| Arc::new(RedisStore::new(settings).expect("is well set"));
    contract::check_changes(store(a), store(b)).await;
    assert_eq!(monitor.commands(), COMMANDS);
}

#[tokio::test]
#[ignore = "needs redis-server: run ./tests/run"]
async fn it_keeps_the_contract_in_a_cluster_too() {
    let nodes = RedisServer::start_cluster();
    let stores = AtomicU32::new(0);
    // Either node knows the other.
    let store = |node, prefix: &str| {
        let settings = RedisSettings { mode: Mode::Cluster, ..settings(node, prefix) };
        Arc::new(RedisStore::new(settings).expect("is well set"))
    };
    let [first, second] = &nodes;
    contract::check(|| store(first, &format!("test{}", stores.fetch_add(1, Ordering::Relaxed)))).await;
    contract::check_changes(store(first, "shared"), store(second, "shared")).await;
}
