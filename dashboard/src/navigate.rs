//! Keeps the browser's address and the shown place equal: history, back and forward, clicks on links.
//!
//! Own code rather than leptos_router: that one forgets, after back and forward, to write a repeated address into the
//! history, and the address bar then shows another page than the screen.

use crate::place::{Page, Place};
use leptos::{ev, prelude::*};
use wasm_bindgen::{JsCast, JsValue};
use web_sys::{Element, Url};

/// The place now, and the ways to another one.
#[derive(Clone, Copy)]
pub struct Nav {
    place: RwSignal<Place>,
}

/// Starts listening; call once.
pub fn start() -> Nav {
    let nav = Nav { place: RwSignal::new(current()) };
    window_event_listener(ev::popstate, move |_| nav.place.set(current()));
    window_event_listener(ev::click, move |event| {
        if let Some(place) = clicked_place(&event) {
            event.prevent_default();
            nav.go(place);
        }
    });
    nav
}

pub fn use_nav() -> Nav {
    expect_context()
}

impl Nav {
    /// The place; the caller is run again when it changes.
    pub fn place(self) -> Place {
        self.place.get()
    }

    pub fn place_now(self) -> Place {
        self.place.get_untracked()
    }

    pub fn page(self) -> Memo<Page> {
        Memo::new(move |_| self.place.with(|place| place.page.clone()))
    }

    /// One parameter, by itself: other changes of the place leave it alone.
    pub fn param(self, key: &'static str) -> Memo<Option<String>> {
        Memo::new(move |_| self.place.with(|place| place.get(key).map(str::to_owned)))
    }

    /// What the API has to be asked for at this place; changes with namespace and window only.
    pub fn api_query(self) -> Memo<String> {
        Memo::new(move |_| self.place.with(Place::api_query))
    }

    /// Link to another page, with namespace and window of now.
    pub fn href(self, page: Page) -> String {
        self.place.with(|place| place.to(page).href())
    }

    /// To another place, so that "back" returns here.
    pub fn go(self, place: Place) {
        if place == self.place_now() {
            return;
        }
        push(&place.href(), true);
        self.place.set(place);
    }

    /// To another place that replaces this one: for what nobody wants to go back through, such as typed letters.
    pub fn replace(self, place: Place) {
        push(&place.href(), false);
        self.place.set(place);
    }

    pub fn set(self, key: &str, value: impl Into<String>) {
        self.go(self.place_now().with(key, value));
    }
}

/// The base of all our URLs, with a slash at its end; the operator writes it into the page.
fn base() -> Option<Url> {
    Url::new(&document().base_uri().ok()??).ok()
}

fn current() -> Place {
    let location = window().location();
    let path = location.pathname().unwrap_or_default();
    let base_path = base().map(|base| base.pathname()).unwrap_or_default();
    Place::parse(path.strip_prefix(&base_path).unwrap_or(&path), &location.search().unwrap_or_default())
}

fn push(href: &str, new_entry: bool) {
    // History resolves against the document's base, which is what our links are relative to.
    let history = window().history().expect("a window has a history");
    let written = if new_entry {
        history.push_state_with_url(&JsValue::NULL, "", Some(href))
    } else {
        history.replace_state_with_url(&JsValue::NULL, "", Some(href))
    };
    if let Err(error) = written {
        // Browsers limit how often this may be called; the place itself still changes.
        web_sys::console::warn_1(&error);
    }
}

/// The place behind a plain click on a link of ours.
fn clicked_place(event: &ev::MouseEvent) -> Option<Place> {
    let modified = event.ctrl_key() || event.meta_key() || event.shift_key() || event.alt_key();
    if event.default_prevented() || event.button() != 0 || modified {
        return None;
    }
    let target: Element = event.target()?.dyn_into().ok()?;
    let link = target.closest("a[href]").ok()??;
    if link.has_attribute("download") || link.has_attribute("target") {
        return None;
    }
    let base = base()?;
    let url = Url::new_with_base(&link.get_attribute("href")?, &base.href()).ok()?;
    if url.origin() != base.origin() {
        return None;
    }
    let path = url.pathname();
    Some(Place::parse(path.strip_prefix(&base.pathname())?, &url.search()))
}
