//! Fairness, speed of change, and failing endpoints.

use linkerd2_proxy_api::{
    destination::update::Update,
    outbound::{self, failure_accrual, proxy_protocol},
};
use mesh_tests::{
    client,
    control_plane::message::{self, Endpoint, duration},
    load::{Load, Outcome, failures},
    origin::Origin,
    pair::{PORT, Pair, WEB},
    story::{run, run_alone},
    wait::{self, SOON},
};
use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

async fn origin(number: u8) -> Origin {
    Origin::start(&format!("web-{number}"), SocketAddr::from(([127, 0, 3, number], PORT))).await
}

fn endpoints(origins: &[&Origin]) -> linkerd2_proxy_api::destination::Update {
    message::add(origins.iter().map(|origin| Endpoint::plain(origin.addr)))
}

fn to_web() -> http::Request<client::Body> {
    client::to(&format!("http://web.demo:{PORT}/"))
}

/// Share of the requests within a span that one origin answered.
fn share(outcomes: &[Outcome], name: &str, from: Instant, span: Duration) -> f64 {
    let within: Vec<_> = outcomes.iter().filter(|o| o.started >= from && o.started < from + span).collect();
    let its = within.iter().filter(|o| o.reply.as_ref().is_ok_and(|reply| reply.body == name.as_bytes()));
    its.count() as f64 / within.len().max(1) as f64
}

#[test]
fn two_equal_endpoints_share_400_requests_a_second_evenly_over_any_5_s() {
    run_alone(async || {
        let (one, two) = (origin(1).await, origin(2).await);
        let pair = Pair::start().await;
        pair.control_plane.destination(WEB).set(endpoints(&[&one, &two]));
        pair.get("/").await.is(200);
        let start = Instant::now();
        let load = Load::start(pair.client.pod.outbound(), 400, 16, to_web);
        let outcomes = load.run_for(Duration::from_secs(8)).await;
        assert_eq!(failures(&outcomes), []);
        for offset_ms in (0..=3000).step_by(500) {
            let share =
                share(&outcomes, "web-1", start + Duration::from_millis(offset_ms), Duration::from_secs(5));
            assert!((0.45..=0.55).contains(&share), "{share:.3} of the 5 s after {offset_ms} ms");
        }
    });
}

#[test]
fn a_new_endpoint_has_its_share_within_a_second() {
    run_alone(async || {
        let (one, two) = (origin(1).await, origin(2).await);
        let pair = Pair::start().await;
        let topic = pair.control_plane.destination(WEB);
        topic.set(endpoints(&[&one]));
        pair.get("/").await.is(200);
        let load = Load::start(pair.client.pod.outbound(), 400, 16, to_web);
        wait::until(
            "the load to run",
            SOON,
            async || if load.done() > 400 { Ok(()) } else { Err(load.done()) },
        )
        .await;
        let told = Instant::now();
        topic.push(&endpoints(&[&two]));
        let outcomes = load.run_for(Duration::from_secs(4)).await;
        assert_eq!(failures(&outcomes), []);
        let after = share(&outcomes, "web-2", told + Duration::from_secs(1), Duration::from_secs(2));
        assert!((0.42..=0.58).contains(&after), "{after:.3} in the two seconds after its first");
    });
}

/// The contract has no field for zones, only labels: they are counted by, and choose nothing (ADR 3).
#[test]
fn a_zone_is_a_label_and_no_preference() {
    run(async || {
        let (near, far) = (origin(1).await, origin(2).await);
        let pair = Pair::start().await;
        let in_zone = |origin: &Origin, zone: &str, locality: &str| {
            let mut addr = Endpoint::plain(origin.addr).message();
            addr.metric_labels.insert("zone".into(), zone.into());
            addr.metric_labels.insert("zone_locality".into(), locality.into());
            addr
        };
        let mut update = message::add([]);
        if let Some(Update::Add(set)) = &mut update.update {
            set.addrs = vec![in_zone(&near, "a", "local"), in_zone(&far, "b", "remote")];
        }
        pair.control_plane.destination(WEB).set(update);
        for _ in 0..300 {
            pair.get("/").await.is(200);
        }
        for (origin, zone, locality) in [(&near, "a", "local"), (&far, "b", "remote")] {
            let count = origin.count();
            assert!((90..=210).contains(&count), "{count} of 300 to zone {zone}");
            let labels = [format!("dst_zone=\"{zone}\""), format!("dst_zone_locality=\"{locality}\"")];
            let counted = pair.client.metric("request_total", &[&labels[0], &labels[1]]).await;
            assert_eq!(counted, count as f64, "zone {zone}");
        }
    });
}

#[test]
fn an_endpoint_that_refuses_connections_costs_no_request() {
    run(async || {
        let one = origin(1).await;
        let pair = Pair::start().await;
        let dead = Endpoint::plain("127.0.3.9:8080".parse().unwrap());
        pair.control_plane.destination(WEB).set(message::add([dead, Endpoint::plain(one.addr)]));
        for _ in 0..40 {
            pair.get("/").await.is(200);
        }
    });
}

/// Failure accrual: seven failures in a row set an endpoint aside.
#[test]
fn a_failing_endpoint_is_set_aside_and_comes_back() {
    run(async || {
        let (good, bad) = (origin(1).await, origin(2).await);
        bad.answers_status(500);
        let pair = Pair::start().await;
        let mut policy = message::plain_policy(WEB);
        let Some(proxy_protocol::Kind::Detect(detect)) = &mut policy.protocol.as_mut().unwrap().kind else {
            unreachable!()
        };
        detect.http1.as_mut().unwrap().failure_accrual = Some(outbound::FailureAccrual {
            kind: Some(failure_accrual::Kind::ConsecutiveFailures(failure_accrual::ConsecutiveFailures {
                max_failures: 7,
                backoff: Some(outbound::ExponentialBackoff {
                    min_backoff: duration(Duration::from_secs(1)),
                    max_backoff: duration(Duration::from_secs(2)),
                    jitter_ratio: 0.0,
                    respect_retry_after_hint: false,
                }),
            })),
            ejection: None,
        });
        pair.control_plane.outbound(WEB).set(policy);
        pair.control_plane.destination(WEB).set(endpoints(&[&good, &bad]));
        let mut failed = 0;
        for _ in 0..200 {
            failed += usize::from(pair.get("/").await.status == 500);
        }
        assert!((7..=12).contains(&failed), "{failed} of 200 requests met the failing endpoint");
        bad.answers_status(200);
        bad.reset();
        wait::until("the healed endpoint to serve again", SOON, async || {
            pair.get("/").await;
            if bad.count() > 10 { Ok(()) } else { Err(bad.count()) }
        })
        .await;
    });
}

#[test]
fn a_slow_endpoint_gets_little_of_the_load() {
    run_alone(async || {
        let (fast, slow) = (origin(1).await, origin(2).await);
        slow.answers_after(Duration::from_millis(200));
        let pair = Pair::start().await;
        pair.control_plane.destination(WEB).set(endpoints(&[&fast, &slow]));
        let start = Instant::now();
        let load = Load::start(pair.client.pod.outbound(), 200, 32, to_web);
        let outcomes = load.run_for(Duration::from_secs(6)).await;
        assert_eq!(failures(&outcomes), []);
        let share = share(&outcomes, "web-2", start + Duration::from_secs(2), Duration::from_secs(4));
        assert!(share <= 0.2, "{share:.3} went to the endpoint that is 200 ms slower");
    });
}
