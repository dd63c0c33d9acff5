//! What can be seen of a record from outside.

use vestibule::clock::Timestamp;
use vestibule::ledger::protocol::{Change, Ending, Record};

/// What a record says to the outside.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Facts {
    pub(super) newest: u64,
    pub(super) settled: u64,
    pub(super) ending: Option<Ending>,
    pub(super) has_body: bool,
}

/// How a record begins: its newest generation, the settled one, when it was shown, and its body.
type Beginning = (u64, u64, Option<Timestamp>, Option<Vec<u8>>);

impl Facts {
    pub(super) fn of(bytes: Option<&[u8]>) -> Self {
        let Some(bytes) = bytes else { return Self::default() };
        let record: Record = postcard::from_bytes(bytes).unwrap();
        let (beginning, _): (Beginning, _) = postcard::take_from_bytes(bytes).unwrap();
        let mut facts = Self { has_body: beginning.3.is_some(), ..Self::default() };
        for change in record.state() {
            match change {
                Change::Advanced(newest) => facts.newest = newest,
                Change::Settled(settled) => facts.settled = settled,
                Change::Ended(ending) => facts.ending = Some(ending),
            }
        }
        facts
    }
}
