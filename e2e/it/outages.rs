//! What people see while a part of the cluster is away: traffic goes on, and what cannot is told at once.

use crate::telling::{
    app, inside,
    mesh::{self, Mesh},
    place::SOON,
    shop::Shop,
    story::{is_long, tell, tell_alone},
};
use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{Event, Pod},
};
use kube::{
    Api,
    api::{ListParams, PatchParams},
};
use mesh_api::names;
use mesh_tests::{client, wait};
use rustix::process::{Pid, Signal};
use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};
use tokio::time;

/// As long as it takes to see that nothing depends on what is away; a release wants a minute.
fn away() -> Duration {
    Duration::from_secs(if is_long() { 60 } else { 8 })
}

#[test]
#[ignore = "wants a node: cargo xtask e2e"]
fn traffic_goes_on_without_the_api_server_and_news_arrive_when_it_is_back() {
    tell_alone("outages-api", async |place| {
        let shop = Shop::open(place, 2).await;
        shop.unharmed(100, async {
            place.without_api_server(time::sleep(away())).await;
            // The operator hears of new Pods, meshes them, and tells clients of them.
            place.restart("shop").await;
        })
        .await;
        for pod in place.pods("app=shop").await {
            assert!(mesh::is_meshed(&pod), "{pod:#?}");
        }
    });
}

/// Makes etcd forget all that was before now.
async fn compact() {
    let etcd: SocketAddr = ([127, 0, 0, 1], 2379).into();
    let post = async |path: &str, body: serde_json::Value| {
        let mut request = client::to(&format!("http://{etcd}{path}"));
        *request.method_mut() = http::Method::POST;
        *request.body_mut() = client::body(body.to_string());
        let reply = client::send(etcd, request).await.unwrap().is(200);
        serde_json::from_slice::<serde_json::Value>(&reply.body).unwrap()
    };
    let seen = post("/v3/kv/range", serde_json::json!({ "key": "YQ==" })).await;
    let revision = &seen["header"]["revision"];
    post("/v3/kv/compaction", serde_json::json!({ "revision": revision, "physical": true })).await;
}

#[test]
#[ignore = "wants a node: cargo xtask e2e"]
fn an_operator_that_missed_what_the_cluster_has_forgotten_lists_it_anew() {
    tell_alone("outages-compaction", async |place| {
        let _mesh = mesh::meshed(place).await;
        place.apply(&app::client("client")).await;
        let client = place.running("client").await;
        let inside = place.inside(&client).await;
        let operators: Api<Pod> = Api::namespaced(place.client.clone(), names::OPERATOR_NAMESPACE);
        let mut pods = operators.list(&ListParams::default()).await.unwrap().items;
        pods.retain(|pod| pod.metadata.deletion_timestamp.is_none());
        let [operator] = pods.as_slice() else { panic!("one operator, not {}", pods.len()) };
        let pid = Pid::from_raw(inside::process(operator, "mesh-operator") as i32).unwrap();

        // Then nobody waits for its webhook while it stands still: kubelet ends an operator that is silent for 20 s.
        place.annotate(&serde_json::json!({ names::INJECT: "disabled" })).await;
        rustix::process::kill_process(pid, Signal::STOP).unwrap();
        place.apply(&app::server("new", 1)).await;
        place.rolled_out("new").await;
        place.serves("new", 1).await;
        place.without_api_server(compact()).await;
        rustix::process::kill_process(pid, Signal::CONT).unwrap();

        let new = place.service("new", 80).await;
        let seen = wait::until("the operator to know the new Service", SOON, async || {
            let printed =
                Mesh::of(place).run(&["endpoints", "new.outages-compaction.svc.cluster.local:80"]).await;
            match printed.status.success() {
                true => Ok(String::from_utf8_lossy(&printed.stdout).into_owned()),
                false => Err(String::from_utf8_lossy(&printed.stderr).into_owned()),
            }
        })
        .await;
        println!("{seen}");
        // The client's proxy has lost the operator meanwhile, and refuses what it cannot ask about until it has found it again.
        wait::until("the new Service to answer", SOON, async || {
            match inside.run(async move || client::get(new, "/").await.unwrap().status()).await {
                status if status == 200 => Ok(()),
                status => Err(status),
            }
        })
        .await;
        let now = operators.get(operator.metadata.name.as_ref().unwrap()).await.unwrap();
        let restarts = now.status.unwrap().container_statuses.unwrap()[0].restart_count;
        assert_eq!(restarts, 0, "without a restart");
    });
}

#[test]
#[ignore = "wants a node: cargo xtask e2e"]
fn without_an_operator_a_known_service_is_served_and_an_unknown_one_refused_with_its_cause() {
    tell_alone("outages-operator", async |place| {
        let mesh = mesh::meshed(place).await;
        for server in ["known", "unknown"] {
            place.apply(&app::server(server, 1)).await;
        }
        place.apply(&app::client("client")).await;
        for server in ["known", "unknown"] {
            place.rolled_out(server).await;
        }
        let client = place.running("client").await;
        let inside = place.inside(&client).await;
        let (known, unknown) = (place.service("known", 80).await, place.service("unknown", 80).await);
        let get = async |to| inside.run(async move || client::get(to, "/").await).await;
        wait::until("the known one to answer", SOON, async || match get(known).await.unwrap().status() {
            status if status == 200 => Ok(()),
            status => Err(status),
        })
        .await;

        let operators: Api<Deployment> = Api::namespaced(place.client.clone(), names::OPERATOR_NAMESPACE);
        let none = kube::api::Patch::Merge(serde_json::json!({ "spec": { "replicas": 0 } }));
        operators.patch_scale(names::OPERATOR, &PatchParams::default(), &none).await.unwrap();
        let pods: Api<Pod> = Api::namespaced(place.client.clone(), names::OPERATOR_NAMESPACE);
        wait::until("no operator to be left", SOON, async || {
            match pods.list(&ListParams::default()).await.unwrap().items.len() {
                0 => Ok(()),
                left => Err(left),
            }
        })
        .await;
        assert_eq!(get(known).await.unwrap().status(), 200);
        let asked = Instant::now();
        let refused = get(unknown).await.unwrap();
        assert_eq!(refused.status(), 503);
        let cause = refused.headers().get("l5d-proxy-error").map(|cause| cause.to_str().unwrap());
        println!("refused after {:?}: {cause:?}", asked.elapsed());
        assert!(asked.elapsed() < Duration::from_secs(10), "it is told, not left to hang");
        assert!(cause.is_some_and(|cause| cause.contains("unknown")), "{cause:?}");

        let admin: SocketAddr = ([127, 0, 0, 1], names::ADMIN_PORT).into();
        let metrics =
            inside.run(async move || client::get(admin, "/metrics").await).await.unwrap().into_body();
        let metrics = String::from_utf8_lossy(&metrics).into_owned();
        let counted = "outbound_http_errors_total{error=\"undiscovered\"} 1";
        assert!(metrics.contains(counted), "{metrics}");

        // Pods start without a proxy meanwhile, and are found when an operator is back.
        place.apply(&app::server("late", 1)).await;
        place.rolled_out("late").await;
        mesh.install(&[]).await;
        wait::until("the unknown one to answer", SOON, async || match get(unknown).await.unwrap().status() {
            status if status == 200 => Ok(()),
            status => Err(status),
        })
        .await;
        let unmeshed = place.pods("app=late").await;
        assert!(!unmeshed.iter().any(mesh::is_meshed));
        wait::until("the late Pod to be found", SOON, async || {
            let told = mesh.findings().await;
            let events = place.api::<Event>().list(&ListParams::default()).await.unwrap();
            let mut events =
                events.iter().filter(|event| event.involved_object.name.as_deref() == Some("late"));
            let event = events
                .find_map(|event| event.message.clone().filter(|said| said.contains("should be meshed")));
            match told.contains("Deployment outages-operator/late: should be meshed") && event.is_some() {
                true => Ok(()),
                false => Err(format!("event {event:?}\n{told}")),
            }
        })
        .await;
        place.annotate(&serde_json::json!({ names::RECONCILE: "restart" })).await;
        wait::until("the late Pod to be meshed", SOON, async || {
            let pods = place.pods("app=late").await;
            if pods.iter().any(mesh::is_meshed) { Ok(()) } else { Err("it runs without a proxy") }
        })
        .await;
    });
}

#[test]
#[ignore = "wants a node: cargo xtask e2e"]
fn a_peer_that_has_no_certificate_is_refused_where_only_the_mesh_may_call() {
    tell("outages-plain", async |place| {
        let _mesh = mesh::meshed(place).await;
        place.annotate(&serde_json::json!({ names::DEFAULT_POLICY: "deny" })).await;
        place.apply(&app::server("shop", 1)).await;
        // Kubelet's probes pass although nobody may call.
        place.rolled_out("shop").await;
        let shop = place.service("shop", 80).await;
        let refused = place.told_outside(shop, "/other").await;
        assert_eq!(refused.status(), 403, "{:?}", refused.headers());
    });
}
