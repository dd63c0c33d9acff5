//! Which route a path belongs to. One parse of the path decides, and what was parsed is what is forwarded.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::Method;
use url::{Position, Url};

use super::files::Files;
use crate::identity::Identity;
use crate::oauth::{Means, TokenTarget};
use crate::session::{Freshness, HeldToken, Present, Session};

/// Who may use a route, and what a request without a session gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Needs a session. Without one: 401, never a redirect.
    Api,
    /// Needs a session. Without one a top-level navigation is sent to the login, anything else gets 401.
    Page,
    /// Carries the token of a session if there is one.
    Optional,
    /// Public. No token; our cookies are stripped all the same.
    Public,
}

/// Where a route leads.
#[derive(Clone, Debug)]
pub enum Target {
    /// To another server.
    Upstream(Arc<Upstream>),
    /// To files that were read into memory.
    Files(Arc<Files>),
}

/// Which token the requests of a route carry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum RouteToken {
    /// That of the session.
    #[default]
    Session,
    /// None: the upstream needs no token, and gets none that is good elsewhere (RFC 9700 section 4.10.2). The session is kept
    /// fresh all the same.
    None,
    /// One of its own, which is asked for when it is first needed.
    Own(Arc<TokenTarget>),
}

/// What a flight is to bring.
#[derive(Clone, Debug)]
pub enum Errand {
    /// A fresh access token.
    Refresh,
    /// The token for one API.
    Fetch(Arc<TokenTarget>),
}

impl Errand {
    /// Whether it spends no refresh token.
    pub fn is_exchange(&self) -> bool {
        matches!(self, Self::Fetch(target) if target.means() == Means::Exchange)
    }
}

impl RouteToken {
    /// What `session` has of it.
    pub fn carried_by<'s>(&self, session: &'s Session) -> Option<&'s HeldToken> {
        match self {
            Self::Session => Some(&session.grant.access),
            Self::None => None,
            Self::Own(target) => session.grant.other(target.id()),
        }
    }

    /// How it stands in `session` at present, and what is to be done about it if that is not well.
    pub fn freshness(&self, session: &Session, present: &Present<'_>) -> (Freshness, Errand) {
        let usual = session.freshness(present);
        match self {
            Self::Session | Self::None => (usual, Errand::Refresh),
            // What is spent is exchanged for nothing.
            Self::Own(target) if target.means() == Means::Exchange && usual == Freshness::Spent => {
                (session.freshness_for(target, present), Errand::Refresh)
            }
            Self::Own(target) => (session.freshness_for(target, present), Errand::Fetch(Arc::clone(target))),
        }
    }
}

/// A server that requests are forwarded to.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Upstream {
    /// Its origin, and the path that every forwarded path is put behind.
    pub url: Url,
    /// How long a connection may take to be made.
    pub connect_timeout: Duration,
    /// How long it may be silent while it is being read from or written to.
    pub read_timeout: Duration,
    /// Whether it is spoken to in HTTP/2 (RFC 9113): without TLS in nothing else (section 3.3), with TLS if it agrees
    /// (section 3.2).
    pub http2: bool,
    /// The roots of trust for its certificate; none for the operating system's.
    pub trust: Option<Trust>,
    /// What it is shown where it asks for a certificate: for tokens that are bound to one, the same as the authorization
    /// server is shown (RFC 8705 section 3).
    pub identity: Option<Identity>,
    /// Whether tokens are shown to it as bearer tokens even where they are bound to a key (RFC 9449 section 7.2).
    pub bearer: bool,
    /// Its address as it knows it itself, in place of `url`, where a proxy of its own stands before it: proofs name it.
    pub external_url: Option<Url>,
}

/// Certificates that issue those of an upstream, in place of the operating system's roots of trust.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Trust(Arc<[Vec<u8>]>);

impl Trust {
    /// In these certificates alone, as DER.
    pub fn only(roots: impl IntoIterator<Item = Vec<u8>>) -> Self {
        Self(roots.into_iter().collect())
    }

    /// The certificates, as DER.
    pub fn roots(&self) -> &[Vec<u8>] {
        &self.0
    }
}

/// Host and port of `url`, as a `Host` field names them: the port only if it is not the scheme's own.
pub fn authority(url: &Url) -> &str {
    &url[Position::BeforeHost..Position::AfterPort]
}

/// One entry of the route table.
#[derive(Clone, Debug)]
pub struct Route {
    /// The path that it begins with. With a final slash it covers everything below; without one, that very path and
    /// everything below.
    pub path: String,
    /// Who may use it.
    pub access: Access,
    /// Where it leads.
    pub target: Target,
    /// The methods that it lets through.
    pub methods: Vec<Method>,
    /// Whether `path` is taken off before the request is forwarded.
    pub strip_prefix: bool,
    /// Which token its requests carry.
    pub token: RouteToken,
}

/// All routes of a site; the longest path that fits wins.
#[derive(Clone, Debug, Default)]
pub struct RouteTable {
    /// Longest path first.
    routes: Vec<Arc<Route>>,
    /// How many of them have tokens of their own.
    own_tokens: usize,
}

impl RouteTable {
    /// A table of `routes`, in any order.
    pub fn new(routes: impl IntoIterator<Item = Route>) -> Self {
        let mut routes: Vec<_> = routes.into_iter().map(Arc::new).collect();
        routes.sort_by_key(|route| std::cmp::Reverse(route.path.len()));
        let own_tokens = routes.iter().filter(|route| matches!(route.token, RouteToken::Own(_))).count();
        Self { routes, own_tokens }
    }

    /// How many routes have tokens of their own.
    pub const fn own_tokens(&self) -> usize {
        self.own_tokens
    }

    /// The route that `path` belongs to.
    pub fn find(&self, path: &CanonicalPath) -> Option<&Arc<Route>> {
        self.routes.iter().find(|route| covers(&route.path, &path.0))
    }

    /// Every upstream of the table, once.
    pub fn upstreams(&self) -> Vec<Arc<Upstream>> {
        let mut found: Vec<Arc<Upstream>> = Vec::new();
        for route in &self.routes {
            if let Target::Upstream(upstream) = &route.target
                && !found.contains(upstream)
            {
                found.push(Arc::clone(upstream));
            }
        }
        found
    }
}

fn covers(prefix: &str, path: &str) -> bool {
    path.strip_prefix(prefix).is_some_and(|rest| prefix.ends_with('/') || rest.is_empty() || rest.starts_with('/'))
}

/// A path in the one form that both the decision and the upstream see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CanonicalPath(String);

impl CanonicalPath {
    /// Reads the path of a request target.
    ///
    /// Percent-encoded letters, digits and `-._~` are decoded, which changes no meaning (RFC 3986 section 6.2.2.2), so
    /// that no route can be avoided by writing it otherwise.
    ///
    /// # Errors
    /// If servers disagree about what the path means: dot segments, empty segments, encoded slashes, backslashes,
    /// control characters, raw bytes above ASCII, broken percent-encoding.
    pub fn parse(path: &str) -> Result<Self, AmbiguousPath> {
        let mut canonical = String::with_capacity(path.len());
        let mut bytes = path.bytes();
        while let Some(byte) = bytes.next() {
            match byte {
                b'%' => {
                    let decoded =
                        hex_pair(bytes.next(), bytes.next()).ok_or(AmbiguousPath("a broken percent-encoding"))?;
                    match decoded {
                        b'/' | b'\\' => return Err(AmbiguousPath("an encoded slash or backslash")),
                        0..=0x1f | 0x7f => return Err(AmbiguousPath("an encoded control character")),
                        b'-' | b'.' | b'_' | b'~' => canonical.push(char::from(decoded)),
                        _ if decoded.is_ascii_alphanumeric() => canonical.push(char::from(decoded)),
                        _ => {
                            canonical.push('%');
                            canonical.push_str(&format!("{decoded:02X}"));
                        }
                    }
                }
                b'\\' => return Err(AmbiguousPath("a backslash")),
                b'#' => return Err(AmbiguousPath("a fragment")),
                0x21..=0x7e => canonical.push(char::from(byte)),
                _ => return Err(AmbiguousPath("a character that is not printable ASCII")),
            }
        }
        if !canonical.starts_with('/') {
            return Err(AmbiguousPath("no slash at its beginning"));
        }
        // A parameter after `;` is part of its segment to some servers and not to others: `/..;/` has led astray before.
        let name_of = |segment: &str| segment.split(';').next().unwrap_or_default().to_owned();
        if canonical.split('/').any(|segment| matches!(name_of(segment).as_str(), "." | "..")) {
            return Err(AmbiguousPath("a dot segment"));
        }
        if canonical.contains("//") {
            return Err(AmbiguousPath("an empty segment"));
        }
        Ok(Self(canonical))
    }

    /// The path as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The path that `route` forwards it to.
    pub fn forwarded_by(&self, route: &Route, upstream: &Upstream) -> String {
        self.forwarded_behind(route, &upstream.url)
    }

    /// The same if the upstream were at `base`.
    pub(super) fn forwarded_behind(&self, route: &Route, base: &Url) -> String {
        let kept = if route.strip_prefix {
            self.0.strip_prefix(route.path.trim_end_matches('/')).unwrap_or(&self.0)
        } else {
            &self.0
        };
        let base = base.path().trim_end_matches('/');
        let slash = if kept.starts_with('/') { "" } else { "/" };
        format!("{base}{slash}{kept}")
    }
}

impl fmt::Display for CanonicalPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A path that servers read in different ways; it names what it contains.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the path contains {0}")]
pub struct AmbiguousPath(pub &'static str);

fn hex_pair(high: Option<u8>, low: Option<u8>) -> Option<u8> {
    let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
    u8::try_from(digit(high)? * 16 + digit(low)?).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn upstream(url: &str) -> Upstream {
        let (connect_timeout, read_timeout) = (Duration::from_secs(5), Duration::from_secs(60));
        Upstream {
            url: url.parse().expect("a URL"),
            connect_timeout,
            read_timeout,
            http2: false,
            trust: None,
            identity: None,
            bearer: false,
            external_url: None,
        }
    }

    fn route(path: &str, strip_prefix: bool) -> Route {
        let upstream = Arc::new(upstream("http://127.0.0.1:9000/base/"));
        Route {
            path: path.to_owned(),
            access: Access::Api,
            target: Target::Upstream(upstream),
            methods: vec![Method::GET],
            strip_prefix,
            token: RouteToken::Session,
        }
    }

    fn parse(path: &str) -> CanonicalPath {
        CanonicalPath::parse(path).expect(path)
    }

    #[test]
    fn the_longest_path_that_fits_wins() {
        let table = RouteTable::new([route("/", false), route("/api/", false), route("/api/admin", false)]);
        let found = |path: &str| table.find(&parse(path)).map(|route| route.path.clone());
        assert_eq!(found("/api/x").as_deref(), Some("/api/"));
        assert_eq!(found("/api/admin").as_deref(), Some("/api/admin"));
        assert_eq!(found("/api/admin/x").as_deref(), Some("/api/admin"));
        assert_eq!(found("/api/administrator").as_deref(), Some("/api/"));
        assert_eq!(found("/apis").as_deref(), Some("/"));
        assert_eq!(found("/api").as_deref(), Some("/"));
    }

    #[test]
    fn a_route_cannot_be_avoided_by_writing_it_otherwise() {
        // BBA-6.1-31, HTTP-23
        assert_eq!(parse("/%61pi/%41").as_str(), "/api/A");
        assert_eq!(parse("/caf%c3%a9/%20").as_str(), "/caf%C3%A9/%20");
        for path in [
            "/public/..%2fapi",
            "/a/../b",
            "/a/%2e%2e/b",
            "/a/.%2E/b",
            "/./a",
            "//api",
            "/a//b",
            "/a\\b",
            "/a%5cb",
            "/a%00b",
            "/a%0d%0ab",
            "/a%2",
            "/a%zz",
            "/a#b",
            "/ä",
            "api",
            "",
            "*",
            "/..;/a",
            "/a/.;x=1/b",
        ] {
            assert!(CanonicalPath::parse(path).is_err(), "{path}");
        }
    }

    #[test]
    fn what_was_parsed_is_what_is_forwarded() {
        let base = upstream("http://127.0.0.1:9000/base/");
        assert_eq!(parse("/api/x").forwarded_by(&route("/api/", false), &base), "/base/api/x");
        assert_eq!(parse("/api/x").forwarded_by(&route("/api/", true), &base), "/base/x");
        assert_eq!(parse("/api").forwarded_by(&route("/api", true), &base), "/base/");
        let root = upstream("http://127.0.0.1:9000");
        assert_eq!(parse("/").forwarded_by(&route("/", false), &root), "/");
    }

    proptest! {
        #[test]
        fn parsing_never_panics_and_is_stable(path in ".*") {
            if let Ok(once) = CanonicalPath::parse(&path) {
                prop_assert_eq!(CanonicalPath::parse(once.as_str()), Ok(once));
            }
        }
    }
}
