//! Everything that can happen to two tabs, two replicas and a strict authorization server with one crash, one logout and
//! a few steps of time, over the real [`step`]: not sampled, but all of it.
//!
//! A replica is the broker's steps as a small machine: look up, claim, send, receive, commit, answer. Each step of any of
//! them may come next. Found states are not visited twice; the invariants are held against each.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use vestibule::clock::Timestamp;
use vestibule::ledger::protocol::{
    Change, Claim, Claimed, Commit, Committed, End, EndReason, Latest, Newest, Outcome, Presented, Record, Refuse,
    Release, step,
};

const LEASE: Duration = Duration::from_secs(15);
const DEADLINE: Duration = Duration::from_secs(60);
const SETTLE: Duration = Duration::from_secs(60);
const LIMIT: Timestamp = Timestamp::from_secs(1_000_000);
/// So many requests each tab sends, and so often time passes.
const REQUESTS: u8 = 2;
const PAUSES: u8 = 3;
/// The newest generation that is worth looking at.
const GENERATIONS: u64 = 3;

/// All that there is. Generations stand for cookies, bodies and tokens alike: the server is strict, so a token that is
/// good has the number of its generation, until an answer is lost.
#[derive(Clone, PartialEq, Eq, Hash)]
struct State {
    record: Record,
    now: Timestamp,
    /// The number of the good refresh token; none once the family is dead.
    good: Option<u64>,
    /// A crash or a deadline has hidden a rotation: the family may die of it.
    hidden: bool,
    flights: [Flight; 2],
    tabs: [Tab; 2],
    left: [u8; 2],
    jar: u64,
    crashes: u8,
    logouts: u8,
    pauses: u8,
}

/// A refresh in one replica.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Flight {
    None,
    /// It wants the right to spend the token of this generation.
    Claiming(u64),
    /// The token is on its way to the server, since then.
    Sent(u64, u64, Timestamp),
    /// The server has decided, and the answer is on its way back.
    Answered(u64, u64, bool),
    /// The new token is here. `written`: a commit was written, and its answer lost.
    Received {
        from: u64,
        fence: u64,
        written: bool,
    },
}

/// One tab: what its request has come to.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Tab {
    Idle,
    /// On its way to a replica with the cookie of this generation.
    Asking(usize, u64),
    /// Waits for the flight of this replica.
    Waiting(usize),
    /// The answer is on its way back with a cookie of this generation. `old`: time has passed since.
    Answered(u64, bool),
}

fn facts(record: &Record) -> (u64, u64, bool) {
    let mut facts = (0, 0, false);
    for change in record.state() {
        match change {
            Change::Advanced(newest) => facts.0 = newest,
            Change::Settled(settled) => facts.1 = settled,
            Change::Ended(_) => facts.2 = true,
        }
    }
    facts
}

fn body(generation: u64) -> Vec<u8> {
    generation.to_be_bytes().to_vec()
}

fn generation_of(body: &[u8]) -> u64 {
    u64::from_be_bytes(body.try_into().unwrap())
}

impl State {
    fn new() -> Self {
        Self {
            record: Record::default(),
            now: Timestamp::from_secs(1_000),
            good: Some(1),
            hidden: false,
            flights: [Flight::None; 2],
            tabs: [Tab::Idle; 2],
            left: [REQUESTS; 2],
            jar: 1,
            crashes: 1,
            logouts: 1,
            pauses: PAUSES,
        }
    }

    fn apply<O: vestibule::ledger::protocol::Operation>(&mut self, operation: &O) -> O::Reply {
        let was_over = facts(&self.record).2;
        let (record, reply) = step(std::mem::take(&mut self.record), operation, self.now);
        self.record = record;
        assert!(!was_over || facts(&self.record).2, "an ending is gone");
        reply
    }

    fn is_over(&self) -> bool {
        facts(&self.record).2
    }

    /// All states that may come next.
    fn next(&self, found: &mut Vec<Self>) {
        for tab in 0..2 {
            self.tab(tab, found);
        }
        for replica in 0..2 {
            self.flight(replica, found);
            self.crash(replica, found);
        }
        if self.logouts > 0 {
            let mut next = self.clone();
            next.logouts -= 1;
            let generation = next.jar;
            let _finished = next.apply(&End { reason: EndReason::Logout, generation, keep_until: LIMIT });
            found.push(next);
        }
        self.pause(found);
    }

    fn tab(&self, tab: usize, found: &mut Vec<Self>) {
        match self.tabs[tab] {
            Tab::Idle if self.left[tab] > 0 => {
                for replica in 0..2 {
                    let mut next = self.clone();
                    next.left[tab] -= 1;
                    next.tabs[tab] = Tab::Asking(replica, self.jar);
                    found.push(next);
                }
            }
            Tab::Idle | Tab::Waiting(_) => {}
            Tab::Asking(replica, cookie) => self.arrive(tab, replica, cookie, found),
            Tab::Answered(cookie, _) => {
                // It arrives, however late, and the last one wins; or it is lost.
                let mut next = self.clone();
                next.tabs[tab] = Tab::Idle;
                found.push(next.clone());
                next.jar = cookie;
                found.push(next);
            }
        }
    }

    /// A request arrives: its session is looked up, and either its token will do, or it is time to refresh.
    fn arrive(&self, tab: usize, replica: usize, cookie: u64, found: &mut Vec<Self>) {
        let mut next = self.clone();
        next.tabs[tab] = Tab::Idle;
        let session = match next.apply(&Latest { generation: cookie }) {
            Newest::Current | Newest::Superseded(None) => cookie,
            Newest::Superseded(Some(body)) => generation_of(&body),
            Newest::Replayed => panic!("invariant (d): the browser's own cookie {cookie} is taken for a replay"),
            Newest::Ended(_) => {
                assert!(self.logouts == 0 || self.hidden, "invariant (e): ended without a cause");
                return found.push(next);
            }
        };
        if cookie == session {
            next.apply(&Presented { generation: cookie, settle: SETTLE, keep_until: LIMIT });
        }
        let mut good = next.clone();
        good.tabs[tab] = Tab::Answered(session, false);
        found.push(good);
        if session < GENERATIONS {
            if next.flights[replica] == Flight::None {
                next.flights[replica] = Flight::Claiming(session);
            }
            next.tabs[tab] = Tab::Waiting(replica);
            found.push(next);
        }
    }

    fn flight(&self, replica: usize, found: &mut Vec<Self>) {
        let mut next = self.clone();
        match self.flights[replica] {
            Flight::None => {}
            Flight::Claiming(generation) => {
                next.claim(replica, generation);
                found.push(next);
            }
            Flight::Sent(from, fence, _) => {
                let taken = next.decide(from);
                next.flights[replica] = Flight::Answered(from, fence, taken);
                found.push(next);
            }
            Flight::Answered(from, fence, taken) => {
                if taken {
                    next.flights[replica] = Flight::Received { from, fence, written: false };
                } else {
                    let newest = next.apply(&Refuse { generation: from, keep_until: LIMIT });
                    assert!(
                        from >= facts(&self.record).0 || self.is_over() || !matches!(newest, Newest::Ended(_)),
                        "invariant (e): a verdict on a superseded token has ended the session"
                    );
                    next.land(replica, None);
                }
                found.push(next);
            }
            Flight::Received { from, fence, written } => {
                let commit =
                    Commit { fence, from, unspent: false, body: body(from + 1), resident: false, keep_until: LIMIT };
                let before = facts(&self.record);
                let committed = next.apply(&commit);
                assert!(
                    !written || before.2 || before.0 != from + 1 || committed == Committed::Done,
                    "a commit that was written is not taken for done when it is repeated"
                );
                if !written {
                    let mut again = next.clone();
                    again.flights[replica] = Flight::Received { from, fence, written: true };
                    found.push(again);
                }
                next.land(
                    replica,
                    match committed {
                        Committed::Done => Some(from + 1),
                        Committed::Moved(Newest::Superseded(Some(body))) => Some(generation_of(&body)),
                        Committed::Moved(_) => None,
                    },
                );
                found.push(next);
            }
        }
    }

    /// The flight of a replica is over, and those who wait are answered: with a newer session, or not now.
    fn land(&mut self, replica: usize, newer: Option<u64>) {
        self.flights[replica] = Flight::None;
        for tab in &mut self.tabs {
            if *tab == Tab::Waiting(replica) {
                *tab = newer.map_or(Tab::Idle, |newer| Tab::Answered(newer, false));
            }
        }
    }

    fn claim(&mut self, replica: usize, generation: u64) {
        let claim = Claim { generation, lease: LEASE, deadline: DEADLINE, keep_until: LIMIT };
        match self.apply(&claim) {
            Claimed::Won { fence, sent_before: Some(due), .. } if due > Duration::ZERO => {
                let _released = self.apply(&Release { fence, outcome: Outcome::NotSpent, rest: due });
                self.land(replica, None);
            }
            Claimed::Won { fence, .. } => {
                assert!(!self.is_over(), "invariant (c): a refresh after the end");
                let newest = facts(&self.record).0;
                assert_eq!(generation, newest, "invariant (a): the right to spend a token that has a successor");
                self.flights[replica] = Flight::Sent(generation, fence, self.now);
            }
            Claimed::Busy(_) => {}
            Claimed::Resting(_) => self.land(replica, None),
            Claimed::Moved(Newest::Superseded(Some(body))) => self.land(replica, Some(generation_of(&body))),
            Claimed::Moved(_) => self.land(replica, None),
        }
    }

    /// The server looks at a token: the good one is rotated, a spent one kills the family.
    fn decide(&mut self, token: u64) -> bool {
        match self.good {
            Some(good) if good == token => {
                self.good = Some(good + 1);
                true
            }
            Some(good) => {
                assert!(self.hidden, "invariant (a): token {token} is sent although {good} has taken its place");
                self.good = None;
                false
            }
            None => false,
        }
    }

    /// A replica is gone, with its flight and those who wait for it. What the server has got it may still decide.
    fn crash(&self, replica: usize, found: &mut Vec<Self>) {
        if self.crashes == 0 || self.flights[replica] == Flight::None {
            return;
        }
        let mut next = self.clone();
        next.crashes -= 1;
        next.land(replica, None);
        match self.flights[replica] {
            Flight::None | Flight::Claiming(_) => {}
            Flight::Sent(from, ..) => {
                let mut hidden = next.clone();
                hidden.hidden |= hidden.decide(from);
                found.push(hidden);
            }
            Flight::Answered(_, _, taken) => next.hidden |= taken,
            // Written is committed, although the replica never learned of it.
            Flight::Received { written, .. } => next.hidden |= !written,
        }
        found.push(next);
    }

    /// Time passes: a lease lapses, a deadline, a settling. No answer travels for longer than one such step, and no
    /// request at all: they are waited for first.
    fn pause(&self, found: &mut Vec<Self>) {
        let travels = |tab: &Tab| matches!(tab, Tab::Asking(..) | Tab::Answered(_, true));
        if self.pauses == 0 || self.tabs.iter().any(travels) {
            return;
        }
        for seconds in [20, 61] {
            if seconds > 20 && self.tabs.iter().any(|tab| matches!(tab, Tab::Answered(..))) {
                continue;
            }
            let mut next = self.clone();
            next.pauses -= 1;
            next.now = next.now + Duration::from_secs(seconds);
            for tab in &mut next.tabs {
                *tab = match *tab {
                    Tab::Answered(cookie, _) => Tab::Answered(cookie, true),
                    // It has waited for long enough; the flight goes on.
                    Tab::Idle | Tab::Asking(..) | Tab::Waiting(_) => Tab::Idle,
                };
            }
            if next.meet_deadlines() {
                found.push(next);
            }
        }
    }

    /// What was sent a minute ago is given up. Whether such a thing can have happened: what has been received is committed
    /// within that time.
    fn meet_deadlines(&mut self) -> bool {
        for replica in 0..2 {
            match self.flights[replica] {
                Flight::Sent(_, fence, since) if self.now.since(since) >= DEADLINE => {
                    let outcome = Outcome::Unknown(Duration::ZERO);
                    let _released = self.apply(&Release { fence, outcome, rest: Duration::from_secs(1) });
                    self.land(replica, None);
                }
                Flight::Answered(..) | Flight::Received { .. } => return false,
                Flight::None | Flight::Claiming(_) | Flight::Sent(..) => {}
            }
        }
        true
    }

    /// (d) Whatever cookie the browser is left with, it gets a fresh token within a few minutes, if nothing else goes wrong.
    fn recovers(&self) -> bool {
        if self.is_over() || self.hidden {
            return true;
        }
        let travelling = self.tabs.iter().filter_map(|tab| match tab {
            Tab::Answered(cookie, _) => Some(*cookie),
            Tab::Idle | Tab::Asking(..) | Tab::Waiting(_) => None,
        });
        travelling.chain([self.jar]).all(|cookie| {
            let mut calm = self.clone();
            (calm.crashes, calm.logouts, calm.pauses) = (0, 0, 0);
            calm.refreshes(cookie)
        })
    }

    fn refreshes(&mut self, cookie: u64) -> bool {
        for _ in 0..20 {
            for replica in 0..2 {
                for _ in 0..4 {
                    let mut found = Vec::new();
                    self.flight(replica, &mut found);
                    if let Some(next) = found.pop() {
                        *self = next;
                    }
                }
            }
            let newest = match self.apply(&Latest { generation: cookie }) {
                Newest::Current | Newest::Superseded(None) => cookie,
                Newest::Superseded(Some(body)) => generation_of(&body),
                Newest::Replayed | Newest::Ended(_) => return false,
            };
            if newest > cookie {
                return self.good == Some(newest);
            }
            if self.flights[0] == Flight::None {
                self.flights[0] = Flight::Claiming(newest);
            }
            self.now = self.now + Duration::from_secs(10);
        }
        false
    }
}

fn fingerprint(state: &State) -> u64 {
    let mut hasher = DefaultHasher::new();
    state.hash(&mut hasher);
    hasher.finish()
}

#[test]
fn nothing_that_two_tabs_two_replicas_and_a_crash_can_do_breaks_an_invariant() {
    let (mut seen, mut open, mut next) = (HashSet::new(), vec![State::new()], Vec::new());
    seen.insert(fingerprint(&open[0]));
    let mut steps = 0_u64;
    while let Some(state) = open.pop() {
        assert!(state.recovers(), "invariant (d): a cookie of a session that lives is never served again");
        state.next(&mut next);
        steps += next.len() as u64;
        open.extend(next.drain(..).filter(|state| seen.insert(fingerprint(state))));
    }
    let mut out = std::io::stderr().lock();
    std::io::Write::write_fmt(&mut out, format_args!("exhaustive: {} states, {steps} steps\n", seen.len())).unwrap();
    assert!(seen.len() > 10_000, "the exploration has not begun");
}
