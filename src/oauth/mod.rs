//! Ring 1: the protocol. OAuth 2.0 and OpenID Connect as values that somebody else sends and receives.
//!
//! It builds [`http::Request`]s and reads [`http::Response`]s, and does no I/O: no runtime, no HTTP client, no clock, no
//! source of randomness is named here. The moment (`now`) and the dice (`random`) are arguments.
//!
//! A login is a chain of types, and each step consumes the one before:
//!
//! ```text
//! LoginTransaction ─ accept ─> CodeRedemption ─ redeem ─> PendingLogin ─ finish ─> VerifiedLogin
//! ```
//!
//! So a code is redeemed once, and a [`VerifiedLogin`] proves that every check was made.

mod answer;
mod authority;
mod authorization;
mod challenge;
mod client;
mod client_key;
mod document;
mod dpop;
mod endpoint;
mod error;
mod id_token;
mod jwks;
mod jws;
mod jwt;
mod login;
mod logout;
mod logout_token;
mod metadata;
mod pkce;
mod provider;
mod pushed;
mod requests;
mod security_profile;
mod target;
mod tenants;
#[cfg(test)]
mod testing;
mod token;
mod userinfo;
mod values;

pub use authority::Authority;
pub use authorization::{AuthorizationRequest, AuthorizationResponse, LoginWishes, Outcome};
pub use challenge::StepUp;
pub use client::{Assertion, AssertionKind, Audience, Client, ClientAuthentication, Proofs, Protocol};
pub use client_key::{ClientKey, ClientKeys, InvalidClientKey};
pub use dpop::{
    InvalidProofKey, Proof, ProofAlgorithm, ProofKey, ProofSigner, TokenScheme, bound_fields, nonce_in,
    resource_demands_nonce, server_demands_nonce,
};
pub use endpoint::{Endpoint, InvalidEndpoint, PlainHttp};
pub use error::{CallbackFault, Error, Misbehaviour, Verdict};
pub use jwks::JwkSet;
pub use login::{CodeGrant, CodeRedemption, LoginTransaction, PendingLogin, VerifiedLogin};
pub use logout::{EndSession, LogoutStyle, LogoutWishes, TokenHint, revocation_request};
pub use logout_token::LogoutToken;
pub use metadata::{AuthorizationServerMetadata, EndpointAliases};
pub use pkce::PkceVerifier;
pub use provider::{Advice, Grace, Offline, Practice, Provider, ProviderChoice};
pub use requests::{Consent, OfflineAccess, Par, Pushing, RequestOptions, ResponseMode};
pub use security_profile::SecurityProfile;
pub use target::{Means, TargetId, TokenTarget, Wanted};
pub use tenants::{Tenants, is_uuid};
pub use token::{OriginalIdentity, TokenSet, check_refreshed, refresh_request};
pub use userinfo::{UserInfo, userinfo_request};
pub use values::{
    AccessToken, AuthorizationCode, ClientId, ClientSecret, Issuer, Nonce, RawIdToken, RefreshToken, State,
};
