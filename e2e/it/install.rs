//! From nothing to a mesh, the same again, another one, and back to nothing.

use crate::telling::{
    mesh::{self, Mesh},
    place::{Place, SOON},
    shop::Shop,
    story::{tell, tell_alone},
};
use kube::{
    Api, ResourceExt,
    api::{DynamicObject, ListParams},
    discovery::{Discovery, Scope, verbs},
};
use mesh_tests::{binaries, process::Start, wait};
use serde_json::Value;
use std::{collections::BTreeMap, env, time::Instant};

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
        let helm = env::var("MESH_E2E_HELM").expect("MESH_E2E_HELM names the Helm to try");
        for values in
            [&[][..], &["--set", "ha=true"], &["--set", "defaultPolicy=deny,identity.issuerSecret=own"]]
        {
            let ours = objects(&mesh.cli(&[&["install"], values].concat()).await);
            let chart = binaries::workspace().join("charts/mesh");
            let template = Start::new("helm", &helm).args(["template", "mesh"]).arg(chart).args(values);
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

/// Everything on the cluster that speaks of the mesh, but for what stories made.
async fn traces(place: &Place) -> Vec<String> {
    let discovery = Discovery::new(place.client.clone()).run().await.unwrap();
    let mut found = vec![];
    for group in discovery.groups() {
        for (resource, capabilities) in group.recommended_resources() {
            // Events tell of what was.
            if !capabilities.supports_operation(verbs::LIST) || resource.kind == "Event" {
                continue;
            }
            let api: Api<DynamicObject> = Api::all_with(place.client.clone(), &resource);
            for object in api.list(&ListParams::default()).await.unwrap() {
                let name = object.name_any();
                let namespace = match capabilities.scope {
                    Scope::Namespaced => object.namespace().unwrap_or_default(),
                    Scope::Cluster if resource.kind == "Namespace" => name.clone(),
                    Scope::Cluster => String::new(),
                };
                let ours =
                    name.starts_with("mesh-") || object.labels().keys().any(|key| key.contains("mesh.dev"));
                let is_storys = namespace == place.namespace && resource.kind != "ConfigMap";
                let is_left_by_stories = object.metadata.deletion_timestamp.is_some();
                if ours && !is_storys && !is_left_by_stories {
                    found.push(format!("{} {namespace}/{name}", resource.kind));
                }
            }
        }
    }
    found
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

        mesh.cli(&["uninstall", "--apply"]).await;
        let left = traces(place).await;
        assert_eq!(left, [""; 0]);
        // What runs goes on, and what is started anew is plain.
        assert_eq!(shop.status().await, 200);
        place.restart("shop").await;
        assert!(!place.pods("app=shop").await.iter().any(mesh::is_meshed));
        assert_eq!(place.told_outside(shop.addr, "/").await.status(), 200);

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
