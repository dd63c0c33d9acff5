//! Proofs of possession (DPoP, RFC 9449), judged as strictly as the specification allows.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::response::Response;
use base64_simd::URL_SAFE_NO_PAD;
use ring::signature::{ECDSA_P256_SHA256_FIXED, ED25519, UnparsedPublicKey, VerificationAlgorithm};
use serde_json::Value;
use sha2::{Digest, Sha256};
use vestibule::clock::Clock;

use super::serving::lock;

/// How a server deals in nonces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nonces {
    /// It has none, and takes a proof with one for a mistake.
    None,
    /// It wants the newest one, which stays.
    Fixed,
    /// It wants the newest one: there is another after each success, which says so.
    Announced,
    /// The same, and nothing says so but the next refusal, as the conformance suite has it.
    Silent,
}

/// One server's judgement of proofs.
pub struct Judge {
    clock: Arc<dyn Clock>,
    nonces: Nonces,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// What its nonces begin with, so that those of two servers differ.
    name: &'static str,
    number: usize,
    taken: BTreeSet<String>,
    keys: BTreeSet<String>,
    stale: usize,
    faults: Vec<&'static str>,
}

/// A request as it has to be described.
pub struct Described<'a> {
    /// How.
    pub method: &'a str,
    /// Its address without query.
    pub url: &'a str,
    /// The access token that it carries.
    pub token: Option<&'a str>,
}

/// Why a proof is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It is good but for its nonce.
    Nonce,
    /// Something else is wrong, and a careful client never sees this.
    Proof(&'static str),
}

/// A proof is taken this many seconds before and after it says that it was made.
const WINDOW: u64 = 5;

impl Judge {
    /// One with this name.
    pub fn new(name: &'static str, nonces: Nonces, clock: Arc<dyn Clock>) -> Self {
        Self { clock, nonces, state: Mutex::new(State { name, ..State::default() }) }
    }

    /// The thumbprint of the key that has proved this request.
    ///
    /// # Errors
    ///
    /// The proof is absent, wrong, used before, or has not the newest nonce.
    pub fn judge(&self, headers: &HeaderMap, request: &Described<'_>) -> Result<String, Fault> {
        let judged = self.examine(headers, request);
        let mut state = lock(&self.state);
        match &judged {
            Ok(key) => {
                state.keys.insert(key.clone());
                if matches!(self.nonces, Nonces::Announced | Nonces::Silent) {
                    state.number += 1;
                }
            }
            Err(Fault::Nonce) => state.stale += 1,
            Err(Fault::Proof(why)) => state.faults.push(why),
        }
        judged
    }

    /// Puts the newest nonce on an answer to a request that was judged so.
    pub fn tell(&self, judged: &Result<String, Fault>, response: &mut Response) {
        let tells = match judged {
            Ok(_) => matches!(self.nonces, Nonces::Fixed | Nonces::Announced),
            Err(_) => self.nonces != Nonces::None,
        };
        if let (true, Ok(nonce)) = (tells, HeaderValue::try_from(self.newest())) {
            response.headers_mut().insert(HeaderName::from_static("dpop-nonce"), nonce);
        }
    }

    /// Another nonce from now on.
    pub fn renew(&self) {
        lock(&self.state).number += 1;
    }

    /// How often a proof was good but for its nonce.
    pub fn stale(&self) -> usize {
        lock(&self.state).stale
    }

    /// What else was wrong with proofs. A careful client keeps this empty.
    pub fn faults(&self) -> Vec<&'static str> {
        lock(&self.state).faults.clone()
    }

    /// The thumbprints of the keys that have proved something.
    pub fn keys(&self) -> BTreeSet<String> {
        lock(&self.state).keys.clone()
    }

    fn newest(&self) -> String {
        let state = lock(&self.state);
        format!("{}-nonce-{}", state.name, state.number)
    }

    fn examine(&self, headers: &HeaderMap, request: &Described<'_>) -> Result<String, Fault> {
        let wrong = |why| Err(Fault::Proof(why));
        let mut all = headers.get_all("dpop").iter();
        let (Some(proof), None) = (all.next(), all.next()) else { return wrong("not exactly one proof") };
        let Some(Read { header, claims, key }) = proof.to_str().ok().and_then(read) else {
            return wrong("not a JWT that its own key verifies");
        };
        if text(&header, "typ") != Some("dpop+jwt") || header.as_object().is_none_or(|it| it.len() != 3) {
            return wrong("the header");
        }
        if text(&claims, "htm") != Some(request.method) {
            return wrong("htm");
        }
        if text(&claims, "htu") != Some(request.url) {
            return wrong("htu");
        }
        let ath = request.token.map(|token| URL_SAFE_NO_PAD.encode_to_string(Sha256::digest(token)));
        if claims.get("ath").and_then(Value::as_str) != ath.as_deref() || (ath.is_none() && claims.get("ath").is_some())
        {
            return wrong("ath");
        }
        let iat = claims.get("iat").and_then(Value::as_u64).unwrap_or_default();
        if iat.abs_diff(self.clock.now().as_secs()) > WINDOW {
            return wrong("iat");
        }
        let is_new =
            text(&claims, "jti").is_some_and(|it| it.len() >= 16 && lock(&self.state).taken.insert(it.to_owned()));
        if !is_new {
            return wrong("jti");
        }
        match (self.nonces, claims.get("nonce")) {
            (Nonces::None, None) => Ok(key),
            (Nonces::None, Some(_)) => wrong("a nonce that was not given"),
            (_, Some(nonce)) if nonce.as_str() == Some(&self.newest()) => Ok(key),
            (_, Some(nonce)) if !nonce.as_str().is_some_and(|it| it.starts_with(lock(&self.state).name)) => {
                wrong("another server's nonce")
            }
            (_, _) => Err(Fault::Nonce),
        }
    }
}

struct Read {
    header: Value,
    claims: Value,
    /// The thumbprint (RFC 7638).
    key: String,
}

fn read(proof: &str) -> Option<Read> {
    let (signed, signature) = proof.rsplit_once('.')?;
    let (header, claims) = signed.split_once('.')?;
    let decode = |part: &str| URL_SAFE_NO_PAD.decode_to_vec(part).ok();
    let parse = |part| serde_json::from_slice::<Value>(&decode(part)?).ok();
    let (header, claims) = (parse(header)?, parse(claims)?);
    let jwk = header.get("jwk")?;
    let member = |name: &str| decode(text(jwk, name)?);
    let (x, y) = (text(jwk, "x")?, text(jwk, "y").unwrap_or_default());
    let kind = (text(&header, "alg")?, text(jwk, "kty")?, text(jwk, "crv")?);
    let (algorithm, public, name): (&dyn VerificationAlgorithm, _, _) = match kind {
        ("ES256", "EC", "P-256") => (
            &ECDSA_P256_SHA256_FIXED,
            [vec![4], member("x")?, member("y")?].concat(),
            format!(r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#),
        ),
        ("EdDSA", "OKP", "Ed25519") => {
            (&ED25519, member("x")?, format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}"#))
        }
        _ => return None,
    };
    let has_private = ["d", "p", "q", "dp", "dq", "qi", "k"].iter().any(|name| jwk.get(name).is_some());
    UnparsedPublicKey::new(algorithm, public).verify(signed.as_bytes(), &decode(signature)?).ok()?;
    (!has_private).then(|| Read { header, claims, key: URL_SAFE_NO_PAD.encode_to_string(Sha256::digest(name)) })
}

fn text<'v>(object: &'v Value, name: &str) -> Option<&'v str> {
    object.get(name)?.as_str()
}
