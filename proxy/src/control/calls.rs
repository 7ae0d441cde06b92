//! Counts the calls to one address of the control plane, and how long it takes to begin its answers.

use crate::telemetry::{
    Worker,
    metrics::{
        Counter, Histogram, Labels,
        family::{CONTROL_REQUEST_TOTAL, CONTROL_RESPONSE_LATENCY_MS},
        http::Classification,
    },
};
use futures_util::future::LocalBoxFuture;
use std::{
    rc::Rc,
    task::{Context, Poll},
    time::Instant,
};
use tonic::{body::Body, transport};

/// A gRPC connection that counts. Stays on the control thread, as its counters do.
#[derive(Clone, Debug)]
pub struct Channel {
    inner: transport::Channel,
    calls: Rc<Calls>,
}

#[derive(Debug)]
struct Calls {
    requests: Counter,
    answered: Histogram,
    failed: Histogram,
}

impl Channel {
    pub fn new(inner: transport::Channel, addr: &str, worker: &Worker) -> Channel {
        let labels = Labels::build().with("addr", addr).done();
        let response = |classification: Classification| {
            let labels = labels.extend().with("classification", classification.as_str()).done();
            worker.histogram(&CONTROL_RESPONSE_LATENCY_MS, labels)
        };
        let calls = Calls {
            answered: response(Classification::Success),
            failed: response(Classification::Failure),
            requests: worker.counter(&CONTROL_REQUEST_TOTAL, labels.clone()),
        };
        Channel { inner, calls: Rc::new(calls) }
    }
}

impl tower_service::Service<http::Request<Body>> for Channel {
    type Response = http::Response<Body>;
    type Error = transport::Error;
    type Future = LocalBoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        tower_service::Service::poll_ready(&mut self.inner, cx)
    }

    fn call(&mut self, req: http::Request<Body>) -> Self::Future {
        let (start, calls, answer) = (Instant::now(), self.calls.clone(), self.inner.call(req));
        calls.requests.inc();
        Box::pin(async move {
            let answer = answer.await;
            // An answer that is refused outright has its status in front; any other begins well.
            let refused = |answer: &http::Response<Body>| {
                answer.headers().get("grpc-status").is_some_and(|status| status != "0")
            };
            let failed = answer.as_ref().map_or(true, refused);
            let outcome = if failed { &calls.failed } else { &calls.answered };
            outcome.record(start.elapsed());
            answer
        })
    }
}
