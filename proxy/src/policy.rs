//! What the proxy has been told, decoded and checked: past this door there is no protobuf, no `Option<oneof>`, and nothing
//! that could be missing. Immutable; shared by `Arc` between the control thread and the workers.

pub mod endpoint;
pub mod http;
pub mod inbound;
pub mod outbound;

use std::sync::Arc;

/// The object that a policy, route, backend or authorization comes from; the labels of its metrics.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Meta {
    /// Empty for what no object stands behind.
    pub group: Arc<str>,
    /// `default` for what no object stands behind.
    pub kind: Arc<str>,
    pub namespace: Arc<str>,
    pub name: Arc<str>,
    /// Port and section of a Service parent or backend.
    pub port: Option<u16>,
    pub section: Arc<str>,
}

impl Meta {
    /// What lets kubelet's probes in, whatever policy says of others.
    pub fn is_probe(&self) -> bool {
        &*self.kind == "default" && &*self.name == "probe"
    }
}
