//! The cookies of a browser, by host name: RFC 6265 section 8.5 keeps no two ports of one host apart.

use std::collections::BTreeMap;

use cookie::SameSite;
use vestibule::clock::{Clock, SystemClock};

/// What decides whether a cookie with a `SameSite` attribute is sent along (RFC 6265bis section 5.6.7.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// The request comes from the cookie's own site, or from the address bar.
    SameSite,
    /// A top-level navigation by a safe method that another site started.
    CrossSiteNavigation,
    /// Anything else that another site started.
    CrossSite,
}

/// Cookies as a browser keeps them: per host, the last `Set-Cookie` of a name wins.
///
/// `Path`, `Secure` and `Domain` are ignored: nothing here depends on them, and a test that does looks at the header.
/// A clone is a copy of the jar as it is, for tests in which a cookie is stolen or kept.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Jar(BTreeMap<String, BTreeMap<String, Kept>>);

#[derive(Clone, PartialEq, Eq)]
struct Kept {
    value: String,
    same_site: SameSite,
}

impl Jar {
    /// The `Cookie` header of a request to `host`; none if there is nothing to send.
    pub(crate) fn header(&self, host: &str, reach: Reach) -> Option<String> {
        let sent: Vec<_> = self
            .of(host)
            .filter(|(_, kept)| match (reach, kept.same_site) {
                (Reach::SameSite, _) | (_, SameSite::None) | (Reach::CrossSiteNavigation, SameSite::Lax) => true,
                (Reach::CrossSiteNavigation | Reach::CrossSite, SameSite::Strict)
                | (Reach::CrossSite, SameSite::Lax) => false,
            })
            .map(|(name, kept)| format!("{name}={}", kept.value))
            .collect();
        (!sent.is_empty()).then(|| sent.join("; "))
    }

    /// Obeys one `Set-Cookie` header that came from `host`; one that cannot be read is ignored.
    pub(crate) fn obey(&mut self, host: &str, set_cookie: &str) {
        let Ok(cookie) = cookie::Cookie::parse(set_cookie) else { return };
        if is_over(&cookie) {
            self.remove(host, cookie.name());
        } else {
            // Without the attribute browsers go by Lax (RFC 6265bis section 5.6.7.2).
            let same_site = cookie.same_site().unwrap_or(SameSite::Lax);
            let kept = Kept { value: cookie.value().to_owned(), same_site };
            self.0.entry(host.to_owned()).or_default().insert(cookie.name().to_owned(), kept);
        }
    }

    /// The value that is kept under this name.
    pub(crate) fn value(&self, host: &str, name: &str) -> Option<&str> {
        self.of(host).find(|(kept, _)| *kept == name).map(|(_, kept)| kept.value.as_str())
    }

    /// The names of all that is kept for this host, in order.
    pub(crate) fn names(&self, host: &str) -> Vec<&str> {
        self.of(host).map(|(name, _)| name).collect()
    }

    /// Puts a cookie there by hand: it goes with every request.
    pub(crate) fn put(&mut self, host: &str, name: &str, value: &str) {
        let kept = Kept { value: value.to_owned(), same_site: SameSite::None };
        self.0.entry(host.to_owned()).or_default().insert(name.to_owned(), kept);
    }

    /// Forgets one cookie.
    pub(crate) fn remove(&mut self, host: &str, name: &str) {
        if let Some(cookies) = self.0.get_mut(host) {
            cookies.remove(name);
        }
    }

    fn of(&self, host: &str) -> impl Iterator<Item = (&str, &Kept)> {
        self.0.get(host).into_iter().flatten().map(|(name, kept)| (name.as_str(), kept))
    }
}

/// RFC 6265 section 5.3: `Max-Age` decides if it is there, `Expires` otherwise.
fn is_over(cookie: &cookie::Cookie<'_>) -> bool {
    let now = i64::try_from(SystemClock::default().now().as_secs()).unwrap();
    match (cookie.max_age(), cookie.expires_datetime()) {
        (Some(age), _) => age.whole_seconds() <= 0,
        (None, Some(expires)) => expires.unix_timestamp() <= now,
        (None, None) => false,
    }
}

mod tests {
    use super::{Jar, Reach};

    #[test]
    fn the_last_write_wins_and_deletions_delete() {
        let mut jar = Jar::default();
        for text in ["a=1", "b=2; Path=/; Max-Age=60", "a=3; HttpOnly", "c=4"] {
            jar.obey("localhost", text);
        }
        assert_eq!(jar.header("localhost", Reach::SameSite).as_deref(), Some("a=3; b=2; c=4"));
        let copy = jar.clone();
        jar.obey("localhost", "a=; Max-Age=0");
        jar.obey("localhost", "b=; Expires=Thu, 01 Jan 1970 00:00:00 GMT");
        // Max-Age has the last word over Expires.
        jar.obey("localhost", "c=5; Expires=Thu, 01 Jan 1970 00:00:00 GMT; Max-Age=9");
        assert_eq!(jar.names("localhost"), ["c"]);
        assert_eq!(copy.value("localhost", "a"), Some("3"), "a copy stays as it was");
        assert_eq!(jar.header("127.0.0.1", Reach::SameSite), None, "hosts are kept apart");
    }

    #[test]
    fn same_site_decides_what_another_site_may_cause_to_be_sent() {
        let mut jar = Jar::default();
        for text in ["s=1; SameSite=Strict", "l=2; SameSite=Lax", "n=3; SameSite=None; Secure", "d=4"] {
            jar.obey("localhost", text);
        }
        jar.put("localhost", "p", "5");
        jar.remove("localhost", "n");
        let header = |reach| jar.header("localhost", reach).unwrap_or_default();
        assert_eq!(header(Reach::SameSite), "d=4; l=2; p=5; s=1");
        assert_eq!(header(Reach::CrossSiteNavigation), "d=4; l=2; p=5");
        assert_eq!(header(Reach::CrossSite), "p=5");
    }
}
