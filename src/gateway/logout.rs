//! `POST /bff/logout`: ends the session, here first, then at the authorization server.

use http::request::Parts;
use serde_json::json;

use super::admission::Admission;
use super::broker::Ended;
use super::cross_origin::wants_page;
use super::reply::{Answer, Refusal};
use super::{Gateway, attach, reply};
use crate::ledger::protocol::EndReason;
use crate::oauth;

impl Gateway {
    pub(super) async fn logout(&self, request: &Parts) -> Answer {
        let prefix = &self.settings.prefix;
        if let Err(missing) = self.settings.cross_origin.prove(request) {
            return Refusal::CrossSite(missing).answer(request, prefix);
        }
        let location = match self.identify(&request.headers).await {
            Admission::Admitted(passport) => match self.broker.end(&passport.session, EndReason::Logout).await {
                Ok(ended) => self.leave_the_issuer(&ended).await,
                Err(error) => {
                    tracing::error!(%error, "a logout cannot be noted in the ledger");
                    return Refusal::LedgerUnavailable.answer(request, prefix);
                }
            },
            Admission::Nobody(_) => self.after_logout(),
            Admission::Refused(refusal) => return refusal.answer(request, prefix),
        };
        let mut answer = if is_form(request) {
            reply::redirect(&location)
        } else {
            reply::json(&json!({ "redirect": location }), request)
        };
        let mut cookies = self.set_cookies();
        self.vault.retire(&request.headers, &mut cookies);
        attach(answer.headers_mut(), cookies.into_values());
        answer
    }

    /// Has the tokens revoked, and says where the browser goes to end the issuer's own session.
    async fn leave_the_issuer(&self, ended: &Ended) -> String {
        if !ended.revoked_elsewhere {
            self.seams.revoke_now(&self.client, &ended.newest).await;
        }
        let Ok(metadata) = self.seams.server.metadata().await else { return self.after_logout() };
        let hint = ended.newest.grant.id_token.as_ref();
        let back = self.after_logout();
        oauth::end_session_url(&self.client, &metadata, hint, Some(&back), None).map_or(back, String::from)
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
