use super::*;
use crate::telemetry::{
    Limits, Store,
    fixture::{EPOCH_MS, Report, span, spans},
};
use opentelemetry_proto::tonic::collector::{
    metrics::v1::{
        ExportMetricsServiceResponse,
        metrics_service_server::{MetricsService, MetricsServiceServer},
    },
    trace::v1::{
        ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
};
use std::net::SocketAddr;
use tokio::{net::TcpListener, time};
use tonic::{Request, Response, Status, transport::server::TcpIncoming};

const DEADLINE: Duration = Duration::from_secs(10);

/// A collector that shows what it gets.
#[derive(Clone)]
struct Sink(mpsc::Sender<Message>);

#[tonic::async_trait]
impl MetricsService for Sink {
    async fn export(
        &self,
        request: Request<ExportMetricsServiceRequest>,
    ) -> Result<Response<ExportMetricsServiceResponse>, Status> {
        self.0.send(Message::Metrics(request.into_inner())).await.unwrap();
        Ok(Response::new(Default::default()))
    }
}

#[tonic::async_trait]
impl TraceService for Sink {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        self.0.send(Message::Spans(request.into_inner())).await.unwrap();
        Ok(Response::new(Default::default()))
    }
}

fn serve(listener: TcpListener) -> mpsc::Receiver<Message> {
    let (got, gets) = mpsc::channel(100);
    let server = tonic::transport::Server::builder()
        .add_service(MetricsServiceServer::new(Sink(got.clone())))
        .add_service(TraceServiceServer::new(Sink(got)));
    tokio::spawn(server.serve_with_incoming(TcpIncoming::from(listener)));
    gets
}

fn store(addr: SocketAddr) -> Store {
    Store::new(Limits::default(), Some(Forward::start(&format!("http://{addr}")).unwrap()))
}

fn report(requests: u64) -> ExportMetricsServiceRequest {
    Report::of("shop", "web").counter("tcp_open_total", &[], requests).request()
}

async fn next(gets: &mut mpsc::Receiver<Message>) -> Message {
    time::timeout(DEADLINE, gets.recv()).await.expect("a message in time").unwrap()
}

async fn until(what: &str, holds: impl Fn() -> bool) {
    let waited = time::timeout(DEADLINE, async {
        let mut look = time::interval(Duration::from_millis(5));
        while !holds() {
            look.tick().await;
        }
    });
    waited.await.expect(what);
}

#[tokio::test]
async fn spans_and_metrics_arrive_as_they_were_sent() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let store = store(listener.local_addr().unwrap());
    let mut gets = serve(listener);
    let sent = spans("shop", "web", vec![span(1, 0, 0, 10), span(2, 1, 2, 8)]);
    store.ingest_metrics(report(3), EPOCH_MS);
    store.ingest_spans(sent.clone(), EPOCH_MS);
    assert!(matches!(next(&mut gets).await, Message::Metrics(got) if got == report(3)));
    assert!(matches!(next(&mut gets).await, Message::Spans(got) if got == sent));
    assert_eq!(store.usage().forward_lost, 0);
}

#[tokio::test]
async fn a_collector_that_is_away_costs_its_messages_and_nothing_else() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    drop(listener);
    let store = store(addr);
    for _ in 0..500 {
        store.ingest_metrics(report(1), EPOCH_MS);
    }
    until("all are counted as lost", || store.usage().forward_lost == 500).await;
    assert_eq!(store.usage().dropped.invalid, 0, "the store itself has them all");
    let mut gets = serve(TcpListener::bind(addr).await.unwrap());
    // It may be asked once more before the new connection stands.
    let mut sent = 0;
    while gets.is_empty() && sent < 1_000 {
        sent += 1;
        store.ingest_metrics(report(7), EPOCH_MS);
        let before = store.usage().forward_lost;
        until("sent or lost", || !gets.is_empty() || store.usage().forward_lost > before).await;
    }
    assert!(matches!(next(&mut gets).await, Message::Metrics(got) if got == report(7)), "it is found again");
}

#[tokio::test]
async fn a_collector_that_does_not_answer_blocks_nobody() {
    // The kernel takes the connection, and nobody ever reads from it.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let store = store(listener.local_addr().unwrap());
    for _ in 0..1_000 {
        store.ingest_metrics(report(1), EPOCH_MS);
    }
    // None of these calls waits, so the forwarder has not even run yet: all beyond its queue are lost.
    assert_eq!(store.usage().forward_lost, 1_000 - QUEUE as u64);
}
