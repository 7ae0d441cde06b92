//! A policy as requests use it: matches sorted, backends connected to their balancers, metric handles found.

use super::{Outbound, retry::Budget};
use crate::{
    balance::{Balancer, Endpoint},
    http::{
        error::Kind,
        route::{Found, Table},
    },
    policy::{
        self, Meta,
        endpoint::EndpointTls,
        http::{Filter, Retry, Timeouts},
        outbound::{BackendKind, Distribution, FailureAccrual, Policy},
    },
    telemetry::{
        Worker,
        metrics::{
            balancer::Carries,
            http::{self, HttpMetrics},
            labels::{OutboundLabels, PeerTls},
            route::{BackendMetrics, RouteMetrics},
            tcp::TcpMetrics,
        },
    },
};
use ::http::Request;
use ahash::AHashMap;
use std::{cell::RefCell, rc::Rc, sync::Arc, time::Duration};

#[derive(Debug)]
pub struct Router {
    /// The Service, where there is one.
    pub meta: Option<Meta>,
    pub protocol: Protocol,
}

#[derive(Debug)]
pub enum Protocol {
    Detect { timeout: Duration, http1: Rc<HttpRouter>, http2: Rc<HttpRouter>, opaque: OpaqueRoute },
    Http1(Rc<HttpRouter>),
    Http2(Rc<HttpRouter>),
    Opaque(OpaqueRoute),
}

#[derive(Debug)]
pub struct HttpRouter {
    table: Table,
    /// By route, then by rule.
    rules: Vec<Vec<Rc<Rule>>>,
    pub meta: Option<Meta>,
    /// For requests that no rule takes.
    pub unrouted: Rc<HttpMetrics>,
}

#[derive(Debug)]
pub struct Rule {
    pub route: Meta,
    pub filters: Vec<Filter>,
    pub retry: Option<Retry>,
    pub budget: Budget,
    pub timeouts: Timeouts,
    choice: Choice,
    pub metrics: Rc<RouteMetrics>,
    /// For requests that fail before there is a backend.
    pub unsent: Rc<HttpMetrics>,
}

#[derive(Debug)]
enum Choice {
    Empty,
    First(Vec<Rc<Backend>>),
    Weighted(Vec<(Rc<Backend>, u32)>, u64),
}

/// A backend as one rule uses it.
#[derive(Debug)]
pub struct Backend {
    pub meta: Meta,
    pub filters: Vec<Filter>,
    pub timeout: Option<Duration>,
    /// `None`: the control plane could not name it.
    pub balancer: Option<Rc<Balancer>>,
    pub metrics: Rc<BackendMetrics>,
    /// For requests that found no endpoint.
    pub unsent: Rc<HttpMetrics>,
    srv: Option<Meta>,
    route: Meta,
    http: RefCell<AHashMap<u64, Rc<HttpMetrics>>>,
    tcp: RefCell<AHashMap<u64, Rc<TcpMetrics>>>,
}

/// Endpoints come and go; handles of those gone are thrown away when there are this many more than could be in use.
const STALE_HANDLES: usize = 64;

#[derive(Debug)]
pub struct OpaqueRoute {
    filters: Vec<Filter>,
    choice: Choice,
}

impl Router {
    pub(super) fn new(outbound: &Rc<Outbound>, policy: Arc<Policy>) -> Router {
        let carries = match &policy.protocol {
            policy::outbound::Protocol::Opaque(_) => Carries::Tcp,
            policy::outbound::Protocol::Detect { .. }
            | policy::outbound::Protocol::Http1(_)
            | policy::outbound::Protocol::Http2(_)
            | policy::outbound::Protocol::Grpc(_) => Carries::Http,
        };
        let build = Builder { outbound, meta: Some(&policy.meta), carries };
        let protocol = match &policy.protocol {
            policy::outbound::Protocol::Detect { timeout, http1, http2, opaque } => Protocol::Detect {
                timeout: *timeout,
                http1: build.http(http1, http::Protocol::Http),
                http2: build.http(http2, http::Protocol::Http),
                opaque: build.opaque(opaque),
            },
            policy::outbound::Protocol::Http1(http) => {
                Protocol::Http1(build.http(http, http::Protocol::Http))
            }
            policy::outbound::Protocol::Http2(http) => {
                Protocol::Http2(build.http(http, http::Protocol::Http))
            }
            policy::outbound::Protocol::Grpc(http) => Protocol::Http2(build.http(http, http::Protocol::Grpc)),
            policy::outbound::Protocol::Opaque(opaque) => Protocol::Opaque(build.opaque(opaque)),
        };
        Router { meta: Some(policy.meta.clone()), protocol }
    }

    /// To one address, as if there were no mesh.
    pub(super) fn passthrough(outbound: &Rc<Outbound>, endpoint: Arc<policy::endpoint::Endpoint>) -> Router {
        let build = Builder { outbound, meta: None, carries: Carries::Http };
        let none = no_meta();
        let balancer = Balancer::fixed(endpoint, outbound.connector.clone(), 100, Duration::from_secs(3));
        let http = || {
            let choice = Choice::First(vec![build.backend(
                &none,
                &none,
                Vec::new(),
                None,
                Some(balancer.clone()),
                http::Protocol::Http,
            )]);
            let unsent = build.labels(None, None);
            let rule = Rule {
                route: none.clone(),
                filters: Vec::new(),
                retry: None,
                budget: Budget::default(),
                timeouts: Timeouts::default(),
                choice,
                metrics: outbound.worker.route(http::Protocol::Http, &none, &none),
                unsent: unsent.clone(),
            };
            let everything: (&[_], _) = (&[], vec![&[][..]]);
            Rc::new(HttpRouter {
                table: Table::new([everything]),
                rules: vec![vec![Rc::new(rule)]],
                meta: None,
                unrouted: unsent,
            })
        };
        let opaque = OpaqueRoute {
            filters: Vec::new(),
            choice: Choice::First(vec![build.backend(
                &none,
                &none,
                Vec::new(),
                None,
                Some(balancer.clone()),
                http::Protocol::Http,
            )]),
        };
        let timeout = outbound.config.outbound.connections.detect_timeout;
        Router { meta: None, protocol: Protocol::Detect { timeout, http1: http(), http2: http(), opaque } }
    }

    /// The routes for a request of this version; `None`: the port is not for HTTP.
    pub fn http(&self, version: crate::http::Version) -> Option<&Rc<HttpRouter>> {
        match (&self.protocol, version) {
            (Protocol::Detect { http1, .. }, crate::http::Version::Http1) => Some(http1),
            (Protocol::Detect { http2, .. }, crate::http::Version::Http2) => Some(http2),
            (Protocol::Http1(http) | Protocol::Http2(http), _) => Some(http),
            (Protocol::Opaque(_), _) => None,
        }
    }

    /// Why nothing at all may pass, if nothing may.
    pub fn refusal(&self) -> Option<Kind> {
        match &self.protocol {
            Protocol::Opaque(route) if route.backend().is_none() => Some(route.refusal()),
            Protocol::Detect { .. } | Protocol::Http1(_) | Protocol::Http2(_) | Protocol::Opaque(_) => None,
        }
    }
}

impl HttpRouter {
    pub fn find<B>(&self, req: &Request<B>) -> Option<(&Rc<Rule>, Found)> {
        let found = self.table.find(req)?;
        Some((&self.rules[found.route][found.rule], found))
    }
}

impl Choice {
    fn choose(&self) -> Option<&Rc<Backend>> {
        match self {
            Choice::Empty => None,
            Choice::First(backends) => {
                let available =
                    |backend: &&Rc<Backend>| backend.balancer.as_ref().is_some_and(|b| b.is_available());
                match backends.as_slice() {
                    [only] => Some(only),
                    backends => backends.iter().find(available).or(backends.first()),
                }
            }
            // A backend without endpoints keeps its share, which is answered 503 (Gateway API): traffic must not silently go
            // to a version that was meant to get less.
            Choice::Weighted(backends, total) => {
                let mut at = fastrand::u64(..*total);
                for (backend, weight) in backends {
                    match at.checked_sub(u64::from(*weight)) {
                        None => return Some(backend),
                        Some(rest) => at = rest,
                    }
                }
                None
            }
        }
    }
}

impl Rule {
    pub fn backend(&self) -> Option<&Rc<Backend>> {
        self.choice.choose()
    }
}

impl OpaqueRoute {
    pub fn backend(&self) -> Option<&Rc<Backend>> {
        match self.is_forbidden() {
            true => None,
            false => self.choice.choose(),
        }
    }

    fn is_forbidden(&self) -> bool {
        self.filters.iter().any(|filter| matches!(filter, Filter::Forbidden))
    }

    /// Why there is no backend.
    pub fn refusal(&self) -> Kind {
        if self.is_forbidden() { Kind::Forbidden } else { Kind::NoBackend }
    }
}

impl Backend {
    /// The handle for requests to this endpoint by this rule.
    pub fn http(&self, worker: &Worker, endpoint: &Endpoint) -> Rc<HttpMetrics> {
        if let Some(known) = self.http.borrow().get(&endpoint.id) {
            return known.clone();
        }
        let made = worker.outbound_http(&self.labels(endpoint));
        let mut handles = self.http.borrow_mut();
        if handles.len() > STALE_HANDLES && handles.len() > 2 * self.balancer.as_ref().map_or(0, |b| b.len())
        {
            handles.clear();
        }
        handles.insert(endpoint.id, made.clone());
        made
    }

    pub fn tcp(&self, worker: &Worker, _router: &Router, endpoint: &Endpoint) -> Rc<TcpMetrics> {
        let mut handles = self.tcp.borrow_mut();
        if handles.len() > STALE_HANDLES && handles.len() > 2 * self.balancer.as_ref().map_or(0, |b| b.len())
        {
            handles.clear();
        }
        handles.entry(endpoint.id).or_insert_with(|| worker.outbound_tcp(&self.labels(endpoint))).clone()
    }

    fn labels<'a>(&'a self, endpoint: &'a Endpoint) -> OutboundLabels<'a> {
        OutboundLabels {
            tls: peer(endpoint.info.tls.as_ref()),
            srv: self.srv.as_ref(),
            route: self.srv.as_ref().map(|_| &self.route),
            backend: self.srv.as_ref().map(|_| &self.meta),
            endpoint: &endpoint.info.labels,
        }
    }
}

fn peer(tls: Option<&EndpointTls>) -> PeerTls {
    tls.map_or(PeerTls::Disabled, |tls| PeerTls::Identity(tls.identity.clone()))
}

struct Builder<'a> {
    outbound: &'a Rc<Outbound>,
    meta: Option<&'a Meta>,
    carries: Carries,
}

impl Builder<'_> {
    fn http(&self, http: &policy::outbound::Http, protocol: http::Protocol) -> Rc<HttpRouter> {
        let matches = http.routes.iter().map(|route| {
            (route.hosts.as_slice(), route.rules.iter().map(|rule| rule.matches.as_slice()).collect())
        });
        let rules = http.routes.iter().map(|route| {
            route
                .rules
                .iter()
                .map(|rule| Rc::new(self.rule(&route.meta, rule, http.failure_accrual, protocol)))
                .collect()
        });
        Rc::new(HttpRouter {
            table: Table::new(matches),
            rules: rules.collect(),
            meta: self.meta.cloned(),
            unrouted: self.labels(None, None),
        })
    }

    fn rule(
        &self,
        route: &Meta,
        rule: &policy::outbound::HttpRule,
        accrual: Option<FailureAccrual>,
        protocol: http::Protocol,
    ) -> Rule {
        let none = no_meta();
        Rule {
            filters: rule.filters.clone(),
            retry: rule.retry.clone(),
            budget: Budget::default(),
            timeouts: rule.timeouts,
            choice: self.choice(route, &rule.backends, accrual, protocol),
            metrics: self.outbound.worker.route(protocol, self.meta.unwrap_or(&none), route),
            unsent: self.labels(Some(route), None),
            route: route.clone(),
        }
    }

    fn opaque(&self, opaque: &policy::outbound::Opaque) -> OpaqueRoute {
        OpaqueRoute {
            filters: opaque.filters.clone(),
            choice: self.choice(&opaque.meta, &opaque.backends, None, http::Protocol::Http),
        }
    }

    fn choice(
        &self,
        route: &Meta,
        backends: &Distribution,
        accrual: Option<FailureAccrual>,
        protocol: http::Protocol,
    ) -> Choice {
        let backend = |backend: &policy::outbound::RouteBackend| {
            let balancer = self.balancer(&backend.backend, accrual);
            self.backend(
                route,
                &backend.backend.meta,
                backend.filters.clone(),
                backend.timeout,
                balancer,
                protocol,
            )
        };
        match backends {
            Distribution::Empty => Choice::Empty,
            Distribution::FirstAvailable(backends) => Choice::First(backends.iter().map(backend).collect()),
            Distribution::RandomAvailable(backends) => {
                let total = backends.iter().map(|(_, weight)| u64::from(*weight)).sum();
                match total {
                    0 => Choice::Empty,
                    total => Choice::Weighted(
                        backends.iter().map(|(b, weight)| (backend(b), *weight)).collect(),
                        total,
                    ),
                }
            }
        }
    }

    fn balancer(
        &self,
        backend: &policy::outbound::Backend,
        accrual: Option<FailureAccrual>,
    ) -> Option<Rc<Balancer>> {
        match &backend.kind {
            BackendKind::Balance { path, ewma: _ } => {
                let (capacity, failfast) = (backend.queue_capacity, backend.failfast);
                Some(self.outbound.balancer(path, &backend.meta, accrual, self.carries, capacity, failfast))
            }
            BackendKind::Forward(endpoint) => Some(Balancer::fixed(
                endpoint.clone(),
                self.outbound.connector.clone(),
                backend.queue_capacity,
                backend.failfast,
            )),
            BackendKind::Invalid => None,
        }
    }

    fn backend(
        &self,
        route: &Meta,
        meta: &Meta,
        filters: Vec<Filter>,
        timeout: Option<Duration>,
        balancer: Option<Rc<Balancer>>,
        protocol: http::Protocol,
    ) -> Rc<Backend> {
        let none = no_meta();
        Rc::new(Backend {
            filters,
            timeout,
            balancer,
            metrics: self.outbound.worker.route_backend(protocol, self.meta.unwrap_or(&none), route, meta),
            unsent: self.labels(Some(route), Some(meta)),
            srv: self.meta.cloned(),
            route: route.clone(),
            meta: meta.clone(),
            http: RefCell::default(),
            tcp: RefCell::default(),
        })
    }

    fn labels(&self, route: Option<&Meta>, backend: Option<&Meta>) -> Rc<HttpMetrics> {
        let labels = OutboundLabels {
            tls: PeerTls::Disabled,
            srv: self.meta,
            route: self.meta.and(route),
            backend: self.meta.and(backend),
            endpoint: &[],
        };
        self.outbound.worker.outbound_http(&labels)
    }
}

fn no_meta() -> Meta {
    let empty: Arc<str> = "".into();
    Meta {
        group: empty.clone(),
        kind: "default".into(),
        namespace: empty.clone(),
        name: "passthrough".into(),
        port: None,
        section: empty,
    }
}
