//! A task that looks at one thing after all others, each time it runs: what wakes it for that one while it is busy with the others needs
//! no further run. A stream that sends wakes its connection so; h2 would have each connection run twice for each message.

use futures_util::task::AtomicWaker;
use std::{
    future::poll_fn,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::AcqRel},
    },
    task::{Context, Poll, Wake, Waker},
};

/// For a `select!` that is `biased`, in a loop: [`Turn::first`] before all others, [`Turn::last`] after them and without a condition. No
/// branch may wait for anything in its body, as until the last one is looked at, nothing rings for it.
pub struct Turn {
    bell: Arc<Bell>,
    waker: Waker,
}

#[derive(Default)]
struct Bell {
    task: AtomicWaker,
    /// Whether the last one is about to be looked at anyway.
    busy: AtomicBool,
}

impl Default for Turn {
    fn default() -> Turn {
        let bell = Arc::<Bell>::default();
        Turn { waker: bell.clone().into(), bell }
    }
}

impl Turn {
    /// What comes first. Wherever it is not ready, the last one follows in the same run.
    pub async fn first<T>(&self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        poll_fn(|cx| {
            self.bell.busy.swap(true, AcqRel);
            work.as_mut().poll(cx)
        })
        .await
    }

    /// What comes last.
    pub async fn last<T>(&self, mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>) -> T {
        poll_fn(|cx| {
            self.bell.task.register(cx.waker());
            // From here on it rings: what happened before is seen now.
            self.bell.busy.swap(false, AcqRel);
            poll(&mut Context::from_waker(&self.waker))
        })
        .await
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // Written, though to the same: whoever looks afterwards sees what has happened before.
        if !self.busy.fetch_and(true, AcqRel) {
            self.task.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        cell::Cell,
        sync::atomic::{AtomicUsize, Ordering::Relaxed},
    };

    /// A task's waker that counts.
    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Relaxed);
        }
    }

    #[test]
    fn what_wakes_the_last_one_while_the_first_works_is_seen_in_the_same_run() {
        let (turn, woken) = (Turn::default(), Arc::<Woken>::default());
        let task = Waker::from(woken.clone());
        let (waiting, done) = (Cell::new(None::<Waker>), Cell::new(0));
        let wake_last = || waiting.take().into_iter().for_each(Waker::wake);
        let mut works = pin!(async {
            loop {
                tokio::select! {
                    biased;
                    () = turn.first(poll_fn(|_| { wake_last(); Poll::<()>::Pending })) => {}
                    () = turn.last(|cx| { waiting.set(Some(cx.waker().clone())); done.update(|done| done + 1); Poll::<()>::Pending }) => {}
                }
            }
        });
        let mut run = || {
            let _: Poll<()> = works.as_mut().poll(&mut Context::from_waker(&task));
            (done.get(), woken.0.load(Relaxed))
        };
        assert_eq!(run(), (1, 0));
        assert_eq!(run(), (2, 0), "woken by the first one");
        wake_last();
        assert_eq!(woken.0.load(Relaxed), 1, "woken from outside");
        assert_eq!(run(), (3, 1));
    }
}
