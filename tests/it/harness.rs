//! The harness itself: what the other stories stand on.

use bytes::Bytes;
use mesh_tests::{
    capture::Capture,
    client::{self, Conn, raw},
    grpc::framed,
    load::{Load, failures},
    origin::{Origin, tcp},
    relay::Relay,
    story::run,
};
use std::time::Duration;

#[test]
fn an_origin_answers_http1_and_http2_and_records() {
    run(async || {
        let origin = Origin::start("web", "127.0.2.1:80".parse().unwrap()).await;
        Conn::http1(origin.addr).await.unwrap().send(client::to("http://web/a")).await.unwrap().is(200);
        Conn::http2(origin.addr).await.unwrap().send(client::to("http://web/b")).await.unwrap().is(200);
        let seen: Vec<_> =
            origin.seen().iter().map(|seen| (seen.uri.path().to_owned(), seen.version)).collect();
        assert_eq!(seen, [("/a".into(), http::Version::HTTP_11), ("/b".into(), http::Version::HTTP_2)]);
    });
}

#[test]
fn an_origin_echoes_grpc_with_trailers() {
    run(async || {
        let origin = Origin::start("web", "127.0.2.1:80".parse().unwrap()).await;
        let mut request = client::to("http://web/echo");
        *request.method_mut() = http::Method::POST;
        request.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
        *request.body_mut() = client::body(framed(b"hello"));
        let reply = Conn::http2(origin.addr).await.unwrap().send(request).await.unwrap().is(200);
        assert_eq!((reply.body, reply.trailers["grpc-status"].as_bytes()), (framed(b"hello"), &b"0"[..]));
    });
}

#[test]
fn a_relay_and_a_capture_see_what_passes() {
    run(async || {
        let server = tcp::greets("127.0.2.1:25".parse().unwrap(), b"220 hello\r\n").await;
        let relay = Relay::start("127.0.3.1:25".parse().unwrap(), server.addr).await;
        let capture = Capture::start(25);
        let mut raw = raw::Raw::connect(relay.addr).await.unwrap();
        assert_eq!(raw.exact(11).await.unwrap(), b"220 hello\r\n");
        raw.write("EHLO\r\n").await.unwrap();
        assert_eq!(raw.exact(6).await.unwrap(), b"EHLO\r\n");
        assert!(relay.has_passed("220 HELLO") && relay.has_passed("EHLO"));
        assert_eq!(server.received(), [b"EHLO\r\n"]);
        if let Some(capture) = capture {
            let bytes = capture.finish();
            assert!(Bytes::from(bytes).windows(9).any(|window| window == b"220 hello"));
        }
    });
}

#[test]
fn a_load_keeps_its_rate_and_counts_failures() {
    run(async || {
        let origin = Origin::start("web", "127.0.2.1:80".parse().unwrap()).await;
        let load = Load::start(origin.addr, 100, 4, || client::to("/status/503"));
        let outcomes = load.run_for(Duration::from_secs(1)).await;
        assert!((80..=110).contains(&outcomes.len()), "{} requests", outcomes.len());
        assert_eq!(failures(&outcomes), [("503 Service Unavailable ".to_owned(), outcomes.len())]);
    });
}
