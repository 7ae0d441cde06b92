//! Manifests of the stories' application: a server that says who answers, and a Pod to ask from.

use serde_json::{Value, json};

pub const IMAGE: &str = "mesh-e2e-app:0.1.0";

/// A Deployment that serves HTTP on 8080, and its Service on 80. It dies on SIGTERM without finishing anything.
pub fn server(name: &str, replicas: u32) -> String {
    format!(
        "
apiVersion: apps/v1
kind: Deployment
metadata: {{ name: {name} }}
spec:
  replicas: {replicas}
  selector: {{ matchLabels: {{ app: {name} }} }}
  template:
    metadata: {{ labels: {{ app: {name} }} }}
    spec:
      terminationGracePeriodSeconds: 5
      containers:
      - name: app
        image: {IMAGE}
        args: [serve]
        ports: [{{ name: http, containerPort: 8080 }}]
        readinessProbe: {{ httpGet: {{ path: /, port: http }}, periodSeconds: 1 }}
---
{}",
        service(name)
    )
}

/// A Service for Pods of an app, on port 80.
pub fn service(app: &str) -> String {
    format!(
        "
apiVersion: v1
kind: Service
metadata: {{ name: {app} }}
spec:
  selector: {{ app: {app} }}
  ports: [{{ name: http, port: 80, targetPort: 8080, appProtocol: http }}]
"
    )
}

/// A Pod that serves too, for its network to send from.
pub fn client(name: &str) -> String {
    format!(
        "
apiVersion: v1
kind: Pod
metadata: {{ name: {name}, labels: {{ app: {name} }} }}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: app
    image: {IMAGE}
    args: [serve]
    ports: [{{ name: http, containerPort: 8080 }}]
    readinessProbe: {{ httpGet: {{ path: /, port: http }}, periodSeconds: 1 }}
"
    )
}

/// Puts the Pods of a Deployment on all nodes that take new ones, as evenly as they can be: a patch of it.
pub fn spread(app: &str) -> Value {
    json!({ "spec": { "template": { "spec": { "topologySpreadConstraints": [{
        "maxSkew": 1,
        "topologyKey": "kubernetes.io/hostname",
        "whenUnsatisfiable": "DoNotSchedule",
        "nodeTaintsPolicy": "Honor",
        "labelSelector": { "matchLabels": { "app": app } },
        "matchLabelKeys": ["pod-template-hash"],
    }] } } } })
}
