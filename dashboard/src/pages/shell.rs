//! Top bar, navigation and banners, and the few figures they show on each page.

use crate::{
    api::{
        feed::{Feed, Link},
        fetch,
    },
    clock::{Clock, time_of_day},
    find::Find,
    format,
    navigate::{self, use_nav},
    parts::glyph::{Icon, Logo},
    place::Page,
    theme::Theme,
};
use leptos::{ev, html, prelude::*};
use mesh_api::{
    check::{CheckList, Outcome},
    golden::Window,
    overview::Overview,
};
use wasm_bindgen::JsCast;

/// What navigation, pickers and empty pages need to know, whichever page is shown.
#[derive(Clone, Copy)]
pub struct Summary {
    pub overview: RwSignal<Option<Overview>>,
    pub checks: RwSignal<Option<CheckList>>,
}

impl Summary {
    pub fn start(nav: navigate::Nav) -> Summary {
        let window = move || nav.place().window().as_str();
        let overview = fetch::asked(5, move || Some(format!("api/v1/overview?window={}", window()))).answer;
        let checks = fetch::asked(5, || Some("api/v1/checks".into())).answer;
        Summary { overview, checks }
    }

    /// Every namespace with a workload, in order.
    fn namespaces(self) -> Vec<String> {
        let mut names: Vec<String> = self.overview.with(|overview| {
            let workloads = overview.iter().flat_map(|overview| &overview.workloads);
            workloads.map(|row| row.namespace.clone()).filter(|ns| !ns.is_empty()).collect()
        });
        names.sort();
        names.dedup();
        names
    }
}

#[component]
pub fn TopBar(find: NodeRef<html::Input>) -> impl IntoView {
    let nav = use_nav();
    view! {
        <header class="top">
            <a class="logo" href=move || nav.href(Page::Overview) aria-label="Mesh, overview"><Logo/><span>"Mesh"</span></a>
            <NamespacePicker/>
            <WindowPicker/>
            <LiveButton/>
            <FindField field=find/>
            <ThemeButton/>
        </header>
    }
}

#[component]
fn NamespacePicker() -> impl IntoView {
    let nav = use_nav();
    let summary: Summary = expect_context();
    let chosen = nav.param("ns");
    let names = Memo::new(move |_| {
        let mut names = summary.namespaces();
        let chosen = chosen.get().unwrap_or_default();
        if !chosen.is_empty() && !names.contains(&chosen) {
            names.push(chosen);
        }
        names
    });
    let options = move || {
        let option = |ns: String| {
            let selected = chosen.get_untracked().as_deref() == Some(ns.as_str());
            view! { <option value=ns.clone() selected=selected>{ns.clone()}</option> }
        };
        names.get().into_iter().map(option).collect_view()
    };
    view! {
        <label class="pick">
            <span class="dim">"Namespace"</span>
            <select
                aria-label="Namespace"
                prop:value=move || chosen.get().unwrap_or_default()
                on:change=move |event| nav.set("ns", event_target_value(&event))
            >
                <option value="" selected=move || chosen.get().is_none()>"all"</option>
                {options}
            </select>
        </label>
    }
}

#[component]
fn WindowPicker() -> impl IntoView {
    let nav = use_nav();
    let window = Memo::new(move |_| nav.place().window());
    let button = move |choice: Window| {
        let value = if choice == Window::Min1 { "" } else { choice.as_str() };
        view! {
            <button aria-pressed=move || (window.get() == choice).to_string() on:click=move |_| nav.set("window", value)>
                {format::window(choice)}
            </button>
        }
    };
    view! { <span class="seg" role="group" aria-label="Window">{Window::ALL.map(button).into_iter().collect_view()}</span> }
}

/// Says whether the figures are live, and stops or starts them.
#[component]
pub fn LiveButton() -> impl IntoView {
    let feed: Feed = expect_context();
    let dot = move || match (feed.paused.get(), feed.link.get()) {
        (true, _) => "live-dot off",
        (false, Link::Lost { .. } | Link::Refused(_)) => "live-dot lost",
        (false, Link::Live) => "live-dot",
        (false, Link::Idle | Link::Connecting) => "live-dot off",
    };
    let word = move || match (feed.paused.get(), feed.link.get()) {
        (true, _) => "Paused",
        (false, Link::Live) => "Live, 1 s",
        (false, Link::Lost { .. }) => "Stream lost",
        (false, Link::Refused(_)) => "No data",
        (false, Link::Connecting) => "Connecting",
        (false, Link::Idle) => "Not live",
    };
    let title = move || if feed.paused.get() { "Go on with live figures" } else { "Pause" };
    view! {
        <button class="live" title=title aria-pressed=move || feed.paused.get().to_string() on:click=move |_| feed.paused.update(|paused| *paused = !*paused)>
            <i class=dot></i><span>{word}</span>
        </button>
    }
}

/// The find expression lives in the URL; a mistake is shown where it is.
#[component]
fn FindField(field: NodeRef<html::Input>) -> impl IntoView {
    let nav = use_nav();
    let text = nav.param("q");
    let mistake = move || text.get().and_then(|text| Find::parse(&text).err().map(|mistake| (text, mistake)));
    let clear = move |event: ev::KeyboardEvent| {
        if event.key() == "Escape" {
            nav.replace(nav.place_now().with("q", ""));
            if let Some(field) = field.get_untracked() {
                let _ = field.blur();
            }
        }
    };
    view! {
        <div class="find" role="search">
            <input
                type="text"
                node_ref=field
                aria-label="Find"
                aria-invalid=move || mistake().is_some().to_string()
                aria-describedby="find-error"
                autocomplete="off"
                spellcheck="false"
                placeholder="Find: name, rps>5, health=failing"
                prop:value=move || text.get().unwrap_or_default()
                on:input=move |event| nav.replace(nav.place_now().with("q", event_target_value(&event)))
                on:keydown=clear
            />
            <kbd aria-hidden="true">"/"</kbd>
            <span id="find-error" role="status">
                {move || mistake().map(|(text, mistake)| {
                    let (before, after): (String, String) = (text.chars().take(mistake.at).collect(), text.chars().skip(mistake.at).collect());
                    view! { <span class="find-error"><code>{before}<b class="bad">"▸"</b>{after}</code>" "{mistake.message}</span> }
                })}
            </span>
        </div>
    }
}

/// `/` goes to the find field, from wherever no text is typed.
pub fn listen_for_slash(field: NodeRef<html::Input>) {
    window_event_listener(ev::keydown, move |event| {
        let typing = event
            .target()
            .and_then(|target| target.dyn_into::<web_sys::Element>().ok())
            .is_some_and(|element| matches!(element.tag_name().as_str(), "INPUT" | "SELECT" | "TEXTAREA"));
        if event.key() != "/" || typing || event.ctrl_key() || event.meta_key() || event.alt_key() {
            return;
        }
        if let Some(field) = field.get_untracked() {
            event.prevent_default();
            let _ = field.focus();
            field.select();
        }
    });
}

#[component]
fn ThemeButton() -> impl IntoView {
    let theme = RwSignal::new(Theme::load());
    let turn = move |_| {
        theme.update(|theme| *theme = theme.next());
        theme.get_untracked().apply();
    };
    let label = move || format!("Colours: {}. Change to {}", theme.get().word(), theme.get().next().word());
    let drawing = move || match theme.get() {
        Theme::System => view! { <Icon path="M8 2a6 6 0 1 0 0 12zM8 2a6 6 0 0 1 0 12M8 4v8"/> },
        Theme::Light => {
            view! { <Icon path="M8 5a3 3 0 1 0 0 6a3 3 0 0 0 0-6M8 1v2M8 13v2M1 8h2M13 8h2M3 3l1.5 1.5M11.500 11.500L13 13M3 13l1.500-1.500M11.500 4.500L13 3"/> }
        }
        Theme::Dark => view! { <Icon path="M13.500 9.500A6 6 0 1 1 6.500 2.500a5 5 0 0 0 7 7z"/> },
    };
    view! { <button class="pick icon-button" title=label aria-label=label on:click=turn>{drawing}</button> }
}

#[component]
pub fn Nav() -> impl IntoView {
    let nav = use_nav();
    let summary: Summary = expect_context();
    let entry = move |page: Page, word: &'static str, icon: &'static str, badge: AnyView| {
        let (shown, here) = (nav.page(), page.clone());
        let current = move || shown.with(|shown| section(shown) == section(&here)).then_some("page");
        view! {
            <a href=move || nav.href(page.clone()) aria-current=current title=word>
                <Icon path=icon/><span>{word}</span>{badge}
            </a>
        }
    };
    let attention = move || {
        let count = summary.overview.with(|o| o.as_ref().map_or(0, |o| o.attention.len()));
        (count > 0).then(|| view! { <em title="need attention">{count}<span class="hidden-text">" need attention"</span></em> })
    };
    let problems = move || {
        let (fails, warns) = summary.checks.with(|list| {
            let of = |outcome| {
                list.iter().flat_map(|list| &list.checks).filter(|check| check.outcome == outcome).count()
            };
            (of(Outcome::Fail), of(Outcome::Warn))
        });
        let class = if fails > 0 { "" } else { "warn" };
        (fails + warns > 0).then(|| view! { <em class=class title="problems">{fails + warns}<span class="hidden-text">" problems"</span></em> })
    };
    let footer = move || {
        summary.overview.with(|overview| {
            overview.as_ref().map(|o| {
                view! {
                    "Mesh " {o.version.clone()} " · cluster " <b>{o.cluster.clone()}</b> <br/>
                    {format::count(o.workloads.len() as u64, "workload")} ", " {o.proxies} {if o.proxies == 1 { " proxy" } else { " proxies" }} <br/>
                    "Trust anchor: " {format::lifetime(o.trust_anchor_s).text()}
                }
            })
        })
    };
    view! {
        <nav class="nav" aria-label="Main">
            {entry(Page::Overview, "Overview", "M2 2h5v5H2zM9 2h5v5H9zM2 9h5v5H2zM9 9h5v5H9z", attention.into_any())}
            {entry(Page::Graph, "Graph", "M4 4l8 4-8 4zM3 4a1 1 0 1 0 2 0 1 1 0 1 0-2 0M11 8a1 1 0 1 0 2 0 1 1 0 1 0-2 0M3 12a1 1 0 1 0 2 0 1 1 0 1 0-2 0", ().into_any())}
            {entry(Page::Workloads, "Workloads", "M2 5l6-3 6 3v6l-6 3-6-3zM2 5l6 3 6-3M8 8v6", ().into_any())}
            {entry(Page::Routes, "Routes", "M2 8h5l5-5M7 8l5 5M10 3h2v2M10 13h2v-2", ().into_any())}
            {entry(Page::Traces, "Traces", "M2 3h9M4 7h8M6 11h5", ().into_any())}
            {entry(Page::Checks, "Checks", "M3 8l3 3 7-7", problems.into_any())}
            <footer>{footer}</footer>
        </nav>
    }
}

/// Which entry of the navigation a page belongs to.
fn section(page: &Page) -> &'static str {
    match page {
        Page::Overview => "overview",
        Page::Graph => "graph",
        Page::Workloads | Page::Workload { .. } => "workloads",
        Page::Routes => "routes",
        Page::Traces | Page::Trace(_) => "traces",
        Page::Checks => "checks",
        Page::Missing(_) => "",
    }
}

/// Lines between top bar and page, for what concerns all that is shown below them.
#[component]
pub fn Bars() -> impl IntoView {
    let feed: Feed = expect_context();
    let clock: Clock = expect_context();
    let shown = move || match (feed.data_at_ms.get(), feed.link.get()) {
        (Some(at), _) => format!("Showing data of {}", time_of_day(at)),
        (None, _) => "The operator does not answer".into(),
    };
    let kind = Memo::new(move |_| std::mem::discriminant(&feed.link.get()));
    let line = move || {
        kind.get();
        match feed.link.get_untracked() {
            Link::Lost { .. } => {
                let retry = move || match feed.link.get() {
                    Link::Lost { retry_at_ms } => {
                        let left_s = ((retry_at_ms - clock.now_ms()) / 1_000.0).ceil().max(0.0);
                        if left_s < 1.0 { ", retrying".into() } else { format!(", retry in {left_s:.0} s") }
                    }
                    Link::Idle | Link::Connecting | Link::Live | Link::Refused(_) => String::new(),
                };
                view! {
                    <div class="bar-line lost">
                        <span><span role="status">"Stream lost. " {shown}</span>{retry}</span>
                        <button class="pick push" on:click=move |_| feed.retry_now()>"Retry now"</button>
                    </div>
                }
                .into_any()
            }
            Link::Refused(why) if feed.data_at_ms.get_untracked().is_some() => {
                view! { <div class="bar-line lost" role="status">{shown} ". " {why}</div> }.into_any()
            }
            Link::Idle | Link::Connecting | Link::Live | Link::Refused(_) => ().into_any(),
        }
    };
    let outdated = move || {
        feed.outdated.get().then(|| {
            view! {
                <div class="bar-line" role="status">
                    "The operator was updated; this page is older than it."
                    <button class="pick push" on:click=move |_| { let _ = window().location().reload(); }>"Reload"</button>
                </div>
            }
        })
    };
    view! { <div class="bars">{outdated}{line}</div> }
}

/// "bookinfo, last minute": what a page's figures are about.
pub fn scope(nav: navigate::Nav) -> String {
    let place = nav.place();
    let namespaces = if place.namespace().is_empty() { "all namespaces" } else { place.namespace() };
    format!("{namespaces}, {}", format::window_words(place.window()))
}

/// The class for what is shown while the stream is lost: grey, but never blank.
pub fn stale(feed: Feed) -> &'static str {
    if matches!(feed.link.get(), Link::Lost { .. }) { "stale" } else { "" }
}

/// The find expression as it applies to lists: a mistake hides nothing.
pub fn use_find() -> Memo<Find> {
    let text = use_nav().param("q");
    Memo::new(move |_| {
        text.with(|text| Find::parse(text.as_deref().unwrap_or("")).unwrap_or(Find::Everything))
    })
}
