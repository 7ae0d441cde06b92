//! The bodies that pass through: hyper's, plus what the proxy must know about them.

use super::{error::Kind, record::Record, replay::Replay};
use bytes::Bytes;
use http::header;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use std::{
    cell::Cell,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};
use tokio::time::{Instant, Sleep, sleep_until};

/// Why a body ends early.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Read(hyper::Error),
    #[error("the request is being sent again")]
    Superseded,
    #[error("the response takes too long")]
    TimedOut,
}

/// On its way to the server.
#[derive(Debug)]
pub struct RequestBody(Request);

#[derive(Debug)]
enum Request {
    Empty,
    /// With the mark that tells a client's fault from the server's.
    Incoming(Incoming, Rc<Cell<bool>>),
    Replay(Replay),
}

/// Set when the client's body turned out to be malformed or ended early.
pub type ClientFault = Option<Rc<Cell<bool>>>;

impl RequestBody {
    pub fn empty() -> RequestBody {
        RequestBody(Request::Empty)
    }

    /// The mark is made for requests that have a body, the one allocation that tells 400 from 502.
    pub fn incoming(body: Incoming) -> (RequestBody, ClientFault) {
        if body.is_end_stream() {
            return (RequestBody::empty(), None);
        }
        let fault = Rc::new(Cell::new(false));
        (RequestBody(Request::Incoming(body, fault.clone())), Some(fault))
    }

    /// Keeps what passes, so that it can be sent again.
    pub fn into_replay(self, max_bytes: usize) -> (RequestBody, Option<Replay>) {
        match self.0 {
            Request::Incoming(body, fault) => {
                let replay = Replay::new(body, fault, max_bytes);
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
            Request::Incoming(body, fault) => {
                let mut polled = Pin::new(body).poll_frame(cx);
                match &mut polled {
                    Poll::Ready(Some(Err(_))) => fault.set(true),
                    Poll::Ready(Some(Ok(frame))) => clean_trailers(frame),
                    Poll::Ready(None) | Poll::Pending => {}
                }
                polled.map_err(Error::Read)
            }
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
    /// Until when the response must have ended. A box, because few routes have a limit.
    deadline: Option<Pin<Box<Sleep>>>,
}

#[derive(Debug)]
enum Source {
    Empty,
    Incoming(Incoming),
}

impl ResponseBody {
    pub fn empty() -> ResponseBody {
        ResponseBody { source: Source::Empty, record: None, deadline: None }
    }

    pub fn incoming(body: Incoming) -> ResponseBody {
        ResponseBody { source: Source::Incoming(body), record: None, deadline: None }
    }

    pub fn with_deadline(mut self, deadline: Option<Instant>) -> ResponseBody {
        self.deadline = deadline.map(|deadline| Box::pin(sleep_until(deadline)));
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
        let Source::Incoming(body) = &mut this.source else { return Poll::Ready(None) };
        let mut polled = Pin::new(body).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &mut polled {
            clean_trailers(frame);
        }
        if polled.is_pending()
            && let Some(deadline) = &mut this.deadline
            && deadline.as_mut().poll(cx).is_ready()
        {
            if let Some(record) = &mut this.record {
                record.broken(Kind::RequestTimeout);
            }
            return Poll::Ready(Some(Err(Error::TimedOut)));
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
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Empty => SizeHint::with_exact(0),
            Source::Incoming(body) => body.size_hint(),
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
