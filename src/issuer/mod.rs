//! The authorization server over HTTP: the one place that knows an HTTP client.

mod discovery;
mod transport;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use self::discovery::Discovery;
pub use self::discovery::DocumentError;
use self::transport::Transport;
pub use self::transport::TransportError;
use crate::gateway::{AuthorizationServer, SendError, Unavailable};
use crate::identity::Identity;
use crate::oauth::{Authority, AuthorizationServerMetadata, JwkSet};

/// The configured issuer.
#[derive(Debug)]
pub struct HttpIssuer {
    transport: Transport,
    discovery: Discovery,
    identity: Option<Identity>,
}

impl HttpIssuer {
    /// An issuer that has not been asked anything yet. `ca_file` holds further roots of trust, as PEM; `identity` is shown
    /// to it where it asks for a certificate.
    ///
    /// # Errors
    /// If the roots of trust cannot be read.
    pub fn new(
        authority: Authority,
        ca_file: Option<&Path>,
        identity: Option<&Identity>,
    ) -> Result<Self, TransportError> {
        Ok(Self {
            transport: Transport::new(ca_file, identity)?,
            discovery: Discovery::new(authority),
            identity: identity.cloned(),
        })
    }

    /// Keeps metadata and keys fresh, for ever: soon after a failure, seldom after a success. The last good ones stay
    /// in use meanwhile. `tell` hears of each metadata that differs from the one before.
    pub async fn keep_fresh(&self, tell: impl Fn(&AuthorizationServerMetadata) + Send + Sync) {
        self.discovery.keep_fresh(&self.transport, tell).await;
    }

    /// Asks for the metadata once, whatever is known already.
    ///
    /// # Errors
    /// Why it cannot be used.
    pub async fn look(&self) -> Result<Arc<AuthorizationServerMetadata>, DocumentError> {
        self.discovery.read_metadata(&self.transport).await
    }
}

#[async_trait]
impl AuthorizationServer for HttpIssuer {
    async fn metadata(&self) -> Result<Arc<AuthorizationServerMetadata>, Unavailable> {
        self.discovery.metadata(&self.transport).await
    }

    async fn keys(&self, anew: bool) -> Result<Arc<JwkSet>, Unavailable> {
        self.discovery.keys(&self.transport, anew).await
    }

    fn certificate(&self) -> Option<[u8; 32]> {
        self.identity.as_ref().map(|identity| *identity.shown().thumbprint())
    }

    async fn send(
        &self,
        request: http::Request<Vec<u8>>,
        deadline: Duration,
    ) -> Result<http::Response<Bytes>, SendError> {
        self.transport.send(request, deadline).await
    }
}
