//! The configuration file as it stands: tables and keys, texts and numbers. No rules.
//!
//! The structs below are the one list of keys there is. What they do not name is refused, with the nearest name that
//! they do; a value of the wrong kind is reported and left out, so that one reading finds everything.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use toml::de::{DeTable, DeValue};
use toml::{Table, Value};

use super::problem::{Findings, Flaw, Problem, Problems};
use super::reader::{Reader, path};
use crate::secret::Secret;

/// `[server]`
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawServer {
    pub(super) listen: Option<String>,
    pub(super) public_url: Option<String>,
    pub(super) prefix: Option<String>,
    pub(super) trusted_proxies: Vec<String>,
    pub(super) max_body_bytes: Option<Amount>,
    pub(super) drain: Option<Amount>,
    pub(super) workers: Option<Amount>,
    pub(super) connections: Option<Amount>,
    pub(super) http2: Option<bool>,
    pub(super) hsts: Option<RawHsts>,
}

/// `[issuer]`
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawIssuer {
    pub(super) url: Option<String>,
    pub(super) provider: Option<String>,
    pub(super) tenants: Option<Vec<String>>,
    pub(super) backchannel_url: Option<String>,
    pub(super) client_id: Option<String>,
    pub(super) client_secret: Option<RawSecret>,
    pub(super) client_auth: Option<String>,
    pub(super) protocol: Option<String>,
    pub(super) userinfo: Option<bool>,
    pub(super) client_keys: Option<Vec<RawSecret>>,
    pub(super) assertion_audience: Option<String>,
    pub(super) assertion_typ: Option<String>,
    pub(super) mtls: Option<RawIdentity>,
    pub(super) dpop: Option<bool>,
    pub(super) scopes: Option<Vec<String>>,
    pub(super) offline_access: Option<String>,
    pub(super) consent: Option<String>,
    pub(super) security_profile: Option<String>,
    pub(super) par: Option<String>,
    pub(super) jar: Option<bool>,
    pub(super) require_iss: Option<bool>,
    pub(super) resource: Option<Vec<String>>,
    pub(super) audience: Option<String>,
    pub(super) claims_request: Option<String>,
    pub(super) response_mode: Option<String>,
    pub(super) extra_params: BTreeMap<String, String>,
    pub(super) clock_skew: Option<Amount>,
    pub(super) ca_file: Option<String>,
}

/// `[session]`
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawSession {
    pub(super) keys: Option<Vec<RawSecret>>,
    pub(super) tokens: Option<String>,
    pub(super) cookie_name: Option<String>,
    pub(super) same_site: Option<String>,
    pub(super) idle: Option<Amount>,
    pub(super) absolute: Option<Amount>,
    pub(super) warn: Option<Amount>,
    pub(super) claims: Option<Vec<String>>,
    pub(super) max_cookie_bytes: Option<Amount>,
    pub(super) key_delay: Option<Amount>,
}

/// `[refresh]`
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawRefresh {
    pub(super) ahead: Option<Amount>,
    pub(super) wait: Option<Amount>,
    pub(super) settle: Option<Amount>,
}

/// `[ledger]`
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawLedger {
    pub(super) backend: Option<String>,
    pub(super) path: Option<String>,
    pub(super) max_bytes: Option<Amount>,
    pub(super) url: Option<String>,
    pub(super) urls: Option<Vec<String>>,
    pub(super) sentinel: Option<String>,
    pub(super) cluster: Option<bool>,
    pub(super) username: Option<String>,
    pub(super) password: Option<RawSecret>,
    pub(super) sentinel_username: Option<String>,
    pub(super) sentinel_password: Option<RawSecret>,
    pub(super) ca_file: Option<String>,
    pub(super) prefix: Option<String>,
    pub(super) timeout: Option<Amount>,
}

/// `[admin]`
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawAdmin {
    pub(super) listen: Option<String>,
    pub(super) token: Option<RawSecret>,
    pub(super) sessions: Option<bool>,
}

/// `[logout]`
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawLogout {
    pub(super) after: Option<String>,
    pub(super) style: Option<String>,
    pub(super) method: Option<String>,
    pub(super) id_token_hint: Option<bool>,
    pub(super) logout_hint: Option<String>,
    pub(super) revoke: Option<bool>,
    pub(super) order: Option<String>,
    pub(super) revoke_after: Option<Amount>,
    pub(super) clear_site_data: Vec<String>,
    pub(super) front_channel: Option<String>,
    pub(super) strict_typ: Option<bool>,
}

/// `[cors]`
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawCors {
    pub(super) origins: Vec<String>,
}

/// `[[route]]`
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawRoute {
    pub(super) path: Option<String>,
    pub(super) upstream: Option<String>,
    pub(super) files: Option<String>,
    pub(super) auth: Option<String>,
    pub(super) methods: Option<Vec<String>>,
    pub(super) strip_prefix: Option<bool>,
    pub(super) files_max_bytes: Option<Amount>,
    pub(super) connect_timeout: Option<Amount>,
    pub(super) read_timeout: Option<Amount>,
    pub(super) http2: Option<bool>,
    pub(super) token: Option<RawToken>,
    pub(super) mtls: Option<RawShown>,
    pub(super) ca_file: Option<String>,
    pub(super) token_scheme: Option<String>,
    pub(super) dpop_url: Option<String>,
}

/// `route.token`
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawToken {
    pub(super) send: Option<bool>,
    pub(super) audience: Option<String>,
    pub(super) resource: Option<String>,
    pub(super) scopes: Option<Vec<String>>,
    pub(super) exchange: Option<bool>,
}

/// `[log]`
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawLog {
    pub(super) format: Option<String>,
    pub(super) level: Option<String>,
}

/// `[insecure]`
#[derive(Clone, Copy, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawInsecure {
    pub(super) plain_http_cookies: bool,
    pub(super) plain_http_issuer: bool,
    pub(super) plain_http_upstreams: bool,
    pub(super) plain_redis: bool,
    pub(super) inline_secrets: bool,
    pub(super) stale_endings: bool,
}

impl RawInsecure {
    /// The switches that accept clear text, by their names.
    pub(super) const fn plain_http(&self) -> [(&'static str, bool); 3] {
        [
            ("insecure.plain_http_cookies", self.plain_http_cookies),
            ("insecure.plain_http_issuer", self.plain_http_issuer),
            ("insecure.plain_http_upstreams", self.plain_http_upstreams),
        ]
    }
}

/// A number, or a number with a unit: `90`, `"15m"`, `"64MiB"`.
#[derive(Deserialize)]
#[serde(untagged, expecting = "a whole number, or one with its unit in quotes")]
pub(super) enum Amount {
    Number(i64),
    Text(String),
}

/// A secret, or where it is.
#[derive(Deserialize)]
#[serde(untagged, expecting = "{ file = \"…\" } or { env = \"…\" }")]
pub(super) enum RawSecret {
    Inline(Secret<String>),
    Elsewhere(RawSource),
}

/// Where a secret is. Exactly one of the two has to be there.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawSource {
    pub(super) file: Option<String>,
    pub(super) env: Option<String>,
}

/// A certificate and where its private key is. Both have to be there.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "{ certificate = \"…\", key = { file = \"…\" } }")]
pub(super) struct RawIdentity {
    pub(super) certificate: Option<String>,
    pub(super) key: Option<RawSecret>,
}

/// What a site says of https, or that it says nothing.
#[derive(Deserialize)]
#[serde(untagged, expecting = "\"max-age=…\" or false")]
pub(super) enum RawHsts {
    Switch(bool),
    Said(String),
}

/// A certificate of its own, or the name of another.
#[derive(Deserialize)]
#[serde(untagged, expecting = "\"issuer\" or { certificate = \"…\", key = { file = \"…\" } }")]
pub(super) enum RawShown {
    Named(String),
    Own(RawIdentity),
}

/// The whole file.
#[derive(Default)]
pub(super) struct RawConfig {
    pub(super) server: RawServer,
    pub(super) issuer: RawIssuer,
    pub(super) session: RawSession,
    pub(super) refresh: RawRefresh,
    pub(super) ledger: RawLedger,
    pub(super) admin: RawAdmin,
    pub(super) logout: RawLogout,
    pub(super) csrf: Option<String>,
    pub(super) cors: RawCors,
    /// With the name that reports use for each.
    pub(super) routes: Vec<(String, RawRoute)>,
    pub(super) log: RawLog,
    pub(super) insecure: RawInsecure,
}

impl RawConfig {
    /// Reads a file's text. What does not fit is noted, and missing from the result.
    ///
    /// # Errors
    /// If the text is not TOML: then nothing can be said about what it means.
    pub(super) fn read(text: &str) -> Result<(Self, Findings), Problems> {
        let (document, mut errors) = DeTable::parse_recoverable(text);
        if !errors.is_empty() {
            errors.sort_by_key(|error| error.span().map(|span| span.start));
            return Err(Problems(errors.iter().map(|error| not_toml(text, error, error.message())).collect()));
        }
        // What is TOML and still cannot be held in memory: a number beyond 64 bits.
        let table = toml::from_str::<Table>(text)
            .map_err(|error| Problems(vec![not_toml(text, &error, "the number is out of range")]))?;
        let mut reader = Reader::default();
        let raw = Self::from_table(table, &mut reader);
        let mut findings = Findings::new(places(document.get_ref()));
        for problem in reader.finish() {
            findings.note(problem);
        }
        Ok((raw, findings))
    }

    fn from_table(table: Table, reader: &mut Reader) -> Self {
        let tables: Tables = reader.table("", "", table);
        let routes = tables.route.into_iter().enumerate().map(|(index, table)| {
            let name = route_name(index, table.get("path").and_then(Value::as_str));
            let route = reader.table("route", &name, table);
            (name, route)
        });
        Self {
            routes: routes.collect(),
            server: reader.table("server", "server", tables.server),
            issuer: reader.table("issuer", "issuer", tables.issuer),
            session: reader.table("session", "session", tables.session),
            refresh: reader.table("refresh", "refresh", tables.refresh),
            ledger: reader.table("ledger", "ledger", tables.ledger),
            admin: reader.table("admin", "admin", tables.admin),
            logout: reader.table("logout", "logout", tables.logout),
            csrf: tables.csrf,
            cors: reader.table("cors", "cors", tables.cors),
            log: reader.table("log", "log", tables.log),
            insecure: reader.table("insecure", "insecure", tables.insecure),
        }
    }
}

/// Every key that there is, tables left out: `server.listen`, `route.path`, `csrf`.
pub(super) fn known_keys() -> BTreeSet<String> {
    let mut reader = Reader::default();
    let one_route = Value::Array(vec![Value::Table(Table::new())]);
    RawConfig::from_table(Table::from_iter([("route".to_owned(), one_route)]), &mut reader);
    let tables: BTreeSet<_> = reader.known().iter().map(|(table, _)| *table).collect();
    let keys = reader.known().iter().filter(|(table, key)| !(table.is_empty() && tables.contains(key)));
    keys.map(|(table, key)| path(table, key)).collect()
}

/// The file's first level, its tables not looked into yet.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Tables {
    csrf: Option<String>,
    server: Table,
    issuer: Table,
    session: Table,
    refresh: Table,
    ledger: Table,
    admin: Table,
    logout: Table,
    cors: Table,
    route: Vec<Table>,
    log: Table,
    insecure: Table,
}

/// A syntax error, by its place. The parser's own report would repeat the line, which may hold a secret.
fn not_toml(text: &str, error: &toml::de::Error, found: &str) -> Problem {
    let before = text.get(..error.span().map_or(0, |span| span.start)).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    Flaw::new(found, "correct it (the format is TOML, https://toml.io)").at(format!("line {line}"))
}

/// Where each key stands in the text.
fn places(document: &DeTable<'_>) -> BTreeMap<String, usize> {
    let mut places = BTreeMap::new();
    for (key, value) in document {
        places.insert(key.get_ref().to_string(), key.span().start);
        match value.get_ref() {
            DeValue::Table(table) => inner_places(key.get_ref(), table, &mut places),
            DeValue::Array(entries) => {
                for (index, entry) in entries.iter().enumerate() {
                    let DeValue::Table(table) = entry.get_ref() else { continue };
                    let name = route_name(index, table.get("path").and_then(|path| path.get_ref().as_str()));
                    places.insert(name.clone(), entry.span().start);
                    inner_places(&name, table, &mut places);
                }
            }
            DeValue::String(_)
            | DeValue::Integer(_)
            | DeValue::Float(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_) => {}
        }
    }
    places
}

fn inner_places(name: &str, table: &DeTable<'_>, places: &mut BTreeMap<String, usize>) {
    for key in table.keys() {
        places.insert(path(name, key.get_ref()), key.span().start);
    }
}

/// What reports call a route: by its path, else by its place in the file, counted from 1.
fn route_name(index: usize, path: Option<&str>) -> String {
    path.map_or_else(|| format!("route[{}]", index + 1), |path| format!("route[{path:?}]"))
}
