//! The graph as the stream brings it: topology and figures, joined row by row for the views.

use crate::{
    api::feed::Feed,
    find::{Facts, Find},
};
use leptos::prelude::*;
use mesh_api::graph::{Edge, EdgeMetrics, Metrics, Node, NodeMetrics, Topology};
use std::{collections::HashMap, sync::Arc};

#[derive(Clone, Copy)]
pub struct Model {
    pub topology: RwSignal<Option<Topology>>,
    pub metrics: RwSignal<Option<Metrics>>,
    /// Where each id is in the topology's lists.
    places: Memo<Arc<Places>>,
}

#[derive(Default, PartialEq)]
struct Places {
    nodes: HashMap<String, usize>,
    edges: HashMap<String, usize>,
}

impl Model {
    pub fn follow(feed: Feed, path: impl Fn() -> String + 'static) -> Model {
        let topology = RwSignal::new(None::<Topology>);
        let metrics = RwSignal::new(None::<Metrics>);
        feed.subscribe(path, vec![("topology", feed.store(topology)), ("metrics", feed.store(metrics))]);
        let places = Memo::new(move |_| {
            Arc::new(topology.with(|topology| {
                let Some(topology) = topology else { return Places::default() };
                Places {
                    nodes: topology.nodes.iter().enumerate().map(|(i, node)| (node.id.clone(), i)).collect(),
                    edges: topology.edges.iter().enumerate().map(|(i, edge)| (edge.id.clone(), i)).collect(),
                }
            }))
        });
        Model { topology, metrics, places }
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

    pub fn node(self, id: String) -> Memo<Option<Node>> {
        Memo::new(move |_| {
            let index = self.places.with(|places| places.nodes.get(&id).copied())?;
            self.with_topology(|t| t.nodes.get(index).cloned())
        })
    }

    pub fn edge(self, id: String) -> Memo<Option<Edge>> {
        Memo::new(move |_| {
            let index = self.places.with(|places| places.edges.get(&id).copied())?;
            self.with_topology(|t| t.edges.get(index).cloned())
        })
    }

    /// The node's figures; the last known while topology and figures are of different versions.
    pub fn node_metrics(self, id: String) -> Memo<Option<NodeMetrics>> {
        self.row(move |places| places.nodes.get(&id).copied(), |metrics| &metrics.nodes)
    }

    pub fn edge_metrics(self, id: String) -> Memo<Option<EdgeMetrics>> {
        self.row(move |places| places.edges.get(&id).copied(), |metrics| &metrics.edges)
    }

    fn row<T: Clone + PartialEq + Send + Sync + 'static>(
        self,
        index: impl Fn(&Places) -> Option<usize> + Send + Sync + 'static,
        rows: fn(&Metrics) -> &Vec<T>,
    ) -> Memo<Option<T>> {
        Memo::new(move |before: Option<&Option<T>>| {
            let version = self.with_topology(|t| t.version);
            let index = self.places.with(|places| index(places))?;
            self.metrics.with(|metrics| match metrics {
                Some(metrics) if metrics.version == version => rows(metrics).get(index).cloned(),
                Some(_) | None => before.cloned().flatten(),
            })
        })
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
