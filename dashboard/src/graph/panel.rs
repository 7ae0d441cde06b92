//! The side panel: what is selected, whether it is well and why not, and all that explains it. The same order for
//! nodes and edges.

use crate::{
    api::fetch,
    charts::series::SeriesCharts,
    format,
    graph::{edge::EdgeData, geometry, model::spoken, view::View},
    navigate::use_nav,
    parts::{
        figures::{GoldenRow, Why},
        glyph::Glyph,
        rows::TraceLines,
    },
    place::{Page, Place, encode},
    words,
};
use leptos::prelude::*;
use mesh_api::{
    golden::Golden,
    graph::{EdgeMetrics, Node, NodeKind},
    health::Health,
    series::Series,
    trace::{TraceList, TraceSummary},
    workload::{AuthorizationStat, Peer, RouteStat, Workload},
};

/// How often details are asked for, besides what the stream brings.
const DETAILS_S: u32 = 2;

#[component]
pub fn Panel(view: View) -> impl IntoView {
    // A panel for each selection: nothing of the one before is left in it.
    let content = move || {
        let id = view.selected.get()?;
        Some(if id.contains('>') { edge_panel(view, id).into_any() } else { node_panel(view, id).into_any() })
    };
    view! { <aside class="panel" aria-label="Details">{content}</aside> }
}

fn heading(view: View, health: Memo<Health>, title: Signal<String>, sub: Signal<String>) -> impl IntoView {
    view! {
        <header>
            <h1 tabindex="-1"><Glyph health=health/>{title}</h1>
            <button class="close" title="Close (Esc)" aria-label="Close" on:click=move |_| view.select("")>"×"</button>
        </header>
        <p class="sub">{sub}</p>
    }
}

/// The figures of something over the window.
fn series(view: View, id: &str) -> RwSignal<Option<Series>> {
    let of = encode(id);
    fetch::asked(DETAILS_S, move || {
        Some(format!("api/v1/series?of={of}&window={}", view.nav.place().window().as_str()))
    })
    .answer
}

/// `w:ns/name` to `ns/name`.
fn workload_of(id: &str) -> Option<String> {
    id.strip_prefix("w:").map(str::to_owned)
}

fn workload_details(view: View, qualified: Option<String>) -> RwSignal<Option<Workload>> {
    let path = qualified
        .as_deref()
        .and_then(|q| q.split_once('/'))
        .map(|(ns, name)| format!("{}/{}", encode(ns), encode(name)));
    fetch::asked(DETAILS_S, move || {
        let path = path.clone()?;
        Some(format!("api/v1/workloads/{path}?window={}", view.nav.place().window().as_str()))
    })
    .answer
}

fn node_panel(view: View, id: String) -> impl IntoView {
    let nav = use_nav();
    let node = view.model.node(&id);
    let metrics = view.model.node_metrics(&id);
    let health = Memo::new(move |_| metrics.with(|m| m.as_ref().map_or(Health::Idle, |m| m.health)));
    let golden =
        Memo::new(move |_| metrics.with(|m| m.as_ref().map(|m| m.golden.clone()).unwrap_or_default()));
    let reason =
        Memo::new(move |_| metrics.with(|m| m.as_ref().map(|m| m.reason.clone()).unwrap_or_default()));
    let fallback = id.clone();
    let title = Signal::derive(move || {
        node.with(|node| node.as_ref().map(spoken)).unwrap_or_else(|| fallback.clone())
    });
    let sub = Signal::derive(move || {
        node.with(|node| node.as_ref().map(describe)).unwrap_or_else(|| "not in this view".into())
    });
    let is_workload = workload_of(&id).is_some();
    let details = workload_details(view, workload_of(&id));
    let page = workload_of(&id).map(|qualified| Page::workload(&qualified));
    let link = page.map(
        |page| view! { <p><a href=move || nav.href(page.clone())>"Everything about this workload →"</a></p> },
    );
    let charts = is_workload.then(|| series(view, &id)).map(|series| view! { <SeriesCharts series=series/> });
    view! {
        {heading(view, health, title, sub)}
        <Why health=health reason=reason golden=golden/>
        <GoldenRow golden=golden/>
        {charts}
        {neighbours(view, id.clone())}
        {is_workload.then(|| view! {
            {routes(Memo::new(move |_| details.with(|d| d.as_ref().map(|d| d.routes.clone()).unwrap_or_default())))}
            {identity_of_workload(details)}
            {traces(view, workload_of(&id).unwrap_or_default(), Signal::derive(move || {
                details.with(|d| d.as_ref().map(|d| d.traces.clone()).unwrap_or_default())
            }))}
        })}
        {link}
    }
}

/// "bookinfo · workload reviews-v2".
fn describe(node: &Node) -> String {
    let meshed = if node.meshed || node.kind == NodeKind::External { "" } else { " · not meshed" };
    match node.namespace.as_str() {
        "" => format!("{} {}{meshed}", words::kind(node.kind), node.name),
        ns => format!("{ns} · {} {}{meshed}", words::kind(node.kind), node.name),
    }
}

/// All edges at a node, each a button that selects it: the way to edges for the keyboard.
fn neighbours(view: View, id: String) -> impl IntoView {
    let edges = Memo::new(move |_| {
        view.model.with_topology(|t| {
            let touching = t.edges.iter().filter(|edge| edge.from == id || edge.to == id);
            touching.map(|edge| (edge.id.clone(), edge.to == id)).collect::<Vec<_>>()
        })
    });
    let row = move |(id, inbound): (String, bool)| {
        let data = EdgeData::new(view, &id);
        let other = if inbound { data.from } else { data.to };
        let golden = Memo::new(move |_| {
            data.metrics.with(|m| m.as_ref().map(|m| m.golden.clone()).unwrap_or_default())
        });
        let name = move || other.with(|node| node.as_ref().map(spoken).unwrap_or_default());
        let note = move || data.metrics.with(|m| m.as_ref().map(note).unwrap_or_default());
        view! {
            <tr>
                <td>
                    <button class="link" on:click=move |_| view.select(&id)>
                        {if inbound { "← " } else { "→ " }} {name}
                    </button>
                    <span class="quiet">{note}</span>
                </td>
                {golden_cells(golden)}
            </tr>
        }
    };
    view! {
        <h2>"Calls"</h2>
        <table class="table">
            <thead>{golden_titles("Peer")}</thead>
            <tbody><For each=move || edges.get() key=Clone::clone children=row/></tbody>
        </table>
    }
}

/// What is unusual about an edge: plaintext, refused requests, a share of a split.
fn note(metrics: &EdgeMetrics) -> String {
    let mut notes = Vec::new();
    if words::is_plaintext(metrics) {
        notes.push("plaintext".to_owned());
    }
    if metrics.denied > 0 {
        notes.push(format!("{} denied", format::thousands(metrics.denied)));
    }
    if let Some(observed) = metrics.observed {
        notes.push(match metrics.wanted {
            Some(wanted) => {
                format!("{} of {} wanted", format::whole_share(observed), format::whole_share(wanted))
            }
            None => format::whole_share(observed),
        });
    }
    notes.iter().map(|note| format!(" · {note}")).collect()
}

fn golden_titles(first: &'static str) -> impl IntoView {
    view! { <tr><th scope="col">{first}</th><th scope="col">"req/s"</th><th scope="col">"success"</th><th scope="col">"p99"</th></tr> }
}

fn golden_cells(golden: Memo<Golden>) -> impl IntoView {
    view! {
        <td>{move || golden.with(|g| format::rate(g.rate_per_s).value)}</td>
        <td class=move || golden.with(words::success_class)>{move || golden.with(|g| format::share(g.success).text())}</td>
        <td>{move || golden.with(|g| format::latency(g.p99_ms).text())}</td>
    }
}

fn routes(routes: Memo<Vec<RouteStat>>) -> impl IntoView {
    let row = |stat: RouteStat| {
        let class = words::success_class(&stat.golden);
        view! {
            <tr>
                <td class="wrap"><code>{stat.route}</code> <span class="quiet">{format!(" {}", stat.direction)}</span></td>
                <td>{format::rate(stat.golden.rate_per_s).value}</td>
                <td class=class>{format::share(stat.golden.success).text()}</td>
                <td>{format::latency(stat.golden.p99_ms).text()}</td>
            </tr>
        }
    };
    move || {
        let routes = routes.get();
        (!routes.is_empty()).then(|| {
            view! {
                <h2>"Routes"</h2>
                <table class="table">
                    <thead>{golden_titles("Route")}</thead>
                    <tbody>{routes.into_iter().map(row).collect_view()}</tbody>
                </table>
            }
        })
    }
}

fn identity_of_workload(details: RwSignal<Option<Workload>>) -> impl IntoView {
    let identity = Memo::new(move |_| details.with(|d| d.as_ref().and_then(|d| d.identity.clone())));
    let policies = Memo::new(move |_| {
        details.with(|d| d.as_ref().map(|d| d.authorizations.clone()).unwrap_or_default())
    });
    view! {
        <h2>"Identity and policy"</h2>
        <dl class="facts">
            <dt>"identity"</dt>
            <dd>{move || identity_text(identity.get())}</dd>
            {move || policies.get().into_iter().map(policy_row).collect_view()}
        </dl>
    }
}

fn identity_text(identity: Option<String>) -> AnyView {
    match identity {
        Some(identity) => {
            view! { <code title=identity.clone()>{format::short_identity(&identity).to_owned()}</code> }
                .into_any()
        }
        None => view! { <span class="quiet">"none"</span> }.into_any(),
    }
}

fn policy_row(stat: AuthorizationStat) -> impl IntoView {
    let counts =
        [(stat.allowed, "allowed", ""), (stat.denied, "denied", "bad"), (stat.audited, "audited", "warn")];
    let counts: Vec<_> = counts
        .into_iter()
        .filter(|(count, _, _)| *count > 0)
        .map(|(count, word, class)| view! { <span class=class>{format!("{} {word} ", format::thousands(count))}</span> })
        .collect();
    let client = stat.client.map(|client| format!("from {} ", format::short_identity(&client)));
    view! { <dt>"policy"</dt><dd>{counts}"by "<code>{stat.policy}</code>" "<span class="quiet">{client}</span></dd> }
}

fn traces(view: View, workload: String, traces: Signal<Vec<TraceSummary>>) -> impl IntoView {
    let all: Place = view.nav.place_now().to(Page::Traces).with("workload", workload);
    let empty = move || {
        traces.with(Vec::is_empty).then(|| view! { <p class="quiet">"No trace was sampled here yet."</p> })
    };
    view! {
        <h2>"Recent traces"<a href=all.href()>"all →"</a></h2>
        <TraceLines traces=traces/>
        {empty}
    }
}

fn edge_panel(view: View, id: String) -> impl IntoView {
    let data = EdgeData::new(view, &id);
    let health = Memo::new(move |_| data.health());
    let golden =
        Memo::new(move |_| data.metrics.with(|m| m.as_ref().map(|m| m.golden.clone()).unwrap_or_default()));
    let reason =
        Memo::new(move |_| data.metrics.with(|m| m.as_ref().map(|m| m.reason.clone()).unwrap_or_default()));
    let sub = Signal::derive(move || {
        let namespace = data.to.with(|to| to.as_ref().map(|to| to.namespace.clone()).unwrap_or_default());
        let protocol = data.metrics.with(|m| m.as_ref().map(|m| words::protocol(m.protocol)));
        match protocol {
            Some(protocol) => format!("{namespace} · {protocol} · selected edge"),
            None => "not in this view".into(),
        }
    });
    let (from, to) = id.split_once('>').unwrap_or((&id, ""));
    // Behind a Service's share stands the workload that it goes to.
    let (client, server) = (workload_of(from), workload_of(to));
    let client_details = workload_details(view, client.clone());
    let server_details = workload_details(view, server.clone());
    let charts = series(view, &id);
    let split = Memo::new(move |_| {
        data.edge.with(|edge| edge.as_ref().is_some_and(geometry::is_share))
            && data.metrics.with(|m| m.as_ref().is_some_and(|m| m.observed.is_some() || m.wanted.is_some()))
    });
    let traced = server.or(client.clone()).unwrap_or_default();
    let recent = {
        let workload = encode(&traced);
        fetch::asked::<TraceList>(DETAILS_S, move || {
            (!workload.is_empty()).then(|| format!("api/v1/traces?workload={workload}&limit=6"))
        })
        .answer
    };
    view! {
        {heading(view, health, Signal::derive(move || data.name()), sub)}
        <Why health=health reason=reason golden=golden/>
        <GoldenRow golden=golden/>
        {move || split.get().then(|| split_facts(data))}
        <SeriesCharts series=charts/>
        {encryption(data, from.to_owned(), client_details, server_details)}
        {traces(view, traced, Signal::derive(move || recent.with(|t| t.as_ref().map(|t| t.traces.clone()).unwrap_or_default())))}
    }
}

fn split_facts(data: EdgeData) -> impl IntoView {
    let share = move |of: fn(&EdgeMetrics) -> Option<f64>| {
        move || data.metrics.with(|m| format::share(m.as_ref().and_then(of)).text())
    };
    view! {
        <h2>"Split"</h2>
        <dl class="facts">
            <dt>"share seen"</dt><dd>{share(|m| m.observed)}</dd>
            <dt>"wanted by the route"</dt><dd>{share(|m| m.wanted)}</dd>
        </dl>
    }
}

fn encryption(
    data: EdgeData,
    from: String,
    client: RwSignal<Option<Workload>>,
    server: RwSignal<Option<Workload>>,
) -> impl IntoView {
    let how = move || {
        data.metrics.with(|m| match m.as_ref().and_then(|m| m.mtls) {
            None => "nothing ran".to_owned(),
            Some(share) if share >= 1.0 => "mutual TLS".to_owned(),
            Some(share) if share <= 0.0 => "plaintext".to_owned(),
            Some(share) => format!("{} over mutual TLS", format::share(Some(share)).text()),
        })
    };
    let seen = Memo::new(move |_| {
        let of_peer =
            |peers: &[Peer]| peers.iter().find(|peer| peer.id == from).and_then(|peer| peer.identity.clone());
        let by_server = server.with(|d| d.as_ref().and_then(|d| of_peer(&d.inbound)));
        by_server.or_else(|| client.with(|d| d.as_ref().and_then(|d| d.identity.clone())))
    });
    let of_server = Memo::new(move |_| server.with(|d| d.as_ref().and_then(|d| d.identity.clone())));
    let policies = Memo::new(move |_| {
        let client = seen.get();
        server.with(|d| {
            let all = d.iter().flat_map(|d| &d.authorizations);
            all.filter(|stat| client.is_none() || stat.client == client).cloned().collect::<Vec<_>>()
        })
    });
    let denied = move || {
        let denied = data.metrics.with(|m| m.as_ref().map_or(0, |m| m.denied));
        (denied > 0)
            .then(|| view! { <dt>"denied"</dt><dd class="bad">{format::count(denied, "request")}</dd> })
    };
    view! {
        <h2>"Identity and policy"<span>{how}</span></h2>
        <dl class="facts">
            <dt>"client"</dt><dd>{move || identity_text(seen.get())}</dd>
            <dt>"server"</dt><dd>{move || identity_text(of_server.get())}</dd>
            {denied}
            {move || policies.get().into_iter().map(policy_row).collect_view()}
        </dl>
    }
}
