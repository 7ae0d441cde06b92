//! The data plane: one small binary beside every pod.
//!
//! Data flows one way: `config` → `control` (identity, discovery) → `Arc` snapshots of `policy` → the workers' request path
//! (`inbound`, `outbound`) → `telemetry`.

pub mod admin;
pub mod config;
pub mod control;
pub mod drain;
pub mod identity;
pub mod log;
pub mod policy;
pub mod ready;
pub mod signal;
pub mod telemetry;
pub mod tls;
