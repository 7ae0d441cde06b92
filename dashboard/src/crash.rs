//! What a panic leaves: wasm cannot go on after one, so the page says what happened instead of standing still.

use leptos::prelude::*;
use std::panic;

pub fn install() {
    panic::set_hook(Box::new(|info| {
        let text = info.to_string();
        web_sys::console::error_1(&text.as_str().into());
        // Nothing can be done where even this fails.
        let _ = show(&text);
    }));
}

/// Plain DOM: the framework may be what broke.
fn show(text: &str) -> Result<(), wasm_bindgen::JsValue> {
    let document = document();
    let Some(body) = document.body() else { return Ok(()) };
    let page = document.create_element("main")?;
    page.set_class_name("crash");
    page.set_attribute("role", "alert")?;
    let add = |tag: &str, text: &str| {
        let element = document.create_element(tag)?;
        element.set_text_content(Some(text));
        page.append_child(&element).map(|_| element)
    };
    add("h1", "The dashboard stopped")?;
    add(
        "p",
        "This is a mistake in the dashboard; the mesh itself is not affected. Reloading usually helps.",
    )?;
    let build =
        document.query_selector("meta[name=mesh-build]")?.and_then(|meta| meta.get_attribute("content"));
    add("pre", &format!("{text}\nbuild {}", build.unwrap_or_default()))?;
    let link = add("a", "Reload")?;
    link.set_class_name("pick");
    link.set_attribute("href", &window().location().href()?)?;
    // Not to be taken for a link within the app, whose listener no longer works.
    link.set_attribute("target", "_self")?;
    body.replace_children_with_node_1(&page);
    Ok(())
}
