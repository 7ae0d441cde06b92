//! How many requests a port takes each second: of all clients together, of each, and of some in particular.

use super::authorize::Peer;
use crate::policy::inbound::RateLimit;
use ahash::AHashMap;
use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::Arc,
};
use tokio::time::Instant;

/// Fewer clients than this are all remembered. With more, those whose bucket is full again are forgotten whenever the map would have to
/// grow: a full bucket is as good as a new one.
const FORGET: usize = 1_024;

#[derive(Debug)]
pub struct Limits {
    total: Option<Bucket>,
    each_per_s: Option<u32>,
    /// By identity; those without one are one client.
    each: RefCell<AHashMap<Option<Arc<str>>, Bucket>>,
    /// In place of what each has. The clients of one exception share it.
    exceptions: AHashMap<Arc<str>, Rc<Bucket>>,
}

impl Limits {
    pub fn new(policy: &RateLimit, now: Instant) -> Limits {
        let mut exceptions = AHashMap::new();
        for (clients, per_s) in &policy.overrides {
            let shared = Rc::new(Bucket::new(*per_s, now));
            exceptions.extend(clients.iter().map(|client| (client.clone(), shared.clone())));
        }
        Limits {
            total: policy.total_per_s.map(|per_s| Bucket::new(per_s, now)),
            each_per_s: policy.identity_per_s,
            each: RefCell::default(),
            exceptions,
        }
    }

    /// Counts the request. The client's own limit comes first, so that one who asks too often does not use up what is for all.
    pub fn allows(&self, peer: &Peer, now: Instant) -> bool {
        self.allows_client(peer, now) && self.total.as_ref().is_none_or(|total| total.take(now))
    }

    fn allows_client(&self, peer: &Peer, now: Instant) -> bool {
        if let Some(exception) = peer.identity().and_then(|id| self.exceptions.get(id)) {
            return exception.take(now);
        }
        let Some(per_s) = self.each_per_s else { return true };
        let mut each = self.each.borrow_mut();
        if each.len() >= FORGET && each.len() == each.capacity() {
            each.retain(|_, bucket| !bucket.is_full(now));
        }
        each.entry(peer.id()).or_insert_with(|| Bucket::new(per_s, now)).take(now)
    }
}

/// Tokens for one second's requests.
#[derive(Debug)]
struct Bucket {
    per_s: f64,
    tokens: Cell<f64>,
    updated: Cell<Instant>,
}

impl Bucket {
    fn new(per_s: u32, now: Instant) -> Bucket {
        let per_s = f64::from(per_s);
        Bucket { per_s, tokens: Cell::new(per_s), updated: Cell::new(now) }
    }

    fn fill(&self, now: Instant) -> f64 {
        let passed_s = now.saturating_duration_since(self.updated.replace(now)).as_secs_f64();
        self.tokens.set((self.tokens.get() + passed_s * self.per_s).min(self.per_s));
        self.tokens.get()
    }

    fn take(&self, now: Instant) -> bool {
        let allowed = self.fill(now) >= 1.0;
        if allowed {
            self.tokens.set(self.tokens.get() - 1.0);
        }
        allowed
    }

    fn is_full(&self, now: Instant) -> bool {
        self.fill(now) >= self.per_s
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::metrics::labels::PeerTls;
    use std::time::Duration;

    fn client(name: &str) -> Peer {
        let tls = if name.is_empty() { PeerTls::Disabled } else { PeerTls::Identity(name.into()) };
        Peer::new(tls, [10, 0, 0, 1].into())
    }

    /// How many of 100 requests at once are allowed.
    fn burst(limits: &Limits, name: &str, now: Instant) -> usize {
        (0..100).filter(|_| limits.allows(&client(name), now)).count()
    }

    #[test]
    fn each_client_has_its_own_limit_and_some_have_another() {
        let policy = RateLimit {
            total_per_s: Some(40),
            identity_per_s: Some(10),
            overrides: vec![(vec!["fast".into(), "quick".into()], 20), (vec!["banned".into()], 0)],
        };
        let start = Instant::now();
        let limits = Limits::new(&policy, start);
        assert_eq!(burst(&limits, "one", start), 10);
        assert_eq!(burst(&limits, "", start), 10);
        assert_eq!(burst(&limits, "banned", start), 0);
        // What is left of the total; those who were refused have not used it up.
        assert_eq!(burst(&limits, "fast", start), 20);
        assert_eq!(burst(&limits, "two", start), 0);
        let later = start + Duration::from_secs(1);
        assert_eq!(burst(&limits, "fast", later) + burst(&limits, "quick", later), 20);
        assert_eq!(burst(&limits, "one", later), 10);
    }

    #[test]
    fn clients_that_stay_away_are_forgotten() {
        let limits = Limits::new(
            &RateLimit { total_per_s: None, identity_per_s: Some(1), overrides: vec![] },
            Instant::now(),
        );
        for n in 0..20_000_u64 {
            let now = Instant::now() + Duration::from_secs(2 * n);
            assert!(limits.allows(&client(&n.to_string()), now));
        }
        assert!(limits.each.borrow().len() <= 4 * FORGET, "{}", limits.each.borrow().len());
    }
}
