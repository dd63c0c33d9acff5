//! One life of one browser: it signs in, uses the app from two tabs for some virtual minutes, and everything that can
//! go wrong on the way does. The invariants of the ledger and the broker are held against every answer.

use std::cell::{Cell, RefCell};
use std::net::{IpAddr, Ipv4Addr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::header::{AUTHORIZATION, LOCATION, SET_COOKIE};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use tokio::task::LocalSet;
use tokio::time::{Instant, sleep};
use url::Url;
use vestibule::clock::{Clock, Timestamp};
use vestibule::gateway::broker::RefreshPolicy;
use vestibule::gateway::cross_origin::CrossOrigin;
use vestibule::gateway::route::{Access, Route, RouteTable, Target, Upstream};
use vestibule::gateway::{Decision, Forwarding, Gateway, NoBody, Peer, Seams, Settings, Verdict};
use vestibule::ledger::Ledger;
use vestibule::oauth::{Client, ClientAuthentication, ClientId, ClientSecret, Protocol};
use vestibule::secret::Secret;
use vestibule::session::cookies::{CookieNames, SameSite};
use vestibule::session::keyring::{KeyRing, Sealer};
use vestibule::session::vault::Vault;
use vestibule::session::{Placement, SessionPolicy};
use vestibule::tasks::Tasks;

use super::browser::Browser;
use super::chance::{Dice, SeededRandom};
use super::issuer::{ModelIssuer, Mood};
use super::store::FaultyStore;

/// What may go wrong.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Faults {
    /// Requests are aborted, answers delayed, reordered and lost.
    pub(crate) browser: bool,
    /// Token requests are slow or refused.
    pub(crate) issuer: bool,
    /// The ledger's store fails.
    pub(crate) store: bool,
    /// The person signs out in the middle of it.
    pub(crate) logout: bool,
}

/// What a life came to, for comparing two of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Story {
    answers: Vec<(u64, u16)>,
    refreshes: u64,
}

/// Wall-clock time that goes with tokio's.
struct VirtualClock(Instant);

impl Clock for VirtualClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_secs(1_800_000_000) + self.0.elapsed()
    }

    fn uptime(&self) -> Duration {
        self.0.elapsed()
    }
}

pub(crate) struct World {
    seed: u64,
    faults: Faults,
    dice: Dice,
    clock: Arc<VirtualClock>,
    issuer: Arc<ModelIssuer>,
    store: Arc<FaultyStore>,
    /// The replicas: they share the store and the keys, and nothing else.
    gateways: Vec<Arc<Gateway>>,
    browser: Browser,
    /// The longest that an answer of the issuer travels, in milliseconds.
    travels: u64,
    signed_out: Cell<Option<Instant>>,
    answers: RefCell<Vec<(u64, u16)>>,
}

impl World {
    /// Lives through the schedule of `seed`, and panics with it if an invariant breaks.
    pub(crate) fn live(seed: u64, faults: Faults) -> Story {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        LocalSet::new().block_on(&runtime, async {
            let world = Rc::new(Self::new(seed, faults));
            world.sign_in().await;
            world.use_the_app().await;
            world.settle_down().await;
            Story { answers: world.answers.take(), refreshes: world.issuer.refreshes() }
        })
    }

    fn new(seed: u64, faults: Faults) -> Self {
        let dice = Dice::new(seed);
        let clock = Arc::new(VirtualClock(Instant::now()));
        // Lifetimes from much shorter to much longer than everything else.
        let lifetime = Duration::from_secs([5, 20, 60, 120][usize::try_from(dice.below(4)).unwrap()]);
        let issuer = ModelIssuer::new(Arc::clone(&clock) as Arc<_>, lifetime);
        let store = Arc::new(FaultyStore::new(Arc::clone(&clock) as Arc<_>, seed));
        let replica = |number: u64| {
            let tasks = Arc::new(Tasks::default());
            let ledger = Arc::new(Ledger::new(Arc::clone(&store) as Arc<_>, Arc::clone(&clock) as Arc<_>));
            let follower = Arc::clone(&ledger);
            tasks.spawn(async move { follower.follow().await });
            let seams = Seams {
                clock: Arc::clone(&clock) as Arc<_>,
                random: Arc::new(SeededRandom::new(seed ^ (number << 32))),
                tasks,
                ledger,
                server: Arc::clone(&issuer) as Arc<_>,
            };
            Gateway::new(seams, settings(), vault(&*clock))
        };
        let gateways = (0..2).map(replica).collect();
        Self {
            seed,
            faults,
            dice,
            clock,
            issuer,
            store,
            gateways,
            browser: Browser::default(),
            travels: u64::try_from(lifetime.as_millis() / 2).unwrap().min(9_000),
            signed_out: Cell::new(None),
            answers: RefCell::default(),
        }
    }

    async fn sign_in(&self) {
        let away = self.answered(self.browser.navigate("/bff/login")).await;
        self.browser.obey(&away);
        let url: Url = away[LOCATION].to_str().unwrap().parse().unwrap();
        let parameter = |name: &str| url.query_pairs().find(|(it, _)| it == name).unwrap().1.into_owned();
        let code = self.issuer.authorize(&parameter("nonce"));
        let back = format!("/bff/callback?code={code}&state={}", parameter("state"));
        let home = self.answered(self.browser.navigate(&back)).await;
        assert_eq!(home[LOCATION], "/");
        self.browser.obey(&home);
    }

    /// Bursts of calls from two tabs, with pauses in between.
    async fn use_the_app(self: &Rc<Self>) {
        if self.faults.store {
            self.store.fail(5);
        }
        let mut calls = Vec::new();
        let signs_out_at = self.faults.logout.then(|| 10 + self.dice.below(10));
        for round in 0..24 {
            if self.faults.issuer && self.dice.happens(40) {
                self.trouble_the_issuer();
            }
            for _ in 0..=self.dice.below(6) {
                let world = Rc::clone(self);
                calls.push(tokio::task::spawn_local(async move { world.call().await }));
            }
            if signs_out_at == Some(round) {
                let world = Rc::clone(self);
                calls.push(tokio::task::spawn_local(async move { world.sign_out().await }));
            }
            sleep(self.dice.millis(0..20_000)).await;
        }
        for call in calls {
            call.await.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
        }
    }

    fn trouble_the_issuer(&self) {
        self.issuer.will(match self.dice.below(4) {
            0 => Mood::Refuse,
            1 => Mood::Busy,
            // A token that is dead on arrival is no use to anybody, so answers travel for less than it lives.
            _ => Mood::Answer(self.dice.millis(0..9_000), self.dice.millis(0..self.travels)),
        });
    }

    /// One call of a script, from its cookies to the arrival of its answer, if it arrives.
    async fn call(&self) {
        let request = self.browser.fetch("GET", "/api/orders");
        let patience = if self.faults.browser && self.dice.happens(15) {
            self.dice.millis(0..3_000)
        } else {
            Duration::from_secs(3600)
        };
        let (travel, upstream) = (self.dice.millis(0..2_500), self.dice.millis(0..4_000));
        let network = self.dice.millis(0..2_500);
        let lost = self.faults.browser && self.dice.happens(10);
        // The cookies are those of the departure, and much may happen until they arrive.
        let journey = async {
            sleep(travel).await;
            self.serve(request, upstream).await
        };
        // A browser that gives up drops the request wherever it is.
        let Ok((status, headers)) = tokio::time::timeout(patience, journey).await else { return };
        self.judge(status);
        sleep(network).await;
        if !lost {
            self.browser.obey(&headers);
        }
    }

    /// The shell's part: decide, attempt, answer, depart.
    async fn serve(&self, request: Parts, upstream: Duration) -> (StatusCode, HeaderMap) {
        match self.gateway().decide(&request, peer(), &mut NoBody).await {
            Decision::Respond(answer) => {
                tracing::debug!(status = answer.status().as_u16(), body = ?answer.body(), "answered here");
                (answer.status(), answer.headers().clone())
            }
            Decision::Forward(mut forwarding) => loop {
                let taken = self.upstream_takes(&mut forwarding);
                sleep(upstream).await;
                let status = if taken { StatusCode::OK } else { StatusCode::UNAUTHORIZED };
                match forwarding.answered(status).await {
                    Verdict::Repeat => {}
                    Verdict::Pass => {
                        let edits = forwarding.depart(&request, &HeaderMap::new());
                        return (status, edits.append.into_iter().filter(|(name, _)| *name == SET_COOKIE).collect());
                    }
                }
            },
        }
    }

    fn upstream_takes(&self, forwarding: &mut Forwarding) -> bool {
        let edits = forwarding.attempt();
        let bearer = edits.set.iter().find(|(name, _)| *name == AUTHORIZATION).map(|(_, value)| value);
        let token = bearer.and_then(|value: &HeaderValue| value.to_str().ok()?.strip_prefix("Bearer "));
        let taken = token.is_some_and(|token| self.issuer.takes(token));
        if let Some(at) = self.signed_out.get() {
            assert!(
                at.elapsed() < Duration::from_secs(20),
                "seed {}: a token was used long after the logout",
                self.seed
            );
        }
        tracing::debug!(?taken, "attempted");
        taken
    }

    /// What the browser may be told: yes, or not now. Never that it is signed out, unless it has signed out.
    fn judge(&self, status: StatusCode) {
        let millis = u64::try_from(self.clock.0.elapsed().as_millis()).unwrap();
        self.answers.borrow_mut().push((millis, status.as_u16()));
        let expected = match status {
            StatusCode::OK => true,
            StatusCode::SERVICE_UNAVAILABLE => self.faults.issuer || self.faults.store,
            StatusCode::UNAUTHORIZED => self.signed_out.get().is_some(),
            _ => false,
        };
        assert!(expected, "seed {}: {status} after {millis} ms", self.seed);
        // Nothing in these schedules loses an answer between the server and us, so no token is ever sent twice.
        assert_eq!(self.issuer.reuses(), 0, "seed {}: a spent refresh token was presented", self.seed);
    }

    async fn sign_out(&self) {
        let request = self.browser.fetch("POST", "/bff/logout");
        self.signed_out.set(Some(Instant::now()));
        let answer = self.answered(request).await;
        self.browser.obey(&answer);
    }

    /// When the trouble is over, all is as it should be.
    async fn settle_down(&self) {
        self.store.fail(0);
        sleep(Duration::from_secs(90)).await;
        if self.signed_out.get().is_some() {
            let (status, _) = self.serve(self.browser.fetch("GET", "/api/orders"), Duration::ZERO).await;
            assert_eq!(status, StatusCode::UNAUTHORIZED, "seed {}: signed in after the logout", self.seed);
            assert_eq!(self.issuer.families(), 0, "seed {}: tokens outlive the logout", self.seed);
            return;
        }
        for _ in 0..3 {
            let (status, headers) = self.serve(self.browser.fetch("GET", "/api/orders"), Duration::ZERO).await;
            if status == StatusCode::SERVICE_UNAVAILABLE {
                sleep(Duration::from_secs(60)).await;
                continue;
            }
            assert_eq!(status, StatusCode::OK, "seed {}: the session was lost", self.seed);
            self.browser.obey(&headers);
        }
        assert_eq!(self.answers.borrow().last().map(|_| ()), Some(()), "seed {}: nothing was ever answered", self.seed);
        assert_eq!(self.issuer.families(), 1, "seed {}: the family of tokens is dead", self.seed);
    }

    /// Any of the replicas, as a balancer would choose.
    fn gateway(&self) -> &Arc<Gateway> {
        &self.gateways[usize::try_from(self.dice.below(self.gateways.len() as u64)).unwrap()]
    }

    async fn answered(&self, request: Parts) -> HeaderMap {
        match self.gateway().decide(&request, peer(), &mut NoBody).await {
            Decision::Respond(answer) => answer.headers().clone(),
            Decision::Forward(_) => panic!("seed {}: {} was forwarded", self.seed, request.uri),
        }
    }
}

fn settings() -> Settings {
    let upstream = Upstream {
        url: "http://127.0.0.1:9".parse().unwrap(),
        connect_timeout: Duration::from_secs(5),
        read_timeout: Duration::from_secs(60),
    };
    Settings {
        public_url: "https://app.test".parse().unwrap(),
        prefix: "/bff".to_owned(),
        client: Arc::new(Client {
            id: ClientId::new("client".to_owned()),
            authentication: ClientAuthentication::Basic(ClientSecret::new("secret".to_owned())),
            redirect_uri: "https://app.test/bff/callback".to_owned(),
            protocol: Protocol::OpenIdConnect,
            scopes: None,
            extra_params: Vec::new(),
            trusted_audiences: Vec::new(),
            clock_skew: Duration::from_secs(60),
        }),
        session: SessionPolicy {
            idle: Duration::from_secs(3600),
            absolute: Duration::from_secs(12 * 3600),
            claims: Vec::new(),
            ahead: Duration::from_secs(60),
        },
        refresh: RefreshPolicy { wait: Duration::from_secs(10), settle: Duration::from_secs(60), stale_endings: false },
        routes: RouteTable::new([Route {
            path: "/api/".to_owned(),
            access: Access::Api,
            target: Target::Upstream(Arc::new(upstream)),
            methods: vec![Method::GET],
            strip_prefix: false,
        }]),
        cross_origin: CrossOrigin::new("https://app.test".to_owned(), Vec::new(), false),
        trusted_proxies: Vec::new(),
        after_logout: "/".to_owned(),
        strict_logout_typ: false,
    }
}

fn vault(clock: &dyn Clock) -> Vault {
    let key = KeyRing::generate_text(&SeededRandom::new(1), clock.now());
    let ring = KeyRing::new(&[Secret::new(key)], Duration::ZERO).unwrap();
    let names = CookieNames::new(true, None).unwrap();
    Vault::new(Sealer::new(ring, "https://app.test", "client"), names, SameSite::Strict, Placement::Cookie, 7168)
}

fn peer() -> Peer {
    Peer { address: IpAddr::V4(Ipv4Addr::LOCALHOST) }
}
