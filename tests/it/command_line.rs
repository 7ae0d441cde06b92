//! `mesh`'s commands against a running operator: the table says what is so, the JSON is the API's own, and nothing is coloured
//! where nobody looks.

use mesh_api::{
    authz::AuthzList, check::CheckList, endpoints::EndpointList, graph::Graph, route::RouteList,
    workload::WorkloadList,
};
use mesh_tests::{
    demo::Demo,
    mesh::printed,
    process::Start,
    story::run,
    wait::{self, SOON},
};
use serde::de::DeserializeOwned;

/// Runs a command and waits until a line of its output holds all these words: figures come with the next export.
async fn prints(demo: &Demo, args: &[&str], words: &[&str]) -> String {
    let what = format!("`mesh {}` to print {words:?} on one line", args.join(" "));
    wait::until(&what, SOON, async || {
        let output = demo.cli(args).await;
        let text = printed(&output);
        for bytes in [&output.stdout, &output.stderr] {
            assert!(!bytes.contains(&0x1b), "`mesh {}` is coloured: {text:?}", args.join(" "));
        }
        let said = text.lines().any(|line| words.iter().all(|word| line.contains(word)));
        if output.status.success() && said {
            return Ok(text);
        }
        Err(format!("{} {text}{}", output.status, String::from_utf8_lossy(&output.stderr)))
    })
    .await
}

async fn json<T: DeserializeOwned>(demo: &Demo, args: &[&str]) -> T {
    let output = demo.cli(&[args, &["-o", "json"]].concat()).await;
    let text = printed(&output);
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("`mesh {}`: {error}: {text}", args.join(" ")))
}

#[test]
fn every_command_prints_what_is_so_and_never_a_colour() {
    run(async || {
        let demo = Demo::start(&[]).await;
        let (reviews, ratings) = ("reviews.bookinfo:9080", "bookinfo/ratings-v1");
        let identity = "bookinfo-reviews.bookinfo.serviceaccount.identity.";
        for (args, words) in [
            (vec!["stat"], vec!["bookinfo", "productpage-v1", "1/1", "100.00%"]),
            (vec!["stat", "-n", "bookinfo", "-t", "10s"], vec!["bookinfo", "ratings-v1", "100.00%"]),
            (vec!["edges"], vec!["productpage-v1", "details-v1", "bookinfo", "√", "100.00%"]),
            (vec!["routes"], vec!["HTTPRoute bookinfo/reviews", "bookinfo/reviews-v1:9080", "50", "50.00%"]),
            (
                vec!["endpoints", reviews],
                vec!["reviews.bookinfo.svc.cluster.local:9080", "127.0.1.3:9080", "reviews-v1", identity],
            ),
            (
                vec!["authz", ratings],
                vec!["bookinfo/bookinfo-reviews", "allowed", "AuthorizationPolicy bookinfo/ratings"],
            ),
            (
                vec!["authz", ratings, "--from", "bookinfo/details-v1"],
                vec!["bookinfo/bookinfo-details", "denied"],
            ),
            (vec!["policy", "outbound", reviews], vec!["reviews-v3"]),
            (vec!["policy", "inbound", "bookinfo/ratings-v1:9080"], vec![identity]),
            (vec!["check"], vec!["√", "manifest"]),
            (vec!["version"], vec!["Server version", env!("CARGO_PKG_VERSION")]),
            (vec!["version", "--client"], vec!["Client version", env!("CARGO_PKG_VERSION")]),
            (vec!["dashboard", "--url"], vec!["http://127.0.0.1:8084"]),
            (vec!["completion", "bash"], vec!["complete", "mesh"]),
        ] {
            prints(&demo, &args, &words).await;
        }
        // One workload is one row below the titles.
        let one = prints(&demo, &["stat", "bookinfo/reviews-v2"], &["reviews-v2"]).await;
        assert_eq!(one.lines().count(), 2, "{one}");

        let stat: WorkloadList = json(&demo, &["stat", "bookinfo/reviews-v2"]).await;
        assert!(stat.workloads.len() == 1 && stat.workloads[0].golden.requests > 0, "{stat:?}");
        let edges: Graph = json(&demo, &["edges"]).await;
        assert!(edges.metrics.edges.iter().any(|edge| edge.mtls == Some(1.0)), "{edges:?}");
        let routes: RouteList = json(&demo, &["routes"]).await;
        let wanted: Vec<f64> =
            routes.routes[0].rules.iter().flat_map(|rule| &rule.backends).map(|b| b.wanted).collect();
        assert!(wanted.iter().any(|share| (share - 0.5).abs() < 1e-9), "{wanted:?}");
        let endpoints: Vec<EndpointList> =
            json(&demo, &["endpoints", reviews, "ratings.bookinfo:9080"]).await;
        assert_eq!(endpoints.iter().map(|list| list.endpoints.len()).collect::<Vec<_>>(), [3, 1]);
        let authz: AuthzList = json(&demo, &["authz", ratings]).await;
        assert!(authz.rows.iter().all(|row| !row.policy.is_empty() && !row.why.is_empty()), "{authz:?}");
        let check: CheckList = json(&demo, &["check"]).await;
        assert!(!check.checks.is_empty());
        let policy: serde_json::Value = json(&demo, &["policy", "outbound", reviews]).await;
        assert!(policy.is_object(), "{policy}");
        let version: serde_json::Value = json(&demo, &["version"]).await;
        assert_eq!(version["server"], version["client"], "{version}");
    });
}

#[test]
fn completion_is_a_script_that_the_shell_accepts() {
    run(async || {
        let mesh = || Start::new("mesh", mesh_tests::binaries::path("mesh"));
        let script = printed(&mesh().args(["completion", "bash"]).output(SOON).await);
        assert!(script.contains("until-ready"), "{script}");
        let parsed = Start::new("bash", "bash").args(["-n", "-c", &script]).output(SOON).await;
        assert!(parsed.status.success(), "{}", String::from_utf8_lossy(&parsed.stderr));
        let unknown = mesh().args(["completion", "abacus"]).output(SOON).await;
        assert!(!unknown.status.success());
    });
}
