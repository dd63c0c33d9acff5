//! Replicas between a browser and an issuer and an API that can be directed; the replicas are processes, the rest is here.

use std::time::Duration;

use http::Method;
use tokio::time::{Instant, sleep, timeout};

use super::PATIENCE;
use super::browser::{Browser, Page};
use super::redis::RedisServer;
use super::replica::{Common, Replicas};
use crate::api::{Api, Guard};
use crate::issuer::{Issuer, Options};

/// The running parts.
pub(crate) struct Fleet {
    pub(crate) issuer: Issuer,
    pub(crate) api: Api,
    pub(crate) replicas: Replicas,
}

/// What is different from the usual fleet of two.
pub(crate) struct Plan<'a> {
    pub(crate) number: usize,
    /// The lines of `[ledger]`.
    pub(crate) ledger: &'a str,
    /// Lines of `[session]`.
    pub(crate) session: &'a str,
    /// Further tables.
    pub(crate) more: &'a str,
}

impl Default for Plan<'_> {
    fn default() -> Self {
        Self { number: 2, ledger: "", session: "", more: "" }
    }
}

/// Where the tokens may lie.
pub(crate) const PLACES: [&str; 2] = ["tokens = \"cookie\"", "tokens = \"ledger\""];

/// The lines of `[ledger]` for this server.
pub(crate) fn at(redis: &RedisServer) -> String {
    format!("backend = \"redis\"\nurl = \"redis://127.0.0.1:{}\"", redis.port())
}

/// A server that keeps what it has acknowledged.
pub(crate) fn lasting_redis() -> RedisServer {
    RedisServer::start(&["appendonly yes", "appendfsync always"])
}

/// How long access tokens live, and how long those do that are to be over soon.
const LONG: Duration = Duration::from_secs(300);
pub(crate) const BRIEFLY: Duration = Duration::from_secs(5);

impl Fleet {
    /// Starts it, and waits until all are ready.
    pub(crate) async fn start(plan: Plan<'_>) -> Self {
        let mut fleet = Self::prepare(plan).await;
        fleet.replicas.start().await;
        fleet
    }

    /// Everything but the replicas runs.
    pub(crate) async fn prepare(plan: Plan<'_>) -> Self {
        let replicas = Replicas::prepare(plan.number).await;
        let options = Options {
            redirect_uris: vec![replicas.at("/bff/callback")],
            post_logout_redirect_uris: vec![replicas.at("/bff/logout/return")],
            access_token_ttl: LONG,
            ..Options::default()
        };
        let client_secret = options.client_secret.expose().clone();
        let issuer = Issuer::start(options).await.unwrap();
        let api = Api::start(0, Guard::Bearer(issuer.introspection())).await.unwrap();
        replicas.configure(&Common {
            issuer: issuer.url(),
            client_id: "spa-bff",
            client_secret: &client_secret,
            api: &api.url(),
            ledger: plan.ledger,
            session: plan.session,
            more: plan.more,
        });
        Self { issuer, api, replicas }
    }

    /// A browser that has signed in.
    pub(crate) async fn signed_in(&self) -> Browser {
        signed_in(&self.replicas).await
    }

    /// A browser that has signed in, whose access token is soon over. The tokens that follow live for long: however slow
    /// the machine is, that one is all that a test has to refresh.
    pub(crate) async fn briefly_signed_in(&self) -> Browser {
        self.issuer.set_access_token_ttl(BRIEFLY);
        let browser = self.signed_in().await;
        self.issuer.set_access_token_ttl(LONG);
        browser
    }

    /// One call of the API, by way of replica `index`.
    pub(crate) async fn call(&self, index: usize, browser: &Browser) -> Page {
        browser.fetch(Method::GET, &self.replicas.get(index).at("/api/orders")).await
    }

    /// A logout, by way of replica `index`.
    pub(crate) async fn log_out(&self, index: usize, browser: &Browser) -> Page {
        let request = browser.fetch(Method::POST, &self.replicas.get(index).at("/bff/logout"));
        // The browser knows one address, that of the site.
        request.header("origin", &self.replicas.url).await
    }

    /// One call of the API by way of whoever is next, repeated as [`persistent`] does.
    pub(crate) async fn persist(&self, browser: &Browser) -> Persisted {
        persistent(browser.clone(), self.replicas.at("/api/orders"), PATIENCE).await
    }

    /// Waits until the access token of the session is about to expire, or has.
    pub(crate) async fn until_spent(&self, browser: &Browser) {
        let deadline = Instant::now() + PATIENCE;
        while times(&self.replicas, browser).await["token_expires_in"] != 0 {
            assert!(Instant::now() < deadline, "the token does not expire");
            sleep(Duration::from_millis(25)).await;
        }
        // Whole seconds are told; what is told as none may still be nearly one.
        sleep(Duration::from_secs(1)).await;
    }

    /// No refresh token was spent twice, and nobody was signed out.
    pub(crate) async fn assert_unharmed(&self, browser: &Browser, refreshes: usize) {
        let user = browser.fetch(Method::GET, &self.replicas.at("/bff/user")).await;
        assert_eq!(user.status, 200, "{}", user.text());
        assert_eq!((self.issuer.refreshes(), self.issuer.reuses()), (refreshes, 0));
        // Codes are the one secret that passes through a browser.
        for canary in self.issuer.canaries().iter().filter(|canary| !canary.starts_with("code-")) {
            assert_eq!(browser.received_contains(canary), None);
        }
    }
}

/// A browser that has signed in, every request of it by way of the replica that is next.
pub(crate) async fn signed_in(replicas: &Replicas) -> Browser {
    let browser = Browser::new();
    let page = browser.navigate(&replicas.at("/bff/login")).header("connection", "close").follow().await;
    assert_eq!((page.status, page.url.as_str()), (200, replicas.at("/").as_str()), "{}", page.text());
    browser
}

/// What is told about the session.
pub(crate) async fn times(replicas: &Replicas, browser: &Browser) -> serde_json::Value {
    let page = timeout(PATIENCE, browser.fetch(Method::GET, &replicas.at("/bff/session")).into_future()).await;
    let page = page.expect("there is an answer");
    assert_eq!(page.status, 200, "{}", page.text());
    page.json()
}

/// How a call got its 200.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Persisted {
    /// Connections that broke before the answer was there.
    pub(crate) broken: u32,
    /// Answers that said to come back later.
    pub(crate) later: u32,
}

/// One call, each attempt on a connection of its own and so by way of the next replica. It is repeated when the connection
/// breaks, or after as long as a 503 says. Every other answer but 200 is a failure.
pub(crate) async fn persistent(browser: Browser, url: String, patience: Duration) -> Persisted {
    let deadline = Instant::now() + patience;
    let mut persisted = Persisted::default();
    loop {
        let page = attempt(&browser, &url).await;
        match page {
            None => {
                persisted.broken += 1;
                sleep(Duration::from_millis(20)).await;
            }
            Some(page) if page.status == 200 => return persisted,
            Some(page) => {
                sleep(Duration::from_secs(retry_after(&page))).await;
                persisted.later += 1;
            }
        }
        assert!(Instant::now() < deadline, "after {patience:?}: {persisted:?}");
    }
}

/// One call on a connection of its own; none if that breaks.
pub(crate) async fn attempt(browser: &Browser, url: &str) -> Option<Page> {
    browser.fetch(Method::GET, url).header("connection", "close").open().await.ok()?.page().await.ok()
}

/// The wait that a 503 asks for. No other answer is one.
pub(crate) fn retry_after(page: &Page) -> u64 {
    assert_eq!((page.status, page.set_cookies().len()), (503, 0), "{:?} {}", page.headers, page.text());
    let wait = page.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=60).contains(&wait), "{wait}");
    wait
}
