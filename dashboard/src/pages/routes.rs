use leptos::prelude::*;
#[component]
pub fn Routes() -> impl IntoView {}
