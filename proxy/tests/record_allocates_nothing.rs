//! Recording a request allocates nothing: the budget of the request path. A binary of its own, because it counts every
//! allocation of the process.
#![allow(unsafe_code)]

use mesh_proxy::telemetry::{
    Telemetry,
    metrics::{
        http::{Classification, Protocol, Response},
        labels::{InboundLabels, PeerTls},
        route::Status,
    },
};
use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    time::Duration,
};

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: every call goes to the system's allocator as it is; counting does not allocate.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller's promise, passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise, passed on.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn recording_allocates_nothing_after_the_first_of_its_kind() {
    let (telemetry, _spans) = Telemetry::new(0.0, false);
    let worker = telemetry.worker();
    let labels = InboundLabels {
        tls: PeerTls::Identity("web.default.serviceaccount.identity.mesh.cluster.local".into()),
        client_ip: [10, 0, 0, 1].into(),
        dst_port: 9080,
        srv: None,
        route: None,
        authz: None,
    };
    let http = worker.inbound_http(&labels);
    let tcp = worker.inbound_tcp(&labels);
    let response = Response {
        protocol: Protocol::Http,
        status: 200,
        grpc_status: None,
        error: None,
        classification: Classification::Success,
        latency: Duration::from_millis(3),
    };
    let meta = mesh_proxy::policy::Meta {
        group: "".into(),
        kind: "default".into(),
        namespace: "".into(),
        name: "web".into(),
        port: None,
        section: "".into(),
    };
    let route = worker.route(Protocol::Http, &meta, &meta);
    let headers = http::HeaderMap::from_iter([(
        http::HeaderName::from_static("traceparent"),
        http::HeaderValue::from_static("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00"),
    )]);
    let record = || {
        http.request(Protocol::Http);
        http.record(response);
        route.statuses.inc(Status { http: Some(200), grpc: None, error: None });
        tcp.open().read(100);
        worker.trace(&headers)
    };
    record();
    let before = ALLOCATIONS.get();
    for _ in 0..1_000 {
        record();
    }
    assert_eq!(ALLOCATIONS.get() - before, 0);
}
