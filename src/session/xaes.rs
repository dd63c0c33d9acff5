//! XAES-256-GCM (C2SP): AES-256-GCM whose nonce is long enough to be drawn at random for as long as the key lives.
//!
//! With the 96-bit nonces of plain GCM a key is spent after 2^32 messages (NIST SP 800-38D section 8.3), counted over
//! all replicas and restarts, which nobody counts. With 192 bits it is 2^80.

use aes_gcm::aead::consts::U12;
use aes_gcm::aes::Aes256Enc;
use aes_gcm::aes::cipher::BlockCipherEncrypt;
use aes_gcm::{AeadInOut, AesGcm, KeyInit};
use zeroize::Zeroizing;

/// Length of a key.
pub(super) const KEY_BYTES: usize = 32;
/// Length of a nonce.
pub(super) const NONCE_BYTES: usize = 24;
/// Length of a tag: the whole 128 bits, never less (NIST SP 800-38D appendix C).
pub(super) const TAG_BYTES: usize = 16;

/// A key, with all the work done that does not depend on a message.
pub(super) struct Xaes256Gcm {
    // It wipes itself when dropped.
    cipher: Aes256Enc,
    /// The CMAC subkey K1 (NIST SP 800-38B section 6.1).
    k1: Zeroizing<[u8; BLOCK_BYTES]>,
}

impl Xaes256Gcm {
    pub(super) fn new(key: &[u8; KEY_BYTES]) -> Self {
        let cipher = Aes256Enc::new(key.into());
        let mut l = Zeroizing::new([0; BLOCK_BYTES]);
        cipher.encrypt_block((&mut *l).into());
        let l = u128::from_be_bytes(*l);
        // Doubling in GF(2^128); both cases are computed, since L depends on the key.
        let k1 = (l << 1) ^ (0x87 * (l >> 127));
        Self { cipher, k1: Zeroizing::new(k1.to_be_bytes()) }
    }

    /// Encrypts `text` in place and returns the tag.
    #[expect(clippy::expect_used, reason = "AES-GCM refuses only what is longer than 64 GiB, which nothing here is")]
    pub(super) fn seal(&self, nonce: &[u8; NONCE_BYTES], associated: &[u8], text: &mut [u8]) -> [u8; TAG_BYTES] {
        let (cipher, nonce) = self.of_message(nonce);
        cipher.encrypt_inout_detached(&nonce.into(), associated, text.into()).expect("shorter than 64 GiB").into()
    }

    /// Decrypts `text` in place, or leaves it as it is if it, its tag or the associated data are not what was sealed.
    pub(super) fn open(
        &self,
        nonce: &[u8; NONCE_BYTES],
        associated: &[u8],
        text: &mut [u8],
        tag: &[u8; TAG_BYTES],
    ) -> Result<(), aes_gcm::Error> {
        let (cipher, nonce) = self.of_message(nonce);
        cipher.decrypt_inout_detached(&nonce.into(), associated, text.into(), tag.into())
    }

    /// The AES-256-GCM key and nonce of one message: NIST SP 800-108r1 in counter mode over AES-CMAC, with the label
    /// `X` and the first half of the nonce as context.
    fn of_message(&self, nonce: &[u8; NONCE_BYTES]) -> (AesGcm<Aes256Enc, U12>, [u8; 12]) {
        let mut key = Zeroizing::new([0; KEY_BYTES]);
        for (counter, half) in (1..).zip(key.as_chunks_mut::<BLOCK_BYTES>().0) {
            half[..4].copy_from_slice(&[0, counter, b'X', 0]);
            half[4..].copy_from_slice(&nonce[..12]);
            half.iter_mut().zip(*self.k1).for_each(|(byte, k1)| *byte ^= k1);
            self.cipher.encrypt_block(half.into());
        }
        let mut rest = [0; 12];
        rest.copy_from_slice(&nonce[12..]);
        (AesGcm::new((&*key).into()), rest)
    }
}

const BLOCK_BYTES: usize = 16;

#[cfg(test)]
mod tests {
    use sha3::Shake128;
    use sha3::digest::{ExtendableOutput, Update, XofReader};

    use super::*;

    // CRY-02. The vectors are those of the specification.

    fn sealed(key: &[u8; KEY_BYTES], nonce: &[u8; NONCE_BYTES], plain: &[u8], associated: &[u8]) -> Vec<u8> {
        let cipher = Xaes256Gcm::new(key);
        let mut text = plain.to_vec();
        let tag = cipher.seal(nonce, associated, &mut text);
        let sealed = [text.as_slice(), &tag].concat();
        cipher.open(nonce, associated, &mut text, &tag).unwrap();
        assert_eq!(text, plain);
        sealed
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn a_key_whose_l_has_its_top_bit_clear_gives_the_published_text() {
        let sealed = sealed(&[1; 32], b"ABCDEFGHIJKLMNOPQRSTUVWX", b"XAES-256-GCM", b"");
        assert_eq!(hex(&sealed), "ce546ef63c9cc60765923609b33a9a1974e96e52daf2fcf7075e2271");
    }

    #[test]
    fn a_key_whose_l_has_its_top_bit_set_gives_the_published_text() {
        let sealed = sealed(&[3; 32], b"ABCDEFGHIJKLMNOPQRSTUVWX", b"XAES-256-GCM", b"c2sp.org/XAES-256-GCM");
        assert_eq!(hex(&sealed), "986ec1832593df5443a179437fd083bf3fdb41abd740a21f71eb769d");
    }

    #[test]
    fn ten_thousand_random_messages_give_the_published_digest() {
        let mut source = Shake128::default().finalize_xof();
        let mut digest = Shake128::default();
        for _ in 0..10_000 {
            let (mut key, mut nonce) = ([0; KEY_BYTES], [0; NONCE_BYTES]);
            source.read(&mut key);
            source.read(&mut nonce);
            let plain = opaque(&mut source);
            let associated = opaque(&mut source);
            digest.update(&sealed(&key, &nonce, &plain, &associated));
        }
        let mut result = [0; 32];
        digest.finalize_xof().read(&mut result);
        assert_eq!(hex(&result), "e6b9edf2df6cec60c8cbd864e2211b597fb69a529160cd040d56c0c210081939");
    }

    /// `opaque<0..255>` in the notation of RFC 8446 section 3: a length of one byte, then so many bytes.
    fn opaque(source: &mut impl XofReader) -> Vec<u8> {
        let mut length = [0];
        source.read(&mut length);
        let mut bytes = vec![0; usize::from(length[0])];
        source.read(&mut bytes);
        bytes
    }
}
