//! How long a large mesh's tables take to build, and its answers to compute: `cargo bench -p mesh-policy`.
//! What follows from objects that did not change is shared, so a change costs the operator far less than the whole.

mod measure;

use k8s_openapi::api::{core::v1::Service, discovery::v1::EndpointSlice};
use measure::measure;
use mesh_policy::{Authority, Place, Pod, Settings, Tables, World, outbound::Target};
use serde_json::json;
use std::sync::Arc;

const SERVICES: usize = 1_000;
const PODS_PER_SERVICE: usize = 20;

fn world() -> World {
    let mut world = World::default();
    for service in 0..SERVICES {
        let name = format!("s{service}");
        let namespace = format!("n{}", service % 10);
        let object: Service = from(json!({
            "metadata": { "name": name, "namespace": namespace },
            "spec": { "selector": { "app": name }, "ports": [{ "name": "http", "port": 80, "targetPort": 8080 }] },
        }));
        Arc::make_mut(&mut world.services).push(Arc::new(object));
        let mut endpoints = vec![];
        for pod in 0..PODS_PER_SERVICE {
            let number = service * PODS_PER_SERVICE + pod;
            let ip = format!("10.{}.{}.{}", number >> 16, (number >> 8) & 255, number & 255);
            let object: Pod = from(json!({
                "metadata": { "name": format!("{name}-{pod}"), "namespace": namespace, "labels": { "app": name, "mesh.dev/control-plane-ns": "mesh" } },
                "spec": { "serviceAccountName": name, "containers": [{ "name": "a", "ports": [{ "containerPort": 8080 }] }] },
                "status": { "podIP": ip },
            }));
            Arc::make_mut(&mut world.pods).push(Arc::new(object));
            endpoints.push(json!({ "addresses": [ip] }));
        }
        let slice: EndpointSlice = from(json!({
            "metadata": { "name": name, "namespace": namespace, "labels": { "kubernetes.io/service-name": name } },
            "addressType": "IPv4", "ports": [{ "name": "http", "port": 8080 }], "endpoints": endpoints,
        }));
        Arc::make_mut(&mut world.endpoint_slices).push(Arc::new(slice));
    }
    world
}

fn from<T: serde::de::DeserializeOwned>(value: serde_json::Value) -> T {
    serde_json::from_value(value).expect("the benchmark's own objects are valid")
}

/// Another object that says the same.
fn again<T: Clone>(object: &mut Arc<T>) {
    *object = Arc::new((**object).clone());
}

fn main() {
    let world = world();
    let settings = Settings::default();
    let pods = SERVICES * PODS_PER_SERVICE;
    measure(&format!("tables of {SERVICES} Services and {pods} Pods"), || Tables::build(&world, &settings));
    let tables = Tables::build(&world, &settings);
    let mut slice = world.clone();
    again(&mut Arc::make_mut(&mut slice.endpoint_slices)[SERVICES / 2]);
    measure("the tables after a change of one EndpointSlice", || tables.next(&slice));
    let mut pod = world.clone();
    again(&mut Arc::make_mut(&mut pod.pods)[pods / 2]);
    measure("the tables after a change of one Pod", || tables.next(&pod));
    let authorities: Vec<Authority> = (0..SERVICES)
        .map(|service| Authority {
            host: None,
            service: format!("s{service}"),
            namespace: format!("n{}", service % 10),
            port: 80,
        })
        .collect();
    measure("endpoints of every Service", || {
        authorities
            .iter()
            .map(|authority| tables.resolve(authority, Place::default()).endpoints.len())
            .sum::<usize>()
    });
    measure("outbound policy of every Service", || {
        authorities
            .iter()
            .filter(|authority| tables.outbound(&Target::Authority((*authority).clone()), "n0").is_some())
            .count()
    });
    measure("inbound policy of every Pod", || {
        tables.pods().iter().filter(|pod| tables.inbound(&pod.namespace, &pod.name, 8080).is_some()).count()
    });
}
