//! `/live`, `/ready` and `/metrics`, for kubelet and for whoever scrapes. Reads only.

use crate::{grpc::Certificates, listen};
use axum::{Router, extract::State, http::StatusCode, routing::get};
use mesh_policy::Tables;
use std::sync::Arc;
use tokio::{net::TcpListener, sync::watch};

#[derive(Clone)]
pub struct Admin {
    /// True once there is a world, and until we stop.
    pub ready: watch::Receiver<bool>,
    pub holding: watch::Receiver<bool>,
    pub tables: watch::Receiver<Arc<Tables>>,
    pub certificates: Arc<Certificates>,
}

pub async fn serve(listener: TcpListener, admin: Admin) -> std::io::Result<()> {
    let routes = Router::new()
        .route("/live", get(async || "live\n"))
        .route("/ready", get(ready))
        .route("/metrics", get(metrics))
        .with_state(admin);
    listen::serve(listener, routes).await
}

async fn ready(State(admin): State<Admin>) -> (StatusCode, &'static str) {
    match *admin.ready.borrow() {
        true => (StatusCode::OK, "ready\n"),
        false => (StatusCode::SERVICE_UNAVAILABLE, "the cluster's objects are still being listed\n"),
    }
}

async fn metrics(State(admin): State<Admin>) -> String {
    let tables = admin.tables.borrow().clone();
    let meshed = tables.pods().iter().filter(|pod| pod.meshed).count();
    let rows = [
        ("mesh_operator_leader", "Whether this replica writes.", usize::from(*admin.holding.borrow())),
        ("mesh_operator_pods", "Pods with an address.", tables.pods().len()),
        ("mesh_operator_meshed_pods", "Pods that run a proxy of this mesh.", meshed),
        ("mesh_operator_findings", "What is wrong with the configuration.", tables.diagnostics().len()),
    ];
    let row = |(name, help, value)| format!("# HELP {name} {help}\n# TYPE {name} gauge\n{name} {value}\n");
    rows.into_iter().map(row).chain([admin.certificates.exposition()]).collect()
}
