//! Ten thousand streams at once: what they cost, and what it costs to end those of one session.

use tokio::task::JoinSet;
use tokio::time::{Duration, Instant, sleep};

use crate::api::{Api, Guard};
use crate::issuer::{Issuer, Options};
use crate::support::PATIENCE;
use crate::support::browser::Browser;
use crate::support::live::{End, Live, Socket};
use crate::support::replica::{Common, Replicas};

const SESSIONS: usize = 100;
const STREAMS: usize = 10_000;
/// Files that a process needs besides its streams: browsers keep their connections.
const SPARE: usize = 1000;
/// How many are opened at a time.
const AT_A_TIME: usize = 32;

/// How many files a process may have open.
fn files() -> usize {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    line.split_whitespace().nth(3).unwrap().parse().unwrap_or(usize::MAX)
}

/// Resident memory of a process, in KiB.
fn resident(id: u32) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// Processor time that a process has used, in hundredths of a second, as the kernel counts.
fn used(id: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes a minute: run ./tests/run"]
async fn of_ten_thousand_streams_only_those_of_the_ended_session_are_closed() {
    // Both processes hold two ends of each stream.
    let each = STREAMS.min(files().saturating_sub(SPARE) / 2) / SESSIONS;
    let streams = each * SESSIONS;
    if streams < STREAMS {
        println!("{streams} streams and not {STREAMS}: a process may open no more than {} files here", files());
    }
    let live = Live::start().await;
    let mut replicas = Replicas::prepare(1).await;
    let options = Options { redirect_uris: vec![replicas.at("/bff/callback")], ..Options::default() };
    let client_secret = options.client_secret.expose().clone();
    let issuer = Issuer::start(options).await.unwrap();
    let api = Api::start(0, Guard::Bearer(issuer.introspection())).await.unwrap();
    replicas.configure(&Common {
        issuer: issuer.url(),
        client_id: "spa-bff",
        client_secret: &client_secret,
        api: &api.url(),
        ledger: "backend = \"memory\"",
        session: "",
        more: &live.route("/live/", "api"),
    });
    replicas.get(0).edit("[server]", "[server]\n            connections = 20_000");
    replicas.start().await;
    let (id, address) = (replicas.get(0).id(), replicas.get(0).address());

    let mut browsers = Vec::new();
    for _ in 0..SESSIONS {
        let browser = Browser::new();
        assert_eq!(browser.follow(&replicas.at("/bff/login")).await.status, 200);
        browsers.push(browser);
    }
    let before = resident(id);
    let mut open: Vec<Vec<Socket>> = (0..SESSIONS).map(|_| Vec::new()).collect();
    let mut opening = JoinSet::new();
    for number in 0..streams {
        let (session, origin) = (number % SESSIONS, replicas.url.clone());
        let browser = browsers[session].clone();
        opening.spawn(
            async move { (session, Socket::open(address, Some(&origin), "/live/echo", &browser).await.unwrap()) },
        );
        if opening.len() == AT_A_TIME {
            let (session, socket) = opening.join_next().await.unwrap().unwrap();
            open[session].push(socket);
        }
    }
    while let Some(opened) = opening.join_next().await {
        let (session, socket) = opened.unwrap();
        open[session].push(socket);
    }
    live.until_open(streams).await;
    let per_stream = (resident(id) - before) as f64 / streams as f64;
    println!("{streams} open streams of {SESSIONS} sessions: {per_stream:.1} KiB each");

    let since = (Instant::now(), used(id));
    sleep(Duration::from_secs(10)).await;
    let idle = (used(id) - since.1) as f64 / since.0.elapsed().as_secs_f64();
    println!("quiet: {idle:.1} % of one processor");

    let since = (Instant::now(), used(id));
    let out = browsers[0].fetch(http::Method::POST, &replicas.get(0).at("/bff/logout"));
    assert_eq!(out.header("origin", &replicas.url).await.status, 200);
    for mut socket in open.remove(0) {
        assert_eq!(socket.ended().await, Some(End::Closed(4401, "logout".to_owned())));
    }
    let (took, cost) = (since.0.elapsed(), used(id) - since.1);
    println!(
        "{each} of them ended: {} ms until the last was told, {} ms of processor time",
        took.as_millis(),
        cost * 10
    );
    assert!(took < PATIENCE);
    live.until_open(streams - each).await;
    for socket in open.iter_mut().flatten() {
        socket.echoes("still here").await;
    }
    println!("streams of the other sessions: all of them answer");
}
