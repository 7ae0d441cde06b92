//! The operator's command line. Every flag can also be set by the environment, as `MESH_OPERATOR_<FLAG>`.

pub mod environment;
pub mod flags;
pub mod reference;

use clap::{ArgGroup, Parser};
use ipnet::IpNet;
use mesh_api::dns;
use mesh_policy::{Authority, DefaultPolicy, PortSet, Settings};
use std::{net::SocketAddr, path::PathBuf, time::Duration};

/// How all of our variables begin.
const ENVIRONMENT: &str = "MESH_OPERATOR_";

/// The control plane of the mesh: certificates, discovery, policy, telemetry, API and dashboard in one process.
#[derive(Clone, Debug, Parser)]
#[command(name = "mesh-operator", version)]
#[command(group(ArgGroup::new("source").required(true).args(["manifests", "cluster", "reference"])))]
pub struct Config {
    /// Standalone mode: folder of Kubernetes objects as YAML (`*.yaml`, `*.yml`), watched for changes.
    #[arg(long, value_name = "DIR", requires = "state_dir", env = "MESH_OPERATOR_MANIFESTS")]
    pub manifests: Option<PathBuf>,

    /// The objects of a Kubernetes cluster: the one we run in, or the kubeconfig's.
    #[arg(long, env = "MESH_OPERATOR_CLUSTER")]
    pub cluster: bool,

    /// Standalone mode: where keys, tokens and the trust anchors are kept.
    #[arg(long, value_name = "DIR", env = "MESH_OPERATOR_STATE_DIR")]
    pub state_dir: Option<PathBuf>,

    /// Where proxies ask: identity, destinations, policy, telemetry.
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:8086", env = "MESH_OPERATOR_GRPC_ADDR")]
    pub grpc_addr: SocketAddr,

    /// Where people ask: JSON API and dashboard.
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:8084", env = "MESH_OPERATOR_HTTP_ADDR")]
    pub http_addr: SocketAddr,

    /// On a cluster: where the API server asks what to do with a new Pod.
    #[arg(long, value_name = "IP:PORT", default_value = "0.0.0.0:8443", env = "MESH_OPERATOR_WEBHOOK_ADDR")]
    pub webhook_addr: SocketAddr,

    /// On a cluster: `/live`, `/ready` and `/metrics`.
    #[arg(long, value_name = "IP:PORT", default_value = "0.0.0.0:9990", env = "MESH_OPERATOR_ADMIN_ADDR")]
    pub admin_addr: SocketAddr,

    /// On a cluster: what the injector writes into Pods, as the chart's ConfigMap holds it. Without, no Pod gets a proxy from us.
    #[arg(long, value_name = "FILE", env = "MESH_OPERATOR_INJECTION")]
    pub injection: Option<PathBuf>,

    /// On a cluster: name of the Pod that we run in, by which replicas know each other.
    #[arg(long, value_name = "NAME", env = "MESH_OPERATOR_POD")]
    pub pod: Option<String>,

    /// On a cluster: a Secret in cert-manager's form (`tls.crt`, `tls.key`, `ca.crt`) with the issuer to sign with, instead of
    /// one of our own making.
    #[arg(long, value_name = "NAME", env = "MESH_OPERATOR_ISSUER_SECRET")]
    pub issuer_secret: Option<String>,

    /// On a cluster: restart no workload that should be meshed and is not, whatever its namespace asks for.
    #[arg(long, env = "MESH_OPERATOR_NO_RESTARTS")]
    pub no_restarts: bool,

    /// End of every identity.
    #[arg(long, value_name = "DOMAIN", default_value = mesh_api::names::TRUST_DOMAIN, value_parser = trust_domain, env = "MESH_OPERATOR_TRUST_DOMAIN")]
    pub trust_domain: String,

    /// DNS domain of the cluster's Services, as kubelet has it.
    #[arg(long, value_name = "DOMAIN", default_value = "cluster.local", value_parser = cluster_domain, env = "MESH_OPERATOR_CLUSTER_DOMAIN")]
    pub cluster_domain: String,

    /// Namespace of the operator, part of every identity.
    #[arg(long, value_name = "NAME", alias = "control-namespace", default_value = mesh_api::names::CONTROL_NAMESPACE, env = "MESH_OPERATOR_NAMESPACE")]
    pub namespace: String,

    /// What a port allows that no AuthorizationPolicy selects: allow-all, mesh-only or deny.
    #[arg(long, value_name = "POLICY", default_value = "allow-all", env = "MESH_OPERATOR_DEFAULT_POLICY")]
    pub default_policy: DefaultPolicy,

    /// Ports, and ranges such as 8000-8010, whose bytes are forwarded unread, where neither Pod, Service nor Namespace says otherwise.
    #[arg(long, value_name = "PORTS", default_value_t = Settings::default().opaque_ports, value_parser = opaque_ports, env = "MESH_OPERATOR_OPAQUE_PORTS")]
    pub opaque_ports: PortSet,

    /// Networks (CIDR) that kubelet probes from: they reach ports with a probe over HTTPS, and opaque ports with any, whatever policy says.
    #[arg(long, value_name = "NETWORKS", value_delimiter = ',', env = "MESH_OPERATOR_PROBE_NETWORKS")]
    pub probe_networks: Vec<IpNet>,

    /// How long a proxy's certificate is valid, such as 24h or 90s.
    #[arg(long, value_name = "DURATION", default_value = "24h", value_parser = leaf_lifetime, env = "MESH_OPERATOR_LEAF_LIFETIME")]
    pub leaf_lifetime: Duration,

    /// Serve the dashboard from this folder instead of the built-in one.
    #[arg(long, value_name = "DIR", env = "MESH_OPERATOR_DASHBOARD_DIR")]
    pub dashboard_dir: Option<PathBuf>,

    /// A further host name under which browsers may open the dashboard; repeatable.
    #[arg(long, value_name = "HOST", env = "MESH_OPERATOR_DASHBOARD_ALLOWED_HOST", value_delimiter = ',')]
    pub dashboard_allowed_host: Vec<String>,

    /// Pass all telemetry on to this OTLP/gRPC collector, in plaintext.
    #[arg(long, value_name = "URL", value_parser = collector, env = "MESH_OPERATOR_OTLP_FORWARD")]
    pub otlp_forward: Option<String>,

    /// What to log: error, warn, info, debug, or a list of target=level.
    #[arg(long, value_name = "FILTER", default_value = "info", env = "MESH_OPERATOR_LOG")]
    pub log: String,

    /// Print the reference page of these settings, and end.
    #[arg(long, hide = true, exclusive = true)]
    pub reference: bool,
}

impl Config {
    pub fn settings(&self) -> Settings {
        Settings {
            trust_domain: self.trust_domain.clone(),
            control_namespace: self.namespace.clone(),
            cluster_domain: self.cluster_domain.clone(),
            default_policy: self.default_policy,
            opaque_ports: self.opaque_ports.clone(),
            probe_networks: self.probe_networks.clone(),
        }
    }
}

/// A certificate that lives shorter than this is renewed all the time.
const SHORTEST_LEAF: Duration = Duration::from_secs(10);

fn leaf_lifetime(text: &str) -> Result<Duration, String> {
    let lifetime = mesh_policy::parse_duration(text)?;
    if lifetime < SHORTEST_LEAF { Err("want at least 10s".into()) } else { Ok(lifetime) }
}

/// TLS is not spoken to it, and who asks for it is not to believe that it is.
fn collector(text: &str) -> Result<String, String> {
    match text.starts_with("https:") {
        true => Err("want an address such as http://collector:4317, as TLS is not spoken".into()),
        false => Ok(text.to_owned()),
    }
}

/// One whose identities a proxy takes and a certificate can prove.
fn trust_domain(text: &str) -> Result<String, String> {
    let identity = format!("name.namespace.serviceaccount.identity.mesh.{text}");
    match dns::is_name(&identity) {
        true => Ok(text.to_owned()),
        false => Err("want a domain in lower case without a dot at its end, such as cluster.local".into()),
    }
}

/// One in which a Service's name can be read.
fn cluster_domain(text: &str) -> Result<String, String> {
    match Authority::parse(&format!("name.namespace.svc.{text}"), text) {
        Ok(_) => Ok(text.to_owned()),
        Err(_) => Err("want a domain in lower case without a dot at its end, such as cluster.local".into()),
    }
}

/// None are fine too.
fn opaque_ports(text: &str) -> Result<PortSet, String> {
    let (ports, bad) = PortSet::parse(text);
    if bad.is_empty() { Ok(ports) } else { Err(bad.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::Config;
    use clap::{CommandFactory, Parser};

    #[test]
    fn flags_are_consistent() {
        Config::command().debug_assert();
    }

    #[test]
    fn objects_come_from_one_place() {
        let parse = |flags: &[&str]| Config::try_parse_from([&["mesh-operator"], flags].concat()).is_ok();
        assert!(parse(&["--cluster"]) && parse(&["--manifests", "m", "--state-dir", "s"]));
        assert!(!parse(&[]) && !parse(&["--manifests", "m"]) && !parse(&["--state-dir", "s"]));
        assert!(!parse(&["--cluster", "--manifests", "m", "--state-dir", "s"]));
    }

    #[test]
    fn wrong_values_are_refused_by_name() {
        for (flag, value) in [
            ("--grpc-addr", "nowhere"),
            ("--default-policy", "open"),
            ("--leaf-lifetime", "1s"),
            ("--opaque-ports", "80,http"),
            ("--probe-networks", "nodes"),
            ("--cluster-domain", "Example.org"),
            ("--cluster-domain", "example.org."),
            ("--cluster-domain", ""),
            ("--trust-domain", "Prod.Example.com"),
            ("--trust-domain", "prod_eu"),
            ("--trust-domain", "prod.-eu"),
            ("--trust-domain", ""),
            ("--leaf-lifetime", "a day"),
            ("--otlp-forward", "https://collector:4317"),
        ] {
            let base = ["mesh-operator", "--manifests", "m", "--state-dir", "s", flag, value];
            let error = Config::try_parse_from(base).expect_err(flag).to_string();
            assert!(error.contains(flag), "{error}");
        }
    }
}
