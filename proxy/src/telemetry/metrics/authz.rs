//! What the inbound policy decided about one client: allowed, denied, cut off.

use super::{
    Counter, Family, Labels,
    family::{
        INBOUND_HTTP_AUTHZ_ALLOW_TOTAL, INBOUND_HTTP_AUTHZ_DENY_TOTAL, INBOUND_HTTP_LOCAL_RATELIMIT_TOTAL,
        INBOUND_HTTP_ROUTE_NOT_FOUND_TOTAL, INBOUND_TCP_AUTHZ_ALLOW_TOTAL, INBOUND_TCP_AUTHZ_DENY_TOTAL,
        INBOUND_TCP_AUTHZ_TERMINATE_TOTAL,
    },
    labels::InboundLabels,
    registry::Registry,
};
use std::{cell::OnceCell, sync::Arc};

/// A decision about a client: the same labels as its traffic has, `authz` where something allowed it.
#[derive(Clone, Debug)]
pub struct AuthzLabels<'a> {
    pub traffic: InboundLabels<'a>,
    /// Allowed by an audit only.
    pub audit: bool,
}

impl AuthzLabels<'_> {
    pub(in super::super) fn to_labels(&self, registry: &Registry) -> Labels {
        let labels = self.traffic.client(Labels::build(), registry);
        labels.with_some("audit", self.audit.then_some("true")).done()
    }
}

/// Each counter comes to be when it is first needed: most clients are allowed or denied, on HTTP or on TCP. There is one of
/// these per connection, so it holds its labels once.
#[derive(Debug)]
pub struct AuthzMetrics {
    registry: Arc<Registry>,
    labels: Labels,
    counters: [OnceCell<Counter>; 7],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Decision {
    HttpAllow,
    HttpDeny,
    RouteNotFound,
    RateLimited,
    TcpAllow,
    TcpDeny,
    TcpTerminate,
}

impl AuthzMetrics {
    pub(in super::super) fn new(registry: Arc<Registry>, labels: Labels) -> AuthzMetrics {
        AuthzMetrics { registry, labels, counters: Default::default() }
    }

    /// A request was let in.
    #[inline]
    pub fn http_allow(&self) {
        self.count(Decision::HttpAllow);
    }

    /// A request was refused.
    pub fn http_deny(&self) {
        self.count(Decision::HttpDeny);
    }

    /// A request matched no route.
    pub fn route_not_found(&self) {
        self.count(Decision::RouteNotFound);
    }

    /// A request came too soon after others.
    pub fn rate_limited(&self) {
        self.count(Decision::RateLimited);
    }

    /// A connection was let in.
    pub fn tcp_allow(&self) {
        self.count(Decision::TcpAllow);
    }

    /// A connection was refused.
    pub fn tcp_deny(&self) {
        self.count(Decision::TcpDeny);
    }

    /// An open connection was cut because its authorization is gone.
    pub fn tcp_terminate(&self) {
        self.count(Decision::TcpTerminate);
    }

    #[inline]
    fn count(&self, decision: Decision) {
        let new = || Counter::new(&self.registry, decision.family(), self.labels.clone());
        self.counters[decision as usize].get_or_init(new).inc();
    }
}

impl Decision {
    fn family(self) -> &'static Family {
        match self {
            Decision::HttpAllow => &INBOUND_HTTP_AUTHZ_ALLOW_TOTAL,
            Decision::HttpDeny => &INBOUND_HTTP_AUTHZ_DENY_TOTAL,
            Decision::RouteNotFound => &INBOUND_HTTP_ROUTE_NOT_FOUND_TOTAL,
            Decision::RateLimited => &INBOUND_HTTP_LOCAL_RATELIMIT_TOTAL,
            Decision::TcpAllow => &INBOUND_TCP_AUTHZ_ALLOW_TOTAL,
            Decision::TcpDeny => &INBOUND_TCP_AUTHZ_DENY_TOTAL,
            Decision::TcpTerminate => &INBOUND_TCP_AUTHZ_TERMINATE_TOTAL,
        }
    }
}
