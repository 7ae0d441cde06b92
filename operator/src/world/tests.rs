//! How changes become tables, and when.

use super::*;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::runtime::watcher::Event;
use mesh_policy::Authority;
use serde_json::json;
use stores::Change;

/// A cluster of which one Service changes.
struct Shop {
    sent: mpsc::Sender<Batch>,
    tables: watch::Receiver<Arc<Tables>>,
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
        tokio::spawn(run(Stores::default(), batches, settings, Source::Cluster, publish));
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
        let endpoints = self.tables.borrow_and_update().resolve(&cart, None).endpoints;
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
