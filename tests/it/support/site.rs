//! A whole Vestibule in this process, between a browser and an issuer and an API that can be directed. Time is turned by
//! hand: the proxy and the issuer look at the same clock.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use http::Method;
use tempfile::TempDir;
use vestibule::clock::{Clock, ManualClock, SystemClock};
use vestibule::config::Config;
use vestibule::server::{Running, Server};
use vestibule::session::keyring::KeyRing;

use super::browser::{Browser, Page};
use crate::api::{Api, Bound, Guard};
use crate::issuer::possession::{Judge, Nonces};
use crate::issuer::{Issuer, Options};

/// The running parts.
pub(crate) struct Site {
    /// The address that browsers use, without a slash at the end.
    pub(crate) url: String,
    /// Where it really listens.
    pub(crate) address: SocketAddr,
    pub(crate) issuer: Issuer,
    pub(crate) api: Api,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) vestibule: Vestibule,
}

/// A Vestibule that runs in this process, with its secrets in a folder of its own.
pub(crate) struct Vestibule {
    running: Running,
    folder: TempDir,
    text: String,
    clock: Arc<dyn Clock>,
}

/// What a Vestibule stands on.
pub(crate) struct Ground<'a> {
    /// Where it will listen.
    pub(crate) listener: TcpListener,
    /// The address that browsers use, without a slash at the end.
    pub(crate) url: &'a str,
    pub(crate) issuer: &'a str,
    pub(crate) client_id: &'a str,
    pub(crate) client_secret: &'a str,
    /// Where `/api/` leads.
    pub(crate) api: &'a str,
    /// The folder behind `/`; `dist` holds a page that does nothing.
    pub(crate) files: &'a str,
    pub(crate) clock: Arc<dyn Clock>,
}

/// Lines that are put into the usual configuration.
#[derive(Clone, Copy, Default)]
pub(crate) struct Texts<'a> {
    /// Keys before any table.
    pub(crate) top: &'a str,
    /// Further routes and tables, at the end; `{api}` stands for the API's address.
    pub(crate) more: &'a str,
    /// Lines of tables that are there already.
    pub(crate) server: &'a str,
    pub(crate) session: &'a str,
    pub(crate) refresh: &'a str,
    pub(crate) client: &'a str,
    /// The lines of `[ledger]`; none for one in memory.
    pub(crate) ledger: &'a str,
    /// How the client shows who it is; empty for its secret.
    pub(crate) credentials: &'a str,
    /// Files beside the configuration, by their names.
    pub(crate) beside: &'a [(String, String)],
}

/// What is done with an issuer.
pub(crate) type Preparation = Box<dyn FnOnce(&Issuer) + Send>;

/// What is different from the usual site.
#[derive(Default)]
pub(crate) struct Plan {
    /// The issuer's options, but for the addresses and the clock.
    pub(crate) issuer: Options,
    /// Keys before any table.
    pub(crate) top: String,
    /// TOML that is put at the end: further routes and tables.
    pub(crate) more: String,
    /// Lines of tables that are there already.
    pub(crate) server: String,
    pub(crate) session: String,
    pub(crate) refresh: String,
    /// `{issuer}` stands for the issuer's address.
    pub(crate) client: String,
    /// What comes behind the issuer's address in its identifier: `/common/v2.0`. Its own documents know nothing of it.
    pub(crate) issuer_path: &'static str,
    /// How the API deals in nonces if it wants proofs of possession, and the address that it goes by.
    pub(crate) proofs: Option<(Nonces, Option<&'static str>)>,
    /// What is done with the issuer before anybody asks it.
    pub(crate) before: Option<Preparation>,
    /// The lines of `[ledger]`; none for one in memory.
    pub(crate) ledger: String,
    /// How the client shows who it is; empty for its secret.
    pub(crate) credentials: String,
    /// Whether the site says that people reach it by https. What stands before it and ends TLS is then for the test to be.
    pub(crate) behind_tls: bool,
    /// Files beside the configuration, by their names.
    pub(crate) beside: Vec<(String, String)>,
}

impl Plan {
    fn texts(&self) -> Texts<'_> {
        let Self { top, more, server, session, refresh, client, ledger, credentials, beside, .. } = self;
        Texts { top, more, server, session, refresh, client, ledger, credentials, beside }
    }
}

/// The usual life of an access token here, in seconds.
pub(crate) const TOKEN_SECONDS: u64 = 300;

impl Site {
    /// The usual site: `/api/` needs a session and is the directed API, `/` is public.
    pub(crate) async fn start() -> Self {
        Self::planned(Plan::default()).await
    }

    pub(crate) async fn planned(plan: Plan) -> Self {
        Self::prepared(plan, async |_| {}).await
    }

    /// The same, once `prepare` has done something to the issuer that Vestibule has not heard of yet.
    pub(crate) async fn prepared(mut plan: Plan, prepare: impl AsyncFnOnce(&Issuer)) -> Self {
        if rustls::crypto::CryptoProvider::get_default().is_none() {
            rustls::crypto::ring::default_provider().install_default().ok();
        }
        let clock = Arc::new(ManualClock::new(SystemClock::default().now()));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let url = format!("http://localhost:{}", address.port());
        let public = if plan.behind_tls { url.replace("http://", "https://") } else { url.clone() };
        let options = Options {
            redirect_uris: vec![format!("{public}/bff/callback")],
            post_logout_redirect_uris: vec![format!("{public}/bff/logout/return")],
            clock: Arc::clone(&clock) as Arc<_>,
            ..std::mem::take(&mut plan.issuer)
        };
        let client_secret = options.client_secret.expose().clone();
        let issuer = Issuer::start(options).await.unwrap();
        if let Some(before) = plan.before.take() {
            before(&issuer);
        }
        prepare(&issuer).await;
        let introspection = issuer.introspection();
        let guard = match plan.proofs {
            Some((nonces, url)) => Guard::Bound(Box::new(Bound {
                introspection,
                judge: Judge::new("api", nonces, Arc::clone(&clock) as Arc<_>),
                url: url.map(str::to_owned),
            })),
            None => Guard::Bearer(introspection),
        };
        let api = Api::start(0, guard).await.unwrap();

        let identifier = format!("{}{}", issuer.url(), plan.issuer_path);
        plan.client = plan.client.replace("{issuer}", issuer.url());
        let ground = Ground {
            listener,
            url: &public,
            issuer: &identifier,
            client_id: "spa-bff",
            client_secret: &client_secret,
            api: &api.url(),
            files: "dist",
            clock: Arc::clone(&clock) as Arc<_>,
        };
        let vestibule = ground.build(&plan.texts()).await;
        Self { url, address, issuer, api, clock, vestibule }
    }

    /// A browser that has signed in.
    pub(crate) async fn signed_in(&self) -> Browser {
        let browser = Browser::new();
        let page = browser.follow(&self.at("/bff/login")).await;
        assert_eq!((page.status, page.url.as_str()), (200, self.at("/").as_str()), "{}", page.text());
        browser
    }

    /// One call of the API.
    pub(crate) async fn call(&self, browser: &Browser) -> Page {
        browser.fetch(Method::GET, &self.at("/api/orders")).await
    }

    /// Lets time pass, for the proxy and the issuer.
    pub(crate) fn pass(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
    }

    pub(crate) fn at(&self, path: &str) -> String {
        format!("{}{path}", self.url)
    }

    /// The address for administrators, if one is configured.
    pub(crate) fn admin(&self) -> Option<SocketAddr> {
        self.vestibule.running.admin_addr()
    }

    pub(crate) async fn stop(self) {
        self.vestibule.stop().await;
    }

    /// The same once Vestibule has been stopped and started again.
    pub(crate) async fn restarted(self) -> Self {
        Self { vestibule: self.vestibule.again().await, ..self }
    }
}

impl Ground<'_> {
    /// Starts it, with a key of its own.
    pub(crate) async fn build(self, texts: &Texts<'_>) -> Vestibule {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("dist")).unwrap();
        std::fs::write(folder.path().join("dist/index.html"), "<!doctype html><title>App</title>").unwrap();
        std::fs::write(folder.path().join("client_secret"), self.client_secret).unwrap();
        for (name, text) in texts.beside {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        let key = KeyRing::generate_text(&*vestibule::server::random(), self.clock.now());
        std::fs::write(folder.path().join("session.key"), key).unwrap();
        let text = self.configuration(texts);
        Vestibule::start(folder, text, self.listener, self.clock).await
    }

    fn configuration(&self, texts: &Texts<'_>) -> String {
        let Self { url, issuer, client_id, api, files, .. } = self;
        let Texts { top, server, session, refresh, client, .. } = texts;
        let ledger = if texts.ledger.is_empty() { "backend = \"memory\"" } else { texts.ledger };
        let more = texts.more.replace("{api}", api);
        let credentials = match texts.credentials {
            "" => "client_secret = { file = \"client_secret\" }",
            other => other,
        };
        format!(
            r#"
            {top}
            [server]
            public_url = "{url}"
            {server}
            [issuer]
            url = "{issuer}"
            client_id = "{client_id}"
            {credentials}
            {client}
            [session]
            keys = [{{ file = "session.key" }}]
            {session}
            [refresh]
            {refresh}
            [ledger]
            {ledger}
            [[route]]
            path = "/api/"
            upstream = "{api}"
            auth = "api"
            [[route]]
            path = "/"
            files = "{files}"
            auth = "none"
            {more}
            "#
        )
    }
}

impl Vestibule {
    async fn start(folder: TempDir, text: String, listener: TcpListener, clock: Arc<dyn Clock>) -> Self {
        let config = Config::from_toml(&text, folder.path(), |_| None).unwrap_or_else(|error| panic!("{error}"));
        let running = Server::build(config).with_clock(Arc::clone(&clock)).start_on(listener).await.unwrap();
        Self { running, folder, text, clock }
    }

    /// Stops it and starts it again at the same address. What it has in memory is gone.
    async fn again(self) -> Self {
        let Self { running, folder, text, clock } = self;
        let address = running.local_addr();
        running.stop().await;
        Self::start(folder, text, TcpListener::bind(address).unwrap(), clock).await
    }

    pub(crate) async fn stop(self) {
        self.running.stop().await;
    }

    /// Where its configuration, its secrets and what lies beside them are.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }
}
