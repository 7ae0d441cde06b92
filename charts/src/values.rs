//! The chart's values. These types are their one description: `values.yaml`, `values.schema.json` and the reference page are
//! written from them (`reference`), and what a user gives is read by them (`given`).

mod given;
mod reference;
mod sense;

pub use given::{Given, Invalid};
pub use reference::{commented_yaml, json_schema, markdown};

use mesh_api::names;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A Kubernetes object that is passed on as it is.
type Verbatim = serde_json::Value;

/// All values of the chart.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Values {
    pub namespace: Namespace,
    /// Three operators on different nodes, of which one may be away at a time.
    pub ha: bool,
    pub images: Images,
    /// DNS suffix of the cluster's Services.
    pub cluster_domain: String,
    /// What a port allows that no AuthorizationPolicy selects: allow-all, mesh-only or deny.
    pub default_policy: DefaultPolicy,
    /// Networks (CIDR) that kubelet probes from. They reach ports with a probe over HTTPS, and opaque ports with any, whatever policy
    /// says: such a probe can be told from other connections by its address only. Empty: such probes need a policy.
    pub probe_networks: String,
    pub identity: Identity,
    pub operator: Operator,
    pub proxy: Proxy,
    pub webhook: Webhook,
    pub reconcile: Reconcile,
    pub network_policy: NetworkPolicy,
    /// Not read. Helm passes it when this chart is a part of another one.
    pub global: BTreeMap<String, Verbatim>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Namespace {
    /// Where the operator lives; also the control-plane part of every identity.
    pub name: String,
    /// Make that namespace, with the `restricted` Pod Security level. Left out where it is the release's own, which Helm makes.
    pub create: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Images {
    /// Put before both names, such as `registry.example.com/mesh/`.
    pub registry: String,
    /// The operator's image.
    pub operator: String,
    /// The proxy's image; also the init container's.
    pub proxy: String,
    /// Tag of both. Empty: this version of the mesh.
    pub tag: String,
    /// When nodes pull: Always, IfNotPresent or Never.
    pub pull_policy: PullPolicy,
    /// Names of Secrets in the operator's namespace that its image is pulled with.
    pub pull_secrets: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Identity {
    /// The end of every identity.
    #[schemars(regex(
        pattern = r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?(\.[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)*$"
    ))]
    pub trust_domain: String,
    /// How long a proxy's certificate is valid; it is renewed at 70 % of that, and after a day at the latest.
    #[schemars(regex(pattern = r"^[0-9]{1,9}(ms|s|m|h|d)$"))]
    pub leaf_lifetime: String,
    /// Secret of your own in the operator's namespace, as cert-manager writes it: an issuer in `tls.crt` and `tls.key`, its root
    /// in `ca.crt`. Empty: the operator makes and renews both.
    pub issuer_secret: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Operator {
    /// What it logs: error, warn, info, debug, or a list of target=level.
    pub log: String,
    /// OTLP/gRPC collector that all telemetry is passed on to, in plaintext. Empty: none.
    pub otlp_forward: String,
    /// Host names under which the API and the dashboard are served, besides localhost: an ingress's, or the Service's own for
    /// programs in the cluster. All others get 403.
    pub dashboard_hosts: Vec<String>,
    /// What it asks for, and may use at most.
    pub resources: Resources,
    /// Labels that its nodes must have.
    pub node_selector: BTreeMap<String, String>,
    /// Taints that it tolerates, as in a Pod.
    pub tolerations: Vec<BTreeMap<String, Verbatim>>,
    /// Empty: the cluster's default.
    pub priority_class_name: String,
    /// Further annotations of its Pods.
    pub pod_annotations: BTreeMap<String, String>,
}

/// The sidecar, where neither Pod nor Namespace says otherwise by an annotation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Proxy {
    /// native: an init container that stays, started before and ended after the others. classic: a container beside them, also
    /// used where the API server or a node is older than Kubernetes 1.29.
    pub sidecar: Sidecar,
    /// Who redirects the Pod's connections. sidecar: the proxy itself, which begins as root and gives that up before it serves.
    /// init: a container of its own that ends, so that nothing of the Pod's is root for longer; Pods are ready a second later.
    pub redirection: Redirection,
    /// What it asks for, and may use at most.
    pub resources: Resources,
    /// Worker threads.
    #[schemars(range(min = 1))]
    pub cores: u16,
    /// What it logs: a tracing filter.
    pub log: String,
    /// plain or json.
    pub log_format: LogFormat,
    /// One JSON line per inbound request on standard output.
    pub access_log: bool,
    /// Share of requests that start a trace, 0 to 1.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub trace_sample_ratio: f64,
    /// How long an endpoint may take to accept a connection, TLS included.
    #[schemars(regex(pattern = r"^[1-9][0-9]{0,8}(ms|s|m|h|d)$"))]
    pub outbound_connect_timeout: String,
    /// How long requests under way may take when a Pod ends.
    #[schemars(regex(pattern = r"^[0-9]{1,9}(ms|s|m|h|d)$"))]
    pub shutdown_grace_period: String,
    /// How long a classic sidecar goes on as before when its Pod ends: as long as the application's preStop takes.
    #[schemars(regex(pattern = r"^[0-9]{1,9}(ms|s|m|h|d)$"))]
    pub shutdown_delay: String,
    /// Ports, and ranges such as 8000-8010, whose bytes are forwarded unread.
    #[schemars(regex(pattern = r"^[-0-9, ]*$"))]
    pub opaque_ports: String,
    /// Ports whose inbound connections bypass the proxy.
    #[schemars(regex(pattern = r"^[-0-9, ]*$"))]
    pub skip_inbound_ports: String,
    /// Ports whose outbound connections bypass the proxy.
    #[schemars(regex(pattern = r"^[-0-9, ]*$"))]
    pub skip_outbound_ports: String,
    /// Networks (CIDR) whose connections bypass the proxy in both directions.
    pub skip_networks: String,
    /// Networks (CIDR) from which a proxy's metrics may be read, at the port `mesh-admin` (4191). Empty: from its own Pod only.
    pub metrics_networks: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Resources {
    /// Held for it on its node.
    pub requests: BTreeMap<String, String>,
    /// The most it gets.
    pub limits: BTreeMap<String, String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Webhook {
    /// What the API server does with a new Pod of a meshed namespace when no operator answers. Ignore: the Pod starts without a
    /// proxy, and is found and shown later. Fail: it does not start.
    pub failure_policy: FailurePolicy,
    /// How long the API server waits for an answer, 1 to 30. An operator that is busy, or has not heard of the Namespace yet, takes up
    /// to 5 s: with less, `failurePolicy` decides about such a Pod.
    #[schemars(range(min = 1, max = 30))]
    pub timeout_seconds: u16,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Reconcile {
    /// Lets the operator restart workloads that should be meshed and are not, in namespaces annotated `mesh.dev/reconcile: restart`.
    /// Without, it has no right to change a workload.
    pub enabled: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct NetworkPolicy {
    /// Lets others reach the operator's own ports only.
    pub enabled: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum DefaultPolicy {
    AllowAll,
    MeshOnly,
    Deny,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum PullPolicy {
    Always,
    IfNotPresent,
    Never,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Sidecar {
    Native,
    Classic,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Redirection {
    Sidecar,
    Init,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    Plain,
    Json,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum FailurePolicy {
    Ignore,
    Fail,
}

impl Default for Values {
    fn default() -> Self {
        Values {
            namespace: Namespace::default(),
            ha: false,
            images: Images::default(),
            cluster_domain: "cluster.local".into(),
            default_policy: DefaultPolicy::AllowAll,
            probe_networks: String::new(),
            identity: Identity::default(),
            operator: Operator::default(),
            proxy: Proxy::default(),
            webhook: Webhook::default(),
            reconcile: Reconcile::default(),
            network_policy: NetworkPolicy::default(),
            global: BTreeMap::new(),
        }
    }
}

impl Default for Namespace {
    fn default() -> Self {
        Namespace { name: names::OPERATOR_NAMESPACE.into(), create: true }
    }
}

impl Default for Images {
    fn default() -> Self {
        Images {
            registry: String::new(),
            operator: "mesh-operator".into(),
            proxy: "mesh-proxy".into(),
            tag: String::new(),
            pull_policy: PullPolicy::IfNotPresent,
            pull_secrets: vec![],
        }
    }
}

impl Default for Identity {
    fn default() -> Self {
        Identity {
            trust_domain: names::TRUST_DOMAIN.into(),
            leaf_lifetime: "24h".into(),
            issuer_secret: String::new(),
        }
    }
}

impl Default for Operator {
    fn default() -> Self {
        Operator {
            log: "info".into(),
            otlp_forward: String::new(),
            dashboard_hosts: vec![],
            resources: Resources {
                requests: quantities(&[("cpu", "100m"), ("memory", "64Mi")]),
                limits: quantities(&[("memory", "512Mi")]),
            },
            node_selector: quantities(&[("kubernetes.io/os", "linux")]),
            tolerations: vec![],
            priority_class_name: String::new(),
            pod_annotations: BTreeMap::new(),
        }
    }
}

impl Default for Proxy {
    fn default() -> Self {
        let ports: Vec<String> = names::DEFAULT_OPAQUE_PORTS.iter().map(u16::to_string).collect();
        Proxy {
            sidecar: Sidecar::Native,
            redirection: Redirection::Sidecar,
            resources: Resources {
                requests: quantities(&[("cpu", "10m"), ("memory", "16Mi")]),
                limits: quantities(&[("memory", "256Mi")]),
            },
            cores: 1,
            log: "warn,mesh_proxy=info".into(),
            log_format: LogFormat::Plain,
            access_log: false,
            trace_sample_ratio: 0.01,
            outbound_connect_timeout: "1s".into(),
            shutdown_grace_period: "2m".into(),
            shutdown_delay: "0s".into(),
            opaque_ports: ports.join(","),
            skip_inbound_ports: String::new(),
            skip_outbound_ports: String::new(),
            skip_networks: String::new(),
            metrics_networks: String::new(),
        }
    }
}

impl Default for Webhook {
    fn default() -> Self {
        Webhook { failure_policy: FailurePolicy::Ignore, timeout_seconds: 5 }
    }
}

impl Default for Reconcile {
    fn default() -> Self {
        Reconcile { enabled: true }
    }
}

impl Default for NetworkPolicy {
    fn default() -> Self {
        NetworkPolicy { enabled: true }
    }
}

fn quantities(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

#[cfg(test)]
mod tests;
