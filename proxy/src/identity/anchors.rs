//! The roots that peers must chain to: read from PEM, re-read when their file changes.

use crate::config::TrustAnchors;
use anyhow::Context as _;
use rustls::RootCertStore;
use rustls_pki_types::{CertificateDer, pem::PemObject};
use std::{sync::Arc, time::Duration};
use tokio::{sync::watch, time};
use tracing::{info, warn};

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

/// How often the file is looked at. It is small, and a mounted ConfigMap changes by swapped links that file watches lose.
const LOOK: Duration = Duration::from_secs(2);

/// Reads the anchors for the first time.
pub fn load(source: &TrustAnchors) -> Result<Arc<RootCertStore>, anyhow::Error> {
    match source {
        TrustAnchors::Pem(pem) => Ok(Arc::new(parse(pem.as_bytes())?)),
        TrustAnchors::File(path) => {
            let pem = std::fs::read(path).with_context(|| format!("trust anchors {}", path.display()))?;
            Ok(Arc::new(parse(&pem).with_context(|| format!("trust anchors {}", path.display()))?))
        }
    }
}

/// Publishes the file's anchors whenever they change; a file that cannot be used keeps the last good ones. Ends at once for
/// anchors that are a text.
pub async fn follow(source: TrustAnchors, publish: watch::Sender<Arc<RootCertStore>>) {
    let TrustAnchors::File(path) = source else { return };
    let mut last = std::fs::read(&path).ok();
    loop {
        time::sleep(LOOK).await;
        let now = std::fs::read(&path).ok();
        if now == last {
            continue;
        }
        match now.as_deref().map(parse) {
            Some(Ok(roots)) => {
                info!(path = %path.display(), anchors = roots.len(), "trust anchors changed");
                publish.send_replace(Arc::new(roots));
            }
            Some(Err(error)) => {
                warn!(path = %path.display(), %error, "trust anchors are not usable; keeping the last ones")
            }
            None => warn!(path = %path.display(), "trust anchors cannot be read; keeping the last ones"),
        }
        last = now;
    }
}
