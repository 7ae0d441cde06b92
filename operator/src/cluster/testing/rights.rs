//! What the chart lets an operator do in the namespace `mesh`: the scripted API server allows that and nothing else, so that no test
//! shows what a cluster would refuse.

use http::{Method, Uri};
use k8s_openapi::api::rbac::v1::PolicyRule;
use mesh_charts::{chart, values::Values};
use std::sync::LazyLock;

struct Rights {
    everywhere: Vec<PolicyRule>,
    at_home: Vec<PolicyRule>,
}

static RIGHTS: LazyLock<Rights> = LazyLock::new(|| {
    let mut values = Values::default();
    values.namespace.name = "mesh".into();
    let objects = chart::render(&values).unwrap();
    let rules = |kind: &str| {
        let role = objects.iter().find(|object| object.kind() == kind && object.name() == "mesh-operator");
        serde_json::from_value(role.unwrap().value["rules"].clone()).unwrap()
    };
    Rights { everywhere: rules("ClusterRole"), at_home: rules("Role") }
});

struct Asked<'a> {
    verb: &'a str,
    group: &'a str,
    namespace: Option<&'a str>,
    /// With its subresource.
    resource: String,
    name: Option<&'a str>,
}

pub fn allow(method: &Method, uri: &Uri) -> bool {
    // Discovery is everybody's.
    let Some(asked) = read(method, uri) else { return true };
    let home = RIGHTS.at_home.iter().filter(|_| asked.namespace == Some("mesh"));
    RIGHTS.everywhere.iter().chain(home).any(|rule| gives(rule, &asked))
}

fn gives(rule: &PolicyRule, asked: &Asked<'_>) -> bool {
    let names = rule.resource_names.as_deref().unwrap_or_default();
    rule.verbs.iter().any(|verb| verb == asked.verb)
        && rule.api_groups.iter().flatten().any(|group| group == asked.group)
        && rule.resources.iter().flatten().any(|resource| *resource == asked.resource)
        && (names.is_empty() || asked.name.is_some_and(|name| names.iter().any(|own| own == name)))
}

fn read<'a>(method: &Method, uri: &'a Uri) -> Option<Asked<'a>> {
    let steps: Vec<&str> = uri.path().split('/').skip(1).collect();
    let (group, rest) = match steps.as_slice() {
        ["api", "v1", rest @ ..] => ("", rest),
        ["apis", group, _, rest @ ..] => (*group, rest),
        _ => return None,
    };
    let (namespace, rest) = match rest {
        ["namespaces", namespace, rest @ ..] if !rest.is_empty() => (Some(*namespace), rest),
        rest => (None, rest),
    };
    let (resource, name) = match rest {
        [] => return None,
        [resource] => ((*resource).to_owned(), None),
        [resource, name] => ((*resource).to_owned(), Some(*name)),
        [resource, name, sub @ ..] => (format!("{resource}/{}", sub.join("/")), Some(*name)),
    };
    let query = uri.query().unwrap_or_default();
    // A list of one by its name is a right to that one.
    let selected = || query.split('&').find_map(|part| part.strip_prefix("fieldSelector=metadata.name%3D"));
    let verb = match *method {
        Method::GET if name.is_some() => "get",
        Method::GET if query.contains("watch=true") => "watch",
        Method::GET => "list",
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        _ => "delete",
    };
    Some(Asked { verb, group, namespace, resource, name: name.or_else(selected) })
}

#[test]
fn what_the_chart_does_not_give_is_refused() {
    let allowed = |method: Method, path: &'static str| allow(&method, &Uri::from_static(path));
    for (method, path) in [
        (Method::GET, "/api/v1/pods?watch=true"),
        (Method::PATCH, "/api/v1/namespaces/mesh/pods/operator-1"),
        (Method::GET, "/api/v1/namespaces/mesh/secrets?fieldSelector=metadata.name%3Dmesh-identity"),
        (Method::PATCH, "/apis/mesh.dev/v1alpha1/namespaces/shop/authorizationpolicies/cart/status"),
    ] {
        assert!(allowed(method.clone(), path), "{method} {path}");
    }
    for (method, path) in [
        (Method::GET, "/api/v1/persistentvolumes"),
        (Method::PATCH, "/api/v1/namespaces/shop/pods/web"),
        (Method::GET, "/api/v1/namespaces/mesh/secrets"),
        (Method::GET, "/api/v1/namespaces/shop/secrets/mesh-identity"),
        (Method::DELETE, "/api/v1/namespaces/mesh/secrets/mesh-identity"),
        (Method::PATCH, "/apis/mesh.dev/v1alpha1/namespaces/shop/authorizationpolicies/cart"),
    ] {
        assert!(!allowed(method.clone(), path), "{method} {path}");
    }
}
