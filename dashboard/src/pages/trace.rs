use leptos::prelude::*;
#[component]
pub fn TracePage(id: String) -> impl IntoView {
    let _ = id;
}
