//! The cookies that a browser presents. They are taken as bytes and never decoded.

use std::io::BufRead;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header};

use super::chunks::{self, Assembled, MAX_CHUNKS, Presented};
use super::cookies::{CookieNames, Own};

/// The cookies of one request, over however many fields they came (RFC 9113 section 8.2.3).
pub struct RequestCookies<'a> {
    pairs: Vec<Pair<'a>>,
}

impl<'a> RequestCookies<'a> {
    /// Reads the cookies in one pass. Nothing that a client sends makes it fail.
    pub fn new(headers: &'a HeaderMap) -> Self {
        let fields = headers.get_all(header::COOKIE).iter();
        Self { pairs: fields.flat_map(|field| Pairs(field.as_bytes())).collect() }
    }

    /// The session cookie, joined from its chunks.
    pub fn session(&self, names: &CookieNames) -> Assembled<'a> {
        let mut found = [Presented::Absent; MAX_CHUNKS];
        for pair in &self.pairs {
            let (Some(Own::Chunk(index)), Some(value)) = (names.own(pair.name), pair.value) else { continue };
            if let Some(chunk) = found.get_mut(index) {
                *chunk = chunk.and(value);
            }
        }
        chunks::reassemble(|index| found.get(index).copied().unwrap_or_default())
    }

    /// The value of the cookie for the login that `state` stands for; `None` also if there are several that differ.
    pub fn login(&self, names: &CookieNames, state: &str) -> Option<&'a [u8]> {
        let name = names.login_name(state);
        let values = self.pairs.iter().filter(|pair| pair.name == name.as_bytes()).filter_map(|pair| pair.value);
        match values.fold(Presented::Absent, Presented::and) {
            Presented::Once(value) => Some(value),
            Presented::Absent | Presented::Conflicting => None,
        }
    }

    /// The names of the login cookies, each once, in the order presented: browsers put the oldest first.
    ///
    /// At most 32, so that a request with thousands does not get a response with thousands.
    pub fn login_names(&self, names: &CookieNames) -> Vec<&'a str> {
        self.own_names(names, |own| own == Own::Login)
    }

    /// The names of the session cookies, those of leftover chunks among them, each once, in the order presented.
    pub fn session_chunk_names(&self, names: &CookieNames) -> Vec<&'a str> {
        self.own_names(names, |own| own != Own::Login)
    }

    /// What the upstream may see: all cookies that are not ours, byte for byte, in one field. `None` if there are
    /// none.
    pub fn forwardable(&self, names: &CookieNames) -> Option<HeaderValue> {
        let mut joined = Vec::new();
        for pair in self.pairs.iter().filter(|pair| !names.is_ours(pair.name)) {
            if !joined.is_empty() {
                joined.extend_from_slice(b"; ");
            }
            joined.extend_from_slice(pair.text);
        }
        if joined.is_empty() {
            return None;
        }
        let mut value = HeaderValue::from_maybe_shared(Bytes::from(joined)).ok()?;
        value.set_sensitive(true);
        Some(value)
    }

    fn own_names(&self, names: &CookieNames, wanted: impl Fn(Own) -> bool) -> Vec<&'a str> {
        let mut found = Vec::new();
        for pair in self.pairs.iter().filter(|pair| names.own(pair.name).is_some_and(&wanted)) {
            match str::from_utf8(pair.name) {
                Ok(name) if !found.contains(&name) => found.push(name),
                Ok(_) | Err(_) => {}
            }
            if found.len() == MAX_LISTED_NAMES {
                break;
            }
        }
        found
    }
}

/// One cookie as presented, without the space around it.
struct Pair<'a> {
    text: &'a [u8],
    name: &'a [u8],
    value: Option<&'a [u8]>,
}

/// The pairs of one `Cookie` field; empty ones are passed over.
struct Pairs<'a>(&'a [u8]);

impl<'a> Iterator for Pairs<'a> {
    type Item = Pair<'a>;

    fn next(&mut self) -> Option<Pair<'a>> {
        while !self.0.is_empty() {
            let text = self.take_until_semicolon().trim_ascii();
            if text.is_empty() {
                continue;
            }
            let mut parts = text.splitn(2, |&byte| byte == b'=');
            return Some(Pair { text, name: parts.next()?, value: parts.next() });
        }
        None
    }
}

impl<'a> Pairs<'a> {
    fn take_until_semicolon(&mut self) -> &'a [u8] {
        let all = self.0;
        // On a slice this is no input and cannot fail: it is the vectorised search of the standard library, four times
        // faster over a session cookie of 3 KB than a loop, and every request pays for it.
        let length = self.0.skip_until(b';').unwrap_or(all.len());
        let text = all.get(..length).unwrap_or(all);
        text.strip_suffix(b";").unwrap_or(text)
    }
}

const MAX_LISTED_NAMES: usize = 32;

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use proptest::prelude::*;

    use super::*;

    const S: &str = "__Host-Http-vestibule";

    fn names() -> CookieNames {
        CookieNames::new(true, None).unwrap()
    }

    fn headers(fields: &[&[u8]]) -> HeaderMap {
        fields.iter().map(|field| (header::COOKIE, HeaderValue::from_bytes(field).unwrap())).collect()
    }

    /// What the one field gives, with `S` for the name of the session cookie.
    fn headers_of(field: &str) -> HeaderMap {
        headers(&[field.replace('S', S).as_bytes()])
    }

    fn session_of(field: &str) -> Assembled<'static> {
        match RequestCookies::new(&headers_of(field)).session(&names()) {
            Assembled::Whole(value) => Assembled::Whole(Cow::Owned(value.into_owned())),
            Assembled::Absent => Assembled::Absent,
            Assembled::Broken => Assembled::Broken,
        }
    }

    fn forwarded(fields: &[&[u8]]) -> Option<Vec<u8>> {
        let headers = headers(fields);
        let value = RequestCookies::new(&headers).forwardable(&names())?;
        assert!(value.is_sensitive());
        Some(value.as_bytes().to_vec())
    }

    fn whole(text: &str) -> Assembled<'static> {
        Assembled::Whole(Cow::Owned(text.as_bytes().to_vec()))
    }

    // CK-12
    #[test]
    fn the_session_is_found_wherever_it_stands() {
        for field in ["S=v", "a=b; S=v", "S=v; a=b", ";;S=v;;", " S=v ;a", "=x;S=v;=", "a=\"S=w\"; S=v", "a=b=c;S=v"] {
            assert_eq!(session_of(field), whole("v"), "{field}");
        }
        assert_eq!(session_of("a=b"), Assembled::Absent);
        assert_eq!(session_of("S"), Assembled::Absent);
    }

    #[test]
    fn a_value_is_taken_without_any_decoding() {
        assert_eq!(session_of("S=\"v\""), whole("\"v\""));
        assert_eq!(session_of("S=a=%41=b"), whole("a=%41=b"));
        assert_eq!(session_of("S="), whole(""));
    }

    // CK-23, HTTP-18
    #[test]
    fn chunks_are_joined_over_several_fields_in_any_order() {
        let one = format!("x=1; {S}-1=second");
        let two = format!("{S}-2=third");
        let three = format!("{S}=3.first");
        let headers = headers(&[one.as_bytes(), two.as_bytes(), three.as_bytes()]);
        let cookies = RequestCookies::new(&headers);
        assert_eq!(cookies.session(&names()), whole("firstsecondthird"));
        assert_eq!(cookies.session_chunk_names(&names()), [format!("{S}-1"), format!("{S}-2"), S.to_owned()]);
    }

    // CK-11
    #[test]
    fn duplicates_that_differ_break_the_session_in_either_order() {
        assert_eq!(session_of("S=evil; S=good"), Assembled::Broken);
        assert_eq!(session_of("S=good; S=evil"), Assembled::Broken);
        assert_eq!(session_of("S=good; S=evil; S=good"), Assembled::Broken);
        assert_eq!(session_of("S=2.a; S-1=b; S-1=c"), Assembled::Broken);
        assert_eq!(session_of("S=good; S=good"), whole("good"));
    }

    // CK-11
    #[test]
    fn near_names_are_not_read() {
        let near = S.to_ascii_lowercase();
        for field in [format!("{near}=evil; S=good"), format!("S=good; {near}=evil"), "S =evil; S=good".to_owned()] {
            assert_eq!(session_of(&field), whole("good"), "{field}");
        }
        assert_eq!(session_of("S-01=evil; S-0=evil; S-5=evil; S-10=evil"), Assembled::Absent);
    }

    // CK-04
    #[test]
    fn an_evicted_chunk_breaks_the_session_and_the_others_can_be_retired() {
        assert_eq!(session_of("S=3.a; S-2=c"), Assembled::Broken);
        assert_eq!(session_of("S-1=b; S-2=c"), Assembled::Broken);
        let headers = headers_of("S=3.a; S-2=c; S-2=d");
        let found = RequestCookies::new(&headers).session_chunk_names(&names());
        assert_eq!(found, [S.to_owned(), format!("{S}-2")]);
    }

    #[test]
    fn a_login_cookie_is_found_by_its_state() {
        let (names, one, two) = (names(), names().login_name("one"), names().login_name("two"));
        let text = format!("{two}=2; a=b; {one}=1; {two}=2; {S}-login-ABCDEF0123456789=x; {S}-login-12=x");
        let headers = headers(&[text.as_bytes()]);
        let cookies = RequestCookies::new(&headers);
        assert_eq!(cookies.login(&names, "one"), Some(b"1".as_slice()));
        assert_eq!(cookies.login(&names, "two"), Some(b"2".as_slice()));
        assert_eq!(cookies.login(&names, "three"), None);
        assert_eq!(cookies.login_names(&names), [two.as_str(), one.as_str()]);
        assert_eq!(cookies.session(&names), Assembled::Absent);
    }

    // CK-11
    #[test]
    fn a_login_cookie_of_two_minds_is_none() {
        let name = names().login_name("one");
        let headers = headers(&[format!("{name}=1; {name}=2").as_bytes()]);
        assert_eq!(RequestCookies::new(&headers).login(&names(), "one"), None);
    }

    // BBA-6.1-08, HTTP-18
    #[test]
    fn the_upstream_sees_foreign_cookies_only_in_one_field_byte_for_byte() {
        let login = names().login_name("state");
        let ours = format!("{S}=2.a; q=\"1, 2\"; {S}-1=b; {login}=c");
        let near = format!("{}=d; \"{S}\"=e; {S} =f; {S}; {S}-17=g; {S}-LOGIN-x=h", S.to_ascii_uppercase());
        let fields: [&[u8]; 3] = [ours.as_bytes(), b"\xe4=\xff\x80;; e=; =v;\tw", near.as_bytes()];
        assert_eq!(forwarded(&fields).unwrap(), b"q=\"1, 2\"; \xe4=\xff\x80; e=; =v; w");
        assert_eq!(forwarded(&[ours.replace("q=\"1, 2\"; ", "").as_bytes(), near.as_bytes()]), None);
        assert_eq!(forwarded(&[b" ; ;"]), None);
        assert_eq!(forwarded(&[]), None);
    }

    #[test]
    fn cookies_that_merely_resemble_ours_reach_the_upstream() {
        let field = format!("{S}x=1; {S}-theme=2; x{S}=3; vestibule=4; {S}.1=5");
        assert_eq!(forwarded(&[field.as_bytes()]).unwrap(), field.as_bytes());
    }

    #[test]
    fn a_request_with_thousands_of_login_cookies_names_a_few() {
        let text: Vec<String> =
            (0..5000).map(|index| format!("{}=x", names().login_name(&index.to_string()))).collect();
        let headers = headers(&[text.join("; ").as_bytes()]);
        assert_eq!(RequestCookies::new(&headers).login_names(&names()).len(), MAX_LISTED_NAMES);
    }

    proptest! {
        // CK-12
        #[test]
        fn reading_never_panics_and_never_forwards_ours(
            fields in proptest::collection::vec(
                proptest::collection::vec(prop_oneof![
                    Just(S.as_bytes().to_vec()), Just(b"-1".to_vec()), Just(b"-login-".to_vec()), Just(b"=".to_vec()),
                    Just(b"; ".to_vec()), Just(b"\"".to_vec()), Just(b"3.".to_vec()),
                    proptest::collection::vec(prop_oneof![Just(b'\t'), b' '..=b'~', 0x80_u8..], 0..6),
                ], 0..24).prop_map(|parts| parts.concat()),
                0..4,
            )
        ) {
            let fields: Vec<&[u8]> = fields.iter().map(Vec::as_slice).collect();
            let headers = headers(&fields);
            let (names, cookies) = (names(), RequestCookies::new(&headers));
            prop_assert!(cookies.login_names(&names).len() <= MAX_LISTED_NAMES);
            prop_assert_eq!(cookies.login(&names, "state"), None);
            let chunks = cookies.session_chunk_names(&names);
            prop_assert!(cookies.session(&names) == Assembled::Absent || !chunks.is_empty());
            if let Some(value) = cookies.forwardable(&names) {
                let again: HeaderMap = [(header::COOKIE, value.clone())].into_iter().collect();
                let again = RequestCookies::new(&again);
                prop_assert_eq!(again.session(&names), Assembled::Absent);
                prop_assert!(again.session_chunk_names(&names).is_empty() && again.login_names(&names).is_empty());
                prop_assert_eq!(again.forwardable(&names), Some(value));
            }
        }
    }
}
