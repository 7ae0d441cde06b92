//! The first page: `GET /api/v1/overview?window=` and its stream.

use crate::{golden::Golden, health::Health, workload::WorkloadRow};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Overview {
    pub at_ms: u64,
    pub window_s: u32,
    /// All requests that arrived at meshed workloads, each counted once.
    pub total: Golden,
    /// Share of requests over mutual TLS, 0 to 1.
    pub mtls: Option<f64>,
    /// Proxies heard of within the last 15 s.
    pub proxies: u32,
    /// Pods that are to be meshed.
    pub proxies_expected: u32,
    /// Seconds until the first leaf certificate in the mesh ends.
    pub shortest_certificate_s: Option<u64>,
    /// Seconds until the trust anchor ends.
    pub trust_anchor_s: Option<u64>,
    /// Worst first, at most 5.
    pub attention: Vec<Attention>,
    /// All workloads, worst health first, then busiest.
    pub workloads: Vec<WorkloadRow>,
    pub version: String,
    pub cluster: String,
}

/// One thing that somebody should look at: a sentence and where to go.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Attention {
    pub health: Health,
    pub sentence: String,
    /// Path within the dashboard, such as `/graph?sel=…`; empty when there is none.
    pub link: String,
}
