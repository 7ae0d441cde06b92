//! All stories. Which module tells which item of the mesh's checklist: `tests/README.md`.

mod authorization;
mod dashboard;
mod demo;
mod harness;
mod manifests;
mod operator_contract;
mod outage;
mod protocols;
mod proxy_contract;
mod routes;
mod smuggling;
mod stock_clients;
mod tracing;
