//! What the proxy tells of its work: metrics, spans, access log. Handles are found when policy is built; recording in the
//! request path is a few additions to worker-local counters.
//!
//! [`Telemetry`] is the shared half, owned by the control thread: it is read by `/metrics` and pushed to the operator.
//! [`Worker`] is a thread's own half. Nothing a worker does per request takes a lock or waits.

pub mod access_log;
pub mod metrics;
pub mod otlp;
pub mod trace;

use crate::{config, control, identity::Credentials, policy::Meta};
use http::HeaderMap;
use metrics::{
    Counter, Family, Gauge, Histogram, Labels,
    authz::{AuthzLabels, AuthzMetrics},
    balancer::{BalancerMetrics, Carries},
    family,
    http::{HttpMetrics, Protocol},
    labels::{Direction, InboundLabels, OutboundLabels},
    registry::Registry,
    route::{BackendMetrics, InboundRouteMetrics, RouteMetrics, Split},
    tcp::TcpMetrics,
};
use std::{
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::SystemTime,
};
use tokio::{
    sync::{mpsc, watch},
    task,
};
use trace::{Sampler, SpanRecord};

/// Spans that wait for the next push, of all workers. The pusher empties the queue once a second; what comes on top is
/// dropped and counted in `mesh_telemetry_dropped_total`.
const SPAN_QUEUE: usize = 4_096;

/// The shared half. Cheap to clone, crosses threads.
#[derive(Clone, Debug)]
pub struct Telemetry {
    registry: Arc<Registry>,
    sampler: Sampler,
    spans: mpsc::Sender<SpanRecord>,
    access_log: Option<access_log::AccessLog>,
    tally: Arc<Tally>,
}

/// Telemetry about telemetry.
#[derive(Debug, Default)]
pub struct Tally {
    /// Lost because the queue was full or the operator refused them.
    pub spans_dropped: AtomicU64,
    /// Lost because the writer could not keep up.
    pub access_log_dropped: AtomicU64,
    pub pushes: AtomicU64,
    pub pushes_failed: AtomicU64,
}

/// The spans' way out of the workers; taken by the pusher, or dropped where nothing is pushed.
pub type SpanQueue = mpsc::Receiver<SpanRecord>;

/// Starts telling the operator, where there is one, as a task of the running `LocalSet`.
pub fn start(
    config: &config::Config,
    telemetry: &Telemetry,
    spans: SpanQueue,
    credentials: watch::Receiver<Option<Arc<Credentials>>>,
) -> otlp::Task {
    let worker = telemetry.worker();
    let push = config.telemetry.push.as_ref();
    let operator = push.map(|service| control::channel(service, credentials.clone(), &worker));
    let certificate = Certificate {
        expires: worker.gauge(&family::IDENTITY_CERT_EXPIRATION_TIMESTAMP_SECONDS, Labels::default()),
        anchors: worker.gauge(&family::MESH_TRUST_ANCHORS_HASH, Labels::default()),
        issuer: worker.gauge(&family::MESH_CERTIFICATE_ISSUER_HASH, Labels::default()),
        refreshes: worker.counter(&family::IDENTITY_CERT_REFRESHES_TOTAL, Labels::default()),
    };
    task::spawn_local(certificate.follow(credentials));
    let sender = otlp::Sender::of(config);
    otlp::start(telemetry.clone(), spans, sender, operator, config.telemetry.retain_idle)
}

/// What is told of our certificate.
struct Certificate {
    expires: Gauge,
    anchors: Gauge,
    issuer: Gauge,
    refreshes: Counter,
}

impl Certificate {
    /// Ends with the identity's task.
    async fn follow(self, mut credentials: watch::Receiver<Option<Arc<Credentials>>>) {
        loop {
            let now = credentials.borrow_and_update().clone();
            if let Some(now) = now {
                let since = now.expires.duration_since(SystemTime::UNIX_EPOCH);
                let expires_s = since.map_or(0, |since| since.as_secs() as i64);
                // Credentials change with the trust anchors, too; a new certificate is one that ends later.
                if self.expires.get() != expires_s {
                    self.refreshes.inc();
                }
                self.expires.set(expires_s);
                self.anchors.set(now.anchors as i64);
                self.issuer.set(now.issuer as i64);
            }
            if credentials.changed().await.is_err() {
                return;
            }
        }
    }
}

impl Telemetry {
    /// Without an operator to tell there are no traces either: what comes in goes on as it came.
    pub fn configured(config: &config::Telemetry) -> (Telemetry, SpanQueue) {
        let sampler = match config.push {
            Some(_) => Sampler::new(config.sample_ratio),
            None => Sampler::off(),
        };
        Telemetry::with(sampler, config.access_log)
    }

    /// `sample_ratio` is the share (0 to 1) of the traces begun here that are recorded.
    pub fn new(sample_ratio: f64, access_log: bool) -> (Telemetry, SpanQueue) {
        Telemetry::with(Sampler::new(sample_ratio), access_log)
    }

    fn with(sampler: Sampler, access_log: bool) -> (Telemetry, SpanQueue) {
        metrics::process::started();
        let (spans, queue) = mpsc::channel(SPAN_QUEUE);
        let tally = Arc::new(Tally::default());
        let access_log = access_log.then(|| access_log::AccessLog::start(tally.clone()));
        (Telemetry { registry: Arc::default(), sampler, spans, access_log, tally }, queue)
    }

    /// A thread's own half; workers and the control thread make one each.
    pub fn worker(&self) -> Worker {
        Worker { shared: self.clone(), _local: Default::default() }
    }

    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    pub fn tally(&self) -> &Tally {
        &self.tally
    }
}

/// One thread's half: gives out handles. Asking for one takes a lock and compares labels, so it is done when policy,
/// endpoints or a connection are set up; using one is plain arithmetic. A series lives as long as a handle to it, and ten
/// idle minutes more. Asking twice for the same labels gives two handles to one series.
#[derive(Clone, Debug)]
pub struct Worker {
    shared: Telemetry,
    /// Handles are written without atomic read-modify-write, so they stay on the thread that made them.
    _local: std::marker::PhantomData<Rc<()>>,
}

impl Worker {
    pub fn outbound_http(&self, labels: &OutboundLabels) -> Rc<HttpMetrics> {
        Rc::new(HttpMetrics::new(self.shared.registry.clone(), labels.to_labels()))
    }

    pub fn inbound_http(&self, labels: &InboundLabels) -> Rc<HttpMetrics> {
        let labels = labels.to_labels(&self.shared.registry);
        Rc::new(HttpMetrics::new(self.shared.registry.clone(), labels))
    }

    /// Connections whose bytes are forwarded unread.
    pub fn outbound_tcp(&self, labels: &OutboundLabels) -> Rc<TcpMetrics> {
        Rc::new(TcpMetrics::new(&self.shared.registry, labels.to_labels()))
    }

    pub fn inbound_tcp(&self, labels: &InboundLabels) -> Rc<TcpMetrics> {
        let labels = labels.to_labels(&self.shared.registry);
        Rc::new(TcpMetrics::new(&self.shared.registry, labels))
    }

    /// Decisions of one authorization (or, with `authz: None`, refusals because none matched) about one client.
    pub fn authz(&self, labels: &AuthzLabels) -> Rc<AuthzMetrics> {
        let labels = labels.to_labels(&self.shared.registry);
        Rc::new(AuthzMetrics::new(self.shared.registry.clone(), labels))
    }

    /// One route of a parent, as the application sees it; made with the route.
    pub fn route(&self, kind: Protocol, parent: &Meta, route: &Meta) -> Rc<RouteMetrics> {
        Rc::new(RouteMetrics::new(&self.shared.registry, kind, parent, route))
    }

    /// One backend of a route; made with the route.
    pub fn route_backend(
        &self,
        kind: Protocol,
        parent: &Meta,
        route: &Meta,
        backend: &Meta,
    ) -> Rc<BackendMetrics> {
        Rc::new(BackendMetrics::new(&self.shared.registry, kind, parent, route, backend))
    }

    /// One route of a port's policy, `None` for requests without one; made with the policy.
    pub fn inbound_route(&self, parent: &Meta, route: Option<&Meta>) -> Rc<InboundRouteMetrics> {
        Rc::new(InboundRouteMetrics::new(self.shared.registry.clone(), parent, route))
    }

    /// The balancer of one backend.
    pub fn balancer(&self, backend: &Meta, carries: Carries) -> BalancerMetrics {
        BalancerMetrics::new(&self.shared.registry, backend, carries)
    }

    /// `{inbound,outbound}_http_errors_total`, by cause: what the proxy answered itself.
    pub fn http_errors(&self, direction: Direction) -> Split<&'static str> {
        let family = match direction {
            Direction::Inbound => &family::INBOUND_HTTP_ERRORS_TOTAL,
            Direction::Outbound => &family::OUTBOUND_HTTP_ERRORS_TOTAL,
        };
        Split::new(self.shared.registry.clone(), family, Labels::default())
    }

    /// `{inbound,outbound}_tcp_errors_total`, by cause: connections that ended in the proxy.
    pub fn tcp_errors(&self, direction: Direction) -> Split<&'static str> {
        let family = match direction {
            Direction::Inbound => &family::INBOUND_TCP_ERRORS_TOTAL,
            Direction::Outbound => &family::OUTBOUND_TCP_ERRORS_TOTAL,
        };
        Split::new(self.shared.registry.clone(), family, Labels::default())
    }

    /// A counter of any other family, see [`metrics::family`].
    pub fn counter(&self, family: &'static Family, labels: Labels) -> Counter {
        Counter::new(&self.shared.registry, family, labels)
    }

    pub fn gauge(&self, family: &'static Family, labels: Labels) -> Gauge {
        Gauge::new(&self.shared.registry, family, labels)
    }

    pub fn histogram(&self, family: &'static Family, labels: Labels) -> Histogram {
        Histogram::new(&self.shared.registry, family, labels)
    }

    /// Continues the trace of a request, or begins one. Then `ctx.inject(headers)`, and where `ctx.sampled()`, at the end,
    /// [`Worker::span`].
    pub fn trace(&self, headers: &HeaderMap) -> trace::Context {
        self.shared.sampler.context(headers)
    }

    /// Hands a finished span to the pusher. Never waits.
    pub fn span(&self, span: SpanRecord) {
        if self.shared.spans.try_send(span).is_err() {
            self.shared.tally.spans_dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// `None` unless the access log is on: ask before building a record.
    pub fn access_log(&self) -> Option<&access_log::AccessLog> {
        self.shared.access_log.as_ref()
    }
}
