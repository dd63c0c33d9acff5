//! The program itself as processes of their own: replicas behind one balancer, with one configuration and the same keys.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use tempfile::TempDir;
use tokio::process::Command;
use tokio::time::{Instant, sleep};
use vestibule::clock::{Clock, SystemClock};
use vestibule::session::keyring::KeyRing;

use super::process::Process;
use super::recorder::Recorder;
use super::redis::free_port;
use super::{PATIENCE, plain_client};

/// Some replicas, and what stands before them.
pub(crate) struct Replicas {
    /// The address that browsers use, without a slash at the end.
    pub(crate) url: String,
    /// The balancer: it gives each connection to the next replica.
    pub(crate) front: Recorder,
    each: Vec<Replica>,
    folder: TempDir,
}

/// One of them. Dropping it kills its process.
pub(crate) struct Replica {
    address: SocketAddr,
    admin: SocketAddr,
    configuration: PathBuf,
    process: Option<Process>,
}

/// What all of them are told.
pub(crate) struct Common<'a> {
    pub(crate) issuer: &'a str,
    pub(crate) client_id: &'a str,
    pub(crate) client_secret: &'a str,
    /// Where `/api/` leads.
    pub(crate) api: &'a str,
    /// The lines of `[ledger]`.
    pub(crate) ledger: &'a str,
    /// Lines of `[session]`.
    pub(crate) session: &'a str,
    /// Further tables.
    pub(crate) more: &'a str,
}

/// What a replica says about its readiness.
#[derive(Debug)]
pub(crate) struct Readiness {
    pub(crate) status: u16,
    pub(crate) ledger: String,
}

impl Replicas {
    /// Places for so many replicas. None runs, but the address that browsers use is known.
    pub(crate) async fn prepare(number: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let each: Vec<_> = (0..number).map(|index| Replica::prepare(folder.path(), index)).collect();
        let front = Recorder::start_before(each.iter().map(|replica| replica.address).collect()).await;
        let url = format!("http://localhost:{}", front.address().port());
        Self { url, front, each, folder }
    }

    /// Writes the configuration of all, with a new key.
    pub(crate) fn configure(&self, common: &Common<'_>) {
        let write = |name: &str, text: &str| std::fs::write(self.folder.path().join(name), text).unwrap();
        std::fs::create_dir_all(self.folder.path().join("dist")).unwrap();
        write("dist/index.html", "<!doctype html><title>App</title>");
        write("client_secret", common.client_secret);
        write("session.key", &new_key());
        for replica in &self.each {
            std::fs::write(&replica.configuration, replica.text(&self.url, common)).unwrap();
        }
    }

    /// Gives one of them another key than the others have.
    pub(crate) fn give_another_key(&self, index: usize) {
        std::fs::write(self.folder.path().join("other.key"), new_key()).unwrap();
        self.each[index].edit("\"session.key\"", "\"other.key\"");
    }

    /// Starts all, and waits until they are ready.
    pub(crate) async fn start(&mut self) {
        for replica in &mut self.each {
            replica.launch();
        }
        for replica in &mut self.each {
            replica.until_ready().await;
        }
    }

    /// One of them.
    pub(crate) fn get(&self, index: usize) -> &Replica {
        &self.each[index]
    }

    /// One of them, to be started or ended.
    pub(crate) fn get_mut(&mut self, index: usize) -> &mut Replica {
        &mut self.each[index]
    }

    pub(crate) fn at(&self, path: &str) -> String {
        format!("{}{path}", self.url)
    }

    /// Where their files lie.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }
}

impl Replica {
    fn prepare(folder: &Path, index: usize) -> Self {
        let [address, admin] = [(), ()].map(|()| SocketAddr::from(([127, 0, 0, 1], free_port())));
        Self { address, admin, configuration: folder.join(format!("replica-{index}.toml")), process: None }
    }

    fn text(&self, url: &str, common: &Common<'_>) -> String {
        let Self { address, admin, .. } = self;
        let Common { issuer, client_id, api, ledger, session, more, .. } = common;
        format!(
            r#"
            [server]
            listen = "{address}"
            public_url = "{url}"
            [issuer]
            url = "{issuer}"
            client_id = "{client_id}"
            client_secret = {{ file = "client_secret" }}
            [session]
            keys = [{{ file = "session.key" }}]
            {session}
            [ledger]
            {ledger}
            [admin]
            listen = "{admin}"
            sessions = true
            [[route]]
            path = "/api/"
            upstream = "{api}"
            auth = "api"
            [[route]]
            path = "/"
            files = "dist"
            auth = "none"
            {more}
            "#
        )
    }

    /// Replaces a part of its configuration, for its next start.
    pub(crate) fn edit(&self, from: &str, to: &str) {
        let text = std::fs::read_to_string(&self.configuration).unwrap();
        assert!(text.contains(from), "{text}");
        std::fs::write(&self.configuration, text.replace(from, to)).unwrap();
    }

    /// Starts its process and waits for nothing.
    pub(crate) fn launch(&mut self) {
        assert!(self.process.is_none(), "it runs");
        let mut command = Command::new(env!("CARGO_BIN_EXE_vestibule"));
        command.arg("serve").arg("--config").arg(&self.configuration);
        self.process = Some(Process::start(command));
    }

    /// Waits until it says that it is ready.
    pub(crate) async fn until_ready(&self) {
        self.until("ready", |readiness| readiness.status == 200).await;
    }

    /// Waits until it is as ready as `wanted`.
    pub(crate) async fn until(&self, what: &str, wanted: impl Fn(&Readiness) -> bool) -> Readiness {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let readiness = self.readiness().await;
            if let Some(readiness) = readiness.filter(&wanted) {
                return readiness;
            }
            assert!(Instant::now() < deadline, "{} is not {what}:\n{}", self.address, self.output());
            sleep(Duration::from_millis(10)).await;
        }
    }

    /// Waits until it has written what is `wanted`: a line may come later than the answer that it is about. Returns all of it.
    pub(crate) async fn until_said(&self, wanted: impl Fn(&str) -> bool) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let said = self.output();
            if wanted(&said) {
                return said;
            }
            assert!(Instant::now() < deadline, "{} does not say it:\n{said}", self.address);
            sleep(Duration::from_millis(10)).await;
        }
    }

    /// What its admin listener answers; none if there is no answer.
    pub(crate) async fn readiness(&self) -> Option<Readiness> {
        let (status, body) = self.health("ready").await?;
        Some(Readiness { status, ledger: body["ledger"].as_str()?.to_owned() })
    }

    /// Whether it says that it lives.
    pub(crate) async fn is_live(&self) -> bool {
        self.health("live").await.is_some_and(|(status, _)| status == 200)
    }

    async fn health(&self, what: &str) -> Option<(u16, serde_json::Value)> {
        let response = plain_client().get(format!("http://{}/health/{what}", self.admin)).send().await.ok()?;
        let (status, text) = (response.status().as_u16(), response.text().await.ok()?);
        Some((status, serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))))
    }

    /// An address of this replica alone, under the name of the site: browsers send it the site's cookies.
    pub(crate) fn at(&self, path: &str) -> String {
        format!("http://localhost:{}{path}", self.address.port())
    }

    /// Its listener for administrators.
    pub(crate) const fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// Ends it as a crash would.
    pub(crate) async fn kill(&mut self) {
        let mut process = self.process.take().expect("it runs");
        process.signal("KILL");
        assert_eq!(process.exit(PATIENCE).await.code(), None, "it was killed");
    }

    /// Where it listens itself.
    pub(crate) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.process.as_ref().expect("it runs").id()
    }

    /// Sends it a signal by name.
    pub(crate) fn signal(&self, name: &str) {
        self.process.as_ref().expect("it runs").signal(name);
    }

    /// Waits for its end, which it comes to by itself or was told to. Returns all that it has said.
    pub(crate) async fn exit(&mut self) -> (ExitStatus, String) {
        let mut process = self.process.take().expect("it runs");
        let status = process.exit(PATIENCE).await;
        // What it has said last may still be on its way through the pipe.
        let said = process.rest().await;
        (status, said)
    }

    /// Tells it to end, and waits until it has.
    pub(crate) async fn stop(&mut self) {
        self.signal("TERM");
        let (status, said) = self.exit().await;
        assert!(status.success(), "{status}: {said}");
    }

    /// All that the running process has said.
    pub(crate) fn output(&self) -> String {
        self.process.as_ref().map(Process::output).unwrap_or_default()
    }
}

fn new_key() -> String {
    KeyRing::generate_text(&*vestibule::server::random(), SystemClock::default().now())
}
