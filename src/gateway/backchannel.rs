//! `POST /bff/backchannel-logout`: the issuer says that sessions are over (OpenID Connect Back-Channel Logout 1.0).
//!
//! It comes from a server, so it has no cookie and no proof of its origin: the signed token is the proof. The answer is
//! exactly 200 or 400, whatever goes wrong (section 2.8). A session that nobody knows here is over already, so that is
//! 200; what could not be checked or noted down is 400, because the issuer may then try again.

use http::HeaderMap;
use http::header::CONTENT_TYPE;
use http::request::Parts;
use url::form_urlencoded;

use super::body::{Body, BodyError};
use super::reply::{self, Answer};
use super::{Gateway, Unavailable};
use crate::ledger::protocol::EndReason;
use crate::ledger::tombstone::Tombstone;
use crate::ledger::{FirstUse, Key, StoreError};
use crate::oauth::{self, JwkSet, LoginTransaction, LogoutToken};

/// The longest body that is read: logout tokens are far shorter.
const MAX_BODY: usize = 64 * 1024;
const FORM: &str = "application/x-www-form-urlencoded";

/// Why a logout is refused. What is displayed holds nothing of the token.
#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error("the body is not {FORM}")]
    NotAForm,
    #[error("{0}")]
    Body(#[from] BodyError),
    #[error("there is no logout_token in the form")]
    Missing,
    #[error("there is more than one logout_token in the form")]
    Repeated,
    #[error("{0}")]
    Token(oauth::Error),
    #[error("{0}")]
    Issuer(#[from] Unavailable),
    #[error("{0}")]
    Ledger(#[from] StoreError),
}

impl From<oauth::Error> for Fault {
    fn from(error: oauth::Error) -> Self {
        Self::Token(error)
    }
}

impl Fault {
    /// Whether the same token may succeed later.
    const fn passes(&self) -> bool {
        match self {
            Self::Issuer(_) | Self::Ledger(_) => true,
            Self::NotAForm | Self::Body(_) | Self::Missing | Self::Repeated | Self::Token(_) => false,
        }
    }

    /// What the issuer is told. Of a token only what is wrong with it: anybody may have sent it, so it is not said that
    /// the issuer misbehaves. The state of the ledger is nobody else's business.
    fn description(&self) -> String {
        match self {
            Self::Token(oauth::Error::IssuerMisbehaved(what)) => what.to_string(),
            Self::Ledger(_) => "the logout cannot be noted down right now".to_owned(),
            Self::NotAForm
            | Self::Body(_)
            | Self::Missing
            | Self::Repeated
            | Self::Issuer(_)
            | Self::Token(oauth::Error::UnknownKey | oauth::Error::Callback(_) | oauth::Error::IssuerRefused { .. }) => {
                self.to_string()
            }
        }
    }
}

impl Gateway {
    pub(super) async fn backchannel_logout(&self, request: &Parts, body: &mut dyn Body) -> Answer {
        match self.end_by_token(request, body).await {
            Ok(()) => reply::logged_out(),
            Err(fault) => {
                let (cause, path) = (fault.description(), request.uri.path());
                if let Fault::Ledger(error) = &fault {
                    tracing::error!(%error, path, "a logout of the issuer cannot be noted in the ledger");
                } else if fault.passes() {
                    tracing::warn!(refusal = "backchannel-logout", cause, path, "refused");
                } else {
                    tracing::info!(refusal = "backchannel-logout", cause, path, "refused");
                }
                let code = if fault.passes() { "temporarily_unavailable" } else { "invalid_request" };
                reply::logout_refused(code, &cause)
            }
        }
    }

    async fn end_by_token(&self, request: &Parts, body: &mut dyn Body) -> Result<(), Fault> {
        if !is_form(&request.headers) {
            return Err(Fault::NotAForm);
        }
        let form = body.read(MAX_BODY).await?;
        let raw = logout_token(&form)?;
        let metadata = self.seams.server.metadata().await?;
        let (client, strict_typ) = (&self.settings.client, self.settings.logout.strict_typ);
        let verify =
            |keys: &JwkSet| LogoutToken::verify(&raw, client, &metadata, keys, strict_typ, self.seams.clock.now());
        let token = self.seams.with_keys(verify).await?;
        // A repeated token is served like the first one: its issuer may not have heard our answer, or heard that the first
        // attempt failed. It is harmless, because it ends nothing that began after it was issued.
        match self.seams.ledger.first_use(token.fingerprint(), token.refused_from()).await? {
            FirstUse::Yes => {}
            FirstUse::No(_) => tracing::info!("a logout token came once more"),
        }
        Ok(self.end_from_outside(&token).await?)
    }

    /// Ends what the token names: the session of its `sid`, or without one all sessions of its `sub` (section 2.7). What
    /// was established by a later ID token goes on.
    ///
    /// # Errors
    /// If the ledger cannot be asked. It may be repeated.
    async fn end_from_outside(&self, token: &LogoutToken) -> Result<(), StoreError> {
        let issuer = token.issuer().as_str();
        let one_session = token.issuer_session().map(|sid| Key::issuer_session(issuer, sid));
        let key = one_session.or_else(|| token.subject().map(|subject| Key::subject(issuer, subject)));
        // A login that is being finished now may yet bring an ID token that is older than the logout.
        let longest = self.settings.session.absolute + LoginTransaction::LIFETIME;
        let tombstone = Tombstone {
            reason: EndReason::IssuerLogout,
            issued_until: token.issued_at(),
            keep_until: self.seams.clock.now() + longest,
        };
        if let Some(key) = key {
            self.seams.ledger.bury(key, tombstone).await?;
        }
        tracing::info!(target: "audit", event = "logout.backchannel", one_session = one_session.is_some());
        Ok(())
    }
}

/// The one logout token of a form; its other fields are not looked at (section 2.5).
fn logout_token(form: &[u8]) -> Result<String, Fault> {
    let mut found = form_urlencoded::parse(form).filter(|(name, _)| name == "logout_token");
    let (_, token) = found.next().ok_or(Fault::Missing)?;
    match found.next() {
        Some(_) => Err(Fault::Repeated),
        None if token.is_empty() => Err(Fault::Missing),
        None => Ok(token.into_owned()),
    }
}

/// Whether the one `Content-Type` is that of a form; its parameters do not matter.
pub(super) fn is_form(headers: &HeaderMap) -> bool {
    let mut types = headers.get_all(CONTENT_TYPE).iter();
    let media_type = types.next().filter(|_| types.next().is_none()).and_then(|value| value.to_str().ok());
    media_type.and_then(|text| text.split(';').next()).is_some_and(|essence| essence.trim().eq_ignore_ascii_case(FORM))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trouble_of_ours_is_said_to_pass_and_not_described() {
        // BCL-2.8-02
        let full = Fault::Ledger(StoreError::Full("ledger.max_bytes is 300".to_owned()));
        assert!(full.passes() && Fault::Issuer(Unavailable).passes());
        assert_eq!(full.description(), "the logout cannot be noted down right now");
        for fault in [Fault::NotAForm, Fault::Missing, Fault::Repeated, Fault::Token(oauth::Error::UnknownKey)] {
            assert!(!fault.passes(), "{fault}");
        }
    }

    #[test]
    fn the_one_token_is_found_among_other_fields() {
        // BCL-2.5-01
        let found = |form: &str| logout_token(form.as_bytes()).map_err(|fault| fault.to_string());
        assert_eq!(found("a=b&logout_token=a.b.c&logout_tokens=x").as_deref(), Ok("a.b.c"));
        assert_eq!(found("logout%5Ftoken=a%2Eb.c").as_deref(), Ok("a.b.c"));
        for form in ["", "a=b", "logout_token", "logout_token=", "logout_token[]=a.b.c"] {
            assert_eq!(found(form), Err(Fault::Missing.to_string()), "{form}");
        }
        for form in ["logout_token=a&logout_token=a", "logout_token=&logout_token=a"] {
            assert_eq!(found(form), Err(Fault::Repeated.to_string()), "{form}");
        }
    }
}
