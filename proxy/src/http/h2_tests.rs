//! HTTP/2 through the pair: gRPC with its trailers, refusals in its own terms, and what one version can say that the other cannot.

use crate::{
    http::{Local, body::RequestBody},
    policy::inbound::Authentication,
    testing::*,
};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, StreamBody, combinators::BoxBody};
use hyper::{
    body::{Frame, Incoming},
    client::conn::http2,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use std::{cell::RefCell, convert::Infallible, net::SocketAddr, rc::Rc, sync::Arc};
use tokio::{net::TcpStream, task::spawn_local};

type Body = BoxBody<Bytes, Infallible>;

async fn connect(addr: SocketAddr) -> http2::SendRequest<Body> {
    let socket = TcpStream::connect(addr).await.unwrap();
    let (send, conn) = http2::Builder::new(Local).handshake(TokioIo::new(socket)).await.unwrap();
    spawn_local(conn);
    send
}

fn get(path: &str) -> http::request::Builder {
    Request::builder().uri(format!("http://web{path}"))
}

fn empty(builder: http::request::Builder) -> Request<Body> {
    builder.body(Full::default().boxed()).unwrap()
}

/// An HTTP/2 application that echoes bodies and ends with trailers; keeps the heads it got.
async fn echo() -> (SocketAddr, Rc<RefCell<Vec<http::request::Parts>>>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (addr, heads) = (listener.local_addr().unwrap(), Rc::new(RefCell::new(Vec::new())));
    let kept = heads.clone();
    spawn_local(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let kept = kept.clone();
            let service = service_fn(move |req: Request<Incoming>| {
                let kept = kept.clone();
                async move {
                    let (head, body) = req.into_parts();
                    let head_only = head.method == http::Method::HEAD;
                    kept.borrow_mut().push(head);
                    let bytes = body.collect().await.unwrap().to_bytes();
                    let trailers = HeaderMap::from_iter([
                        ("grpc-status".parse().unwrap(), HeaderValue::from_static("0")),
                        ("x-trailer".parse().unwrap(), HeaderValue::from_static("yes")),
                    ]);
                    let frames = [Ok::<_, Infallible>(Frame::data(bytes)), Ok(Frame::trailers(trailers))];
                    let mut res = Response::new(match head_only {
                        true => Full::default().boxed(),
                        false => StreamBody::new(futures_util::stream::iter(frames)).boxed(),
                    });
                    if head_only {
                        res.headers_mut().insert("content-length", HeaderValue::from_static("1234"));
                    }
                    Ok::<_, Infallible>(res)
                }
            });
            spawn_local(
                hyper::server::conn::http2::Builder::new(Local)
                    .serve_connection(TokioIo::new(socket), service),
            );
        }
    });
    (addr, heads)
}

fn grpc(body: &'static str) -> Request<Body> {
    let builder = get("/echo.Echo/Unary")
        .method("POST")
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    builder.body(Full::from(body).boxed()).unwrap()
}

async fn exchange_grpc(addr: SocketAddr) {
    let res = connect(addr).await.send_request(grpc("hello")).await.unwrap();
    assert_eq!(res.status(), StatusCode::OK);
}

/// Row F-15: body and trailers arrive, and the application knows its client.
#[test]
fn grpc_passes_with_its_trailers() {
    run(async {
        let (addr, heads) = echo().await;
        let mesh = Mesh::start(addr).await;
        for position in [mesh.app, mesh.direct] {
            let mut client = connect(position).await;
            let res = client.send_request(grpc("hello")).await.unwrap();
            assert_eq!(res.status(), StatusCode::OK);
            let body = res.into_body().collect().await.unwrap();
            assert_eq!(body.trailers().unwrap()["x-trailer"], "yes");
            assert_eq!(body.to_bytes(), "hello");
        }
        let heads = heads.borrow();
        assert_eq!(
            (&heads[0].headers["l5d-client-id"], &heads[0].headers["te"]),
            (&HeaderValue::from_static(CLIENT), &HeaderValue::from_static("trailers"))
        );
        assert!(!heads[1].headers.contains_key("l5d-client-id"));
    });
}

#[test]
fn grpc_hears_a_refusal_in_its_own_terms() {
    run(async {
        let (addr, heads) = echo().await;
        let mesh = Mesh::start(addr).await;
        let other = Authentication::TlsAuthenticated { identities: vec!["other".into()], suffixes: vec![] };
        mesh.inbound.send_replace(Arc::new(allow(other)));
        let mut client = connect(mesh.app).await;
        let res = client.send_request(grpc("hello")).await.unwrap();
        assert_eq!(
            (res.status(), &res.headers()["grpc-status"]),
            (StatusCode::OK, &HeaderValue::from_static("7"))
        );
        assert!(heads.borrow().is_empty());
    });
}

/// Rows F-02, F-07, F-08, F-10 to F-12.
#[test]
fn what_http2_cannot_mean_is_refused() {
    run(async {
        let (addr, heads) = echo().await;
        let mesh = Mesh::start(addr).await;
        for position in [mesh.app, mesh.direct] {
            let mut client = connect(position).await;
            for (what, req) in [
                ("authority and host", empty(get("/").header("host", "other"))),
                ("scheme", empty(Request::get("ftp://web/"))),
                ("user", empty(Request::get("http://u:p@web/"))),
                (
                    "blank before a value",
                    empty(get("/").header("x", HeaderValue::from_bytes(b" a").unwrap())),
                ),
                ("length", empty(get("/").header("content-length", "00"))),
            ] {
                let got = client.send_request(req).await.map(|res| res.status());
                assert!(matches!(got, Ok(StatusCode::BAD_REQUEST) | Err(_)), "{what}: {got:?}");
                if got.is_err() {
                    client = connect(position).await;
                }
            }
            assert!(heads.borrow().is_empty());
            let head = empty(get("/").method("HEAD").header("host", "web"));
            let res = client.send_request(head).await.unwrap();
            assert_eq!(
                (res.status(), &res.headers()["content-length"]),
                (StatusCode::OK, &HeaderValue::from_static("1234"))
            );
            heads.borrow_mut().clear();
        }
    });
}

/// Rows F-16, and a body without a length to an HTTP/1 application: what only HTTP/2 can say is said in HTTP/1's words.
#[test]
fn http2_to_an_http1_application() {
    run(async {
        let origin = Origin::start(OK).await;
        let mesh = Mesh::start(origin.addr).await;
        // The application speaks HTTP/1 only where the proxy that carries says so; so this is HTTP/1 by the pair.
        let response = exchange(mesh.app, b"GET / HTTP/1.1\r\nHost: web\r\nCookie: a=1\r\nCookie: b=2\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n").await;
        assert_eq!(status(&response), 200);
        let got = origin.text();
        assert!(
            got.contains("cookie: a=1; b=2\r\n") && got.contains("transfer-encoding: chunked\r\n"),
            "{got}"
        );
        assert!(got.contains("abc\r\n0\r\n\r\n") && !got.contains("orig-proto"), "{got}");
    });
}

/// More requests at once than one connection takes.
#[test]
fn connections_grow_when_streams_run_out() {
    run(async {
        let (addr, heads) = echo().await;
        let mesh = Mesh::start(addr).await;
        // While endpoints are not known, only as many may wait as the policy says.
        exchange_grpc(mesh.app).await;
        let mut tasks = Vec::new();
        for _ in 0..3 {
            let mut client = connect(mesh.app).await;
            for _ in 0..150 {
                let sent = client.send_request(grpc("hello"));
                tasks.push(spawn_local(async move { sent.await.unwrap() }));
            }
        }
        for task in tasks {
            let res = task.await.unwrap();
            assert_eq!(res.headers().get("l5d-proxy-error"), None);
        }
        assert_eq!(heads.borrow().len(), 451);
    });
}

/// Row R3: a server that dies with a request that only asks.
#[test]
fn a_question_to_a_server_that_dies_is_asked_elsewhere() {
    run(async {
        let (addr, _) = echo().await;
        let dying = Origin::with(|mut socket, got| async move {
            let mut bytes = [0; 4_096];
            // The preface, then the request.
            while !String::from_utf8_lossy(got.bytes().as_slice()).contains("PRI") || got.bytes().len() < 100
            {
                match tokio::io::AsyncReadExt::read(&mut socket, &mut bytes).await {
                    Ok(0) | Err(_) => return,
                    Ok(n) => got.push(&bytes[..n]),
                }
            }
        })
        .await;
        let mesh = Mesh::start(addr).await;
        let both = set([plain(dying.addr), plain(addr)]);
        mesh.endpoints.borrow_mut().insert("web".into(), tokio::sync::watch::channel(both).0);
        let mut client = connect(mesh.app).await;
        for _ in 0..10 {
            let res = client.send_request(empty(get("/"))).await.unwrap();
            assert_eq!(res.status(), StatusCode::OK);
        }
        assert!(!dying.got.borrow().is_empty());
    });
}

/// The kinds of bodies are small: a request's future holds several.
#[test]
fn a_request_body_is_small() {
    assert!(size_of::<RequestBody>() <= 80, "{}", size_of::<RequestBody>());
}
