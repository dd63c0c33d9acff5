//! What a proof of possession costs (DPoP, RFC 9449), and what it would cost by other signers of the tree.
//!
//! `cargo bench --bench dpop`. One core, one proof after the other; each number is the median of several runs.

#![expect(
    clippy::disallowed_methods,
    clippy::expect_used,
    reason = "a bench measures time, and ends where something is wrong"
)]

use std::hint::black_box;
use std::time::{Duration, Instant};

use http::Method;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair};
use serde_json::json;
use vestibule::clock::Timestamp;
use vestibule::oauth::{AccessToken, Proof, ProofAlgorithm, ProofKey};
use vestibule::server::random;

const RUNS: usize = 9;
const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);
const TARGET: &str = "https://api.example.com/orders/4711";

/// Runs `work` again and again, and tells how long one time takes, and how many fit into a second.
fn measure(what: &str, mut work: impl FnMut()) {
    let mut number = 1_u32;
    // As often as fills a fifth of a second.
    let times = loop {
        let started = Instant::now();
        (0..number).for_each(|_| work());
        let took = started.elapsed();
        if took >= Duration::from_millis(20) {
            break number.saturating_mul(10);
        }
        number *= 2;
    };
    let mut runs: Vec<Duration> = (0..RUNS)
        .map(|_| {
            let started = Instant::now();
            (0..times).for_each(|_| work());
            started.elapsed() / times
        })
        .collect();
    runs.sort_unstable();
    let median = runs.get(RUNS / 2).copied().unwrap_or_default();
    let per_second = 1.0 / median.as_secs_f64();
    println!("  {what:<64} {:>8.1} µs {per_second:>9.0} /s", median.as_secs_f64() * 1e6);
}

fn main() {
    let random = random();
    let token = AccessToken::new("a".repeat(1200));
    let proof = |random| Proof {
        method: &Method::GET,
        target: TARGET,
        access_token: Some(&token),
        nonce: Some("eyJ7S_zG.eyJH0-Z.HX4w-7v"),
        now: NOW,
        random,
    };
    println!("ours, over an access token of 1200 characters and with a nonce:");
    for (name, algorithm) in [("ES256", ProofAlgorithm::Es256), ("EdDSA", ProofAlgorithm::EdDsa)] {
        let key = ProofKey::generate(algorithm, &*random);
        let signer = key.prepare().expect("is a key");
        measure(&format!("{name}: a proof"), || drop(black_box(signer.sign(&proof(&*random)).expect("signs"))));
        measure(&format!("{name}: preparing a key, once for each session in use"), || {
            black_box(key.prepare().expect("is a key"));
        });
    }

    println!("signatures alone, of 500 bytes:");
    let message = [b'a'; 500];
    let system = SystemRandom::new();
    let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &system).expect("makes a key");
    let pair =
        EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, document.as_ref(), &system).expect("is a key");
    measure("ES256 by ring", || {
        black_box(pair.sign(&system, &message).expect("signs"));
    });
    let ed25519 = Ed25519KeyPair::from_seed_unchecked(&random.bytes::<32>()).expect("is a key");
    black_box(ed25519.public_key());
    measure("EdDSA by ring", || {
        black_box(ed25519.sign(&message));
    });
    let by_rust = EncodingKey::from_ec_der(document.as_ref());
    measure("ES256 by jsonwebtoken (RustCrypto), which reads the key each time", || {
        drop(black_box(jsonwebtoken::crypto::sign(&message, &by_rust, Algorithm::ES256).expect("signs")));
    });

    println!("a whole proof by jsonwebtoken:");
    let mut header = Header::new(Algorithm::ES256);
    header.typ = Some("dpop+jwt".to_owned());
    header.jwk = Some(Jwk::from_encoding_key(&by_rust, Algorithm::ES256).expect("has a public half"));
    measure("ES256", || {
        let claims = json!({ "jti": random.token(), "htm": "GET", "htu": TARGET, "iat": NOW.as_secs() });
        drop(black_box(jsonwebtoken::encode(&header, &claims, &by_rust).expect("signs")));
    });
}
