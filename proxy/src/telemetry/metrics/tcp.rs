//! Connections whose bytes are forwarded unread: how many, how much, how they ended.

use super::{
    Counter, Gauge, Labels,
    family::{
        TCP_CLOSE_TOTAL, TCP_OPEN_CONNECTIONS, TCP_OPEN_TOTAL, TCP_READ_BYTES_TOTAL, TCP_WRITE_BYTES_TOTAL,
    },
    registry::Registry,
};
use std::rc::Rc;

/// Connections between one pair of peers. Bytes are counted while they flow, not at the end.
#[derive(Debug)]
pub struct TcpMetrics {
    opened: Counter,
    open: Gauge,
    read: Counter,
    written: Counter,
    closed: Counter,
    failed: Counter,
}

impl TcpMetrics {
    pub(in super::super) fn new(registry: &Registry, labels: Labels) -> TcpMetrics {
        let failed = labels.extend().with("errno", "error").done();
        TcpMetrics {
            opened: Counter::new(registry, &TCP_OPEN_TOTAL, labels.clone()),
            open: Gauge::new(registry, &TCP_OPEN_CONNECTIONS, labels.clone()),
            read: Counter::new(registry, &TCP_READ_BYTES_TOTAL, labels.clone()),
            written: Counter::new(registry, &TCP_WRITE_BYTES_TOTAL, labels.clone()),
            closed: Counter::new(registry, &TCP_CLOSE_TOTAL, labels),
            failed: Counter::new(registry, &TCP_CLOSE_TOTAL, failed),
        }
    }

    /// Counts a connection as open for as long as the guard lives.
    pub fn open(self: &Rc<Self>) -> OpenConnection {
        self.opened.inc();
        self.open.inc();
        OpenConnection { metrics: self.clone(), failed: false }
    }
}

#[derive(Debug)]
pub struct OpenConnection {
    metrics: Rc<TcpMetrics>,
    failed: bool,
}

impl OpenConnection {
    /// Bytes from the client to the server.
    #[inline]
    pub fn read(&self, bytes: u64) {
        self.metrics.read.add(bytes);
    }

    /// Bytes from the server to the client.
    #[inline]
    pub fn written(&self, bytes: u64) {
        self.metrics.written.add(bytes);
    }

    /// The connection ends by an error rather than by both sides' end.
    pub fn failed(mut self) {
        self.failed = true;
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.metrics.open.dec();
        let ended = if self.failed { &self.metrics.failed } else { &self.metrics.closed };
        ended.inc();
    }
}
