//! operator
pub mod api;
pub mod layout;
pub mod telemetry;
