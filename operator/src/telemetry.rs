//! What the mesh's proxies report: OTLP in, an in-memory store of metrics and traces, snapshots out.
//! The store knows no Kubernetes objects; who is behind a pod's name is for the reader (`api`) to find.

mod assemble;
#[cfg(test)]
pub mod fixture;
mod forward;
mod label;
mod metrics;
mod otlp;
mod packed;
mod sample;
mod sender;
mod series;
mod service;
mod traces;

pub use assemble::{Place, waterfall};
pub use forward::Forward;
pub use label::{Label, Metric};
pub use metrics::{Dropped, Labels, Limits, Proxy, Row, SILENT_AFTER_MS, SPARK_STEPS, Snapshot};
pub use otlp::Rejected;
pub use sample::{BUCKETS, Sample, bucket_of};
pub use service::{Otlp, otlp_routes};
pub use traces::{Origin, Span, SpanId, Trace, TraceId, hex, parse_trace_id};

use crate::rate::{Limiter, Peer};
use forward::Message;
use metrics::Metrics;
use opentelemetry_proto::tonic::collector::{
    metrics::v1::ExportMetricsServiceRequest, trace::v1::ExportTraceServiceRequest,
};
use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Instant, SystemTime},
};
use traces::Traces;

/// Bytes of spans that are kept.
const TRACE_BYTES: usize = 32 << 20;
/// Spans of one sender: more than twice what a proxy ever tells, and so few that one sender alone needs a quarter of a minute to
/// push all others' traces out of the store.
const SPANS_PER_SECOND: u32 = 2_500;
/// An application's exporter may collect for some seconds.
const SPAN_BURST: u32 = 10_000;

/// Everything received, behind two locks that are held for milliseconds and never across an await.
#[derive(Debug)]
pub struct Store {
    metrics: Mutex<Metrics>,
    traces: Mutex<Traces>,
    forward: Option<Forward>,
    spans_of: Limiter<Peer>,
    limited_spans: AtomicU64,
    foreign: AtomicU64,
}

impl Store {
    pub fn new(limits: Limits, forward: Option<Forward>) -> Store {
        Store {
            metrics: Mutex::new(Metrics::new(limits)),
            traces: Mutex::new(Traces::new(TRACE_BYTES)),
            forward,
            spans_of: Limiter::new(SPAN_BURST, SPANS_PER_SECOND),
            limited_spans: AtomicU64::new(0),
            foreign: AtomicU64::new(0),
        }
    }

    pub fn ingest_metrics(&self, request: ExportMetricsServiceRequest, now_ms: u64) -> Rejected {
        let rejected = otlp::ingest(&mut lock(&self.metrics), &request, now_ms);
        if let Some(forward) = &self.forward {
            forward.send(Message::Metrics(request));
        }
        rejected
    }

    pub fn ingest_spans(&self, request: ExportTraceServiceRequest, now_ms: u64) -> Rejected {
        let rejected = lock(&self.traces).ingest(&request, now_ms);
        if let Some(forward) = &self.forward {
            forward.send(Message::Spans(request));
        }
        rejected
    }

    /// Takes out of the request what its sender may not send now, from its end.
    pub fn limit_spans(&self, request: &mut ExportTraceServiceRequest, peer: Peer, now: Instant) -> Rejected {
        let mut scopes: Vec<_> =
            request.resource_spans.iter_mut().flat_map(|resource| &mut resource.scope_spans).collect();
        let sent: usize = scopes.iter().map(|scope| scope.spans.len()).sum();
        let allowed = self.spans_of.take(peer, u32::try_from(sent).unwrap_or(u32::MAX), now) as usize;
        let mut left = allowed;
        for scope in &mut scopes {
            scope.spans.truncate(left);
            left -= scope.spans.len();
        }
        let over = (sent - allowed) as u64;
        self.limited_spans.fetch_add(over, Relaxed);
        let mut rejected = Rejected::default();
        rejected.add(over, || format!("more than {SPANS_PER_SECOND} spans a second from one sender"));
        rejected
    }

    /// Counts what somebody reported for another. `true` where the log is to hear of it: a flood must not become one of the log.
    fn is_foreign(&self, count: u64) -> bool {
        const SAID_EVERY: u64 = 1_000;
        let before = self.foreign.fetch_add(count, Relaxed);
        before.div_ceil(SAID_EVERY) < (before + count).div_ceil(SAID_EVERY)
    }

    /// See `Metrics::snapshot`.
    pub fn snapshot(&self, now_ms: u64, window_s: u32, horizon_s: u32) -> Snapshot {
        lock(&self.metrics).snapshot(now_ms, window_s, horizon_s)
    }

    /// What every proxy last said of itself.
    pub fn proxies(&self) -> Vec<Proxy> {
        lock(&self.metrics).proxies()
    }

    /// See `Metrics::history`.
    pub fn history(
        &self,
        now_ms: u64,
        window_s: u32,
        step_s: u32,
        wanted: impl Fn(&Labels<'_>) -> bool,
    ) -> Vec<(Sample, Sample)> {
        lock(&self.metrics).history(now_ms, window_s, step_s, wanted)
    }

    pub fn trace(&self, id: &TraceId) -> Option<Arc<Trace>> {
        lock(&self.traces).get(id)
    }

    /// The traces that arrived last and are complete, as far as one can tell; newest first.
    pub fn newest_traces(&self, limit: usize, now_ms: u64) -> Vec<Arc<Trace>> {
        lock(&self.traces).newest(limit, now_ms)
    }

    pub fn usage(&self) -> Usage {
        let metrics = lock(&self.metrics);
        let traces = lock(&self.traces);
        Usage {
            series: metrics.series_count(),
            max_series: metrics.limits().series,
            live_s: metrics.live_s(),
            dropped: metrics.dropped,
            traces: traces.held(),
            dropped_spans: traces.dropped_spans,
            limited_spans: self.limited_spans.load(Relaxed),
            foreign: self.foreign.load(Relaxed),
            forward_lost: self.forward.as_ref().map_or(0, Forward::lost),
        }
    }
}

/// How full the store is and what it had to leave out.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Usage {
    pub series: usize,
    pub max_series: usize,
    pub live_s: u32,
    pub dropped: Dropped,
    pub traces: usize,
    /// Refused, or evicted to make room.
    pub dropped_spans: u64,
    /// Refused because their sender sent too many.
    pub limited_spans: u64,
    /// Points and spans that were reported for a Pod which is not their sender's.
    pub foreign: u64,
    pub forward_lost: u64,
}

/// A panic while the lock was held leaves counts at worst half added: better than no telemetry at all.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Unix time. A clock before 1970 counts as 1970.
pub fn now_ms() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

#[cfg(test)]
mod tests;
