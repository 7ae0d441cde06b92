//! Chooses an endpoint for a request: power of two choices over load, among those that are up.

pub mod accrual;
pub mod endpoint;
pub mod load;

use crate::{
    control::Discovery,
    http::{client::Connector, error::Kind},
    policy::{
        endpoint::{EndpointSet, Endpoints},
        http::Backoff,
        outbound::FailureAccrual,
    },
    telemetry::metrics::balancer::BalancerMetrics,
};
pub use endpoint::{Attempt, Endpoint};
use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::Arc,
    time::Duration,
};
use tokio::{
    sync::Notify,
    task::spawn_local,
    time::{self, Instant},
};

/// How long an endpoint rests after a failed connect: first, and at most.
const CONNECT_BACKOFF: Backoff =
    Backoff { min: Duration::from_millis(100), max: Duration::from_secs(10), jitter: 0.1 };

/// One destination's endpoints as one worker uses them.
#[derive(Debug)]
pub struct Balancer {
    endpoints: RefCell<Vec<Rc<Endpoint>>>,
    known: Cell<bool>,
    /// A static endpoint: there is nothing to wait for.
    fixed: bool,
    changed: Notify,
    waiting: Cell<usize>,
    capacity: usize,
    patience: Duration,
    /// Somebody has waited in vain: until an endpoint is there nobody waits.
    failing_fast: Cell<bool>,
    accrual: Option<FailureAccrual>,
    connector: Rc<Connector>,
    /// `None` for a static endpoint.
    metrics: Option<BalancerMetrics>,
}

impl Balancer {
    /// One endpoint that never changes.
    pub fn fixed(
        endpoint: Arc<crate::policy::endpoint::Endpoint>,
        connector: Rc<Connector>,
        capacity: usize,
        patience: Duration,
    ) -> Rc<Balancer> {
        let balancer = Balancer::new(connector.clone(), capacity, patience, None, true);
        balancer.endpoints.borrow_mut().push(Endpoint::new(endpoint, connector, None));
        balancer.known.set(true);
        Rc::new(balancer)
    }

    /// Endpoints as discovery tells them, for as long as the balancer lives.
    pub fn discovered(
        path: Arc<str>,
        discovery: Discovery,
        connector: Rc<Connector>,
        capacity: usize,
        patience: Duration,
        accrual: Option<FailureAccrual>,
        metrics: BalancerMetrics,
    ) -> Rc<Balancer> {
        let balancer = Balancer::new(connector, capacity, patience, accrual, false);
        let balancer = Rc::new(Balancer { metrics: Some(metrics), ..balancer });
        let follower = Rc::downgrade(&balancer);
        spawn_local(async move {
            let mut endpoints = discovery.endpoints(path).await;
            loop {
                let now = endpoints.borrow_and_update().clone();
                let Some(balancer) = follower.upgrade() else { return };
                balancer.update(now);
                drop(balancer);
                // Wakes up now and then to see whether the balancer is still there.
                if let Ok(Err(_)) = time::timeout(Duration::from_secs(5), endpoints.changed()).await {
                    return;
                }
            }
        });
        balancer
    }

    fn new(
        connector: Rc<Connector>,
        capacity: usize,
        patience: Duration,
        accrual: Option<FailureAccrual>,
        fixed: bool,
    ) -> Balancer {
        Balancer {
            endpoints: RefCell::default(),
            known: Cell::new(false),
            fixed,
            changed: Notify::new(),
            waiting: Cell::new(0),
            capacity: capacity.max(1),
            patience,
            failing_fast: Cell::new(false),
            accrual,
            connector,
            metrics: None,
        }
    }

    fn update(&self, endpoints: Endpoints) {
        match endpoints {
            Endpoints::Pending => return,
            Endpoints::Known(set) => self.replace(&set),
            Endpoints::Gone => self.replace(&EndpointSet::default()),
            Endpoints::Invalid(reason) => {
                tracing::warn!(%reason, "the control plane refuses to name endpoints");
                self.replace(&EndpointSet::default());
            }
        }
        self.known.set(true);
        self.changed.notify_waiters();
        if let Some(metrics) = &self.metrics {
            let (now, endpoints) = (Instant::now(), self.endpoints.borrow());
            let ready = endpoints.iter().filter(|endpoint| endpoint.ready_at(now).is_none()).count();
            metrics.endpoints(ready, endpoints.len());
        }
    }

    /// Endpoints that stay as they are keep their connections and what was learnt of them.
    fn replace(&self, set: &EndpointSet) {
        let mut endpoints = self.endpoints.borrow_mut();
        let mut kept = Vec::with_capacity(set.len());
        for (addr, info) in set.iter() {
            let old = endpoints.iter().find(|old| old.info.addr == *addr && old.info == *info);
            kept.push(match old {
                Some(old) => old.clone(),
                None => {
                    self.count(|metrics| metrics.added.inc());
                    Endpoint::new(info.clone(), self.connector.clone(), self.accrual)
                }
            });
        }
        for old in endpoints.drain(..) {
            if !kept.iter().any(|new| Rc::ptr_eq(new, &old)) {
                self.count(|metrics| metrics.removed.inc());
                old.pool.retire();
            }
        }
        *endpoints = kept;
    }

    pub fn len(&self) -> usize {
        self.endpoints.borrow().len()
    }

    pub fn is_empty(&self) -> bool {
        self.endpoints.borrow().is_empty()
    }

    /// Is there an endpoint right now?
    pub fn is_available(&self) -> bool {
        let now = Instant::now();
        self.endpoints.borrow().iter().any(|endpoint| endpoint.ready_at(now).is_none())
    }

    /// An endpoint other than `avoid` if possible; waits for one as long as the policy says.
    pub async fn pick(
        &self,
        avoid: Option<&Rc<Endpoint>>,
        deadline: &mut Option<Instant>,
    ) -> Result<Rc<Endpoint>, Kind> {
        let now = Instant::now();
        if let Some(endpoint) = self.choose(now, avoid) {
            return Ok(endpoint);
        }
        if self.fixed {
            // There is only the one, and its last word was an error: ask it again rather than answer for it.
            return self.endpoints.borrow().first().cloned().ok_or(Kind::NoBackend);
        }
        let deadline = *deadline.get_or_insert(now + self.patience);
        if self.is_impostor(now) {
            return Err(Kind::Tls);
        }
        // Boxed: few requests have to wait.
        Box::pin(self.wait(deadline)).await
    }

    async fn wait(&self, deadline: Instant) -> Result<Rc<Endpoint>, Kind> {
        if self.failing_fast.get() {
            return Err(Kind::FailFast);
        }
        if self.waiting.get() >= self.capacity {
            return Err(Kind::LoadShed);
        }
        self.count(|metrics| metrics.queued.inc());
        let _place = Waiting::new(self);
        loop {
            let now = Instant::now();
            if let Some(endpoint) = self.choose(now, None) {
                return Ok(endpoint);
            }
            if self.is_impostor(now) {
                return Err(Kind::Tls);
            }
            if now >= deadline {
                if !self.failing_fast.replace(true) {
                    self.count(|metrics| metrics.gate_shut.inc());
                }
                return Err(Kind::FailFast);
            }
            let up = self
                .endpoints
                .borrow()
                .iter()
                .filter_map(|endpoint| endpoint.ready_at(now).min(endpoint.panic_at(now)))
                .min();
            let until = up.unwrap_or(deadline).min(deadline);
            let _ = time::timeout_at(until, self.changed.notified()).await;
        }
    }

    /// Somebody else stands at each of the endpoints' addresses. Waiting does not heal that, and the client should know.
    fn is_impostor(&self, now: Instant) -> bool {
        let endpoints = self.endpoints.borrow();
        !endpoints.is_empty() && endpoints.iter().all(|endpoint| endpoint.is_impostor(now))
    }

    /// A static endpoint answers for itself; there is no other to try.
    pub fn is_fixed(&self) -> bool {
        self.fixed
    }

    /// After a failed connect: is there time for another? Sets the deadline at the first.
    pub fn may_wait(&self, deadline: &mut Option<Instant>) -> bool {
        let now = Instant::now();
        now < *deadline.get_or_insert(now + self.patience)
    }

    /// A connection was made: whoever fails fast may hope again.
    pub fn connected(&self) {
        if self.failing_fast.replace(false) {
            self.count(|metrics| metrics.gate_open.inc());
        }
    }

    fn count(&self, what: impl FnOnce(&BalancerMetrics)) {
        if let Some(metrics) = &self.metrics {
            what(metrics);
        }
    }

    fn choose(&self, now: Instant, avoid: Option<&Rc<Endpoint>>) -> Option<Rc<Endpoint>> {
        let endpoints = self.endpoints.borrow();
        let usable = |endpoint: &Rc<Endpoint>| {
            endpoint.ready_at(now).is_none() && !avoid.is_some_and(|avoid| Rc::ptr_eq(avoid, endpoint))
        };
        let n = endpoints.len();
        if n > 2 {
            // Two at random are nearly always up.
            let a = fastrand::usize(..n);
            let b = (a + fastrand::usize(1..n)) % n;
            if usable(&endpoints[a]) && usable(&endpoints[b]) {
                return Some(better(&endpoints[a], &endpoints[b], now).clone());
            }
        }
        let mut up = endpoints.iter().filter(|endpoint| usable(endpoint));
        match (up.next(), up.next(), up.next()) {
            (None, ..) => avoid
                .filter(|avoid| endpoints.iter().any(|own| Rc::ptr_eq(own, avoid)))
                .filter(|avoid| avoid.ready_at(now).is_none())
                .or_else(|| endpoints.iter().find(|endpoint| endpoint.panic_at(now).is_none()))
                .cloned(),
            (Some(only), None, _) => Some(only.clone()),
            (Some(a), Some(b), None) => Some(better(a, b, now).clone()),
            (Some(_), Some(_), Some(_)) => {
                let up: Vec<_> = endpoints.iter().filter(|endpoint| usable(endpoint)).collect();
                let a = fastrand::usize(..up.len());
                let b = (a + fastrand::usize(1..up.len())) % up.len();
                Some(better(up[a], up[b], now).clone())
            }
        }
    }
}

/// The less loaded of two, or rather: either, in inverse proportion to the square of their loads. Always taking the smaller
/// sends everything to one of two equals for as long as noise in one measurement lasts, because the other is not measured
/// again (seen with Linkerd: shares between 0 and 100 %).
fn better<'a>(a: &'a Rc<Endpoint>, b: &'a Rc<Endpoint>, now: Instant) -> &'a Rc<Endpoint> {
    let (load_a, load_b) = (a.load(now), b.load(now));
    let (a2, b2) = (load_a * load_a, load_b * load_b);
    if fastrand::f64() * (a2 + b2) < b2 { a } else { b }
}

struct Waiting<'a>(&'a Balancer);

impl<'a> Waiting<'a> {
    fn new(balancer: &'a Balancer) -> Waiting<'a> {
        balancer.waiting.set(balancer.waiting.get() + 1);
        balancer.count(|metrics| metrics.queue_length.inc());
        Waiting(balancer)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.set(self.0.waiting.get() - 1);
        self.0.count(|metrics| metrics.queue_length.dec());
    }
}
