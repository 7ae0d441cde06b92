//! A Pod as it is read from the API server: only the fields that may be kept are taken out of the text, all others are passed over
//! without a copy. Of ten thousand Pods the rest would be a hundred megabytes, and soon be dropped, but from among what stays.

use k8s_openapi::{
    NamespaceResourceScope,
    api::core::v1 as core,
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference, Time},
};
use kube::Resource;
use serde::{Deserialize, Deserializer};
use std::{borrow::Cow, collections::BTreeMap};

/// What `prune` may look at, and nothing else.
#[derive(Clone, Debug)]
pub struct Pod(pub core::Pod);

impl<'de> Deserialize<'de> for Pod {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Pod, D::Error> {
        let Wire { metadata, spec, status } = Wire::deserialize(deserializer)?;
        let (spec, status) = (spec.map(Spec::pod_spec), status.map(Status::pod_status));
        Ok(Pod(core::Pod { metadata: metadata.object_meta(), spec, status }))
    }
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
        &self.0.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.0.metadata
    }
}

#[derive(Deserialize)]
struct Wire {
    #[serde(default)]
    metadata: Metadata,
    spec: Option<Spec>,
    status: Option<Status>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
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

impl Metadata {
    fn object_meta(self) -> ObjectMeta {
        ObjectMeta {
            name: self.name,
            namespace: self.namespace,
            resource_version: self.resource_version,
            generation: self.generation,
            creation_timestamp: self.creation_timestamp,
            deletion_timestamp: self.deletion_timestamp,
            labels: self.labels,
            annotations: self.annotations,
            owner_references: self.owner_references,
            ..ObjectMeta::default()
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    #[serde(default)]
    containers: Vec<Container>,
    init_containers: Option<Vec<Container>>,
    host_network: Option<bool>,
    node_name: Option<String>,
    service_account_name: Option<String>,
}

impl Spec {
    fn pod_spec(self) -> core::PodSpec {
        let all = |list: Vec<Container>| list.into_iter().map(Container::container).collect();
        core::PodSpec {
            containers: all(self.containers),
            init_containers: self.init_containers.map(all),
            host_network: self.host_network,
            node_name: self.node_name,
            service_account_name: self.service_account_name,
            ..core::PodSpec::default()
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Container {
    name: String,
    restart_policy: Option<String>,
    ports: Option<Vec<core::ContainerPort>>,
    liveness_probe: Option<Probe>,
    readiness_probe: Option<Probe>,
    startup_probe: Option<Probe>,
}

impl Container {
    fn container(self) -> core::Container {
        core::Container {
            name: self.name,
            restart_policy: self.restart_policy,
            ports: self.ports,
            liveness_probe: self.liveness_probe.map(Probe::probe),
            readiness_probe: self.readiness_probe.map(Probe::probe),
            startup_probe: self.startup_probe.map(Probe::probe),
            ..core::Container::default()
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Probe {
    http_get: Option<core::HTTPGetAction>,
}

impl Probe {
    fn probe(self) -> core::Probe {
        core::Probe { http_get: self.http_get, ..core::Probe::default() }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    phase: Option<String>,
    #[serde(rename = "podIP")]
    pod_ip: Option<String>,
    #[serde(rename = "podIPs")]
    pod_ips: Option<Vec<core::PodIP>>,
}

impl Status {
    fn pod_status(self) -> core::PodStatus {
        core::PodStatus {
            phase: self.phase,
            pod_ip: self.pod_ip,
            pod_ips: self.pod_ips,
            ..core::PodStatus::default()
        }
    }
}
