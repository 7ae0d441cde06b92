//! The webhook over its own routes: what the API server sends, and what nobody should.

use super::*;
use crate::world::{manifests, parse, stores::Stores};
use axum::body::Body;
use http_body_util::BodyExt;
use mesh_charts::{
    inject::{Cluster, Injection},
    values::Values,
};
use serde_json::{Value, json};
use tower_service::Service;

const WORLD: &str = "
apiVersion: v1
kind: Namespace
metadata: { name: shop, annotations: { mesh.dev/inject: enabled } }
---
apiVersion: v1
kind: Service
metadata: { name: cart, namespace: shop }
spec: { clusterIP: 10.1.0.1, selector: { app: cart }, ports: [{ port: 80 }] }";

async fn post(path: &str, body: impl Into<Body>) -> (StatusCode, Value) {
    let mut stores = Stores::default();
    let read = parse::file("world.yaml", WORLD).unwrap();
    for change in manifests::relist(&read.iter().collect::<Vec<_>>()) {
        stores.apply(&change);
    }
    let injection = Injection::of(&Values::default()).unwrap();
    let injector = Some(Injector { injection, cluster: Cluster { native_sidecars: true } });
    let nothing = Tables::build(&mesh_policy::World::default(), &Settings::default());
    let tables = watch::channel(Arc::new(nothing)).1;
    let (readers, maps) = (stores.readers(), Maps::of(&["shop"]));
    let webhook = Webhook { readers, maps, settings: Settings::default(), tables, injector };
    let request =
        http::Request::post(path).header("content-type", "application/json").body(body.into()).unwrap();
    let response = router(webhook).call(request).await.unwrap();
    let (head, body) = response.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    (head.status, serde_json::from_slice(&body).unwrap_or_default())
}

fn review(group: &str, kind: &str, operation: &str, object: Value) -> String {
    let request = json!({
        "uid": "u1",
        "kind": {"group": group, "version": "v1", "kind": kind},
        "resource": {"group": group, "version": "v1", "resource": "x"},
        "name": "n", "namespace": "shop", "operation": operation, "userInfo": {}, "dryRun": false,
        "object": object, "oldObject": null,
    });
    json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}).to_string()
}

fn route(backend: &str) -> Value {
    json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
        "metadata": {"name": "cart", "namespace": "shop"},
        "spec": {
            "parentRefs": [{"group": "", "kind": "Service", "name": "cart"}],
            "rules": [{"backendRefs": [{"name": backend, "port": 80}]}],
        },
    })
}

async fn validate(group: &str, kind: &str, operation: &str, object: Value) -> Value {
    let (status, answer) = post("/validate", review(group, kind, operation, object)).await;
    assert_eq!((status, &answer["response"]["uid"]), (StatusCode::OK, &"u1".into()));
    // The API server takes no other.
    assert_eq!([&answer["apiVersion"], &answer["kind"]], ["admission.k8s.io/v1", "AdmissionReview"]);
    answer["response"].clone()
}

const GATEWAY: &str = "gateway.networking.k8s.io";

#[tokio::test]
async fn an_odd_route_is_let_in_with_a_warning() {
    let fine = validate(GATEWAY, "HTTPRoute", "CREATE", route("cart")).await;
    assert_eq!((&fine["allowed"], &fine["warnings"]), (&true.into(), &Value::Null));
    let odd = validate(GATEWAY, "HTTPRoute", "UPDATE", route("nowhere")).await;
    assert_eq!(odd["allowed"], true);
    assert!(odd["warnings"][0].as_str().unwrap().contains("nowhere"), "{odd}");
    let mut some = route("cart");
    some["spec"]["rules"][0]["matches"] = json!([{"path": {"value": "/only"}}]);
    let some = validate(GATEWAY, "HTTPRoute", "CREATE", some).await;
    assert!(some["warnings"][0].as_str().unwrap().contains("no rule matches"), "{some}");
    let broken =
        validate(GATEWAY, "HTTPRoute", "CREATE", json!({"metadata": {}, "spec": {"rules": 7}})).await;
    assert_eq!(broken["allowed"], true);
    assert!(broken["warnings"][0].as_str().unwrap().contains("cannot be read"), "{broken}");
    let gone = validate(GATEWAY, "HTTPRoute", "DELETE", Value::Null).await;
    assert_eq!((&gone["allowed"], &gone["warnings"]), (&true.into(), &Value::Null));
}

#[tokio::test]
async fn a_policy_that_cannot_be_read_is_refused() {
    let policy = |spec: Value| {
        json!({
            "apiVersion": "mesh.dev/v1alpha1", "kind": "AuthorizationPolicy",
            "metadata": {"name": "p", "namespace": "shop"}, "spec": spec,
        })
    };
    let good = json!({"targetRefs": [{"kind": "Service", "name": "cart"}], "rules": []});
    assert_eq!(validate("mesh.dev", "AuthorizationPolicy", "CREATE", policy(good)).await["allowed"], true);
    let bad = validate("mesh.dev", "AuthorizationPolicy", "CREATE", policy(json!({"rulez": []}))).await;
    assert_eq!(bad["allowed"], false);
    assert!(bad["status"]["message"].as_str().unwrap().contains("rulez"), "{bad}");
    let source = json!({"rules": [{"from": [{"network": {"cidr": "10.0.0.0/99"}}]}], "selector": {}});
    let bad = validate("mesh.dev", "AuthorizationPolicy", "UPDATE", policy(source)).await;
    assert_eq!(bad["allowed"], false, "no cluster could make sense of it");
    assert!(bad["status"]["message"].as_str().unwrap().contains("\"10.0.0.0/99\" is no network"), "{bad}");
    let source = json!({"rules": [{"from": [{"identity": {"name": ""}}]}], "selector": {}});
    let bad = validate("mesh.dev", "AuthorizationPolicy", "UPDATE", policy(source)).await;
    assert!(bad["status"]["message"].as_str().unwrap().contains("\"\" is no identity"), "{bad}");
}

#[tokio::test]
async fn a_new_pod_gets_a_proxy_as_its_namespace_says_and_its_own_word_counts_more() {
    let pod = |annotations: Value| {
        json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"generateName": "web-", "annotations": annotations},
            "spec": {"containers": [{"name": "app", "image": "web:1"}]},
        })
    };
    let (_, answer) = post("/inject/namespace", review("", "Pod", "CREATE", pod(json!({})))).await;
    assert_eq!(answer["response"]["allowed"], true);
    // kube writes the bytes as numbers, which the API server reads as well as base64.
    let patch: Vec<u8> = serde_json::from_value(answer["response"]["patch"].clone()).unwrap();
    let patch = String::from_utf8(patch).unwrap();
    assert!(patch.contains("mesh-proxy") && patch.contains("/spec/initContainers"), "{patch}");
    let disabled = pod(json!({"mesh.dev/inject": "disabled"}));
    let (_, answer) = post("/inject/namespace", review("", "Pod", "CREATE", disabled)).await;
    assert_eq!((&answer["response"]["allowed"], &answer["response"]["patch"]), (&true.into(), &Value::Null));
}

#[tokio::test]
async fn a_namespace_is_labelled_while_it_is_written() {
    let namespace = |value: &str| json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "n", "annotations": {"mesh.dev/inject": value}}});
    let (_, answer) = post("/label", review("", "Namespace", "CREATE", namespace("enabled"))).await;
    let patch: Vec<u8> = serde_json::from_value(answer["response"]["patch"].clone()).unwrap();
    assert!(String::from_utf8(patch).unwrap().contains("mesh.dev/inject-webhook"));
    assert_eq!(answer["response"]["warnings"], Value::Null);
    let mut strict = namespace("enabled");
    strict["metadata"]["labels"] = json!({"pod-security.kubernetes.io/enforce": "restricted"});
    let (_, answer) = post("/label", review("", "Namespace", "UPDATE", strict)).await;
    let warning = answer["response"]["warnings"][0].as_str().unwrap();
    assert!(warning.contains("restricted refuses") && warning.len() < 256, "{warning}");
    let (_, answer) = post("/label", review("", "Namespace", "UPDATE", namespace("disabled"))).await;
    assert_eq!((&answer["response"]["allowed"], &answer["response"]["patch"]), (&true.into(), &Value::Null));
}

/// Row C-06 of what attackers send: refused or let through unchanged, and never a panic.
#[tokio::test]
async fn garbage_is_refused_or_changes_nothing() {
    for body in ["", "aaaaaa", "null", "[]", "{}", r#"{"request":{}}"#, r#"{"request":{"uid":1}}"#] {
        for path in ["/inject/namespace", "/label", "/validate"] {
            let (status, _) = post(path, body).await;
            assert!(status.is_client_error(), "{path} {body}: {status}");
        }
    }
    let large = vec![b' '; room::MAX_BYTES + 1];
    assert_eq!(post("/inject/namespace", large).await.0, StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(post("/other", "{}").await.0, StatusCode::NOT_FOUND);
    for (kind, object) in [("Pod", Value::Null), ("Pod", json!({"spec": 7})), ("Service", json!({}))] {
        let (status, answer) = post("/inject/namespace", review("", kind, "CREATE", object)).await;
        let answer = &answer["response"];
        assert_eq!(
            (status, &answer["allowed"], &answer["patch"]),
            (StatusCode::OK, &true.into(), &Value::Null)
        );
    }
}
