//! One series at three resolutions: a second for what is live, ten for the last two hours, sixty for the last six.

use super::{packed::Packed, sample::Sample};

/// How fine, and how long.
#[derive(Clone, Copy, Debug)]
pub struct Resolution {
    pub step_s: u32,
    pub keep_s: u32,
}

/// Sixteen minutes rather than fifteen, so that the longest live window never meets the edge.
pub const RESOLUTIONS: [Resolution; 3] = [
    Resolution { step_s: 1, keep_s: 960 },
    Resolution { step_s: 10, keep_s: 7_200 },
    Resolution { step_s: 60, keep_s: 21_600 },
];

/// The finest resolution that still holds `from`.
pub fn resolution_for(from: u32, now: u32) -> usize {
    let age = now.saturating_sub(from);
    RESOLUTIONS.iter().position(|r| age + r.step_s <= r.keep_s).unwrap_or(RESOLUTIONS.len() - 1)
}

#[derive(Clone, Debug, Default)]
pub struct Series {
    tiers: [Tier; RESOLUTIONS.len()],
    /// Last value of a gauge.
    pub gauge: i64,
    /// Second of the last report.
    pub last: u32,
}

#[derive(Clone, Debug, Default)]
struct Tier {
    /// Start of the step that is still being added to.
    open_at: u32,
    open: Sample,
    closed: Packed,
}

impl Series {
    /// Adds to second `now`; seconds never fall.
    pub fn add(&mut self, now: u32, sample: &Sample) {
        self.last = now;
        for (tier, resolution) in self.tiers.iter_mut().zip(RESOLUTIONS) {
            let at = now - now % resolution.step_s;
            if tier.open_at != at {
                tier.close();
                tier.open_at = at;
                tier.closed.forget_before(now.saturating_sub(resolution.keep_s));
            }
            tier.open.add(sample);
        }
    }

    /// Calls `f` with start, length and content of every step within `[from, to)`, newest first. Where the tier is
    /// coarser than a second, `from` is rounded to its nearest step.
    pub fn steps(&self, tier: usize, from: u32, to: u32, mut f: impl FnMut(u32, u32, &Sample)) {
        let step_s = RESOLUTIONS[tier].step_s;
        let from = (from + step_s / 2) / step_s * step_s;
        let tier = &self.tiers[tier];
        if !tier.open.is_empty() && tier.open_at >= from && tier.open_at < to {
            f(tier.open_at, step_s, &tier.open);
        }
        tier.closed.newest_first(from, |at, sample| {
            if at < to {
                f(at, step_s, &sample);
            }
        });
    }

    /// Forgets what is older than each tier's `keep_s`.
    pub fn trim(&mut self, now: u32, keep_s: [u32; RESOLUTIONS.len()]) {
        for (tier, keep_s) in self.tiers.iter_mut().zip(keep_s) {
            tier.closed.forget_before(now.saturating_sub(keep_s));
        }
    }

    pub fn heap_bytes(&self) -> usize {
        self.tiers.iter().map(|tier| tier.closed.heap_bytes()).sum()
    }
}

impl Tier {
    fn close(&mut self) {
        if !self.open.is_empty() {
            self.closed.push(self.open_at, &self.open);
            self.open = Sample::default();
        }
    }
}
