//! Keys and the JWTs signed with them (RFC 7515, RFC 7518): by ES256, and otherwise where a test wants it.

use std::{fmt, io};

use base64_simd::URL_SAFE_NO_PAD;
use ring::hmac;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, RSA_PKCS1_SHA256, RSA_PSS_SHA256,
    RsaEncoding, RsaKeyPair, UnparsedPublicKey,
};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

/// The issuer's signing keys, newest last. The one before the newest is still published, as careful servers do, so that
/// what it has signed can be checked.
pub(super) struct Keys(Vec<Key>);

impl Keys {
    /// Begins with one new key.
    ///
    /// # Errors
    ///
    /// The operating system gives no random bytes.
    pub(super) fn generate() -> io::Result<Self> {
        Ok(Self(vec![Key::generate()?]))
    }

    /// Signs with a new key from now on, and publishes it beside the previous one.
    ///
    /// # Errors
    ///
    /// The operating system gives no random bytes.
    pub(super) fn rotate(&mut self) -> io::Result<()> {
        let key = Key::generate()?;
        self.0.drain(..self.0.len().saturating_sub(1));
        self.0.push(key);
        Ok(())
    }

    /// The public halves as a JWK Set (RFC 7517 section 5).
    pub(super) fn published(&self) -> Map<String, Value> {
        Map::from_iter([("keys".to_owned(), self.0.iter().map(Key::published).collect())])
    }

    /// A JWT with this `typ`, signed with the newest key.
    ///
    /// # Errors
    ///
    /// The operating system gives no random bytes.
    pub(super) fn sign(&self, typ: &str, claims: &Map<String, Value>) -> io::Result<String> {
        self.sign_under(&self.header(typ)?, claims, "")
    }

    /// The usual header of a JWT with this `typ`.
    ///
    /// # Errors
    ///
    /// There is no key.
    pub(super) fn header(&self, typ: &str) -> io::Result<Map<String, Value>> {
        let members = [("alg", "ES256"), ("kid", self.newest()?.id.as_str()), ("typ", typ)];
        Ok(members.into_iter().map(|(name, value)| (name.to_owned(), json!(value))).collect())
    }

    /// A JWT with this header, signed as its `alg` says: `RS256` and `PS256` with the [RSA key](rsa_key), `HS256` with
    /// `secret`, `none` with nothing, all else with the newest key.
    ///
    /// # Errors
    ///
    /// The operating system gives no random bytes.
    pub(super) fn sign_under(
        &self,
        header: &Map<String, Value>,
        claims: &Map<String, Value>,
        secret: &str,
    ) -> io::Result<String> {
        let encode =
            |members: &Map<String, Value>| URL_SAFE_NO_PAD.encode_to_string(Value::Object(members.clone()).to_string());
        let signed = format!("{}.{}", encode(header), encode(claims));
        let bytes = signed.as_bytes();
        let signature = match header.get("alg").and_then(Value::as_str) {
            Some("none") => Vec::new(),
            Some("HS256") => hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()), bytes).as_ref().to_vec(),
            Some("RS256") => rsa_signature(&RSA_PKCS1_SHA256, bytes)?,
            Some("PS256") => rsa_signature(&RSA_PSS_SHA256, bytes)?,
            _ => self.newest()?.pair.sign(&SystemRandom::new(), bytes).map_err(failed)?.as_ref().to_vec(),
        };
        Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode_to_string(signature)))
    }

    fn newest(&self) -> io::Result<&Key> {
        self.0.last().ok_or_else(|| io::Error::other("no signing key"))
    }

    /// The claims of a JWT that one of the published keys has signed, however old.
    pub(super) fn open(&self, token: &str) -> Option<Map<String, Value>> {
        let (signed, signature) = token.rsplit_once('.')?;
        let signature = URL_SAFE_NO_PAD.decode_to_vec(signature).ok()?;
        let fits = |key: &Key| {
            let public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, key.pair.public_key());
            public.verify(signed.as_bytes(), &signature).is_ok()
        };
        self.0.iter().any(fits).then_some(())?;
        let (_, claims) = signed.split_once('.')?;
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode_to_vec(claims).ok()?).ok()
    }
}

/// The public half of the RSA key, for `alg`. It is published only where a test puts it among the keys.
///
/// # Errors
///
/// The key cannot be read.
pub(super) fn rsa_key(alg: &str) -> io::Result<Value> {
    let public: ring::rsa::PublicKeyComponents<Vec<u8>> = rsa()?.public().into();
    let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode_to_string(bytes);
    Ok(json!({
        "kty": "RSA", "use": "sig", "alg": alg, "kid": "rsa", "n": encode(&public.n), "e": encode(&public.e),
    }))
}

/// A key that was made for tests and guards nothing; *ring* makes none of this kind.
fn rsa() -> io::Result<RsaKeyPair> {
    let pem = include_str!("../../../src/oauth/fixtures/rsa-2048.pem");
    let text: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    let der = base64_simd::STANDARD.decode_to_vec(text).map_err(failed)?;
    RsaKeyPair::from_pkcs8(&der).map_err(failed)
}

fn rsa_signature(padding: &'static dyn RsaEncoding, bytes: &[u8]) -> io::Result<Vec<u8>> {
    let pair = rsa()?;
    let mut signature = vec![0; pair.public().modulus_len()];
    pair.sign(padding, &SystemRandom::new(), bytes, &mut signature).map_err(failed)?;
    Ok(signature)
}

/// The left half of the token's hash, as `at_hash` states it (OpenID Connect Core section 3.1.3.6).
pub(super) fn half_hash(token: &str) -> String {
    let hash = Sha256::digest(token);
    URL_SAFE_NO_PAD.encode_to_string(hash.split_at(hash.len() / 2).0)
}

/// The errors of ring say nothing on purpose, and are no `std::error::Error` in this build.
fn failed(error: impl fmt::Display) -> io::Error {
    io::Error::other(error.to_string())
}

struct Key {
    id: String,
    pair: EcdsaKeyPair,
}

impl Key {
    fn generate() -> io::Result<Self> {
        let (random, algorithm) = (SystemRandom::new(), &ECDSA_P256_SHA256_FIXED_SIGNING);
        let document = EcdsaKeyPair::generate_pkcs8(algorithm, &random).map_err(failed)?;
        let pair = EcdsaKeyPair::from_pkcs8(algorithm, document.as_ref(), &random).map_err(failed)?;
        let id = half_hash(&URL_SAFE_NO_PAD.encode_to_string(pair.public_key()));
        Ok(Self { id, pair })
    }

    fn published(&self) -> Value {
        // An uncompressed point: 0x04, then both coordinates in 32 bytes each (SEC 1 section 2.3.3).
        let point = self.pair.public_key().as_ref();
        let (x, y) = point.get(1..).unwrap_or_default().split_at(point.len() / 2);
        let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode_to_string(bytes);
        json!({
            "kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": self.id,
            "x": encode(x), "y": encode(y),
        })
    }
}
