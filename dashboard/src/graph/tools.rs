//! What floats over the canvas: choices above, legend and zoom below, the time bar at the foot.

use crate::{
    api::{feed::Feed, fetch},
    charts::history::History,
    clock::time_of_day,
    graph::{label::Metric, stage::Stage, view::View},
    navigate::use_nav,
    parts::glyph::Glyph,
    words,
};
use leptos::prelude::*;
use mesh_api::{health::Health, series::Series};

#[component]
pub fn Tools(view: View) -> impl IntoView {
    let nav = use_nav();
    let metric = move |metric: Metric| {
        view! { <option value=metric.key() selected=move || view.metric.get() == metric>{metric.title()}</option> }
    };
    let traffic = nav.param("traffic");
    let protocol = move |key: &'static str, title: &'static str| {
        view! { <option value=key selected=move || traffic.get().unwrap_or_default() == key>{title}</option> }
    };
    view! {
        <div class="tools">
            <label class="pick">
                <span class="dim">"Edges"</span>
                <select aria-label="Edges" on:change=move |event| nav.set("label", event_target_value(&event))>
                    {Metric::ALL.map(metric).into_iter().collect_view()}
                </select>
            </label>
            <label class="pick">
                <span class="dim">"Traffic"</span>
                <select aria-label="Traffic" on:change=move |event| nav.set("traffic", event_target_value(&event))>
                    {protocol("", "HTTP, gRPC, TCP")} {protocol("http", "HTTP")} {protocol("grpc", "gRPC")} {protocol("tcp", "TCP")}
                </select>
            </label>
            <button class="pick" title="Fade what is not next to the selection (f)" aria-pressed=move || view.focus.get().to_string() on:click=move |_| view.toggle("focus", "1")>
                "Focus"
            </button>
            <button class="pick" aria-pressed=move || view.as_table.get().to_string() on:click=move |_| view.toggle("view", "table")>
                "View as table"
            </button>
        </div>
    }
}

#[component]
pub fn Legend(view: View) -> impl IntoView {
    let encrypted = Memo::new(move |_| {
        view.model.metrics.with(|metrics| match metrics {
            Some(metrics) => words::encrypted_edges(metrics.edges.iter()),
            None => String::new(),
        })
    });
    let entry = |health: Health| view! { <span><Glyph health=health quiet=true/>{health.word()}</span> };
    view! {
        <div class="legend">
            {[Health::Healthy, Health::Degraded, Health::Failing].map(entry).into_iter().collect_view()}
            <span><svg class="dashes" viewBox="0 0 30 8" aria-hidden="true"><path d="M1 4H29"/></svg>"plaintext"</span>
            <span>{encrypted}</span>
        </div>
    }
}

#[component]
pub fn ZoomButtons(stage: Stage) -> impl IntoView {
    view! {
        <div class="zoom">
            <button title="Larger (+)" aria-label="Larger" on:click=move |_| stage.zoom(1.25)>"+"</button>
            <button title="Smaller (-)" aria-label="Smaller" on:click=move |_| stage.zoom(0.8)>"−"</button>
            <button title="Show all (0)" aria-label="Show all" on:click=move |_| stage.fit()>"⤢"</button>
        </div>
    }
}

/// The last hour, and whether the page stands still.
#[component]
pub fn TimeBar() -> impl IntoView {
    let feed: Feed = expect_context();
    let history = fetch::asked::<Series>(15, || Some("api/v1/series?of=all&window=1h".into())).answer;
    let start = move || history.with(|s| s.as_ref().map(|s| time_of_day(s.start_ms as f64)[..5].to_owned()));
    let dot = move || if feed.paused.get() { "live-dot off" } else { "live-dot" };
    let now = move || feed.data_at_ms.get().map(time_of_day);
    view! {
        <div class="time">
            <span>{start}</span>
            <History series=history/>
            <i class=dot></i><b>{now}</b>
            <button class="pick" on:click=move |_| feed.paused.update(|paused| *paused = !*paused)>
                {move || if feed.paused.get() { "▶ Go live" } else { "❚❚ Pause" }}
            </button>
        </div>
    }
}
