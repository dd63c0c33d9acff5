//! What the issuer remembers: who is signed in, which codes and tokens are out, and which token families are dead.
//!
//! No HTTP here. A family is all that has grown out of one authorization code; it lives and dies as one (RFC 9700
//! section 4.14.2).

use std::collections::HashMap;
use std::io;
use std::time::Duration;

use base64_simd::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};
use vestibule::clock::Timestamp;
use vestibule::secret::Random;

/// What happens to a refresh token when it is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rotation {
    /// It is replaced. If it comes again, the whole family dies, access tokens too, without any grace.
    Strict,
    /// It stays, and a refresh answers without a refresh token.
    Never,
}

/// The people who can sign in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum User {
    /// Ada Lovelace.
    Ada,
    /// Grace Hopper.
    Grace,
}

impl User {
    /// Everybody, in the order of the sign-in page.
    pub const ALL: [Self; 2] = [Self::Ada, Self::Grace];

    /// The `sub` claim.
    pub const fn sub(self) -> &'static str {
        match self {
            Self::Ada => "ada",
            Self::Grace => "grace",
        }
    }

    /// The `name` claim.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ada => "Ada Lovelace",
            Self::Grace => "Grace Hopper",
        }
    }

    /// The `email` claim.
    pub const fn email(self) -> &'static str {
        match self {
            Self::Ada => "ada@example.org",
            Self::Grace => "grace@example.org",
        }
    }

    /// Whose `sub` this is.
    pub fn of_sub(sub: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|user| user.sub() == sub)
    }
}

/// Somebody signed in, once.
#[derive(Clone, Debug)]
pub(super) struct Authentication {
    pub(super) user: User,
    pub(super) at: Timestamp,
    pub(super) sid: String,
}

/// What a client was allowed, and by whom.
#[derive(Clone, Debug)]
pub(super) struct Grant {
    pub(super) by: Authentication,
    pub(super) scope: String,
    pub(super) nonce: Option<String>,
    /// The thumbprint of the key that all that comes of it is bound to.
    pub(super) key: Option<String>,
}

impl Grant {
    pub(super) fn has_scope(&self, wanted: &str) -> bool {
        self.scope.split(' ').any(|scope| scope == wanted)
    }
}

/// An authorization request that was granted, as it must be matched at redemption.
pub(super) struct Granted {
    pub(super) grant: Grant,
    pub(super) redirect_uri: String,
    pub(super) challenge: String,
}

/// Fresh tokens.
pub(super) struct Issued {
    pub(super) access_token: String,
    pub(super) refresh_token: Option<String>,
    pub(super) grant: Grant,
}

/// Why a grant is refused: the description beside `invalid_grant` (RFC 6749 section 5.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refused(pub(super) &'static str);

/// How long things live.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    pub(super) access: Duration,
    pub(super) refresh: Duration,
    pub(super) rotation: Rotation,
}

/// See the module.
pub(super) struct Book {
    terms: Terms,
    mint: Mint,
    logins: HashMap<String, Authentication>,
    codes: HashMap<String, Code>,
    families: Vec<Family>,
    access: HashMap<String, Access>,
    refresh: HashMap<String, Refresh>,
    refreshes: usize,
    reuses: usize,
}

impl Book {
    /// An empty book.
    ///
    /// # Errors
    ///
    /// The operating system gives no random bytes.
    pub(super) fn open(terms: Terms) -> io::Result<Self> {
        Ok(Self {
            terms,
            mint: Mint::seeded()?,
            logins: HashMap::new(),
            codes: HashMap::new(),
            families: Vec::new(),
            access: HashMap::new(),
            refresh: HashMap::new(),
            refreshes: 0,
            reuses: 0,
        })
    }

    /// How long access tokens live that are issued now.
    pub(super) const fn access_lifetime(&self) -> Duration {
        self.terms.access
    }

    pub(super) const fn set_access_lifetime(&mut self, lifetime: Duration) {
        self.terms.access = lifetime;
    }

    /// Remembers a sign-in; the value to keep in the browser's cookie, and the sign-in.
    pub(super) fn sign_in(&mut self, user: User, now: Timestamp) -> (String, Authentication) {
        let (cookie, sid) = (self.mint.token("login"), self.mint.token("sid"));
        let login = Authentication { user, at: now, sid };
        self.logins.insert(cookie.clone(), login.clone());
        (cookie, login)
    }

    /// Who has signed in with this cookie.
    pub(super) fn signed_in(&self, cookie: &str) -> Option<&Authentication> {
        self.logins.get(cookie)
    }

    /// Forgets the sign-in, and revokes what it granted unless that was meant to outlive it (`offline_access`, OpenID
    /// Connect Core section 11). Returns who it was, if a client was given tokens for it.
    pub(super) fn sign_out(&mut self, sid: &str) -> Option<User> {
        self.logins.retain(|_, login| login.sid != sid);
        let mut user = None;
        for family in self.families.iter_mut().filter(|family| family.grant.by.sid == sid) {
            user = Some(family.grant.by.user);
            if !family.grant.has_scope("offline_access") {
                family.revoked = true;
            }
        }
        user
    }

    /// A name for a logout token that no other has.
    pub(super) fn logout_name(&self) -> String {
        self.mint.token("logout")
    }

    /// A one-time code for a request that was granted.
    pub(super) fn code(&mut self, granted: Granted, now: Timestamp) -> String {
        let code = self.mint.token("code");
        self.codes.insert(code.clone(), Code { granted, expires: now + Duration::from_secs(60), family: None });
        code
    }

    /// Redeems a code. It gets one try, right or wrong; a second use revokes what the first one brought
    /// (RFC 6749 section 4.1.2).
    pub(super) fn redeem(
        &mut self,
        code: &str,
        redirect_uri: &str,
        verifier: &str,
        now: Timestamp,
    ) -> Result<Issued, Refused> {
        let entry = self.codes.get_mut(code).ok_or(Refused("unknown code"))?;
        if let Some(family) = entry.family {
            self.revoke_family(family);
            return Err(Refused("the code was used before; its tokens are revoked"));
        }
        let family = self.families.len();
        entry.family = Some(family);
        let Code { granted: Granted { grant, redirect_uri: registered, challenge }, expires, .. } = entry;
        let refusal = if *expires <= now {
            Some("the code has expired")
        } else if registered != redirect_uri {
            Some("redirect_uri differs from the authorization request")
        } else if URL_SAFE_NO_PAD.encode_to_string(Sha256::digest(verifier)) != *challenge {
            Some("code_verifier does not match the challenge")
        } else {
            None
        };
        // A refused try founds a family as well, a dead one, so that the code is spent in the same way.
        self.families.push(Family { grant: grant.clone(), revoked: refusal.is_some() });
        match refusal {
            Some(reason) => Err(Refused(reason)),
            None => self.issue(family, "", now),
        }
    }

    /// Redeems a refresh token.
    ///
    /// The access token is for `target`, or for everything where that is empty.
    pub(super) fn refresh(&mut self, token: &str, target: &str, now: Timestamp) -> Result<Issued, Refused> {
        let entry = self.refresh.get(token).ok_or(Refused("unknown refresh token"))?;
        let (family, expires, state) = (entry.family, entry.expires, entry.state);
        match state {
            RefreshState::Spent => {
                self.reuses += 1;
                self.revoke_family(family);
                Err(Refused("the refresh token was used before; its family is revoked"))
            }
            RefreshState::Newest if self.is_revoked(family) => Err(Refused("the refresh token is revoked")),
            RefreshState::Newest if expires <= now => Err(Refused("the refresh token has expired")),
            RefreshState::Newest => {
                let mut issued = self.issue(family, target, now)?;
                // It belongs to the request that the user made, not to what follows (OpenID Connect Core section 12.2).
                issued.grant.nonce = None;
                if issued.refresh_token.is_some()
                    && let Some(used) = self.refresh.get_mut(token)
                {
                    used.state = RefreshState::Spent;
                }
                self.refreshes += 1;
                Ok(issued)
            }
        }
    }

    /// Gives a token for `target` in exchange for another (RFC 8693).
    pub(super) fn exchange(&mut self, token: &str, target: &str, now: Timestamp) -> Result<Issued, Refused> {
        let grant = self.active(token, now).ok_or(Refused("the subject token is not good"))?.clone();
        let family = self.access.get(token).map_or(usize::MAX, |access| access.family);
        Ok(Issued { access_token: self.access_token(family, target, now), refresh_token: None, grant })
    }

    /// What an access token is for; empty if that is everything.
    pub(super) fn target(&self, token: &str) -> Option<&str> {
        self.access.get(token).map(|access| access.target.as_str())
    }

    /// Binds an access token to a client's certificate (RFC 8705 section 3).
    pub(super) fn bind(&mut self, token: &str, certificate: &str) {
        if let Some(access) = self.access.get_mut(token) {
            access.bound_to = Some(certificate.to_owned());
        }
    }

    /// The certificate that an access token is bound to.
    pub(super) fn bound_to(&self, token: &str) -> Option<&str> {
        self.access.get(token)?.bound_to.as_deref()
    }

    /// Revokes a token: an access token alone, a refresh token with its family (RFC 7009 section 2.1).
    pub(super) fn revoke(&mut self, token: &str) {
        if let Some(entry) = self.refresh.get(token) {
            let family = entry.family;
            if entry.state == RefreshState::Spent {
                self.reuses += 1;
            }
            self.revoke_family(family);
        }
        self.access.remove(token);
    }

    /// Revokes every family, as an administrator would.
    pub(super) fn revoke_all(&mut self) {
        self.families.iter_mut().for_each(|family| family.revoked = true);
    }

    /// What an access token allows, if it is good.
    pub(super) fn active(&self, token: &str, now: Timestamp) -> Option<&Grant> {
        let access = self.access.get(token).filter(|access| now < access.expires)?;
        self.families.get(access.family).filter(|family| !family.revoked).map(|family| &family.grant)
    }

    /// The newest sign-in that has been granted tokens.
    pub(super) fn newest_sid(&self) -> Option<&str> {
        self.families.last().map(|family| family.grant.by.sid.as_str())
    }

    pub(super) const fn refreshes(&self) -> usize {
        self.refreshes
    }

    pub(super) const fn reuses(&self) -> usize {
        self.reuses
    }

    pub(super) fn families_alive(&self) -> usize {
        self.families.iter().filter(|family| !family.revoked).count()
    }

    /// Every code and token that was ever given out.
    pub(super) fn secrets(&self) -> impl Iterator<Item = &String> {
        self.codes.keys().chain(self.access.keys()).chain(self.refresh.keys())
    }

    fn issue(&mut self, family: usize, target: &str, now: Timestamp) -> Result<Issued, Refused> {
        let grant = self.families.get(family).ok_or(Refused("unknown family"))?.grant.clone();
        let is_first = !self.refresh.values().any(|token| token.family == family);
        let access_token = self.access_token(family, target, now);
        let refresh_token = (is_first || self.terms.rotation == Rotation::Strict).then(|| self.mint.token("rt"));
        if let Some(token) = &refresh_token {
            let entry = Refresh { family, expires: now + self.terms.refresh, state: RefreshState::Newest };
            self.refresh.insert(token.clone(), entry);
        }
        Ok(Issued { access_token, refresh_token, grant })
    }

    fn access_token(&mut self, family: usize, target: &str, now: Timestamp) -> String {
        let token = self.mint.token("at");
        let access = Access { family, target: target.to_owned(), expires: now + self.terms.access, bound_to: None };
        self.access.insert(token.clone(), access);
        token
    }

    fn revoke_family(&mut self, family: usize) {
        if let Some(family) = self.families.get_mut(family) {
            family.revoked = true;
        }
    }

    fn is_revoked(&self, family: usize) -> bool {
        self.families.get(family).is_none_or(|family| family.revoked)
    }
}

struct Code {
    granted: Granted,
    expires: Timestamp,
    /// The index of the family that its one redemption founded.
    family: Option<usize>,
}

struct Family {
    grant: Grant,
    revoked: bool,
}

struct Access {
    family: usize,
    target: String,
    expires: Timestamp,
    bound_to: Option<String>,
}

struct Refresh {
    family: usize,
    expires: Timestamp,
    state: RefreshState,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum RefreshState {
    Newest,
    Spent,
}

/// Unguessable strings out of one random seed, so that only the start can fail for lack of randomness.
struct Mint {
    seed: [u8; 32],
    count: std::sync::atomic::AtomicU64,
}

impl Mint {
    fn seeded() -> io::Result<Self> {
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).map_err(io::Error::other)?;
        Ok(Self { seed, count: 0.into() })
    }

    /// 256 bits behind a prefix that makes the string easy to search for.
    fn token(&self, prefix: &str) -> String {
        let random: &dyn Random = self;
        format!("{prefix}-{}", random.token())
    }
}

impl Random for Mint {
    fn fill(&self, buffer: &mut [u8]) {
        for chunk in buffer.chunks_mut(32) {
            let count = self.count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let block = Sha256::new().chain_update(self.seed).chain_update(count.to_le_bytes()).finalize();
            chunk.iter_mut().zip(block).for_each(|(into, from)| *into = from);
        }
    }
}
