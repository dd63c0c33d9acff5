//! Who may ask this listener about sessions.
//!
//! On a loopback address whoever has an account on the machine may; other machines need a token. A page of any site can
//! make the browser of somebody who sits at this machine send requests to 127.0.0.1, and by DNS rebinding read the answers:
//! so a request has to name this machine as its host, and must not come from a page of another origin.

use std::net::{IpAddr, SocketAddr};

use http::header::{AUTHORIZATION, HOST, ORIGIN};
use http::request::Parts;
use http::uri::Authority;
use http::{HeaderMap, HeaderName, HeaderValue};

use super::answer::Refusal;
use crate::secret::{Secret, constant_time_eq};

/// The least length of a token, in bytes.
pub const LEAST_TOKEN: usize = 32;

/// What a request has to show.
#[derive(Debug)]
pub(super) struct Guard {
    token: Option<Secret<String>>,
    loopback: bool,
}

/// On whose behalf a request is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Who {
    /// Somebody on this machine.
    Loopback,
    /// Who knows the token.
    Token,
}

impl Who {
    /// The name, for audit events.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Loopback => "loopback",
            Self::Token => "token",
        }
    }
}

impl Guard {
    /// The guard of a listener at `address`.
    pub(super) const fn new(address: SocketAddr, token: Option<Secret<String>>) -> Self {
        Self { token, loopback: address.ip().is_loopback() }
    }

    /// Lets a request in, or says why not.
    pub(super) fn admit(&self, request: &Parts) -> Result<Who, Refusal> {
        self.refuse_other_sites(request)?;
        match &self.token {
            Some(token) => bearer(&request.headers, token).map(|()| Who::Token),
            None if self.loopback => Ok(Who::Loopback),
            // The configuration does not let this happen.
            None => Err(Refusal::Unauthorized { wrong: false }),
        }
    }

    fn refuse_other_sites(&self, request: &Parts) -> Result<(), Refusal> {
        let headers = &request.headers;
        let authority = host(request).ok_or(Refusal::CrossSite("It does not name one host, in one Host field."))?;
        if self.loopback && !is_loopback(&authority) {
            return Err(Refusal::CrossSite("Its Host is neither localhost nor a loopback address: write 127.0.0.1."));
        }
        match only(headers, &HeaderName::from_static("sec-fetch-site")) {
            Ok(None | Some(b"same-origin" | b"none")) => {}
            Ok(Some(_)) | Err(Several) => {
                return Err(Refusal::CrossSite("Its Sec-Fetch-Site is that of another site's page."));
            }
        }
        match only(headers, &ORIGIN) {
            Ok(None) => Ok(()),
            Ok(Some(origin)) if origin.eq_ignore_ascii_case(format!("http://{authority}").as_bytes()) => Ok(()),
            Ok(Some(_)) | Err(Several) => Err(Refusal::CrossSite("Its Origin is another one than this listener's.")),
        }
    }
}

struct Several;

/// The one value of a field, if there is any.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a [u8]>, Several> {
    let mut values = headers.get_all(name).iter();
    let first = values.next().map(HeaderValue::as_bytes);
    if values.next().is_some() { Err(Several) } else { Ok(first) }
}

/// The host that a request names, if it names one; a target in absolute form has to name the same (RFC 9112 section 3.2.2).
fn host(request: &Parts) -> Option<Authority> {
    let named = only(&request.headers, &HOST).ok().flatten()?;
    let named = Authority::try_from(named).ok().filter(|authority| !authority.as_str().contains('@'))?;
    let same = |target: &Authority| target.as_str().eq_ignore_ascii_case(named.as_str());
    request.uri.authority().is_none_or(same).then_some(named)
}

/// Whether no name server had a say in it.
fn is_loopback(authority: &Authority) -> bool {
    let host = authority.host();
    let literal = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    host.eq_ignore_ascii_case("localhost") || literal.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Whether the request carries the token (RFC 6750 section 2.1).
fn bearer(headers: &HeaderMap, token: &Secret<String>) -> Result<(), Refusal> {
    let presented = match only(headers, &AUTHORIZATION) {
        Ok(None) => return Err(Refusal::Unauthorized { wrong: false }),
        Ok(Some(value)) => value,
        Err(Several) => return Err(Refusal::Unauthorized { wrong: true }),
    };
    let presented = presented.split_at_checked("Bearer ".len());
    let credentials = presented.filter(|(scheme, _)| scheme.eq_ignore_ascii_case(b"Bearer "));
    let right = credentials
        .is_some_and(|(_, credentials)| constant_time_eq(credentials.trim_ascii(), token.expose().as_bytes()));
    if right { Ok(()) } else { Err(Refusal::Unauthorized { wrong: true }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "0123456789abcdef0123456789abcdef";

    fn admitted(address: &str, token: Option<&str>, uri: &str, fields: &[(&str, &str)]) -> Result<Who, Refusal> {
        let guard = Guard::new(address.parse().unwrap(), token.map(|token| Secret::new(token.to_owned())));
        let mut request = http::Request::builder().uri(uri);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        guard.admit(&request.body(()).unwrap().into_parts().0)
    }

    fn loopback(fields: &[(&str, &str)]) -> Result<Who, Refusal> {
        admitted("127.0.0.1:9901", None, "/sessions", fields)
    }

    #[test]
    fn on_loopback_this_machine_has_to_be_named() {
        for host in ["127.0.0.1", "127.0.0.1:9901", "localhost:9901", "LOCALHOST", "[::1]:9901", "127.8.9.10"] {
            assert_eq!(loopback(&[("host", host)]), Ok(Who::Loopback), "{host}");
        }
        for host in [
            "evil.test",
            "localhost.evil.test",
            "127.0.0.1.evil.test:9901",
            "a@127.0.0.1",
            "0.0.0.0",
            "10.0.0.1",
            "",
            "app.localhost",
            "[::ffff:10.0.0.1]",
            "127.1",
            "2130706433",
        ] {
            assert!(matches!(loopback(&[("host", host)]), Err(Refusal::CrossSite(_))), "{host}");
        }
        assert!(matches!(loopback(&[]), Err(Refusal::CrossSite(_))));
        let twice = [("host", "127.0.0.1"), ("host", "evil.test")];
        assert!(matches!(loopback(&twice), Err(Refusal::CrossSite(_))));
        let absolute = admitted("127.0.0.1:1", None, "http://evil.test/sessions", &[("host", "127.0.0.1")]);
        assert!(matches!(absolute, Err(Refusal::CrossSite(_))));
    }

    #[test]
    fn pages_of_other_origins_are_refused() {
        let asked = |fields: &[(&str, &str)]| loopback(&[&[("host", "127.0.0.1:9901")], fields].concat()).is_ok();
        assert!(asked(&[("sec-fetch-site", "none")]));
        assert!(asked(&[("sec-fetch-site", "same-origin"), ("origin", "http://127.0.0.1:9901")]));
        for field in [
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-site", "same-site"),
            ("sec-fetch-site", ""),
            ("origin", "null"),
            ("origin", "http://127.0.0.1:3000"),
            ("origin", "https://127.0.0.1:9901"),
            ("origin", "http://localhost:9901"),
            ("origin", "https://evil.test"),
        ] {
            assert!(!asked(&[field]), "{field:?}");
        }
    }

    #[test]
    fn where_a_token_is_set_nothing_else_is_let_in() {
        for address in ["0.0.0.0:9901", "127.0.0.1:9901"] {
            let asked = |authorization: &[&str]| {
                let fields = authorization.iter().map(|value| ("authorization", *value)).chain([("host", "127.0.0.1")]);
                admitted(address, Some(TOKEN), "/sessions", &fields.collect::<Vec<_>>())
            };
            let right = format!("Bearer {TOKEN}");
            assert_eq!(asked(&[&right]), Ok(Who::Token));
            assert_eq!(asked(&[&right.replace("Bearer", "bearer")]), Ok(Who::Token));
            assert_eq!(asked(&[]), Err(Refusal::Unauthorized { wrong: false }));
            let basic = format!("Basic {TOKEN}");
            let (shorter, longer) = (right.trim_end_matches('f'), format!("{right}0"));
            for wrong in [TOKEN, "Bearer", "Bearer ", &basic, shorter, &longer] {
                assert_eq!(asked(&[wrong]), Err(Refusal::Unauthorized { wrong: true }), "{wrong}");
            }
            assert_eq!(asked(&[&right, &right]), Err(Refusal::Unauthorized { wrong: true }));
        }
        // Elsewhere any name of the machine will do.
        let fields = [("host", "admin.internal"), ("authorization", &*format!("Bearer {TOKEN}"))];
        assert_eq!(admitted("10.0.0.1:9901", Some(TOKEN), "/", &fields), Ok(Who::Token));
        assert_eq!(admitted("10.0.0.1:9901", None, "/", &fields[..1]), Err(Refusal::Unauthorized { wrong: false }));
    }
}
