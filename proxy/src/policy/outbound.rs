//! Where a request or connection of the application may go (linkerd2-proxy-api `outbound.proto`).

use super::{
    Meta,
    http::{Backoff, Filter, HostMatch, RequestMatch, Retry, Timeouts},
};
use std::{net::SocketAddr, sync::Arc, time::Duration};

/// What is looked up: one policy stream per target, for as long as a worker holds its receiver.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// The address that the application connected to.
    Addr(SocketAddr),
    /// `name.namespace.svc.cluster.local:80`, in full and in lower case, from a request's authority.
    Authority(Arc<str>),
}

/// What is known about a target.
#[derive(Clone, Debug, Default)]
pub enum Lookup {
    /// No answer yet. Callers wait, at most for the fail-fast time.
    #[default]
    Pending,
    Policy(Arc<Policy>),
    /// The control plane does not know the target (`NOT_FOUND`, `UNIMPLEMENTED`): forward to the original address, as without mesh.
    Unknown,
    /// The control plane refuses the question (`INVALID_ARGUMENT`, `FAILED_PRECONDITION`) or its answer makes no sense:
    /// requests fail with this reason.
    Invalid(Arc<str>),
}

#[derive(Debug)]
pub struct Policy {
    pub meta: Meta,
    pub protocol: Protocol,
}

#[derive(Debug)]
pub enum Protocol {
    /// Find out from the first bytes, then take the routes of what was found.
    Detect {
        timeout: Duration,
        http1: Http,
        http2: Http,
        opaque: Opaque,
    },
    Http1(Http),
    Http2(Http),
    /// HTTP/2 whose failures and retries are judged by gRPC status. Rules match by path: `/service/method`.
    Grpc(Http),
    Opaque(Opaque),
}

#[derive(Debug)]
pub struct Http {
    /// In the control plane's order; among all matching rules the most specific match wins, ties go to the first.
    pub routes: Vec<HttpRoute>,
    pub failure_accrual: Option<FailureAccrual>,
}

#[derive(Debug)]
pub struct HttpRoute {
    pub meta: Meta,
    pub hosts: Vec<HostMatch>,
    pub rules: Vec<HttpRule>,
}

#[derive(Debug)]
pub struct HttpRule {
    /// Any of them; never empty.
    pub matches: Vec<RequestMatch>,
    pub filters: Vec<Filter>,
    pub backends: Distribution,
    pub retry: Option<Retry>,
    pub timeouts: Timeouts,
}

#[derive(Debug)]
pub struct Opaque {
    pub meta: Meta,
    /// May hold `Forbidden`.
    pub filters: Vec<Filter>,
    pub backends: Distribution,
}

#[derive(Debug)]
pub enum Distribution {
    /// No backend: HTTP 500, connections are closed.
    Empty,
    /// The first that has an available endpoint, else the first.
    FirstAvailable(Vec<RouteBackend>),
    /// By weight; zero-weight backends were dropped on decode.
    RandomAvailable(Vec<(RouteBackend, u32)>),
}

/// A backend as one rule uses it.
#[derive(Clone, Debug)]
pub struct RouteBackend {
    pub filters: Vec<Filter>,
    pub timeout: Option<Duration>,
    pub backend: Arc<Backend>,
}

#[derive(Debug)]
pub struct Backend {
    pub meta: Meta,
    /// Requests that may wait for an endpoint.
    pub queue_capacity: usize,
    /// How long they may wait: then HTTP 503 and the backend fails fast until an endpoint is there.
    pub failfast: Duration,
    pub kind: BackendKind,
}

#[derive(Debug)]
pub enum BackendKind {
    /// Endpoints by `Destination.Get` of this path (`name.namespace.svc.cluster.local:80`).
    Balance { path: Arc<str>, ewma: PeakEwma },
    /// One fixed endpoint.
    Forward(Arc<super::endpoint::Endpoint>),
    /// The control plane named none: every request fails with HTTP 500.
    Invalid,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeakEwma {
    pub default_rtt: Duration,
    pub decay: Duration,
}

/// An endpoint is set aside after this many failures in a row, for a time that grows with each failed probe.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FailureAccrual {
    pub max_failures: u32,
    pub backoff: Backoff,
}
