//! Step-up: an API's demand for a stronger login, or for more scope, becomes an answer that says where to go for it.
//!
//! What an API demands is the API's word. Class and age of a login anybody may wish for at `/bff/login`; more scope only
//! by a parameter that was sealed here for this very session, so that no link from elsewhere widens what a session may do.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use url::form_urlencoded;

use super::Gateway;
use super::reply::Refusal;
use crate::clock::Timestamp;
use crate::oauth::StepUp;
use crate::session::{Session, SessionId};

/// More scope, as an API has demanded it for one session.
#[derive(Serialize, Deserialize)]
struct MoreScope {
    session: SessionId,
    scope: String,
    until: Timestamp,
}

/// How long a person may hesitate before the login that asks for more scope.
const HESITATION: Duration = Duration::from_secs(3600);

impl Gateway {
    /// The answer in place of an upstream's that has demanded `wanted` for a call of `session`.
    pub(super) fn step_up(&self, wanted: StepUp, session: &Session) -> Refusal {
        tracing::info!(target: "audit", event = "session.step_up", ?wanted);
        let mut query = form_urlencoded::Serializer::new(String::new());
        match &wanted {
            StepUp::Authentication { acr_values, max_age } => {
                query.extend_pairs(acr_values.iter().map(|it| ("acr_values", it.as_str())));
                query.extend_pairs(max_age.map(|it| ("max_age", it.to_string())));
                if acr_values.is_none() && max_age.is_none() {
                    // It does not say what would do: a new login is the least that is asked for.
                    query.append_pair("prompt", "login");
                }
            }
            StepUp::Scope(scope) => {
                let now = self.seams.clock.now();
                let more = scope.clone().map(|scope| MoreScope { session: session.id, scope, until: now + HESITATION });
                let sealed = more.map(|more| self.vault.seal_demand(&more, &*self.seams.random, now));
                query.extend_pairs(sealed.iter().map(|it| ("demand", it.as_str())));
            }
        }
        Refusal::StepUp { wanted, login: format!("{}/login?{}", self.settings.prefix, query.finish()) }
    }

    /// The scope that a login has to ask for besides, if `demand` was sealed here for the session of this browser.
    pub(super) fn demanded_scope(&self, demand: &str, session: Option<SessionId>) -> Option<String> {
        let now = self.seams.clock.now();
        let more: MoreScope = self.vault.open_demand(demand, now)?;
        (Some(more.session) == session && now <= more.until).then_some(more.scope)
    }
}
