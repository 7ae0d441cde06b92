//! Draining is a value you hold: whoever has work under way keeps a `Guard`, and the process ends when the last is dropped or
//! the grace period is over.

use std::time::Duration;
use tokio::{
    sync::{mpsc, watch},
    time,
};

/// The side that starts the drain and waits for its end.
#[derive(Debug)]
pub struct Drain {
    begin: watch::Sender<bool>,
    done: mpsc::Receiver<()>,
}

/// Held by everything that must finish before the process ends. Cheap to clone, crosses threads.
#[derive(Clone, Debug)]
pub struct Guard {
    begun: watch::Receiver<bool>,
    /// Never sent on: its drop is the message.
    alive: mpsc::Sender<()>,
}

/// Sees the drain without holding it up: for what lives as long as the thread and has no work of its own under way.
#[derive(Clone, Debug)]
pub struct Observer {
    begun: watch::Receiver<bool>,
    alive: mpsc::WeakSender<()>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Everything finished.
    Clean,
    /// The grace period was over first.
    TimedOut,
}

pub fn new() -> (Drain, Guard) {
    let (begin, begun) = watch::channel(false);
    let (alive, done) = mpsc::channel(1);
    (Drain { begin, done }, Guard { begun, alive })
}

impl Drain {
    /// Tells all guards, then waits until they are dropped, at most `grace`.
    pub async fn finish(mut self, grace: Duration) -> Outcome {
        self.begin.send_replace(true);
        match time::timeout(grace, self.done.recv()).await {
            Ok(_) => Outcome::Clean,
            Err(_) => Outcome::TimedOut,
        }
    }
}

impl Guard {
    pub fn observer(&self) -> Observer {
        Observer { begun: self.begun.clone(), alive: self.alive.downgrade() }
    }

    /// Returns when the drain begins. Safe to drop and to call again.
    pub async fn draining(&self) {
        draining(&self.begun).await;
    }

    pub fn is_draining(&self) -> bool {
        *self.begun.borrow()
    }
}

impl Observer {
    /// Returns when the drain begins. Safe to drop and to call again.
    pub async fn draining(&self) {
        draining(&self.begun).await;
    }

    pub fn is_draining(&self) -> bool {
        *self.begun.borrow()
    }

    /// Holds the drain up from now on; `None` when it is over.
    pub fn guard(&self) -> Option<Guard> {
        self.alive.upgrade().map(|alive| Guard { begun: self.begun.clone(), alive })
    }
}

async fn draining(begun: &watch::Receiver<bool>) {
    // An error means that `Drain` is gone, and with it the reason to go on.
    let _ = begun.clone().wait_for(|begun| *begun).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn finishes_when_the_last_guard_is_dropped() {
        let (drain, guard) = new();
        let work = tokio::spawn(async move {
            let second = guard.clone();
            guard.draining().await;
            drop(guard);
            tokio::task::yield_now().await;
            drop(second);
        });
        assert_eq!(drain.finish(Duration::from_secs(5)).await, Outcome::Clean);
        work.await.unwrap();
    }

    #[tokio::test]
    async fn an_observer_does_not_hold_it_up() {
        let (drain, guard) = new();
        let observer = guard.observer();
        assert!(observer.guard().is_some());
        drop(guard);
        assert_eq!(drain.finish(Duration::from_secs(5)).await, Outcome::Clean);
        assert!(observer.guard().is_none());
    }

    #[tokio::test]
    async fn gives_up_when_the_grace_period_is_over() {
        let (drain, guard) = new();
        assert_eq!(drain.finish(Duration::from_millis(1)).await, Outcome::TimedOut);
        assert!(guard.is_draining());
    }
}
