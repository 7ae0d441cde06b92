//! The roots that peers must chain to: read from PEM, re-read when their file changes.

use rustls::RootCertStore;
use rustls_pki_types::{CertificateDer, pem::PemObject};

#[derive(Debug, thiserror::Error)]
pub enum InvalidAnchors {
    #[error("no certificate in it (want PEM)")]
    Empty,
    #[error("certificate {number} is not readable PEM: {reason}")]
    Pem { number: usize, reason: String },
    #[error("certificate {number} cannot be a trust anchor: {reason}")]
    Certificate { number: usize, reason: String },
}

/// All or nothing: one bad certificate among good ones is an error, not a silently smaller trust.
pub fn parse(pem: &[u8]) -> Result<RootCertStore, InvalidAnchors> {
    let mut roots = RootCertStore::empty();
    for (index, certificate) in CertificateDer::pem_slice_iter(pem).enumerate() {
        let number = index + 1;
        let certificate =
            certificate.map_err(|error| InvalidAnchors::Pem { number, reason: format!("{error:?}") })?;
        roots
            .add(certificate)
            .map_err(|error| InvalidAnchors::Certificate { number, reason: error.to_string() })?;
    }
    if roots.is_empty() { Err(InvalidAnchors::Empty) } else { Ok(roots) }
}
