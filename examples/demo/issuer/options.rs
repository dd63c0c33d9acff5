//! How the issuer behaves.

use std::sync::Arc;
use std::time::Duration;

use vestibule::clock::{Clock, SystemClock};
use vestibule::secret::Secret;

use super::possession::Nonces;
use super::{Proof, Rotation, User};

/// How an [`Issuer`](super::Issuer) behaves. The default is a strict server that is easy to test against.
pub struct Options {
    /// The port on 127.0.0.1; 0 takes any that is free.
    pub port: u16,
    /// How the issuer's URL names this machine: `127.0.0.1` or `localhost`.
    pub host: String,
    /// The one client that is registered.
    pub client_id: String,
    /// How it proves who it is.
    pub proof: Proof,
    /// Its secret.
    pub client_secret: Secret<String>,
    /// Where sign-ins may return to; compared as exact strings. See also [`Issuer::register`](super::Issuer::register).
    pub redirect_uris: Vec<String>,
    /// Where sign-outs may return to; compared as exact strings.
    pub post_logout_redirect_uris: Vec<String>,
    /// How long an access token is good, in whole seconds.
    pub access_token_ttl: Duration,
    /// How long a refresh token is good.
    pub refresh_token_ttl: Duration,
    /// What using a refresh token does to it.
    pub rotation: Rotation,
    /// How people sign in.
    pub login: Login,
    /// How long every call of the token endpoint takes before it is processed.
    pub token_delay: Duration,
    /// What the metadata announces, and the server then does.
    pub announce: Announce,
    /// Whether tokens are bound to keys, and how the server then deals in nonces.
    pub dpop: Option<Nonces>,
    /// What time it is here.
    pub clock: Arc<dyn Clock>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            port: 0,
            host: "127.0.0.1".to_owned(),
            client_id: "spa-bff".to_owned(),
            proof: Proof::Secret,
            // Every character that a careless encoding would damage (RFC 6749 section 2.3.1).
            client_secret: Secret::new("canary-s3cret:%+& ü/=".to_owned()),
            redirect_uris: Vec::new(),
            post_logout_redirect_uris: Vec::new(),
            access_token_ttl: Duration::from_secs(300),
            refresh_token_ttl: Duration::from_secs(24 * 60 * 60),
            rotation: Rotation::Strict,
            login: Login::Automatic(User::Ada),
            token_delay: Duration::ZERO,
            announce: Announce::default(),
            dpop: None,
            clock: Arc::new(SystemClock::default()),
        }
    }
}

/// How people sign in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Login {
    /// On a page, by choosing who they are.
    Page,
    /// Without being asked, always as the same person.
    Automatic(User),
}

/// Optional parts of the protocol. By default all of them are there, but for pushed requests.
#[derive(Clone, Copy, Debug)]
pub struct Announce {
    /// `iss` in authorization responses (RFC 9207).
    pub issuer_parameter: bool,
    /// RP-initiated logout.
    pub end_session: bool,
    /// Token revocation (RFC 7009).
    pub revocation: bool,
    /// Pushed authorization requests (RFC 9126).
    pub pushed: Pushed,
    /// Access tokens that are bound to the certificate of who gets them (RFC 8705 section 3).
    pub bound_tokens: bool,
}

/// Whether clients push their authorization requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pushed {
    /// They cannot.
    No,
    /// They may.
    Offered,
    /// They have to.
    Required,
}

impl Default for Announce {
    fn default() -> Self {
        Self { issuer_parameter: true, end_session: true, revocation: true, pushed: Pushed::No, bound_tokens: false }
    }
}
