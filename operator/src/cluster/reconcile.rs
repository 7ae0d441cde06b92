//! Pods that should be meshed and are not: made while no injector answered, or before their Namespace was annotated. Found by
//! comparing, shown to people, and restarted through their owner where the Namespace says so. Pure functions.

use super::mirror;
use k8s_openapi::{api::core::v1::Namespace, jiff::Timestamp};
use mesh_api::names;
use mesh_policy::{Diagnostic, Pod, Severity};
use std::{collections::BTreeMap, sync::Arc};

/// A workload with such Pods.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Unmeshed {
    pub namespace: String,
    /// `Deployment`, `StatefulSet`, `DaemonSet`: what can be restarted; else the kind of the Pods' owner, or `Pod`.
    pub kind: String,
    pub name: String,
    pub pods: usize,
    /// Whether its Namespace asks us to restart it.
    pub restart: bool,
}

/// Pods younger than this may be on their way.
const YOUNG_S: i64 = 5;

pub fn unmeshed(namespaces: &[Arc<Namespace>], pods: &[Arc<Pod>], now: Timestamp) -> Vec<Unmeshed> {
    let by_name: BTreeMap<&str, &Arc<Namespace>> =
        namespaces.iter().filter_map(|own| Some((own.metadata.name.as_deref()?, own))).collect();
    let mut found: BTreeMap<(String, String, String), (usize, bool)> = BTreeMap::new();
    for pod in pods {
        let Some(namespace) = pod.metadata.namespace.as_deref().and_then(|name| by_name.get(name)) else {
            continue;
        };
        if !is_missing(pod, namespace, now) {
            continue;
        }
        let (kind, name) = owner(pod);
        let annotations = namespace.metadata.annotations.as_ref();
        let restart =
            annotations.and_then(|all| all.get(names::RECONCILE)).is_some_and(|own| own == "restart");
        let key = (pod.metadata.namespace.clone().unwrap_or_default(), kind, name);
        let entry = found.entry(key).or_insert((0, restart));
        entry.0 += 1;
    }
    let row = |((namespace, kind, name), (pods, restart))| Unmeshed { namespace, kind, name, pods, restart };
    found.into_iter().map(row).collect()
}

fn is_missing(pod: &Pod, namespace: &Namespace, now: Timestamp) -> bool {
    let annotations = pod.metadata.annotations.as_ref();
    let annotation = |name: &str| annotations.and_then(|all| all.get(name)).map(String::as_str);
    let wanted = match annotation(names::INJECT) {
        Some(own) => own == "enabled",
        None => mirror::is_enabled(namespace),
    };
    let meshed =
        pod.metadata.labels.as_ref().is_some_and(|all| all.contains_key(names::CONTROL_NAMESPACE_LABEL));
    let skipped = annotation(names::INJECT_STATUS).is_some_and(|status| status.starts_with("skipped"));
    let host_network = pod.spec.as_ref().is_some_and(|spec| spec.host_network == Some(true));
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    let over = matches!(phase, Some("Succeeded" | "Failed")) || pod.metadata.deletion_timestamp.is_some();
    let created = pod.metadata.creation_timestamp.as_ref().map_or(0, |at| at.0.as_second());
    let young = now.as_second() - created < YOUNG_S;
    wanted && !meshed && !skipped && !host_network && !over && !young
}

/// Kind and name of what makes the Pod anew; a ReplicaSet's Deployment is found by the hash in its name.
fn owner(pod: &Pod) -> (String, String) {
    let name = pod.metadata.name.clone().unwrap_or_default();
    let owners = pod.metadata.owner_references.iter().flatten();
    let Some(owner) = owners.clone().find(|owner| owner.controller == Some(true)) else {
        return ("Pod".into(), name);
    };
    let hash = pod.metadata.labels.as_ref().and_then(|labels| labels.get("pod-template-hash"));
    let deployment = hash.and_then(|hash| owner.name.strip_suffix(&format!("-{hash}")));
    match deployment.filter(|_| owner.kind == "ReplicaSet") {
        Some(deployment) => ("Deployment".into(), deployment.to_owned()),
        None => (owner.kind.clone(), owner.name.clone()),
    }
}

impl Unmeshed {
    /// The collection of `apps/v1` in which it can be restarted.
    pub fn plural(&self) -> Option<&'static str> {
        match self.kind.as_str() {
            "Deployment" => Some("deployments"),
            "StatefulSet" => Some("statefulsets"),
            "DaemonSet" => Some("daemonsets"),
            _ => None,
        }
    }

    pub fn finding(&self) -> Diagnostic {
        let Unmeshed { namespace, kind, name, pods, .. } = self;
        let remedy = match self.plural() {
            Some(_) if self.restart => "it is being restarted".into(),
            Some(_) => format!("kubectl rollout restart -n {namespace} {}/{name}", kind.to_lowercase()),
            None => "make its Pods anew".into(),
        };
        Diagnostic {
            severity: Severity::Warning,
            path: String::new(),
            document: 0,
            line: 0,
            object: format!("{kind} {namespace}/{name}"),
            message: format!("should be meshed, and {pods} of its Pods run without a proxy"),
            remedy,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn found(annotations: Value, change: impl FnOnce(&mut Value)) -> Vec<Unmeshed> {
        let namespace = json!({"metadata": {"name": "shop", "annotations": annotations}});
        let mut pod = json!({
            "metadata": {
                "name": "web-5-x", "namespace": "shop", "creationTimestamp": "2026-01-01T00:00:00Z",
                "labels": {"pod-template-hash": "5"}, "annotations": {},
                "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-5", "uid": "u", "controller": true}],
            },
            "spec": {"containers": []},
            "status": {"phase": "Running"},
        });
        change(&mut pod);
        let (namespace, pod) =
            (serde_json::from_value(namespace).unwrap(), serde_json::from_value(pod).unwrap());
        unmeshed(&[Arc::new(namespace)], &[Arc::new(pod)], "2026-01-01T00:01:00Z".parse().unwrap())
    }

    #[test]
    fn a_pod_without_a_proxy_is_found_with_what_can_be_restarted() {
        let found = found(json!({"mesh.dev/inject": "enabled"}), |_| {});
        assert_eq!((found[0].kind.as_str(), found[0].name.as_str(), found[0].pods), ("Deployment", "web", 1));
        assert!(!found[0].restart);
        assert_eq!(found[0].finding().remedy, "kubectl rollout restart -n shop deployment/web");
    }

    #[test]
    fn the_namespace_decides_whether_we_restart() {
        let found = found(json!({"mesh.dev/inject": "enabled", "mesh.dev/reconcile": "restart"}), |_| {});
        assert!(found[0].restart);
    }

    #[test]
    fn pods_that_need_no_proxy_are_left_alone() {
        let enabled = json!({"mesh.dev/inject": "enabled"});
        let set =
            |path: &'static str, value: Value| move |pod: &mut Value| *pod.pointer_mut(path).unwrap() = value;
        let rows: [(&str, Vec<Unmeshed>); 7] = [
            ("not annotated", found(json!({}), |_| {})),
            (
                "opted out",
                found(enabled.clone(), set("/metadata/annotations", json!({"mesh.dev/inject": "disabled"}))),
            ),
            (
                "meshed",
                found(enabled.clone(), set("/metadata/labels", json!({"mesh.dev/control-plane-ns": "mesh"}))),
            ),
            (
                "skipped",
                found(
                    enabled.clone(),
                    set("/metadata/annotations", json!({"mesh.dev/inject-status": "skipped: x"})),
                ),
            ),
            (
                "on the node's network",
                found(enabled.clone(), set("/spec", json!({"containers": [], "hostNetwork": true}))),
            ),
            ("over", found(enabled.clone(), set("/status/phase", json!("Succeeded")))),
            ("young", found(enabled, set("/metadata/creationTimestamp", json!("2026-01-01T00:00:58Z")))),
        ];
        for (what, found) in rows {
            assert_eq!(found, [], "{what}");
        }
    }
}
