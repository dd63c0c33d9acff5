//! What `[admin]` has to be.

use super::file::{RawAdmin, RawSecret};
use super::problem::{Flaw, quoted};
use super::rules::Checker;
use super::value::listen_address;
use crate::admin::AdminSettings;
use crate::admin::guard::LEAST_TOKEN;
use crate::secret::Secret;

/// Turns `[admin]` into settings, if there is to be such a listener.
pub(super) fn apply(checker: &mut Checker<'_>, raw: RawAdmin) -> Option<AdminSettings> {
    let listen = checker.or("admin.listen", raw.listen.as_deref(), None, |text| listen_address(text).map(Some));
    let has_token = raw.token.is_some();
    let token = raw.token.and_then(|raw| token(checker, raw));
    let sessions = raw.sessions.unwrap_or(false);
    let Some(listen) = listen else {
        // An address that is wrong has been noted, and may be what they are meant for.
        if raw.listen.is_none() {
            let remedy = "write admin.listen, such as \"127.0.0.1:9901\", or take it out";
            for key in [("admin.token", has_token), ("admin.sessions", sessions)].iter().filter(|(_, set)| *set) {
                checker.note(key.0, Flaw::new("there is no admin.listen, so that nobody can ask", remedy));
            }
        }
        return None;
    };
    if !listen.ip().is_loopback() {
        if has_token {
            checker.warn(
                "admin.listen can be reached from other machines, in clear text: whoever is on the way reads admin.token and \
                 can end any session; keep it in a network of its own, or behind a proxy with TLS",
            );
        } else {
            let found = format!(
                "{} can be reached from other machines, and there is no admin.token",
                quoted(&listen.to_string())
            );
            let remedy = "write admin.token = { file = \"…\" } or { env = \"…\" }, or listen on 127.0.0.1";
            checker.note("admin.listen", Flaw::new(found, remedy));
        }
    }
    Some(AdminSettings { listen, token, sessions })
}

/// A token that a header field can carry (RFC 6750 section 2.1), and that nobody guesses.
fn token(checker: &mut Checker<'_>, raw: RawSecret) -> Option<Secret<String>> {
    let remedy = "make one with: head -c 32 /dev/urandom | base64";
    let fetched = checker.sources.fetch(raw).and_then(|token| {
        let text = token.expose();
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/".contains(&byte);
        let found = if text.len() < LEAST_TOKEN {
            format!("the token has {} bytes, and {LEAST_TOKEN} are the least", text.len())
        } else if !text.trim_end_matches('=').bytes().all(fits) {
            "the token has characters that no bearer token has".to_owned()
        } else {
            return Ok(token);
        };
        Err(Flaw::new(found, remedy))
    });
    checker.check("admin.token", fetched)
}
