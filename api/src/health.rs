//! How well something is, in one word, and the rule behind the word.

use crate::golden::Golden;
use serde::{Deserialize, Serialize};

/// Ordered from well to ill, so that `max` of two is the worse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Health {
    /// Nothing ran in the window.
    Idle,
    Healthy,
    /// Not meshed, or its proxy has been silent for more than 15 s.
    Unknown,
    Degraded,
    Failing,
}

/// Below this share of successes something is degraded.
pub const DEGRADED_BELOW: f64 = 0.99;
/// Below this share of successes something is failing.
pub const FAILING_BELOW: f64 = 0.95;
/// With fewer requests in the window than this, success is not judged.
pub const MIN_REQUESTS: u64 = 5;

impl Health {
    /// The rule for measured traffic: success in the window, once there are enough requests to judge.
    pub fn of(golden: &Golden) -> Health {
        let Some(success) = golden.success else { return Health::Idle };
        if golden.requests < MIN_REQUESTS || success >= DEGRADED_BELOW {
            return Health::Healthy;
        }
        if success < FAILING_BELOW { Health::Failing } else { Health::Degraded }
    }

    pub const fn word(self) -> &'static str {
        match self {
            Health::Idle => "idle",
            Health::Healthy => "healthy",
            Health::Unknown => "unknown",
            Health::Degraded => "degraded",
            Health::Failing => "failing",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn golden(requests: u64, success: Option<f64>) -> Golden {
        Golden { requests, success, ..Golden::default() }
    }

    #[test]
    fn thresholds() {
        assert_eq!(Health::of(&golden(0, None)), Health::Idle);
        assert_eq!(Health::of(&golden(4, Some(0.0))), Health::Healthy);
        assert_eq!(Health::of(&golden(100, Some(0.99))), Health::Healthy);
        assert_eq!(Health::of(&golden(100, Some(0.98))), Health::Degraded);
        assert_eq!(Health::of(&golden(100, Some(0.94))), Health::Failing);
    }
}
