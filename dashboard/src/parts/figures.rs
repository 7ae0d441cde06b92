//! Golden numbers, large and small, and the sentence that says whether they are well.

use crate::{
    format::{self, Figure},
    words,
};
use leptos::prelude::*;
use mesh_api::{golden::Golden, health::Health};

/// A number in bold with its unit small beside.
pub fn big(figure: Figure, class: &'static str) -> impl IntoView {
    view! { <b class=class>{figure.value}</b><u>{figure.unit}</u> }
}

/// Requests, success, p50 and p99 in a row.
#[component]
pub fn GoldenRow(#[prop(into)] golden: Signal<Golden>) -> impl IntoView {
    let cell = move |title: &'static str, figure: fn(&Golden) -> (Figure, &'static str)| {
        let shown = move || {
            let (figure, class) = golden.with(figure);
            big(figure, class)
        };
        view! { <div><small>{title}</small>{shown}</div> }
    };
    view! {
        <div class="golden">
            {cell("Requests", |g| (format::rate(g.rate_per_s), ""))}
            {cell("Success", |g| (format::share(g.success), words::success_class(g)))}
            {cell("p50", |g| (format::latency(g.p50_ms), ""))}
            {cell("p99", |g| (format::latency(g.p99_ms), ""))}
        </div>
    }
}

/// "Failing. 5.2 % errors in the last minute (25 of 480), limit 1 %."
#[component]
pub fn Why(
    #[prop(into)] health: Signal<Health>,
    #[prop(into)] reason: Signal<String>,
    #[prop(into)] golden: Signal<Golden>,
) -> impl IntoView {
    let sentence = move || {
        let reason = reason.get();
        let sentence =
            if reason.is_empty() { golden.with(|golden| words::well(health.get(), golden)) } else { reason };
        if sentence.is_empty() || sentence.ends_with('.') { sentence } else { sentence + "." }
    };
    view! {
        <p class=move || format!("why {}", words::class(health.get()))>
            <b class=move || words::class(health.get())>{move || words::capital(health.get())}"."</b>
            " " {sentence}
        </p>
    }
}
