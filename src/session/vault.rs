//! Turns sessions and logins into what browsers and the ledger hold, and back.

use http::HeaderMap;
use serde::Serialize;
use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

use super::chunks::Assembled;
use super::cookies::{CookieError, CookieNames, RequestCookies, SameSite, SetCookies};
use super::keyring::{OpenError, Purpose, Sealer, from_text, sealed_text_length, text};
use super::{Carried, Placement, Session, SessionId};
use crate::clock::Timestamp;
use crate::oauth::LoginTransaction;
use crate::secret::Random;

/// What a request's cookies say about its session.
#[must_use]
#[derive(Debug)]
pub enum Found {
    /// There is no session cookie.
    Nothing,
    /// There is one, and it is nothing that we sealed: damaged, forged or incomplete. It may be retired.
    Garbage,
    /// There is one that another release or key ring can open. It is left alone.
    Foreign,
    /// A session. `reseal`: it was sealed with a key that is on its way out.
    Session {
        /// The session as this cookie knows it.
        carried: Carried,
        /// Whether it should be sealed anew when it next goes out.
        reseal: bool,
    },
}

/// The keys, the names of the cookies and their limits: all that is needed to open and to seal.
#[derive(Debug)]
pub struct Vault {
    sealer: Sealer,
    names: CookieNames,
    same_site: SameSite,
    /// That of the cookies of logins that are on their way.
    login_same_site: SameSite,
    placement: Placement,
    max_cookie_bytes: usize,
}

/// At most this many logins may be on their way in one browser; then the oldest cookie makes room (CK-03).
const MAX_LOGINS: usize = 5;

/// What lies aside in the ledger is sealed under this name; its ticket tells it from others.
const ASIDE: &str = "logout";

impl Vault {
    /// A vault that seals with `sealer` into cookies with `names`. Sessions whose body is meant for the cookie and takes
    /// more than `max_cookie_bytes` over all chunks go to the ledger.
    pub const fn new(
        sealer: Sealer,
        names: CookieNames,
        same_site: SameSite,
        placement: Placement,
        max_cookie_bytes: usize,
    ) -> Self {
        let login_same_site = SameSite::Lax;
        Self { sealer, names, same_site, login_same_site, placement, max_cookie_bytes }
    }

    /// The same, where the answer to a login comes in a form that the issuer's page posts: browsers send the login's cookie
    /// with that only if it is `SameSite=None`.
    #[must_use]
    pub fn for_posted_logins(self) -> Self {
        Self { login_same_site: SameSite::None, ..self }
    }

    /// The names of our cookies.
    pub const fn names(&self) -> &CookieNames {
        &self.names
    }

    /// Whether the session cookie stays behind when another site starts a navigation.
    pub fn is_strict(&self) -> bool {
        self.same_site == SameSite::Strict
    }

    /// Whether `headers` carry a session cookie at all, good or not.
    pub fn is_presented(&self, headers: &HeaderMap) -> bool {
        RequestCookies::new(headers).session(&self.names) != Assembled::Absent
    }

    /// Opens the session that `headers` carry.
    pub fn open(&self, headers: &HeaderMap, now: Timestamp) -> Found {
        let cookies = RequestCookies::new(headers);
        let value = match cookies.session(&self.names) {
            Assembled::Absent => return Found::Nothing,
            Assembled::Broken => return Found::Garbage,
            Assembled::Whole(value) => value,
        };
        let Some(sealed) = from_text(value.as_ref()) else { return Found::Garbage };
        match self.sealer.open(Purpose::Session, self.names.session(), None, &sealed, now) {
            Ok(opened) => match Carried::from_bytes(&opened.plain) {
                Ok(carried) => Found::Session { carried, reseal: opened.reseal },
                Err(_) => Found::Foreign,
            },
            Err(OpenError::UnknownKey | OpenError::NewerVersion) => Found::Foreign,
            Err(OpenError::Malformed | OpenError::Forged) => Found::Garbage,
        }
    }

    /// Finds a place for `session`: in the cookie if that is where bodies go and it fits, if need be without its ID token;
    /// else in the ledger. What lies in the ledger stays there.
    #[must_use]
    pub fn place(&self, session: Session) -> Session {
        if self.placement == Placement::Ledger || session.placement == Placement::Ledger {
            return session.placed(Placement::Ledger);
        }
        let limit = self.max_cookie_bytes.min(self.names.session_capacity());
        let size = sealed_text_length(session.to_bytes().len());
        if size <= limit {
            return session;
        }
        let shorter = session.without_id_token();
        if sealed_text_length(shorter.to_bytes().len()) <= limit {
            return shorter;
        }
        tracing::info!(size, limit, "a session is too large for cookies; its body goes to the ledger");
        session.placed(Placement::Ledger)
    }

    /// Seals what a cookie carries of `session` into `cookies`, and retires the presented chunks that are no longer needed.
    ///
    /// # Errors
    /// If it does not fit; it always does if it was [placed](Self::place).
    pub fn store(
        &self,
        session: &Session,
        headers: &HeaderMap,
        cookies: &mut SetCookies,
        random: &dyn Random,
        now: Timestamp,
    ) -> Result<(), CookieError> {
        let bytes = Zeroizing::new(session.cookie_bytes());
        let value = text(&self.sealer.seal(Purpose::Session, self.names.session(), None, &bytes, random, now));
        let presented = RequestCookies::new(headers);
        let chunks = presented.session_chunk_names(&self.names);
        cookies.session(&value, session.expires().until(now), self.same_site, &chunks)
    }

    /// Retires the session cookie and all its presented chunks.
    pub fn retire(&self, headers: &HeaderMap, cookies: &mut SetCookies) {
        let presented = RequestCookies::new(headers);
        let chunks = presented.session_chunk_names(&self.names);
        cookies.retire_session(self.same_site, &chunks);
    }

    /// Seals the body of `session` for the ledger. Only a cookie of that session can open it.
    pub fn seal_body(&self, session: &Session, random: &dyn Random, now: Timestamp) -> Vec<u8> {
        let name = body_name(session.id);
        self.sealer.seal(Purpose::LedgerBody, &name, Some(session.secret()), &session.to_bytes(), random, now)
    }

    /// Opens the body of the session `id` from the ledger with the secret that its cookies carry.
    pub fn open_body(&self, id: SessionId, secret: &[u8; 32], sealed: &[u8], now: Timestamp) -> Option<Session> {
        let opened = self.sealer.open(Purpose::LedgerBody, &body_name(id), Some(secret), sealed, now).ok()?;
        Session::from_bytes(&opened.plain).ok().filter(|session| session.id == id)
    }

    /// Seals a login that is on its way into a cookie of its own, and retires the oldest if there are too many.
    ///
    /// # Errors
    /// If a browser would not keep it.
    pub fn store_login<T: Serialize>(
        &self,
        state: &str,
        login: &T,
        headers: &HeaderMap,
        cookies: &mut SetCookies,
        random: &dyn Random,
        now: Timestamp,
    ) -> Result<(), CookieError> {
        let name = self.names.login_name(state);
        let plain = Zeroizing::new(postcard::to_stdvec(login).unwrap_or_default());
        let sealed = self.sealer.seal(Purpose::LoginTransaction, &name, None, &plain, random, now);
        cookies.login(&name, &text(&sealed), LoginTransaction::LIFETIME, self.login_same_site)?;
        let presented = RequestCookies::new(headers);
        let pending = presented.login_names(&self.names);
        let surplus = (pending.len() + 1).saturating_sub(MAX_LOGINS);
        // Browsers send the oldest cookie first (RFC 6265 section 5.4).
        for oldest in pending.iter().filter(|pending| **pending != name).take(surplus) {
            cookies.retire(oldest, self.login_same_site);
        }
        Ok(())
    }

    /// Opens the login that belongs to `state`.
    pub fn open_login<T: DeserializeOwned>(&self, state: &str, headers: &HeaderMap, now: Timestamp) -> Option<T> {
        let cookies = RequestCookies::new(headers);
        let sealed = from_text(cookies.login(&self.names, state)?)?;
        let name = self.names.login_name(state);
        let opened = self.sealer.open(Purpose::LoginTransaction, &name, None, &sealed, now).ok()?;
        postcard::from_bytes(&opened.plain).ok()
    }

    /// Whether `headers` carry the cookie of any login, good or not.
    pub fn has_login(&self, headers: &HeaderMap) -> bool {
        !RequestCookies::new(headers).login_names(&self.names).is_empty()
    }

    /// Retires the cookie of the login that belongs to `state`.
    pub fn retire_login(&self, state: &str, cookies: &mut SetCookies) {
        cookies.retire(&self.names.login_name(state), self.login_same_site);
    }

    /// Seals what has to be known of a logout that goes by way of the authorization server into a cookie of its own, named
    /// after `key` as a login's is after its state. Neither opens as the other.
    ///
    /// # Errors
    /// If a browser would not keep it: it is too long.
    pub fn store_logout<T: Serialize>(
        &self,
        key: &str,
        logout: &T,
        cookies: &mut SetCookies,
        random: &dyn Random,
        now: Timestamp,
    ) -> Result<(), CookieError> {
        let name = self.names.login_name(key);
        let plain = Zeroizing::new(postcard::to_stdvec(logout).unwrap_or_default());
        let bound = logout_name(&name);
        let sealed = self.sealer.seal(Purpose::LoginTransaction, &bound, None, &plain, random, now);
        cookies.login(&name, &text(&sealed), LoginTransaction::LIFETIME, SameSite::Lax)
    }

    /// Opens what [`store_logout`](Self::store_logout) sealed for `key`.
    pub fn open_logout<T: DeserializeOwned>(&self, key: &str, headers: &HeaderMap, now: Timestamp) -> Option<T> {
        let cookies = RequestCookies::new(headers);
        let sealed = from_text(cookies.login(&self.names, key)?)?;
        let bound = logout_name(&self.names.login_name(key));
        let opened = self.sealer.open(Purpose::LoginTransaction, &bound, None, &sealed, now).ok()?;
        postcard::from_bytes(&opened.plain).ok()
    }

    /// Seals what is too long for a cookie, for the ledger. Only whoever has the `ticket` opens it.
    pub fn seal_aside<T: Serialize>(
        &self,
        ticket: &[u8; 32],
        value: &T,
        random: &dyn Random,
        now: Timestamp,
    ) -> Vec<u8> {
        let plain = Zeroizing::new(postcard::to_stdvec(value).unwrap_or_default());
        self.sealer.seal(Purpose::LoginResult, ASIDE, Some(ticket), &plain, random, now)
    }

    /// Opens what [`seal_aside`](Self::seal_aside) sealed.
    pub fn open_aside<T: DeserializeOwned>(&self, ticket: &[u8; 32], sealed: &[u8], now: Timestamp) -> Option<T> {
        let opened = self.sealer.open(Purpose::LoginResult, ASIDE, Some(ticket), sealed, now).ok()?;
        postcard::from_bytes(&opened.plain).ok()
    }

    /// Seals what a login has led to, for the repeats of its callback.
    pub fn seal_result<T: Serialize>(&self, state: &str, result: &T, random: &dyn Random, now: Timestamp) -> Vec<u8> {
        let plain = Zeroizing::new(postcard::to_stdvec(result).unwrap_or_default());
        self.sealer.seal(Purpose::LoginResult, state, None, &plain, random, now)
    }

    /// Seals what an API has demanded of a session, as text for a query.
    pub fn seal_demand<T: Serialize>(&self, demand: &T, random: &dyn Random, now: Timestamp) -> String {
        let plain = Zeroizing::new(postcard::to_stdvec(demand).unwrap_or_default());
        text(&self.sealer.seal(Purpose::Demand, "demand", None, &plain, random, now))
    }

    /// Opens what [`seal_demand`](Self::seal_demand) sealed.
    pub fn open_demand<T: DeserializeOwned>(&self, sealed: &str, now: Timestamp) -> Option<T> {
        let opened = self.sealer.open(Purpose::Demand, "demand", None, &from_text(sealed.as_bytes())?, now).ok()?;
        postcard::from_bytes(&opened.plain).ok()
    }

    /// Opens what [`seal_result`](Self::seal_result) sealed.
    pub fn open_result<T: DeserializeOwned>(&self, state: &str, sealed: &[u8], now: Timestamp) -> Option<T> {
        let opened = self.sealer.open(Purpose::LoginResult, state, None, sealed, now).ok()?;
        postcard::from_bytes(&opened.plain).ok()
    }

    /// Seals a list of who is signed in, for the ledger's record that `name` names.
    pub fn seal_roster<T: Serialize>(&self, name: &str, list: &T, random: &dyn Random, now: Timestamp) -> Vec<u8> {
        let plain = Zeroizing::new(postcard::to_stdvec(list).unwrap_or_default());
        self.sealer.seal(Purpose::Roster, name, None, &plain, random, now)
    }

    /// Opens what [`seal_roster`](Self::seal_roster) sealed.
    ///
    /// # Errors
    /// If it was sealed by another, or what was sealed is no such list: [`OpenError::NewerVersion`] then.
    pub fn open_roster<T: DeserializeOwned>(&self, name: &str, sealed: &[u8], now: Timestamp) -> Result<T, OpenError> {
        let opened = self.sealer.open(Purpose::Roster, name, None, sealed, now)?;
        postcard::from_bytes(&opened.plain).map_err(|_| OpenError::NewerVersion)
    }

    /// Names `text` in logs without telling it.
    pub fn fingerprint(&self, text: &str, now: Timestamp) -> String {
        self.sealer.fingerprint(text, now)
    }
}

/// What a logout's cookie is sealed for: its name with a word before it, so that it is none of a login.
fn logout_name(name: &str) -> String {
    format!("logout {name}")
}

fn body_name(session: SessionId) -> String {
    base64_simd::URL_SAFE_NO_PAD.encode_to_string(session.as_bytes())
}
