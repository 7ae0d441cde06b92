//! How changes become tables, and when.

use super::*;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::runtime::watcher::Event;
use mesh_policy::{Authority, Place};
use serde_json::json;
use stores::Change;

/// A cluster of which one Service changes.
struct Shop {
    sent: mpsc::Sender<Batch>,
    tables: watch::Receiver<Arc<Tables>>,
}

fn terms() -> reconcile::Terms {
    reconcile::Terms { control_namespace: "mesh".into(), restarts: true }
}

fn slice(last: u8) -> EndpointSlice {
    let slice = json!({
        "metadata": {"name": "cart-a", "namespace": "shop", "labels": {"kubernetes.io/service-name": "cart"}},
        "addressType": "IPv4", "ports": [{"name": "http", "port": 8080}],
        "endpoints": [{"addresses": [format!("10.0.0.{last}")]}],
    });
    serde_json::from_value(slice).unwrap()
}

impl Shop {
    fn open() -> Shop {
        let settings = Settings::default();
        let (sent, batches) = mpsc::channel(8);
        let (publish, tables) = watch::channel(Arc::new(Tables::build(&World::default(), &settings)));
        tokio::spawn(run(Stores::default(), batches, settings, Source::Cluster(terms()), publish));
        Shop { sent, tables }
    }

    async fn send(&self, changes: Vec<Change>) {
        self.sent.send(Batch { changes, ..Batch::default() }).await.unwrap();
    }

    async fn endpoint_is(&self, last: u8) {
        self.send(vec![Change::EndpointSlice(Event::Apply(slice(last)))]).await;
    }

    /// The last byte of the one endpoint's address, in the next tables.
    async fn next(&mut self) -> u8 {
        time::timeout(Duration::from_secs(5), self.tables.changed()).await.expect("in time").unwrap();
        let cart = Authority::parse("cart.shop.svc.cluster.local", "cluster.local").unwrap();
        let endpoints = self.tables.borrow_and_update().resolve(&cart, Place::default()).endpoints;
        let ip = endpoints.into_keys().next().map(|addr| addr.ip().to_string()).unwrap_or_default();
        ip.rsplit('.').next().and_then(|last| last.parse().ok()).unwrap_or(0)
    }
}

#[tokio::test(start_paused = true)]
async fn a_change_is_published_at_once_and_a_storm_is_gathered() {
    let mut shop = Shop::open();
    let service = json!({
        "metadata": {"name": "cart", "namespace": "shop"},
        "spec": {"selector": {"app": "cart"}, "ports": [{"name": "http", "port": 80}]},
    });
    shop.send(vec![Change::Service(Event::Apply(serde_json::from_value(service).unwrap()))]).await;
    shop.next().await;
    time::sleep(Duration::from_secs(1)).await;

    let start = time::Instant::now();
    shop.endpoint_is(1).await;
    assert_eq!((shop.next().await, start.elapsed()), (1, Duration::ZERO), "nothing is waited for");
    for last in 2..=9 {
        shop.endpoint_is(last).await;
    }
    assert_eq!(shop.next().await, 9, "only the newest is built");
    assert!(start.elapsed() <= *GATHER.end(), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn an_object_that_says_what_it_said_changes_nothing() {
    let mut shop = Shop::open();
    shop.endpoint_is(1).await;
    shop.next().await;
    let before = shop.tables.borrow().clone();
    shop.endpoint_is(1).await;
    shop.next().await;
    let cart = Authority::parse("cart.shop.svc.cluster.local", "cluster.local").unwrap();
    assert!(shop.tables.borrow().has_same_endpoints(&before, &cart));
    shop.endpoint_is(2).await;
    shop.next().await;
    assert!(!shop.tables.borrow().has_same_endpoints(&before, &cart));
}

fn namespace_and_pod(created: Timestamp) -> Vec<Change> {
    let namespace = json!({"metadata": {"name": "shop", "annotations": {"mesh.dev/inject": "enabled"}}});
    let pod = json!({
        "metadata": {"name": "web", "namespace": "shop", "creationTimestamp": created.to_string()},
        "spec": {"containers": [{"name": "app"}]},
        "status": {"phase": "Running", "podIP": "10.0.0.1"},
    });
    vec![
        Change::Namespace(Event::Apply(serde_json::from_value(namespace).unwrap())),
        Change::Pod(Event::Apply(serde_json::from_value(pod).unwrap())),
    ]
}

/// In a cluster where nothing happens any more.
#[tokio::test(start_paused = true)]
async fn a_young_pod_without_a_proxy_is_looked_at_again() {
    let mut shop = Shop::open();
    let start = time::Instant::now();
    shop.send(namespace_and_pod(Timestamp::now())).await;
    shop.tables.changed().await.unwrap();
    // Time of the wall does not pass in here: that it is still young is found each time.
    for _ in 0..3 {
        time::timeout(Unmeshed::AGAIN * 2, shop.tables.changed()).await.expect("in time").unwrap();
    }
    assert!(start.elapsed() >= Unmeshed::AGAIN * 3, "{:?}", start.elapsed());
    shop.send(namespace_and_pod(Timestamp::UNIX_EPOCH)).await;
    let shown = shop.tables.wait_for(|tables| !tables.unmeshed().is_empty());
    let shown = time::timeout(Unmeshed::AGAIN * 2, shown).await.expect("in time").unwrap();
    assert!(shown.diagnostics().is_empty(), "there is nothing wrong with what people wrote");
    drop(shown);
    shop.tables.borrow_and_update();
    assert!(
        time::timeout(Unmeshed::AGAIN * 4, shop.tables.changed()).await.is_err(),
        "there is no more to find"
    );
}

#[test]
fn a_pod_is_shown_once_it_is_old_enough() {
    let mut stores = Stores::default();
    let created: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
    namespace_and_pod(created).iter().for_each(|change| stores.apply(change));
    let world = stores.world();
    let (mut unmeshed, start) = (Unmeshed::default(), time::Instant::now());
    let mut look = |seconds: u64| {
        let passed = Duration::from_secs(seconds);
        unmeshed.look(&world, &terms(), (created + passed, start + passed)).len()
    };
    assert_eq!((look(1), look(6)), (0, 1));
}
