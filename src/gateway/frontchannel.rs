//! `GET /bff/frontchannel-logout`: a page of the issuer says that its session is over (OpenID Connect Front-Channel Logout
//! 1.0). The page loads it in a frame of a browser that sends us no cookies from there (section 4.1).
//!
//! Nothing is signed, so it ends as little as it can: sessions of the configured issuer whose `sid` was registered by their
//! login, and that began before it. Whoever knows a `sid` can end that session and nothing else. What names no session
//! ends nothing, also not that of the browser it comes from: nobody could tell who has sent it.

use http::request::Parts;
use url::form_urlencoded;

use super::logout::FrontChannel;
use super::reply::{self, Answer, Refusal};
use super::{AuthorizationServerMetadata, Gateway};
use crate::ledger::protocol::EndReason;
use crate::ledger::tombstone::Tombstone;
use crate::ledger::{Key, StoreError};
use crate::oauth::LoginTransaction;
use crate::session::Session;

/// A longer name is none of a session.
const MAX_SID: usize = 1024;

impl Gateway {
    pub(super) async fn frontchannel_logout(&self, request: &Parts) -> Answer {
        let prefix = &self.settings.prefix;
        let Ok(metadata) = self.seams.server.metadata().await else {
            tracing::warn!("a front-channel logout cannot be read: the issuer's metadata is not known yet");
            return Refusal::IssuerUnavailable(std::time::Duration::from_secs(2)).answer(request, prefix);
        };
        let issuer = metadata.issuer.as_str();
        let accepts_sid_alone = self.settings.logout.front_channel == FrontChannel::SidOnly;
        if let Some(sid) = Named::read(request.uri.query().unwrap_or_default()).session_of(issuer, accepts_sid_alone) {
            match self.end_registered(Key::issuer_session(issuer, &sid)).await {
                Ok(true) => tracing::info!(target: "audit", event = "logout.frontchannel"),
                Ok(false) => {
                    tracing::info!("a front-channel logout names a session that nobody has here; it ends nothing")
                }
                Err(error) => {
                    tracing::error!(%error, "a front-channel logout cannot be noted in the ledger");
                    return Refusal::LedgerUnavailable.answer(request, prefix);
                }
            }
        } else {
            tracing::info!("a front-channel logout names no session of the issuer; it ends nothing");
        }
        reply::framed(&ancestors(&metadata))
    }

    /// Ends what is registered under `key`, and says whether anything is. It may be repeated.
    ///
    /// # Errors
    /// If the ledger cannot be asked.
    async fn end_registered(&self, key: Key) -> Result<bool, StoreError> {
        let Some((issued_until, lives_until)) = self.seams.ledger.registered(key).await? else { return Ok(false) };
        // A login that is being finished now may yet bring an ID token of that time.
        let keep_until = lives_until.max(self.seams.clock.now() + LoginTransaction::LIFETIME);
        self.seams.ledger.bury(key, Tombstone { reason: EndReason::IssuerLogout, issued_until, keep_until }).await?;
        Ok(true)
    }

    /// Makes a new session one that a page of the issuer can end, if that is configured and the issuer has named its own
    /// session.
    ///
    /// # Errors
    /// If the ledger cannot be asked.
    pub(super) async fn register_for_front_channel(&self, session: &Session) -> Result<(), StoreError> {
        let identity = &session.identity;
        match (self.settings.logout.front_channel, identity.issuer_session.as_deref()) {
            (FrontChannel::On | FrontChannel::SidOnly, Some(sid)) => {
                let key = Key::issuer_session(identity.original.issuer.as_str(), sid);
                self.seams.ledger.register(key, identity.issued_at, session.ends).await
            }
            (FrontChannel::Off, _) | (FrontChannel::On | FrontChannel::SidOnly, None) => Ok(()),
        }
    }
}

/// Whose pages may hold us in a frame: the issuer's, also where its logout page lives on another host than the rest.
fn ancestors(metadata: &AuthorizationServerMetadata) -> Vec<String> {
    let issuer = url::Url::parse(metadata.issuer.as_str()).ok();
    let logout = metadata.end_session_endpoint.as_ref().map(|endpoint| endpoint.url().clone());
    let mut origins: Vec<_> = issuer.into_iter().chain(logout).map(|url| url.origin().ascii_serialization()).collect();
    origins.dedup();
    origins
}

/// The two names in a query, each if it is there once and not empty.
#[derive(Debug, PartialEq, Eq)]
struct Named {
    issuer: Option<String>,
    session: Option<String>,
    /// One of them is there twice: it could mean either.
    repeated: bool,
}

impl Named {
    fn read(query: &str) -> Self {
        let mut named = Self { issuer: None, session: None, repeated: false };
        for (name, value) in form_urlencoded::parse(query.as_bytes()).filter(|(_, value)| !value.is_empty()) {
            let place = match &*name {
                "iss" => &mut named.issuer,
                "sid" => &mut named.session,
                _ => continue,
            };
            named.repeated |= place.replace(value.into_owned()).is_some();
        }
        named
    }

    /// The session of `issuer` that is named (section 2: `iss` and `sid` come together).
    fn session_of(self, issuer: &str, accepts_sid_alone: bool) -> Option<String> {
        let is_of_issuer = self.issuer.map_or(accepts_sid_alone, |iss| iss == issuer);
        self.session.filter(|sid| is_of_issuer && !self.repeated && sid.len() <= MAX_SID)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_named_by_both_or_where_allowed_by_its_sid() {
        // FCL-2-04
        let named = |query: &str, alone| Named::read(query).session_of("https://as.test", alone);
        let both = "tenant=1&sid=s-1&iss=https%3A%2F%2Fas.test";
        for alone in [false, true] {
            assert_eq!(named(both, alone).as_deref(), Some("s-1"));
            for query in [
                "",
                "iss=https://as.test",
                "sid=s-1&iss=https://as.test/",
                "sid=s-1&iss=https://other.test",
                "sid=&iss=https://as.test",
                "sid=s-1&sid=s-2&iss=https://as.test",
                "sid=s-1&iss=https://as.test&iss=https://as.test",
                &format!("sid={}&iss=https://as.test", "x".repeat(1025)),
            ] {
                assert_eq!(named(query, alone), None, "{query}");
            }
        }
        assert_eq!((named("sid=s-1", false), named("sid=s-1", true).as_deref()), (None, Some("s-1")));
    }
}
