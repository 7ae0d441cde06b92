//! Traces as the API shows them: names of workloads instead of pods, times from the start of the trace.

use super::directory::{Directory, NodeId};
use crate::telemetry::{self, Origin, waterfall};
use mesh_api::trace::{Span, Trace, TraceSummary};

/// Which traces are wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Filter {
    /// `ns/name`
    pub workload: Option<String>,
    pub min_ms: u64,
    pub error: bool,
    pub limit: usize,
}

impl Filter {
    fn admits(&self, summary: &TraceSummary) -> bool {
        summary.duration_us >= self.min_ms * 1000
            && (!self.error || summary.errors > 0)
            && self.workload.as_ref().is_none_or(|workload| summary.workloads.contains(workload))
    }
}

/// The newest that the filter admits, newest first.
pub fn summaries<'a>(
    traces: impl Iterator<Item = &'a telemetry::Trace>,
    directory: &Directory,
    filter: &Filter,
) -> Vec<TraceSummary> {
    let mut found: Vec<TraceSummary> = traces
        .filter_map(|trace| summary(trace, directory))
        .filter(|summary| filter.admits(summary))
        .take(filter.limit)
        .collect();
    found.sort_by(|a, b| b.start_ms.cmp(&a.start_ms).then_with(|| a.id.cmp(&b.id)));
    found
}

/// `None` for a trace without spans.
fn summary(trace: &telemetry::Trace, directory: &Directory) -> Option<TraceSummary> {
    let mut by_start: Vec<&telemetry::Span> = trace.spans.iter().collect();
    // Of two that start together the longer is the outer.
    by_start.sort_by_key(|span| (span.start_us, std::cmp::Reverse(span.duration_us)));
    let first = by_start.first()?;
    let end_us = by_start.iter().map(|span| span.end_us()).max()?;
    let mut workloads: Vec<String> = Vec::new();
    for span in &by_start {
        let workload = workload_of(&span.origin, directory);
        if !workloads.contains(&workload) {
            workloads.push(workload);
        }
    }
    Some(TraceSummary {
        id: telemetry::hex(&trace.id),
        name: first.name.to_string(),
        workload: workload_of(&first.origin, directory),
        start_ms: first.start_us / 1000,
        duration_us: end_us - first.start_us,
        spans: trace.spans.len() as u32,
        errors: trace.spans.iter().filter(|span| span.error).count() as u32,
        workloads,
    })
}

pub fn detail(trace: &telemetry::Trace, directory: &Directory) -> Option<Trace> {
    let summary = summary(trace, directory)?;
    let start_us = trace.spans.iter().map(|span| span.start_us).min()?;
    let spans = waterfall(trace)
        .into_iter()
        .map(|place| {
            let span = &trace.spans[place.span];
            Span {
                id: telemetry::hex(&span.id),
                parent: span.parent.filter(|_| place.has_parent).map(|id| telemetry::hex(&id)),
                depth: place.depth,
                name: span.name.to_string(),
                kind: span.kind,
                workload: workload_of(&span.origin, directory),
                start_us: span.start_us - start_us,
                duration_us: span.duration_us,
                error: span.error,
                critical: place.critical,
                attributes: span
                    .attributes
                    .iter()
                    .map(|(key, value)| (key.to_string(), value.to_string()))
                    .collect(),
            }
        })
        .collect();
    Some(Trace { summary, spans })
}

/// `ns/name` of the workload; an application outside is called as it calls itself.
fn workload_of(origin: &Origin, directory: &Directory) -> String {
    if !origin.pod.is_empty()
        && let NodeId::Workload { namespace, name } = directory.node_of_pod(&origin.namespace, &origin.pod)
    {
        return format!("{namespace}/{name}");
    }
    match (&*origin.namespace, &*origin.service) {
        (_, "") => "unknown".into(),
        ("", service) => service.into(),
        (namespace, service) => format!("{namespace}/{service}"),
    }
}
