//! What of an object is kept in memory: what policy reads, and nothing else. Ten thousand Pods are most of an operator's memory,
//! and nine tenths of a Pod are environment, volumes and bookkeeping. Pure functions.

use k8s_openapi::{
    api::{
        core::v1::{Namespace, Node, ObjectReference, Service, ServiceAccount},
        discovery::v1::EndpointSlice,
    },
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference},
};
use mesh_api::names;
use mesh_policy::{
    ZONE,
    pod::{Container, Pod, PodStatus, Probe, Template},
};
use std::{collections::BTreeMap, sync::Arc};

/// Kubernetes' own, which makes a slice of the Pods that a Service selects.
const SLICE_CONTROLLER: &str = "endpointslice-controller.k8s.io";

pub fn namespace(all: ObjectMeta) -> Namespace {
    Namespace { metadata: labelled(all), ..Namespace::default() }
}

pub fn service_account(all: ObjectMeta) -> ServiceAccount {
    ServiceAccount { metadata: named(all), ..ServiceAccount::default() }
}

/// A Node is written to every few minutes, and says anew what it said.
pub fn node(all: ObjectMeta) -> Node {
    let mut labels = all.labels;
    if let Some(labels) = &mut labels {
        labels.retain(|key, _| key == ZONE);
    }
    Node { metadata: ObjectMeta { name: all.name, labels, ..ObjectMeta::default() }, ..Node::default() }
}

pub fn service(all: Service) -> Service {
    Service { metadata: ObjectMeta { labels: None, ..labelled(all.metadata) }, spec: all.spec, status: None }
}

pub fn endpoint_slice(all: EndpointSlice) -> EndpointSlice {
    let mut metadata = labelled(all.metadata);
    metadata.annotations = None;
    let labels = metadata.labels.get_or_insert_default();
    // Others mirror endpoints of elsewhere, and name Pods that are not there: for these the address counts.
    let names_pods =
        labels.get("endpointslice.kubernetes.io/managed-by").is_some_and(|by| by == SLICE_CONTROLLER);
    labels.retain(|key, _| key == "kubernetes.io/service-name");
    let mut slice = EndpointSlice { metadata, ..all };
    for endpoint in &mut slice.endpoints {
        let target = endpoint.target_ref.take().filter(|_| names_pods);
        let pod = target.filter(|target| target.kind.as_deref() == Some("Pod"));
        endpoint.target_ref = pod.map(|pod| ObjectReference { name: pod.name, ..ObjectReference::default() });
        endpoint.deprecated_topology = None;
        endpoint.addresses.shrink_to_fit();
    }
    slice.endpoints.shrink_to_fit();
    slice
}

/// A Pod that runs our proxy bears the label of a meshed one, and no other Pod does, whatever its author wrote.
pub fn pod(all: Pod, control_namespace: &str) -> Pod {
    let template = Arc::unwrap_or_clone(all.template);
    let Template { mut labels, mut annotations, owners, containers, init_containers, .. } = template;
    // What its proxy was told counts, not what somebody has written since.
    if let Some(ports) = containers.iter().chain(&init_containers).find_map(skipped_ports) {
        annotations.insert(names::SKIP_INBOUND_PORTS.into(), ports.into());
    }
    if containers.iter().chain(&init_containers).any(is_proxy) {
        // The injector of another mesh's control plane has put its own name there.
        labels.entry(names::CONTROL_NAMESPACE_LABEL.into()).or_insert_with(|| control_namespace.into());
    } else {
        labels.remove(names::CONTROL_NAMESPACE_LABEL);
    }
    // What runs beside the application for as long as it does is part of it, but for ourselves.
    let stays = |container: &Container| container.restart_policy.as_deref() == Some("Always");
    let sidecars = init_containers.into_iter().filter(stays);
    let ours = containers.into_iter().chain(sidecars).filter(|own| !is_proxy(own));
    Pod {
        metadata: named(all.metadata),
        template: Arc::new(Template {
            labels,
            annotations: ours_of(annotations),
            owners: owners.into_iter().map(owner).collect(),
            containers: ours.map(container).collect(),
            init_containers: vec![],
            host_network: template.host_network,
            service_account_name: template.service_account_name,
        }),
        hostname: None,
        subdomain: None,
        node_name: all.node_name,
        status: PodStatus {
            phase: all.status.phase,
            // One address is said once.
            pod_ips: if all.status.pod_ips.len() > 1 { all.status.pod_ips } else { vec![] },
            pod_ip: all.status.pod_ip,
            conditions: vec![],
        },
    }
}

/// Ours, or Linkerd's, which works with this operator too.
fn is_proxy(container: &Container) -> bool {
    matches!(container.name.as_str(), names::PROXY_CONTAINER | "linkerd-proxy")
}

/// The ports that a container, which redirects a Pod's connections to its proxy, leaves alone.
fn skipped_ports(container: &Container) -> Option<&str> {
    if !is_proxy(container) && !matches!(container.name.as_str(), names::INIT_CONTAINER | "linkerd-init") {
        return None;
    }
    let mut args = container.args.iter();
    let value = args.find_map(|arg| arg.strip_prefix("--inbound-ports-to-ignore"))?;
    value.strip_prefix('=').or_else(|| args.next().map(String::as_str))
}

fn container(mut all: Container) -> Container {
    all.args = vec![];
    all.ports.shrink_to_fit();
    for probe in [&mut all.liveness_probe, &mut all.readiness_probe, &mut all.startup_probe] {
        // What runs inside of the container says nothing here.
        probe.take_if(|probe| **probe == Probe::default());
    }
    Container { name: String::new(), restart_policy: None, ..all }
}

fn named(all: ObjectMeta) -> ObjectMeta {
    ObjectMeta {
        name: all.name,
        namespace: all.namespace,
        creation_timestamp: all.creation_timestamp,
        deletion_timestamp: all.deletion_timestamp,
        generation: all.generation,
        ..ObjectMeta::default()
    }
}

/// Name, labels, owner, and the annotations that are ours: policy reads no others.
pub fn labelled(mut all: ObjectMeta) -> ObjectMeta {
    let annotations = all.annotations.take().map(ours_of);
    let labels: Option<BTreeMap<String, String>> = all.labels.take();
    let owners = all.owner_references.take().map(|owners| owners.into_iter().map(owner).collect());
    ObjectMeta {
        annotations: annotations.filter(|annotations| !annotations.is_empty()),
        labels,
        owner_references: owners,
        ..named(all)
    }
}

fn ours_of(mut annotations: BTreeMap<String, String>) -> BTreeMap<String, String> {
    annotations.retain(|key, _| key.split('/').next() == Some(names::API_GROUP));
    annotations
}

fn owner(all: OwnerReference) -> OwnerReference {
    OwnerReference {
        api_version: all.api_version,
        controller: all.controller,
        kind: all.kind,
        name: all.name,
        ..OwnerReference::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mesh_policy::{Settings, Tables, World};
    use serde_json::{Value, json};

    fn read(proxy: Value) -> Pod {
        let pod = json!({
            "metadata": {
                "name": "web-1", "namespace": "shop", "resourceVersion": "7", "uid": "u",
                "labels": {"app": "web", "mesh.dev/control-plane-ns": "mesh"},
                "annotations": {"mesh.dev/opaque-ports": "7", "other/thing": "x".repeat(1000)},
                "managedFields": [{"manager": "kubelet"}],
                "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-5", "uid": "x", "controller": true}],
            },
            "spec": {
                "nodeName": "n1", "serviceAccountName": "web",
                "volumes": [{"name": "v", "emptyDir": {}}],
                "initContainers": [
                    {"name": "setup", "ports": [{"containerPort": 1}]},
                    {"name": "logs", "restartPolicy": "Always", "ports": [{"containerPort": 24}]},
                    proxy,
                ],
                "containers": [{
                    "name": "app", "image": "web:1", "env": [{"name": "A", "value": "secret"}],
                    "ports": [{"containerPort": 8080, "name": "http"}],
                    "readinessProbe": {"httpGet": {"path": "/ready", "port": "http"}, "periodSeconds": 1},
                    "livenessProbe": {"grpc": {"port": 8080}, "periodSeconds": 1},
                    "startupProbe": {"tcpSocket": {"port": 24}, "periodSeconds": 1},
                }],
            },
            "status": {"phase": "Running", "podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.1"}], "conditions": [{"type": "Ready", "status": "True"}]},
        });
        serde_json::from_value(pod).unwrap()
    }

    fn tables(pod: Pod) -> Tables {
        let world = World { pods: vec![Arc::new(pod)].into(), ..World::default() };
        Tables::build(&world, &Settings::default())
    }

    const PROXY: &str =
        r#"{"name": "mesh-proxy", "restartPolicy": "Always", "ports": [{"containerPort": 4143}]}"#;

    #[test]
    fn policy_sees_all_that_it_needs() {
        let whole = read(serde_json::from_str(PROXY).unwrap());
        let kept = pod(whole.clone(), "mesh");
        let text = format!("{kept:?}");
        assert!(!text.contains("secret") && !text.contains("kubelet") && !text.contains("setup"), "{text}");
        let (whole, kept) = (tables(whole), tables(kept));
        let (whole, kept) = (whole.pod("shop", "web-1").unwrap(), kept.pod("shop", "web-1").unwrap());
        assert_eq!(kept.ports, [24, 8080], "its own sidecar's port is the Pod's, the proxy's is not");
        let said = |pod: &mesh_policy::PodInfo| {
            let who =
                (pod.workload.clone(), pod.service_account.clone(), pod.identity.clone(), pod.node.clone());
            (who, pod.ips.clone(), pod.named_ports.clone(), pod.probes.clone(), pod.labels().clone())
        };
        assert_eq!(said(kept), said(whole));
        assert_eq!(kept.probes.len(), 3, "{:?}", kept.probes);
        assert!(kept.meshed && kept.opaque_ports.contains(7) && kept.ips == whole.ips);
    }

    #[test]
    fn pods_are_named_by_kubernetes_own_slices_only() {
        let target = |managed_by: &str, kind: &str| {
            let labels = json!({"kubernetes.io/service-name": "web", "endpointslice.kubernetes.io/managed-by": managed_by});
            let target = json!({"kind": kind, "name": "web-1", "namespace": "shop", "uid": "u"});
            let slice = json!({
                "metadata": {"name": "web-a", "namespace": "shop", "labels": labels}, "addressType": "IPv4",
                "endpoints": [{"addresses": ["10.0.0.1"], "targetRef": target}],
            });
            let kept = endpoint_slice(serde_json::from_value(slice).unwrap());
            assert_eq!(kept.metadata.labels.unwrap().len(), 1);
            kept.endpoints.into_iter().next().unwrap().target_ref.and_then(|target| target.name)
        };
        assert_eq!(target("endpointslice-controller.k8s.io", "Pod").as_deref(), Some("web-1"));
        assert_eq!(target("endpointslice-controller.k8s.io", "VirtualMachineInstance"), None);
        assert_eq!(target("endpointslicemirroring-controller.k8s.io", "Pod"), None);
        assert_eq!(target("somebody", "Pod"), None);
    }

    #[test]
    fn a_nodes_heartbeat_is_no_change() {
        let beat = |number: u32| {
            let labels = json!({"topology.kubernetes.io/zone": "a", "kubernetes.io/hostname": "n1"});
            let (version, annotations) = (number.to_string(), json!({"beat": number.to_string()}));
            let metadata = json!({"name": "n1", "resourceVersion": version, "labels": labels, "annotations": annotations});
            node(serde_json::from_value(metadata).unwrap())
        };
        assert_eq!(beat(1), beat(2));
        let world = World { nodes: vec![Arc::new(beat(3))].into(), ..World::default() };
        assert_eq!(Tables::build(&world, &Settings::default()).zone("n1"), Some("a"));
    }

    #[test]
    fn what_is_not_redirected_is_what_the_proxy_was_told() {
        let skipped = |proxy: Value| {
            let mut read = read(proxy);
            let said = (names::SKIP_INBOUND_PORTS.to_owned(), "8080".to_owned());
            Arc::make_mut(&mut read.template).annotations.extend([said]);
            tables(pod(read, "mesh")).pod("shop", "web-1").unwrap().skipped_ports.to_string()
        };
        let told = |name: &str, args: &[&str]| skipped(json!({"name": name, "args": args}));
        assert_eq!(
            told("mesh-proxy", &["start", "--inbound-ports-to-ignore=4191,5432", "--proxy-uid=1"]),
            "4191,5432"
        );
        assert_eq!(told("mesh-init", &["init", "--inbound-ports-to-ignore=4191"]), "4191");
        assert_eq!(told("linkerd-init", &["--inbound-ports-to-ignore", "25,4190-4191"]), "25,4190-4191");
        assert_eq!(told("app", &["--inbound-ports-to-ignore=25"]), "8080", "nobody redirects here");
    }

    #[test]
    fn a_pod_is_meshed_by_its_proxy_and_not_by_its_label() {
        let meshed = |proxy: Value, label: Option<&str>| {
            let mut read = read(proxy);
            let labels = &mut Arc::make_mut(&mut read.template).labels;
            labels.remove(names::CONTROL_NAMESPACE_LABEL);
            labels.extend(label.map(|label| (names::CONTROL_NAMESPACE_LABEL.to_owned(), label.to_owned())));
            tables(pod(read, "mesh")).pod("shop", "web-1").unwrap().meshed
        };
        let none = json!({"name": "other"});
        let ours: Value = serde_json::from_str(PROXY).unwrap();
        assert!(meshed(ours.clone(), None) && meshed(ours.clone(), Some("mesh")));
        assert!(!meshed(none, Some("mesh")) && !meshed(ours, Some("other-mesh")));
    }
}
