//! How many streams one peer may hold, and how fast it may open them: whoever reads the whole mesh's policy in a loop is held off,
//! everybody else is not.

use crate::rate::{Limiter, Peer};
use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Instant,
};
use tonic::Status;

/// A proxy holds two streams per destination it talks to, and one per port it serves.
pub const MAX_STREAMS: u32 = 1_000;
/// When we start again, a proxy opens all of its streams at once.
const BURST: u32 = MAX_STREAMS;
const PER_SECOND: u32 = 50;

#[derive(Debug)]
pub struct Streams {
    held: Mutex<HashMap<Peer, u32>>,
    opened: Limiter<Peer>,
    refused: AtomicU64,
}

impl Default for Streams {
    fn default() -> Streams {
        Streams {
            held: Mutex::default(),
            opened: Limiter::new(BURST, PER_SECOND),
            refused: AtomicU64::new(0),
        }
    }
}

/// One stream of a peer, for as long as it is held.
#[derive(Debug)]
pub struct Permit {
    streams: Arc<Streams>,
    peer: Peer,
}

impl Streams {
    pub fn admit(self: &Arc<Streams>, peer: Peer, now: Instant) -> Result<Permit, Status> {
        let refuse = |message: String| {
            // Said once per thousand: a flood must not become one of the log.
            if self.refused.fetch_add(1, Relaxed).is_multiple_of(1_000) {
                tracing::warn!(?peer, reason = message, "stream refused");
            }
            Err(Status::resource_exhausted(message))
        };
        if !self.opened.allow(peer, now) {
            return refuse(format!("more than {PER_SECOND} new streams a second: try again in a second"));
        }
        let mut held = self.held();
        let count = held.entry(peer).or_default();
        if *count >= MAX_STREAMS {
            return refuse(format!("{MAX_STREAMS} streams are open from there: close some"));
        }
        *count += 1;
        Ok(Permit { streams: self.clone(), peer })
    }

    /// Streams refused since start.
    pub fn refused(&self) -> u64 {
        self.refused.load(Relaxed)
    }

    fn held(&self) -> MutexGuard<'_, HashMap<Peer, u32>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut held = self.streams.held();
        let left = held.get(&self.peer).map_or(0, |count| count.saturating_sub(1));
        match left {
            0 => held.remove(&self.peer),
            left => held.insert(self.peer, left),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tonic::Code;

    fn host(last: u8) -> Peer {
        Peer::Host([10, 0, 0, last].into())
    }

    #[test]
    fn one_peer_is_bounded_and_others_are_not_affected() {
        let streams = Arc::new(Streams::default());
        let start = Instant::now();
        let open = |peer, now| streams.admit(peer, now);
        let held: Vec<Permit> = (0..10_000).filter_map(|_| open(host(1), start).ok()).collect();
        assert_eq!((held.len(), streams.refused()), (1_000, 9_000));
        assert_eq!(open(host(1), start).unwrap_err().code(), Code::ResourceExhausted);
        let other = open(host(2), start);
        assert!(other.is_ok());
        let later = start + Duration::from_secs(10);
        assert!(open(host(1), later).unwrap_err().message().contains("close some"));
        drop(held);
        assert_eq!(
            (0..10_000).filter(|_| open(host(1), later).is_ok()).count(),
            499,
            "50 a second, less one asked for"
        );
        drop(other);
        assert!(streams.held().is_empty());
    }
}
