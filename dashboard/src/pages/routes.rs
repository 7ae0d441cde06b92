//! Routes and their splits: what was wanted against what was seen.

use crate::{
    api::feed::Feed,
    find::Facts,
    format,
    navigate::use_nav,
    pages::shell::{scope, stale, use_find},
    parts::{empty::Waiting, glyph::Glyph},
    place::Page,
    words,
};
use leptos::prelude::*;
use mesh_api::route::{Backend, Parent, Route, RouteList, Rule};

/// A split is called off when the share seen differs from the wanted one by more than this …
const OFF_BY: f64 = 0.05;
/// … over at least so many requests.
const ENOUGH_REQUESTS: u64 = 100;

#[component]
pub fn Routes() -> impl IntoView {
    let nav = use_nav();
    let feed: Feed = expect_context();
    let query = nav.api_query();
    let data = feed.follow::<RouteList>("routes", move || format!("api/v1/routes?{}", query.get()));
    let find = use_find();
    let ready = Memo::new(move |_| data.with(Option::is_some));
    let shown = Memo::new(move |_| {
        let routes = data.with(|list| list.as_ref().map(|list| list.routes.clone()).unwrap_or_default());
        find.with(|find| routes.into_iter().filter(|route| find.matches(&facts(route))).collect::<Vec<_>>())
    });
    let empty = move || {
        view! {
            <div class="empty">
                <h2>"No route here"</h2>
                <p>"Without an HTTPRoute or GRPCRoute, a Service's requests go to all of its pods alike."</p>
            </div>
        }
    };
    let keys = Memo::new(move |_| shown.with(|routes| routes.iter().map(key).collect::<Vec<_>>()));
    let route = move |wanted: String| {
        let found = Memo::new(move |_| {
            shown.with(|routes| routes.iter().find(|route| key(route) == wanted).cloned())
        });
        move || found.get().map(route_box)
    };
    view! {
        <div class=move || format!("page {}", stale(feed))>
            <h1>"Routes " <small>{move || scope(nav)}</small></h1>
            {move || match (ready.get(), keys.with(Vec::is_empty)) {
                (false, _) => view! { <Waiting/> }.into_any(),
                (true, true) => empty().into_any(),
                (true, false) => view! { <For each=move || keys.get() key=Clone::clone children=route/> }.into_any(),
            }}
        </div>
    }
}

fn key(route: &Route) -> String {
    format!("{} {}/{}", route.kind, route.namespace, route.name)
}

fn facts(route: &Route) -> Facts<'_> {
    Facts {
        names: [&route.name, &route.kind, ""],
        namespace: &route.namespace,
        health: Some(route.health),
        golden: Some(&route.golden),
        meshed: true,
        ..Facts::default()
    }
}

fn route_box(route: Route) -> impl IntoView {
    let golden = &route.golden;
    let figures = [
        ("requests", format::rate(golden.rate_per_s).text(), ""),
        ("success", format::share(golden.success).text(), words::success_class(golden)),
        ("p50", format::latency(golden.p50_ms).text(), ""),
        ("p99", format::latency(golden.p99_ms).text(), ""),
    ];
    let figure = |(title, value, class)| view! { <div><dt>{title}</dt><dd class=class>{value}</dd></div> };
    let label = key(&route);
    view! {
        <section class="box" aria-label=label>
            <div class="route-head">
                <h2><Glyph health=route.health/>{route.name} <span class="kind">{format!("{} in {}", route.kind, route.namespace)}</span></h2>
                <dl>{figures.map(figure).into_iter().collect_view()}</dl>
            </div>
            {parents(route.parents)}
            {route.rules.into_iter().map(rule).collect_view()}
        </section>
    }
}

/// For which Services the route holds, and why not where it does not.
fn parents(parents: Vec<Parent>) -> impl IntoView {
    let refusals: Vec<_> = parents
        .iter()
        .flat_map(|parent| parent.conditions.iter().filter(|c| c.is_bad()).map(move |c| (parent.parent.clone(), c.clone())))
        .map(|(parent, condition)| {
            let verdict = format!("{} is {}", condition.kind, condition.status);
            let text = if condition.message.is_empty() { condition.reason.clone() } else { condition.message };
            view! { <p class="why warn refused"><b class="warn">{verdict}</b>{format!(" for {parent} ({}): {text}", condition.reason)}</p> }
        })
        .collect();
    let names = parents.into_iter().map(|parent| parent.parent).collect::<Vec<_>>().join(", ");
    view! { <p class="parents">"for " {names}</p> {refusals} }
}

fn rule(rule: Rule) -> impl IntoView {
    let extras: Vec<_> =
        rule.filters.into_iter().chain(rule.policies).map(|text| view! { <li>{text}</li> }).collect();
    let matches = if rule.matches.is_empty() { "any request".to_owned() } else { rule.matches };
    let backends = if rule.backends.is_empty() {
        view! { <p class="quiet">"answered without a backend"</p> }.into_any()
    } else {
        rule.backends.into_iter().map(split).collect_view().into_any()
    };
    view! {
        <div class="rule">
            <div>{matches}<ul>{extras}</ul></div>
            <div>{backends}</div>
        </div>
    }
}

/// The two-tone bar: wanted as the pale ground with its mark, seen as the line within.
fn split(backend: Backend) -> impl IntoView {
    let nav = use_nav();
    let percent = |share: f64| format!("{:.1}%", share.clamp(0.0, 1.0) * 100.0);
    let off = is_off(&backend);
    let seen = match backend.observed {
        Some(observed) => format::share(Some(observed)).text(),
        None => format::NONE.into(),
    };
    // Weights make round shares most of the time; those seen never are.
    let wanted = format::share(Some(backend.wanted)).text().replace(".0 %", " %");
    let spoken = format!("wanted {wanted}, seen {seen}");
    // `ns/name:port`; the port is the Service's and says little here.
    let name = backend.name.split('/').next_back().unwrap_or_default().to_owned();
    let page = Page::workload(backend.name.rsplit_once(':').map_or(&*backend.name, |(name, _)| name));
    let problem = backend.problem.map(|problem| view! { <span class="bad">{format!(" {problem}")}</span> });
    view! {
        <div class="split">
            <span><a href=move || nav.href(page.clone())>{name}</a>{problem}</span>
            <span class=if off { "split-bar off" } else { "split-bar" } role="img" aria-label=spoken>
                <i class="wanted" style:width=percent(backend.wanted)></i>
                <i class="observed" style:width=percent(backend.observed.unwrap_or(0.0))></i>
            </span>
            <span class="split-text">"wanted " {wanted} " / seen " <b class=if off { "warn" } else { "" }>{seen}</b></span>
        </div>
    }
}

fn is_off(backend: &Backend) -> bool {
    let Some(observed) = backend.observed else { return false };
    // The whole split's requests, as far as this backend's share of them tells.
    let all = if observed > 0.0 { backend.golden.requests as f64 / observed } else { 0.0 };
    all >= ENOUGH_REQUESTS as f64 && (observed - backend.wanted).abs() > OFF_BY
}

#[cfg(test)]
mod tests {
    use super::*;
    use mesh_api::golden::Golden;

    #[test]
    fn a_split_is_off_only_after_enough_requests() {
        let backend = |requests, observed| Backend {
            name: "n/b:80".into(),
            weight: 10,
            wanted: 0.1,
            observed,
            golden: Golden { requests, ..Golden::default() },
            problem: None,
        };
        assert!(is_off(&backend(100, Some(0.5))));
        assert!(!is_off(&backend(2, Some(0.5))));
        assert!(!is_off(&backend(100, Some(0.12))));
        assert!(!is_off(&backend(0, None)));
    }
}
