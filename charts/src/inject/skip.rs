//! Why a Pod gets no proxy.

use super::Injection;
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};
use mesh_api::{dns, identity::Identity, names};
use std::fmt;

/// What kubelet puts on the Pod by which it shows one that it runs from a file. With a token's volume in it, as a proxy needs, the API
/// server would refuse it.
const MIRROR: &str = "kubernetes.io/config.mirror";

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Skip {
    /// Neither Pod nor Namespace is annotated.
    NotAsked,
    /// An annotation says so.
    Disabled,
    /// Its namespace is the cluster's own or the operator's.
    LeftOut(String),
    /// What the API server shows of a Pod that kubelet runs from a file, in which nobody can put a proxy.
    Static,
    NoContainer,
    HostNetwork,
    /// It asks the node's DNS, so its proxy would not find the operator and never get a certificate.
    NodeDns,
    /// No certificate can be made for its ServiceAccount.
    NoIdentity(String),
    Windows,
    /// The container that another mesh left.
    OtherMesh(String),
    /// A container's own port is one of the proxy's.
    PortTaken {
        container: String,
        port: u16,
    },
    /// A container runs as the proxy's user, whose connections are not redirected.
    UserTaken(String),
    /// It would never end: a container beside the application's keeps a Pod alive.
    ClassicJob,
    Invalid {
        annotation: &'static str,
        value: String,
        want: &'static str,
    },
    /// The proxy would ask for more than it may use, and the API server refuse the Pod.
    AboveLimit {
        resource: String,
        request: String,
        limit: String,
    },
}

impl Skip {
    /// Whether somebody wanted a proxy there.
    pub fn is_worth_telling(&self) -> bool {
        !matches!(self, Skip::NotAsked | Skip::Disabled)
    }
}

impl fmt::Display for Skip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Skip::NotAsked => write!(f, "neither Pod nor Namespace is annotated {}: enabled", names::INJECT),
            Skip::Disabled => write!(f, "annotated {}: disabled", names::INJECT),
            Skip::LeftOut(namespace) => write!(f, "no Pod of namespace {namespace} gets a proxy"),
            Skip::Static => write!(f, "a static Pod: its node runs it from a file, which has no proxy in it"),
            Skip::NoContainer => write!(f, "the Pod has no container"),
            Skip::HostNetwork => {
                write!(f, "hostNetwork: redirecting its connections would redirect the node's")
            }
            Skip::NodeDns => {
                write!(f, "dnsPolicy: Default: the node's DNS does not know the operator's name")
            }
            Skip::NoIdentity(account) => write!(
                f,
                "ServiceAccount {account}: its identity is no DNS name, of at most 63 characters from dot to dot and 253 in all"
            ),
            Skip::Windows => write!(f, "the Pod is for Windows nodes"),
            Skip::OtherMesh(container) => write!(f, "container {container} is another mesh's proxy"),
            Skip::PortTaken { container, port } => {
                write!(f, "container {container} wants port {port}, which is the proxy's")
            }
            Skip::UserTaken(container) => write!(
                f,
                "container {container} runs as user {}, the proxy's, whose connections bypass the mesh",
                names::PROXY_UID
            ),
            Skip::ClassicJob => {
                write!(
                    f,
                    "a Pod that is to end needs native sidecars (Kubernetes 1.29 and later, nodes included)"
                )
            }
            Skip::Invalid { annotation, value, want } => write!(f, "{annotation}={value:?}: want {want}"),
            Skip::AboveLimit { resource, request, limit } => {
                write!(f, "the proxy's {resource} request {request} is above its limit {limit}")
            }
        }
    }
}

/// What the annotation wishes, where that is no proxy.
pub fn wish(inject: Option<&str>) -> Option<Skip> {
    match inject {
        Some("enabled") => None,
        Some("disabled") => Some(Skip::Disabled),
        Some(value) => Some(Skip::Invalid {
            annotation: names::INJECT,
            value: value.to_owned(),
            want: "enabled or disabled",
        }),
        None => Some(Skip::NotAsked),
    }
}

/// What keeps a proxy away from this Pod.
pub fn obstacle(pod: &Pod, spec: &PodSpec, injection: &Injection) -> Option<Skip> {
    const OTHERS: [&str; 5] = ["istio-proxy", "istio-init", "linkerd-proxy", "linkerd-init", "kuma-sidecar"];
    if pod.metadata.annotations.as_ref().is_some_and(|annotations| annotations.contains_key(MIRROR)) {
        return Some(Skip::Static);
    }
    if spec.containers.is_empty() {
        return Some(Skip::NoContainer);
    }
    if spec.host_network == Some(true) {
        return Some(Skip::HostNetwork);
    }
    let os = spec.os.as_ref().map(|os| os.name.as_str());
    let selected = spec.node_selector.as_ref().and_then(|labels| labels.get("kubernetes.io/os"));
    if os.or(selected.map(String::as_str)) == Some("windows") {
        return Some(Skip::Windows);
    }
    // Whoever names a server of its own may have meant the cluster's.
    let has_own = spec.dns_config.iter().any(|own| own.nameservers.iter().flatten().next().is_some());
    if spec.dns_policy.as_deref() == Some("Default") && !has_own {
        return Some(Skip::NodeDns);
    }
    let account = spec.service_account_name.as_deref().filter(|name| !name.is_empty()).unwrap_or("default");
    if !dns::is_name(&identity(pod, account, injection)) {
        return Some(Skip::NoIdentity(account.to_owned()));
    }
    if let Some(other) = containers(spec).find(|container| OTHERS.contains(&container.name.as_str())) {
        return Some(Skip::OtherMesh(other.name.clone()));
    }
    let of_pod = spec.security_context.as_ref().and_then(|context| context.run_as_user);
    for container in containers(spec) {
        let own = container.security_context.as_ref().and_then(|context| context.run_as_user);
        if own.or(of_pod) == Some(names::PROXY_UID) {
            return Some(Skip::UserTaken(container.name.clone()));
        }
        if let Some(port) = container.ports.iter().flatten().find_map(|port| ours(port.container_port)) {
            return Some(Skip::PortTaken { container: container.name.clone(), port });
        }
    }
    None
}

/// As the proxy will have it. A file may not say which namespace its Pod comes to.
fn identity(pod: &Pod, account: &str, injection: &Injection) -> String {
    let identity = Identity {
        service_account: account.to_owned(),
        namespace: pod.metadata.namespace.clone().unwrap_or_else(|| "default".into()),
        control_namespace: injection.control_namespace.clone(),
        trust_domain: injection.trust_domain.clone(),
    };
    identity.to_string()
}

/// Whether the Pod is to end by itself, as a Job's.
pub fn ends(spec: &PodSpec) -> bool {
    matches!(spec.restart_policy.as_deref(), Some("OnFailure" | "Never"))
}

/// Whether no Pod of this namespace gets a proxy, whatever annotations say: the cluster's own and the operator's must start without
/// us. The chart's webhooks leave out the same.
pub fn is_left_out(namespace: &str, control_namespace: &str) -> bool {
    namespace == "kube-system" || namespace == control_namespace
}

/// Init containers and the others.
pub fn containers(spec: &PodSpec) -> impl Iterator<Item = &Container> {
    spec.init_containers.iter().flatten().chain(&spec.containers)
}

fn ours(port: i32) -> Option<u16> {
    let ours = [names::INBOUND_PORT, names::OUTBOUND_PORT, names::ADMIN_PORT];
    u16::try_from(port).ok().filter(|port| ours.contains(port))
}
