//! What the mesh knows about a Pod.

use crate::{
    DefaultPolicy, World,
    identity::Identities,
    namespaces,
    pod::{Container, HTTPGetAction, Pod},
    ports::PortSet,
    reach::ZONE,
    world::Settings,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use mesh_api::names;
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    net::IpAddr,
    sync::Arc,
};

/// One Pod that has not ended.
#[derive(Clone, Debug, PartialEq)]
pub struct PodInfo {
    pub namespace: String,
    pub name: String,
    /// Owner's name (a ReplicaSet's hash stripped), else `app-version`, else the Pod's own name.
    pub workload: String,
    /// As its label says, else the workload.
    pub app: String,
    pub version: Option<String>,
    /// None before kubelet tells them, which it does a moment after the first containers have started.
    pub ips: Vec<IpAddr>,
    pub zone: Option<String>,
    pub node: Option<String>,
    /// Whether a proxy of this mesh stands beside it.
    pub meshed: bool,
    pub service_account: String,
    /// `Some` where meshed: what peers find in its certificate.
    pub identity: Option<String>,
    /// TCP container ports, ascending.
    pub ports: Vec<u16>,
    /// The object itself, for its labels: shared, as twenty thousand copies would be most of what these tables cost.
    object: Arc<Pod>,
    /// Ports that carry a name, for `targetPort: name`.
    pub named_ports: Vec<(String, u16)>,
    /// Forwarded unread, by the Pod's annotation, else the Namespace's, else the operator's flag.
    pub opaque_ports: PortSet,
    /// Not redirected to the Pod's proxy: whoever connects to them meets the application.
    pub skipped_ports: PortSet,
    /// By the Pod's annotation, else the Namespace's, else the operator's flag.
    pub default_policy: DefaultPolicy,
    /// Kubelet's, with their ports, in order.
    pub probes: Vec<(u16, Probe)>,
}

/// How kubelet asks a port whether all is well.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Probe {
    /// By `GET` of this path, in clear text.
    Http(String),
    /// By a request within TLS, which nobody but the application can read.
    Https,
    /// By gRPC's own health check.
    Grpc,
    /// By a connection and nothing else.
    Tcp,
}

impl PodInfo {
    /// Itself, and not its Namespace for all.
    pub fn declares_opaque_ports(&self) -> bool {
        self.object.template.annotations.contains_key(names::OPAQUE_PORTS)
    }

    pub fn labels(&self) -> &BTreeMap<String, String> {
        &self.object.template.labels
    }
}

/// All Pods of a world.
#[derive(Debug, Default)]
pub(crate) struct Pods {
    /// Those that have an address, by `(namespace, name)`.
    pub sorted: Vec<Arc<PodInfo>>,
    /// Those that have none yet, likewise. Nobody can call them but kubelet, and their proxies want to know what to say to it.
    pub coming: Vec<Arc<PodInfo>>,
    /// An address that two Pods claim belongs to neither.
    pub by_ip: HashMap<IpAddr, Option<Arc<PodInfo>>>,
    pub problems: Vec<(String, String)>,
    /// What was read of each object, in the world's order.
    read: Vec<Read>,
}

/// What was read of one object.
#[derive(Clone, Debug)]
struct Read {
    /// None where it has ended.
    pod: Option<Arc<PodInfo>>,
    problems: Box<[String]>,
}

impl Pods {
    /// The Pods of `now`, where ours are those of `before`. An object that is still the same is not read again.
    pub fn next(&self, before: &World, now: &World, settings: &Settings) -> Pods {
        let namespaces: BTreeMap<&str, &BTreeMap<String, String>> = now
            .namespaces
            .iter()
            .filter_map(|ns| Some((ns.metadata.name.as_deref()?, ns.metadata.annotations.as_ref()?)))
            .collect();
        let mut problems = vec![];
        for ns in now.namespaces.iter() {
            let name = ns.metadata.name.as_deref().unwrap_or_default();
            let odd =
                ns.metadata.annotations.iter().flat_map(odd_annotations).chain(namespaces::problems(ns));
            problems.extend(odd.map(|odd| (format!("Namespace {name}"), odd)));
        }
        // A Namespace says something about each of its Pods.
        let known: &[Arc<Pod>] = match Arc::ptr_eq(&before.namespaces, &now.namespaces) {
            true => &before.pods,
            false => &[],
        };
        let mut elsewhere = None;
        let mut already_read = |at: usize, pod: &Arc<Pod>| {
            if known.get(at).is_some_and(|known| Arc::ptr_eq(known, pod)) {
                return self.read.get(at);
            }
            let index = || known.iter().map(Arc::as_ptr).zip(&self.read).collect::<HashMap<_, _>>();
            elsewhere.get_or_insert_with(index).get(&Arc::as_ptr(pod)).copied()
        };
        let identities = settings.identities();
        let mut read = Vec::with_capacity(now.pods.len());
        let mut new = vec![];
        for (at, pod) in now.pods.iter().enumerate() {
            let namespace = pod.metadata.namespace.as_deref().unwrap_or("default");
            let one = already_read(at, pod).cloned().unwrap_or_else(|| {
                let annotations = namespaces.get(namespace).copied();
                let info = read_one(pod, annotations, settings, &identities).map(Arc::new);
                new.extend(info.clone());
                Read { pod: info, problems: odd_annotations(&pod.template.annotations).into() }
            });
            if !one.problems.is_empty() {
                let object = format!("Pod {namespace}/{}", pod.metadata.name.as_deref().unwrap_or_default());
                problems.extend(one.problems.iter().map(|odd| (object.clone(), odd.clone())));
            }
            read.push(one);
        }
        // Those that stay are in order: sorting them again costs one look at each.
        let staying: HashSet<_> = read.iter().flat_map(|one| &one.pod).map(Arc::as_ptr).collect();
        let stays = |info: &&Arc<PodInfo>| staying.contains(&Arc::as_ptr(info));
        let known = self.sorted.iter().chain(&self.coming);
        let mut sorted: Vec<Arc<PodInfo>> = known.filter(stays).cloned().chain(new).collect();
        sorted.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
        sorted.dedup_by(|a, b| a.namespace == b.namespace && a.name == b.name);
        let (sorted, coming): (Vec<_>, Vec<_>) = sorted.into_iter().partition(|pod| !pod.ips.is_empty());
        let by_ip = by_ip(&sorted, &mut problems);
        Pods { sorted, coming, by_ip, problems, read }
    }
}

/// By its name, in a list that is in that order.
pub(crate) fn find<'a>(sorted: &'a [Arc<PodInfo>], namespace: &str, name: &str) -> Option<&'a Arc<PodInfo>> {
    let found = sorted.binary_search_by(|pod| (&*pod.namespace, &*pod.name).cmp(&(namespace, name)));
    found.ok().map(|at| &sorted[at])
}

fn by_ip(
    pods: &[Arc<PodInfo>],
    problems: &mut Vec<(String, String)>,
) -> HashMap<IpAddr, Option<Arc<PodInfo>>> {
    let mut by_ip: HashMap<IpAddr, Option<Arc<PodInfo>>> = HashMap::with_capacity(pods.len());
    // A node's address is that of all Pods which share its network, and none's.
    for pod in pods.iter().filter(|pod| !pod.object.template.host_network) {
        for ip in &pod.ips {
            let Some(claimed) = by_ip.insert(*ip, Some(pod.clone())) else { continue };
            by_ip.insert(*ip, None);
            let other = claimed.as_ref().map(|other| other.name.as_str()).unwrap_or_default();
            problems.push((
                format!("Pod {}/{}", pod.namespace, pod.name),
                format!("address {ip} is also that of Pod {other}"),
            ));
        }
    }
    by_ip
}

fn read_one(
    pod: &Arc<Pod>,
    namespace_annotations: Option<&BTreeMap<String, String>>,
    settings: &Settings,
    identities: &Identities,
) -> Option<PodInfo> {
    let (template, status) = (&pod.template, &pod.status);
    if matches!(status.phase.as_deref(), Some("Succeeded" | "Failed")) {
        return None;
    }
    let mut ips: Vec<IpAddr> = vec![];
    let all = status.pod_ip.iter().chain(status.pod_ips.iter().map(|ip| &ip.ip));
    for ip in all.filter_map(|ip| ip.parse().ok()) {
        if !ips.contains(&ip) {
            ips.push(ip);
        }
    }
    ips.shrink_to_fit();
    let name = pod.metadata.name.clone()?;
    let namespace = pod.metadata.namespace.clone().unwrap_or_else(|| "default".into());
    let labels = &template.labels;
    let annotation = |key: &str| {
        let own = template.annotations.get(key);
        own.or_else(|| namespace_annotations.and_then(|all| all.get(key))).map(String::as_str)
    };
    let service_account = template
        .service_account_name
        .clone()
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| "default".into());
    let meshed = labels.get(names::CONTROL_NAMESPACE_LABEL) == Some(&settings.control_namespace);
    let declared = template.containers.iter().flat_map(|container| &container.ports);
    let tcp = declared.filter(|port| port.protocol.as_deref().unwrap_or("TCP") == "TCP");
    let tcp: Vec<(Option<&String>, u16)> =
        tcp.filter_map(|port| Some((port.name.as_ref(), u16::try_from(port.container_port).ok()?))).collect();
    let mut named_ports: Vec<(String, u16)> =
        tcp.iter().filter_map(|(name, port)| Some(((*name)?.clone(), *port))).collect();
    named_ports.shrink_to_fit();
    let mut ports: Vec<u16> = tcp.iter().map(|(_, port)| *port).collect();
    ports.sort_unstable();
    ports.dedup();
    ports.shrink_to_fit();
    let opaque_ports = match annotation(names::OPAQUE_PORTS) {
        Some(text) => PortSet::parse(text).0,
        None => settings.opaque_ports.clone(),
    };
    let skipped_ports = annotation(names::SKIP_INBOUND_PORTS).map(|text| PortSet::parse(text).0);
    let probes = probes(&template.containers, &named_ports);
    let workload = workload(pod, &name, labels);
    Some(PodInfo {
        app: label(labels, &["app", "app.kubernetes.io/name"]).unwrap_or(&workload).to_owned(),
        workload,
        version: label(labels, &["version", "app.kubernetes.io/version"]).map(str::to_owned),
        zone: labels.get(ZONE).cloned(),
        node: pod.node_name.clone(),
        identity: meshed.then(|| identities.of(&namespace, &service_account)),
        // Somebody wanted something else than the default: as long as nobody can tell what, nothing is allowed.
        default_policy: match annotation(names::DEFAULT_POLICY) {
            Some(text) => DefaultPolicy::parse(text).unwrap_or(DefaultPolicy::Deny),
            None => settings.default_policy,
        },
        ports,
        object: pod.clone(),
        namespace,
        name,
        ips,
        meshed,
        service_account,
        named_ports,
        opaque_ports,
        skipped_ports: skipped_ports.unwrap_or_default(),
        probes,
    })
}

fn label<'a>(labels: &'a BTreeMap<String, String>, keys: &[&str]) -> Option<&'a str> {
    keys.iter().find_map(|key| labels.get(*key)).map(String::as_str).filter(|value| !value.is_empty())
}

fn is_minute(text: &str) -> bool {
    text.len() == 8 && text.bytes().all(|b| b.is_ascii_digit())
}

fn workload(pod: &Pod, name: &str, labels: &BTreeMap<String, String>) -> String {
    let owners = pod.template.owners.iter();
    if let Some(owner) = owners.clone().find(|owner| owner.controller == Some(true)).or(owners.clone().next())
    {
        let stripped = match owner.kind.as_str() {
            // A Deployment's, or a Rollout's of Argo.
            "ReplicaSet" => ["pod-template-hash", "rollouts-pod-template-hash"].iter().find_map(|hash| {
                owner.name.strip_suffix(labels.get(*hash)?.as_str())?.strip_suffix('-').map(str::to_owned)
            }),
            // A CronJob's, by the minute that it was due at, since 1970.
            "Job" => {
                owner.name.rsplit_once('-').filter(|(_, due)| is_minute(due)).map(|(name, _)| name.to_owned())
            }
            _ => None,
        };
        return stripped.unwrap_or_else(|| owner.name.clone());
    }
    let app = label(labels, &["app", "app.kubernetes.io/name"]);
    match (app, label(labels, &["version", "app.kubernetes.io/version"])) {
        (Some(app), Some(version)) => format!("{app}-{version}"),
        (Some(app), None) => app.to_owned(),
        (None, _) => name.to_owned(),
    }
}

/// Kubelet has no certificate, so a port's policy must let it in. What it runs inside of a container is not seen here.
fn probes(containers: &[Container], named_ports: &[(String, u16)]) -> Vec<(u16, Probe)> {
    let mut probes = vec![];
    for container in containers {
        let all = [&container.liveness_probe, &container.readiness_probe, &container.startup_probe];
        for probe in all.into_iter().flatten() {
            let http = probe.http_get.as_ref().and_then(|get| http(get, named_ports));
            let grpc =
                probe.grpc.as_ref().and_then(|grpc| Some((u16::try_from(grpc.port).ok()?, Probe::Grpc)));
            let tcp = probe.tcp_socket.as_ref();
            let tcp = tcp.and_then(|tcp| Some((number(&tcp.port, named_ports)?, Probe::Tcp)));
            probes.extend([http, grpc, tcp].into_iter().flatten());
        }
    }
    probes.sort_unstable();
    probes.dedup();
    probes.shrink_to_fit();
    probes
}

fn http(get: &HTTPGetAction, named_ports: &[(String, u16)]) -> Option<(u16, Probe)> {
    let probe = match get.scheme.as_deref() {
        Some("HTTPS") => Probe::Https,
        Some(_) | None => Probe::Http(asked(get.path.as_deref().unwrap_or("/"))),
    };
    Some((number(&get.port, named_ports)?, probe))
}

/// The path that kubelet asks for: it puts a slash in front where there is none, and escapes what no request line can hold.
fn asked(path: &str) -> String {
    let path = path.split(['?', '#']).next().unwrap_or_default();
    let mut asked = String::from(if path.starts_with('/') { "" } else { "/" });
    for byte in path.bytes() {
        match byte {
            b' ' | b'"' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}' | 0..0x20 | 0x7f.. => {
                asked.push_str(&format!("%{byte:02X}"));
            }
            _ => asked.push(byte.into()),
        }
    }
    asked
}

/// The port that a number or the name of a container's port means.
pub(crate) fn number(port: &IntOrString, named_ports: &[(String, u16)]) -> Option<u16> {
    match port {
        IntOrString::Int(port) => u16::try_from(*port).ok(),
        IntOrString::String(name) => named_ports.iter().find(|(own, _)| own == name).map(|(_, port)| *port),
    }
}

/// Annotations that look like ours and are none.
pub(crate) fn unknown(annotations: &BTreeMap<String, String>) -> impl Iterator<Item = String> {
    let is_ours =
        |name: &&String| name.strip_prefix(names::API_GROUP).is_some_and(|rest| rest.starts_with('/'));
    let unknown = annotations.keys().filter(is_ours).filter(|name| !names::MARKS.contains(&name.as_str()));
    unknown.map(|name| format!("annotation {name} is none that the mesh knows"))
}

/// What is wrong with an object's annotations.
fn odd_annotations(annotations: &BTreeMap<String, String>) -> Vec<String> {
    let mut odd: Vec<String> = unknown(annotations).collect();
    // An injector that has seen it has said so on the Pod.
    if let Some(text) = annotations.get(names::INJECT)
        && !["enabled", "disabled"].contains(&text.as_str())
    {
        odd.push(format!("annotation {}={text:?} means nothing: want enabled or disabled", names::INJECT));
    }
    if let Some(text) = annotations.get(names::DEFAULT_POLICY)
        && DefaultPolicy::parse(text).is_none()
    {
        let want = "want allow-all, mesh-only or deny";
        odd.push(format!(
            "annotation {}={text:?} means nothing, so nobody is let in: {want}",
            names::DEFAULT_POLICY
        ));
    }
    if let Some(text) = annotations.get(names::OPAQUE_PORTS) {
        let bad = PortSet::parse(text).1;
        odd.extend(bad.into_iter().map(|bad| format!("annotation {}: {bad}", names::OPAQUE_PORTS)));
    }
    odd
}
