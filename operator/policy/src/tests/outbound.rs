//! What outbound proxies are told.

use super::fixture::{SHOP, tables, world};
use crate::{
    Authority, Meta, Place, PortProtocol, PortSet, ProtocolHint, Settings, Tables,
    outbound::{Backend, Policy, Routes, ServicePolicy, Target},
};
use std::time::Duration;

fn with(more: &str) -> Tables {
    tables(&format!("{SHOP}\n---{more}"))
}

fn authority(text: &str) -> Target {
    Target::Authority(Authority::parse(text, "cluster.local").unwrap())
}

fn cart(tables: &Tables, from: &str) -> ServicePolicy {
    match tables.outbound(&authority("cart.shop.svc.cluster.local:80"), from) {
        Some(Policy::Service(policy)) => policy,
        other => panic!("{other:?}"),
    }
}

fn routes(policy: &ServicePolicy) -> Vec<String> {
    let (Routes::Http(routes) | Routes::Grpc(routes)) = &policy.routes;
    routes.iter().map(|route| route.meta.to_string()).collect()
}

fn route(kind: &str, namespace: &str, name: &str, rest: &str) -> String {
    format!(
        "
apiVersion: gateway.networking.k8s.io/v1
kind: {kind}
metadata: {{ name: {name}, namespace: {namespace} }}
spec:
  parentRefs: [{{ group: '', kind: Service, name: cart, namespace: shop }}]
{rest}"
    )
}

#[test]
fn a_service_without_routes_goes_to_itself() {
    let policy = cart(
        &with(&route("HTTPRoute", "shop", "unrelated", "").replace("name: cart,", "name: cart-v1,")),
        "shop",
    );
    insta::assert_yaml_snapshot!(policy);
}

/// The Gateway API asks for ReferenceGrants where a Gateway opens something; a mesh's client can call the other namespace anyway.
#[test]
fn a_backend_in_another_namespace_needs_no_grant() {
    let rest = "  rules: [{ backendRefs: [{ name: cart, namespace: shop, port: 80 }, { name: desk, namespace: other, port: 80 }] }]";
    let desk = "kind: Service\nmetadata: { name: desk, namespace: other }\nspec: { ports: [{ port: 80 }] }";
    let tables = with(&format!("{desk}\n---{}", route("HTTPRoute", "shop", "far", rest)));
    assert!(tables.routes()[0].parents[0].conditions.iter().all(|condition| condition.status));
    let Routes::Http(routes) = cart(&tables, "shop").routes else { panic!("no HTTP") };
    let backends = &routes[0].rules[0].backends;
    let authorities = backends.iter().map(|own| match &own.backend {
        Backend::Service { authority, .. } => authority.as_str(),
        Backend::Invalid { reason, .. } => reason,
    });
    let expected = ["cart.shop.svc.cluster.local:80", "desk.other.svc.cluster.local:80"];
    assert_eq!(authorities.collect::<Vec<_>>(), expected);
}

#[test]
fn services_are_named_in_the_clusters_own_domain() {
    let settings = Settings { cluster_domain: "k8s.example.com".into(), ..Settings::default() };
    let tables = Tables::build(&world(SHOP), &settings);
    let read = |text: &str| Authority::parse(text, &tables.settings().cluster_domain);
    let addrs = |text: &str| {
        tables
            .resolve(&read(text).unwrap(), Place::default())
            .endpoints
            .into_keys()
            .map(|a| a.to_string())
            .collect::<Vec<_>>()
    };
    assert_eq!(addrs("cart.shop.svc.k8s.example.com:80"), ["10.0.0.2:8080"]);
    assert_eq!(addrs("db-0.db.shop.svc.k8s.example.com:5000"), ["10.0.0.4:5000"]);
    assert_eq!(
        tables.endpoints("cart.shop", |_| true).unwrap().authority,
        "cart.shop.svc.k8s.example.com:80"
    );
    let cart = Target::Authority(read("cart.shop.svc.k8s.example.com:80").unwrap());
    let Some(Policy::Service(policy)) = tables.outbound(&cart, "shop") else { panic!("no policy") };
    let Backend::Service { authority, .. } = policy.backend else { panic!("no Service") };
    assert_eq!(authority, "cart.shop.svc.k8s.example.com:80");
    assert!(read("cart.shop.svc.cluster.local:80").is_err());
}

#[test]
fn who_asks_for_the_endpoints_of_an_external_name_is_told_why_there_are_none() {
    let tables = Tables::build(&world(SHOP), &Settings::default());
    assert!(tables.endpoints("elsewhere.shop:80", |_| true).unwrap_err().contains("elsewhere.shop"));
    assert!(!tables.endpoints("nobody.shop:80", |_| true).unwrap().exists);
    // In the words of who asks, not in full.
    assert!(tables.endpoints("cart", |_| true).unwrap_err().starts_with("\"cart\" is not of the form"));
}

/// Slices that people write name no Pod; their addresses are found among the Pods of all namespaces.
#[test]
fn an_address_in_a_namespace_that_is_not_seen_is_an_address_and_no_more() {
    let slice = "kind: EndpointSlice
metadata: { name: cart-v1-own, namespace: shop, labels: { kubernetes.io/service-name: cart-v1 } }
addressType: IPv4
ports: [{ name: http, port: 8080 }]
endpoints: [{ addresses: [10.0.0.6], hostname: far }]";
    let tables = with(slice);
    let seen = |sees: fn(&str) -> bool| {
        let endpoint = tables.endpoints("cart-v1.shop:80", sees).unwrap().endpoints.pop().unwrap();
        assert_eq!(endpoint.addr, "10.0.0.6:8080");
        let told = tables.outbound_json("far.cart-v1.shop:80", "shop", sees).unwrap();
        assert_eq!(told["endpoint"]["addr"], "10.0.0.6:8080");
        let known = (endpoint.identity.is_some(), told["endpoint"]["identity"].is_string());
        (endpoint.pod, endpoint.workload, told["endpoint"]["pod"].as_str().unwrap().to_owned(), known)
    };
    let [guest, whole] = ["guest", "other/guest"].map(str::to_owned);
    assert_eq!(seen(|_| true), (whole, guest.clone(), guest, (true, true)));
    assert_eq!(seen(|namespace| namespace == "shop"), Default::default());
}

#[test]
fn weights_filters_timeouts_and_retries() {
    let tables = with(&route(
        "HTTPRoute",
        "shop",
        "split",
        r"
  rules:
  - matches:
    - path: { type: Exact, value: /buy }
      method: POST
      headers: [{ name: End-User, value: jason }, { name: end-user, value: ignored }]
      queryParams: [{ name: q, type: RegularExpression, value: 'a+' }]
    filters:
    - { type: RequestHeaderModifier, requestHeaderModifier: { set: [{ name: X-A, value: '1' }], remove: [x-b] } }
    backendRefs:
    - { name: cart-v1, port: 80, weight: 90 }
    - { name: cart-v2, port: 80, weight: 10, filters: [{ type: ResponseHeaderModifier, responseHeaderModifier: { add: [{ name: x-v, value: v2 }] } }] }
    - { name: missing, port: 80, weight: 0 }
    timeouts: { request: 1s, backendRequest: 300ms }
    retry: { attempts: 2, codes: [500, 503], backoff: 10ms }
  - filters:
    - { type: RequestRedirect, requestRedirect: { scheme: https, hostname: shop.example, statusCode: 301 } }
",
    ));
    insta::assert_yaml_snapshot!(cart(&tables, "shop"));
    insta::assert_yaml_snapshot!("weights_filters_timeouts_and_retries_view", tables.routes());
}

#[test]
fn a_route_that_goes_nowhere_says_why() {
    let tables = with(&route(
        "HTTPRoute",
        "shop",
        "nowhere",
        "  rules: [{ backendRefs: [{ name: cart-v1, port: 80, weight: 0 }, { name: missing, port: 80, weight: 0 }] }]",
    ));
    let Routes::Http(routes) = cart(&tables, "shop").routes else { panic!() };
    let [only] = &routes[0].rules[0].backends[..] else { panic!() };
    assert!(
        matches!(&only.backend, Backend::Invalid { reason, .. } if reason == "every backend has weight 0")
    );
}

#[test]
fn consumers_replace_what_producers_offer_for_themselves_only() {
    let tables = with(
        &[
            route("HTTPRoute", "shop", "producer", "  rules: [{}]"),
            route("HTTPRoute", "other", "consumer", "  rules: [{}]"),
        ]
        .join("\n---"),
    );
    assert_eq!(routes(&cart(&tables, "shop")), ["HTTPRoute shop/producer"]);
    assert_eq!(routes(&cart(&tables, "other")), ["HTTPRoute other/consumer"]);
    assert_eq!(routes(&cart(&tables, "third")), ["HTTPRoute shop/producer"]);
}

#[test]
fn grpc_routes_win_over_http_routes_of_their_group() {
    let tables = with(
        &[
            route("HTTPRoute", "shop", "http", "  rules: [{}]"),
            route(
                "GRPCRoute",
                "shop",
                "grpc",
                "  rules: [{ matches: [{ method: { service: a.B, method: C } }] }]",
            ),
            route("HTTPRoute", "other", "theirs", "  rules: [{}]"),
        ]
        .join("\n---"),
    );
    assert_eq!(routes(&cart(&tables, "shop")), ["GRPCRoute shop/grpc"]);
    assert_eq!(routes(&cart(&tables, "other")), ["HTTPRoute other/theirs"]);
    let lost = tables.routes().into_iter().find(|route| route.name == "http").unwrap();
    assert_eq!(lost.parents[0].conditions[0].reason, "RouteReasonConflicted");
}

#[test]
fn annotations_of_services_and_routes() {
    let annotated = SHOP.replace(
        "metadata: { name: cart, namespace: shop }",
        "metadata: { name: cart, namespace: shop, annotations: { mesh.dev/failure-accrual: consecutive, \
         mesh.dev/failure-accrual-max-failures: '3', mesh.dev/retry-http: '5xx,429', mesh.dev/retry-limit: '2', \
         mesh.dev/timeout-request: 2s, mesh.dev/retry-timeout: soon } }",
    );
    let tables = tables(&annotated);
    let policy = cart(&tables, "shop");
    assert_eq!(policy.failure_accrual.as_ref().map(|accrual| accrual.max_failures), Some(3));
    let Routes::Http(routes) = &policy.routes else { panic!() };
    let rule = &routes[0].rules[0];
    assert_eq!(rule.timeouts.request, Some(Duration::from_secs(2)));
    assert_eq!(rule.retry.as_ref().map(|retry| retry.limit), Some(2));
    let said: Vec<String> = tables.diagnostics().iter().map(ToString::to_string).collect();
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(
        said[0].starts_with("Service shop/cart: annotation mesh.dev/retry-timeout is ignored"),
        "{said:?}"
    );
}

/// "None" is something to say, and a route that says it is nearer than its Service.
#[test]
fn a_route_may_take_back_what_its_service_asks_for() {
    let service = SHOP.replace(
        "metadata: { name: cart, namespace: shop }",
        "metadata: { name: cart, namespace: shop, annotations: { mesh.dev/retry-http: 5xx, mesh.dev/retry-grpc: internal, \
         mesh.dev/timeout-request: 2s } }",
    );
    let first = |kind: &str, annotations: &str, rule: &str| {
        let route = route(kind, "shop", "own", &format!("  rules: [{{ {rule} }}]"));
        let route = route.replace(
            "namespace: shop }\nspec",
            &format!("namespace: shop, annotations: {{ {annotations} }} }}\nspec"),
        );
        let tables = tables(&format!("{service}\n---{route}"));
        let (Routes::Http(routes) | Routes::Grpc(routes)) = cart(&tables, "shop").routes;
        let rule = &routes[0].rules[0];
        (rule.timeouts.request.map(|limit| limit.as_secs()), rule.retry.as_ref().map(|retry| retry.limit))
    };
    for kind in ["HTTPRoute", "GRPCRoute"] {
        assert_eq!(first(kind, "", ""), (Some(2), Some(1)), "{kind}: the Service's");
        assert_eq!(first(kind, "mesh.dev/timeout-request: 0s", ""), (None, Some(1)), "{kind}");
        assert_eq!(first(kind, "mesh.dev/retry-limit: '0'", ""), (Some(2), None), "{kind}");
    }
    let http = |rule: &str| first("HTTPRoute", "", rule);
    assert_eq!(http("timeouts: { request: 0s }"), (None, Some(1)));
    assert_eq!(http("timeouts: { backendRequest: 1s }"), (Some(2), Some(1)));
    assert_eq!(http("retry: { attempts: 0 }"), (Some(2), None));
    assert_eq!(http("retry: { attempts: 3 }"), (Some(2), Some(3)));
}

/// What is not known to be unmeshed is not called in plaintext.
#[test]
fn an_endpoint_is_the_pod_that_it_names() {
    let endpoints = |more: &str, target: &str| {
        let named = SHOP.replace(
            "{ addresses: [10.0.0.2], conditions: { ready: true } }",
            &format!("{{ addresses: [10.0.0.2], conditions: {{ ready: true }}, targetRef: {target} }}"),
        );
        let tables = tables(&format!("{named}{more}"));
        let cart = Authority::parse("cart.shop.svc.cluster.local", "cluster.local").unwrap();
        let endpoints = tables.resolve(&cart, Place::default()).endpoints.into_values();
        endpoints.map(|own| (own.pod.clone(), own.identity.is_some())).collect::<Vec<_>>()
    };
    let twin = "---
apiVersion: v1
kind: Pod
metadata: { name: left-over, namespace: other }
spec: { containers: [] }
status: { podIP: 10.0.0.2 }";
    let cart = vec![("cart-1".to_owned(), true)];
    assert_eq!(endpoints("", "{ kind: Pod, name: cart-1 }"), cart);
    assert_eq!(endpoints("", "{ kind: Pod, name: cart-9 }"), [], "not heard of yet");
    assert_eq!(endpoints(twin, "{ kind: Pod, name: cart-1 }"), cart, "whoever else claims its address");
    assert_eq!(endpoints("", "{ kind: Host, name: h }"), cart, "by its address");

    let named = SHOP.replace("hostname: db-0 }", "hostname: db-0, targetRef: { kind: Pod, name: db-0 } }");
    let tables = tables(&format!("{named}{}", twin.replace("10.0.0.2", "10.0.0.4")));
    let one = tables.outbound(&authority("db-0.db.shop.svc.cluster.local:5000"), "shop");
    let Some(Policy::Forward(one)) = one else { panic!("{one:?}") };
    assert!(one.endpoint.identity.is_some() && one.opaque, "{one:?}");
}

#[test]
fn the_case_of_app_protocol_does_not_matter() {
    let of = |text: &str| {
        let port = format!("{{ name: http, port: 80, targetPort: web, appProtocol: {text} }}");
        let tables = tables(&SHOP.replacen("{ name: http, port: 80, targetPort: web }", &port, 1));
        tables.service("shop", "cart").unwrap().ports[0].protocol
    };
    assert_eq!((of("HTTP"), of("http")), (PortProtocol::Http1, PortProtocol::Http1));
    assert_eq!((of("Http2"), of("gRPC")), (PortProtocol::Http2, PortProtocol::Http2));
    assert_eq!(of("tcp"), PortProtocol::Opaque);
}

#[test]
fn what_one_owner_runs_is_one_workload() {
    let workload = |owner: &str, labels: &str| {
        let yaml = format!(
            "kind: Pod
metadata: {{ name: p, namespace: shop, labels: {{ {labels} }}, ownerReferences: [{{ apiVersion: v1, {owner}, uid: u, controller: true }}] }}
spec: {{ containers: [] }}
status: {{ podIP: 10.0.0.4 }}"
        );
        tables(&yaml).pods()[0].workload.clone()
    };
    assert_eq!(workload("kind: ReplicaSet, name: web-5d8f", "pod-template-hash: 5d8f"), "web");
    assert_eq!(workload("kind: ReplicaSet, name: web-7c9b", "rollouts-pod-template-hash: 7c9b"), "web");
    assert_eq!(workload("kind: ReplicaSet, name: web-5d8f", ""), "web-5d8f");
    assert_eq!(workload("kind: Job, name: backup-29384756", ""), "backup");
    assert_eq!(workload("kind: Job, name: migrate-2", ""), "migrate-2");
    assert_eq!(workload("kind: StatefulSet, name: db", "pod-template-hash: 5d8f"), "db");
}

#[test]
fn addresses() {
    let tables = tables(SHOP);
    let at = |addr: &str| tables.outbound(&Target::Addr(addr.parse().unwrap()), "shop").unwrap();
    assert!(matches!(at("10.96.0.1:80"), Policy::Service(_)));
    assert_eq!(at("10.96.0.1:7"), Policy::UndefinedPort { port: 7 });
    let Policy::Forward(pod) = at("10.0.0.2:8080") else { panic!() };
    assert_eq!(pod.meta, Meta::Default("pod"));
    assert_eq!(
        pod.endpoint.identity.as_deref(),
        Some("cart.shop.serviceaccount.identity.mesh.cluster.local")
    );
    assert_eq!((pod.endpoint.hint, pod.endpoint.opaque_transport_port), (ProtocolHint::H2, Some(4143)));
    let Policy::Forward(admin) = at("10.0.0.2:4191") else { panic!() };
    assert_eq!((admin.endpoint.identity, admin.endpoint.opaque_transport_port), (None, None));
    let Policy::Forward(plain) = at("10.0.0.5:80") else { panic!() };
    assert_eq!((plain.endpoint.identity, plain.endpoint.hint), (None, ProtocolHint::None));
    let Policy::Forward(unknown) = at("192.0.2.1:443") else { panic!() };
    assert_eq!((unknown.meta, unknown.endpoint.identity), (Meta::Default("egress-fallback"), None));
}

/// A proxy that is not redirected to cannot answer with its identity.
#[test]
fn ports_that_bypass_their_proxy_are_reached_without_it() {
    let of = |annotation: &str| {
        let yaml = format!(
            "kind: Namespace
metadata: {{ name: shop, annotations: {{ mesh.dev/skip-inbound-ports: '7000' }} }}
---
kind: Pod
metadata: {{ name: db-0, namespace: shop, labels: {{ mesh.dev/control-plane-ns: mesh }}, annotations: {{ {annotation} }} }}
spec: {{ containers: [] }}
status: {{ podIP: 10.0.0.4 }}"
        );
        let tables = tables(&yaml);
        [5500, 5502, 7000].map(|port| {
            let endpoint = tables.endpoint_at((std::net::Ipv4Addr::new(10, 0, 0, 4), port).into());
            let (proxied, transport) =
                (endpoint.identity.is_some(), endpoint.opaque_transport_port.is_some());
            assert!(proxied == transport && proxied == (endpoint.hint == ProtocolHint::H2), "{endpoint:?}");
            proxied
        })
    };
    assert_eq!(of(""), [true, true, false], "the Namespace's");
    assert_eq!(of("mesh.dev/skip-inbound-ports: '25,5500-5501'"), [false, true, true], "its own");
    assert_eq!(of("mesh.dev/skip-inbound-ports: ''"), [true; 3]);
}

#[test]
fn names_that_are_no_cluster_ip_services() {
    let tables = tables(SHOP);
    assert_eq!(tables.outbound(&authority("elsewhere.shop.svc.cluster.local:80"), "shop"), None);
    assert_eq!(tables.outbound(&authority("nobody.shop.svc.cluster.local:80"), "shop"), None);
    let Some(Policy::Service(db)) = tables.outbound(&authority("db.shop.svc.cluster.local:5000"), "shop")
    else {
        panic!()
    };
    assert_eq!(db.protocol, crate::PortProtocol::Opaque);
    let one = tables.outbound(&authority("db-0.db.shop.svc.cluster.local:5000"), "shop");
    let Some(Policy::Forward(one)) = one else { panic!("{one:?}") };
    assert_eq!((one.endpoint.pod.as_str(), one.opaque), ("db-0", true));
    assert_eq!(one.endpoint.hint, ProtocolHint::Opaque);
}

#[test]
fn of_several_lists_of_opaque_ports_the_nearest_counts() {
    // Whether clients forward the Service's port 5432 unread, and the Pod its port 7000, to which that leads.
    let unread = |flag: &str, namespace: &str, service: &str, app_protocol: &str, pod: &str| {
        let yaml = format!(
            "kind: Namespace
metadata: {{ name: shop, annotations: {{ {namespace} }} }}
---
kind: Service
metadata: {{ name: db, namespace: shop, annotations: {{ {service} }} }}
spec: {{ selector: {{ app: db }}, ports: [{{ port: 5432, targetPort: sql, {app_protocol} }}] }}
---
kind: Pod
metadata: {{ name: db-0, namespace: shop, labels: {{ app: db }}, annotations: {{ {pod} }} }}
spec: {{ containers: [{{ name: a, ports: [{{ name: sql, containerPort: 7000 }}] }}] }}
status: {{ podIP: 10.0.0.4 }}"
        );
        let settings = Settings { opaque_ports: PortSet::parse(flag).0, ..Settings::default() };
        let tables = Tables::build(&world(&yaml), &settings);
        let client = tables.service("shop", "db").unwrap().ports[0].protocol == PortProtocol::Opaque;
        (client, tables.is_opaque(tables.pod("shop", "db-0").unwrap(), 7000))
    };
    let (both, none) = ("mesh.dev/opaque-ports: '5432,7000'", "mesh.dev/opaque-ports: ''");
    assert_eq!(unread("5432", "", "", "", ""), (true, true), "the flag, by the Service's port");
    assert_eq!(unread("7000", "", "", "", ""), (false, true), "the flag, by the Pod's port");
    assert_eq!(unread("", "", "", "", ""), (false, false), "an empty flag");
    assert_eq!(unread("5432,7000", none, "", "", ""), (false, false), "the Namespace before the flag");
    assert_eq!(unread("", both, "", "", ""), (true, true), "the Namespace");
    assert_eq!(unread("7000", both, none, "", ""), (false, false), "the Service before all but its Pod");
    assert_eq!(unread("7000", both, "", "appProtocol: http", ""), (false, false), "its appProtocol too");
    assert_eq!(
        unread("", none, "", "appProtocol: mysql", ""),
        (true, true),
        "an appProtocol that is no HTTP"
    );
    assert_eq!(
        unread("", "", both, "appProtocol: http", ""),
        (true, true),
        "the list before the appProtocol"
    );
    assert_eq!(unread("", both, both, "", none), (true, false), "the Pod decides about its own ports");
    assert_eq!(unread("", none, none, "", both), (false, true), "the Pod, the other way");
}

#[test]
fn a_port_that_is_forwarded_unread_on_one_side_only_is_found() {
    let found = |service: &str, pod: &str| {
        let yaml = format!(
            "kind: Service
metadata: {{ name: db, namespace: shop, annotations: {{ {service} }} }}
spec: {{ selector: {{ app: db }}, ports: [{{ port: 7000, targetPort: sql }}] }}
---
kind: Pod
metadata: {{ name: db-0, namespace: shop, labels: {{ app: db, mesh.dev/control-plane-ns: mesh }}, annotations: {{ {pod} }} }}
spec: {{ containers: [{{ name: a, ports: [{{ name: sql, containerPort: 7001 }}] }}] }}
status: {{ podIP: 10.0.0.4 }}"
        );
        tables(&yaml).half_opaque(|_| true)
    };
    let annotation = "mesh.dev/opaque-ports: '7000,7001'";
    let finding = |does: &str| vec![format!("Service shop/db port 7000: Pod shop/db-0 {does}")];
    assert_eq!(found("", annotation), finding("forwards it unread, clients read it"));
    assert_eq!(
        found(annotation, "mesh.dev/opaque-ports: '9'"),
        finding("reads it, clients forward it unread")
    );
    assert!(found(annotation, annotation).is_empty() && found(annotation, "").is_empty());
    assert!(found("", "mesh.dev/opaque-ports: '9'").is_empty());
}

/// By kube-proxy's rule.
#[test]
fn where_no_endpoint_is_ready_those_that_are_ending_serve() {
    let ready = "conditions: { ready: true, serving: true, terminating: false }";
    let ending = "conditions: { ready: false, serving: true, terminating: true }";
    let not_ready = "conditions: { ready: false, serving: false, terminating: false }";
    let ended = "conditions: { ready: false, serving: false, terminating: true }";
    let silent = "conditions: { ready: false, terminating: true }";
    for (first, second, expected) in [
        (ready, ready, vec!["10.0.0.2", "10.0.0.3"]),
        (ready, ending, vec!["10.0.0.2"]),
        (ending, ending, vec!["10.0.0.2", "10.0.0.3"]),
        (not_ready, ending, vec!["10.0.0.3"]),
        (ended, ending, vec!["10.0.0.3"]),
        (silent, not_ready, vec![]),
        (ended, not_ready, vec![]),
    ] {
        let world = SHOP
            .replace("10.0.0.2], conditions: { ready: true }", &format!("10.0.0.2], {first}"))
            .replace("10.0.0.3], conditions: { ready: false }", &format!("10.0.0.3], {second}"));
        let cart = Authority::parse("cart.shop.svc.cluster.local", "cluster.local").unwrap();
        let endpoints = tables(&world).resolve(&cart, Place::default()).endpoints;
        let found: Vec<String> = endpoints.keys().map(|addr| addr.ip().to_string()).collect();
        assert_eq!(found, expected, "{first}, {second}");
    }
}
