//! The one integration binary: Pingora is linked once, not once per file.

#![expect(clippy::string_slice, reason = "the offsets were found in the same text, and a test may panic")]

#[cfg(test)]
mod layering;
#[cfg(test)]
mod support;
