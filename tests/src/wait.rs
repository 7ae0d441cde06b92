//! Waiting for something to become true, with a deadline. Never a bare sleep.

use std::{
    fmt::Display,
    time::{Duration, Instant},
};

/// For what should happen at once but may be slow on a busy machine; where a figure is promised, tests name it themselves.
pub const SOON: Duration = Duration::from_secs(15);

const STEP: Duration = Duration::from_millis(20);

/// Asks until the answer is `Ok`; panics with the last `Err` when that takes longer than `within`.
pub async fn until<T, E: Display>(
    what: &str,
    within: Duration,
    mut probe: impl AsyncFnMut() -> Result<T, E>,
) -> T {
    let start = Instant::now();
    loop {
        let why = match probe().await {
            Ok(value) => return value,
            Err(why) => why,
        };
        assert!(start.elapsed() < within, "waited {within:?} for {what}: {why}");
        tokio::time::sleep(STEP).await;
    }
}

/// Asks for `during` and panics at the first `Err`.
pub async fn always<E: Display>(what: &str, during: Duration, mut probe: impl AsyncFnMut() -> Result<(), E>) {
    let start = Instant::now();
    while start.elapsed() < during {
        if let Err(why) = probe().await {
            panic!("{what} did not hold after {:?}: {why}", start.elapsed());
        }
        tokio::time::sleep(STEP).await;
    }
}

/// Awaits one thing with a deadline.
pub async fn within<T>(limit: Duration, what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(limit, future).await.unwrap_or_else(|_| panic!("waited {limit:?} for {what}"))
}
