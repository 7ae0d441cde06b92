//! Objects from YAML, as a watch would deliver them (with EndpointSlices written out).

use crate::{List, Settings, Tables, World};
use serde::de::DeserializeOwned;
use std::sync::Arc;

/// Documents are separated by `---`.
pub fn world(yaml: &str) -> World {
    let mut world = World::default();
    for text in yaml.split("\n---").map(|text| text.trim_start_matches("---")) {
        let head: serde_json::Value = read(text);
        match head["kind"].as_str().unwrap_or_default() {
            "Namespace" => put(&mut world.namespaces, text),
            "ServiceAccount" => put(&mut world.service_accounts, text),
            "Service" => put(&mut world.services, text),
            "EndpointSlice" => put(&mut world.endpoint_slices, text),
            "Pod" => put(&mut world.pods, text),
            "HTTPRoute" => put(&mut world.http_routes, text),
            "GRPCRoute" => put(&mut world.grpc_routes, text),
            "AuthorizationPolicy" => put(&mut world.authorization_policies, text),
            other => panic!("kind {other:?} in the fixture:\n{text}"),
        }
    }
    world
}

fn put<T: Clone + DeserializeOwned>(list: &mut List<T>, text: &str) {
    Arc::make_mut(list).push(Arc::new(read(text)));
}

fn read<T: DeserializeOwned>(text: &str) -> T {
    serde_saphyr::from_str(text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

pub fn tables(yaml: &str) -> Tables {
    Tables::build(&world(yaml), &Settings::default())
}

/// A small shop: `web` calls `cart`, which has two versions; a client in another namespace; one Pod without a proxy.
pub const SHOP: &str = r#"
apiVersion: v1
kind: Namespace
metadata: { name: shop, annotations: { mesh.dev/default-policy: mesh-only } }
---
apiVersion: v1
kind: Service
metadata: { name: cart, namespace: shop }
spec: { selector: { app: cart }, clusterIP: 10.96.0.1, ports: [{ name: http, port: 80, targetPort: web }, { name: admin, port: 81, targetPort: 9 }] }
---
apiVersion: v1
kind: Service
metadata: { name: cart-v1, namespace: shop }
spec: { selector: { app: cart, version: v1 }, ports: [{ name: http, port: 80, targetPort: web }] }
---
apiVersion: v1
kind: Service
metadata: { name: cart-v2, namespace: shop }
spec: { selector: { app: cart, version: v2 }, ports: [{ name: http, port: 80, targetPort: web }] }
---
apiVersion: v1
kind: Service
metadata: { name: db, namespace: shop, annotations: { mesh.dev/opaque-ports: "5000" } }
spec: { selector: { app: db }, clusterIP: None, ports: [{ name: sql, port: 5000 }] }
---
apiVersion: v1
kind: Service
metadata: { name: elsewhere, namespace: shop }
spec: { type: ExternalName, externalName: example.com, ports: [{ port: 80 }] }
---
apiVersion: v1
kind: Pod
metadata: { name: web, namespace: shop, labels: { app: web, mesh.dev/control-plane-ns: mesh } }
spec: { serviceAccountName: web, containers: [{ name: a, ports: [{ name: web, containerPort: 8080 }] }] }
status: { podIP: 10.0.0.1 }
---
apiVersion: v1
kind: Pod
metadata: { name: cart-1, namespace: shop, labels: { app: cart, version: v1, mesh.dev/control-plane-ns: mesh } }
spec: { serviceAccountName: cart, containers: [{ name: a, ports: [{ name: web, containerPort: 8080 }], readinessProbe: { httpGet: { path: /ready, port: web } } }] }
status: { podIP: 10.0.0.2 }
---
apiVersion: v1
kind: Pod
metadata: { name: cart-2, namespace: shop, labels: { app: cart, version: v2, mesh.dev/control-plane-ns: mesh } }
spec: { serviceAccountName: cart, containers: [{ name: a, ports: [{ name: web, containerPort: 8080 }] }] }
status: { podIP: 10.0.0.3 }
---
apiVersion: v1
kind: Pod
metadata: { name: db-0, namespace: shop, labels: { app: db, mesh.dev/control-plane-ns: mesh } }
spec: { serviceAccountName: db, containers: [{ name: a, ports: [{ containerPort: 5000 }] }] }
status: { podIP: 10.0.0.4 }
---
apiVersion: v1
kind: Pod
metadata: { name: legacy, namespace: shop, labels: { app: legacy } }
spec: { containers: [{ name: a, ports: [{ containerPort: 80 }] }] }
status: { podIP: 10.0.0.5 }
---
apiVersion: v1
kind: Pod
metadata: { name: guest, namespace: other, labels: { app: guest, mesh.dev/control-plane-ns: mesh } }
spec: { serviceAccountName: guest, containers: [{ name: a }] }
status: { podIP: 10.0.0.6 }
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: { name: cart-a, namespace: shop, labels: { kubernetes.io/service-name: cart } }
addressType: IPv4
ports: [{ name: http, port: 8080 }]
endpoints:
- { addresses: [10.0.0.2], conditions: { ready: true } }
- { addresses: [10.0.0.3], conditions: { ready: false } }
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: { name: db-a, namespace: shop, labels: { kubernetes.io/service-name: db } }
addressType: IPv4
ports: [{ name: sql, port: 5000 }]
endpoints:
- { addresses: [10.0.0.4], hostname: db-0 }
"#;
