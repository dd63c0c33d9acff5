//! The client shows a certificate: to a real TLS server that lets nobody in without one, in front of the issuer.

use http::Method;
use serde_json::json;

use crate::issuer::{Document, Endpoint, Options, Proof};
use crate::support::authority::{Authority, Issued, der};
use crate::support::browser::Browser;
use crate::support::gate::{Admits, Gate};
use crate::support::site::{Plan, Site, TOKEN_SECONDS};

/// A site whose issuer is asked through a gate for tokens, and for revocations too if `aliases` says so.
async fn behind_a_gate(client: &Issued, authority: &Authority, aliases: &'static [&'static str]) -> (Site, Gate) {
    let plan = Plan {
        issuer: Options { proof: Proof::Certificate, ..Options::default() },
        credentials: "client_auth = \"tls_client_auth\"\n\
                      mtls = { certificate = \"client.pem\", key = { file = \"client.key\" } }\n\
                      ca_file = \"ca.pem\""
            .to_owned(),
        beside: vec![
            ("client.pem".to_owned(), client.certificate.clone()),
            ("client.key".to_owned(), client.key.clone()),
            ("ca.pem".to_owned(), authority.certificate.clone()),
        ],
        more: "[logout]\norder = \"before\"".to_owned(),
        ..Plan::default()
    };
    let gate = Gate::open(authority, Admits::Known).await;
    let base = gate.url();
    let site = Site::prepared(plan, async |issuer| {
        gate.lead_to(issuer.url());
        let base = base.clone();
        issuer.script().edit(Document::Metadata, move |metadata| {
            let all = [("token_endpoint", "/token"), ("revocation_endpoint", "/revoke")];
            let aliases = all.iter().filter(|(name, _)| aliases.contains(name));
            let aliases = aliases.map(|(name, path)| ((*name).to_owned(), json!(format!("{base}{path}")))).collect();
            metadata.insert("mtls_endpoint_aliases".to_owned(), serde_json::Value::Object(aliases));
        });
    })
    .await;
    (site, gate)
}

#[tokio::test]
async fn the_certificate_is_shown_wherever_the_client_has_to_be_known() {
    // MTLS-2-01, MTLS-5-01, CS-FH-05, FAPI-5.3.3.1-07
    let authority = Authority::new();
    let client = authority.issue("spa-bff");
    let (site, gate) = behind_a_gate(&client, &authority, &["token_endpoint", "revocation_endpoint"]).await;
    let browser = site.signed_in().await;
    site.pass(TOKEN_SECONDS + 10);
    assert_eq!(site.call(&browser).await.status, 200);
    assert_eq!(browser.fetch(Method::POST, &site.at("/bff/logout")).await.status, 200);

    let script = site.issuer.script();
    assert_eq!((script.calls(Endpoint::Token), script.calls(Endpoint::Revoke)), (2, 2));
    assert_eq!(gate.shown(), vec![Some(der(&client.certificate)); 4], "four requests, and no other connection");
    for request in [script.requests_to(Endpoint::Token), script.requests_to(Endpoint::Revoke)].concat() {
        assert_eq!(request.form.get("client_id"), Some("spa-bff"));
        assert!(!request.headers.contains_key("authorization") && request.form.get("client_assertion").is_none());
    }
}

#[tokio::test]
async fn an_endpoint_without_an_alias_is_asked_where_it_is() {
    // MTLS-5-01
    let authority = Authority::new();
    let client = authority.issue("spa-bff");
    let (site, gate) = behind_a_gate(&client, &authority, &["token_endpoint"]).await;
    let browser = site.signed_in().await;
    assert_eq!(browser.fetch(Method::POST, &site.at("/bff/logout")).await.status, 200);
    assert_eq!(gate.shown().len(), 1, "the code alone");
    assert_eq!(site.issuer.script().calls(Endpoint::Revoke), 2);
}

#[tokio::test]
async fn a_certificate_that_the_server_does_not_trust_opens_nothing() {
    let authority = Authority::new();
    let stranger = Authority::new().issue("spa-bff");
    let (site, gate) = behind_a_gate(&stranger, &authority, &["token_endpoint"]).await;
    let browser = Browser::new();
    let page = browser.follow(&site.at("/bff/login")).await;
    assert_eq!(page.status, 502, "{}", page.text());
    assert_eq!((gate.shown().len(), site.issuer.token_calls()), (0, 0));
    assert_eq!(browser.fetch(Method::GET, &site.at("/bff/user")).await.status, 401);
}
