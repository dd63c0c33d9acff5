//! Sealing what leaves this process and comes back: sessions and logins in cookies, bodies in the ledger.
//!
//! An envelope is `version (1) ‖ key id (4) ‖ nonce (24) ‖ ciphertext ‖ tag (16)`. Its associated data say what it is
//! for and where it belongs, so an envelope that turns up in another place does not open.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use hkdf::Hkdf;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::xaes::{KEY_BYTES, NONCE_BYTES, TAG_BYTES, Xaes256Gcm};
use crate::clock::Timestamp;
use crate::secret::{Random, Secret};

/// What an envelope is for. Each purpose has keys of its own (RFC 5869 section 3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// A session in the browser's cookie.
    Session,
    /// A login that has begun, in a cookie of its own.
    LoginTransaction,
    /// A session's body in the ledger.
    LedgerBody,
    /// What a login came to, kept for a repeat of its callback.
    LoginResult,
    /// What an API has demanded of a session, in a query.
    Demand,
    /// The lists of who is signed in, for administrators, in the ledger.
    Roster,
}

/// The keys of one configuration: one seals, all open.
pub struct KeyRing {
    first: Key,
    others: Vec<Key>,
    key_delay: Duration,
}

impl KeyRing {
    /// Reads keys in their text form, the preferred one first.
    ///
    /// A key seals once it is `key_delay` old: by then every replica has read it, and can open what it sealed.
    ///
    /// # Errors
    ///
    /// The place in `texts` of the first key that cannot be used, counted from 0, and why; `(0, KeyError::NoKeys)` if
    /// there is none.
    pub fn new(texts: &[Secret<String>], key_delay: Duration) -> Result<Self, (usize, KeyError)> {
        let mut keys: Vec<Key> = Vec::with_capacity(texts.len());
        for (index, text) in texts.iter().enumerate() {
            let key = Key::parse(text.expose()).map_err(|error| (index, error))?;
            // Two keys that differ but share an id could not be told apart either.
            if keys.iter().any(|other| other.id == key.id) {
                return Err((index, KeyError::Duplicate));
            }
            keys.push(key);
        }
        let mut keys = keys.into_iter();
        let first = keys.next().ok_or((0, KeyError::NoKeys))?;
        Ok(Self { first, others: keys.collect(), key_delay })
    }

    /// A new key in its text form, one line without its end:
    /// `vestibule-key.1.<created, Unix seconds>.<base64url of 32 bytes>`.
    pub fn generate_text(random: &dyn Random, now: Timestamp) -> String {
        let material = Zeroizing::new(random.bytes::<KEY_BYTES>());
        format!("{KEY_PREFIX}{KEY_VERSION}.{}.{}", now.as_secs(), text(&*material))
    }

    /// The key that seals at `now`: the first that is old enough. Where all are new, the oldest of them, on every
    /// replica.
    fn sealing(&self, now: Timestamp) -> &Key {
        self.keys()
            .find(|key| key.created + self.key_delay <= now)
            .or_else(|| self.keys().min_by_key(|key| key.created))
            .unwrap_or(&self.first)
    }

    fn by_id(&self, id: KeyId) -> Option<&Key> {
        self.keys().find(|key| key.id == id)
    }

    fn keys(&self) -> impl Iterator<Item = &Key> {
        std::iter::once(&self.first).chain(&self.others)
    }
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.keys().map(|key| key.id)).finish()
    }
}

/// Why a text is not a key that can be used. What was found is not repeated: it may be a secret all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// There are no keys at all.
    #[error("there is no key; make one with `vestibule keygen`")]
    NoKeys,
    /// Nothing but white space.
    #[error("the key is empty; make one with `vestibule keygen`")]
    Empty,
    /// Something, but not a key of ours: a password, another product's key, an end of a line in the middle.
    #[error("this is not a key in the form `{KEY_PREFIX}…`, alone on one line; make one with `vestibule keygen`")]
    Malformed,
    /// A key in a form that only a later release reads.
    #[error("the key is for a newer release; upgrade, or make one with `vestibule keygen` of this release")]
    NewerVersion,
    /// Not 256 bits.
    #[error("the key has {found} bytes instead of {KEY_BYTES}; make one with `vestibule keygen`")]
    Length {
        /// The number of bytes found.
        found: usize,
    },
    /// Bytes that chance does not make: repeated, counted or typed.
    #[error("the key is not random: it repeats itself, or is text; make one with `vestibule keygen`")]
    LowEntropy,
    /// The ring has this key already.
    #[error("the same key is listed before; remove it, or make another with `vestibule keygen`")]
    Duplicate,
}

/// Seals and opens for one site: an envelope of another origin or client does not open, even under the same key.
pub struct Sealer {
    ring: Arc<KeyRing>,
    /// The end of all associated data: origin and client id.
    site: Vec<u8>,
}

impl Sealer {
    /// A sealer for the site at `origin`, which is the client `client_id` at its issuer.
    pub fn new(ring: impl Into<Arc<KeyRing>>, origin: &str, client_id: &str) -> Self {
        let mut site = Vec::with_capacity(2 * LENGTH_BYTES + origin.len() + client_id.len());
        push_field(&mut site, origin);
        push_field(&mut site, client_id);
        Self { ring: ring.into(), site }
    }

    /// Seals `plain` into an envelope that opens for the same purpose, name, secret and site only.
    ///
    /// `name` is that of the cookie, or the key of the ledger's record. With a `secret` the key ring alone does not
    /// open the envelope: the secret takes part in the key.
    pub fn seal(
        &self,
        purpose: Purpose,
        name: &str,
        secret: Option<&[u8; 32]>,
        plain: &[u8],
        random: &dyn Random,
        now: Timestamp,
    ) -> Vec<u8> {
        let key = self.ring.sealing(now);
        let nonce = random.bytes::<NONCE_BYTES>();
        let mut envelope = Vec::with_capacity(HEAD_BYTES + plain.len() + TAG_BYTES);
        envelope.push(VERSION);
        envelope.extend_from_slice(&key.id.0);
        envelope.extend_from_slice(&nonce);
        envelope.extend_from_slice(plain);
        let (_, body) = envelope.split_at_mut(HEAD_BYTES);
        let associated = self.associated(key.id, purpose, name);
        let tag = key.with_cipher(purpose, secret, |cipher| cipher.seal(&nonce, &associated, body));
        envelope.extend_from_slice(&tag);
        envelope
    }

    /// Opens an envelope that [`seal`](Self::seal) made with the same purpose, name and secret for the same site.
    ///
    /// # Errors
    ///
    /// [`OpenError`] says what is in the way. From outside all of them have to look alike.
    pub fn open(
        &self,
        purpose: Purpose,
        name: &str,
        secret: Option<&[u8; 32]>,
        sealed: &[u8],
        now: Timestamp,
    ) -> Result<Opened, OpenError> {
        let Envelope { id, nonce, body, tag } = Envelope::read(sealed)?;
        // By its id, never by trying: GCM does not commit to a key, so several might open one envelope.
        let key = self.ring.by_id(id).ok_or(OpenError::UnknownKey)?;
        let associated = self.associated(id, purpose, name);
        let mut plain = Zeroizing::new(body.to_vec());
        key.with_cipher(purpose, secret, |cipher| cipher.open(nonce, &associated, &mut plain, tag))
            .map_err(|_| OpenError::Forged)?;
        Ok(Opened { plain, reseal: id != self.ring.sealing(now).id })
    }

    /// Names `text` in logs without telling it: 48 bits that only the holder of the key can compute. Another sealing key makes
    /// another name.
    #[expect(clippy::expect_used, reason = "HKDF-SHA-256 gives up to 8,160 bytes, and six are asked for")]
    pub fn fingerprint(&self, text: &str, now: Timestamp) -> String {
        let mut name = [0; 6];
        Hkdf::<Sha256>::new(None, self.ring.sealing(now).material.expose())
            .expand_multi_info(&[b"vestibule fingerprint: ", &self.site, text.as_bytes()], &mut name)
            .expect("six bytes are within HKDF's reach");
        base64_simd::URL_SAFE_NO_PAD.encode_to_string(name)
    }

    /// What an envelope is bound to. Fields of any length state it, so that nothing moves from one to the next.
    fn associated(&self, id: KeyId, purpose: Purpose, name: &str) -> Vec<u8> {
        let purpose = purpose.label();
        let length = 1 + id.0.len() + 2 * LENGTH_BYTES + purpose.len() + name.len() + self.site.len();
        let mut associated = Vec::with_capacity(length);
        associated.push(VERSION);
        associated.extend_from_slice(&id.0);
        push_field(&mut associated, purpose);
        push_field(&mut associated, name);
        associated.extend_from_slice(&self.site);
        associated
    }
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealer").field("ring", &self.ring).finish_non_exhaustive()
    }
}

/// What was in an envelope.
pub struct Opened {
    /// What was sealed; wiped when dropped.
    pub plain: Zeroizing<Vec<u8>>,
    /// Whether another key would seal it now, so that it should be sealed again on the way out.
    pub reseal: bool,
}

impl fmt::Debug for Opened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opened").field("reseal", &self.reseal).finish_non_exhaustive()
    }
}

/// Why an envelope did not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Nothing that was ever an envelope of ours.
    #[error("the browser or the store presented something that is not an envelope")]
    Malformed,
    /// Well formed, under a key that is not in the ring: retired, or not yet here.
    #[error("the envelope was sealed with a key that is not configured here")]
    UnknownKey,
    /// Well formed, by a later release.
    #[error("the envelope was sealed by a newer release")]
    NewerVersion,
    /// Altered, or sealed for another purpose, name, secret or site.
    #[error("the envelope was altered, or was sealed for another use")]
    Forged,
}

/// Bytes as a cookie can carry them: base64url without padding.
pub fn text(bytes: &[u8]) -> String {
    base64_simd::URL_SAFE_NO_PAD.encode_to_string(bytes)
}

/// How long the [`text`] of an envelope is in which `length` bytes are sealed.
pub const fn sealed_text_length(length: usize) -> usize {
    ((HEAD_BYTES + length + TAG_BYTES) * 4).div_ceil(3)
}

/// The bytes of which [`text`] makes exactly this text; `None` for any other text.
pub fn from_text(text: &[u8]) -> Option<Vec<u8>> {
    base64_simd::URL_SAFE_NO_PAD.decode_to_vec(text).ok()
}

impl Purpose {
    /// Part of keys and envelopes: a change of it is a change of format.
    const fn label(self) -> &'static str {
        match self {
            Self::Session => "session",
            Self::LoginTransaction => "login transaction",
            Self::LedgerBody => "ledger body",
            Self::LoginResult => "login result",
            Self::Demand => "demand",
            Self::Roster => "roster",
        }
    }
}

/// Names a key without telling anything of use about it.
#[derive(Clone, Copy, PartialEq, Eq)]
struct KeyId([u8; 4]);

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", u32::from_be_bytes(self.0))
    }
}

struct Key {
    id: KeyId,
    created: Timestamp,
    material: Secret<[u8; KEY_BYTES]>,
    // Derived ahead: sessions are opened on every request.
    session: Xaes256Gcm,
    login_transaction: Xaes256Gcm,
    ledger_body: Xaes256Gcm,
    login_result: Xaes256Gcm,
}

impl Key {
    fn parse(text: &str) -> Result<Self, KeyError> {
        let text = text.trim_ascii();
        if text.is_empty() {
            return Err(KeyError::Empty);
        }
        let rest = text.strip_prefix(KEY_PREFIX).ok_or(KeyError::Malformed)?;
        let (version, rest) = rest.split_once('.').ok_or(KeyError::Malformed)?;
        match version.parse::<u32>() {
            Ok(KEY_VERSION) => {}
            Ok(later) if later > KEY_VERSION => return Err(KeyError::NewerVersion),
            Ok(_) | Err(_) => return Err(KeyError::Malformed),
        }
        let (created, encoded) = rest.split_once('.').ok_or(KeyError::Malformed)?;
        let created = created.parse().map_err(|_| KeyError::Malformed)?;
        let bytes = Zeroizing::new(from_text(encoded.as_bytes()).ok_or(KeyError::Malformed)?);
        let material =
            <[u8; KEY_BYTES]>::try_from(bytes.as_slice()).map_err(|_| KeyError::Length { found: bytes.len() })?;
        let material = Secret::new(material);
        if !looks_random(material.expose()) {
            return Err(KeyError::LowEntropy);
        }
        Ok(Self::new(material, Timestamp::from_secs(created)))
    }

    fn new(material: Secret<[u8; KEY_BYTES]>, created: Timestamp) -> Self {
        let digest = Sha256::new().chain_update("vestibule key id").chain_update(material.expose()).finalize();
        let [a, b, c, d, ..] = <[u8; 32]>::from(digest);
        let of = |purpose| derive(&material, None, purpose);
        Self {
            id: KeyId([a, b, c, d]),
            created,
            session: of(Purpose::Session),
            login_transaction: of(Purpose::LoginTransaction),
            ledger_body: of(Purpose::LedgerBody),
            login_result: of(Purpose::LoginResult),
            material,
        }
    }

    fn with_cipher<T>(&self, purpose: Purpose, secret: Option<&[u8; 32]>, work: impl FnOnce(&Xaes256Gcm) -> T) -> T {
        match (secret, purpose) {
            (Some(secret), _) => work(&derive(&self.material, Some(secret), purpose)),
            (None, Purpose::Session) => work(&self.session),
            (None, Purpose::LoginTransaction) => work(&self.login_transaction),
            (None, Purpose::LedgerBody) => work(&self.ledger_body),
            (None, Purpose::LoginResult) => work(&self.login_result),
            // Seldom.
            (None, Purpose::Demand) => work(&derive(&self.material, None, purpose)),
            // Rarely used: at logins, and every few minutes of a session.
            (None, Purpose::Roster) => work(&derive(&self.material, None, purpose)),
        }
    }
}

/// The key for one purpose, by HKDF (RFC 5869) with the secret, if there is one, as its salt.
#[expect(
    clippy::expect_used,
    reason = "HKDF-SHA-256 gives up to 8,160 bytes (RFC 5869 section 2.3), and 32 are asked for"
)]
fn derive(material: &Secret<[u8; KEY_BYTES]>, secret: Option<&[u8; 32]>, purpose: Purpose) -> Xaes256Gcm {
    // No salt is the same as a salt of zeros, so the label has to tell the two apart.
    let kind = if secret.is_some() { "vestibule bound key: " } else { "vestibule key: " };
    let salt = secret.map(<[u8; 32]>::as_slice);
    let mut key = Zeroizing::new([0; KEY_BYTES]);
    Hkdf::<Sha256>::new(salt, material.expose())
        .expand_multi_info(&[kind.as_bytes(), purpose.label().as_bytes()], key.as_mut_slice())
        .expect("32 bytes are within HKDF's reach");
    Xaes256Gcm::new(&key)
}

/// Whether chance could have made these bytes. It refuses one good key in four billion, mostly for being text.
fn looks_random(bytes: &[u8; KEY_BYTES]) -> bool {
    let mut sorted = Zeroizing::new(*bytes);
    sorted.sort_unstable();
    let distinct = sorted.chunk_by(|left, right| left == right).count();
    distinct >= 8 && !bytes.is_ascii() && bytes[..KEY_BYTES / 2] != bytes[KEY_BYTES / 2..]
}

/// An envelope's parts, not yet believed.
struct Envelope<'a> {
    id: KeyId,
    nonce: &'a [u8; NONCE_BYTES],
    body: &'a [u8],
    tag: &'a [u8; TAG_BYTES],
}

impl<'a> Envelope<'a> {
    fn read(sealed: &'a [u8]) -> Result<Self, OpenError> {
        let parts = || {
            let (&version, rest) = sealed.split_first()?;
            let (&id, rest) = rest.split_first_chunk()?;
            let (nonce, rest) = rest.split_first_chunk()?;
            let (body, tag) = rest.split_last_chunk()?;
            Some((version, Self { id: KeyId(id), nonce, body, tag }))
        };
        match parts() {
            Some((VERSION, envelope)) => Ok(envelope),
            Some((version, _)) if version > VERSION => Err(OpenError::NewerVersion),
            Some(_) | None => Err(OpenError::Malformed),
        }
    }
}

fn push_field(bytes: &mut Vec<u8>, field: &str) {
    bytes.extend_from_slice(&(field.len() as u64).to_be_bytes());
    bytes.extend_from_slice(field.as_bytes());
}

const KEY_PREFIX: &str = "vestibule-key.";
const KEY_VERSION: u32 = 1;
/// The version of an envelope. Before a new one is written, a release must be able to read it.
const VERSION: u8 = 1;
const HEAD_BYTES: usize = 1 + 4 + NONCE_BYTES;
const LENGTH_BYTES: usize = size_of::<u64>();

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::sync::atomic::{AtomicU64, Ordering};

    use proptest::prelude::*;

    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);
    const DELAY: Duration = Duration::from_secs(600);
    const ORIGIN: &str = "https://app.example.com";
    const NAME: &str = "__Host-Http-vestibule";
    const PURPOSES: [Purpose; 5] =
        [Purpose::Session, Purpose::LoginTransaction, Purpose::LedgerBody, Purpose::LoginResult, Purpose::Roster];

    /// Unlike every other that is made from another seed.
    struct Stream(AtomicU64);

    impl Stream {
        const fn seeded(seed: u64) -> Self {
            Self(AtomicU64::new(seed << 32))
        }
    }

    impl Random for Stream {
        fn fill(&self, buffer: &mut [u8]) {
            for chunk in buffer.chunks_mut(32) {
                let block = Sha256::digest(self.0.fetch_add(1, Ordering::Relaxed).to_be_bytes());
                chunk.copy_from_slice(&block[..chunk.len()]);
            }
        }
    }

    fn key(seed: u64, created: Timestamp) -> String {
        KeyRing::generate_text(&Stream::seeded(seed), created)
    }

    fn old_key(seed: u64) -> String {
        key(seed, NOW - DELAY)
    }

    fn ring(texts: &[String]) -> Arc<KeyRing> {
        let texts: Vec<Secret<String>> = texts.iter().cloned().map(Secret::new).collect();
        Arc::new(KeyRing::new(&texts, DELAY).unwrap())
    }

    fn sealer(texts: &[String]) -> Sealer {
        Sealer::new(ring(texts), ORIGIN, "spa-bff")
    }

    fn sealed(sealer: &Sealer, plain: &[u8]) -> Vec<u8> {
        sealer.seal(Purpose::Session, NAME, None, plain, &Stream::seeded(99), NOW)
    }

    fn opened(sealer: &Sealer, envelope: &[u8]) -> Result<(Vec<u8>, bool), OpenError> {
        let opened = sealer.open(Purpose::Session, NAME, None, envelope, NOW)?;
        Ok((opened.plain.to_vec(), opened.reseal))
    }

    fn refusal(text: &str) -> KeyError {
        let good = Secret::new(old_key(1));
        let (index, error) = KeyRing::new(&[good, Secret::new(text.to_owned())], DELAY).unwrap_err();
        assert_eq!(index, 1);
        assert!(error.to_string().contains("`vestibule keygen`"));
        error
    }

    fn key_of(bytes: &[u8]) -> String {
        format!("vestibule-key.1.1800000000.{}", text(bytes))
    }

    // CRY-11
    #[test]
    fn a_generated_key_is_one_line_that_the_ring_reads() {
        let text = key(1, NOW);
        assert!(text.starts_with("vestibule-key.1.1800000000."));
        assert_eq!(text.len(), "vestibule-key.1.1800000000.".len() + 43);
        let lines = [format!("{text}\n"), format!("  {}\r\n", key(2, NOW))];
        assert_eq!(ring(&lines).keys().count(), 2);
    }

    // CRY-11
    #[test]
    fn what_is_not_a_key_is_refused_with_its_own_reason() {
        assert_eq!(refusal(""), KeyError::Empty);
        assert_eq!(refusal(" \r\n"), KeyError::Empty);
        assert_eq!(refusal("aaaaaaaaaaaaaaaa"), KeyError::Malformed);
        assert_eq!(refusal("vestibule-key."), KeyError::Malformed);
        assert_eq!(refusal("vestibule-key.1.1800000000"), KeyError::Malformed);
        assert_eq!(refusal(&old_key(2).replace(".1.", ".0.")), KeyError::Malformed);
        assert_eq!(refusal(&old_key(2).replace(".1.", ".x.")), KeyError::Malformed);
        assert_eq!(refusal(&old_key(2).replace(".1.", ".1.-")), KeyError::Malformed);
        assert_eq!(refusal(&format!("{}=", old_key(2))), KeyError::Malformed);
        assert_eq!(refusal(&format!("{}\n{}", old_key(2), old_key(3))), KeyError::Malformed);
        assert_eq!(refusal(&old_key(2).replace(".1.", ".2.")), KeyError::NewerVersion);
        assert_eq!(refusal(&key_of(&[])), KeyError::Length { found: 0 });
        assert_eq!(refusal(&key_of(&Stream::bytes_of::<31>(2))), KeyError::Length { found: 31 });
        assert_eq!(refusal(&key_of(&Stream::bytes_of::<33>(2))), KeyError::Length { found: 33 });
        assert_eq!(refusal(&old_key(1)), KeyError::Duplicate);
        assert_eq!(refusal(&key(1, NOW)), KeyError::Duplicate);
        assert_eq!(KeyRing::new(&[], DELAY).unwrap_err(), (0, KeyError::NoKeys));
    }

    impl Stream {
        fn bytes_of<const N: usize>(seed: u64) -> [u8; N] {
            (&Self::seeded(seed) as &dyn Random).bytes()
        }
    }

    // CRY-11
    #[test]
    fn a_key_that_chance_did_not_make_is_refused() {
        let half = Stream::bytes_of::<16>(7);
        let counted: Vec<u8> = (0..32).collect();
        let seven: Vec<u8> = (0xf0..0xf7).cycle().take(32).collect();
        for bytes in [&[0xff; 32], b"correct horse battery staple 123", [half, half].as_flattened(), &counted, &seven] {
            assert_eq!(refusal(&key_of(bytes)), KeyError::LowEntropy);
        }
    }

    #[test]
    fn nothing_prints_a_key() {
        let text = old_key(1);
        let ring = ring(std::slice::from_ref(&text));
        let printed = format!("{ring:?} {:?} {:?}", sealer(std::slice::from_ref(&text)), refusal("hunter2"));
        assert!(!printed.contains(text.rsplit('.').next().unwrap()) && !printed.contains("hunter2"));
        assert_eq!(format!("{ring:?}").len(), "[00000000]".len());
    }

    // CRY-04: one byte of version, 4 of key id, 24 of nonce, 16 of tag.
    #[test]
    fn an_envelope_has_a_long_nonce_and_a_whole_tag() {
        let sealer = sealer(&[old_key(1)]);
        let envelope = sealed(&sealer, b"session");
        assert_eq!(envelope.len(), 1 + 4 + 24 + b"session".len() + 16);
        assert_eq!(envelope[0], 1);
        assert_eq!(opened(&sealer, &envelope), Ok((b"session".to_vec(), false)));
    }

    // CRY-05
    #[test]
    fn an_envelope_opens_for_its_own_use_only() {
        let ring = ring(&[old_key(1)]);
        let sealer = |origin, client| Sealer::new(Arc::clone(&ring), origin, client);
        let home = sealer(ORIGIN, "spa-bff");
        for purpose in PURPOSES {
            let envelope = home.seal(purpose, NAME, None, b"plain", &Stream::seeded(9), NOW);
            for other in PURPOSES {
                let result = home.open(other, NAME, None, &envelope, NOW).map(|_| ());
                assert_eq!(result, if other == purpose { Ok(()) } else { Err(OpenError::Forged) });
            }
            for name in ["", "__Host-Http-vestibule-1", "__host-http-vestibule"] {
                assert_eq!(home.open(purpose, name, None, &envelope, NOW).unwrap_err(), OpenError::Forged);
            }
            for (origin, client) in [
                ("https://staging.example.com", "spa-bff"),
                (ORIGIN, "other"),
                ("https://app.example.comspa", "-bff"),
                ("", "https://app.example.comspa-bff"),
            ] {
                let result = sealer(origin, client).open(purpose, NAME, None, &envelope, NOW);
                assert_eq!(result.unwrap_err(), OpenError::Forged, "{origin} {client}");
            }
        }
    }

    // CRY-05, CRY-10: a purpose is bound twice, so each binding is looked at alone.
    #[test]
    fn purposes_differ_in_their_keys_and_in_their_associated_data() {
        let sealer = sealer(&[old_key(1)]);
        let key = &sealer.ring.first;
        let secret = Stream::bytes_of::<32>(5);
        let tags = PURPOSES.iter().flat_map(|&purpose| {
            [None, Some(&secret)]
                .map(|secret| key.with_cipher(purpose, secret, |cipher| cipher.seal(&[0; NONCE_BYTES], b"", &mut [])))
        });
        assert_eq!(tags.collect::<HashSet<_>>().len(), 2 * PURPOSES.len());
        let associated = PURPOSES.iter().map(|&purpose| sealer.associated(key.id, purpose, NAME));
        assert_eq!(associated.collect::<HashSet<_>>().len(), PURPOSES.len());
    }

    // CRY-08: if this fails, the format has changed, and an update signs everybody out.
    #[test]
    fn what_an_earlier_release_sealed_still_opens() {
        let sealer = sealer(&[old_key(1)]);
        let secret = Stream::bytes_of::<32>(5);
        for (purpose, secret, sealed) in [
            (Purpose::Session, None, "ATVMLcc6tcRvdLH7HXqtbdBKRcQcfwt-S11wABuAiWJafC4wRYS-Rw6Pd_moN9Z8NWk"),
            (Purpose::LoginTransaction, None, "ATVMLcc6tcRvdLH7HXqtbdBKRcQcfwt-S11wABtETsRo1Z78DCnil5HaAxDNN1A2cWM"),
            (Purpose::LedgerBody, Some(&secret), "ATVMLcc6tcRvdLH7HXqtbdBKRcQcfwt-S11wABv5h6OqACofiDwU13psVw2xGutDdVw"),
            (
                Purpose::LoginResult,
                Some(&secret),
                "ATVMLcc6tcRvdLH7HXqtbdBKRcQcfwt-S11wABt9q8Kf4FmkuYEDAefViWP-a6dRLmY",
            ),
        ] {
            let envelope = sealer.seal(purpose, NAME, secret, b"plain", &Stream::seeded(9), NOW);
            assert_eq!(text(&envelope), sealed, "{purpose:?}");
            let opened = sealer.open(purpose, NAME, secret, &envelope, NOW).unwrap();
            assert_eq!(*opened.plain, b"plain");
        }
    }

    #[test]
    fn a_fingerprint_is_the_same_for_the_same_text_and_key_and_site_only() {
        let ring = ring(&[old_key(1)]);
        let of = |ring: &Arc<KeyRing>, origin, text| Sealer::new(Arc::clone(ring), origin, "c").fingerprint(text, NOW);
        let name = of(&ring, ORIGIN, "ada");
        assert_eq!((name.len(), &of(&ring, ORIGIN, "ada")), (8, &name));
        let other = self::ring(&[old_key(2)]);
        for differs in [of(&ring, ORIGIN, "bob"), of(&ring, "https://b.test", "ada"), of(&other, ORIGIN, "ada")] {
            assert_ne!(differs, name);
        }
    }

    // CRY-05, CRY-10, CRY-18
    #[test]
    fn a_body_under_a_secret_needs_that_secret() {
        let sealer = sealer(&[old_key(1)]);
        let secret = Stream::bytes_of::<32>(5);
        let other = Stream::bytes_of::<32>(6);
        // Zeros, because HKDF takes a missing salt for zeros.
        let keys = [None, Some(&secret), Some(&other), Some(&[0; 32])];
        for (at, sealing) in keys.into_iter().enumerate() {
            let envelope = sealer.seal(Purpose::LedgerBody, "id", sealing, b"body", &Stream::seeded(9), NOW);
            for (with, opening) in keys.into_iter().enumerate() {
                let result = sealer.open(Purpose::LedgerBody, "id", opening, &envelope, NOW).map(|_| ());
                assert_eq!(result, if at == with { Ok(()) } else { Err(OpenError::Forged) }, "{at} {with}");
            }
        }
    }

    // CRY-05: the key id and the version are bytes of the envelope.
    #[test]
    fn an_envelope_altered_in_any_bit_does_not_open() {
        let sealer = sealer(&[old_key(1)]);
        let envelope = sealed(&sealer, b"a session of some length");
        for index in 0..envelope.len() {
            for bit in 0..8 {
                let mut altered = envelope.clone();
                altered[index] ^= 1 << bit;
                let expected = match index {
                    0 if altered[0] == 0 => OpenError::Malformed,
                    0 => OpenError::NewerVersion,
                    1..=4 => OpenError::UnknownKey,
                    _ => OpenError::Forged,
                };
                assert_eq!(opened(&sealer, &altered), Err(expected), "byte {index}, bit {bit}");
            }
        }
    }

    // CRY-04
    #[test]
    fn an_envelope_cut_at_any_length_does_not_open() {
        let sealer = sealer(&[old_key(1)]);
        let envelope = sealed(&sealer, b"session");
        for length in 0..envelope.len() {
            let expected = if length < 45 { OpenError::Malformed } else { OpenError::Forged };
            assert_eq!(opened(&sealer, &envelope[..length]), Err(expected), "{length} bytes");
        }
        let longer = [envelope.as_slice(), &[0]].concat();
        assert_eq!(opened(&sealer, &longer), Err(OpenError::Forged));
    }

    // CRY-05, CRY-12
    #[test]
    fn an_envelope_relabelled_with_another_key_of_the_ring_does_not_open() {
        let sealer = sealer(&[old_key(1), old_key(2)]);
        let mut envelope = sealed(&sealer, b"session");
        envelope[1..5].copy_from_slice(&sealer.ring.others[0].id.0);
        assert_eq!(opened(&sealer, &envelope), Err(OpenError::Forged));
    }

    // CRY-08, CRY-09
    #[test]
    fn keys_rotate_without_losing_a_session() {
        let (old, new) = (old_key(1), old_key(2));
        let before = sealer(std::slice::from_ref(&old));
        let both = sealer(&[new.clone(), old]);
        let after = sealer(&[new]);
        let envelope = sealed(&before, b"session");
        assert_eq!(opened(&both, &envelope), Ok((b"session".to_vec(), true)));
        let resealed = sealed(&both, b"session");
        assert_eq!(opened(&both, &resealed), Ok((b"session".to_vec(), false)));
        assert_eq!(opened(&after, &resealed), Ok((b"session".to_vec(), false)));
        assert_eq!(opened(&after, &envelope), Err(OpenError::UnknownKey));
    }

    // CRY-08
    #[test]
    fn a_new_key_opens_at_once_but_seals_only_when_every_replica_has_it() {
        let (old, new) = (old_key(1), key(2, NOW));
        let ahead = sealer(&[new.clone(), old.clone()]);
        let behind = sealer(&[old]);
        assert!(opened(&behind, &sealed(&ahead, b"session")).is_ok());
        assert!(opened(&ahead, &sealed(&sealer(&[new]), b"session")).is_ok());
        let id_at = |now| ahead.seal(Purpose::Session, NAME, None, b"", &Stream::seeded(9), now)[1..5].to_vec();
        assert_eq!(id_at(NOW + DELAY - Duration::from_millis(1)), ahead.ring.others[0].id.0);
        assert_eq!(id_at(NOW + DELAY), ahead.ring.first.id.0);
        // A replica whose clock is behind sees a key from the future.
        assert_eq!(id_at(NOW - Duration::from_secs(3600)), ahead.ring.others[0].id.0);
    }

    #[test]
    fn among_new_keys_every_replica_seals_with_the_oldest() {
        let (newer, older) = (key(1, NOW), key(2, NOW - Duration::from_secs(1)));
        let one = sealer(&[newer.clone(), older.clone()]);
        let two = sealer(&[older, newer]);
        assert_eq!(sealed(&one, b"")[..5], sealed(&two, b"")[..5]);
        assert_eq!(sealed(&one, b"")[1..5], two.ring.first.id.0);
    }

    // CRY-12
    #[test]
    fn an_unknown_key_and_a_newer_version_are_told_from_a_forgery() {
        let sealer = sealer(&[old_key(1)]);
        let mut envelope = sealed(&self::sealer(&[old_key(2)]), b"session");
        assert_eq!(opened(&sealer, &envelope), Err(OpenError::UnknownKey));
        envelope[0] = 2;
        assert_eq!(opened(&sealer, &envelope), Err(OpenError::NewerVersion));
        assert_eq!(opened(&sealer, &envelope[..44]), Err(OpenError::Malformed));
    }

    #[test]
    fn text_is_read_in_one_spelling_only() {
        assert_eq!(text(&[0xfb, 0xff]), "-_8");
        assert_eq!(from_text(b"-_8"), Some(vec![0xfb, 0xff]));
        assert_eq!(from_text(b""), Some(vec![]));
        for other in ["-_9", "+/8", "-_8=", "-_8\n", " -_8", "-", "-_8A-"] {
            assert_eq!(from_text(other.as_bytes()), None, "{other:?}");
        }
    }

    proptest! {
        #[test]
        fn what_was_sealed_opens_to_the_same(
            plain in proptest::collection::vec(any::<u8>(), 0..2000),
            name in ".{0,40}",
            purpose in 0_usize..5,
            secret in any::<Option<[u8; 32]>>(),
            seed in 0_u64..1 << 31,
        ) {
            let sealer = sealer(&[old_key(1)]);
            let purpose = PURPOSES[purpose];
            let envelope = sealer.seal(purpose, &name, secret.as_ref(), &plain, &Stream::seeded(seed), NOW);
            let spelled = from_text(text(&envelope).as_bytes()).unwrap();
            let opened = sealer.open(purpose, &name, secret.as_ref(), &spelled, NOW).unwrap();
            prop_assert_eq!(&*opened.plain, &plain);
        }

        #[test]
        fn opening_never_panics_and_nothing_made_up_opens(
            mut bytes in proptest::collection::vec(any::<u8>(), 0..120),
            disguise in 0_usize..6,
        ) {
            let sealer = sealer(&[old_key(1)]);
            let head = [[VERSION].as_slice(), &sealer.ring.first.id.0].concat();
            for (byte, known) in bytes.iter_mut().zip(head).take(disguise) {
                *byte = known;
            }
            prop_assert!(opened(&sealer, &bytes).is_err());
        }

        #[test]
        fn reading_text_and_keys_never_panics(
            bytes in proptest::collection::vec(any::<u8>(), 0..80),
            tail in ".{0,60}",
        ) {
            if let Some(read) = from_text(&bytes) {
                prop_assert_eq!(text(&read).into_bytes(), bytes);
            }
            let key = Secret::new(format!("vestibule-key.1.{tail}"));
            prop_assert!(KeyRing::new(&[key], DELAY).is_err());
        }
    }
}
