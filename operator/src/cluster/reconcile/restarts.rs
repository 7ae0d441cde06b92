//! Which workload is restarted when, which are left alone, and what became of the last restart: until that is seen to have helped,
//! nothing else is restarted. Decisions only; `duties::restarting` reads and writes.

use super::{MADE, Unmeshed, YOUNG_S, asks_for_restarts, is_missing, is_over, is_with_proxy};
use k8s_openapi::{
    api::{
        core::v1::{self as core, Namespace},
        discovery::v1::EndpointSlice,
    },
    jiff::Timestamp,
};
use kube::api::DynamicObject;
use mesh_api::names;
use mesh_policy::{Diagnostic, Pod};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};
use tokio::time::Instant;

/// Workloads are restarted no faster than this, so that a cluster is not rolled at once …
const BETWEEN: Duration = Duration::from_secs(10);
/// … and each no more often than this: what does not help once will not help at once. Written on its Pods' template, so that another
/// replica knows.
const RESTARTED: Duration = Duration::from_secs(6 * 3600);
/// One that could not be restarted keeps no other waiting.
const AFTER_ALL: Duration = Duration::from_secs(60);
/// People have to change what keeps a workload from being restarted.
const OBSTACLE: Duration = Duration::from_secs(300);
/// Somebody waits for this: what became of a restart, or the webhook to be reachable.
const LOOK: Duration = Duration::from_secs(2);
/// Once a restart is known not to have helped.
const LOOK_SELDOM: Duration = Duration::from_secs(30);
/// So long after a replica is ready, every node's kube-proxy leads to it.
const REACHABLE: Duration = Duration::from_secs(5);
/// Of a workload's new Pods, so many are looked at more closely: some may be where a node is broken.
const CLOSELY: usize = 10;

/// What was restarted, as far as this replica knows.
#[derive(Debug, Default)]
pub struct Restarts {
    /// Until when each is left alone.
    resting: HashMap<Unmeshed, Instant>,
    obstacles: BTreeMap<Unmeshed, Obstacle>,
    /// Since when the webhook can be reached.
    reachable: Option<Instant>,
    /// The last one, until it is seen to have helped.
    awaited: Option<Awaited>,
    /// Whether one is due that cannot be restarted now.
    waits: bool,
}

/// A restart whose outcome is not known yet.
#[derive(Clone, Debug)]
pub struct Awaited {
    pub workload: Unmeshed,
    pub plural: &'static str,
    /// As it is written on the Pods' template.
    at: String,
    was_ready: bool,
    since: Instant,
    look_at: Instant,
    /// Why nothing else is restarted any more.
    stopped: Option<Outcome>,
}

/// What became of the wish to restart a workload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Restart {
    Done {
        /// What was written on its Pods' template.
        at: String,
        /// Whether some Pod of it was ready before. Of one that was not, nobody can tell by that whether proxies work.
        was_ready: bool,
    },
    /// Its Pods were made anew so long ago, by us or another replica.
    Before(Duration),
    LeftAlone(Obstacle),
    Failed,
}

/// Why a restart would do no good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// By this object, which would undo what we write.
    Controlled(String),
    Paused,
    OnDelete,
    Partition,
}

/// What is to be seen of a restart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It has helped; or nobody expects anything of it any more.
    Over,
    NoPods,
    NoProxy,
    /// With what its Pod waits for, where that is known.
    NotReady(Option<String>),
}

/// What the Pods that are there say of a restart.
#[derive(Debug, PartialEq, Eq)]
pub enum Glance {
    Decided(Outcome),
    /// That depends on these, which have a proxy.
    LookAt(Vec<String>),
}

/// Something to say of a workload for as long as it is so.
#[derive(Debug)]
pub struct Held {
    pub workload: Unmeshed,
    /// In one word, as Kubernetes wants it.
    pub reason: &'static str,
    pub finding: Diagnostic,
}

impl Restarts {
    /// Whether Pods that are made now would be given proxies.
    pub fn reach(&mut self, is_reachable: bool, now: Instant) {
        self.reachable = is_reachable.then(|| self.reachable.unwrap_or(now));
    }

    /// The restart that is to be looked at now.
    pub fn unseen(&mut self, now: Instant) -> Option<Awaited> {
        let awaited = self.awaited.as_mut().filter(|own| own.look_at <= now)?;
        awaited.look_at = now + if awaited.stopped.is_some() { LOOK_SELDOM } else { LOOK };
        Some(awaited.clone())
    }

    pub fn saw(&mut self, outcome: Outcome, now: Instant) {
        let Some(awaited) = &mut self.awaited else { return };
        match outcome {
            Outcome::Over => self.awaited = None,
            Outcome::NotReady(_) if !awaited.was_ready => self.awaited = None,
            Outcome::NoPods if !awaited.was_ready && now.duration_since(awaited.since) >= MADE => {
                self.awaited = None;
            }
            // What is said first stays: people are not told the same in other words again and again.
            Outcome::NoPods | Outcome::NoProxy | Outcome::NotReady(_) => {
                if now.duration_since(awaited.since) >= MADE {
                    awaited.stopped.get_or_insert(outcome);
                }
            }
        }
    }

    /// The workload that is to be restarted now, with its collection.
    pub fn next(&mut self, unmeshed: &[Unmeshed], now: Instant) -> Option<(Unmeshed, &'static str)> {
        self.resting.retain(|_, until| now < *until);
        let asked: BTreeSet<Unmeshed> =
            unmeshed.iter().filter(|own| own.restart).map(Unmeshed::whole).collect();
        self.obstacles.retain(|own, _| asked.contains(own));
        let due = asked.iter().filter(|own| !self.resting.contains_key(own));
        let mut due = due.filter_map(|own| Some((own.clone(), own.plural()?)));
        let next = due.next();
        let reachable = self.reachable.is_some_and(|since| now.duration_since(since) >= REACHABLE);
        if self.awaited.is_some() || !reachable {
            self.waits = next.is_some();
            return None;
        }
        self.waits = due.next().is_some();
        next
    }

    pub fn note(&mut self, workload: &Unmeshed, plural: &'static str, became: Restart, now: Instant) {
        let (workload, rest) = (workload.whole(), became.rest());
        self.resting.insert(workload.clone(), now + rest);
        self.obstacles.remove(&workload);
        match became {
            Restart::Done { at, was_ready } => {
                let (since, look_at) = (now, now + BETWEEN);
                self.awaited =
                    Some(Awaited { workload, plural, at, was_ready, since, look_at, stopped: None });
            }
            Restart::LeftAlone(obstacle) => drop(self.obstacles.insert(workload, obstacle)),
            Restart::Before(_) | Restart::Failed => {}
        }
    }

    /// How long until there is something to do, where that is known.
    pub fn pause(&self, now: Instant) -> Option<Duration> {
        if let Some(awaited) = &self.awaited {
            return Some(awaited.look_at.saturating_duration_since(now));
        }
        self.waits.then(|| match self.reachable {
            Some(since) => (since + REACHABLE).saturating_duration_since(now),
            None => LOOK,
        })
    }

    /// What keeps us from restarting.
    pub fn held(&self) -> Vec<Held> {
        let left_alone = self.obstacles.iter().map(|(workload, obstacle)| Held {
            workload: workload.clone(),
            reason: "NotRestarted",
            finding: obstacle.finding(workload),
        });
        left_alone.chain(self.awaited.as_ref().and_then(Awaited::held)).collect()
    }
}

impl Restart {
    /// How long the workload is left alone then.
    fn rest(&self) -> Duration {
        match self {
            Restart::Done { .. } => RESTARTED,
            Restart::Before(elapsed) => RESTARTED.saturating_sub(*elapsed),
            Restart::LeftAlone(_) => OBSTACLE,
            Restart::Failed => AFTER_ALL,
        }
    }
}

impl Awaited {
    fn held(&self) -> Option<Held> {
        let Unmeshed { namespace, kind, name, .. } = &self.workload;
        let (what, remedy) = match self.stopped.as_ref()? {
            Outcome::Over => return None,
            Outcome::NoPods => (
                "no Pod has been made".to_owned(),
                format!(
                    "kubectl get events -n {namespace} says why: a quota, or what another webhook refuses"
                ),
            ),
            Outcome::NoProxy => (
                "its Pods have no proxy".to_owned(),
                format!(
                    "the API server's log says why the webhook was not asked; then kubectl rollout restart {}",
                    self.workload.argument()
                ),
            ),
            Outcome::NotReady(why) => (
                format!(
                    "its Pods are not ready{}",
                    why.iter().map(|why| format!(": {why}")).collect::<String>()
                ),
                format!("kubectl describe pods -n {namespace} says why"),
            ),
        };
        let message = format!(
            "restarts for the mesh have stopped: after the restart of {kind} {namespace}/{name} {what}"
        );
        let remedy = format!("{remedy}. Restarts go on when one of its Pods has a proxy and is ready");
        let finding = self.workload.warning(message, remedy);
        Some(Held { workload: self.workload.clone(), reason: "RestartsStopped", finding })
    }

    /// Whether nothing of this restart can be expected of the workload as it is now: somebody has taken it back, or wants no Pods.
    pub fn is_over(&self, workload: &Value) -> bool {
        written(workload) != Some(self.at.as_str())
            || workload["spec"]["replicas"] == 0
            || workload["status"]["desiredNumberScheduled"] == 0
    }

    pub fn glance(&self, namespaces: &[Arc<Namespace>], pods: &[Arc<Pod>]) -> Glance {
        let of = Some(self.workload.namespace.as_str());
        let namespace = namespaces.iter().find(|own| own.metadata.name.as_deref() == of);
        let Some(namespace) = namespace.filter(|own| asks_for_restarts(own)) else {
            return Glance::Decided(Outcome::Over);
        };
        let is_new = |pod: &&Arc<Pod>| {
            pod.metadata.namespace.as_deref() == of
                && pod.template.annotations.get(names::RESTARTED_AT) == Some(&self.at)
                && !is_over(pod)
        };
        let new: Vec<&Arc<Pod>> = pods.iter().filter(is_new).collect();
        let mut meshed: Vec<&Arc<Pod>> = new.iter().copied().filter(|pod| is_with_proxy(pod)).collect();
        if !meshed.is_empty() {
            // Those that run, and of them the first, have had most time.
            let is_pending = |pod: &Pod| pod.status.phase.as_deref() != Some("Running");
            meshed.sort_by_key(|pod| (is_pending(pod), pod.metadata.creation_timestamp.clone()));
            let named = meshed.into_iter().filter_map(|pod| pod.metadata.name.clone());
            return Glance::LookAt(named.take(CLOSELY).collect());
        }
        Glance::Decided(match new.first() {
            None => Outcome::NoPods,
            Some(pod) if is_missing(pod, namespace) => Outcome::NoProxy,
            // The webhook was asked, and had a reason; or the Pods want none.
            Some(_) => Outcome::Over,
        })
    }
}

/// What one Pod with a proxy says of the restart that has made it.
pub fn outcome(pod: &core::Pod, now: Timestamp) -> Outcome {
    let conditions = || pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let condition = |kind: &str| conditions().find(|own| own.type_ == kind);
    if condition("Ready").is_some_and(|own| own.status == "True") {
        return Outcome::Over;
    }
    // It waits for a scheduler of its own, such as a queue's, which may take days: any other had said something by now.
    let is_placed = pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some());
    let created = pod.metadata.creation_timestamp.as_ref().map_or(0, |at| at.0.as_second());
    if !is_placed && condition("PodScheduled").is_none() && now.as_second() - created >= YOUNG_S {
        return Outcome::Over;
    }
    let unplaced = || {
        let condition = condition("PodScheduled").filter(|own| own.status == "False")?;
        Some(format!("no node has been found: {}", condition.message.as_deref().unwrap_or("nobody says why")))
    };
    Outcome::NotReady(waiting(pod).or_else(unplaced))
}

/// What a container of this Pod waits for, where that is not its turn.
fn waiting(pod: &core::Pod) -> Option<String> {
    let status = pod.status.as_ref()?;
    let containers = [&status.init_container_statuses, &status.container_statuses];
    containers.into_iter().flatten().flatten().find_map(|container| {
        let reason = container.state.as_ref()?.waiting.as_ref()?.reason.as_ref()?;
        let is_its_turn = !matches!(reason.as_str(), "PodInitializing" | "ContainerCreating");
        is_its_turn.then(|| format!("container {} waits: {reason}", container.name))
    })
}

impl Obstacle {
    /// Of a Deployment, StatefulSet or DaemonSet.
    pub fn of(workload: &DynamicObject) -> Option<Obstacle> {
        let mut owners = workload.metadata.owner_references.iter().flatten();
        if let Some(owner) = owners.find(|owner| owner.controller == Some(true)) {
            return Some(Obstacle::Controlled(format!("{} {}", owner.kind, owner.name)));
        }
        let spec = &workload.data["spec"];
        let strategy = &spec["updateStrategy"];
        if spec["paused"] == true {
            return Some(Obstacle::Paused);
        }
        if strategy["type"] == "OnDelete" {
            return Some(Obstacle::OnDelete);
        }
        let partition = strategy["rollingUpdate"]["partition"].as_i64().unwrap_or(0);
        (partition > 0).then_some(Obstacle::Partition)
    }

    fn finding(&self, workload: &Unmeshed) -> Diagnostic {
        let (why, remedy) = match self {
            Obstacle::Controlled(by) => (
                format!("{by} controls it and would undo that"),
                "restart it as its operator has it".to_owned(),
            ),
            Obstacle::Paused => (
                "its rollouts are paused".to_owned(),
                format!("kubectl rollout resume {}", workload.argument()),
            ),
            Obstacle::OnDelete => {
                ("its updateStrategy is OnDelete".to_owned(), "delete its Pods one by one".to_owned())
            }
            Obstacle::Partition => (
                "the partition of its updateStrategy holds Pods back".to_owned(),
                "set the partition to 0, or delete its Pods one by one".to_owned(),
            ),
        };
        workload.warning(format!("is not restarted for the mesh: {why}"), remedy)
    }
}

/// Whether a replica of ours is behind the Service by which the API server finds the webhook.
pub fn is_webhook_ready(slices: &[Arc<EndpointSlice>], control_namespace: &str) -> bool {
    let is_ours = |slice: &&Arc<EndpointSlice>| {
        let service = slice.metadata.labels.as_ref().and_then(|all| all.get("kubernetes.io/service-name"));
        slice.metadata.namespace.as_deref() == Some(control_namespace)
            && service.is_some_and(|service| service == names::OPERATOR)
    };
    // Where nothing is said, it is ready.
    slices
        .iter()
        .filter(is_ours)
        .flat_map(|slice| &slice.endpoints)
        .any(|endpoint| endpoint.conditions.as_ref().and_then(|conditions| conditions.ready).unwrap_or(true))
}

/// Whether some Pod of a workload is ready.
pub fn is_ready(workload: &Value) -> bool {
    let count = |field: &str| workload["status"][field].as_i64().unwrap_or(0);
    count("readyReplicas") > 0 || count("numberReady") > 0
}

/// When a workload was restarted for the mesh, as its Pods' template has it.
fn written(workload: &Value) -> Option<&str> {
    workload["spec"]["template"]["metadata"]["annotations"][names::RESTARTED_AT].as_str()
}

/// How long ago a workload was restarted for this reason, where that is not so long that it may be again.
pub fn restarted_before(workload: &Value, now: Timestamp) -> Option<Duration> {
    let at: Timestamp = written(workload)?.parse().ok()?;
    // One from the future was written by a clock that is ahead.
    let elapsed = Duration::try_from(now.duration_since(at)).unwrap_or_default();
    (elapsed < RESTARTED).then_some(elapsed)
}

#[cfg(test)]
mod tests;
