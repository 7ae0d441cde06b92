//! The dashboard: a page that draws what the operator's API tells, live. It holds no state of its own that a reload
//! would lose, except the colour scheme.

#![recursion_limit = "512"]

mod api;
mod app;
mod charts;
mod clock;
mod crash;
mod find;
mod format;
mod graph;
mod navigate;
mod pages;
mod parts;
mod place;
mod theme;
mod words;

use leptos::prelude::document;
use wasm_bindgen::JsCast;

fn main() {
    crash::install();
    let Some(room) = document().get_element_by_id("app") else {
        panic!("index.html has no element with the id `app`");
    };
    // The skeleton has done its work.
    room.replace_children_with_node_0();
    leptos::mount::mount_to(room.unchecked_into(), app::App).forget();
}
