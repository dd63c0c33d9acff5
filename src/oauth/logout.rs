//! What ends things at the authorization server: revocation (RFC 7009) and RP-initiated logout.

use http::Request;
use url::Url;

use super::client::Client;
use super::metadata::AuthorizationServerMetadata;
use super::values::RawIdToken;

/// What kind of token is revoked (RFC 7009 section 2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenHint {
    /// A refresh token.
    RefreshToken,
    /// An access token.
    AccessToken,
}

/// The request that revokes `token`; none if the server has no endpoint for it.
pub fn revocation_request(
    client: &Client,
    metadata: &AuthorizationServerMetadata,
    hint: TokenHint,
    token: &str,
) -> Option<Request<Vec<u8>>> {
    let hint = match hint {
        TokenHint::RefreshToken => "refresh_token",
        TokenHint::AccessToken => "access_token",
    };
    let endpoint = metadata.revocation_endpoint.as_ref()?;
    Some(client.post(endpoint, &[("token", token), ("token_type_hint", hint)]))
}

/// A longer hint is left out: some servers and proxies refuse such URLs, and the client's id alone will do.
const MAX_HINT: usize = 4096;

/// Where the browser goes to end the issuer's own session (RP-Initiated Logout section 2); none if it has no such place.
pub fn end_session_url(
    client: &Client,
    metadata: &AuthorizationServerMetadata,
    id_token_hint: Option<&RawIdToken>,
    post_logout_redirect_uri: Option<&str>,
    state: Option<&str>,
) -> Option<Url> {
    let mut url = metadata.end_session_endpoint.clone()?;
    let hint = id_token_hint.map(RawIdToken::expose).filter(|hint| hint.len() <= MAX_HINT);
    let fields = [
        ("client_id", Some(client.id.as_str())),
        ("id_token_hint", hint),
        ("post_logout_redirect_uri", post_logout_redirect_uri),
        ("state", state),
    ];
    url.query_pairs_mut().extend_pairs(fields.iter().filter_map(|(name, value)| Some((name, (*value)?))));
    Some(url)
}

#[cfg(test)]
mod tests {
    use super::super::client::tests::client;
    use super::super::metadata::tests::metadata;
    use super::*;

    #[test]
    fn the_endpoint_keeps_its_query_and_a_long_hint_is_left_out() {
        // RIL-2-01, RIL-2-03
        let hint = RawIdToken::new("a.b.c".to_owned());
        let url = end_session_url(&client(), &metadata(), Some(&hint), Some("https://app.test/"), None).expect("a URL");
        assert_eq!(
            url.as_str(),
            "https://as.test/end?x=1&client_id=spa+bff&id_token_hint=a.b.c&post_logout_redirect_uri=https%3A%2F%2Fapp.test%2F"
        );
        let long = RawIdToken::new("x".repeat(12_000));
        let url = end_session_url(&client(), &metadata(), Some(&long), None, Some("s")).expect("a URL");
        assert_eq!(url.as_str(), "https://as.test/end?x=1&client_id=spa+bff&state=s");
    }

    #[test]
    fn a_server_without_the_endpoints_is_left_alone() {
        // RIL-2-07, REV-2.2.1-02
        let mut metadata = metadata();
        metadata.end_session_endpoint = None;
        metadata.revocation_endpoint = None;
        assert!(end_session_url(&client(), &metadata, None, None, None).is_none());
        assert!(revocation_request(&client(), &metadata, TokenHint::AccessToken, "t").is_none());
    }

    #[test]
    fn revoking_names_the_token_its_kind_and_the_client() {
        // REV-2.1-01
        let request = revocation_request(&client(), &metadata(), TokenHint::RefreshToken, "r+1").expect("a request");
        assert_eq!(request.body(), b"token=r%2B1&token_type_hint=refresh_token");
        assert!(request.headers().contains_key("authorization"));
    }
}
