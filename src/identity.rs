//! As whom a client of TLS shows itself: a certificate and its key, which may be renewed while they are in use.

use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::SignatureScheme;
use rustls::client::ResolvesClientCert;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use sha2::{Digest, Sha256};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;
use zeroize::Zeroizing;

/// A certificate and its private key, as a client shows them in TLS. All clones are renewed together, and one is equal to
/// its clones alone. It prints nothing that is secret.
#[derive(Clone, Debug)]
pub struct Identity(Arc<Held>);

#[derive(Debug)]
struct Held {
    shown: ArcSwap<Shown>,
    /// None for one that never changes.
    origin: Option<Origin>,
}

/// What is shown at one moment: a certificate, those between it and a root, and the key.
pub struct Shown {
    certified: Arc<CertifiedKey>,
    key: Zeroizing<Vec<u8>>,
    thumbprint: Thumbprint,
}

/// The SHA-256 hash of a certificate: what tokens that are bound to it name (`x5t#S256`, RFC 8705 section 3.1).
pub type Thumbprint = [u8; 32];

/// Where an [`Identity`] comes from, and is looked for again.
#[derive(Clone, Debug)]
pub struct Origin {
    /// The configuration's key for it, as messages name it.
    pub name: String,
    /// The file with the certificate and those between it and a root, in PEM form.
    pub certificate: PathBuf,
    /// Where its private key is, in PEM form.
    pub key: KeyOrigin,
}

/// Where a private key is.
#[derive(Clone)]
pub enum KeyOrigin {
    /// In a file.
    File(PathBuf),
    /// Here, for as long as this process lives.
    Text(Zeroizing<String>),
}

/// Why a certificate and a key are no [`Identity`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// There is no certificate that can be read.
    #[error("holds no certificate that can be read")]
    Certificate,
    /// There is no private key that can be read.
    #[error("holds no private key that can be read")]
    Key,
    /// The key is not that of the first certificate.
    #[error("is not the key of the certificate")]
    Mismatch,
}

/// How often renewed files are looked for.
const LOOK: Duration = Duration::from_secs(2);

impl std::fmt::Debug for Shown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shown").field("thumbprint", &self.name()).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for KeyOrigin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
            Self::Text(_) => f.write_str("Text"),
        }
    }
}

impl IdentityError {
    /// What to do about it.
    pub const fn remedy(self) -> &'static str {
        match self {
            Self::Certificate => "name a file in PEM form",
            Self::Key => "name a private key in PEM form",
            Self::Mismatch => "name the key that the certificate is for",
        }
    }
}

impl Shown {
    /// Reads a certificate, with those between it and a root behind it, and its private key: both in PEM form.
    ///
    /// # Errors
    /// If they cannot be read, or do not belong together.
    pub fn from_pem(certificates: &[u8], key: &[u8]) -> Result<Self, IdentityError> {
        let chain = chain(certificates).ok_or(IdentityError::Certificate)?;
        let thumbprint = Sha256::digest(chain.first().ok_or(IdentityError::Certificate)?).into();
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| IdentityError::Key)?;
        let bytes = Zeroizing::new(key.secret_der().to_vec());
        // The proxy engine is handed these bytes, and panics over a key whose kind it cannot tell from them.
        PrivateKeyDer::try_from(bytes.as_slice()).map_err(|_| IdentityError::Key)?;
        match CertifiedKey::from_der(chain, key, &rustls::crypto::ring::default_provider()) {
            Ok(certified) => Ok(Self { certified: Arc::new(certified), key: bytes, thumbprint }),
            Err(rustls::Error::InconsistentKeys(_)) => Err(IdentityError::Mismatch),
            Err(rustls::Error::InvalidCertificate(_)) => Err(IdentityError::Certificate),
            Err(_) => Err(IdentityError::Key),
        }
    }

    /// The certificate and those between it and a root, in that order, as DER.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.certified.cert
    }

    /// The private key, as DER.
    pub const fn key(&self) -> &Zeroizing<Vec<u8>> {
        &self.key
    }

    /// The hash of the certificate.
    pub const fn thumbprint(&self) -> &Thumbprint {
        &self.thumbprint
    }

    /// What the log calls it: the thumbprint in the form that tokens have.
    fn name(&self) -> String {
        base64_simd::URL_SAFE_NO_PAD.encode_to_string(self.thumbprint)
    }
}

impl Identity {
    /// One that begins with `shown`, and is looked for again at `origin` if there is one.
    pub fn new(shown: Shown, origin: Option<Origin>) -> Self {
        Self(Arc::new(Held { shown: ArcSwap::from_pointee(shown), origin }))
    }

    /// What is shown now.
    pub fn shown(&self) -> Arc<Shown> {
        self.0.shown.load_full()
    }

    /// Looks for a renewed certificate, for ever. What is no good changes nothing and is told of, once.
    pub async fn keep_renewed(&self) {
        let mut broken = Broken::default();
        loop {
            tokio::time::sleep(LOOK).await;
            self.renew(&mut broken).await;
        }
    }

    async fn renew(&self, broken: &mut Broken) {
        let Some(origin) = &self.0.origin else { return };
        let read = match origin.read().await {
            Ok((certificates, key)) if self.is_of(&certificates, &key) => {
                *broken = Broken::default();
                return;
            }
            Ok((certificates, key)) => {
                Shown::from_pem(&certificates, key.as_bytes()).map_err(|error| origin.complain(error))
            }
            Err(problem) => Err(problem),
        };
        match read {
            Ok(shown) => {
                *broken = Broken::default();
                tracing::info!(
                    key = origin.name,
                    thumbprint = shown.name(),
                    "a renewed certificate is shown from now on"
                );
                self.0.shown.store(Arc::new(shown));
            }
            Err(problem) if broken.is_news(&problem) => {
                tracing::warn!("{}: {problem}; the earlier certificate is shown on", origin.name);
            }
            Err(_) => {}
        }
    }

    /// Whether the files hold what is shown already.
    fn is_of(&self, certificates: &[u8], key: &str) -> bool {
        let shown = self.shown();
        let same_key =
            || PrivateKeyDer::from_pem_slice(key.as_bytes()).is_ok_and(|key| key.secret_der() == shown.key.as_slice());
        chain(certificates).is_some_and(|chain| chain == shown.chain()) && same_key()
    }
}

/// What was wrong at the last look. A pair of files is seldom written in one stroke, so only what is wrong for two looks
/// is told of.
#[derive(Default)]
struct Broken {
    problem: Option<String>,
    looks: u32,
}

impl Broken {
    fn is_news(&mut self, problem: &str) -> bool {
        if self.problem.as_deref() != Some(problem) {
            *self = Self { problem: Some(problem.to_owned()), looks: 0 };
        }
        self.looks = self.looks.saturating_add(1);
        self.looks == 2
    }
}

impl Origin {
    /// What is wrong with what was read, and what to do about it.
    fn complain(&self, error: IdentityError) -> String {
        let path = match (error, &self.key) {
            (IdentityError::Certificate, KeyOrigin::File(_) | KeyOrigin::Text(_)) => &self.certificate,
            (IdentityError::Key | IdentityError::Mismatch, KeyOrigin::File(path)) => path,
            (IdentityError::Key | IdentityError::Mismatch, KeyOrigin::Text(_)) => {
                return format!(
                    "{} is for another key than this process was started with, which is in no file; restart it with the \
                     new key in its environment, or write key = {{ file = \"…\" }}",
                    self.certificate.display()
                );
            }
        };
        format!("{} {error}; {}", path.display(), error.remedy())
    }

    async fn read(&self) -> Result<(Vec<u8>, Zeroizing<String>), String> {
        let unreadable = |path: &Path, error: std::io::Error| {
            format!("{} cannot be read ({error}); put it back, and let this process read it", path.display())
        };
        let certificates = tokio::fs::read(&self.certificate).await;
        let certificates = certificates.map_err(|error| unreadable(&self.certificate, error))?;
        let key = match &self.key {
            KeyOrigin::Text(text) => text.clone(),
            KeyOrigin::File(path) => {
                let text = tokio::fs::read_to_string(path).await;
                Zeroizing::new(text.map_err(|error| unreadable(path, error))?)
            }
        };
        Ok((certificates, key))
    }
}

impl PartialEq for Identity {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Identity {}

impl Hash for Identity {
    fn hash<H: Hasher>(&self, state: &mut H) {
        std::ptr::hash(Arc::as_ptr(&self.0), state);
    }
}

/// What rustls asks at each handshake.
impl ResolvesClientCert for Identity {
    fn resolve(&self, _issuers: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.shown().certified))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// The certificates of a text in PEM form, each of which can be read; none if there are none.
pub(crate) fn chain(pem: &[u8]) -> Option<Vec<CertificateDer<'static>>> {
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().ok()?;
    // The proxy engine reads them with the same parser, and panics over those it cannot read.
    let readable = |certificate: &CertificateDer<'_>| X509Certificate::from_der(certificate).is_ok();
    (!chain.is_empty() && chain.iter().all(readable)).then_some(chain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_is_in_no_file_is_not_looked_for_in_the_certificates_file() {
        let origin = |key| Origin { name: "issuer.mtls".into(), certificate: "client.pem".into(), key };
        let kept = origin(KeyOrigin::Text(Zeroizing::new("PEM".to_owned())));
        let said = kept.complain(IdentityError::Mismatch);
        assert!(said.starts_with("client.pem is for another key than this process was started with"), "{said}");
        assert!(said.contains("restart it with the new key"), "{said}");
        let read = origin(KeyOrigin::File("client.key".into()));
        assert_eq!(
            read.complain(IdentityError::Mismatch),
            "client.key is not the key of the certificate; name the key that the certificate is for"
        );
        for origin in [kept, read] {
            let said = origin.complain(IdentityError::Certificate);
            assert_eq!(said, "client.pem holds no certificate that can be read; name a file in PEM form");
        }
    }
}
