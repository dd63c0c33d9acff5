//! The keys that this client signs with, and the JWTs it makes with them: proofs of who it is (RFC 7523) and signed
//! authorization requests (RFC 9101). The signatures themselves are made by the `jsonwebtoken` crate.

use std::sync::Arc;

use jsonwebtoken::jwk::{Jwk, PublicKeyUse, ThumbprintHash};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

use super::jws;
use super::security_profile::SecurityProfile;

/// The client's keys: the first signs, all are published, so that one may follow another without a pause.
#[derive(Clone, Debug)]
pub struct ClientKeys {
    keys: Arc<Keys>,
    profile: SecurityProfile,
}

#[derive(Debug)]
struct Keys {
    signer: ClientKey,
    others: Vec<ClientKey>,
}

impl ClientKeys {
    /// `signer` signs; `others` are published beside it.
    pub fn new(signer: ClientKey, others: Vec<ClientKey>) -> Self {
        Self { keys: Arc::new(Keys { signer, others }), profile: SecurityProfile::None }
    }

    /// The same keys, which sign by no algorithm that the profile does not accept.
    pub fn held_to(self, profile: SecurityProfile) -> Self {
        Self { profile, ..self }
    }

    /// The public halves as a JWK set (RFC 7517 section 5), as `jwks_uri` of a registration names it.
    pub fn published(&self) -> Value {
        let Keys { signer, others } = &*self.keys;
        let keys: Vec<&Jwk> = std::iter::once(signer).chain(others).map(|key| &key.public).collect();
        json!({ "keys": keys })
    }

    /// A JWT of this `typ`, by the key's algorithm that is among the `announced` ones.
    pub(super) fn sign(&self, kind: &str, announced: Option<&[String]>, claims: &Map<String, Value>) -> String {
        let ClientKey { id, algorithms, secret, .. } = &self.keys.signer;
        let is_announced = |(name, _): &&(&str, Algorithm)| {
            let is_accepted = jws::Algorithm::named(name).is_some_and(|it| self.profile.accepts(it));
            is_accepted && announced.is_none_or(|all| all.iter().any(|it| it == name))
        };
        // What nobody announces is tried all the same: some servers do not tell all that they take. What comes first every
        // profile accepts.
        let algorithm = algorithms.iter().find(is_announced).or(algorithms.first());
        let mut header = Header::new(algorithm.map(|(_, algorithm)| *algorithm).unwrap_or_default());
        header.typ = Some(kind.to_owned());
        header.kid = Some(id.clone());
        // A key that was read has signed once. Without a token the server refuses; it believes nothing.
        jsonwebtoken::encode(&header, claims, secret).unwrap_or_default()
    }
}

/// Algorithms with their names (RFC 7518 section 3.1, RFC 8037), the best first.
type Algorithms = &'static [(&'static str, Algorithm)];

/// One private key, with what is public of it. It prints nothing that is secret.
#[derive(Debug)]
pub struct ClientKey {
    id: String,
    /// What it can sign by, the best first.
    algorithms: Algorithms,
    secret: EncodingKey,
    public: Jwk,
}

/// Why a text is no [`ClientKey`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidClientKey {
    /// It holds no private key of a kind that is signed with here.
    #[error("is no private key of a kind that is signed with here")]
    NotAKey,
    /// An RSA key of less than 2048 bits (RFC 7518 section 3.5), or of more than 4096.
    #[error("is an RSA key that has not between 2048 and 4096 bits")]
    RsaLength,
}

/// Base64url characters of the moduli that are taken: those of 2048 bits to those of 4096.
const MODULUS: std::ops::RangeInclusive<usize> = 342..=683;

impl ClientKey {
    /// Reads a private key in PEM form: P-256 (`ES256`) or Ed25519 (`EdDSA`) in PKCS #8, RSA (`PS256`, and `RS256` where
    /// only that is announced) in PKCS #8 or PKCS #1. Its name is its thumbprint (RFC 7638).
    ///
    /// # Errors
    /// If it is none of these.
    pub fn from_pem(pem: &[u8]) -> Result<Self, InvalidClientKey> {
        let kinds: [(Result<EncodingKey, _>, Algorithms); 3] = [
            (EncodingKey::from_ec_pem(pem), &[("ES256", Algorithm::ES256)]),
            (EncodingKey::from_ed_pem(pem).map(without_public_half), &[("EdDSA", Algorithm::EdDSA)]),
            (EncodingKey::from_rsa_pem(pem), &[("PS256", Algorithm::PS256), ("RS256", Algorithm::RS256)]),
        ];
        let found = kinds.into_iter().find_map(|(key, algorithms)| Some((key.ok()?, algorithms)));
        let (secret, algorithms) = found.ok_or(InvalidClientKey::NotAKey)?;
        let first = algorithms.first().map(|(_, algorithm)| *algorithm).unwrap_or_default();
        let mut public = Jwk::from_encoding_key(&secret, first).map_err(|_| InvalidClientKey::NotAKey)?;
        if let jsonwebtoken::jwk::AlgorithmParameters::RSA(rsa) = &public.algorithm
            && !MODULUS.contains(&rsa.n.len())
        {
            return Err(InvalidClientKey::RsaLength);
        }
        // Once here, so that it cannot fail later.
        jsonwebtoken::encode(&Header::new(first), &json!({}), &secret).map_err(|_| InvalidClientKey::NotAKey)?;
        let id = public.thumbprint(ThumbprintHash::SHA256).map_err(|_| InvalidClientKey::NotAKey)?;
        public.common.key_id = Some(id.clone());
        public.common.public_key_use = Some(PublicKeyUse::Signature);
        if algorithms.len() > 1 {
            // Which one it signs by is for the server to say, so its key names none.
            public.common.key_algorithm = None;
        }
        Ok(Self { id, algorithms, secret, public })
    }

    /// Its name, by which the authorization server finds its public half (`kid`).
    pub fn id(&self) -> &str {
        &self.id
    }
}

/// An Ed25519 key whose file holds the public half too (RFC 5958 section 2, version 2), in the form without it, which is
/// the only one that the library makes a JWK of.
fn without_public_half(key: EncodingKey) -> EncodingKey {
    // A sequence, of a length that differs between writers, and the version; then the algorithm and the private half.
    const WITHOUT: &[u8] = &[0x30, 0x2e, 0x02, 0x01, 0x00];
    let private = match key.as_bytes() {
        [0x30, _, 0x02, 0x01, 0x01, rest @ ..] => rest.get(..43),
        _ => None,
    };
    match private {
        Some(private) => EncodingKey::from_ed_der(&Zeroizing::new([WITHOUT, private].concat())),
        None => key,
    }
}

#[cfg(test)]
pub(super) mod tests {
    use ring::signature::{self, UnparsedPublicKey, VerificationAlgorithm};

    use super::*;

    /// Keys that were made with `openssl genpkey` for these tests and guard nothing.
    pub(in crate::oauth) const P256: &str = include_str!("fixtures/client-p256.pem");
    pub(in crate::oauth) const ED25519: &str = include_str!("fixtures/client-ed25519.pem");
    const RSA: &str = include_str!("fixtures/rsa-2048.pem");

    pub(in crate::oauth) fn keys(signer: &str, others: &[&str]) -> ClientKeys {
        let read = |pem: &str| ClientKey::from_pem(pem.as_bytes()).expect("is a key");
        ClientKeys::new(read(signer), others.iter().map(|pem| read(pem)).collect())
    }

    /// The header and the claims of a JWT.
    pub(in crate::oauth) fn opened(token: &str) -> (Value, Value) {
        let parts: Vec<Vec<u8>> = token.split('.').take(2).map(decode).collect();
        let read = |part: &[u8]| serde_json::from_slice(part).expect("is JSON");
        (read(&parts[0]), read(&parts[1]))
    }

    fn decode(part: &str) -> Vec<u8> {
        base64_simd::URL_SAFE_NO_PAD.decode_to_vec(part).expect("is base64url")
    }

    /// Whether *ring*, which signs nothing here, finds the signature good.
    fn verifies(token: &str, algorithm: &'static dyn VerificationAlgorithm, public: &[u8]) -> bool {
        let (signed, made) = token.rsplit_once('.').expect("has parts");
        UnparsedPublicKey::new(algorithm, public).verify(signed.as_bytes(), &decode(made)).is_ok()
    }

    fn claims() -> Map<String, Value> {
        Map::from_iter([("a".to_owned(), json!(1))])
    }

    #[test]
    fn another_implementation_verifies_with_the_published_half() {
        // CAJ-05
        let member = |key: &Value, name: &str| decode(key[name].as_str().expect("is text"));
        let first = |keys: &ClientKeys| keys.published()["keys"][0].clone();

        let es256 = keys(P256, &[]);
        let key = first(&es256);
        let point = [vec![4], member(&key, "x"), member(&key, "y")].concat();
        assert!(verifies(&es256.sign("JWT", None, &claims()), &signature::ECDSA_P256_SHA256_FIXED, &point));

        let ed25519 = keys(ED25519, &[]);
        let public = member(&first(&ed25519), "x");
        assert!(verifies(&ed25519.sign("JWT", None, &claims()), &signature::ED25519, &public));

        // What ring and Go's newer tools write has the public half in it.
        let document =
            signature::Ed25519KeyPair::generate_pkcs8(&ring::rand::SystemRandom::new()).expect("makes a key");
        let text = base64_simd::STANDARD.encode_to_string(document.as_ref());
        let ed25519 = keys(&format!("-----BEGIN PRIVATE KEY-----\n{text}\n-----END PRIVATE KEY-----\n"), &[]);
        let public = member(&first(&ed25519), "x");
        assert!(verifies(&ed25519.sign("JWT", None, &claims()), &signature::ED25519, &public));

        let rsa = keys(RSA, &[]);
        let key = first(&rsa);
        let public = signature::RsaPublicKeyComponents { n: member(&key, "n"), e: member(&key, "e") };
        for (announced, parameters) in [
            (None, &signature::RSA_PSS_2048_8192_SHA256),
            (Some("PS256"), &signature::RSA_PSS_2048_8192_SHA256),
            (Some("RS256"), &signature::RSA_PKCS1_2048_8192_SHA256),
        ] {
            let announced = announced.map(|it| vec![it.to_owned()]);
            let token = rsa.sign("JWT", announced.as_deref(), &claims());
            let (signed, made) = token.rsplit_once('.').expect("has parts");
            assert!(public.verify(parameters, signed.as_bytes(), &decode(made)).is_ok(), "{announced:?}");
        }
    }

    #[test]
    fn a_client_held_to_a_profile_signs_by_nothing_else() {
        // FAPI-5.4.1-01: a server that takes RS256 alone is no server of the profile.
        let announced = ["RS256".to_owned()];
        let signed_by = |keys: ClientKeys| opened(&keys.sign("JWT", Some(&announced), &claims())).0["alg"].clone();
        assert_eq!(signed_by(keys(RSA, &[])), "RS256");
        assert_eq!(signed_by(keys(RSA, &[]).held_to(SecurityProfile::Fapi2)), "PS256");
    }

    #[test]
    fn the_header_names_algorithm_type_and_the_thumbprint_of_the_key() {
        // CAJ-05
        for (pem, alg) in [(P256, "ES256"), (ED25519, "EdDSA"), (RSA, "PS256")] {
            let keys = keys(pem, &[]);
            let (header, payload) = opened(&keys.sign("its-type", None, &claims()));
            let id = keys.published()["keys"][0]["kid"].clone();
            assert_eq!(header, json!({ "alg": alg, "typ": "its-type", "kid": id }));
            assert_eq!(payload, json!({ "a": 1 }));
            assert_eq!(id.as_str().map(str::len), Some(43));
        }
    }

    #[test]
    fn all_keys_are_published_and_nothing_private_is() {
        // CAJ-05
        let keys = keys(P256, &[ED25519, RSA]);
        let published = keys.published();
        let all = published["keys"].as_array().expect("is a list");
        let members = |key: &Value| {
            let mut names: Vec<_> = key.as_object().expect("is an object").keys().cloned().collect();
            names.sort();
            names.join(" ")
        };
        assert_eq!(
            all.iter().map(members).collect::<Vec<_>>(),
            ["alg crv kid kty use x y", "alg crv kid kty use x", "e kid kty n use"]
        );
        assert!(all.iter().all(|key| key["use"] == "sig"));
    }

    #[test]
    fn what_is_no_private_key_that_can_sign_is_refused() {
        let short = include_str!("fixtures/rsa-1024.pem");
        let p384 = include_str!("fixtures/client-p384.pem");
        let public = P256.replace("PRIVATE", "PUBLIC");
        let fault = |pem: &str| ClientKey::from_pem(pem.as_bytes()).map(|_| ()).expect_err("is refused");
        assert_eq!(fault(short), InvalidClientKey::RsaLength);
        for pem in ["", "text", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----", p384, &public] {
            assert_eq!(fault(pem), InvalidClientKey::NotAKey, "{pem}");
        }
    }

    #[test]
    fn a_key_prints_no_secret() {
        // BCP-4.9-01
        let printed = format!("{:?}", keys(ED25519, &[P256]));
        let secret =
            |pem: &str| pem.lines().nth(1).expect("has a second line").get(20..40).unwrap_or("absent").to_owned();
        assert!(printed.contains("redacted"), "{printed}");
        assert!(!printed.contains(&secret(ED25519)) && !printed.contains(&secret(P256)), "{printed}");
    }
}
