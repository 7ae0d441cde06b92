//! Light, dark, or as the system has it; remembered by this browser. `js/theme.js` applies it before the first paint.

use leptos::prelude::*;

const KEY: &str = "mesh-theme";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Theme {
    System,
    Light,
    Dark,
}

impl Theme {
    pub const fn word(self) -> &'static str {
        match self {
            Theme::System => "system",
            Theme::Light => "light",
            Theme::Dark => "dark",
        }
    }

    /// What the button leads to.
    pub const fn next(self) -> Theme {
        match self {
            Theme::System => Theme::Light,
            Theme::Light => Theme::Dark,
            Theme::Dark => Theme::System,
        }
    }

    pub fn load() -> Theme {
        // Storage may be forbidden; the choice then lasts as long as the page.
        let stored = window().local_storage().ok().flatten().and_then(|s| s.get_item(KEY).ok().flatten());
        match stored.as_deref() {
            Some("light") => Theme::Light,
            Some("dark") => Theme::Dark,
            _ => Theme::System,
        }
    }

    pub fn apply(self) {
        if let Some(root) = document().document_element() {
            // Neither call can fail for these constant names.
            let _ = match self {
                Theme::System => root.remove_attribute("data-theme"),
                Theme::Light | Theme::Dark => root.set_attribute("data-theme", self.word()),
            };
        }
        if let Ok(Some(storage)) = window().local_storage() {
            let _ = storage.set_item(KEY, self.word());
        }
    }
}
