//! Two processes, one Redis, `oidc-provider` with strict rotation, a balancer that takes turns: however many calls meet an
//! expired token, and wherever, all succeed and the token is refreshed once.
//!
//! Twelve rounds are enough to notice; `VESTIBULE_ROUNDS=50` makes a thousand calls of it.

use std::sync::Arc;
use std::time::Duration;

use http::Method;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::site::{PLACES, Persisted, at, persistent, signed_in, times};
use crate::real::oidc_provider::site::{BURST, TokenApi};
use crate::support::PATIENCE;
use crate::support::browser::Browser;
use crate::support::op::{OidcProvider, Options};
use crate::support::redis::RedisServer;
use crate::support::replica::{Common, Replicas};

/// The running parts.
struct Course {
    provider: Arc<OidcProvider>,
    api: TokenApi,
    replicas: Replicas,
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
        Self { provider, api, replicas, _redis: redis }
    }

    /// Rounds of calls, before each of which `prepare` may put something in their way.
    async fn run(&self, number: u32, moment: Moment, prepare: impl Fn(&Self)) -> Persisted {
        let browser = signed_in(&self.replicas).await;
        // A server that takes longer than its tokens live may be asked at once.
        self.burst(&browser).await;
        let begun = self.provider.stats().await.refresh_grants_ok;
        let mut all = Persisted::default();
        for round in 0..number {
            match moment {
                Moment::Expired => self.until_expired(&browser).await,
                Moment::Due => self.until_due(&browser, u64::from(begun + round) + 1).await,
            }
            prepare(self);
            all = sum(vec![all, self.burst(&browser).await]);
            if moment == Moment::Expired {
                let stats = self.provider.stats().await;
                assert_eq!(stats.refresh_grants_ok, begun + round + 1, "round {round}: {stats:?}");
            }
        }
        self.until_generation(&browser, u64::from(begun + number) + 1).await;
        self.assert_unharmed(&browser, begun + number).await;
        all
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

    /// Waits until the token of this generation has less than two seconds left, which is the last third of six.
    async fn until_due(&self, browser: &Browser, generation: u64) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let times = times(&self.replicas, browser).await;
            if times["generation"] == generation && times["token_expires_in"].as_u64() < Some(2) {
                break;
            }
            assert!(Instant::now() < deadline, "generation {generation} is never due: {times}");
            sleep(Duration::from_millis(25)).await;
        }
    }

    async fn until_generation(&self, browser: &Browser, generation: u64) {
        let there = async {
            while times(&self.replicas, browser).await["generation"] != generation {
                sleep(Duration::from_millis(25)).await;
            }
        };
        timeout(PATIENCE, there).await.unwrap_or_else(|_| panic!("generation {generation} never comes"));
    }

    async fn assert_unharmed(&self, browser: &Browser, refreshes: u32) {
        let user = browser.fetch(Method::GET, &self.replicas.at("/bff/user")).await;
        assert_eq!(user.json()["claims"]["sub"], "ada");
        let stats = self.provider.stats().await;
        assert_eq!(stats.refresh_grants_ok, refreshes, "{stats:?}");
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
        let course = Course::start(session, 5).await;
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
            let before = course.api.tokens().len();
            let calls = course.calls(&browser);
            // The API has got the new token, so that it is committed; most answers are still on their way.
            course.until_called(before + 1).await;
            let killed = course.replicas.get_mut(round as usize % 2);
            killed.kill().await;
            killed.launch();
            all.push(sum(calls.join_all().await));
            course.replicas.get(round as usize % 2).until_ready().await;
            let stats = course.provider.stats().await;
            assert_eq!(stats.refresh_grants_ok, round, "round {round}: {stats:?}");
        }
        let Persisted { broken, later } = sum(all);
        println!("killed in every round, {session}: {broken} connections broken, {later} told to come later");
        assert!(broken > 0, "no kill came in the middle of anything");
        course.assert_unharmed(&browser, ROUNDS).await;
    };
    tokio::join!(run(PLACES[0]), run(PLACES[1]));
}
