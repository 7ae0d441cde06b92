//! The node itself: that what stories stand on is there.

use crate::telling::{
    app::{self, IMAGE},
    place::SOON,
    story::{tell, tell_alone},
};
use k8s_openapi::api::core::v1::{ConfigMap, Node};
use mesh_tests::{client, wait};

#[test]
#[ignore = "wants a node: cargo xtask e2e"]
fn the_node_is_ready() {
    tell("node-ready", async |place| {
        let node = place.all::<Node>().get("node0").await.unwrap();
        let status = node.status.unwrap();
        let ready =
            status.conditions.unwrap().into_iter().find(|condition| condition.type_ == "Ready").unwrap();
        assert_eq!(ready.status, "True", "{ready:?}");
    });
}

#[test]
#[ignore = "wants a node: cargo xtask e2e"]
fn an_api_server_that_was_away_comes_back_with_all_it_knew() {
    tell_alone("node-api-away", async |place| {
        place.apply("apiVersion: v1\nkind: ConfigMap\nmetadata: { name: known }\ndata: { a: b }").await;
        place.without_api_server(async {}).await;
        let known = place.api::<ConfigMap>();
        wait::until("what it knew", SOON, async || known.get("known").await).await;
    });
}

#[test]
#[ignore = "wants a node: cargo xtask e2e"]
fn a_service_balances_over_its_pods_for_a_client_in_another_pod() {
    tell("node-service", async |place| {
        place.apply(&app::server("echo", 2)).await;
        place.rolled_out("echo").await;
        let service = place.service("echo", 80).await;
        let pods = place.pods("app=echo").await;
        let inside = place.inside(&pods[0]).await;
        let answered = inside
            .run(async move || {
                let mut answered = std::collections::BTreeSet::new();
                wait::until("both pods to answer", SOON, async || {
                    let reply = client::get(service, "/").await.map_err(|error| format!("{error:#}"))?;
                    let said: serde_json::Value = serde_json::from_slice(reply.body()).unwrap();
                    answered.insert(said["by"].as_str().unwrap().to_owned());
                    if answered.len() == 2 { Ok(()) } else { Err(format!("only {answered:?}")) }
                })
                .await;
                answered
            })
            .await;
        let mut names: Vec<_> = pods.iter().map(|pod| pod.metadata.name.clone().unwrap()).collect();
        names.sort();
        assert_eq!(answered.into_iter().collect::<Vec<_>>(), names);
    });
}

#[test]
#[ignore = "wants a node: cargo xtask e2e"]
fn a_job_finds_a_service_by_its_name() {
    tell("node-dns", async |place| {
        place.apply(&app::server("echo", 1)).await;
        for (job, url) in [("short", "http://echo/"), ("whole", "http://echo.node-dns.svc.cluster.local/")] {
            place
                .apply(&format!(
                    "
apiVersion: batch/v1
kind: Job
metadata: {{ name: {job} }}
spec:
  backoffLimit: 0
  template:
    spec:
      restartPolicy: Never
      containers: [{{ name: app, image: {IMAGE}, args: [get, {url}, --within-s, '30'] }}]
"
                ))
                .await;
            place.completed(job).await;
        }
    });
}

/// The node's own programs, lent to a Pod whose image has none.
const REDIRECTED: &str = "
apiVersion: v1
kind: Pod
metadata: { name: redirected }
spec:
  terminationGracePeriodSeconds: 1
  initContainers:
  - name: init
    image: mesh-e2e-app:0.1.0
    command: [/usr/sbin/nft, 'add table ip story; add chain ip story out { type nat hook output priority -100; }; add rule ip story out tcp dport 81 redirect to :8080']
    securityContext:
      runAsUser: 0
      allowPrivilegeEscalation: false
      readOnlyRootFilesystem: true
      capabilities: { drop: [ALL], add: [NET_ADMIN] }
    volumeMounts:
    - { name: usr, mountPath: /usr, readOnly: true }
    - { name: lib, mountPath: /lib, readOnly: true }
    - { name: lib64, mountPath: /lib64, readOnly: true }
  containers:
  - name: app
    image: mesh-e2e-app:0.1.0
    args: [serve]
    readinessProbe: { httpGet: { path: /, port: 8080 }, periodSeconds: 1 }
  volumes:
  - { name: usr, hostPath: { path: /usr } }
  - { name: lib, hostPath: { path: /usr/lib } }
  - { name: lib64, hostPath: { path: /usr/lib64 } }
";

#[test]
#[ignore = "wants a node: cargo xtask e2e"]
fn an_init_container_with_net_admin_alone_redirects_its_pods_connections() {
    tell("node-redirect", async |place| {
        place.apply(REDIRECTED).await;
        let pod = place.running("redirected").await;
        let inside = place.inside(&pod).await;
        let status = inside
            .run(async || client::get(([192, 0, 2, 1], 81).into(), "/status/418").await.unwrap().status())
            .await;
        assert_eq!(status, 418);
    });
}
