//! Rows that lists on several pages share: a workload's name, a trace's line.

use crate::{format, navigate::use_nav, parts::glyph::Glyph, place::Page};
use leptos::prelude::*;
use mesh_api::{health::Health, trace::TraceSummary};

/// Glyph, name and version, linked to the workload's page.
#[component]
pub fn WorkloadName(
    #[prop(into)] health: Signal<Health>,
    namespace: String,
    name: String,
    label: String,
    version: String,
) -> impl IntoView {
    let nav = use_nav();
    let page = Page::Workload { namespace, name };
    view! {
        <a class="name" href=move || nav.href(page.clone())>
            <Glyph health=health/>
            {label}
            <span>{version}</span>
        </a>
    }
}

/// Traces as lines with a bar each, the longest of them at full length.
#[component]
pub fn TraceLines(#[prop(into)] traces: Signal<Vec<TraceSummary>>) -> impl IntoView {
    let nav = use_nav();
    move || {
        let traces = traces.get();
        let longest = traces.iter().map(|trace| trace.duration_us).max().unwrap_or(0).max(1);
        let line = |trace: TraceSummary| {
            let class = if trace.errors > 0 { "trace-row error" } else { "trace-row" };
            let width = format!("{:.1}%", trace.duration_us as f64 * 100.0 / longest as f64);
            let errors = if trace.errors > 0 {
                format!(" · {}", format::count(trace.errors.into(), "error"))
            } else {
                String::new()
            };
            let page = Page::Trace(trace.id);
            view! {
                <a class=class href=move || nav.href(page.clone())>
                    <span>{trace.name}{errors}</span>
                    <span class="meter" aria-hidden="true"><i style:width=width></i></span>
                    <span>{format::duration(trace.duration_us)}</span>
                </a>
            }
        };
        traces.into_iter().map(line).collect_view()
    }
}
