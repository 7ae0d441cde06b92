//! `/live`, `/ready` and `/metrics`, for kubelet and for whoever scrapes. Reads only.

use crate::{ca::Authority, grpc::Certificates, listen, standing::Standing};
use axum::{Router, extract::State, http::StatusCode, routing::get};
use mesh_policy::Tables;
use std::{
    sync::{Arc, OnceLock},
    time::SystemTime,
};
use tokio::{net::TcpListener, sync::watch};

#[derive(Clone)]
pub struct Admin {
    /// True once there is a world, and until we stop.
    pub ready: watch::Receiver<bool>,
    pub holding: watch::Receiver<bool>,
    pub standing: watch::Receiver<Standing>,
    pub tables: watch::Receiver<Arc<Tables>>,
    pub certificates: Arc<Certificates>,
    /// None before the API server has answered.
    pub authority: Arc<OnceLock<watch::Receiver<Arc<Authority>>>>,
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
        (
            "mesh_operator_cut_off",
            "Whether the API server has not answered this replica for 90 s.",
            usize::from(admin.standing.borrow().cut_off),
        ),
        ("mesh_operator_pods", "Pods with an address.", tables.pods().len()),
        ("mesh_operator_meshed_pods", "Pods that run a proxy of this mesh.", meshed),
        (
            "mesh_operator_findings",
            "What is wrong with the configuration.",
            tables.diagnostics().len() + tables.unmeshed().len(),
        ),
    ];
    let rows = rows.map(|(name, help, value)| gauge(name, help, value as u64));
    let ends = admin.authority.get().map(|authority| ends(&authority.borrow())).unwrap_or_default();
    rows.into_iter().chain([ends, admin.certificates.exposition()]).collect()
}

fn gauge(name: &str, help: &str, value: u64) -> String {
    format!("# HELP {name} {help}\n# TYPE {name} gauge\n{name} {value}\n")
}

/// Until when what proxies believe in can be believed. Who brings an issuer of their own wants to know in time that nobody renews it.
fn ends(authority: &Authority) -> String {
    let seconds = |end: SystemTime| end.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    let issuer = seconds(authority.issuer_ends());
    let anchors = seconds(authority.trust_anchor_ends());
    [
        gauge("mesh_identity_issuer_expiration_timestamp_seconds", "When the issuer ends.", issuer),
        gauge(
            "mesh_identity_trust_anchors_expiration_timestamp_seconds",
            "When the first trust anchor of the bundle ends.",
            anchors,
        ),
    ]
    .concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn the_ends_of_issuer_and_trust_anchors_are_told() {
        let folder = tempfile::tempdir().unwrap();
        let now = SystemTime::now();
        let authority =
            Authority::open(folder.path(), "cluster.local", Duration::from_secs(3600), now).unwrap();
        let told = ends(&authority);
        let of = |name: &str| -> u64 {
            let line = told.lines().find(|line| line.starts_with(name)).unwrap();
            line.rsplit(' ').next().unwrap().parse().unwrap()
        };
        let (issuer, anchors) = (
            of("mesh_identity_issuer_expiration_timestamp_seconds "),
            of("mesh_identity_trust_anchors_expiration_timestamp_seconds "),
        );
        let now = now.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
        assert!(now < issuer && issuer <= anchors, "{told}");
    }
}
