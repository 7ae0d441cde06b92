//! What users type, from a cluster without a mesh to one that has none again: by `kubectl`, and by Helm.

use crate::telling::{
    app,
    inside::Inside,
    inventory::{Item, everything},
    mesh::{self, Mesh},
    place::{Place, SOON},
    shop::Shop,
    story::tell_alone,
};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use mesh_api::check::{CheckList, Outcome};
use mesh_tests::{client, wait};
use std::collections::BTreeSet;

/// The cluster as it is when nobody has heard of the mesh.
async fn without_a_mesh(mesh: &Mesh<'_>, place: &Place) -> BTreeSet<String> {
    mesh.cli(&["uninstall", "--apply"]).await;
    inventory(place).await
}

/// All that is on the cluster, but for what this story has made in its own namespace.
async fn inventory(place: &Place) -> BTreeSet<String> {
    // An IPAddress is a Service's.
    let is_others = |item: &Item| {
        (item.namespace != place.namespace || item.kind == "ConfigMap") && item.kind != "IPAddress"
    };
    everything(place).await.iter().filter(|item| is_others(item)).map(Item::name).collect()
}

/// Waits until nothing is there that was not there before. What has an owner goes a moment after it.
async fn as_before(place: &Place, before: &BTreeSet<String>) {
    wait::until("the cluster to be as it was", SOON, async || {
        let now = inventory(place).await;
        let left: Vec<_> = now.difference(before).cloned().collect();
        if left.is_empty() { Ok(()) } else { Err(left.join(", ")) }
    })
    .await;
}

/// Every check passes.
async fn all_green(mesh: &Mesh<'_>, command: &str) {
    let printed = mesh.shell(command).await;
    let report: CheckList =
        serde_json::from_str(&printed).unwrap_or_else(|error| panic!("{error}: {printed}"));
    let not: Vec<_> = report.checks.iter().filter(|check| check.outcome != Outcome::Pass).collect();
    assert!(!report.checks.is_empty() && not.is_empty(), "{not:#?}");
}

#[test]
#[ignore = "wants a node: cargo xtask e2e"]
fn what_is_piped_to_kubectl_makes_a_mesh_whose_commands_all_answer() {
    tell_alone("commands", async |place| {
        let mesh = mesh::mesh(place).await;
        mesh.gateway_api().await;
        let before = without_a_mesh(&mesh, place).await;

        mesh.shell("mesh check --pre").await;
        mesh.shell("mesh install --set images.pullPolicy=Never | kubectl apply -f -").await;
        all_green(&mesh, "mesh check --wait 60s -o json").await;

        mesh.shell("kubectl annotate namespace commands mesh.dev/inject=enabled").await;
        let shop = Shop::open(place, 1).await;
        mesh.shell("kubectl rollout restart deployment -n commands").await;
        mesh.shell("kubectl rollout status deployment -n commands --timeout 60s").await;
        assert_eq!(shop.status().await, 200);
        all_green(&mesh, "mesh check --proxy -n commands --wait 60s -o json").await;

        let said = async |command: &str, words: &[&str]| {
            let printed = mesh.shell(command).await;
            for word in words {
                assert!(printed.contains(word), "{command} says nothing of {word}: {printed}");
            }
        };
        wait::until("figures of the call", SOON, async || {
            let printed = mesh.shell("mesh edges -n commands").await;
            if printed.contains("shop") { Ok(()) } else { Err(printed) }
        })
        .await;
        said("mesh stat -n commands", &["shop", "client"]).await;
        said("mesh endpoints shop.commands:80", &["8080"]).await;
        said("mesh policy outbound shop.commands:80", &["backend"]).await;
        said("mesh authz commands/shop", &["allow"]).await;
        said("mesh identity list -n commands", &["client", "trust anchor"]).await;
        said("mesh identity show commands/client", &["default.commands.serviceaccount.identity"]).await;
        said("mesh version", &["Server version"]).await;

        // GitOps: the YAML of a Pod has its proxy before it comes to the cluster, and one without another is no problem either.
        let manifest = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(manifest.path(), app::client("written")).unwrap();
        let path = manifest.path().display();
        mesh.shell(&format!("mesh inject {path} | kubectl apply -n default -f -")).await;
        mesh.shell("kubectl wait -n default pod/written --for condition=Ready --timeout 60s").await;
        said(
            "kubectl get pod -n default written -o jsonpath='{.spec.initContainers[*].name}'",
            &["mesh-proxy"],
        )
        .await;
        let elsewhere: Api<Pod> = Api::namespaced(place.client.clone(), "default");
        let pod = elsewhere.get("written").await.unwrap();
        let (inside, addr) = (Inside::of(&place.node, &pod), shop.addr);
        assert_eq!(inside.run(async move || client::get(addr, "/").await.unwrap().status()).await, 200);
        let plain = mesh.shell(&format!("mesh inject {path} | mesh uninject -")).await;
        assert!(plain.contains("name: app") && !plain.contains("mesh-proxy"), "{plain}");
        mesh.shell("kubectl delete -n default pod written").await;

        mesh.shell("mesh upgrade --set operator.log=debug | kubectl apply -f -").await;
        all_green(&mesh, "mesh check --wait 60s -o json").await;

        shop.unharmed(50, mesh.shell("mesh uninstall | kubectl delete -f -")).await;
        as_before(place, &before).await;
    });
}

#[test]
#[ignore = "wants a node: cargo xtask e2e"]
fn helm_installs_it_changes_it_and_takes_all_of_it_away() {
    tell_alone("commands-helm", async |place| {
        let mesh = mesh::mesh(place).await;
        mesh.gateway_api().await;
        let before = without_a_mesh(&mesh, place).await;

        mesh.shell("helm install mesh charts/mesh --set images.pullPolicy=Never --wait").await;
        all_green(&mesh, "mesh check --wait 60s -o json").await;
        let shop = Shop::open(place, 2).await;
        let upgrade =
            "helm upgrade mesh charts/mesh --reset-then-reuse-values --set operator.log=debug --wait";
        shop.unharmed(200, mesh.shell(upgrade)).await;
        all_green(&mesh, "mesh check --wait 60s -o json").await;

        mesh.shell("helm uninstall mesh --wait").await;
        as_before(place, &before).await;
    });
}
