//! How many streams one peer may hold, and how fast it may open them: whoever reads the whole mesh's policy in a loop is held off,
//! everybody else is not.

use crate::{
    held::{Held, Place},
    rate::{Limiter, Peer},
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Instant,
};
use tonic::Status;

/// A proxy holds two streams per destination it talks to, 1,500 destinations at most, and one per port it serves or is asked for, 1,000 at most.
pub const MAX_STREAMS: u32 = 4_096;
/// When we start again, a proxy opens all of its streams at once.
const BURST: u32 = MAX_STREAMS;
const PER_SECOND: u32 = 50;

#[derive(Debug)]
pub struct Streams {
    held: Arc<Held<Peer>>,
    opened: Limiter<Peer>,
    refused: AtomicU64,
}

impl Default for Streams {
    fn default() -> Streams {
        Streams {
            held: Held::new(MAX_STREAMS),
            opened: Limiter::new(BURST, PER_SECOND),
            refused: AtomicU64::new(0),
        }
    }
}

/// One stream of a peer, for as long as it is held.
pub type Permit = Place<Peer>;

impl Streams {
    pub fn admit(&self, peer: Peer, now: Instant) -> Result<Permit, Status> {
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
        match self.held.take(peer) {
            Some(place) => Ok(place),
            None => refuse(format!("{MAX_STREAMS} streams are open from there: close some")),
        }
    }

    /// Streams refused since start.
    pub fn refused(&self) -> u64 {
        self.refused.load(Relaxed)
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
        let streams = Streams::default();
        let start = Instant::now();
        let open = |peer, now| streams.admit(peer, now);
        let held: Vec<Permit> = (0..10_000).filter_map(|_| open(host(1), start).ok()).collect();
        assert_eq!((held.len(), streams.refused()), (4_096, 5_904));
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
        assert!(streams.held.is_empty());
    }
}
