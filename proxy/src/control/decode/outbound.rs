//! `OutboundPolicy` to `policy::outbound`. The shapes of HTTP, gRPC, opaque and TLS routes differ only in their generated
//! types, so each has its short decoder here and everything below a rule is shared.

use super::{
    Invalid, Result,
    backend::{self, Backends},
    duration, each, http, limit, meta, required,
};
use crate::policy::{
    http::{Filter, Retry, Timeouts},
    outbound::{Distribution, Http, HttpRoute, HttpRule, Opaque, Policy, Protocol, RouteBackend},
};
use linkerd2_proxy_api::{
    http_route::Timeouts as ApiTimeouts,
    outbound::{self as api, grpc_route, http_route, opaque_route, proxy_protocol::Kind, tls_route},
};

/// A body longer than this is not kept for a retry, whatever the control plane allows.
const MAX_RETRY_BYTES: u32 = 64 * 1024;

pub fn policy(policy: api::OutboundPolicy) -> Result<Policy> {
    let backends = &mut Backends::default();
    let kind = required("protocol", policy.protocol.and_then(|protocol| protocol.kind))?;
    let protocol = protocol(kind, backends).map_err(|invalid| invalid.at("protocol"))?;
    Ok(Policy { meta: meta(policy.metadata)?, protocol })
}

fn protocol(kind: Kind, backends: &mut Backends) -> Result<Protocol> {
    Ok(match kind {
        Kind::Detect(detect) => {
            let http1 = required("http1", detect.http1)?;
            let http2 = required("http2", detect.http2)?;
            let opaque = required("opaque", detect.opaque)?;
            Protocol::Detect {
                timeout: duration("timeout", detect.timeout)?,
                http1: self::http("http1", http1.routes, http1.failure_accrual, backends)?,
                http2: self::http("http2", http2.routes, http2.failure_accrual, backends)?,
                opaque: self::opaque(opaque.routes, backends).map_err(|invalid| invalid.at("opaque"))?,
            }
        }
        Kind::Http1(http1) => {
            Protocol::Http1(self::http("http1", http1.routes, http1.failure_accrual, backends)?)
        }
        Kind::Http2(http2) => {
            Protocol::Http2(self::http("http2", http2.routes, http2.failure_accrual, backends)?)
        }
        Kind::Grpc(grpc) => Protocol::Grpc(self::grpc(grpc, backends).map_err(|invalid| invalid.at("grpc"))?),
        Kind::Opaque(opaque) => {
            Protocol::Opaque(self::opaque(opaque.routes, backends).map_err(|invalid| invalid.at("opaque"))?)
        }
        Kind::Tls(tls) => {
            Protocol::Opaque(self::tls(tls.routes, backends).map_err(|invalid| invalid.at("tls"))?)
        }
    })
}

fn http(
    field: &str,
    routes: Vec<api::HttpRoute>,
    accrual: Option<api::FailureAccrual>,
    backends: &mut Backends,
) -> Result<Http> {
    let routes = each("routes", routes, |route| http_route(route, backends));
    let accrual = backend::failure_accrual(accrual);
    let http = routes.and_then(|routes| Ok(Http { routes, failure_accrual: accrual? }));
    http.map_err(|invalid| invalid.at(field))
}

fn grpc(grpc: api::proxy_protocol::Grpc, backends: &mut Backends) -> Result<Http> {
    Ok(Http {
        routes: each("routes", grpc.routes, |route| grpc_route(route, backends))?,
        failure_accrual: backend::failure_accrual(grpc.failure_accrual)?,
    })
}

fn http_route(route: api::HttpRoute, backends: &mut Backends) -> Result<HttpRoute> {
    Ok(HttpRoute {
        meta: meta(route.metadata)?,
        hosts: http::hosts(route.hosts)?,
        rules: each("rules", route.rules, |rule| {
            Ok(HttpRule {
                matches: http::matches(rule.matches)?,
                filters: each("filters", rule.filters, http_filter)?,
                backends: http_distribution(rule.backends, backends)
                    .map_err(|invalid| invalid.at("backends"))?,
                retry: rule.retry.map(http_retry).transpose().map_err(|invalid| invalid.at("retry"))?,
                timeouts: timeouts(rule.timeouts)?,
            })
        })?,
    })
}

fn grpc_route(route: api::GrpcRoute, backends: &mut Backends) -> Result<HttpRoute> {
    Ok(HttpRoute {
        meta: meta(route.metadata)?,
        hosts: http::hosts(route.hosts)?,
        rules: each("rules", route.rules, |rule| {
            Ok(HttpRule {
                matches: http::rpc_matches(rule.matches)?,
                filters: each("filters", rule.filters, grpc_filter)?,
                backends: grpc_distribution(rule.backends, backends)
                    .map_err(|invalid| invalid.at("backends"))?,
                retry: rule.retry.map(grpc_retry).transpose().map_err(|invalid| invalid.at("retry"))?,
                timeouts: timeouts(rule.timeouts)?,
            })
        })?,
    })
}

/// Exactly one route with exactly one rule; no route at all leads nowhere.
fn opaque(mut routes: Vec<api::OpaqueRoute>, backends: &mut Backends) -> Result<Opaque> {
    let route = match (routes.pop(), routes.len()) {
        (None, _) => return Ok(nowhere()),
        (Some(route), 0) => route,
        (Some(_), more) => {
            return Err(Invalid::new(format!("{} routes, want one", more + 1)).at("routes"));
        }
    };
    let rule = only_rule(route.rules)?;
    Ok(Opaque {
        meta: meta(route.metadata)?,
        filters: each("filters", rule.filters, |filter| match required("kind", filter.kind)? {
            opaque_route::filter::Kind::Forbidden(_) => Ok(Filter::Forbidden),
            opaque_route::filter::Kind::Invalid(invalid) => Err(Invalid::new(invalid.message)),
        })?,
        backends: opaque_distribution(rule.backends, backends).map_err(|invalid| invalid.at("backends"))?,
    })
}

/// TLS of the application's own is forwarded unread, so one route is as good as an opaque one; choosing among several by SNI
/// is not supported, and guessing would send traffic where it is not meant to go.
fn tls(mut routes: Vec<api::TlsRoute>, backends: &mut Backends) -> Result<Opaque> {
    let route = match (routes.pop(), routes.len()) {
        (None, _) => return Ok(nowhere()),
        (Some(route), 0) => route,
        (Some(_), _) => return Err(Invalid::new("several TLS routes are not supported").at("routes")),
    };
    let rule = only_rule(route.rules)?;
    Ok(Opaque {
        meta: meta(route.metadata)?,
        filters: each("filters", rule.filters, |filter| match required("kind", filter.kind)? {
            tls_route::filter::Kind::Forbidden(_) => Ok(Filter::Forbidden),
            tls_route::filter::Kind::Invalid(invalid) => Err(Invalid::new(invalid.message)),
        })?,
        backends: tls_distribution(rule.backends, backends).map_err(|invalid| invalid.at("backends"))?,
    })
}

fn nowhere() -> Opaque {
    Opaque { meta: super::default_meta("none"), filters: vec![], backends: Distribution::Empty }
}

fn only_rule<T>(mut rules: Vec<T>) -> Result<T> {
    match (rules.pop(), rules.len()) {
        (Some(rule), 0) => Ok(rule),
        (None, _) => Err(Invalid::missing("rules")),
        (Some(_), more) => Err(Invalid::new(format!("{} rules, want one", more + 1)).at("rules")),
    }
}

fn http_filter(filter: http_route::Filter) -> Result<Filter> {
    match required("kind", filter.kind)? {
        http_route::filter::Kind::FailureInjector(injector) => http::fail_http(injector),
        http_route::filter::Kind::RequestHeaderModifier(modifier) => http::request_headers(modifier),
        http_route::filter::Kind::ResponseHeaderModifier(modifier) => http::response_headers(modifier),
        http_route::filter::Kind::Redirect(redirect) => http::redirect(redirect),
    }
}

fn grpc_filter(filter: grpc_route::Filter) -> Result<Filter> {
    match required("kind", filter.kind)? {
        grpc_route::filter::Kind::FailureInjector(injector) => http::fail_grpc(injector),
        grpc_route::filter::Kind::RequestHeaderModifier(modifier) => http::request_headers(modifier),
    }
}

/// The four `Distribution`s are one shape in four generated types.
macro_rules! distribution {
    ($name:ident, $route:ident, $backend:ident) => {
        fn $name(
            distribution: Option<$route::Distribution>,
            backends: &mut Backends,
        ) -> Result<Distribution> {
            use $route::distribution::Kind;
            match required("kind", distribution.and_then(|distribution| distribution.kind))? {
                Kind::Empty(_) => Ok(Distribution::Empty),
                Kind::FirstAvailable(first) => {
                    not_empty(&first.backends)?;
                    each("backends", first.backends, |backend| $backend(backend, backends))
                        .map(Distribution::FirstAvailable)
                }
                Kind::RandomAvailable(random) => {
                    not_empty(&random.backends)?;
                    let all = each("backends", random.backends, |weighted| {
                        Ok(($backend(required("backend", weighted.backend)?, backends)?, weighted.weight))
                    })?;
                    Ok(by_weight(all))
                }
            }
        }
    };
}

distribution!(http_distribution, http_route, http_backend);
distribution!(grpc_distribution, grpc_route, grpc_backend);
distribution!(opaque_distribution, opaque_route, opaque_backend);
distribution!(tls_distribution, tls_route, tls_backend);

fn not_empty<T>(backends: &[T]) -> Result<()> {
    if backends.is_empty() { Err(Invalid::missing("backends")) } else { Ok(()) }
}

/// Weights that sum to 0 route nowhere.
fn by_weight(mut all: Vec<(RouteBackend, u32)>) -> Distribution {
    all.retain(|(_, weight)| *weight > 0);
    if all.is_empty() { Distribution::Empty } else { Distribution::RandomAvailable(all) }
}

fn http_backend(backend: http_route::RouteBackend, backends: &mut Backends) -> Result<RouteBackend> {
    #[expect(
        deprecated,
        reason = "our operator says a rule's backendRequest timeout with it, which has no other place"
    )]
    let timeout = backend.request_timeout;
    Ok(RouteBackend {
        filters: each("filters", backend.filters, http_filter)?,
        timeout: limit("request_timeout", timeout)?,
        backend: backends.decode(backend.backend)?,
    })
}

fn grpc_backend(backend: grpc_route::RouteBackend, backends: &mut Backends) -> Result<RouteBackend> {
    #[expect(
        deprecated,
        reason = "our operator says a rule's backendRequest timeout with it, which has no other place"
    )]
    let timeout = backend.request_timeout;
    Ok(RouteBackend {
        filters: each("filters", backend.filters, grpc_filter)?,
        timeout: limit("request_timeout", timeout)?,
        backend: backends.decode(backend.backend)?,
    })
}

fn opaque_backend(backend: opaque_route::RouteBackend, backends: &mut Backends) -> Result<RouteBackend> {
    let filters = each("filters", backend.filters, |filter| match required("kind", filter.kind)? {
        opaque_route::filter::Kind::Forbidden(_) => Ok(Filter::Forbidden),
        opaque_route::filter::Kind::Invalid(invalid) => Err(Invalid::new(invalid.message)),
    })?;
    Ok(RouteBackend { filters, timeout: None, backend: backends.decode(backend.backend)? })
}

fn tls_backend(backend: tls_route::RouteBackend, backends: &mut Backends) -> Result<RouteBackend> {
    let filters = each("filters", backend.filters, |filter| match required("kind", filter.kind)? {
        tls_route::filter::Kind::Forbidden(_) => Ok(Filter::Forbidden),
        tls_route::filter::Kind::Invalid(invalid) => Err(Invalid::new(invalid.message)),
    })?;
    Ok(RouteBackend { filters, timeout: None, backend: backends.decode(backend.backend)? })
}

fn timeouts(timeouts: Option<ApiTimeouts>) -> Result<Timeouts> {
    let timeouts = timeouts.unwrap_or_default();
    Ok(Timeouts {
        request: limit("timeouts.request", timeouts.request)?,
        response: limit("timeouts.response", timeouts.response)?,
        backend_request: None,
        idle: limit("timeouts.idle", timeouts.idle)?,
    })
}

fn http_retry(retry: http_route::Retry) -> Result<Retry> {
    let conditions = required("conditions", retry.conditions)?;
    let statuses = each("conditions.status_ranges", conditions.status_ranges, |range| {
        let status = |code: u32| u16::try_from(code).ok().filter(|code| (1..=599).contains(code));
        match (status(range.start), status(range.end)) {
            (Some(start), Some(end)) if start <= end => Ok((start, end)),
            _ => Err(Invalid::new(format!("{}-{} is not a range of statuses", range.start, range.end))),
        }
    })?;
    Ok(Retry {
        max_retries: u16::try_from(retry.max_retries).unwrap_or(u16::MAX),
        max_request_bytes: body_bytes(retry.max_request_bytes),
        statuses,
        grpc_codes: vec![],
        timeout: limit("timeout", retry.timeout)?,
        backoff: retry.backoff.map(backend::backoff).transpose()?,
    })
}

fn grpc_retry(retry: grpc_route::Retry) -> Result<Retry> {
    let conditions = required("conditions", retry.conditions)?;
    let codes = [
        (conditions.cancelled, tonic::Code::Cancelled),
        (conditions.deadine_exceeded, tonic::Code::DeadlineExceeded),
        (conditions.resource_exhausted, tonic::Code::ResourceExhausted),
        (conditions.internal, tonic::Code::Internal),
        (conditions.unavailable, tonic::Code::Unavailable),
    ];
    Ok(Retry {
        max_retries: u16::try_from(retry.max_retries).unwrap_or(u16::MAX),
        max_request_bytes: body_bytes(retry.max_request_bytes),
        statuses: vec![],
        grpc_codes: codes.into_iter().filter(|(on, _)| *on).map(|(_, code)| code as u16).collect(),
        timeout: limit("timeout", retry.timeout)?,
        backoff: retry.backoff.map(backend::backoff).transpose()?,
    })
}

fn body_bytes(max_request_bytes: u32) -> usize {
    max_request_bytes.min(MAX_RETRY_BYTES) as usize
}
