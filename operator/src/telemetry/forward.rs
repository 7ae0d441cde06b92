//! Passes every OTLP message on to another collector (`--otlp-forward`). Never in the way: a full queue drops, and counts.

use opentelemetry_proto::tonic::collector::{
    metrics::v1::{ExportMetricsServiceRequest, metrics_service_client::MetricsServiceClient},
    trace::v1::{ExportTraceServiceRequest, trace_service_client::TraceServiceClient},
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::sync::mpsc;
use tonic::transport::{Channel, Endpoint};

/// Messages that wait while the collector is slow: a few seconds of a small mesh, at most some tens of MB.
const QUEUE: usize = 64;
const TIMEOUT: Duration = Duration::from_secs(5);

pub enum Message {
    Metrics(ExportMetricsServiceRequest),
    Spans(ExportTraceServiceRequest),
}

/// The queue's near end. The task behind it ends when this is dropped.
#[derive(Clone, Debug)]
pub struct Forward {
    queue: mpsc::Sender<Message>,
    lost: Arc<AtomicU64>,
}

impl Forward {
    /// Starts forwarding to `http://host:port`; connects when there is something to send, and again after errors.
    pub fn start(target: &str) -> Result<Forward, tonic::transport::Error> {
        let channel = Endpoint::from_shared(target.to_owned())?
            .connect_timeout(TIMEOUT)
            .timeout(TIMEOUT)
            .connect_lazy();
        let (queue, messages) = mpsc::channel(QUEUE);
        let lost = Arc::new(AtomicU64::new(0));
        tokio::spawn(run(messages, channel, target.to_owned(), lost.clone()));
        Ok(Forward { queue, lost })
    }

    pub fn send(&self, message: Message) {
        if self.queue.try_send(message).is_err() {
            self.lost.fetch_add(1, Relaxed);
        }
    }

    /// Messages that did not reach the collector since start.
    pub fn lost(&self) -> u64 {
        self.lost.load(Relaxed)
    }
}

async fn run(mut messages: mpsc::Receiver<Message>, channel: Channel, target: String, lost: Arc<AtomicU64>) {
    let mut metrics = MetricsServiceClient::new(channel.clone());
    let mut traces = TraceServiceClient::new(channel);
    let mut failing = false;
    while let Some(message) = messages.recv().await {
        let sent = match message {
            Message::Metrics(request) => metrics.export(request).await.map(drop),
            Message::Spans(request) => traces.export(request).await.map(drop),
        };
        match sent {
            Ok(()) => failing = false,
            Err(status) => {
                lost.fetch_add(1, Relaxed);
                // Said once per outage, not once per message.
                if !std::mem::replace(&mut failing, true) {
                    tracing::warn!(%target, error = %status.message(), "cannot forward telemetry");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
