//! Environment in, configuration or a list of errors out.

use super::*;
use std::collections::BTreeMap;

const ANCHORS: &str = "/etc/mesh/trust-anchors.pem";

/// The least that a standalone proxy needs.
fn minimal() -> BTreeMap<String, String> {
    [
        ("MESH_PROXY_OPERATOR_ADDR", "127.0.0.1:8086"),
        ("MESH_PROXY_IDENTITY_LOCAL_NAME", "web.demo.serviceaccount.identity.mesh.cluster.local"),
        ("MESH_PROXY_IDENTITY_TOKEN_FILE", "/run/token"),
        ("MESH_PROXY_IDENTITY_TRUST_ANCHORS_FILE", ANCHORS),
        ("MESH_PROXY_POLICY_WORKLOAD", r#"{"ns":"demo","pod":"web-0"}"#),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .collect()
}

fn with(changes: &[(&str, &str)]) -> Result<Config, Vec<String>> {
    let mut env = minimal();
    env.extend(changes.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    read(&env)
}

fn read(env: &BTreeMap<String, String>) -> Result<Config, Vec<String>> {
    let names: Vec<String> = env.keys().cloned().collect();
    Config::from_env(&|name| env.get(name).cloned(), &names).map_err(|errors| errors.0)
}

#[test]
fn every_default_parses() {
    let config = with(&[]).unwrap();
    assert_eq!(config.inbound.listen.port(), 4143);
    assert_eq!(config.outbound.listen, ["127.0.0.1:4140".parse().unwrap()]);
    assert_eq!(config.grace, Duration::from_secs(120));
    assert_eq!(&*config.outbound.dns_suffix, "svc.cluster.local");
    assert_eq!(&*config.control.destination_context, r#"{"ns":"demo","pod":"web-0"}"#);
}

#[test]
fn ours_wins_over_linkerds_and_linkerds_over_the_default() {
    let config =
        with(&[("LINKERD2_PROXY_CORES", "3"), ("LINKERD2_PROXY_SHUTDOWN_GRACE_PERIOD", "5s")]).unwrap();
    assert_eq!((config.cores.get(), config.grace), (3, Duration::from_secs(5)));
    let config = with(&[("LINKERD2_PROXY_CORES", "3"), ("MESH_PROXY_CORES", "2")]).unwrap();
    assert_eq!(config.cores.get(), 2);
}

#[test]
fn all_errors_are_told_at_once() {
    let errors = with(&[
        ("MESH_PROXY_CORES", "0"),
        ("MESH_PROXY_SHUTDOWN_GRACE_PERIOD", "2 minutes"),
        ("LINKERD2_PROXY_ADMIN_LISTEN_ADDR", "localhost"),
        ("MESH_PROXY_GRACE_PERIOD", "1s"),
        ("MESH_PROXY_OPERATOR_ADDR", "127.0.0.1"),
        ("LINKERD2_PROXY_SOMETHING_ELSE", "1"),
    ])
    .unwrap_err();
    insta::assert_yaml_snapshot!(errors, @r#"
    - "MESH_PROXY_GRACE_PERIOD is not a setting: did you mean MESH_PROXY_SHUTDOWN_GRACE_PERIOD?"
    - "MESH_PROXY_OPERATOR_ADDR=\"127.0.0.1\": want host:port"
    - "LINKERD2_PROXY_ADMIN_LISTEN_ADDR=\"localhost\": want ip:port"
    - "MESH_PROXY_CORES=\"0\": want a whole number above 0"
    - "MESH_PROXY_SHUTDOWN_GRACE_PERIOD=\"2 minutes\": want a whole number and ms, s, m, h or d, as in 100ms"
    "#);
}

/// Of a Service `mesh-proxy`, and of one whose name only begins so.
#[test]
fn what_kubernetes_says_of_a_service_is_no_setting() {
    let links = [
        ("MESH_PROXY_PORT", "tcp://10.96.0.7:80"),
        ("MESH_PROXY_PORT_4191_TCP", "tcp://10.96.0.7:4191"),
        ("MESH_PROXY_PORT_4191_TCP_ADDR", "10.96.0.7"),
        ("MESH_PROXY_PORT_4191_TCP_PORT", "4191"),
        ("MESH_PROXY_PORT_4191_TCP_PROTO", "tcp"),
        ("MESH_PROXY_SERVICE_HOST", "10.96.0.7"),
        ("MESH_PROXY_SERVICE_PORT", "80"),
        ("MESH_PROXY_SERVICE_PORT_HTTP", "80"),
        ("MESH_PROXY_ADMIN_SERVICE_HOST", "10.96.0.8"),
    ];
    with(&links).unwrap();
    let errors = with(&[links[0], ("MESH_PROXY_ADMIN_PORT", "4191")]).unwrap_err();
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert!(errors[0].starts_with("MESH_PROXY_ADMIN_PORT is not a setting"), "{errors:?}");
}

#[test]
fn nothing_is_set() {
    let errors = read(&BTreeMap::new()).unwrap_err();
    insta::assert_yaml_snapshot!(errors, @r#"
    - "MESH_PROXY_POLICY_WORKLOAD is not set: want {\"ns\":\"<namespace>\",\"pod\":\"<pod>\"} or <namespace>:<pod>"
    - "MESH_PROXY_IDENTITY_LOCAL_NAME is not set: want <service account>.<namespace>.serviceaccount.identity.<control namespace>.<trust domain>"
    - "MESH_PROXY_IDENTITY_TOKEN_FILE is not set: want the path of a file"
    - "no trust anchors: set MESH_PROXY_IDENTITY_TRUST_ANCHORS_FILE (or IDENTITY_TRUST_ANCHORS)"
    - "no address: set MESH_PROXY_OPERATOR_ADDR (or MESH_PROXY_IDENTITY_SVC_ADDR)"
    - "no address: set MESH_PROXY_OPERATOR_ADDR (or MESH_PROXY_DESTINATION_SVC_ADDR)"
    - "no address: set MESH_PROXY_OPERATOR_ADDR (or MESH_PROXY_POLICY_SVC_ADDR)"
    "#);
}

#[test]
fn a_remote_control_plane_needs_a_name() {
    let errors = with(&[("MESH_PROXY_OPERATOR_ADDR", "operator.mesh:8086")]).unwrap_err();
    assert!(errors.iter().any(|error| error.contains("DESTINATION_SVC_NAME is not set")), "{errors:?}");
    let name = "mesh-operator.mesh.serviceaccount.identity.mesh.cluster.local";
    let config =
        with(&[("MESH_PROXY_OPERATOR_ADDR", "operator.mesh:8086"), ("MESH_PROXY_OPERATOR_NAME", name)])
            .unwrap();
    assert_eq!(config.control.policy.security, Security::Tls(name.into()));
}

#[test]
fn direct_listeners_are_the_ports_at_the_inbound_address() {
    let config = with(&[
        ("MESH_PROXY_INBOUND_LISTEN_ADDR", "127.0.1.1:4143"),
        ("MESH_PROXY_INBOUND_PORTS", "9080,9090-9091"),
        ("MESH_PROXY_INBOUND_DIRECT", "true"),
    ])
    .unwrap();
    let direct: Vec<String> = config.inbound.direct.iter().map(ToString::to_string).collect();
    assert_eq!(direct, ["127.0.1.1:9080", "127.0.1.1:9090", "127.0.1.1:9091"]);
}

#[test]
fn a_direct_port_may_not_be_a_listener_of_ours() {
    let errors = with(&[
        ("MESH_PROXY_INBOUND_LISTEN_ADDR", "127.0.1.1:4143"),
        ("MESH_PROXY_INBOUND_PORTS", "4143"),
        ("MESH_PROXY_INBOUND_DIRECT", "true"),
    ])
    .unwrap_err();
    assert_eq!(errors, ["two listeners have the same address 127.0.1.1:4143"]);
}

#[test]
fn cluster_policies_need_to_know_the_cluster() {
    let errors = with(&[("MESH_PROXY_INBOUND_DEFAULT_POLICY", "cluster-authenticated")]).unwrap_err();
    assert_eq!(errors.len(), 1, "{errors:?}");
    let config = with(&[
        ("MESH_PROXY_INBOUND_DEFAULT_POLICY", "cluster-authenticated"),
        ("MESH_PROXY_POLICY_CLUSTER_NETWORKS", "10.0.0.0/8"),
    ])
    .unwrap();
    assert_eq!(config.inbound.default_policy.name(), "cluster-authenticated");
}

#[test]
fn the_reference_page_names_every_setting() {
    let page = help::markdown();
    for knob in knobs::ALL {
        assert!(page.contains(&format!("| `{}` |", knob.name)), "{}", knob.name);
    }
}

proptest::proptest! {
    /// Whatever stands in a variable, reading it ends in a configuration or in errors that name a variable.
    #[test]
    fn no_value_makes_the_reader_panic(index in 0..knobs::ALL.len(), value in "\\PC{0,80}") {
        let name = format!("MESH_PROXY_{}", knobs::ALL[index].name);
        if let Err(errors) = with(&[(&name, &value)]) {
            proptest::prop_assert!(errors.iter().all(|error| !error.is_empty()));
        }
    }

    #[test]
    fn durations_read_back(ms in 0u64..=u64::MAX / 86_400_000) {
        proptest::prop_assert_eq!(parse::duration(&format!("{ms}ms")), Some(Duration::from_millis(ms)));
        proptest::prop_assert_eq!(parse::duration(&format!("{ms}d")), Some(Duration::from_millis(ms * 86_400_000)));
    }
}
