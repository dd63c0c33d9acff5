//! Which header fields are taken off and put on, towards the upstream and towards the browser.

use std::net::IpAddr;

use http::header::{
    AUTHORIZATION, CACHE_CONTROL, COOKIE, FORWARDED, PROXY_AUTHORIZATION, SERVER, SET_COOKIE,
    STRICT_TRANSPORT_SECURITY, VIA,
};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Version};

use super::route::authority;
use super::{Peer, Settings};
use crate::session::cookies::{CookieNames, RequestCookies, SetCookies, sets_cookie_of};

/// What every attempt changes in the fields of a request.
#[derive(Debug)]
pub struct FieldEdits {
    /// Fields to remove.
    pub remove: Vec<HeaderName>,
    /// Fields to set.
    pub set: Vec<(HeaderName, HeaderValue)>,
}

/// Fields that upstreams believe because a proxy sets them; a browser's own are never passed on (BCP-4.13-01, HTTP-22).
/// Compared in lower case with `_` read as `-`, as many frameworks read them.
fn is_ours_to_set(name: &str) -> bool {
    const EXACT: [&str; 20] = [
        "authorization",
        "proxy-authorization",
        "forwarded",
        "via",
        "dpop",
        "client-cert",
        "client-cert-chain",
        "x-real-ip",
        "x-client-ip",
        "x-cluster-client-ip",
        "true-client-ip",
        "x-original-url",
        "x-original-uri",
        "x-rewrite-url",
        "x-original-host",
        "x-original-method",
        "x-http-method",
        "x-http-method-override",
        "x-method",
        "x-method-override",
    ];
    const PREFIXES: [&str; 5] = ["x-forwarded-", "x-auth-request-", "x-ssl-", "x-remote-", "x-authenticated-"];
    EXACT.contains(&name)
        || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
        || matches!(name, "remote-user" | "x-user" | "x-forwarded" | "ssl-client-cert" | "cf-connecting-ip")
}

/// The edits that turn a browser's request into one for an upstream, all but the token.
pub fn for_upstream(request: &Parts, peer: Peer, settings: &Settings, names: &CookieNames) -> FieldEdits {
    let mut remove: Vec<HeaderName> = vec![AUTHORIZATION, PROXY_AUTHORIZATION];
    for name in request.headers.keys() {
        let plain = name.as_str().replace('_', "-");
        if is_ours_to_set(&plain) || (plain == "cookie" && name != COOKIE) {
            remove.push(name.clone());
        }
    }
    let mut set = Vec::with_capacity(8);
    if request.headers.contains_key(COOKIE) {
        remove.push(COOKIE);
        if let Some(foreign) = RequestCookies::new(&request.headers).forwardable(names) {
            set.push((COOKIE, foreign));
        }
    }
    let mut put = |name: HeaderName, value: &str| {
        if let Ok(value) = HeaderValue::try_from(value) {
            set.push((name, value));
        }
    };
    let chain = client_chain(&request.headers, peer, settings);
    let host = authority(&settings.public_url);
    let scheme = settings.public_url.scheme();
    let list: Vec<String> = chain.iter().map(IpAddr::to_string).collect();
    put(HeaderName::from_static("x-forwarded-for"), &list.join(", "));
    put(HeaderName::from_static("x-forwarded-proto"), scheme);
    put(HeaderName::from_static("x-forwarded-host"), host);
    let elements: Vec<String> = chain.iter().map(|hop| format!("for={}", forwarded_node(*hop))).collect();
    put(FORWARDED, &format!("{};host=\"{host}\";proto={scheme}", elements.join(", ")));
    put(VIA, &format!("{} vestibule", version(request.version)));
    FieldEdits { remove, set }
}

/// What the head of an answer changes on its way to the browser: removals first, then what is set, then what is added.
#[derive(Debug, Default)]
pub struct DownstreamEdits {
    /// Fields to remove.
    pub remove: Vec<HeaderName>,
    /// Fields to set, each in place of all of that name.
    pub set: Vec<(HeaderName, HeaderValue)>,
    /// Fields to add to those of the same name.
    pub append: Vec<(HeaderName, HeaderValue)>,
}

impl DownstreamEdits {
    /// Adds our own cookies to those that the upstream sets.
    pub fn set_cookies(&mut self, cookies: SetCookies) {
        self.append.extend(cookies.into_values().into_iter().map(|line| (SET_COOKIE, line)));
    }
}

/// Adds our cookies to an answer of our own, and keeps shared caches away from it (CK-19).
pub fn attach(headers: &mut HeaderMap, cookies: SetCookies) {
    let lines = cookies.into_values();
    if lines.is_empty() {
        return;
    }
    if let Some(private) = private_caching(headers) {
        headers.insert(CACHE_CONTROL, private);
    }
    for line in lines {
        headers.append(SET_COOKIE, line);
    }
}

/// What browsers are told about https (RFC 6797): whether they may ever speak plain http to this host again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TransportSecurity {
    /// This, with every answer, whatever an upstream says.
    Said(HeaderValue),
    /// Nothing of ours; what upstreams say passes.
    Left,
    /// Nothing by anybody: people reach this site over http, where it may not be said (section 7.2).
    Never,
}

impl TransportSecurity {
    /// Puts it on an answer of our own.
    pub(super) fn put_on(&self, headers: &mut HeaderMap) {
        if let Self::Said(policy) = self {
            headers.insert(STRICT_TRANSPORT_SECURITY, policy.clone());
        }
    }

    /// Sees to it that an answer with these `fields` says it once.
    pub(super) fn put_among(&self, fields: &HeaderMap, edits: &mut DownstreamEdits) {
        match self {
            Self::Said(policy) => edits.set.push((STRICT_TRANSPORT_SECURITY, policy.clone())),
            Self::Never if fields.contains_key(STRICT_TRANSPORT_SECURITY) => {
                edits.remove.push(STRICT_TRANSPORT_SECURITY)
            }
            Self::Never | Self::Left => {}
        }
    }
}

/// What an upstream may not say to a browser; `held` is the access token that was sent along.
pub fn for_browser(fields: &HeaderMap, names: &CookieNames, held: Option<&[u8]>) -> DownstreamEdits {
    let mut edits = DownstreamEdits::default();
    // What other origins may do is decided here and nowhere else (BBA-6.1-28); versions are nobody's business. Proofs are
    // made here, so their nonces are for us (DPOP-R-01).
    let is_ours_to_say = |name: &&HeaderName| {
        name.as_str().starts_with("access-control-") || **name == SERVER || name.as_str() == "dpop-nonce"
    };
    edits.remove.extend(fields.keys().filter(is_ours_to_say).cloned());
    let leaks = |value: &HeaderValue| held.is_some_and(|token| contains(value, token));
    let ours = |line: &HeaderValue| sets_cookie_of(line, names);
    let stays = |line: &HeaderValue| !ours(line) && !leaks(line);
    if fields.get_all(SET_COOKIE).iter().any(ours) {
        tracing::warn!("an upstream tried to set a cookie with one of our names");
    }
    if !fields.get_all(SET_COOKIE).iter().all(stays) {
        edits.remove.push(SET_COOKIE);
        let others = fields.get_all(SET_COOKIE).iter().filter(|line| stays(line));
        edits.append.extend(others.map(|line| (SET_COOKIE, line.clone())));
    }
    for (name, _) in fields.iter().filter(|(_, value)| leaks(value)) {
        tracing::error!(field = name.as_str(), "an upstream tried to send the access token to the browser");
        edits.remove.push(name.clone());
    }
    edits
}

/// Whether `value` says `token`.
fn contains(value: &HeaderValue, token: &[u8]) -> bool {
    !token.is_empty() && value.as_bytes().windows(token.len()).any(|part| part == token)
}

/// The `Cache-Control` that keeps shared caches away from an answer that belongs to one person; none if the upstream
/// is strict enough by itself (CACHE-02).
pub fn private_caching(fields: &HeaderMap) -> Option<HeaderValue> {
    let directives = || {
        let texts = fields.get_all(CACHE_CONTROL).iter().filter_map(|value| value.to_str().ok());
        texts.flat_map(|text| text.split(',')).map(str::trim)
    };
    let is = |directive: &str, name: &str| directive.split('=').next().is_some_and(|it| it.eq_ignore_ascii_case(name));
    if directives().any(|it| is(it, "private") || is(it, "no-store")) {
        return None;
    }
    let kept = directives().filter(|it| !it.is_empty() && !is(it, "public") && !is(it, "s-maxage"));
    let text = std::iter::once("private").chain(kept).collect::<Vec<_>>().join(", ");
    HeaderValue::try_from(text).ok()
}

/// Whether a challenge opens no dialog in a browser (BT-3-02), and asks for nothing that only we could do (DPOP-R-01).
pub fn harmless_challenge(challenge: &HeaderValue) -> bool {
    challenge.to_str().is_ok_and(|text| {
        let scheme = text.trim_start().split([' ', ',']).next().unwrap_or_default();
        let text = text.to_ascii_lowercase();
        scheme.eq_ignore_ascii_case("bearer") && !text.contains("basic") && !text.contains("dpop")
    })
}

/// The addresses that the request came through: the peer, and before it what trusted proxies say.
fn client_chain(headers: &HeaderMap, peer: Peer, settings: &Settings) -> Vec<IpAddr> {
    let trusted = |address: &IpAddr| settings.trusted_proxies.iter().any(|net| net.contains(address));
    let mut chain = vec![peer.address];
    let stated = headers
        .get_all("x-forwarded-for")
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|text| text.split(','))
        .map(|hop| hop.trim().parse::<IpAddr>());
    // From the nearest to the farthest, for as long as the one that said so is trusted.
    for hop in stated.collect::<Vec<_>>().into_iter().rev() {
        match (chain.last(), hop) {
            (Some(said_by), Ok(hop)) if trusted(said_by) => chain.push(hop),
            _ => break,
        }
    }
    chain.reverse();
    chain
}

/// An address as RFC 7239 section 6 writes it.
fn forwarded_node(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("\"[{address}]\""),
    }
}

fn version(version: Version) -> &'static str {
    match version {
        Version::HTTP_2 => "2",
        Version::HTTP_10 => "1.0",
        _ => "1.1",
    }
}
