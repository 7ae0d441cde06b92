//! Golden metrics over time, for a workload, an edge, a route or everything.

use super::{
    directory::NodeId,
    flows::{Ends, Reader},
    tally::short,
};
use crate::telemetry::{Label, Labels, Sample};
use mesh_api::{golden::Window, series::Series};

/// What a series is of.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Subject {
    All,
    Node(NodeId),
    Edge(NodeId, NodeId),
    Route { kind: String, namespace: String, name: String },
}

impl Subject {
    pub fn parse(text: &str) -> Option<Subject> {
        if text == "all" {
            return Some(Subject::All);
        }
        if let Some(route) = text.strip_prefix("r:") {
            let mut parts = route.split('/').map(str::to_owned);
            return match (parts.next(), parts.next(), parts.next(), parts.next()) {
                (Some(kind), Some(namespace), Some(name), None) => {
                    Some(Subject::Route { kind, namespace, name })
                }
                _ => None,
            };
        }
        match text.split_once('>') {
            Some((from, to)) => Some(Subject::Edge(NodeId::parse(from)?, NodeId::parse(to)?)),
            None => NodeId::parse(text).map(Subject::Node),
        }
    }

    /// Whether a series of responses belongs to it. Of all and of a node it is what was received; `sends_only` turns a node's
    /// to what it sent.
    pub fn covers(&self, reader: &Reader<'_>, labels: &Labels<'_>, sends_only: bool) -> bool {
        let outbound = labels.get(Label::Direction) == "outbound";
        match self {
            Subject::All => !outbound,
            Subject::Node(node @ NodeId::Workload { .. }) => {
                outbound == sends_only && reader.reporter(labels) == *node
            }
            Subject::Node(node) => reader.ends(labels).is_some_and(|ends| {
                ends.from == *node || ends.to == *node || ends.service.as_ref() == Some(node)
            }),
            Subject::Edge(from, to) => reader.ends(labels).is_some_and(|ends| is_on(&ends, from, to)),
            Subject::Route { kind, namespace, name } => {
                outbound
                    && labels.get(Label::RouteName) == name
                    && labels.get(Label::RouteNamespace) == namespace
                    && labels.get(Label::RouteKind) == kind
            }
        }
    }
}

/// Whether an edge of the graph is part of the way between two ends, be it by a Service or straight.
fn is_on(ends: &Ends, from: &NodeId, to: &NodeId) -> bool {
    let by = ends.service.as_ref();
    let starts = ends.from == *from || by == Some(from);
    let arrives = ends.to == *to || by == Some(to);
    starts && arrives
}

/// Steps are as short as makes about sixty of them.
pub fn step_s(window: Window) -> u32 {
    match window {
        Window::Sec10 | Window::Min1 => 1,
        Window::Min5 => 5,
        Window::Min15 => 15,
        Window::Hour1 => 60,
    }
}

pub fn series(of: String, window: Window, now_ms: u64, steps: &[(Sample, Sample)]) -> Series {
    let step_s = step_s(window);
    let end_s = now_ms / 1000 / u64::from(step_s) * u64::from(step_s);
    let mut series = Series {
        of,
        start_ms: end_s.saturating_sub(u64::from(window.seconds())) * 1000,
        step_s,
        ..Series::default()
    };
    for (success, failure) in steps {
        let per_s = |count: u64| short(count as f64 / f64::from(step_s));
        let mut both = *success;
        both.add(failure);
        series.success_per_s.push(per_s(success.count));
        series.failure_per_s.push(per_s(failure.count));
        series.p50_ms.push(both.quantile_ms(0.50).map(short));
        series.p95_ms.push(both.quantile_ms(0.95).map(short));
        series.p99_ms.push(both.quantile_ms(0.99).map(short));
    }
    series
}
