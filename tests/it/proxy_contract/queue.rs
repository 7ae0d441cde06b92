//! What becomes of requests that have to wait for an endpoint: how many may, and for how long, is the backend's `queue` to say.

use linkerd2_proxy_api::outbound::Queue;
use mesh_tests::{
    client::{self, Conn},
    control_plane::{
        ControlPlane,
        message::{self, balanced, duration, policy, rule},
    },
    grpc::framed,
    pair::{PORT, Pair, WEB, endpoint, server_pod},
    story::run,
    wait::{self, SOON},
};
use std::time::{Duration, Instant};

/// A pair whose `web` has no endpoint, and this queue.
async fn waiting_room(capacity: u32, patience: Duration) -> Pair {
    let mut queued = rule(balanced(WEB));
    message::backend(&mut queued).queue = Some(Queue { capacity, failfast_timeout: duration(patience) });
    let told = |control_plane: &ControlPlane| {
        control_plane.outbound(WEB).set(policy(WEB, vec![queued]));
        control_plane.destination(WEB).set(message::no_endpoints(true));
    };
    Pair::start_under(told, |client| client, |server| server).await
}

fn to_web() -> http::Request<client::Body> {
    client::to(&format!("http://web.demo:{PORT}/"))
}

#[test]
fn a_full_queue_sheds_what_comes_and_serves_what_waits() {
    run(async || {
        let pair = waiting_room(2, Duration::from_secs(60)).await;
        let via = pair.client.pod.outbound();
        let waiting = [1, 2].map(|_| tokio::spawn(client::send(via, to_web())));
        let length = async || pair.client.metric("outbound_http_balancer_queue_length", &[]).await;
        wait::until("two to wait", SOON, async || match length().await {
            2.0 => Ok(()),
            other => Err(other),
        })
        .await;

        let start = Instant::now();
        let shed = pair.get("/").await.is(503);
        assert_eq!(shed.header("l5d-proxy-error"), "too many requests wait for an endpoint");
        let mut call = to_web();
        call.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
        *call.body_mut() = client::body(framed(b"hello"));
        let mut conn = Conn::http2(via).await.unwrap();
        assert_eq!(conn.send(call).await.unwrap().is(200).header("grpc-status"), "14");
        assert!(start.elapsed() < Duration::from_secs(5), "shed only after {:?}", start.elapsed());
        let errors = ["error=\"load_shed\""];
        assert_eq!(pair.client.metric("outbound_http_errors_total", &errors).await, 2.0);

        pair.control_plane.destination(WEB).set(message::add([endpoint(&server_pod())]));
        for waited in waiting {
            wait::within(SOON, "those that waited", waited).await.unwrap().unwrap().is(200);
        }
        assert_eq!(length().await, 0.0);
        assert_eq!(pair.client.metric("outbound_http_balancer_queue_requests_total", &[]).await, 2.0);
    });
}

#[test]
fn who_has_waited_in_vain_is_told_and_nobody_waits_after() {
    run(async || {
        let patience = Duration::from_millis(700);
        let pair = waiting_room(100, patience).await;
        let start = Instant::now();
        for number in 1..=3_u32 {
            let reply = pair.get("/").await.is(503);
            assert_eq!(reply.header("l5d-proxy-error"), "no endpoint available");
            let took = start.elapsed();
            assert!(took >= patience && took < patience * 2, "request {number} was answered after {took:?}");
            let errors = ["error=\"failfast\""];
            let counted = pair.client.metric("outbound_http_errors_total", &errors).await;
            assert_eq!(counted, f64::from(number));
        }
        let gate = async |which: &str| {
            pair.client.metric(&format!("outbound_http_balancer_queue_gate_{which}_total"), &[]).await
        };
        assert_eq!((gate("shut").await, gate("open").await), (1.0, 0.0));
        pair.control_plane.destination(WEB).set(message::add([endpoint(&server_pod())]));
        pair.becomes("an endpoint", "/", 200).await;
        assert_eq!((gate("shut").await, gate("open").await), (1.0, 1.0));
    });
}
