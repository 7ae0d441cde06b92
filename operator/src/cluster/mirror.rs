//! Keeps the label on which the webhook selects in step with the annotation that people set. The webhook writes it together with the
//! annotation, so that the Pods that are applied right after find it; what it missed, `duties` makes good.

use k8s_openapi::api::core::v1::Namespace;
use mesh_api::names;
use mesh_policy::namespaces::is_meshed;
use serde_json::{Value, json};
use std::sync::Arc;

/// What the label is, and what it should be, where they differ.
fn difference(namespace: &Namespace) -> Option<(Option<&str>, Option<&'static str>)> {
    let labels = namespace.metadata.labels.as_ref();
    let label = labels.and_then(|labels| labels.get(names::INJECT_LABEL)).map(String::as_str);
    let wanted = is_meshed(namespace).then_some("enabled");
    (label != wanted).then_some((label, wanted))
}

/// A JSON patch (RFC 6902) for one Namespace that is being written; empty when nothing is to be done.
pub fn patch(namespace: &Namespace) -> Value {
    // RFC 6901, section 3: the name has a slash.
    let path = format!("/metadata/labels/{}", names::INJECT_LABEL.replace('/', "~1"));
    let operation = match difference(namespace) {
        None => return json!([]),
        Some((_, Some(wanted))) if namespace.metadata.labels.is_none() => {
            json!({"op": "add", "path": "/metadata/labels", "value": {names::INJECT_LABEL: wanted}})
        }
        Some((_, Some(wanted))) => json!({"op": "add", "path": path, "value": wanted}),
        Some((_, None)) => json!({"op": "remove", "path": path}),
    };
    json!([operation])
}

/// The Namespaces whose label is not what it should be, with a merge patch that makes it so.
pub fn plan(namespaces: &[Arc<Namespace>]) -> Vec<(String, Value)> {
    let patch = |namespace: &Arc<Namespace>| {
        let (_, wanted) = difference(namespace)?;
        let patch = json!({"metadata": {"labels": {names::INJECT_LABEL: wanted}}});
        Some((namespace.metadata.name.clone()?, patch))
    };
    namespaces.iter().filter_map(patch).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_that_is_being_written_gets_its_label_at_once() {
        for (metadata, expected) in [
            (
                json!({"annotations": {"mesh.dev/inject": "enabled"}}),
                json!([{"op": "add", "path": "/metadata/labels", "value": {"mesh.dev/inject-webhook": "enabled"}}]),
            ),
            (
                json!({"annotations": {"mesh.dev/inject": "enabled"}, "labels": {"a": "b"}}),
                json!([{"op": "add", "path": "/metadata/labels/mesh.dev~1inject-webhook", "value": "enabled"}]),
            ),
            (
                json!({"annotations": {"mesh.dev/inject": "disabled"}, "labels": {"mesh.dev/inject-webhook": "enabled"}}),
                json!([{"op": "remove", "path": "/metadata/labels/mesh.dev~1inject-webhook"}]),
            ),
            (json!({"labels": {"a": "b"}}), json!([])),
        ] {
            let namespace: Namespace = serde_json::from_value(json!({"metadata": metadata})).unwrap();
            assert_eq!(patch(&namespace), expected);
        }
    }

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
