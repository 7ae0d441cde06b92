//! Which edges the graph must show once everything works: BookInfo's call tree, by the parts that the Pods play.

use super::pods::Pod;
use crate::commands::edges;
use mesh_api::graph::{EdgeMetrics, Graph, Node, NodeKind};
use std::collections::{BTreeMap, BTreeSet};

/// A workload, as `namespace/name`.
type Workload = String;

#[derive(Debug)]
pub struct Expected {
    known: BTreeSet<Workload>,
    edges: BTreeSet<(Workload, Workload)>,
}

/// What was seen between two workloads, directly or by way of a Service's node.
#[derive(Debug, Default)]
struct Seen {
    requests: u64,
    mtls: Option<f64>,
}

impl Expected {
    pub fn of(pods: &[Pod]) -> Expected {
        let name = |pod: &Pod| format!("{}/{}", pod.namespace, pod.name);
        let mut edges = BTreeSet::new();
        for client in pods {
            for app in calls(client) {
                let servers = pods.iter().filter(|pod| pod.app == *app && pod.namespace == client.namespace);
                edges.extend(servers.map(|server| (name(client), name(server))));
            }
        }
        Expected { known: pods.iter().map(name).collect(), edges }
    }

    /// In words; empty when all is there.
    pub fn missing(&self, graph: &Graph) -> Vec<String> {
        let seen = seen(graph);
        let mut missing = vec![];
        for (from, to) in &self.edges {
            let arrow = format!("{} → {}", short(from), short(to));
            match seen.get(&(from.clone(), to.clone())) {
                Some(Seen { requests: 1.., mtls: Some(share) }) if *share >= 1.0 => {}
                Some(Seen { requests: 1.., mtls: Some(share) }) => {
                    missing.push(format!("{arrow} ({:.0}% mTLS)", share * 100.0));
                }
                _ => missing.push(arrow),
            }
        }
        missing
    }

    /// Edges between our workloads that nobody asked for.
    pub fn surplus(&self, graph: &Graph) -> Vec<String> {
        let is_ours =
            |pair: &(Workload, Workload)| self.known.contains(&pair.0) && self.known.contains(&pair.1);
        let seen = seen(graph).into_iter().filter(|(_, seen)| seen.requests > 0);
        seen.filter(|(pair, _)| is_ours(pair) && !self.edges.contains(pair))
            .map(|((from, to), _)| format!("{} → {}", short(&from), short(&to)))
            .collect()
    }
}

/// The apps that a Pod's part calls.
fn calls(pod: &Pod) -> &'static [&'static str] {
    match pod.role() {
        "traffic" => &["productpage"],
        "productpage" => &["details", "reviews"],
        "reviews" if pod.env("ENABLE_RATINGS") != Some("false") => &["ratings"],
        _ => &[],
    }
}

fn short(workload: &str) -> &str {
    workload.split_once('/').map_or(workload, |(_, name)| name)
}

/// A Service's node stands between its clients and its backends: then both halves count.
fn seen(graph: &Graph) -> BTreeMap<(Workload, Workload), Seen> {
    let rows = edges::rows(graph);
    let mut seen = BTreeMap::new();
    for (from, to, metrics) in &rows {
        if to.kind != NodeKind::Service {
            add(&mut seen, from, to, metrics);
            continue;
        }
        for (_, backend, half) in rows.iter().filter(|(service, ..)| service.id == to.id) {
            add(&mut seen, from, backend, half);
        }
    }
    seen
}

fn add(seen: &mut BTreeMap<(Workload, Workload), Seen>, from: &Node, to: &Node, metrics: &EdgeMetrics) {
    let name = |node: &Node| format!("{}/{}", node.namespace, node.name);
    let entry = seen.entry((name(from), name(to))).or_default();
    entry.requests += metrics.golden.requests;
    // The worst counts.
    entry.mtls = match (entry.mtls, metrics.mtls) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::pods;
    use mesh_api::{
        golden::{Golden, Window},
        graph::{Edge, Metrics, Protocol, Topology},
        health::Health,
    };
    use std::path::Path;

    fn bookinfo() -> Expected {
        Expected::of(&pods::read(Path::new("../demo/manifests")).unwrap())
    }

    fn node(id: &str) -> Node {
        let (kind, name) = id.split_once(':').unwrap();
        let (namespace, name) = name.split_once('/').unwrap();
        Node {
            id: id.into(),
            kind: if kind == "s" { NodeKind::Service } else { NodeKind::Workload },
            namespace: namespace.into(),
            label: name.into(),
            name: name.into(),
            version: None,
            meshed: true,
            x: 0.0,
            y: 0.0,
            width: 0.0,
            height: 0.0,
        }
    }

    fn graph(pairs: &[(&str, &str, f64)]) -> Graph {
        let ids: BTreeSet<&str> = pairs.iter().flat_map(|(from, to, _)| [*from, *to]).collect();
        let edges = pairs.iter().map(|(from, to, _)| Edge {
            id: format!("{from}>{to}"),
            from: (*from).into(),
            to: (*to).into(),
            points: vec![],
            back: false,
        });
        let metrics = pairs.iter().map(|(_, _, mtls)| EdgeMetrics {
            health: Health::Healthy,
            reason: String::new(),
            protocol: Protocol::Http,
            golden: Golden { requests: 3, ..Golden::default() },
            tcp: None,
            mtls: Some(*mtls),
            observed: None,
            wanted: None,
            denied: 0,
        });
        Graph {
            metrics: Metrics {
                edges: metrics.collect(),
                window_s: Window::Min1.seconds(),
                ..Metrics::default()
            },
            topology: Topology {
                nodes: ids.into_iter().map(node).collect(),
                edges: edges.collect(),
                ..Topology::default()
            },
        }
    }

    #[test]
    fn bookinfo_has_seven_edges_and_none_from_reviews_v1_to_ratings() {
        assert_eq!(
            bookinfo().missing(&graph(&[])),
            [
                "productpage-v1 → details-v1",
                "productpage-v1 → reviews-v1",
                "productpage-v1 → reviews-v2",
                "productpage-v1 → reviews-v3",
                "reviews-v2 → ratings-v1",
                "reviews-v3 → ratings-v1",
                "traffic → productpage-v1",
            ]
        );
    }

    #[test]
    fn a_services_node_in_between_counts_as_the_edge() {
        let graph = graph(&[
            ("w:bookinfo/productpage-v1", "s:bookinfo/reviews", 1.0),
            ("s:bookinfo/reviews", "w:bookinfo/reviews-v2", 1.0),
        ]);
        assert!(
            !bookinfo()
                .missing(&graph)
                .iter()
                .any(|edge| edge.contains("reviews-v2 (") || edge.ends_with("reviews-v2"))
        );
    }

    #[test]
    fn plaintext_is_not_ready() {
        let missing = bookinfo().missing(&graph(&[("w:bookinfo/traffic", "w:bookinfo/productpage-v1", 0.5)]));
        assert!(missing.contains(&"traffic → productpage-v1 (50% mTLS)".to_owned()), "{missing:?}");
    }

    #[test]
    fn version_1_calling_ratings_is_told() {
        let graph = graph(&[("w:bookinfo/reviews-v1", "w:bookinfo/ratings-v1", 1.0)]);
        assert_eq!(bookinfo().surplus(&graph), ["reviews-v1 → ratings-v1"]);
    }
}
