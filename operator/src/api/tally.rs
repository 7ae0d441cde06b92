//! Adds rows up to golden figures.

use crate::telemetry::{Label, Labels, Metric, Row, SPARK_STEPS, Sample};
use mesh_api::{
    golden::{Failure, Golden, Tcp},
    graph::Protocol,
};
use std::collections::BTreeMap;

/// Causes of failure that are listed.
const MAX_FAILURES: usize = 5;

/// Everything that is counted between two ends, or at one of them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tally {
    pub responses: Sample,
    pub failed: u64,
    /// Failures by cause, and whether a proxy made the response.
    causes: BTreeMap<(String, bool), u64>,
    pub grpc: u64,
    /// Responses over mutual TLS.
    mtls: u64,
    /// Answered by the client's proxy itself before there was an endpoint: neither encrypted nor in the clear.
    unreached: u64,
    /// Responses that say that access is denied: 403 or gRPC's PERMISSION_DENIED.
    pub forbidden: u64,
    pub spark: [f32; SPARK_STEPS],
    pub tcp_opened: u64,
    tcp_opened_mtls: u64,
    pub tcp_open: u64,
    tcp_open_mtls: u64,
    tcp_read: u64,
    tcp_written: u64,
    is_http: bool,
    is_grpc: bool,
    is_tcp: bool,
}

impl Tally {
    /// Adds a row of traffic; rows of authorization are none.
    pub fn add(&mut self, row: &Row, labels: &Labels<'_>) {
        let over_mtls = labels.get(Label::Tls) == "true";
        let count = row.sample.count;
        match row.metric() {
            Metric::Response => {
                self.is_http = true;
                self.is_grpc |= labels.get(Label::Protocol) == "grpc";
                self.responses.add(&row.sample);
                for (mine, theirs) in self.spark.iter_mut().zip(row.spark) {
                    *mine += theirs;
                }
                self.mtls += if over_mtls { count } else { 0 };
                self.unreached += if is_unreached(labels) { count } else { 0 };
                self.grpc += if labels.get(Label::Protocol) == "grpc" { count } else { 0 };
                if labels.get(Label::StatusCode) == "403" || labels.get(Label::GrpcStatus) == "7" {
                    self.forbidden += count;
                }
                if labels.get(Label::Classification) == "failure" && count > 0 {
                    self.failed += count;
                    *self.causes.entry(cause(labels)).or_default() += count;
                }
            }
            Metric::TcpOpen => {
                self.is_tcp = true;
                self.tcp_opened += count;
                self.tcp_opened_mtls += if over_mtls { count } else { 0 };
            }
            Metric::TcpConnections => {
                self.is_tcp = true;
                let open = row.gauge.max(0) as u64;
                self.tcp_open += open;
                self.tcp_open_mtls += if over_mtls { open } else { 0 };
            }
            Metric::TcpRead => self.tcp_read += count,
            Metric::TcpWrite => self.tcp_written += count,
            Metric::HttpAllow | Metric::HttpDeny | Metric::TcpAllow | Metric::TcpDeny => {}
        }
    }

    pub fn merge(&mut self, other: &Tally) {
        self.responses.add(&other.responses);
        for (mine, theirs) in self.spark.iter_mut().zip(other.spark) {
            *mine += theirs;
        }
        for (cause, count) in &other.causes {
            *self.causes.entry(cause.clone()).or_default() += count;
        }
        self.failed += other.failed;
        self.grpc += other.grpc;
        self.mtls += other.mtls;
        self.unreached += other.unreached;
        self.forbidden += other.forbidden;
        self.tcp_opened += other.tcp_opened;
        self.tcp_opened_mtls += other.tcp_opened_mtls;
        self.tcp_open += other.tcp_open;
        self.tcp_open_mtls += other.tcp_open_mtls;
        self.tcp_read += other.tcp_read;
        self.tcp_written += other.tcp_written;
        self.is_http |= other.is_http;
        self.is_grpc |= other.is_grpc;
        self.is_tcp |= other.is_tcp;
    }

    pub fn requests(&self) -> u64 {
        self.responses.count
    }

    pub fn golden(&self, covered_s: u32) -> Golden {
        let requests = self.requests();
        let mut failures: Vec<Failure> = self
            .causes
            .iter()
            .map(|((cause, by_mesh), &count)| Failure { cause: cause.clone(), count, by_mesh: *by_mesh })
            .collect();
        failures.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.cause.cmp(&b.cause)));
        failures.truncate(MAX_FAILURES);
        Golden {
            requests,
            rate_per_s: short(requests as f64 / f64::from(covered_s)),
            success: share(requests.saturating_sub(self.failed), requests),
            p50_ms: self.responses.quantile_ms(0.50).map(short),
            p95_ms: self.responses.quantile_ms(0.95).map(short),
            p99_ms: self.responses.quantile_ms(0.99).map(short),
            failures,
        }
    }

    /// Figures of opaque connections; `None` where there were none.
    pub fn tcp(&self, covered_s: u32) -> Option<Tcp> {
        self.is_tcp.then(|| Tcp {
            open_connections: self.tcp_open,
            read_bytes_per_s: short(self.tcp_read as f64 / f64::from(covered_s)),
            write_bytes_per_s: short(self.tcp_written as f64 / f64::from(covered_s)),
        })
    }

    /// Share over mutual TLS: of requests where there are any, else of connections.
    pub fn mtls(&self) -> Option<f64> {
        share(self.mtls, self.requests() - self.unreached)
            .or_else(|| share(self.tcp_opened_mtls, self.tcp_opened))
            .or_else(|| share(self.tcp_open_mtls, self.tcp_open))
    }

    /// Whether some of it ran in plaintext, or without the client's identity.
    pub fn has_plaintext(&self) -> bool {
        self.mtls().is_some_and(|share| share < 1.0)
    }

    /// What most of it spoke; where nothing ran in the window, what was ever seen.
    pub fn protocol(&self) -> Protocol {
        let mostly_grpc = self.grpc * 2 > self.requests() || (self.requests() == 0 && self.is_grpc);
        match (self.is_http, self.is_tcp) {
            (false, true) => Protocol::Tcp,
            (true, _) if mostly_grpc => Protocol::Grpc,
            _ => Protocol::Http,
        }
    }

    pub fn ran(&self) -> bool {
        self.requests() > 0
            || self.tcp_opened > 0
            || self.tcp_open > 0
            || self.tcp_read > 0
            || self.tcp_written > 0
    }

    pub fn spark(&self) -> Vec<f32> {
        self.spark.iter().map(|&rate| short(f64::from(rate)) as f32).collect()
    }
}

/// No endpoint had been chosen when the client's own proxy gave up.
fn is_unreached(labels: &Labels<'_>) -> bool {
    let no_peer = labels.get(Label::DstPod).is_empty() && labels.get(Label::ServerId).is_empty();
    labels.get(Label::Direction) == "outbound" && no_peer && !labels.get(Label::Error).is_empty()
}

fn cause(labels: &Labels<'_>) -> (String, bool) {
    let (error, grpc) = (labels.get(Label::Error), labels.get(Label::GrpcStatus));
    let status = labels.get(Label::StatusCode);
    let cause = match (error, grpc, status) {
        // A proxy writes 0 where the client was gone before there was an answer.
        ("", "" | "0", "" | "0") => "no response".to_owned(),
        ("", "" | "0", status) => status.to_owned(),
        ("", grpc, _) => format!("grpc-{grpc}"),
        (error, ..) => error.to_owned(),
    };
    (cause, !error.is_empty())
}

/// A part of a whole, to four digits; nothing where there is no whole. Never rounded up to 1: one failure in a million shows.
pub fn share(part: u64, whole: u64) -> Option<f64> {
    if whole == 0 {
        return None;
    }
    let share = (part as f64 / whole as f64 * 1e4).round() / 1e4;
    Some(if part < whole { share.min(0.9999) } else { share })
}

/// Three significant digits: what a person reads, and what makes two equal pictures equal bytes.
pub fn short(value: f64) -> f64 {
    if value == 0.0 || !value.is_finite() {
        return 0.0;
    }
    let digits = 2 - value.abs().log10().floor() as i32;
    if digits <= 0 {
        return value.round();
    }
    let scale = 10f64.powi(digits);
    (value * scale).round() / scale
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_for_people() {
        for (value, text) in
            [(24.0416, "24"), (8.05, "8.05"), (0.012_345, "0.0123"), (123_456.7, "123457"), (f64::NAN, "0")]
        {
            assert_eq!(short(value).to_string(), text);
        }
        assert_eq!(share(999_999, 1_000_000), Some(0.9999));
        assert_eq!(share(5, 5), Some(1.0));
        assert_eq!(share(0, 0), None);
    }
}
