//! Our cookies among those of others: what they are called, how they are written, and that nobody else writes them.
//!
//! Our own names are matched exactly where they are read, and generously where they are stripped.

use std::sync::Arc;
use std::time::Duration;

use cookie::Cookie;
use cookie::time::OffsetDateTime;
use http::HeaderValue;
use sha2::{Digest, Sha256};

use super::chunks::{self, MAX_CHUNKS};
pub use super::presented::RequestCookies;

/// The names of one site's cookies; cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CookieNames {
    session: Arc<str>,
    secure: bool,
}

impl CookieNames {
    /// Names for a site that is reached over https if `secure`, else over plain http on this machine.
    ///
    /// `configured` replaces the name of the session cookie, prefix and all.
    ///
    /// # Errors
    ///
    /// If `configured` is not a name that a browser would keep.
    pub fn new(secure: bool, configured: Option<&str>) -> Result<Self, NameError> {
        let default = if secure { "__Host-Http-vestibule" } else { "vestibule" };
        let session = configured.unwrap_or(default);
        if session.is_empty() || session.len() > MAX_NAME_BYTES || !session.bytes().all(is_token_byte) {
            return Err(NameError::NotAToken);
        }
        // Browsers compare prefixes without regard to case (RFC 6265bis section 5.4).
        let claims = |prefix: &&str| starts_with_ignoring_case(session.as_bytes(), prefix.as_bytes());
        match SECURE_PREFIXES.into_iter().find(claims) {
            Some(prefix) if !secure => Err(NameError::PrefixNeedsHttps { prefix }),
            Some(_) | None => Ok(Self { session: session.into(), secure }),
        }
    }

    /// The name of the session cookie, which is also that of its first chunk.
    pub fn session(&self) -> &str {
        &self.session
    }

    /// The name of the cookie for the login that `state` stands for. It tells nothing about `state`.
    pub fn login_name(&self, state: &str) -> String {
        let [a, b, c, d, e, f, g, h, ..] = <[u8; 32]>::from(Sha256::digest(state));
        format!("{}{LOGIN_INFIX}{:016x}", self.session, u64::from_be_bytes([a, b, c, d, e, f, g, h]))
    }

    /// The length of the longest value that a session may have, in bytes over all chunks.
    pub fn session_capacity(&self) -> usize {
        MAX_CHUNKS * self.chunk_limit() - "5.".len()
    }

    /// Whether `name` is one of ours, or so near to one that some server might take it for one: in other case, in
    /// quotes, with space around it, with a chunk number that we never use.
    pub fn is_ours(&self, name: &[u8]) -> bool {
        let name = trim(name, |byte| !byte.is_ascii_graphic() || byte == b'"');
        let Some((start, rest)) = name.split_at_checked(self.session.len()) else { return false };
        start.eq_ignore_ascii_case(self.session.as_bytes())
            && match rest {
                [] => true,
                [b'-', number @ ..] if number.iter().all(u8::is_ascii_digit) => true,
                _ => starts_with_ignoring_case(rest, LOGIN_INFIX.as_bytes()),
            }
    }

    /// What `name` is, if it is exactly one of ours.
    pub(super) fn own(&self, name: &[u8]) -> Option<Own> {
        match name.strip_prefix(self.session.as_bytes())? {
            [] => Some(Own::Chunk(0)),
            [b'-', digit @ b'1'..=b'9'] => {
                Some(usize::from(digit - b'0')).filter(|&index| index < MAX_CHUNKS).map(Own::Chunk)
            }
            rest => {
                let id = rest.strip_prefix(LOGIN_INFIX.as_bytes())?;
                let is_hex = id.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
                (id.len() == 16 && is_hex).then_some(Own::Login)
            }
        }
    }

    fn chunk_name(&self, index: usize) -> String {
        if index == 0 { self.session.to_string() } else { format!("{}-{index}", self.session) }
    }

    /// The length of the longest value that one chunk may have, however it is numbered.
    fn chunk_limit(&self) -> usize {
        MAX_LINE_BYTES.saturating_sub(self.session.len() + "-4=".len() + MAX_ATTRIBUTES_BYTES)
    }
}

/// Why a configured cookie name cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Empty, too long, or with a character that a cookie name cannot hold (RFC 6265 section 4.1.1).
    #[error("a cookie name has 1 to {MAX_NAME_BYTES} letters, digits and characters of !#$%&'*+-.^_`|~")]
    NotAToken,
    /// A browser would drop the cookie, because the prefix promises what plain http cannot keep.
    #[error("browsers keep a cookie with the prefix `{prefix}` over https only; leave the prefix out, or serve https")]
    PrefixNeedsHttps {
        /// The prefix found.
        prefix: &'static str,
    },
}

/// When a browser sends a cookie with requests that other sites start (RFC 6265bis section 5.6.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SameSite {
    /// Never.
    Strict,
    /// With top-level navigations by safe methods.
    Lax,
    /// Always.
    None,
}

/// The cookies that one response sets: at most one line per name (RFC 6265bis section 4.1.1), the last one asked for.
pub struct SetCookies {
    names: CookieNames,
    lines: Vec<(String, HeaderValue)>,
}

impl SetCookies {
    /// No cookies yet.
    pub fn new(names: &CookieNames) -> Self {
        Self { names: names.clone(), lines: Vec::new() }
    }

    /// Sets the session cookie to `value`, for `max_age` (in whole seconds, at most 400 days), and retires those
    /// chunks among the `presented` names that it does not need.
    ///
    /// # Errors
    ///
    /// If a browser would not keep the cookie. Then nothing has changed.
    pub fn session(
        &mut self,
        value: &str,
        max_age: Duration,
        same_site: SameSite,
        presented: &[&str],
    ) -> Result<(), CookieError> {
        let value = checked(value)?;
        let most = self.names.session_capacity();
        let chunks =
            chunks::split(value, self.names.chunk_limit()).ok_or(CookieError::TooLong { bytes: value.len(), most })?;
        self.retire_session(same_site, presented);
        for (index, chunk) in chunks.iter().enumerate() {
            let name = self.names.chunk_name(index);
            self.put(&self.kept(&name, chunk, max_age, same_site));
        }
        Ok(())
    }

    /// Deletes the session cookie and all its chunks among the `presented` names, also if this response had set them.
    pub fn retire_session(&mut self, same_site: SameSite, presented: &[&str]) {
        let names = self.names.clone();
        let is_chunk = |name: &str| matches!(names.own(name.as_bytes()), Some(Own::Chunk(_)));
        self.lines.retain(|(name, _)| !is_chunk(name));
        for name in presented.iter().copied().filter(|name| is_chunk(name)).chain([names.session()]) {
            self.put(&self.deleted(name, same_site));
        }
    }

    /// Sets a login cookie, whose `name` is from [`CookieNames::login_name`], for `lifetime` (in whole seconds).
    ///
    /// # Errors
    ///
    /// If a browser would not keep the cookie. Then nothing has changed.
    pub fn login(
        &mut self,
        name: &str,
        value: &str,
        lifetime: Duration,
        same_site: SameSite,
    ) -> Result<(), CookieError> {
        if self.names.own(name.as_bytes()) != Some(Own::Login) {
            return Err(CookieError::NotOurs);
        }
        let value = checked(value)?;
        let most = MAX_LINE_BYTES.saturating_sub(name.len() + "=".len() + MAX_ATTRIBUTES_BYTES);
        if value.len() > most {
            return Err(CookieError::TooLong { bytes: value.len(), most });
        }
        self.put(&self.kept(name, value, lifetime, same_site));
        Ok(())
    }

    /// Deletes one cookie, if its name is exactly one of ours.
    pub fn retire(&mut self, name: &str, same_site: SameSite) {
        if self.names.own(name.as_bytes()).is_some() {
            self.put(&self.deleted(name, same_site));
        }
    }

    /// How many cookies the session takes here, and how many bytes with their names.
    pub fn session_weight(&self) -> (usize, usize) {
        let is_kept = |(name, line): &&(String, HeaderValue)| {
            matches!(self.names.own(name.as_bytes()), Some(Own::Chunk(_)))
                && line.as_bytes().get(name.len() + 1).is_some_and(|&first| first != b';')
        };
        let pair = |(_, line): &(String, HeaderValue)| line.as_bytes().iter().take_while(|&&byte| byte != b';').count();
        self.lines.iter().filter(is_kept).fold((0, 0), |(count, bytes), line| (count + 1, bytes + pair(line)))
    }

    /// The values of the `Set-Cookie` fields, marked as sensitive.
    pub fn into_values(self) -> Vec<HeaderValue> {
        self.lines.into_iter().map(|(_, line)| line).collect()
    }

    fn kept<'c>(&self, name: &'c str, value: &'c str, max_age: Duration, same_site: SameSite) -> Cookie<'c> {
        let seconds = i64::try_from(max_age.as_secs()).unwrap_or(i64::MAX).min(MAX_AGE_SECONDS);
        self.with_attributes(name, value, same_site, seconds)
    }

    fn deleted<'c>(&self, name: &'c str, same_site: SameSite) -> Cookie<'c> {
        let mut cookie = self.with_attributes(name, "", same_site, 0);
        cookie.set_expires(OffsetDateTime::UNIX_EPOCH);
        cookie
    }

    fn with_attributes<'c>(&self, name: &'c str, value: &'c str, same_site: SameSite, seconds: i64) -> Cookie<'c> {
        Cookie::build((name, value))
            .path("/")
            .secure(self.names.secure)
            .http_only(true)
            .same_site(same_site.into())
            .max_age(cookie::time::Duration::seconds(seconds))
            .build()
    }

    fn put(&mut self, cookie: &Cookie<'_>) {
        self.lines.retain(|(name, _)| name != cookie.name());
        // Names of ours and base64url make a valid field value, always.
        if let Ok(mut line) = HeaderValue::try_from(cookie.to_string()) {
            line.set_sensitive(true);
            self.lines.push((cookie.name().to_owned(), line));
        }
    }
}

/// Why a cookie was not set: in each case a browser would have dropped or misread it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CookieError {
    /// The value does not fit.
    #[error("the cookie's value has {bytes} bytes, and a browser keeps {most} at most")]
    TooLong {
        /// The length of the value.
        bytes: usize,
        /// The length that would have fitted.
        most: usize,
    },
    /// The value is not in the alphabet of [`keyring::text`](super::keyring::text).
    #[error("the cookie's value is not base64url")]
    NotText,
    /// The name is not one of this site's.
    #[error("the cookie's name is not one of this site's")]
    NotOurs,
}

/// Whether the `Set-Cookie` value `line` would set, or seem to set, a cookie of ours.
pub fn sets_cookie_of(line: &HeaderValue, names: &CookieNames) -> bool {
    let pair = line.as_bytes().split(|&byte| byte == b';').next().unwrap_or_default();
    // A cookie without a name comes back as its value alone, which may read like a pair of ours.
    let pair = trim(pair, |byte| byte == b'=' || !byte.is_ascii_graphic());
    names.is_ours(pair.split(|&byte| byte == b'=').next().unwrap_or_default())
}

/// What one of our cookies is for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Own {
    /// The session's chunk of this number.
    Chunk(usize),
    Login,
}

impl From<SameSite> for cookie::SameSite {
    fn from(value: SameSite) -> Self {
        match value {
            SameSite::Strict => Self::Strict,
            SameSite::Lax => Self::Lax,
            SameSite::None => Self::None,
        }
    }
}

fn checked(value: &str) -> Result<&str, CookieError> {
    if chunks::is_base64url(value) { Ok(value) } else { Err(CookieError::NotText) }
}

fn trim(mut bytes: &[u8], is_outside: impl Fn(u8) -> bool) -> &[u8] {
    while let [first, rest @ ..] = bytes
        && is_outside(*first)
    {
        bytes = rest;
    }
    while let [rest @ .., last] = bytes
        && is_outside(*last)
    {
        bytes = rest;
    }
    bytes
}

fn starts_with_ignoring_case(bytes: &[u8], start: &[u8]) -> bool {
    bytes.split_at_checked(start.len()).is_some_and(|(found, _)| found.eq_ignore_ascii_case(start))
}

/// RFC 9110 section 5.6.2.
const fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(byte, b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'.' | b'^'..=b'`' | b'|' | b'~')
}

const LOGIN_INFIX: &str = "-login-";
/// The longer ones first, so that errors name the whole prefix.
const SECURE_PREFIXES: [&str; 4] = ["__Host-Http-", "__Host-", "__Secure-", "__Http-"];
/// Browsers drop a cookie whose name and value have more than 4,096 bytes; some count the attributes too.
const MAX_LINE_BYTES: usize = 4095;
/// The longest that our attributes get is 61 bytes; the rest is room for those to come.
const MAX_ATTRIBUTES_BYTES: usize = 128;
const MAX_NAME_BYTES: usize = 64;
/// 400 days, where browsers cap it (RFC 6265bis section 5.5).
const MAX_AGE_SECONDS: i64 = 400 * 24 * 60 * 60;

#[cfg(test)]
mod tests {
    use http::{HeaderMap, header};
    use proptest::prelude::*;

    use super::chunks::Assembled;
    use super::*;

    /// What is left of the upstream's lines once those in our names are taken away.
    fn strip_upstream_set_cookie(headers: &mut HeaderMap, names: &CookieNames) {
        let lines = headers.get_all(header::SET_COOKIE).iter();
        let others: Vec<HeaderValue> = lines.filter(|line| !sets_cookie_of(line, names)).cloned().collect();
        headers.remove(header::SET_COOKIE);
        headers.extend(others.into_iter().map(|line| (header::SET_COOKIE, line)));
    }

    const S: &str = "__Host-Http-vestibule";
    const HOUR: Duration = Duration::from_secs(3600);

    fn https() -> CookieNames {
        CookieNames::new(true, None).unwrap()
    }

    fn lines(cookies: SetCookies) -> Vec<String> {
        let values = cookies.into_values();
        assert!(values.iter().all(HeaderValue::is_sensitive));
        values.iter().map(|line| line.to_str().unwrap().to_owned()).collect()
    }

    fn kept(name: &str, value: &str) -> String {
        format!("{name}={value}; HttpOnly; SameSite=Strict; Secure; Path=/; Max-Age=3600")
    }

    fn gone(name: &str, same_site: &str) -> String {
        format!(
            "{name}=; HttpOnly; SameSite={same_site}; Secure; Path=/; Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT"
        )
    }

    // CK-09, CK-10
    #[test]
    fn the_names_promise_what_the_site_can_keep() {
        assert_eq!(https().session(), "__Host-Http-vestibule");
        assert_eq!(CookieNames::new(false, None).unwrap().session(), "vestibule");
        assert_eq!(CookieNames::new(true, Some("__Host-app")).unwrap().session(), "__Host-app");
        for (name, prefix) in
            [("__Host-app", "__Host-"), ("__host-HTTP-app", "__Host-Http-"), ("__Secure-a", "__Secure-")]
        {
            assert_eq!(CookieNames::new(false, Some(name)), Err(NameError::PrefixNeedsHttps { prefix }));
        }
        for name in ["", "a b", "a=b", "a;b", "a,b", "\u{e4}", "a\r\n", &"a".repeat(65)] {
            assert_eq!(CookieNames::new(true, Some(name)), Err(NameError::NotAToken), "{name:?}");
        }
    }

    #[test]
    fn a_login_cookie_is_named_after_a_hash_of_its_state() {
        // The digest of RFC 6234's first test, "abc".
        assert_eq!(https().login_name("abc"), format!("{S}-login-ba7816bf8f01cfea"));
    }

    // CK-07, CK-08, CK-09
    #[test]
    fn every_attribute_is_stated() {
        let names = https();
        let mut cookies = SetCookies::new(&names);
        cookies.session("value", HOUR, SameSite::Strict, &[]).unwrap();
        let login = names.login_name("abc");
        cookies.login(&login, "sealed", Duration::from_secs(900), SameSite::Lax).unwrap();
        assert_eq!(
            lines(cookies),
            [
                "__Host-Http-vestibule=value; HttpOnly; SameSite=Strict; Secure; Path=/; Max-Age=3600",
                "__Host-Http-vestibule-login-ba7816bf8f01cfea=sealed; HttpOnly; SameSite=Lax; Secure; Path=/; Max-Age=900",
            ]
        );
        let mut cookies = SetCookies::new(&names);
        cookies.login(&login, "sealed", Duration::from_secs(900), SameSite::None).unwrap();
        assert!(lines(cookies)[0].contains("; SameSite=None; Secure; "));
    }

    // CK-17
    #[test]
    fn over_plain_http_nothing_says_secure() {
        let names = CookieNames::new(false, None).unwrap();
        let mut cookies = SetCookies::new(&names);
        cookies.session("value", HOUR, SameSite::Lax, &["vestibule-1"]).unwrap();
        cookies.login(&names.login_name("abc"), "sealed", HOUR, SameSite::None).unwrap();
        assert_eq!(
            lines(cookies),
            [
                "vestibule-1=; HttpOnly; SameSite=Lax; Path=/; Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT",
                "vestibule=value; HttpOnly; SameSite=Lax; Path=/; Max-Age=3600",
                "vestibule-login-ba7816bf8f01cfea=sealed; HttpOnly; SameSite=None; Path=/; Max-Age=3600",
            ]
        );
    }

    // CK-14
    #[test]
    fn no_cookie_asks_for_more_than_400_days() {
        let names = https();
        let mut cookies = SetCookies::new(&names);
        cookies.session("value", Duration::MAX, SameSite::Strict, &[]).unwrap();
        assert!(lines(cookies)[0].ends_with("; Max-Age=34560000"));
    }

    // CK-15
    #[test]
    fn a_deletion_carries_the_attributes_of_what_it_deletes() {
        let names = https();
        let login = names.login_name("abc");
        let mut cookies = SetCookies::new(&names);
        cookies.retire_session(SameSite::Strict, &[S, &format!("{S}-1")]);
        cookies.retire(&login, SameSite::Lax);
        assert_eq!(lines(cookies), [gone(&format!("{S}-1"), "Strict"), gone(S, "Strict"), gone(&login, "Lax")]);
    }

    // CK-05
    #[test]
    fn a_session_that_shrinks_retires_the_chunks_that_were_presented() {
        let names = https();
        let mut cookies = SetCookies::new(&names);
        let (one, two) = (format!("{S}-1"), format!("{S}-2"));
        let value = "v".repeat(5000);
        cookies.session(&value, HOUR, SameSite::Strict, &[S, &one, &two]).unwrap();
        let lines = lines(cookies);
        assert_eq!(lines.len(), 3);
        assert_eq!(lines[0], gone(&two, "Strict"));
        assert!(lines[1].starts_with(&format!("{S}=2.vvv")));
        assert!(lines[2].starts_with(&format!("{one}=vvv")));
    }

    // CK-20
    #[test]
    fn a_later_line_replaces_an_earlier_one_of_its_name() {
        let names = https();
        let login = names.login_name("abc");
        let mut cookies = SetCookies::new(&names);
        cookies.login(&login, "sealed", HOUR, SameSite::Lax).unwrap();
        cookies.session("old", HOUR, SameSite::Strict, &[]).unwrap();
        cookies.session("new", HOUR, SameSite::Strict, &[]).unwrap();
        cookies.retire(&login, SameSite::Lax);
        cookies.retire(&login, SameSite::Lax);
        assert_eq!(lines(cookies), [kept(S, "new"), gone(&login, "Lax")]);
    }

    // CK-20, CRY-06
    #[test]
    fn a_shorter_session_in_the_same_response_leaves_no_chunk_of_the_longer_one() {
        let names = https();
        let mut cookies = SetCookies::new(&names);
        cookies.session(&"v".repeat(9000), HOUR, SameSite::Strict, &[]).unwrap();
        cookies.session("short", HOUR, SameSite::Strict, &[]).unwrap();
        assert_eq!(lines(cookies), [kept(S, "short")]);
    }

    // CK-20
    #[test]
    fn what_a_session_weighs_leaves_deletions_and_attributes_out() {
        let mut cookies = SetCookies::new(&https());
        assert_eq!(cookies.session_weight(), (0, 0));
        cookies.session("abc", HOUR, SameSite::Lax, &[&format!("{S}-1")]).expect("fits");
        assert_eq!(cookies.session_weight(), (1, S.len() + "=abc".len()));
    }

    #[test]
    fn a_logout_after_a_refresh_in_the_same_response_wins() {
        let names = https();
        let mut cookies = SetCookies::new(&names);
        cookies.session(&"v".repeat(9000), HOUR, SameSite::Strict, &[S]).unwrap();
        cookies.retire_session(SameSite::Strict, &[]);
        assert_eq!(lines(cookies), [gone(S, "Strict")]);
    }

    #[test]
    fn what_a_browser_would_drop_is_refused_and_changes_nothing() {
        let names = https();
        let login = names.login_name("abc");
        let mut cookies = SetCookies::new(&names);
        cookies.session("value", HOUR, SameSite::Strict, &[]).unwrap();
        let (bytes, most) = (names.session_capacity() + 1, names.session_capacity());
        let session = cookies.session(&"v".repeat(bytes), HOUR, SameSite::Strict, &[]);
        assert_eq!(session, Err(CookieError::TooLong { bytes, most }));
        assert!(matches!(
            cookies.login(&login, &"v".repeat(4096), HOUR, SameSite::Lax),
            Err(CookieError::TooLong { bytes: 4096, .. })
        ));
        for value in ["a; Domain=example.com", "a b", "\r\nX: y", "2.a"] {
            assert_eq!(cookies.session(value, HOUR, SameSite::Strict, &[]), Err(CookieError::NotText));
            assert_eq!(cookies.login(&login, value, HOUR, SameSite::Lax), Err(CookieError::NotText));
        }
        for name in [S, "other", "x; Domain=example.com", &format!("{login}0"), &login.to_ascii_uppercase()] {
            assert_eq!(cookies.login(name, "value", HOUR, SameSite::Lax), Err(CookieError::NotOurs));
        }
        cookies.retire("other", SameSite::Lax);
        cookies.retire("x; Domain=example.com", SameSite::Lax);
        assert_eq!(lines(cookies), [kept(S, "value")]);
    }

    // CK-18
    #[test]
    fn an_upstream_cannot_set_our_cookies_in_any_spelling() {
        let login = https().login_name("abc");
        for ours in [
            format!("{S}=evil"),
            format!("{S}=evil; Path=/; Secure; HttpOnly"),
            format!("{}=evil", S.to_ascii_uppercase()),
            format!("  {S}\t = evil"),
            format!("{S}-1=evil"),
            format!("{S}-12=evil"),
            format!("{login}=evil"),
            format!("{S}-Login-x=evil"),
            format!("={S}=evil"),
            format!(" = {S}=evil"),
            S.to_owned(),
            format!("{S}; Path=/"),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::SET_COOKIE, HeaderValue::try_from(&ours).unwrap());
            strip_upstream_set_cookie(&mut headers, &https());
            assert!(headers.is_empty(), "{ours}");
        }
    }

    // CK-18, CK-21
    #[test]
    fn an_upstreams_own_cookies_stay_separate_and_in_order() {
        let foreign = ["b=2; Path=/x", "a=1", &format!("x={S}=y"), "b=2; Path=/y", "vestibule=1", "broken", ""];
        for at in 0..=foreign.len() {
            let mut sent: Vec<String> = foreign.iter().map(ToString::to_string).collect();
            sent.insert(at, format!("{S}=evil"));
            let mut headers: HeaderMap =
                sent.iter().map(|line| (header::SET_COOKIE, HeaderValue::try_from(line).unwrap())).collect();
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
            strip_upstream_set_cookie(&mut headers, &https());
            let left: Vec<&HeaderValue> = headers.get_all(header::SET_COOKIE).iter().collect();
            assert_eq!(left, foreign);
            assert_eq!(headers.len(), foreign.len() + 1);
        }
    }

    proptest! {
        // CK-01, CRY-06
        #[test]
        fn a_session_of_any_length_comes_back_and_no_cookie_reaches_4096_bytes(
            length in 0_usize..30_000,
            name in prop_oneof![Just(None), "[a-z]{64}".prop_map(Some)],
            age in 0_u64..,
        ) {
            let names = CookieNames::new(true, name.as_deref()).unwrap();
            let value: String = ('a'..='z').cycle().take(length).collect();
            let mut cookies = SetCookies::new(&names);
            let set = cookies.session(&value, Duration::from_secs(age), SameSite::Strict, &[]);
            prop_assert_eq!(set.is_ok(), length <= names.session_capacity());
            if set.is_ok() {
                let lines = lines(cookies);
                prop_assert!(lines.iter().all(|line| line.len() < 4096));
                let pairs: Vec<&str> = lines.iter().filter_map(|line| line.split(';').next()).collect();
                let mut headers = HeaderMap::new();
                headers.insert(header::COOKIE, HeaderValue::try_from(pairs.join("; ")).unwrap());
                let found = RequestCookies::new(&headers).session(&names);
                prop_assert!(matches!(found, Assembled::Whole(found) if *found == *value.as_bytes()));
            }
        }

        #[test]
        fn no_login_cookie_reaches_4096_bytes(length in 3_700_usize..4_200) {
            let names = https();
            let mut cookies = SetCookies::new(&names);
            if cookies.login(&names.login_name("abc"), &"v".repeat(length), Duration::MAX, SameSite::Strict).is_ok() {
                prop_assert!(lines(cookies).iter().all(|line| line.len() < 4096));
            }
        }

        #[test]
        fn stripping_never_panics(
            line in proptest::collection::vec(prop_oneof![Just(b'\t'), b' '..=b'~', 0x80_u8..], 0..40),
        ) {
            let mut headers = HeaderMap::new();
            headers.insert(header::SET_COOKIE, HeaderValue::from_bytes(&line).unwrap());
            strip_upstream_set_cookie(&mut headers, &https());
        }
    }
}
