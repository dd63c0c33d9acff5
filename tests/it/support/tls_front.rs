//! What ends TLS in front of a server, as in production.

use std::net::SocketAddr;

use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::authority::Authority;

/// A running end of TLS. Dropping it closes every connection through it.
pub(crate) struct TlsFront {
    address: SocketAddr,
    _connections: JoinSet<()>,
}

impl TlsFront {
    /// Takes connections for `localhost` on a free port of 127.0.0.1, with a certificate that nobody has reason to trust,
    /// and passes on to `target` what is in them.
    pub(crate) async fn start(target: SocketAddr) -> Self {
        let acceptor = Authority::new().issue("localhost").acceptor();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut connections = JoinSet::new();
        connections.spawn(async move {
            let mut each = JoinSet::new();
            while let Ok((connection, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                each.spawn(async move {
                    let Ok(mut inside) = acceptor.accept(connection).await else { return };
                    let Ok(mut behind) = TcpStream::connect(target).await else { return };
                    tokio::io::copy_bidirectional(&mut inside, &mut behind).await.ok();
                });
            }
        });
        Self { address, _connections: connections }
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}
