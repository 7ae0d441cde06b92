//! What only spans and access logs want to know of a request: gathered for the sampled few, and where the log is on.

use super::body::{Progress, RequestBody};
use crate::telemetry::{
    Worker, access_log,
    metrics::labels::{Direction, PeerTls},
    trace::{Context, SpanKind, SpanRecord},
};
use http::{HeaderValue, Request, header};
use std::{
    net::SocketAddr,
    rc::Rc,
    time::{Duration, SystemTime},
};

#[derive(Debug)]
pub struct Details {
    worker: Worker,
    pub span: Option<SpanRecord>,
    pub log: Option<access_log::Record>,
    /// Of the request's body, where it has one.
    body: Option<Rc<Progress>>,
}

/// The side that sees the request.
#[derive(Debug)]
pub struct View<'a> {
    pub direction: Direction,
    pub client: SocketAddr,
    /// The other end of the connection, as far as it is known yet.
    pub peer: &'a PeerTls,
    pub host: Option<&'a str>,
}

impl Details {
    /// `None` where nobody wants to know.
    pub fn of(
        worker: &Worker,
        context: &Context,
        req: &Request<RequestBody>,
        view: &View<'_>,
    ) -> Option<Box<Details>> {
        if !context.sampled() && worker.access_log().is_none() {
            return None;
        }
        let now = SystemTime::now();
        let identity = match view.peer {
            PeerTls::Identity(id) => Some(id.clone()),
            PeerTls::NoIdentity | PeerTls::Disabled => None,
        };
        let span = context.sampled().then(|| SpanRecord {
            context: *context,
            kind: match view.direction {
                Direction::Inbound => SpanKind::Server,
                Direction::Outbound => SpanKind::Client,
            },
            start: now,
            end: now,
            method: req.method().clone(),
            path: req.uri().path().to_owned(),
            host: view.host.map(str::to_owned),
            status: None,
            tls: view.peer.as_str(),
            peer_identity: identity.clone(),
            route: None,
            backend: None,
            retries: 0,
            error: None,
            failed: false,
        });
        let log = worker.access_log().map(|_| access_log::Record {
            time: now,
            direction: view.direction.as_str(),
            client: view.client,
            client_id: identity,
            method: req.method().clone(),
            uri: req.uri().clone(),
            host: view.host.and_then(|host| HeaderValue::from_str(host).ok()),
            version: req.version(),
            user_agent: req.headers().get(header::USER_AGENT).cloned(),
            trace: context.sampled().then_some(context.trace),
            status: 0,
            request_bytes: 0,
            response_bytes: 0,
            total: Duration::ZERO,
            error: None,
        });
        Some(Box::new(Details { worker: worker.clone(), span, log, body: req.body().progress() }))
    }

    /// The request has ended.
    pub fn finish(self, status: u16, error: Option<&'static str>, failed: bool, total: Duration) {
        let Details { worker, span, log, body } = self;
        if let Some(mut span) = span {
            span.end = SystemTime::now();
            span.status = Some(status);
            span.error = error;
            span.failed = failed;
            worker.span(span);
        }
        if let (Some(mut log), Some(writer)) = (log, worker.access_log()) {
            log.status = status;
            log.request_bytes = body.map_or(0, |body| body.bytes());
            log.total = total;
            log.error = error;
            writer.write(log);
        }
    }
}
