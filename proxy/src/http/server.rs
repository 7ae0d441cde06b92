//! Serves HTTP on an accepted connection until it ends or the process drains.

use super::{
    Local, Version,
    body::ResponseBody,
    client::{H2_SEND_BUFFER, MAX_HEAD},
    gate::{Gate, Switch},
    watched::{LOOK, Look, Watched},
};
use crate::{config::Http2KeepAlive, drain::Observer, io::Stream};
use http::{Request, Response};
use hyper::{
    body::Incoming,
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::{convert::Infallible, future::Future, pin::pin};
use tokio::time;

const H2_STREAM_WINDOW: u32 = 256 * 1_024;
const H2_CONNECTION_WINDOW: u32 = 1_024 * 1_024;
/// More than a client needs, few enough that a hostile one cannot make us hold much.
const H2_MAX_STREAMS: u32 = 200;
/// Streams that were opened and reset before we looked. Somebody's clients may all have given up while we had no processor.
const H2_MAX_RESETS: usize = 200;

/// Answers the connection's requests with `service`. On drain, requests under way finish: HTTP/1 closes after the response under
/// way, HTTP/2 says GOAWAY first.
pub async fn serve<S, F>(
    stream: Stream,
    version: Version,
    http2: Http2KeepAlive,
    switch: Switch,
    drain: &Observer,
    service: S,
) -> hyper::Result<()>
where
    S: Fn(Request<Incoming>) -> F + 'static,
    F: Future<Output = Result<Response<ResponseBody>, Infallible>> + 'static,
{
    let service = service_fn(service);
    match version {
        Version::Http1 => {
            // A client that comes during the drain is served once: the application may still need it to finish its own work.
            let late = drain.is_draining();
            let look = Look::default();
            let conn = http1::Builder::new()
                .half_close(true)
                .keep_alive(!late)
                .auto_date_header(false)
                .max_header_size(MAX_HEAD)
                .serve_connection(
                    TokioIo::new(Gate::new(Watched::new(stream, look.clone()), switch)),
                    service,
                )
                .with_upgrades();
            let mut conn = pin!(conn);
            let mut looks = time::interval_at(time::Instant::now() + LOOK, LOOK);
            let mut leaving = late;
            loop {
                // A request that is there already is answered before the connection ends.
                tokio::select! {
                    biased;
                    result = conn.as_mut() => return result,
                    () = drain.draining(), if !leaving => {
                        leaving = true;
                        conn.as_mut().graceful_shutdown();
                    }
                    _ = looks.tick() => look.ask(),
                }
            }
        }
        Version::Http2 => {
            let conn = http2::Builder::new(Local)
                .timer(TokioTimer::new())
                .auto_date_header(false)
                .initial_stream_window_size(H2_STREAM_WINDOW)
                .initial_connection_window_size(H2_CONNECTION_WINDOW)
                .max_concurrent_streams(H2_MAX_STREAMS)
                .max_pending_accept_reset_streams(H2_MAX_RESETS)
                .max_send_buf_size(H2_SEND_BUFFER)
                .max_header_list_size(MAX_HEAD as u32)
                .keep_alive_interval(http2.interval)
                .keep_alive_timeout(http2.timeout)
                .serve_connection(TokioIo::new(stream), service);
            let mut conn = pin!(conn);
            tokio::select! {
                biased;
                result = conn.as_mut() => return result,
                () = drain.draining() => conn.as_mut().graceful_shutdown(),
            }
            conn.await
        }
    }
}
