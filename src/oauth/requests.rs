//! How logins are asked for: beforehand, signed, for which resources, and how the answer is to come.

use std::time::Duration;

use serde_json::{Map, Value};

use super::authorization::Parameters;
use super::client::{Client, Proofs};
use super::client_key::ClientKeys;
use super::metadata::AuthorizationServerMetadata;
use super::security_profile::SecurityProfile;
use super::target::Wanted;

/// How logins are asked for. The default adds nothing to what every server understands.
#[derive(Clone, Debug, Default)]
pub struct RequestOptions {
    /// Whether they are lodged before the browser is sent on.
    pub par: Par,
    /// Whether they are signed (RFC 9101); that needs [`Client::keys`].
    pub jar: bool,
    /// Whether a response without `iss` is refused even if the server does not announce it (RFC 9207).
    pub require_iss: bool,
    /// The resources that tokens are asked for, each an absolute URI without fragment (RFC 8707).
    pub resources: Vec<String>,
    /// The same by the name that some servers have for it (`audience`).
    pub audience: Option<String>,
    /// What tokens are asked for later, one by one. A login has to grant all of it (RFC 8707 section 2.1).
    pub later: Vec<Wanted>,
    /// Claims that are asked for one by one (OpenID Connect Core section 5.5).
    pub claims: Option<Map<String, Value>>,
    /// How the response comes.
    pub response_mode: ResponseMode,
    /// Whether a refresh token is asked for by name, where the scopes are not configured.
    pub offline_access: OfflineAccess,
    /// Whether people are asked for their consent; none means as the product needs it.
    pub consent: Option<Consent>,
    /// What they, and the answers, are held to besides.
    pub profile: SecurityProfile,
}

/// Whether the scope `offline_access` is asked for (OpenID Connect Core section 11).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OfflineAccess {
    /// As the product needs it; where that is not known, if the server announces it.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// When people are asked for their consent (`prompt=consent`), unless a login wishes for another prompt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Consent {
    /// With `offline_access`, as OpenID Connect Core section 11 has it.
    Offline,
    /// At every login.
    Always,
    /// When the server thinks so.
    Never,
}

/// Whether logins are lodged at the server before the browser is sent on (pushed authorization requests, RFC 9126).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Par {
    /// Where the server offers it. If that fails and the server does not require it, the browser carries the request.
    #[default]
    Auto,
    /// Always. A login that cannot be lodged fails.
    Always,
    /// Never, not even where the server requires it.
    Never,
}

/// What lodging one login is to the server.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pushing {
    /// It is not done.
    No,
    /// It is done, and can be done without.
    Preferred,
    /// There is no login without it.
    Required,
}

/// How an authorization response comes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ResponseMode {
    /// In the query of a redirect.
    #[default]
    Query,
    /// In a form that the browser posts (OAuth 2.0 Form Post Response Mode). A code in it stays out of histories and logs.
    FormPost,
}

/// A signed request is good for this long: the person is on the way to the server, or the server asked itself.
const SIGNED_LIFETIME: Duration = Duration::from_secs(5 * 60);
/// It is good from this long before it is made, for servers whose clocks are behind.
const BACKDATED: Duration = Duration::from_secs(30);

impl RequestOptions {
    /// Adds to a request what is configured.
    pub(super) fn write(&self, parameters: &mut Parameters) {
        let later = self.later.iter().filter_map(|it| it.resource.as_ref());
        let mut resources: Vec<&String> = Vec::new();
        for resource in self.resources.iter().chain(later) {
            if !resources.contains(&resource) {
                resources.push(resource);
                parameters.add("resource", resource);
            }
        }
        parameters.add("audience", self.audience.as_deref().unwrap_or_default());
        parameters.add("claims", &self.claims.clone().map(|it| Value::Object(it).to_string()).unwrap_or_default());
        match self.response_mode {
            // The default of the response type is not to be named (OpenID Connect Core section 3.1.2.1).
            ResponseMode::Query => {}
            ResponseMode::FormPost => parameters.add("response_mode", "form_post"),
        }
    }
}

impl Client {
    /// Whether a login is lodged at this server before the browser is sent on.
    pub const fn pushing(&self, metadata: &AuthorizationServerMetadata) -> Pushing {
        match self.requests.par {
            Par::Never => Pushing::No,
            Par::Always => Pushing::Required,
            Par::Auto if metadata.require_pushed_authorization_requests => Pushing::Required,
            Par::Auto if metadata.pushed_authorization_request_endpoint.is_some() => Pushing::Preferred,
            Par::Auto => Pushing::No,
        }
    }

    /// What signs requests to this server, if anything does: they are signed where configuration or the server wants it.
    pub(super) fn signs_requests(&self, metadata: &AuthorizationServerMetadata) -> Option<&ClientKeys> {
        let wanted = self.requests.jar || metadata.require_signed_request_object;
        self.keys.as_ref().filter(|_| wanted)
    }
}

impl Parameters {
    /// The same in a signed request object; beside it only the client is named (RFC 9101 sections 4 and 5).
    pub(super) fn signed(
        self,
        client: &Client,
        keys: &ClientKeys,
        metadata: &AuthorizationServerMetadata,
        proofs: &Proofs<'_>,
    ) -> Self {
        let mut claims = Map::new();
        for (name, text) in self.0 {
            let value = match name.as_str() {
                "max_age" => text.parse::<u64>().map_or(Value::String(text), Value::from),
                "claims" => serde_json::from_str(&text).unwrap_or(Value::String(text)),
                _ => Value::String(text),
            };
            match claims.get_mut(&name) {
                Some(Value::Array(values)) => values.push(value),
                Some(first) => *first = Value::Array(vec![first.take(), value]),
                None => drop(claims.insert(name, value)),
            }
        }
        let from = proofs.now - BACKDATED;
        // `sub` is absent on purpose: with it the object would pass for an assertion of who the client is (section 10.8).
        let own: [(&str, Value); 6] = [
            ("iss", client.id.as_str().into()),
            ("aud", metadata.issuer.as_str().into()),
            ("jti", proofs.random.token().into()),
            ("iat", from.as_secs().into()),
            ("nbf", from.as_secs().into()),
            ("exp", (proofs.now + SIGNED_LIFETIME).as_secs().into()),
        ];
        claims.extend(own.map(|(name, value)| (name.to_owned(), value)));
        claims.remove("sub");
        let announced = metadata.request_object_signing_alg_values_supported.as_deref();
        let mut parameters = Self::default();
        parameters.add("client_id", client.id.as_str());
        parameters.add("request", &keys.sign("oauth-authz-req+jwt", announced, &claims));
        parameters
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::oauth::authorization::LoginWishes;
    use crate::oauth::client_key::tests::{P256, keys, opened};
    use crate::oauth::endpoint::{Endpoint, PlainHttp};
    use crate::oauth::testing::{NOW, begin, client, metadata, proofs};
    use crate::oauth::{LoginTransaction, State};

    fn options() -> RequestOptions {
        RequestOptions {
            resources: vec!["https://api.test/a".into(), "urn:b".into()],
            audience: Some("api".into()),
            claims: json!({ "userinfo": { "name": null } }).as_object().cloned(),
            response_mode: ResponseMode::FormPost,
            ..RequestOptions::default()
        }
    }

    fn query(url: &url::Url) -> Vec<(String, String)> {
        url.query_pairs().into_owned().collect()
    }

    #[test]
    fn what_is_configured_is_asked_for_and_nothing_else() {
        // RI-2.1-01, OIDC-3.1.2.1-04
        let client_with = Client { requests: options(), ..client() };
        let (_, url) = begin(&client_with, &LoginWishes::default());
        let added = [
            ("resource", "https://api.test/a"),
            ("resource", "urn:b"),
            ("audience", "api"),
            ("claims", r#"{"userinfo":{"name":null}}"#),
            ("response_mode", "form_post"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(query(&url).split_off(8), added);
        let (_, url) = begin(&client(), &LoginWishes::default());
        assert_eq!(query(&url).len(), 8);
    }

    #[test]
    fn a_signed_request_holds_all_and_names_only_the_client_beside_it() {
        // JAR-4-01, JAR-4-02, JAR-5-01, PAR-3-01
        let requests = RequestOptions { jar: true, ..options() };
        let client = Client { keys: Some(keys(P256, &[])), requests, ..client() };
        let wishes = LoginWishes { max_age: Some(60), ..LoginWishes::default() };
        let (_, url) = begin(&client, &wishes);
        let query = query(&url);
        let names: Vec<&str> = query.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["client_id", "request"]);
        assert_eq!(query[0].1, "app");
        let (header, claims) = opened(&query[1].1);
        assert_eq!((&header["typ"], &header["alg"]), (&json!("oauth-authz-req+jwt"), &json!("ES256")));
        for (name, value) in [
            ("iss", json!("app")),
            ("client_id", json!("app")),
            ("aud", json!("https://as.test")),
            ("response_type", json!("code")),
            ("redirect_uri", json!("https://app.test/bff/callback")),
            ("scope", json!("openid")),
            ("state", json!("s")),
            ("code_challenge_method", json!("S256")),
            ("response_mode", json!("form_post")),
            ("max_age", json!(60)),
            ("resource", json!(["https://api.test/a", "urn:b"])),
            ("claims", json!({ "userinfo": { "name": null } })),
            ("nbf", json!(NOW.as_secs() - 30)),
            ("exp", json!(NOW.as_secs() + 300)),
        ] {
            assert_eq!(claims[name], value, "{name}");
        }
        for name in ["sub", "request", "request_uri"] {
            assert_eq!(claims.get(name), None, "{name}");
        }
        assert_eq!(claims["jti"].as_str().map(str::len), Some(43));
    }

    #[test]
    fn a_server_that_demands_signatures_gets_them_from_whoever_has_a_key() {
        // JAR-10.5-01
        let mut metadata = metadata();
        metadata.require_signed_request_object = true;
        let with_key = Client { keys: Some(keys(P256, &[])), ..client() };
        let wishes = LoginWishes::default();
        let (_, asked) = LoginTransaction::begin(&with_key, &metadata, &wishes, State::new("s".into()), &proofs());
        assert!(asked.url().as_str().contains("&request="));
        assert!(with_key.signs_requests(&crate::oauth::testing::metadata()).is_none());
    }

    #[test]
    fn a_login_is_lodged_where_the_server_and_the_configuration_want_it() {
        // PAR-5-01
        let endpoint = Endpoint::parse("https://as.test/par", PlainHttp::LoopbackOnly).ok();
        let pushing = |par, offered: bool, require_pushed_authorization_requests| {
            let requests = RequestOptions { par, ..RequestOptions::default() };
            Client { requests, ..client() }.pushing(&AuthorizationServerMetadata {
                pushed_authorization_request_endpoint: endpoint.clone().filter(|_| offered),
                require_pushed_authorization_requests,
                ..metadata()
            })
        };
        assert_eq!(pushing(Par::Auto, false, false), Pushing::No);
        assert_eq!(pushing(Par::Auto, true, false), Pushing::Preferred);
        assert_eq!(pushing(Par::Auto, true, true), Pushing::Required);
        assert_eq!(pushing(Par::Always, true, false), Pushing::Required);
        assert_eq!(pushing(Par::Always, false, false), Pushing::Required);
        assert_eq!(pushing(Par::Never, true, true), Pushing::No);
    }
}
