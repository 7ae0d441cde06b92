//! What the views make of reports, from OTLP to JSON: BookInfo as a whole, then the odd cases one by one.

use super::{
    checks,
    directory::{Directory, NodeId, Pod},
    flows::Flows,
    graph::{self, Maps},
    mesh::Mesh,
    workloads,
};
use crate::{
    cluster::reconcile::Unmeshed,
    telemetry::{
        Limits, Snapshot, Store,
        fixture::{EPOCH_MS, Report},
    },
};
use mesh_api::{
    check::Outcome,
    graph::{EdgeMetrics, Graph, NodeMetrics},
    health::Health,
    route,
};
use std::net::{IpAddr, Ipv4Addr};

const NOW_MS: u64 = EPOCH_MS + 60_000;

fn pod(name: &str, number: u8, meshed: bool) -> Pod {
    let (app, version) = name.rsplit_once("-v").map_or((name, None), |(app, n)| (app, Some(format!("v{n}"))));
    Pod {
        namespace: "bookinfo".into(),
        name: name.into(),
        workload: name.into(),
        app: app.into(),
        version,
        ips: vec![IpAddr::V4(Ipv4Addr::new(10, 0, 0, number))],
        meshed,
        identity: meshed.then(|| identity(app)),
    }
}

/// All versions of an app share one.
fn identity(app: &str) -> String {
    format!("bookinfo-{app}.bookinfo.serviceaccount.identity.mesh.cluster.local")
}

fn bookinfo() -> Mesh {
    let meshed =
        ["productpage-v1", "details-v1", "reviews-v1", "reviews-v2", "reviews-v3", "ratings-v1", "traffic"];
    let mut pods: Vec<Pod> =
        meshed.iter().enumerate().map(|(i, name)| pod(name, i as u8 + 1, true)).collect();
    pods.push(pod("curl-debug", 99, false));
    let backend = |version: u32, weight: u32| route::Backend {
        name: format!("bookinfo/reviews-v{version}:9080"),
        weight,
        wanted: f64::from(weight) / 100.0,
        observed: None,
        golden: Default::default(),
        problem: None,
    };
    let rule = |backends| route::Rule { matches: String::new(), filters: vec![], policies: vec![], backends };
    let reviews = route::Route {
        kind: "HTTPRoute".into(),
        namespace: "bookinfo".into(),
        name: "reviews".into(),
        parents: vec![route::Parent { parent: "Service bookinfo/reviews:9080".into(), conditions: vec![] }],
        rules: vec![rule(vec![backend(2, 100)]), rule(vec![backend(1, 50), backend(2, 30), backend(3, 20)])],
        health: Health::Idle,
        golden: Default::default(),
    };
    let behind = (1..=3).map(|version| {
        (
            format!("bookinfo/reviews-v{version}:9080"),
            vec![NodeId::workload("bookinfo", &format!("reviews-v{version}"))],
        )
    });
    Mesh { directory: Directory::new(pods), behind: behind.collect(), routes: vec![reviews] }
}

/// Reports into a store; `mesh.identity` is the app's.
struct Reports(Store);

impl Reports {
    fn new() -> Reports {
        Reports(Store::new(Limits::default(), None))
    }

    fn push(&self, pod: &str, fill: impl FnOnce(Report) -> Report) {
        let mut report = Report::of("bookinfo", pod);
        let app = pod.rsplit_once("-v").map_or(pod, |(app, _)| app);
        report.resource.attributes[2] = crate::telemetry::fixture::text("mesh.identity", &identity(app));
        self.0.ingest_metrics(fill(report).request(), NOW_MS - 1_000);
    }

    /// Both ends of a call between meshed pods.
    fn call(&self, from: &str, to: &str, status: &str, count: u64, ms: f64, more: &[(&str, &str)]) {
        let to_app = to.rsplit_once("-v").map_or(to, |(app, _)| app);
        let classification = if status.starts_with('5') { "failure" } else { "success" };
        let (server_id, client_id) =
            (identity(to_app), identity(from.rsplit_once("-v").map_or(from, |(app, _)| app)));
        let common = [
            ("protocol", "http"),
            ("tls", "true"),
            ("status_code", status),
            ("classification", classification),
        ];
        let mut outbound = vec![
            ("direction", "outbound"),
            ("server_id", server_id.as_str()),
            ("srv_kind", "Service"),
            ("srv_namespace", "bookinfo"),
            ("srv_name", to_app),
            ("dst_namespace", "bookinfo"),
            ("dst_pod", to),
        ];
        outbound.extend(common);
        outbound.extend(more);
        self.push(from, |report| report.responses(&outbound, count, ms));
        let mut inbound =
            vec![("direction", "inbound"), ("client_id", client_id.as_str()), ("dst_port", "9080")];
        inbound.extend(common);
        self.push(to, |report| report.responses(&inbound, count, ms));
    }

    fn snapshot(&self, window_s: u32) -> Snapshot {
        self.0.snapshot(NOW_MS, window_s, 3_600)
    }

    fn graph(&self, mesh: &Mesh) -> Graph {
        let snapshot = self.snapshot(60);
        graph(mesh, &snapshot, &Flows::read(&snapshot, &mesh.directory), &[], NOW_MS)
    }
}

fn graph(mesh: &Mesh, snapshot: &Snapshot, flows: &Flows, shown: &[String], now_ms: u64) -> Graph {
    let (map, metrics) = graph::graph(&Maps::default(), mesh, snapshot, flows, shown, now_ms);
    Graph { topology: map.topology.clone(), metrics }
}

fn edge<'a>(graph: &'a Graph, id: &str) -> &'a EdgeMetrics {
    let found = graph.topology.edges.iter().position(|edge| edge.id == id);
    let ids: Vec<&str> = graph.topology.edges.iter().map(|edge| edge.id.as_str()).collect();
    &graph.metrics.edges[found.unwrap_or_else(|| panic!("no edge {id} in {ids:?}"))]
}

fn node<'a>(graph: &'a Graph, id: &str) -> &'a NodeMetrics {
    let found = graph.topology.nodes.iter().position(|node| node.id == id);
    &graph.metrics.nodes[found.unwrap_or_else(|| panic!("no node {id}"))]
}

/// A minute of the whole application, with a client outside the mesh and a ratings that fails now and then.
fn minute() -> Reports {
    let reports = Reports::new();
    // So that the minute counts as a minute: the first report is that old.
    reports.0.ingest_metrics(Report::of("bookinfo", "details-v1").request(), EPOCH_MS);
    let rule = |rule, backend| {
        [
            ("route_kind", "HTTPRoute"),
            ("route_namespace", "bookinfo"),
            ("route_name", "reviews"),
            ("route_section_name", rule),
            ("backend_namespace", "bookinfo"),
            ("backend_name", backend),
            ("backend_port", "9080"),
        ]
    };
    reports.call("traffic", "productpage-v1", "200", 1_440, 45.0, &[]);
    reports.call("productpage-v1", "details-v1", "200", 1_440, 3.0, &[]);
    reports.call("productpage-v1", "reviews-v2", "200", 144, 18.0, &rule("rule-1", "reviews-v2"));
    reports.call("productpage-v1", "reviews-v1", "200", 640, 15.0, &rule("rule-2", "reviews-v1"));
    reports.call("productpage-v1", "reviews-v2", "200", 400, 18.0, &rule("rule-2", "reviews-v2"));
    reports.call("productpage-v1", "reviews-v3", "200", 256, 18.0, &rule("rule-2", "reviews-v3"));
    reports.call("reviews-v2", "ratings-v1", "200", 519, 9.0, &[]);
    reports.call("reviews-v2", "ratings-v1", "500", 25, 9.0, &[]);
    reports.call("reviews-v3", "ratings-v1", "200", 256, 9.0, &[]);
    let plain = [
        ("direction", "inbound"),
        ("protocol", "http"),
        ("tls", "no_identity"),
        ("client_ip", "10.0.0.99"),
        ("dst_port", "9080"),
        ("status_code", "200"),
        ("classification", "success"),
    ];
    reports.push("details-v1", |report| report.responses(&plain, 12, 3.0));
    reports
}

#[test]
fn bookinfo_as_a_graph() {
    let graph = minute().graph(&bookinfo());
    insta::assert_snapshot!(serde_json::to_string_pretty(&graph).unwrap());
}

#[test]
fn reasons_name_counts_limit_and_origin() {
    let graph = minute().graph(&bookinfo());
    let failing = edge(&graph, "w:bookinfo/reviews-v2>w:bookinfo/ratings-v1");
    assert_eq!(failing.health, Health::Degraded);
    assert_eq!(
        failing.reason,
        "4.6 % errors in the last minute (25 of 544), limit 1 %, all of them 500 from ratings-v1"
    );
    assert_eq!(
        node(&graph, "w:bookinfo/ratings-v1").reason,
        "3.1 % errors in the last minute (25 of 800), limit 1 %, all of them 500"
    );
}

#[test]
fn a_split_shows_what_is_wanted_beside_what_is_seen() {
    let graph = minute().graph(&bookinfo());
    let shares = |version: u8| {
        let edge = edge(&graph, &format!("s:bookinfo/reviews>w:bookinfo/reviews-v{version}"));
        (edge.observed, edge.wanted)
    };
    // A tenth of the requests took the first rule, which sends all to v2.
    assert_eq!(shares(1), (Some(0.4444), Some(0.45)));
    assert_eq!(shares(2), (Some(0.3778), Some(0.37)));
    assert_eq!(shares(3), (Some(0.1778), Some(0.18)));
}

#[test]
fn plaintext_from_a_pod_without_proxy_is_told_by_the_server() {
    let graph = minute().graph(&bookinfo());
    let plain = edge(&graph, "w:bookinfo/curl-debug>w:bookinfo/details-v1");
    assert_eq!((plain.mtls, plain.golden.requests), (Some(0.0), 12));
    assert_eq!(node(&graph, "w:bookinfo/curl-debug").health, Health::Unknown);
    // Of its meshed client the server says nothing that the client has not said.
    assert_eq!(edge(&graph, "w:bookinfo/productpage-v1>w:bookinfo/details-v1").golden.requests, 1_440);
    assert_eq!(node(&graph, "w:bookinfo/details-v1").golden.requests, 1_452);
}

#[test]
fn a_denial_is_on_the_edge_that_was_refused() {
    let reports = Reports::new();
    reports.call("productpage-v1", "ratings-v1", "403", 7, 1.0, &[]);
    reports.call("reviews-v2", "ratings-v1", "200", 50, 1.0, &[]);
    let client = identity("productpage");
    let labels = [
        ("direction", "inbound"),
        ("client_id", client.as_str()),
        ("dst_port", "9080"),
        ("srv_kind", "authorizationpolicy"),
        ("srv_name", "ratings-viewer"),
    ];
    reports.push("ratings-v1", |report| report.counter("inbound_http_authz_deny_total", &labels, 7));
    let mesh = bookinfo();
    let graph = reports.graph(&mesh);
    let denied = edge(&graph, "w:bookinfo/productpage-v1>w:bookinfo/ratings-v1");
    assert_eq!((denied.denied, denied.reason.as_str()), (7, "policy denied 7 requests in the last minute"));
    assert_eq!(edge(&graph, "w:bookinfo/reviews-v2>w:bookinfo/ratings-v1").denied, 0);

    let snapshot = reports.snapshot(60);
    let flows = Flows::read(&snapshot, &mesh.directory);
    let ratings = NodeId::workload("bookinfo", "ratings-v1");
    let detail = workloads::detail(&mesh, &snapshot, &flows, &ratings, vec![], NOW_MS).unwrap();
    let [stat] = &detail.authorizations[..] else { panic!("{:?}", detail.authorizations) };
    assert_eq!((stat.policy.as_str(), stat.denied), ("AuthorizationPolicy bookinfo/ratings-viewer", 7));
}

#[test]
fn a_refused_connection_makes_an_edge_of_its_own() {
    let reports = Reports::new();
    let labels = [
        ("direction", "inbound"),
        ("client_ip", "192.0.2.7"),
        ("dst_port", "9080"),
        ("srv_kind", "default"),
        ("srv_name", "mesh-only"),
    ];
    reports.push("ratings-v1", |report| report.counter("inbound_tcp_authz_deny_total", &labels, 3));
    let graph = reports.graph(&bookinfo());
    assert_eq!(edge(&graph, "x:192.0.2.7>w:bookinfo/ratings-v1").denied, 3);
}

#[test]
fn requests_that_reached_nobody_belong_to_the_only_workload() {
    let reports = Reports::new();
    reports.call("reviews-v2", "ratings-v1", "200", 10, 1.0, &[]);
    let lost = [
        ("direction", "outbound"),
        ("srv_kind", "Service"),
        ("srv_namespace", "bookinfo"),
        ("srv_name", "ratings"),
        ("status_code", "503"),
        ("classification", "failure"),
        ("error", "connect-error"),
    ];
    reports.push("reviews-v2", |report| report.responses(&lost, 10, 1.0));
    let graph = reports.graph(&bookinfo());
    let edge = edge(&graph, "w:bookinfo/reviews-v2>w:bookinfo/ratings-v1");
    assert_eq!(
        edge.reason,
        "50.0 % errors in the last minute (10 of 20), limit 1 %, all of them connect-error made by the mesh"
    );
    assert_eq!(edge.mtls, Some(1.0), "what was not sent was not sent in the clear");
}

#[test]
fn a_silent_proxy_makes_its_workload_unknown() {
    let reports = minute();
    let mesh = bookinfo();
    let later_ms = NOW_MS + 42_000;
    let snapshot = reports.0.snapshot(later_ms, 300, 3_600);
    let graph = graph(&mesh, &snapshot, &Flows::read(&snapshot, &mesh.directory), &[], later_ms);
    let ratings = node(&graph, "w:bookinfo/ratings-v1");
    assert_eq!(
        (ratings.health, ratings.reason.as_str()),
        (Health::Unknown, "its proxy has been silent for 43 s")
    );
}

#[test]
fn idle_edges_stay_where_they_are() {
    let reports = minute();
    let mesh = bookinfo();
    let busy = reports.graph(&mesh).topology;
    let later_ms = NOW_MS + 1_800_000;
    let snapshot = reports.0.snapshot(later_ms, 10, 3_600);
    let idle = graph(&mesh, &snapshot, &Flows::read(&snapshot, &mesh.directory), &[], later_ms);
    assert_eq!(idle.topology, busy);
    let metrics = &idle.metrics.edges[0];
    assert_eq!(
        (metrics.health, metrics.golden.success, metrics.golden.p50_ms, metrics.mtls),
        (Health::Idle, None, None, None)
    );
}

#[test]
fn opaque_connections_have_bytes_instead_of_requests() {
    let reports = Reports::new();
    let labels = [
        ("direction", "outbound"),
        ("tls", "true"),
        ("srv_kind", "Service"),
        ("srv_namespace", "bookinfo"),
        ("srv_name", "ratings"),
        ("dst_namespace", "bookinfo"),
        ("dst_pod", "ratings-v1"),
    ];
    reports.push("reviews-v2", |report| {
        report
            .counter("tcp_open_total", &labels, 2)
            .counter("tcp_read_bytes_total", &labels, 6_000)
            .counter("tcp_write_bytes_total", &labels, 600)
            .gauge("tcp_open_connections", &labels, 2)
    });
    let graph = reports.graph(&bookinfo());
    let edge = edge(&graph, "w:bookinfo/reviews-v2>w:bookinfo/ratings-v1");
    let tcp = edge.tcp.as_ref().unwrap();
    assert_eq!(
        (edge.health, edge.protocol, edge.mtls),
        (Health::Healthy, mesh_api::graph::Protocol::Tcp, Some(1.0))
    );
    assert_eq!((tcp.open_connections, tcp.read_bytes_per_s, tcp.write_bytes_per_s), (2, 6_000.0, 600.0));
}

#[test]
fn a_scan_from_outside_is_one_node() {
    let reports = Reports::new();
    for i in 0..200 {
        let ip = format!("203.0.113.{i}");
        let labels = [
            ("direction", "inbound"),
            ("client_ip", ip.as_str()),
            ("status_code", "404"),
            ("classification", "success"),
        ];
        reports.push("ratings-v1", |report| report.responses(&labels, 1, 1.0));
    }
    let graph = reports.graph(&bookinfo());
    assert_eq!(edge(&graph, "x:outside>w:bookinfo/ratings-v1").golden.requests, 200);
    assert_eq!(graph.topology.edges.len(), 1);
}

#[test]
fn a_namespace_is_shown_with_its_neighbours_only() {
    let mesh = bookinfo();
    let snapshot = minute().snapshot(60);
    let flows = Flows::read(&snapshot, &mesh.directory);
    assert!(graph(&mesh, &snapshot, &flows, &["elsewhere".into()], NOW_MS).topology.nodes.is_empty());
    let all = graph(&mesh, &snapshot, &flows, &["bookinfo".into()], NOW_MS);
    assert_eq!(all.topology.edges.len(), 9);
}

#[test]
fn checks_call_things_as_people_do() {
    let reports = minute();
    let refused = [("direction", "inbound"), ("client_ip", "192.0.2.7"), ("dst_port", "9080")];
    reports.push("ratings-v1", |report| report.counter("inbound_tcp_authz_deny_total", &refused, 3));
    let mesh = bookinfo();
    let snapshot = reports.snapshot(300);
    let flows = Flows::read(&snapshot, &mesh.directory);
    let unmeshed = Unmeshed {
        namespace: "bookinfo".into(),
        kind: "Deployment".into(),
        name: "late".into(),
        pods: 2,
        restart: false,
        in_vain: false,
    };
    let facts = checks::Facts {
        usage: reports.0.usage(),
        refused_streams: 9_000,
        trust_anchor_s: u64::MAX,
        issuer_s: 1,
        leaf_s: 3_600,
        version: "0.1.0".into(),
        unmeshed: vec![unmeshed.finding()],
        half_opaque: vec!["Service a/b port 1: Pod a/c forwards it unread".into()],
        uptime_s: 100,
    };
    let all = checks::checks(&mesh, &[], &snapshot, &flows, &facts, NOW_MS).checks;
    let missing = all.iter().find(|check| check.name.contains("should have a proxy")).unwrap();
    assert_eq!((missing.group.as_str(), missing.outcome), ("data plane", Outcome::Warn));
    let findings: Vec<String> = all.into_iter().flat_map(|check| check.findings).collect();
    assert_eq!(
        findings,
        [
            "the issuer ends in 0 h, before the certificates that it is to sign",
            "Deployment bookinfo/late: should be meshed, and 2 of its Pods run without a proxy \
                (kubectl rollout restart -n bookinfo deployment/late)",
            "9000 streams were refused since the operator started",
            "Service a/b port 1: Pod a/c forwards it unread",
            "bookinfo/curl-debug to bookinfo/details-v1: 100 % in plaintext",
            "192.0.2.7 to bookinfo/ratings-v1: 3 denials in the last 5 minutes",
        ]
    );
    let facts = checks::Facts { version: "0.2.0".into(), ..facts };
    let all = checks::checks(&mesh, &[], &snapshot, &flows, &facts, NOW_MS).checks;
    let versions = all.iter().find(|check| check.name.contains("version")).unwrap();
    assert_eq!(versions.findings[0], "bookinfo/details-v1 is 0.1.0, the operator is 0.2.0");
}
