//! Ring 2: what the browser holds, and how it is kept safe. Nothing here does I/O.
//!
//! A [`Session`] is what a login has established. It travels sealed ([`keyring`]) in cookies ([`cookies`]), over as
//! many as it takes ([`chunks`]).

pub mod chunks;
pub mod cookies;
mod grant;
mod handle;
pub mod keyring;
mod presented;
pub mod vault;
mod xaes;

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use self::grant::{Asked, Freshness, Grant, HeldToken, Present};
pub use self::handle::{Carried, Handle, Placement};
use crate::clock::Timestamp;
use crate::oauth::{OriginalIdentity, ProofKey, TokenScheme, TokenSet, TokenTarget, VerifiedLogin};
use crate::secret::{Random, Secret};

/// Names one session, from its login to its end. 128 random bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SessionId([u8; 16]);

impl SessionId {
    /// The id with these bytes.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

/// How long sessions live and what they keep.
#[derive(Clone, Debug)]
pub struct SessionPolicy {
    /// A session that nobody uses for this long is over.
    pub idle: Duration,
    /// A session is over this long after its login, whatever happens.
    pub absolute: Duration,
    /// A page is warned this long before its session is over, or at a fifth of the limit if that is less.
    pub warn: Duration,
    /// The claims of the ID token that the session keeps and `/bff/user` shows.
    pub claims: Vec<String>,
    /// A refresh starts this long before the access token expires, or at a third of its lifetime if that is less.
    pub ahead: Duration,
}

/// Who signed in, as the authorization server's ID token said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// What a refreshed ID token is compared with (OpenID Connect Core section 12.2).
    pub original: OriginalIdentity,
    /// The issuer's own session (`sid`), for logout from its side.
    pub issuer_session: Option<String>,
    /// The authentication context class that was reached.
    pub acr: Option<String>,
    /// How and when this person authenticated, the latest first: the login of this session, and those of the sessions of
    /// the same browser and person that it has replaced.
    pub levels: Vec<Level>,
    /// When the ID token was issued, by the issuer's clock.
    pub issued_at: Timestamp,
    /// The chosen claims, as a JSON object. Text, because the sealed format describes no types.
    claims: String,
}

/// One authentication of a person (OpenID Connect Core section 2, `acr` and `auth_time`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Level {
    /// The authentication context class, where the server said.
    pub acr: Option<String>,
    /// When.
    pub at: Timestamp,
}

/// So many authentications are remembered.
const MAX_LEVELS: usize = 4;

impl Identity {
    /// Takes over what is known of earlier authentications of the same person. Of each class the latest counts.
    pub fn remember(&mut self, earlier: Vec<Level>) {
        for level in earlier {
            if self.levels.len() < MAX_LEVELS && !self.levels.iter().any(|it| it.acr == level.acr) {
                self.levels.push(level);
            }
        }
    }

    /// The chosen claims.
    pub fn claims(&self) -> serde_json::Map<String, serde_json::Value> {
        serde_json::from_str(&self.claims).unwrap_or_default()
    }
}

/// What a login has established, until it ends.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// New at every login.
    pub id: SessionId,
    /// Known to the cookie alone; without it a body in the ledger cannot be opened.
    secret: Secret<[u8; 32]>,
    /// Counts refreshes, from 1.
    pub generation: u64,
    /// When the login was finished.
    pub established: Timestamp,
    /// The absolute limit.
    pub ends: Timestamp,
    /// The last use that this cookie knows of.
    pub last_seen: Timestamp,
    /// Where its body lies. Once in the ledger, it stays there.
    pub placement: Placement,
    /// Who signed in.
    pub identity: Identity,
    /// With which tokens.
    pub grant: Grant,
    /// The key that those tokens are bound to, if they are (RFC 9449): one for the whole life of a session.
    pub proof_key: Option<ProofKey>,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("generation", &self.generation)
            .field("ends", &self.ends)
            .finish_non_exhaustive()
    }
}

/// The bytes are not those of a session, or of a format that this version does not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the session was written in a format that this version does not read")]
pub struct UnknownFormat;

impl Session {
    /// Begins a session with tokens that were `asked` for so: the only way to make one, and only a verified login
    /// can be turned into it.
    pub fn establish(
        login: VerifiedLogin,
        tokens: TokenSet,
        policy: &SessionPolicy,
        random: &dyn Random,
        asked: Asked,
        now: Timestamp,
    ) -> Self {
        let claims: serde_json::Map<_, _> =
            login.claims().iter().filter(|(name, _)| policy.claims.contains(*name)).map(clone_pair).collect();
        let identity = Identity {
            original: login.original().clone(),
            issuer_session: login.sid().map(str::to_owned),
            acr: login.acr().map(str::to_owned),
            levels: vec![Level {
                acr: login.acr().map(str::to_owned),
                at: login.auth_time().unwrap_or_else(|| login.issued_at()),
            }],
            issued_at: login.issued_at(),
            claims: serde_json::Value::Object(claims).to_string(),
        };
        let grant = Grant::of(tokens, None, asked, now);
        let proof_key = login.proof_key().cloned();
        Self {
            id: SessionId(random.bytes()),
            secret: Secret::new(random.bytes()),
            generation: 1,
            established: now,
            ends: now + policy.absolute,
            last_seen: now,
            placement: Placement::Cookie,
            identity,
            grant,
            proof_key,
        }
    }

    /// The same session with the tokens of a refresh that was `asked` for so.
    #[must_use]
    pub fn renewed(&self, tokens: TokenSet, asked: Asked, now: Timestamp) -> Self {
        Self {
            generation: self.generation + 1,
            last_seen: now.max(self.last_seen),
            grant: Grant::of(tokens, Some(&self.grant), asked, now),
            ..self.clone()
        }
    }

    /// The same session with one more token, which was `asked` for so: as far as the ledger goes, that is a refresh.
    #[must_use]
    pub fn widened(&self, target: &TokenTarget, tokens: TokenSet, asked: Asked, now: Timestamp) -> Self {
        Self {
            generation: self.generation + 1,
            last_seen: now.max(self.last_seen),
            grant: self.grant.with(target, tokens, asked, now),
            ..self.clone()
        }
    }

    /// The same session, used at `now`.
    #[must_use]
    pub fn seen(&self, now: Timestamp) -> Self {
        Self { last_seen: now.max(self.last_seen), ..self.clone() }
    }

    /// Roughly what it takes in memory, in bytes: its tokens are most of it.
    pub fn size(&self) -> usize {
        let Grant { refresh_token, id_token, .. } = &self.grant;
        let tokens =
            self.grant.access_tokens().map(|token| size_of::<HeldToken>() + token.expose().len()).sum::<usize>()
                + refresh_token.as_ref().map_or(0, |token| token.expose().len())
                + id_token.as_ref().map_or(0, |token| token.expose().len());
        size_of::<Self>() + tokens + self.identity.claims.len()
    }

    /// The same session with its body there.
    #[must_use]
    pub fn placed(self, placement: Placement) -> Self {
        Self { placement, ..self }
    }

    /// The same session without the ID token, for when it is too large with it.
    #[must_use]
    pub fn without_id_token(&self) -> Self {
        Self { grant: self.grant.without_id_token(), ..self.clone() }
    }

    /// How its access tokens are presented.
    pub const fn scheme(&self) -> TokenScheme {
        TokenScheme::of(self.proof_key.as_ref())
    }

    /// The cookie's secret, for the sealer of bodies in the ledger.
    pub const fn secret(&self) -> &[u8; 32] {
        self.secret.expose()
    }

    /// When the session is over unless it is refreshed before: at its absolute limit, or when neither the access token
    /// nor the refresh token will be good any more.
    pub fn expires(&self) -> Timestamp {
        let renewable = match (&self.grant.refresh_token, self.grant.renewable_until) {
            (Some(_), None) => self.ends,
            (Some(_), Some(until)) => until.max(self.grant.access.expires.unwrap_or(self.ends)),
            (None, _) => self.grant.access.expires.unwrap_or(self.ends),
        };
        self.ends.min(renewable)
    }

    /// How the access token stands. One that cannot be refreshed is used for as long as the session lives.
    pub fn freshness(&self, present: &Present<'_>) -> Freshness {
        match self.grant.refresh_token {
            Some(_) => self.grant.access.freshness(present),
            None => Freshness::Good,
        }
    }

    /// How the token for `target` stands; one that is not there yet is as good as spent.
    pub fn freshness_for(&self, target: &TokenTarget, present: &Present<'_>) -> Freshness {
        self.grant.other(target.id()).map_or(Freshness::Spent, |token| token.freshness(present))
    }

    /// Until when the access token may be used.
    pub fn usable_until(&self) -> Timestamp {
        self.grant.access.usable_until().unwrap_or(self.ends)
    }

    /// The bytes to be sealed.
    pub fn to_bytes(&self) -> Vec<u8> {
        FORMAT.write(self)
    }

    /// Reads what [`to_bytes`](Self::to_bytes) wrote.
    ///
    /// # Errors
    /// If it is of another format.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, UnknownFormat> {
        FORMAT.read(bytes)
    }
}

/// The first byte of what is sealed says what follows. A new format is written one release after it can be read.
#[derive(Clone, Copy)]
struct Format(u8);

const FORMAT: Format = Format(1);
const HANDLE_FORMAT: Format = Format(2);

impl Format {
    fn write<T: Serialize>(self, value: &T) -> Vec<u8> {
        // Serialising plain data into a growing buffer cannot fail; an empty body would be refused when read.
        postcard::to_extend(value, vec![self.0]).unwrap_or_default()
    }

    fn read<T: for<'de> Deserialize<'de>>(self, bytes: &[u8]) -> Result<T, UnknownFormat> {
        match bytes.split_first() {
            Some((format, body)) if *format == self.0 => postcard::from_bytes(body).map_err(|_| UnknownFormat),
            Some(_) | None => Err(UnknownFormat),
        }
    }
}

fn clone_pair<K: Clone, V: Clone>((key, value): (&K, &V)) -> (K, V) {
    (key.clone(), value.clone())
}
