//! What is kept of who is signed in, as values: one sheet per subject, and the directory of subjects in parts. All changes
//! merge, so that replicas that write at once lose nothing of each other.

use std::cmp::Reverse;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::device::Device;
use crate::clock::Timestamp;
use crate::ledger::Key;
use crate::ledger::tombstone::Lineage;
use crate::session::SessionId;

/// At most so many sessions of one subject are listed: the newest.
pub(super) const MOST_SESSIONS: usize = 200;
/// At most so many subjects stand in one part of the directory: those whose sessions last longest. Four million in all.
pub(super) const MOST_SUBJECTS: usize = 4096;
/// A use is noted once in this time, at most.
const APART: Duration = Duration::from_secs(60);
/// Limits in the directory are rounded up to this, so that it is not written at every login.
const ROUND: u64 = 3600;

/// One session, as an administrator may see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Line {
    pub(super) id: SessionId,
    pub(super) device: Device,
    pub(super) issuer_session: Option<Key>,
    pub(super) issued_at: Timestamp,
    pub(super) since: Timestamp,
    pub(super) seen: Timestamp,
    pub(super) ends: Timestamp,
}

impl Line {
    /// By what the session can be ended together with others.
    pub(super) fn lineage(&self, issuer: &str, subject: &str) -> Lineage {
        Lineage {
            subject: Some(Key::subject(issuer, subject)),
            any_tenant: None,
            issuer_session: self.issuer_session,
            everyone: Key::everyone(issuer),
            issued_at: self.issued_at,
        }
    }

    /// Its place among the lines of its sheet: the newest first.
    pub(super) const fn place(&self) -> (Reverse<Timestamp>, SessionId) {
        (Reverse(self.since), self.id)
    }
}

/// The sessions of one subject.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Sheet {
    pub(super) subject: String,
    /// In the order of their places.
    pub(super) lines: Vec<Line>,
}

impl Sheet {
    /// Enters `line`, or what it says newer of a session that is entered. Forgets what is over by its limit, and the oldest
    /// where there are too many. Says whether anything is worth writing.
    pub(super) fn enter(&mut self, line: &Line, now: Timestamp) -> bool {
        self.lines.retain(|known| known.ends > now);
        let changed = match self.lines.iter_mut().find(|known| known.id == line.id) {
            Some(known) => {
                let device = line.device.or(known.device);
                let changed = device != known.device || known.seen + APART <= line.seen;
                known.seen = known.seen.max(line.seen);
                known.device = device;
                changed
            }
            None => {
                self.lines.push(line.clone());
                self.lines.sort_by_key(Line::place);
                self.lines.truncate(MOST_SESSIONS);
                self.lines.iter().any(|known| known.id == line.id)
            }
        };
        changed && line.ends > now
    }

    /// Until when it has to be kept.
    pub(super) fn keep_until(&self) -> Timestamp {
        self.lines.iter().map(|line| line.ends).max().unwrap_or_default()
    }
}

/// Subjects with sessions, and until when there may be some.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Directory {
    pub(super) subjects: Vec<(String, Timestamp)>,
}

impl Directory {
    /// Enters `subject`, which has a session until `ends`. Forgets those that have none any more. Says whether anything is
    /// worth writing.
    pub(super) fn enter(&mut self, subject: &str, ends: Timestamp, now: Timestamp) -> bool {
        self.subjects.retain(|(_, until)| *until > now);
        let until = Timestamp::from_secs(ends.as_secs().div_euclid(ROUND).saturating_add(1).saturating_mul(ROUND));
        match self.subjects.iter_mut().find(|(known, _)| known == subject) {
            Some((_, known)) if *known >= until => return false,
            Some((_, known)) => *known = until,
            None => self.subjects.push((subject.to_owned(), until)),
        }
        if self.subjects.len() > MOST_SUBJECTS {
            self.subjects.sort_by(|left, right| right.1.cmp(&left.1).then_with(|| left.0.cmp(&right.0)));
            self.subjects.truncate(MOST_SUBJECTS);
        }
        true
    }

    /// Until when it has to be kept.
    pub(super) fn keep_until(&self) -> Timestamp {
        self.subjects.iter().map(|(_, until)| *until).max().unwrap_or_default()
    }
}

/// What is sealed. A later form is another variant, which this release refuses to read.
#[derive(Serialize, Deserialize)]
pub(super) enum Form<T> {
    V1(T),
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(1_000);

    fn line(number: u8, since: u64) -> Line {
        Line {
            id: SessionId::from_bytes([number; 16]),
            device: Device::default(),
            issuer_session: None,
            issued_at: Timestamp::from_secs(since),
            since: Timestamp::from_secs(since),
            seen: Timestamp::from_secs(since),
            ends: Timestamp::from_secs(since + 3600),
        }
    }

    fn sheet(lines: &[Line]) -> Sheet {
        let mut sheet = Sheet::default();
        for line in lines {
            sheet.enter(line, NOW);
        }
        sheet
    }

    #[test]
    fn a_use_is_written_when_a_minute_has_passed_since_the_last_one() {
        let mut sheet = sheet(&[line(1, 900)]);
        let seen = |second| Line { seen: Timestamp::from_secs(second), ..line(1, 900) };
        assert!(!sheet.enter(&seen(959), NOW));
        assert!(sheet.enter(&seen(1_020), NOW));
        assert!(!sheet.enter(&seen(960), NOW));
        assert_eq!(sheet.lines[0].seen, Timestamp::from_secs(1_020));
    }

    #[test]
    fn what_is_over_by_its_limit_is_forgotten() {
        let mut sheet = sheet(&[line(1, 900), line(2, 950)]);
        let later = Timestamp::from_secs(900 + 3600);
        assert!(sheet.enter(&line(3, 4_000), later));
        assert_eq!(sheet.lines.iter().map(|line| line.id.as_bytes()[0]).collect::<Vec<_>>(), [3, 2]);
        assert_eq!(sheet.keep_until(), Timestamp::from_secs(7_600));
        assert!(!sheet.enter(&line(4, 500), later), "it is over already");
    }

    #[test]
    fn of_too_many_sessions_the_newest_stay() {
        let mut sheet = Sheet::default();
        for number in 0..=MOST_SESSIONS {
            let mut line = line(0, 500 + number as u64);
            line.id = SessionId::from_bytes((number as u128).to_be_bytes());
            assert!(sheet.enter(&line, NOW));
        }
        assert_eq!(sheet.lines.len(), MOST_SESSIONS);
        assert_eq!(sheet.lines.last().map(|line| line.since), Some(Timestamp::from_secs(501)));
        assert!(!sheet.enter(&line(9, 400), NOW), "the oldest is not let in");
    }

    #[test]
    fn the_directory_is_written_once_an_hour_of_logins_at_most() {
        let mut directory = Directory::default();
        let at = |second| Timestamp::from_secs(second);
        assert!(directory.enter("ada", at(7_000), NOW));
        assert_eq!(directory.keep_until(), at(7_200));
        assert!(!directory.enter("ada", at(7_199), NOW));
        assert!(directory.enter("ada", at(7_200), NOW));
        assert!(directory.enter("bob", at(5_000), NOW));
        assert!(!directory.enter("bob", at(4_000), NOW));
        assert!(directory.enter("eve", at(90_000), at(7_200)));
        assert_eq!(directory.subjects.iter().map(|(subject, _)| subject.as_str()).collect::<Vec<_>>(), ["ada", "eve"]);
    }

    #[test]
    fn a_part_of_the_directory_is_bounded() {
        let mut directory = Directory::default();
        for number in 0..MOST_SUBJECTS + 10 {
            assert!(directory.enter(&format!("{number}"), Timestamp::from_secs(3_600 * (number as u64 + 1)), NOW));
        }
        assert_eq!(directory.subjects.len(), MOST_SUBJECTS);
        assert!(directory.subjects.iter().all(|(subject, _)| subject.parse::<usize>().unwrap() >= 10));
    }

    proptest! {
        /// Replicas write in any order, and twice.
        #[test]
        fn the_order_of_entries_does_not_matter(order in Just((0_u8..12).chain(0..6).collect::<Vec<_>>()).prop_shuffle()) {
            let lines = |order: &[u8]| sheet(&order.iter().map(|number| line(*number, 900 + u64::from(number % 5))).collect::<Vec<_>>());
            prop_assert_eq!(lines(&order), lines(&(0..12).collect::<Vec<_>>()));
        }
    }
}
