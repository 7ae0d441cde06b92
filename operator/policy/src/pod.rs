//! A Pod as far as the mesh reads it, under the names that Kubernetes has for things. A whole one is five kilobytes of mostly empty
//! fields before it says anything, and there may be ten thousand; what is not kept here is passed over in the text, without a copy.

use k8s_openapi::{
    NamespaceResourceScope,
    api::core::v1 as core,
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference, Time},
};
use kube::Resource;
use serde::Deserialize;
use std::{
    borrow::Cow,
    collections::{BTreeMap, HashSet},
    hash::{Hash, Hasher},
    sync::{Arc, Mutex, PoisonError},
};

pub use core::{ContainerPort, GRPCAction, HTTPGetAction, PodIP, TCPSocketAction};

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(from = "Written")]
pub struct Pod {
    /// Without what is in the template.
    pub metadata: ObjectMeta,
    pub template: Arc<Template>,
    pub hostname: Option<String>,
    pub subdomain: Option<String>,
    pub node_name: Option<String>,
    pub status: PodStatus,
}

/// What a Pod has in common with others that the same owner made of the same text: they may share it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Template {
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
    pub owners: Vec<OwnerReference>,
    pub containers: Vec<Container>,
    pub init_containers: Vec<Container>,
    pub host_network: bool,
    pub service_account_name: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Container {
    pub name: String,
    #[serde(default)]
    pub args: Vec<String>,
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

/// Templates of the Pods that are kept, each once.
#[derive(Debug, Default)]
pub struct Templates(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    templates: HashSet<Arc<Template>>,
    /// With as many it is time to forget those of Pods that are gone: twice those of the last time.
    sweep_at: usize,
}

impl Templates {
    /// So few are kept without a look.
    const FEW: usize = 256;

    /// The same Pod, with a template that equal ones share.
    pub fn share(&self, mut pod: Pod) -> Pod {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(template) = known.templates.get(&pod.template) {
            pod.template = template.clone();
            return pod;
        }
        if known.templates.len() >= known.sweep_at {
            known.templates.retain(|template| Arc::strong_count(template) > 1);
            known.sweep_at = Templates::FEW.max(2 * known.templates.len());
        }
        known.templates.insert(pod.template.clone());
        pod
    }
}

/// Kubernetes compares no NaN.
impl Eq for Template {}

/// Labels tell most apart.
impl Hash for Template {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (&self.labels, &self.service_account_name).hash(state);
    }
}

/// As it stands in the text.
#[derive(Deserialize)]
struct Written {
    #[serde(default)]
    metadata: Metadata,
    spec: Option<Spec>,
    status: Option<PodStatus>,
}

/// Without what writes to an object, and when, which is most of it.
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

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    containers: Vec<Container>,
    init_containers: Vec<Container>,
    host_network: Option<bool>,
    hostname: Option<String>,
    subdomain: Option<String>,
    node_name: Option<String>,
    service_account_name: Option<String>,
}

impl From<Written> for Pod {
    fn from(Written { metadata, spec, status }: Written) -> Pod {
        let spec = spec.unwrap_or_default();
        Pod {
            metadata: ObjectMeta {
                name: metadata.name,
                namespace: metadata.namespace,
                resource_version: metadata.resource_version,
                generation: metadata.generation,
                creation_timestamp: metadata.creation_timestamp,
                deletion_timestamp: metadata.deletion_timestamp,
                ..ObjectMeta::default()
            },
            template: Arc::new(Template {
                labels: metadata.labels.unwrap_or_default(),
                annotations: metadata.annotations.unwrap_or_default(),
                owners: metadata.owner_references.unwrap_or_default(),
                containers: spec.containers,
                init_containers: spec.init_containers,
                host_network: spec.host_network.unwrap_or_default(),
                service_account_name: spec.service_account_name,
            }),
            hostname: spec.hostname,
            subdomain: spec.subdomain,
            node_name: spec.node_name,
            status: status.unwrap_or_default(),
        }
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
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

/// For who has read a whole one to say what is odd about it.
impl From<core::Pod> for Pod {
    fn from(whole: core::Pod) -> Pod {
        let spec = whole.spec.unwrap_or_default();
        let containers = |all: Vec<core::Container>| all.into_iter().map(Container::from).collect();
        let mut metadata = whole.metadata;
        Pod {
            template: Arc::new(Template {
                labels: metadata.labels.take().unwrap_or_default(),
                annotations: metadata.annotations.take().unwrap_or_default(),
                owners: metadata.owner_references.take().unwrap_or_default(),
                containers: containers(spec.containers),
                init_containers: containers(spec.init_containers.unwrap_or_default()),
                host_network: spec.host_network.unwrap_or_default(),
                service_account_name: spec.service_account_name,
            }),
            metadata,
            hostname: spec.hostname,
            subdomain: spec.subdomain,
            node_name: spec.node_name,
            status: whole.status.map(PodStatus::from).unwrap_or_default(),
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
            args: whole.args.unwrap_or_default(),
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
    use serde_json::json;

    #[test]
    fn it_is_small() {
        assert!(size_of::<Pod>() <= 640, "{}", size_of::<Pod>());
        assert!(size_of::<Container>() <= 128, "{}", size_of::<Container>());
    }

    fn pod(name: &str, app: &str) -> Pod {
        let metadata = json!({"name": name, "labels": {"app": app}});
        serde_json::from_value(json!({"metadata": metadata, "spec": {"containers": [{"name": "app"}]}}))
            .unwrap()
    }

    #[test]
    fn pods_of_one_template_share_it_and_are_what_they_were() {
        let templates = Templates::default();
        let [a, b, other] =
            [("a", "web"), ("b", "web"), ("c", "cart")].map(|(name, app)| templates.share(pod(name, app)));
        assert_eq!((&a, &b), (&pod("a", "web"), &pod("b", "web")));
        assert!(Arc::ptr_eq(&a.template, &b.template) && !Arc::ptr_eq(&a.template, &other.template));
    }

    #[test]
    fn templates_of_pods_that_are_gone_are_forgotten() {
        let templates = Templates::default();
        let kept = templates.share(pod("kept", "kept"));
        for number in 0..10_000 {
            drop(templates.share(pod("gone", &number.to_string())));
        }
        assert!(templates.0.lock().unwrap().templates.len() <= Templates::FEW);
        assert!(Arc::ptr_eq(&kept.template, &templates.share(pod("new", "kept")).template));
    }
}
