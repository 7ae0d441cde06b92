//! From nothing to a mesh, the same again, another one, and back to nothing.

use crate::telling::{
    inventory::{Item, everything},
    mesh::{self, Mesh},
    place::{Place, SOON},
    shop::Shop,
    story::{tell, tell_alone},
};
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, ResourceExt, api::ListParams};
use mesh_api::names;
use mesh_tests::{binaries, process::Start, wait};
use serde_json::Value;
use std::{collections::BTreeMap, time::Instant};

/// Documents by what they describe.
fn objects(yaml: &str) -> BTreeMap<String, Value> {
    let documents = yaml.split("\n---").map(|document| document.trim_start_matches("---"));
    let read = documents.filter_map(|document| {
        let object: Value =
            serde_saphyr::from_str(document).unwrap_or_else(|error| panic!("{error}\n{document}"));
        object.is_object().then_some(object)
    });
    read.map(|object| {
        let metadata = &object["metadata"];
        (format!("{} {} {}", object["kind"], metadata["namespace"], metadata["name"]), object)
    })
    .collect()
}

#[test]
#[ignore = "wants a node: cargo xtask e2e"]
fn helm_makes_of_the_chart_what_the_command_line_makes_of_it() {
    tell("install-helm", async |place| {
        let mesh = Mesh::of(place);
        for values in
            [&[][..], &["--set", "ha=true"], &["--set", "defaultPolicy=deny,identity.issuerSecret=own"]]
        {
            let ours = objects(&mesh.cli(&[&["install"], values].concat()).await);
            let chart = binaries::workspace().join("charts/mesh");
            let template =
                Start::new("helm", mesh::helm()).args(["template", "mesh"]).arg(chart).args(values);
            let template = template.output(SOON).await;
            assert!(template.status.success(), "{}", String::from_utf8_lossy(&template.stderr));
            let helms = objects(&String::from_utf8_lossy(&template.stdout));
            assert!(ours.len() > 10);
            for name in ours.keys().chain(helms.keys()) {
                assert_eq!(ours.get(name), helms.get(name), "{name} with {values:?}");
            }
        }
    });
}

/// Everything on the cluster that speaks of the mesh, but for what this story made.
async fn traces(place: &Place) -> Vec<String> {
    let ours = |item: &Item| {
        let is_named = item.object.name_any().starts_with("mesh-");
        let is_labelled = item.object.labels().keys().any(|key| key.contains("mesh.dev"));
        (is_named || is_labelled) && (item.namespace != place.namespace || item.kind == "ConfigMap")
    };
    everything(place).await.iter().filter(|item| ours(item)).map(Item::name).collect()
}

#[test]
#[ignore = "wants a node: cargo xtask e2e"]
fn it_is_installed_twice_changed_under_load_and_uninstalled_without_a_trace() {
    tell_alone("install", async |place| {
        let mesh = mesh::meshed(place).await;
        let again = mesh.install(&[]).await;
        let told: Vec<&str> =
            again.lines().filter(|line| line.starts_with('√') && !line.contains("ready")).collect();
        assert!(told.len() > 10 && told.iter().all(|line| line.ends_with("unchanged")), "{again}");

        let shop = Shop::open_in(place, mesh, 2).await;
        let mesh = &shop.mesh;
        let upgraded = shop
            .unharmed(200, async {
                let upgrade =
                    [&["upgrade", "--apply"], &mesh::VALUES[..], &["--set", "operator.log=debug"]].concat();
                mesh.cli(&upgrade).await
            })
            .await;
        assert!(upgraded.contains("Deployment mesh-system/mesh-operator changed"), "{upgraded}");
        let operators: Api<Pod> = Api::namespaced(place.client.clone(), names::OPERATOR_NAMESPACE);
        let left = operators.list(&ListParams::default()).await.unwrap().items.len();
        assert_eq!(left, 1, "nobody injects what was said before");

        mesh.cli(&["uninstall", "--apply"]).await;
        let left = traces(place).await;
        assert_eq!(left, [""; 0]);
        // What runs goes on, and what is started anew is plain.
        assert_eq!(shop.status().await, 200);
        place.restart("shop").await;
        assert!(!place.pods("app=shop").await.iter().any(mesh::is_meshed));
        // kube-proxy may send to Pods that are ending for a moment more, and their application died at once.
        wait::until("the plain ones to answer", SOON, async || {
            match place.told_outside(shop.addr, "/").await.status() {
                status if status == 200 => Ok(()),
                status => Err(status),
            }
        })
        .await;

        let start = Instant::now();
        mesh.install(&[]).await;
        println!("installed and ready after {:.1} s", start.elapsed().as_secs_f64());
        wait::until("the first Pod to be meshed", SOON, async || {
            place.restart("shop").await;
            match place.pods("app=shop").await.iter().all(mesh::is_meshed) {
                true => Ok(()),
                false => Err("it is plain"),
            }
        })
        .await;
    });
}
