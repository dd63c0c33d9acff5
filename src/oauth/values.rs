//! The words of the specifications, one type each, so that none is taken for another.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::secret::{Random, Secret};

/// Names an authorization server (RFC 8414 section 2, `issuer`).
///
/// It is kept and compared as the exact text: a URL type would add or drop a final slash, and `https://as.example` and
/// `https://as.example/` are two issuers (RFC 9207 section 2.4).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Issuer(String);

impl Issuer {
    /// The issuer with this identifier, letter by letter.
    pub const fn new(identifier: String) -> Self {
        Self(identifier)
    }

    /// The identifier, letter by letter.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Issuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The name under which the authorization server knows this client (RFC 6749 section 2.2). Not a secret.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ClientId(String);

impl ClientId {
    /// The client with this name.
    pub const fn new(id: String) -> Self {
        Self(id)
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Ties an authorization response to the login that asked for it (RFC 6749 section 4.1.1). Compared in constant time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct State(Secret<String>);

impl State {
    /// The state with this text; a new one must be unguessable.
    pub const fn new(text: String) -> Self {
        Self(Secret::new(text))
    }

    /// Its text, as it travels in URLs.
    pub fn as_str(&self) -> &str {
        self.0.expose()
    }
}

/// Ties an ID token to the login that asked for it (OpenID Connect Core section 3.1.2.1). Compared in constant time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Nonce(Secret<String>);

impl Nonce {
    /// The nonce with this text; a new one must be unguessable.
    pub const fn new(text: String) -> Self {
        Self(Secret::new(text))
    }

    /// 256 random bits in 43 characters: some servers take no more than 64 (FAPI 2.0 section 5.3.3.2).
    pub fn generate(random: &dyn Random) -> Self {
        Self::new(random.token())
    }

    /// Its text, as it travels in URLs.
    pub fn as_str(&self) -> &str {
        self.0.expose()
    }
}

macro_rules! secret_text {
    ($(#[$attribute:meta])* $name:ident) => {
        $(#[$attribute])*
        #[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Secret<String>);

        impl $name {
            /// Takes the text into custody.
            pub const fn new(text: String) -> Self {
                Self(Secret::new(text))
            }

            /// The text itself, for the one place that has to send it.
            pub fn expose(&self) -> &str {
                self.0.expose()
            }
        }
    };
}

secret_text!(
    /// What API calls carry (RFC 6749 section 1.4).
    // Clone, because the session that holds it is cloned: a refresh works on a copy beside running requests.
    #[derive(Clone)]
    AccessToken
);
secret_text!(
    /// What the next access token is asked with (RFC 6749 section 1.5).
    // Clone, for the same reason as the access token. That it is spent once is the ledger's concern.
    #[derive(Clone)]
    RefreshToken
);
secret_text!(
    /// An ID token in the form in which it was issued; as such it is the hint for a logout.
    // Clone, for the same reason as the access token.
    #[derive(Clone)]
    RawIdToken
);
secret_text!(
    /// What an authorization response brings (RFC 6749 section 4.1.2). Not `Clone`: it is redeemed once.
    AuthorizationCode
);
secret_text!(
    /// The client's password at the authorization server (RFC 6749 section 2.3.1).
    // Clone, because the settings that it is part of are handed to each part of the program that speaks to the server.
    #[derive(Clone)]
    ClientSecret
);

impl RawIdToken {
    /// A text in its payload. The signature was looked at when it came; here it is only read again.
    pub fn claim(&self, name: &str) -> Option<String> {
        let payload = base64_simd::URL_SAFE_NO_PAD.decode_to_vec(self.expose().split('.').nth(1)?).ok()?;
        let claims: serde_json::Value = serde_json::from_slice(&payload).ok()?;
        claims.get(name)?.as_str().map(str::to_owned)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn issuers_that_differ_by_a_slash_or_by_case_are_two() {
        // ISS-R-01
        let issuer = |text: &str| Issuer::new(text.to_owned());
        assert_ne!(issuer("https://as.test"), issuer("https://as.test/"));
        assert_ne!(issuer("https://as.test"), issuer("https://AS.test"));
        assert_eq!(issuer("https://as.test/").as_str(), "https://as.test/");
    }

    #[test]
    fn nothing_secret_is_printed() {
        // BCP-4.9-01
        let texts = [
            format!("{:?}", State::new("canary".into())),
            format!("{:?}", Nonce::new("canary".into())),
            format!("{:?}", AccessToken::new("canary".into())),
            format!("{:?}", RefreshToken::new("canary".into())),
            format!("{:?}", RawIdToken::new("canary".into())),
            format!("{:?}", AuthorizationCode::new("canary".into())),
            format!("{:?}", ClientSecret::new("canary".into())),
        ];
        for text in texts {
            assert!(!text.contains("canary"), "{text}");
        }
    }

    #[test]
    fn sealed_values_are_plain_text_inside() {
        let token = RefreshToken::new("r1".into());
        let bytes = postcard::to_stdvec(&token).expect("serialises");
        assert_eq!(bytes, postcard::to_stdvec("r1").expect("serialises"));
        assert_eq!(postcard::from_bytes::<RefreshToken>(&bytes).expect("reads"), token);
    }
}
