//! Ring 1: the protocol, without I/O. It builds `http::Request` values and reads `http::Response` values; who sends
//! them, and when, is somebody else's business.

mod authorization;
mod client;
mod error;
mod id_token;
mod json;
mod jwks;
mod login;
mod logout;
mod metadata;
mod pkce;
mod token;
mod values;

pub use self::authorization::{AuthorizationResponse, LoginWishes};
pub use self::client::{Client, ClientAuthentication, Scopes};
pub use self::error::{Error, Verdict};
pub use self::id_token::OriginalIdentity;
pub use self::jwks::JwkSet;
pub use self::login::{CodeRedemption, LoginTransaction, PendingLogin, VerifiedLogin};
pub use self::logout::{TokenHint, end_session_url, revocation_request};
pub use self::metadata::{AuthorizationServerMetadata, PlainHttp};
pub use self::pkce::PkceVerifier;
pub use self::token::{TokenSet, check_refreshed, refresh_request};
pub use self::values::{
    AccessToken, AuthorizationCode, ClientId, ClientSecret, Issuer, Nonce, RawIdToken, RefreshToken, State,
};
