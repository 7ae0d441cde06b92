//! Item 12: every page of the dashboard in real Chromium, on the running demo.

use mesh_api::trace::TraceList;
use mesh_tests::{
    browser::{self, Browser},
    client,
    demo::Demo,
    relay::Relay,
    stock,
    story::run,
    wait::{self, SOON},
};
use std::time::Duration;

const BASE: &str = "http://127.0.0.1:8084";

/// A browser on two busy cores.
const PATIENCE: Duration = Duration::from_secs(40);

/// The demo with traffic, and with the dashboard that `cargo xtask dashboard` built.
async fn demo() -> Demo {
    let demo = Demo::start(&[]).await;
    let page = client::get(Demo::HTTP, "/").await.expect("the operator serves the dashboard");
    let html = String::from_utf8_lossy(page.body()).into_owned();
    assert!(
        html.contains("id=\"app\""),
        "this operator was built without the dashboard: run `cargo xtask dashboard` first\n{html}"
    );
    demo
}

/// Path, and words that the page shows once it has data.
fn pages(trace: &str) -> Vec<(String, Vec<&'static str>)> {
    vec![
        ("/".into(), vec!["productpage", "ratings"]),
        ("/graph?ns=bookinfo".into(), vec!["productpage", "reviews", "ratings"]),
        ("/workloads".into(), vec!["productpage", "details", "ratings"]),
        ("/ns/bookinfo/workloads/reviews-v2".into(), vec!["reviews-v2", "ratings"]),
        ("/routes".into(), vec!["reviews-v1", "reviews-v2", "reviews-v3"]),
        ("/traces".into(), vec!["GET /productpage"]),
        (format!("/traces/{trace}"), vec!["GET /productpage", "GET /details/0", "GET /reviews/0"]),
        ("/checks".into(), vec!["manifest"]),
    ]
}

async fn a_trace() -> String {
    wait::until("a trace of the page", PATIENCE, async || {
        let list: TraceList = mesh_tests::mesh::api(Demo::HTTP, "/api/v1/traces")
            .await
            .map_err(|error| format!("{error:#}"))?;
        let whole = list.traces.iter().find(|trace| trace.name == "GET /productpage" && trace.spans >= 6);
        whole.map(|trace| trace.id.clone()).ok_or_else(|| format!("{} traces", list.traces.len()))
    })
    .await
}

/// Opens a page and waits until it shows these words, in any case.
async fn open(browser: &Browser, path: &str, words: &[&str]) -> String {
    browser.goto(&format!("{BASE}{path}")).await;
    browser
        .shows(path, PATIENCE, |text| {
            let text = text.to_lowercase();
            words.iter().all(|word| text.contains(&word.to_lowercase()))
        })
        .await
}

#[test]
fn every_page_shows_its_data_without_a_complaint_and_survives_a_reload() {
    run(async || {
        let _demo = demo().await;
        let trace = a_trace().await;
        browser::with(1280, 900, async |browser| {
            for (path, words) in pages(&trace) {
                open(browser, &path, &words).await;
                let before = browser.client.current_url().await.unwrap().to_string();
                browser.client.refresh().await.unwrap();
                browser
                    .shows(&format!("{path} after a reload"), PATIENCE, |text| {
                        words.iter().all(|word| text.to_lowercase().contains(&word.to_lowercase()))
                    })
                    .await;
                assert_eq!(browser.client.current_url().await.unwrap().to_string(), before);
                assert_eq!(browser.complaints().await, Vec::<String>::new(), "console of {path}");
            }
        })
        .await;
    });
}

#[test]
fn axe_finds_nothing_serious_on_any_page_in_either_scheme() {
    stock::node();
    run(async || {
        let _demo = demo().await;
        let trace = a_trace().await;
        browser::with(1280, 900, async |browser| {
            let mut found = vec![];
            for scheme in ["light", "dark"] {
                browser.scheme(scheme).await;
                for (path, words) in pages(&trace) {
                    open(browser, &path, &words).await;
                    for finding in browser.axe().await {
                        found.push(format!("{path} ({scheme}): {finding}"));
                    }
                }
            }
            assert!(found.is_empty(), "{}", found.join("\n"));
        })
        .await;
    });
}

#[test]
fn figures_change_while_one_looks() {
    run(async || {
        let _demo = demo().await;
        browser::with(1280, 900, async |browser| {
            let first = open(browser, "/workloads", &["productpage"]).await;
            browser.shows("other figures", SOON, |text| text != first).await;
            assert_eq!(browser.complaints().await, Vec::<String>::new());
        })
        .await;
    });
}

#[test]
fn a_phone_can_show_every_page_without_scrolling_sideways() {
    run(async || {
        let _demo = demo().await;
        let trace = a_trace().await;
        browser::with(500, 800, async |browser| {
            browser.viewport(375, 800).await;
            let mut wide = vec![];
            for (path, words) in pages(&trace) {
                browser.goto(&format!("{BASE}{path}")).await;
                browser
                    .shows(&path, PATIENCE, |text| text.to_lowercase().contains(&words[0].to_lowercase()))
                    .await;
                let beyond = browser
                    .js("return document.documentElement.scrollWidth - document.documentElement.clientWidth")
                    .await;
                if beyond.as_i64().unwrap_or(0) > 0 {
                    wide.push(format!("{path} is {beyond} px too wide"));
                }
            }
            assert!(wide.is_empty(), "{}", wide.join("; "));
        })
        .await;
    });
}

#[test]
fn a_cut_stream_shows_the_banner_keeps_the_figures_and_recovers() {
    run(async || {
        let _demo = demo().await;
        let relay = Relay::start("127.0.0.1:18084".parse().unwrap(), Demo::HTTP).await;
        browser::with(1280, 900, async |browser| {
            browser.goto("http://127.0.0.1:18084/workloads").await;
            browser.shows("the page", PATIENCE, |text| text.contains("productpage")).await;
            relay.refuse(true);
            let cut = browser.shows("the banner", PATIENCE, |text| text.contains("Stream lost")).await;
            assert!(cut.contains("productpage"), "the figures are gone: {cut}");
            relay.refuse(false);
            browser
                .shows("recovery", PATIENCE, |text| {
                    !text.contains("Stream lost") && text.contains("productpage")
                })
                .await;
        })
        .await;
    });
}

#[test]
fn a_broken_manifest_is_told_on_the_checks_page_and_forgotten_when_mended() {
    run(async || {
        let demo = demo().await;
        browser::with(1280, 900, async |browser| {
            open(browser, "/checks", &["manifest"]).await;
            let routes = demo.manifests().read("routes.yaml");
            demo.manifests().save("routes.yaml", "kind: [\n");
            browser.shows("the file's name", PATIENCE, |text| text.contains("routes.yaml")).await;
            demo.manifests().save("routes.yaml", &routes);
            browser.shows("the page without it", PATIENCE, |text| !text.contains("routes.yaml")).await;
        })
        .await;
    });
}

#[test]
fn a_trace_opens_as_a_waterfall_with_the_whole_tree() {
    run(async || {
        let _demo = demo().await;
        let trace = a_trace().await;
        browser::with(1280, 900, async |browser| {
            let text = open(
                browser,
                &format!("/traces/{trace}"),
                &["GET /productpage", "GET /details/0", "GET /reviews/0"],
            )
            .await;
            for workload in ["traffic", "productpage-v1", "details-v1", "reviews-v"] {
                assert!(text.contains(workload), "{workload} is not in the waterfall: {text}");
            }
        })
        .await;
    });
}

#[test]
fn a_denied_call_is_shown_with_the_policy_that_denied_it() {
    run(async || {
        let demo = demo().await;
        for _ in 0..5 {
            demo.get("productpage-v1", "ratings:9080/ratings/0").await.is(403);
        }
        browser::with(1280, 900, async |browser| {
            let page = "/ns/bookinfo/workloads/ratings-v1";
            open(browser, page, &["ratings-v1", "AuthorizationPolicy", "denied"]).await;
        })
        .await;
    });
}
