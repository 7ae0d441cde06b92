//! The registry as Prometheus text.
//!
//! Crate `prometheus` writes it (escaping, number forms, `le`); its metric types are not used: they look labels up by hash and
//! share cells between threads by read-modify-write, which is what [`super`] avoids.

use super::{
    Family,
    family::{self, Kind, Unit},
    process,
    registry::Sample,
};
use crate::telemetry::Telemetry;
use prometheus::{
    TextEncoder,
    proto::{Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType},
};
use std::{
    collections::VecDeque,
    ops::Range,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

pub const CONTENT_TYPE: &str = prometheus::TEXT_FORMAT;

/// Series written at a time: some 100 KiB of histograms. The whole page of a full registry has tens of megabytes.
const SERIES_PER_PAGE: usize = 8;

/// The text, piece by piece: what a scrape costs in memory is one piece.
pub fn pages(telemetry: &Telemetry) -> Pages {
    let samples = telemetry.registry().collect();
    let mut sections = Vec::new();
    let mut start = 0;
    for group in samples.chunk_by(|a, b| std::ptr::eq(a.series.family, b.series.family)) {
        let family = group[0].series.family;
        let range = start..start + group.len();
        start = range.end;
        if let Kind::Histogram { total: Some(total), .. } = family.kind {
            sections.push(Section { name: total, total: true, rest: range.clone(), begun: false });
        }
        sections.push(Section { name: family.name, total: false, rest: range, begun: false });
    }
    Pages { samples, sections: sections.into_iter().collect(), last: Some(own(telemetry)) }
}

#[derive(Debug)]
pub struct Pages {
    samples: Vec<Sample>,
    sections: VecDeque<Section>,
    /// What is not in the registry.
    last: Option<String>,
}

/// One family's samples.
#[derive(Debug)]
struct Section {
    name: &'static str,
    /// The counter beside a histogram.
    total: bool,
    rest: Range<usize>,
    /// Its `HELP` and `TYPE` have been written.
    begun: bool,
}

impl Iterator for Pages {
    type Item = String;

    fn next(&mut self) -> Option<String> {
        let Some(section) = self.sections.front_mut() else { return self.last.take() };
        let end = section.rest.end.min(section.rest.start + SERIES_PER_PAGE);
        let samples = &self.samples[section.rest.start..end];
        let page = section.page(samples);
        section.begun = true;
        section.rest.start = end;
        if section.rest.is_empty() {
            self.sections.pop_front();
        }
        Some(page)
    }
}

impl Section {
    fn page(&self, samples: &[Sample]) -> String {
        let family = samples[0].series.family;
        let mut page = String::new();
        match (self.total, family.kind) {
            (true, _) => {
                let metrics =
                    samples.iter().map(|s| scalar(Kind::Counter, s.series.labels.iter(), s.count() as f64));
                write_as(self.name, TOTAL_HELP, MetricType::COUNTER, metrics.collect(), &mut page);
            }
            (false, Kind::Histogram { bounds_us, unit, .. }) => {
                write(family, samples.iter().map(|s| histogram(s, bounds_us, unit)).collect(), &mut page);
            }
            (false, kind @ (Kind::Counter | Kind::Gauge)) => {
                let metrics = samples.iter().map(|s| scalar(kind, s.series.labels.iter(), number(kind, s)));
                write(family, metrics.collect(), &mut page);
            }
        }
        if self.begun {
            // The format wants a family's `HELP` and `TYPE` once.
            let comments: usize =
                page.split_inclusive('\n').take_while(|line| line.starts_with('#')).map(str::len).sum();
            page.drain(..comments);
        }
        page
    }
}

/// Telemetry's own figures, and the process's.
fn own(telemetry: &Telemetry) -> String {
    let mut page = String::new();
    let tally = telemetry.tally();
    let count = |number: &AtomicU64| number.load(Relaxed) as f64;
    let own = [
        (&family::MESH_TELEMETRY_SERIES, "", vec![("", telemetry.registry().len() as f64)]),
        (
            &family::MESH_TELEMETRY_SERIES_OVERFLOW_TOTAL,
            "",
            vec![("", telemetry.registry().overflowed() as f64)],
        ),
        (
            &family::MESH_TELEMETRY_DROPPED_TOTAL,
            "kind",
            vec![("span", count(&tally.spans_dropped)), ("access_log", count(&tally.access_log_dropped))],
        ),
        (
            &family::MESH_TELEMETRY_PUSHES_TOTAL,
            "result",
            vec![("success", count(&tally.pushes)), ("failure", count(&tally.pushes_failed))],
        ),
    ];
    for (family, label, values) in own {
        let metric = |(text, value): &(&'static str, f64)| {
            let labels = (!label.is_empty()).then_some((label, *text));
            scalar(family.kind, labels.into_iter(), *value)
        };
        write(family, values.iter().map(metric).collect(), &mut page);
    }
    for (family, labels, value) in process::read() {
        write(family, vec![scalar(family.kind, labels.iter().copied(), value)], &mut page);
    }
    page
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
