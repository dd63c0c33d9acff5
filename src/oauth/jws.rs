//! Signed tokens in compact form (RFC 7515). The signature itself is checked by the `jsonwebtoken` crate.

use sha2::{Digest, Sha256, Sha384, Sha512};

use super::document::Document;
use super::error::{Error, Misbehaviour};
use super::jwks::{JwkSet, SigningKey};

/// An algorithm that signatures are accepted from: asymmetric ones only.
///
/// There is no `none`, and no HMAC: a token signed with the text of a public key is not even read (RFC 8725 section
/// 2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Algorithm {
    Rs256,
    Rs384,
    Rs512,
    Ps256,
    Ps384,
    Ps512,
    Es256,
    Es384,
    EdDsa,
}

/// The kinds of keys that the algorithms need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KeyKind {
    Rsa,
    P256,
    P384,
    Ed25519,
}

impl Algorithm {
    /// The algorithm with this name (RFC 7518 section 3.1, RFC 8037, RFC 9864), in exactly this spelling.
    pub(super) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "RS256" => Self::Rs256,
            "RS384" => Self::Rs384,
            "RS512" => Self::Rs512,
            "PS256" => Self::Ps256,
            "PS384" => Self::Ps384,
            "PS512" => Self::Ps512,
            "ES256" => Self::Es256,
            "ES384" => Self::Es384,
            "EdDSA" | "Ed25519" => Self::EdDsa,
            _ => return None,
        })
    }

    pub(super) const fn key_kind(self) -> KeyKind {
        match self {
            Self::Rs256 | Self::Rs384 | Self::Rs512 | Self::Ps256 | Self::Ps384 | Self::Ps512 => KeyKind::Rsa,
            Self::Es256 => KeyKind::P256,
            Self::Es384 => KeyKind::P384,
            Self::EdDsa => KeyKind::Ed25519,
        }
    }

    /// The left half of the hash that belongs to the algorithm, as `at_hash` has it (OpenID Connect Core section
    /// 3.1.3.6).
    pub(super) fn half_hash(self, text: &str) -> String {
        let hash = match self {
            Self::Rs256 | Self::Ps256 | Self::Es256 => Sha256::digest(text).to_vec(),
            Self::Rs384 | Self::Ps384 | Self::Es384 => Sha384::digest(text).to_vec(),
            // Ed25519 hashes with SHA-512 itself (RFC 8032 section 5.1).
            Self::Rs512 | Self::Ps512 | Self::EdDsa => Sha512::digest(text).to_vec(),
        };
        let (left, _) = hash.split_at(hash.len() / 2);
        base64_simd::URL_SAFE_NO_PAD.encode_to_string(left)
    }

    const fn for_verifier(self) -> jsonwebtoken::Algorithm {
        match self {
            Self::Rs256 => jsonwebtoken::Algorithm::RS256,
            Self::Rs384 => jsonwebtoken::Algorithm::RS384,
            Self::Rs512 => jsonwebtoken::Algorithm::RS512,
            Self::Ps256 => jsonwebtoken::Algorithm::PS256,
            Self::Ps384 => jsonwebtoken::Algorithm::PS384,
            Self::Ps512 => jsonwebtoken::Algorithm::PS512,
            Self::Es256 => jsonwebtoken::Algorithm::ES256,
            Self::Es384 => jsonwebtoken::Algorithm::ES384,
            Self::EdDsa => jsonwebtoken::Algorithm::EdDSA,
        }
    }
}

/// A signed token, taken apart. Its payload is given away by [`verify`](Self::verify) alone.
pub(super) struct Jws<'a> {
    algorithm: Algorithm,
    key_id: Option<String>,
    kind: Option<String>,
    signed: &'a str,
    payload: Vec<u8>,
    signature: &'a str,
}

/// A longer token is not looked at, in bytes.
const MAX_LENGTH: usize = 64 * 1024;
/// So many keys are tried where the token does not say which one it means.
const MAX_TRIES: usize = 8;

impl<'a> Jws<'a> {
    /// Takes a token apart; `name` is what faults call it. Header members that offer a key (`jwk`, `jku`, `x5c`, `x5u`)
    /// are not looked at.
    pub(super) fn parse(name: &'static str, token: &'a str) -> Result<Self, Misbehaviour> {
        let fault = |what: &str| Misbehaviour::from(format!("{name}: {what}"));
        if token.len() > MAX_LENGTH {
            return Err(fault("longer than 64 KiB"));
        }
        let (signed, signature) = token.rsplit_once('.').ok_or_else(|| fault("not a signed token in compact form"))?;
        let (header, payload) = signed.split_once('.').ok_or_else(|| fault("not a signed token in compact form"))?;
        if payload.contains('.') {
            return Err(fault("encrypted, or not a signed token in compact form"));
        }
        let decode = |part: &str| {
            base64_simd::URL_SAFE_NO_PAD.decode_to_vec(part).map_err(|_| fault("a part of it is not base64url"))
        };
        let header = Document::read(name, &decode(header)?)?;
        // There is no extension that is understood here (RFC 7515 section 4.1.11).
        if header.value("crit").is_some() {
            return Err(header.fault("crit", "names an extension that is not understood"));
        }
        let algorithm = Algorithm::named(header.required_text("alg")?)
            .ok_or_else(|| header.fault("alg", "is none that is accepted"))?;
        Ok(Self {
            algorithm,
            key_id: header.text("kid")?.map(str::to_owned),
            kind: header.text("typ")?.map(str::to_owned),
            signed,
            payload: decode(payload)?,
            signature,
        })
    }

    pub(super) const fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// What sort of token it says it is (`typ`).
    pub(super) fn kind(&self) -> Option<&str> {
        self.kind.as_deref()
    }

    /// The payload, if one of the keys verifies the signature, and that key.
    ///
    /// # Errors
    /// [`Error::UnknownKey`] if none does.
    pub(super) fn verify<'k>(&self, keys: &'k JwkSet) -> Result<(Vec<u8>, &'k SigningKey), Error> {
        let verifies = |key: &&SigningKey| {
            let algorithm = self.algorithm.for_verifier();
            let (signature, signed) = (self.signature, self.signed.as_bytes());
            jsonwebtoken::crypto::verify(signature, signed, key.material(), algorithm).unwrap_or(false)
        };
        let key = keys.suitable(self.algorithm, self.key_id.as_deref()).take(MAX_TRIES).find(verifies);
        key.map(|key| (self.payload.clone(), key)).ok_or(Error::UnknownKey)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oauth::testing::{Key, encode};

    fn fault(token: &str) -> String {
        Jws::parse("ID token", token).err().expect("is a fault").to_string()
    }

    #[test]
    fn only_compact_signed_tokens_are_read() {
        // OIDC-2-02
        for token in ["", "a", "a.b", "a.b.c.d.e", "{\"payload\":\"\"}", "!.!.!", "e30=.e30.x"] {
            assert!(Jws::parse("ID token", token).is_err(), "{token}");
        }
        assert_eq!(fault(&"x".repeat(64 * 1024 + 1)), "ID token: longer than 64 KiB");
    }

    #[test]
    fn algorithms_outside_the_list_are_refused_before_any_key_is_looked_at() {
        // OIDC-3.1.3.7-06, ASVS-9.1.2
        for alg in ["none", "None", "NONE", "HS256", "HS384", "HS512", "ES256K", "rs256", "RSA1_5"] {
            let token = format!("{}.e30.x", encode(&serde_json::json!({ "alg": alg })));
            assert_eq!(fault(&token), "ID token: alg is none that is accepted", "{alg}");
        }
        assert_eq!(fault("e30.e30.x"), "ID token: alg is absent");
    }

    #[test]
    fn critical_extensions_and_doubled_header_members_are_refused() {
        // OIDC-2-01, OIDC-2-02
        let token = format!("{}.e30.x", encode(&serde_json::json!({ "alg": "RS256", "crit": ["x"] })));
        assert_eq!(fault(&token), "ID token: crit names an extension that is not understood");
        let doubled = base64_simd::URL_SAFE_NO_PAD.encode_to_string(r#"{"alg":"RS256","alg":"ES256"}"#);
        assert_eq!(fault(&format!("{doubled}.e30.x")), "ID token: alg occurs more than once");
    }

    #[test]
    fn every_algorithm_verifies_what_another_implementation_signs_and_nothing_else() {
        // OIDC-3.1.3.7-05
        for (key, alg) in Key::all() {
            let keys = JwkSet::of(&[key.jwk("k", None)]);
            let token = key.sign(&serde_json::json!({ "alg": alg, "kid": "k" }), &serde_json::json!({ "a": 1 }));
            let verify = |token: &str| {
                let jws = Jws::parse("ID token", token).expect("parses");
                jws.verify(&keys).map(|(payload, _)| payload)
            };
            assert_eq!(verify(&token).expect("verifies"), br#"{"a":1}"#, "{alg}");
            let (signed, signature) = token.rsplit_once('.').expect("has parts");
            assert_eq!(verify(&format!("{signed}.")), Err(Error::UnknownKey), "{alg}");
            let flipped = if signature.starts_with('A') { "B" } else { "A" };
            let rest: String = signature.chars().skip(1).collect();
            let bent = format!("{signed}.{flipped}{rest}");
            assert_eq!(verify(&bent), Err(Error::UnknownKey), "{alg}");
            let other = key.sign(&serde_json::json!({ "alg": alg, "kid": "k" }), &serde_json::json!({ "a": 2 }));
            let (other, _) = other.rsplit_once('.').expect("has parts");
            assert_eq!(verify(&format!("{other}.{signature}")), Err(Error::UnknownKey), "{alg}");
        }
    }
}
