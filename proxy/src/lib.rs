//! The data plane: one small binary beside every pod.
//!
//! Data flows one way: `config` → `control` (identity, discovery) → `Arc` snapshots of `policy` → the workers' request path
//! (`inbound`, `outbound`) → `telemetry`.

pub mod control;
pub mod identity;
pub mod policy;
pub mod telemetry;
