//! Messages in, policy or the path of what is wrong out.

use super::{endpoint, fixture::*, inbound, outbound};
use crate::policy::{
    endpoint::ProtocolHint,
    http::{Filter, PathMatch, RequestMatch, ValueMatch},
    inbound::Authentication,
    outbound::{BackendKind, Distribution, HttpRule, Policy, Protocol},
};
use linkerd2_proxy_api::{
    grpc_route::{GrpcRouteMatch, GrpcRpcMatch},
    http_route::{
        self as matches, HeaderMatch, HttpRouteMatch, PathMatch as ApiPath, header_match, path_match,
    },
    http_types, inbound as inbound_api,
    outbound::{self as api, grpc_route, http_route, proxy_protocol},
};
use prost::Message as _;
use std::{collections::HashMap, sync::Arc};

fn refused(message: api::OutboundPolicy) -> String {
    outbound::policy(message).unwrap_err().to_string()
}

/// The only HTTP/1 rule of a policy.
fn rule(message: api::OutboundPolicy) -> HttpRule {
    let Policy { protocol: Protocol::Detect { mut http1, .. }, .. } = outbound::policy(message).unwrap()
    else {
        panic!("not detected")
    };
    http1.routes.remove(0).rules.remove(0)
}

fn only_match(request_match: HttpRouteMatch) -> Result<RequestMatch, String> {
    let message = with_rule(http_route::Rule { matches: vec![request_match], ..http_rule() });
    match outbound::policy(message.clone()) {
        Ok(_) => Ok(rule(message).matches.remove(0)),
        Err(invalid) => Err(invalid.to_string()),
    }
}

fn path(kind: path_match::Kind) -> HttpRouteMatch {
    HttpRouteMatch { path: Some(ApiPath { kind: Some(kind) }), ..Default::default() }
}

#[test]
fn a_service_without_routes() {
    let policy = outbound::policy(outbound_policy()).unwrap();
    assert_eq!((&*policy.meta.kind, &*policy.meta.name, policy.meta.port), ("Service", "web", Some(80)));
    let Protocol::Detect { http1, http2, opaque, .. } = policy.protocol else { panic!("not detected") };
    let Distribution::FirstAvailable(h1) = &http1.routes[0].rules[0].backends else { panic!() };
    let Distribution::FirstAvailable(h2) = &http2.routes[0].rules[0].backends else { panic!() };
    let Distribution::FirstAvailable(tcp) = &opaque.backends else { panic!() };
    assert!(matches!(&h1[0].backend.kind, BackendKind::Balance { path, .. } if &**path == PATH));
    // One backend is one balancer, whichever protocol comes.
    assert!(Arc::ptr_eq(&h1[0].backend, &h2[0].backend) && Arc::ptr_eq(&h1[0].backend, &tcp[0].backend));
}

#[test]
fn what_a_policy_must_not_lack() {
    let with = |change: &dyn Fn(&mut api::OutboundPolicy)| {
        let mut message = outbound_policy();
        change(&mut message);
        refused(message)
    };
    let with_detect = |change: &dyn Fn(&mut proxy_protocol::Detect)| {
        let mut detect = detect();
        change(&mut detect);
        refused(policy_of(proxy_protocol::Kind::Detect(detect)))
    };
    let with_backend = |change: &dyn Fn(&mut api::Backend)| {
        let mut backend = backend();
        change(&mut backend);
        let rule = http_route::Rule {
            backends: first_available(http_route::RouteBackend {
                backend: Some(backend),
                ..Default::default()
            }),
            ..http_rule()
        };
        refused(with_rule(rule))
    };
    let all = [
        with(&|policy| policy.metadata = None),
        with(&|policy| policy.protocol = None),
        with_detect(&|detect| detect.timeout = None),
        with_detect(&|detect| detect.http1 = None),
        with_detect(&|detect| detect.opaque = None),
        with_detect(&|detect| detect.opaque.as_mut().unwrap().routes[0].rules.clear()),
        with_detect(&|detect| {
            let opaque = detect.opaque.as_mut().unwrap();
            opaque.routes.push(opaque.routes[0].clone());
        }),
        with_detect(&|detect| detect.http2.as_mut().unwrap().routes[0].metadata = None),
        with_backend(&|backend| backend.metadata = None),
        with_backend(&|backend| backend.queue = None),
        with_backend(&|backend| backend.queue.as_mut().unwrap().failfast_timeout = None),
        refused(with_rule(http_route::Rule { backends: None, ..http_rule() })),
        refused(with_rule(http_route::Rule { retry: Some(http_route::Retry::default()), ..http_rule() })),
    ];
    insta::assert_yaml_snapshot!(all, @r#"
    - "metadata: missing"
    - "protocol: missing"
    - "protocol.timeout: missing"
    - "protocol.http1: missing"
    - "protocol.opaque: missing"
    - "protocol.opaque.rules: missing"
    - "protocol.opaque.routes: 2 routes, want one"
    - "protocol.http2.routes[0].metadata: missing"
    - "protocol.http1.routes[0].rules[0].backends.backends[0].backend.metadata: missing"
    - "protocol.http1.routes[0].rules[0].backends.backends[0].backend.queue: missing"
    - "protocol.http1.routes[0].rules[0].backends.backends[0].backend.queue.failfast_timeout: missing"
    - "protocol.http1.routes[0].rules[0].backends.kind: missing"
    - "protocol.http1.routes[0].rules[0].retry.conditions: missing"
    "#);
}

#[test]
fn a_backend_of_no_kind_is_one_that_fails() {
    let backend = api::Backend { kind: None, ..backend() };
    let backends = first_available(http_route::RouteBackend { backend: Some(backend), ..Default::default() });
    let Distribution::FirstAvailable(backends) =
        rule(with_rule(http_route::Rule { backends, ..http_rule() })).backends
    else {
        panic!()
    };
    assert!(matches!(backends[0].backend.kind, BackendKind::Invalid));
}

fn weighted(weights: &[u32]) -> Distribution {
    let backends = weights
        .iter()
        .map(|weight| http_route::WeightedRouteBackend { backend: Some(route_backend()), weight: *weight })
        .collect();
    let kind = http_route::distribution::Kind::RandomAvailable(http_route::distribution::RandomAvailable {
        backends,
    });
    let backends = Some(http_route::Distribution { kind: Some(kind) });
    rule(with_rule(http_route::Rule { backends, ..http_rule() })).backends
}

#[test]
fn weights_of_zero_are_dropped_and_all_zero_routes_nowhere() {
    let Distribution::RandomAvailable(backends) = weighted(&[90, 0, 10]) else { panic!() };
    assert_eq!(backends.iter().map(|(_, weight)| *weight).collect::<Vec<_>>(), [90, 10]);
    assert!(matches!(weighted(&[0, 0]), Distribution::Empty));
}

#[test]
fn regular_expressions_are_anchored_and_bounded() {
    let PathMatch::Regex(regex) = only_match(path(path_match::Kind::Regex("/a|/b".into()))).unwrap().path
    else {
        panic!()
    };
    assert!(regex.is_match("/b") && !regex.is_match("/bc") && !regex.is_match("/x/a"));
    let huge = only_match(path(path_match::Kind::Regex("(a{1000}){1000}".into()))).unwrap_err();
    assert!(huge.contains("too large"), "{huge}");
    let broken = only_match(path(path_match::Kind::Regex("(".into()))).unwrap_err();
    assert!(
        broken.ends_with(
            "protocol.http1.routes[0].rules[0].matches[0].path: \"(\" is not a regular expression"
        ),
        "{broken}"
    );
}

#[test]
fn header_values_are_matched_as_bytes() {
    let header = HeaderMatch { name: "X-User".into(), value: Some(header_match::Value::Exact(vec![0xff])) };
    let decoded = only_match(HttpRouteMatch { headers: vec![header], ..Default::default() }).unwrap();
    assert!(matches!(&decoded.headers[0].value, ValueMatch::Exact(bytes) if bytes == &[0xff]));
    assert_eq!(decoded.headers[0].name, "x-user");
    let bad = HeaderMatch { name: "x user".into(), value: Some(header_match::Value::Exact(vec![])) };
    assert!(only_match(HttpRouteMatch { headers: vec![bad], ..Default::default() }).is_err());
}

#[test]
fn an_rpc_is_a_path() {
    let path = |service: &str, method: &str| {
        let route = api::GrpcRoute {
            metadata: default_metadata("grpc"),
            hosts: vec![],
            rules: vec![grpc_route::Rule {
                matches: vec![GrpcRouteMatch {
                    rpc: Some(GrpcRpcMatch { service: service.into(), method: method.into() }),
                    headers: vec![],
                }],
                backends: Some(grpc_route::Distribution {
                    kind: Some(grpc_route::distribution::Kind::Empty(grpc_route::distribution::Empty {})),
                }),
                ..Default::default()
            }],
        };
        let grpc = proxy_protocol::Grpc { routes: vec![route], failure_accrual: None };
        let policy = outbound::policy(policy_of(proxy_protocol::Kind::Grpc(grpc))).unwrap();
        let Protocol::Grpc(mut http) = policy.protocol else { panic!() };
        http.routes.remove(0).rules.remove(0).matches.remove(0).path
    };
    assert!(matches!(path("pkg.Echo", "Say"), PathMatch::Exact(path) if path == "/pkg.Echo/Say"));
    assert!(matches!(path("pkg.Echo", ""), PathMatch::Prefix(path) if path == "/pkg.Echo"));
    assert!(
        matches!(path("", "Say"), PathMatch::Regex(regex) if regex.is_match("/any/Say") && !regex.is_match("/a/b/Say"))
    );
    assert!(matches!(path("", ""), PathMatch::Prefix(path) if path == "/"));
}

#[test]
fn filters_keep_their_direction() {
    let headers = |name: &str| {
        Some(http_types::Headers {
            headers: vec![http_types::headers::Header { name: name.into(), value: b"1".to_vec() }],
        })
    };
    let filter = |kind| http_route::Filter { kind: Some(kind) };
    let filters = vec![
        filter(http_route::filter::Kind::RequestHeaderModifier(matches::RequestHeaderModifier {
            add: headers("x-request"),
            ..Default::default()
        })),
        filter(http_route::filter::Kind::ResponseHeaderModifier(matches::ResponseHeaderModifier {
            set: headers("x-response"),
            ..Default::default()
        })),
        filter(http_route::filter::Kind::Redirect(matches::RequestRedirect::default())),
        filter(http_route::filter::Kind::FailureInjector(matches::HttpFailureInjector {
            status: 503,
            message: "down".into(),
            ratio: None,
        })),
    ];
    let rule = rule(with_rule(http_route::Rule { filters, ..http_rule() }));
    let [
        Filter::RequestHeaders(request),
        Filter::ResponseHeaders(response),
        Filter::Redirect(redirect),
        Filter::FailHttp { ratio, .. },
    ] = rule.filters.as_slice()
    else {
        panic!("{:?}", rule.filters)
    };
    assert_eq!((request.add.len(), request.set.len()), (1, 0));
    assert_eq!((response.add.len(), response.set.len()), (0, 1));
    assert_eq!(redirect.status, 301);
    assert_eq!((ratio.numerator, ratio.denominator), (1, 1));
}

#[test]
fn a_meshed_endpoint() {
    let set_labels = [("namespace".to_owned(), "demo".to_owned()), ("pod".to_owned(), "?".to_owned())].into();
    let endpoint = endpoint::endpoint(endpoint("10.0.0.1:80"), &set_labels).unwrap();
    assert_eq!(&*endpoint.tls.unwrap().identity, WEB);
    assert_eq!((endpoint.hint, endpoint.opaque_transport_port), (ProtocolHint::Http2, Some(4143)));
    let labels: Vec<_> = endpoint.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
    assert_eq!(labels, ["namespace=demo", "pod=web-0"]);
}

#[test]
fn an_endpoint_whose_identity_cannot_be_checked_is_none() {
    use linkerd2_proxy_api::destination::{WeightedAddr, tls_identity::*};
    let with_strategy = |server_name: &str, strategy| {
        let mut addr: WeightedAddr = endpoint("10.0.0.1:80");
        let tls = addr.tls_identity.as_mut().unwrap();
        tls.server_name = Some(DnsLikeIdentity { name: server_name.into() });
        tls.strategy = strategy;
        endpoint::endpoint(addr, &HashMap::new()).map_err(|invalid| invalid.to_string())
    };
    let dns = |name: &str| Some(Strategy::DnsLikeIdentity(DnsLikeIdentity { name: name.into() }));
    let uri = Some(Strategy::UriLikeIdentity(UriLikeIdentity { uri: "spiffe://mesh/web".into() }));
    assert!(with_strategy(WEB, dns(WEB)).is_ok());
    for (name, strategy) in [
        (WEB, None),
        (WEB, uri),
        (WEB, dns("other.demo")),
        ("not a name", dns("not a name")),
        ("10.0.0.1", dns("10.0.0.1")),
    ] {
        assert!(with_strategy(name, strategy.clone()).is_err(), "{name} {strategy:?}");
    }
}

#[test]
fn ports_are_not_cut_to_sixteen_bits() {
    for port in [0, 65_536, 65_616] {
        let mut addr = endpoint("10.0.0.1:80");
        addr.addr.as_mut().unwrap().port = port;
        assert!(endpoint::endpoint(addr, &HashMap::new()).is_err(), "{port}");
    }
}

#[test]
fn a_port_for_meshed_clients() {
    let policy = inbound::policy(server()).unwrap();
    let [authorization] = &*policy.authorizations else { panic!() };
    assert_eq!(
        authorization.authentication,
        Authentication::TlsAuthenticated { identities: vec![], suffixes: vec!["".into()] }
    );
    assert!(!authorization.audit);
    let crate::policy::inbound::Protocol::Detect { routes, .. } = &policy.protocol else { panic!() };
    assert_eq!(&*routes[0].meta.name, "default");
}

#[test]
fn what_a_port_must_not_lack() {
    let with = |change: &dyn Fn(&mut inbound_api::Server)| {
        let mut message = server();
        change(&mut message);
        inbound::policy(message).unwrap_err().to_string()
    };
    let all = [
        with(&|server| server.protocol = None),
        with(&|server| server.labels.clear()),
        with(&|server| server.authorizations[0].networks.clear()),
        with(&|server| server.authorizations[0].authentication = None),
        with(&|server| server.authorizations[0].networks[0].net.as_mut().unwrap().prefix_len = 33),
    ];
    insta::assert_yaml_snapshot!(all, @r#"
    - "protocol: missing"
    - "labels.name: missing"
    - "authorizations[0].networks: missing"
    - "authorizations[0].authentication.permit: missing"
    - "authorizations[0].networks[0]: invalid network prefix length"
    "#);
}

#[test]
fn suffixes_begin_at_a_dot() {
    let mut message = server();
    let clients = inbound_api::authn::permit_mesh_tls::Clients::Identities(
        inbound_api::authn::permit_mesh_tls::PermitClientIdentities {
            identities: vec![],
            suffixes: vec![inbound_api::IdentitySuffix { parts: vec!["demo".into(), "mesh".into()] }],
        },
    );
    let permit =
        inbound_api::authn::Permit::MeshTls(inbound_api::authn::PermitMeshTls { clients: Some(clients) });
    message.authorizations[0].authentication = Some(inbound_api::Authn { permit: Some(permit) });
    let policy = inbound::policy(message).unwrap();
    assert_eq!(
        policy.authorizations[0].authentication,
        Authentication::TlsAuthenticated { identities: vec![], suffixes: vec![".demo.mesh".into()] }
    );
}

/// One field of a good message, by its place in the encoding, replaced by anything.
fn damaged(mut bytes: Vec<u8>, at: usize, with: u8) -> Vec<u8> {
    let at = at % bytes.len();
    bytes[at] = with;
    bytes
}

proptest::proptest! {
    #[test]
    fn damaged_messages_never_make_the_decoder_panic(at in 0usize..4_096, with in proptest::num::u8::ANY) {
        if let Ok(message) = api::OutboundPolicy::decode(&*damaged(outbound_policy().encode_to_vec(), at, with)) {
            let _ = outbound::policy(message);
        }
        if let Ok(message) = inbound_api::Server::decode(&*damaged(server().encode_to_vec(), at, with)) {
            let _ = inbound::policy(message);
        }
    }

    /// Whatever is allowed is allowed because a message said so: without authorizations, nobody.
    #[test]
    fn no_authorization_is_made_up(count in 0usize..4) {
        let mut message = server();
        message.authorizations = (0..count).map(|_| authz("all-authenticated")).collect();
        proptest::prop_assert_eq!(inbound::policy(message).unwrap().authorizations.len(), count);
    }
}
