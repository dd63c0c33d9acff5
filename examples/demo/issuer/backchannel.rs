//! Telling the client that a sign-in is over (OpenID Connect Back-Channel Logout 1.0).

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::http::header;
use serde_json::{Map, Value, json};
use url::form_urlencoded;

use super::book::User;
use super::serving::lock;
use super::{Document, Inner};

/// How long a logout token may be used (section 4 recommends two minutes at most).
const LIFETIME: Duration = Duration::from_secs(120);
/// How long a client may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a client answered to a logout token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// The status code.
    pub status: u16,
    /// The field `Cache-Control`.
    pub cache_control: Option<String>,
    /// The body.
    pub body: String,
}

pub(super) fn claims(inner: &Inner, sub: Option<&str>, sid: Option<&str>) -> Map<String, Value> {
    let now = inner.clock.now();
    let mut claims = Map::new();
    let mut state = |name: &str, value: Value| claims.insert(name.to_owned(), value);
    state("iss", json!(inner.url));
    state("aud", json!(inner.options.client_id));
    state("iat", json!(now.as_secs()));
    state("exp", json!((now + LIFETIME).as_secs()));
    state("jti", json!(lock(&inner.book).logout_name()));
    state("events", json!({ "http://schemas.openid.net/event/backchannel-logout": {} }));
    for (name, value) in [("sub", sub), ("sid", sid)] {
        if let Some(value) = value {
            state(name, json!(value));
        }
    }
    claims
}

/// Notes that the client has to be told, if it wants to be.
pub(super) fn note(inner: &Inner, user: User, sid: &str) {
    if lock(&inner.backchannel_logout_uri).is_some() {
        let mut claims = claims(inner, Some(user.sub()), Some(sid));
        inner.script.edited(Document::LogoutToken, &mut claims);
        lock(&inner.untold).push(claims);
    }
}

/// Tells the client all that it has not been told yet.
pub(super) async fn tell_the_rest(inner: &Inner) {
    let untold = std::mem::take(&mut *lock(&inner.untold));
    for claims in untold {
        let token = lock(&inner.keys).sign("logout+jwt", &claims);
        let told = match token {
            Ok(token) => tell(inner, &token).await,
            Err(error) => Err(error),
        };
        lock(&inner.told).push(told.ok());
    }
}

/// Posts the token to the client's address (section 2.5).
pub(super) async fn tell(inner: &Inner, token: &str) -> io::Result<Told> {
    let uri = lock(&inner.backchannel_logout_uri).clone();
    let uri = uri.ok_or_else(|| io::Error::other("no address for logout tokens is registered"))?;
    let form = form_urlencoded::Serializer::new(String::new()).append_pair("logout_token", token).finish();
    let request = client()?.post(uri).header(header::CONTENT_TYPE, "application/x-www-form-urlencoded").body(form);
    let response = request.send().await.map_err(io::Error::other)?;
    let cache_control =
        response.headers().get(header::CACHE_CONTROL).and_then(|it| it.to_str().ok()).map(str::to_owned);
    let status = response.status().as_u16();
    Ok(Told { status, cache_control, body: response.text().await.map_err(io::Error::other)? })
}

/// A client for plain http: it is asked for a provider and roots of trust all the same.
fn client() -> io::Result<reqwest::Client> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let tls = tls.map_err(io::Error::other)?.with_root_certificates(rustls::RootCertStore::empty());
    let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).no_proxy().timeout(PATIENCE);
    client.tls_backend_preconfigured(tls.with_no_client_auth()).build().map_err(io::Error::other)
}
