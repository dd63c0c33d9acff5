//! What the issuer's own word says about it, for people: at start-up in the log, and by `vestibule check --online`.

use std::sync::Arc;

use crate::config::{self, Config};
use crate::gateway::logout::LogoutSettings;
use crate::issuer::{DocumentError, HttpIssuer, TransportError};
use crate::oauth::{Advice, Authority, AuthorizationServerMetadata, Client};

/// Says what an issuer is, and what does not go well with it.
pub(super) struct IssuerReport {
    authority: Authority,
    client: Client,
    logout: LogoutSettings,
}

impl IssuerReport {
    pub(super) fn new(config: &Config) -> Self {
        Self { authority: config.authority.clone(), client: config.client.clone(), logout: config.logout.clone() }
    }

    pub(super) fn log(&self, metadata: &AuthorizationServerMetadata) {
        let provider = metadata.provider.map_or("none", |provider| provider.name);
        tracing::info!(issuer = metadata.issuer.as_str(), provider, "the issuer's metadata has been read");
        for advice in news(metadata, &self.authority, &self.client, &self.logout) {
            tracing::warn!("{advice}");
        }
    }
}

/// What could not be said before there was metadata.
fn news(
    metadata: &AuthorizationServerMetadata,
    authority: &Authority,
    client: &Client,
    logout: &LogoutSettings,
) -> Vec<Advice> {
    let practice = config::practice(authority, client, logout);
    let found = metadata.provider.filter(|_| metadata.provider != authority.certain_provider());
    let mut advice = found.map(|provider| provider.advice(&practice)).unwrap_or_default();
    advice.extend(metadata.advice(&practice));
    advice
}

/// Why an issuer could not be looked at.
#[derive(Debug, thiserror::Error)]
pub enum LookError {
    /// The means for it are missing.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// Its metadata cannot be used.
    #[error("issuer.url: the issuer's metadata cannot be used")]
    Metadata(#[from] DocumentError),
    /// The runtime cannot be made.
    #[error("the runtime cannot be started: {0}")]
    Runtime(#[from] std::io::Error),
}

/// Asks the issuer for its metadata, once. Says what could not be said without.
///
/// # Errors
/// If there is none that can be used.
pub fn look(config: &Config) -> Result<(Arc<AuthorizationServerMetadata>, Vec<Advice>), LookError> {
    let (ca_file, identity) = (config.issuer_ca.as_deref(), config.issuer_identity.as_ref());
    let issuer = HttpIssuer::new(config.authority.clone(), ca_file, identity)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let metadata = runtime.block_on(issuer.look())?;
    let advice = news(&metadata, &config.authority, &config.client, &config.logout);
    Ok((metadata, advice))
}
