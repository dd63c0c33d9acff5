//! `issuer.security_profile`: one switch that sets what a profile demands, and refuses what contradicts it.
//!
//! What FAPI 2.0 demands of every client here is not looked at again: the code grant, PKCE by S256, `nonce`, metadata from
//! the well-known document alone (no key names an endpoint), keys of 2048 and 256 bits at least, TLS 1.2.

use super::file::RawIssuer;
use super::issuer::IssuerSettings;
use super::problem::{Flaw, quoted};
use super::rules::Checker;
use super::value::choice;
use super::{RouteSettings, TargetSettings};
use crate::oauth::{ClientAuthentication, SecurityProfile};

const PROFILES: [(&str, SecurityProfile); 2] = [("none", SecurityProfile::None), ("fapi2", SecurityProfile::Fapi2)];

/// What `security_profile = "fapi2"` is called in reports.
const FAPI: &str = "security_profile = \"fapi2\"";

/// Reads the profile, and writes into `raw` what it sets.
pub(super) fn apply(checker: &mut Checker<'_>, raw: &mut RawIssuer) -> SecurityProfile {
    let name = raw.security_profile.take();
    let profile = checker.or("issuer.security_profile", name, SecurityProfile::None, |text| choice(&text, &PROFILES));
    match profile {
        SecurityProfile::None => {}
        SecurityProfile::Fapi2 => fapi(checker, raw),
    }
    profile
}

impl IssuerSettings {
    /// The same, with a client that keeps to the profile.
    pub(super) fn held_to(mut self, profile: SecurityProfile) -> Self {
        self.authority.profile = profile;
        let client = &mut self.client;
        client.requests.profile = profile;
        client.keys = client.keys.take().map(|keys| keys.held_to(profile));
        if let ClientAuthentication::PrivateKeyJwt(assertion) = &mut client.authentication {
            assertion.keys = assertion.keys.clone().held_to(profile);
        }
        self
    }
}

/// That no route gives up what the profile demands.
pub(super) fn examine_routes(checker: &mut Checker<'_>, profile: SecurityProfile, routes: &[RouteSettings]) {
    for route in routes.iter().filter(|_| profile == SecurityProfile::Fapi2) {
        if let TargetSettings::Upstream(upstream) = &route.target
            && upstream.bearer
        {
            let found = format!("\"Bearer\", but {FAPI}");
            let key = format!("route[{:?}].token_scheme", route.path);
            checker.note(&key, Flaw::new(found, format!("write \"DPoP\", or do without {FAPI}")));
        }
    }
}

/// FAPI 2.0 Security Profile, sections 5.2, 5.3.3 and 5.4.
fn fapi(checker: &mut Checker<'_>, raw: &mut RawIssuer) {
    let mut contradicts = |key: &str, found: String, remedy: &str| {
        let remedy = format!("{remedy}, or do without {FAPI}");
        checker.note(key, Flaw::new(format!("{found}, but {FAPI}"), remedy));
    };
    match raw.client_auth.as_deref() {
        Some(secret @ ("basic" | "post" | "none")) => {
            let found = format!("{secret:?}");
            contradicts("issuer.client_auth", found, "write \"private_key_jwt\" or \"tls_client_auth\"");
        }
        // A name that is unknown is refused by whoever reads it.
        Some(_) => {}
        None => {
            let found = "it is \"basic\" where nothing is written".to_owned();
            contradicts("issuer.client_auth", found, "write \"private_key_jwt\" or \"tls_client_auth\"");
        }
    }
    if raw.assertion_audience.as_deref() == Some("token_endpoint") {
        contradicts("issuer.assertion_audience", "\"token_endpoint\"".to_owned(), "write \"issuer\"");
    }
    if let Err((key, remedy)) = sender_constraint(raw) {
        contradicts(key, "access tokens are bound to no key of this client".to_owned(), remedy);
    }
    match raw.par.as_deref() {
        None | Some("always") => raw.par = Some("always".to_owned()),
        Some(par @ ("auto" | "never")) => {
            contradicts("issuer.par", quoted(par).into_owned(), "write \"always\"");
        }
        Some(_) => {}
    }
    match raw.require_iss {
        None | Some(true) => raw.require_iss = Some(true),
        Some(false) => contradicts("issuer.require_iss", "false".to_owned(), "write true"),
    }
    for (key, is_set) in checker.insecure.plain_http() {
        if is_set {
            let found = format!("true, but {FAPI}");
            checker.note(key, Flaw::new(found, format!("take it out, or do without {FAPI}")));
        }
    }
}

/// That access tokens are bound to a key of this client (FAPI 2.0 section 5.3.3.1, clause 1), or which key of the
/// configuration would do that, and how. This is the one place that knows the ways to bind them.
const fn sender_constraint(raw: &RawIssuer) -> Result<(), (&'static str, &'static str)> {
    // A token of an issuer that has seen a certificate is bound to it (RFC 8705 section 3), or the session has a key (RFC 9449).
    if raw.mtls.is_some() || matches!(raw.dpop, Some(true)) {
        return Ok(());
    }
    Err(("issuer.dpop", "write true, or issuer.mtls = { certificate = \"…\", key = { file = \"…\" } }"))
}
