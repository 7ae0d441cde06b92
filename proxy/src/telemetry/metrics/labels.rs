//! Label sets: what a series is about. Built when policy, endpoints or a connection are set up, never per request.

use super::registry::Registry;
use crate::policy::Meta;
use std::{borrow::Cow, net::IpAddr, sync::Arc};

/// Names and values, in the order in which they are shown. Empty values are left out: to Prometheus they are the same.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Labels(Arc<[(Cow<'static, str>, Arc<str>)]>);

impl Labels {
    pub fn build() -> Builder {
        Builder(Vec::new())
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_ref(), value.as_ref()))
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        self.iter().find(|(key, _)| *key == name).map(|(_, value)| value)
    }

    /// These and more.
    pub fn extend(&self) -> Builder {
        Builder(self.0.to_vec())
    }

    /// Where a series is counted for which there is no room: all of a direction together.
    pub(super) fn overflow(&self) -> Labels {
        let direction = self.0.iter().find(|(name, _)| name == "direction").cloned();
        Builder(direction.into_iter().collect()).with("other", "true").done()
    }
}

#[derive(Debug)]
pub struct Builder(Vec<(Cow<'static, str>, Arc<str>)>);

impl Builder {
    pub fn with(mut self, name: &'static str, value: impl Into<Arc<str>>) -> Builder {
        let value = value.into();
        if !value.is_empty() {
            self.0.push((Cow::Borrowed(name), value));
        }
        self
    }

    pub fn with_some(self, name: &'static str, value: Option<impl Into<Arc<str>>>) -> Builder {
        match value {
            Some(value) => self.with(name, value),
            None => self,
        }
    }

    /// The object's coordinates under the names of one role.
    pub fn with_meta(self, names: &MetaNames, meta: Option<&Meta>) -> Builder {
        let Some(meta) = meta else { return self };
        self.with(names.group, meta.group.clone())
            .with(names.kind, meta.kind.clone())
            .with(names.namespace, meta.namespace.clone())
            .with(names.name, meta.name.clone())
            .with_some(names.port, meta.port.map(|port| port.to_string()))
            .with(names.section, meta.section.clone())
    }

    /// Labels that discovery gives an endpoint, each as `dst_<name>`. What Prometheus does not allow in a name becomes `_`.
    fn with_endpoint(mut self, labels: &[(Box<str>, Box<str>)]) -> Builder {
        for (name, value) in labels {
            let name = dst_name(name);
            if value.is_empty() || self.0.iter().any(|(known, _)| *known == name) {
                continue;
            }
            self.0.push((name, Arc::from(value.as_ref())));
        }
        self
    }

    pub fn done(self) -> Labels {
        Labels(self.0.into())
    }
}

fn dst_name(name: &str) -> Cow<'static, str> {
    let clean = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' });
    Cow::Owned("dst_".chars().chain(clean).collect())
}

/// How the labels of an object are called in one role.
#[derive(Debug)]
pub struct MetaNames {
    group: &'static str,
    kind: &'static str,
    namespace: &'static str,
    name: &'static str,
    port: &'static str,
    section: &'static str,
}

macro_rules! meta_names {
    ($name:ident, $role:literal) => {
        pub const $name: MetaNames = MetaNames {
            group: concat!($role, "_group"),
            kind: concat!($role, "_kind"),
            namespace: concat!($role, "_namespace"),
            name: concat!($role, "_name"),
            port: concat!($role, "_port"),
            section: concat!($role, "_section_name"),
        };
    };
}
meta_names!(SRV, "srv");
meta_names!(PARENT, "parent");
meta_names!(ROUTE, "route");
meta_names!(BACKEND, "backend");
meta_names!(AUTHZ, "authz");

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    Inbound,
    Outbound,
}

impl Direction {
    pub fn as_str(self) -> &'static str {
        match self {
            Direction::Inbound => "inbound",
            Direction::Outbound => "outbound",
        }
    }
}

/// What is known of the connection to the peer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum PeerTls {
    /// Mutual TLS: the peer's identity.
    Identity(Arc<str>),
    /// TLS without the peer's certificate.
    NoIdentity,
    /// Plaintext, or TLS that is not ours.
    Disabled,
}

impl PeerTls {
    pub fn as_str(&self) -> &'static str {
        match self {
            PeerTls::Identity(_) => "true",
            PeerTls::NoIdentity => "no_identity",
            PeerTls::Disabled => "disabled",
        }
    }

    fn identity(&self) -> Option<Arc<str>> {
        match self {
            PeerTls::Identity(id) => Some(id.clone()),
            PeerTls::NoIdentity | PeerTls::Disabled => None,
        }
    }
}

/// Towards one endpoint by one rule's backend. `route`, `backend` and `endpoint` stay empty where a request failed before
/// there was one.
#[derive(Clone, Debug)]
pub struct OutboundLabels<'a> {
    pub tls: PeerTls,
    /// The policy's own object: the Service. `None` where the target is unknown to the mesh.
    pub srv: Option<&'a Meta>,
    pub route: Option<&'a Meta>,
    pub backend: Option<&'a Meta>,
    /// [`crate::policy::endpoint::Endpoint::labels`].
    pub endpoint: &'a [(Box<str>, Box<str>)],
}

impl OutboundLabels<'_> {
    pub(in super::super) fn to_labels(&self) -> Labels {
        Labels::build()
            .with("direction", Direction::Outbound.as_str())
            .with("tls", self.tls.as_str())
            .with_some("server_id", self.tls.identity())
            .with_meta(&SRV, self.srv)
            .with_meta(&ROUTE, self.route)
            .with_meta(&BACKEND, self.backend)
            .with_endpoint(self.endpoint)
            .done()
    }
}

/// From one client to one of the application's ports.
#[derive(Clone, Debug)]
pub struct InboundLabels<'a> {
    pub tls: PeerTls,
    /// Becomes a label for clients without identity only.
    pub client_ip: IpAddr,
    /// The application's port.
    pub dst_port: u16,
    pub srv: Option<&'a Meta>,
    pub route: Option<&'a Meta>,
    /// What allowed it; `None` where it was refused.
    pub authz: Option<&'a Meta>,
}

impl InboundLabels<'_> {
    pub(in super::super) fn to_labels(&self, registry: &Registry) -> Labels {
        let labels = Labels::build().with("direction", Direction::Inbound.as_str());
        self.client(labels, registry).done()
    }

    /// Who, to which port, by what.
    pub(super) fn client(&self, labels: Builder, registry: &Registry) -> Builder {
        let labels = labels.with("tls", self.tls.as_str());
        let labels = match self.tls.identity() {
            Some(id) => labels.with("client_id", id),
            None => labels.with("client_ip", registry.client_ip(self.client_ip)),
        };
        labels
            .with_meta(&SRV, self.srv)
            .with_meta(&ROUTE, self.route)
            .with_meta(&AUTHZ, self.authz)
            .with("dst_port", self.dst_port.to_string())
    }
}
