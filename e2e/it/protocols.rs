//! Which ports are read as HTTP and which are forwarded unread, as Services and Pods say it. What is read says who asks.

use crate::telling::{
    app::{self, IMAGE},
    inside::Inside,
    mesh,
    place::{Place, SOON},
    story::tell,
};
use mesh_api::names;
use mesh_tests::{client, wait};
use serde_json::{Value, json};

/// A server on a port that is opaque unless something else is said.
fn server(name: &str, on_pod: &str, on_service: &str, port: &str) -> String {
    format!(
        "
apiVersion: v1
kind: Pod
metadata: {{ name: {name}, labels: {{ app: {name} }}, annotations: {{ {on_pod} }} }}
spec:
  terminationGracePeriodSeconds: 1
  containers: [{{ name: app, image: {IMAGE}, args: [serve, --listen, '0.0.0.0:6379'], ports: [{{ containerPort: 6379 }}] }}]
---
apiVersion: v1
kind: Service
metadata: {{ name: {name}, annotations: {{ {on_service} }} }}
spec:
  selector: {{ app: {name} }}
  ports: [{{ port: 6379, {port} }}]
"
    )
}

/// Whom the server was told that the client is, once it answers.
async fn client_id(place: &Place, inside: &Inside, server: &str) -> Value {
    let addr = place.service(server, 6379).await;
    wait::until(&format!("{server} to answer"), SOON, async || {
        let get = inside.run(async move || client::get(addr, "/").await).await;
        let reply = get.map_err(|error| format!("{error:#}"))?;
        let said: Value = serde_json::from_slice(reply.body()).map_err(|error| error.to_string())?;
        Ok::<_, String>(said["headers"]["l5d-client-id"][0].clone())
    })
    .await
}

#[test]
#[ignore = "wants a node: cargo xtask e2e"]
fn a_port_that_is_opaque_by_default_is_read_where_its_service_or_an_empty_list_says_so() {
    tell("protocols", async |place| {
        let mesh = mesh::meshed(place).await;
        // Whoever came around the mesh would be refused.
        place.annotate(&json!({ names::DEFAULT_POLICY: "mesh-only" })).await;
        let empty = r#"mesh.dev/opaque-ports: """#;
        place.apply(&server("silent", "", "", "")).await;
        place.apply(&server("http", "", "", "appProtocol: http")).await;
        place.apply(&server("service", "", empty, "")).await;
        place.apply(&server("pod", empty, "", "")).await;
        place
            .apply(&server(
                "both",
                "mesh.dev/opaque-ports: '6379'",
                "mesh.dev/opaque-ports: '6379'",
                "appProtocol: http",
            ))
            .await;
        place.apply(&app::client("client")).await;
        for server in ["silent", "http", "service", "pod", "both"] {
            place.running(server).await;
        }
        let inside = place.inside(&place.running("client").await).await;

        let client = json!("default.protocols.serviceaccount.identity.mesh-system.cluster.local");
        for (server, told) in
            [("silent", &Value::Null), ("http", &client), ("service", &client), ("both", &Value::Null)]
        {
            assert_eq!(client_id(place, &inside, server).await, *told, "{server}");
        }
        // The Pod's list is for its own proxy only: clients go by the Service, and that is told.
        client_id(place, &inside, "pod").await;
        let found = mesh.findings().await;
        let half = "Service protocols/pod port 6379: Pod protocols/pod reads it, clients forward it unread";
        assert!(found.contains(half) && found.matches("clients forward it unread").count() == 1, "{found}");
    });
}

/// A port that bypasses its proxy knows no policy and no identity, whoever calls.
#[test]
#[ignore = "wants a node: cargo xtask e2e"]
fn a_port_that_bypasses_its_proxy_is_reached_as_without_a_mesh() {
    tell("skipped", async |place| {
        let _mesh = mesh::meshed(place).await;
        let denied = "mesh.dev/default-policy: deny, mesh.dev/skip-inbound-ports: '6379'";
        place.apply(&server("skipped", denied, "", "appProtocol: http")).await;
        place.apply(&server("denied", "mesh.dev/default-policy: deny", "", "appProtocol: http")).await;
        place.apply(&app::client("client")).await;
        place.running("skipped").await;
        place.running("denied").await;
        let inside = place.inside(&place.running("client").await).await;

        assert_eq!(client_id(place, &inside, "skipped").await, Value::Null);
        let addr = place.service("denied", 6379).await;
        let refused = inside.run(async move || client::get(addr, "/").await).await.unwrap();
        assert_eq!(refused.status(), 403);
    });
}
