use super::*;
use proptest::prelude::*;

fn card(id: &str, group: &str) -> Node {
    Node {
        id: id.into(),
        group: (!group.is_empty()).then(|| group.into()),
        width: 148.0,
        height: 64.0,
        pill: false,
    }
}

fn pill(id: &str, group: &str) -> Node {
    Node { width: 72.0, height: 32.0, pill: true, ..card(id, group) }
}

fn fresh(nodes: &[Node], edges: &[(usize, usize)]) -> Layout {
    layout(nodes, edges, &Before::default())
}

/// Where everything stands, for the next drawing.
fn stands<'a>(nodes: &'a [Node], layout: &'a Layout) -> Before<'a> {
    Before {
        nodes: nodes.iter().map(|node| node.id.as_str()).zip(layout.nodes.iter().copied()).collect(),
        groups: layout.groups.iter().map(|group| (group.name.as_str(), (group.x, group.y))).collect(),
    }
}

/// The nodes whose distance from the first has changed.
fn moved(before: (&[Node], &Layout), after: (&[Node], &Layout)) -> Vec<String> {
    let from_first = |(nodes, layout): (&[Node], &Layout)| -> HashMap<String, (f64, f64)> {
        let (x, y) = layout.nodes[0];
        nodes.iter().zip(&layout.nodes).map(|(node, at)| (node.id.clone(), (at.0 - x, at.1 - y))).collect()
    };
    let (old, new) = (from_first(before), from_first(after));
    let mut moved: Vec<String> = new
        .into_iter()
        .filter(|(id, at)| old.get(id).is_some_and(|old| old != at))
        .map(|(id, _)| id)
        .collect();
    moved.sort();
    moved
}

fn bookinfo() -> (Vec<Node>, Vec<(usize, usize)>) {
    let nodes = vec![
        card("w:traffic/traffic", "traffic"),
        card("w:bookinfo/productpage-v1", "bookinfo"),
        card("w:bookinfo/details-v1", "bookinfo"),
        pill("s:bookinfo/reviews", "bookinfo"),
        card("w:bookinfo/reviews-v1", "bookinfo"),
        card("w:bookinfo/reviews-v2", "bookinfo"),
        card("w:bookinfo/reviews-v3", "bookinfo"),
        card("w:bookinfo/ratings-v1", "bookinfo"),
        card("x:10.0.0.9", ""),
    ];
    (nodes, vec![(0, 1), (1, 2), (1, 3), (3, 4), (3, 5), (3, 6), (5, 7), (6, 7), (8, 2)])
}

#[test]
fn bookinfo_reads_from_left_to_right() {
    let (nodes, edges) = bookinfo();
    let layout = fresh(&nodes, &edges);
    let x = |i: usize| layout.nodes[i].0;
    assert!(x(0) < x(1) && x(1) < x(3) && x(3) < x(4), "traffic, productpage, the Service, its workloads");
    assert!(x(4) == x(5) && x(5) == x(6) && x(2) == x(4), "details and all versions share a column");
    assert!(x(6) < x(7) && x(8) < x(2));
    assert!(layout.edges.iter().all(|edge| !edge.back));
    let middle = |i: usize| layout.nodes[i].1 + nodes[i].height / 2.0;
    assert!((middle(0) - middle(1)).abs() < 8.0, "a nearly straight first edge: {} {}", middle(0), middle(1));
    check(&nodes, &edges, &layout);
}

#[test]
fn a_cycle_has_one_edge_back() {
    let nodes = vec![card("a", "n"), card("b", "n"), card("c", "n")];
    let layout = fresh(&nodes, &[(0, 1), (1, 2), (2, 0), (1, 1)]);
    let back: Vec<bool> = layout.edges.iter().map(|edge| edge.back).collect();
    assert_eq!(back, [false, false, true, true]);
}

/// The laws: nothing overlaps, boxes hold their nodes, edges that are not marked run to the right.
fn check(nodes: &[Node], edges: &[(usize, usize)], layout: &Layout) {
    let rects: Vec<Rect> = nodes.iter().zip(&layout.nodes).map(|(node, at)| rect(node, *at)).collect();
    for (i, a) in rects.iter().enumerate() {
        for b in &rects[..i] {
            assert!(!overlap(a, b), "{:?} {:?}", layout.nodes, nodes);
        }
        assert!(a.x >= 0.0 && a.y >= 0.0 && a.x + a.width <= layout.width && a.y + a.height <= layout.height);
        for group in &layout.groups {
            let frame = Rect { x: group.x, y: group.y, width: group.width, height: group.height };
            assert_eq!(overlap(a, &frame), nodes[i].group.as_ref() == Some(&group.name));
        }
    }
    for ((from, to), edge) in edges.iter().zip(&layout.edges) {
        assert_eq!(edge.points.len() % 3, 1);
        if !edge.back {
            assert!(rects[*from].x + rects[*from].width < rects[*to].x);
            assert!(edge.points.is_sorted_by(|a, b| a.0 <= b.0), "{:?}", edge.points);
        }
    }
}

fn overlap(a: &Rect, b: &Rect) -> bool {
    a.x < b.x + b.width && b.x < a.x + a.width && a.y < b.y + b.height && b.y < a.y + a.height
}

fn graphs() -> impl Strategy<Value = (Vec<Node>, Vec<(usize, usize)>)> {
    (1usize..40).prop_flat_map(|count| {
        let nodes = prop::collection::vec((0usize..4, prop::bool::weighted(0.15)), count).prop_map(|kinds| {
            let group = |n: usize| ["", "shop", "pay", "web"][n];
            kinds
                .into_iter()
                .enumerate()
                .map(|(i, (n, is_pill))| {
                    if is_pill { pill(&format!("n{i}"), group(n)) } else { card(&format!("n{i}"), group(n)) }
                })
                .collect()
        });
        (nodes, prop::collection::vec((0..count, 0..count), 0..80))
    })
}

#[test]
fn what_comes_and_goes_moves_nobody() {
    let (mut nodes, mut edges) = bookinfo();
    let first = fresh(&nodes, &edges);
    nodes.push(card("w:bookinfo/reviews-v0", "bookinfo"));
    edges.extend([(3, 9), (9, 7)]);
    let second = layout(&nodes, &edges, &stands(&nodes[..9], &first));
    check(&nodes, &edges, &second);
    assert_eq!(moved((&nodes[..9], &first), (&nodes, &second)), [""; 0]);
    assert_eq!(second.nodes[9].0, second.nodes[4].0, "beside the other versions");

    let (fewer, kept) = (nodes[..9].to_vec(), edges[..9].to_vec());
    let third = layout(&fewer, &kept, &stands(&nodes, &second));
    assert_eq!(moved((&nodes, &second), (&fewer, &third)), [""; 0]);
    assert_eq!(
        layout(&fewer, &kept, &stands(&fewer, &third)),
        third,
        "what did not change is drawn as before"
    );
}

#[test]
fn a_mesh_that_is_mostly_new_is_laid_out_afresh() {
    let (nodes, edges) = bookinfo();
    let few = fresh(&nodes[..3], &[(0, 1)]);
    assert_eq!(layout(&nodes, &edges, &stands(&nodes[..3], &few)), fresh(&nodes, &edges));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn keeps_its_laws((nodes, edges) in graphs()) {
        check(&nodes, &edges, &fresh(&nodes, &edges));
    }

    #[test]
    fn does_not_depend_on_the_order_of_nodes((nodes, edges) in graphs()) {
        let straight = fresh(&nodes, &edges);
        let last = nodes.len() - 1;
        let mirrored: Vec<Node> = nodes.iter().rev().cloned().collect();
        let edges: Vec<(usize, usize)> = edges.iter().map(|(a, b)| (last - a, last - b)).collect();
        let other = fresh(&mirrored, &edges);
        prop_assert_eq!(&straight.edges, &other.edges);
        prop_assert!(straight.nodes.iter().eq(other.nodes.iter().rev()));
    }

    /// Whatever comes, goes, and calls anew: the laws hold, and the same again changes nothing.
    #[test]
    fn keeps_its_laws_from_one_drawing_to_the_next((nodes, edges) in graphs(), gone in any::<prop::sample::Index>(), calls in prop::collection::vec((0usize..40, 0usize..40), 0..4)) {
        let old = fresh(&nodes, &edges);
        let gone = gone.index(nodes.len());
        let mut left = nodes.clone();
        left.remove(gone);
        left.push(card("newcomer", "shop"));
        let at = |node: usize| if node > gone { node - 1 } else { node };
        let mut now: Vec<(usize, usize)> =
            edges.iter().filter(|(a, b)| *a != gone && *b != gone).map(|(a, b)| (at(*a), at(*b))).collect();
        now.extend(calls.into_iter().map(|(a, b)| (a % left.len(), b % left.len())));
        let new = layout(&left, &now, &stands(&nodes, &old));
        check(&left, &now, &new);
        prop_assert_eq!(&layout(&left, &now, &stands(&left, &new)), &new);
    }

    #[test]
    fn acyclic_graphs_have_no_edge_back(edges in prop::collection::vec((0usize..30, 0usize..30), 0..80)) {
        let nodes: Vec<Node> = (0..30).map(|i| card(&format!("n{i}"), "n")).collect();
        let edges: Vec<(usize, usize)> = edges.into_iter().filter(|(a, b)| a < b).collect();
        prop_assert!(fresh(&nodes, &edges).edges.iter().all(|edge| !edge.back));
    }
}

fn large() -> (Vec<Node>, Vec<(usize, usize)>) {
    let nodes = (0..500).map(|i| card(&format!("w{i:03}"), ["a", "b", "c", "d", "e"][i % 5])).collect();
    (nodes, (0..2_000).map(|i| (i * 7919 % 500, i * 104_729 % 499 + 1)).collect())
}

/// 500 nodes and 2,000 edges: some 20 ms optimized (`cargo bench -p mesh-operator`), here with room for an unoptimized build on
/// a busy machine.
#[test]
fn a_large_mesh_is_laid_out_at_once() {
    let (nodes, edges) = large();
    let start = std::time::Instant::now();
    let layout = fresh(&nodes, &edges);
    let took = start.elapsed();
    assert_eq!(layout.nodes.len(), 500);
    assert!(took.as_millis() < if cfg!(debug_assertions) { 1_500 } else { 100 }, "{took:?}");
}

#[test]
fn in_a_large_mesh_too_a_newcomer_moves_nobody() {
    let (mut nodes, mut edges) = large();
    let first = fresh(&nodes, &edges);
    nodes.push(card("newcomer", "c"));
    edges.push((7, 500));
    let second = layout(&nodes, &edges, &stands(&nodes[..500], &first));
    check(&nodes, &edges, &second);
    let moved = moved((&nodes[..500], &first), (&nodes, &second));
    assert!(moved.len() < 5, "{moved:?}");
}
