//! Sends GET requests with kept-alive connections, through `http_proxy` where there is one.

use anyhow::{Context, bail};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::{HeaderMap, Request, StatusCode, Uri};
use hyper_util::{
    client::legacy::{
        self,
        connect::{Connected, Connection, HttpConnector},
    },
    rt::{TokioExecutor, TokioIo, TokioTimer},
};
use std::{
    io,
    pin::Pin,
    task::{self, Poll},
    time::Duration,
};
use tokio::net::TcpStream;
use tower_service::Service;

/// The largest answer that is read. The book shop's are a few kilobytes.
const MAX_BODY_BYTES: usize = 1 << 20;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

#[derive(Clone, Debug)]
pub struct Client {
    inner: legacy::Client<Connector, Empty<Bytes>>,
}

impl Client {
    /// `http_proxy` is a URL such as `http://127.0.1.1:4140`; empty means none.
    pub fn new(http_proxy: Option<&str>) -> anyhow::Result<Client> {
        let proxy = match http_proxy {
            None | Some("") => None,
            Some(url) => Some(proxy_uri(url)?),
        };
        let mut http = HttpConnector::new();
        http.set_nodelay(true);
        http.set_connect_timeout(Some(CONNECT_TIMEOUT));
        let inner = legacy::Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .build(Connector { http, proxy });
        Ok(Client { inner })
    }

    /// The whole exchange, body included, within `timeout`.
    pub async fn get(
        &self,
        uri: &Uri,
        headers: HeaderMap,
        timeout: Duration,
    ) -> anyhow::Result<(StatusCode, Bytes)> {
        let mut request = Request::new(Empty::new());
        *request.uri_mut() = uri.clone();
        *request.headers_mut() = headers;
        let exchange = async {
            let response = self.inner.request(request).await.with_context(|| format!("GET {uri}"))?;
            let status = response.status();
            let body = Limited::new(response.into_body(), MAX_BODY_BYTES).collect().await;
            let body = body.map_err(|e| anyhow::anyhow!(e)).with_context(|| format!("read {uri}"))?;
            Ok((status, body.to_bytes()))
        };
        tokio::time::timeout(timeout, exchange)
            .await
            .with_context(|| format!("GET {uri}: no answer in time"))?
    }
}

fn proxy_uri(url: &str) -> anyhow::Result<Uri> {
    let uri: Uri = url.parse().with_context(|| format!("http_proxy={url:?}"))?;
    if uri.scheme_str() != Some("http") || uri.host().is_none() {
        bail!("http_proxy={url:?}: want http://host:port");
    }
    Ok(uri)
}

/// Connects to the proxy instead of the request's host, and says so, for the request line to be in absolute form.
#[derive(Clone, Debug)]
struct Connector {
    http: HttpConnector,
    proxy: Option<Uri>,
}

impl Service<Uri> for Connector {
    type Response = Link;
    type Error = <HttpConnector as Service<Uri>>::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Link, Self::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut task::Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.http.poll_ready(cx)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let proxied = self.proxy.is_some();
        let connecting = self.http.call(self.proxy.clone().unwrap_or(uri));
        Box::pin(async move { Ok(Link { stream: connecting.await?, proxied }) })
    }
}

/// A connection that knows whether a proxy is at its other end.
struct Link {
    stream: TokioIo<TcpStream>,
    proxied: bool,
}

impl Connection for Link {
    fn connected(&self) -> Connected {
        self.stream.connected().proxy(self.proxied)
    }
}

impl hyper::rt::Read for Link {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut task::Context<'_>,
        buf: hyper::rt::ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl hyper::rt::Write for Link {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut task::Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
