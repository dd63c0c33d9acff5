//! A replica: the real gateway, broker and ledger, over seams at which it can crash.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::Method;
use tokio::time::Instant;
use vestibule::clock::Timestamp;
use vestibule::gateway::broker::{RefreshPolicy, Revocation};
use vestibule::gateway::cross_origin::CrossOrigin;
use vestibule::gateway::headers::TransportSecurity;
use vestibule::gateway::logout::{FrontChannel, LogoutSettings};
use vestibule::gateway::roster::RosterPolicy;
use vestibule::gateway::route::{Access, Route, RouteTable, RouteToken, Target, Upstream};
use vestibule::gateway::{Gateway, Seams, Settings};
use vestibule::ledger::Ledger;
use vestibule::oauth::{
    Client, ClientAuthentication, ClientId, ClientSecret, Issuer, LogoutStyle, Means, Protocol, RequestOptions,
    TokenTarget, Wanted,
};
use vestibule::secret::Secret;
use vestibule::session::cookies::{CookieNames, SameSite};
use vestibule::session::keyring::{KeyRing, Sealer};
use vestibule::session::vault::Vault;
use vestibule::session::{Placement, SessionPolicy};
use vestibule::tasks::Tasks;

use super::chance::{Dice, SeededRandom};
use super::clock::Wall;
use super::issuer::{IssuerLine, ModelIssuer};
use super::life::Life;
use super::store::{Line, SharedStore};
use super::trouble::Home;
use super::witness::Witness;

/// What all replicas of a world have in common.
pub(crate) struct Site {
    pub(crate) seed: u64,
    pub(crate) dice: Dice,
    pub(crate) issuer: Arc<ModelIssuer>,
    pub(crate) store: Arc<SharedStore>,
    pub(crate) witness: Arc<Witness>,
    pub(crate) home: Home,
}

/// One process. A crash leaves nothing of it but the machine's clock and its place in the network.
pub(crate) struct Replica {
    pub(crate) life: Arc<Life>,
    pub(crate) gateway: Arc<Gateway>,
    pub(crate) ledger: Arc<Ledger>,
    tasks: Arc<Tasks>,
    pub(crate) wall: Arc<Wall>,
    pub(crate) cut: Arc<Mutex<Option<Instant>>>,
}

impl Replica {
    pub(crate) fn new(site: &Site, id: u64, wall: Arc<Wall>, cut: Arc<Mutex<Option<Instant>>>) -> Self {
        let life = Life::new(id, Arc::clone(&site.witness));
        let line = Line {
            store: Arc::clone(&site.store),
            dice: site.dice.clone(),
            life: Arc::clone(&life),
            cut: Arc::clone(&cut),
        };
        let tasks = Arc::new(Tasks::default());
        let ledger = Arc::new(Ledger::new(Arc::new(line), Arc::clone(&wall) as Arc<_>));
        let follower = Arc::clone(&ledger);
        tasks.spawn(async move { follower.follow().await });
        let seams = Seams {
            clock: Arc::clone(&wall) as Arc<_>,
            random: Arc::new(SeededRandom::new(site.seed ^ (id << 32))),
            tasks: Arc::clone(&tasks),
            ledger: Arc::clone(&ledger),
            server: Arc::new(IssuerLine { issuer: Arc::clone(&site.issuer), life: Arc::clone(&life) }),
            nonces: Arc::default(),
            signers: Arc::default(),
        };
        let gateway = Gateway::new(seams, settings(), vault(site.home));
        Self { life, gateway, ledger, tasks, wall, cut }
    }

    /// Another process in the place of this one, which has crashed: all that ran in it is dropped.
    pub(crate) fn succeeded_by(&self, site: &Site, id: u64) -> Self {
        let tasks = Arc::clone(&self.tasks);
        tokio::task::spawn_local(async move { tasks.drain(Duration::ZERO).await });
        Self::new(site, id, Arc::clone(&self.wall), Arc::clone(&self.cut))
    }

    /// Its line has not been cut lately.
    pub(crate) fn is_rested(&self) -> bool {
        self.cut.lock().unwrap().is_none_or(|until| until + Duration::from_secs(30) < Instant::now())
    }

    /// Cuts it off from the store, or mends the line.
    pub(crate) fn cut_until(&self, moment: Option<Instant>) {
        *self.cut.lock().unwrap() = moment;
    }
}

fn settings() -> Settings {
    let upstream = Upstream {
        url: "http://127.0.0.1:9".parse().unwrap(),
        connect_timeout: Duration::from_secs(5),
        read_timeout: Duration::from_secs(60),
        http2: false,
        trust: None,
        identity: None,
        bearer: false,
        external_url: None,
    };
    let upstream = Arc::new(upstream);
    let route = |path: &str, token| Route {
        path: path.to_owned(),
        access: Access::Api,
        target: Target::Upstream(Arc::clone(&upstream)),
        methods: vec![Method::GET],
        strip_prefix: false,
        token,
    };
    let wanted = Wanted { audience: Some("bills".to_owned()), ..Wanted::default() };
    let bills = TokenTarget::new(wanted, Means::Refresh);
    Settings {
        public_url: "https://app.test".parse().unwrap(),
        prefix: "/bff".to_owned(),
        client: Arc::new(Client {
            id: ClientId::new("client".to_owned()),
            authentication: ClientAuthentication::Basic(ClientSecret::new("secret".to_owned())),
            keys: None,
            mutual_tls: false,
            dpop: false,
            requests: RequestOptions::default(),
            redirect_uri: "https://app.test/bff/callback".to_owned(),
            protocol: Protocol::OpenIdConnect,
            userinfo: false,
            scopes: None,
            extra_params: Vec::new(),
            trusted_audiences: Vec::new(),
            clock_skew: Duration::from_secs(60),
        }),
        session: SessionPolicy {
            // Longer than any clock is wrong here.
            idle: Duration::from_secs(3 * 3600),
            absolute: Duration::from_secs(12 * 3600),
            warn: Duration::from_secs(60),
            claims: Vec::new(),
            ahead: Duration::from_secs(60),
        },
        refresh: RefreshPolicy { wait: Duration::from_secs(10), settle: Duration::from_secs(60), stale_endings: false },
        routes: RouteTable::new([
            route("/api/", RouteToken::Session),
            route("/bills/", RouteToken::Own(Arc::new(bills))),
        ]),
        cross_origin: CrossOrigin::new("https://app.test".to_owned(), Vec::new(), false),
        trusted_proxies: Vec::new(),
        transport: TransportSecurity::Left,
        logout: LogoutSettings {
            after: "/".to_owned(),
            style: LogoutStyle::Standard,
            by_form: false,
            id_token_hint: true,
            logout_hint: None,
            revocation: Revocation::Now,
            clear_site_data: None,
            front_channel: FrontChannel::Off,
            strict_typ: false,
        },
        roster: RosterPolicy { kept: false, issuer: Issuer::new("https://as.test".to_owned()) },
    }
}

/// The keys that all replicas have, and the world too.
pub(crate) fn vault(home: Home) -> Vault {
    let created = Timestamp::from_secs(1_700_000_000);
    let key = KeyRing::generate_text(&SeededRandom::new(1), created);
    let ring = KeyRing::new(&[Secret::new(key)], Duration::ZERO).unwrap();
    let names = CookieNames::new(true, None).unwrap();
    let (placement, most) = match home {
        Home::Cookie => (Placement::Cookie, 7168),
        Home::Ledger => (Placement::Ledger, 7168),
        Home::Growing => (Placement::Cookie, 1_600),
    };
    Vault::new(Sealer::new(ring, "https://app.test", "client"), names, SameSite::Strict, placement, most)
}

/// A clock that says `ahead` milliseconds more than the truth.
pub(crate) fn wall(start: Instant, ahead: i64) -> Arc<Wall> {
    let wall = Wall::new(start);
    wall.set_ahead(ahead);
    Arc::new(wall)
}
