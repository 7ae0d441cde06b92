//! Item 12: every page of the dashboard in real Chromium, on the running demo.

use fantoccini::key::Key;
use mesh_api::{graph::Graph, trace::TraceList};
use mesh_tests::{
    browser::{self, Browser},
    client,
    demo::Demo,
    relay::Relay,
    stock,
    story::run,
    wait,
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
            for page in
                ["/", "/graph?ns=bookinfo", "/workloads", "/ns/bookinfo/workloads/reviews-v2", "/routes"]
            {
                open(browser, page, &["reviews"]).await;
                let first = figures(&browser.text_of("main").await);
                browser.part("main", PATIENCE, |text| figures(text) != first).await;
                assert_eq!(browser.complaints().await, Vec::<String>::new(), "console of {page}");
            }
        })
        .await;
    });
}

/// The latencies of a text, which never stand still while there is traffic.
fn figures(text: &str) -> Vec<String> {
    let words: Vec<&str> = text.split_whitespace().collect();
    words.windows(2).filter(|pair| pair[1].starts_with("ms")).map(|pair| pair[0].to_owned()).collect()
}

/// The panel's text once it has everything that explains an edge.
async fn edge_panel(browser: &Browser) -> String {
    browser
        .part("aside.panel", PATIENCE, |text| {
            ["productpage", "details", "mutual TLS", "bookinfo-productpage", "bookinfo-details", "allowed by"]
                .iter()
                .all(|word| text.contains(word))
        })
        .await
}

#[test]
fn a_link_to_an_edge_opens_its_panel_with_identities_policy_history_and_traces_again_and_again() {
    run(async || {
        let demo = demo().await;
        a_trace().await;
        let graph: Graph = demo.api("/api/v1/graph?ns=bookinfo").await;
        let edge = graph
            .topology
            .edges
            .iter()
            .find(|edge| edge.from.ends_with("/productpage-v1") && edge.to.ends_with("/details-v1"));
        let id = edge.unwrap_or_else(|| panic!("{:?}", graph.topology.edges)).id.replace('>', "%3E");
        browser::with(1280, 900, async |browser| {
            browser.goto(&format!("{BASE}/graph?ns=bookinfo&window=5m&sel={id}")).await;
            edge_panel(browser).await;
            let charts =
                "return document.querySelectorAll('aside.panel svg path, aside.panel canvas').length";
            assert!(browser.js(charts).await.as_u64() > Some(0), "no chart in the panel");
            browser.part("aside.panel", PATIENCE, |text| text.contains("GET /")).await;
            let before = browser.client.current_url().await.unwrap();
            browser.client.refresh().await.unwrap();
            edge_panel(browser).await;
            assert_eq!(browser.client.current_url().await.unwrap(), before);
            assert!(before.as_str().contains("window=5m") && before.as_str().contains("sel="), "{before}");

            // The same as a table, with the same panel beside it.
            browser.goto(&format!("{BASE}/graph?ns=bookinfo&view=table&sel={id}")).await;
            edge_panel(browser).await;
            wait::until("the edge's row", PATIENCE, async || {
                let rows = browser.rows("Edges").await;
                let row =
                    rows.iter().find(|row| row[0].contains("productpage") && row[0].contains("details"));
                match row {
                    Some(row) if row.iter().any(|cell| cell.starts_with("100")) => Ok(()),
                    _ => Err(format!("{rows:?}")),
                }
            })
            .await;
            assert_eq!(browser.complaints().await, Vec::<String>::new());
        })
        .await;
    });
}

#[test]
fn the_keyboard_alone_reaches_an_edges_details_and_comes_back() {
    run(async || {
        let _demo = demo().await;
        browser::with(1280, 900, async |browser| {
            open(browser, "/graph?ns=bookinfo", &["productpage", "details", "ratings"]).await;
            browser.press_until(Key::Tab, "svg .node", 60).await;
            let at = async || browser.js("return document.activeElement.id").await;
            // A node has callers on its left or is the first caller of all.
            let first = at().await;
            browser.press(Key::Left).await;
            if at().await == first {
                browser.press(Key::Right).await;
            }
            let second = at().await;
            assert_ne!(first, second, "an arrow key follows an edge");
            browser.press(Key::Enter).await;
            browser.part("aside.panel", PATIENCE, |text| text.contains("Calls")).await;
            browser.press_until(Key::Tab, "aside.panel td button", 10).await;
            browser.press(Key::Enter).await;
            browser.part("aside.panel", PATIENCE, |text| text.contains("selected edge")).await;
            browser.press(Key::Escape).await;
            wait::until("the panel to close and the node to have the focus again", PATIENCE, async || {
                let open = browser.text_of("aside.panel").await;
                let at = browser.js("return document.activeElement.id").await;
                if open.is_empty() && at == second { Ok(()) } else { Err(format!("{at} {open}")) }
            })
            .await;
        })
        .await;
    });
}

#[test]
fn routes_show_the_share_that_was_wanted_beside_the_one_that_is_seen_and_what_is_left_out() {
    run(async || {
        let demo = demo().await;
        browser::with(1280, 900, async |browser| {
            open(browser, "/routes", &["reviews-v1"]).await;
            for wanted in ["50", "30", "20"] {
                browser
                    .part("main", PATIENCE, |text| {
                        let after =
                            text.split_once(&format!("wanted {wanted} % / seen ")).map(|(_, rest)| rest);
                        after.is_some_and(|rest| rest.starts_with(|first: char| first.is_ascii_digit()))
                    })
                    .await;
            }
            let routes = demo.manifests().read("routes.yaml") + "  - matches: [{ method: BREW }]\n";
            demo.manifests().save("routes.yaml", &routes);
            browser
                .part("main", PATIENCE, |text| {
                    ["PartiallyInvalid is true", "BREW"].iter().all(|word| text.contains(word))
                })
                .await;
        })
        .await;
    });
}

#[test]
fn what_is_not_there_is_said_in_a_sentence() {
    run(async || {
        // Not `start`, whose look at the page would be traffic.
        let mut demo = Demo::spawn(&["--no-traffic"]);
        demo.process.says("Ctrl-C ends everything", PATIENCE).await;
        browser::with(1280, 900, async |browser| {
            for (path, words) in [
                ("/graph?ns=bookinfo", vec!["ratings", "no requests"]),
                ("/graph?ns=absent", vec!["No request yet"]),
                ("/ns/bookinfo/workloads/absent", vec!["no answer for this page", "absent"]),
                ("/traces/00000000000000000000000000000001", vec!["00000000000000000000000000000001"]),
                ("/no/such/page", vec!["No such page"]),
            ] {
                open(browser, path, &words).await;
            }
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
            let recovered = browser
                .shows("recovery", PATIENCE, |text| {
                    !text.contains("Stream lost") && text.contains("productpage")
                })
                .await;
            browser
                .shows("figures that move again", PATIENCE, |text| figures(text) != figures(&recovered))
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
            // On its second line, which is the first document's.
            demo.manifests().save("routes.yaml", "kind: HTTPRoute\nmetadata: [\n");
            browser
                .shows("file, line, document and reason", PATIENCE, |text| {
                    ["routes.yaml:2", "document 1", "expected mapping"].iter().all(|word| text.contains(word))
                })
                .await;
            // Meanwhile the last good version counts.
            demo.get("productpage-v1", "reviews:9080/reviews/0").await.is(200);
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
            open(browser, "/ns/bookinfo/workloads/ratings-v1", &["ratings-v1"]).await;
            wait::until("the denials with their policy and client", PATIENCE, async || {
                let rows = browser.rows("Policy").await;
                let denied = rows.iter().any(|row| match &row[..] {
                    [policy, client, _allowed, denied, _audited] => {
                        policy.contains("bookinfo/ratings")
                            && client.contains("bookinfo-productpage")
                            && denied.parse().is_ok_and(|count: u32| count >= 5)
                    }
                    _ => false,
                });
                if denied { Ok(()) } else { Err(format!("{rows:?}")) }
            })
            .await;
        })
        .await;
    });
}
