//! What is written on an edge: one metric, unless there is something worse to say. Pure.

use crate::{format, graph::geometry, words};
use mesh_api::{
    graph::{Edge, EdgeMetrics, Protocol},
    health::Health,
};

/// The metric that edges show, as in the URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metric {
    Rate,
    Success,
    P50,
    P95,
    P99,
    Nothing,
}

impl Metric {
    pub const ALL: [Metric; 6] =
        [Metric::Rate, Metric::Success, Metric::P50, Metric::P95, Metric::P99, Metric::Nothing];

    /// Empty for the default, which the URL leaves out.
    pub const fn key(self) -> &'static str {
        match self {
            Metric::Rate => "",
            Metric::Success => "success",
            Metric::P50 => "p50",
            Metric::P95 => "p95",
            Metric::P99 => "p99",
            Metric::Nothing => "none",
        }
    }

    pub const fn title(self) -> &'static str {
        match self {
            Metric::Rate => "Requests/s",
            Metric::Success => "Success",
            Metric::P50 => "p50",
            Metric::P95 => "p95",
            Metric::P99 => "p99",
            Metric::Nothing => "Errors only",
        }
    }

    pub fn parse(key: &str) -> Metric {
        Metric::ALL.into_iter().find(|metric| metric.key() == key).unwrap_or(Metric::Rate)
    }
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Label {
    pub text: String,
    /// A second, smaller line.
    pub small: String,
    /// `bad`, `warn` or empty.
    pub class: &'static str,
}

impl Label {
    /// Roughly, for the plate behind it.
    pub fn width(&self) -> f64 {
        let chars = self.text.chars().count().max(self.small.chars().count());
        chars as f64 * 5.9 + 10.0
    }
}

/// Nothing for an edge that carried nothing.
pub fn label(edge: &Edge, metrics: &EdgeMetrics, metric: Metric) -> Option<Label> {
    let mut label = main_text(edge, metrics, metric);
    if words::is_plaintext(metrics) {
        label.text += if label.text.is_empty() { "plaintext" } else { " · plaintext" };
    }
    if metrics.denied > 0 {
        label.small = format!("{} denied", format::thousands(metrics.denied));
        label.class = "bad";
        if label.text.is_empty() {
            std::mem::swap(&mut label.text, &mut label.small);
        }
    }
    (!label.text.is_empty()).then_some(label)
}

fn main_text(edge: &Edge, metrics: &EdgeMetrics, metric: Metric) -> Label {
    let golden = &metrics.golden;
    if let (Health::Degraded | Health::Failing, Some(success)) = (metrics.health, golden.success)
        && !words::success_class(golden).is_empty()
        && !geometry::is_share(edge)
    {
        let text = format!("{} err", format::share(Some(1.0 - success)).text());
        return Label { text, class: words::class(metrics.health), ..Label::default() };
    }
    if let Some(tcp) = metrics.tcp.as_ref().filter(|_| metrics.protocol == Protocol::Tcp) {
        let text = format!("{}/s", format::bytes(tcp.read_bytes_per_s + tcp.write_bytes_per_s));
        return Label { text, ..Label::default() };
    }
    if geometry::is_share(edge) && (metrics.observed.is_some() || metrics.wanted.is_some()) {
        let seen = metrics.observed.map_or(format::NONE.into(), format::whole_share);
        return match metrics.wanted {
            Some(wanted) => Label {
                text: format!("seen {seen}"),
                small: format!("wanted {}", format::whole_share(wanted)),
                class: "",
            },
            None => Label { text: seen, ..Label::default() },
        };
    }
    if golden.requests == 0 {
        return Label::default();
    }
    let text = match metric {
        Metric::Rate => format::rate(golden.rate_per_s).text(),
        Metric::Success => format::share(golden.success).text(),
        Metric::P50 => format::latency(golden.p50_ms).text(),
        Metric::P95 => format::latency(golden.p95_ms).text(),
        Metric::P99 => format::latency(golden.p99_ms).text(),
        Metric::Nothing => String::new(),
    };
    Label { text, ..Label::default() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mesh_api::golden::{Golden, Tcp};

    fn edge(from: &str) -> Edge {
        Edge { id: String::new(), from: from.into(), to: "w:n/b".into(), points: vec![], back: false }
    }

    fn metrics(success: f64) -> EdgeMetrics {
        let golden = Golden {
            requests: 480,
            rate_per_s: 8.0,
            success: Some(success),
            p99_ms: Some(31.0),
            ..Golden::default()
        };
        EdgeMetrics {
            health: Health::of(&golden),
            reason: String::new(),
            protocol: Protocol::Http,
            golden,
            tcp: None,
            mtls: Some(1.0),
            observed: None,
            wanted: None,
            denied: 0,
        }
    }

    fn check(edge_from: &str, metrics: &EdgeMetrics, metric: Metric, expected: &str) {
        let label = label(&edge(edge_from), metrics, metric).unwrap_or_default();
        assert_eq!(format!("{}|{}", label.text, label.small), expected);
    }

    #[test]
    fn the_chosen_metric_unless_there_is_worse() {
        check("w:n/a", &metrics(1.0), Metric::Rate, "8.0/s|");
        check("w:n/a", &metrics(1.0), Metric::P99, "31 ms|");
        check("w:n/a", &metrics(1.0), Metric::Nothing, "|");
        check("w:n/a", &metrics(0.948), Metric::P99, "5.2 % err|");
        check("w:n/a", &EdgeMetrics { mtls: Some(0.0), ..metrics(1.0) }, Metric::Rate, "8.0/s · plaintext|");
        check("w:n/a", &EdgeMetrics { denied: 12, ..metrics(1.0) }, Metric::Rate, "8.0/s|12 denied");
        check(
            "w:n/a",
            &EdgeMetrics { denied: 12, golden: Golden::default(), ..metrics(1.0) },
            Metric::Rate,
            "12 denied|",
        );
    }

    #[test]
    fn a_split_shows_its_shares() {
        let observed = EdgeMetrics { observed: Some(0.12), ..metrics(0.9) };
        check("s:n/s", &observed, Metric::Rate, "12 %|");
        check("s:n/s", &EdgeMetrics { wanted: Some(0.1), ..observed }, Metric::Rate, "seen 12 %|wanted 10 %");
        check(
            "s:n/s",
            &EdgeMetrics { wanted: Some(0.1), ..metrics(1.0) },
            Metric::Rate,
            "seen –|wanted 10 %",
        );
    }

    #[test]
    fn bytes_for_what_is_no_http() {
        let tcp = Tcp { open_connections: 1, read_bytes_per_s: 1_500.0, write_bytes_per_s: 500.0 };
        let metrics = EdgeMetrics {
            protocol: Protocol::Tcp,
            tcp: Some(tcp),
            golden: Golden::default(),
            ..metrics(1.0)
        };
        check("w:n/a", &metrics, Metric::Rate, "2 KB/s|");
    }
}
