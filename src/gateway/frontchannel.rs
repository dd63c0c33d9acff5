//! `GET /bff/frontchannel-logout`: a page of the issuer says that its session is over (OpenID Connect Front-Channel Logout
//! 1.0). The page loads it in a frame of a browser that sends us no cookies from there (section 4.1).
//!
//! Nothing is signed, so it ends as little as it can: sessions of the configured issuer whose `sid` was registered by their
//! login, and that began before it. Whoever knows a `sid` can end that session and nothing else. What names no session
//! ends nothing, also not that of the browser it comes from: nobody could tell who has sent it.

use http::request::Parts;
use sha2::{Digest, Sha256};
use url::form_urlencoded;

use super::logout::FrontChannel;
use super::reply::{self, Answer, Refusal};
use super::{AuthorizationServerMetadata, Gateway};
use crate::ledger::protocol::EndReason;
use crate::ledger::tombstone::Tombstone;
use crate::ledger::{Key, StoreError};
use crate::oauth::{Issuer, LoginTransaction};
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
        if let Some((issuer, sid)) = Named::read(request.uri.query().unwrap_or_default()).session() {
            match self.end_named(&metadata, issuer.as_deref(), &sid).await {
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

    /// Ends the session of this name, and says whether there is one.
    ///
    /// # Errors
    /// If the ledger cannot be asked.
    async fn end_named(
        &self,
        metadata: &AuthorizationServerMetadata,
        issuer: Option<&str>,
        sid: &str,
    ) -> Result<bool, StoreError> {
        let issuer = match (issuer, self.settings.logout.front_channel) {
            (Some(iss), _) => metadata.issuer_named(iss),
            (None, FrontChannel::SidOnly) if metadata.tenants.is_some() => self.tenant_of(sid).await?,
            (None, FrontChannel::SidOnly) => Some(metadata.issuer.clone()),
            (None, FrontChannel::On | FrontChannel::Off) => None,
        };
        match issuer {
            Some(issuer) => self.end_registered(Key::issuer_session(issuer.as_str(), sid)).await,
            None => Ok(false),
        }
    }

    /// The tenant's issuer whose session this is, if a login has noted it.
    ///
    /// # Errors
    /// If the ledger cannot be asked.
    async fn tenant_of(&self, sid: &str) -> Result<Option<Issuer>, StoreError> {
        let place = self.tenant_place(sid);
        let sealed = self.seams.ledger.left(place).await?;
        Ok(sealed.and_then(|sealed| self.vault.open_aside(&place, &sealed, self.seams.clock.now())))
    }

    /// Where a login notes which tenant a session is of: a page of the issuer that names the session alone does not say.
    fn tenant_place(&self, sid: &str) -> [u8; 32] {
        Sha256::new()
            .chain_update("tenant of an issuer's session ")
            .chain_update(Sha256::digest(self.settings.roster.issuer.as_str()))
            .chain_update(sid)
            .finalize()
            .into()
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
                let issuer = &identity.original.issuer;
                if *issuer != self.settings.roster.issuer {
                    let (place, now) = (self.tenant_place(sid), self.seams.clock.now());
                    let sealed = self.vault.seal_aside(&place, issuer, &*self.seams.random, now);
                    self.seams.ledger.leave(place, sealed, session.ends).await?;
                }
                let key = Key::issuer_session(issuer.as_str(), sid);
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

    /// The session that is named, and its issuer (section 2: `iss` and `sid` come together).
    fn session(self) -> Option<(Option<String>, String)> {
        let sid = self.session.filter(|sid| !self.repeated && sid.len() <= MAX_SID)?;
        Some((self.issuer, sid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_named_once_or_not_at_all() {
        // FCL-2-04
        let named = |query: &str| Named::read(query).session();
        let both = "tenant=1&sid=s-1&iss=https%3A%2F%2Fas.test";
        assert_eq!(named(both), Some((Some("https://as.test".to_owned()), "s-1".to_owned())));
        for query in [
            "",
            "iss=https://as.test",
            "sid=&iss=https://as.test",
            "sid=s-1&sid=s-2&iss=https://as.test",
            "sid=s-1&iss=https://as.test&iss=https://as.test",
            &format!("sid={}&iss=https://as.test", "x".repeat(1025)),
        ] {
            assert_eq!(named(query), None, "{query}");
        }
        assert_eq!(named("sid=s-1"), Some((None, "s-1".to_owned())));
    }
}
