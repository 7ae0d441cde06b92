//! What the holder of the Lease does over time, against a scripted API server and a proxy that does as it is told.

use super::*;
use crate::{
    ca::{Keys, rotation::Wanted},
    cluster::testing::ApiServer,
    telemetry::{Limits, fixture::Report},
    world::stores::{Change, Stores},
};
use kube::runtime::watcher;
use mesh_policy::{Settings, World};
use std::{collections::BTreeMap, pin::pin};
use tokio::sync::mpsc;

const SECRETS: &str = "/api/v1/namespaces/mesh/secrets";
const BUNDLE: &str = "/api/v1/namespaces/shop/configmaps/mesh-trust-anchors";
const HOUR: Duration = Duration::from_secs(3600);

fn meshed(namespace: &str, name: &str, ip: &str) -> Value {
    json!({
        "metadata": {"name": name, "namespace": namespace, "labels": {"mesh.dev/control-plane-ns": "mesh"}},
        "spec": {"serviceAccountName": "web", "containers": [{"name": "mesh-proxy"}]},
        "status": {"podIP": ip},
    })
}

/// The operator's Service with one replica.
fn replica(is_ready: bool) -> Change {
    let labels = json!({"kubernetes.io/service-name": "mesh-operator"});
    let slice = json!({
        "metadata": {"name": "mesh-operator-a", "namespace": "mesh", "labels": labels}, "addressType": "IPv4",
        "endpoints": [{"addresses": ["10.0.0.9"], "conditions": {"ready": is_ready}}],
    });
    Change::EndpointSlice(watcher::Event::Apply(serde_json::from_value(slice).unwrap()))
}

/// A Pod of a Deployment in `shop`, from before the mesh.
fn missed(deployment: &str) -> Value {
    let owner = json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": format!("{deployment}-5"), "uid": "u", "controller": true});
    json!({
        "metadata": {
            "name": format!("{deployment}-5-x"), "namespace": "shop", "creationTimestamp": "2026-01-01T00:00:00Z",
            "labels": {"pod-template-hash": "5"}, "ownerReferences": [owner],
        },
        "spec": {"containers": []},
        "status": {"phase": "Running"},
    })
}

/// An API server with the Secret, and a replica that holds the Lease, in a cluster of some Pods.
struct Cluster {
    server: ApiServer,
    authority: watch::Receiver<Arc<Authority>>,
    telemetry: Arc<telemetry::Store>,
    troubles: Troubles,
    changes: mpsc::UnboundedSender<Change>,
    _holding: watch::Sender<bool>,
    _tables: watch::Sender<Arc<Tables>>,
}

impl Cluster {
    async fn start(pods: &[Value]) -> Cluster {
        let server = ApiServer::new(&["/api/v1/configmaps", SECRETS]);
        for pod in pods {
            let namespace = pod["metadata"]["namespace"].as_str().unwrap();
            server.put(&format!("/api/v1/namespaces/{namespace}/pods"), pod.clone());
        }
        let mut made =
            secret::secret("mesh-identity", &Keys::generate("cluster.local", SystemTime::now()).unwrap());
        made.metadata.annotations = Some(BTreeMap::from([(names::ROTATE.into(), "please".into())]));
        server.put(SECRETS, serde_json::to_value(&made).unwrap());
        let role = json!({"metadata": {"name": names::OPERATOR, "uid": "role-1"}});
        server.put("/apis/rbac.authorization.k8s.io/v1/clusterroles", role);
        let troubles = Troubles::default();
        let store =
            secret::Store::new(server.client(), troubles.clone(), "mesh", None, "cluster.local", HOUR);
        let (publish, authority) = watch::channel(store.first().await);
        tokio::spawn(store.clone().follow(publish));

        let mut stores = Stores::default();
        let shop = json!({"metadata": {
            "name": "shop", "annotations": {"mesh.dev/inject": "enabled", "mesh.dev/reconcile": "restart"},
        }});
        let shop = serde_json::from_value(shop).unwrap();
        stores.apply(&Change::Namespace(watcher::Event::Apply(shop)));
        stores.apply(&replica(true));
        let pods: Vec<Arc<mesh_policy::Pod>> =
            pods.iter().map(|pod| Arc::new(serde_json::from_value(pod.clone()).unwrap())).collect();
        for pod in &pods {
            stores.apply(&Change::Pod(watcher::Event::Apply(mesh_policy::Pod::clone(pod))));
        }
        let world = World { pods: pods.into(), ..World::default() };
        let (publish_tables, tables) = watch::channel(Arc::new(Tables::build(&world, &Settings::default())));
        let (hold, holding) = watch::channel(true);
        let telemetry = Arc::new(telemetry::Store::new(Limits::default(), None));
        let duties = Duties {
            client: server.client(),
            namespace: "mesh".into(),
            store,
            readers: stores.readers(),
            maps: Maps::watch(server.client()),
            troubles: troubles.clone(),
            terms: reconcile::Terms { control_namespace: "mesh".into(), restarts: true },
            served: watch::channel(Served::new()).1,
            told: Told::nobody(tables.clone()),
            tables,
            authority: authority.clone(),
            telemetry: telemetry.clone(),
            me: "operator-1".into(),
            holding,
        };
        let (changes, mut changed) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            let mut duties = pin!(duties.run());
            loop {
                tokio::select! {
                    () = &mut duties => return,
                    Some(change) = changed.recv() => stores.apply(&change),
                }
            }
        });
        Cluster { server, authority, telemetry, troubles, changes, _holding: hold, _tables: publish_tables }
    }

    /// Makes or changes a Pod, for who watches and who asks.
    fn put_pod(&self, pod: &Value) {
        let namespace = pod["metadata"]["namespace"].as_str().unwrap();
        self.server.put(&format!("/api/v1/namespaces/{namespace}/pods"), pod.clone());
        let pod = serde_json::from_value(pod.clone()).unwrap();
        self.changes.send(Change::Pod(watcher::Event::Apply(pod))).unwrap();
    }

    /// What it says of its own work.
    fn told(&self) -> Vec<String> {
        self.troubles.watch().borrow().values().flatten().map(ToString::to_string).collect()
    }

    /// A proxy that reports each second what `has` says.
    fn proxy(&self, namespace: &'static str, has: watch::Receiver<Option<Wanted>>) {
        let (authority, telemetry) = (self.authority.clone(), self.telemetry.clone());
        tokio::spawn(async move {
            let mut seconds = time::interval(Duration::from_secs(1));
            loop {
                seconds.tick().await;
                // `None`: it follows whatever comes.
                let now = has.borrow().unwrap_or_else(|| authority.borrow().wanted());
                let report = Report::of(namespace, "web")
                    .gauge("mesh_trust_anchors_hash", &[], now.anchors as i64)
                    .gauge("mesh_certificate_issuer_hash", &[], now.issuer as i64);
                telemetry.ingest_metrics(report.request(), telemetry::now_ms());
            }
        });
    }

    /// Waits until the keys are so far.
    async fn until(&mut self, phase: Phase) {
        let reached = self.authority.wait_for(|authority| *authority.phase() == phase);
        time::timeout(HOUR, reached).await.expect("in time").unwrap();
    }

    /// How many certificates the bundles had that were written one after another, up to one with so many.
    async fn bundles_until(&self, last: usize) -> Vec<usize> {
        let size =
            |map: &Value| map["data"]["ca-bundle.crt"].as_str().unwrap_or_default().matches("BEGIN").count();
        let written = async {
            loop {
                let mut sizes: Vec<usize> = self.server.written(BUNDLE).iter().map(size).collect();
                sizes.dedup();
                if sizes.len() > 1 && sizes.last() == Some(&last) {
                    return sizes;
                }
                time::sleep(PAUSE).await;
            }
        };
        time::timeout(HOUR, written).await.expect("in time")
    }

    async fn stays(&mut self, phase: Phase) {
        let left = self.authority.wait_for(|authority| *authority.phase() != phase);
        assert!(time::timeout(Duration::from_secs(120), left).await.is_err(), "{phase:?} was left");
    }
}

#[tokio::test(start_paused = true)]
async fn the_root_is_changed_when_every_proxy_has_followed_and_not_before() {
    let mut cluster = Cluster::start(&[meshed("shop", "web", "10.0.0.1")]).await;
    let first = cluster.authority.borrow().wanted();
    let (follows, has) = watch::channel(Some(first));
    cluster.proxy("shop", has);
    cluster.until(Phase::Spreading).await;
    cluster.stays(Phase::Spreading).await;
    let both = cluster.authority.borrow().wanted();
    assert_eq!((both.issuer == first.issuer, both.anchors == first.anchors), (true, false));
    follows.send_replace(Some(both));
    cluster.until(Phase::Renewing).await;
    cluster.stays(Phase::Renewing).await;
    follows.send_replace(None);
    cluster.until(Phase::Idle).await;
    let sizes = cluster.bundles_until(1).await;
    assert!(sizes.ends_with(&[2, 1]), "{sizes:?}");
    assert_eq!(cluster.server.written(BUNDLE)[0]["metadata"]["ownerReferences"][0]["uid"], "role-1");
    let kept = cluster.server.object(SECRETS, "/mesh-identity");
    assert_eq!(kept["metadata"]["annotations"][names::ROTATE], Value::Null);
}

#[tokio::test(start_paused = true)]
async fn a_namespace_that_cannot_be_told_holds_the_change_and_no_other_namespace() {
    let pods = [meshed("shop", "web", "10.0.0.1"), meshed("bad", "web", "10.0.0.2")];
    let mut cluster = Cluster::start(&pods).await;
    let refused = BUNDLE.replace("shop", "bad");
    cluster.server.refuse(&refused, true);
    let (_follows, has) = watch::channel(None);
    cluster.proxy("shop", has.clone());
    cluster.proxy("bad", has);
    cluster.bundles_until(2).await;
    cluster.stays(Phase::Spreading).await;
    let told = cluster.told();
    assert!(told.len() == 1 && told[0].starts_with("ConfigMap bad/"), "{told:?}");
    cluster.server.refuse(&refused, false);
    cluster.until(Phase::Idle).await;
}

const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/shop/deployments";

impl Cluster {
    fn put_deployment(&self, name: &str, spec: Value) {
        self.server.put(DEPLOYMENTS, json!({"metadata": {"name": name, "namespace": "shop"}, "spec": spec, "status": {"readyReplicas": 1}}));
    }

    /// What was written to a Deployment.
    fn written(&self, name: &str) -> Vec<Value> {
        self.server.written(&format!("{DEPLOYMENTS}/{name}"))
    }
}

/// By the replica that holds the Lease and by one that takes it over.
#[tokio::test(start_paused = true)]
async fn a_workload_is_restarted_once_whoever_leads() {
    let restarts = async |template: Value| {
        let cluster = Cluster::start(&[missed("web")]).await;
        cluster.put_deployment("web", json!({"template": template}));
        time::sleep(Duration::from_secs(300)).await;
        cluster.written("web")
    };
    let first = restarts(json!({})).await;
    assert_eq!(first.len(), 1, "{first:?}");
    assert_eq!(restarts(first[0]["spec"]["template"].clone()).await, [] as [Value; 0]);
}

/// Or its Pods would be made without proxies once more.
#[tokio::test(start_paused = true)]
async fn nothing_is_restarted_before_the_webhook_can_be_asked() {
    const WEBHOOKS: &str = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations";
    let cluster = Cluster::start(&[missed("web")]).await;
    let some_time = Duration::from_secs(120);
    cluster.changes.send(replica(false)).unwrap();
    let webhook = json!({"name": "namespace.inject.mesh.dev", "clientConfig": {}, "sideEffects": "None", "admissionReviewVersions": ["v1"]});
    cluster.server.put(WEBHOOKS, json!({"metadata": {"name": "mesh-operator"}, "webhooks": [webhook]}));
    cluster.server.refuse(&format!("{WEBHOOKS}/mesh-operator"), true);
    cluster.put_deployment("web", json!({}));
    time::sleep(some_time).await;
    assert_eq!(cluster.written("web"), [] as [Value; 0], "no replica is ready, and none is trusted");
    cluster.changes.send(replica(true)).unwrap();
    time::sleep(some_time).await;
    assert_eq!(cluster.written("web"), [] as [Value; 0], "it is not trusted");
    cluster.changes.send(replica(false)).unwrap();
    cluster.server.refuse(&format!("{WEBHOOKS}/mesh-operator"), false);
    time::sleep(some_time).await;
    assert_eq!(cluster.written("web"), [] as [Value; 0], "no replica is ready");
    cluster.changes.send(replica(true)).unwrap();
    time::sleep(some_time).await;
    assert_eq!(cluster.written("web").len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_restart_that_does_not_help_is_the_last_until_it_does() {
    let cluster = Cluster::start(&[missed("a"), missed("b")]).await;
    for name in ["a", "b"] {
        cluster.put_deployment(name, json!({"replicas": 1}));
    }
    let written = async |name: &str| {
        while cluster.written(name).is_empty() {
            time::sleep(PAUSE).await;
        }
        cluster.written(name).remove(0)["spec"]["template"].take()
    };
    let template = time::timeout(HOUR, written("a")).await.expect("in time");
    cluster.put_deployment("a", json!({"replicas": 1, "template": template}));
    let mut new = missed("a");
    new["metadata"]["name"] = "a-6-x".into();
    new["metadata"]["annotations"] = template["metadata"]["annotations"].clone();
    cluster.put_pod(&new);
    time::sleep(HOUR).await;
    let told = cluster.told();
    assert!(
        told.len() == 1 && told[0].contains("after the restart of Deployment shop/a its Pods have no proxy"),
        "{told:?}"
    );
    assert_eq!((cluster.written("a").len(), cluster.written("b").len()), (1, 0));
    new["metadata"]["labels"][names::CONTROL_NAMESPACE_LABEL] = "mesh".into();
    new["spec"]["nodeName"] = "n1".into();
    cluster.put_pod(&new);
    time::sleep(Duration::from_secs(120)).await;
    assert_eq!(cluster.written("b").len(), 0, "it is not ready");
    new["status"]["conditions"] = json!([{"type": "Ready", "status": "True"}]);
    cluster.put_pod(&new);
    time::timeout(HOUR, written("b")).await.expect("in time");
    assert_eq!(cluster.told(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn why_a_workload_is_not_restarted_is_told_and_said_once() {
    const EVENTS: &str = "/apis/events.k8s.io/v1/namespaces/shop/events";
    let cluster = Cluster::start(&[missed("web")]).await;
    cluster.put_deployment("web", json!({"paused": true}));
    time::sleep(HOUR / 2).await;
    assert_eq!(cluster.written("web"), [] as [Value; 0]);
    let told = cluster.told();
    assert!(
        told.len() == 1
            && told[0].contains("its rollouts are paused (kubectl rollout resume -n shop deployment/web)"),
        "{told:?}"
    );
    let said = cluster.server.written(EVENTS);
    assert_eq!(said.iter().filter(|event| event["reason"] == "NotRestarted").count(), 1, "{said:?}");
    cluster.put_deployment("web", json!({}));
    time::sleep(HOUR / 2).await;
    assert_eq!((cluster.written("web").len(), cluster.told()), (1, vec![]));
}

#[tokio::test(start_paused = true)]
async fn an_event_that_was_not_written_is_said_after_all() {
    const EVENTS: &str = "/apis/events.k8s.io/v1/namespaces/shop/events";
    let mut pod = meshed("shop", "web", "10.0.0.1");
    pod["metadata"]["creationTimestamp"] = Timestamp::now().to_string().into();
    pod["metadata"]["annotations"] = json!({"mesh.dev/inject-status": "skipped: it uses the node's network"});
    let cluster = Cluster::start(&[pod]).await;
    cluster.server.refuse(EVENTS, true);
    time::sleep(AGAIN / 2).await;
    assert_eq!(cluster.server.written(EVENTS), [] as [Value; 0]);
    cluster.server.refuse(EVENTS, false);
    time::sleep(SAY_AFTER_ALL + AGAIN * 2).await;
    let said = cluster.server.written(EVENTS);
    assert_eq!(said.len(), 1, "{said:?}");
}

#[tokio::test(start_paused = true)]
async fn a_root_that_somebody_deletes_is_written_back() {
    let cluster = Cluster::start(&[]).await;
    time::sleep(Duration::from_secs(1)).await;
    let before = cluster.server.object(SECRETS, "/mesh-identity");
    cluster.server.delete(SECRETS, "/mesh-identity");
    time::sleep(Duration::from_secs(1)).await;
    let [written] = &cluster.server.written(SECRETS)[..] else { panic!("not written") };
    assert_eq!(written["data"], before["data"]);
}
