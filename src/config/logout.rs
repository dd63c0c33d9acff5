//! What `[logout]` has to be.

use http::HeaderValue;
use url::Url;

use super::file::RawLogout;
use super::problem::{Flaw, quoted};
use super::rules::Checker;
use super::value::choice;
use crate::gateway::broker::Revocation;
use crate::gateway::logout::{FrontChannel, LogoutSettings};
use crate::gateway::return_to::ReturnTo;
use crate::oauth::LogoutStyle;

/// In which words the issuer is told, by the names that `logout.style` has for them.
pub(super) const STYLES: [(&str, LogoutStyle); 4] = [
    ("auto", LogoutStyle::Auto),
    ("standard", LogoutStyle::Standard),
    ("cognito", LogoutStyle::Cognito),
    ("auth0", LogoutStyle::Auth0),
];

/// Turns `[logout]` into settings.
pub(super) fn apply(checker: &mut Checker<'_>, raw: RawLogout, public_url: Option<&Url>) -> LogoutSettings {
    let after = checker.or("logout.after", raw.after, "/".to_owned(), |text| match public_url {
        Some(site) => ReturnTo::parse(&text, site).map(|path| path.as_str().to_owned()).ok_or_else(|| {
            Flaw::new(format!("{} does not stay on this site", quoted(&text)), "write a path, such as \"/goodbye\"")
        }),
        None => Ok(text),
    });
    let style = checker.or("logout.style", raw.style, LogoutStyle::Auto, |text| choice(&text, &STYLES));
    let by_form =
        checker.or("logout.method", raw.method, false, |text| choice(&text, &[("get", false), ("post", true)]));
    if by_form && style == LogoutStyle::Cognito {
        let found = "\"post\" goes to no logout of the style \"cognito\"";
        checker.note("logout.method", Flaw::new(found, "leave it out, or write \"get\""));
    }
    let wait = checker.span("logout.revoke_after", raw.revoke_after.as_ref(), 60, 1, 600);
    let words = [("after", Revocation::AfterLogout(style, wait)), ("before", Revocation::Now)];
    let order =
        checker.or("logout.order", raw.order, Revocation::AfterLogout(style, wait), |text| choice(&text, &words));
    let words = [("off", FrontChannel::Off), ("on", FrontChannel::On), ("sid-only", FrontChannel::SidOnly)];
    LogoutSettings {
        after,
        style,
        by_form,
        id_token_hint: raw.id_token_hint.unwrap_or(true),
        logout_hint: raw.logout_hint,
        revocation: if raw.revoke.unwrap_or(true) { order } else { Revocation::Never },
        clear_site_data: clear_site_data(checker, &raw.clear_site_data),
        front_channel: checker
            .or("logout.front_channel", raw.front_channel, FrontChannel::Off, |text| choice(&text, &words)),
        strict_typ: raw.strict_typ.unwrap_or(false),
    }
}

/// The field's value (W3C Clear Site Data section 3.1). `cookies` is not among the words: it would take the cookies of all
/// hosts of the domain, and with them the one that the way back from the issuer needs; ours are deleted by name.
fn clear_site_data(checker: &mut Checker<'_>, raw: &[String]) -> Option<HeaderValue> {
    let words = [("cache", "\"cache\""), ("storage", "\"storage\"")];
    let known = checker.each("logout.clear_site_data", raw, |text| choice(text, &words));
    if known.is_empty() { None } else { HeaderValue::try_from(known.join(", ")).ok() }
}
