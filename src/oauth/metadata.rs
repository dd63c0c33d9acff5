//! What an authorization server says of itself (RFC 8414, OpenID Connect Discovery 1.0).

use bytes::Bytes;
use http::StatusCode;
use url::Url;

use super::authority::Authority;
use super::client::Protocol;
use super::document::Document;
use super::dpop::ProofAlgorithm;
use super::endpoint::{Endpoint, InvalidEndpoint, PlainHttp};
use super::error::{Error, Misbehaviour, presentable};
use super::provider::Provider;
use super::security_profile::SecurityProfile;
use super::tenants::Tenants;
use super::values::Issuer;

/// What an authorization server says of itself. The fields are open, because configuration may know better.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthorizationServerMetadata {
    /// The issuer that was asked. The document named it letter by letter, or said that it has tenants.
    pub issuer: Issuer,
    /// Its tenants, if each is an issuer of its own: tokens are then never of [`issuer`](Self::issuer) itself.
    pub tenants: Option<Tenants>,
    /// Which product it is, if that is known.
    pub provider: Option<&'static Provider>,
    /// Where browsers are sent to log in.
    pub authorization_endpoint: Endpoint,
    /// Where codes and refresh tokens are exchanged.
    pub token_endpoint: Endpoint,
    /// Where the signing keys are; a plain OAuth server may have none.
    pub jwks_uri: Option<Endpoint>,
    /// Where tokens are revoked (RFC 7009).
    pub revocation_endpoint: Option<Endpoint>,
    /// Where logins are lodged before the browser is sent on (RFC 9126).
    pub pushed_authorization_request_endpoint: Option<Endpoint>,
    /// Whether they have to be (RFC 9126 section 5).
    pub require_pushed_authorization_requests: bool,
    /// Whether authorization requests have to be signed (RFC 9101 section 10.5).
    pub require_signed_request_object: bool,
    /// The algorithms by which it takes signed requests, if it says.
    pub request_object_signing_alg_values_supported: Option<Vec<String>>,
    /// Where browsers are sent to log out (OpenID Connect RP-Initiated Logout).
    pub end_session_endpoint: Option<Endpoint>,
    /// Where claims about the user are.
    pub userinfo_endpoint: Option<Endpoint>,
    /// The scopes that it knows, if it says.
    pub scopes_supported: Option<Vec<String>>,
    /// The PKCE methods that it knows, if it says. For reports only: `S256` is sent in any case, for many servers that
    /// know it do not say so.
    pub code_challenge_methods_supported: Option<Vec<String>>,
    /// How clients may authenticate at the token endpoint.
    pub token_endpoint_auth_methods_supported: Vec<String>,
    /// The algorithms by which it takes clients' assertions, if it says.
    pub token_endpoint_auth_signing_alg_values_supported: Option<Vec<String>>,
    /// The endpoints for those who show a certificate.
    pub mtls_endpoint_aliases: EndpointAliases,
    /// The algorithms that it signs ID tokens with.
    pub id_token_signing_alg_values_supported: Vec<String>,
    /// The algorithms that it signs answers of its UserInfo endpoint with; none means those of ID tokens.
    pub userinfo_signing_alg_values_supported: Option<Vec<String>>,
    /// The algorithms by which it takes proofs of possession, if it says (RFC 9449 section 5.1).
    pub dpop_signing_alg_values_supported: Option<Vec<String>>,
    /// The grant types that it knows. For reports only: many servers leave `refresh_token` out.
    pub grant_types_supported: Vec<String>,
    /// Whether it binds access tokens to the certificate that the client shows (RFC 8705 section 3.3).
    pub tls_client_certificate_bound_access_tokens: bool,
    /// Whether its authorization responses name it (RFC 9207 section 3).
    pub authorization_response_iss_parameter_supported: bool,
}

/// The endpoints that check the client's certificate, where they have addresses of their own (RFC 8705 section 5).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EndpointAliases {
    /// Where codes and refresh tokens are exchanged.
    pub token_endpoint: Option<Endpoint>,
    /// Where tokens are revoked.
    pub revocation_endpoint: Option<Endpoint>,
    /// Where logins are lodged.
    pub pushed_authorization_request_endpoint: Option<Endpoint>,
}

impl AuthorizationServerMetadata {
    /// The request for the OpenID Connect document of a server (OpenID Connect Discovery 1.0 section 4.1).
    ///
    /// # Errors
    /// If the issuer identifier is no absolute http or https URL without query and fragment.
    pub fn request(authority: &Authority) -> Result<http::Request<Vec<u8>>, Error> {
        let issuer = asked_at(authority);
        issuer_url(&issuer)?;
        // Text, not URL, surgery: the path is the issuer's own, letter by letter.
        let base = issuer.as_str().strip_suffix('/').unwrap_or(issuer.as_str());
        well_known(&format!("{base}/.well-known/openid-configuration"))
    }

    /// The request for the plain OAuth document of a server (RFC 8414 section 3.1).
    ///
    /// # Errors
    /// As [`request`](Self::request).
    pub fn oauth_request(authority: &Authority) -> Result<http::Request<Vec<u8>>, Error> {
        let mut url = issuer_url(&asked_at(authority))?;
        let path = url.path().strip_suffix('/').unwrap_or(url.path()).to_owned();
        url.set_path(&format!("/.well-known/oauth-authorization-server{path}"));
        well_known(url.as_str())
    }

    /// Reads the answer to either request.
    ///
    /// # Errors
    /// If it is not exactly 200 (a redirect is not followed: RFC 8414 section 6.2), not a JSON object, of another
    /// issuer, or if a member that is needed is absent or wrong; the member is named.
    pub fn read(authority: &Authority, response: &http::Response<Bytes>) -> Result<Self, Error> {
        if response.status() != StatusCode::OK {
            return Err(Misbehaviour::from(format!("metadata: status {}, not 200", response.status().as_u16())).into());
        }
        let document = Document::read("metadata", response.body())?;
        let tenants = authority.examine(&document)?;
        let aliases = document.object("mtls_endpoint_aliases", "metadata: mtls_endpoint_aliases")?;
        // Browsers go to some endpoints and we to the others, perhaps by another way.
        let browsers = |text: &str| Endpoint::parse(text, authority.plain_http);
        let ours = |text: &str| authority.inner_endpoint(text);
        let endpoint = |member| endpoint_of(&document, member, ours);
        let page = |member| endpoint_of(&document, member, browsers);
        let alias = |member| aliases.as_ref().map_or(Ok(None), |aliases| endpoint_of(aliases, member, ours));
        let required = |found: Result<Option<_>, _>, member| found?.ok_or_else(|| document.fault(member, "is absent"));
        // What a server that leaves the member out means by it (RFC 8414 section 2).
        let or_default = |member, default: &[&str]| -> Result<Vec<String>, Misbehaviour> {
            Ok(document.texts(member)?.unwrap_or_else(|| default.iter().map(|&it| it.to_owned()).collect()))
        };
        let mut metadata = Self {
            issuer: authority.issuer.clone(),
            tenants,
            provider: None,
            authorization_endpoint: required(page("authorization_endpoint"), "authorization_endpoint")?,
            token_endpoint: required(endpoint("token_endpoint"), "token_endpoint")?,
            jwks_uri: endpoint("jwks_uri")?,
            revocation_endpoint: endpoint("revocation_endpoint")?,
            pushed_authorization_request_endpoint: endpoint("pushed_authorization_request_endpoint")?,
            require_pushed_authorization_requests: document.flag("require_pushed_authorization_requests")?,
            require_signed_request_object: document.flag("require_signed_request_object")?,
            request_object_signing_alg_values_supported: document
                .texts("request_object_signing_alg_values_supported")?,
            end_session_endpoint: page("end_session_endpoint")?,
            userinfo_endpoint: endpoint("userinfo_endpoint")?,
            scopes_supported: document.texts("scopes_supported")?,
            code_challenge_methods_supported: document.texts("code_challenge_methods_supported")?,
            token_endpoint_auth_methods_supported: or_default(
                "token_endpoint_auth_methods_supported",
                &["client_secret_basic"],
            )?,
            token_endpoint_auth_signing_alg_values_supported: document
                .texts("token_endpoint_auth_signing_alg_values_supported")?,
            mtls_endpoint_aliases: EndpointAliases {
                token_endpoint: alias("token_endpoint")?,
                revocation_endpoint: alias("revocation_endpoint")?,
                pushed_authorization_request_endpoint: alias("pushed_authorization_request_endpoint")?,
            },
            id_token_signing_alg_values_supported: or_default("id_token_signing_alg_values_supported", &["RS256"])?,
            userinfo_signing_alg_values_supported: document.texts("userinfo_signing_alg_values_supported")?,
            dpop_signing_alg_values_supported: document.texts("dpop_signing_alg_values_supported")?,
            grant_types_supported: or_default("grant_types_supported", &["authorization_code", "implicit"])?,
            tls_client_certificate_bound_access_tokens: document.flag("tls_client_certificate_bound_access_tokens")?,
            authorization_response_iss_parameter_supported: document
                .flag("authorization_response_iss_parameter_supported")?,
        };
        metadata.provider = authority.provider.by_metadata(&metadata);
        Ok(metadata)
    }

    /// That it names what a login needs that speaks `protocol` (OpenID Connect Discovery 1.0 section 3), and where tokens are
    /// to be bound (`dpop`), an algorithm for that; and what the profile demands besides.
    ///
    /// # Errors
    /// [`Error::IssuerMisbehaved`] with the member that is absent or does not fit.
    pub fn suits(&self, protocol: Protocol, dpop: bool, profile: SecurityProfile) -> Result<(), Error> {
        match protocol {
            Protocol::OpenIdConnect if self.jwks_uri.is_none() => {
                return Err(Misbehaviour::from("metadata: jwks_uri is absent").into());
            }
            Protocol::OpenIdConnect | Protocol::OAuth => {}
        }
        let announced = self.dpop_signing_alg_values_supported.as_deref();
        if dpop && ProofAlgorithm::among(announced).is_none() {
            let announced = presentable(&announced.unwrap_or_default().join(" "));
            let what = format!(
                "metadata: dpop_signing_alg_values_supported is {announced:?}, and proofs are made by ES256 or EdDSA; allow \
                 one of them at the issuer, or set issuer.dpop = false"
            );
            return Err(Misbehaviour::from(what).into());
        }
        Ok(profile.examine(self, dpop)?)
    }
}

/// An address in a document, if it has this member.
fn endpoint_of(
    document: &Document,
    member: &str,
    read: impl Fn(&str) -> Result<Endpoint, InvalidEndpoint>,
) -> Result<Option<Endpoint>, Misbehaviour> {
    document.text(member)?.map(read).transpose().map_err(|invalid| document.fault(member, &invalid.to_string()))
}

/// The issuer by the address that we reach it at.
fn asked_at(authority: &Authority) -> Issuer {
    authority.backchannel.as_ref().map_or_else(|| authority.issuer.clone(), |url| Issuer::new(url.as_str().to_owned()))
}

fn issuer_url(issuer: &Issuer) -> Result<Url, Error> {
    Url::parse(issuer.as_str())
        .ok()
        .filter(|url| url.has_host() && url.query().is_none() && url.fragment().is_none())
        .ok_or_else(|| Misbehaviour::from("issuer: not an absolute URL without query and fragment").into())
}

fn well_known(text: &str) -> Result<http::Request<Vec<u8>>, Error> {
    // Whether plain http is in order was decided when the issuer was configured.
    Endpoint::parse(text, PlainHttp::Allowed)
        .map(|endpoint| endpoint.get())
        .map_err(|invalid| Misbehaviour::from(format!("issuer: {invalid}")).into())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::oauth::testing::answer;

    fn issuer(text: &str) -> Authority {
        Authority::new(Issuer::new(text.to_owned()))
    }

    fn document() -> Value {
        json!({
            "issuer": "https://as.test",
            "authorization_endpoint": "https://as.test/authorize",
            "token_endpoint": "https://as.test/token",
            "jwks_uri": "https://as.test/jwks",
        })
    }

    fn read(document: &Value) -> Result<AuthorizationServerMetadata, Error> {
        let response = answer(200, &document.to_string());
        AuthorizationServerMetadata::read(&issuer("https://as.test"), &response)
    }

    fn refused(member: &str, value: Value) -> String {
        let mut document = document();
        document[member] = value;
        read(&document).expect_err("is refused").to_string()
    }

    #[test]
    fn the_openid_path_is_a_suffix() {
        // DISC-4.1-01, CS-H-03
        for (asked, expected) in [
            ("https://as.test", "https://as.test/.well-known/openid-configuration"),
            ("https://as.test/", "https://as.test/.well-known/openid-configuration"),
            ("https://as.test/realms/a", "https://as.test/realms/a/.well-known/openid-configuration"),
            ("https://as.test/realms/a/", "https://as.test/realms/a/.well-known/openid-configuration"),
        ] {
            let request = AuthorizationServerMetadata::request(&issuer(asked)).expect("is a request");
            assert_eq!(request.uri(), expected);
            assert_eq!(request.method(), http::Method::GET);
        }
    }

    #[test]
    fn the_oauth_path_goes_between_host_and_path() {
        // ASM-3-01
        for (asked, expected) in [
            ("https://as.test", "https://as.test/.well-known/oauth-authorization-server"),
            ("https://as.test/", "https://as.test/.well-known/oauth-authorization-server"),
            ("https://as.test/t1", "https://as.test/.well-known/oauth-authorization-server/t1"),
            ("https://as.test/t1/", "https://as.test/.well-known/oauth-authorization-server/t1"),
        ] {
            assert_eq!(
                AuthorizationServerMetadata::oauth_request(&issuer(asked)).expect("is a request").uri(),
                expected
            );
        }
    }

    #[test]
    fn an_issuer_that_is_no_address_cannot_be_asked() {
        for bad in ["", "as.test", "https://as.test/?a", "https://as.test/#f", "mailto:a@b", "ftp://as.test"] {
            assert!(AuthorizationServerMetadata::request(&issuer(bad)).is_err(), "{bad}");
            assert!(AuthorizationServerMetadata::oauth_request(&issuer(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_minimal_document_is_enough_and_the_rest_has_defaults() {
        // ASM-2-01, CS-H-04
        let metadata = read(&document()).expect("reads");
        assert_eq!(metadata.token_endpoint_auth_methods_supported, ["client_secret_basic"]);
        assert_eq!(metadata.id_token_signing_alg_values_supported, ["RS256"]);
        assert_eq!(metadata.grant_types_supported, ["authorization_code", "implicit"]);
        assert_eq!(metadata.code_challenge_methods_supported, None);
        assert!(!metadata.authorization_response_iss_parameter_supported);
        let mut plain_oauth = document();
        plain_oauth["jwks_uri"] = Value::Null;
        assert_eq!(read(&plain_oauth).expect("reads").jwks_uri, None);
    }

    #[test]
    fn a_server_that_does_not_announce_s256_is_accepted_and_its_word_kept() {
        let mut document = document();
        document["code_challenge_methods_supported"] = json!(["plain"]);
        let metadata = read(&document).expect("reads");
        assert_eq!(metadata.code_challenge_methods_supported, Some(vec!["plain".to_owned()]));
    }

    #[test]
    fn the_issuer_must_be_the_same_letter_by_letter() {
        // ASM-3.3-01, DISC-4.3-01, ISS-R-01
        for other in ["https://as.test/", "https://AS.test", "https://as.test:443", "http://as.test", "https://as.tes"]
        {
            assert!(refused("issuer", json!(other)).contains("issuer is not, letter by letter"), "{other}");
        }
        assert!(refused("issuer", Value::Null).contains("issuer is absent"));
    }

    #[test]
    fn endpoints_must_be_there_and_https() {
        // DISC-3-01, ASM-2-02
        for member in ["authorization_endpoint", "token_endpoint"] {
            assert!(refused(member, Value::Null).contains(&format!("{member} is absent")));
        }
        for member in [
            "authorization_endpoint",
            "token_endpoint",
            "jwks_uri",
            "revocation_endpoint",
            "end_session_endpoint",
            "userinfo_endpoint",
        ] {
            assert!(refused(member, json!("http://as.test/x")).contains(&format!("{member} is not https")));
            assert!(refused(member, json!(7)).contains(&format!("{member} is not a string")));
        }
        assert!(refused("scopes_supported", json!({})).contains("scopes_supported is not a list of strings"));
        let lie = refused("authorization_response_iss_parameter_supported", json!("yes"));
        assert!(lie.contains("authorization_response_iss_parameter_supported is not true or false"));
    }

    #[test]
    fn aliases_are_read_one_by_one() {
        // MTLS-5-01
        let mut document = document();
        assert_eq!(read(&document).expect("reads").mtls_endpoint_aliases, EndpointAliases::default());
        document["mtls_endpoint_aliases"] = json!({ "token_endpoint": "https://mtls.as.test/token", "x_endpoint": 7 });
        let aliases = read(&document).expect("reads").mtls_endpoint_aliases;
        assert_eq!(
            aliases.token_endpoint.map(|it| it.as_str().to_owned()).as_deref(),
            Some("https://mtls.as.test/token")
        );
        assert_eq!(aliases.revocation_endpoint, None);
        assert!(refused("mtls_endpoint_aliases", json!([])).contains("mtls_endpoint_aliases is not an object"));
        let plain = refused("mtls_endpoint_aliases", json!({ "token_endpoint": "http://as.test/token" }));
        assert!(plain.contains("metadata: mtls_endpoint_aliases: token_endpoint is not https"), "{plain}");
    }

    #[test]
    fn only_200_with_a_json_object_is_an_answer() {
        // ASM-3.1-01, ASM-6.2-01
        let asked = issuer("https://as.test");
        let text = document().to_string();
        for (status, body) in [
            (302, text.as_str()),
            (204, ""),
            (404, text.as_str()),
            (201, text.as_str()),
            (200, "<html>"),
            (200, "[]"),
            (200, ""),
        ] {
            let result = AuthorizationServerMetadata::read(&asked, &answer(status, body));
            assert!(matches!(result, Err(Error::IssuerMisbehaved(_))), "{status} {body}");
        }
    }
}
