//! All stories. Which module tells which item of the mesh's checklist: `tests/README.md`.

#![allow(clippy::unwrap_used)] // A story that cannot go on should say so at once.

mod authorization;
mod command_line;
mod dashboard;
mod demo;
mod harness;
mod init;
mod manifests;
mod operator_contract;
mod outage;
mod protocols;
mod proxy_contract;
mod routes;
mod settings;
mod smuggling;
mod stock_clients;
mod tracing;
