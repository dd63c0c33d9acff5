//! What `[ledger]` has to be.

use std::path::PathBuf;

use url::{Host, Url};

use super::LedgerSettings;
use super::file::{RawLedger, RawSecret};
use super::problem::{Flaw, quoted};
use super::rules::Checker;
use super::value::{as_usize, certificates, choice, is_this_machine, size};
use crate::ledger::redis::{Mode, Node, RedisSettings, Tls};
use crate::secret::Secret;

/// Where a ledger may lie.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Backend {
    File,
    Redis,
    Memory,
}

const BACKENDS: [(&str, Backend); 3] =
    [("file", Backend::File), ("redis", Backend::Redis), ("memory", Backend::Memory)];
/// Set by systemd for a unit with `StateDirectory=`.
const STATE_FOLDER: &str = "STATE_DIRECTORY";

/// Turns `[ledger]` into settings, if nothing that it needs is missing.
pub(super) fn apply(checker: &mut Checker<'_>, raw: RawLedger) -> Option<LedgerSettings> {
    let backend = checker.or("ledger.backend", raw.backend.as_deref(), Backend::File, |text| choice(text, &BACKENDS));
    refuse_what_belongs_elsewhere(checker, &raw, backend);
    match backend {
        Backend::File => {
            let max_bytes = checker.or("ledger.max_bytes", raw.max_bytes, 1 << 30, |it| size(&it, 1 << 20..=1 << 40));
            let folder = folder(checker, raw.path)?;
            Some(LedgerSettings::File { folder, max_bytes: as_usize(max_bytes) })
        }
        Backend::Memory => {
            checker.warn(
                "ledger.backend is \"memory\": a restart forgets which sessions were ended, so that a copied cookie of one \
                 works again, and the result of a refresh that did not reach its browser, so that it has to sign in again; \
                 other replicas know nothing of it",
            );
            let max_bytes = checker.or("ledger.max_bytes", raw.max_bytes, 64 << 20, |it| size(&it, 1 << 20..=1 << 40));
            Some(LedgerSettings::Memory { max_bytes: as_usize(max_bytes) })
        }
        Backend::Redis => redis(checker, raw).map(|settings| LedgerSettings::Redis(Box::new(settings))),
    }
}

/// Keys of another back end would do nothing, and whoever wrote them thinks that they do.
fn refuse_what_belongs_elsewhere(checker: &mut Checker<'_>, raw: &RawLedger, backend: Backend) {
    let redis = Some(Backend::Redis);
    let keys = [
        ("path", raw.path.is_some(), Some(Backend::File)),
        ("url", raw.url.is_some(), redis),
        ("urls", raw.urls.is_some(), redis),
        ("sentinel", raw.sentinel.is_some(), redis),
        ("cluster", raw.cluster.is_some(), redis),
        ("username", raw.username.is_some(), redis),
        ("password", raw.password.is_some(), redis),
        ("sentinel_username", raw.sentinel_username.is_some(), redis),
        ("sentinel_password", raw.sentinel_password.is_some(), redis),
        ("ca_file", raw.ca_file.is_some(), redis),
        ("prefix", raw.prefix.is_some(), redis),
        ("timeout", raw.timeout.is_some(), redis),
    ];
    for (key, _, of) in keys.iter().filter(|(_, is_there, of)| *is_there && *of != Some(backend)) {
        let name =
            |wanted: Option<Backend>| BACKENDS.iter().find(|(_, it)| Some(*it) == wanted).map_or("", |(it, _)| it);
        let found = format!("it says nothing to the back end \"{}\"", name(Some(backend)));
        let remedy = format!("take it out, or write ledger.backend = \"{}\"", name(*of));
        checker.note(&format!("ledger.{key}"), Flaw::new(found, remedy));
    }
    if backend == Backend::Redis && raw.max_bytes.is_some() {
        let flaw =
            Flaw::new("it says nothing to the back end \"redis\"", "take it out; the server has its own maxmemory");
        checker.note("ledger.max_bytes", flaw);
    }
}

fn folder(checker: &mut Checker<'_>, raw: Option<String>) -> Option<PathBuf> {
    let state_folder = (checker.sources.env)(STATE_FOLDER).filter(|folder| !folder.is_empty());
    let remedy = "write a folder that outlives a restart, such as \"/var/lib/vestibule\"";
    let folder = checker.required("ledger.path", raw.or(state_folder), remedy, |text| match text.as_str() {
        "" => Err(Flaw::new("it is empty", remedy)),
        text => Ok(PathBuf::from(text)),
    })?;
    Some(checker.sources.base.join(folder))
}

fn redis(checker: &mut Checker<'_>, raw: RawLedger) -> Option<RedisSettings> {
    let remedy = "write for example \"rediss://redis.example.com:6379\"";
    let urls = match (raw.url, raw.urls) {
        (Some(_), Some(_)) => {
            checker
                .note("ledger.urls", Flaw::new("there is ledger.url too", "write one server as url, several as urls"));
            return None;
        }
        (url, Some(urls)) if url.is_none() && urls.is_empty() => {
            checker.note("ledger.urls", Flaw::new("the list is empty", remedy));
            return None;
        }
        (_, Some(urls)) => ("ledger.urls", urls),
        (url, None) => ("ledger.url", vec![checker.required("ledger.url", url, remedy, Ok)?]),
    };
    let (key, texts) = urls;
    let plain = checker.insecure.plain_redis;
    let servers = checker.each(key, &texts, |text| server(text, plain));
    let first = servers.first()?;
    if servers.iter().any(|it| (it.tls, it.database) != (first.tls, first.database)) {
        let flaw = Flaw::new("some differ in scheme or database", "write the same for all of them");
        checker.note(key, flaw);
    }
    let (tls, database) = (first.tls, first.database);
    let mode = match (raw.sentinel, raw.cluster.unwrap_or(false)) {
        (Some(_), true) => {
            checker.note("ledger.cluster", Flaw::new("there is ledger.sentinel too", "take one of them out"));
            return None;
        }
        (Some(master), false) => Mode::Sentinel {
            master,
            username: raw.sentinel_username,
            password: secret(checker, "ledger.sentinel_password", raw.sentinel_password),
        },
        (None, true) => Mode::Cluster,
        (None, false) => Mode::Single,
    };
    if matches!(mode, Mode::Single) && servers.len() > 1 {
        let flaw = Flaw::new("there are several", "name one, or write ledger.sentinel or ledger.cluster");
        checker.note(key, flaw);
    }
    if matches!(mode, Mode::Cluster) && database > 0 {
        checker.note(key, Flaw::new(format!("database {database}: a cluster has none but 0"), "take it off"));
    }
    let ca_file = raw.ca_file.and_then(|file| {
        let file = certificates(checker.sources.base.join(file));
        checker.check("ledger.ca_file", file)
    });
    if ca_file.is_some() && !tls {
        checker.note("ledger.ca_file", Flaw::new("no server is reached by TLS", "write rediss://, or take it out"));
    }
    let prefix = checker.or("ledger.prefix", raw.prefix, "vestibule".to_owned(), prefix);
    let timeout = checker.span("ledger.timeout", raw.timeout.as_ref(), 1, 1, 10);
    Some(RedisSettings {
        nodes: servers.into_iter().map(|server| server.node).collect(),
        mode,
        tls: tls.then_some(Tls { ca_file }),
        username: raw.username,
        password: secret(checker, "ledger.password", raw.password),
        database,
        prefix,
        timeout,
    })
}

struct Server {
    node: Node,
    tls: bool,
    database: u16,
}

/// `redis://host:port/database`, or `rediss://` for TLS.
fn server(text: &str, plain: bool) -> Result<Server, Flaw> {
    const REMEDY: &str = "write for example \"rediss://redis.example.com:6379\"";
    let wrong = || Flaw::new(format!("{} is not a redis or rediss URL", quoted(text)), REMEDY);
    let url = Url::parse(text).ok().filter(|url| ["redis", "rediss"].contains(&url.scheme())).ok_or_else(wrong)?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(Flaw::new(
            "there is a user name or password in the URL",
            "take it out, and write ledger.username and ledger.password = { file = \"…\" }",
        ));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(Flaw::new(format!("{} has a query or a fragment", quoted(text)), "take it off"));
    }
    // The parser does not look into hosts of schemes that it does not know.
    let host = url.host_str().and_then(|host| Host::parse(host).ok()).ok_or_else(wrong)?;
    let tls = url.scheme() == "rediss";
    if !tls && !plain && !is_this_machine(&host) {
        let found = format!("{} is in clear text, and not on this machine", quoted(text));
        return Err(Flaw::new(found, "write rediss://, or set insecure.plain_redis"));
    }
    let database = match url.path().trim_start_matches('/') {
        "" => 0,
        number => number.parse().map_err(|_| {
            Flaw::new(format!("{} has a path", quoted(text)), "write the database's number, or nothing")
        })?,
    };
    let host = host.to_string().trim_matches(['[', ']']).to_owned();
    Ok(Server { node: Node { host, port: url.port().unwrap_or(6379) }, tls, database })
}

fn prefix(text: String) -> Result<String, Flaw> {
    let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte));
    if plain && text.len() <= 64 {
        Ok(text)
    } else {
        Err(Flaw::new(
            format!("{} cannot begin a key", quoted(&text)),
            "write up to 64 letters, digits, or any of -_.:",
        ))
    }
}

fn secret(checker: &mut Checker<'_>, key: &str, raw: Option<RawSecret>) -> Option<Secret<String>> {
    let secret = checker.sources.fetch(raw?);
    checker.check(key, secret)
}
