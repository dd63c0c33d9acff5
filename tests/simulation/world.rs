//! One life of one browser: it signs in, uses the app from several tabs for some virtual minutes, and everything that can
//! go wrong on the way does.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use tokio::task::LocalSet;
use tokio::time::{Instant, sleep};
use vestibule::clock::Clock;
use vestibule::ledger::Key;
use vestibule::ledger::protocol::EndReason;
use vestibule::ledger::tombstone::Tombstone;
use vestibule::session::SessionId;
use vestibule::session::vault::Vault;

use super::browser::Browser;
use super::chance::Dice;
use super::clock::Wall;
use super::issuer::{ModelIssuer, Published};
use super::replica::{Replica, Site, vault, wall};
use super::store::SharedStore;
use super::trouble::Trouble;
use super::witness::Witness;

/// What a life came to, for adding up and for comparing two of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Story {
    /// When what was answered.
    pub(crate) answers: Vec<(u64, u16)>,
    pub(crate) refreshes: u64,
    pub(crate) crashes: u64,
    /// Families of which a token was lost by no fault of ours, and how many of them died of it.
    pub(crate) excused: u64,
    pub(crate) lost: u64,
}

pub(crate) struct World {
    pub(super) trouble: Trouble,
    pub(super) dice: Dice,
    pub(super) start: Instant,
    pub(super) site: Site,
    /// They share the store and the keys, and nothing else.
    replicas: RefCell<Vec<Rc<Replica>>>,
    pub(super) browser: Browser,
    /// What somebody has copied from it.
    pub(super) thief: RefCell<Option<Browser>>,
    /// Opens cookies, as no browser can.
    pub(super) vault: Vault,
    /// The session that the person means to have, and its family of tokens.
    pub(super) mine: Cell<Option<(SessionId, u64)>>,
    /// An answer that had left before the last login arrived after it, and has put the cookie of the earlier session back.
    pub(super) overtaken: Cell<bool>,
    born: Cell<u64>,
    /// Nothing more goes wrong.
    pub(super) calm: Cell<bool>,
    pub(super) answers: RefCell<Vec<(u64, u16)>>,
}

impl World {
    /// Lives through the schedule of `seed`, and panics if an invariant breaks.
    pub(crate) fn live(seed: u64, trouble: Trouble, published: &Arc<Published>) -> Story {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        LocalSet::new().block_on(&runtime, async {
            let world = Rc::new(Self::new(seed, trouble, published));
            world.sign_in(&world.browser).await;
            world.use_the_app().await;
            world.settle_down().await;
            world.look();
            world.story()
        })
    }

    fn new(seed: u64, trouble: Trouble, published: &Arc<Published>) -> Self {
        let (dice, start) = (Dice::new(seed), Instant::now());
        let witness = Arc::new(Witness::default());
        // Lifetimes from much shorter to longer than everything else.
        let lifetime = Duration::from_secs(dice.pick(&[5, 10, 20, 60, 120]));
        let issuer =
            ModelIssuer::new(published, Wall::new(start), dice.clone(), lifetime, trouble, Arc::clone(&witness));
        let store = SharedStore::new(Wall::new(start), Arc::clone(&witness));
        let site = Site { seed, dice: dice.clone(), issuer, store, witness, home: trouble.home };
        // Replicas differ by less than the time for which a token is no longer used before it expires.
        let most = lifetime.as_millis().min(50_000) / 25;
        let ahead = || i64::try_from(dice.below(u64::try_from(most).unwrap() + 1)).unwrap();
        let walls = [wall(start, ahead()), wall(start, -ahead())];
        let replicas =
            walls.into_iter().zip(1..).map(|(wall, id)| Rc::new(Replica::new(&site, id, wall, Arc::default())));
        Self {
            trouble,
            start,
            replicas: RefCell::new(replicas.collect()),
            vault: vault(trouble.home),
            site,
            dice,
            browser: Browser::default(),
            thief: RefCell::default(),
            mine: Cell::default(),
            overtaken: Cell::default(),
            born: Cell::new(2),
            calm: Cell::default(),
            answers: RefCell::default(),
        }
    }

    fn story(&self) -> Story {
        let (excused, lost) = self.site.witness.losses();
        Story {
            answers: self.answers.take(),
            refreshes: self.site.issuer.refreshes(),
            crashes: self.born.get() - 2,
            excused,
            lost,
        }
    }

    /// Bursts of calls from several tabs, with pauses in between, and what the trouble of this run brings.
    async fn use_the_app(self: &Rc<Self>) {
        self.site.issuer.be_troubled(true);
        if self.trouble.store {
            self.site.store.fail(5);
        }
        if self.trouble.clocks {
            self.site.witness.set_clocks_wrong(true);
        }
        let rounds = 14;
        let end = 5 + self.dice.below(8);
        let mut calls = Vec::new();
        for round in 0..rounds {
            self.look();
            self.go_wrong();
            for _ in 0..self.dice.below(6) {
                let world = Rc::clone(self);
                calls.push(tokio::task::spawn_local(async move { world.call(&world.browser).await }));
            }
            let copied = self.thief.borrow().clone().filter(|_| !self.trouble.thief);
            for jar in copied.iter().flat_map(|jar| [jar.clone(), jar.clone()]) {
                let world = Rc::clone(self);
                calls.push(tokio::task::spawn_local(async move { world.call(&jar).await }));
            }
            let world = Rc::clone(self);
            if self.trouble.logout && round == end {
                calls.push(tokio::task::spawn_local(async move { world.sign_out().await }));
            } else if self.trouble.burial && round == end {
                calls.push(tokio::task::spawn_local(async move { world.be_buried().await }));
            } else if self.trouble.relogin && (round == end || round == end / 2) {
                calls.push(tokio::task::spawn_local(async move { world.sign_in(&world.browser).await }));
            } else if self.trouble.thief && round >= 3 {
                calls.push(tokio::task::spawn_local(async move { world.steal().await }));
            }
            let pause =
                if self.dice.happens(50) { self.dice.millis(0..3_000) } else { self.dice.millis(3_000..15_000) };
            sleep(pause).await;
        }
        for call in calls {
            call.await.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
        }
    }

    /// What goes wrong with machines, between two bursts.
    fn go_wrong(&self) {
        let (trouble, dice) = (self.trouble, &self.dice);
        let replica = self.replica(dice.below(2));
        if trouble.crash && dice.happens(35) {
            replica.life.end_after(1 + dice.below(60));
        }
        // Not for so long that an answer which a replica could not commit is taken for lost, a minute after its request.
        if trouble.partition && dice.happens(20) && replica.is_rested() {
            replica.cut_until(Some(Instant::now() + dice.millis(1_000..30_000)));
        }
        if trouble.failover && dice.happens(15) {
            self.site.store.fail_over(dice.millis(1..2_000));
        }
        let hour = |way: u64| if way == 0 { -3_600_000 } else { 3_600_000 };
        if trouble.clocks && dice.happens(25) {
            let minutes = i64::try_from(dice.below(360_000)).unwrap() - 180_000;
            replica.wall.set_ahead(if dice.happens(50) { hour(dice.below(2)) } else { minutes });
        }
        if trouble.store_clock && dice.happens(25) {
            self.site.store.wall.set_ahead(if dice.happens(50) { hour(dice.below(2)) } else { 0 });
        }
    }

    /// When the trouble is over, all is as it should be, within a bounded time.
    async fn settle_down(&self) {
        self.calm.set(true);
        self.site.store.fail(0);
        self.site.store.wall.set_ahead(0);
        self.site.issuer.be_troubled(false);
        for which in 0..2 {
            let replica = self.replica(which);
            replica.life.end_after(0);
            replica.cut_until(None);
            replica.wall.set_ahead(0);
        }
        sleep(Duration::from_secs(90)).await;
        self.site.witness.set_clocks_wrong(false);
        self.look();
        let (Some((mine, family)), false) = (self.mine.get(), self.overtaken.get()) else { return };
        match self.site.witness.must_live(mine) {
            Some(true) => {
                self.everybody_is_served().await;
                assert!(self.site.issuer.lives(family), "invariant (d) is broken: the family of tokens is dead");
            }
            Some(false) => self.nobody_is_served(mine).await,
            None => {}
        }
    }

    /// (d), at last: whatever cookie the browser was left with, it gets a fresh token from either replica.
    async fn everybody_is_served(&self) {
        for which in [0, 1, 0] {
            let mut served = false;
            // A token that was obtained by a clock ahead of the truth seems good for as long as it once was.
            for _ in 0..6 {
                let answer = self.serve(which, &self.browser.fetch("GET", "/api/orders"), Duration::ZERO).await;
                let Some(answer) = answer else { panic!("a replica crashed although all was calm") };
                self.look();
                self.arrive(&self.browser, &answer);
                served = answer.status == StatusCode::OK;
                if served {
                    break;
                }
                sleep(Duration::from_secs(30)).await;
            }
            assert!(served, "invariant (d) is broken: a session that lives is not served when all is calm again");
        }
    }

    /// (c), at last.
    async fn nobody_is_served(&self, mine: SessionId) {
        for which in [0, 1] {
            let request = self.browser.fetch("GET", "/api/orders");
            let shown = self.opened(&request.headers);
            let Some(answer) = self.serve(which, &request, Duration::ZERO).await else { continue };
            assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "invariant (c) is broken: signed in after the end");
            assert!(shown.is_none_or(|(shown, _)| shown == mine), "invariant (b) is broken: another session's cookie");
        }
        // Where an ending meets a failure or an abort, revoking is not more than an attempt.
        let reaches_all = !(self.trouble.delays() || self.trouble.thief || self.trouble.burial);
        if reaches_all {
            assert_eq!(self.site.issuer.living(), 0, "tokens outlive the end of their session");
        }
    }

    /// All sessions of the person are over, says the issuer: the tombstone goes to any replica.
    async fn be_buried(&self) {
        let Some((mine, _)) = self.mine.get() else { return };
        self.site.witness.asked_to_end(mine, EndReason::IssuerLogout);
        let now = Wall::new(self.start).now();
        let tombstone = Tombstone {
            reason: EndReason::IssuerLogout,
            issued_until: now,
            keep_until: now + Duration::from_secs(12 * 3600),
        };
        let key = Key::subject("https://as.test", "ada");
        for _ in 0..20 {
            let replica = self.replica(self.dice.below(2));
            if let Some(Ok(())) = replica.life.survive(replica.ledger.bury(key, tombstone)).await {
                self.site.witness.end_acknowledged(mine);
                return;
            }
            sleep(Duration::from_secs(1)).await;
        }
    }

    /// The replica in this place; another one if that has crashed.
    pub(super) fn replica(&self, which: u64) -> Rc<Replica> {
        let place = usize::try_from(which).unwrap();
        let present = Rc::clone(&self.replicas.borrow()[place]);
        if !present.life.is_over() {
            return present;
        }
        self.born.set(self.born.get() + 1);
        let next = Rc::new(present.succeeded_by(&self.site, self.born.get()));
        self.replicas.borrow_mut()[place] = Rc::clone(&next);
        next
    }

    /// Stops at the first broken invariant.
    pub(super) fn look(&self) {
        if let Some(broken) = self.site.witness.verdict() {
            panic!("{broken}, {:?} after the start", self.start.elapsed());
        }
    }
}
