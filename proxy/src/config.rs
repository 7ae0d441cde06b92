//! The proxy's configuration: read once from the environment, checked whole, never changed after.
//! Each setting is `MESH_PROXY_<NAME>`, else `LINKERD2_PROXY_<NAME>`, so that a Linkerd-style environment works unchanged.

pub mod help;
pub mod knobs;
pub(crate) mod parse;
mod suggest;
#[cfg(test)]
mod tests;

pub use parse::Errors;

use crate::log;
use ipnet::IpNet;
use parse::Env;
use std::{
    collections::BTreeSet,
    fmt,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    num::NonZeroUsize,
    path::PathBuf,
    str::FromStr,
    sync::Arc,
    time::Duration,
};

#[derive(Debug)]
pub struct Config {
    pub workload: Workload,
    pub identity: Identity,
    pub control: Control,
    pub inbound: Inbound,
    pub outbound: Outbound,
    pub admin: Admin,
    pub telemetry: Telemetry,
    pub log: log::Settings,
    /// Worker threads.
    pub cores: NonZeroUsize,
    /// How long all goes on as before after SIGTERM.
    pub delay: Duration,
    /// How long requests under way may take after that.
    pub grace: Duration,
}

/// The pod that this proxy stands beside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workload {
    /// As the policy service wants to hear it.
    pub text: Arc<str>,
    pub namespace: Arc<str>,
    pub pod: Arc<str>,
}

#[derive(Clone, Debug)]
pub struct Identity {
    pub name: Arc<str>,
    pub token_file: PathBuf,
    pub trust_anchors: TrustAnchors,
    pub min_refresh: Duration,
    pub max_refresh: Duration,
}

#[derive(Clone, Debug)]
pub enum TrustAnchors {
    /// Re-read when it changes.
    File(PathBuf),
    Pem(String),
}

/// The control plane's addresses and the patience we have with it.
#[derive(Debug)]
pub struct Control {
    pub identity: Service,
    pub destination: Service,
    pub policy: Service,
    pub destination_context: Arc<str>,
    /// A stream without a first message by then is asked again.
    pub initial_timeout: Duration,
    /// A stream is asked anew after this long.
    pub stream_lifetime: Option<Duration>,
}

/// A gRPC service of the control plane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    pub addr: HostPort,
    pub security: Security,
}

/// How a control-plane service is reached. Only a loopback address may do without TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Security {
    Plaintext,
    /// Mesh TLS; the service proves this identity.
    Tls(Arc<str>),
}

/// A name or IP address with a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPort {
    pub host: String,
    pub port: u16,
}

#[derive(Debug)]
pub struct Inbound {
    pub listen: SocketAddr,
    /// The application's ports, whose policy is watched from the start.
    pub ports: BTreeSet<u16>,
    /// Pod addresses; empty means any.
    pub ips: Vec<IpAddr>,
    /// Where the application is, if not at the original destination's address.
    pub app_ip: Option<IpAddr>,
    /// Further listeners, each of which is its connections' original destination.
    pub direct: Vec<SocketAddr>,
    pub default_policy: DefaultPolicy,
    /// Forwarded unread while the control plane has not answered.
    pub opaque_ports: BTreeSet<u16>,
    pub connections: Connections,
}

#[derive(Debug)]
pub struct Outbound {
    pub listen: Vec<SocketAddr>,
    /// Completes short Service names: `svc.cluster.local`, without a trailing dot.
    pub dns_suffix: Arc<str>,
    pub connections: Connections,
}

/// How one side, inbound or outbound, treats its connections.
#[derive(Debug)]
pub struct Connections {
    /// Upper bound of what policy allows.
    pub detect_timeout: Duration,
    pub connect_timeout: Duration,
    /// What was discovered is forgotten this long after its last use; policies of the configured ports are not.
    pub discovery_idle: Duration,
    pub accept: Tcp,
    pub connect: Tcp,
    pub pool_idle: Duration,
    pub http2: Http2KeepAlive,
}

/// Options of a TCP socket; `None` leaves the system's default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tcp {
    pub keepalive: Option<Duration>,
    pub user_timeout: Option<Duration>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Http2KeepAlive {
    /// `None`: no pings.
    pub interval: Option<Duration>,
    pub timeout: Duration,
}

/// Who may connect to a port of which the control plane has said nothing yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DefaultPolicy {
    AllUnauthenticated,
    AllAuthenticated,
    ClusterUnauthenticated(Vec<IpNet>),
    ClusterAuthenticated(Vec<IpNet>),
    Audit,
    Deny,
}

#[derive(Debug)]
pub struct Admin {
    pub listen: SocketAddr,
    /// Who may read metrics from afar.
    pub metrics_networks: Vec<IpNet>,
    pub shutdown_enabled: bool,
}

#[derive(Debug)]
pub struct Telemetry {
    /// Where OTLP goes; `None`: nowhere.
    pub push: Option<Service>,
    /// Share of requests that start a trace.
    pub sample_ratio: f64,
    /// JSON lines on standard output.
    pub access_log: bool,
    pub retain_idle: Duration,
}

impl Config {
    pub fn from_process_env() -> Result<Config, Errors> {
        // What is not Unicode is shown with replacement characters, in the error that it leads to.
        let get = |name: &str| std::env::var_os(name).map(|value| value.to_string_lossy().into_owned());
        let names: Vec<String> =
            std::env::vars_os().map(|(name, _)| name.to_string_lossy().into_owned()).collect();
        Config::from_env(&get, &names)
    }

    /// Reads settings by name; `names` are all variables there are, to find misspelled ones.
    pub fn from_env(get: &dyn Fn(&str) -> Option<String>, names: &[String]) -> Result<Config, Errors> {
        let env = &mut Env::new(get);
        env.bad.extend(suggest::unknown(get, names));
        let workload = env.required(&knobs::POLICY_WORKLOAD, workload);
        let identity = identity(env);
        let control = control(env, workload.as_ref());
        let inbound = inbound(env);
        let outbound = outbound(env);
        let admin = Admin {
            listen: env.or_default(&knobs::ADMIN_LISTEN_ADDR, parse::addr),
            metrics_networks: env
                .optional(&knobs::ADMIN_METRICS_NETWORKS, parse::networks)
                .unwrap_or_default(),
            shutdown_enabled: env.or_default(&knobs::SHUTDOWN_ENDPOINT_ENABLED, parse::boolean),
        };
        let telemetry = telemetry(env);
        let log = log::Settings {
            filter: env.or_default(&knobs::LOG, log::filter),
            format: env.or_default(&knobs::LOG_FORMAT, parse::parsed),
        };
        let cores = env.or_default(&knobs::CORES, parse::parsed);
        let delay = env.or_default(&knobs::SHUTDOWN_DELAY, parse::duration);
        let grace = env.or_default(&knobs::SHUTDOWN_GRACE_PERIOD, parse::duration);
        listeners_differ(env, &inbound, &outbound, &admin);
        match (workload, identity, control) {
            (Some(workload), Some(identity), Some(control)) if env.bad.is_empty() => Ok(Config {
                workload,
                identity,
                control,
                inbound,
                outbound,
                admin,
                telemetry,
                log,
                cores,
                delay,
                grace,
            }),
            _ => Err(Errors::distinct(std::mem::take(&mut env.bad))),
        }
    }
}

fn identity(env: &mut Env) -> Option<Identity> {
    let name = env.required(&knobs::IDENTITY_LOCAL_NAME, |text| {
        text.parse::<mesh_api::identity::Identity>().ok().map(|_| Arc::from(text))
    });
    let token_file = env.required(&knobs::IDENTITY_TOKEN_FILE, parse::parsed);
    let file = env.optional(&knobs::IDENTITY_TRUST_ANCHORS_FILE, parse::parsed::<PathBuf>);
    let pem = env.optional(&knobs::IDENTITY_TRUST_ANCHORS, |text| {
        crate::identity::anchors::parse(text.as_bytes()).is_ok().then(|| text.to_owned())
    });
    let min_refresh = env.or_default(&knobs::IDENTITY_MIN_REFRESH, parse::duration);
    let max_refresh = env.or_default(&knobs::IDENTITY_MAX_REFRESH, parse::duration);
    if min_refresh > max_refresh {
        env.bad.push(format!(
            "{}IDENTITY_MIN_REFRESH is longer than IDENTITY_MAX_REFRESH ({min_refresh:?} > {max_refresh:?})",
            parse::OURS
        ));
    }
    let trust_anchors = file.map(TrustAnchors::File).or(pem.map(TrustAnchors::Pem));
    if trust_anchors.is_none() {
        env.bad.push(format!(
            "no trust anchors: set {}IDENTITY_TRUST_ANCHORS_FILE (or IDENTITY_TRUST_ANCHORS)",
            parse::OURS
        ));
    }
    Some(Identity {
        name: name?,
        token_file: token_file?,
        trust_anchors: trust_anchors?,
        min_refresh,
        max_refresh,
    })
}

fn control(env: &mut Env, workload: Option<&Workload>) -> Option<Control> {
    let identity = required_service(env, &knobs::IDENTITY_SVC_ADDR, &knobs::IDENTITY_SVC_NAME);
    let destination = required_service(env, &knobs::DESTINATION_SVC_ADDR, &knobs::DESTINATION_SVC_NAME);
    let policy = required_service(env, &knobs::POLICY_SVC_ADDR, &knobs::POLICY_SVC_NAME);
    let context = env.optional(&knobs::DESTINATION_CONTEXT, |text| Some(Arc::from(text)));
    let initial_timeout = env.or_default(&knobs::CONTROL_STREAM_INITIAL_TIMEOUT, parse::duration);
    let stream_lifetime = env.optional(&knobs::CONTROL_STREAM_LIFETIME, parse::duration);
    Some(Control {
        identity: identity?,
        destination: destination?,
        policy: policy?,
        destination_context: context.or_else(|| workload.map(|workload| workload.text.clone()))?,
        initial_timeout,
        stream_lifetime,
    })
}

fn inbound(env: &mut Env) -> Inbound {
    let listen = env.or_default(&knobs::INBOUND_LISTEN_ADDR, parse::addr);
    let ports = env.optional(&knobs::INBOUND_PORTS, parse::ports).unwrap_or_default();
    let direct = env.or_default(&knobs::INBOUND_DIRECT, parse::boolean);
    let networks = env.optional(&knobs::POLICY_CLUSTER_NETWORKS, parse::networks);
    let policy = env.or_default(&knobs::INBOUND_DEFAULT_POLICY, |text| {
        DefaultPolicy::parse(text, networks.as_deref().unwrap_or_default())
    });
    if let DefaultPolicy::ClusterAuthenticated(nets) | DefaultPolicy::ClusterUnauthenticated(nets) = &policy
        && nets.is_empty()
    {
        env.bad.push(format!(
            "{}INBOUND_DEFAULT_POLICY means the cluster's networks: set POLICY_CLUSTER_NETWORKS too",
            parse::OURS
        ));
    }
    Inbound {
        listen,
        direct: if direct {
            ports.iter().map(|port| SocketAddr::new(listen.ip(), *port)).collect()
        } else {
            vec![]
        },
        ports,
        ips: env.optional(&knobs::INBOUND_IPS, |text| parse::list(text, parse::parsed)).unwrap_or_default(),
        app_ip: env.optional(&knobs::INBOUND_APP_IP, parse::parsed),
        default_policy: policy,
        opaque_ports: env.or_default(&knobs::INBOUND_PORTS_DISABLE_PROTOCOL_DETECTION, parse::ports),
        connections: connections(env, "INBOUND"),
    }
}

fn outbound(env: &mut Env) -> Outbound {
    let many = env.optional(&knobs::OUTBOUND_LISTEN_ADDRS, |text| parse::list(text, parse::addr));
    let one = env.optional(&knobs::OUTBOUND_LISTEN_ADDR, parse::addr);
    let default = SocketAddr::from((Ipv4Addr::LOCALHOST, mesh_api::names::OUTBOUND_PORT));
    Outbound {
        listen: many.unwrap_or_else(|| vec![one.unwrap_or(default)]),
        dns_suffix: env.or_default(&knobs::DESTINATION_PROFILE_SUFFIXES, |text| {
            let first = parse::list(text, parse::text)?.swap_remove(0);
            Some(Arc::from(first.trim_end_matches('.').trim_start_matches('.').to_ascii_lowercase()))
        }),
        connections: connections(env, "OUTBOUND"),
    }
}

/// Both sides have the same settings, under their own names.
fn connections(env: &mut Env, side: &str) -> Connections {
    let knob = |name| knobs::of_side(side, name);
    Connections {
        detect_timeout: env.or_default(knob("DETECT_TIMEOUT"), parse::duration),
        connect_timeout: env.or_default(knob("CONNECT_TIMEOUT"), parse::duration),
        discovery_idle: env.or_default(knob("DISCOVERY_IDLE_TIMEOUT"), parse::duration),
        accept: tcp(env, knob("ACCEPT_KEEPALIVE"), knob("ACCEPT_USER_TIMEOUT")),
        connect: tcp(env, knob("CONNECT_KEEPALIVE"), knob("CONNECT_USER_TIMEOUT")),
        pool_idle: env.or_default(knob("HTTP1_CONNECTION_POOL_IDLE_TIMEOUT"), parse::duration),
        http2: Http2KeepAlive {
            interval: switch(env, knob("SERVER_HTTP2_KEEP_ALIVE_INTERVAL")),
            timeout: env.or_default(knob("SERVER_HTTP2_KEEP_ALIVE_TIMEOUT"), parse::duration),
        },
    }
}

fn telemetry(env: &mut Env) -> Telemetry {
    Telemetry {
        push: service(env, &knobs::TELEMETRY_SVC_ADDR, &knobs::TELEMETRY_SVC_NAME),
        sample_ratio: env.or_default(&knobs::TRACE_SAMPLE_RATIO, parse::ratio),
        access_log: env.optional(&knobs::ACCESS_LOG, |text| (text == "json").then_some(())).is_some(),
        retain_idle: env.or_default(&knobs::METRICS_RETAIN_IDLE, parse::duration),
    }
}

fn tcp(env: &mut Env, keepalive: &knobs::Knob, user_timeout: &knobs::Knob) -> Tcp {
    Tcp { keepalive: switch(env, keepalive), user_timeout: switch(env, user_timeout) }
}

/// A duration whose zero means "off".
fn switch(env: &mut Env, knob: &knobs::Knob) -> Option<Duration> {
    Some(env.or_default(knob, parse::duration)).filter(|duration| !duration.is_zero())
}

fn required_service(env: &mut Env, addr: &knobs::Knob, name: &knobs::Knob) -> Option<Service> {
    let errors = env.bad.len();
    let service = service(env, addr, name);
    if service.is_none() && env.bad.len() == errors {
        env.bad.push(format!("no address: set {0}OPERATOR_ADDR (or {0}{1})", parse::OURS, addr.name));
    }
    service
}

/// A service by its own settings, else by the operator's. Only loopback is believed without TLS.
fn service(env: &mut Env, addr: &knobs::Knob, name: &knobs::Knob) -> Option<Service> {
    let own = env.optional(addr, parse::parsed::<HostPort>);
    let own_name = env.optional(name, identity_name);
    let addr = match own {
        Some(own) => own,
        None => env.optional(&knobs::OPERATOR_ADDR, parse::parsed::<HostPort>)?,
    };
    if addr.is_loopback() {
        return Some(Service { addr, security: Security::Plaintext });
    }
    let Some(identity) = own_name.or_else(|| env.optional(&knobs::OPERATOR_NAME, identity_name)) else {
        env.bad.push(format!(
            "{}{} is not set: {addr} is not loopback, so it must prove its identity",
            parse::OURS,
            name.name
        ));
        return None;
    };
    Some(Service { addr, security: Security::Tls(identity) })
}

/// Any DNS name: Linkerd's control plane has identities of the same grammar, but nothing here depends on it.
fn identity_name(text: &str) -> Option<Arc<str>> {
    rustls_pki_types::DnsName::try_from(text).is_ok().then(|| Arc::from(text))
}

/// `{"ns":"demo","pod":"web-0"}`, or `demo:web-0`.
fn workload(text: &str) -> Option<Workload> {
    let (namespace, pod) = match serde_json::from_str::<serde_json::Value>(text) {
        Ok(json) => {
            let field = |name| json.get(name).and_then(|value| value.as_str()).map(str::to_owned);
            (field("ns")?, field("pod").or_else(|| field("external_workload"))?)
        }
        Err(_) => text.split_once(':').map(|(ns, pod)| (ns.to_owned(), pod.to_owned()))?,
    };
    let named = |name: &str| {
        !name.is_empty()
            && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.')
    };
    (named(&namespace) && named(&pod)).then(|| Workload {
        text: text.into(),
        namespace: namespace.into(),
        pod: pod.into(),
    })
}

fn listeners_differ(env: &mut Env, inbound: &Inbound, outbound: &Outbound, admin: &Admin) {
    let mut seen = BTreeSet::new();
    let all = [inbound.listen, admin.listen]
        .into_iter()
        .chain(outbound.listen.clone())
        .chain(inbound.direct.clone());
    for addr in all {
        if !seen.insert(addr) {
            env.bad.push(format!("two listeners have the same address {addr}"));
        }
    }
}

impl DefaultPolicy {
    fn parse(text: &str, cluster: &[IpNet]) -> Option<DefaultPolicy> {
        Some(match text {
            "all-unauthenticated" | "allow-all" => DefaultPolicy::AllUnauthenticated,
            "all-authenticated" | "mesh-only" => DefaultPolicy::AllAuthenticated,
            "cluster-unauthenticated" => DefaultPolicy::ClusterUnauthenticated(cluster.to_vec()),
            "cluster-authenticated" => DefaultPolicy::ClusterAuthenticated(cluster.to_vec()),
            "audit" => DefaultPolicy::Audit,
            "deny" => DefaultPolicy::Deny,
            _ => return None,
        })
    }

    /// Its name in metrics: Linkerd's.
    pub fn name(&self) -> &'static str {
        match self {
            DefaultPolicy::AllUnauthenticated => "all-unauthenticated",
            DefaultPolicy::AllAuthenticated => "all-authenticated",
            DefaultPolicy::ClusterUnauthenticated(_) => "cluster-unauthenticated",
            DefaultPolicy::ClusterAuthenticated(_) => "cluster-authenticated",
            DefaultPolicy::Audit => "audit",
            DefaultPolicy::Deny => "deny",
        }
    }
}

impl HostPort {
    /// Loopback addresses and `localhost` need no TLS.
    pub fn is_loopback(&self) -> bool {
        match self.host.parse::<IpAddr>() {
            Ok(ip) => ip.is_loopback(),
            Err(_) => self.host.trim_end_matches('.').eq_ignore_ascii_case("localhost"),
        }
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.parse::<IpAddr>() {
            Ok(ip) => SocketAddr::new(ip, self.port).fmt(f),
            Err(_) => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

impl FromStr for HostPort {
    type Err = ();

    fn from_str(text: &str) -> Result<HostPort, ()> {
        if let Ok(addr) = text.parse::<SocketAddr>() {
            return match addr.port() {
                0 => Err(()),
                port => Ok(HostPort { host: addr.ip().to_string(), port }),
            };
        }
        let (host, port) = text.rsplit_once(':').ok_or(())?;
        let port: u16 = port.parse().map_err(|_| ())?;
        rustls_pki_types::DnsName::try_from(host.trim_end_matches('.')).map_err(|_| ())?;
        if port == 0 { Err(()) } else { Ok(HostPort { host: host.to_owned(), port }) }
    }
}
