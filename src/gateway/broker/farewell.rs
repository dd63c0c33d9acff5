//! Tokens that are revoked only once the browser has been at the authorization server.
//!
//! Some servers take the revocation of a refresh token for the end of their own session, and then have nobody left to
//! tell other applications about when the browser comes to sign out (keycloak/keycloak#34234). So after a logout the
//! browser goes first. The session itself is over before: what waits here are tokens that nobody can use any more.
//!
//! What waits is in this process alone. If it crashes meanwhile, the tokens are not revoked and live at the authorization
//! server for as long as it lets them, or until its own logout ends them; they lie in no browser, and the ledger refuses
//! every copy of the cookie that holds them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use super::Broker;
use crate::oauth::{EndSession, LogoutStyle};
use crate::session::{Session, SessionId};

/// The sessions whose browser is away.
pub(super) type Farewells = Mutex<HashMap<SessionId, Arc<Notify>>>;

impl Broker {
    /// Whether the authorization server has a logout of its own that a browser can go to.
    pub(super) async fn has_logout(&self, style: LogoutStyle) -> bool {
        self.seams.server.metadata().await.is_ok_and(|metadata| EndSession::exists(&metadata, style))
    }

    /// Has the tokens of `session` revoked when its browser is [back](Self::back_from_logout), after `wait` at the latest,
    /// and before this process ends.
    pub(super) fn revoke_when_back(self: &Arc<Self>, session: Arc<Session>, wait: Duration) {
        let back = Arc::new(Notify::new());
        self.farewells.lock().unwrap_or_else(PoisonError::into_inner).insert(session.id, Arc::clone(&back));
        let (broker, closing) = (Arc::clone(self), self.seams.tasks.closing());
        self.seams.tasks.spawn(async move {
            tokio::select! {
                biased;
                () = back.notified() => {}
                () = closing => {}
                () = tokio::time::sleep(wait) => {}
            }
            broker.farewells.lock().unwrap_or_else(PoisonError::into_inner).remove(&session.id);
            broker.seams.revoke_now(&broker.client, &session).await;
        });
    }

    /// The browser that had this session has come back from the authorization server. If it left by way of another
    /// replica, that one's time runs out.
    pub fn back_from_logout(&self, session: SessionId) {
        if let Some(back) = self.farewells.lock().unwrap_or_else(PoisonError::into_inner).get(&session) {
            back.notify_one();
        }
    }
}
