//! The list of all metric families: names, help, labels. Feeds `/metrics`, the push and the reference page, so that none of
//! them can know a family that the others do not.
//!
//! Names and bounds of what Linkerd has too are Linkerd's; what is ours alone starts with `mesh_`.

use mesh_api::names::LATENCY_BOUNDS_MS;
use std::fmt::Write;

#[derive(Debug)]
pub struct Family {
    pub name: &'static str,
    pub help: &'static str,
    pub kind: Kind,
    /// Label names, for the reference page.
    pub labels: &'static [&'static str],
    /// Sent to the operator, too.
    pub pushed: bool,
    /// A gauge of which every worker holds a copy rather than a share: the largest counts, not the sum.
    pub per_worker_copy: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Counter,
    Gauge,
    /// Durations, recorded in microseconds.
    Histogram {
        bounds_us: &'static [u64],
        unit: Unit,
        /// Name of a counter with the same labels and the histogram's count.
        total: Option<&'static str>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    Milliseconds,
    Seconds,
}

impl Unit {
    /// Microseconds in one.
    pub fn us(self) -> f64 {
        match self {
            Unit::Milliseconds => 1e3,
            Unit::Seconds => 1e6,
        }
    }
}

const LATENCY_BOUNDS_US: [u64; LATENCY_BOUNDS_MS.len()] = {
    let mut us = [0; LATENCY_BOUNDS_MS.len()];
    let mut i = 0;
    while i < us.len() {
        us[i] = LATENCY_BOUNDS_MS[i] as u64 * 1_000;
        i += 1;
    }
    us
};

impl Family {
    pub const fn counter(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Family {
        Family { name, help, kind: Kind::Counter, labels, pushed: false, per_worker_copy: false }
    }

    pub const fn gauge(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Family {
        Family { name, help, kind: Kind::Gauge, labels, pushed: false, per_worker_copy: false }
    }

    pub const fn seconds(
        name: &'static str,
        bounds_us: &'static [u64],
        labels: &'static [&'static str],
        help: &'static str,
    ) -> Family {
        let kind = Kind::Histogram { bounds_us, unit: Unit::Seconds, total: None };
        Family { name, help, kind, labels, pushed: false, per_worker_copy: false }
    }

    const fn pushed(self) -> Family {
        Family { pushed: true, ..self }
    }

    const fn per_worker_copy(self) -> Family {
        Family { per_worker_copy: true, ..self }
    }

    pub fn bounds_us(&self) -> &'static [u64] {
        match self.kind {
            Kind::Counter | Kind::Gauge => &[],
            Kind::Histogram { bounds_us, .. } => bounds_us,
        }
    }

    /// How many values a series has.
    pub fn width(&self) -> usize {
        match self.kind {
            Kind::Counter | Kind::Gauge => 1,
            Kind::Histogram { bounds_us, .. } => bounds_us.len() + 2,
        }
    }
}

const PEER: &[&str] = &[
    "direction",
    "protocol",
    "tls",
    "client_id",
    "server_id",
    "client_ip",
    "srv_group",
    "srv_kind",
    "srv_namespace",
    "srv_name",
    "srv_port",
    "route_group",
    "route_kind",
    "route_namespace",
    "route_name",
    "backend_group",
    "backend_kind",
    "backend_namespace",
    "backend_name",
    "backend_port",
    "authz_group",
    "authz_kind",
    "authz_namespace",
    "authz_name",
    "dst_*",
];
const RESPONSE: &[&str] =
    &["those of request_total and", "status_code", "classification", "grpc_status", "error"];
const TCP: &[&str] = &["those of request_total without protocol"];
const TCP_CLOSE: &[&str] = &["those of tcp_open_total and", "errno"];
const AUTHZ: &[&str] = &[
    "srv_group",
    "srv_kind",
    "srv_namespace",
    "srv_name",
    "srv_port",
    "route_group",
    "route_kind",
    "route_namespace",
    "route_name",
    "authz_group",
    "authz_kind",
    "authz_namespace",
    "authz_name",
    "tls",
    "client_id",
    "client_ip",
    "dst_port",
    "audit",
];
const ROUTE: &[&str] = &[
    "parent_group",
    "parent_kind",
    "parent_namespace",
    "parent_name",
    "parent_port",
    "parent_section_name",
    "route_group",
    "route_kind",
    "route_namespace",
    "route_name",
];
const ROUTE_STATUS: &[&str] = &["the route's and", "http_status", "grpc_status", "error"];
const BACKEND: &[&str] = &[
    "the route's and",
    "backend_group",
    "backend_kind",
    "backend_namespace",
    "backend_name",
    "backend_port",
];
const BACKEND_STATUS: &[&str] = &["the backend's and", "http_status", "grpc_status", "error"];
const BALANCER: &[&str] =
    &["backend_group", "backend_kind", "backend_namespace", "backend_name", "backend_port"];
const BALANCER_STATE: &[&str] = &["the backend's and", "endpoint_state"];
const BALANCER_OP: &[&str] = &["the backend's and", "op"];

macro_rules! families {
    ($($name:ident = $family:expr;)*) => {
        $(pub static $name: Family = $family;)*
        /// Every family, as the reference page lists them.
        pub static ALL: &[&Family] = &[$(&$name),*];
    };
}

families! {
    REQUEST_TOTAL = Family::counter("request_total", PEER, "HTTP requests; outbound: every try.");
    RESPONSE_LATENCY_MS = Family {
        name: "response_latency_ms",
        help: "Time from a request's arrival to its response's end, in milliseconds.",
        kind: Kind::Histogram { bounds_us: &LATENCY_BOUNDS_US, unit: Unit::Milliseconds, total: Some("response_total") },
        labels: RESPONSE,
        pushed: true,
        per_worker_copy: false,
    };

    TCP_OPEN_TOTAL = Family::counter("tcp_open_total", TCP, "Opaque connections opened.").pushed();
    TCP_OPEN_CONNECTIONS = Family::gauge("tcp_open_connections", TCP, "Opaque connections that are open.").pushed();
    TCP_READ_BYTES_TOTAL = Family::counter("tcp_read_bytes_total", TCP, "Bytes from client to server on opaque connections.").pushed();
    TCP_WRITE_BYTES_TOTAL = Family::counter("tcp_write_bytes_total", TCP, "Bytes from server to client on opaque connections.").pushed();
    TCP_CLOSE_TOTAL = Family::counter("tcp_close_total", TCP_CLOSE, "Opaque connections closed; `errno` is set where an error ended them.");

    INBOUND_HTTP_AUTHZ_ALLOW_TOTAL = Family::counter("inbound_http_authz_allow_total", AUTHZ, "Requests let in by policy.").pushed();
    INBOUND_HTTP_AUTHZ_DENY_TOTAL = Family::counter("inbound_http_authz_deny_total", AUTHZ, "Requests refused by policy.").pushed();
    INBOUND_HTTP_ROUTE_NOT_FOUND_TOTAL = Family::counter("inbound_http_route_not_found_total", AUTHZ, "Requests that matched no route of their port.");
    INBOUND_HTTP_LOCAL_RATELIMIT_TOTAL = Family::counter("inbound_http_local_ratelimit_total", AUTHZ, "Requests refused by a rate limit.");
    INBOUND_TCP_AUTHZ_ALLOW_TOTAL = Family::counter("inbound_tcp_authz_allow_total", AUTHZ, "Connections let in by policy.").pushed();
    INBOUND_TCP_AUTHZ_DENY_TOTAL = Family::counter("inbound_tcp_authz_deny_total", AUTHZ, "Connections refused by policy.").pushed();
    INBOUND_TCP_AUTHZ_TERMINATE_TOTAL = Family::counter("inbound_tcp_authz_terminate_total", AUTHZ, "Open connections cut because their authorization was withdrawn.");

    INBOUND_HTTP_ERRORS_TOTAL = Family::counter("inbound_http_errors_total", &["error"], "Responses that the proxy made itself, inbound.");
    INBOUND_TCP_ERRORS_TOTAL = Family::counter("inbound_tcp_errors_total", &["error"], "Inbound connections that failed in the proxy.");
    OUTBOUND_HTTP_ERRORS_TOTAL = Family::counter("outbound_http_errors_total", &["error"], "Responses that the proxy made itself, outbound.");
    OUTBOUND_TCP_ERRORS_TOTAL = Family::counter("outbound_tcp_errors_total", &["error"], "Outbound connections that failed in the proxy.");

    OUTBOUND_HTTP_ROUTE_REQUEST_STATUSES_TOTAL = Family::counter("outbound_http_route_request_statuses_total", ROUTE_STATUS, "Responses as the application saw them, retries hidden.");
    OUTBOUND_HTTP_ROUTE_BACKEND_REQUESTS_TOTAL = Family::counter("outbound_http_route_backend_requests_total", BACKEND, "Requests sent to a backend, retries included.");
    OUTBOUND_HTTP_ROUTE_BACKEND_RESPONSE_STATUSES_TOTAL = Family::counter("outbound_http_route_backend_response_statuses_total", BACKEND_STATUS, "Responses of a backend, retries included.");
    OUTBOUND_HTTP_ROUTE_RETRY_REQUESTS_TOTAL = Family::counter("outbound_http_route_retry_requests_total", ROUTE, "Retries sent.");
    OUTBOUND_HTTP_ROUTE_RETRY_SUCCESSES_TOTAL = Family::counter("outbound_http_route_retry_successes_total", ROUTE, "Requests that a retry saved.");
    OUTBOUND_HTTP_ROUTE_RETRY_LIMIT_EXCEEDED_TOTAL = Family::counter("outbound_http_route_retry_limit_exceeded_total", ROUTE, "Requests that failed in their last allowed retry.");
    OUTBOUND_HTTP_ROUTE_RETRY_OVERFLOW_TOTAL = Family::counter("outbound_http_route_retry_overflow_total", ROUTE, "Retries not made because the retry budget was spent or the body too long to keep.");
    OUTBOUND_GRPC_ROUTE_REQUEST_STATUSES_TOTAL = Family::counter("outbound_grpc_route_request_statuses_total", ROUTE_STATUS, "gRPC responses as the application saw them, retries hidden.");
    OUTBOUND_GRPC_ROUTE_BACKEND_REQUESTS_TOTAL = Family::counter("outbound_grpc_route_backend_requests_total", BACKEND, "gRPC requests sent to a backend, retries included.");
    OUTBOUND_GRPC_ROUTE_BACKEND_RESPONSE_STATUSES_TOTAL = Family::counter("outbound_grpc_route_backend_response_statuses_total", BACKEND_STATUS, "gRPC responses of a backend, retries included.");
    OUTBOUND_GRPC_ROUTE_RETRY_REQUESTS_TOTAL = Family::counter("outbound_grpc_route_retry_requests_total", ROUTE, "gRPC retries sent.");
    OUTBOUND_GRPC_ROUTE_RETRY_SUCCESSES_TOTAL = Family::counter("outbound_grpc_route_retry_successes_total", ROUTE, "gRPC requests that a retry saved.");
    OUTBOUND_GRPC_ROUTE_RETRY_LIMIT_EXCEEDED_TOTAL = Family::counter("outbound_grpc_route_retry_limit_exceeded_total", ROUTE, "gRPC requests that failed in their last allowed retry.");
    OUTBOUND_GRPC_ROUTE_RETRY_OVERFLOW_TOTAL = Family::counter("outbound_grpc_route_retry_overflow_total", ROUTE, "gRPC retries not made because the retry budget was spent or the body too long to keep.");

    OUTBOUND_HTTP_BALANCER_ENDPOINTS = Family::gauge("outbound_http_balancer_endpoints", BALANCER_STATE, "Endpoints of a backend by state: `ready` or `pending`.").per_worker_copy();
    OUTBOUND_HTTP_BALANCER_P2C_UPDATES_TOTAL = Family::counter("outbound_http_balancer_p2c_updates_total", BALANCER_OP, "Endpoints added to and removed from a balancer.");
    OUTBOUND_HTTP_BALANCER_QUEUE_LENGTH = Family::gauge("outbound_http_balancer_queue_length", BALANCER, "Requests that wait for an endpoint.");
    OUTBOUND_HTTP_BALANCER_QUEUE_REQUESTS_TOTAL = Family::counter("outbound_http_balancer_queue_requests_total", BALANCER, "Requests that had to wait for an endpoint.");
    OUTBOUND_HTTP_BALANCER_QUEUE_GATE_OPEN_TOTAL = Family::counter("outbound_http_balancer_queue_gate_open_total", BALANCER, "How often a backend became available.");
    OUTBOUND_HTTP_BALANCER_QUEUE_GATE_SHUT_TOTAL = Family::counter("outbound_http_balancer_queue_gate_shut_total", BALANCER, "How often a backend began to fail fast.");
    OUTBOUND_TCP_BALANCER_ENDPOINTS = Family::gauge("outbound_tcp_balancer_endpoints", BALANCER_STATE, "Endpoints of an opaque backend by state: `ready` or `pending`.").per_worker_copy();

    CONTROL_REQUEST_TOTAL = Family::counter("control_request_total", &["addr"], "Requests to the operator.");
    CONTROL_RESPONSE_TOTAL = Family::counter("control_response_total", &["addr", "grpc_status", "classification"], "Ended requests and streams to the operator.");

    IDENTITY_CERT_EXPIRATION_TIMESTAMP_SECONDS = Family::gauge("identity_cert_expiration_timestamp_seconds", &[], "When the proxy's certificate expires, in seconds since 1970; 0 before the first.").pushed().per_worker_copy();
    IDENTITY_CERT_REFRESHES_TOTAL = Family::counter("identity_cert_refreshes_total", &[], "Certificates received.");

    PROXY_BUILD_INFO = Family::gauge("proxy_build_info", &["version", "git_sha", "profile"], "Always 1; its labels say which proxy this is.");
    PROCESS_START_TIME_SECONDS = Family::gauge("process_start_time_seconds", &[], "When the proxy started, in seconds since 1970.");
    PROCESS_UPTIME_SECONDS_TOTAL = Family::counter("process_uptime_seconds_total", &[], "For how long the proxy runs.");
    PROCESS_CPU_SECONDS_TOTAL = Family::counter("process_cpu_seconds_total", &[], "Processor time used, user and system.");
    PROCESS_RESIDENT_MEMORY_BYTES = Family::gauge("process_resident_memory_bytes", &[], "Memory in use (RSS).").pushed();
    PROCESS_VIRTUAL_MEMORY_BYTES = Family::gauge("process_virtual_memory_bytes", &[], "Address space in use.");
    PROCESS_THREADS = Family::gauge("process_threads", &[], "Threads of the proxy.");
    PROCESS_OPEN_FDS = Family::gauge("process_open_fds", &[], "Open file descriptors.");
    PROCESS_MAX_FDS = Family::gauge("process_max_fds", &[], "Most file descriptors that may be open.");

    MESH_TELEMETRY_SERIES = Family::gauge("mesh_telemetry_series", &[], "Series held; 2,000 at most.");
    MESH_TELEMETRY_SERIES_OVERFLOW_TOTAL = Family::counter("mesh_telemetry_series_overflow_total", &[], "How often a series did not fit and was counted under `other=\"true\"`.");
    MESH_TELEMETRY_DROPPED_TOTAL = Family::counter("mesh_telemetry_dropped_total", &["kind"], "Spans and access log lines lost because a queue was full.");
    MESH_TELEMETRY_PUSHES_TOTAL = Family::counter("mesh_telemetry_pushes_total", &["result"], "Pushes of metrics and spans to the operator.");
}

/// The reference page: every family with its kind, labels and meaning.
pub fn markdown() -> String {
    let mut page = String::from(
        "# Proxy metrics\n\n\
        Every proxy serves these at `GET /metrics` of its admin port (4191). Families marked *pushed* also go to the operator, \
        once a second, as OTLP deltas. A label without a value is left out. Label values come from policy, discovery and \
        certificates, never from a request; a proxy holds 2,000 series at most and counts the rest under `other=\"true\"`.\n\n\
        | Name | Kind | Labels | Meaning |\n|---|---|---|---|\n",
    );
    for family in ALL {
        let (kind, more) = match family.kind {
            Kind::Counter => ("counter", String::new()),
            Kind::Gauge => ("gauge", String::new()),
            Kind::Histogram { total: Some(total), .. } => {
                ("histogram", format!(" Its count is also `{total}`."))
            }
            Kind::Histogram { total: None, .. } => ("histogram", String::new()),
        };
        let pushed = if family.pushed { " *pushed*" } else { "" };
        let labels: Vec<String> = family.labels.iter().map(|label| label_cell(label)).collect();
        let _ = writeln!(
            page,
            "| `{}` | {kind}{pushed} | {} | {}{more} |",
            family.name,
            labels.join(" "),
            family.help
        );
    }
    page
}

/// A label name as code; a remark in words (`… as request_total`) as it is.
fn label_cell(label: &str) -> String {
    if label.contains(' ') { format!("({label})") } else { format!("`{label}`") }
}
