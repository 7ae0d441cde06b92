//! Places the service graph: layers from left to right, one box per namespace, edges as cubic curves.
//! Two levels of the same algorithm: each namespace alone, then the boxes as large nodes. Pure and deterministic:
//! nodes are taken in the order of their ids, so the order of the input does not matter. Who looks at a graph knows his way in
//! it, so what stood somewhere before stays there when others come and go.

mod column;
mod layered;

use layered::{Item, Link, Style, layered};
use std::collections::{BTreeMap, HashMap};

#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    pub id: String,
    /// Namespace, whose box holds the node; `None` stands free.
    pub group: Option<String>,
    pub width: f64,
    pub height: f64,
    /// Half a step wide in the layering: a Service stands between its callers and its workloads.
    pub pill: bool,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Layout {
    pub width: f64,
    pub height: f64,
    /// Top left corners, in the order of the input.
    pub nodes: Vec<(f64, f64)>,
    /// In the order of the input.
    pub edges: Vec<Curve>,
    pub groups: Vec<GroupBox>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Curve {
    /// Start, then control, control, end for each cubic segment.
    pub points: Vec<(f64, f64)>,
    /// Runs against the reading direction.
    pub back: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub struct GroupBox {
    pub name: String,
    pub x: f64,
    pub y: f64,
    pub width: f64,
    pub height: f64,
}

/// Where things stood: top left corners, by id and by namespace.
#[derive(Debug, Default)]
pub struct Before<'a> {
    pub nodes: HashMap<&'a str, (f64, f64)>,
    pub groups: HashMap<&'a str, (f64, f64)>,
}

const MARGIN: f64 = 16.0;
/// Space between a box's border and its nodes; the title stands on top.
const PAD_X: f64 = 20.0;
const PAD_TOP: f64 = 44.0;
const PAD_BOTTOM: f64 = 24.0;

const NODES: Style =
    Style { row_gap: 40.0, column_gap: 92.0, before_pill: 52.0, after_pill: 100.0, max_rows: 8 };
const BOXES: Style =
    Style { row_gap: 40.0, column_gap: 72.0, before_pill: 72.0, after_pill: 72.0, max_rows: 6 };

/// Lays out `nodes` and `edges` (indices into `nodes`), with as little change from before as can be; where most is new, afresh.
pub fn layout(nodes: &[Node], edges: &[(usize, usize)], before: &Before<'_>) -> Layout {
    let known = nodes.iter().filter(|node| before.nodes.contains_key(node.id.as_str())).count();
    let before = if known * 2 > nodes.len() { before } else { &Before::default() };
    let mut by_id: Vec<usize> = (0..nodes.len()).collect();
    by_id.sort_by(|&a, &b| nodes[a].id.cmp(&nodes[b].id));
    let clusters = clusters(nodes, &by_id);
    let mut cluster_of = vec![(0, 0); nodes.len()];
    for (c, cluster) in clusters.iter().enumerate() {
        for (i, &node) in cluster.members.iter().enumerate() {
            cluster_of[node] = (c, i);
        }
    }

    let inner: Vec<_> = clusters
        .iter()
        .enumerate()
        .map(|(c, cluster)| inside(c, cluster, nodes, edges, &cluster_of, before))
        .collect();
    let sizes: Vec<Item> = clusters
        .iter()
        .zip(&inner)
        .map(|(cluster, inner)| {
            let (pad_x, pad_y) =
                if cluster.boxed() { (2.0 * PAD_X, PAD_TOP + PAD_BOTTOM) } else { (0.0, 0.0) };
            let (width, height) = (inner.width + pad_x, inner.height + pad_y);
            // A box that grows at its top grows upwards.
            let stood = match &cluster.name {
                Some(name) => before.groups.get(name.as_str()).map(|(x, y)| (*x, y + inner.top)),
                None => before.nodes.get(nodes[cluster.members[0]].id.as_str()).copied(),
            };
            Item { width, height, pill: false, before: stood.map(|(x, y)| (x, y + height / 2.0)) }
        })
        .collect();
    let within = |node: usize| {
        let (c, i) = cluster_of[node];
        let (x, y) = inner[c].items[i];
        if clusters[c].boxed() { (x + PAD_X, y + PAD_TOP) } else { (x, y) }
    };
    let links = between(nodes, edges, &cluster_of, &sizes, &within);
    let outer = layered(&sizes, &links, BOXES);

    let at = |node: usize| {
        let (x, y) = outer.items[cluster_of[node].0];
        let (dx, dy) = within(node);
        (MARGIN + x + dx, MARGIN + y + dy)
    };
    let mut bends = vec![Vec::new(); edges.len()];
    for (c, inner) in inner.iter().enumerate() {
        let (x, y) = outer.items[c];
        let (pad_x, pad_y) = if clusters[c].boxed() { (PAD_X, PAD_TOP) } else { (0.0, 0.0) };
        for (edge, points) in &inner.bends {
            bends[*edge] =
                points.iter().map(|(px, py)| (MARGIN + x + pad_x + px, MARGIN + y + pad_y + py)).collect();
        }
    }
    Layout {
        width: outer.width + 2.0 * MARGIN,
        height: outer.height + 2.0 * MARGIN,
        nodes: (0..nodes.len()).map(at).collect(),
        edges: edges
            .iter()
            .zip(&bends)
            .map(|(&(from, to), bends)| {
                curve(rect(&nodes[from], at(from)), rect(&nodes[to], at(to)), from == to, bends)
            })
            .collect(),
        groups: clusters
            .iter()
            .enumerate()
            .filter_map(|(c, cluster)| {
                let (x, y) = outer.items[c];
                Some(GroupBox {
                    name: cluster.name.clone()?,
                    x: MARGIN + x,
                    y: MARGIN + y,
                    width: sizes[c].width,
                    height: sizes[c].height,
                })
            })
            .collect(),
    }
}

/// Nodes that are laid out together: a namespace, or one free node.
struct Cluster {
    name: Option<String>,
    members: Vec<usize>,
}

impl Cluster {
    fn boxed(&self) -> bool {
        self.name.is_some()
    }
}

fn clusters(nodes: &[Node], by_id: &[usize]) -> Vec<Cluster> {
    let mut named: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    let mut free = Vec::new();
    for &node in by_id {
        match &nodes[node].group {
            Some(group) => named.entry(group).or_default().push(node),
            None => free.push(Cluster { name: None, members: vec![node] }),
        }
    }
    let named = named.into_iter().map(|(name, members)| Cluster { name: Some(name.to_owned()), members });
    named.chain(free).collect()
}

/// A cluster's own layout, with the edges that stay inside it.
fn inside(
    c: usize,
    cluster: &Cluster,
    nodes: &[Node],
    edges: &[(usize, usize)],
    cluster_of: &[(usize, usize)],
    before: &Before<'_>,
) -> layered::Placed {
    let corner = cluster.name.as_ref().and_then(|name| before.groups.get(name.as_str()));
    let items: Vec<Item> = cluster
        .members
        .iter()
        .map(|&node| {
            let Node { ref id, width, height, pill, .. } = nodes[node];
            let stood = corner.and_then(|corner| {
                let (x, y) = before.nodes.get(id.as_str())?;
                Some((x - corner.0 - PAD_X, y - corner.1 - PAD_TOP + height / 2.0))
            });
            Item { width, height, pill, before: stood }
        })
        .collect();
    let mut links: Vec<Link> = edges
        .iter()
        .enumerate()
        .filter(|(_, (from, to))| from != to && cluster_of[*from].0 == c && cluster_of[*to].0 == c)
        .map(|(edge, (from, to))| Link::new(edge, cluster_of[*from].1, cluster_of[*to].1))
        .collect();
    links.sort_by_key(|link| (link.from, link.to));
    layered(&items, &links, NODES)
}

/// One link for each pair of clusters that talk, pulling at the heights where their nodes are.
fn between(
    nodes: &[Node],
    edges: &[(usize, usize)],
    cluster_of: &[(usize, usize)],
    sizes: &[Item],
    within: &dyn Fn(usize) -> (f64, f64),
) -> Vec<Link> {
    let mut pairs: BTreeMap<(usize, usize), Vec<(usize, usize)>> = BTreeMap::new();
    for &(from, to) in edges {
        let pair = (cluster_of[from].0, cluster_of[to].0);
        if pair.0 != pair.1 {
            pairs.entry(pair).or_default().push((from, to));
        }
    }
    let centre =
        |node: usize| within(node).1 + nodes[node].height / 2.0 - sizes[cluster_of[node].0].height / 2.0;
    pairs
        .into_iter()
        .map(|((from, to), mut ends)| {
            // Sums of floats depend on their order; the input's must not show.
            ends.sort_by(|a, b| (&nodes[a.0].id, &nodes[a.1].id).cmp(&(&nodes[b.0].id, &nodes[b.1].id)));
            let mean = |sum: f64| sum / ends.len() as f64;
            Link {
                edge: 0,
                from,
                to,
                from_dy: mean(ends.iter().map(|end| centre(end.0)).sum()),
                to_dy: mean(ends.iter().map(|end| centre(end.1)).sum()),
            }
        })
        .collect()
}

#[derive(Clone, Copy)]
struct Rect {
    x: f64,
    y: f64,
    width: f64,
    height: f64,
}

fn rect(node: &Node, (x, y): (f64, f64)) -> Rect {
    Rect { x, y, width: node.width, height: node.height }
}

fn curve(from: Rect, to: Rect, is_loop: bool, bends: &[(f64, f64)]) -> Curve {
    if is_loop {
        let start = (from.x + from.width, from.y + from.height / 2.0);
        let end = (from.x + from.width * 0.75, from.y);
        return Curve {
            points: vec![start, (start.0 + 40.0, start.1), (end.0, end.1 - 40.0), end],
            back: true,
        };
    }
    let start = (from.x + from.width, from.y + from.height / 2.0);
    let end = (to.x, to.y + to.height / 2.0);
    if end.0 <= start.0 {
        // Below both, so that it reads as a return.
        let (start, end) =
            ((from.x + from.width / 2.0, from.y + from.height), (to.x + to.width / 2.0, to.y + to.height));
        let below = start.1.max(end.1) + 36.0;
        return Curve { points: vec![start, (start.0, below), (end.0, below), end], back: true };
    }
    let mut through = vec![start];
    through.extend(bends);
    through.push(end);
    Curve { points: smooth(&through), back: false }
}

/// One cubic through points whose x rises: level at the ends, and at a bend in the direction of its neighbours.
fn smooth(through: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let last = through.len() - 1;
    let slope = |i: usize| {
        if i == 0 || i == last {
            return 0.0;
        }
        let ((x0, y0), (x1, y1)) = (through[i - 1], through[i + 1]);
        (y1 - y0) / (x1 - x0)
    };
    let mut points = vec![through[0]];
    for i in 0..last {
        let ((x0, y0), (x1, y1)) = (through[i], through[i + 1]);
        // Half way gives the level ends of a single segment their S; a third keeps bends from swinging over.
        let reach = (x1 - x0) * if last == 1 { 0.5 } else { 0.4 };
        points.push((x0 + reach, y0 + reach * slope(i)));
        points.push((x1 - reach, y1 - reach * slope(i + 1)));
        points.push((x1, y1));
    }
    points
}

#[cfg(test)]
mod tests;
