//! The part of a login that the browser carries: the authorization request, and what comes back from it.

use std::fmt;

use percent_encoding::percent_decode_str;
use url::{Url, form_urlencoded};

use super::client::{Client, OFFLINE_ACCESS, OPENID, Proofs, Protocol};
use super::error::{CallbackFault, Error, presentable};
use super::metadata::AuthorizationServerMetadata;
use super::pkce;
use super::requests::Consent;
use super::values::{AuthorizationCode, Nonce, RawIdToken, State};

/// What the caller of a login may wish for (OpenID Connect Core section 3.1.2.1). Its values are sent as they are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LoginWishes {
    /// Whether and for what the person is asked: `none`, or any of `login`, `consent`, `select_account`, `create`.
    pub prompt: Option<String>,
    /// How many seconds ago the person may have authenticated at most. The ID token is held to it.
    pub max_age: Option<u64>,
    /// The authentication context classes wanted, separated by spaces. The ID token must name one of them.
    pub acr_values: Option<String>,
    /// Who is probably logging in.
    pub login_hint: Option<String>,
    /// The languages of the login page, separated by spaces.
    pub ui_locales: Option<String>,
    /// Who is meant, as the server itself has said it. It is lodged or not sent at all: no browser carries it.
    pub id_token_hint: Option<RawIdToken>,
    /// Scope to ask for besides what is asked for always, separated by spaces.
    pub more_scope: Option<String>,
}

/// What is particular to one authorization request.
pub(super) struct Request<'a> {
    pub(super) state: &'a State,
    pub(super) nonce: &'a Nonce,
    pub(super) challenge: &'a str,
    pub(super) scope: &'a str,
    pub(super) wishes: &'a LoginWishes,
    /// The thumbprint of the key that the code is bound to, if it is (RFC 9449 section 10).
    pub(super) key: Option<&'a str>,
}

/// Parameters that no configuration may add, because a login depends on what they say or on their absence.
const RESERVED: [&str; 17] = [
    "client_id",
    "client_secret",
    "code_challenge",
    "code_challenge_method",
    "dpop_jkt",
    "id_token_hint",
    "max_age",
    "nonce",
    "redirect_uri",
    "registration",
    "request",
    "request_uri",
    "response_mode",
    "response_type",
    "scope",
    "state",
    "acr_values",
];

/// A login as the authorization server is asked for it. The browser carries it there, or a reference to it.
#[derive(Debug)]
pub struct AuthorizationRequest {
    endpoint: Url,
    parameters: Parameters,
    /// What is lodged in their place, where there is more to say than the browser may carry.
    lodged: Option<Parameters>,
}

impl AuthorizationRequest {
    /// Where the browser goes if it carries the request itself: the endpoint's own query is kept (RFC 6749 section 3.1).
    pub fn url(&self) -> Url {
        self.parameters.append_to(self.endpoint.clone())
    }

    /// Where the browser goes if it carries a reference: `client_id` and `request_uri` are all there is (RFC 9126 section
    /// 4, FAPI 2.0 section 5.3.3.2).
    pub(super) fn url_of_reference(&self, client: &Client, request_uri: &str) -> Url {
        let mut parameters = Parameters::default();
        parameters.add("client_id", client.id.as_str());
        parameters.add("request_uri", request_uri);
        parameters.append_to(self.endpoint.clone())
    }

    pub(super) fn lodged(&self) -> &Parameters {
        self.lodged.as_ref().unwrap_or(&self.parameters)
    }
}

/// The request for a login: no parameter empty, none twice; signed, where it is to be.
pub(super) fn authorization_request(
    client: &Client,
    metadata: &AuthorizationServerMetadata,
    request: &Request<'_>,
    proofs: &Proofs<'_>,
) -> AuthorizationRequest {
    let finished = |parameters: Parameters| match client.signs_requests(metadata) {
        Some(keys) => parameters.signed(client, keys, metadata, proofs),
        None => parameters,
    };
    let lodged = request.wishes.id_token_hint.as_ref().map(|hint| {
        let mut parameters = plain_parameters(client, metadata, request);
        parameters.add("id_token_hint", hint.expose());
        finished(parameters)
    });
    let parameters = finished(plain_parameters(client, metadata, request));
    AuthorizationRequest { endpoint: metadata.authorization_endpoint.url().clone(), parameters, lodged }
}

fn plain_parameters(client: &Client, metadata: &AuthorizationServerMetadata, request: &Request<'_>) -> Parameters {
    let Request { state, nonce, challenge, scope, wishes, key } = request;
    let mut parameters = Parameters::default();
    parameters.add("response_type", "code");
    parameters.add("client_id", client.id.as_str());
    parameters.add("redirect_uri", &client.redirect_uri);
    parameters.add("scope", scope);
    parameters.add("state", state.as_str());
    if client.protocol == Protocol::OpenIdConnect {
        parameters.add("nonce", nonce.as_str());
    }
    parameters.add("code_challenge", challenge);
    parameters.add("code_challenge_method", pkce::METHOD);
    parameters.add("dpop_jkt", key.unwrap_or_default());
    parameters.add("prompt", wishes.prompt.as_deref().unwrap_or_default());
    parameters.add("max_age", &wishes.max_age.map(|it| it.to_string()).unwrap_or_default());
    parameters.add("acr_values", wishes.acr_values.as_deref().unwrap_or_default());
    parameters.add("login_hint", wishes.login_hint.as_deref().unwrap_or_default());
    parameters.add("ui_locales", wishes.ui_locales.as_deref().unwrap_or_default());
    client.requests.write(&mut parameters);
    for (name, value) in client.extra_params.iter().filter(|(name, _)| !RESERVED.contains(&name.as_str())) {
        parameters.add(name, value);
    }
    // What the product needs comes last, so that a wish or the configuration goes before it.
    for (name, value) in metadata.provider.iter().flat_map(|provider| provider.params) {
        parameters.add(name, value);
    }
    let has = |wanted: &str| scope.split(' ').any(|it| it == wanted);
    let needed = metadata.provider.and_then(|provider| provider.consent);
    let asks_consent = match client.requests.consent.or(needed) {
        // OpenID Connect Core section 11.
        None | Some(Consent::Offline) => has(OPENID) && has(OFFLINE_ACCESS),
        Some(Consent::Always) => true,
        Some(Consent::Never) => false,
    };
    if asks_consent {
        parameters.add("prompt", "consent");
    }
    parameters
}

/// The parameters of a request, each at most once: the first value given counts.
#[derive(Default)]
pub(super) struct Parameters(pub(super) Vec<(String, String)>);

impl fmt::Debug for Parameters {
    /// Names alone: values of `state`, `nonce` and the like are secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(name, _)| name)).finish()
    }
}

impl Parameters {
    pub(super) fn add(&mut self, name: &str, value: &str) {
        // RFC 8707 section 2 alone lets a parameter occur more than once.
        if !value.is_empty() && (name == "resource" || !self.has(name)) {
            self.0.push((name.to_owned(), value.to_owned()));
        }
    }

    fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(it, _)| it == name)
    }

    fn append_to(&self, mut url: Url) -> Url {
        let ours = form_urlencoded::Serializer::new(String::new()).extend_pairs(&self.0).finish();
        let is_own =
            |pair: &&str| !pair.is_empty() && form_urlencoded::parse(pair.as_bytes()).all(|(name, _)| !self.has(&name));
        // Pair by pair as text: what the server wrote there is sent back letter by letter.
        let own = url.query().unwrap_or_default().split('&').filter(is_own);
        let joined = own.chain([ours.as_str()]).collect::<Vec<_>>().join("&");
        url.set_query(Some(&joined));
        url
    }
}

/// What the browser brings back from the authorization server. Nothing of it is to be believed before
/// [`LoginTransaction::accept`](super::LoginTransaction::accept) has compared it with the login that it belongs to.
#[derive(Debug)]
pub struct AuthorizationResponse {
    state: State,
    iss: Option<String>,
    outcome: Outcome,
}

/// What an authorization response says.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The person has logged in.
    Code(AuthorizationCode),
    /// The person has not (RFC 6749 section 4.1.2.1).
    Error {
        /// The error code, fit for display.
        error: String,
        /// The explanation for developers, fit for display.
        description: Option<String>,
    },
}

/// The longest query that is looked at, in bytes.
const MAX_QUERY: usize = 16 * 1024;

impl AuthorizationResponse {
    /// Reads the query of a callback (RFC 6749 sections 4.1.2 and 4.1.2.1). Unknown parameters are ignored.
    ///
    /// # Errors
    /// If the query is no text of the form that browsers send or absurdly long, if a parameter that is read occurs
    /// twice, if `state` is missing, or if there is not either a code or an error.
    pub fn parse(query: &str) -> Result<Self, Error> {
        Self::read(query).map_err(Error::Callback)
    }

    /// The login that it claims to belong to.
    pub const fn state(&self) -> &State {
        &self.state
    }

    /// The authorization server that it claims to come from (RFC 9207).
    pub fn iss(&self) -> Option<&str> {
        self.iss.as_deref()
    }

    pub(super) fn into_outcome(self) -> Outcome {
        self.outcome
    }

    fn read(query: &str) -> Result<Self, CallbackFault> {
        if query.len() > MAX_QUERY {
            return Err(CallbackFault::Unreadable);
        }
        let mut state = Parameter::new("state", 512);
        let mut code = Parameter::new("code", 8 * 1024);
        let mut iss = Parameter::new("iss", 2 * 1024);
        let mut error = Parameter::new("error", 1024);
        let mut description = Parameter::new("error_description", MAX_QUERY);
        for pair in query.split('&') {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            match decode(name)?.as_str() {
                "state" => state.take(value)?,
                "code" => code.take(value)?,
                "iss" => iss.take(value)?,
                "error" => error.take(value)?,
                "error_description" => description.take(value)?,
                _ => {}
            }
        }
        let outcome = match (code.present(), error.present()) {
            (Some(code), None) => Outcome::Code(AuthorizationCode::new(code)),
            (None, Some(error)) => Outcome::Error {
                error: presentable(&error),
                description: description.present().map(|text| presentable(&text)),
            },
            (Some(_), Some(_)) | (None, None) => return Err(CallbackFault::NeitherOrBoth),
        };
        let state = State::new(state.present().ok_or(CallbackFault::StateMissing)?);
        Ok(Self { state, iss: iss.present(), outcome })
    }
}

struct Parameter {
    name: &'static str,
    limit: usize,
    value: Option<String>,
}

impl Parameter {
    const fn new(name: &'static str, limit: usize) -> Self {
        Self { name, limit, value: None }
    }

    fn take(&mut self, encoded: &str) -> Result<(), CallbackFault> {
        let value = decode(encoded)?;
        if value.len() > self.limit {
            return Err(CallbackFault::TooLong(self.name));
        }
        match self.value.replace(value) {
            None => Ok(()),
            Some(_) => Err(CallbackFault::Repeated(self.name)),
        }
    }

    /// A parameter without a value counts as absent (RFC 6749 section 3.1).
    fn present(self) -> Option<String> {
        self.value.filter(|value| !value.is_empty())
    }
}

/// Undoes form encoding; unlike browsers' own decoders it refuses what no encoder produces.
fn decode(encoded: &str) -> Result<String, CallbackFault> {
    let mut rest = encoded.as_bytes();
    while let Some(at) = rest.iter().position(|&it| it == b'%') {
        match rest.get(at + 1..at + 3) {
            Some(digits) if digits.iter().all(u8::is_ascii_hexdigit) => rest = rest.get(at + 3..).unwrap_or_default(),
            Some(_) | None => return Err(CallbackFault::Unreadable),
        }
    }
    let spaced = encoded.replace('+', " ");
    percent_decode_str(&spaced).decode_utf8().map(String::from).map_err(|_| CallbackFault::Unreadable)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::oauth::endpoint::{Endpoint, PlainHttp};
    use crate::oauth::testing::{client, metadata, proofs};

    fn url(client: &Client, metadata: &AuthorizationServerMetadata, wishes: &LoginWishes) -> Url {
        let (state, nonce) = (State::new("s".into()), Nonce::new("n".into()));
        let scope = client.requested_scopes(metadata).join(" ");
        let request = Request { state: &state, nonce: &nonce, challenge: "c", scope: &scope, wishes, key: None };
        authorization_request(client, metadata, &request, &proofs()).url()
    }

    fn extra(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    #[test]
    fn a_request_says_all_it_must_once() {
        // PKCE-4.3-01, OIDC-3.1.2.1-01, OIDC-3.1.2.1-04
        let url = url(&client(), &metadata(), &LoginWishes::default());
        assert_eq!(
            url.as_str(),
            "https://as.test/authorize?response_type=code&client_id=app\
             &redirect_uri=https%3A%2F%2Fapp.test%2Fbff%2Fcallback&scope=openid&state=s&nonce=n&code_challenge=c\
             &code_challenge_method=S256"
        );
    }

    #[test]
    fn the_endpoints_own_query_is_kept_letter_by_letter() {
        // O2-4.1.1-01, O21-3.2-01
        let mut metadata = metadata();
        metadata.authorization_endpoint =
            Endpoint::parse("https://as.test/authorize?p=B2C%5f1&scope=theirs&x", PlainHttp::LoopbackOnly)
                .expect("is an endpoint");
        let url = url(&client(), &metadata, &LoginWishes::default());
        let query = url.query().expect("has a query");
        assert!(query.starts_with("p=B2C%5f1&x&response_type=code&"), "{query}");
        assert_eq!(query.matches("scope=").count(), 1);
    }

    #[test]
    fn wishes_arrive_once_and_empty_ones_not_at_all() {
        // OIDC-3.1.2.1-05, O21-3.2-01
        let wishes = LoginWishes {
            prompt: Some("login".into()),
            max_age: Some(0),
            acr_values: Some("gold silver".into()),
            login_hint: Some("a&b=é".into()),
            ui_locales: Some(String::new()),
            id_token_hint: None,
            more_scope: None,
        };
        let client = Client { extra_params: extra(&[("prompt", "consent"), ("login_hint", "x")]), ..client() };
        let url = url(&client, &metadata(), &wishes);
        let tail: Vec<(String, String)> = url.query_pairs().into_owned().skip(8).collect();
        let expected =
            extra(&[("prompt", "login"), ("max_age", "0"), ("acr_values", "gold silver"), ("login_hint", "a&b=é")]);
        assert_eq!(tail, expected);
    }

    #[test]
    fn configuration_adds_parameters_but_replaces_none_of_the_protocol() {
        // OIDC-3.1.2.1-06
        let mut pairs = extra(&[("audience", "api"), ("audience", "b"), ("resource", "r1"), ("resource", "r2")]);
        pairs.extend(RESERVED.map(|name| (name.to_owned(), "evil".to_owned())));
        let client = Client { extra_params: pairs, ..client() };
        let url = url(&client, &metadata(), &LoginWishes::default());
        assert!(!url.as_str().contains("evil"), "{url}");
        assert!(url.as_str().ends_with("&audience=api&resource=r1&resource=r2"), "{url}");
    }

    #[test]
    fn offline_access_asks_for_consent_unless_somebody_asks_for_another_prompt() {
        // OIDC-11-01
        let mut metadata = metadata();
        metadata.scopes_supported = Some(vec!["offline_access".into()]);
        let prompt = |client: &Client, wishes: &LoginWishes| {
            let url = url(client, &metadata, wishes);
            let prompts: Vec<String> =
                url.query_pairs().filter(|(name, _)| name == "prompt").map(|(_, value)| value.into_owned()).collect();
            prompts.join("|")
        };
        assert_eq!(prompt(&client(), &LoginWishes::default()), "consent");
        let none = LoginWishes { prompt: Some("none".into()), ..LoginWishes::default() };
        assert_eq!(prompt(&client(), &none), "none");
        let configured = Client { extra_params: extra(&[("prompt", "select_account")]), ..client() };
        assert_eq!(prompt(&configured, &LoginWishes::default()), "select_account");
        let explicit = Client { scopes: Some(vec!["api".into()]), ..client() };
        assert_eq!(prompt(&explicit, &LoginWishes::default()), "");
    }

    #[test]
    fn plain_oauth_asks_for_no_identity() {
        // OIDC-3.1.2.1-01
        let client = Client { protocol: Protocol::OAuth, ..client() };
        let url = url(&client, &metadata(), &LoginWishes::default());
        assert!(!url.as_str().contains("nonce") && !url.as_str().contains("scope"), "{url}");
    }

    fn fault(query: &str) -> CallbackFault {
        match AuthorizationResponse::parse(query) {
            Err(Error::Callback(fault)) => fault,
            other => panic!("{query}: {other:?}"),
        }
    }

    #[test]
    fn a_response_is_a_code_or_an_error_and_strangers_are_ignored() {
        // O2-4.1.2-01, BCP-2.1.2-01
        let response = AuthorizationResponse::parse(
            "code=a%2Bb+c&state=s&session_state=x&foo&foo&access_token=t&iss=https%3A%2F%2Fas.test",
        )
        .expect("parses");
        assert_eq!(response.state(), &State::new("s".into()));
        assert_eq!(response.iss(), Some("https://as.test"));
        assert_eq!(response.into_outcome(), Outcome::Code(AuthorizationCode::new("a+b c".into())));
        let response = AuthorizationResponse::parse("error=access_denied&state=s&error_description=No%0Away&code=")
            .expect("parses");
        let expected = Outcome::Error { error: "access_denied".into(), description: Some("Noway".into()) };
        assert_eq!(response.into_outcome(), expected);
    }

    #[test]
    fn repeated_parameters_are_refused() {
        // O2-3.1-01, ASVS-15.3.7
        assert_eq!(fault("code=a&code=b&state=s"), CallbackFault::Repeated("code"));
        assert_eq!(fault("code=a&state=s&st%61te=s"), CallbackFault::Repeated("state"));
        assert_eq!(fault("code=a&state=s&iss=a&iss=a"), CallbackFault::Repeated("iss"));
        assert_eq!(fault("error=a&error=&state=s"), CallbackFault::Repeated("error"));
    }

    #[test]
    fn what_is_no_response_is_refused() {
        // O21-7.12-01
        assert_eq!(fault(""), CallbackFault::NeitherOrBoth);
        assert_eq!(fault("state=s"), CallbackFault::NeitherOrBoth);
        assert_eq!(fault("code=a&error=b&state=s"), CallbackFault::NeitherOrBoth);
        assert_eq!(fault("code=a"), CallbackFault::StateMissing);
        assert_eq!(fault("code=a&state="), CallbackFault::StateMissing);
        for unreadable in ["code=%ff&state=s", "code=%&state=s", "code=%4&state=s", "code=%zz&state=s", "%80=1"] {
            assert_eq!(fault(unreadable), CallbackFault::Unreadable, "{unreadable}");
        }
        assert_eq!(fault(&format!("code=a&state={}", "s".repeat(513))), CallbackFault::TooLong("state"));
        assert_eq!(fault(&format!("x={}", "s".repeat(MAX_QUERY))), CallbackFault::Unreadable);
    }

    #[test]
    fn error_text_is_made_fit_for_display() {
        // O2-4.1.2.1-01
        let query = format!("error=%1b[31mno&state=s&error_description=%3Cscript%3E%00{}", "x".repeat(10_000));
        let response = AuthorizationResponse::parse(&query).expect("parses");
        let Outcome::Error { error, description } = response.into_outcome() else { panic!("is an error") };
        assert_eq!(error, "[31mno");
        assert_eq!(description.map(|it| it.len()), Some(200));
    }

    #[test]
    fn a_response_prints_neither_code_nor_state() {
        // BCP-4.9-01
        let response = AuthorizationResponse::parse("code=canary&state=canary").expect("parses");
        assert!(!format!("{response:?}").contains("canary"));
    }

    proptest! {
        #[test]
        fn no_query_makes_the_parser_panic(query in ".{0,200}") {
            drop(AuthorizationResponse::parse(&query));
        }

        #[test]
        fn no_ascii_soup_makes_the_parser_panic(query in "((code|state|iss|error|%|[0-9a-f+&=]){0,40})") {
            drop(AuthorizationResponse::parse(&query));
        }

        #[test]
        fn whatever_a_server_encodes_is_read_back(code in ".{1,100}", state in ".{1,100}") {
            let query = form_urlencoded::Serializer::new(String::new())
                .append_pair("code", &code).append_pair("state", &state).finish();
            let response = AuthorizationResponse::parse(&query).expect("parses");
            prop_assert_eq!(response.state().as_str(), state);
            prop_assert_eq!(response.into_outcome(), Outcome::Code(AuthorizationCode::new(code)));
        }
    }
}
