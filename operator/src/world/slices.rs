//! What a cluster would add to plain manifests: EndpointSlices for Services with a selector, as the endpoint controller makes them,
//! and the mark of a Pod that has a proxy, as our injector sets it. Pure functions.

use k8s_openapi::{
    api::{
        core::v1::{Namespace, ObjectReference, Service, ServicePort},
        discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice},
    },
    apimachinery::pkg::{apis::meta::v1::ObjectMeta, util::intstr::IntOrString},
};
use mesh_api::names;
use mesh_policy::{Pod, World};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

/// What the ports of a Service mean on some Pods.
type NamedPorts = Vec<(String, u16)>;

/// Adds to a world from manifests what a cluster's controllers and our injector would add.
pub fn complete(world: &mut World, control_namespace: &str) {
    world.pods = mark_meshed(world.pods.to_vec(), &world.namespaces, control_namespace).into();
    let made = synthesize(&world.services, &world.pods, &world.endpoint_slices);
    Arc::make_mut(&mut world.endpoint_slices).extend(made.into_iter().map(Arc::new));
}

const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// Labels the Pods whose inject annotation (the Pod's own, else its Namespace's) says `enabled`.
pub fn mark_meshed(
    pods: Vec<Arc<Pod>>,
    namespaces: &[Arc<Namespace>],
    control_namespace: &str,
) -> Vec<Arc<Pod>> {
    let enabled: BTreeSet<&str> = namespaces
        .iter()
        .filter(|ns| annotation(&ns.metadata, names::INJECT) == Some("enabled"))
        .filter_map(|ns| ns.metadata.name.as_deref())
        .collect();
    let mark = |pod: Arc<Pod>| {
        let inherited = enabled.contains(pod.metadata.namespace.as_deref().unwrap_or("default"));
        let meshed = pod.template.annotations.get(names::INJECT).map_or(inherited, |own| own == "enabled");
        if !meshed || pod.template.labels.contains_key(names::CONTROL_NAMESPACE_LABEL) {
            return pod;
        }
        let mut pod = Arc::unwrap_or_clone(pod);
        let labels = &mut Arc::make_mut(&mut pod.template).labels;
        labels.insert(names::CONTROL_NAMESPACE_LABEL.into(), control_namespace.into());
        Arc::new(pod)
    };
    pods.into_iter().map(mark).collect()
}

fn annotation<'a>(metadata: &'a ObjectMeta, name: &str) -> Option<&'a str> {
    metadata.annotations.as_ref()?.get(name).map(String::as_str)
}

/// One slice per Service, address family and set of container ports (Pods may differ in what a named target port means).
/// Services that have slices already keep those and get none.
pub fn synthesize(
    services: &[Arc<Service>],
    pods: &[Arc<Pod>],
    given: &[Arc<EndpointSlice>],
) -> Vec<EndpointSlice> {
    let taken: BTreeSet<(&str, &str)> = given
        .iter()
        .filter_map(|slice| {
            let service = slice.metadata.labels.as_ref()?.get(SERVICE_NAME)?;
            Some((slice.metadata.namespace.as_deref().unwrap_or("default"), service.as_str()))
        })
        .collect();
    let mut slices = vec![];
    for service in services {
        let (Some(name), Some(spec)) = (service.metadata.name.as_deref(), service.spec.as_ref()) else {
            continue;
        };
        let namespace = service.metadata.namespace.as_deref().unwrap_or("default");
        let Some(selector) = spec.selector.as_ref().filter(|selector| !selector.is_empty()) else { continue };
        if taken.contains(&(namespace, name)) || spec.type_.as_deref() == Some("ExternalName") {
            continue;
        }
        let mut groups: BTreeMap<(bool, NamedPorts), Vec<Endpoint>> = BTreeMap::new();
        for pod in
            pods.iter().filter(|pod| pod.metadata.namespace.as_deref().unwrap_or("default") == namespace)
        {
            let labels = &pod.template.labels;
            if !selector.iter().all(|(key, value)| labels.get(key) == Some(value)) {
                continue;
            }
            let ports: NamedPorts = spec
                .ports
                .iter()
                .flatten()
                .filter_map(|port| Some((port.name.clone().unwrap_or_default(), target(port, pod)?)))
                .collect();
            let publish = spec.publish_not_ready_addresses == Some(true);
            for (ipv6, endpoint) in endpoints(pod, name, publish) {
                groups.entry((ipv6, ports.clone())).or_default().push(endpoint);
            }
        }
        for (number, ((ipv6, ports), mut endpoints)) in groups.into_iter().enumerate() {
            endpoints.sort_by(|a, b| a.addresses.cmp(&b.addresses));
            slices.push(EndpointSlice {
                address_type: if ipv6 { "IPv6" } else { "IPv4" }.into(),
                metadata: ObjectMeta {
                    name: Some(format!("{name}-{number}")),
                    namespace: Some(namespace.into()),
                    labels: Some([(SERVICE_NAME.to_owned(), name.to_owned())].into()),
                    ..ObjectMeta::default()
                },
                ports: Some(ports.into_iter().map(|(name, port)| slice_port(name, port)).collect()),
                endpoints,
            });
        }
    }
    slices
}

fn slice_port(name: String, port: u16) -> EndpointPort {
    EndpointPort {
        name: Some(name),
        port: Some(i32::from(port)),
        protocol: Some("TCP".into()),
        ..EndpointPort::default()
    }
}

/// The container port that a Service's port means on this Pod.
fn target(port: &ServicePort, pod: &Pod) -> Option<u16> {
    if port.protocol.as_deref().unwrap_or("TCP") != "TCP" {
        return None;
    }
    match &port.target_port {
        None | Some(IntOrString::Int(0)) => u16::try_from(port.port).ok(),
        Some(IntOrString::Int(number)) => u16::try_from(*number).ok(),
        Some(IntOrString::String(name)) => {
            let mut ports = pod.template.containers.iter().flat_map(|container| &container.ports);
            let found = ports.find(|own| {
                own.name.as_ref() == Some(name) && own.protocol.as_deref().unwrap_or("TCP") == "TCP"
            });
            u16::try_from(found?.container_port).ok()
        }
    }
}

/// A Pod's endpoint per address family; `true` is IPv6.
fn endpoints(pod: &Pod, service: &str, publish_not_ready: bool) -> Vec<(bool, Endpoint)> {
    let status = &pod.status;
    if matches!(status.phase.as_deref(), Some("Succeeded" | "Failed")) {
        return vec![];
    }
    let first = status.pod_ip.iter().map(String::as_str);
    let all = first.chain(status.pod_ips.iter().map(|ip| ip.ip.as_str()));
    let mut families: BTreeMap<bool, IpAddr> = BTreeMap::new();
    for ip in all.filter_map(|ip| ip.parse::<IpAddr>().ok()) {
        families.entry(ip.is_ipv6()).or_insert(ip);
    }
    let terminating = pod.metadata.deletion_timestamp.is_some();
    // A manifest that says nothing about readiness means a Pod that is ready.
    let mut conditions = status.conditions.iter();
    let says_ready =
        conditions.find(|condition| condition.kind == "Ready").is_none_or(|ready| ready.status == "True");
    let ready = publish_not_ready || (says_ready && !terminating);
    let in_subdomain = pod.subdomain.as_deref() == Some(service);
    let hostname = pod.hostname.clone().or_else(|| pod.metadata.name.clone());
    let endpoint = |ip: IpAddr| Endpoint {
        addresses: vec![ip.to_string()],
        conditions: Some(EndpointConditions {
            ready: Some(ready),
            serving: Some(says_ready),
            terminating: Some(terminating),
        }),
        hostname: hostname.clone().filter(|_| in_subdomain),
        node_name: pod.node_name.clone(),
        target_ref: Some(ObjectReference {
            kind: Some("Pod".into()),
            namespace: pod.metadata.namespace.clone(),
            name: pod.metadata.name.clone(),
            ..ObjectReference::default()
        }),
        ..Endpoint::default()
    };
    families.into_iter().map(|(ipv6, ip)| (ipv6, endpoint(ip))).collect()
}

#[cfg(test)]
mod tests;
