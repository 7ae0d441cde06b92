//! Answers every request, of HTTP/1 or HTTP/2, with what it was: `{"by", "method", "path", "headers"}`. `/status/503` answers with
//! that status, `/after/250` after so many milliseconds.

use crate::health;
use anyhow::{Context, Result};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, combinators::BoxBody};
use hyper::{
    Request, Response, StatusCode,
    body::Incoming,
    header::{CONTENT_TYPE, HeaderValue},
    service::service_fn,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use std::{collections::BTreeMap, convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    time,
};
use tokio_rustls::TlsAcceptor;

/// Pause after a failed `accept` (no file descriptor left), so as not to spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// No story waits longer.
const LONGEST: Duration = Duration::from_secs(30);

type Answer = Response<BoxBody<Bytes, Infallible>>;

pub async fn run(listen: SocketAddr, name: String, tls: Option<TlsAcceptor>) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
    let listener = TcpListener::bind(listen).await.with_context(|| format!("listen on {listen}"))?;
    let name: Arc<str> = name.into();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            // As an application does that never thought of it: whatever was under way is lost.
            _ = terminate.recv() => return Ok(()),
        };
        let Ok((stream, _)) = accepted else {
            time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let _ = stream.set_nodelay(true);
        let (name, tls) = (name.clone(), tls.clone());
        // A connection that breaks concerns nobody but its client.
        tokio::spawn(async move {
            match tls {
                None => serve(name, stream).await,
                Some(tls) => {
                    let Ok(stream) = tls.accept(stream).await else { return };
                    serve(name, stream).await;
                }
            }
        });
    }
}

async fn serve(name: Arc<str>, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
    let mut http = auto::Builder::new(TokioExecutor::new());
    http.http1().timer(TokioTimer::new());
    http.http2().timer(TokioTimer::new());
    let service = service_fn(move |request| answer(name.clone(), request));
    let _ = http.serve_connection(TokioIo::new(stream), service).await;
}

async fn answer(name: Arc<str>, request: Request<Incoming>) -> Result<Answer, Infallible> {
    let path = request.uri().path();
    if path == health::CHECK {
        return Ok(health::serving());
    }
    let mut status = StatusCode::OK;
    if let Some(wanted) = path.strip_prefix("/status/") {
        status = wanted.parse().unwrap_or(StatusCode::BAD_REQUEST);
    }
    if let Some(wanted) = path.strip_prefix("/after/") {
        let pause = Duration::from_millis(wanted.parse().unwrap_or_default());
        time::sleep(pause.min(LONGEST)).await;
    }
    let mut headers = BTreeMap::<&str, Vec<String>>::new();
    for (name, value) in request.headers() {
        headers
            .entry(name.as_str())
            .or_default()
            .push(String::from_utf8_lossy(value.as_bytes()).into_owned());
    }
    let said = serde_json::json!({
        "by": &*name,
        "method": request.method().as_str(),
        "path": path,
        "headers": headers,
    });
    let mut response = Response::new(Full::new(Bytes::from(said.to_string())).boxed());
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}
