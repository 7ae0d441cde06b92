//! Somebody's Prometheus reads proxies' own pages, set up as the guide has it.

use crate::telling::{app, mesh, place::SOON, shop::Shop, story::tell_alone};
use k8s_openapi::api::core::v1::Pod;
use mesh_api::names;
use mesh_tests::{binaries, client, process::Start, wait};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    net::{IpAddr, SocketAddr},
};

/// The scrape configuration of the guide, asked for more often. Debian's Prometheus is built without the discovery of Pods, so what
/// that would find is in a file.
fn configuration() -> String {
    let page = fs::read_to_string(binaries::workspace().join("docs/guide/monitoring.md")).unwrap();
    let mut blocks = page.split("```yaml\n").skip(1).filter_map(|rest| Some(rest.split_once("```")?.0));
    let block = blocks.find(|block| block.starts_with("scrape_configs:")).unwrap();
    let discovery = "kubernetes_sd_configs: [{ role: pod }]";
    assert!(block.contains(discovery), "{block}");
    let found = block.replace(discovery, "file_sd_configs: [{ files: [pods.json] }]");
    format!("global: {{ scrape_interval: 1s }}\n{found}")
}

/// What Prometheus' discovery makes of Pods: a target for each port of each container, of those that start first, too.
fn discovered(pods: &[Pod]) -> Value {
    let mut targets = vec![];
    for pod in pods {
        let spec = pod.spec.as_ref().unwrap();
        let containers = spec.containers.iter().chain(spec.init_containers.iter().flatten());
        for port in containers.flat_map(|container| container.ports.iter().flatten()) {
            let labels = json!({
                "__meta_kubernetes_namespace": pod.metadata.namespace,
                "__meta_kubernetes_pod_name": pod.metadata.name,
                "__meta_kubernetes_pod_phase": pod.status.as_ref().unwrap().phase,
                "__meta_kubernetes_pod_container_port_name": port.name.as_deref().unwrap_or_default(),
            });
            targets.push(
                json!({ "targets": [format!("{}:{}", ip(pod), port.container_port)], "labels": labels }),
            );
        }
    }
    json!(targets)
}

fn ip(pod: &Pod) -> IpAddr {
    pod.status.as_ref().unwrap().pod_ip.as_ref().unwrap().parse().unwrap()
}

/// What its HTTP API answers.
async fn ask(prometheus: SocketAddr, path: &str) -> Result<Value, String> {
    let reply = client::get(prometheus, path).await.map_err(|error| format!("{error:#}"))?;
    let answer: Value = serde_json::from_slice(reply.body()).map_err(|error| error.to_string())?;
    if answer["status"] == "success" { Ok(answer["data"].clone()) } else { Err(answer.to_string()) }
}

/// Proxies of this story, as a part of a URL.
fn selector(more: &str) -> String {
    let plain = format!(r#"{{{more}job="mesh-proxies",namespace="monitoring"}}"#);
    plain.replace('{', "%7B").replace('}', "%7D").replace('"', "%22")
}

/// Names of all samples of a page.
fn names_on(page: &str) -> BTreeSet<String> {
    let samples = page.lines().filter(|line| !line.starts_with('#'));
    samples
        .filter_map(|line| Some(line.split(['{', ' ']).next()?.to_owned()))
        .filter(|name| !name.is_empty())
        .collect()
}

#[test]
#[ignore = "wants a node: cargo xtask e2e"]
fn a_prometheus_set_up_by_the_guide_reads_every_proxy_and_nobody_else_does() {
    tell_alone("monitoring", async |place| {
        let mesh = mesh::meshed(place).await;
        let unmeshed = "metadata: { annotations: { mesh.dev/inject: disabled },";
        place.apply(&app::client("scraper").replace("metadata: {", unmeshed)).await;
        let scraper = place.running("scraper").await;
        let prometheus = SocketAddr::new(ip(&scraper), 9090);
        mesh.install(&["--set", &format!("proxy.metricsNetworks={}/32", prometheus.ip())]).await;
        let shop = Shop::open_in(place, mesh, 1).await;
        assert_eq!(shop.status().await, 200);

        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("prometheus.yml"), configuration()).unwrap();
        fs::write(folder.path().join("pods.json"), discovered(&place.pods("").await).to_string()).unwrap();
        let (scraper, data) = (place.inside(&scraper).await, folder.path().to_owned());
        let start = Start::new("prometheus", "prometheus").current_dir(&data);
        let _prometheus =
            scraper.run(async move || start.args(["--config.file=prometheus.yml"]).spawn()).await;

        // All that a proxy tells is understood, of whichever kind.
        let admin = SocketAddr::from(([127, 0, 0, 1], names::ADMIN_PORT));
        let page = shop.inside.run(async move || client::get(admin, "/metrics").await.unwrap()).await;
        let told = names_on(&String::from_utf8_lossy(page.body()));
        assert!(told.contains("request_total") && told.contains("response_latency_ms_bucket"), "{told:?}");
        let names = format!("/api/v1/label/__name__/values?match[]={}", selector(r#"pod="client","#));
        wait::until("all that the client's proxy tells", SOON, async || {
            let known: BTreeSet<String> = serde_json::from_value(ask(prometheus, &names).await?).unwrap();
            let missing: Vec<_> = told.difference(&known).cloned().collect();
            if missing.is_empty() { Ok(()) } else { Err(format!("{missing:?} of {}", told.len())) }
        })
        .await;
        let up = format!("/api/v1/query?query=up{}", selector(""));
        wait::until("the meshed Pods to be read, and no others", SOON, async || {
            let up = ask(prometheus, &up).await?;
            let read = up["result"].as_array().unwrap().iter().map(|one| {
                let pod = one["metric"]["pod"].as_str().unwrap().split('-').next().unwrap();
                (pod.to_owned(), one["value"][1].clone())
            });
            let all = ["client", "shop"].map(|pod| (pod.to_owned(), json!("1")));
            if read.collect::<BTreeMap<_, _>>() == all.into() { Ok(()) } else { Err(up.to_string()) }
        })
        .await;

        // Another Pod sees that the proxy is well, and not whom it talks to.
        let proxy = SocketAddr::new(ip(&place.pods("app=shop").await[0]), names::ADMIN_PORT);
        let status = async |path: &'static str| {
            shop.inside.run(async move || client::get(proxy, path).await.unwrap().status().as_u16()).await
        };
        assert_eq!((status("/metrics").await, status("/ready").await), (403, 200));
        shop.mesh.install(&[]).await;
    });
}
