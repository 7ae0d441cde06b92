//! The graph's twin as two tables: the same nodes and edges, the same selection.

use crate::{
    format,
    graph::{
        edge::EdgeData,
        model::{edge_facts, node_facts, spoken},
        view::View,
    },
    parts::glyph::Glyph,
    words,
};
use leptos::prelude::*;
use mesh_api::{golden::Golden, health::Health};

#[component]
pub fn Tables(view: View) -> impl IntoView {
    let nodes = view.model.node_ids();
    let edges = view.model.edge_ids();
    view! {
        <section class="box">
            <h2>"Workloads and services"<span>{move || nodes.with(Vec::len)}</span></h2>
            <div class="scroll" tabindex="0" role="region" aria-label="Nodes">
                <table class="table">
                    <thead>
                        <tr>
                            <th scope="col">"Name"</th><th scope="col" class="text">"Namespace"</th><th scope="col" class="text">"Health"</th>
                            {figure_titles()}
                        </tr>
                    </thead>
                    <tbody><For each=move || nodes.get() key=Clone::clone children=move |id| node_row(view, id)/></tbody>
                </table>
            </div>
        </section>
        <section class="box">
            <h2>"Edges"<span>{move || edges.with(Vec::len)}</span></h2>
            <div class="scroll" tabindex="0" role="region" aria-label="Edges">
                <table class="table">
                    <thead>
                        <tr>
                            <th scope="col">"From, to"</th><th scope="col" class="text">"Protocol"</th><th scope="col" class="text">"Health"</th>
                            {figure_titles()}
                            <th scope="col">"Encrypted"</th><th scope="col">"Share seen"</th><th scope="col">"wanted"</th>
                        </tr>
                    </thead>
                    <tbody><For each=move || edges.get() key=Clone::clone children=move |id| edge_row(view, id)/></tbody>
                </table>
            </div>
        </section>
    }
}

fn figure_titles() -> impl IntoView {
    ["Requests/s", "Success", "p50", "p95", "p99"]
        .map(|title| view! { <th scope="col">{title}</th> })
        .into_iter()
        .collect_view()
}

fn figures(golden: Memo<Golden>) -> impl IntoView {
    let cell = move |figure: fn(&Golden) -> String| view! { <td>{move || golden.with(figure)}</td> };
    view! {
        {cell(|g| format::rate(g.rate_per_s).value)}
        <td class=move || golden.with(words::success_class)>{move || golden.with(|g| format::share(g.success).text())}</td>
        {cell(|g| format::latency(g.p50_ms).text())}
        {cell(|g| format::latency(g.p95_ms).text())}
        {cell(|g| format::latency(g.p99_ms).text())}
    }
}

fn health_cell(health: Memo<Health>) -> impl IntoView {
    view! { <td class="text"><span class="verdict"><Glyph health=health quiet=true/>{move || health.get().word()}</span></td> }
}

fn row_class(view: View, id: String) -> impl Fn() -> &'static str + Clone {
    move || if view.is_selected(&id) { "selected" } else { "" }
}

fn node_row(view: View, id: String) -> impl IntoView {
    let node = view.model.node(&id);
    let metrics = view.model.node_metrics(&id);
    let golden =
        Memo::new(move |_| metrics.with(|m| m.as_ref().map(|m| m.golden.clone()).unwrap_or_default()));
    let health = Memo::new(move |_| metrics.with(|m| m.as_ref().map_or(Health::Idle, |m| m.health)));
    let name = move || node.with(|node| node.as_ref().map(spoken));
    let namespace = move || node.with(|node| node.as_ref().map(|node| node.namespace.clone()));
    let found = Memo::new(move |_| {
        node.with(|node| {
            metrics.with(|m| {
                node.as_ref()
                    .is_some_and(|node| view.find.with(|find| find.matches(&node_facts(node, m.as_ref()))))
            })
        })
    });
    let class = row_class(view, id.clone());
    move || {
        let (class, id) = (class.clone(), id.clone());
        found.get().then(move || {
            view! {
                <tr class=class>
                    <th scope="row"><button class="link" on:click=move |_| view.select(&id)>{name}</button></th>
                    <td class="text">{namespace}</td>
                    {health_cell(health)}
                    {figures(golden)}
                </tr>
            }
        })
    }
}

fn edge_row(view: View, id: String) -> impl IntoView {
    let data = EdgeData::new(view, &id);
    let metrics = data.metrics;
    let golden =
        Memo::new(move |_| metrics.with(|m| m.as_ref().map(|m| m.golden.clone()).unwrap_or_default()));
    let health = Memo::new(move |_| data.health());
    let share = move |of: fn(&mesh_api::graph::EdgeMetrics) -> Option<f64>| {
        move || metrics.with(|m| format::share(m.as_ref().and_then(of)).text())
    };
    let protocol = move || metrics.with(|m| m.as_ref().map(|m| words::protocol(m.protocol)));
    let found = Memo::new(move |_| {
        let other = view
            .traffic
            .get()
            .is_some_and(|wanted| metrics.with(|m| m.as_ref().is_some_and(|m| m.protocol != wanted)));
        !other
            && data.from.with(|from| {
                data.to.with(|to| match (from, to) {
                    (Some(from), Some(to)) => metrics
                        .with(|m| view.find.with(|find| find.matches(&edge_facts(from, to, m.as_ref())))),
                    _ => false,
                })
            })
    });
    let class = row_class(view, id.clone());
    move || {
        let (class, id) = (class.clone(), id.clone());
        found.get().then(move || {
            view! {
                <tr class=class>
                    <th scope="row"><button class="link" on:click=move |_| view.select(&id)>{move || data.name()}</button></th>
                    <td class="text">{protocol}</td>
                    {health_cell(health)}
                    {figures(golden)}
                    <td>{share(|m| m.mtls)}</td>
                    <td>{share(|m| m.observed)}</td>
                    <td>{share(|m| m.wanted)}</td>
                </tr>
            }
        })
    }
}
