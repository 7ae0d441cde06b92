//! The one registry of settings. Parser, `--help` and the reference page all read it, so none of them can be stale.

/// One setting, read from `MESH_PROXY_<name>`, else from `LINKERD2_PROXY_<name>`.
#[derive(Debug)]
pub struct Knob {
    pub name: &'static str,
    /// What a value looks like, as errors say it after "want".
    pub form: &'static str,
    /// Parsed by the same parser as a given value. Empty: unset.
    pub default: &'static str,
    pub help: &'static str,
    pub group: &'static str,
}

macro_rules! knobs {
    ($($group:literal { $($name:ident: $form:expr, $default:literal, $help:literal;)* })*) => {
        $($(pub static $name: Knob = Knob { name: stringify!($name), form: $form, default: $default, help: $help, group: $group };)*)*
        /// All settings, in the order of the reference page.
        pub static ALL: &[&Knob] = &[$($(&$name,)*)*];
    };
}

/// The flag of `mesh-proxy init` and `start` for a setting of theirs: `INIT_PROXY_UID` is `--proxy-uid`.
pub fn flag(knob: &Knob) -> Option<String> {
    let name = knob.name.strip_prefix("INIT_")?;
    Some(format!("--{}", name.to_ascii_lowercase().replace('_', "-")))
}

/// A setting that inbound and outbound have both.
pub fn of_side(side: &str, name: &str) -> &'static Knob {
    let is =
        |knob: &&&Knob| knob.name.strip_prefix(side).and_then(|rest| rest.strip_prefix('_')) == Some(name);
    ALL.iter().find(is).expect("both sides have it: every start of the proxy reads it")
}

pub const DURATION: &str = "a whole number and ms, s, m, h or d, as in 100ms";
pub const ADDR: &str = "ip:port";
pub const HOST: &str = "host:port";
pub const ADDRS: &str = "ip:port[,ip:port]";
pub const PORTS: &str = "ports and ranges, as in 80,8080-8090";
pub const NETWORKS: &str = "CIDR networks, as in 10.0.0.0/8,fd00::/8";
pub const BOOL: &str = "true or false";
pub const COUNT: &str = "a whole number above 0";
pub const PORT: &str = "a port";
pub const ID: &str = "a number";
pub const TEXT: &str = "a text";
pub const PATH: &str = "the path of a file";
pub const POLICY: &str = "allow-all, mesh-only, deny, all-unauthenticated, all-authenticated, cluster-authenticated, cluster-unauthenticated or audit";

knobs! {
    "Control plane" {
        OPERATOR_ADDR: HOST, "", "The operator's gRPC address: sets the four `*_SVC_ADDR` at once. Plaintext when it is loopback, else mesh TLS.";
        OPERATOR_NAME: TEXT, "", "The identity that the operator must prove: sets the four `*_SVC_NAME` at once.";
        IDENTITY_SVC_ADDR: HOST, "", "Where certificates are signed.";
        IDENTITY_SVC_NAME: TEXT, "", "Identity of that service; needed unless its address is loopback.";
        DESTINATION_SVC_ADDR: HOST, "", "Where endpoints are discovered.";
        DESTINATION_SVC_NAME: TEXT, "", "Identity of that service; needed unless its address is loopback.";
        POLICY_SVC_ADDR: HOST, "", "Where inbound and outbound policy comes from.";
        POLICY_SVC_NAME: TEXT, "", "Identity of that service; needed unless its address is loopback.";
        TELEMETRY_SVC_ADDR: HOST, "", "Where OTLP metrics and spans are pushed; nothing is pushed when neither this nor `OPERATOR_ADDR` is set.";
        TELEMETRY_SVC_NAME: TEXT, "", "Identity of that service; needed unless its address is loopback.";
        POLICY_WORKLOAD: r#"{"ns":"<namespace>","pod":"<pod>"} or <namespace>:<pod>"#, "", "The pod this proxy stands beside, as told to the policy service.";
        DESTINATION_CONTEXT: TEXT, "", "Opaque text sent with every endpoint discovery; made of `POLICY_WORKLOAD` unless given.";
        DESTINATION_PROFILE_SUFFIXES: "DNS suffixes, as in svc.cluster.local.", "svc.cluster.local.", "The first completes short Service names found in a request's authority.";
        POLICY_CLUSTER_NETWORKS: NETWORKS, "", "What `cluster-authenticated` and `cluster-unauthenticated` mean by cluster.";
        CONTROL_STREAM_INITIAL_TIMEOUT: DURATION, "3s", "A discovery stream that has not answered by then is asked again.";
        CONTROL_STREAM_LIFETIME: DURATION, "", "A discovery stream is asked anew after this long; forever unless given.";
    }
    "Identity" {
        IDENTITY_LOCAL_NAME: "<service account>.<namespace>.serviceaccount.identity.<control namespace>.<trust domain>", "", "Our identity: the DNS name in our certificate.";
        IDENTITY_TOKEN_FILE: PATH, "", "Token that proves our identity to the signer; read again at every request.";
        IDENTITY_TRUST_ANCHORS_FILE: PATH, "", "PEM roots that peers must chain to; re-read when they change.";
        IDENTITY_TRUST_ANCHORS: "PEM certificates", "", "The same as a text, for environments that cannot mount a file. The file wins.";
        IDENTITY_MIN_REFRESH: DURATION, "10s", "Certificates are renewed at 70 % of their life, but not sooner than this.";
        IDENTITY_MAX_REFRESH: DURATION, "1d", "… and not later than this.";
    }
    "Inbound" {
        INBOUND_LISTEN_ADDR: ADDR, "0.0.0.0:4143", "Where peers connect to. `[::]` is every address of both families, here and for the others; without IPv6 in the kernel, of IPv4.";
        INBOUND_PORTS: PORTS, "", "The application's ports: their policy is watched from the start.";
        INBOUND_IPS: "IP addresses", "", "Addresses of the pod; connections to others are not forwarded. Any address unless given.";
        INBOUND_APP_IP: "an IP address", "", "Connect to the application at this address instead of the one the peer connected to (standalone mode).";
        INBOUND_DIRECT: BOOL, "false", "Also listen on each of `INBOUND_PORTS` at the inbound address, for peers without a mesh (standalone mode).";
        INBOUND_DEFAULT_POLICY: POLICY, "all-unauthenticated", "Who may connect while the control plane has not answered.";
        INBOUND_PORTS_DISABLE_PROTOCOL_DETECTION: PORTS, "25,587,3306,4444,5432,6379,9300,11211", "Ports whose bytes are forwarded unread while the control plane has not answered.";
        INBOUND_DETECT_TIMEOUT: DURATION, "1s", "Upper bound of the time that policy allows to recognise a protocol; then the connection is opaque.";
        INBOUND_CONNECT_TIMEOUT: DURATION, "1s", "The application must accept a connection within this time.";
        INBOUND_DISCOVERY_IDLE_TIMEOUT: DURATION, "90s", "Policy of a port that is not in `INBOUND_PORTS` is forgotten this long after its last connection.";
        INBOUND_ACCEPT_KEEPALIVE: DURATION, "10s", "TCP keepalive of accepted connections; 0s turns it off.";
        INBOUND_ACCEPT_USER_TIMEOUT: DURATION, "30s", "TCP_USER_TIMEOUT of accepted connections; 0s turns it off.";
        INBOUND_CONNECT_KEEPALIVE: DURATION, "10s", "TCP keepalive of connections to the application; 0s turns it off.";
        INBOUND_CONNECT_USER_TIMEOUT: DURATION, "30s", "TCP_USER_TIMEOUT of connections to the application; 0s turns it off.";
        INBOUND_HTTP1_CONNECTION_POOL_IDLE_TIMEOUT: DURATION, "3s", "Unused HTTP/1 connections to the application are closed after this.";
        INBOUND_SERVER_HTTP2_KEEP_ALIVE_INTERVAL: DURATION, "10s", "HTTP/2 pings to peers; 0s turns them off.";
        INBOUND_SERVER_HTTP2_KEEP_ALIVE_TIMEOUT: DURATION, "3s", "A peer that has not answered a ping by then is gone.";
    }
    "Outbound" {
        OUTBOUND_LISTEN_ADDRS: ADDRS, "", "Where the application's connections arrive: redirected, or as an HTTP proxy. Default `127.0.0.1:4140`.";
        OUTBOUND_LISTEN_ADDR: ADDR, "", "The same, for one address.";
        OUTBOUND_DETECT_TIMEOUT: DURATION, "1s", "Upper bound of the time that policy allows to recognise a protocol; then the connection is opaque.";
        OUTBOUND_CONNECT_TIMEOUT: DURATION, "1s", "An endpoint must accept a connection within this time, TLS handshake included.";
        OUTBOUND_DISCOVERY_IDLE_TIMEOUT: DURATION, "5s", "A destination is forgotten this long after its last use.";
        OUTBOUND_ACCEPT_KEEPALIVE: DURATION, "10s", "TCP keepalive of accepted connections; 0s turns it off.";
        OUTBOUND_ACCEPT_USER_TIMEOUT: DURATION, "30s", "TCP_USER_TIMEOUT of accepted connections; 0s turns it off.";
        OUTBOUND_CONNECT_KEEPALIVE: DURATION, "10s", "TCP keepalive of connections to endpoints; 0s turns it off.";
        OUTBOUND_CONNECT_USER_TIMEOUT: DURATION, "30s", "TCP_USER_TIMEOUT of connections to endpoints; 0s turns it off.";
        OUTBOUND_HTTP1_CONNECTION_POOL_IDLE_TIMEOUT: DURATION, "3s", "Unused HTTP/1 connections to endpoints are closed after this.";
        OUTBOUND_SERVER_HTTP2_KEEP_ALIVE_INTERVAL: DURATION, "10s", "HTTP/2 pings to the application; 0s turns them off.";
        OUTBOUND_SERVER_HTTP2_KEEP_ALIVE_TIMEOUT: DURATION, "3s", "An application that has not answered a ping by then is gone.";
    }
    "Telemetry and process" {
        ADMIN_LISTEN_ADDR: ADDR, "127.0.0.1:4191", "Where `/live`, `/ready`, `/metrics` and `/shutdown` are served.";
        ADMIN_METRICS_NETWORKS: NETWORKS, "", "Who beside the pod itself may read `/metrics`, which names our peers and policies in clear text; `/live` and `/ready` are for everybody.";
        SHUTDOWN_ENDPOINT_ENABLED: BOOL, "false", "Lets `POST /shutdown` from loopback end the proxy.";
        METRICS_RETAIN_IDLE: DURATION, "10m", "A metric series that has not changed for this long is dropped.";
        TRACE_SAMPLE_RATIO: "a number from 0 to 1", "0.01", "Share of requests that start a trace; a request that arrives with a sampling decision keeps it.";
        ACCESS_LOG: "json", "", "One JSON line per inbound request on standard output; off unless given.";
        LOG: "a tracing filter, as in warn,mesh_proxy=debug", "warn,mesh_proxy=info", "What is logged on standard error.";
        LOG_FORMAT: "plain or json", "plain", "How it is logged.";
        CORES: COUNT, "1", "Worker threads.";
        SHUTDOWN_DELAY: DURATION, "0s", "At SIGTERM the proxy goes on as before for this long, and then drains: for an application that is not told to end at the same time.";
        SHUTDOWN_GRACE_PERIOD: DURATION, "2m", "Requests that are then under way may take this long.";
    }
    "Redirection (`mesh-proxy init`, `mesh-proxy start`)" {
        INIT_INCOMING_PROXY_PORT: PORT, "4143", "Connections to the pod go to this port.";
        INIT_OUTGOING_PROXY_PORT: PORT, "4140", "Connections of the pod go to this port.";
        INIT_PROXY_UID: ID, "2102", "The user that the proxy runs as: its own connections are spared.";
        INIT_PROXY_GID: ID, "", "The proxy's group: its connections are spared, too.";
        INIT_INBOUND_PORTS_TO_IGNORE: PORTS, "4190,4191", "Connections to these ports of the pod are spared; name the proxy's own again when this is set.";
        INIT_OUTBOUND_PORTS_TO_IGNORE: PORTS, "", "Connections of the pod to these ports are spared.";
        INIT_SUBNETS_TO_IGNORE: NETWORKS, "", "Connections from and to these networks are spared.";
        INIT_IPV6: BOOL, "true", "Redirects IPv6 as well as IPv4.";
        INIT_FIREWALL: "auto, nftables or iptables", "auto", "What redirects; `auto` is nftables, or the legacy tables of iptables where the kernel has no nftables.";
    }
}

/// Settings of a Linkerd environment that are understood and have no meaning here, with the reason.
pub static IGNORED: &[(&str, &str)] = &[
    ("IDENTITY_DIR", "the key is made in memory and never written"),
    (
        "CONTROL_STREAM_IDLE_TIMEOUT",
        "a stream on which nothing changes is a good one; a control plane that is gone is noticed by HTTP/2's pings",
    ),
    ("TAP_SVC_NAME", "requests are seen in traces and the access log (ADR 3)"),
];
