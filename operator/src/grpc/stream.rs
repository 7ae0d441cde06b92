//! One subscriber's view of changing tables. It is pulled, never pushed: while a subscriber does not read, nothing is computed or
//! queued for it, and when it reads again it gets the newest state. So none can delay another or fill memory.

use super::admission::{Permit, Streams};
use crate::rate::Peer;
use futures_util::{Stream, stream};
use mesh_policy::Tables;
use std::{collections::VecDeque, pin::Pin, sync::Arc, time::Instant};
use tokio::sync::watch;
use tonic::Status;

pub type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// What every subscription needs.
#[derive(Clone, Debug)]
pub struct Watcher {
    pub tables: watch::Receiver<Arc<Tables>>,
    pub streams: Arc<Streams>,
    /// True once the operator is stopping: streams then end with OK, and subscribers come back elsewhere or later.
    pub stop: watch::Receiver<bool>,
}

impl Watcher {
    pub fn now(&self) -> Arc<Tables> {
        self.tables.borrow().clone()
    }

    /// Sends what `answer` computes whenever it differs from what was sent last. An error at the start refuses the subscription;
    /// later one ends the stream with OK, and the subscriber, who keeps what it has, asks again.
    pub fn watch<T>(
        &self,
        peer: Peer,
        answer: impl Fn(&Tables) -> Result<T, Status> + Send + 'static,
    ) -> Result<Answers<T>, Status>
    where
        T: Clone + PartialEq + Send + 'static,
    {
        self.follow(peer, answer, |before: Option<&T>, now: &T| match before == Some(now) {
            true => vec![],
            false => vec![now.clone()],
        })
    }

    /// The same, with the messages that lead from the state before to the state now.
    pub fn follow<S, T>(
        &self,
        peer: Peer,
        answer: impl Fn(&Tables) -> Result<S, Status> + Send + 'static,
        messages: impl Fn(Option<&S>, &S) -> Vec<T> + Send + 'static,
    ) -> Result<Answers<T>, Status>
    where
        S: Send + 'static,
        T: Send + 'static,
    {
        let permit = self.streams.admit(peer, Instant::now())?;
        let mut tables = self.tables.clone();
        let now = tables.borrow_and_update().clone();
        let first = answer(&now)?;
        let unsent = messages(None, &first).into();
        let stop = self.stop.clone();
        let subscription =
            Subscription { tables, stop, answer, messages, last: first, unsent, _permit: permit };
        Ok(Box::pin(stream::unfold(subscription, |mut subscription| async move {
            let message = subscription.next().await?;
            Some((Ok(message), subscription))
        })))
    }
}

struct Subscription<S, T, A, M> {
    tables: watch::Receiver<Arc<Tables>>,
    stop: watch::Receiver<bool>,
    answer: A,
    messages: M,
    last: S,
    /// Of one change only: the next change is looked at when these are gone.
    unsent: VecDeque<T>,
    _permit: Permit,
}

impl<S, T, A, M> Subscription<S, T, A, M>
where
    A: Fn(&Tables) -> Result<S, Status>,
    M: Fn(Option<&S>, &S) -> Vec<T>,
{
    async fn next(&mut self) -> Option<T> {
        loop {
            if *self.stop.borrow() {
                return None;
            }
            if let Some(message) = self.unsent.pop_front() {
                return Some(message);
            }
            tokio::select! {
                changed = self.tables.changed() => changed.ok()?,
                // An error means that whoever could stop us is gone: the same as being stopped.
                stopped = self.stop.wait_for(|stop| *stop) => {
                    drop(stopped);
                    return None;
                }
            }
            let tables = self.tables.borrow_and_update().clone();
            let now = (self.answer)(&tables).ok()?;
            self.unsent = (self.messages)(Some(&self.last), &now).into();
            self.last = now;
        }
    }
}
