//! `/token`, `/revoke` and `/userinfo`: what clients call.

use std::io;
use std::time::Duration;

use axum::http::StatusCode;
use axum::response::Response;
use serde_json::{Map, Value, json};

use super::book::{Grant, Issued, Refused};
use super::message::{Received, bare, challenge, json_reply, refusal};
use super::possession::{Described, Fault};
use super::proof::authenticate;
use super::serving::lock;
use super::signing::half_hash;
use super::{Document, Inner};

/// The field in which a server before this one that ends TLS says the thumbprint of the client's certificate.
pub const CERTIFICATE: &str = "x-ssl-client-thumbprint";

/// How long an ID token may be used.
const ID_TOKEN_LIFETIME: Duration = Duration::from_secs(300);

/// The token endpoint (RFC 6749 section 3.2).
pub(super) fn token(inner: &Inner, request: &Received, key: Option<&str>) -> Response {
    if let Err(stranger) = authenticate(inner, request) {
        return stranger.reply();
    }
    let form = &request.form;
    if let Some(name) = form.repeated() {
        return refusal(StatusCode::BAD_REQUEST, "invalid_request", &format!("{name} comes twice"));
    }
    let now = inner.clock.now();
    let target = form.get("resource").or(form.get("audience")).unwrap_or_default();
    let outcome = match form.get("grant_type") {
        Some("authorization_code") => {
            let (Some(code), Some(uri), Some(verifier)) =
                (form.get("code"), form.get("redirect_uri"), form.get("code_verifier"))
            else {
                let description = "code, redirect_uri and code_verifier are needed";
                return refusal(StatusCode::BAD_REQUEST, "invalid_request", description);
            };
            lock(&inner.book).redeem(code, uri, verifier, now)
        }
        Some("refresh_token") => {
            let Some(token) = form.get("refresh_token") else {
                return refusal(StatusCode::BAD_REQUEST, "invalid_request", "refresh_token is needed");
            };
            lock(&inner.book).refresh(token, target, now)
        }
        Some("urn:ietf:params:oauth:grant-type:token-exchange") => {
            let Some(token) = form.get("subject_token") else {
                return refusal(StatusCode::BAD_REQUEST, "invalid_request", "subject_token is needed");
            };
            lock(&inner.book).exchange(token, target, now)
        }
        Some(_) => return refusal(StatusCode::BAD_REQUEST, "unsupported_grant_type", "not offered here"),
        None => return refusal(StatusCode::BAD_REQUEST, "invalid_request", "grant_type is needed"),
    };
    match outcome {
        Ok(issued) if issued.grant.key.as_deref() != key => {
            refusal(StatusCode::BAD_REQUEST, "invalid_grant", "it is bound to another key")
        }
        Ok(issued) => {
            if inner.options.announce.bound_tokens
                && let Some(certificate) = request.headers.get(CERTIFICATE).and_then(|it| it.to_str().ok())
            {
                lock(&inner.book).bind(&issued.access_token, certificate);
            }
            tokens(inner, &issued)
                .unwrap_or_else(|error| refusal(StatusCode::INTERNAL_SERVER_ERROR, "server_error", &error.to_string()))
        }
        Err(Refused(reason)) => refusal(StatusCode::BAD_REQUEST, "invalid_grant", reason),
    }
}

/// The revocation endpoint (RFC 7009): an unknown token counts as revoked.
pub(super) fn revoke(inner: &Inner, request: &Received) -> Response {
    if let Err(stranger) = authenticate(inner, request) {
        return stranger.reply();
    }
    let Some(token) = request.form.get("token") else {
        return refusal(StatusCode::BAD_REQUEST, "invalid_request", "token is needed");
    };
    lock(&inner.book).revoke(token);
    bare(StatusCode::OK)
}

/// The userinfo endpoint (OpenID Connect Core section 5.3).
pub(super) fn userinfo(inner: &Inner, request: &Received) -> Response {
    let is_bound = inner.options.dpop.is_some();
    let token = request.credential(if is_bound { "dpop" } else { "bearer" });
    let url = format!("{}{}", inner.url, request.endpoint.path());
    let described = Described { method: request.method.as_str(), url: &url, token };
    let judged = is_bound.then(|| inner.userinfo_proofs.judge(&request.headers, &described));
    let book = lock(&inner.book);
    let grant = token.and_then(|token| book.active(token, inner.clock.now()));
    let mut answer = match (&judged, grant) {
        (Some(Err(Fault::Nonce)), _) => challenge(bare(StatusCode::UNAUTHORIZED), "dPoP error=\"use_dpop_nonce\""),
        (Some(Err(Fault::Proof(_))), _) => {
            challenge(bare(StatusCode::UNAUTHORIZED), "DPoP error=\"invalid_dpop_proof\"")
        }
        (Some(Ok(key)), Some(grant)) if grant.key.as_ref() != Some(key) => {
            challenge(bare(StatusCode::UNAUTHORIZED), "DPoP error=\"invalid_token\"")
        }
        (_, Some(grant)) => {
            let mut claims = profile(grant);
            inner.script.edited(Document::Userinfo, &mut claims);
            json_reply(StatusCode::OK, claims)
        }
        (_, None) => challenge(bare(StatusCode::UNAUTHORIZED), "Bearer error=\"invalid_token\""),
    };
    if let Some(judged) = &judged {
        inner.userinfo_proofs.tell(judged, &mut answer);
    }
    answer
}

fn tokens(inner: &Inner, issued: &Issued) -> io::Result<Response> {
    let Issued { access_token, refresh_token, grant } = issued;
    let mut body = Map::new();
    body.insert("access_token".to_owned(), json!(access_token));
    body.insert("token_type".to_owned(), json!(if grant.key.is_some() { "DPoP" } else { "Bearer" }));
    body.insert("expires_in".to_owned(), json!(lock(&inner.book).access_lifetime().as_secs()));
    body.insert("scope".to_owned(), json!(grant.scope));
    if let Some(token) = refresh_token {
        body.insert("refresh_token".to_owned(), json!(token));
    }
    if grant.has_scope("openid") {
        body.insert("id_token".to_owned(), json!(id_token(inner, grant, access_token)?));
    }
    inner.script.edited(Document::TokenResponse, &mut body);
    Ok(json_reply(StatusCode::OK, body))
}

fn id_token(inner: &Inner, grant: &Grant, access_token: &str) -> io::Result<String> {
    let now = inner.clock.now();
    let mut claims = profile(grant);
    let mut state = |name: &str, value: Value| claims.insert(name.to_owned(), value);
    state("iss", json!(inner.url));
    state("aud", json!(inner.options.client_id));
    state("iat", json!(now.as_secs()));
    state("exp", json!((now + ID_TOKEN_LIFETIME).as_secs()));
    state("auth_time", json!(grant.by.at.as_secs()));
    state("sid", json!(grant.by.sid));
    state("at_hash", json!(half_hash(access_token)));
    if let Some(nonce) = &grant.nonce {
        state("nonce", json!(nonce));
    }
    inner.script.edited(Document::IdToken, &mut claims);
    let keys = lock(&inner.keys);
    let mut header = keys.header("JWT")?;
    inner.script.edited(Document::IdTokenHeader, &mut header);
    let token = keys.sign_under(&header, &claims, inner.options.client_secret.expose())?;
    drop(keys);
    let token = inner.script.forged(token);
    lock(&inner.id_tokens).push(token.clone());
    Ok(token)
}

fn profile(grant: &Grant) -> Map<String, Value> {
    let user = grant.by.user;
    let mut claims = Map::from_iter([("sub".to_owned(), json!(user.sub()))]);
    if grant.has_scope("profile") {
        claims.insert("name".to_owned(), json!(user.name()));
    }
    if grant.has_scope("email") {
        claims.insert("email".to_owned(), json!(user.email()));
        claims.insert("email_verified".to_owned(), json!(true));
    }
    claims
}
