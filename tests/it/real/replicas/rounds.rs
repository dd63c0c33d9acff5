//! Two processes, one Redis, `oidc-provider` with strict rotation, a balancer that takes turns: however many calls meet an
//! expired token, and wherever, all succeed and the token is refreshed once.
//!
//! Twelve rounds are enough to notice; `VESTIBULE_ROUNDS=50` makes a thousand calls of it.

use std::sync::Arc;
use std::time::Duration;

use http::Method;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::real::oidc_provider::site::{BURST, TokenApi};
use crate::support::browser::Browser;
use crate::support::fleet::{PLACES, Persisted, at, persistent, signed_in, times};
use crate::support::op::{OidcProvider, Options};
use crate::support::redis::RedisServer;
use crate::support::replica::{Common, Replicas};
use crate::support::{PATIENCE, is_one_refresh};

/// The running parts.
struct Course {
    provider: Arc<OidcProvider>,
    api: TokenApi,
    replicas: Replicas,
    lifetime: Duration,
    /// How long the token endpoint takes.
    delay: Duration,
    _redis: RedisServer,
}

/// When a round begins.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Moment {
    /// The token has expired: everybody waits for the next.
    Expired,
    /// The token is good for another moment: nobody waits.
    Due,
}

fn usual_rounds() -> u32 {
    std::env::var("VESTIBULE_ROUNDS").map_or(12, |number| number.parse().unwrap())
}

impl Course {
    async fn start(session: &str, seconds: u64) -> Self {
        let redis = RedisServer::start(&[]);
        let mut replicas = Replicas::prepare(2).await;
        let options = Options { access_token_seconds: seconds, ..Options::new(&replicas.url) };
        let provider = Arc::new(OidcProvider::start(&options).await);
        let api = TokenApi::start(Arc::clone(&provider)).await;
        replicas.configure(&Common {
            issuer: provider.issuer(),
            client_id: &options.client_id,
            client_secret: &options.client_secret,
            api: &api.url,
            ledger: &at(&redis),
            session,
            more: "",
        });
        replicas.start().await;
        Self { provider, api, replicas, lifetime: Duration::from_secs(seconds), delay: Duration::ZERO, _redis: redis }
    }

    /// Rounds of calls, before each of which `prepare` may put something in their way.
    async fn run(&self, number: u32, moment: Moment, prepare: impl Fn(&Self)) -> Persisted {
        let browser = signed_in(&self.replicas).await;
        // A server that takes longer than its tokens live may be asked at once.
        self.burst(&browser).await;
        let mut all = Persisted::default();
        for round in 0..number {
            match moment {
                Moment::Expired => self.until_expired(&browser).await,
                Moment::Due => self.until_due(&browser).await,
            }
            let (before, since) = (self.refreshes().await, Instant::now() + self.delay);
            prepare(self);
            all = sum(vec![all, self.burst(&browser).await]);
            if moment == Moment::Expired {
                self.assert_one_refresh(round, before, since).await;
            }
        }
        self.assert_unharmed(&browser).await;
        all
    }

    async fn refreshes(&self) -> u32 {
        self.provider.stats().await.refresh_grants_ok
    }

    async fn assert_one_refresh(&self, round: u32, before: u32, since: Instant) {
        let refreshes = self.refreshes().await - before;
        assert!(is_one_refresh(refreshes, since, self.lifetime), "round {round}: {refreshes} refreshes");
    }

    /// Many calls at once, from one jar. All come to a 200.
    async fn burst(&self, browser: &Browser) -> Persisted {
        sum(self.calls(browser).join_all().await)
    }

    fn calls(&self, browser: &Browser) -> JoinSet<Persisted> {
        let call = |_| persistent(browser.clone(), self.replicas.at("/api/orders"), PATIENCE);
        (0..BURST).map(call).collect()
    }

    /// Waits until the API has been called so many times.
    async fn until_called(&self, number: usize) {
        let called = async {
            while self.api.tokens().len() < number {
                sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(PATIENCE, called).await.unwrap();
    }

    /// Waits until the access token that the API got last is over, for the server and for Vestibule.
    async fn until_expired(&self, browser: &Browser) {
        // What is on its way beside an earlier request would be taken for the refresh of the next.
        self.until_generation_counts_refreshes(browser).await;
        let token = self.api.tokens().pop().unwrap();
        let deadline = Instant::now() + PATIENCE;
        let mut zero = None;
        loop {
            let times = times(&self.replicas, browser).await;
            // Whole seconds are told: what is told as none may still be nearly one, and that is waited for.
            if times["token_expires_in"] == 0 {
                let waited = zero.get_or_insert(Instant::now()).elapsed();
                if waited >= Duration::from_secs(1) && !self.provider.is_active(&token).await {
                    break;
                }
            }
            assert!(Instant::now() < deadline, "the token does not expire: {times}, told as none since {zero:?}");
            sleep(Duration::from_millis(25)).await;
        }
    }

    /// Waits until the token has less than two seconds left, which is the last third of six.
    async fn until_due(&self, browser: &Browser) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            self.until_generation_counts_refreshes(browser).await;
            let times = times(&self.replicas, browser).await;
            if times["token_expires_in"].as_u64() < Some(2) {
                break;
            }
            assert!(Instant::now() < deadline, "the token is never due: {times}");
            sleep(Duration::from_millis(25)).await;
        }
    }

    /// What was refreshed beside a request has come by the time this returns.
    async fn until_generation_counts_refreshes(&self, browser: &Browser) {
        let there = async {
            while times(&self.replicas, browser).await["generation"] != u64::from(self.refreshes().await) + 1 {
                sleep(Duration::from_millis(25)).await;
            }
        };
        timeout(PATIENCE, there).await.expect("a refresh was lost, or a generation came of none");
    }

    async fn assert_unharmed(&self, browser: &Browser) {
        self.until_generation_counts_refreshes(browser).await;
        let user = browser.fetch(Method::GET, &self.replicas.at("/bff/user")).await;
        assert_eq!(user.json()["claims"]["sub"], "ada");
        let stats = self.provider.stats().await;
        assert_eq!((stats.refresh_grants_failed, stats.reuse_detected, stats.grants_revoked), (0, 0, 0), "{stats:?}");
        assert_eq!(stats.refusals, [""; 0]);
        for token in self.provider.issued().await {
            assert_eq!(browser.received_contains(&token), None);
            assert_eq!(self.replicas.front.received_contains(&token), None);
        }
        // Nothing was out of order to either of them. Pingora itself calls it an error when a connection to the API was
        // closed while it was idle, and takes another.
        for index in 0..2 {
            let said = self.replicas.get(index).output();
            assert!(!said.contains("ERROR vestibule"), "{said}");
        }
    }
}

fn sum(each: Vec<Persisted>) -> Persisted {
    each.into_iter().fold(Persisted::default(), |all, call| Persisted {
        broken: all.broken + call.broken,
        later: all.later + call.later,
    })
}

async fn undisturbed(session: &str, number: u32, moment: Moment) {
    let seconds = if moment == Moment::Due { 6 } else { 5 };
    let course = Course::start(session, seconds).await;
    let persisted = course.run(number, moment, |_| {}).await;
    assert_eq!(persisted, Persisted::default(), "{number} rounds, all at the first attempt");
    println!("{number} rounds of {BURST} calls, {session}: each 200 at the first attempt, one refresh a round");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs node, oidc-provider and redis-server: run ./tests/run"]
async fn twenty_calls_at_two_replicas_refresh_an_expired_token_once_in_every_round() {
    // BCP-4.14-02, BBA-6.1-10, O2-6-02
    let [cookie, ledger] = PLACES.map(|place| undisturbed(place, usual_rounds(), Moment::Expired));
    tokio::join!(cookie, ledger);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs node, oidc-provider and redis-server: run ./tests/run"]
async fn twenty_calls_at_two_replicas_refresh_a_token_once_beside_themselves() {
    // BBA-6.1-11
    let [cookie, ledger] = PLACES.map(|place| undisturbed(place, usual_rounds(), Moment::Due));
    tokio::join!(cookie, ledger);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs node, oidc-provider and redis-server: run ./tests/run"]
async fn two_replicas_wait_for_a_slow_token_endpoint_and_ask_it_once() {
    // BCP-4.14-02
    let delayed = async |session, milliseconds| {
        let mut course = Course::start(session, 5).await;
        course.delay = Duration::from_millis(milliseconds);
        course.provider.delay(milliseconds, 0).await;
        let persisted = course.run(4, Moment::Expired, |_| {}).await;
        assert_eq!(persisted, Persisted::default(), "delayed by {milliseconds} ms");
    };
    tokio::join!(delayed(PLACES[0], 2_500), delayed(PLACES[0], 6_000), delayed(PLACES[1], 6_000));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs node, oidc-provider and redis-server: run ./tests/run"]
async fn answers_that_are_lost_on_the_way_cost_a_second_attempt_and_no_refresh() {
    // BCP-4.14-03, BCP-4.14-04
    let cut = async |session| {
        let course = Course::start(session, 5).await;
        let persisted = course.run(4, Moment::Expired, |course| course.replicas.front.cut(7)).await;
        assert_eq!(persisted, Persisted { broken: 4 * 7, later: 0 });
    };
    tokio::join!(cut(PLACES[0]), cut(PLACES[1]));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs node, oidc-provider and redis-server: run ./tests/run"]
async fn a_replica_that_is_killed_in_the_middle_of_every_round_costs_no_refresh_and_no_session() {
    const ROUNDS: u32 = 6;
    let run = async |session| {
        let mut course = Course::start(session, 5).await;
        let browser = signed_in(&course.replicas).await;
        course.burst(&browser).await;
        let mut all = Vec::new();
        for round in 1..=ROUNDS {
            course.until_expired(&browser).await;
            let (refreshed, since) = (course.refreshes().await, Instant::now());
            let before = course.api.tokens().len();
            let calls = course.calls(&browser);
            // The API has got the new token, so that it is committed; most answers are still on their way.
            course.until_called(before + 1).await;
            let killed = course.replicas.get_mut(round as usize % 2);
            killed.kill().await;
            killed.launch();
            all.push(sum(calls.join_all().await));
            course.replicas.get(round as usize % 2).until_ready().await;
            course.assert_one_refresh(round, refreshed, since).await;
        }
        let Persisted { broken, later } = sum(all);
        println!("killed in every round, {session}: {broken} connections broken, {later} told to come later");
        assert!(broken > 0, "no kill came in the middle of anything");
        course.assert_unharmed(&browser).await;
    };
    tokio::join!(run(PLACES[0]), run(PLACES[1]));
}
