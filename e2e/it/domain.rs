//! A cluster whose Services are named in another domain than most.

use crate::telling::{
    app::{self, IMAGE},
    mesh,
    place::Place,
    story::tell_alone,
};
use mesh_e2e::node::settings::COREDNS;

const DOMAIN: &str = "k8s.example";
/// Of the name server that knows this domain and no other.
const DNS: &str = "10.96.0.11";

/// The name server of such a cluster, beside the node's own.
async fn name_server(place: &Place) {
    let beside = [
        ("system:coredns", "domain:coredns"),
        ("kube-system", "domain"),
        ("10.96.0.10", DNS),
        ("cluster.local", DOMAIN),
    ];
    let server = beside.iter().fold(COREDNS.to_owned(), |yaml, (of_node, own)| yaml.replace(of_node, own));
    place.apply(&server).await;
    place.rolled_out("coredns").await;
}

/// A Pod that finds names as kubelet has it on such a cluster, and asks for each of these before it serves.
fn pod(name: &str, asks: &[&str]) -> String {
    let ask = |(index, url)| {
        format!("{{ name: get-{index}, image: {IMAGE}, args: [get, '{url}', --within-s, '30'] }}")
    };
    let first: Vec<_> = asks.iter().enumerate().map(ask).collect();
    let own = format!(
        "spec:
  dnsPolicy: None
  dnsConfig:
    nameservers: [{DNS}]
    searches: [domain.svc.{DOMAIN}, svc.{DOMAIN}, {DOMAIN}]
    options: [{{ name: ndots, value: '5' }}]
  initContainers: [{}]
",
        first.join(", ")
    );
    app::client(name).replace("spec:\n", &own)
}

#[test]
#[ignore = "wants a node: cargo xtask e2e"]
fn on_a_cluster_of_another_domain_every_name_leads_into_the_mesh_and_identities_are_as_ever() {
    tell_alone("domain", async |place| {
        let mesh = mesh::mesh(place).await;
        name_server(place).await;
        mesh.install(&["--set", &format!("clusterDomain={DOMAIN}")]).await;
        let mesh = mesh::meshed(place).await;
        place.apply(&app::service("shop")).await;
        place.apply(&pod("shop", &[])).await;
        place.running("shop").await;
        let whole = format!("http://shop.domain.svc.{DOMAIN}/");
        let names = ["http://shop/", "http://shop.domain/", "http://shop.domain.svc/", &whole];
        place.apply(&pod("client", &names)).await;
        place.running("client").await;
        for (index, name) in names.iter().enumerate() {
            let told = place.log("client", &format!("get-{index}")).await;
            let identity = "default.domain.serviceaccount.identity.mesh-system.cluster.local";
            assert!(told.contains(identity), "{name}: {told}");
        }
        let known = mesh.cli(&["endpoints", &format!("shop.domain.svc.{DOMAIN}:80")]).await;
        assert!(known.contains("domain/shop"), "{known}");
        let foreign = mesh.run(&["endpoints", "shop.domain.svc.cluster.local:80"]).await;
        let why = String::from_utf8_lossy(&foreign.stderr);
        assert!(!foreign.status.success() && why.contains(DOMAIN), "{why}");
        mesh.install(&[]).await;
    });
}
