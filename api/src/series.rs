//! Golden metrics over time: `GET /api/v1/series?of=&window=`, where `of` is `w:ns/name`, an edge id, `r:Kind/ns/name` or `all`.

use serde::{Deserialize, Serialize};

/// Equal steps, oldest first. A step in which nothing ran has zero rates and no latencies.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Series {
    pub of: String,
    /// Unix time at which the first step starts.
    pub start_ms: u64,
    pub step_s: u32,
    pub success_per_s: Vec<f64>,
    pub failure_per_s: Vec<f64>,
    pub p50_ms: Vec<Option<f64>>,
    pub p95_ms: Vec<Option<f64>>,
    pub p99_ms: Vec<Option<f64>>,
}
