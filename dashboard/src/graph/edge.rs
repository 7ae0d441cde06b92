//! One edge: its wire, the arrow head, and the label that `geometry::label_places` found room for.

use crate::{
    format,
    graph::{
        geometry,
        label::{Label, label},
        model::{self, Row, spoken},
        view::View,
    },
    words,
};
use leptos::{ev, prelude::*};
use mesh_api::{
    graph::{Edge, EdgeMetrics, Node},
    health::Health,
};

/// Who talks to whom, and how it goes.
#[derive(Clone, Copy)]
pub struct EdgeData {
    pub edge: Row<Edge>,
    pub from: Row<Node>,
    pub to: Row<Node>,
    pub metrics: Row<EdgeMetrics>,
}

impl EdgeData {
    pub fn new(view: View, id: &str) -> EdgeData {
        // The ids at both ends never change: they make the edge's own.
        let (from, to) = id.split_once('>').unwrap_or((id, ""));
        EdgeData {
            edge: view.model.edge(id),
            from: view.model.node(from),
            to: view.model.node(to),
            metrics: view.model.edge_metrics(id),
        }
    }

    pub fn health(self) -> Health {
        self.metrics.with(|metrics| metrics.as_ref().map_or(Health::Idle, |metrics| metrics.health))
    }

    /// `reviews v2 → ratings v1`.
    pub fn name(self) -> String {
        let of = |node: Row<Node>| node.with(|node| node.as_ref().map(spoken).unwrap_or_default());
        format!("{} → {}", of(self.from), of(self.to))
    }

    /// Whether filters, the find expression or the focus leave it in sight.
    fn is_dimmed(self, view: View, id: &str) -> bool {
        let other_protocol = view.traffic.get().is_some_and(|wanted| {
            self.metrics.with(|metrics| metrics.as_ref().is_some_and(|metrics| metrics.protocol != wanted))
        });
        let unfound = view.find.with(|find| {
            !model::finds_all(find)
                && !self.from.with(|from| {
                    self.to.with(|to| match (from, to) {
                        (Some(from), Some(to)) => {
                            self.metrics.with(|m| find.matches(&model::edge_facts(from, to, m.as_ref())))
                        }
                        _ => false,
                    })
                })
        });
        let unfocused = view.focus.get()
            && view.selected.with(|selected| {
                selected.as_deref().is_some_and(|selected| {
                    let touches = id == selected
                        || id.split_once('>').is_some_and(|(from, to)| from == selected || to == selected);
                    !touches
                })
            });
        other_protocol || unfound || unfocused
    }
}

/// Line and arrow head; the label is drawn above all lines, by `edge_label`.
pub fn edge(view: View, id: String) -> impl IntoView {
    let data = EdgeData::new(view, &id);
    // Into a Service's pill there is no arrow: the split behind it goes on.
    let head = Memo::new(move |_| data.to.with(|to| !to.as_ref().is_some_and(geometry::is_pill)));
    let path = Memo::new(move |_| {
        data.edge
            .with(|edge| edge.as_ref().map(|edge| geometry::edge_path(edge, head.get())).unwrap_or_default())
    });
    let head_path = move || {
        data.edge
            .with(|edge| edge.as_ref().filter(|_| head.get()).map(geometry::arrow_head).unwrap_or_default())
    };
    let width = Memo::new(move |_| {
        let rate = data.metrics.with(|m| m.as_ref().map_or(0.0, |m| m.golden.rate_per_s));
        let loud = match data.health() {
            Health::Failing => 0.6,
            Health::Degraded | Health::Healthy | Health::Idle | Health::Unknown => 0.0,
        };
        // One decimal, so that a hardly changed rate changes nothing on the screen.
        ((geometry::edge_width(rate) + loud) * 10.0).round() / 10.0
    });
    // Each of these changes seldom, however often the figures do.
    let health = Memo::new(move |_| data.health());
    let is_plaintext = Memo::new(move |_| data.metrics.with(|m| m.as_ref().is_some_and(words::is_plaintext)));
    let is_dimmed = {
        let id = id.clone();
        Memo::new(move |_| data.is_dimmed(view, &id))
    };
    let ends = Memo::new(move |_| data.name());
    let class = {
        let id = id.clone();
        move || {
            let selected = if view.is_selected(&id) { " selected" } else { "" };
            let plaintext = if is_plaintext.get() { " plaintext" } else { "" };
            let dimmed = if is_dimmed.get() { " dimmed" } else { "" };
            format!("edge {}{selected}{plaintext}{dimmed}", words::class(health.get()))
        }
    };
    let name = move || {
        let figures = data.metrics.with(|m| m.as_ref().map(spoken_figures).unwrap_or_default());
        ends.with(|ends| format!("{ends}{figures}"))
    };
    let click = {
        let id = id.clone();
        move |event: ev::MouseEvent| {
            event.stop_propagation();
            view.select(&id);
        }
    };
    view! {
        <g id=format!("edge {id}") class=class role="button" tabindex="-1" aria-label=name on:click=click>
            <path class="halo" d=move || path.get() stroke-width=move || width.get() + 7.0/>
            <path class="wire" d=move || path.get() stroke-width=move || width.get()/>
            <path class="head" d=head_path/>
            <path class="hit" d=move || path.get()/>
        </g>
    }
}

/// Drawn after all lines, so that none crosses it.
pub fn edge_label(
    view: View,
    id: String,
    places: Memo<std::collections::HashMap<String, (f64, f64)>>,
) -> impl IntoView {
    let data = EdgeData::new(view, &id);
    // All edges read the chosen metric: through a memo of each one's own, which does not run when the figures change.
    let metric = Memo::new(move |_| view.metric.get());
    let shown = Memo::new(move |_| {
        let metric = metric.get();
        data.edge.with(|edge| data.metrics.with(|metrics| label(edge.as_ref()?, metrics.as_ref()?, metric)))
    });
    let place = {
        let id = id.clone();
        Memo::new(move |_| places.with(|places| places.get(&id).copied()))
    };
    let dimmed = Memo::new(move |_| data.is_dimmed(view, &id));
    move || {
        let (Some(Label { text, small, class }), Some((x, y)), false) =
            (shown.get(), place.get(), dimmed.get())
        else {
            return ().into_any();
        };
        let width = Label { text: text.clone(), small: small.clone(), class }.width();
        let (height, first) = if small.is_empty() { (geometry::LABEL_HEIGHT, 4.0) } else { (28.0, -2.0) };
        let second = (!small.is_empty()).then(|| view! { <text class="small" x=x y=y + 10.0>{small}</text> });
        view! {
            <g class=format!("edge-label {class}") aria-hidden="true">
                <rect x=x - width / 2.0 y=y - height / 2.0 width=width height=height rx="9"/>
                <text x=x y=y + first>{text}</text>
                {second}
            </g>
        }
        .into_any()
    }
}

fn spoken_figures(metrics: &EdgeMetrics) -> String {
    let golden = &metrics.golden;
    let plaintext = if words::is_plaintext(metrics) { ", plaintext" } else { "" };
    format!(
        ", {}, {} · {} · {}{plaintext}",
        metrics.health.word(),
        format::rate(golden.rate_per_s).text(),
        format::share(golden.success).text(),
        format::latency(golden.p99_ms).text()
    )
}
