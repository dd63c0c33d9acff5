//! An API that says what reached it: the demo shows its answers, and the integration tests include this file by its
//! path, beside `issuer.rs`.
//!
//! No answer contains a token. What may be said of one is its scheme, its first six characters, its length and a short
//! hash that tells two of them apart.

#![expect(unreachable_pub, reason = "public to the programs that include this file as a module")]

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::issuer::act::{Act, Queue, Record};
use super::issuer::possession::{Described, Fault, Judge};
use super::issuer::serving::{Scissors, Serving};
use super::issuer::{CERTIFICATE, Introspection};

/// The largest body that is read, in bytes.
const BODY_LIMIT: usize = 16 * 1024 * 1024;

/// Who gets an answer.
pub enum Guard {
    /// Whoever brings an access token that is good at this issuer; others get 401 (RFC 6750 section 3).
    Bearer(Introspection),
    /// Whoever brings one that is bound to a key, and a proof of that key for this request (RFC 9449 section 7).
    Bound(Box<Bound>),
    /// Everybody.
    Open,
}

/// What an API that wants proofs goes by.
pub struct Bound {
    /// Which tokens are good, and for whose key.
    pub introspection: Introspection,
    /// Judges proofs.
    pub judge: Judge,
    /// The address that it goes by, without a slash at the end; by default what a request calls it.
    pub url: Option<String>,
}

impl Bound {
    /// Whose request it is, or how it is refused.
    fn subject(&self, request: &Received) -> Result<&'static str, Box<Response>> {
        let refuse =
            |challenge| Box::new(answer(StatusCode::UNAUTHORIZED, Some(challenge), &json!({"error": challenge})));
        let Some(token) = request.credential("dpop") else { return Err(refuse("DPoP algs=\"ES256 EdDSA\"")) };
        let host = request.headers.get(header::HOST).map(text).unwrap_or_default();
        let (path, _) = request.target.split_once('?').unwrap_or((&request.target, ""));
        let url = format!("{}{path}", self.url.clone().unwrap_or_else(|| format!("http://{host}")));
        let described = Described { method: &request.method, url: &url, token: Some(token) };
        let judged = self.judge.judge(&request.headers, &described);
        let refused = match &judged {
            Ok(key) if self.introspection.key(token).as_ref() == Some(key) => None,
            Ok(_) => Some("DPoP error=\"invalid_token\""),
            Err(Fault::Nonce) => Some("dPoP error=\"use_dpop_nonce\", algs=\"ES256 EdDSA\""),
            Err(Fault::Proof(_)) => Some("DPoP error=\"invalid_dpop_proof\""),
        };
        match (refused, self.introspection.active(token)) {
            (None, Some(subject)) => Ok(subject),
            (refused, _) => {
                let mut refused = refuse(refused.unwrap_or("DPoP error=\"invalid_token\""));
                self.judge.tell(&judged, &mut refused);
                Err(refused)
            }
        }
    }
}

/// A running API. Dropping it stops it.
pub struct Api {
    stage: Arc<Stage>,
    serving: Serving,
}

impl Api {
    /// Starts it on 127.0.0.1, on any free port if `port` is 0.
    ///
    /// # Errors
    ///
    /// The port cannot be had.
    pub async fn start(port: u16, guard: Guard) -> io::Result<Self> {
        let stage = Arc::new(Stage { guard, acts: Queue::default(), record: Record::default() });
        let app = {
            let stage = Arc::clone(&stage);
            move |link: ConnectInfo<Scissors>, request: Request| serve(Arc::clone(&stage), link, request)
        };
        let serving = Serving::start(port, |_| Router::new().fallback(app)).await?;
        Ok(Self { stage, serving })
    }

    /// Its URL, without a slash at the end.
    pub fn url(&self) -> String {
        format!("http://{}", self.serving.address())
    }

    /// An outage: closes the port and cuts every connection.
    pub async fn pause(&self) {
        self.serving.pause().await;
    }

    /// Ends the outage, on the same port.
    ///
    /// # Errors
    ///
    /// Somebody else has taken the port meanwhile.
    pub async fn resume(&self) -> io::Result<()> {
        self.serving.resume().await
    }

    /// Stops it and returns when nobody listens any more.
    pub async fn stop(self) {
        self.serving.pause().await;
    }

    /// Puts an act on the queue: the next request without one gets it.
    pub fn next(&self, act: Act) {
        self.stage.acts.push(act);
    }

    /// The judge of its proofs, where it wants any.
    pub fn proofs(&self) -> Option<&Judge> {
        match &self.stage.guard {
            Guard::Bound(bound) => Some(&bound.judge),
            Guard::Bearer(_) | Guard::Open => None,
        }
    }

    /// All requests so far, in the order of their arrival.
    pub fn requests(&self) -> Vec<Received> {
        self.stage.record.all()
    }

    /// How many requests arrived.
    pub fn calls(&self) -> usize {
        self.stage.record.count(|_| true)
    }

    /// Returns when at least `number` requests have arrived since the start.
    pub async fn until_calls(&self, number: usize) {
        self.stage.record.until(number, |_| true).await;
    }
}

/// One request as it arrived. It prints names, and no values of header fields.
#[derive(Clone)]
pub struct Received {
    /// `GET`, `POST` and so on.
    pub method: String,
    /// The request target: path and query.
    pub target: String,
    /// Every header field, names in lower case, repeated ones in their order.
    pub headers: HeaderMap,
    /// The body.
    pub body: Vec<u8>,
}

impl Received {
    /// All values of a header field; bytes that are no text are replaced.
    pub fn values(&self, name: &str) -> Vec<String> {
        self.headers.get_all(name).iter().map(text).collect()
    }

    /// The bearer token, if there is one.
    pub fn bearer(&self) -> Option<&str> {
        self.credential("bearer")
    }

    /// The token behind this scheme in `Authorization`.
    pub fn credential(&self, wanted: &str) -> Option<&str> {
        let (scheme, token) = self.headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
        scheme.eq_ignore_ascii_case(wanted).then_some(token)
    }
}

impl fmt::Debug for Received {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.headers.keys().map(header::HeaderName::as_str).collect();
        write!(f, "{} {} {names:?}, {} bytes", self.method, self.target, self.body.len())
    }
}

struct Stage {
    guard: Guard,
    acts: Queue,
    record: Record<Received>,
}

async fn serve(stage: Arc<Stage>, ConnectInfo(scissors): ConnectInfo<Scissors>, request: Request) -> Response {
    let (Parts { method, uri, headers, .. }, body) = request.into_parts();
    let body = match axum::body::to_bytes(body, BODY_LIMIT).await {
        Ok(body) => body.to_vec(),
        // The caller has left, or sends more than anybody means to.
        Err(_) => return answer(StatusCode::PAYLOAD_TOO_LARGE, None, &json!({"error": "the body cannot be read"})),
    };
    let received = Received { method: method.to_string(), target: uri.to_string(), headers, body };
    // The act is taken before the arrival is told, so that a test that has seen the arrival knows it to be taken.
    let act = stage.acts.next();
    stage.record.push(received.clone());
    act.play(&scissors, || echo(&stage.guard, &received)).await
}

fn echo(guard: &Guard, request: &Received) -> Response {
    let token = request.bearer().or_else(|| request.credential("dpop"));
    let subject = match guard {
        Guard::Open => None,
        Guard::Bound(bound) => match bound.subject(request) {
            Ok(subject) => Some(subject),
            Err(refused) => return *refused,
        },
        Guard::Bearer(introspection) => {
            match token.map(|token| introspection.active(token).filter(|_| is_theirs(introspection, token, request))) {
                Some(Some(subject)) => Some(subject),
                Some(None) => {
                    let challenge = "Bearer error=\"invalid_token\"";
                    return answer(StatusCode::UNAUTHORIZED, Some(challenge), &json!({"error": "invalid_token"}));
                }
                // Nothing was presented, so there is no error to name (RFC 6750 section 3.1).
                None => return answer(StatusCode::UNAUTHORIZED, Some("Bearer"), &json!({"error": "no token"})),
            }
        }
    };
    let (path, query) = request.target.split_once('?').unwrap_or((&request.target, ""));
    let body = json!({
        "method": request.method,
        "path": path,
        "query": query,
        "headers": shown(&request.headers),
        "body_bytes": request.body.len(),
        "token": {"active": subject.is_some(), "subject": subject, "fingerprint": token.map(fingerprint)},
    });
    let mut answer = answer(StatusCode::OK, None, &body);
    if let (Guard::Bound(bound), Some(_)) = (guard, subject) {
        bound.judge.tell(&Ok(String::new()), &mut answer);
    }
    answer
}

/// Whether a token that is bound to a certificate comes from whoever has that certificate (RFC 8705 section 3).
fn is_theirs(introspection: &Introspection, token: &str, request: &Received) -> bool {
    introspection.bound_to(token).is_none_or(|bound| request.values(CERTIFICATE) == [bound])
}

/// The header fields as they may be shown; values of repeated ones side by side.
fn shown(headers: &HeaderMap) -> BTreeMap<&str, Value> {
    let show = |name: &header::HeaderName| -> Value {
        let values = headers.get_all(name).iter().map(text);
        if name == header::AUTHORIZATION {
            values.map(|value| abridged(&value)).collect::<Vec<_>>().join(", ").into()
        } else {
            values.collect::<Vec<_>>().join(", ").into()
        }
    };
    headers.keys().map(|name| (name.as_str(), show(name))).collect()
}

/// `Bearer at-4f9… (46 characters)`
fn abridged(authorization: &str) -> String {
    let (scheme, credential) = authorization.split_once(' ').unwrap_or(("", authorization));
    let start: String = credential.chars().take(6).collect();
    format!("{scheme} {start}… ({} characters)", credential.chars().count())
}

/// Eight hexadecimal digits that tell one token from another and give nothing away.
fn fingerprint(token: &str) -> String {
    Sha256::digest(token).iter().take(4).map(|byte| format!("{byte:02x}")).collect()
}

fn text(value: &HeaderValue) -> String {
    String::from_utf8_lossy(value.as_bytes()).into_owned()
}

fn answer(status: StatusCode, challenge: Option<&'static str>, body: &Value) -> Response {
    let mut response = Response::new(Body::from(format!("{body:#}\n")));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Some(challenge) = challenge {
        headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::super::issuer::{Issuer, Options};
    use super::*;

    #[tokio::test]
    async fn only_a_good_token_is_answered() {
        let issuer = Issuer::start(Options::default()).await.unwrap();
        let guard = Guard::Bearer(issuer.introspection());
        for (authorization, challenge) in
            [(None, "Bearer"), (Some("Bearer at-unknown"), "Bearer error=\"invalid_token\"")]
        {
            let response = echo(&guard, &received(authorization));
            assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
            assert_eq!(response.headers()[header::WWW_AUTHENTICATE], challenge);
        }
    }

    // BBA-6.1-03: the API's answers reach the browser.
    #[tokio::test]
    async fn an_answer_tells_tokens_apart_without_showing_them() {
        let shows = async |token: &str| {
            let response = echo(&Guard::Open, &received(Some(&format!("Bearer {token}"))));
            let body = axum::body::to_bytes(response.into_body(), BODY_LIMIT).await.unwrap();
            serde_json::from_slice::<Value>(&body).unwrap()
        };
        let (one, other) = (shows("at-0123456789").await, shows("at-0123456780").await);
        assert_eq!(one["headers"]["authorization"], "Bearer at-012… (13 characters)");
        assert_ne!(one["token"]["fingerprint"], other["token"]["fingerprint"]);
        assert!(!one.to_string().contains("0123456789"));
        assert_eq!((&one["path"], &one["query"], &one["body_bytes"]), (&json!("/orders"), &json!("page=2"), &json!(4)));
    }

    #[test]
    fn a_record_prints_names_only() {
        let request = received(Some("Bearer at-secret"));
        assert_eq!(request.bearer(), Some("at-secret"));
        assert_eq!(format!("{request:?}"), r#"GET /orders?page=2 ["authorization"], 4 bytes"#);
    }

    fn received(authorization: Option<&str>) -> Received {
        let values = authorization.map(|value| (header::AUTHORIZATION, value.parse().unwrap()));
        Received {
            method: "GET".to_owned(),
            target: "/orders?page=2".to_owned(),
            headers: values.into_iter().collect(),
            body: b"body".to_vec(),
        }
    }
}
