//! The containers and volumes of a meshed Pod.

use super::{Injection, settings::Settings, skip};
use crate::values::{LogFormat, PullPolicy, Redirection, Sidecar};
use k8s_openapi::{
    api::core::v1::{
        Capabilities, ConfigMapVolumeSource, Container, ContainerPort, EnvVar, EnvVarSource, ExecAction,
        HTTPGetAction, Lifecycle, LifecycleHandler, ObjectFieldSelector, PodSpec, Probe,
        ProjectedVolumeSource, ResourceRequirements, SeccompProfile, SecurityContext,
        ServiceAccountTokenProjection, Volume, VolumeMount, VolumeProjection,
    },
    apimachinery::pkg::{api::resource::Quantity, util::intstr::IntOrString},
};
use mesh_api::names;
use std::collections::{BTreeMap, BTreeSet};

/// Where the program is in its image.
const PROGRAM: &str = "/mesh-proxy";
const TOKEN_VOLUME: &str = "mesh-identity-token";
const TOKEN_FOLDER: &str = "/var/run/mesh/token";
const TOKEN_FILE: &str = "token";
/// Kubelet renews it at 80 % of that; a proxy shows it once a day.
const TOKEN_LIFE_S: i64 = 3_600;
const ANCHORS_VOLUME: &str = names::TRUST_ANCHORS_CONFIG_MAP;
const ANCHORS_FOLDER: &str = "/var/run/mesh/trust-anchors";

/// Names of the volumes that are ours.
pub const VOLUMES: [&str; 2] = [TOKEN_VOLUME, ANCHORS_VOLUME];

/// The token that proves who we are, and the roots we trust. Both are re-read by the proxy when kubelet renews them.
pub fn volumes() -> Vec<Volume> {
    let token = ServiceAccountTokenProjection {
        audience: Some(names::TOKEN_AUDIENCE.into()),
        expiration_seconds: Some(TOKEN_LIFE_S),
        path: TOKEN_FILE.into(),
    };
    let sources = vec![VolumeProjection { service_account_token: Some(token), ..Default::default() }];
    vec![
        Volume {
            name: TOKEN_VOLUME.into(),
            projected: Some(ProjectedVolumeSource { sources: Some(sources), ..Default::default() }),
            ..Default::default()
        },
        Volume {
            name: ANCHORS_VOLUME.into(),
            config_map: Some(ConfigMapVolumeSource {
                name: names::TRUST_ANCHORS_CONFIG_MAP.into(),
                ..Default::default()
            }),
            ..Default::default()
        },
    ]
}

/// Redirects the Pod's connections to the proxy, and ends.
pub fn init(spec: &PodSpec, settings: &Settings, injection: &Injection) -> Container {
    Container {
        name: names::INIT_CONTAINER.into(),
        image: Some(settings.image.clone()),
        image_pull_policy: Some(pull_policy(injection.pull_policy).into()),
        command: Some(vec![PROGRAM.into()]),
        args: Some(redirecting("init", settings)),
        resources: resources(spec, settings),
        security_context: Some(SecurityContext { run_as_group: Some(0), ..root(&["NET_ADMIN"]) }),
        termination_message_policy: Some("FallbackToLogsOnError".into()),
        ..Default::default()
    }
}

/// A subcommand that redirects.
fn redirecting(subcommand: &str, settings: &Settings) -> Vec<String> {
    let mut inbound = vec![names::ADMIN_PORT.to_string()];
    inbound.extend(Some(settings.proxy.skip_inbound_ports.clone()).filter(|ports| !ports.is_empty()));
    let mut args = vec![
        subcommand.to_owned(),
        format!("--incoming-proxy-port={}", names::INBOUND_PORT),
        format!("--outgoing-proxy-port={}", names::OUTBOUND_PORT),
        format!("--proxy-uid={}", names::PROXY_UID),
        format!("--inbound-ports-to-ignore={}", inbound.join(",")),
    ];
    for (flag, value) in [
        ("--outbound-ports-to-ignore", &settings.proxy.skip_outbound_ports),
        ("--subnets-to-ignore", &settings.proxy.skip_networks),
    ] {
        if !value.is_empty() {
            args.push(format!("{flag}={value}"));
        }
    }
    args
}

pub fn proxy(
    spec: &PodSpec,
    settings: &Settings,
    sidecar: Sidecar,
    redirection: Redirection,
    injection: &Injection,
) -> Container {
    let (args, user) = match redirection {
        // It becomes its own user when it has redirected.
        Redirection::Sidecar => (Some(redirecting("start", settings)), root(&["NET_ADMIN", "SETUID"])),
        Redirection::Init => (
            None,
            SecurityContext {
                capabilities: Some(Capabilities { add: None, drop: all() }),
                run_as_user: Some(names::PROXY_UID),
                run_as_non_root: Some(true),
                ..confined()
            },
        ),
    };
    let port = |name: &str, port: u16| ContainerPort {
        name: Some(name.into()),
        container_port: port.into(),
        protocol: Some("TCP".into()),
        ..Default::default()
    };
    Container {
        name: names::PROXY_CONTAINER.into(),
        image: Some(settings.image.clone()),
        image_pull_policy: Some(pull_policy(injection.pull_policy).into()),
        command: Some(vec![PROGRAM.into()]),
        args,
        env: Some(env(spec, settings, sidecar, injection)),
        ports: Some(vec![port("mesh-inbound", names::INBOUND_PORT), port("mesh-admin", names::ADMIN_PORT)]),
        // Kubelet starts what comes next when this has ended: then there is a certificate, and no second was waited for a probe.
        lifecycle: Some(Lifecycle {
            post_start: Some(LifecycleHandler {
                exec: Some(ExecAction { command: Some(vec![PROGRAM.into(), "await".into()]) }),
                ..Default::default()
            }),
            ..Default::default()
        }),
        liveness_probe: Some(Probe {
            http_get: Some(HTTPGetAction {
                path: Some("/live".into()),
                port: IntOrString::Int(names::ADMIN_PORT.into()),
                ..Default::default()
            }),
            initial_delay_seconds: Some(10),
            ..Default::default()
        }),
        resources: resources(spec, settings),
        restart_policy: (sidecar == Sidecar::Native).then(|| "Always".into()),
        security_context: Some(SecurityContext { run_as_group: Some(names::PROXY_UID), ..user }),
        termination_message_policy: Some("FallbackToLogsOnError".into()),
        volume_mounts: Some(vec![mount(TOKEN_VOLUME, TOKEN_FOLDER), mount(ANCHORS_VOLUME, ANCHORS_FOLDER)]),
        ..Default::default()
    }
}

/// A variable may refer to those before it.
fn env(spec: &PodSpec, settings: &Settings, sidecar: Sidecar, injection: &Injection) -> Vec<EnvVar> {
    let Injection { control_namespace, trust_domain, cluster_domain, .. } = injection;
    let proxy = &settings.proxy;
    let identities = format!("serviceaccount.identity.{control_namespace}.{trust_domain}");
    let operator = names::OPERATOR;
    let mut env = vec![
        field("_POD", "metadata.name"),
        field("_NAMESPACE", "metadata.namespace"),
        field("_NODE", "spec.nodeName"),
        field("_SERVICE_ACCOUNT", "spec.serviceAccountName"),
        field("MESH_PROXY_INBOUND_IPS", "status.podIPs"),
    ];
    let mut set = |name: &str, value: String| {
        env.push(EnvVar { name: format!("MESH_PROXY_{name}"), value: Some(value), ..Default::default() });
    };
    set(
        "OPERATOR_ADDR",
        format!("{operator}.{control_namespace}.svc.{cluster_domain}:{}", names::OPERATOR_GRPC_PORT),
    );
    let telemetry = names::TELEMETRY;
    set(
        "TELEMETRY_SVC_ADDR",
        format!("{telemetry}.{control_namespace}.svc.{cluster_domain}:{}", names::OPERATOR_GRPC_PORT),
    );
    set("TELEMETRY_SVC_NAME", format!("{operator}.{control_namespace}.{identities}"));
    set("OPERATOR_NAME", format!("{operator}.{control_namespace}.{identities}"));
    set("IDENTITY_LOCAL_NAME", format!("$(_SERVICE_ACCOUNT).$(_NAMESPACE).{identities}"));
    set("IDENTITY_TOKEN_FILE", format!("{TOKEN_FOLDER}/{TOKEN_FILE}"));
    set("IDENTITY_TRUST_ANCHORS_FILE", format!("{ANCHORS_FOLDER}/{}", names::TRUST_ANCHORS_KEY));
    set("POLICY_WORKLOAD", r#"{"ns":"$(_NAMESPACE)","pod":"$(_POD)"}"#.into());
    set("DESTINATION_CONTEXT", r#"{"ns":"$(_NAMESPACE)","nodeName":"$(_NODE)","pod":"$(_POD)"}"#.into());
    set("DESTINATION_PROFILE_SUFFIXES", format!("svc.{cluster_domain}."));
    set("INBOUND_PORTS", ports(spec));
    set("INBOUND_PORTS_DISABLE_PROTOCOL_DETECTION", proxy.opaque_ports.clone());
    // Until the operator has said what applies, nothing does.
    set("INBOUND_DEFAULT_POLICY", "deny".into());
    // Of both families, as far as the Pod has them.
    set("INBOUND_LISTEN_ADDR", format!("[::]:{}", names::INBOUND_PORT));
    set("OUTBOUND_LISTEN_ADDRS", format!("127.0.0.1:{0},[::1]:{0}", names::OUTBOUND_PORT));
    set("ADMIN_LISTEN_ADDR", format!("[::]:{}", names::ADMIN_PORT));
    set("CORES", proxy.cores.to_string());
    set("LOG", proxy.log.clone());
    set("LOG_FORMAT", log_format(proxy.log_format).into());
    set("TRACE_SAMPLE_RATIO", proxy.trace_sample_ratio.to_string());
    set("OUTBOUND_CONNECT_TIMEOUT", proxy.outbound_connect_timeout.clone());
    set("SHUTDOWN_GRACE_PERIOD", proxy.shutdown_grace_period.clone());
    // A native one is told to end when the application has.
    if sidecar == Sidecar::Classic && proxy.shutdown_delay != "0s" {
        set("SHUTDOWN_DELAY", proxy.shutdown_delay.clone());
    }
    if !proxy.metrics_networks.is_empty() {
        set("ADMIN_METRICS_NETWORKS", proxy.metrics_networks.clone());
    }
    if proxy.access_log {
        set("ACCESS_LOG", "json".into());
    }
    env
}

fn field(name: &str, path: &str) -> EnvVar {
    let field = ObjectFieldSelector { field_path: path.into(), api_version: None };
    EnvVar {
        name: name.into(),
        value_from: Some(EnvVarSource { field_ref: Some(field), ..Default::default() }),
        ..Default::default()
    }
}

/// What the application listens on, as far as the Pod says so.
fn ports(spec: &PodSpec) -> String {
    let declared = skip::containers(spec).flat_map(|container| container.ports.iter().flatten());
    let tcp = declared.filter(|port| port.protocol.as_deref().unwrap_or("TCP") == "TCP");
    let ports: BTreeSet<i32> = tcp.map(|port| port.container_port).collect();
    ports.iter().map(i32::to_string).collect::<Vec<_>>().join(",")
}

fn mount(volume: &str, path: &str) -> VolumeMount {
    VolumeMount { name: volume.into(), mount_path: path.into(), read_only: Some(true), ..Default::default() }
}

/// None where the Pod has resources of its own: these are for all of its containers, ours too. What ours asked for would count against
/// them, and a Pod whose containers ask for more than it does is refused, as one is of which a container may use more.
fn resources(spec: &PodSpec, settings: &Settings) -> Option<ResourceRequirements> {
    if spec.resources.is_some() {
        return None;
    }
    let quantities = |map: &BTreeMap<String, String>| {
        let map: BTreeMap<String, Quantity> =
            map.iter().map(|(name, value)| (name.clone(), Quantity(value.clone()))).collect();
        Some(map).filter(|map| !map.is_empty())
    };
    let resources = &settings.proxy.resources;
    Some(ResourceRequirements {
        requests: quantities(&resources.requests),
        limits: quantities(&resources.limits),
        ..Default::default()
    })
}

/// Root inside its container with these capabilities and nothing else: the kernel gives one that is not in the image to root only.
fn root(capabilities: &[&str]) -> SecurityContext {
    let add = capabilities.iter().map(|&capability| capability.into()).collect();
    SecurityContext {
        capabilities: Some(Capabilities { add: Some(add), drop: all() }),
        run_as_user: Some(0),
        run_as_non_root: Some(false),
        ..confined()
    }
}

fn confined() -> SecurityContext {
    SecurityContext {
        allow_privilege_escalation: Some(false),
        read_only_root_filesystem: Some(true),
        seccomp_profile: Some(SeccompProfile { type_: "RuntimeDefault".into(), localhost_profile: None }),
        ..Default::default()
    }
}

fn all() -> Option<Vec<String>> {
    Some(vec!["ALL".into()])
}

fn pull_policy(policy: PullPolicy) -> &'static str {
    match policy {
        PullPolicy::Always => "Always",
        PullPolicy::IfNotPresent => "IfNotPresent",
        PullPolicy::Never => "Never",
    }
}

fn log_format(format: LogFormat) -> &'static str {
    match format {
        LogFormat::Plain => "plain",
        LogFormat::Json => "json",
    }
}
