//! How logins are asked for: the keys of `[issuer]` that say what a request holds and how it travels.

use serde_json::{Map, Value};
use url::Url;

use super::problem::{Flaw, quoted};
use super::rules::Checker;
use super::value::choice;
use crate::oauth::{Consent, OfflineAccess, Par, RequestOptions, ResponseMode, SecurityProfile};

/// When people are asked for their consent, by the names that `issuer.consent` has for it.
pub(super) const CONSENTS: [(&str, Option<Consent>); 4] = [
    ("auto", None),
    ("offline", Some(Consent::Offline)),
    ("always", Some(Consent::Always)),
    ("never", Some(Consent::Never)),
];

/// The keys of `[issuer]` that are looked at here.
pub(super) struct RawRequests {
    pub(super) par: Option<String>,
    pub(super) jar: Option<bool>,
    pub(super) require_iss: Option<bool>,
    pub(super) resource: Option<Vec<String>>,
    pub(super) audience: Option<String>,
    pub(super) claims_request: Option<String>,
    pub(super) response_mode: Option<String>,
    pub(super) offline_access: Option<String>,
    pub(super) consent: Option<String>,
}

/// Turns the keys into settings. `can_sign`: there is a key to sign with.
pub(super) fn apply(
    checker: &mut Checker<'_>,
    raw: RawRequests,
    can_sign: bool,
    redirect_uri: Option<&str>,
) -> RequestOptions {
    let pars = [("auto", Par::Auto), ("always", Par::Always), ("never", Par::Never)];
    let jar = raw.jar.unwrap_or(false);
    if jar && !can_sign {
        let flaw = Flaw::new("there is nothing to sign with", "list a key in issuer.client_keys, or take it out");
        checker.note("issuer.jar", flaw);
    }
    let modes = [("query", ResponseMode::Query), ("form_post", ResponseMode::FormPost)];
    let response_mode =
        checker.or("issuer.response_mode", raw.response_mode, ResponseMode::Query, |text| choice(&text, &modes));
    if response_mode == ResponseMode::FormPost && redirect_uri.is_some_and(|uri| !uri.starts_with("https://")) {
        let found = "a form from another site brings no cookie along over plain http";
        let flaw = Flaw::new(found, "write \"query\", or an https address in server.public_url");
        checker.note("issuer.response_mode", flaw);
    }
    let offline = [("auto", OfflineAccess::Auto), ("always", OfflineAccess::Always), ("never", OfflineAccess::Never)];
    RequestOptions {
        par: checker.or("issuer.par", raw.par, Par::Auto, |text| choice(&text, &pars)),
        jar,
        require_iss: raw.require_iss.unwrap_or(false),
        resources: checker.each("issuer.resource", &raw.resource.unwrap_or_default(), resource),
        audience: checker.or("issuer.audience", raw.audience, None, |text| audience(text).map(Some)),
        claims: checker.or("issuer.claims_request", raw.claims_request, None, |text| claims(&text).map(Some)),
        later: Vec::new(),
        response_mode,
        offline_access: checker
            .or("issuer.offline_access", raw.offline_access, OfflineAccess::Auto, |text| choice(&text, &offline)),
        consent: checker.or("issuer.consent", raw.consent, None, |text| choice(&text, &CONSENTS)),
        // What it sets besides is known to `security_profile.rs`.
        profile: SecurityProfile::None,
    }
}

/// A resource (RFC 8707 section 2). It is sent as it is written.
pub(super) fn resource(text: &str) -> Result<String, Flaw> {
    const REMEDY: &str = "write for example \"https://api.example.com/\"";
    let clear = text.bytes().all(|byte| byte.is_ascii_graphic());
    match Url::parse(text) {
        Ok(url) if clear && url.fragment().is_none() => Ok(text.to_owned()),
        Ok(_) if clear => Err(Flaw::new(format!("{} has a fragment", quoted(text)), "take it off")),
        Ok(_) | Err(_) => Err(Flaw::new(format!("{} is not an absolute URI", quoted(text)), REMEDY)),
    }
}

pub(super) fn audience(text: String) -> Result<String, Flaw> {
    if text.is_empty() || text.contains(char::is_control) {
        return Err(Flaw::new(format!("{} is no audience", quoted(&text)), "write the API's name at the issuer"));
    }
    Ok(text)
}

/// The `claims` parameter (OpenID Connect Core section 5.5). The parser's own message would repeat the text.
fn claims(text: &str) -> Result<Map<String, Value>, Flaw> {
    let remedy = "write one, such as '{\"id_token\": {\"acr\": {\"essential\": true}}}'";
    serde_json::from_str(text).map_err(|_| Flaw::new("the text is not a JSON object", remedy))
}
