//! The graph by keyboard: arrows follow the edges, Enter opens the panel, Escape returns; `0`, `+`, `-`, `f`.

use crate::graph::{
    geometry::{self, Step},
    stage::{Stage, focus_node},
    view::View,
};
use leptos::{ev, prelude::*};
use wasm_bindgen::JsCast;

/// Listens on the whole page, for as long as the calling component lives.
pub fn listen(view: View, stage: Stage) {
    let handle = window_event_listener(ev::keydown, move |event| {
        if event.ctrl_key() || event.meta_key() || event.alt_key() || event.default_prevented() {
            return;
        }
        let target = event.target().and_then(|target| target.dyn_into::<web_sys::Element>().ok());
        let typing =
            target.as_ref().is_some_and(|e| matches!(e.tag_name().as_str(), "INPUT" | "SELECT" | "TEXTAREA"));
        if typing {
            return;
        }
        let id = target
            .and_then(|target| target.closest(".node, .edge").ok().flatten())
            .map(|element| element.id());
        let id = id.as_deref().and_then(|id| id.split_once(' ')).map(|(_, id)| id.to_owned());
        if handle_key(view, stage, &event.key(), id.as_deref()) {
            event.prevent_default();
        }
    });
    on_cleanup(move || handle.remove());
}

/// `at` is the node or edge that has the focus. Returns whether the key was for us.
fn handle_key(view: View, stage: Stage, key: &str, at: Option<&str>) -> bool {
    match (key, at) {
        ("Escape", _) => close(view),
        ("f", _) => view.toggle("focus", "1"),
        ("0", _) => stage.fit(),
        ("+" | "=", _) => stage.zoom(1.25),
        ("-", _) => stage.zoom(0.8),
        ("Enter" | " ", Some(id)) => open(view, id),
        ("ArrowRight", Some(id)) => walk(view, stage, id, Step::Right),
        ("ArrowLeft", Some(id)) => walk(view, stage, id, Step::Left),
        ("ArrowUp", Some(id)) => walk(view, stage, id, Step::Up),
        ("ArrowDown", Some(id)) => walk(view, stage, id, Step::Down),
        ("Home", Some(id)) => walk(view, stage, id, Step::First),
        ("End", Some(id)) => walk(view, stage, id, Step::Last),
        _ => return false,
    }
    true
}

/// Opens the panel and goes into it.
fn open(view: View, id: &str) {
    view.select(id);
    request_animation_frame(|| {
        if let Ok(Some(title)) = document().query_selector(".panel h1")
            && let Some(title) = title.dyn_ref::<web_sys::HtmlElement>()
        {
            let _ = title.focus();
        }
    });
}

/// Closes the panel and returns to where it was opened from.
fn close(view: View) {
    view.select("");
    if let Some(id) = view.cursor.get_untracked() {
        focus_node(&id);
    }
}

fn walk(view: View, stage: Stage, from: &str, step: Step) {
    let next = view.model.topology.with_untracked(|topology| {
        let topology = topology.as_ref()?;
        let here = topology.nodes.iter().position(|node| node.id == from)?;
        let next = geometry::step(topology, here, step)?;
        topology.nodes.get(next).cloned()
    });
    if let Some(next) = next {
        view.cursor.set(Some(next.id.clone()));
        stage.reveal(geometry::rect(&next));
        focus_node(&next.id);
    }
}
