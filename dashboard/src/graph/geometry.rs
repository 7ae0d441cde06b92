//! Shapes of the drawing: an edge's path, its arrow head, its width, and where its label finds room. Pure.

use crate::graph::camera::Rect;
use mesh_api::graph::{Edge, Node, NodeKind, Topology};

/// Length of an arrow head.
const HEAD: f64 = 8.0;

type Point = (f64, f64);

/// Grows with the logarithm of the rate: ten times the traffic is one step thicker, not ten.
pub fn edge_width(rate_per_s: f64) -> f64 {
    (1.3 + 0.95 * (1.0 + rate_per_s.max(0.0)).log10()).min(6.0)
}

/// The curve, stopped where the arrow head begins.
pub fn edge_path(edge: &Edge, with_head: bool) -> String {
    let points = &edge.points;
    let (Some(start), Some(end)) = (points.first(), points.last()) else { return String::new() };
    let mut path = format!("M{:.1} {:.1}", start.0, start.1);
    let back = if with_head { direction(points) } else { (0.0, 0.0) };
    let stop = (end.0 - back.0 * (HEAD - 1.0), end.1 - back.1 * (HEAD - 1.0));
    for (i, segment) in points[1..].chunks_exact(3).enumerate() {
        let last = i * 3 + 4 == points.len();
        let (a, b, c) = (segment[0], segment[1], if last { stop } else { segment[2] });
        path += &format!("C{:.1} {:.1} {:.1} {:.1} {:.1} {:.1}", a.0, a.1, b.0, b.1, c.0, c.1);
    }
    path
}

/// A triangle with its tip at the edge's end.
pub fn arrow_head(edge: &Edge) -> String {
    let Some(tip) = edge.points.last() else { return String::new() };
    let (dx, dy) = direction(&edge.points);
    let foot = (tip.0 - dx * HEAD, tip.1 - dy * HEAD);
    let half = HEAD / 2.0;
    format!(
        "M{:.1} {:.1}L{:.1} {:.1}L{:.1} {:.1}Z",
        tip.0,
        tip.1,
        foot.0 - dy * half,
        foot.1 + dx * half,
        foot.0 + dy * half,
        foot.1 - dx * half
    )
}

/// In which an edge arrives; of length one.
fn direction(points: &[Point]) -> Point {
    let Some(end) = points.last() else { return (1.0, 0.0) };
    let before = points.iter().rev().find(|p| (p.0 - end.0).abs() + (p.1 - end.1).abs() > 0.5);
    let Some(before) = before else { return (1.0, 0.0) };
    let (dx, dy) = (end.0 - before.0, end.1 - before.1);
    let length = dx.hypot(dy);
    (dx / length, dy / length)
}

/// The point a share `t` (0 to 1) of the way along the segments.
fn point_at(points: &[Point], t: f64) -> Option<Point> {
    let segments = points.len().checked_sub(1)? / 3;
    if segments == 0 {
        return None;
    }
    let along = t.clamp(0.0, 1.0) * segments as f64;
    let index = (along as usize).min(segments - 1);
    let t = along - index as f64;
    let u = 1.0 - t;
    let p = &points[index * 3..index * 3 + 4];
    let mix = |f: fn(&Point) -> f64| {
        u * u * u * f(&p[0]) + 3.0 * u * u * t * f(&p[1]) + 3.0 * u * t * t * f(&p[2]) + t * t * t * f(&p[3])
    };
    Some((mix(|p| p.0), mix(|p| p.1)))
}

pub fn rect(node: &Node) -> Rect {
    Rect { x: node.x, y: node.y, width: node.width, height: node.height }
}

/// What a camera has to show to show all.
pub fn bounds(topology: &Topology) -> Rect {
    let nodes = topology.nodes.iter().map(rect);
    let groups = topology.groups.iter().map(|g| Rect { x: g.x, y: g.y, width: g.width, height: g.height });
    nodes.chain(groups).reduce(around).unwrap_or(Rect { x: 0.0, y: 0.0, width: 1.0, height: 1.0 })
}

/// The smallest that holds both.
pub fn around(a: Rect, b: Rect) -> Rect {
    let (x, y) = (a.x.min(b.x), a.y.min(b.y));
    let (right, bottom) = ((a.x + a.width).max(b.x + b.width), (a.y + a.height).max(b.y + b.height));
    Rect { x, y, width: right - x, height: bottom - y }
}

/// Where along an edge its label is tried, best first.
const LABEL_PLACES: [f64; 9] = [0.5, 0.42, 0.58, 0.35, 0.65, 0.28, 0.72, 0.22, 0.8];
pub const LABEL_HEIGHT: f64 = 18.0;

/// The room that an edge's label is given: a share's has two lines.
pub fn label_size(edge: &Edge) -> (f64, f64) {
    if is_share(edge) { (58.0, 28.0) } else { (58.0, LABEL_HEIGHT) }
}

/// How far a label may reach over a node's rim, which is empty there.
const RIM: f64 = 5.0;

/// For each edge the middle of its label, or none where it would cover a node or another label.
/// Depends on the topology only, so that labels do not move when their numbers change.
pub fn label_places(topology: &Topology, size_of: impl Fn(&Edge) -> (f64, f64)) -> Vec<Option<Point>> {
    let inner = |r: Rect| Rect {
        x: r.x + RIM,
        y: r.y + RIM,
        width: r.width - 2.0 * RIM,
        height: r.height - 2.0 * RIM,
    };
    let mut taken: Vec<Rect> = topology.nodes.iter().map(rect).map(inner).collect();
    let mut places = Vec::with_capacity(topology.edges.len());
    for edge in &topology.edges {
        let (width, height) = size_of(edge);
        let plate = |(x, y): Point| Rect { x: x - width / 2.0, y: y - height / 2.0, width, height };
        let tries = LABEL_PLACES.into_iter().filter_map(|t| point_at(&edge.points, t));
        let free = tries.into_iter().find(|point| !taken.iter().any(|other| overlap(&plate(*point), other)));
        taken.extend(free.map(plate));
        places.push(free);
    }
    places
}

fn overlap(a: &Rect, b: &Rect) -> bool {
    a.x < b.x + b.width && b.x < a.x + a.width && a.y < b.y + b.height && b.y < a.y + a.height
}

/// Whether an edge is one of a Service's shares, rather than calls of a workload.
pub fn is_share(edge: &Edge) -> bool {
    edge.from.starts_with("s:")
}

/// The left edge of a card, bent around its corners; carries the health colour.
pub fn rail(height: f64) -> String {
    format!("M8 .5H4A3.5 3.5 0 0 0 .5 4V{:.1}a3.5 3.5 0 0 0 3.5 3.5h4", height - 4.0)
}

/// Cuts a text to what has room, with an ellipsis.
pub fn shorten(text: &str, width: f64, char_width: f64) -> String {
    let room = (width / char_width).floor().max(1.0) as usize;
    if text.chars().count() <= room {
        return text.to_owned();
    }
    text.chars().take(room - 1).chain(['…']).collect()
}

/// Where the pointer of the keyboard goes from a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Along an edge, with or against its direction.
    Right,
    Left,
    /// To the neighbour in the same column.
    Up,
    Down,
    /// To the first or last node of the column.
    First,
    Last,
}

/// The node that a key leads to from the one at `from`, if any.
pub fn step(topology: &Topology, from: usize, step: Step) -> Option<usize> {
    let here = topology.nodes.get(from)?;
    let middle = |node: &Node| node.y + node.height / 2.0;
    let distance = |node: &Node| (middle(node) - middle(here)).abs();
    let nearest = |candidates: Vec<usize>| {
        candidates
            .into_iter()
            .min_by(|a, b| distance(&topology.nodes[*a]).total_cmp(&distance(&topology.nodes[*b])))
    };
    let index_of = |id: &String| topology.nodes.iter().position(|node| node.id == *id);
    // A column is what overlaps this node from above.
    let in_column = |node: &Node| node.x < here.x + here.width && here.x < node.x + node.width;
    let column = |keep: &dyn Fn(f64) -> bool| -> Vec<usize> {
        let all = topology.nodes.iter().enumerate();
        all.filter(|(_, node)| in_column(node) && keep(middle(node) - middle(here))).map(|(i, _)| i).collect()
    };
    match step {
        Step::Right => nearest(
            topology.edges.iter().filter(|e| e.from == here.id).filter_map(|e| index_of(&e.to)).collect(),
        ),
        Step::Left => nearest(
            topology.edges.iter().filter(|e| e.to == here.id).filter_map(|e| index_of(&e.from)).collect(),
        ),
        Step::Up => nearest(column(&|dy| dy < -0.5)),
        Step::Down => nearest(column(&|dy| dy > 0.5)),
        Step::First => column(&|_| true)
            .into_iter()
            .min_by(|a, b| middle(&topology.nodes[*a]).total_cmp(&middle(&topology.nodes[*b]))),
        Step::Last => column(&|_| true)
            .into_iter()
            .max_by(|a, b| middle(&topology.nodes[*a]).total_cmp(&middle(&topology.nodes[*b]))),
    }
}

/// What stays bright in focus: the selection, and the nodes and edges next to it.
pub fn is_near(topology: &Topology, selected: &str, id: &str) -> bool {
    if id == selected {
        return true;
    }
    let touches = |edge: &Edge| edge.id == selected || edge.from == selected || edge.to == selected;
    topology.edges.iter().any(|edge| touches(edge) && (edge.id == id || edge.from == id || edge.to == id))
}

/// Only for shapes: a Service is a pill, all else a card.
pub fn is_pill(node: &Node) -> bool {
    node.kind == NodeKind::Service
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(id: &str, x: f64, y: f64) -> Node {
        Node {
            id: id.into(),
            kind: NodeKind::Workload,
            namespace: "n".into(),
            label: id.into(),
            name: id.into(),
            version: None,
            meshed: true,
            x,
            y,
            width: 148.0,
            height: 64.0,
        }
    }

    fn edge(from: &Node, to: &Node) -> Edge {
        let (start, end) = ((from.x + 148.0, from.y + 32.0), (to.x, to.y + 32.0));
        let points = vec![start, (start.0 + 40.0, start.1), (end.0 - 40.0, end.1), end];
        Edge {
            id: format!("{}>{}", from.id, to.id),
            from: from.id.clone(),
            to: to.id.clone(),
            points,
            back: false,
        }
    }

    /// a → b, c, d in a column; b → e.
    fn topology() -> Topology {
        let nodes = vec![
            node("a", 0.0, 200.0),
            node("b", 300.0, 0.0),
            node("c", 300.0, 190.0),
            node("d", 300.0, 400.0),
            node("e", 600.0, 0.0),
        ];
        let pairs = [(0, 1), (0, 2), (0, 3), (1, 4)];
        let edges = pairs.map(|(from, to)| edge(&nodes[from], &nodes[to])).to_vec();
        Topology { nodes, edges, ..Topology::default() }
    }

    #[test]
    fn arrows_follow_edges_and_columns() {
        let topology = topology();
        let go = |from, way| step(&topology, from, way);
        assert_eq!(go(0, Step::Right), Some(2), "the nearest of three");
        assert_eq!(go(2, Step::Left), Some(0));
        assert_eq!(go(2, Step::Up), Some(1));
        assert_eq!(go(2, Step::Down), Some(3));
        assert_eq!(go(3, Step::First), Some(1));
        assert_eq!(go(1, Step::Last), Some(3));
        assert_eq!(go(4, Step::Right), None);
        assert_eq!(go(9, Step::Right), None);
    }

    #[test]
    fn labels_cover_neither_nodes_nor_each_other() {
        let topology = topology();
        let places = label_places(&topology, |_| (60.0, 18.0));
        let labels: Vec<Rect> = places
            .iter()
            .flatten()
            .map(|(x, y)| Rect { x: x - 30.0, y: y - 9.0, width: 60.0, height: 18.0 })
            .collect();
        assert_eq!(labels.len(), 4);
        for (i, label) in labels.iter().enumerate() {
            assert!(!topology.nodes.iter().any(|node| overlap(label, &rect(node))));
            assert!(!labels[..i].iter().any(|other| overlap(label, other)));
        }
        assert_eq!(label_places(&topology, |_| (400.0, 18.0))[1], None, "no room between two nodes in a row");
    }

    #[test]
    fn width_grows_with_the_logarithm() {
        let (slow, fast) = (edge_width(10.0), edge_width(1_000.0));
        assert!(slow < fast && fast < 2.5 * slow);
        assert_eq!(edge_width(1e12), 6.0);
    }

    #[test]
    fn paths_stop_before_the_arrow_head() {
        let topology = topology();
        let path = edge_path(&topology.edges[1], true);
        assert_eq!(path, "M148.0 232.0C188.0 232.0 260.0 222.0 293.0 222.0");
        assert_eq!(arrow_head(&topology.edges[1]), "M300.0 222.0L292.0 226.0L292.0 218.0Z");
        assert_eq!(edge_path(&Edge { points: vec![], ..topology.edges[0].clone() }, true), "");
    }

    #[test]
    fn focus_keeps_the_neighbourhood() {
        let topology = topology();
        let near = |id| is_near(&topology, "b", id);
        assert!(near("b") && near("a") && near("e") && near("a>b"));
        assert!(!near("c") && !near("a>c"));
        assert!(is_near(&topology, "a>b", "a") && !is_near(&topology, "a>b", "e"));
    }

    #[test]
    fn long_names_are_cut() {
        assert_eq!(shorten("productpage", 70.0, 7.0), "productpa…");
        assert_eq!(shorten("details", 70.0, 7.0), "details");
    }
}
