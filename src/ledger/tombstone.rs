//! Ends many sessions at once, without a list of them: all of one subject, of one session at the issuer, or of everyone.
//!
//! A session that meets a tombstone which covers it is ended like any other; until then nothing of it is touched.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::Key;
use super::protocol::EndReason;
use crate::clock::Timestamp;

/// Everything under its key that was established by an ID token of that time or earlier is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tombstone {
    /// Why.
    pub reason: EndReason,
    /// The latest `iat` of an ID token whose session is over: a moment of the issuer's clock, so that it is compared
    /// with moments of the same clock only.
    pub issued_until: Timestamp,
    /// Until when it must be kept: no session that it covers may live longer.
    pub keep_until: Timestamp,
}

impl Tombstone {
    /// The one that covers what either does.
    #[must_use]
    pub fn merged(self, other: Self) -> Self {
        let newer = if other.issued_until > self.issued_until { other } else { self };
        Self { keep_until: self.keep_until.max(other.keep_until), ..newer }
    }
}

/// By what a session can be ended together with others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lineage {
    /// The key of its subject; none with plain OAuth, which knows no persons.
    pub subject: Option<Key>,
    /// The same by the issuer that is configured, where that is one with tenants and its own issuer is that of a tenant:
    /// whoever ends sessions by hand knows no tenant.
    pub any_tenant: Option<Key>,
    /// The key of its session at the issuer, where the ID token named one.
    pub issuer_session: Option<Key>,
    /// The key of all sessions of its issuer.
    pub everyone: Key,
    /// The `iat` of the ID token that established it.
    pub issued_at: Timestamp,
}

impl Lineage {
    /// The keys under which a tombstone may cover it.
    pub fn keys(&self) -> impl Iterator<Item = Key> {
        self.subject.into_iter().chain(self.any_tenant).chain(self.issuer_session).chain([self.everyone])
    }
}

impl Key {
    /// The key of all sessions of `subject` at `issuer`.
    pub fn subject(issuer: &str, subject: &str) -> Self {
        Self::Subject(hash(issuer, subject))
    }

    /// The key of all sessions that belong to the issuer's session `sid` (OpenID Connect Front-Channel Logout section 3).
    pub fn issuer_session(issuer: &str, sid: &str) -> Self {
        Self::IssuerSession(hash(issuer, sid))
    }

    /// The key of the note that there are sessions under this one.
    pub(super) fn registration(self) -> Self {
        let (kind, id): (&str, &[u8]) = match &self {
            Self::Session(session) => ("session", session.as_bytes()),
            Self::Once(hash) => ("once", hash),
            Self::Subject(hash) => ("subject", hash),
            Self::IssuerSession(hash) => ("issuer session", hash),
            Self::Everyone(hash) => ("everyone", hash),
            Self::Roster(hash) => ("roster", hash),
            Self::Directory(hash) => ("directory", hash),
        };
        Self::Once(Sha256::new().chain_update("registration of ").chain_update(kind).chain_update(id).finalize().into())
    }

    /// The key of all sessions of `issuer`.
    pub fn everyone(issuer: &str) -> Self {
        Self::Everyone(hash(issuer, ""))
    }
}

/// The issuer's length goes first, so that no two pairs of texts are one text.
fn hash(issuer: &str, name: &str) -> [u8; 32] {
    let length = u64::try_from(issuer.len()).unwrap_or(u64::MAX);
    let mut hash = Sha256::new();
    hash.update(length.to_be_bytes());
    hash.update(issuer);
    hash.update(name);
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_different_people_differ() {
        assert_ne!(Key::subject("https://a.test", "b"), Key::subject("https://a.tes", "tb"));
        assert_ne!(Key::subject("https://a.test", "b"), Key::issuer_session("https://a.test", "b"));
        assert_ne!(Key::subject("https://a.test", ""), Key::everyone("https://a.test"));
        assert_ne!(Key::everyone("https://a.test"), Key::everyone("https://b.test"));
    }

    #[test]
    fn two_tombstones_cover_what_either_does() {
        let at = Timestamp::from_secs;
        let logout = Tombstone { reason: EndReason::Logout, issued_until: at(5), keep_until: at(90) };
        let later = Tombstone { reason: EndReason::Expired, issued_until: at(7), keep_until: at(80) };
        let both = Tombstone { keep_until: at(90), ..later };
        assert_eq!((logout.merged(later), later.merged(logout)), (both, both));
    }
}
