//! One subscriber's view of a topic. It is pulled, never pushed: while a subscriber does not read, nothing is queued for it, and when
//! it reads again it gets the newest state. So none can delay another or fill memory.

use super::{
    admission::Permit,
    topics::{Latest, Question, Version},
};
use bytes::Bytes;
use futures_util::{Stream, stream};
use std::sync::Arc;

pub struct Subscription<Q: Question, L> {
    latest: Latest<Q>,
    listener: L,
    told: Option<Arc<Version<Q>>>,
    /// Whether it is to ask something else from now on.
    is_over: bool,
    _permit: Permit,
}

impl<Q: Question, L: Fn() -> (Q::Listener, bool) + Send + 'static> Subscription<Q, L> {
    /// The first step is a complete answer. Where `listener` says that it should ask something else, the next step is the last.
    pub fn new(mut latest: Latest<Q>, listener: L, permit: Permit) -> Self {
        latest.mark_changed();
        Subscription { latest, listener, told: None, is_over: false, _permit: permit }
    }

    pub fn steps(self) -> impl Stream<Item = Bytes> + Send {
        stream::unfold(self, |mut subscription| async move {
            let step = subscription.next().await?;
            Some((step, subscription))
        })
    }

    async fn next(&mut self) -> Option<Bytes> {
        while !self.is_over {
            self.latest.changed().await.ok()?;
            let now = self.latest.borrow_and_update().clone();
            let (listener, suits) = (self.listener)();
            let step = now.step(self.told.as_deref(), &listener);
            (self.told, self.is_over) = (Some(now), !suits);
            if !step.is_empty() {
                return Some(step);
            }
        }
        None
    }
}
