//! One trace: what it was, and its spans as a waterfall. Keyboard: up and down walk, left and right fold and unfold.

use crate::{
    api::fetch::{self, Failure},
    clock::time_of_day,
    find::Facts,
    format,
    navigate::use_nav,
    pages::{
        shell::use_find,
        waterfall::{Key, in_mesh_us, key, visible},
    },
    parts::glyph::Glyph,
    place::{Page, encode},
};
use leptos::{ev, html, prelude::*};
use mesh_api::{
    health::Health,
    trace::{Span, SpanKind, Trace},
};
use std::collections::HashSet;

#[component]
pub fn TracePage(id: String) -> impl IntoView {
    let path = format!("api/v1/traces/{}", encode(&id));
    // Spans of one trace arrive from several proxies within seconds; after that nothing changes any more.
    let asked = fetch::asked::<Trace>(5, move || Some(path.clone()));
    let trace = Memo::new(move |_| asked.answer.get());
    let nav = use_nav();
    move || {
        match (trace.get(), asked.failure.get()) {
        (Some(trace), _) => shown(trace).into_any(),
        (None, Some(Failure::Refused(why))) => view! {
            <div class="empty">
                <h1>"No such trace"</h1>
                <p>{why}</p>
                <p><a href=move || nav.href(Page::Traces)>"All traces"</a></p>
            </div>
        }
        .into_any(),
        (None, Some(Failure::Unreachable)) => view! { <div class="empty"><h1>"The operator does not answer"</h1></div> }.into_any(),
        (None, None) => view! { <div class="page"><h1>"Trace"</h1><div class="bone bone-row"></div><div class="bone bone-box"></div></div> }.into_any(),
    }
    }
}

fn shown(trace: Trace) -> impl IntoView {
    let summary = trace.summary.clone();
    let health = if summary.errors > 0 { Health::Failing } else { Health::Healthy };
    view! {
        <div class="page">
            <h1>
                <Glyph health=health/>{summary.name.clone()}
                <small>{format!("trace {} · {}", format::short_id(&summary.id), time_of_day(summary.start_ms as f64))}</small>
            </h1>
            {facts(&trace)}
            <Waterfall trace=trace/>
        </div>
    }
}

/// `bookinfo/reviews-v3` without its namespace.
fn short(workload: &str) -> String {
    workload.rsplit('/').next().unwrap_or(workload).to_owned()
}

fn facts(trace: &Trace) -> impl IntoView + use<> {
    let nav = use_nav();
    let summary = &trace.summary;
    let mut path: Vec<String> = Vec::new();
    for span in trace.spans.iter().filter(|span| span.critical) {
        if path.last() != Some(&short(&span.workload)) {
            path.push(short(&span.workload));
        }
    }
    let first_error = trace.spans.iter().rev().find(|span| span.error);
    let errors = match first_error {
        None => view! { <b>"none"</b> }.into_any(),
        Some(span) => {
            let status = attribute(span, "http.response.status_code")
                .or_else(|| attribute(span, "error.type"))
                .unwrap_or_default();
            view! { <b class="bad">{format!("{}: {} {status}", summary.errors, short(&span.workload))}</b> }
                .into_any()
        }
    };
    let target = first_error.map_or(&summary.workload, |span| &span.workload);
    let graph = nav.place_now().to(Page::Graph).with("sel", format!("w:{target}"));
    let json = format!("api/v1/traces/{}", encode(&summary.id));
    view! {
        <section class="box summary" aria-label="Summary">
            <div><small>"Duration"</small><b>{format::duration(summary.duration_us)}</b></div>
            <div><small>"Spans"</small><b>{format!("{} in {}", summary.spans, format::count(summary.workloads.len() as u64, "workload"))}</b></div>
            <div><small>"Errors"</small>{errors}</div>
            <div><small>"In mesh and network"</small><b>{format!("{} of {}", format::duration(in_mesh_us(&trace.spans)), format::duration(summary.duration_us))}</b></div>
            <div><small>"Critical path"</small><b>{path.join(" → ")}</b></div>
            <span class="push buttons">
                <a class="pick" href=graph.href()>"Show on graph"</a>
                <a class="pick" href=json download=format!("trace-{}.json", summary.id)>"Download JSON"</a>
            </span>
        </section>
    }
}

fn attribute(span: &Span, name: &str) -> Option<String> {
    span.attributes.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone())
}

#[component]
fn Waterfall(trace: Trace) -> impl IntoView {
    let nav = use_nav();
    let chosen = nav.param("span");
    let folded = RwSignal::new(HashSet::<String>::new());
    let rows: NodeRef<html::Div> = NodeRef::new();
    let total_us = trace.spans.iter().map(|span| span.start_us + span.duration_us).max().unwrap_or(0).max(1);
    let services = trace.summary.workloads.clone();
    let spans = StoredValue::new(trace.spans);
    let find = use_find();

    // Without a choice, the first error, else the root: what one most likely came for.
    let selected = Memo::new(move |_| {
        spans.with_value(|spans| {
            let wanted = chosen.get();
            let by_choice = wanted.and_then(|id| spans.iter().find(|span| span.id == id));
            let by_error = || spans.iter().rev().find(|span| span.error);
            by_choice.or_else(by_error).or(spans.first()).cloned()
        })
    });
    let shown = Memo::new(move |_| spans.with_value(|spans| folded.with(|folded| visible(spans, folded))));
    let choose = move |id: String| nav.replace(nav.place_now().with("span", id));
    let press = move |event: ev::KeyboardEvent| {
        let Some(here) = selected.get_untracked().map(|span| span.id) else { return };
        let done = spans.with_value(|spans| key(&event.key(), spans, &folded.get_untracked(), &here));
        match done {
            None => return,
            Some(Key::Go(id)) => {
                choose(id.clone());
                request_animation_frame(move || focus_span(&id));
            }
            Some(Key::Fold(id)) => folded.update(|folded| {
                folded.insert(id);
            }),
            Some(Key::Unfold(id)) => folded.update(|folded| {
                folded.remove(&id);
            }),
        }
        event.prevent_default();
    };
    let row = move |index: usize| {
        let span = spans.with_value(|spans| spans[index].clone());
        let has_children =
            spans.with_value(|spans| spans.iter().any(|other| other.parent.as_deref() == Some(&span.id)));
        let colour = services.iter().position(|service| *service == span.workload).map_or(0, |i| i % 7 + 1);
        let percent = |us: u64| format!("{:.3}%", us as f64 * 100.0 / total_us as f64);
        let id = span.id.clone();
        let is_selected = {
            let id = id.clone();
            Memo::new(move |_| selected.with(|selected| selected.as_ref().is_some_and(|span| span.id == id)))
        };
        let unfound = {
            let (name, workload) = (span.name.clone(), span.workload.clone());
            Memo::new(move |_| {
                find.with(|find| !find.matches(&Facts { names: [&name, &workload, ""], ..Facts::default() }))
            })
        };
        let is_open = {
            let id = id.clone();
            move || has_children.then(|| (!folded.with(|folded| folded.contains(&id))).to_string())
        };
        let class = move || {
            format!(
                "span-row{}{}",
                if span.error { " error" } else { "" },
                if unfound.get() { " dimmed" } else { "" }
            )
        };
        let status = span
            .error
            .then(|| attribute(&span, "http.response.status_code").or_else(|| attribute(&span, "error.type")))
            .flatten();
        let time = match status {
            Some(status) => format!("{} · {status}", format::duration(span.duration_us)),
            None => format::duration(span.duration_us),
        };
        let kind = match span.kind {
            SpanKind::Client => "calls",
            SpanKind::Server => "serves",
            SpanKind::Internal => "app",
        };
        let mesh = if span.kind == SpanKind::Client { "span-bar mesh" } else { "span-bar" };
        let critical = span.critical.then(|| {
            view! { <i class="critical-line" style:left=percent(span.start_us) style:width=percent(span.duration_us)></i> }
        });
        view! {
            <div
                class=class
                id=format!("span {id}")
                role="treeitem"
                attr:aria-level=span.depth + 1
                aria-expanded=is_open
                aria-selected=move || is_selected.get().to_string()
                tabindex=move || if is_selected.get() { "0" } else { "-1" }
                on:click=move |_| choose(id.clone())
            >
                <div class="span-label">
                    <i class="indent" style:width=format!("calc(var(--step) * {})", span.depth.min(12))></i>
                    <i class=format!("service-mark c{colour}")></i>
                    <b>{short(&span.workload)}</b>
                    <span class="kind">{kind}</span>
                    <span>{span.name}</span>
                </div>
                <div class="span-track">
                    <div class="span-room">
                        <i class=mesh style:left=percent(span.start_us) style:width=percent(span.duration_us)></i>
                        {critical}
                        <span class="span-time" style:left=percent(span.start_us + span.duration_us)>{time}</span>
                    </div>
                </div>
            </div>
        }
    };
    let ticks: Vec<_> =
        (0..=4u64).map(|i| view! { <span>{format::duration(total_us * i / 4)}</span> }).collect();
    view! {
        <section class="box waterfall" aria-label="Waterfall">
            <div class="axis" aria-hidden="true"><div>"Workload, operation"</div><div class="axis-ticks">{ticks}</div></div>
            <div role="tree" aria-label="Spans" node_ref=rows on:keydown=press>
                <For each=move || shown.get() key=|index| *index children=row/>
            </div>
        </section>
        {move || selected.get().map(details)}
    }
}

fn focus_span(id: &str) {
    use wasm_bindgen::JsCast;
    if let Some(element) = document().get_element_by_id(&format!("span {id}"))
        && let Some(element) = element.dyn_ref::<web_sys::HtmlElement>()
    {
        let _ = element.focus();
    }
}

fn details(span: Span) -> impl IntoView {
    let failed = span.error;
    let row = move |(name, value): (String, String)| {
        let class =
            if failed && (name == "http.response.status_code" || name == "error.type") { "bad" } else { "" };
        view! { <dt>{name}</dt><dd class=class><code>{value}</code></dd> }
    };
    let nav = use_nav();
    let page = Page::workload(&span.workload);
    view! {
        <section class="box" aria-label="Selected span">
            <h2>{format!("{} · {}", short(&span.workload), span.name)}<span>"selected span"</span></h2>
            <dl class="facts inside">
                <dt>"workload"</dt><dd><a href=move || nav.href(page.clone())>{span.workload}</a></dd>
                <dt>"start"</dt><dd>{format!("{} after the trace's", format::duration(span.start_us))}</dd>
                <dt>"duration"</dt><dd>{format::duration(span.duration_us)}</dd>
                {span.attributes.into_iter().map(row).collect_view()}
            </dl>
        </section>
    }
}
