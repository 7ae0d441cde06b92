//! A target's policy as an `OutboundPolicy`. A stock proxy refuses a policy that lacks a backend's metadata or queue, so every
//! backend has both, even one that cannot serve.

use super::{
    destination, duration, http,
    meta::{self, metadata},
};
use linkerd2_proxy_api::{
    grpc_route::GrpcFailureInjector,
    http_route::{HttpFailureInjector, Timeouts as ApiTimeouts},
    opaque_route::Forbidden,
    outbound::{
        self as api, ExponentialBackoff, FailureAccrual, GrpcRoute, HttpRoute, OpaqueRoute, OutboundPolicy,
        ProxyProtocol, Queue,
        backend::{self, BalanceP2c, EndpointDiscovery, balance_p2c, endpoint_discovery},
        failure_accrual, grpc_route, http_route, opaque_route, proxy_protocol as protocol,
    },
};
use mesh_policy::{
    Meta, PortProtocol,
    outbound::{
        Accrual, Backend, Filter, Forward, GrpcCondition, Match, Policy, Retry, RetryOn, Route, Routes, Rule,
        ServicePolicy, Timeouts, WeightedBackend,
    },
};
use std::time::Duration;

/// How long a proxy looks for a protocol before it forwards the bytes as they are.
const DETECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Requests that wait for an endpoint, and how long they wait.
const QUEUE_CAPACITY: u32 = 100;
const FAILFAST: Duration = Duration::from_secs(3);
/// An endpoint's latency before it has been measured, and how fast measurements lose their weight.
const DEFAULT_RTT: Duration = Duration::from_millis(30);
const DECAY: Duration = Duration::from_secs(10);
/// A longer body is not kept for a retry.
const MAX_RETRY_BYTES: u32 = 64 << 10;
const MAX_BACKOFF: Duration = Duration::from_millis(250);

pub fn policy(policy: &Policy) -> OutboundPolicy {
    match policy {
        Policy::Service(service) => of_service(service),
        Policy::Forward(forward) => of_forward(forward),
        Policy::UndefinedPort { .. } => undefined_port(),
    }
}

fn of_service(policy: &ServicePolicy) -> OutboundPolicy {
    let opaque = || protocol::Opaque { routes: vec![opaque_route(backend(&policy.backend))] };
    let accrual = || policy.failure_accrual.as_ref().map(failure_accrual);
    let kind = match (&policy.routes, policy.protocol) {
        (_, PortProtocol::Opaque) => protocol::Kind::Opaque(opaque()),
        (Routes::Grpc(routes), _) => protocol::Kind::Grpc(protocol::Grpc {
            routes: routes.iter().flat_map(grpc_routes).collect(),
            failure_accrual: accrual(),
        }),
        (Routes::Http(routes), protocol) => {
            let routes: Vec<HttpRoute> = routes.iter().flat_map(http_routes).collect();
            let http1 = protocol::Http1 { routes: routes.clone(), failure_accrual: accrual() };
            let http2 = protocol::Http2 { routes, failure_accrual: accrual() };
            match protocol {
                PortProtocol::Http1 => protocol::Kind::Http1(http1),
                PortProtocol::Http2 => protocol::Kind::Http2(http2),
                PortProtocol::Detect | PortProtocol::Opaque => protocol::Kind::Detect(protocol::Detect {
                    timeout: Some(duration(DETECT_TIMEOUT)),
                    opaque: Some(opaque()),
                    http1: Some(http1),
                    http2: Some(http2),
                }),
            }
        }
    };
    whole(&policy.meta, kind)
}

/// Everything to one address, whatever the protocol.
fn of_forward(forward: &Forward) -> OutboundPolicy {
    let backend = api::Backend {
        metadata: Some(metadata(&forward.meta)),
        kind: Some(backend::Kind::Forward(destination::alone(&forward.endpoint))),
        queue: Some(queue()),
    };
    let opaque = protocol::Opaque { routes: vec![opaque_route(backend.clone())] };
    if forward.opaque {
        return whole(&forward.meta, protocol::Kind::Opaque(opaque));
    }
    let everything = mesh_policy::outbound::HttpMatch {
        path: mesh_policy::outbound::PathMatch::Prefix("/".into()),
        headers: vec![],
        query: vec![],
        method: None,
    };
    let route = HttpRoute {
        metadata: Some(metadata(&Meta::Default("http"))),
        hosts: vec![],
        rules: vec![http_route::Rule {
            matches: vec![http::matching(&everything)],
            backends: Some(http_first(http_backend(backend, vec![], None))),
            ..http_route::Rule::default()
        }],
    };
    let detect = protocol::Detect {
        timeout: Some(duration(DETECT_TIMEOUT)),
        opaque: Some(opaque),
        http1: Some(protocol::Http1 { routes: vec![route.clone()], failure_accrual: None }),
        http2: Some(protocol::Http2 { routes: vec![route], failure_accrual: None }),
    };
    whole(&forward.meta, protocol::Kind::Detect(detect))
}

fn undefined_port() -> OutboundPolicy {
    let meta = Meta::Default("undefined-port");
    let route = OpaqueRoute {
        metadata: Some(metadata(&meta)),
        rules: vec![opaque_route::Rule {
            backends: Some(opaque_route::Distribution {
                kind: Some(opaque_route::distribution::Kind::Empty(opaque_route::distribution::Empty {})),
            }),
            filters: vec![opaque_route::Filter {
                kind: Some(opaque_route::filter::Kind::Forbidden(Forbidden {})),
            }],
        }],
    };
    whole(&meta, protocol::Kind::Opaque(protocol::Opaque { routes: vec![route] }))
}

fn whole(meta: &Meta, kind: protocol::Kind) -> OutboundPolicy {
    OutboundPolicy { protocol: Some(ProxyProtocol { kind: Some(kind) }), metadata: Some(metadata(meta)) }
}

fn opaque_route(backend: api::Backend) -> OpaqueRoute {
    let first = opaque_route::distribution::FirstAvailable {
        backends: vec![opaque_route::RouteBackend { backend: Some(backend), filters: vec![] }],
    };
    OpaqueRoute {
        metadata: Some(metadata(&Meta::Default("opaq"))),
        rules: vec![opaque_route::Rule {
            backends: Some(opaque_route::Distribution {
                kind: Some(opaque_route::distribution::Kind::FirstAvailable(first)),
            }),
            filters: vec![],
        }],
    }
}

// === HTTP ===

/// A route per rule, in order: to a proxy the same, but its metrics then say by which rule a request went (`section`), and
/// wanted and observed shares can be compared rule by rule.
fn http_routes(route: &Route) -> impl Iterator<Item = HttpRoute> {
    route.rules.iter().enumerate().map(|(i, rule)| HttpRoute {
        metadata: Some(meta::of_rule(&route.meta, i, route.rules.len())),
        hosts: vec![],
        rules: vec![http_rule(rule)],
    })
}

fn http_rule(rule: &Rule) -> http_route::Rule {
    let matches = rule.matches.iter().filter_map(|own| match own {
        Match::Http(own) => Some(http::matching(own)),
        Match::Grpc(_) => None,
    });
    let backends: Vec<(http_route::RouteBackend, u32)> = rule
        .backends
        .iter()
        .map(|weighted| {
            let mut filters: Vec<_> = weighted.filters.iter().map(http_filter).collect();
            if let Backend::Invalid { reason, .. } = &weighted.backend {
                filters.push(http_filter(&Filter::Fail { status: 500, message: reason.clone() }));
            }
            (
                http_backend(backend(&weighted.backend), filters, rule.timeouts.backend_request),
                weighted.weight,
            )
        })
        .collect();
    let distribution = match <[_; 1]>::try_from(backends) {
        Ok([(only, _)]) => http_first(only),
        Err(backends) => http_random(backends),
    };
    http_route::Rule {
        matches: matches.collect(),
        filters: rule.filters.iter().map(http_filter).collect(),
        backends: Some(distribution),
        timeouts: timeouts(&rule.timeouts),
        retry: rule.retry.as_ref().and_then(http_retry),
        ..http_route::Rule::default()
    }
}

fn http_first(backend: http_route::RouteBackend) -> http_route::Distribution {
    let first = http_route::distribution::FirstAvailable { backends: vec![backend] };
    http_route::Distribution { kind: Some(http_route::distribution::Kind::FirstAvailable(first)) }
}

fn http_random(backends: Vec<(http_route::RouteBackend, u32)>) -> http_route::Distribution {
    let weighted = |(backend, weight)| http_route::WeightedRouteBackend { backend: Some(backend), weight };
    let random =
        http_route::distribution::RandomAvailable { backends: backends.into_iter().map(weighted).collect() };
    http_route::Distribution { kind: Some(http_route::distribution::Kind::RandomAvailable(random)) }
}

/// The message has no other place for the time one try may take than this deprecated one.
#[expect(deprecated, reason = "no other field says how long one try may take")]
fn http_backend(
    backend: api::Backend,
    filters: Vec<http_route::Filter>,
    one_try: Option<Duration>,
) -> http_route::RouteBackend {
    http_route::RouteBackend { backend: Some(backend), filters, request_timeout: one_try.map(duration) }
}

fn http_filter(filter: &Filter) -> http_route::Filter {
    use http_route::filter::Kind;
    http_route::Filter {
        kind: Some(match filter {
            Filter::RequestHeaders(modifier) => Kind::RequestHeaderModifier(http::request_headers(modifier)),
            Filter::ResponseHeaders(modifier) => {
                Kind::ResponseHeaderModifier(http::response_headers(modifier))
            }
            Filter::Redirect(redirect) => Kind::Redirect(http::redirect(redirect)),
            Filter::Fail { status, message } => Kind::FailureInjector(HttpFailureInjector {
                status: (*status).into(),
                message: message.clone(),
                ratio: http::always(),
            }),
        }),
    }
}

fn http_retry(retry: &Retry) -> Option<http_route::Retry> {
    let RetryOn::Statuses(ranges) = &retry.on else { return None };
    let range = |(start, end): &(u16, u16)| http_route::retry::conditions::StatusRange {
        start: (*start).into(),
        end: (*end).into(),
    };
    Some(http_route::Retry {
        max_retries: retry.limit,
        max_request_bytes: MAX_RETRY_BYTES,
        conditions: Some(http_route::retry::Conditions { status_ranges: ranges.iter().map(range).collect() }),
        timeout: retry.timeout.map(duration),
        backoff: Some(retry_backoff(retry)),
    })
}

// === gRPC ===

fn grpc_routes(route: &Route) -> impl Iterator<Item = GrpcRoute> {
    route.rules.iter().enumerate().map(|(i, rule)| GrpcRoute {
        metadata: Some(meta::of_rule(&route.meta, i, route.rules.len())),
        hosts: vec![],
        rules: vec![grpc_rule(rule)],
    })
}

fn grpc_rule(rule: &Rule) -> grpc_route::Rule {
    let matches = rule.matches.iter().filter_map(|own| match own {
        Match::Grpc(own) => Some(http::grpc_matching(own)),
        Match::Http(_) => None,
    });
    let one_try = rule.timeouts.backend_request;
    let backends: Vec<(grpc_route::RouteBackend, u32)> =
        rule.backends.iter().map(|weighted| (grpc_backend(weighted, one_try), weighted.weight)).collect();
    let kind = match <[_; 1]>::try_from(backends) {
        Ok([(only, _)]) => {
            let first = grpc_route::distribution::FirstAvailable { backends: vec![only] };
            grpc_route::distribution::Kind::FirstAvailable(first)
        }
        Err(backends) => {
            let weighted =
                |(backend, weight)| grpc_route::WeightedRouteBackend { backend: Some(backend), weight };
            let backends = backends.into_iter().map(weighted).collect();
            grpc_route::distribution::Kind::RandomAvailable(grpc_route::distribution::RandomAvailable {
                backends,
            })
        }
    };
    grpc_route::Rule {
        matches: matches.collect(),
        filters: rule.filters.iter().filter_map(grpc_filter).collect(),
        backends: Some(grpc_route::Distribution { kind: Some(kind) }),
        timeouts: timeouts(&rule.timeouts),
        retry: rule.retry.as_ref().and_then(grpc_retry),
        ..grpc_route::Rule::default()
    }
}

#[expect(deprecated, reason = "no other field says how long one try may take")]
fn grpc_backend(weighted: &WeightedBackend, one_try: Option<Duration>) -> grpc_route::RouteBackend {
    let mut filters: Vec<_> = weighted.filters.iter().filter_map(grpc_filter).collect();
    if let Backend::Invalid { reason, .. } = &weighted.backend {
        filters.extend(grpc_filter(&Filter::Fail { status: 500, message: reason.clone() }));
    }
    grpc_route::RouteBackend {
        backend: Some(backend(&weighted.backend)),
        filters,
        request_timeout: one_try.map(duration),
    }
}

/// `None` for what the message cannot say; `mesh_policy` drops rules that ask for it.
fn grpc_filter(filter: &Filter) -> Option<grpc_route::Filter> {
    use grpc_route::filter::Kind;
    let kind = match filter {
        Filter::RequestHeaders(modifier) => Kind::RequestHeaderModifier(http::request_headers(modifier)),
        Filter::Fail { message, .. } => Kind::FailureInjector(GrpcFailureInjector {
            code: tonic::Code::Unavailable as u32,
            message: message.clone(),
            ratio: http::always(),
        }),
        Filter::ResponseHeaders(_) | Filter::Redirect(_) => return None,
    };
    Some(grpc_route::Filter { kind: Some(kind) })
}

fn grpc_retry(retry: &Retry) -> Option<grpc_route::Retry> {
    let RetryOn::Grpc(on) = &retry.on else { return None };
    Some(grpc_route::Retry {
        max_retries: retry.limit,
        max_request_bytes: MAX_RETRY_BYTES,
        conditions: Some(grpc_route::retry::Conditions {
            cancelled: on.contains(&GrpcCondition::Cancelled),
            // Misspelt so in the API.
            deadine_exceeded: on.contains(&GrpcCondition::DeadlineExceeded),
            resource_exhausted: on.contains(&GrpcCondition::ResourceExhausted),
            internal: on.contains(&GrpcCondition::Internal),
            unavailable: on.contains(&GrpcCondition::Unavailable),
        }),
        timeout: retry.timeout.map(duration),
        backoff: Some(retry_backoff(retry)),
    })
}

// === what both share ===

fn backend(backend: &Backend) -> api::Backend {
    let (meta, kind) = match backend {
        Backend::Service { meta, authority } => (meta, Some(balancer(authority))),
        // Without a kind: nothing is dialled, even if the injected failure did not answer first.
        Backend::Invalid { meta, .. } => (meta, None),
    };
    api::Backend { metadata: Some(metadata(meta)), kind, queue: Some(queue()) }
}

fn balancer(authority: &str) -> backend::Kind {
    backend::Kind::Balancer(BalanceP2c {
        discovery: Some(EndpointDiscovery {
            kind: Some(endpoint_discovery::Kind::Dst(backend::endpoint_discovery::DestinationGet {
                path: authority.into(),
            })),
        }),
        load: Some(balance_p2c::Load::PeakEwma(balance_p2c::PeakEwma {
            default_rtt: Some(duration(DEFAULT_RTT)),
            decay: Some(duration(DECAY)),
        })),
    })
}

fn queue() -> Queue {
    Queue { capacity: QUEUE_CAPACITY, failfast_timeout: Some(duration(FAILFAST)) }
}

fn timeouts(own: &Timeouts) -> Option<ApiTimeouts> {
    own.request.map(|request| ApiTimeouts { request: Some(duration(request)), ..ApiTimeouts::default() })
}

fn retry_backoff(retry: &Retry) -> ExponentialBackoff {
    ExponentialBackoff {
        min_backoff: Some(duration(retry.backoff)),
        max_backoff: Some(duration(MAX_BACKOFF.max(retry.backoff * 10))),
        jitter_ratio: 1.0,
        respect_retry_after_hint: false,
    }
}

fn failure_accrual(own: &Accrual) -> FailureAccrual {
    FailureAccrual {
        kind: Some(failure_accrual::Kind::ConsecutiveFailures(failure_accrual::ConsecutiveFailures {
            max_failures: own.max_failures,
            backoff: Some(ExponentialBackoff {
                min_backoff: Some(duration(own.min_penalty)),
                max_backoff: Some(duration(own.max_penalty)),
                jitter_ratio: 0.5,
                respect_retry_after_hint: false,
            }),
        })),
        ejection: None,
    }
}
