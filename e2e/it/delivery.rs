//! Progressive delivery by hand: a standard HTTPRoute's weights under load.

use crate::telling::{
    app, load,
    mesh::{self, Mesh},
    place::{Place, SOON},
    story::tell,
};
use kube::{Api, api::DynamicObject, core::GroupVersionKind, discovery::oneshot};
use mesh_tests::{
    client,
    load::{Outcome, failures},
    wait,
};

fn route(old: u32, new: u32) -> String {
    format!(
        "
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{ name: shop }}
spec:
  parentRefs:
  - {{ group: '', kind: Service, name: shop, port: 80 }}
  rules:
  - backendRefs:
    - {{ name: shop-old, port: 80, weight: {old} }}
    - {{ name: shop-new, port: 80, weight: {new} }}
"
    )
}

/// Waits until the route's status speaks of its newest generation, and says that it is in force.
async fn accepted(place: &Place) {
    let kind = GroupVersionKind::gvk("gateway.networking.k8s.io", "v1", "HTTPRoute");
    let (resource, _) = oneshot::pinned_kind(&place.client, &kind).await.unwrap();
    let routes: Api<DynamicObject> = Api::namespaced_with(place.client.clone(), &place.namespace, &resource);
    wait::until("the route to be accepted", SOON, async || {
        let route = routes.get("shop").await.unwrap();
        let generation = route.metadata.generation;
        let parents = route.data["status"]["parents"].as_array().cloned().unwrap_or_default();
        let [parent] = parents.as_slice() else { return Err(format!("{parents:?}")) };
        assert_eq!(parent["parentRef"], route.data["spec"]["parentRefs"][0], "as it was written");
        let conditions = parent["conditions"].as_array().unwrap();
        let holds = |kind: &str| {
            conditions.iter().any(|condition| {
                condition["type"] == kind
                    && condition["status"] == "True"
                    && condition["observedGeneration"].as_i64() == generation
            })
        };
        if holds("Accepted") && holds("ResolvedRefs") { Ok(()) } else { Err(format!("{conditions:?}")) }
    })
    .await;
}

/// Which of the two versions answered, of those that were asked after a moment.
fn shares(outcomes: &[Outcome], after: usize) -> (usize, usize) {
    let by = outcomes[after..].iter().map(|outcome| {
        let said: serde_json::Value = serde_json::from_slice(&outcome.reply.as_ref().unwrap().body).unwrap();
        said["by"].as_str().unwrap().starts_with("shop-new")
    });
    let new = by.filter(|new| *new).count();
    (outcomes.len() - after - new, new)
}

#[test]
#[ignore = "wants a node: cargo xtask e2e"]
fn weights_move_traffic_to_a_new_version_and_no_request_fails() {
    tell("delivery", async |place| {
        let mesh: Mesh = mesh::meshed(place).await;
        mesh.gateway_api().await;
        for server in ["shop-old", "shop-new"] {
            place.apply(&app::server(server, 2)).await;
        }
        place.apply(&app::service("shop")).await;
        place.apply(&app::client("client")).await;
        place.apply(&route(100, 0)).await;
        for server in ["shop-old", "shop-new"] {
            place.rolled_out(server).await;
        }
        let client = place.running("client").await;
        accepted(place).await;
        let shop = place.service("shop", 80).await;
        let inside = place.inside(&client).await;

        let ask = || client::to("http://shop/");
        let (outcomes, ()) = load::during(&inside, shop, 200, ask, async {
            for (old, new) in [(50, 50), (0, 100)] {
                place.apply(&route(old, new)).await;
                accepted(place).await;
            }
        })
        .await;
        assert_eq!(failures(&outcomes), []);
        assert_eq!(shares(&outcomes[..1], 0), (1, 0), "all of it went to the old version at first");

        // What is asked when all is accepted goes to the new one.
        let (outcomes, ()) = load::during(&inside, shop, 200, ask, async {}).await;
        assert_eq!(failures(&outcomes), []);
        let (old, new) = shares(&outcomes, 0);
        assert!(old == 0 && new > 100, "old {old}, new {new}");

        place.apply(&route(50, 50)).await;
        accepted(place).await;
        let (outcomes, ()) = load::during(&inside, shop, 200, ask, async {}).await;
        assert_eq!(failures(&outcomes), []);
        let (old, new) = shares(&outcomes, 0);
        assert!(old > 50 && new > 50, "old {old}, new {new}");
    });
}
