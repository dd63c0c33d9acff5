//! Addresses at the authorization server.

use http::Uri;
use url::{Host, Url};

/// Whether the authorization server may be reached without TLS.
#[must_use]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PlainHttp {
    /// Only on this machine's own loopback addresses.
    #[default]
    LoopbackOnly,
    /// Everywhere. Whoever is on the way can then read every token: `[insecure]`.
    Allowed,
}

/// An address at the authorization server: absolute, without fragment, `https` unless [`PlainHttp`] says otherwise.
///
/// A query that it has is kept (RFC 6749 sections 3.1 and 3.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    text: String,
    url: Url,
    uri: Uri,
}

impl Endpoint {
    /// Reads an address.
    ///
    /// # Errors
    /// If it is not an absolute http or https URL without fragment and credentials, or lacks the TLS it must have.
    pub fn parse(text: &str, plain_http: PlainHttp) -> Result<Self, InvalidEndpoint> {
        let url = Url::parse(text).map_err(|_| InvalidEndpoint::NotAUrl)?;
        let host = url.host().ok_or(InvalidEndpoint::NotAUrl)?;
        match (url.scheme(), plain_http) {
            ("https", _) | ("http", PlainHttp::Allowed) => {}
            ("http", PlainHttp::LoopbackOnly) if is_loopback(&host) => {}
            ("http", PlainHttp::LoopbackOnly) => return Err(InvalidEndpoint::WithoutTls),
            _ => return Err(InvalidEndpoint::NotAUrl),
        }
        if url.fragment().is_some() {
            return Err(InvalidEndpoint::HasFragment);
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(InvalidEndpoint::HasCredentials);
        }
        let uri = Uri::try_from(url.as_str()).map_err(|_| InvalidEndpoint::NotAUrl)?;
        Ok(Self { text: text.to_owned(), url, uri })
    }

    /// The same endpoint, to be asked at another address.
    pub(super) fn reached_at(self, other: &str, plain_http: PlainHttp) -> Result<Self, InvalidEndpoint> {
        let other = Self::parse(other, plain_http)?;
        Ok(Self { text: self.text, ..other })
    }

    /// The address as text, letter by letter as the server wrote it.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The address, to send browsers to.
    pub const fn url(&self) -> &Url {
        &self.url
    }

    /// The address, to send requests to.
    pub const fn uri(&self) -> &Uri {
        &self.uri
    }

    /// A GET request for a JSON document.
    pub(super) fn get(&self) -> http::Request<Vec<u8>> {
        let mut request = http::Request::new(Vec::new());
        *request.uri_mut() = self.uri.clone();
        request.headers_mut().insert(http::header::ACCEPT, http::HeaderValue::from_static("application/json"));
        request
    }
}

/// Why a text is no [`Endpoint`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidEndpoint {
    /// No absolute http or https URL.
    #[error("is not an absolute http or https URL")]
    NotAUrl,
    /// Plain http to another machine.
    #[error("is not https")]
    WithoutTls,
    /// It has a fragment (RFC 6749 section 3.1).
    #[error("has a fragment")]
    HasFragment,
    /// It has a user name or a password.
    #[error("has a user name or password")]
    HasCredentials,
}

fn is_loopback(host: &Host<&str>) -> bool {
    match host {
        Host::Domain(name) => *name == "localhost" || name.ends_with(".localhost"),
        Host::Ipv4(address) => address.is_loopback(),
        Host::Ipv6(address) => address.is_loopback(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_is_for_loopback() {
        // ASM-2-02, O21-1.5-01
        let parse = |text| Endpoint::parse(text, PlainHttp::LoopbackOnly);
        for good in [
            "https://as.test/t",
            "http://localhost:8080/",
            "http://127.0.0.1/t",
            "http://[::1]:1/",
            "http://a.localhost/",
        ] {
            assert!(parse(good).is_ok(), "{good}");
        }
        for bad in ["http://as.test/t", "http://127.0.0.1.test/", "http://localhost.test/", "http://10.0.0.1/"] {
            assert_eq!(parse(bad), Err(InvalidEndpoint::WithoutTls), "{bad}");
        }
        assert!(Endpoint::parse("http://as.test/t", PlainHttp::Allowed).is_ok());
        for bad in ["", "/t", "as.test", "ftp://as.test/", "javascript:alert(1)", "data:text/html,x"] {
            assert_eq!(Endpoint::parse(bad, PlainHttp::Allowed), Err(InvalidEndpoint::NotAUrl), "{bad}");
        }
        assert_eq!(parse("https://as.test/#f"), Err(InvalidEndpoint::HasFragment));
        assert_eq!(parse("https://me:pw@as.test/"), Err(InvalidEndpoint::HasCredentials));
    }
}
