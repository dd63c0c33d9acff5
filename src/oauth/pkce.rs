//! Proof Key for Code Exchange (RFC 7636), method S256 only: there is no code that could fall back to `plain`.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::secret::{Random, Secret};

/// The only method that is ever sent.
pub(super) const METHOD: &str = "S256";

/// What shows at the token endpoint that whoever redeems a code has asked for it.
///
/// Not `Clone`: it is sent once, together with its code.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PkceVerifier(Secret<String>);

impl PkceVerifier {
    /// A new verifier: 256 random bits as 43 unreserved characters (RFC 7636 sections 4.1 and 7.1).
    pub fn generate(random: &dyn Random) -> Self {
        Self::new(random.token())
    }

    /// The verifier with this text.
    pub const fn new(text: String) -> Self {
        Self(Secret::new(text))
    }

    /// What the authorization request shows of it (RFC 7636 section 4.2).
    pub fn challenge(&self) -> String {
        base64_simd::URL_SAFE_NO_PAD.encode_to_string(Sha256::digest(self.expose()))
    }

    /// The text itself, for the token request.
    pub fn expose(&self) -> &str {
        self.0.expose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oauth::testing::Dice;

    #[test]
    fn the_example_of_rfc_7636_appendix_b_holds() {
        // PKCE-4.2-01
        let verifier = PkceVerifier::new("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk".into());
        assert_eq!(verifier.challenge(), "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM");
    }

    #[test]
    fn a_new_verifier_is_43_unreserved_characters_and_never_repeats() {
        // PKCE-4.1-01, BCP-2.1.1-01
        let dice = Dice::default();
        let verifiers: std::collections::BTreeSet<String> =
            (0..100).map(|_| PkceVerifier::generate(&dice).expose().to_owned()).collect();
        assert_eq!(verifiers.len(), 100);
        for verifier in &verifiers {
            assert_eq!(verifier.len(), 43);
            assert!(verifier.bytes().all(|it| it.is_ascii_alphanumeric() || b"-._~".contains(&it)));
        }
    }
}
