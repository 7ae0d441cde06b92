//! Keeps the label on which the webhook selects in step with the annotation that people set. A pure plan, carried out by `duties`.

use k8s_openapi::api::core::v1::Namespace;
use mesh_api::names;
use serde_json::{Value, json};
use std::sync::Arc;

/// Whether Pods of a Namespace are to be meshed unless they say otherwise.
pub fn is_enabled(namespace: &Namespace) -> bool {
    let annotations = namespace.metadata.annotations.as_ref();
    annotations.and_then(|all| all.get(names::INJECT)).is_some_and(|value| value == "enabled")
}

/// The Namespaces whose label is not what it should be, with a merge patch that makes it so.
pub fn plan(namespaces: &[Arc<Namespace>]) -> Vec<(String, Value)> {
    let patch = |namespace: &Arc<Namespace>| {
        let labels = namespace.metadata.labels.as_ref();
        let label = labels.and_then(|labels| labels.get(names::INJECT_LABEL)).map(String::as_str);
        let wanted = is_enabled(namespace).then_some("enabled");
        let name = namespace.metadata.name.clone()?;
        let patch = json!({"metadata": {"labels": {names::INJECT_LABEL: wanted}}});
        (label != wanted).then_some((name, patch))
    };
    namespaces.iter().filter_map(patch).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_differs_is_written() {
        let namespace = |name: &str, annotation: Option<&str>, label: Option<&str>| {
            let object = json!({"metadata": {
                "name": name,
                "annotations": {"mesh.dev/inject": annotation},
                "labels": {"mesh.dev/inject-webhook": label},
            }});
            let mut object: Value = object;
            for field in ["annotations", "labels"] {
                let all = object["metadata"][field].as_object_mut().unwrap();
                all.retain(|_, value| !value.is_null());
            }
            Arc::new(serde_json::from_value::<Namespace>(object).unwrap())
        };
        let plan = plan(&[
            namespace("new", Some("enabled"), None),
            namespace("done", Some("enabled"), Some("enabled")),
            namespace("over", None, Some("enabled")),
            namespace("off", Some("disabled"), None),
            namespace("never", None, None),
        ]);
        let label = |value: Value| json!({"metadata": {"labels": {"mesh.dev/inject-webhook": value}}});
        assert_eq!(plan, [("new".into(), label("enabled".into())), ("over".into(), label(Value::Null))]);
    }
}
