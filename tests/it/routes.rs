//! Items 3 and 4: weights, header routes, timeouts and retries, changed by editing a manifest.

use mesh_tests::{
    client::{self, Conn},
    load::{Load, failures},
    mesh::Mesh,
    origin,
    story::{run, run_alone},
    wait::{self, SOON},
    world::{World, http_route, split},
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

const PORT: u16 = 9080;

/// BookInfo's middle: the page calls reviews in three versions, and ratings.
fn shop() -> World {
    let mut world =
        World::new("shop").pod("page", "v1", &[PORT]).service("page", PORT).service("reviews", PORT);
    for version in ["v1", "v2", "v3"] {
        world = world.pod("reviews", version, &[PORT]).version_service("reviews", version, PORT);
    }
    world.pod("ratings", "v1", &[PORT]).service("ratings", PORT)
}

fn reviews(v1: u32, v2: u32) -> String {
    let rules = split(PORT, &[("reviews-v1", v1), ("reviews-v2", v2)]);
    http_route("shop", "reviews", PORT, &rules)
}

/// Shares of v1 and v2 over so many requests on one connection.
async fn shares(mesh: &Mesh, requests: usize) -> (f64, f64) {
    mesh.counts();
    let mut conn = Conn::http1(mesh.proxy("page-v1").pod.outbound()).await.unwrap();
    for _ in 0..requests {
        conn.send(client::to("http://reviews:9080/")).await.unwrap().is(200);
    }
    let counts = mesh.counts();
    assert_eq!(counts.values().sum::<usize>(), requests);
    let share = |name| counts[name] as f64 / requests as f64;
    (share("reviews-v1"), share("reviews-v2"))
}

#[test]
fn traffic_follows_an_edited_weight_within_a_second_and_keeps_to_it() {
    run_alone(async || {
        let mesh = Mesh::start(shop().file("routes.yaml", &reviews(90, 10))).await;
        mesh.answers("page-v1", "reviews:9080/", 200).await;
        let (v1, v2) = shares(&mesh, 2000).await;
        assert!(
            (v1 - 0.9).abs() <= 0.03 && (v2 - 0.1).abs() <= 0.03,
            "{v1:.3} and {v2:.3} instead of 0.9 and 0.1"
        );

        let load =
            Load::start(mesh.proxy("page-v1").pod.outbound(), 200, 4, || client::to("http://reviews:9080/"));
        wait::until(
            "the load to run",
            SOON,
            async || if load.done() > 100 { Ok(()) } else { Err(load.done()) },
        )
        .await;
        let saved = Instant::now();
        mesh.edit("routes.yaml", &reviews(0, 100));
        let outcomes = load.run_for(Duration::from_secs(3)).await;
        assert_eq!(failures(&outcomes), []);
        let late = outcomes.iter().filter(|outcome| outcome.started > saved + Duration::from_secs(1));
        let late: Vec<_> = late.map(|outcome| outcome.reply.as_ref().unwrap().text()).collect();
        assert!(late.len() > 200 && late.iter().all(|name| name == "reviews-v2"), "a second later: {late:?}");
        assert_eq!(shares(&mesh, 2000).await, (0.0, 1.0));
    });
}

#[test]
fn jason_gets_version_2_and_everybody_else_version_1() {
    run(async || {
        let rules = "- matches:\n  - headers: [{ name: end-user, value: jason }]\n  backendRefs: [{ name: reviews-v2, port: 9080 }]\n- backendRefs: [{ name: reviews-v1, port: 9080 }]\n";
        let mesh = Mesh::start(shop().file("routes.yaml", &http_route("shop", "reviews", PORT, rules))).await;
        mesh.answers("page-v1", "reviews:9080/", 200).await;
        for (user, version) in
            [("jason", "reviews-v2"), ("Jason", "reviews-v1"), ("", "reviews-v1"), ("jason2", "reviews-v1")]
        {
            for _ in 0..20 {
                let mut request = client::to("http://reviews:9080/reviews/0");
                if !user.is_empty() {
                    request.headers_mut().insert("end-user", user.parse().unwrap());
                }
                assert_eq!(mesh.send("page-v1", request).await.is(200).text(), version, "{user:?}");
            }
        }
    });
}

#[test]
fn without_a_route_all_versions_of_a_service_serve() {
    run(async || {
        let mesh = Mesh::start(shop()).await;
        mesh.answers("page-v1", "reviews:9080/", 200).await;
        mesh.counts();
        for _ in 0..90 {
            mesh.get("page-v1", "reviews:9080/").await.is(200);
        }
        let counts = mesh.counts();
        assert!(
            ["reviews-v1", "reviews-v2", "reviews-v3"].iter().all(|name| counts[name] >= 5),
            "{counts:?}"
        );
    });
}

#[test]
fn a_timeout_of_500_ms_is_504_within_600_ms() {
    run_alone(async || {
        let rules = "- timeouts: { request: 500ms }\n  backendRefs: [{ name: ratings, port: 9080 }]\n";
        let mesh =
            Mesh::start(shop().file("ratings.yaml", &http_route("shop", "ratings", PORT, rules))).await;
        mesh.answers("reviews-v2", "ratings:9080/", 200).await;
        mesh.origin("ratings-v1").answers_after(Duration::from_secs(7));
        for _ in 0..3 {
            let start = Instant::now();
            let reply = mesh.get("reviews-v2", "ratings:9080/ratings/0").await.is(504);
            let took = start.elapsed();
            assert!((490..=600).contains(&took.as_millis()), "{took:?}");
            assert_ne!(reply.header("l5d-proxy-error"), "");
        }
    });
}

const RETRIED: &str =
    "- retry: { codes: [500, 502, 503, 504], attempts: 2 }\n  backendRefs: [{ name: ratings, port: 9080 }]\n";

#[test]
fn retries_mask_ratings_that_fail_every_second_request() {
    run(async || {
        let mesh =
            Mesh::start(shop().file("ratings.yaml", &http_route("shop", "ratings", PORT, RETRIED))).await;
        mesh.answers("reviews-v2", "ratings:9080/", 200).await;
        let turn = Arc::new(AtomicU32::new(0));
        mesh.origin("ratings-v1").answers(move |_| {
            let fails = turn.fetch_add(1, Ordering::Relaxed).is_multiple_of(2);
            std::future::ready(origin::text(if fails { 503 } else { 200 }, "ratings"))
        });
        mesh.counts();
        // Ten a second: the budget of 20 % and ten retries a second allows for as many.
        let load = Load::start(mesh.proxy("reviews-v2").pod.outbound(), 10, 1, || {
            client::to("http://ratings:9080/")
        });
        let outcomes = load.run_for(Duration::from_secs(4)).await;
        assert_eq!(failures(&outcomes), []);
        assert_eq!(mesh.origin("ratings-v1").count(), 2 * outcomes.len(), "each request took one retry");
    });
}

#[test]
fn under_total_failure_the_budget_keeps_retries_few() {
    run_alone(async || {
        let mesh =
            Mesh::start(shop().file("ratings.yaml", &http_route("shop", "ratings", PORT, RETRIED))).await;
        mesh.answers("reviews-v2", "ratings:9080/", 200).await;
        mesh.origin("ratings-v1").answers_status(503);
        // What went well before counts for the budget too.
        let earlier = mesh.origin("ratings-v1").reset() as f64;
        let start = Instant::now();
        let load = Load::start(mesh.proxy("reviews-v2").pod.outbound(), 200, 8, || {
            client::to("http://ratings:9080/")
        });
        let outcomes = load.run_for(Duration::from_secs(6)).await;
        let (sent, reached) = (outcomes.len() as f64, mesh.origin("ratings-v1").count() as f64);
        assert!(outcomes.iter().all(|outcome| outcome.failure().is_some()));
        // Each once, a fifth of all, and ten a second with one second's worth in hand at the start.
        let allowed = sent + 0.2 * (sent + earlier) + 10.0 * (start.elapsed().as_secs_f64() + 1.0);
        assert!(
            reached > sent && reached <= allowed,
            "{reached} reached ratings for {sent} sent; at most {allowed}"
        );
    });
}
