//! What the proxy tells: OTLP deltas and spans to the control plane, Prometheus text to whoever asks.

use mesh_tests::{
    client,
    grpc::Code,
    pair::{PORT, Pair, client_pod, server_pod},
    pod::{Proxy, ProxyStart},
    story::run,
    wait::{self, SOON},
};
use opentelemetry_proto::tonic::{
    collector::metrics::v1::ExportMetricsServiceRequest,
    common::v1::{KeyValue, any_value::Value},
    metrics::v1::{AggregationTemporality, metric::Data, number_data_point},
    trace::v1::span::SpanKind,
};

fn text(attributes: &[KeyValue], name: &str) -> Option<String> {
    let value = attributes.iter().find(|attribute| attribute.key == name)?.value.clone()?.value?;
    match value {
        Value::StringValue(text) => Some(text),
        Value::IntValue(number) => Some(number.to_string()),
        other => Some(format!("{other:?}")),
    }
}

/// Sum over all exports of one counter's points with these attributes.
fn counted(exports: &[ExportMetricsServiceRequest], name: &str, attributes: &[(&str, &str)]) -> i64 {
    let mut sum = 0;
    for metric in exports
        .iter()
        .flat_map(|e| &e.resource_metrics)
        .flat_map(|r| &r.scope_metrics)
        .flat_map(|s| &s.metrics)
    {
        let Some(Data::Sum(data)) = &metric.data else { continue };
        if metric.name != name {
            continue;
        }
        assert_eq!(data.aggregation_temporality, AggregationTemporality::Delta as i32, "{name}");
        for point in &data.data_points {
            let matches =
                attributes.iter().all(|(key, value)| text(&point.attributes, key).as_deref() == Some(value));
            if let (true, Some(number_data_point::Value::AsInt(value))) = (matches, point.value) {
                sum += value;
            }
        }
    }
    sum
}

#[test]
fn counters_arrive_as_deltas_with_both_ends_of_the_call() {
    run(async || {
        let pair = Pair::start().await;
        for _ in 0..5 {
            pair.get("/").await.is(200);
        }
        for _ in 0..2 {
            pair.get("/status/503").await.is(503);
        }
        let (client, server) = (client_pod().identity(), server_pod().identity());
        for (what, attributes, expected) in [
            (
                "inbound successes",
                vec![
                    ("direction", "inbound"),
                    ("tls", "true"),
                    ("client_id", client.as_str()),
                    ("classification", "success"),
                    ("status_code", "200"),
                ],
                5,
            ),
            (
                "inbound failures",
                vec![("direction", "inbound"), ("classification", "failure"), ("status_code", "503")],
                2,
            ),
            (
                "outbound successes",
                vec![
                    ("direction", "outbound"),
                    ("tls", "true"),
                    ("server_id", server.as_str()),
                    ("classification", "success"),
                    ("backend_name", "web"),
                ],
                5,
            ),
            ("outbound failures", vec![("direction", "outbound"), ("classification", "failure")], 2),
        ] {
            wait::until(what, SOON, async || {
                match counted(&pair.control_plane.metrics(), "response_total", &attributes) {
                    count if count == expected => Ok(()),
                    count => Err(format!("{count} instead of {expected} with {attributes:?}")),
                }
            })
            .await;
        }
        let exports = pair.control_plane.metrics();
        let resource = exports
            .iter()
            .flat_map(|export| &export.resource_metrics)
            .next()
            .unwrap()
            .resource
            .clone()
            .unwrap();
        assert_eq!(text(&resource.attributes, "k8s.namespace.name").as_deref(), Some("demo"));
        assert!(text(&resource.attributes, "mesh.identity").is_some());
    });
}

#[test]
fn what_could_not_be_sent_is_sent_later() {
    run(async || {
        let pair = Pair::start().await;
        pair.control_plane.refuse_telemetry(Some(Code::Unavailable));
        for _ in 0..7 {
            pair.get("/").await.is(200);
        }
        // Two proxies export each second. Once each has failed twice since, the seven were in what was refused.
        let refused = pair.control_plane.metrics_refused();
        wait::until("exports that fail", SOON, async || {
            match pair.control_plane.metrics_refused() - refused {
                4.. => Ok(()),
                more => Err(more),
            }
        })
        .await;
        pair.control_plane.refuse_telemetry(None);
        wait::until("all seven requests", SOON, async || {
            match counted(&pair.control_plane.metrics(), "response_total", &[("direction", "inbound")]) {
                7 => Ok(()),
                count => Err(count),
            }
        })
        .await;
    });
}

#[test]
fn a_sampled_request_gets_a_client_and_a_server_span_that_hang_together() {
    run(async || {
        let pair = Pair::start().await;
        let mut request = client::to(&format!("http://web.demo:{PORT}/traced?secret=1"));
        let trace = "0af7651916cd43dd8448eb211c80319c";
        request
            .headers_mut()
            .insert("traceparent", format!("00-{trace}-b7ad6b7169203331-01").parse().unwrap());
        pair.send(request).await.is(200);
        let spans = wait::until("two spans", SOON, async || {
            let exports = pair.control_plane.traces();
            let spans: Vec<_> = exports
                .iter()
                .flat_map(|e| &e.resource_spans)
                .flat_map(|r| &r.scope_spans)
                .flat_map(|s| s.spans.clone())
                .collect();
            if spans.len() == 2 { Ok(spans) } else { Err(format!("{} spans", spans.len())) }
        })
        .await;
        let of = |kind: SpanKind| {
            spans.iter().find(|span| span.kind == kind as i32).expect("one span of each kind")
        };
        let (sent, received) = (of(SpanKind::Client), of(SpanKind::Server));
        assert_eq!(hex(&sent.trace_id), trace);
        assert_eq!(hex(&received.trace_id), trace);
        assert_eq!(hex(&sent.parent_span_id), "b7ad6b7169203331");
        assert_eq!(received.parent_span_id, sent.span_id);
        assert_eq!(
            pair.origin.last().header("traceparent"),
            format!("00-{trace}-{}-01", hex(&received.span_id))
        );
        assert_eq!((sent.name.as_str(), received.name.as_str()), ("GET /traced", "GET /traced"));
        assert_eq!(text(&received.attributes, "mesh.peer.identity"), Some(client_pod().identity()));
        assert_eq!(text(&received.attributes, "http.response.status_code").as_deref(), Some("200"));
    });
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn b3_and_jaeger_headers_are_understood_and_passed_on() {
    run(async || {
        let pair = Pair::start().await;
        let trace = "80f198ee56343ba864fe8b2a57d3eff7";
        for (headers, passed) in [
            (vec![("b3", format!("{trace}-e457b5a2e4d86bd1-1"))], "b3"),
            (
                vec![
                    ("x-b3-traceid", trace.into()),
                    ("x-b3-spanid", "e457b5a2e4d86bd1".into()),
                    ("x-b3-sampled", "1".into()),
                ],
                "x-b3-traceid",
            ),
            (vec![("uber-trace-id", format!("{trace}:e457b5a2e4d86bd1:0:1"))], "uber-trace-id"),
        ] {
            let mut request = client::to(&format!("http://web.demo:{PORT}/"));
            for (name, value) in headers {
                request.headers_mut().insert(name, value.parse().unwrap());
            }
            pair.send(request).await.is(200);
            let seen = pair.origin.last();
            assert!(seen.header(passed).contains(trace), "{passed}: {:?}", seen.headers);
        }
    });
}

#[test]
fn a_line_for_each_inbound_request_is_written_where_that_is_asked_for() {
    run(async || {
        let logged = |server: ProxyStart| server.knob("ACCESS_LOG", "json");
        let pair = Pair::start_with(|client| client, logged).await;
        pair.get("/logged?by=us").await.is(200);
        let lines = |proxy: &Proxy| -> Vec<serde_json::Value> {
            proxy.process.log().lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
        };
        let line = wait::until("the line", SOON, async || {
            let found = lines(&pair.server).into_iter().find(|line| line.to_string().contains("/logged"));
            found.ok_or_else(|| pair.server.process.log())
        })
        .await;
        assert_eq!((line["method"].as_str(), line["status"].as_u64()), (Some("GET"), Some(200)), "{line}");
        assert_eq!(line["client.id"], client_pod().identity(), "{line}");
        assert_eq!(lines(&pair.client), [] as [serde_json::Value; 0], "nobody asked this one");
    });
}

#[test]
fn the_metrics_page_has_the_golden_names() {
    run(async || {
        let pair = Pair::start().await;
        for _ in 0..3 {
            pair.get("/").await.is(200);
        }
        let outbound = [r#"direction="outbound""#];
        assert_eq!(pair.client.metric("request_total", &outbound).await, 3.0);
        assert_eq!(
            pair.client.metric("response_total", &[outbound[0], r#"classification="success""#]).await,
            3.0
        );
        assert_eq!(pair.client.metric("response_latency_ms_count", &outbound).await, 3.0);
        let inbound = [r#"direction="inbound""#, r#"tls="true""#];
        assert_eq!(pair.server.metric("response_total", &inbound).await, 3.0);
    });
}
