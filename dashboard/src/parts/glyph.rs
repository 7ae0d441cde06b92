//! Small drawings: health glyphs, the logo, icons. A glyph never stands without the word it means, visible or spoken.

use crate::words;
use leptos::prelude::*;
use mesh_api::health::Health;

/// The health's shape. Spoken as its word unless `quiet`, for where the word stands beside it.
#[component]
pub fn Glyph(#[prop(into)] health: Signal<Health>, #[prop(optional)] quiet: bool) -> impl IntoView {
    let class = move || format!("glyph {}", words::class(health.get()));
    if quiet {
        return view! { <svg class=class viewBox="0 0 16 16" aria-hidden="true">{move || shape(health.get())}</svg> }.into_any();
    }
    view! {
        <svg class=class viewBox="0 0 16 16" role="img" aria-label=move || health.get().word()>
            {move || shape(health.get())}
        </svg>
    }
    .into_any()
}

/// What is inside a glyph's 16 × 16 box.
pub fn shape(health: Health) -> AnyView {
    match health {
        Health::Healthy => view! {
            <circle class="fill" cx="8" cy="8" r="7"/>
            <path class="mark" d="M5 8.2l2.2 2.2 4-4.6"/>
        }
        .into_any(),
        Health::Degraded => view! {
            <path class="fill" d="M8 1.2L15 14.2H1z"/>
            <path class="mark" d="M8 5.5v4M8 11.2v1.4"/>
        }
        .into_any(),
        Health::Failing => view! {
            <rect class="fill" x="1.2" y="1.2" width="13.6" height="13.6" rx="3"/>
            <path class="mark" d="M5 5l6 6M11 5l-6 6"/>
        }
        .into_any(),
        Health::Idle => view! {
            <circle class="fill" cx="8" cy="8" r="7"/>
            <path class="mark" d="M5 8h6"/>
        }
        .into_any(),
        Health::Unknown => view! {
            <circle class="fill" cx="8" cy="8" r="7"/>
            <path class="mark" d="M6 6.4a2 2 0 1 1 2.6 1.9c-.4.2-.6.5-.6 1.1M8 11v1.2"/>
        }
        .into_any(),
    }
}

#[component]
pub fn Logo() -> impl IntoView {
    view! {
        <svg viewBox="0 0 22 22" aria-hidden="true">
            <path class="strand" d="M5 5h12v12H5zM5 5l12 12M17 5L5 17"/>
            <circle class="knot" cx="5" cy="5" r="2.6"/>
            <circle class="knot" cx="17" cy="5" r="2.6"/>
            <circle class="knot" cx="5" cy="17" r="2.6"/>
            <circle class="knot" cx="17" cy="17" r="2.6"/>
            <circle class="heart" cx="11" cy="11" r="2.8"/>
        </svg>
    }
}

/// One line drawing in a 16 × 16 box.
#[component]
pub fn Icon(path: &'static str) -> impl IntoView {
    view! { <svg viewBox="0 0 16 16" aria-hidden="true"><path d=path/></svg> }
}
