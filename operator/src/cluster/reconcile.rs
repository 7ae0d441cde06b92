//! Pods that should be meshed and are not: made while no injector answered, or before their Namespace was annotated. Found by
//! comparing, shown to people, and restarted through their owner where the Namespace says so: when, `restarts` knows. Pure functions.

pub mod restarts;

use k8s_openapi::{api::core::v1::Namespace, jiff::Timestamp};
use mesh_api::names;
use mesh_charts::inject;
use mesh_policy::{
    Diagnostic, Pod, Severity,
    namespaces::{is_meshed, refusing_level},
};
use std::{
    cell::LazyCell,
    collections::{BTreeMap, HashSet},
    sync::Arc,
    time::Duration,
};

/// A workload with such Pods.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Unmeshed {
    pub namespace: String,
    /// `Deployment`, `StatefulSet`, `DaemonSet`: what can be restarted; else the kind of the Pods' owner, or `Pod`.
    pub kind: String,
    pub name: String,
    pub pods: usize,
    /// Whether we are to restart it: its Namespace asks for that, and it has not been in vain.
    pub restart: bool,
    /// Whether we have restarted it and none of the Pods that were made then has a proxy.
    pub in_vain: bool,
}

/// Pods younger than this may be on their way.
const YOUNG_S: i64 = 5;

/// What there is, and whether there may soon be more: Pods that would be missed are still young.
#[derive(Debug, Default)]
pub struct Found {
    pub unmeshed: Vec<Unmeshed>,
    pub young: bool,
}

/// What is the same for all Namespaces.
#[derive(Clone, Debug)]
pub struct Terms {
    pub control_namespace: String,
    /// Whether we have the right to restart anything.
    pub restarts: bool,
}

/// Looks at all Pods. Where no injector is asked, nothing is missing.
pub fn unmeshed(namespaces: &[Arc<Namespace>], pods: &[Arc<Pod>], terms: &Terms, now: Timestamp) -> Found {
    let mut young = false;
    let by_name: BTreeMap<&str, &Arc<Namespace>> =
        namespaces.iter().filter_map(|own| Some((own.metadata.name.as_deref()?, own))).collect();
    let left_out = |name: &&str| inject::is_left_out(name, &terms.control_namespace);
    let helped = LazyCell::new(|| helped(pods));
    let mut found: BTreeMap<(String, String, String), Unmeshed> = BTreeMap::new();
    for pod in pods {
        let name = pod.metadata.namespace.as_deref().filter(|name| !left_out(name));
        let Some(namespace) = name.and_then(|name| by_name.get(name)) else { continue };
        if !is_missing(pod, namespace) {
            continue;
        }
        if is_young(pod, now) {
            young = true;
            continue;
        }
        let (kind, name) = owner(pod);
        let restart = terms.restarts && asks_for_restarts(namespace);
        let in_vain = made_by_restart(pod).is_some_and(|at| !helped.contains(at));
        let namespace = pod.metadata.namespace.clone().unwrap_or_default();
        let key = (namespace.clone(), kind.clone(), name.clone());
        let first = Unmeshed { namespace, kind, name, pods: 0, restart, in_vain };
        let own = found.entry(key).or_insert(first);
        own.pods += 1;
        own.in_vain |= in_vain;
        own.restart &= !own.in_vain;
    }
    Found { unmeshed: found.into_values().collect(), young }
}

/// Where its Pods would be refused, a rollout would stand still.
fn asks_for_restarts(namespace: &Namespace) -> bool {
    let annotations = namespace.metadata.annotations.as_ref();
    let asks = annotations.and_then(|all| all.get(names::RECONCILE)).is_some_and(|own| own == "restart");
    asks && refusing_level(namespace).is_none()
}

/// A restart has made its Pods after this long, or something is wrong. One that is made of the same template later on has another reason
/// to be there.
const MADE: Duration = Duration::from_secs(300);

/// Which restart of ours has made this Pod.
fn made_by_restart(pod: &Pod) -> Option<&str> {
    let written = pod.template.annotations.get(names::RESTARTED_AT)?;
    let at: Timestamp = written.parse().ok()?;
    let created = pod.metadata.creation_timestamp.as_ref()?.0;
    // Our clock may be ahead of the API server's: then the difference is negative.
    let is_later = Duration::try_from(created.duration_since(at)).is_ok_and(|later| later >= MADE);
    (!is_later).then_some(written.as_str())
}

/// The restarts of which some Pod has a proxy.
fn helped(pods: &[Arc<Pod>]) -> HashSet<&str> {
    let meshed = pods.iter().filter(|pod| is_with_proxy(pod));
    meshed.filter_map(|pod| pod.template.annotations.get(names::RESTARTED_AT)).map(String::as_str).collect()
}

fn is_with_proxy(pod: &Pod) -> bool {
    pod.template.labels.contains_key(names::CONTROL_NAMESPACE_LABEL)
}

fn is_over(pod: &Pod) -> bool {
    matches!(pod.status.phase.as_deref(), Some("Succeeded" | "Failed"))
        || pod.metadata.deletion_timestamp.is_some()
}

fn is_young(pod: &Pod, now: Timestamp) -> bool {
    let created = pod.metadata.creation_timestamp.as_ref().map_or(0, |at| at.0.as_second());
    now.as_second() - created < YOUNG_S
}

fn is_missing(pod: &Pod, namespace: &Namespace) -> bool {
    let annotation = |name: &str| pod.template.annotations.get(name).map(String::as_str);
    let wanted = match annotation(names::INJECT) {
        Some(own) => own == "enabled",
        None => is_meshed(namespace),
    };
    let skipped = annotation(names::INJECT_STATUS).is_some_and(|status| status.starts_with("skipped"));
    // Kubelet runs it from a file, and shows it as its Node's.
    let is_static = pod.template.owners.iter().any(|owner| owner.kind == "Node");
    wanted && !is_with_proxy(pod) && !skipped && !is_static && !pod.template.host_network && !is_over(pod)
}

/// Kind and name of what makes the Pod anew; a ReplicaSet's Deployment is found by the hash in its name.
fn owner(pod: &Pod) -> (String, String) {
    let name = pod.metadata.name.clone().unwrap_or_default();
    let Some(owner) = pod.template.owners.iter().find(|owner| owner.controller == Some(true)) else {
        return ("Pod".into(), name);
    };
    let hash = pod.template.labels.get("pod-template-hash");
    let deployment = hash.and_then(|hash| owner.name.strip_suffix(&format!("-{hash}")));
    match deployment.filter(|_| owner.kind == "ReplicaSet") {
        Some(deployment) => ("Deployment".into(), deployment.to_owned()),
        None => (owner.kind.clone(), owner.name.clone()),
    }
}

impl Unmeshed {
    /// However many of its Pods are left.
    fn whole(&self) -> Unmeshed {
        Unmeshed { pods: 0, ..self.clone() }
    }

    /// The collection of `apps/v1` in which it can be restarted.
    pub fn plural(&self) -> Option<&'static str> {
        match self.kind.as_str() {
            "Deployment" => Some("deployments"),
            "StatefulSet" => Some("statefulsets"),
            "DaemonSet" => Some("daemonsets"),
            _ => None,
        }
    }

    /// As `kubectl` takes it.
    fn argument(&self) -> String {
        format!("-n {} {}/{}", self.namespace, self.kind.to_lowercase(), self.name)
    }

    pub fn finding(&self) -> Diagnostic {
        let remedy = match self.plural() {
            Some(_) if self.in_vain => format!(
                "restarting it did not help, as if nobody had asked the webhook: when that can be reached, kubectl rollout restart {}",
                self.argument()
            ),
            Some(_) if self.restart => {
                "the operator restarts it in its turn: its events say when, or why not".into()
            }
            Some(_) => format!("kubectl rollout restart {}", self.argument()),
            None => "make its Pods anew".into(),
        };
        let message = format!("should be meshed, and {} of its Pods run without a proxy", self.pods);
        self.warning(message, remedy)
    }

    fn warning(&self, message: String, remedy: String) -> Diagnostic {
        Diagnostic {
            severity: Severity::Warning,
            path: String::new(),
            document: 0,
            line: 0,
            object: format!("{} {}/{}", self.kind, self.namespace, self.name),
            message,
            remedy,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn found(annotations: Value, change: impl FnOnce(&mut Value)) -> Vec<Unmeshed> {
        look("shop", annotations, change).unmeshed
    }

    fn look(namespace: &str, annotations: Value, change: impl FnOnce(&mut Value)) -> Found {
        let terms = Terms { control_namespace: "mesh-system".into(), restarts: true };
        look_with(&terms, namespace, annotations, change)
    }

    fn look_with(
        terms: &Terms,
        namespace: &str,
        annotations: Value,
        change: impl FnOnce(&mut Value),
    ) -> Found {
        let name = namespace;
        let namespace = json!({"metadata": {"name": name, "annotations": annotations}});
        let mut pod = json!({
            "metadata": {
                "name": "web-5-x", "namespace": name, "creationTimestamp": "2026-01-01T00:00:00Z",
                "labels": {"pod-template-hash": "5"}, "annotations": {},
                "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-5", "uid": "u", "controller": true}],
            },
            "spec": {"containers": []},
            "status": {"phase": "Running"},
        });
        change(&mut pod);
        let (namespace, pod) =
            (serde_json::from_value(namespace).unwrap(), serde_json::from_value(pod).unwrap());
        let now = "2026-01-01T00:01:00Z".parse().unwrap();
        unmeshed(&[Arc::new(namespace)], &[Arc::new(pod)], terms, now)
    }

    #[test]
    fn a_pod_without_a_proxy_is_found_with_what_can_be_restarted() {
        let found = found(json!({"mesh.dev/inject": "enabled"}), |_| {});
        assert_eq!((found[0].kind.as_str(), found[0].name.as_str(), found[0].pods), ("Deployment", "web", 1));
        assert!(!found[0].restart);
        assert_eq!(found[0].finding().remedy, "kubectl rollout restart -n shop deployment/web");
    }

    #[test]
    fn nothing_is_restarted_where_its_pods_would_be_refused() {
        let restart = |level: &str| {
            let labels = json!({"pod-security.kubernetes.io/enforce": level});
            let annotations = json!({"mesh.dev/inject": "enabled", "mesh.dev/reconcile": "restart"});
            let namespace =
                json!({"metadata": {"name": "shop", "annotations": annotations, "labels": labels}});
            let pod = json!({"metadata": {"name": "web", "namespace": "shop"}, "spec": {"containers": []}});
            let terms = Terms { control_namespace: "mesh-system".into(), restarts: true };
            let now = "2026-01-01T00:01:00Z".parse().unwrap();
            let (namespace, pod) =
                (serde_json::from_value(namespace).unwrap(), serde_json::from_value(pod).unwrap());
            unmeshed(&[Arc::new(namespace)], &[Arc::new(pod)], &terms, now).unmeshed[0].restart
        };
        assert!(restart("privileged") && !restart("baseline") && !restart("restricted"));
    }

    #[test]
    fn the_namespace_decides_whether_we_restart() {
        let found = found(json!({"mesh.dev/inject": "enabled", "mesh.dev/reconcile": "restart"}), |_| {});
        assert!(found[0].restart);
    }

    #[test]
    fn who_may_not_restart_says_who_should() {
        let terms = Terms { control_namespace: "mesh-system".into(), restarts: false };
        let annotations = json!({"mesh.dev/inject": "enabled", "mesh.dev/reconcile": "restart"});
        let found = look_with(&terms, "shop", annotations, |_| {}).unmeshed;
        assert_eq!(found[0].finding().remedy, "kubectl rollout restart -n shop deployment/web");
    }

    /// What is found of Pods of one workload: what they were restarted at, when they were made, and whether they have a proxy.
    fn restarted(pods: &[(&str, &str, bool)]) -> Unmeshed {
        let annotations = json!({"mesh.dev/inject": "enabled", "mesh.dev/reconcile": "restart"});
        let namespace = json!({"metadata": {"name": "shop", "annotations": annotations}});
        let pods = pods.iter().map(|(at, created, meshed)| {
            let labels = if *meshed { json!({"mesh.dev/control-plane-ns": "mesh"}) } else { json!({}) };
            let owner = json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "web", "uid": "u", "controller": true});
            let pod = json!({
                "metadata": {
                    "name": "web-0", "namespace": "shop", "creationTimestamp": created, "labels": labels,
                    "annotations": {"mesh.dev/restarted-at": at}, "ownerReferences": [owner],
                },
                "spec": {"containers": []},
            });
            Arc::new(serde_json::from_value(pod).unwrap())
        });
        let terms = Terms { control_namespace: "mesh-system".into(), restarts: true };
        let pods: Vec<Arc<Pod>> = pods.collect();
        let namespace = Arc::new(serde_json::from_value(namespace).unwrap());
        unmeshed(&[namespace], &pods, &terms, "2026-01-02T00:00:00Z".parse().unwrap()).unmeshed.remove(0)
    }

    #[test]
    fn what_a_restart_did_not_help_is_not_restarted_again() {
        let (at, soon, later) = ("2026-01-01T00:00:00.5Z", "2026-01-01T00:00:00Z", "2026-01-01T00:10:00Z");
        let found = restarted(&[("", soon, false), (at, soon, false)]);
        assert_eq!((found.pods, found.restart, found.in_vain), (2, false, true));
        let remedy = found.finding().remedy;
        assert!(
            remedy.starts_with("restarting it did not help") && remedy.contains("statefulset/web"),
            "{remedy}"
        );
        let due = |pods: &[(&str, &str, bool)]| restarted(pods).restart;
        assert!(due(&[(at, later, false)]), "somebody else has made it, when nobody answered");
        assert!(due(&[(at, soon, false), (at, soon, true)]), "it helped another one");
        assert!(due(&[("yesterday", soon, false)]));
    }

    #[test]
    fn a_young_pod_is_looked_at_again() {
        let enabled = json!({"mesh.dev/inject": "enabled"});
        let young = |pod: &mut Value| pod["metadata"]["creationTimestamp"] = "2026-01-01T00:00:58Z".into();
        let found = look("shop", enabled.clone(), young);
        assert_eq!((found.unmeshed.len(), found.young), (0, true));
        let found = look("shop", enabled, |_| {});
        assert_eq!((found.unmeshed.len(), found.young), (1, false));
    }

    #[test]
    fn nothing_is_missing_where_no_injector_is_asked() {
        let all = json!({"mesh.dev/inject": "enabled", "mesh.dev/reconcile": "restart"});
        for (namespace, pods) in [("shop", 1), ("kube-system", 0), ("mesh-system", 0)] {
            assert_eq!(look(namespace, all.clone(), |_| {}).unmeshed.len(), pods, "{namespace}");
        }
    }

    #[test]
    fn pods_that_need_no_proxy_are_left_alone() {
        let enabled = json!({"mesh.dev/inject": "enabled"});
        let set =
            |path: &'static str, value: Value| move |pod: &mut Value| *pod.pointer_mut(path).unwrap() = value;
        let node = json!([{"apiVersion": "v1", "kind": "Node", "name": "n", "uid": "u", "controller": true}]);
        let rows: [(&str, Vec<Unmeshed>); 8] = [
            ("static", found(enabled.clone(), set("/metadata/ownerReferences", node))),
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
