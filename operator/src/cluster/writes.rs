//! Writes to the API server: some at a time, each with a deadline, all of them tried whatever becomes of one, and none of them once
//! the Lease is lost. What is written, others decide.

use futures_util::{StreamExt, future::BoxFuture, stream};
use std::{future::Future, time::Duration};
use tokio::{sync::watch, time};

/// One write.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Writes under way.
const AT_ONCE: usize = 8;

/// Tells whether it was done.
pub type Write = BoxFuture<'static, bool>;

/// A failure is said and left to the next round: false. What is not there needs no writing.
pub fn write(object: String, writing: impl Future<Output = kube::Result<()>> + Send + 'static) -> Write {
    Box::pin(async move {
        match time::timeout(TIMEOUT, writing).await {
            Ok(Ok(())) => tracing::debug!(object, "written"),
            Ok(Err(kube::Error::Api(status))) if status.is_not_found() => {}
            // Changed in the meantime: the next round sees it as it is.
            Ok(Err(kube::Error::Api(status))) if status.is_conflict() => return false,
            Ok(Err(error)) => {
                tracing::warn!(object, %error, "not written; trying again");
                return false;
            }
            Err(_) => {
                tracing::warn!(object, "not written in time; trying again");
                return false;
            }
        }
        true
    })
}

/// Carries them out while we are `holding` the Lease, and returns those that were not done.
pub async fn together<K: Send>(holding: &watch::Receiver<bool>, writes: Vec<(K, Write)>) -> Vec<K> {
    let tried = |(of, write): (K, Write)| {
        let mut holding = holding.clone();
        async move {
            let done = tokio::select! {
                biased;
                _ = holding.wait_for(|holding| !holding) => false,
                done = write => done,
            };
            (!done).then_some(of)
        }
    };
    let tried: Vec<_> = writes.into_iter().map(tried).collect();
    let undone: Vec<Option<K>> = stream::iter(tried).buffer_unordered(AT_ONCE).collect().await;
    undone.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    };

    /// Writes of which those in `bad` fail, and how many were begun.
    fn writes(bad: &[usize]) -> (Vec<(usize, Write)>, Arc<AtomicUsize>) {
        let begun = Arc::new(AtomicUsize::new(0));
        let write = |at: usize| {
            let (begun, good) = (begun.clone(), !bad.contains(&at));
            let write: Write = Box::pin(async move {
                begun.fetch_add(1, Relaxed);
                time::sleep(Duration::from_secs(1)).await;
                good
            });
            (at, write)
        };
        ((0..40).map(write).collect(), begun)
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_fails_keeps_no_other_from_being_tried() {
        let (_hold, holding) = watch::channel(true);
        let (writes, begun) = writes(&[0, 17]);
        let mut undone = together(&holding, writes).await;
        undone.sort_unstable();
        assert_eq!((begun.load(Relaxed), undone), (40, vec![0, 17]));
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_begun_or_waited_for_once_the_lease_is_lost() {
        let (hold, holding) = watch::channel(true);
        let (writes, begun) = writes(&[]);
        let start = time::Instant::now();
        let lost = async {
            time::sleep(Duration::from_millis(1_500)).await;
            hold.send_replace(false);
        };
        let (undone, ()) = tokio::join!(together(&holding, writes), lost);
        assert_eq!((begun.load(Relaxed), undone.len()), (2 * AT_ONCE, 40 - AT_ONCE));
        assert_eq!(start.elapsed(), Duration::from_millis(1_500));
    }
}
