//! Tells the operator once a second what has changed: metric deltas and spans, by OTLP over gRPC.
//!
//! A delta is the difference between a series' values and those that the operator has confirmed. So a failed push loses
//! nothing. It may have arrived all the same, so it is told again in the same words before anything new: our operator knows by
//! the end of its interval, of which no two are equal, that it has counted them.

mod client;
mod encode;
#[cfg(test)]
mod tests;

use super::{
    SpanQueue, Telemetry,
    metrics::{process, registry::Change},
};
use crate::{
    config,
    control::{backoff::Backoff, calls::Channel},
};
use client::{Client, Failure};
use opentelemetry_proto::tonic::{resource::v1::Resource, trace::v1::Span};
use std::{
    future::Future,
    pin::pin,
    sync::atomic::Ordering::Relaxed,
    time::{Duration, Instant, SystemTime},
};
use tokio::{
    sync::oneshot,
    task::{self, JoinHandle},
    time::{self, MissedTickBehavior},
};

const INTERVAL: Duration = Duration::from_secs(1);
/// A push that takes longer has failed.
const TIMEOUT: Duration = Duration::from_secs(3);
/// How long the last push, at the end of the process, may take.
const FLUSH_TIMEOUT: Duration = Duration::from_millis(500);
/// While the operator is away. Short, so that the picture returns soon after it does.
const BACKOFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(5));
/// Spans per request: below 1 MiB with the longest names and paths.
const MAX_SPANS_PER_PUSH: usize = 1_024;
/// Series per request: with the longest label sets below 2 MiB, of the 4 MiB that gRPC servers take.
const MAX_SERIES_PER_PUSH: usize = 500;
/// Gauges are told again after this long though they have not changed, for an operator that was started anew.
const GAUGES_AGAIN: Duration = Duration::from_secs(15);

/// Who speaks; the same for every push.
#[derive(Clone, Debug)]
pub struct Sender {
    pub namespace: String,
    pub pod: String,
    pub identity: String,
}

impl Sender {
    pub fn of(config: &config::Config) -> Sender {
        let config::Workload { namespace, pod, .. } = &config.workload;
        Sender {
            namespace: namespace.to_string(),
            pod: pod.to_string(),
            identity: config.identity.name.to_string(),
        }
    }
}

/// The running task.
#[derive(Debug)]
pub struct Task {
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Task {
    /// Tells the operator what it does not know yet. For the very end, when nothing is counted any more; takes a second at most.
    pub async fn finish(self) {
        let _ = self.stop.send(());
        let _ = self.task.await;
    }
}

pub fn start(
    telemetry: Telemetry,
    spans: SpanQueue,
    sender: Sender,
    operator: Option<Channel>,
    retain_idle: Duration,
) -> Task {
    let (stop, stopped) = oneshot::channel();
    let task = task::spawn_local(run(telemetry, spans, sender, operator, retain_idle, stopped));
    Task { stop, task }
}

/// Once a second: sweeps the registry and, with an operator to tell, tells it. Ends with a last push after `stop`.
async fn run(
    telemetry: Telemetry,
    spans: SpanQueue,
    sender: Sender,
    operator: Option<Channel>,
    retain_idle: Duration,
    stop: oneshot::Receiver<()>,
) {
    let mut pusher = operator.map(|channel| Pusher::new(telemetry.clone(), spans, &sender, channel));
    let mut ticks = time::interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut stop = pin!(stop);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            _ = &mut stop => break,
        }
        telemetry.registry().sweep(Instant::now(), retain_idle, pusher.is_some());
        if let Some(pusher) = &mut pusher
            && interrupted(pusher.tick(), stop.as_mut()).await
        {
            break;
        }
    }
    if let Some(mut pusher) = pusher {
        let _ = time::timeout(FLUSH_TIMEOUT, pusher.push()).await;
    }
}

/// Runs to the end, but not much longer than `stop`. True when it was stopped.
async fn interrupted(work: impl Future<Output = ()>, stop: impl Future) -> bool {
    let mut work = pin!(work);
    tokio::select! {
        () = &mut work => false,
        _ = stop => {
            // Half-sent is half-confirmed: let it finish if it can.
            let _ = time::timeout(FLUSH_TIMEOUT, work).await;
            true
        }
    }
}

struct Pusher {
    telemetry: Telemetry,
    queue: SpanQueue,
    client: Client,
    resource: Resource,
    backoff: Backoff,
    not_before: Instant,
    /// The last push failed.
    failed: bool,
    /// Until when the operator has been told of metrics.
    told: SystemTime,
    unconfirmed: Option<Told>,
    gauges_told: Option<Instant>,
    /// Taken from the queue, not yet confirmed.
    spans: Vec<Span>,
}

/// What one request says.
struct Told {
    changes: Vec<Change>,
    resident_bytes: Option<u64>,
    since: SystemTime,
    until: SystemTime,
}

impl Pusher {
    fn new(telemetry: Telemetry, queue: SpanQueue, sender: &Sender, channel: Channel) -> Pusher {
        Pusher {
            telemetry,
            queue,
            client: Client::new(channel),
            resource: encode::resource(sender),
            backoff: Backoff::new(BACKOFF.0, BACKOFF.1),
            not_before: Instant::now(),
            failed: false,
            told: process::started().0,
            unconfirmed: None,
            gauges_told: None,
            spans: Vec::new(),
        }
    }

    async fn tick(&mut self) {
        if Instant::now() >= self.not_before {
            self.push().await;
        }
    }

    async fn push(&mut self) {
        let result = match self.push_metrics().await {
            Ok(()) => self.push_spans().await,
            failed => failed,
        };
        let tally = self.telemetry.tally();
        let Err(failure) = result else {
            tally.pushes.fetch_add(1, Relaxed);
            self.backoff.reset();
            if std::mem::take(&mut self.failed) {
                tracing::info!("telemetry: the operator takes it again");
            }
            return;
        };
        tally.pushes_failed.fetch_add(1, Relaxed);
        // An operator that is away is said once, not every few seconds.
        if !std::mem::replace(&mut self.failed, true) {
            tracing::warn!(error = %failure, "telemetry: push failed; kept for the next");
        }
        // It may be another operator that answers next, and it knows no gauge.
        self.gauges_told = None;
        self.not_before = Instant::now() + self.backoff.delay(fastrand::f64());
    }

    async fn push_metrics(&mut self) -> Result<(), Failure> {
        self.tell().await?;
        let all_gauges = self.gauges_told.is_none_or(|told| told.elapsed() >= GAUGES_AGAIN);
        let changes = self.telemetry.registry().changes(all_gauges);
        let mut resident_bytes = process::resident_bytes();
        let since = self.told;
        // At least once, with nothing changed as well: the operator takes it as a sign of life.
        let mut changes = changes.into_iter().peekable();
        loop {
            let batch = changes.by_ref().take(MAX_SERIES_PER_PUSH).collect();
            // The clock may stand still, or be set back.
            self.told = SystemTime::now().max(self.told + Duration::from_nanos(1));
            let resident_bytes = resident_bytes.take();
            self.unconfirmed = Some(Told { changes: batch, resident_bytes, since, until: self.told });
            self.tell().await?;
            if changes.peek().is_none() {
                break;
            }
        }
        if all_gauges {
            self.gauges_told = Some(Instant::now());
        }
        Ok(())
    }

    /// Says what has not been confirmed, if anything.
    async fn tell(&mut self) -> Result<(), Failure> {
        let Some(told) = self.unconfirmed.take() else { return Ok(()) };
        let request =
            encode::metrics(&self.resource, &told.changes, told.resident_bytes, told.since, told.until);
        match self.client.metrics(request, TIMEOUT).await {
            Ok(()) => {}
            Err(failure) => {
                // What was refused has not been counted: it is part of the next difference.
                self.unconfirmed = failure.can_be_tried_again().then_some(told);
                return Err(failure);
            }
        }
        for Change { series, values, .. } in told.changes {
            series.ack(values);
        }
        Ok(())
    }

    /// Empties the queue, a batch at a time.
    async fn push_spans(&mut self) -> Result<(), Failure> {
        loop {
            while self.spans.len() < MAX_SPANS_PER_PUSH {
                let Ok(span) = self.queue.try_recv() else { break };
                self.spans.push(encode::span(span));
            }
            if self.spans.is_empty() {
                return Ok(());
            }
            let request = encode::spans(&self.resource, self.spans.clone());
            match self.client.spans(request, TIMEOUT).await {
                Ok(()) => {}
                Err(failure) if failure.can_be_tried_again() => return Err(failure),
                Err(failure) => {
                    self.telemetry.tally().spans_dropped.fetch_add(self.spans.len() as u64, Relaxed);
                    tracing::warn!(error = %failure, spans = self.spans.len(), "telemetry: spans refused");
                }
            }
            self.spans.clear();
        }
    }
}
