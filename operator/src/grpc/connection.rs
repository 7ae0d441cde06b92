//! A proxy's connection: one task drives it and all of its streams, so that a change wakes one task and goes out in one write, however
//! many streams it touches. A peer that is told something has to show that it reads.

mod turn;

use self::turn::Turn;
use super::{admission, stopped};
use crate::standing::Standing;
use axum::{Router, body::Body};
use bytes::Bytes;
use futures_util::{
    FutureExt, StreamExt,
    future::Either,
    stream::{self, FuturesUnordered},
};
use h2::{
    Ping, PingPong, Reason, RecvStream, SendStream,
    server::{Builder, SendResponse},
};
use http::{Request, Response};
use hyper::body::{Body as _, Frame};
use std::{
    future::{pending, poll_fn},
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::{Notify, watch},
    time,
};
use tonic::transport::server::Connected;
use tower_service::Service;

/// From the handshake of TLS to that of HTTP/2.
const PREFACE: Duration = Duration::from_secs(5);
/// A peer that has been told something is asked so much later whether it lives, and cut when it does not answer in time: so end, within
/// ten seconds, those that have vanished without a word or read no more. Asking a thousand quiet ones all the time would cost more than
/// telling the others.
const ASK_AFTER: Duration = Duration::from_secs(5);
const ANSWER: Duration = Duration::from_secs(5);
/// One that nothing is told costs nothing but memory.
const ASK_QUIET: Duration = Duration::from_secs(60);
/// A connection is ended at an age between half of this and one and a half: its peer comes again, shows the certificate that it has by
/// then, and may meet another replica. So a new one gets its share of proxies.
const AGE: Duration = Duration::from_secs(60 * 60);
/// The same while we are cut off from the API server: whoever comes again may meet a replica that is not.
const CUT_OFF_AGE: Duration = Duration::from_secs(60);
/// What is asked before it ends may still be answered.
const LAST_ANSWERS: Duration = Duration::from_secs(2);
/// Headers of all requests that are not yet answered.
const MAX_HEADER_BYTES: u32 = 16 << 10;
/// What peers may send before it is read, on a stream and in all.
const WINDOW_BYTES: u32 = 1 << 20;
/// What waits to be sent to a peer that reads slowly, of each stream.
const BUFFER_BYTES: usize = 64 << 10;

/// Answers a peer's requests until it goes, reads no more, has been here for long, or `stop` is true.
pub fn drive<T>(
    io: T,
    routes: Router,
    standing: watch::Receiver<Standing>,
    stop: watch::Receiver<bool>,
) -> impl Future<Output = anyhow::Result<()>>
where
    T: Connected + AsyncRead + AsyncWrite + Unpin,
{
    // Boxed: a task keeps room for it wherever it has been.
    let (peer, io) = (io.connect_info(), Box::new(io));
    converse(peer, io, routes, standing, stop)
}

async fn converse<P, T>(
    peer: P,
    io: T,
    routes: Router,
    standing: watch::Receiver<Standing>,
    stop: watch::Receiver<bool>,
) -> anyhow::Result<()>
where
    P: Clone + Send + Sync + 'static,
    T: AsyncRead + AsyncWrite + Unpin,
{
    let mut http = Builder::new();
    http.max_concurrent_streams(admission::MAX_STREAMS)
        .max_header_list_size(MAX_HEADER_BYTES)
        .initial_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
        .max_send_buffer_size(BUFFER_BYTES);
    let mut connection = time::timeout(PREFACE, http.handshake::<_, Bytes>(io)).await??;
    let told = Arc::<Notify>::default();
    // Whoever has come is asked too, though it may never want anything.
    told.notify_one();
    // Each is looked at when it has been woken, and only then.
    let mut work = FuturesUnordered::new();
    let end = end(silent(connection.ping_pong(), told.clone()), aged(standing), stopped(stop));
    // Boxed: each of the others would have as much room.
    work.push(Either::Right(Box::pin(end) as Pin<Box<dyn Future<Output = Work> + Send>>));
    let turn = Turn::default();
    loop {
        tokio::select! {
            biased;
            Some(done) = turn.first(work.next()) => match done {
                Work::Answered => {}
                Work::Silent => return Ok(()),
                Work::Stopped => connection.graceful_shutdown(),
                Work::Aged => {
                    connection.graceful_shutdown();
                    work.push(Either::Right(Box::pin(time::sleep(LAST_ANSWERS).map(|()| Work::Silent))));
                }
            },
            request = turn.last(|cx| pin!(connection.accept()).poll(cx)) => {
                let Some(request) = request else { return Ok(()) };
                let (request, respond) = request?;
                let mut request = request.map(incoming);
                request.extensions_mut().insert(peer.clone());
                work.push(Either::Left(answer(routes.clone(), request, respond, told.clone())));
            }
        }
    }
}

/// What comes first. Who stops waits for no peer that does not read.
async fn end(
    silent: impl Future<Output = ()>,
    aged: impl Future<Output = ()>,
    stopped: impl Future<Output = ()>,
) -> Work {
    tokio::select! {
        () = silent => Work::Silent,
        () = aged => Work::Aged,
        () = stopped => Work::Stopped,
    }
}

/// Returns when the peer has been here for long, or for a while with somebody who is cut off.
async fn aged(mut standing: watch::Receiver<Standing>) {
    let cut_off = async {
        if standing.wait_for(|own| own.cut_off).await.is_err() {
            pending::<()>().await;
        }
    };
    tokio::select! {
        () = cut_off => time::sleep(CUT_OFF_AGE.mul_f64(fastrand::f64())).await,
        () = time::sleep(AGE.mul_f64(0.5 + fastrand::f64())) => {}
    }
}

/// What there is to do beside the connection itself, when it is done.
enum Work {
    Answered,
    /// The peer does not read, or has been told to go.
    Silent,
    Stopped,
    /// The peer has been here for long, or should not be.
    Aged,
}

/// An extension of a response: its caller should ask elsewhere, by another connection.
#[derive(Clone, Copy, Debug)]
pub struct Leave;

/// Returns when the peer has not shown in time that it reads.
async fn silent(ping_pong: Option<PingPong>, told: Arc<Notify>) {
    let Some(mut ping_pong) = ping_pong else { return pending().await };
    loop {
        tokio::select! {
            () = told.notified() => time::sleep(ASK_AFTER).await,
            () = time::sleep(ASK_QUIET) => {}
        }
        // The answer stands for what it was told meanwhile too.
        let _ = told.notified().now_or_never();
        let asked = time::timeout(ANSWER, ping_pong.ping(Ping::opaque()));
        if !matches!(asked.await, Ok(Ok(_))) {
            return;
        }
    }
}

/// A request's body. What has been read makes room for more.
fn incoming(body: RecvStream) -> Body {
    Body::from_stream(stream::unfold(body, async |mut body| {
        let data = body.data().await?;
        if let Ok(data) = &data {
            // Where the stream has ended, nobody needs room.
            let _ = body.flow_control().release_capacity(data.len());
        }
        Some((data, body))
    }))
}

/// One request: asked, then answered until either side ends it.
async fn answer(
    mut routes: Router,
    request: Request<Body>,
    mut respond: SendResponse<Bytes>,
    told: Arc<Notify>,
) -> Work {
    let response = tokio::select! {
        Ok(response) = Box::pin(routes.call(request)) => response,
        _ = poll_fn(|cx| respond.poll_reset(cx)) => return Work::Answered,
    };
    let done = match response.extensions().get::<Leave>() {
        Some(Leave) => Work::Aged,
        None => Work::Answered,
    };
    let (head, mut body) = response.into_parts();
    let ended = body.is_end_stream();
    let Ok(mut to) = respond.send_response(Response::from_parts(head, ()), ended) else { return done };
    drop(respond);
    told.notify_one();
    if ended {
        return done;
    }
    while let Some(frame) = poll_fn(|cx| next(&mut body, &mut to, cx)).await {
        let sent = match frame.into_data() {
            Ok(data) => to.send_data(data, false),
            Err(frame) => match frame.into_trailers() {
                Ok(trailers) => {
                    drop(to.send_trailers(trailers));
                    return done;
                }
                Err(_) => continue,
            },
        };
        if sent.is_err() {
            return done;
        }
        told.notify_one();
    }
    done
}

/// The next frame as soon as there is room for it, so that nothing is taken for a peer that does not read. `None` when the stream has
/// ended.
fn next(body: &mut Body, to: &mut SendStream<Bytes>, cx: &mut Context<'_>) -> Poll<Option<Frame<Bytes>>> {
    if to.poll_reset(cx).is_ready() {
        return Poll::Ready(None);
    }
    to.reserve_capacity(1);
    while to.capacity() == 0 {
        let Some(Ok(_)) = ready!(to.poll_capacity(cx)) else { return Poll::Ready(None) };
    }
    let frame = ready!(Pin::new(body).poll_frame(cx));
    if let Some(Ok(frame)) = frame {
        return Poll::Ready(Some(frame));
    }
    // Answers end with trailers: this one is broken.
    to.send_reset(Reason::INTERNAL_ERROR);
    Poll::Ready(None)
}

#[cfg(test)]
mod tests {
    use super::{super::door::Secured, *};
    use axum::{Extension, routing::post};
    use futures_util::future::{Either, select};
    use h2::client;
    use tokio::time::Instant;

    /// `/quiet` answers with one message, and then says nothing more; `/elsewhere` sends away.
    fn routes() -> Router {
        let quiet =
            async || Body::from_stream(stream::iter([Ok::<_, h2::Error>("hello")]).chain(stream::pending()));
        let elsewhere = async || Extension(Leave);
        Router::new().route("/quiet", post(quiet)).route("/elsewhere", post(elsewhere))
    }

    const LIMIT: Duration = Duration::from_secs(24 * 60 * 60);

    /// How long the connection of a client is left that has asked, as far as `LIMIT`.
    async fn lives(path: &str, reads: bool, standing: watch::Receiver<Standing>) -> Duration {
        let (ours, theirs) = tokio::io::duplex(64 << 10);
        let (_stop, stop) = watch::channel(false);
        let driven = tokio::spawn(drive(ours, routes(), standing, stop));
        let (mut send, mut connection) = client::handshake(theirs).await.unwrap();
        let request = Request::post(format!("http://operator{path}")).body(()).unwrap();
        let (answer, _) = send.send_request(request, true).unwrap();
        let answer = match select(answer, &mut connection).await {
            Either::Left((answer, _)) => answer,
            Either::Right((_, answer)) => answer.await,
        };
        let _body = answer.unwrap().into_body();
        let start = Instant::now();
        if reads {
            tokio::spawn(connection);
            let _ = time::timeout(LIMIT, driven).await;
        } else {
            driven.await.unwrap().unwrap();
        }
        start.elapsed()
    }

    fn standing(cut_off: bool) -> watch::Receiver<Standing> {
        watch::channel(Standing { cut_off, ..Standing::default() }).1
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_told_something_and_reads_no_more_is_cut() {
        assert_eq!(lives("/quiet", false, standing(false)).await.as_secs(), 10);
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_been_here_for_long_is_sent_away_and_sooner_while_we_are_cut_off() {
        for _ in 0..20 {
            let life = lives("/quiet", true, standing(false)).await;
            assert!(life >= AGE / 2 && life <= AGE * 3 / 2 + LAST_ANSWERS, "{life:?}");
            let life = lives("/quiet", true, standing(true)).await;
            assert!(life >= LAST_ANSWERS && life <= CUT_OFF_AGE + LAST_ANSWERS, "{life:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_should_ask_elsewhere_has_an_answer_and_then_no_connection() {
        assert!(lives("/elsewhere", true, standing(false)).await <= LAST_ANSWERS);
    }

    /// There is one for each proxy of the mesh.
    #[test]
    fn it_is_small() {
        fn bytes<I, R, S, T, F>(_: impl FnOnce(I, R, S, T) -> F) -> usize {
            size_of::<F>()
        }
        let (task, io) = (bytes(drive::<Secured>), size_of::<Secured>());
        assert!(task + io <= 4_500, "{task} and {io} bytes");
    }
}
