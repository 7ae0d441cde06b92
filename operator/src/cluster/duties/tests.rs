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
use std::collections::BTreeMap;

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

/// An API server with the Secret, and a replica that holds the Lease, in a cluster of some Pods.
struct Cluster {
    server: ApiServer,
    authority: watch::Receiver<Arc<Authority>>,
    telemetry: Arc<telemetry::Store>,
    troubles: Troubles,
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
        tokio::spawn(async move {
            let _stores = stores;
            duties.run().await;
        });
        Cluster { server, authority, telemetry, troubles, _holding: hold, _tables: publish_tables }
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
    let told: Vec<String> =
        cluster.troubles.watch().borrow().values().flatten().map(ToString::to_string).collect();
    assert!(told.len() == 1 && told[0].starts_with("ConfigMap bad/"), "{told:?}");
    cluster.server.refuse(&refused, false);
    cluster.until(Phase::Idle).await;
}

/// By the replica that holds the Lease and by one that takes it over.
#[tokio::test(start_paused = true)]
async fn a_workload_is_restarted_once_whoever_leads() {
    const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/shop/deployments";
    let owner = json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-5", "uid": "u", "controller": true});
    let pod = json!({
        "metadata": {
            "name": "web-5-x", "namespace": "shop", "creationTimestamp": "2026-01-01T00:00:00Z",
            "labels": {"pod-template-hash": "5"}, "ownerReferences": [owner],
        },
        "spec": {"containers": []},
        "status": {"phase": "Running"},
    });
    let restarts = async |template: Value| {
        let cluster = Cluster::start(std::slice::from_ref(&pod)).await;
        let deployment =
            json!({"metadata": {"name": "web", "namespace": "shop"}, "spec": {"template": template}});
        cluster.server.put(DEPLOYMENTS, deployment);
        time::sleep(Duration::from_secs(300)).await;
        cluster.server.written(&format!("{DEPLOYMENTS}/web"))
    };
    let first = restarts(json!({})).await;
    assert_eq!(first.len(), 1, "{first:?}");
    assert_eq!(restarts(first[0]["spec"]["template"].clone()).await, [] as [Value; 0]);
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
