//! What the commands print for what an operator answers.

#![allow(clippy::unwrap_used)] // A test that cannot go on should say so at once.

use assert_cmd::Command;
use mesh_api::{
    authz::{AuthzList, AuthzRow, Verdict},
    check::{Check, CheckList, Outcome},
    endpoints::{Endpoint, EndpointList},
    golden::Golden,
    graph::{Edge, EdgeMetrics, Graph, Metrics, Node, NodeKind, Protocol, Topology},
    health::Health,
    identities::{Certificate, IdentityList, Phase, PodIdentity, Rotation, Served, Standing},
    route::{Backend, Condition, Parent, Route, RouteList, Rule},
    stream::ApiError,
    workload::{WorkloadList, WorkloadRow},
};
use serde::Serialize;
use std::{
    io::{BufRead, BufReader, Write},
    net::TcpListener,
    thread,
};

/// Answers one request with this and returns what the command asked for, printed, and whether it succeeded.
fn ask<T: Serialize>(status: u16, answer: &T, args: &[&str]) -> (String, String, bool) {
    let body = serde_json::to_string(answer).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let operator = format!("http://{}", listener.local_addr().unwrap());
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
        let request = lines.next().unwrap().unwrap();
        while !lines.next().unwrap().unwrap().is_empty() {}
        let length = body.len();
        write!(stream, "HTTP/1.1 {status} X\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}")
            .unwrap();
        request
    });
    let mesh = Command::new(assert_cmd::cargo::cargo_bin!("mesh"))
        .args(args)
        .args(["--operator", &operator])
        .output();
    let mesh = mesh.unwrap();
    let text = String::from_utf8([mesh.stdout, mesh.stderr].concat()).unwrap();
    (server.join().unwrap(), text, mesh.status.success())
}

fn golden() -> Golden {
    Golden {
        requests: 1_204,
        rate_per_s: 20.07,
        success: Some(0.9992),
        p50_ms: Some(2.31),
        p95_ms: Some(7.9),
        p99_ms: Some(41.2),
        failures: vec![],
    }
}

#[test]
fn stat() {
    let row = |name: &str, golden: Golden, health| WorkloadRow {
        namespace: "bookinfo".into(),
        name: name.into(),
        app: name.into(),
        version: None,
        pods: 1,
        meshed_pods: 1,
        health,
        reason: String::new(),
        golden,
        tcp: None,
        spark: vec![],
    };
    let workloads =
        vec![row("ratings-v1", golden(), Health::Healthy), row("idle", Golden::default(), Health::Idle)];
    let list = WorkloadList { at_ms: 0, window_s: 60, workloads };
    let (request, text, _) = ask(200, &list, &["stat", "-n", "bookinfo", "-t", "5m"]);
    assert_eq!(request, "GET /api/v1/workloads?ns=bookinfo&window=5m HTTP/1.1");
    insta::assert_snapshot!(text, @r"
    NAMESPACE  NAME        MESHED  HEALTH   SUCCESS  RPS   LATENCY_P50  LATENCY_P95  LATENCY_P99  TCP_CONN
    bookinfo   ratings-v1  1/1     healthy  99.92%   20.1  2.3ms        7.9ms        41ms         -
    bookinfo   idle        1/1     idle     -        0.0   -            -            -            -
    ");
}

#[test]
fn edges() {
    let node = |id: &str, kind, name: &str| Node {
        id: id.into(),
        kind,
        namespace: "bookinfo".into(),
        label: name.into(),
        name: name.into(),
        version: None,
        meshed: true,
        x: 0.0,
        y: 0.0,
        width: 0.0,
        height: 0.0,
    };
    let edge = |from: &str, to: &str| Edge {
        id: format!("{from}>{to}"),
        from: from.into(),
        to: to.into(),
        points: vec![],
        back: false,
    };
    let metrics = |mtls| EdgeMetrics {
        health: Health::Healthy,
        reason: String::new(),
        protocol: Protocol::Http,
        golden: golden(),
        tcp: None,
        mtls,
        observed: None,
        wanted: None,
        denied: 3,
    };
    let graph = Graph {
        topology: Topology {
            version: 1,
            nodes: vec![
                node("w:bookinfo/productpage-v1", NodeKind::Workload, "productpage-v1"),
                node("s:bookinfo/reviews", NodeKind::Service, "reviews"),
                node("w:bookinfo/reviews-v1", NodeKind::Workload, "reviews-v1"),
            ],
            edges: vec![
                edge("w:bookinfo/productpage-v1", "s:bookinfo/reviews"),
                edge("s:bookinfo/reviews", "w:bookinfo/reviews-v1"),
            ],
            ..Topology::default()
        },
        metrics: Metrics {
            version: 1,
            edges: vec![metrics(Some(1.0)), metrics(Some(0.25))],
            ..Metrics::default()
        },
    };
    insta::assert_snapshot!(ask(200, &graph, &["edges"]).1, @r"
    SRC              DST              SRC_NS    DST_NS    SECURED        SUCCESS  RPS   LATENCY_P50  LATENCY_P99  DENIED
    productpage-v1   service/reviews  bookinfo  bookinfo  √              99.92%   20.1  2.3ms        41ms         3
    service/reviews  reviews-v1       bookinfo  bookinfo  75% plaintext  99.92%   20.1  2.3ms        41ms         3
    ");
}

#[test]
fn routes() {
    let backend = |name: &str, weight, problem: Option<&str>| Backend {
        name: name.into(),
        weight,
        wanted: f64::from(weight) / 100.0,
        observed: Some(0.893),
        golden: golden(),
        problem: problem.map(str::to_owned),
    };
    let condition = |kind: &str, status, reason: &str, message: &str| Condition {
        kind: kind.into(),
        status,
        reason: reason.into(),
        message: message.into(),
    };
    let route = Route {
        kind: "HTTPRoute".into(),
        namespace: "bookinfo".into(),
        name: "reviews".into(),
        parents: vec![Parent {
            parent: "Service bookinfo/reviews:9080".into(),
            conditions: vec![
                condition("Accepted", true, "Accepted", ""),
                condition("ResolvedRefs", false, "BackendNotFound", "Service bookinfo/reviews-v9 not found"),
            ],
        }],
        rules: vec![
            Rule {
                matches: "any request".into(),
                filters: vec![],
                policies: vec![],
                backends: vec![
                    backend("bookinfo/reviews-v1:9080", 90, None),
                    backend("bookinfo/reviews-v9:9080", 10, Some("Service not found")),
                ],
            },
            Rule {
                matches: "path /old".into(),
                filters: vec!["redirect to /new (301)".into()],
                policies: vec![],
                backends: vec![],
            },
        ],
        health: Health::Healthy,
        golden: golden(),
    };
    let list = RouteList { at_ms: 0, window_s: 60, routes: vec![route] };
    insta::assert_snapshot!(ask(200, &list, &["routes"]).1, @r"
    ROUTE                       MATCH        BACKEND                   WEIGHT  WANTED  OBSERVED  SUCCESS  RPS   LATENCY_P50  LATENCY_P99
    HTTPRoute bookinfo/reviews  any request  bookinfo/reviews-v1:9080  90      90.00%  89.30%    99.92%   20.1  2.3ms        41ms
    HTTPRoute bookinfo/reviews  any request  bookinfo/reviews-v9:9080  10      10.00%  89.30%    99.92%   20.1  2.3ms        41ms
    HTTPRoute bookinfo/reviews  path /old    redirect to /new (301)    -       -       -         -        -     -            -
    × HTTPRoute bookinfo/reviews on Service bookinfo/reviews:9080: ResolvedRefs BackendNotFound: Service bookinfo/reviews-v9 not found
    × HTTPRoute bookinfo/reviews: backend bookinfo/reviews-v9:9080: Service not found
    ");
}

#[test]
fn endpoints() {
    let list = EndpointList {
        authority: "ratings.bookinfo.svc.cluster.local:9080".into(),
        exists: true,
        endpoints: vec![Endpoint {
            addr: "127.0.1.6:9080".into(),
            pod: "ratings-v1".into(),
            workload: "ratings-v1".into(),
            zone: None,
            identity: Some("bookinfo-ratings.bookinfo.serviceaccount.identity.mesh.cluster.local".into()),
            protocol_hint: "http2".into(),
        }],
    };
    insta::assert_snapshot!(ask(200, &list, &["endpoints", "ratings.bookinfo:9080"]).1, @r"
    SERVICE                                  ADDRESS         POD         WORKLOAD    ZONE  PROTOCOL  IDENTITY
    ratings.bookinfo.svc.cluster.local:9080  127.0.1.6:9080  ratings-v1  ratings-v1  -     http2     bookinfo-ratings.bookinfo.serviceaccount.identity.mesh.cluster.local
    ");
}

#[test]
fn authz() {
    let row = |client: &str, verdict, policy: &str, why: &str| AuthzRow {
        server: "bookinfo/ratings-v1".into(),
        port: 9080,
        route: String::new(),
        client: client.into(),
        verdict,
        policy: policy.into(),
        why: why.into(),
    };
    let rows = vec![
        row(
            "bookinfo/bookinfo-reviews",
            Verdict::Allowed,
            "AuthorizationPolicy bookinfo/ratings",
            "its ServiceAccount is named",
        ),
        row("anyone in the mesh", Verdict::Denied, "AuthorizationPolicy bookinfo/ratings", "no rule matches"),
    ];
    let (request, text, _) = ask(200, &AuthzList { rows }, &["authz", "bookinfo/ratings-v1"]);
    assert_eq!(request, "GET /api/v1/authz?to=bookinfo/ratings-v1 HTTP/1.1");
    insta::assert_snapshot!(text, @r"
    SERVER               PORT  ROUTE  CLIENT                     VERDICT    AUTHORIZATION_POLICY                  WHY
    bookinfo/ratings-v1  9080  -      bookinfo/bookinfo-reviews  √ allowed  AuthorizationPolicy bookinfo/ratings  its ServiceAccount is named
    bookinfo/ratings-v1  9080  -      anyone in the mesh         × denied   AuthorizationPolicy bookinfo/ratings  no rule matches
    ");
}

fn identities(phase: Phase, reason: &str) -> IdentityList {
    let pod = |name: &str, issuer| PodIdentity {
        namespace: "shop".into(),
        name: name.into(),
        workload: name.into(),
        identity: Some(format!("{name}.shop.serviceaccount.identity.mesh-system.cluster.local")),
        certificate_left_s: (issuer != Standing::Unknown).then_some(60_000),
        issuer,
        trust_anchors: issuer,
    };
    IdentityList {
        at_ms: 0,
        trust_anchor_left_s: 3_650 * 86_400,
        issuer_left_s: 365 * 86_400,
        trust_anchors_hash: 1,
        rotation: Rotation {
            phase,
            reason: reason.into(),
            secret: String::new(),
            followed: 0,
            of: 0,
            waiting: vec![],
        },
        pods: vec![pod("web", Standing::Current), pod("cart", Standing::Other), pod("db", Standing::Unknown)],
    }
}

#[test]
fn identity_list() {
    let list = identities(Phase::Idle, "");
    let (request, text, _) = ask(200, &list, &["identity", "list", "-n", "shop"]);
    assert_eq!(request, "GET /api/v1/identities?ns=shop HTTP/1.1");
    insta::assert_snapshot!(text, @r"
    NAMESPACE  POD   LEFT    ISSUER     TRUST_ANCHORS  IDENTITY
    shop       web   16h40m  √ current  √ current      web.shop.serviceaccount.identity.mesh-system.cluster.local
    shop       cart  16h40m  ‼ other    ‼ other        cart.shop.serviceaccount.identity.mesh-system.cluster.local
    shop       db    -       - unknown  - unknown      db.shop.serviceaccount.identity.mesh-system.cluster.local

    trust anchor: 3650d0h left; issuer: 365d0h left
    ");
}

#[test]
fn identity_show() {
    let served = Served {
        chain: vec![Certificate {
            subject: String::new(),
            names: vec!["web.shop.serviceaccount.identity.mesh-system.cluster.local".into()],
            issuer: "CN=issuer.cluster.local".into(),
            serial: "01:02".into(),
            not_before: "2026-01-01T00:00:00Z".into(),
            not_after: "2026-01-02T00:00:00Z".into(),
            left_s: 3_600,
            key: "ECDSA, 256 bits".into(),
            sha256: "ab12".into(),
        }],
        problem: String::new(),
    };
    let (request, text, _) = ask(200, &served, &["identity", "show", "shop/web"]);
    assert_eq!(request, "GET /api/v1/identities/shop/web HTTP/1.1");
    insta::assert_snapshot!(text, @r"
    certificate
      names   web.shop.serviceaccount.identity.mesh-system.cluster.local
      issuer  CN=issuer.cluster.local
      serial  01:02
      from    2026-01-01T00:00:00Z
      until   2026-01-02T00:00:00Z (1h0m left)
      key     ECDSA, 256 bits
      sha256  ab12
    √ the mesh believes it
    ");
}

#[test]
fn a_certificate_that_the_mesh_does_not_believe_is_a_failure() {
    let served = |problem: &str| Served { chain: vec![], problem: problem.into() };
    for args in [&["identity", "show", "shop/web"][..], &["identity", "show", "shop/web", "-o", "json"]] {
        assert!(ask(200, &served(""), args).2);
        let (_, text, succeeded) = ask(200, &served("it has ended"), args);
        assert!(!succeeded && text.contains("it has ended"), "{text}");
    }
}

#[test]
fn a_namespace_may_stand_before_a_name_or_behind_minus_n() {
    for (args, request) in [
        (&["identity", "show", "web", "-n", "shop"][..], "/api/v1/identities/shop/web"),
        (&["authz", "web", "-n", "shop", "--from", "cart"], "/api/v1/authz?to=shop/web&from=shop/cart"),
        (&["authz", "web", "-n", "shop", "--from", "bank/cart"], "/api/v1/authz?to=shop/web&from=bank/cart"),
        (&["policy", "inbound", "web:80", "-n", "shop"], "/api/v1/policy?inbound=shop/web:80"),
        (&["stat", "web", "-n", "shop"], "/api/v1/workloads?ns=shop&window=1m"),
    ] {
        let asked = ask(404, &ApiError { error: "no such thing".into() }, args).0;
        assert_eq!(asked, format!("GET {request} HTTP/1.1"));
    }
}

#[test]
fn a_root_that_is_not_changed_here_is_refused_with_the_reason() {
    let list = identities(Phase::Refused, "the issuer's Secret is somebody else's");
    let (_, text, succeeded) = ask(200, &list, &["identity", "rotate"]);
    assert!(!succeeded && text.contains("the issuer's Secret is somebody else's"), "{text}");
}

#[test]
fn json_is_the_apis_own() {
    let list = RouteList { at_ms: 1, window_s: 60, routes: vec![] };
    let (_, text, _) = ask(200, &list, &["routes", "-o", "json"]);
    assert_eq!(serde_json::from_str::<RouteList>(&text).unwrap(), list);
}

#[test]
fn a_failed_check_fails_the_command() {
    let check = |outcome| Check {
        group: "configuration".into(),
        name: "every manifest is valid".into(),
        outcome,
        findings: vec![],
        remedy: String::new(),
    };
    assert!(ask(200, &CheckList { checks: vec![check(Outcome::Warn)] }, &["check"]).2);
    assert!(!ask(200, &CheckList { checks: vec![check(Outcome::Fail)] }, &["check"]).2);
}

#[test]
fn a_refusal_is_the_operators_sentence() {
    let refusal = ApiError { error: "workload bookinfo/x: not found (`mesh stat` lists them all)".into() };
    let (_, text, succeeded) = ask(404, &refusal, &["authz", "bookinfo/x"]);
    assert_eq!(text, "mesh: workload bookinfo/x: not found (`mesh stat` lists them all)\n");
    assert!(!succeeded);
}
