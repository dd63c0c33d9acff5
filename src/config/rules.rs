//! What a configuration has to be, table by table; the larger tables have files of their own beside this one.
//!
//! Defaults are written where a key is read, and nowhere else.
//!
//! A key that is wrong is noted and its default goes on in its stead, so that everything after it is looked at too; a
//! configuration comes out only if nothing was noted.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use http::HeaderValue;
use ipnet::IpNet;
use url::Url;

use super::file::{Amount, RawConfig, RawCors, RawHsts, RawInsecure, RawLog, RawRefresh, RawServer};
use super::problem::{Findings, Flaw, Problems, quoted};
use super::value::{
    Sources, canonical_path, choice, count, foreign_origin, hsts, is_clear_text, is_this_machine, listen_address,
    network, site_url, size, span,
};
use super::{Config, admin, issuer, ledger, logout, profile, routes, security_profile, session};
use crate::gateway::broker::RefreshPolicy;
use crate::gateway::cross_origin::CrossOrigin;
use crate::gateway::headers::TransportSecurity;
use crate::proxy::Limits;
use crate::telemetry::{LogFormat, LogLevel, LogSettings};

const LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8080);
const PREFIX: &str = "/bff";
/// A year, for this host alone: what its subdomains speak is not ours to say.
const HSTS: &str = "max-age=31536000";

/// Turns what a file says into a configuration.
pub(super) fn apply(
    raw: RawConfig,
    findings: Findings,
    base: &Path,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<Config, Problems> {
    let insecure = raw.insecure;
    let sources = Sources { base, env, inline: insecure.inline_secrets };
    let mut checker = Checker { findings, sources, insecure, warnings: Vec::new() };
    checker.warn_of_what_is_insecure();
    let server = checker.server(raw.server);
    let public_url = server.as_ref().map(|server| &server.public_url);
    let prefix = server.as_ref().map_or(PREFIX, |server| &server.prefix);
    let dpop = raw.issuer.dpop.unwrap_or(false);
    let is_shown = raw.issuer.mtls.is_some();
    let mut raw_issuer = raw.issuer;
    let security_profile = security_profile::apply(&mut checker, &mut raw_issuer);
    let issuer = issuer::apply(&mut checker, raw_issuer, server.as_ref().map(Server::redirect_uri));
    let mut issuer = issuer.map(|issuer| issuer.held_to(security_profile));
    let identity = is_shown.then(|| issuer.as_ref().and_then(|issuer| issuer.identity.as_ref()));
    let routes = routes::apply(&mut checker, raw.routes, public_url, prefix, identity, dpop);
    security_profile::examine_routes(&mut checker, security_profile, &routes);
    if let Some(issuer) = &mut issuer {
        let requests = &mut issuer.client.requests;
        requests.later = routes::asked_for_later(&routes);
        if requests.resources.is_empty() && requests.later.iter().any(|it| it.resource.is_some()) {
            checker.warn(
                "routes name resources and issuer.resource does not: many issuers then refuse the login's own token request; \
                 name in issuer.resource what the session's own token is for",
            );
        }
    }
    let (refresh, ahead) = checker.refresh(&raw.refresh);
    let session = session::apply(&mut checker, raw.session, ahead, public_url, &routes);
    let ledger = ledger::apply(&mut checker, raw.ledger);
    let admin = admin::apply(&mut checker, raw.admin);
    let logout = logout::apply(&mut checker, raw.logout, public_url);
    let cross_origin = checker.cross_origin(raw.csrf, raw.cors, public_url);
    let log = checker.log(&raw.log);
    if let Some(issuer) = &issuer
        && let Some(provider) = issuer.authority.certain_provider()
    {
        let advice = provider.advice(&profile::practice(&issuer.authority, &issuer.client, &logout));
        checker.warnings.extend(advice.iter().map(ToString::to_string));
    }
    let Checker { findings, warnings, .. } = checker;
    match (findings.finish(), server, issuer, session, ledger, cross_origin) {
        (None, Some(server), Some(issuer), Some(session), Some(ledger), Some(cross_origin)) => Ok(Config {
            client: issuer.client,
            listen: server.listen,
            public_url: server.public_url,
            prefix: server.prefix,
            trusted_proxies: server.trusted_proxies,
            transport: server.transport,
            limits: server.limits,
            drain: server.drain,
            workers: server.workers,
            authority: issuer.authority,
            issuer_ca: issuer.ca_file,
            issuer_identity: issuer.identity,
            keys: session.keys,
            cookies: session.cookies,
            session: session.policy,
            refresh,
            ledger,
            admin,
            routes,
            cross_origin,
            logout,
            log,
            warnings,
        }),
        // A part is missing only if a problem says why.
        (problems, ..) => Err(problems.unwrap_or_default()),
    }
}

/// Looks at values one by one, and keeps what is to be said about them.
pub(super) struct Checker<'a> {
    findings: Findings,
    pub(super) sources: Sources<'a>,
    pub(super) insecure: RawInsecure,
    warnings: Vec<String>,
}

struct Server {
    listen: SocketAddr,
    public_url: Url,
    prefix: String,
    trusted_proxies: Vec<IpNet>,
    transport: TransportSecurity,
    limits: Limits,
    drain: Duration,
    workers: Option<usize>,
}

impl Server {
    fn redirect_uri(&self) -> String {
        format!("{}{}/callback", self.public_url.origin().ascii_serialization(), self.prefix)
    }
}

impl Checker<'_> {
    /// Notes that `key` is wrong.
    pub(super) fn note(&mut self, key: &str, flaw: Flaw) {
        self.findings.note(flaw.at(key));
    }

    /// The value, or none and a note.
    pub(super) fn check<T>(&mut self, key: &str, value: Result<T, Flaw>) -> Option<T> {
        value.map_err(|flaw| self.note(key, flaw)).ok()
    }

    /// The value of a key that has to be there.
    pub(super) fn required<R, T>(
        &mut self,
        key: &str,
        raw: Option<R>,
        remedy: &str,
        read: impl FnOnce(R) -> Result<T, Flaw>,
    ) -> Option<T> {
        if raw.is_none() && self.findings.has(key) {
            // It is there, and was of the wrong kind.
            return None;
        }
        let value = raw.ok_or_else(|| Flaw::new("is missing", remedy)).and_then(read);
        self.check(key, value)
    }

    /// The value of a key that may be there, or its default.
    pub(super) fn or<R, T>(
        &mut self,
        key: &str,
        raw: Option<R>,
        default: T,
        read: impl FnOnce(R) -> Result<T, Flaw>,
    ) -> T {
        raw.and_then(|raw| self.check(key, read(raw))).unwrap_or(default)
    }

    /// A span of time in seconds: its default, and what it may be.
    pub(super) fn span(&mut self, key: &str, raw: Option<&Amount>, default: u64, least: u64, most: u64) -> Duration {
        self.or(key, raw, Duration::from_secs(default), |amount| span(amount, least..=most))
    }

    /// Each entry of a list by itself.
    pub(super) fn each<T>(&mut self, key: &str, raw: &[String], read: impl Fn(&str) -> Result<T, Flaw>) -> Vec<T> {
        raw.iter().filter_map(|text| self.check(key, read(text))).collect()
    }

    /// Notes what is allowed and should be known.
    pub(super) fn warn(&mut self, what: &str) {
        self.warnings.push(what.to_owned());
    }

    fn warn_of_what_is_insecure(&mut self) {
        let RawInsecure {
            plain_http_cookies,
            plain_http_issuer,
            plain_http_upstreams,
            plain_redis,
            inline_secrets,
            stale_endings,
        } = self.insecure;
        let switches = [
            ("plain_http_cookies", plain_http_cookies, "whoever is on the way can take over any session"),
            ("plain_http_issuer", plain_http_issuer, "whoever is on the way can read every token and forge any login"),
            ("plain_http_upstreams", plain_http_upstreams, "whoever is on the way can read the access tokens"),
            ("plain_redis", plain_redis, "whoever is on the way can end any session, and revive any that has ended"),
            ("stale_endings", stale_endings, "while the ledger is down, a copied cookie outlives its session"),
            ("inline_secrets", inline_secrets, "whoever reads the configuration file knows the secrets"),
        ];
        let on = switches.iter().filter(|(_, on, _)| *on);
        self.warnings.extend(on.map(|(key, _, risk)| format!("insecure.{key} is on: {risk}")));
    }

    fn server(&mut self, raw: RawServer) -> Option<Server> {
        let plain = self.insecure.plain_http_cookies;
        let remedy = "write the address that people type, such as \"https://app.example.com\"";
        let public_url = self.required("server.public_url", raw.public_url, remedy, |text| {
            site_url(&text).and_then(|url| over_tls(url, plain, "plain_http_cookies"))
        });
        let trusted_proxies = self.each("server.trusted_proxies", &raw.trusted_proxies, network);
        if trusted_proxies.iter().any(|network| network.prefix_len() == 0) {
            let risk = "everybody is believed about where a request comes from";
            self.warnings.push(format!("server.trusted_proxies covers all addresses: {risk}"));
        }
        let limits = Limits {
            connections: self.or("server.connections", raw.connections, 10_000, |it| count(&it, 1..=1_000_000)),
            max_body_bytes: self
                .or("server.max_body_bytes", raw.max_body_bytes, 100 << 20, |it| size(&it, 1..=1 << 50)),
            http2: raw.http2.unwrap_or(false),
        };
        let transport = self.transport(raw.hsts, public_url.as_ref());
        Some(Server {
            transport,
            listen: self.or("server.listen", raw.listen, LISTEN, |text| listen_address(&text)),
            prefix: self.or("server.prefix", raw.prefix, PREFIX.to_owned(), prefix),
            trusted_proxies,
            limits,
            drain: self.span("server.drain", raw.drain.as_ref(), 30, 0, 3600),
            workers: self.or("server.workers", raw.workers, None, |it| count(&it, 1..=1024).map(Some)),
            public_url: public_url?,
        })
    }

    /// What browsers are told about https.
    fn transport(&mut self, raw: Option<RawHsts>, public_url: Option<&Url>) -> TransportSecurity {
        if public_url.is_some_and(|url| url.scheme() == "http") {
            if !matches!(raw, None | Some(RawHsts::Switch(false))) {
                let remedy = "take it out, or write the https address there";
                self.note("server.hsts", Flaw::new("server.public_url is http, where it may not be said", remedy));
            }
            return TransportSecurity::Never;
        }
        let said = match raw {
            // The other servers of a developer's machine are http, and browsers do not tell ports apart here.
            None if public_url.and_then(Url::host).is_some_and(|host| is_this_machine(&host)) => {
                return TransportSecurity::Left;
            }
            None | Some(RawHsts::Switch(true)) => Ok(HeaderValue::from_static(HSTS)),
            Some(RawHsts::Switch(false)) => return TransportSecurity::Left,
            Some(RawHsts::Said(text)) => hsts(&text),
        };
        self.check("server.hsts", said).map_or(TransportSecurity::Left, TransportSecurity::Said)
    }

    /// The policy, and how long before its expiry a token is due.
    fn refresh(&mut self, raw: &RawRefresh) -> (RefreshPolicy, Duration) {
        let policy = RefreshPolicy {
            wait: self.span("refresh.wait", raw.wait.as_ref(), 10, 1, 60),
            settle: self.span("refresh.settle", raw.settle.as_ref(), 60, 1, 3600),
            stale_endings: self.insecure.stale_endings,
        };
        (policy, self.span("refresh.ahead", raw.ahead.as_ref(), 60, 5, 3600))
    }

    fn cross_origin(&mut self, csrf: Option<String>, cors: RawCors, public_url: Option<&Url>) -> Option<CrossOrigin> {
        let words = [("fetch-metadata", false), ("header", true)];
        let always_header = self.or("csrf", csrf, false, |text| choice(&text, &words));
        let allowed = self.each("cors.origins", &cors.origins, foreign_origin);
        Some(CrossOrigin::new(public_url?.origin().ascii_serialization(), allowed, always_header))
    }

    fn log(&mut self, raw: &RawLog) -> LogSettings {
        let words = [("text", LogFormat::Text), ("json", LogFormat::Json)];
        let level = raw.level.as_deref().unwrap_or("info");
        let level = LogLevel::parse(level).map_err(|error| {
            let remedy = "write for example \"info\" or \"info,vestibule::gateway=debug\"";
            Flaw::new(format!("{} {error}", quoted(level)), remedy)
        });
        LogSettings {
            format: self.or("log.format", raw.format.as_deref(), LogFormat::Text, |text| choice(text, &words)),
            level: self.check("log.level", level).unwrap_or_default(),
        }
    }
}

/// The URL, if nobody on the way can read along, or a switch of `[insecure]` accepts that.
pub(super) fn over_tls(url: Url, accepted: bool, switch: &str) -> Result<Url, Flaw> {
    if accepted || !is_clear_text(&url) {
        return Ok(url);
    }
    let found = format!("{:?} is plain http, and not on this machine", url.origin().ascii_serialization());
    Err(Flaw::new(found, format!("write an https URL, or set insecure.{switch}")))
}

fn prefix(text: String) -> Result<String, Flaw> {
    if text.ends_with('/') {
        let remedy = "write it as \"/bff\": a name is needed, and no slash after it";
        return Err(Flaw::new(format!("{} ends with a slash", quoted(&text)), remedy));
    }
    canonical_path(&text)
}
