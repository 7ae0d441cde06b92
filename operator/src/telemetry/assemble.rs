//! Makes a waterfall of a trace's spans: parents before children, depth, and the path that decided the duration.
//! Spans may have arrived in any order, with parents missing, twice, or pointing at each other in a circle.

use super::traces::{Span, SpanId, Trace};
use ahash::AHashMap;

/// A span's place in the waterfall.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Index into the trace's spans.
    pub span: usize,
    pub depth: u32,
    /// Whether the parent that the span names is there.
    pub has_parent: bool,
    pub critical: bool,
}

/// Every span once: roots by start, each followed by its children by start.
pub fn waterfall(trace: &Trace) -> Vec<Place> {
    let spans = &trace.spans;
    let mut by_id: AHashMap<SpanId, usize> = AHashMap::with_capacity(spans.len());
    for (i, span) in spans.iter().enumerate() {
        by_id.entry(span.id).or_insert(i);
    }
    let mut by_start: Vec<usize> = (0..spans.len()).collect();
    by_start.sort_by_key(|&i| (spans[i].start_us, std::cmp::Reverse(spans[i].duration_us), spans[i].id));
    let mut children: Vec<Vec<usize>> = vec![Vec::new(); spans.len()];
    let mut roots = Vec::new();
    for &i in &by_start {
        match spans[i].parent.and_then(|parent| by_id.get(&parent)) {
            Some(&parent) if parent != i => children[parent].push(i),
            _ => roots.push(i),
        }
    }
    let mut places = Vec::with_capacity(spans.len());
    let mut placed = vec![false; spans.len()];
    // What no root leads to is part of a circle; its earliest span is taken as a root.
    for &root in roots.iter().chain(&by_start) {
        place(root, &children, &mut placed, &mut places, roots.contains(&root));
    }
    mark_critical(spans, &children, &mut places);
    places
}

fn place(root: usize, children: &[Vec<usize>], placed: &mut [bool], places: &mut Vec<Place>, is_root: bool) {
    let mut stack = vec![(root, 0)];
    while let Some((span, depth)) = stack.pop() {
        if std::mem::replace(&mut placed[span], true) {
            continue;
        }
        places.push(Place { span, depth, has_parent: depth > 0 || !is_root, critical: false });
        stack.extend(children[span].iter().rev().map(|&child| (child, depth + 1)));
    }
}

/// From the root that ends last, walks back in time: at each moment the child that ended last before it is what the
/// parent was waiting for.
fn mark_critical(spans: &[Span], children: &[Vec<usize>], places: &mut [Place]) {
    let Some(root) =
        places.iter().filter(|place| place.depth == 0).max_by_key(|place| spans[place.span].end_us())
    else {
        return;
    };
    let mut critical = vec![false; spans.len()];
    let mut stack = vec![root.span];
    while let Some(span) = stack.pop() {
        if std::mem::replace(&mut critical[span], true) {
            continue;
        }
        let mut by_end = children[span].clone();
        by_end.sort_by_key(|&child| std::cmp::Reverse(spans[child].end_us()));
        let mut until = spans[span].end_us();
        for child in by_end {
            // A child that outlives its parent was not waited for; clocks of two machines may differ by a little.
            if spans[child].end_us() <= until.saturating_add(SKEW_US) && spans[child].start_us < until {
                stack.push(child);
                until = spans[child].start_us;
            }
        }
    }
    for place in places {
        place.critical = critical[place.span];
    }
}

const SKEW_US: u64 = 1_000;
