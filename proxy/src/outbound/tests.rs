//! The application's side: routes, retries, timeouts, balancing, tunnels, what is not HTTP.

use crate::{
    policy::{
        endpoint::ProtocolHint,
        http::{Backoff, Filter, HeaderModifier, PathMatch, RequestMatch, Retry},
        outbound::{Distribution, FailureAccrual, HttpRule, Lookup, Policy, Protocol},
    },
    telemetry::metrics::exposition,
    testing::*,
};
use http::{HeaderName, HeaderValue};
use std::{cell::Cell, net::SocketAddr, rc::Rc, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::spawn_local,
    time::{self, Instant},
};

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: web\r\n\r\n";

fn set_policy(mesh: &Mesh, rules: impl Fn() -> Vec<HttpRule>) {
    mesh.outbound.send_replace(Lookup::Policy(Arc::new(routed(rules(), rules()))));
}

fn retry(max_retries: u16) -> Retry {
    Retry {
        max_retries,
        max_request_bytes: 64 * 1_024,
        statuses: vec![(500, 599)],
        grpc_codes: vec![],
        timeout: None,
        backoff: None,
    }
}

/// Answers 500 to as many requests as `failures` says, then 200.
async fn flaky(failures: usize) -> Origin {
    let left = Rc::new(Cell::new(failures));
    Origin::with(move |mut socket, got| {
        let left = left.clone();
        async move {
            while read_request(&mut socket, &got).await {
                let fails = left.get() > 0;
                left.set(left.get().saturating_sub(1));
                let answer = if fails { "HTTP/1.1 500 Oops\r\ncontent-length: 0\r\n\r\n" } else { OK };
                socket.write_all(answer.as_bytes()).await.unwrap();
            }
        }
    })
    .await
}

#[test]
fn a_route_sends_by_header_to_another_backend_and_changes_headers() {
    run(async {
        let (v1, v2) = (Origin::start(OK).await, Origin::start(OK).await);
        let mesh = Mesh::start(v1.addr).await;
        mesh.endpoints.borrow_mut().insert("v2".into(), tokio::sync::watch::channel(set([plain(v2.addr)])).0);
        set_policy(&mesh, || {
            let header = crate::policy::http::HeaderMatch {
                name: HeaderName::from_static("end-user"),
                value: crate::policy::http::ValueMatch::Exact(b"jason".to_vec()),
            };
            let add = HeaderModifier {
                add: vec![(HeaderName::from_static("x-added"), HeaderValue::from_static("1"))],
                ..HeaderModifier::default()
            };
            let jason = HttpRule {
                matches: vec![RequestMatch { headers: vec![header], ..RequestMatch::default() }],
                filters: vec![Filter::RequestHeaders(add.clone()), Filter::ResponseHeaders(add)],
                ..rule("v2")
            };
            vec![jason, rule("web")]
        });
        exchange(mesh.app, GET).await;
        let response = exchange(mesh.app, b"GET / HTTP/1.1\r\nHost: web\r\nend-user: jason\r\n\r\n").await;
        assert!(response.contains("x-added: 1"), "{response}");
        assert!(v2.text().contains("x-added: 1"), "{}", v2.text());
        assert!(v1.text().contains("GET /") && !v1.text().contains("jason"));
    });
}

#[test]
fn routes_and_backends_are_timed_on_both_sides() {
    run(async {
        let origin = Origin::start(OK).await;
        let mesh = Mesh::start(origin.addr).await;
        assert_eq!(status(&exchange(mesh.app, GET).await), 200);
        let page: String = exposition::pages(&mesh.telemetry).collect();
        for family in [
            "outbound_http_route_request_duration_seconds_count",
            "outbound_http_route_backend_response_duration_seconds_count",
            "inbound_http_request_duration_seconds_count",
            "inbound_http_requests_total",
        ] {
            let line =
                page.lines().find(|line| line.starts_with(family) && line.contains("parent_name=\"web\""));
            assert!(line.is_some_and(|line| line.ends_with(" 1")), "{family}: {line:?}");
        }
    });
}

#[test]
fn nothing_matches_is_404() {
    run(async {
        let origin = Origin::start(OK).await;
        let mesh = Mesh::start(origin.addr).await;
        set_policy(&mesh, || {
            let matches =
                vec![RequestMatch { path: PathMatch::Exact("/only".into()), ..RequestMatch::default() }];
            vec![HttpRule { matches, ..rule("web") }]
        });
        let response = exchange(mesh.app, GET).await;
        assert_eq!(status(&response), 404);
        assert!(response.contains("l5d-proxy-error: no route"), "{response}");
        assert_eq!(origin.text(), "");
    });
}

#[test]
fn weights_are_kept() {
    run(async {
        let (v1, v2) = (Origin::start(OK).await, Origin::start(OK).await);
        let mesh = Mesh::start(v1.addr).await;
        mesh.endpoints.borrow_mut().insert("v2".into(), tokio::sync::watch::channel(set([plain(v2.addr)])).0);
        set_policy(&mesh, || {
            let backends = Distribution::RandomAvailable(vec![(backend("web"), 90), (backend("v2"), 10)]);
            vec![HttpRule { backends, ..rule("web") }]
        });
        let mut client = TcpStream::connect(mesh.app).await.unwrap();
        for _ in 0..1_000 {
            client.write_all(GET).await.unwrap();
            assert_eq!(status(&read_response(&mut client).await), 200);
        }
        let share = v2.text().matches("GET /").count();
        assert!((60..140).contains(&share), "{share} of 1,000");
    });
}

#[test]
fn a_retry_masks_a_failure_and_sends_the_body_again() {
    run(async {
        let origin = flaky(2).await;
        let mesh = Mesh::start(origin.addr).await;
        set_policy(&mesh, || vec![HttpRule { retry: Some(retry(2)), ..rule("web") }]);
        let post =
            b"POST / HTTP/1.1\r\nHost: web\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
        assert_eq!(status(&exchange(mesh.app, post).await), 200);
        assert_eq!(origin.text().matches("5\r\nhello\r\n0\r\n\r\n").count(), 3);
    });
}

/// A body of 64 KiB is sent again to the last byte; a longer one is passed on once, as it came.
#[test]
fn a_body_is_sent_again_if_it_is_not_longer_than_may_be_kept() {
    run(async {
        for (bytes, chunked, tries, want) in
            [(65_536, false, 2, 200), (65_536, true, 2, 200), (65_537, false, 1, 500), (65_537, true, 1, 500)]
        {
            let origin = flaky(1).await;
            let mesh = Mesh::start(origin.addr).await;
            set_policy(&mesh, || vec![HttpRule { retry: Some(retry(1)), ..rule("web") }]);
            let body = "z".repeat(bytes);
            let post = match chunked {
                false => format!("POST / HTTP/1.1\r\nHost: web\r\ncontent-length: {bytes}\r\n\r\n{body}"),
                true => format!(
                    "POST / HTTP/1.1\r\nHost: web\r\ntransfer-encoding: chunked\r\n\r\n{bytes:x}\r\n{body}\r\n0\r\n\r\n"
                ),
            };
            let response = exchange(mesh.app, post.as_bytes()).await;
            let got = origin.text();
            assert_eq!(
                (status(&response), got.matches("POST / ").count()),
                (want, tries),
                "{bytes} {chunked}"
            );
            // The chunks may be others, the bytes not. (No header has this letter.)
            assert_eq!(got.matches('z').count(), tries * bytes, "{bytes} {chunked}");
        }
    });
}

#[test]
fn without_a_retry_policy_a_failure_is_passed_on() {
    run(async {
        let origin = flaky(1).await;
        let mesh = Mesh::start(origin.addr).await;
        assert_eq!(status(&exchange(mesh.app, GET).await), 500);
        assert_eq!(status(&exchange(mesh.app, GET).await), 200);
    });
}

#[test]
fn retries_stay_within_the_budget() {
    run(async {
        let origin = flaky(usize::MAX).await;
        let mesh = Mesh::start(origin.addr).await;
        set_policy(&mesh, || vec![HttpRule { retry: Some(retry(3)), ..rule("web") }]);
        let start = Instant::now();
        for _ in 0..100 {
            assert_eq!(status(&exchange(mesh.app, GET).await), 500);
        }
        let bound = 100 + 20 + 10 * (1 + start.elapsed().as_secs() as usize + 1);
        let attempts = origin.text().matches("GET /").count();
        assert!(attempts <= bound, "{attempts} attempts, at most {bound}");
    });
}

#[test]
fn a_request_that_takes_too_long_is_504() {
    run(async {
        let origin = Origin::with(|mut socket, got| async move {
            read_request(&mut socket, &got).await;
            std::future::pending::<()>().await;
        })
        .await;
        let mesh = Mesh::start(origin.addr).await;
        set_policy(&mesh, || {
            let mut rule = rule("web");
            rule.timeouts.request = Some(Duration::from_millis(100));
            vec![rule]
        });
        let start = Instant::now();
        let response = exchange(mesh.app, GET).await;
        assert_eq!(status(&response), 504, "{response}");
        assert!(start.elapsed() < Duration::from_secs(5));
    });
}

fn idle(limit: Duration) -> Vec<HttpRule> {
    let mut rule = rule("web");
    rule.timeouts.idle = Some(limit);
    vec![rule]
}

/// Row H-50: what stalls is ended, at each of the three places where it can.
#[test]
fn a_request_that_stalls_is_ended() {
    run(async {
        let origin = Origin::with(|mut socket, got| async move {
            let mut bytes = [0; 4_096];
            let n = socket.read(&mut bytes).await.unwrap();
            got.push(&bytes[..n]);
            if bytes.starts_with(b"GET /half") {
                socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nha").await.unwrap();
            }
            std::future::pending::<()>().await;
        })
        .await;
        let mesh = Mesh::start(origin.addr).await;
        set_policy(&mesh, || idle(Duration::from_millis(200)));
        let upload = b"POST / HTTP/1.1\r\nHost: web\r\ncontent-length: 4\r\n\r\nha";
        for request in [GET, upload] {
            let response = exchange(mesh.app, request).await;
            assert_eq!(status(&response), 504, "{response}");
            assert!(response.contains("l5d-proxy-error: nothing was sent for too long"), "{response}");
        }
        let response = exchange(mesh.app, b"GET /half HTTP/1.1\r\nHost: web\r\n\r\n").await;
        assert!(response.ends_with("\r\n\r\nha"), "broken off: {response}");
    });
}

/// What only takes long is not idle: each piece, of the request or of the response, begins the wait anew.
#[test]
fn a_slow_exchange_is_not_idle() {
    run(async {
        let piece = Duration::from_millis(100);
        let origin = Origin::with(move |mut socket, got| async move {
            read_request(&mut socket, &got).await;
            socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\n").await.unwrap();
            for _ in 0..8 {
                time::sleep(piece).await;
                socket.write_all(b"x").await.unwrap();
            }
        })
        .await;
        let mesh = Mesh::start(origin.addr).await;
        set_policy(&mesh, || idle(4 * piece));
        let mut client = TcpStream::connect(mesh.app).await.unwrap();
        client.write_all(b"POST / HTTP/1.1\r\nHost: web\r\ncontent-length: 8\r\n\r\n").await.unwrap();
        for _ in 0..8 {
            time::sleep(piece).await;
            client.write_all(b"x").await.unwrap();
        }
        let response = read_response(&mut client).await;
        assert!(response.ends_with("xxxxxxxx"), "{response}");
    });
}

#[test]
fn a_refused_connection_is_tried_elsewhere() {
    run(async {
        let origin = Origin::start(OK).await;
        let gone = closed_port().await;
        let mesh = Mesh::start(origin.addr).await;
        let endpoints = set([plain(gone), plain(origin.addr)]);
        mesh.endpoints.borrow_mut().insert("web".into(), tokio::sync::watch::channel(endpoints).0);
        for _ in 0..20 {
            assert_eq!(status(&exchange(mesh.app, GET).await), 200);
        }
    });
}

#[test]
fn without_endpoints_a_request_waits_and_then_all_fail_fast() {
    run(async {
        let origin = Origin::start(OK).await;
        let mesh = Mesh::start(origin.addr).await;
        let (endpoints, _) = tokio::sync::watch::channel(set([]));
        mesh.endpoints.borrow_mut().insert("web".into(), endpoints);
        let start = Instant::now();
        let response = exchange(mesh.app, GET).await;
        assert_eq!(status(&response), 503, "{response}");
        assert!(start.elapsed() >= Duration::from_millis(400));
        let start = Instant::now();
        assert_eq!(status(&exchange(mesh.app, GET).await), 503);
        assert!(start.elapsed() < Duration::from_millis(300), "fails fast");
        mesh.endpoints.borrow()["web"].send_replace(set([plain(origin.addr)]));
        assert_eq!(status(&exchange(mesh.app, GET).await), 200, "and recovers at once");
    });
}

async fn closed_port() -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap()
}

/// They have waited for the same moment: the endpoint rests for tenths of a second, and not for ten seconds.
#[test]
fn many_who_are_refused_at_once_are_one_failed_connect() {
    run(async {
        let addr = closed_port().await;
        let mesh = Mesh::start(addr).await;
        let all: Vec<_> = (0..20).map(|_| spawn_local(exchange(mesh.app, GET))).collect();
        for one in all {
            assert_ne!(status(&one.await.unwrap()), 200);
        }
        let listener = tokio::net::TcpListener::bind(addr).await.unwrap();
        spawn_local(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                let mut piece = [0; 1_024];
                while let Ok(1..) = socket.read(&mut piece).await {
                    socket.write_all(OK.as_bytes()).await.unwrap();
                }
            }
        });
        let start = Instant::now();
        while status(&exchange(mesh.app, GET).await) != 200 {
            assert!(start.elapsed() < Duration::from_secs(5), "it rests for too long");
            time::sleep(Duration::from_millis(20)).await;
        }
    });
}

#[test]
fn two_equal_endpoints_share_evenly_and_a_third_gets_its_share() {
    run(async {
        let origins = [Origin::start(OK).await, Origin::start(OK).await, Origin::start(OK).await];
        let mesh = Mesh::start(origins[0].addr).await;
        let two = set([plain(origins[0].addr), plain(origins[1].addr)]);
        mesh.endpoints.borrow_mut().insert("web".into(), tokio::sync::watch::channel(two).0);
        let mut client = TcpStream::connect(mesh.app).await.unwrap();
        let mut send = async |n: usize| {
            for _ in 0..n {
                client.write_all(GET).await.unwrap();
                assert_eq!(status(&read_response(&mut client).await), 200);
            }
        };
        send(2_000).await;
        let share = |origin: &Origin| origin.text().matches("GET /").count();
        assert!((900..1_100).contains(&share(&origins[0])), "{}", share(&origins[0]));
        mesh.endpoints.borrow()["web"].send_replace(set(origins.iter().map(|origin| plain(origin.addr))));
        send(900).await;
        assert!((210..390).contains(&share(&origins[2])), "{}", share(&origins[2]));
    });
}

/// Sets an endpoint aside after so many failures, for a minute.
fn breaking(rules: Vec<HttpRule>, max_failures: u32) -> Lookup {
    let backoff = Backoff { min: Duration::from_secs(60), max: Duration::from_secs(60), jitter: 0.0 };
    let mut http1 = http(rules);
    http1.failure_accrual = Some(FailureAccrual { max_failures, backoff });
    Lookup::Policy(Arc::new(Policy { meta: meta("Service", "web"), protocol: Protocol::Http1(http1) }))
}

#[test]
fn an_endpoint_that_keeps_failing_is_set_aside() {
    run(async {
        let (bad, good) = (flaky(usize::MAX).await, Origin::start(OK).await);
        let mesh = Mesh::start(good.addr).await;
        let both = set([plain(bad.addr), plain(good.addr)]);
        mesh.endpoints.borrow_mut().insert("web".into(), tokio::sync::watch::channel(both).0);
        mesh.outbound.send_replace(breaking(vec![rule("web")], 3));
        for _ in 0..60 {
            exchange(mesh.app, GET).await;
        }
        assert_eq!(bad.text().matches("GET /").count(), 3);
    });
}

/// A rule for `/in-time`, which has so long; and an endpoint that fails once is set aside for a minute.
fn in_time(limit: Duration) -> Lookup {
    let mut in_time = rule("web");
    in_time.matches =
        vec![RequestMatch { path: PathMatch::Exact("/in-time".into()), ..RequestMatch::default() }];
    in_time.timeouts.request = Some(limit);
    breaking(vec![in_time, rule("web")], 1)
}

/// The endpoint waits for the rest as we do.
#[test]
fn a_client_that_takes_too_long_is_no_failure_of_the_endpoint() {
    run(async {
        let origin = Origin::start(OK).await;
        let mesh = Mesh::start(origin.addr).await;
        mesh.outbound.send_replace(in_time(Duration::from_millis(50)));
        let mut client = TcpStream::connect(mesh.app).await.unwrap();
        let part = b"POST /in-time HTTP/1.1\r\nHost: web\r\ncontent-length: 9\r\n\r\npart";
        client.write_all(part).await.unwrap();
        let response = read_response(&mut client).await;
        assert_eq!(status(&response), 504, "{response}");
        assert_eq!(status(&exchange(mesh.app, GET).await), 200);
    });
}

/// It has hung for one request; then it is asked again only because there is no other, and a second later at the earliest.
#[test]
fn an_endpoint_that_does_not_answer_in_time_has_failed() {
    run(async {
        let origin = Origin::with(|mut socket, got| async move {
            let mut piece = [0; 1_024];
            while let Ok(n @ 1..) = socket.read(&mut piece).await {
                got.push(&piece[..n]);
                if piece.starts_with(b"GET /in-time") {
                    std::future::pending::<()>().await;
                }
                socket.write_all(OK.as_bytes()).await.unwrap();
            }
        })
        .await;
        let mesh = Mesh::start(origin.addr).await;
        mesh.outbound.send_replace(in_time(Duration::from_millis(500)));
        let start = Instant::now();
        let response = exchange(mesh.app, b"GET /in-time HTTP/1.1\r\nHost: web\r\n\r\n").await;
        assert_eq!(status(&response), 504, "{response}");
        exchange(mesh.app, GET).await;
        let (took, asked) = (start.elapsed(), origin.text().contains("GET / "));
        assert!(!asked || took >= Duration::from_secs(1), "asked again after {took:?}");
    });
}

/// Row R15.
#[test]
fn when_all_are_set_aside_they_are_asked_again_soon() {
    run(async {
        let origin = flaky(3).await;
        let mesh = Mesh::start(origin.addr).await;
        mesh.outbound.send_replace(breaking(vec![rule("web")], 3));
        for _ in 0..3 {
            assert_eq!(status(&exchange(mesh.app, GET).await), 500);
        }
        let start = Instant::now();
        while status(&exchange(mesh.app, GET).await) != 200 {
            assert!(start.elapsed() < Duration::from_secs(10), "locked out");
            time::sleep(Duration::from_millis(20)).await;
        }
    });
}

#[test]
fn requests_go_by_authority_where_nobody_redirects() {
    run(async {
        let origin = Origin::start(OK).await;
        let mesh = Mesh::start(origin.addr).await;
        let response = exchange(mesh.proxy, b"GET http://web/x HTTP/1.1\r\nHost: web\r\n\r\n").await;
        assert_eq!(status(&response), 200);
        assert!(origin.text().contains("GET /x HTTP/1.1\r\n"), "{}", origin.text());
        assert!(origin.text().contains("host: web"));
    });
}

#[test]
fn a_tunnel_carries_what_is_in_it() {
    run(async {
        let origin = Origin::start(OK).await;
        let mesh = Mesh::start(origin.addr).await;
        let mut client = TcpStream::connect(mesh.proxy).await.unwrap();
        client.write_all(b"CONNECT web:80 HTTP/1.1\r\nHost: web:80\r\n\r\n").await.unwrap();
        let mut head = [0; 19];
        client.read_exact(&mut head).await.unwrap();
        assert!(head.starts_with(b"HTTP/1.1 200 OK\r\n"));
        client.write_all(GET).await.unwrap();
        assert_eq!(status(&read_response(&mut client).await), 200);
        assert!(origin.text().contains(&format!("l5d-client-id: {CLIENT}")), "it is HTTP like any other");
    });
}

/// Rows P-05, P-08: the server speaks first, each direction ends by itself.
#[test]
fn a_server_that_speaks_first_is_heard_and_half_close_passes() {
    run(async {
        let origin = Origin::with(|mut socket, got| async move {
            socket.write_all(b"hello\n").await.unwrap();
            let mut bytes = Vec::new();
            socket.read_to_end(&mut bytes).await.unwrap();
            got.push(&bytes);
            socket.write_all(b"bye\n").await.unwrap();
        })
        .await;
        let mesh = Mesh::start(origin.addr).await;
        for addr in [mesh.app, mesh.direct] {
            origin.clear();
            let mut client = TcpStream::connect(addr).await.unwrap();
            let start = Instant::now();
            let mut greeting = [0; 6];
            client.read_exact(&mut greeting).await.unwrap();
            // One second of silence, not one at each proxy; the rest is a slow machine's.
            assert!(start.elapsed() < Duration::from_millis(1_900), "{:?}", start.elapsed());
            client.write_all(b"some bytes").await.unwrap();
            client.shutdown().await.unwrap();
            let mut rest = String::new();
            client.read_to_string(&mut rest).await.unwrap();
            assert_eq!((rest.as_str(), origin.text().as_str()), ("bye\n", "some bytes"));
        }
    });
}

/// Row P-08: a reset passes in both directions.
#[test]
fn a_reset_is_passed_on() {
    run(async {
        let origin = Origin::with(|mut socket, _| async move {
            let mut byte = [0];
            let _ = socket.read(&mut byte).await;
            socket2::SockRef::from(&socket).set_linger(Some(Duration::ZERO)).unwrap();
        })
        .await;
        let mesh = Mesh::with(origin.addr, ProtocolHint::Opaque).await;
        let mut client = TcpStream::connect(mesh.direct).await.unwrap();
        client.write_all(b"\0\0\0\0").await.unwrap();
        let error = client.read(&mut [0; 8]).await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    });
}

/// Row H-45.
#[test]
fn a_websocket_is_joined_through_the_pair() {
    run(async {
        let origin = Origin::with(|mut socket, got| async move {
            read_request(&mut socket, &got).await;
            let switch =
                b"HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\n";
            socket.write_all(switch).await.unwrap();
            let mut bytes = [0; 5];
            socket.read_exact(&mut bytes).await.unwrap();
            socket.write_all(&bytes).await.unwrap();
        })
        .await;
        let mesh = Mesh::start(origin.addr).await;
        let mut client = TcpStream::connect(mesh.app).await.unwrap();
        let request = b"GET /ws HTTP/1.1\r\nHost: web\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
        client.write_all(request).await.unwrap();
        let response = read_response(&mut client).await;
        assert!(
            response.starts_with("HTTP/1.1 101") && response.contains("upgrade: websocket"),
            "{response}"
        );
        client.write_all(b"\0\n\r\n!").await.unwrap();
        let mut echo = [0; 5];
        client.read_exact(&mut echo).await.unwrap();
        assert_eq!(&echo, b"\0\n\r\n!");
        assert!(origin.text().contains("upgrade: websocket"), "{}", origin.text());
    });
}

/// Rows O-06: a switch that nobody asked for is not passed on.
#[test]
fn an_unsolicited_switch_is_a_bad_response() {
    run(async {
        let origin = Origin::start("HTTP/1.1 101 Switching Protocols\r\n\r\n").await;
        let mesh = Mesh::start(origin.addr).await;
        assert_eq!(status(&exchange(mesh.app, GET).await), 502);
    });
}

/// Row H-49.
#[test]
fn a_client_that_has_said_everything_still_gets_its_answer() {
    run(async {
        let origin = Origin::start(OK).await;
        let mesh = Mesh::start(origin.addr).await;
        for addr in [mesh.app, mesh.direct] {
            let mut client = TcpStream::connect(addr).await.unwrap();
            client.write_all(GET).await.unwrap();
            client.shutdown().await.unwrap();
            let mut response = String::new();
            client.read_to_string(&mut response).await.unwrap();
            assert_eq!(status(&response), 200);
        }
    });
}

/// Row H-18, H-48: answers come in order, and what follows a good request does not spoil it.
#[test]
fn pipelined_requests_are_answered_in_turn() {
    run(async {
        let origin = Origin::start(OK).await;
        let mesh = Mesh::start(origin.addr).await;
        for addr in [mesh.app, mesh.direct] {
            let mut client = TcpStream::connect(addr).await.unwrap();
            client.write_all(&[GET, GET, GET, b"\0garbage\r\n\r\n"].concat()).await.unwrap();
            let mut responses = String::new();
            let _ = time::timeout(PATIENCE, client.read_to_string(&mut responses)).await.unwrap();
            assert_eq!(responses.matches("HTTP/1.1 200").count(), 3, "{responses}");
            assert_eq!(responses.matches("HTTP/1.1 400").count(), 1, "{responses}");
        }
    });
}

/// Row T25: no plaintext to an endpoint with an identity, whatever happens.
#[test]
fn an_endpoint_with_an_identity_never_sees_plaintext() {
    run(async {
        // Somebody without TLS at the address where the peer's proxy should be.
        let impostor = Origin::with(|mut socket, got| async move {
            let mut bytes = [0; 4_096];
            let n = socket.read(&mut bytes).await.unwrap_or(0);
            got.push(&bytes[..n]);
            let _ = socket.write_all(OK.as_bytes()).await;
        })
        .await;
        let origin = Origin::start(OK).await;
        let mesh = Mesh::start(origin.addr).await;
        let endpoint = meshed(origin.addr, impostor.addr.port(), ProtocolHint::Http2);
        mesh.endpoints.borrow_mut().insert("web".into(), tokio::sync::watch::channel(set([endpoint])).0);
        let response = exchange(mesh.app, b"GET /secret HTTP/1.1\r\nHost: web\r\n\r\n").await;
        assert!(matches!(status(&response), 502 | 503), "{response}");
        assert!(!impostor.text().contains("secret") && !impostor.text().contains("transport.l5d.io/v1\r\n"));
        assert_eq!(impostor.got.borrow()[0][0], 0x16, "a ClientHello and nothing else");
    });
}

#[test]
fn removed_endpoints_finish_what_they_have_begun() {
    run(async {
        let origin = Origin::with(|mut socket, got| async move {
            read_request(&mut socket, &got).await;
            time::sleep(Duration::from_millis(300)).await;
            socket.write_all(OK.as_bytes()).await.unwrap();
        })
        .await;
        let other = Origin::start(OK).await;
        let mesh = Mesh::start(origin.addr).await;
        exchange(mesh.direct, GET).await;
        let app = mesh.app;
        let slow = spawn_local(async move { exchange(app, GET).await });
        while !origin.text().contains("host: web\r\n") {
            time::sleep(Duration::from_millis(5)).await;
        }
        time::sleep(Duration::from_millis(100)).await;
        mesh.endpoints.borrow()["web"].send_replace(set([plain(other.addr)]));
        assert_eq!(status(&slow.await.unwrap()), 200);
        assert_eq!(status(&exchange(mesh.app, GET).await), 200);
        assert!(other.text().contains("GET /"));
    });
}

#[test]
fn a_drain_finishes_requests_and_says_so() {
    run(async {
        let origin = Origin::with(|mut socket, got| async move {
            while read_request(&mut socket, &got).await {
                time::sleep(Duration::from_millis(200)).await;
                socket.write_all(OK.as_bytes()).await.unwrap();
            }
        })
        .await;
        let mesh = Mesh::start(origin.addr).await;
        let (app, mut clients) = (mesh.app, Vec::new());
        for addr in [app, mesh.direct] {
            let mut client = TcpStream::connect(addr).await.unwrap();
            client.write_all(GET).await.unwrap();
            clients.push(client);
        }
        while origin.text().matches("GET /").count() < 2 {
            time::sleep(Duration::from_millis(5)).await;
        }
        spawn_local(mesh.drain.finish(Duration::from_secs(20)));
        for mut client in clients {
            let mut response = String::new();
            client.read_to_string(&mut response).await.unwrap();
            assert!(status(&response) == 200 && response.contains("connection: close"), "{response}");
        }
    });
}

fn future_bytes<A, F: Future>(_: impl Fn(A) -> F) -> usize {
    size_of::<F>()
}

/// Held by every HTTP/2 stream, and by every HTTP/1 connection.
#[test]
fn a_request_under_way_is_small() {
    let outbound = future_bytes(|(session, req)| super::Session::request(session, req));
    let inbound = future_bytes(|(session, req)| crate::inbound::request::Session::request(session, req));
    assert!(outbound <= 2_560 && inbound <= 1_152, "{outbound}, {inbound}");
}
