//! The canvas: draws the graph, and moves it under the pointer.
//!
//! During a gesture the finished picture is moved as one layer; only some time after the last movement is it drawn anew.
//! Software rendering keeps 60 frames a second that way with 500 nodes; redrawing for each frame would leave 10.

use crate::graph::{
    camera::{Camera, Rect, Size},
    edge::{edge, edge_label},
    geometry,
    node::{self, node},
    view::View,
};
use leptos::{ev, html, leptos_dom::helpers::TimeoutHandle, prelude::*, svg};
use std::{collections::HashMap, time::Duration};
use wasm_bindgen::JsCast;

const SETTLE: Duration = Duration::from_millis(150);
/// A pointer that moved less than this has clicked.
const CLICK_SLACK_PX: f64 = 4.0;

#[derive(Clone, Copy)]
pub struct Stage {
    canvas: NodeRef<html::Div>,
    drawing: NodeRef<svg::Svg>,
    /// As drawn.
    drawn: RwSignal<Camera>,
    /// As moved to, which the layer's transform shows until it is drawn.
    wanted: StoredValue<Camera>,
    settle: StoredValue<Option<TimeoutHandle>>,
    /// Whether somebody chose the view; it then never changes by itself.
    touched: StoredValue<bool>,
    pointers: StoredValue<Pointers>,
    view: View,
}

/// Fingers and mouse buttons that are down, by pointer id.
#[derive(Default)]
struct Pointers {
    down: HashMap<i32, (f64, f64)>,
    travelled: f64,
}

impl Stage {
    pub fn new(view: View) -> Stage {
        Stage {
            canvas: NodeRef::new(),
            drawing: NodeRef::new(),
            drawn: RwSignal::new(Camera::default()),
            wanted: StoredValue::new(Camera::default()),
            settle: StoredValue::new(None),
            touched: StoredValue::new(false),
            pointers: StoredValue::new(Pointers::default()),
            view,
        }
    }

    fn size(self) -> Option<Size> {
        let bounds = self.canvas.get_untracked()?.get_bounding_client_rect();
        (bounds.width() > 0.0).then(|| Size { width: bounds.width(), height: bounds.height() })
    }

    fn bounds(self) -> Rect {
        self.view.model.topology.with_untracked(|t| t.as_ref().map(geometry::bounds)).unwrap_or(Rect {
            x: 0.0,
            y: 0.0,
            width: 1.0,
            height: 1.0,
        })
    }

    /// Everything in the middle; from now on new nodes may change the view again.
    pub fn fit(self) {
        let Some(size) = self.size() else { return };
        self.touched.set_value(false);
        self.draw(Camera::fit(self.bounds(), size));
        self.view.nav.replace(self.view.nav.place_now().with("cam", ""));
    }

    pub fn zoom(self, factor: f64) {
        if let Some(size) = self.size() {
            self.move_to(self.wanted.get_value().zoomed(factor, size.width / 2.0, size.height / 2.0));
        }
    }

    /// Brings a part of the world into sight, if it is not.
    pub fn reveal(self, world: Rect) {
        let Some(size) = self.size() else { return };
        let camera = self.wanted.get_value();
        let revealed = camera.revealing(world, size);
        if revealed != camera {
            self.move_to(revealed);
        }
    }

    /// The first view: the URL's, else all.
    fn start(self) {
        let Some(size) = self.size() else { return };
        let stored = self.view.nav.place_now().get("cam").and_then(|text| Camera::parse(text, size));
        match stored {
            Some(camera) => {
                self.touched.set_value(true);
                self.draw(camera);
            }
            None => self.draw(Camera::start(self.bounds(), size)),
        }
    }

    /// After nodes came: a view that nobody chose shows them; a chosen one stays.
    fn follow_growth(self) {
        let Some(size) = self.size() else { return };
        let bounds = self.bounds();
        let start = Camera::start(bounds, size);
        let now = self.wanted.get_value();
        if !self.touched.get_value() && now != start && !now.shows(bounds, size) {
            self.draw(start);
        }
    }

    fn move_to(self, camera: Camera) {
        self.touched.set_value(true);
        self.wanted.set_value(camera);
        self.layer(&self.drawn.get_untracked().transform_to(camera), true);
        if let Some(timer) = self.settle.try_update_value(Option::take).flatten() {
            timer.clear();
        }
        self.settle.set_value(set_timeout_with_handle(move || self.settle(), SETTLE).ok());
    }

    fn settle(self) {
        // The page may have gone in the meantime.
        let Some(camera) = self.wanted.try_get_value() else { return };
        self.draw(camera);
        if let Some(size) = self.size() {
            self.view.nav.replace(self.view.nav.place_now().with("cam", camera.text(size)));
        }
    }

    fn draw(self, camera: Camera) {
        self.wanted.set_value(camera);
        self.drawn.set(camera);
        self.layer("none", false);
    }

    fn layer(self, transform: &str, moving: bool) {
        let (Some(canvas), Some(drawing)) = (self.canvas.get_untracked(), self.drawing.get_untracked())
        else {
            return;
        };
        // Neither can fail: class and property exist.
        let _ = canvas.class_list().toggle_with_force("moving", moving);
        if let Some(element) = drawing.dyn_ref::<web_sys::SvgElement>() {
            let _ = element.style().set_property("transform", transform);
        }
    }

    fn at(self, x: i32, y: i32) -> (f64, f64) {
        let corner = self.canvas.get_untracked().map(|canvas| canvas.get_bounding_client_rect());
        corner.map_or((0.0, 0.0), |corner| (f64::from(x) - corner.left(), f64::from(y) - corner.top()))
    }

    fn wheel(self, event: ev::WheelEvent) {
        event.prevent_default();
        let (x, y) = self.at(event.client_x(), event.client_y());
        let pixels = match event.delta_mode() {
            0 => event.delta_y(),
            // Lines and pages, as mice without a smooth wheel report.
            _ => event.delta_y() * 16.0,
        };
        // Pinching on a touchpad arrives as a wheel with Ctrl and small steps.
        let speed = if event.ctrl_key() { 0.01 } else { 0.0015 };
        self.move_to(self.wanted.get_value().zoomed((-pixels * speed).exp(), x, y));
    }

    fn pointer_down(self, event: ev::PointerEvent) {
        if event.button() != 0 {
            return;
        }
        let place = self.at(event.client_x(), event.client_y());
        self.pointers.update_value(|pointers| {
            if pointers.down.is_empty() {
                pointers.travelled = 0.0;
            }
            pointers.down.insert(event.pointer_id(), place);
        });
    }

    fn pointer_move(self, event: ev::PointerEvent) {
        let new = self.at(event.client_x(), event.client_y());
        let camera = self.wanted.get_value();
        let moved = self.pointers.try_update_value(|pointers| {
            let old = pointers.down.insert(event.pointer_id(), new);
            let Some(old) = old else {
                pointers.down.remove(&event.pointer_id());
                return None;
            };
            let (dx, dy) = (new.0 - old.0, new.1 - old.1);
            pointers.travelled += dx.hypot(dy);
            if pointers.travelled < CLICK_SLACK_PX {
                return None;
            }
            let other =
                pointers.down.iter().find(|(id, _)| **id != event.pointer_id()).map(|(_, place)| *place);
            Some(match other {
                None => camera.moved(dx, dy),
                // Two fingers: the one that rests is the centre.
                Some(rest) => {
                    let span = |p: (f64, f64)| (p.0 - rest.0).hypot(p.1 - rest.1).max(1.0);
                    camera.zoomed(span(new) / span(old), rest.0, rest.1)
                }
            })
        });
        if let Some(camera) = moved.flatten() {
            if let Some(canvas) = self.canvas.get_untracked() {
                // Fails only for a pointer that has been lifted already.
                let _ = canvas.set_pointer_capture(event.pointer_id());
            }
            self.move_to(camera);
        }
    }

    fn pointer_up(self, event: ev::PointerEvent) {
        self.pointers.update_value(|pointers| {
            pointers.down.remove(&event.pointer_id());
        });
    }

    /// A click on nothing clears the selection, unless it was the end of a drag.
    fn background_click(self) {
        if self.pointers.with_value(|pointers| pointers.travelled < CLICK_SLACK_PX) {
            self.view.select("");
        }
    }
}

/// Moves the keyboard's focus to a node.
pub fn focus_node(id: &str) {
    if let Some(element) = document().get_element_by_id(&node::element_id(id))
        && let Some(element) = element.dyn_ref::<web_sys::SvgElement>()
    {
        let _ = element.focus();
    }
}

#[component]
pub fn Canvas(stage: Stage) -> impl IntoView {
    let view = stage.view;
    let model = view.model;
    let started = StoredValue::new(false);
    // The canvas has its size only after it was laid out.
    Effect::new(move |_| {
        model.topology.track();
        request_animation_frame(move || match started.try_get_value() {
            Some(false) if model.topology.with_untracked(Option::is_some) => {
                started.set_value(true);
                stage.start();
            }
            Some(true) => stage.follow_growth(),
            Some(false) | None => {}
        });
    });
    let resized = window_event_listener(ev::resize, move |_| stage.follow_growth());
    on_cleanup(move || resized.remove());
    // What is selected, by a click or by a link, is brought into sight; the panel may just have covered it.
    Effect::new(move |_| {
        let selected = view.selected.get();
        request_animation_frame(move || {
            let Some(id) = selected else { return };
            let place = model.topology.try_with_untracked(|t| {
                let node = |id: &str| t.as_ref()?.nodes.iter().find(|node| node.id == id).map(geometry::rect);
                match id.split_once('>') {
                    Some((from, to)) => Some(geometry::around(node(from)?, node(to)?)),
                    None => node(&id),
                }
            });
            if let Some(place) = place.flatten().filter(|_| started.get_value()) {
                stage.reveal(place);
            }
        });
    });
    // The Tab key has to reach some node: the one where the keyboard was, else the first.
    let ids = model.node_ids();
    Effect::new(move |_| {
        ids.with(|ids| {
            let known =
                view.cursor.with_untracked(|cursor| cursor.as_ref().is_some_and(|id| ids.contains(id)));
            if !known {
                view.cursor.set(ids.first().cloned());
            }
        });
    });
    let edge_ids = model.edge_ids();
    let places = Memo::new(move |_| {
        model.with_topology(|t| {
            let places = geometry::label_places(t, geometry::label_size);
            t.edges
                .iter()
                .zip(places)
                .filter_map(|(edge, place)| Some((edge.id.clone(), place?)))
                .collect::<HashMap<_, _>>()
        })
    });
    let groups = move || {
        let groups = model.with_topology(|t| t.groups.clone());
        let group = |g: mesh_api::graph::Group| {
            view! {
                <g class="group">
                    <rect x=g.x y=g.y width=g.width height=g.height rx="12"/>
                    <text x=g.x + 16.0 y=g.y + 22.0>{g.namespace}</text>
                </g>
            }
        };
        groups.into_iter().map(group).collect_view()
    };
    let world = move || {
        let camera = stage.drawn.get();
        format!("translate({:.2} {:.2}) scale({:.4})", camera.x, camera.y, camera.scale)
    };
    view! {
        <div
            class="canvas"
            node_ref=stage.canvas
            on:wheel=move |event| stage.wheel(event)
            on:pointerdown=move |event| stage.pointer_down(event)
            on:pointermove=move |event| stage.pointer_move(event)
            on:pointerup=move |event| stage.pointer_up(event)
            on:pointercancel=move |event| stage.pointer_up(event)
            on:click=move |_| stage.background_click()
        >
            <svg
                class=move || format!("drawing {}", stage.drawn.get().distance())
                node_ref=stage.drawing
                role="group"
                aria-label="Service graph. Arrow keys follow the edges, Enter opens the details."
            >
                <g transform=world>
                    {groups}
                    <g><For each=move || edge_ids.get() key=Clone::clone children=move |id| edge(view, id)/></g>
                    <g><For each=move || edge_ids.get() key=Clone::clone children=move |id| edge_label(view, id, places)/></g>
                    <g><For each=move || ids.get() key=Clone::clone children=move |id| node(view, id)/></g>
                </g>
            </svg>
        </div>
    }
}
