//! Readers who open a page over and over: an open loop, so that a slow answer does not slow the asking down.

use crate::{arguments::TrafficOptions, client::Client};
use hyper::{HeaderMap, header::HeaderValue};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::Semaphore,
    time::{self, MissedTickBehavior},
};

/// A reader gives up after this long.
const PATIENCE: Duration = Duration::from_secs(10);
/// Readers who wait at the same time. Beyond it a new one is turned away, and counted as failed.
const MAX_WAITING: usize = 1_000;
const REPORT_EVERY: Duration = Duration::from_secs(10);

#[derive(Debug, Default)]
struct Count {
    good: AtomicU64,
    failed: AtomicU64,
}

/// Never ends by itself; the process's end ends it.
pub async fn run(client: Client, options: TrafficOptions) {
    let count = Arc::new(Count::default());
    let places = Arc::new(Semaphore::new(MAX_WAITING));
    let uri = Arc::new(options.url);
    let mut tick = time::interval(Duration::from_secs_f64(1.0 / options.rps));
    // A tick that came late is made up for: the rate holds on average.
    tick.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut report = time::interval_at(time::Instant::now() + REPORT_EVERY, REPORT_EVERY);
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            _ = report.tick() => {
                let good = count.good.swap(0, Ordering::Relaxed);
                let failed = count.failed.swap(0, Ordering::Relaxed);
                println!("last {} s: {good} pages read, {failed} failed", REPORT_EVERY.as_secs());
                continue;
            }
        }
        let Ok(place) = places.clone().try_acquire_owned() else {
            count.failed.fetch_add(1, Ordering::Relaxed);
            continue;
        };
        let (client, uri, count) = (client.clone(), uri.clone(), count.clone());
        let headers = reader(fastrand::f64() < options.jason_share);
        tokio::spawn(async move {
            let _place = place;
            match client.get(&uri, headers, PATIENCE).await {
                Ok((status, _)) if status.is_success() => count.good.fetch_add(1, Ordering::Relaxed),
                Ok((status, _)) => {
                    eprintln!("{uri} answered {status}");
                    count.failed.fetch_add(1, Ordering::Relaxed)
                }
                Err(e) => {
                    eprintln!("{e:#}");
                    count.failed.fetch_add(1, Ordering::Relaxed)
                }
            };
        });
    }
}

/// What a reader's browser sends: jason's has the cookie that the page's log-in sets.
fn reader(is_jason: bool) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert("user-agent", HeaderValue::from_static("mesh-demo traffic"));
    if is_jason {
        headers.insert("cookie", HeaderValue::from_static("user=jason"));
    }
    headers
}
