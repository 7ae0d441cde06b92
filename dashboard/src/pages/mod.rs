//! One file for each page, and the frame around them.

pub mod checks;
pub mod mini;
pub mod missing;
pub mod overview;
pub mod routes;
pub mod shell;
pub mod trace;
pub mod traces;
pub mod waterfall;
pub mod workload;
pub mod workloads;
