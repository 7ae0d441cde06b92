//! A line without axes, for tables.

use crate::{charts::geometry, words};
use leptos::prelude::*;
use mesh_api::health::Health;

const WIDTH: f64 = 120.0;
const HEIGHT: f64 = 22.0;

/// Requests per second over the window. The numbers stand beside it, so readers of the screen skip it.
#[component]
pub fn Spark(#[prop(into)] values: Signal<Vec<f32>>, #[prop(into)] health: Signal<Health>) -> impl IntoView {
    view! {
        <svg class=move || format!("spark {}", words::class(health.get())) viewBox="0 0 120 22" preserveAspectRatio="none" aria-hidden="true">
            <path d=move || values.with(|values| geometry::spark(values, WIDTH, HEIGHT))/>
        </svg>
    }
}
