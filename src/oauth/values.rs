//! The specification's words as types. What is secret redacts itself and is read through `expose` alone.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::secret::{Secret, constant_time_eq};

/// The issuer identifier (RFC 8414 section 2). Compared as the exact string that was configured: a parsed URL would add
/// or drop a slash.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Issuer(String);

/// The client identifier (RFC 6749 section 2.2).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientId(String);

/// Binds an authorization response to the browser that asked for it (RFC 6749 section 10.12).
#[derive(Clone, Serialize, Deserialize)]
pub struct State(String);

/// Binds an ID token to the login that asked for it (OpenID Connect Core section 15.5.2).
#[derive(Clone, Serialize, Deserialize)]
pub struct Nonce(String);

macro_rules! text {
    ($($name:ident),*) => {$(
        impl $name {
            /// The value with this text, taken as it is.
            pub const fn new(text: String) -> Self {
                Self(text)
            }

            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
    )*};
}

text!(Issuer, ClientId, State, Nonce);

macro_rules! compared_in_constant_time {
    ($($name:ident),*) => {$(
        impl PartialEq for $name {
            fn eq(&self, other: &Self) -> bool {
                constant_time_eq(self.0.as_bytes(), other.0.as_bytes())
            }
        }

        impl Eq for $name {}

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($name), "([redacted])"))
            }
        }
    )*};
}

compared_in_constant_time!(State, Nonce);

macro_rules! secret {
    ($($(#[$doc:meta])* $name:ident: $($derive:ident),*;)*) => {$(
        $(#[$doc])*
        #[derive($($derive),*)]
        pub struct $name(Secret<String>);

        impl $name {
            /// Takes the value into custody.
            pub const fn new(value: String) -> Self {
                Self(Secret::new(value))
            }

            /// The value itself, for the one place that has to use it.
            pub fn expose(&self) -> &str {
                self.0.expose()
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($name), "([redacted])"))
            }
        }
    )*};
}

// Tokens are Clone because a session is: the request that uses one and the flight that replaces it both hold it.
secret! {
    /// What API calls carry (RFC 6750).
    AccessToken: Clone, PartialEq, Eq, Serialize, Deserialize;
    /// What new access tokens are asked with (RFC 6749 section 1.5). A rotating one must never be sent twice.
    RefreshToken: Clone, PartialEq, Eq, Serialize, Deserialize;
    /// An ID token as it came. What it says counts only after it was verified.
    RawIdToken: Clone, PartialEq, Eq, Serialize, Deserialize;
    /// The client's password at the authorization server (RFC 6749 section 2.3.1).
    ClientSecret: Clone, PartialEq, Eq;
    /// An authorization code (RFC 6749 section 1.3.1). Not Clone: it is sent once.
    AuthorizationCode: PartialEq, Eq;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_print_nothing_of_themselves() {
        let printed = format!(
            "{:?} {:?} {:?}",
            AccessToken::new("canary".to_owned()),
            State::new("canary".to_owned()),
            ClientSecret::new("canary".to_owned())
        );
        assert!(!printed.contains("canary"), "{printed}");
    }

    #[test]
    fn issuers_are_compared_as_they_were_written() {
        // ISS-R-01
        let issuer = |text: &str| Issuer::new(text.to_owned());
        assert_ne!(issuer("https://as.test"), issuer("https://as.test/"));
        assert_ne!(issuer("https://as.test"), issuer("https://AS.test"));
    }
}
