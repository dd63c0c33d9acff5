//! The answers that belong to logouts: of a person, and of the issuer.

use bytes::Bytes;
use http::header::{CONTENT_SECURITY_POLICY, REFERRER_POLICY};
use http::{HeaderName, HeaderValue, StatusCode};
use serde_json::json;
use url::Url;

use super::{Answer, own};
use crate::gateway::pages::{Page, Posting};

/// A page that sends a form to `address` by itself, and by a button where scripts do not run.
///
/// Browsers hold the redirects that follow a form to the policy of the page as well, and a logout comes back here: so this
/// site is allowed beside the address's origin, and nothing else.
pub fn send_on(address: &str, fields: &[(String, String)]) -> Answer {
    let posting = Posting {
        title: "One moment",
        text: "You are being signed out at the sign-in service too.",
        address,
        fields,
        button: "Go on",
    };
    let mut answer = own(StatusCode::OK, "text/html; charset=utf-8", posting.render().into());
    let origin = Url::parse(address).map_or_else(|_| "'none'".to_owned(), |url| url.origin().ascii_serialization());
    let headers = answer.headers_mut();
    if let Ok(policy) = HeaderValue::try_from(Posting::content_security_policy(&origin)) {
        headers.insert(CONTENT_SECURITY_POLICY, policy);
    }
    // Without a referrer the form would come with `Origin: null`, which servers may refuse.
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("strict-origin"));
    answer
}

/// What a person sees who has signed out while the ledger could not be told.
pub fn signed_out_here(away: &str) -> Answer {
    let page = Page {
        title: "You are signed out in this browser",
        text: "The site could not note it everywhere yet. It goes on trying; until then a copy of your session that \
               somebody else had made might still work for a while."
            .to_owned(),
        links: vec![(away.to_owned(), "Go on".to_owned())],
        refresh: None,
        script: None,
    };
    super::page(StatusCode::ACCEPTED, &page)
}

/// The answer to the issuer's page that has loaded us in a frame. Only pages of these origins may (OpenID Connect
/// Front-Channel Logout section 2).
pub fn framed(ancestors: &[String]) -> Answer {
    let body = "<!doctype html><title>Logout</title>";
    let mut answer = own(StatusCode::OK, "text/html; charset=utf-8", Bytes::from_static(body.as_bytes()));
    let policy = format!("default-src 'none'; frame-ancestors {}; base-uri 'none'", ancestors.join(" "));
    let headers = answer.headers_mut();
    if let Ok(policy) = HeaderValue::try_from(policy) {
        headers.insert(CONTENT_SECURITY_POLICY, policy);
    }
    // A page that isolates itself takes in only what allows it.
    let resource_policy = HeaderName::from_static("cross-origin-resource-policy");
    headers.insert(resource_policy, HeaderValue::from_static("cross-origin"));
    answer
}

/// The issuer's logout is done (OpenID Connect Back-Channel Logout section 2.8).
pub fn logged_out() -> Answer {
    own(StatusCode::OK, "text/plain; charset=utf-8", Bytes::new())
}

/// The issuer's logout is refused. There is one status for every reason; the body is for the issuer's log (section 2.8).
pub fn logout_refused(error: &'static str, description: &str) -> Answer {
    // The characters that RFC 6749 section 5.2 leaves to a description.
    let fit = |it: char| match it {
        '"' | '\\' => '\'',
        ' '..='~' => it,
        _ => '?',
    };
    let description: String = description.chars().map(fit).collect();
    let body = json!({ "error": error, "error_description": description });
    own(StatusCode::BAD_REQUEST, "application/json", body.to_string().into())
}
