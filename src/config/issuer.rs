//! What `[issuer]` has to be.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::credentials::{self, Credentials, RawCredentials};
use super::file::RawIssuer;
use super::problem::{Flaw, quoted};
use super::requests::{self, RawRequests};
use super::rules::{Checker, over_tls};
use super::value::{certificates, choice, web_url};
use crate::identity::Identity;
use crate::oauth::{
    Authority, Client, ClientId, Issuer, PlainHttp, Protocol, Provider, ProviderChoice, SecurityProfile, is_uuid,
};

/// Parameters that a login writes itself, or that would change what its answer is (RFC 6749 section 4.1.1, RFC 7636
/// section 4.3, RFC 9101 section 5, RFC 9449 section 10, OpenID Connect Core section 3.1.2.1).
const OF_THE_PROTOCOL: [&str; 24] = [
    "response_type",
    "response_mode",
    "client_id",
    "client_secret",
    "client_assertion",
    "client_assertion_type",
    "redirect_uri",
    "scope",
    "state",
    "nonce",
    "code",
    "code_challenge",
    "code_challenge_method",
    "code_verifier",
    "dpop_jkt",
    "grant_type",
    "request",
    "request_uri",
    "id_token_hint",
    "prompt",
    "max_age",
    "acr_values",
    "login_hint",
    "ui_locales",
];

/// Who signs people in, and as whom we speak to it.
pub(super) struct IssuerSettings {
    pub(super) authority: Authority,
    pub(super) ca_file: Option<PathBuf>,
    pub(super) identity: Option<Identity>,
    pub(super) client: Client,
}

/// Turns `[issuer]` into settings, if nothing that it needs is missing. `redirect_uri` is where the browser comes back to.
pub(super) fn apply(checker: &mut Checker<'_>, raw: RawIssuer, redirect_uri: Option<String>) -> Option<IssuerSettings> {
    let plain = checker.insecure.plain_http_issuer;
    let remedy = "write the issuer's identifier, exactly as its metadata has it";
    let identifier = checker.required("issuer.url", raw.url, remedy, |text| {
        if text.contains(['{', '}']) {
            let remedy = "write what belongs in its place, such as the tenant's id";
            return Err(Flaw::new(format!("{} holds a place that is to be filled in", quoted(&text)), remedy));
        }
        let url = web_url(&text).and_then(|url| over_tls(url, plain, "plain_http_issuer"));
        url.map(|_| Issuer::new(text))
    });
    let remedy = "write the id that the issuer knows this client by";
    let id = checker.required("issuer.client_id", raw.client_id, remedy, client_id);
    let credentials = credentials::apply(
        checker,
        RawCredentials {
            client_auth: raw.client_auth,
            client_secret: raw.client_secret,
            client_keys: raw.client_keys,
            assertion_audience: raw.assertion_audience,
            assertion_typ: raw.assertion_typ,
            mtls: raw.mtls,
        },
    );
    let words = [("openid", Protocol::OpenIdConnect), ("oauth", Protocol::OAuth)];
    let protocol = checker.or("issuer.protocol", raw.protocol, Protocol::OpenIdConnect, |text| choice(&text, &words));
    let userinfo = raw.userinfo.unwrap_or(false);
    if userinfo && protocol == Protocol::OAuth {
        let found = "true, but with protocol = \"oauth\" nobody says who somebody is";
        checker.note("issuer.userinfo", Flaw::new(found, "take one of the two out"));
    }
    let requests = requests::apply(
        checker,
        RawRequests {
            par: raw.par,
            jar: raw.jar,
            require_iss: raw.require_iss,
            resource: raw.resource,
            audience: raw.audience,
            claims_request: raw.claims_request,
            response_mode: raw.response_mode,
            offline_access: raw.offline_access,
            consent: raw.consent,
        },
        credentials.keys.is_some(),
        redirect_uri.as_deref(),
    );
    let scopes = scopes(checker, raw.scopes, protocol);
    let clock_skew = checker.span("issuer.clock_skew", raw.clock_skew.as_ref(), 60, 0, 300);
    let extra_params = extra_params(checker, raw.extra_params);
    let ca_file = raw.ca_file.and_then(|file| {
        let file = certificates(checker.sources.base.join(file));
        checker.check("issuer.ca_file", file)
    });
    let provider = checker.or("issuer.provider", raw.provider, ProviderChoice::Auto, |text| provider(&text));
    let tenants = checker.each("issuer.tenants", &raw.tenants.unwrap_or_default(), tenant);
    let backchannel = raw.backchannel_url.and_then(|text| {
        let url = web_url(&text).and_then(|url| over_tls(url, plain, "plain_http_issuer"));
        checker.check("issuer.backchannel_url", url)
    });
    let Credentials { authentication, keys, identity } = credentials;
    let authority = Authority {
        issuer: identifier?,
        protocol,
        dpop: raw.dpop.unwrap_or(false),
        // What is held to a profile is known to `security_profile.rs`.
        profile: SecurityProfile::None,
        plain_http: if plain { PlainHttp::Allowed } else { PlainHttp::LoopbackOnly },
        provider,
        tenants,
        backchannel,
    };
    let word = authority.certain_provider().and_then(|provider| provider.tenant_word(&authority.issuer));
    if word.is_none() && !authority.tenants.is_empty() {
        let found = "issuer.url leaves no tenant open, so this list holds nobody off";
        let remedy = "take it out, or write for example \"https://login.microsoftonline.com/organizations/v2.0\" there";
        checker.note("issuer.tenants", Flaw::new(found, remedy));
    }
    Some(IssuerSettings {
        authority,
        ca_file,
        identity: identity.clone(),
        client: Client {
            id: id?,
            authentication: authentication?,
            keys,
            mutual_tls: identity.is_some(),
            dpop: raw.dpop.unwrap_or(false),
            requests,
            redirect_uri: redirect_uri?,
            protocol,
            userinfo,
            scopes,
            extra_params,
            trusted_audiences: Vec::new(),
            clock_skew,
        },
    })
}

/// A product that is known, by its name.
fn provider(text: &str) -> Result<ProviderChoice, Flaw> {
    let names = Provider::all().iter().map(|provider| (provider.name, ProviderChoice::Named(provider)));
    let words = [("auto", ProviderChoice::Auto), ("none", ProviderChoice::None)].into_iter().chain(names);
    choice(text, &words.collect::<Vec<_>>())
}

/// The id of a tenant. Domain names are not taken: tokens name none.
fn tenant(text: &str) -> Result<String, Flaw> {
    if is_uuid(text) {
        Ok(text.to_ascii_lowercase())
    } else {
        let remedy = "write the tenant's id, such as \"3f2504e0-4f89-11d3-9a0c-0305e82c3301\"";
        Err(Flaw::new(format!("{} is not a UUID", quoted(text)), remedy))
    }
}

fn scopes(checker: &mut Checker<'_>, raw: Option<Vec<String>>, protocol: Protocol) -> Option<Vec<String>> {
    let raw = raw?;
    let scopes = checker.each("issuer.scopes", &raw, scope);
    let asks_who = scopes.iter().any(|scope| scope == "openid");
    match protocol {
        Protocol::OpenIdConnect if scopes.len() == raw.len() && !asks_who => {
            let flaw = Flaw::new("\"openid\" is not among them", "add it: without it nobody says who has signed in");
            checker.note("issuer.scopes", flaw);
        }
        Protocol::OAuth if asks_who => {
            let found = "\"openid\" is among them, but protocol = \"oauth\"";
            checker.note("issuer.scopes", Flaw::new(found, "take one of the two out"));
        }
        Protocol::OpenIdConnect | Protocol::OAuth => {}
    }
    Some(scopes)
}

fn extra_params(checker: &mut Checker<'_>, raw: BTreeMap<String, String>) -> Vec<(String, String)> {
    for name in raw.keys().filter(|name| OF_THE_PROTOCOL.contains(&name.as_str())) {
        let flaw = Flaw::new(format!("{name:?} is written by the login itself"), "take it out");
        checker.note("issuer.extra_params", flaw);
    }
    if raw.iter().any(|(name, value)| name.is_empty() || value.is_empty()) {
        let flaw = Flaw::new("a parameter has no name or no value", "complete it, or take it out");
        checker.note("issuer.extra_params", flaw);
    }
    raw.into_iter().collect()
}

/// An id that the issuer may have given (RFC 6749 appendix A.1).
fn client_id(text: String) -> Result<ClientId, Flaw> {
    if text.is_empty() || text.contains(char::is_control) {
        return Err(Flaw::new(format!("{} is no client id", quoted(&text)), "write the id that the issuer gave"));
    }
    Ok(ClientId::new(text))
}

/// One scope (RFC 6749 section 3.3).
pub(super) fn scope(text: &str) -> Result<String, Flaw> {
    let fits = |byte: u8| matches!(byte, 0x21 | 0x23..=0x5b | 0x5d..=0x7e);
    if text.is_empty() || !text.bytes().all(fits) {
        let remedy = "write each scope as an entry of its own";
        return Err(Flaw::new(format!("{} is not a single scope", quoted(text)), remedy));
    }
    Ok(text.to_owned())
}
