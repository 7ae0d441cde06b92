//! The service graph: workloads, the Services that split over several of them, and what runs between them.

use super::{
    directory::NodeId,
    flows::{Flow, Flows},
    mesh::{Mesh, Proxies, Reporting},
    reason,
    tally::{Tally, share},
};
use crate::{layout, telemetry::Snapshot};
use axum::body::Bytes;
use mesh_api::{
    graph::{Edge, EdgeMetrics, Group, Metrics, Node, NodeKind, NodeMetrics, Protocol, Topology},
    health::Health,
};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex, PoisonError},
};

const CARD: (f64, f64) = (160.0, 64.0);
const PILL_HEIGHT: f64 = 32.0;

/// An edge as it is drawn: to and from a Service's pill where the Service has one.
#[derive(Debug, Default)]
pub struct Drawn {
    pub flow: Flow,
    /// Of the Service's requests, where the edge leaves a pill.
    observed: Option<f64>,
    wanted: Option<f64>,
}

/// Topologies that were laid out and encoded, by the namespaces that they show. Traffic changes every second, the map rarely.
#[derive(Debug, Default)]
pub struct Maps(Mutex<HashMap<Vec<String>, Arc<Map>>>);

/// Selections of namespaces whose maps are kept.
const MAX_MAPS: usize = 32;

#[derive(Debug)]
pub struct Map {
    /// What it was made of: nodes without their places, and edges between them.
    nodes: Vec<Node>,
    ends: Vec<(usize, usize)>,
    pub topology: Topology,
    pub json: Bytes,
}

impl Maps {
    fn of(&self, shown: &[String], nodes: Vec<Node>, ends: Vec<(usize, usize)>) -> Arc<Map> {
        let mut maps = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(map) = maps.get(shown)
            && map.nodes == nodes
            && map.ends == ends
        {
            return map.clone();
        }
        let before = maps.get(shown).map(|map| before(&map.topology)).unwrap_or_default();
        let topology = topology(&nodes, &ends, &before);
        let json = serde_json::to_vec(&topology).expect(PLAIN).into();
        let map = Arc::new(Map { nodes, ends, topology, json });
        if maps.len() >= MAX_MAPS {
            maps.clear();
        }
        maps.insert(shown.to_vec(), map.clone());
        map
    }
}

const PLAIN: &str = "a topology has only plain fields";

/// The graph of all namespaces in `shown`, with the neighbours that they talk to; of all where `shown` is empty.
pub fn graph(
    maps: &Maps,
    mesh: &Mesh,
    snapshot: &Snapshot,
    flows: &Flows,
    shown: &[String],
    now_ms: u64,
) -> (Arc<Map>, Metrics) {
    let pills = flows.split_services();
    let edges = drawn(mesh, flows, &pills);
    let is_shown = |node: &NodeId| shown.is_empty() || shown.iter().any(|ns| ns == node.namespace());
    let edges: Vec<((NodeId, NodeId), Drawn)> =
        edges.into_iter().filter(|((from, to), _)| is_shown(from) || is_shown(to)).collect();
    let mut nodes: BTreeSet<NodeId> = standing(mesh).into_iter().filter(|node| is_shown(node)).collect();
    nodes.extend(edges.iter().flat_map(|((from, to), _)| [from.clone(), to.clone()]));
    let nodes: Vec<NodeId> = nodes.into_iter().collect();

    let index: HashMap<&NodeId, usize> = nodes.iter().enumerate().map(|(i, node)| (node, i)).collect();
    let ends = edges.iter().map(|((from, to), _)| (index[from], index[to])).collect();
    let map = maps.of(shown, nodes.iter().map(|node| describe(mesh, node)).collect(), ends);
    let proxies = Proxies::of(snapshot);
    let metrics = Metrics {
        version: map.topology.version,
        at_ms: snapshot.at_ms,
        window_s: snapshot.window_s,
        nodes: nodes.iter().map(|node| node_metrics(mesh, snapshot, flows, &proxies, node, now_ms)).collect(),
        edges: edges.iter().map(|((_, to), drawn)| edge_metrics(snapshot, to, drawn)).collect(),
    };
    (map, metrics)
}

/// Workloads that are drawn even when idle: all of a namespace in which something is meshed.
fn standing(mesh: &Mesh) -> Vec<NodeId> {
    let workloads = mesh.directory.workloads();
    let meshed: BTreeSet<&str> = workloads
        .iter()
        .filter(|(_, workload)| workload.meshed_pods > 0)
        .map(|((ns, _), _)| ns.as_str())
        .collect();
    workloads
        .keys()
        .filter(|(ns, _)| meshed.contains(ns.as_str()))
        .map(|(ns, name)| NodeId::workload(ns, name))
        .collect()
}

/// Flows as edges. Those by way of a Service that splits become two: to its pill, and from it.
pub fn drawn(mesh: &Mesh, flows: &Flows, pills: &BTreeSet<NodeId>) -> BTreeMap<(NodeId, NodeId), Drawn> {
    let mut edges: BTreeMap<(NodeId, NodeId), Drawn> = BTreeMap::new();
    let mut through: BTreeMap<&NodeId, u64> = BTreeMap::new();
    for (ends, flow) in &flows.between {
        let pill = ends.service.as_ref().filter(|service| pills.contains(service));
        let first_to = pill.unwrap_or(&ends.to);
        edges.entry((ends.from.clone(), first_to.clone())).or_default().flow.merge(flow.clone());
        let Some(pill) = pill.filter(|pill| **pill != ends.to) else { continue };
        *through.entry(pill).or_default() += flow.tally.requests();
        edges.entry((pill.clone(), ends.to.clone())).or_default().flow.merge(flow.clone());
    }
    for pill in pills {
        let wanted = mesh.wanted(pill, &flows.by_rule);
        for ((from, to), edge) in &mut edges {
            if from == pill {
                edge.observed = share(edge.flow.tally.requests(), through[pill]);
                edge.wanted = wanted.get(to).copied();
            }
        }
    }
    edges
}

fn before(topology: &Topology) -> layout::Before<'_> {
    layout::Before {
        nodes: topology.nodes.iter().map(|node| (node.id.as_str(), (node.x, node.y))).collect(),
        groups: topology.groups.iter().map(|group| (group.namespace.as_str(), (group.x, group.y))).collect(),
    }
}

fn topology(nodes: &[Node], ends: &[(usize, usize)], before: &layout::Before<'_>) -> Topology {
    let mut drawn = nodes.to_vec();
    let boxes: Vec<layout::Node> = drawn
        .iter()
        .map(|node| layout::Node {
            id: node.id.clone(),
            group: (!node.namespace.is_empty()).then(|| node.namespace.clone()),
            width: node.width,
            height: node.height,
            pill: node.kind == NodeKind::Service,
        })
        .collect();
    let layout = layout::layout(&boxes, ends, before);
    for (node, (x, y)) in drawn.iter_mut().zip(&layout.nodes) {
        (node.x, node.y) = (*x, *y);
    }
    let edges = ends
        .iter()
        .zip(layout.edges)
        .map(|(&(from, to), curve)| Edge {
            id: format!("{}>{}", nodes[from].id, nodes[to].id),
            from: nodes[from].id.clone(),
            to: nodes[to].id.clone(),
            points: curve.points.into_iter().map(|(x, y)| (tenth(x), tenth(y))).collect(),
            back: curve.back,
        })
        .collect();
    let groups = layout
        .groups
        .into_iter()
        .map(|group| Group {
            namespace: group.name,
            x: group.x,
            y: group.y,
            width: group.width,
            height: group.height,
        })
        .collect();
    let mut topology =
        Topology { version: 0, width: layout.width, height: layout.height, nodes: drawn, edges, groups };
    topology.version = version(&topology);
    topology
}

fn tenth(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

/// A hash of the content (FNV-1a), so that any two viewers agree. 53 bits: exact in JavaScript.
fn version(topology: &Topology) -> u64 {
    let text = serde_json::to_vec(topology).expect(PLAIN);
    let hash = text.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    hash >> 11
}

fn describe(mesh: &Mesh, id: &NodeId) -> Node {
    let workload = mesh.directory.workload(id);
    let is_pill = matches!(id, NodeId::Service { .. });
    // Gone from policy but still reporting: its proxy was there.
    let meshed = workload.map_or(!matches!(id, NodeId::Outside(_)), |workload| workload.meshed_pods > 0);
    let (width, height) = if is_pill { (pill_width(id.name()), PILL_HEIGHT) } else { CARD };
    Node {
        id: id.to_string(),
        kind: match id {
            NodeId::Service { .. } => NodeKind::Service,
            NodeId::Workload { .. } if meshed => NodeKind::Workload,
            NodeId::Workload { .. } | NodeId::Outside(_) => NodeKind::External,
        },
        namespace: id.namespace().into(),
        label: workload
            .map(|workload| workload.app.as_str())
            .filter(|app| !app.is_empty())
            .unwrap_or(id.name())
            .into(),
        name: id.name().into(),
        version: workload.and_then(|workload| workload.version.clone()),
        meshed,
        x: 0.0,
        y: 0.0,
        width,
        height,
    }
}

/// Room for the name at 13 px, and round ends.
fn pill_width(name: &str) -> f64 {
    (28.0 + 7.0 * name.chars().count() as f64).clamp(64.0, CARD.0)
}

fn node_metrics(
    mesh: &Mesh,
    snapshot: &Snapshot,
    flows: &Flows,
    proxies: &Proxies<'_>,
    node: &NodeId,
    now_ms: u64,
) -> NodeMetrics {
    let tally = of_node(flows, node);
    let (health, reason) = node_health(mesh, snapshot, flows, proxies, node, &tally, now_ms);
    NodeMetrics { health, reason, golden: tally.golden(snapshot.covered_s), spark: tally.spark() }
}

/// What a node received, as its own proxies say; where it only sends, or has no proxy, what is known of it from others.
pub fn of_node(flows: &Flows, node: &NodeId) -> Tally {
    let own = [flows.received.get(node), flows.sent.get(node)].into_iter().flatten();
    if let Some(tally) = own.clone().find(|tally| tally.ran()).or_else(|| own.clone().next()) {
        return tally.clone();
    }
    let (mut received, mut sent) = (Tally::default(), Tally::default());
    for (ends, flow) in &flows.between {
        if ends.to == *node || ends.service.as_ref() == Some(node) {
            received.merge(&flow.tally);
        } else if ends.from == *node {
            sent.merge(&flow.tally);
        }
    }
    if received.ran() { received } else { sent }
}

/// In one word, and why.
pub fn node_health(
    mesh: &Mesh,
    snapshot: &Snapshot,
    flows: &Flows,
    proxies: &Proxies<'_>,
    node: &NodeId,
    tally: &Tally,
    now_ms: u64,
) -> (Health, String) {
    match proxies.reporting(&mesh.directory, node, now_ms) {
        Reporting::NotMeshed => return (Health::Unknown, "not in the mesh".into()),
        Reporting::Never => return (Health::Unknown, "its proxy has not reported yet".into()),
        Reporting::Silent(ms) => {
            return (Health::Unknown, format!("its proxy has been silent for {} s", ms / 1000));
        }
        Reporting::Live => {}
    }
    let golden = tally.golden(snapshot.covered_s);
    let health = health_of(tally, &golden);
    let mut reason = reason::of_errors(&golden, tally, snapshot.window_s, "");
    if !reason.is_empty()
        && let Some((to, failed, requests)) = failing_call(flows, node, tally.failed)
    {
        reason += &format!("; of its calls to {to}, {failed} of {requests} fail");
    }
    (health, reason)
}

/// The callee that explains at least half of a node's failures.
fn failing_call<'a>(flows: &'a Flows, node: &NodeId, failed: u64) -> Option<(&'a str, u64, u64)> {
    let calls = flows.between.iter().filter(|(ends, _)| ends.from == *node);
    let worst = calls.max_by_key(|(_, flow)| flow.tally.failed)?;
    let (ends, flow) = worst;
    (flow.tally.failed > 0 && flow.tally.failed * 2 >= failed)
        .then(|| (ends.to.name(), flow.tally.failed, flow.tally.requests()))
}

/// Requests are judged by their success; opaque connections are well when there are any.
pub fn health_of(tally: &Tally, golden: &mesh_api::golden::Golden) -> Health {
    match Health::of(golden) {
        Health::Idle if tally.ran() => Health::Healthy,
        health => health,
    }
}

fn edge_metrics(snapshot: &Snapshot, to: &NodeId, Drawn { flow, observed, wanted }: &Drawn) -> EdgeMetrics {
    let golden = flow.tally.golden(snapshot.covered_s);
    let mut reason =
        reason::of_errors(&golden, &flow.tally, snapshot.window_s, &format!("from {}", to.name()));
    if flow.denied > 0 {
        let denied = match flow.tally.protocol() {
            Protocol::Tcp => reason::counted(flow.denied, "connection"),
            Protocol::Http | Protocol::Grpc => reason::counted(flow.denied, "request"),
        };
        let sentence = format!("policy denied {denied} in {}", reason::window_words(snapshot.window_s));
        reason = if reason.is_empty() { sentence } else { format!("{reason}; {sentence}") };
    }
    EdgeMetrics {
        health: health_of(&flow.tally, &golden),
        reason,
        protocol: flow.tally.protocol(),
        tcp: flow.tally.tcp(snapshot.covered_s),
        mtls: flow.tally.mtls(),
        observed: *observed,
        wanted: *wanted,
        denied: flow.denied,
        golden,
    }
}
