//! `/authorize`: who is this, and may the client know? (RFC 6749 section 4.1, OpenID Connect Core section 3.1.2)

use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::response::Response;
use cookie::Cookie;
use ring::rand::SecureRandom;
use serde_json::{Map, Value, json};
use url::Url;
use vestibule::clock::Timestamp;

use super::book::{Authentication, Grant, Granted, User};
use super::message::{Fields, Received, json_reply, page_reply, refusal, see_other};
use super::options::Pushed;
use super::proof::authenticate;
use super::serving::lock;
use super::{Document, Inner, Login, pages};

/// The cookie by which the issuer knows again who has signed in.
pub(super) const LOGIN_COOKIE: &str = "demo-issuer-login";

/// The authorization endpoint.
///
/// What is wrong with the client or its redirect URI is told to the person, because sending the browser on would make
/// this an open redirector; everything else is told to the client (RFC 6749 section 4.1.2.1).
pub(super) fn authorize(inner: &Inner, request: &Received) -> Response {
    let broken = |why| page_reply(StatusCode::BAD_REQUEST, pages::problem("This sign-in link is broken", why));
    let pushed;
    let is_offered = inner.options.announce.pushed != Pushed::No;
    let request = match request.query.get("request_uri").filter(|_| is_offered) {
        Some(reference) => match lock(&inner.pushed).remove(reference) {
            Some(query) => {
                pushed = Received { query, ..request.clone() };
                &pushed
            }
            None => return broken("It has been used before, or was never made."),
        },
        None if inner.options.announce.pushed == Pushed::Required && request.method == Method::GET => {
            return broken("It was not announced beforehand.");
        }
        None => request,
    };
    let client = match client(inner, &request.query) {
        Ok(client) => client,
        Err(why) => return broken(why),
    };
    if is_from_elsewhere(request) {
        let why = "The form was sent by another site.";
        return page_reply(StatusCode::FORBIDDEN, pages::problem("Sign-in refused", why));
    }
    let asked = match Asked::read(&request.query) {
        Ok(asked) => asked,
        Err(error) => return client.refuse(inner, error),
    };
    match asked.answer(inner, request) {
        Answer::Page => page_reply(StatusCode::OK, pages::sign_in(&request.query.encoded(), &asked.hint)),
        Answer::Refused(error) => client.refuse(inner, error),
        Answer::SignedIn { login, cookie } => {
            let Asked { scope, nonce, challenge, key, .. } = asked;
            let key = key.filter(|_| inner.options.dpop.is_some());
            let grant = Grant { by: login, scope, nonce, key };
            let granted = Granted { grant, redirect_uri: client.redirect_uri.to_owned(), challenge };
            let code = lock(&inner.book).code(granted, inner.clock.now());
            with_cookie(client.redirect(inner, &[("code", &code)]), cookie)
        }
    }
}

/// The endpoint for pushed authorization requests (RFC 9126 section 2).
pub(super) fn push(inner: &Inner, request: &Received, key: Option<&str>) -> Response {
    if let Err(stranger) = authenticate(inner, request) {
        return stranger.reply();
    }
    let refuse = |description| refusal(StatusCode::BAD_REQUEST, "invalid_request", description);
    if request.form.get("request_uri").is_some() {
        return refuse("a request_uri cannot be pushed");
    }
    let fields = request.form.without(&["client_secret", "client_assertion", "client_assertion_type"]);
    if let Err(why) = client(inner, &fields) {
        return refuse(why);
    }
    if key.is_some() && fields.get("dpop_jkt").is_some_and(|named| Some(named) != key) {
        return refuse("dpop_jkt names another key than the proof");
    }
    let mut name = [0; 32];
    if ring::rand::SystemRandom::new().fill(&mut name).is_err() {
        return refusal(StatusCode::INTERNAL_SERVER_ERROR, "server_error", "no random bytes");
    }
    let reference =
        format!("urn:ietf:params:oauth:request_uri:{}", base64_simd::URL_SAFE_NO_PAD.encode_to_string(name));
    lock(&inner.pushed).insert(reference.clone(), fields);
    let body = [("request_uri".to_owned(), json!(reference)), ("expires_in".to_owned(), json!(60))];
    json_reply(StatusCode::CREATED, Map::from_iter(body))
}

/// The value of the issuer's own cookie.
pub(super) fn login_cookie(request: &Received) -> Option<String> {
    Cookie::split_parse(request.header(header::COOKIE)?)
        .flatten()
        .find(|cookie| cookie.name() == LOGIN_COOKIE)
        .map(|cookie| cookie.value().to_owned())
}

/// Whether the browser says that another site made it post this.
pub(super) fn is_from_elsewhere(request: &Received) -> bool {
    request.method == Method::POST && request.headers.get("sec-fetch-site").is_some_and(|site| site != "same-origin")
}

/// Where the browser may be sent, once that is certain.
struct Client<'a> {
    redirect_uri: &'a str,
    target: Url,
    state: Option<&'a str>,
    /// Whether the response comes in a form.
    posts: bool,
}

fn client<'a>(inner: &Inner, query: &'a Fields) -> Result<Client<'a>, &'static str> {
    if query.repeated().is_some() {
        return Err("It names a parameter twice.");
    }
    if query.get("client_id") != Some(inner.options.client_id.as_str()) {
        return Err("It names an application that is not registered here.");
    }
    // Compared as exact strings (RFC 9700 section 2.1).
    let redirect_uri = query
        .get("redirect_uri")
        .filter(|uri| lock(&inner.redirect_uris).iter().any(|registered| registered == uri))
        .ok_or("It names a return address that is not registered here.")?;
    let target = Url::parse(redirect_uri).map_err(|_| "The registered return address is no URL.")?;
    let posts = query.get("response_mode") == Some("form_post");
    Ok(Client { redirect_uri, target, state: query.get("state"), posts })
}

impl Client<'_> {
    fn refuse(&self, inner: &Inner, Error { code, description }: Error) -> Response {
        self.redirect(inner, &[("error", code), ("error_description", description)])
    }

    fn redirect(&self, inner: &Inner, fields: &[(&str, &str)]) -> Response {
        let mut answer: Map<String, Value> =
            fields.iter().map(|(name, value)| ((*name).to_owned(), Value::from(*value))).collect();
        answer.extend(self.state.map(|state| ("state".to_owned(), state.into())));
        // RFC 9207 section 2: on errors too.
        if inner.options.announce.issuer_parameter {
            answer.insert("iss".to_owned(), inner.url.as_str().into());
        }
        inner.script.edited(Document::AuthorizationResponse, &mut answer);
        if self.posts {
            let fields: Vec<(&str, &str)> =
                answer.iter().filter_map(|(name, value)| Some((name.as_str(), value.as_str()?))).collect();
            return page_reply(StatusCode::OK, pages::handing_over(self.target.as_str(), &fields));
        }
        let mut target = self.target.clone();
        let texts = answer.iter().filter_map(|(name, value)| Some((name, value.as_str()?)));
        target.query_pairs_mut().extend_pairs(texts);
        see_other(&target)
    }
}

struct Error {
    code: &'static str,
    description: &'static str,
}

/// What the client asks, understood.
struct Asked {
    scope: String,
    nonce: Option<String>,
    challenge: String,
    prompt: Prompt,
    max_age: Option<u64>,
    hint: String,
    /// The thumbprint of the key that the code is to be bound to (RFC 9449 section 10).
    key: Option<String>,
}

enum Prompt {
    Login,
    None,
    AsNeeded,
}

enum Answer {
    /// The person is asked.
    Page,
    SignedIn {
        login: Authentication,
        /// The new cookie, if this is a new sign-in.
        cookie: Option<String>,
    },
    Refused(Error),
}

impl Asked {
    fn read(query: &Fields) -> Result<Self, Error> {
        let refuse = |code, description| Err(Error { code, description });
        let text = |name| query.get(name).unwrap_or_default().to_owned();
        if query.get("request").is_some() {
            return refuse("request_not_supported", "request objects are not offered");
        }
        if query.get("request_uri").is_some() {
            return refuse("request_uri_not_supported", "request objects are not offered");
        }
        if query.get("response_type") != Some("code") {
            return refuse("unsupported_response_type", "response_type must be code");
        }
        if query.get("response_mode").is_some_and(|mode| !["query", "form_post"].contains(&mode)) {
            return refuse("invalid_request", "response_mode must be query or form_post");
        }
        if query.get("code_challenge_method") != Some("S256") || query.get("code_challenge").is_none() {
            return refuse("invalid_request", "a code_challenge by the method S256 is needed");
        }
        let prompts: Vec<&str> = query.get("prompt").unwrap_or_default().split(' ').collect();
        let prompt = match prompts.as_slice() {
            ["none"] => Prompt::None,
            several if several.contains(&"none") => return refuse("invalid_request", "prompt=none stands alone"),
            several if several.contains(&"login") || several.contains(&"select_account") => Prompt::Login,
            _ => Prompt::AsNeeded,
        };
        let max_age = match query.get("max_age").map(str::parse) {
            None => None,
            Some(Ok(seconds)) => Some(seconds),
            Some(Err(_)) => return refuse("invalid_request", "max_age is not a number of seconds"),
        };
        Ok(Self {
            scope: text("scope"),
            nonce: query.get("nonce").map(str::to_owned),
            challenge: text("code_challenge"),
            prompt,
            max_age,
            hint: text("login_hint"),
            key: query.get("dpop_jkt").map(str::to_owned),
        })
    }

    fn answer(&self, inner: &Inner, request: &Received) -> Answer {
        let now = inner.clock.now();
        if request.method == Method::POST {
            return match request.form.get("user").map(User::of_sub) {
                Some(Some(user)) => sign_in(inner, user, now),
                Some(None) => {
                    Answer::Refused(Error { code: "access_denied", description: "the person did not sign in" })
                }
                None => Answer::Page,
            };
        }
        let known = login_cookie(request).and_then(|cookie| lock(&inner.book).signed_in(&cookie).cloned());
        let known = known.filter(|login| self.max_age.is_none_or(|seconds| now.since(login.at).as_secs() <= seconds));
        match (&self.prompt, known) {
            (Prompt::None | Prompt::AsNeeded, Some(login)) => Answer::SignedIn { login, cookie: None },
            (Prompt::None, None) => {
                Answer::Refused(Error { code: "login_required", description: "nobody is signed in" })
            }
            (Prompt::Login, _) | (Prompt::AsNeeded, None) => match *lock(&inner.login) {
                Login::Page => Answer::Page,
                Login::Automatic(user) => sign_in(inner, user, now),
            },
        }
    }
}

fn sign_in(inner: &Inner, user: User, now: Timestamp) -> Answer {
    let (cookie, login) = lock(&inner.book).sign_in(user, now);
    Answer::SignedIn { login, cookie: Some(cookie) }
}

fn with_cookie(mut response: Response, value: Option<String>) -> Response {
    let line = value.map(|value| format!("{LOGIN_COOKIE}={value}; Path=/; HttpOnly; SameSite=Lax"));
    if let Some(Ok(line)) = line.as_deref().map(HeaderValue::from_str) {
        response.headers_mut().insert(header::SET_COOKIE, line);
    }
    response
}
