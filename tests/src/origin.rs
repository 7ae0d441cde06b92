//! The applications behind a mesh: servers inside the test that record what reaches them.

pub mod tcp;

use crate::client::{Body, body};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, Version};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{
    net::{TcpListener, TcpStream},
    task::{JoinHandle, JoinSet},
};

type Handler =
    Arc<dyn Fn(Request<Incoming>) -> Pin<Box<dyn Future<Output = Response<Body>> + Send>> + Send + Sync>;

/// The head of a request as the application saw it.
#[derive(Clone, Debug)]
pub struct Seen {
    pub method: Method,
    pub uri: Uri,
    pub version: Version,
    pub headers: HeaderMap,
}

impl Seen {
    /// A header as text; empty when absent. Several are joined by `|`.
    pub fn header(&self, name: &str) -> String {
        let values = self.headers.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes()));
        values.collect::<Vec<_>>().join("|")
    }
}

/// An HTTP/1 and HTTP/2 server. It answers with its own name, unless told otherwise, except on these paths:
/// `/echo` (the request's body and trailers back, as gRPC if it was gRPC), `/bytes/N` (N bytes), `/count` (how many came),
/// `/check` (how many of `pattern`'s came), `/slow/N` (its name after N ms), `/status/N`. Dropping it closes everything.
pub struct Origin {
    pub addr: SocketAddr,
    pub name: String,
    seen: Arc<Mutex<Vec<Seen>>>,
    handler: Arc<Mutex<Handler>>,
    accept: JoinHandle<()>,
}

impl std::fmt::Debug for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Origin({} at {})", self.name, self.addr)
    }
}

impl Origin {
    pub async fn start(name: &str, addr: SocketAddr) -> Origin {
        Origin::on(name, crate::netns::listen(addr).await)
    }

    pub fn on(name: &str, listener: TcpListener) -> Origin {
        let addr = listener.local_addr().expect("a listener has an address");
        let own = name.to_owned();
        let usual: Handler = Arc::new(move |req| Box::pin(usual(own.clone(), req)));
        let handler = Arc::new(Mutex::new(usual));
        let seen = Arc::default();
        let accept = tokio::spawn(accept(listener, Arc::clone(&handler), Arc::clone(&seen)));
        Origin { addr, name: name.to_owned(), seen, handler, accept }
    }

    /// From now on requests are answered so.
    pub fn answers<A>(&self, answer: impl Fn(Request<Incoming>) -> A + Send + Sync + 'static)
    where
        A: Future<Output = Response<Body>> + Send + 'static,
    {
        *self.handler.lock().expect("no test panics with this lock") =
            Arc::new(move |req| Box::pin(answer(req)));
    }

    /// From now on every answer is this status, with the origin's name as body.
    pub fn answers_status(&self, status: u16) {
        let name = self.name.clone();
        self.answers(move |_| std::future::ready(text(status, &name)));
    }

    /// From now on every answer takes so long.
    pub fn answers_after(&self, delay: Duration) {
        let name = self.name.clone();
        self.answers(move |_| {
            let name = name.clone();
            async move {
                tokio::time::sleep(delay).await;
                text(200, &name)
            }
        });
    }

    /// Heads of all requests so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().expect("no test panics with this lock").clone()
    }

    pub fn count(&self) -> usize {
        self.seen.lock().expect("no test panics with this lock").len()
    }

    /// Forgets the requests so far; returns how many they were.
    pub fn reset(&self) -> usize {
        std::mem::take(&mut *self.seen.lock().expect("no test panics with this lock")).len()
    }

    /// The newest request. Panics when there is none.
    pub fn last(&self) -> Seen {
        self.seen().pop().unwrap_or_else(|| panic!("nothing reached {}", self.name))
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.accept.abort();
    }
}

pub fn text(status: u16, text: &str) -> Response<Body> {
    let mut response = Response::new(body(text.to_owned()));
    *response.status_mut() = StatusCode::from_u16(status).expect("a valid status");
    response
}

async fn accept(listener: TcpListener, handler: Arc<Mutex<Handler>>, seen: Arc<Mutex<Vec<Seen>>>) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else { return };
        let _ = stream.set_nodelay(true);
        connections.spawn(serve(stream, Arc::clone(&handler), Arc::clone(&seen)));
        while connections.try_join_next().is_some() {}
    }
}

async fn serve(stream: TcpStream, handler: Arc<Mutex<Handler>>, seen: Arc<Mutex<Vec<Seen>>>) {
    let service = hyper::service::service_fn(move |req: Request<Incoming>| {
        let head = Seen {
            method: req.method().clone(),
            uri: req.uri().clone(),
            version: req.version(),
            headers: req.headers().clone(),
        };
        seen.lock().expect("no test panics with this lock").push(head);
        let handler = handler.lock().expect("no test panics with this lock").clone();
        async move { Ok::<_, Infallible>(handler(req).await) }
    });
    // Both prefaces differ in their first byte from each other's only where a method starts with `PRI`; none does here.
    let mut first = [0; 3];
    while let Ok(read) = stream.peek(&mut first).await {
        if read == 0 {
            return;
        }
        if !b"PRI".starts_with(&first[..read.min(3)]) || read == 3 {
            break;
        }
        tokio::task::yield_now().await;
    }
    if &first == b"PRI" {
        let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
            .serve_connection(TokioIo::new(stream), service)
            .await;
    } else {
        let _ =
            hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
    }
}

async fn usual(name: String, req: Request<Incoming>) -> Response<Body> {
    let path = req.uri().path().to_owned();
    let number = path.rsplit('/').next().and_then(|last| last.parse::<u64>().ok()).unwrap_or(0);
    match path.split('/').nth(1).unwrap_or_default() {
        "echo" => echo(req),
        "bytes" => Response::new(pattern(number)),
        "count" => {
            let (mut body, mut count) = (req.into_body(), 0_u64);
            while let Some(Ok(frame)) = body.frame().await {
                count += frame.data_ref().map_or(0, |data| data.len() as u64);
            }
            text(200, &count.to_string())
        }
        "check" => match is_pattern(req.into_body()).await {
            Ok(length) => text(200, &format!("{length} bytes as they should be")),
            Err(wrong) => text(400, &wrong),
        },
        "slow" => {
            tokio::time::sleep(Duration::from_millis(number)).await;
            text(200, &name)
        }
        "status" => text(number as u16, &name),
        _ => text(200, &name),
    }
}

/// The request's frames back as they come. gRPC gets the trailers that say OK.
fn echo(req: Request<Incoming>) -> Response<Body> {
    let (head, body) = req.into_parts();
    let content_type = head.headers.get("content-type");
    let grpc = content_type.is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"));
    let echoed = body.map_err(io::Error::other);
    let mut response = if grpc {
        let ok =
            HeaderMap::from_iter([("grpc-status".parse().expect("a name"), HeaderValue::from_static("0"))]);
        Response::new(echoed.with_trailers(std::future::ready(Some(Ok(ok)))).boxed_unsync())
    } else {
        Response::new(echoed.boxed_unsync())
    };
    // HTTP/1 sends only trailers that were announced.
    for name in ["content-type", "trailer"] {
        if let Some(value) = head.headers.get(name) {
            response.headers_mut().insert(name, value.clone());
        }
    }
    response
}

/// The pattern repeats after this.
const PIECE: u64 = 64 * 1024;

/// Reads a body to its end; how long it was, if every byte was the pattern's.
pub async fn is_pattern(mut body: Incoming) -> Result<u64, String> {
    let mut at = 0;
    while let Some(frame) = body.frame().await {
        let data = frame.map_err(|error| format!("{error} after {at}"))?.into_data().unwrap_or_default();
        if !data.iter().zip(at..).all(|(byte, at)| u64::from(*byte) == at % PIECE % 251) {
            return Err(format!("a wrong byte after {at}"));
        }
        at += data.len() as u64;
    }
    Ok(at)
}

/// So many bytes of a known pattern, in pieces, never all in memory.
pub fn pattern(length: u64) -> Body {
    let piece: Bytes = (0..PIECE).map(|at| (at % 251) as u8).collect::<Vec<_>>().into();
    let frames = (0..length.div_ceil(PIECE)).map(move |index| {
        let left = (length - index * PIECE).min(PIECE);
        Ok(Frame::data(piece.slice(..left as usize)))
    });
    StreamBody::new(tokio_stream::iter(frames)).boxed_unsync()
}
