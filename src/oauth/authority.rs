//! Which authorization server is meant, and how it is reached.

use url::Url;

use super::client::Protocol;
use super::document::Document;
use super::endpoint::{Endpoint, InvalidEndpoint, PlainHttp};
use super::error::{Misbehaviour, presentable};
use super::provider::{Provider, ProviderChoice};
use super::security_profile::SecurityProfile;
use super::tenants::{PLACE, Tenants};
use super::values::Issuer;

/// Which authorization server is meant, and how it is reached.
#[derive(Clone, Debug)]
pub struct Authority {
    /// Its identifier as it is configured. Its metadata has to name it letter by letter, but for the place of a tenant.
    pub issuer: Issuer,
    /// What it speaks.
    pub protocol: Protocol,
    /// Whether it is to bind tokens to keys of ours (RFC 9449).
    pub dpop: bool,
    /// What it is held to besides.
    pub profile: SecurityProfile,
    /// Whether it may be spoken to in clear text.
    pub plain_http: PlainHttp,
    /// Which product it is.
    pub provider: ProviderChoice,
    /// The tenants whose people may sign in, where the server is one issuer per tenant; empty means all.
    pub tenants: Vec<String>,
    /// Where requests of our own go instead of the issuer's address, if anywhere: browsers reach it by another way than we
    /// do. Without final slash.
    pub backchannel: Option<Url>,
}

impl Authority {
    /// The server with this identifier, by its own address; it speaks OpenID Connect.
    pub const fn new(issuer: Issuer) -> Self {
        Self {
            issuer,
            protocol: Protocol::OpenIdConnect,
            dpop: false,
            profile: SecurityProfile::None,
            plain_http: PlainHttp::LoopbackOnly,
            provider: ProviderChoice::Auto,
            tenants: Vec::new(),
            backchannel: None,
        }
    }

    /// The product, where that is certain before there is metadata: it is named, or the address can belong to no other.
    pub fn certain_provider(&self) -> Option<&'static Provider> {
        self.provider.by_address(&self.issuer)
    }

    /// Whether this is the issuer of the document, or which tenants it has.
    pub(super) fn examine(&self, document: &Document) -> Result<Option<Tenants>, Misbehaviour> {
        let named = document.required_text("issuer")?;
        let asked = self.issuer.as_str();
        if named == asked && self.tenants.is_empty() {
            return Ok(None);
        }
        if named == asked {
            let what = "is issuer.url itself, which leaves no tenant open, so issuer.tenants would hold nobody off: take the \
                        list out";
            return Err(document.fault("issuer", what));
        }
        let word = self.certain_provider().and_then(|provider| provider.tenant_word(&self.issuer));
        let tenants = word.and_then(|word| Tenants::read(&self.issuer, word, named, &self.tenants));
        let Some(tenants) = tenants else {
            let what = format!(
                "is not, letter by letter, the issuer that was asked: it is {:?} and issuer.url is {asked:?}, {}",
                presentable(named),
                difference(asked, named)
            );
            return Err(document.fault("issuer", &what));
        };
        if tenants.admit_nobody() {
            let what = format!(
                "is {:?}, one tenant, and issuer.tenants does not list it, so nobody could sign in: list its id, or take \
                 the list out",
                presentable(named)
            );
            return Err(document.fault("issuer", &what));
        }
        Ok(Some(tenants))
    }

    /// An endpoint that we ask ourselves.
    pub(super) fn inner_endpoint(&self, text: &str) -> Result<Endpoint, InvalidEndpoint> {
        let endpoint = Endpoint::parse(text, self.plain_http)?;
        match self.moved(text) {
            Some(moved) => endpoint.reached_at(&moved, self.plain_http),
            None => Ok(endpoint),
        }
    }

    /// The same address by our own way: what lies below the issuer lies below the other address, and what lies on its host
    /// lies on the other host.
    pub(super) fn moved(&self, text: &str) -> Option<String> {
        let inner = self.backchannel.as_ref()?;
        let outer = self.issuer.as_str().trim_end_matches('/');
        if let Some(rest) = text.strip_prefix(outer).filter(|rest| rest.starts_with('/')) {
            return Some(format!("{}{rest}", inner.as_str().trim_end_matches('/')));
        }
        let (outer, url) = (Url::parse(outer).ok()?, Url::parse(text).ok()?);
        let rest = text.strip_prefix(&url.origin().ascii_serialization())?;
        (url.origin() == outer.origin()).then(|| format!("{}{rest}", inner.origin().ascii_serialization()))
    }
}

/// In what two issuers differ, and what to do about it.
fn difference(asked: &str, named: &str) -> &'static str {
    const OTHER: &str = "which is another server, or another address of it: write issuer.url as the metadata has it";
    if named.contains(PLACE) {
        return "which stands for one issuer for each tenant: write the tenant's id in issuer.url; or, for people of several, \
                the address without a slash at its end, such as https://login.microsoftonline.com/organizations/v2.0, and \
                provider = \"entra\"";
    }
    if asked.trim_end_matches('/') == named.trim_end_matches('/') {
        return "which differ by the slash at the end: write issuer.url as the metadata has it";
    }
    match (Url::parse(asked), Url::parse(named)) {
        (Ok(asked), Ok(named)) if asked.path() == named.path() => {
            "which differ by the host: write issuer.url as the metadata has it, and the address that works from here as \
             issuer.backchannel_url"
        }
        (Ok(_) | Err(_), Ok(_) | Err(_)) => OTHER,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::oauth::metadata::AuthorizationServerMetadata;
    use crate::oauth::testing::answer;

    fn behind(issuer: &str, inner: &str) -> Authority {
        let backchannel = Some(inner.parse().expect("is a URL"));
        Authority { backchannel, plain_http: PlainHttp::Allowed, ..Authority::new(Issuer::new(issuer.to_owned())) }
    }

    #[test]
    fn what_lies_at_the_issuer_is_reached_by_our_own_way_and_nothing_else_moves() {
        let keycloak = behind("https://sso.test/auth/realms/a", "http://keycloak:8080/realms/a/");
        let authentik = behind("https://id.test/application/o/app/", "http://authentik:9000/application/o/app/");
        for (authority, outer, inner) in [
            (&keycloak, "https://sso.test/auth/realms/a/token?x=1", Some("http://keycloak:8080/realms/a/token?x=1")),
            (&keycloak, "https://sso.test/auth/realms/ab/token", Some("http://keycloak:8080/auth/realms/ab/token")),
            (&keycloak, "https://sso.test.evil.test/auth/realms/a/token", None),
            (&keycloak, "http://keycloak:8080/realms/a/token", None),
            (&authentik, "https://id.test/application/o/token/", Some("http://authentik:9000/application/o/token/")),
        ] {
            assert_eq!(authority.moved(outer).as_deref(), inner, "{outer}");
        }
        assert_eq!(Authority::new(Issuer::new("https://as.test".into())).moved("https://as.test/token"), None);
    }

    #[test]
    fn browsers_go_to_the_front_and_requests_of_ours_to_the_back() {
        let authority = behind("https://sso.test/realms/a", "http://keycloak:8080/realms/a");
        let request = AuthorizationServerMetadata::request(&authority).expect("is a request");
        assert_eq!(request.uri(), "http://keycloak:8080/realms/a/.well-known/openid-configuration");
        let request = AuthorizationServerMetadata::oauth_request(&authority).expect("is a request");
        assert_eq!(request.uri(), "http://keycloak:8080/.well-known/oauth-authorization-server/realms/a");
        let at = |path: &str| format!("https://sso.test/realms/a/{path}");
        let document = json!({
            "issuer": "https://sso.test/realms/a",
            "authorization_endpoint": at("auth"),
            "end_session_endpoint": at("logout"),
            "token_endpoint": at("token"),
            "jwks_uri": "http://keycloak:8080/realms/a/certs",
            "revocation_endpoint": at("revoke"),
        });
        let metadata =
            AuthorizationServerMetadata::read(&authority, &answer(200, &document.to_string())).expect("reads");
        assert_eq!(metadata.authorization_endpoint.uri().to_string(), at("auth"));
        assert_eq!(metadata.end_session_endpoint.map(|it| it.uri().to_string()), Some(at("logout")));
        assert_eq!(metadata.token_endpoint.uri(), "http://keycloak:8080/realms/a/token");
        // The name under which it is the audience of assertions stays.
        assert_eq!(metadata.token_endpoint.as_str(), at("token"));
        let ours = [metadata.jwks_uri, metadata.revocation_endpoint].map(|it| it.map(|it| it.uri().to_string()));
        let expected = ["http://keycloak:8080/realms/a/certs", "http://keycloak:8080/realms/a/revoke"];
        assert_eq!(ours, expected.map(|it| Some(it.to_owned())));
        // What is still said of the issuer is compared as ever.
        let mut other = document.clone();
        other["issuer"] = json!("http://keycloak:8080/realms/a");
        let refusal = AuthorizationServerMetadata::read(&authority, &answer(200, &other.to_string()));
        assert!(refusal.is_err());
    }

    /// What is found of the metadata that names this issuer, where a list of tenants says who may sign in.
    fn examined(asked: &str, tenants: &[&str], named: &str) -> Result<bool, String> {
        let tenants = tenants.iter().map(|&it| it.to_owned()).collect();
        let provider = Provider::named("entra").map_or_else(ProviderChoice::default, ProviderChoice::Named);
        let authority = Authority { tenants, provider, ..Authority::new(Issuer::new(asked.to_owned())) };
        let document = json!({ "issuer": named }).to_string();
        let document = Document::read("metadata", document.as_bytes()).expect("reads");
        authority.examine(&document).map(|tenants| tenants.is_some()).map_err(|fault| fault.to_string())
    }

    const CONSUMERS: &str = "9188040d-6c67-4c5b-b112-36a304b66dad";
    const OTHER: &str = "22222222-2222-4222-8222-222222222222";

    #[test]
    fn a_list_without_the_one_tenant_that_the_metadata_names_is_refused_at_once() {
        let asked = "https://as.test/consumers/v2.0";
        let named = format!("https://as.test/{CONSUMERS}/v2.0");
        assert_eq!(examined(asked, &[], &named), Ok(true));
        assert_eq!(examined(asked, &[OTHER, CONSUMERS], &named), Ok(true));
        let refusal = examined(asked, &[OTHER], &named).expect_err("is refused");
        assert!(refusal.contains(&named) && refusal.contains("issuer.tenants does not list it"), "{refusal}");
        assert_eq!(examined(asked, &[OTHER], "https://as.test/{tenantid}/v2.0"), Ok(true));
    }

    #[test]
    fn a_list_of_tenants_that_would_hold_nobody_off_is_refused() {
        let asked = "https://as.test/organizations/v2.0";
        assert_eq!(examined(asked, &[], asked), Ok(false));
        let refusal = examined(asked, &[OTHER], asked).expect_err("is refused");
        assert!(refusal.contains("issuer.tenants would hold nobody off: take the list out"), "{refusal}");
    }

    #[test]
    fn another_issuer_is_told_with_what_differs() {
        // ASM-3.3-01
        for (asked, named, hint) in [
            ("https://as.test", "https://as.test/", "by the slash at the end"),
            ("http://keycloak:8080/realms/a", "https://sso.test/realms/a", "issuer.backchannel_url"),
            ("https://as.test/a", "https://as.test/b", "another server, or another address"),
            ("https://as.test/common/v2.0/", "https://as.test/{tenantid}/v2.0", "write the tenant's id in issuer.url"),
        ] {
            let refusal = difference(asked, named);
            assert!(refusal.contains(hint), "{asked} {named}: {refusal}");
        }
    }
}
