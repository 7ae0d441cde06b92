//! Which Pods get a proxy, and that they live as they would without.

use crate::telling::{
    app::{self, IMAGE},
    mesh::{self, Mesh},
    place::{Place, SOON},
    story::{is_long, tell, tell_alone},
};
use k8s_openapi::{
    api::{
        apps::v1::Deployment,
        core::v1::{Container, Pod},
    },
    jiff::Timestamp,
};
use kube::api::ListParams;
use mesh_api::names;
use mesh_tests::{client, wait};
use std::{
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

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
        let mesh = shop(place).await;
        let asks = format!("{{ name: first, image: {IMAGE}, args: [get, http://shop/, --within-s, '30'] }}");
        place.apply(&job("plain", "", "")).await;
        place.apply(&job("initial", "", &asks)).await;
        for job in ["plain", "initial"] {
            place.completed(job).await;
            assert!(mesh::is_meshed(&only(place, job).await), "{job}");
        }
        place.apply(CRON_JOB).await;
        // A schedule would take a minute.
        mesh.shell("kubectl create job -n injection-jobs --from cronjob/cron from-cron").await;
        place.completed("from-cron").await;
        assert!(mesh::is_meshed(&only(place, "cron").await));
    });
}

const CRON_JOB: &str = "
apiVersion: batch/v1
kind: CronJob
metadata: { name: cron }
spec:
  schedule: '0 0 1 1 *'
  jobTemplate:
    spec:
      template:
        metadata: { labels: { app: cron } }
        spec:
          restartPolicy: Never
          containers: [{ name: app, image: mesh-e2e-app:0.1.0, args: [get, http://shop/, --within-s, '30'] }]
";

/// Kubelet writes the proxy's token for whoever the Pod says it is for: all are to be able to read it.
#[test]
#[ignore = "wants a node: cargo xtask e2e"]
fn whoever_a_pod_is_its_proxy_redirects_and_reads_its_token() {
    tell("injection-users", async |place| {
        let _mesh = shop(place).await;
        let as_user = |name: &str, annotation: &str, context: &str| {
            let annotations = format!("labels: {{ app: {name} }}, annotations: {{ {annotation} }}");
            app::client(name)
                .replace(&format!("labels: {{ app: {name} }}"), &annotations)
                .replace("spec:\n", &format!("spec:\n  securityContext: {{ {context} }}\n"))
        };
        for (name, annotation, context, init) in [
            ("anybody", "", "", false),
            ("root", "", "runAsUser: 0", true),
            ("group", "", "runAsUser: 1000, runAsGroup: 1000, fsGroup: 3000, runAsNonRoot: true", false),
            ("apart", "mesh.dev/redirection: init", "fsGroup: 3000", true),
        ] {
            place.apply(&as_user(name, annotation, context)).await;
            let pod = place.running(name).await;
            assert!(mesh::is_meshed(&pod), "{name}");
            let first = pod.spec.clone().unwrap().init_containers.unwrap_or_default();
            assert_eq!(first.iter().any(|own| own.name == names::INIT_CONTAINER), init, "{name}");
            let (inside, shop) = (place.inside(&pod).await, place.service("shop", 80).await);
            let status = inside.run(async move || client::get(shop, "/").await.unwrap().status()).await;
            assert_eq!(status, 200, "{name}: only the mesh may call");
        }
    });
}

#[test]
#[ignore = "wants a node: cargo xtask e2e"]
fn a_pod_keeps_the_sidecars_that_it_has_and_all_of_them_are_in_the_mesh() {
    tell("injection-sidecars", async |place| {
        let _mesh = shop(place).await;
        place.apply(SIDECARS).await;
        place.apply(&app::client("client")).await;
        let (pod, client) = (place.running("sidecars").await, place.running("client").await);
        let spec = pod.spec.clone().unwrap();
        let names =
            |containers: &[Container]| containers.iter().map(|own| own.name.clone()).collect::<Vec<_>>();
        let first = spec.init_containers.unwrap_or_default();
        // The proxy is there before whatever starts in front of the application.
        assert_eq!(names(&first), [names::PROXY_CONTAINER, "native", "asks"]);
        assert_eq!(names(&spec.containers), ["app", "classic"]);

        let ip: IpAddr = pod.status.unwrap().pod_ip.unwrap().parse().unwrap();
        let inside = place.inside(&client).await;
        for port in [8080, 8081, 8082] {
            let to = SocketAddr::new(ip, port);
            let status = inside.run(async move || client::get(to, "/").await.unwrap().status()).await;
            assert_eq!(status, 200, "only the mesh may call port {port}");
            assert_eq!(place.told_outside(to, "/asked").await.status(), 403, "port {port}");
        }
    });
}

const SIDECARS: &str = "
apiVersion: v1
kind: Pod
metadata: { name: sidecars, labels: { app: sidecars } }
spec:
  terminationGracePeriodSeconds: 1
  initContainers:
  - name: native
    image: mesh-e2e-app:0.1.0
    args: [serve, --listen, '0.0.0.0:8081']
    restartPolicy: Always
  - { name: asks, image: mesh-e2e-app:0.1.0, args: [get, http://shop/, --within-s, '30'] }
  containers:
  - name: app
    image: mesh-e2e-app:0.1.0
    args: [serve]
    ports: [{ name: http, containerPort: 8080 }]
    readinessProbe: { httpGet: { path: /, port: http }, periodSeconds: 1 }
  - { name: classic, image: mesh-e2e-app:0.1.0, args: [serve, --listen, '0.0.0.0:8082'] }
";

/// Workloads whose Pods nobody schedules, so that a node need not hold them.
fn unscheduled(name: &str, pods: usize) -> String {
    format!(
        "
apiVersion: apps/v1
kind: Deployment
metadata: {{ name: {name} }}
spec:
  replicas: {pods}
  strategy: {{ type: Recreate }}
  selector: {{ matchLabels: {{ app: {name} }} }}
  template:
    metadata: {{ labels: {{ app: {name}, many: 'yes' }} }}
    spec:
      schedulerName: nobody
      containers: [{{ name: app, image: {IMAGE}, args: [serve] }}]
"
    )
}

#[test]
#[ignore = "wants a node: cargo xtask e2e"]
fn workloads_that_came_before_the_mesh_are_restarted_one_after_the_other() {
    tell("injection-reconcile", async |place| {
        let mesh = mesh::mesh(place).await;
        let each = if is_long() { 100 } else { 10 };
        let workloads = ["a", "b", "c", "d", "e"];
        for name in workloads {
            place.apply(&unscheduled(name, each)).await;
        }
        let total = each * workloads.len();
        wait::until("all Pods to be there", SOON, async || match place.pods("many=yes").await.len() {
            there if there == total => Ok(()),
            there => Err(there),
        })
        .await;
        place.annotate(&serde_json::json!({ names::INJECT: "enabled" })).await;
        let finding = "should be meshed, and";
        wait::until("them to be found", SOON, async || {
            let told = mesh.findings().await;
            if told.matches(finding).count() == workloads.len() { Ok(()) } else { Err(told) }
        })
        .await;

        place.annotate(&serde_json::json!({ names::RECONCILE: "restart" })).await;
        wait::until("all Pods to be meshed", Duration::from_secs(240), async || {
            let meshed = place.pods("many=yes").await.iter().filter(|pod| mesh::is_meshed(pod)).count();
            if meshed == total { Ok(()) } else { Err(format!("{meshed} of {total} are")) }
        })
        .await;
        let mut restarts = vec![];
        for deployment in place.api::<Deployment>().list(&ListParams::default()).await.unwrap() {
            let template = deployment.spec.unwrap().template.metadata.unwrap();
            let at = &template.annotations.unwrap()["mesh.dev/restarted-at"];
            restarts.push(at.parse::<Timestamp>().unwrap());
        }
        restarts.sort();
        println!("restarted at {restarts:?}");
        let pauses: Vec<_> =
            restarts.windows(2).map(|pair| pair[1].as_second() - pair[0].as_second()).collect();
        assert!(pauses.iter().all(|pause| *pause >= 9), "ten seconds between them: {pauses:?}");
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
        let plain = ready_after(place, "plain").await;
        let _mesh = mesh::meshed(place).await;
        let meshed = ready_after(place, "meshed").await;
        println!("ready after {plain:.2} s without a proxy, {meshed:.2} s with one");
        // The bar is a second on a quiet machine; here it only must not be a probe's period or a back-off more.
        assert!(meshed - plain < 3.0, "ready after {plain:.2} s without a proxy, {meshed:.2} s with one");
    });
}
