//! Who is signed in, for administrators: each session is entered into the ledger at its login, sealed, and noted again when
//! it is used. Nothing here is needed to serve a request: what cannot be written is tried again, and logged.
//!
//! One sheet per subject lists its sessions; the directory, in parts, lists the subjects. Of a session a sheet holds no
//! token, no secret and no address: what it names opens nothing, because a cookie needs its seal and a body in the ledger
//! the secret that only the cookie has.

pub mod device;
mod ending;
mod handle;
mod listing;
mod lists;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

use self::device::Device;
pub use self::ending::{One, OutOfReach};
pub use self::handle::{Cursor, SessionHandle};
pub use self::listing::{Listed, Over, Page};
use self::lists::{Directory, Form, Line, Sheet};
use super::Seams;
use crate::clock::Timestamp;
use crate::ledger::{Key, StoreError};
use crate::oauth::{Issuer, LoginTransaction};
use crate::session::keyring::{OpenError, from_text, text};
use crate::session::vault::Vault;
use crate::session::{Session, SessionPolicy};

/// What a roster has to know of its site.
#[derive(Clone, Debug)]
pub struct RosterPolicy {
    /// Whether sessions are entered at all. It costs writes to the ledger.
    pub kept: bool,
    /// The issuer of all its sessions, or the server that is one issuer for each tenant.
    pub issuer: Issuer,
}

/// The list of who is signed in at one site, and the way to end what stands in it.
pub struct Roster {
    seams: Seams,
    vault: Arc<Vault>,
    policy: RosterPolicy,
    /// A hash over origin, client and issuer: sites that share a store have lists of their own.
    site: [u8; 32],
    idle: Duration,
    /// No session that exists now, or whose login is on its way, lasts longer than this.
    longest: Duration,
    /// How far the issuer's clock may be ahead of ours.
    clock_skew: Duration,
}

/// The last use that is told may be this much older than the real one: it is written in steps, to spare the ledger.
pub const STALE: Duration = Duration::from_secs(300);
/// The steps. A request notes a use at most a minute after it was due.
const STEP: u64 = 240;
/// The parts of the directory.
const PARTS: u16 = 1024;
/// What cannot be written is tried again after so long, and each further time after twice as long.
const AGAIN: Duration = Duration::from_secs(1);
/// So many times. After that the next use of the session enters it.
const ATTEMPTS: u32 = 6;

impl fmt::Debug for Roster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Roster").field("policy", &self.policy).finish_non_exhaustive()
    }
}

impl Roster {
    /// The roster of the site at `origin`, which is the client `client_id` at the issuer.
    pub(super) fn new(
        seams: Seams,
        vault: Arc<Vault>,
        policy: RosterPolicy,
        session: &SessionPolicy,
        (origin, client_id, clock_skew): (&str, &str, Duration),
    ) -> Self {
        let site = digest(&[b"site", origin.as_bytes(), client_id.as_bytes(), policy.issuer.as_str().as_bytes()]);
        let longest = session.absolute + LoginTransaction::LIFETIME;
        Self { seams, vault, policy, site, idle: session.idle, longest, clock_skew }
    }

    /// Whether sessions are entered.
    pub const fn is_kept(&self) -> bool {
        self.policy.kept
    }

    /// Names a subject in logs without telling who it is.
    pub fn fingerprint(&self, subject: &str) -> String {
        self.vault.fingerprint(subject, self.seams.clock.now())
    }

    /// Enters a session that has just begun, beside the request.
    pub(super) fn enter(self: &Arc<Self>, session: &Session, headers: &HeaderMap) {
        if self.policy.kept {
            self.note(session, headers, self.seams.clock.now(), ATTEMPTS);
        }
    }

    /// Notes, beside the request, that a session is in use that had not been used for `unused` before, unless that was noted
    /// a short while ago.
    pub(super) fn seen(self: &Arc<Self>, session: &Session, unused: Duration, headers: &HeaderMap) {
        if !self.policy.kept {
            return;
        }
        let now = self.seams.clock.now();
        // Sessions have their steps at different moments, so that their writes are spread.
        let [first, second, ..] = *session.id.as_bytes();
        let phase = u64::from(u16::from_be_bytes([first, second])) % STEP;
        let step = |moment: Timestamp| moment.as_secs().saturating_add(phase).div_euclid(STEP);
        if step(now - unused) != step(now) {
            self.note(session, headers, now, 1);
        }
    }

    fn note(self: &Arc<Self>, session: &Session, headers: &HeaderMap, seen: Timestamp, attempts: u32) {
        // Plain OAuth knows no persons.
        let Some(subject) = session.identity.original.subject.clone() else { return };
        let (issuer, sid) = (session.identity.original.issuer.as_str(), session.identity.issuer_session.as_deref());
        let line = Line {
            id: session.id,
            device: Device::of(headers),
            issuer_session: sid.map(|sid| Key::issuer_session(issuer, sid)),
            issued_at: session.identity.issued_at,
            since: session.established,
            seen,
            ends: session.ends,
        };
        let roster = Arc::clone(self);
        self.seams.tasks.spawn(async move {
            let mut rest = AGAIN;
            for attempt in 1..=attempts {
                let Err(error) = roster.write(&subject, &line).await else { return };
                if attempt == attempts {
                    tracing::warn!(%error, "a session is not listed for administrators until its next use");
                    return;
                }
                tokio::time::sleep(rest).await;
                rest *= 2;
            }
        });
    }

    async fn write(&self, subject: &str, line: &Line) -> Result<(), StoreError> {
        let enter = |sheet: &mut Sheet, now| {
            subject.clone_into(&mut sheet.subject);
            sheet.enter(line, now).then(|| sheet.keep_until())
        };
        self.amend(self.sheet_key(subject), enter).await?;
        let enter =
            |directory: &mut Directory, now| directory.enter(subject, line.ends, now).then(|| directory.keep_until());
        self.amend(self.part_key(self.part_of(subject)), enter).await
    }

    /// Changes a list. One that cannot be opened was sealed with a key that is no longer in use, like the sessions in it:
    /// it begins anew. One of a newer release is left alone.
    async fn amend<T: Clone + Default + Serialize + DeserializeOwned>(
        &self,
        key: Key,
        change: impl Fn(&mut T, Timestamp) -> Option<Timestamp> + Send + Sync,
    ) -> Result<(), StoreError> {
        let name = name_of(key);
        let now = self.seams.clock.now();
        self.seams
            .ledger
            .amend(key, |sealed, store_now| {
                let mut list = match sealed.map(|sealed| self.vault.open_roster(&name, sealed, now)) {
                    Some(Ok(Form::V1(list))) => list,
                    Some(Err(OpenError::NewerVersion)) => return None,
                    Some(Err(OpenError::UnknownKey | OpenError::Malformed | OpenError::Forged)) | None => T::default(),
                };
                let keep_until = change(&mut list, store_now)?;
                Some((self.vault.seal_roster(&name, &Form::V1(list), &*self.seams.random, now), keep_until))
            })
            .await
    }

    /// Reads a list; an empty one if there is none that can be opened.
    async fn read<T: Default + DeserializeOwned>(&self, key: Key) -> Result<T, StoreError> {
        let Some(sealed) = self.seams.ledger.read(key).await? else { return Ok(T::default()) };
        match self.vault.open_roster(&name_of(key), &sealed, self.seams.clock.now()) {
            Ok(Form::V1(list)) => Ok(list),
            Err(error) => {
                tracing::warn!(%error, "a list of sessions cannot be read and is passed over");
                Ok(T::default())
            }
        }
    }

    fn sheet_hash(&self, subject: &str) -> [u8; 32] {
        digest(&[b"sheet", &self.site, subject.as_bytes()])
    }

    fn sheet_key(&self, subject: &str) -> Key {
        Key::Roster(self.sheet_hash(subject))
    }

    fn part_key(&self, part: u16) -> Key {
        Key::Directory(digest(&[b"directory", &self.site, &part.to_be_bytes()]))
    }

    fn part_of(&self, subject: &str) -> u16 {
        part_of(&self.sheet_hash(subject))
    }
}

/// The part of the directory that a sheet's subject stands in. Parts and sheets have the same order.
fn part_of(hash: &[u8; 32]) -> u16 {
    let [first, second, ..] = *hash;
    u16::from_be_bytes([first, second]) / (u16::MAX / PARTS + 1)
}

/// What a list is sealed for: its place.
fn name_of(key: Key) -> String {
    match key {
        Key::Roster(hash) => format!("sheet {}", text(&hash)),
        Key::Directory(hash) => format!("directory {}", text(&hash)),
        Key::Session(_) | Key::Once(_) | Key::Subject(_) | Key::IssuerSession(_) | Key::Everyone(_) => String::new(),
    }
}

/// Each part's length goes first, so that no two lists of texts are one.
fn digest(parts: &[&[u8]]) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(b"vestibule roster");
    for part in parts {
        hash.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}
