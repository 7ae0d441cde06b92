//! When workloads are restarted, over hours, and what is made of Pods and workloads that are found.

use super::*;
use serde_json::{Value, json};

const AT: &str = "2026-01-01T00:00:00Z";

fn unmeshed(name: &str) -> Unmeshed {
    let (namespace, kind, name) = ("shop".into(), "Deployment".into(), name.into());
    Unmeshed { namespace, kind, name, pods: 1, restart: true, in_vain: false }
}

/// Seconds of a story in which the webhook can be reached since long ago.
struct Story {
    start: Instant,
    restarts: Restarts,
}

impl Story {
    fn begin() -> Story {
        let start = Instant::now();
        let mut restarts = Restarts::default();
        restarts.reach(true, start);
        Story { start: start + REACHABLE, restarts }
    }

    fn at(&self, second: u64) -> Instant {
        self.start + Duration::from_secs(second)
    }

    /// Which of `a` and `b` is restarted now, and with what end.
    fn next(&mut self, second: u64, became: Restart) -> Option<String> {
        let now = self.at(second);
        let (found, plural) = self.restarts.next(&[unmeshed("a"), unmeshed("b")], now)?;
        self.restarts.note(&found, plural, became, now);
        Some(found.name)
    }

    /// What is seen of the last restart, where it is looked at now.
    fn look(&mut self, second: u64, outcome: Outcome) -> bool {
        let now = self.at(second);
        let looks = self.restarts.unseen(now).is_some();
        if looks {
            self.restarts.saw(outcome, now);
        }
        looks
    }

    fn pause(&self, second: u64) -> Option<u64> {
        self.restarts.pause(self.at(second)).map(|pause| pause.as_secs())
    }

    fn says(&self) -> Vec<String> {
        self.restarts.held().iter().map(|held| format!("{}: {}", held.reason, held.finding)).collect()
    }
}

fn done() -> Restart {
    Restart::Done { at: AT.into(), was_ready: true }
}

/// Somebody's sandbox that has been broken for months stops nothing.
#[test]
fn what_was_not_ready_before_need_not_become_so() {
    let begin = |outcome: Outcome| {
        let mut story = Story::begin();
        story.next(0, Restart::Done { at: AT.into(), was_ready: false });
        assert!(story.look(10, outcome));
        story
    };
    assert_eq!(begin(Outcome::NotReady(None)).next(10, done()).as_deref(), Some("b"), "it has a proxy");
    let mut story = begin(Outcome::NoPods);
    assert!(story.next(10, done()).is_none() && story.look(300, Outcome::NoPods));
    assert_eq!((story.next(300, done()).as_deref(), story.says()), (Some("b"), vec![]));
    let mut story = begin(Outcome::NoProxy);
    assert!(story.look(300, Outcome::NoProxy));
    assert_eq!((story.next(300, done()), story.says().len()), (None, 1));
}

#[test]
fn workloads_are_restarted_one_by_one_and_each_seldom() {
    let mut story = Story::begin();
    assert_eq!(story.next(0, Restart::Failed).as_deref(), Some("a"));
    assert_eq!(story.next(1, done()).as_deref(), Some("b"), "it does not wait for one that fails");
    assert!(!story.look(10, Outcome::Over), "a cluster is not rolled at once");
    assert_eq!(story.next(10, done()), None);
    assert!(story.look(11, Outcome::Over));
    assert_eq!(story.next(11, done()), None, "b has been restarted, a is tried later");
    assert_eq!(story.next(70, done()).as_deref(), Some("a"));
    assert!(story.look(80, Outcome::Over));
    let six_hours = 6 * 3_600;
    assert_eq!(story.next(six_hours, done()), None);
    let another = Restart::Before(Duration::from_secs(3_600));
    assert_eq!(story.next(1 + six_hours, another).as_deref(), Some("b"));
    assert_eq!(story.next(70 + six_hours, done()).as_deref(), Some("a"));
    assert!(story.look(80 + six_hours, Outcome::Over));
    assert_eq!(story.next(90 + six_hours, done()), None);
    assert_eq!(story.next(1 + 11 * 3_600, done()).as_deref(), Some("b"), "six hours after that");
}

#[test]
fn nothing_is_restarted_until_the_last_restart_has_helped() {
    for (outcome, says) in [
        (Outcome::NoPods, "no Pod has been made (kubectl get events -n shop"),
        (Outcome::NoProxy, "its Pods have no proxy (the API server's log"),
        (
            Outcome::NotReady(Some("container app waits: x".into())),
            "its Pods are not ready: container app waits: x (",
        ),
    ] {
        let mut story = Story::begin();
        assert_eq!(story.next(0, done()).as_deref(), Some("a"));
        for second in (10..300).step_by(2) {
            assert!(story.look(second, outcome.clone()));
            assert_eq!((story.next(second, done()), story.pause(second)), (None, Some(2)));
            assert_eq!(story.says(), [""; 0], "it may take its time");
        }
        assert!(story.look(300, outcome.clone()));
        let said = story.says();
        let stopped = "RestartsStopped: Deployment shop/a: restarts for the mesh have stopped: after the restart of Deployment shop/a ";
        assert!(said.len() == 1 && said[0].starts_with(&format!("{stopped}{says}")), "{said:?}");
        assert!(story.look(302, outcome.clone()));
        assert!(!story.look(310, Outcome::Over), "nobody hurries any more");
        assert!(story.look(7 * 3_600, Outcome::NotReady(None)));
        assert_eq!((story.next(7 * 3_600, done()), story.says()), (None, said));
        assert!(story.look(7 * 3_600 + 30, Outcome::Over));
        assert_eq!(story.says(), [""; 0]);
        assert_eq!(story.next(7 * 3_600 + 30, done()).as_deref(), Some("a"));
    }
}

#[test]
fn a_workload_that_cannot_be_restarted_keeps_no_other_waiting_and_is_told_for_as_long_as_that_is_so() {
    let mut story = Story::begin();
    assert_eq!(story.next(0, Restart::LeftAlone(Obstacle::Paused)).as_deref(), Some("a"));
    let said = [
        "NotRestarted: Deployment shop/a: is not restarted for the mesh: its rollouts are paused (kubectl rollout resume -n shop deployment/a)",
    ];
    assert_eq!(story.says(), said);
    assert_eq!(story.pause(0), Some(0), "there is another");
    assert_eq!(story.next(0, done()).as_deref(), Some("b"));
    assert!(story.look(10, Outcome::Over));
    assert_eq!((story.next(10, done()), story.pause(10)), (None, None));
    assert_eq!(story.next(300, Restart::LeftAlone(Obstacle::Paused)).as_deref(), Some("a"));
    assert_eq!(story.says(), said);
    assert_eq!(story.next(600, done()).as_deref(), Some("a"));
    assert_eq!(story.says(), [""; 0]);

    let mut story = Story::begin();
    story.next(0, Restart::LeftAlone(Obstacle::OnDelete));
    assert_eq!(story.restarts.next(&[], story.at(1)), None);
    assert_eq!(story.says(), [""; 0], "somebody has done it");
}

#[test]
fn nothing_is_restarted_until_the_webhook_has_been_reachable_for_some_seconds() {
    let mut restarts = Restarts::default();
    let start = Instant::now();
    let mut next = |second: u64, is_reachable: bool| {
        let now = start + Duration::from_secs(second);
        restarts.reach(is_reachable, now);
        let next = restarts.next(&[unmeshed("a")], now);
        (next.is_some(), restarts.pause(now).map(|pause| pause.as_secs()))
    };
    assert_eq!(next(0, false), (false, Some(2)));
    assert_eq!(next(2, true), (false, Some(5)));
    assert_eq!(next(6, true), (false, Some(1)));
    assert_eq!(next(7, false), (false, Some(2)));
    assert_eq!(next(8, true), (false, Some(5)), "it begins anew");
    assert_eq!(next(13, true), (true, None));
}

#[test]
fn the_webhook_is_ready_when_a_replica_is_behind_its_service() {
    let slice = |namespace: &str, service: &str, conditions: Value| {
        let slice = json!({
            "metadata": {"name": "a", "namespace": namespace, "labels": {"kubernetes.io/service-name": service}},
            "addressType": "IPv4", "endpoints": [{"addresses": ["10.0.0.1"], "conditions": conditions}],
        });
        is_webhook_ready(&[Arc::new(serde_json::from_value(slice).unwrap())], "mesh")
    };
    assert!(slice("mesh", "mesh-operator", json!({"ready": true})));
    assert!(slice("mesh", "mesh-operator", json!({})));
    assert!(!slice("mesh", "mesh-operator", json!({"ready": false, "serving": true, "terminating": true})));
    assert!(!slice("mesh", "mesh-telemetry", json!({"ready": true})));
    assert!(!slice("shop", "mesh-operator", json!({"ready": true})));
    assert!(!is_webhook_ready(&[], "mesh"));
}

#[test]
fn what_would_come_to_nothing_is_left_alone() {
    let obstacle = |metadata: Value, spec: Value| {
        let workload = json!({"metadata": metadata, "spec": spec});
        Obstacle::of(&serde_json::from_value(workload).unwrap())
    };
    let owner = |controller: bool| {
        let owner = json!({"apiVersion": "acme.example/v1", "kind": "Database", "name": "db", "uid": "u", "controller": controller});
        json!({"name": "db", "ownerReferences": [owner]})
    };
    let plain = || json!({"name": "web"});
    let strategy = |strategy: Value| obstacle(plain(), json!({"updateStrategy": strategy}));
    assert_eq!(obstacle(owner(true), json!({})), Some(Obstacle::Controlled("Database db".into())));
    assert_eq!(obstacle(owner(false), json!({})), None);
    assert_eq!(obstacle(plain(), json!({"paused": true})), Some(Obstacle::Paused));
    assert_eq!(strategy(json!({"type": "OnDelete"})), Some(Obstacle::OnDelete));
    let rolling =
        |partition: u32| json!({"type": "RollingUpdate", "rollingUpdate": {"partition": partition}});
    assert_eq!(strategy(rolling(1)), Some(Obstacle::Partition));
    assert_eq!(strategy(rolling(0)), None);
    assert_eq!(obstacle(plain(), json!({"paused": false})), None);
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

/// The restart that `AT` says.
fn awaited() -> Awaited {
    let mut story = Story::begin();
    story.next(0, done());
    story.restarts.unseen(story.at(10)).unwrap()
}

#[test]
fn nothing_is_expected_of_a_workload_that_somebody_has_taken_back_or_that_wants_no_pods() {
    let is_over = |at: &str, replicas: u32, status: Value| {
        let template = json!({"metadata": {"annotations": {"mesh.dev/restarted-at": at}}});
        awaited().is_over(&json!({"spec": {"replicas": replicas, "template": template}, "status": status}))
    };
    assert!(!is_over(AT, 2, json!({})));
    assert!(is_over(AT, 0, json!({})));
    assert!(is_over(AT, 1, json!({"desiredNumberScheduled": 0})));
    assert!(is_over("2026-01-02T00:00:00Z", 2, json!({})));
    assert!(awaited().is_over(&json!({"spec": {"template": {}}})));
}

#[test]
fn pods_of_a_restart_are_known_by_what_is_written_on_them() {
    let glance = |reconcile: &str, pods: &[Value]| {
        let annotations = json!({"mesh.dev/inject": "enabled", "mesh.dev/reconcile": reconcile});
        let namespace = json!({"metadata": {"name": "shop", "annotations": annotations}});
        let pods: Vec<Arc<Pod>> =
            pods.iter().map(|pod| Arc::new(serde_json::from_value(pod.clone()).unwrap())).collect();
        awaited().glance(&[Arc::new(serde_json::from_value(namespace).unwrap())], &pods)
    };
    let pod = |name: &str, at: &str, labels: Value, created: &str| {
        let annotations = json!({"mesh.dev/restarted-at": at});
        json!({
            "metadata": {"name": name, "namespace": "shop", "labels": labels, "annotations": annotations, "creationTimestamp": created},
            "spec": {"containers": []},
        })
    };
    let created = "2026-01-01T00:00:09Z";
    let (plain, meshed) = (json!({}), json!({"mesh.dev/control-plane-ns": "mesh"}));
    let old = pod("old", "2025-01-01T00:00:00Z", meshed.clone(), created);
    let missed = pod("missed", AT, plain, created);
    let made = pod("made", AT, meshed.clone(), created);
    let first = pod("first", AT, meshed, "2026-01-01T00:00:01Z");
    let mut skipped = missed.clone();
    skipped["metadata"]["annotations"]["mesh.dev/inject-status"] =
        "skipped: it uses the node's network".into();
    let mut over = made.clone();
    over["status"]["phase"] = "Failed".into();
    let decided = |outcome| Glance::Decided(outcome);
    assert_eq!(glance("restart", &[]), decided(Outcome::NoPods));
    assert_eq!(glance("restart", &[old, over]), decided(Outcome::NoPods));
    assert_eq!(glance("restart", std::slice::from_ref(&missed)), decided(Outcome::NoProxy));
    assert_eq!(glance("restart", &[skipped]), decided(Outcome::Over));
    assert_eq!(
        glance("no", std::slice::from_ref(&missed)),
        decided(Outcome::Over),
        "nobody asks for it any more"
    );
    let mut runs = made.clone();
    (runs["metadata"]["name"], runs["status"]["phase"]) = ("runs".into(), "Running".into());
    let look_at = Glance::LookAt(vec!["runs".into(), "first".into(), "made".into()]);
    assert_eq!(glance("restart", &[made, missed, first, runs]), look_at);
}

#[test]
fn a_pod_has_helped_when_it_is_ready_or_nobody_schedules_it() {
    let seen = |spec: Value, status: Value| {
        let pod = json!({"metadata": {"creationTimestamp": AT}, "spec": spec, "status": status});
        outcome(&serde_json::from_value(pod).unwrap(), "2026-01-01T00:00:09Z".parse().unwrap())
    };
    let (here, nowhere) = (json!({"nodeName": "n1", "containers": []}), json!({"containers": []}));
    let condition = |kind: &str, status: &str| json!({"conditions": [{"type": kind, "status": status, "message": "0/3 nodes are available"}]});
    let not_ready = |why: Option<&str>| Outcome::NotReady(why.map(str::to_owned));
    assert_eq!(seen(here.clone(), condition("Ready", "True")), Outcome::Over);
    assert_eq!(seen(here.clone(), condition("Ready", "False")), not_ready(None));
    assert_eq!(seen(nowhere.clone(), json!({})), Outcome::Over);
    let full = not_ready(Some("no node has been found: 0/3 nodes are available"));
    assert_eq!(seen(nowhere, condition("PodScheduled", "False")), full);
    let waits = |reason: &str| {
        let container = json!({"name": "mesh-proxy", "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": {"waiting": {"reason": reason}}});
        json!({"initContainerStatuses": [container]})
    };
    let pull = not_ready(Some("container mesh-proxy waits: ErrImagePull"));
    assert_eq!(seen(here.clone(), waits("ErrImagePull")), pull);
    assert_eq!(seen(here, waits("PodInitializing")), not_ready(None));
}
