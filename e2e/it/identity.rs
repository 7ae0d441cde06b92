//! Who gets a certificate, and that certificates come and go without anybody noticing.

use crate::telling::{
    app,
    mesh::{self, Mesh},
    place::{Place, SOON},
    shop::Shop,
    story::{tell, tell_alone},
};
use k8s_openapi::api::{
    authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec},
    core::v1::{ConfigMap, Pod, Service, ServiceAccount},
};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, PostParams},
};
use mesh_api::names;
use mesh_tests::{pki, scripted_proxy::ScriptedProxy, wait};
use std::{net::SocketAddr, time::Duration};
use tokio::time;

/// A proxy of a Pod of this namespace, with this certificate, or none yet.
async fn proxy(place: &Place, pod: &Pod, leaf: Option<pki::Leaf>) -> ScriptedProxy {
    let map = place.api::<ConfigMap>().get(names::TRUST_ANCHORS_CONFIG_MAP).await.unwrap();
    let anchors = pki::anchors(&map.data.unwrap()[names::TRUST_ANCHORS_KEY]);
    let services: Api<Service> = Api::namespaced(place.client.clone(), names::OPERATOR_NAMESPACE);
    let ip = services.get(names::OPERATOR).await.unwrap().spec.unwrap().cluster_ip.unwrap();
    let operator = SocketAddr::new(ip.parse().unwrap(), names::OPERATOR_GRPC_PORT);
    let name = identity(names::OPERATOR_NAMESPACE, names::OPERATOR);
    let workload = format!(r#"{{"ns":"{}","pod":"{}"}}"#, place.namespace, pod.name_any());
    ScriptedProxy::secured(operator, pki::client(anchors, leaf, &[b"h2"]), &name, &workload).await
}

fn identity(namespace: &str, account: &str) -> String {
    format!("{account}.{namespace}.serviceaccount.identity.{}.cluster.local", names::OPERATOR_NAMESPACE)
}

/// A token of the Pod's service account, as kubelet asks for it.
async fn token(place: &Place, pod: &Pod, audience: &str) -> Vec<u8> {
    let bound = BoundObjectReference {
        api_version: Some("v1".into()),
        kind: Some("Pod".into()),
        name: Some(pod.name_any()),
        uid: pod.uid(),
    };
    let spec = TokenRequestSpec {
        audiences: vec![audience.into()],
        bound_object_ref: Some(bound),
        expiration_seconds: Some(600),
    };
    let request = TokenRequest { spec, ..Default::default() };
    let accounts = place.api::<ServiceAccount>();
    let made = accounts.create_token_request("default", &PostParams::default(), &request).await.unwrap();
    made.status.unwrap().token.into_bytes()
}

#[test]
#[ignore = "wants a node: cargo xtask e2e"]
fn a_certificate_is_for_the_pod_whose_token_it_is_and_for_nobody_else() {
    tell("identity", async |place| {
        let _mesh = mesh::meshed(place).await;
        for pod in ["one", "other"] {
            place.apply(&app::client(pod)).await;
        }
        let (one, other) = (place.running("one").await, place.running("other").await);
        let proxy = proxy(place, &one, None).await;
        let own = identity(&place.namespace, "default");
        let (_, request) = pki::request(&[&own]);

        let good = token(place, &one, names::TOKEN_AUDIENCE).await;
        let issued = proxy.certify(&own, &good, &request).await.unwrap();
        assert!(!issued.leaf_certificate.is_empty());

        let refused = async |what: &str, name: &str, token: &[u8], request: &[u8], why: &str| {
            let status = proxy.certify(name, token, request).await.unwrap_err();
            assert!(status.message().contains(why), "{what}: {status:?}");
        };
        let audience = token(place, &one, "https://kubernetes.default.svc.cluster.local").await;
        refused("another audience", &own, &audience, &request, "audience").await;
        refused("no token", &own, b"eyJhbGciOiJub25lIn0.e30.", &request, "token").await;
        let theirs = identity(&place.namespace, "somebody");
        let (_, for_them) = pki::request(&[&theirs]);
        refused("another's name", &theirs, &good, &for_them, "identity").await;
        refused("another's name in the request", &own, &good, &for_them, "name").await;
        let others = token(place, &other, names::TOKEN_AUDIENCE).await;
        refused("a request that was seen", &own, &others, &request, "another Pod").await;

        let at_once = DeleteParams::default().grace_period(0);
        place.api::<Pod>().delete(&one.name_any(), &at_once).await.unwrap();
        // The API server believes a token for some seconds after it has looked at it.
        wait::until("the token of a Pod that is gone to be refused", SOON, async || {
            match proxy.certify(&own, &good, &request).await {
                Err(status) if status.message().contains("invalidated") => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await;
    });
}

#[test]
#[ignore = "wants a node: cargo xtask e2e"]
fn a_proxy_reports_for_pods_of_its_service_account_and_for_no_others() {
    tell("identity-reports", async |place| {
        let _mesh = mesh::meshed(place).await;
        place.apply("apiVersion: v1\nkind: ServiceAccount\nmetadata: { name: other }").await;
        place.apply(&app::client("one")).await;
        place.apply(&app::client("other").replace("spec:\n", "spec:\n  serviceAccountName: other\n")).await;
        let one = place.running("one").await;
        place.running("other").await;

        let own = identity(&place.namespace, "default");
        let (key, request) = pki::request(&[&own]);
        let token = token(place, &one, names::TOKEN_AUDIENCE).await;
        let issued = proxy(place, &one, None).await.certify(&own, &token, &request).await.unwrap();
        let leaf = pki::Leaf::issued(issued.leaf_certificate, issued.intermediate_certificates, &key);
        let proxy = proxy(place, &one, Some(leaf)).await;
        let refused = async |pod: &str| {
            let refused = proxy.report(&place.namespace, pod).await.unwrap();
            (refused.rejected_data_points, refused.error_message)
        };
        assert_eq!(refused("one").await, (0, String::new()));
        let (points, why) = refused("other").await;
        assert!(
            points == 1 && why.contains("Pod identity-reports/other, which is another's"),
            "{points} {why}"
        );
    });
}

#[test]
#[ignore = "wants a node: cargo xtask e2e"]
fn leaf_certificates_are_renewed_under_load_and_no_request_fails() {
    tell_alone("identity-leaf", async |place| {
        let mesh: Mesh = mesh::meshed(place).await;
        mesh.install(&["--set", "identity.leafLifetime=10s"]).await;
        let shop = Shop::open_in(place, mesh, 2).await;
        // Three lives of a certificate.
        let lives = time::sleep(Duration::from_secs(30));
        shop.unharmed(100, lives).await;
        // That of the webhook is as short.
        place.restart("shop").await;
        assert!(place.pods("app=shop").await.iter().all(mesh::is_meshed));
        shop.mesh.install(&[]).await;
    });
}

#[test]
#[ignore = "wants a node: cargo xtask e2e"]
fn root_and_issuer_are_replaced_under_load_without_a_restart() {
    tell_alone("identity-root", async |place| {
        let shop = Shop::open(place, 2).await;
        let anchors = async || {
            let map = place.api::<ConfigMap>().get(names::TRUST_ANCHORS_CONFIG_MAP).await.unwrap();
            map.data.unwrap().remove(names::TRUST_ANCHORS_KEY).unwrap()
        };
        let before = anchors().await;
        let told = shop.unharmed(100, shop.mesh.cli(&["identity", "rotate"])).await;
        println!("{told}");

        let after = anchors().await;
        let count = |pem: &str| pem.matches("BEGIN CERTIFICATE").count();
        assert_eq!((count(&before), count(&after)), (1, 1));
        assert_ne!(before, after, "the root is another one, and the old one is trusted no more");
        for pod in place.pods("").await {
            let status = pod.status.unwrap();
            let all = status.container_statuses.iter().chain(&status.init_container_statuses).flatten();
            assert!(all.clone().all(|container| container.restart_count == 0), "{all:?}");
        }
        // What is new gets a certificate of the new one, and is believed.
        place.restart("shop").await;
        assert_eq!(shop.status().await, 200);
    });
}

/// What cert-manager writes of an issuer below a root.
fn issuer(root: &pki::Ca, name: &str) -> String {
    let (certificate, key) = root.intermediate(name);
    let data = serde_json::json!({ "tls.crt": certificate, "tls.key": key, "ca.crt": root.pem() });
    let metadata = serde_json::json!({ "name": "own", "namespace": names::OPERATOR_NAMESPACE });
    let secret = serde_json::json!({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls", "metadata": metadata, "stringData": data,
    });
    secret.to_string()
}

#[test]
#[ignore = "wants a node: cargo xtask e2e"]
fn an_issuer_of_somebody_elses_signs_and_so_does_its_successor() {
    tell_alone("identity-own", async |place| {
        let mesh = mesh::mesh(place).await;
        mesh.cli(&["uninstall", "--apply"]).await;
        // Its namespace comes first, then the Secret, then the mesh.
        mesh.shell(&format!("kubectl create namespace {}", names::OPERATOR_NAMESPACE)).await;
        let root = pki::Ca::new("somebody's root");
        place.apply(&issuer(&root, "first issuer")).await;
        mesh.install(&["--set", "identity.issuerSecret=own,identity.leafLifetime=10s"]).await;

        let shop = Shop::open(place, 2).await;
        let anchors = place.api::<ConfigMap>().get(names::TRUST_ANCHORS_CONFIG_MAP).await.unwrap();
        assert_eq!(anchors.data.unwrap()[names::TRUST_ANCHORS_KEY].trim(), root.pem().trim());
        let signed_by = async |name: &str| {
            wait::until(name, SOON, async || {
                let shown = shop.mesh.cli(&["identity", "show", "identity-own/client"]).await;
                if shown.contains(name) { Ok(()) } else { Err(shown) }
            })
            .await;
        };
        signed_by("first issuer").await;
        shop.unharmed(100, async {
            place.apply(&issuer(&root, "second issuer")).await;
            signed_by("second issuer").await;
        })
        .await;
        place.restart("shop").await;
        assert_eq!(shop.status().await, 200);

        shop.mesh.cli(&["uninstall", "--apply"]).await;
        shop.mesh.shell(&format!("kubectl delete namespace {}", names::OPERATOR_NAMESPACE)).await;
    });
}
