//! A world in bulk: Services, their Pods as large as real ones, and EndpointSlices whose endpoints come and go.

use crate::api_server::ApiServer;
use serde_json::{Value, json};
use std::net::Ipv4Addr;

const NAMESPACES: usize = 10;
const NODES: usize = 100;
/// A Pod with a sidecar, as an API server sends it, is about this long.
const POD_BYTES: usize = 13_000;

pub const SLICES: &str = "/apis/discovery.k8s.io/v1/endpointslices";

#[derive(Clone, Copy, Debug)]
pub struct World {
    pub services: usize,
    pub pods_per_service: usize,
}

impl World {
    pub fn fill(self, server: &ApiServer) {
        for number in 0..NAMESPACES {
            let name = format!("n{number}");
            server.put(
                "/api/v1/namespaces",
                json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}),
            );
        }
        for number in 0..NODES {
            let labels = json!({"topology.kubernetes.io/zone": format!("zone-{}", number % 3)});
            server.put(
                "/api/v1/nodes",
                json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": format!("node-{number}"), "labels": labels}}),
            );
        }
        for service in 0..self.services {
            let (name, namespace) = names(service);
            let ip = Ipv4Addr::from(0x0a60_0001 + service as u32);
            server.put("/api/v1/serviceaccounts", json!({
                "apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": namespace},
            }));
            server.put(
                "/api/v1/services",
                json!({
                    "apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": namespace},
                    "spec": {
                        "clusterIP": ip, "clusterIPs": [ip], "selector": {"app": name},
                        "ports": [{"name": "http", "port": 80, "targetPort": 8080, "protocol": "TCP"}],
                    },
                }),
            );
            for number in 0..self.pods_per_service {
                server.put("/api/v1/pods", self.pod(service, number));
            }
            server.put(SLICES, self.slice(service, None));
        }
    }

    fn pod(self, service: usize, number: usize) -> Value {
        let (app, namespace) = names(service);
        let name = pod_name(service, number);
        let container = |name: &str, ports: Value| {
            let variables: Vec<Value> = (0..20)
                .map(|number| json!({"name": format!("VARIABLE_{number}"), "value": format!("value of the variable {number}")}))
                .collect();
            json!({
                "name": name, "image": format!("registry.example.com/team/{name}:1.2.3"), "env": variables, "ports": ports,
                "readinessProbe": {"httpGet": {"path": "/ready", "port": "http"}, "periodSeconds": 10},
                "livenessProbe": {"httpGet": {"path": "/live", "port": "http"}, "periodSeconds": 10},
                "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"memory": "128Mi"}},
                "volumeMounts": [{"name": "token", "mountPath": "/var/run/secrets"}],
            })
        };
        let app_ports = json!([{"name": "http", "containerPort": 8080, "protocol": "TCP"}]);
        let mut sidecar = container("mesh-proxy", json!([{"name": "mesh-inbound", "containerPort": 4143}]));
        sidecar["restartPolicy"] = "Always".into();
        let mut pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {
                "name": name, "namespace": namespace, "uid": format!("00000000-0000-4000-8000-{:012}", service * 1000 + number),
                "creationTimestamp": "2026-01-01T00:00:00Z", "generateName": format!("{app}-5d8f7c9b6d-"),
                "labels": {
                    "app": app, "version": "v1", "pod-template-hash": "5d8f7c9b6d", "mesh.dev/control-plane-ns": "mesh",
                    "topology.kubernetes.io/zone": format!("zone-{}", number % 3),
                },
                "ownerReferences": [{
                    "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": format!("{app}-5d8f7c9b6d"),
                    "uid": "00000000-0000-4000-8000-000000000000", "controller": true, "blockOwnerDeletion": true,
                }],
            },
            "spec": {
                "nodeName": node_name(service, number), "serviceAccountName": app,
                "initContainers": [sidecar], "containers": [container("app", app_ports)],
                "volumes": [{"name": "token", "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}}],
                "tolerations": [{"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute"}],
            },
            "status": {
                "phase": "Running", "podIP": pod_ip(service, self.pods_per_service, number),
                "podIPs": [{"ip": pod_ip(service, self.pods_per_service, number)}], "hostIP": "192.0.2.1",
                "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:01Z"}],
            },
        });
        let left = POD_BYTES.saturating_sub(pod.to_string().len());
        pod["metadata"]["managedFields"] = json!([{"manager": "kubelet", "operation": "Update", "fieldsV1": {"f:status": "f".repeat(left)}}]);
        pod
    }

    /// The slice of a Service; with one endpoint more, whose address is that of a change.
    pub fn slice(self, service: usize, more: Option<Ipv4Addr>) -> Value {
        let (name, namespace) = names(service);
        let endpoint = |ip: Ipv4Addr, number: usize| {
            json!({
                "addresses": [ip], "conditions": {"ready": true, "serving": true, "terminating": false},
                "nodeName": node_name(service, number), "zone": format!("zone-{}", number % 3),
            })
        };
        let of_pod = |number: usize| {
            let mut endpoint = endpoint(pod_ip(service, self.pods_per_service, number), number);
            endpoint["targetRef"] = json!({
                "kind": "Pod", "name": pod_name(service, number), "namespace": namespace,
                "uid": "00000000-0000-4000-8000-000000000000",
            });
            endpoint
        };
        let mut endpoints: Vec<Value> = (0..self.pods_per_service).map(of_pod).collect();
        endpoints.extend(more.map(|ip| endpoint(ip, 0)));
        json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {
                "name": format!("{name}-abcde"), "namespace": namespace,
                "labels": {"kubernetes.io/service-name": name, "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io"},
            },
            "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}], "endpoints": endpoints,
        })
    }
}

/// Name and namespace of a Service.
pub fn names(service: usize) -> (String, String) {
    (format!("service-{service}"), format!("n{}", service % NAMESPACES))
}

pub fn pod_name(service: usize, number: usize) -> String {
    format!("service-{service}-5d8f7c9b6d-{number:05}")
}

/// What the proxy beside a Service's first Pod says of itself.
pub fn context(service: usize) -> String {
    let (_, namespace) = names(service);
    json!({"ns": namespace, "nodeName": node_name(service, 0), "pod": pod_name(service, 0)}).to_string()
}

fn node_name(service: usize, number: usize) -> String {
    format!("node-{}", (service + number) % NODES)
}

fn pod_ip(service: usize, per_service: usize, number: usize) -> Ipv4Addr {
    Ipv4Addr::from(0x0a01_0000 + (service * per_service + number) as u32)
}
