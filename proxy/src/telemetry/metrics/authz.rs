//! What the inbound policy decided about one client: allowed, denied, cut off.

use super::{
    Labels, RareCounter,
    family::{
        INBOUND_HTTP_AUTHZ_ALLOW_TOTAL, INBOUND_HTTP_AUTHZ_DENY_TOTAL, INBOUND_TCP_AUTHZ_ALLOW_TOTAL,
        INBOUND_TCP_AUTHZ_DENY_TOTAL, INBOUND_TCP_AUTHZ_TERMINATE_TOTAL,
    },
    labels::{AUTHZ, PeerTls, ROUTE, SRV},
    registry::Registry,
};
use crate::policy::Meta;
use std::{net::IpAddr, sync::Arc};

#[derive(Clone, Debug)]
pub struct AuthzLabels<'a> {
    pub tls: PeerTls,
    pub client_ip: IpAddr,
    /// The application's port.
    pub dst_port: u16,
    pub srv: Option<&'a Meta>,
    pub route: Option<&'a Meta>,
    /// The authorization that allowed; `None` where none did.
    pub authz: Option<&'a Meta>,
    /// Allowed by an audit only.
    pub audit: bool,
}

impl AuthzLabels<'_> {
    pub(in super::super) fn to_labels(&self, registry: &Registry) -> Labels {
        Labels::build()
            .with_client(&self.tls, self.client_ip, registry)
            .with_meta(&SRV, self.srv)
            .with_meta(&ROUTE, self.route)
            .with_meta(&AUTHZ, self.authz)
            .with_some("audit", self.audit.then_some("true"))
            .with("dst_port", self.dst_port.to_string())
            .done()
    }
}

/// Most clients are allowed or denied, on HTTP or on TCP: one of these counts, rarely two.
#[derive(Debug)]
pub struct AuthzMetrics {
    http_allow: RareCounter,
    http_deny: RareCounter,
    tcp_allow: RareCounter,
    tcp_deny: RareCounter,
    tcp_terminate: RareCounter,
}

impl AuthzMetrics {
    pub(in super::super) fn new(registry: &Arc<Registry>, labels: Labels) -> AuthzMetrics {
        let counter = |family| RareCounter::new(registry, family, labels.clone());
        AuthzMetrics {
            http_allow: counter(&INBOUND_HTTP_AUTHZ_ALLOW_TOTAL),
            http_deny: counter(&INBOUND_HTTP_AUTHZ_DENY_TOTAL),
            tcp_allow: counter(&INBOUND_TCP_AUTHZ_ALLOW_TOTAL),
            tcp_deny: counter(&INBOUND_TCP_AUTHZ_DENY_TOTAL),
            tcp_terminate: counter(&INBOUND_TCP_AUTHZ_TERMINATE_TOTAL),
        }
    }

    /// A request was let in.
    #[inline]
    pub fn http_allow(&self) {
        self.http_allow.inc();
    }

    /// A request was refused.
    pub fn http_deny(&self) {
        self.http_deny.inc();
    }

    /// A connection was let in.
    pub fn tcp_allow(&self) {
        self.tcp_allow.inc();
    }

    /// A connection was refused.
    pub fn tcp_deny(&self) {
        self.tcp_deny.inc();
    }

    /// An open connection was cut because its authorization is gone.
    pub fn tcp_terminate(&self) {
        self.tcp_terminate.inc();
    }
}
