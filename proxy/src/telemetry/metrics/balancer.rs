//! One backend's balancer: which endpoints it has, and who waits for one.

use super::{Family, Gauge, Labels, RareCounter, family, labels::BACKEND, registry::Registry};
use crate::policy::Meta;
use std::sync::Arc;

/// What a balancer's endpoints are chosen for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Carries {
    /// Requests; and connections, where policy leaves it to the first bytes.
    Http,
    /// Connections only.
    Tcp,
}

struct Names {
    endpoints: &'static Family,
    updates: &'static Family,
    queue_length: &'static Family,
    queued: &'static Family,
    gate_open: &'static Family,
    gate_shut: &'static Family,
}

static HTTP: Names = Names {
    endpoints: &family::OUTBOUND_HTTP_BALANCER_ENDPOINTS,
    updates: &family::OUTBOUND_HTTP_BALANCER_P2C_UPDATES_TOTAL,
    queue_length: &family::OUTBOUND_HTTP_BALANCER_QUEUE_LENGTH,
    queued: &family::OUTBOUND_HTTP_BALANCER_QUEUE_REQUESTS_TOTAL,
    gate_open: &family::OUTBOUND_HTTP_BALANCER_QUEUE_GATE_OPEN_TOTAL,
    gate_shut: &family::OUTBOUND_HTTP_BALANCER_QUEUE_GATE_SHUT_TOTAL,
};

static TCP: Names = Names {
    endpoints: &family::OUTBOUND_TCP_BALANCER_ENDPOINTS,
    updates: &family::OUTBOUND_TCP_BALANCER_P2C_UPDATES_TOTAL,
    queue_length: &family::OUTBOUND_TCP_BALANCER_QUEUE_LENGTH,
    queued: &family::OUTBOUND_TCP_BALANCER_QUEUE_REQUESTS_TOTAL,
    gate_open: &family::OUTBOUND_TCP_BALANCER_QUEUE_GATE_OPEN_TOTAL,
    gate_shut: &family::OUTBOUND_TCP_BALANCER_QUEUE_GATE_SHUT_TOTAL,
};

#[derive(Debug)]
pub struct BalancerMetrics {
    ready: Gauge,
    pending: Gauge,
    pub added: RareCounter,
    pub removed: RareCounter,
    /// Requests that wait.
    pub queue_length: Gauge,
    /// A request had to wait.
    pub queued: RareCounter,
    /// There is an endpoint again.
    pub gate_open: RareCounter,
    /// From now on requests fail fast.
    pub gate_shut: RareCounter,
}

impl BalancerMetrics {
    pub(in super::super) fn new(
        registry: &Arc<Registry>,
        backend: &Meta,
        carries: Carries,
    ) -> BalancerMetrics {
        let names = match carries {
            Carries::Http => &HTTP,
            Carries::Tcp => &TCP,
        };
        let labels = Labels::build().with_meta(&BACKEND, Some(backend)).done();
        let endpoints = |state| {
            Gauge::new(registry, names.endpoints, labels.extend().with("endpoint_state", state).done())
        };
        let updates = |op| RareCounter::new(registry, names.updates, labels.extend().with("op", op).done());
        let counter = |family| RareCounter::new(registry, family, labels.clone());
        BalancerMetrics {
            ready: endpoints("ready"),
            pending: endpoints("pending"),
            added: updates("Add"),
            removed: updates("Remove"),
            queue_length: Gauge::new(registry, names.queue_length, labels.clone()),
            queued: counter(names.queued),
            gate_open: counter(names.gate_open),
            gate_shut: counter(names.gate_shut),
        }
    }

    /// Endpoints that may be used, and those that are set aside or cannot be connected to.
    pub fn endpoints(&self, ready: usize, all: usize) {
        self.ready.set(ready as i64);
        self.pending.set((all - ready) as i64);
    }
}
