//! One amount of traffic: a count, a sum and a latency histogram. Addition is all that happens to it.

use mesh_api::names::LATENCY_BOUNDS_MS;

/// One bucket for each bound and one for what is above the last.
pub const BUCKETS: usize = LATENCY_BOUNDS_MS.len() + 1;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    /// Responses, connections or bytes; for a latency series, observations.
    pub count: u64,
    pub sum_us: u64,
    pub buckets: [u32; BUCKETS],
}

impl Sample {
    pub fn of(count: u64) -> Sample {
        Sample { count, ..Sample::default() }
    }

    pub fn add(&mut self, other: &Sample) {
        self.count = self.count.saturating_add(other.count);
        self.sum_us = self.sum_us.saturating_add(other.sum_us);
        for (mine, theirs) in self.buckets.iter_mut().zip(other.buckets) {
            *mine = mine.saturating_add(theirs);
        }
    }

    pub fn is_empty(&self) -> bool {
        *self == Sample::default()
    }

    /// The latency that a share `q` of the observations stayed under, interpolated linearly within its
    /// bucket as Prometheus' `histogram_quantile` does. Above the last bound, that bound. `None` without observations.
    pub fn quantile_ms(&self, q: f64) -> Option<f64> {
        let total: u64 = self.buckets.iter().map(|&n| u64::from(n)).sum();
        if total == 0 {
            return None;
        }
        let rank = q * total as f64;
        let mut below = 0.0;
        for (i, &n) in self.buckets.iter().enumerate() {
            let n = f64::from(n);
            if n > 0.0 && below + n >= rank {
                let Some(&upper) = LATENCY_BOUNDS_MS.get(i) else { break };
                let lower = if i == 0 { 0.0 } else { f64::from(LATENCY_BOUNDS_MS[i - 1]) };
                return Some(lower + (f64::from(upper) - lower) * ((rank - below) / n).max(0.0));
            }
            below += n;
        }
        Some(f64::from(LATENCY_BOUNDS_MS[LATENCY_BOUNDS_MS.len() - 1]))
    }
}

/// The bucket into which a latency falls; bounds are inclusive.
pub fn bucket_of(ms: f64) -> usize {
    LATENCY_BOUNDS_MS.iter().position(|&bound| ms <= f64::from(bound)).unwrap_or(BUCKETS - 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn interpolates_within_the_bucket() {
        let mut sample = Sample::default();
        sample.buckets[bucket_of(15.0)] = 10; // all between 10 and 20 ms
        assert_eq!(sample.quantile_ms(0.5), Some(15.0));
        assert_eq!(sample.quantile_ms(1.0), Some(20.0));
        assert_eq!(Sample::default().quantile_ms(0.5), None);
        sample.buckets = [0; BUCKETS];
        sample.buckets[BUCKETS - 1] = 3;
        assert_eq!(sample.quantile_ms(0.99), Some(50_000.0));
    }

    proptest! {
        /// The true quantile of the observations lies in the bucket that the estimate names.
        #[test]
        fn is_within_the_true_quantiles_bucket(mut ms in prop::collection::vec(0.0f64..60_000.0, 1..200), q in 0.01f64..1.0) {
            let mut sample = Sample::default();
            for &value in &ms {
                sample.buckets[bucket_of(value)] += 1;
            }
            ms.sort_by(f64::total_cmp);
            let truth = ms[((q * ms.len() as f64).ceil() as usize).clamp(1, ms.len()) - 1];
            let estimate = sample.quantile_ms(q).unwrap();
            if truth > 50_000.0 {
                prop_assert_eq!(estimate, 50_000.0);
            } else {
                prop_assert_eq!(bucket_of(estimate), bucket_of(truth));
            }
        }
    }
}
