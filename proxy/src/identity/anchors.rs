//! The roots that peers must chain to: read from PEM, re-read when their file changes.

use super::fingerprint;
use crate::{complaint::Complaint, config::TrustAnchors};
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

/// What we trust.
#[derive(Clone, Debug)]
pub struct Anchors {
    pub roots: Arc<RootCertStore>,
    /// The first of them alone: certificates are issued under it, or will be soon.
    pub first: Arc<RootCertStore>,
    /// Of all of them, in their order.
    pub fingerprint: u64,
}

/// All or nothing: one bad certificate among good ones is an error, not a silently smaller trust.
pub fn parse(pem: &[u8]) -> Result<Anchors, InvalidAnchors> {
    let (mut roots, mut first) = (RootCertStore::empty(), RootCertStore::empty());
    let mut certificates = vec![];
    for (index, certificate) in CertificateDer::pem_slice_iter(pem).enumerate() {
        let number = index + 1;
        let certificate =
            certificate.map_err(|error| InvalidAnchors::Pem { number, reason: format!("{error:?}") })?;
        roots
            .add(certificate.clone())
            .map_err(|error| InvalidAnchors::Certificate { number, reason: error.to_string() })?;
        if first.is_empty() {
            first = roots.clone();
        }
        certificates.push(certificate);
    }
    if roots.is_empty() {
        return Err(InvalidAnchors::Empty);
    }
    let fingerprint = fingerprint::of(&certificates);
    Ok(Anchors { roots: roots.into(), first: first.into(), fingerprint })
}

/// How often the file is looked at. It is small, and a mounted ConfigMap changes by swapped links that file watches lose.
const LOOK: Duration = Duration::from_secs(2);

/// The same before there are any: whoever waits for the proxy to be ready waits for this.
const LOOK_FIRST: Duration = Duration::from_millis(200);

/// The anchors to start with. A file that is not there yet, or not usable, is waited for: the operator may be about to write it.
pub async fn first(source: &TrustAnchors) -> Anchors {
    let mut complaint = Complaint::default();
    loop {
        match read(source) {
            Ok(anchors) => return anchors,
            Err(error) => complaint.tell(&format!("{error:#}; not ready, looking again")),
        }
        time::sleep(LOOK_FIRST).await;
    }
}

fn read(source: &TrustAnchors) -> anyhow::Result<Anchors> {
    match source {
        TrustAnchors::Pem(pem) => Ok(parse(pem.as_bytes())?),
        TrustAnchors::File(path) => {
            let pem = std::fs::read(path).with_context(|| format!("trust anchors {}", path.display()))?;
            parse(&pem).with_context(|| format!("trust anchors {}", path.display()))
        }
    }
}

/// Publishes the file's anchors whenever they change; a file that cannot be used keeps the last good ones. Ends at once for
/// anchors that are a text.
pub async fn follow(source: TrustAnchors, publish: watch::Sender<Anchors>) {
    let TrustAnchors::File(path) = source else { return };
    let mut last = std::fs::read(&path).ok();
    loop {
        time::sleep(LOOK).await;
        let now = std::fs::read(&path).ok();
        if now == last {
            continue;
        }
        match now.as_deref().map(parse) {
            Some(Ok(anchors)) => {
                info!(path = %path.display(), anchors = anchors.roots.len(), "trust anchors changed");
                publish.send_replace(anchors);
            }
            Some(Err(error)) => {
                warn!(path = %path.display(), %error, "trust anchors are not usable; keeping the last ones")
            }
            None => warn!(path = %path.display(), "trust anchors cannot be read; keeping the last ones"),
        }
        last = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::testing::Authority;

    #[test]
    fn one_bad_certificate_spoils_the_file() {
        let good = Authority::default().pem();
        let bad = "-----BEGIN CERTIFICATE-----\naGVsbG8=\n-----END CERTIFICATE-----\n";
        assert_eq!(parse(good.as_bytes()).unwrap().roots.len(), 1);
        assert_eq!(parse(b"").unwrap_err().to_string(), "no certificate in it (want PEM)");
        assert!(
            parse(format!("{good}{bad}").as_bytes()).unwrap_err().to_string().starts_with("certificate 2 ")
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_file_that_cannot_be_used_keeps_the_last_anchors() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("anchors.pem");
        let source = TrustAnchors::File(path.clone());
        let written = tokio::spawn({
            let (path, pem) = (path.clone(), Authority::default().pem());
            async move {
                time::sleep(LOOK).await;
                std::fs::write(path, pem).unwrap();
            }
        });
        let (publish, mut anchors) = watch::channel(first(&source).await);
        assert!(written.is_finished(), "a file that is not there yet is waited for");
        tokio::spawn(follow(source, publish));
        time::sleep(LOOK / 2).await;
        for bad in ["", "garbage"] {
            std::fs::write(&path, bad).unwrap();
            time::sleep(LOOK).await;
            assert!(!anchors.has_changed().unwrap(), "{bad:?}");
        }
        std::fs::remove_file(&path).unwrap();
        time::sleep(LOOK).await;
        assert!(!anchors.has_changed().unwrap());
        let two = format!("{}{}", Authority::default().pem(), Authority::default().pem());
        std::fs::write(&path, two).unwrap();
        anchors.changed().await.unwrap();
        assert_eq!(anchors.borrow().roots.len(), 2);
    }
}
