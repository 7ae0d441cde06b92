//! HTTP/1 as it stands on the wire. Watches a client's bytes on their way to hyper, finds where each message's head begins and
//! ends, and refuses what hyper would repair in silence: both `Content-Length` and `Transfer-Encoding`, repeated framing
//! headers, bare line feeds, folded lines, fragments. Bytes are not copied, except for a head that comes in pieces.
//!
//! A refused head is replaced by one that only this module can make, so that the answer comes in its turn behind those of
//! earlier requests, and with the status, headers and metrics of every other refusal.

mod chunks;
mod head;
#[cfg(test)]
mod tests;

use super::{client::MAX_HEAD, error::Kind};
use bytes::{Buf, Bytes};
use chunks::Chunks;
use head::Framing;
use http::{Request, Version};
use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, ReadBuf},
    time::{self, Sleep},
};

/// From a head's first byte to its last.
const HEAD_TIME: Duration = Duration::from_secs(10);
/// A request line longer than this is answered 414, whatever else the head may hold.
const MAX_LINE: usize = 32 * 1_024;
/// The method of a replaced head. Refused from clients.
const REFUSED: &str = "REFUSED";

#[derive(Debug)]
pub struct Gate<T> {
    inner: T,
    state: State,
    /// Checked, and on its way to hyper.
    ready: Bytes,
    /// The beginning of a head.
    partial: Vec<u8>,
    timer: Option<Pin<Box<Sleep>>>,
    switch: Switch,
}

#[derive(Debug)]
enum State {
    Head,
    /// Bytes of a body that are still to come.
    Body(u64),
    Chunked(Chunks),
    /// No more requests.
    Refused,
}

/// Set when the connection stops being HTTP: after `101`, or a CONNECT that succeeded. An atomic only because hyper wants
/// streams that could move to another thread.
#[derive(Clone, Debug, Default)]
pub struct Switch(Arc<AtomicBool>);

impl Switch {
    pub fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Why the gate replaced this request, if it did.
pub fn refusal<B>(req: &Request<B>) -> Option<Kind> {
    if req.method().as_str() != REFUSED || req.version() == Version::HTTP_2 {
        return None;
    }
    Some(match req.uri().path() {
        "/408" => Kind::HeadTimeout,
        "/414" => Kind::UriTooLong,
        "/431" => Kind::HeadersTooLarge,
        "/501" => Kind::NotImplemented,
        _ => Kind::BadRequest,
    })
}

fn replacement(kind: Kind) -> Bytes {
    format!("{REFUSED} /{} HTTP/1.1\r\nhost: -\r\nconnection: close\r\n\r\n", kind.status().as_u16()).into()
}

/// What is to be done with bytes that were just read.
enum Step {
    /// All of them belong to messages that are in order.
    Pass,
    /// So many do; the rest is the beginning of a head.
    Partial(usize),
    /// So many do; what follows is refused.
    Refuse(usize, Kind),
    /// So many do; then a body breaks its own framing. To hyper it ends there, too early, which fails the request.
    Broken(usize),
}

impl<T> Gate<T> {
    pub fn new(inner: T, switch: Switch) -> Gate<T> {
        Gate { inner, state: State::Head, ready: Bytes::new(), partial: Vec::new(), timer: None, switch }
    }

    /// Follows the messages in `bytes`.
    fn scan(&mut self, bytes: &[u8]) -> Step {
        let mut at = 0;
        while at < bytes.len() {
            let rest = &bytes[at..];
            match &mut self.state {
                State::Head => {
                    let Some(end) = head::end(rest) else {
                        return match head::too_long(rest) {
                            Some(kind) => Step::Refuse(at, kind),
                            None => Step::Partial(at),
                        };
                    };
                    self.state = match head::check(&rest[..end]) {
                        Ok(Framing::None | Framing::Length(0)) => State::Head,
                        Ok(Framing::Length(length)) => State::Body(length),
                        Ok(Framing::Chunked) => State::Chunked(Chunks::default()),
                        Err(kind) => return Step::Refuse(at, kind),
                    };
                    at += end;
                }
                State::Body(left) => {
                    let n = usize::try_from(*left).unwrap_or(usize::MAX).min(rest.len());
                    *left -= n as u64;
                    if *left == 0 {
                        self.state = State::Head;
                    }
                    at += n;
                }
                State::Chunked(chunks) => match chunks.skip(rest) {
                    Ok((n, ended)) => {
                        if ended {
                            self.state = State::Head;
                        }
                        at += n;
                    }
                    Err(chunks::Malformed) => return Step::Broken(at),
                },
                State::Refused => return Step::Refuse(at, Kind::BadRequest),
            }
        }
        Step::Pass
    }

    fn refuse(&mut self, kind: Kind) {
        self.state = State::Refused;
        self.partial = Vec::new();
        self.timer = None;
        self.ready = replacement(kind);
    }
}

impl<T: AsyncRead + Unpin> Gate<T> {
    /// Collects a head that comes in pieces.
    fn poll_partial(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let timer = self.timer.get_or_insert_with(|| Box::pin(time::sleep(HEAD_TIME)));
        if timer.as_mut().poll(cx).is_ready() {
            self.refuse(Kind::HeadTimeout);
            return Poll::Ready(Ok(()));
        }
        let mut piece = [0; 2_048];
        let mut buf = ReadBuf::new(&mut piece);
        ready!(Pin::new(&mut self.inner).poll_read(cx, &mut buf))?;
        let collected = std::mem::take(&mut self.partial);
        if buf.filled().is_empty() {
            // An end in the middle of a head is hyper's to tell of.
            self.state = State::Refused;
            self.ready = collected.into();
            return Poll::Ready(Ok(()));
        }
        let mut bytes = collected;
        bytes.extend_from_slice(buf.filled());
        match self.scan(&bytes) {
            Step::Pass => self.pass(bytes.into()),
            Step::Partial(0) => self.partial = bytes,
            Step::Partial(at) => {
                self.partial = bytes.split_off(at);
                self.pass(bytes.into());
            }
            Step::Refuse(0, kind) => self.refuse(kind),
            Step::Refuse(at, kind) => {
                bytes.truncate(at);
                self.refuse(kind);
                self.ready = [bytes.as_slice(), &replacement(kind)].concat().into();
            }
            Step::Broken(at) => {
                bytes.truncate(at);
                self.state = State::Refused;
                self.pass(bytes.into());
            }
        }
        Poll::Ready(Ok(()))
    }

    fn pass(&mut self, bytes: Bytes) {
        self.ready = bytes;
        self.timer = None;
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Gate<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        loop {
            if !this.ready.is_empty() {
                let n = this.ready.len().min(buf.remaining());
                buf.put_slice(&this.ready[..n]);
                this.ready.advance(n);
                return Poll::Ready(Ok(()));
            }
            if this.switch.is_set() {
                if this.partial.is_empty() {
                    return Pin::new(&mut this.inner).poll_read(cx, buf);
                }
                this.ready = std::mem::take(&mut this.partial).into();
                continue;
            }
            if matches!(this.state, State::Refused) {
                return Poll::Ready(Ok(()));
            }
            if !this.partial.is_empty() {
                ready!(this.poll_partial(cx))?;
                // Still nothing to pass on: what may read on must ask again, so that the task wakes up.
                continue;
            }
            let before = buf.filled().len();
            ready!(Pin::new(&mut this.inner).poll_read(cx, buf))?;
            match this.scan(&buf.filled()[before..]) {
                Step::Pass => return Poll::Ready(Ok(())),
                Step::Partial(at) => {
                    this.partial = buf.filled()[before + at..].to_vec();
                    buf.set_filled(before + at);
                    if at > 0 {
                        return Poll::Ready(Ok(()));
                    }
                }
                Step::Refuse(at, kind) => {
                    buf.set_filled(before + at);
                    this.refuse(kind);
                    if at > 0 {
                        return Poll::Ready(Ok(()));
                    }
                }
                Step::Broken(at) => {
                    buf.set_filled(before + at);
                    this.state = State::Refused;
                    return Poll::Ready(Ok(()));
                }
            }
        }
    }
}

crate::io::writes_to_inner!(Gate);
