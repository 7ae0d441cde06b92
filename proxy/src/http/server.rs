//! Serves HTTP on an accepted connection until it ends or the process drains.

use super::{
    Local, Version,
    body::ResponseBody,
    client::{H2_CONNECTION_WINDOW, H2_SEND_BUFFER, H2_STREAM_WINDOW, MAX_HEAD},
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
use std::{convert::Infallible, future::Future, pin::pin, rc::Rc, time::Duration};
use tokio::{sync::Notify, time};

/// More than a client needs, few enough that a hostile one cannot make us hold much.
const H2_MAX_STREAMS: u32 = 200;
/// Streams that were opened and reset before we looked. Somebody's clients may all have given up while we had no processor.
const H2_MAX_RESETS: usize = 200;

/// How long an HTTP/2 connection on which nobody has asked yet goes on when the drain begins.
const FIRST_REQUEST: Duration = Duration::from_secs(1);

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
                    service_fn(service),
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
            let asked = Rc::<Notify>::default();
            let first = asked.clone();
            let service = service_fn(move |request| {
                asked.notify_one();
                service(request)
            });
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
            // A client that waits for our first word before it asks would be told to go before it could: so each new connection of its.
            let leave = async {
                drain.draining().await;
                let _ = time::timeout(FIRST_REQUEST, first.notified()).await;
            };
            tokio::select! {
                biased;
                result = conn.as_mut() => return result,
                () = leave => conn.as_mut().graceful_shutdown(),
            }
            conn.await
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        drain,
        io::Transport,
        testing::{PATIENCE, run},
    };
    use bytes::Bytes;
    use http_body_util::Empty;
    use hyper::client;
    use std::{
        future::{poll_fn, ready},
        pin::Pin,
        task::Poll,
    };
    use tokio::{
        net::{TcpListener, TcpStream},
        task::spawn_local,
    };

    /// A client and its connection, which came when the drain had begun.
    async fn late() -> (TcpStream, tokio::task::JoinHandle<hyper::Result<()>>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (socket, _) = listener.accept().await.unwrap();
        let (drain, guard) = drain::new();
        let observer = guard.observer();
        spawn_local(async move {
            drain.finish(Duration::from_secs(60)).await;
            drop(guard);
        });
        observer.draining().await;
        let served = spawn_local(async move {
            let keep_alive = Http2KeepAlive { interval: None, timeout: LOOK };
            let service = |_| ready(Ok(Response::new(ResponseBody::empty())));
            let stream = Transport::Tcp(socket).into();
            serve(stream, Version::Http2, keep_alive, Switch::default(), &observer, service).await
        });
        (client, served)
    }

    type Client = (
        client::conn::http2::SendRequest<Empty<Bytes>>,
        client::conn::http2::Connection<TokioIo<TcpStream>, Empty<Bytes>, Local>,
    );

    async fn connect(client: TcpStream) -> Client {
        client::conn::http2::Builder::new(Local).handshake(TokioIo::new(client)).await.unwrap()
    }

    /// An application that ends its work may need somebody to whom it had no connection yet.
    #[test]
    fn an_http2_connection_that_comes_during_the_drain_is_served_and_told_to_go() {
        run(async {
            let (client, served) = late().await;
            let (mut send, mut conn) = connect(client).await;
            // It asks when it has heard the server's SETTINGS, as gRPC's clients do.
            poll_fn(|cx| {
                assert!(Pin::new(&mut conn).poll(cx).is_pending());
                match conn.current_max_send_streams() {
                    heard if heard == H2_MAX_STREAMS as usize => Poll::Ready(()),
                    _ => Poll::Pending,
                }
            })
            .await;
            spawn_local(conn);
            let request = Request::get("http://web/").body(Empty::<Bytes>::new()).unwrap();
            assert_eq!(send.send_request(request).await.unwrap().status(), 200);
            served.await.unwrap().unwrap();
        });
    }

    #[test]
    fn one_that_asks_for_nothing_does_not_hold_up_the_drain() {
        run(async {
            let (client, served) = late().await;
            let (_send, conn) = connect(client).await;
            spawn_local(conn);
            time::timeout(PATIENCE, served).await.unwrap().unwrap().unwrap();
        });
    }
}
