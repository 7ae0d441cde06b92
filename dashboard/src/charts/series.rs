//! Traffic and latency over the window, with a cursor that reads the numbers out, and the same numbers as a table.
//! The elements stay while the numbers change, so that an open table or the cursor survives each update.

use crate::{charts::geometry, clock::time_of_day, format};
use leptos::{ev, html, prelude::*};
use mesh_api::series::Series;

/// The step under the pointer, shared by both charts so that a peak in one can be read in the other.
type Cursor = RwSignal<Option<usize>>;

/// The two charts that every detail shows. `tall` where there is room.
#[component]
pub fn SeriesCharts(
    #[prop(into)] series: Signal<Option<Series>>,
    #[prop(optional)] tall: bool,
) -> impl IntoView {
    let cursor = RwSignal::new(None::<usize>);
    let class = if tall { "chart tall" } else { "chart" };
    let ready = Memo::new(move |_| series.with(Option::is_some));
    let series = Memo::new(move |_| series.get().unwrap_or_default());
    move || {
        if !ready.get() {
            return view! { <div class="bone bone-row"></div> }.into_any();
        }
        view! {
            <figure class=class>{traffic(series, cursor)}</figure>
            <figure class=class>{latency(series, cursor)}</figure>
        }
        .into_any()
    }
}

fn total(series: &Series) -> Vec<f64> {
    series
        .success_per_s
        .iter()
        .zip(&series.failure_per_s)
        .map(|(success, failure)| success + failure)
        .collect()
}

fn peak(values: &[f64]) -> f64 {
    values.iter().copied().fold(0.0, f64::max)
}

fn at(values: &[Option<f64>], index: usize) -> String {
    format::latency(values.get(index).copied().flatten()).text()
}

fn traffic(series: Memo<Series>, cursor: Cursor) -> impl IntoView {
    let max = Memo::new(move |_| series.with(|s| geometry::nice_ceiling(peak(&total(s)))));
    let summary = move || {
        series.with(|s| {
            let failed = s.failure_per_s.iter().sum::<f64>() * f64::from(s.step_s);
            let most = format::rate(peak(&total(s))).text();
            format!(
                "Requests per second, at most {most}; {} failed.",
                format::count(failed.round() as u64, "request")
            )
        })
    };
    let line = move || {
        let total: Vec<Option<f64>> = series.with(total).into_iter().map(Some).collect();
        geometry::line(&total, max.get())
    };
    let readout = move || match cursor.get() {
        Some(i) => series.with(|s| {
            let failed = s.failure_per_s.get(i).copied().unwrap_or(0.0);
            let succeeded = s.success_per_s.get(i).copied().unwrap_or(0.0);
            view! {
                <span>
                    {step_time(s, i)} " · " {format::rate(succeeded).text()} " · "
                    <i class="bad">{format::rate(failed).text()}" failed"</i>
                </span>
            }
            .into_any()
        }),
        None => {
            view! { <span><i class="ok">"succeeded"</i>" · "<i class="bad">"failed"</i></span> }.into_any()
        }
    };
    let row = |s: &Series, i: usize| {
        let failed = s.failure_per_s.get(i).copied().unwrap_or(0.0);
        vec![step_time(s, i), format::rate(s.success_per_s[i]).text(), format::rate(failed).text()]
    };
    view! {
        <figcaption>"Requests per second" {readout}</figcaption>
        <Plot series=series cursor=cursor summary=Signal::derive(summary) max=Signal::derive(move || format::rate(max.get()).text().replace(".0/", "/"))>
            <path class="area-ok" d=move || series.with(|s| geometry::area(&[], &total(s), max.get()))/>
            <path class="line-ok" d=line/>
            // Failures lie at the foot, where even few of them are seen.
            <path class="area-bad" d=move || series.with(|s| geometry::area(&[], &s.failure_per_s, max.get()))/>
        </Plot>
        {ends(series)}
        {numbers(series, &["time", "succeeded", "failed"], row)}
    }
}

fn latency(series: Memo<Series>, cursor: Cursor) -> impl IntoView {
    let peak = move || series.with(|s| s.p99_ms.iter().flatten().copied().reduce(f64::max));
    let max = Memo::new(move |_| geometry::nice_ceiling(peak().unwrap_or(0.0)));
    let summary = move || match peak() {
        Some(peak) => format!("Latency, p99 at most {}.", format::latency(Some(peak)).text()),
        None => "Latency, nothing measured.".into(),
    };
    let readout = move || {
        match cursor.get() {
        Some(i) => series.with(|s| {
            view! {
                <span>
                    {step_time(s, i)} " · " <i class="key-p50">{at(&s.p50_ms, i)}</i> " · "
                    <i class="key-p95">{at(&s.p95_ms, i)}</i> " · " <i class="key-p99">{at(&s.p99_ms, i)}</i>
                </span>
            }
            .into_any()
        }),
        None => view! {
            <span><i class="key-p50">"p50"</i>" · "<i class="key-p95">"p95"</i>" · "<i class="key-p99">"p99"</i></span>
        }
        .into_any(),
    }
    };
    let row =
        |s: &Series, i: usize| vec![step_time(s, i), at(&s.p50_ms, i), at(&s.p95_ms, i), at(&s.p99_ms, i)];
    view! {
        <figcaption>"Latency" {readout}</figcaption>
        <Plot series=series cursor=cursor summary=Signal::derive(summary) max=Signal::derive(move || format::latency(Some(max.get())).text())>
            <path class="line-p95" d=move || series.with(|s| geometry::line(&s.p95_ms, max.get()))/>
            <path class="line-p99" d=move || series.with(|s| geometry::line(&s.p99_ms, max.get()))/>
            <path class="line-p50" d=move || series.with(|s| geometry::line(&s.p50_ms, max.get()))/>
        </Plot>
        {ends(series)}
        {numbers(series, &["time", "p50", "p95", "p99"], row)}
    }
}

/// The drawing room: curves, the scale's end, and the cursor.
#[component]
fn Plot(
    series: Memo<Series>,
    cursor: Cursor,
    summary: Signal<String>,
    max: Signal<String>,
    children: Children,
) -> impl IntoView {
    let room: NodeRef<html::Div> = NodeRef::new();
    let count = move || series.with(|s| s.success_per_s.len());
    let follow = move |event: ev::PointerEvent| {
        let Some(room) = room.get_untracked() else { return };
        let bounds = room.get_bounding_client_rect();
        let fraction = (f64::from(event.client_x()) - bounds.left()) / bounds.width().max(1.0);
        cursor.set(Some(geometry::index_at(fraction, count())));
    };
    let cursor_line = move || match cursor.get() {
        Some(i) => format!("M{:.1} 0V100", geometry::x_of(i, count())),
        None => String::new(),
    };
    view! {
        <div class="plot" node_ref=room on:pointermove=follow on:pointerleave=move |_| cursor.set(None)>
            <svg viewBox="0 0 100 100" preserveAspectRatio="none" role="img" aria-label=summary>
                {children()}
                <path class="cursor-line" d=cursor_line/>
            </svg>
            <span class="max">{max}</span>
        </div>
    }
}

fn step_time(series: &Series, index: usize) -> String {
    time_of_day(series.start_ms as f64 + index as f64 * f64::from(series.step_s) * 1_000.0)
}

fn ends(series: Memo<Series>) -> impl IntoView {
    view! {
        <div class="ends" aria-hidden="true">
            <span>{move || series.with(|s| step_time(s, 0))}</span>
            <span>{move || series.with(|s| step_time(s, s.success_per_s.len()))}</span>
        </div>
    }
}

/// The curve's numbers for who cannot see it, newest first; written only while open.
fn numbers(
    series: Memo<Series>,
    titles: &'static [&'static str],
    row: fn(&Series, usize) -> Vec<String>,
) -> impl IntoView {
    let open = RwSignal::new(false);
    let tr = |cells: Vec<String>| view! { <tr>{cells.into_iter().map(|cell| view! { <td>{cell}</td> }).collect_view()}</tr> };
    let rows = move || {
        let count = if open.get() { series.with(|s| s.success_per_s.len()) } else { 0 };
        series.with(|s| (0..count).rev().map(|i| tr(row(s, i))).collect_view())
    };
    view! {
        <details on:toggle=move |_| open.update(|open| *open = !*open)>
            <summary>"Numbers"</summary>
            <div class="table-room" tabindex="0" role="region" aria-label="Numbers of the chart">
                <table>
                    <thead><tr>{titles.iter().map(|title| view! { <th scope="col">{*title}</th> }).collect_view()}</tr></thead>
                    <tbody>{rows}</tbody>
                </table>
            </div>
        </details>
    }
}
