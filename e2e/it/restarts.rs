//! Whatever is restarted, scaled or drained while requests come: none of them fails.

use crate::telling::{
    app, mesh,
    place::SOON,
    second::Second,
    shop::Shop,
    story::{is_long, tell, tell_alone},
};
use k8s_openapi::api::{apps::v1::Deployment, coordination::v1::Lease, core::v1::Pod};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, EvictParams, ListParams, Patch, PatchParams},
};
use mesh_api::names;
use mesh_tests::wait;
use serde_json::json;

/// How often a story repeats what may go wrong by chance: as often as a release wants it, or once or twice.
fn times(long: usize, short: usize) -> usize {
    if is_long() { long } else { short }
}

#[test]
#[ignore = "wants a node: cargo xtask e2e"]
fn a_server_that_just_dies_is_restarted_pod_by_pod_and_no_request_fails() {
    tell("restarts-rollout", async |place| {
        let shop = Shop::open(place, 2).await;
        for _ in 0..times(20, 2) {
            shop.unharmed(400, place.restart("shop")).await;
        }
    });
}

#[test]
#[ignore = "wants a node: cargo xtask e2e"]
fn a_server_grows_and_shrinks_and_no_request_fails() {
    tell("restarts-scale", async |place| {
        let shop = Shop::open(place, 1).await;
        for _ in 0..times(20, 1) {
            shop.unharmed(200, async {
                place.scale("shop", 5).await;
                place.scale("shop", 1).await;
            })
            .await;
        }
    });
}

#[test]
#[ignore = "wants a node: cargo xtask e2e"]
fn pods_are_evicted_one_by_one_and_no_request_fails() {
    tell("restarts-drain", async |place| {
        let shop = Shop::open(place, 2).await;
        for _ in 0..times(20, 1) {
            shop.unharmed(200, async {
                for pod in place.pods("app=shop").await {
                    let pods = place.api::<Pod>();
                    pods.evict(&pod.name_any(), &EvictParams::default()).await.unwrap();
                    place.gone::<Pod>(&pod.name_any()).await;
                    place.rolled_out("shop").await;
                    // An eviction is no change of the Deployment, whose status may be that from before it; and a Pod that nobody has
                    // been told of cannot stand in for the next one.
                    place.serves("shop", 2).await;
                }
            })
            .await;
        }
    });
}

#[test]
#[ignore = "wants a node: cargo xtask e2e"]
fn a_node_is_drained_and_no_request_fails() {
    tell_alone("restarts-node", async |place| {
        let shop = Shop::open(place, 2).await;
        shop.mesh.install(&["--ha"]).await;
        let second = Second::join(place);
        let node = second.name();
        let servers = place.api::<Deployment>();
        let operators: Api<Deployment> = Api::namespaced(place.client.clone(), names::OPERATOR_NAMESPACE);
        let operator_pods: Api<Pod> = Api::namespaced(place.client.clone(), names::OPERATOR_NAMESPACE);
        servers.patch("shop", &PatchParams::default(), &Patch::Merge(app::spread("shop"))).await.unwrap();
        for _ in 0..times(20, 1) {
            shop.unharmed(200, async {
                place.restart("shop").await;
                operators.restart(names::OPERATOR).await.unwrap();
                place.rolled_out_of(&operators, names::OPERATOR).await;
                assert_eq!(second.holds(&place.pods("app=shop").await), 1);
                let replicas = operator_pods.list(&ListParams::default()).await.unwrap().items;
                assert_ne!(second.holds(&replicas), 0);

                let drain = "--ignore-daemonsets --delete-emptydir-data --timeout 90s";
                shop.mesh.shell(&format!("kubectl drain {node} {drain}")).await;
                place.rolled_out("shop").await;
                place.rolled_out_of(&operators, names::OPERATOR).await;
                assert_eq!(second.holds(&place.pods("app=shop").await), 0);
                shop.mesh.shell(&format!("kubectl uncordon {node}")).await;
            })
            .await;
        }
        drop(second);
        shop.mesh.install(&[]).await;
    });
}

#[test]
#[ignore = "wants a node: cargo xtask e2e"]
fn the_operator_is_rolled_and_its_leader_deleted_and_no_request_fails() {
    tell_alone("restarts-operator", async |place| {
        let shop = Shop::open(place, 2).await;
        shop.mesh.install(&["--ha"]).await;
        let client = place.client.clone();
        let operators: Api<Deployment> = Api::namespaced(client.clone(), names::OPERATOR_NAMESPACE);
        let pods: Api<Pod> = Api::namespaced(client.clone(), names::OPERATOR_NAMESPACE);
        let leases: Api<Lease> = Api::namespaced(client, names::OPERATOR_NAMESPACE);
        // One that was killed holds the Lease until it has run out.
        let holder = async || {
            let lease = leases.get_opt(names::OPERATOR).await.unwrap()?;
            let name = lease.spec?.holder_identity.filter(|holder| !holder.is_empty())?;
            let pod = pods.get_opt(&name).await.unwrap()?;
            pod.metadata.deletion_timestamp.is_none().then_some(name)
        };
        for _ in 0..times(20, 1) {
            let leader = wait::until("a leader", SOON, async || holder().await.ok_or("none")).await;
            shop.unharmed(200, async {
                pods.delete(&leader, &DeleteParams::default()).await.unwrap();
                wait::until("another leader", SOON, async || match holder().await {
                    Some(other) if other != leader => Ok(()),
                    other => Err(format!("{other:?}")),
                })
                .await;
                // Pods are meshed by whoever is there.
                place.restart("shop").await;
                operators.restart(names::OPERATOR).await.unwrap();
                place.rolled_out_of(&operators, names::OPERATOR).await;
            })
            .await;
        }
        for pod in place.pods("app=shop").await {
            assert!(mesh::is_meshed(&pod), "{pod:#?}");
        }
        // One that loses the Lease, as when the API server was away for a while, and lives on: proxies report to the other.
        let leader = wait::until("a leader", SOON, async || holder().await.ok_or("none")).await;
        let replicas = pods.list(&ListParams::default()).await.unwrap().items;
        let stays = |pod: &&Pod| pod.metadata.deletion_timestamp.is_none() && pod.name_any() != leader;
        let other = replicas.iter().find(stays).unwrap().name_any();
        let lease = json!({ "spec": { "holderIdentity": other } });
        leases.patch(names::OPERATOR, &PatchParams::default(), &Patch::Merge(lease)).await.unwrap();
        wait::until("the other to hear of every proxy", SOON, async || {
            let list = shop.mesh.cli(&["identity", "list", "-n", &place.namespace]).await;
            match holder().await.as_ref() == Some(&other)
                && list.contains("client")
                && !list.contains("unknown")
            {
                true => Ok(()),
                false => Err(list),
            }
        })
        .await;
        shop.mesh.install(&[]).await;
        let left = pods.list(&ListParams::default()).await.unwrap();
        assert!(!left.items.is_empty());
    });
}
