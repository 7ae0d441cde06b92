//! A port's policy as a `Server`.

use super::{duration, http, meta};
use linkerd2_proxy_api::inbound::{
    self as api, Authn, Authz, HttpRoute, Identity, IdentitySuffix, Network, ProxyProtocol, Server,
    authn::{
        Permit, PermitMeshTls, PermitUnauthenticated,
        permit_mesh_tls::{Clients, PermitClientIdentities},
    },
    http_route,
    proxy_protocol::{Detect, Kind, Opaque},
};
use mesh_api::names;
use mesh_policy::{
    Meta,
    inbound::{Authentication, Authorization, Policy, Route},
    outbound::{HttpMatch, PathMatch},
};
use std::time::Duration;

/// How long a proxy looks for a protocol before it forwards the bytes as they are.
const DETECT_TIMEOUT: Duration = Duration::from_secs(10);

pub fn server(policy: &Policy) -> Server {
    let mut labels = meta::labels(&policy.meta);
    labels.insert(names::ROUTES_LABEL.into(), names::ROUTES_ADD.into());
    let kind = match policy.opaque {
        true => Kind::Opaque(Opaque {}),
        false => Kind::Detect(Detect {
            timeout: Some(duration(DETECT_TIMEOUT)),
            // The default route comes last: it takes what no other one matches, and adds no authorization.
            http_routes: policy.routes.iter().map(route).chain([default_route()]).collect(),
            http_local_rate_limit: None,
        }),
    };
    Server {
        protocol: Some(ProxyProtocol { kind: Some(kind) }),
        server_ips: vec![],
        authorizations: policy.authorizations.iter().map(authorization).collect(),
        labels,
    }
}

fn route(route: &Route) -> HttpRoute {
    HttpRoute {
        metadata: Some(meta::metadata(&route.meta)),
        hosts: vec![],
        authorizations: route.authorizations.iter().map(authorization).collect(),
        rules: vec![rule(&route.matches)],
    }
}

fn default_route() -> HttpRoute {
    let everything =
        HttpMatch { path: PathMatch::Prefix("/".into()), headers: vec![], query: vec![], method: None };
    HttpRoute {
        metadata: Some(meta::metadata(&Meta::Default("default"))),
        hosts: vec![],
        authorizations: vec![],
        rules: vec![rule(&[everything])],
    }
}

fn rule(matches: &[HttpMatch]) -> http_route::Rule {
    http_route::Rule { matches: matches.iter().map(http::matching).collect(), filters: vec![] }
}

fn authorization(own: &Authorization) -> Authz {
    let mut labels = meta::labels(&own.meta);
    if own.audit {
        labels.insert(names::AUDIT_LABEL.into(), "true".into());
    }
    let network = |network: &mesh_policy::inbound::Network| Network {
        net: Some(network.net.into()),
        except: network.except.iter().map(|except| (*except).into()).collect(),
    };
    Authz {
        networks: own.networks.iter().map(network).collect(),
        authentication: Some(Authn { permit: Some(permit(&own.authentication)) }),
        labels,
        metadata: Some(meta::metadata(&own.meta)),
    }
}

fn permit(authentication: &Authentication) -> Permit {
    let clients = match authentication {
        Authentication::None => return Permit::Unauthenticated(PermitUnauthenticated {}),
        // A suffix without parts ends every name.
        Authentication::AnyIdentity => {
            PermitClientIdentities { identities: vec![], suffixes: vec![IdentitySuffix { parts: vec![] }] }
        }
        Authentication::Identities { names, suffixes } => PermitClientIdentities {
            identities: names.iter().map(|name| Identity { name: name.clone() }).collect(),
            suffixes: suffixes.iter().map(|suffix| self::suffix(suffix)).collect(),
        },
    };
    Permit::MeshTls(PermitMeshTls { clients: Some(Clients::Identities(clients)) })
}

fn suffix(suffix: &str) -> api::IdentitySuffix {
    let parts = suffix.trim_start_matches('.').split('.').map(str::to_owned);
    IdentitySuffix { parts: parts.collect() }
}
