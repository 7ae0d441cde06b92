//! What is odd about a Namespace, in the eyes of somebody who wanted it meshed.

use k8s_openapi::api::core::v1::Namespace;
use mesh_api::names;

/// Kubernetes' own: what Pods of the Namespace may ask for.
const SECURITY_LEVEL: &str = "pod-security.kubernetes.io/enforce";

/// Whether Pods of a Namespace are to be meshed unless they say otherwise.
pub fn is_meshed(namespace: &Namespace) -> bool {
    annotation(namespace, names::INJECT) == Some("enabled")
}

/// The level of Pod Security that keeps a Pod with a proxy from being made there.
pub fn refusing_level(namespace: &Namespace) -> Option<&str> {
    let level = namespace.metadata.labels.as_ref()?.get(SECURITY_LEVEL)?;
    ["baseline", "restricted"].contains(&level.as_str()).then_some(level)
}

/// The level, and what can be done, for people.
pub fn refusal(namespace: &Namespace) -> Option<String> {
    let level = refusing_level(namespace).filter(|_| is_meshed(namespace))?;
    Some(format!(
        "its Pod Security level {level} refuses every Pod with a proxy, which redirects as root with NET_ADMIN: \
         label it {SECURITY_LEVEL}=privileged, or leave it out of the mesh"
    ))
}

pub(crate) fn problems(namespace: &Namespace) -> Vec<String> {
    let labels = namespace.metadata.labels.as_ref();
    let mut problems: Vec<String> = refusal(namespace).into_iter().collect();
    if labels.is_some_and(|labels| labels.contains_key(names::INJECT))
        && annotation(namespace, names::INJECT).is_none()
    {
        problems.push(format!("label {} means nothing: it is an annotation", names::INJECT));
    }
    if let Some(text) = annotation(namespace, names::RECONCILE).filter(|text| *text != "restart") {
        problems.push(format!("annotation {}={text:?} means nothing: want restart", names::RECONCILE));
    }
    problems
}

fn annotation<'a>(namespace: &'a Namespace, name: &str) -> Option<&'a str> {
    namespace.metadata.annotations.as_ref()?.get(name).map(String::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(metadata: serde_json::Value) -> String {
        problems(&serde_json::from_value(serde_json::json!({"metadata": metadata})).unwrap()).join("; ")
    }

    #[test]
    fn what_keeps_a_namespace_from_being_meshed_is_said() {
        let meshed = serde_json::json!({"mesh.dev/inject": "enabled", "mesh.dev/reconcile": "restart"});
        let level = |level: &str| serde_json::json!({"pod-security.kubernetes.io/enforce": level});
        for refusing in ["baseline", "restricted"] {
            let said = said(serde_json::json!({"annotations": meshed, "labels": level(refusing)}));
            assert!(said.starts_with(&format!("its Pod Security level {refusing} refuses")), "{said}");
        }
        assert_eq!(said(serde_json::json!({"annotations": meshed, "labels": level("privileged")})), "");
        assert_eq!(said(serde_json::json!({"labels": level("restricted")})), "", "nobody wants it meshed");
        let label = said(serde_json::json!({"labels": {"mesh.dev/inject": "enabled"}}));
        assert_eq!(label, "label mesh.dev/inject means nothing: it is an annotation");
        let reconcile = said(serde_json::json!({"annotations": {"mesh.dev/reconcile": "true"}}));
        assert_eq!(reconcile, "annotation mesh.dev/reconcile=\"true\" means nothing: want restart");
    }
}
