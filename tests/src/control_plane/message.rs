//! Builds the contract's messages in their usual shapes; a test changes the one field it is about.

use linkerd2_proxy_api::{
    destination, http_route, http_types, inbound, meta, net, opaque_route,
    outbound::{self, backend, http_route as http, opaque_route as opaque, proxy_protocol},
};
use std::{collections::HashMap, net::SocketAddr, time::Duration};

/// The text of a target as tests write it: the authority, or `ip:port`.
pub fn target(spec: outbound::TrafficSpec) -> String {
    match spec.target {
        Some(outbound::traffic_spec::Target::Authority(authority)) => authority,
        Some(outbound::traffic_spec::Target::Addr(addr)) => {
            SocketAddr::try_from(addr).map(|addr| addr.to_string()).unwrap_or_default()
        }
        None => String::new(),
    }
}

pub fn duration(duration: Duration) -> Option<prost_types::Duration> {
    prost_types::Duration::try_from(duration).ok()
}

pub fn by_default(name: &str) -> Option<meta::Metadata> {
    Some(meta::Metadata { kind: Some(meta::metadata::Kind::Default(name.into())) })
}

pub fn resource(group: &str, kind: &str, namespace: &str, name: &str, port: u16) -> Option<meta::Metadata> {
    Some(meta::Metadata {
        kind: Some(meta::metadata::Kind::Resource(meta::Resource {
            group: group.into(),
            kind: kind.into(),
            name: name.into(),
            namespace: namespace.into(),
            section: String::new(),
            port: port.into(),
        })),
    })
}

/// Metadata of a Service from its destination path, `name.namespace.svc.cluster.local:port`.
pub fn service(path: &str) -> Option<meta::Metadata> {
    let (host, port) = path.split_once(':').expect("a destination path has a port");
    let mut labels = host.split('.');
    let (name, namespace) = (labels.next().unwrap_or_default(), labels.next().unwrap_or_default());
    resource("core", "Service", namespace, name, port.parse().expect("a port"))
}

/// Balances over the endpoints of a path, waiting three seconds for one.
pub fn balanced(path: &str) -> outbound::Backend {
    outbound::Backend {
        metadata: service(path),
        queue: Some(outbound::Queue { capacity: 100, failfast_timeout: duration(Duration::from_secs(3)) }),
        kind: Some(backend::Kind::Balancer(backend::BalanceP2c {
            discovery: Some(backend::EndpointDiscovery {
                kind: Some(backend::endpoint_discovery::Kind::Dst(
                    backend::endpoint_discovery::DestinationGet { path: path.into() },
                )),
            }),
            load: Some(backend::balance_p2c::Load::PeakEwma(backend::balance_p2c::PeakEwma {
                default_rtt: duration(Duration::from_millis(30)),
                decay: duration(Duration::from_secs(10)),
            })),
        })),
    }
}

/// One fixed endpoint.
pub fn forward(endpoint: Endpoint, meta: Option<meta::Metadata>) -> outbound::Backend {
    outbound::Backend {
        metadata: meta,
        queue: Some(outbound::Queue { capacity: 100, failfast_timeout: duration(Duration::from_secs(3)) }),
        kind: Some(backend::Kind::Forward(endpoint.message())),
    }
}

/// A rule for every path, sending to the first backend.
pub fn rule(backend: outbound::Backend) -> http::Rule {
    http::Rule {
        matches: vec![path_prefix("/")],
        backends: Some(http::Distribution {
            kind: Some(http::distribution::Kind::FirstAvailable(http::distribution::FirstAvailable {
                backends: vec![http::RouteBackend { backend: Some(backend), ..Default::default() }],
            })),
        }),
        ..Default::default()
    }
}

/// The backend of a rule that `rule` made.
pub fn backend(rule: &mut http::Rule) -> &mut outbound::Backend {
    let Some(http::distribution::Kind::FirstAvailable(first)) =
        rule.backends.as_mut().and_then(|backends| backends.kind.as_mut())
    else {
        unreachable!("`rule` makes a first-available distribution")
    };
    first.backends[0].backend.as_mut().expect("`rule` sets a backend")
}

/// Splits by weight.
pub fn weighted(backends: impl IntoIterator<Item = (outbound::Backend, u32)>) -> Option<http::Distribution> {
    let backends = backends.into_iter().map(|(backend, weight)| http::WeightedRouteBackend {
        backend: Some(http::RouteBackend { backend: Some(backend), ..Default::default() }),
        weight,
    });
    Some(http::Distribution {
        kind: Some(http::distribution::Kind::RandomAvailable(http::distribution::RandomAvailable {
            backends: backends.collect(),
        })),
    })
}

pub fn path_prefix(prefix: &str) -> http_route::HttpRouteMatch {
    http_route::HttpRouteMatch {
        path: Some(http_route::PathMatch { kind: Some(http_route::path_match::Kind::Prefix(prefix.into())) }),
        ..Default::default()
    }
}

pub fn path_exact(path: &str) -> http_route::HttpRouteMatch {
    http_route::HttpRouteMatch {
        path: Some(http_route::PathMatch { kind: Some(http_route::path_match::Kind::Exact(path.into())) }),
        ..Default::default()
    }
}

pub fn header_exact(name: &str, value: &str) -> http_route::HeaderMatch {
    http_route::HeaderMatch {
        name: name.into(),
        value: Some(http_route::header_match::Value::Exact(value.as_bytes().to_vec())),
    }
}

pub fn headers(pairs: &[(&str, &str)]) -> Option<http_types::Headers> {
    let headers = pairs.iter().map(|(name, value)| http_types::headers::Header {
        name: (*name).into(),
        value: value.as_bytes().to_vec(),
    });
    Some(http_types::Headers { headers: headers.collect() })
}

/// Tried again on 5xx.
pub fn retry(max_retries: u32) -> Option<http::Retry> {
    Some(http::Retry {
        max_retries,
        max_request_bytes: 64 * 1024,
        conditions: Some(http::retry::Conditions {
            status_ranges: vec![http::retry::conditions::StatusRange { start: 500, end: 599 }],
        }),
        timeout: None,
        backoff: Some(outbound::ExponentialBackoff {
            min_backoff: duration(Duration::from_millis(25)),
            max_backoff: duration(Duration::from_millis(250)),
            jitter_ratio: 1.0,
            respect_retry_after_hint: false,
        }),
    })
}

/// A Service with these rules under one route, or without a route where there is one plain rule; opaque bytes go to `opaque_to`.
pub fn policy(path: &str, rules: Vec<http::Rule>) -> outbound::OutboundPolicy {
    let route = outbound::HttpRoute { metadata: by_default("http"), hosts: vec![], rules };
    outbound::OutboundPolicy {
        metadata: service(path),
        protocol: Some(outbound::ProxyProtocol {
            kind: Some(proxy_protocol::Kind::Detect(proxy_protocol::Detect {
                timeout: duration(Duration::from_secs(10)),
                opaque: Some(opaque_to(balanced(path))),
                http1: Some(proxy_protocol::Http1 { routes: vec![route.clone()], failure_accrual: None }),
                http2: Some(proxy_protocol::Http2 { routes: vec![route], failure_accrual: None }),
            })),
        }),
    }
}

/// A Service without routes: everything to its own endpoints.
pub fn plain_policy(path: &str) -> outbound::OutboundPolicy {
    policy(path, vec![rule(balanced(path))])
}

/// A Service of which only bytes are known.
pub fn opaque_policy(path: &str) -> outbound::OutboundPolicy {
    outbound::OutboundPolicy {
        metadata: service(path),
        protocol: Some(outbound::ProxyProtocol {
            kind: Some(proxy_protocol::Kind::Opaque(opaque_to(balanced(path)))),
        }),
    }
}

fn opaque_to(backend: outbound::Backend) -> proxy_protocol::Opaque {
    proxy_protocol::Opaque {
        routes: vec![outbound::OpaqueRoute {
            metadata: by_default("opaq"),
            rules: vec![opaque::Rule {
                backends: Some(opaque::Distribution {
                    kind: Some(opaque::distribution::Kind::FirstAvailable(
                        opaque::distribution::FirstAvailable {
                            backends: vec![opaque::RouteBackend { backend: Some(backend), filters: vec![] }],
                        },
                    )),
                }),
                filters: vec![],
            }],
        }],
    }
}

/// A Service whose connections are refused.
pub fn forbidden_policy(path: &str) -> outbound::OutboundPolicy {
    let mut opaque = opaque_to(balanced(path));
    opaque.routes[0].rules[0].filters = vec![outbound::opaque_route::Filter {
        kind: Some(opaque::filter::Kind::Forbidden(opaque_route::Forbidden {})),
    }];
    outbound::OutboundPolicy {
        metadata: by_default("undefined-port"),
        protocol: Some(outbound::ProxyProtocol { kind: Some(proxy_protocol::Kind::Opaque(opaque)) }),
    }
}

/// An address that requests may go to.
#[derive(Clone, Debug)]
pub struct Endpoint {
    pub addr: SocketAddr,
    /// Name demanded in the peer's certificate; without one the hop is plaintext.
    pub identity: Option<String>,
    /// The peer's proxy takes HTTP/2.
    pub h2: bool,
    /// The peer must not look at the bytes.
    pub opaque: bool,
    /// Port of the peer's proxy that takes a transport header.
    pub transport_port: Option<u16>,
    pub weight: u32,
}

impl Endpoint {
    pub fn plain(addr: SocketAddr) -> Endpoint {
        Endpoint { addr, identity: None, h2: false, opaque: false, transport_port: None, weight: 10_000 }
    }

    pub fn message(self) -> destination::WeightedAddr {
        let named = |name: String| destination::tls_identity::DnsLikeIdentity { name };
        let protocol = match (self.opaque, self.h2) {
            (true, _) => {
                Some(destination::protocol_hint::Protocol::Opaque(destination::protocol_hint::Opaque {}))
            }
            (false, true) => {
                Some(destination::protocol_hint::Protocol::H2(destination::protocol_hint::H2 {}))
            }
            (false, false) => None,
        };
        destination::WeightedAddr {
            addr: Some(net::TcpAddress::from(self.addr)),
            weight: self.weight,
            metric_labels: HashMap::from([("pod".into(), format!("pod-{}", self.addr.ip()))]),
            tls_identity: self.identity.map(|name| destination::TlsIdentity {
                strategy: Some(destination::tls_identity::Strategy::DnsLikeIdentity(named(name.clone()))),
                server_name: Some(named(name)),
            }),
            protocol_hint: Some(destination::ProtocolHint {
                protocol,
                opaque_transport: self
                    .transport_port
                    .map(|port| destination::protocol_hint::OpaqueTransport { inbound_port: port.into() }),
            }),
            ..Default::default()
        }
    }
}

pub fn add(endpoints: impl IntoIterator<Item = Endpoint>) -> destination::Update {
    let addrs = endpoints.into_iter().map(Endpoint::message).collect();
    destination::Update {
        update: Some(destination::update::Update::Add(destination::WeightedAddrSet {
            addrs,
            metric_labels: HashMap::new(),
        })),
    }
}

pub fn remove(addrs: impl IntoIterator<Item = SocketAddr>) -> destination::Update {
    let addrs = addrs.into_iter().map(net::TcpAddress::from).collect();
    destination::Update { update: Some(destination::update::Update::Remove(destination::AddrSet { addrs })) }
}

pub fn no_endpoints(exists: bool) -> destination::Update {
    destination::Update {
        update: Some(destination::update::Update::NoEndpoints(destination::NoEndpoints { exists })),
    }
}

/// Who an authorization lets in.
#[derive(Clone, Copy, Debug)]
pub enum Client<'a> {
    Anyone,
    /// Any identity of the mesh.
    Meshed,
    Identity(&'a str),
}

/// Any network, one kind of client.
pub fn authorization(name: &str, client: Client<'_>) -> inbound::Authz {
    use inbound::authn::{Permit, PermitMeshTls, PermitUnauthenticated, permit_mesh_tls};
    let identities = |identities, suffixes| {
        Permit::MeshTls(PermitMeshTls {
            clients: Some(permit_mesh_tls::Clients::Identities(permit_mesh_tls::PermitClientIdentities {
                identities,
                suffixes,
            })),
        })
    };
    let permit = match client {
        Client::Anyone => Permit::Unauthenticated(PermitUnauthenticated {}),
        Client::Meshed => identities(vec![], vec![inbound::IdentitySuffix { parts: vec![] }]),
        Client::Identity(name) => identities(vec![inbound::Identity { name: name.into() }], vec![]),
    };
    inbound::Authz {
        networks: vec![network([0, 0, 0, 0], 0), network([0; 16], 0)],
        authentication: Some(inbound::Authn { permit: Some(permit) }),
        labels: HashMap::from([
            ("group".into(), "policy.linkerd.io".into()),
            ("kind".into(), "authorizationpolicy".into()),
            ("name".into(), name.into()),
        ]),
        metadata: resource("policy.linkerd.io", "authorizationpolicy", "demo", name, 0),
    }
}

pub fn network(ip: impl Into<std::net::IpAddr>, prefix_len: u32) -> inbound::Network {
    inbound::Network { net: Some(net::IpNetwork { ip: Some(ip.into().into()), prefix_len }), except: vec![] }
}

/// A port that finds its protocol out, with one route for everything.
pub fn server(authorizations: Vec<inbound::Authz>) -> inbound::Server {
    server_of(
        inbound::proxy_protocol::Kind::Detect(inbound::proxy_protocol::Detect {
            timeout: duration(Duration::from_secs(10)),
            http_routes: vec![inbound_route("default", path_prefix("/"), vec![])],
            http_local_rate_limit: None,
        }),
        authorizations,
    )
}

pub fn server_of(
    protocol: inbound::proxy_protocol::Kind,
    authorizations: Vec<inbound::Authz>,
) -> inbound::Server {
    inbound::Server {
        protocol: Some(inbound::ProxyProtocol { kind: Some(protocol) }),
        server_ips: vec![],
        authorizations,
        labels: HashMap::from([
            ("group".into(), "policy.linkerd.io".into()),
            ("kind".into(), "server".into()),
            ("name".into(), "web".into()),
        ]),
    }
}

/// A route of an inbound port; its authorizations are added to the port's own.
pub fn inbound_route(
    name: &str,
    matching: http_route::HttpRouteMatch,
    authorizations: Vec<inbound::Authz>,
) -> inbound::HttpRoute {
    inbound::HttpRoute {
        metadata: by_default(name),
        hosts: vec![],
        authorizations,
        rules: vec![inbound::http_route::Rule { matches: vec![matching], filters: vec![] }],
    }
}
