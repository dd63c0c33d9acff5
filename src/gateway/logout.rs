//! `POST /bff/logout`: ends the session, here first, then at the authorization server.
//!
//! The way to the authorization server carries the ID token as a hint. A form is sent there at once; a script is only told
//! to go to `GET /bff/logout`, which sends the browser on, so that no script ever holds the token. The browser comes back
//! to `GET /bff/logout/return`, the one address that is registered there. Where the page wanted to go then waits in a
//! sealed cookie and is never told to the authorization server.

use std::sync::Arc;
use std::time::Duration;

use http::Method;
use http::header::{HeaderName, HeaderValue};
use http::request::Parts;
use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::{Digest, Sha256};
use url::form_urlencoded;

use super::admission::Admission;
use super::backchannel::is_form as holds_form;
use super::body::Body;
use super::broker::Revocation;
use super::cross_origin::wants_page;
use super::reply::{Answer, Refusal};
use super::return_to::ReturnTo;
use super::{Gateway, attach, reply};
use crate::ledger::protocol::EndReason;
use crate::oauth::{EndSession, LogoutStyle, LogoutWishes};
use crate::session::cookies::SetCookies;
use crate::session::vault::Found;
use crate::session::{Session, SessionId};

/// How sessions are ended.
#[derive(Clone, Debug)]
pub struct LogoutSettings {
    /// Where a logout leads to if the page does not say: a path on this site.
    pub after: String,
    /// In which words the authorization server is told.
    pub style: LogoutStyle,
    /// Whether it is told in a form even if it all fits into an address.
    pub by_form: bool,
    /// Whether it is sent the ID token.
    pub id_token_hint: bool,
    /// The claim whose value it is sent as `logout_hint`: empty for none, and none for what the product needs.
    pub logout_hint: Option<String>,
    /// When tokens are revoked there.
    pub revocation: Revocation,
    /// What the browser is asked to forget of this site (`Clear-Site-Data`), if anything.
    pub clear_site_data: Option<HeaderValue>,
    /// Whether its pages may end sessions.
    pub front_channel: FrontChannel,
    /// Whether a logout token must call itself one (`typ`).
    pub strict_typ: bool,
}

/// Whether pages of the issuer may end sessions (OpenID Connect Front-Channel Logout).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrontChannel {
    /// No.
    Off,
    /// If they name the issuer and its session.
    On,
    /// Also if they name its session alone, as Entra ID does.
    SidOnly,
}

/// What a browser that comes back from the authorization server has to show: sealed in a cookie under the `state`.
#[derive(Serialize, Deserialize)]
struct Returning {
    /// Where the page wanted to go: a path on this site.
    to: String,
    /// The session that has ended.
    session: SessionId,
}

/// The way to the authorization server, until the browser asks for it: sealed in a cookie.
#[derive(Serialize, Deserialize)]
enum Leaving {
    /// It lies in the cookie.
    Here(Departure),
    /// It lies in the ledger, sealed under this ticket.
    Aside([u8; 32]),
}

/// How a browser leaves for the authorization server. It may hold an ID token.
#[derive(Serialize, Deserialize)]
enum Departure {
    /// By a redirect.
    To(String),
    /// By a form: where it goes, and what is in it.
    Form(String, Vec<(String, String)>),
}

/// Stands where a login has its state: the cookie that holds the way to the authorization server.
const LEAVING: &str = "logout";
/// The same for the way back, where the authorization server hands no state back.
const RETURNING: &str = "logout return";
/// How long the ledger keeps what a cookie cannot hold: the browser asks for it at once.
const ASIDE: Duration = Duration::from_secs(120);
/// The longest form of a page that is read.
const MAX_FORM: usize = 8 * 1024;
/// A longer list of languages is not passed on.
const MAX_LOCALES: usize = 256;
const CLEAR_SITE_DATA: HeaderName = HeaderName::from_static("clear-site-data");

impl Gateway {
    pub(super) async fn logout(&self, request: &Parts, body: &mut dyn Body) -> Answer {
        let prefix = &self.settings.prefix;
        if let Err(missing) = self.settings.cross_origin.prove(request) {
            return Refusal::CrossSite(missing).answer(request, prefix);
        }
        let wishes = Wishes::read(request, body).await;
        let back = wishes.return_to.as_deref().and_then(|it| ReturnTo::parse(it, &self.settings.public_url));
        let back = back.map_or_else(|| self.settings.logout.after.clone(), |path| path.as_str().to_owned());
        let (session, everywhere) = match self.identify(&request.headers).await {
            Admission::Admitted(passport) => {
                let revocation = self.settings.logout.revocation;
                match self.broker.end_and_revoke(passport.session, EndReason::Logout, revocation).await {
                    Ok(ended) => (Some(ended.newest), true),
                    Err(error) => (self.logout_unnoted(request, &error.to_string()), false),
                }
            }
            Admission::Refused(Refusal::LedgerUnavailable) => (self.logout_unnoted(request, "see above"), false),
            Admission::Nobody(_) => (None, true),
            Admission::Refused(refusal) => return refusal.answer(request, prefix),
        };
        let mut cookies = self.set_cookies();
        self.vault.retire(&request.headers, &mut cookies);
        self.forget_landing(request, &mut cookies);
        let departure = match &session {
            Some(session) => self.departure(session, &wishes, &back, everywhere, &mut cookies).await,
            None => None,
        };
        let home = self.absolute(&back);
        let mut answer = if is_of_window(request) {
            match departure.unwrap_or(Departure::To(home)) {
                Departure::To(away) if everywhere => reply::redirect(&away),
                Departure::To(away) => reply::signed_out_here(&away),
                Departure::Form(address, fields) => reply::send_on(&address, &fields),
            }
        } else {
            let target = match departure {
                Some(departure) => self.way_for_scripts(departure, &mut cookies).await,
                None => home,
            };
            reply::json(&json!({ "redirect": target, "pending": !everywhere }), request)
        };
        let headers = answer.headers_mut();
        headers.extend(self.settings.logout.clear_site_data.clone().map(|what| (CLEAR_SITE_DATA, what)));
        attach(headers, cookies);
        answer
    }

    /// A logout while the ledger cannot be asked. This browser loses its cookie and the authorization server is told; the
    /// ledger is, as soon as it can be.
    fn logout_unnoted(&self, request: &Parts, error: &str) -> Option<Arc<Session>> {
        tracing::error!(error, "a logout cannot be noted in the ledger yet; it is tried again until it can");
        let Found::Session { carried, .. } = self.vault.open(&request.headers, self.seams.clock.now()) else {
            return None;
        };
        let revokes = self.settings.logout.revocation != Revocation::Never;
        self.broker.end_later(carried, EndReason::Logout, revokes)
    }

    /// The second half of a logout that a script has asked for: now as a navigation, whose target no script can read.
    pub(super) async fn resume_logout(&self, request: &Parts) -> Answer {
        let now = self.seams.clock.now();
        let Some(leaving) = self.vault.open_logout::<Leaving>(LEAVING, &request.headers, now) else {
            // Nobody is signed out by going to an address.
            return Refusal::Method(vec![Method::POST]).answer(request, &self.settings.prefix);
        };
        let departure = match leaving {
            Leaving::Here(departure) => Some(departure),
            Leaving::Aside(ticket) => self.fetch_aside(&ticket).await,
        };
        let mut answer = match departure {
            Some(Departure::To(away)) => reply::redirect(&away),
            Some(Departure::Form(address, fields)) => reply::send_on(&address, &fields),
            None => reply::redirect(&self.absolute(&self.settings.logout.after)),
        };
        let mut cookies = self.set_cookies();
        self.vault.retire_login(LEAVING, &mut cookies);
        attach(answer.headers_mut(), cookies);
        answer
    }

    /// `GET /bff/logout/return`: where the authorization server sends the browser. A `state` that belongs to a logout of
    /// this browser leads to where the page wanted; everything else to the usual place, and changes nothing.
    pub(super) fn return_from_logout(&self, request: &Parts) -> Answer {
        let now = self.seams.clock.now();
        let key = state_of(request.uri.query().unwrap_or_default()).unwrap_or_else(|| RETURNING.to_owned());
        let returning = self.vault.open_logout::<Returning>(&key, &request.headers, now);
        let to = returning.as_ref().map_or(self.settings.logout.after.as_str(), |returning| &returning.to);
        let mut answer = reply::redirect(&self.absolute(to));
        if let Some(returning) = &returning {
            self.broker.back_from_logout(returning.session);
            let mut cookies = self.set_cookies();
            self.vault.retire_login(&key, &mut cookies);
            attach(answer.headers_mut(), cookies);
        }
        answer
    }

    /// How the browser gets to the authorization server to end its session there too, if there is such a way. The cookie
    /// for the way back is among `cookies` then.
    async fn departure(
        &self,
        session: &Session,
        wishes: &Wishes,
        back: &str,
        everywhere: bool,
        cookies: &mut SetCookies,
    ) -> Option<Departure> {
        let metadata = self.seams.server.metadata().await.ok()?;
        let (settings, random) = (&self.settings.logout, &*self.seams.random);
        let state = if EndSession::returns_state(&metadata, settings.style) { random.token() } else { String::new() };
        let claim = settings.logout_hint.as_deref().or(metadata.provider.and_then(|provider| provider.logout_hint));
        let hint = claim.filter(|claim| !claim.is_empty()).and_then(|claim| text_claim(session, claim));
        let told = LogoutWishes {
            id_token_hint: session.grant.id_token.as_ref().filter(|_| settings.id_token_hint),
            logout_hint: hint.as_deref(),
            ui_locales: wishes.ui_locales.as_deref(),
            post_logout_redirect_uri: &self.absolute(&format!("{}/logout/return", self.settings.prefix)),
            state: &state,
        };
        let way = EndSession::new(&self.settings.client, &metadata, settings.style, &told)?;
        let key = if state.is_empty() { RETURNING } else { &state };
        let returning = Returning { to: back.to_owned(), session: session.id };
        if let Err(error) = self.vault.store_logout(key, &returning, cookies, random, self.seams.clock.now()) {
            tracing::warn!(%error, "a logout will lead to logout.after: the way back does not fit into a cookie");
        }
        // A page that people have to read first cannot send itself on.
        if everywhere && way.takes_a_form() && (settings.by_form || way.is_long()) {
            return Some(Departure::form(&way));
        }
        let way = if way.is_long() { way.without_hint() } else { way };
        Some(Departure::To(way.url().into()))
    }

    /// Where a script sends the browser: to us again, because the way on is for the browser alone to know.
    async fn way_for_scripts(&self, departure: Departure, cookies: &mut SetCookies) -> String {
        let (random, now) = (&*self.seams.random, self.seams.clock.now());
        let leaving = Leaving::Here(departure);
        let mut stored = self.vault.store_logout(LEAVING, &leaving, cookies, random, now);
        if let (Err(_), Leaving::Here(departure)) = (&stored, leaving) {
            let leaving = match self.put_aside(&departure).await {
                Some(ticket) => Leaving::Aside(ticket),
                None => Leaving::Here(departure.without_hint()),
            };
            stored = self.vault.store_logout(LEAVING, &leaving, cookies, random, now);
        }
        match stored {
            Ok(()) => self.absolute(&format!("{}/logout", self.settings.prefix)),
            Err(error) => {
                tracing::warn!(%error, "the issuer's own session is not ended: the way there does not fit into a cookie");
                self.absolute(&self.settings.logout.after)
            }
        }
    }

    /// Lays in the ledger what is too long for a cookie, and says which ticket opens it.
    async fn put_aside(&self, departure: &Departure) -> Option<[u8; 32]> {
        let (random, now) = (&*self.seams.random, self.seams.clock.now());
        let ticket = random.bytes::<32>();
        let sealed = self.vault.seal_aside(&ticket, departure, random, now);
        match self.seams.ledger.leave(aside(&ticket), sealed, now + ASIDE).await {
            Ok(()) => Some(ticket),
            Err(error) => {
                tracing::warn!(%error, "the issuer is not sent the ID token: it fits into no cookie, and the ledger fails");
                None
            }
        }
    }

    async fn fetch_aside(&self, ticket: &[u8; 32]) -> Option<Departure> {
        let sealed = self.seams.ledger.left(aside(ticket)).await.ok()??;
        self.vault.open_aside(ticket, &sealed, self.seams.clock.now())
    }

    /// The address of a path on this site.
    fn absolute(&self, path: &str) -> String {
        format!("{}{path}", self.settings.public_url.origin().ascii_serialization())
    }
}

impl Departure {
    fn form(way: &EndSession) -> Self {
        let fields = way.fields().iter().map(|(name, value)| ((*name).to_owned(), value.clone()));
        Self::Form(way.address().as_str().to_owned(), fields.collect())
    }

    /// The same for when there is no room for an ID token. A redirect is short as it is.
    fn without_hint(self) -> Self {
        match self {
            Self::Form(address, mut fields) => {
                fields.retain(|(name, _)| name != "id_token_hint");
                Self::Form(address, fields)
            }
            Self::To(address) => match url::Url::parse(&address) {
                Ok(mut url) => {
                    let mut kept: Vec<_> = url.query_pairs().into_owned().collect();
                    kept.retain(|(name, _)| name != "id_token_hint");
                    url.query_pairs_mut().clear().extend_pairs(kept);
                    Self::To(url.into())
                }
                Err(_) => Self::To(address),
            },
        }
    }
}

/// What a page may wish of its logout. What it says of the way back to the authorization server is not looked at.
#[derive(Default)]
struct Wishes {
    return_to: Option<String>,
    ui_locales: Option<String>,
}

impl Wishes {
    /// From the query, and from the form if there is one. Nothing that is wrong with either stops a logout.
    async fn read(request: &Parts, body: &mut dyn Body) -> Self {
        let mut wishes = Self::default();
        wishes.take(request.uri.query().unwrap_or_default().as_bytes());
        if holds_form(&request.headers) {
            match body.read(MAX_FORM).await {
                Ok(form) => wishes.take(&form),
                Err(error) => tracing::info!(%error, "the form of a logout is not read"),
            }
        }
        wishes
    }

    fn take(&mut self, encoded: &[u8]) {
        for (name, value) in form_urlencoded::parse(encoded).filter(|(_, value)| !value.is_empty()) {
            match &*name {
                "return_to" => self.return_to = Some(value.into_owned()),
                "ui_locales" if value.len() <= MAX_LOCALES && !value.chars().any(char::is_control) => {
                    self.ui_locales = Some(value.into_owned());
                }
                _ => {}
            }
        }
    }
}

/// The one `state` of a query; none if there is none, or more than one.
fn state_of(query: &str) -> Option<String> {
    let mut states = form_urlencoded::parse(query.as_bytes()).filter(|(name, _)| name == "state");
    let (_, state) = states.next()?;
    (states.next().is_none() && !state.is_empty()).then(|| state.into_owned())
}

/// What the session knows under the name of a claim, or what its ID token says.
fn text_claim(session: &Session, name: &str) -> Option<String> {
    if name == "sub" {
        return session.identity.original.subject.clone();
    }
    let kept = session.identity.claims().get(name).and_then(|value| value.as_str().map(str::to_owned));
    kept.or_else(|| session.grant.id_token.as_ref()?.claim(name))
}

fn aside(ticket: &[u8; 32]) -> [u8; 32] {
    Sha256::new().chain_update("logout set aside ").chain_update(ticket).finalize().into()
}

/// A form of a page, which follows redirects, and not a script, which reads the answer.
fn is_of_window(request: &Parts) -> bool {
    match request.headers.get("sec-fetch-mode") {
        Some(mode) => mode.as_bytes() == b"navigate",
        None => wants_page(request),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_there_is_no_room_the_id_token_is_left_out_and_nothing_else() {
        // RIL-2-03
        let address = "https://as.test/end?tenant=1&client_id=app&id_token_hint=a.b.c&state=s";
        let Departure::To(left) = Departure::To(address.to_owned()).without_hint() else {
            panic!("it stays a redirect")
        };
        assert_eq!(left, "https://as.test/end?tenant=1&client_id=app&state=s");
        let fields = [("client_id", "app"), ("id_token_hint", "a.b.c"), ("state", "s")];
        let fields = fields.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
        let form = Departure::Form("https://as.test/end".to_owned(), fields);
        let Departure::Form(_, left) = form.without_hint() else { panic!("it stays a form") };
        assert_eq!(left.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["client_id", "state"]);
    }

    #[test]
    fn a_state_counts_if_it_is_the_only_one() {
        // RIL-2-05
        assert_eq!(state_of("state=a%20b&x=1").as_deref(), Some("a b"));
        for query in ["", "state", "state=", "state=a&state=a", "states=a", "state=&state=a"] {
            assert_eq!(state_of(query), None, "{query}");
        }
    }
}
