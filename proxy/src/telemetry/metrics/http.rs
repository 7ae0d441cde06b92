//! `request_total`, `response_total` and `response_latency_ms`: the golden figures of one kind of HTTP traffic.

use super::{
    Counter, Histogram, Labels,
    family::{REQUEST_TOTAL, RESPONSE_LATENCY_MS},
    registry::Registry,
};
use std::{
    cell::{OnceCell, RefCell},
    sync::Arc,
    time::Duration,
};

/// Kinds of answers that one handle tells apart; what comes on top is counted as `status_code="other"`. Applications answer
/// with a handful, but the code is theirs to choose.
const MAX_OUTCOMES: usize = 16;

/// Requests and responses between one pair of peers by one route. Recording costs a scan over the few kinds of answers seen
/// so far and a few additions. The first answer of a kind makes its series: the one time that it allocates and locks.
#[derive(Debug)]
pub struct HttpMetrics {
    registry: Arc<Registry>,
    labels: Labels,
    /// By [`Protocol`].
    requests: [OnceCell<Counter>; 2],
    outcomes: RefCell<Vec<(Outcome, Histogram)>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    Http,
    Grpc,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Classification {
    Success,
    Failure,
}

/// The end of a request.
#[derive(Clone, Copy, Debug)]
pub struct Response {
    pub protocol: Protocol,
    /// As the client sees it. 0 where the client went away before there was one.
    pub status: u16,
    /// From the trailers, or from the headers of a trailers-only answer.
    pub grpc_status: Option<u16>,
    /// Why the proxy itself made the response (see `http::error`); `None` for the application's.
    pub error: Option<&'static str>,
    pub classification: Classification,
    /// From the request's arrival to the end of the response.
    pub latency: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Outcome {
    protocol: Protocol,
    status: u16,
    grpc_status: Option<u16>,
    error: Option<&'static str>,
    classification: Classification,
}

impl HttpMetrics {
    pub(in super::super) fn new(registry: Arc<Registry>, labels: Labels) -> HttpMetrics {
        HttpMetrics { registry, labels, requests: Default::default(), outcomes: Default::default() }
    }

    /// A request has been received (inbound) or is sent (outbound, each try).
    #[inline]
    pub fn request(&self, protocol: Protocol) {
        self.requests[protocol as usize].get_or_init(|| self.request_counter(protocol)).inc();
    }

    /// A response has ended, or was given up.
    #[inline]
    pub fn record(&self, response: Response) {
        let outcome = Outcome::of(&response);
        let mut outcomes = self.outcomes.borrow_mut();
        if let Some((_, histogram)) = outcomes.iter().find(|(known, _)| *known == outcome) {
            return histogram.record(response.latency);
        }
        let outcome = if outcomes.len() < MAX_OUTCOMES { outcome } else { outcome.other() };
        let at = outcomes.iter().position(|(known, _)| *known == outcome).unwrap_or_else(|| {
            outcomes.push((outcome, self.response_histogram(outcome)));
            outcomes.len() - 1
        });
        outcomes[at].1.record(response.latency);
    }

    fn request_counter(&self, protocol: Protocol) -> Counter {
        let labels = self.labels.extend().with("protocol", protocol.as_str()).done();
        Counter::new(&self.registry, &REQUEST_TOTAL, labels)
    }

    fn response_histogram(&self, outcome: Outcome) -> Histogram {
        let status = match outcome.status {
            Outcome::OTHER => "other".to_owned(),
            0 => String::new(),
            code => code.to_string(),
        };
        let labels = self
            .labels
            .extend()
            .with("protocol", outcome.protocol.as_str())
            .with("status_code", status)
            .with("classification", outcome.classification.as_str())
            .with_some("grpc_status", outcome.grpc_status.map(|code| code.to_string()))
            .with_some("error", outcome.error)
            .done();
        Histogram::new(&self.registry, &RESPONSE_LATENCY_MS, labels)
    }
}

impl Outcome {
    const OTHER: u16 = u16::MAX;

    fn of(response: &Response) -> Outcome {
        Outcome {
            protocol: response.protocol,
            status: response.status,
            // 16 is the last code there is; a number beyond means UNKNOWN to every client library.
            grpc_status: response.grpc_status.map(|code| if code <= 16 { code } else { 2 }),
            error: response.error,
            classification: response.classification,
        }
    }

    fn other(self) -> Outcome {
        Outcome { status: Outcome::OTHER, grpc_status: None, error: None, ..self }
    }
}

impl Protocol {
    pub fn as_str(self) -> &'static str {
        match self {
            Protocol::Http => "http",
            Protocol::Grpc => "grpc",
        }
    }
}

impl Classification {
    pub fn as_str(self) -> &'static str {
        match self {
            Classification::Success => "success",
            Classification::Failure => "failure",
        }
    }

    /// As Linkerd has it: gRPC by its code, everything else by "not a 5xx". A proxy's own error page is a failure from 500 on, too.
    pub fn of(status: u16, grpc_status: Option<u16>) -> Classification {
        let failed = match grpc_status {
            // UNKNOWN, DEADLINE_EXCEEDED, INTERNAL, UNAVAILABLE, DATA_LOSS: the server's fault.
            Some(code) => matches!(code, 2 | 4 | 13 | 14 | 15) || code > 16,
            None => status >= 500 || status == 0,
        };
        if failed { Classification::Failure } else { Classification::Success }
    }
}
