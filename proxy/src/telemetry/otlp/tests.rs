//! The pusher against a sink in the same process.

use super::*;
use crate::telemetry::{
    metrics::{
        Labels, family,
        http::{Classification, HttpMetrics, Protocol, Response},
        labels::{OutboundLabels, PeerTls},
    },
    trace::{SpanKind, SpanRecord},
};
use opentelemetry_proto::tonic::{
    collector::{
        metrics::v1::{
            ExportMetricsServiceRequest, ExportMetricsServiceResponse,
            metrics_service_server::{MetricsService, MetricsServiceServer},
        },
        trace::v1::{
            ExportTraceServiceRequest, ExportTraceServiceResponse,
            trace_service_server::{TraceService, TraceServiceServer},
        },
    },
    metrics::v1::{HistogramDataPoint, metric::Data, number_data_point},
};
use std::sync::{Arc, Mutex, atomic::AtomicBool};
use tonic::{Request, Response as Answer, Status, transport::Endpoint};

/// What the operator heard, and what it answers next.
#[derive(Clone, Default)]
struct Sink {
    metrics: Arc<Mutex<Vec<ExportMetricsServiceRequest>>>,
    spans: Arc<Mutex<Vec<Span>>>,
    answer: Arc<Mutex<Option<Status>>>,
    loses_answers: Arc<AtomicBool>,
}

impl Sink {
    fn answers(&self, status: Option<Status>) {
        *self.answer.lock().unwrap() = status;
    }

    /// Counts what it hears, and is not heard itself.
    fn loses_answers(&self, loses: bool) {
        self.loses_answers.store(loses, Relaxed);
    }

    fn refused(&self) -> Result<(), Status> {
        self.answer.lock().unwrap().clone().map_or(Ok(()), Err)
    }

    /// All points of a histogram, in the order of arrival.
    fn histogram(&self, name: &str) -> Vec<HistogramDataPoint> {
        self.all(name)
            .into_iter()
            .flat_map(|data| match data {
                Data::Histogram(histogram) => histogram.data_points,
                other => panic!("{name}: {other:?}"),
            })
            .collect()
    }

    /// All values of a sum or gauge.
    fn numbers(&self, name: &str) -> Vec<i64> {
        let points = self.all(name).into_iter().flat_map(|data| match data {
            Data::Sum(sum) => sum.data_points,
            Data::Gauge(gauge) => gauge.data_points,
            other => panic!("{name}: {other:?}"),
        });
        points
            .map(|point| match point.value {
                Some(number_data_point::Value::AsInt(value)) => value,
                other => panic!("{name}: {other:?}"),
            })
            .collect()
    }

    fn all(&self, name: &str) -> Vec<Data> {
        let requests = self.metrics.lock().unwrap();
        let metrics = requests
            .iter()
            .flat_map(|r| &r.resource_metrics)
            .flat_map(|r| &r.scope_metrics)
            .flat_map(|s| &s.metrics);
        metrics.filter(|metric| metric.name == name).filter_map(|metric| metric.data.clone()).collect()
    }
}

#[tonic::async_trait]
impl MetricsService for Sink {
    async fn export(
        &self,
        request: Request<ExportMetricsServiceRequest>,
    ) -> Result<Answer<ExportMetricsServiceResponse>, Status> {
        self.refused()?;
        self.metrics.lock().unwrap().push(request.into_inner());
        if self.loses_answers.load(Relaxed) {
            return Err(Status::unavailable("the connection broke"));
        }
        Ok(Answer::new(ExportMetricsServiceResponse::default()))
    }
}

#[tonic::async_trait]
impl TraceService for Sink {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Answer<ExportTraceServiceResponse>, Status> {
        self.refused()?;
        let spans =
            request.into_inner().resource_spans.into_iter().flat_map(|r| r.scope_spans).flat_map(|s| s.spans);
        self.spans.lock().unwrap().extend(spans);
        Ok(Answer::new(ExportTraceServiceResponse::default()))
    }
}

/// A pusher that talks to a sink. The connection is a pipe within the process.
fn pusher() -> (Telemetry, Pusher, Sink) {
    let (telemetry, spans) = Telemetry::new(1.0, false);
    let sink = Sink::default();
    let served = sink.clone();
    let connector = tower_service_fn(move || {
        let (ours, theirs) = tokio::io::duplex(64 * 1024);
        let sink = served.clone();
        let serve = hyper::service::service_fn(move |request: http::Request<hyper::body::Incoming>| {
            let sink = sink.clone();
            async move {
                match request.uri().path().contains("MetricsService") {
                    true => tower_service::Service::call(&mut MetricsServiceServer::new(sink), request).await,
                    false => tower_service::Service::call(&mut TraceServiceServer::new(sink), request).await,
                }
            }
        });
        tokio::spawn(
            hyper::server::conn::http2::Builder::new(hyper_util::rt::TokioExecutor::new())
                .serve_connection(hyper_util::rt::TokioIo::new(theirs), serve),
        );
        hyper_util::rt::TokioIo::new(ours)
    });
    let channel = Endpoint::from_static("http://operator").connect_with_connector_lazy(connector);
    let channel = Channel::new(channel, "operator", &telemetry.worker());
    let sender =
        Sender { namespace: "bookinfo".into(), pod: "reviews-1".into(), identity: "reviews.bookinfo".into() };
    let pusher = Pusher::new(telemetry.clone(), spans, &sender, channel);
    (telemetry, pusher, sink)
}

#[derive(Clone)]
struct ServiceFn<F>(F);

fn tower_service_fn<F>(f: F) -> ServiceFn<F> {
    ServiceFn(f)
}

impl<F: FnMut() -> T, T> tower_service::Service<http::Uri> for ServiceFn<F> {
    type Response = T;
    type Error = std::io::Error;
    type Future = std::future::Ready<std::io::Result<T>>;

    fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<std::io::Result<()>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: http::Uri) -> Self::Future {
        std::future::ready(Ok((self.0)()))
    }
}

fn to_ratings(telemetry: &Telemetry) -> std::rc::Rc<HttpMetrics> {
    let endpoint = [
        ("namespace".into(), "bookinfo".into()),
        ("pod".into(), "ratings-1".into()),
        ("zone".into(), "a".into()),
    ];
    telemetry.worker().outbound_http(&OutboundLabels {
        tls: PeerTls::Identity("ratings.bookinfo".into()),
        srv: None,
        route: None,
        backend: None,
        endpoint: &endpoint,
    })
}

fn ok(ms: u64) -> Response {
    Response {
        protocol: Protocol::Http,
        status: 200,
        grpc_status: None,
        error: None,
        classification: Classification::Success,
        latency: Duration::from_millis(ms),
    }
}

fn span(telemetry: &Telemetry) -> SpanRecord {
    SpanRecord {
        context: telemetry.worker().trace(&http::HeaderMap::new()),
        kind: SpanKind::Client,
        start: SystemTime::UNIX_EPOCH + Duration::from_secs(1),
        end: SystemTime::UNIX_EPOCH + Duration::from_secs(2),
        method: http::Method::GET,
        path: "/ratings/0?who=me".into(),
        host: Some("ratings:9080".into()),
        status: Some(503),
        tls: "true",
        peer_identity: Some("ratings.bookinfo".into()),
        route: None,
        backend: Some("bookinfo/ratings:9080".into()),
        retries: 1,
        error: Some("failfast"),
        failed: true,
    }
}

#[tokio::test]
async fn each_push_tells_what_is_new_and_nothing_twice() {
    let (telemetry, mut pusher, sink) = pusher();
    let metrics = to_ratings(&telemetry);
    metrics.record(ok(1));
    metrics.record(ok(70_000));
    pusher.push().await;
    pusher.push().await;
    metrics.record(ok(3));
    pusher.push().await;
    assert_eq!(sink.numbers("response_total"), [2, 1]);
    let points = sink.histogram("response_latency_ms");
    assert_eq!(
        points.iter().map(|p| (p.count, p.sum.unwrap())).collect::<Vec<_>>(),
        [(2, 70_001.0), (1, 3.0)]
    );
    assert_eq!(points[0].explicit_bounds, mesh_api::names::LATENCY_BOUNDS_MS.map(f64::from));
    assert_eq!(
        (points[0].bucket_counts.len(), points[0].bucket_counts[24], points[1].bucket_counts[2]),
        (25, 1, 1)
    );
    assert!(points[0].time_unix_nano < points[1].start_time_unix_nano, "intervals do not overlap");
    let attributes: Vec<_> = points[0].attributes.iter().map(|attribute| attribute.key.as_str()).collect();
    assert_eq!(
        attributes,
        [
            "direction",
            "tls",
            "server_id",
            "dst_namespace",
            "dst_pod",
            "protocol",
            "status_code",
            "classification"
        ]
    );
}

/// Its answer was lost: the operator, which has counted it, must be able to see that this is the same.
#[tokio::test]
async fn a_push_without_an_answer_is_told_again_in_the_same_words() {
    let (telemetry, mut pusher, sink) = pusher();
    let metrics = to_ratings(&telemetry);
    metrics.record(ok(1));
    sink.loses_answers(true);
    pusher.push().await;
    sink.loses_answers(false);
    metrics.record(ok(1));
    pusher.push().await;
    let heard = sink.metrics.lock().unwrap();
    assert_eq!(heard.len(), 3, "the lost one, the same again, and what is new");
    assert_eq!(heard[0], heard[1]);
    assert_ne!(heard[1], heard[2]);
}

#[tokio::test]
async fn a_failed_push_is_made_up_for_by_the_next() {
    let (telemetry, mut pusher, sink) = pusher();
    let metrics = to_ratings(&telemetry);
    let mut recorded = 0;
    for refuse in [false, true, true, false, true, false] {
        sink.answers(refuse.then(|| Status::unavailable("away")));
        for _ in 0..10 {
            metrics.record(ok(1));
            recorded += 1;
        }
        telemetry.worker().span(span(&telemetry));
        pusher.push().await;
    }
    // What failed comes again as it was, then what has come to pass since.
    assert_eq!(sink.numbers("response_total"), [10, 10, 20, 10, 10]);
    assert_eq!(sink.numbers("response_total").iter().sum::<i64>(), recorded);
    assert_eq!(sink.spans.lock().unwrap().len(), 6);
    assert_eq!(telemetry.tally().pushes_failed.load(Relaxed), 3);
}

#[tokio::test]
async fn what_dropped_handles_counted_arrives_too() {
    let (telemetry, mut pusher, sink) = pusher();
    to_ratings(&telemetry).record(ok(1));
    pusher.push().await;
    to_ratings(&telemetry).record(ok(1));
    telemetry.registry().sweep(Instant::now(), Duration::ZERO, true);
    pusher.push().await;
    assert_eq!(sink.numbers("response_total"), [1, 1]);
}

#[tokio::test]
async fn gauges_are_told_when_they_change_and_to_a_new_operator() {
    let (telemetry, mut pusher, sink) = pusher();
    let expires =
        telemetry.worker().gauge(&family::IDENTITY_CERT_EXPIRATION_TIMESTAMP_SECONDS, Labels::default());
    expires.set(5);
    pusher.push().await;
    pusher.push().await;
    expires.set(7);
    pusher.push().await;
    sink.answers(Some(Status::unavailable("restarting")));
    pusher.push().await;
    sink.answers(None);
    pusher.push().await;
    assert_eq!(sink.numbers("identity_cert_expiration_timestamp_seconds"), [5, 7, 7]);
    // Each push that was heard, and the unheard one again.
    assert_eq!(sink.numbers("process_resident_memory_bytes").len(), 5);
}

#[tokio::test]
async fn spans_bear_the_contract() {
    let (telemetry, mut pusher, sink) = pusher();
    telemetry.worker().span(span(&telemetry));
    pusher.push().await;
    let spans = sink.spans.lock().unwrap();
    let span = &spans[0];
    let attributes: Vec<_> = span.attributes.iter().map(|attribute| attribute.key.as_str()).collect();
    assert_eq!(
        attributes,
        [
            "http.request.method",
            "url.path",
            "mesh.tls",
            "server.address",
            "mesh.peer.identity",
            "mesh.backend",
            "error.type",
            "http.response.status_code",
            "mesh.retries",
        ]
    );
    assert_eq!((span.name.as_str(), span.trace_id.len(), span.span_id.len()), ("GET /ratings/0", 16, 8));
    assert_eq!((span.start_time_unix_nano, span.end_time_unix_nano), (1_000_000_000, 2_000_000_000));
}

#[tokio::test]
async fn spans_that_the_operator_will_never_take_are_dropped_and_counted() {
    let (telemetry, mut pusher, sink) = pusher();
    pusher.push().await;
    sink.answers(Some(Status::unimplemented("no traces here")));
    telemetry.worker().span(span(&telemetry));
    let _ = pusher.push_spans().await;
    assert_eq!((pusher.spans.len(), telemetry.tally().spans_dropped.load(Relaxed)), (0, 1));
}

#[tokio::test]
async fn the_queue_is_bounded_and_what_does_not_fit_is_counted() {
    let (telemetry, mut pusher, sink) = pusher();
    let worker = telemetry.worker();
    (0..5_000).for_each(|_| worker.span(span(&telemetry)));
    pusher.push().await;
    assert_eq!(sink.spans.lock().unwrap().len(), 4_096);
    assert_eq!(telemetry.tally().spans_dropped.load(Relaxed), 904);
}

#[tokio::test]
async fn many_changes_go_in_several_requests() {
    let (telemetry, mut pusher, sink) = pusher();
    let worker = telemetry.worker();
    let handles: Vec<_> = (0..1_200)
        .map(|n: u32| {
            let endpoint = [("pod".into(), n.to_string().into())];
            let tls = PeerTls::Disabled;
            worker.outbound_http(&OutboundLabels {
                tls,
                srv: None,
                route: None,
                backend: None,
                endpoint: &endpoint,
            })
        })
        .collect();
    handles.iter().for_each(|handle| handle.record(ok(1)));
    pusher.push().await;
    pusher.push().await;
    assert_eq!(sink.metrics.lock().unwrap().len(), 3 + 1);
    assert_eq!(sink.numbers("response_total").iter().sum::<i64>(), 1_200);
}
