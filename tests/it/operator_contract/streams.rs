//! How the operator's streams live and end, whatever they are about.

use super::destination::{WEB, operator};
use mesh_tests::{
    client::raw::Raw,
    mesh::Operator,
    story::run,
    wait::{self, SOON},
};
use std::time::{Duration, Instant};

#[test]
fn shutdown_ends_streams_well_and_the_process_soon() {
    run(async || {
        let (mut operator, proxy) = operator().await;
        let mut endpoints = proxy.destination(WEB).await.unwrap();
        let mut profile = proxy.profile(WEB).await.unwrap();
        let mut outbound = proxy.outbound(WEB).await.unwrap();
        let mut inbound = proxy.inbound(80).await.unwrap();
        endpoints.next().await;
        profile.next().await;
        outbound.next().await;
        inbound.next().await;
        operator.process.signal(rustix::process::Signal::TERM);
        // An end without a status would be an error to a proxy, which asks again a little later than after a good one.
        assert_eq!(endpoints.next_or_end().await.unwrap(), None);
        assert_eq!(profile.next_or_end().await.unwrap(), None);
        assert_eq!(outbound.next_or_end().await.unwrap(), None);
        assert_eq!(inbound.next_or_end().await.unwrap(), None);
        assert!(operator.process.exit(SOON).await.success());
    });
}

/// HTTP/2's pings find out who is still there: a proxy whose machine lost its power leaves no stream behind.
#[test]
fn a_peer_that_answers_no_ping_is_cut_off() {
    run(async || {
        /// RFC 9113 §6.
        const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];
        const PING: u8 = 6;
        let (_operator, proxy) = operator().await;
        let mut lively = proxy.destination(WEB).await.unwrap();
        lively.next().await;
        let mut raw = Raw::connect(Operator::GRPC).await.unwrap();
        raw.write([b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", SETTINGS].concat()).await.unwrap();
        let start = Instant::now();
        while raw.frame().await.expect("a ping within the time of a read").0 != PING {}
        wait::within(Duration::from_secs(10), "the connection to be closed", async {
            while raw.frame().await.is_ok() {}
        })
        .await;
        assert!(start.elapsed() >= Duration::from_secs(10), "cut off after {:?}", start.elapsed());
        // Whoever answers stays.
        lively.is_silent_for(Duration::from_millis(100)).await;
    });
}
