//! Keys and certificates for one test.

use std::sync::Arc;

use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use sha2::{Digest, Sha256};
use tokio_rustls::TlsAcceptor;

/// A certification authority that exists for one test.
pub(crate) struct Authority {
    /// In PEM form.
    pub(crate) certificate: String,
    issuer: rcgen::Issuer<'static, rcgen::KeyPair>,
}

/// A certificate and its key, in PEM form.
pub(crate) struct Issued {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut parameters = rcgen::CertificateParams::new([]).unwrap();
        // Not the name that its certificates have by default: they would seem to have signed themselves.
        parameters.distinguished_name.push(rcgen::DnType::CommonName, "authority");
        parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let certificate = parameters.self_signed(&key).unwrap().pem();
        Self { certificate, issuer: rcgen::Issuer::new(parameters, key) }
    }

    /// A certificate for this host name or address.
    pub(crate) fn issue(&self, name: &str) -> Issued {
        let key = rcgen::KeyPair::generate().unwrap();
        let parameters = rcgen::CertificateParams::new([name.to_owned()]).unwrap();
        let certificate = parameters.signed_by(&key, &self.issuer).unwrap().pem();
        Issued { certificate, key: key.serialize_pem() }
    }

    /// One with this serial number, for which only authorities that do not know of each other would ever use it twice.
    pub(crate) fn issue_numbered(&self, name: &str, serial: u64) -> Issued {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut parameters = rcgen::CertificateParams::new([name.to_owned()]).unwrap();
        parameters.serial_number = Some(serial.into());
        let certificate = parameters.signed_by(&key, &self.issuer).unwrap().pem();
        Issued { certificate, key: key.serialize_pem() }
    }

    pub(crate) fn roots(&self) -> Arc<RootCertStore> {
        let mut roots = RootCertStore::empty();
        roots.add(der(&self.certificate)).unwrap();
        Arc::new(roots)
    }
}

impl Issued {
    /// The certificate's thumbprint, as tokens name it (`x5t#S256`, RFC 8705 section 3.1).
    pub(crate) fn thumbprint(&self) -> String {
        thumbprint(&der(&self.certificate))
    }

    /// One that has signed itself.
    pub(crate) fn by_itself(name: &str) -> Self {
        let key = rcgen::KeyPair::generate().unwrap();
        let own = rcgen::CertificateParams::new([name.to_owned()]).unwrap().self_signed(&key).unwrap();
        Self { certificate: own.pem(), key: key.serialize_pem() }
    }

    /// What takes TLS connections with it, from whomever they come.
    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![der(&self.certificate)], PrivateKeyDer::from_pem_slice(self.key.as_bytes()).unwrap())
            .unwrap();
        TlsAcceptor::from(Arc::new(tls))
    }
}

pub(crate) fn thumbprint(certificate: &CertificateDer<'_>) -> String {
    base64_simd::URL_SAFE_NO_PAD.encode_to_string(Sha256::digest(certificate))
}

/// A private key in PEM form.
pub(crate) fn key(algorithm: &'static rcgen::SignatureAlgorithm) -> String {
    rcgen::KeyPair::generate_for(algorithm).unwrap().serialize_pem()
}

pub(crate) fn der(pem: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()
}
