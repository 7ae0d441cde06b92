//! One node: a card with its numbers, or a Service's pill.

use crate::{
    charts::geometry as curves,
    format,
    graph::{
        geometry,
        model::{self, Row, spoken},
        view::View,
    },
    parts::glyph,
    words,
};
use leptos::{ev, prelude::*};
use mesh_api::{
    graph::{Node, NodeMetrics},
    health::Health,
};

/// Of a bold letter on a card, in the widest of the fonts that systems have where none of ours is there (DejaVu).
const TITLE_WIDTH: f64 = 8.4;

/// The DOM id, for moving the focus.
pub fn element_id(id: &str) -> String {
    format!("node {id}")
}

pub fn node(view: View, id: String) -> impl IntoView {
    let node = view.model.node(&id);
    let metrics = view.model.node_metrics(&id);
    let first = node.get_untracked()?;
    // The list that made this view drops it in the same tick in which the node goes; until then the last is shown.
    let node = Memo::new(move |before: Option<&Node>| {
        node.get().or_else(|| before.cloned()).unwrap_or_else(|| first.clone())
    });
    let health = Memo::new(move |_| metrics.with(|m| m.as_ref().map_or(Health::Idle, |m| m.health)));
    let pill = node.with_untracked(geometry::is_pill);

    let dimmed = {
        let id = id.clone();
        Memo::new(move |_| {
            let unfound = view.find.with(|find| {
                !model::finds_all(find)
                    && !node.with(|node| {
                        metrics.with(|metrics| find.matches(&model::node_facts(node, metrics.as_ref())))
                    })
            });
            let unfocused = view.focus.get()
                && view.selected.with(|selected| {
                    selected.as_deref().is_some_and(|selected| {
                        view.model.with_topology(|t| !geometry::is_near(t, selected, &id))
                    })
                });
            unfound || unfocused
        })
    };
    let class = {
        let id = id.clone();
        move || {
            let selected = if view.is_selected(&id) { " selected" } else { "" };
            let outside = if node.with(|node| node.meshed) { "" } else { " outside" };
            let dimmed = if dimmed.get() { " dimmed" } else { "" };
            format!("node {}{selected}{outside}{dimmed}", words::class(health.get()))
        }
    };
    let tab_index = {
        let id = id.clone();
        move || {
            let at_cursor = view.cursor.with(|cursor| cursor.as_deref() == Some(id.as_str()));
            if at_cursor { "0" } else { "-1" }
        }
    };
    let name = move || node.with(|node| metrics.with(|metrics| spoken_name(node, metrics.as_ref())));
    let click = {
        let id = id.clone();
        move |event: ev::MouseEvent| {
            event.stop_propagation();
            view.cursor.set(Some(id.clone()));
            view.select(&id);
        }
    };
    let focused = {
        let id = id.clone();
        move |_| view.cursor.set(Some(id.clone()))
    };
    Some(view! {
        <g
            id=element_id(&id)
            class=class
            transform=move || node.with(|node| format!("translate({:.1} {:.1})", node.x, node.y))
            role="button"
            tabindex=tab_index
            aria-label=name
            on:click=click
            on:focus=focused
        >
            {if pill { pill_shape(node).into_any() } else { card(node, metrics, health).into_any() }}
        </g>
    })
}

fn pill_shape(node: Memo<Node>) -> impl IntoView {
    let width = move || node.with(|node| node.width);
    let height = move || node.with(|node| node.height);
    let radius = move || height() / 2.0;
    view! {
        <rect class="glow" width=width height=height rx=radius/>
        <rect class="pill" width=width height=height rx=radius/>
        <rect class="ring" width=width height=height rx=radius/>
        <text class="pill-text" x=move || width() / 2.0 y=move || height() / 2.0 + 4.0>
            {move || node.with(|node| geometry::shorten(&node.label, node.width - 16.0, 6.5))}
        </text>
    }
}

fn card(node: Memo<Node>, metrics: Row<NodeMetrics>, health: Memo<Health>) -> impl IntoView {
    let width = move || node.with(|node| node.width);
    let height = move || node.with(|node| node.height);
    let version = move || node.with(|node| node.version.clone()).unwrap_or_default();
    let title = move || {
        let taken = 41.0 + 6.5 * version().chars().count() as f64;
        node.with(|node| geometry::shorten(&node.label, node.width - taken, TITLE_WIDTH))
    };
    let figures = move || {
        metrics.with(|metrics| {
            let metrics = metrics.as_ref()?;
            Some(figures(metrics, node.with(|node| node.meshed)))
        })
    };
    let spark = move || {
        metrics.with(|metrics| {
            metrics.as_ref().map(|m| curves::spark(&m.spark, width() - 2.0, 12.0)).unwrap_or_default()
        })
    };
    view! {
        <rect class="glow" width=width height=height rx="8"/>
        <rect class="card-shadow" x="0" y="2.500" width=width height=height rx="8"/>
        <rect class="card-box" width=width height=height rx="8"/>
        <g class=move || format!("spark {}", words::class(health.get())) transform=move || format!("translate(1 {:.1})", height() - 14.0)>
            <path d=spark/>
        </g>
        <path class="rail" d=move || geometry::rail(height())/>
        <g class=move || format!("glyph {}", words::class(health.get())) transform="translate(11 9) scale(.94)">
            {move || glyph::shape(health.get())}
        </g>
        <text class="title" x="32" y="21">{title}</text>
        " "
        <text class="version" x=move || width() - 9.0 y="21">{version}</text>
        " "
        <text class="figures" x="11" y="42">{figures}</text>
        <rect class="ring" width=width height=height rx="8"/>
    }
}

/// `24.0/s · 98.3 % · 61 ms`, of which only what is bad is coloured.
fn figures(metrics: &NodeMetrics, meshed: bool) -> AnyView {
    let golden = &metrics.golden;
    if !meshed || golden.requests == 0 {
        return plain_figures(metrics, meshed).into_any();
    }
    let p99 = golden.p99_ms.map(|_| format!(" · {}", format::latency(golden.p99_ms).text()));
    view! {
        {format::rate(golden.rate_per_s).text()}
        " · "
        <tspan class=words::success_class(golden)>{format::share(golden.success).text()}</tspan>
        {p99}
    }
    .into_any()
}

/// The same as a text, for the node's spoken name.
fn plain_figures(metrics: &NodeMetrics, meshed: bool) -> String {
    let golden = &metrics.golden;
    let rate = format::rate(golden.rate_per_s).text();
    match (meshed, golden.requests) {
        (false, 0) => "not meshed".into(),
        (false, _) => format!("not meshed · {rate}"),
        (true, 0) => "no requests".into(),
        (true, _) => {
            let p99 = golden.p99_ms.map(|_| format!(" · {}", format::latency(golden.p99_ms).text()));
            format!("{rate} · {}{}", format::share(golden.success).text(), p99.unwrap_or_default())
        }
    }
}

/// "ratings v1 15.9/s · 94.8 % · 31 ms, failing, workload in bookinfo". Begins with what is written on the card, so that
/// who speaks to the computer can call the node by what they see.
fn spoken_name(node: &Node, metrics: Option<&NodeMetrics>) -> String {
    let kind = words::kind(node.kind);
    let place =
        if node.namespace.is_empty() { kind.to_owned() } else { format!("{kind} in {}", node.namespace) };
    let Some(metrics) = metrics else { return format!("{}, {place}", spoken(node)) };
    let separator = if geometry::is_pill(node) { ", " } else { " " };
    let figures = plain_figures(metrics, node.meshed);
    format!("{}{separator}{figures}, {}, {place}", spoken(node), metrics.health.word())
}

#[cfg(test)]
mod tests {
    use super::*;
    use mesh_api::{golden::Golden, graph::NodeKind};

    #[test]
    fn a_screen_reader_hears_name_figures_and_health() {
        let node = Node {
            id: "w:bookinfo/ratings-v1".into(),
            kind: NodeKind::Workload,
            namespace: "bookinfo".into(),
            label: "ratings".into(),
            name: "ratings-v1".into(),
            version: Some("v1".into()),
            meshed: true,
            x: 0.0,
            y: 0.0,
            width: 148.0,
            height: 64.0,
        };
        let golden = Golden {
            requests: 480,
            rate_per_s: 15.9,
            success: Some(0.948),
            p99_ms: Some(31.0),
            ..Golden::default()
        };
        let metrics = NodeMetrics { health: Health::Failing, reason: String::new(), golden, spark: vec![] };
        assert_eq!(
            spoken_name(&node, Some(&metrics)),
            "ratings v1 15.9/s · 94.8 % · 31 ms, failing, workload in bookinfo"
        );
        assert_eq!(spoken_name(&node, None), "ratings v1, workload in bookinfo");
    }
}
