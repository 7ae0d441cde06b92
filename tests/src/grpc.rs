//! A gRPC server by hand, over hyper: a test can do on a stream what no generated server would, such as send bytes that are no
//! message, stop without trailers, or never answer.

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::{convert::Infallible, io, net::SocketAddr, sync::Arc};
use tokio::{
    net::TcpListener,
    sync::mpsc,
    task::{JoinHandle, JoinSet},
};
use tokio_stream::wrappers::UnboundedReceiverStream;

pub use tonic::Code;

/// What a server does with a call.
pub trait Calls: Send + Sync + 'static {
    /// `path` is `/package.Service/Method`; `request` is its first message, unframed.
    fn call(&self, path: &str, request: Bytes) -> Answer;
}

/// How a call is answered.
#[derive(Debug)]
pub enum Answer {
    /// Headers at once, then what the channel says, until it is dropped.
    Stream(mpsc::UnboundedReceiver<Step>),
    /// Trailers only.
    Refuse(Code, String),
    /// Nothing, ever: not even headers.
    Silence,
}

/// One thing that happens on an answered stream.
#[derive(Debug)]
pub enum Step {
    /// One message, framed by us.
    Message(Bytes),
    /// Bytes as they are, framing included.
    Raw(Bytes),
    /// Trailers with this status: the stream is over.
    Status(Code, String),
    /// The stream is reset.
    Reset,
}

/// A listening server. Dropping it closes the port and every connection.
#[derive(Debug)]
pub struct Server {
    pub addr: SocketAddr,
    accept: JoinHandle<()>,
}

impl Server {
    pub async fn start(addr: SocketAddr, calls: Arc<dyn Calls>) -> Server {
        let listener = crate::netns::listen(addr).await;
        let addr = listener.local_addr().expect("a bound socket has an address");
        Server { addr, accept: tokio::spawn(accept(listener, calls)) }
    }
}

impl Server {
    /// Closes the port and every connection, and returns once the port is free.
    pub async fn stop(mut self) {
        self.accept.abort();
        let _ = (&mut self.accept).await;
    }
}

impl Drop for Server {
    /// Aborting the accept loop drops its `JoinSet`, and with it every connection.
    fn drop(&mut self) {
        self.accept.abort();
    }
}

async fn accept(listener: TcpListener, calls: Arc<dyn Calls>) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else { return };
        let _ = stream.set_nodelay(true);
        let calls = calls.clone();
        connections.spawn(async move {
            let service = hyper::service::service_fn(move |req| serve(req, calls.clone()));
            let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

type Body = http_body_util::combinators::UnsyncBoxBody<Bytes, io::Error>;

async fn serve(req: Request<Incoming>, calls: Arc<dyn Calls>) -> Result<Response<Body>, Infallible> {
    let path = req.uri().path().to_owned();
    let body = req.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let mut response = Response::new(Body::default());
    response.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    match calls.call(&path, body.get(5..).map(|message| body.slice_ref(message)).unwrap_or_default()) {
        Answer::Refuse(code, message) => response.headers_mut().extend(trailers(code, &message)),
        Answer::Silence => std::future::pending().await,
        Answer::Stream(steps) => {
            let frames = tokio_stream::StreamExt::map(UnboundedReceiverStream::new(steps), frame);
            *response.body_mut() = StreamBody::new(frames).boxed_unsync();
        }
    }
    Ok(response)
}

fn frame(step: Step) -> io::Result<Frame<Bytes>> {
    match step {
        Step::Message(message) => Ok(Frame::data(framed(&message))),
        Step::Raw(bytes) => Ok(Frame::data(bytes)),
        Step::Status(code, message) => Ok(Frame::trailers(trailers(code, &message))),
        Step::Reset => Err(io::Error::other("the test resets the stream")),
    }
}

/// A message with gRPC's prefix: not compressed, length in four bytes.
pub fn framed(message: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(5 + message.len());
    out.put_u8(0);
    out.put_u32(message.len() as u32);
    out.put_slice(message);
    out.freeze()
}

fn trailers(code: Code, message: &str) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from(code as i32));
    if let Ok(message) = HeaderValue::from_str(message) {
        trailers.insert("grpc-message", message);
    }
    trailers
}
