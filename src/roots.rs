//! Whom TLS trusts: the operating system's roots of trust, and those of a file.

use std::path::Path;
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

use crate::identity::Identity;

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
        Some(identity) => {
            let mut tls = tls.with_client_cert_resolver(Arc::new(identity.clone()));
            // A server takes whoever resumes a session for whoever began it, by a certificate that may be another by now.
            tls.resumption = Resumption::disabled();
            tls
        }
        None => tls.with_no_client_auth(),
    })
}
