//! The ConfigMap with what proxies trust: one in every Namespace that has or may get meshed Pods. A pure plan, carried out by
//! `duties`.

use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use mesh_api::names;
use mesh_policy::{Pod, namespaces::is_meshed};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// What a ConfigMap is to say, and what is to take it along when the mesh is uninstalled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bundle {
    pub anchors: String,
    /// UID of the operator's ClusterRole. Always one that was just read: what is owned by something that is not there is deleted.
    pub owner: Option<String>,
}

/// What each Namespace's ConfigMap says now; a digest would do, but they are few and small.
pub type Kept = BTreeMap<String, Bundle>;

/// Namespaces that want a bundle: annotated ones, and those where a Pod asks for a proxy or has one. In one that is going, nothing can
/// be made any more; proxies that are still there and have not followed are waited for as such.
pub fn namespaces(all: &[Arc<Namespace>], pods: &[Arc<Pod>]) -> BTreeSet<String> {
    let annotated = all.iter().filter(|namespace| is_meshed(namespace));
    let mut wanted: BTreeSet<String> =
        annotated.filter_map(|namespace| namespace.metadata.name.clone()).collect();
    let going = all.iter().filter(|namespace| namespace.metadata.deletion_timestamp.is_some());
    let going: BTreeSet<&String> = going.filter_map(|namespace| namespace.metadata.name.as_ref()).collect();
    for pod in pods {
        if pod.template.labels.contains_key(names::CONTROL_NAMESPACE_LABEL)
            && let Some(namespace) = &pod.metadata.namespace
            && !wanted.contains(namespace)
        {
            wanted.insert(namespace.clone());
        }
    }
    wanted.retain(|namespace| !going.contains(namespace));
    wanted
}

/// The Namespaces whose ConfigMap is missing or is another than this.
pub fn plan<'a>(wanted: &'a BTreeSet<String>, kept: &Kept, bundle: &Bundle) -> Vec<&'a str> {
    let differs = |namespace: &&String| kept.get(*namespace) != Some(bundle);
    wanted.iter().filter(differs).map(String::as_str).collect()
}

impl Bundle {
    pub fn of(map: &ConfigMap) -> Bundle {
        let anchors = map.data.as_ref().and_then(|data| data.get(names::TRUST_ANCHORS_KEY)).cloned();
        let mut owners = map.metadata.owner_references.iter().flatten();
        let owner = owners.find(|owner| owner.kind == "ClusterRole" && owner.name == names::OPERATOR);
        Bundle { anchors: anchors.unwrap_or_default(), owner: owner.map(|owner| owner.uid.clone()) }
    }

    /// For a server-side apply.
    pub fn config_map(&self) -> Value {
        let owner = |uid: &String| {
            json!({
                "apiVersion": "rbac.authorization.k8s.io/v1",
                "kind": "ClusterRole",
                "name": names::OPERATOR,
                "uid": uid,
            })
        };
        json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {
                "name": names::TRUST_ANCHORS_CONFIG_MAP,
                "labels": {"app.kubernetes.io/part-of": "mesh"},
                "ownerReferences": self.owner.iter().map(owner).collect::<Vec<_>>(),
            },
            "data": {names::TRUST_ANCHORS_KEY: self.anchors},
        })
    }
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
            object(json!({"metadata": {
                "name": "going", "annotations": {"mesh.dev/inject": "enabled"}, "deletionTimestamp": "2026-01-01T00:00:00Z",
            }})),
        ];
        let meshed = json!({"mesh.dev/control-plane-ns": "mesh"});
        let pods = [
            pod(json!({"metadata": {"name": "a", "namespace": "lone", "labels": meshed}})),
            pod(json!({"metadata": {"name": "c", "namespace": "going", "labels": meshed}})),
            pod(json!({"metadata": {"name": "b", "namespace": "plain", "labels": {"app": "b"}}})),
        ];
        let wanted = namespaces(&all, &pods);
        assert_eq!(wanted, ["lone", "shop"].map(str::to_owned).into());
        let new = bundle("new", "1");
        let kept = Kept::from([("shop".into(), new.clone()), ("lone".into(), bundle("old", "1"))]);
        assert_eq!(plan(&wanted, &kept, &new), ["lone"]);
        assert_eq!(plan(&wanted, &Kept::new(), &new), ["lone", "shop"]);
    }

    fn bundle(anchors: &str, owner: &str) -> Bundle {
        Bundle { anchors: anchors.into(), owner: Some(owner.into()) }
    }

    #[test]
    fn a_bundle_is_read_back_as_it_was_written_and_follows_its_owner() {
        let written = bundle("anchors", "1");
        let map: ConfigMap = serde_json::from_value(written.config_map()).unwrap();
        assert_eq!(Bundle::of(&map), written);
        let kept = Kept::from([("shop".into(), written)]);
        let wanted = BTreeSet::from(["shop".to_owned()]);
        assert_eq!(plan(&wanted, &kept, &bundle("anchors", "2")), ["shop"], "the ClusterRole was made anew");
    }
}
