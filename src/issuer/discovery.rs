//! What the authorization server says of itself: fetched, refreshed beside the requests, the last good answer kept.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use http::StatusCode;
use tokio::sync::Mutex;
use tokio::time::sleep;

use super::transport::Transport;
use crate::gateway::Unavailable;
use crate::oauth::{self, Authority, AuthorizationServerMetadata, JwkSet};

#[derive(Debug)]
pub(super) struct Discovery {
    authority: Authority,
    metadata: ArcSwapOption<AuthorizationServerMetadata>,
    keys: ArcSwapOption<JwkSet>,
    /// When a fetch was last tried: one at a time, and not too often. Held while fetching, so that those who come
    /// meanwhile find the result.
    metadata_tried: Mutex<Option<tokio::time::Instant>>,
    keys_tried: Mutex<Option<tokio::time::Instant>>,
}

/// How long one document may take.
const DEADLINE: Duration = Duration::from_secs(5);
/// After a failure nobody asks again before this; bogus key ids cannot make us ask more often either.
const PAUSE: Duration = Duration::from_secs(1);
/// How often the documents are read again: withdrawn keys are trusted no longer than this.
const FRESH: Duration = Duration::from_secs(600);
/// The longest pause between attempts while the issuer has not been heard of.
const LONGEST_PAUSE: Duration = Duration::from_secs(15);

impl Discovery {
    pub(super) fn new(authority: Authority) -> Self {
        Self {
            authority,
            metadata: ArcSwapOption::empty(),
            keys: ArcSwapOption::empty(),
            metadata_tried: Mutex::default(),
            keys_tried: Mutex::default(),
        }
    }

    pub(super) async fn keep_fresh(
        &self,
        transport: &Transport,
        tell: impl Fn(&AuthorizationServerMetadata) + Send + Sync,
    ) {
        let (mut pause, mut told) = (PAUSE, None);
        loop {
            let found = self.fetch_metadata(transport).await;
            let wait = match &found {
                Ok(metadata) => {
                    if told.as_ref() != Some(metadata) {
                        tell(metadata);
                        told = Some(Arc::clone(metadata));
                    }
                    if let Err(error) = self.fetch_keys(transport, metadata).await {
                        tracing::warn!(%error, "the issuer's keys cannot be read; the known ones stay in use");
                    }
                    pause = PAUSE;
                    FRESH
                }
                Err(_) => {
                    pause = (pause * 2).min(LONGEST_PAUSE);
                    pause
                }
            };
            sleep(wait).await;
        }
    }

    pub(super) async fn metadata(
        &self,
        transport: &Transport,
    ) -> Result<Arc<AuthorizationServerMetadata>, Unavailable> {
        if let Some(metadata) = self.metadata.load_full() {
            return Ok(metadata);
        }
        let mut tried = self.metadata_tried.lock().await;
        if let Some(metadata) = self.metadata.load_full() {
            return Ok(metadata);
        }
        if !is_due(&mut tried) {
            return Err(Unavailable);
        }
        self.fetch_metadata(transport).await.map_err(|_| Unavailable)
    }

    pub(super) async fn keys(&self, transport: &Transport, anew: bool) -> Result<Arc<JwkSet>, Unavailable> {
        let known = self.keys.load_full();
        if let Some(keys) = known.as_ref().filter(|_| !anew) {
            return Ok(Arc::clone(keys));
        }
        let metadata = self.metadata(transport).await?;
        let mut tried = self.keys_tried.lock().await;
        let present = self.keys.load_full();
        let fetched_meanwhile = match (&known, &present) {
            (Some(known), Some(present)) => !Arc::ptr_eq(known, present),
            (None, Some(_)) => true,
            (_, None) => false,
        };
        if !fetched_meanwhile
            && is_due(&mut tried)
            && let Err(error) = self.fetch_keys(transport, &metadata).await
        {
            tracing::warn!(%error, "the issuer's keys cannot be read");
        }
        self.keys.load_full().ok_or(Unavailable)
    }

    /// Fetches the metadata and puts it to use; a failure leaves the last good one there, and a line in the log.
    async fn fetch_metadata(&self, transport: &Transport) -> Result<Arc<AuthorizationServerMetadata>, DocumentError> {
        let metadata = self.read_metadata(transport).await.inspect_err(|error| {
            tracing::warn!(issuer = self.authority.issuer.as_str(), %error, "the issuer's metadata cannot be read");
        })?;
        self.metadata.store(Some(Arc::clone(&metadata)));
        Ok(metadata)
    }

    pub(super) async fn read_metadata(
        &self,
        transport: &Transport,
    ) -> Result<Arc<AuthorizationServerMetadata>, DocumentError> {
        let mut response = transport.send(AuthorizationServerMetadata::request(&self.authority)?, DEADLINE).await?;
        if response.status() == StatusCode::NOT_FOUND {
            // Some servers publish it where RFC 8414 section 3.1 says, and nowhere else.
            response = transport.send(AuthorizationServerMetadata::oauth_request(&self.authority)?, DEADLINE).await?;
        }
        let metadata = AuthorizationServerMetadata::read(&self.authority, &response)?;
        metadata.suits(self.authority.protocol, self.authority.dpop, self.authority.profile)?;
        Ok(Arc::new(metadata))
    }

    async fn fetch_keys(
        &self,
        transport: &Transport,
        metadata: &AuthorizationServerMetadata,
    ) -> Result<(), DocumentError> {
        let Some(uri) = &metadata.jwks_uri else { return Ok(()) };
        let response = transport.send(JwkSet::request(uri), DEADLINE).await?;
        self.keys.store(Some(Arc::new(JwkSet::read(&response)?)));
        Ok(())
    }
}

/// Why a document of the issuer could not be read.
#[derive(Debug, thiserror::Error)]
pub enum DocumentError {
    /// It was not to be had.
    #[error(transparent)]
    Send(#[from] crate::gateway::SendError),
    /// It is not what it has to be.
    #[error(transparent)]
    Content(#[from] oauth::Error),
}

fn is_due(tried: &mut Option<tokio::time::Instant>) -> bool {
    let now = tokio::time::Instant::now();
    let due = tried.is_none_or(|last| now.duration_since(last) >= PAUSE);
    if due {
        *tried = Some(now);
    }
    due
}
