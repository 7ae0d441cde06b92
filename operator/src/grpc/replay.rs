//! Whose key it is: a signing request that one Pod has sent is of no use to another, though both may have the same identity.
//! Who keeps its key and asks again with the same request (as stock proxies do) is no stranger.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// As many keys are remembered; then the oldest half is forgotten.
const MOST: usize = 50_000;

/// Keys that have been certified by this replica, each for as long as its certificate lives. A replica that has not seen the
/// first request cannot know; whoever sends the second has not the key either, so that nothing is won by it.
#[derive(Debug)]
pub struct Keys {
    remember: Duration,
    known: Mutex<HashMap<Vec<u8>, (String, Instant)>>,
}

impl Keys {
    pub fn new(remember: Duration) -> Keys {
        Keys { remember, known: Mutex::default() }
    }

    /// Whether this Pod may have the key certified: nobody else has.
    pub fn claim(&self, public_key: &[u8], pod: &str, now: Instant) -> bool {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let lives = |at: Instant| now.saturating_duration_since(at) < self.remember;
        if known.get(public_key).is_some_and(|(owner, at)| owner != pod && lives(*at)) {
            return false;
        }
        if known.len() >= MOST {
            let mut times: Vec<Instant> = known.values().map(|(_, at)| *at).collect();
            let (_, middle, _) = times.select_nth_unstable(MOST / 2);
            let middle = *middle;
            known.retain(|_, (_, at)| *at > middle);
        }
        known.insert(public_key.to_vec(), (pod.to_owned(), now));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_belongs_to_the_pod_that_showed_it_first() {
        let keys = Keys::new(Duration::from_secs(60));
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        assert!(keys.claim(b"key", "pod", start));
        assert!(keys.claim(b"key", "pod", after(40)), "its own key, again");
        assert!(!keys.claim(b"key", "thief", after(90)));
        assert!(keys.claim(b"other", "thief", after(90)));
        assert!(keys.claim(b"key", "thief", after(101)), "the certificate has ended");
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let keys = Keys::new(Duration::from_secs(60));
        let start = Instant::now();
        for at in 0..2 * MOST as u64 {
            assert!(keys.claim(&at.to_be_bytes(), "pod", start + Duration::from_micros(at)));
        }
        assert!(keys.known.lock().unwrap().len() <= MOST);
        assert!(!keys.claim(&(2 * MOST as u64 - 1).to_be_bytes(), "thief", start), "the newest stay");
    }
}
