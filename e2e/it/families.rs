//! A cluster whose Pods and Services have addresses of both families.

use crate::telling::{
    app, mesh,
    place::{Place, SOON},
    story::tell,
};
use mesh_api::names;
use mesh_tests::{client, wait};
use serde_json::{Value, json};

#[test]
#[ignore = "wants a node: cargo xtask e2e"]
fn a_service_of_ipv6_alone_is_called_over_mutual_tls() {
    tell("families", async |place: &Place| {
        let _mesh = mesh::meshed(place).await;
        place.annotate(&json!({ names::DEFAULT_POLICY: "mesh-only" })).await;
        place
            .apply(&app::client("shop").replace("args: [serve]", "args: [serve, --listen, '[::]:8080']"))
            .await;
        place.apply(&app::service("shop").replace("spec:\n", "spec:\n  ipFamilies: [IPv6]\n")).await;
        place.apply(&app::client("client")).await;
        place.running("shop").await;
        let inside = place.inside(&place.running("client").await).await;
        let shop = place.service("shop", 80).await;
        assert!(shop.is_ipv6(), "{shop}");
        let said = wait::until("the Service to answer", SOON, async || {
            let reply = inside.run(async move || client::get(shop, "/").await).await;
            let reply = reply.map_err(|error| format!("{error:#}"))?;
            serde_json::from_slice::<Value>(reply.body())
                .map_err(|error| format!("{}: {error}", reply.status()))
        })
        .await;
        let caller = "default.families.serviceaccount.identity.mesh-system.cluster.local";
        assert_eq!(said["headers"]["l5d-client-id"][0], caller, "{said}");
        let refused = place.told_outside(shop, "/asked").await;
        assert_eq!(refused.status(), 403, "{:?}", refused.headers());
    });
}
