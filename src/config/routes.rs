//! What the routes of a configuration have to be.

use std::path::Path;
use std::sync::Arc;

use http::Method;
use url::Url;

use super::credentials::identity;
use super::file::{RawRoute, RawShown, RawToken};
use super::issuer::scope;
use super::problem::{Flaw, quoted};
use super::requests::{audience, resource};
use super::rules::{Checker, over_tls};
use super::value::{canonical_path, choice, method, size, web_url};
use super::{RouteSettings, TargetSettings};
use crate::gateway::route::{Access, RouteToken, Trust, Upstream};
use crate::identity::{self, Identity};
use crate::oauth::{Means, TokenTarget, Wanted};

const METHODS: [Method; 7] =
    [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::OPTIONS];
const METHODS_OF_FILES: [Method; 2] = [Method::GET, Method::HEAD];
const FILES_MAX_BYTES: u64 = 256 << 20;

/// Turns the `[[route]]` tables of a site at `public_url`, whose own endpoints lie below `prefix`, into its routes.
/// `issuer` is the certificate that the issuer is shown, if one is named, and if that can be used; `dpop` is whether tokens are
/// bound to keys.
///
/// Those with problems are left out.
pub(super) fn apply(
    checker: &mut Checker<'_>,
    raw: Vec<(String, RawRoute)>,
    public_url: Option<&Url>,
    prefix: &str,
    issuer: Option<Option<&Identity>>,
    dpop: bool,
) -> Vec<RouteSettings> {
    if raw.is_empty() {
        let remedy = "write one, with a path, an upstream (or files) and auth";
        checker.note("route", Flaw::new("there is no [[route]]", remedy));
    }
    let mut routes: Vec<RouteSettings> = Vec::new();
    for (name, raw) in raw {
        let Some(route) = route(checker, &name, raw, public_url, prefix, (issuer, dpop)) else { continue };
        if routes.iter().any(|other| other.path == route.path) {
            let flaw = Flaw::new("there is a route with this path before", "give it another path, or take it out");
            checker.note(&format!("{name}.path"), flaw);
        }
        routes.push(route);
    }
    routes
}

fn route(
    checker: &mut Checker<'_>,
    name: &str,
    mut raw: RawRoute,
    public_url: Option<&Url>,
    prefix: &str,
    (issuer, dpop): (Option<Option<&Identity>>, bool),
) -> Option<RouteSettings> {
    let key = |key: &str| format!("{name}.{key}");
    let path = checker.required(&key("path"), raw.path.take(), "write the path that it begins with", |text| {
        canonical_path(&text).and_then(|path| beside(prefix, path))
    });
    let words =
        [("api", Access::Api), ("page", Access::Page), ("optional", Access::Optional), ("none", Access::Public)];
    let remedy = "write \"api\", \"page\", \"optional\" or \"none\"";
    let access = checker.required(&key("auth"), raw.auth.take(), remedy, |text| choice(&text, &words));
    let usual = if raw.files.is_some() { METHODS_OF_FILES.to_vec() } else { METHODS.to_vec() };
    let methods = match raw.methods.take() {
        Some(methods) if methods.is_empty() => {
            checker.note(&key("methods"), Flaw::new("the list is empty", "leave it out to let the usual ones through"));
            usual
        }
        Some(methods) => checker.each(&key("methods"), &methods, method),
        None => usual,
    };
    let strip_prefix = raw.strip_prefix.unwrap_or(false);
    let target = match (raw.upstream.take(), raw.files.take()) {
        (Some(url), None) => {
            let shown = raw.mtls.take();
            let identity = shown.and_then(|shown| certificate(checker, &key("mtls"), shown, issuer));
            upstream(checker, name, &raw, &url, public_url, (identity, dpop && access != Some(Access::Public)))
        }
        (None, Some(folder)) => files(checker, name, &raw, &folder, &methods),
        (Some(_), Some(_)) => {
            let flaw = Flaw::new("there is both an upstream and files", "take one out, or make two routes of it");
            checker.note(&key("files"), flaw);
            None
        }
        (None, None) => {
            checker.note(name, Flaw::new("it leads nowhere", "write upstream = \"http…\" or files = \"folder\""));
            None
        }
    };
    let token = token(checker, name, raw.token.take(), access, target.as_ref());
    Some(RouteSettings { path: path?, access: access?, methods, strip_prefix, token, target: target? })
}

/// Which token requests carry (`route.token`).
fn token(
    checker: &mut Checker<'_>,
    name: &str,
    raw: Option<RawToken>,
    access: Option<Access>,
    target: Option<&TargetSettings>,
) -> RouteToken {
    let key = |key: &str| format!("{name}.token{key}");
    let Some(raw) = raw else { return RouteToken::Session };
    if matches!(target, Some(TargetSettings::Files { .. })) {
        misplaced(checker, &key(""), "an upstream");
    } else if access == Some(Access::Public) {
        let flaw = Flaw::new("with auth = \"none\" no token is sent", "take it out, or write another auth");
        checker.note(&key(""), flaw);
    }
    let wanted = Wanted {
        audience: checker.or(&key(".audience"), raw.audience, None, |text| audience(text).map(Some)),
        resource: checker.or(&key(".resource"), raw.resource, None, |text| resource(&text).map(Some)),
        scopes: checker.each(&key(".scopes"), &raw.scopes.unwrap_or_default(), scope),
    };
    let exchange = raw.exchange.unwrap_or(false);
    let asks = exchange || wanted != Wanted::default();
    match raw.send {
        Some(false) if asks => {
            let found = "false, but there is something to ask a token for";
            checker.note(&key(".send"), Flaw::new(found, "take out send, or all the others"));
            RouteToken::None
        }
        Some(false) => RouteToken::None,
        Some(true) | None if asks => {
            let means = if exchange { Means::Exchange } else { Means::Refresh };
            RouteToken::Own(Arc::new(TokenTarget::new(wanted, means)))
        }
        Some(true) | None => RouteToken::Session,
    }
}

/// What logins have to ask for, so that the tokens of `routes` can be had later. What a token is exchanged for is not among
/// it: the authorization server decides about that when it is asked.
pub(super) fn asked_for_later(routes: &[RouteSettings]) -> Vec<Wanted> {
    let own = routes.iter().filter_map(|route| match &route.token {
        RouteToken::Own(target) if target.means() == Means::Refresh => Some(target.wanted().clone()),
        RouteToken::Own(_) | RouteToken::Session | RouteToken::None => None,
    });
    own.collect()
}

fn upstream(
    checker: &mut Checker<'_>,
    name: &str,
    raw: &RawRoute,
    url: &str,
    public_url: Option<&Url>,
    (identity, bound): (Option<Identity>, bool),
) -> Option<TargetSettings> {
    let key = |key: &str| format!("{name}.{key}");
    if raw.files_max_bytes.is_some() {
        misplaced(checker, &key("files_max_bytes"), "files");
    }
    // BCP-4.13-02
    let accepted = checker.insecure.plain_http_upstreams;
    let url = web_url(url).and_then(|url| over_tls(url, accepted, "plain_http_upstreams"));
    let url = url.and_then(|url| match public_url {
        Some(site) if site.origin() == url.origin() => {
            let found = format!("{} is this site itself", quoted(url.as_str()));
            Err(Flaw::new(found, "write the address of the server behind it: requests would go in circles"))
        }
        Some(_) | None => Ok(url),
    });
    let url = checker.check(&key("upstream"), url);
    let connect_timeout = checker.span(&key("connect_timeout"), raw.connect_timeout.as_ref(), 5, 1, 300);
    let read_timeout = checker.span(&key("read_timeout"), raw.read_timeout.as_ref(), 60, 1, 86_400);
    let http2 = raw.http2.unwrap_or(false);
    let trust = raw.ca_file.as_ref().and_then(|file| {
        let read = trust(&checker.sources.base.join(file));
        checker.check(&key("ca_file"), read)
    });
    let url = url?;
    for (key_of_tls, is_there) in [("mtls", identity.is_some()), ("ca_file", trust.is_some())] {
        if is_there && url.scheme() == "http" {
            let flaw = Flaw::new("the upstream is plain http", "write its https URL, or take this out");
            checker.note(&key(key_of_tls), flaw);
        }
    }
    let (bearer, external_url) = proofs(checker, name, raw, bound);
    Some(TargetSettings::Upstream(Arc::new(Upstream {
        url,
        connect_timeout,
        read_timeout,
        http2,
        trust,
        identity,
        bearer,
        external_url,
    })))
}

/// What the upstream is shown where it asks for a certificate.
fn certificate(
    checker: &mut Checker<'_>,
    key: &str,
    shown: RawShown,
    issuer: Option<Option<&Identity>>,
) -> Option<Identity> {
    match shown {
        RawShown::Own(raw) => identity(checker, key, raw),
        RawShown::Named(name) if name == "issuer" => {
            if issuer.is_none() {
                checker.note(key, Flaw::new("the issuer is shown no certificate", "name one in issuer.mtls first"));
            }
            issuer.flatten().cloned()
        }
        RawShown::Named(name) => {
            let remedy = "write \"issuer\" or { certificate = \"…\", key = { file = \"…\" } }";
            checker.note(key, Flaw::new(format!("{} is not known", quoted(&name)), remedy));
            None
        }
    }
}

/// The roots of trust in a file.
fn trust(file: &Path) -> Result<Trust, Flaw> {
    let shown = quoted(&file.to_string_lossy());
    let text = std::fs::read(file)
        .map_err(|error| Flaw::new(format!("{shown} cannot be read ({error})"), "correct the path"))?;
    let roots = identity::chain(&text);
    let flaw = || Flaw::new(format!("{shown} holds no certificate that can be read"), "name a file in PEM form");
    roots.map(|roots| Trust::only(roots.iter().map(|root| root.to_vec()))).ok_or_else(flaw)
}

/// Whether bound tokens go there as bearer tokens all the same, and what proofs call it. `bound`: there are such tokens.
fn proofs(checker: &mut Checker<'_>, name: &str, raw: &RawRoute, bound: bool) -> (bool, Option<Url>) {
    let key = |key: &str| format!("{name}.{key}");
    for (unused, is_there) in [("token_scheme", raw.token_scheme.is_some()), ("dpop_url", raw.dpop_url.is_some())] {
        if is_there && !bound {
            let found = "no token that is bound to a key goes there";
            checker.note(&key(unused), Flaw::new(found, "take it out, or write issuer.dpop = true and another auth"));
        }
    }
    let words = [("DPoP", false), ("Bearer", true)];
    let scheme = raw.token_scheme.as_deref();
    let bearer = checker.or(&key("token_scheme"), scheme, false, |text| choice(text, &words));
    let external_url = raw.dpop_url.as_deref().map(web_url);
    let external_url = external_url.and_then(|url| checker.check(&key("dpop_url"), url));
    if bearer && external_url.is_some() {
        let flaw = Flaw::new("a bearer token needs no proof", "take it out, or write token_scheme = \"DPoP\"");
        checker.note(&key("dpop_url"), flaw);
    }
    (bearer, external_url)
}

fn files(
    checker: &mut Checker<'_>,
    name: &str,
    raw: &RawRoute,
    folder: &str,
    methods: &[Method],
) -> Option<TargetSettings> {
    let key = |key: &str| format!("{name}.{key}");
    let of_upstreams = [
        ("strip_prefix", raw.strip_prefix.is_some()),
        ("connect_timeout", raw.connect_timeout.is_some()),
        ("read_timeout", raw.read_timeout.is_some()),
        ("http2", raw.http2.is_some()),
        ("mtls", raw.mtls.is_some()),
        ("ca_file", raw.ca_file.is_some()),
        ("token_scheme", raw.token_scheme.is_some()),
        ("dpop_url", raw.dpop_url.is_some()),
    ];
    for (misplaced_key, _) in of_upstreams.iter().filter(|(_, is_there)| *is_there) {
        misplaced(checker, &key(misplaced_key), "an upstream");
    }
    if let Some(method) = methods.iter().find(|method| !METHODS_OF_FILES.contains(method)) {
        let flaw = Flaw::new(format!("{method} means nothing to files"), "write [\"GET\", \"HEAD\"], or leave it out");
        checker.note(&key("methods"), flaw);
    }
    let max_bytes = raw.files_max_bytes.as_ref();
    let max_bytes = checker.or(&key("files_max_bytes"), max_bytes, FILES_MAX_BYTES, |it| size(it, 1..=1 << 40));
    let folder = checker.sources.base.join(folder);
    if !folder.is_dir() {
        let found = format!("{} is not a folder", quoted(&folder.to_string_lossy()));
        checker.note(&key("files"), Flaw::new(found, "build the app first, or correct the path"));
        return None;
    }
    Some(TargetSettings::Files { folder, max_bytes })
}

fn misplaced(checker: &mut Checker<'_>, key: &str, home: &str) {
    checker.note(key, Flaw::new(format!("it is for a route with {home}"), "take it out"));
}

/// The path, if requests to it come to a route at all.
fn beside(prefix: &str, path: String) -> Result<String, Flaw> {
    match path.strip_prefix(prefix) {
        Some(rest) if rest.is_empty() || rest.starts_with('/') => {
            let found = format!("{path:?} belongs to Vestibule's own endpoints");
            Err(Flaw::new(found, "choose another path, or another server.prefix"))
        }
        Some(_) | None => Ok(path),
    }
}
