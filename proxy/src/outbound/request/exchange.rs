//! A routed request on its way: tried, tried again, timed out, and answered. What happens within one try is `offer`'s.

mod offer;

use super::Session;
use crate::{
    balance::Endpoint,
    http::{
        Version,
        body::{RequestBody, ResponseBody},
        check::Seen,
        convert,
        details::{Details, View},
        error::{self, Kind},
        filter,
        hop::Asks,
        opening::Arrival,
        record::Record,
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
        metrics::labels::{Direction, PeerTls},
        trace::Context,
    },
};
use http::{Method, Request, Response, StatusCode, request::Parts, uri::Authority};
use hyper::upgrade::OnUpgrade;
use offer::{Answered, Lost, head_of};
use std::{
    pin::{Pin, pin},
    rc::Rc,
    time::Duration,
};
use tokio::time;

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
            let until = self.until(deadline);
            let outcome = match &self.rule.retry {
                // Boxed: few rules have it, and every request's future would be larger.
                Some(retry) if !retry.grpc_codes.is_empty() => {
                    Box::pin(self.once_with_status(req, found, again.as_ref(), &mut avoid, until)).await
                }
                Some(_) | None => {
                    let once = pin!(self.once(req, found, &mut avoid, until));
                    self.within(until, once).await
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

    /// When a try that begins now has to be answered: by the request's deadline, and in its own time.
    fn until(&self, deadline: Option<time::Instant>) -> Option<time::Instant> {
        let per_try = self.rule.retry.as_ref().and_then(|retry| retry.timeout);
        let own = per_try.or(self.rule.timeouts.backend_request).map(|limit| time::Instant::now() + limit);
        deadline.into_iter().chain(own).min()
    }

    /// Bounds a try, also while it waits for an endpoint.
    async fn within(
        &self,
        until: Option<time::Instant>,
        once: Pin<&mut impl Future<Output = Result<Answered, Lost>>>,
    ) -> Result<Answered, Lost> {
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
        until: Option<time::Instant>,
    ) -> Result<Answered, Lost> {
        let once = pin!(async {
            let answered = self.once(req, found, avoid, until).await?;
            match again.is_some_and(Again::is_whole) && answered.may_end_at_once() {
                true => answered.begin(avoid, until).await,
                false => Ok(answered),
            }
        });
        self.within(until, once).await
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
                let guard = self.session.outbound.drain.guard();
                upgrade::join(client, hyper::upgrade::on(&mut res), guard, std::future::pending());
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
