//! Whom TLS trusts: the operating system's roots of trust, and those of a file. And as whom it shows itself.

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, RootCertStore};

/// Why TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum RootsError {
    /// The file with further roots of trust cannot be used.
    #[error("{0} holds no certificate that can be read; name a file with PEM certificates")]
    File(String),
    /// TLS refuses the settings.
    #[error("TLS cannot be set up")]
    Tls(#[from] rustls::Error),
}

/// A certificate and its private key, as a client shows them in TLS. It prints nothing that is secret.
#[derive(Clone, Debug)]
pub struct Identity(Arc<CertifiedKey>);

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

impl Identity {
    /// Reads a certificate, with those between it and a root behind it, and its private key: both in PEM form.
    ///
    /// # Errors
    /// If they cannot be read, or do not belong together.
    pub fn from_pem(certificates: &[u8], key: &[u8]) -> Result<Self, IdentityError> {
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(certificates).collect();
        let chain = chain.ok().filter(|chain| !chain.is_empty()).ok_or(IdentityError::Certificate)?;
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| IdentityError::Key)?;
        match CertifiedKey::from_der(chain, key, &rustls::crypto::ring::default_provider()) {
            Ok(certified) => Ok(Self(Arc::new(certified))),
            Err(rustls::Error::InconsistentKeys(_)) => Err(IdentityError::Mismatch),
            Err(rustls::Error::InvalidCertificate(_)) => Err(IdentityError::Certificate),
            Err(_) => Err(IdentityError::Key),
        }
    }
}

/// TLS for a client that trusts the system's roots, and those in `ca_file` too. `whom` names the servers, for the log. To
/// servers that ask for it `identity` is shown.
pub(crate) fn client_config(
    ca_file: Option<&Path>,
    identity: Option<&Identity>,
    whom: &str,
) -> Result<ClientConfig, RootsError> {
    let mut roots = RootCertStore::empty();
    let system = rustls_native_certs::load_native_certs();
    let (_, unreadable) = roots.add_parsable_certificates(system.certs);
    if unreadable > 0 {
        tracing::debug!(unreadable, "some of the system's roots of trust cannot be read");
    }
    if let Some(path) = ca_file {
        let named = || RootsError::File(path.display().to_string());
        let certificates = CertificateDer::pem_file_iter(path).map_err(|_| named())?;
        let certificates: Vec<_> = certificates.collect::<Result<_, _>>().map_err(|_| named())?;
        if certificates.is_empty() {
            return Err(named());
        }
        roots.add_parsable_certificates(certificates);
    }
    if roots.is_empty() {
        tracing::warn!("no roots of trust were found: {whom} cannot be verified; install ca-certificates");
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let tls = tls.with_root_certificates(roots);
    Ok(match identity {
        Some(Identity(key)) => tls.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(Arc::clone(key)))),
        None => tls.with_no_client_auth(),
    })
}
