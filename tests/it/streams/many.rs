//! Ten thousand streams at once: what they cost, and what it costs to end those of one session.

use tokio::process::Command;
use tokio::task::JoinSet;
use tokio::time::{Duration, Instant, sleep};

use crate::support::browser::Browser;
use crate::support::fleet::{Fleet, Plan};
use crate::support::live::{End, Socket};
use crate::support::process::Process;
use crate::support::{PATIENCE, plain_client};

const SESSIONS: usize = 100;
const STREAMS: usize = 10_000;
const EACH: usize = STREAMS / SESSIONS;
/// Each holds both ends of its streams, and no process may have 20,000 files open everywhere.
const REPLICAS: usize = 2;
/// How many are opened at a time.
const AT_A_TIME: usize = 32;

/// The upstream, in a process of its own.
struct Echo {
    port: u16,
    _process: Process,
}

impl Echo {
    async fn start() -> Self {
        let mut command = Command::new("node");
        command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/support/echo.mjs"));
        let mut process = Process::start(command);
        let port = process.line(PATIENCE, |line| line.strip_prefix("listening on ")?.parse().ok()).await;
        Self { port, _process: process }
    }

    /// Waits until only so many streams are open.
    async fn until_open(&self, wanted: usize) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let answer = plain_client().get(format!("http://127.0.0.1:{}/open", self.port)).send().await.unwrap();
            let open: usize = answer.text().await.unwrap().parse().unwrap();
            if open == wanted {
                return;
            }
            assert!(Instant::now() < deadline, "{open} streams are open at the upstream, and not {wanted}");
            sleep(Duration::from_millis(20)).await;
        }
    }
}

/// Resident memory of a process, in KiB.
fn resident(id: u32) -> u64 {
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
#[ignore = "takes a minute, and needs node: run ./tests/run"]
async fn of_ten_thousand_streams_only_those_of_the_ended_session_are_closed() {
    let echo = Echo::start().await;
    let more = format!("[[route]]\npath = \"/live/\"\nupstream = \"http://127.0.0.1:{}\"\nauth = \"api\"", echo.port);
    let plan = Plan { number: REPLICAS, ledger: "backend = \"memory\"", more: &more, ..Plan::default() };
    let Fleet { replicas, issuer: _issuer, api: _api } = Fleet::start(plan).await;
    let ids: Vec<u32> = (0..REPLICAS).map(|index| replicas.get(index).id()).collect();
    let all = |measure: fn(u32) -> u64| ids.iter().map(|id| measure(*id)).sum::<u64>();

    let mut browsers = Vec::new();
    for _ in 0..SESSIONS {
        let browser = Browser::new();
        // One connection for each request: idle ones would be files too.
        let page = browser.navigate(&replicas.at("/bff/login")).header("connection", "close").follow().await;
        assert_eq!(page.status, 200, "{}", page.text());
        browsers.push(browser);
    }
    let before = all(resident);
    let mut open: Vec<Vec<Socket>> = (0..SESSIONS).map(|_| Vec::new()).collect();
    let mut opening = JoinSet::new();
    for number in 0..STREAMS {
        let (session, origin) = (number % SESSIONS, replicas.url.clone());
        let (address, browser) = (replicas.get(session % REPLICAS).address(), browsers[session].clone());
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
    echo.until_open(STREAMS).await;
    let per_stream = (all(resident) - before) as f64 / STREAMS as f64;
    println!("{STREAMS} open streams of {SESSIONS} sessions: {per_stream:.1} KiB each");

    let since = (Instant::now(), all(used));
    sleep(Duration::from_secs(10)).await;
    let idle = (all(used) - since.1) as f64 / since.0.elapsed().as_secs_f64();
    println!("quiet: {idle:.1} % of one processor");

    let since = (Instant::now(), all(used));
    let out = browsers[0].fetch(http::Method::POST, &replicas.get(0).at("/bff/logout"));
    assert_eq!(out.header("origin", &replicas.url).await.status, 200);
    for mut socket in open.remove(0) {
        assert_eq!(socket.ended().await, Some(End::Closed(4401, "logout".to_owned())));
    }
    let (took, cost) = (since.0.elapsed(), all(used) - since.1);
    println!(
        "{EACH} of them ended: {} ms until the last was told, {} ms of processor time",
        took.as_millis(),
        cost * 10
    );
    assert!(took < PATIENCE);
    echo.until_open(STREAMS - EACH).await;
    for socket in open.iter_mut().flatten() {
        socket.echoes("still here").await;
    }
    println!("streams of the other sessions: all of them answer");
}
