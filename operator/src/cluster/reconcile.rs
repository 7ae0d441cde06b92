//! Pods that should be meshed and are not: made while no injector answered, or before their Namespace was annotated. Found by
//! comparing, shown to people, and restarted through their owner where the Namespace says so. Pure functions.

use k8s_openapi::{api::core::v1::Namespace, jiff::Timestamp};
use mesh_api::names;
use mesh_charts::inject;
use mesh_policy::{
    Diagnostic, Pod, Severity,
    namespaces::{is_meshed, refusing_level},
};
use serde_json::Value;
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};
use tokio::time::Instant;

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
    let mut found: BTreeMap<(String, String, String), (usize, bool)> = BTreeMap::new();
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
        let annotations = namespace.metadata.annotations.as_ref();
        let restart =
            annotations.and_then(|all| all.get(names::RECONCILE)).is_some_and(|own| own == "restart");
        // Where its Pods would be refused, a rollout would stand still.
        let restart = restart && terms.restarts && refusing_level(namespace).is_none();
        let key = (pod.metadata.namespace.clone().unwrap_or_default(), kind, name);
        let entry = found.entry(key).or_insert((0, restart));
        entry.0 += 1;
    }
    let row = |((namespace, kind, name), (pods, restart))| Unmeshed { namespace, kind, name, pods, restart };
    Found { unmeshed: found.into_iter().map(row).collect(), young }
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
    let meshed = pod.template.labels.contains_key(names::CONTROL_NAMESPACE_LABEL);
    let skipped = annotation(names::INJECT_STATUS).is_some_and(|status| status.starts_with("skipped"));
    let over = matches!(pod.status.phase.as_deref(), Some("Succeeded" | "Failed"))
        || pod.metadata.deletion_timestamp.is_some();
    wanted && !meshed && !skipped && !pod.template.host_network && !over
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

/// Workloads are restarted no faster than this, so that a cluster is not rolled at once …
const BETWEEN: Duration = Duration::from_secs(10);
/// … and each no more often than this: what does not help once will not help at once. Written on its Pods' template, so that another
/// replica knows.
const RESTARTED: Duration = Duration::from_secs(6 * 3600);
/// One that could not be restarted keeps no other waiting.
const AFTER_ALL: Duration = Duration::from_secs(60);

/// Which workloads were restarted, as far as this replica knows.
#[derive(Debug, Default)]
pub struct Restarts {
    /// Until when each is left alone.
    resting: HashMap<Unmeshed, Instant>,
    last: Option<Instant>,
}

/// What became of a restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restart {
    Done,
    /// Its Pods were made anew so long ago, by us or another replica.
    Before(Duration),
    Failed,
}

impl Restarts {
    /// The workload that is to be restarted now, with its collection.
    pub fn next(&mut self, unmeshed: &[Unmeshed], now: Instant) -> Option<(Unmeshed, &'static str)> {
        self.resting.retain(|_, until| now < *until);
        if self.pause(now).is_some_and(|pause| !pause.is_zero()) {
            return None;
        }
        let due = |own: &Unmeshed| own.restart && !self.resting.contains_key(&own.whole());
        let due = unmeshed.iter().filter(|own| due(own));
        due.filter_map(|own| Some((own.clone(), own.plural()?))).next()
    }

    /// How long until the next may be restarted, where that is still to come.
    pub fn pause(&self, now: Instant) -> Option<Duration> {
        BETWEEN.checked_sub(now.saturating_duration_since(self.last?))
    }

    pub fn note(&mut self, workload: &Unmeshed, became: Restart, now: Instant) {
        let rest = match became {
            Restart::Done => RESTARTED,
            Restart::Before(elapsed) => RESTARTED.saturating_sub(elapsed),
            Restart::Failed => AFTER_ALL,
        };
        self.resting.insert(workload.whole(), now + rest);
        if became == Restart::Done {
            self.last = Some(now);
        }
    }
}

/// How long ago a workload was restarted for this reason, where that is not so long that it may be again.
pub fn restarted_before(workload: &Value, now: Timestamp) -> Option<Duration> {
    let annotations = &workload["spec"]["template"]["metadata"]["annotations"];
    let at: Timestamp = annotations[names::RESTARTED_AT].as_str()?.parse().ok()?;
    // One from the future was written by a clock that is ahead.
    let elapsed = Duration::try_from(now.duration_since(at)).unwrap_or_default();
    (elapsed < RESTARTED).then_some(elapsed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

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
    fn workloads_are_restarted_one_by_one_and_each_seldom() {
        let unmeshed = |name: &str, pods: usize| Unmeshed {
            namespace: "shop".into(),
            kind: "Deployment".into(),
            name: name.into(),
            pods,
            restart: true,
        };
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let mut restarts = Restarts::default();
        let mut next = |at, became| {
            let (found, _) = restarts.next(&[unmeshed("a", at as usize), unmeshed("b", 1)], after(at))?;
            restarts.note(&found, became, after(at));
            Some(found.name)
        };
        assert_eq!(next(0, Restart::Failed).as_deref(), Some("a"));
        assert_eq!(next(1, Restart::Done).as_deref(), Some("b"), "it does not wait for one that fails");
        assert_eq!(next(5, Restart::Done), None, "b is being restarted");
        assert_eq!(next(70, Restart::Done).as_deref(), Some("a"), "it is tried again");
        assert_eq!(next(3_600, Restart::Done), None);
        let six_hours = 6 * 3_600;
        assert_eq!(next(1 + six_hours, Restart::Before(Duration::from_secs(3_600))).as_deref(), Some("b"));
        assert_eq!(next(70 + six_hours, Restart::Done).as_deref(), Some("a"));
        assert_eq!(next(90 + six_hours, Restart::Done), None);
        assert_eq!(
            next(1 + six_hours + 5 * 3_600, Restart::Done).as_deref(),
            Some("b"),
            "six hours after that"
        );
    }

    #[test]
    fn whoever_waits_for_the_next_knows_how_long() {
        let (start, mut restarts) = (Instant::now(), Restarts::default());
        assert_eq!(restarts.pause(start), None);
        let own = Unmeshed {
            namespace: "shop".into(),
            kind: "Deployment".into(),
            name: "web".into(),
            pods: 1,
            restart: true,
        };
        restarts.note(&own, Restart::Done, start);
        assert_eq!(restarts.pause(start + Duration::from_secs(4)), Some(Duration::from_secs(6)));
        assert_eq!(restarts.pause(start + Duration::from_secs(11)), None);
    }

    #[test]
    fn a_restart_is_known_by_the_template() {
        let workload = |at: &str| {
            let annotations = json!({"mesh.dev/restarted-at": at});
            json!({"spec": {"template": {"metadata": {"annotations": annotations}}}})
        };
        let before = |at| restarted_before(&workload(at), "2026-01-01T12:00:00Z".parse().unwrap());
        assert_eq!(before("2026-01-01T11:00:00.5Z"), Some(Duration::from_millis(3_599_500)));
        assert_eq!(before("2026-01-01T12:00:09Z"), Some(Duration::ZERO));
        assert_eq!(before("2026-01-01T05:59:00Z"), None);
        assert_eq!(before("yesterday"), None);
        assert_eq!(restarted_before(&json!({"spec": {}}), Timestamp::now()), None);
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
