//! How long streams of discovery live, and what happens when they end. That the last good answer stays is told beside each message.

use super::rules::fails;
use linkerd2_proxy_api::outbound::http_route::Rule;
use mesh_api::names::OPERATOR_GRPC_PORT;
use mesh_tests::{
    control_plane::{
        ControlPlane,
        message::{self, balanced, policy, rule},
    },
    pair::{PORT, Pair, WEB, endpoint, server_pod},
    pod::ProxyStart,
    relay::Relay,
    story::run,
    wait::{self, SOON},
};
use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

#[test]
fn a_stream_that_says_nothing_at_first_is_asked_anew_in_time() {
    run(async || {
        let told = |control_plane: &ControlPlane| {
            control_plane.outbound(WEB).hold();
            control_plane.destination(WEB).silence();
        };
        let settings = |client: ProxyStart| {
            client
                .knob("CONTROL_STREAM_INITIAL_TIMEOUT", "400ms")
                .knob("OUTBOUND_DISCOVERY_IDLE_TIMEOUT", "1m")
        };
        let pair = Pair::start_under(told, settings, |server| server).await;
        let (policy, endpoints) = (pair.control_plane.outbound(WEB), pair.control_plane.destination(WEB));
        let start = Instant::now();
        assert_eq!(pair.status("/").await, 503);
        policy.asked(4, SOON).await;
        assert!(start.elapsed() >= Duration::from_millis(3 * 400), "asked too soon: {:?}", start.elapsed());
        policy.set(message::plain_policy(WEB));
        assert_eq!(pair.status("/").await, 503, "there is no endpoint yet");
        endpoints.asked(4, SOON).await;
        endpoints.set(message::add([endpoint(&server_pod())]));
        pair.becomes("an answer", "/", 200).await;
        // Once it has answered it may be silent for as long as nothing changes.
        let asked = (policy.times_asked(), endpoints.times_asked());
        pair.goes_on("silence", Duration::from_secs(2)).await;
        assert_eq!((policy.times_asked(), endpoints.times_asked()), asked);
    });
}

#[test]
fn an_old_stream_is_asked_anew_and_no_request_notices() {
    run(async || {
        let settings = |proxy: ProxyStart| proxy.knob("CONTROL_STREAM_LIFETIME", "1s");
        let pair = Pair::start_with(settings, settings).await;
        let control_plane = &pair.control_plane;
        let (policy, endpoints) = (control_plane.outbound(WEB), control_plane.destination(WEB));
        let inbound = control_plane.inbound(&server_pod().workload(), PORT);
        pair.get("/").await.is(200);
        pair.goes_on("streams that end of age", Duration::from_secs(4)).await;
        for asked in [policy.times_asked(), endpoints.times_asked(), inbound.times_asked()] {
            assert!((3..=6).contains(&asked), "asked {asked} times in about 4 s");
        }
        // The old ones are closed, not left behind.
        policy.has_a_stream().await;
        endpoints.has_a_stream().await;
        inbound.has_a_stream().await;
    });
}

/// A control plane that has gone without a word, as one whose machine lost its power, is noticed by HTTP/2's pings and asked again.
#[test]
fn a_control_plane_that_stands_still_is_left_and_found_again() {
    run(async || {
        let door = SocketAddr::from(([127, 0, 3, 9], OPERATOR_GRPC_PORT));
        let relay = Relay::start(door, SocketAddr::from(([127, 0, 0, 1], OPERATOR_GRPC_PORT))).await;
        let pair =
            Pair::start_with(|client| client.knob("OPERATOR_ADDR", door.to_string()), |server| server).await;
        pair.get("/").await.is(200);
        let topic = pair.control_plane.outbound(WEB);
        relay.stall();
        topic.set(policy(WEB, vec![Rule { filters: vec![fails(299, "new")], ..rule(balanced(WEB)) }]));
        let start = Instant::now();
        wait::until("the new policy", Duration::from_secs(25), async || match pair.status("/").await {
            299 => Ok(()),
            // What is known holds until then.
            200 => Err("still the old one".to_owned()),
            status => panic!("a request failed with {status} after {:?}", start.elapsed()),
        })
        .await;
    });
}
