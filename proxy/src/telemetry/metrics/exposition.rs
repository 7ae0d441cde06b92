//! The registry as Prometheus text.
//!
//! Crate `prometheus` writes it (escaping, number forms, `le`); its metric types are not used: they look labels up by hash and
//! share cells between threads by read-modify-write, which is what [`super`] avoids.

use super::{
    Family,
    family::{self, Kind, Unit},
    process,
    registry::{Registry, Sample},
};
use crate::telemetry::Telemetry;
use prometheus::{
    TextEncoder,
    proto::{Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType},
};
use std::sync::atomic::Ordering::Relaxed;

pub const CONTENT_TYPE: &str = prometheus::TEXT_FORMAT;

/// The whole page.
pub fn text(telemetry: &Telemetry) -> String {
    let mut page = String::new();
    registry_text(telemetry.registry(), &mut page);
    let dropped = telemetry.dropped();
    let own = [
        (&family::MESH_TELEMETRY_SERIES, vec![("", telemetry.registry().len() as f64)]),
        (&family::MESH_TELEMETRY_SERIES_OVERFLOW_TOTAL, vec![("", telemetry.registry().overflowed() as f64)]),
        (
            &family::MESH_TELEMETRY_DROPPED_TOTAL,
            vec![
                ("span", dropped.spans.load(Relaxed) as f64),
                ("access_log", dropped.access_log.load(Relaxed) as f64),
            ],
        ),
    ];
    for (family, values) in own {
        let metric = |(kind, value): &(&str, f64)| {
            let labels: &[(&str, &str)] = if kind.is_empty() { &[] } else { &[("kind", kind)] };
            scalar(family.kind, labels.iter().copied(), *value)
        };
        write(family, values.iter().map(metric).collect(), &mut page);
    }
    for (family, labels, value) in process::read() {
        write(family, vec![scalar(family.kind, labels.iter().copied(), value)], &mut page);
    }
    page
}

/// What the workers count.
fn registry_text(registry: &Registry, page: &mut String) {
    let samples = registry.collect();
    for samples in samples.chunk_by(|a, b| std::ptr::eq(a.series.family, b.series.family)) {
        let family = samples[0].series.family;
        let Kind::Histogram { total, unit, bounds_us } = family.kind else {
            let metrics =
                samples.iter().map(|s| scalar(family.kind, s.series.labels.iter(), number(family.kind, s)));
            write(family, metrics.collect(), page);
            continue;
        };
        if let Some(total) = total {
            let metrics =
                samples.iter().map(|s| scalar(Kind::Counter, s.series.labels.iter(), s.count() as f64));
            write_as(total, TOTAL_HELP, MetricType::COUNTER, metrics.collect(), page);
        }
        write(family, samples.iter().map(|s| histogram(s, bounds_us, unit)).collect(), page);
    }
}

const TOTAL_HELP: &str = "HTTP responses that have ended.";

fn number(kind: Kind, sample: &Sample) -> f64 {
    match kind {
        // Up and down: as signed as it is meant.
        Kind::Gauge => sample.values[0] as i64 as f64,
        Kind::Counter | Kind::Histogram { .. } => sample.values[0] as f64,
    }
}

fn scalar<'a>(kind: Kind, labels: impl Iterator<Item = (&'a str, &'a str)>, value: f64) -> Metric {
    let mut metric = Metric::from_label(pairs(labels));
    match kind {
        Kind::Gauge => {
            let mut gauge = Gauge::default();
            gauge.set_value(value);
            metric.set_gauge(gauge);
        }
        Kind::Counter | Kind::Histogram { .. } => {
            let mut counter = Counter::default();
            counter.set_value(value);
            metric.set_counter(counter);
        }
    }
    metric
}

fn histogram(sample: &Sample, bounds_us: &[u64], unit: Unit) -> Metric {
    let mut below = 0;
    let buckets = bounds_us.iter().zip(&sample.values).map(|(bound, count)| {
        below += count;
        let mut bucket = Bucket::default();
        bucket.set_upper_bound(*bound as f64 / unit.us());
        bucket.set_cumulative_count(below);
        bucket
    });
    let mut histogram = Histogram::default();
    histogram.set_bucket(buckets.collect());
    histogram.set_sample_count(sample.count());
    histogram.set_sample_sum(sample.sum_us() as f64 / unit.us());
    let mut metric = Metric::from_label(pairs(sample.series.labels.iter()));
    metric.set_histogram(histogram);
    metric
}

fn pairs<'a>(labels: impl Iterator<Item = (&'a str, &'a str)>) -> Vec<LabelPair> {
    labels
        .map(|(name, value)| {
            let mut pair = LabelPair::default();
            pair.set_name(name.to_owned());
            pair.set_value(value.to_owned());
            pair
        })
        .collect()
}

fn write(family: &Family, metrics: Vec<Metric>, page: &mut String) {
    let kind = match family.kind {
        Kind::Counter => MetricType::COUNTER,
        Kind::Gauge => MetricType::GAUGE,
        Kind::Histogram { .. } => MetricType::HISTOGRAM,
    };
    write_as(family.name, family.help, kind, metrics, page);
}

fn write_as(name: &str, help: &str, kind: MetricType, metrics: Vec<Metric>, page: &mut String) {
    let mut family = MetricFamily::default();
    family.set_name(name.to_owned());
    family.set_help(help.to_owned());
    family.set_field_type(kind);
    family.set_metric(metrics);
    if let Err(error) = TextEncoder::new().encode_utf8(&[family], page) {
        tracing::warn!(%error, family = name, "metrics: family left out");
    }
}
