//! Where a backend's requests can be sent (linkerd2-proxy-api `destination.proto`).

use rustls_pki_types::ServerName;
use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

/// All endpoints of one destination, in full at every change.
pub type EndpointSet = Arc<BTreeMap<SocketAddr, Arc<Endpoint>>>;

/// What is known about a destination's endpoints.
#[derive(Clone, Debug, Default)]
pub enum Endpoints {
    /// No answer yet.
    #[default]
    Pending,
    /// May be empty: the Service exists but nothing is ready.
    Known(EndpointSet),
    /// The Service does not exist (any more).
    Gone,
    /// The control plane refuses the question, for good.
    Invalid(Arc<str>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    pub addr: SocketAddr,
    /// Relative share of the load; 10,000 is normal. Never zero.
    pub weight: u32,
    /// `Some`: mutual TLS or nothing. `None`: plaintext.
    pub tls: Option<EndpointTls>,
    pub hint: ProtocolHint,
    /// Port of the peer's proxy that takes a transport header, where it has one (4143).
    pub opaque_transport_port: Option<u16>,
    /// Labels of its metrics, sorted by name: `pod`, `deployment`, `serviceaccount`, `zone`, `service`, `namespace` …
    pub labels: Arc<[(Box<str>, Box<str>)]>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointTls {
    /// Must stand in the peer's certificate.
    pub identity: Arc<str>,
    /// SNI; the same name, parsed.
    pub server_name: ServerName<'static>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProtocolHint {
    None,
    /// The peer's proxy takes HTTP/2, HTTP/1 carried in it with `l5d-orig-proto`.
    Http2,
    /// The peer must not look at the bytes.
    Opaque,
}
