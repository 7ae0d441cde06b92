//! How much one sender may do: token buckets, bounded in number, and what a sender is called on the wire.

use std::{
    collections::HashMap,
    hash::Hash,
    net::{IpAddr, SocketAddr},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// Whose connection it is. A Pod has an address of its own; what comes over loopback is many programs with one, which are told
/// apart by their connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Peer {
    Host(IpAddr),
    Connection(SocketAddr),
    /// Not known: all such share.
    Unknown,
}

impl Peer {
    pub fn of<T>(request: &tonic::Request<T>) -> Peer {
        request.remote_addr().map_or(Peer::Unknown, Peer::at)
    }

    pub fn at(addr: SocketAddr) -> Peer {
        match addr.ip().to_canonical() {
            ip if ip.is_loopback() => Peer::Connection(addr),
            ip => Peer::Host(ip),
        }
    }
}

/// As many senders are told apart; beyond, one that was not heard before has to wait.
const MAX_BUCKETS: usize = 100_000;

/// A bucket of tokens per sender: it holds `burst` and fills up again by `per_second`.
#[derive(Debug)]
pub struct Limiter<K> {
    burst: u32,
    per_second: u32,
    buckets: Mutex<Buckets<K>>,
}

#[derive(Debug)]
struct Buckets<K> {
    by_key: HashMap<K, (f64, Instant)>,
    swept: Option<Instant>,
}

impl<K: Eq + Hash> Limiter<K> {
    pub fn new(burst: u32, per_second: u32) -> Limiter<K> {
        let buckets = Mutex::new(Buckets { by_key: HashMap::new(), swept: None });
        Limiter { burst, per_second, buckets }
    }

    /// Whether one more is allowed now.
    pub fn allow(&self, key: K, now: Instant) -> bool {
        self.take(key, 1, now) == 1
    }

    /// How many of `wanted` are allowed now; these count as done.
    pub fn take(&self, key: K, wanted: u32, now: Instant) -> u32 {
        let (burst, per_second) = (f64::from(self.burst), f64::from(self.per_second));
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let Buckets { by_key, swept } = &mut *buckets;
        // A bucket that has had time to fill up says nothing any more.
        let fills = Duration::from_secs_f64(burst / per_second);
        if swept.is_none_or(|swept| now.saturating_duration_since(swept) >= fills) {
            by_key.retain(|_, (_, at)| now.saturating_duration_since(*at) < fills);
            *swept = Some(now);
        }
        if by_key.len() >= MAX_BUCKETS && !by_key.contains_key(&key) {
            return 0;
        }
        let (tokens, at) = by_key.entry(key).or_insert((burst, now));
        *tokens = (*tokens + now.saturating_duration_since(*at).as_secs_f64() * per_second).min(burst);
        *at = now;
        let taken = wanted.min(*tokens as u32);
        *tokens -= f64::from(taken);
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_then_a_trickle_and_nobody_else_suffers() {
        let limiter = Limiter::new(100, 10);
        let start = Instant::now();
        let allowed = (0..1_000).filter(|_| limiter.allow("a", start)).count();
        assert_eq!(allowed, 100);
        assert!(limiter.allow("b", start));
        let later = start + Duration::from_secs(1);
        assert_eq!((0..1_000).filter(|_| limiter.allow("a", later)).count(), 10);
        assert_eq!(
            limiter.take("a", 1_000, later + Duration::from_secs(60)),
            100,
            "never more than the burst"
        );
    }

    #[test]
    fn a_flood_of_new_names_takes_no_memory_without_bound_and_nobodys_place() {
        let limiter = Limiter::new(2, 1);
        let start = Instant::now();
        assert!(limiter.allow(0, start));
        let allowed = (1..200_000).filter(|name| limiter.allow(*name, start)).count();
        assert_eq!(allowed, MAX_BUCKETS - 1);
        assert!(limiter.allow(0, start), "who was there goes on");
        assert!(limiter.allow(500_000, start + Duration::from_secs(2)), "and the flood passes");
    }
}
