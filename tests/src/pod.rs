//! A pod on one machine: its addresses, its identity, and the real proxy beside it.

use crate::{
    binaries, client,
    clock::Clock,
    process::{Process, Start},
    wait,
};
use mesh_api::names;
use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

/// Where a pod is and who it is. The proxy has 127.0.1.N, the application behind it 127.0.2.N.
#[derive(Clone, Debug)]
pub struct Pod {
    pub namespace: String,
    pub name: String,
    pub service_account: String,
    pub number: u8,
    /// Ports of the application.
    pub ports: Vec<u16>,
}

impl Pod {
    /// In namespace `demo`, with a service account of its own name.
    pub fn new(name: &str, number: u8, ports: &[u16]) -> Pod {
        Pod {
            namespace: "demo".into(),
            name: name.into(),
            service_account: name.into(),
            number,
            ports: ports.to_vec(),
        }
    }

    pub fn ip(&self) -> IpAddr {
        IpAddr::from([127, 0, 1, self.number])
    }

    pub fn inbound(&self) -> SocketAddr {
        SocketAddr::new(self.ip(), names::INBOUND_PORT)
    }

    pub fn outbound(&self) -> SocketAddr {
        SocketAddr::new(self.ip(), names::OUTBOUND_PORT)
    }

    pub fn admin(&self) -> SocketAddr {
        SocketAddr::new(self.ip(), names::ADMIN_PORT)
    }

    /// As peers see the application: at the pod's own address.
    pub fn port(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.ip(), port)
    }

    /// Where the application really listens.
    pub fn app(&self, port: u16) -> SocketAddr {
        SocketAddr::new(IpAddr::from([127, 0, 2, self.number]), port)
    }

    pub fn identity(&self) -> String {
        let Pod { service_account, namespace, .. } = self;
        let (control, domain) = (names::CONTROL_NAMESPACE, names::TRUST_DOMAIN);
        format!("{service_account}.{namespace}.serviceaccount.identity.{control}.{domain}")
    }

    /// What the proxy says it speaks for.
    pub fn workload(&self) -> String {
        format!(r#"{{"ns":"{}","pod":"{}"}}"#, self.namespace, self.name)
    }
}

/// Everything the proxy of a pod is told when it starts; a test changes what it is about.
#[derive(Debug)]
pub struct ProxyStart {
    pod: Pod,
    start: Start,
}

impl ProxyStart {
    /// As `mesh demo` starts it, with the operator at its usual address.
    pub fn new(pod: &Pod, trust_anchors: PathBuf, token: PathBuf) -> ProxyStart {
        let ports: Vec<String> = pod.ports.iter().map(u16::to_string).collect();
        let start = Start::new(&format!("proxy of {}", pod.name), binaries::path("mesh-proxy"));
        let mut proxy = ProxyStart { pod: pod.clone(), start };
        if !ports.is_empty() {
            proxy = proxy.knob("INBOUND_PORTS", ports.join(","));
        }
        proxy
            .knob("OPERATOR_ADDR", format!("127.0.0.1:{}", names::OPERATOR_GRPC_PORT))
            .knob("TELEMETRY_SVC_ADDR", format!("127.0.0.1:{}", names::OPERATOR_GRPC_PORT))
            .knob("IDENTITY_LOCAL_NAME", pod.identity())
            .knob("IDENTITY_TOKEN_FILE", token.display().to_string())
            .knob("IDENTITY_TRUST_ANCHORS_FILE", trust_anchors.display().to_string())
            .knob("POLICY_WORKLOAD", pod.workload())
            .knob(
                "DESTINATION_CONTEXT",
                format!(r#"{{"ns":"{}","nodeName":"test","pod":"{}"}}"#, pod.namespace, pod.name),
            )
            .knob("INBOUND_LISTEN_ADDR", pod.inbound().to_string())
            .knob("OUTBOUND_LISTEN_ADDR", pod.outbound().to_string())
            .knob("ADMIN_LISTEN_ADDR", pod.admin().to_string())
            .knob("INBOUND_IPS", pod.ip().to_string())
            .knob("INBOUND_APP_IP", pod.app(0).ip().to_string())
            .knob("INBOUND_DIRECT", "true")
            .knob("LOG", "info")
    }

    /// Sets one of the proxy's variables, named without its prefix.
    pub fn knob(mut self, name: &str, value: impl AsRef<str>) -> ProxyStart {
        self.start = self.start.env(format!("MESH_PROXY_{name}"), value.as_ref());
        self
    }

    /// Its wall clock is this one.
    pub fn by(mut self, clock: &Clock) -> ProxyStart {
        self.start = clock.rules(self.start);
        self
    }

    /// As a container of a real pod that was redirected before: it is known by this group.
    pub fn redirected(mut self, gid: u32) -> ProxyStart {
        self.start = self.start.gid(gid);
        self.contained()
    }

    /// As a container of a real pod that redirects by itself, as root with these capabilities, and becomes this user.
    pub fn redirecting(mut self, uid: u32, capabilities: &str) -> ProxyStart {
        let bounds = format!("--bounding-set=-all,{capabilities}");
        let start = self.start.args(["start".to_owned(), format!("--proxy-uid={uid}")]);
        self.start = start.through("setpriv", &[&bounds]);
        self.contained()
    }

    /// No address of its own.
    fn contained(self) -> ProxyStart {
        self.knob("INBOUND_LISTEN_ADDR", "[::]:4143")
            .knob("ADMIN_LISTEN_ADDR", "[::]:4191")
            .knob("OUTBOUND_LISTEN_ADDRS", "127.0.0.1:4140,[::1]:4140")
            .knob("INBOUND_APP_IP", "")
            .knob("INBOUND_IPS", "")
            .knob("INBOUND_DIRECT", "")
    }

    pub fn spawn(self) -> Proxy {
        Proxy { process: self.start.spawn(), pod: self.pod }
    }

    /// Starts it and waits until it is ready.
    pub async fn ready(self) -> Proxy {
        let proxy = self.spawn();
        proxy.ready(wait::SOON).await;
        proxy
    }
}

/// A running proxy.
#[derive(Debug)]
pub struct Proxy {
    pub process: Process,
    pub pod: Pod,
}

impl Proxy {
    /// Waits until `/ready` answers 200.
    pub async fn ready(&self, within: Duration) {
        let what = format!("the proxy of {} to be ready", self.pod.name);
        wait::until(&what, within, async || match self.admin("/ready").await {
            Ok((200, _)) => Ok(()),
            Ok((status, body)) => Err(format!("/ready says {status} {body}")),
            Err(error) => Err(format!("{error:#}")),
        })
        .await;
    }

    /// Status and body of an admin page.
    pub async fn admin(&self, path: &str) -> anyhow::Result<(u16, String)> {
        let response = client::get(self.pod.admin(), path).await?;
        Ok((response.status().as_u16(), String::from_utf8_lossy(response.body()).into_owned()))
    }

    /// The `/metrics` page.
    pub async fn metrics(&self) -> String {
        let (status, text) = self.admin("/metrics").await.expect("a ready proxy serves its metrics");
        assert_eq!(status, 200, "/metrics: {text}");
        text
    }

    /// Sum of all series of one metric whose labels contain every one of these texts (`direction="inbound"`).
    pub async fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        let mut sum = 0.0;
        for line in self.metrics().await.lines() {
            let Some(rest) = line.strip_prefix(name) else { continue };
            if !rest.starts_with(['{', ' ']) || !labels.iter().all(|label| rest.contains(label)) {
                continue;
            }
            sum += rest.rsplit(' ').next().and_then(|value| value.parse::<f64>().ok()).unwrap_or(0.0);
        }
        sum
    }
}
