//! Items 6 and 7: the operator dies, an endpoint dies, and requests go on.

use mesh_api::{graph::Graph, workload::Workload};
use mesh_tests::{
    client::{self, raw::Raw},
    clock::Clock,
    load::{Load, Outcome, failures},
    mesh::{Mesh, Operator},
    origin::Origin,
    pair::Pair,
    pod::ProxyStart,
    story::{run, run_alone},
    wait::{self, SOON},
    world::World,
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

const PORT: u16 = 9080;

fn shop() -> World {
    World::new("shop")
        .pod("page", "v1", &[PORT])
        .pod("reviews", "v1", &[PORT])
        .pod("reviews", "v2", &[PORT])
        .service("page", PORT)
        .service("reviews", PORT)
}

/// The request load of the page on reviews. Each request has a number, in its query.
fn load(mesh: &Mesh, rate_per_s: u32) -> Load {
    let next = Arc::new(AtomicU32::new(0));
    Load::start(mesh.proxy("page-v1").pod.outbound(), rate_per_s, 8, move || {
        client::to(&format!("http://reviews:9080/?{}", next.fetch_add(1, Ordering::Relaxed)))
    })
}

/// Requests in the graph's last ten seconds.
async fn in_graph() -> anyhow::Result<u64> {
    let graph: Graph = mesh_tests::mesh::api(Operator::HTTP, "/api/v1/graph?window=10s").await?;
    Ok(graph.metrics.edges.iter().map(|edge| edge.golden.requests).sum())
}

#[test]
fn killing_the_operator_fails_no_request_and_the_graph_goes_on_after_its_restart() {
    run(async || {
        let mut mesh = Mesh::start(shop()).await;
        mesh.answers("page-v1", "reviews:9080/", 200).await;
        let load = load(&mesh, 100);
        wait::until("traffic in the graph", SOON, async || match in_graph().await? {
            0 => anyhow::bail!("none yet"),
            _ => Ok(()),
        })
        .await;
        mesh.operator.process.kill().await;
        let dead_from = load.done();
        wait::until("300 requests without operator", SOON, async || match load.done() - dead_from {
            300.. => Ok(()),
            done => Err(done),
        })
        .await;
        mesh.operator.restart().await;
        traffic_is_in_the_graph_again().await;
        // An edit after the restart shows that the proxies' streams are back.
        an_edit_is_obeyed(&mesh).await;
        let outcomes = load.finish().await;
        assert_eq!(failures(&outcomes), [], "of {} requests", outcomes.len());
        wait::until("the proxies' certificates to be known again", SOON, async || {
            let workload: Workload = mesh.operator.api("/api/v1/workloads/shop/page-v1?window=1m").await;
            let long = workload.pods.iter().all(|pod| pod.certificate_left_s.is_some_and(|left| left > 3600));
            if long { Ok(()) } else { Err(format!("{:?}", workload.pods)) }
        })
        .await;
    });
}

/// Certificates go by the wall clock, and wall clocks are set: by hand, by a machine that slept, by NTP after a bad start.
#[test]
fn a_wall_clock_that_is_set_costs_no_request_and_certificates_are_made_anew() {
    run(async || {
        let clock = Clock::right();
        let mesh = Mesh::start_by(&clock, shop()).await;
        mesh.answers("page-v1", "reviews:9080/", 200).await;
        // 70 % of a certificate's day are over, and then it is from tomorrow.
        for (step, offset) in ["+20h", "+0"].into_iter().enumerate() {
            let load = load(&mesh, 50);
            clock.set(offset);
            wait::until("new certificates", Duration::from_secs(60), async || {
                let mut logs = mesh.proxies.values().map(|proxy| proxy.process.log());
                let issued = |log: String| log.matches("certificate issued").count();
                if logs.all(|log| issued(log) >= step + 2) { Ok(()) } else { Err("not all have one") }
            })
            .await;
            // Who has a new one shakes hands with it.
            mesh.answers("page-v1", "reviews:9080/", 200).await;
            let outcomes = load.finish().await;
            assert_eq!(failures(&outcomes), [], "{offset}, of {} requests", outcomes.len());
        }
    });
}

/// Each alone is easy: the last good world in an operator's memory, and a restart with the same files.
#[test]
fn an_operator_that_restarts_while_a_manifest_is_broken_fails_no_request() {
    run(async || {
        let mut mesh = Mesh::start(shop()).await;
        mesh.answers("page-v1", "reviews:9080/", 200).await;
        let load = load(&mesh, 100);
        mesh.edit("world.yaml", "kind: [\n");
        mesh.operator.process.says("world.yaml", SOON).await;
        mesh.operator.restart().await;
        traffic_is_in_the_graph_again().await;
        let asked_from = load.done();
        wait::until("200 requests under the new operator", SOON, async || match load.done() - asked_from {
            200.. => Ok(()),
            done => Err(done),
        })
        .await;
        let outcomes = load.finish().await;
        assert_eq!(failures(&outcomes), [], "of {} requests", outcomes.len());
        let page = mesh.proxy("page-v1").pod.identity();
        for origin in ["reviews-v1", "reviews-v2"] {
            let strangers =
                mesh.origin(origin).seen().iter().filter(|seen| seen.header("l5d-client-id") != page).count();
            assert_eq!(
                strangers,
                0,
                "of {} requests at {origin} without mutual TLS",
                mesh.origin(origin).count()
            );
        }
        an_edit_is_obeyed(&mesh).await;
    });
}

/// The graph shows that the proxies have found the new operator.
async fn traffic_is_in_the_graph_again() {
    wait::until("traffic in the new operator's graph", SOON, async || match in_graph().await? {
        0 => anyhow::bail!("none yet"),
        _ => Ok(()),
    })
    .await;
}

/// Takes reviews-v2 away, and waits until nobody asks it.
async fn an_edit_is_obeyed(mesh: &Mesh) {
    mesh.edit("world.yaml", &without_v2().yaml());
    wait::until("the edit to be obeyed", SOON, async || {
        mesh.counts();
        for _ in 0..10 {
            mesh.get("page-v1", "reviews:9080/").await.is(200);
        }
        match mesh.counts()["reviews-v2"] {
            0 => Ok(()),
            still => Err(format!("reviews-v2 had {still} requests")),
        }
    })
    .await;
}

fn without_v2() -> World {
    let mut world = shop();
    world.pods.retain(|pod| pod.name != "reviews-v2");
    world
}

#[test]
fn without_operator_from_the_start_proxies_wait_and_recover() {
    run(async || {
        let world = shop();
        let mut operator = Operator::start(&world, &[]).await;
        // Its files are there, as on any later start; it is not.
        operator.process.kill().await;
        let mut proxies = vec![];
        let mut origins = vec![];
        for pod in &world.pods {
            origins.push(Origin::start(&pod.name, pod.app(PORT)).await);
            proxies.push(operator.proxy(pod).spawn());
        }
        for proxy in &proxies {
            wait::until("/live", SOON, async || {
                proxy.admin("/live").await.map_err(|error| format!("{error:#}"))
            })
            .await;
            assert_eq!(proxy.admin("/ready").await.unwrap().0, 503);
        }
        let meshed = client::send(proxies[0].pod.outbound(), client::to("http://reviews:9080/"));
        let early = tokio::time::timeout(Duration::from_secs(5), meshed).await;
        assert!(!matches!(early, Ok(Ok(reply)) if reply.status == 200), "served without identity");
        operator.restart().await;
        for proxy in &proxies {
            proxy.ready(SOON).await;
        }
        wait::until("traffic", SOON, async || {
            let reply = client::send(proxies[0].pod.outbound(), client::to("http://reviews:9080/")).await?;
            anyhow::ensure!(reply.status == 200, "{}", reply.status);
            Ok(())
        })
        .await;
        let seen = origins.iter().flat_map(Origin::seen).next_back().expect("the request");
        assert_eq!(seen.header("l5d-client-id"), proxies[0].pod.identity());
    });
}

#[test]
fn killing_one_of_two_endpoints_under_200_requests_a_second_fails_only_what_it_was_answering() {
    run_alone(async || {
        let mut mesh = Mesh::start(shop()).await;
        mesh.answers("page-v1", "reviews:9080/", 200).await;
        let load = load(&mesh, 200);
        wait::until("both to serve", SOON, async || {
            let counts = (mesh.origin("reviews-v1").count(), mesh.origin("reviews-v2").count());
            if counts.0 > 100 && counts.1 > 100 { Ok(()) } else { Err(format!("{counts:?}")) }
        })
        .await;
        let mut victim = mesh.proxies.remove("reviews-v2").unwrap();
        let killing = Instant::now();
        victim.process.kill().await;
        drop(mesh.origins.remove("reviews-v2"));
        let killed = Instant::now();
        let outcomes = load.run_for(Duration::from_secs(5)).await;
        // What the other endpoint was answering has no excuse.
        let survivor = mesh.origin("reviews-v1").seen();
        let being_answered_there = |outcome: &Outcome| {
            let was_under_way = outcome.started < killed && outcome.started + outcome.took >= killing;
            was_under_way && !survivor.iter().any(|seen| seen.uri.query() == outcome.uri.query())
        };
        let failed: Vec<_> = outcomes.iter().filter(|outcome| outcome.failure().is_some()).collect();
        let others: Vec<_> =
            failed.iter().filter(|outcome| !being_answered_there(outcome)).map(|o| o.failure()).collect();
        assert!(others.is_empty(), "{} requests failed that were not on their way: {others:?}", others.len());
        assert!(failed.len() <= 8, "more failed than there are connections: {}", failed.len());
        let after = outcomes.iter().filter(|outcome| outcome.started > killed + Duration::from_secs(1));
        assert!(after.count() > 500, "the load went on");
    });
}

/// On a cluster an application is told to end before the proxy beside it, and clients hear of it last.
#[test]
fn an_application_that_dies_before_its_proxy_fails_no_request() {
    run(async || {
        let mut mesh = Mesh::start(shop()).await;
        mesh.answers("page-v1", "reviews:9080/", 200).await;
        let load = load(&mesh, 200);
        let reach = async |count: usize| {
            wait::until(
                "requests",
                SOON,
                async || if load.done() >= count { Ok(()) } else { Err(load.done()) },
            )
            .await;
        };
        reach(100).await;
        drop(mesh.origins.remove("reviews-v2"));
        reach(load.done() + 200).await;
        // It was not seen by anybody, so it may be whatever it wants.
        for _ in 0..20 {
            let mut change = client::to("http://reviews:9080/");
            *change.method_mut() = http::Method::POST;
            mesh.send("page-v1", change).await.is(200);
        }
        assert_eq!(failures(&load.finish().await), []);
        drop(mesh.origins.remove("reviews-v1"));
        let refused = mesh.get("page-v1", "reviews:9080/").await;
        assert!([502, 503].contains(&refused.status.as_u16()), "{refused:?}");
        assert_ne!(refused.header("l5d-proxy-error"), "");
    });
}

/// The same where the machine of the endpoint is gone too: nothing answers, not even with a refusal.
#[test]
fn an_endpoint_whose_proxy_stands_still_is_given_up() {
    run(async || {
        let mesh = Mesh::start(shop()).await;
        mesh.answers("page-v1", "reviews:9080/", 200).await;
        mesh.proxy("reviews-v2").process.signal(rustix::process::Signal::STOP);
        wait::until("ten good answers in a row, quickly", Duration::from_secs(60), async || {
            for _ in 0..10 {
                let start = Instant::now();
                let status = mesh.status("page-v1", "reviews:9080/").await;
                if status != 200 || start.elapsed() > Duration::from_secs(1) {
                    return Err(format!("{status} after {:?}", start.elapsed()));
                }
            }
            Ok(())
        })
        .await;
        mesh.proxy("reviews-v2").process.signal(rustix::process::Signal::CONT);
    });
}

/// A proxy that is asked to end finishes what it has begun.
#[test]
fn sigterm_finishes_requests_under_way_and_then_ends_the_proxy() {
    run(async || {
        let mut mesh = Mesh::start(shop()).await;
        mesh.answers("page-v1", "reviews:9080/", 200).await;
        let from = mesh.proxy("page-v1").pod.outbound();
        let slow = tokio::spawn(client::send(from, client::to("http://page:9080/slow/1500")));
        wait::until("the slow request to arrive", SOON, async || match mesh.origin("page-v1").count() {
            0 => Err("not yet"),
            _ => Ok(()),
        })
        .await;
        mesh.proxy("page-v1").process.signal(rustix::process::Signal::TERM);
        wait::until("/ready to fail", SOON, async || match mesh.proxy("page-v1").admin("/ready").await {
            Ok((200, _)) => Err("still ready"),
            _ => Ok(()),
        })
        .await;
        let reply = wait::within(SOON, "the slow answer", slow).await.unwrap().unwrap();
        assert_eq!((reply.status.as_u16(), reply.text()), (200, "page-v1".to_owned()));
        let mut proxy = mesh.proxies.remove("page-v1").unwrap();
        assert!(proxy.process.exit(SOON).await.success());
    });
}

/// For what cannot send signals, such as the last step of a Job: off unless it is asked for.
#[test]
fn a_post_from_the_pod_itself_ends_the_proxy_where_that_is_allowed() {
    run(async || {
        let allowed = |proxy: ProxyStart| proxy.knob("SHUTDOWN_ENDPOINT_ENABLED", "true");
        let Pair { mut client, mut server, origin, control_plane, files } =
            Pair::start_with(allowed, |server| server).await;
        let post = async |addr| {
            let mut request = client::to("/shutdown");
            *request.method_mut() = http::Method::POST;
            client::send(addr, request).await.unwrap().status.as_u16()
        };
        assert_eq!(post(server.pod.admin()).await, 404);
        assert_eq!(client.admin("/shutdown").await.unwrap().0, 405, "to look is not to ask");
        assert_eq!(post(client.pod.admin()).await, 200);
        assert!(client.process.exit(SOON).await.success());
        assert!(server.process.is_running());
        drop((origin, control_plane, files));
    });
}

/// The same over HTTP/2: the client hears of it at once, as GOAWAY, and may go on reading.
#[test]
fn sigterm_says_goaway_and_finishes_the_streams_under_way() {
    const HEADERS: u8 = 1;
    const GOAWAY: u8 = 7;
    const END_STREAM: u8 = 1;
    run(async || {
        let Pair { mut client, server, origin, control_plane, files } = Pair::start().await;
        let mut raw = Raw::connect(client.pod.outbound()).await.unwrap();
        let (path, authority) = (b"/slow/1500", b"web.demo:8080");
        // GET, http, and path and authority as literals (RFC 7541, appendix A).
        let mut fields = vec![0x82, 0x86, 0x04, path.len() as u8];
        fields.extend(path);
        fields.extend([0x01, authority.len() as u8]);
        fields.extend(authority);
        let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        bytes.extend([0, 0, 0, 4, 0, 0, 0, 0, 0]);
        bytes.extend([0, 0, fields.len() as u8, HEADERS, 0x4 | END_STREAM, 0, 0, 0, 1]);
        bytes.extend(fields);
        raw.write(bytes).await.unwrap();
        wait::until("the slow request to arrive", SOON, async || match origin.count() {
            0 => Err("not yet"),
            _ => Ok(()),
        })
        .await;
        client.process.signal(rustix::process::Signal::TERM);
        let (mut kinds, mut ended) = (vec![], false);
        while !ended {
            let (kind, flags, _) = raw.frame().await.unwrap();
            // Types 0 and 1 carry the answer.
            ended = kind <= HEADERS && flags & END_STREAM != 0;
            kinds.push(kind);
        }
        let (goaway, answer) =
            (kinds.iter().position(|k| *k == GOAWAY), kinds.iter().position(|k| *k == HEADERS));
        assert!(goaway.is_some() && goaway < answer, "frames of types {kinds:?}");
        drop(raw);
        assert!(client.process.exit(SOON).await.success());
        drop((server, control_plane, files));
    });
}

/// Its application is not told to end at the same time, and serves on.
#[test]
fn a_proxy_that_is_to_stay_for_a_while_serves_on_after_sigterm() {
    run(async || {
        let delay = |proxy: ProxyStart| proxy.knob("SHUTDOWN_DELAY", "5s");
        let mut pair = Pair::start_with(|client| client, delay).await;
        let start = Instant::now();
        pair.server.process.signal(rustix::process::Signal::TERM);
        wait::until("the proxy to have heard", SOON, async || {
            match pair.server.process.log().contains("going on for a while") {
                true => Ok(()),
                false => Err("not yet"),
            }
        })
        .await;
        pair.get("/").await.is(200);
        assert!(pair.server.process.exit(SOON).await.success());
        assert!(start.elapsed() >= Duration::from_secs(5), "{:?}", start.elapsed());
    });
}

/// Who takes longer than the grace period is not waited for.
#[test]
fn after_the_grace_period_a_proxy_ends_whatever_is_under_way() {
    run_alone(async || {
        let grace = |proxy: ProxyStart| proxy.knob("SHUTDOWN_GRACE_PERIOD", "2s");
        let Pair { mut client, server, origin, control_plane, files } =
            Pair::start_with(grace, |server| server).await;
        let slow =
            tokio::spawn(client::send(client.pod.outbound(), client::to("http://web.demo:8080/slow/60000")));
        wait::until("the slow request to arrive", SOON, async || match origin.count() {
            0 => Err("not yet"),
            _ => Ok(()),
        })
        .await;
        let start = Instant::now();
        client.process.signal(rustix::process::Signal::TERM);
        client.process.exit(SOON).await;
        let took = start.elapsed();
        assert!((Duration::from_secs(2)..=Duration::from_secs(3)).contains(&took), "{took:?}");
        assert!(client.process.log().contains("closed what was still open"), "{}", client.process.log());
        wait::within(SOON, "the slow request to fail", slow).await.unwrap().unwrap_err();
        drop((server, control_plane, files));
    });
}
