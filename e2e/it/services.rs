//! How Services and their endpoints reach proxies: by every name that Kubernetes gives them, and at once.

use crate::telling::{
    app::{self, IMAGE},
    inside::Inside,
    mesh,
    place::{Place, SOON},
    second::Second,
    shop::Shop,
    story::{is_long, tell, tell_alone},
};
use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{Node, Pod, Service},
};
use kube::{
    ResourceExt,
    api::{Patch, PatchParams},
};
use mesh_api::names;
use mesh_tests::{client, wait};
use serde_json::{Value, json};
use std::{
    collections::BTreeSet,
    net::SocketAddr,
    time::{Duration, Instant},
};

/// Which Pod answers.
async fn who(inside: &Inside, to: SocketAddr) -> Result<String, String> {
    let reply =
        inside.run(async move || client::get(to, "/").await.map_err(|error| format!("{error:#}"))).await?;
    match reply.status().as_u16() {
        200 => {
            let said: Value = serde_json::from_slice(reply.body()).map_err(|error| error.to_string())?;
            Ok(said["by"].as_str().unwrap_or_default().to_owned())
        }
        status => Err(format!("{status} {:?}", reply.headers().get("l5d-proxy-error"))),
    }
}

/// How long it took until a Pod of this name answered.
async fn until_by(inside: &Inside, to: SocketAddr, name: &str) -> Duration {
    let start = Instant::now();
    loop {
        match who(inside, to).await {
            Ok(by) if by.starts_with(name) => return start.elapsed(),
            Ok(_) => assert!(start.elapsed() < SOON, "{name} has not answered within {SOON:?}"),
            Err(error) => panic!("on the way to {name}: {error}"),
        }
    }
}

#[test]
#[ignore = "wants a node: cargo xtask e2e"]
fn a_selector_that_changes_moves_traffic_and_no_request_fails() {
    tell("services-selector", async |place| {
        let shop = Shop::open(place, 1).await;
        place.apply(&app::server("other", 1)).await;
        place.rolled_out("other").await;
        until_by(&shop.inside, shop.addr, "shop").await;
        for app in ["other", "shop", "other"] {
            let patch = Patch::Merge(json!({ "spec": { "selector": { "app": app } } }));
            let services = place.api::<Service>();
            services.patch("shop", &PatchParams::default(), &patch).await.unwrap();
            println!("{app} answers after {:?}", until_by(&shop.inside, shop.addr, app).await);
        }
    });
}

/// Who answers fifty requests.
async fn answering(inside: &Inside, to: SocketAddr) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for _ in 0..50 {
        names.insert(who(inside, to).await.unwrap());
    }
    names
}

async fn in_zone(place: &Place, node: &str, zone: Option<&str>) {
    let patch = Patch::Merge(json!({ "metadata": { "labels": { "topology.kubernetes.io/zone": zone } } }));
    place.all::<Node>().patch(node, &PatchParams::default(), &patch).await.unwrap();
}

#[test]
#[ignore = "wants a node: cargo xtask e2e"]
fn a_client_stays_in_its_zone_as_long_as_somebody_serves_there() {
    tell_alone("services-zone", async |place| {
        // The client is on the first node.
        let shop = Shop::open(place, 2).await;
        // Beside the load, which keeps its own thread.
        let asking = place.inside(&place.running("client").await).await;
        let first = place.node.host();
        let second = Second::join(place);
        in_zone(place, &first, Some("near")).await;
        in_zone(place, &second.name(), Some("far")).await;
        let everywhere = Patch::Merge(app::spread("shop"));
        place.api::<Deployment>().patch("shop", &PatchParams::default(), &everywhere).await.unwrap();
        place.rolled_out("shop").await;
        let (far, near): (Vec<Pod>, Vec<Pod>) = place
            .pods("app=shop")
            .await
            .into_iter()
            .partition(|pod| second.holds(std::slice::from_ref(pod)) == 1);
        let names = |pods: &[Pod]| pods.iter().map(ResourceExt::name_any).collect::<BTreeSet<_>>();
        let (far, near) = (names(&far), names(&near));
        assert_eq!((far.len(), near.len()), (1, 1));
        let answered = async |what: &str, wanted: &BTreeSet<String>| {
            wait::until(what, SOON, async || {
                let answered = answering(&asking, shop.addr).await;
                if answered == *wanted { Ok(()) } else { Err(format!("{answered:?}, not {wanted:?}")) }
            })
            .await;
        };
        answered("both to answer", &near.union(&far).cloned().collect()).await;

        let close = Patch::Merge(json!({ "spec": { "trafficDistribution": "PreferClose" } }));
        shop.unharmed(200, async {
            place.api::<Service>().patch("shop", &PatchParams::default(), &close).await.unwrap();
            answered("the near one to answer alone", &near).await;
        })
        .await;
        let far = Patch::Merge(json!({ "spec": { "template": { "spec": {
            "nodeSelector": { "kubernetes.io/hostname": second.name() },
            "topologySpreadConstraints": null,
        } } } }));
        shop.unharmed(200, async {
            place.api::<Deployment>().patch("shop", &PatchParams::default(), &far).await.unwrap();
            place.rolled_out("shop").await;
            let pods = place.pods("app=shop").await;
            assert_eq!(second.holds(&pods), 2);
            answered("those of the far zone to answer", &names(&pods)).await;
        })
        .await;
        in_zone(place, &first, None).await;
    });
}

/// A Service without a selector, whose one endpoint we say.
fn endpoint(pod: &Pod) -> String {
    let ip = pod.status.as_ref().unwrap().pod_ip.as_ref().unwrap();
    let name = pod.metadata.name.as_ref().unwrap();
    let namespace = pod.metadata.namespace.as_ref().unwrap();
    format!(
        "
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{ name: by-hand, labels: {{ kubernetes.io/service-name: by-hand }} }}
addressType: IPv4
ports: [{{ name: http, port: 8080 }}]
endpoints:
- addresses: [{ip}]
  conditions: {{ ready: true }}
  targetRef: {{ kind: Pod, name: {name}, namespace: {namespace} }}
"
    )
}

#[test]
#[ignore = "wants a node: cargo xtask e2e"]
fn an_endpoint_that_is_written_is_connected_to_at_once() {
    tell_alone("services-endpoint", async |place| {
        let _mesh = mesh::meshed(place).await;
        for pod in ["one", "other", "client"] {
            place.apply(&app::client(pod)).await;
        }
        let service = app::service("by-hand").replace("  selector: { app: by-hand }\n", "");
        place.apply(&service).await;
        let pods = [place.running("one").await, place.running("other").await];
        let inside = place.inside(&place.running("client").await).await;
        let addr = place.service("by-hand", 80).await;
        place.apply(&endpoint(&pods[0])).await;
        wait::until("the first to answer", SOON, async || who(&inside, addr).await).await;

        let mut took = vec![];
        for turn in 1..=(if is_long() { 200 } else { 20 }) {
            let pod = &pods[turn % 2];
            place.apply(&endpoint(pod)).await;
            took.push(until_by(&inside, addr, pod.metadata.name.as_ref().unwrap()).await);
        }
        took.sort();
        let at = |share: f64| took[((took.len() - 1) as f64 * share) as usize];
        println!(
            "EndpointSlice written → first answer of its Pod: p50 {:?}, p99 {:?}, worst {:?} of {}",
            at(0.5),
            at(0.99),
            at(1.0),
            took.len()
        );
    });
}

/// Pods with names of their own, below a Service without an address, whose port has a name.
const HEADLESS: &str = "
apiVersion: v1
kind: Service
metadata: { name: db }
spec:
  clusterIP: None
  selector: { app: db }
  ports: [{ name: http, port: 8080, targetPort: named, appProtocol: http }]
---
apiVersion: apps/v1
kind: StatefulSet
metadata: { name: db }
spec:
  serviceName: db
  replicas: 2
  podManagementPolicy: Parallel
  selector: { matchLabels: { app: db } }
  template:
    metadata: { labels: { app: db } }
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: app
        image: mesh-e2e-app:0.1.0
        args: [serve]
        ports: [{ name: named, containerPort: 8080 }]
        readinessProbe: { httpGet: { path: /, port: named }, periodSeconds: 1 }
---
apiVersion: v1
kind: Service
metadata: { name: db-named }
spec:
  selector: { app: db }
  ports: [{ name: http, port: 80, targetPort: named, appProtocol: http }]
---
apiVersion: v1
kind: Service
metadata: { name: elsewhere }
spec: { type: ExternalName, externalName: example.invalid }
";

/// Asks each of these once, one after the other.
fn asker(urls: &[&str]) -> String {
    let container = |(index, url): (usize, &&str)| {
        format!("\n  - {{ name: get-{index}, image: {IMAGE}, args: [get, '{url}', --within-s, '30'] }}")
    };
    let first: String = urls.iter().enumerate().map(container).collect();
    app::client("asker").replace("  containers:\n", &format!("  initContainers:{first}\n  containers:\n"))
}

#[test]
#[ignore = "wants a node: cargo xtask e2e"]
fn a_service_is_reached_by_every_name_that_it_has() {
    tell("services-names", async |place: &Place| {
        let mesh = mesh::meshed(place).await;
        // Whoever came around the mesh would be refused.
        place.annotate(&json!({ names::DEFAULT_POLICY: "mesh-only" })).await;
        place.apply(HEADLESS).await;
        for pod in ["db-0", "db-1"] {
            place.running(pod).await;
        }
        let urls = [
            "http://db:8080/",
            "http://db-1.db:8080/",
            "http://db-0.db.services-names.svc.cluster.local:8080/",
            "http://db-named/",
            "http://db-named.services-names/",
        ];
        place.apply(&asker(&urls)).await;
        place.running("asker").await;
        let log = place.log("asker", "get-1").await;
        assert!(log.contains("\"db-1\""), "the Pod that was named, not another: {log}");

        let one = mesh.cli(&["endpoints", "db-1.db.services-names:8080"]).await;
        assert!(one.contains("services-names/db-1") && !one.contains("services-names/db-0"), "{one}");
        let refused = mesh.run(&["endpoints", "elsewhere.services-names:80"]).await;
        let why = String::from_utf8_lossy(&refused.stderr);
        assert!(!refused.status.success() && why.contains("ExternalName"), "{why}");
    });
}
