//! Who may call the application's ports (linkerd2-proxy-api `inbound.proto`).

use super::{
    Meta,
    http::{Filter, HostMatch, RequestMatch},
};
use ipnet::IpNet;
use std::{sync::Arc, time::Duration};

/// One port's policy. There always is one: until the control plane answers, the configured default.
#[derive(Debug)]
pub struct Policy {
    /// The Server, or the default policy.
    pub meta: Meta,
    pub protocol: Protocol,
    /// Any of them; empty denies everybody.
    pub authorizations: Arc<[Authorization]>,
    pub rate_limit: Option<RateLimit>,
    /// What any matching route allows is allowed; otherwise the most specific one decides.
    pub routes_add: bool,
    /// It is the configured default: the control plane has not answered yet.
    pub assumed: bool,
}

/// Requests per second that are let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// Of all clients together.
    pub total_per_s: Option<u32>,
    /// Of each identity.
    pub identity_per_s: Option<u32>,
    /// Of some identities together, instead.
    pub overrides: Vec<(Vec<Arc<str>>, u32)>,
}

#[derive(Debug)]
pub enum Protocol {
    Detect {
        timeout: Duration,
        routes: Arc<[HttpRoute]>,
    },
    Http1(Arc<[HttpRoute]>),
    Http2(Arc<[HttpRoute]>),
    Grpc(Arc<[HttpRoute]>),
    Opaque,
    /// The application terminates TLS itself; forwarded unread.
    Tls,
}

#[derive(Debug)]
pub struct HttpRoute {
    pub meta: Meta,
    pub hosts: Vec<HostMatch>,
    /// Added to the port's own.
    pub authorizations: Arc<[Authorization]>,
    pub rules: Vec<HttpRule>,
}

#[derive(Debug)]
pub struct HttpRule {
    pub matches: Vec<RequestMatch>,
    pub filters: Vec<Filter>,
}

#[derive(Clone, Debug)]
pub struct Authorization {
    pub meta: Meta,
    /// The client's address is in one of them …
    pub networks: Vec<Network>,
    /// … and it has proved who it is as demanded.
    pub authentication: Authentication,
    /// Allows, but what it allows is counted as "would be denied".
    pub audit: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Network {
    pub net: IpNet,
    pub except: Vec<IpNet>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Authentication {
    /// Anybody, over anything.
    Unauthenticated,
    /// Mutual TLS, or TLS without a client certificate.
    TlsUnauthenticated,
    /// Mutual TLS with one of these identities, compared byte for byte, or with a name that ends in one of the suffixes
    /// (each with its leading dot). An empty suffix is any identity.
    TlsAuthenticated { identities: Vec<Arc<str>>, suffixes: Vec<Arc<str>> },
}
