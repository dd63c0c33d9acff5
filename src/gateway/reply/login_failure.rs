//! Logins that did not succeed, and what the person is told of it.

use http::StatusCode;
use serde::{Deserialize, Serialize};

use crate::oauth::{CallbackFault, Error};

/// Why a login did not succeed, as a person may read it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LoginFailure {
    /// The authorization server refused; its error code (RFC 6749 section 4.1.2.1).
    Refused(String),
    /// The answer of the authorization server was not acceptable.
    Misbehaved,
    /// It took longer than a login may take.
    Stale,
    /// The token says that it is not valid at this time: clocks differ.
    Clocks,
    /// The answer does not belong to a login of this browser, and trying anew did not help.
    Unrecognised,
    /// As [`Unrecognised`](Self::Unrecognised), and the browser sends no cookie of this site at all.
    NoCookies {
        /// Where the site is: scheme, host and port.
        site: String,
    },
    /// A login has just succeeded, and the browser does not send the session's cookies.
    NotKept {
        /// What they took, in bytes.
        bytes: u32,
        /// How many there were.
        cookies: u8,
    },
    /// The session could not be laid down in the ledger.
    LedgerUnavailable,
    /// The person has proved who they are, and is not one of those who may sign in here.
    NotAdmitted,
}

impl LoginFailure {
    /// The failure that a protocol error means to the person.
    pub(in super::super) fn of(error: &Error) -> Self {
        match error {
            Error::IssuerRefused { error, .. } => Self::Refused(error.clone()),
            Error::IssuerMisbehaved(it) if it.is_about_clocks() => Self::Clocks,
            Error::IssuerMisbehaved(it) if it.is_about_admission() => Self::NotAdmitted,
            Error::Callback(CallbackFault::Expired | CallbackFault::OtherIssuer) => Self::Stale,
            Error::Callback(
                CallbackFault::Unreadable
                | CallbackFault::Repeated(_)
                | CallbackFault::TooLong(_)
                | CallbackFault::StateMissing
                | CallbackFault::NeitherOrBoth
                | CallbackFault::OtherState
                | CallbackFault::IssMissing
                | CallbackFault::IssMismatch,
            )
            | Error::IssuerMisbehaved(_)
            | Error::UnknownKey => Self::Misbehaved,
        }
    }

    /// Its status, code, title and text.
    pub(super) fn describe(&self) -> (StatusCode, &'static str, &'static str, String) {
        match self {
            Self::Refused(code) => (
                StatusCode::FORBIDDEN,
                "login-refused",
                "The sign-in service has refused the login",
                format!("It says: {code}. You can try again."),
            ),
            Self::Misbehaved => (
                StatusCode::BAD_GATEWAY,
                "login-misbehaved",
                "The login could not be verified",
                "The sign-in service answered in a way that cannot be trusted. The operator can find the cause in the log."
                    .to_owned(),
            ),
            Self::Stale => (
                StatusCode::BAD_REQUEST,
                "login-stale",
                "The login took too long",
                "Start it again; it has to be finished within fifteen minutes.".to_owned(),
            ),
            Self::Unrecognised => (
                StatusCode::BAD_REQUEST,
                "login-unrecognised",
                "This login was not started in this browser",
                "The link was used before, or copied from elsewhere.".to_owned(),
            ),
            Self::Clocks => (
                StatusCode::BAD_GATEWAY,
                "login-clocks",
                "The login could not be verified",
                "The clocks of this site and of the sign-in service differ. The operator can find by how much in the log."
                    .to_owned(),
            ),
            Self::NoCookies { site } => (
                StatusCode::BAD_REQUEST,
                "login-no-cookies",
                "The browser sends no cookies to this site",
                format!(
                    "Cookies are blocked for this site, or the address does not begin with {site}. Allow cookies, or go \
                     to that address."
                ),
            ),
            Self::NotKept { bytes, cookies } => (
                StatusCode::BAD_REQUEST,
                "login-not-kept",
                "You have signed in, but the browser does not send your session",
                format!(
                    "It was given {cookies} cookies of {bytes} bytes together and has sent none of them back, or not all. \
                     Cookies are blocked or deleted for this site, or something between the browser and the site drops \
                     large ones: the operator can make them small with session.tokens = \"ledger\"."
                ),
            ),
            Self::LedgerUnavailable => (
                StatusCode::SERVICE_UNAVAILABLE,
                "login-ledger-unavailable",
                "The login cannot be finished right now",
                "It could not be noted here. Try again in a moment.".to_owned(),
            ),
            Self::NotAdmitted => (
                StatusCode::FORBIDDEN,
                "login-not-admitted",
                "This account may not sign in here",
                "This site does not admit accounts of its organisation. Try again with another account.".to_owned(),
            ),
        }
    }
}
