//! The bodies that pass through: hyper's, plus what the proxy must know about them.

use super::{error::Kind, record::Record, replay::Replay};
use bytes::Bytes;
use http::header;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use std::{
    cell::{Cell, RefCell},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};
use tokio::time::{Duration, Instant, Sleep, sleep, sleep_until};

/// A client that has said how much it sends may pause for so long. One that has not (chunked, or a stream) may have nothing to
/// say for hours.
const MAX_PAUSE: Duration = Duration::from_secs(300);

/// Why a body ends early.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Read(hyper::Error),
    #[error("the request is being sent again")]
    Superseded,
    #[error("the response takes too long")]
    TimedOut,
    #[error("nothing has been sent for too long")]
    Idle,
}

/// On its way to the server.
#[derive(Debug)]
pub struct RequestBody(Request);

#[derive(Debug)]
enum Request {
    Empty,
    Incoming(Incoming, Rc<Progress>),
    Replay(Replay),
}

/// What is known of a request's body while others read it.
#[derive(Debug, Default)]
pub struct Progress {
    /// It turned out to be malformed or ended early: the client's fault, not the server's.
    broken: Cell<bool>,
    /// All of it has come.
    whole: Cell<bool>,
    /// Of data, so far.
    bytes: Cell<u64>,
    /// When something last passed. `None` unless somebody asks: a clock is not read for nothing.
    moved: Cell<Option<Instant>>,
    /// Made at a body's first pause, once: what arrives in one piece does without.
    pause: RefCell<Option<Pause>>,
}

#[derive(Debug)]
struct Pause {
    timer: Pin<Box<Sleep>>,
    /// Something has passed since it was set.
    ended: bool,
}

impl Progress {
    pub fn is_broken(&self) -> bool {
        self.broken.get()
    }

    pub fn is_whole(&self) -> bool {
        self.whole.get()
    }

    pub fn bytes(&self) -> u64 {
        self.bytes.get()
    }

    /// From now on, moments are written down.
    pub fn watch(&self) {
        self.moved.set(Some(Instant::now()));
    }

    pub fn moved(&self) -> Option<Instant> {
        self.moved.get()
    }

    /// The next of the body, unless it is broken or has paused for too long.
    pub(super) fn poll(
        &self,
        body: &mut Incoming,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let mut polled = Pin::new(&mut *body).poll_frame(cx);
        match &mut polled {
            Poll::Ready(Some(Ok(frame))) => {
                clean_trailers(frame);
                let bytes = frame.data_ref().map_or(0, Bytes::len);
                self.bytes.set(self.bytes.get() + bytes as u64);
                self.resume();
                self.whole.set(body.is_end_stream());
            }
            Poll::Ready(Some(Err(_))) => self.broken.set(true),
            Poll::Ready(None) => {
                self.resume();
                self.whole.set(true);
            }
            Poll::Pending if body.size_hint().exact().is_some() && self.has_paused(cx) => {
                self.broken.set(true);
                return Poll::Ready(Some(Err(Error::Idle)));
            }
            Poll::Pending => {}
        }
        polled.map_err(Error::Read)
    }

    fn resume(&self) {
        if self.moved.get().is_some() {
            self.watch();
        }
        if let Some(pause) = &mut *self.pause.borrow_mut() {
            pause.ended = true;
        }
    }

    /// For between one and two times `MAX_PAUSE`: a timer that was set anew for every piece would cost more than it is worth.
    fn has_paused(&self, cx: &mut Context<'_>) -> bool {
        let mut pause = self.pause.borrow_mut();
        let set = || Pause { timer: Box::pin(sleep(MAX_PAUSE)), ended: false };
        let Pause { timer, ended } = pause.get_or_insert_with(set);
        while timer.as_mut().poll(cx).is_ready() {
            if !std::mem::take(ended) {
                return true;
            }
            timer.as_mut().reset(Instant::now() + MAX_PAUSE);
        }
        false
    }
}

impl RequestBody {
    pub fn empty() -> RequestBody {
        RequestBody(Request::Empty)
    }

    /// Progress is kept of requests that have a body, the one allocation that tells 400 from 502.
    pub fn incoming(body: Incoming) -> (RequestBody, Option<Rc<Progress>>) {
        if body.is_end_stream() {
            return (RequestBody::empty(), None);
        }
        let progress = Rc::<Progress>::default();
        (RequestBody(Request::Incoming(body, progress.clone())), Some(progress))
    }

    pub fn progress(&self) -> Option<Rc<Progress>> {
        match &self.0 {
            Request::Incoming(_, progress) => Some(progress.clone()),
            Request::Empty | Request::Replay(_) => None,
        }
    }

    /// Keeps what passes, so that it can be sent again.
    pub fn into_replay(self, max_bytes: usize) -> (RequestBody, Option<Replay>) {
        match self.0 {
            Request::Incoming(body, progress) => {
                let replay = Replay::new(body, progress, max_bytes);
                (RequestBody(Request::Replay(replay.again())), Some(replay))
            }
            Request::Empty | Request::Replay(_) => (self, None),
        }
    }

    pub fn replay(replay: Replay) -> RequestBody {
        RequestBody(Request::Replay(replay))
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        match &mut self.get_mut().0 {
            Request::Empty => Poll::Ready(None),
            Request::Incoming(body, progress) => progress.poll(body, cx),
            Request::Replay(replay) => replay.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Request::Empty => true,
            Request::Incoming(body, _) => body.is_end_stream(),
            Request::Replay(replay) => replay.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Request::Empty => SizeHint::with_exact(0),
            Request::Incoming(body, _) => body.size_hint(),
            Request::Replay(replay) => replay.size_hint(),
        }
    }
}

/// Takes out of trailers what would mean something else had it come before the body (RFC 9110 §6.5.1): framing, routing,
/// credentials, and the mesh's own.
pub fn clean_trailers(frame: &mut Frame<Bytes>) {
    let Some(trailers) = frame.trailers_mut() else { return };
    for name in [
        header::CONTENT_LENGTH,
        header::TRANSFER_ENCODING,
        header::HOST,
        header::CONNECTION,
        header::UPGRADE,
        header::TE,
        header::TRAILER,
        header::AUTHORIZATION,
        header::COOKIE,
        header::SET_COOKIE,
        header::CONTENT_ENCODING,
        header::CONTENT_TYPE,
    ] {
        trailers.remove(name);
    }
    super::check::remove_reserved(trailers);
}

/// On its way to the client. Carries the record of its request, which is closed when the body is.
#[derive(Debug)]
pub struct ResponseBody {
    source: Source,
    record: Option<Record>,
    /// A box, because few routes have one.
    limits: Option<Box<Limits>>,
}

/// How long a response may take.
#[derive(Debug)]
struct Limits {
    /// Until when it must have ended.
    deadline: Option<Instant>,
    /// For so long nothing may pass, neither of the request nor of the response.
    idle: Option<Duration>,
    moved: Instant,
    request: Option<Rc<Progress>>,
    timer: Pin<Box<Sleep>>,
}

impl Limits {
    /// Which limit has passed, if one has.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Kind> {
        loop {
            ready!(self.timer.as_mut().poll(cx));
            let now = Instant::now();
            if self.deadline.is_some_and(|deadline| deadline <= now) {
                return Poll::Ready(Kind::RequestTimeout);
            }
            let requested = self.request.as_ref().and_then(|request| request.moved());
            let moved = requested.map_or(self.moved, |requested| requested.max(self.moved));
            let idle = self.idle.map(|idle| moved + idle);
            if idle.is_some_and(|idle| idle <= now) {
                return Poll::Ready(Kind::IdleTimeout);
            }
            // One of the two is there, or there would be no limits.
            let Some(next) = self.deadline.into_iter().chain(idle).min() else { return Poll::Pending };
            self.timer.as_mut().reset(next);
        }
    }
}

#[derive(Debug)]
enum Source {
    Empty,
    Incoming(Incoming),
    /// Its first frame was read already. A box, because that is rare.
    Begun(Option<Box<Frame<Bytes>>>, Incoming),
}

impl ResponseBody {
    pub fn empty() -> ResponseBody {
        ResponseBody { source: Source::Empty, record: None, limits: None }
    }

    pub fn incoming(body: Incoming) -> ResponseBody {
        ResponseBody { source: Source::Incoming(body), record: None, limits: None }
    }

    /// A body of which the first frame was read already, unless it had none.
    pub fn begun(first: Option<Box<Frame<Bytes>>>, rest: Incoming) -> ResponseBody {
        ResponseBody { source: Source::Begun(first, rest), record: None, limits: None }
    }

    /// `request` is the other direction, in which something may pass as well.
    pub fn with_limits(
        mut self,
        deadline: Option<Instant>,
        idle: Option<Duration>,
        request: &Option<Rc<Progress>>,
    ) -> ResponseBody {
        let moved = Instant::now();
        let first = deadline.into_iter().chain(idle.map(|idle| moved + idle)).min();
        self.limits = first.map(|first| {
            let timer = Box::pin(sleep_until(first));
            Box::new(Limits { deadline, idle, moved, request: request.clone(), timer })
        });
        self
    }

    pub fn with_record(mut self, record: Record) -> ResponseBody {
        self.record = Some(record);
        self
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = self.get_mut();
        let mut polled = match &mut this.source {
            Source::Empty => return Poll::Ready(None),
            Source::Incoming(body) => Pin::new(body).poll_frame(cx),
            Source::Begun(first, rest) => match first.take() {
                Some(first) => Poll::Ready(Some(Ok(*first))),
                None => Pin::new(rest).poll_frame(cx),
            },
        };
        if let Poll::Ready(Some(Ok(frame))) = &mut polled {
            clean_trailers(frame);
            if let Some(limits) = &mut this.limits {
                limits.moved = Instant::now();
            }
        }
        if polled.is_pending()
            && let Some(limits) = &mut this.limits
            && let Poll::Ready(kind) = limits.poll(cx)
        {
            if let Some(record) = &mut this.record {
                record.broken(kind);
            }
            let error = if kind == Kind::IdleTimeout { Error::Idle } else { Error::TimedOut };
            return Poll::Ready(Some(Err(error)));
        }
        if let (Poll::Ready(polled), Some(record)) = (&polled, &mut this.record) {
            match polled {
                Some(Ok(frame)) => record.frame(frame),
                Some(Err(_)) => record.broken(Kind::Reset),
                None => record.complete(),
            }
        }
        polled.map_err(Error::Read)
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Empty => true,
            Source::Incoming(body) => body.is_end_stream(),
            Source::Begun(first, rest) => first.is_none() && rest.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Empty => SizeHint::with_exact(0),
            Source::Incoming(body) => body.size_hint(),
            Source::Begun(first, rest) => {
                let first =
                    first.as_ref().and_then(|first| first.data_ref()).map_or(0, |data| data.len() as u64);
                let mut hint = rest.size_hint();
                if let Some(upper) = hint.upper() {
                    hint.set_upper(upper + first);
                }
                hint.set_lower(hint.lower() + first);
                hint
            }
        }
    }
}

impl Drop for ResponseBody {
    /// hyper does not ask once more after the last byte of a known length, so an ended body may be dropped without its end
    /// having been seen; one that has not ended is given up by the client.
    fn drop(&mut self) {
        if self.record.is_some()
            && self.is_end_stream()
            && let Some(record) = &mut self.record
        {
            record.complete();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::Waker;

    /// Row H-50.
    #[tokio::test(start_paused = true)]
    async fn a_body_may_pause_often_but_not_for_long() {
        let progress = Progress::default();
        let has_paused = || progress.has_paused(&mut Context::from_waker(Waker::noop()));
        for _ in 0..10 {
            assert!(!has_paused());
            tokio::time::advance(MAX_PAUSE - Duration::from_secs(1)).await;
            assert!(!has_paused());
            progress.resume();
        }
        assert!(!has_paused());
        tokio::time::advance(2 * MAX_PAUSE).await;
        assert!(!has_paused(), "it had gone on since the timer was set");
        tokio::time::advance(MAX_PAUSE + Duration::from_secs(1)).await;
        assert!(has_paused());
    }
}
