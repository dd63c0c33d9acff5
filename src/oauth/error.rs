//! What can go wrong, by whose fault.

use std::borrow::Cow;
use std::time::Duration;

/// Why a step of the protocol failed. No secret and no text of another party is in it, but for error codes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The callback is not acceptable: forged, stale, or meant for another login.
    #[error("the callback is not acceptable: {0}")]
    Callback(&'static str),
    /// The authorization server refused, with an error code of its own (RFC 6749 sections 4.1.2.1 and 5.2).
    #[error("the authorization server refused: {error} (status {status})")]
    IssuerRefused {
        /// The error code: printable ASCII, shortened.
        error: String,
        /// The HTTP status; 0 if the refusal came by way of the browser.
        status: u16,
        /// How long it asked to be left alone.
        retry_after: Option<Duration>,
    },
    /// The authorization server answered in a way that no specification allows.
    #[error("the authorization server misbehaved: {0}")]
    IssuerMisbehaved(Cow<'static, str>),
    /// No known key fits a signature. Keys may have been replaced: worth fetching them once more.
    #[error("no known key of the authorization server fits the signature")]
    UnknownKey,
}

/// What a failed token request means for the session that it was made for.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The refresh token is dead.
    InvalidGrant,
    /// The client's own credentials were rejected: nothing is known about the token.
    ClientRejected,
    /// The server could not; it may be able to later.
    Transient {
        /// How long it asked to be left alone.
        retry_after: Option<Duration>,
    },
    /// Neither: some servers say so when a token is dead, others when they are confused.
    Undetermined,
}

impl Error {
    /// A misbehaviour that names the field or rule.
    pub(super) fn misbehaved(what: impl Into<Cow<'static, str>>) -> Self {
        Self::IssuerMisbehaved(what.into())
    }

    /// What this failure of a token request means.
    pub fn verdict(&self) -> Verdict {
        match self {
            Self::IssuerRefused { error, status, retry_after } => match (error.as_str(), *status) {
                ("invalid_grant", 400..=499) => Verdict::InvalidGrant,
                ("invalid_client" | "unauthorized_client", _) => Verdict::ClientRejected,
                // Said of the request or of the moment, never of the token.
                (_, 401 | 403 | 408 | 425 | 429 | 500..=599)
                | ("temporarily_unavailable" | "server_error" | "slow_down", _) => {
                    Verdict::Transient { retry_after: *retry_after }
                }
                (_, _) => Verdict::Undetermined,
            },
            Self::IssuerMisbehaved(_) | Self::Callback(_) | Self::UnknownKey => {
                Verdict::Transient { retry_after: None }
            }
        }
    }
}

/// An error code as it may be shown and logged: printable ASCII, at most 64 characters.
pub(super) fn printable(code: &str) -> String {
    let printable: String = code.chars().filter(char::is_ascii_graphic).take(64).collect();
    if printable.is_empty() { "no error code".to_owned() } else { printable }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(error: &str, status: u16) -> Verdict {
        Error::IssuerRefused { error: error.to_owned(), status, retry_after: None }.verdict()
    }

    #[test]
    fn only_invalid_grant_is_a_verdict_on_the_token() {
        // O2-5.2-01
        assert_eq!(refused("invalid_grant", 400), Verdict::InvalidGrant);
        assert_eq!(refused("invalid_grant", 401), Verdict::InvalidGrant);
        assert_eq!(refused("invalid_client", 401), Verdict::ClientRejected);
        let transient = Verdict::Transient { retry_after: None };
        for status in [401, 403, 408, 425, 429, 500, 502, 503] {
            assert_eq!(refused("no error code", status), transient, "{status}");
        }
        assert_eq!(refused("invalid_grant", 500), transient);
        assert_eq!(refused("no error code", 400), Verdict::Undetermined);
        assert_eq!(refused("NotFound", 404), Verdict::Undetermined);
        assert_eq!(Error::misbehaved("HTML").verdict(), transient);
    }

    #[test]
    fn codes_of_others_are_made_harmless() {
        assert_eq!(printable("invalid\r\n_grant\u{7f}<é>"), "invalid_grant<>");
        assert_eq!(printable(&"x".repeat(999)).len(), 64);
        assert_eq!(printable("\n"), "no error code");
    }
}
