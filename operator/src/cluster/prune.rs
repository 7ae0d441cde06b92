//! What of an object is kept in memory: what policy reads, and nothing else. Ten thousand Pods are most of an operator's memory,
//! and nine tenths of a Pod are environment, volumes and bookkeeping. Pure functions.

use k8s_openapi::{
    api::{
        core::v1::{Namespace, Service, ServiceAccount},
        discovery::v1::EndpointSlice,
    },
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference},
};
use mesh_api::names;
use mesh_policy::pod::{Container, Pod, PodSpec, PodStatus, Probe};
use std::collections::BTreeMap;

pub fn namespace(all: ObjectMeta) -> Namespace {
    Namespace { metadata: labelled(all), ..Namespace::default() }
}

pub fn service_account(all: ObjectMeta) -> ServiceAccount {
    ServiceAccount { metadata: named(all), ..ServiceAccount::default() }
}

pub fn service(all: Service) -> Service {
    Service { metadata: ObjectMeta { labels: None, ..labelled(all.metadata) }, spec: all.spec, status: None }
}

pub fn endpoint_slice(all: EndpointSlice) -> EndpointSlice {
    let mut metadata = labelled(all.metadata);
    metadata.annotations = None;
    if let Some(labels) = &mut metadata.labels {
        labels.retain(|key, _| key == "kubernetes.io/service-name");
    }
    let mut slice = EndpointSlice { metadata, ..all };
    for endpoint in &mut slice.endpoints {
        // Which Pod it is, its address tells.
        endpoint.target_ref = None;
        endpoint.deprecated_topology = None;
        endpoint.addresses.shrink_to_fit();
    }
    slice.endpoints.shrink_to_fit();
    slice
}

/// A Pod that runs our proxy bears the label of a meshed one, and no other Pod does, whatever its author wrote.
pub fn pod(all: Pod, control_namespace: &str) -> Pod {
    let spec = all.spec.unwrap_or_default();
    let has_proxy = runs_proxy(&spec);
    let mut metadata = labelled(all.metadata);
    let labels = metadata.labels.get_or_insert_default();
    if has_proxy {
        // The injector of another mesh's control plane has put its own name there.
        labels.entry(names::CONTROL_NAMESPACE_LABEL.into()).or_insert_with(|| control_namespace.into());
    } else {
        labels.remove(names::CONTROL_NAMESPACE_LABEL);
    }
    // What runs beside the application for as long as it does is part of it, but for ourselves.
    let stays = |container: &Container| container.restart_policy.as_deref() == Some("Always");
    let sidecars = spec.init_containers.into_iter().filter(stays);
    let ours = spec.containers.into_iter().chain(sidecars).filter(|own| !is_proxy(own));
    let mut containers: Vec<Container> = ours.map(container).collect();
    containers.shrink_to_fit();
    let status = all.status.unwrap_or_default();
    Pod {
        metadata,
        spec: Some(PodSpec {
            containers,
            host_network: spec.host_network,
            node_name: spec.node_name,
            service_account_name: spec.service_account_name,
            ..PodSpec::default()
        }),
        status: Some(PodStatus {
            phase: status.phase,
            // One address is said once.
            pod_ips: if status.pod_ips.len() > 1 { status.pod_ips } else { vec![] },
            pod_ip: status.pod_ip,
            conditions: vec![],
        }),
    }
}

fn runs_proxy(spec: &PodSpec) -> bool {
    spec.containers.iter().chain(&spec.init_containers).any(is_proxy)
}

/// Ours, or Linkerd's, which works with this operator too.
fn is_proxy(container: &Container) -> bool {
    matches!(container.name.as_str(), names::PROXY_CONTAINER | "linkerd-proxy")
}

fn container(mut all: Container) -> Container {
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
    let annotations = all.annotations.take().map(|mut annotations| {
        annotations.retain(|key, _| key.split('/').next() == Some(names::API_GROUP));
        annotations
    });
    let labels: Option<BTreeMap<String, String>> = all.labels.take();
    let owners = all.owner_references.take().map(|owners| {
        let kept = |owner: OwnerReference| OwnerReference {
            api_version: owner.api_version,
            controller: owner.controller,
            kind: owner.kind,
            name: owner.name,
            ..OwnerReference::default()
        };
        let mut owners: Vec<OwnerReference> = owners.into_iter().map(kept).collect();
        owners.shrink_to_fit();
        owners
    });
    ObjectMeta {
        annotations: annotations.filter(|annotations| !annotations.is_empty()),
        labels,
        owner_references: owners,
        ..named(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mesh_policy::{Settings, Tables, World};
    use serde_json::{Value, json};
    use std::sync::Arc;

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
        assert!(kept.meshed && kept.opaque_ports.contains(7) && kept.ip == whole.ip);
    }

    #[test]
    fn a_pod_is_meshed_by_its_proxy_and_not_by_its_label() {
        let meshed = |proxy: Value, label: Option<&str>| {
            let mut read = read(proxy);
            let labels = read.metadata.labels.as_mut().unwrap();
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
