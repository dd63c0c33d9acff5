//! What a request asks of a file beyond its name: a coding, a range, or nothing if it has not changed.

use std::ops::RangeInclusive;
use std::time::SystemTime;

use http::header::{ACCEPT_ENCODING, HeaderMap, HeaderName, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, RANGE};
use http::request::Parts;
use http::{HeaderValue, Method};
use http_range_header::{EndPosition, RangeUnsatisfiableError, StartPosition, parse_range_header};

/// A content coding that a file may lie in beside its plain form (RFC 9110 section 8.4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Coding {
    /// Brotli.
    Brotli,
    /// Zstandard.
    Zstandard,
    /// Gzip.
    Gzip,
}

impl Coding {
    /// All codings, the one we prefer first.
    pub(super) const ALL: [Self; 3] = [Self::Brotli, Self::Zstandard, Self::Gzip];

    /// The name in header fields.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Brotli => "br",
            Self::Zstandard => "zstd",
            Self::Gzip => "gzip",
        }
    }

    /// What the name of the compressed file ends in.
    pub(super) const fn suffix(self) -> &'static str {
        match self {
            Self::Brotli => ".br",
            Self::Zstandard => ".zst",
            Self::Gzip => ".gz",
        }
    }
}

/// The coding that `Accept-Encoding` prefers among those `available`, which come in the order of our preference; none
/// for the plain form (RFC 9110 section 12.5.3).
pub(super) fn negotiate(headers: &HeaderMap, available: impl Iterator<Item = Coding>) -> Option<Coding> {
    let accepted: Vec<_> = list(headers, &ACCEPT_ENCODING).filter_map(weighted).collect();
    let weight = |name: &str| {
        let stated =
            |name: &str| accepted.iter().find(|(it, _)| it.eq_ignore_ascii_case(name)).map(|(_, weight)| *weight);
        stated(name).or_else(|| stated("*"))
    };
    // The plain form needs no mention to be acceptable, but whatever is mentioned is preferred to it.
    let plain = weight("identity").unwrap_or(0);
    let mut best = (None, plain.max(1));
    for coding in available {
        let weight = weight(coding.name()).unwrap_or(0);
        // At the same weight, a compressed form beats the plain one and an earlier coding a later one.
        if weight > best.1 || (weight == best.1 && best.0.is_none()) {
            best = (Some(coding), weight);
        }
    }
    best.0
}

/// An element of `Accept-Encoding`: the coding and its weight in thousandths.
fn weighted(element: &str) -> Option<(&str, u16)> {
    let (coding, parameters) = element.split_once(';').unwrap_or((element, ""));
    let weight = match parameters.trim().split_once('=') {
        None => 1000,
        Some((name, value)) if name.trim().eq_ignore_ascii_case("q") => thousandths(value.trim())?,
        Some(_) => return None,
    };
    Some((coding.trim(), weight))
}

/// A weight (RFC 9110 section 12.4.2).
fn thousandths(text: &str) -> Option<u16> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if fraction.len() > 3 || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let fraction: u16 = format!("{fraction:0<3}").parse().ok()?;
    match whole {
        "0" => Some(fraction),
        "1" if fraction == 0 => Some(1000),
        _ => None,
    }
}

/// What a cache compares.
pub(super) struct Validators<'a> {
    /// The entity tag, a strong one.
    pub(super) etag: &'a HeaderValue,
    /// The time of the last modification, in whole seconds.
    pub(super) modified: Option<SystemTime>,
}

/// Whether what the browser has is still good (RFC 9110 section 13.2.2): by its tags, else by its date.
pub(super) fn is_fresh(headers: &HeaderMap, validators: &Validators<'_>) -> bool {
    if headers.contains_key(IF_NONE_MATCH) {
        let weak = |tag: &str| tag.strip_prefix("W/").unwrap_or(tag).as_bytes() == validators.etag.as_bytes();
        // Our tags contain no comma, so where somebody else's is cut in two does not matter.
        return list(headers, &IF_NONE_MATCH).any(|tag| tag == "*" || weak(tag));
    }
    let since = only(headers, &IF_MODIFIED_SINCE).and_then(|text| httpdate::parse_http_date(text).ok());
    validators.modified.zip(since).is_some_and(|(modified, since)| modified <= since)
}

/// How much of a file a request wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// All of it.
    Whole,
    /// These bytes, which exist.
    Part(RangeInclusive<usize>),
    /// Bytes beyond its end.
    Unsatisfiable,
}

/// How much a request wants of a file of `len` bytes. What we do not support is ignored (RFC 9110 section 14.2): several
/// ranges at once, other units, other methods than `GET`.
pub(super) fn wanted(request: &Parts, validators: &Validators<'_>, len: usize) -> Wanted {
    let headers = &request.headers;
    match only(headers, &RANGE) {
        Some(range) if request.method == Method::GET && holds_if_range(headers, validators) => resolve(range, len),
        Some(_) | None => Wanted::Whole,
    }
}

/// Whether the rest of the file still fits to what the browser has of it (RFC 9110 section 13.1.5, strong comparison).
fn holds_if_range(headers: &HeaderMap, validators: &Validators<'_>) -> bool {
    if !headers.contains_key(IF_RANGE) {
        return true;
    }
    let Some(condition) = only(headers, &IF_RANGE) else { return false };
    if condition.contains('"') {
        return condition.as_bytes() == validators.etag.as_bytes();
    }
    httpdate::parse_http_date(condition).is_ok_and(|date| validators.modified == Some(date))
}

fn resolve(range: &str, len: usize) -> Wanted {
    let parsed = match parse_range_header(range) {
        Ok(parsed) => parsed,
        Err(RangeUnsatisfiableError::ZeroSuffix) => return Wanted::Unsatisfiable,
        Err(_) => return Wanted::Whole,
    };
    let [range] = parsed.ranges.as_slice() else { return Wanted::Whole };
    // A number that does not fit lies beyond the end of everything.
    let position = |at: u64| usize::try_from(at).unwrap_or(usize::MAX);
    let (first, last) = match (range.start, range.end) {
        (StartPosition::FromLast(count), _) => (len.saturating_sub(position(count)), usize::MAX),
        (StartPosition::Index(first), EndPosition::LastByte) => (position(first), usize::MAX),
        (StartPosition::Index(first), EndPosition::Index(last)) if first > last => return Wanted::Whole,
        (StartPosition::Index(first), EndPosition::Index(last)) => (position(first), position(last)),
    };
    match len.checked_sub(1) {
        Some(end) if first <= end => Wanted::Part(first..=last.min(end)),
        Some(_) | None => Wanted::Unsatisfiable,
    }
}

/// The elements of a list field, over all its lines (RFC 9110 section 5.6.1).
fn list<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    let lines = headers.get_all(name).into_iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(',')).map(str::trim).filter(|element| !element.is_empty())
}

/// The value of a field that must not be repeated; none if it is missing or ambiguous.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut lines = headers.get_all(name).iter();
    lines.next().filter(|_| lines.next().is_none())?.to_str().ok()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    const ETAG: HeaderValue = HeaderValue::from_static("\"abc\"");
    const DATE: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    const EARLIER: &str = "Sun, 06 Nov 1994 08:49:36 GMT";

    fn validators() -> Validators<'static> {
        static TAG: HeaderValue = ETAG;
        Validators { etag: &TAG, modified: Some(SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777)) }
    }

    fn request(method: Method, fields: &[(&str, &str)]) -> Parts {
        let mut builder = http::Request::builder().method(method);
        for (name, value) in fields {
            builder = builder.header(*name, *value);
        }
        builder.body(()).expect("a request").into_parts().0
    }

    fn negotiated(lines: &[&str]) -> Option<Coding> {
        let fields: Vec<_> = lines.iter().map(|line| ("accept-encoding", *line)).collect();
        negotiate(&request(Method::GET, &fields).headers, Coding::ALL.into_iter())
    }

    #[test]
    fn the_coding_with_the_highest_weight_wins_and_ours_decides_a_tie() {
        for (lines, expected) in [
            (&["gzip, deflate, br, zstd"][..], Some(Coding::Brotli)),
            (&["gzip", "zstd"], Some(Coding::Zstandard)),
            (&["GZIP"], Some(Coding::Gzip)),
            (&["br;q=0.5, gzip;q=0.8"], Some(Coding::Gzip)),
            (&["br;q=0.001"], Some(Coding::Brotli)),
            (&["br ; Q = 1.000 , gzip;q=0.999"], Some(Coding::Brotli)),
            (&["*"], Some(Coding::Brotli)),
            (&["*;q=0.5, br;q=0"], Some(Coding::Zstandard)),
            (&["identity, gzip;q=0.5"], None),
            (&["identity;q=0.5, gzip;q=0.5"], Some(Coding::Gzip)),
            (&["identity;q=0, gzip"], Some(Coding::Gzip)),
            (&["br;q=0, gzip;q=0.000"], None),
            (&["*;q=0"], None),
            (&["deflate"], None),
            (&[""], None),
            (&[], None),
            // What cannot be read is not accepted.
            (&["br;q=2"], None),
            (&["br;q=1.001"], None),
            (&["br;q=0.1234, gzip"], Some(Coding::Gzip)),
            (&["br;q=-1"], None),
            (&["br;q="], None),
            (&["br;level=1"], None),
        ] {
            assert_eq!(negotiated(lines), expected, "{lines:?}");
        }
    }

    #[test]
    fn a_tag_that_the_browser_knows_is_fresh_even_if_marked_weak() {
        let fresh = |fields: &[(&str, &str)]| is_fresh(&request(Method::GET, fields).headers, &validators());
        for tags in ["\"abc\"", "W/\"abc\"", "*", "\"x\", \"abc\"", "\"x,y\",W/\"z\",\"abc\""] {
            assert!(fresh(&[("if-none-match", tags)]), "{tags}");
        }
        assert!(fresh(&[("if-none-match", "\"x\""), ("if-none-match", "\"abc\"")]));
        for tags in ["\"abcd\"", "abc", "", "w/\"abc\"", "\"ABC\"", "\"**\""] {
            assert!(!fresh(&[("if-none-match", tags)]), "{tags}");
        }
    }

    #[test]
    fn a_date_counts_only_where_no_tag_is_given() {
        let fresh = |fields: &[(&str, &str)]| is_fresh(&request(Method::GET, fields).headers, &validators());
        assert!(fresh(&[("if-modified-since", DATE)]));
        assert!(fresh(&[("if-modified-since", "Sunday, 06-Nov-94 08:49:37 GMT")]));
        assert!(!fresh(&[("if-modified-since", EARLIER)]));
        assert!(!fresh(&[("if-modified-since", "yesterday")]));
        assert!(!fresh(&[("if-modified-since", DATE), ("if-modified-since", DATE)]));
        assert!(!fresh(&[("if-none-match", "\"x\""), ("if-modified-since", DATE)]));
        assert!(!fresh(&[]));
        let undated = Validators { modified: None, ..validators() };
        assert!(!is_fresh(&request(Method::GET, &[("if-modified-since", DATE)]).headers, &undated));
    }

    #[test]
    fn one_range_is_served_and_everything_odd_is_the_whole_file() {
        let ask = |range: &str, len| wanted(&request(Method::GET, &[("range", range)]), &validators(), len);
        for (range, expected) in [
            ("bytes=0-0", Wanted::Part(0..=0)),
            ("bytes=2-5", Wanted::Part(2..=5)),
            ("bytes=2-", Wanted::Part(2..=9)),
            ("bytes=2-99999999999999", Wanted::Part(2..=9)),
            ("bytes=-3", Wanted::Part(7..=9)),
            ("bytes=-30", Wanted::Part(0..=9)),
            ("bytes=9-9", Wanted::Part(9..=9)),
            ("bytes=10-", Wanted::Unsatisfiable),
            ("bytes=10-20", Wanted::Unsatisfiable),
            ("bytes=18446744073709551615-", Wanted::Unsatisfiable),
            ("bytes=-0", Wanted::Unsatisfiable),
            ("bytes=5-2", Wanted::Whole),
            ("bytes=0-1,3-4", Wanted::Whole),
            ("bytes=", Wanted::Whole),
            ("bytes=a-b", Wanted::Whole),
            ("bytes=--1", Wanted::Whole),
            ("bytes=99999999999999999999-", Wanted::Whole),
            ("lines=0-1", Wanted::Whole),
            ("", Wanted::Whole),
        ] {
            assert_eq!(ask(range, 10), expected, "{range}");
        }
        assert_eq!(ask("bytes=0-", 0), Wanted::Unsatisfiable);
        assert_eq!(ask("bytes=-1", 0), Wanted::Unsatisfiable);
        let twice = request(Method::GET, &[("range", "bytes=0-1"), ("range", "bytes=3-4")]);
        assert_eq!(wanted(&twice, &validators(), 10), Wanted::Whole);
        let head = request(Method::HEAD, &[("range", "bytes=0-1")]);
        assert_eq!(wanted(&head, &validators(), 10), Wanted::Whole);
    }

    #[test]
    fn a_rest_is_served_only_of_the_very_file_that_was_begun() {
        let ask = |condition: &str| {
            let request = request(Method::GET, &[("range", "bytes=2-"), ("if-range", condition)]);
            wanted(&request, &validators(), 10)
        };
        for condition in ["\"abc\"", DATE] {
            assert_eq!(ask(condition), Wanted::Part(2..=9), "{condition}");
        }
        let later = "Sun, 06 Nov 1994 08:49:38 GMT";
        for condition in ["W/\"abc\"", "\"x\"", "*", "", EARLIER, later, "abc"] {
            assert_eq!(ask(condition), Wanted::Whole, "{condition}");
        }
    }

    proptest! {
        #[test]
        fn whatever_range_is_asked_lies_within_the_file(range in "(bytes=)?[0-9a-z,= -]{0,30}", len in 0_usize..50) {
            let request = request(Method::GET, &[("range", &range)]);
            match wanted(&request, &validators(), len) {
                Wanted::Part(part) => prop_assert!(part.start() <= part.end() && *part.end() < len),
                Wanted::Whole | Wanted::Unsatisfiable => {}
            }
        }

        #[test]
        fn no_accept_encoding_makes_us_panic_or_send_what_is_refused(line in "[a-z0-9*;=., ]{0,40}") {
            let fields = [("accept-encoding", line.as_str())];
            let _ = negotiate(&request(Method::GET, &fields).headers, Coding::ALL.into_iter());
            let refused = format!("br;q=0, {line}");
            let fields = [("accept-encoding", refused.as_str())];
            let chosen = negotiate(&request(Method::GET, &fields).headers, Coding::ALL.into_iter());
            prop_assert_ne!(chosen, Some(Coding::Brotli));
        }
    }
}
