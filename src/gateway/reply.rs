//! Every answer that Vestibule gives itself. Status codes, problem bodies and pages are written here and nowhere else.

mod login_failure;
mod logout;
mod module;
mod own;

use std::time::Duration;

use bytes::Bytes;
use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS,
    ACCESS_CONTROL_REQUEST_METHOD, ALLOW, CONTENT_LENGTH, LOCATION, RETRY_AFTER, WWW_AUTHENTICATE,
};
use http::request::Parts;
use http::{HeaderName, HeaderValue, Method, Response, StatusCode};
use serde_json::{Value, json};

pub use self::login_failure::LoginFailure;
pub use self::logout::{framed, logged_out, logout_refused, send_on, signed_out_here};
pub(super) use self::module::{event_stream, landing, script};
pub use self::own::own;
use self::own::{page, without_body_for_head};
use super::cross_origin::{Missing, wants_page};
use super::files::Served;
use super::pages::Page;
use super::return_to::target_of;
use crate::ledger::protocol::EndReason;
use crate::oauth::StepUp;

/// An answer of our own.
pub type Answer = Response<Bytes>;

/// Why a request is not served. The list is closed: each entry has its status, its problem body and its page here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The request carries no session that lives; the reason, if it carried one that has ended.
    NoSession(Option<EndReason>),
    /// Nothing proves that the request comes from this site.
    CrossSite(Missing),
    /// An API demands a stronger or fresher login, or more scope (RFC 9470, RFC 6750 section 3.1).
    StepUp {
        /// What it demands.
        wanted: StepUp,
        /// Where such a login starts.
        login: String,
    },
    /// The token has expired and the authorization server cannot be asked now. The session is kept.
    IssuerUnavailable(Duration),
    /// The ledger cannot be asked now. The session is kept.
    LedgerUnavailable,
    /// The authorization server gives no token for the API of this route. The session is kept.
    NoTokenForRoute,
    /// The upstream wants a newer proof, and the request cannot be sent again from here: its body is gone, or it has been.
    SendAgain,
    /// The upstream cannot be reached, or broke off.
    UpstreamFailed,
    /// The upstream did not answer in time.
    UpstreamTimeout,
    /// No route covers the path.
    NoRoute,
    /// The path or a parameter cannot be served as it was sent; says what is wrong with it.
    BadRequest(&'static str),
    /// The method is not among those of the route or endpoint.
    Method(Vec<Method>),
    /// The body is larger than the limit.
    BodyTooLarge,
    /// The header fields are larger than the limit.
    HeadTooLarge,
    /// The session has as many event streams open as one may have.
    TooManyStreams,
    /// A login can only be started by a person who goes to it.
    NotANavigation,
    /// A login did not succeed.
    LoginFailed(LoginFailure),
    /// Something of ours is broken; the log says what.
    Internal,
}

struct Problem {
    status: StatusCode,
    code: &'static str,
    title: &'static str,
    detail: String,
}

impl Refusal {
    fn problem(&self) -> Problem {
        let (status, code, title, detail) = match self {
            Self::NoSession(None) => {
                (StatusCode::UNAUTHORIZED, "no-session", "You are not signed in", "Sign in to go on.".to_owned())
            }
            Self::NoSession(Some(reason)) => (
                StatusCode::UNAUTHORIZED,
                "session-ended",
                "Your session has ended",
                match reason {
                    EndReason::Logout => "You have signed out.",
                    EndReason::Replaced => "This browser has signed in again since.",
                    EndReason::Idle => "It was not used for a while.",
                    EndReason::Expired => "It has reached its time limit.",
                    EndReason::Refused => "The sign-in service has ended it.",
                    EndReason::IssuerLogout => "You have signed out at the sign-in service.",
                    EndReason::Administrator => "An administrator has ended it.",
                    EndReason::Replayed => "An old copy of its cookie was used, so it was ended to be safe.",
                }
                .to_owned(),
            ),
            Self::CrossSite(missing) => (
                StatusCode::FORBIDDEN,
                "cross-site",
                "This request seems to come from another site",
                match missing {
                    Missing::SameOrigin => {
                        "It needs Sec-Fetch-Site: same-origin, an Origin of this site, or the header X-CSRF."
                    }
                    Missing::Header => "This site demands the header X-CSRF on every request of a script.",
                    Missing::WebSocketOrigin => "A WebSocket needs an Origin of this site.",
                }
                .to_owned(),
            ),
            Self::StepUp { wanted: StepUp::Authentication { .. }, .. } => (
                StatusCode::UNAUTHORIZED,
                "step-up",
                "This needs a stronger or more recent login",
                "You are still signed in. Sign in once more to go on.".to_owned(),
            ),
            Self::StepUp { wanted: StepUp::Scope(_), .. } => (
                StatusCode::FORBIDDEN,
                "insufficient-scope",
                "This needs a permission that was not asked for yet",
                "You are still signed in. Sign in once more to grant it.".to_owned(),
            ),
            Self::IssuerUnavailable(_) => (
                StatusCode::SERVICE_UNAVAILABLE,
                "issuer-unavailable",
                "The sign-in service does not answer",
                "If you were signed in, you still are. Try again in a moment.".to_owned(),
            ),
            Self::LedgerUnavailable => (
                StatusCode::SERVICE_UNAVAILABLE,
                "ledger-unavailable",
                "Your session cannot be checked right now",
                "If you were signed in, you still are. Try again in a moment.".to_owned(),
            ),
            Self::SendAgain => (
                StatusCode::SERVICE_UNAVAILABLE,
                "send-again",
                "The service behind this page wants this once more",
                "Nothing has been done yet. It can be sent again at once.".to_owned(),
            ),
            Self::UpstreamFailed => (
                StatusCode::BAD_GATEWAY,
                "upstream-failed",
                "The service behind this page cannot be reached",
                "If you were signed in, you still are. Try again in a moment.".to_owned(),
            ),
            Self::UpstreamTimeout => (
                StatusCode::GATEWAY_TIMEOUT,
                "upstream-timeout",
                "The service behind this page takes too long to answer",
                "If you were signed in, you still are. Try again in a moment.".to_owned(),
            ),
            Self::NoRoute => (
                StatusCode::NOT_FOUND,
                "not-found",
                "There is nothing at this address",
                "There is no route for it, and no file.".to_owned(),
            ),
            Self::BadRequest(what) => {
                (StatusCode::BAD_REQUEST, "bad-request", "This request cannot be served", format!("It has {what}."))
            }
            Self::Method(allowed) => (
                StatusCode::METHOD_NOT_ALLOWED,
                "method",
                "This method is not served here",
                format!("Use {}.", join(allowed, " or ")),
            ),
            Self::BodyTooLarge => (
                StatusCode::PAYLOAD_TOO_LARGE,
                "body-too-large",
                "What was sent is too large",
                "The body is larger than the limit.".to_owned(),
            ),
            Self::HeadTooLarge => (
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
                "head-too-large",
                "The request's header fields are too large",
                "Clearing the cookies of this site may help.".to_owned(),
            ),
            Self::TooManyStreams => (
                StatusCode::TOO_MANY_REQUESTS,
                "too-many-streams",
                "This session has too many event streams open",
                "Tabs of one browser can share one, as client.js does.".to_owned(),
            ),
            Self::NoTokenForRoute => (
                StatusCode::BAD_GATEWAY,
                "no-token",
                "There is no access to this",
                "You are signed in, but the sign-in service gives no token for this part. The operator can find the \
                 cause in the log."
                    .to_owned(),
            ),
            Self::NotANavigation => (
                StatusCode::BAD_REQUEST,
                "not-a-navigation",
                "A login starts by going to this address",
                "Open it in the window (location.assign), not by fetch, in a frame or ahead of time.".to_owned(),
            ),
            Self::LoginFailed(failure) => failure.describe(),
            Self::Internal => (
                StatusCode::INTERNAL_SERVER_ERROR,
                "internal",
                "Something went wrong here",
                "If you were signed in, you still are. The operator can find the cause in the log.".to_owned(),
            ),
        };
        Problem { status, code, title, detail }
    }

    /// The answer: a page for people, a problem body (RFC 9457) for scripts.
    pub fn answer(&self, request: &Parts, prefix: &str) -> Answer {
        let problem = self.problem();
        self.log(&problem, request);
        let mut answer = if wants_page(request) {
            page(problem.status, &self.page(&problem, request, prefix))
        } else {
            self.problem_body(&problem, prefix)
        };
        let headers = answer.headers_mut();
        match self {
            Self::NoSession(_) | Self::StepUp { wanted: StepUp::Authentication { .. }, .. } => {
                // RFC 9110 section 15.5.2 wants a challenge; this scheme opens no dialog.
                headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Session realm=\"vestibule\""));
            }
            Self::IssuerUnavailable(wait) => {
                headers.insert(RETRY_AFTER, HeaderValue::from(wait.as_millis().div_ceil(1000).max(1) as u64));
            }
            Self::LedgerUnavailable | Self::SendAgain => {
                headers.insert(RETRY_AFTER, HeaderValue::from(1));
            }
            Self::Method(allowed) => {
                if let Ok(value) = HeaderValue::try_from(join(allowed, ", ")) {
                    headers.insert(ALLOW, value);
                }
            }
            Self::StepUp { wanted: StepUp::Scope(_), .. }
            | Self::CrossSite(_)
            | Self::NoTokenForRoute
            | Self::UpstreamFailed
            | Self::UpstreamTimeout
            | Self::NoRoute
            | Self::BadRequest(_)
            | Self::BodyTooLarge
            | Self::HeadTooLarge
            | Self::TooManyStreams
            | Self::NotANavigation
            | Self::LoginFailed(_)
            | Self::Internal => {}
        }
        without_body_for_head(answer, request)
    }

    /// One line for each refusal, with its cause and without the query, which may hold a code.
    fn log(&self, problem: &Problem, request: &Parts) {
        let (refusal, cause, path) = (problem.code, problem.detail.as_str(), request.uri.path());
        if matches!(self, Self::NoSession(_)) {
            // Every page asks once whether somebody is signed in.
            tracing::debug!(refusal, cause, path, "refused");
        } else if problem.status.is_server_error() {
            tracing::warn!(refusal, cause, path, "refused");
        } else {
            tracing::info!(refusal, cause, path, "refused");
        }
    }

    fn problem_body(&self, problem: &Problem, prefix: &str) -> Answer {
        let mut body = json!({
            "type": format!("urn:vestibule:problem:{}", problem.code),
            "title": problem.title,
            "status": problem.status.as_u16(),
            "detail": problem.detail,
        });
        if let (Self::NoSession(reason), Some(members)) = (self, body.as_object_mut()) {
            members.insert("login".to_owned(), Value::String(format!("{prefix}/login")));
            members.insert("reason".to_owned(), reason.map_or(Value::Null, |reason| reason.name().into()));
        }
        if let (Self::StepUp { wanted, login }, Some(members)) = (self, body.as_object_mut()) {
            members.insert("login".to_owned(), login.as_str().into());
            let said = match wanted {
                StepUp::Authentication { acr_values, max_age } => {
                    json!({ "acr_values": acr_values, "max_age": max_age })
                }
                StepUp::Scope(scope) => json!({ "scope": scope }),
            };
            members.extend(said.as_object().into_iter().flatten().map(|(name, value)| (name.clone(), value.clone())));
        }
        own(problem.status, "application/problem+json", body.to_string().into())
    }

    fn page(&self, problem: &Problem, request: &Parts, prefix: &str) -> Page {
        let home = ("/".to_owned(), "Go to the start page".to_owned());
        let again = target_of(request).to_owned();
        // Back to where the person was, unless that was an endpoint of ours.
        let back = if again.starts_with(prefix) { "/" } else { &again };
        let back: String = url::form_urlencoded::byte_serialize(back.as_bytes()).collect();
        let login = (format!("{prefix}/login?return_to={back}"), "Sign in".to_owned());
        let links = match self {
            Self::StepUp { login, .. } => vec![(format!("{login}&return_to={back}"), "Sign in".to_owned()), home],
            // By hand there is one more round, whatever would stop one that starts by itself.
            Self::LoginFailed(LoginFailure::NotKept { .. }) => {
                vec![(format!("{}&attempt=1", login.0), "Try again".to_owned()), home]
            }
            // Without it the issuer takes the same account again.
            Self::LoginFailed(LoginFailure::NotAdmitted) => {
                vec![(format!("{}&prompt=select_account", login.0), "Sign in with another account".to_owned()), home]
            }
            Self::NoSession(_) | Self::LoginFailed(_) => vec![login, home],
            Self::IssuerUnavailable(_)
            | Self::LedgerUnavailable
            | Self::SendAgain
            | Self::UpstreamFailed
            | Self::UpstreamTimeout => {
                vec![(again, "Try again".to_owned()), home]
            }
            Self::NotANavigation => vec![login],
            Self::CrossSite(_)
            | Self::NoTokenForRoute
            | Self::NoRoute
            | Self::BadRequest(_)
            | Self::Method(_)
            | Self::BodyTooLarge
            | Self::HeadTooLarge
            | Self::TooManyStreams
            | Self::Internal => vec![home],
        };
        let refresh = if let Self::IssuerUnavailable(wait) = self {
            Some(((*wait).max(Duration::from_secs(2)), None))
        } else {
            None
        };
        Page { title: problem.title, text: problem.detail.clone(), links, refresh, script: None }
    }
}

/// 303 to `location`, which must be fit for a header field.
pub fn redirect(location: &str) -> Answer {
    let mut answer = own(StatusCode::SEE_OTHER, "text/plain; charset=utf-8", Bytes::new());
    match HeaderValue::try_from(location) {
        Ok(value) => {
            answer.headers_mut().insert(LOCATION, value);
            answer
        }
        Err(_) => own(StatusCode::INTERNAL_SERVER_ERROR, "text/plain; charset=utf-8", Bytes::new()),
    }
}

/// A page that goes on to `target` by itself: the navigation then counts as started by this site.
pub fn bounce(target: &str) -> Answer {
    let page = Page {
        title: "One moment",
        text: "You are being taken on.".to_owned(),
        links: vec![(target.to_owned(), "Go on".to_owned())],
        refresh: Some((Duration::ZERO, Some(target.to_owned()))),
        script: None,
    };
    self::page(StatusCode::OK, &page)
}

/// A page in front of a login that another site has led to: only who follows its link, to `target`, has wanted one.
pub fn ask_before_login(target: &str, request: &Parts) -> Answer {
    let page = Page {
        title: "Do you want to sign in?",
        text: "Another site has sent you here. Go on only if you meant to sign in.".to_owned(),
        // A link and no form: browsers hold the redirects after a form to its page's policy, and this leads elsewhere.
        links: vec![(target.to_owned(), "Sign in".to_owned()), ("/".to_owned(), "Go to the start page".to_owned())],
        refresh: None,
        script: None,
    };
    without_body_for_head(self::page(StatusCode::OK, &page), request)
}

/// 200 with a JSON body.
pub fn json(value: &Value, request: &Parts) -> Answer {
    without_body_for_head(own(StatusCode::OK, "application/json", value.to_string().into()), request)
}

/// The answer to a preflight of an allowed origin, which `cors` names.
pub fn preflight(cors: impl IntoIterator<Item = (HeaderName, HeaderValue)>, request: &Parts) -> Answer {
    let mut answer = Response::new(Bytes::new());
    *answer.status_mut() = StatusCode::NO_CONTENT;
    let headers = answer.headers_mut();
    headers.extend(cors);
    for (asked, granted) in [
        (ACCESS_CONTROL_REQUEST_METHOD, ACCESS_CONTROL_ALLOW_METHODS),
        (ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_ALLOW_HEADERS),
    ] {
        if let Some(value) = request.headers.get(asked) {
            headers.insert(granted, value.clone());
        }
    }
    headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from(600));
    answer
}

/// A file, or what stands in for it.
pub fn file(served: Served, request: &Parts, prefix: &str) -> Answer {
    let (status, headers, body) = match served {
        Served::Whole { headers, body } => (StatusCode::OK, headers, body),
        Served::Part { headers, body } => (StatusCode::PARTIAL_CONTENT, headers, body),
        Served::NotModified { headers } => (StatusCode::NOT_MODIFIED, headers, Bytes::new()),
        Served::Unsatisfiable { headers } => (StatusCode::RANGE_NOT_SATISFIABLE, headers, Bytes::new()),
        Served::Missing => return Refusal::NoRoute.answer(request, prefix),
    };
    let mut answer = Response::new(body);
    *answer.status_mut() = status;
    *answer.headers_mut() = headers;
    if status != StatusCode::NOT_MODIFIED {
        let length = HeaderValue::from(answer.body().len());
        answer.headers_mut().insert(CONTENT_LENGTH, length);
    }
    without_body_for_head(answer, request)
}

fn join(methods: &[Method], separator: &str) -> String {
    methods.iter().map(Method::as_str).collect::<Vec<_>>().join(separator)
}
