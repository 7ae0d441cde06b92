//! Endpoints as `Destination` messages: the first complete, later ones as differences.

use super::{duration, meta::metadata};
use linkerd2_proxy_api::destination::{
    AddrSet, DestinationProfile, Http2ClientParams, NoEndpoints, ProtocolHint, RetryBudget, TlsIdentity,
    Update, WeightedAddr, WeightedAddrSet,
    http2_client_params::KeepAlive,
    protocol_hint::{H2, Opaque, OpaqueTransport, Protocol},
    tls_identity::{DnsLikeIdentity, Strategy},
    update,
};
use mesh_policy::{Authority, Endpoint, EndpointSet, Meta, ProtocolHint as Hint};
use std::{collections::HashMap, time::Duration};

/// What "as much as any other" is.
const WEIGHT: u32 = 10_000;

/// The messages that lead a subscriber from `before` to `now`. `zone` is the subscriber's.
pub fn updates(before: Option<&EndpointSet>, now: &EndpointSet, zone: Option<&str>) -> Vec<Update> {
    let message = |update| Update { update: Some(update) };
    if before.is_some_and(|before| before.exists == now.exists && before.endpoints == now.endpoints) {
        return vec![];
    }
    // Said in so many words: silence would be taken for a lost connection.
    if now.endpoints.is_empty() {
        return vec![message(update::Update::NoEndpoints(NoEndpoints { exists: now.exists }))];
    }
    let mut updates = vec![];
    let changed = now.endpoints.iter().filter(|(addr, endpoint)| {
        before.and_then(|before| before.endpoints.get(addr)).is_none_or(|before| before != *endpoint)
    });
    let addrs: Vec<WeightedAddr> = changed.map(|(_, endpoint)| weighted(endpoint, zone)).collect();
    if !addrs.is_empty() {
        let labels = [("service", &now.service), ("namespace", &now.namespace)];
        let metric_labels =
            labels.into_iter().map(|(name, value)| (name.to_owned(), value.clone())).collect();
        updates.push(message(update::Update::Add(WeightedAddrSet { addrs, metric_labels })));
    }
    let before = before.into_iter().flat_map(|before| before.endpoints.keys());
    let gone: Vec<_> =
        before.filter(|addr| !now.endpoints.contains_key(addr)).map(|addr| (*addr).into()).collect();
    if !gone.is_empty() {
        updates.push(message(update::Update::Remove(AddrSet { addrs: gone })));
    }
    updates
}

fn weighted(endpoint: &Endpoint, zone: Option<&str>) -> WeightedAddr {
    let meshed = endpoint.identity.is_some();
    WeightedAddr {
        addr: Some(endpoint.addr.into()),
        weight: WEIGHT,
        metric_labels: labels(endpoint, zone),
        tls_identity: endpoint.identity.as_ref().map(|identity| TlsIdentity {
            strategy: Some(Strategy::DnsLikeIdentity(DnsLikeIdentity { name: identity.clone() })),
            server_name: Some(DnsLikeIdentity { name: identity.clone() }),
        }),
        protocol_hint: hint(endpoint),
        authority_override: None,
        http2: meshed.then(|| Http2ClientParams {
            keep_alive: Some(KeepAlive {
                interval: Some(duration(Duration::from_secs(10))),
                timeout: Some(duration(Duration::from_secs(3))),
                while_idle: true,
            }),
            ..Http2ClientParams::default()
        }),
        resource_ref: None,
    }
}

fn hint(endpoint: &Endpoint) -> Option<ProtocolHint> {
    let protocol = match endpoint.hint {
        Hint::None => None,
        Hint::H2 => Some(Protocol::H2(H2 {})),
        Hint::Opaque => Some(Protocol::Opaque(Opaque {})),
    };
    let opaque_transport =
        endpoint.opaque_transport_port.map(|port| OpaqueTransport { inbound_port: port.into() });
    (protocol.is_some() || opaque_transport.is_some()).then_some(ProtocolHint { protocol, opaque_transport })
}

fn labels(endpoint: &Endpoint, zone: Option<&str>) -> HashMap<String, String> {
    let locality = match (zone, endpoint.zone.as_deref()) {
        (Some(own), Some(other)) if own == other => "local",
        (Some(_), Some(_)) => "remote",
        _ => "unknown",
    };
    let mut labels = HashMap::new();
    let mut add = |name: &str, value: &str| {
        if !value.is_empty() {
            labels.insert(name.to_owned(), value.to_owned());
        }
    };
    add("pod", &endpoint.pod);
    add("workload", &endpoint.workload);
    add("serviceaccount", &endpoint.service_account);
    add("zone", endpoint.zone.as_deref().unwrap_or_default());
    if !endpoint.pod.is_empty() {
        add("zone_locality", locality);
    }
    labels
}

/// An address that is asked for by itself: its namespace, which a Service's set says of all, stands with it.
pub fn alone(endpoint: &Endpoint) -> WeightedAddr {
    let mut addr = weighted(endpoint, None);
    if !endpoint.namespace.is_empty() {
        addr.metric_labels.insert("namespace".into(), endpoint.namespace.clone());
    }
    addr
}

/// A Service: no routes, so that `OutboundPolicies` governs.
pub fn service_profile(authority: &Authority, cluster_domain: &str, opaque: bool) -> DestinationProfile {
    DestinationProfile {
        fully_qualified_name: format!("{}.{}.svc.{cluster_domain}", authority.service, authority.namespace),
        opaque_protocol: opaque,
        retry_budget: Some(retry_budget()),
        parent_ref: Some(metadata(&Meta::service(&authority.namespace, &authority.service, authority.port))),
        ..DestinationProfile::default()
    }
}

/// One address, a Pod's or not.
pub fn pod_profile(endpoint: &Endpoint) -> DestinationProfile {
    DestinationProfile {
        opaque_protocol: endpoint.hint == Hint::Opaque,
        retry_budget: Some(retry_budget()),
        endpoint: Some(alone(endpoint)),
        ..DestinationProfile::default()
    }
}

fn retry_budget() -> RetryBudget {
    RetryBudget { retry_ratio: 0.2, min_retries_per_second: 10, ttl: Some(duration(Duration::from_secs(10))) }
}
