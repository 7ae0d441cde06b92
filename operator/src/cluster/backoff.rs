//! How long to wait before the API server is asked again: soon at first, never longer than it takes to be noticed, and not all
//! replicas at once.

use std::time::Duration;

/// The delay doubles from `least` to `most`; up to half of each is taken off at random.
#[derive(Clone, Debug)]
pub struct Backoff {
    least: Duration,
    most: Duration,
    next: Duration,
}

impl Backoff {
    pub fn new(least: Duration, most: Duration) -> Backoff {
        Backoff { least, most, next: least }
    }

    /// For whatever a cluster depends on: back within 2 s of the API server's return.
    pub fn api() -> Backoff {
        Backoff::new(Duration::from_millis(200), Duration::from_secs(2))
    }
}

impl Iterator for Backoff {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let delay = self.next;
        self.next = (delay * 2).min(self.most);
        let random = f64::from(u16::from_be_bytes(crate::random::bytes())) / f64::from(u16::MAX);
        Some(delay.mul_f64(1.0 - random / 2.0))
    }
}

impl kube::runtime::utils::Backoff for Backoff {
    fn reset(&mut self) {
        self.next = self.least;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_to_the_most_and_differ() {
        let delays: Vec<Duration> = Backoff::api().take(50).collect();
        assert!(delays[0] <= Duration::from_millis(200) && delays[0] >= Duration::from_millis(100));
        assert!(delays[10..].iter().all(|delay| (1.0..=2.0).contains(&delay.as_secs_f64())), "{delays:?}");
        assert_ne!(delays[10], delays[11]);
    }
}
