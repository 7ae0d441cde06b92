//! For an address that no page has.

use crate::{navigate::use_nav, place::Page};
use leptos::prelude::*;

#[component]
pub fn Missing(path: String) -> impl IntoView {
    let nav = use_nav();
    view! {
        <div class="empty">
            <h1>"No such page"</h1>
            <p>"There is nothing at " <code>{path}</code> ". "<a href=move || nav.href(Page::Overview)>"Go to the overview"</a> "."</p>
        </div>
    }
}
