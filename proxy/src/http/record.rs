//! What is written down about one request, at the end of its response: metrics, span, access log, and what the balancer learns.

use super::{body::ResponseBody, details::Details, error::Kind, opening::Arrival};
use crate::{
    balance::Attempt,
    telemetry::metrics::{
        http::{self as metrics, Classification, HttpMetrics, Protocol},
        labels::PeerTls,
        route::{BackendMetrics, InboundRouteMetrics, RouteMetrics, Status},
    },
};
use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode};
use http_body::Frame;
use std::{rc::Rc, time::Instant};

const GRPC_CANCELLED: u16 = 1;

/// Open from the response's head to its end; dropping it earlier means that the client went away.
#[derive(Debug)]
pub struct Record {
    pub start: Instant,
    pub protocol: Protocol,
    pub status: StatusCode,
    pub grpc_status: Option<u16>,
    /// Why the proxy made the response or broke it off.
    pub error: Option<&'static str>,
    pub metrics: Rc<HttpMetrics>,
    pub route: Option<Rc<RouteMetrics>>,
    pub backend: Option<Rc<BackendMetrics>>,
    /// When the try began that was answered.
    pub sent: Option<Instant>,
    /// Inbound: the application's route.
    pub inbound: Option<Rc<InboundRouteMetrics>>,
    /// The endpoint's part, where one answered.
    pub attempt: Option<Attempt>,
    /// For the sampled few, and where the access log is on.
    pub details: Option<Box<Details>>,
    pub ended: bool,
}

impl Record {
    /// Of a response whose head is here. `error`: why the proxy made it.
    pub fn new(
        res: &Response<ResponseBody>,
        arrival: &Arrival,
        error: Option<&'static str>,
        metrics: Rc<HttpMetrics>,
    ) -> Record {
        let grpc = arrival.dialect.grpc;
        Record {
            start: arrival.start,
            protocol: if grpc { Protocol::Grpc } else { Protocol::Http },
            status: res.status(),
            grpc_status: if grpc { grpc_status(res.headers()) } else { None },
            error,
            metrics,
            route: None,
            backend: None,
            sent: None,
            inbound: None,
            attempt: None,
            details: None,
            ended: false,
        }
    }

    /// Who has answered.
    pub fn answered_by(&mut self, attempt: Attempt) {
        self.sent = Some(attempt.start().into_std());
        let endpoint = attempt.endpoint();
        if let Some(span) = self.details.as_mut().and_then(|details| details.span.as_mut())
            && let Some(tls) = &endpoint.info.tls
        {
            span.peer_identity = Some(tls.identity.clone());
            span.tls = PeerTls::Identity(tls.identity.clone()).as_str();
        }
        self.attempt = Some(attempt);
    }

    pub fn frame(&mut self, frame: &Frame<Bytes>) {
        if let Some(data) = frame.data_ref() {
            if let Some(log) = self.details.as_mut().and_then(|details| details.log.as_mut()) {
                log.response_bytes += data.len() as u64;
            }
        } else if let Some(trailers) = frame.trailers_ref() {
            self.grpc_status = grpc_status(trailers).or(self.grpc_status);
            self.complete();
        }
    }

    /// The response has ended as it should.
    pub fn complete(&mut self) {
        if self.ended {
            return;
        }
        if let Some(attempt) = self.attempt.take() {
            attempt.complete(self.classification() == Classification::Failure);
        }
        self.finish();
    }

    /// The server's answer broke off.
    pub fn broken(&mut self, why: Kind) {
        if self.ended {
            return;
        }
        self.error = Some(why.label());
        if let Some(attempt) = self.attempt.take() {
            attempt.fail();
        }
        self.finish();
    }

    fn classification(&self) -> Classification {
        // A gRPC response without a status is one that the server did not finish.
        let grpc = match self.protocol {
            Protocol::Grpc => self.grpc_status.or((self.status == StatusCode::OK).then_some(2)),
            Protocol::Http => None,
        };
        Classification::of(self.status.as_u16(), grpc)
    }

    fn finish(&mut self) {
        self.ended = true;
        let (status, now) = (self.status.as_u16(), Instant::now());
        let latency = now - self.start;
        let classification = match self.error {
            Some(_) if self.status.is_success() && self.grpc_status.is_none() => Classification::Failure,
            Some(_) | None => self.classification(),
        };
        self.metrics.record(metrics::Response {
            protocol: self.protocol,
            status,
            grpc_status: self.grpc_status,
            error: self.error,
            classification,
            latency,
        });
        let outcome = Status { http: Some(status), grpc: self.grpc_status, error: self.error };
        if let Some(route) = &self.route {
            route.statuses.inc(outcome);
            route.duration.record(latency);
        }
        if let Some(backend) = &self.backend {
            backend.statuses.inc(outcome);
            if let Some(sent) = self.sent {
                backend.duration.record(now - sent);
            }
        }
        if let Some(inbound) = &self.inbound {
            inbound.record(self.protocol, latency);
        }
        if let Some(details) = self.details.take() {
            details.finish(status, self.error, classification == Classification::Failure, latency);
        }
    }
}

impl Drop for Record {
    /// The client went away. What the server had said by then counts; that it could not finish was not its fault, or every
    /// closed event stream would be a failure.
    fn drop(&mut self) {
        if !self.ended {
            if self.protocol == Protocol::Grpc {
                self.grpc_status = self.grpc_status.or(Some(GRPC_CANCELLED));
            }
            self.finish();
        }
    }
}

pub fn grpc_status(headers: &HeaderMap) -> Option<u16> {
    let value = headers.get("grpc-status")?;
    // Whatever is no number is UNKNOWN to every client.
    Some(value.to_str().ok().and_then(|text| text.parse().ok()).unwrap_or(2))
}
