//! Names for administrators: of one session, and of a place in a list of them. Neither opens anything.

use std::cmp::Reverse;
use std::fmt;
use std::str::FromStr;

use super::lists::Line;
use super::{from_text, text};
use crate::clock::Timestamp;
use crate::session::SessionId;

/// Names a listed session: its id, and where it is listed. Whoever holds it can ask an administrator's listener to end the
/// session, and nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionHandle {
    pub(super) id: SessionId,
    pub(super) sheet: [u8; 32],
}

/// A place in the list: what comes after it has not been told yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    pub(super) sheet: [u8; 32],
    since: Timestamp,
    id: SessionId,
}

/// The text is none that was handed out here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is none that was told here")]
pub struct NotOurs;

impl Cursor {
    pub(super) const fn behind(sheet: [u8; 32], line: &Line) -> Self {
        Self { sheet, since: line.since, id: line.id }
    }

    /// Whether a line comes after this place.
    pub(super) fn is_before(&self, sheet: &[u8; 32], line: &Line) -> bool {
        (self.sheet, (Reverse(self.since), self.id)) < (*sheet, line.place())
    }
}

impl fmt::Display for SessionHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&text(&[self.id.as_bytes().as_slice(), &self.sheet].concat()))
    }
}

impl FromStr for SessionHandle {
    type Err = NotOurs;

    fn from_str(given: &str) -> Result<Self, NotOurs> {
        let bytes = from_text(given.as_bytes()).ok_or(NotOurs)?;
        let (id, rest) = bytes.split_first_chunk().ok_or(NotOurs)?;
        let sheet = rest.try_into().map_err(|_| NotOurs)?;
        Ok(Self { id: SessionId::from_bytes(*id), sheet })
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let since = self.since.as_millis().to_be_bytes();
        f.write_str(&text(&[self.sheet.as_slice(), &since, self.id.as_bytes()].concat()))
    }
}

impl FromStr for Cursor {
    type Err = NotOurs;

    fn from_str(given: &str) -> Result<Self, NotOurs> {
        let bytes = from_text(given.as_bytes()).ok_or(NotOurs)?;
        let (sheet, rest) = bytes.split_first_chunk().ok_or(NotOurs)?;
        let (since, rest) = rest.split_first_chunk().ok_or(NotOurs)?;
        let id = rest.try_into().map_err(|_| NotOurs)?;
        let since = Timestamp::from_millis(u64::from_be_bytes(*since));
        Ok(Self { sheet: *sheet, since, id: SessionId::from_bytes(id) })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_are_read_as_they_were_written() {
        let (id, sheet) = (SessionId::from_bytes([7; 16]), [9; 32]);
        let handle = SessionHandle { id, sheet };
        assert_eq!((handle.to_string().len(), handle.to_string().parse()), (64, Ok(handle)));
        let cursor = Cursor { sheet, since: Timestamp::from_millis(5), id };
        assert_eq!(cursor.to_string().parse(), Ok(cursor));
        assert_eq!(handle.to_string().parse::<Cursor>(), Err(NotOurs));
        assert_eq!(cursor.to_string().parse::<SessionHandle>(), Err(NotOurs));
    }

    proptest! {
        #[test]
        fn no_text_makes_reading_panic(text in "[A-Za-z0-9_=-]{0,90}") {
            let (handle, cursor) = (text.parse::<SessionHandle>(), text.parse::<Cursor>());
            prop_assert!(handle.is_err() || cursor.is_err());
        }
    }
}
