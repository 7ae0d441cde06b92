//! The route families: what the application saw of a route, what its backends answered, and what retries did.

use super::{
    Counter, Family, Histogram, Labels, RareCounter, family,
    http::Protocol,
    labels::{BACKEND, PARENT, ROUTE},
    registry::Registry,
};
use crate::policy::Meta;
use std::{
    cell::{OnceCell, RefCell},
    sync::Arc,
    time::Duration,
};

/// Values of a split that one handle tells apart; the rest is `other`.
const MAX_PARTS: usize = 16;

/// A counter split by something that is only known when it is counted, yet has few values. The first of a value makes its
/// series; after that it is a short scan and an addition.
#[derive(Debug)]
pub struct Split<K> {
    registry: Arc<Registry>,
    family: &'static Family,
    labels: Labels,
    parts: RefCell<Vec<(Option<K>, Counter)>>,
}

/// The value of a [`Split`], as labels.
pub trait Part: Copy + PartialEq {
    fn labels(self, of: &Labels) -> Labels;
    fn other(of: &Labels) -> Labels;
}

impl<K: Part> Split<K> {
    pub(in super::super) fn new(
        registry: Arc<Registry>,
        family: &'static Family,
        labels: Labels,
    ) -> Split<K> {
        Split { registry, family, labels, parts: RefCell::default() }
    }

    #[inline]
    pub fn inc(&self, value: K) {
        let mut parts = self.parts.borrow_mut();
        if let Some((_, counter)) = parts.iter().find(|(known, _)| *known == Some(value)) {
            return counter.inc();
        }
        let value = (parts.len() < MAX_PARTS).then_some(value);
        let at = parts.iter().position(|(known, _)| *known == value).unwrap_or_else(|| {
            let labels = match value {
                Some(value) => value.labels(&self.labels),
                None => K::other(&self.labels),
            };
            parts.push((value, Counter::new(&self.registry, self.family, labels)));
            parts.len() - 1
        });
        parts[at].1.inc();
    }
}

/// `error`: the cause for which the proxy failed a request or connection.
impl Part for &'static str {
    fn labels(self, of: &Labels) -> Labels {
        of.extend().with("error", self).done()
    }

    fn other(of: &Labels) -> Labels {
        of.extend().with("error", "other").done()
    }
}

/// How a request or a try ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// Of the response; `None` where there was none.
    pub http: Option<u16>,
    pub grpc: Option<u16>,
    /// Why the proxy made the response, or why there is none.
    pub error: Option<&'static str>,
}

impl Part for Status {
    fn labels(self, of: &Labels) -> Labels {
        of.extend()
            .with_some("http_status", self.http.map(|code| code.to_string()))
            .with_some("grpc_status", self.grpc.map(|code| code.to_string()))
            .with_some("error", self.error)
            .done()
    }

    fn other(of: &Labels) -> Labels {
        of.extend().with("http_status", "other").done()
    }
}

/// One route of one parent.
#[derive(Debug)]
pub struct RouteMetrics {
    /// Responses as the application saw them.
    pub statuses: Split<Status>,
    /// From a request's arrival to its response's end.
    pub duration: Histogram,
    pub retries: RetryMetrics,
}

#[derive(Debug)]
pub struct RetryMetrics {
    /// A retry was sent.
    pub requests: RareCounter,
    /// A retry saved the request.
    pub successes: RareCounter,
    /// The last allowed retry failed.
    pub limit_exceeded: RareCounter,
    /// No retry because the budget was spent, or the body too long to keep.
    pub overflow: RareCounter,
}

/// One backend of one route of one parent.
#[derive(Debug)]
pub struct BackendMetrics {
    /// A request is sent to it: every try.
    pub requests: Counter,
    pub statuses: Split<Status>,
    /// From a try's beginning to its response's end.
    pub duration: Histogram,
}

/// One route to one of the application's ports. Of the two kinds of requests most routes see one.
#[derive(Debug)]
pub struct InboundRouteMetrics {
    registry: Arc<Registry>,
    labels: Labels,
    /// By [`Protocol`].
    kinds: [OnceCell<(Counter, Histogram)>; 2],
}

/// Families of HTTP routes and of gRPC routes.
struct Names {
    statuses: &'static Family,
    duration: &'static Family,
    requests: &'static Family,
    successes: &'static Family,
    limit_exceeded: &'static Family,
    overflow: &'static Family,
    backend_requests: &'static Family,
    backend_statuses: &'static Family,
    backend_duration: &'static Family,
    inbound_requests: &'static Family,
    inbound_duration: &'static Family,
}

static HTTP: Names = Names {
    statuses: &family::OUTBOUND_HTTP_ROUTE_REQUEST_STATUSES_TOTAL,
    duration: &family::OUTBOUND_HTTP_ROUTE_REQUEST_DURATION_SECONDS,
    requests: &family::OUTBOUND_HTTP_ROUTE_RETRY_REQUESTS_TOTAL,
    successes: &family::OUTBOUND_HTTP_ROUTE_RETRY_SUCCESSES_TOTAL,
    limit_exceeded: &family::OUTBOUND_HTTP_ROUTE_RETRY_LIMIT_EXCEEDED_TOTAL,
    overflow: &family::OUTBOUND_HTTP_ROUTE_RETRY_OVERFLOW_TOTAL,
    backend_requests: &family::OUTBOUND_HTTP_ROUTE_BACKEND_REQUESTS_TOTAL,
    backend_statuses: &family::OUTBOUND_HTTP_ROUTE_BACKEND_RESPONSE_STATUSES_TOTAL,
    backend_duration: &family::OUTBOUND_HTTP_ROUTE_BACKEND_RESPONSE_DURATION_SECONDS,
    inbound_requests: &family::INBOUND_HTTP_REQUESTS_TOTAL,
    inbound_duration: &family::INBOUND_HTTP_REQUEST_DURATION_SECONDS,
};

static GRPC: Names = Names {
    statuses: &family::OUTBOUND_GRPC_ROUTE_REQUEST_STATUSES_TOTAL,
    duration: &family::OUTBOUND_GRPC_ROUTE_REQUEST_DURATION_SECONDS,
    requests: &family::OUTBOUND_GRPC_ROUTE_RETRY_REQUESTS_TOTAL,
    successes: &family::OUTBOUND_GRPC_ROUTE_RETRY_SUCCESSES_TOTAL,
    limit_exceeded: &family::OUTBOUND_GRPC_ROUTE_RETRY_LIMIT_EXCEEDED_TOTAL,
    overflow: &family::OUTBOUND_GRPC_ROUTE_RETRY_OVERFLOW_TOTAL,
    backend_requests: &family::OUTBOUND_GRPC_ROUTE_BACKEND_REQUESTS_TOTAL,
    backend_statuses: &family::OUTBOUND_GRPC_ROUTE_BACKEND_RESPONSE_STATUSES_TOTAL,
    backend_duration: &family::OUTBOUND_GRPC_ROUTE_BACKEND_RESPONSE_DURATION_SECONDS,
    inbound_requests: &family::INBOUND_GRPC_REQUESTS_TOTAL,
    inbound_duration: &family::INBOUND_GRPC_REQUEST_DURATION_SECONDS,
};

fn names(kind: Protocol) -> &'static Names {
    match kind {
        Protocol::Http => &HTTP,
        Protocol::Grpc => &GRPC,
    }
}

fn route_labels(parent: &Meta, route: &Meta) -> Labels {
    Labels::build().with_meta(&PARENT, Some(parent)).with_meta(&ROUTE, Some(route)).done()
}

impl RouteMetrics {
    pub(in super::super) fn new(
        registry: &Arc<Registry>,
        kind: Protocol,
        parent: &Meta,
        route: &Meta,
    ) -> RouteMetrics {
        let (names, labels) = (names(kind), route_labels(parent, route));
        let counter = |family| RareCounter::new(registry, family, labels.clone());
        RouteMetrics {
            statuses: Split::new(registry.clone(), names.statuses, labels.clone()),
            duration: Histogram::new(registry, names.duration, labels.clone()),
            retries: RetryMetrics {
                requests: counter(names.requests),
                successes: counter(names.successes),
                limit_exceeded: counter(names.limit_exceeded),
                overflow: counter(names.overflow),
            },
        }
    }
}

impl BackendMetrics {
    pub(in super::super) fn new(
        registry: &Arc<Registry>,
        kind: Protocol,
        parent: &Meta,
        route: &Meta,
        backend: &Meta,
    ) -> BackendMetrics {
        let names = names(kind);
        let labels = route_labels(parent, route).extend().with_meta(&BACKEND, Some(backend)).done();
        BackendMetrics {
            requests: Counter::new(registry, names.backend_requests, labels.clone()),
            statuses: Split::new(registry.clone(), names.backend_statuses, labels.clone()),
            duration: Histogram::new(registry, names.backend_duration, labels),
        }
    }
}

impl InboundRouteMetrics {
    pub(in super::super) fn new(
        registry: Arc<Registry>,
        parent: &Meta,
        route: Option<&Meta>,
    ) -> InboundRouteMetrics {
        let labels = Labels::build().with_meta(&PARENT, Some(parent)).with_meta(&ROUTE, route).done();
        InboundRouteMetrics { registry, labels, kinds: Default::default() }
    }

    /// A response has ended.
    #[inline]
    pub fn record(&self, kind: Protocol, took: Duration) {
        let (requests, duration) = self.kinds[kind as usize].get_or_init(|| {
            let names = names(kind);
            (
                Counter::new(&self.registry, names.inbound_requests, self.labels.clone()),
                Histogram::new(&self.registry, names.inbound_duration, self.labels.clone()),
            )
        });
        requests.inc();
        duration.record(took);
    }
}
