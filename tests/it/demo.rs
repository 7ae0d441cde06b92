//! Item 1 and the demo's manners: one command starts everything, shows it, and leaves nothing behind.

use mesh_api::{graph::Graph, overview::Overview};
use mesh_tests::{
    binaries,
    capture::Capture,
    client,
    demo::Demo,
    mesh::{self, Operator},
    process::Start,
    story::{run, run_alone},
    wait::{self, SOON},
};
use rustix::process::Signal;
use std::{
    fs,
    time::{Duration, Instant},
};

/// Starting everything on a busy machine.
const START: Duration = Duration::from_secs(90);

const EDGES: [(&str, &str); 7] = [
    ("traffic", "productpage-v1"),
    ("productpage-v1", "details-v1"),
    ("productpage-v1", "reviews-v1"),
    ("productpage-v1", "reviews-v2"),
    ("productpage-v1", "reviews-v3"),
    ("reviews-v2", "ratings-v1"),
    ("reviews-v3", "ratings-v1"),
];

/// Workloads that call each other in a graph, a Service between them left out, with success and mTLS shares of the worse half.
fn calls(graph: &Graph) -> Vec<(String, String, f64, f64)> {
    let name = |id: &str| id.rsplit('/').next().unwrap_or(id).to_owned();
    let edges: Vec<_> = graph.topology.edges.iter().zip(&graph.metrics.edges).collect();
    let share = |share: Option<f64>| share.unwrap_or(f64::NAN);
    let mut calls = vec![];
    for (edge, metrics) in edges.iter().filter(|(_, metrics)| metrics.golden.requests > 0) {
        if !edge.to.starts_with("s:") {
            if edge.from.starts_with("w:") {
                calls.push((
                    name(&edge.from),
                    name(&edge.to),
                    share(metrics.golden.success),
                    share(metrics.mtls),
                ));
            }
            continue;
        }
        for (to, half) in edges.iter().filter(|(to, _)| to.from == edge.to) {
            let worse = |a: Option<f64>, b: Option<f64>| share(a).min(share(b));
            let success = worse(metrics.golden.success, half.golden.success);
            calls.push((name(&edge.from), name(&to.to), success, worse(metrics.mtls, half.mtls)));
        }
    }
    calls
}

#[test]
fn until_ready_shows_every_edge_over_mutual_tls_and_exits() {
    run(async || {
        let mut demo = Demo::spawn(&["--until-ready"]);
        let status = demo.process.exit(START).await;
        let log = demo.process.log();
        assert!(status.success(), "{log}");
        let rows = edges_table(&log);
        for (from, to) in EDGES {
            // Where the graph draws a Service between them, each half is a row.
            let direct = rows.iter().filter(|row| row[0] == from && row[1] == to);
            let halves = rows.iter().filter(|row| {
                let is_service = |name: &str| name.starts_with("service/");
                let reaches = |a: &str, b: &str| rows.iter().any(|row| row[0] == a && row[1] == b);
                (row[0] == from && is_service(&row[1]) && reaches(&row[1], to))
                    || (row[1] == to && is_service(&row[0]) && reaches(from, &row[0]))
            });
            let (direct, halves): (Vec<_>, Vec<_>) = (direct.collect(), halves.collect());
            assert!(direct.len() == 1 || halves.len() == 2, "{from} → {to} is not in the table:\n{log}");
            for row in direct.into_iter().chain(halves) {
                assert_eq!((row[4].as_str(), row[5].as_str()), ("√", "100.00%"), "{row:?}");
            }
        }
        assert!(!log.contains("plaintext"), "{log}");
        nothing_is_left(&demo, END).await;
    });
}

/// Rows of the table of edges: source, destination, their namespaces, secured, success and more.
fn edges_table(log: &str) -> Vec<Vec<String>> {
    let table = log.lines().skip_while(|line| !line.starts_with("SRC ")).skip(1);
    table
        .map(|line| {
            line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).map(str::to_owned).collect()
        })
        .filter(|row: &Vec<String>| row.len() == 10)
        .collect()
}

/// How long the demo may take to be gone, with all that it started.
const END: Duration = Duration::from_secs(2);

/// No process names the demo's own folder any more.
async fn nothing_is_left(demo: &Demo, within: Duration) {
    let folder = demo.state().display().to_string();
    wait::until("every process of the demo to be gone", within, async || {
        let mut left = vec![];
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let read = |file: &str| fs::read(entry.path().join(file)).unwrap_or_default();
            let text = [read("cmdline"), read("environ")].concat();
            if text.windows(folder.len()).any(|window| window == folder.as_bytes()) {
                left.push(String::from_utf8_lossy(&read("cmdline")).replace('\0', " "));
            }
        }
        if left.is_empty() { Ok(()) } else { Err(left.join("; ")) }
    })
    .await;
}

#[test]
fn the_graph_has_the_whole_tree_with_every_request_good_and_over_mutual_tls() {
    run(async || {
        let demo = Demo::start(&[]).await;
        wait::until("all seven edges", START, async || {
            let calls = calls(&demo.api("/api/v1/graph?window=10s").await);
            for (from, to) in EDGES {
                if !calls.iter().any(|(a, b, ..)| a == from && b == to) {
                    return Err(format!("{from} → {to} is missing: {calls:?}"));
                }
            }
            // What happened while things started is not judged: the window has moved on by the time it is all good.
            match calls.iter().find(|(_, _, success, mtls)| *success < 1.0 || *mtls < 1.0) {
                Some(bad) => Err(format!("{bad:?}")),
                None => Ok(()),
            }
        })
        .await;
        // Our own first look at the page had no certificate; it leaves the window with time.
        wait::until("nothing but mutual TLS", START, async || {
            let overview: Overview = demo.api("/api/v1/overview?window=10s").await;
            let whole = overview.mtls == Some(1.0) && overview.proxies == overview.proxies_expected;
            if whole { Ok(()) } else { Err(format!("{:?} of {} proxies", overview.mtls, overview.proxies)) }
        })
        .await;
    });
}

#[test]
fn a_running_demo_says_where_to_look_what_to_try_and_once_a_second_how_it_goes() {
    run_alone(async || {
        let dashboard: std::net::SocketAddr = "127.0.0.1:9000".parse().unwrap();
        let mut demo = Demo::spawn(&["--rps", "50", "--dashboard-addr", &dashboard.to_string()]);
        demo.process.says("Ctrl-C ends everything", START).await;
        let log = demo.process.log();
        let routes = demo.manifests().path("routes.yaml").display().to_string();
        for said in [
            "starting the operator",
            "waiting for productpage-v1",
            "Dashboard     http://127.0.0.1:9000\n",
            "Product page  http://127.0.1.1:9080/productpage",
            "Three things to try",
            "1. Open http://127.0.0.1:9000/graph",
            &format!("2. In {routes} set the weights"),
            "3. Run `curl http://127.0.1.1:9080/api/v1/products/0/ratings`",
            // By a path that can be run, at the address that was asked for.
            &format!(
                "`{} authz bookinfo/ratings-v1 --operator http://127.0.0.1:9000`",
                binaries::path("mesh").display()
            ),
        ] {
            assert!(log.contains(said), "{said:?} is not said:\n{log}");
        }
        assert!(!log.contains('\u{1b}'), "coloured where nobody looks: {log:?}");
        let _: Overview = mesh::api(dashboard, "/api/v1/overview").await.unwrap();

        // A page is asked for, asks for details and reviews, and two of four reviews ask for ratings: 3.5 requests at weights 50, 30, 20.
        let wanted = 50.0 * 3.5;
        wait::until("the rate that was asked for", START, async || {
            let log = demo.process.log();
            let line = log.lines().rfind(|line| line.contains(" requests/s · ")).unwrap_or_default();
            let rate: f64 = line.split(' ').next().unwrap_or_default().parse().unwrap_or(0.0);
            let figures = ["success 100.00%", "p50 ", "p99 ", "ms", "mTLS 100.00%", "proxies 7/7"];
            let whole = figures.iter().all(|figure| line.contains(figure));
            if whole && (0.8 * wanted..=1.2 * wanted).contains(&rate) { Ok(()) } else { Err(line.to_owned()) }
        })
        .await;
        let lines = |log: &str| log.lines().filter(|line| line.contains(" requests/s · ")).count();
        let (before, start) = (lines(&demo.process.log()), Instant::now());
        wait::until("three more lines", SOON, async || match lines(&demo.process.log()) - before {
            3.. => Ok(()),
            more => Err(more),
        })
        .await;
        let took = start.elapsed();
        assert!((1.8..=3.5).contains(&took.as_secs_f64()), "three lines in {took:?}");
    });
}

#[test]
fn the_page_renders_with_details_reviews_and_stars_through_the_mesh() {
    run(async || {
        let demo = Demo::start(&["--no-traffic"]).await;
        let mut request = client::to("http://127.0.1.1:9080/productpage");
        request.headers_mut().insert("cookie", "user=jason".parse().unwrap());
        let page = client::send("127.0.1.1:9080".parse().unwrap(), request).await.unwrap().is(200).text();
        for text in
            ["The Comedy of Errors", "Publisher", "reviews-v2", "black stars", "Signed in as <b>jason</b>"]
        {
            assert!(page.contains(text), "the page lacks {text:?}:\n{page}");
        }
        assert!(!page.contains("class=\"sorry\""), "{page}");
        // What the demo's third suggestion shows: the page itself may not ask for stars.
        demo.get("productpage-v1", "ratings:9080/ratings/0").await.is(403);
    });
}

#[test]
fn nothing_of_bookinfos_requests_is_readable_between_proxies() {
    run(async || {
        let Some(capture) = Capture::start(mesh_api::names::INBOUND_PORT) else {
            println!("not allowed to capture packets here; `proxy_contract::mtls` looks at a relay instead");
            return;
        };
        let _demo = Demo::start(&["--no-traffic"]).await;
        let mut request = client::to("http://127.0.1.1:9080/productpage");
        request.headers_mut().insert("cookie", "user=jason".parse().unwrap());
        client::send("127.0.1.1:9080".parse().unwrap(), request).await.unwrap().is(200);
        let bytes = capture.finish();
        assert!(bytes.len() > 10_000, "only {} bytes were captured", bytes.len());
        for text in [
            "end-user",
            "jason",
            "l5d-",
            "traceparent",
            "user-agent",
            "GET /",
            "HTTP/1.1",
            "PRI * HTTP",
            "reviewer",
            "Comedy",
        ] {
            let found = bytes.windows(text.len()).any(|window| window.eq_ignore_ascii_case(text.as_bytes()));
            assert!(!found, "{text:?} can be read between two proxies");
        }
    });
}

#[test]
fn ratings_refuses_plaintext_as_the_policy_says() {
    run(async || {
        let _demo = Demo::start(&["--no-traffic"]).await;
        assert_eq!(client::get("127.0.1.6:9080".parse().unwrap(), "/ratings/0").await.unwrap().status(), 403);
        // On the mesh's own port there is no HTTP to be had without TLS.
        let answer = client::raw::exchange(
            "127.0.1.6:4143".parse().unwrap(),
            "GET / HTTP/1.1\r\nhost: ratings:9080\r\nconnection: close\r\n\r\n",
        )
        .await;
        let text = String::from_utf8_lossy(&answer.unwrap_or_default()).into_owned();
        assert!(!text.starts_with("HTTP/1.1 200"), "{text}");
    });
}

#[test]
fn an_edit_of_the_demos_route_turns_all_stars_red() {
    run(async || {
        let demo = Demo::start(&["--no-traffic"]).await;
        let manifests = demo.manifests();
        manifests.replace("routes.yaml", "weight: 50", "weight: 0");
        manifests.replace("routes.yaml", "weight: 30", "weight: 0");
        wait::until("only version 3", SOON, async || {
            for _ in 0..10 {
                let reviews = demo.get("productpage-v1", "reviews:9080/reviews/0").await.is(200).text();
                if !reviews.contains("reviews-v3") {
                    return Err(reviews);
                }
            }
            Ok(())
        })
        .await;
        let page = client::get("127.0.1.1:9080".parse().unwrap(), "/productpage").await.unwrap();
        assert!(String::from_utf8_lossy(page.body()).contains("red stars"));
    });
}

#[test]
fn the_first_edge_is_on_the_graph_within_5_s_of_a_warm_start() {
    run_alone(async || {
        // Once to warm the disk.
        let mut first = Demo::spawn(&["--until-ready"]);
        assert!(first.process.exit(START).await.success());
        drop(first);
        let start = Instant::now();
        let _demo = Demo::spawn(&[]);
        wait::until("the first edge", START, async || {
            match mesh::api::<Graph>(Demo::HTTP, "/api/v1/graph?window=1m").await {
                Ok(graph) if !calls(&graph).is_empty() => Ok(()),
                Ok(_) => Err("no edge yet".to_owned()),
                Err(error) => Err(format!("{error:#}")),
            }
        })
        .await;
        assert!(start.elapsed() <= Duration::from_secs(5), "{:?}", start.elapsed());
    });
}

#[test]
fn ctrl_c_ends_everything_within_2_s() {
    run_alone(async || {
        let mut demo = Demo::start(&[]).await;
        demo.process.says("Dashboard", SOON).await;
        demo.process.signal(Signal::INT);
        let asked = Instant::now();
        let status = demo.process.exit(END).await;
        assert!(status.code().is_some(), "ended by itself, not by the signal: {status:?}");
        // From the key on, not from the end of the first process.
        nothing_is_left(&demo, END.saturating_sub(asked.elapsed())).await;
    });
}

#[test]
fn a_demo_that_is_killed_leaves_nothing_behind() {
    run(async || {
        let mut demo = Demo::start(&[]).await;
        demo.process.kill().await;
        nothing_is_left(&demo, END).await;
    });
}

#[test]
fn a_child_that_dies_ends_the_demo_with_a_sentence() {
    run(async || {
        let mut demo = Demo::start(&["--no-traffic"]).await;
        let children =
            fs::read_to_string(format!("/proc/{0}/task/{0}/children", demo.process.pid())).unwrap();
        let victim = children.split_whitespace().find(|pid| {
            let environ = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            String::from_utf8_lossy(&environ).contains("details-v1")
        });
        let victim: i32 =
            victim.unwrap_or_else(|| panic!("details is no child of the demo: {children}")).parse().unwrap();
        rustix::process::kill_process(rustix::process::Pid::from_raw(victim).unwrap(), Signal::KILL).unwrap();
        let status = demo.process.exit(SOON).await;
        let log = demo.process.log();
        assert!(!status.success() && log.contains("details-v1") && log.contains("log"), "{status:?} {log}");
        nothing_is_left(&demo, END).await;
    });
}

#[test]
fn a_demo_that_cannot_start_says_what_to_do() {
    run(async || {
        for taken in [
            Operator::HTTP,
            Operator::GRPC,
            "127.0.1.4:4143".parse().unwrap(),
            "127.0.1.1:9080".parse().unwrap(),
        ] {
            let listener = std::net::TcpListener::bind(taken).unwrap();
            let mut demo = Demo::spawn(&[]);
            let status = demo.process.exit(SOON).await;
            let log = demo.process.log();
            assert!(!status.success() && log.contains(&taken.to_string()), "{taken}: {status:?} {log}");
            drop(listener);
        }
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a-file");
        fs::write(&file, "").unwrap();
        for (flag, value) in [
            ("--state-dir", file.join("below")),
            ("--manifests", dir.path().join("absent")),
            ("--manifests", dir.path().to_owned()),
        ] {
            let manifests = binaries::workspace().join("demo/manifests");
            let mut demo = Start::new("mesh demo", binaries::path("mesh")).arg("demo").arg(flag).arg(&value);
            if flag != "--manifests" {
                demo = demo.arg("--manifests").arg(&manifests);
            }
            if flag != "--state-dir" {
                demo = demo.arg("--state-dir").arg(dir.path().join("state"));
            }
            let output = demo.output(SOON).await;
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            let named = value.file_name().unwrap().to_string_lossy().into_owned();
            assert!(
                !output.status.success() && (said.contains(&named) || said.contains("a-file")),
                "{flag} {value:?}: {said}"
            );
        }
    });
}
