//! One subscriber's view of a topic. It is pulled, never pushed: while a subscriber does not read, nothing is queued for it, and when
//! it reads again it gets the newest state. So none can delay another or fill memory.

use super::{
    admission::Permit,
    topics::{Latest, Question, Version},
};
use bytes::Bytes;
use futures_util::{Stream, stream};
use std::sync::Arc;
use tonic::Status;

pub struct Subscription<Q: Question, L> {
    latest: Latest<Q>,
    listener: L,
    told: Option<Arc<Version<Q>>>,
    /// Of one step only: the next is taken when these are gone.
    unsent: Arc<[Bytes]>,
    sent: usize,
    _permit: Permit,
}

impl<Q: Question, L: Fn() -> Q::Listener + Send + 'static> Subscription<Q, L> {
    /// The first step is a complete answer.
    pub fn new(mut latest: Latest<Q>, listener: L, permit: Permit) -> Self {
        latest.mark_changed();
        Subscription { latest, listener, told: None, unsent: Arc::default(), sent: 0, _permit: permit }
    }

    pub fn messages(self) -> impl Stream<Item = Result<Bytes, Status>> + Send {
        stream::unfold(self, |mut subscription| async move {
            let message = subscription.next().await?;
            Some((Ok(message), subscription))
        })
    }

    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(message) = self.unsent.get(self.sent) {
                self.sent += 1;
                return Some(message.clone());
            }
            self.latest.changed().await.ok()?;
            let now = self.latest.borrow_and_update().clone();
            self.unsent = now.messages(self.told.as_deref(), &(self.listener)());
            self.sent = 0;
            self.told = Some(now);
        }
    }
}
