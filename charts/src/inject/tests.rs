use super::*;
use crate::values::Given;
use proptest::prelude::*;
use serde_json::Value;

const NATIVE: Cluster = Cluster { native_sidecars: true };
const OLD: Cluster = Cluster { native_sidecars: false };

fn injection() -> Injection {
    Injection::of(&Given::default().check().unwrap()).unwrap()
}

fn pod(yaml: &str) -> Value {
    serde_saphyr::from_str(yaml).unwrap()
}

fn annotations(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn decide(pod: &Value, namespace: &[(&str, &str)], cluster: Cluster) -> Decision {
    let typed: Pod = serde_json::from_value(pod.clone()).unwrap();
    inject(&typed, &annotations(namespace), &injection(), cluster)
}

fn patched(pod: &Value, patch: &Patch) -> Value {
    let mut pod = pod.clone();
    json_patch::patch(&mut pod, patch).unwrap();
    pod
}

const ENABLED: &[(&str, &str)] = &[(names::INJECT, "enabled")];

const WEB: &str = "
metadata: { name: web, labels: { app: web } }
spec:
  serviceAccountName: web
  initContainers:
  - { name: migrate, image: web }
  containers:
  - name: web
    image: web
    ports: [{ containerPort: 8080 }, { containerPort: 9090 }, { containerPort: 53, protocol: UDP }]
";

#[test]
fn a_native_sidecar() {
    let decision = decide(&pod(WEB), ENABLED, NATIVE);
    assert_eq!(decision.outcome, Outcome::Injected);
    let pod = patched(&pod(WEB), &decision.patch);
    serde_json::from_value::<Pod>(pod.clone()).unwrap();
    insta::assert_snapshot!(serde_saphyr::to_string(&pod).unwrap());
}

/// `mesh-init` and `mesh-proxy` among the names of init containers, and of the others.
fn order(pod: &Value) -> (Vec<&str>, Vec<&str>) {
    let names = |list: &str| -> Vec<&str> {
        let list = pod["spec"][list].as_array();
        list.into_iter().flatten().map(|container| container["name"].as_str().unwrap()).collect()
    };
    (names("initContainers"), names("containers"))
}

#[test]
fn where_the_proxy_stands() {
    let web = pod(WEB);
    let native = patched(&web, &decide(&web, ENABLED, NATIVE).patch);
    assert_eq!(order(&native), (vec!["mesh-proxy", "migrate"], vec!["web"]));
    assert_eq!(native["spec"]["initContainers"][0]["restartPolicy"], "Always");
    let old = patched(&web, &decide(&web, ENABLED, OLD).patch);
    assert_eq!(order(&old), (vec!["migrate"], vec!["mesh-proxy", "web"]));
    assert_eq!(old["spec"]["containers"][0]["restartPolicy"], Value::Null);
    let classic = &[ENABLED[0], (names::SIDECAR, "classic")];
    assert_eq!(patched(&web, &decide(&web, classic, NATIVE).patch), old);
}

/// The next version's chart, while this version's operator still runs.
#[test]
fn a_value_of_a_later_version_is_left_out() {
    let mut next = json!(injection());
    next["proxy"]["invented"] = json!({ "later": true });
    next["alsoInvented"] = json!(1);
    assert_eq!(Injection::parse(&next.to_string()).unwrap(), injection());
    next["proxy"]["cores"] = json!(0);
    assert!(Injection::parse(&next.to_string()).is_err(), "what is known has to make sense");
}

/// kubelet tells a native one to end when the application has ended, and a classic one at once.
#[test]
fn a_classic_sidecar_may_stay_for_a_while() {
    let web = pod(WEB);
    let asked = &[ENABLED[0], (names::SHUTDOWN_DELAY, "10s")];
    let delay = |list: &str, cluster| {
        let after = patched(&web, &decide(&web, asked, cluster).patch);
        let env = after["spec"][list][0]["env"].as_array().unwrap().clone();
        env.into_iter().find(|own| own["name"] == "MESH_PROXY_SHUTDOWN_DELAY").map(|own| own["value"].clone())
    };
    assert_eq!(delay("containers", OLD), Some(json!("10s")));
    assert_eq!(delay("initContainers", NATIVE), None);
}

#[test]
fn kubectl_logs_means_the_application() {
    let default = |pod: &Value, cluster| {
        let after = patched(pod, &decide(pod, ENABLED, cluster).patch);
        after["metadata"]["annotations"].get(DEFAULT_CONTAINER).cloned()
    };
    let mut web = pod(WEB);
    assert_eq!(default(&web, NATIVE), None, "the first container is the application's");
    assert_eq!(default(&web, OLD), Some(json!("web")));
    web["metadata"]["annotations"] = json!({ DEFAULT_CONTAINER: "other" });
    assert_eq!(default(&web, OLD), Some(json!("other")), "somebody has said it");
}

/// Who may be root, and for how long.
#[test]
fn redirection_is_the_proxys_or_a_container_of_its_own() {
    let web = pod(WEB);
    let init = &[ENABLED[0], (names::REDIRECTION, "init")];
    let native = patched(&web, &decide(&web, init, NATIVE).patch);
    assert_eq!(order(&native), (vec!["mesh-init", "mesh-proxy", "migrate"], vec!["web"]));
    let [first, second] = [0, 1].map(|at| &native["spec"]["initContainers"][at]);
    assert_eq!(first["args"][0], "init");
    assert_eq!(first["securityContext"]["capabilities"]["add"], serde_json::json!(["NET_ADMIN"]));
    assert_eq!(second["args"], Value::Null);
    assert_eq!(second["securityContext"]["capabilities"]["add"], Value::Null);
    assert_eq!(second["securityContext"]["runAsNonRoot"], true);
    let old = patched(&web, &decide(&web, init, OLD).patch);
    assert_eq!(order(&old), (vec!["migrate", "mesh-init"], vec!["mesh-proxy", "web"]));
}

/// Its containers may not ask for more than it does, nor one of them be allowed more than it is.
#[test]
fn a_pods_own_resources_are_the_proxys_too() {
    let resources = |of_pod: Value, asked: &[(&str, &str)]| {
        let mut web = pod(WEB);
        web["spec"]["resources"] = of_pod;
        let after = patched(&web, &decide(&web, asked, NATIVE).patch);
        let init = after["spec"]["initContainers"].as_array().unwrap();
        let ours = init.iter().filter(|container| container["name"] != "migrate");
        ours.map(|container| container["resources"].clone()).collect::<Vec<_>>()
    };
    let init = &[ENABLED[0], (names::REDIRECTION, "init"), (names::PROXY_CPU_LIMIT, "2")];
    let budget = json!({ "requests": { "cpu": "1", "memory": "1Gi" } });
    assert_eq!(resources(budget.clone(), ENABLED), [Value::Null]);
    assert_eq!(resources(budget, init), [Value::Null, Value::Null]);
    let own = resources(Value::Null, init);
    assert!(own.iter().all(|own| own["requests"]["cpu"] == "10m" && own["limits"]["cpu"] == "2"), "{own:?}");
}

/// Kubelet gives the token to one user alone where all containers are that user's.
#[test]
fn where_all_are_root_the_proxy_is_not() {
    let root = "securityContext: { runAsUser: 0 }";
    for (yaml, with_init) in [
        (format!("metadata: {{}}\nspec: {{ {root}, containers: [{{ name: web }}] }}"), true),
        (
            format!(
                "metadata: {{}}\nspec: {{ containers: [{{ name: web, {root} }}, {{ name: logs, {root} }}] }}"
            ),
            true,
        ),
        (
            format!("metadata: {{}}\nspec: {{ containers: [{{ name: web, {root} }}, {{ name: logs }}] }}"),
            false,
        ),
        (
            format!(
                "metadata: {{}}\nspec: {{ {root}, containers: [{{ name: web, securityContext: {{ runAsUser: 1 }} }}] }}"
            ),
            false,
        ),
        (
            format!(
                "metadata: {{}}\nspec: {{ initContainers: [{{ name: first }}], containers: [{{ name: web, {root} }}] }}"
            ),
            false,
        ),
        ("metadata: {}\nspec: { containers: [{ name: web }] }".to_owned(), false),
    ] {
        let pod = pod(&yaml);
        let patched = patched(&pod, &decide(&pod, ENABLED, NATIVE).patch);
        assert_eq!(order(&patched).0.contains(&"mesh-init"), with_init, "{yaml}");
    }
}

#[test]
fn who_gets_a_proxy() {
    let plain = "spec: { containers: [{ name: web }] }";
    let own = |value: &str| format!("metadata: {{ annotations: {{ mesh.dev/inject: {value} }} }}\n{plain}");
    let disabled: &[(&str, &str)] = &[(names::INJECT, "disabled")];
    for (pod_yaml, namespace, expected) in [
        (plain, ENABLED, "injected"),
        (plain, &[][..], "neither Pod nor Namespace is annotated mesh.dev/inject: enabled"),
        (plain, disabled, "annotated mesh.dev/inject: disabled"),
        (&own("enabled"), &[][..], "injected"),
        (&own("enabled"), disabled, "injected"),
        (&own("disabled"), ENABLED, "annotated mesh.dev/inject: disabled"),
        (&own("maybe"), ENABLED, "mesh.dev/inject=\"maybe\": want enabled or disabled"),
        (
            "spec: { hostNetwork: true, containers: [{ name: web }] }",
            ENABLED,
            "hostNetwork: redirecting its connections would redirect the node's",
        ),
        (
            "spec: { dnsPolicy: Default, containers: [{ name: web }] }",
            ENABLED,
            "dnsPolicy: Default: the node's DNS does not know the operator's name",
        ),
        (
            "spec: { dnsPolicy: Default, dnsConfig: { nameservers: [10.96.0.10] }, containers: [{ name: web }] }",
            ENABLED,
            "injected",
        ),
        (
            "spec: { dnsPolicy: None, dnsConfig: { nameservers: [10.96.0.10] }, containers: [{ name: web }] }",
            ENABLED,
            "injected",
        ),
        ("spec: { dnsPolicy: ClusterFirst, containers: [{ name: web }] }", ENABLED, "injected"),
        (
            "spec: { os: { name: windows }, containers: [{ name: web }] }",
            ENABLED,
            "the Pod is for Windows nodes",
        ),
        (
            "spec: { nodeSelector: { kubernetes.io/os: windows }, containers: [{ name: web }] }",
            ENABLED,
            "the Pod is for Windows nodes",
        ),
        (
            "spec: { containers: [{ name: web }, { name: istio-proxy }] }",
            ENABLED,
            "container istio-proxy is another mesh's proxy",
        ),
        (
            "spec: { containers: [{ name: web, ports: [{ containerPort: 4143 }] }] }",
            ENABLED,
            "container web wants port 4143, which is the proxy's",
        ),
        (
            "spec: { containers: [{ name: web, securityContext: { runAsUser: 2102 } }] }",
            ENABLED,
            "container web runs as user 2102, the proxy's, whose connections bypass the mesh",
        ),
        (
            "spec: { securityContext: { runAsUser: 2102 }, containers: [{ name: web, securityContext: { runAsUser: 1 } }] }",
            ENABLED,
            "injected",
        ),
        (
            "metadata: { annotations: { kubernetes.io/config.mirror: 5f3 } }\nspec: { containers: [{ name: web }] }",
            ENABLED,
            "a static Pod: its node runs it from a file, which has no proxy in it",
        ),
        ("spec: { containers: [{ name: web }, { name: mesh-proxy }] }", ENABLED, "already"),
        ("spec: { initContainers: [{ name: mesh-proxy }], containers: [{ name: web }] }", ENABLED, "already"),
        ("spec: { automountServiceAccountToken: false, containers: [{ name: web }] }", ENABLED, "injected"),
        ("spec: { restartPolicy: Never, containers: [{ name: job }] }", ENABLED, "injected"),
        ("spec: { containers: [] }", ENABLED, "the Pod has no container"),
    ] {
        let outcome = match decide(&pod(pod_yaml), namespace, NATIVE).outcome {
            Outcome::Injected => "injected".to_owned(),
            Outcome::Already => "already".to_owned(),
            Outcome::Skipped(skip) => skip.to_string(),
        };
        assert_eq!(outcome, expected, "{pod_yaml} in {namespace:?}");
    }
}

/// Kubernetes takes longer names for a ServiceAccount than DNS does between two dots.
#[test]
fn who_can_have_no_certificate_gets_no_proxy() {
    let (label, long) = ("a".repeat(63), "a".repeat(64));
    for (account, namespace, injected) in [
        (label.clone(), "shop", true),
        (format!("{label}.{label}"), "shop", true),
        (long.clone(), "shop", false),
        (format!("web.{long}"), "shop", false),
        (format!("{label}.{label}.{label}"), "shop", true),
        (format!("{label}.{label}.{label}"), &label, false),
    ] {
        let yaml = format!(
            "metadata: {{ namespace: {namespace} }}\nspec: {{ serviceAccountName: {account}, containers: [{{ name: web }}] }}"
        );
        let expected = if injected { Outcome::Injected } else { Outcome::Skipped(Skip::NoIdentity(account)) };
        assert_eq!(decide(&pod(&yaml), ENABLED, NATIVE).outcome, expected, "{yaml}");
    }
}

#[test]
fn a_job_is_not_kept_alive_by_a_classic_sidecar() {
    let job = pod("spec: { restartPolicy: OnFailure, containers: [{ name: job }] }");
    assert_eq!(decide(&job, ENABLED, OLD).outcome, Outcome::Skipped(Skip::ClassicJob));
    assert_eq!(decide(&job, ENABLED, NATIVE).outcome, Outcome::Injected);
}

#[test]
fn the_reason_stands_on_the_pod_of_who_asked() {
    let status = |namespace| {
        let host = pod(
            "metadata: { annotations: { a: b } }\nspec: { hostNetwork: true, containers: [{ name: x }] }",
        );
        let after = patched(&host, &decide(&host, namespace, NATIVE).patch);
        after["metadata"]["annotations"].get(names::INJECT_STATUS).cloned()
    };
    let expected = "skipped: hostNetwork: redirecting its connections would redirect the node's";
    assert_eq!(status(ENABLED), Some(expected.into()));
    assert_eq!(status(&[]), None);
}

/// The value of one of the proxy's variables, or why there is no proxy.
fn variable(own: &[(&str, &str)], namespace: &[(&str, &str)], name: &str) -> String {
    let mut web = pod(WEB);
    web["metadata"]["annotations"] = json!(annotations(own));
    let namespace: Vec<_> = ENABLED.iter().chain(namespace).copied().collect();
    let decision = decide(&web, &namespace, NATIVE);
    if let Outcome::Skipped(skip) = decision.outcome {
        return skip.to_string();
    }
    let after = patched(&web, &decision.patch);
    let proxy = &after["spec"]["initContainers"][0];
    if let Some(value) = proxy.pointer(name) {
        return value.to_string();
    }
    let env = proxy["env"].as_array().unwrap();
    env.iter().find(|env| env["name"] == name).map(|env| env["value"].to_string()).unwrap_or_default()
}

#[test]
fn a_pods_word_wins_over_its_namespaces() {
    const LOG: &str = "MESH_PROXY_LOG";
    let (debug, trace) = ((names::PROXY_LOG, "debug"), (names::PROXY_LOG, "trace"));
    assert_eq!(variable(&[], &[], LOG), "\"warn,mesh_proxy=info\"");
    assert_eq!(variable(&[], &[debug], LOG), "\"debug\"");
    assert_eq!(variable(&[trace], &[debug], LOG), "\"trace\"");
}

#[test]
fn annotations_reach_the_proxy_or_are_refused_by_name() {
    let ports = "ports and ranges from 1 to 65535, as in 80,8080-8090";
    let refused = |name: &str, value: &str, want: &str| format!("{name}={value:?}: want {want}");
    for (name, value, place, expected) in [
        (names::PROXY_IMAGE, "r.example.com/p:2", "/image", "\"r.example.com/p:2\"".to_owned()),
        (names::PROXY_IMAGE, "p 2", "/image", refused(names::PROXY_IMAGE, "p 2", "an image")),
        (names::PROXY_CPU_REQUEST, "250m", "/resources/requests/cpu", "\"250m\"".into()),
        (names::PROXY_MEMORY_LIMIT, "1Gi", "/resources/limits/memory", "\"1Gi\"".into()),
        (
            names::PROXY_CPU_LIMIT,
            "much",
            "/image",
            refused(names::PROXY_CPU_LIMIT, "much", "a quantity, as in 100m or 20Mi"),
        ),
        (names::PROXY_LOG, "warn,mesh_proxy=debug", "MESH_PROXY_LOG", "\"warn,mesh_proxy=debug\"".into()),
        (
            names::PROXY_LOG,
            "mesh_proxy=verbose",
            "",
            refused(names::PROXY_LOG, "mesh_proxy=verbose", "a tracing filter, as in warn,mesh_proxy=debug"),
        ),
        (names::PROXY_CORES, "2", "MESH_PROXY_CORES", "\"2\"".into()),
        (names::PROXY_CORES, "0", "", refused(names::PROXY_CORES, "0", "a whole number above 0")),
        (names::PROXY_ACCESS_LOG, "json", "MESH_PROXY_ACCESS_LOG", "\"json\"".into()),
        (names::TRACE_SAMPLE_RATIO, "0.5", "MESH_PROXY_TRACE_SAMPLE_RATIO", "\"0.5\"".into()),
        (names::TRACE_SAMPLE_RATIO, "2", "", refused(names::TRACE_SAMPLE_RATIO, "2", "a number from 0 to 1")),
        (
            names::SKIP_INBOUND_PORTS,
            "22,8000-8010",
            "/args/4",
            "\"--inbound-ports-to-ignore=4191,22,8000-8010\"".into(),
        ),
        (names::SKIP_OUTBOUND_PORTS, "3306", "/args/5", "\"--outbound-ports-to-ignore=3306\"".into()),
        (
            names::PROXY_METRICS_NETWORKS,
            "10.0.0.0/8,fd00::/8",
            "MESH_PROXY_ADMIN_METRICS_NETWORKS",
            "\"10.0.0.0/8,fd00::/8\"".into(),
        ),
        (
            names::PROXY_METRICS_NETWORKS,
            "all",
            "",
            refused(names::PROXY_METRICS_NETWORKS, "all", "networks, as in 10.0.0.0/8"),
        ),
        (names::SKIP_NETWORKS, "10.0.0.0/8", "/args/5", "\"--subnets-to-ignore=10.0.0.0/8\"".into()),
        (names::SKIP_INBOUND_PORTS, "1-70000", "", refused(names::SKIP_INBOUND_PORTS, "1-70000", ports)),
        (names::SKIP_INBOUND_PORTS, "80,,443", "", refused(names::SKIP_INBOUND_PORTS, "80,,443", ports)),
        (names::OPAQUE_PORTS, "-1", "", refused(names::OPAQUE_PORTS, "-1", ports)),
        (names::SIDECAR, "both", "", refused(names::SIDECAR, "both", "native or classic")),
    ] {
        assert_eq!(variable(&[(name, value)], &[], place), expected, "{name}={value}");
    }
}

/// The API server would refuse every such Pod. What is not annotated is the chart's: 10m and 16Mi, 256Mi at most.
#[test]
fn a_request_above_its_limit_is_refused() {
    let above = |resource: &str, request: &str, limit: &str| {
        format!("the proxy's {resource} request {request} is above its limit {limit}")
    };
    let memory = "/resources/requests/memory";
    let none: &[(&str, &str)] = &[];
    for (own, namespace, expected) in [
        (&[(names::PROXY_MEMORY_REQUEST, "512Mi")][..], none, above("memory", "512Mi", "256Mi")),
        (&[(names::PROXY_MEMORY_LIMIT, "15M")], none, above("memory", "16Mi", "15M")),
        (&[(names::PROXY_CPU_LIMIT, "5m")], none, above("cpu", "10m", "5m")),
        (&[(names::PROXY_CPU_LIMIT, "5m")], &[(names::PROXY_CPU_REQUEST, "0.004")], "\"16Mi\"".into()),
        (
            &[(names::PROXY_MEMORY_REQUEST, "0.5Gi")],
            &[(names::PROXY_MEMORY_LIMIT, "512Mi")],
            "\"0.5Gi\"".into(),
        ),
    ] {
        assert_eq!(variable(own, namespace, memory), expected, "{own:?} in {namespace:?}");
    }
}

#[test]
fn the_proxy_knows_who_it_is_and_whom_to_ask() {
    for (name, expected) in [
        ("OPERATOR_ADDR", "mesh-operator.mesh-system.svc.cluster.local:8086"),
        ("OPERATOR_NAME", "mesh-operator.mesh-system.serviceaccount.identity.mesh-system.cluster.local"),
        (
            "IDENTITY_LOCAL_NAME",
            "$(_SERVICE_ACCOUNT).$(_NAMESPACE).serviceaccount.identity.mesh-system.cluster.local",
        ),
        ("INBOUND_PORTS", "8080,9090"),
        ("INBOUND_DEFAULT_POLICY", "deny"),
    ] {
        assert_eq!(variable(&[], &[], &format!("MESH_PROXY_{name}")), format!("{expected:?}"));
    }
}

#[test]
fn metrics_are_for_the_pod_itself_unless_a_value_says_who_may_read_them() {
    const NETWORKS: &str = "MESH_PROXY_ADMIN_METRICS_NETWORKS";
    assert_eq!(variable(&[], &[], NETWORKS), "");
    let mut given = Given::default();
    given.set("proxy.metricsNetworks=10.244.0.0/16").unwrap();
    let injection = Injection::of(&given.check().unwrap()).unwrap();
    let decision =
        inject(&serde_json::from_value(pod(WEB)).unwrap(), &annotations(ENABLED), &injection, NATIVE);
    let proxy = &patched(&pod(WEB), &decision.patch)["spec"]["initContainers"][0];
    assert!(
        proxy["env"].to_string().contains(&format!(r#"{{"name":"{NETWORKS}","value":"10.244.0.0/16"}}"#)),
        "{proxy}"
    );
    assert!(
        proxy["ports"].to_string().contains(r#"{"containerPort":4191,"name":"mesh-admin","protocol":"TCP"}"#),
        "{proxy}"
    );
}

#[test]
fn names_are_those_of_the_clusters_domain() {
    let mut given = Given::default();
    given.set("clusterDomain=k8s.example.com").unwrap();
    let injection = Injection::of(&given.check().unwrap()).unwrap();
    let pod: Pod = serde_json::from_value(pod(WEB)).unwrap();
    let decision = inject(&pod, &annotations(ENABLED), &injection, NATIVE);
    let patch = json!(decision.patch).to_string();
    for value in [
        "mesh-operator.mesh-system.svc.k8s.example.com:8086",
        "mesh-telemetry.mesh-system.svc.k8s.example.com:8086",
        "svc.k8s.example.com.",
    ] {
        assert!(patch.contains(&format!("{value:?}")), "{value} in {patch}");
    }
}

fn name() -> impl Strategy<Value = String> {
    "[a-z]{1,6}(/[a-z]{1,3})?"
}

fn container() -> impl Strategy<Value = Value> {
    ("[a-z]{1,6}", prop::collection::vec(1_u16..4000, 0..3)).prop_map(|(name, ports)| {
        let ports: Vec<Value> = ports.into_iter().map(|port| json!({ "containerPort": port })).collect();
        if ports.is_empty() { json!({ "name": name }) } else { json!({ "name": name, "ports": ports }) }
    })
}

fn map(of: BTreeMap<String, String>) -> Value {
    if of.is_empty() { Value::Null } else { json!(of) }
}

/// Pods as people write them: what is empty is left out.
fn any_pod() -> impl Strategy<Value = Value> {
    (
        prop::collection::btree_map(name(), "[a-z]{0,4}", 0..3),
        prop::collection::btree_map(name(), "[a-z]{0,4}", 0..3),
        prop::collection::vec(container(), 1..4),
        prop::collection::vec(container(), 0..3),
        prop::collection::vec("[a-z]{1,6}", 0..3),
    )
        .prop_map(|(labels, annotations, containers, init, volumes)| {
            let mut pod = json!({ "metadata": {}, "spec": { "containers": containers } });
            for (field, value) in [("labels", map(labels)), ("annotations", map(annotations))] {
                if !value.is_null() {
                    pod["metadata"][field] = value;
                }
            }
            if !init.is_empty() {
                pod["spec"]["initContainers"] = init.into();
            }
            if !volumes.is_empty() {
                let volumes: Vec<Value> =
                    volumes.iter().map(|name| json!({ "name": name, "emptyDir": {} })).collect();
                pod["spec"]["volumes"] = volumes.into();
            }
            pod
        })
}

proptest! {
    #[test]
    fn what_goes_in_comes_out(before in any_pod(), native in any::<bool>()) {
        let cluster = Cluster { native_sidecars: native };
        let decision = decide(&before, ENABLED, cluster);
        prop_assert_eq!(&decision.outcome, &Outcome::Injected);
        let meshed = patched(&before, &decision.patch);
        prop_assert_ne!(&meshed, &before);
        let typed: Pod = serde_json::from_value(meshed.clone()).unwrap();
        prop_assert_eq!(patched(&meshed, &uninject(&typed)), before);
    }

    #[test]
    fn twice_is_once(before in any_pod(), native in any::<bool>()) {
        let cluster = Cluster { native_sidecars: native };
        let once = patched(&before, &decide(&before, ENABLED, cluster).patch);
        let again = decide(&once, ENABLED, cluster);
        prop_assert_eq!(again.outcome, Outcome::Already);
        prop_assert_eq!(patched(&once, &again.patch), once);
    }

    /// Whatever stands in an annotation, a Pod comes out that Kubernetes can read, and nothing of the text becomes structure.
    #[test]
    fn annotations_are_only_text(value in "\\PC{0,40}", which in 0_usize..6) {
        let name = [names::PROXY_LOG, names::PROXY_IMAGE, names::OPAQUE_PORTS, names::SKIP_NETWORKS, names::PROXY_CPU_LIMIT, names::INJECT][which];
        let before = pod(WEB);
        let decision = decide(&before, &[ENABLED[0], (name, &value)], NATIVE);
        let after = patched(&before, &decision.patch);
        let typed: Pod = serde_json::from_value(after).unwrap();
        let containers = typed.spec.unwrap().init_containers.unwrap().len();
        prop_assert_eq!(containers, if decision.outcome == Outcome::Injected { 2 } else { 1 });
    }
}

mod manifests {
    use super::*;
    use crate::inject::manifest::{inject_all, uninject_all};

    const FILE: &str = "\
# A shop.
apiVersion: v1
kind: Service   # with a comment
metadata: { name: web }
---
apiVersion: apps/v1
kind: Deployment
metadata: { name: web, namespace: shop }
spec:
  template:
    spec:
      containers:
      - name: web
        ports: [{ containerPort: 53, protocol: UDP }]
---
# nothing
---
apiVersion: v1
kind: List
items:
- apiVersion: batch/v1
  kind: CronJob
  metadata: { name: night }
  spec: { jobTemplate: { spec: { template: { spec: { restartPolicy: Never, containers: [{ name: job }] } } } } }
- apiVersion: v1
  kind: Pod
  metadata: { name: node }
  spec: { hostNetwork: true, containers: [{ name: x }] }
";

    fn report(entries: &[manifest::Entry]) -> Vec<String> {
        entries.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn pods_are_found_wherever_they_are_and_the_rest_keeps_its_text() {
        let (text, entries) = inject_all(FILE, &injection(), NATIVE).unwrap();
        assert_eq!(
            report(&entries),
            [
                "Deployment shop/web: injected (its UDP ports bypass the proxy)",
                "CronJob night: injected",
                "Pod node: skipped: hostNetwork: redirecting its connections would redirect the node's",
            ]
        );
        assert!(text.starts_with("# A shop.\napiVersion: v1\nkind: Service   # with a comment\n"));
        assert_eq!(text.matches("name: mesh-proxy\n").count(), 2);
        let (again, entries) = inject_all(&text, &injection(), NATIVE).unwrap();
        assert_eq!(
            report(&entries)[0],
            "Deployment shop/web: has a proxy already (its UDP ports bypass the proxy)"
        );
        assert_eq!(again, text);
    }

    /// YAML 1.1 has numbers that 1.2 reads as others or as text; kubectl reads both.
    #[test]
    fn file_modes_may_be_octal_and_text_stays_text() {
        let file = "kind: Pod\nmetadata: { name: web, labels: { build: \"0644\" } }\nspec:\n  containers: [{ name: web }]\n  volumes:\n\
                    \x20 - { name: a, secret: { secretName: a, defaultMode: 0400 } }\n\
                    \x20 - { name: b, configMap: { name: b, defaultMode: 0o644 } }\n";
        let (text, entries) = inject_all(file, &injection(), NATIVE).unwrap();
        assert_eq!(report(&entries), ["Pod web: injected"]);
        assert!(text.contains("defaultMode: 256\n") && text.contains("defaultMode: 420\n"), "{text}");
        assert!(["build: \"0644\"", "build: '0644'"].iter().any(|label| text.contains(label)), "{text}");
    }

    #[test]
    fn and_back() {
        let (meshed, _) = inject_all(FILE, &injection(), NATIVE).unwrap();
        let (plain, entries) = uninject_all(&meshed).unwrap();
        assert_eq!(report(&entries)[1], "CronJob night: proxy taken out");
        assert!(!plain.contains("mesh"), "{plain}");
        let (same, entries) = uninject_all(FILE).unwrap();
        assert_eq!(report(&entries)[1], "CronJob night: has no proxy");
        assert!(
            same.contains("ports: [{ containerPort: 53, protocol: UDP }]"),
            "untouched documents keep their text"
        );
    }

    #[test]
    fn what_is_not_for_us_is_left_as_it_is_and_named() {
        let dns = "kind: Deployment\nmetadata: { name: dns, namespace: kube-system }\nspec: { template: { spec: { containers: [{ name: dns }] } } }\n";
        let rollout = "kind: Rollout\nmetadata: { name: web, namespace: shop }\nspec: { template: { spec: { containers: [{ name: web }] } } }\n";
        let files = format!("{dns}---\n{rollout}");
        let (text, entries) = inject_all(&files, &injection(), NATIVE).unwrap();
        assert_eq!(text, files);
        let said = report(&entries);
        assert_eq!(
            said[0],
            "Deployment kube-system/dns: skipped: no Pod of namespace kube-system gets a proxy"
        );
        assert!(said[1].starts_with("Rollout shop/web: left as it is"), "{}", said[1]);
    }

    #[test]
    fn what_is_no_yaml_or_no_pod_is_named() {
        let error = |text| uninject_all(text).unwrap_err().to_string();
        assert!(error("kind: Service\n---\na: [").starts_with("document 2: "));
        assert_eq!(
            error("kind: Deployment\nmetadata: { name: x }"),
            "document 1: Deployment x: has no Pod template"
        );
        let pod = error("kind: Pod\nmetadata: { name: x }\nspec: { containers: 7 }");
        assert!(pod.starts_with("document 1: Pod x: "), "{pod}");
    }
}
