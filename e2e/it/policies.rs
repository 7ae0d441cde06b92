//! What the API server says of our kinds and of routes: status, and warnings at once.

use crate::telling::{
    mesh,
    place::{Place, SOON},
    shop::Shop,
    story::tell,
};
use kube::{Api, api::DynamicObject, core::GroupVersionKind, discovery::oneshot};
use mesh_tests::wait;

const ONLY_CLIENT: &str = "
apiVersion: mesh.dev/v1alpha1
kind: AuthorizationPolicy
metadata: { name: shop }
spec:
  targetRefs: [{ group: '', kind: Service, name: shop }]
  rules: [{ from: [{ serviceAccount: { name: nobody } }] }]
";

async fn policy(place: &Place, name: &str) -> DynamicObject {
    let kind = GroupVersionKind::gvk("mesh.dev", "v1alpha1", "AuthorizationPolicy");
    let (resource, _) = oneshot::pinned_kind(&place.client, &kind).await.unwrap();
    let policies: Api<DynamicObject> =
        Api::namespaced_with(place.client.clone(), &place.namespace, &resource);
    policies.get(name).await.unwrap()
}

#[test]
#[ignore = "wants a node: cargo xtask e2e"]
fn a_policy_says_when_it_is_in_force_and_is_in_force_then() {
    tell("policies-status", async |place| {
        let shop = Shop::open(place, 1).await;
        assert_eq!(shop.status().await, 200);
        place.apply(ONLY_CLIENT).await;
        let accepted = wait::until("the policy to be accepted", SOON, async || {
            let policy = policy(place, "shop").await;
            let conditions = policy.data["status"]["conditions"].as_array().cloned().unwrap_or_default();
            let of_now = |condition: &&serde_json::Value| {
                condition["type"] == "Accepted"
                    && condition["observedGeneration"].as_i64() == policy.metadata.generation
            };
            conditions.iter().find(of_now).cloned().ok_or_else(|| format!("{:?}", policy.data["status"]))
        })
        .await;
        assert_eq!(accepted["status"], "True", "{accepted}");
        wait::until("it to be refused", SOON, async || match shop.status().await {
            status if status == 403 => Ok(()),
            status => Err(status),
        })
        .await;
        let told = shop.mesh.cli(&["authz", "policies-status/shop"]).await;
        assert!(told.contains("policies-status/shop"), "{told}");
    });
}

#[test]
#[ignore = "wants a node: cargo xtask e2e"]
fn what_is_wrong_is_refused_and_what_is_odd_is_warned_of_when_it_is_applied() {
    tell("policies-warnings", async |place| {
        let mesh = mesh::mesh(place).await;
        mesh.gateway_api().await;
        let apply = async |yaml: &str| {
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), yaml).unwrap();
            let line =
                format!("kubectl apply -n {} -f {} 2>&1 || true", place.namespace, file.path().display());
            mesh.shell(&line).await
        };
        let odd = apply(
            "
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: { name: odd }
spec:
  parentRefs: [{ group: '', kind: Service, name: nowhere, port: 80 }]
  rules: [{ backendRefs: [{ name: nowhere, port: 80 }] }]
",
        )
        .await;
        assert!(odd.contains("Warning:") && odd.contains("nowhere") && odd.contains("created"), "{odd}");
        let wrong = apply(&ONLY_CLIENT.replace("name: nobody", "names: nobody")).await;
        assert!(wrong.contains("names") && !wrong.contains("created"), "{wrong}");
        let contradicts =
            apply(&ONLY_CLIENT.replace("serviceAccount: { name: nobody }", "network: { cidr: 10.0.0.0/99 }"))
                .await;
        assert!(contradicts.contains("10.0.0.0/99") && !contradicts.contains("created"), "{contradicts}");
    });
}
