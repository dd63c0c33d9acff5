//! One HTTP client with every limit set: no redirects, no proxy from the environment, bounded time and size.

use std::path::Path;
use std::time::Duration;

use bytes::{Bytes, BytesMut};

use crate::gateway::SendError;
use crate::identity::Identity;
use crate::roots::{self, RootsError};

/// The client.
#[derive(Debug)]
pub(super) struct Transport(reqwest::Client);

/// Why the client cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    /// The file with further roots of trust cannot be used.
    #[error("issuer.ca_file: {0} holds no certificate that can be read; name a file with PEM certificates")]
    CaFile(String),
    /// TLS cannot be set up.
    #[error("TLS cannot be set up")]
    Tls(#[from] rustls::Error),
    /// The client cannot be built.
    #[error("the HTTP client cannot be set up")]
    Client(#[from] reqwest::Error),
}

/// Larger answers are refused: metadata, keys and tokens all stay far below.
const MAX_ANSWER: usize = 512 * 1024;
const CONNECT: Duration = Duration::from_secs(5);

impl Transport {
    pub(super) fn new(ca_file: Option<&Path>, identity: Option<&Identity>) -> Result<Self, TransportError> {
        let tls = roots::client_config(ca_file, identity, "an https issuer").map_err(|error| match error {
            RootsError::File(path) => TransportError::CaFile(path),
            RootsError::Tls(error) => TransportError::Tls(error),
        })?;
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .referer(false)
            .connect_timeout(CONNECT)
            // A connection that the server closes while a refresh is being written leaves the outcome unknown, so a
            // fresh one for each request is worth its handshake.
            .pool_max_idle_per_host(0)
            .retry(reqwest::retry::never())
            .user_agent(concat!("vestibule/", env!("CARGO_PKG_VERSION")))
            .build()?;
        Ok(Self(client))
    }

    pub(super) async fn send(
        &self,
        request: http::Request<Vec<u8>>,
        deadline: Duration,
    ) -> Result<http::Response<Bytes>, SendError> {
        let request = reqwest::Request::try_from(request).map_err(|error| SendError::NotSent(describe(error)))?;
        tokio::time::timeout(deadline, self.exchange(request)).await.unwrap_or(Err(SendError::TimedOut))
    }

    async fn exchange(&self, request: reqwest::Request) -> Result<http::Response<Bytes>, SendError> {
        let mut response = self.0.execute(request).await.map_err(|error| {
            if error.is_connect() {
                SendError::NotSent(describe(error))
            } else if error.is_timeout() {
                SendError::TimedOut
            } else {
                SendError::Unknown(describe(error))
            }
        })?;
        // It was not asked for, and unpacking it could take any amount of memory.
        if let Some(encoding) = response.headers().get(reqwest::header::CONTENT_ENCODING)
            && encoding != "identity"
        {
            return Err(SendError::Unknown("the answer is encoded, although that was not asked for".to_owned()));
        }
        if response.content_length().is_some_and(|length| length > MAX_ANSWER as u64) {
            return Err(SendError::Unknown(too_large()));
        }
        let mut body = BytesMut::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| SendError::Unknown(describe(error)))? {
            if body.len() + chunk.len() > MAX_ANSWER {
                return Err(SendError::Unknown(too_large()));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(http::Response::from(response).map(|_: reqwest::Body| body.freeze()))
    }
}

fn too_large() -> String {
    format!("the answer is larger than {MAX_ANSWER} bytes")
}

/// The error and what is behind it, without the URL: queries may hold secrets.
fn describe(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut source = std::error::Error::source(&error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
