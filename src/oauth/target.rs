//! Tokens for one API: what is asked for besides the token that a login brings, by the same refresh token or in exchange
//! for that token.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::client::{Client, Proofs};
use super::error::{Error, Verdict};
use super::metadata::AuthorizationServerMetadata;
use super::token::token_request;
use super::values::{AccessToken, RefreshToken};

/// An API for which tokens of its own are asked for, or a part of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenTarget {
    id: TargetId,
    wanted: Wanted,
    means: Means,
}

/// What a token is wanted for. What is empty is not sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// The API by the name that the server knows it by (`audience`: RFC 8693 section 2.1, and servers of their own accord).
    pub audience: Option<String>,
    /// The API by its address, an absolute URI without fragment (RFC 8707 section 2).
    pub resource: Option<String>,
    /// The scopes, none of them more than the login has granted (RFC 6749 section 6).
    pub scopes: Vec<String>,
}

/// How such a token is got.
#[must_use]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Means {
    /// With the refresh token of the session (RFC 6749 section 6, RFC 8707 section 2.2).
    #[default]
    Refresh,
    /// In exchange for the access token of the session (RFC 8693).
    Exchange,
}

/// Names a target in a session: the same as long as what is wanted is the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TargetId([u8; 8]);

const EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";

impl TokenTarget {
    /// A target of which tokens are got so.
    pub fn new(wanted: Wanted, means: Means) -> Self {
        Self { id: TargetId::of(&wanted, means), wanted, means }
    }

    /// Its name in a session.
    pub const fn id(&self) -> TargetId {
        self.id
    }

    /// What is wanted.
    pub const fn wanted(&self) -> &Wanted {
        &self.wanted
    }

    /// How its tokens are got.
    pub const fn means(&self) -> Means {
        self.means
    }

    /// The request for a token with the refresh token of a session, which is spent by it.
    pub fn refresh_request(
        &self,
        client: &Client,
        metadata: &AuthorizationServerMetadata,
        refresh_token: &RefreshToken,
        proofs: &Proofs<'_>,
    ) -> http::Request<Vec<u8>> {
        let fields = [("grant_type", "refresh_token"), ("refresh_token", refresh_token.expose())];
        self.request(client, metadata, &fields, proofs)
    }

    /// The request for a token in exchange for the one of a session (RFC 8693 section 2.1), which stays what it is.
    pub fn exchange_request(
        &self,
        client: &Client,
        metadata: &AuthorizationServerMetadata,
        subject: &AccessToken,
        proofs: &Proofs<'_>,
    ) -> http::Request<Vec<u8>> {
        let fields = [
            ("grant_type", EXCHANGE),
            ("subject_token", subject.expose()),
            ("subject_token_type", ACCESS_TOKEN),
            ("requested_token_type", ACCESS_TOKEN),
        ];
        self.request(client, metadata, &fields, proofs)
    }

    fn request(
        &self,
        client: &Client,
        metadata: &AuthorizationServerMetadata,
        fields: &[(&str, &str)],
        proofs: &Proofs<'_>,
    ) -> http::Request<Vec<u8>> {
        let scope = self.wanted.scopes.join(" ");
        let wanted = [
            ("audience", self.wanted.audience.as_deref().unwrap_or_default()),
            ("resource", self.wanted.resource.as_deref().unwrap_or_default()),
            ("scope", scope.as_str()),
        ];
        token_request(client, metadata, &[fields, &wanted].concat(), proofs)
    }

    /// Whether a refusal speaks of this target, and not of the session, of us, or of the moment.
    ///
    /// Servers say so in many words (`invalid_target`, `invalid_scope`, `access_denied`, `unauthorized_client`, …), so it is
    /// what is left when the others are taken out. In an exchange also `invalid_grant` speaks of it: what is refused there is
    /// an access token, and not the refresh token.
    pub fn is_denied_by(&self, error: &Error) -> bool {
        let Error::IssuerRefused { error: code, .. } = error else { return false };
        match error.verdict() {
            Verdict::InvalidGrant => self.means == Means::Exchange,
            // Keycloak says so of an audience that it does not know.
            Verdict::ClientRejected => code != "invalid_client" || self.means == Means::Exchange,
            Verdict::Transient { .. } => code == "invalid_target" || code == "access_denied" || code == "invalid_scope",
            Verdict::Undetermined => code != Error::UNSPECIFIED,
        }
    }
}

impl TargetId {
    fn of(wanted: &Wanted, means: Means) -> Self {
        let mut hash = Sha256::new();
        let mut part = |text: &str| {
            hash.update(text.len().to_be_bytes());
            hash.update(text);
        };
        part(match means {
            Means::Refresh => "refresh",
            Means::Exchange => "exchange",
        });
        part(wanted.audience.as_deref().unwrap_or_default());
        part(wanted.resource.as_deref().unwrap_or_default());
        for scope in &wanted.scopes {
            part(scope);
        }
        let [a, b, c, d, e, f, g, h, ..] = <[u8; 32]>::from(hash.finalize());
        Self([a, b, c, d, e, f, g, h])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oauth::testing::{client, fields, metadata, proofs};

    fn narrow() -> Wanted {
        Wanted {
            audience: None,
            resource: Some("https://orders.test/".to_owned()),
            scopes: vec!["orders:read".to_owned(), "orders:write".to_owned()],
        }
    }

    fn sent(request: &http::Request<Vec<u8>>) -> Vec<(String, String)> {
        fields(request).into_iter().filter(|(name, _)| !name.starts_with("client")).collect()
    }

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn a_refresh_for_one_api_names_it_and_nothing_else() {
        // RI-2.1-01, BBA-9-01
        let mut client = client();
        client.requests.resources = vec!["https://everything.test/".to_owned()];
        let target = TokenTarget::new(narrow(), Means::Refresh);
        let request = target.refresh_request(&client, &metadata(), &RefreshToken::new("rt".to_owned()), &proofs());
        let expected = [
            ("grant_type", "refresh_token"),
            ("refresh_token", "rt"),
            ("resource", "https://orders.test/"),
            ("scope", "orders:read orders:write"),
        ];
        assert_eq!(sent(&request), pairs(&expected));
    }

    #[test]
    fn an_exchange_offers_the_access_token_for_another() {
        let wanted = Wanted { audience: Some("orders".to_owned()), ..Wanted::default() };
        let target = TokenTarget::new(wanted, Means::Exchange);
        let request = target.exchange_request(&client(), &metadata(), &AccessToken::new("at".to_owned()), &proofs());
        let expected = [
            ("grant_type", EXCHANGE),
            ("subject_token", "at"),
            ("subject_token_type", ACCESS_TOKEN),
            ("requested_token_type", ACCESS_TOKEN),
            ("audience", "orders"),
        ];
        assert_eq!(sent(&request), pairs(&expected));
    }

    #[test]
    fn targets_that_differ_have_names_that_differ() {
        let plain = TokenTarget::new(narrow(), Means::Refresh);
        assert_eq!(plain.id(), TokenTarget::new(narrow(), Means::Refresh).id());
        let others = [
            TokenTarget::new(narrow(), Means::Exchange),
            TokenTarget::new(Wanted { resource: None, audience: narrow().resource, ..narrow() }, Means::Refresh),
            TokenTarget::new(Wanted { scopes: vec!["orders:readorders:write".to_owned()], ..narrow() }, Means::Refresh),
            TokenTarget::new(Wanted::default(), Means::Refresh),
        ];
        for other in others {
            assert_ne!(plain.id(), other.id(), "{other:?}");
        }
    }

    #[test]
    fn a_refusal_speaks_of_the_target_unless_it_speaks_of_something_else() {
        // RI-2-02
        let refused = |code: &str, status| Error::IssuerRefused { error: code.to_owned(), description: None, status };
        let (refresh, exchange) =
            (TokenTarget::new(narrow(), Means::Refresh), TokenTarget::new(narrow(), Means::Exchange));
        for code in ["invalid_target", "invalid_scope", "access_denied", "unauthorized_client", "consent_required"] {
            for status in [400, 403] {
                if code == "consent_required" && status == 403 {
                    // Of the door: it may be a firewall.
                    continue;
                }
                let error = refused(code, Some(status));
                assert!(refresh.is_denied_by(&error) && exchange.is_denied_by(&error), "{code} {status}");
            }
        }
        let client = refused("invalid_client", Some(400));
        assert!(!refresh.is_denied_by(&client) && exchange.is_denied_by(&client));
        for (code, status) in [("temporarily_unavailable", 503), ("server_error", 500), ("unspecified", 400)] {
            let error = refused(code, Some(status));
            assert!(!refresh.is_denied_by(&error) && !exchange.is_denied_by(&error), "{code}");
        }
        let grant = refused("invalid_grant", Some(400));
        assert!(!refresh.is_denied_by(&grant), "that is the refresh token");
        assert!(exchange.is_denied_by(&grant), "that is the access token");
        assert!(!refresh.is_denied_by(&Error::UnknownKey));
    }
}
