//! BookInfo in an annotated namespace, from the manifests that `mesh demo` has: nothing in them names a proxy.

use crate::telling::{
    mesh::{self, Mesh},
    place::{Place, SOON},
    story::tell,
};
use mesh_api::graph::{Edge, EdgeMetrics, Graph};
use mesh_tests::{binaries, browser, wait};
use std::{collections::BTreeMap, fs};

const PODS: [&str; 7] =
    ["productpage-v1", "details-v1", "reviews-v1", "reviews-v2", "reviews-v3", "ratings-v1", "traffic"];

/// Who must be seen to call whom; a Service that has a route stands between.
const CALLS: [(&str, &str); 8] = [
    ("traffic", "productpage-v1"),
    ("productpage-v1", "details-v1"),
    ("productpage-v1", "reviews"),
    ("reviews", "reviews-v1"),
    ("reviews", "reviews-v2"),
    ("reviews", "reviews-v3"),
    ("reviews-v2", "ratings-v1"),
    ("reviews-v3", "ratings-v1"),
];

/// Applies the demo's manifests, and waits until all Pods are ready.
async fn bookinfo(place: &Place) {
    let manifests = binaries::workspace().join("demo/manifests");
    let apply = async |file| {
        let yaml = fs::read_to_string(manifests.join(format!("{file}.yaml"))).unwrap();
        place.apply(&yaml).await;
    };
    apply("00-namespace").await;
    mesh::injected(place).await;
    for file in ["policies", "routes", "bookinfo", "traffic"] {
        apply(file).await;
    }
    for pod in PODS {
        place.running(pod).await;
    }
}

async fn graph(mesh: &Mesh<'_>) -> Graph {
    let printed = mesh.cli(&["edges", "-n", "bookinfo", "-o", "json"]).await;
    serde_json::from_str(&printed).unwrap_or_else(|error| panic!("{error}: {printed}"))
}

/// Figures of each edge, by the names of its ends.
fn edges(graph: &Graph) -> BTreeMap<(&str, &str), &EdgeMetrics> {
    let name = |id: &str| {
        let node = graph.topology.nodes.iter().find(|node| node.id == id).unwrap();
        node.name.as_str()
    };
    let ends = graph.topology.edges.iter().map(|edge| (name(&edge.from), name(&edge.to)));
    ends.zip(&graph.metrics.edges).collect()
}

/// The graph as `mesh dashboard` brings it to the user's own machine, through the API server.
async fn in_a_browser(mesh: &Mesh<'_>) {
    let mut dashboard = mesh.begin(&["dashboard", "--no-open"]);
    let url = dashboard.says("/?key=", SOON).await;
    let (base, _) = url.split_once("/?key=").unwrap();
    browser::with(1280, 900, async |browser| {
        browser.goto(&url).await;
        browser.goto(&format!("{base}/graph?ns=bookinfo&view=table")).await;
        let edges = async || browser.rows("Edges").await;
        let rows = wait::until("a row of every edge, all of it encrypted", SOON, async || {
            let rows = edges().await;
            // The page has a workload's version as a word of its own.
            let is_encrypted = |(from, to): &(&str, &str)| {
                let ends = format!("{from} → {to}").replace('-', " ");
                rows.iter().any(|row| row[0] == ends && row[8].starts_with("100"))
            };
            if CALLS.iter().all(is_encrypted) { Ok(rows) } else { Err(format!("{rows:?}")) }
        })
        .await;
        wait::until("figures that move", SOON, async || match edges().await {
            now if now != rows => Ok(()),
            _ => Err("they stand still"),
        })
        .await;

        let graph = graph(mesh).await;
        let ends = |edge: &&Edge| edge.from.ends_with("/productpage-v1") && edge.to.ends_with("/details-v1");
        let id = graph.topology.edges.iter().find(ends).unwrap().id.replace('>', "%3E");
        browser.goto(&format!("{base}/graph?ns=bookinfo&sel={id}")).await;
        let words = ["mutual TLS", "bookinfo-productpage", "bookinfo-details", "allowed by"];
        browser.part("aside.panel", SOON, |text| words.iter().all(|word| text.contains(word))).await;
        assert_eq!(browser.complaints().await, [""; 0]);
    })
    .await;
}

#[test]
#[ignore = "wants a node: cargo xtask e2e"]
fn every_edge_of_bookinfo_is_mutual_tls_and_nobody_touched_a_manifest() {
    tell("bookinfo", async |place| {
        let mesh = mesh::mesh(place).await;
        mesh.gateway_api().await;
        bookinfo(place).await;

        wait::until("every edge to carry mutual TLS", SOON, async || {
            let graph = graph(&mesh).await;
            let edges = edges(&graph);
            for (from, to) in CALLS {
                match edges.get(&(from, to)) {
                    Some(edge) if edge.golden.requests > 0 && edge.mtls == Some(1.0) => {}
                    other => return Err(format!("{from} → {to}: {other:?}")),
                }
            }
            let busy = edges.values().filter(|edge| edge.golden.requests > 0).count();
            assert_eq!(busy, CALLS.len(), "and nothing else, kubelet's probes least of all: {edges:?}");
            Ok(())
        })
        .await;

        in_a_browser(&mesh).await;

        // Who has no certificate is served where policy says so, and nowhere else.
        let page = place.service("productpage", 9080).await;
        let details = place.service("details", 9080).await;
        let refused = place.told_outside(details, "/details/0").await;
        assert_eq!(refused.status(), 403, "{:?}", refused.headers());
        let refused = place.told_outside(page, "/productpage").await;
        assert_eq!(refused.status(), 403, "{:?}", refused.headers());
        place.apply(OPEN).await;
        wait::until("the page for everybody", SOON, async || {
            match place.told_outside(page, "/productpage").await.status() {
                status if status == 200 => Ok(()),
                status => Err(status),
            }
        })
        .await;

        let plain = mesh.cli(&["edges", "-n", "bookinfo"]).await;
        println!("{plain}");
    });
}

const OPEN: &str = "
apiVersion: mesh.dev/v1alpha1
kind: AuthorizationPolicy
metadata: { name: productpage, namespace: bookinfo }
spec:
  targetRefs:
  - { group: '', kind: Service, name: productpage }
  rules:
  - from:
    - network: { cidr: 0.0.0.0/0 }
    - serviceAccount: { name: traffic }
";
