//! OTLP as a proxy would send it, for tests.

use super::sample::{BUCKETS, bucket_of};
use mesh_api::names::LATENCY_BOUNDS_MS;
use opentelemetry_proto::tonic::{
    collector::{metrics::v1::ExportMetricsServiceRequest, trace::v1::ExportTraceServiceRequest},
    common::v1::{AnyValue, KeyValue, any_value::Value},
    metrics::v1::{
        AggregationTemporality, Gauge, Histogram, HistogramDataPoint, Metric, NumberDataPoint,
        ResourceMetrics, ScopeMetrics, Sum, metric::Data, number_data_point,
    },
    resource::v1::Resource,
    trace::v1::{ResourceSpans, ScopeSpans, Span},
};

const DELTA: i32 = AggregationTemporality::Delta as i32;

pub fn text(name: &str, value: &str) -> KeyValue {
    let value = Some(AnyValue { value: Some(Value::StringValue(value.into())) });
    KeyValue { key: name.into(), value, ..KeyValue::default() }
}

pub fn attributes(pairs: &[(&str, &str)]) -> Vec<KeyValue> {
    pairs.iter().map(|(name, value)| text(name, value)).collect()
}

pub fn resource(namespace: &str, pod: &str) -> Resource {
    let identity = format!("{pod}.{namespace}.serviceaccount.identity.mesh.cluster.local");
    let attributes = attributes(&[
        ("k8s.namespace.name", namespace),
        ("k8s.pod.name", pod),
        ("mesh.identity", &identity),
        ("service.version", "0.1.0"),
        ("process.start_ms", "1000"),
    ]);
    Resource { attributes, ..Resource::default() }
}

/// One push of one proxy.
#[derive(Clone)]
pub struct Report {
    pub resource: Resource,
    pub metrics: Vec<Metric>,
}

impl Report {
    pub fn of(namespace: &str, pod: &str) -> Report {
        Report { resource: resource(namespace, pod), metrics: Vec::new() }
    }

    /// `count` responses that took `ms` each.
    pub fn responses(self, labels: &[(&str, &str)], count: u64, ms: f64) -> Report {
        let mut bucket_counts = vec![0; BUCKETS];
        bucket_counts[bucket_of(ms)] = count;
        let point = HistogramDataPoint {
            attributes: attributes(labels),
            count,
            sum: Some(ms * count as f64),
            bucket_counts,
            explicit_bounds: LATENCY_BOUNDS_MS.map(f64::from).to_vec(),
            ..HistogramDataPoint::default()
        };
        let histogram = Histogram { data_points: vec![point], aggregation_temporality: DELTA };
        self.counter("response_total", labels, count).with("response_latency_ms", Data::Histogram(histogram))
    }

    pub fn counter(self, name: &str, labels: &[(&str, &str)], count: u64) -> Report {
        let sum = Sum {
            data_points: vec![number(labels, number_data_point::Value::AsInt(count as i64))],
            aggregation_temporality: DELTA,
            is_monotonic: true,
        };
        self.with(name, Data::Sum(sum))
    }

    pub fn gauge(self, name: &str, labels: &[(&str, &str)], value: i64) -> Report {
        self.with(
            name,
            Data::Gauge(Gauge { data_points: vec![number(labels, number_data_point::Value::AsInt(value))] }),
        )
    }

    pub fn with(mut self, name: &str, data: Data) -> Report {
        self.metrics.push(Metric { name: name.into(), data: Some(data), ..Metric::default() });
        self
    }

    pub fn request(self) -> ExportMetricsServiceRequest {
        ExportMetricsServiceRequest {
            resource_metrics: vec![ResourceMetrics {
                resource: Some(self.resource),
                scope_metrics: vec![ScopeMetrics { metrics: self.metrics, ..ScopeMetrics::default() }],
                ..ResourceMetrics::default()
            }],
        }
    }
}

pub fn number(labels: &[(&str, &str)], value: number_data_point::Value) -> NumberDataPoint {
    NumberDataPoint { attributes: attributes(labels), value: Some(value), ..NumberDataPoint::default() }
}

/// A span of trace 1; times in milliseconds from `EPOCH_MS`.
pub fn span(id: u8, parent: u8, start_ms: u64, end_ms: u64) -> Span {
    Span {
        trace_id: vec![1; 16],
        span_id: vec![id; 8],
        parent_span_id: if parent == 0 { Vec::new() } else { vec![parent; 8] },
        name: format!("span {id}"),
        start_time_unix_nano: (EPOCH_MS + start_ms) * 1_000_000,
        end_time_unix_nano: (EPOCH_MS + end_ms) * 1_000_000,
        ..Span::default()
    }
}

pub fn spans(namespace: &str, pod: &str, spans: Vec<Span>) -> ExportTraceServiceRequest {
    ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            resource: Some(resource(namespace, pod)),
            scope_spans: vec![ScopeSpans { spans, ..ScopeSpans::default() }],
            ..ResourceSpans::default()
        }],
    }
}

pub const EPOCH_MS: u64 = 1_800_000_000_000;
