//! Reading the roster: pages of sessions, in an order that does not change while they are read, each with what has become of
//! it since.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use super::device::Device;
use super::handle::{Cursor, SessionHandle};
use super::lists::{Directory, Line, Sheet};
use super::{PARTS, Roster, STALE, part_of};
use crate::clock::Timestamp;
use crate::ledger::protocol::{EndReason, Ending};
use crate::ledger::tombstone::Tombstone;
use crate::ledger::{Key, StoreError};

/// A part of the list.
#[derive(Clone, Debug)]
pub struct Page {
    /// The sessions.
    pub sessions: Vec<Listed>,
    /// Where to go on, if there is more.
    pub next: Option<Cursor>,
}

/// A session that is or was in use; until its absolute limit it stays listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// The name by which it can be ended.
    pub handle: SessionHandle,
    /// Who signed in.
    pub subject: String,
    /// Whether it belongs to a session at the issuer that can be ended from there.
    pub issuer_session: bool,
    /// What its browser says of itself.
    pub device: Device,
    /// When the login was finished.
    pub since: Timestamp,
    /// The last use that was noted; the real one may be [`STALE`] later.
    pub last_seen: Timestamp,
    /// The absolute limit.
    pub ends: Timestamp,
    /// What has ended it, if anything.
    pub over: Option<Over>,
    pub(super) issued_at: Timestamp,
}

/// The end of a listed session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Over {
    /// Why.
    pub reason: EndReason,
    /// When, where that is known: of a session that was ended together with others only once it has been seen again.
    pub at: Option<Timestamp>,
}

/// So many reads are on their way at once.
const AT_ONCE: usize = 64;

type Found = ([u8; 32], String, Line);

impl Roster {
    /// The sessions of `subject`, or of everybody without one, at most `limit`, from `after` on.
    ///
    /// # Errors
    /// If the ledger cannot be asked.
    pub async fn list(
        self: &Arc<Self>,
        subject: Option<&str>,
        limit: usize,
        after: Option<Cursor>,
    ) -> Result<Page, StoreError> {
        let mut found = match subject {
            Some(subject) => self.lines_of(vec![subject.to_owned()], after).await?,
            None => self.lines(limit.saturating_add(1), after).await?,
        };
        let more = found.len() > limit;
        found.truncate(limit);
        let next = found.last().filter(|_| more).map(|(sheet, _, line)| Cursor::behind(*sheet, line));
        Ok(Page { sessions: self.with_endings(found).await?, next })
    }

    /// At least so many lines from `after` on, if there are as many.
    async fn lines(self: &Arc<Self>, wanted: usize, after: Option<Cursor>) -> Result<Vec<Found>, StoreError> {
        let now = self.seams.clock.now();
        let mut found = Vec::new();
        let first = after.map_or(0, |after| part_of(&after.sheet));
        let parts: Vec<u16> = (first..PARTS).collect();
        for parts in parts.chunks(AT_ONCE) {
            let read = parts.iter().map(|part| {
                let (roster, key) = (Arc::clone(self), self.part_key(*part));
                async move { roster.read::<Directory>(key).await }
            });
            let listed = in_order(read.collect()).await?.into_iter().flat_map(|part| part.subjects);
            let subjects: BTreeMap<[u8; 32], String> = listed
                .filter(|(_, until)| *until > now)
                .map(|(subject, _)| (self.sheet_hash(&subject), subject))
                .filter(|(sheet, _)| after.is_none_or(|after| *sheet >= after.sheet))
                .collect();
            let subjects: Vec<String> = subjects.into_values().collect();
            for subjects in subjects.chunks(AT_ONCE) {
                found.extend(self.lines_of(subjects.to_vec(), after).await?);
                if found.len() >= wanted {
                    return Ok(found);
                }
            }
        }
        Ok(found)
    }

    /// The lines of these subjects' sheets that come after `after`.
    pub(super) async fn lines_of(
        self: &Arc<Self>,
        subjects: Vec<String>,
        after: Option<Cursor>,
    ) -> Result<Vec<Found>, StoreError> {
        let now = self.seams.clock.now();
        let read = subjects.into_iter().map(|subject| {
            let (roster, sheet) = (Arc::clone(self), self.sheet_hash(&subject));
            async move { roster.read::<Sheet>(Key::Roster(sheet)).await.map(|found| (sheet, subject, found)) }
        });
        let sheets = in_order(read.collect()).await?.into_iter();
        let lines = sheets.flat_map(|(sheet, subject, found)| {
            let lines = found.lines.into_iter();
            lines.map(move |line| (sheet, subject.clone(), line))
        });
        Ok(lines
            .filter(|(sheet, _, line)| line.ends > now && after.is_none_or(|after| after.is_before(sheet, line)))
            .collect())
    }

    /// What has become of the sessions that these lines stand for.
    pub(super) async fn with_endings(self: &Arc<Self>, found: Vec<Found>) -> Result<Vec<Listed>, StoreError> {
        let issuer = self.policy.issuer.as_str();
        let keys: BTreeSet<Key> = found
            .iter()
            .flat_map(|(_, subject, line)| line.lineage(issuer, subject).keys().collect::<Vec<_>>())
            .collect();
        let read = keys.into_iter().map(|key| {
            let ledger = Arc::clone(&self.seams.ledger);
            async move { ledger.tombstone_under(key).await.map(|tombstone| (key, tombstone)) }
        });
        let tombstones: BTreeMap<Key, Option<Tombstone>> = in_order(read.collect()).await?.into_iter().collect();
        let read = found.iter().map(|(_, _, line)| {
            let (ledger, id) = (Arc::clone(&self.seams.ledger), line.id);
            async move { ledger.ending(id).await }
        });
        let endings = in_order(read.collect()).await?;
        let now = self.seams.clock.now();
        let listed = found.into_iter().zip(endings).map(|((sheet, subject, line), ending)| {
            let lineage = line.lineage(issuer, &subject);
            let covers = |tombstone: &Tombstone| line.issued_at <= tombstone.issued_until;
            let buried = lineage.keys().filter_map(|key| tombstones.get(&key).copied().flatten()).find(covers);
            let over = over(&line, ending, buried, self.idle, now);
            Listed {
                handle: SessionHandle { id: line.id, sheet },
                subject,
                issuer_session: line.issuer_session.is_some(),
                device: line.device,
                since: line.since,
                last_seen: line.seen,
                ends: line.ends,
                over,
                issued_at: line.issued_at,
            }
        });
        Ok(listed.collect())
    }
}

/// The end of a session: its own, that of its kind, or that nobody has used it for longer than it may rest.
fn over(
    line: &Line,
    ending: Option<Ending>,
    buried: Option<Tombstone>,
    idle: Duration,
    now: Timestamp,
) -> Option<Over> {
    let own = ending.map(|ending| Over { reason: ending.reason, at: Some(ending.at) });
    let with_others = || buried.map(|tombstone| Over { reason: tombstone.reason, at: None });
    let rested = || {
        let at = line.seen + idle;
        (at + STALE <= now).then_some(Over { reason: EndReason::Idle, at: Some(at) })
    };
    own.or_else(with_others).or_else(rested)
}

/// Does all of `work`, some of it at once, and returns what comes of it in the order of `work`.
pub(super) async fn in_order<T: Send + 'static>(
    work: Vec<impl Future<Output = Result<T, StoreError>> + Send + 'static>,
) -> Result<Vec<T>, StoreError> {
    let mut running = JoinSet::new();
    let mut done = BTreeMap::new();
    let mut work = work.into_iter().enumerate();
    loop {
        while running.len() < AT_ONCE
            && let Some((place, next)) = work.next()
        {
            running.spawn(async move { (place, next.await) });
        }
        match running.join_next().await {
            None => return Ok(done.into_values().collect()),
            Some(Ok((place, result))) => drop(done.insert(place, result?)),
            Some(Err(error)) => return Err(StoreError::Unreachable(error.to_string())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::SessionId;

    #[test]
    fn a_session_is_over_for_the_first_reason_that_is_known() {
        let at = Timestamp::from_secs;
        let line = Line {
            id: SessionId::from_bytes([1; 16]),
            device: Device::default(),
            issuer_session: None,
            issued_at: at(100),
            since: at(100),
            seen: at(200),
            ends: at(9_000),
        };
        let ending = Ending { reason: EndReason::Logout, at: at(300), newest: 1, revoke_on_sight: false };
        let tombstone = Tombstone { reason: EndReason::IssuerLogout, issued_until: at(100), keep_until: at(9_000) };
        let over = |ending, buried, now| {
            over(&line, ending, buried, Duration::from_secs(3_600), at(now)).map(|over| (over.reason, over.at))
        };
        assert_eq!(over(None, None, 4_099), None);
        assert_eq!(over(None, None, 4_100), Some((EndReason::Idle, Some(at(3_800)))));
        assert_eq!(over(None, Some(tombstone), 4_100), Some((EndReason::IssuerLogout, None)));
        assert_eq!(over(Some(ending), Some(tombstone), 4_100), Some((EndReason::Logout, Some(at(300)))));
    }

    #[tokio::test]
    async fn what_is_done_at_once_comes_in_order_and_fails_as_one() {
        let wait = |place: u64| async move {
            tokio::time::sleep(Duration::from_millis(200 - place)).await;
            Ok(place)
        };
        assert_eq!(in_order((0..200).map(wait).collect()).await, Ok((0..200).collect()));
        let fail = |place: u64| async move { if place == 70 { Err(StoreError::Corrupt) } else { Ok(place) } };
        assert_eq!(in_order((0..200).map(fail).collect()).await, Err(StoreError::Corrupt));
    }
}
