//! One HTTP/1.1 server for every part: accepts, answers `/health`, and on SIGTERM or SIGINT finishes what it has begun.

use crate::bookshop::{details::Details, productpage::Productpage, ratings::Ratings, reviews::Reviews};
use anyhow::Context;
use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Request, StatusCode,
    body::Incoming,
    header::{CONTENT_TYPE, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
};
use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    time,
};

pub type Response = hyper::Response<Full<Bytes>>;

/// Requests that are still being answered when the signal comes get this long.
const GRACE: Duration = Duration::from_secs(5);
/// Pause after a failed `accept` (no file descriptor left), so as not to spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

#[derive(Debug)]
pub enum App {
    Productpage(Productpage),
    Details(Details),
    Reviews(Reviews),
    Ratings(Ratings),
    Traffic,
}

impl App {
    async fn answer(&self, request: Request<Incoming>) -> Response {
        if request.uri().path() == "/health" {
            return json(StatusCode::OK, r#"{"status":"healthy"}"#);
        }
        match self {
            App::Productpage(page) => page.answer(request).await,
            App::Details(details) => details.answer(&request),
            App::Reviews(reviews) => reviews.answer(&request).await,
            App::Ratings(ratings) => ratings.answer(&request).await,
            App::Traffic => not_found(),
        }
    }
}

pub async fn run(listen: SocketAddr, app: Arc<App>) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let listener = TcpListener::bind(listen).await.with_context(|| format!("listen on {listen}"))?;
    let open = GracefulShutdown::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
        };
        let Ok((stream, _)) = accepted else {
            time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        // Answers are small: waiting to fill a segment would only delay them.
        let _ = stream.set_nodelay(true);
        let app = app.clone();
        let service = service_fn(move |request| {
            let app = app.clone();
            async move { Ok::<_, Infallible>(app.answer(request).await) }
        });
        let conn =
            http1::Builder::new().timer(TokioTimer::new()).serve_connection(TokioIo::new(stream), service);
        // A connection that breaks concerns nobody but its client.
        tokio::spawn({
            let conn = open.watch(conn);
            async move { drop(conn.await) }
        });
    }
    drop(listener);
    let _ = time::timeout(GRACE, open.shutdown()).await;
    Ok(())
}

pub fn json(status: StatusCode, body: impl Into<Bytes>) -> Response {
    with_type(status, "application/json", body)
}

pub fn html(status: StatusCode, body: String) -> Response {
    with_type(status, "text/html; charset=utf-8", body)
}

pub fn not_found() -> Response {
    json(StatusCode::NOT_FOUND, r#"{"error":"there is nothing at this path"}"#)
}

fn with_type(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Response {
    let mut response = hyper::Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}
