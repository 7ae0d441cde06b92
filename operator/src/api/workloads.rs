//! The list of workloads, and one of them in full.

use super::{
    directory::{NodeId, Workload as Known},
    flows::Flows,
    graph::{health_of, node_health, of_node},
    mesh::{Mesh, Proxies},
    tally::Tally,
};
use crate::telemetry::{Label, Metric, Snapshot};
use mesh_api::{
    graph::Protocol,
    trace::TraceSummary,
    workload::{AuthorizationStat, Peer, Pod, RouteStat, Workload, WorkloadList, WorkloadRow},
};
use std::collections::BTreeMap;

/// Every workload that policy knows, by namespace and name.
pub fn list(mesh: &Mesh, snapshot: &Snapshot, flows: &Flows, shown: &[String], now_ms: u64) -> WorkloadList {
    let proxies = Proxies::of(snapshot);
    let known = mesh.directory.workloads().iter();
    let workloads = known
        .filter(|((ns, _), _)| shown.is_empty() || shown.contains(ns))
        .map(|((ns, name), known)| {
            row(mesh, snapshot, flows, &proxies, &NodeId::workload(ns, name), known, now_ms)
        })
        .collect();
    WorkloadList { at_ms: snapshot.at_ms, window_s: snapshot.window_s, workloads }
}

fn row(
    mesh: &Mesh,
    snapshot: &Snapshot,
    flows: &Flows,
    proxies: &Proxies<'_>,
    node: &NodeId,
    known: &Known,
    now_ms: u64,
) -> WorkloadRow {
    let tally = of_node(flows, node);
    let (health, reason) = node_health(mesh, snapshot, flows, proxies, node, &tally, now_ms);
    WorkloadRow {
        namespace: node.namespace().into(),
        name: node.name().into(),
        app: known.app.clone(),
        version: known.version.clone(),
        pods: known.pods.len() as u32,
        meshed_pods: known.meshed_pods as u32,
        health,
        reason,
        golden: tally.golden(snapshot.covered_s),
        tcp: tally.tcp(snapshot.covered_s),
        spark: tally.spark(),
    }
}

/// `None` where policy knows no such workload.
pub fn detail(
    mesh: &Mesh,
    snapshot: &Snapshot,
    flows: &Flows,
    node: &NodeId,
    traces: Vec<TraceSummary>,
    now_ms: u64,
) -> Option<Workload> {
    let known = mesh.directory.workload(node)?;
    let proxies = Proxies::of(snapshot);
    Some(Workload {
        at_ms: snapshot.at_ms,
        window_s: snapshot.window_s,
        row: row(mesh, snapshot, flows, &proxies, node, known, now_ms),
        identity: known.identity.clone(),
        inbound: peers(mesh, snapshot, flows, node, Side::Inbound),
        outbound: peers(mesh, snapshot, flows, node, Side::Outbound),
        routes: routes(mesh, snapshot, node),
        authorizations: authorizations(mesh, snapshot, node),
        pods: mesh
            .directory
            .pods_of(known)
            .map(|pod| {
                let proxy = proxies.get(&pod.namespace, &pod.name);
                Pod {
                    name: pod.name.clone(),
                    ip: pod.ips.first().map(ToString::to_string).unwrap_or_default(),
                    meshed: pod.meshed,
                    proxy_version: proxy
                        .map(|proxy| proxy.version.clone())
                        .filter(|version| !version.is_empty()),
                    certificate_left_s: proxy
                        .and_then(|proxy| proxy.certificate_expires_s)
                        .map(|expires_s| expires_s.saturating_sub(now_ms / 1000)),
                    proxy_memory_bytes: proxy.and_then(|proxy| proxy.memory_bytes),
                    last_seen_ms: proxy.map(|proxy| now_ms.saturating_sub(proxy.last_seen_ms)),
                }
            })
            .collect(),
        traces,
    })
}

#[derive(Clone, Copy, PartialEq)]
enum Side {
    Inbound,
    Outbound,
}

/// The other ends of a workload's traffic, busiest first.
fn peers(mesh: &Mesh, snapshot: &Snapshot, flows: &Flows, node: &NodeId, side: Side) -> Vec<Peer> {
    let mut by_peer: BTreeMap<&NodeId, super::flows::Flow> = BTreeMap::new();
    for (ends, flow) in &flows.between {
        let (own, other) = match side {
            Side::Inbound => (&ends.to, &ends.from),
            Side::Outbound => (&ends.from, &ends.to),
        };
        if own == node {
            by_peer.entry(other).or_default().merge(flow.clone());
        }
    }
    let mut peers: Vec<Peer> = by_peer
        .into_iter()
        .map(|(peer, flow)| {
            let golden = flow.tally.golden(snapshot.covered_s);
            let seen = match side {
                // Of a meshed client its own proxy reports, which names the server only: its identity is known from policy.
                Side::Inbound => flow.client_identity.clone().or_else(|| {
                    flow.tally.mtls().filter(|share| *share > 0.0)?;
                    mesh.directory.workload(peer)?.identity.clone()
                }),
                Side::Outbound => flow.server_identity.clone(),
            };
            Peer {
                id: peer.to_string(),
                namespace: peer.namespace().into(),
                name: peer.name().into(),
                health: health_of(&flow.tally, &golden),
                protocol: flow.tally.protocol(),
                tcp: flow.tally.tcp(snapshot.covered_s),
                mtls: flow.tally.mtls(),
                identity: seen,
                denied: flow.denied,
                golden,
            }
        })
        .collect();
    let busy = |peer: &Peer| (peer.golden.requests, peer.protocol == Protocol::Tcp);
    peers.sort_by(|a, b| busy(b).cmp(&busy(a)).then_with(|| a.id.cmp(&b.id)));
    peers
}

/// `HTTPRoute bookinfo/reviews`; what policy made up where nobody wrote a route is `default`.
pub fn route_name(kind: &str, namespace: &str, name: &str) -> String {
    if name.is_empty() || namespace.is_empty() || !kind.ends_with("Route") {
        return "default".into();
    }
    format!("{kind} {namespace}/{name}")
}

fn routes(mesh: &Mesh, snapshot: &Snapshot, node: &NodeId) -> Vec<RouteStat> {
    let mut by_route: BTreeMap<(String, &str), Tally> = BTreeMap::new();
    for (row, labels) in snapshot.rows() {
        if row.metric() != Metric::Response
            || row.sample.count == 0
            || mesh.directory.node_of_pod(labels.get(Label::Namespace), labels.get(Label::Pod)) != *node
        {
            continue;
        }
        let route = route_name(
            labels.get(Label::RouteKind),
            labels.get(Label::RouteNamespace),
            labels.get(Label::RouteName),
        );
        by_route.entry((route, labels.get(Label::Direction))).or_default().add(row, &labels);
    }
    let mut routes: Vec<RouteStat> = by_route
        .into_iter()
        .map(|((route, direction), tally)| RouteStat {
            route,
            direction: direction.into(),
            golden: tally.golden(snapshot.covered_s),
        })
        .collect();
    // A stable sort: among equals the order of names stays.
    routes.sort_by_key(|route| std::cmp::Reverse(route.golden.requests));
    routes
}

fn authorizations(mesh: &Mesh, snapshot: &Snapshot, node: &NodeId) -> Vec<AuthorizationStat> {
    let mut by_policy: BTreeMap<(String, Option<String>), AuthorizationStat> = BTreeMap::new();
    for (row, labels) in snapshot.rows() {
        let allowed = match row.metric() {
            Metric::HttpAllow | Metric::TcpAllow => true,
            Metric::HttpDeny | Metric::TcpDeny => false,
            _ => continue,
        };
        let count = row.sample.count;
        if count == 0
            || mesh.directory.node_of_pod(labels.get(Label::Namespace), labels.get(Label::Pod)) != *node
        {
            continue;
        }
        // What was let in names the rule that did; what was denied, the policy that has no rule for it.
        let (kind, name) = match allowed {
            true => (Label::AuthzKind, Label::AuthzName),
            false => (Label::SrvKind, Label::SrvName),
        };
        let policy = authorization_name(labels.get(kind), node.namespace(), labels.get(name));
        let client = [labels.get(Label::ClientId), labels.get(Label::ClientIp)]
            .into_iter()
            .find(|text| !text.is_empty())
            .map(str::to_owned);
        let stat = by_policy.entry((policy.clone(), client.clone())).or_insert(AuthorizationStat {
            policy,
            client,
            allowed: 0,
            denied: 0,
            audited: 0,
        });
        match (allowed, labels.get(Label::Audit) == "true") {
            (true, true) => stat.audited += count,
            (true, false) => stat.allowed += count,
            (false, _) => stat.denied += count,
        }
    }
    let mut stats: Vec<AuthorizationStat> = by_policy.into_values().collect();
    stats.sort_by_key(|stat| std::cmp::Reverse(stat.allowed + stat.denied + stat.audited));
    stats
}

/// `AuthorizationPolicy bookinfo/ratings-viewer`, or `default mesh-only`.
fn authorization_name(kind: &str, namespace: &str, name: &str) -> String {
    match (kind, name) {
        ("", "") => "no policy".into(),
        ("" | "default", name) => format!("default {name}"),
        // Inbound policy names its authorizations by labels, whose values Linkerd writes in lower case.
        ("authorizationpolicy", name) => format!("AuthorizationPolicy {namespace}/{name}"),
        (kind, name) => format!("{kind} {namespace}/{name}"),
    }
}
