//! The graph as the stream brings it, taken apart into a signal for each node and edge.
//!
//! What many views read must not change often: a signal's list of readers is searched each time one of them reads it anew, so a
//! thousand views on the one signal of all figures cost a million steps a second. A row of its own has a handful of readers, and
//! a row that did not change wakes none of them.

use crate::{
    api::feed::Feed,
    find::{Facts, Find},
};
use leptos::prelude::*;
use mesh_api::graph::{Edge, EdgeMetrics, Metrics, Node, NodeMetrics, Topology};
use std::collections::{HashMap, HashSet};

/// `None` while there is no such node or edge, or no figures of it yet.
pub type Row<T> = ReadSignal<Option<T>>;

#[derive(Clone, Copy)]
pub struct Model {
    pub topology: RwSignal<Option<Topology>>,
    pub metrics: RwSignal<Option<Metrics>>,
    rows: StoredValue<Rows>,
}

/// By id. Rows stay for as long as the page, since what goes often comes back.
#[derive(Default)]
struct Rows {
    nodes: Table<Node>,
    edges: Table<Edge>,
    node_metrics: Table<NodeMetrics>,
    edge_metrics: Table<EdgeMetrics>,
}

type Table<T> = HashMap<String, ArcRwSignal<Option<T>>>;

fn row<T: Send + Sync + 'static>(table: &mut Table<T>, id: &str) -> ArcRwSignal<Option<T>> {
    table.entry(id.to_owned()).or_insert_with(|| ArcRwSignal::new(None)).clone()
}

fn fill<'a, T: Clone + PartialEq + Send + Sync + 'static>(
    table: &mut Table<T>,
    rows: impl Iterator<Item = (&'a str, &'a T)>,
) {
    for (id, new) in rows {
        let row = row(table, id);
        if row.with_untracked(|old| old.as_ref() != Some(new)) {
            row.set(Some(new.clone()));
        }
    }
}

/// Empties the rows of what is not there any more.
fn keep<T: Send + Sync + 'static>(table: &Table<T>, is_there: impl Fn(&str) -> bool) {
    for (_, row) in table.iter().filter(|(id, _)| !is_there(id)) {
        if row.with_untracked(Option::is_some) {
            row.set(None);
        }
    }
}

impl Model {
    pub fn follow(feed: Feed, path: impl Fn() -> String + 'static) -> Model {
        let model = Model {
            topology: RwSignal::new(None),
            metrics: RwSignal::new(None),
            rows: StoredValue::default(),
        };
        feed.subscribe(
            path,
            vec![
                ("topology", feed.read(move |topology| model.drawn(topology))),
                ("metrics", feed.read(move |metrics| model.measured(metrics))),
            ],
        );
        model
    }

    /// Rows first: whoever hears of a new node finds it there. The page may be gone by now, hence `try`.
    fn drawn(self, topology: Topology) {
        self.rows.try_update_value(|rows| {
            fill(&mut rows.nodes, topology.nodes.iter().map(|node| (node.id.as_str(), node)));
            fill(&mut rows.edges, topology.edges.iter().map(|edge| (edge.id.as_str(), edge)));
            let nodes: HashSet<&str> = topology.nodes.iter().map(|node| node.id.as_str()).collect();
            let edges: HashSet<&str> = topology.edges.iter().map(|edge| edge.id.as_str()).collect();
            keep(&rows.nodes, |id| nodes.contains(id));
            keep(&rows.edges, |id| edges.contains(id));
        });
        self.topology.try_set(Some(topology));
        self.spread();
    }

    fn measured(self, metrics: Metrics) {
        self.metrics.try_set(Some(metrics));
        self.spread();
    }

    /// Gives the figures to their rows; while topology and figures are of different versions, rows keep the last known.
    fn spread(self) {
        self.topology.try_with_untracked(|topology| {
            self.metrics.try_with_untracked(|metrics| {
                let (Some(topology), Some(metrics)) = (topology, metrics) else { return };
                if topology.version != metrics.version {
                    return;
                }
                self.rows.try_update_value(|rows| {
                    let nodes = topology.nodes.iter().map(|node| node.id.as_str());
                    fill(&mut rows.node_metrics, nodes.zip(&metrics.nodes));
                    let edges = topology.edges.iter().map(|edge| edge.id.as_str());
                    fill(&mut rows.edge_metrics, edges.zip(&metrics.edges));
                });
            })
        });
    }

    /// Ids of all nodes; changes only when one comes or goes.
    pub fn node_ids(self) -> Memo<Vec<String>> {
        Memo::new(move |_| self.with_topology(|t| t.nodes.iter().map(|node| node.id.clone()).collect()))
    }

    pub fn edge_ids(self) -> Memo<Vec<String>> {
        Memo::new(move |_| self.with_topology(|t| t.edges.iter().map(|edge| edge.id.clone()).collect()))
    }

    /// An empty topology stands for none.
    pub fn with_topology<R>(self, read: impl FnOnce(&Topology) -> R) -> R {
        self.topology.with(|topology| match topology {
            Some(topology) => read(topology),
            None => read(&Topology::default()),
        })
    }

    pub fn node(self, id: &str) -> Row<Node> {
        self.row(|rows| row(&mut rows.nodes, id))
    }

    pub fn edge(self, id: &str) -> Row<Edge> {
        self.row(|rows| row(&mut rows.edges, id))
    }

    pub fn node_metrics(self, id: &str) -> Row<NodeMetrics> {
        self.row(|rows| row(&mut rows.node_metrics, id))
    }

    pub fn edge_metrics(self, id: &str) -> Row<EdgeMetrics> {
        self.row(|rows| row(&mut rows.edge_metrics, id))
    }

    fn row<T: Send + Sync + 'static>(self, find: impl FnOnce(&mut Rows) -> ArcRwSignal<Option<T>>) -> Row<T> {
        let row = self.rows.try_update_value(find).unwrap_or_else(|| ArcRwSignal::new(None));
        row.read_only().into()
    }
}

/// What the find expression may ask about a node.
pub fn node_facts<'a>(node: &'a Node, metrics: Option<&'a NodeMetrics>) -> Facts<'a> {
    Facts {
        names: [&node.name, &node.label, ""],
        namespace: &node.namespace,
        version: node.version.as_deref().unwrap_or(""),
        health: metrics.map(|m| m.health),
        golden: metrics.map(|m| &m.golden),
        mtls: None,
        meshed: node.meshed,
    }
}

/// … and about an edge; its names are those of its ends.
pub fn edge_facts<'a>(from: &'a Node, to: &'a Node, metrics: Option<&'a EdgeMetrics>) -> Facts<'a> {
    Facts {
        names: [&from.name, &to.name, ""],
        namespace: &to.namespace,
        version: to.version.as_deref().unwrap_or(""),
        health: metrics.map(|m| m.health),
        golden: metrics.map(|m| &m.golden),
        mtls: metrics.and_then(|m| m.mtls),
        meshed: from.meshed && to.meshed,
    }
}

/// `reviews v2`, as a person would call it.
pub fn spoken(node: &Node) -> String {
    match &node.version {
        Some(version) => format!("{} {version}", node.label),
        None => node.label.clone(),
    }
}

/// Whether nothing is asked for, so that nothing is dimmed.
pub fn finds_all(find: &Find) -> bool {
    *find == Find::Everything
}
