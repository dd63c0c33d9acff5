//! What can go wrong, by whose fault.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

/// A step of the protocol did not succeed.
///
/// What is displayed holds no secret and, of what the other side said, nothing but its sanitised error code.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// What the browser brought to the redirect endpoint is not the answer to the login that it belongs to.
    #[error("the authorization response is refused: {0}")]
    Callback(CallbackFault),
    /// The authorization server has understood the request and said no.
    #[error("the authorization server refuses with {error:?}{}", Status(*.status))]
    IssuerRefused {
        /// The error code, printable ASCII, at most 200 characters; [`UNSPECIFIED`](Self::UNSPECIFIED) if there is none.
        error: String,
        /// Its explanation for developers, printable ASCII, at most 200 characters.
        /// It may quote what a database said: not for logs, not for pages.
        description: Option<String>,
        /// The HTTP status it came with; none if it came by way of the browser.
        status: Option<u16>,
    },
    /// The authorization server has said something that no correct one says, or is in trouble; or it speaks of somebody
    /// who is not admitted.
    #[error("{kind}: {0}", kind = .0.kind())]
    IssuerMisbehaved(Misbehaviour),
    /// No known key verifies the signature; fetch the keys anew, once (OpenID Connect Core section 10.1.1).
    #[error("no known key of the authorization server verifies the signature")]
    UnknownKey,
}

impl Error {
    /// Stands for the error code where a refusal names none.
    pub const UNSPECIFIED: &str = "unspecified";

    /// What a failed answer of the token endpoint says about a refresh token.
    pub fn verdict(&self) -> Verdict {
        match self {
            Self::IssuerRefused { error, status, .. } => match error.as_str() {
                "invalid_grant" => Verdict::InvalidGrant,
                "invalid_client" | "unauthorized_client" => Verdict::ClientRejected,
                // These speak of the proof that came with it (RFC 9449 sections 5 and 8).
                "use_dpop_nonce" | "invalid_dpop_proof" => Verdict::Transient { retry_after: None },
                // `invalid_target` speaks of the API that was asked for (RFC 8707 section 2).
                "temporarily_unavailable" | "server_error" | "slow_down" | "invalid_target" => {
                    Verdict::Transient { retry_after: None }
                }
                // These speak of the door (a firewall, the credentials, the moment), not of the token behind it.
                _ if matches!(status, Some(401 | 403 | 408 | 425 | 429)) => Verdict::Transient { retry_after: None },
                _ => Verdict::Undetermined,
            },
            Self::IssuerMisbehaved(misbehaviour) => Verdict::Transient { retry_after: misbehaviour.retry_after },
            Self::Callback(_) | Self::UnknownKey => Verdict::Transient { retry_after: None },
        }
    }
}

impl From<Misbehaviour> for Error {
    fn from(misbehaviour: Misbehaviour) -> Self {
        Self::IssuerMisbehaved(misbehaviour)
    }
}

/// What a failed answer of the token endpoint says about a refresh token.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The token is dead: `invalid_grant`, the only judgement that a server can pass on it (RFC 6749 section 5.2).
    InvalidGrant,
    /// The client itself is not accepted: `invalid_client`, `unauthorized_client`. Nothing is said about the token.
    ClientRejected,
    /// Trouble that passes: 5xx, 401 and 403 of the door, 408, 425, 429, an HTML page, a malformed answer.
    /// It never counts against a session, however often it comes.
    Transient {
        /// How long the server asks to be left alone (`Retry-After` in seconds), at most an hour.
        retry_after: Option<Duration>,
    },
    /// Another refusal, such as a 400 with an empty body or a 404: it may be the token, it may be something else.
    Undetermined,
}

/// What is wrong with an authorization response.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallbackFault {
    /// Its query is no text of the form that browsers send, or of an absurd length.
    #[error("its query cannot be read")]
    Unreadable,
    /// A parameter occurs more than once (RFC 6749 section 3.1).
    #[error("{0} occurs more than once")]
    Repeated(&'static str),
    /// A parameter is of an absurd length.
    #[error("{0} is too long")]
    TooLong(&'static str),
    /// Without `state` it belongs to no login.
    #[error("state is missing")]
    StateMissing,
    /// It brings neither a code nor an error, or both.
    #[error("it must hold either code or error")]
    NeitherOrBoth,
    /// Its `state` is that of another login.
    #[error("state is not that of this login")]
    OtherState,
    /// The login was started too long ago.
    #[error("the login was started too long ago")]
    Expired,
    /// The login was started at another authorization server than the one that is configured now.
    #[error("the login was started at another issuer")]
    OtherIssuer,
    /// The server announces `iss` in its responses, or configuration demands it, but this one has none (RFC 9207 section
    /// 2.4).
    #[error("iss is missing, although the authorization server announces it or issuer.require_iss is set")]
    IssMissing,
    /// Its `iss` is another authorization server (RFC 9207 section 2.4).
    #[error("iss is not the issuer that the login was started at")]
    IssMismatch,
}

/// What an authorization server did that no correct one does. It names the document and its member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Misbehaviour {
    what: Cow<'static, str>,
    retry_after: Option<Duration>,
    about: About,
}

/// What the cause may be besides the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum About {
    Itself,
    Clocks,
    Admission,
}

impl Misbehaviour {
    /// Whether it may be this machine's clock that is wrong.
    pub const fn is_about_clocks(&self) -> bool {
        matches!(self.about, About::Clocks)
    }

    /// Whether the server is in order, and it is somebody whom configuration does not admit.
    pub const fn is_about_admission(&self) -> bool {
        matches!(self.about, About::Admission)
    }

    /// What it is, in front of what was found.
    const fn kind(&self) -> &'static str {
        match self.about {
            About::Itself | About::Clocks => "the authorization server misbehaves",
            About::Admission => "the account is not admitted",
        }
    }

    /// The same, with a hint that clocks may differ.
    pub(super) fn about_clocks(self) -> Self {
        Self { what: format!("{}; compare this machine's clock", self.what).into(), about: About::Clocks, ..self }
    }

    /// The same about somebody who is not admitted.
    pub(super) fn about_admission(self) -> Self {
        Self { about: About::Admission, ..self }
    }

    /// The same, by a server that asks to be left alone for a while.
    pub(super) fn retry_after(self, retry_after: Option<Duration>) -> Self {
        Self { retry_after, ..self }
    }
}

impl From<&'static str> for Misbehaviour {
    fn from(what: &'static str) -> Self {
        Self { what: what.into(), retry_after: None, about: About::Itself }
    }
}

impl From<String> for Misbehaviour {
    fn from(what: String) -> Self {
        Self { what: what.into(), retry_after: None, about: About::Itself }
    }
}

impl fmt::Display for Misbehaviour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

/// Text from outside as it may be shown: printable ASCII, at most 200 characters.
pub(super) fn presentable(text: &str) -> String {
    const LIMIT: usize = 200;
    text.chars().filter(|it| matches!(it, ' '..='~')).take(LIMIT).collect()
}

struct Status(Option<u16>);

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |status| write!(f, " (status {status})"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_displayed_leaves_the_description_out() {
        // O2-4.1.2.1-01: a description may hold SQL text.
        let error = Error::IssuerRefused {
            error: "invalid_grant".into(),
            description: Some("SELECT secret FROM tokens".into()),
            status: Some(400),
        };
        assert_eq!(error.to_string(), "the authorization server refuses with \"invalid_grant\" (status 400)");
        let error = Error::IssuerRefused { error: "access_denied".into(), description: None, status: None };
        assert_eq!(error.to_string(), "the authorization server refuses with \"access_denied\"");
    }

    #[test]
    fn somebody_who_is_not_admitted_is_no_fault_of_the_server() {
        let about = |fault: Misbehaviour| Error::from(fault).to_string();
        assert_eq!(about("it".into()), "the authorization server misbehaves: it");
        assert_eq!(about(Misbehaviour::from("it").about_admission()), "the account is not admitted: it");
    }

    #[test]
    fn text_from_outside_is_cut_and_stripped() {
        // O2-4.1.2.1-01
        assert_eq!(presentable("a\r\nb\u{1b}[31m\u{202e}é"), "ab[31m");
        assert_eq!(presentable(&"x".repeat(10_000)).len(), 200);
    }

    #[test]
    fn only_invalid_grant_is_a_judgement_on_the_token() {
        // O2-5.2-01
        let refused = |error: &str, status| {
            Error::IssuerRefused { error: error.into(), description: None, status: Some(status) }.verdict()
        };
        let transient = Verdict::Transient { retry_after: None };
        for status in [400, 401, 403, 404] {
            assert_eq!(refused("invalid_grant", status), Verdict::InvalidGrant);
            assert_eq!(refused("invalid_client", status), Verdict::ClientRejected);
        }
        for status in [401, 403, 408, 425, 429] {
            assert_eq!(refused("invalid_code", status), transient, "{status}");
            assert_eq!(refused(Error::UNSPECIFIED, status), transient, "{status}");
        }
        assert_eq!(refused(Error::UNSPECIFIED, 400), Verdict::Undetermined);
        assert_eq!(refused("invalid_request", 404), Verdict::Undetermined);
        assert_eq!(refused("temporarily_unavailable", 400), transient);
        assert_eq!(Error::UnknownKey.verdict(), transient);
        assert_eq!(Error::Callback(CallbackFault::Expired).verdict(), transient);
    }
}
