//! A login as types: each step consumes the one before, so that none can be left out or taken twice.
//!
//! ```compile_fail
//! # use vestibule::oauth::*;
//! fn twice(redemption: CodeRedemption, client: &Client, metadata: &AuthorizationServerMetadata) {
//!     redemption.token_request(client, metadata);
//!     redemption.token_request(client, metadata); // the code is gone
//! }
//! ```
//!
//! ```compile_fail
//! # use vestibule::oauth::*;
//! let forged = VerifiedLogin {}; // only a finished login makes one
//! ```

use std::time::Duration;

use http::Request;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use url::Url;

use super::authorization::{AuthorizationResponse, LoginWishes, authorization_url};
use super::client::Client;
use super::error::Error;
use super::id_token::{self, OriginalIdentity, VerifiedClaims};
use super::jwks::JwkSet;
use super::metadata::AuthorizationServerMetadata;
use super::pkce::PkceVerifier;
use super::token::TokenSet;
use super::values::{AuthorizationCode, Issuer, Nonce, State};
use crate::clock::Timestamp;
use crate::secret::Random;

/// A login that a browser has been sent away for.
#[derive(Debug, Serialize, Deserialize)]
pub struct LoginTransaction {
    issuer: Issuer,
    pub(super) state: State,
    pub(super) nonce: Nonce,
    pub(super) verifier: PkceVerifier,
    started: Timestamp,
    max_age: Option<u64>,
}

/// A login whose response was accepted: the code may be redeemed, once.
#[derive(Debug)]
pub struct CodeRedemption {
    code: AuthorizationCode,
    verifier: PkceVerifier,
    expected: PendingLogin,
}

/// A login whose code is being redeemed.
#[derive(Debug)]
pub struct PendingLogin {
    nonce: Nonce,
    max_age: Option<u64>,
}

/// Evidence that somebody has signed in: an ID token that was verified in every respect.
#[derive(Debug)]
pub struct VerifiedLogin {
    original: OriginalIdentity,
    sid: Option<String>,
    acr: Option<String>,
    issued_at: Timestamp,
    claims: Map<String, Value>,
}

impl LoginTransaction {
    /// A login has to be finished within this time.
    pub const LIFETIME: Duration = Duration::from_secs(15 * 60);

    /// Starts a login, and says where the browser goes.
    pub fn begin(
        client: &Client,
        metadata: &AuthorizationServerMetadata,
        wishes: &LoginWishes,
        state: State,
        random: &dyn Random,
        now: Timestamp,
    ) -> (Self, Url) {
        let transaction = Self {
            issuer: metadata.issuer.clone(),
            state,
            nonce: Nonce::new(random.token()),
            verifier: PkceVerifier::generate(random),
            started: now,
            max_age: wishes.max_age,
        };
        let url = authorization_url(client, metadata, wishes, &transaction);
        (transaction, url)
    }

    /// Accepts the response to this very login, from this very issuer (RFC 9207 section 2.4). Only then is its error
    /// believed, too.
    ///
    /// # Errors
    /// If it is not acceptable, or says that the server refused.
    pub fn accept(
        self,
        response: AuthorizationResponse,
        metadata: &AuthorizationServerMetadata,
        now: Timestamp,
    ) -> Result<CodeRedemption, Error> {
        if *response.state() != self.state {
            return Err(Error::Callback("its state is that of another login"));
        }
        if self.issuer != metadata.issuer {
            return Err(Error::Callback("it was started at another issuer"));
        }
        match &response.issuer {
            Some(stated) if stated == self.issuer.as_str() => {}
            Some(_) => return Err(Error::misbehaved("the response's iss is another issuer")),
            None if metadata.authorization_response_iss_parameter_supported => {
                return Err(Error::misbehaved("the response has no iss although the metadata announces it"));
            }
            None => {}
        }
        if now.since(self.started) > Self::LIFETIME {
            return Err(Error::Callback("the login was started too long ago"));
        }
        match response.outcome {
            Ok(code) => {
                let expected = PendingLogin { nonce: self.nonce, max_age: self.max_age };
                Ok(CodeRedemption { code, verifier: self.verifier, expected })
            }
            Err(error) => Err(Error::IssuerRefused { error, status: 0, retry_after: None }),
        }
    }
}

impl CodeRedemption {
    /// The token request (RFC 6749 section 4.1.3), and what its answer has to be held against.
    pub fn token_request(
        self,
        client: &Client,
        metadata: &AuthorizationServerMetadata,
    ) -> (Request<Vec<u8>>, PendingLogin) {
        let fields = [
            ("grant_type", "authorization_code"),
            ("code", self.code.expose()),
            ("redirect_uri", &client.redirect_uri),
            ("code_verifier", self.verifier.expose()),
        ];
        (client.post(&metadata.token_endpoint, &fields), self.expected)
    }
}

impl PendingLogin {
    /// Verifies the tokens. It may be repeated with fresh keys after [`Error::UnknownKey`].
    ///
    /// # Errors
    /// If the ID token is missing or not acceptable in any respect.
    pub fn finish(
        &self,
        client: &Client,
        metadata: &AuthorizationServerMetadata,
        tokens: &TokenSet,
        keys: &JwkSet,
        now: Timestamp,
    ) -> Result<VerifiedLogin, Error> {
        let token = tokens.id_token.as_ref().ok_or_else(|| {
            Error::misbehaved("the token response has no id_token; is the scope openid among issuer.scopes?")
        })?;
        let verified = id_token::verify(token, &tokens.access_token, client, metadata, keys, now)?;
        if verified.nonce.as_ref() != Some(&self.nonce) {
            return Err(Error::misbehaved("the ID token's nonce is not that of this login"));
        }
        if let Some(max_age) = self.max_age {
            let authenticated = verified
                .auth_time
                .ok_or_else(|| Error::misbehaved("the ID token has no auth_time although max_age was sent"))?;
            if now.since(authenticated) > Duration::from_secs(max_age) + client.clock_skew {
                return Err(Error::misbehaved("the ID token's auth_time lies further back than max_age allows"));
            }
        }
        let VerifiedClaims { subject, issued_at, auth_time, nonce: _, acr, sid, all } = verified;
        Ok(VerifiedLogin {
            original: OriginalIdentity {
                issuer: metadata.issuer.clone(),
                subject,
                auth_time,
                nonce: self.nonce.clone(),
            },
            sid,
            acr,
            issued_at,
            claims: all,
        })
    }
}

impl VerifiedLogin {
    /// Who signed in, as later ID tokens are compared with it.
    pub const fn original(&self) -> &OriginalIdentity {
        &self.original
    }

    /// The issuer's own session.
    pub fn sid(&self) -> Option<&str> {
        self.sid.as_deref()
    }

    /// The authentication context class that was reached.
    pub fn acr(&self) -> Option<&str> {
        self.acr.as_deref()
    }

    /// When the ID token was issued, by the issuer's clock.
    pub const fn issued_at(&self) -> Timestamp {
        self.issued_at
    }

    /// All claims of the ID token.
    pub const fn claims(&self) -> &Map<String, Value> {
        &self.claims
    }
}
