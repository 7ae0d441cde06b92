//! All series of the proxy: makes them, sums them, forgets them. Their text and their push are `exposition`'s and `otlp`'s.

use super::{Cells, Family, Labels, family::Kind};
use std::{
    collections::{BTreeMap, HashSet},
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

/// Series a proxy holds at most; the rest is counted together under `other="true"`, one series per family and direction.
pub const MAX_SERIES: usize = 2_000;
/// Different `client_ip` values at most; the rest is `other`.
pub const MAX_CLIENT_IPS: usize = 64;
/// A series without a handle is dropped after this long without a change. Linkerd's `METRICS_RETAIN_IDLE`.
pub const RETAIN_IDLE: Duration = Duration::from_secs(600);

#[derive(Debug, Default)]
pub struct Registry {
    shelf: Mutex<Shelf>,
    overflowed: AtomicU64,
}

#[derive(Debug, Default)]
struct Shelf {
    /// Sorted as they are shown.
    series: BTreeMap<(&'static str, Labels), Arc<Series>>,
    client_ips: HashSet<IpAddr>,
}

/// One label set of one family.
#[derive(Debug)]
pub struct Series {
    pub family: &'static Family,
    pub labels: Labels,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// One per handle.
    live: Vec<Cells>,
    /// What dropped handles left behind.
    retired: Vec<u64>,
    /// What the operator has confirmed.
    acked: Vec<u64>,
    /// The sum of all values at the last sweep, and since when it is so. Counters only grow, so that a sum shows every change.
    seen: u64,
    changed: Instant,
}

/// What a series has to tell the operator.
#[derive(Debug)]
pub struct Change {
    pub series: Arc<Series>,
    /// To be confirmed ([`Series::ack`]) when the operator has them.
    pub values: Vec<u64>,
    /// Less what was confirmed before.
    pub delta: Vec<u64>,
}

/// A series' values at one moment, see [`Cells`].
#[derive(Debug, Clone)]
pub struct Sample {
    pub series: Arc<Series>,
    pub values: Vec<u64>,
}

impl Registry {
    /// Cells of its own for a new handle of a series.
    pub(crate) fn cells(&self, family: &'static Family, labels: Labels) -> Cells {
        let cells: Cells = (0..family.width()).map(|_| AtomicU64::new(0)).collect();
        // Both locks are held, so that no sweep can drop the series in between.
        let mut shelf = lock(&self.shelf);
        let series = self.series(&mut shelf, family, labels);
        lock(&series.state).live.push(cells.clone());
        cells
    }

    fn series(&self, shelf: &mut Shelf, family: &'static Family, labels: Labels) -> Arc<Series> {
        let full = shelf.series.len() >= MAX_SERIES;
        let key = (family.name, labels);
        if let Some(series) = shelf.series.get(&key) {
            return series.clone();
        }
        let key = match full {
            false => key,
            true => {
                self.overflowed.fetch_add(1, Relaxed);
                (family.name, key.1.overflow())
            }
        };
        shelf.series.entry(key).or_insert_with_key(|key| Arc::new(Series::new(family, key.1.clone()))).clone()
    }

    /// The address as a label value, or `other` where too many have been seen.
    pub fn client_ip(&self, ip: IpAddr) -> Arc<str> {
        let ips = &mut lock(&self.shelf).client_ips;
        let known = ips.contains(&ip) || (ips.len() < MAX_CLIENT_IPS && ips.insert(ip));
        if known { ip.to_canonical().to_string().into() } else { "other".into() }
    }

    pub fn len(&self) -> usize {
        lock(&self.shelf).series.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How often a series was asked for that did not fit any more.
    pub fn overflowed(&self) -> u64 {
        self.overflowed.load(Relaxed)
    }

    /// Every series, by family and labels. The lock is held for copying pointers only.
    pub fn collect(&self) -> Vec<Sample> {
        let all: Vec<_> = lock(&self.shelf).series.values().cloned().collect();
        all.into_iter().map(|series| Sample { values: series.values(), series }).collect()
    }

    /// What the operator has not confirmed yet, of the families that it is told. `all_gauges`: those that have not changed, too.
    pub fn changes(&self, all_gauges: bool) -> Vec<Change> {
        let pushed = self.collect().into_iter().filter(|sample| sample.series.family.pushed);
        let changes = pushed.filter_map(|Sample { series, values }| {
            let acked = series.acked();
            let again = all_gauges && series.family.kind == Kind::Gauge;
            let delta = values.iter().zip(&acked).map(|(now, then)| now.wrapping_sub(*then)).collect();
            (again || values != acked).then_some(Change { series, values, delta })
        });
        changes.collect()
    }

    /// Folds what dropped handles left behind and forgets series that nobody has touched for `retain` ([`RETAIN_IDLE`] unless
    /// configured). With `pushed`, one that the operator has not yet heard of in full stays.
    pub fn sweep(&self, now: Instant, retain: Duration, pushed: bool) {
        let mut shelf = lock(&self.shelf);
        shelf.series.retain(|_, series| !series.sweep(now, retain, pushed));
        let ips =
            shelf.series.keys().filter_map(|(_, labels)| labels.get("client_ip")?.parse().ok()).collect();
        shelf.client_ips = ips;
    }
}

impl Sample {
    /// How many durations a histogram has seen.
    pub fn count(&self) -> u64 {
        self.values[..self.values.len() - 1].iter().sum()
    }

    /// Their sum.
    pub fn sum_us(&self) -> u64 {
        self.values[self.values.len() - 1]
    }
}

impl Change {
    /// How many durations a histogram has seen since.
    pub fn count(&self) -> u64 {
        self.delta[..self.delta.len() - 1].iter().sum()
    }

    /// Their sum.
    pub fn sum_us(&self) -> u64 {
        self.delta[self.delta.len() - 1]
    }
}

impl Series {
    fn new(family: &'static Family, labels: Labels) -> Series {
        let zero = vec![0; family.width()];
        let state =
            State { live: Vec::new(), retired: zero.clone(), acked: zero, seen: 0, changed: Instant::now() };
        Series { family, labels, state: Mutex::new(state) }
    }

    pub fn values(&self) -> Vec<u64> {
        lock(&self.state).values(self.family)
    }

    /// What the operator has confirmed.
    pub fn acked(&self) -> Vec<u64> {
        lock(&self.state).acked.clone()
    }

    /// The operator has confirmed these values.
    pub fn ack(&self, values: Vec<u64>) {
        lock(&self.state).acked = values;
    }

    /// True when the series can go.
    fn sweep(&self, now: Instant, retain: Duration, pushed: bool) -> bool {
        let mut state = lock(&self.state);
        let State { live, retired, .. } = &mut *state;
        live.retain_mut(|cells| {
            // Sole owner: the handle is gone and its last write is visible.
            let Some(cells) = Arc::get_mut(cells) else { return true };
            if self.family.kind != Kind::Gauge {
                retired
                    .iter_mut()
                    .zip(cells)
                    .for_each(|(sum, cell)| *sum = sum.wrapping_add(*cell.get_mut()));
            }
            false
        });
        let values = state.values(self.family);
        let sum = values.iter().fold(0, |sum: u64, value| sum.wrapping_add(*value));
        if sum != state.seen {
            state.seen = sum;
            state.changed = now;
        }
        let told = !pushed || !self.family.pushed || state.acked == values;
        state.live.is_empty() && told && now.saturating_duration_since(state.changed) >= retain
    }
}

impl State {
    fn values(&self, family: &Family) -> Vec<u64> {
        let mut values = self.retired.clone();
        for cells in &self.live {
            for (value, cell) in values.iter_mut().zip(cells.iter()) {
                let cell = cell.load(Relaxed);
                *value = if family.per_worker_copy { cell.max(*value) } else { value.wrapping_add(cell) };
            }
        }
        values
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
