//! A Pod as far as the mesh reads it, under the names that Kubernetes has for things. A whole one is five kilobytes of mostly empty
//! fields before it says anything, and there may be ten thousand; what is not kept here is passed over in the text, without a copy.

use k8s_openapi::{
    NamespaceResourceScope,
    api::core::v1 as core,
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference, Time},
};
use kube::Resource;
use serde::{Deserialize, Deserializer};
use std::{borrow::Cow, collections::BTreeMap};

pub use core::{ContainerPort, GRPCAction, HTTPGetAction, PodIP, TCPSocketAction};

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct Pod {
    #[serde(default, deserialize_with = "metadata")]
    pub metadata: ObjectMeta,
    pub spec: Option<PodSpec>,
    pub status: Option<PodStatus>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodSpec {
    #[serde(default)]
    pub containers: Vec<Container>,
    #[serde(default)]
    pub init_containers: Vec<Container>,
    pub host_network: Option<bool>,
    pub hostname: Option<String>,
    pub subdomain: Option<String>,
    pub node_name: Option<String>,
    pub service_account_name: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Container {
    pub name: String,
    pub restart_policy: Option<String>,
    #[serde(default)]
    pub ports: Vec<ContainerPort>,
    pub liveness_probe: Option<Box<Probe>>,
    pub readiness_probe: Option<Box<Probe>>,
    pub startup_probe: Option<Box<Probe>>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Probe {
    pub http_get: Option<HTTPGetAction>,
    pub grpc: Option<GRPCAction>,
    pub tcp_socket: Option<TCPSocketAction>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct PodStatus {
    pub phase: Option<String>,
    #[serde(rename = "podIP")]
    pub pod_ip: Option<String>,
    #[serde(default, rename = "podIPs")]
    pub pod_ips: Vec<PodIP>,
    #[serde(default)]
    pub conditions: Vec<Condition>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct Condition {
    #[serde(rename = "type")]
    pub kind: String,
    pub status: String,
}

/// What writes to an object, and when, is most of its metadata.
fn metadata<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ObjectMeta, D::Error> {
    #[derive(Default, Deserialize)]
    #[serde(rename_all = "camelCase", default)]
    struct Metadata {
        name: Option<String>,
        namespace: Option<String>,
        resource_version: Option<String>,
        generation: Option<i64>,
        creation_timestamp: Option<Time>,
        deletion_timestamp: Option<Time>,
        labels: Option<BTreeMap<String, String>>,
        annotations: Option<BTreeMap<String, String>>,
        owner_references: Option<Vec<OwnerReference>>,
    }
    let read = Metadata::deserialize(deserializer)?;
    Ok(ObjectMeta {
        name: read.name,
        namespace: read.namespace,
        resource_version: read.resource_version,
        generation: read.generation,
        creation_timestamp: read.creation_timestamp,
        deletion_timestamp: read.deletion_timestamp,
        labels: read.labels,
        annotations: read.annotations,
        owner_references: read.owner_references,
        ..ObjectMeta::default()
    })
}

impl Resource for Pod {
    type DynamicType = ();
    type Scope = NamespaceResourceScope;

    fn kind(_: &()) -> Cow<'_, str> {
        core::Pod::kind(&())
    }

    fn group(_: &()) -> Cow<'_, str> {
        core::Pod::group(&())
    }

    fn version(_: &()) -> Cow<'_, str> {
        core::Pod::version(&())
    }

    fn plural(_: &()) -> Cow<'_, str> {
        core::Pod::plural(&())
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

/// For who has read a whole one to say what is odd about it.
impl From<core::Pod> for Pod {
    fn from(whole: core::Pod) -> Pod {
        Pod {
            metadata: whole.metadata,
            spec: whole.spec.map(PodSpec::from),
            status: whole.status.map(PodStatus::from),
        }
    }
}

impl From<core::PodSpec> for PodSpec {
    fn from(whole: core::PodSpec) -> PodSpec {
        PodSpec {
            containers: whole.containers.into_iter().map(Container::from).collect(),
            init_containers: whole.init_containers.into_iter().flatten().map(Container::from).collect(),
            host_network: whole.host_network,
            hostname: whole.hostname,
            subdomain: whole.subdomain,
            node_name: whole.node_name,
            service_account_name: whole.service_account_name,
        }
    }
}

impl From<core::Container> for Container {
    fn from(whole: core::Container) -> Container {
        let probe = |whole: core::Probe| {
            let core::Probe { http_get, grpc, tcp_socket, .. } = whole;
            Box::new(Probe { http_get, grpc, tcp_socket })
        };
        Container {
            name: whole.name,
            restart_policy: whole.restart_policy,
            ports: whole.ports.unwrap_or_default(),
            liveness_probe: whole.liveness_probe.map(probe),
            readiness_probe: whole.readiness_probe.map(probe),
            startup_probe: whole.startup_probe.map(probe),
        }
    }
}

impl From<core::PodStatus> for PodStatus {
    fn from(whole: core::PodStatus) -> PodStatus {
        let conditions = whole.conditions.into_iter().flatten();
        PodStatus {
            phase: whole.phase,
            pod_ip: whole.pod_ip,
            pod_ips: whole.pod_ips.unwrap_or_default(),
            conditions: conditions.map(|own| Condition { kind: own.type_, status: own.status }).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_small() {
        assert!(size_of::<Pod>() <= 768, "{}", size_of::<Pod>());
        assert!(size_of::<Container>() <= 128, "{}", size_of::<Container>());
    }
}
