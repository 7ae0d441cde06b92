//! The store against an oracle that keeps everything, and against what no honest sender would send.

use super::{fixture::*, *};
use opentelemetry_proto::tonic::{
    common::v1::{AnyValue, ArrayValue, KeyValue, any_value::Value},
    metrics::v1::{
        AggregationTemporality, Histogram, HistogramDataPoint, Sum, metric::Data, number_data_point,
    },
};
use proptest::prelude::*;

const SMALL: Limits = Limits { series: 1_000, series_per_proxy: 600, proxies: 10, point_bytes: 1 << 20 };

/// Sum of all responses within the last `window_s`, as the store says.
fn sum(metrics: &Metrics, now_ms: u64, window_s: u32) -> Sample {
    let mut sum = Sample::default();
    for (row, _) in metrics.snapshot(now_ms, window_s, 3_600).rows() {
        sum.add(&row.sample);
    }
    sum
}

#[test]
fn a_part_of_a_snapshot_takes_no_more_room_than_its_own() {
    let (mut metrics, now_s) = (Metrics::new(SMALL), (EPOCH_MS / 1000) as u32);
    for pod in 0..100 {
        let (namespace, pod) = (if pod == 0 { "shop" } else { "bank" }, format!("p{pod}"));
        let labels = [(Label::Namespace, namespace), (Label::Pod, pod.as_str())];
        assert!(metrics.add(Metric::Response, &labels, &Sample::of(1), now_s));
    }
    let part = metrics.snapshot(EPOCH_MS + 1_000, 60, 3_600).of(|namespace| namespace == "shop");
    assert_eq!(part.rows().count(), 1);
    assert!(part.row_capacity() < 10, "{}", part.row_capacity());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Sums and quantiles of every window equal those of somebody who kept each observation.
    #[test]
    fn windows_agree_with_an_oracle(events in prop::collection::vec((0u32..40, 0usize..4, 1u32..20, 0.0f64..3_000.0), 1..150)) {
        let pods = ["a", "b", "c", "d"];
        let mut metrics = Metrics::new(SMALL);
        let (mut all, mut now_s) = (Vec::new(), (EPOCH_MS / 1000) as u32);
        for (gap_s, pod, count, ms) in events {
            now_s += gap_s;
            let mut sample = Sample::of(u64::from(count));
            sample.buckets[bucket_of(ms)] = count;
            prop_assert!(metrics.add(Metric::Response, &[(Label::Namespace, "n"), (Label::Pod, pods[pod])], &sample, now_s));
            all.push((now_s, sample));
        }
        let to = now_s + 1;
        for (window_s, step_s) in [(10, 1), (60, 1), (300, 1), (900, 1), (3_600, 10)] {
            let from = (to - window_s + step_s / 2) / step_s * step_s;
            let mut truth = Sample::default();
            for (_, sample) in all.iter().filter(|(at, _)| *at >= from && *at < to) {
                truth.add(sample);
            }
            let seen = sum(&metrics, u64::from(to) * 1000, window_s);
            prop_assert_eq!(seen, truth, "window {}", window_s);
            prop_assert_eq!(seen.quantile_ms(0.99), truth.quantile_ms(0.99));
        }
        let steps = metrics.history(u64::from(to) * 1000, 60, 1, |_| true);
        let counts: Vec<u64> = steps.iter().map(|(success, _)| success.count).collect();
        let truth: Vec<u64> = (to - 60..to).map(|s| all.iter().filter(|(at, _)| *at == s).map(|(_, x)| x.count).sum()).collect();
        prop_assert_eq!(counts, truth);
    }

    /// A sparkline holds as many requests as its window.
    #[test]
    fn sparklines_lose_nothing(seconds in prop::collection::vec(0u64..50, 1..70), window_s in prop::sample::select(vec![10u32, 60, 300, 900])) {
        let mut metrics = Metrics::new(SMALL);
        let start_s = (EPOCH_MS / 1000) as u32;
        for (i, count) in seconds.iter().enumerate() {
            metrics.add(Metric::Response, &[(Label::Pod, "a")], &Sample::of(*count), start_s + i as u32);
        }
        let snapshot = metrics.snapshot(u64::from(start_s) * 1000 + seconds.len() as u64 * 1000, window_s, 3_600);
        for (row, _) in snapshot.rows() {
            let drawn: f32 = row.spark.iter().sum::<f32>() * window_s as f32 / SPARK_STEPS as f32;
            prop_assert!((drawn - row.sample.count as f32).abs() < 0.01 * row.sample.count as f32 + 0.01);
        }
    }
}

#[test]
fn history_reaches_back_six_hours_in_coarser_steps() {
    let mut metrics = Metrics::new(SMALL);
    let start_s = (EPOCH_MS / 1000) as u32 / 60 * 60;
    for second in 0..6 * 3_600 {
        metrics.add(Metric::Response, &[(Label::Pod, "a")], &Sample::of(2), start_s + second);
    }
    let end_ms = u64::from(start_s + 6 * 3_600) * 1000;
    assert_eq!(sum(&metrics, end_ms, 900).count, 1_800);
    assert_eq!(sum(&metrics, end_ms, 3_600).count, 7_200);
    assert_eq!(sum(&metrics, end_ms, 21_000).count, 42_000);
    assert!(metrics.point_bytes() < 40_000, "{}", metrics.point_bytes());
}

#[test]
fn a_million_label_sets_stay_within_the_bounds_and_are_counted() {
    let mut metrics = Metrics::new(SMALL);
    let now_s = (EPOCH_MS / 1000) as u32;
    let mut refused = 0;
    for i in 0..1_000_000u32 {
        let ip = i.to_string();
        let labels = [(Label::Namespace, "n"), (Label::Pod, "one"), (Label::ClientIp, ip.as_str())];
        refused += u64::from(!metrics.add(Metric::Response, &labels, &Sample::of(1), now_s + i / 100_000));
    }
    assert_eq!(metrics.series_count(), SMALL.series_per_proxy);
    assert_eq!(metrics.dropped.over_series_limit, refused);
    assert_eq!(refused, 1_000_000 - SMALL.series_per_proxy as u64);
    assert!(metrics.text_count() <= SMALL.series_per_proxy + 3, "a refused series leaves no text behind");
    // Others still get in, up to the store's own bound.
    for i in 0..1_000 {
        let pod = format!("other-{i}");
        metrics.add(Metric::Response, &[(Label::Namespace, "n"), (Label::Pod, &pod)], &Sample::of(1), now_s);
    }
    assert_eq!(metrics.series_count(), SMALL.series);
}

#[test]
fn idle_series_make_room_for_new_ones() {
    let mut metrics = Metrics::new(SMALL);
    let now_s = (EPOCH_MS / 1000) as u32;
    let add = |metrics: &mut Metrics, i: usize, at_s| {
        let pod = format!("pod-{i}");
        metrics.add(Metric::Response, &[(Label::Namespace, "n"), (Label::Pod, &pod)], &Sample::of(1), at_s)
    };
    for i in 0..1_000 {
        assert!(add(&mut metrics, i, now_s));
    }
    assert!(!add(&mut metrics, 1_000, now_s + 300));
    assert!(add(&mut metrics, 1_001, now_s + 700));
    assert_eq!(metrics.dropped.evicted_series, 1_000);
}

#[test]
fn points_stay_within_their_bytes() {
    let mut metrics = Metrics::new(SMALL);
    let start_s = (EPOCH_MS / 1000) as u32;
    let mut sample = Sample { count: 900, sum_us: 123_456_789, ..Sample::default() };
    sample.buckets = [37; BUCKETS];
    for second in 0..600 {
        for pod in [
            "a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n", "o", "p", "q", "r", "s",
            "t",
        ] {
            for client in ["1", "2", "3"] {
                metrics.add(
                    Metric::Response,
                    &[(Label::Pod, pod), (Label::ClientIp, client)],
                    &sample,
                    start_s + second,
                );
            }
        }
    }
    // Looked at between two tidyings: what came in the meantime is the tenth.
    assert!(metrics.point_bytes() <= SMALL.point_bytes * 11 / 10, "{}", metrics.point_bytes());
    let now_ms = u64::from(start_s + 600) * 1000;
    assert_eq!(sum(&metrics, now_ms, 60).count, 60 * 60 * 900, "the live minute is still whole");
}

/// A proxy whose push got no answer says the same again, to the nanosecond.
#[test]
fn a_repeated_push_is_counted_once() {
    let mut metrics = Metrics::new(SMALL);
    let until = |until_ns| {
        let mut request = Report::of("n", "a").responses(&[("direction", "outbound")], 5, 1.0).request();
        for metric in &mut request.resource_metrics[0].scope_metrics[0].metrics {
            match &mut metric.data {
                Some(Data::Sum(sum)) => sum.data_points[0].time_unix_nano = until_ns,
                Some(Data::Histogram(histogram)) => histogram.data_points[0].time_unix_nano = until_ns,
                other => panic!("{other:?}"),
            }
        }
        request
    };
    for until_ns in [7, 7, 8] {
        assert_eq!(otlp::ingest(&mut metrics, &until(until_ns), EPOCH_MS), Rejected::default());
    }
    assert_eq!(sum(&metrics, EPOCH_MS + 1_000, 60).count, 10);
}

#[test]
fn a_restarted_proxy_has_no_open_connections() {
    let mut metrics = Metrics::new(SMALL);
    let report = Report::of("n", "a").gauge("tcp_open_connections", &[("direction", "outbound")], 3);
    otlp::ingest(&mut metrics, &report.clone().request(), EPOCH_MS);
    let open = |metrics: &Metrics| {
        metrics.snapshot(EPOCH_MS + 1000, 60, 3_600).rows().map(|(row, _)| row.gauge).sum::<i64>()
    };
    assert_eq!(open(&metrics), 3);
    let mut restarted = Report::of("n", "a");
    restarted.resource.attributes.last_mut().unwrap().value = text("", "2000").value;
    otlp::ingest(&mut metrics, &restarted.request(), EPOCH_MS);
    assert_eq!(open(&metrics), 0);
}

#[test]
fn what_a_proxy_says_of_itself_is_kept() {
    let mut metrics = Metrics::new(SMALL);
    let report = Report::of("n", "a")
        .gauge("identity_cert_expiration_timestamp_seconds", &[], 1_800_086_400)
        .gauge("process_resident_memory_bytes", &[], 7_000_000);
    assert_eq!(otlp::ingest(&mut metrics, &report.request(), EPOCH_MS), Rejected::default());
    let snapshot = metrics.snapshot(EPOCH_MS, 60, 3_600);
    let [proxy] = &snapshot.proxies[..] else { panic!("{:?}", snapshot.proxies) };
    assert_eq!((proxy.certificate_expires_s, proxy.memory_bytes), (Some(1_800_086_400), Some(7_000_000)));
    assert_eq!(
        (proxy.version.as_str(), proxy.is_silent(EPOCH_MS + 15_000), proxy.is_silent(EPOCH_MS + 15_001)),
        ("0.1.0", false, true)
    );
}

/// Refused: so many points, with a reason that says this much.
fn refused(report: Report, count: u64, why: &str) {
    let mut metrics = Metrics::new(SMALL);
    let rejected = otlp::ingest(&mut metrics, &report.request(), EPOCH_MS);
    assert_eq!(rejected.count, count, "{rejected:?}");
    assert!(rejected.reason.contains(why), "{rejected:?}");
    assert_eq!(metrics.dropped.invalid, count);
    assert_eq!(sum(&metrics, EPOCH_MS + 1000, 60).count, 0);
}

#[test]
fn malformed_points_are_refused_one_by_one() {
    let report = || Report::of("n", "a");
    let sum = |value, temporality: AggregationTemporality| {
        Data::Sum(Sum {
            data_points: vec![number(&[], value)],
            aggregation_temporality: temporality as i32,
            is_monotonic: true,
        })
    };
    use number_data_point::Value::{AsDouble, AsInt};
    let delta = AggregationTemporality::Delta;
    refused(report().with("response_total", sum(AsInt(-1), delta)), 1, "not negative");
    refused(report().with("response_total", sum(AsDouble(f64::NAN), delta)), 1, "not negative");
    refused(report().with("response_total", sum(AsDouble(f64::INFINITY), delta)), 1, "not negative");
    refused(report().with("response_total", sum(AsInt(1), AggregationTemporality::Cumulative)), 1, "delta");
    refused(report().counter("http_server_requests", &[], 1), 1, "none of the mesh's");
    refused(report().counter(&"x".repeat(1 << 20), &[], 1), 1, "xxx");
    let odd = HistogramDataPoint {
        explicit_bounds: vec![1.0],
        bucket_counts: vec![1, 2],
        ..HistogramDataPoint::default()
    };
    let odd = Histogram { data_points: vec![odd], aggregation_temporality: delta as i32 };
    refused(report().with("response_latency_ms", Data::Histogram(odd)), 1, "buckets");
    let many: Vec<(String, String)> = (0..10_000).map(|i| (format!("k{i}"), String::new())).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    refused(report().counter("response_total", &many, 1), 1, "attributes");
    let mut nameless = report().counter("response_total", &[], 1).counter("tcp_open_total", &[], 1);
    nameless.resource.attributes.clear();
    refused(nameless, 2, "k8s.pod.name");
}

#[test]
fn one_bad_point_does_not_cost_the_others() {
    let mut metrics = Metrics::new(SMALL);
    let report =
        Report::of("n", "a").counter("nonsense", &[], 1).responses(&[("direction", "inbound")], 5, 3.0);
    let rejected = otlp::ingest(&mut metrics, &report.request(), EPOCH_MS);
    assert_eq!((rejected.count, sum(&metrics, EPOCH_MS + 1000, 60).count), (1, 5));
}

#[test]
fn a_label_of_a_megabyte_is_cut() {
    let mut metrics = Metrics::new(SMALL);
    let report = Report::of("n", "a").counter("response_total", &[("route_name", &"é".repeat(1 << 19))], 1);
    assert_eq!(otlp::ingest(&mut metrics, &report.request(), EPOCH_MS).count, 0);
    let snapshot = metrics.snapshot(EPOCH_MS + 1000, 60, 3_600);
    assert_eq!(snapshot.rows().next().unwrap().1.get(Label::RouteName).len(), 256);
}

#[test]
fn a_sender_cannot_speak_for_another_pod() {
    let mut metrics = Metrics::new(SMALL);
    let report = Report::of("n", "a").counter("response_total", &[("namespace", "x"), ("pod", "y")], 1);
    otlp::ingest(&mut metrics, &report.request(), EPOCH_MS);
    let snapshot = metrics.snapshot(EPOCH_MS + 1000, 60, 3_600);
    let labels = snapshot.rows().next().unwrap().1;
    assert_eq!((labels.get(Label::Namespace), labels.get(Label::Pod)), ("n", "a"));
}

#[test]
fn odd_spans_are_refused_or_mended() {
    let mut traces = Traces::new(1 << 20);
    let good = span(1, 0, 0, 10);
    let change = |f: &dyn Fn(&mut opentelemetry_proto::tonic::trace::v1::Span)| {
        let mut span = good.clone();
        f(&mut span);
        span
    };
    let mut deep = AnyValue { value: Some(Value::StringValue("core".into())) };
    for _ in 0..90 {
        deep = AnyValue { value: Some(Value::ArrayValue(ArrayValue { values: vec![deep] })) };
    }
    let large: Vec<KeyValue> = (0..100).map(|i| text(&format!("key-{i}"), &"v".repeat(1 << 20))).collect();
    let refused = vec![
        change(&|span| span.trace_id = vec![0; 16]),
        change(&|span| span.trace_id = vec![1; 8]),
        change(&|span| span.span_id = vec![0; 8]),
        change(&|span| span.span_id = Vec::new()),
        change(&|span| span.start_time_unix_nano = 0),
        change(&|span| span.start_time_unix_nano = u64::MAX),
        change(&|span| span.attributes = vec![KeyValue::default(); 10_000]),
        change(&|span| span.attributes = large.clone()),
    ];
    let count = refused.len() as u64;
    assert_eq!(traces.ingest(&spans("n", "a", refused), EPOCH_MS).count, count);
    assert_eq!((traces.held(), traces.dropped_spans), (0, count));

    let mended = vec![
        change(&|span| span.end_time_unix_nano = 1),
        change(&|span| {
            span.span_id = vec![2; 8];
            span.name = "n".repeat(1 << 20);
            span.parent_span_id = vec![7; 3];
            span.attributes =
                vec![KeyValue { key: "deep".into(), value: Some(deep.clone()), ..KeyValue::default() }];
        }),
    ];
    assert_eq!(traces.ingest(&spans("n", "a", mended), EPOCH_MS).count, 0);
    let trace = traces.get(&[1; 16]).unwrap();
    assert_eq!(trace.spans[0].duration_us, 0);
    assert_eq!((trace.spans[1].name.len(), trace.spans[1].parent), (256, None));
    assert!(trace.spans[1].attributes[0].1.contains('…'));
}

#[test]
fn the_oldest_trace_goes_first_and_is_counted() {
    let mut traces = Traces::new(100_000);
    for i in 0..1_000u32 {
        let mut span = span(1, 0, 0, 10);
        span.trace_id[..4].copy_from_slice(&i.to_be_bytes());
        traces.ingest(&spans("n", "a", vec![span]), EPOCH_MS);
    }
    assert!(traces.bytes() <= 100_000);
    assert_eq!(traces.held() as u64 + traces.dropped_spans, 1_000);
    assert!(traces.newest(1, EPOCH_MS + 1_999).is_empty(), "spans may still be on their way");
    let newest = traces.newest(1, EPOCH_MS + 2_000);
    assert_eq!(newest[0].id[..4], 999u32.to_be_bytes());
}

#[test]
fn a_trace_that_never_ends_is_bounded() {
    let mut traces = Traces::new(64 << 20);
    let endless: Vec<_> = (0..3_000u64)
        .map(|i| {
            let mut span = span(1, 0, 0, 10);
            span.span_id = (i + 1).to_be_bytes().to_vec();
            span
        })
        .collect();
    assert_eq!(traces.ingest(&spans("n", "a", endless), EPOCH_MS).count, 1_000);
}

/// The waterfall as lines: depth by indentation, `*` where critical.
fn drawn(order: &[(u8, u8, u64, u64)]) -> String {
    let mut traces = Traces::new(1 << 20);
    for &(id, parent, start_ms, end_ms) in order {
        traces.ingest(&spans("n", "a", vec![span(id, parent, start_ms, end_ms)]), EPOCH_MS);
    }
    let trace = traces.get(&[1; 16]).unwrap();
    let line = |place: Place| {
        let star = if place.critical { "*" } else { "" };
        format!("{}{}{star}", "-".repeat(place.depth as usize), trace.spans[place.span].id[0])
    };
    waterfall(&trace).into_iter().map(line).collect::<Vec<_>>().join(" ")
}

#[test]
fn traces_are_assembled_from_any_order() {
    // 1 waits for 2, then for 4; 3 runs beside 2 and is not waited for.
    let spans = [(1, 0, 0, 100), (2, 1, 10, 50), (3, 1, 10, 30), (4, 1, 55, 95), (5, 4, 60, 90)];
    let picture = "1* -2* -3 -4* --5*";
    assert_eq!(drawn(&spans), picture);
    let mut reversed = spans;
    reversed.reverse();
    assert_eq!(drawn(&reversed), picture);
    let twice: Vec<_> = spans.iter().chain(&spans).copied().collect();
    assert_eq!(drawn(&twice), picture);
}

#[test]
fn missing_parents_and_circles_still_make_a_waterfall() {
    assert_eq!(drawn(&[(2, 9, 10, 50), (3, 2, 20, 30), (4, 8, 60, 70)]), "2 -3 4*");
    assert_eq!(drawn(&[(1, 2, 0, 50), (2, 1, 10, 40)]), "1* -2*");
    assert_eq!(drawn(&[(1, 1, 0, 50)]), "1*");
}

proptest! {
    #[test]
    fn every_span_is_placed_once(order in prop::collection::vec((1u8..30, 0u8..30, 0u64..100, 0u64..100), 1..60)) {
        let mut traces = Traces::new(1 << 20);
        for (id, parent, start, end) in order {
            traces.ingest(&spans("n", "a", vec![span(id, parent, start, end)]), EPOCH_MS);
        }
        let trace = traces.get(&[1; 16]).unwrap();
        let mut placed: Vec<usize> = waterfall(&trace).iter().map(|place| place.span).collect();
        placed.sort_unstable();
        prop_assert!(placed.into_iter().eq(0..trace.spans.len()));
    }
}

#[test]
fn a_sender_of_too_many_spans_is_held_off_and_others_are_not() {
    use crate::rate::Peer;
    let store = Store::new(Limits::default(), None);
    let (loud, quiet) = (Peer::Host([10, 0, 0, 1].into()), Peer::Host([10, 0, 0, 2].into()));
    let start = Instant::now();
    let send = |peer, count: u64, at| {
        let mut request = spans("n", "a", vec![span(1, 0, 0, 10); count as usize]);
        request.resource_spans.extend(spans("n", "b", vec![span(2, 0, 0, 10)]).resource_spans);
        let rejected = store.limit_spans(&mut request, peer, at);
        let left: usize =
            request.resource_spans.iter().flat_map(|of| &of.scope_spans).map(|of| of.spans.len()).sum();
        assert_eq!(left as u64 + rejected.count, count + 1);
        rejected
    };
    assert_eq!(send(loud, 9_998, start).count, 0);
    let rejected = send(loud, 200_000, start);
    assert_eq!(rejected.count, 200_000);
    assert!(rejected.reason.contains("2500 spans a second"), "{rejected:?}");
    assert_eq!(send(quiet, 999, start).count, 0);
    assert_eq!(send(loud, 2_500, start + std::time::Duration::from_secs(1)).count, 1);
    assert_eq!(store.usage().limited_spans, 200_001, "each is counted");
}

/// CronJobs make Pods all day long, and each is gone in a minute.
#[test]
fn proxies_that_are_long_gone_give_way_to_new_ones() {
    let mut metrics = Metrics::new(SMALL);
    for pod in 0..SMALL.proxies {
        assert!(metrics.proxy("n", &format!("job-{pod}"), 1, EPOCH_MS + pod as u64).is_some());
    }
    let later = EPOCH_MS + 9 * 60_000;
    assert!(metrics.proxy("n", "new", 1, later).is_none(), "they may only be away for a while");
    metrics.proxy("n", "job-0", 1, later);
    let later = later + 2 * 60_000;
    assert!(metrics.proxy("n", "new", 1, later).is_some());
    let pods: Vec<String> = metrics.proxies().into_iter().map(|proxy| proxy.pod).collect();
    assert_eq!(pods, ["job-0", "new"]);
}
