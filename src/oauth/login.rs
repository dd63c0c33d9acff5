//! A login, in the order in which it can happen and no other.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::authorization::{self, AuthorizationRequest, AuthorizationResponse, LoginWishes, Outcome};
use super::client::{Client, Proofs, Protocol};
use super::dpop::{ProofKey, ProofSigner};
use super::error::{CallbackFault, Error, Misbehaviour};
use super::id_token::IdToken;
use super::jwks::JwkSet;
use super::metadata::AuthorizationServerMetadata;
use super::pkce::PkceVerifier;
use super::token::{self, OriginalIdentity, TokenSet};
use super::userinfo::UserInfo;
use super::values::{AuthorizationCode, Issuer, Nonce, State};
use crate::clock::Timestamp;

/// A login that the browser has been sent away for. It is sealed in a cookie of that browser until the answer comes.
///
/// Not `Clone`: [`accept`](Self::accept) consumes it.
#[derive(Debug, Serialize, Deserialize)]
pub struct LoginTransaction {
    issuer: Issuer,
    state: State,
    nonce: Nonce,
    verifier: PkceVerifier,
    started: Timestamp,
    max_age: Option<u64>,
    acr_values: Option<String>,
    scope: String,
    proof_key: Option<ProofKey>,
}

impl LoginTransaction {
    /// How long a person may take to log in.
    pub const LIFETIME: Duration = Duration::from_secs(15 * 60);

    /// Starts a login: what to remember of it, and what to ask the authorization server for. `state` must be new and
    /// unguessable. Where tokens are bound, the key is made here, and the code is bound to it too (RFC 9449 section 10).
    pub fn begin(
        client: &Client,
        metadata: &AuthorizationServerMetadata,
        wishes: &LoginWishes,
        state: State,
        proofs: &Proofs<'_>,
    ) -> (Self, AuthorizationRequest) {
        let proof_key = client.new_proof_key(metadata, proofs.random);
        // A key that was just made can be prepared. Without its thumbprint the code would be bound to nothing.
        let signer = proof_key.as_ref().and_then(|key| key.prepare().ok());
        let transaction = Self {
            issuer: metadata.issuer.clone(),
            state,
            nonce: Nonce::generate(proofs.random),
            verifier: PkceVerifier::generate(proofs.random),
            started: proofs.now,
            max_age: wishes.max_age,
            acr_values: wishes.acr_values.clone(),
            scope: client.scope(metadata, wishes.more_scope.as_deref()),
            proof_key,
        };
        let request = authorization::Request {
            state: &transaction.state,
            nonce: &transaction.nonce,
            challenge: &transaction.verifier.challenge(),
            scope: &transaction.scope,
            wishes,
            key: signer.as_ref().map(ProofSigner::thumbprint),
        };
        let asked = authorization::authorization_request(client, metadata, &request, proofs);
        (transaction, asked)
    }

    /// The scope that was asked for; a token response that names none has granted this one (RFC 6749 section 5.1).
    pub fn scope(&self) -> &str {
        &self.scope
    }

    /// The key that its tokens will be bound to, if they will be.
    pub const fn proof_key(&self) -> Option<&ProofKey> {
        self.proof_key.as_ref()
    }

    /// Takes the response of the authorization server, if it is the answer to this login.
    ///
    /// # Errors
    /// [`Error::Callback`] if it is not, or comes too late; [`Error::IssuerRefused`] if it is, and the answer is no.
    /// That the answer is from this server is established first: an error is not believed either (RFC 9207 section 2.4).
    pub fn accept(
        self,
        response: AuthorizationResponse,
        client: &Client,
        metadata: &AuthorizationServerMetadata,
        now: Timestamp,
    ) -> Result<CodeRedemption, Error> {
        self.examine(&response, client, metadata, now).map_err(Error::Callback)?;
        match response.into_outcome() {
            Outcome::Code(code) => Ok(CodeRedemption { transaction: self, code }),
            Outcome::Error { error, description } => Err(Error::IssuerRefused { error, description, status: None }),
        }
    }

    fn examine(
        &self,
        response: &AuthorizationResponse,
        client: &Client,
        metadata: &AuthorizationServerMetadata,
        now: Timestamp,
    ) -> Result<(), CallbackFault> {
        if *response.state() != self.state {
            return Err(CallbackFault::OtherState);
        }
        if now.since(self.started) > Self::LIFETIME {
            return Err(CallbackFault::Expired);
        }
        if metadata.issuer != self.issuer {
            return Err(CallbackFault::OtherIssuer);
        }
        match response.iss() {
            // Many servers send it before they announce it: then it is compared all the same.
            Some(iss) if metadata.issuer_named(iss).is_none() => Err(CallbackFault::IssMismatch),
            None if metadata.authorization_response_iss_parameter_supported || client.requests.require_iss => {
                Err(CallbackFault::IssMissing)
            }
            Some(_) | None => Ok(()),
        }
    }
}

/// A code that belongs to a login. It can be redeemed once,
///
/// ```
/// # use vestibule::oauth::*;
/// fn once(redemption: CodeRedemption) {
///     let (_grant, _pending) = redemption.redeem();
/// }
/// ```
///
/// for that consumes it:
///
/// ```compile_fail,E0382
/// # use vestibule::oauth::*;
/// fn twice(redemption: CodeRedemption) {
///     let (_grant, _pending) = redemption.redeem();
///     let (_again, _pending) = redemption.redeem();
/// }
/// ```
#[derive(Debug)]
pub struct CodeRedemption {
    transaction: LoginTransaction,
    code: AuthorizationCode,
}

impl CodeRedemption {
    /// What the code is redeemed with, and what the answer is to be held to.
    pub fn redeem(self) -> (CodeGrant, PendingLogin) {
        let LoginTransaction { issuer, nonce, verifier, max_age, acr_values, proof_key, .. } = self.transaction;
        let grant = CodeGrant { code: self.code, verifier, proof_key: proof_key.clone() };
        (grant, PendingLogin { issuer, nonce, max_age, acr_values, proof_key })
    }
}

/// A code on its way to the token endpoint. Its request is made anew where the server refuses one unread, for want of a
/// nonce (RFC 9449 section 8).
#[derive(Debug)]
pub struct CodeGrant {
    code: AuthorizationCode,
    verifier: PkceVerifier,
    proof_key: Option<ProofKey>,
}

impl CodeGrant {
    /// The request that redeems the code (RFC 6749 section 4.1.3).
    pub fn request(
        &self,
        client: &Client,
        metadata: &AuthorizationServerMetadata,
        proofs: &Proofs<'_>,
    ) -> http::Request<Vec<u8>> {
        let fields = [
            ("grant_type", "authorization_code"),
            ("code", self.code.expose()),
            ("redirect_uri", &client.redirect_uri),
            ("code_verifier", self.verifier.expose()),
        ];
        token::usual_token_request(client, metadata, &fields, proofs)
    }

    /// The key that proves it, if its login has one.
    pub const fn proof_key(&self) -> Option<&ProofKey> {
        self.proof_key.as_ref()
    }
}

/// A login whose code has been sent to the token endpoint.
#[derive(Debug)]
pub struct PendingLogin {
    issuer: Issuer,
    nonce: Nonce,
    max_age: Option<u64>,
    acr_values: Option<String>,
    proof_key: Option<ProofKey>,
}

impl PendingLogin {
    /// Holds the tokens to what the login asked for. Nothing may be done with them before (OpenID Connect Core section
    /// 3.1.3.7).
    ///
    /// It borrows, so that it can be repeated with keys that were fetched anew.
    ///
    /// # Errors
    /// [`Error::UnknownKey`] if no key verifies the ID token; [`Error::IssuerMisbehaved`] with the claim that is wrong.
    pub fn finish(
        &self,
        client: &Client,
        metadata: &AuthorizationServerMetadata,
        tokens: &TokenSet,
        keys: &JwkSet,
        now: Timestamp,
    ) -> Result<VerifiedLogin, Error> {
        match client.protocol {
            Protocol::OAuth => Ok(VerifiedLogin {
                // An ID token that comes all the same was not asked for: it has no nonce and proves nothing.
                original: OriginalIdentity { issuer: self.issuer.clone(), subject: None, auth_time: None, nonce: None },
                sid: None,
                acr: None,
                issued_at: now,
                claims: Map::new(),
                proof_key: self.proof_key.clone(),
            }),
            Protocol::OpenIdConnect => {
                let raw =
                    tokens.id_token.as_ref().ok_or_else(|| Misbehaviour::from("token response: id_token is absent"))?;
                if metadata.issuer != self.issuer {
                    return Err(Error::Callback(CallbackFault::OtherIssuer));
                }
                let token = IdToken::verify(raw, &tokens.access_token, client, metadata, keys, now)?;
                if token.nonce() != Some(&self.nonce) {
                    return Err(token.fault("nonce", "is not that of this login").into());
                }
                self.examine_authentication(&token, client, now)?;
                let original = OriginalIdentity {
                    issuer: token.issuer().clone(),
                    subject: Some(token.subject().to_owned()),
                    auth_time: token.auth_time(),
                    nonce: Some(self.nonce.clone()),
                };
                Ok(VerifiedLogin {
                    original,
                    sid: token.text("sid")?,
                    acr: token.text("acr")?,
                    issued_at: token.issued_at(),
                    claims: token.into_claims(),
                    proof_key: self.proof_key.clone(),
                })
            }
        }
    }

    /// When and how the person authenticated, where the login asked for something there (steps 12 and 13).
    fn examine_authentication(&self, token: &IdToken, client: &Client, now: Timestamp) -> Result<(), Misbehaviour> {
        if let Some(max_age) = self.max_age {
            let auth_time =
                token.auth_time().ok_or_else(|| token.fault("auth_time", "is absent, although max_age was sent"))?;
            if now.since(auth_time) > Duration::from_secs(max_age).saturating_add(client.clock_skew) {
                return Err(token.fault("auth_time", "is longer ago than max_age allows"));
            }
        }
        if let Some(wanted) = self.acr_values.as_deref().filter(|it| !it.is_empty()) {
            let acr = token.text("acr")?;
            if !acr.is_some_and(|acr| wanted.split(' ').any(|it| it == acr)) {
                return Err(token.fault("acr", "is none of those that were asked for"));
            }
        }
        Ok(())
    }
}

/// The evidence that somebody has logged in. Only [`PendingLogin::finish`] makes one:
///
/// ```compile_fail,E0451
/// # use vestibule::oauth::*;
/// fn forge(original: OriginalIdentity, now: vestibule::clock::Timestamp) -> VerifiedLogin {
///     VerifiedLogin { original, sid: None, acr: None, issued_at: now, claims: Default::default(), proof_key: None }
/// }
/// ```
#[derive(Debug)]
pub struct VerifiedLogin {
    original: OriginalIdentity,
    sid: Option<String>,
    acr: Option<String>,
    issued_at: Timestamp,
    claims: Map<String, Value>,
    proof_key: Option<ProofKey>,
}

impl VerifiedLogin {
    /// Who has logged in, as refreshed ID tokens will be compared with.
    pub const fn original(&self) -> &OriginalIdentity {
        &self.original
    }

    /// The issuer that says so: where the server has tenants, that of one of them.
    pub const fn issuer(&self) -> &Issuer {
        &self.original.issuer
    }

    /// The person, unique within the issuer; none where the server speaks plain OAuth and says nothing of persons.
    pub fn subject(&self) -> Option<&str> {
        self.original.subject.as_deref()
    }

    /// The issuer's own session (OpenID Connect Front-Channel Logout section 3).
    pub fn sid(&self) -> Option<&str> {
        self.sid.as_deref()
    }

    /// When the person authenticated, if the server says.
    pub const fn auth_time(&self) -> Option<Timestamp> {
        self.original.auth_time
    }

    /// The authentication context class that was reached, if the server says.
    pub fn acr(&self) -> Option<&str> {
        self.acr.as_deref()
    }

    /// When the ID token was issued, by the issuer's clock.
    pub const fn issued_at(&self) -> Timestamp {
        self.issued_at
    }

    /// What the ID token says besides the protocol's own claims, and the UserInfo endpoint where it was asked.
    pub const fn claims(&self) -> &Map<String, Value> {
        &self.claims
    }

    /// The key that the tokens of this login are bound to, if they are.
    pub const fn proof_key(&self) -> Option<&ProofKey> {
        self.proof_key.as_ref()
    }

    /// The same login, with what the UserInfo endpoint says of the same person. What only the ID token can say, such as
    /// how somebody authenticated, stays as it is.
    ///
    /// # Errors
    /// [`Error::IssuerMisbehaved`] if it speaks of somebody else: then nothing of it may be used (OpenID Connect Core
    /// section 5.3.2).
    pub fn joined_by(mut self, info: UserInfo) -> Result<Self, Error> {
        self.claims.extend(info.claims_of(self.subject())?);
        Ok(self)
    }
}

#[cfg(test)]
mod tests;
