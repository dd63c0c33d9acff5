//! `/end-session`: signing out here too (OpenID Connect RP-Initiated Logout 1.0).

use axum::http::{Method, StatusCode};
use axum::response::Response;
use serde_json::Value;
use url::Url;

use super::authorize::{is_from_elsewhere, login_cookie};
use super::message::{Fields, Received, framing_reply, page_reply, see_other};
use super::serving::lock;
use super::{Inner, backchannel, pages};

/// The end-session endpoint. The parameters may come in the query or in a form (section 2).
///
/// An ID token of ours shows that the client knows whom it signs out. Without one, the person is asked (section 2.1).
pub(super) fn end_session(inner: &Inner, request: &Received) -> Response {
    let fields = match request.form.get("confirm") {
        None if request.method == Method::POST => &request.form,
        _ => &request.query,
    };
    let hinted = hinted_sid(inner, fields);
    let is_confirmed = request.form.get("confirm").is_some() && !is_from_elsewhere(request);
    let sid = match (hinted, is_confirmed) {
        (Some(sid), _) => Some(sid),
        (None, true) => sid_of_browser(inner, request),
        (None, false) => return page_reply(StatusCode::OK, pages::confirm_sign_out(&fields.encoded())),
    };
    if let Some(sid) = &sid {
        let ended = lock(&inner.book).sign_out(sid);
        if let Some(user) = ended {
            backchannel::note(inner, user, sid);
        }
    }
    let frame = sid.and_then(|sid| frame(inner, &sid));
    match after(inner, fields) {
        After::Redirect(target) => match frame {
            Some(frame) => framing_reply(pages::signing_out(frame.as_str(), target.as_str()), &frame),
            None => see_other(&target),
        },
        After::Page => page_reply(StatusCode::OK, pages::signed_out()),
        After::Refused(why) => {
            let text = pages::problem("Signed out, but the way back is unknown", why);
            page_reply(StatusCode::BAD_REQUEST, text)
        }
    }
}

/// What the page that says goodbye loads in a frame (OpenID Connect Front-Channel Logout section 3).
fn frame(inner: &Inner, sid: &str) -> Option<Url> {
    let mut url = Url::parse(lock(&inner.frontchannel_logout_uri).as_deref()?).ok()?;
    url.query_pairs_mut().append_pair("iss", &inner.url).append_pair("sid", sid);
    Some(url)
}

fn hinted_sid(inner: &Inner, fields: &Fields) -> Option<String> {
    let claims = lock(&inner.keys).open(fields.get("id_token_hint")?)?;
    let is_ours = claims.get("iss").and_then(Value::as_str) == Some(&inner.url)
        && claims.get("aud").and_then(Value::as_str) == Some(&inner.options.client_id);
    is_ours.then_some(())?;
    claims.get("sid").and_then(Value::as_str).map(str::to_owned)
}

fn sid_of_browser(inner: &Inner, request: &Received) -> Option<String> {
    let cookie = login_cookie(request)?;
    lock(&inner.book).signed_in(&cookie).map(|login| login.sid.clone())
}

enum After {
    Redirect(Url),
    Page,
    Refused(&'static str),
}

fn after(inner: &Inner, fields: &Fields) -> After {
    let Some(uri) = fields.get("post_logout_redirect_uri") else { return After::Page };
    if !lock(&inner.post_logout_redirect_uris).iter().any(|registered| registered == uri) {
        return After::Refused("The application named a return address that is not registered here.");
    }
    let Ok(mut target) = Url::parse(uri) else {
        return After::Refused("The registered return address is no URL.");
    };
    if let Some(state) = fields.get("state") {
        target.query_pairs_mut().append_pair("state", state);
    }
    After::Redirect(target)
}
