//! The proxy's own identity: key, certificate and the TLS configurations made of them.

pub mod anchors;
mod certify;
mod fingerprint;
mod renewal;
#[cfg(test)]
mod story;
#[cfg(test)]
mod tests;

use crate::{config::Config, control::channel, ready::Ready, telemetry::Worker, tls::configs::Material};
use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};
use tokio::{sync::watch, task};

/// Starts the task that gets and renews the certificate and follows the trust anchors. Readiness waits for the first certificate.
pub fn start(config: &Config, ready: &Ready, worker: &Worker) -> watch::Receiver<Option<Arc<Credentials>>> {
    let (publish, credentials) = watch::channel(None);
    let (settings, signer, block) =
        (config.identity.clone(), config.control.identity.clone(), ready.block("identity"));
    let worker = worker.clone();
    task::spawn_local(async move {
        let (publish_anchors, anchors) = watch::channel(anchors::first(&settings.trust_anchors).await);
        let connect = channel::anonymous(&signer, anchors.clone(), &worker);
        let follow = anchors::follow(settings.trust_anchors.clone(), publish_anchors);
        tokio::join!(follow, renewal::run(settings, connect, anchors, publish, block));
    });
    credentials
}

/// Valid credentials, replaced whole at every renewal and whenever the trust anchors change. Workers hold a
/// `watch::Receiver<Option<Arc<Credentials>>>`: `None` until the first certificate.
#[derive(Debug)]
pub struct Credentials {
    /// Our name: the DNS name in our certificate, and the SNI on which we terminate TLS.
    pub name: Arc<str>,
    pub expires: SystemTime,
    /// Fingerprint of the trust anchors that peers are held against.
    pub anchors: u64,
    /// Fingerprint of the certificate that signed ours; 0 where a root did.
    pub issuer: u64,
    /// Accepts with client certificates optional but verified; ALPN `transport.l5d.io/v1` and `h2` offered.
    pub server: Arc<rustls::ServerConfig>,
    /// Connects with our certificate, ALPN `transport.l5d.io/v1`; the peer must chain to the trust anchors and bear the SNI's name.
    pub client_transport: Arc<rustls::ClientConfig>,
    /// The same without ALPN, for peers without a transport-header port.
    pub client_plain: Arc<rustls::ClientConfig>,
}

/// A certificate that was checked when it was issued.
#[derive(Debug)]
struct Issued {
    material: Material,
    expires: SystemTime,
    /// Fingerprint of the certificate that signed it.
    issuer: u64,
}

impl Issued {
    /// Whether it chains to the first of the trust anchors: while they are changed, that is the one to stay.
    fn is_under_first(&self, anchors: &anchors::Anchors, name: &str) -> bool {
        self.material.with_roots(anchors.first.clone()).verify(name).is_ok()
    }

    fn life(&self, now: SystemTime) -> Duration {
        self.expires.duration_since(now).unwrap_or_default()
    }
}

impl Credentials {
    fn new(
        name: &Arc<str>,
        issued: &Issued,
        anchors: &anchors::Anchors,
    ) -> Result<Credentials, rustls::Error> {
        Ok(Credentials {
            name: name.clone(),
            expires: issued.expires,
            anchors: anchors.fingerprint,
            issuer: issued.issuer,
            server: Arc::new(issued.material.server()?),
            client_transport: Arc::new(issued.material.client(&[mesh_api::names::TRANSPORT_ALPN])?),
            client_plain: Arc::new(issued.material.client(&[])?),
        })
    }
}
