//! One try of a request: put into the form that an endpoint takes, and offered to endpoints until one has it.

use super::Exchange;
use crate::{
    balance::{Attempt, Endpoint},
    http::{
        Version,
        body::{RequestBody, ResponseBody},
        client::Failed,
        convert,
        error::Kind,
        filter,
        record::grpc_status,
        route::Found,
    },
    outbound::{retry, router::Backend},
    policy::http::Retry,
    telemetry::metrics::http::{HttpMetrics, Protocol},
};
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, request::Parts};
use http_body::{Body as _, Frame};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use std::{
    pin::{Pin, pin},
    rc::Rc,
};
use tokio::time;

/// Endpoints that a request which no server has seen is offered to.
const MAX_OFFERS: usize = 8;

/// A response and where it came from.
pub(super) struct Answered {
    pub(super) res: Response<Incoming>,
    /// What was read of the body to find the status of gRPC.
    pub(super) first: Option<Box<Frame<Bytes>>>,
    pub(super) attempt: Attempt,
    pub(super) backend: Rc<Backend>,
    pub(super) metrics: Rc<HttpMetrics>,
}

impl Answered {
    pub(super) fn may_end_at_once(&self) -> bool {
        self.res.status() == StatusCode::OK
            && !self.res.body().is_end_stream()
            && grpc_status(self.res.headers()).is_none()
    }

    /// Waits for the beginning of the body, `until` then.
    pub(super) async fn begin(
        mut self,
        avoid: &mut Option<Rc<Endpoint>>,
        until: Option<time::Instant>,
    ) -> Result<Answered, Lost> {
        let first = self.res.body_mut().frame();
        let first = match until {
            Some(until) => time::timeout_at(until, first).await.map_err(|_| Kind::RequestTimeout),
            None => Ok(first.await),
        };
        let kind = match first.map(Option::transpose) {
            Ok(Ok(first)) => {
                self.first = first.map(Box::new);
                return Ok(self);
            }
            Ok(Err(_)) => Kind::Reset,
            Err(late) => late,
        };
        *avoid = Some(self.attempt.endpoint().clone());
        self.attempt.fail();
        Err(Lost { kind, metrics: self.metrics, backend: Some(self.backend), answer: None })
    }

    pub(super) fn wants_retry(&self, retry: &Retry) -> bool {
        let trailers = self.first.as_ref().and_then(|first| first.trailers_ref());
        let grpc = grpc_status(trailers.unwrap_or(self.res.headers()));
        retry::wanted(retry, self.res.status(), grpc)
    }
}

/// A try that brought no response.
pub(super) struct Lost {
    pub(super) kind: Kind,
    pub(super) metrics: Rc<HttpMetrics>,
    pub(super) backend: Option<Rc<Backend>>,
    pub(super) answer: Option<Response<ResponseBody>>,
}

impl Exchange<'_> {
    /// One try. A request that no server has seen is offered to further endpoints; that is no retry. An endpoint that has it and
    /// does not answer `until` then has failed, unless the client still speaks.
    pub(super) async fn once(
        &self,
        req: &mut Request<RequestBody>,
        found: Found,
        avoid: &mut Option<Rc<Endpoint>>,
        until: Option<time::Instant>,
    ) -> Result<Answered, Lost> {
        let Some(backend) = self.rule.backend() else { return Err(self.unsent(Kind::NoBackend)) };
        let lost = |kind, metrics: &Rc<HttpMetrics>| Lost {
            kind,
            metrics: metrics.clone(),
            backend: Some(backend.clone()),
            answer: None,
        };
        if let Err(answer) = filter::request(&backend.filters, req, found, None) {
            let (answer, kind) = *answer;
            return Err(Lost {
                answer: Some(answer),
                ..lost(kind.unwrap_or(Kind::Injected), &backend.unsent)
            });
        }
        let Some(balancer) = &backend.balancer else { return Err(lost(Kind::NoBackend, &backend.unsent)) };
        let mut patience = None;
        let mut offers = 0;
        let mut repeated = false;
        loop {
            let endpoint = balancer
                .pick(avoid.as_ref(), &mut patience)
                .await
                .map_err(|kind| lost(kind, &backend.unsent))?;
            if self.session.outbound.is_own(endpoint.info.addr) {
                return Err(lost(Kind::Loop, &backend.unsent));
            }
            let metrics = backend.http(&self.session.outbound.worker, &endpoint);
            metrics.request(self.protocol());
            backend.metrics.requests.inc();
            let version = self.prepare(req, &endpoint);
            // A stream may be refused after its head is gone. Without a body another can be made; the copy costs a tenth of what
            // the request does, so it is made for multiplexed requests only.
            let spare = (version == Version::Http2 && req.body().is_end_stream()).then(|| head_of(req));
            let mut attempt = endpoint.begin();
            let sent = {
                let sent = pin!(endpoint.pool.send(version, req));
                let own = backend.timeout.map(|limit| attempt.start() + limit);
                bounded(own.into_iter().chain(until).min(), sent).await
            };
            offers += 1;
            let failed = match sent {
                Ok((res, lease)) => {
                    balancer.connected();
                    attempt.answered(lease);
                    let failed = spare.as_ref().and_then(|_| unserved(&endpoint, &res));
                    match failed.filter(|_| offers < MAX_OFFERS && !balancer.is_fixed()) {
                        Some(failed) => failed,
                        None => {
                            return Ok(Answered {
                                res,
                                first: None,
                                attempt,
                                backend: backend.clone(),
                                metrics,
                            });
                        }
                    }
                }
                Err(failed) => failed,
            };
            let Failed { kind, unsent, returned, connect } = failed;
            if connect {
                endpoint.connect_failed(attempt.start(), time::Instant::now(), kind);
                drop(attempt);
            } else if !self.arrival.is_broken() && (kind != Kind::RequestTimeout || self.arrival.is_whole()) {
                attempt.fail();
            }
            *avoid = Some(endpoint);
            match (returned, spare) {
                (true, _) => {}
                (false, Some(head)) if unsent || self.may_repeat(kind, &mut repeated, &head.method) => {
                    *req = Request::from_parts(head, RequestBody::empty());
                }
                (false, _) => return Err(lost(kind, &metrics)),
            }
            if balancer.is_fixed() || !(balancer.may_wait(&mut patience) || offers < MAX_OFFERS) {
                return Err(lost(kind, &metrics));
            }
        }
    }

    /// A server that died without a word of answer: what only asks is asked once more elsewhere (RFC 9110 §9.2.2), within the budget.
    fn may_repeat(&self, kind: Kind, repeated: &mut bool, method: &Method) -> bool {
        kind == Kind::Reset
            && !std::mem::replace(repeated, true)
            && method.is_safe()
            && self.rule.budget.withdraw(time::Instant::now())
    }

    /// Puts the request into the form in which the endpoint takes it.
    fn prepare(&self, req: &mut Request<RequestBody>, endpoint: &Endpoint) -> Version {
        let upgrade = self.asks.upgrade || req.method() == Method::CONNECT;
        let (version, carried) = endpoint.wire(self.version, upgrade);
        match version {
            Version::Http1 => convert::to_h1(req, &self.seen),
            Version::Http2 => convert::to_h2(req, self.authority),
        }
        if carried {
            req.headers_mut().insert(convert::ORIG_PROTO, http::HeaderValue::from_static("HTTP/1.1"));
        } else if self.version == Version::Http1 {
            // Of an earlier offer to an endpoint that carries.
            req.headers_mut().remove(convert::ORIG_PROTO);
        }
        version
    }

    pub(super) fn unsent(&self, kind: Kind) -> Lost {
        Lost { kind, metrics: self.rule.unsent.clone(), backend: None, answer: None }
    }

    fn protocol(&self) -> Protocol {
        if self.arrival.dialect.grpc { Protocol::Grpc } else { Protocol::Http }
    }
}

/// A peer's proxy tells that its application is gone: then it is as if we could not connect to the endpoint, or it had closed.
fn unserved(endpoint: &Endpoint, res: &Response<Incoming>) -> Option<Failed> {
    // Who has no identity does not speak for the mesh.
    endpoint.info.tls.as_ref()?;
    let kind = Kind::of_application(res.headers())?;
    let refused = kind == Kind::ConnectRefused;
    Some(Failed { kind, unsent: refused, returned: false, connect: refused })
}

/// A request's head once more.
pub(super) fn head_of<B>(req: &Request<B>) -> Parts {
    let mut copy = Request::new(());
    *copy.method_mut() = req.method().clone();
    *copy.uri_mut() = req.uri().clone();
    *copy.version_mut() = req.version();
    *copy.headers_mut() = req.headers().clone();
    copy.into_parts().0
}

async fn bounded<T>(
    until: Option<time::Instant>,
    sent: Pin<&mut impl Future<Output = Result<T, Failed>>>,
) -> Result<T, Failed> {
    let Some(until) = until else { return sent.await };
    let late = Failed { kind: Kind::RequestTimeout, unsent: false, returned: false, connect: false };
    time::timeout_at(until, sent).await.unwrap_or(Err(late))
}
