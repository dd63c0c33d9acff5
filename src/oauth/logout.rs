//! Ending things at the authorization server: tokens (RFC 7009) and its own session (RP-Initiated Logout).

use url::Url;

use super::client::Client;
use super::metadata::AuthorizationServerMetadata;
use super::values::RawIdToken;

/// What kind of token is to be revoked (RFC 7009 section 2.1). Some servers look for no other kind, so it is always sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenHint {
    /// A refresh token. It goes first: at many servers its access tokens die with it.
    RefreshToken,
    /// An access token.
    AccessToken,
}

impl TokenHint {
    const fn as_str(self) -> &'static str {
        match self {
            Self::RefreshToken => "refresh_token",
            Self::AccessToken => "access_token",
        }
    }
}

/// The request that revokes a token; none where the server has no endpoint for it.
///
/// Status 200 means done, whatever the body says; other answers stop no logout (RFC 7009 section 2.2).
pub fn revocation_request(
    client: &Client,
    metadata: &AuthorizationServerMetadata,
    hint: TokenHint,
    token: &str,
) -> Option<http::Request<Vec<u8>>> {
    let endpoint = metadata.revocation_endpoint.as_ref()?;
    Some(client.form(endpoint, &[("token", token), ("token_type_hint", hint.as_str())]))
}

/// A longer hint is left out, in bytes: servers and what stands before them refuse such URLs, and the client's name
/// says the rest.
const MAX_HINT: usize = 4096;

/// Where the browser goes to end the authorization server's own session; none where it has no such place
/// (OpenID Connect RP-Initiated Logout section 2).
///
/// The URL holds the ID token: it is for a `Location` field and for nothing that is logged.
pub fn end_session_url(
    client: &Client,
    metadata: &AuthorizationServerMetadata,
    id_token_hint: Option<&RawIdToken>,
    post_logout_redirect_uri: Option<&str>,
    state: Option<&str>,
) -> Option<Url> {
    let mut url = metadata.end_session_endpoint.as_ref()?.url().clone();
    let parameters = [
        ("client_id", Some(client.id.as_str())),
        ("id_token_hint", id_token_hint.map(RawIdToken::expose).filter(|it| it.len() <= MAX_HINT)),
        ("post_logout_redirect_uri", post_logout_redirect_uri),
        ("state", state),
    ];
    let present = parameters.into_iter().filter_map(|(name, value)| Some((name, value.filter(|it| !it.is_empty())?)));
    url.query_pairs_mut().extend_pairs(present);
    Some(url)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oauth::endpoint::{Endpoint, PlainHttp};
    use crate::oauth::testing::{client, fields, metadata};

    fn endpoint(text: &str) -> Option<Endpoint> {
        Some(Endpoint::parse(text, PlainHttp::LoopbackOnly).expect("is an endpoint"))
    }

    #[test]
    fn a_revocation_is_authenticated_and_says_what_it_revokes() {
        // REV-2.1-01, REV-2.1-02
        let mut metadata = metadata();
        metadata.revocation_endpoint = endpoint("https://as.test/revoke");
        for (hint, name) in [(TokenHint::RefreshToken, "refresh_token"), (TokenHint::AccessToken, "access_token")] {
            let request = revocation_request(&client(), &metadata, hint, "t1").expect("has an endpoint");
            assert_eq!(request.uri(), "https://as.test/revoke");
            assert!(request.headers()[http::header::AUTHORIZATION].is_sensitive());
            let expected = [("token", "t1"), ("token_type_hint", name)].map(|(a, b)| (a.to_owned(), b.to_owned()));
            assert_eq!(fields(&request), expected);
        }
    }

    #[test]
    fn a_server_without_the_endpoints_is_left_alone() {
        // REV-2.2.1-02, RIL-2-07
        assert!(revocation_request(&client(), &metadata(), TokenHint::AccessToken, "t").is_none());
        assert_eq!(end_session_url(&client(), &metadata(), None, None, None), None);
    }

    #[test]
    fn an_enormous_hint_is_left_out() {
        // RIL-2-03
        let mut metadata = metadata();
        metadata.end_session_endpoint = endpoint("https://as.test/end");
        let hint = RawIdToken::new("x".repeat(12_000));
        let url = end_session_url(&client(), &metadata, Some(&hint), None, None).expect("has an endpoint");
        assert_eq!(url.as_str(), "https://as.test/end?client_id=app");
    }

    #[test]
    fn the_end_session_url_carries_what_is_known_and_keeps_its_query() {
        // RIL-2-01
        let mut metadata = metadata();
        metadata.end_session_endpoint = endpoint("https://as.test/end?tenant=1");
        let hint = RawIdToken::new("a.b.c".into());
        let url = end_session_url(&client(), &metadata, Some(&hint), Some("https://app.test/"), Some("s"))
            .expect("has an endpoint");
        assert_eq!(
            url.as_str(),
            "https://as.test/end?tenant=1&client_id=app&id_token_hint=a.b.c\
             &post_logout_redirect_uri=https%3A%2F%2Fapp.test%2F&state=s"
        );
        let bare = end_session_url(&client(), &metadata, None, None, Some("")).expect("has an endpoint");
        assert_eq!(bare.as_str(), "https://as.test/end?tenant=1&client_id=app");
    }
}
