//! One value over several cookies, because a browser silently drops a cookie above 4,096 bytes.
//!
//! A value that fits into one cookie is that cookie's value, unchanged. A longer one is cut, and the first piece says
//! how many there are: `3.` before the value's own text, whose alphabet has no full stop. So a missing piece is
//! noticed before anything is unsealed. Pieces of different values are noticed by unsealing: they are one ciphertext.

use std::borrow::Cow;
use std::fmt;

/// The most pieces that a value may have.
///
/// Five carry a value of 16 KiB. Many servers, and most proxies between them and a browser, accept no longer header.
pub const MAX_CHUNKS: usize = 5;

/// What a browser presented under the name of one piece.
#[must_use]
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub enum Presented<'a> {
    /// No such cookie.
    #[default]
    Absent,
    /// One cookie, or several that agree.
    Once(&'a [u8]),
    /// Several cookies that differ. None of them can be trusted to be the newest.
    Conflicting,
}

impl<'a> Presented<'a> {
    /// What a further cookie of the same name makes of this.
    pub(super) fn and(self, value: &'a [u8]) -> Self {
        match self {
            Self::Absent => Self::Once(value),
            Self::Once(other) if other == value => self,
            Self::Once(_) | Self::Conflicting => Self::Conflicting,
        }
    }
}

/// What the pieces amount to.
#[must_use]
#[derive(Clone, PartialEq, Eq)]
pub enum Assembled<'a> {
    /// There are no pieces.
    Absent,
    /// There are pieces, but not those of one value.
    Broken,
    /// All of the value. Whether it is genuine only unsealing can say.
    Whole(Cow<'a, [u8]>),
}

// A sealed value lets whoever holds it in, so neither prints one.

impl fmt::Debug for Presented<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent => f.write_str("Absent"),
            Self::Once(value) => write!(f, "Once({} bytes)", value.len()),
            Self::Conflicting => f.write_str("Conflicting"),
        }
    }
}

impl fmt::Debug for Assembled<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent => f.write_str("Absent"),
            Self::Broken => f.write_str("Broken"),
            Self::Whole(value) => write!(f, "Whole({} bytes)", value.len()),
        }
    }
}

/// Cuts `value` into pieces of at most `limit` bytes, as few as possible.
///
/// `None` if that takes more than [`MAX_CHUNKS`], or if `value` holds anything but the base64url alphabet.
pub fn split(value: &str, limit: usize) -> Option<Vec<String>> {
    if !is_base64url(value) {
        return None;
    }
    if value.len() <= limit {
        return Some(vec![value.to_owned()]);
    }
    // Beside the count there must be room for the value.
    if limit <= COUNT_BYTES {
        return None;
    }
    let count = (value.len() + COUNT_BYTES).div_ceil(limit);
    if count > MAX_CHUNKS {
        return None;
    }
    let counted = format!("{count}.{value}");
    Some(counted.as_bytes().chunks(limit).map(|piece| piece.iter().copied().map(char::from).collect()).collect())
}

/// Joins the pieces that `lookup` finds by their number, counted from 0.
///
/// What lies beyond the count that the first piece states is a leftover of a longer value, not a part of this one, and
/// does not matter: two responses that cross each other on the way to a browser can leave one behind, and no session
/// may end for that. A value in one piece is borrowed, not copied.
pub fn reassemble<'a>(lookup: impl Fn(usize) -> Presented<'a>) -> Assembled<'a> {
    let first = match lookup(0) {
        Presented::Once(first) => first,
        Presented::Conflicting => return Assembled::Broken,
        Presented::Absent if (1..MAX_CHUNKS).all(|index| lookup(index) == Presented::Absent) => {
            return Assembled::Absent;
        }
        Presented::Absent => return Assembled::Broken,
    };
    let [digit, b'.', head @ ..] = first else { return Assembled::Whole(Cow::Borrowed(first)) };
    let count = usize::from(digit.wrapping_sub(b'0'));
    if !(2..=MAX_CHUNKS).contains(&count) {
        return Assembled::Broken;
    }
    let mut whole = Vec::with_capacity(first.len() * count);
    whole.extend_from_slice(head);
    for index in 1..count {
        match lookup(index) {
            Presented::Once(piece) => whole.extend_from_slice(piece),
            Presented::Absent | Presented::Conflicting => return Assembled::Broken,
        }
    }
    Assembled::Whole(Cow::Owned(whole))
}

/// Whether `value` holds nothing but the alphabet of RFC 4648 section 5.
pub(super) fn is_base64url(value: &str) -> bool {
    value.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
}

/// Length of the count and its full stop.
const COUNT_BYTES: usize = 2;
const _: () = assert!(MAX_CHUNKS <= 9, "the count is one digit");

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn joined(pieces: &[&str]) -> Assembled<'static> {
        match reassemble(|index| pieces.get(index).map_or(Presented::Absent, |piece| Presented::Once(piece.as_bytes())))
        {
            Assembled::Whole(whole) => Assembled::Whole(Cow::Owned(whole.into_owned())),
            Assembled::Absent => Assembled::Absent,
            Assembled::Broken => Assembled::Broken,
        }
    }

    fn whole(text: &str) -> Assembled<'static> {
        Assembled::Whole(Cow::Owned(text.as_bytes().to_vec()))
    }

    #[test]
    fn a_value_that_fits_is_left_as_it_is() {
        assert_eq!(split("abcd", 4), Some(vec!["abcd".to_owned()]));
        let one = reassemble(|index| if index == 0 { Presented::Once(b"abcd") } else { Presented::Absent });
        assert!(matches!(one, Assembled::Whole(Cow::Borrowed(b"abcd"))));
    }

    #[test]
    fn a_longer_value_states_its_count_first() {
        assert_eq!(split("abcdefgh", 5), Some(vec!["2.abc".to_owned(), "defgh".to_owned()]));
        assert_eq!(split("abcdefghi", 5), Some(vec!["3.abc".to_owned(), "defgh".to_owned(), "i".to_owned()]));
        assert_eq!(joined(&["3.abc", "defgh", "i"]), whole("abcdefghi"));
    }

    #[test]
    fn nothing_needs_more_pieces_than_there_may_be() {
        assert_eq!(split(&"a".repeat(23), 5).map(|pieces| pieces.len()), Some(MAX_CHUNKS));
        assert_eq!(split(&"a".repeat(24), 5), None);
        assert_eq!(split("aaa", 2), None);
        assert_eq!(split("a", 0), None);
    }

    #[test]
    fn text_that_could_be_taken_for_a_count_or_an_attribute_is_refused() {
        for value in ["2.abc", "a;Domain=x", "a b", "a\r\n", "\u{e4}"] {
            assert_eq!(split(value, 100), None, "{value:?}");
        }
    }

    // CK-04, CRY-06
    #[test]
    fn a_missing_piece_breaks_the_value() {
        assert_eq!(joined(&["3.abc", "defgh"]), Assembled::Broken);
        assert_eq!(joined(&["3.abc"]), Assembled::Broken);
        for missing in 0..3 {
            let found = reassemble(|index| match index {
                index if index == missing || index > 2 => Presented::Absent,
                0 => Presented::Once(b"3.abc"),
                _ => Presented::Once(b"defgh"),
            });
            assert_eq!(found, Assembled::Broken, "piece {missing}");
        }
    }

    // CK-11
    #[test]
    fn a_piece_of_two_minds_breaks_the_value() {
        for disputed in 0..2 {
            let found = reassemble(|index| match index {
                index if index == disputed => Presented::Conflicting,
                0 => Presented::Once(b"2.abc"),
                1 => Presented::Once(b"def"),
                _ => Presented::Absent,
            });
            assert_eq!(found, Assembled::Broken, "piece {disputed}");
        }
    }

    // CRY-06
    #[test]
    fn a_leftover_piece_neither_joins_the_value_nor_breaks_it() {
        assert_eq!(joined(&["2.abc", "def", "leftover"]), whole("abcdef"));
        assert_eq!(joined(&["abcdef", "leftover"]), whole("abcdef"));
    }

    #[test]
    fn a_count_that_we_never_write_breaks_the_value() {
        for first in ["0.abc", "1.abc", "6.abc", "9.abc", "..abc", "a.abc"] {
            assert_eq!(joined(&[first, "b", "c", "d", "e", "f", "g"]), Assembled::Broken, "{first}");
        }
    }

    #[test]
    fn a_value_is_never_printed() {
        let printed = format!("{:?} {:?}", Presented::Once(b"hunter2"), joined(&["hunter2"]));
        assert_eq!(printed, "Once(7 bytes) Whole(7 bytes)");
    }

    proptest! {
        #[test]
        fn what_was_split_is_joined_again(length in 0_usize..30_000, limit in 0_usize..8_000) {
            let value: String = ('a'..='z').cycle().take(length).collect();
            match split(&value, limit) {
                Some(pieces) => {
                    prop_assert!(pieces.len() <= MAX_CHUNKS);
                    prop_assert!(pieces.iter().all(|piece| piece.len() <= limit));
                    let pieces: Vec<&str> = pieces.iter().map(String::as_str).collect();
                    prop_assert_eq!(joined(&pieces), whole(&value));
                }
                None => prop_assert!(limit <= COUNT_BYTES || length + COUNT_BYTES > MAX_CHUNKS * limit),
            }
        }

        #[test]
        fn joining_never_panics(
            pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..8), 0..7),
        ) {
            let found = reassemble(|index| pieces.get(index).map_or(Presented::Absent, |piece| Presented::Once(piece)));
            prop_assert_eq!(found == Assembled::Absent, pieces.is_empty());
        }
    }
}
