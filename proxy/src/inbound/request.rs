//! One request for the application: checked, authorized, sent, recorded.

use super::{
    Inbound,
    authorize::{self, Peer},
    port::{Port, PortPolicy},
};
use crate::{
    balance::Endpoint,
    http::{
        Version,
        body::{RequestBody, ResponseBody},
        check::{self, Seen},
        convert,
        details::{Details, View},
        error::{self, Kind},
        filter,
        gate::{self, Switch},
        opening::{self, Arrival},
        record::Record,
        route::Found,
        upgrade,
    },
    policy::inbound::{Authorization, HttpRule},
    telemetry::{
        metrics::{
            authz::AuthzMetrics,
            http::{HttpMetrics, Protocol},
            labels::Direction,
            route::InboundRouteMetrics,
        },
        trace::Context,
    },
};
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use std::{cell::RefCell, convert::Infallible, net::SocketAddr, rc::Rc};

const CLIENT_ID: HeaderName = HeaderName::from_static(mesh_api::names::CLIENT_ID_HEADER);

/// One client connection.
#[derive(Debug)]
pub struct Session {
    inbound: Rc<Inbound>,
    peer: Peer,
    client: SocketAddr,
    client_id: Option<HeaderValue>,
    port: Rc<Port>,
    application: Rc<Endpoint>,
    /// What the current policy says about this client, by route: decided once per policy, so that a change acts on the next request.
    decided: RefCell<Option<Decided>>,
    /// Of the connection's gate.
    pub switch: Switch,
}

#[derive(Debug)]
struct Decided {
    by: Rc<PortPolicy>,
    /// The last is for requests without a route, as below.
    routes: Vec<Option<Rc<Decision>>>,
    verdicts: Vec<Option<Verdict>>,
}

/// `None`: refused. Else whether that is meant, and not only watched.
type Verdict = Option<bool>;

#[derive(Debug)]
struct Decision {
    allowed: bool,
    metrics: Rc<HttpMetrics>,
    route: Rc<InboundRouteMetrics>,
    authz: Rc<AuthzMetrics>,
}

impl Decision {
    fn record(&self, res: &Response<ResponseBody>, arrival: &Arrival, error: Option<&'static str>) -> Record {
        let mut record = Record::new(res, arrival, error, self.metrics.clone());
        record.inbound = Some(self.route.clone());
        record
    }
}

impl Session {
    pub fn new(
        inbound: Rc<Inbound>,
        peer: Peer,
        client: SocketAddr,
        port: Rc<Port>,
        application: Rc<Endpoint>,
    ) -> Session {
        let client_id = peer.identity().and_then(|id| HeaderValue::from_str(id).ok());
        Session {
            inbound,
            peer,
            client,
            client_id,
            port,
            application,
            decided: RefCell::default(),
            switch: Switch::default(),
        }
    }

    /// Not an `async fn`, so that the request is stored once: what follows works on it by reference.
    pub fn request(
        self: Rc<Self>,
        req: Request<Incoming>,
    ) -> impl Future<Output = Result<Response<ResponseBody>, Infallible>> {
        let (mut req, arrival) = opening::receive(req);
        async move {
            let mut details = None;
            Ok(match self.handle(&mut req, &arrival, &mut details).await {
                Ok(res) => res,
                Err(Refusal { kind, decision, answer }) => {
                    if let Some(kind) = kind {
                        self.inbound.http_errors.inc(kind.label());
                    }
                    let decision =
                        decision.unwrap_or_else(|| self.decision(&self.port.policy(), None, false));
                    let res = answer
                        .unwrap_or_else(|| error::response(kind.unwrap_or(Kind::Policy), arrival.dialect));
                    let mut record = decision.record(&res, &arrival, kind.map(Kind::label));
                    record.details = details;
                    record.metrics.request(record.protocol);
                    res.map(|body| body.with_record(record))
                }
            })
        }
    }

    /// `details` is the caller's, because a request that is refused has them too: the trace shows who was refused, and why.
    async fn handle(
        self: &Rc<Self>,
        req: &mut Request<RequestBody>,
        arrival: &Arrival,
        details: &mut Option<Box<Details>>,
    ) -> Result<Response<ResponseBody>, Refusal> {
        // Carried over HTTP/2 between proxies: the application gets what its client sent.
        let carried = self.client_id.is_some()
            && req.version() == http::Version::HTTP_2
            && req.headers().contains_key(convert::ORIG_PROTO);
        let admitted = opening::admit(req);
        let context = self.inbound.worker.trace(req.headers());
        // A head that could not be read stands there in other words.
        if gate::refusal(req).is_none() {
            *details = self.details(req, &context);
        }
        let (seen, asks) = admitted?;
        let tunnel = asks.upgrade || req.method() == Method::CONNECT;
        let policy = self.port.policy();
        // Whom the port lets in need not write paths so that no two readers differ.
        if !policy.table.is_trivial() && (policy.filters || self.verdict(&policy, None, tunnel).is_none()) {
            check::unambiguous_path(req.uri().path())?;
        }
        let Some(found) = self.route(&policy, req, tunnel) else {
            let decision = self.decision(&policy, None, false);
            decision.authz.route_not_found();
            return Err(self.refused(Kind::NoRoute, decision));
        };
        let decision = self.decision(&policy, Some(found.route), tunnel);
        if !decision.allowed {
            decision.authz.http_deny();
            return Err(self.refused(Kind::Unauthorized, decision));
        }
        decision.authz.http_allow();
        if let Some(limits) = &policy.limits
            && !limits.allows(&self.peer, tokio::time::Instant::now())
        {
            decision.authz.rate_limited();
            return Err(self.refused(Kind::RateLimited, decision));
        }
        let asked = tunnel.then(|| head_of(req));
        let rule = policy.routes().get(found.route).and_then(|route| route.rules.get(found.rule));
        if let Some(HttpRule { filters, .. }) = rule
            && let Err(answer) = filter::request(filters, req, found, Some(self.port.number))
        {
            let (answer, kind) = *answer;
            return Err(Refusal { kind, decision: Some(decision), answer: Some(answer) });
        }
        if let Some(id) = &self.client_id {
            req.headers_mut().insert(CLIENT_ID, id.clone());
        }
        context.inject(req.headers_mut());
        decision.metrics.request(if arrival.dialect.grpc { Protocol::Grpc } else { Protocol::Http });
        let version = match req.version() {
            http::Version::HTTP_2 if !carried => Version::Http2,
            _ => Version::Http1,
        };
        let details = details.take();
        let sent = Sent { arrival, seen, asked, version, decision, details };
        Ok(self.send(req, sent, rule).await)
    }

    async fn send(
        self: &Rc<Self>,
        req: &mut Request<RequestBody>,
        sent: Sent<'_>,
        rule: Option<&HttpRule>,
    ) -> Response<ResponseBody> {
        let Sent { arrival, seen, asked, version, decision, details } = sent;
        let (head, connect) = (req.method() == Method::HEAD, req.method() == Method::CONNECT);
        let client = asked.map(|asked| (hyper::upgrade::on(&mut *req), asked));
        match version {
            Version::Http1 => convert::to_h1(req, &seen),
            Version::Http2 => {}
        }
        let mut attempt = self.application.begin();
        let (mut res, lease) = match self.application.pool.send(version, req).await {
            Ok(answered) => answered,
            Err(failed) => {
                let kind = if arrival.is_broken() { Kind::ClientBody } else { failed.kind };
                attempt.fail();
                return self.failed(kind, arrival, &decision, details);
            }
        };
        attempt.answered(lease);
        let switched =
            res.status() == StatusCode::SWITCHING_PROTOCOLS || (connect && res.status().is_success());
        match (switched, client) {
            (true, Some((client, asked))) => {
                self.switch.set();
                let (session, authz) = (self.clone(), decision.authz.clone());
                let cut = async move {
                    session.denied(&asked).await;
                    authz.tcp_terminate();
                };
                upgrade::join(client, hyper::upgrade::on(&mut res), self.inbound.drain.guard(), cut);
            }
            (true, None) => {
                attempt.discard_connection();
                return self.failed(Kind::BadResponse, arrival, &decision, details);
            }
            (false, _) => {
                if !convert::response(&mut res) {
                    attempt.spoil_connection();
                }
            }
        }
        // The application does not speak for the mesh.
        res.headers_mut().remove(error::PROXY_ERROR);
        if let Some(rule) = rule {
            filter::response(&rule.filters, res.headers_mut());
        }
        let res = match head {
            true => Response::from_parts(res.into_parts().0, ResponseBody::empty()),
            false => res.map(ResponseBody::incoming),
        };
        let mut record = decision.record(&res, arrival, None);
        record.attempt = Some(attempt);
        record.details = details;
        res.map(|body| body.with_record(record))
    }

    fn failed(
        &self,
        kind: Kind,
        arrival: &Arrival,
        decision: &Decision,
        details: Option<Box<Details>>,
    ) -> Response<ResponseBody> {
        self.inbound.http_errors.inc(kind.label());
        let res = error::response(kind, arrival.dialect);
        let mut record = decision.record(&res, arrival, Some(kind.label()));
        record.details = details;
        res.map(|body| body.with_record(record))
    }

    fn refused(&self, kind: Kind, decision: Rc<Decision>) -> Refusal {
        Refusal { kind: Some(kind), decision: Some(decision), answer: None }
    }

    fn decision(&self, policy: &Rc<PortPolicy>, route: Option<usize>, tunnel: bool) -> Rc<Decision> {
        if tunnel {
            return Rc::new(self.decide(policy, route, tunnel));
        }
        self.with_decided(policy, |decided| {
            let at = route.unwrap_or(decided.routes.len() - 1);
            let decision =
                decided.routes[at].get_or_insert_with(|| Rc::new(self.decide(policy, route, tunnel)));
            decision.clone()
        })
    }

    fn verdict(&self, policy: &Rc<PortPolicy>, route: Option<usize>, tunnel: bool) -> Verdict {
        let verdict = || self.allowed(policy, route, tunnel).map(|by| !by.audit);
        if tunnel {
            return verdict();
        }
        self.with_decided(policy, |decided| {
            let at = route.unwrap_or(decided.verdicts.len() - 1);
            *decided.verdicts[at].get_or_insert_with(verdict)
        })
    }

    fn with_decided<T>(&self, policy: &Rc<PortPolicy>, ask: impl FnOnce(&mut Decided) -> T) -> T {
        let mut decided = self.decided.borrow_mut();
        ask(match &mut *decided {
            Some(current) if Rc::ptr_eq(&current.by, policy) => current,
            stale => {
                let count = policy.routes().len().max(1) + 1;
                stale.insert(Decided {
                    by: policy.clone(),
                    routes: vec![None; count],
                    verdicts: vec![None; count],
                })
            }
        })
    }

    /// The most specific route that takes the request. Where routes add to each other, one that lets the client in goes before
    /// one that does not, and one that means it before one that only watches.
    fn route<B>(&self, policy: &Rc<PortPolicy>, req: &Request<B>, tunnel: bool) -> Option<Found> {
        let lets_in = |found: Found| self.verdict(policy, Some(found.route), tunnel);
        let mut matching = policy.table.all(req);
        let first = matching.next()?;
        let first = (first, lets_in(first));
        if !policy.policy.routes_add || first.1 == Some(true) {
            return Some(first.0);
        }
        let better = |best: (Found, _), other| {
            let other = (other, lets_in(other));
            if other.1 > best.1 { other } else { best }
        };
        Some(matching.fold(first, better).0)
    }

    /// Returns when the policy does not allow the tunnel any more that this request has asked for.
    async fn denied(&self, req: &Request<()>) {
        loop {
            let (changed, policy) = (self.port.changed(), self.port.policy());
            let found = self.route(&policy, req, true);
            if found.and_then(|found| self.verdict(&policy, Some(found.route), true)).is_none() {
                return;
            }
            changed.await;
        }
    }

    fn allowed<'a>(
        &self,
        policy: &'a PortPolicy,
        route: Option<usize>,
        tunnel: bool,
    ) -> Option<&'a Authorization> {
        let route = route.and_then(|at| policy.routes().get(at));
        let more = route.map_or(&[][..], |route| &route.authorizations);
        match tunnel {
            true => authorize::tunnel(&policy.policy, more, &self.peer),
            false => authorize::request(&policy.policy, more, &self.peer),
        }
    }

    fn decide(&self, policy: &PortPolicy, route: Option<usize>, tunnel: bool) -> Decision {
        let allowed = self.allowed(policy, route, tunnel);
        let route_metrics = policy.metrics(route).clone();
        let meta = route.and_then(|at| policy.routes().get(at)).map(|route| &route.meta);
        let worker = &self.inbound.worker;
        Decision {
            allowed: allowed.is_some(),
            route: route_metrics,
            metrics: worker.inbound_http(&policy.labels(&self.peer, self.port.number, meta, allowed)),
            authz: worker.authz(&policy.authz_labels(&self.peer, self.port.number, meta, allowed)),
        }
    }

    fn details(&self, req: &Request<RequestBody>, context: &Context) -> Option<Box<Details>> {
        let host = check::authority(req).and_then(|name| std::str::from_utf8(name).ok());
        let view = View { direction: Direction::Inbound, client: self.client, peer: &self.peer.tls, host };
        Details::of(&self.inbound.worker, context, req, &view)
    }
}

fn head_of(req: &Request<RequestBody>) -> Box<Request<()>> {
    let mut head = Box::new(Request::new(()));
    *head.method_mut() = req.method().clone();
    *head.uri_mut() = req.uri().clone();
    *head.headers_mut() = req.headers().clone();
    head
}

/// What is known of a request that is on its way.
struct Sent<'a> {
    arrival: &'a Arrival,
    seen: Seen,
    /// A tunnel, as its client asked for it.
    asked: Option<Box<Request<()>>>,
    version: Version,
    decision: Rc<Decision>,
    details: Option<Box<Details>>,
}

struct Refusal {
    kind: Option<Kind>,
    decision: Option<Rc<Decision>>,
    answer: Option<Response<ResponseBody>>,
}

impl From<Kind> for Refusal {
    fn from(kind: Kind) -> Refusal {
        Refusal { kind: Some(kind), decision: None, answer: None }
    }
}
