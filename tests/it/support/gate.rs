//! What stands before a server and ends TLS: it asks for the client's certificate, and says behind it whose it was.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, OnceLock};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::authority::{Authority, der, thumbprint};
use crate::issuer::CERTIFICATE;

/// Who is let in.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Admits {
    /// Who shows a certificate of the authority.
    Known,
    /// Who shows none, too.
    Anybody,
}

/// A running gate, as `localhost`. Dropping it stops it.
pub(crate) struct Gate {
    pub(crate) address: SocketAddr,
    behind: Arc<OnceLock<SocketAddr>>,
    shown: Arc<Mutex<Vec<Option<CertificateDer<'static>>>>>,
    _server: JoinSet<()>,
}

impl Gate {
    /// Opens it. It leads nowhere yet.
    pub(crate) async fn open(authority: &Authority, admits: Admits) -> Self {
        let own = authority.issue("localhost");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(authority.roots(), Arc::clone(&provider));
        let verifier = if admits == Admits::Anybody { verifier.allow_unauthenticated() } else { verifier };
        let tls = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(verifier.build().unwrap())
            .with_single_cert(vec![der(&own.certificate)], PrivateKeyDer::from_pem_slice(own.key.as_bytes()).unwrap())
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(tls));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (behind, shown) = (Arc::<OnceLock<SocketAddr>>::default(), Arc::<Mutex<Vec<_>>>::default());
        let (inner, seen) = (Arc::clone(&behind), Arc::clone(&shown));
        let mut server = JoinSet::new();
        server.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((connection, _)) = listener.accept().await {
                let (acceptor, seen, inner) = (acceptor.clone(), Arc::clone(&seen), Arc::clone(&inner));
                connections.spawn(async move {
                    // Whoever has no certificate, where one is needed, gets no further than this.
                    let Ok(inside) = acceptor.accept(connection).await else { return };
                    let certificate = inside.get_ref().1.peer_certificates().map(|chain| chain[0].clone().into_owned());
                    seen.lock().unwrap().push(certificate.clone());
                    let server = TcpStream::connect(inner.get().unwrap()).await.unwrap();
                    // Whoever closes first: it is over.
                    pass(inside, server, certificate.as_ref().map(thumbprint)).await.ok();
                });
            }
        });
        Self { address, behind, shown, _server: server }
    }

    /// Where it leads: to an http URL, or to host and port of one.
    pub(crate) fn lead_to(&self, behind: &str) {
        let behind = behind.strip_prefix("http://").unwrap_or(behind);
        self.behind.set(behind.parse().unwrap()).unwrap();
    }

    /// Its URL, without a slash at the end.
    pub(crate) fn url(&self) -> String {
        format!("https://localhost:{}", self.address.port())
    }

    /// What was shown at each of its connections, in their order.
    pub(crate) fn shown(&self) -> Vec<Option<CertificateDer<'static>>> {
        self.shown.lock().unwrap().clone()
    }
}

/// Passes on requests, with the thumbprint of who makes them, and all that is answered.
async fn pass(inside: TlsStream<TcpStream>, server: TcpStream, shown: Option<String>) -> std::io::Result<()> {
    let (from_client, mut to_client) = tokio::io::split(inside);
    let (mut from_server, mut to_server) = server.into_split();
    let asked = async {
        let mut client = BufReader::new(from_client);
        loop {
            let (mut head, mut length) = (String::new(), 0);
            loop {
                let mut line = String::new();
                if client.read_line(&mut line).await? == 0 {
                    return to_server.shutdown().await;
                }
                let lower = line.to_ascii_lowercase();
                if let Some(value) = lower.strip_prefix("content-length:") {
                    length = value.trim().parse().unwrap();
                }
                if line == "\r\n" {
                    break;
                }
                // What the client says of it itself is not passed on.
                if !lower.starts_with(CERTIFICATE) {
                    head.push_str(&line);
                }
            }
            let shown = shown.iter().map(|shown| format!("{CERTIFICATE}: {shown}\r\n"));
            to_server.write_all(format!("{head}{}\r\n", shown.collect::<String>()).as_bytes()).await?;
            tokio::io::copy(&mut (&mut client).take(length), &mut to_server).await?;
        }
    };
    let answered = async {
        tokio::io::copy(&mut from_server, &mut to_client).await?;
        to_client.shutdown().await
    };
    tokio::try_join!(asked, answered).map(|_| ())
}
