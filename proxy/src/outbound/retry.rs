//! When a request is tried again, and how often all of a rule's requests may be.

use crate::{balance::accrual::step, policy::http::Retry};
use http::StatusCode;
use std::{cell::Cell, time::Duration};
use tokio::time::Instant;

/// Retries per request that a rule may spend.
const RATIO: f64 = 0.2;
/// Retries that it may spend in any case.
const MIN_PER_S: f64 = 10.0;
/// For how long requests count.
const WINDOW_S: f64 = 10.0;

/// Retries are at most a fifth of the requests of the last seconds, and ten a second: so that they cannot keep an overloaded
/// backend down.
#[derive(Debug)]
pub struct Budget {
    earned: Cell<f64>,
    reserve: Cell<f64>,
    updated: Cell<Instant>,
}

impl Default for Budget {
    fn default() -> Self {
        Budget { earned: Cell::new(0.0), reserve: Cell::new(MIN_PER_S), updated: Cell::new(Instant::now()) }
    }
}

impl Budget {
    /// A request arrives.
    pub fn deposit(&self, now: Instant) {
        self.advance(now);
        self.earned.set(self.earned.get() + RATIO);
    }

    /// May a retry be sent?
    pub fn withdraw(&self, now: Instant) -> bool {
        self.advance(now);
        for purse in [&self.earned, &self.reserve] {
            if purse.get() >= 1.0 {
                purse.set(purse.get() - 1.0);
                return true;
            }
        }
        false
    }

    fn advance(&self, now: Instant) {
        let passed_s = now.saturating_duration_since(self.updated.replace(now)).as_secs_f64();
        self.earned.set(self.earned.get() * (-passed_s / WINDOW_S).exp());
        self.reserve.set((self.reserve.get() + passed_s * MIN_PER_S).min(MIN_PER_S));
    }
}

/// Does a response with this status, and this one of gRPC, call for a retry?
pub fn wanted(retry: &Retry, status: StatusCode, grpc: Option<u16>) -> bool {
    let code = status.as_u16();
    retry.statuses.iter().any(|(from, to)| (*from..=*to).contains(&code))
        || (status == StatusCode::OK && grpc.is_some_and(|code| retry.grpc_codes.contains(&code)))
}

/// The pause before the `n`th retry (from 0).
pub fn pause(retry: &Retry, n: u16) -> Option<Duration> {
    retry.backoff.map(|backoff| step(backoff, n.into(), fastrand::f32()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Row R16: whatever the load, retries stay below a fifth of the requests and ten a second.
        #[test]
        fn never_exceeds_the_budget(per_s in 1u32..2_000, seconds in 1u32..60) {
            let start = Instant::now();
            let budget = Budget { updated: Cell::new(start), ..Budget::default() };
            let mut retries = 0;
            for n in 0..per_s * seconds {
                let now = start + Duration::from_secs_f64(f64::from(n) / f64::from(per_s));
                budget.deposit(now);
                retries += u32::from(budget.withdraw(now));
            }
            let bound = f64::from(per_s * seconds) * RATIO + f64::from(seconds + 1) * MIN_PER_S;
            prop_assert!(f64::from(retries) <= bound, "{} retries of {}", retries, bound);
        }
    }

    #[test]
    fn a_few_retries_are_always_allowed() {
        let budget = Budget::default();
        assert!(budget.withdraw(Instant::now()));
    }
}
