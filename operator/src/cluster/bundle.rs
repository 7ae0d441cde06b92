//! The ConfigMap with what proxies trust: one in every Namespace that has or may get meshed Pods. A pure plan, carried out by
//! `duties`.

use super::mirror;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod};
use mesh_api::names;
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// What each Namespace's ConfigMap says now; a digest would do, but they are few and small.
pub type Kept = BTreeMap<String, String>;

/// Namespaces that want a bundle: annotated ones, and those where a Pod asks for a proxy or has one.
pub fn namespaces(all: &[Arc<Namespace>], pods: &[Arc<Pod>]) -> BTreeSet<String> {
    let annotated = all.iter().filter(|namespace| mirror::is_enabled(namespace));
    let mut wanted: BTreeSet<String> =
        annotated.filter_map(|namespace| namespace.metadata.name.clone()).collect();
    for pod in pods {
        let labels = pod.metadata.labels.as_ref();
        let meshed = labels.is_some_and(|labels| labels.contains_key(names::CONTROL_NAMESPACE_LABEL));
        if meshed
            && let Some(namespace) = &pod.metadata.namespace
            && !wanted.contains(namespace)
        {
            wanted.insert(namespace.clone());
        }
    }
    wanted
}

/// The Namespaces whose ConfigMap is missing or says something else than `anchors`.
pub fn plan<'a>(wanted: &'a BTreeSet<String>, kept: &Kept, anchors: &str) -> Vec<&'a str> {
    let differs = |namespace: &&String| kept.get(*namespace).map(String::as_str) != Some(anchors);
    wanted.iter().filter(differs).map(String::as_str).collect()
}

/// For a server-side apply.
pub fn config_map(anchors: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": names::TRUST_ANCHORS_CONFIG_MAP,
            "labels": {"app.kubernetes.io/part-of": "mesh"},
        },
        "data": {names::TRUST_ANCHORS_KEY: anchors},
    })
}

/// What a ConfigMap says; empty when it says nothing of use.
pub fn anchors(map: &ConfigMap) -> String {
    map.data.as_ref().and_then(|data| data.get(names::TRUST_ANCHORS_KEY)).cloned().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_meshed_namespace_gets_the_bundle_and_no_other() {
        let object = |object: Value| serde_json::from_value::<Namespace>(object).map(Arc::new).unwrap();
        let pod = |object: Value| serde_json::from_value::<Pod>(object).map(Arc::new).unwrap();
        let all = [
            object(json!({"metadata": {"name": "shop", "annotations": {"mesh.dev/inject": "enabled"}}})),
            object(json!({"metadata": {"name": "plain"}})),
        ];
        let meshed = json!({"mesh.dev/control-plane-ns": "mesh"});
        let pods = [
            pod(json!({"metadata": {"name": "a", "namespace": "lone", "labels": meshed}})),
            pod(json!({"metadata": {"name": "b", "namespace": "plain", "labels": {"app": "b"}}})),
        ];
        let wanted = namespaces(&all, &pods);
        assert_eq!(wanted, ["lone", "shop"].map(str::to_owned).into());
        let kept = Kept::from([("shop".into(), "new".into()), ("lone".into(), "old".into())]);
        assert_eq!(plan(&wanted, &kept, "new"), ["lone"]);
        assert_eq!(plan(&wanted, &Kept::new(), "new"), ["lone", "shop"]);
    }
}
