//! Below the documents: answers that take too long, and connections that end where they must not.

use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use vestibule::gateway::{AuthorizationServer, SendError};
use vestibule::issuer::HttpIssuer;
use vestibule::oauth::{self, Issuer as Identifier};

use crate::issuer::act::{Act, Hold};
use crate::issuer::{Endpoint, Issuer, Options};
use crate::support::authority::Authority;
use crate::support::{beside, plain_client};

/// Shorter than what the product allows for any of its requests; the deadline is an argument.
const DEADLINE: Duration = Duration::from_millis(300);

#[tokio::test]
async fn an_answer_that_drips_or_never_comes_is_given_up_at_the_deadline() {
    plain_client();
    let issuer = Issuer::start(Options::default()).await.unwrap();
    let identifier = Identifier::new(issuer.url().to_owned());
    let http = HttpIssuer::new(oauth::Authority::new(identifier), None, None).unwrap();
    let hold = Hold::default();
    let acts = [
        // Each byte comes soon enough to look alive.
        Act::pieces(vec![b" ".to_vec(); 10_000], Duration::from_millis(20)),
        Act::usual().wait_first(&hold),
    ];
    for act in acts {
        issuer.script().next(Endpoint::Userinfo, act);
        let mut request = http::Request::new(Vec::new());
        *request.uri_mut() = format!("{}/userinfo", issuer.url()).parse().unwrap();
        let found = tokio::time::timeout(crate::support::PATIENCE, http.send(request, DEADLINE)).await;
        assert_eq!(found.expect("it is given up").expect_err("there is no answer"), SendError::TimedOut);
    }
}

#[tokio::test]
async fn a_tls_connection_that_is_cut_off_does_not_pass_for_the_end_of_an_answer() {
    // OIDC-5.3.4-01, RFC 9112 section 9.8: without close_notify anybody on the way may have shortened it.
    plain_client();
    let authority = Authority::new();
    let folder = tempfile::tempdir().unwrap();
    let ca_file = folder.path().join("ca.pem");
    std::fs::write(&ca_file, &authority.certificate).unwrap();
    let acceptor = authority.issue("127.0.0.1").acceptor();
    for (is_closed_properly, is_taken) in [(true, true), (false, false)] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://{}", listener.local_addr().unwrap());
        let metadata = json!({
            "issuer": url,
            "authorization_endpoint": format!("{url}/authorize"),
            "token_endpoint": format!("{url}/token"),
            "jwks_uri": format!("{url}/jwks"),
        });
        let acceptor = acceptor.clone();
        let serving = beside(async move {
            let (tcp, _) = listener.accept().await.unwrap();
            let mut tls = acceptor.accept(tcp).await.unwrap();
            let mut request = vec![0; 4096];
            let read = tls.read(&mut request).await.unwrap();
            assert!(read > 0);
            // No length: the end of the connection is the end of the answer.
            let answer = format!("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{metadata}");
            tls.write_all(answer.as_bytes()).await.unwrap();
            tls.flush().await.unwrap();
            if is_closed_properly {
                tls.shutdown().await.unwrap();
            } else {
                // The stream below is closed, and nobody says goodbye.
                let (mut tcp, _) = tls.into_inner();
                tcp.shutdown().await.unwrap();
            }
        });
        let identifier = Identifier::new(url);
        let http = HttpIssuer::new(oauth::Authority::new(identifier), Some(&ca_file), None).unwrap();
        assert_eq!(http.metadata().await.is_ok(), is_taken, "closed properly: {is_closed_properly}");
        serving.await.unwrap();
    }
}

#[tokio::test]
async fn nothing_is_sent_to_a_server_whose_certificate_is_not_trusted_or_not_its_own() {
    // ASM-6.2-01, REV-2.1-03, OIDC-5.3.4-01, FAPI-5.2.1-01
    plain_client();
    let (authority, other) = (Authority::new(), Authority::new());
    let folder = tempfile::tempdir().unwrap();
    let written = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let (ca, other_ca) = (written("ca.pem", &authority.certificate), written("other.pem", &other.certificate));
    let acceptor = authority.issue("127.0.0.1").acceptor();
    // The certificate is for 127.0.0.1; with the right root and the right name the handshake is made.
    for (host, root, is_made) in [
        ("127.0.0.1", Some(&ca), true),
        ("127.0.0.1", None, false),
        ("127.0.0.1", Some(&other_ca), false),
        ("localhost", Some(&ca), false),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let acceptor = acceptor.clone();
        let handshake = beside(async move {
            let (tcp, _) = listener.accept().await.unwrap();
            acceptor.accept(tcp).await.is_ok()
        });
        let identifier = Identifier::new(format!("https://{host}:{port}"));
        let root = root.map(std::path::PathBuf::as_path);
        let http = HttpIssuer::new(oauth::Authority::new(identifier), root, None).unwrap();
        let mut request = http::Request::new(b"secret".to_vec());
        *request.uri_mut() = format!("https://{host}:{port}/revoke").parse().unwrap();
        let error = http.send(request, crate::support::PATIENCE).await.expect_err("there is no answer");
        assert_eq!(matches!(error, SendError::NotSent(_)), !is_made, "{host} {root:?}: {error}");
        assert_eq!(handshake.await.unwrap(), is_made, "{host} {root:?}");
    }
}
