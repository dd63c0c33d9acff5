//! Security profiles: what a client and its server have agreed to be held to beyond the protocol itself.

use super::jws::Algorithm;

/// What logins are held to beyond the protocol itself.
///
/// Most of a profile is what other settings are set to, which configuration sees to. Here is the rest.
#[must_use]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SecurityProfile {
    /// Nothing.
    #[default]
    None,
    /// FAPI 2.0 Security Profile (final).
    Fapi2,
}

impl SecurityProfile {
    /// Whether a login starts only once the person has agreed to it on a page of this site (FAPI 2.0 section 5.3.3.1,
    /// clause 12), if another site has led there.
    pub const fn asks_before_login(self) -> bool {
        match self {
            Self::None => false,
            Self::Fapi2 => true,
        }
    }

    /// Whether a signature by this algorithm is accepted (FAPI 2.0 section 5.4.1).
    pub(super) const fn accepts(self, algorithm: Algorithm) -> bool {
        match (self, algorithm) {
            (Self::None, _) | (Self::Fapi2, Algorithm::Ps256 | Algorithm::Es256 | Algorithm::EdDsa) => true,
            (
                Self::Fapi2,
                Algorithm::Rs256
                | Algorithm::Rs384
                | Algorithm::Rs512
                | Algorithm::Ps384
                | Algorithm::Ps512
                | Algorithm::Es384,
            ) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fapi_accepts_three_algorithms() {
        // FAPI-5.4.1-01
        let all = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA"];
        let accepted = |profile: SecurityProfile| -> Vec<&str> {
            let is_accepted = |name: &&str| Algorithm::named(name).is_some_and(|it| profile.accepts(it));
            all.into_iter().filter(is_accepted).collect()
        };
        assert_eq!(accepted(SecurityProfile::Fapi2), ["PS256", "ES256", "EdDSA"]);
        assert_eq!(accepted(SecurityProfile::None), all);
    }
}
