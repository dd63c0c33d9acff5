//! The nonces that servers want to see in proofs of possession (RFC 9449 sections 8 and 9): the newest of each server.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use http::HeaderMap;

use crate::oauth;

/// The newest nonce of each server that has sent one. Of APIs each configured address is a server. A nonce is never shown to another server, nor to the same one in its
/// other part: an authorization server that is an API too has two.
#[derive(Default)]
pub struct Nonces {
    endpoints: Shelf,
    resources: Shelf,
}

type Shelf = Mutex<HashMap<String, Arc<str>>>;

/// In which part a server is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// As the authorization server: it is asked for tokens.
    AuthorizationServer,
    /// As a resource server: it is shown one.
    ResourceServer,
}

/// Servers come from configuration and from the issuer's metadata. Should there ever be more than this, all are asked anew.
const MOST: usize = 256;

impl fmt::Debug for Nonces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Nonces").finish_non_exhaustive()
    }
}

impl Nonces {
    /// The newest nonce of the server at `origin`, if it has sent one.
    pub fn newest(&self, part: Part, origin: &str) -> Option<Arc<str>> {
        self.shelf(part).lock().unwrap_or_else(PoisonError::into_inner).get(origin).cloned()
    }

    /// Takes over the nonce of an answer of the server at `origin`, if it brings one, whatever its status.
    pub fn learn(&self, part: Part, origin: &str, fields: &HeaderMap) {
        let Some(nonce) = oauth::nonce_in(fields) else { return };
        let mut shelf = self.shelf(part).lock().unwrap_or_else(PoisonError::into_inner);
        match shelf.get_mut(origin) {
            Some(known) if **known == *nonce => {}
            Some(known) => *known = nonce.into(),
            None => {
                if shelf.len() >= MOST {
                    shelf.clear();
                }
                shelf.insert(origin.to_owned(), nonce.into());
            }
        }
    }

    const fn shelf(&self, part: Part) -> &Shelf {
        match part {
            Part::AuthorizationServer => &self.endpoints,
            Part::ResourceServer => &self.resources,
        }
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn fields(nonce: &str) -> HeaderMap {
        HeaderMap::from_iter([("dpop-nonce".parse().expect("is a name"), HeaderValue::from_str(nonce).expect("fits"))])
    }

    #[test]
    fn each_server_has_its_own_nonce_and_the_newest_counts() {
        // DPOP-8.2-01, DPOP-9-02
        let nonces = Nonces::default();
        let newest = |part, origin| nonces.newest(part, origin);
        nonces.learn(Part::ResourceServer, "https://a.test", &fields("one"));
        assert_eq!(newest(Part::ResourceServer, "https://b.test"), None);
        assert_eq!(newest(Part::ResourceServer, "https://a.test:8443"), None);
        assert_eq!(newest(Part::AuthorizationServer, "https://a.test"), None, "the same host in its other part");
        nonces.learn(Part::ResourceServer, "https://a.test", &fields("two"));
        nonces.learn(Part::ResourceServer, "https://a.test", &HeaderMap::new());
        nonces.learn(Part::ResourceServer, "https://a.test", &fields("with space"));
        assert_eq!(newest(Part::ResourceServer, "https://a.test").as_deref(), Some("two"));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let nonces = Nonces::default();
        for number in 0..10 * MOST {
            nonces.learn(Part::ResourceServer, &format!("https://{number}.test"), &fields("n"));
        }
        assert!(nonces.resources.lock().expect("is whole").len() <= MOST);
        assert!(nonces.newest(Part::ResourceServer, &format!("https://{}.test", 10 * MOST - 1)).is_some());
    }
}
