//! Whether requests can be served, and if not, why.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use crate::gateway::AuthorizationServer;
use crate::ledger::Ledger;

/// Looks at everything that a request may need.
pub struct Health {
    ledger: Arc<Ledger>,
    server: Arc<dyn AuthorizationServer>,
}

/// What was found.
#[derive(Debug, Serialize)]
pub struct Readiness {
    /// Whether requests can be served.
    pub ready: bool,
    /// The ledger: `ok`, or what is in the way.
    pub ledger: String,
    /// The issuer: `ok` once it was heard of; what was heard is used on while it is down.
    pub issuer: String,
}

/// Whoever asks wants an answer soon.
const PATIENCE: Duration = Duration::from_secs(3);
const OK: &str = "ok";

impl std::fmt::Debug for Health {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Health").finish_non_exhaustive()
    }
}

impl Health {
    /// The health of a proxy that stands on these two.
    pub const fn new(ledger: Arc<Ledger>, server: Arc<dyn AuthorizationServer>) -> Self {
        Self { ledger, server }
    }

    /// Looks now.
    pub async fn readiness(&self) -> Readiness {
        let ledger = match tokio::time::timeout(PATIENCE, self.ledger.check()).await {
            Ok(Ok(())) if self.ledger.is_live() => OK.to_owned(),
            Ok(Ok(())) => "its news have not been heard yet, so every request would have to ask it".to_owned(),
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {} s", PATIENCE.as_secs()),
        };
        let issuer = match self.server.metadata().await {
            Ok(_) => OK.to_owned(),
            Err(error) => error.to_string(),
        };
        Readiness { ready: ledger == OK && issuer == OK, ledger, issuer }
    }
}
