//! Who may report what. Over TLS a sender is held to the identity in its certificate: it reports for Pods of that service account and
//! for nobody else. In plaintext, which is standalone, whoever can reach us is believed.

use super::otlp::attribute;
use mesh_policy::Tables;
use opentelemetry_proto::tonic::resource::v1::Resource;

/// Why somebody with this identity may not report this. `None`: they may.
pub fn doubt(identity: &str, resource: Option<&Resource>, tables: &Tables) -> Option<String> {
    let attributes = resource.map_or(&[][..], |resource| &resource.attributes);
    let claimed = |name| attribute(attributes, name).unwrap_or_default();
    let claims_identity = claimed("mesh.identity");
    if !claims_identity.is_empty() && claims_identity != identity {
        return Some(format!("{identity} reports as {claims_identity:.253}"));
    }
    let (namespace, pod) = (claimed("k8s.namespace.name"), claimed("k8s.pod.name"));
    // An application that says neither is nobody in particular.
    let is_named = !namespace.is_empty() || !pod.is_empty();
    (is_named && !is_of(identity, namespace, pod, tables))
        .then(|| format!("{identity} reports for Pod {namespace:.253}/{pod:.253}, which is another's"))
}

fn is_of(identity: &str, namespace: &str, pod: &str, tables: &Tables) -> bool {
    let identities = tables.settings().identities();
    match tables.pod(namespace, pod) {
        Some(pod) => identities.of(&pod.namespace, &pod.service_account) == identity,
        // One that we have not heard of yet, or that has just gone: more than its namespace nobody can tell.
        None => identity.ends_with(&identities.namespace_suffix(namespace)),
    }
}
