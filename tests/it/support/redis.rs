//! Redis servers that run for one test: on a free port of the loopback, in a folder of their own.
//!
//! It stands on nothing else of the tests: the ledger's unit tests include it too, which know the contract of a store.

use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;
use tokio::time::Instant;

/// A server. Dropping it kills it and deletes its folder.
pub(crate) struct RedisServer {
    port: u16,
    sentinel: bool,
    folder: TempDir,
    child: Option<Child>,
}

const PATIENCE: Duration = Duration::from_secs(30);
/// Another program may take a port between the moment it was found free and the server's start.
const ATTEMPTS: usize = 5;

impl RedisServer {
    /// Starts a server that keeps nothing on disk, with further lines of configuration.
    pub(crate) fn start(lines: &[&str]) -> Self {
        Self::start_with(false, |_| lines.join("\n"))
    }

    /// Starts a server whose configuration needs the folder that it will run in.
    pub(crate) fn start_in_folder(lines: impl Fn(&Path) -> String) -> Self {
        Self::start_with(false, lines)
    }

    /// Starts a sentinel.
    pub(crate) fn start_sentinel(lines: &[&str]) -> Self {
        Self::start_with(true, |_| lines.join("\n"))
    }

    /// Starts a cluster of two nodes, the first with the lower half of the slots.
    pub(crate) fn start_cluster() -> [Self; 2] {
        let mut bus = 0;
        let nodes = [(), ()].map(|()| {
            // The last one tried is the one in use.
            bus = free_port();
            let node = Self::start_with(false, |_| format!("cluster-enabled yes\ncluster-port {bus}"));
            (node, bus)
        });
        let [(first, _), (second, bus)] = &nodes;
        let _: String = first.ask(&["CLUSTER", "ADDSLOTSRANGE", "0", "8191"]);
        let _: String = second.ask(&["CLUSTER", "ADDSLOTSRANGE", "8192", "16383"]);
        let (port, bus) = (second.port.to_string(), bus.to_string());
        let _: String = first.ask(&["CLUSTER", "MEET", "127.0.0.1", &port, &bus]);
        let knows_all = |node: &Self| {
            let ranges: Vec<redis::Value> = node.ask(&["CLUSTER", "SLOTS"]);
            ranges.len() == 2 && node.ask::<String>(&["CLUSTER", "INFO"]).contains("cluster_state:ok")
        };
        until("the nodes know each other", || knows_all(first) && knows_all(second));
        nodes.map(|(node, _)| node)
    }

    fn start_with(sentinel: bool, lines: impl Fn(&Path) -> String) -> Self {
        for _ in 0..ATTEMPTS {
            let folder = tempfile::tempdir().unwrap();
            let port = free_port();
            let own = if sentinel { "" } else { "save \"\"\nappendonly no\n" };
            let text = format!("port {port}\nbind 127.0.0.1\nlogfile redis.log\n{own}{}\n", lines(folder.path()));
            fs::write(folder.path().join("redis.conf"), text).unwrap();
            let mut server = Self { port, sentinel, folder, child: None };
            if server.try_start() {
                return server;
            }
            eprintln!("port {port}: {}", server.log());
        }
        panic!("redis-server does not start");
    }

    /// Starts it again, on the same port and in the same folder.
    pub(crate) fn start_again(&mut self) {
        assert!(self.child.is_none(), "it still runs");
        assert!(self.try_start(), "redis-server does not start again: {}", self.log());
    }

    fn try_start(&mut self) -> bool {
        let mut command = Command::new("redis-server");
        command.arg("redis.conf").current_dir(self.folder.path());
        if self.sentinel {
            command.arg("--sentinel");
        }
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        self.child = Some(child.unwrap_or_else(|error| panic!("cannot start redis-server: {error}")));
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            // Any answer but that it is loading will do: it may ask for a password.
            if self.inline("PING").is_ok_and(|answer| !answer.is_empty() && !answer.starts_with("-LOADING")) {
                return true;
            }
            if self.child.as_mut().unwrap().try_wait().unwrap().is_some() {
                self.child = None;
                return false;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("redis-server was not ready in time: {}", self.log());
    }

    /// The port it listens on.
    pub(crate) const fn port(&self) -> u16 {
        self.port
    }

    /// Ends it as a crash would.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Sends a signal by name: `STOP` makes it hang, `CONT` go on.
    pub(crate) fn signal(&self, name: &str) {
        let id = self.child.as_ref().expect("runs").id().to_string();
        let status = Command::new("sh").args(["-c", r#"kill -s "$1" "$2""#, "kill", name, &id]).status().unwrap();
        assert!(status.success(), "could not send SIG{name}");
    }

    /// Asks it something, as the default user without a password.
    pub(crate) fn ask<T: redis::FromRedisValue>(&self, words: &[&str]) -> T {
        self.try_ask(words).unwrap()
    }

    /// Asks it something that it may refuse.
    pub(crate) fn try_ask<T: redis::FromRedisValue>(&self, words: &[&str]) -> redis::RedisResult<T> {
        let client = redis::Client::open(("127.0.0.1", self.port))?;
        redis::cmd(words[0]).arg(&words[1..]).query(&mut client.get_connection()?)
    }

    /// Whether a replica has got what is written now.
    pub(crate) fn is_replicated(&self) -> bool {
        let client = redis::Client::open(("127.0.0.1", self.port)).unwrap();
        let mut connection = client.get_connection().unwrap();
        let mut both = redis::pipe();
        both.cmd("SET").arg("replicated").arg("yes").ignore().cmd("WAIT").arg(1).arg(100);
        let (replicas,): (u64,) = both.query(&mut connection).unwrap();
        replicas > 0
    }

    /// From now on notes the name of each command that somebody sends, in scripts too.
    pub(crate) fn monitor(&self) -> Monitor {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(b"MONITOR\r\n").unwrap();
        let mut lines = BufReader::new(stream);
        let mut line = String::new();
        lines.read_line(&mut line).unwrap();
        assert_eq!(line, "+OK\r\n");
        Monitor { lines, port: self.port }
    }

    /// The first line of its answer to a command without arguments.
    fn inline(&self, command: &str) -> std::io::Result<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
        stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        stream.write_all(format!("{command}\r\n").as_bytes())?;
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line)?;
        Ok(line)
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("redis.log")).unwrap_or_default()
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("redis-server on port {}:\n{}", self.port, self.log());
        }
        self.kill();
    }
}

/// What a server is asked.
pub(crate) struct Monitor {
    lines: BufReader<TcpStream>,
    port: u16,
}

impl Monitor {
    /// The names of all commands until now, sorted, each once.
    pub(crate) fn commands(mut self) -> Vec<String> {
        let mut own = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        own.write_all(b"ECHO the-end\r\n").unwrap();
        let mut names = std::collections::BTreeSet::new();
        loop {
            let mut line = Vec::new();
            self.lines.read_until(b'\n', &mut line).unwrap();
            let line = String::from_utf8_lossy(&line);
            if line.contains("\"the-end\"") {
                return names.into_iter().collect();
            }
            // +1700000000.123456 [0 127.0.0.1:5000] "GET" "key"
            let mut words = line.split("] ").nth(1).unwrap_or_default().split(' ');
            let name = words.next().unwrap_or_default().trim().trim_matches('"').to_ascii_uppercase();
            names.insert(name);
        }
    }
}

/// Waits until something is so.
pub(crate) fn until(what: &str, so: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !so() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A port that nobody listens on, for now. The system never gives it away by itself, so that nobody is given it while
/// its server is down for a moment.
pub(crate) fn free_port() -> u16 {
    loop {
        // Every new state is seeded at random.
        let random = RandomState::new().hash_one(0);
        let port = 20_000 + u16::try_from(random % 12_000).unwrap();
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}
