//! Families of tokens: what one login has led to, as the authorization server keeps it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use vestibule::clock::Timestamp;

use super::super::trouble::Reuse;
use super::super::witness::Witness;

pub(super) struct Families {
    reuse: Reuse,
    witness: Arc<Witness>,
    by_number: BTreeMap<u64, Family>,
    pub(super) refreshes: u64,
}

#[derive(Default)]
struct Family {
    /// The number of the one refresh token that is good; zero until the login is finished.
    good: u64,
    issued: u64,
    /// The token that the good one came of, and when that was spent.
    parent: Option<(u64, Timestamp)>,
    /// When the access token of each number expires.
    expires: BTreeMap<u64, Timestamp>,
    dead: bool,
}

pub(super) enum Refreshed {
    /// The family, and the number of the new tokens.
    Rotated(u64, u64),
    Refused,
}

/// For so long a server with grace answers a spent token again.
const GRACE: Duration = Duration::from_secs(30);

impl Families {
    pub(super) const fn new(reuse: Reuse, witness: Arc<Witness>) -> Self {
        Self { reuse, witness, by_number: BTreeMap::new(), refreshes: 0 }
    }

    pub(super) fn begin(&mut self) -> u64 {
        let number = self.by_number.len() as u64 + 1;
        self.by_number.insert(number, Family::default());
        number
    }

    pub(super) fn issue(&mut self, family: u64, expires: Timestamp) -> u64 {
        let family = self.by_number.get_mut(&family).unwrap();
        family.issued += 1;
        family.good = family.issued;
        family.expires.insert(family.issued, expires);
        family.good
    }

    pub(super) fn refresh(&mut self, token: &str, asker: u64, now: Timestamp, lifetime: Duration) -> Refreshed {
        let found = family_and_number(token).and_then(|(id, number)| Some((id, number, self.by_number.get_mut(&id)?)));
        let Some((id, number, family)) = found else { return Refreshed::Refused };
        self.witness.a_spent_token_is_never_sent(id, number);
        let is_good = family.good == number;
        let within_grace = family.parent.is_some_and(|(parent, spent)| parent == number && now.since(spent) < GRACE);
        if !family.dead && (is_good || (self.reuse == Reuse::Grace && within_grace)) {
            if is_good {
                family.parent = Some((number, now));
            }
            self.refreshes += 1;
            let successor = self.issue(id, now + lifetime);
            self.witness.rotated(id, number, successor, asker);
            return Refreshed::Rotated(id, successor);
        }
        if !is_good && self.reuse != Reuse::Lenient && !family.dead {
            family.dead = true;
            self.witness.died(id);
        }
        self.witness.refused(id, number, asker);
        Refreshed::Refused
    }

    /// Any refresh token of a family takes all of it along.
    pub(super) fn revoke(&mut self, token: &str) {
        if token.starts_with("rt-")
            && let Some(family) = family_and_number(token).and_then(|(id, _)| self.by_number.get_mut(&id))
        {
            family.dead = true;
        }
    }

    pub(super) fn takes(&self, family: u64, number: u64, now: Timestamp) -> bool {
        let family = self.by_number.get(&family).filter(|it| !it.dead);
        family.and_then(|it| it.expires.get(&number)).is_some_and(|expires| now < *expires)
    }

    pub(super) fn lives(&self, family: u64) -> bool {
        self.by_number.get(&family).is_some_and(|it| !it.dead)
    }

    pub(super) fn living(&self) -> usize {
        self.by_number.values().filter(|it| !it.dead && it.good > 0).count()
    }
}

/// What a token says of itself: `rt-<family>-<number>`.
pub(super) fn family_and_number(token: &str) -> Option<(u64, u64)> {
    let mut parts = token.split('-').skip(1);
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}
