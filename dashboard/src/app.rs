//! The frame around each page, and which page that is.

use crate::{
    api::feed,
    clock,
    graph::GraphPage,
    navigate,
    pages::{
        checks::Checks, missing::Missing, overview::Overview, routes::Routes, shell, trace::TracePage,
        traces::Traces, workload::WorkloadPage, workloads::Workloads,
    },
    place::Page,
};
use leptos::{html, prelude::*};

#[component]
pub fn App() -> impl IntoView {
    let nav = navigate::start();
    provide_context(nav);
    provide_context(clock::start());
    provide_context(feed::start());
    provide_context(shell::Summary::start(nav));
    let find: NodeRef<html::Input> = NodeRef::new();
    shell::listen_for_slash(find);

    let page = nav.page();
    let main: NodeRef<html::Main> = NodeRef::new();
    Effect::new(move |before: Option<()>| {
        document().set_title(&format!("{} · Mesh", page.with(Page::title)));
        // A new page starts at its top, for the eye and for the screen reader; the first one does by itself.
        if let (Some(()), Some(main)) = (before, main.get_untracked()) {
            main.set_scroll_top(0);
            let _ = main.focus();
        }
    });
    view! {
        <shell::TopBar find=find/>
        <shell::Bars/>
        <shell::Nav/>
        <main class="main" tabindex="0" node_ref=main>
            {move || match page.get() {
                Page::Overview => view! { <Overview/> }.into_any(),
                Page::Graph => view! { <GraphPage/> }.into_any(),
                Page::Workloads => view! { <Workloads/> }.into_any(),
                Page::Workload { namespace, name } => view! { <WorkloadPage namespace=namespace name=name/> }.into_any(),
                Page::Routes => view! { <Routes/> }.into_any(),
                Page::Traces => view! { <Traces/> }.into_any(),
                Page::Trace(id) => view! { <TracePage id=id/> }.into_any(),
                Page::Checks => view! { <Checks/> }.into_any(),
                Page::Missing(path) => view! { <Missing path=path/> }.into_any(),
            }}
        </main>
    }
}
