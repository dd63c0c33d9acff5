//! Ending things at the authorization server: tokens (RFC 7009) and its own session (RP-Initiated Logout).

use std::fmt;

use url::Url;

use super::client::{Client, Proofs};
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
    proofs: &Proofs<'_>,
) -> Option<http::Request<Vec<u8>>> {
    let endpoint = metadata.revocation_endpoint.as_ref()?;
    let endpoint = client.door(endpoint, metadata.mtls_endpoint_aliases.revocation_endpoint.as_ref());
    Some(client.form(metadata, endpoint, &[("token", token), ("token_type_hint", hint.as_str())], proofs))
}

/// How the authorization server's own session is ended, where servers differ.
#[must_use]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogoutStyle {
    /// As the product needs it; where that is not known, the standard.
    #[default]
    Auto,
    /// As OpenID Connect RP-Initiated Logout 1.0 section 2 has it.
    Standard,
    /// Amazon Cognito: `/logout` with `client_id` and `logout_uri`. It takes none of the standard parameters, although
    /// its metadata lists the address since 2024.
    Cognito,
    /// Auth0: the standard where the metadata lists an address (tenants since November 2023, or by a switch), else
    /// `/v2/logout` with `client_id` and `returnTo`.
    Auth0,
}

/// What is told to the authorization server when its session shall end. What is empty is not sent.
#[derive(Clone, Copy, Default)]
pub struct LogoutWishes<'a> {
    /// An ID token that it has issued for this session; also one that has expired (section 4).
    pub id_token_hint: Option<&'a RawIdToken>,
    /// Who is to be signed out, in a form that the server understands.
    pub logout_hint: Option<&'a str>,
    /// In which languages its pages shall speak, as tags with spaces between them.
    pub ui_locales: Option<&'a str>,
    /// Where it sends the browser afterwards: one of the registered addresses, letter by letter.
    pub post_logout_redirect_uri: &'a str,
    /// What it hands back there.
    pub state: &'a str,
}

/// The way to the authorization server's end-session endpoint: an address and the parameters for it, which may go in a
/// query or in a form (section 2).
///
/// It may hold an ID token: it is for the browser and for nothing that is logged.
#[derive(Clone, PartialEq, Eq)]
pub struct EndSession {
    address: Url,
    fields: Vec<(&'static str, String)>,
    style: Wire,
}

/// Which parameters are understood.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wire {
    Standard,
    /// The client's name, and the way back under this name.
    Bare(&'static str),
}

impl fmt::Debug for EndSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.fields.iter().map(|(name, _)| *name).collect();
        f.debug_struct("EndSession").field("fields", &names).finish_non_exhaustive()
    }
}

/// In bytes. Servers and what stands before them refuse longer addresses, the shortest of them at 8 KiB for the whole
/// request head, cookies included.
const MAX_HINT: usize = 4096;

impl EndSession {
    /// The way there; none where the server has no such place.
    pub fn new(
        client: &Client,
        metadata: &AuthorizationServerMetadata,
        style: LogoutStyle,
        wishes: &LogoutWishes<'_>,
    ) -> Option<Self> {
        let (address, style) = Self::place(metadata, style)?;
        let hint = wishes.id_token_hint.map(RawIdToken::expose);
        let fields = match style {
            Wire::Standard => vec![
                ("client_id", client.id.as_str()),
                ("id_token_hint", hint.unwrap_or_default()),
                ("logout_hint", wishes.logout_hint.unwrap_or_default()),
                ("ui_locales", wishes.ui_locales.unwrap_or_default()),
                ("post_logout_redirect_uri", wishes.post_logout_redirect_uri),
                ("state", wishes.state),
            ],
            Wire::Bare(back) => vec![("client_id", client.id.as_str()), (back, wishes.post_logout_redirect_uri)],
        };
        let fields = fields.into_iter().filter(|(_, value)| !value.is_empty());
        Some(Self { address, fields: fields.map(|(name, value)| (name, value.to_owned())).collect(), style })
    }

    /// Whether the server has such a place.
    pub fn exists(metadata: &AuthorizationServerMetadata, style: LogoutStyle) -> bool {
        Self::place(metadata, style).is_some()
    }

    /// Whether the server hands a `state` back.
    pub fn returns_state(metadata: &AuthorizationServerMetadata, style: LogoutStyle) -> bool {
        matches!(Self::place(metadata, style), Some((_, Wire::Standard)))
    }

    fn place(metadata: &AuthorizationServerMetadata, style: LogoutStyle) -> Option<(Url, Wire)> {
        let listed = metadata.end_session_endpoint.as_ref().map(|endpoint| endpoint.url().clone());
        // Beside the page for logins: both stand on the host that people see.
        let beside_logins = |path: &str| {
            let mut url = metadata.authorization_endpoint.url().clone();
            url.set_query(None);
            url.set_path(path);
            url
        };
        let of_product = metadata.provider.map(|provider| provider.logout);
        match if style == LogoutStyle::Auto { of_product.unwrap_or(LogoutStyle::Standard) } else { style } {
            // No product has it, and it cannot mean itself.
            LogoutStyle::Auto | LogoutStyle::Standard => Some((listed?, Wire::Standard)),
            LogoutStyle::Cognito => {
                Some((listed.unwrap_or_else(|| beside_logins("/logout")), Wire::Bare("logout_uri")))
            }
            LogoutStyle::Auth0 => match listed {
                Some(address) => Some((address, Wire::Standard)),
                None => Some((beside_logins("/v2/logout"), Wire::Bare("returnTo"))),
            },
        }
    }

    /// The address with all parameters in its query: for a `Location` field.
    pub fn url(&self) -> Url {
        let mut url = self.address.clone();
        url.query_pairs_mut().extend_pairs(&self.fields);
        url
    }

    /// The address without them: what a form is sent to.
    pub const fn address(&self) -> &Url {
        &self.address
    }

    /// The fields of a form.
    pub fn fields(&self) -> &[(&'static str, String)] {
        &self.fields
    }

    /// Whether it takes a form: the standard obliges servers to; the others know `GET` only.
    pub fn takes_a_form(&self) -> bool {
        self.style == Wire::Standard
    }

    /// Whether it is too long for an address.
    pub fn is_long(&self) -> bool {
        self.fields.iter().any(|(name, value)| *name == "id_token_hint" && value.len() > MAX_HINT)
    }

    /// The same without the ID token: the client's name says the rest, and the server may ask the person.
    #[must_use]
    pub fn without_hint(mut self) -> Self {
        self.fields.retain(|(name, _)| *name != "id_token_hint");
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oauth::endpoint::{Endpoint, PlainHttp};
    use crate::oauth::testing::{client, fields, metadata, proofs};

    fn endpoint(text: &str) -> Option<Endpoint> {
        Some(Endpoint::parse(text, PlainHttp::LoopbackOnly).expect("is an endpoint"))
    }

    #[test]
    fn a_revocation_is_authenticated_and_says_what_it_revokes() {
        // REV-2.1-01, REV-2.1-02
        let mut metadata = metadata();
        metadata.revocation_endpoint = endpoint("https://as.test/revoke");
        for (hint, name) in [(TokenHint::RefreshToken, "refresh_token"), (TokenHint::AccessToken, "access_token")] {
            let request = revocation_request(&client(), &metadata, hint, "t1", &proofs()).expect("has an endpoint");
            assert_eq!(request.uri(), "https://as.test/revoke");
            assert!(request.headers()[http::header::AUTHORIZATION].is_sensitive());
            let expected = [("token", "t1"), ("token_type_hint", name)].map(|(a, b)| (a.to_owned(), b.to_owned()));
            assert_eq!(fields(&request), expected);
        }
    }

    fn wishes<'a>(hint: Option<&'a RawIdToken>, state: &'a str) -> LogoutWishes<'a> {
        let back = "https://app.test/bff/logout/return";
        LogoutWishes { id_token_hint: hint, post_logout_redirect_uri: back, state, ..LogoutWishes::default() }
    }

    fn way(metadata: &AuthorizationServerMetadata, style: LogoutStyle, wishes: &LogoutWishes<'_>) -> EndSession {
        EndSession::new(&client(), metadata, style, wishes).expect("has an endpoint")
    }

    fn listed(address: &str) -> AuthorizationServerMetadata {
        AuthorizationServerMetadata { end_session_endpoint: endpoint(address), ..metadata() }
    }

    #[test]
    fn a_server_without_the_endpoints_is_left_alone() {
        // REV-2.2.1-02, RIL-2-07
        assert!(revocation_request(&client(), &metadata(), TokenHint::AccessToken, "t", &proofs()).is_none());
        assert_eq!(EndSession::new(&client(), &metadata(), LogoutStyle::Standard, &wishes(None, "s")), None);
        assert!(!EndSession::exists(&metadata(), LogoutStyle::Standard));
    }

    #[test]
    fn an_enormous_hint_is_for_a_form_and_can_be_left_out() {
        // RIL-2-03
        let metadata = listed("https://as.test/end");
        for (length, long) in [(4096, false), (4097, true)] {
            let hint = RawIdToken::new("x".repeat(length));
            let way = way(&metadata, LogoutStyle::Standard, &wishes(Some(&hint), "s"));
            assert_eq!((way.is_long(), way.takes_a_form()), (long, true), "{length}");
            assert_eq!(way.address().as_str(), "https://as.test/end");
            assert!(way.fields().contains(&("id_token_hint", hint.expose().to_owned())));
            let bare = way.without_hint();
            assert!(
                !bare.is_long() && !bare.url().as_str().contains("hint") && bare.url().as_str().contains("state=s")
            );
        }
    }

    #[test]
    fn the_end_session_url_carries_what_is_known_and_keeps_its_query() {
        // RIL-2-01, RIL-2-08
        let metadata = listed("https://as.test/end?tenant=1");
        let hint = RawIdToken::new("a.b.c".into());
        let all = LogoutWishes { logout_hint: Some("ada"), ui_locales: Some("de en"), ..wishes(Some(&hint), "s") };
        assert_eq!(
            way(&metadata, LogoutStyle::Standard, &all).url().as_str(),
            "https://as.test/end?tenant=1&client_id=app&id_token_hint=a.b.c&logout_hint=ada&ui_locales=de+en\
             &post_logout_redirect_uri=https%3A%2F%2Fapp.test%2Fbff%2Flogout%2Freturn&state=s"
        );
        let bare = LogoutWishes { post_logout_redirect_uri: "", ..wishes(None, "") };
        let bare = way(&metadata, LogoutStyle::Standard, &bare);
        assert_eq!(bare.url().as_str(), "https://as.test/end?tenant=1&client_id=app");
    }

    #[test]
    fn cognito_and_auth0_are_spoken_to_in_their_own_words() {
        let hint = RawIdToken::new("a.b.c".into());
        let wishes = wishes(Some(&hint), "s");
        let back = "https%3A%2F%2Fapp.test%2Fbff%2Flogout%2Freturn";
        let (nothing_listed, listed) = (metadata(), listed("https://as.test/oidc/logout"));
        for (metadata, style, expected) in [
            (&nothing_listed, LogoutStyle::Cognito, format!("https://as.test/logout?client_id=app&logout_uri={back}")),
            (&listed, LogoutStyle::Cognito, format!("https://as.test/oidc/logout?client_id=app&logout_uri={back}")),
            (&nothing_listed, LogoutStyle::Auth0, format!("https://as.test/v2/logout?client_id=app&returnTo={back}")),
        ] {
            let way = way(metadata, style, &wishes);
            assert_eq!((way.url().as_str(), way.takes_a_form()), (expected.as_str(), false));
            assert!(!EndSession::returns_state(metadata, style));
        }
        let standard = way(&listed, LogoutStyle::Auth0, &wishes);
        assert!(standard.url().as_str().starts_with("https://as.test/oidc/logout?client_id=app&id_token_hint=a.b.c"));
        assert!(EndSession::returns_state(&listed, LogoutStyle::Auth0));
    }

    #[test]
    fn the_way_there_prints_no_token() {
        let hint = RawIdToken::new("canary.b.c".into());
        let way = way(&listed("https://as.test/end"), LogoutStyle::Standard, &wishes(Some(&hint), "s"));
        let printed = format!("{way:?}");
        assert!(printed.contains("id_token_hint") && !printed.contains("canary"), "{printed}");
    }
}
