//! A routed request on its way: offered to endpoints, tried again, timed out, and answered.

use super::Session;
use crate::{
    balance::{Attempt, Endpoint},
    http::{
        Version,
        body::{RequestBody, ResponseBody},
        check::Seen,
        client::Failed,
        convert,
        details::{Details, View},
        error::{self, Kind},
        filter,
        hop::Asks,
        opening::Arrival,
        record::{Record, grpc_status},
        replay::Replay,
        route::Found,
        upgrade,
    },
    outbound::{
        retry,
        router::{Backend, Rule},
    },
    policy::http::Retry,
    telemetry::{
        metrics::{
            http::{HttpMetrics, Protocol},
            labels::{Direction, PeerTls},
        },
        trace::Context,
    },
};
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, request::Parts, uri::Authority};
use http_body::{Body as _, Frame};
use http_body_util::BodyExt as _;
use hyper::{body::Incoming, upgrade::OnUpgrade};
use std::{
    pin::{Pin, pin},
    rc::Rc,
    time::Duration,
};
use tokio::time;

/// Endpoints that a request which no server has seen is offered to.
const MAX_OFFERS: usize = 8;

/// What stays the same over all tries.
pub(super) struct Exchange<'a> {
    pub(super) session: &'a Session,
    pub(super) arrival: &'a Arrival,
    pub(super) seen: Seen,
    pub(super) asks: Asks,
    pub(super) version: Version,
    pub(super) authority: &'a Authority,
    pub(super) rule: &'a Rule,
    pub(super) head: bool,
    pub(super) context: Context,
}

/// What is needed to send a request again.
struct Again {
    head: Parts,
    body: Option<Replay>,
}

impl Again {
    /// Copies the head, and keeps of the body what passes: only where the rule may want to send it again.
    fn keep(req: &mut Request<RequestBody>, retry: &Retry) -> Again {
        let body = std::mem::replace(req.body_mut(), RequestBody::empty());
        let (body, replay) = body.into_replay(retry.max_request_bytes);
        *req.body_mut() = body;
        Again { head: head_of(req), body: replay }
    }

    /// The server has all of the request, and it could have it again.
    fn is_whole(&self) -> bool {
        self.body.as_ref().is_none_or(Replay::is_whole)
    }

    fn request(&self) -> Option<Request<RequestBody>> {
        let body = match &self.body {
            Some(replay) if replay.can_repeat() => RequestBody::replay(replay.again()),
            Some(_) => return None,
            None => RequestBody::empty(),
        };
        Some(Request::from_parts(self.head.clone(), body))
    }
}

fn head_of<B>(req: &Request<B>) -> Parts {
    let mut copy = Request::new(());
    *copy.method_mut() = req.method().clone();
    *copy.uri_mut() = req.uri().clone();
    *copy.version_mut() = req.version();
    *copy.headers_mut() = req.headers().clone();
    copy.into_parts().0
}

async fn bounded<T>(
    limit: Option<Duration>,
    sent: Pin<&mut impl Future<Output = Result<T, Failed>>>,
) -> Result<T, Failed> {
    let Some(limit) = limit else { return sent.await };
    let late = Failed { kind: Kind::RequestTimeout, unsent: false, returned: false, connect: false };
    time::timeout(limit, sent).await.unwrap_or(Err(late))
}

/// A response and where it came from.
struct Answered {
    res: Response<Incoming>,
    /// What was read of the body to find the status of gRPC.
    first: Option<Box<Frame<Bytes>>>,
    attempt: Attempt,
    backend: Rc<Backend>,
    metrics: Rc<HttpMetrics>,
}

impl Answered {
    fn may_end_at_once(&self) -> bool {
        self.res.status() == StatusCode::OK
            && !self.res.body().is_end_stream()
            && grpc_status(self.res.headers()).is_none()
    }

    /// Waits for the beginning of the body.
    async fn begin(mut self) -> Result<Answered, Lost> {
        match self.res.body_mut().frame().await.transpose() {
            Ok(first) => {
                self.first = first.map(Box::new);
                Ok(self)
            }
            Err(_) => {
                self.attempt.fail();
                let backend = Some(self.backend);
                Err(Lost { kind: Kind::Reset, metrics: self.metrics, backend, answer: None })
            }
        }
    }

    fn wants_retry(&self, retry: &Retry) -> bool {
        let trailers = self.first.as_ref().and_then(|first| first.trailers_ref());
        let grpc = grpc_status(trailers.unwrap_or(self.res.headers()));
        retry::wanted(retry, self.res.status(), grpc)
    }
}

/// A try that brought no response.
struct Lost {
    kind: Kind,
    metrics: Rc<HttpMetrics>,
    backend: Option<Rc<Backend>>,
    answer: Option<Response<ResponseBody>>,
}

impl Exchange<'_> {
    /// The whole of it: every try, and the answer to the application.
    pub(super) async fn run(&self, req: &mut Request<RequestBody>, found: Found) -> Response<ResponseBody> {
        let upgrade =
            (self.asks.upgrade || req.method() == Method::CONNECT).then(|| hyper::upgrade::on(&mut *req));
        let details = self.details(req);
        let again = match &self.rule.retry {
            Some(retry) if upgrade.is_none() => Some(Again::keep(req, retry)),
            Some(_) | None => None,
        };
        if self.rule.retry.is_some() {
            self.rule.budget.deposit(time::Instant::now());
        }
        let timeouts = &self.rule.timeouts;
        let deadline = timeouts
            .request
            .or(timeouts.response)
            .map(|limit| time::Instant::from_std(self.arrival.start) + limit);
        if timeouts.idle.is_some()
            && let Some(progress) = &self.arrival.progress
        {
            progress.watch();
        }
        let (mut retries, mut avoid) = (0, None);
        let outcome = loop {
            let outcome = match &self.rule.retry {
                // Boxed: few rules have it, and every request's future would be larger.
                Some(retry) if !retry.grpc_codes.is_empty() => {
                    Box::pin(self.once_with_status(req, found, again.as_ref(), &mut avoid, deadline)).await
                }
                Some(_) | None => {
                    let once = pin!(self.once(req, found, &mut avoid));
                    self.within(deadline, once).await
                }
            };
            if self.arrival.is_broken() {
                break outcome.map_err(|lost| Lost { kind: Kind::ClientBody, answer: None, ..lost });
            }
            let Some(retry) = &self.rule.retry else { break outcome };
            let pause = retry::pause(retry, retries).unwrap_or_default();
            let late = deadline.is_some_and(|deadline| deadline <= time::Instant::now() + pause);
            match self.again(retry, &outcome, again.as_ref(), retries, late) {
                Some(next) => *req = next,
                None => break outcome,
            }
            avoid = self.dropped(outcome).or(avoid);
            if !pause.is_zero() {
                Box::pin(time::sleep(pause)).await;
            }
            retries += 1;
        };
        if retries > 0
            && let Ok(answered) = &outcome
            && self.rule.retry.as_ref().is_some_and(|retry| !answered.wants_retry(retry))
        {
            self.rule.metrics.retries.successes.inc();
        }
        match outcome {
            Ok(answered) => self.respond(answered, details, retries, upgrade, deadline),
            Err(lost) => self.fail(lost, details, retries),
        }
    }

    /// A try that is not to be the last is counted, and its endpoint remembered.
    fn dropped(&self, outcome: Result<Answered, Lost>) -> Option<Rc<Endpoint>> {
        match outcome {
            Ok(answered) => {
                let endpoint = answered.attempt.endpoint().clone();
                let res = answered.res.map(ResponseBody::incoming);
                let mut record = Record::new(&res, self.arrival, None, answered.metrics);
                record.backend = Some(answered.backend.metrics.clone());
                record.answered_by(answered.attempt);
                if let Some(first) = &answered.first {
                    record.frame(first);
                }
                record.complete();
                Some(endpoint)
            }
            Err(_) => None,
        }
    }

    /// The request for another try, if the policy, the budget and the body allow one. `late`: it could not begin in time.
    fn again(
        &self,
        retry: &Retry,
        outcome: &Result<Answered, Lost>,
        again: Option<&Again>,
        retries: u16,
        late: bool,
    ) -> Option<Request<RequestBody>> {
        let wanted = match outcome {
            Ok(answered) => answered.wants_retry(retry),
            Err(lost) => matches!(
                lost.kind,
                Kind::Reset
                    | Kind::BadResponse
                    | Kind::ConnectRefused
                    | Kind::ConnectTimeout
                    | Kind::RequestTimeout
            ),
        };
        if !wanted || late {
            return None;
        }
        let metrics = &self.rule.metrics.retries;
        if retries >= retry.max_retries {
            metrics.limit_exceeded.inc();
            return None;
        }
        let Some(req) = again.and_then(Again::request) else {
            metrics.overflow.inc();
            return None;
        };
        if !self.rule.budget.withdraw(time::Instant::now()) {
            metrics.overflow.inc();
            return None;
        }
        metrics.requests.inc();
        Some(req)
    }

    /// Bounds a try by the request's deadline and its own time.
    async fn within(
        &self,
        deadline: Option<time::Instant>,
        once: Pin<&mut impl Future<Output = Result<Answered, Lost>>>,
    ) -> Result<Answered, Lost> {
        let per_try = self.rule.retry.as_ref().and_then(|retry| retry.timeout);
        let own = per_try.or(self.rule.timeouts.backend_request).map(|limit| time::Instant::now() + limit);
        let until = deadline.into_iter().chain(own).min();
        match (until, self.rule.timeouts.idle) {
            (None, None) => once.await,
            (Some(until), None) => match time::timeout_at(until, once).await {
                Ok(outcome) => outcome,
                Err(_) => Err(self.unsent(Kind::RequestTimeout)),
            },
            // Boxed: few rules have it.
            (until, Some(idle)) => Box::pin(self.within_idle(until, idle, once)).await,
        }
    }

    /// The same where the request's body must not pause for too long either, nor the answer to it be waited for.
    async fn within_idle(
        &self,
        until: Option<time::Instant>,
        idle: Duration,
        mut once: Pin<&mut impl Future<Output = Result<Answered, Lost>>>,
    ) -> Result<Answered, Lost> {
        let mut moved = time::Instant::now();
        loop {
            let idle_at = moved + idle;
            let (wake, kind) = match until {
                Some(until) if until <= idle_at => (until, Kind::RequestTimeout),
                Some(_) | None => (idle_at, Kind::IdleTimeout),
            };
            if let Ok(outcome) = time::timeout_at(wake, once.as_mut()).await {
                return outcome;
            }
            let latest = self.arrival.progress.as_ref().and_then(|progress| progress.moved());
            match latest.filter(|latest| kind == Kind::IdleTimeout && *latest > moved) {
                Some(latest) => moved = latest,
                None => return Err(self.unsent(kind)),
            }
        }
    }

    /// One try of a rule that looks at the status of gRPC, which may stand in trailers right behind the head: these are waited for before
    /// the head is passed on. Not while the client has something to say yet: it might wait for the head with that.
    async fn once_with_status(
        &self,
        req: &mut Request<RequestBody>,
        found: Found,
        again: Option<&Again>,
        avoid: &mut Option<Rc<Endpoint>>,
        deadline: Option<time::Instant>,
    ) -> Result<Answered, Lost> {
        let once = pin!(async {
            let answered = self.once(req, found, avoid).await?;
            match again.is_some_and(Again::is_whole) && answered.may_end_at_once() {
                true => answered.begin().await,
                false => Ok(answered),
            }
        });
        self.within(deadline, once).await
    }

    /// One try. A request that no server has seen is offered to further endpoints; that is no retry.
    async fn once(
        &self,
        req: &mut Request<RequestBody>,
        found: Found,
        avoid: &mut Option<Rc<Endpoint>>,
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
                bounded(backend.timeout, sent).await
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
                endpoint.connect_failed(time::Instant::now(), kind);
                drop(attempt);
            } else if !self.arrival.is_broken() {
                attempt.fail();
            }
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
            *avoid = Some(endpoint);
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

    fn respond(
        &self,
        answered: Answered,
        details: Option<Box<Details>>,
        retries: u16,
        upgrade: Option<OnUpgrade>,
        deadline: Option<time::Instant>,
    ) -> Response<ResponseBody> {
        let Answered { mut res, first, mut attempt, backend, metrics } = answered;
        let switched = res.status() == StatusCode::SWITCHING_PROTOCOLS
            || (upgrade.is_some() && !self.asks.upgrade && res.status().is_success());
        let error = match (switched, upgrade) {
            (true, Some(client)) => {
                self.session.switch.set();
                upgrade::join(client, hyper::upgrade::on(&mut res), self.session.outbound.drain.guard());
                None
            }
            (true, None) => {
                // Nobody asked: what follows is not HTTP, so none of it may be passed on.
                attempt.discard_connection();
                return self.fail(
                    Lost { kind: Kind::BadResponse, metrics, backend: Some(backend), answer: None },
                    details,
                    retries,
                );
            }
            (false, _) => {
                if !convert::response(&mut res) {
                    attempt.spoil_connection();
                }
                None
            }
        };
        if attempt.endpoint().info.tls.is_none() {
            res.headers_mut().remove(error::PROXY_ERROR);
        }
        filter::response(&backend.filters, res.headers_mut());
        filter::response(&self.rule.filters, res.headers_mut());
        let res = match self.head {
            // Its headers tell of a body that does not come; hyper would wait for it over HTTP/2.
            true => Response::from_parts(res.into_parts().0, ResponseBody::empty()),
            false => {
                let (idle, request) = (self.rule.timeouts.idle, &self.arrival.progress);
                res.map(|body| ResponseBody::begun(first, body).with_limits(deadline, idle, request))
            }
        };
        let mut record = Record::new(&res, self.arrival, error, metrics);
        record.route = Some(self.rule.metrics.clone());
        record.backend = Some(backend.metrics.clone());
        record.details = finished(details, retries, Some(&backend), self.rule);
        record.answered_by(attempt);
        res.map(|body| body.with_record(record))
    }

    fn fail(&self, lost: Lost, details: Option<Box<Details>>, retries: u16) -> Response<ResponseBody> {
        self.session.outbound.http_errors.inc(lost.kind.label());
        let res = lost.answer.unwrap_or_else(|| error::response(lost.kind, self.arrival.dialect));
        let mut record = Record::new(&res, self.arrival, Some(lost.kind.label()), lost.metrics);
        record.route = Some(self.rule.metrics.clone());
        record.backend = lost.backend.as_ref().map(|backend| backend.metrics.clone());
        record.details = finished(details, retries, lost.backend.as_ref(), self.rule);
        res.map(|body| body.with_record(record))
    }

    fn unsent(&self, kind: Kind) -> Lost {
        Lost { kind, metrics: self.rule.unsent.clone(), backend: None, answer: None }
    }

    fn protocol(&self) -> Protocol {
        if self.arrival.dialect.grpc { Protocol::Grpc } else { Protocol::Http }
    }

    fn details(&self, req: &Request<RequestBody>) -> Option<Box<Details>> {
        let session = self.session;
        let view = View {
            direction: Direction::Outbound,
            client: session.client,
            peer: &PeerTls::Disabled,
            host: Some(self.authority.as_str()),
        };
        Details::of(&session.outbound.worker, &self.context, req, &view)
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

fn finished(
    mut details: Option<Box<Details>>,
    retries: u16,
    backend: Option<&Rc<Backend>>,
    rule: &Rule,
) -> Option<Box<Details>> {
    if let Some(span) = details.as_mut().and_then(|details| details.span.as_mut()) {
        span.retries = retries;
        // What no object stands behind has no namespace.
        let named = !rule.route.namespace.is_empty();
        span.route = named.then(|| format!("{}/{}", rule.route.namespace, rule.route.name).into());
        span.backend = backend.map(|backend| {
            let port = backend.meta.port.map(|port| format!(":{port}")).unwrap_or_default();
            format!("{}/{}{port}", backend.meta.namespace, backend.meta.name).into()
        });
    }
    details
}
