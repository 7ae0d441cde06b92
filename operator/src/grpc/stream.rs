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
    _permit: Permit,
}

impl<Q: Question, L: Fn() -> Option<Q::Listener> + Send + 'static> Subscription<Q, L> {
    /// The first step is a complete answer. Without a `listener` the stream ends.
    pub fn new(mut latest: Latest<Q>, listener: L, permit: Permit) -> Self {
        latest.mark_changed();
        Subscription { latest, listener, told: None, _permit: permit }
    }

    pub fn steps(self) -> impl Stream<Item = Bytes> + Send {
        stream::unfold(self, |mut subscription| async move {
            let step = subscription.next().await?;
            Some((step, subscription))
        })
    }

    async fn next(&mut self) -> Option<Bytes> {
        loop {
            self.latest.changed().await.ok()?;
            let now = self.latest.borrow_and_update().clone();
            let step = now.step(self.told.as_deref(), &(self.listener)()?);
            self.told = Some(now);
            if !step.is_empty() {
                return Some(step);
            }
        }
    }
}
