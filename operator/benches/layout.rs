//! How long a large mesh's map takes to draw: `cargo bench -p mesh-operator`. It is drawn when a node or an edge comes or goes.

#[path = "../policy/benches/measure/mod.rs"]
mod measure;

use measure::measure;
use mesh_operator::layout::{Before, Node, layout};

const NODES: usize = 500;
const EDGES: usize = 2_000;

/// Five namespaces, and calls all over.
fn mesh() -> (Vec<Node>, Vec<(usize, usize)>) {
    let node = |i: usize| Node {
        id: format!("w{i:03}"),
        group: Some(["a", "b", "c", "d", "e"][i % 5].into()),
        width: 148.0,
        height: 64.0,
        pill: false,
    };
    let edge = |i: usize| (i * 7919 % NODES, i * 104_729 % (NODES - 1) + 1);
    ((0..NODES).map(node).collect(), (0..EDGES).map(edge).collect())
}

fn main() {
    let (nodes, edges) = mesh();
    measure(&format!("{NODES} nodes and {EDGES} edges, afresh"), || {
        layout(&nodes, &edges, &Before::default())
    });
    let first = layout(&nodes, &edges, &Before::default());
    let before = Before {
        nodes: nodes.iter().map(|node| node.id.as_str()).zip(first.nodes.iter().copied()).collect(),
        groups: first.groups.iter().map(|group| (group.name.as_str(), (group.x, group.y))).collect(),
    };
    measure("the same again, where it stood", || layout(&nodes, &edges, &before));
}
