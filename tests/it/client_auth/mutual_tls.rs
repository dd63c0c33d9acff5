//! The client shows a certificate: to a real TLS server that lets nobody in without one, in front of the issuer.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use http::Method;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use crate::issuer::{Document, Endpoint, Options, Proof};
use crate::support::authority::{Authority, Issued, der};
use crate::support::browser::Browser;
use crate::support::site::{Plan, Site, TOKEN_SECONDS};

/// A TLS server that demands a certificate, and passes on to the issuer what comes from those who have one.
struct Gate {
    address: SocketAddr,
    shown: Arc<Mutex<Vec<CertificateDer<'static>>>>,
    _server: JoinSet<()>,
}

impl Gate {
    async fn start(authority: &Authority, behind: SocketAddr) -> Self {
        use rustls::pki_types::pem::PemObject;
        let own = authority.issue("localhost");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier =
            WebPkiClientVerifier::builder_with_provider(authority.roots(), Arc::clone(&provider)).build().unwrap();
        let tls = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(verifier)
            .with_single_cert(vec![der(&own.certificate)], PrivateKeyDer::from_pem_slice(own.key.as_bytes()).unwrap())
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(tls));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shown = Arc::<Mutex<Vec<_>>>::default();
        let seen = Arc::clone(&shown);
        let mut server = JoinSet::new();
        server.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((connection, _)) = listener.accept().await {
                let (acceptor, seen) = (acceptor.clone(), Arc::clone(&seen));
                connections.spawn(async move {
                    // Whoever has no certificate gets no further than this.
                    let Ok(mut inside) = acceptor.accept(connection).await else { return };
                    let certificate = inside.get_ref().1.peer_certificates().unwrap()[0].clone();
                    seen.lock().unwrap().push(certificate.into_owned());
                    let mut issuer = TcpStream::connect(behind).await.unwrap();
                    tokio::io::copy_bidirectional(&mut inside, &mut issuer).await.ok();
                });
            }
        });
        Self { address, shown, _server: server }
    }

    fn shown(&self) -> Vec<CertificateDer<'static>> {
        self.shown.lock().unwrap().clone()
    }
}

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
    let gate = Arc::new(Mutex::new(None));
    let announced = Arc::clone(&gate);
    let site = Site::prepared(plan, async |issuer| {
        let behind = issuer.url().strip_prefix("http://").unwrap().parse().unwrap();
        let opened = Gate::start(authority, behind).await;
        let base = format!("https://localhost:{}", opened.address.port());
        issuer.script().edit(Document::Metadata, move |metadata| {
            let all = [("token_endpoint", "/token"), ("revocation_endpoint", "/revoke")];
            let aliases = all.iter().filter(|(name, _)| aliases.contains(name));
            let aliases = aliases.map(|(name, path)| ((*name).to_owned(), json!(format!("{base}{path}")))).collect();
            metadata.insert("mtls_endpoint_aliases".to_owned(), serde_json::Value::Object(aliases));
        });
        *announced.lock().unwrap() = Some(opened);
    })
    .await;
    let gate = gate.lock().unwrap().take().unwrap();
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
    assert_eq!(gate.shown(), vec![der(&client.certificate); 4], "four requests, and no other connection");
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
