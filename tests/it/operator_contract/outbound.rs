//! `OutboundPolicies.Watch`: shapes that a stock proxy obeys.

use super::validate::complaints;
use linkerd2_proxy_api::{
    destination::WeightedAddr,
    meta, net,
    outbound::{self, backend, http_route as http, proxy_protocol::Kind, traffic_spec::Target},
};
use mesh_tests::{
    mesh::Operator,
    process,
    scripted_proxy::{ScriptedProxy, Watch},
    story::{run, run_alone},
    world::{World, http_route, split},
};
use std::time::{Duration, Instant};
use tonic::Code;

const WEB: &str = "web.demo.svc.cluster.local:80";

fn world() -> World {
    World::new("demo")
        .pod("web", "v1", &[80])
        .pod("web", "v2", &[80])
        .service("web", 80)
        .version_service("web", "v1", 80)
        .version_service("web", "v2", 80)
        .service("mysql", 3306)
}

async fn operator(world: &World) -> (Operator, ScriptedProxy) {
    let operator = Operator::start(world, &[]).await;
    let proxy = ScriptedProxy::of("web-v1").await;
    (operator, proxy)
}

/// The first answer, which every proxy must be able to obey.
async fn first(watch: &mut Watch<outbound::OutboundPolicy>) -> outbound::OutboundPolicy {
    let policy = watch.next().await;
    assert_eq!(complaints(&policy), Vec::<String>::new(), "{policy:#?}");
    policy
}

async fn policy_of(world: &World, authority: &str) -> outbound::OutboundPolicy {
    let (_operator, proxy) = operator(world).await;
    first(&mut proxy.outbound(authority).await.unwrap()).await
}

fn http1(policy: &outbound::OutboundPolicy) -> &outbound::proxy_protocol::Http1 {
    match policy.protocol.as_ref().and_then(|protocol| protocol.kind.as_ref()) {
        Some(Kind::Detect(detect)) => detect.http1.as_ref().expect("HTTP/1"),
        Some(Kind::Http1(http1)) => http1,
        other => panic!("no HTTP/1: {other:?}"),
    }
}

/// Backends of a rule with their weights, by destination path; `invalid` where there is none.
fn backends(rule: &http::Rule) -> Vec<(String, u32)> {
    let path = |backend: &http::RouteBackend| match &backend.backend.as_ref().expect("a backend").kind {
        Some(backend::Kind::Balancer(balancer)) => {
            match balancer.discovery.as_ref().and_then(|d| d.kind.as_ref()) {
                Some(backend::endpoint_discovery::Kind::Dst(dst)) => dst.path.clone(),
                None => "no discovery".into(),
            }
        }
        Some(backend::Kind::Forward(_)) => "forward".into(),
        None => "invalid".into(),
    };
    match rule.backends.as_ref().and_then(|backends| backends.kind.as_ref()).expect("a distribution") {
        http::distribution::Kind::Empty(_) => vec![],
        http::distribution::Kind::FirstAvailable(first) => {
            first.backends.iter().map(|backend| (path(backend), 1)).collect()
        }
        http::distribution::Kind::RandomAvailable(random) => random
            .backends
            .iter()
            .map(|weighted| (path(weighted.backend.as_ref().expect("a backend")), weighted.weight))
            .collect(),
    }
}

#[test]
fn a_service_without_routes_has_the_plain_shape() {
    run(async || {
        let policy = policy_of(&world(), WEB).await;
        let Some(meta::metadata::Kind::Resource(resource)) = policy.metadata.clone().unwrap().kind else {
            panic!("{:?}", policy.metadata)
        };
        assert_eq!(
            (resource.kind.as_str(), resource.namespace.as_str(), resource.name.as_str(), resource.port),
            ("Service", "demo", "web", 80)
        );
        let http1 = http1(&policy);
        assert_eq!((http1.routes.len(), http1.routes[0].rules.len()), (1, 1));
        assert_eq!(backends(&http1.routes[0].rules[0]), [(WEB.to_owned(), 1)]);
    });
}

#[test]
fn weights_go_out_as_they_stand_in_the_route() {
    run(async || {
        let route = http_route("demo", "web", 80, &split(80, &[("web-v1", 90), ("web-v2", 10)]));
        let policy = policy_of(&world().file("route.yaml", &route), WEB).await;
        let mut backends = backends(&http1(&policy).routes[0].rules[0]);
        backends.sort();
        let path = |name: &str| format!("{name}.demo.svc.cluster.local:80");
        assert_eq!(backends, [(path("web-v1"), 90), (path("web-v2"), 10)]);
    });
}

#[test]
fn an_edit_reaches_the_stream_within_a_second_and_nothing_else_does() {
    run_alone(async || {
        let route = |a, b| http_route("demo", "web", 80, &split(80, &[("web-v1", a), ("web-v2", b)]));
        let (operator, proxy) = operator(&world().file("route.yaml", &route(90, 10))).await;
        let mut watch = proxy.outbound(WEB).await.unwrap();
        first(&mut watch).await;
        watch.is_silent_for(Duration::from_millis(500)).await;
        let saved = Instant::now();
        process::save(&operator.manifests().join("route.yaml"), &route(1, 99));
        let policy = first(&mut watch).await;
        assert!(saved.elapsed() < Duration::from_secs(1), "{:?}", saved.elapsed());
        assert!(backends(&http1(&policy).routes[0].rules[0]).iter().any(|(_, weight)| *weight == 99));
    });
}

#[test]
fn a_backend_that_does_not_exist_fails_its_share_with_500() {
    run(async || {
        let route = http_route("demo", "web", 80, &split(80, &[("web-v1", 50), ("web-v9", 50)]));
        let policy = policy_of(&world().file("route.yaml", &route), WEB).await;
        let rule = &http1(&policy).routes[0].rules[0];
        assert_eq!(backends(rule).len(), 2);
        assert!(
            format!("{rule:?}").contains("FailureInjector") && format!("{rule:?}").contains("500"),
            "{rule:#?}"
        );
    });
}

#[test]
fn timeouts_and_retries_of_a_rule_go_out() {
    run(async || {
        let rules = "- timeouts: { request: 500ms }\n  retry: { codes: [500, 503], attempts: 2 }\n  backendRefs:\n  - { name: web-v1, port: 80 }\n";
        let policy = policy_of(&world().file("route.yaml", &http_route("demo", "web", 80, rules)), WEB).await;
        let rule = &http1(&policy).routes[0].rules[0];
        let request =
            rule.timeouts.as_ref().and_then(|timeouts| timeouts.request).expect("a request timeout");
        assert_eq!((request.seconds, request.nanos), (0, 500_000_000));
        let retry = rule.retry.as_ref().expect("a retry");
        assert_eq!(retry.max_retries, 2);
        let ranges: Vec<_> =
            retry.conditions.as_ref().unwrap().status_ranges.iter().map(|r| (r.start, r.end)).collect();
        assert!(ranges.iter().any(|(start, end)| (*start..=*end).contains(&503)), "{ranges:?}");
        assert!(!ranges.iter().any(|(start, end)| (*start..=*end).contains(&502)), "{ranges:?}");
    });
}

#[test]
fn annotations_of_a_service_become_retries_timeouts_and_failure_accrual() {
    run(async || {
        let annotations = "mesh.dev/retry-http: 5xx, mesh.dev/retry-limit: \"3\", mesh.dev/timeout-request: 2s, mesh.dev/failure-accrual: consecutive, mesh.dev/failure-accrual-max-failures: \"5\"";
        let world =
            World::new("demo").pod("web", "v1", &[80]).service_of("web", "{ app: web }", 80, annotations);
        let policy = policy_of(&world, WEB).await;
        let http1 = http1(&policy);
        let rule = &http1.routes[0].rules[0];
        assert_eq!(rule.retry.as_ref().expect("a retry").max_retries, 3);
        assert_eq!(rule.timeouts.as_ref().unwrap().request.expect("a timeout").seconds, 2);
        match http1.failure_accrual.as_ref().and_then(|accrual| accrual.kind.as_ref()) {
            Some(outbound::failure_accrual::Kind::ConsecutiveFailures(failures)) => {
                assert_eq!(failures.max_failures, 5)
            }
            other => panic!("{other:?}"),
        }
    });
}

#[test]
fn well_known_server_first_ports_are_opaque() {
    run(async || {
        let policy = policy_of(&world(), "mysql.demo.svc.cluster.local:3306").await;
        assert!(matches!(policy.protocol.unwrap().kind, Some(Kind::Opaque(_))));
    });
}

#[test]
fn a_grpc_route_makes_the_service_grpc() {
    run(async || {
        let route = "apiVersion: gateway.networking.k8s.io/v1\nkind: GRPCRoute\nmetadata: { name: web, namespace: demo }\nspec:\n  parentRefs:\n  - { group: \"\", kind: Service, name: web }\n  rules:\n  - matches:\n    - method: { service: demo.Echo, method: Get }\n    backendRefs:\n    - { name: web-v1, port: 80 }\n";
        let policy = policy_of(&world().file("route.yaml", route), WEB).await;
        let Some(Kind::Grpc(grpc)) = policy.protocol.unwrap().kind else { panic!("not gRPC") };
        let rpc = grpc.routes[0].rules[0].matches[0].rpc.clone().unwrap();
        assert_eq!((rpc.service.as_str(), rpc.method.as_str()), ("demo.Echo", "Get"));
    });
}

/// The one endpoint of an address that is no Service's.
fn forwarded(policy: &outbound::OutboundPolicy) -> &WeightedAddr {
    let rule = &http1(policy).routes[0].rules[0];
    let Some(http::distribution::Kind::FirstAvailable(only)) = &rule.backends.as_ref().unwrap().kind else {
        panic!("{rule:#?}")
    };
    let backend = only.backends[0].backend.as_ref().unwrap();
    let Some(backend::Kind::Forward(endpoint)) = &backend.kind else { panic!("{backend:#?}") };
    endpoint
}

#[test]
fn what_is_asked_by_a_pods_address_is_answered_with_its_identity_and_its_name() {
    run(async || {
        let (_operator, proxy) = operator(&world()).await;
        let policy = first(&mut proxy.outbound_addr("127.0.1.2:80".parse().unwrap()).await.unwrap()).await;
        let endpoint = forwarded(&policy);
        let identity = "web.demo.serviceaccount.identity.mesh.cluster.local";
        assert!(format!("{:?}", endpoint.tls_identity).contains(identity), "{endpoint:#?}");
        // By these telemetry knows whom the proxy has called.
        let label = |name| endpoint.metric_labels.get(name).map(String::as_str);
        assert_eq!(label("namespace"), Some("demo"), "{endpoint:#?}");
        assert!(label("pod").is_some_and(|pod| pod.starts_with("web")), "{endpoint:#?}");
    });
}

#[test]
fn get_says_once_what_watch_says_first() {
    run(async || {
        let (_operator, proxy) = operator(&world()).await;
        let watched = first(&mut proxy.outbound(WEB).await.unwrap()).await;
        assert_eq!(proxy.outbound_get(Some(Target::Authority(WEB.into()))).await.unwrap(), watched);
    });
}

#[test]
fn an_address_outside_the_mesh_is_forwarded_as_it_is() {
    run(async || {
        let (_operator, proxy) = operator(&world()).await;
        let policy = first(&mut proxy.outbound_addr("192.0.2.7:443".parse().unwrap()).await.unwrap()).await;
        let fallback = meta::metadata::Kind::Default("egress-fallback".into());
        assert_eq!(policy.metadata.as_ref().and_then(|meta| meta.kind.clone()), Some(fallback));
        let endpoint = forwarded(&policy);
        let addr = std::net::SocketAddr::try_from(endpoint.addr.unwrap()).unwrap();
        assert_eq!((addr, endpoint.tls_identity.clone()), ("192.0.2.7:443".parse().unwrap(), None));
    });
}

#[test]
fn targets_that_are_none_are_invalid() {
    run(async || {
        let (_operator, proxy) = operator(&world()).await;
        let addr = |ip, port| Some(Target::Addr(net::TcpAddress { ip, port }));
        let v4 = |ip| Some(net::IpAddress { ip: Some(net::ip_address::Ip::Ipv4(ip)) });
        for (what, target) in [
            ("no target", None),
            ("port 0", addr(v4(0x7f00_0101), 0)),
            ("a port beyond ports", addr(v4(0x7f00_0101), 70_000)),
            ("no IP", addr(None, 80)),
            ("an IP that is empty", addr(Some(net::IpAddress { ip: None }), 80)),
            ("an authority that is empty", Some(Target::Authority(String::new()))),
        ] {
            let status = proxy.outbound_get(target).await.expect_err(what);
            assert_eq!(status.code(), Code::InvalidArgument, "{what}: {status}");
        }
    });
}

#[test]
fn unknown_targets_are_not_found_and_nonsense_is_invalid() {
    run(async || {
        let (_operator, proxy) = operator(&world()).await;
        for (workload, authority, expected) in [
            (r#"{"ns":"demo","pod":"web-v1"}"#, "absent.demo.svc.cluster.local:80", Code::NotFound),
            (r#"{"ns":"demo","pod":"web-v1"}"#, "example.com:80", Code::NotFound),
            ("", WEB, Code::InvalidArgument),
            ("{", WEB, Code::InvalidArgument),
            (r#"{"ns":"demo","pod":"web-v1"}"#, "", Code::InvalidArgument),
            (r#"{"ns":"demo","pod":"web-v1"}"#, "web.demo.svc.cluster.local:99999", Code::InvalidArgument),
        ] {
            let ended = match proxy.as_workload(workload).outbound(authority).await {
                Err(status) => status.code(),
                Ok(mut watch) => match watch.next_or_end().await {
                    Err(status) => status.code(),
                    Ok(answer) => panic!("{workload} {authority}: answered {answer:?}"),
                },
            };
            assert_eq!(ended, expected, "{workload} {authority}");
        }
    });
}

#[test]
fn an_undefined_port_of_a_known_service_is_forbidden() {
    run(async || {
        let policy = policy_of(&world(), "web.demo.svc.cluster.local:81").await;
        let Some(Kind::Opaque(opaque)) = policy.protocol.unwrap().kind else { panic!("not opaque") };
        assert!(format!("{:?}", opaque.routes[0].rules[0].filters).contains("Forbidden"));
    });
}

/// Whatever is wrong with one route, no proxy ever gets a policy that it cannot obey, and other Services are not touched.
#[test]
fn no_broken_route_makes_a_policy_that_a_proxy_refuses() {
    run(async || {
        let bad = [
            split(80, &[("web-v1", 0), ("web-v2", 0)]),
            split(80, &[("absent", 1)]),
            "- backendRefs: []\n".into(),
            "- matches:\n  - path: { type: RegularExpression, value: \"(\" }\n  backendRefs:\n  - { name: web-v1, port: 80 }\n".into(),
            "- filters:\n  - { type: NoSuchFilter }\n  backendRefs:\n  - { name: web-v1, port: 80 }\n".into(),
            "- backendRefs:\n  - { name: web-v1, port: 80, kind: Pod }\n".into(),
            "- backendRefs:\n  - { name: web-v1 }\n".into(),
            "- timeouts: { request: soon }\n  backendRefs:\n  - { name: web-v1, port: 80 }\n".into(),
            "- backendRefs:\n  - { name: web-v1, port: 80, namespace: other }\n".into(),
        ];
        let (operator, proxy) = operator(&world()).await;
        for rules in bad {
            process::save(&operator.manifests().join("route.yaml"), &http_route("demo", "web", 80, &rules));
            // The file is taken or refused at once; either way a new stream shows what proxies are told.
            let seen = operator.manifests().join("seen.yaml");
            process::save(&seen, &http_route("demo", "web-v2", 80, &split(80, &[("web-v1", 7)])));
            let mut other = proxy.outbound("web-v2.demo.svc.cluster.local:80").await.unwrap();
            other
                .until("the marker after the bad file", |policy| {
                    backends(&http1(policy).routes[0].rules[0])
                        .iter()
                        .any(|(path, _)| path.starts_with("web-v1"))
                })
                .await;
            let policy = proxy.outbound(WEB).await.unwrap().next().await;
            assert_eq!(complaints(&policy), Vec::<String>::new(), "{rules}: {policy:#?}");
            std::fs::remove_file(&seen).unwrap();
            other
                .until("the marker to be gone", |policy| {
                    backends(&http1(policy).routes[0].rules[0])
                        .iter()
                        .any(|(path, _)| path.starts_with("web-v2"))
                })
                .await;
        }
    });
}
