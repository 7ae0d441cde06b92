//! Reads OTLP metrics into the store, trusting nothing: what is malformed is refused point by point and counted.

use super::{
    label::{Label, Metric},
    metrics::{Metrics, Proxy},
    sample::{BUCKETS, Sample},
};
use mesh_api::names::LATENCY_BOUNDS_MS;
use opentelemetry_proto::tonic::{
    collector::metrics::v1::ExportMetricsServiceRequest,
    common::v1::{KeyValue, any_value},
    metrics::v1::{
        AggregationTemporality, HistogramDataPoint, Metric as OtlpMetric, NumberDataPoint, ResourceMetrics,
        metric::Data, number_data_point,
    },
    resource::v1::Resource,
};

/// A point with more attributes than this is refused.
const MAX_ATTRIBUTES: usize = 128;

/// Points that were refused, and why the first of them was.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rejected {
    pub count: u64,
    pub reason: String,
}

impl Rejected {
    pub fn add(&mut self, count: u64, reason: impl FnOnce() -> String) {
        if count > 0 && self.count == 0 {
            self.reason = reason();
        }
        self.count += count;
    }
}

pub fn ingest(store: &mut Metrics, request: &ExportMetricsServiceRequest, now_ms: u64) -> Rejected {
    let mut rejected = Rejected::default();
    for resource_metrics in &request.resource_metrics {
        let metrics = || resource_metrics.scope_metrics.iter().flat_map(|scope| &scope.metrics);
        let points = || points(resource_metrics);
        let Some(sender) = Sender::of(resource_metrics.resource.as_ref()) else {
            rejected.add(points(), || "the resource has no k8s.namespace.name and k8s.pod.name".into());
            continue;
        };
        let Some(proxy) = store.proxy(sender.namespace, sender.pod, sender.start_ms, now_ms) else {
            rejected.add(points(), || "too many proxies".into());
            continue;
        };
        // No two of a proxy's requests end at the same moment, so that this one comes again: its answer was lost.
        let until_ns = metrics().find_map(until_ns).filter(|until_ns| *until_ns > 0);
        if until_ns.is_some() && proxy.counted_until_ns == until_ns {
            continue;
        }
        proxy.counted_until_ns = until_ns;
        proxy.identity = sender.identity.into();
        proxy.version = sender.version.into();
        for metric in metrics() {
            read_metric(store, &sender, metric, now_ms, &mut rejected);
        }
    }
    store.dropped.invalid += rejected.count;
    rejected
}

/// The proxy that a resource names.
struct Sender<'a> {
    namespace: &'a str,
    pod: &'a str,
    identity: &'a str,
    version: &'a str,
    start_ms: u64,
}

impl Sender<'_> {
    fn of(resource: Option<&Resource>) -> Option<Sender<'_>> {
        let attributes = &resource?.attributes;
        let text = |name: &str| attribute(attributes, name).filter(|text| text.len() <= 253);
        Some(Sender {
            namespace: text("k8s.namespace.name").filter(|text| !text.is_empty())?,
            pod: text("k8s.pod.name").filter(|text| !text.is_empty())?,
            identity: text("mesh.identity").unwrap_or(""),
            version: text("service.version").unwrap_or(""),
            start_ms: number(attributes, "process.start_ms").unwrap_or(0),
        })
    }
}

fn read_metric(
    store: &mut Metrics,
    sender: &Sender<'_>,
    metric: &OtlpMetric,
    now_ms: u64,
    rejected: &mut Rejected,
) {
    match (metric.name.as_str(), &metric.data) {
        (name, Some(Data::Gauge(gauge))) if of_itself(name).is_some() => {
            let value = gauge.data_points.iter().rev().find_map(amount);
            if let Some(field) = of_itself(name)
                && let Some(proxy) = store.proxy(sender.namespace, sender.pod, sender.start_ms, now_ms)
            {
                let kept = field(proxy);
                *kept = value.or(*kept);
            }
        }
        ("response_latency_ms", Some(Data::Histogram(histogram)))
            if is_delta(histogram.aggregation_temporality) =>
        {
            for point in &histogram.data_points {
                match latency(point) {
                    Some(sample) => add(
                        store,
                        sender,
                        Metric::Response,
                        &point.attributes,
                        Amount::Sample(sample),
                        now_ms,
                        rejected,
                    ),
                    None => rejected
                        .add(1, || format!("{}: want {BUCKETS} buckets with the mesh's bounds", metric.name)),
                }
            }
        }
        (name, Some(Data::Sum(sum)))
            if is_delta(sum.aggregation_temporality)
                && Metric::parse(name).is_some_and(|m| m != Metric::TcpConnections) =>
        {
            let Some(kind) = Metric::parse(name) else { return };
            for point in &sum.data_points {
                match amount(point) {
                    Some(count) => add(
                        store,
                        sender,
                        kind,
                        &point.attributes,
                        Amount::Sample(Sample::of(count)),
                        now_ms,
                        rejected,
                    ),
                    None => rejected.add(1, || format!("{name}: want a number that is not negative")),
                }
            }
        }
        (name, Some(Data::Gauge(gauge))) if name == Metric::TcpConnections.name() => {
            for point in &gauge.data_points {
                match amount(point).and_then(|value| i64::try_from(value).ok()) {
                    Some(value) => add(
                        store,
                        sender,
                        Metric::TcpConnections,
                        &point.attributes,
                        Amount::Gauge(value),
                        now_ms,
                        rejected,
                    ),
                    None => rejected.add(1, || format!("{name}: want a number that is not negative")),
                }
            }
        }
        (name, _) => rejected.add(points_in(metric), || {
            let name: String = name.chars().take(64).collect();
            format!("metric {name:?} is none of the mesh's, or is not sent as delta")
        }),
    }
}

/// Where a gauge is kept that a proxy tells of itself.
fn of_itself(metric: &str) -> Option<fn(&mut Proxy) -> &mut Option<u64>> {
    Some(match metric {
        "identity_cert_expiration_timestamp_seconds" => |proxy| &mut proxy.certificate_expires_s,
        "mesh_trust_anchors_hash" => |proxy| &mut proxy.anchors,
        "mesh_certificate_issuer_hash" => |proxy| &mut proxy.issuer,
        "process_resident_memory_bytes" => |proxy| &mut proxy.memory_bytes,
        _ => return None,
    })
}

enum Amount {
    Sample(Sample),
    Gauge(i64),
}

fn add(
    store: &mut Metrics,
    sender: &Sender<'_>,
    metric: Metric,
    attributes: &[KeyValue],
    amount: Amount,
    now_ms: u64,
    rejected: &mut Rejected,
) {
    if attributes.len() > MAX_ATTRIBUTES {
        return rejected.add(1, || format!("{}: more than {MAX_ATTRIBUTES} attributes", metric.name()));
    }
    let mut labels = vec![(Label::Namespace, sender.namespace), (Label::Pod, sender.pod)];
    for KeyValue { key, value, .. } in attributes {
        let Some(any_value::Value::StringValue(text)) = value.as_ref().and_then(|value| value.value.as_ref())
        else {
            continue;
        };
        match Label::parse(key) {
            // These two are the sender's own and not for a point to say.
            None | Some(Label::Namespace | Label::Pod) => {}
            Some(label) => labels.push((label, text)),
        }
    }
    let now_s = (now_ms / 1000) as u32;
    // A series beyond the bounds is counted by the store, apart from what is malformed.
    match amount {
        Amount::Sample(sample) => store.add(metric, &labels, &sample, now_s),
        Amount::Gauge(value) => store.set(metric, &labels, value, now_s),
    };
}

fn is_delta(temporality: i32) -> bool {
    temporality == AggregationTemporality::Delta as i32
}

fn amount(point: &NumberDataPoint) -> Option<u64> {
    match point.value? {
        number_data_point::Value::AsInt(value) => u64::try_from(value).ok(),
        // Below 2^53, where a double is still exact.
        number_data_point::Value::AsDouble(value) => (0.0..9e15).contains(&value).then_some(value as u64),
    }
}

fn latency(point: &HistogramDataPoint) -> Option<Sample> {
    let same_bounds = point.explicit_bounds.len() == LATENCY_BOUNDS_MS.len()
        && point.explicit_bounds.iter().zip(LATENCY_BOUNDS_MS).all(|(&bound, ours)| bound == f64::from(ours));
    if !same_bounds || point.bucket_counts.len() != BUCKETS {
        return None;
    }
    let mut sample = Sample::default();
    for (mine, &theirs) in sample.buckets.iter_mut().zip(&point.bucket_counts) {
        *mine = u32::try_from(theirs).unwrap_or(u32::MAX);
    }
    // As a cast saturates and maps what is no number to 0, a broken sum costs the mean and nothing else.
    sample.sum_us = (point.sum.unwrap_or(0.0) * 1000.0) as u64;
    Some(sample)
}

/// The end of the interval that a metric tells of.
fn until_ns(metric: &OtlpMetric) -> Option<u64> {
    match metric.data.as_ref()? {
        Data::Gauge(gauge) => gauge.data_points.first().map(|point| point.time_unix_nano),
        Data::Sum(sum) => sum.data_points.first().map(|point| point.time_unix_nano),
        Data::Histogram(histogram) => histogram.data_points.first().map(|point| point.time_unix_nano),
        Data::ExponentialHistogram(_) | Data::Summary(_) => None,
    }
}

pub fn points(part: &ResourceMetrics) -> u64 {
    part.scope_metrics.iter().flat_map(|scope| &scope.metrics).map(points_in).sum()
}

fn points_in(metric: &OtlpMetric) -> u64 {
    let points = match &metric.data {
        Some(Data::Gauge(gauge)) => gauge.data_points.len(),
        Some(Data::Sum(sum)) => sum.data_points.len(),
        Some(Data::Histogram(histogram)) => histogram.data_points.len(),
        Some(Data::ExponentialHistogram(histogram)) => histogram.data_points.len(),
        Some(Data::Summary(summary)) => summary.data_points.len(),
        None => 0,
    };
    points as u64
}

/// The text of a string attribute.
pub fn attribute<'a>(attributes: &'a [KeyValue], name: &str) -> Option<&'a str> {
    let found = attributes.iter().take(MAX_ATTRIBUTES).find(|attribute| attribute.key == name)?;
    match found.value.as_ref()?.value.as_ref()? {
        any_value::Value::StringValue(text) => Some(text),
        _ => None,
    }
}

/// A whole number, sent as such or as text.
fn number(attributes: &[KeyValue], name: &str) -> Option<u64> {
    let found = attributes.iter().take(MAX_ATTRIBUTES).find(|attribute| attribute.key == name)?;
    match found.value.as_ref()?.value.as_ref()? {
        any_value::Value::IntValue(value) => u64::try_from(*value).ok(),
        any_value::Value::StringValue(text) => text.parse().ok(),
        _ => None,
    }
}
