//! Series and spans as OTLP messages. Pure: what it says is what it was given.

use super::Sender;
use crate::telemetry::{
    metrics::{
        Labels,
        family::{self, Kind, Unit},
        registry::Change,
    },
    trace::{SpanKind, SpanRecord},
};
use opentelemetry_proto::tonic::{
    collector::{metrics::v1::ExportMetricsServiceRequest, trace::v1::ExportTraceServiceRequest},
    common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value::Value},
    metrics::v1::{
        AggregationTemporality, Gauge, Histogram, HistogramDataPoint, Metric, NumberDataPoint,
        ResourceMetrics, ScopeMetrics, Sum, metric::Data, number_data_point,
    },
    resource::v1::Resource,
    trace::v1::{ResourceSpans, ScopeSpans, Span, Status, span, status::StatusCode},
};
use std::time::{SystemTime, UNIX_EPOCH};

/// Labels that the operator asks for; the others stay on `/metrics`.
const ATTRIBUTES: &[&str] = &[
    "direction",
    "protocol",
    "tls",
    "client_id",
    "server_id",
    "client_ip",
    "srv_kind",
    "srv_namespace",
    "srv_name",
    "srv_port",
    "route_kind",
    "route_namespace",
    "route_name",
    "route_section_name",
    "backend_namespace",
    "backend_name",
    "backend_port",
    "dst_namespace",
    "dst_pod",
    "authz_kind",
    "authz_name",
    "audit",
    "dst_port",
    "status_code",
    "classification",
    "grpc_status",
    "error",
    "other",
];

/// Longest name of a span, in bytes: the method and the path up to its `?`.
const MAX_NAME_BYTES: usize = 128;
/// Longest text that a client may bring into a span: a host or a path.
const MAX_TEXT_BYTES: usize = 256;

pub fn resource(sender: &Sender) -> Resource {
    let started = crate::telemetry::metrics::process::started().0;
    let attributes = vec![
        text("k8s.namespace.name", &sender.namespace),
        text("k8s.pod.name", &sender.pod),
        text("service.name", &sender.pod),
        text("mesh.identity", &sender.identity),
        text("service.version", env!("CARGO_PKG_VERSION")),
        number("process.start_ms", (nanos(started) / 1_000_000) as i64),
    ];
    Resource { attributes, ..Resource::default() }
}

/// All changes between two moments. `changes` are sorted by family.
pub fn metrics(
    resource: &Resource,
    changes: &[Change],
    resident_bytes: Option<u64>,
    since: SystemTime,
    now: SystemTime,
) -> ExportMetricsServiceRequest {
    let span = Interval { start: nanos(since), end: nanos(now) };
    let mut metrics = Vec::new();
    for changes in changes.chunk_by(|a, b| std::ptr::eq(a.series.family, b.series.family)) {
        let family = changes[0].series.family;
        match family.kind {
            Kind::Counter => {
                metrics.push(sum(family.name, changes.iter().map(|c| span.number(c, c.delta[0] as i64))));
            }
            Kind::Gauge => {
                let points = changes.iter().map(|c| span.number(c, c.values[0] as i64)).collect();
                metrics.push(metric(family.name, Data::Gauge(Gauge { data_points: points })));
            }
            Kind::Histogram { bounds_us, unit, total } => {
                if let Some(total) = total {
                    metrics.push(sum(total, changes.iter().map(|c| span.number(c, c.count() as i64))));
                }
                let data_points = changes.iter().map(|c| span.histogram(c, bounds_us, unit)).collect();
                let aggregation_temporality = AggregationTemporality::Delta as i32;
                metrics.push(metric(
                    family.name,
                    Data::Histogram(Histogram { data_points, aggregation_temporality }),
                ));
            }
        }
    }
    if let Some(bytes) = resident_bytes {
        let name = family::PROCESS_RESIDENT_MEMORY_BYTES.name;
        let points = vec![span.point(Vec::new(), bytes as i64)];
        metrics.push(metric(name, Data::Gauge(Gauge { data_points: points })));
    }
    let scope_metrics = ScopeMetrics { scope: Some(scope()), metrics, schema_url: String::new() };
    ExportMetricsServiceRequest {
        resource_metrics: vec![ResourceMetrics {
            resource: Some(resource.clone()),
            scope_metrics: vec![scope_metrics],
            schema_url: String::new(),
        }],
    }
}

/// In nanoseconds since 1970.
struct Interval {
    start: u64,
    end: u64,
}

impl Interval {
    fn number(&self, change: &Change, value: i64) -> NumberDataPoint {
        self.point(attributes(&change.series.labels), value)
    }

    fn point(&self, attributes: Vec<KeyValue>, value: i64) -> NumberDataPoint {
        NumberDataPoint {
            attributes,
            start_time_unix_nano: self.start,
            time_unix_nano: self.end,
            value: Some(number_data_point::Value::AsInt(value)),
            ..NumberDataPoint::default()
        }
    }

    fn histogram(&self, change: &Change, bounds_us: &[u64], unit: Unit) -> HistogramDataPoint {
        HistogramDataPoint {
            attributes: attributes(&change.series.labels),
            start_time_unix_nano: self.start,
            time_unix_nano: self.end,
            count: change.count(),
            sum: Some(change.sum_us() as f64 / unit.us()),
            bucket_counts: change.delta[..change.delta.len() - 1].to_vec(),
            explicit_bounds: bounds_us.iter().map(|bound| *bound as f64 / unit.us()).collect(),
            ..HistogramDataPoint::default()
        }
    }
}

fn metric(name: &str, data: Data) -> Metric {
    Metric { name: name.to_owned(), data: Some(data), ..Metric::default() }
}

fn sum(name: &str, points: impl Iterator<Item = NumberDataPoint>) -> Metric {
    let aggregation_temporality = AggregationTemporality::Delta as i32;
    metric(
        name,
        Data::Sum(Sum { data_points: points.collect(), aggregation_temporality, is_monotonic: true }),
    )
}

fn attributes(labels: &Labels) -> Vec<KeyValue> {
    labels
        .iter()
        .filter(|(name, _)| ATTRIBUTES.contains(name))
        .map(|(name, value)| text(name, value))
        .collect()
}

pub fn spans(resource: &Resource, spans: Vec<Span>) -> ExportTraceServiceRequest {
    let scope_spans = ScopeSpans { scope: Some(scope()), spans, schema_url: String::new() };
    ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            resource: Some(resource.clone()),
            scope_spans: vec![scope_spans],
            schema_url: String::new(),
        }],
    }
}

pub fn span(record: SpanRecord) -> Span {
    let path = cut(record.path.split(['?', '#']).next().unwrap_or_default(), MAX_TEXT_BYTES);
    let name = format!("{} {path}", record.method);
    let mut attributes = vec![
        text("http.request.method", record.method.as_str()),
        text("url.path", path),
        text("mesh.tls", record.tls),
    ];
    let mut optional = |name, value: Option<&str>| {
        attributes.extend(
            value.filter(|value| !value.is_empty()).map(|value| text(name, cut(value, MAX_TEXT_BYTES))),
        );
    };
    optional("server.address", record.host.as_deref());
    optional("mesh.peer.identity", record.peer_identity.as_deref());
    optional("mesh.route", record.route.as_deref());
    optional("mesh.backend", record.backend.as_deref());
    optional("error.type", record.error);
    attributes.extend(record.status.map(|status| number("http.response.status_code", status.into())));
    if record.retries > 0 {
        attributes.push(number("mesh.retries", record.retries.into()));
    }
    let context = record.context;
    let code = if record.failed { StatusCode::Error } else { StatusCode::Unset };
    Span {
        trace_id: context.trace.0.to_vec(),
        span_id: context.span.0.to_vec(),
        parent_span_id: context.parent.map(|parent| parent.0.to_vec()).unwrap_or_default(),
        name: cut(&name, MAX_NAME_BYTES).to_owned(),
        kind: match record.kind {
            SpanKind::Server => span::SpanKind::Server as i32,
            SpanKind::Client => span::SpanKind::Client as i32,
        },
        start_time_unix_nano: nanos(record.start),
        end_time_unix_nano: nanos(record.end),
        attributes,
        status: Some(Status { code: code as i32, message: record.error.unwrap_or_default().to_owned() }),
        ..Span::default()
    }
}

/// At most so many bytes, and whole characters.
fn cut(text: &str, bytes: usize) -> &str {
    &text[..text.floor_char_boundary(bytes)]
}

fn scope() -> InstrumentationScope {
    InstrumentationScope { name: "mesh-proxy".to_owned(), ..InstrumentationScope::default() }
}

fn text(key: &str, value: &str) -> KeyValue {
    let value = Some(AnyValue { value: Some(Value::StringValue(value.to_owned())) });
    KeyValue { key: key.to_owned(), value, ..KeyValue::default() }
}

fn number(key: &str, value: i64) -> KeyValue {
    let value = Some(AnyValue { value: Some(Value::IntValue(value)) });
    KeyValue { key: key.to_owned(), value, ..KeyValue::default() }
}

fn nanos(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos() as u64
}
