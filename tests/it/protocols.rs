//! Item 9: what applications speak arrives as it was sent, with the mesh and without.

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http::{HeaderMap, HeaderValue, Request};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use mesh_tests::{
    client::{self, Body, Conn, raw::Raw},
    grpc::framed,
    mesh::Mesh,
    origin::{is_pattern, pattern, tcp},
    story::{run, run_alone},
    wait::{self, SOON},
    world::World,
};
use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_tungstenite::tungstenite::{Message, client::IntoClientRequest};

const PORT: u16 = 8080;
const WEBSOCKET: u16 = 8081;
const DETECTED: u16 = 7000;
const OPAQUE: u16 = 3306;

async fn mesh() -> Mesh {
    let mut world =
        World::new("demo").pod("app", "v1", &[]).pod("web", "v1", &[PORT, WEBSOCKET, DETECTED, OPAQUE]);
    for (name, port) in [("web", PORT), ("chat", WEBSOCKET), ("greeter", DETECTED), ("db", OPAQUE)] {
        world = world.service_of(name, "{ app: web }", port, "");
    }
    let mesh = Mesh::start(world).await;
    mesh.answers("app-v1", "web:8080/", 200).await;
    mesh
}

/// Both ways to the same application: directly, and through both proxies.
fn ways(mesh: &Mesh) -> [(&'static str, SocketAddr); 2] {
    [
        ("directly", mesh.proxy("web-v1").pod.app(PORT)),
        ("through the mesh", mesh.proxy("app-v1").pod.outbound()),
    ]
}

fn post(path: &str, body: Body) -> Request<Body> {
    let mut request = client::to(&format!("http://web:{PORT}{path}"));
    *request.method_mut() = http::Method::POST;
    *request.body_mut() = body;
    request
}

/// Frames in pieces, so that HTTP/1 sends them chunked.
fn chunks(pieces: &[&str], trailers: Option<HeaderMap>) -> Body {
    let mut frames: Vec<_> =
        pieces.iter().map(|piece| Ok(Frame::data(Bytes::from((*piece).to_owned())))).collect();
    frames.extend(trailers.map(|trailers| Ok(Frame::trailers(trailers))));
    StreamBody::new(tokio_stream::iter(frames)).boxed_unsync()
}

#[test]
fn head_204_and_chunks_are_the_same_with_and_without_mesh() {
    run(async || {
        let mesh = mesh().await;
        let mut answers = vec![];
        for (_, addr) in ways(&mesh) {
            let mut said = vec![];
            let mut head = client::to("http://web:8080/");
            *head.method_mut() = http::Method::HEAD;
            for request in [
                head,
                client::to("http://web:8080/status/204"),
                client::to("http://web:8080/status/404"),
                client::to("http://web:8080/bytes/100000"),
                post("/echo", chunks(&["one", "", "two", "three"], None)),
                post("/echo", client::body("with a length")),
                post("/count", pattern(1_000_000)),
            ] {
                let what = format!("{} {}", request.method(), request.uri().path());
                let reply =
                    client::send(addr, request).await.unwrap_or_else(|error| panic!("{what}: {error:#}"));
                // Each hop states its own time; all else is the application's.
                let mut headers = reply.headers;
                headers.remove("date");
                said.push((what, reply.status, headers, reply.body));
            }
            answers.push(said);
        }
        let meshed = answers.pop().unwrap();
        for (direct, meshed) in answers.pop().unwrap().into_iter().zip(meshed) {
            assert_eq!(direct, meshed);
        }
    });
}

#[test]
fn trailers_pass_both_ways() {
    run(async || {
        let mesh = mesh().await;
        for (way, addr) in ways(&mesh) {
            for version in ["HTTP/1.1", "HTTP/2"] {
                let trailers =
                    HeaderMap::from_iter([("x-checksum".parse().unwrap(), HeaderValue::from_static("abc"))]);
                let mut request = post("/echo", chunks(&["body"], Some(trailers)));
                request.headers_mut().insert("te", HeaderValue::from_static("trailers"));
                request.headers_mut().insert("trailer", HeaderValue::from_static("x-checksum"));
                // The echo announces what it sends, as HTTP/1 wants it.
                let mut conn = match version {
                    "HTTP/2" => Conn::http2(addr).await.unwrap(),
                    _ => Conn::http1(addr).await.unwrap(),
                };
                let reply = conn.send(request).await.unwrap().is(200);
                let got = reply.trailers.get("x-checksum").map(|value| value.as_bytes().to_vec());
                assert_eq!(
                    (reply.text(), got),
                    ("body".to_owned(), Some(b"abc".to_vec())),
                    "{version} {way}"
                );
            }
        }
    });
}

#[test]
fn a_client_that_expects_100_continue_hears_it_before_it_sends() {
    run(async || {
        let mesh = mesh().await;
        for (way, addr) in ways(&mesh) {
            let mut raw = Raw::connect(addr).await.unwrap();
            raw.write(
                "POST /count HTTP/1.1\r\nhost: web:8080\r\ncontent-length: 5\r\nexpect: 100-continue\r\n\r\n",
            )
            .await
            .unwrap();
            let head = raw.head().await.unwrap_or_else(|error| panic!("{way}: {error:#}"));
            assert!(head.starts_with("HTTP/1.1 100"), "{way}: {head}");
            raw.write("hello").await.unwrap();
            let (head, body) = raw.response().await.unwrap();
            assert!(head.starts_with("HTTP/1.1 200") && body == b"5", "{way}: {head}");
        }
    });
}

fn grpc(body: Body) -> Request<Body> {
    let mut request = post("/echo", body);
    request.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    request.headers_mut().insert("te", HeaderValue::from_static("trailers"));
    request
}

#[test]
fn grpc_unary_and_streams_are_not_held_back() {
    run(async || {
        let mesh = mesh().await;
        for (way, addr) in ways(&mesh) {
            let mut conn = Conn::http2(addr).await.unwrap();
            let reply = conn.send(grpc(client::body(framed(b"unary")))).await.unwrap().is(200);
            assert_eq!(
                (reply.body, reply.trailers["grpc-status"].as_bytes()),
                (framed(b"unary"), &b"0"[..]),
                "{way}"
            );

            // Each message is answered before the next is sent: nothing in between may wait for the stream's end.
            let (tx, rx) = mpsc::channel::<std::io::Result<Frame<Bytes>>>(1);
            let sending = conn.open(grpc(StreamBody::new(ReceiverStream::new(rx)).boxed_unsync()));
            let response =
                wait::within(SOON, "response headers before the first message", sending).await.unwrap();
            let mut body = response.into_body();
            for number in 0..5 {
                let message = framed(format!("message {number}").as_bytes());
                tx.send(Ok(Frame::data(message.clone()))).await.unwrap();
                let mut back = Vec::new();
                while back.len() < message.len() {
                    let frame =
                        wait::within(SOON, "the echo", body.frame()).await.expect("an open stream").unwrap();
                    back.extend_from_slice(frame.data_ref().expect("data"));
                }
                assert_eq!(back, message, "{way}");
            }
            drop(tx);
            let end = wait::within(SOON, "trailers", body.frame()).await.expect("trailers").unwrap();
            assert_eq!(end.trailers_ref().expect("trailers")["grpc-status"], "0", "{way}");
        }
    });
}

#[test]
fn a_websocket_echoes_text_binary_and_pings() {
    run(async || {
        let mesh = mesh().await;
        let _chat = tcp::websocket(mesh.proxy("web-v1").pod.app(WEBSOCKET)).await;
        for (way, addr) in [
            ("directly", mesh.proxy("web-v1").pod.app(WEBSOCKET)),
            ("through the mesh", mesh.proxy("app-v1").pod.outbound()),
        ] {
            let request = "ws://chat:8081/room".into_client_request().unwrap();
            let stream = client::connect(addr).await.unwrap();
            let opening = tokio_tungstenite::client_async(request, stream);
            let (mut socket, response) = wait::within(SOON, "the upgrade", opening)
                .await
                .unwrap_or_else(|error| panic!("{way}: {error}"));
            assert_eq!(response.status(), 101, "{way}");
            for message in [
                Message::text("hello"),
                Message::binary(vec![0, 255, 10, 13]),
                Message::binary(vec![7; 200_000]),
            ] {
                socket.send(message.clone()).await.unwrap();
                let back = wait::within(SOON, "the echo", socket.next()).await.expect("open").unwrap();
                assert_eq!(back, message, "{way}");
            }
            socket.close(None).await.unwrap();
            while let Some(Ok(_)) = wait::within(SOON, "the close", socket.next()).await {}
        }
    });
}

#[test]
fn a_server_that_speaks_first_is_heard_at_once_where_declared_and_within_a_second_elsewhere() {
    run_alone(async || {
        let mesh = mesh().await;
        let web = &mesh.proxy("web-v1").pod;
        let _db = tcp::greets(web.app(OPAQUE), b"5.7.0-greeting").await;
        let _greeter = tcp::greets(web.app(DETECTED), b"220 mail ready\r\n").await;
        // The second is ours to wait for the client's first bytes, and there is one of it, however many proxies stand in between.
        // What is beyond is for the bytes' own way.
        for (to, greeting, limit_ms) in
            [("db:3306", &b"5.7.0-greeting"[..], 200), ("greeter:7000", b"220 mail ready\r\n", 1_300)]
        {
            let mut took = vec![];
            for _ in 0..2 {
                let start = Instant::now();
                let stream = client::tunnel(mesh.proxy("app-v1").pod.outbound(), to)
                    .await
                    .unwrap_or_else(|error| panic!("{to}: {error:#}"));
                let mut raw = Raw::over(stream);
                assert_eq!(raw.exact(greeting.len()).await.unwrap(), greeting, "{to}");
                took.push(start.elapsed());
                raw.write("QUIT\r\n").await.unwrap();
                assert_eq!(raw.exact(6).await.unwrap(), b"QUIT\r\n");
            }
            // The first connection also asked for policy and made the hop.
            assert!(took[1] < Duration::from_millis(limit_ms), "{to} greeted after {took:?}");
        }
    });
}

#[test]
fn each_direction_of_a_tcp_connection_closes_by_itself() {
    run(async || {
        let mesh = mesh().await;
        // Answers only once the client has finished: a half-close must get through.
        let _server = tcp::serve(mesh.proxy("web-v1").pod.app(OPAQUE), |mut stream, keep| async move {
            use tokio::io::{AsyncReadExt, AsyncWriteExt};
            let mut all = Vec::new();
            let _ = stream.read_to_end(&mut all).await;
            keep.push(&all);
            let _ = stream.write_all(format!("{} bytes", all.len()).as_bytes()).await;
            let _ = stream.shutdown().await;
        })
        .await;
        let stream = client::tunnel(mesh.proxy("app-v1").pod.outbound(), "db:3306").await.unwrap();
        let mut raw = Raw::over(stream);
        raw.write(vec![9; 100_000]).await.unwrap();
        raw.half_close().await.unwrap();
        assert_eq!(raw.to_end().await.unwrap(), b"100000 bytes");
    });
}

#[test]
fn a_hundred_megabytes_pass_each_way_unchanged_without_filling_memory() {
    run(async || {
        const LENGTH: u64 = 100 << 20;
        /// What may be under way in two proxies' sockets, TLS records and HTTP/2 windows, and nothing that grows with a body.
        const FLAT: u64 = 8 << 20;
        let mesh = mesh().await;
        let proxies = [mesh.proxy("app-v1"), mesh.proxy("web-v1")];
        // One smaller exchange first, so that buffers and connections exist.
        let mut conn = Conn::http1(mesh.proxy("app-v1").pod.outbound()).await.unwrap();
        conn.send(post("/echo", pattern(4 << 20))).await.unwrap().is(200);
        for direction in ["up", "down"] {
            let before = proxies.map(|proxy| {
                proxy.process.forget_peak();
                proxy.process.resident_bytes()
            });
            let passing = async {
                match direction {
                    "up" => {
                        let reply = conn.send(post("/check", pattern(LENGTH))).await.unwrap().is(200);
                        assert_eq!(reply.text(), format!("{LENGTH} bytes as they should be"));
                    }
                    _ => {
                        let request = client::to(&format!("http://web:{PORT}/bytes/{LENGTH}"));
                        let body = conn.open(request).await.unwrap().into_body();
                        assert_eq!(is_pattern(body).await, Ok(LENGTH));
                    }
                }
            };
            wait::within(Duration::from_secs(60), direction, passing).await;
            for (proxy, before) in proxies.iter().zip(before) {
                let grown = proxy.process.peak_resident_bytes().saturating_sub(before);
                assert!(grown < FLAT, "{} grew by {} KiB ({direction})", proxy.pod.name, grown >> 10);
            }
        }
    });
}
