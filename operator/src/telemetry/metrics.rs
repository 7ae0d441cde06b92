//! Every series of every proxy, within bounds: so many series, so many per proxy, so many bytes of points.
//! What does not fit is counted, never silently lost. Time comes in as an argument.

use super::{
    label::{EMPTY, Interner, Key, LABELS, Label, Metric, Symbol, Texts},
    sample::Sample,
    series::{RESOLUTIONS, Series, resolution_for},
};
use ahash::AHashMap;
use std::{collections::BTreeMap, sync::Arc};

/// Steps of a sparkline.
pub const SPARK_STEPS: usize = 30;

/// A proxy that has said nothing for this long is silent.
pub const SILENT_AFTER_MS: u64 = 15_000;

#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub series: usize,
    /// So that one proxy with a label gone wild cannot push the others out.
    pub series_per_proxy: usize,
    pub proxies: usize,
    /// Bytes of points. When they are more, the oldest points of every series go first.
    pub point_bytes: usize,
}

impl Default for Limits {
    /// About 40 MB of series and 96 MB of points when full.
    fn default() -> Self {
        Limits { series: 50_000, series_per_proxy: 4_000, proxies: 10_000, point_bytes: 96 << 20 }
    }
}

/// What a proxy last said of itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Proxy {
    pub namespace: String,
    pub pod: String,
    pub identity: String,
    pub version: String,
    pub start_ms: u64,
    pub last_seen_ms: u64,
    /// End of the last interval that it told of.
    pub counted_until_ns: Option<u64>,
    pub certificate_expires_s: Option<u64>,
    /// Fingerprint of its trust anchors.
    pub anchors: Option<u64>,
    /// Fingerprint of the certificate that signed its own.
    pub issuer: Option<u64>,
    pub memory_bytes: Option<u64>,
}

impl Proxy {
    pub fn is_silent(&self, now_ms: u64) -> bool {
        now_ms.saturating_sub(self.last_seen_ms) > SILENT_AFTER_MS
    }
}

/// What was not stored since start, and why.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Dropped {
    /// Points of series beyond the store's or the proxy's bound.
    pub over_series_limit: u64,
    /// Points that could not be read: unknown name, wrong temporality, negative or not a number.
    pub invalid: u64,
    /// Series that gave way to newer ones before their six hours were over.
    pub evicted_series: u64,
}

#[derive(Debug)]
pub struct Metrics {
    limits: Limits,
    interner: Interner,
    series: AHashMap<Key, Box<Series>>,
    per_proxy: AHashMap<(Symbol, Symbol), usize>,
    proxies: BTreeMap<(String, String), Proxy>,
    pub dropped: Dropped,
    /// How long points are kept now: `RESOLUTIONS`, or less under pressure.
    keep_s: [u32; RESOLUTIONS.len()],
    first_s: Option<u32>,
    tidied_s: u32,
    evicted_s: u32,
    forgot_s: u32,
}

const FULL: [u32; RESOLUTIONS.len()] = [RESOLUTIONS[0].keep_s, RESOLUTIONS[1].keep_s, RESOLUTIONS[2].keep_s];
const TIDY_EVERY_S: u32 = 10;
/// Under pressure a series may go once it has been idle for this long, and a proxy that has been silent.
const EVICT_IDLE_S: u32 = 600;

impl Metrics {
    pub fn new(limits: Limits) -> Metrics {
        Metrics {
            limits,
            interner: Interner::default(),
            series: AHashMap::new(),
            per_proxy: AHashMap::new(),
            proxies: BTreeMap::new(),
            dropped: Dropped::default(),
            keep_s: FULL,
            first_s: None,
            tidied_s: 0,
            evicted_s: 0,
            forgot_s: 0,
        }
    }

    /// Notes that a proxy has reported. `None` when there are too many proxies.
    pub fn proxy(&mut self, namespace: &str, pod: &str, start_ms: u64, now_ms: u64) -> Option<&mut Proxy> {
        self.first_s.get_or_insert((now_ms / 1000) as u32);
        let key = (namespace.to_owned(), pod.to_owned());
        if !self.proxies.contains_key(&key) {
            if self.proxies.len() >= self.limits.proxies && !self.forget_silent(now_ms) {
                return None;
            }
            let proxy = Proxy { namespace: namespace.into(), pod: pod.into(), start_ms, ..Proxy::default() };
            self.proxies.insert(key.clone(), proxy);
        }
        if self.proxies[&key].start_ms != start_ms {
            self.forget_gauges(namespace, pod);
        }
        let proxy = self.proxies.get_mut(&key)?;
        if proxy.start_ms != start_ms {
            (proxy.anchors, proxy.issuer) = (None, None);
        }
        proxy.start_ms = start_ms;
        proxy.last_seen_ms = now_ms;
        Some(proxy)
    }

    /// Makes room among proxies that have been silent for a while; at most every ten seconds, since it walks all. Whether there is some.
    fn forget_silent(&mut self, now_ms: u64) -> bool {
        let now_s = (now_ms / 1_000) as u32;
        if now_s < self.forgot_s + TIDY_EVERY_S {
            return false;
        }
        self.forgot_s = now_s;
        self.proxies
            .retain(|_, proxy| proxy.last_seen_ms / 1_000 + u64::from(EVICT_IDLE_S) > u64::from(now_s));
        self.proxies.len() < self.limits.proxies
    }

    /// A restarted proxy holds no connection of its former life.
    fn forget_gauges(&mut self, namespace: &str, pod: &str) {
        let (Some(namespace), Some(pod)) = (self.interner.find(namespace), self.interner.find(pod)) else {
            return;
        };
        for (key, series) in &mut self.series {
            if key.labels[Label::Namespace as usize] == namespace && key.labels[Label::Pod as usize] == pod {
                series.gauge = 0;
            }
        }
    }

    /// Adds to the series with these labels in second `now_s`. False when its bounds do not allow a new series.
    pub fn add(&mut self, metric: Metric, labels: &[(Label, &str)], sample: &Sample, now_s: u32) -> bool {
        let Some(series) = self.entry(metric, labels, now_s) else { return false };
        series.add(now_s, sample);
        true
    }

    /// Sets a gauge; bounds as for `add`.
    pub fn set(&mut self, metric: Metric, labels: &[(Label, &str)], value: i64, now_s: u32) -> bool {
        let Some(series) = self.entry(metric, labels, now_s) else { return false };
        series.gauge = value;
        series.last = now_s;
        true
    }

    fn entry(&mut self, metric: Metric, labels: &[(Label, &str)], now_s: u32) -> Option<&mut Series> {
        if now_s >= self.tidied_s + TIDY_EVERY_S {
            self.tidy(now_s);
        }
        // Looked up before anything is interned: a refused series must not leave its texts behind.
        let known = self.known_key(metric, labels);
        let key = match known.filter(|key| self.series.contains_key(key)) {
            Some(key) => key,
            None => self.admit(metric, labels, now_s)?,
        };
        self.series.get_mut(&key).map(|series| &mut **series)
    }

    fn known_key(&self, metric: Metric, labels: &[(Label, &str)]) -> Option<Key> {
        let mut key = Key { metric, labels: [EMPTY; LABELS] };
        for (label, value) in labels {
            key.labels[*label as usize] = self.interner.find(value)?;
        }
        Some(key)
    }

    fn admit(&mut self, metric: Metric, labels: &[(Label, &str)], now_s: u32) -> Option<Key> {
        if self.series.len() >= self.limits.series {
            self.evict_idle(now_s);
        }
        let text = |wanted| labels.iter().find(|(label, _)| *label == wanted).map_or("", |(_, value)| *value);
        let of_proxy =
            match (self.interner.find(text(Label::Namespace)), self.interner.find(text(Label::Pod))) {
                (Some(namespace), Some(pod)) => self.per_proxy.get(&(namespace, pod)).copied().unwrap_or(0),
                _ => 0,
            };
        if self.series.len() >= self.limits.series || of_proxy >= self.limits.series_per_proxy {
            self.dropped.over_series_limit += 1;
            return None;
        }
        let mut key = Key { metric, labels: [EMPTY; LABELS] };
        for (label, value) in labels {
            key.labels[*label as usize] = self.interner.intern(value);
        }
        *self.per_proxy.entry(proxy_of(&key)).or_default() += 1;
        self.series.insert(key, Box::default());
        Some(key)
    }

    /// Makes room among series that nobody has added to for a while; at most every ten seconds, since it walks all.
    fn evict_idle(&mut self, now_s: u32) {
        if now_s < self.evicted_s + TIDY_EVERY_S {
            return;
        }
        self.evicted_s = now_s;
        let before = self.series.len();
        self.series.retain(|_, series| series.last + EVICT_IDLE_S > now_s);
        self.dropped.evicted_series += (before - self.series.len()) as u64;
        self.recount();
    }

    /// Forgets what is too old, then as much more as the byte bound demands.
    fn tidy(&mut self, now_s: u32) {
        self.tidied_s = now_s;
        let oldest = now_s.saturating_sub(FULL[FULL.len() - 1]);
        self.series.retain(|_, series| series.last >= oldest);
        self.proxies.retain(|_, proxy| proxy.last_seen_ms / 1000 >= u64::from(oldest));
        self.recount();
        if self.point_bytes() < self.limits.point_bytes / 2 {
            self.keep_s = FULL;
        }
        // The finest points are the most and the least needed later; a floor keeps the windows of the live view.
        const FLOOR: [u32; RESOLUTIONS.len()] = [120, 600, 3_600];
        loop {
            for series in self.series.values_mut() {
                series.trim(now_s, self.keep_s);
            }
            if self.point_bytes() <= self.limits.point_bytes || self.keep_s == FLOOR {
                return;
            }
            for (keep_s, floor) in self.keep_s.iter_mut().zip(FLOOR) {
                *keep_s = (*keep_s / 4 * 3).max(floor);
            }
        }
    }

    fn recount(&mut self) {
        self.interner.retain_used(self.series.keys());
        self.per_proxy.clear();
        for key in self.series.keys() {
            *self.per_proxy.entry(proxy_of(key)).or_default() += 1;
        }
    }

    pub fn proxies(&self) -> Vec<Proxy> {
        self.proxies.values().cloned().collect()
    }

    pub fn point_bytes(&self) -> usize {
        self.series.values().map(|series| series.heap_bytes()).sum()
    }

    pub fn series_count(&self) -> usize {
        self.series.len()
    }

    #[cfg(test)]
    pub fn text_count(&self) -> usize {
        self.interner.len()
    }

    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// How far back the finest points go now.
    pub fn live_s(&self) -> u32 {
        self.keep_s[0]
    }

    /// What happened in the `window_s` full seconds before `now_ms`, and every series that was alive in the last `horizon_s`.
    pub fn snapshot(&self, now_ms: u64, window_s: u32, horizon_s: u32) -> Snapshot {
        let to = (now_ms / 1000) as u32;
        let from = to.saturating_sub(window_s);
        let tier = resolution_for(from, to);
        let mut rows = Vec::new();
        for (key, series) in &self.series {
            if series.last + horizon_s < to && series.last < from {
                continue;
            }
            let mut row =
                Row { key: *key, sample: Sample::default(), gauge: series.gauge, spark: [0.0; SPARK_STEPS] };
            series.steps(tier, from, to, |at, step_s, sample| {
                row.sample.add(sample);
                spread(&mut row.spark, f64::from(at) - f64::from(from), step_s, window_s, sample.count);
            });
            rows.push(row);
        }
        rows.sort_unstable_by_key(|row| row.key);
        let covered_s = self.first_s.map_or(0, |first| to.saturating_sub(first)).clamp(1, window_s);
        Snapshot {
            at_ms: u64::from(to) * 1000,
            window_s,
            covered_s,
            rows,
            texts: self.interner.texts(),
            proxies: self.proxies.values().cloned().collect(),
        }
    }

    /// Successes and failures of the responses that `wanted` selects, in equal steps up to now, oldest first.
    pub fn history(
        &self,
        now_ms: u64,
        window_s: u32,
        step_s: u32,
        wanted: impl Fn(&Labels<'_>) -> bool,
    ) -> Vec<(Sample, Sample)> {
        let to = (now_ms / 1000) as u32 / step_s * step_s;
        let from = to.saturating_sub(window_s);
        let tier = resolution_for(from, (now_ms / 1000) as u32);
        let mut steps = vec![(Sample::default(), Sample::default()); (window_s / step_s) as usize];
        let texts = self.interner.texts();
        for (key, series) in &self.series {
            let labels = Labels { key, texts: &texts };
            if key.metric != Metric::Response || series.last < from || !wanted(&labels) {
                continue;
            }
            let failed = labels.get(Label::Classification) == "failure";
            series.steps(tier, from, to, |at, _, sample| {
                let Some((success, failure)) = steps.get_mut((at.saturating_sub(from) / step_s) as usize)
                else {
                    return;
                };
                if failed { failure.add(sample) } else { success.add(sample) }
            });
        }
        steps
    }
}

fn proxy_of(key: &Key) -> (Symbol, Symbol) {
    (key.labels[Label::Namespace as usize], key.labels[Label::Pod as usize])
}

/// Spreads the count of one step evenly over the parts of the sparkline that it covers.
fn spread(spark: &mut [f32; SPARK_STEPS], at: f64, step_s: u32, window_s: u32, count: u64) {
    let part_s = f64::from(window_s) / SPARK_STEPS as f64;
    let (start, end) = (at.max(0.0), (at + f64::from(step_s)).min(f64::from(window_s)));
    let rate = count as f64 / f64::from(step_s);
    let first = (start / part_s) as usize;
    for (i, part) in spark.iter_mut().enumerate().skip(first) {
        let covered = end.min((i + 1) as f64 * part_s) - start.max(i as f64 * part_s);
        if covered <= 0.0 {
            return;
        }
        *part += (rate * covered / part_s) as f32;
    }
}

/// The labels of one series, readable.
#[derive(Clone, Copy, Debug)]
pub struct Labels<'a> {
    key: &'a Key,
    texts: &'a Texts,
}

impl<'a> Labels<'a> {
    pub fn get(&self, label: Label) -> &'a str {
        self.texts.get(self.key.labels[label as usize])
    }
}

/// One series within one window.
#[derive(Clone, Debug)]
pub struct Row {
    key: Key,
    pub sample: Sample,
    pub gauge: i64,
    /// Per second, oldest first.
    pub spark: [f32; SPARK_STEPS],
}

impl Row {
    pub fn metric(&self) -> Metric {
        self.key.metric
    }
}

/// Every series within one window, free of the store's lock. In the order of their keys, so that two of the same content are equal.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// End of the newest second that is counted.
    pub at_ms: u64,
    pub window_s: u32,
    /// The part of the window since the store's first report: what rates divide by.
    pub covered_s: u32,
    rows: Vec<Row>,
    texts: Arc<Texts>,
    pub proxies: Vec<Proxy>,
}

impl Snapshot {
    /// What the proxies of some namespaces have reported. A part takes no more room than its own.
    pub fn of(&self, namespaces: impl Fn(&str) -> bool) -> Snapshot {
        let of_row =
            |row: &&Row| namespaces(Labels { key: &row.key, texts: &self.texts }.get(Label::Namespace));
        let of_proxy = |proxy: &&Proxy| namespaces(&proxy.namespace);
        Snapshot {
            at_ms: self.at_ms,
            window_s: self.window_s,
            covered_s: self.covered_s,
            rows: self.rows.iter().filter(of_row).cloned().collect(),
            texts: self.texts.clone(),
            proxies: self.proxies.iter().filter(of_proxy).cloned().collect(),
        }
    }

    /// How many rows there is room for.
    #[cfg(test)]
    pub fn row_capacity(&self) -> usize {
        self.rows.capacity()
    }

    pub fn rows(&self) -> impl Iterator<Item = (&Row, Labels<'_>)> {
        self.rows.iter().map(|row| (row, Labels { key: &row.key, texts: &self.texts }))
    }
}
