//! Ports, annotations, labels and headers: every string that two parts of the mesh must agree on.

/// Where a proxy accepts connections from peers: mutual TLS, usually with a transport header.
pub const INBOUND_PORT: u16 = 4143;
/// Where a proxy accepts its own application's connections.
pub const OUTBOUND_PORT: u16 = 4140;
/// Where a proxy answers `/live`, `/ready`, `/metrics` and `/shutdown`.
pub const ADMIN_PORT: u16 = 4191;
/// The operator's gRPC: identity, destination, policy, OTLP.
pub const OPERATOR_GRPC_PORT: u16 = 8086;
/// The operator's JSON API and dashboard.
pub const OPERATOR_HTTP_PORT: u16 = 8084;
/// Where a cluster's API server asks the operator: injection at `/inject/namespace` and `/inject/pod`, labels at `/label`, validation at `/validate`.
pub const OPERATOR_WEBHOOK_PORT: u16 = 8443;
/// The operator's own `/live`, `/ready` and `/metrics`.
pub const OPERATOR_ADMIN_PORT: u16 = 9990;

/// Label of everything that the chart makes, with the namespace of the operator it is made for. What lacks it is somebody else's:
/// no upgrade prunes it, and no uninstall deletes it.
pub const INSTALL_LABEL: &str = "mesh.dev/install";
/// Name of the operator's Deployment, Service, ServiceAccount, ClusterRole and Lease, and of its two webhook configurations.
pub const OPERATOR: &str = "mesh-operator";
/// Secret of the operator's namespace: `tls.crt` and `tls.key` of the issuer, `ca.crt` and `ca.key` of the root.
pub const IDENTITY_SECRET: &str = "mesh-identity";
/// On the Secret with root and issuer: whoever sets it, to whatever, asks for a new root. The operator takes it away when it begins.
pub const ROTATE: &str = "mesh.dev/rotate";
/// ConfigMap with what proxies trust, in every namespace that is meshed or has a meshed Pod. Owned by the operator's ClusterRole,
/// so that it goes when the mesh is uninstalled.
pub const TRUST_ANCHORS_CONFIG_MAP: &str = "mesh-trust-anchors";
/// Its one key: PEM.
pub const TRUST_ANCHORS_KEY: &str = "ca-bundle.crt";
/// Audience of the token by which a proxy proves its service account: no other token gets a certificate.
pub const TOKEN_AUDIENCE: &str = "identity.mesh.dev";
/// ServiceAccount of the operator's namespace that may see every namespace: who may make tokens for it may too.
pub const VIEWER: &str = "mesh-viewer";
/// Audience of those tokens: they are good for the operator's API and for nothing else.
pub const VIEWER_AUDIENCE: &str = "api.mesh.dev";
/// Service of the one replica that leads: proxies report to it what they have seen.
pub const TELEMETRY: &str = "mesh-telemetry";
/// Label of the operator's Pod that leads.
pub const LEADER_LABEL: &str = "mesh.dev/leader";
/// On the operator's Pods: of what the injector writes into Pods, so that other values start other operators.
pub const INJECTION_CHECKSUM: &str = "mesh.dev/injection-checksum";
/// Labels of the operator's Pods.
pub const OPERATOR_LABELS: &str = "app.kubernetes.io/name=mesh,app.kubernetes.io/component=operator";
/// The proxy's container in a meshed Pod, by which the operator knows that the Pod is meshed.
pub const PROXY_CONTAINER: &str = "mesh-proxy";
/// The container that redirects a Pod's connections and ends.
pub const INIT_CONTAINER: &str = "mesh-init";

/// Namespace of the operator; the control-plane part of every identity.
pub const CONTROL_NAMESPACE: &str = "mesh";
/// On a cluster: the namespace that the operator lives in unless told otherwise; then also the control-plane part of identities.
pub const OPERATOR_NAMESPACE: &str = "mesh-system";
/// ConfigMap in the operator's namespace: what the injector is to write into Pods.
pub const INJECTION_CONFIG_MAP: &str = "mesh-injection";
/// The key in that ConfigMap.
pub const INJECTION_KEY: &str = "injection.yaml";
/// ConfigMap in the operator's namespace: the chart's values, for `mesh upgrade`.
pub const VALUES_CONFIG_MAP: &str = "mesh-values";
/// The key in that ConfigMap.
pub const VALUES_KEY: &str = "values.yaml";
/// Default trust domain, and default DNS suffix of Services (`svc.cluster.local`).
pub const TRUST_DOMAIN: &str = "cluster.local";

/// `enabled` or `disabled`, on a Namespace or a Pod; the Pod's own wins.
pub const INJECT: &str = "mesh.dev/inject";
/// Label of a Namespace on which the injector's webhook selects: `enabled`. The operator keeps it in step with the annotation
/// `mesh.dev/inject`; nobody else sets it.
pub const INJECT_LABEL: &str = "mesh.dev/inject-webhook";
/// On a Namespace: `restart` lets the operator restart, at a bounded rate, the workloads of Pods that should be meshed and are not.
pub const RECONCILE: &str = "mesh.dev/reconcile";
/// On Pods and their workload's template: when the operator last restarted it for this reason.
pub const RESTARTED_AT: &str = "mesh.dev/restarted-at";
/// Comma-separated ports (or `a-b` ranges) whose bytes are forwarded unread; on a Pod, Service or Namespace, of which the first counts.
pub const OPAQUE_PORTS: &str = "mesh.dev/opaque-ports";
/// `allow-all`, `mesh-only` or `deny`; on a Pod or Namespace: what a port allows when no AuthorizationPolicy selects it.
pub const DEFAULT_POLICY: &str = "mesh.dev/default-policy";
/// On a Pod, written by the injector: `injected`, or `skipped:` and why.
pub const INJECT_STATUS: &str = "mesh.dev/inject-status";
/// `native` (an init container that stays) or `classic` (a container beside the others); on a Pod or Namespace.
pub const SIDECAR: &str = "mesh.dev/sidecar";
/// `sidecar` (the proxy itself redirects, as root, before it serves) or `init` (a container that ends does); on a Pod or Namespace.
pub const REDIRECTION: &str = "mesh.dev/redirection";
/// Comma-separated ports (or `a-b` ranges) whose inbound connections bypass the proxy; on a Pod or Namespace.
pub const SKIP_INBOUND_PORTS: &str = "mesh.dev/skip-inbound-ports";
/// Comma-separated ports (or `a-b` ranges) whose outbound connections bypass the proxy; on a Pod or Namespace.
pub const SKIP_OUTBOUND_PORTS: &str = "mesh.dev/skip-outbound-ports";
/// Comma-separated networks (CIDR) whose connections bypass the proxy in both directions; on a Pod or Namespace.
pub const SKIP_NETWORKS: &str = "mesh.dev/skip-networks";
/// Image of the proxy; on a Pod or Namespace.
pub const PROXY_IMAGE: &str = "mesh.dev/proxy-image";
/// CPU that the proxy asks for, such as `100m`; on a Pod or Namespace.
pub const PROXY_CPU_REQUEST: &str = "mesh.dev/proxy-cpu-request";
/// CPU that the proxy may use at most; on a Pod or Namespace.
pub const PROXY_CPU_LIMIT: &str = "mesh.dev/proxy-cpu-limit";
/// Memory that the proxy asks for, such as `20Mi`; on a Pod or Namespace.
pub const PROXY_MEMORY_REQUEST: &str = "mesh.dev/proxy-memory-request";
/// Memory that the proxy may use at most; on a Pod or Namespace.
pub const PROXY_MEMORY_LIMIT: &str = "mesh.dev/proxy-memory-limit";
/// The proxy's worker threads; on a Pod or Namespace.
pub const PROXY_CORES: &str = "mesh.dev/proxy-cores";
/// What the proxy logs, such as `warn,mesh_proxy=debug`; on a Pod or Namespace.
pub const PROXY_LOG: &str = "mesh.dev/proxy-log";
/// `plain` or `json`; on a Pod or Namespace.
pub const PROXY_LOG_FORMAT: &str = "mesh.dev/proxy-log-format";
/// Comma-separated networks (CIDR) from which the proxy's metrics may be read; on a Pod or Namespace.
pub const PROXY_METRICS_NETWORKS: &str = "mesh.dev/proxy-metrics-networks";
/// `json` for a line per inbound request; on a Pod or Namespace.
pub const PROXY_ACCESS_LOG: &str = "mesh.dev/proxy-access-log";
/// Share of requests that start a trace, 0 to 1; on a Pod or Namespace.
pub const TRACE_SAMPLE_RATIO: &str = "mesh.dev/trace-sample-ratio";
/// How long an endpoint may take to accept a connection, TLS included, such as `3s`: where endpoints are far away. Shorter than requests' timeouts, or nobody learns that one cannot be reached; on a Pod or Namespace.
pub const OUTBOUND_CONNECT_TIMEOUT: &str = "mesh.dev/outbound-connect-timeout";
/// How long requests under way may take when the Pod ends, such as `30s`; on a Pod or Namespace.
pub const SHUTDOWN_GRACE_PERIOD: &str = "mesh.dev/shutdown-grace-period";
/// How long a classic sidecar goes on as before when the Pod ends, such as `10s`: as long as the application's `preStop`; on a Pod or Namespace.
pub const SHUTDOWN_DELAY: &str = "mesh.dev/shutdown-delay";
/// Label of a meshed Pod; its value is the control plane's namespace.
pub const CONTROL_NAMESPACE_LABEL: &str = "mesh.dev/control-plane-ns";

/// What the operator tells proxies beyond Linkerd's messages, among the labels of a server: which of the routes that match may let a
/// client in. Linkerd's own asks the most specific one only.
pub const ROUTES_LABEL: &str = "routes";
/// Any of them.
pub const ROUTES_ADD: &str = "add";
/// Among the labels of an authorization: `true` where it allows what counts as "would be denied".
pub const AUDIT_LABEL: &str = "audit";

/// On a Service: `consecutive` turns failure accrual on.
pub const FAILURE_ACCRUAL: &str = "mesh.dev/failure-accrual";
/// On a Service: failures in a row until an endpoint is set aside. Default 7.
pub const FAILURE_ACCRUAL_MAX_FAILURES: &str = "mesh.dev/failure-accrual-max-failures";
/// On a Service: shortest time an endpoint is set aside. Default 1s.
pub const FAILURE_ACCRUAL_MIN_PENALTY: &str = "mesh.dev/failure-accrual-min-penalty";
/// On a Service: longest time an endpoint is set aside. Default 60s.
pub const FAILURE_ACCRUAL_MAX_PENALTY: &str = "mesh.dev/failure-accrual-max-penalty";
/// On a Service or HTTPRoute: `5xx`, `gateway-error`, codes and ranges (`503`, `500-504`), comma-separated.
pub const RETRY_HTTP: &str = "mesh.dev/retry-http";
/// On a Service or GRPCRoute: `cancelled`, `deadline-exceeded`, `internal`, `resource-exhausted`, `unavailable`.
pub const RETRY_GRPC: &str = "mesh.dev/retry-grpc";
/// On a Service or route: how often a request is tried again. Default 1.
pub const RETRY_LIMIT: &str = "mesh.dev/retry-limit";
/// On a Service or route: how long one try may take, Go duration.
pub const RETRY_TIMEOUT: &str = "mesh.dev/retry-timeout";
/// On a Service or route: how long a request may take, all tries included.
pub const TIMEOUT_REQUEST: &str = "mesh.dev/timeout-request";

/// Group of our own kinds.
pub const API_GROUP: &str = "mesh.dev";
/// Version of our own kinds.
pub const API_VERSION: &str = "v1alpha1";
/// `controllerName` in the status of routes that this mesh has read.
pub const CONTROLLER_NAME: &str = "mesh.dev/mesh";

/// User that the proxy runs as: its own connections are not redirected.
pub const PROXY_UID: i64 = 2102;

/// Ports on which the server speaks first, never probed for HTTP: SMTP, MySQL, Galera, PostgreSQL, Redis, Elasticsearch, Memcached.
pub const DEFAULT_OPAQUE_PORTS: &[u16] = &[25, 587, 3306, 4444, 5432, 6379, 9300, 11211];

/// Request header set by the inbound proxy: the identity of the peer's certificate. Anyone else's is removed.
pub const CLIENT_ID_HEADER: &str = "l5d-client-id";
/// HTTP/1.1 request carried over HTTP/2 between proxies: the original version.
pub const ORIG_PROTO_HEADER: &str = "l5d-orig-proto";
/// Why a proxy made up a response.
pub const PROXY_ERROR_HEADER: &str = "l5d-proxy-error";
/// `close` when the proxy wants the client's connection closed.
pub const PROXY_CONNECTION_HEADER: &str = "l5d-proxy-connection";
/// ALPN of a connection that opens with a transport header.
pub const TRANSPORT_ALPN: &[u8] = b"transport.l5d.io/v1";

/// Upper bounds in milliseconds of every latency histogram; the last bucket is +Inf.
pub const LATENCY_BOUNDS_MS: [u32; 24] = [
    1, 2, 3, 4, 5, 10, 20, 30, 40, 50, 100, 200, 300, 400, 500, 1_000, 2_000, 3_000, 4_000, 5_000, 10_000,
    20_000, 30_000, 50_000,
];

/// All annotations and labels of ours: another that begins as they do is a slip.
pub const MARKS: [&str; 40] = [
    INSTALL_LABEL,
    ROTATE,
    LEADER_LABEL,
    INJECTION_CHECKSUM,
    INJECT,
    INJECT_LABEL,
    RECONCILE,
    RESTARTED_AT,
    OPAQUE_PORTS,
    DEFAULT_POLICY,
    INJECT_STATUS,
    SIDECAR,
    REDIRECTION,
    SKIP_INBOUND_PORTS,
    SKIP_OUTBOUND_PORTS,
    SKIP_NETWORKS,
    PROXY_IMAGE,
    PROXY_CPU_REQUEST,
    PROXY_CPU_LIMIT,
    PROXY_MEMORY_REQUEST,
    PROXY_MEMORY_LIMIT,
    PROXY_CORES,
    PROXY_LOG,
    PROXY_LOG_FORMAT,
    PROXY_METRICS_NETWORKS,
    PROXY_ACCESS_LOG,
    TRACE_SAMPLE_RATIO,
    OUTBOUND_CONNECT_TIMEOUT,
    SHUTDOWN_GRACE_PERIOD,
    SHUTDOWN_DELAY,
    CONTROL_NAMESPACE_LABEL,
    FAILURE_ACCRUAL,
    FAILURE_ACCRUAL_MAX_FAILURES,
    FAILURE_ACCRUAL_MIN_PENALTY,
    FAILURE_ACCRUAL_MAX_PENALTY,
    RETRY_HTTP,
    RETRY_GRPC,
    RETRY_LIMIT,
    RETRY_TIMEOUT,
    TIMEOUT_REQUEST,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mark_is_listed() {
        let source = include_str!("names.rs");
        let written = source.lines().filter_map(|line| line.split_once(": &str = \"mesh.dev/"));
        let mut written: Vec<String> =
            written.map(|(_, name)| format!("mesh.dev/{}", name.trim_end_matches("\";"))).collect();
        written.retain(|name| name != CONTROLLER_NAME);
        written.sort();
        let mut listed = MARKS.map(str::to_owned);
        listed.sort();
        assert_eq!(written, listed);
    }
}
