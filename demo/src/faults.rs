//! Misbehaviour on demand, so that timeouts, retries and failure accrual have something to act on.

use crate::arguments::FaultOptions;
use std::sync::atomic::{AtomicU64, Ordering};

#[derive(Debug)]
pub struct Faults {
    options: FaultOptions,
    seen: AtomicU64,
}

impl Faults {
    pub fn new(options: FaultOptions) -> Self {
        Faults { options, seen: AtomicU64::new(0) }
    }

    /// Waits the configured delay, then says whether this request is one of those that fail.
    pub async fn strike(&self) -> bool {
        let nth = self.seen.fetch_add(1, Ordering::Relaxed) + 1;
        if !self.options.delay.is_zero() {
            tokio::time::sleep(self.options.delay).await;
        }
        let FaultOptions { fail_every, fail_ratio, .. } = self.options;
        (fail_every > 0 && nth.is_multiple_of(fail_every))
            || (fail_ratio > 0.0 && fastrand::f64() < fail_ratio)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test]
    async fn every_second_request_fails() {
        let faults = Faults::new(FaultOptions { delay: Duration::ZERO, fail_every: 2, fail_ratio: 0.0 });
        let mut failed = vec![];
        for _ in 0..4 {
            failed.push(faults.strike().await);
        }
        assert_eq!(failed, [false, true, false, true]);
    }
}
