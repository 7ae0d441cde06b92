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
    /// For the reference page.
    pub labels: &'static [Part],
    /// Sent to the operator, too.
    pub pushed: bool,
    /// A gauge of which every worker holds a copy rather than a share: the largest counts, not the sum.
    pub per_worker_copy: bool,
}

/// Labels of a family.
#[derive(Debug)]
pub enum Part {
    /// Many families have these.
    Shared(&'static Shared),
    One(&'static str),
}

/// Labels that go together, with what they say.
#[derive(Debug)]
pub struct Shared {
    pub title: &'static str,
    pub labels: &'static [(&'static str, &'static str)],
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
    pub const fn counter(name: &'static str, labels: &'static [Part], help: &'static str) -> Family {
        Family { name, help, kind: Kind::Counter, labels, pushed: false, per_worker_copy: false }
    }

    pub const fn gauge(name: &'static str, labels: &'static [Part], help: &'static str) -> Family {
        Family { name, help, kind: Kind::Gauge, labels, pushed: false, per_worker_copy: false }
    }

    pub const fn milliseconds(
        name: &'static str,
        total: &'static str,
        labels: &'static [Part],
        help: &'static str,
    ) -> Family {
        let kind =
            Kind::Histogram { bounds_us: &LATENCY_BOUNDS_US, unit: Unit::Milliseconds, total: Some(total) };
        Family { name, help, kind, labels, pushed: false, per_worker_copy: false }
    }

    pub const fn seconds(
        name: &'static str,
        bounds_us: &'static [u64],
        labels: &'static [Part],
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

static PEER: Shared = Shared {
    title: "peer",
    labels: &[
        ("direction", "`inbound`: to our application; `outbound`: from it"),
        ("tls", "`true`: mutual TLS; `no_identity`: TLS without a client certificate; `disabled`: plaintext"),
        ("client_id", "inbound: the identity in the client's certificate"),
        ("client_ip", "inbound: the address of a client without identity; `other` after 64 of them"),
        ("server_id", "outbound: the identity in the server's certificate"),
        (
            "srv_group, srv_kind, srv_namespace, srv_name, srv_port",
            "the Service (outbound) or the port's policy (inbound)",
        ),
        (
            "route_group, route_kind, route_namespace, route_name, route_section_name",
            "the route that matched; kind `default` where there is none; the section is the rule, where the operator names it",
        ),
        (
            "backend_group, backend_kind, backend_namespace, backend_name, backend_port",
            "outbound: the route's backend",
        ),
        ("authz_group, authz_kind, authz_namespace, authz_name", "inbound: what allowed it"),
        ("dst_port", "inbound: the application's port"),
        ("dst_*", "outbound: what discovery says of the endpoint, as `dst_namespace`, `dst_pod`"),
    ],
};
static AUTHZ: Shared = Shared {
    title: "authorization",
    labels: &[
        (
            "tls, client_id, client_ip, srv_*, route_*, authz_*, dst_port",
            "as *peer* has them; without `authz_*` where nothing allowed it",
        ),
        ("audit", "`true` where only an audit allowed it"),
    ],
};
static ROUTE: Shared = Shared {
    title: "route",
    labels: &[
        (
            "parent_group, parent_kind, parent_namespace, parent_name, parent_port, parent_section_name",
            "the Service that the route belongs to",
        ),
        ("route_group, route_kind, route_namespace, route_name", "the route"),
    ],
};
static BACKEND: Shared = Shared {
    title: "backend",
    labels: &[(
        "backend_group, backend_kind, backend_namespace, backend_name, backend_port",
        "the Service that requests are sent to",
    )],
};
static STATUS: Shared = Shared {
    title: "status",
    labels: &[("http_status, grpc_status", "the response's"), ("error", "why the proxy made the response")],
};

const PEERS_PROTOCOL: &[Part] = &[Part::Shared(&PEER), Part::One("protocol")];
const RESPONSE: &[Part] = &[
    Part::Shared(&PEER),
    Part::One("protocol"),
    Part::One("status_code"),
    Part::One("classification"),
    Part::One("grpc_status"),
    Part::One("error"),
];
const TCP: &[Part] = &[Part::Shared(&PEER)];
const TCP_CLOSE: &[Part] = &[Part::Shared(&PEER), Part::One("errno")];
const AUTHZS: &[Part] = &[Part::Shared(&AUTHZ)];
const ERROR: &[Part] = &[Part::One("error")];
const ROUTES: &[Part] = &[Part::Shared(&ROUTE)];
const ROUTE_STATUS: &[Part] = &[Part::Shared(&ROUTE), Part::Shared(&STATUS)];
const BACKENDS: &[Part] = &[Part::Shared(&ROUTE), Part::Shared(&BACKEND)];
const BACKEND_STATUS: &[Part] = &[Part::Shared(&ROUTE), Part::Shared(&BACKEND), Part::Shared(&STATUS)];
const BALANCER: &[Part] = &[Part::Shared(&BACKEND)];
const BALANCER_STATE: &[Part] = &[Part::Shared(&BACKEND), Part::One("endpoint_state")];
const BALANCER_OP: &[Part] = &[Part::Shared(&BACKEND), Part::One("op")];

const CONTROL: &[Part] = &[Part::One("addr")];
const CONTROL_RESPONSE: &[Part] = &[Part::One("addr"), Part::One("classification")];

/// Linkerd's bounds: few, because there is a series of them for every route and backend.
const ROUTE_BOUNDS_US: [u64; 4] = [50_000, 500_000, 1_000_000, 10_000_000];
const BACKEND_BOUNDS_US: [u64; 7] = [25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 10_000_000];

macro_rules! families {
    ($($name:ident = $family:expr;)*) => {
        $(pub static $name: Family = $family;)*
        /// Every family, as the reference page lists them.
        pub static ALL: &[&Family] = &[$(&$name),*];
    };
}

families! {
    REQUEST_TOTAL = Family::counter("request_total", PEERS_PROTOCOL, "HTTP requests; outbound: every try.");
    RESPONSE_LATENCY_MS = Family::milliseconds("response_latency_ms", "response_total", RESPONSE, "Time from a request's arrival to its response's end, in milliseconds.").pushed();

    TCP_OPEN_TOTAL = Family::counter("tcp_open_total", TCP, "Opaque connections opened.").pushed();
    TCP_OPEN_CONNECTIONS = Family::gauge("tcp_open_connections", TCP, "Opaque connections that are open.").pushed();
    TCP_READ_BYTES_TOTAL = Family::counter("tcp_read_bytes_total", TCP, "Bytes from client to server on opaque connections.").pushed();
    TCP_WRITE_BYTES_TOTAL = Family::counter("tcp_write_bytes_total", TCP, "Bytes from server to client on opaque connections.").pushed();
    TCP_CLOSE_TOTAL = Family::counter("tcp_close_total", TCP_CLOSE, "Opaque connections closed; `errno` is set where an error ended them.");

    INBOUND_HTTP_AUTHZ_ALLOW_TOTAL = Family::counter("inbound_http_authz_allow_total", AUTHZS, "Requests let in by policy.").pushed();
    INBOUND_HTTP_AUTHZ_DENY_TOTAL = Family::counter("inbound_http_authz_deny_total", AUTHZS, "Requests refused by policy.").pushed();
    INBOUND_HTTP_ROUTE_NOT_FOUND_TOTAL = Family::counter("inbound_http_route_not_found_total", AUTHZS, "Requests that matched no route of their port.");
    INBOUND_HTTP_LOCAL_RATELIMIT_TOTAL = Family::counter("inbound_http_local_ratelimit_total", AUTHZS, "Requests refused by a rate limit.");
    INBOUND_TCP_AUTHZ_ALLOW_TOTAL = Family::counter("inbound_tcp_authz_allow_total", AUTHZS, "Connections let in by policy.").pushed();
    INBOUND_TCP_AUTHZ_DENY_TOTAL = Family::counter("inbound_tcp_authz_deny_total", AUTHZS, "Connections refused by policy.").pushed();
    INBOUND_TCP_AUTHZ_TERMINATE_TOTAL = Family::counter("inbound_tcp_authz_terminate_total", AUTHZS, "Open connections cut because their authorization was withdrawn.");

    INBOUND_HTTP_ERRORS_TOTAL = Family::counter("inbound_http_errors_total", ERROR, "Responses that the proxy made itself, inbound.");
    INBOUND_TCP_ERRORS_TOTAL = Family::counter("inbound_tcp_errors_total", ERROR, "Inbound connections that failed in the proxy. Of a peer's certificate, `tls_issuer`, `tls_validity`, `tls_identity` and `tls_certificate` (anything else) say what was wrong; `tls_timeout` is a handshake that stalled.");
    OUTBOUND_HTTP_ERRORS_TOTAL = Family::counter("outbound_http_errors_total", ERROR, "Responses that the proxy made itself, outbound.");
    OUTBOUND_TCP_ERRORS_TOTAL = Family::counter("outbound_tcp_errors_total", ERROR, "Outbound connections that failed in the proxy.");

    OUTBOUND_HTTP_ROUTE_REQUEST_STATUSES_TOTAL = Family::counter("outbound_http_route_request_statuses_total", ROUTE_STATUS, "Responses as the application saw them, retries hidden.");
    OUTBOUND_HTTP_ROUTE_BACKEND_REQUESTS_TOTAL = Family::counter("outbound_http_route_backend_requests_total", BACKENDS, "Requests sent to a backend, retries included.");
    OUTBOUND_HTTP_ROUTE_BACKEND_RESPONSE_STATUSES_TOTAL = Family::counter("outbound_http_route_backend_response_statuses_total", BACKEND_STATUS, "Responses of a backend, retries included.");
    OUTBOUND_HTTP_ROUTE_RETRY_REQUESTS_TOTAL = Family::counter("outbound_http_route_retry_requests_total", ROUTES, "Retries sent.");
    OUTBOUND_HTTP_ROUTE_RETRY_SUCCESSES_TOTAL = Family::counter("outbound_http_route_retry_successes_total", ROUTES, "Requests that a retry saved.");
    OUTBOUND_HTTP_ROUTE_RETRY_LIMIT_EXCEEDED_TOTAL = Family::counter("outbound_http_route_retry_limit_exceeded_total", ROUTES, "Requests that failed in their last allowed retry.");
    OUTBOUND_HTTP_ROUTE_RETRY_OVERFLOW_TOTAL = Family::counter("outbound_http_route_retry_overflow_total", ROUTES, "Retries not made because the retry budget was spent or the body too long to keep.");
    OUTBOUND_GRPC_ROUTE_REQUEST_STATUSES_TOTAL = Family::counter("outbound_grpc_route_request_statuses_total", ROUTE_STATUS, "gRPC responses as the application saw them, retries hidden.");
    OUTBOUND_GRPC_ROUTE_BACKEND_REQUESTS_TOTAL = Family::counter("outbound_grpc_route_backend_requests_total", BACKENDS, "gRPC requests sent to a backend, retries included.");
    OUTBOUND_GRPC_ROUTE_BACKEND_RESPONSE_STATUSES_TOTAL = Family::counter("outbound_grpc_route_backend_response_statuses_total", BACKEND_STATUS, "gRPC responses of a backend, retries included.");
    OUTBOUND_GRPC_ROUTE_RETRY_REQUESTS_TOTAL = Family::counter("outbound_grpc_route_retry_requests_total", ROUTES, "gRPC retries sent.");
    OUTBOUND_GRPC_ROUTE_RETRY_SUCCESSES_TOTAL = Family::counter("outbound_grpc_route_retry_successes_total", ROUTES, "gRPC requests that a retry saved.");
    OUTBOUND_GRPC_ROUTE_RETRY_LIMIT_EXCEEDED_TOTAL = Family::counter("outbound_grpc_route_retry_limit_exceeded_total", ROUTES, "gRPC requests that failed in their last allowed retry.");
    OUTBOUND_GRPC_ROUTE_RETRY_OVERFLOW_TOTAL = Family::counter("outbound_grpc_route_retry_overflow_total", ROUTES, "gRPC retries not made because the retry budget was spent or the body too long to keep.");

    OUTBOUND_HTTP_ROUTE_REQUEST_DURATION_SECONDS = Family::seconds("outbound_http_route_request_duration_seconds", &ROUTE_BOUNDS_US, ROUTES, "Time from a request's arrival to its response's end as the application saw it, retries included.");
    OUTBOUND_HTTP_ROUTE_BACKEND_RESPONSE_DURATION_SECONDS = Family::seconds("outbound_http_route_backend_response_duration_seconds", &BACKEND_BOUNDS_US, BACKENDS, "Time from sending a request to a backend to its response's end, each try.");
    OUTBOUND_GRPC_ROUTE_REQUEST_DURATION_SECONDS = Family::seconds("outbound_grpc_route_request_duration_seconds", &ROUTE_BOUNDS_US, ROUTES, "The same for gRPC.");
    OUTBOUND_GRPC_ROUTE_BACKEND_RESPONSE_DURATION_SECONDS = Family::seconds("outbound_grpc_route_backend_response_duration_seconds", &BACKEND_BOUNDS_US, BACKENDS, "The same for gRPC.");
    INBOUND_HTTP_REQUESTS_TOTAL = Family::counter("inbound_http_requests_total", ROUTES, "Requests for the application by route, refused ones included.");
    INBOUND_HTTP_REQUEST_DURATION_SECONDS = Family::seconds("inbound_http_request_duration_seconds", &BACKEND_BOUNDS_US, ROUTES, "Time from such a request's arrival to its response's end.");
    INBOUND_GRPC_REQUESTS_TOTAL = Family::counter("inbound_grpc_requests_total", ROUTES, "gRPC requests for the application by route, refused ones included.");
    INBOUND_GRPC_REQUEST_DURATION_SECONDS = Family::seconds("inbound_grpc_request_duration_seconds", &BACKEND_BOUNDS_US, ROUTES, "The same for gRPC.");

    OUTBOUND_HTTP_BALANCER_ENDPOINTS = Family::gauge("outbound_http_balancer_endpoints", BALANCER_STATE, "Endpoints of a backend by state: `ready` or `pending`.").per_worker_copy();
    OUTBOUND_HTTP_BALANCER_P2C_UPDATES_TOTAL = Family::counter("outbound_http_balancer_p2c_updates_total", BALANCER_OP, "Endpoints added to and removed from a balancer.");
    OUTBOUND_HTTP_BALANCER_QUEUE_LENGTH = Family::gauge("outbound_http_balancer_queue_length", BALANCER, "Requests that wait for an endpoint.");
    OUTBOUND_HTTP_BALANCER_QUEUE_REQUESTS_TOTAL = Family::counter("outbound_http_balancer_queue_requests_total", BALANCER, "Requests that had to wait for an endpoint.");
    OUTBOUND_HTTP_BALANCER_QUEUE_GATE_OPEN_TOTAL = Family::counter("outbound_http_balancer_queue_gate_open_total", BALANCER, "How often a backend became available.");
    OUTBOUND_HTTP_BALANCER_QUEUE_GATE_SHUT_TOTAL = Family::counter("outbound_http_balancer_queue_gate_shut_total", BALANCER, "How often a backend began to fail fast.");
    OUTBOUND_TCP_BALANCER_ENDPOINTS = Family::gauge("outbound_tcp_balancer_endpoints", BALANCER_STATE, "The same for ports that policy declares opaque; where the protocol is detected, connections count with HTTP.").per_worker_copy();
    OUTBOUND_TCP_BALANCER_P2C_UPDATES_TOTAL = Family::counter("outbound_tcp_balancer_p2c_updates_total", BALANCER_OP, "The same, opaque.");
    OUTBOUND_TCP_BALANCER_QUEUE_LENGTH = Family::gauge("outbound_tcp_balancer_queue_length", BALANCER, "Connections that wait for an endpoint.");
    OUTBOUND_TCP_BALANCER_QUEUE_REQUESTS_TOTAL = Family::counter("outbound_tcp_balancer_queue_requests_total", BALANCER, "Connections that had to wait for an endpoint.");
    OUTBOUND_TCP_BALANCER_QUEUE_GATE_OPEN_TOTAL = Family::counter("outbound_tcp_balancer_queue_gate_open_total", BALANCER, "The same, opaque.");
    OUTBOUND_TCP_BALANCER_QUEUE_GATE_SHUT_TOTAL = Family::counter("outbound_tcp_balancer_queue_gate_shut_total", BALANCER, "The same, opaque.");

    CONTROL_REQUEST_TOTAL = Family::counter("control_request_total", CONTROL, "Calls to the control plane: discovery streams, certificates, telemetry.");
    CONTROL_RESPONSE_LATENCY_MS = Family::milliseconds("control_response_latency_ms", "control_response_total", CONTROL_RESPONSE, "Time until the control plane began to answer a call, in milliseconds.");

    IDENTITY_CERT_EXPIRATION_TIMESTAMP_SECONDS = Family::gauge("identity_cert_expiration_timestamp_seconds", &[], "When the proxy's certificate expires, in seconds since 1970; 0 before the first.").pushed().per_worker_copy();
    MESH_TRUST_ANCHORS_HASH = Family::gauge("mesh_trust_anchors_hash", &[], "Which trust anchors the proxy has: the first 48 bits of their SHA-256, so that a change of anchors can be followed; 0 before the first certificate.").pushed().per_worker_copy();
    MESH_CERTIFICATE_ISSUER_HASH = Family::gauge("mesh_certificate_issuer_hash", &[], "Which certificate signed the proxy's: the first 48 bits of its SHA-256; 0 before the first.").pushed().per_worker_copy();
    IDENTITY_CERT_REFRESHES_TOTAL = Family::counter("identity_cert_refreshes_total", &[], "Certificates received.");

    PROXY_BUILD_INFO = Family::gauge("proxy_build_info", &[Part::One("version"), Part::One("git_sha"), Part::One("profile")], "Always 1; its labels say which proxy this is.");
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
    MESH_TELEMETRY_DROPPED_TOTAL = Family::counter("mesh_telemetry_dropped_total", &[Part::One("kind")], "Spans and access log lines lost because a queue was full.");
    MESH_TELEMETRY_PUSHES_TOTAL = Family::counter("mesh_telemetry_pushes_total", &[Part::One("result")], "Pushes of metrics and spans to the operator.");
}

/// The reference page: every family with its kind, labels and meaning.
pub fn markdown() -> String {
    let mut page = String::from(
        "# Proxy metrics\n\n\
        Every proxy serves these at `GET /metrics` of its admin port (4191). Families marked *pushed* also go to the operator, \
        once a second, as OTLP deltas. A label without a value is left out. Label values come from policy, discovery and \
        certificates, never from a request; a proxy holds 2,000 series at most and counts the rest under `other=\"true\"`. \
        What Linkerd has too has Linkerd's name.\n\n\
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
        let labels: Vec<String> = family.labels.iter().map(Part::markdown).collect();
        let (name, labels, help) = (family.name, labels.join(" "), family.help);
        let _ = writeln!(page, "| `{name}` | {kind}{pushed} | {labels} | {help}{more} |");
    }
    for Shared { title, labels } in [&PEER, &AUTHZ, &ROUTE, &BACKEND, &STATUS] {
        let _ = write!(page, "\n## Labels: {title}\n\n| Label | Meaning |\n|---|---|\n");
        for (name, meaning) in *labels {
            let _ = writeln!(page, "| `{}` | {meaning} |", name.replace(", ", "` `"));
        }
    }
    page
}

impl Part {
    fn markdown(&self) -> String {
        match self {
            Part::Shared(shared) => format!("[{0}](#labels-{0})", shared.title),
            Part::One(name) => format!("`{name}`"),
        }
    }
}
