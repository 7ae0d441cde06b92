//! Workloads: `GET /api/v1/workloads?window=&ns=`, `GET /api/v1/workloads/{ns}/{name}?window=`, and their streams.

use crate::{
    golden::{Golden, Tcp},
    graph::Protocol,
    health::Health,
    trace::TraceSummary,
};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WorkloadList {
    pub at_ms: u64,
    pub window_s: u32,
    pub workloads: Vec<WorkloadRow>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WorkloadRow {
    pub namespace: String,
    pub name: String,
    pub app: String,
    pub version: Option<String>,
    pub pods: u32,
    pub meshed_pods: u32,
    pub health: Health,
    pub reason: String,
    /// Received requests; for a workload that only sends, those it sent.
    pub golden: Golden,
    pub tcp: Option<Tcp>,
    pub spark: Vec<f32>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Workload {
    pub at_ms: u64,
    pub window_s: u32,
    pub row: WorkloadRow,
    pub identity: Option<String>,
    pub inbound: Vec<Peer>,
    pub outbound: Vec<Peer>,
    /// Busiest first.
    pub routes: Vec<RouteStat>,
    /// What allowed or refused the requests that arrived, busiest first.
    pub authorizations: Vec<AuthorizationStat>,
    pub pods: Vec<Pod>,
    /// Newest first, at most 10.
    pub traces: Vec<TraceSummary>,
}

/// The other end of a workload's traffic.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Peer {
    /// Node id in the graph.
    pub id: String,
    pub namespace: String,
    pub name: String,
    pub health: Health,
    pub protocol: Protocol,
    pub golden: Golden,
    pub tcp: Option<Tcp>,
    pub mtls: Option<f64>,
    /// Identity in the peer's certificate, where there was one.
    pub identity: Option<String>,
    pub denied: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RouteStat {
    /// `HTTPRoute bookinfo/reviews`, or `default`.
    pub route: String,
    /// `inbound` or `outbound`, seen from the workload.
    pub direction: String,
    pub golden: Golden,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AuthorizationStat {
    /// `AuthorizationPolicy bookinfo/ratings-viewer`, or `default mesh-only`.
    pub policy: String,
    pub client: Option<String>,
    pub allowed: u64,
    pub denied: u64,
    /// Would have been denied, had the policy not been in audit mode.
    pub audited: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pod {
    pub name: String,
    pub ip: String,
    pub meshed: bool,
    pub proxy_version: Option<String>,
    pub certificate_left_s: Option<u64>,
    pub proxy_memory_bytes: Option<u64>,
    /// Milliseconds since the proxy's last report.
    pub last_seen_ms: Option<u64>,
}
