//! Sets an endpoint aside that fails again and again, and lets one request at a time find out whether it has recovered.

use crate::policy::{http::Backoff, outbound::FailureAccrual};
use std::{cell::Cell, time::Duration};
use tokio::time::Instant;

/// A probe that never ends does not shut an endpoint out for good.
const PROBE_PATIENCE: Duration = Duration::from_secs(10);

/// Between tries of an endpoint when all are set aside.
const PANIC_INTERVAL: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub struct Breaker {
    policy: FailureAccrual,
    failures: Cell<u32>,
    /// Times in a row that the endpoint was set aside.
    trips: Cell<u32>,
    /// `None`: closed, requests pass.
    until: Cell<Option<Instant>>,
    tried: Cell<Instant>,
}

impl Breaker {
    pub fn new(policy: FailureAccrual) -> Breaker {
        Breaker {
            policy,
            failures: Cell::new(0),
            trips: Cell::new(0),
            until: Cell::new(None),
            tried: Cell::new(Instant::now()),
        }
    }

    /// When the endpoint may be tried again; `None`: now.
    pub fn ready_at(&self, now: Instant) -> Option<Instant> {
        self.until.get().filter(|until| *until > now)
    }

    /// When it may be tried although it is set aside, because all others are as well: nobody is locked out for longer than a second.
    pub fn panic_at(&self, now: Instant) -> Option<Instant> {
        Some(self.tried.get() + PANIC_INTERVAL).filter(|at| *at > now)
    }

    /// A request is sent. After a trip it is the probe, and nobody else may pass until it has answered: whether it is.
    pub fn begin(&self, now: Instant) -> bool {
        self.tried.set(now);
        let probes = self.until.get().is_some();
        if probes {
            self.until.set(Some(now + PROBE_PATIENCE));
        }
        probes
    }

    /// While the endpoint is set aside, what was sent before that says nothing more.
    fn is_late(&self, probes: bool) -> bool {
        self.until.get().is_some() && !probes
    }

    pub fn success(&self, probes: bool) {
        if self.is_late(probes) {
            return;
        }
        self.failures.set(0);
        self.trips.set(0);
        self.until.set(None);
    }

    pub fn failure(&self, now: Instant, probes: bool) {
        if self.is_late(probes) {
            return;
        }
        self.failures.set(self.failures.get().saturating_add(1));
        let probing = self.until.get().is_some();
        if probing || self.failures.get() >= self.policy.max_failures {
            let pause = step(self.policy.backoff, self.trips.get(), fastrand::f32());
            self.trips.set(self.trips.get().saturating_add(1));
            self.until.set(Some(now + pause));
        }
    }
}

/// The `n`th pause (from 0) of an exponential backoff; `random` is from 0 to 1.
pub fn step(backoff: Backoff, n: u32, random: f32) -> Duration {
    let pause = backoff.min.saturating_mul(1u32.checked_shl(n.min(20)).unwrap_or(u32::MAX)).min(backoff.max);
    pause + pause.mul_f32((backoff.jitter * random).clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const POLICY: FailureAccrual = FailureAccrual {
        max_failures: 3,
        backoff: Backoff { min: Duration::from_secs(1), max: Duration::from_secs(60), jitter: 0.0 },
    };

    #[test]
    fn opens_after_failures_in_a_row_and_lets_one_probe_through() {
        let (breaker, now) = (Breaker::new(POLICY), Instant::now());
        for _ in 0..2 {
            breaker.failure(now, false);
        }
        breaker.success(false);
        for _ in 0..3 {
            assert_eq!(breaker.ready_at(now), None);
            assert!(!breaker.begin(now));
            breaker.failure(now, false);
        }
        assert_eq!(breaker.ready_at(now), Some(now + Duration::from_secs(1)));

        let later = now + Duration::from_secs(1);
        assert_eq!(breaker.ready_at(later), None, "the probe may go");
        assert!(breaker.begin(later));
        assert!(breaker.ready_at(later).is_some(), "a second may not");
        breaker.failure(later, true);
        assert_eq!(breaker.ready_at(later), Some(later + Duration::from_secs(2)), "the pause doubles");

        assert!(breaker.begin(later + Duration::from_secs(2)));
        breaker.success(true);
        assert_eq!(breaker.ready_at(later + Duration::from_secs(2)), None);
    }

    #[test]
    fn what_was_under_way_when_it_opened_is_no_probe() {
        let (breaker, now) = (Breaker::new(POLICY), Instant::now());
        for _ in 0..50 {
            breaker.failure(now, false);
        }
        assert_eq!(breaker.ready_at(now), Some(now + Duration::from_secs(1)), "one trip, one pause");
        breaker.success(false);
        assert!(breaker.ready_at(now).is_some(), "an old answer does not close it either");
    }

    proptest! {
        #[test]
        fn pauses_stay_in_their_range(n: u32, random in 0f32..1.0, jitter in 0f32..1.0) {
            let backoff = Backoff { jitter, ..POLICY.backoff };
            let pause = step(backoff, n, random);
            prop_assert!(pause >= backoff.min && pause <= backoff.max * 2);
        }
    }
}
