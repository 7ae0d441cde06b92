use leptos::prelude::*;
#[component]
pub fn Checks() -> impl IntoView {}
