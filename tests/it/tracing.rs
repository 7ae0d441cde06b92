//! Item 11: one trace shows BookInfo's whole call tree, in the store and at a sink of ours.

use mesh_api::trace::{Span, SpanKind, Trace, TraceList};
use mesh_tests::{
    bookinfo::BookInfo,
    client,
    control_plane::ControlPlane,
    story::run,
    wait::{self, SOON},
};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use std::collections::BTreeSet;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const READER: &str = "00f067aa0ba902b7";

/// Every span as `kind workload name`, below its parent's.
const TREE: [&str; 8] = [
    "client bookinfo/traffic GET /productpage",
    "client bookinfo/traffic GET /productpage > server bookinfo/productpage-v1 GET /productpage",
    "server bookinfo/productpage-v1 GET /productpage > client bookinfo/productpage-v1 GET /details/0",
    "client bookinfo/productpage-v1 GET /details/0 > server bookinfo/details-v1 GET /details/0",
    "server bookinfo/productpage-v1 GET /productpage > client bookinfo/productpage-v1 GET /reviews/0",
    "client bookinfo/productpage-v1 GET /reviews/0 > server bookinfo/reviews-v2 GET /reviews/0",
    "server bookinfo/reviews-v2 GET /reviews/0 > client bookinfo/reviews-v2 GET /ratings/0",
    "client bookinfo/reviews-v2 GET /ratings/0 > server bookinfo/ratings-v1 GET /ratings/0",
];

/// A reader who is logged in as jason asks for the page, in a trace of the reader's own.
async fn read_page(bookinfo: &BookInfo) {
    let mut request = client::to("http://productpage:9080/productpage");
    request.headers_mut().insert("cookie", "user=jason".parse().unwrap());
    request.headers_mut().insert("traceparent", format!("00-{TRACE}-{READER}-01").parse().unwrap());
    let reader = bookinfo.proxy("traffic").pod.outbound();
    let page = client::send(reader, request).await.unwrap().is(200).text();
    assert!(page.contains("reviews-v2") && !page.contains("class=\"sorry\""), "{page}");
}

fn described(span: &Span) -> String {
    let kind = match span.kind {
        SpanKind::Server => "server",
        SpanKind::Client => "client",
        SpanKind::Internal => "internal",
    };
    format!("{kind} {} {}", span.workload, span.name)
}

fn tree(trace: &Trace) -> BTreeSet<String> {
    let mut tree = BTreeSet::new();
    for span in &trace.spans {
        let parent = trace.spans.iter().find(|other| Some(&other.id) == span.parent.as_ref());
        tree.insert(match parent {
            Some(parent) => format!("{} > {}", described(parent), described(span)),
            None => described(span),
        });
    }
    tree
}

#[test]
fn one_request_is_one_trace_with_the_right_parents_in_the_store() {
    run(async || {
        let bookinfo = BookInfo::start(&[]).await;
        read_page(&bookinfo).await;
        let path = format!("/api/v1/traces/{TRACE}");
        let trace = wait::until("the whole tree", SOON, async || {
            let trace: Trace = mesh_tests::mesh::api(mesh_tests::mesh::Operator::HTTP, &path)
                .await
                .map_err(|e| format!("{e:#}"))?;
            let expected: BTreeSet<String> = TREE.iter().map(|text| (*text).to_owned()).collect();
            let found = tree(&trace);
            if found == expected { Ok(trace) } else { Err(format!("{found:#?}")) }
        })
        .await;
        assert_eq!((trace.summary.spans, trace.summary.errors), (8, 0));
        // A child lies within its parent, give or take what clocks of one machine differ by.
        for span in &trace.spans {
            let Some(parent) = trace.spans.iter().find(|other| Some(&other.id) == span.parent.as_ref())
            else {
                continue;
            };
            let slack_us = 2_000;
            assert!(
                span.start_us + slack_us >= parent.start_us,
                "{} starts before {}",
                described(span),
                described(parent)
            );
            let (end, parent_end) = (span.start_us + span.duration_us, parent.start_us + parent.duration_us);
            assert!(end <= parent_end + slack_us, "{} ends after {}", described(span), described(parent));
            assert_eq!(span.depth, parent.depth + 1);
        }
        let summary = wait::until("the trace in the list", SOON, async || {
            let list: TraceList = bookinfo.operator.api("/api/v1/traces?workload=bookinfo/ratings-v1").await;
            let found = list.traces.iter().find(|summary| summary.id == TRACE).cloned();
            found.ok_or_else(|| format!("{:?}", list.traces))
        })
        .await;
        assert_eq!((summary.name.as_str(), summary.spans), ("GET /productpage", 8));
    });
}

#[test]
fn the_same_spans_reach_an_otlp_sink() {
    run(async || {
        // Any gRPC server of the contract takes OTLP; this one listens where a collector would.
        let sink = ControlPlane::listening("127.0.0.1:4317".parse().unwrap()).await;
        let bookinfo = BookInfo::start(&["--otlp-forward", "http://127.0.0.1:4317"]).await;
        read_page(&bookinfo).await;
        wait::until("eight spans at the sink", SOON, async || {
            let spans = spans(&sink.traces());
            let parents: BTreeSet<_> = spans.iter().map(|(_, parent)| parent.clone()).collect();
            let ids: BTreeSet<_> = spans.iter().map(|(id, _)| id.clone()).collect();
            // All hang together: one parent is the reader's own span, which nobody sent.
            let strangers: Vec<_> = parents.difference(&ids).cloned().collect();
            if ids.len() == 8 && strangers == [READER] { Ok(()) } else { Err(format!("{spans:?}")) }
        })
        .await;
        wait::until("metrics at the sink", SOON, async || {
            (!sink.metrics().is_empty()).then_some(()).ok_or("none")
        })
        .await;
    });
}

/// Ids of the trace's spans with their parents'.
fn spans(exports: &[ExportTraceServiceRequest]) -> Vec<(String, String)> {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let all = exports
        .iter()
        .flat_map(|export| &export.resource_spans)
        .flat_map(|r| &r.scope_spans)
        .flat_map(|s| &s.spans);
    all.filter(|span| hex(&span.trace_id) == TRACE)
        .map(|span| (hex(&span.span_id), hex(&span.parent_span_id)))
        .collect()
}
