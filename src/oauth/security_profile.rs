//! Security profiles: what a client and its server have agreed to be held to beyond the protocol itself.

use super::error::Misbehaviour;
use super::jws::Algorithm;
use super::metadata::AuthorizationServerMetadata;

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

    /// That a server can be held to it.
    ///
    /// # Errors
    /// With what its metadata lacks. `dpop`: tokens are bound to keys of ours in any case.
    pub(super) fn examine(self, metadata: &AuthorizationServerMetadata, dpop: bool) -> Result<(), Misbehaviour> {
        if self == Self::None {
            return Ok(());
        }
        let lacks =
            |what: &str| Err(format!("metadata: {what}, or do without issuer.security_profile = \"fapi2\"").into());
        let signs = metadata.id_token_signing_alg_values_supported.iter().filter_map(|it| Algorithm::named(it));
        if metadata.pushed_authorization_request_endpoint.is_none() {
            lacks("pushed_authorization_request_endpoint is absent; let the issuer offer pushed requests")
        } else if !dpop && !metadata.tls_client_certificate_bound_access_tokens {
            lacks(
                "tls_client_certificate_bound_access_tokens is not true, so that nothing binds access tokens; let the issuer \
                 bind them, write issuer.dpop = true",
            )
        } else if !signs.into_iter().any(|algorithm| self.accepts(algorithm)) {
            lacks(
                "id_token_signing_alg_values_supported has none of PS256, ES256 and EdDSA; let the issuer sign by one",
            )
        } else {
            Ok(())
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
