//! Where a login leads back to: a path on this origin, or nothing.

use http::request::Parts;
use http::uri::PathAndQuery;
use url::Url;

/// A path, query and fragment on the site's own origin. It cannot lead anywhere else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReturnTo(String);

/// Longer return paths are dropped: they travel in a cookie.
const MAX_LEN: usize = 1024;

impl ReturnTo {
    /// The start page.
    pub fn root() -> Self {
        Self("/".to_owned())
    }

    /// Reads what a caller asked for, as a browser would, and takes it only if it stays on `origin` (BCP-2.1-01).
    pub fn parse(wanted: &str, origin: &Url) -> Option<Self> {
        // Browsers drop tabs and newlines and read backslashes as slashes; nobody needs either here.
        let suspicious = |c: char| c.is_control() || c == '\\' || c.is_whitespace();
        if wanted.len() > MAX_LEN || !wanted.starts_with('/') || wanted.contains(suspicious) {
            return None;
        }
        let url = origin.join(wanted).ok()?;
        if url.origin() != origin.origin() || !url.username().is_empty() || url.password().is_some() {
            return None;
        }
        let path = &url[url::Position::BeforePath..];
        // `//host` and its disguises: what stands here is written into a Location and read again by a browser.
        (!path.starts_with("//") && path.len() <= MAX_LEN).then(|| Self(path.to_owned()))
    }

    /// The path, percent-encoded, fit for a `Location` field.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What a request asks for: path and query, as it was sent.
pub fn target_of(request: &Parts) -> &str {
    request.uri.path_and_query().map_or("/", PathAndQuery::as_str)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn origin() -> Url {
        "https://app.test".parse().expect("a URL")
    }

    fn parse(wanted: &str) -> Option<String> {
        ReturnTo::parse(wanted, &origin()).map(|path| path.0)
    }

    #[test]
    fn paths_on_this_origin_are_kept() {
        assert_eq!(parse("/orders?id=1#top").as_deref(), Some("/orders?id=1#top"));
        assert_eq!(parse("/a/../b").as_deref(), Some("/b"));
        assert_eq!(parse("/ä").as_deref(), Some("/%C3%A4"));
        assert_eq!(parse("/").as_deref(), Some("/"));
    }

    #[test]
    fn nothing_leads_to_another_origin() {
        // BCP-2.1-01
        for wanted in [
            "//e.test",
            "/\\e.test",
            "\\\\e.test",
            "/\t/e.test",
            "/\r\nLocation:x",
            "https:e.test",
            "https://e.test",
            "javascript:alert(1)",
            "data:text/html,x",
            "http://app@e.test",
            "app.test.e.test",
            "///e.test",
            "/..//e.test",
            "/a/..//e.test",
            "/.//e.test",
            "",
            "orders",
            "?x",
            "#x",
            "\u{ff0f}\u{ff0f}e.test",
            "/%09/e.test/\u{0}",
        ] {
            assert_eq!(parse(wanted), None, "{wanted:?}");
        }
        // Encoded forms stay encoded, and so stay paths.
        assert_eq!(parse("/%5Ce.test").as_deref(), Some("/%5Ce.test"));
        assert_eq!(parse("/%09/e.test").as_deref(), Some("/%09/e.test"));
        assert_eq!(parse("/%0d%0aLocation:").as_deref(), Some("/%0d%0aLocation:"));
        assert_eq!(parse("/%2F%2Fe.test").as_deref(), Some("/%2F%2Fe.test"));
    }

    proptest! {
        #[test]
        fn whatever_is_accepted_stays_on_the_origin(wanted in ".*") {
            if let Some(path) = parse(&wanted) {
                let url = origin().join(&path).expect("joins");
                prop_assert_eq!(url.origin(), origin().origin());
                prop_assert!(http::HeaderValue::try_from(path).is_ok());
            }
        }
    }
}
