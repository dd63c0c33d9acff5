//! The authorization request as a URL, and the response as the browser brings it back.

use url::Url;
use url::form_urlencoded;

use super::client::Client;
use super::error::{Error, printable};
use super::login::LoginTransaction;
use super::metadata::AuthorizationServerMetadata;
use super::values::{AuthorizationCode, State};

/// What the one who starts a login may wish for (OpenID Connect Core section 3.1.2.1).
#[derive(Clone, Debug, Default)]
pub struct LoginWishes {
    /// How the server shall interact with the person.
    pub prompt: Option<String>,
    /// How long ago, in seconds, the person may have authenticated at most.
    pub max_age: Option<u64>,
    /// The authentication context classes that are asked for.
    pub acr_values: Option<String>,
    /// Who wants to sign in.
    pub login_hint: Option<String>,
    /// The languages of the pages.
    pub ui_locales: Option<String>,
}

/// The URL that the browser is sent to. The endpoint's own query is kept (RFC 6749 section 3.1).
pub(super) fn authorization_url(
    client: &Client,
    metadata: &AuthorizationServerMetadata,
    wishes: &LoginWishes,
    transaction: &LoginTransaction,
) -> Url {
    let scopes = client.requested_scopes(metadata);
    // Long-lived access is granted with the person's consent (OpenID Connect Core section 11).
    let consent = scopes.iter().any(|scope| scope == "offline_access").then(|| "consent".to_owned());
    let (scope, challenge) = (scopes.join(" "), transaction.verifier.challenge());
    let prompt = wishes.prompt.clone().or(consent);
    let max_age = wishes.max_age.map(|seconds| seconds.to_string());
    let ours: [(&str, Option<&str>); 13] = [
        ("response_type", Some("code")),
        ("client_id", Some(client.id.as_str())),
        ("redirect_uri", Some(&client.redirect_uri)),
        ("scope", Some(&scope)),
        ("state", Some(transaction.state.as_str())),
        ("nonce", Some(transaction.nonce.as_str())),
        ("code_challenge", Some(&challenge)),
        ("code_challenge_method", Some("S256")),
        ("prompt", prompt.as_deref()),
        ("max_age", max_age.as_deref()),
        ("acr_values", wishes.acr_values.as_deref()),
        ("login_hint", wishes.login_hint.as_deref()),
        ("ui_locales", wishes.ui_locales.as_deref()),
    ];
    let mut url = metadata.authorization_endpoint.clone();
    let ours_too = |name: &str| ours.iter().any(|(it, _)| *it == name);
    let kept: Vec<(String, String)> = url.query_pairs().into_owned().filter(|(name, _)| !ours_too(name)).collect();
    let mut query = url.query_pairs_mut();
    query.clear().extend_pairs(kept);
    query.extend_pairs(ours.iter().filter_map(|(name, value)| Some((name, (*value)?))));
    query.extend_pairs(client.extra_params.iter().filter(|(name, value)| !ours_too(name) && !value.is_empty()));
    drop(query);
    url
}

/// What the browser brought back. Nothing of it is believed until a transaction has accepted it.
#[derive(Debug, PartialEq, Eq)]
pub struct AuthorizationResponse {
    state: State,
    pub(super) issuer: Option<String>,
    pub(super) outcome: Result<AuthorizationCode, String>,
}

/// Longer values are refused.
const MAX_VALUE: usize = 4096;

impl AuthorizationResponse {
    /// Reads a callback's query (RFC 6749 section 4.1.2). Unknown parameters are ignored.
    ///
    /// # Errors
    /// If a parameter is repeated, missing, too long, or if there is a code and an error.
    pub fn parse(query: &str) -> Result<Self, Error> {
        let (mut state, mut code, mut error, mut issuer) = (None, None, None, None);
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            let slot = match &*name {
                "state" => &mut state,
                "code" => &mut code,
                "error" => &mut error,
                "iss" => &mut issuer,
                _ => continue,
            };
            if slot.is_some() {
                return Err(Error::Callback("a parameter is repeated"));
            }
            if value.len() > MAX_VALUE || value.chars().any(char::is_control) || value.contains('\u{fffd}') {
                return Err(Error::Callback("a parameter is too long or not text"));
            }
            *slot = Some(value.into_owned());
        }
        let state = state.filter(|state| !state.is_empty()).ok_or(Error::Callback("there is no state"))?;
        let outcome = match (code, error) {
            (Some(code), None) if !code.is_empty() => Ok(AuthorizationCode::new(code)),
            (None, Some(error)) => Err(printable(&error)),
            (Some(_), Some(_)) => return Err(Error::Callback("there are a code and an error")),
            (Some(_) | None, None) => return Err(Error::Callback("there is neither a code nor an error")),
        };
        Ok(Self { state: State::new(state), issuer, outcome })
    }

    /// Which login it claims to belong to.
    pub const fn state(&self) -> &State {
        &self.state
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_response_is_a_code_or_an_error_and_nothing_is_repeated() {
        // O2-3.1-01, O2-4.1.2-01, O21-7.12-01
        let parsed = AuthorizationResponse::parse("code=a%20b&state=s&iss=i&session_state=x&foo=").expect("parses");
        assert_eq!(parsed.state(), &State::new("s".to_owned()));
        assert_eq!(parsed.outcome, Ok(AuthorizationCode::new("a b".to_owned())));
        assert_eq!(parsed.issuer.as_deref(), Some("i"));
        let refused =
            AuthorizationResponse::parse("error=access_denied%0a&state=s").expect_err("has a control character");
        assert_eq!(refused, Error::Callback("a parameter is too long or not text"));
        for query in [
            "",
            "code=a",
            "state=s",
            "state=&code=a",
            "code=&state=s",
            "code=a&code=b&state=s",
            "code=a&state=s&state=s",
            "code=a&state=s&iss=i&iss=i",
            "code=a&error=b&state=s",
            "code=%ff&state=s",
            "code=a&state=%00",
        ] {
            assert!(AuthorizationResponse::parse(query).is_err(), "{query}");
        }
        assert!(AuthorizationResponse::parse(&format!("state=s&code={}", "x".repeat(5000))).is_err());
    }

    proptest! {
        #[test]
        fn reading_a_query_never_panics(query in ".*") {
            drop(AuthorizationResponse::parse(&query));
        }
    }
}
