//! The gRPC side of OTLP: what the proxies and applications call. Decodes nothing itself; refuses nothing without a count.

use super::{Rejected, Store, otlp, sender};
use crate::{
    grpc::{Caller, Leave},
    rate::Peer,
    standing::Standing,
};
use axum::{
    Router,
    extract::State,
    middleware::{self, Next},
};
use mesh_policy::Tables;
use opentelemetry_proto::tonic::collector::{
    metrics::v1::{
        ExportMetricsPartialSuccess, ExportMetricsServiceRequest, ExportMetricsServiceResponse,
        metrics_service_server::{self, MetricsService, MetricsServiceServer},
    },
    trace::v1::{
        ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{self, TraceService, TraceServiceServer},
    },
};
use opentelemetry_proto::tonic::{resource::v1::Resource, trace::v1::ResourceSpans};
use std::{sync::Arc, time::Instant};
use tokio::sync::watch;
use tonic::{Request, Response, Status};

/// Larger messages are refused before they are decoded (`OUT_OF_RANGE`); compressed ones too, as no encoding is enabled.
const MAX_MESSAGE_BYTES: usize = 4 << 20;

/// The two services, for as long as telemetry is kept here.
pub fn otlp_routes(
    store: Arc<Store>,
    tables: watch::Receiver<Arc<Tables>>,
    standing: watch::Receiver<Standing>,
) -> Router {
    let otlp = Otlp { store, tables };
    let metrics = MetricsServiceServer::new(otlp.clone()).max_decoding_message_size(MAX_MESSAGE_BYTES);
    let spans = TraceServiceServer::new(otlp).max_decoding_message_size(MAX_MESSAGE_BYTES);
    let all_of = |service: &str| format!("/{service}/{{*method}}");
    Router::new()
        .route_service(&all_of(metrics_service_server::SERVICE_NAME), metrics)
        .route_service(&all_of(trace_service_server::SERVICE_NAME), spans)
        .layer(middleware::from_fn_with_state(standing, kept_here))
}

/// A proxy's connection stays with whom it has found once. Where that one has lost the Lease, the proxy has to come anew: its Service
/// leads to who holds it.
async fn kept_here(
    State(standing): State<watch::Receiver<Standing>>,
    request: axum::extract::Request,
    next: Next,
) -> axum::response::Response {
    if !standing.borrow().elsewhere {
        return next.run(request).await;
    }
    let mut response = Status::unavailable("another replica keeps telemetry: connect again").into_http();
    response.extensions_mut().insert(Leave);
    response
}

#[derive(Clone, Debug)]
pub struct Otlp {
    store: Arc<Store>,
    /// Whose a Pod is.
    tables: watch::Receiver<Arc<Tables>>,
}

impl Otlp {
    /// Takes out what is reported for others than its sender. `count`: how much of it there is in a part.
    fn keep_own<T>(
        &self,
        caller: Option<&Caller>,
        parts: &mut Vec<T>,
        resource: fn(&T) -> Option<&Resource>,
        count: fn(&T) -> u64,
    ) -> Rejected {
        let mut rejected = Rejected::default();
        let Some(caller) = caller else { return rejected };
        let identity = caller.identity.as_deref().unwrap_or_default();
        let tables = self.tables.borrow().clone();
        parts.retain(|part| {
            let Some(reason) = sender::doubt(identity, resource(part), &tables) else { return true };
            if self.store.is_foreign(count(part)) {
                tracing::warn!(peer = %caller.addr, reason, "telemetry refused");
            }
            rejected.add(count(part), || reason);
            false
        });
        rejected
    }
}

#[tonic::async_trait]
impl MetricsService for Otlp {
    async fn export(
        &self,
        request: Request<ExportMetricsServiceRequest>,
    ) -> Result<Response<ExportMetricsServiceResponse>, Status> {
        let caller = request.extensions().get::<Caller>().cloned();
        let mut request = request.into_inner();
        let parts = &mut request.resource_metrics;
        let mut rejected = self.keep_own(caller.as_ref(), parts, |part| part.resource.as_ref(), otlp::points);
        let unread = self.store.ingest_metrics(request, super::now_ms());
        rejected.add(unread.count, || unread.reason);
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
        let caller = request.extensions().get::<Caller>().cloned();
        let mut request = request.into_inner();
        let parts = &mut request.resource_spans;
        let mut rejected = self.keep_own(caller.as_ref(), parts, |part| part.resource.as_ref(), spans);
        let over = self.store.limit_spans(&mut request, peer, Instant::now());
        rejected.add(over.count, || over.reason);
        let unread = self.store.ingest_spans(request, super::now_ms());
        rejected.add(unread.count, || unread.reason);
        let partial_success = (rejected.count > 0).then_some(ExportTracePartialSuccess {
            rejected_spans: rejected.count as i64,
            error_message: rejected.reason,
        });
        Ok(Response::new(ExportTraceServiceResponse { partial_success }))
    }
}

fn spans(part: &ResourceSpans) -> u64 {
    part.scope_spans.iter().map(|scope| scope.spans.len() as u64).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::{
        Limits,
        fixture::{Report, span, spans},
    };
    use mesh_policy::{Settings, World};
    use serde_json::json;
    use tower::ServiceExt;

    fn identity(account: &str, namespace: &str) -> String {
        format!("{account}.{namespace}.serviceaccount.identity.mesh.cluster.local")
    }

    fn from<T>(identity: Option<String>, message: T) -> Request<T> {
        let mut request = Request::new(message);
        if let Some(identity) = identity {
            let addr = ([10, 0, 0, 1], 40_000).into();
            request.extensions_mut().insert(Caller { addr, identity: Some(identity.into()) });
        }
        request
    }

    /// Pod `shop/web` runs as `web`; nobody has heard of Pod `shop/new`.
    fn otlp() -> Otlp {
        let pod = json!({
            "metadata": { "name": "web", "namespace": "shop" },
            "spec": { "serviceAccountName": "web", "containers": [{ "name": "a" }] },
            "status": { "podIP": "10.0.0.1" },
        });
        let pods = vec![Arc::new(serde_json::from_value(pod).unwrap())].into();
        let tables = Tables::build(&World { pods, ..World::default() }, &Settings::default());
        let store = Arc::new(Store::new(Limits::default(), None));
        Otlp { store, tables: watch::channel(Arc::new(tables)).1 }
    }

    #[tokio::test]
    async fn who_reports_for_another_pod_is_refused_told_why_and_counted() {
        let web = Some(identity("web", "shop"));
        let other_account = Some(identity("cart", "shop"));
        let other_namespace = Some(identity("web", "bank"));
        for (peer, pod, refused) in [
            (None, "web", 0),
            (web.clone(), "web", 0),
            (other_account.clone(), "web", 1),
            (other_namespace.clone(), "web", 1),
            (other_account, "new", 0),
            (other_namespace, "new", 1),
        ] {
            let otlp = otlp();
            let mut report = Report::of("shop", pod).counter("tcp_open_total", &[], 1);
            report.resource.attributes.retain(|attribute| attribute.key != "mesh.identity");
            let resource = report.resource.clone();
            let answer = MetricsService::export(&otlp, from(peer.clone(), report.request()))
                .await
                .unwrap()
                .into_inner();
            let said = answer.partial_success.unwrap_or_default();
            assert_eq!(said.rejected_data_points, refused, "{peer:?} for {pod}: {said:?}");
            assert_eq!(said.error_message.contains("another's"), refused > 0, "{said:?}");
            assert_eq!(otlp.store.proxies().len() as i64, 1 - refused, "{peer:?} for {pod}");
            let mut spans = spans("shop", pod, vec![span(1, 0, 0, 1), span(2, 1, 0, 1)]);
            spans.resource_spans[0].resource = Some(resource);
            TraceService::export(&otlp, from(peer.clone(), spans)).await.unwrap();
            assert_eq!(otlp.store.usage().foreign as i64, 3 * refused);
        }
    }

    #[tokio::test]
    async fn who_reports_to_a_replica_that_no_longer_keeps_it_is_sent_away() {
        for (elsewhere, status) in [(false, None), (true, Some(tonic::Code::Unavailable as i32))] {
            let Otlp { store, tables } = otlp();
            let standing = watch::channel(Standing { elsewhere, ..Standing::default() }).1;
            let routes = otlp_routes(store, tables, standing);
            let path = format!("/{}/Export", metrics_service_server::SERVICE_NAME);
            // A message of no bytes.
            let request = http::Request::post(path).header("content-type", "application/grpc");
            let request = request.body(axum::body::Body::from(vec![0; 5])).unwrap();
            let response = routes.oneshot(request).await.unwrap();
            let said =
                response.headers().get("grpc-status").map(|own| own.to_str().unwrap().parse().unwrap());
            assert_eq!((said, response.extensions().get::<Leave>().is_some()), (status, elsewhere));
        }
    }

    #[tokio::test]
    async fn who_calls_itself_by_anothers_identity_is_refused() {
        let otlp = otlp();
        // The fixture's proxies say that they are named after their Pods.
        let report = |pod: &str| Report::of("shop", pod).counter("tcp_open_total", &[], 1).request();
        let web = Some(identity("web", "shop"));
        let answer =
            MetricsService::export(&otlp, from(web.clone(), report("new"))).await.unwrap().into_inner();
        let reason = answer.partial_success.unwrap().error_message;
        assert!(reason.contains("reports as new.shop."), "{reason}");
        let answer = MetricsService::export(&otlp, from(web, report("web"))).await.unwrap().into_inner();
        assert_eq!(answer.partial_success, None);
    }
}
