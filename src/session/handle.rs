//! What a cookie carries of a session whose body lies in the ledger.

use serde::{Deserialize, Serialize};

use super::{HANDLE_FORMAT, Session, SessionId, UnknownFormat};
use crate::clock::Timestamp;
use crate::secret::Secret;

/// Where the body of a session lies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Placement {
    /// In the cookie, sealed.
    #[default]
    Cookie,
    /// In the ledger, sealed under a key that needs the cookie's secret, until the session ends.
    Ledger,
}

/// The right to a body in the ledger. It does not change when the session is refreshed.
#[derive(Clone, Serialize, Deserialize)]
pub struct Handle {
    /// The session's.
    pub id: SessionId,
    secret: Secret<[u8; 32]>,
    /// The generation of the body when the cookie was sealed; the ledger's is this one or a later one.
    pub generation: u64,
    /// The absolute limit.
    pub ends: Timestamp,
    /// The last use that this cookie knows of.
    pub last_seen: Timestamp,
}

impl Handle {
    /// The secret that opens the body.
    pub const fn secret(&self) -> &[u8; 32] {
        self.secret.expose()
    }
}

impl std::fmt::Debug for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handle").field("generation", &self.generation).field("ends", &self.ends).finish_non_exhaustive()
    }
}

/// What a session cookie carries.
#[derive(Clone, Debug)]
pub enum Carried {
    /// The session itself.
    Body(Box<Session>),
    /// The right to its body in the ledger.
    Handle(Handle),
}

impl Carried {
    /// Reads what a cookie carried, once it is opened.
    pub(super) fn from_bytes(bytes: &[u8]) -> Result<Self, UnknownFormat> {
        match HANDLE_FORMAT.read(bytes) {
            Ok(handle) => Ok(Self::Handle(handle)),
            Err(UnknownFormat) => Session::from_bytes(bytes).map(|session| Self::Body(Box::new(session))),
        }
    }

    /// The session's id.
    pub const fn id(&self) -> SessionId {
        match self {
            Self::Body(session) => session.id,
            Self::Handle(handle) => handle.id,
        }
    }

    /// The absolute limit.
    pub const fn ends(&self) -> Timestamp {
        match self {
            Self::Body(session) => session.ends,
            Self::Handle(handle) => handle.ends,
        }
    }

    /// The last use that this cookie knows of.
    pub const fn last_seen(&self) -> Timestamp {
        match self {
            Self::Body(session) => session.last_seen,
            Self::Handle(handle) => handle.last_seen,
        }
    }
}

impl Session {
    /// The bytes that a cookie carries of it.
    pub(super) fn cookie_bytes(&self) -> Vec<u8> {
        match self.placement {
            Placement::Cookie => self.to_bytes(),
            Placement::Ledger => HANDLE_FORMAT.write(&self.handle()),
        }
    }

    /// What a cookie carries of this session if its body lies in the ledger.
    pub fn handle(&self) -> Handle {
        Handle {
            id: self.id,
            secret: self.secret.clone(),
            generation: self.generation,
            ends: self.ends,
            last_seen: self.last_seen,
        }
    }
}
