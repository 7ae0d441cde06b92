//! Traces: a scatter of when and how long, and the list under it.

use crate::{
    api::feed::Feed,
    charts::geometry,
    clock::time_of_day,
    find::Facts,
    format,
    navigate::{Nav, use_nav},
    pages::shell::{Summary, stale, use_find},
    parts::empty::Waiting,
    place::{Page, encode},
};
use leptos::prelude::*;
use mesh_api::trace::{TraceList, TraceSummary};

/// More than a screen can tell apart are not asked for.
const LIMIT: u32 = 200;

#[component]
pub fn Traces() -> impl IntoView {
    let nav = use_nav();
    let feed: Feed = expect_context();
    let path = Memo::new(move |_| path(nav));
    let data = feed.follow::<TraceList>("traces", move || path.get());
    let find = use_find();
    let ready = Memo::new(move |_| data.with(Option::is_some));
    let traces = Memo::new(move |_| {
        let place = nav.place();
        let all = data.with(|list| list.as_ref().map(|list| list.traces.clone()).unwrap_or_default());
        let shown = |trace: &TraceSummary| {
            let in_namespace =
                trace.workloads.iter().any(|w| place.shows(w.split('/').next().unwrap_or_default()));
            in_namespace
                && find.with(|find| {
                    find.matches(&Facts {
                        names: [&trace.name, &trace.workload, &trace.id],
                        ..Facts::default()
                    })
                })
        };
        all.into_iter().filter(shown).collect::<Vec<_>>()
    });
    let held = move || {
        data.with(|list| {
            list.as_ref().map(|list| {
                let dropped = if list.dropped_spans > 0 {
                    format!(", {} made room", format::count(list.dropped_spans, "span"))
                } else {
                    String::new()
                };
                format!("{} held{dropped}", format::thousands(list.held))
            })
        })
    };
    view! {
        <div class=move || format!("page {}", stale(feed))>
            <h1>"Traces " <small>{held}</small></h1>
            <Filters/>
            {move || match (ready.get(), traces.with(Vec::is_empty)) {
                (false, _) => view! { <Waiting/> }.into_any(),
                (true, true) => view! { <Nothing/> }.into_any(),
                (true, false) => view! { <section class="box" aria-label="Traces"><Scatter traces=traces/><List traces=traces/></section> }.into_any(),
            }}
        </div>
    }
}

/// What the API is asked for at this place.
fn path(nav: Nav) -> String {
    let place = nav.place();
    let mut path = format!("api/v1/traces?limit={LIMIT}");
    if let Some(workload) = place.get("workload") {
        path += &format!("&workload={}", encode(workload));
    }
    if place.get("error").is_some() {
        path += "&error=true";
    }
    if let Some(min_ms) = place.get("min_ms").and_then(|text| text.parse::<u32>().ok()) {
        path += &format!("&min_ms={min_ms}");
    }
    path
}

#[component]
fn Filters() -> impl IntoView {
    let nav = use_nav();
    let summary: Summary = expect_context();
    let (workload, error, min_ms) = (nav.param("workload"), nav.param("error"), nav.param("min_ms"));
    let names = Memo::new(move |_| {
        let mut names: Vec<String> = summary.overview.with(|overview| {
            let rows = overview.iter().flat_map(|overview| &overview.workloads);
            rows.map(|row| format!("{}/{}", row.namespace, row.name)).collect()
        });
        names.extend(workload.get());
        names.sort();
        names.dedup();
        names
    });
    let option = move |name: String| {
        let selected = workload.get_untracked().as_deref() == Some(name.as_str());
        view! { <option value=name.clone() selected=selected>{name.clone()}</option> }
    };
    let toggle_error = move |_| nav.set("error", if error.get_untracked().is_some() { "" } else { "true" });
    view! {
        <div class="filters" role="group" aria-label="Filters">
            <label class="pick">
                <span class="dim">"Workload"</span>
                <select aria-label="Workload" prop:value=move || workload.get().unwrap_or_default() on:change=move |event| nav.set("workload", event_target_value(&event))>
                    <option value="" selected=move || workload.get().is_none()>"any"</option>
                    {move || names.get().into_iter().map(option).collect_view()}
                </select>
            </label>
            <button class="pick" aria-pressed=move || error.get().is_some().to_string() on:click=toggle_error>"Errors only"</button>
            <label class="pick">
                <span class="dim">"At least, ms"</span>
                <input
                    type="number"
                    min="0"
                    aria-label="At least, ms"
                    prop:value=move || min_ms.get().unwrap_or_default()
                    on:change=move |event| nav.set("min_ms", event_target_value(&event))
                />
            </label>
        </div>
    }
}

#[component]
fn Nothing() -> impl IntoView {
    let nav = use_nav();
    let filtered = move || {
        let place = nav.place();
        ["workload", "error", "min_ms", "q"].into_iter().any(|key| place.get(key).is_some())
    };
    view! {
        <div class="empty">
            <h2>"No trace here"</h2>
            <p>
                {move || if filtered() {
                    "None of the traces that are held matches the filters."
                } else {
                    "Proxies sample one request in a hundred unless the annotation mesh.dev/trace-sample-ratio says otherwise; the first appears here within a second."
                }}
            </p>
        </div>
    }
}

/// Each dot a trace. The list below holds the same links, so keyboards and screen readers are not led through here.
#[component]
fn Scatter(traces: Memo<Vec<TraceSummary>>) -> impl IntoView {
    let nav = use_nav();
    let span = Memo::new(move |_| {
        traces.with(|traces| {
            let times = traces.iter().map(|trace| trace.start_ms);
            (times.clone().min().unwrap_or(0), times.max().unwrap_or(0))
        })
    });
    let max_us = Memo::new(move |_| {
        let longest = traces.with(|traces| traces.iter().map(|trace| trace.duration_us).max().unwrap_or(0));
        geometry::nice_ceiling(longest as f64)
    });
    let dot = move |trace: TraceSummary| {
        let (start, end) = span.get();
        let x = (trace.start_ms - start) as f64 * 100.0 / (end - start).max(1) as f64;
        let y = 100.0 - trace.duration_us as f64 * 100.0 / max_us.get();
        let class = if trace.errors > 0 { "dot error" } else { "dot" };
        let title = format!("{} · {}", trace.name, format::duration(trace.duration_us));
        let page = Page::Trace(trace.id);
        view! {
            <a class=class href=nav.href(page) title=title tabindex="-1" style:left=format!("{x:.2}%") style:top=format!("{y:.2}%")><i></i></a>
        }
    };
    // Errors are drawn last, on top.
    let dots = move || {
        let mut traces = traces.get();
        traces.sort_by_key(|trace| trace.errors > 0);
        traces.into_iter().map(dot).collect_view()
    };
    view! {
        <div aria-hidden="true">
            <div class="scatter"><span class="max">{move || format::latency(Some(max_us.get() / 1_000.0)).text()}</span>{dots}</div>
            <div class="scatter-ends">
                <span>{move || time_of_day(span.get().0 as f64)}</span><span>{move || time_of_day(span.get().1 as f64)}</span>
            </div>
        </div>
    }
}

#[component]
fn List(traces: Memo<Vec<TraceSummary>>) -> impl IntoView {
    let nav = use_nav();
    let longest = Memo::new(move |_| {
        traces.with(|traces| traces.iter().map(|trace| trace.duration_us).max().unwrap_or(1).max(1))
    });
    let row = move |trace: TraceSummary| {
        let failed = trace.errors > 0;
        let class = if failed { "error" } else { "" };
        let errors = if failed { trace.errors.to_string() } else { format::NONE.into() };
        let width = move || format!("{:.1}%", trace.duration_us as f64 * 100.0 / longest.get() as f64);
        let page = Page::Trace(trace.id);
        view! {
            <tr class=class>
                <th scope="row">{time_of_day(trace.start_ms as f64)}</th>
                <td class="text wrap"><a href=nav.href(page)>{trace.name}</a></td>
                <td class="text">{trace.workload}</td>
                <td>{trace.spans}</td>
                <td>{trace.workloads.len()}</td>
                <td class=if failed { "bad" } else { "" }>{errors}</td>
                <td><span class="meter" aria-hidden="true"><i style:width=width></i></span></td>
                <td>{format::duration(trace.duration_us)}</td>
            </tr>
        }
    };
    // A trace grows while its spans arrive: the same id with other figures is another row.
    let key = |trace: &TraceSummary| (trace.id.clone(), trace.spans, trace.duration_us, trace.errors);
    view! {
        <div class="scroll" tabindex="0" role="region" aria-label="List of traces">
            <table class="table">
                <thead>
                    <tr>
                        <th scope="col">"Start"</th><th scope="col" class="text">"Request"</th><th scope="col" class="text">"Begins at"</th>
                        <th scope="col">"Spans"</th><th scope="col">"Workloads"</th><th scope="col">"Errors"</th><th scope="col" colspan="2">"Duration"</th>
                    </tr>
                </thead>
                <tbody><For each=move || traces.get() key=key children=row/></tbody>
            </table>
        </div>
    }
}
