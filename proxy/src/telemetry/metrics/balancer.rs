//! One backend's balancer: which endpoints it has, and who waits for one.

use super::{
    Gauge, Labels, RareCounter,
    family::{
        OUTBOUND_HTTP_BALANCER_ENDPOINTS, OUTBOUND_HTTP_BALANCER_P2C_UPDATES_TOTAL,
        OUTBOUND_HTTP_BALANCER_QUEUE_GATE_OPEN_TOTAL, OUTBOUND_HTTP_BALANCER_QUEUE_GATE_SHUT_TOTAL,
        OUTBOUND_HTTP_BALANCER_QUEUE_LENGTH, OUTBOUND_HTTP_BALANCER_QUEUE_REQUESTS_TOTAL,
    },
    labels::BACKEND,
    registry::Registry,
};
use crate::policy::Meta;
use std::sync::Arc;

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
    pub(in super::super) fn new(registry: &Arc<Registry>, backend: &Meta) -> BalancerMetrics {
        let labels = Labels::build().with_meta(&BACKEND, Some(backend)).done();
        let endpoints = |state| {
            Gauge::new(
                registry,
                &OUTBOUND_HTTP_BALANCER_ENDPOINTS,
                labels.extend().with("endpoint_state", state).done(),
            )
        };
        let updates = |op| {
            let labels = labels.extend().with("op", op).done();
            RareCounter::new(registry, &OUTBOUND_HTTP_BALANCER_P2C_UPDATES_TOTAL, labels)
        };
        let counter = |family| RareCounter::new(registry, family, labels.clone());
        BalancerMetrics {
            ready: endpoints("ready"),
            pending: endpoints("pending"),
            added: updates("Add"),
            removed: updates("Remove"),
            queue_length: Gauge::new(registry, &OUTBOUND_HTTP_BALANCER_QUEUE_LENGTH, labels.clone()),
            queued: counter(&OUTBOUND_HTTP_BALANCER_QUEUE_REQUESTS_TOTAL),
            gate_open: counter(&OUTBOUND_HTTP_BALANCER_QUEUE_GATE_OPEN_TOTAL),
            gate_shut: counter(&OUTBOUND_HTTP_BALANCER_QUEUE_GATE_SHUT_TOTAL),
        }
    }

    /// Endpoints that may be used, and those that are set aside or cannot be connected to.
    pub fn endpoints(&self, ready: usize, all: usize) {
        self.ready.set(ready as i64);
        self.pending.set((all - ready) as i64);
    }
}
