use serde_json::{Value, json};

use super::*;
use crate::oauth::authority::Authority;
use crate::oauth::client::{Client, Protocol};
use crate::oauth::requests::{OfflineAccess, RequestOptions};
use crate::oauth::target::Wanted;
use crate::oauth::testing::{Dice, NOW, answer, client};
use crate::oauth::{EndSession, LoginTransaction, LoginWishes, LogoutWishes, Proofs, State};

const GUID: &str = "72f988bf-86f1-41af-91ab-2d7cd011db47";

/// What one server publishes: its name here, its issuer, and the endpoints as its documentation has them. `.` stands for
/// the issuer without a final slash; empty for an endpoint that is not there.
struct Published {
    name: &'static str,
    issuer: &'static str,
    authorize: &'static str,
    token: &'static str,
    keys: &'static str,
    end_session: &'static str,
    revoke: &'static str,
    scopes: &'static [&'static str],
}

const USUAL: &[&str] = &["openid", "profile", "email", "offline_access"];

#[rustfmt::skip]
const PUBLISHED: &[Published] = &[
    Published { name: "keycloak", issuer: "https://sso.example.com/realms/acme", authorize: "./protocol/openid-connect/auth", token: "./protocol/openid-connect/token", keys: "./protocol/openid-connect/certs", end_session: "./protocol/openid-connect/logout", revoke: "./protocol/openid-connect/revoke", scopes: USUAL },
    Published { name: "keycloak", issuer: "http://localhost:8080/auth/realms/acme", authorize: "./protocol/openid-connect/auth", token: "./protocol/openid-connect/token", keys: "./protocol/openid-connect/certs", end_session: "./protocol/openid-connect/logout", revoke: "", scopes: USUAL },
    Published { name: "auth0", issuer: "https://acme.eu.auth0.com/", authorize: "./authorize", token: "./oauth/token", keys: "./.well-known/jwks.json", end_session: "./oidc/logout", revoke: "./oauth/revoke", scopes: USUAL },
    Published { name: "auth0", issuer: "https://login.example.com/", authorize: "./authorize", token: "./oauth/token", keys: "./.well-known/jwks.json", end_session: "", revoke: "./oauth/revoke", scopes: USUAL },
    Published { name: "entra", issuer: "https://login.microsoftonline.com/72f988bf-86f1-41af-91ab-2d7cd011db47/v2.0", authorize: "https://login.microsoftonline.com/72f988bf-86f1-41af-91ab-2d7cd011db47/oauth2/v2.0/authorize", token: "https://login.microsoftonline.com/72f988bf-86f1-41af-91ab-2d7cd011db47/oauth2/v2.0/token", keys: "https://login.microsoftonline.com/72f988bf-86f1-41af-91ab-2d7cd011db47/discovery/v2.0/keys", end_session: "https://login.microsoftonline.com/72f988bf-86f1-41af-91ab-2d7cd011db47/oauth2/v2.0/logout", revoke: "", scopes: USUAL },
    Published { name: "okta", issuer: "https://acme.okta.com/oauth2/default", authorize: "./v1/authorize", token: "./v1/token", keys: "./v1/keys", end_session: "./v1/logout", revoke: "./v1/revoke", scopes: USUAL },
    Published { name: "okta", issuer: "https://id.example.com/oauth2/aus1a2b3", authorize: "./v1/authorize", token: "./v1/token", keys: "./v1/keys", end_session: "./v1/logout", revoke: "./v1/revoke", scopes: USUAL },
    Published { name: "google", issuer: "https://accounts.google.com", authorize: "./o/oauth2/v2/auth", token: "https://oauth2.googleapis.com/token", keys: "https://www.googleapis.com/oauth2/v3/certs", end_session: "", revoke: "https://oauth2.googleapis.com/revoke", scopes: &["openid", "email", "profile"] },
    Published { name: "cognito", issuer: "https://cognito-idp.eu-west-1.amazonaws.com/eu-west-1_aBcDeFgHi", authorize: "https://acme.auth.eu-west-1.amazoncognito.com/oauth2/authorize", token: "https://acme.auth.eu-west-1.amazoncognito.com/oauth2/token", keys: "./.well-known/jwks.json", end_session: "https://acme.auth.eu-west-1.amazoncognito.com/logout", revoke: "https://acme.auth.eu-west-1.amazoncognito.com/oauth2/revoke", scopes: &["openid", "email", "phone", "profile"] },
    Published { name: "zitadel", issuer: "https://acme-x1.zitadel.cloud", authorize: "./oauth/v2/authorize", token: "./oauth/v2/token", keys: "./oauth/v2/keys", end_session: "./oidc/v1/end_session", revoke: "./oauth/v2/revoke", scopes: USUAL },
    Published { name: "zitadel", issuer: "https://id.example.com", authorize: "./oauth/v2/authorize", token: "./oauth/v2/token", keys: "./oauth/v2/keys", end_session: "./oidc/v1/end_session", revoke: "./oauth/v2/revoke", scopes: USUAL },
    Published { name: "authentik", issuer: "https://id.example.com/application/o/acme/", authorize: "https://id.example.com/application/o/authorize/", token: "https://id.example.com/application/o/token/", keys: "./jwks/", end_session: "./end-session/", revoke: "https://id.example.com/application/o/revoke/", scopes: &["openid", "profile", "email"] },
    Published { name: "authentik", issuer: "https://id.example.com/", authorize: "./application/o/authorize/", token: "./application/o/token/", keys: "./application/o/acme/jwks/", end_session: "./application/o/acme/end-session/", revoke: "./application/o/revoke/", scopes: USUAL },
    Published { name: "hydra", issuer: "https://hydra.example.com/", authorize: "./oauth2/auth", token: "./oauth2/token", keys: "./.well-known/jwks.json", end_session: "./oauth2/sessions/logout", revoke: "./oauth2/revoke", scopes: &["offline_access", "offline", "openid"] },
    Published { name: "hydra", issuer: "https://keen-x1.projects.oryapis.com", authorize: "./oauth2/auth", token: "./oauth2/token", keys: "./.well-known/jwks.json", end_session: "./oauth2/sessions/logout", revoke: "./oauth2/revoke", scopes: &["offline_access", "offline", "openid"] },
    Published { name: "logto", issuer: "https://acme.logto.app/oidc", authorize: "./auth", token: "./token", keys: "./jwks", end_session: "./session/end", revoke: "./token/revocation", scopes: USUAL },
    Published { name: "curity", issuer: "https://id.example.com/oauth/v2/oauth-anonymous", authorize: "https://id.example.com/oauth/v2/oauth-authorize", token: "https://id.example.com/oauth/v2/oauth-token", keys: "./jwks", end_session: "https://id.example.com/oauth/v2/oauth-session/logout", revoke: "https://id.example.com/oauth/v2/oauth-revoke", scopes: &["openid", "profile", "email"] },
    Published { name: "pingone", issuer: "https://auth.pingone.eu/0a1b2c3d-0000-4000-8000-000000000000/as", authorize: "./authorize", token: "./token", keys: "./jwks", end_session: "./signoff", revoke: "./revoke", scopes: &["openid", "profile", "email"] },
    Published { name: "pingfederate", issuer: "https://pf.example.com", authorize: "./as/authorization.oauth2", token: "./as/token.oauth2", keys: "./pf/JWKS", end_session: "./idp/startSLO.ping", revoke: "./as/revoke_token.oauth2", scopes: USUAL },
];

fn authority(issuer: &str) -> Authority {
    Authority::new(Issuer::new(issuer.to_owned()))
}

fn read(authority: &Authority, document: &Value) -> AuthorizationServerMetadata {
    AuthorizationServerMetadata::read(authority, &answer(200, &document.to_string())).expect("reads")
}

impl Published {
    fn document(&self) -> Value {
        let base = self.issuer.trim_end_matches('/');
        let full = |text: &str| match text.strip_prefix('.') {
            Some(rest) => json!(format!("{base}{rest}")),
            None if text.is_empty() => Value::Null,
            None => json!(text),
        };
        json!({
            "issuer": self.issuer,
            "authorization_endpoint": full(self.authorize),
            "token_endpoint": full(self.token),
            "jwks_uri": full(self.keys),
            "end_session_endpoint": full(self.end_session),
            "revocation_endpoint": full(self.revoke),
            "scopes_supported": self.scopes,
        })
    }

    fn metadata(&self) -> AuthorizationServerMetadata {
        read(&authority(self.issuer), &self.document())
    }

    /// The parameters of a login there that a profile may have a say in.
    fn asked(&self, client: &Client, wishes: &LoginWishes) -> Vec<(String, String)> {
        let proofs = Proofs { now: NOW, random: &Dice::default() };
        let (_, asked) = LoginTransaction::begin(client, &self.metadata(), wishes, State::new("s".into()), &proofs);
        let mut pairs: Vec<_> = asked.url().query_pairs().into_owned().collect();
        pairs.retain(|(name, _)| ["scope", "prompt", "access_type"].contains(&name.as_str()));
        pairs
    }
}

fn published(name: &str) -> &'static Published {
    PUBLISHED.iter().find(|it| it.name == name).expect(name)
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn every_product_is_recognised_by_what_it_publishes() {
    for provider in Provider::all() {
        assert!(PUBLISHED.iter().any(|it| it.name == provider.name), "{} has no metadata here", provider.name);
        assert_eq!(Provider::named(provider.name), Some(provider));
    }
    for it in PUBLISHED {
        assert_eq!(it.metadata().provider.map(|provider| provider.name), Some(it.name), "{}", it.issuer);
    }
}

#[test]
fn an_address_tells_the_product_where_it_can_belong_to_no_other() {
    let told: Vec<_> = PUBLISHED
        .iter()
        .filter_map(|it| {
            let issuer = Issuer::new(it.issuer.to_owned());
            let provider = ProviderChoice::Auto.by_address(&issuer)?;
            assert_eq!(provider.name, it.name, "{}", it.issuer);
            Some(it.issuer)
        })
        .collect();
    for issuer in [
        "https://acme.eu.auth0.com/",
        "https://accounts.google.com",
        "https://cognito-idp.eu-west-1.amazonaws.com/eu-west-1_aBcDeFgHi",
        "https://acme.logto.app/oidc",
    ] {
        assert!(told.contains(&issuer), "{issuer}");
    }
    for issuer in [
        "https://sso.example.com/realms/acme",
        "https://sso.example.com/am/oauth2/realms/root/realms/alpha",
        "https://id.example.com/application/o/acme/",
        "https://id.example.com/oauth2/default",
        "https://id.example.com/oidc",
    ] {
        assert_eq!(ProviderChoice::Auto.by_address(&Issuer::new(issuer.to_owned())), None, "{issuer}");
    }
    // The slash that people forget is told of, so the product has to be recognised without it.
    let slashless = Issuer::new("https://acme.auth0.com".to_owned());
    assert_eq!(ProviderChoice::Auto.by_address(&slashless).map(|it| it.name), Some("auth0"));
}

#[test]
fn what_only_looks_a_little_like_a_product_is_none() {
    let base = "https://as.test";
    for (issuer, authorize, token, keys, end) in [
        (base, "/authorize", "/token", "/jwks", "/logout"),
        (base, "/auth", "/token", "/jwks", "/session/end"),
        ("https://as.test/oidc", "/oidc/auth", "/oidc/token", "/oidc/jwks", "/oidc/session/end"),
        (base, "/oauth/authorize", "/oauth/token", "/.well-known/jwks.json", "/logout"),
        (base, "/oauth/authorize", "/oauth/token", "/oauth/discovery/keys", ""),
        (base, "/oauth2/authorize", "/oauth2/token", "/.well-known/jwks.json", "/oauth2/logout"),
        ("https://as.test/realms/acme", "/realms/acme/authorize", "/realms/acme/token", "/jwks", ""),
        ("https://login.microsoftonline.com.evil.test/common/v2.0", "/authorize", "/token", "/jwks", ""),
        ("https://accounts.google.com.evil.test", "/o/oauth2/v2/auth", "/token", "/jwks", ""),
        ("https://evil.test/x.auth0.com/", "/x", "/token", "/jwks", ""),
    ] {
        let document = json!({
            "issuer": issuer,
            "authorization_endpoint": format!("{base}{authorize}"),
            "token_endpoint": format!("{base}{token}"),
            "jwks_uri": format!("{base}{keys}"),
            "end_session_endpoint": if end.is_empty() { Value::Null } else { json!(format!("{base}{end}")) },
        });
        assert_eq!(read(&authority(issuer), &document).provider, None, "{issuer} {authorize}");
    }
}

#[test]
fn the_configuration_goes_before_what_is_recognised() {
    let google = published("google");
    let choose = |provider| read(&Authority { provider, ..authority(google.issuer) }, &google.document()).provider;
    assert_eq!(choose(ProviderChoice::None), None);
    let okta = Provider::named("okta").expect("is known");
    assert_eq!(choose(ProviderChoice::Named(okta)), Some(okta));
}

#[test]
fn a_login_asks_each_product_for_a_refresh_token_in_its_own_way() {
    let all = "openid profile email offline_access";
    for (name, expected) in [
        ("keycloak", vec![("scope", "openid profile email")]),
        ("auth0", vec![("scope", all)]),
        ("entra", vec![("scope", all)]),
        ("okta", vec![("scope", all)]),
        ("google", vec![("scope", "openid email profile"), ("access_type", "offline"), ("prompt", "consent")]),
        ("cognito", vec![("scope", "openid email profile")]),
        ("zitadel", vec![("scope", all)]),
        ("authentik", vec![("scope", all)]),
        ("hydra", vec![("scope", "openid offline_access")]),
        ("logto", vec![("scope", all), ("prompt", "consent")]),
        ("curity", vec![("scope", "openid profile email")]),
        ("pingone", vec![("scope", "openid profile email")]),
        // Nothing is known of it there, so it is what the specification says.
        ("pingfederate", vec![("scope", all), ("prompt", "consent")]),
    ] {
        assert_eq!(published(name).asked(&client(), &LoginWishes::default()), pairs(&expected), "{name}");
    }
}

#[test]
fn what_is_configured_goes_before_what_a_product_needs() {
    let asked = |name: &str, client: &Client| published(name).asked(client, &LoginWishes::default());
    let requests = |offline_access, consent| RequestOptions { offline_access, consent, ..RequestOptions::default() };
    let listed = Client { scopes: Some(vec!["openid".into(), "offline_access".into()]), ..client() };
    assert_eq!(asked("keycloak", &listed), pairs(&[("scope", "openid offline_access"), ("prompt", "consent")]));
    assert_eq!(
        asked("auth0", &Client { scopes: Some(vec!["api".into()]), ..client() }),
        pairs(&[("scope", "openid api")])
    );
    let wanted = Client { requests: requests(OfflineAccess::Always, Some(Consent::Never)), ..client() };
    assert_eq!(asked("keycloak", &wanted), pairs(&[("scope", "openid profile email offline_access")]));
    let unwanted = Client { requests: requests(OfflineAccess::Never, Some(Consent::Always)), ..client() };
    assert_eq!(asked("okta", &unwanted), pairs(&[("scope", "openid profile email"), ("prompt", "consent")]));
    let online = Client { extra_params: vec![("access_type".into(), "online".into())], ..client() };
    let expected = pairs(&[("scope", "openid email profile"), ("access_type", "online"), ("prompt", "consent")]);
    assert_eq!(asked("google", &online), expected);
    // So does what a page wishes: a silent check asks nobody.
    let silent = LoginWishes { prompt: Some("none".into()), ..LoginWishes::default() };
    let quiet = published("google").asked(&client(), &silent);
    assert_eq!(
        quiet.iter().filter(|(name, _)| name == "prompt").collect::<Vec<_>>(),
        [&("prompt".into(), "none".into())]
    );
}

#[test]
fn a_sign_out_speaks_the_products_words_unless_others_are_configured() {
    let way = |it: &Published, style| {
        let wishes = LogoutWishes { post_logout_redirect_uri: "https://app.test/back", ..LogoutWishes::default() };
        EndSession::new(&client(), &it.metadata(), style, &wishes).map(|way| way.url().to_string())
    };
    let back = "https%3A%2F%2Fapp.test%2Fback";
    let (cognito, keycloak) = (published("cognito"), published("keycloak"));
    let host = "https://acme.auth.eu-west-1.amazoncognito.com/logout?client_id=app";
    assert_eq!(way(cognito, LogoutStyle::Auto), Some(format!("{host}&logout_uri={back}")));
    assert_eq!(way(cognito, LogoutStyle::Standard), Some(format!("{host}&post_logout_redirect_uri={back}")));
    let end = "https://sso.example.com/realms/acme/protocol/openid-connect/logout?client_id=app";
    assert_eq!(way(keycloak, LogoutStyle::Auto), Some(format!("{end}&post_logout_redirect_uri={back}")));
    let older = PUBLISHED.iter().find(|it| it.name == "auth0" && it.end_session.is_empty()).expect("is there");
    let expected = format!("https://login.example.com/v2/logout?client_id=app&returnTo={back}");
    assert_eq!(way(older, LogoutStyle::Auto), Some(expected));
    assert_eq!(way(published("google"), LogoutStyle::Auto), None);
}

/// Everything that is said of a configuration.
fn told(name: &str, issuer: &str, client: &Client, change: impl FnOnce(&mut Practice<'_>)) -> Vec<String> {
    let issuer = Issuer::new(issuer.to_owned());
    let mut practice = Practice {
        issuer: &issuer,
        client,
        tenants_listed: false,
        front_channel_with_iss: false,
        logout: LogoutStyle::Auto,
        revokes: true,
        revokes_first: false,
    };
    change(&mut practice);
    Provider::named(name).expect(name).advice(&practice).iter().map(ToString::to_string).collect()
}

fn with_scopes(scopes: &[&str]) -> Client {
    Client { scopes: Some(scopes.iter().map(|&it| it.to_owned()).collect()), ..client() }
}

#[test]
fn a_refresh_token_that_will_not_come_or_comes_wrongly_is_told_of() {
    let plain = with_scopes(&["openid"]);
    for provider in Provider::all() {
        let issuer = published(provider.name).issuer;
        let says = |client: &Client| told(provider.name, issuer, client, |_| {}).join("\n");
        let (is_needed, is_unwanted) = match provider.offline {
            Offline::Needed(_) => (true, false),
            Offline::Unwanted(_) => (false, true),
            Offline::Announced => (false, false),
        };
        assert_eq!(says(&plain).contains("\"offline_access\" is not asked for"), is_needed, "{}", provider.name);
        let asking = with_scopes(&["openid", "offline_access"]);
        assert_eq!(says(&asking).contains("\"offline_access\" is asked for"), is_unwanted, "{}", provider.name);
        assert!(!says(&client()).contains("offline_access\" is"), "the defaults are right: {}", provider.name);
    }
    assert!(
        !told("hydra", "https://hydra.test/", &with_scopes(&["openid", "offline"]), |_| {})
            .join("")
            .contains("not asked")
    );
    let requests = RequestOptions { offline_access: OfflineAccess::Never, ..RequestOptions::default() };
    let never = told("zitadel", "https://id.test", &Client { requests, ..client() }, |_| {});
    insta::assert_snapshot!(never.join("\n"), @r#"issuer.offline_access: "offline_access" is not asked for, and without it Zitadel issues no refresh token: people sign in again whenever an access token expires; take this out"#);
    insta::assert_snapshot!(told("google", "https://accounts.google.com", &with_scopes(&["openid", "offline_access"]), |_| {}).join("\n"), @r#"issuer.scopes: "offline_access" is asked for: Google refuses it as a scope; access_type = "offline" is its word for it; take it out of the list"#);
}

#[test]
fn each_caution_comes_when_its_condition_is_met_and_goes_when_its_remedy_is_taken() {
    let keys = |told: Vec<String>| {
        told.iter().map(|it| it.split(':').next().unwrap_or_default().to_owned()).collect::<Vec<_>>()
    };
    let none: [&str; 0] = [];
    let auth0 = "https://acme.auth0.com/";
    assert_eq!(keys(told("auth0", auth0, &client(), |_| {})), ["issuer.audience"]);
    let requests = RequestOptions { audience: Some("api".into()), ..RequestOptions::default() };
    let asking = Client { requests, ..client() };
    assert_eq!(keys(told("auth0", auth0, &asking, |_| {})), none);
    assert_eq!(keys(told("auth0", "https://acme.auth0.com", &asking, |_| {})), ["issuer.url"]);

    let entra = format!("https://login.microsoftonline.com/{GUID}/v2.0");
    assert_eq!(keys(told("entra", &entra, &client(), |_| {})), ["issuer.scopes"]);
    let own = with_scopes(&["openid", "offline_access", "api://1234/read"]);
    assert_eq!(keys(told("entra", &entra, &own, |_| {})), none);
    for graph in ["User.Read", "https://graph.microsoft.com/.default", "Mail.Send"] {
        let scopes = with_scopes(&["openid", "offline_access", "api://1234/read", graph]);
        assert_eq!(keys(told("entra", &entra, &scopes, |_| {})), ["issuer.scopes"], "{graph}");
    }
    assert_eq!(keys(told("entra", &entra, &own, |it| it.front_channel_with_iss = true)), ["logout.front_channel"]);
    let any = "https://login.microsoftonline.com/organizations/v2.0";
    let consumers = "https://login.microsoftonline.com/consumers/v2.0";
    assert_eq!(keys(told("entra", consumers, &own, |_| {})), none);
    assert_eq!(keys(told("entra", &any.replace("organizations", "common"), &own, |_| {})), ["issuer.tenants"]);
    assert_eq!(keys(told("entra", any, &own, |_| {})), ["issuer.tenants"]);
    assert_eq!(keys(told("entra", any, &own, |it| it.tenants_listed = true)), none);

    let keycloak = "https://sso.test/realms/acme";
    assert_eq!(keys(told("keycloak", keycloak, &client(), |it| it.revokes_first = true)), ["logout.order"]);
    let quiet = |it: &mut Practice<'_>| (it.revokes, it.revokes_first) = (false, true);
    assert_eq!(keys(told("keycloak", keycloak, &client(), quiet)), none);
    assert_eq!(keys(told("okta", "https://acme.okta.com", &client(), |_| {})), ["issuer.url"]);
    assert_eq!(keys(told("okta", "https://acme.okta.com/oauth2/default", &client(), |_| {})), none);
    assert_eq!(keys(told("logto", "https://acme.logto.app/oidc", &client(), |_| {})), ["issuer.resource"]);
    let requests = RequestOptions { resources: vec!["https://api.test".into()], ..RequestOptions::default() };
    assert_eq!(keys(told("logto", "https://acme.logto.app/oidc", &Client { requests, ..client() }, |_| {})), none);
}

#[test]
fn what_routes_ask_for_is_asked_for_too() {
    let asking_later = |wanted: Wanted| {
        let requests = RequestOptions { later: vec![Wanted::default(), wanted], ..RequestOptions::default() };
        Client { requests, ..client() }
    };
    let (audience, resource) = (Some("api".to_owned()), Some("https://api.test".to_owned()));
    let scopes = |scope: &str| Wanted { scopes: vec![scope.to_owned()], ..Wanted::default() };
    let entra = format!("https://login.microsoftonline.com/{GUID}/v2.0");
    for (name, issuer, wanted, is_told) in [
        ("auth0", "https://acme.auth0.com/", Wanted { audience, ..Wanted::default() }, false),
        ("auth0", "https://acme.auth0.com/", Wanted { resource: resource.clone(), ..Wanted::default() }, true),
        ("logto", "https://acme.logto.app/oidc", Wanted { resource, ..Wanted::default() }, false),
        ("logto", "https://acme.logto.app/oidc", Wanted::default(), true),
        ("entra", &entra, scopes("api://1234/read"), false),
        ("entra", &entra, scopes("openid"), true),
    ] {
        let found = told(name, issuer, &asking_later(wanted.clone()), |_| {});
        assert_eq!(found.len(), usize::from(is_told), "{name} {wanted:?}: {found:?}");
    }
}

#[test]
fn a_server_without_revocation_or_logout_is_told_of() {
    let keys = |it: &Published, logout, revokes| {
        let (issuer, client) = (Issuer::new(it.issuer.to_owned()), client());
        let practice = Practice {
            issuer: &issuer,
            client: &client,
            tenants_listed: false,
            front_channel_with_iss: false,
            logout,
            revokes,
            revokes_first: false,
        };
        it.metadata().advice(&practice).iter().map(|it| it.key).collect::<Vec<_>>()
    };
    let none: [&str; 0] = [];
    assert_eq!(keys(published("keycloak"), LogoutStyle::Auto, true), none);
    assert_eq!(keys(published("entra"), LogoutStyle::Auto, true), ["logout.revoke"]);
    assert_eq!(keys(published("entra"), LogoutStyle::Auto, false), none);
    // That it has none is known, and nobody can change it.
    assert_eq!(keys(published("google"), LogoutStyle::Auto, true), none);
    let older = PUBLISHED.iter().find(|it| it.name == "auth0" && it.end_session.is_empty()).expect("is there");
    assert_eq!(keys(older, LogoutStyle::Auto, true), none);
    assert_eq!(keys(older, LogoutStyle::Standard, true), ["logout.style"]);
}

#[test]
fn a_plain_oauth_login_gets_what_a_product_needs_too() {
    let oauth = Client { protocol: Protocol::OAuth, ..client() };
    assert_eq!(
        published("zitadel").asked(&oauth, &LoginWishes::default()),
        pairs(&[("scope", "profile email offline_access")])
    );
}

#[test]
fn patterns_cover_the_whole_text() {
    for (pattern, text, expected) in [
        ("https://*.okta.com", "https://a.b.okta.com", true),
        ("https://*.okta.com", "https://.okta.com", false),
        ("https://*.okta.com", "https://a.okta.com/", false),
        ("https://*.okta.com", "https://a/b.okta.com", false),
        ("http**/realms/*", "https://a/b/realms/c", true),
        ("http**/realms/*", "https://a/realms/c/d", false),
        ("**/token", "/token", false),
        ("**/token", "x/y/token", true),
        ("", "", true),
        ("*", "é", true),
    ] {
        assert_eq!(fits(pattern, text), expected, "{pattern} {text}");
    }
}
