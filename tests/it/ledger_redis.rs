//! The ledger's store in Redis, on real servers: what happens when they are not there, full, hung, replaced or moved.
//!
//! The contract of a store is checked beside the store itself (`src/ledger/redis/tests.rs`).

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use vestibule::clock::Timestamp;
use vestibule::ledger::redis::{Mode, Node, RedisSettings, RedisStore, Tls};
use vestibule::ledger::{Heard, Key, Position, Store, StoreError, Swapped, Write};

use crate::support::PATIENCE;
use crate::support::authority::{Authority, Issued};
use crate::support::redis::{RedisServer, free_port, until};

const LIMIT: Timestamp = Timestamp::from_secs(4_000_000_000);

fn node(server: &RedisServer) -> Node {
    Node { host: "127.0.0.1".to_owned(), port: server.port() }
}

fn settings(server: &RedisServer) -> RedisSettings {
    RedisSettings::single(node(server))
}

fn store(settings: RedisSettings) -> Arc<RedisStore> {
    Arc::new(RedisStore::new(settings).unwrap())
}

fn key(number: u8) -> Key {
    Key::Once([number; 32])
}

fn write(bytes: &[u8]) -> Write {
    Write { bytes: bytes.to_vec(), keep_until: LIMIT, news: Some(bytes.to_vec()) }
}

async fn put(store: &RedisStore, key: Key, bytes: &[u8]) -> Result<Swapped, StoreError> {
    let version = store.load(key).await?.version;
    store.swap(key, version, write(bytes)).await
}

async fn text(store: &RedisStore, key: Key) -> Option<Vec<u8>> {
    store.load(key).await.unwrap().bytes
}

async fn after(store: &RedisStore, position: Option<&Position>) -> Result<Heard, StoreError> {
    store.changes().unwrap().after(position).await
}

/// What an operation is refused with.
async fn refusal(store: &RedisStore) -> String {
    let begun = Instant::now();
    let error = store.load(key(1)).await.expect_err("is refused");
    // Its limit is a second; the machine may be busy.
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}: {error}", begun.elapsed());
    error.to_string()
}

/// Repeats an operation until it succeeds, as the ledger's callers do.
async fn put_at_last(store: &RedisStore, key: Key, bytes: &[u8]) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match put(store, key, bytes).await {
            Ok(Swapped::Done) => return,
            Ok(Swapped::Moved) => {}
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
#[ignore = "needs redis-server: run ./tests/run"]
async fn of_racing_swaps_each_round_has_one_winner() {
    const EACH: u64 = 200;
    let server = RedisServer::start(&[]);
    let mut racers = tokio::task::JoinSet::new();
    for racer in 0..2_u8 {
        let store = store(settings(&server));
        racers.spawn(async move {
            let mut won = 0_u64;
            while won < EACH {
                let loaded = store.load(key(1)).await.unwrap();
                let count = u64::from_be_bytes(loaded.bytes.map_or([0; 8], |bytes| bytes[..8].try_into().unwrap()));
                let mut bytes = (count + 1).to_be_bytes().to_vec();
                bytes.push(racer);
                match store.swap(key(1), loaded.version, write(&bytes)).await.unwrap() {
                    Swapped::Done => won += 1,
                    Swapped::Moved => {}
                }
            }
        });
    }
    racers.join_all().await;
    let last = text(&store(settings(&server)), key(1)).await.unwrap();
    assert_eq!(last[..8], (2 * EACH).to_be_bytes());
    let news: u64 = (0..16).map(|bucket| server.ask::<u64>(&["XLEN", &format!("vestibule:{{b{bucket}}}:news")])).sum();
    assert_eq!(news, 2 * EACH);
}

#[tokio::test]
#[ignore = "needs redis-server: run ./tests/run"]
async fn a_server_that_comes_and_goes_needs_no_restart_of_ours() {
    let mut server = RedisServer::start(&["appendonly yes", "appendfsync always"]);
    server.kill();
    let store = store(settings(&server));
    let refused = refusal(&store).await;
    assert!(refused.contains(&format!("127.0.0.1:{}: connection refused", server.port())), "{refused}");
    server.start_again();
    assert_eq!(put(&store, key(1), b"one").await, Ok(Swapped::Done));
    server.kill();
    let refused = refusal(&store).await;
    assert!(refused.contains("connection"), "{refused}");
    server.start_again();
    assert_eq!(text(&store, key(1)).await.unwrap(), b"one");
}

#[tokio::test]
#[ignore = "needs redis-server: run ./tests/run"]
async fn a_server_that_hangs_costs_each_operation_its_limit_and_no_more() {
    let server = RedisServer::start(&[]);
    let store = store(settings(&server));
    assert_eq!(put(&store, key(1), b"one").await, Ok(Swapped::Done));
    let position = after(&store, None).await.unwrap().position;
    server.signal("STOP");
    let begun = Instant::now();
    for round in 1..=3 {
        let mut many = tokio::task::JoinSet::new();
        for _ in 0..100 {
            let store = Arc::clone(&store);
            many.spawn(async move { refusal(&store).await });
        }
        for refused in many.join_all().await {
            assert!(refused.contains("within 1s"), "{refused}");
        }
        // One hundred at once take as long as one does, also in the third round.
        assert!(begun.elapsed() < Duration::from_secs(2 * round), "{:?}", begun.elapsed());
    }
    let listening = Instant::now();
    after(&store, Some(&position)).await.expect_err("hears nothing");
    assert!(listening.elapsed() < Duration::from_secs(4), "{:?}", listening.elapsed());
    server.signal("CONT");
    assert_eq!(text(&store, key(1)).await.unwrap(), b"one");
    put_at_last(&store, key(1), b"two").await;
    let heard = after(&store, Some(&position)).await.unwrap();
    assert_eq!((heard.news.last().map(Vec::as_slice), heard.gap), (Some(b"two".as_slice()), false));
}

#[tokio::test]
#[ignore = "needs redis-server: run ./tests/run"]
async fn a_missing_or_wrong_password_is_told_with_the_key_to_check_and_never_printed() {
    let server = RedisServer::start(&["requirepass correct-horse"]);
    let with = |username: Option<&str>, password: &str| RedisSettings {
        username: username.map(ToOwned::to_owned),
        password: Some(password.to_owned().into()),
        ..settings(&server)
    };
    let refused = refusal(&store(settings(&server))).await;
    assert!(refused.contains("set ledger.password"), "{refused}");
    for (user, password) in [(None, "battery-staple"), (Some("nobody"), "correct-horse")] {
        let store = store(with(user, password));
        let refused = refusal(&store).await;
        assert!(refused.contains("check ledger.password and ledger.username"), "{refused}");
        assert!(!format!("{refused} {store:?}").contains(password), "{refused} {store:?}");
    }
    for user in [None, Some("default")] {
        assert_eq!(text(&store(with(user, "correct-horse")), key(1)).await, None);
    }
}

#[tokio::test]
#[ignore = "needs redis-server: run ./tests/run"]
async fn a_user_needs_no_more_rights_than_the_manual_says() {
    let server = RedisServer::start(&[
        "user vestibule on >secret ~vestibule:* resetchannels -@all +info +eval +evalsha +get +set +time +xadd +xread \
         +xrange +xrevrange +pexpire +wait",
        "user poor on >secret ~vestibule:* -@all +info +eval +evalsha",
    ]);
    let user = |name: &str| RedisSettings {
        username: Some(name.to_owned()),
        password: Some("secret".to_owned().into()),
        ..settings(&server)
    };
    let able = store(user("vestibule"));
    let position = after(&able, None).await.unwrap().position;
    assert_eq!(put(&able, key(1), b"one").await, Ok(Swapped::Done));
    assert_eq!(after(&able, Some(&position)).await.unwrap().news, [b"one"]);
    let refused = refusal(&store(user("poor"))).await;
    assert!(refused.contains("the user may not do this") && refused.contains("ledger.username"), "{refused}");
}

#[tokio::test]
#[ignore = "needs redis-server: run ./tests/run"]
async fn a_replica_is_not_written_to() {
    let master = RedisServer::start(&[]);
    let server = RedisServer::start(&[]);
    let store = store(settings(&server));
    assert_eq!(put(&store, key(1), b"one").await, Ok(Swapped::Done));
    let _: String = server.ask(&["REPLICAOF", "127.0.0.1", &master.port().to_string()]);
    let error = store.swap(key(2), 0, write(b"two")).await.expect_err("is refused").to_string();
    assert!(error.contains("it is a replica"), "{error}");
    let error = store.check().await.expect_err("is refused").to_string();
    assert!(error.contains("name the master, or its sentinels"), "{error}");
    let _: String = server.ask(&["REPLICAOF", "NO", "ONE"]);
    assert_eq!(put(&store, key(2), b"two").await, Ok(Swapped::Done));
}

#[tokio::test]
#[ignore = "needs redis-server: run ./tests/run"]
async fn a_full_server_refuses_writes_and_serves_on() {
    let server = RedisServer::start(&["maxmemory-policy noeviction"]);
    let store = store(settings(&server));
    assert_eq!(put(&store, key(1), b"one").await, Ok(Swapped::Done));
    let position = after(&store, None).await.unwrap().position;
    let _: String = server.ask(&["CONFIG", "SET", "maxmemory", "1"]);
    let full = put(&store, key(1), b"two").await;
    assert!(matches!(&full, Err(StoreError::Full(text)) if text.contains("maxmemory")), "{full:?}");
    assert_eq!(text(&store, key(1)).await.unwrap(), b"one");
    let heard = after(&store, Some(&position)).await.unwrap();
    assert_eq!((heard.news.len(), heard.gap), (0, false), "nothing was written, so nothing is new");
    // A replica that starts now finds no room for the beginning of a stream, and listens all the same.
    assert!(after(&store, None).await.unwrap().gap);
    let _: String = server.ask(&["CONFIG", "SET", "maxmemory", "0"]);
    assert_eq!(put(&store, key(1), b"two").await, Ok(Swapped::Done));
}

#[tokio::test]
#[ignore = "needs redis-server: run ./tests/run"]
async fn a_server_that_would_evict_records_is_not_used_until_it_is_set_right() {
    let server = RedisServer::start(&["maxmemory 100mb", "maxmemory-policy allkeys-lru"]);
    let store = store(settings(&server));
    let refused = refusal(&store).await;
    assert!(refused.contains("\"allkeys-lru\""), "{refused}");
    assert!(refused.contains("CONFIG SET maxmemory-policy noeviction"), "{refused}");
    let _: String = server.ask(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]);
    assert_eq!(put(&store, key(1), b"one").await, Ok(Swapped::Done));
    let known = store.check().await.unwrap();
    assert_eq!((known.len(), &known[0].node, known[0].replicas, known[0].durable), (1, &node(&server), 0, false));
    // It is set wrong while it is used: the check finds that, and the store obeys.
    let _: String = server.ask(&["CONFIG", "SET", "maxmemory-policy", "volatile-ttl"]);
    let error = store.check().await.expect_err("is refused").to_string();
    assert!(error.contains("\"volatile-ttl\""), "{error}");
    assert_eq!(refusal(&store).await, error);
}

#[tokio::test]
#[ignore = "needs redis-server: run ./tests/run"]
async fn what_has_had_its_time_is_gone_and_a_stream_does_not_grow_for_ever() {
    let server = RedisServer::start(&[]);
    let store = store(settings(&server));
    let loaded = store.load(key(1)).await.unwrap();
    let keep_until = loaded.now + Duration::from_millis(300);
    let short = Write { keep_until, ..write(b"short") };
    assert_eq!(store.swap(key(1), loaded.version, short).await, Ok(Swapped::Done));
    assert_eq!(text(&store, key(1)).await.unwrap(), b"short");
    let deadline = Instant::now() + PATIENCE;
    let records = || server.ask::<Vec<String>>(&["KEYS", "vestibule:*:o:*"]);
    while !records().is_empty() {
        assert!(Instant::now() < deadline, "it is still there");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let loaded = store.load(key(1)).await.unwrap();
    assert_eq!(loaded.bytes, None);
    assert!(loaded.now > keep_until);

    let mut many = tokio::task::JoinSet::new();
    for number in 0..40 {
        let store = Arc::clone(&store);
        let mut hash = [number; 32];
        hash[31] = 2;
        many.spawn(async move {
            for _ in 0..300 {
                assert_eq!(put(&store, Key::Once(hash), b"news").await, Ok(Swapped::Done));
            }
        });
    }
    many.join_all().await;
    let stream = "vestibule:{b2}:news";
    // It is shortened by a hundred entries at a time.
    let length: u64 = server.ask(&["XLEN", stream]);
    assert!((10_000..=10_200).contains(&length), "{length}");
    let life: i64 = server.ask(&["PTTL", stream]);
    assert!((1..=86_400_000).contains(&life), "{life}");
}

#[tokio::test]
#[ignore = "needs redis-server: run ./tests/run"]
async fn a_server_that_has_forgotten_the_scripts_is_given_them_again() {
    let server = RedisServer::start(&[]);
    let store = store(settings(&server));
    for round in 0..3_u8 {
        assert_eq!(put(&store, key(1), &[round]).await, Ok(Swapped::Done));
        assert_eq!(text(&store, key(1)).await, Some(vec![round]));
        let _: String = server.ask(&["SCRIPT", "FLUSH"]);
    }
}

#[tokio::test]
#[ignore = "needs redis-server: run ./tests/run"]
async fn whatever_may_have_been_missed_is_told_as_a_gap() {
    let mut server = RedisServer::start(&[]);
    let (store, other) = (store(settings(&server)), store(settings(&server)));
    let begin = async || {
        let position = after(&store, None).await.unwrap().position;
        put_at_last(&other, key(1), b"heard").await;
        let heard = after(&store, Some(&position)).await.unwrap();
        assert_eq!((heard.news, heard.gap), (vec![b"heard".to_vec()], false));
        heard.position
    };
    /// The gap is told once, and what is written after it is heard.
    async fn gap(store: &RedisStore, other: &RedisStore, position: &Position) {
        let heard = after(store, Some(position)).await.unwrap();
        assert!(heard.gap);
        put_at_last(other, key(1), b"later").await;
        let heard = after(store, Some(&heard.position)).await.unwrap();
        assert_eq!((heard.news, heard.gap), (vec![b"later".to_vec()], false));
    }
    let position = begin().await;
    let _: String = server.ask(&["FLUSHALL"]);
    gap(&store, &other, &position).await;

    let position = begin().await;
    put_at_last(&other, key(1), b"missed").await;
    let _: u64 = server.ask(&["XTRIM", "vestibule:{b1}:news", "MAXLEN", "0"]);
    gap(&store, &other, &position).await;

    // What is left of a stream is heard, with the gap before it.
    let position = begin().await;
    for bytes in [b"missed", b"latest"] {
        put_at_last(&other, key(1), bytes).await;
    }
    let _: u64 = server.ask(&["XTRIM", "vestibule:{b1}:news", "MAXLEN", "1"]);
    let heard = after(&store, Some(&position)).await.unwrap();
    assert_eq!((heard.news, heard.gap), (vec![b"latest".to_vec()], true));

    let position = begin().await;
    server.kill();
    after(&store, Some(&position)).await.expect_err("cannot be asked");
    server.start_again();
    gap(&store, &other, &position).await;

    // It was away, but has lost nothing.
    let position = begin().await;
    let _: i64 = server.ask(&["CLIENT", "KILL", "TYPE", "normal"]);
    put_at_last(&other, key(1), b"missed").await;
    let mut heard = after(&store, Some(&position)).await;
    if heard.is_err() {
        heard = after(&store, Some(&position)).await;
    }
    let heard = heard.unwrap();
    assert_eq!((heard.news, heard.gap), (vec![b"missed".to_vec()], false));
}

fn sentinels(sentinel: &RedisServer) -> RedisSettings {
    let mode = Mode::Sentinel { master: "ledger".to_owned(), username: None, password: None };
    // One of the sentinels is not there, as it happens.
    let absent = Node { host: "127.0.0.1".to_owned(), port: free_port() };
    RedisSettings { nodes: vec![absent, node(sentinel)], mode, ..settings(sentinel) }
}

fn replica_of(master: &RedisServer) -> RedisServer {
    let replica =
        RedisServer::start(&[&format!("replicaof 127.0.0.1 {}", master.port()), "repl-diskless-sync-delay 0"]);
    // A link that is up may still wait for the replica's first word, which it says once a second.
    until("the replica follows", || master.is_replicated());
    replica
}

#[tokio::test]
#[ignore = "needs redis-server: run ./tests/run"]
async fn after_a_failover_the_store_goes_on_with_the_new_master_and_has_lost_nothing() {
    let mut master = RedisServer::start(&["repl-diskless-sync-delay 0"]);
    let replica = replica_of(&master);
    let sentinel = RedisServer::start_sentinel(&[
        &format!("sentinel monitor ledger 127.0.0.1 {} 1", master.port()),
        // Long enough that a busy machine is not taken for a dead master.
        "sentinel down-after-milliseconds ledger 3000",
        "sentinel failover-timeout ledger 3000",
    ]);
    until("the sentinel knows the replica", || {
        sentinel.try_ask::<Vec<redis::Value>>(&["SENTINEL", "REPLICAS", "ledger"]).is_ok_and(|known| known.len() == 1)
    });
    let store = store(sentinels(&sentinel));
    let position = after(&store, None).await.unwrap().position;
    assert_eq!(put(&store, key(1), b"one").await, Ok(Swapped::Done));
    // The store waits for the replica, but not for long; this is about what the replica has got.
    let written: Vec<String> = master.ask(&["KEYS", "vestibule:*"]);
    until("the replica has the record and its news", || {
        replica.ask::<Vec<String>>(&["KEYS", "vestibule:*"]).len() == written.len()
    });

    master.kill();
    put_at_last(&store, key(2), b"two").await;
    assert_eq!(text(&store, key(1)).await.unwrap(), b"one");
    let heard = after(&store, Some(&position)).await.unwrap();
    assert_eq!((heard.news.concat(), heard.gap), (b"onetwo".to_vec(), false));
    assert_eq!(store.check().await.unwrap()[0].node, node(&replica));
}

#[tokio::test]
#[ignore = "needs redis-server: run ./tests/run"]
async fn sentinels_that_know_no_master_of_that_name_say_so() {
    let sentinel = RedisServer::start_sentinel(&[]);
    let refused = refusal(&store(sentinels(&sentinel))).await;
    assert!(refused.contains("knows no master \"ledger\""), "{refused}");
    assert!(refused.contains("connection refused"), "each sentinel is named: {refused}");
}

#[tokio::test]
#[ignore = "needs redis-server: run ./tests/run"]
async fn what_others_have_to_hear_of_waits_for_a_replica_but_not_for_long() {
    let master = RedisServer::start(&["repl-diskless-sync-delay 0"]);
    let replica = replica_of(&master);
    // It waits for a quarter of its limit.
    let store = store(RedisSettings { timeout: Duration::from_secs(4), ..settings(&master) });
    let monitor = master.monitor();
    let silent = Write { news: None, ..write(b"silent") };
    assert_eq!(store.swap(key(1), 0, silent).await, Ok(Swapped::Done));
    assert!(!monitor.commands().contains(&"WAIT".to_owned()));

    let monitor = master.monitor();
    assert_eq!(put(&store, key(1), b"one").await, Ok(Swapped::Done));
    assert!(monitor.commands().contains(&"WAIT".to_owned()));
    let acknowledged: Vec<String> = replica.ask(&["KEYS", "vestibule:*"]);
    assert_eq!(acknowledged.len(), 2, "the record and its news: {acknowledged:?}");

    replica.signal("STOP");
    let begun = Instant::now();
    for number in 0..20 {
        assert_eq!(put(&store, key(2), &[number]).await, Ok(Swapped::Done));
    }
    let took = begun.elapsed();
    assert!((Duration::from_secs(1)..Duration::from_secs(4)).contains(&took), "one of them waits: {took:?}");
    replica.signal("CONT");
}

#[tokio::test]
#[ignore = "needs redis-server: run ./tests/run"]
async fn a_slot_of_the_cluster_moves_while_it_is_in_use() {
    // The slot of bucket 1, which the first node has.
    const SLOT: &str = "2874";
    let [first, second] = &RedisServer::start_cluster();
    let in_cluster = |server| store(RedisSettings { mode: Mode::Cluster, ..settings(server) });
    let (store, other) = (in_cluster(first), in_cluster(second));
    assert_eq!(store.check().await.unwrap().len(), 2);
    assert_eq!(put(&store, key(1), b"one").await, Ok(Swapped::Done));
    let position = after(&store, None).await.unwrap().position;

    let names = [first, second].map(|node| node.ask::<String>(&["CLUSTER", "MYID"]));
    let _: String = second.ask(&["CLUSTER", "SETSLOT", SLOT, "IMPORTING", &names[0]]);
    let _: String = first.ask(&["CLUSTER", "SETSLOT", SLOT, "MIGRATING", &names[1]]);
    let keys: Vec<String> = first.ask(&["CLUSTER", "GETKEYSINSLOT", SLOT, "10"]);
    assert_eq!(keys.len(), 2, "{keys:?}");
    let port = second.port().to_string();
    let mut migrate = vec!["MIGRATE", "127.0.0.1", &port, "", "0", "5000", "KEYS"];
    migrate.extend(keys.iter().map(String::as_str));
    let _: String = first.ask(&migrate);
    // The first node still answers for the slot, and sends us to the second.
    assert_eq!(text(&store, key(1)).await.unwrap(), b"one");
    assert_eq!(put(&store, key(1), b"two").await, Ok(Swapped::Done));

    for server in [first, second] {
        let _: String = server.ask(&["CLUSTER", "SETSLOT", SLOT, "NODE", &names[1]]);
    }
    for store in [&store, &other] {
        assert_eq!(text(store, key(1)).await.unwrap(), b"two");
    }
    let heard = after(&store, Some(&position)).await.unwrap();
    assert_eq!((heard.news, heard.gap), (vec![b"two".to_vec()], false));
    let moved: Vec<String> = second.ask(&["CLUSTER", "GETKEYSINSLOT", SLOT, "10"]);
    assert_eq!(moved.len(), 2);
}

#[tokio::test]
#[ignore = "needs redis-server: run ./tests/run"]
async fn a_cluster_and_a_single_server_are_not_taken_for_each_other() {
    let (single, nodes) = (RedisServer::start(&[]), RedisServer::start_cluster());
    let refused = refusal(&store(settings(&nodes[0]))).await;
    assert!(refused.contains("set the ledger to a cluster"), "{refused}");
    let refused = refusal(&store(RedisSettings { mode: Mode::Cluster, ..settings(&single) })).await;
    assert!(refused.contains("cluster support disabled"), "{refused}");
}

#[tokio::test]
#[ignore = "needs redis-server: run ./tests/run"]
async fn with_tls_only_a_server_with_a_trusted_certificate_is_spoken_to() {
    let authority = Authority::new();
    let Issued { certificate, key: key_text } = authority.issue("127.0.0.1");
    let (ca, other_ca) = (authority.certificate, Authority::new().certificate);
    let port = std::cell::Cell::new(0);
    let server = RedisServer::start_in_folder(|folder| {
        port.set(free_port());
        std::fs::write(folder.join("server.pem"), &certificate).unwrap();
        std::fs::write(folder.join("server.key"), &key_text).unwrap();
        std::fs::write(folder.join("ca.pem"), &ca).unwrap();
        format!(
            "tls-port {}\ntls-cert-file server.pem\ntls-key-file server.key\ntls-ca-cert-file ca.pem\ntls-auth-clients no",
            port.get()
        )
    });
    let folder = tempfile::tempdir().unwrap();
    let with = |ca: Option<&str>| {
        let ca_file = ca.map(|text| {
            let path = folder.path().join("ca.pem");
            std::fs::write(&path, text).unwrap();
            path
        });
        let nodes = vec![Node { port: port.get(), ..node(&server) }];
        RedisSettings { nodes, tls: Some(Tls { ca_file }), ..settings(&server) }
    };
    let store_with = |ca| store(with(ca));
    assert_eq!(put(&store_with(Some(&ca)), key(1), b"one").await, Ok(Swapped::Done));
    for untrusted in [None, Some(other_ca.as_str())] {
        let refused = refusal(&store_with(untrusted)).await;
        assert!(refused.contains("invalid peer certificate") && refused.contains("check ledger.ca_file"), "{refused}");
    }
    // The certificate is valid for the address, not for the name.
    let mut by_name = with(Some(&ca));
    by_name.nodes[0].host = "localhost".to_owned();
    let refused = refusal(&store(by_name)).await;
    assert!(refused.contains("not valid for name"), "{refused}");
    let error = RedisStore::new(with(Some("no certificate"))).expect_err("cannot be read").to_string();
    assert!(error.starts_with("ledger.ca_file: ") && error.contains("PEM"), "{error}");
}
