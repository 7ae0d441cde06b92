use super::*;
use crate::{kubernetes, values::Given};
use k8s_openapi::{
    api::{
        admissionregistration::v1::{MutatingWebhookConfiguration, ValidatingWebhookConfiguration},
        apps::v1::Deployment,
        core::v1::{ConfigMap, Namespace, Service, ServiceAccount},
        networking::v1::NetworkPolicy,
        policy::v1::PodDisruptionBudget,
        rbac::v1::{ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding},
    },
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use mesh_api::names;
use serde::{Serialize, de::DeserializeOwned};

fn values(set: &str) -> Values {
    let mut given = Given::default();
    if !set.is_empty() {
        given.set(set).unwrap();
    }
    given.check().unwrap()
}

fn objects(set: &str) -> Vec<Object> {
    render(&values(set)).unwrap()
}

#[track_caller]
fn find(set: &str, kind: &str, name: &str) -> Value {
    let mut objects = objects(set).into_iter();
    let found = objects.find(|object| object.kind() == kind && object.name() == name);
    found.unwrap_or_else(|| panic!("no {kind} {name}")).value
}

fn text(objects: &[Object]) -> String {
    objects.iter().map(|object| object.yaml.as_str()).collect::<Vec<_>>().join("---\n")
}

#[test]
fn the_default_chart() {
    insta::assert_snapshot!(text(&objects("")));
}

/// What three operators have that one has not.
#[test]
fn high_availability() {
    let plain = objects("");
    let mut ha = objects("ha=true");
    ha.retain(|object| !plain.contains(object));
    insta::assert_snapshot!(text(&ha));
}

#[test]
fn every_value_has_its_place() {
    let all = "images.registry=registry.example.com/mesh/,images.tag=1.2.3,images.pullPolicy=Always,images.pullSecrets={pull},\
               operator.priorityClassName=system-cluster-critical,operator.podAnnotations.team=a,operator.otlpForward=http://otel:4317,\
               operator.dashboardHosts={mesh.example.com},identity.issuerSecret=my-issuer,defaultPolicy=mesh-only,namespace.name=m,probeNetworks=10.0.0.0/8,clusterDomain=k8s.example.com,\
               proxy.opaquePorts=3306\\,9000-9010";
    let deployment = find(all, "Deployment", "mesh-operator");
    insta::assert_snapshot!(serde_saphyr::to_string(&deployment["spec"]["template"]).unwrap());
}

/// Nothing that Kubernetes would not know: what is read as its type is written the same.
#[test]
fn every_object_is_what_its_kind_says() {
    fn check<T: DeserializeOwned + Serialize>(value: &Value) {
        let typed: T = serde_json::from_value(value.clone()).unwrap_or_else(|e| panic!("{value}: {e}"));
        assert_eq!(&serde_json::to_value(typed).unwrap(), value);
    }
    for set in ["", "ha=true"] {
        for object in objects(set) {
            match object.kind() {
                "Namespace" => check::<Namespace>(&object.value),
                "NetworkPolicy" => check::<NetworkPolicy>(&object.value),
                "PodDisruptionBudget" => check::<PodDisruptionBudget>(&object.value),
                "ServiceAccount" => check::<ServiceAccount>(&object.value),
                "ConfigMap" => check::<ConfigMap>(&object.value),
                "CustomResourceDefinition" => check::<CustomResourceDefinition>(&object.value),
                "ClusterRole" => check::<ClusterRole>(&object.value),
                "ClusterRoleBinding" => check::<ClusterRoleBinding>(&object.value),
                "Role" => check::<Role>(&object.value),
                "RoleBinding" => check::<RoleBinding>(&object.value),
                "Service" => check::<Service>(&object.value),
                "Deployment" => check::<Deployment>(&object.value),
                "MutatingWebhookConfiguration" => check::<MutatingWebhookConfiguration>(&object.value),
                "ValidatingWebhookConfiguration" => check::<ValidatingWebhookConfiguration>(&object.value),
                other => panic!("{other} {}: add its kind here and to KINDS", object.name()),
            }
        }
    }
}

#[test]
fn no_rule_is_wild_and_secrets_are_read_at_home_only() {
    for object in objects("ha=true") {
        let cluster_wide = match object.kind() {
            "ClusterRole" => true,
            "Role" => false,
            _ => continue,
        };
        let rules: Vec<PolicyRule> = serde_json::from_value(object.value["rules"].clone()).unwrap();
        for rule in rules {
            let (groups, resources) = (rule.api_groups.unwrap(), rule.resources.unwrap());
            for word in groups.iter().chain(&resources).chain(&rule.verbs) {
                assert!(!word.contains('*'), "{}: {word}", object.name());
            }
            let secrets = resources.contains(&"secrets".to_owned());
            assert!(!(cluster_wide && secrets), "{} reads Secrets everywhere", object.name());
        }
    }
}

#[test]
fn nothing_secret_and_nothing_random_is_rendered() {
    assert_eq!(objects("ha=true"), objects("ha=true"));
    for object in objects("") {
        assert_ne!(object.kind(), "Secret");
        for word in ["caBundle", "tls.key", "PRIVATE KEY", "CERTIFICATE"] {
            assert!(!object.value.to_string().contains(word), "{} holds {word}", object.name());
        }
    }
}

#[test]
fn the_names_are_those_that_the_operator_knows() {
    let deployment = find("", "Deployment", names::OPERATOR);
    let pod = &deployment["spec"]["template"]["spec"];
    let ports: Vec<u64> = pod["containers"][0]["ports"]
        .as_array()
        .unwrap()
        .iter()
        .map(|port| port["containerPort"].as_u64().unwrap())
        .collect();
    let known = [
        names::OPERATOR_GRPC_PORT,
        names::OPERATOR_HTTP_PORT,
        names::OPERATOR_WEBHOOK_PORT,
        names::OPERATOR_ADMIN_PORT,
    ];
    assert_eq!(ports, known.map(u64::from));
    assert_eq!(pod["volumes"][0]["configMap"]["name"], names::INJECTION_CONFIG_MAP);
    assert_eq!(find("", "Service", names::OPERATOR)["metadata"]["namespace"], names::OPERATOR_NAMESPACE);
    let webhooks = find("", "MutatingWebhookConfiguration", names::OPERATOR);
    assert_eq!(
        webhooks["webhooks"][0]["namespaceSelector"]["matchExpressions"][0]["key"],
        names::INJECT_LABEL
    );
    let roles = find("", "ClusterRole", names::OPERATOR).to_string();
    assert!(roles.contains(names::TRUST_ANCHORS_CONFIG_MAP) && roles.contains(names::API_GROUP));
}

/// What the webhooks are not asked about, nobody misses.
#[test]
fn webhooks_leave_out_the_namespaces_that_get_no_proxy() {
    let webhooks = find("namespace.name=m", "MutatingWebhookConfiguration", names::OPERATOR);
    let injectors: Vec<&Value> = webhooks["webhooks"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|own| own["name"].as_str().unwrap().ends_with("inject.mesh.dev"))
        .collect();
    assert_eq!(injectors.len(), 2);
    for injector in injectors {
        let expressions = injector["namespaceSelector"]["matchExpressions"].as_array().unwrap();
        let by_name = expressions.iter().find(|own| own["key"] == "kubernetes.io/metadata.name").unwrap();
        assert_eq!(by_name["operator"], "NotIn");
        for namespace in ["kube-system", "m", "mesh-system", "kube-public", "default", "shop"] {
            let excluded = by_name["values"].as_array().unwrap().contains(&namespace.into());
            assert_eq!(crate::inject::is_left_out(namespace, "m"), excluded, "{namespace}");
        }
    }
}

/// Helm makes the release's own namespace before it reads any template.
#[test]
fn a_namespace_that_exists_is_not_made_again() {
    let kinds = |set| objects(set).iter().map(|object| object.kind().to_owned()).collect::<Vec<_>>();
    assert_eq!(kinds("").first().unwrap(), "Namespace");
    assert!(!kinds("namespace.create=false").contains(&"Namespace".to_owned()));
    assert!(!kinds(&format!("namespace.name={RELEASE_NAMESPACE}")).contains(&"Namespace".to_owned()));
}

#[test]
fn chart_and_program_have_one_version() {
    let chart: Value = serde_saphyr::from_str(include_str!("../../mesh/Chart.yaml")).unwrap();
    assert_eq!(chart["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(chart["appVersion"], env!("CARGO_PKG_VERSION"));
    assert_eq!(chart["kubeVersion"], format!(">=1.{}.0-0", kubernetes::OLDEST));
}
