//! How busy an endpoint is: what its answers have taken lately, times the requests it is working on.

use std::{cell::Cell, time::Duration};
use tokio::time::Instant;

/// Answers quicker than this are equally quick: below it the machine's noise is larger than the difference between endpoints.
const NOISE: Duration = Duration::from_millis(5);
/// Weight of one slow answer. A hiccup hardly shows; sixteen slow answers in a row do.
const RISE: f64 = 1.0 / 8.0;
/// Weight of one quick answer: an endpoint that has recovered shows it at once.
const FALL: f64 = 1.0 / 2.0;

#[derive(Debug)]
pub struct Load {
    latency_s: Cell<f64>,
    measured: Cell<Instant>,
    pending: Cell<u32>,
    /// 1 for the usual weight of 10,000.
    weight: f64,
    decay_s: f64,
}

impl Load {
    /// A new endpoint is taken for a quick one, so that it gets its share at once.
    pub fn new(weight: u32, decay: Duration) -> Load {
        Load {
            latency_s: Cell::new(0.0),
            measured: Cell::new(Instant::now()),
            pending: Cell::new(0),
            weight: f64::from(weight.max(1)) / 10_000.0,
            decay_s: decay.as_secs_f64().max(0.1),
        }
    }

    /// Never zero. What is not measured for long is forgotten, so that a slow endpoint gets another chance.
    pub fn get(&self, now: Instant) -> f64 {
        let latency = self.latency_s.get();
        let noise = NOISE.as_secs_f64();
        let current = match latency > noise {
            true => (latency * (-(now - self.measured.get()).as_secs_f64() / self.decay_s).exp()).max(noise),
            false => noise,
        };
        current * f64::from(self.pending.get() + 1) / self.weight
    }

    pub fn observe(&self, latency: Duration, now: Instant) {
        let (old, new) = (self.latency_s.get(), latency.as_secs_f64());
        let weight = if new > old { RISE } else { FALL };
        self.latency_s.set(old + (new - old) * weight);
        self.measured.set(now);
    }

    /// An answer that was given up would have taken at least so long.
    pub fn observe_at_least(&self, latency: Duration, now: Instant) {
        if latency.as_secs_f64() > self.latency_s.get() {
            self.observe(latency, now);
        }
    }

    pub fn begin(&self) {
        self.pending.set(self.pending.get() + 1);
    }

    pub fn end(&self) {
        self.pending.set(self.pending.get() - 1);
    }
}

#[cfg(test)]
mod tests;
