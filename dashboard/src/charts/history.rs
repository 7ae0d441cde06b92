//! The bar at the graph's foot: all traffic of the last hour as an area, errors as ticks.

use crate::charts::geometry::{self, SIDE};
use leptos::prelude::*;
use mesh_api::series::Series;

#[component]
pub fn History(#[prop(into)] series: Signal<Option<Series>>) -> impl IntoView {
    move || {
        let series = series.get().unwrap_or_default();
        let total: Vec<f64> =
            series.success_per_s.iter().zip(&series.failure_per_s).map(|(s, f)| s + f).collect();
        // Air above the peak: the area must not look cut.
        let max = total.iter().copied().fold(0.0, f64::max) * 1.15;
        let ticks: String = series
            .failure_per_s
            .iter()
            .enumerate()
            .filter(|(_, failed)| **failed > 0.0)
            .map(|(i, _)| format!("M{:.2} 100v-14h.6v14z", geometry::x_of(i, total.len()).min(SIDE - 0.6)))
            .collect();
        let summary =
            format!("Traffic of the last hour, at most {} requests per second", (max / 1.15).round());
        view! {
            <svg viewBox="0 0 100 100" preserveAspectRatio="none" role="img" aria-label=summary>
                <path class="area-ok" d=geometry::area(&[], &total, max.max(0.1))/>
                <path class="tick" d=ticks/>
            </svg>
        }
    }
}
