//! Proof key for code exchange (RFC 7636), by `S256` only.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::secret::{Random, Secret};

/// The secret that only the one who started a login knows. Not Clone: it is sent once.
#[derive(Debug, Serialize, Deserialize)]
pub struct PkceVerifier(Secret<String>);

impl PkceVerifier {
    /// A new one: 43 characters, 256 random bits (RFC 7636 section 7.1).
    pub fn generate(random: &dyn Random) -> Self {
        Self(Secret::new(random.token()))
    }

    /// The challenge that stands for it in the authorization request.
    pub fn challenge(&self) -> String {
        base64_simd::URL_SAFE_NO_PAD.encode_to_string(Sha256::digest(self.0.expose()))
    }

    /// The verifier itself, for the token request.
    pub fn expose(&self) -> &str {
        self.0.expose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_challenge_is_that_of_rfc_7636_appendix_b() {
        let verifier = PkceVerifier(Secret::new("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk".to_owned()));
        assert_eq!(verifier.challenge(), "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM");
    }
}
