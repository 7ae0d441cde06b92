//! The data plane: one small binary beside every pod.
//!
//! Data flows one way: `config` → `control` (identity, discovery) → `Arc` snapshots of `policy` → the workers' request path
//! (`inbound`, `outbound`) → `telemetry`.

pub mod accept;
pub mod admin;
pub mod await_ready;
pub mod balance;
mod capacity;
mod complaint;
pub mod config;
pub mod control;
pub mod detect;
pub mod drain;
pub mod forward;
pub mod http;
pub mod identity;
pub mod inbound;
pub mod init;
pub mod io;
pub mod log;
pub mod orig_dst;
pub mod outbound;
pub mod policy;
pub mod ready;
pub mod signal;
pub mod task;
pub mod telemetry;
#[cfg(test)]
mod testing;
pub mod tls;
pub mod transport_header;
pub mod workers;
