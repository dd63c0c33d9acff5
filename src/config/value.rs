//! From texts and numbers to values that mean something. Each function says what it found wrong, and what would be right.

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http::{HeaderValue, Method};
use ipnet::IpNet;
use url::{Host, Url};
use zeroize::Zeroizing;

use super::file::{Amount, RawSecret, RawSource};
use super::problem::{Flaw, quoted};
use crate::gateway::route::CanonicalPath;
use crate::secret::Secret;

const SPANS: &[(&str, u64)] = &[("s", 1), ("m", 60), ("h", 3600), ("d", 86400)];
const SIZES: &[(&str, u64)] = &[("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)];

/// A span of time within `seconds`.
pub(super) fn span(amount: &Amount, seconds: RangeInclusive<u64>) -> Result<Duration, Flaw> {
    measure(amount, SPANS, "seconds, or a text such as \"90s\", \"15m\", \"12h\",", seconds).map(Duration::from_secs)
}

/// A size within `bytes`.
pub(super) fn size(amount: &Amount, bytes: RangeInclusive<u64>) -> Result<u64, Flaw> {
    measure(amount, SIZES, "bytes, or a text such as \"512KiB\", \"64MiB\",", bytes)
}

/// A number of things.
pub(super) fn count(amount: &Amount, range: RangeInclusive<usize>) -> Result<usize, Flaw> {
    let range = as_u64(*range.start())..=as_u64(*range.end());
    measure(amount, &[], "a whole number", range).map(as_usize)
}

/// The number of bytes that this machine can address, if there are more.
pub(super) fn as_usize(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

fn as_u64(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

fn measure(amount: &Amount, units: &[(&str, u64)], what: &str, range: RangeInclusive<u64>) -> Result<u64, Flaw> {
    let (found, number) = match amount {
        Amount::Number(number) => (number.to_string().into(), u64::try_from(*number).ok()),
        Amount::Text(text) => (quoted(text), with_unit(text, units)),
    };
    number.filter(|number| range.contains(number)).ok_or_else(|| {
        let fault = if number.is_some() { "out of range" } else { "no such amount" };
        let (least, most) = (range.start(), range.end());
        Flaw::new(format!("{found} is {fault}"), format!("write {what} from {least} to {most}"))
    })
}

fn with_unit(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits)?;
    let (_, factor) = units.iter().find(|(name, _)| *name == unit)?;
    number.parse::<u64>().ok()?.checked_mul(*factor)
}

/// One of several words.
pub(super) fn choice<T: Copy>(text: &str, words: &[(&str, T)]) -> Result<T, Flaw> {
    words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value).ok_or_else(|| {
        let words: Vec<_> = words.iter().map(|(word, _)| format!("{word:?}")).collect();
        Flaw::new(format!("{} is not known", quoted(text)), format!("write {}", words.join(" or ")))
    })
}

/// An address to listen on.
pub(super) fn listen_address(text: &str) -> Result<SocketAddr, Flaw> {
    text.parse().map_err(|_| {
        let found = format!("{} is not an address with a port", quoted(text));
        Flaw::new(found, "write numbers, such as \"127.0.0.1:8080\" or \"[::]:8080\"")
    })
}

/// A network, or a single address.
pub(super) fn network(text: &str) -> Result<IpNet, Flaw> {
    let single = || text.parse::<IpAddr>().ok().map(IpNet::from);
    text.parse::<IpNet>().ok().or_else(single).map(|network| network.trunc()).ok_or_else(|| {
        let found = format!("{} is neither an address nor a network", quoted(text));
        Flaw::new(found, "write for example \"10.0.0.7\" or \"10.0.0.0/8\"")
    })
}

/// An http or https URL that says where something is and nothing else. A path is allowed.
pub(super) fn web_url(text: &str) -> Result<Url, Flaw> {
    const REMEDY: &str = "write for example \"https://host.example.com\"";
    // The parser forgives much: white space, backslashes, a missing slash. What is written here is also compared as text.
    let plain = ["https://", "http://"].iter().any(|start| text.starts_with(start))
        && !text.contains(|c: char| c.is_whitespace() || c.is_control() || c == '\\');
    let url = Url::parse(text).ok().filter(|url| plain && url.has_host());
    let url = url.ok_or_else(|| Flaw::new(format!("{} is not an http or https URL", quoted(text)), REMEDY))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(Flaw::new("there is a user name or password in the URL", "take it out"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(Flaw::new(format!("{} has a query or a fragment", quoted(text)), "take it off"));
    }
    Ok(url)
}

/// A URL without a path, as an origin is written. A final slash is allowed.
pub(super) fn site_url(text: &str) -> Result<Url, Flaw> {
    let url = web_url(text)?;
    if url.path() == "/" {
        Ok(url)
    } else {
        let remedy = format!("write {:?}", url.origin().ascii_serialization());
        Err(Flaw::new(format!("{} has a path", quoted(text)), remedy))
    }
}

/// The origin of other scripts, exactly as browsers send it. In clear text only from this machine.
pub(super) fn foreign_origin(text: &str) -> Result<String, Flaw> {
    let url = site_url(text)?;
    let origin = url.origin().ascii_serialization();
    if origin != text {
        return Err(Flaw::new(format!("{} is not how browsers write it", quoted(text)), format!("write {origin:?}")));
    }
    if is_clear_text(&url) {
        let found = format!("{origin:?} is plain http, where anybody on the way can add scripts");
        return Err(Flaw::new(found, "write the https origin"));
    }
    Ok(origin)
}

/// Whether what is sent to `url` can be read on its way: plain http to another machine.
pub(super) fn is_clear_text(url: &Url) -> bool {
    url.scheme() == "http" && !url.host().is_some_and(|host| is_this_machine(&host))
}

/// Whether what is sent to `host` stays on this machine.
pub(super) fn is_this_machine<S: AsRef<str>>(host: &Host<S>) -> bool {
    match host {
        Host::Domain(name) => name.as_ref() == "localhost" || name.as_ref().ends_with(".localhost"),
        Host::Ipv4(address) => address.is_loopback(),
        Host::Ipv6(address) => address.is_loopback(),
    }
}

/// A path in the form that requests are compared in.
pub(super) fn canonical_path(text: &str) -> Result<String, Flaw> {
    if !text.starts_with('/') {
        return Err(Flaw::new(
            format!("{} does not begin with a slash", quoted(text)),
            format!("write {}", quoted(&format!("/{text}"))),
        ));
    }
    match CanonicalPath::parse(text) {
        Ok(path) if path.as_str() == text => Ok(text.to_owned()),
        Ok(path) => {
            Err(Flaw::new(format!("{} is encoded needlessly", quoted(text)), format!("write {:?}", path.as_str())))
        }
        Err(ambiguous) => {
            let found = format!("{} contains {}", quoted(text), ambiguous.0);
            Err(Flaw::new(found, "write it without: no request with such a path is let through"))
        }
    }
}

/// A method that may be forwarded.
pub(super) fn method(text: &str) -> Result<Method, Flaw> {
    if ["TRACE", "CONNECT"].contains(&text) {
        return Err(Flaw::new(format!("{text:?} is never forwarded"), "take it out"));
    }
    let method =
        Method::from_bytes(text.as_bytes()).ok().filter(|_| !text.bytes().any(|byte| byte.is_ascii_lowercase()));
    method.ok_or_else(|| Flaw::new(format!("{} is not a method", quoted(text)), "write it in capitals, as in \"GET\""))
}

/// A policy as `Strict-Transport-Security` says it (RFC 6797 section 6.1).
pub(super) fn hsts(text: &str) -> Result<HeaderValue, Flaw> {
    let mut names: Vec<String> = Vec::new();
    let mut is_right = true;
    for directive in text.split(';').map(str::trim) {
        let (name, value) = directive.split_once('=').map_or((directive, None), |(name, value)| (name, Some(value)));
        let name = name.to_ascii_lowercase();
        is_right &= match (name.as_str(), value) {
            ("max-age", Some(seconds)) => !seconds.is_empty() && seconds.bytes().all(|byte| byte.is_ascii_digit()),
            ("includesubdomains" | "preload", None) => true,
            _ => false,
        } && !names.contains(&name);
        names.push(name);
    }
    is_right &= names.iter().any(|name| name == "max-age");
    HeaderValue::from_str(text).ok().filter(|_| is_right).ok_or_else(|| {
        let remedy = "write \"max-age=31536000; includeSubDomains\" or the like, or false to say nothing";
        Flaw::new(format!("{} is no such policy", quoted(text)), remedy)
    })
}

/// A file that has certificates in it.
pub(super) fn certificates(file: PathBuf) -> Result<PathBuf, Flaw> {
    let shown = quoted(&file.to_string_lossy());
    match std::fs::read_to_string(&file) {
        Ok(text) if text.contains("-----BEGIN CERTIFICATE-----") => Ok(file),
        Ok(_) => Err(Flaw::new(format!("{shown} holds no certificate"), "name a file in PEM form")),
        Err(error) => Err(Flaw::new(format!("{shown} cannot be read ({error})"), "correct the path")),
    }
}

/// Where secrets are taken from.
pub(super) struct Sources<'a> {
    /// The folder that relative paths begin in.
    pub(super) base: &'a Path,
    /// The environment.
    pub(super) env: &'a dyn Fn(&str) -> Option<String>,
    /// Whether the file itself may hold secrets.
    pub(super) inline: bool,
}

impl Sources<'_> {
    /// Fetches a secret. A single end of line behind it is not part of it: editors and `echo` leave one.
    pub(super) fn fetch(&self, secret: RawSecret) -> Result<Secret<String>, Flaw> {
        let text = self.fetch_text(secret)?;
        let line = text.strip_suffix('\n').unwrap_or(&text);
        let line = line.strip_suffix('\r').unwrap_or(line);
        if line.is_empty() {
            return Err(Flaw::new("the secret is empty", "put one there"));
        }
        if line.contains(char::is_control) {
            return Err(Flaw::new("the secret has several lines, or control characters", "keep it alone, on one line"));
        }
        Ok(Secret::new(line.to_owned()))
    }

    /// Fetches a secret of any form, such as a key in PEM form, as it stands.
    pub(super) fn fetch_text(&self, secret: RawSecret) -> Result<Zeroizing<String>, Flaw> {
        match secret {
            RawSecret::Inline(secret) if self.inline => Ok(Zeroizing::new(secret.expose().clone())),
            RawSecret::Inline(_) => {
                let remedy = "write { file = \"…\" } or { env = \"…\" }, or set insecure.inline_secrets";
                Err(Flaw::new("the secret itself stands in the file", remedy))
            }
            RawSecret::Elsewhere(RawSource { file: Some(file), env: None }) => self.file(&file),
            RawSecret::Elsewhere(RawSource { file: None, env: Some(name) }) => self.variable(&name),
            RawSecret::Elsewhere(RawSource { file: Some(_), env: Some(_) } | RawSource { file: None, env: None }) => {
                Err(Flaw::new("the secret has no one place", "write either { file = \"…\" } or { env = \"…\" }"))
            }
        }
    }

    /// The file that a secret is in, if it is in one.
    pub(super) fn path_of(&self, secret: &RawSecret) -> Option<PathBuf> {
        match secret {
            RawSecret::Elsewhere(RawSource { file: Some(file), .. }) => Some(self.base.join(file)),
            RawSecret::Elsewhere(RawSource { file: None, .. }) | RawSecret::Inline(_) => None,
        }
    }

    fn file(&self, file: &str) -> Result<Zeroizing<String>, Flaw> {
        let path = self.base.join(file);
        let shown = quoted(&path.to_string_lossy());
        std::fs::read_to_string(path).map(Zeroizing::new).map_err(|error| {
            let remedy = "correct the path, or let this process read the file";
            Flaw::new(format!("{shown} cannot be read ({error})"), remedy)
        })
    }

    fn variable(&self, name: &str) -> Result<Zeroizing<String>, Flaw> {
        // What does not look like a name may be the secret, written where its name belongs.
        let plausible = name.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_');
        let shown = if plausible { name } else { "(name not shown)" };
        (self.env)(name).map(Zeroizing::new).ok_or_else(|| {
            Flaw::new(format!("the environment variable {shown} is not set"), "set it, or correct its name")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_have_units_and_bounds() {
        let seconds = |amount| span(&amount, 1..=86_400).ok().map(|span| span.as_secs());
        let text = |text: &str| seconds(Amount::Text(text.to_owned()));
        assert_eq!(seconds(Amount::Number(90)), Some(90));
        assert_eq!(
            (text("90s"), text("15m"), text("12h"), text("1d")),
            (Some(90), Some(900), Some(43_200), Some(86_400))
        );
        for wrong in
            ["", "90", "s", "-1s", "1.5h", "1 h", "1H", "2d", "0s", "99999999999999999999s", "9999999999999999d"]
        {
            assert_eq!(text(wrong), None, "{wrong}");
        }
        assert_eq!((seconds(Amount::Number(0)), seconds(Amount::Number(-5))), (None, None));
        assert_eq!(size(&Amount::Text("64MiB".to_owned()), 0..=u64::MAX), Ok(64 << 20));
        assert!(size(&Amount::Text("64MB".to_owned()), 0..=u64::MAX).is_err());
        assert!(count(&Amount::Text("4".to_owned()), 1..=8).is_err());
    }

    #[test]
    fn a_url_says_where_something_is_and_nothing_else() {
        assert!(web_url("https://api.test:8443/base/").is_ok());
        for wrong in [
            "",
            "api.test",
            "ftp://api.test",
            "https:api.test",
            "HTTPS://api.test",
            " https://api.test",
            "https://a.test/ b",
            "https:\\\\api.test",
            "https://",
            "https://api.test?x=1",
            "https://api.test#top",
            "https://ada@api.test",
            "https://:pw@api.test",
        ] {
            assert!(web_url(wrong).is_err(), "{wrong}");
        }
        assert!(site_url("https://app.test/").is_ok());
        assert!(site_url("https://app.test/app").is_err());
    }

    #[test]
    fn only_what_stays_on_this_machine_is_not_clear_text() {
        let clear = |text: &str| is_clear_text(&Url::parse(text).expect(text));
        for (url, expected) in [
            ("https://api.test", false),
            ("http://localhost:9000", false),
            ("http://127.8.0.1", false),
            ("http://[::1]:9000", false),
            ("http://app.localhost", false),
            ("http://api", true),
            ("http://localhost.evil.test", true),
            ("http://127.0.0.1.evil.test", true),
            ("http://10.0.0.1", true),
            ("http://0.0.0.0", true),
        ] {
            assert_eq!(clear(url), expected, "{url}");
        }
    }

    #[test]
    fn an_origin_is_written_as_browsers_send_it() {
        // FM-02
        assert_eq!(foreign_origin("https://other.test:8443").as_deref(), Ok("https://other.test:8443"));
        assert_eq!(foreign_origin("http://localhost:5173").as_deref(), Ok("http://localhost:5173"));
        let wrong =
            ["*", "null", "https://other.test/", "https://other.test:443", "https://Other.test", "http://other.test"];
        for wrong in wrong {
            assert!(foreign_origin(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_policy_about_https_says_for_how_long() {
        // HSTS-01
        for right in
            ["max-age=31536000", "max-age=0", "Max-Age=63072000; includeSubDomains; preload", "preload;max-age=1"]
        {
            assert!(hsts(right).is_ok(), "{right}");
        }
        for wrong in [
            "",
            "includeSubDomains",
            "max-age",
            "max-age=",
            "max-age=1y",
            "max-age=1; max-age=2",
            "max-age=1;",
            "max-age=1; x",
            "max-age=1\r\nx: y",
        ] {
            assert!(hsts(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn networks_are_single_addresses_too() {
        let network = |text: &str| network(text).map(|network| network.to_string()).ok();
        assert_eq!(network("10.1.2.3").as_deref(), Some("10.1.2.3/32"));
        assert_eq!(network("10.1.2.3/8").as_deref(), Some("10.0.0.0/8"));
        assert_eq!(network("fd00::1").as_deref(), Some("fd00::1/128"));
        assert_eq!(network("10.1.2.3/33"), None);
        assert_eq!(network("proxy"), None);
    }

    #[test]
    fn methods_are_in_capitals_and_none_that_echoes_cookies() {
        // A TRACE would show a script what it sent, cookies included (RFC 9110 section 9.3.8).
        assert_eq!(method("PROPFIND").map(|method| method.to_string()).as_deref(), Ok("PROPFIND"));
        for wrong in ["TRACE", "CONNECT", "get", "", "G T"] {
            assert!(method(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_secret_is_one_line_from_one_place() {
        let folder = tempfile::tempdir().expect("a folder");
        let env = |name: &str| (name == "SECRET").then(|| "from env".to_owned());
        let sources = |inline| Sources { base: folder.path(), env: &env, inline };
        let elsewhere = |file: Option<&str>, env: Option<&str>| {
            RawSecret::Elsewhere(RawSource { file: file.map(str::to_owned), env: env.map(str::to_owned) })
        };
        let content = |bytes: &[u8]| {
            std::fs::write(folder.path().join("secret"), bytes).expect("a file");
            sources(false).fetch(elsewhere(Some("secret"), None)).map(|secret| secret.expose().clone())
        };
        for (bytes, expected) in [
            (b"hunter2".as_slice(), Some("hunter2")),
            (b"hunter2\n", Some("hunter2")),
            (b"hunter2\r\n", Some("hunter2")),
            (b" hunter2 ", Some(" hunter2 ")),
            (b"hunter2\n\n", None),
            (b"a\nb", None),
            (b"\n", None),
            (b"", None),
            (b"\xff", None),
        ] {
            assert_eq!(content(bytes).ok().as_deref(), expected, "{bytes:?}");
        }
        let fetched = |inline, secret| sources(inline).fetch(secret).map(|secret| secret.expose().clone()).ok();
        assert_eq!(fetched(false, elsewhere(None, Some("SECRET"))).as_deref(), Some("from env"));
        assert_eq!(fetched(false, elsewhere(None, Some("OTHER"))), None);
        assert_eq!(fetched(false, elsewhere(Some("secret"), Some("SECRET"))), None);
        assert_eq!(fetched(false, elsewhere(None, None)), None);
        let inline = || RawSecret::Inline(Secret::new("hunter2".to_owned()));
        assert_eq!(fetched(true, inline()).as_deref(), Some("hunter2"));
        assert_eq!(fetched(false, inline()), None);
    }

    #[test]
    fn a_secret_in_the_place_of_its_name_is_not_repeated() {
        // BCP-4.9-01
        let sources = Sources { base: Path::new("/nowhere"), env: &|_| None, inline: false };
        for source in [
            RawSource { file: Some("vestibule-key.1.0.hunter2".to_owned()), env: None },
            RawSource { file: None, env: Some("hunter2".to_owned()) },
        ] {
            let flaw = sources.fetch(RawSecret::Elsewhere(source)).expect_err("no such place").at("key");
            assert!(!flaw.to_string().contains("hunter2"), "{flaw}");
        }
    }
}
