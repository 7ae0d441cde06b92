//! The names everybody shares and the JSON that operator, command line and dashboard exchange.
//! Data only: no I/O, no clock, no async; it builds for wasm.

pub mod authz;
pub mod check;
pub mod dns;
pub mod endpoints;
pub mod golden;
pub mod graph;
pub mod health;
pub mod identities;
pub mod identity;
pub mod names;
pub mod overview;
pub mod route;
pub mod series;
pub mod service_link;
pub mod stream;
pub mod trace;
pub mod workload;
