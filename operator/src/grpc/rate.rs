//! A token bucket per identity: a proxy that asks for certificates in a loop is held off, everybody else is not.

use std::{
    collections::HashMap,
    sync::Mutex,
    time::{Duration, Instant},
};

/// All pods of a service account share one bucket, and a rollout starts many at once.
const BURST: f64 = 100.0;
const PER_SECOND: f64 = 10.0;

/// Buckets of identities that have proved themselves: as many as there are service accounts.
#[derive(Debug, Default)]
pub struct Limiter(Mutex<HashMap<String, (f64, Instant)>>);

impl Limiter {
    /// Whether one more is allowed now.
    pub fn allow(&self, identity: &str, now: Instant) -> bool {
        let mut buckets = self.0.lock().expect("no holder panics");
        // A bucket that has had time to fill up says nothing any more.
        let full = Duration::from_secs_f64(BURST / PER_SECOND);
        buckets.retain(|_, (_, at)| now.saturating_duration_since(*at) < full);
        let (tokens, at) = buckets.entry(identity.to_owned()).or_insert((BURST, now));
        *tokens = (*tokens + now.saturating_duration_since(*at).as_secs_f64() * PER_SECOND).min(BURST);
        *at = now;
        if *tokens < 1.0 {
            return false;
        }
        *tokens -= 1.0;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_then_a_trickle_and_nobody_else_suffers() {
        let limiter = Limiter::default();
        let start = Instant::now();
        let allowed = (0..1_000).filter(|_| limiter.allow("a", start)).count();
        assert_eq!(allowed, 100);
        assert!(limiter.allow("b", start));
        let later = start + Duration::from_secs(1);
        assert_eq!((0..1_000).filter(|_| limiter.allow("a", later)).count(), 10);
    }
}
