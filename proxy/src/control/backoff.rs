//! How long to wait before the next try: exponential, with jitter, so that a thousand proxies do not come back in one moment.

use std::time::Duration;

/// The delays of one series of tries.
#[derive(Clone, Debug)]
pub struct Backoff {
    min: Duration,
    max: Duration,
    next: Duration,
}

impl Backoff {
    pub fn new(min: Duration, max: Duration) -> Backoff {
        Backoff { min, max, next: min }
    }

    /// The next delay: the step, less up to half of it by `random` (0 to 1).
    pub fn delay(&mut self, random: f64) -> Duration {
        let step = self.next;
        self.next = (step * 2).min(self.max);
        step.mul_f64(1.0 - 0.5 * random.clamp(0.0, 1.0))
    }

    /// After a success, the next series starts anew.
    pub fn reset(&mut self) {
        self.next = self.min;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn delays_stay_within_bounds_and_never_shrink(randoms in proptest::collection::vec(0.0..=1.0f64, 1..40)) {
            let (min, max) = (Duration::from_millis(100), Duration::from_secs(2));
            let mut backoff = Backoff::new(min, max);
            let mut without_jitter = Backoff::new(min, max);
            let mut last = Duration::ZERO;
            for random in randoms {
                let step = without_jitter.delay(0.0);
                let delay = backoff.delay(random);
                proptest::prop_assert!(delay >= step / 2 && delay <= step && step <= max && step >= last);
                last = step;
            }
            backoff.reset();
            proptest::prop_assert_eq!(backoff.delay(0.0), min);
        }
    }
}
