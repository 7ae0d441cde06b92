//! Kubelet has no certificate. Its probes pass where policy lets nobody in, and nothing else passes by their way.

use crate::telling::{
    app::{self, IMAGE},
    mesh,
    place::{Place, SOON},
    story::{tell, tell_alone},
};
use http::{Method, Request};
use k8s_openapi::api::core::v1::Pod;
use mesh_api::names;
use mesh_tests::{
    client::{self, Body, Conn, Reply},
    grpc::framed,
    peer, pki, wait,
};
use serde_json::json;
use std::net::SocketAddr;

/// A server that is probed so.
fn server(name: &str, port: u16, flags: &str, probe: &str) -> String {
    format!(
        "
apiVersion: v1
kind: Pod
metadata: {{ name: {name} }}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: app
    image: {IMAGE}
    args: [serve, --listen, '0.0.0.0:{port}'{flags}]
    ports: [{{ containerPort: {port} }}]
    readinessProbe: {{ {probe}, periodSeconds: 1 }}
"
    )
}

fn addr(pod: &Pod, port: u16) -> SocketAddr {
    let ip = pod.status.as_ref().unwrap().pod_ip.as_ref().unwrap();
    SocketAddr::new(ip.parse().unwrap(), port)
}

fn request(method: Method, path: &str) -> Request<Body> {
    let mut request = client::to(&format!("http://server{path}"));
    *request.method_mut() = method;
    request
}

/// A call with an empty message.
fn call(path: &str) -> Request<Body> {
    let mut request = request(Method::POST, path);
    request.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
    *request.body_mut() = client::body(framed(b""));
    request
}

async fn send(to: SocketAddr, request: Request<Body>) -> Reply {
    let is_grpc = request.headers().contains_key("content-type");
    let conn = if is_grpc { Conn::http2(to).await } else { Conn::http1(to).await };
    conn.unwrap().send(request).await.unwrap()
}

/// Whether the application has answered, or else policy.
fn is_answered(reply: &Reply) -> bool {
    const PERMISSION_DENIED: &str = "7";
    match reply.status.as_u16() {
        200 => reply.header("grpc-status") != PERMISSION_DENIED,
        403 => false,
        _ => panic!("{reply:?}"),
    }
}

#[test]
#[ignore = "wants a node: cargo xtask e2e"]
fn a_pod_that_nobody_may_call_is_ready_and_answers_what_its_probe_asks_and_nothing_else() {
    tell("probes", async |place| {
        let _mesh = mesh::meshed(place).await;
        place.annotate(&json!({ names::DEFAULT_POLICY: "deny" })).await;
        let probes = [
            ("http", "httpGet: { path: /well, port: 8080 }"),
            ("grpc", "grpc: { port: 8080 }"),
            ("tcp", "tcpSocket: { port: 8080 }"),
            ("exec", "exec: { command: [/mesh-e2e-app, get, 'http://127.0.0.1:8080/'] }"),
        ];
        for (name, probe) in probes {
            place.apply(&server(name, 8080, "", probe)).await;
        }
        for (name, _) in probes {
            let pod = place.running(name).await;
            assert!(mesh::is_meshed(&pod), "{name}");
            for (asked_by, request) in [
                ("http", request(Method::GET, "/well")),
                ("nobody", request(Method::POST, "/well")),
                ("nobody", request(Method::GET, "/")),
                ("grpc", call("/grpc.health.v1.Health/Check")),
                ("nobody", call("/grpc.health.v1.Health/Watch")),
                ("nobody", request(Method::GET, "/grpc.health.v1.Health/Check")),
            ] {
                let what = format!("{name}: {} {}", request.method(), request.uri().path());
                let reply = send(addr(&pod, 8080), request).await;
                assert_eq!(is_answered(&reply), name == asked_by, "{what}: {reply:?}");
            }
        }
    });
}

/// Whom a Pod's proxy has refused before it read a request.
async fn refused(place: &Place, pod: &str) -> String {
    let pod = place
        .until("its proxy to run", place.api::<Pod>(), pod, |pod| {
            let status = pod.and_then(|pod| pod.status.as_ref());
            let proxies = status.and_then(|status| status.init_container_statuses.as_deref());
            let mut proxies = proxies.unwrap_or_default().iter();
            proxies.any(|proxy| proxy.name == names::PROXY_CONTAINER && proxy.started == Some(true))
        })
        .await
        .unwrap();
    let inside = place.inside(&pod).await;
    wait::until("somebody to be refused", SOON, async || {
        let admin = SocketAddr::from(([127, 0, 0, 1], names::ADMIN_PORT));
        let page = inside.run(async move || client::get(admin, "/metrics").await).await;
        let page = page.map_err(|error| format!("{error:#}"))?;
        let page = String::from_utf8_lossy(page.body()).into_owned();
        let mut counted = page.lines().filter(|line| line.starts_with("inbound_tcp_authz_deny_total{"));
        let by = counted.find_map(|line| line.split_once("client_ip=\"")?.1.split_once('"'));
        by.map(|(by, _)| by.to_owned()).ok_or_else(|| "nobody was".to_owned())
    })
    .await
}

#[test]
#[ignore = "wants a node: cargo xtask e2e"]
fn a_probe_that_cannot_be_read_passes_from_where_kubelet_is_said_to_be() {
    tell_alone("probes-networks", async |place| {
        let mesh = mesh::meshed(place).await;
        place.annotate(&json!({ names::DEFAULT_POLICY: "deny" })).await;
        place.apply(&server("https", 8443, ", --tls", "httpGet: { port: 8443, scheme: HTTPS }")).await;
        place.apply(&server("opaque", 6379, "", "httpGet: { port: 6379 }")).await;
        place
            .apply(
                &app::client("other")
                    .replace("labels: {", "annotations: { mesh.dev/inject: disabled }, labels: {"),
            )
            .await;
        // Where kubelet is, is found as the guide says.
        let kubelet = refused(place, "https").await;
        assert_eq!(refused(place, "opaque").await, kubelet);

        mesh.install(&["--set", &format!("probeNetworks={kubelet}/32")]).await;
        let (https, opaque) = (place.running("https").await, place.running("opaque").await);
        let (https, opaque) = (addr(&https, 8443), addr(&opaque, 6379));
        let tls = async move || {
            let config = pki::Ca::new("somebody").client(None, &[]);
            let refused = peer::tls(https, "server", config).await.unwrap_err();
            format!("{refused:#}")
        };
        let unread = async move || client::get(opaque, "/").await.map(|reply| reply.status().as_u16()).ok();
        // The node's address is kubelet's, and whoever comes from there comes to the application.
        let theirs = "UnknownIssuer";
        assert!(tls().await.contains(theirs), "{}", tls().await);
        assert_eq!(unread().await, Some(200));
        let other = place.inside(&place.running("other").await).await;
        let told = other.run(tls).await;
        assert!(!told.contains(theirs), "{told}");
        assert_eq!(other.run(unread).await, None);
        mesh.install(&[]).await;
    });
}
