//! HTTP as an application sends it: to an origin directly, or to its own proxy by `http_proxy` (absolute-form) or `Host`.

pub mod raw;

use anyhow::{Context, Result};
use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode, Version};
use http_body_util::{BodyExt, Full};
use hyper::{
    body::Incoming,
    client::conn::{http1, http2},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::{io, net::SocketAddr, time::Duration};
use tokio::net::TcpStream;

/// The body of every request and response that a test makes.
pub type Body = http_body_util::combinators::UnsyncBoxBody<Bytes, io::Error>;

/// No request of a test may take longer, unless the test says so.
pub const REQUEST_LIMIT: Duration = Duration::from_secs(20);

pub fn body(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// A GET of an absolute URI, with the `Host` that belongs to it.
pub fn to(uri: &str) -> Request<Body> {
    let mut request = Request::new(body(""));
    *request.uri_mut() = uri.parse().unwrap_or_else(|error| panic!("{uri}: {error}"));
    if let Some(authority) = request.uri().authority() {
        let host = authority.as_str().parse().expect("an authority is a valid header value");
        request.headers_mut().insert("host", host);
    }
    request
}

/// A whole response.
#[derive(Debug)]
pub struct Reply {
    pub status: StatusCode,
    pub version: Version,
    pub headers: HeaderMap,
    pub body: Bytes,
    pub trailers: HeaderMap,
}

impl Reply {
    /// Panics with everything known about the response unless it has this status.
    #[track_caller]
    pub fn is(self, status: u16) -> Reply {
        assert_eq!(self.status.as_u16(), status, "{:?} {:?}", self.headers, self.text());
        self
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// A header as text; empty when absent.
    pub fn header(&self, name: &str) -> String {
        let value =
            self.headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
        value.unwrap_or_default()
    }
}

/// One connection.
pub enum Conn {
    Http1(http1::SendRequest<Body>),
    Http2(http2::SendRequest<Body>),
}

impl std::fmt::Debug for Conn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Conn")
    }
}

impl Conn {
    pub async fn http1(addr: SocketAddr) -> Result<Conn> {
        Conn::http1_over(connect(addr).await?).await
    }

    /// HTTP/1 over a connection that was made already, such as a tunnel.
    pub async fn http1_over(
        io: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    ) -> Result<Conn> {
        let (send, conn) = http1::handshake(TokioIo::new(io)).await?;
        tokio::spawn(conn.with_upgrades());
        Ok(Conn::Http1(send))
    }

    /// HTTP/2 with prior knowledge.
    pub async fn http2(addr: SocketAddr) -> Result<Conn> {
        Conn::http2_over(connect(addr).await?).await
    }

    pub async fn http2_over(
        io: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    ) -> Result<Conn> {
        let (send, conn) = http2::handshake(TokioExecutor::new(), TokioIo::new(io)).await?;
        tokio::spawn(conn);
        Ok(Conn::Http2(send))
    }

    /// Sends and returns the response's head, with its body still to come.
    pub async fn open(&mut self, request: Request<Body>) -> Result<Response<Incoming>> {
        match self {
            Conn::Http1(send) => {
                send.ready().await?;
                Ok(send.send_request(request).await?)
            }
            Conn::Http2(send) => {
                send.ready().await?;
                Ok(send.send_request(request).await?)
            }
        }
    }

    /// Sends and reads the whole response.
    pub async fn send(&mut self, request: Request<Body>) -> Result<Reply> {
        let what = format!("{} {}", request.method(), request.uri());
        let answer = async { read(self.open(request).await?).await };
        tokio::time::timeout(REQUEST_LIMIT, answer).await.context("no answer in time").flatten().context(what)
    }
}

/// Reads a response to its end.
pub async fn read(response: Response<Incoming>) -> Result<Reply> {
    let (head, body) = response.into_parts();
    let body = body.collect().await.context("the body broke off")?;
    let trailers = body.trailers().cloned().unwrap_or_default();
    Ok(Reply {
        status: head.status,
        version: head.version,
        headers: head.headers,
        body: body.to_bytes(),
        trailers,
    })
}

/// Sends one HTTP/1 request on a connection of its own.
pub async fn send(via: SocketAddr, request: Request<Body>) -> Result<Reply> {
    Conn::http1(via).await?.send(request).await
}

/// GET of a path at an address, directly.
pub async fn get(addr: SocketAddr, path: &str) -> Result<Response<Bytes>> {
    let mut request = to(path);
    request.headers_mut().insert("host", addr.to_string().parse()?);
    let reply = send(addr, request).await?;
    let mut response = Response::new(reply.body);
    *response.status_mut() = reply.status;
    *response.headers_mut() = reply.headers;
    Ok(response)
}

/// Connects with a deadline.
pub async fn connect(addr: SocketAddr) -> Result<TcpStream> {
    let connected = tokio::time::timeout(Duration::from_secs(5), TcpStream::connect(addr)).await;
    let stream =
        connected.map_err(io::Error::from).flatten().with_context(|| format!("connect to {addr}"))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// A connection through a proxy's `CONNECT`.
pub async fn tunnel(via: SocketAddr, to: &str) -> Result<TcpStream> {
    let mut raw = raw::Raw::connect(via).await?;
    raw.write(format!("CONNECT {to} HTTP/1.1\r\nhost: {to}\r\n\r\n")).await?;
    let head = raw.head().await?;
    anyhow::ensure!(head.starts_with("HTTP/1.1 200"), "CONNECT {to} was answered {head:?}");
    raw.into_stream()
}
