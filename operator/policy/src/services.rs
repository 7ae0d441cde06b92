//! What the mesh knows about a Service, and how it is named in an authority.

use crate::{
    Settings, World,
    outbound::{Accrual, Retry, Timeouts},
    pods,
    ports::PortSet,
    reach::Prefer,
    routes::options,
};
use k8s_openapi::{api::core::v1 as core, apimachinery::pkg::util::intstr::IntOrString};
use mesh_api::names;
use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServiceKind {
    ClusterIp,
    Headless,
    /// A DNS alias: the mesh has nothing to say about it.
    ExternalName,
}

/// What a port's `appProtocol` or the opaque-ports annotation declares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PortProtocol {
    /// Nothing: the proxy looks at the first bytes.
    Detect,
    Opaque,
    Http1,
    Http2,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Service {
    pub namespace: String,
    pub name: String,
    pub kind: ServiceKind,
    pub cluster_ips: Vec<IpAddr>,
    pub ports: Vec<ServicePort>,
    pub selector: BTreeMap<String, String>,
    /// `internalTrafficPolicy: Local`: only endpoints on the client's node.
    pub node_local: bool,
    /// `trafficDistribution`, where it is one that we know.
    pub prefers: Option<Prefer>,
    pub accrual: Option<Accrual>,
    /// For requests that no route's own setting covers.
    pub retry: Option<Retry>,
    pub grpc_retry: Option<Retry>,
    pub timeouts: Timeouts,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePort {
    pub port: u16,
    pub name: Option<String>,
    pub protocol: PortProtocol,
    /// Whether the Service itself says so, and not its Namespace or the operator's flag for all.
    pub declared: bool,
    /// A number or a name of a container port.
    pub target: IntOrString,
}

impl Service {
    pub fn port(&self, port: u16) -> Option<&ServicePort> {
        self.ports.iter().find(|p| p.port == port)
    }
}

impl ServicePort {
    /// The container's port that this one leads to.
    pub fn target_on(&self, named_ports: &[(String, u16)]) -> Option<u16> {
        pods::number(&self.target, named_ports)
    }

    /// Whether it is to be read where others' may be opaque.
    fn contradicts(&self, opaque: &PortSet) -> bool {
        let leads_there = match &self.target {
            IntOrString::Int(port) => u16::try_from(*port).is_ok_and(|port| opaque.contains(port)),
            IntOrString::String(_) => true,
        };
        self.declared && self.protocol != PortProtocol::Opaque && leads_there
    }
}

pub(crate) type Services = BTreeMap<(String, String), Arc<Service>>;

/// All Services of a world.
#[derive(Debug, Default)]
pub(crate) struct Directory {
    pub services: Services,
    pub by_cluster_ip: HashMap<IpAddr, Arc<Service>>,
    /// Those of a namespace with a port that is opaque, or would be if they did not say otherwise: few, so that asking costs little.
    with_opaque_ports: Arc<HashMap<String, Vec<Arc<Service>>>>,
    pub problems: Vec<(String, String)>,
}

impl Directory {
    /// The Services of this world; those that are what they were are shared with ours.
    pub fn next(&self, world: &World, settings: &Settings) -> Directory {
        let by_namespace: BTreeMap<&str, PortSet> = world
            .namespaces
            .iter()
            .filter_map(|ns| {
                let annotations = ns.metadata.annotations.as_ref()?;
                let (ports, _) = PortSet::parse(annotations.get(names::OPAQUE_PORTS)?);
                Some((ns.metadata.name.as_deref()?, ports))
            })
            .collect();
        let inherited = |namespace: &str| by_namespace.get(namespace).unwrap_or(&settings.opaque_ports);
        let mut next = Directory::default();
        for service in world.services.iter() {
            let namespace = service.metadata.namespace.clone().unwrap_or_else(|| "default".into());
            let inherited = inherited(&namespace);
            let Some(service) = read_one(service, namespace, inherited, &mut next.problems) else { continue };
            let key = (service.namespace.clone(), service.name.clone());
            let service = match self.services.get(&key) {
                Some(known) if **known == service => known.clone(),
                _ => Arc::new(service),
            };
            next.services.insert(key, service);
        }
        let mut with_opaque_ports: HashMap<String, Vec<Arc<Service>>> = HashMap::new();
        for service in next.services.values() {
            next.by_cluster_ip.extend(service.cluster_ips.iter().map(|ip| (*ip, service.clone())));
            let inherited = inherited(&service.namespace);
            if service
                .ports
                .iter()
                .any(|port| port.protocol == PortProtocol::Opaque || port.contradicts(inherited))
            {
                with_opaque_ports.entry(service.namespace.clone()).or_default().push(service.clone());
            }
        }
        next.with_opaque_ports = match *self.with_opaque_ports == with_opaque_ports {
            true => self.with_opaque_ports.clone(),
            false => Arc::new(with_opaque_ports),
        };
        next
    }

    pub fn with_opaque_ports(&self, namespace: &str) -> &[Arc<Service>] {
        self.with_opaque_ports.get(namespace).map(Vec::as_slice).unwrap_or_default()
    }

    /// Whether the same Services certainly declare ports opaque there.
    pub fn shares_opaque_ports(&self, other: &Directory) -> bool {
        Arc::ptr_eq(&self.with_opaque_ports, &other.with_opaque_ports)
    }
}

fn read_one(
    service: &core::Service,
    namespace: String,
    inherited: &PortSet,
    problems: &mut Vec<(String, String)>,
) -> Option<Service> {
    let name = service.metadata.name.clone()?;
    let spec = service.spec.as_ref()?;
    let object = format!("Service {namespace}/{name}");
    let none = BTreeMap::new();
    let annotations = service.metadata.annotations.as_ref().unwrap_or(&none);
    let kind = match (spec.type_.as_deref(), spec.cluster_ip.as_deref()) {
        (Some("ExternalName"), _) => ServiceKind::ExternalName,
        (_, Some("None")) => ServiceKind::Headless,
        _ => ServiceKind::ClusterIp,
    };
    let opaque = annotations.get(names::OPAQUE_PORTS).map(|text| {
        let (set, bad) = PortSet::parse(text);
        problems.extend(
            bad.into_iter().map(|bad| (object.clone(), format!("annotation {}: {bad}", names::OPAQUE_PORTS))),
        );
        set
    });
    let mut ports = vec![];
    for port in spec.ports.iter().flatten() {
        if port.protocol.as_deref().unwrap_or("TCP") != "TCP" {
            continue;
        }
        let Some(number) = u16::try_from(port.port).ok().filter(|port| *port > 0) else {
            problems.push((object.clone(), format!("port {} is none (want 1 to 65535)", port.port)));
            continue;
        };
        let target = match &port.target_port {
            None | Some(IntOrString::Int(0)) => IntOrString::Int(port.port),
            Some(target) => target.clone(),
        };
        let app_protocol = port.app_protocol.as_deref().filter(|name| !name.is_empty());
        let (protocol, declared) = match (&opaque, app_protocol) {
            (Some(opaque), _) if opaque.contains(number) => (PortProtocol::Opaque, true),
            (_, Some(name)) => (protocol_of(name), true),
            (Some(_), None) => (PortProtocol::Detect, true),
            (None, None) if inherited.contains(number) => (PortProtocol::Opaque, false),
            (None, None) => (PortProtocol::Detect, false),
        };
        ports.push(ServicePort {
            port: number,
            name: port.name.clone().filter(|name| !name.is_empty()),
            protocol,
            declared,
            target,
        });
    }
    let mut bad: Vec<String> = pods::unknown(annotations).collect();
    let options = options::read(annotations, &mut bad);
    problems.extend(bad.into_iter().map(|bad| (object.clone(), bad)));
    let ips = spec.cluster_ips.iter().flatten().chain(&spec.cluster_ip);
    Some(Service {
        kind,
        cluster_ips: ips.filter_map(|ip| ip.parse().ok()).collect(),
        ports,
        selector: spec.selector.clone().unwrap_or_default(),
        node_local: spec.internal_traffic_policy.as_deref() == Some("Local"),
        prefers: spec.traffic_distribution.as_deref().and_then(Prefer::parse),
        accrual: options.accrual,
        retry: options.http_retry.flatten(),
        grpc_retry: options.grpc_retry.flatten(),
        timeouts: Timeouts { request: options.request_timeout.flatten(), backend_request: None },
        namespace,
        name,
    })
}

/// `http` is HTTP/1 and `grpc` is HTTP/2, in whatever case; what we do not know is left unread, as its author asked for something else
/// than HTTP.
fn protocol_of(app_protocol: &str) -> PortProtocol {
    match app_protocol.to_ascii_lowercase().as_str() {
        "http" | "kubernetes.io/ws" => PortProtocol::Http1,
        "kubernetes.io/h2c" | "grpc" | "http2" => PortProtocol::Http2,
        _ => PortProtocol::Opaque,
    }
}

/// `name.namespace.svc.cluster.local:80`, or one pod of a headless Service: `host.name.namespace.svc.cluster.local:80`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Authority {
    /// A pod's hostname.
    pub host: Option<String>,
    pub service: String,
    pub namespace: String,
    pub port: u16,
}

/// Why a text names no Service.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthorityError {
    #[error("{0:?} is an address, not a name")]
    Address(SocketAddr),
    #[error("{0:?} is not of the form name.namespace.svc.{1}:port")]
    Foreign(String, String),
    #[error("{0:?} is no host name")]
    NoName(String),
    #[error("{0:?} is no port (want 1 to 65535)")]
    Port(String),
}

impl Authority {
    /// Reads an authority; case and one trailing dot do not matter, the port is 80 unless given.
    pub fn parse(text: &str, cluster_domain: &str) -> Result<Authority, AuthorityError> {
        if let Ok(addr) = text.parse::<SocketAddr>() {
            return Err(AuthorityError::Address(addr));
        }
        let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
        if let Ok(ip) = bare.parse::<IpAddr>() {
            return Err(AuthorityError::Address(SocketAddr::new(ip, 80)));
        }
        let (host, port) = match text.rsplit_once(':') {
            None => (text, 80),
            Some((host, port)) => {
                let digits = !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
                let number = port.parse().ok().filter(|port: &u16| digits && *port > 0);
                (host, number.ok_or_else(|| AuthorityError::Port(shorten(port)))?)
            }
        };
        let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
        if host.is_empty() || host.len() > 253 || !host.split('.').all(is_label) {
            return Err(AuthorityError::NoName(shorten(&host)));
        }
        let foreign = || AuthorityError::Foreign(shorten(&host), cluster_domain.to_owned());
        let name = host
            .strip_suffix(cluster_domain)
            .and_then(|rest| rest.strip_suffix(".svc."))
            .ok_or_else(foreign)?;
        let labels: Vec<&str> = name.split('.').collect();
        let (instance, service, namespace) = match labels[..] {
            [service, namespace] => (None, service, namespace),
            [instance, service, namespace] => (Some(instance.to_owned()), service, namespace),
            _ => return Err(foreign()),
        };
        Ok(Authority { host: instance, service: service.into(), namespace: namespace.into(), port })
    }

    /// The authority in full.
    pub fn in_domain(&self, cluster_domain: &str) -> String {
        format!("{self}.svc.{cluster_domain}:{}", self.port)
    }
}

/// Without domain and port: `reviews.bookinfo`.
impl fmt::Display for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(host) = &self.host {
            write!(f, "{host}.")?;
        }
        write!(f, "{}.{}", self.service, self.namespace)
    }
}

fn is_label(label: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_';
    !label.is_empty()
        && label.len() <= 63
        && label.bytes().all(inner)
        && !label.starts_with('-')
        && !label.ends_with('-')
}

/// Texts from the network are not repeated at any length.
fn shorten(text: &str) -> String {
    text.chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<String, AuthorityError> {
        Authority::parse(text, "cluster.local").map(|a| a.in_domain("cluster.local"))
    }

    #[test]
    fn names_of_services_and_of_their_pods() {
        let full = "reviews.bookinfo.svc.cluster.local:9080";
        assert_eq!(parse(full).as_deref(), Ok(full));
        assert_eq!(parse("Reviews.BookInfo.svc.cluster.local.:9080").as_deref(), Ok(full));
        assert_eq!(parse("a.b.svc.cluster.local").as_deref(), Ok("a.b.svc.cluster.local:80"));
        assert_eq!(
            parse("web-0.web.ns.svc.cluster.local:1").as_deref(),
            Ok("web-0.web.ns.svc.cluster.local:1")
        );
    }

    #[test]
    fn everything_else_is_refused() {
        use AuthorityError::*;
        assert!(matches!(parse("10.0.0.1:80"), Err(Address(_))));
        assert!(matches!(parse("[::1]:80"), Err(Address(_))));
        assert!(matches!(parse("::1"), Err(Address(_))));
        assert!(matches!(parse("[::1:80"), Err(NoName(_))));
        for text in [
            "",
            ":80",
            "a..b.svc.cluster.local:1",
            "a\0.b.svc.cluster.local",
            "a%.b.svc.cluster.local:80",
            "-a.b.svc.cluster.local",
        ] {
            assert!(matches!(parse(text), Err(NoName(_))), "{text:?}");
        }
        for port in ["0", "65536", "", "+1", "x"] {
            assert!(matches!(parse(&format!("a.b.svc.cluster.local:{port}")), Err(Port(_))), "{port:?}");
        }
        for text in
            ["example.com:80", "a.b.svc.other.local:1", "b.svc.cluster.local", "a.b.c.d.svc.cluster.local"]
        {
            assert!(matches!(parse(text), Err(Foreign(..))), "{text:?}");
        }
        assert!(matches!(parse(&format!("{}.b.svc.cluster.local", "a".repeat(10_000))), Err(NoName(_))));
    }
}
