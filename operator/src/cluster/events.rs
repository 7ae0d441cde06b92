//! What people find with `kubectl describe` and `kubectl get events`: why a Pod has no proxy, which workloads should be meshed and are
//! not, that we restart one, and why we do not. A pure plan, carried out by `duties`, which says each thing once an hour.

use super::reconcile::{Unmeshed, restarts::Held};
use k8s_openapi::jiff::Timestamp;
use mesh_api::names;
use mesh_policy::Pod;
use std::sync::Arc;

/// One thing to say about one object.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Saying {
    /// `Pod`, or a kind of `apps/v1`.
    pub kind: String,
    pub namespace: String,
    pub name: String,
    /// In one word, as Kubernetes wants it.
    pub reason: &'static str,
    pub note: String,
    pub warning: bool,
}

/// Skipped Pods are spoken of while they are young: whoever asks later finds the reason on the Pod.
const YOUNG_S: i64 = 300;

pub fn sayings(unmeshed: &[Unmeshed], pods: &[Arc<Pod>], now: Timestamp) -> Vec<Saying> {
    let missing = unmeshed.iter().filter(|own| own.plural().is_some() || own.kind == "Pod").map(|own| {
        let finding = own.finding();
        // How many Pods changes, and would be said again each time.
        let note = format!("should be meshed and has Pods without a proxy: {}", finding.remedy);
        Saying {
            kind: own.kind.clone(),
            namespace: own.namespace.clone(),
            name: own.name.clone(),
            reason: "NotMeshed",
            note,
            warning: true,
        }
    });
    missing.chain(pods.iter().filter_map(|pod| skipped(pod, now))).collect()
}

fn skipped(pod: &Pod, now: Timestamp) -> Option<Saying> {
    let status = pod.template.annotations.get(names::INJECT_STATUS)?;
    let why = status.strip_prefix("skipped: ")?;
    let created = pod.metadata.creation_timestamp.as_ref()?.0.as_second();
    (now.as_second() - created < YOUNG_S).then(|| Saying {
        kind: "Pod".into(),
        namespace: pod.metadata.namespace.clone().unwrap_or_default(),
        name: pod.metadata.name.clone().unwrap_or_default(),
        reason: "InjectionSkipped",
        note: format!("no proxy was injected: {why}"),
        warning: false,
    })
}

impl Saying {
    pub fn restart(workload: &Unmeshed) -> Saying {
        Saying {
            kind: workload.kind.clone(),
            namespace: workload.namespace.clone(),
            name: workload.name.clone(),
            reason: "RestartedToMesh",
            note: format!(
                "its Pods ran without a proxy, and the namespace has {}: restart",
                names::RECONCILE
            ),
            warning: false,
        }
    }

    pub fn held(held: &Held) -> Saying {
        let Unmeshed { namespace, kind, name, .. } = held.workload.clone();
        let note = format!("{} ({})", held.finding.message, held.finding.remedy);
        Saying { kind, namespace, name, reason: held.reason, note, warning: true }
    }

    pub fn restored(namespace: &str, name: &str) -> Saying {
        Saying {
            kind: "Secret".into(),
            namespace: namespace.into(),
            name: name.into(),
            reason: "IdentityRestored",
            note: "it had been deleted; the operator wrote it back as it was".into(),
            warning: true,
        }
    }

    /// Where its object stands: API version and collection.
    pub fn resource(&self) -> Option<(&'static str, &'static str)> {
        match self.kind.as_str() {
            "Pod" => Some(("v1", "pods")),
            "Secret" => Some(("v1", "secrets")),
            "Deployment" => Some(("apps/v1", "deployments")),
            "StatefulSet" => Some(("apps/v1", "statefulsets")),
            "DaemonSet" => Some(("apps/v1", "daemonsets")),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(status: &str, created: &str) -> Arc<Pod> {
        let pod = json!({"metadata": {
            "name": "web", "namespace": "shop", "creationTimestamp": created,
            "annotations": {"mesh.dev/inject-status": status},
        }});
        Arc::new(serde_json::from_value(pod).unwrap())
    }

    #[test]
    fn a_skipped_pod_is_spoken_of_while_it_is_young() {
        let now = "2026-01-01T00:04:00Z".parse().unwrap();
        let pods = [
            pod("skipped: it uses the node's network", "2026-01-01T00:00:00Z"),
            pod("skipped: it uses the node's network", "2025-12-31T00:00:00Z"),
            pod("injected", "2026-01-01T00:00:00Z"),
        ];
        let sayings = sayings(&[], &pods, now);
        let [only] = &sayings[..] else { panic!("{sayings:?}") };
        assert_eq!(only.note, "no proxy was injected: it uses the node's network");
    }

    #[test]
    fn a_workload_without_proxies_is_said_once_however_many_pods_it_has() {
        let found = |pods: usize| Unmeshed {
            namespace: "shop".into(),
            kind: "Deployment".into(),
            name: "web".into(),
            pods,
            restart: false,
            in_vain: false,
        };
        let now = "2026-01-01T00:04:00Z".parse().unwrap();
        let one = sayings(&[found(1)], &[], now);
        assert_eq!(one, sayings(&[found(2)], &[], now));
        assert!(one[0].note.contains("kubectl rollout restart -n shop deployment/web"), "{one:?}");
        assert_eq!(one[0].resource(), Some(("apps/v1", "deployments")));
        let job = Unmeshed { kind: "Job".into(), ..found(1) };
        assert!(sayings(&[job], &[], now).is_empty(), "its Pods are not made anew");
    }
}
