use leptos::prelude::*;
#[component]
pub fn WorkloadPage(namespace: String, name: String) -> impl IntoView {
    let _ = (namespace, name);
}
