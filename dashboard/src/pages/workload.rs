//! One workload at full width: is it well, who calls it and whom it calls, its routes, policy, pods and traces.

use crate::{
    api::{feed::Feed, fetch},
    charts::series::SeriesCharts,
    format,
    navigate::use_nav,
    pages::{
        mini::mini,
        shell::{scope, stale},
    },
    parts::{
        empty::Waiting,
        figures::{GoldenRow, Why},
        glyph::Glyph,
        rows::TraceLines,
    },
    place::{Page, encode},
    words,
};
use leptos::prelude::*;
use mesh_api::{
    authz::{AuthzList, AuthzRow, Verdict},
    golden::Golden,
    graph::Protocol,
    health::Health,
    series::Series,
    workload::{AuthorizationStat, Peer, Pod, RouteStat, Workload},
};

#[component]
pub fn WorkloadPage(namespace: String, name: String) -> impl IntoView {
    let nav = use_nav();
    let feed: Feed = expect_context();
    let window = Memo::new(move |_| nav.place().window());
    let path = format!("{}/{}", encode(&namespace), encode(&name));
    let of = encode(&format!("w:{namespace}/{name}"));
    let stream_path = path.clone();
    let data = feed.follow::<Workload>("workload", move || {
        format!("api/v1/workloads/{stream_path}?window={}", window.get().as_str())
    });
    let series = fetch::asked::<Series>(2, move || {
        Some(format!("api/v1/series?of={of}&window={}", window.get().as_str()))
    })
    .answer;
    let authz = fetch::asked::<AuthzList>(5, move || Some(format!("api/v1/authz?to={path}"))).answer;
    let ready = Memo::new(move |_| data.with(Option::is_some));
    view! {
        <div class=move || format!("page {}", stale(feed))>
            <Title data=data name=name/>
            {move || if ready.get() {
                view! { <Body data=data series=series authz=authz/> }.into_any()
            } else {
                view! { <Waiting/> }.into_any()
            }}
        </div>
    }
}

type Data = RwSignal<Option<Workload>>;

/// A part of the data by itself, so that only its own change redraws it.
fn part<T: Default + Clone + PartialEq + Send + Sync + 'static>(
    data: Data,
    of: fn(&Workload) -> T,
) -> Memo<T> {
    Memo::new(move |_| data.with(|data| data.as_ref().map(of).unwrap_or_default()))
}

#[component]
fn Title(data: Data, name: String) -> impl IntoView {
    let nav = use_nav();
    let health = Memo::new(move |_| data.with(|d| d.as_ref().map_or(Health::Idle, |d| d.row.health)));
    let pods = move || {
        data.with(|data| {
            let row = &data.as_ref()?.row;
            Some(format!(
                "{} · {} of {} meshed",
                row.namespace,
                row.meshed_pods,
                format::count(row.pods.into(), "pod")
            ))
        })
    };
    let graph = {
        let name = name.clone();
        move || {
            let namespace = data.with(|d| d.as_ref().map(|d| d.row.namespace.clone()).unwrap_or_default());
            nav.place().to(Page::Graph).with("sel", format!("w:{namespace}/{name}")).href()
        }
    };
    view! {
        <h1>
            <Glyph health=health/>{name}
            <small>{pods} ", " {move || scope(nav).split_once(", ").map(|(_, window)| window.to_owned())}</small>
            <small class="push"><a href=graph>"Show on graph"</a></small>
        </h1>
    }
}

#[component]
fn Body(data: Data, series: RwSignal<Option<Series>>, authz: RwSignal<Option<AuthzList>>) -> impl IntoView {
    let golden = part(data, |d| d.row.golden.clone());
    let health = Memo::new(move |_| data.with(|d| d.as_ref().map_or(Health::Idle, |d| d.row.health)));
    let reason = part(data, |d| d.row.reason.clone());
    let neighbours = move || data.with(|data| data.as_ref().map(mini));
    view! {
        <section class="box" aria-label="Health">
            <div class="inside"><Why health=health reason=reason golden=golden/></div>
            {neighbours}
        </section>
        <div class="columns">
            <section aria-label="Figures">
                <div class="box inside-box"><GoldenRow golden=golden/><SeriesCharts series=series tall=true/></div>
                <div class="box"><h2>"Routes"</h2>{routes(part(data, |d| d.routes.clone()))}</div>
                <div class="box"><h2>"Recent traces"</h2><div class="inside">{traces(data)}</div></div>
            </section>
            <section aria-label="Peers and policy">
                <div class="box"><h2>"Inbound"<span>"who calls it"</span></h2>{peers(part(data, |d| d.inbound.clone()))}</div>
                <div class="box"><h2>"Outbound"<span>"whom it calls"</span></h2>{peers(part(data, |d| d.outbound.clone()))}</div>
                <div class="box"><h2>"Identity and policy"</h2>{policy(data)}</div>
                <div class="box"><h2>"Who may call it"<span>"as the manifests say"</span></h2>{verdicts(authz)}</div>
            </section>
        </div>
        <div class="box"><h2>"Pods"</h2>{pods(part(data, |d| d.pods.clone()))}</div>
    }
}

fn nothing(text: &'static str) -> AnyView {
    view! { <p class="none">{text}</p> }.into_any()
}

fn peers(peers: Memo<Vec<Peer>>) -> impl IntoView {
    let nav = use_nav();
    let row = move |peer: Peer| {
        let encrypted = match peer.mtls {
            None => view! { <td>{format::NONE}</td> }.into_any(),
            Some(share) if share >= 1.0 => view! { <td>"mutual TLS"</td> }.into_any(),
            Some(share) if share <= 0.0 => view! { <td class="warn">"plaintext"</td> }.into_any(),
            Some(share) => view! { <td class="warn">{format::share(Some(share)).text()}</td> }.into_any(),
        };
        let rate = match (&peer.tcp, peer.protocol) {
            (Some(tcp), Protocol::Tcp) => {
                format!("{}/s", format::bytes(tcp.read_bytes_per_s + tcp.write_bytes_per_s))
            }
            _ => format::rate(peer.golden.rate_per_s).text(),
        };
        let denied = (peer.denied > 0).then(
            || view! { <span class="bad">{format!("{} denied", format::thousands(peer.denied))}</span> },
        );
        let target = nav.place_now().to(Page::Graph).with("sel", peer.id);
        view! {
            <tr>
                <th scope="row"><a class="name" href=target.href()><Glyph health=peer.health/>{peer.name}<span>{peer.namespace}</span></a>" "{denied}</th>
                <td>{rate}</td>
                <td class=words::success_class(&peer.golden)>{format::share(peer.golden.success).text()}</td>
                <td>{format::latency(peer.golden.p99_ms).text()}</td>
                {encrypted}
            </tr>
        }
    };
    move || {
        let peers = peers.get();
        if peers.is_empty() {
            return nothing("Nobody in this window.");
        }
        view! {
            <div class="scroll" tabindex="0" role="region" aria-label="Peers">
                <table class="table">
                    <thead><tr><th scope="col">"Peer"</th><th scope="col">"Requests"</th><th scope="col">"Success"</th><th scope="col">"p99"</th><th scope="col">"Encrypted"</th></tr></thead>
                    <tbody>{peers.into_iter().map(row).collect_view()}</tbody>
                </table>
            </div>
        }
        .into_any()
    }
}

fn routes(routes: Memo<Vec<RouteStat>>) -> impl IntoView {
    let row = |stat: RouteStat| {
        view! {
            <tr>
                <th scope="row" class="wrap"><code>{stat.route}</code></th>
                <td class="text">{stat.direction}</td>
                {golden_cells(&stat.golden)}
            </tr>
        }
    };
    move || {
        let routes = routes.get();
        if routes.is_empty() {
            return nothing("No request took a route in this window.");
        }
        view! {
            <div class="scroll" tabindex="0" role="region" aria-label="Routes">
                <table class="table">
                    <thead><tr><th scope="col">"Route"</th><th scope="col" class="text">"Direction"</th><th scope="col">"Requests"</th><th scope="col">"Success"</th><th scope="col">"p99"</th></tr></thead>
                    <tbody>{routes.into_iter().map(row).collect_view()}</tbody>
                </table>
            </div>
        }
        .into_any()
    }
}

fn golden_cells(golden: &Golden) -> impl IntoView + use<> {
    view! {
        <td>{format::rate(golden.rate_per_s).text()}</td>
        <td class=words::success_class(golden)>{format::share(golden.success).text()}</td>
        <td>{format::latency(golden.p99_ms).text()}</td>
    }
}

fn traces(data: Data) -> impl IntoView {
    let traces = part(data, |d| d.traces.clone());
    view! {
        <TraceLines traces=traces/>
        {move || traces.with(Vec::is_empty).then(|| view! { <p class="quiet">"No trace was sampled here yet."</p> })}
    }
}

/// What policy did to the requests that arrived.
fn policy(data: Data) -> impl IntoView {
    let identity = part(data, |d| d.identity.clone());
    let stats = part(data, |d| d.authorizations.clone());
    let row = |stat: AuthorizationStat| {
        let count = |n: u64| if n == 0 { format::NONE.to_owned() } else { format::thousands(n) };
        let client = stat.client.unwrap_or_else(|| "without identity".into());
        view! {
            <tr>
                <th scope="row" class="wrap"><code>{stat.policy}</code></th>
                <td class="text wrap" title=client.clone()>{format::short_identity(&client).to_owned()}</td>
                <td>{count(stat.allowed)}</td>
                <td class=if stat.denied == 0 { "" } else { "bad" }>{count(stat.denied)}</td>
                <td class=if stat.audited == 0 { "" } else { "warn" }>{count(stat.audited)}</td>
            </tr>
        }
    };
    let table = move || {
        let stats = stats.get();
        if stats.is_empty() {
            return nothing("No request was judged in this window.");
        }
        view! {
            <div class="scroll" tabindex="0" role="region" aria-label="Policy">
                <table class="table">
                    <thead><tr><th scope="col">"Policy"</th><th scope="col" class="text">"Client"</th><th scope="col">"Allowed"</th><th scope="col">"Denied"</th><th scope="col">"Audited"</th></tr></thead>
                    <tbody>{stats.into_iter().map(row).collect_view()}</tbody>
                </table>
            </div>
        }
        .into_any()
    };
    view! {
        <dl class="facts inside"><dt>"identity"</dt><dd><code>{move || identity.get().unwrap_or_else(|| "none".into())}</code></dd></dl>
        {table}
    }
}

/// Who may call, and why: the policy as configured, whether or not anybody called.
fn verdicts(authz: RwSignal<Option<AuthzList>>) -> impl IntoView {
    let rows = Memo::new(move |_| authz.with(|list| list.as_ref().map(|list| list.rows.clone())));
    let row = |row: AuthzRow| {
        let (health, word) = match row.verdict {
            Verdict::Allowed => (Health::Healthy, "allowed"),
            Verdict::Denied => (Health::Failing, "denied"),
            Verdict::Audited => (Health::Degraded, "audited"),
        };
        let route = if row.route.is_empty() { String::new() } else { format!(" {}", row.route) };
        view! {
            <tr>
                <th scope="row">{row.client}</th>
                <td>{row.port}{route}</td>
                <td class="text"><span class="verdict"><Glyph health=health quiet=true/>{word}</span></td>
                <td class="text wrap"><code>{row.policy}</code>" "<span class="quiet">{row.why}</span></td>
            </tr>
        }
    };
    move || {
        match rows.get() {
        None => view! { <p class="none">"Asking…"</p> }.into_any(),
        Some(rows) if rows.is_empty() => nothing("Nothing is known of its ports."),
        Some(rows) => view! {
            <div class="scroll" tabindex="0" role="region" aria-label="Who may call it">
                <table class="table">
                    <thead><tr><th scope="col">"Client"</th><th scope="col">"Port"</th><th scope="col" class="text">"Verdict"</th><th scope="col" class="text">"Policy"</th></tr></thead>
                    <tbody>{rows.into_iter().map(row).collect_view()}</tbody>
                </table>
            </div>
        }
        .into_any(),
    }
    }
}

fn pods(pods: Memo<Vec<Pod>>) -> impl IntoView {
    let row = |pod: Pod| {
        let seen = match pod.last_seen_ms {
            None => format::NONE.into(),
            Some(ms) if ms < 2_000 => "now".into(),
            Some(ms) => format!("{} ago", format::lifetime(Some(ms / 1_000)).text()),
        };
        let short = pod.certificate_left_s.is_some_and(|left| left < 3_600);
        view! {
            <tr>
                <th scope="row">{pod.name}</th>
                <td>{pod.ip}</td>
                <td>{pod.proxy_version.unwrap_or_else(|| if pod.meshed { "not connected" } else { "not meshed" }.into())}</td>
                <td class=if short { "warn" } else { "" }>{format::lifetime(pod.certificate_left_s).text()}</td>
                <td>{pod.proxy_memory_bytes.map_or(format::NONE.into(), |bytes| format::bytes(bytes as f64))}</td>
                <td>{seen}</td>
            </tr>
        }
    };
    move || {
        let pods = pods.get();
        if pods.is_empty() {
            return nothing("No pod.");
        }
        view! {
            <div class="scroll" tabindex="0" role="region" aria-label="Pods">
                <table class="table">
                    <thead><tr><th scope="col">"Pod"</th><th scope="col">"Address"</th><th scope="col">"Proxy"</th><th scope="col">"Certificate left"</th><th scope="col">"Proxy memory"</th><th scope="col">"Last report"</th></tr></thead>
                    <tbody>{pods.into_iter().map(row).collect_view()}</tbody>
                </table>
            </div>
        }
        .into_any()
    }
}
