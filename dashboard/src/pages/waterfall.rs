//! The waterfall's logic: which spans are visible, where keys lead, how much time the mesh took. Pure.

use mesh_api::trace::{Span, SpanKind};
use std::collections::HashSet;

/// What a key does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Key {
    Go(String),
    Fold(String),
    Unfold(String),
}

/// Indices of the spans that no folded ancestor hides. Parents come before children, as the API orders them.
pub fn visible(spans: &[Span], folded: &HashSet<String>) -> Vec<usize> {
    let mut hidden: HashSet<&str> = HashSet::new();
    let mut shown = Vec::with_capacity(spans.len());
    for (index, span) in spans.iter().enumerate() {
        let by_parent =
            span.parent.as_deref().is_some_and(|parent| hidden.contains(parent) || folded.contains(parent));
        if by_parent {
            hidden.insert(&span.id);
        } else {
            shown.push(index);
        }
    }
    shown
}

/// `here` is the id of the span that has the focus.
pub fn key(name: &str, spans: &[Span], folded: &HashSet<String>, here: &str) -> Option<Key> {
    let shown = visible(spans, folded);
    let place = shown.iter().position(|index| spans[*index].id == here)?;
    let span = &spans[shown[place]];
    let go = |place: usize| Some(Key::Go(spans[*shown.get(place)?].id.clone()));
    let is_parent = spans.iter().any(|other| other.parent.as_deref() == Some(here));
    match name {
        "ArrowDown" => go(place + 1),
        "ArrowUp" => go(place.checked_sub(1)?),
        "Home" => go(0),
        "End" => go(shown.len() - 1),
        "ArrowLeft" if is_parent && !folded.contains(here) => Some(Key::Fold(here.to_owned())),
        "ArrowLeft" => {
            span.parent.clone().filter(|parent| spans.iter().any(|s| s.id == *parent)).map(Key::Go)
        }
        "ArrowRight" if is_parent && folded.contains(here) => Some(Key::Unfold(here.to_owned())),
        "ArrowRight" if is_parent => go(place + 1),
        _ => None,
    }
}

/// Along the critical path, what a call took longer at its caller's proxy than at the callee's: both proxies and the way
/// between them.
pub fn in_mesh_us(spans: &[Span]) -> u64 {
    let calls = spans.iter().filter(|span| span.critical && span.kind == SpanKind::Client);
    calls
        .filter_map(|call| {
            let served =
                spans.iter().find(|s| s.parent.as_deref() == Some(&call.id) && s.kind == SpanKind::Server)?;
            Some(call.duration_us.saturating_sub(served.duration_us))
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(id: &str, parent: Option<&str>, kind: SpanKind, duration_us: u64) -> Span {
        Span {
            id: id.into(),
            parent: parent.map(Into::into),
            depth: 0,
            name: String::new(),
            kind,
            workload: String::new(),
            start_us: 0,
            duration_us,
            error: false,
            critical: true,
            attributes: vec![],
        }
    }

    /// a → b → c, and a → d.
    fn spans() -> Vec<Span> {
        vec![
            span("a", None, SpanKind::Client, 61_000),
            span("b", Some("a"), SpanKind::Server, 60_000),
            span("c", Some("b"), SpanKind::Client, 9_000),
            span("d", Some("a"), SpanKind::Internal, 1_000),
        ]
    }

    #[test]
    fn folding_hides_all_below() {
        let folded = |ids: &[&str]| visible(&spans(), &ids.iter().map(|id| (*id).to_owned()).collect());
        assert_eq!(folded(&[]), [0, 1, 2, 3]);
        assert_eq!(folded(&["b"]), [0, 1, 3]);
        assert_eq!(folded(&["a"]), [0]);
    }

    #[test]
    fn keys_walk_and_fold() {
        let press = |name: &str, here: &str, folded: &[&str]| {
            key(name, &spans(), &folded.iter().map(|id| (*id).to_owned()).collect(), here)
        };
        assert_eq!(press("ArrowDown", "b", &["b"]), Some(Key::Go("d".into())));
        assert_eq!(press("ArrowUp", "a", &[]), None);
        assert_eq!(press("ArrowLeft", "b", &[]), Some(Key::Fold("b".into())));
        assert_eq!(press("ArrowLeft", "b", &["b"]), Some(Key::Go("a".into())));
        assert_eq!(press("ArrowRight", "b", &["b"]), Some(Key::Unfold("b".into())));
        assert_eq!(press("End", "a", &[]), Some(Key::Go("d".into())));
        assert_eq!(press("x", "a", &[]), None);
    }

    #[test]
    fn the_mesh_takes_what_the_caller_saw_beyond_the_callee() {
        assert_eq!(in_mesh_us(&spans()), 1_000, "c has no other side");
    }
}
