//! The first page: totals in one line, what needs attention, all workloads.

use crate::{
    api::feed::Feed,
    format::{self, Figure},
    navigate::use_nav,
    pages::shell::{Summary, scope, stale},
    parts::{
        empty::{NoTraffic, Waiting},
        figures::big,
        glyph::Glyph,
        workload_table::WorkloadTable,
    },
    place::Page,
    words,
};
use leptos::prelude::*;
use mesh_api::{health::Health, overview};

#[component]
pub fn Overview() -> impl IntoView {
    let nav = use_nav();
    let feed: Feed = expect_context();
    let data = feed.follow::<overview::Overview>("overview", move || {
        format!("api/v1/overview?window={}", nav.place().window().as_str())
    });
    // The picker and the navigation show the same figures; let them not lag behind.
    let summary: Summary = expect_context();
    Effect::new(move |_| {
        if let Some(new) = data.get() {
            summary.overview.set(Some(new));
        }
    });
    let ready = Memo::new(move |_| data.with(Option::is_some));
    let no_workloads = Memo::new(move |_| data.with(|o| o.as_ref().is_some_and(|o| o.workloads.is_empty())));
    let rows = Memo::new(move |_| data.with(|o| o.as_ref().map(|o| o.workloads.clone()).unwrap_or_default()));
    view! {
        <div class=move || format!("page {}", stale(feed))>
            <h1>"Overview " <small>{move || scope(nav)}</small></h1>
            {move || match (ready.get(), no_workloads.get()) {
                (false, _) => view! { <Waiting/> }.into_any(),
                (true, true) => view! { <NoTraffic/> }.into_any(),
                (true, false) => view! {
                    <Totals data=data/>
                    <NeedsAttention data=data/>
                    <div class="box"><WorkloadTable rows=rows/></div>
                }
                .into_any(),
            }}
        </div>
    }
}

type Data = RwSignal<Option<overview::Overview>>;

#[component]
fn Totals(data: Data) -> impl IntoView {
    let cell = move |title: &'static str, figure: fn(&overview::Overview) -> (Figure, &'static str)| {
        let shown =
            move || data.with(|data| data.as_ref().map(figure)).map(|(figure, class)| big(figure, class));
        view! { <div><small>{title}</small>{shown}</div> }
    };
    let proxies = move || {
        data.with(|data| {
            data.as_ref().map(|o| {
                let (unit, class) = if o.proxies >= o.proxies_expected {
                    ("all current".to_owned(), "")
                } else {
                    (format!("of {}", o.proxies_expected), "warn")
                };
                view! { <b class=class>{o.proxies}</b><u>{unit}</u> }
            })
        })
    };
    view! {
        <section class="box totals" aria-label="Totals">
            {cell("Requests", |o| (format::rate(o.total.rate_per_s), ""))}
            {cell("Success", |o| (format::share(o.total.success), words::success_class(&o.total)))}
            {cell("p99", |o| (format::latency(o.total.p99_ms), ""))}
            {cell("Encrypted", |o| (format::share(o.mtls), ""))}
            <div><small>"Proxies"</small>{proxies}</div>
            {cell("Shortest certificate", |o| {
                let short = o.shortest_certificate_s.is_some_and(|left| left < 3_600);
                (format::lifetime(o.shortest_certificate_s), if short { "warn" } else { "" })
            })}
        </section>
    }
}

#[component]
fn NeedsAttention(data: Data) -> impl IntoView {
    let nav = use_nav();
    let rows = Memo::new(move |_| data.with(|o| o.as_ref().map(|o| o.attention.clone()).unwrap_or_default()));
    let ill = move || {
        data.with(|o| {
            let workloads = o.as_ref().map(|o| o.workloads.as_slice()).unwrap_or_default();
            let ill = workloads.iter().filter(|row| row.health >= Health::Degraded).count();
            format!("{ill} of {}", format::count(workloads.len() as u64, "workload"))
        })
    };
    let row = move |row: overview::Attention| {
        let link = (!row.link.is_empty()).then(|| {
            let target = nav.place_now().follow(&row.link);
            view! { <a href=target.href()>{link_word(&target.page)}</a> }
        });
        view! {
            <div class="attention">
                <Glyph health=row.health/>
                <p>{row.sentence}</p>
                {link}
            </div>
        }
    };
    let calm = move || {
        let busiest = data.with(|o| {
            let workloads = o.as_ref().map(|o| o.workloads.as_slice()).unwrap_or_default();
            let busiest =
                workloads.iter().max_by(|a, b| a.golden.rate_per_s.total_cmp(&b.golden.rate_per_s))?;
            (busiest.golden.requests > 0).then(|| {
                format!("Busiest: {} with {}.", busiest.name, format::rate(busiest.golden.rate_per_s).text())
            })
        });
        view! { <div class="calm"><Glyph health=Health::Healthy quiet=true/><p>"Nothing needs attention. "{busiest}</p></div> }
    };
    view! {
        <section class="box" aria-label="Needs attention">
            <h2>"Needs attention"<span>{ill}</span></h2>
            {move || if rows.with(Vec::is_empty) { calm().into_any() } else { rows.get().into_iter().map(row).collect_view().into_any() }}
        </section>
    }
}

/// What a link to that page is called.
fn link_word(page: &Page) -> &'static str {
    match page {
        Page::Overview => "Overview",
        Page::Graph => "Graph",
        Page::Workloads | Page::Workload { .. } => "Workload",
        Page::Routes => "Routes",
        Page::Traces => "Traces",
        Page::Trace(_) => "A trace",
        Page::Checks => "Checks",
        Page::Missing(_) => "Details",
    }
}
