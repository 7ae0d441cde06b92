//! backendRefs: each stands for a Service's port, or for the reason why its share of the requests fails.

use super::WeightedBackend;
use crate::{
    Meta, PortProtocol, ServiceKind,
    gateway::{BackendRef, Filter as WrittenFilter},
    outbound::{Backend, Filter},
    services::{Authority, Services},
    world::Settings,
};

/// `None` where there are no backendRefs: the parent Service. An error drops the rule.
pub fn resolve(
    refs: &[BackendRef],
    namespace: &str,
    services: &Services,
    settings: &Settings,
    read_filters: impl Fn(&[WrittenFilter]) -> Result<Vec<Filter>, String>,
) -> Result<Option<Vec<WeightedBackend>>, String> {
    if refs.is_empty() {
        return Ok(None);
    }
    if refs.len() > 16 {
        return Err("a rule has at most 16 backendRefs".into());
    }
    let mut backends = vec![];
    for written in refs {
        let weight = written.weight.unwrap_or(1);
        let weight = u32::try_from(weight).ok().filter(|weight| *weight <= 1_000_000);
        let weight =
            weight.ok_or_else(|| format!("weight of backend {} is not within 0 to 1000000", written.name))?;
        let filters = read_filters(&written.filters)?;
        let own = written.namespace.as_deref().unwrap_or(namespace);
        let label = match written.port {
            Some(port) => format!("{own}/{}:{port}", written.name),
            None => format!("{own}/{}", written.name),
        };
        let (backend, problem) = match find(written, own, services, settings) {
            Ok(backend) => (backend, None),
            Err((reason, message)) => {
                let meta = match written.port.and_then(|port| u16::try_from(port).ok()) {
                    Some(port) => Meta::service(own, &written.name, port),
                    None => Meta::Default("invalid"),
                };
                (Backend::Invalid { meta, reason: message.clone() }, Some((reason, message)))
            }
        };
        backends.push(WeightedBackend { label, weight, backend, filters, problem });
    }
    Ok(Some(backends))
}

fn find(
    written: &BackendRef,
    namespace: &str,
    services: &Services,
    settings: &Settings,
) -> Result<Backend, (&'static str, String)> {
    let name = &written.name;
    let group = written.group.as_deref().unwrap_or_default();
    let kind = written.kind.as_deref().unwrap_or("Service");
    if !matches!(group, "" | "core") || kind != "Service" {
        return Err(("InvalidKind", format!("backend {kind} {name} is no Service")));
    }
    let Some(port) = written.port.and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0) else {
        return Err((
            "BackendNotFound",
            format!("backend Service {namespace}/{name} needs a port (1 to 65535)"),
        ));
    };
    let Some(service) = services.get(&(namespace.to_owned(), name.clone())) else {
        return Err(("BackendNotFound", format!("Service not found {namespace}/{name}")));
    };
    if service.kind == ServiceKind::ExternalName {
        return Err(("InvalidKind", format!("Service {namespace}/{name} is an ExternalName")));
    }
    match service.port(port) {
        None => Err(("BackendNotFound", format!("Service {namespace}/{name} has no port {port}"))),
        Some(found) if found.protocol == PortProtocol::Opaque => Err((
            "UnsupportedProtocol",
            format!("port {port} of Service {namespace}/{name} is declared opaque"),
        )),
        Some(_) => {
            let authority =
                Authority { host: None, service: name.clone(), namespace: namespace.to_owned(), port };
            Ok(Backend::Service {
                meta: Meta::service(namespace, name, port),
                authority: authority.in_domain(&settings.cluster_domain),
            })
        }
    }
}
