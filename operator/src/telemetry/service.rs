//! The gRPC side of OTLP: what the proxies and applications call. Decodes nothing itself; refuses nothing without a count.

use super::Store;
use crate::rate::Peer;
use opentelemetry_proto::tonic::collector::{
    metrics::v1::{
        ExportMetricsPartialSuccess, ExportMetricsServiceRequest, ExportMetricsServiceResponse,
        metrics_service_server::{MetricsService, MetricsServiceServer},
    },
    trace::v1::{
        ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
};
use std::{sync::Arc, time::Instant};
use tonic::{Request, Response, Status};

/// Larger messages are refused before they are decoded (`OUT_OF_RANGE`); compressed ones too, as no encoding is enabled.
const MAX_MESSAGE_BYTES: usize = 4 << 20;

/// The two services to add to the operator's gRPC server.
pub fn otlp_services(store: Arc<Store>) -> (MetricsServiceServer<Otlp>, TraceServiceServer<Otlp>) {
    (
        MetricsServiceServer::new(Otlp(store.clone())).max_decoding_message_size(MAX_MESSAGE_BYTES),
        TraceServiceServer::new(Otlp(store)).max_decoding_message_size(MAX_MESSAGE_BYTES),
    )
}

#[derive(Clone, Debug)]
pub struct Otlp(Arc<Store>);

#[tonic::async_trait]
impl MetricsService for Otlp {
    async fn export(
        &self,
        request: Request<ExportMetricsServiceRequest>,
    ) -> Result<Response<ExportMetricsServiceResponse>, Status> {
        let rejected = self.0.ingest_metrics(request.into_inner(), super::now_ms());
        let partial_success = (rejected.count > 0).then_some(ExportMetricsPartialSuccess {
            rejected_data_points: rejected.count as i64,
            error_message: rejected.reason,
        });
        Ok(Response::new(ExportMetricsServiceResponse { partial_success }))
    }
}

#[tonic::async_trait]
impl TraceService for Otlp {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let peer = Peer::of(&request);
        let mut request = request.into_inner();
        let mut rejected = self.0.limit_spans(&mut request, peer, Instant::now());
        let unread = self.0.ingest_spans(request, super::now_ms());
        rejected.add(unread.count, || unread.reason);
        let partial_success = (rejected.count > 0).then_some(ExportTracePartialSuccess {
            rejected_spans: rejected.count as i64,
            error_message: rejected.reason,
        });
        Ok(Response::new(ExportTraceServiceResponse { partial_success }))
    }
}
