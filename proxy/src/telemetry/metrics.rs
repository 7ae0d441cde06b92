//! Counters that one thread writes and the control thread reads.
//!
//! Each handle owns its cells: it adds with a plain load and a plain store (no `lock` prefix, no contention), and the control
//! thread sums the cells of all handles of a series whenever it wants to know. So there is no message per second from the
//! workers, no timer in them, and `/metrics` is exact to the request.

pub mod authz;
pub mod balancer;
pub mod exposition;
pub mod family;
pub mod http;
pub mod labels;
pub mod process;
pub mod registry;
pub mod route;
pub mod tcp;

pub use family::Family;
pub use labels::Labels;

use registry::Registry;
use std::{
    cell::OnceCell,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

/// One value for counters and gauges; for histograms one per bucket, +Inf, and the sum in microseconds.
pub(crate) type Cells = Arc<[AtomicU64]>;

/// Keeps a handle on its thread.
type Local = std::marker::PhantomData<Rc<()>>;

/// The handle is the cell's only writer, so a load and a store do; the reader sees the old or the new value.
#[inline]
fn add(cell: &AtomicU64, n: u64) {
    cell.store(cell.load(Relaxed).wrapping_add(n), Relaxed);
}

#[derive(Debug)]
pub struct Counter {
    cells: Cells,
    _local: Local,
}

impl Counter {
    pub(crate) fn new(registry: &Registry, family: &'static Family, labels: Labels) -> Counter {
        Counter { cells: registry.cells(family, labels), _local: Local::default() }
    }

    #[inline]
    pub fn inc(&self) {
        self.add(1);
    }

    #[inline]
    pub fn add(&self, n: u64) {
        add(&self.cells[0], n);
    }
}

/// A counter whose series comes to be when it first counts: for what is rare, so that it does not fill the registry.
#[derive(Debug)]
pub struct RareCounter {
    registry: Arc<Registry>,
    family: &'static Family,
    labels: Labels,
    counter: OnceCell<Counter>,
}

impl RareCounter {
    pub(crate) fn new(registry: &Arc<Registry>, family: &'static Family, labels: Labels) -> RareCounter {
        RareCounter { registry: registry.clone(), family, labels, counter: OnceCell::new() }
    }

    #[inline]
    pub fn inc(&self) {
        let new = || Counter::new(&self.registry, self.family, self.labels.clone());
        self.counter.get_or_init(new).inc();
    }
}

/// A number that goes up and down; gone from the sum when its handle is dropped.
#[derive(Debug)]
pub struct Gauge {
    cells: Cells,
    _local: Local,
}

impl Gauge {
    pub(crate) fn new(registry: &Registry, family: &'static Family, labels: Labels) -> Gauge {
        Gauge { cells: registry.cells(family, labels), _local: Local::default() }
    }

    #[inline]
    pub fn set(&self, value: i64) {
        self.cells[0].store(value as u64, Relaxed);
    }

    pub fn get(&self) -> i64 {
        self.cells[0].load(Relaxed) as i64
    }

    #[inline]
    pub fn inc(&self) {
        add(&self.cells[0], 1);
    }

    #[inline]
    pub fn dec(&self) {
        add(&self.cells[0], u64::MAX);
    }
}

#[derive(Debug)]
pub struct Histogram {
    cells: Cells,
    bounds_us: &'static [u64],
    _local: Local,
}

impl Histogram {
    pub(crate) fn new(registry: &Registry, family: &'static Family, labels: Labels) -> Histogram {
        let cells = registry.cells(family, labels);
        Histogram { cells, bounds_us: family.bounds_us(), _local: Local::default() }
    }

    #[inline]
    pub fn record(&self, took: Duration) {
        let us = took.as_micros() as u64;
        // A bucket holds what is less than or equal to its bound.
        let bucket = self.bounds_us.partition_point(|bound| *bound < us);
        add(&self.cells[bucket], 1);
        add(&self.cells[self.bounds_us.len() + 1], us);
    }
}

#[cfg(test)]
mod tests;
