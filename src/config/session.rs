//! What `[session]` has to be.

use std::time::Duration;

use url::Url;

use super::file::{RawSecret, RawSession};
use super::problem::Flaw;
use super::rules::Checker;
use super::value::{as_usize, choice, size};
use super::{CookieSettings, RouteSettings};
use crate::gateway::route::Access;
use crate::session::cookies::{CookieNames, SameSite};
use crate::session::keyring::KeyRing;
use crate::session::{Placement, SessionPolicy};

/// The standard claims that say who somebody is (OpenID Connect Core section 5.1).
const CLAIMS: [&str; 11] = [
    "name",
    "given_name",
    "family_name",
    "preferred_username",
    "nickname",
    "email",
    "email_verified",
    "picture",
    "locale",
    "zoneinfo",
    "updated_at",
];

/// What a session is, and what keeps it safe in the browser.
pub(super) struct SessionSettings {
    pub(super) keys: KeyRing,
    pub(super) cookies: CookieSettings,
    pub(super) policy: SessionPolicy,
}

/// Turns `[session]` into settings, if nothing that it needs is missing. `ahead` is that of `[refresh]`.
pub(super) fn apply(
    checker: &mut Checker<'_>,
    raw: RawSession,
    ahead: Duration,
    public_url: Option<&Url>,
    routes: &[RouteSettings],
) -> Option<SessionSettings> {
    let key_delay = checker.span("session.key_delay", raw.key_delay.as_ref(), 600, 0, 86_400);
    let keys = key_ring(checker, raw.keys, key_delay);
    // An idle limit slides at most once a minute, so a shorter one would end sessions that are in use.
    let absolute = checker.span("session.absolute", raw.absolute.as_ref(), 43_200, 120, 34_560_000);
    let idle = checker.span("session.idle", raw.idle.as_ref(), absolute.as_secs().min(3600), 120, 34_560_000);
    if idle > absolute {
        let found = format!("{} s is longer than session.absolute, {} s", idle.as_secs(), absolute.as_secs());
        checker.note("session.idle", Flaw::new(found, "lower it, or raise session.absolute"));
    }
    let warn = checker.span("session.warn", raw.warn.as_ref(), 60, 5, 3600);
    let secure = public_url.is_none_or(|url| url.scheme() == "https");
    let names = CookieNames::new(secure, raw.cookie_name.as_deref());
    let names = names.map_err(|error| Flaw::from_words(&error.to_string(), "choose another name, or leave it out"));
    let names = checker.check("session.cookie_name", names);
    let has_pages = routes.iter().any(|route| route.access == Access::Page);
    let usual = if has_pages { SameSite::Lax } else { SameSite::Strict };
    let words = [("strict", SameSite::Strict), ("lax", SameSite::Lax)];
    let same_site = checker.or("session.same_site", raw.same_site, usual, |text| choice(&text, &words));
    let places = [("cookie", Placement::Cookie), ("ledger", Placement::Ledger)];
    let placement = checker.or("session.tokens", raw.tokens, Placement::Cookie, |text| choice(&text, &places));
    let max_bytes = checker.or("session.max_cookie_bytes", raw.max_cookie_bytes, 7168, |it| size(&it, 1024..=16_384));
    let claims = raw.claims.unwrap_or_else(|| CLAIMS.map(str::to_owned).to_vec());
    Some(SessionSettings {
        keys: keys?,
        cookies: CookieSettings { names: names?, same_site, placement, max_bytes: as_usize(max_bytes) },
        policy: SessionPolicy { idle, absolute, warn, claims, ahead },
    })
}

fn key_ring(checker: &mut Checker<'_>, raw: Option<Vec<RawSecret>>, key_delay: Duration) -> Option<KeyRing> {
    const REMEDY: &str = "make a key with `vestibule keygen`";
    let remedy = "write [{ file = \"…\" }], and make the file with `vestibule keygen`";
    let raw = checker.required("session.keys", raw, remedy, Ok)?;
    let listed = raw.len();
    if listed == 0 {
        checker.note("session.keys", Flaw::new("the list is empty", remedy));
        return None;
    }
    let name = |index: usize| format!("session.keys[{}]", index + 1);
    let fetch = |(index, key)| {
        let key = checker.sources.fetch(key);
        checker.check(&name(index), key)
    };
    let texts: Vec<_> = raw.into_iter().enumerate().filter_map(fetch).collect();
    if texts.len() < listed {
        return None;
    }
    let ring = KeyRing::new(&texts, key_delay);
    ring.map_err(|(index, error)| checker.note(&name(index), Flaw::from_words(&error.to_string(), REMEDY))).ok()
}
