//! Traces: `GET /api/v1/traces?workload=ns/name&min_ms=&error=true&limit=`, its stream, and `GET /api/v1/traces/{id}`.

use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TraceList {
    /// Newest first.
    pub traces: Vec<TraceSummary>,
    /// Traces held in the store.
    pub held: u64,
    /// Spans refused or evicted since start, because of the store's bounds.
    pub dropped_spans: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TraceSummary {
    /// 32 lower-case hex digits.
    pub id: String,
    /// `GET /productpage`.
    pub name: String,
    /// Workload of the earliest span, `ns/name`.
    pub workload: String,
    pub start_ms: u64,
    pub duration_us: u64,
    pub spans: u32,
    pub errors: u32,
    /// Workloads that took part, in order of first appearance.
    pub workloads: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Trace {
    pub summary: TraceSummary,
    /// In waterfall order: a parent before its children, children by start.
    pub spans: Vec<Span>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SpanKind {
    /// An inbound proxy's: from the request's arrival to the response's end.
    Server,
    /// An outbound proxy's: from the application's call to the response's end.
    Client,
    /// An application's own, or unknown.
    Internal,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Span {
    /// 16 lower-case hex digits.
    pub id: String,
    /// Absent for a root, and where the parent never arrived.
    pub parent: Option<String>,
    /// Distance from the root, for indentation.
    pub depth: u32,
    pub name: String,
    pub kind: SpanKind,
    /// `ns/name` of the workload whose proxy made the span.
    pub workload: String,
    /// From the start of the trace.
    pub start_us: u64,
    pub duration_us: u64,
    pub error: bool,
    /// On the path that decided the trace's duration.
    pub critical: bool,
    pub attributes: Vec<(String, String)>,
}
