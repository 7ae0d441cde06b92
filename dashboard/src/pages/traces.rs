use leptos::prelude::*;
#[component]
pub fn Traces() -> impl IntoView {}
