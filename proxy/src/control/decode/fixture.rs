//! Messages as Linkerd's control plane sends them.

use linkerd2_proxy_api::{
    destination::{
        ProtocolHint, TlsIdentity, WeightedAddr,
        protocol_hint::{H2, OpaqueTransport, Protocol},
        tls_identity::{DnsLikeIdentity, Strategy},
    },
    http_route::{HttpRouteMatch, PathMatch, path_match},
    inbound, meta,
    net::{IpAddress, IpNetwork, TcpAddress},
    outbound::{self, http_route, opaque_route, proxy_protocol},
};
use std::net::SocketAddr;

pub const WEB: &str = "web.demo.serviceaccount.identity.mesh.cluster.local";
pub const PATH: &str = "web.demo.svc.cluster.local:80";

pub fn seconds(seconds: i64) -> Option<prost_types::Duration> {
    Some(prost_types::Duration { seconds, nanos: 0 })
}

pub fn default_metadata(name: &str) -> Option<meta::Metadata> {
    Some(meta::Metadata { kind: Some(meta::metadata::Kind::Default(name.to_owned())) })
}

pub fn service(name: &str) -> Option<meta::Metadata> {
    let resource = meta::Resource {
        group: "core".into(),
        kind: "Service".into(),
        name: name.into(),
        namespace: "demo".into(),
        section: String::new(),
        port: 80,
    };
    Some(meta::Metadata { kind: Some(meta::metadata::Kind::Resource(resource)) })
}

pub fn backend() -> outbound::Backend {
    let load = outbound::backend::balance_p2c::PeakEwma { default_rtt: seconds(1), decay: seconds(10) };
    let dst = outbound::backend::endpoint_discovery::DestinationGet { path: PATH.into() };
    outbound::Backend {
        metadata: service("web"),
        queue: Some(outbound::Queue { capacity: 100, failfast_timeout: seconds(3) }),
        kind: Some(outbound::backend::Kind::Balancer(outbound::backend::BalanceP2c {
            discovery: Some(outbound::backend::EndpointDiscovery {
                kind: Some(outbound::backend::endpoint_discovery::Kind::Dst(dst)),
            }),
            load: Some(outbound::backend::balance_p2c::Load::PeakEwma(load)),
        })),
    }
}

pub fn route_backend() -> http_route::RouteBackend {
    http_route::RouteBackend { backend: Some(backend()), ..Default::default() }
}

pub fn first_available(backend: http_route::RouteBackend) -> Option<http_route::Distribution> {
    let first = http_route::distribution::FirstAvailable { backends: vec![backend] };
    Some(http_route::Distribution { kind: Some(http_route::distribution::Kind::FirstAvailable(first)) })
}

pub fn http_rule() -> http_route::Rule {
    let everything = HttpRouteMatch {
        path: Some(PathMatch { kind: Some(path_match::Kind::Prefix("/".into())) }),
        ..Default::default()
    };
    http_route::Rule {
        matches: vec![everything],
        backends: first_available(route_backend()),
        ..Default::default()
    }
}

fn http_routes() -> Vec<outbound::HttpRoute> {
    vec![outbound::HttpRoute { metadata: default_metadata("http"), hosts: vec![], rules: vec![http_rule()] }]
}

fn opaque_routes() -> Vec<outbound::OpaqueRoute> {
    let first = opaque_route::distribution::FirstAvailable {
        backends: vec![opaque_route::RouteBackend { backend: Some(backend()), filters: vec![] }],
    };
    let backends = Some(opaque_route::Distribution {
        kind: Some(opaque_route::distribution::Kind::FirstAvailable(first)),
    });
    let rule = opaque_route::Rule { backends, filters: vec![] };
    vec![outbound::OpaqueRoute { metadata: default_metadata("opaq"), rules: vec![rule] }]
}

pub fn detect() -> proxy_protocol::Detect {
    proxy_protocol::Detect {
        timeout: seconds(10),
        opaque: Some(proxy_protocol::Opaque { routes: opaque_routes() }),
        http1: Some(proxy_protocol::Http1 { routes: http_routes(), failure_accrual: None }),
        http2: Some(proxy_protocol::Http2 { routes: http_routes(), failure_accrual: None }),
    }
}

pub fn policy_of(kind: proxy_protocol::Kind) -> outbound::OutboundPolicy {
    outbound::OutboundPolicy {
        metadata: service("web"),
        protocol: Some(outbound::ProxyProtocol { kind: Some(kind) }),
    }
}

/// A Service without routes.
pub fn outbound_policy() -> outbound::OutboundPolicy {
    policy_of(proxy_protocol::Kind::Detect(detect()))
}

/// The same, with another rule for HTTP/1.
pub fn with_rule(rule: http_route::Rule) -> outbound::OutboundPolicy {
    let mut detect = detect();
    detect.http1.as_mut().unwrap().routes[0].rules = vec![rule];
    policy_of(proxy_protocol::Kind::Detect(detect))
}

pub fn tcp(addr: &str) -> TcpAddress {
    addr.parse::<SocketAddr>().unwrap().into()
}

/// A meshed endpoint.
pub fn endpoint(addr: &str) -> WeightedAddr {
    let name = || DnsLikeIdentity { name: WEB.into() };
    WeightedAddr {
        addr: Some(tcp(addr)),
        weight: 10_000,
        metric_labels: [("pod".to_owned(), "web-0".to_owned())].into(),
        tls_identity: Some(TlsIdentity {
            server_name: Some(name()),
            strategy: Some(Strategy::DnsLikeIdentity(name())),
        }),
        protocol_hint: Some(ProtocolHint {
            opaque_transport: Some(OpaqueTransport { inbound_port: 4143 }),
            protocol: Some(Protocol::H2(H2 {})),
        }),
        ..Default::default()
    }
}

fn labels(name: &str) -> std::collections::HashMap<String, String> {
    [("group", ""), ("kind", "default"), ("name", name)]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into()
}

pub fn authz(name: &str) -> inbound::Authz {
    let clients = inbound::authn::permit_mesh_tls::Clients::Identities(
        inbound::authn::permit_mesh_tls::PermitClientIdentities {
            identities: vec![],
            suffixes: vec![inbound::IdentitySuffix { parts: vec![] }],
        },
    );
    let permit = inbound::authn::Permit::MeshTls(inbound::authn::PermitMeshTls { clients: Some(clients) });
    let net = IpNetwork { ip: Some(IpAddress::from([0, 0, 0, 0])), prefix_len: 0 };
    inbound::Authz {
        networks: vec![inbound::Network { net: Some(net), except: vec![] }],
        authentication: Some(inbound::Authn { permit: Some(permit) }),
        labels: labels(name),
        metadata: default_metadata(name),
    }
}

/// A port under `all-authenticated`.
pub fn server() -> inbound::Server {
    let detect = inbound::proxy_protocol::Detect {
        timeout: seconds(10),
        http_routes: vec![],
        http_local_rate_limit: None,
    };
    inbound::Server {
        protocol: Some(inbound::ProxyProtocol { kind: Some(inbound::proxy_protocol::Kind::Detect(detect)) }),
        server_ips: vec![],
        authorizations: vec![authz("all-authenticated")],
        labels: labels("all-authenticated"),
    }
}
