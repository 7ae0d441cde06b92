//! Command lines and environments of the demo's processes. A child gets what is written here and nothing of ours but PATH.

use super::{binaries::Binaries, pods::Pod, state_dir::StateDir};
use crate::arguments::DemoOptions;
use anyhow::ensure;
use mesh_api::{
    identity::Identity,
    names::{ADMIN_PORT, CONTROL_NAMESPACE, INBOUND_PORT, OUTBOUND_PORT, TRUST_DOMAIN},
};
use serde_json::json;
use std::{path::Path, process::Command};

#[derive(Debug)]
pub struct Launcher<'a> {
    pub options: &'a DemoOptions,
    pub binaries: &'a Binaries,
    pub state: &'a StateDir,
}

impl Launcher<'_> {
    pub fn operator(&self) -> Command {
        let mut command = bare(&self.binaries.operator);
        command.arg("--manifests").arg(&self.options.manifests);
        command.arg("--state-dir").arg(self.state.path());
        command.arg("--grpc-addr").arg(self.options.grpc_addr.to_string());
        command.arg("--http-addr").arg(self.options.dashboard_addr.to_string());
        command.arg("--log").arg(&self.options.log);
        command
    }

    /// The proxy has the Pod's address: peers reach it at 4143, its application at 4140, and whoever has no proxy at the
    /// Pod's own ports, as iptables would bring them there on a cluster.
    pub fn proxy(&self, pod: &Pod) -> anyhow::Result<Command> {
        let token = self.state.token(&pod.namespace, &pod.service_account);
        ensure!(
            token.is_file(),
            "Pod {}: the operator made no token for its ServiceAccount {}/{}: is the ServiceAccount in the manifests?",
            pod.name,
            pod.namespace,
            pod.service_account
        );
        let identity = Identity {
            service_account: pod.service_account.clone(),
            namespace: pod.namespace.clone(),
            control_namespace: CONTROL_NAMESPACE.into(),
            trust_domain: TRUST_DOMAIN.into(),
        };
        let ports: Vec<String> = pod.ports.iter().map(u16::to_string).collect();
        let mut command = bare(&self.binaries.proxy);
        for (name, value) in [
            ("OPERATOR_ADDR", self.options.grpc_addr.to_string()),
            ("IDENTITY_LOCAL_NAME", identity.to_string()),
            ("POLICY_WORKLOAD", json!({ "ns": pod.namespace, "pod": pod.name }).to_string()),
            ("DESTINATION_CONTEXT", json!({ "ns": pod.namespace, "pod": pod.name }).to_string()),
            ("INBOUND_LISTEN_ADDR", format!("{}:{INBOUND_PORT}", pod.ip)),
            ("OUTBOUND_LISTEN_ADDR", format!("{}:{OUTBOUND_PORT}", pod.ip)),
            ("ADMIN_LISTEN_ADDR", format!("{}:{ADMIN_PORT}", pod.ip)),
            ("INBOUND_IPS", pod.ip.to_string()),
            ("INBOUND_PORTS", ports.join(",")),
            ("INBOUND_DIRECT", "true".into()),
            ("INBOUND_APP_IP", pod.application_ip().to_string()),
            // Until the operator has said what applies, nothing does.
            ("INBOUND_DEFAULT_POLICY", "deny".into()),
            // A demo has few requests: each of them may be looked at.
            ("TRACE_SAMPLE_RATIO", "1".into()),
            ("SHUTDOWN_GRACE_PERIOD", "1s".into()),
            ("LOG", self.options.log.clone()),
        ] {
            command.env(format!("MESH_PROXY_{name}"), value);
        }
        command.env("MESH_PROXY_IDENTITY_TOKEN_FILE", token);
        command.env("MESH_PROXY_IDENTITY_TRUST_ANCHORS_FILE", self.state.trust_anchors());
        Ok(command)
    }

    /// The application knows its listening address and, when meshed, that it has a proxy; nothing else tells it of the mesh.
    pub fn application(&self, pod: &Pod) -> Command {
        let mut command = bare(&self.binaries.demo);
        command.args(&pod.args).envs(pod.env.iter().map(|(name, value)| (name, value)));
        command.env("HOSTNAME", &pod.name).env("LISTEN", pod.application_addr().to_string());
        if pod.meshed {
            command.env("http_proxy", format!("http://{}:{OUTBOUND_PORT}", pod.ip));
        }
        if let (true, Some(rps)) = (pod.is_traffic(), self.options.rps) {
            command.env("TRAFFIC_RPS", rps.to_string());
        }
        command
    }
}

fn bare(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.env_clear();
    for name in ["PATH", "RUST_BACKTRACE"] {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    command
}
