//! Policy into messages of linkerd2-proxy-api. Pure; the shapes are those that a stock proxy insists on.

pub mod destination;
mod http;
pub mod inbound;
mod meta;
pub mod outbound;

use std::time::Duration;

/// Durations of ours are far below what the wire can carry.
fn duration(duration: Duration) -> prost_types::Duration {
    duration.try_into().expect("within 10,000 years")
}
