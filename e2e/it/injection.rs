//! Which Pods get a proxy, and that they live as they would without.

use crate::telling::{
    app::{self, IMAGE},
    mesh::{self, Mesh},
    place::Place,
    story::{tell, tell_alone},
};
use k8s_openapi::api::core::v1::Pod;
use mesh_api::names;
use mesh_tests::client;
use std::time::Instant;

/// A Job that asks a meshed server once, by name.
fn job(name: &str, annotations: &str, init: &str) -> String {
    format!(
        "
apiVersion: batch/v1
kind: Job
metadata: {{ name: {name} }}
spec:
  backoffLimit: 0
  template:
    metadata: {{ labels: {{ app: {name} }}, annotations: {{ {annotations} }} }}
    spec:
      restartPolicy: Never
      terminationGracePeriodSeconds: 1
      initContainers: [{init}]
      containers: [{{ name: app, image: {IMAGE}, args: [get, http://shop/, --within-s, '30'] }}]
"
    )
}

async fn shop(place: &Place) -> Mesh<'_> {
    let mesh = mesh::meshed(place).await;
    place.annotate(&serde_json::json!({ names::DEFAULT_POLICY: "mesh-only" })).await;
    place.apply(&app::server("shop", 1)).await;
    place.rolled_out("shop").await;
    mesh
}

async fn only(place: &Place, app: &str) -> Pod {
    let mut pods = place.pods(&format!("app={app}")).await;
    assert_eq!(pods.len(), 1, "{pods:#?}");
    pods.remove(0)
}

#[test]
#[ignore = "wants a node: cargo xtask e2e"]
fn jobs_complete_by_themselves_and_their_init_containers_reach_the_mesh() {
    tell("injection-jobs", async |place| {
        let _mesh = shop(place).await;
        let asks = format!("{{ name: first, image: {IMAGE}, args: [get, http://shop/, --within-s, '30'] }}");
        place.apply(&job("plain", "", "")).await;
        place.apply(&job("initial", "", &asks)).await;
        for job in ["plain", "initial"] {
            place.completed(job).await;
            assert!(mesh::is_meshed(&only(place, job).await), "{job}");
        }
        let cron = "
apiVersion: batch/v1
kind: CronJob
metadata: { name: cron }
spec:
  schedule: '* * * * *'
  suspend: true
  jobTemplate:
    spec:
      template:
        spec:
          restartPolicy: Never
          containers: [{ name: app, image: mesh-e2e-app:0.1.0, args: [get, http://shop/] }]
";
        // What kubectl's `create job --from` makes; a schedule would take a minute.
        place.apply(cron).await;
        place.apply(&job("from-cron", "", "")).await;
        place.completed("from-cron").await;
    });
}

#[test]
#[ignore = "wants a node: cargo xtask e2e"]
fn a_classic_sidecar_serves_as_a_native_one_does() {
    tell("injection-classic", async |place| {
        let _mesh = shop(place).await;
        let classic = app::client("classic").replace(
            "labels: { app: classic }",
            "labels: { app: classic }, annotations: { mesh.dev/sidecar: classic }",
        );
        place.apply(&classic).await;
        let pod = place.running("classic").await;
        let spec = pod.spec.clone().unwrap();
        assert!(spec.containers.iter().any(|container| container.name == names::PROXY_CONTAINER));
        let (inside, shop) = (place.inside(&pod).await, place.service("shop", 80).await);
        let answer = inside.run(async move || client::get(shop, "/").await.unwrap().status()).await;
        assert_eq!(answer, 200, "only the mesh may call");
    });
}

#[test]
#[ignore = "wants a node: cargo xtask e2e"]
fn a_pod_of_the_nodes_network_is_left_alone_and_says_why() {
    tell("injection-host", async |place| {
        let _mesh = mesh::meshed(place).await;
        let yaml =
            app::client("host").replace("spec:\n", "spec:\n  hostNetwork: true\n").replace("8080", "18080");
        let yaml = yaml.replace("args: [serve]", "args: [serve, --listen, '0.0.0.0:18080']");
        place.apply(&yaml).await;
        let pod = place.running("host").await;
        assert!(!mesh::is_meshed(&pod));
        let status = pod.metadata.annotations.unwrap_or_default().remove(names::INJECT_STATUS);
        assert!(
            status.as_ref().is_some_and(|why| why.starts_with("skipped:") && why.contains("hostNetwork")),
            "{status:?}"
        );
    });
}

#[test]
#[ignore = "wants a node: cargo xtask e2e"]
fn a_pod_outside_of_meshed_namespaces_asks_for_a_proxy_itself() {
    tell("injection-pod", async |place| {
        let _mesh = mesh::mesh(place).await;
        let asks = app::client("asks").replace(
            "labels: { app: asks }",
            "labels: { app: asks }, annotations: { mesh.dev/inject: enabled }",
        );
        place.apply(&asks).await;
        place.apply(&app::client("silent")).await;
        assert!(mesh::is_meshed(&place.running("asks").await));
        assert!(!mesh::is_meshed(&place.running("silent").await));
    });
}

/// Seconds from its creation until a Pod is ready, the least of three: the node is busy with other things, too.
async fn ready_after(place: &Place, name: &str) -> f64 {
    let mut least = f64::INFINITY;
    for index in 0..3 {
        let name = format!("{name}-{index}");
        let start = Instant::now();
        place.apply(&app::client(&name)).await;
        place.running(&name).await;
        least = least.min(start.elapsed().as_secs_f64());
    }
    least
}

#[test]
#[ignore = "wants a node: cargo xtask e2e"]
fn a_meshed_pod_is_ready_hardly_later_than_a_plain_one() {
    tell_alone("injection-time", async |place| {
        let _mesh = mesh::mesh(place).await;
        let plain = ready_after(place, "plain").await;
        place.annotate(&serde_json::json!({ names::INJECT: "enabled" })).await;
        let meshed = ready_after(place, "meshed").await;
        println!("ready after {plain:.2} s without a proxy, {meshed:.2} s with one");
        // The bar is a second on a quiet machine; here it only must not be a probe's period or a back-off more.
        assert!(meshed - plain < 3.0, "ready after {plain:.2} s without a proxy, {meshed:.2} s with one");
    });
}
