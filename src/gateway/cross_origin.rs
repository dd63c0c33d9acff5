//! The defence against requests that another site makes the browser send.
//!
//! In this order: `Sec-Fetch-Site: same-origin` passes; else an `Origin` that is ours or allowed; else the header
//! `X-CSRF`, which no page of another origin can send without a preflight that we do not grant. `same-site` and
//! `Origin: null` never pass by themselves: sibling subdomains are same-site. SameSite cookies are a second line only.

use http::header::{HeaderMap, HeaderName, ORIGIN, UPGRADE};
use http::request::Parts;
use http::{HeaderValue, Method};

use super::route::Access;

/// The header that stands for "a script of ours sent this".
pub const CSRF_HEADER: HeaderName = HeaderName::from_static("x-csrf");

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const SEC_FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");
const SEC_FETCH_DEST: HeaderName = HeaderName::from_static("sec-fetch-dest");

/// Evidence that a request was cleared. Only [`CrossOrigin`] makes it, and a forwarding cannot be made without it.
#[derive(Clone, Copy, Debug)]
pub struct Cleared(());

/// What a request from elsewhere lacked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// Proof that it comes from this origin.
    SameOrigin,
    /// The header that this site demands of every request.
    Header,
    /// The `Origin` of a WebSocket handshake.
    WebSocketOrigin,
}

/// The rule of one site.
#[derive(Clone, Debug)]
pub struct CrossOrigin {
    /// The site's own origin, as browsers send it.
    own: String,
    /// Other origins whose scripts may call.
    allowed: Vec<String>,
    /// Whether every request but navigations must carry `X-CSRF`.
    always_header: bool,
}

impl CrossOrigin {
    /// The rule of the site at `own`, which also admits scripts of the `allowed` origins.
    pub const fn new(own: String, allowed: Vec<String>, always_header: bool) -> Self {
        Self { own, allowed, always_header }
    }

    /// Clears a request for a route with `access`.
    ///
    /// # Errors
    /// If the request lacks a proof of where it comes from.
    pub fn clear(&self, request: &Parts, access: Access) -> Result<Cleared, Missing> {
        let needs_proof = match access {
            Access::Public => false,
            Access::Page | Access::Optional => !is_navigation(request),
            Access::Api => true,
        };
        if needs_proof { self.prove(request) } else { Ok(Cleared(())) }
    }

    /// Clears a request to an endpoint that changes state.
    ///
    /// # Errors
    /// If the request lacks a proof of where it comes from.
    pub fn prove(&self, request: &Parts) -> Result<Cleared, Missing> {
        self.prove_with(request, self.always_header)
    }

    /// Clears a request for session events. An `EventSource` cannot send `X-CSRF`, so it is never demanded here: what is
    /// asked for changes nothing, and no page of another origin can read it.
    ///
    /// # Errors
    /// If the request lacks a proof of where it comes from.
    pub fn clear_events(&self, request: &Parts) -> Result<Cleared, Missing> {
        self.prove_with(request, false)
    }

    fn prove_with(&self, request: &Parts, demands_header: bool) -> Result<Cleared, Missing> {
        let headers = &request.headers;
        let origin = only(headers, &ORIGIN);
        if headers.contains_key(UPGRADE) {
            // CORS does not apply to WebSockets (RFC 6455 section 10.2), so nothing but the Origin counts.
            return origin.filter(|it| self.admits(it)).map(|_| Cleared(())).ok_or(Missing::WebSocketOrigin);
        }
        if demands_header && !headers.contains_key(CSRF_HEADER) {
            return Err(Missing::Header);
        }
        if origin.is_some_and(|it| !self.admits(it)) {
            return Err(Missing::SameOrigin);
        }
        let same_origin = only(headers, &SEC_FETCH_SITE).is_some_and(|site| site.as_bytes() == b"same-origin");
        if same_origin || origin.is_some() || headers.contains_key(CSRF_HEADER) {
            Ok(Cleared(()))
        } else {
            Err(Missing::SameOrigin)
        }
    }

    /// The allowed foreign origin that a request names, to be told so in CORS fields.
    pub fn foreign<'a>(&self, headers: &'a HeaderMap) -> Option<&'a HeaderValue> {
        only(headers, &ORIGIN).filter(|origin| self.allowed.iter().any(|it| it.as_bytes() == origin.as_bytes()))
    }

    /// Whether answers depend on the `Origin` of the request.
    pub const fn varies(&self) -> bool {
        !self.allowed.is_empty()
    }

    fn admits(&self, origin: &HeaderValue) -> bool {
        self.own.as_bytes() == origin.as_bytes() || self.allowed.iter().any(|it| it.as_bytes() == origin.as_bytes())
    }
}

/// Whether a request is a person going to a page: `GET` or `HEAD`, of the whole window.
pub fn is_navigation(request: &Parts) -> bool {
    let is = |name: &HeaderName, value: &[u8]| only(&request.headers, name).is_some_and(|it| it.as_bytes() == value);
    matches!(request.method, Method::GET | Method::HEAD)
        && is(&SEC_FETCH_MODE, b"navigate")
        && is(&SEC_FETCH_DEST, b"document")
}

/// Whether the browser says that it loads ahead of the person's wish, or for something that is not the window.
pub fn is_speculative(headers: &HeaderMap) -> bool {
    let purpose = |name: &'static str| {
        headers.get(name).is_some_and(|value| value.to_str().is_ok_and(|text| text.contains("prefetch")))
    };
    purpose("sec-purpose") || purpose("purpose") || purpose("x-moz")
}

/// Whether a browser that states its fetch metadata asks for anything but a page in the whole window.
pub fn is_sub_resource(request: &Parts) -> bool {
    only(&request.headers, &SEC_FETCH_MODE).is_some() && !is_navigation(request)
}

/// Whether a navigation was started by another site, so that Strict cookies did not come with it.
pub fn is_from_elsewhere(headers: &HeaderMap) -> bool {
    only(headers, &SEC_FETCH_SITE).is_some_and(|site| matches!(site.as_bytes(), b"cross-site" | b"same-site"))
}

/// Whether the answer is for a person looking at a window rather than for a script.
pub fn wants_page(request: &Parts) -> bool {
    if only(&request.headers, &SEC_FETCH_MODE).is_some() {
        return is_navigation(request);
    }
    let accepts = |value: &HeaderValue| value.to_str().is_ok_and(|text| text.contains("text/html"));
    request.headers.get_all(http::header::ACCEPT).iter().any(accepts)
}

/// The value of a field that must not be repeated; none if it is missing or ambiguous.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a HeaderValue> {
    let mut values = headers.get_all(name).iter();
    values.next().filter(|_| values.next().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(method: &str, fields: &[(&str, &str)]) -> Parts {
        let mut builder = http::Request::builder().method(method).uri("/api/x");
        for (name, value) in fields {
            builder = builder.header(*name, *value);
        }
        builder.body(()).expect("a request").into_parts().0
    }

    fn rule(always_header: bool) -> CrossOrigin {
        CrossOrigin::new("https://app.test".into(), vec!["https://other.test".into()], always_header)
    }

    fn clear(access: Access, fields: &[(&str, &str)]) -> Result<(), Missing> {
        rule(false).clear(&request("GET", fields), access).map(|_| ())
    }

    #[test]
    fn only_proof_of_the_same_origin_passes() {
        // FM-01, FM-02, BBA-6.1-24..26
        let api = |fields: &[(&str, &str)]| clear(Access::Api, fields);
        assert_eq!(api(&[("sec-fetch-site", "same-origin")]), Ok(()));
        assert_eq!(api(&[("origin", "https://app.test")]), Ok(()));
        assert_eq!(api(&[("origin", "https://other.test"), ("sec-fetch-site", "cross-site")]), Ok(()));
        assert_eq!(api(&[("x-csrf", "1")]), Ok(()));
        for site in ["same-site", "cross-site", "none", ""] {
            assert_eq!(api(&[("sec-fetch-site", site)]), Err(Missing::SameOrigin), "{site}");
        }
        for origin in [
            "null",
            "https://app.test.evil.test",
            "https://evilapp.test",
            "http://app.test",
            "https://app.test:444",
            "https://APP.test",
        ] {
            assert_eq!(api(&[("origin", origin)]), Err(Missing::SameOrigin), "{origin}");
            assert_eq!(api(&[("origin", origin), ("x-csrf", "1")]), Err(Missing::SameOrigin), "{origin}");
        }
        assert_eq!(api(&[]), Err(Missing::SameOrigin));
        // FM-06: a safelisted name proves nothing.
        assert_eq!(api(&[("accept", "x-csrf"), ("content-type", "text/plain")]), Err(Missing::SameOrigin));
        // A navigation is not a proof on an API route (FM-04).
        let navigation = [("sec-fetch-site", "none"), ("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document")];
        assert_eq!(api(&navigation), Err(Missing::SameOrigin));
    }

    #[test]
    fn navigations_reach_pages_from_anywhere_but_frames_and_posts_do_not() {
        let navigation =
            [("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document")];
        let frame = [("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "iframe")];
        for access in [Access::Page, Access::Optional] {
            assert_eq!(clear(access, &navigation), Ok(()));
            assert_eq!(clear(access, &frame), Err(Missing::SameOrigin));
            let post = rule(false).clear(&request("POST", &navigation), access).map(|_| ());
            assert_eq!(post, Err(Missing::SameOrigin));
        }
        assert_eq!(clear(Access::Public, &frame), Ok(()));
    }

    #[test]
    fn a_web_socket_needs_an_origin_whatever_else_it_has() {
        // FM-08
        let upgrade = ("upgrade", "websocket");
        let same = ("sec-fetch-site", "same-origin");
        assert_eq!(clear(Access::Api, &[upgrade, ("origin", "https://app.test")]), Ok(()));
        assert_eq!(clear(Access::Api, &[upgrade, same, ("x-csrf", "1")]), Err(Missing::WebSocketOrigin));
        assert_eq!(clear(Access::Api, &[upgrade, ("origin", "https://e.test")]), Err(Missing::WebSocketOrigin));
    }

    #[test]
    fn the_header_can_be_demanded_always() {
        let cleared = |fields: &[(&str, &str)]| rule(true).prove(&request("GET", fields)).map(|_| ());
        assert_eq!(cleared(&[("sec-fetch-site", "same-origin")]), Err(Missing::Header));
        assert_eq!(cleared(&[("sec-fetch-site", "same-origin"), ("x-csrf", "1")]), Ok(()));
        // But not of those who cannot send it.
        let events = |fields: &[(&str, &str)]| rule(true).clear_events(&request("GET", fields)).map(|_| ());
        assert_eq!(events(&[("sec-fetch-site", "same-origin")]), Ok(()));
        assert_eq!(events(&[("sec-fetch-site", "cross-site")]), Err(Missing::SameOrigin));
    }

    #[test]
    fn a_repeated_field_is_no_proof() {
        let twice = [("sec-fetch-site", "same-origin"), ("sec-fetch-site", "cross-site")];
        assert_eq!(clear(Access::Api, &twice), Err(Missing::SameOrigin));
    }
}
