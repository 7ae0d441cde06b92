//! The objects that policy depends on, as a watch delivers them. The order of the lists never matters.

use crate::{
    Diagnostic, Pod,
    authorization::AuthorizationPolicy,
    gateway::{GRPCRoute, HTTPRoute},
    identity::Identities,
    inbound::DefaultPolicy,
    ports::PortSet,
};
use ipnet::IpNet;
use k8s_openapi::api::{
    core::v1::{Namespace, Node, Service, ServiceAccount},
    discovery::v1::EndpointSlice,
};
use std::{collections::BTreeMap, sync::Arc};

/// The objects of one kind. A list that is shared is the same list: by that, what did not change is told from what did.
pub type List<T> = Arc<Vec<Arc<T>>>;

/// Everything that [`Tables::build`](crate::Tables::build) reads. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct World {
    pub namespaces: List<Namespace>,
    pub service_accounts: List<ServiceAccount>,
    pub services: List<Service>,
    pub endpoint_slices: List<EndpointSlice>,
    pub pods: List<Pod>,
    /// Of which the labels count.
    pub nodes: List<Node>,
    pub http_routes: List<HTTPRoute>,
    pub grpc_routes: List<GRPCRoute>,
    pub authorization_policies: List<AuthorizationPolicy>,
    /// Where objects were read from, by `Kind namespace/name`; empty on a cluster.
    pub origins: Arc<BTreeMap<String, Origin>>,
    /// What the source of the objects could not read.
    pub unreadable: Arc<Vec<Diagnostic>>,
    /// Workloads whose Pods should have a proxy and have none. It changes nobody's policy.
    pub unmeshed: Arc<Vec<Diagnostic>>,
}

/// Where in the manifests an object stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    pub path: String,
    pub document: u32,
    pub line: u32,
}

/// What the whole mesh has in common; fixed for the life of an operator.
#[derive(Clone, Debug)]
pub struct Settings {
    pub trust_domain: String,
    pub control_namespace: String,
    /// DNS domain of Services, without `svc`: `cluster.local`.
    pub cluster_domain: String,
    /// Where neither Pod nor Namespace says otherwise.
    pub default_policy: DefaultPolicy,
    /// Forwarded unread, where neither Pod, Service nor Namespace says otherwise.
    pub opaque_ports: PortSet,
    /// Where kubelet probes from, for probes that can be told from other connections by nothing else.
    pub probe_networks: Vec<IpNet>,
}

impl Settings {
    pub fn identities(&self) -> Identities {
        Identities::new(&self.control_namespace, &self.trust_domain)
    }
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            trust_domain: mesh_api::names::TRUST_DOMAIN.into(),
            control_namespace: mesh_api::names::CONTROL_NAMESPACE.into(),
            cluster_domain: "cluster.local".into(),
            default_policy: DefaultPolicy::AllowAll,
            opaque_ports: PortSet::of(mesh_api::names::DEFAULT_OPAQUE_PORTS),
            probe_networks: vec![],
        }
    }
}
