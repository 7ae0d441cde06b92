//! The two OTLP calls, with a deadline and with what their failure means.

use crate::control::calls::Channel;
use opentelemetry_proto::tonic::collector::{
    metrics::v1::{ExportMetricsServiceRequest, metrics_service_client::MetricsServiceClient},
    trace::v1::{ExportTraceServiceRequest, trace_service_client::TraceServiceClient},
};
use std::{fmt, time::Duration};
use tonic::{Code, Status};

pub struct Client {
    metrics: MetricsServiceClient<Channel>,
    traces: TraceServiceClient<Channel>,
}

#[derive(Debug)]
pub struct Failure {
    doing: &'static str,
    status: Status,
}

impl Client {
    pub fn new(channel: Channel) -> Client {
        Client {
            metrics: MetricsServiceClient::new(channel.clone()),
            traces: TraceServiceClient::new(channel),
        }
    }

    pub async fn metrics(
        &mut self,
        request: ExportMetricsServiceRequest,
        within: Duration,
    ) -> Result<(), Failure> {
        let doing = "push metrics";
        let answer = deadline(doing, within, self.metrics.export(request)).await?;
        if let Some(partial) = answer.into_inner().partial_success {
            rejected(doing, partial.rejected_data_points, &partial.error_message);
        }
        Ok(())
    }

    pub async fn spans(
        &mut self,
        request: ExportTraceServiceRequest,
        within: Duration,
    ) -> Result<(), Failure> {
        let doing = "push spans";
        let answer = deadline(doing, within, self.traces.export(request)).await?;
        if let Some(partial) = answer.into_inner().partial_success {
            rejected(doing, partial.rejected_spans, &partial.error_message);
        }
        Ok(())
    }
}

async fn deadline<T>(
    doing: &'static str,
    within: Duration,
    call: impl Future<Output = Result<T, Status>>,
) -> Result<T, Failure> {
    let late = |_| Err(Status::deadline_exceeded(format!("no answer within {within:?}")));
    tokio::time::timeout(within, call).await.unwrap_or_else(late).map_err(|status| Failure { doing, status })
}

/// Sending it again would not help: the receiver has said what it does not take.
fn rejected(doing: &'static str, count: i64, reason: &str) {
    if count > 0 {
        tracing::debug!(count, reason, "telemetry: {doing}: partly rejected");
    }
}

impl Failure {
    /// As the OTLP specification has it ("Failures").
    pub fn can_be_tried_again(&self) -> bool {
        match self.status.code() {
            Code::Cancelled
            | Code::DeadlineExceeded
            | Code::Aborted
            | Code::OutOfRange
            | Code::Unavailable
            | Code::DataLoss
            | Code::ResourceExhausted
            // tonic's word for a connection that broke.
            | Code::Unknown => true,
            Code::Ok
            | Code::InvalidArgument
            | Code::NotFound
            | Code::AlreadyExists
            | Code::PermissionDenied
            | Code::FailedPrecondition
            | Code::Unimplemented
            | Code::Internal
            | Code::Unauthenticated => false,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {:?}: {}", self.doing, self.status.code(), self.status.message())
    }
}
