//! `POST /bff/logout`: ends the session, here first, then at the authorization server.
//!
//! The way to the authorization server carries the ID token as a hint. A form is redirected there; a script is only told
//! to go to `GET /bff/logout`, which redirects, so that no script ever holds the token.

use http::Method;
use http::request::Parts;
use serde_json::json;

use super::admission::Admission;
use super::cross_origin::wants_page;
use super::reply::{Answer, Refusal};
use super::{Gateway, attach, reply};
use crate::ledger::protocol::EndReason;
use crate::oauth;
use crate::session::Session;
use crate::session::cookies::SetCookies;
use crate::session::vault::Found;

/// Stands where a login has its state: the cookie that holds the way to the authorization server.
const LEAVING: &str = "logout";

impl Gateway {
    pub(super) async fn logout(&self, request: &Parts) -> Answer {
        let prefix = &self.settings.prefix;
        if let Err(missing) = self.settings.cross_origin.prove(request) {
            return Refusal::CrossSite(missing).answer(request, prefix);
        }
        let (away, everywhere) = match self.identify(&request.headers).await {
            Admission::Admitted(passport) => match self.broker.end(passport.session, EndReason::Logout).await {
                Ok(ended) => (self.leave_the_issuer(&ended.newest).await, true),
                Err(error) => (self.logout_unnoted(request, &error.to_string()).await, false),
            },
            Admission::Refused(Refusal::LedgerUnavailable) => (self.logout_unnoted(request, "see above").await, false),
            Admission::Nobody(_) => (None, true),
            Admission::Refused(refusal) => return refusal.answer(request, prefix),
        };
        let mut cookies = self.set_cookies();
        self.vault.retire(&request.headers, &mut cookies);
        self.forget_landing(request, &mut cookies);
        let away = away.unwrap_or_else(|| self.after_logout());
        let mut answer = if is_form(request) {
            if everywhere { reply::redirect(&away) } else { reply::signed_out_here(&away) }
        } else {
            let target = self.way_for_scripts(&away, request, &mut cookies);
            reply::json(&json!({ "redirect": target, "pending": !everywhere }), request)
        };
        attach(answer.headers_mut(), cookies);
        answer
    }

    /// A logout while the ledger cannot be asked. This browser loses its cookie and the authorization server is told; the
    /// ledger is, as soon as it can be.
    async fn logout_unnoted(&self, request: &Parts, error: &str) -> Option<String> {
        tracing::error!(error, "a logout cannot be noted in the ledger yet; it is tried again until it can");
        let Found::Session { carried, .. } = self.vault.open(&request.headers, self.seams.clock.now()) else {
            return None;
        };
        let session = self.broker.end_later(carried, EndReason::Logout)?;
        self.leave_the_issuer(&session).await
    }

    /// The second half of a logout that a script has asked for: now as a navigation, whose target no script can read.
    pub(super) fn resume_logout(&self, request: &Parts) -> Answer {
        let now = self.seams.clock.now();
        match self.vault.open_login::<String>(LEAVING, &request.headers, now) {
            Some(away) => {
                let mut cookies = self.set_cookies();
                self.vault.retire_login(LEAVING, &mut cookies);
                let mut answer = reply::redirect(&away);
                attach(answer.headers_mut(), cookies);
                answer
            }
            // Nobody is signed out by going to an address.
            None => Refusal::Method(vec![Method::POST]).answer(request, &self.settings.prefix),
        }
    }

    /// Where a script sends the browser: to us again if the way on is for the browser alone to know.
    fn way_for_scripts(&self, away: &str, request: &Parts, cookies: &mut SetCookies) -> String {
        let origin = self.settings.public_url.origin().ascii_serialization();
        if away == self.after_logout() {
            return away.to_owned();
        }
        let (random, now) = (&*self.seams.random, self.seams.clock.now());
        match self.vault.store_login(LEAVING, &away, &request.headers, cookies, random, now) {
            Ok(()) => format!("{origin}{}/logout", self.settings.prefix),
            Err(error) => {
                tracing::warn!(%error, "the issuer's own session is not ended: the way there does not fit into a cookie");
                self.after_logout()
            }
        }
    }

    /// Says where the browser goes to end the issuer's own session, if there is such a place.
    async fn leave_the_issuer(&self, session: &Session) -> Option<String> {
        let metadata = self.seams.server.metadata().await.ok()?;
        let hint = session.grant.id_token.as_ref();
        let back = self.after_logout();
        oauth::end_session_url(&self.settings.client, &metadata, hint, Some(&back), None).map(String::from)
    }

    /// Where a logout leads to in the end; the authorization server must know this very address.
    fn after_logout(&self) -> String {
        format!("{}{}", self.settings.public_url.origin().ascii_serialization(), self.settings.after_logout)
    }
}

/// A form of a page, which follows redirects, and not a script, which reads the answer.
fn is_form(request: &Parts) -> bool {
    match request.headers.get("sec-fetch-mode") {
        Some(mode) => mode.as_bytes() == b"navigate",
        None => wants_page(request),
    }
}
