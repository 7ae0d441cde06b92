//! How long something takes, printed: for the benchmarks of the operator and of policy.

use std::time::{Duration, Instant};

/// The median of some runs.
pub fn measure<T>(what: &str, mut run: impl FnMut() -> T) {
    let mut times: Vec<Duration> = (0..11)
        .map(|_| {
            let start = Instant::now();
            std::hint::black_box(run());
            start.elapsed()
        })
        .collect();
    times.sort();
    println!("{what:<60} {:>10.3?}", times[5]);
}
