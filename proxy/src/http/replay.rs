//! A request body that can be sent again: what has passed is kept, up to a limit, until nobody can want it any more.

use super::body::Progress;
use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use std::{
    cell::RefCell,
    rc::Rc,
    task::{Context, Poll},
};

/// One sending of the body. Only the newest reads on; an older one that is still polled fails.
#[derive(Debug)]
pub struct Replay {
    kept: Rc<RefCell<Kept>>,
    sending: u32,
    /// Chunks of `kept` that this sending has passed on.
    passed: usize,
    trailers_passed: bool,
}

#[derive(Debug)]
struct Kept {
    body: Incoming,
    progress: Rc<Progress>,
    chunks: Vec<Bytes>,
    trailers: Option<HeaderMap>,
    bytes: usize,
    max_bytes: usize,
    /// Longer than may be kept, or broken: never again.
    lost: bool,
    newest: u32,
}

impl Replay {
    pub(super) fn new(body: Incoming, progress: Rc<Progress>, max_bytes: usize) -> Replay {
        let lost = body.size_hint().lower() > max_bytes as u64;
        let kept =
            Kept { body, progress, chunks: Vec::new(), trailers: None, bytes: 0, max_bytes, lost, newest: 0 };
        Replay { kept: Rc::new(RefCell::new(kept)), sending: 0, passed: 0, trailers_passed: false }
    }

    pub fn can_repeat(&self) -> bool {
        !self.kept.borrow().lost
    }

    /// All of it is here, and can be sent again.
    pub fn is_whole(&self) -> bool {
        let kept = self.kept.borrow();
        !kept.lost && kept.body.is_end_stream()
    }

    /// The next sending, from the start; ends all before it.
    pub fn again(&self) -> Replay {
        let mut kept = self.kept.borrow_mut();
        kept.newest += 1;
        Replay { kept: self.kept.clone(), sending: kept.newest, passed: 0, trailers_passed: false }
    }

    pub(super) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, super::body::Error>>> {
        let kept = &mut *self.kept.borrow_mut();
        if kept.newest != self.sending {
            return Poll::Ready(Some(Err(super::body::Error::Superseded)));
        }
        if !kept.lost {
            if let Some(chunk) = kept.chunks.get(self.passed) {
                self.passed += 1;
                return Poll::Ready(Some(Ok(Frame::data(chunk.clone()))));
            }
            if let (Some(trailers), false) = (&kept.trailers, self.trailers_passed) {
                self.trailers_passed = true;
                return Poll::Ready(Some(Ok(Frame::trailers(trailers.clone()))));
            }
        }
        let polled = kept.progress.poll(&mut kept.body, cx);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                if kept.keep(frame) {
                    self.passed = kept.chunks.len();
                    self.trailers_passed = kept.trailers.is_some();
                }
            }
            Poll::Ready(Some(Err(_))) => kept.lost = true,
            Poll::Ready(None) | Poll::Pending => {}
        }
        polled
    }

    pub(super) fn is_end_stream(&self) -> bool {
        let kept = self.kept.borrow();
        let unsent = !kept.lost
            && (self.passed < kept.chunks.len() || (kept.trailers.is_some() && !self.trailers_passed));
        kept.newest == self.sending && !unsent && kept.body.is_end_stream()
    }

    pub(super) fn size_hint(&self) -> SizeHint {
        let kept = self.kept.borrow();
        let unsent: usize = match kept.lost {
            true => 0,
            false => kept.chunks[self.passed.min(kept.chunks.len())..].iter().map(Bytes::len).sum(),
        };
        let mut hint = kept.body.size_hint();
        if let Some(upper) = hint.upper() {
            hint.set_upper(upper + unsent as u64);
        }
        hint.set_lower(hint.lower() + unsent as u64);
        hint
    }
}

impl Kept {
    fn keep(&mut self, frame: &Frame<Bytes>) -> bool {
        if self.lost {
            return false;
        }
        if let Some(chunk) = frame.data_ref() {
            self.bytes += chunk.len();
            if self.bytes > self.max_bytes {
                self.lost = true;
                self.chunks = Vec::new();
                return false;
            }
            self.chunks.push(chunk.clone());
        } else if let Some(trailers) = frame.trailers_ref() {
            self.trailers = Some(trailers.clone());
        }
        true
    }
}
