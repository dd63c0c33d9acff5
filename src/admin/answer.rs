//! The answers of this listener: JSON, never stored, for nobody's page.

use bytes::Bytes;
use http::header::{ALLOW, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, Response, StatusCode};
use http_body_util::Full;
use serde_json::{Value, json};

use crate::gateway::reply::own;

pub(super) type Answer = Response<Full<Bytes>>;

/// Why a request is not served. The list is closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// It does not carry `admin.token`; whether it carried another.
    Unauthorized { wrong: bool },
    /// Another site's page may be behind it; says what gave it away.
    CrossSite(&'static str),
    /// Nothing is here.
    NotFound,
    /// The session is not listed.
    NoSession,
    /// No list is kept.
    NotKept,
    /// The method is none of these.
    Method(&'static str),
    /// A parameter is wrong; says which, and what to write.
    Parameter(String),
    /// The ledger cannot be asked; says why.
    Ledger(String),
}

pub(super) fn json(status: StatusCode, value: &Value) -> Answer {
    answer(status, "application/json", value)
}

pub(super) fn ok(value: &Value) -> Answer {
    json(StatusCode::OK, value)
}

impl Refusal {
    /// A problem body (RFC 9457).
    pub(super) fn answer(&self) -> Answer {
        let (status, code, title, detail) = self.problem();
        let body = json!({
            "type": format!("urn:vestibule:problem:{code}"),
            "title": title,
            "status": status.as_u16(),
            "detail": detail,
        });
        let mut answer = answer(status, "application/problem+json", &body);
        let headers = answer.headers_mut();
        match self {
            // RFC 6750 section 3: no error is named to a request that carries nothing.
            Self::Unauthorized { wrong: false } => {
                headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"vestibule admin\""));
            }
            Self::Unauthorized { wrong: true } => {
                let challenge = "Bearer realm=\"vestibule admin\", error=\"invalid_token\"";
                headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
            }
            Self::Method(allowed) => {
                headers.insert(ALLOW, HeaderValue::from_static(allowed));
            }
            Self::Ledger(_) => {
                headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
            }
            Self::CrossSite(_) | Self::NotFound | Self::NoSession | Self::NotKept | Self::Parameter(_) => {}
        }
        answer
    }

    fn problem(&self) -> (StatusCode, &'static str, &'static str, String) {
        match self {
            Self::Unauthorized { .. } => (
                StatusCode::UNAUTHORIZED,
                "admin-unauthorized",
                "This listener asks for a token",
                "Send Authorization: Bearer with the text of admin.token.".to_owned(),
            ),
            Self::CrossSite(found) => (
                StatusCode::FORBIDDEN,
                "admin-cross-site",
                "This request may come from another site's page",
                (*found).to_owned(),
            ),
            Self::NotFound => (
                StatusCode::NOT_FOUND,
                "not-found",
                "There is nothing at this address",
                "Known are /health/live, /health/ready, /sessions, /sessions/{id}, /sessions/end and /subjects/end."
                    .to_owned(),
            ),
            Self::NoSession => (
                StatusCode::NOT_FOUND,
                "admin-no-session",
                "There is no such session",
                "It is not listed: it has reached its limit, or never was.".to_owned(),
            ),
            Self::NotKept => (
                StatusCode::NOT_FOUND,
                "admin-not-kept",
                "No list of sessions is kept",
                "Set admin.sessions = true; sessions are listed from their next login or use on.".to_owned(),
            ),
            Self::Method(allowed) => (
                StatusCode::METHOD_NOT_ALLOWED,
                "method",
                "This method is not served here",
                format!("Use {}.", allowed.replace(", ", " or ")),
            ),
            Self::Parameter(what) => (
                StatusCode::BAD_REQUEST,
                "admin-parameter",
                "This request cannot be served as it was sent",
                what.clone(),
            ),
            Self::Ledger(error) => (
                StatusCode::SERVICE_UNAVAILABLE,
                "ledger-unavailable",
                "The ledger cannot be asked right now",
                format!("{error}. Nothing is known to be done; it may be repeated."),
            ),
        }
    }
}

fn answer(status: StatusCode, media_type: &'static str, value: &Value) -> Answer {
    own(status, media_type, value.to_string().into()).map(Full::new)
}
