//! `Server` to `policy::inbound`, and the policy of a port of which the control plane has said nothing.

use super::{Invalid, Result, default_meta, duration, each, http, meta, required};
use crate::{
    config::DefaultPolicy,
    policy::{
        Meta,
        http::{Filter, RequestMatch},
        inbound::{Authentication, Authorization, HttpRoute, HttpRule, Network, Policy, Protocol, RateLimit},
    },
};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use linkerd2_proxy_api::inbound::{
    self as api, authn::Permit, authn::permit_mesh_tls::Clients, grpc_route, http_local_rate_limit::Limit,
    http_route, proxy_protocol::Kind,
};
use mesh_api::names;
use std::{collections::HashMap, sync::Arc, time::Duration};

/// Linkerd's own way of saying that an authorization allows, but is counted as "would be denied": the default policy of this name.
const AUDIT: &str = "audit";

pub fn policy(server: api::Server) -> Result<Policy> {
    let kind = required("protocol", server.protocol.and_then(|protocol| protocol.kind))?;
    let (protocol, rate_limit) = protocol(kind).map_err(|invalid| invalid.at("protocol"))?;
    Ok(Policy {
        meta: labels_meta(&server.labels)?,
        protocol,
        authorizations: each("authorizations", server.authorizations, authorization)?.into(),
        rate_limit,
        routes_add: server.labels.get(names::ROUTES_LABEL).is_some_and(|routes| routes == names::ROUTES_ADD),
        assumed: false,
    })
}

/// What a port allows until the control plane answers.
pub fn default(policy: &DefaultPolicy, opaque: bool, detect_timeout: Duration) -> Policy {
    let everywhere = || vec![IpNet::from(Ipv4Net::default()), IpNet::from(Ipv6Net::default())];
    let any_identity = || Authentication::TlsAuthenticated { identities: vec![], suffixes: vec!["".into()] };
    let allow = |networks: Vec<IpNet>, authentication, audit| {
        vec![Authorization {
            meta: default_meta(policy.name()),
            networks: networks.into_iter().map(|net| Network { net, except: vec![] }).collect(),
            authentication,
            audit,
        }]
    };
    let authorizations = match policy {
        DefaultPolicy::AllUnauthenticated => allow(everywhere(), Authentication::Unauthenticated, false),
        DefaultPolicy::AllAuthenticated => allow(everywhere(), any_identity(), false),
        DefaultPolicy::ClusterUnauthenticated(nets) => {
            allow(nets.clone(), Authentication::Unauthenticated, false)
        }
        DefaultPolicy::ClusterAuthenticated(nets) => allow(nets.clone(), any_identity(), false),
        DefaultPolicy::Audit => allow(everywhere(), Authentication::Unauthenticated, true),
        DefaultPolicy::Deny => vec![],
    };
    Policy {
        meta: default_meta(policy.name()),
        protocol: if opaque {
            Protocol::Opaque
        } else {
            Protocol::Detect { timeout: detect_timeout, routes: vec![default_route()].into() }
        },
        authorizations: authorizations.into(),
        rate_limit: None,
        routes_add: false,
        assumed: true,
    }
}

fn protocol(kind: Kind) -> Result<(Protocol, Option<RateLimit>)> {
    Ok(match kind {
        Kind::Detect(detect) => (
            Protocol::Detect {
                timeout: duration("timeout", detect.timeout)?,
                routes: http_routes(detect.http_routes)?,
            },
            rate_limit(detect.http_local_rate_limit)?,
        ),
        Kind::Http1(http1) => {
            (Protocol::Http1(http_routes(http1.routes)?), rate_limit(http1.local_rate_limit)?)
        }
        Kind::Http2(http2) => {
            (Protocol::Http2(http_routes(http2.routes)?), rate_limit(http2.local_rate_limit)?)
        }
        Kind::Grpc(grpc) => (Protocol::Grpc(or_default(each("routes", grpc.routes, grpc_route)?)), None),
        Kind::Opaque(_) => (Protocol::Opaque, None),
        Kind::Tls(_) => (Protocol::Tls, None),
    })
}

fn rate_limit(limit: Option<api::HttpLocalRateLimit>) -> Result<Option<RateLimit>> {
    let Some(limit) = limit else { return Ok(None) };
    let per_s = |limit: Limit| limit.requests_per_second;
    let overrides = each("overrides", limit.overrides, |exception| {
        let clients = required("clients", exception.clients)?;
        Ok((each("identities", clients.identities, identity)?, per_s(required("limit", exception.limit)?)))
    });
    Ok(Some(RateLimit {
        total_per_s: limit.total.map(per_s),
        identity_per_s: limit.identity.map(per_s),
        overrides: overrides.map_err(|invalid| invalid.at("rate_limit"))?,
    }))
}

fn identity(identity: api::Identity) -> Result<Arc<str>> {
    match identity.name.as_str() {
        "" => Err(Invalid::missing("name")),
        name => Ok(Arc::from(name)),
    }
}

fn http_routes(routes: Vec<api::HttpRoute>) -> Result<Arc<[HttpRoute]>> {
    each("routes", routes, |route| {
        Ok(HttpRoute {
            meta: meta(route.metadata)?,
            hosts: http::hosts(route.hosts)?,
            authorizations: each("authorizations", route.authorizations, authorization)?.into(),
            rules: each("rules", route.rules, |rule| {
                Ok(HttpRule {
                    matches: http::matches(rule.matches)?,
                    filters: each("filters", rule.filters, http_filter)?,
                })
            })?,
        })
    })
    .map(or_default)
}

fn grpc_route(route: api::GrpcRoute) -> Result<HttpRoute> {
    Ok(HttpRoute {
        meta: meta(route.metadata)?,
        hosts: http::hosts(route.hosts)?,
        authorizations: each("authorizations", route.authorizations, authorization)?.into(),
        rules: each("rules", route.rules, |rule| {
            Ok(HttpRule {
                matches: http::rpc_matches(rule.matches)?,
                filters: each("filters", rule.filters, grpc_filter)?,
            })
        })?,
    })
}

/// A port without routes takes every request.
fn or_default(routes: Vec<HttpRoute>) -> Arc<[HttpRoute]> {
    if routes.is_empty() { vec![default_route()].into() } else { routes.into() }
}

fn default_route() -> HttpRoute {
    HttpRoute {
        meta: default_meta("default"),
        hosts: vec![],
        authorizations: vec![].into(),
        rules: vec![HttpRule { matches: vec![RequestMatch::default()], filters: vec![] }],
    }
}

fn http_filter(filter: http_route::Filter) -> Result<Filter> {
    match required("kind", filter.kind)? {
        http_route::filter::Kind::FailureInjector(injector) => http::fail_http(injector),
        http_route::filter::Kind::RequestHeaderModifier(modifier) => http::request_headers(modifier),
        http_route::filter::Kind::Redirect(redirect) => http::redirect(redirect),
    }
}

fn grpc_filter(filter: grpc_route::Filter) -> Result<Filter> {
    match required("kind", filter.kind)? {
        grpc_route::filter::Kind::FailureInjector(injector) => http::fail_grpc(injector),
        grpc_route::filter::Kind::RequestHeaderModifier(modifier) => http::request_headers(modifier),
    }
}

fn authorization(authz: api::Authz) -> Result<Authorization> {
    if authz.networks.is_empty() {
        return Err(Invalid::missing("networks"));
    }
    let audit = authz.labels.get(names::AUDIT_LABEL).is_some_and(|value| value == "true");
    let meta = match authz.metadata {
        Some(metadata) => meta(Some(metadata))?,
        None => labels_meta(&authz.labels)?,
    };
    Ok(Authorization {
        audit: audit || (&*meta.kind == "default" && &*meta.name == AUDIT),
        meta,
        networks: each("networks", authz.networks, network)?,
        authentication: authentication(authz.authentication)
            .map_err(|invalid| invalid.at("authentication"))?,
    })
}

fn network(network: api::Network) -> Result<Network> {
    let net = |net: linkerd2_proxy_api::net::IpNetwork| {
        IpNet::try_from(net).map_err(|error| Invalid::new(error.to_string()))
    };
    Ok(Network { net: net(required("net", network.net)?)?, except: each("except", network.except, net)? })
}

fn authentication(authn: Option<api::Authn>) -> Result<Authentication> {
    let tls = match required("permit", authn.and_then(|authn| authn.permit))? {
        Permit::Unauthenticated(_) => return Ok(Authentication::Unauthenticated),
        Permit::MeshTls(tls) => tls,
    };
    match required("clients", tls.clients)? {
        Clients::Unauthenticated(_) => Ok(Authentication::TlsUnauthenticated),
        Clients::Identities(clients) => Ok(Authentication::TlsAuthenticated {
            identities: each("identities", clients.identities, identity)?,
            suffixes: each("suffixes", clients.suffixes, |suffix| match suffix.parts.as_slice() {
                [] => Ok(Arc::from("")),
                parts if parts.iter().any(String::is_empty) => Err(Invalid::new("empty part")),
                parts => Ok(Arc::from(format!(".{}", parts.join(".")))),
            })?,
        }),
    }
}

/// Linkerd names what stands behind a port or an authorization by free labels.
fn labels_meta(labels: &HashMap<String, String>) -> Result<Meta> {
    let label = |name: &str| labels.get(name).map(String::as_str).unwrap_or_default();
    let name = match label("name") {
        "" => return Err(Invalid::missing("labels.name")),
        name => name,
    };
    Ok(Meta {
        kind: if label("kind").is_empty() { "default" } else { label("kind") }.into(),
        group: label("group").into(),
        namespace: label("namespace").into(),
        ..default_meta(name)
    })
}
