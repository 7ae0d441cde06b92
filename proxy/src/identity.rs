//! The proxy's own identity: key, certificate and the TLS configurations made of them.

pub mod anchors;

use std::{sync::Arc, time::SystemTime};

/// Valid credentials, replaced whole at every renewal and whenever the trust anchors change. Workers hold a
/// `watch::Receiver<Option<Arc<Credentials>>>`: `None` until the first certificate.
#[derive(Debug)]
pub struct Credentials {
    /// Our name: the DNS name in our certificate, and the SNI on which we terminate TLS.
    pub name: Arc<str>,
    pub expires: SystemTime,
    /// Accepts with client certificates optional but verified; ALPN `transport.l5d.io/v1` and `h2` offered.
    pub server: Arc<rustls::ServerConfig>,
    /// Connects with our certificate, ALPN `transport.l5d.io/v1`; the peer must chain to the trust anchors and bear the SNI's name.
    pub client_transport: Arc<rustls::ClientConfig>,
    /// The same without ALPN, for peers without a transport-header port.
    pub client_plain: Arc<rustls::ClientConfig>,
}
