//! All workloads as a table.

use crate::{
    api::feed::Feed,
    navigate::use_nav,
    pages::shell::{scope, stale},
    parts::{
        empty::{NoTraffic, Waiting},
        workload_table::WorkloadTable,
    },
};
use leptos::prelude::*;
use mesh_api::workload::WorkloadList;

#[component]
pub fn Workloads() -> impl IntoView {
    let nav = use_nav();
    let feed: Feed = expect_context();
    let query = nav.api_query();
    let data = feed.follow::<WorkloadList>("workloads", move || format!("api/v1/workloads?{}", query.get()));
    let count = Memo::new(move |_| data.with(|list| list.as_ref().map(|list| list.workloads.len())));
    let rows = Memo::new(move |_| {
        data.with(|list| list.as_ref().map(|list| list.workloads.clone()).unwrap_or_default())
    });
    view! {
        <div class=move || format!("page {}", stale(feed))>
            <h1>"Workloads " <small>{move || scope(nav)}</small></h1>
            {move || match count.get() {
                None => view! { <Waiting/> }.into_any(),
                Some(0) => view! { <NoTraffic/> }.into_any(),
                Some(_) => view! { <section class="box"><WorkloadTable rows=rows/></section> }.into_any(),
            }}
        </div>
    }
}
