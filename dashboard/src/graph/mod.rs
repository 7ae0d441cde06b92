//! The service graph: who calls whom, and how it goes.

pub mod camera;
mod edge;
pub mod geometry;
mod keys;
mod label;
mod model;
mod node;
mod panel;
mod spoken;
mod stage;
mod table;
mod tools;
mod view;

use crate::{
    api::feed::Feed,
    navigate::use_nav,
    pages::shell::stale,
    parts::empty::{NoTraffic, Waiting},
};
use leptos::prelude::*;
use model::Model;
use stage::{Canvas, Stage};
use tools::{Legend, TimeBar, Tools, ZoomButtons};
use view::View;

#[component]
pub fn GraphPage() -> impl IntoView {
    let nav = use_nav();
    let feed: Feed = expect_context();
    let query = nav.api_query();
    let model = Model::follow(feed, move || format!("api/v1/graph?{}", query.get()));
    let view = View::new(model);
    let stage = Stage::new(view);
    keys::listen(view, stage);

    let nodes = Memo::new(move |_| model.topology.with(|t| t.as_ref().map(|t| t.nodes.len())));
    let open = Memo::new(move |_| view.selected.with(Option::is_some));
    let class = move || format!("graph-page {} {}", if open.get() { "with-panel" } else { "" }, stale(feed));
    let content = move || {
        match (nodes.get(), view.as_table.get()) {
        (None, _) => view! { <div class="canvas-scroll"><Waiting/></div> }.into_any(),
        (Some(0), _) => view! { <div class="canvas-scroll"><NoTraffic/></div> }.into_any(),
        (Some(_), true) => view! { <div class="canvas-scroll" tabindex="0" role="region" aria-label="Graph as table"><table::Tables view=view/></div> }.into_any(),
        (Some(_), false) => view! { <Canvas stage=stage/> }.into_any(),
    }
    };
    // Counted, so that the page does not start anew when a node comes.
    let content = {
        let state = Memo::new(move |_| (nodes.get().map(|count| count > 0), view.as_table.get()));
        move || {
            state.get();
            untrack(content)
        }
    };
    view! {
        <div class=class>
            <h1 class="hidden-text">"Service graph"</h1>
            <button class="skip pick" on:click=move |_| nav.set("view", "table")>"Show the graph as a table"</button>
            <div class="canvas-area">
                {content}
                <Tools view=view/>
                {move || (!view.as_table.get()).then(|| view! { <Legend view=view/><ZoomButtons stage=stage/> })}
            </div>
            <TimeBar/>
            {move || open.get().then(|| view! { <panel::Panel view=view/> })}
            <spoken::Changes view=view/>
        </div>
    }
}
