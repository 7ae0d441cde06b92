//! What all parts of the graph page share: the data, and the choices that the URL holds.

use crate::{
    find::Find,
    graph::{label::Metric, model::Model},
    navigate::{Nav, use_nav},
    pages::shell::use_find,
};
use leptos::prelude::*;
use mesh_api::graph::Protocol;

#[derive(Clone, Copy)]
pub struct View {
    pub nav: Nav,
    pub model: Model,
    /// Id of the selected node or edge.
    pub selected: Memo<Option<String>>,
    pub metric: Memo<Metric>,
    /// Only edges of this protocol, if one is chosen.
    pub traffic: Memo<Option<Protocol>>,
    pub focus: Memo<bool>,
    pub as_table: Memo<bool>,
    pub find: Memo<Find>,
    /// The node that the keyboard is at: the only one that the Tab key reaches.
    pub cursor: RwSignal<Option<String>>,
}

impl View {
    pub fn new(model: Model) -> View {
        let nav = use_nav();
        let (metric, traffic, focus, table) =
            (nav.param("label"), nav.param("traffic"), nav.param("focus"), nav.param("view"));
        View {
            nav,
            model,
            selected: nav.param("sel"),
            metric: Memo::new(move |_| metric.with(|key| Metric::parse(key.as_deref().unwrap_or("")))),
            traffic: Memo::new(move |_| traffic.with(|key| protocol(key.as_deref().unwrap_or("")))),
            focus: Memo::new(move |_| focus.with(Option::is_some)),
            as_table: Memo::new(move |_| table.with(|view| view.as_deref() == Some("table"))),
            find: use_find(),
            cursor: RwSignal::new(nav.place_now().get("sel").map(str::to_owned)),
        }
    }

    pub fn select(self, id: &str) {
        self.nav.set("sel", id);
    }

    pub fn is_selected(self, id: &str) -> bool {
        self.selected.with(|selected| selected.as_deref() == Some(id))
    }

    pub fn toggle(self, key: &str, value: &str) {
        let now = self.nav.place_now();
        let next = if now.get(key).is_some() { "" } else { value };
        self.nav.go(now.with(key, next));
    }
}

pub fn protocol(key: &str) -> Option<Protocol> {
    match key {
        "http" => Some(Protocol::Http),
        "grpc" => Some(Protocol::Grpc),
        "tcp" => Some(Protocol::Tcp),
        _ => None,
    }
}
