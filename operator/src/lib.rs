//! The mesh's control plane in one process. `main.rs` is its table of contents.

pub mod ca;
pub mod config;
pub mod grpc;
pub mod random;
pub mod tokens;
pub mod world;
