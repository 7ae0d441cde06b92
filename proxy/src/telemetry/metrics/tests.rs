use super::{
    exposition,
    family::{self, REQUEST_TOTAL},
    http::{Classification, HttpMetrics, Protocol, Response},
    labels::{Direction, InboundLabels, OutboundLabels, PeerTls},
    registry::{MAX_CLIENT_IPS, MAX_SERIES, RETAIN_IDLE},
    *,
};
use crate::{
    policy::Meta,
    telemetry::{Telemetry, Worker},
};
use std::{net::IpAddr, time::Instant};

fn telemetry() -> Telemetry {
    Telemetry::new(0.0, false).0
}

fn meta(kind: &str, name: &str, port: Option<u16>) -> Meta {
    let (group, namespace, section) = ("core".into(), "bookinfo".into(), "".into());
    Meta { group, kind: kind.into(), namespace, name: name.into(), port, section }
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

fn to_ratings(worker: &Worker) -> Rc<HttpMetrics> {
    let (srv, route) = (meta("Service", "ratings", Some(9080)), meta("HTTPRoute", "to-\"ratings\"", None));
    let endpoint = [("pod".into(), "ratings-1".into()), ("control-plane.ns".into(), "mesh".into())];
    worker.outbound_http(&OutboundLabels {
        tls: PeerTls::Identity("ratings.bookinfo.serviceaccount.identity.mesh.cluster.local".into()),
        srv: Some(&srv),
        route: Some(&route),
        backend: Some(&srv),
        endpoint: &endpoint,
    })
}

/// The page without the process's own figures.
fn page(telemetry: &Telemetry) -> String {
    let all = exposition::pages(telemetry).collect::<String>();
    all.split("# HELP mesh_telemetry").next().unwrap().to_owned()
}

/// All labels that [`to_ratings`] gives.
const TO_RATINGS: &str = r#"direction="outbound",tls="true",server_id="ratings.bookinfo.serviceaccount.identity.mesh.cluster.local",srv_group="core",srv_kind="Service",srv_namespace="bookinfo",srv_name="ratings",srv_port="9080",route_group="core",route_kind="HTTPRoute",route_namespace="bookinfo",route_name="to-\"ratings\"",backend_group="core",backend_kind="Service",backend_namespace="bookinfo",backend_name="ratings",backend_port="9080",dst_pod="ratings-1",dst_control_plane_ns="mesh""#;

#[test]
fn the_page_is_prometheus_text() {
    let telemetry = telemetry();
    let worker = telemetry.worker();
    let metrics = to_ratings(&worker);
    metrics.request(Protocol::Http);
    metrics.record(ok(1));
    metrics.record(ok(7));
    let unavailable =
        Response { protocol: Protocol::Grpc, grpc_status: Some(14), error: Some("failfast"), ..ok(60_000) };
    metrics.record(Response { classification: Classification::Failure, ..unavailable });
    worker.http_errors(Direction::Outbound).inc("failfast");
    worker.gauge(&family::OUTBOUND_HTTP_BALANCER_ENDPOINTS, Labels::default()).set(3);
    insta::assert_snapshot!(page(&telemetry).replace(TO_RATINGS, "TO_RATINGS"));
}

#[test]
fn workers_count_into_one_series_and_dropped_handles_stay_counted() {
    let telemetry = telemetry();
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let telemetry = telemetry.clone();
            std::thread::spawn(move || {
                let metrics = to_ratings(&telemetry.worker());
                (0..1_000).for_each(|_| metrics.record(ok(2)));
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    telemetry.registry().sweep(Instant::now(), RETAIN_IDLE, false);
    let samples = telemetry.registry().collect();
    assert_eq!((samples.len(), samples[0].count(), samples[0].sum_us()), (1, 4_000, 8_000_000));
}

#[test]
fn a_series_goes_when_it_is_idle_and_nobody_holds_it() {
    let telemetry = telemetry();
    let metrics = to_ratings(&telemetry.worker());
    metrics.record(ok(2));
    let start = Instant::now();
    let series_after = |seconds| {
        telemetry.registry().sweep(start + Duration::from_secs(seconds), RETAIN_IDLE, false);
        telemetry.registry().len()
    };
    assert_eq!(series_after(700), 1, "held");
    drop(metrics);
    assert_eq!(series_after(1_200), 1, "not idle for long enough");
    assert_eq!(series_after(1_400), 0);
}

#[test]
fn what_the_operator_has_not_heard_of_stays() {
    let telemetry = telemetry();
    to_ratings(&telemetry.worker()).record(ok(2));
    let late = Instant::now() + Duration::from_secs(6_000);
    telemetry.registry().sweep(Instant::now(), RETAIN_IDLE, true);
    telemetry.registry().sweep(late, RETAIN_IDLE, true);
    let samples = telemetry.registry().collect();
    samples[0].series.ack(samples[0].values.clone());
    telemetry.registry().sweep(late, RETAIN_IDLE, true);
    assert_eq!((samples.len(), telemetry.registry().len()), (1, 0));
}

/// reliability.md T21.
#[test]
fn ten_thousand_label_sets_stay_within_the_cap_and_lose_nothing() {
    let telemetry = telemetry();
    let worker = telemetry.worker();
    let handles: Vec<_> = (0..10_000)
        .map(|n| {
            let srv = meta("Service", &format!("service-{n}"), Some(80));
            let tls = PeerTls::Disabled;
            let labels = OutboundLabels { tls, srv: Some(&srv), route: None, backend: None, endpoint: &[] };
            worker.outbound_http(&labels)
        })
        .collect();
    for handle in &handles {
        handle.request(Protocol::Http);
        handle.record(ok(1));
    }
    // Two families, each with one series for the rest.
    assert_eq!(telemetry.registry().len(), MAX_SERIES + 2);
    let samples = telemetry.registry().collect();
    let requests = samples.iter().filter(|s| s.series.family.name == REQUEST_TOTAL.name);
    assert_eq!(requests.map(|s| s.values[0]).sum::<u64>(), 10_000);
    let pages: Vec<_> = exposition::pages(&telemetry).collect();
    assert!(pages.iter().all(|page| page.len() < 200_000));
    let page = pages.concat();
    assert!(page.contains("request_total{direction=\"outbound\",other=\"true\"} 9000"), "{}", &page[..2_000]);
    assert_eq!(page.matches("# TYPE response_latency_ms histogram\n").count(), 1);
    assert_eq!(page.matches("response_latency_ms_count{").count(), 1_001);
}

#[test]
fn strange_answers_of_one_application_share_a_series() {
    let telemetry = telemetry();
    let metrics = to_ratings(&telemetry.worker());
    (100..1_000).for_each(|status| metrics.record(Response { status, ..ok(1) }));
    let samples = telemetry.registry().collect();
    assert_eq!(samples.iter().map(|s| s.count()).sum::<u64>(), 900);
    assert!(samples.len() <= 17, "{}", samples.len());
}

#[test]
fn client_addresses_are_capped_and_freed() {
    let telemetry = telemetry();
    let worker = telemetry.worker();
    let client = |n: u32| {
        let client_ip = IpAddr::from(std::net::Ipv4Addr::from_bits(0x0a00_0000 + n));
        let (tls, srv, route, authz) = (PeerTls::Disabled, None, None, None);
        let metrics = worker.inbound_http(&InboundLabels { tls, client_ip, dst_port: 80, srv, route, authz });
        metrics.request(Protocol::Http);
    };
    (0..1_000).for_each(client);
    assert_eq!(telemetry.registry().len(), MAX_CLIENT_IPS + 1);
    let now = Instant::now();
    telemetry.registry().sweep(now, RETAIN_IDLE, false);
    telemetry.registry().sweep(now + 2 * RETAIN_IDLE, RETAIN_IDLE, false);
    client(5_000);
    assert_eq!(telemetry.registry().collect()[0].series.labels.get("client_ip"), Some("10.0.19.136"));
}

#[test]
fn an_open_connection_counts_until_it_is_dropped() {
    let telemetry = telemetry();
    let labels =
        OutboundLabels { tls: PeerTls::Disabled, srv: None, route: None, backend: None, endpoint: &[] };
    let metrics = telemetry.worker().outbound_tcp(&labels);
    let (first, second) = (metrics.open(), metrics.open());
    first.read(10);
    second.written(20);
    second.failed();
    let page = page(&telemetry);
    let labels = "{direction=\"outbound\",tls=\"disabled\"}";
    for line in [
        format!("tcp_open_connections{labels} 1"),
        format!("tcp_open_total{labels} 2"),
        format!("tcp_read_bytes_total{labels} 10"),
        format!("tcp_write_bytes_total{labels} 20"),
        "tcp_close_total{direction=\"outbound\",tls=\"disabled\",errno=\"error\"} 1".to_owned(),
    ] {
        assert!(page.contains(&line), "{line} in\n{page}");
    }
}

#[test]
fn every_family_is_listed_once() {
    let mut names: Vec<_> = family::ALL.iter().map(|family| family.name).collect();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), family::ALL.len());
    for name in names {
        assert!(family::markdown().contains(&format!("| `{name}` |")), "{name}");
    }
}

#[test]
fn grpc_is_judged_by_its_code() {
    assert_eq!(Classification::of(200, Some(14)), Classification::Failure);
    assert_eq!(Classification::of(200, Some(5)), Classification::Success);
    assert_eq!(Classification::of(404, None), Classification::Success);
    assert_eq!(Classification::of(503, None), Classification::Failure);
}
