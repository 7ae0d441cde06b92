//! Restarts workloads that should be meshed and are not, where their Namespace asks for it: one at a time, and none in a loop. Carries
//! out what `reconcile::restarts` decides.

use super::{Duties, TIMEOUT};
use crate::cluster::{
    events::{self, Saying},
    reconcile::{
        self, Unmeshed,
        restarts::{self, Awaited, Glance, Obstacle, Outcome, Restart, Restarts},
    },
    writes::write,
};
use k8s_openapi::{
    api::core::v1::{Namespace, Pod},
    jiff::Timestamp,
};
use kube::{
    Api,
    api::{ApiResource, DynamicObject, Patch, PatchParams},
};
use mesh_api::names;
use serde_json::json;
use std::sync::Arc;
use tokio::time::{self, Instant};

impl Duties {
    /// Takes the next step. What there is to say of workloads that want proxies, and of Pods that were skipped, is returned.
    pub(super) async fn reconcile(&self, restarts: &mut Restarts, is_trusted: bool) -> Vec<Saying> {
        let (now, pods) = (Timestamp::now(), self.readers.pods.state());
        let namespaces = self.readers.namespaces.state();
        let unmeshed = reconcile::unmeshed(&namespaces, &pods, &self.terms, now).unmeshed;
        let mut sayings = events::sayings(&unmeshed, &pods, now);
        // Asked only where it matters: there may be many slices.
        let is_reachable = is_trusted
            && unmeshed.iter().any(|own| own.restart)
            && restarts::is_webhook_ready(&self.readers.endpoint_slices.state(), &self.namespace);
        restarts.reach(is_reachable, Instant::now());
        if let Some(awaited) = restarts.unseen(Instant::now())
            && let Some(outcome) = self.look(&awaited, &namespaces, &pods, now).await
        {
            restarts.saw(outcome, Instant::now());
        }
        if let Some((workload, plural)) = restarts.next(&unmeshed, Instant::now()) {
            let became = self.restart(&workload, plural, now).await;
            sayings.extend(matches!(became, Restart::Done { .. }).then(|| Saying::restart(&workload)));
            restarts.note(&workload, plural, became, Instant::now());
        }
        sayings.extend(self.say_what_holds_restarts(restarts));
        sayings
    }

    /// Among the findings; and returns it as events.
    pub(super) fn say_what_holds_restarts(&self, restarts: &Restarts) -> Vec<Saying> {
        let held = restarts.held();
        let sayings = held.iter().map(Saying::held).collect();
        self.troubles.set("restarts", held.into_iter().map(|own| own.finding).collect());
        sayings
    }

    /// Makes the Pods of a workload anew, as `kubectl rollout restart` does, unless that was tried lately by whoever held the Lease, or
    /// would do no good.
    async fn restart(&self, workload: &Unmeshed, plural: &str, now: Timestamp) -> Restart {
        let Unmeshed { namespace, kind, name, .. } = workload;
        let api = self.workloads(workload, plural);
        let kept = match time::timeout(TIMEOUT, api.get(name)).await {
            Ok(Ok(kept)) => kept,
            Ok(Err(error)) => {
                tracing::warn!(namespace, kind, name, %error, "a workload that is to be restarted was not read");
                return Restart::Failed;
            }
            Err(_) => return Restart::Failed,
        };
        if let Some(obstacle) = Obstacle::of(&kept) {
            return Restart::LeftAlone(obstacle);
        }
        if let Some(elapsed) = restarts::restarted_before(&kept.data, now) {
            return Restart::Before(elapsed);
        }
        tracing::info!(namespace, kind, name, "restarting a workload whose Pods run without a proxy");
        let (at, was_ready) = (now.to_string(), restarts::is_ready(&kept.data));
        let annotations = json!({names::RESTARTED_AT: at});
        let patch = json!({
            // What was decided of this version holds for no other.
            "metadata": {"resourceVersion": kept.metadata.resource_version},
            "spec": {"template": {"metadata": {"annotations": annotations}}},
        });
        let (object, name) = (format!("{kind} {namespace}/{name}"), name.clone());
        let restart = write(object, async move {
            api.patch(&name, &PatchParams::default(), &Patch::Merge(&patch)).await.map(drop)
        });
        if self.all(vec![restart]).await { Restart::Done { at, was_ready } } else { Restart::Failed }
    }

    /// What became of a restart. `None` where that could not be read.
    async fn look(
        &self,
        awaited: &Awaited,
        namespaces: &[Arc<Namespace>],
        pods: &[Arc<mesh_policy::Pod>],
        now: Timestamp,
    ) -> Option<Outcome> {
        let Unmeshed { namespace, kind, name, .. } = &awaited.workload;
        let api = self.workloads(&awaited.workload, awaited.plural);
        match time::timeout(TIMEOUT, api.get_opt(name)).await {
            Ok(Ok(Some(kept))) if !awaited.is_over(&kept.data) => {}
            Ok(Ok(_)) => return Some(Outcome::Over),
            Ok(Err(error)) => {
                tracing::warn!(namespace, kind, name, %error, "a workload that was restarted was not read");
                return None;
            }
            Err(_) => return None,
        }
        let meshed = match awaited.glance(namespaces, pods) {
            Glance::Decided(outcome) => return Some(outcome),
            Glance::LookAt(pods) => pods,
        };
        let api: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        let mut seen = None;
        for name in meshed {
            match time::timeout(TIMEOUT, api.get_opt(&name)).await {
                Ok(Ok(Some(pod))) => seen = Some(restarts::outcome(&pod, now)),
                Ok(Ok(None)) => {}
                Ok(Err(error)) => {
                    tracing::warn!(namespace, name, %error, "a Pod that was made anew was not read")
                }
                Err(_) => return seen,
            }
            if seen == Some(Outcome::Over) {
                break;
            }
        }
        seen
    }

    fn workloads(&self, workload: &Unmeshed, plural: &str) -> Api<DynamicObject> {
        let resource = ApiResource {
            group: "apps".into(),
            version: "v1".into(),
            api_version: "apps/v1".into(),
            kind: workload.kind.clone(),
            plural: plural.into(),
        };
        Api::namespaced_with(self.client.clone(), &workload.namespace, &resource)
    }
}
