//! All stories on a cluster. Which module tells which item of the checklist: `e2e/README.md`. They want a node, which
//! `cargo xtask e2e` brings up for them; `cargo test` passes them over.

#![allow(clippy::unwrap_used)] // A story that cannot go on should say so at once.

mod bookinfo;
mod commands;
mod delivery;
mod domain;
mod families;
mod identity;
mod injection;
mod install;
mod monitoring;
mod node;
mod outages;
mod policies;
mod probes;
mod protocols;
mod restarts;
mod services;
mod telling;
