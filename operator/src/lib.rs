//! The mesh's control plane in one process. `main.rs` is its table of contents.

pub mod accounts;
pub mod api;
pub mod ca;
pub mod cluster;
pub mod config;
pub mod edges;
pub mod grpc;
pub mod held;
pub mod layout;
pub mod listen;
pub mod random;
pub mod rate;
mod spelling;
pub mod standing;
pub mod telemetry;
pub mod tokens;
pub mod world;
