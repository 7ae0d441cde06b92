//! One level of the layout: cycles broken, ranks by longest path, order by barycentre, heights by `column`; or, where things have
//! stood before, what is new beside what keeps its place.

use super::column::{Slot, centres, nearest_room};
use std::collections::BTreeMap;

#[derive(Clone, Copy, Debug)]
pub struct Item {
    pub width: f64,
    pub height: f64,
    pub pill: bool,
    /// Where it stood: left edge, and middle.
    pub before: Option<(f64, f64)>,
}

/// An edge between two different items; `*_dy` is how far from the item's centre it is attached.
#[derive(Clone, Copy, Debug)]
pub struct Link {
    /// The caller's own number for it.
    pub edge: usize,
    pub from: usize,
    pub to: usize,
    pub from_dy: f64,
    pub to_dy: f64,
}

impl Link {
    pub fn new(edge: usize, from: usize, to: usize) -> Link {
        Link { edge, from, to, from_dy: 0.0, to_dy: 0.0 }
    }

    fn reversed(self) -> Link {
        Link { from: self.to, to: self.from, from_dy: self.to_dy, to_dy: self.from_dy, ..self }
    }
}

#[derive(Clone, Copy, Debug)]
pub struct Style {
    pub row_gap: f64,
    pub column_gap: f64,
    /// Before a column that holds only pills.
    pub before_pill: f64,
    /// After one: its edges carry two lines, the share that is wanted and the share that is seen.
    pub after_pill: f64,
    /// Fewer rows than this are never wrapped.
    pub max_rows: usize,
}

#[derive(Clone, Debug, Default)]
pub struct Placed {
    pub width: f64,
    pub height: f64,
    /// What was at this height before is at the top now; 0 where nothing stood before.
    pub top: f64,
    /// Top left corners.
    pub items: Vec<(f64, f64)>,
    /// Where links that pass other columns go through, by `Link::edge`.
    pub bends: Vec<(usize, Vec<(f64, f64)>)>,
}

/// Links longer than this many columns get no places of their own between others: they would push everything apart.
const MAX_BENT_SPAN: usize = 4;
const SWEEPS: usize = 12;
const BEND_HEIGHT: f64 = 8.0;
const BEND_GAP: f64 = 16.0;

/// An item, or the place where a long link passes a column.
#[derive(Clone, Copy, Debug)]
struct Vertex {
    column: usize,
    height: f64,
    gap: f64,
}

#[derive(Clone, Copy, Debug)]
struct Pull {
    vertex: usize,
    dy: f64,
}

pub fn layered(items: &[Item], links: &[Link], style: Style) -> Placed {
    if items.is_empty() {
        return Placed::default();
    }
    let (forward, is_back) = without_cycles(items.len(), links);
    let columns = wrapped(items, &forward, ranks(items, &forward), style);
    let mut vertices: Vec<Vertex> = items
        .iter()
        .zip(&columns)
        .map(|(item, &column)| Vertex { column, height: item.height, gap: style.row_gap })
        .collect();
    let (segments, chains) = bent(&forward, &is_back, &columns, &mut vertices);
    let graph = Graph::new(vertices, &segments);
    let keeps = items.iter().any(|item| item.before.is_some());
    let centre = match keeps {
        true => graph.kept(items),
        false => graph.heights(&graph.ordered()),
    };
    let (column_x, width) = column_places(items, &columns, &graph, style);

    let top =
        graph.vertices.iter().zip(&centre).map(|(v, c)| c - v.height / 2.0).fold(f64::INFINITY, f64::min);
    let bottom =
        graph.vertices.iter().zip(&centre).map(|(v, c)| c + v.height / 2.0).fold(f64::NEG_INFINITY, f64::max);
    // Whole numbers keep lines sharp, and the JSON short.
    let middle = |vertex: usize| {
        let (x, width) = column_x[graph.vertices[vertex].column];
        (x + width / 2.0, centre[vertex] - top)
    };
    Placed {
        width,
        height: (bottom - top).ceil(),
        top: if keeps { top } else { 0.0 },
        items: items
            .iter()
            .enumerate()
            .map(|(i, item)| {
                let (x, y) = middle(i);
                (whole(x - item.width / 2.0), whole(y - item.height / 2.0))
            })
            .collect(),
        bends: chains
            .into_iter()
            .map(|(edge, chain)| {
                (
                    edge,
                    chain
                        .into_iter()
                        .map(|vertex| (whole(middle(vertex).0), whole(middle(vertex).1)))
                        .collect(),
                )
            })
            .collect(),
    }
}

/// The nearest whole number; of two the upper, below zero too, so that what is shifted by whole numbers is rounded alike.
fn whole(x: f64) -> f64 {
    (x + 0.5).floor()
}

/// The links with those that close a cycle turned round, and which these are. Depth-first from the sources, in order.
fn without_cycles(count: usize, links: &[Link]) -> (Vec<Link>, Vec<bool>) {
    let mut out: Vec<Vec<usize>> = vec![Vec::new(); count];
    let mut entered = vec![0; count];
    for (l, link) in links.iter().enumerate() {
        out[link.from].push(l);
        entered[link.to] += 1;
    }
    let mut state = vec![State::New; count];
    let mut is_back = vec![false; links.len()];
    let sources = (0..count).filter(|&i| entered[i] == 0);
    for start in sources.chain(0..count) {
        if state[start] != State::New {
            continue;
        }
        state[start] = State::Open;
        let mut stack = vec![(start, 0)];
        while let Some((item, next)) = stack.pop() {
            let Some(&l) = out[item].get(next) else {
                state[item] = State::Done;
                continue;
            };
            stack.push((item, next + 1));
            let to = links[l].to;
            match state[to] {
                State::Open => is_back[l] = true,
                State::New => {
                    state[to] = State::Open;
                    stack.push((to, 0));
                }
                State::Done => {}
            }
        }
    }
    let forward =
        links.iter().zip(&is_back).map(|(link, &back)| if back { link.reversed() } else { *link }).collect();
    (forward, is_back)
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    New,
    Open,
    Done,
}

/// Ranks by longest path; two steps between cards, one to or from a pill, so that a pill stands between. Sources then
/// move right, next to what they call.
fn ranks(items: &[Item], links: &[Link]) -> Vec<usize> {
    let length = |link: &Link| if items[link.from].pill || items[link.to].pill { 1 } else { 2 };
    let mut entered = vec![0; items.len()];
    let mut out: Vec<Vec<&Link>> = vec![Vec::new(); items.len()];
    for link in links {
        entered[link.to] += 1;
        out[link.from].push(link);
    }
    let is_source: Vec<bool> = entered.iter().map(|&n| n == 0).collect();
    let mut rank: Vec<usize> = items.iter().map(|item| usize::from(item.pill)).collect();
    let mut ready: Vec<usize> = (0..items.len()).filter(|&i| is_source[i]).collect();
    while let Some(item) = ready.pop() {
        for link in &out[item] {
            rank[link.to] = rank[link.to].max(rank[item] + length(link));
            entered[link.to] -= 1;
            if entered[link.to] == 0 {
                ready.push(link.to);
            }
        }
    }
    for item in (0..items.len()).filter(|&i| is_source[i]) {
        if let Some(nearest) = out[item].iter().map(|link| rank[link.to] - length(link)).min() {
            rank[item] = nearest;
        }
    }
    rank
}

/// Columns from ranks: empty ranks go, and a rank with too many rows becomes several columns.
fn wrapped(items: &[Item], links: &[Link], rank: Vec<usize>, style: Style) -> Vec<usize> {
    let max_rows = style.max_rows.max((1.6 * items.len() as f64).sqrt().ceil() as usize);
    let vertices = rank.iter().map(|&column| Vertex { column, height: 1.0, gap: 0.0 }).collect();
    let near: Vec<(Pull, Pull)> = links
        .iter()
        .map(|link| (Pull { vertex: link.from, dy: 0.0 }, Pull { vertex: link.to, dy: 0.0 }))
        .collect();
    let mut columns = vec![0; items.len()];
    let mut next = 0;
    // One pass of the order is enough to decide who goes into which part of a tall rank.
    for members in Graph::new(vertices, &near).ordered() {
        for part in
            parts_as_before(items, &members, max_rows).unwrap_or_else(|| even_parts(&members, max_rows))
        {
            for item in part {
                columns[item] = next;
            }
            next += 1;
        }
    }
    columns
}

fn even_parts(members: &[usize], max_rows: usize) -> Vec<Vec<usize>> {
    let parts = members.len().div_ceil(max_rows).max(1);
    let rows = members.len().div_ceil(parts).max(1);
    members.chunks(rows).map(<[usize]>::to_vec).collect()
}

/// A rank in the columns that it had, and what is new in the shortest of them. `None` where it had none, or more than it needs:
/// members came from other ranks.
fn parts_as_before(items: &[Item], members: &[usize], max_rows: usize) -> Option<Vec<Vec<usize>>> {
    let mut parts: BTreeMap<i64, Vec<usize>> = BTreeMap::new();
    for &item in members {
        // Cards and pills of one column have one middle.
        let middle = |(x, _): (f64, f64)| (x + items[item].width / 2.0).round() as i64;
        if let Some(before) = items[item].before {
            parts.entry(middle(before)).or_default().push(item);
        }
    }
    if parts.is_empty() || parts.len() > members.len().div_ceil(max_rows) {
        return None;
    }
    let mut parts: Vec<Vec<usize>> = parts.into_values().collect();
    for &item in members.iter().filter(|&&item| items[item].before.is_none()) {
        match parts.iter_mut().min_by_key(|part| part.len()) {
            Some(part) if part.len() < max_rows => part.push(item),
            _ => parts.push(vec![item]),
        }
    }
    Some(parts)
}

/// Segments between neighbouring vertices, and the bends of every link that passes columns.
#[allow(clippy::type_complexity)]
fn bent(
    links: &[Link],
    is_back: &[bool],
    columns: &[usize],
    vertices: &mut Vec<Vertex>,
) -> (Vec<(Pull, Pull)>, Vec<(usize, Vec<usize>)>) {
    let mut segments = Vec::new();
    let mut chains = Vec::new();
    for (link, &back) in links.iter().zip(is_back) {
        let (from, to) = (columns[link.from], columns[link.to]);
        let mut at = Pull { vertex: link.from, dy: link.from_dy };
        let mut chain = Vec::new();
        if !back && (2..=MAX_BENT_SPAN).contains(&(to - from)) {
            for column in from + 1..to {
                let bend = Pull { vertex: vertices.len(), dy: 0.0 };
                vertices.push(Vertex { column, height: BEND_HEIGHT, gap: BEND_GAP });
                segments.push((at, bend));
                chain.push(bend.vertex);
                at = bend;
            }
        }
        segments.push((at, Pull { vertex: link.to, dy: link.to_dy }));
        if !chain.is_empty() {
            chains.push((link.edge, chain));
        }
    }
    (segments, chains)
}

struct Graph {
    vertices: Vec<Vertex>,
    columns: usize,
    /// By vertex: what pulls at it from the left and from the right, with both ends' offsets taken together.
    left: Vec<Vec<Pull>>,
    right: Vec<Vec<Pull>>,
}

impl Graph {
    fn new(vertices: Vec<Vertex>, segments: &[(Pull, Pull)]) -> Graph {
        let mut left = vec![Vec::new(); vertices.len()];
        let mut right = vec![Vec::new(); vertices.len()];
        for (from, to) in segments {
            left[to.vertex].push(Pull { vertex: from.vertex, dy: from.dy - to.dy });
            right[from.vertex].push(Pull { vertex: to.vertex, dy: to.dy - from.dy });
        }
        let columns = vertices.iter().map(|vertex| vertex.column + 1).max().unwrap_or(0);
        Graph { vertices, columns, left, right }
    }

    /// Vertices by column, in an order with few crossings: the best that alternating barycentre sweeps come by.
    fn ordered(&self) -> Vec<Vec<usize>> {
        let mut order = vec![Vec::new(); self.columns];
        for vertex in self.visited() {
            order[self.vertices[vertex].column].push(vertex);
        }
        let mut place = vec![0; self.vertices.len()];
        self.number(&order, &mut place);
        let (mut best, mut fewest) = (order.clone(), self.crossings(&order, &place));
        for sweep in 0..SWEEPS {
            if fewest == 0 {
                break;
            }
            let rightwards = sweep % 2 == 0;
            for step in 0..self.columns {
                let column = if rightwards { step } else { self.columns - 1 - step };
                let pulls = if rightwards { &self.left } else { &self.right };
                sort_by_barycentre(&mut order[column], pulls, &place);
                for (i, &vertex) in order[column].iter().enumerate() {
                    place[vertex] = i;
                }
            }
            let crossings = self.crossings(&order, &place);
            if crossings < fewest {
                (best, fewest) = (order.clone(), crossings);
            }
        }
        best
    }

    /// Depth-first from what nothing calls: a first order in which families stay together.
    fn visited(&self) -> Vec<usize> {
        let mut seen = vec![false; self.vertices.len()];
        let mut visited = Vec::with_capacity(seen.len());
        let starts = (0..seen.len()).filter(|&v| self.left[v].is_empty());
        for start in starts.chain(0..seen.len()) {
            let mut stack = vec![start];
            while let Some(vertex) = stack.pop() {
                if !std::mem::replace(&mut seen[vertex], true) {
                    visited.push(vertex);
                    stack.extend(self.right[vertex].iter().rev().map(|pull| pull.vertex));
                }
            }
        }
        visited
    }

    fn number(&self, order: &[Vec<usize>], place: &mut [usize]) {
        for column in order {
            for (i, &vertex) in column.iter().enumerate() {
                place[vertex] = i;
            }
        }
    }

    /// Pairs of segments between the same two columns that cross.
    fn crossings(&self, order: &[Vec<usize>], place: &[usize]) -> u64 {
        let mut crossings = 0;
        for column in order {
            let mut segments: Vec<(usize, usize, usize)> = Vec::new();
            for &from in column {
                segments.extend(
                    self.right[from]
                        .iter()
                        .map(|to| (self.vertices[to.vertex].column, place[from], place[to.vertex])),
                );
            }
            segments.sort_unstable();
            for same in segments.chunk_by(|a, b| a.0 == b.0) {
                crossings += inversions(same.iter().map(|segment| segment.2));
            }
        }
        crossings
    }

    /// Centres by vertex: what stood somewhere stays there if it can, what is new goes as near to its neighbours as there is room.
    fn kept(&self, items: &[Item]) -> Vec<f64> {
        let mut places = Places::new(self);
        for (vertex, item) in items.iter().enumerate() {
            if let Some((_, middle)) = item.before {
                places.put(vertex, middle);
            }
        }
        let order = self.visited();
        places.near_their_neighbours(&order);
        // Bends give way to items: the next drawing finds all items in their places, and bends must come to lie as they do now.
        let mut last = Places::new(self);
        for vertex in 0..items.len() {
            last.put(vertex, places.centre[vertex].unwrap_or_default());
        }
        last.near_their_neighbours(&order);
        last.centre.into_iter().flatten().collect()
    }

    /// Centres by vertex.
    fn heights(&self, order: &[Vec<usize>]) -> Vec<f64> {
        let mut centre = vec![0.0; self.vertices.len()];
        for column in order {
            self.settle(column, &mut centre, |_| (0.0, 1.0));
        }
        for sweep in 0..8 {
            for step in 0..self.columns {
                let rightwards = sweep % 2 == 0;
                let column = &order[if rightwards { step } else { self.columns - 1 - step }];
                let before = centre.clone();
                self.settle(column, &mut centre, |vertex| {
                    let (left, right) = (&self.left[vertex], &self.right[vertex]);
                    // The last sweeps listen to both sides.
                    let pulls: Vec<&Pull> = match (sweep < 6, rightwards) {
                        (true, true) => left.iter().collect(),
                        (true, false) => right.iter().collect(),
                        (false, _) => left.iter().chain(right).collect(),
                    };
                    if pulls.is_empty() {
                        return (before[vertex], 0.1);
                    }
                    let sum: f64 = pulls.iter().map(|pull| before[pull.vertex] + pull.dy).sum();
                    (sum / pulls.len() as f64, pulls.len() as f64)
                });
            }
        }
        centre
    }

    fn settle(&self, column: &[usize], centre: &mut [f64], wanted: impl Fn(usize) -> (f64, f64)) {
        let slots: Vec<Slot> = column
            .iter()
            .map(|&vertex| {
                let ((wanted, weight), Vertex { height, gap, .. }) = (wanted(vertex), self.vertices[vertex]);
                Slot { wanted, weight, height, gap }
            })
            .collect();
        for (&vertex, y) in column.iter().zip(centres(&slots)) {
            centre[vertex] = y;
        }
    }
}

/// Where vertices have come to stand so far.
struct Places<'a> {
    graph: &'a Graph,
    centre: Vec<Option<f64>>,
    columns: Vec<Vec<Slot>>,
}

impl Places<'_> {
    fn new(graph: &Graph) -> Places<'_> {
        Places { graph, centre: vec![None; graph.vertices.len()], columns: vec![Vec::new(); graph.columns] }
    }

    /// As near to `wanted` as there is room. On whole numbers, as what is drawn: the next drawing starts from there.
    fn put(&mut self, vertex: usize, wanted: f64) {
        let Vertex { column, height, gap, .. } = self.graph.vertices[vertex];
        let slot = Slot { wanted, weight: 1.0, height, gap };
        let found = whole(nearest_room(&self.columns[column], slot) - height / 2.0) + height / 2.0;
        self.columns[column].push(Slot { wanted: found, ..slot });
        self.centre[vertex] = Some(found);
    }

    /// What stands nowhere yet, in this order.
    fn near_their_neighbours(&mut self, order: &[usize]) {
        for &vertex in order {
            if self.centre[vertex].is_some() {
                continue;
            }
            let pulls = self.graph.left[vertex].iter().chain(&self.graph.right[vertex]);
            let near: Vec<f64> = pulls.filter_map(|pull| Some(self.centre[pull.vertex]? + pull.dy)).collect();
            self.put(vertex, near.iter().sum::<f64>() / near.len().max(1) as f64);
        }
    }
}

/// Sorts the vertices that something pulls at among the places that they hold; the others stay in theirs.
fn sort_by_barycentre(column: &mut [usize], pulls: &[Vec<Pull>], place: &[usize]) {
    let slots: Vec<usize> = (0..column.len()).filter(|&slot| !pulls[column[slot]].is_empty()).collect();
    let mut pulled: Vec<(f64, usize)> = slots
        .iter()
        .map(|&slot| {
            let pulls = &pulls[column[slot]];
            let sum: usize = pulls.iter().map(|pull| place[pull.vertex]).sum();
            (sum as f64 / pulls.len() as f64, column[slot])
        })
        .collect();
    // Stable, so that of two that are pulled alike the first stays first.
    pulled.sort_by(|a, b| a.0.total_cmp(&b.0));
    for (slot, (_, vertex)) in slots.into_iter().zip(pulled) {
        column[slot] = vertex;
    }
}

/// How many pairs stand in falling order.
fn inversions(places: impl Iterator<Item = usize>) -> u64 {
    let places: Vec<usize> = places.collect();
    let size = places.iter().max().map_or(0, |max| max + 1);
    // A Fenwick tree of how often each place was seen.
    let mut tree = vec![0u64; size + 1];
    let mut inversions = 0;
    for (seen, &place) in places.iter().enumerate() {
        let mut not_greater = 0;
        let mut i = place + 1;
        while i > 0 {
            not_greater += tree[i];
            i &= i - 1;
        }
        inversions += seen as u64 - not_greater;
        let mut i = place + 1;
        while i <= size {
            tree[i] += 1;
            i += i & i.wrapping_neg();
        }
    }
    inversions
}

/// Left edge and width of every column, and the width of all.
fn column_places(items: &[Item], columns: &[usize], graph: &Graph, style: Style) -> (Vec<(f64, f64)>, f64) {
    let mut only_pills = vec![true; graph.columns];
    let mut widths = vec![0.0_f64; graph.columns];
    for (item, &column) in items.iter().zip(columns) {
        only_pills[column] &= item.pill;
        widths[column] = widths[column].max(item.width);
    }
    let mut places = Vec::with_capacity(graph.columns);
    let mut x = 0.0;
    for (c, width) in widths.into_iter().enumerate() {
        if c > 0 {
            x += match (only_pills[c - 1], only_pills[c]) {
                (true, _) => style.after_pill,
                (false, true) => style.before_pill,
                (false, false) => style.column_gap,
            };
        }
        places.push((x, width));
        x += width;
    }
    (places, x)
}
