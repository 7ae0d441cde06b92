//! What stands where there is nothing to show: loading, refused, or which step is missing.

use crate::{
    api::feed::{Feed, Link},
    format,
    pages::shell::Summary,
};
use leptos::prelude::*;

/// Instead of a page's content until its first data.
#[component]
pub fn Waiting() -> impl IntoView {
    let feed: Feed = expect_context();
    move || match feed.link.get() {
        Link::Refused(why) => view! {
            <div class="empty"><h2>"The operator has no answer for this page"</h2><p>{why}</p></div>
        }
        .into_any(),
        Link::Idle | Link::Connecting | Link::Live | Link::Lost { .. } => view! {
            <div class="skeleton" role="status" aria-label="Loading">
                <div class="bone bone-row"></div><div class="bone bone-box"></div>
            </div>
        }
        .into_any(),
    }
}

/// Instead of traffic: the first step on the way to it that is missing.
#[component]
pub fn NoTraffic() -> impl IntoView {
    let summary: Summary = expect_context();
    move || {
        let known = summary.overview.with(|o| o.as_ref().map(|o| (o.proxies_expected, o.proxies)));
        match known {
            None => view! { <Waiting/> }.into_any(),
            Some((0, _)) => view! {
                <div class="empty">
                    <h2>"No pod is in the mesh yet"</h2>
                    <p>"Annotate a namespace with " <code>"mesh.dev/inject: enabled"</code> ", and restart its pods."</p>
                </div>
            }
            .into_any(),
            Some((expected, 0)) => view! {
                <div class="empty">
                    <h2>"No proxy has reported yet"</h2>
                    <p>
                        {format::count(expected.into(), "pod")} " should have one. "
                        "Look at a proxy's log, or run " <code>"mesh check"</code> "."
                    </p>
                </div>
            }
            .into_any(),
            Some((expected, proxies)) => view! {
                <div class="empty">
                    <h2>"No request yet"</h2>
                    <p>
                        {format!("{proxies} of {expected} proxies are connected. ")}
                        "The first request through the mesh appears here within a second."
                    </p>
                </div>
            }
            .into_any(),
        }
    }
}
