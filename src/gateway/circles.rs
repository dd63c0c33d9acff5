//! Logins that would go in circles: what can be told of the cause, for a page in place of one more round.
//!
//! Nothing is remembered here of a browser: a login that succeeded leaves a small cookie for half a minute, and a login
//! that starts meanwhile without a session tells that the session's own cookie was not kept.

use std::time::Duration;

use http::request::Parts;
use serde::{Deserialize, Serialize};

use super::Gateway;
use super::admission::Absence;
use super::cross_origin::is_from_elsewhere;
use super::reply::LoginFailure;
use crate::clock::Timestamp;
use crate::session::Session;
use crate::session::cookies::SetCookies;

/// Stands where a login has its state: the cookie that says that a login has just succeeded.
const LANDED: &str = "landed";
/// Whoever signs in again within this time without having a session is going in circles.
const CIRCLE: Duration = Duration::from_secs(30);

/// A login that has succeeded.
#[derive(Serialize, Deserialize)]
struct Landed {
    until: Timestamp,
    /// What the session's cookies took, in bytes, and how many there were.
    bytes: u32,
    cookies: u8,
}

impl Gateway {
    /// Notes in `cookies`, which hold a new session's by now, that a login has succeeded.
    pub(super) fn note_landing(&self, session: &Session, request: &Parts, cookies: &mut SetCookies) {
        let now = self.seams.clock.now();
        let (count, bytes) = cookies.session_weight();
        let landed = Landed {
            // A session that is over by then may well be followed by another login.
            until: now + CIRCLE.min(session.expires().until(now) / 2).min(self.settings.session.idle / 2),
            bytes: u32::try_from(bytes).unwrap_or(u32::MAX),
            cookies: u8::try_from(count).unwrap_or(u8::MAX),
        };
        let random = &*self.seams.random;
        if let Err(error) = self.vault.store_login(LANDED, &landed, &request.headers, cookies, random, now) {
            tracing::debug!(%error, "logins that go in circles are not recognised here");
        }
    }

    /// Forgets that a login has succeeded: whoever signs out may sign in again.
    pub(super) fn forget_landing(&self, request: &Parts, cookies: &mut SetCookies) {
        if self.vault.has_login(&request.headers) {
            self.vault.retire_login(LANDED, cookies);
        }
    }

    /// Why a login that is about to start, by a browser without a session, would only be one more round.
    pub(super) fn circle(&self, request: &Parts, absence: &Absence) -> Option<LoginFailure> {
        // A session that has ended was kept well enough, and a Strict cookie stays behind when another site leads here.
        if absence.reason.is_some() || self.vault.is_strict() && is_from_elsewhere(&request.headers) {
            return None;
        }
        let now = self.seams.clock.now();
        let landed: Landed = self.vault.open_login(LANDED, &request.headers, now)?;
        (now < landed.until && landed.until.until(now) <= CIRCLE)
            .then_some(LoginFailure::NotKept { bytes: landed.bytes, cookies: landed.cookies })
    }

    /// Why the cookie of a login did not come back with its answer, although it has started anew.
    pub(super) fn unrecognised(&self, request: &Parts) -> LoginFailure {
        if self.vault.has_login(&request.headers) || self.vault.is_presented(&request.headers) {
            LoginFailure::Unrecognised
        } else {
            LoginFailure::NoCookies { site: self.settings.public_url.origin().ascii_serialization() }
        }
    }
}
